-- billing: failed payments.
--
-- A failed attempt is told in up to three events, in any order: charge.failed
-- knows the card and what the network said, payment_intent.payment_failed the
-- decline code, invoice.payment_failed how often it was tried and when the next
-- try is.  The first two name the charge.  The third names neither since
-- 2025-03-31.basil; who pays for which invoice is told by invoice_payment.*
-- and by whatever else names both.

CREATE OR REPLACE FUNCTION stripe_portal.charge_attempt(charge jsonb, origin jsonb)
RETURNS stripe_portal.payment_attempt
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_attempt, stripe_portal.read_method(charge -> 'payment_method_details') || jsonb_build_object(
    'id', charge ->> 'id',
    'failed_at', stripe_portal.read_time(charge -> 'created'),
    'customer', stripe_portal.read_id(charge -> 'customer'),
    'charge', charge ->> 'id',
    'payment_intent', stripe_portal.read_id(charge -> 'payment_intent'),
    'amount', charge ->> 'amount',
    'currency', charge ->> 'currency',
    'code', charge ->> 'failure_code',
    'network_decline_code', charge #>> '{outcome,network_decline_code}',
    'network_advice_code', charge #>> '{outcome,network_advice_code}',
    'advice_code', charge #>> '{outcome,advice_code}',
    'outcome_type', charge #>> '{outcome,type}',
    'outcome_reason', charge #>> '{outcome,reason}',
    'risk_level', charge #>> '{outcome,risk_level}',
    'message', charge ->> 'failure_message',
    'payment_method', stripe_portal.read_id(charge -> 'payment_method'),
    'payment_method_type', charge #>> '{payment_method_details,type}',
    'livemode', origin -> 'livemode',
    'account', origin -> 'account'));

COMMENT ON FUNCTION stripe_portal.charge_attempt(jsonb, jsonb) IS
'What a failed charge tells of the attempt';

CREATE OR REPLACE FUNCTION stripe_portal.intent_attempt(intent jsonb, origin jsonb)
RETURNS stripe_portal.payment_attempt
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_attempt, stripe_portal.read_method(intent #> '{last_payment_error,payment_method}') || jsonb_build_object(
    -- without a charge nothing but the intent and the second tell attempts apart
    'id', coalesce(intent #>> '{last_payment_error,charge}',
                   concat_ws('/', intent ->> 'id', extract(epoch FROM (origin ->> 'event_created')::timestamptz)::bigint)),
    'failed_at', origin -> 'event_created',
    'customer', stripe_portal.read_id(intent -> 'customer'),
    'charge', intent #>> '{last_payment_error,charge}',
    'payment_intent', intent ->> 'id',
    'amount', intent ->> 'amount',
    'currency', intent ->> 'currency',
    'code', intent #>> '{last_payment_error,code}',
    'decline_code', intent #>> '{last_payment_error,decline_code}',
    'network_decline_code', intent #>> '{last_payment_error,network_decline_code}',
    'network_advice_code', intent #>> '{last_payment_error,network_advice_code}',
    'advice_code', intent #>> '{last_payment_error,advice_code}',
    'message', intent #>> '{last_payment_error,message}',
    'payment_method', stripe_portal.read_id(intent #> '{last_payment_error,payment_method}'),
    'payment_method_type', intent #>> '{last_payment_error,payment_method,type}',
    'livemode', origin -> 'livemode',
    'account', origin -> 'account'));

COMMENT ON FUNCTION stripe_portal.intent_attempt(jsonb, jsonb) IS
'What a payment intent tells of its last failed attempt, when the attempt has just failed';

CREATE OR REPLACE FUNCTION stripe_portal.invoice_attempt(invoice jsonb, origin jsonb)
RETURNS stripe_portal.payment_attempt
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_attempt, jsonb_build_object(
    'id', concat_ws('/', invoice ->> 'id', extract(epoch FROM (origin ->> 'event_created')::timestamptz)::bigint),
    'failed_at', origin -> 'event_created',
    'customer', stripe_portal.read_id(invoice -> 'customer'),
    'invoice', invoice ->> 'id',
    'subscription', stripe_portal.read_subscription(invoice),
    'amount', invoice ->> 'amount_remaining',
    'currency', invoice ->> 'currency',
    'attempt_number', invoice ->> 'attempt_count',
    'next_payment_attempt', stripe_portal.read_time(invoice -> 'next_payment_attempt'),
    'livemode', origin -> 'livemode',
    'account', origin -> 'account'));

