-- Talking to Stripe: stripe_api against the stand-in.
\set VERBOSITY terse
\getenv url STRIPE_STAND_IN_URL
\getenv http_url STRIPE_STAND_IN_HTTP_URL
\getenv hang_url STRIPE_STAND_IN_HANG_URL
\getenv untrusted_url STRIPE_STAND_IN_UNTRUSTED_URL

-- Directing the stand-in.
CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;

-- What the stand-in saw since the last reset.
CREATE VIEW seen AS
SELECT n, r ->> 'method' AS method, r ->> 'path' AS path, r ->> 'query' AS query, r ->> 'body' AS body,
       r -> 'headers' AS headers, (r ->> 'connection')::int AS connection
FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data')
     WITH ORDINALITY AS t (r, n);

-- Everything about an error, with what varies made even.
CREATE FUNCTION attempt(method text, path text, params jsonb DEFAULT NULL,
                        account text DEFAULT NULL, idempotency_key text DEFAULT NULL,
                        OUT state text, OUT said text, OUT detail text, OUT hint text, OUT context text)
LANGUAGE plpgsql AS $$
BEGIN
    said := 'an answer: ' || coalesce(stripe_api(method, path, params, account, idempotency_key) ->> 'object', '?');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
    said := regexp_replace(said, '"https?://[^"]*"', '"URL"');
    detail := regexp_replace(detail, 'req_\w+', 'req_N');
    hint := regexp_replace(regexp_replace(hint, '"https?://[^"]*"', '"URL"'), '[0-9a-f-]{36}', 'UUID');
    context := split_part(context, E'\n', 1);
END
$$;

