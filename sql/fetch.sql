-- Reading in bulk: several requests in flight, at a pace.
\set VERBOSITY terse

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE FUNCTION fault(fault jsonb) RETURNS void
LANGUAGE sql AS $$ SELECT stand_in('POST', 'fault', fault) $$;
CREATE VIEW seen AS
SELECT r ->> 'path' AS path, r ->> 'query' AS query, (r ->> 'connection')::int AS connection
FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT count(stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || n))) FROM generate_series(1, 6) AS n;

-- One row for each, in the order asked for; that there is no such object is an
-- answer.  as_of is in whole seconds, and not in the future.
SELECT n, status, body ->> 'id' AS id, body #>> '{error,code}' AS error,
       as_of = date_trunc('second', as_of) AND as_of <= now() AS as_of
FROM stripe_portal.fetch(ARRAY['/v1/customers/cus_2', '/v1/customers/cus_9', '/v1/customers/cus_1']);
SELECT n, json_array_length(body -> 'data') AS rows, body -> 'has_more' AS has_more
FROM stripe_portal.fetch(ARRAY['/v1/customers', '/v1/customers', '/v1/products'],
                         ARRAY['{"limit": 4}', '{"limit": 4, "starting_after": "cus_3"}', NULL]::jsonb[]);
SELECT count(*) FROM stripe_portal.fetch('{}');
SELECT count(*) FROM stripe_portal.fetch(NULL);
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers', NULL]);
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers/']);

-- The body stays as Stripe wrote it, which jsonb could not do.
SELECT body::text LIKE E'{\n  "id"%' AS as_written FROM stripe_portal.fetch(ARRAY['/v1/customers/cus_1']);

-- An answer counts from when it was asked for: what happened while it was under
-- way can be newer.
SELECT fault('{"kind": "slow_first_byte", "seconds": 2.5}');
SELECT as_of <= clock_timestamp() - interval '2.5 seconds' AS conservative
FROM stripe_portal.fetch(ARRAY['/v1/customers/cus_1']);

-- So many are in flight, each on its connection, which the next one takes over.
CREATE FUNCTION connections(in_flight int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in('POST', 'reset');
    PERFORM fault(format('{"kind": "slow_first_byte", "seconds": 0.4, "times": %s}', in_flight)::jsonb);
    PERFORM set_config('stripe_portal.in_flight', in_flight::text, true);
    PERFORM stripe_portal.fetch(array_agg('/v1/customers/cus_' || n)) FROM generate_series(1, 6) AS n;
    RETURN count(DISTINCT connection) FROM seen;
END $$;
SET stripe_portal.rate_limit = 1000;
SELECT connections(1), connections(3), connections(6);

-- So many per second are sent.
SET stripe_portal.rate_limit = 10;
SELECT clock_timestamp() AS since \gset
SELECT count(*) FROM stripe_portal.fetch(array_fill('/v1/products'::text, '{6}'));
SELECT clock_timestamp() - :'since' >= interval '0.5 seconds' AS paced;
SET stripe_portal.rate_limit = 1000;

-- A failure in passing is retried; too fast is no failure, and is waited for.
SELECT stand_in('POST', 'reset') ->> 'object';
SELECT fault('{"kind": "server_error"}'), fault('{"kind": "close", "path": "/v1/customers/cus_2"}');
SELECT n, status, body ->> 'id' AS id
FROM stripe_portal.fetch(ARRAY['/v1/customers/cus_1', '/v1/customers/cus_2', '/v1/customers/cus_3']);
SET stripe_portal.max_retries = 0;
SELECT fault('{"kind": "rate_limited", "retry_after": 1, "times": 2}');
SELECT clock_timestamp() AS since \gset
SELECT n, status, body ->> 'id' AS id FROM stripe_portal.fetch(ARRAY['/v1/customers/cus_1', '/v1/customers/cus_2']);
SELECT clock_timestamp() - :'since' >= interval '1 second' AS waited;

-- What would befall all of them is an error, as in stripe_api; so is an answer
-- that is not Stripe's.
SELECT fault('{"kind": "server_error"}');
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers', '/v1/products']);
SELECT fault('{"kind": "not_json", "path": "/v1/products"}');
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers', '/v1/products']);
SELECT fault('{"kind": "redirect", "path": "/v1/products"}');
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers', '/v1/products']);
BEGIN;
SET LOCAL stripe_portal.api_key_file = '';
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers']);
ROLLBACK;

-- A statement that is cancelled leaves nothing behind that the next one trips over.
SELECT fault('{"kind": "slow_first_byte", "seconds": 20, "times": 2}');
SET statement_timeout = '300ms';
SELECT FROM stripe_portal.fetch(ARRAY['/v1/customers', '/v1/products', '/v1/customers/cus_1']);
RESET statement_timeout;
SELECT n, status FROM stripe_portal.fetch(ARRAY['/v1/customers', '/v1/products', '/v1/customers/cus_1']);

RESET stripe_portal.max_retries;
RESET stripe_portal.rate_limit;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
DROP FUNCTION connections, fault;
DROP VIEW seen;
DROP FUNCTION stand_in;
