-- Who may do what: what each capability stands for, and giving it to a role.
--
-- This list is all that stripe_portal_grant grants.  EXECUTE is on every
-- function of that name.  A function for users that is in no capability is for
-- superusers only, and the test "capability" wants to know of it.

CREATE OR REPLACE VIEW stripe_portal.capability AS
SELECT capability, privilege, object
FROM (VALUES
    -- The application's back end.  It opens the portal for any customer.
    ('app', 'EXECUTE', ARRAY[
        'stripe_portal_session', 'stripe_portal_open', 'stripe_portal_return',
        'stripe_is_active', 'stripe_require_active', 'stripe_refresh', 'stripe_winback_open']),

    -- Customers themselves, by way of a gateway or with a role of their own:
    -- of their own rows (see row_security.sql) what is about them, and not what
    -- is the merchant's business, such as metadata and what an offer is made by.
    ('customer', 'USAGE', ARRAY['stripe_portal']),
    ('customer', 'EXECUTE', ARRAY['stripe_my_portal_session',
        -- what row-level security calls
        'asking_customer']),
    ('customer', 'SELECT (id, livemode, account, email, name, phone, address, shipping, currency, balance,'
                 ' default_payment_method, preferred_locales, tax_exempt, created)',
        ARRAY['customer']),
    ('customer', 'SELECT (id, livemode, account, customer, status, currency, collection_method, items,'
                 ' current_period_start, current_period_end, trial_start, trial_end, cancel_at, cancel_at_period_end,'
                 ' canceled_at, ended_at, cancellation_reason, cancellation_feedback, cancellation_feedback_option,'
                 ' cancellation_comment, pause_collection, default_payment_method, latest_invoice, start_date, created)',
        ARRAY['subscription']),
    ('customer', 'SELECT', ARRAY['subscription_item']),
    ('customer', 'SELECT (id, livemode, account, customer, attached, type, brand, last4, exp_month, exp_year, created)',
        ARRAY['payment_method']),
    ('customer', 'SELECT (customer, livemode, account, lookup_keys)', ARRAY['entitlement']),
    ('customer', 'SELECT (id, livemode, account, number, customer, subscription, status, billing_reason, currency, amount_due,'
                 ' amount_paid, amount_remaining, subtotal, total, due_date, period_start, period_end, finalized_at, paid_at,'
                 ' voided_at, created)',
        ARRAY['invoice']),
    ('customer', 'SELECT (id, livemode, account, customer, flow, subscription, refused, created, returned_at)', ARRAY['session']),
    ('customer', 'SELECT (subscription, livemode, account, customer, began_at, asked_at, undone_at, effective_at, ended_at,'
                 ' feedback, feedback_option, comment, product, price, quantity)',
        ARRAY['cancellation']),
    ('customer', 'SELECT (livemode, account, customer, subscription, kind, sent_at, expires_at, accepted_at, code)',
        ARRAY['winback_offer']),

    -- Whoever receives webhooks.
    ('webhook', 'EXECUTE', ARRAY[
        'stripe_receive_webhook', 'stripe_receive_webhooks', 'stripe_webhook', 'stripe_verify_webhook']),

    -- Whoever sends win-back messages, and so sees to whom they go.
    ('mailer', 'EXECUTE', ARRAY[
        'stripe_winback_claim', 'stripe_winback_sent', 'stripe_winback_failed']),

    -- Analysts.  Of customers and events only what is not personal, which the
    -- errors of events and of reading may be: they repeat what was in an object.
    ('reader', 'USAGE', ARRAY['stripe_portal']),
    ('reader', 'SELECT', ARRAY[
        'product', 'price', 'coupon', 'promotion_code', 'discount',
        'subscription', 'subscription_item', 'subscription_change', 'entitlement',
        'customer_country', 'customer_moved', 'invoice', 'invoice_payment', 'payment_intent', 'payment_method', 'payment_attempt', 'payment_failure',
        'explained_failure', 'dispute', 'decline_code',
        'access', 'access_rule',
        'session', 'session_unreturned', 'change_unexplained',
        'configuration', 'billing_portal_configuration', 'configuration_drift',
        'cancellation', 'subscriber_change', 'winback_rule', 'winback_offer', 'advice',
        'event_thin', 'event_type', 'event_cursor', 'tick_part', 'capability']),
    ('reader', 'SELECT (part, started, finished, portions, last_success)', ARRAY['tick_run']),
    ('reader', 'SELECT (id, livemode, account, customer_account, currency, balance, delinquent, default_payment_method,'
               ' default_source, preferred_locales, tax_exempt, created, deleted, event, event_created, refetch)',
        ARRAY['customer']),
    ('reader', 'SELECT (id, livemode, account, type, created, api_version, object_id, status, attempts,'
               ' last_attempt_at, received_at)',
        ARRAY['event']),
    ('reader', 'EXECUTE', ARRAY[
        'all_customers', 'stripe_is_active', 'stripe_subscription_at', 'stripe_subscriptions_at',
        'stripe_mrr_bridge', 'stripe_churn', 'stripe_churn_rate', 'stripe_churn_leak', 'stripe_retention',
        'stripe_cancel_comments', 'stripe_uncancel_rate', 'stripe_at_risk', 'stripe_churn_report', 'stripe_amount',
        'stripe_decline_report', 'stripe_decline_recovery', 'stripe_decline_wasted', 'stripe_decline_curable',
        'stripe_winback_preview', 'stripe_winback_lift',
        -- what those and the views call
        'key_livemode', 'configuration_drift']),

    -- Whoever deploys configurations and keeps the tables true.  The sync_
    -- functions take what procedures read and write it, since those commit and
    -- so run as their caller: an operator can make the tables show anything.
    ('operator', 'USAGE', ARRAY['stripe_portal']),
    ('operator', 'SELECT', ARRAY[
        'configuration', 'billing_portal_configuration', 'configuration_drift', 'advice',
        'event_failed', 'event_thin', 'event_cursor', 'sync_cursor', 'sync_progress',
        'tick_part', 'tick_run', 'tick_status', 'capability', 'forgotten', 'personal_column']),
    ('operator', 'EXECUTE', ARRAY[
        'all_customers', 'stripe_portal_configure', 'stripe_portal_configuration_diff', 'stripe_portal_configuration_apply',
        'stripe_sync', 'stripe_catch_up', 'stripe_portal_tick',
        'stripe_drift', 'stripe_replay', 'stripe_forget', 'stripe_resolve_thin', 'stripe_refresh', 'stripe_refresh_coupon',
        'retry_failed', 'tend_ledger', 'configuration_drift',
        -- what the procedures call
        'sync_kinds', 'sync_dry_run', 'sync_plan', 'sync_run', 'sync_read', 'sync_write', 'sync_is_done', 'sync_tell',
        'sync_mark_unseen', 'analyze_grown', 'has_marked', 'refetch', 'event_cursor_begin', 'catch_up_plan', 'catch_up_done',
        'tick_portion', 'check_can_write'])
) AS list (capability, privilege, objects),
unnest(objects) AS object;

