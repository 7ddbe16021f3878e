-- What REFERENCE.md says of each function, table and setting is what the
-- database says of it; test/reference.sh makes the file.
\getenv source PG_ABS_SRCDIR
\set view :source '/test/reference.sql'
\set file :source '/REFERENCE.md'
\set readme :source '/README.md'
\set ECHO none
\i :view
\set ECHO all

-- missing there, and there without a reason
SELECT line AS missing FROM reference WHERE position(line IN pg_read_file(:'file')) = 0 ORDER BY n;
SELECT line AS left_over FROM regexp_split_to_table(pg_read_file(:'file'), '\n') AS line
WHERE line <> '' AND NOT EXISTS (SELECT FROM reference AS r WHERE position(line IN r.line) > 0);

-- A feature that the README does not show does not exist: every function for
-- users, and every SQLSTATE of the extension's own, is in it.
SELECT DISTINCT p.proname AS not_in_readme
FROM pg_proc AS p
JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
WHERE p.proname LIKE 'stripe\_%' AND position(p.proname IN pg_read_file(:'readme')) = 0
ORDER BY 1;
SELECT DISTINCT m[1] || m[2] || m[3] || m[4] || m[5] AS unexplained
FROM regexp_matches(pg_read_file(:'source' || '/src/stripe_portal.h'), $$MAKE_SQLSTATE\('(.)','(.)','(.)','(.)','(.)'\)$$, 'g') AS m
WHERE position('`' || m[1] || m[2] || m[3] || m[4] || m[5] || '`' IN pg_read_file(:'readme')) = 0;
