-- webhook: verify, receive, apply, replay.

CREATE OR REPLACE FUNCTION @extschema@.stripe_verify_webhook(payload text, sig text, at timestamptz DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_verify_webhook_text';

CREATE OR REPLACE FUNCTION @extschema@.stripe_verify_webhook(payload bytea, sig text, at timestamptz DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_verify_webhook_bytea';

COMMENT ON FUNCTION @extschema@.stripe_verify_webhook(text, text, timestamptz) IS
'Whether the Stripe-Signature header sig was made for this raw request body with one of the configured webhook secrets, within stripe_portal.tolerance before or after at (now if NULL; give the time of arrival for a delivery that waited in a queue). Anything wrong with the header, and NULL, is false; no configured secret is error SPC01';

COMMENT ON FUNCTION @extschema@.stripe_verify_webhook(bytea, text, timestamptz) IS
'The same for a body that is kept as bytes';

CREATE OR REPLACE FUNCTION @extschema@.stripe_sign_webhook(payload text, secret text, at timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_sign_webhook';

COMMENT ON FUNCTION @extschema@.stripe_sign_webhook(text, text, timestamptz) IS
'A Stripe-Signature header for the payload, as Stripe would send it at that time (now if NULL): for tests of your own. A NULL or blank secret is error 22023';

CREATE OR REPLACE FUNCTION @extschema@.stripe_receive_webhook(
    payload text, sig text, received_at timestamptz DEFAULT NULL,
    OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhook_text';

CREATE OR REPLACE FUNCTION @extschema@.stripe_receive_webhook(
    payload bytea, sig text, received_at timestamptz DEFAULT NULL,
    OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhook_bytea';

COMMENT ON FUNCTION @extschema@.stripe_receive_webhook(text, text, timestamptz) IS
'Verifies a webhook delivery, stores its event once, applies it to the state tables, calls the handlers registered for it and tells what became of it: outcome is applied, ignored (no table for its object), thin (no data in it), failed (stored, with the reason in error; stripe_replay tries again) or duplicate (stored before). A refused signature is error SPW01, no configured secret SPC01; after a good signature nothing about the event raises. received_at: as at in stripe_verify_webhook';

COMMENT ON FUNCTION @extschema@.stripe_receive_webhook(bytea, text, timestamptz) IS
'The same for a body that is kept as bytes';

CREATE OR REPLACE FUNCTION @extschema@.stripe_replay(
    event text, livemode boolean DEFAULT NULL, account text DEFAULT '',
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_replay';

COMMENT ON FUNCTION @extschema@.stripe_replay(text, boolean, text) IS
'Applies a stored event once more. One that failed gets its handlers called again; for one that was applied nothing changes. outcome and error as in stripe_receive_webhook. livemode: NULL is the mode of the configured key. An unknown event is error P0002';

CREATE OR REPLACE FUNCTION @extschema@.stripe_webhook(json)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    receipt record;
BEGIN
    SELECT * INTO receipt
    FROM @extschema@.stripe_receive_webhook(
        $1::text,
        nullif(current_setting('request.headers', true), '')::json ->> 'stripe-signature');
    RETURN pg_catalog.json_build_object('event', receipt.event, 'outcome', receipt.outcome);
EXCEPTION WHEN SQLSTATE 'SPW01' THEN
    PERFORM set_config('response.status', '400', true);
    RETURN json_build_object('error', SQLERRM);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_webhook(json) IS
'stripe_receive_webhook as an endpoint of a gateway in the manner of PostgREST, which hands over the raw body as the only, unnamed argument and the headers in the setting request.headers. A refused signature answers 400 through response.status, every stored event 200, also one that failed: Stripe need not send it again';

-- ---------------------------------------------------------------------------
-- Applying an event, in whatever order it arrives
--
-- An event that is newer than the row is simply written (see billing).  Events
-- of one second are put in order by what they say they changed; where that is
-- not decisive, one of them is chosen, the same for every order of arrival,
-- and the row's refetch is set.
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.event_is_final(event jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN event ->> 'type' LIKE '%.deleted'
    OR (event #>> '{data,object,object}' = 'subscription'
        AND event #>> '{data,object,status}' IN ('canceled', 'incomplete_expired'));

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

CREATE OR REPLACE FUNCTION stripe_portal.apply_event(event jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := event #>> '{data,object,object}';
    tie boolean;
    verdict record;
    unwritable text[] := '{}';
BEGIN
    IF kind IS NULL OR kind NOT IN ('subscription', 'customer', 'price', 'product') THEN
        RETURN false;
    END IF;

    IF stripe_portal.write_object(kind, event, false, false) THEN
        RETURN true;
    END IF;

    -- The row was not older, and the attempt has locked it.  Nothing to do,
    -- unless another event of the same second wrote it.
    EXECUTE format('SELECT known.event <> $1 AND known.event_created = $2
                    FROM stripe_portal.%I AS known
                    WHERE known.id = $3 AND known.livemode = $4 AND known.account = $5', kind)
        INTO tie
        USING event ->> 'id', stripe_portal.read_time(event -> 'created'), event #>> '{data,object,id}',
              (event ->> 'livemode')::boolean, coalesce(event ->> 'account', '');

    IF tie THEN
        -- The arriving event can also be what shows that a third one, known
        -- but passed over before, was the last.
        LOOP
            verdict := stripe_portal.last_event_of_second(event, unwritable);
            BEGIN
                PERFORM stripe_portal.write_object(kind, verdict.last, true,
                                                   NOT verdict.certain OR unwritable <> '{}');
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

-- ---------------------------------------------------------------------------
-- Handlers, and what the tables hold
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.event_handler_check()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    handler record;
BEGIN
    SELECT format('%I.%I', n.nspname, p.proname) AS name, p.proretset INTO handler
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid = to_regprocedure(NEW.function || '(stripe_portal.event)')
      AND p.prokind = 'f';
    IF handler.name IS NULL OR handler.proretset THEN
        RAISE EXCEPTION 'function "%" cannot handle events', NEW.function
            USING ERRCODE = 'undefined_function',
                  DETAIL = 'There is no such function that takes one stripe_portal.event and returns one value.',
                  HINT = 'Give its name with its schema: myschema.on_cancel for myschema.on_cancel(stripe_portal.event).';
    END IF;
    NEW.function := handler.name;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.event_handler_check() IS
'Refuses a handler that does not exist, and stores its name fully qualified';

CREATE OR REPLACE TRIGGER event_handler_check
    BEFORE INSERT OR UPDATE ON stripe_portal.event_handler
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.event_handler_check();

COMMENT ON TABLE stripe_portal.event IS 'Every verified event, once, as it was signed';
COMMENT ON COLUMN stripe_portal.event.id IS 'Stripe''s id; for a body that is no event, body_ and its SHA-256';
COMMENT ON COLUMN stripe_portal.event.created IS 'When it happened, on Stripe''s clock, to the second';
COMMENT ON COLUMN stripe_portal.event.object_id IS 'The id of the object it is about';
COMMENT ON COLUMN stripe_portal.event.payload IS 'The request body, byte for byte; only the URL of a portal session is left out';
COMMENT ON COLUMN stripe_portal.event.body IS 'The request body where it is not an event that json can hold; empty if it speaks of a portal session, whose URL must not be kept';
COMMENT ON COLUMN stripe_portal.event.status IS 'applied; ignored: no table for its object; thin: carries no data; failed: see error';
COMMENT ON COLUMN stripe_portal.event.attempts IS 'How often it was tried to apply it';

COMMENT ON TABLE stripe_portal.event_handler IS 'Functions to call once for each applied event; unlike a trigger on the extension''s tables, a handler is in the dump';
COMMENT ON COLUMN stripe_portal.event_handler.pattern IS 'An event type; * stands for any characters';
COMMENT ON COLUMN stripe_portal.event_handler.function IS 'Schema-qualified name of a function that takes one stripe_portal.event; it runs with the rights of its owner';

