-- Capabilities: each role can do what its capability stands for, and no more.
\set VERBOSITY terse
CREATE ROLE regress_app;
CREATE ROLE regress_webhook;
CREATE ROLE regress_reader;
CREATE ROLE "regress Operator";
CREATE ROLE regress_nobody;

-- Every function for users is in a capability, or for superusers only; so is
-- every table and view that is not here.  Put what you add into the list in
-- src/capability.sql, or here.
SELECT DISTINCT p.proname AS in_no_capability
FROM pg_proc AS p
JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
WHERE p.proname LIKE 'stripe\_%'
  AND p.proname NOT IN (SELECT object FROM stripe_portal.capability WHERE privilege = 'EXECUTE')
  AND p.proname NOT IN ('stripe_api', 'stripe_sign_webhook', 'stripe_portal_grant', 'stripe_portal_revoke', 'stripe_portal_map_users')
ORDER BY 1;
SELECT c.relname AS in_no_capability
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
  AND c.relname NOT IN (SELECT object FROM stripe_portal.capability WHERE privilege LIKE 'SELECT%')
  AND c.relname NOT IN ('event_handler', 'customer_role', 'user_mapping', 'looked_through', 'sync_kind', 'session_state', 'observed_change', 'churned', 'winback_case', 'winback_lift', 'winback_outbox')
ORDER BY 1;
-- and there is nothing in the list that is not in the extension
SELECT c.* FROM stripe_portal.capability AS c
WHERE CASE c.privilege WHEN 'EXECUTE' THEN NOT EXISTS (SELECT FROM stripe_portal.capability_target(c.privilege, c.object))
                       WHEN 'USAGE' THEN to_regnamespace(c.object) IS NULL
                       ELSE to_regclass('stripe_portal.' || c.object) IS NULL END;

-- Personal data and the contents of events are in none.
SELECT stripe_portal_grant('regress_reader', 'reader'), stripe_portal_grant('"regress Operator"', 'operator');
SELECT r.rolname, c.relname, a.attname
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped, pg_roles AS r
WHERE c.oid IN ('stripe_portal.customer'::regclass, 'stripe_portal.event'::regclass) AND r.rolname = 'regress_reader'
  AND NOT has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')
