-- The extension goes into any schema, brings a schema of its own for its
-- tables, and leaves nothing behind.
\set VERBOSITY terse
SET client_min_messages = warning;

CREATE TABLE before AS
SELECT 'proc' AS kind, p.oid::regprocedure::text AS name FROM pg_proc AS p
UNION ALL SELECT 'class', c.oid::regclass::text FROM pg_class AS c
UNION ALL SELECT 'type', t.oid::regtype::text FROM pg_type AS t
UNION ALL SELECT 'schema', n.nspname FROM pg_namespace AS n
UNION ALL SELECT 'trigger', tgname FROM pg_trigger;

CREATE SCHEMA "Odd Name";
CREATE EXTENSION stripe_portal SCHEMA "Odd Name";
SELECT "Odd Name".stripe_is_active('cus_nobody') AS active;

-- the public functions are where they were asked for, nothing else is
SELECT n.nspname AS schema, count(*) FILTER (WHERE p.proname LIKE 'stripe\_%') > 0 AS public,
       count(*) FILTER (WHERE p.proname NOT LIKE 'stripe\_%') AS internal
FROM pg_depend AS d
JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
WHERE e.extname = 'stripe_portal' AND n.nspname = 'Odd Name'
GROUP BY 1;

-- whom a capability is given can use them there, and nobody else
CREATE ROLE regress_installed;
SELECT "Odd Name".stripe_portal_grant('regress_installed', 'app');
SET ROLE regress_installed;
SELECT "Odd Name".stripe_is_active('cus_nobody') AS active;
SELECT "Odd Name".stripe_drift();
RESET ROLE;
DROP OWNED BY regress_installed;
DROP ROLE regress_installed;

-- one version, from the control file
SELECT e.extversion = a.default_version AS version_is_the_control_files, e.extrelocatable
FROM pg_extension AS e JOIN pg_available_extensions AS a ON a.name = e.extname
WHERE e.extname = 'stripe_portal';

-- every object says what it is
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
FROM pg_depend AS d
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
WHERE e.extname = 'stripe_portal' AND d.deptype = 'e'
  AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass)
  AND obj_description(d.objid, d.classid::regclass::name) IS NULL
ORDER BY 1;

-- every table is in the dump
SELECT c.relname AS not_dumped
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace, pg_extension AS e
WHERE n.nspname = 'stripe_portal' AND c.relkind IN ('r', 'p', 'S')
  AND e.extname = 'stripe_portal' AND NOT c.oid = ANY (e.extconfig);

-- and refers to no other: pg_restore's jobs copy them at once
SELECT conrelid::regclass, conname AS foreign_key
FROM pg_constraint
WHERE connamespace = 'stripe_portal'::regnamespace AND contype = 'f';

DROP EXTENSION stripe_portal;
DROP SCHEMA "Odd Name";

SELECT 'proc' AS kind, p.oid::regprocedure::text AS left_behind FROM pg_proc AS p
UNION ALL SELECT 'class', c.oid::regclass::text FROM pg_class AS c
UNION ALL SELECT 'type', t.oid::regtype::text FROM pg_type AS t
UNION ALL SELECT 'schema', n.nspname FROM pg_namespace AS n
UNION ALL SELECT 'trigger', tgname FROM pg_trigger
EXCEPT SELECT * FROM before
EXCEPT SELECT * FROM (VALUES ('class', 'before'), ('type', 'before'), ('type', 'before[]'),
    ('class', (SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'before'::regclass)),
    ('class', (SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid =
               (SELECT reltoastrelid FROM pg_class WHERE oid = 'before'::regclass)))) AS own;
DROP TABLE before;

-- the schema of the tables is made by the extension, and only by it
CREATE SCHEMA stripe_portal;
CREATE EXTENSION stripe_portal;
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE EXTENSION stripe_portal SCHEMA stripe_portal;
\set VERBOSITY terse
DROP SCHEMA stripe_portal;

-- for the other tests
CREATE EXTENSION stripe_portal;