COMMENT ON VIEW stripe_portal.capability IS 'What stripe_portal_grant grants. Functions that begin with stripe_ are those for users, all else is in schema stripe_portal';
COMMENT ON COLUMN stripe_portal.capability.capability IS 'app: open the portal for any customer, and ask who is active. customer: open one''s own, and see one''s own rows. webhook: receive events. mailer: send win-back messages. reader: read tables and reports, but for personal data of customers and the contents of events. operator: configurations, reading from Stripe, the tick, dead letters';
COMMENT ON COLUMN stripe_portal.capability.privilege IS 'EXECUTE on the functions and procedures of that name, SELECT on a table or view, or on some of its columns, or USAGE on the schema';

CREATE OR REPLACE FUNCTION stripe_portal.capability_target(privilege text, object text)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || p.oid::regprocedure
    FROM pg_extension AS e
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    WHERE privilege = 'EXECUTE' AND e.extname = 'stripe_portal' AND p.proname = object
    UNION ALL
    SELECT CASE privilege WHEN 'USAGE' THEN format('SCHEMA %I', object) ELSE format('TABLE stripe_portal.%I', object) END
    WHERE privilege <> 'EXECUTE'
$$;

COMMENT ON FUNCTION stripe_portal.capability_target(text, text) IS
'What a row of stripe_portal.capability is about, as GRANT names it: one function or procedure for each of that name, or the table or schema';