-- One request under a fault: what came of it, and in how many attempts with how
-- many different idempotency keys.
CREATE FUNCTION under_fault(fault text, method text DEFAULT 'POST', times int DEFAULT 1, more jsonb DEFAULT '{}',
                      OUT state text, OUT said text, OUT attempts bigint, OUT keys bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in('POST', 'reset');
    PERFORM stand_in('POST', 'fault', jsonb_build_object('kind', fault, 'times', times) || more);
    SELECT a.state, a.said INTO state, said FROM attempt(method, '/v1/customers') AS a;
    SELECT count(*), count(DISTINCT headers ->> 'idempotency-key') INTO attempts, keys FROM seen;
END
$$;

--
-- What is sent
--
SELECT stand_in('POST', 'customers', '{"id": "cus_ada", "name": "Ada", "metadata": {"k": "v"}}') ->> 'id' AS created;
SELECT stripe_api('GET', '/v1/customers/cus_ada') #>> '{metadata,k}' AS read;
SELECT stripe_api('POST', '/v1/customers/cus_ada', U&'{"name": "Ad\00e9l\65e5 & \201eco\201c", "metadata": {"k": null}}') ->> 'name' AS updated;
SELECT stripe_api('GET', '/v1/customers', '{"limit": 1, "created": {"gte": 0}}') #>> '{data,0,id}' AS listed;
SELECT stripe_api('DELETE', '/v1/customers/cus_ada') ->> 'deleted' AS deleted;
SELECT n, method, path, query, body FROM seen ORDER BY n;
SELECT method, headers ->> 'authorization' AS key, headers ->> 'accept' AS accept, headers ->> 'stripe-version' AS version,
       headers ->> 'content-type' AS content, headers ->> 'idempotency-key' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' AS uuid
FROM seen ORDER BY n;
SELECT DISTINCT headers ->> 'user-agent' = 'Stripe/v1 stripe_portal/' || extversion AS user_agent
FROM seen, pg_extension WHERE extname = 'stripe_portal';
-- all of it over one connection, but for the DELETE
SELECT count(*) AS requests, count(DISTINCT connection) AS connections FROM seen WHERE method <> 'DELETE';

-- a connected account, another version
SELECT stand_in('POST', 'reset') ->> 'object' AS reset;
SET stripe_portal.api_version = '2024-06-20';
SELECT stripe_api('GET', '/v1/customers', account => 'acct_other') ->> 'object' AS read;
RESET stripe_portal.api_version;
SELECT headers ->> 'stripe-account' AS account, headers ->> 'stripe-version' AS version FROM seen;

-- plain http to the loopback interface
SET stripe_portal.api_base = :'http_url';
SELECT stripe_api('GET', '/v1/customers') ->> 'object' AS over_http;
SET stripe_portal.api_base = :'url';

--
-- Idempotency
--
SELECT stripe_api('POST', '/v1/customers', '{"name": "Eve"}', idempotency_key => 'key-1') ->> 'id'
     = stripe_api('POST', '/v1/customers', '{"name": "Eve"}', idempotency_key => 'key-1') ->> 'id' AS done_once;
SELECT state, said, detail, hint FROM attempt('POST', '/v1/customers', '{"name": "Mallory"}', idempotency_key => 'key-1') \gx
SELECT stand_in('POST', 'reset', '{"state": true}') ->> 'object' AS reset;
-- the work was done, but the answer got lost: the retry gets it and does nothing
SELECT * FROM under_fault('close_after');
SELECT jsonb_array_length(stripe_api('GET', '/v1/customers') -> 'data') AS customers;

--
-- Retries
--
SET stripe_portal.max_retries = 1;
SELECT fault, u.* FROM (VALUES (1, 'close'), (2, 'cut_body'), (3, 'server_error'), (4, 'unavailable'), (5, 'conflict'),
                               (6, 'lock_timeout'), (7, 'rate_limited'),
                               (8, 'should_not_retry'), (9, 'redirect'), (10, 'invalid_json'), (11, 'not_json'),
                               (12, 'empty_body'), (13, 'huge_body')) AS f (n, fault), under_fault(fault) AS u ORDER BY n;
-- the limit; a kept connection that turns out closed libcurl replaces by itself
SELECT fault, u.* FROM (VALUES (1, 'close'), (2, 'cut_body'), (3, 'server_error'), (4, 'unavailable'), (5, 'conflict'),
                               (6, 'lock_timeout'), (7, 'rate_limited')) AS f (n, fault), under_fault(fault, times => 5) AS u ORDER BY n;
SET stripe_portal.max_retries = 0;
SELECT * FROM under_fault('server_error');
SET stripe_portal.max_retries = 2;
SELECT * FROM under_fault('server_error', times => 2);
SELECT * FROM under_fault('close', 'GET', times => 2);

-- at least half a second before each, and longer if Stripe says so
CREATE TEMP TABLE clock AS SELECT clock_timestamp() AS began;
SELECT attempts FROM under_fault('server_error');
SELECT clock_timestamp() - began BETWEEN '0.5 s' AND '3 s' AS waited FROM clock;
UPDATE clock SET began = clock_timestamp();
SELECT attempts FROM under_fault('rate_limited', more => '{"retry_after": 2}');
SELECT clock_timestamp() - began BETWEEN '2 s' AND '6 s' AS waited FROM clock;
-- and the wait can be interrupted
SELECT stand_in('POST', 'fault', '{"kind": "rate_limited", "retry_after": 50}') ->> 'object' AS fault;
SET statement_timeout = '200ms';
UPDATE clock SET began = clock_timestamp();
SELECT stripe_api('GET', '/v1/customers');
\echo :SQLSTATE
RESET statement_timeout;
SELECT clock_timestamp() - began < '2 s' AS at_once FROM clock;

-- a repeated DELETE that finds nothing may have done its work before
SELECT stand_in('POST', 'reset') ->> 'object' AS reset;
SELECT stand_in('POST', 'customers', '{"id": "cus_gone"}') ->> 'id' AS created;
SELECT stand_in('POST', 'fault', '{"kind": "close_after"}') ->> 'object' AS fault;
SELECT a.* FROM attempt('DELETE', '/v1/customers/cus_gone') AS a \gx
-- whoever does not wait for the answer to a POST is told how to get it
SET stripe_portal.max_retries = 0;
SELECT stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 2}') ->> 'object' AS fault;
SET stripe_portal.timeout = '200ms';
SELECT a.* FROM attempt('POST', '/v1/customers') AS a \gx
RESET stripe_portal.timeout;

--
-- Errors
--
SELECT stand_in('POST', 'reset') ->> 'object' AS reset;
SELECT a.* FROM attempt('GET', '/v1/customers/cus_nobody') AS a \gx
SELECT a.* FROM attempt('POST', '/v1/customers', '{"nonsense": 1}') AS a \gx
SELECT a.* FROM attempt('POST', '/v1/customers', '{"email": "not an address"}') AS a \gx
SELECT a.* FROM attempt('GET', '/v1/no_such_thing') AS a \gx
SELECT stand_in('POST', 'customers', '{"id": "cus_ada"}') ->> 'id' AS created;
SELECT stand_in('POST', 'default_configuration', '{"exists": false}') ->> 'exists' AS default_configuration;
SELECT a.* FROM attempt('POST', '/v1/billing_portal/sessions', '{"customer": "cus_ada", "return_url": "https://example.com"}') AS a \gx

-- keys that are refused, and should Stripe ever repeat one it is masked
SET stripe_portal.api_key_file = '';
SET stripe_portal.api_key = 'sk_test_unknown_and_secret';
SELECT a.* FROM attempt('GET', '/v1/customers') AS a \gx
SET stripe_portal.api_key = 'rk_test_stand_in_readonly';
SELECT a.* FROM attempt('GET', '/v1/customers') AS a \gx
SELECT a.* FROM attempt('POST', '/v1/customers') AS a \gx
SELECT a.* FROM attempt('POST', '/v1/billing_portal/sessions') AS a \gx
SET stripe_portal.api_key = 'Invalid';
SELECT said FROM attempt('GET', '/v1/customers');
RESET stripe_portal.api_key;
SELECT a.* FROM attempt('GET', '/v1/customers') AS a \gx
RESET stripe_portal.api_key_file;

