-- webhook: applying an event, in whatever order it arrives.
--
-- An event that is newer than the row is simply written (see billing).  Events
-- of one second are put in order by what they say they changed; where that is
-- not decisive, one of them is chosen, the same for every order of arrival,
-- and the row's refetch is set.

CREATE OR REPLACE FUNCTION stripe_portal.event_is_final(event jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN event ->> 'type' LIKE '%.deleted'
    OR (event #>> '{data,object,object}' = 'subscription'
        AND stripe_portal.status_is_final(event #>> '{data,object,status}'));

COMMENT ON FUNCTION stripe_portal.event_is_final(jsonb) IS
'Whether the event leaves its object in a state that Stripe never lets it leave';

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
        -- what is known of this second: the ledger, and the event at hand
        SELECT event AS e
        UNION ALL
        SELECT stripe_portal.read_payload(known.payload)
        FROM stripe_portal.event AS known
        WHERE known.object_id = event #>> '{data,object,id}'
          AND known.created = stripe_portal.read_time(event -> 'created')
          AND known.livemode = (event ->> 'livemode')::boolean
          AND known.account = coalesce(event ->> 'account', '')
          AND known.id <> event ->> 'id'
          AND known.status IN ('applied', 'failed')
          AND known.id <> ALL (unwritable)
    ), candidate AS (
        SELECT e, e ->> 'id' AS id, e ->> 'type' AS type,
               jsonb_strip_nulls(e #> '{data,object}') AS after,
               nullif(e #> '{data,previous_attributes}', '{}') AS previous
        FROM second
        WHERE e #>> '{data,object,object}' = event #>> '{data,object,object}'
          -- who says no more than that it is deleted has no say in what it was
          AND e #> '{data,object,deleted}' IS DISTINCT FROM 'true'
          AND (stripe_portal.event_is_final(e)
               OR NOT (SELECT bool_or(stripe_portal.event_is_final(any_of.e)) FROM second AS any_of))
    ), step AS (
        -- Each event is a step from one state of the object to another.  On a
        -- walk, every state is left as often as it is entered, but for the
        -- last one, which is entered once more.
        SELECT after AS state, 1 AS entered FROM candidate
        WHERE previous IS NOT NULL OR type LIKE '%.created' OR type LIKE '%.deleted'
        UNION ALL
        SELECT jsonb_strip_nulls(stripe_portal.put_back(after, previous)), -1 FROM candidate
        WHERE previous IS NOT NULL
    ), last_state AS (
        SELECT state FROM step GROUP BY state HAVING sum(entered) > 0
        UNION
        -- where nothing but one state is spoken of, that is it
        SELECT (SELECT after FROM candidate LIMIT 1) WHERE (SELECT count(DISTINCT after) FROM candidate) = 1
    ), verdict AS (
        -- Several states are left when events of this second have yet to
        -- arrive; none, when the walk ended where it began.
        SELECT count(*) = 1 AS certain FROM last_state
    )
    SELECT candidate.e, verdict.certain
    FROM candidate, verdict
    WHERE NOT verdict.certain OR candidate.after = (SELECT state FROM last_state)
    ORDER BY candidate.id DESC
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
    'deleted', event ->> 'type' LIKE '%.deleted',
    'refetch', unclear);

COMMENT ON FUNCTION stripe_portal.event_origin(jsonb, boolean) IS
'What a row takes from the event itself, not from its object; unclear: whether the event was the last of its second';

CREATE OR REPLACE FUNCTION stripe_portal.apply_event(event jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    object CONSTANT jsonb := event #> '{data,object}';
    kind CONSTANT text := stripe_portal.state_table(object ->> 'object');
    tie boolean;
    verdict record;
    unwritable text[] := '{}';
BEGIN
    IF kind IS NULL THEN
        RETURN false;
    END IF;
    IF object -> 'deleted' = 'true' THEN
        PERFORM stripe_portal.write_tombstone(object, (event ->> 'livemode')::boolean, coalesce(event ->> 'account', ''),
                                              stripe_portal.read_time(event -> 'created'));
        RETURN true;
    END IF;
    IF stripe_portal.write_object(object, stripe_portal.event_origin(event, false), false) THEN
        RETURN true;
    END IF;

    -- The row was not older, and the attempt has locked it.  Nothing to do,
    -- unless another event of the same second wrote it.
    EXECUTE format('SELECT known.event NOT IN ($1, '''') AND known.event_created = $2
                    FROM stripe_portal.%I AS known
                    WHERE known.id = $3 AND known.livemode = $4 AND known.account = $5', kind)
        INTO tie
        USING event ->> 'id', stripe_portal.read_time(event -> 'created'), object ->> 'id',
              (event ->> 'livemode')::boolean, coalesce(event ->> 'account', '');

    IF tie THEN
        -- The arriving event can also be what shows that a third one, known
        -- but passed over before, was the last.
        LOOP
            verdict := stripe_portal.last_event_of_second(event, unwritable);
            BEGIN
                PERFORM stripe_portal.write_object(
                    verdict.last #> '{data,object}',
                    stripe_portal.event_origin(verdict.last, NOT verdict.certain OR unwritable <> '{}'), true);
                EXIT;
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                IF verdict.last ->> 'id' = event ->> 'id' THEN
                    RAISE;
                END IF;
                -- that one has failed before: not the fault of this one
                unwritable := unwritable || (verdict.last ->> 'id');
            END;
        END LOOP;
    END IF;
    RETURN true;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_event(jsonb) IS
'Makes the state tables show what the event says, unless they show something newer. False if the event is about an object that no table holds. Applying an event again changes nothing';
