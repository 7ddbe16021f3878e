-- sync: cutting lists into slices, of which several are read at once.
--
-- A list is read the newest first, and can not be entered in the middle, but it
-- can be cut by the time of creation.  As long as there is room for another
-- request in flight, the longest slice that is left is cut in half: this finds
-- the places where much lies without knowing them.
--
-- What Stripe lists only per customer is cut between customers, when all else
-- has been read and it is known who they are.

CREATE OR REPLACE FUNCTION stripe_portal.cut_by(kind text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce((SELECT k.cut_by FROM stripe_portal.sync_kind AS k WHERE k.object = kind), 'created') $$;

COMMENT ON FUNCTION stripe_portal.cut_by(text) IS
'What the view sync_kind says of a kind of objects; events are cut by the time of creation';

-- Without a search_path of its own, so that it becomes a part of the query that
-- calls it, which may want only the first.
CREATE OR REPLACE FUNCTION stripe_portal.slice_customers(slice stripe_portal.sync_cursor)
RETURNS TABLE (id text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT k.id FROM stripe_portal.customer AS k
    WHERE k.livemode = slice.livemode AND k.account = slice.account AND NOT k.deleted
      AND k.id > coalesce(slice.customer, '') AND (slice.customer_to IS NULL OR k.id <= slice.customer_to)
      AND (slice.created_from IS NULL OR k.created >= slice.created_from)
      AND (slice.created_to IS NULL OR k.created < slice.created_to);
END;

COMMENT ON FUNCTION stripe_portal.slice_customers(stripe_portal.sync_cursor) IS
'The customers whose lists a slice has still to read';

CREATE OR REPLACE FUNCTION stripe_portal.next_customer(slice stripe_portal.sync_cursor)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT c.id FROM stripe_portal.slice_customers(slice) AS c ORDER BY c.id LIMIT 1 $$;

COMMENT ON FUNCTION stripe_portal.next_customer(stripe_portal.sync_cursor) IS
'The customer whose list a slice goes on with; NULL at its end';

CREATE OR REPLACE FUNCTION stripe_portal.slice_length(slice stripe_portal.sync_cursor)
RETURNS double precision
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- before Stripe had customers
    beginning CONSTANT timestamptz := '2010-01-01 00:00:00+00';
BEGIN
    RETURN CASE stripe_portal.cut_by(slice.object)
        WHEN 'customer' THEN CASE WHEN slice.customers_left > 1 THEN slice.customers_left END
        -- of a list that was not begun, nobody knows whether it has two pages
        WHEN 'created' THEN CASE WHEN slice.last_created > coalesce(slice.created_from, beginning) + interval '1 day'
                                 THEN extract(epoch FROM slice.last_created - coalesce(slice.created_from, beginning)) END
        END;
END
$$;

COMMENT ON FUNCTION stripe_portal.slice_length(stripe_portal.sync_cursor) IS
'How much of a slice is left, in seconds or in customers; NULL if it can not be cut';

CREATE OR REPLACE FUNCTION stripe_portal.cut_slice(INOUT slice stripe_portal.sync_cursor, OUT rest stripe_portal.sync_cursor)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    rest := slice;
    IF stripe_portal.cut_by(slice.object) = 'customer' THEN
        -- some may have been deleted since they were counted
        slice.customers_left := (SELECT count(*) FROM stripe_portal.slice_customers(slice));
        rest.customers_left := slice.customers_left / 2;
        slice.customers_left := slice.customers_left - rest.customers_left;
        rest.customer := (SELECT c.id FROM stripe_portal.slice_customers(slice) AS c
                          ORDER BY c.id OFFSET slice.customers_left - 1 LIMIT 1);
        rest.slice := format('%s/%s', slice.slice, rest.customer);
        slice.customer_to := rest.customer;
    ELSE
        rest.created_to := date_trunc('second', slice.last_created - make_interval(secs => stripe_portal.slice_length(slice) / 2));
        rest.slice := format('%s/%s', slice.slice, extract(epoch FROM rest.created_to)::bigint);
        slice.created_from := rest.created_to;
    END IF;
    rest.last_id := NULL;
    rest.last_created := NULL;
    rest.pages := 0;
    rest.rows := 0;
    rest.failed := 0;
    rest.failure := NULL;
    rest.as_of := NULL;
    INSERT INTO stripe_portal.sync_cursor VALUES (rest.*);
    UPDATE stripe_portal.sync_cursor AS c
    SET created_from = slice.created_from, customer_to = slice.customer_to, customers_left = slice.customers_left
    WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
END
$$;

COMMENT ON FUNCTION stripe_portal.cut_slice(stripe_portal.sync_cursor) IS
'Cuts a slice that has a length in half; rest is the half that is read later';

CREATE OR REPLACE FUNCTION stripe_portal.open_slice(INOUT slice stripe_portal.sync_cursor)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF stripe_portal.cut_by(slice.object) <> 'customer' THEN
        RETURN;
    END IF;
    IF slice.customers_left IS NULL THEN
        slice.customers_left := CASE
            WHEN slice.object = 'entitlements.active_entitlement_summary' AND NOT stripe_portal.has_features(slice.account) THEN 0
            ELSE (SELECT count(*) FROM stripe_portal.slice_customers(slice)) END;
    ELSIF stripe_portal.next_customer(slice) IS NULL THEN
        slice.customers_left := 0;
    ELSE
        RETURN;
    END IF;
    UPDATE stripe_portal.sync_cursor AS c
    SET customers_left = slice.customers_left,
        updated = CASE WHEN slice.customers_left = 0 THEN clock_timestamp() ELSE c.updated END,
        finished = CASE WHEN slice.customers_left = 0 THEN clock_timestamp() END
    WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
    IF slice.customers_left = 0 THEN
        slice := NULL;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.open_slice(stripe_portal.sync_cursor) IS
'A slice that is about to be read; NULL if it is one of customers and has none: then that is all there is to it';

CREATE OR REPLACE FUNCTION stripe_portal.sync_claim(objects text[], account text, width integer)
RETURNS stripe_portal.sync_cursor[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    -- who the customers are is known when all else was read
    others CONSTANT text[] := ARRAY(SELECT o FROM unnest(objects) AS o WHERE stripe_portal.cut_by(o) <> 'customer');
    wanted CONSTANT text[] := CASE WHEN stripe_portal.sync_is_done(others, account) THEN objects ELSE others END;
    slice stripe_portal.sync_cursor;
    halves record;
    claimed stripe_portal.sync_cursor[] := '{}';
    longest integer;
BEGIN
    WHILE cardinality(claimed) < width LOOP
        SELECT c.* INTO slice FROM stripe_portal.sync_cursor AS c
        WHERE c.object = ANY (wanted) AND c.livemode = mode AND c.account = account AND c.finished IS NULL
          AND NOT EXISTS (SELECT FROM unnest(claimed) AS known WHERE (known.object, known.slice) = (c.object, c.slice))
        ORDER BY c.pages, c.object, c.slice
        LIMIT 1
        FOR UPDATE OF c SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        slice := stripe_portal.open_slice(slice);
        IF slice.object IS NOT NULL THEN
            claimed := claimed || slice;
        END IF;
    END LOOP;

    WHILE cardinality(claimed) BETWEEN 1 AND width - 1 LOOP
        longest := (SELECT n FROM generate_subscripts(claimed, 1) AS n
                    WHERE stripe_portal.slice_length(claimed[n]) IS NOT NULL
                    ORDER BY stripe_portal.slice_length(claimed[n]) DESC LIMIT 1);
        EXIT WHEN longest IS NULL;
        halves := stripe_portal.cut_slice(claimed[longest]);
        claimed[longest] := halves.slice;
        claimed := claimed || halves.rest;
    END LOOP;
    RETURN claimed;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_claim(text[], text, integer) IS
'Slices to read the next page of, so many at most, locked until the end of the transaction; others skip them. While there are fewer, the longest is cut in half';

CREATE OR REPLACE FUNCTION stripe_portal.sync_read(
    objects text[], account text, width integer DEFAULT current_setting('stripe_portal.in_flight')::integer)
RETURNS stripe_portal.sync_page[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claimed CONSTANT stripe_portal.sync_cursor[] := stripe_portal.sync_claim(objects, account, width);
    slice stripe_portal.sync_cursor;
    request record;
    customers text[] := '{}';
    paths text[] := '{}';
    params jsonb[] := '{}';
BEGIN
    FOR n IN 1 .. cardinality(claimed) LOOP
        slice := claimed[n];
        customers[n] := CASE WHEN stripe_portal.cut_by(slice.object) = 'customer' THEN stripe_portal.next_customer(slice) END;
        request := stripe_portal.list_request(slice.object, slice.params, slice.created_from, slice.created_to, customers[n], slice.last_id);
        paths[n] := request.path;
        params[n] := request.params;
    END LOOP;
    RETURN ARRAY(
        SELECT (claimed[f.n], f.status, CASE claimed[f.n].object WHEN 'event' THEN page ELSE f.body END,
                f.as_of, customers[f.n])::stripe_portal.sync_page
        FROM stripe_portal.fetch(paths, params, account) AS f, stripe_portal.without_urls(f.body) AS page
        ORDER BY f.n);
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_read(text[], text, integer) IS
'Reads the next page of several slices at once, of width at most. Nothing is locked meanwhile but their rows in sync_cursor, for which nobody waits. Empty if there is nothing left that nobody else is reading';
