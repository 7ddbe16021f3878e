-- webhook: applying an event, in whatever order it arrives.
--
-- An event that is newer than the row is simply written (see billing).  Events
-- of one second are put in order by what they say they changed; where that is
-- not decisive, one of them is chosen, the same for every order of arrival,
-- and the row's refetch is set.

CREATE OR REPLACE FUNCTION stripe_portal.event_stage(event jsonb)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN event #>> '{data,object,object}' = 'subscription' THEN
        CASE WHEN stripe_portal.status_is_final(event #>> '{data,object,status}') THEN 2
             WHEN event #>> '{data,object,status}' = 'incomplete' THEN 0 ELSE 1 END
    WHEN event ->> 'type' LIKE '%.deleted' THEN 1000000
    WHEN event #>> '{data,object,object}' = 'invoice' THEN
        CASE event #>> '{data,object,status}'
            WHEN 'draft' THEN 0 WHEN 'open' THEN 10000 WHEN 'uncollectible' THEN 20000 ELSE 30000 END
        + CASE WHEN event #>> '{data,object,attempt_count}' ~ '^[0-9]{1,4}$'
               THEN (event #>> '{data,object,attempt_count}')::integer ELSE 0 END
    WHEN event #>> '{data,object,object}' = 'payment_intent' THEN
        CASE WHEN event #>> '{data,object,status}' IN ('succeeded', 'canceled') THEN 1 ELSE 0 END
    WHEN event #>> '{data,object,object}' = 'dispute' THEN
        CASE WHEN event ->> 'type' = 'charge.dispute.closed' THEN 1 ELSE 0 END
    ELSE 0
END;

COMMENT ON FUNCTION stripe_portal.event_stage(jsonb) IS
'How far the object has come in its life, where that only goes on: of two events of one second the one with the higher stage is later. No error for an event that can not be read: it is asked about events that have failed, too';

CREATE OR REPLACE FUNCTION stripe_portal.put_back(object jsonb, previous jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute record;
BEGIN
    FOR attribute IN SELECT key, value FROM jsonb_each(previous) LOOP
        object := object || jsonb_build_object(attribute.key,
            -- nested hashes hold only the keys that changed, lists are whole
            CASE WHEN jsonb_typeof(attribute.value) = 'object' AND jsonb_typeof(object -> attribute.key) = 'object'
                 THEN stripe_portal.put_back(object -> attribute.key, attribute.value)
                 ELSE attribute.value END);
    END LOOP;
    RETURN object;
END
$$;

COMMENT ON FUNCTION stripe_portal.put_back(jsonb, jsonb) IS
'An event''s object as it was before the event: with its previous_attributes put back';

CREATE OR REPLACE FUNCTION stripe_portal.read_payload(payload json)
RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_read_payload';

COMMENT ON FUNCTION stripe_portal.read_payload(json) IS
'A payload as jsonb, with U+FFFD for the escape \u0000, which jsonb can not hold';

CREATE OR REPLACE FUNCTION stripe_portal.last_event_of_second(
    event jsonb, unwritable text[], OUT last jsonb, OUT certain boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH second AS (
        -- What is known of this second: the ledger, and the event at hand.  Some
        -- have failed, and nothing that is in them may be an error here.
        SELECT event AS e
        UNION ALL
        SELECT stripe_portal.read_payload(known.payload)
        FROM stripe_portal.event AS known
        WHERE known.object_id = stripe_portal.object_id(event #> '{data,object}')
          AND known.created = stripe_portal.read_time(event -> 'created')
          AND known.livemode = (event ->> 'livemode')::boolean
          AND known.account = coalesce(event ->> 'account', '')
          AND known.id <> event ->> 'id'
          AND known.status IN ('applied', 'failed')
          AND known.id <> ALL (unwritable)
    ), stage AS (
        SELECT e, rank() OVER (ORDER BY stripe_portal.event_stage(e) DESC) AS rank
        FROM second
        WHERE e #>> '{data,object,object}' = event #>> '{data,object,object}'
          -- who says no more than that it is deleted has no say in what it was
          AND e #> '{data,object,deleted}' IS DISTINCT FROM 'true'
    ), candidate AS (
        SELECT e, e ->> 'id' AS id, e ->> 'type' LIKE '%.created' AS creates,
               jsonb_strip_nulls(e #> '{data,object}') AS after,
               CASE jsonb_typeof(e #> '{data,previous_attributes}')
                   WHEN 'object' THEN nullif(e #> '{data,previous_attributes}', '{}') END AS previous,
               e ->> 'type' LIKE '%.deleted' AS deletes
        FROM stage WHERE rank = 1
    ), step AS (
        -- Each event is a step from one state of the object to another.  On a
        -- walk, every state is left as often as it is entered, but for the
        -- last one, which is entered once more.
        SELECT after AS state, 1 AS entered, creates FROM candidate
        WHERE previous IS NOT NULL OR creates OR deletes
        UNION ALL
        SELECT jsonb_strip_nulls(stripe_portal.put_back(after, previous)), -1, false FROM candidate
        WHERE previous IS NOT NULL
    ), entered_more AS (
        SELECT state, bool_and(creates) AS is_the_first FROM step GROUP BY state HAVING sum(entered) > 0
    ), shown AS (
        -- An event that does not say what it changed shows a state that was
        -- there at some time.
        SELECT after AS state FROM candidate
        WHERE NOT (previous IS NOT NULL OR creates OR deletes)
    ), last_state AS (
        SELECT state FROM entered_more WHERE NOT is_the_first
        UNION
        SELECT state FROM shown
        UNION
        -- that of the creation, if nothing else is spoken of
        SELECT state FROM entered_more
        WHERE is_the_first AND NOT EXISTS (SELECT FROM shown)
          AND NOT EXISTS (SELECT FROM entered_more AS other WHERE NOT other.is_the_first)
    ), verdict AS (
        -- Several states are left when events of this second have yet to
        -- arrive, or do not say where they came from; none, when the walk
        -- ended where it began.  And where all say the same, that is it.
        SELECT count(*) = 1 AND (EXISTS (SELECT FROM entered_more) OR NOT EXISTS (SELECT FROM step))
               OR (SELECT count(DISTINCT after) = 1 FROM candidate) AS certain
        FROM last_state
    )
    SELECT candidate.e, verdict.certain
    FROM candidate, verdict
    WHERE NOT verdict.certain OR candidate.after IN (SELECT state FROM last_state)
       OR NOT EXISTS (SELECT FROM last_state)
    ORDER BY candidate.creates, candidate.id DESC
    LIMIT 1
$$;

COMMENT ON FUNCTION stripe_portal.last_event_of_second(jsonb, text[]) IS
'Of all known events of this object and second, but for the unwritable ones, the one that happened last; certain is false where their content does not tell. Depends on the set of events only, never on their order of arrival';

CREATE OR REPLACE FUNCTION stripe_portal.event_origin(event jsonb, unclear boolean)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object(
    'livemode', event -> 'livemode',
    'account', coalesce(event ->> 'account', ''),
    'event', event -> 'id',
    'event_created', stripe_portal.read_time(event -> 'created'),
    'previous', event #> '{data,previous_attributes}',
    'deleted', event ->> 'type' LIKE '%.deleted',
    'refetch', unclear);

COMMENT ON FUNCTION stripe_portal.event_origin(jsonb, boolean) IS
'What a row takes from the event itself, not from its object; unclear: whether it is a guess that the event was the last of its second';

CREATE OR REPLACE FUNCTION stripe_portal.decide_second(event jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    verdict record;
    unwritable text[] := '{}';
BEGIN
    -- The arriving event can also be what shows that a third one, known but
    -- passed over before, was the last.
    LOOP
        verdict := stripe_portal.last_event_of_second(event, unwritable);
        BEGIN
            PERFORM stripe_portal.write_object(
                verdict.last #> '{data,object}',
                stripe_portal.event_origin(verdict.last, NOT verdict.certain OR unwritable <> '{}'), true);
            RETURN;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
            IF verdict.last ->> 'id' = event ->> 'id' THEN
                RAISE;
            END IF;
            -- that one has failed before: not the fault of this one
            unwritable := unwritable || (verdict.last ->> 'id');
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.decide_second(jsonb) IS
'Writes the last of all known events of this object and second; an event among them that can not be written is left out, and the row marked for a refetch';

CREATE OR REPLACE FUNCTION stripe_portal.apply_subscription(event jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    object CONSTANT jsonb := event #> '{data,object}';
    origin CONSTANT jsonb := stripe_portal.event_origin(event, false);
    livemode CONSTANT boolean := (origin ->> 'livemode')::boolean;
    account CONSTANT text := origin ->> 'account';
    new_row CONSTANT stripe_portal.subscription := stripe_portal.subscription_row(object, origin);
    named CONSTANT jsonb := stripe_portal.named_objects(object);
    terms jsonb;
    newer boolean;
BEGIN
    IF stripe_portal.tells_news(named, origin) THEN
        terms := stripe_portal.known_terms(named, livemode, account);
    END IF;
    PERFORM stripe_portal.lock_changes(new_row.customer);
    newer := stripe_portal.write_row(new_row, false);
    IF newer IS NULL THEN
        PERFORM stripe_portal.decide_second(event);
    END IF;
    IF terms IS NOT NULL THEN
        PERFORM stripe_portal.write_embedded(object, named, origin);
        PERFORM stripe_portal.reprice_changes(terms, named, livemode, account);
    END IF;
    -- What made the row newer is the only one of its second that is known.
    IF newer IS NOT true OR NOT stripe_portal.append_change(stripe_portal.read_change(new_row, event ->> 'type')) THEN
        PERFORM stripe_portal.record_event(event);
    END IF;
    RETURN true;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_subscription(jsonb) IS
'apply_event for an event of a subscription';

CREATE OR REPLACE FUNCTION stripe_portal.apply_subscriptions(events jsonb[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told jsonb;
    objects jsonb[] := '{}';
    new_row stripe_portal.subscription;
    new_rows stripe_portal.subscription[] := '{}';
    facts stripe_portal.subscription_change[] := '{}';
    done record;
BEGIN
    FOREACH told IN ARRAY events LOOP
        objects := objects || (told #> '{data,object}');
        new_row := stripe_portal.subscription_row(told #> '{data,object}', stripe_portal.event_origin(told, false));
        new_rows := new_rows || new_row;
        facts := facts || stripe_portal.read_change(new_row, told ->> 'type');
    END LOOP;
    done := stripe_portal.write_subscriptions(objects, new_rows, facts, stripe_portal.event_origin(events[1], false));

    FOR i IN 1 .. cardinality(events) LOOP
        EXIT WHEN cardinality(done.recorded) = cardinality(events);
        IF NOT new_rows[i].id = ANY (done.written) AND stripe_portal.write_row(new_rows[i], false) IS NULL THEN
            PERFORM stripe_portal.decide_second(events[i]);
        END IF;
        IF NOT new_rows[i].id = ANY (done.recorded) THEN
            PERFORM stripe_portal.record_event(events[i]);
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_subscriptions(jsonb[]) IS
'apply_subscription for events of many subscriptions, each of them once, all of one mode and account';

CREATE OR REPLACE FUNCTION stripe_portal.apply_event(event jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    object CONSTANT jsonb := event #> '{data,object}';
    kind CONSTANT text := object ->> 'object';
    has_table CONSTANT boolean := stripe_portal.state_table(kind) IS NOT NULL;
    origin jsonb;
    livemode boolean;
    account text;
    named jsonb;
    terms jsonb;
BEGIN
    IF kind = 'subscription' AND object -> 'deleted' IS DISTINCT FROM 'true' THEN
        RETURN stripe_portal.apply_subscription(event);
    END IF;
    -- an upcoming invoice, which does not exist yet
    IF kind = 'invoice' AND object ->> 'id' IS NULL THEN
        RETURN false;
    END IF;

    origin := stripe_portal.event_origin(event, false);
    livemode := (origin ->> 'livemode')::boolean;
    account := origin ->> 'account';
    IF has_table AND object -> 'deleted' = 'true' THEN
        PERFORM stripe_portal.write_tombstone(object, livemode, account, (origin ->> 'event_created')::timestamptz);
        RETURN true;
    ELSIF has_table THEN
        named := stripe_portal.named_objects(object);
        terms := stripe_portal.known_terms(named, livemode, account);
        IF kind = 'customer' THEN
            PERFORM stripe_portal.lock_changes(object ->> 'id');
        END IF;
        IF stripe_portal.write_object(object, origin, false) IS NULL THEN
            PERFORM stripe_portal.decide_second(event);
        END IF;
        IF kind = 'customer' THEN
            PERFORM stripe_portal.record_country(object, origin);
        END IF;
        PERFORM stripe_portal.write_embedded(object, named, origin);
        PERFORM stripe_portal.reprice_changes(terms, named, livemode, account);
    END IF;
    RETURN stripe_portal.write_payment_facts(event ->> 'type', object, origin) OR has_table;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_event(jsonb) IS
'Makes the state tables show what the event says, unless they show something newer, and takes it into the history. False if the event is about an object that no table holds, or about an upcoming invoice, which does not exist yet. Applying an event again changes nothing';
