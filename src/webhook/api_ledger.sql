-- webhook: the ledger's partitions, made ahead and dropped when they are old.

CREATE OR REPLACE FUNCTION stripe_portal.ledger_horizon()
RETURNS timestamptz
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'stripe_ledger_horizon';

COMMENT ON FUNCTION stripe_portal.ledger_horizon() IS
'Events from before this time may leave the ledger, by stripe_portal.event_retention; NULL if all are kept';

CREATE OR REPLACE FUNCTION stripe_portal.event_partitions()
RETURNS TABLE (partition regclass, starts timestamptz, ends timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
    SELECT c.oid::regclass, bound[1]::timestamptz, bound[2]::timestamptz
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    CROSS JOIN regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$FROM \('(.*)'\) TO \('(.*)'\)$re$) AS bound
    WHERE i.inhparent = 'stripe_portal.event'::regclass AND bound IS NOT NULL
    ORDER BY 2
$$;

COMMENT ON FUNCTION stripe_portal.event_partitions() IS
'The partitions of stripe_portal.event but for event_default: events created from starts on and before ends';

-- Locks are taken in the order that keeps receiving alive.  Dropping locks the
-- whole ledger, for a moment; a month that moves out of event_default locks
-- that partition while it moves.  So no month moves after a drop, and one at
-- most in each run.  Whoever holds a lock for longer than lock_timeout, which
-- is far below deadlock_timeout, makes this give way until the next run.
--
-- Moving a row is no change of it: no trigger sees it.  The rows go through a
-- temporary table, so that logical decoding sees them leave and come back.
CREATE OR REPLACE FUNCTION stripe_portal.tend_ledger(months_ahead integer DEFAULT 2)
RETURNS TABLE (partition text, action text, events bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '200ms'
SET session_replication_role = replica
-- where the caller would have tables, and of what kind, is not asked
SET default_tablespace = ''
SET default_table_access_method = heap
AS $$
DECLARE
    horizon CONSTANT timestamptz := stripe_portal.ledger_horizon();
    this_month CONSTANT timestamptz := date_trunc('month', now());
    one_month CONSTANT interval := '1 month';
    part record;
    month timestamptz;
    other record;
    may_move boolean := true;
BEGIN
    PERFORM stripe_portal.check_can_write('tend_ledger()');
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'tend_ledger() works in READ COMMITTED transactions only'
            USING ERRCODE = 'invalid_transaction_state',
                  DETAIL = 'It has to see every event that is committed by the time it holds a lock.';
    ELSIF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'months_ahead must be between 0 and 120'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- somebody else is at it
    IF NOT stripe_portal.try_lock('tend_ledger') THEN
        RETURN;
    END IF;

    FOR part IN
        SELECT c.relname::text AS name, p.starts, p.ends
        FROM stripe_portal.event_partitions() AS p
        JOIN pg_class AS c ON c.oid = p.partition
        WHERE p.ends <= horizon
    LOOP
        partition := part.name;
        BEGIN
            LOCK TABLE ONLY stripe_portal.event IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('LOCK TABLE stripe_portal.%I IN ACCESS EXCLUSIVE MODE', partition);
            -- a dead letter outlives its partition
            CREATE TEMPORARY TABLE event_moved AS
                SELECT e.* FROM stripe_portal.event AS e
                WHERE e.created >= part.starts AND e.created < part.ends AND e.status = 'failed';
            EXECUTE format('ALTER TABLE stripe_portal.event DETACH PARTITION stripe_portal.%I', partition);
            INSERT INTO stripe_portal.event SELECT m.* FROM pg_temp.event_moved AS m;
            GET DIAGNOSTICS events = ROW_COUNT;
            DROP TABLE pg_temp.event_moved;
            EXECUTE format('DROP TABLE stripe_portal.%I', partition);
            action := 'dropped';
            may_move := false;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
            action := 'busy';
            events := 0;
        END;
        RETURN NEXT;
    END LOOP;

    IF horizon IS NOT NULL THEN
        partition := 'event_default';
        BEGIN
            -- a body that is no event is no dead letter: nothing can mend it
            DELETE FROM stripe_portal.event_default AS e
            WHERE coalesce(e.created, e.received_at) < horizon AND (e.status <> 'failed' OR e.payload IS NULL);
            GET DIAGNOSTICS events = ROW_COUNT;
            action := 'pruned';
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            action := 'busy';
            events := 0;
        END;
        IF action = 'busy' OR events > 0 THEN
            RETURN NEXT;
        END IF;
    END IF;

    -- The newest month first: as soon as the current one has its partition,
    -- receiving no longer waits for what moves out of event_default.
    FOR month IN
        SELECT wanted.month
        FROM (SELECT this_month + n * one_month FROM generate_series(0, months_ahead) AS n
              UNION
              SELECT date_trunc('month', e.created) FROM stripe_portal.event_default AS e
              WHERE isfinite(e.created) AND e.created < this_month + (months_ahead + 1) * one_month
                AND (horizon IS NULL OR e.created >= date_trunc('month', horizon))) AS wanted (month)
        WHERE NOT EXISTS (SELECT FROM stripe_portal.event_partitions() AS p
                          WHERE p.starts <= wanted.month AND p.ends > wanted.month)
        ORDER BY 1 DESC
    LOOP
        CONTINUE WHEN NOT may_move
            AND EXISTS (SELECT FROM stripe_portal.event_default AS e
                        WHERE e.created >= month AND e.created < month + one_month);
        partition := to_char(month, '"event_"YYYY_MM');
        BEGIN
            EXECUTE format('CREATE TABLE stripe_portal.%I (LIKE stripe_portal.event_default INCLUDING ALL)', partition);
            EXECUTE format('ALTER TABLE stripe_portal.%I ENABLE ROW LEVEL SECURITY, REPLICA IDENTITY FULL', partition);
            -- rights go through the partitioned table, whatever the owner's default privileges are
            FOR other IN
                SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS name
                FROM pg_class AS c, aclexplode(c.relacl) AS a
                WHERE c.oid = to_regclass(format('stripe_portal.%I', partition)) AND a.grantee <> c.relowner
            LOOP
                EXECUTE format('REVOKE ALL ON stripe_portal.%I FROM %s', partition, other.name);
            END LOOP;
            EXECUTE format('COMMENT ON TABLE stripe_portal.%I IS %L', partition,
                           to_char(month, '"Events of "YYYY-MM", UTC"'));

            LOCK TABLE stripe_portal.event_default IN ACCESS EXCLUSIVE MODE;
            CREATE TEMPORARY TABLE event_moved AS
                SELECT e.* FROM stripe_portal.event AS e WHERE e.created >= month AND e.created < month + one_month;
            DELETE FROM stripe_portal.event AS e WHERE e.created >= month AND e.created < month + one_month;
            EXECUTE format('ALTER TABLE stripe_portal.event ATTACH PARTITION stripe_portal.%I FOR VALUES FROM (%L) TO (%L)',
                           partition, month, month + one_month);
            INSERT INTO stripe_portal.event SELECT m.* FROM pg_temp.event_moved AS m;
            GET DIAGNOSTICS events = ROW_COUNT;
            DROP TABLE pg_temp.event_moved;
            action := 'made';
            may_move := may_move AND events = 0;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
                action := 'busy';
                events := 0;
            WHEN duplicate_table THEN
                -- detached to be archived, most likely: the other months go on
                action := 'name taken';
                events := 0;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.tend_ledger(integer) IS
'Takes care of the ledger''s partitions and says what it did, if anything. made: a partition for this month, for each of the months_ahead, or for a month that has events in event_default, which moved into it (events says how many; one such month in each run). dropped: a partition that is older than stripe_portal.event_retention; events says how many failed ones were kept, in event_default. pruned: so many events that are older have left event_default, failed ones excepted; what was no event at all goes by the time it was received. busy: others held a lock; the next run tries again. name taken: there is a table of that name that is no partition, such as one that was detached; events of that month stay in event_default. Returns at once if another run is at it. Only in a READ COMMITTED transaction, else error 25000';
