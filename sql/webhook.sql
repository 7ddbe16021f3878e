-- Receiving webhooks: stripe_receive_webhook, stripe_webhook, stripe_replay,
-- triggers and handlers.
\set VERBOSITY terse
SET TIME ZONE 'UTC';
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

-- A delivery as Stripe makes it.
CREATE FUNCTION deliver(payload text, OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE sql AS $$ SELECT * FROM stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_test_secret')) $$;

-- An event with its object, at a second of 14 November 2023.
CREATE FUNCTION event(id text, type text, at integer, object jsonb, more jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql AS $$
    SELECT (jsonb_build_object('id', id, 'object', 'event', 'type', type, 'api_version', '2026-10-28.endive',
        'created', 1700000000 + at, 'livemode', false, 'data', jsonb_build_object('object', object)) || more)::text
$$;

-- Verified, stored, applied; a second time it says that it knows.
SELECT event('evt_1', 'customer.created', 0, '{"object": "customer", "id": "cus_1", "email": "jenny@example.com"}') AS jenny \gset
SELECT * FROM deliver(:'jenny');
SELECT * FROM deliver(:'jenny');
SELECT id, type, created, api_version, object_id, status, error, attempts FROM stripe_portal.event;
SELECT id, email, livemode, account, deleted, event FROM stripe_portal.customer;

-- What is stored is what was signed, to the byte.
SELECT payload::text = :'jenny' AS same_bytes FROM stripe_portal.event;
SELECT * FROM deliver($${ "id":"evt_spaces",
	"livemode" : false, "created":1700000000, "type":"first", "type":"customer.created",
	"data":{"object":{"object":"customer","id":"cus_spaces","name":"caf\u00e9 \u0000 \\u0000"}}}$$);
SELECT payload FROM stripe_portal.event WHERE id = 'evt_spaces';
SELECT name FROM stripe_portal.customer WHERE id = 'cus_spaces';

-- The one exception: the URL of a portal session is not kept, nor the ways
-- back from it, which may carry a token.
SELECT outcome FROM deliver(event('evt_session', 'billing_portal.session.created', 0,
    '{"object": "billing_portal.session", "id": "bps_1", "customer": "cus_1", "url": "https://billing.stripe.com/p/session/test_secret",
      "return_url": "https://app.example.com/?t=secret", "flow": {"type": "payment_method_update", "after_completion": {
          "type": "redirect", "redirect": {"return_url": "https://app.example.com/?t=secret"}}}}'));
SELECT payload #> '{data,object}' AS object FROM stripe_portal.event WHERE id = 'evt_session';
-- where they would be, but for an array that Stripe does not send
SELECT outcome FROM deliver(event('evt_odd_session', 'billing_portal.session.created', 0,
    '{"object": "billing_portal.session", "id": "bps_2", "flow": [{"after_completion": {"redirect": {"return_url": "https://app.example.com/?t=secret"}}}]}'));
SELECT payload #> '{data,object}' AS object FROM stripe_portal.event WHERE id = 'evt_odd_session';

SELECT outcome FROM deliver('{"id": "", "livemode": false, "data": {"object": {"object": "billing_portal.session", "url": "https://billing.stripe.com/p/session/test_secret"}}}');
SELECT count(*) FROM stripe_portal.event AS e WHERE position('test_secret' IN convert_from(e.body, 'UTF8')) > 0;

-- an account goes into the head of requests
SELECT event, outcome, error FROM deliver('{"id": "evt_account", "livemode": true, "account": "acct_1\r\nX: y"}');

-- bytea is the same; the time of arrival can be given.
SELECT outcome FROM stripe_receive_webhook(:'jenny'::bytea, stripe_sign_webhook(:'jenny', 'whsec_test_secret'));
SELECT outcome FROM stripe_receive_webhook(event('evt_queued', 'customer.updated', 1, '{"object": "customer", "id": "cus_1"}'),
    stripe_sign_webhook(event('evt_queued', 'customer.updated', 1, '{"object": "customer", "id": "cus_1"}'), 'whsec_test_secret', '2023-11-14 22:13'),
    received_at => '2023-11-14 22:14');
SELECT received_at = '2023-11-14 22:14' AS received_then FROM stripe_portal.event WHERE id = 'evt_queued';

-- Refusals: one SQLSTATE, and a detail for each situation.
\set VERBOSITY default
SELECT stripe_receive_webhook(:'jenny', 't=1700000000,v1=' || repeat('0', 64));
\echo :LAST_ERROR_SQLSTATE
SELECT stripe_receive_webhook(:'jenny', stripe_sign_webhook(:'jenny', 'whsec_test_secret', now() - interval '1 hour'));
SELECT stripe_receive_webhook(:'jenny', stripe_sign_webhook(:'jenny', 'whsec_test_secret', now() + interval '1 hour'));
SELECT stripe_receive_webhook(:'jenny', NULL);
SELECT stripe_receive_webhook('', 't=1,v1=0');
SELECT stripe_receive_webhook(:'jenny', 'hello');
SELECT stripe_receive_webhook(:'jenny', 't=1');
SELECT stripe_receive_webhook(:'jenny', 't=1x,v1=0');
\set VERBOSITY terse
SET stripe_portal.webhook_secret = '';
SELECT stripe_receive_webhook(:'jenny', 't=1,v1=0');
SET stripe_portal.webhook_secret = 'whsec_test_secret';

-- After a good signature nothing about the event raises.
SELECT outcome, error FROM deliver(event('evt_unknown', 'climate.order.canceled', 0, '{"object": "climate.order", "id": "climorder_1"}'));
SELECT outcome, error FROM deliver(event('evt_no_object', 'customer.created', 0, NULL));
SELECT outcome, error FROM deliver(event('evt_bad_type', 'customer.created', 0, '{"object": "customer", "id": "cus_bad", "balance": "a lot"}'));
SELECT outcome, error FROM deliver(event('evt_no_id', 'customer.created', 0, '{"object": "customer"}'));
SELECT outcome, error FROM deliver('{"id": "evt_bare", "livemode": true}');
SELECT outcome, error FROM deliver('{"id": "evt_no_time", "livemode": false, "type": "customer.created", "created": "soon"}');
SELECT outcome, error FROM deliver(replace(event('evt_range', 'customer.created', 0, '{"object": "customer", "id": "cus_range", "balance": 0}'),
                                           '"balance": 0', '"balance": 1e30'));
SELECT left(event, 13) AS event, outcome, error FROM deliver('hello');
SELECT outcome FROM deliver('hello');
SELECT left(event, 13) AS event, outcome, error FROM deliver('[1, 2]');
SELECT left(event, 13) AS event, outcome, error FROM deliver('{"id": "", "livemode": false}');
SELECT left(event, 13) AS event, outcome, error FROM deliver(event(repeat('e', 3000), 'customer.created', 0, '{"object": "customer", "id": "cus_1"}'));
SELECT left(event, 13) AS event, outcome, error FROM deliver(event('evt_a', 'customer.created', 0, '{}', jsonb_build_object('account', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) AS i))));
SELECT left(event, 13) AS event, outcome, error
FROM deliver(event('evt_long', 'customer.created', 0, jsonb_build_object('object', 'customer', 'id', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) AS i))));
SELECT left(event, 13) AS event, outcome, error FROM deliver(repeat('[', 100000));
SELECT left(event, 13) AS event, outcome, error
FROM stripe_receive_webhook('\x7b22ff227d'::bytea, 't=1700000000,v1=19c151c4805983ccd9753759b7ecc05f15b43f814c6780dab8a82f152fed6fb8', to_timestamp(1700000000));
SELECT count(*), count(payload) AS json, count(body) AS bytes FROM stripe_portal.event WHERE id LIKE 'body\_%';
SELECT convert_from(body, 'UTF8') AS body FROM stripe_portal.event WHERE body = 'hello';

