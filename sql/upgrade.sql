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
CREATE DATABASE regress_fresh TEMPLATE template0;
CREATE DATABASE regress_upgrade TEMPLATE template0;

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
ALTER EXTENSION stripe_portal UPDATE;
\o results/upgrade_upgraded.txt
\set ECHO none
\i :catalogue
\set ECHO all
\o
\! diff results/upgrade_fresh.txt results/upgrade_upgraded.txt
-- there is something to compare, and all of it is known how to be
\! grep -c '^function stripe_portal\..*|definition|' results/upgrade_fresh.txt | sed 's/^[0-9][0-9][0-9]$/hundreds/'
\! grep '|not described|' results/upgrade_fresh.txt

\c :suite
DROP DATABASE regress_fresh;
DROP DATABASE regress_upgrade;
