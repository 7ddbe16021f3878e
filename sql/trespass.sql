-- Getting at somebody else's portal, row, token, offer or comment.
--
-- Mallory is a customer (cus_m) who logs in to the database and may run any SQL
-- of her own; Victor (cus_v) is another.  Whatever is his has "victor" in it.
-- The attempts, numbered, are in test/trespass.sql.  They are made twice: by
-- her, when each is refused, and by her as a superuser, when most succeed: that
-- shows that it was not for a slip that they failed. What is refused even then, is
-- so to everybody.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
-- Nothing is left of other tests.
DO $$
BEGIN
    EXECUTE (SELECT 'TRUNCATE ' || string_agg(c.oid::regclass::text, ', ') FROM pg_class AS c
             WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND c.relname NOT IN ('access_rule', 'decline_code'));
END $$;
\getenv source PG_ABS_SRCDIR
\set attempts :source '/test/trespass.sql'

-- Who logs in for herself brings no settings along.
SET stripe_portal.gateway_role = 'regress_gateway';
SET stripe_portal.return_hosts = 'app.example.com';
SET stripe_portal.return_url = 'https://app.example.com/account';
SET stripe_portal.winback_url = 'https://app.example.com/offer?t={token}';
CREATE FUNCTION for_all(setting text, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER DATABASE %I ', current_database()) || CASE WHEN value IS NULL THEN format('RESET %s', setting) ELSE format('SET %s = %L', setting, value) END;
END $$;
SELECT count(for_all('stripe_portal.' || name, current_setting('stripe_portal.' || name))) AS settings
FROM unnest('{api_base,ca_file,api_key_file,webhook_secret_file,gateway_role,return_hosts,return_url,winback_url}'::text[]) AS name;
SELECT current_user AS superuser \gset
\set as_mallory 'user=regress_mallory password=mallory options=-cstripe_portal.timeout=10s'
\set as_gateway 'user=regress_gateway password=gateway options=-cstripe_portal.timeout=10s'
\set as_owner 'user=' :superuser ' options=-cstripe_portal.timeout=10s'

CREATE ROLE regress_mallory LOGIN PASSWORD 'mallory';
CREATE ROLE regress_victor LOGIN;
CREATE ROLE regress_gateway LOGIN PASSWORD 'gateway';
CREATE ROLE regress_web_user;
CREATE ROLE regress_shop;
GRANT regress_web_user TO regress_gateway;
SELECT count(stripe_portal_grant(r, 'customer')), count(stripe_portal_grant('regress_shop', 'app'))
FROM unnest('{regress_mallory,regress_victor,regress_web_user}'::regrole[]) AS r;
CREATE SCHEMA mallory AUTHORIZATION regress_mallory;
SELECT format('GRANT TEMPORARY, CREATE ON DATABASE %I TO regress_mallory', current_database()) \gexec

-- What there is to be had.
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT count(stripe_api('POST', '/v1/test_helpers/stand_in/customers', jsonb_build_object('id', 'cus_' || c, 'name', c, 'metadata', jsonb_build_object('user_id', c)))) AS customers,
       count(stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', jsonb_build_object('id', 'sub_' || c, 'customer', 'cus_' || c, 'price', 'price_1'))) AS subscriptions
FROM unnest('{m,v}'::text[]) AS c;
SELECT count(stripe_refresh('cus_' || c)) AS known FROM unnest('{m,v}'::text[]) AS c;
UPDATE stripe_portal.customer SET name = 'victor', email = 'victor@example.com' WHERE id = 'cus_v';
INSERT INTO stripe_portal.customer_role (role, livemode, customer) VALUES ('regress_mallory', false, 'cus_m'), ('regress_victor', false, 'cus_v');
INSERT INTO stripe_portal.cancellation (subscription, livemode, began_at, customer, comment)
VALUES ('sub_m', false, now(), 'cus_m', 'of mallory'), ('sub_v', false, now(), 'cus_v', 'of victor');
ANALYZE stripe_portal.cancellation;
INSERT INTO stripe_portal.event (id, livemode, type, created, payload, status, error, received_at)
VALUES ('evt_v', false, 'customer.updated', now(), '{"object": {"name": "victor"}}', 'failed', '22P02: invalid input "victor"', now());
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, active) VALUES ('rule', false, 'ended', 'message', 'x', '{{link}}', false);
INSERT INTO stripe_portal.winback_offer (id, rule, livemode, customer, episode, trigger_on, kind, at, state, due_at, expires_at, claimed_at, sent_at, lease, code)
SELECT format('00000000-0000-4000-8000-00000000000%s', n)::uuid, 'rule', false, customer, state, 'ended', 'message', now(), state, now(), 'infinity', sent_at, sent_at, gen_random_uuid(), code
FROM (VALUES (1, 'cus_v', 'sent', now(), 'VICTOR20'), (2, 'cus_m', 'sent', now(), 'MALLORY20'), (3, 'cus_m', 'held_out', NULL, NULL),
             (4, 'cus_v', 'planned', NULL, 'VICTOR30')) AS o (n, customer, state, sent_at, code);
SELECT substring(stripe_portal.winback_link('00000000-0000-4000-8000-000000000001', 'cus_v', false, '', 'infinity') FROM 't=(.*)') AS link_v,
       substring(stripe_portal.winback_link('00000000-0000-4000-8000-000000000002', 'cus_m', false, '', 'infinity') FROM 't=(.*)') AS link_m,
       substring(stripe_portal.winback_link('00000000-0000-4000-8000-000000000004', 'cus_v', false, '', 'infinity') FROM 't=(.*)') AS link_planned \gset
SELECT count(stripe_portal_session('cus_' || c, 'https://app.example.com/back?t={token}')) AS sessions FROM unnest('{v,m}'::text[]) AS c;
SELECT substring(r ->> 'body' FROM 't%3D([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)') AS return_v
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r
WHERE r ->> 'path' = '/v1/billing_portal/sessions' AND r ->> 'body' LIKE '%cus_v%' \gset
SELECT substring(r ->> 'body' FROM 't%3D([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)') AS return_m
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r
WHERE r ->> 'path' = '/v1/billing_portal/sessions' AND r ->> 'body' LIKE '%cus_m%' \gset
CREATE TABLE token AS SELECT :'link_v' AS link_v, :'link_m' AS link_m, :'link_planned' AS link_planned, :'return_v' AS return_v, :'return_m' AS return_m;
CREATE FUNCTION refused(link text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stripe_winback_open(link);
    RETURN false;
EXCEPTION WHEN SQLSTATE 'SPR01' THEN
    RETURN true;
END $$;
CREATE TABLE attempt AS
SELECT n, line, count(*) FILTER (WHERE line LIKE '= %') OVER (ORDER BY n) AS section
FROM regexp_split_to_table(pg_read_file(:'attempts'), '\n') WITH ORDINALITY AS t (line, n) WHERE line <> '';
GRANT SELECT ON token, attempt TO regress_mallory, regress_gateway, regress_shop;
GRANT EXECUTE ON FUNCTION refused TO regress_shop;
-- By Mallory: to be taken for somebody else, to open somebody else's portal, to
-- read, change or lock somebody else's rows, to get at tokens and offers, and to
-- stand in the way.  (Of messages that versions word differently, the SQLSTATE.)
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 1 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 2 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 3 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 4 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 5 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 6 AND line NOT LIKE '= %' ORDER BY n \gexec
SELECT line FROM public.attempt WHERE section = 7 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 8 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 9 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 10 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
-- By a user of the application, whose requests the gateway carries out as they
-- are: its sessions are for one user after the other.
\c -reuse-previous=on :as_gateway
SELECT line FROM public.attempt WHERE section = 11 AND line NOT LIKE '= %' ORDER BY n \gexec
-- By whoever comes to the application with a token that is not theirs, or not quite.
\c -reuse-previous=on :as_owner
SELECT line FROM public.attempt WHERE section = 12 AND line NOT LIKE '= %' ORDER BY n \gexec
-- ***************************************************************************
-- The same with the door open: as a superuser, believed like the gateway; and
-- customers who come by the gateway see all rows.
\c -reuse-previous=on :as_owner
SET client_min_messages = warning;
DROP SCHEMA mallory CASCADE;
CREATE SCHEMA mallory AUTHORIZATION regress_mallory;
ALTER ROLE regress_mallory SUPERUSER;
GRANT EXECUTE ON FUNCTION stripe_portal.all_customers TO regress_web_user;
SELECT for_all('stripe_portal.gateway_role', 'regress_mallory');
-- By Mallory: to be taken for somebody else, to open somebody else's portal, to
-- read, change or lock somebody else's rows, to get at tokens and offers, and to
-- stand in the way.  (Of messages that versions word differently, the SQLSTATE.)
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 1 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 2 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 3 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 4 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 5 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
SELECT line FROM public.attempt WHERE section = 6 AND line NOT LIKE '= %' ORDER BY n \gexec
SELECT line FROM public.attempt WHERE section = 7 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 8 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 9 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
\c -reuse-previous=on :as_mallory
\set VERBOSITY sqlstate
SELECT line FROM public.attempt WHERE section = 10 AND line NOT LIKE '= %' ORDER BY n \gexec
\set VERBOSITY terse
-- By a user of the application, whose requests the gateway carries out as they
-- are: its sessions are for one user after the other.
\c -reuse-previous=on :as_gateway
SELECT line FROM public.attempt WHERE section = 11 AND line NOT LIKE '= %' ORDER BY n \gexec
-- By whoever comes to the application with a token that is not theirs, or not quite.
\c -reuse-previous=on :as_owner
SELECT line FROM public.attempt WHERE section = 12 AND line NOT LIKE '= %' ORDER BY n \gexec
\c -reuse-previous=on :as_owner
SET client_min_messages = warning;
DROP SCHEMA mallory CASCADE;
DROP FUNCTION refused;
DROP TABLE token, attempt;
DROP OWNED BY regress_mallory, regress_victor, regress_gateway, regress_web_user, regress_shop;
DROP ROLE regress_mallory, regress_victor, regress_gateway, regress_web_user, regress_shop;
DELETE FROM stripe_portal.winback_offer;
DELETE FROM stripe_portal.winback_rule;
TRUNCATE stripe_portal.customer_role, stripe_portal.session, stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change,
    stripe_portal.product, stripe_portal.price, stripe_portal.cancellation, stripe_portal.event;
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
SELECT count(for_all('stripe_portal.' || name, NULL))
FROM unnest('{api_base,ca_file,api_key_file,webhook_secret_file,gateway_role,return_hosts,return_url,winback_url}'::text[]) AS name;
DROP FUNCTION for_all;
