-- Last part of the install script: every right in one place.
--
-- Nothing is for PUBLIC, nor for roles that default privileges give new objects
-- to; what an upgrade brings them, upgrade/end.sql takes back.  Who may do what
-- is granted by the superuser who installed the extension, function by function
-- and table by table; the functions that need more rights than their caller are
-- SECURITY DEFINER with a pinned search_path.
--
-- What PUBLIC has nothing of stays untouched: a script that so much as looks at
-- an object's rights makes them the extension's own, and those that users were
-- granted would be missing in the dump.

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT o.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
        FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e
            ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid,
        LATERAL (
            SELECT format('%s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure),
                   coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner
            FROM pg_catalog.pg_proc AS p
            WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
            UNION ALL
            SELECT format('TABLE %s', c.oid::regclass), c.relacl, c.relowner
            FROM pg_catalog.pg_class AS c
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
            UNION ALL
            SELECT format('SCHEMA %s', n.oid::regnamespace), n.nspacl, n.nspowner
            FROM pg_catalog.pg_namespace AS n
            WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.objid
            UNION ALL
            SELECT format('TYPE %s', t.oid::regtype), coalesce(t.typacl, acldefault('T', t.typowner)), t.typowner
            FROM pg_catalog.pg_type AS t
            WHERE d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
              -- Since PostgreSQL 17 arrays and the types of tables are members, too.
              -- Arrays have no rights of their own, and a handler's argument is a row.
              AND t.typcategory <> 'A'
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid AND c.relkind <> 'c')) AS o (name, acl, owner),
        LATERAL (SELECT DISTINCT grantee FROM aclexplode(o.acl) WHERE grantee <> o.owner) AS a
        WHERE e.extname = 'stripe_portal' AND d.deptype = 'e'
          -- which is there in an upgrade, and in no temporary schema of anybody's
          AND (a.grantee = 0 OR to_regproc('stripe_portal.upgrade_grant') IS NULL)
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', object.name, object.grantee);
    END LOOP;
END
$$;
