-- sync: reading single objects, where the tables know that they are not sure.

CREATE OR REPLACE FUNCTION stripe_portal.refetch_discounts()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    -- No event tells what a coupon is for, and what an amount is in other
    -- currencies; one that was read is no event's any more.  Not marked when it is applied: an id can be given to another coupon.
    UPDATE stripe_portal.coupon SET refetch = true
    WHERE event <> '' AND (applies_to IS NULL OR amount_off IS NOT NULL AND currency_options IS NULL) AND NOT deleted AND NOT refetch AND livemode = stripe_portal.key_livemode();

    WITH unsure AS (
        UPDATE stripe_portal.discount SET refetch = false
        WHERE refetch AND livemode = stripe_portal.key_livemode()
        RETURNING subscription, customer, livemode, account
    ), subscription AS (
        UPDATE stripe_portal.subscription AS s SET refetch = true FROM unsure AS u
        WHERE (s.id, s.livemode, s.account) = (u.subscription, u.livemode, u.account) AND NOT s.refetch
    )
    UPDATE stripe_portal.customer AS c SET refetch = true FROM unsure AS u
    WHERE u.subscription IS NULL AND (c.id, c.livemode, c.account) = (u.customer, u.livemode, u.account)
      AND NOT c.refetch AND NOT c.deleted
$$;

COMMENT ON FUNCTION stripe_portal.refetch_discounts() IS
'Passes the mark for a refetch on from discounts to what they are on, with which they are read: Stripe has no request for one discount. Marks the coupons of which no more than their events is known';

