-- The active-subscriber rule: stripe_is_active, stripe_require_active and the
-- ledger of portal sessions all ask the same.
\set VERBOSITY terse

-- One customer for each status, one with several subscriptions, some without.
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
SELECT 'sub_' || status, false, 'cus_' || status, status, '[]', 'evt_1', now()
FROM unnest(ARRAY['active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled', 'a_new_one']) AS status;
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created) VALUES
    ('sub_m1', false, 'cus_many', 'canceled', '[]', 'evt_1', now()),
    ('sub_m2', false, 'cus_many', 'active', '[]', 'evt_1', now()),
    ('sub_m3', false, 'cus_many', 'canceled', '[]', 'evt_1', now()),
    ('sub_l', true, 'cus_live', 'active', '[]', 'evt_1', now()),
    ('sub_d', false, 'cus_deleted', 'active', '[]', 'evt_1', now());
INSERT INTO stripe_portal.subscription (id, livemode, account, customer, status, items, event, event_created) VALUES
    ('sub_a', false, 'acct_1', 'cus_connected', 'active', '[]', 'evt_1', now());
INSERT INTO stripe_portal.customer (id, livemode, deleted, event, event_created) VALUES
    ('cus_deleted', false, true, 'evt_1', now()), ('cus_bare', false, false, 'evt_1', now());

-- Every status and flow, by default.
SELECT s.status, string_agg(r.flow, ' ' ORDER BY r.flow) FILTER (WHERE stripe_is_active('cus_' || s.status, r.flow)) AS may
FROM stripe_portal.subscription AS s, (SELECT DISTINCT flow FROM stripe_portal.access_rule) AS r
WHERE s.customer = 'cus_' || s.status
GROUP BY 1 ORDER BY 1;

SELECT customer, stripe_is_active(customer) AS active
FROM unnest(ARRAY['cus_many', 'cus_deleted', 'cus_bare', 'cus_nobody', 'cus_connected', 'cus_live', '', NULL]) AS customer;
SELECT stripe_is_active('cus_connected', account => 'acct_1') AS on_its_account,
       stripe_is_active('cus_live', livemode => true) AS in_live_mode,
       stripe_is_active('cus_active', livemode => true) AS test_row_in_live_mode;
-- the mode is that of the configured key
SELECT current_setting('stripe_portal.api_key_file') AS test_key \gset
SET stripe_portal.api_key_file = '';
SELECT stripe_is_active('cus_live') AS live, stripe_is_active('cus_active') AS test;
SET stripe_portal.api_key_file = :'test_key';
SELECT stripe_is_active('cus_active', 'acess');

-- ---------------------------------------------------------------------------
-- The trigger for your own tables
CREATE TABLE export (id integer, customer_id text);
CREATE TRIGGER subscribers_only BEFORE INSERT OR UPDATE ON export
    FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customer_id');
INSERT INTO export VALUES (1, 'cus_active'), (2, 'cus_many');
\set VERBOSITY default
INSERT INTO export VALUES (3, 'cus_past_due');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO export VALUES (3, 'cus_nobody');
INSERT INTO export VALUES (3, 'cus_bare');
INSERT INTO export VALUES (3, 'cus_deleted');
INSERT INTO export VALUES (3, NULL);
\set VERBOSITY terse
UPDATE export SET customer_id = 'cus_canceled' WHERE id = 1;
SELECT * FROM export ORDER BY id;

-- for another flow, and with mistakes
CREATE TABLE card_link (customer text);
CREATE TRIGGER payers_only BEFORE INSERT ON card_link
    FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customer', 'payment_method_update');
INSERT INTO card_link VALUES ('cus_past_due'), ('cus_unpaid');
INSERT INTO card_link VALUES ('cus_canceled');
CREATE TRIGGER mistake BEFORE DELETE ON card_link FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customer');
DELETE FROM card_link;
DROP TRIGGER mistake ON card_link;
CREATE TRIGGER mistake BEFORE UPDATE ON card_link FOR EACH ROW EXECUTE FUNCTION stripe_require_active();
UPDATE card_link SET customer = 'cus_active';
DROP TRIGGER mistake ON card_link;
CREATE TRIGGER mistake BEFORE UPDATE ON card_link FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customr');
UPDATE card_link SET customer = 'cus_active';
DROP TABLE card_link;

