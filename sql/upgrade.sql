-- From 1.0.0 to the current version: what is there afterwards is what a fresh
-- installation has, and the data is what it was.
--
-- If the comparison shows a difference, what was changed in src/*/schema*.sql
-- is missing in src/upgrade, or something was not dropped there.
\set VERBOSITY terse
SET client_min_messages = warning;
\set suite :DBNAME
\getenv source PG_ABS_SRCDIR
\set catalogue :source '/test/catalogue.sql'
\set contents :source '/test/contents.sql'
\set life :source '/test/life.sql'
CREATE DATABASE regress_fresh TEMPLATE template0;
CREATE DATABASE regress_upgrade TEMPLATE template0;
CREATE DATABASE regress_life TEMPLATE template0;

\c regress_fresh
CREATE SCHEMA "Odd Name";
CREATE EXTENSION stripe_portal SCHEMA "Odd Name";
SELECT array_agg(c.oid::regclass ORDER BY c.relname) AS seeded
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0 \gset
\echo :seeded
SELECT FROM stripe_portal.tend_ledger();
\o results/upgrade_fresh.txt
\set ECHO none
\i :catalogue
\set ECHO all
\o

\c regress_upgrade
SET client_min_messages = warning;
CREATE SCHEMA "Odd Name";
CREATE EXTENSION stripe_portal SCHEMA "Odd Name" VERSION '1.0.0';
SELECT FROM stripe_portal.tend_ledger();
CREATE VIEW c_function AS
SELECT p.prosrc AS symbol, p.proargtypes::regtype[] AS takes, p.prorettype::regtype AS returns, p.proretset AS rows
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang WHERE l.lanname = 'c' AND p.probin LIKE '%stripe_portal';
CREATE TABLE c_function_before AS SELECT * FROM c_function;
ALTER EXTENSION stripe_portal UPDATE;
\o results/upgrade_upgraded.txt
\set ECHO none
\i :catalogue
\set ECHO all
\o
\! diff results/upgrade_fresh.txt results/upgrade_upgraded.txt
-- Until the update, 1.0.0's functions call the new library: none may be taken for another.
SELECT * FROM (TABLE public.c_function_before EXCEPT TABLE public.c_function) AS other WHERE symbol IN (SELECT symbol FROM public.c_function);
-- there is something to compare, and all of it is known how to be
\! grep -c '^function stripe_portal\..*|definition|' results/upgrade_fresh.txt | sed 's/^[0-9][0-9][0-9]$/hundreds/'
\! grep '|not described|' results/upgrade_fresh.txt


-- ---------------------------------------------------------------------------
-- With a life in it.  What users changed in the seeded tables is theirs.
\c regress_life
SET client_min_messages = warning;
CREATE SCHEMA "Odd Name";
CREATE EXTENSION stripe_portal SCHEMA "Odd Name" VERSION '1.0.0';
SET search_path = "Odd Name", public;
\set ECHO none
\i :contents
\set ECHO all
CREATE TABLE seed AS SELECT * FROM contents();
UPDATE stripe_portal.access_rule SET allowed = true, grace = '3 days' WHERE flow = 'access' AND status = 'past_due';
UPDATE stripe_portal.decline_code SET class = 'soft', steps = '{call_issuer}' WHERE code = 'do_not_honor';
\set ECHO none
\o results/upgrade_life.txt
\i :life
\o
\set ECHO all
SELECT * FROM without_a_row;

-- What others have built on it, and what roles were given: by capability, and by hand.
CREATE TABLE export (customer text, what text);
CREATE TRIGGER subscribers_only BEFORE INSERT ON export FOR EACH ROW EXECUTE FUNCTION stripe_require_active('customer');
ALTER TABLE export ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON export USING (stripe_is_active(customer));
CREATE VIEW members AS SELECT s.* FROM stripe_portal.access AS a JOIN stripe_portal.subscription_item AS s ON s.subscription = a.subscription;
CREATE VIEW leavers AS SELECT * FROM stripe_portal.cancellation;
CREATE ROLE regress_stranger;
CREATE ROLE regress_app;
CREATE ROLE "regress Operator";
CREATE ROLE regress_mailer;
CREATE ROLE regress_reader;
CREATE ROLE regress_hand;
SELECT stripe_portal_grant('regress_app', 'app'), stripe_portal_grant('"regress Operator"', 'operator'),
    stripe_portal_grant('"regress Operator"', 'reader'), stripe_portal_grant('regress_mailer', 'mailer'),
    stripe_portal_grant('regress_reader', 'reader');
GRANT SELECT (error) ON stripe_portal.tick_run TO regress_reader;
GRANT SELECT ON stripe_portal.tick_status, stripe_portal.event_failed TO regress_hand;
GRANT EXECUTE ON FUNCTION stripe_receive_webhook(bytea, text, timestamptz), stripe_winback_claim TO regress_hand WITH GRANT OPTION;
GRANT SELECT (email) ON stripe_portal.customer TO regress_hand;
GRANT UPDATE ON stripe_portal.access_rule TO regress_hand;
GRANT EXECUTE ON FUNCTION stripe_is_active TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
-- as hosts of databases set them
CREATE ROLE regress_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_anon;

CREATE TABLE before AS SELECT * FROM contents();
CREATE VIEW rights AS
SELECT o.object, a.grantee::regrole, a.privilege_type, a.is_grantable
FROM (SELECT proname, proacl FROM pg_proc WHERE pronamespace IN ('"Odd Name"'::regnamespace, 'stripe_portal'::regnamespace)
      UNION ALL SELECT relname, relacl FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace
      UNION ALL SELECT c.relname || '.' || a.attname, a.attacl FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid WHERE c.relnamespace = 'stripe_portal'::regnamespace
      UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'stripe_portal') AS o (object, acl), aclexplode(o.acl) AS a
WHERE a.grantee::regrole::text LIKE '%regress%';
CREATE TABLE rights_before AS SELECT * FROM rights;
SELECT count(*) AS offers, (SELECT count(*) FROM handled) AS handled FROM stripe_portal.winback_offer \gset

ALTER EXTENSION stripe_portal UPDATE;
SELECT * FROM rights WHERE grantee = 'regress_anon'::regrole;
SELECT extversion = default_version AS current FROM pg_extension JOIN pg_available_extensions ON name = extname WHERE extname = 'stripe_portal';

-- Every row is there, with all that was in it.  (Only a seeded one that nobody
-- touched may say something else.)
CREATE TABLE after AS SELECT * FROM contents();
SELECT relation, content AS lost FROM (TABLE before EXCEPT ALL TABLE seed) AS b
WHERE NOT EXISTS (SELECT FROM after AS a WHERE a.relation = b.relation AND a.content @> b.content);
SELECT relation, b.count AS before, a.count AS after
FROM (SELECT relation, count(*) FROM before GROUP BY 1) AS b LEFT JOIN (SELECT relation, count(*) FROM after GROUP BY 1) AS a USING (relation)
WHERE a.count IS DISTINCT FROM b.count AND relation NOT IN (SELECT relation FROM seed WHERE NOT content ? 'is_called');
SELECT count(*) - :offers AS offers, (SELECT count(*) - :handled FROM handled) AS handled FROM stripe_portal.winback_offer;

-- Every right is there, but for what a capability does not stand for any more:
-- beyond that there is what was granted by hand.  PUBLIC has none.
SELECT * FROM (TABLE rights_before EXCEPT TABLE rights) AS lost ORDER BY grantee::text, object;
CREATE ROLE regress_fresh;
SELECT FROM stripe_portal_grant('regress_fresh', 'reader');
SELECT object, privilege_type AS more FROM rights WHERE grantee = 'regress_reader'::regrole
EXCEPT SELECT object, privilege_type FROM rights WHERE grantee = 'regress_fresh'::regrole;
SELECT p.oid::regprocedure AS open_function
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
WHERE has_function_privilege('regress_stranger', p.oid, 'EXECUTE');
SELECT c.oid::regclass AS open_table
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'v', 'p')
  AND (has_table_privilege('regress_stranger', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege('regress_stranger', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'));
-- who had a capability has it whole, with what is new in it
SELECT r.role, c.capability, c.object AS missing
FROM (VALUES ('regress_app', 'app'), ('regress Operator', 'operator'), ('regress Operator', 'reader'), ('regress_mailer', 'mailer'), ('regress_reader', 'reader')) AS r (role, capability)
JOIN stripe_portal.capability AS c USING (capability)
LEFT JOIN pg_proc AS p ON c.privilege = 'EXECUTE' AND p.proname = c.object
WHERE NOT CASE c.privilege WHEN 'EXECUTE' THEN has_function_privilege(r.role, p.oid, 'EXECUTE')
                           WHEN 'USAGE' THEN has_schema_privilege(r.role, c.object, 'USAGE')
                           WHEN 'SELECT' THEN has_table_privilege(r.role, 'stripe_portal.' || c.object, 'SELECT')
                           ELSE has_any_column_privilege(r.role, 'stripe_portal.' || c.object, 'SELECT') END;
-- and who had none has nothing that is new
SELECT * FROM (SELECT * FROM rights WHERE grantee = 'regress_hand'::regrole EXCEPT TABLE rights_before) AS gained;
-- all of them will be in a dump: none is the extension's own
SELECT i.objoid, i.classoid::regclass, a.grantee::regrole AS not_dumped
FROM pg_init_privs AS i, aclexplode(i.initprivs) AS a WHERE a.grantee::regrole::text LIKE '%regress%';

-- The events again change nothing, and life goes on.  (Only of where customers
-- were the ledger knows more than 1.0.0 kept.)
SELECT DISTINCT r.outcome FROM stripe_portal.event AS e, stripe_replay(e.id, e.livemode) AS r WHERE e.status = 'applied';
SELECT relation, content AS changed FROM (SELECT * FROM contents() EXCEPT TABLE after) AS c WHERE relation NOT LIKE 'stripe_portal.event_%' AND relation <> 'stripe_portal.customer_country';
SELECT FROM stripe_portal_open('cus_cleo');
SELECT FROM stripe_portal.session AS s, stand_in('visit', jsonb_build_object('session', s.stripe_id, 'action', 'cancel', 'feedback', 'unused')) WHERE s.customer = 'cus_cleo';
SELECT * FROM deliver();
SELECT customer, feedback FROM leavers ORDER BY 1;
CALL stripe_portal_tick();
SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done';
SELECT customer, rule, state FROM stripe_portal.winback_offer WHERE customer = 'cus_cleo';
SELECT customer FROM stripe_winback_claim(10) AS c, stripe_winback_sent(c.offer, c.lease) AS sent WHERE sent ORDER BY 1;
SELECT FROM deliver();
SELECT kind, id, classification FROM stripe_drift();
SELECT stripe_portal_configuration_apply('standard') LIKE 'bpc%' AS applied;
SELECT length(stripe_churn_report()) > 10000 AS report;
INSERT INTO export VALUES ('cus_cleo', 'letters');
INSERT INTO export VALUES ('cus_emil', 'letters');

DROP EXTENSION stripe_portal CASCADE;
SELECT count(*) AS left_over FROM pg_class WHERE relname LIKE 'event\_%' OR relname LIKE 'upgrade%';

-- A fresh installation gives such roles nothing, either.
CREATE EXTENSION stripe_portal SCHEMA "Odd Name";
SELECT p.proname AS open FROM pg_proc AS p
WHERE p.pronamespace IN ('"Odd Name"'::regnamespace, 'stripe_portal'::regnamespace)
  AND EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
  AND has_function_privilege('regress_anon', p.oid, 'EXECUTE')
UNION ALL SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'v', 'p', 'S')
  AND has_table_privilege('regress_anon', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
UNION ALL SELECT 'stripe_portal' WHERE has_schema_privilege('regress_anon', 'stripe_portal', 'USAGE, CREATE');

\c :suite
DROP DATABASE regress_fresh;
DROP DATABASE regress_upgrade;
DROP DATABASE regress_life;
DROP ROLE regress_stranger, regress_app, "regress Operator", regress_mailer, regress_reader, regress_fresh, regress_hand, regress_anon;