CREATE OR REPLACE FUNCTION stripe_portal.has_marked(kinds text[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text;
    found_one boolean;
BEGIN
    FOR kind IN SELECT k.state_table FROM stripe_portal.sync_kind AS k WHERE k.object = ANY (kinds) AND k.state_table IS NOT NULL LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM stripe_portal.%I WHERE refetch AND livemode = stripe_portal.key_livemode())', kind)
        INTO found_one;
        IF found_one THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

COMMENT ON FUNCTION stripe_portal.has_marked(text[]) IS
'Whether a row of these kinds of objects is marked for a refetch';

CREATE OR REPLACE FUNCTION stripe_portal.read_entitlements(
    customer text, account text, OUT status integer, OUT body json, OUT summary jsonb, OUT as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    params jsonb := jsonb_build_object('customer', customer, 'limit', 100);
    entitlements jsonb := '[]';
    oldest timestamptz;
BEGIN
    LOOP
        SELECT f.status, f.body, f.as_of INTO status, body, as_of
        FROM stripe_portal.fetch('{/v1/entitlements/active_entitlements}', ARRAY[params], account) AS f;
        oldest := least(oldest, as_of);
        as_of := oldest;
        IF stripe_portal.lacks_customer(status, body) THEN
            -- who is gone is entitled to nothing
            entitlements := '[]';
            EXIT;
        ELSIF status >= 400 THEN
            RETURN;
        END IF;
        PERFORM stripe_portal.require_list('/v1/entitlements/active_entitlements', status, body);
        entitlements := entitlements || stripe_portal.read_payload(body -> 'data');
        EXIT WHEN (body ->> 'has_more')::boolean IS NOT TRUE OR entitlements = '[]';
        params := params || jsonb_build_object('starting_after', entitlements #> '{-1,id}');
    END LOOP;
    summary := jsonb_build_object('object', 'entitlements.active_entitlement_summary', 'customer', customer,
                                  'entitlements', jsonb_build_object('data', entitlements, 'has_more', false));
END
$$;

COMMENT ON FUNCTION stripe_portal.read_entitlements(text, text) IS
'All that a customer is entitled to now, read from Stripe, in the form in which events tell it; as_of is that of the oldest part. summary is NULL if Stripe refuses, status and body say why';

CREATE OR REPLACE FUNCTION stripe_portal.read_objects(kind text, ids text[], account text)
RETURNS TABLE (id text, status integer, body json, object jsonb, as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    request CONSTANT stripe_portal.sync_kind := (SELECT k FROM stripe_portal.sync_kind AS k WHERE k.object = kind);
BEGIN
    IF request.one IS NULL THEN
        FOREACH id IN ARRAY ids LOOP
            SELECT r.status, r.body, r.summary, r.as_of INTO status, body, object, as_of
            FROM stripe_portal.read_entitlements(id, account) AS r;
            RETURN NEXT;
        END LOOP;
        RETURN;
    END IF;
    FOR id, status, body, as_of IN
        SELECT ids[f.n], f.status, f.body, f.as_of
        FROM stripe_portal.fetch(
            ARRAY(SELECT request.path || '/' || stripe_portal.encode_id(u.id) FROM unnest(ids) WITH ORDINALITY AS u (id, n) ORDER BY u.n),
            array_fill(request.one, ARRAY[cardinality(ids)]), account) AS f
        ORDER BY f.n
    LOOP
        object := NULL;
        IF status = 404 AND body #>> '{error,code}' = 'resource_missing' THEN
            object := jsonb_build_object('id', id, 'object', kind, 'deleted', true);
        ELSIF status < 400 THEN
            SELECT w.whole, w.as_of INTO object, as_of
            FROM stripe_portal.whole_subscription(stripe_portal.read_payload(body), account, as_of) AS w;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.read_objects(text, text[], text) IS
'Objects of one kind, read from Stripe by their ids: {"id": …, "object": …, "deleted": true} for one that Stripe does not know, NULL for one that it refuses to give; status and body say why';

CREATE OR REPLACE FUNCTION stripe_portal.refetch(place text DEFAULT NULL, kinds text[] DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    portion CONSTANT integer := 100;
    mode CONSTANT boolean := stripe_portal.key_livemode();
    kind record;
    ids text[];
    accounts text[];
    objects jsonb[];
    times timestamptz[];
    answer record;
    last_key text;
BEGIN
    IF place IS NULL THEN
        PERFORM stripe_portal.refetch_discounts();
    END IF;
    FOR kind IN
        SELECT k.object, k.state_table FROM stripe_portal.sync_kind AS k
        WHERE k.state_table IS NOT NULL
          AND (kinds IS NULL OR k.object = ANY (kinds)) AND k.object >= coalesce(split_part(place, ' ', 1), '')
        ORDER BY k.object
    LOOP
        -- as a key that can be compared, and said in one word
        last_key := CASE WHEN split_part(place, ' ', 1) = kind.object THEN substr(place, length(kind.object) + 2) ELSE '' END;
        EXECUTE format(
            'SELECT array_agg(id ORDER BY account, id), array_agg(account ORDER BY account, id)
             FROM (SELECT %2$I AS id, account FROM stripe_portal.%1$I
                   WHERE refetch AND livemode = $1 AND (account, %2$I) > (split_part($2, '' '', 1), split_part($2, '' '', 2))
                     -- what no path of a request takes
                     AND %2$I !~ ''(^|/)[.]{1,2}(/|$)'' AND length(%2$I) <= 255
                   ORDER BY account, %2$I LIMIT $3) AS t',
            kind.state_table, stripe_portal.key_column(kind.object))
        INTO ids, accounts USING mode, last_key, portion;
        CONTINUE WHEN ids IS NULL;

        -- one account at a time, and first all that takes time
        ids := ids[1 : array_length(array_positions(accounts, accounts[1]), 1)];
        objects := '{}';
        times := '{}';
        FOR answer IN SELECT * FROM stripe_portal.read_objects(kind.object, ids, accounts[1]) LOOP
            IF answer.object IS NULL THEN
                RAISE WARNING 'could not read "%" from Stripe: %', answer.id, stripe_portal.answer_error(answer.status, answer.body);
            ELSE
                objects := array_append(objects, answer.object);
                times := array_append(times, answer.as_of);
            END IF;
        END LOOP;
        FOR n IN 1 .. cardinality(objects) LOOP
            BEGIN
                PERFORM stripe_portal.apply_object(objects[n], mode, accounts[1], times[n]);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                RAISE WARNING 'could not apply "%": %', stripe_portal.object_id(objects[n]), SQLERRM;
            END;
        END LOOP;
        RETURN format('%s %s %s', kind.object, accounts[1], ids[cardinality(ids)]);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.refetch(text, text[]) IS
'Reads the objects whose rows are marked for a refetch from Stripe and applies them; what Stripe does not know any more is deleted here. Works in portions, and tries each row once: place is NULL at first and then what the call before gave, until that is NULL. A row that an event of this very second has changed stays marked. kinds: NULL for all';

-- ---------------------------------------------------------------------------
-- Thin events
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.resolve_thin(
    event text, livemode boolean, account text,
    OUT outcome text, OUT error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    thin record;
    kind record;
    answer record;
    read_object record;
    failure text;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_resolve_thin()');
    SELECT t.* INTO thin FROM stripe_portal.event_thin AS t
    WHERE (t.id, t.livemode, t.account)
        = (resolve_thin.event, coalesce(resolve_thin.livemode, mode), resolve_thin.account);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no thin event "%" that waits to be resolved', event
            USING ERRCODE = 'no_data_found', HINT = 'The view stripe_portal.event_thin has those that do.';
    END IF;
    IF thin.livemode <> mode THEN
        RAISE EXCEPTION 'the configured Stripe API key is not for % mode', CASE WHEN thin.livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SPC01';
    END IF;

    IF thin.path IS NULL THEN
        failure := 'the event does not say where its object is';
    ELSE
        SELECT k.* INTO kind FROM stripe_portal.sync_kind AS k
        WHERE k.one IS NOT NULL AND thin.path ~ ('^' || k.path || '/[^/]+$');
        SELECT f.* INTO answer
        FROM stripe_portal.fetch(ARRAY[thin.path], ARRAY[coalesce(kind.one, '{}')], account) AS f;
        IF answer.status = 404 AND answer.body #>> '{error,code}' = 'resource_missing' AND kind.object IS NOT NULL THEN
            PERFORM stripe_portal.apply_object(
                jsonb_build_object('id', thin.object_id, 'object', kind.object, 'deleted', true), mode, account, answer.as_of);
        ELSIF answer.status >= 400 THEN
            failure := stripe_portal.answer_error(answer.status, answer.body);
        ELSE
            read_object := stripe_portal.whole_subscription(stripe_portal.read_payload(answer.body), account, answer.as_of);
            BEGIN
                PERFORM stripe_portal.apply_object(read_object.whole, mode, account, read_object.as_of);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                failure := SQLSTATE || ': ' || SQLERRM;
            END;
        END IF;
    END IF;
    SELECT s.* INTO outcome, error FROM stripe_portal.settle_thin(event, mode, account, failure) AS s;
END
$$;

COMMENT ON FUNCTION stripe_portal.resolve_thin(text, boolean, text) IS
'stripe_resolve_thin, for other functions to call';

CREATE OR REPLACE FUNCTION @extschema@.stripe_resolve_thin(
    event text, livemode boolean DEFAULT NULL, account text DEFAULT '',
    OUT outcome text, OUT error text)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.outcome, r.error FROM stripe_portal.resolve_thin(event, livemode, account) AS r $$;

COMMENT ON FUNCTION @extschema@.stripe_resolve_thin(text, boolean, text) IS
'Reads the object of a thin event from Stripe and applies it, and then calls the event''s handlers. The key is sent only to a plain path below /v1/. outcome and error as in stripe_receive_webhook: what can not be read is failed, and waits for its next attempt. livemode: NULL is the mode of the configured key, the only one that can be read (error SPC01). An event that does not wait is error P0002; errors of the connection as in stripe_api';

CREATE OR REPLACE FUNCTION stripe_portal.resolve_next_thin(place text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    thin record;
BEGIN
    SELECT t.id, t.account INTO thin FROM stripe_portal.event_thin AS t
    WHERE t.livemode = stripe_portal.key_livemode()
      AND (place IS NULL OR (t.account, t.id) > (split_part(place, ' ', 1), split_part(place, ' ', 2)))
    ORDER BY t.account, t.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM stripe_portal.resolve_thin(thin.id, NULL, thin.account);
    RETURN format('%s %s', thin.account, thin.id);
END
$$;

COMMENT ON FUNCTION stripe_portal.resolve_next_thin(text) IS
'Resolves one thin event that waits; place as in refetch';
