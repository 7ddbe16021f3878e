-- portal: opening Stripe's customer portal.

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_session(
    customer text, return_url text DEFAULT NULL, flow text DEFAULT NULL,
    subscription text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_portal_session';

COMMENT ON FUNCTION @extschema@.stripe_portal_session(text, text, text, text, jsonb) IS
'Opens Stripe''s customer portal for a customer and returns its URL, for an immediate redirect: it is valid for five minutes and lets whoever has it act as the customer. return_url: where the portal''s back link leads, else the setting stripe_portal.return_url. flow: NULL for the whole portal, or one of Stripe''s flow types, with its subscription where it needs one. options: any other parameter of Stripe''s session, such as configuration and locale. Refused by the rule: error SPA01, before any request leaves; bad arguments 22023; what Stripe answers, SP4xx and SP5xx';

CREATE OR REPLACE FUNCTION stripe_portal.open_session(
    customer text, return_url text, flow text, subscription text, options jsonb)
RETURNS text
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_portal_session';

COMMENT ON FUNCTION stripe_portal.open_session(text, text, text, text, jsonb) IS
'stripe_portal_session, for other functions to call';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_open(
    customer text, return_url text DEFAULT NULL, flow text DEFAULT NULL,
    subscription text DEFAULT NULL, options jsonb DEFAULT '{}',
    OUT session uuid, OUT url text, OUT refused text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_portal_open';

COMMENT ON FUNCTION @extschema@.stripe_portal_open(text, text, text, text, jsonb) IS
'The same as stripe_portal_session, but a refusal by the rule is an answer and not an error, so that it stays in stripe_portal.session: refused is NULL, customer_unknown, customer_deleted or not_active, and url is NULL unless refused is';

CREATE OR REPLACE FUNCTION stripe_portal.session_require_active()
RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_session_require_active';

COMMENT ON FUNCTION stripe_portal.session_require_active() IS
'Holds the rule for stripe_portal.session itself, so that no INSERT goes round it; this is also the second look that stripe_portal_session takes. Rows from before this transaction that a superuser inserts are history being restored, and pass';

CREATE OR REPLACE TRIGGER session_require_active
    BEFORE INSERT OR UPDATE OF livemode, account, customer, flow, refused, created ON stripe_portal.session
    FOR EACH ROW WHEN (NEW.refused IS NULL)
    EXECUTE FUNCTION stripe_portal.session_require_active();

CREATE OR REPLACE FUNCTION stripe_portal.check_return_url(url text)
RETURNS void
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stripe_check_return_url';

COMMENT ON FUNCTION stripe_portal.check_return_url(text) IS
'Raises error 22023 unless the URL is one that a session may lead back to';

COMMENT ON TABLE stripe_portal.session IS 'Portal sessions, opened and refused; never their URLs';
COMMENT ON COLUMN stripe_portal.session.flow IS 'portal for the whole portal, else Stripe''s flow type';
COMMENT ON COLUMN stripe_portal.session.stripe_id IS 'Stripe''s id of the session (bps_…); NULL if it was refused';
COMMENT ON COLUMN stripe_portal.session.refused IS 'Why it was refused: customer_unknown, customer_deleted or not_active; NULL if it was opened';
COMMENT ON COLUMN stripe_portal.session.opened_by IS 'The role that asked';

