-- Who may do what: PUBLIC nothing at all; everything else is granted.
\set VERBOSITY terse
CREATE ROLE regress_stranger;
CREATE ROLE regress_app;
CREATE ROLE regress_webhook;

-- Not one function, table or schema of the extension is open to PUBLIC.
SELECT p.oid::regprocedure AS open_function
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
WHERE has_function_privilege('regress_stranger', p.oid, 'EXECUTE');
SELECT c.oid::regclass AS open_table
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'v', 'p', 'S')
  AND (has_table_privilege('regress_stranger', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege('regress_stranger', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'));
SELECT has_schema_privilege('regress_stranger', 'stripe_portal', 'USAGE, CREATE') AS open_schema;

-- Whatever runs with the owner's rights has its search path pinned; and so
-- has everything that is not a single expression with all names resolved, but
-- for procedures: with a setting they could not commit, and they run as the
-- caller; and but for what only pinned functions call, for every event.
SELECT p.oid::regprocedure AS unpinned
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
JOIN pg_language AS l ON l.oid = p.prolang
WHERE (p.prosecdef OR l.lanname = 'plpgsql' OR (l.lanname = 'sql' AND p.prosqlbody IS NULL))
  AND NOT (p.prokind = 'p' AND NOT p.prosecdef)
  AND NOT (p.proname IN ('write_row', 'tells_news') AND NOT p.prosecdef)
  AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}'));
SELECT p.oid::regprocedure AS runs_as_owner
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
WHERE p.prosecdef
ORDER BY p.oid::regprocedure::text;

-- A role with EXECUTE on one function can do that, and only that.
GRANT EXECUTE ON FUNCTION stripe_portal_session, stripe_portal_open, stripe_portal_return, stripe_is_active TO regress_app;
GRANT EXECUTE ON FUNCTION stripe_receive_webhook(text, text, timestamptz), stripe_webhook TO regress_webhook;
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_1"}');
SELECT d ->> 'payload' AS payload, d ->> 'signature' AS signature
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d LIMIT 1 \gset

SET ROLE regress_webhook;
SELECT outcome FROM stripe_receive_webhook(:'payload', :'signature');
SELECT count(*) FROM stripe_portal.event;
SELECT stripe_portal_session('cus_1');
SELECT stripe_api('GET', '/v1/customers');
SELECT stripe_replay('evt_1');
RESET ROLE;

SET ROLE regress_app;
SELECT stripe_is_active('cus_1');
SELECT session IS NOT NULL AS session, refused FROM stripe_portal_open('cus_1', 'https://app.example.com');
SELECT stripe_receive_webhook('x', 'y', NULL);
SELECT stripe_api('GET', '/v1/customers');
SELECT count(*) FROM stripe_portal.session;
INSERT INTO stripe_portal.access_rule VALUES ('portal', 'canceled', true);
-- and what decides where the key goes is not for them either
SET stripe_portal.api_base = 'https://evil.example';
SET stripe_portal.ca_file = '/tmp/ca.pem';
SET stripe_portal.api_key_file = '/etc/passwd';
SET stripe_portal.api_key = 'sk_test_mine';
SET stripe_portal.webhook_secret_file = '/etc/passwd';
SET stripe_portal.webhook_secret = 'whsec_mine';
SET stripe_portal.tolerance = 86400;
SET stripe_portal.return_hosts = '';
SET stripe_portal.return_url = 'https://evil.example';
-- (PostgreSQL words it differently from version to version.)
\set VERBOSITY sqlstate
SHOW stripe_portal.api_key;
SHOW stripe_portal.webhook_secret;
\set VERBOSITY terse
RESET ROLE;
SELECT customer, refused, opened_by FROM stripe_portal.session WHERE customer = 'cus_1';

-- To read these views, it takes SELECT on them, and the right to see all customers.
CREATE ROLE regress_analyst;
GRANT USAGE ON SCHEMA stripe_portal TO regress_analyst;
GRANT SELECT ON stripe_portal.subscription, stripe_portal.subscription_item,
    stripe_portal.session_unreturned, stripe_portal.change_unexplained TO regress_analyst;
GRANT EXECUTE ON FUNCTION stripe_mrr_bridge, stripe_retention, stripe_churn, stripe_churn_rate, stripe_uncancel_rate,
    stripe_cancel_comments, stripe_decline_report, stripe_decline_recovery, stripe_decline_wasted,
    stripe_decline_curable, stripe_at_risk, stripe_churn_leak, stripe_churn_report, stripe_amount TO regress_analyst;
SET ROLE regress_analyst;
SELECT count(*) FROM stripe_portal.session_unreturned;
SELECT count(*) FROM stripe_portal.subscription;
RESET ROLE;
GRANT EXECUTE ON FUNCTION stripe_portal.all_customers TO regress_analyst;
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
VALUES ('sub_1', false, 'cus_9', 'active', '[{"id": "si_1", "current_period_end": 1700000000}]', 'evt_1', now());
SET ROLE regress_analyst;
SELECT id, extract(epoch FROM current_period_end) AS current_period_end FROM stripe_portal.subscription_item;
SELECT count(*) AS unreturned FROM stripe_portal.session_unreturned;
SELECT count(*) AS unexplained FROM stripe_portal.change_unexplained;
-- and to run the reports, without any right on the tables behind them
SELECT count(*) AS reports FROM (
    SELECT count(*) FROM stripe_mrr_bridge()
    UNION ALL SELECT count(*) FROM stripe_retention()
    UNION ALL SELECT count(*) FROM stripe_churn('plan')
    UNION ALL SELECT count(*) FROM stripe_churn_rate()
    UNION ALL SELECT count(*) FROM stripe_uncancel_rate()
    UNION ALL SELECT count(*) FROM stripe_cancel_comments('a')
    UNION ALL SELECT count(*) FROM stripe_decline_report()
    UNION ALL SELECT count(*) FROM stripe_decline_recovery()
    UNION ALL SELECT count(*) FROM stripe_decline_wasted()
    UNION ALL SELECT count(*) FROM stripe_decline_curable()
    UNION ALL SELECT count(*) FROM stripe_at_risk()
    UNION ALL SELECT count(*) FROM stripe_churn_leak()) AS r;
SELECT stripe_churn_report() LIKE '<!DOCTYPE html>%' AS page, stripe_amount(123456, 'usd') AS amount;
SELECT count(*) FROM stripe_portal.event;
SELECT count(*) FROM stripe_portal.payment_failure;
RESET ROLE;
DROP OWNED BY regress_analyst;
DROP ROLE regress_analyst;

-- A worker that sends win-back messages, and the page that their links lead to.
CREATE ROLE regress_worker;
CREATE ROLE regress_page;
GRANT EXECUTE ON FUNCTION stripe_winback_claim, stripe_winback_sent, stripe_winback_failed TO regress_worker;
GRANT EXECUTE ON FUNCTION stripe_winback_open TO regress_page;
SET ROLE regress_worker;
LISTEN stripe_winback;
SELECT count(*) FROM stripe_winback_claim(1);
SELECT stripe_winback_sent(gen_random_uuid(), gen_random_uuid()), stripe_winback_failed(gen_random_uuid(), gen_random_uuid(), 'x');
SELECT stripe_winback_open('x');
SELECT count(*) FROM stripe_portal.winback_offer;
SELECT stripe_portal.winback_link(gen_random_uuid(), 'cus_1', false, '', 'infinity');
SET stripe_portal.winback_url = 'https://evil.example/{token}';
UNLISTEN *;
SET ROLE regress_page;
SELECT stripe_winback_open('x');
SELECT count(*) FROM stripe_winback_claim(1);
SELECT stripe_portal_session('cus_1');
RESET ROLE;
DROP OWNED BY regress_worker, regress_page;
DROP ROLE regress_worker, regress_page;

-- Before the library is loaded a setting is a mere placeholder, which anybody
-- can set; loading it puts that right.
\c -
\set VERBOSITY terse
SET ROLE regress_app;
SET stripe_portal.api_base = 'https://evil.example';
SET stripe_portal.return_hosts = 'evil.example';
SET stripe_portal.webhook_secret = 'whsec_mine';
SELECT stripe_is_active('cus_1');
SELECT current_setting('stripe_portal.api_base') LIKE '%evil%' AS base, current_setting('stripe_portal.return_hosts') AS hosts;
RESET ROLE;
SHOW stripe_portal.webhook_secret;

-- A hostile search path finds nothing to hook into.
CREATE SCHEMA hostile AUTHORIZATION regress_app;
GRANT CREATE, TEMPORARY ON DATABASE :DBNAME TO regress_app;
SET ROLE regress_app;
CREATE FUNCTION hostile.to_timestamp(double precision) RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
CREATE FUNCTION hostile.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
CREATE FUNCTION hostile.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE TEMP TABLE subscription (id text, status text);
CREATE TEMP TABLE access_rule (flow text, status text, allowed boolean);
SET search_path = hostile, pg_temp, pg_catalog, public;
SELECT stripe_is_active('cus_1'), stripe_is_active('cus_1', 'portal');
SELECT refused FROM stripe_portal_open('cus_1', 'https://app.example.com');
RESET search_path;
RESET ROLE;

-- Nor does a hostile overload, of whoever may create functions where those of
-- the extension are: in old databases that is everybody.
GRANT CREATE ON SCHEMA public TO regress_app;
GRANT EXECUTE ON FUNCTION stripe_webhook, stripe_portal_configuration_apply TO regress_app;
SELECT FROM stripe_portal_configure('attacked', true, false);
SET ROLE regress_app;
CREATE FUNCTION public.stripe_api(text, text, text, text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
CREATE FUNCTION public.stripe_api(text, text, jsonb, text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
CREATE FUNCTION public.stripe_receive_webhook(text, text) RETURNS record LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
CREATE FUNCTION public.stripe_resolve_thin(text, text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked by %', current_user; END $$;
SELECT stripe_portal_configuration_apply('attacked') LIKE 'bpc_%' AS applied;
SELECT stripe_webhook(:'payload'::json) -> 'error' AS error;
RESET ROLE;
DELETE FROM stripe_portal.configuration;
TRUNCATE stripe_portal.billing_portal_configuration;
REVOKE CREATE ON SCHEMA public FROM regress_app;

REVOKE ALL ON DATABASE :DBNAME FROM regress_app;
DROP OWNED BY regress_app, regress_webhook;
DROP ROLE regress_stranger, regress_app, regress_webhook;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.subscription, stripe_portal.session;
