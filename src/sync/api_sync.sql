-- sync: reading all objects of a kind, page by page.
--
-- Procedures that commit can not have a search_path of their own; that is why
-- all they do is done in functions.

CREATE OR REPLACE FUNCTION stripe_portal.sync_plan(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    began timestamptz;
    kind record;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_sync()');

    -- Two that plan at once would each begin anew.
    PERFORM stripe_portal.lock('sync_plan');
    -- A run that was broken off is gone on with; which it is, is told by when it began.
    SELECT max(c.started) INTO began FROM stripe_portal.sync_cursor AS c
    WHERE c.object = ANY (objects) AND c.livemode = mode AND c.account = account AND c.finished IS NULL
      AND c.range_from IS NOT DISTINCT FROM created_from AND c.range_to IS NOT DISTINCT FROM created_to;
    began := coalesce(began, clock_timestamp());
    FOR kind IN
        SELECT k.object, k.lists FROM stripe_portal.sync_kind AS k WHERE k.object = ANY (objects)
        UNION ALL
        SELECT 'event', ARRAY['{}'::jsonb] WHERE 'event' = ANY (objects)
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM stripe_portal.sync_cursor AS c
            WHERE c.object = kind.object AND c.livemode = mode AND c.account = account AND c.started = began
              AND c.range_from IS NOT DISTINCT FROM created_from AND c.range_to IS NOT DISTINCT FROM created_to);
        DELETE FROM stripe_portal.sync_cursor AS c
        WHERE c.object = kind.object AND c.livemode = mode AND c.account = account;
        INSERT INTO stripe_portal.sync_cursor
            (object, livemode, account, slice, params, range_from, range_to, created_from, created_to, started)
        SELECT kind.object, mode, account, n::text, params, created_from, created_to, created_from, created_to, began
        FROM unnest(kind.lists) WITH ORDINALITY AS list (params, n);
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_plan(text[], timestamptz, timestamptz, text) IS
'Prepares reading objects of these kinds, or events, created in [created_from, created_to). A run with the same range that is not finished is gone on with, and what it has read is not read again';

