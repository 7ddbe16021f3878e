-- Any version: one story, told in the shapes of five API versions, and in the
-- current one with numbers as strings, without its nulls, with its references
-- expanded and with more than anybody knows, gives the same rows in every table.
\set VERBOSITY terse
SET TIME ZONE 'UTC';
SET client_min_messages = warning;
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

-- The story, as 2026-10-28.endive tells it.
CREATE TEMP TABLE story (n integer GENERATED ALWAYS AS IDENTITY, type text, at integer, object jsonb, previous jsonb);
CREATE FUNCTION subscription(more jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "active", "currency": "eur",
        "collection_method": "charge_automatically", "created": 1700000000, "start_date": 1700000000, "billing_mode": {"type": "flexible"},
        "cancel_at": null, "cancel_at_period_end": false, "canceled_at": null, "ended_at": null, "trial_start": null, "trial_end": null,
        "cancellation_details": {"comment": null, "feedback": null, "feedback_option": null, "reason": null}, "discounts": [],
        "latest_invoice": "in_1", "default_payment_method": "pm_1", "pause_collection": null, "schedule": null, "metadata": {"plan": "pro"},
        "items": {"object": "list", "has_more": false, "data": [{"id": "si_1", "object": "subscription_item", "quantity": 2, "discounts": [],
            "current_period_start": 1700000000, "current_period_end": 1702592000, "price": {"id": "price_1", "object": "price",
            "product": "prod_1", "active": true, "currency": "eur", "type": "recurring", "billing_scheme": "per_unit", "unit_amount": 1500,
            "unit_amount_decimal": "1500", "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
            "nickname": null, "lookup_key": "pro", "metadata": {}, "tax_behavior": "exclusive", "created": 1690000000}}]}}'::jsonb || more $$;
CREATE FUNCTION invoice(more jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"object": "invoice", "id": "in_1", "number": "A-1", "customer": "cus_1", "status": "open", "billing_reason": "subscription_create",
        "collection_method": "charge_automatically", "currency": "eur", "amount_due": 2400, "amount_paid": 0, "amount_remaining": 2400,
        "subtotal": 3000, "total": 2400, "attempted": false, "attempt_count": 0, "next_payment_attempt": null, "auto_advance": true,
        "due_date": null, "period_start": 1700000000, "period_end": 1700000000, "discounts": ["di_1"], "metadata": {}, "created": 1700000020,
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}},
        "status_transitions": {"finalized_at": 1700000021, "paid_at": null, "marked_uncollectible_at": null, "voided_at": null}}'::jsonb || more $$;
CREATE FUNCTION intent(more jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"object": "payment_intent", "id": "pi_1", "customer": "cus_1", "status": "requires_payment_method", "amount": 2400, "amount_received": 0,
        "currency": "eur", "latest_charge": "ch_1", "payment_method": null, "cancellation_reason": null, "metadata": {}, "created": 1700000021}'::jsonb || more $$;

INSERT INTO story (type, at, object, previous) VALUES
('customer.created', 0, '{"object": "customer", "id": "cus_1", "created": 1690000000, "email": "jenny@example.com", "name": "Jenny Rosen", "phone": null,
    "address": {"country": "DE"}, "shipping": null, "currency": "eur", "balance": -500, "delinquent": false, "preferred_locales": ["de"],
    "tax_exempt": "none", "invoice_settings": {"default_payment_method": "pm_1"}, "default_source": "card_1", "metadata": {}}', NULL),
('product.created', 0, '{"object": "product", "id": "prod_1", "name": "Pro", "active": true, "description": null, "default_price": "price_1",
    "metadata": {}, "created": 1690000000}', NULL),
