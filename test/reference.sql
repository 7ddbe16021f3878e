-- REFERENCE.md, line by line, from what the catalogue says of each object.
-- test/reference.sh prints it; the regression test "readme" compares.
SET client_min_messages = warning;
SET intervalstyle = 'postgres';
SELECT stripe_is_active(NULL) AS library_is_loaded;

CREATE TEMP VIEW reference AS
WITH object AS (
    SELECT p.oid, n.nspname, p.proname, p.prokind
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
    WHERE p.proname LIKE 'stripe\_%' OR p.proname = 'form_encode'
), entry (part, place, line) AS (
    VALUES (0, '', E'# Reference\n\nMade by `test/reference.sh` from the comments in the catalogue: `\\df+` and `\\d+` show the same.')
    UNION ALL
    VALUES (1, '', E'## Settings\n\n| Setting | Default | Who | What |\n|---|---|---|---|')
    UNION ALL
    SELECT 2, name, format('| `%s` | %s | %s | %s%s |', name,
           CASE WHEN boot_val = '' THEN '' ELSE '`' || boot_val || coalesce(' ' || unit, '') || '`' END,
           CASE context WHEN 'user' THEN 'anybody' ELSE context END, short_desc, coalesce(' ' || extra_desc, ''))
    FROM pg_settings
    WHERE name LIKE 'stripe\_portal.%'
    UNION ALL
    -- these two do not show in pg_settings
    VALUES (2, 'stripe_portal.api_key', '| `stripe_portal.api_key` | | superuser, in a session | The key itself, for trying out: `SET` it in a session. Anywhere else others could read it, so it is refused there. |'),
           (2, 'stripe_portal.webhook_secret', '| `stripe_portal.webhook_secret` | | superuser, in a session | The signing secrets themselves, separated by commas, for trying out. |')
    UNION ALL
    VALUES (3, '', E'\n## Functions and procedures\n')
    UNION ALL
    SELECT 4, proname || o.oid::regprocedure,
           format('- `%s(%s)%s`: %s.', CASE nspname WHEN 'stripe_portal' THEN 'stripe_portal.' ELSE '' END || proname,
                  regexp_replace(replace(pg_get_function_arguments(o.oid), 'timestamp with time zone', 'timestamptz'), '::[a-z]+', '', 'g'),
                  CASE prokind WHEN 'p' THEN '' ELSE ' → ' || nullif(pg_get_function_result(o.oid), 'record') END,
                  obj_description(o.oid, 'pg_proc'))
    FROM object AS o
    UNION ALL
    VALUES (5, '', E'\n## Tables and views\n\nAll in schema `stripe_portal`. The key of what Stripe has is `(id, livemode, account)`;\n`account` is the connected account, empty for your own. `event` and `event_created`\nname the event a row was read from. Times are `timestamptz`, money is in minor units.\n')
    UNION ALL
    SELECT 6, c.relname, format('- `%s`: %s.%s', c.relname, obj_description(c.oid, 'pg_class'),
           (SELECT string_agg(format(' `%s`: %s.', a.attname, col_description(c.oid, a.attnum)), '' ORDER BY a.attnum)
            FROM pg_attribute AS a WHERE a.attrelid = c.oid AND col_description(c.oid, a.attnum) IS NOT NULL
            AND a.attname NOT IN ('livemode', 'account', 'event', 'event_created', 'refetch')))
    FROM pg_class AS c
    WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'v', 'p') AND NOT c.relispartition
)
SELECT row_number() OVER (ORDER BY part, place COLLATE "C") AS n, line
FROM entry;
