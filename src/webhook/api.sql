-- webhook: verify, receive, handle.

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
'A Stripe-Signature header for the payload, as Stripe would send it at that time (now if NULL): for tests of your own, with a secret of tests: the server''s log may have the arguments of statements. A NULL or blank secret is error 22023';

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

CREATE OR REPLACE FUNCTION @extschema@.stripe_receive_webhooks(
    payloads text[], sigs text[], received_at timestamptz[] DEFAULT NULL)
RETURNS TABLE (event text, type text, outcome text, error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhooks';

COMMENT ON FUNCTION @extschema@.stripe_receive_webhooks(text[], text[], timestamptz[]) IS
'stripe_receive_webhook for many deliveries at once: one row for each, in their order, whatever became of the others. A delivery whose signature is refused is a row with the outcome refused, and the reason in error. All are stored by the commit of the one transaction, so answer Stripe after that';

CREATE OR REPLACE FUNCTION stripe_portal.receive_event(payload json)
RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stripe_receive_event';

COMMENT ON FUNCTION stripe_portal.receive_event(json) IS
'Stores and applies an event that was read from Stripe''s API, which needs no signature: whoever may call this can claim anything of Stripe''s to have happened. Gives the outcome as stripe_receive_webhook does';

CREATE OR REPLACE FUNCTION stripe_portal.receive_webhook(
    payload text, sig text, received_at timestamptz,
    OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhook_text';

COMMENT ON FUNCTION stripe_portal.receive_webhook(text, text, timestamptz) IS
'stripe_receive_webhook, for other functions to call';

CREATE OR REPLACE FUNCTION @extschema@.stripe_webhook(json)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    receipt record;
BEGIN
    SELECT * INTO receipt
    FROM stripe_portal.receive_webhook(
        $1::text,
        nullif(current_setting('request.headers', true), '')::json ->> 'stripe-signature', NULL);
    RETURN pg_catalog.json_build_object('event', receipt.event, 'outcome', receipt.outcome);
EXCEPTION WHEN SQLSTATE 'SPW01' THEN
    PERFORM set_config('response.status', '400', true);
    RETURN json_build_object('error', SQLERRM);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_webhook(json) IS
'stripe_receive_webhook as an endpoint of a gateway in the manner of PostgREST, which hands over the raw body as the only, unnamed argument and the headers in the setting request.headers. A refused signature answers 400 through response.status, every stored event 200, also one that failed: Stripe need not send it again';

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

COMMENT ON TABLE stripe_portal.event IS 'Every verified event, once, as it was signed; partitioned by created, see tend_ledger';
COMMENT ON COLUMN stripe_portal.event.id IS 'Stripe''s id; for a body that is no event, body_ and its SHA-256';
COMMENT ON COLUMN stripe_portal.event.created IS 'When it happened, on Stripe''s clock, to the second; NULL where the body does not say';
COMMENT ON COLUMN stripe_portal.event.object_id IS 'The id of the object it is about';
COMMENT ON COLUMN stripe_portal.event.payload IS 'The request body, byte for byte; only the URL of a portal session, and where it leads back to, are left out, and of a customer who was forgotten what is personal';
COMMENT ON COLUMN stripe_portal.event.body IS 'The request body where it is not an event that json can hold; empty if it speaks of a portal session, whose URL must not be kept, or of a customer who was forgotten';
COMMENT ON COLUMN stripe_portal.event.status IS 'applied; ignored: no table for its object; thin: carries no data, its object has yet to be read; failed: see error';
COMMENT ON COLUMN stripe_portal.event.attempts IS 'How often it was tried to apply it';
COMMENT ON COLUMN stripe_portal.event.last_attempt_at IS 'When that was tried last';
COMMENT ON TABLE stripe_portal.event_default IS 'The partition of event for what has no other: events without a time, of a month whose partition has yet to be made, and failed ones that outlived theirs';

COMMENT ON TABLE stripe_portal.event_handler IS 'Functions to call once for each applied event; unlike a trigger on the extension''s tables, a handler is in the dump';
COMMENT ON COLUMN stripe_portal.event_handler.pattern IS 'An event type; * stands for any characters';
COMMENT ON COLUMN stripe_portal.event_handler.function IS 'Schema-qualified name of a function that takes one stripe_portal.event; it runs with the rights of its owner';

