-- sync: events that were never delivered, read from Stripe's list of them.
--
-- The list is in the order of the events' seconds, with no order within one,
-- and an event may show up in it a little late.  So reading begins some time
-- before the last event that is known, and nothing depends on the order or on
-- an event being new: the ledger takes each once.

CREATE OR REPLACE FUNCTION stripe_portal.newest_event(
    account text, OUT event text, OUT created timestamptz, OUT as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    SELECT f.status, page AS body, f.as_of INTO answer
    FROM stripe_portal.fetch('{/v1/events}', ARRAY['{"limit": 1}']::jsonb[], account) AS f, stripe_portal.without_urls(f.body) AS page;
    PERFORM stripe_portal.require_list('/v1/events', answer.status, answer.body);
    event := answer.body #>> '{data,0,id}';
    created := coalesce(stripe_portal.read_time((answer.body #> '{data,0,created}')::jsonb), answer.as_of);
    as_of := answer.as_of;
END
$$;

COMMENT ON FUNCTION stripe_portal.newest_event(text) IS
'The newest event that Stripe has, and what time it is there; without any event, created is that time';

CREATE OR REPLACE FUNCTION stripe_portal.event_cursor_begin(account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM stripe_portal.event_cursor AS c
                   WHERE c.livemode = stripe_portal.key_livemode() AND c.account = event_cursor_begin.account) THEN
        INSERT INTO stripe_portal.event_cursor (livemode, account, event, created)
        SELECT stripe_portal.key_livemode(), event_cursor_begin.account, n.event, n.created
        FROM stripe_portal.newest_event(account) AS n
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.event_cursor_begin(text) IS
'Where nothing has been caught up with yet, lets that begin now: what was before is about to be read from the lists of objects';

CREATE OR REPLACE FUNCTION stripe_portal.catch_up_plan(account text)
RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    -- Stripe keeps events for 30 days
    kept CONSTANT interval := '30 days';
    overlap CONSTANT interval := '10 minutes';
    newest record;
    known stripe_portal.event_cursor;
    kinds text[];
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_catch_up()');
    IF NOT stripe_portal.catch_up_is_under_way(account) THEN
        newest := stripe_portal.newest_event(account);

        PERFORM stripe_portal.lock('catch_up_plan');
        IF NOT stripe_portal.catch_up_is_under_way(account) THEN
            SELECT * INTO known FROM stripe_portal.event_cursor AS c
            WHERE c.livemode = mode AND c.account = catch_up_plan.account;
            -- what is no longer in the list is not to be had as events
            known.relist := coalesce(known.created < newest.as_of - kept + overlap, true);

            INSERT INTO stripe_portal.event_cursor AS c (livemode, account, next_event, next_created, relist)
            VALUES (mode, catch_up_plan.account, newest.event, newest.created, known.relist)
            ON CONFLICT ON CONSTRAINT event_cursor_pkey DO UPDATE
            SET next_event = excluded.next_event, next_created = excluded.next_created,
                relist = c.relist OR excluded.relist;
            DELETE FROM stripe_portal.sync_cursor AS c
            WHERE c.object = 'event' AND c.livemode = mode AND c.account = catch_up_plan.account;
            PERFORM stripe_portal.sync_plan('{event}', greatest(known.created - overlap, newest.as_of - kept), NULL, account);
            IF known.relist THEN
                PERFORM stripe_portal.sync_plan(stripe_portal.sync_kinds(NULL), NULL, NULL, account);
            END IF;
        END IF;
    END IF;

    SELECT CASE WHEN c.relist THEN stripe_portal.sync_kinds(NULL) ELSE '{}' END || '{event}'::text[]
    INTO kinds
    FROM stripe_portal.event_cursor AS c WHERE c.livemode = mode AND c.account = catch_up_plan.account;
    RETURN kinds;
END
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_plan(text) IS
'Prepares catching up, or finds that it is under way, and gives the kinds of objects to read: events, and all others too if nothing was caught up with yet, or the last event that is known is older than those that Stripe keeps';

CREATE OR REPLACE FUNCTION stripe_portal.catch_up_is_under_way(account text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM stripe_portal.event_cursor AS c
                   WHERE c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_is_under_way.account
                     AND c.next_created IS NOT NULL)
       AND EXISTS (SELECT FROM stripe_portal.sync_cursor AS c
                   WHERE c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_is_under_way.account
                     AND c.finished IS NULL)
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_is_under_way(text) IS
'Whether a run of catching up was begun that has something left to read';

CREATE OR REPLACE FUNCTION stripe_portal.catch_up_done(kinds text[], account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    trouble record;
BEGIN
    -- The cursor must not pass an event that is not in the ledger.
    SELECT c.object, c.error, c.failure INTO trouble
    FROM stripe_portal.sync_cursor AS c
    WHERE c.object = 'event' AND c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_done.account
      AND (c.error IS NOT NULL OR c.failed > 0);
    IF FOUND THEN
        RAISE EXCEPTION 'events could not be caught up with'
            USING ERRCODE = 'external_routine_exception',
                  DETAIL = coalesce(trouble.error, trouble.failure) || '.';
    END IF;

    -- Somebody may have asked for a part of a kind meanwhile, and that took the
    -- place of the whole that this run was to read.
    SELECT c.object INTO trouble
    FROM stripe_portal.sync_cursor AS c
    WHERE c.object = ANY (kinds) AND c.object <> 'event'
      AND c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_done.account
      AND (c.range_from IS NOT NULL OR c.range_to IS NOT NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'another run has read only a part of objects of kind "%"', trouble.object
            USING ERRCODE = 'external_routine_exception',
                  HINT = 'Catch up again: that lists them all.';
    END IF;

    PERFORM stripe_portal.sync_mark_unseen(kinds, account);
    UPDATE stripe_portal.event_cursor AS c
    SET event = next_event, created = next_created, next_event = NULL, next_created = NULL, relist = false,
        caught_up = clock_timestamp()
    WHERE c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_done.account AND c.next_created IS NOT NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_done(text[], text) IS
'Notes that the ledger is complete up to where a run of catching up began; error 38000 if an event could not be stored, Stripe refused the list, or another run took the place of this one, and then the next run begins where this one did';

CREATE OR REPLACE PROCEDURE @extschema@.stripe_catch_up(account text DEFAULT '')
LANGUAGE plpgsql
AS $$
DECLARE
    here CONSTANT text := coalesce(account, '');
    kinds CONSTANT text[] := stripe_portal.catch_up_plan(here);
BEGIN
    COMMIT;
    CALL stripe_portal.sync_run(kinds, here);
    PERFORM stripe_portal.catch_up_done(kinds, here);
    COMMIT;
END
$$;

COMMENT ON PROCEDURE @extschema@.stripe_catch_up(text) IS
'Reads the events that Stripe has from the last one that was read on, puts those into the ledger that are missing there and applies them as if they had been delivered. Stripe keeps them for 30 days: after a longer pause, and the first time unless stripe_sync has read everything before, lists all objects too, as stripe_sync does. Commits after each page, so it can not be called in a transaction; goes on after being broken off; several at once share the work. account: a connected account. Errors as in stripe_api, and 38000 if an event could not be stored';

CREATE OR REPLACE FUNCTION stripe_portal.catch_up_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    here CONSTANT text := split_part(coalesce(place, ''), ' ', 1);
    failed text := coalesce(substr(place, length(here) + 1), '');
    kinds text[];
    pages stripe_portal.sync_page[];
    next_account text;
BEGIN
    -- a portion of its own, with which nothing goes that was caught up with
    IF here = '' AND failed <> '' THEN
        RAISE EXCEPTION 'events of account% could not be caught up with', failed
            USING ERRCODE = 'external_routine_exception';
    END IF;

    BEGIN
        kinds := stripe_portal.catch_up_plan(here);
        -- one page, since a portion is one transaction
        pages := stripe_portal.sync_read(kinds, here, 1);
        IF cardinality(pages) > 0 THEN
            PERFORM stripe_portal.sync_write(pages, 1);
        END IF;
        IF stripe_portal.sync_is_done(kinds, here) THEN
            PERFORM stripe_portal.catch_up_done(kinds, here);
        ELSIF cardinality(pages) > 0 THEN
            RETURN here || failed;
        END IF;
    EXCEPTION WHEN SQLSTATE 'SP403' OR external_routine_exception THEN
        -- what is wrong with a connected account must not keep the others waiting
        IF here = '' THEN
            RAISE;
        END IF;
        RAISE WARNING 'events of account "%" could not be caught up with: %', here, SQLERRM USING ERRCODE = SQLSTATE;
        failed := failed || ' ' || here;
    END;
    -- then the next account, of those that were caught up with before
    next_account := (SELECT min(c.account) FROM stripe_portal.event_cursor AS c
                     WHERE c.livemode = mode AND c.account > here);
    RETURN nullif(coalesce(next_account, '') || failed, '');
END
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_step(text) IS
'A portion of catching up, for the tick: place is the connected account at which it is, and after a space each those at which it failed, NULL at first, and where to go on is the result, NULL at the end. Takes the key''s own account and every one for which stripe_sync or stripe_catch_up was called before';