ORDER BY 2, 3;
-- ---------------------------------------------------------------------------
SELECT stripe_portal_grant('regress_app', 'app'), stripe_portal_grant('regress_webhook', 'webhook'), stripe_portal_grant('regress_webhook', 'webhook');
-- Nobody may write a table.
SELECT r.rolname, c.relname AS writable
FROM pg_class AS c, pg_roles AS r
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND r.rolname LIKE 'regress%'
  AND has_table_privilege(r.oid, c.oid, CASE c.relkind WHEN 'S' THEN 'UPDATE' ELSE 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER' END);

SELECT stripe_portal_grant('regress_app', 'root');
SELECT stripe_portal_grant('regress_app', NULL);
SELECT stripe_portal_grant(NULL, 'app');
SELECT stripe_portal_grant('public', 'app');

SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_1"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_1", "customer": "cus_1", "price": "price_1"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_2"}');
SELECT d ->> 'payload' AS payload, d ->> 'signature' AS signature
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d LIMIT 1 \gset

-- webhook
SET ROLE regress_webhook;
SELECT stripe_verify_webhook(:'payload', :'signature'), outcome FROM stripe_receive_webhook(:'payload', :'signature');
SELECT stripe_portal_session('cus_1');
SELECT count(*) FROM stripe_portal.event;
SELECT stripe_portal_grant('regress_webhook', 'operator');
RESET ROLE;

-- app
SET ROLE regress_app;
SELECT stripe_refresh('cus_1') > 0 AS read, stripe_is_active('cus_1');
SELECT stripe_portal_session('cus_1', 'https://app.example.com') LIKE 'http%' AS url;
SELECT * FROM stripe_portal_return('x');
CREATE TEMP TABLE export (customer_id text);
CREATE TRIGGER subscribers_only BEFORE INSERT ON export FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customer_id');
DROP TABLE export;
SELECT count(*) FROM stripe_portal.session;
SELECT stripe_api('GET', '/v1/customers');
CALL stripe_sync();
RESET ROLE;

-- reader: everything that it may select can be selected, and nothing is hidden
-- in it that would have to be granted as well
SET ROLE regress_reader;
DO $$
DECLARE
    readable record;
BEGIN
    FOR readable IN
        SELECT object, coalesce(substring(privilege FROM '\((.*)\)'), '*') AS columns
        FROM stripe_portal.capability WHERE capability = 'reader' AND privilege LIKE 'SELECT%'
    LOOP
        EXECUTE format('SELECT count(t) FROM (SELECT %s FROM stripe_portal.%I) AS t', readable.columns, readable.object);
    END LOOP;
END
$$;
SELECT id FROM stripe_portal.customer;
SELECT email FROM stripe_portal.customer;
SELECT id, status FROM stripe_portal.event;
SELECT payload FROM stripe_portal.event;
SELECT customer FROM stripe_subscriptions_at(now()) WHERE subscription = 'sub_1';
SELECT count(*) FROM stripe_mrr_bridge() WHERE currency = 'none';
SELECT stripe_subscription_at('sub_none', now()) IS NULL AS none;
SELECT count(*) FROM stripe_winback_lift();
SELECT * FROM stripe_winback_preview('none');
SELECT stripe_portal_session('cus_1');
CALL stripe_portal_tick();
RESET ROLE;

-- operator: all that is read from Stripe, and configurations
SET ROLE "regress Operator";
SET client_min_messages = warning;
CALL stripe_sync(dry_run => true);
CALL stripe_sync();
SELECT count(*) > 0 AS progress, bool_and(state = 'done') AS done FROM stripe_portal.sync_progress;
CALL stripe_catch_up();
CALL stripe_portal_tick();
SELECT part, state, error FROM stripe_portal.tick_status WHERE state <> 'done';
SELECT bool_and(repaired) IS NOT FALSE AS repaired FROM stripe_drift(repair => true);
SELECT count(*) FROM stripe_replay(type => 'customer.*');
SELECT * FROM stripe_resolve_thin('evt_none');
SELECT stripe_refresh_coupon('none'), stripe_refresh('cus_2') > 0 AS read;
SELECT count(*) FROM stripe_portal.event_failed;
SELECT stripe_portal_configure('standard', cancel_flows => true, plan_changes => false);
SELECT stripe_portal_configuration_apply('standard') LIKE 'bpc%' AS applied;
SELECT count(*) FROM stripe_portal_configuration_diff('standard');
SELECT count(*) FROM stripe_portal.configuration_drift;
SELECT count(*) FROM stripe_portal.advice;
-- no request of its own, nothing of the customers, no rule
SELECT stripe_api('GET', '/v1/customers');
SELECT id FROM stripe_portal.customer;
SELECT stripe_portal_session('cus_1');
UPDATE stripe_portal.access_rule SET allowed = true;
INSERT INTO stripe_portal.event_handler VALUES ('*', 'public.mine');
SELECT stripe_portal.apply_object('{}', false, '', now());
RESET client_min_messages;
RESET ROLE;
SELECT count(*) FROM stripe_portal.customer;

-- ---------------------------------------------------------------------------
-- What is taken back is gone, but for what another capability stands for too.
SELECT stripe_portal_grant('regress_app', 'reader'), stripe_portal_grant('regress_app', 'operator');
GRANT SELECT (email) ON stripe_portal.customer TO regress_app;
SELECT stripe_portal_revoke('regress_app', 'reader');
SET ROLE regress_app;
SELECT stripe_is_active('cus_1');
SELECT count(*) FROM stripe_portal.configuration;
SELECT count(email) FROM stripe_portal.customer;
SELECT id FROM stripe_portal.customer;
SELECT count(*) FROM stripe_portal.subscription;
RESET ROLE;
REVOKE SELECT (email) ON stripe_portal.customer FROM regress_app;
SELECT stripe_portal_revoke('regress_app', 'nothing');
-- Of two that have columns of the same tables, one is taken back and the other is
-- whole.  A right that was granted by hand is not the capability it is part of.
CREATE FUNCTION rights(role regrole) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT o.object, a.privilege_type, a.is_grantable
    FROM (SELECT proname, proacl FROM pg_proc UNION ALL SELECT relname, relacl FROM pg_class UNION ALL SELECT nspname, nspacl FROM pg_namespace
          UNION ALL SELECT c.relname || '.' || a.attname, a.attacl FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid) AS o (object, acl), aclexplode(o.acl) AS a
    WHERE a.grantee = role $$;
CREATE FUNCTION more(role regrole, than regrole, OUT object text, OUT privilege text, OUT is_grantable boolean) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT * FROM rights(role) AS r (object text, privilege text, is_grantable boolean)
    EXCEPT SELECT * FROM rights(than) AS r (object text, privilege text, is_grantable boolean) $$;
CREATE ROLE regress_both;
SELECT stripe_portal_grant('regress_both', 'customer'), stripe_portal_grant('regress_both', 'reader'), stripe_portal_grant('regress_nobody', 'customer');
GRANT EXECUTE ON FUNCTION stripe_drift TO regress_both;
SELECT stripe_portal_revoke('regress_both', 'reader');
SELECT * FROM more('regress_both', 'regress_nobody');
SELECT * FROM more('regress_nobody', 'regress_both');
SET ROLE regress_both;
SELECT id FROM stripe_portal.customer;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION stripe_drift FROM regress_both;
SELECT stripe_portal_grant('regress_both', 'reader'), stripe_portal_revoke('regress_both', 'customer');
SELECT * FROM more('regress_both', 'regress_reader');
SELECT * FROM more('regress_reader', 'regress_both');
SELECT stripe_portal_revoke('regress_both', 'reader'), stripe_portal_revoke('regress_nobody', 'customer');
DROP FUNCTION more, rights;
SELECT count(stripe_portal_revoke(r, c)) FROM unnest('{regress_app,regress_webhook,regress_reader,"\"regress Operator\"",regress_nobody}'::regrole[]) AS r,
    unnest('{app,webhook,reader,operator}'::text[]) AS c;
SELECT pg_describe_object(s.classid, s.objid, 0) AS left_over
FROM pg_shdepend AS s WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND s.refobjid IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'regress%');

DROP ROLE regress_app, regress_webhook, regress_reader, "regress Operator", regress_nobody, regress_both;
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
    stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.session, stripe_portal.configuration, stripe_portal.billing_portal_configuration,
    stripe_portal.sync_cursor, stripe_portal.event_cursor, stripe_portal.tick_run;