-- A thin event carries no data: stored and marked.
SELECT * FROM deliver('{"id":"evt_test_65X","object":"v2.core.event","type":"v1.customer.subscription.updated","livemode":false,'
    '"created":"2026-11-10T12:00:00.000Z","context":null,"related_object":{"id":"sub_X1","type":"subscription","url":"/v1/subscriptions/sub_X1"}}');
SELECT type, created, object_id, status FROM stripe_portal.event WHERE id = 'evt_test_65X';
SELECT created, (deliver(format('{"id":"evt_time%s","object":"v2.core.event","type":"v1.x","livemode":false,"created":"%s"}', n, created))).outcome
FROM unnest(ARRAY['2026-01-01T-9:-9:-9Z', '2026-02-31T23:59:60.Z', '-999-01-01T00:00:00Z', '2026-11-10', '2026-11-10T12:00:00+01:00', '2024-02-29T23:59:59.5Z'])
    WITH ORDINALITY AS t (created, n);
SELECT id, created FROM stripe_portal.event WHERE id LIKE 'evt_time%' AND created IS NOT NULL;

-- Live and test, account and account do not mix, not even with the same ids.
SELECT outcome FROM deliver(event('evt_1', 'customer.created', 9, '{"object": "customer", "id": "cus_1", "email": "live@example.com"}', '{"livemode": true}'));
SELECT outcome FROM deliver(event('evt_1', 'customer.created', 9, '{"object": "customer", "id": "cus_1", "email": "other@example.com"}', '{"account": "acct_2"}'));
SELECT livemode, account, email FROM stripe_portal.customer WHERE id = 'cus_1' ORDER BY 1, 2;

