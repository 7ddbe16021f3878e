-- billing: what is left of a customer who was forgotten.

CREATE OR REPLACE FUNCTION stripe_portal.keep_fields(value jsonb, fields text[])
RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_keep_fields';

COMMENT ON FUNCTION stripe_portal.keep_fields(jsonb, text[]) IS
'The value without the members, at whatever depth, that are not among the fields: key, or parent.key for a key only within an object that stands under that one';

-- What is not listed goes, so what Stripe adds goes too.
CREATE OR REPLACE FUNCTION stripe_portal.impersonal(told jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN stripe_portal.keep_fields(told, '{
    id, object, livemode, account, created, deleted, type, status, reason, context,
    api_version, data, previous_attributes, pending_webhooks, related_object, related_object.url, has_more,
    customer, customer_account, subscription, invoice, charge, charges, payment_intent, payment_method, setup_intent,
    price, plan, product, coupon, promotion_code, discount, discounts, payment, payments, item, items, latest_charge,
    latest_invoice, schedule, default_payment_method, default_source, source, invoice_item, subscription_item,
    address, address.country, balance, currency, delinquent, tax_exempt, invoice_settings, amount, amount_paid, amount_due,
    amount_received, amount_remaining, subtotal, total, quantity,
    collection_method, billing_mode, current_period_start, current_period_end, trial_start, trial_end, cancel_at,
    cancel_at_period_end, canceled_at, ended_at, start_date, cancellation_details, feedback, feedback_option,
    cancellation_reason, pause_collection, behavior, resumes_at,
    active, billing_scheme, unit_amount, unit_amount_decimal, recurring, interval, interval_count, usage_type,
    tiers_mode, transform_quantity, divide_by, round,
    percent_off, amount_off, duration, duration_in_months, max_redemptions, redeem_by, promotion, start, end,
    expires_at, times_redeemed, restrictions, first_time_transaction, minimum_amount, minimum_amount_currency,
    number, billing_reason, attempted, attempt_count, next_payment_attempt, auto_advance, due_date, period_start, period_end,
    status_transitions, finalized_at, paid_at, marked_uncollectible_at, voided_at, parent, subscription_details,
    failure_code, outcome, network_decline_code, network_advice_code, advice_code, last_payment_error,
    last_payment_error.code, decline_code, payment_method_details,
    entitlements, lookup_key, feature}');

COMMENT ON FUNCTION stripe_portal.impersonal(jsonb) IS
'What is kept of an object, or of an event, of a customer who was forgotten: ids, states, times, amounts and the terms that they follow from, the answers chosen in a survey, and of an address the country; by a list of what is kept';

CREATE OR REPLACE FUNCTION stripe_portal.named_ids(told jsonb, owners boolean DEFAULT false)
RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_named_ids';

COMMENT ON FUNCTION stripe_portal.named_ids(jsonb, boolean) IS
'The ids that an object, or an event, names as what it belongs to, such as its customer and its charge; not what its metadata name, which is the merchant''s and perhaps about somebody else. owners: only what the object itself is of, by members of its own; not what it tells of deeper down, as a card reader does of its last payment';

CREATE OR REPLACE FUNCTION stripe_portal.lock_forgotten(customer text)
RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stripe_lock_forgotten';

COMMENT ON FUNCTION stripe_portal.lock_forgotten(text) IS
'Waits for what is being taken in of a customer, or of nobody in particular, and keeps out more to the end of the transaction';

CREATE OR REPLACE FUNCTION stripe_portal.is_forgotten(told jsonb, id text, livemode boolean, account text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_is_forgotten';

COMMENT ON FUNCTION stripe_portal.is_forgotten(jsonb, text, boolean, text) IS
'Whether an object, or an event about it, that is about to be stored is of a customer who was forgotten; notes the object''s id then';

COMMENT ON TABLE stripe_portal.forgotten IS 'Customers who were forgotten by stripe_forget, and what is theirs: what Stripe tells of them later is stored without what is personal';
COMMENT ON COLUMN stripe_portal.forgotten.id IS 'The customer''s id, or that of an object of theirs';
COMMENT ON COLUMN stripe_portal.forgotten.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.forgotten.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.forgotten.customer IS 'The customer';
COMMENT ON COLUMN stripe_portal.forgotten.since IS 'When it was forgotten, or first heard of after that';
