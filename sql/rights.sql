-- Every right of every capability on everything there is, so that a change shows.
--
-- X execute, U use, r select, a insert, w update, d delete, D truncate,
-- x references, t trigger; r:3/5 is select on three of five columns.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_public;
CREATE ROLE regress_app;
CREATE ROLE regress_customer;
CREATE ROLE regress_webhook;
CREATE ROLE regress_mailer;
CREATE ROLE regress_reader;
CREATE ROLE regress_operator;
SELECT count(stripe_portal_grant(('regress_' || c)::regrole, c)) AS capabilities
FROM (SELECT DISTINCT capability FROM stripe_portal.capability) AS k (c);

CREATE TEMPORARY TABLE held AS
WITH member AS (
    SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE e.extname = 'stripe_portal' AND d.deptype = 'e'
), object (kind, oid, name) AS (
    SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.oid, p.oid::regprocedure::text
    FROM member AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
    UNION ALL
    SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END, c.oid, c.oid::regclass::text
    FROM member AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
    UNION ALL
    SELECT 'schema', n.oid, n.nspname FROM member AS m JOIN pg_namespace AS n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
    UNION ALL
    SELECT 'type', t.oid, t.oid::regtype::text FROM member AS m JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
        -- arrays and the types of tables are members since PostgreSQL 17
        AND t.typcategory <> 'A' AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
)
SELECT o.kind, replace(replace(o.name, 'timestamp with time zone', 'timestamptz'), 'stripe_portal.', '') AS name, substr(r.rolname, 9) AS capability,
       CASE WHEN o.kind IN ('function', 'procedure') THEN CASE WHEN has_function_privilege(r.oid, o.oid, 'EXECUTE') THEN 'X' END
            WHEN o.kind = 'schema' THEN concat(CASE WHEN has_schema_privilege(r.oid, o.oid, 'USAGE') THEN 'U' END, CASE WHEN has_schema_privilege(r.oid, o.oid, 'CREATE') THEN 'C' END)
            WHEN o.kind = 'type' THEN CASE WHEN has_type_privilege(r.oid, o.oid, 'USAGE') THEN 'U' END
            WHEN o.kind = 'sequence' THEN concat(CASE WHEN has_sequence_privilege(r.oid, o.oid, 'SELECT') THEN 'r' END,
                CASE WHEN has_sequence_privilege(r.oid, o.oid, 'UPDATE') THEN 'w' END, CASE WHEN has_sequence_privilege(r.oid, o.oid, 'USAGE') THEN 'U' END)
            ELSE (SELECT string_agg(CASE WHEN has_table_privilege(r.oid, o.oid, p.name) THEN p.letter
                                         WHEN p.letter IN ('r', 'a', 'w', 'x') AND has_any_column_privilege(r.oid, o.oid, p.name)
                                         THEN (SELECT format('%s:%s/%s', p.letter, count(*) FILTER (WHERE has_column_privilege(r.oid, o.oid, a.attnum, p.name)), count(*))
                                               FROM pg_attribute AS a WHERE a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped) END, '' ORDER BY p.n)
                  FROM (VALUES (1, 'r', 'SELECT'), (2, 'a', 'INSERT'), (3, 'w', 'UPDATE'), (4, 'd', 'DELETE'), (5, 'D', 'TRUNCATE'),
                               (6, 'x', 'REFERENCES'), (7, 't', 'TRIGGER')) AS p (n, letter, name)) END AS rights
FROM object AS o, pg_roles AS r
WHERE r.rolname IN ('regress_public', 'regress_app', 'regress_customer', 'regress_webhook', 'regress_mailer', 'regress_reader', 'regress_operator');

-- What somebody may do.
SELECT kind, name,
       max(rights) FILTER (WHERE capability = 'public') AS public, max(rights) FILTER (WHERE capability = 'app') AS app,
       max(rights) FILTER (WHERE capability = 'customer') AS customer, max(rights) FILTER (WHERE capability = 'webhook') AS webhook,
       max(rights) FILTER (WHERE capability = 'mailer') AS mailer, max(rights) FILTER (WHERE capability = 'reader') AS reader,
       max(rights) FILTER (WHERE capability = 'operator') AS operator
FROM held GROUP BY kind, name HAVING max(rights) <> '' ORDER BY kind, name COLLATE "C";
-- The columns, where it is not all of them.
SELECT substr(r.rolname, 9) AS capability, c.relname AS name,
       string_agg(a.attname, ' ' ORDER BY a.attnum) FILTER (WHERE has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) AS can_read,
       string_agg(a.attname, ' ' ORDER BY a.attnum) FILTER (WHERE NOT has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) AS can_not
FROM held AS h
JOIN pg_roles AS r ON r.rolname = 'regress_' || h.capability
JOIN pg_class AS c ON c.relnamespace = 'stripe_portal'::regnamespace AND c.relname = h.name
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE h.rights LIKE 'r:%' GROUP BY 1, 2 ORDER BY 1, 2;
-- What is nobody's but the owner's; and so is every function that is not above.
SELECT kind, name AS owner_only FROM held WHERE kind <> 'function' GROUP BY kind, name HAVING coalesce(max(rights), '') = '' ORDER BY kind, name COLLATE "C";

-- Where each setting can be set: "superuser" in any way but by others than
-- superusers, "user" by everybody, for themselves.  The two secrets are not shown.
SELECT stripe_portal.key_livemode() IS NOT NULL AS loaded;
SELECT context, count(*), string_agg(substr(name, 15), ' ' ORDER BY name COLLATE "C") AS settings FROM pg_settings WHERE name LIKE 'stripe\_portal.%' GROUP BY context ORDER BY context;

SELECT count(stripe_portal_revoke(('regress_' || c)::regrole, c)) AS capabilities
FROM (SELECT DISTINCT capability FROM stripe_portal.capability) AS k (c);
DROP OWNED BY regress_app, regress_customer, regress_webhook, regress_mailer, regress_reader, regress_operator;
DROP ROLE regress_public, regress_app, regress_customer, regress_webhook, regress_mailer, regress_reader, regress_operator;