-- ---------------------------------------------------------------------------
-- A policy
ALTER TABLE export ENABLE ROW LEVEL SECURITY;
CREATE POLICY subscribers ON export USING (stripe_is_active(customer_id));
CREATE ROLE regress_reader;
GRANT SELECT ON export TO regress_reader;
GRANT EXECUTE ON FUNCTION stripe_is_active TO regress_reader;
UPDATE stripe_portal.subscription SET status = 'canceled' WHERE customer = 'cus_active';
SET ROLE regress_reader;
SELECT * FROM export;
RESET ROLE;
DROP TABLE export;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader;

-- In a parallel query, even as the first thing that a session does
CREATE TABLE big AS SELECT 'cus_many' || CASE i WHEN 7 THEN '' ELSE i::text END AS customer_id FROM generate_series(1, 20000) AS i;
ANALYZE big;
\c -
\set VERBOSITY terse
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(*) FROM big WHERE stripe_is_active(customer_id);
SELECT stripe_is_active('cus_many');
DROP TABLE big;

-- ---------------------------------------------------------------------------
-- The ledger of sessions keeps the rule against a direct INSERT.
INSERT INTO stripe_portal.session (livemode, customer, stripe_id) VALUES (false, 'cus_many', 'bps_1');
INSERT INTO stripe_portal.session (livemode, customer, stripe_id) VALUES (false, 'cus_canceled', 'bps_2');
INSERT INTO stripe_portal.session (livemode, customer, stripe_id, flow) VALUES (false, 'cus_past_due', 'bps_3', 'payment_method_update');
INSERT INTO stripe_portal.session (livemode, customer, stripe_id, flow) VALUES (false, 'cus_past_due', 'bps_4', 'subscription_cancel');
INSERT INTO stripe_portal.session (livemode, customer, stripe_id) VALUES (true, 'cus_many', 'bps_5');
INSERT INTO stripe_portal.session (livemode, account, customer, stripe_id) VALUES (false, 'acct_9', 'cus_many', 'bps_6');
INSERT INTO stripe_portal.session (livemode, customer, refused) VALUES (false, 'cus_canceled', 'not_active');
UPDATE stripe_portal.session SET refused = NULL, stripe_id = 'bps_7' WHERE customer = 'cus_canceled';
UPDATE stripe_portal.session SET customer = 'cus_canceled' WHERE stripe_id = 'bps_1';
INSERT INTO stripe_portal.session (livemode, customer) VALUES (false, 'cus_many');
-- backdating is for a superuser who restores a dump, and for nobody else
CREATE ROLE regress_writer;
GRANT USAGE ON SCHEMA stripe_portal TO regress_writer;
GRANT INSERT ON stripe_portal.session TO regress_writer;
SET ROLE regress_writer;
INSERT INTO stripe_portal.session (livemode, customer, stripe_id, created) VALUES (false, 'cus_canceled', 'bps_8', '2020-01-01');
RESET ROLE;
INSERT INTO stripe_portal.session (livemode, customer, stripe_id, created) VALUES (false, 'cus_canceled', 'bps_9', '2020-01-01');
UPDATE stripe_portal.session SET flow = 'access' WHERE stripe_id = 'bps_9';
DROP OWNED BY regress_writer;
DROP ROLE regress_writer;
SELECT stripe_id, customer, flow, refused FROM stripe_portal.session ORDER BY 1;

-- ---------------------------------------------------------------------------
-- Changing the rule changes every answer at once.
UPDATE stripe_portal.access_rule SET allowed = true WHERE flow = 'access' AND status = 'past_due';
SELECT stripe_is_active('cus_past_due') AS grace;
-- an INSERT of what exists sets it, as a restore does; new statuses can come
INSERT INTO stripe_portal.access_rule VALUES ('access', 'past_due', false), ('access', 'a_new_one', true);
SELECT stripe_is_active('cus_past_due') AS no_grace, stripe_is_active('cus_a_new_one') AS new_status;
SELECT count(*) FROM stripe_portal.access_rule WHERE flow = 'access' AND status = 'past_due';
DELETE FROM stripe_portal.access_rule WHERE status = 'canceled';
UPDATE stripe_portal.access_rule SET status = 'x' WHERE status = 'canceled';
UPDATE stripe_portal.access_rule SET seeded = false WHERE status = 'canceled';
INSERT INTO stripe_portal.access_rule (flow, status, allowed, seeded) VALUES ('access', 'canceled', false, false);
DELETE FROM stripe_portal.access_rule WHERE flow = 'access' AND status = 'canceled';
TRUNCATE stripe_portal.access_rule;
DELETE FROM stripe_portal.access_rule WHERE status = 'a_new_one';
SELECT count(*) AS seeded, count(*) FILTER (WHERE NOT seeded) AS own FROM stripe_portal.access_rule;