('price.created', 0, subscription('{}') #> '{items,data,0,price}', NULL),
('coupon.created', 1, '{"object": "coupon", "id": "STAY20", "name": "Stay", "percent_off": 20.5, "amount_off": null, "currency": null,
    "duration": "repeating", "duration_in_months": 3, "max_redemptions": 100, "times_redeemed": 0, "redeem_by": 1800000000, "valid": true,
    "metadata": {}, "created": 1690000000}', NULL),
('promotion_code.created', 1, '{"object": "promotion_code", "id": "promo_1", "code": "STAY", "promotion": {"type": "coupon", "coupon": "STAY20"},
    "customer": "cus_1", "active": true, "expires_at": 1800000000, "max_redemptions": 1, "times_redeemed": 0,
    "restrictions": {"first_time_transaction": false}, "metadata": {}, "created": 1690000000}', NULL),
('payment_method.attached', 2, '{"object": "payment_method", "id": "pm_1", "type": "card", "customer": "cus_1", "metadata": {}, "created": 1690000000,
    "card": {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2030, "country": "DE", "funding": "credit", "fingerprint": "Xt5E"}}', NULL),
('customer.subscription.created', 10, subscription('{"status": "incomplete"}'), NULL),
('customer.subscription.updated', 10, subscription('{}'), '{"status": "incomplete"}'),
('customer.discount.created', 15, '{"object": "discount", "id": "di_1", "customer": "cus_1", "subscription": "sub_1", "subscription_item": null,
    "source": {"type": "coupon", "coupon": "STAY20"}, "promotion_code": "promo_1", "start": 1700000015, "end": 1707776015}', NULL),
('customer.subscription.updated', 15, subscription('{"discounts": ["di_1"]}'), '{"discounts": []}'),
('invoice.upcoming', 16, invoice('{"status": "draft"}') - 'id', NULL),
('invoice.created', 20, invoice('{"status": "draft", "number": null, "status_transitions": null}'), NULL),
('invoice.finalized', 20, invoice('{}'), NULL),
('charge.failed', 22, '{"object": "charge", "id": "ch_1", "status": "failed", "amount": 2400, "currency": "eur", "customer": "cus_1",
    "payment_intent": "pi_1", "failure_code": "card_declined", "failure_message": "Your card was declined.", "payment_method": "pm_1", "created": 1700000022,
    "outcome": {"type": "issuer_declined", "reason": "insufficient_funds", "network_status": "declined_by_network", "risk_level": "normal",
        "network_decline_code": "51", "network_advice_code": "03", "advice_code": "try_again_later"},
    "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2030, "country": "DE"}}}', NULL),
('payment_intent.payment_failed', 23, intent('{"last_payment_error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
    "advice_code": "try_again_later", "network_decline_code": "51", "message": "Your card was declined.", "charge": "ch_1",
    "payment_method": {"object": "payment_method", "id": "pm_1", "type": "card", "card": {"brand": "visa", "last4": "4242", "country": "DE"}}}}'), NULL),
('invoice.payment_failed', 23, invoice('{"attempted": true, "attempt_count": 1, "next_payment_attempt": 1700259200}'), NULL),
('customer.subscription.updated', 24, subscription('{"status": "past_due", "discounts": ["di_1"]}'), '{"status": "active"}'),
('payment_intent.succeeded', 60, intent('{"status": "succeeded", "amount_received": 2400, "latest_charge": "ch_2", "payment_method": "pm_1"}'), NULL),
('invoice_payment.paid', 60, '{"object": "invoice_payment", "id": "inpay_1", "invoice": "in_1", "status": "paid", "amount_paid": 2400, "currency": "eur",
    "payment": {"type": "payment_intent", "payment_intent": "pi_1"}}', NULL),
('invoice.paid', 60, invoice('{"status": "paid", "amount_paid": 2400, "amount_remaining": 0, "attempted": true, "attempt_count": 2,
    "status_transitions": {"finalized_at": 1700000021, "paid_at": 1700000060, "marked_uncollectible_at": null, "voided_at": null}}'), NULL),
('customer.subscription.updated', 70, subscription('{"discounts": ["di_1"], "cancel_at": 1702592000, "canceled_at": 1700000070,
    "cancellation_details": {"comment": null, "feedback": null, "feedback_option": null, "reason": "cancellation_requested"}}'),
    '{"cancel_at": null, "canceled_at": null, "cancellation_details": {"reason": null}, "status": "past_due"}'),
('customer.subscription.updated', 77, subscription('{"discounts": ["di_1"], "cancel_at": 1702592000, "canceled_at": 1700000070,
    "cancellation_details": {"comment": "Budget cut", "feedback": "too_expensive", "feedback_option": null, "reason": "cancellation_requested"}}'),
    '{"cancellation_details": {"comment": null, "feedback": null}}'),
('charge.dispute.created', 80, '{"object": "dispute", "id": "dp_1", "charge": "ch_2", "payment_intent": "pi_1", "amount": 2400, "currency": "eur",
    "reason": "fraudulent", "status": "needs_response", "metadata": {}, "created": 1700000080}', NULL),
('entitlements.active_entitlement_summary.updated', 81, '{"object": "entitlements.active_entitlement_summary", "customer": "cus_1",
    "entitlements": {"object": "list", "has_more": false, "data": [{"id": "ent_2", "object": "entitlements.active_entitlement", "feature": "feat_2", "lookup_key": "reports"},
        {"id": "ent_1", "object": "entitlements.active_entitlement", "feature": "feat_1", "lookup_key": "export"}]}}', NULL),
('payment_method.detached', 90, '{"object": "payment_method", "id": "pm_1", "type": "card", "customer": null, "metadata": {}, "created": 1690000000,
    "card": {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2030, "country": "DE", "funding": "credit", "fingerprint": "Xt5E"}}', '{"customer": "cus_1"}');

-- ---------------------------------------------------------------------------
-- The same object in another version's shape; NULL where there was none.
CREATE FUNCTION shape(o jsonb, version text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    before_basil CONSTANT boolean := version < '2025-03-31';
    before_clover CONSTANT boolean := version < '2025-09-30';
    coupon jsonb := (SELECT object FROM story WHERE type = 'coupon.created');
    discount jsonb := (SELECT object FROM story WHERE type = 'customer.discount.created');
BEGIN
    CASE o ->> 'object'
    WHEN 'subscription' THEN
        IF before_basil THEN
            o := o || jsonb_build_object('current_period_start', o #> '{items,data,0,current_period_start}',
                                         'current_period_end', o #> '{items,data,0,current_period_end}',
                                         'discount', CASE WHEN o -> 'discounts' <> '[]' THEN shape(discount, version) END)
                 #- '{items,data,0,current_period_start}' #- '{items,data,0,current_period_end}' #- '{items,data,0,discounts}'
                 #- '{cancellation_details,feedback_option}';
        END IF;
        IF version = '2020-08-27' THEN
            o := o - 'discounts' || '{"plan": {"id": "price_1", "object": "plan"}}';
        END IF;
    WHEN 'invoice' THEN
        IF before_basil THEN
            o := o - 'parent' || '{"subscription": "sub_1", "payment_intent": "pi_1", "charge": "ch_1", "paid": false, "quote": null}'
                 || jsonb_build_object('discount', shape(discount, version));
        ELSE
            o := o || '{"payments": {"object": "list", "data": [{"object": "invoice_payment", "id": "inpay_1", "invoice": "in_1",
                        "payment": {"type": "payment_intent", "payment_intent": "pi_1"}}]}}';
        END IF;
        IF version = '2020-08-27' THEN
            o := o - 'discounts';
        END IF;
    WHEN 'payment_intent' THEN
        IF before_basil THEN
            o := o || '{"invoice": "in_1"}';
        END IF;
        IF version = '2020-08-27' THEN
            o := o - 'latest_charge' || jsonb_build_object('charges', jsonb_build_object('data', jsonb_build_array(
                 jsonb_build_object('object', 'charge', 'id', o -> 'latest_charge'), '{"object": "charge", "id": "ch_0"}'::jsonb)));
        END IF;
    WHEN 'charge' THEN
        IF before_basil THEN
            o := o || '{"invoice": "in_1"}';
        END IF;
    WHEN 'discount' THEN
        IF before_clover THEN
            o := o - 'source' || jsonb_build_object('coupon', coupon);
        END IF;
        IF before_basil THEN
            o := o - 'subscription_item';
        END IF;
    WHEN 'promotion_code' THEN
        IF before_clover THEN
            o := o - 'promotion' || jsonb_build_object('coupon', coupon);
        END IF;
    WHEN 'invoice_payment' THEN
        IF before_basil THEN
            RETURN NULL;
        END IF;
    ELSE
        NULL;
    END CASE;
    RETURN o;
