-- The ledger as it grows: partitions, retention, dead letters, thin events.
\set VERBOSITY terse
SET TIME ZONE 'UTC';
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

CREATE FUNCTION deliver(payload text, OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE sql AS $$ SELECT * FROM stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_test_secret')) $$;

CREATE FUNCTION event(id text, at timestamptz, customer text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'object', 'event', 'type', 'customer.updated', 'created', extract(epoch FROM at)::bigint,
        'livemode', false, 'data', jsonb_build_object('object', jsonb_build_object('object', 'customer', 'id', customer) || more))::text
$$;

-- What tend_ledger did, whatever month the test runs in.
CREATE FUNCTION tend(months_ahead integer DEFAULT 0, OUT partition text, OUT action text, OUT events bigint) RETURNS SETOF record
LANGUAGE sql AS $$
    SELECT replace(t.partition, to_char(now(), 'YYYY_MM'), 'this_month'), t.action, t.events FROM stripe_portal.tend_ledger(months_ahead) AS t
$$;
CREATE VIEW place AS
SELECT id, replace(tableoid::regclass::text, to_char(now(), 'YYYY_MM'), 'this_month') AS partition, status FROM stripe_portal.event;

-- Everything in the extension's tables, to compare.
CREATE FUNCTION contents() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT oid FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind = 'r' LOOP
        RETURN QUERY EXECUTE format('SELECT %L || t::text FROM %s AS t', name, name);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------
-- Without any partition, nothing is lost: event_default takes it.
SELECT outcome FROM deliver(event('evt_now', now(), 'cus_1'));
SELECT outcome FROM deliver(event('evt_january', '2024-01-10', 'cus_2'));
SELECT outcome FROM deliver(event('evt_january_bad', '2024-01-31 23:59:59', 'cus_3', '{"balance": "x"}'));
SELECT outcome FROM deliver(event('evt_february', '2024-02-01', 'cus_4'));
SELECT outcome FROM deliver(event('evt_future', now() + interval '10 years', 'cus_5'));
SELECT outcome FROM deliver('no event');
SELECT regexp_replace(id, 'body_.*', 'body_…') AS id, partition, status FROM place ORDER BY 1;

-- Each run moves one month out of it, the newest first, and says so.
CREATE TABLE fired (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON stripe_portal.event FOR EACH ROW EXECUTE FUNCTION note();
CREATE TABLE before AS SELECT e::text FROM stripe_portal.event AS e;
SELECT * FROM tend();
SELECT * FROM tend();
SELECT * FROM tend();
SELECT * FROM tend();
SELECT regexp_replace(id, 'body_.*', 'body_…') AS id, partition, status FROM place ORDER BY 1;
-- not one row was changed, and no trigger saw it
SELECT count(*) FROM (TABLE before EXCEPT SELECT e::text FROM stripe_portal.event AS e) AS lost;
SELECT count(*) FROM (SELECT e::text FROM stripe_portal.event AS e EXCEPT TABLE before) AS made;
SELECT * FROM fired;
DROP TABLE before;

-- A month that nothing happened in yet is made ahead.
SELECT count(*) FILTER (WHERE action = 'made' AND events = 0) AS made FROM tend(3);
SELECT count(*) AS partitions, min(starts), max(ends) = date_trunc('month', now()) + interval '4 months' AS ahead,
       bool_and(lead IS NULL OR lead >= ends) AS apart
FROM (SELECT *, lead(starts) OVER (ORDER BY starts) FROM stripe_portal.event_partitions()) AS p;

-- Triggers see events arrive in whatever partition; a second delivery is
-- known wherever the first is, and whatever is done to it finds it.
SELECT outcome FROM deliver(event('evt_january', '2024-01-10', 'cus_2'));
SELECT outcome FROM deliver(event('evt_january', '2024-01-11', 'cus_2'));
SELECT outcome FROM deliver('no event');
SELECT outcome FROM deliver(event('evt_later', '2024-01-11', 'cus_2'));
SELECT outcome, error FROM stripe_replay('evt_january_bad');
SELECT * FROM fired;
DROP TRIGGER note ON stripe_portal.event;
DROP FUNCTION note;
DROP TABLE fired;

-- A look-up with the event's time reads one partition.
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query;
END $$;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT plan AS pruned FROM plan($$SELECT FROM stripe_portal.event WHERE id = 'evt_january' AND NOT livemode AND account = '' AND created = '2024-01-10'$$)
WHERE plan LIKE '%Scan%';
RESET enable_seqscan;
RESET enable_bitmapscan;
DROP FUNCTION plan;

-- Partitions are like the first one: key, indexes, checks, compression; and
-- nobody gets a right on one by its being new.
CREATE ROLE regress_reader;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_reader, PUBLIC;
SELECT * FROM deliver(event('evt_march', '2024-03-31', 'cus_6'));
SELECT * FROM tend();
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_reader, PUBLIC;
SELECT c.relname, (SELECT count(*) FROM pg_index AS i WHERE i.indrelid = c.oid) AS indexes,
       (SELECT count(*) FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype <> 'n') AS constraints,
       (SELECT attcompression FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'payload')
           = (SELECT attcompression FROM pg_attribute AS a WHERE a.attrelid = 'stripe_portal.event'::regclass AND a.attname = 'payload') AS compression,
       has_table_privilege('regress_reader', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS open
FROM pg_class AS c WHERE c.oid IN ('stripe_portal.event_default'::regclass, 'stripe_portal.event_2024_03'::regclass) ORDER BY 1 DESC;
GRANT USAGE ON SCHEMA stripe_portal TO regress_reader;
GRANT SELECT ON stripe_portal.event, stripe_portal.event_failed, stripe_portal.event_thin TO regress_reader;
GRANT EXECUTE ON FUNCTION stripe_portal.all_customers TO regress_reader;
SET ROLE regress_reader;
SELECT count(*) FROM stripe_portal.event_failed WHERE next_attempt IS NOT NULL;
SELECT count(*) FROM stripe_portal.event_thin WHERE path IS NOT NULL;
SELECT count(*) FROM stripe_portal.event WHERE id = 'evt_march';
SELECT count(*) FROM stripe_portal.event_2024_03;
RESET ROLE;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader;

-- ---------------------------------------------------------------------------
-- Retention.  By default everything is kept.
SHOW stripe_portal.event_retention;
SELECT stripe_portal.ledger_horizon() IS NULL AS keeps_all;
\set VERBOSITY default
SET stripe_portal.event_retention = 30;
\set VERBOSITY terse
SET stripe_portal.event_retention = 90;
SELECT stripe_portal.ledger_horizon() = now() - interval '90 days' AS keeps_90_days;
SELECT outcome FROM deliver(event('evt_stray', '2023-05-05', 'cus_7'));
-- Old partitions go, what has failed stays; a month does not come back for it.
SELECT * FROM tend();
SELECT * FROM tend();
SELECT regexp_replace(id, 'body_.*', 'body_…') AS id, partition, status FROM place ORDER BY 1;
-- it is found, replayed, and goes once it is resolved
SELECT outcome FROM deliver(event('evt_january_bad', '2024-01-31 23:59:59', 'cus_3', '{"balance": "x"}'));
SELECT outcome FROM stripe_replay('evt_january_bad');
UPDATE stripe_portal.event SET status = 'ignored', error = NULL WHERE id = 'evt_january_bad';
SELECT * FROM tend();
-- what was no event goes by the time it was received
UPDATE stripe_portal.event SET received_at = now() - interval '91 days' WHERE id LIKE 'body\_%';
SELECT * FROM tend();
SELECT id, partition, status FROM place ORDER BY 1;
RESET stripe_portal.event_retention;

-- Only where every committed event can be seen.
SELECT stripe_portal.tend_ledger(-1);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT stripe_portal.tend_ledger();
ROLLBACK;
BEGIN READ ONLY;
SELECT stripe_portal.tend_ledger();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- A query on what is to be dropped is in the way: the next run does it.
SELECT outcome FROM deliver(event('evt_april', '2024-04-01', 'cus_8'));
SELECT * FROM tend();
SET stripe_portal.event_retention = 90;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM stripe_portal.event ORDER BY id;
SELECT * FROM tend();
COMMIT;
SELECT * FROM tend();
RESET stripe_portal.event_retention;
TRUNCATE stripe_portal.event, stripe_portal.customer;

-- ---------------------------------------------------------------------------
-- Dead letters: one that can not be applied, two whose handler fails.
CREATE TABLE handled (event text);
CREATE TABLE hold (event text);
INSERT INTO hold VALUES ('evt_f2'), ('evt_f3');
CREATE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.hold WHERE event = e.id) THEN
        RAISE 'not yet';
    END IF;
    INSERT INTO public.handled VALUES (e.id);
END $$;
INSERT INTO stripe_portal.event_handler VALUES ('customer.*', 'public.handle');
SELECT outcome FROM deliver(event('evt_f1', '2024-05-01', 'cus_f1', '{"balance": "x"}'));
SELECT outcome FROM deliver(event('evt_f2', '2024-05-02', 'cus_f2'));
SELECT outcome FROM deliver(event('evt_f3', '2024-05-03', 'cus_f3'));
SELECT outcome FROM deliver(event('evt_f4', '2024-05-04', 'cus_f4'));
SELECT outcome FROM deliver('no event');
SELECT regexp_replace(id, 'body_.*', 'body_…') AS id, type, object_id, error, attempts, next_attempt - last_attempt_at AS rests
FROM stripe_portal.event_failed ORDER BY 1;

-- They rest first: a minute, then twice as long each time, a day at most.
SELECT * FROM stripe_portal.retry_failed();
BEGIN;
INSERT INTO stripe_portal.event (id, livemode, payload, status, error, attempts, received_at)
SELECT n, false, '{}', 'failed', 'x', n, now() FROM unnest(ARRAY[1, 2, 3, 11, 12, 13, 2147483647]) AS n;
SELECT attempts, next_attempt - last_attempt_at AS rests FROM stripe_portal.event_failed WHERE error = 'x' ORDER BY 1;
ROLLBACK;
-- What waits for ever is stopped, counts as tried, and is not in the way of
-- the next run; what raises is not in the way of this one.
CREATE FUNCTION rested() RETURNS void LANGUAGE sql AS $$
    UPDATE stripe_portal.event SET last_attempt_at = now() - interval '1 day' WHERE status = 'failed' $$;
SELECT rested();
UPDATE stripe_portal.event SET received_at = '2024-06-01'::timestamptz + right(id, 1)::integer * interval '1 hour' WHERE id LIKE 'evt\_f_';
CREATE OR REPLACE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.id = 'evt_f2' THEN
        PERFORM pg_sleep(3600);
    END IF;
    INSERT INTO public.handled VALUES (e.id);
END $$;
SET statement_timeout = '3s';
SELECT * FROM stripe_portal.retry_failed();
SELECT * FROM stripe_portal.retry_failed();
RESET statement_timeout;
SELECT id, error, attempts, next_attempt - last_attempt_at AS rests FROM stripe_portal.event_failed WHERE id LIKE 'evt%' ORDER BY 1;
SELECT rested();
SELECT event, outcome FROM stripe_portal.retry_failed(1);
CREATE OR REPLACE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.handled VALUES (e.id) $$;
SELECT event, outcome FROM stripe_portal.retry_failed();
SELECT * FROM stripe_portal.retry_failed();
SELECT id, status, error, attempts FROM stripe_portal.event WHERE id LIKE 'evt%' ORDER BY 1;
SELECT * FROM handled ORDER BY 1;

-- By hand: those of a time, of a type, all that failed.
INSERT INTO hold VALUES ('evt_f5'), ('evt_f6');
CREATE OR REPLACE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.hold WHERE event = e.id) THEN
        RAISE 'not yet';
    END IF;
    INSERT INTO public.handled VALUES (e.id);
END $$;
SELECT outcome FROM deliver(event('evt_f5', '2024-05-05', 'cus_f5'));
SELECT outcome FROM deliver(event('evt_f6', '2024-05-06', 'cus_f6'));
SELECT event, outcome, error FROM stripe_replay(since => '2024-05-01', until => '2024-05-05');
SELECT event, outcome, error FROM stripe_replay(since => '2024-05-02');
SELECT event, outcome, error FROM stripe_replay(type => 'customer.*', until => '2024-05-06');
SELECT event FROM stripe_replay(type => 'customer_*');
SELECT event FROM stripe_replay(type => 'customer');
-- an id is told from a time, also where no type is
SELECT * FROM stripe_replay('evt_f4', NULL, '');
PREPARE replay AS SELECT * FROM stripe_replay($1, $2, $3);
EXECUTE replay('evt_f4', false, '');
TRUNCATE hold;
SELECT left(event, 6) AS event, outcome FROM stripe_replay();
SELECT left(event, 6) AS event, outcome FROM stripe_replay(failed_only => false);

-- Replaying everything changes nothing, but that failures are counted.
DELETE FROM stripe_portal.event WHERE status = 'failed';
SELECT outcome FROM deliver('{"id":"evt_test_thin","object":"v2.core.event","type":"v1.customer.updated","livemode":false,"created":"2024-05-07T12:00:00Z"}');
SELECT outcome FROM deliver(replace(event('evt_other', '2024-05-08', 'climorder_1'), '"customer', '"climate.order'));
CREATE TABLE before AS SELECT * FROM contents() AS c;
SELECT event, outcome FROM stripe_replay(failed_only => false);
SELECT event, outcome FROM stripe_replay(failed_only => false);
SELECT count(*) FROM (TABLE before EXCEPT SELECT * FROM contents()) AS lost;
SELECT count(*) FROM (SELECT * FROM contents() EXCEPT TABLE before) AS made;
SELECT count(*) = count(DISTINCT event) AS handled_once FROM handled;
DROP TABLE before;

-- ---------------------------------------------------------------------------
-- Thin events: what is to be read, and what became of it.
DELETE FROM stripe_portal.event_handler;
TRUNCATE stripe_portal.event, handled;
CREATE FUNCTION thin(id text, related jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'object', 'v2.core.event', 'type', 'v1.customer.subscription.updated', 'livemode', false,
        'created', '2024-05-07T12:00:00Z', 'related_object', related)::text $$;
SELECT event, outcome FROM deliver(thin('evt_test_1', '{"id": "sub_X1", "type": "subscription", "url": "/v1/subscriptions/sub_X1"}'));
SELECT event, outcome FROM deliver(thin('evt_test_2', NULL));
SELECT id, created, type, object_type, object_id, path, attempts FROM stripe_portal.event_thin ORDER BY id;
-- the key is sent there, so only a plain path below /v1/ will do
BEGIN;
SELECT count(*) FROM unnest(ARRAY[
    '/v1/customers/cus_1', '/v1/billing_portal/configurations/bpc_1', '/v1/entitlements/active_entitlement_summaries/x-1',
    '//v1/customers/cus_1', '//evil.example/v1/customers', 'https://evil.example/v1/customers/cus_1', 'v1/customers/cus_1',
    '/v2/core/accounts/acct_1', '/v1', '/v1/', '/v1//customers', '/v1/customers/', '/v1/../v2/x', '/v1/customers/cus_1?expand[]=x', '/v1/customers/%2e%2e',
    '/v1/customers/cus_1#x', '/v1/customers@evil.example', E'/v1/customers/cus_1\n', E'/v1/customers/cus_1\nHost: evil', '/v1\evil', ' /v1/customers', ''])
    WITH ORDINALITY AS u (url, n), deliver(thin('evt_url' || n, jsonb_build_object('url', url)));
SELECT count(*) FROM unnest(ARRAY['{"url": {"a": 1}}', '{"url": null}', '[1]', '"/v1/customers"', 'null']::jsonb[])
    WITH ORDINALITY AS o (object, n), deliver(thin('evt_odd' || n, object));
SELECT outcome FROM deliver('{"id":"evt_nul","object":"v2.core.event","type":"v1.x","livemode":false,"related_object":{"url":"/v1/x\u0000"},"x":"\\u0000"}');
SELECT id, path FROM stripe_portal.event_thin WHERE path IS NOT NULL ORDER BY id;
SELECT count(*) FROM stripe_portal.event_thin WHERE path IS NULL;
ROLLBACK;

INSERT INTO stripe_portal.event_handler VALUES ('v1.*', 'public.handle');
SELECT * FROM stripe_portal.settle_thin('evt_test_1', false, '');
SELECT * FROM stripe_portal.settle_thin('evt_test_1', false, '', 'twice');
SELECT * FROM stripe_portal.settle_thin('evt_test_2', false, '', 'SP404: no such subscription');
SELECT id, status, error, attempts FROM stripe_portal.event ORDER BY 1;
SELECT * FROM handled;
-- one that failed waits to be read again once it has rested
SELECT rested();
SELECT event, outcome, error FROM stripe_portal.retry_failed();
SELECT id FROM stripe_portal.event_thin;
-- a handler that fails is reported, and gets the event again when that is settled
INSERT INTO hold VALUES ('evt_test_2');
SELECT * FROM stripe_portal.settle_thin('evt_test_2', false, '');
SELECT id, error FROM stripe_portal.event_failed;
TRUNCATE hold;
SELECT * FROM stripe_replay('evt_test_2', false);
SELECT * FROM stripe_portal.settle_thin('evt_test_2', false, '');
SELECT * FROM handled ORDER BY 1;
SELECT * FROM stripe_replay('evt_test_2', false);
SELECT outcome FROM deliver(event('evt_fat', '2024-05-09', 'cus_1'));
SELECT stripe_portal.settle_thin('evt_fat', false, '');
SELECT stripe_portal.settle_thin('evt_nowhere', false, '');

-- A month that was detached is left alone, and the others go on without it.
SELECT format('ALTER TABLE stripe_portal.event DETACH PARTITION %s', partition) AS detach, format('DROP TABLE %s', partition) AS remove
FROM stripe_portal.event_partitions() WHERE starts = date_trunc('month', now(), 'UTC') \gset
:detach;
SELECT * FROM tend(1);
:remove;
SELECT * FROM tend();

-- Where partitions are is not for who calls it to say.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_elsewhere LOCATION '';
SET default_tablespace = regress_elsewhere;
SELECT count(*) > 3 AS made FROM stripe_portal.tend_ledger(9) WHERE action = 'made';
SELECT count(*) AS elsewhere FROM pg_class WHERE reltablespace = (SELECT oid FROM pg_tablespace WHERE spcname = 'regress_elsewhere');
RESET default_tablespace;
DROP TABLESPACE regress_elsewhere;

-- DROP EXTENSION takes the partitions along.
SELECT count(*) > 3 AS partitions FROM stripe_portal.event_partitions();
BEGIN;
SET client_min_messages = warning;
DROP FUNCTION handle, contents;
DROP VIEW place;
DROP EXTENSION stripe_portal;
SELECT count(*) FROM pg_class WHERE relname LIKE 'event\_%' OR relnamespace = to_regnamespace('stripe_portal');
ROLLBACK;

DELETE FROM stripe_portal.event_handler;
DROP VIEW place;
DROP FUNCTION deliver, event, tend, contents, handle, rested, thin;
DROP TABLE handled, hold;
TRUNCATE stripe_portal.event, stripe_portal.customer;
