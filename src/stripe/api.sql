-- stripe: talking to Stripe's API.

CREATE OR REPLACE FUNCTION stripe_portal.plan_support(internal)
RETURNS internal
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'stripe_plan_support';

COMMENT ON FUNCTION stripe_portal.plan_support(internal) IS
'Makes the planner load the library before a parallel query begins, so that its settings are there in the workers';

-- Volatile, because it has effects outside, and so that it is called exactly
-- as often as it is written.  Not in a parallel worker, which would open a
-- connection of its own and could be started more than once.
CREATE OR REPLACE FUNCTION @extschema@.stripe_api(
    method text, path text, params jsonb DEFAULT NULL,
    account text DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'stripe_api';

COMMENT ON FUNCTION @extschema@.stripe_api(text, text, jsonb, text, text) IS
'Calls Stripe''s API with the configured key and returns its answer; for administrators, since it can do whatever the key may. method: GET, POST or DELETE. path: from /v1/ on, with ids percent-encoded. params: sent as form, nested as in Stripe''s reference. account: a connected account to act for. idempotency_key: of a POST; a fresh one is made if it is NULL. What the call does at Stripe is not undone when the transaction is rolled back; in a read-only transaction and on a standby only GET is allowed (error 25006). Stripe''s errors have SQLSTATE SP4xx and SP5xx, network errors 08001 if the request was not sent and 08006 if it may have been';

-- Others may be allowed to create functions where the public ones are, and a
-- call by a name there may be taken for one of theirs.  So no function calls
-- one that is public: what both need has a second name in this schema.
CREATE OR REPLACE FUNCTION stripe_portal.api(
    method text, path text, params jsonb DEFAULT NULL,
    account text DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'stripe_api';

COMMENT ON FUNCTION stripe_portal.api(text, text, jsonb, text, text) IS
'stripe_api, for other functions to call';

CREATE OR REPLACE FUNCTION stripe_portal.form_encode(params jsonb)
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_form_encode';

COMMENT ON FUNCTION stripe_portal.form_encode(jsonb) IS
'The parameters as stripe_api sends them: a[b][0]=value&…, percent-encoded';

CREATE OR REPLACE FUNCTION stripe_portal.fetch(
    paths text[], params jsonb[] DEFAULT NULL, account text DEFAULT '',
    OUT n integer, OUT status integer, OUT body json, OUT as_of timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'stripe_fetch';

COMMENT ON FUNCTION stripe_portal.fetch(text[], jsonb[], text) IS
'Sends GET requests to Stripe''s API, stripe_portal.in_flight of them at once and stripe_portal.rate_limit of them per second, and gives a row for each, in order of n, which counts from 1. params: of each path; an element or the whole may be NULL. status: Stripe''s; one that concerns this request only, such as 404, is a row with Stripe''s error object, one that would befall all (401, 429, 5xx, after the retries) is an error as in stripe_api. body: as Stripe wrote it. as_of: how new the answer is at least, in whole seconds of Stripe''s clock';

CREATE OR REPLACE FUNCTION stripe_portal.check_can_write(caller text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute % in a read-only transaction', caller
            USING ERRCODE = 'read_only_sql_transaction',
                  HINT = CASE WHEN pg_is_in_recovery() THEN 'This server is a standby: call it on the primary.'
                              ELSE 'The transaction was begun READ ONLY, or default_transaction_read_only is on.' END;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_can_write(text) IS
'Raises 25006 where nothing can be written, so that no request is made in vain';

CREATE OR REPLACE FUNCTION stripe_portal.key_livemode()
RETURNS boolean
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'stripe_key_livemode';

COMMENT ON FUNCTION stripe_portal.key_livemode() IS
'Whether the configured key is for live mode; true without a key';