CREATE OR REPLACE FUNCTION stripe_portal.is_server_trouble(code text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN code ~ '^(40|53|57|58)' OR code = '55P03';

COMMENT ON FUNCTION stripe_portal.is_server_trouble(text) IS
'Whether an error with this SQLSTATE is no fault of the object that was being written';

CREATE OR REPLACE FUNCTION stripe_portal.sync_apply(page stripe_portal.sync_page, OUT failed bigint, OUT failure text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    element json;
    slice CONSTANT stripe_portal.sync_cursor := page.slice;
BEGIN
    failed := 0;
    -- most pages of subscriptions are in order
    IF slice.object = 'subscription' THEN
        BEGIN
            PERFORM stripe_portal.apply_read_subscriptions(
                ARRAY(SELECT stripe_portal.read_payload(value) FROM json_array_elements(page.body -> 'data') AS value
                      ORDER BY value ->> 'id'),
                slice.livemode, slice.account, page.as_of);
            RETURN;
        EXCEPTION WHEN OTHERS THEN
            -- one is not, so each by itself
            IF stripe_portal.is_server_trouble(SQLSTATE) THEN
                RAISE;
            END IF;
        END;
    END IF;
    -- by id, so that two pages with the same objects do not wait for each other
    FOR element IN
        SELECT value FROM json_array_elements(stripe_portal.listed(slice.object, page.customer, page.body)) AS value
        ORDER BY value ->> 'id'
    LOOP
        BEGIN
            IF slice.object = 'event' THEN
                PERFORM stripe_portal.receive_event(
                    -- an event that is read for a connected account need not name it
                    CASE WHEN slice.account = '' OR element ->> 'account' IS NOT NULL THEN element
                         ELSE (element::jsonb || jsonb_build_object('account', slice.account))::json END);
            ELSE
                PERFORM stripe_portal.apply_object(stripe_portal.read_payload(element), slice.livemode, slice.account, page.as_of);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            IF stripe_portal.is_server_trouble(SQLSTATE) THEN
                RAISE;
            END IF;
            failed := failed + 1;
            failure := format('%s: %s: %s', coalesce(element ->> 'id', page.customer), SQLSTATE, SQLERRM);
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_apply(stripe_portal.sync_page) IS
'Applies the objects of a page, or receives its events. One that can not be applied does not keep back the others: failed counts them, failure is about the last';

CREATE OR REPLACE FUNCTION stripe_portal.sync_write(batch stripe_portal.sync_page[], n integer)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    page CONSTANT stripe_portal.sync_page := batch[n];
    slice CONSTANT stripe_portal.sync_cursor := page.slice;
    -- of somebody who has been deleted since, there is nothing
    gone CONSTANT boolean := page.customer IS NOT NULL AND stripe_portal.lacks_customer(page.status, page.body);
    size CONSTANT integer := CASE WHEN NOT gone AND json_typeof(page.body -> 'data') = 'array'
                                  THEN json_array_length(stripe_portal.listed(slice.object, page.customer, page.body)) ELSE 0 END;
    is_last CONSTANT boolean := size = 0 OR (page.body ->> 'has_more')::boolean IS NOT TRUE
                                OR slice.object = 'entitlements.active_entitlement_summary';
    last CONSTANT json := page.body #> '{data,-1}';
    reached stripe_portal.sync_cursor := slice;
    mine boolean;
    new_failed bigint := 0;
    new_failure text;
BEGIN
    -- The pages that are still to be written were locked until the commit of
    -- the one before.  If somebody was faster, the page is theirs.
    SELECT bool_or(c.slice = slice.slice AND c.object = slice.object) INTO mine
    FROM (SELECT c.* FROM stripe_portal.sync_cursor AS c
          JOIN unnest(batch[n:]) AS p
            ON (c.object, c.livemode, c.account, c.slice)
             = ((p.slice).object, (p.slice).livemode, (p.slice).account, (p.slice).slice)
           AND (c.last_id, c.customer) IS NOT DISTINCT FROM ((p.slice).last_id, (p.slice).customer)
           AND c.started = (p.slice).started
          WHERE c.finished IS NULL
          FOR UPDATE OF c SKIP LOCKED) AS c;
    IF mine IS NOT TRUE THEN
        RETURN;
    END IF;

    IF page.status = 400 AND page.body #>> '{error,code}' = 'resource_missing' AND slice.last_id IS NOT NULL THEN
        -- The object that the page was to begin after is gone: its second
        -- again, or where there are no seconds, the list.
        UPDATE stripe_portal.sync_cursor AS c
        SET last_id = NULL,
            created_to = CASE WHEN stripe_portal.cut_by(c.object) = 'created' THEN slice.last_created + interval '1 second' ELSE c.created_to END
        WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
        RETURN;
    END IF;

    IF page.status >= 400 AND NOT gone THEN
        UPDATE stripe_portal.sync_cursor AS c
        SET error = stripe_portal.answer_error(page.status, page.body),
            updated = clock_timestamp(), finished = clock_timestamp()
        WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
        RETURN;
    END IF;

    IF NOT gone THEN
        PERFORM stripe_portal.require_list(coalesce((SELECT k.path FROM stripe_portal.sync_kind AS k WHERE k.object = slice.object), '/v1/events'),
                                           page.status, page.body);
    END IF;
    IF size > 0 THEN
        FOR tries IN 1 .. 5 LOOP
            BEGIN
                SELECT a.failed, a.failure INTO new_failed, new_failure FROM stripe_portal.sync_apply(page) AS a;
                EXIT;
            EXCEPTION WHEN deadlock_detected OR serialization_failure THEN
                IF tries = 5 THEN
                    RAISE;
                END IF;
            END;
        END LOOP;
    END IF;

    reached.last_id := coalesce(last ->> 'id', slice.last_id);
    reached.last_created := coalesce(stripe_portal.read_time(last::jsonb -> 'created'), slice.last_created);
    IF is_last AND page.customer IS NOT NULL THEN
        reached.customer := page.customer;
        reached.last_id := NULL;
        reached.customers_left := greatest(slice.customers_left - 1, 0);
    END IF;
    UPDATE stripe_portal.sync_cursor AS c
    SET last_id = reached.last_id,
        last_created = reached.last_created,
        customer = reached.customer,
        customers_left = reached.customers_left,
        pages = c.pages + 1,
        rows = c.rows + size,
        failed = c.failed + new_failed,
        failure = coalesce(new_failure, c.failure),
        as_of = least(c.as_of, page.as_of),
        begun = coalesce(c.begun, now()),
        updated = clock_timestamp(),
        finished = CASE WHEN is_last AND (page.customer IS NULL OR stripe_portal.next_customer(reached) IS NULL) THEN clock_timestamp() END
    WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_write(stripe_portal.sync_page[], integer) IS
'Writes the n-th of the pages that sync_read gave, and notes how far its slice has come. To be followed by a commit';

CREATE OR REPLACE FUNCTION stripe_portal.sync_is_done(objects text[], account text)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (
        SELECT FROM stripe_portal.sync_cursor AS c
        WHERE c.object = ANY (objects) AND c.livemode = stripe_portal.key_livemode()
          AND c.account = sync_is_done.account AND c.finished IS NULL)
$$;

COMMENT ON FUNCTION stripe_portal.sync_is_done(text[], text) IS
'Whether all slices of these kinds have been read to the end';

CREATE OR REPLACE FUNCTION stripe_portal.is_open(kind text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE kind WHEN 'subscription' THEN 'NOT stripe_portal.status_is_final(t.status)'
                -- the lists have those that somebody has
                WHEN 'payment_method' THEN 't.attached AND NOT t.deleted'
                WHEN 'entitlements.active_entitlement_summary' THEN 't.lookup_keys <> ''{}'''
                ELSE CASE
                WHEN EXISTS (SELECT FROM pg_attribute
                             WHERE attrelid = format('stripe_portal.%I', stripe_portal.state_table(kind))::regclass
                               AND attname = 'deleted' AND NOT attisdropped) THEN 'NOT t.deleted'
                ELSE 'true' END END
$$;

COMMENT ON FUNCTION stripe_portal.is_open(text) IS
'The SQL condition for a row t of this kind''s table to show something that can still change or vanish';

CREATE OR REPLACE FUNCTION stripe_portal.sync_mark_unseen(objects text[], account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    run record;
    shown bigint;
    unseen bigint;
BEGIN
    FOR run IN
        SELECT c.object, c.livemode, min(c.as_of) AS as_of
        FROM stripe_portal.sync_cursor AS c
        WHERE c.object = ANY (objects) AND stripe_portal.state_table(c.object) IS NOT NULL AND c.livemode = stripe_portal.key_livemode()
          AND c.account = sync_mark_unseen.account
        GROUP BY c.object, c.livemode
        HAVING bool_and(c.finished IS NOT NULL AND c.error IS NULL AND c.range_from IS NULL AND c.range_to IS NULL)
    LOOP
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE t.event_created < $3)
                        FROM stripe_portal.%I AS t WHERE t.livemode = $1 AND t.account = $2 AND %s',
                       stripe_portal.state_table(run.object), stripe_portal.is_open(run.object))
        INTO shown, unseen USING run.livemode, account, run.as_of;
        -- With the key of another account, everything would seem to be gone,
        -- and what is marked as deleted stays so.
        IF unseen > 10 AND unseen > shown / 2 THEN
            RAISE WARNING 'Stripe does not list % of % objects of kind "%"', unseen, shown, run.object
                USING HINT = 'If the key is that of the right account, stripe_drift(repair => true) takes over what is gone.';
            CONTINUE;
        END IF;
        EXECUTE format('UPDATE stripe_portal.%I AS t SET refetch = true
                        WHERE t.livemode = $1 AND t.account = $2 AND t.event_created < $3 AND NOT t.refetch AND %s',
                       stripe_portal.state_table(run.object), stripe_portal.is_open(run.object))
        USING run.livemode, account, run.as_of;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_mark_unseen(text[], text) IS
'Marks for a refetch what a complete run did not come across: lists do not have what was deleted. If that is most of a table, a WARNING tells of it instead';

CREATE OR REPLACE FUNCTION stripe_portal.analyze_grown()
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    grown regclass;
    count integer := 0;
BEGIN
    FOR grown IN
        SELECT c.oid FROM pg_class AS c
        WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind = 'r'
          AND pg_relation_size(c.oid) > 8192 * greatest(16, 4 * c.relpages)
        ORDER BY c.oid
    LOOP
        EXECUTE format('ANALYZE (SKIP_LOCKED) %s', grown);
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.analyze_grown() IS
'Analyzes the tables that have grown to many times what their statistics say: plans that were made while they were empty would look through all of them for each object. Gives their number';

CREATE OR REPLACE PROCEDURE stripe_portal.sync_run(objects text[], account text)
LANGUAGE plpgsql
AS $$
DECLARE
    pages stripe_portal.sync_page[];
    told timestamptz := pg_catalog.clock_timestamp();
BEGIN
    LOOP
        pages := stripe_portal.sync_read(objects, account);
        FOR n IN 1 .. pg_catalog.cardinality(pages) LOOP
            PERFORM stripe_portal.sync_write(pages, n);
            COMMIT;
        END LOOP;
        PERFORM stripe_portal.analyze_grown();
        COMMIT;
        IF pg_catalog.cardinality(pages) = 0 THEN
            EXIT WHEN stripe_portal.sync_is_done(objects, account);
            -- somebody else is reading the rest
            COMMIT;
            PERFORM pg_catalog.pg_sleep(0.2);
        END IF;
        IF pg_catalog.clock_timestamp() > told + interval '10 seconds' THEN
            told := pg_catalog.clock_timestamp();
            PERFORM stripe_portal.sync_tell(objects, account);
        END IF;
    END LOOP;
    COMMIT;
END
$$;

COMMENT ON PROCEDURE stripe_portal.sync_run(text[], text) IS
'Reads these kinds to the end, with a commit after each page. Several at once share the work. Can not be called in a transaction';

CREATE OR REPLACE FUNCTION stripe_portal.sync_tell(objects text[], account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p record;
BEGIN
    FOR p IN
        SELECT s.* FROM stripe_portal.sync_progress AS s
        WHERE s.object = ANY (objects) AND s.livemode = stripe_portal.key_livemode() AND s.account = sync_tell.account
        ORDER BY s.object
    LOOP
        RAISE NOTICE '%: % read%', p.object, p.rows,
            CASE WHEN p.state = 'refused' THEN ', refused: ' || p.error
                 WHEN p.state = 'unfinished' THEN format(' in %s pages, %s per second, to end about %s',
                      p.pages, coalesce(p.rate::text, '?'), coalesce(to_char(p.estimated_end, 'HH24:MI:SS'), '?'))
                 WHEN p.failed > 0 THEN format(', %s of them not applied, the last because of %s', p.failed, p.failure)
                 ELSE '' END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_tell(text[], text) IS
'Tells in NOTICEs how far reading these kinds has come';

CREATE OR REPLACE VIEW stripe_portal.sync_progress WITH (security_invoker = true) AS
SELECT object, livemode, account, pages, rows, failed, failure, error, started, updated,
       CASE WHEN not_finished = 0 THEN finished END AS finished,
       CASE WHEN not_finished > 0 THEN 'unfinished' WHEN error IS NOT NULL THEN 'refused' ELSE 'done' END AS state,
       round(rows / nullif(extract(epoch FROM updated - begun), 0), 1) AS rate,
       CASE WHEN not_finished > 0 AND covered > 0 THEN begun + (updated - begun) / covered END AS estimated_end
FROM (
    SELECT object, livemode, account, sum(pages) AS pages, sum(rows) AS rows, sum(failed) AS failed,
           max(failure) AS failure, max(error) AS error,
           min(started) AS started, min(begun) AS begun, max(updated) AS updated, max(finished) AS finished,
           count(*) FILTER (WHERE finished IS NULL) AS not_finished,
           CASE WHEN bool_or(customers_left IS NOT NULL)
           -- the share of the customers
           THEN sum(pages) / nullif(sum(pages) + sum(customers_left), 0)::double precision
           -- The share of the time of creation that has been read.  When the
           -- first object was created is known once the slices before are read.
           ELSE 1 - sum(extract(epoch FROM CASE WHEN finished IS NULL
                   THEN coalesce(last_created, created_to, started) - greatest(created_from, beginning) ELSE interval '0' END))
               / nullif(extract(epoch FROM max(coalesce(range_to, started) - beginning)), 0)::double precision END AS covered
    FROM (SELECT c.*,
                 nullif(min(coalesce(created_from, '-infinity')) FILTER (WHERE finished IS NULL OR rows > 0)
                        OVER (PARTITION BY object, livemode, account), '-infinity') AS beginning
          FROM stripe_portal.sync_cursor AS c) AS c
    GROUP BY object, livemode, account
) AS run;

COMMENT ON VIEW stripe_portal.sync_progress IS 'How far reading from Stripe has come, by kind of object: a run that is under way, or the last one';
COMMENT ON COLUMN stripe_portal.sync_progress.rate IS 'Objects per second';
COMMENT ON COLUMN stripe_portal.sync_progress.failed IS 'How many objects could not be applied; failure tells of one of them';
COMMENT ON COLUMN stripe_portal.sync_progress.error IS 'Why Stripe refused to list them, after its SQLSTATE';
COMMENT ON COLUMN stripe_portal.sync_progress.state IS 'unfinished: being read, or to be gone on with by the next call; done; refused';
COMMENT ON COLUMN stripe_portal.sync_progress.estimated_end IS 'If the rest of the time of creation goes as fast as what was read; NULL as long as it is not known when the first was created';

CREATE OR REPLACE PROCEDURE @extschema@.stripe_sync(
    objects text[] DEFAULT NULL, created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL,
    dry_run boolean DEFAULT false, account text DEFAULT '')
LANGUAGE plpgsql
AS $$
DECLARE
    kinds text[] := stripe_portal.sync_kinds(objects);
    place text;
BEGIN
    account := coalesce(account, '');
    created_from := nullif(created_from, '-infinity');
    created_to := nullif(created_to, 'infinity');
    IF NOT isfinite(created_from) OR NOT isfinite(created_to) THEN
        RAISE EXCEPTION 'nothing was created in that time'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It begins with created_from, and ends before created_to.';
    END IF;

    IF dry_run THEN
        PERFORM stripe_portal.sync_dry_run(kinds, created_from, created_to, account);
        RETURN;
    END IF;

    PERFORM stripe_portal.sync_plan(kinds, created_from, created_to, account);
    IF objects IS NULL AND created_from IS NULL AND created_to IS NULL THEN
        PERFORM stripe_portal.event_cursor_begin(account);
    END IF;
    COMMIT;
    CALL stripe_portal.sync_run(kinds, account);
    PERFORM stripe_portal.sync_mark_unseen(kinds, account);
    COMMIT;
    IF stripe_portal.has_marked(kinds) THEN
        -- a second reading in the same second could not be told from the first
        PERFORM pg_catalog.pg_sleep(2);
    END IF;
    LOOP
        place := stripe_portal.refetch(place, kinds);
        COMMIT;
        EXIT WHEN place IS NULL;
    END LOOP;
    PERFORM stripe_portal.sync_tell(kinds, account);
END
$$;

COMMENT ON PROCEDURE @extschema@.stripe_sync(text[], timestamptz, timestamptz, boolean, text) IS
'Reads all objects that the tables hold from Stripe, canceled subscriptions included, and makes the tables show them, unless these show something newer. Commits after each page, so it can not be called in a transaction; a run that was broken off goes on where it was, and several at once share the work. objects: kinds of them, NULL for all (see stripe_portal.sync_kind). created_from, created_to: only what was created from the one on and before the other; NULL or infinite: no limit. Payment methods and entitlements are listed per customer, a request for each, after all else: there the times are those of the customers; portal configurations are always read as a whole. dry_run: writes nothing and tells in NOTICEs how many would be new or changed. account: a connected account; NULL or empty is the key''s own. How far it is: stripe_portal.sync_progress. Errors as in stripe_api; a kind that the key has no right to read is refused, and the others are read';
