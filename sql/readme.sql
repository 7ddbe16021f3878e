-- What the README says of each function, table and setting is what the
-- database says of it.  A line that is printed here is missing there.
\getenv source PG_ABS_SRCDIR
\set file :source '/README.md'
SELECT stripe_is_active(NULL) AS library_is_loaded;

CREATE TEMP VIEW object AS
SELECT p.oid, p.proname, n.nspname
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
WHERE p.proname LIKE 'stripe\_%' OR p.proname = 'form_encode';

CREATE TEMP VIEW reference AS
SELECT 1 AS part, nspname || proname || o.oid::regprocedure AS place,
       format('- `%s(%s)%s`: %s.', CASE nspname WHEN 'stripe_portal' THEN 'stripe_portal.' ELSE '' END || proname,
              regexp_replace(replace(pg_get_function_arguments(o.oid), 'timestamp with time zone', 'timestamptz'), '::[a-z]+', '', 'g'),
              ' → ' || nullif(pg_get_function_result(o.oid), 'record'),
              obj_description(o.oid, 'pg_proc')) AS line
FROM object AS o
UNION ALL
SELECT 2, c.relname::text, format('- `stripe_portal.%s`: %s.%s', c.relname, obj_description(c.oid, 'pg_class'),
       (SELECT string_agg(format(' `%s`: %s.', a.attname, col_description(c.oid, a.attnum)), '' ORDER BY a.attnum)
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND col_description(c.oid, a.attnum) IS NOT NULL
        AND a.attname NOT IN ('livemode', 'account', 'event', 'event_created', 'refetch')))
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'v', 'p')
UNION ALL
SELECT 3, name, format('| `%s` | %s | %s | %s%s |', name,
       CASE WHEN boot_val = '' THEN '' ELSE '`' || boot_val || coalesce(' ' || unit, '') || '`' END,
       CASE context WHEN 'user' THEN 'anybody' ELSE context END, short_desc, coalesce(' ' || extra_desc, ''))
FROM pg_settings
WHERE name LIKE 'stripe\_portal.%';

SELECT line AS missing_from_readme
FROM reference
WHERE position(line IN pg_read_file(:'file')) = 0
ORDER BY part, place;

-- the two settings that do not show
SELECT name FROM unnest(ARRAY['stripe_portal.api_key', 'stripe_portal.webhook_secret']) AS name
WHERE position('| `' || name || '` |' IN pg_read_file(:'file')) = 0;
-- every SQLSTATE of the extension's own
SELECT DISTINCT m[1] || m[2] || m[3] || m[4] || m[5] AS unexplained
FROM regexp_matches(pg_read_file(:'source' || '/src/stripe_portal.h'), $$MAKE_SQLSTATE\('(.)','(.)','(.)','(.)','(.)'\)$$, 'g') AS m
WHERE position('`' || m[1] || m[2] || m[3] || m[4] || m[5] || '`' IN pg_read_file(:'file')) = 0;