-- ---------------------------------------------------------------------------
-- A user's own trigger sees the finished row, and the state it led to.
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% %: % is %', TG_TABLE_NAME, NEW.id, NEW.status,
        coalesce((SELECT c.name FROM stripe_portal.customer AS c WHERE c.id = NEW.object_id), 'nobody');
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT ON stripe_portal.event FOR EACH ROW EXECUTE FUNCTION watch();
CREATE FUNCTION watch_customer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'customer %: name % by %', NEW.id, NEW.name, NEW.event;
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON stripe_portal.customer FOR EACH ROW EXECUTE FUNCTION watch_customer();
SELECT outcome FROM deliver(event('evt_watched', 'customer.updated', 20, '{"object": "customer", "id": "cus_w", "name": "Wanda"}'));
SELECT outcome FROM deliver(event('evt_watched', 'customer.updated', 20, '{"object": "customer", "id": "cus_w", "name": "Wanda"}'));
SELECT outcome FROM deliver(event('evt_older', 'customer.created', 19, '{"object": "customer", "id": "cus_w", "name": "Old Wanda"}'));
DROP TRIGGER watch ON stripe_portal.event;
DROP TRIGGER watch ON stripe_portal.customer;
DROP FUNCTION watch(), watch_customer();

-- A trigger on a state table that raises makes the event a failed one.
CREATE FUNCTION object_to() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER object_to BEFORE INSERT ON stripe_portal.customer FOR EACH ROW EXECUTE FUNCTION object_to();
SELECT outcome, error FROM deliver(event('evt_objected', 'customer.created', 0, '{"object": "customer", "id": "cus_o"}'));
DROP TRIGGER object_to ON stripe_portal.customer;
SELECT * FROM stripe_replay('evt_objected');
SELECT status, attempts, error FROM stripe_portal.event WHERE id = 'evt_objected';
SELECT count(*) FROM stripe_portal.customer WHERE id = 'cus_o';
DROP FUNCTION object_to();

-- One on the ledger itself that leaves the event out is not passed over.
CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER leave_out BEFORE INSERT ON stripe_portal.event FOR EACH ROW EXECUTE FUNCTION leave_out();
SELECT outcome FROM deliver(event('evt_left_out', 'customer.created', 0, '{"object": "customer", "id": "cus_lo"}'));
DROP TRIGGER leave_out ON stripe_portal.event;
DROP FUNCTION leave_out();

