-- First part of the upgrade script to the current version.
\echo Use "ALTER EXTENSION stripe_portal UPDATE" to load this file. \quit

-- Whatever stands in the caller's search path gets no say in what follows.
SET LOCAL search_path = pg_catalog, pg_temp;

-- Who was granted what, for end.sql: an object that is dropped and made again
-- loses it.  target is what GRANT names.
CREATE TEMPORARY VIEW upgrade_target AS
SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || p.oid::regprocedure AS target,
       p.proname AS object, NULL::name AS column_name, p.proacl AS acl, p.proowner AS owner
FROM pg_extension AS e
JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE e.extname = 'stripe_portal'
UNION ALL
SELECT format('TABLE stripe_portal.%I', c.relname), c.relname, NULL, c.relacl, c.relowner
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
UNION ALL
SELECT format('TABLE stripe_portal.%I', c.relname), c.relname, a.attname, a.attacl, c.relowner
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT format('SCHEMA %I', n.nspname), n.nspname, NULL, n.nspacl, n.nspowner
FROM pg_namespace AS n
WHERE n.nspname = 'stripe_portal';

CREATE TEMPORARY TABLE upgrade_before AS
SELECT DISTINCT t.target FROM pg_temp.upgrade_target AS t;

CREATE TEMPORARY TABLE upgrade_right AS
SELECT t.target, t.object, t.column_name, a.privilege_type AS privilege, a.is_grantable, a.grantee
FROM pg_temp.upgrade_target AS t, aclexplode(t.acl) AS a
WHERE a.grantee NOT IN (0, t.owner);

-- What each capability stands for: before the upgrade, and when end.sql looks, after it.
CREATE TEMPORARY VIEW upgrade_capability AS
SELECT c.capability, split_part(c.privilege, ' ', 1) AS privilege, t.target, c.object, part.column_name
FROM stripe_portal.capability AS c
CROSS JOIN LATERAL stripe_portal.capability_target(c.privilege, c.object) AS t (target)
LEFT JOIN LATERAL unnest(string_to_array(substring(c.privilege FROM '\((.*)\)'), ', ')) AS part (column_name) ON true;

-- A role has a capability if it was granted all of it.
CREATE TEMPORARY TABLE upgrade_holder AS
SELECT holder.grantee, c.capability
FROM pg_temp.upgrade_capability AS c
CROSS JOIN (SELECT DISTINCT r.grantee FROM pg_temp.upgrade_right AS r) AS holder
LEFT JOIN pg_temp.upgrade_right AS r
    ON r.grantee = holder.grantee AND r.target = c.target AND r.privilege = c.privilege
   AND r.column_name IS NOT DISTINCT FROM c.column_name
GROUP BY 1, 2
HAVING bool_and(r.grantee IS NOT NULL);

CREATE TEMPORARY TABLE upgrade_held AS
SELECT h.grantee, c.privilege, c.object, c.column_name
FROM pg_temp.upgrade_holder AS h
JOIN pg_temp.upgrade_capability AS c USING (capability);

-- What PUBLIC was granted by hand is taken back in this way too, or grants.sql
-- would make the other rights on the object the extension's own.
CREATE FUNCTION stripe_portal.upgrade_grant(command text)
RETURNS void
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'stripe_upgrade_grant';

SELECT stripe_portal.upgrade_grant(format('REVOKE ALL%s ON %s FROM PUBLIC', ' (' || quote_ident(t.column_name) || ')', t.target))
FROM pg_temp.upgrade_target AS t
WHERE EXISTS (SELECT FROM aclexplode(t.acl) AS a WHERE a.grantee = 0);
