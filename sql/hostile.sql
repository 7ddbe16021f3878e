-- A search path, temporary objects, functions, operators and a schema of
-- somebody hostile: nothing of the extension runs any of it with more rights
-- than theirs.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = error;
-- Nothing is left of other tests.
DO $$
BEGIN
    EXECUTE (SELECT 'TRUNCATE ' || string_agg(c.oid::regclass::text, ', ') FROM pg_class AS c
             WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND c.relname NOT IN ('access_rule', 'decline_code'));
END $$;
\set suite :DBNAME
CREATE ROLE regress_mallory;
CREATE SCHEMA hostile AUTHORIZATION regress_mallory;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
SELECT count(stripe_portal_grant('regress_mallory', c)) AS capabilities
FROM (SELECT DISTINCT capability FROM stripe_portal.capability) AS k (c);
SELECT format('GRANT CREATE, TEMPORARY ON DATABASE %I TO regress_mallory', current_database()) \gexec

-- The functions and operators of the server that are about common types, once
-- more; each says who ran it.  And a temporary table for each table there is.
CREATE FUNCTION public.make_shadows(OUT functions bigint, OUT operators bigint, OUT tables bigint) LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    shadow record;
    common CONSTANT oid[] := '{text,jsonb,json,boolean,integer,bigint,numeric,timestamptz,interval,date,name,float8,uuid,bytea,text[],oid,regclass,daterange}'::regtype[]::oid[];
BEGIN
    functions := 0;
    operators := 0;
    tables := 0;
    FOR shadow IN
        SELECT p.proname, (SELECT string_agg(a::regtype::text, ', ') FROM unnest(p.proargtypes) AS a) AS arguments, p.prorettype::regtype AS result, p.proretset
        FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
          AND p.proargtypes::oid[] <@ common AND p.pronargs BETWEEN 1 AND 4 AND p.prorettype = ANY (common)
    LOOP
        EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS %L', shadow.proname, shadow.arguments,
                       CASE WHEN shadow.proretset THEN 'SETOF ' END, shadow.result,
                       format('BEGIN RAISE EXCEPTION %L, CASE WHEN current_user OPERATOR(pg_catalog.=) ''regress_mallory'' THEN ''herself'' ELSE ''somebody else'' END; END',
                              shadow.proname || ' is hijacked, and run by %'));
        functions := functions + 1;
    END LOOP;
    FOR shadow IN
        SELECT o.oprname, p.proname, o.oprleft::regtype AS left, o.oprright::regtype AS right
        FROM pg_operator AS o JOIN pg_proc AS p ON p.oid = o.oprcode
        WHERE o.oprleft = ANY (common) AND o.oprright = ANY (common)
          AND to_regprocedure(format('hostile.%I(%s, %s)', p.proname, o.oprleft::regtype, o.oprright::regtype)) IS NOT NULL
    LOOP
        EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.%I)', shadow.oprname, shadow.left, shadow.right, shadow.proname);
        operators := operators + 1;
    END LOOP;
    FOR shadow IN
        SELECT DISTINCT c.relname AS name FROM pg_class AS c
        WHERE c.relnamespace IN ('pg_catalog'::regnamespace, to_regnamespace('stripe_portal')) AND c.relkind IN ('r', 'v', 'p')
    LOOP
        EXECUTE format('CREATE TEMPORARY TABLE %I (id text, livemode boolean, account text, customer text)', shadow.name);
        tables := tables + 1;
    END LOOP;
END $$;
SET ROLE regress_mallory;
SELECT functions > 500 AS functions, operators > 200 AS operators, tables > 100 AS tables FROM public.make_shadows();
RESET ROLE;

-- It works: on what is hers, and on what does not see to it.
CREATE FUNCTION unpinned() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN upper('a'); END $$;
SET ROLE regress_mallory;
SET search_path = hostile, pg_temp, pg_catalog, public;
SELECT 1 + 1;
SELECT unpinned();
RESET search_path;
RESET ROLE;
DROP FUNCTION unpinned;