-- ---------------------------------------------------------------------------
-- Conditions; sql/access_matrix.sql walks them all.
-- Grace: past_due has paid until its current period began, others until it ends.
UPDATE stripe_portal.subscription
SET current_period_start = now() - interval '10 days', current_period_end = now() + interval '20 days' WHERE status IN ('active', 'past_due');
UPDATE stripe_portal.access_rule SET allowed = true, grace = '14 days' WHERE flow = 'access' AND status IN ('active', 'past_due');
SELECT stripe_is_active('cus_many') AS period_not_over, stripe_is_active('cus_past_due') AS within_grace;
UPDATE stripe_portal.access_rule SET grace = '7 days' WHERE flow = 'access' AND status = 'past_due';
SELECT stripe_is_active('cus_past_due') AS beyond_grace;
-- it ends to the microsecond, by the clock of the statement (one for both of these)
UPDATE stripe_portal.subscription SET current_period_start = statement_timestamp() - interval '168 hours' + interval '1 microsecond' WHERE id = 'sub_past_due' \; SELECT stripe_is_active('cus_past_due') AS before;
UPDATE stripe_portal.subscription SET current_period_start = statement_timestamp() - interval '168 hours' WHERE id = 'sub_past_due' \; SELECT stripe_is_active('cus_past_due') AS at;
-- and in every time zone, though the clocks are changed somewhere in a year
BEGIN;
SET LOCAL TimeZone = 'Europe/Berlin';
DO $$
BEGIN
    FOR days IN 1 .. 364 LOOP
        UPDATE stripe_portal.access_rule SET grace = make_interval(days => days) WHERE flow = 'access' AND status = 'past_due';
        UPDATE stripe_portal.subscription SET current_period_start = statement_timestamp() - make_interval(hours => 24 * days) WHERE id = 'sub_past_due';
        ASSERT NOT stripe_is_active('cus_past_due'), days;
        UPDATE stripe_portal.subscription SET current_period_start = current_period_start + interval '1 second' WHERE id = 'sub_past_due';
        ASSERT stripe_is_active('cus_past_due'), days;
    END LOOP;
END
$$;
ROLLBACK;
-- a time that is not known is no grace; without a grace it does not matter
UPDATE stripe_portal.subscription SET current_period_start = NULL WHERE id = 'sub_past_due';
SELECT stripe_is_active('cus_past_due') AS unknown_time;
UPDATE stripe_portal.subscription SET current_period_start = 'infinity' WHERE id = 'sub_past_due';
SELECT stripe_is_active('cus_past_due') AS for_ever;
UPDATE stripe_portal.subscription SET current_period_start = '-infinity' WHERE id = 'sub_past_due';
SELECT stripe_is_active('cus_past_due') AS for_never;
UPDATE stripe_portal.access_rule SET grace = '-1 day' WHERE flow = 'access' AND status = 'past_due';
UPDATE stripe_portal.access_rule SET grace = '101 years' WHERE flow = 'access' AND status = 'past_due';

-- Cancellation scheduled, by either field, and collection paused; one subscription that meets a row is enough.
INSERT INTO stripe_portal.access_rule (flow, status, allowed, cancel_scheduled) VALUES ('leaving', 'active', true, true);
SELECT stripe_is_active('cus_many', 'leaving') AS leaving;
UPDATE stripe_portal.subscription SET cancel_at = now() + interval '1 day' WHERE id = 'sub_m2';
SELECT stripe_is_active('cus_many', 'leaving') AS leaving;
UPDATE stripe_portal.subscription SET cancel_at = NULL, cancel_at_period_end = true WHERE id = 'sub_m2';
SELECT stripe_is_active('cus_many', 'leaving') AS leaving;
UPDATE stripe_portal.access_rule SET cancel_scheduled = false, collection_paused = false WHERE flow = 'access' AND status = 'active';
CREATE TABLE export (customer_id text);
CREATE TRIGGER subscribers_only BEFORE INSERT OR UPDATE ON export
    FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customer_id');