END $$;

-- All numbers as strings, but in what is kept as Stripe sent it.
CREATE FUNCTION strings(value jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE jsonb_typeof(value)
        WHEN 'number' THEN to_jsonb(value #>> '{}')
        WHEN 'object' THEN (SELECT coalesce(jsonb_object_agg(key, strings(v)), '{}') FROM jsonb_each(value) AS m (key, v))
        WHEN 'array' THEN (SELECT coalesce(jsonb_agg(strings(v) ORDER BY n), '[]') FROM jsonb_array_elements(value) WITH ORDINALITY AS m (v, n))
        ELSE value END $$;

-- References as objects.
CREATE FUNCTION expanded(value jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE jsonb_typeof(value)
        WHEN 'object' THEN (SELECT coalesce(jsonb_object_agg(key, expanded(
            CASE WHEN key IN ('customer', 'subscription', 'product', 'coupon', 'promotion_code', 'latest_invoice', 'invoice', 'payment_intent', 'charge',
                              'latest_charge', 'payment_method', 'default_payment_method', 'default_price', 'default_source')
                      AND jsonb_typeof(v) = 'string'
                      -- Stripe never expands this one
                      AND NOT value ? 'decline_code'
                 THEN jsonb_build_object('id', v, 'object', key) ELSE v END)), '{}') FROM jsonb_each(value) AS m (key, v))
        WHEN 'array' THEN (SELECT coalesce(jsonb_agg(expanded(v) ORDER BY n), '[]') FROM jsonb_array_elements(value) WITH ORDINALITY AS m (v, n))
        ELSE value END $$;

CREATE FUNCTION told(o jsonb, manner text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE manner
        WHEN 'numbers as strings' THEN strings(o)
        WHEN 'nulls left out' THEN jsonb_strip_nulls(o)
        WHEN 'references expanded' THEN expanded(o)
        WHEN 'more than is known' THEN o || '{"event": "x", "event_created": "x", "refetch": "x", "livemode": "x", "account": "x", "novelty": {"a": [1]}}'
        ELSE shape(o, manner) END $$;

CREATE TEMP TABLE outcome (manner text, tablename text, row_ text);
CREATE FUNCTION tell(manner text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
    e record;
BEGIN
    TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
        stripe_portal.invoice, stripe_portal.payment_intent, stripe_portal.payment_method, stripe_portal.coupon, stripe_portal.promotion_code,
        stripe_portal.discount, stripe_portal.dispute, stripe_portal.entitlement, stripe_portal.invoice_payment, stripe_portal.payment_attempt,
        stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation;
    FOR e IN SELECT * FROM story WHERE told(object, manner) IS NOT NULL ORDER BY n LOOP
        PERFORM stripe_receive_webhook(p, stripe_sign_webhook(p, 'whsec_test_secret'))
        FROM (SELECT jsonb_build_object('id', 'evt_' || e.n, 'object', 'event', 'type', e.type, 'created', 1700000000 + e.at, 'livemode', false,
            'api_version', manner, 'data', jsonb_build_object('object', told(e.object, manner)) ||
            CASE WHEN e.previous IS NULL THEN '{}' ELSE jsonb_build_object('previous_attributes', e.previous) END)::text AS p) AS payload;
    END LOOP;
    FOR name IN SELECT unnest('{customer, product, price, subscription, payment_method, entitlement, coupon, promotion_code, discount,
                                invoice, payment_intent, dispute, invoice_payment, payment_attempt, payment_failure,
                                subscription_change, cancellation}'::text[]) LOOP
        EXECUTE format('INSERT INTO outcome SELECT %1$L, %2$L, t::text FROM stripe_portal.%2$I AS t', manner, name);
    END LOOP;
END $$;

SELECT count(tell(manner)) FROM unnest('{2020-08-27, 2024-06-20, 2025-03-31.basil, 2025-09-30.clover, numbers as strings, nulls left out,
    references expanded, more than is known, 2026-10-28.endive}'::text[]) AS manner;

-- What became of the events, told last in the current version: nothing failed.
SELECT status, count(*), string_agg(DISTINCT type, ', ') FILTER (WHERE status <> 'applied') AS types FROM stripe_portal.event GROUP BY 1 ORDER BY 1;

-- Every manner of telling has left the same rows in every table.
SELECT tablename, count(DISTINCT manner) AS manners, count(*) / count(DISTINCT manner) AS rows, count(DISTINCT row_) AS different FROM outcome GROUP BY 1 ORDER BY 1;
SELECT o.manner, o.tablename, o.row_ FROM outcome AS o
WHERE NOT EXISTS (SELECT FROM outcome AS e WHERE e.manner = '2026-10-28.endive' AND (e.tablename, e.row_) = (o.tablename, o.row_));
SELECT (SELECT count(*) FROM story) AS events, count(DISTINCT manner) AS manners, count(*) AS rows FROM outcome \gset
\echo '# numbers: version:' :events 'events told in' :manners 'ways,' :rows 'rows compared'

-- And this is what they say.
\x on
TABLE stripe_portal.subscription;
TABLE stripe_portal.invoice;
TABLE stripe_portal.payment_failure;
\x off
SELECT id, coupon, subscription, promotion_code, start, "end" FROM stripe_portal.discount;
SELECT id, percent_off, duration, duration_in_months, redeem_by, valid FROM stripe_portal.coupon;
SELECT code, coupon, customer, restrictions FROM stripe_portal.promotion_code;
SELECT id, customer, attached, brand, last4, exp_month, exp_year, country FROM stripe_portal.payment_method;
SELECT id, status, amount_received, latest_charge FROM stripe_portal.payment_intent;
SELECT id, charge, reason, status FROM stripe_portal.dispute;
SELECT customer, lookup_keys FROM stripe_portal.entitlement;
TABLE stripe_portal.invoice_payment;
SELECT type, status, count, first, last FROM stripe_portal.event_type WHERE type LIKE 'invoice%' ORDER BY 1, 2;

-- What Stripe adds one day is kept as it is sent, whatever it is.
SELECT stripe_portal.apply_object(subscription('{"status": "hibernating", "collection_method": "by_pigeon", "cancellation_details": {"reason": "boredom"}}'), true, '', '2026-01-01');
SELECT stripe_portal.apply_object(invoice('{"status": "half_paid"}'), true, '', '2026-01-01');
SELECT status, collection_method, cancellation_reason FROM stripe_portal.subscription WHERE livemode;
SELECT status FROM stripe_portal.invoice WHERE livemode;

-- ---------------------------------------------------------------------------
-- What other objects tell of one fills gaps only.
TRUNCATE stripe_portal.price, stripe_portal.coupon, stripe_portal.discount, stripe_portal.subscription;
SELECT stripe_portal.apply_event(jsonb_build_object('id', 'evt_s', 'type', 'customer.subscription.updated', 'created', 1700000100, 'livemode', false,
    'data', jsonb_build_object('object', shape(subscription('{"discounts": ["di_1"]}'), '2020-08-27'))));
SELECT unit_amount, "interval", active, lookup_key, event, event_created, refetch FROM stripe_portal.price;
SELECT percent_off, duration, name, valid, event_created, refetch FROM stripe_portal.coupon;
SELECT coupon, subscription, "end", event_created, refetch FROM stripe_portal.discount;
-- what the price itself tells is better, however old it is
SELECT stripe_portal.apply_object('{"object": "price", "id": "price_1", "product": "prod_1", "active": false, "unit_amount": 1500,
    "billing_scheme": "tiered", "tiers": [{"up_to": null, "unit_amount": 7}]}', false, '', '2020-01-01');
-- and its tiers outlive an event, which never has them, in both orders
SELECT stripe_portal.apply_event('{"id": "evt_p", "type": "price.updated", "created": 1700000200, "livemode": false, "data": {"object":
    {"object": "price", "id": "price_1", "product": "prod_1", "active": true, "unit_amount": 1500, "nickname": "new"}}}');
SELECT active, nickname, tiers, refetch FROM stripe_portal.price;
UPDATE stripe_portal.price SET tiers = NULL;
SELECT stripe_portal.apply_object('{"object": "price", "id": "price_1", "product": "prod_1", "tiers": [{"up_to": null, "unit_amount": 7}]}', false, '', '2020-01-01');
SELECT active, nickname, tiers, refetch FROM stripe_portal.price;

-- Where nobody says which invoice a charge was for, the same customer, amount
-- and time make one failure of two; another amount is another failure.
TRUNCATE stripe_portal.payment_attempt, stripe_portal.invoice_payment, stripe_portal.invoice, stripe_portal.payment_intent;
SELECT stripe_portal.apply_event(jsonb_build_object('id', 'evt_' || n, 'type', type, 'created', 1700000000 + at, 'livemode', false,
    'data', jsonb_build_object('object', object || '{"payments": null}')))
FROM story WHERE type LIKE '%.failed' OR type LIKE '%\_failed';
SELECT id, invoice, decline_code, attempt_number, recovered_at FROM stripe_portal.payment_failure;
UPDATE stripe_portal.payment_attempt SET amount = 2500 WHERE charge IS NOT NULL;
SELECT id, invoice, decline_code, attempt_number, recovered_at FROM stripe_portal.payment_failure ORDER BY id;
-- until the link is heard of
SELECT stripe_portal.apply_object(object, false, '', '2026-01-01') FROM story WHERE type = 'invoice_payment.paid';
SELECT id, invoice, decline_code, attempt_number, recovered_at FROM stripe_portal.payment_failure;

-- A coupon's id can be given again, to another coupon.
SELECT stripe_portal.apply_event(format('{"id": "evt_%s", "type": "coupon.%s", "created": %s, "livemode": false, "data": {"object":
    {"object": "coupon", "id": "SALE", "percent_off": %s, "created": %s}}}', n, type, at, off, created)::jsonb)
FROM (VALUES (3, 'created', 1700000009, 30, 1700000009), (1, 'created', 1700000001, 10, 1700000001), (2, 'deleted', 1700000005, 10, 1700000001))
    AS e (n, type, at, off, created);
SELECT percent_off, deleted FROM stripe_portal.coupon WHERE id = 'SALE';

TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
    stripe_portal.invoice, stripe_portal.payment_intent, stripe_portal.payment_method, stripe_portal.coupon, stripe_portal.promotion_code,
    stripe_portal.discount, stripe_portal.dispute, stripe_portal.entitlement, stripe_portal.invoice_payment, stripe_portal.payment_attempt;
DROP FUNCTION tell, told, expanded, strings, shape, subscription, invoice, intent;
DROP TABLE story, outcome;