-- What roles with capabilities call.
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_1"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_1", "customer": "cus_1", "price": "price_1"}');
SELECT d ->> 'payload' AS payload, d ->> 'signature' AS signature
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d WHERE d ->> 'payload' LIKE '%customer.subscription.created%' LIMIT 1 \gset
INSERT INTO stripe_portal.customer_role (role, livemode, customer) VALUES (session_user, false, 'cus_1');
SET ROLE regress_mallory;
SET search_path = hostile, pg_temp, pg_catalog, public;
SELECT count(x) FROM stripe_verify_webhook(:'payload', :'signature') AS x;
SELECT count(x.outcome) FROM stripe_receive_webhook(:'payload', :'signature') AS x;
SELECT count(x) FROM stripe_webhook(:'payload') AS x;
SELECT count(x) FROM stripe_refresh('cus_1') AS x;
SELECT count(x) FROM stripe_is_active('cus_1') AS x;
SELECT count(x) FROM stripe_portal_session('cus_1', 'https://app.example.com/?t={token}') AS x;
SELECT count(x.session) FROM stripe_portal_open('cus_1', 'https://app.example.com', 'subscription_cancel') AS x;
SELECT count(x) FROM stripe_my_portal_session('https://app.example.com') AS x;
SELECT count(x) FROM stripe_portal_return('x') AS x;
SELECT count(x) FROM stripe_winback_open('x') AS x;
SELECT count(x) FROM stripe_winback_claim(1) AS x;
SELECT count(x) FROM stripe_winback_sent('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000001') AS x;
SELECT count(x) FROM stripe_winback_failed('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000001', 'x') AS x;
SELECT count(x) FROM stripe_portal_configure('hostile', true, false) AS x;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal_configuration_diff('hostile') AS x;
SELECT count(x) FROM stripe_portal_configuration_apply('hostile') AS x;
SELECT count(*) IS NOT NULL AS ran FROM stripe_mrr_bridge();
SELECT count(*) IS NOT NULL AS ran FROM stripe_churn('plan');
SELECT count(*) IS NOT NULL AS ran FROM stripe_churn_rate();
SELECT count(*) IS NOT NULL AS ran FROM stripe_churn_leak();
SELECT count(*) IS NOT NULL AS ran FROM stripe_retention();
SELECT count(*) IS NOT NULL AS ran FROM stripe_uncancel_rate();
SELECT count(*) IS NOT NULL AS ran FROM stripe_cancel_comments('a');
SELECT count(*) IS NOT NULL AS ran FROM stripe_decline_report();
SELECT count(*) IS NOT NULL AS ran FROM stripe_decline_recovery();
SELECT count(*) IS NOT NULL AS ran FROM stripe_decline_wasted();
SELECT count(*) IS NOT NULL AS ran FROM stripe_decline_curable();
SELECT count(*) IS NOT NULL AS ran FROM stripe_at_risk();
SELECT count(x) FROM stripe_churn_report() AS x;
SELECT count(x) FROM stripe_amount(100, 'usd') AS x;
SELECT count(*) IS NOT NULL AS ran FROM stripe_subscriptions_at('2026-01-01');
SELECT count(*) IS NOT NULL AS ran FROM stripe_winback_lift();
SELECT count(x.outcome) FROM stripe_replay('evt_none') AS x;
SELECT count(*) IS NOT NULL AS ran FROM stripe_replay(failed_only => false);
SELECT count(*) IS NOT NULL AS ran FROM stripe_resolve_thin('evt_none');
SELECT count(x) FROM stripe_refresh_coupon('none') AS x;
SELECT count(*) IS NOT NULL AS ran FROM stripe_drift(true);
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.retry_failed();
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.tend_ledger();
SELECT count(x) FROM stripe_portal.tick_portion('refetch', NULL) AS x;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.subscription;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.access;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.payment_failure;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.session_unreturned;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.change_unexplained;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.event_failed;
SELECT count(*) IS NOT NULL AS ran FROM stripe_portal.advice;
-- procedures commit, and so can have no search path of their own: they run as
-- their caller, in the caller's
CALL stripe_portal_tick();
RESET ROLE;

-- What a superuser calls, in whose search path somebody else may create things.
SET search_path = public, hostile;
CALL stripe_sync();
CALL stripe_catch_up();
CALL stripe_portal_tick();
SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done';
SELECT count(*) IS NOT NULL AS ran FROM stripe_drift(repair => true);
SELECT count(stripe_portal_map_users('none'));
SELECT count(stripe_portal_map_users());
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, active) VALUES ('hostile', false, 'ended', 'message', 'x', 'y', true);
SELECT count(*) IS NOT NULL AS ran FROM stripe_winback_preview('hostile');
SELECT stripe_portal_revoke('regress_mallory', 'mailer'), stripe_portal_grant('regress_mallory', 'mailer');
RESET search_path;
TRUNCATE stripe_portal.customer_role;