-- answers that are not Stripe's
SELECT fault, u.state, u.said FROM (VALUES (1, 'redirect'), (2, 'invalid_json'), (3, 'not_json'), (4, 'empty_body'),
                                           (5, 'cut_body'), (6, 'huge_body'), (7, 'deep_json')) AS f (n, fault), under_fault(fault, 'GET') AS u ORDER BY n;
-- deep, and the stack is small
SELECT stand_in('POST', 'fault', '{"kind": "deep_json"}') ->> 'object' AS fault;
SET max_stack_depth = '100kB';
SELECT state, said FROM attempt('GET', '/v1/customers');
RESET max_stack_depth;

-- servers that cannot be reached or trusted
SET stripe_portal.connect_timeout = '300ms';
SET stripe_portal.api_base = :'hang_url';
SELECT state, said, detail FROM attempt('POST', '/v1/customers') \gx
SET stripe_portal.api_base = :'untrusted_url';
SELECT state, said FROM attempt('POST', '/v1/customers');
SET stripe_portal.api_base = 'https://127.0.0.1:1';
SELECT state, said, hint FROM attempt('POST', '/v1/customers');
SET stripe_portal.api_base = :'url';
RESET stripe_portal.connect_timeout;
-- the system's authorities do not know the stand-in's
SET stripe_portal.ca_file = '';
SELECT state, said FROM attempt('POST', '/v1/customers');
SET stripe_portal.ca_file = '/nowhere/ca.pem';
SELECT state, said FROM attempt('POST', '/v1/customers');
RESET stripe_portal.ca_file;
SELECT state, said FROM attempt('GET', '/v1/customers');

-- dots within an id are no more than that: a merchant may choose one for a coupon
SELECT said FROM attempt('GET', '/v1/coupons/a..b');

--
-- Arguments that cannot be sent
--
SELECT stand_in('POST', 'reset') ->> 'object' AS reset;
SELECT path, state, said, detail FROM (VALUES
    ('/v1/customers/'), ('/v1//customers'), ('/v1/customers/../charges'), ('/v1/./customers'), ('/v1/customers/.'), ('/v3/customers'),
    ('v1/customers'), ('//v1/customers'), (''), ('/v1/'), ('https://example.com/v1/customers'), ('@example.com/v1/customers'),
    ('/v1/customers/%2e%2E/charges'), ('/v1/customers/..'), ('/v1/customers/a%2F..%2fb'), ('/v1/customers?limit=1'), ('/v1/customers#a'), ('/v1/a b'), (E'/v1/a\r\nHost: b'), (E'/v1/\u00e9'), ('/v1/a\b')
) AS t (path), attempt('GET', path);
SELECT state, said FROM (VALUES ('PUT'), ('get'), (''), (E'GET / HTTP/1.1\r\n')) AS t (method), attempt(method, '/v1/customers');
SELECT state, said FROM (VALUES (''), ('acct 1'), (E'acct_1\r\nx: y'), (E'acct_\u00e9'), (repeat('a', 256))) AS t (account),
    attempt('GET', '/v1/customers', account => account);
SELECT state, said FROM (VALUES (''), (E'a\nb'), (repeat('a', 256))) AS t (key),
    attempt('POST', '/v1/customers', idempotency_key => key);
SELECT state, said FROM attempt('GET', '/v1/customers', idempotency_key => 'a');
SELECT state, said FROM attempt('GET', '/v1/customers', '[]');
SELECT state, said FROM attempt('POST', '/v2/core/events');
SELECT state, said FROM attempt(NULL, '/v1/customers');
SELECT state, said FROM attempt('GET', NULL);
SELECT count(*) AS requests FROM seen;

-- nothing is changed outside where nothing may be changed inside
BEGIN READ ONLY;
SELECT stripe_api('GET', '/v1/customers') ->> 'object' AS read;
SELECT stripe_api('POST', '/v1/customers');
\echo :SQLSTATE
ROLLBACK;
SELECT DISTINCT method FROM seen;

-- administrators only, unless granted
CREATE ROLE regress_stripe_nobody;
GRANT USAGE ON SCHEMA stripe_portal TO regress_stripe_nobody;
SET ROLE regress_stripe_nobody;
SELECT stripe_api('GET', '/v1/customers');
SELECT stripe_portal.form_encode('{}');
RESET ROLE;
DROP OWNED BY regress_stripe_nobody;
DROP ROLE regress_stripe_nobody;

DROP VIEW seen;
DROP FUNCTION attempt, under_fault, stand_in;
