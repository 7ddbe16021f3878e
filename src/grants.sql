-- Last part of the install script: every right in one place.
--
-- Nothing is for PUBLIC.  Who may do what is granted by the superuser who
-- installed the extension, function by function and table by table; the
-- functions that need more rights than their caller are SECURITY DEFINER
-- with a pinned search_path.

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT format('%s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
                      p.oid::regprocedure) AS name
        FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_proc AS p ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
        JOIN pg_catalog.pg_extension AS e
            ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
        WHERE e.extname = 'stripe_portal' AND d.deptype = 'e'
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', object.name);
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA stripe_portal FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA stripe_portal FROM PUBLIC;
