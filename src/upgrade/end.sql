-- Last part of the upgrade script to the current version: what roles were
-- granted is theirs again where an object was made anew, also with other
-- arguments; and who had a capability has it whole, and nothing that it does not
-- stand for any more.

DO $$
DECLARE
    command text;
BEGIN
    -- With an option to grant, it was granted by hand.
    FOR command IN
        WITH gone AS (
            DELETE FROM pg_temp.upgrade_right AS r
            USING (TABLE pg_temp.upgrade_held
                   EXCEPT
                   SELECT h.grantee, c.privilege, c.object, c.column_name
                   FROM pg_temp.upgrade_holder AS h
                   JOIN pg_temp.upgrade_capability AS c USING (capability)) AS held
            WHERE (r.grantee, r.privilege, r.object) = (held.grantee, held.privilege, held.object)
              AND r.column_name IS NOT DISTINCT FROM held.column_name
              AND NOT r.is_grantable
            RETURNING r.*)
        SELECT format('REVOKE %s%s ON %s FROM %s', g.privilege, ' (' || quote_ident(g.column_name) || ')', g.target, g.grantee::regrole)
        FROM gone AS g
        WHERE g.target IN (SELECT t.target FROM pg_temp.upgrade_target AS t)
    LOOP
        PERFORM stripe_portal.upgrade_grant(command);
    END LOOP;

    -- Default privileges gave new objects to others; that they are without is the
    -- extension's own state of them.
    FOR command IN
        SELECT format('REVOKE %s%s ON %s FROM %s', a.privilege_type, ' (' || quote_ident(t.column_name) || ')', t.target, a.grantee::regrole)
        FROM pg_temp.upgrade_target AS t, aclexplode(t.acl) AS a
        WHERE a.grantee NOT IN (0, t.owner)
          AND NOT EXISTS (SELECT FROM pg_temp.upgrade_right AS r
                          WHERE (r.target, r.privilege, r.grantee) = (t.target, a.privilege_type, a.grantee)
                            AND r.column_name IS NOT DISTINCT FROM t.column_name)
    LOOP
        EXECUTE command;
    END LOOP;

    FOR command IN
        SELECT format('GRANT %s%s ON %s TO %s%s', r.privilege, ' (' || quote_ident(r.column_name) || ')', t.target, r.grantee::regrole,
                      CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' END)
        FROM pg_temp.upgrade_right AS r
        JOIN pg_temp.upgrade_target AS t
            ON t.target = r.target
            OR (t.object = r.object
                AND r.target NOT IN (SELECT now.target FROM pg_temp.upgrade_target AS now)
                AND t.target NOT IN (SELECT before.target FROM pg_temp.upgrade_before AS before))
        WHERE t.column_name IS NOT DISTINCT FROM r.column_name
          AND NOT EXISTS (SELECT FROM aclexplode(t.acl) AS a
                          WHERE a.grantee = r.grantee AND a.privilege_type = r.privilege AND a.is_grantable >= r.is_grantable)
        UNION ALL
        SELECT format('GRANT %s%s ON %s TO %s', c.privilege, ' (' || quote_ident(c.column_name) || ')', c.target, h.grantee::regrole)
        FROM pg_temp.upgrade_holder AS h
        JOIN pg_temp.upgrade_capability AS c USING (capability)
    LOOP
        PERFORM stripe_portal.upgrade_grant(command);
    END LOOP;
END
$$;

DROP FUNCTION stripe_portal.upgrade_grant;
DROP TABLE pg_temp.upgrade_held, pg_temp.upgrade_holder, pg_temp.upgrade_right, pg_temp.upgrade_before;
DROP VIEW pg_temp.upgrade_capability, pg_temp.upgrade_target;