-- ---------------------------------------------------------------------------
-- A schema for the functions that belongs to somebody hostile, who was there
-- before the extension, and before its upgrade.
SELECT pg_get_functiondef('public.make_shadows'::regproc) AS make_shadows \gset
CREATE DATABASE regress_hostile TEMPLATE template0;
\c regress_hostile
SET client_min_messages = error;
CREATE SCHEMA hostile AUTHORIZATION regress_mallory;
SELECT format('GRANT TEMPORARY ON DATABASE %I TO regress_mallory', current_database()) \gexec
:make_shadows;
SET ROLE regress_mallory;
SELECT functions > 500 AS functions, operators > 200 AS operators FROM public.make_shadows();
RESET ROLE;
SET search_path = hostile, public;
CREATE EXTENSION stripe_portal SCHEMA hostile VERSION '1.0.0';
ALTER EXTENSION stripe_portal UPDATE;
-- what is there now, she can not change; what she adds, nobody calls
SET ROLE regress_mallory;
RESET search_path;
CREATE OR REPLACE FUNCTION hostile.stripe_amount(numeric, text) RETURNS numeric LANGUAGE sql AS 'SELECT 0.0';
ALTER FUNCTION hostile.stripe_is_active(text, text, text, boolean) RENAME TO other;
ALTER FUNCTION hostile.stripe_is_active(text, text, text, boolean) RESET ALL;
DROP FUNCTION hostile.stripe_is_active(text, text, text, boolean);
GRANT EXECUTE ON FUNCTION hostile.stripe_api(text, text, jsonb, text, text) TO regress_mallory;
SELECT hostile.stripe_api('GET', '/v1/customers');
CREATE FUNCTION hostile.stripe_api(text, text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_api is hijacked'; END $$;
CREATE FUNCTION hostile.stripe_api(text, text, text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_api is hijacked'; END $$;
CREATE FUNCTION hostile.stripe_mrr_bridge(text, text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_mrr_bridge is hijacked'; END $$;
CREATE FUNCTION hostile.stripe_amount(bigint, text) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_amount is hijacked'; END $$;
CREATE FUNCTION hostile.stripe_amount(integer, text) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_amount is hijacked'; END $$;
CREATE FUNCTION hostile.stripe_resolve_thin(text, text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_resolve_thin is hijacked'; END $$;
CREATE FUNCTION hostile.stripe_replay(text, text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'stripe_replay is hijacked'; END $$;
RESET ROLE;
CALL hostile.stripe_sync();
CALL hostile.stripe_catch_up();
CALL hostile.stripe_portal_tick();
SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done';
SELECT count(x) FROM hostile.stripe_churn_report() AS x;
SELECT count(*) IS NOT NULL AS ran FROM hostile.stripe_churn_leak();
SELECT count(*) IS NOT NULL AS ran FROM hostile.stripe_drift(repair => true);
SELECT count(hostile.stripe_portal_configure('hostile', true, false)), count(hostile.stripe_portal_configuration_apply('hostile'));
SELECT count(hostile.stripe_portal_session('cus_1', 'https://app.example.com')), count(hostile.stripe_portal_grant('regress_mallory', 'reader'));
-- The owner of the schema puts another in its place, with functions of her own.
SELECT format('GRANT CREATE ON DATABASE %I TO regress_mallory', current_database()) \gexec
SET ROLE regress_mallory;
ALTER SCHEMA hostile RENAME TO aside;
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
SET search_path = pg_catalog, pg_temp;
DO $$
DECLARE
    function record;
BEGIN
    FOR function IN
        SELECT p.oid, p.proname, p.prokind FROM pg_proc AS p
        WHERE p.pronamespace = 'aside'::regnamespace AND p.prorettype <> 'trigger'::regtype
          AND EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('CREATE %s hostile.%I(%s)%s LANGUAGE plpgsql AS %L', CASE function.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
                       function.proname, pg_get_function_arguments(function.oid), ' RETURNS ' || pg_get_function_result(function.oid),
                       format('BEGIN RAISE %L; END', function.proname || ' is hijacked'));
    END LOOP;
END $$;
SELECT count(*) > 40 AS functions FROM pg_proc WHERE pronamespace = 'hostile'::regnamespace;
RESET search_path;
RESET ROLE;
CREATE ROLE regress_analyst;
SELECT aside.stripe_portal_grant('regress_analyst', 'reader'), aside.stripe_portal_grant('regress_analyst', 'customer'), aside.stripe_portal_revoke('regress_analyst', 'customer');
SELECT count(x) FROM aside.stripe_churn_report() AS x;
SELECT count(*) IS NOT NULL AS ran FROM aside.stripe_churn_leak();
SELECT count(*) IS NOT NULL AS ran FROM aside.stripe_churn_rate();
SELECT stripe_portal.money(123456, 'kwd'), stripe_portal.money_short(123456, 'kwd');
CALL aside.stripe_portal_tick();
SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done';
DROP OWNED BY regress_analyst;
DROP ROLE regress_analyst;
ALTER SCHEMA hostile RENAME TO hers;
ALTER SCHEMA aside RENAME TO hostile;
-- All that she can do is what any owner of a schema can: be rid of it.
BEGIN;
SET LOCAL ROLE regress_mallory;
DROP SCHEMA hostile CASCADE;
SELECT count(*) AS extensions FROM pg_catalog.pg_extension WHERE extname = 'stripe_portal';
ROLLBACK;

\c :suite
SET client_min_messages = error;
DROP DATABASE regress_hostile;
DROP FUNCTION public.make_shadows;
DROP SCHEMA hostile CASCADE;
SELECT format('REVOKE ALL ON DATABASE %I FROM regress_mallory', current_database()) \gexec
DROP OWNED BY regress_mallory;
DROP ROLE regress_mallory;
DELETE FROM stripe_portal.winback_offer;
DELETE FROM stripe_portal.winback_rule;
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.session,
    stripe_portal.configuration, stripe_portal.billing_portal_configuration, stripe_portal.product, stripe_portal.price, stripe_portal.invoice,
    stripe_portal.payment_intent, stripe_portal.payment_method, stripe_portal.sync_cursor, stripe_portal.event_cursor, stripe_portal.tick_run;
