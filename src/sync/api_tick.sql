-- sync: all periodic work.
--
-- A part is a function that does one portion of its work: it takes a place,
-- NULL at first, and gives the place to go on at, NULL when it is done.  Each
-- portion is a transaction of its own, and a portion that fails ends its part
-- and no other.

CREATE OR REPLACE VIEW stripe_portal.tick_part AS
SELECT n, part, function
FROM (VALUES
    (1, 'events', 'stripe_portal.catch_up_step'),
    (2, 'thin events', 'stripe_portal.resolve_next_thin'),
    (3, 'dead letters', 'stripe_portal.retry_step'),
    (4, 'refetch', 'stripe_portal.refetch_step'),
    (5, 'ended discounts', 'stripe_portal.settle_step'),
    (6, 'ledger', 'stripe_portal.tend_step'),
    (7, 'win-back', 'stripe_portal.winback_step'),
    (8, 'offer discounts', 'stripe_portal.winback_discount_step')
) AS part (n, part, function);

COMMENT ON VIEW stripe_portal.tick_part IS 'What stripe_portal_tick does, in this order';
COMMENT ON COLUMN stripe_portal.tick_part.function IS 'Takes and gives a place (text): NULL to begin, and NULL when the part is done';

CREATE OR REPLACE FUNCTION stripe_portal.refetch_step(place text)
RETURNS text
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT stripe_portal.refetch(place) $$;

COMMENT ON FUNCTION stripe_portal.refetch_step(text) IS
'A portion of refetching, for the tick';

CREATE OR REPLACE FUNCTION stripe_portal.retry_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tried bigint;
BEGIN
    SELECT count(*) INTO tried FROM stripe_portal.retry_failed(100);
    RETURN CASE WHEN tried = 100 THEN 'more' END;
END
$$;

COMMENT ON FUNCTION stripe_portal.retry_step(text) IS
'A portion of the dead letters whose time has come, for the tick';

CREATE OR REPLACE FUNCTION stripe_portal.settle_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.settle_changes();
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.settle_step(text) IS
'The discounts that ended since, for the tick';

CREATE OR REPLACE FUNCTION stripe_portal.tend_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.tend_ledger();
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.tend_step(text) IS
'The care of the ledger''s partitions, for the tick';

CREATE OR REPLACE FUNCTION stripe_portal.tick_portion(part text, INOUT place text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_first CONSTANT boolean := place IS NULL;
    function CONSTANT text := (SELECT p.function FROM stripe_portal.tick_part AS p WHERE p.part = tick_portion.part);
    failure text;
    began CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF function IS NULL THEN
        RAISE EXCEPTION 'the tick has no part "%"', part
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Another tick that is at this part sees to it; nobody waits for this lock.
    IF NOT stripe_portal.try_lock('tick ' || part) THEN
        place := NULL;
        RETURN;
    END IF;

    BEGIN
        EXECUTE format('SELECT %s($1)', function) INTO place USING place;
    EXCEPTION WHEN OTHERS THEN
        failure := SQLSTATE || ': ' || SQLERRM;
        place := NULL;
        RAISE WARNING 'part "%" of the tick failed: %', part, SQLERRM USING ERRCODE = SQLSTATE;
    END;

    INSERT INTO stripe_portal.tick_run AS r (part, started, finished, portions, error, last_success)
    VALUES (tick_portion.part, began, CASE WHEN place IS NULL THEN clock_timestamp() END, 1, failure,
            CASE WHEN place IS NULL AND failure IS NULL THEN clock_timestamp() END)
    ON CONFLICT ON CONSTRAINT tick_run_pkey DO UPDATE
    SET started = CASE WHEN is_first THEN excluded.started ELSE r.started END,
        portions = CASE WHEN is_first THEN 1 ELSE r.portions + 1 END,
        finished = excluded.finished, error = excluded.error,
        last_success = coalesce(excluded.last_success, r.last_success);
END
$$;

COMMENT ON FUNCTION stripe_portal.tick_portion(text, text) IS
'One portion of one part of the tick, and a note of how it went. Gives the place to go on at, NULL when the part is done, has failed, or is being done by somebody else; error 22023 for an unknown part';

CREATE OR REPLACE PROCEDURE @extschema@.stripe_portal_tick()
LANGUAGE plpgsql
AS $$
DECLARE
    parts text[] := ARRAY(SELECT p.part FROM stripe_portal.tick_part AS p ORDER BY p.n);
    -- listing everything can take hours, in which the other parts have their turns
    most CONSTANT integer := 1000;
    this_part text;
    place text;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_portal_tick()');
    FOREACH this_part IN ARRAY parts LOOP
        place := NULL;
        FOR portion IN 1 .. most LOOP
            COMMIT;
            -- whatever the session's default is: they have to see what others commit
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            place := stripe_portal.tick_portion(this_part, place);
            EXIT WHEN place IS NULL;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON PROCEDURE @extschema@.stripe_portal_tick() IS
'All periodic work: catches up with events that were not delivered, resolves thin events, tries failed events again whose time has come, reads objects whose rows are marked for a refetch, enters discounts that have ended into the histories, takes care of the ledger''s partitions, brings win-back offers up to date, and makes their discounts. Each part on its own: one that fails is a WARNING and does not stop the others, and one that has much to do goes on with the next tick. To be called every few minutes, from pg_cron, cron or by hand, not in a transaction; two at once do not get in each other''s way. How it went is in stripe_portal.tick_status';

CREATE OR REPLACE VIEW stripe_portal.tick_status WITH (security_invoker = true) AS
SELECT p.part, r.started, r.finished,
       CASE WHEN r.part IS NULL THEN 'never run' WHEN r.error IS NOT NULL THEN 'failed'
            WHEN r.finished IS NULL THEN 'unfinished' ELSE 'done' END AS state,
       r.error, r.portions, r.last_success
FROM stripe_portal.tick_part AS p
LEFT JOIN stripe_portal.tick_run AS r USING (part)
ORDER BY p.n;

COMMENT ON VIEW stripe_portal.tick_status IS 'When each part of stripe_portal_tick last ran, and how it went';
COMMENT ON COLUMN stripe_portal.tick_status.state IS 'done; failed: see error; unfinished: being done, or broken off; never run';
COMMENT ON COLUMN stripe_portal.tick_status.error IS 'SQLSTATE and message of the last run, if it failed';
COMMENT ON COLUMN stripe_portal.tick_status.portions IS 'Of how many transactions the run consisted so far';
COMMENT ON COLUMN stripe_portal.tick_status.last_success IS 'When the part was last finished without an error';