-- ---------------------------------------------------------------------------
-- Handlers: called once for each applied event, with the row.
CREATE TABLE seen (handler text, event text, type text, name text);
CREATE FUNCTION on_customer(e stripe_portal.event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO public.seen VALUES ('on_customer', e.id, e.type,
        (SELECT name FROM stripe_portal.customer WHERE id = e.object_id AND NOT livemode))
$$;
CREATE FUNCTION on_anything(e stripe_portal.event) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF e.payload #>> '{data,object,name}' = 'Fail' THEN
        RAISE EXCEPTION 'I do not handle %', e.object_id USING ERRCODE = 'raise_exception';
    END IF;
    INSERT INTO public.seen VALUES ('on_anything', e.id, e.type);
    RETURN NULL;
END $$;
INSERT INTO stripe_portal.event_handler VALUES ('customer.*', 'public.on_customer'), ('customer.created', 'public.on_customer'), ('*', 'public.on_anything');
SELECT * FROM stripe_portal.event_handler ORDER BY 1, 2;

SELECT outcome, error FROM deliver(event('evt_h1', 'customer.created', 0, '{"object": "customer", "id": "cus_h1", "name": "Hanna"}'));
SELECT outcome, error FROM deliver(event('evt_h1', 'customer.created', 0, '{"object": "customer", "id": "cus_h1", "name": "Hanna"}'));
-- one that no table holds is applied if a handler takes it
SELECT outcome, error FROM deliver(event('evt_h2', 'invoice.overdue', 0, '{"object": "invoice", "id": "in_1"}'));
SELECT * FROM seen ORDER BY event, handler;

-- One that fails: the event is failed, the state is kept, nothing is left of
-- any handler; replay calls them again, once.
TRUNCATE seen;
SELECT outcome, error FROM deliver(event('evt_h3', 'customer.created', 0, '{"object": "customer", "id": "cus_h3", "name": "Fail"}'));
SELECT status, error, attempts FROM stripe_portal.event WHERE id = 'evt_h3';
SELECT name FROM stripe_portal.customer WHERE id = 'cus_h3';
SELECT * FROM seen;
SELECT * FROM stripe_replay('evt_h3');
CREATE OR REPLACE FUNCTION on_anything(e stripe_portal.event) RETURNS boolean LANGUAGE sql AS $$
    INSERT INTO public.seen VALUES ('mended', e.id, e.type) RETURNING true $$;
SELECT * FROM stripe_replay('evt_h3');
SELECT * FROM stripe_replay('evt_h3');
SELECT status, error, attempts FROM stripe_portal.event WHERE id = 'evt_h3';
SELECT * FROM seen ORDER BY handler;

-- A handler that is gone fails by name.
DROP FUNCTION on_anything;
SELECT outcome, error FROM deliver(event('evt_h4', 'product.created', 0, '{"object": "product", "id": "prod_h4"}'));
SELECT count(*) FROM stripe_portal.product WHERE id = 'prod_h4';
DELETE FROM stripe_portal.event_handler;
SELECT * FROM stripe_replay('evt_h4');

-- A handler has its owner's rights, not the extension's.
CREATE ROLE regress_handler_owner;
CREATE SCHEMA handlers AUTHORIZATION regress_handler_owner;
GRANT USAGE ON SCHEMA stripe_portal TO regress_handler_owner;
SET ROLE regress_handler_owner;
CREATE FUNCTION handlers.grab(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM rolname FROM pg_authid;
END $$;
RESET ROLE;
INSERT INTO stripe_portal.event_handler VALUES ('product.updated', 'handlers.grab');
SELECT outcome, error FROM deliver(event('evt_h5', 'product.updated', 0, '{"object": "product", "id": "prod_h5"}'));
-- nor does it get them afterwards: what it sets is undone, and nothing of it
-- runs at commit
SET ROLE regress_handler_owner;
CREATE OR REPLACE FUNCTION handlers.grab(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'handlers, pg_catalog', false);
END $$;
CREATE FUNCTION handlers.json_build_object(text, text, text, text) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'hijacked as %', current_user;
END $$;
CREATE TABLE handlers.later (i integer);
CREATE FUNCTION handlers.at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'late, as %', current_user; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON handlers.later DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION handlers.at_commit();
RESET ROLE;
SELECT event('evt_h6', 'product.updated', 0, '{"object": "product", "id": "prod_h6"}') AS hijack \gset
BEGIN;
SELECT FROM set_config('request.headers', json_build_object('stripe-signature', stripe_sign_webhook(:'hijack', 'whsec_test_secret'))::text, true);
SELECT stripe_webhook(:'hijack');
SHOW search_path;
COMMIT;
SET ROLE regress_handler_owner;
CREATE OR REPLACE FUNCTION handlers.grab(e stripe_portal.event) RETURNS void LANGUAGE sql AS $$ INSERT INTO handlers.later VALUES (1) $$;
RESET ROLE;
SELECT outcome, error FROM deliver(event('evt_h7', 'product.updated', 0, '{"object": "product", "id": "prod_h7"}'));
DELETE FROM stripe_portal.event_handler;
SET client_min_messages = warning;
DROP SCHEMA handlers CASCADE;
RESET client_min_messages;
REVOKE ALL ON SCHEMA stripe_portal FROM regress_handler_owner;
DROP ROLE regress_handler_owner;

-- Only what can be called is registered.
\set VERBOSITY default
INSERT INTO stripe_portal.event_handler VALUES ('*', 'public.no_such_function');
\set VERBOSITY terse
INSERT INTO stripe_portal.event_handler VALUES ('*', 'pg_catalog.abs');
INSERT INTO stripe_portal.event_handler VALUES ('customer.%', 'public.on_customer');

-- ---------------------------------------------------------------------------
-- Replay: what was applied stays as it is, what is unknown is an error.
SELECT * FROM stripe_replay('evt_1');
SELECT * FROM stripe_replay('evt_unknown');
SELECT * FROM stripe_replay('evt_test_65X');
SELECT * FROM stripe_replay('evt_bad_type');
SELECT attempts FROM stripe_portal.event WHERE id = 'evt_bad_type';
SELECT outcome, error FROM stripe_replay((SELECT id FROM stripe_portal.event WHERE body = 'hello'));
-- a long one, whose failure has to outlive its reading
SELECT outcome FROM deliver('[' || repeat('1,', 200000) || 'x');
SELECT outcome, error FROM stripe_replay((SELECT id FROM stripe_portal.event WHERE length(body) > 400000));
-- one that was readable once, but is too deep for the stack that is left
SELECT outcome FROM deliver(event('evt_deep', 'customer.created', 0,
    ('{"object": "customer", "id": "cus_deep", "metadata": ' || repeat('{"a":', 1000) || '1' || repeat('}', 1000) || '}')::jsonb));
SET max_stack_depth = '100kB';
SELECT stripe_replay('evt_deep');
RESET max_stack_depth;
SELECT outcome FROM stripe_replay('evt_deep');
SELECT * FROM stripe_replay('evt_nowhere');
\echo :LAST_ERROR_SQLSTATE

-- ---------------------------------------------------------------------------
-- The endpoint for a gateway in the manner of PostgREST.
SELECT event('evt_web', 'customer.created', 0, '{"object": "customer", "id": "cus_web"}') AS web \gset
BEGIN;
SELECT set_config('request.headers', json_build_object('stripe-signature', stripe_sign_webhook(:'web', 'whsec_test_secret'))::text, true) IS NOT NULL AS headers;
SELECT stripe_webhook(:'web');
SELECT stripe_webhook(:'web');
SELECT current_setting('response.status', true) AS status;
COMMIT;
BEGIN;
SELECT set_config('request.headers', '{"stripe-signature": "t=1700000000,v1=0000"}', true) IS NOT NULL AS headers;
SELECT stripe_webhook(:'web');
SELECT current_setting('response.status', true) AS status;
COMMIT;
BEGIN;
SELECT stripe_webhook(:'web');
SELECT current_setting('response.status', true) AS status;
COMMIT;

-- Nothing is received in a read-only transaction.
BEGIN READ ONLY;
SELECT stripe_receive_webhook(:'web', NULL);
ROLLBACK;

DROP TABLE seen;
DROP FUNCTION on_customer, deliver, event;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product;
