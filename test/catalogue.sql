-- Everything the extension is, as text: every member, what hangs on it, who may
-- do what, and the rows of the tables that the variable "seeded" lists.  Of two
-- installations that are alike it prints the same.
--
-- Nothing here names an object of the extension.  What is not known how to be
-- described is a line of "not described", which a test should refuse.
\pset format unaligned
\pset tuples_only on
SET search_path = pg_catalog;
CREATE TEMPORARY TABLE catalogue (object text COLLATE "C", property text COLLATE "C", value text);

INSERT INTO pg_temp.catalogue
WITH RECURSIVE part (classid, objid) AS (
    SELECT d.classid, d.objid
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'stripe_portal'
    WHERE d.deptype = 'e'
    UNION
    -- indexes, constraints, defaults, triggers, rules, policies, statistics, partitions, row types
    SELECT d.classid, d.objid
    FROM part AS p
    JOIN pg_depend AS d ON d.refclassid = p.classid AND d.refobjid = p.objid AND d.deptype IN ('a', 'i', 'P', 'S')
), named AS (
    SELECT p.classid, p.objid, i.type || ' ' || i.identity AS object
    FROM part AS p, pg_identify_object(p.classid, p.objid, 0) AS i
    -- made with the constraint, the table or the type that is described, and named by OIDs
    WHERE i.schema IS DISTINCT FROM 'pg_toast'
      AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE p.classid = 'pg_trigger'::regclass AND t.oid = p.objid AND t.tgisinternal)
      -- said of the column; these 18 has, and pg_upgrade gives them other names in partitions
      AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE p.classid = 'pg_constraint'::regclass AND c.oid = p.objid AND c.contype = 'n')
), described (object, property, value) AS (
    SELECT n.object, p.property, p.value
    FROM named AS n
    JOIN pg_proc AS o ON n.classid = 'pg_proc'::regclass AND n.objid = o.oid,
    LATERAL (VALUES ('definition', CASE WHEN o.prokind IN ('f', 'p') THEN pg_get_functiondef(o.oid) ELSE to_jsonb(o)::text END),
                    ('owner', o.proowner::regrole::text), ('rights', (SELECT string_agg(format('%s %s%s', nullif(a.grantee, 0)::regrole, a.privilege_type, repeat('*', a.is_grantable::integer)), ' ' ORDER BY a.grantee::regrole::text COLLATE "C", a.privilege_type) FROM aclexplode(coalesce(o.proacl, acldefault('f', o.proowner))) AS a))) AS p (property, value)
    UNION ALL
    SELECT n.object, p.property, p.value
    FROM named AS n
    JOIN pg_class AS o ON n.classid = 'pg_class'::regclass AND n.objid = o.oid
    LEFT JOIN pg_am AS am ON am.oid = o.relam
    LEFT JOIN pg_index AS i ON i.indexrelid = o.oid
    LEFT JOIN pg_sequence AS s ON s.seqrelid = o.oid,
    LATERAL (VALUES ('kind', concat_ws(' ', o.relkind, o.relpersistence, o.relreplident, am.amname, o.reltablespace)),
                    ('row security', concat_ws(' ', o.relrowsecurity, o.relforcerowsecurity)),
                    ('options', o.reloptions::text),
                    ('toast options', (SELECT t.reloptions::text FROM pg_class AS t WHERE t.oid = o.reltoastrelid)),
                    ('type', nullif(o.reloftype, 0)::regtype::text),
                    ('partition by', pg_get_partkeydef(o.oid)),
                    ('partition', pg_get_expr(o.relpartbound, o.oid)),
                    ('inherits', (SELECT string_agg(h.inhparent::regclass::text, ' ' ORDER BY h.inhseqno) FROM pg_inherits AS h WHERE h.inhrelid = o.oid)),
                    ('index', pg_get_indexdef(i.indexrelid)),
                    ('index flags', CASE WHEN i.indexrelid IS NOT NULL THEN concat_ws(' ', i.indisprimary, i.indisclustered, i.indisvalid, i.indisreplident) END),
                    ('view', CASE WHEN o.relkind IN ('v', 'm') THEN pg_get_viewdef(o.oid) END),
                    ('sequence', (to_jsonb(s) - 'seqrelid')::text),
                    ('owner', o.relowner::regrole::text),
                    ('rights', CASE WHEN o.relkind <> 'i'
                               THEN (SELECT string_agg(format('%s %s%s', nullif(a.grantee, 0)::regrole, a.privilege_type, repeat('*', a.is_grantable::integer)), ' ' ORDER BY a.grantee::regrole::text COLLATE "C", a.privilege_type)
                                     FROM aclexplode(coalesce(o.relacl, acldefault(CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", o.relowner))) AS a) END)) AS p (property, value)
    UNION ALL
    SELECT n.object, format('column %s', to_char(row_number() OVER (PARTITION BY o.attrelid ORDER BY o.attnum), 'FM0000')),
           concat_ws(' ', quote_ident(o.attname), format_type(o.atttypid, o.atttypmod), 'collation', o.attcollation::regcollation,
                     'not null', o.attnotnull, 'identity', o.attidentity, 'generated', o.attgenerated,
                     'storage', o.attstorage, 'compression', o.attcompression, 'target', o.attstattarget, 'options',
                     -- some servers note there when the column was made
                     ARRAY(SELECT a FROM unnest(o.attoptions) AS a WHERE a NOT LIKE 'pg\_attver=%' ORDER BY 1),
                     'rights', nullif(o.attacl, '{}'), 'own', o.attislocal, o.attinhcount)
    FROM named AS n
    JOIN pg_attribute AS o ON n.classid = 'pg_class'::regclass AND n.objid = o.attrelid AND o.attnum > 0 AND NOT o.attisdropped
    UNION ALL
    SELECT n.object, 'default', pg_get_expr(o.adbin, o.adrelid)
    FROM named AS n
    JOIN pg_attrdef AS o ON n.classid = 'pg_attrdef'::regclass AND n.objid = o.oid
    UNION ALL
    SELECT n.object, 'constraint', concat_ws(' ', pg_get_constraintdef(o.oid), 'validated', o.convalidated, 'own', o.conislocal, o.coninhcount, o.connoinherit)
    FROM named AS n
    JOIN pg_constraint AS o ON n.classid = 'pg_constraint'::regclass AND n.objid = o.oid
    UNION ALL
    SELECT n.object, 'trigger', concat_ws(' ', pg_get_triggerdef(o.oid), 'enabled', o.tgenabled)
    FROM named AS n
    JOIN pg_trigger AS o ON n.classid = 'pg_trigger'::regclass AND n.objid = o.oid
    UNION ALL
    SELECT n.object, 'rule', concat_ws(' ', pg_get_ruledef(o.oid), 'enabled', o.ev_enabled)
    FROM named AS n
    JOIN pg_rewrite AS o ON n.classid = 'pg_rewrite'::regclass AND n.objid = o.oid
    UNION ALL
    SELECT n.object, 'policy', concat_ws(' ', o.polcmd, o.polpermissive, o.polroles::regrole[],
                                         'using', pg_get_expr(o.polqual, o.polrelid), 'check', pg_get_expr(o.polwithcheck, o.polrelid))
    FROM named AS n
    JOIN pg_policy AS o ON n.classid = 'pg_policy'::regclass AND n.objid = o.oid
    UNION ALL
    SELECT n.object, 'statistics', concat_ws(' ', pg_get_statisticsobjdef(o.oid), o.stxstattarget)
    FROM named AS n
    JOIN pg_statistic_ext AS o ON n.classid = 'pg_statistic_ext'::regclass AND n.objid = o.oid
    UNION ALL
    -- of a composite type, the columns are above
    SELECT n.object, 'type', concat_ws(' ', o.typtype, o.typnotnull, format_type(nullif(o.typbasetype, 0), o.typtypmod), o.typdefault,
                                       (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum AS l WHERE l.enumtypid = o.oid),
                                       'rights', coalesce(o.typacl, acldefault('T', o.typowner)))
    FROM named AS n
    JOIN pg_type AS o ON n.classid = 'pg_type'::regclass AND n.objid = o.oid
    UNION ALL
    SELECT n.object, 'schema', concat_ws(' ', o.nspowner::regrole, (SELECT string_agg(format('%s %s%s', nullif(a.grantee, 0)::regrole, a.privilege_type, repeat('*', a.is_grantable::integer)), ' ' ORDER BY a.grantee::regrole::text COLLATE "C", a.privilege_type)
                                                                    FROM aclexplode(coalesce(o.nspacl, acldefault('n', o.nspowner))) AS a))
    FROM named AS n
    JOIN pg_namespace AS o ON n.classid = 'pg_namespace'::regclass AND n.objid = o.oid
)
SELECT object, property, value FROM described WHERE value IS NOT NULL
UNION ALL
SELECT object, 'not described', classid::regclass::text FROM named WHERE object NOT IN (SELECT object FROM described)
UNION ALL
SELECT n.object, concat_ws(' ', 'comment', nullif(d.objsubid, 0)), d.description
FROM named AS n
JOIN (SELECT d.classoid, d.objoid, CASE WHEN d.objsubid <> 0 THEN
             (SELECT count(*) FROM pg_attribute AS a WHERE a.attrelid = d.objoid AND a.attnum BETWEEN 1 AND d.objsubid AND NOT a.attisdropped) ELSE 0 END AS objsubid,
             d.description
      FROM pg_description AS d) AS d ON d.classoid = n.classid AND d.objoid = n.objid
UNION ALL
SELECT n.object, 'security label', to_jsonb(l)::text
FROM named AS n
JOIN pg_seclabel AS l ON l.classoid = n.classid AND l.objoid = n.objid
UNION ALL
SELECT n.object, 'member', d.deptype::text
FROM named AS n
JOIN pg_depend AS d ON d.classid = n.classid AND d.objid = n.objid AND d.refclassid = 'pg_extension'::regclass
UNION ALL
SELECT 'extension', 'version', concat_ws(' ', e.extversion, e.extnamespace::regnamespace, e.extrelocatable, e.extowner::regrole)
FROM pg_extension AS e WHERE e.extname = 'stripe_portal'
UNION ALL
SELECT c.oid::regclass::text, 'dumped', concat_ws(' ', 'where', c.condition)
FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS c (oid, condition) WHERE e.extname = 'stripe_portal';

-- The rows of these tables.
SELECT format('INSERT INTO pg_temp.catalogue SELECT %L, ''row'', to_jsonb(t)::text FROM %s AS t', name, name)
FROM unnest(:'seeded'::regclass[]) AS name \gexec

SELECT * FROM pg_temp.catalogue ORDER BY object, property, value COLLATE "C";
\pset format aligned
\pset tuples_only off