\set VERBOSITY default
INSERT INTO export VALUES ('cus_many');
INSERT INTO export VALUES ('cus_past_due');
\set VERBOSITY terse
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, pause_collection, current_period_end, event, event_created)
VALUES ('sub_m4', false, 'cus_many', 'active', '[]', '{"behavior": "void"}', 'infinity', 'evt_1', now());
INSERT INTO export VALUES ('cus_many');
SELECT subscription, status, problem FROM stripe_portal.access WHERE customer = 'cus_many' AND flow = 'access' ORDER BY 1;
UPDATE stripe_portal.subscription SET pause_collection = NULL WHERE id = 'sub_m4';
INSERT INTO export VALUES ('cus_many');
DROP TABLE export;
SELECT subscription, problem FROM stripe_portal.access WHERE customer = 'cus_deleted' AND flow = 'access';
-- who may read the tables may read the view
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA stripe_portal TO regress_reader;
GRANT SELECT ON stripe_portal.access, stripe_portal.access_rule, stripe_portal.subscription, stripe_portal.customer TO regress_reader;
GRANT EXECUTE ON FUNCTION stripe_portal.all_customers TO regress_reader;
SET ROLE regress_reader;
SELECT subscription FROM stripe_portal.access WHERE customer = 'cus_many' AND flow = 'access' AND problem IS NULL;
RESET ROLE;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader;
-- one clock for all workers of a parallel query
UPDATE stripe_portal.access_rule SET grace = '7 days' WHERE flow = 'access' AND status = 'past_due';
CREATE TABLE big AS SELECT 'cus_past_due' AS customer_id FROM generate_series(1, 5000);
ANALYZE big;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
UPDATE stripe_portal.subscription SET current_period_start = statement_timestamp() - interval '168 hours' + interval '1 microsecond' WHERE id = 'sub_past_due' \; SELECT count(*) FILTER (WHERE stripe_is_active(customer_id)) AS through FROM big;
UPDATE stripe_portal.subscription SET current_period_start = '-infinity' WHERE id = 'sub_past_due';
DROP TABLE big;

-- A product of its own: one that is not for everybody, under a name of ours.
INSERT INTO stripe_portal.access_rule (flow, status, product, allowed) VALUES ('reports', 'active', 'prod_pro', true);
SELECT stripe_is_active('cus_many', 'reports') AS without_pro;
UPDATE stripe_portal.subscription SET items = '[{"id": "si_1", "product": "prod_basic"}, {"id": "si_2", "product": "prod_pro"}]' WHERE id = 'sub_m4';
SELECT stripe_is_active('cus_many', 'reports') AS with_pro;
-- a customer who has it on another account, or in another mode, has it there
INSERT INTO stripe_portal.subscription (id, livemode, account, customer, status, items, event, event_created) VALUES
    ('sub_p', true, 'acct_1', 'cus_many', 'active', '[{"id": "si_3", "product": "prod_pro"}]', 'evt_1', now());
SELECT account, livemode, stripe_is_active('cus_many', 'reports', account, livemode) AS with_pro
FROM unnest(ARRAY['', 'acct_1']) AS account, unnest(ARRAY[false, true]) AS livemode ORDER BY 1, 2;
-- an INSERT sets what exists; rows that did not come with the extension can be deleted
INSERT INTO stripe_portal.access_rule (flow, status, product, allowed, grace) VALUES ('reports', 'active', 'prod_pro', false, '1 day');
SELECT * FROM stripe_portal.access_rule WHERE flow = 'reports';
SELECT stripe_is_active('cus_many', 'reports') AS switched_off;
DELETE FROM stripe_portal.access_rule WHERE flow = 'reports';
SELECT stripe_is_active('cus_many', 'reports');

UPDATE stripe_portal.access_rule
SET allowed = status = 'active', grace = NULL, cancel_scheduled = NULL, collection_paused = NULL WHERE flow = 'access' AND status IN ('active', 'past_due');
DELETE FROM stripe_portal.access_rule WHERE NOT seeded;
TRUNCATE stripe_portal.subscription, stripe_portal.customer, stripe_portal.session;