CREATE OR REPLACE FUNCTION stripe_portal.check_capability(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL OR role = 0::regrole THEN
        RAISE EXCEPTION 'role must not be null'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF capability IS NULL OR NOT EXISTS (SELECT FROM stripe_portal.capability AS c
                                            WHERE c.capability = check_capability.capability) THEN
        RAISE EXCEPTION 'unknown capability "%"', capability
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('The capabilities are %s.', (
                      SELECT string_agg(DISTINCT c.capability, ', ' ORDER BY c.capability) FROM stripe_portal.capability AS c));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_capability(regrole, text) IS
'Raises 22023 unless there is such a capability, and a role to give it to';

CREATE OR REPLACE FUNCTION stripe_portal.grant_capability(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT c.privilege, t.target
        FROM stripe_portal.capability AS c, stripe_portal.capability_target(c.privilege, c.object) AS t (target)
        WHERE c.capability = grant_capability.capability
    LOOP
        EXECUTE format('GRANT %s ON %s TO %s', item.privilege, item.target, role);
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.grant_capability(regrole, text) IS
'Grants a role what a capability stands for';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_grant(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    schema CONSTANT regnamespace := (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'stripe_portal');
BEGIN
    PERFORM stripe_portal.check_capability(role, capability);
    -- where the functions are may be closed to the role
    IF NOT has_schema_privilege(role, schema, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s', schema, role);
    END IF;
    PERFORM stripe_portal.grant_capability(role, capability);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_grant(regrole, text) IS
'Lets a role do what a capability stands for: app, customer, webhook, mailer, reader or operator; what each is, is in stripe_portal.capability. A role can have several. Can be repeated; after an upgrade, which may bring functions, who had a capability whole has it whole, and nothing that it does not stand for any more. For the owner of the extension; error 22023 for an unknown capability';

CREATE OR REPLACE FUNCTION stripe_portal.capabilities_of(role regrole)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.capability
    FROM stripe_portal.capability AS c
    CROSS JOIN LATERAL (
        SELECT p.proacl
        FROM stripe_portal.capability_target(c.privilege, c.object) AS t (target)
        JOIN pg_proc AS p ON p.oid = to_regprocedure(regexp_replace(t.target, '^[A-Z]+ ', ''))
        WHERE c.privilege = 'EXECUTE'
        UNION ALL
        SELECT n.nspacl FROM pg_namespace AS n WHERE c.privilege = 'USAGE' AND n.nspname = c.object
        UNION ALL
        SELECT r.relacl || a.attacl
        FROM pg_class AS r
        LEFT JOIN pg_attribute AS a
            ON a.attrelid = r.oid AND a.attname = ANY (string_to_array(substring(c.privilege FROM '[(](.*)[)]'), ', '))
        WHERE c.privilege LIKE 'SELECT%' AND r.oid = to_regclass(format('stripe_portal.%I', c.object))) AS on_it (acl)
    GROUP BY c.capability
    HAVING bool_and(EXISTS (SELECT FROM aclexplode(on_it.acl) AS granted
                            WHERE granted.grantee = role AND granted.privilege_type = split_part(c.privilege, ' ', 1)))
$$;

COMMENT ON FUNCTION stripe_portal.capabilities_of(regrole) IS
'The capabilities that a role was granted all of, itself and not by way of another role';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_revoke(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept text[];
    item record;
BEGIN
    PERFORM stripe_portal.check_capability(role, capability);
    kept := ARRAY(SELECT c FROM stripe_portal.capabilities_of(role) AS c WHERE c <> stripe_portal_revoke.capability);
    FOR item IN
        SELECT c.privilege, t.target
        FROM stripe_portal.capability AS c, stripe_portal.capability_target(c.privilege, c.object) AS t (target)
        WHERE c.capability = stripe_portal_revoke.capability
          AND (c.privilege, c.object) NOT IN (SELECT k.privilege, k.object FROM stripe_portal.capability AS k
                                              WHERE k.capability = ANY (kept))
    LOOP
        EXECUTE format('REVOKE %s ON %s FROM %s', item.privilege, item.target, role);
    END LOOP;
    -- of a table or a list of columns this took what others have of them, too
    PERFORM stripe_portal.grant_capability(role, c) FROM unnest(kept) AS c;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_revoke(regrole, text) IS
'Takes a capability back from a role, but for what another one that it has whole stands for as well, and the right to use the schema of the functions. What was granted by hand besides stays, but for columns of a table that the capability has all of. For the owner of the extension; error 22023 for an unknown capability';