COMMENT ON FUNCTION stripe_portal.invoice_attempt(jsonb, jsonb) IS
'What an invoice tells of an attempt that has just failed';

CREATE OR REPLACE FUNCTION stripe_portal.write_payment_facts(event_type text, object jsonb, origin jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := object ->> 'object';
    payment text;
BEGIN
    IF kind IS NULL OR kind NOT IN ('invoice', 'payment_intent', 'charge', 'invoice_payment') OR object ->> 'id' IS NULL THEN
        RETURN false;
    END IF;

    -- who pays for which invoice; the intent where there is one
    FOR payment IN
        SELECT DISTINCT coalesce(stripe_portal.read_id(p -> 'payment_intent'), stripe_portal.read_id(p -> 'charge')) AS id
        FROM (SELECT CASE kind
                  WHEN 'payment_intent' THEN jsonb_build_object('payment_intent', object -> 'id')
                  WHEN 'charge' THEN jsonb_build_object('payment_intent', object -> 'payment_intent', 'charge', object -> 'id')
                  WHEN 'invoice_payment' THEN object -> 'payment'
                  ELSE object END
              UNION ALL
              SELECT jsonb_path_query(object, '$.payments.data[*].payment') WHERE kind = 'invoice') AS told (p)
        ORDER BY id
    LOOP
        CONTINUE WHEN payment IS NULL OR (kind <> 'invoice' AND stripe_portal.read_id(object -> 'invoice') IS NULL);
        PERFORM stripe_portal.unite_row(ROW(
            payment, (origin ->> 'livemode')::boolean, origin ->> 'account',
            CASE kind WHEN 'invoice' THEN object ->> 'id' ELSE stripe_portal.read_id(object -> 'invoice') END
        )::stripe_portal.invoice_payment);
    END LOOP;

    IF kind = 'charge' AND object ->> 'status' = 'failed' THEN
        PERFORM stripe_portal.unite_row(stripe_portal.charge_attempt(object, origin));
        RETURN true;
    ELSIF event_type = 'payment_intent.payment_failed' THEN
        PERFORM stripe_portal.unite_row(stripe_portal.intent_attempt(object, origin));
    ELSIF event_type = 'invoice.payment_failed' THEN
        PERFORM stripe_portal.unite_row(stripe_portal.invoice_attempt(object, origin));
    END IF;
    RETURN kind = 'invoice_payment';
END
$$;

COMMENT ON FUNCTION stripe_portal.write_payment_facts(text, jsonb, jsonb) IS
'Keeps what an object tells of a failed attempt and of who pays for which invoice. event_type: the event''s, NULL for a read. True for what is kept nowhere but there: a failed charge, an invoice payment';

CREATE OR REPLACE VIEW stripe_portal.payment_failure WITH (security_invoker = true) AS
WITH told AS (
    SELECT a.id, a.livemode, a.account, a.failed_at, a.customer, a.charge, a.payment_intent,
           coalesce(paid_for.invoice, i.invoice) AS invoice,
           i.subscription, a.amount, a.currency, a.code, a.decline_code, a.network_decline_code, a.network_advice_code,
           a.advice_code, a.outcome_type, a.outcome_reason, a.risk_level, a.message,
           a.payment_method, a.payment_method_type, a.brand, a.last4, a.exp_month, a.exp_year, a.country,
           i.attempt_number, i.next_payment_attempt
    FROM stripe_portal.payment_attempt AS a
    LEFT JOIN stripe_portal.invoice_payment AS paid_for
        ON (paid_for.payment, paid_for.livemode, paid_for.account) = (coalesce(a.payment_intent, a.charge), a.livemode, a.account)
    -- the nearest that an invoice told of; where nobody says which invoice was
    -- to be paid, one of the same customer over the same amount
    LEFT JOIN LATERAL (
        SELECT i.* FROM stripe_portal.payment_attempt AS i
        WHERE i.invoice IS NOT NULL AND (i.customer, i.livemode, i.account) = (a.customer, a.livemode, a.account)
          AND coalesce(i.invoice = paid_for.invoice, (i.amount, i.currency) = (a.amount, a.currency))
          AND i.failed_at BETWEEN a.failed_at - interval '10 minutes' AND a.failed_at + interval '10 minutes'
        ORDER BY greatest(i.failed_at - a.failed_at, a.failed_at - i.failed_at), i.id
        LIMIT 1) AS i ON true
    WHERE a.invoice IS NULL
    UNION ALL
    -- what only the invoice told of
    SELECT i.* FROM (
        SELECT id, livemode, account, failed_at, customer, charge, payment_intent, invoice, subscription, amount, currency,
               code, decline_code, network_decline_code, network_advice_code, advice_code, outcome_type, outcome_reason,
               risk_level, message, payment_method, payment_method_type, brand, last4, exp_month, exp_year, country,
               attempt_number, next_payment_attempt
        FROM stripe_portal.payment_attempt) AS i
    WHERE i.invoice IS NOT NULL AND NOT EXISTS (
        SELECT FROM stripe_portal.payment_attempt AS a
        LEFT JOIN stripe_portal.invoice_payment AS paid_for
            ON (paid_for.payment, paid_for.livemode, paid_for.account) = (coalesce(a.payment_intent, a.charge), a.livemode, a.account)
        WHERE a.invoice IS NULL AND (i.customer, i.livemode, i.account) = (a.customer, a.livemode, a.account)
          AND coalesce(i.invoice = paid_for.invoice, (i.amount, i.currency) = (a.amount, a.currency))
          AND i.failed_at BETWEEN a.failed_at - interval '10 minutes' AND a.failed_at + interval '10 minutes')
)
SELECT told.id, told.livemode, told.account, told.failed_at, told.customer, told.charge, told.payment_intent, told.invoice,
       coalesce(told.subscription, invoice.subscription) AS subscription, told.amount, told.currency, told.code,
       -- unless the network was never asked, the outcome's reason is the decline code
       coalesce(told.decline_code, CASE told.outcome_type WHEN 'issuer_declined' THEN told.outcome_reason END) AS decline_code,
       told.network_decline_code, told.network_advice_code, told.advice_code, told.outcome_type, told.outcome_reason,
       told.risk_level, told.message, told.payment_method, told.payment_method_type, told.brand, told.last4,
       told.exp_month, told.exp_year, told.country, told.attempt_number,
       -- moved since, or told later than the failure
       CASE WHEN invoice.attempt_count = told.attempt_number AND invoice.status = 'open'
            THEN invoice.next_payment_attempt ELSE told.next_payment_attempt END AS next_payment_attempt,
       CASE WHEN invoice.status = 'paid' THEN coalesce(invoice.paid_at, invoice.event_created)
            WHEN intent.status = 'succeeded' THEN intent.event_created END AS recovered_at
FROM told
LEFT JOIN stripe_portal.invoice
    ON (invoice.id, invoice.livemode, invoice.account) = (told.invoice, told.livemode, told.account)
LEFT JOIN stripe_portal.payment_intent AS intent
    ON (intent.id, intent.livemode, intent.account) = (told.payment_intent, told.livemode, told.account);

COMMENT ON VIEW stripe_portal.payment_failure IS 'Failed attempts to get paid, one row each, put together from what the charge, the payment intent and the invoice told, whichever of these were heard of';
COMMENT ON COLUMN stripe_portal.payment_failure.id IS 'The charge''s id; where there was none, that of the payment intent or the invoice with the second of the failure';
COMMENT ON COLUMN stripe_portal.payment_failure.failed_at IS 'When it failed, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.payment_failure.invoice IS 'The invoice that was to be paid; where Stripe did not name it, the one of this customer over this amount that failed within ten minutes';
COMMENT ON COLUMN stripe_portal.payment_failure.amount IS 'What was to be paid, in minor units of currency';
COMMENT ON COLUMN stripe_portal.payment_failure.code IS 'Stripe''s error code, such as card_declined';
COMMENT ON COLUMN stripe_portal.payment_failure.decline_code IS 'Why the issuer declined, as Stripe has it, also where it is not known here';
COMMENT ON COLUMN stripe_portal.payment_failure.message IS 'Stripe''s words to the merchant; not for the customer''s eyes';
COMMENT ON COLUMN stripe_portal.payment_failure.attempt_number IS 'The invoice''s attempt_count, which counts scheduled attempts';
COMMENT ON COLUMN stripe_portal.payment_failure.next_payment_attempt IS 'When Stripe tries again; NULL if it will not, or has not said';
COMMENT ON COLUMN stripe_portal.payment_failure.recovered_at IS 'When the invoice, or else the payment intent, was paid after all; NULL if it was not';
