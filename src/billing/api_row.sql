-- billing: from an object of Stripe's to its table's row.
--
-- One reader per kind, for all API versions.  A column takes the field of its
-- own name; what a reader spells out is what is not as simple as that.  origin
-- tells what the object does not: livemode, account, event, event_created,
-- deleted and refetch (see event_origin in webhook, and apply_object).
-- Enumerations are text: Stripe adds values without notice.
--
-- A value of the wrong type raises its usual error, which makes the event a
-- failed one.  Those of subscriptions and prices are in row.c, for speed: most
-- events are about one, with the other in it.

CREATE OR REPLACE FUNCTION stripe_portal.customer_row(object jsonb, origin jsonb)
RETURNS stripe_portal.customer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.customer, object || jsonb_build_object(
    'default_payment_method', stripe_portal.read_id(object #> '{invoice_settings,default_payment_method}'),
    'default_source', stripe_portal.read_id(object -> 'default_source'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.customer_row(jsonb, jsonb) IS
'The row of a customer object';

CREATE OR REPLACE FUNCTION stripe_portal.product_row(object jsonb, origin jsonb)
RETURNS stripe_portal.product
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.product, object || jsonb_build_object(
    'default_price', stripe_portal.read_id(object -> 'default_price'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.product_row(jsonb, jsonb) IS
'The row of a product object';

CREATE OR REPLACE FUNCTION stripe_portal.price_row(object jsonb, origin jsonb)
RETURNS stripe_portal.price
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_price_row';

COMMENT ON FUNCTION stripe_portal.price_row(jsonb, jsonb) IS
'The row of a price object';

CREATE OR REPLACE FUNCTION stripe_portal.subscription_row(object jsonb, origin jsonb)
RETURNS stripe_portal.subscription
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_subscription_row';

COMMENT ON FUNCTION stripe_portal.subscription_row(jsonb, jsonb) IS
'The row of a subscription object, its items reduced to what the view subscription_item shows and the ids of their discounts, times in them in unix seconds, as Stripe gives them';

CREATE OR REPLACE FUNCTION stripe_portal.payment_method_row(object jsonb, origin jsonb)
RETURNS stripe_portal.payment_method
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_method, object || jsonb_build_object(
    -- once detached it names nobody; whose it was stands in what changed
    'customer', coalesce(stripe_portal.read_id(nullif(object -> 'customer', 'null')), stripe_portal.read_id(origin #> '{previous,customer}')),
    'attached', coalesce(object -> 'customer', 'null') <> 'null',
    'created', stripe_portal.read_time(object -> 'created')) || stripe_portal.read_method(object) || origin);

COMMENT ON FUNCTION stripe_portal.payment_method_row(jsonb, jsonb) IS
'The row of a payment_method object; origin has the event''s previous_attributes as previous';

CREATE OR REPLACE FUNCTION stripe_portal.coupon_row(object jsonb, origin jsonb)
RETURNS stripe_portal.coupon
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.coupon, object || jsonb_build_object(
    -- only in an expanded coupon
    'applies_to', object #> '{applies_to,products}',
    'redeem_by', stripe_portal.read_time(object -> 'redeem_by'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.coupon_row(jsonb, jsonb) IS
'The row of a coupon object';

CREATE OR REPLACE FUNCTION stripe_portal.promotion_code_row(object jsonb, origin jsonb)
RETURNS stripe_portal.promotion_code
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.promotion_code, object || jsonb_build_object(
    'coupon', stripe_portal.read_id(stripe_portal.read_coupon(object)),
    'customer', stripe_portal.read_id(object -> 'customer'),
    'restrictions', object -> 'restrictions' #- '{currency_options}',
    'expires_at', stripe_portal.read_time(object -> 'expires_at'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.promotion_code_row(jsonb, jsonb) IS
'The row of a promotion_code object';

CREATE OR REPLACE FUNCTION stripe_portal.discount_row(object jsonb, origin jsonb)
RETURNS stripe_portal.discount
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.discount, object || jsonb_build_object(
    'coupon', stripe_portal.read_id(stripe_portal.read_coupon(object)),
    'customer', stripe_portal.read_id(object -> 'customer'),
    'subscription', stripe_portal.read_id(object -> 'subscription'),
    'promotion_code', stripe_portal.read_id(object -> 'promotion_code'),
    'start', stripe_portal.read_time(object -> 'start'),
    'end', stripe_portal.read_time(object -> 'end')) || origin);

COMMENT ON FUNCTION stripe_portal.discount_row(jsonb, jsonb) IS
'The row of a discount object';

CREATE OR REPLACE FUNCTION stripe_portal.invoice_row(object jsonb, origin jsonb)
RETURNS stripe_portal.invoice
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.invoice, object || jsonb_build_object(
    'customer', stripe_portal.read_id(object -> 'customer'),
    'subscription', stripe_portal.read_subscription(object),
    'discounts', stripe_portal.read_discounts(object),
    'finalized_at', stripe_portal.read_time(object #> '{status_transitions,finalized_at}'),
    'paid_at', stripe_portal.read_time(object #> '{status_transitions,paid_at}'),
    'marked_uncollectible_at', stripe_portal.read_time(object #> '{status_transitions,marked_uncollectible_at}'),
    'voided_at', stripe_portal.read_time(object #> '{status_transitions,voided_at}'),
    'next_payment_attempt', stripe_portal.read_time(object -> 'next_payment_attempt'),
    'due_date', stripe_portal.read_time(object -> 'due_date'),
    'period_start', stripe_portal.read_time(object -> 'period_start'),
    'period_end', stripe_portal.read_time(object -> 'period_end'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.invoice_row(jsonb, jsonb) IS
'The row of an invoice object';

CREATE OR REPLACE FUNCTION stripe_portal.payment_intent_row(object jsonb, origin jsonb)
RETURNS stripe_portal.payment_intent
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_intent, object || jsonb_build_object(
    'customer', stripe_portal.read_id(object -> 'customer'),
    -- the newest of a list before 2022-11-15
    'latest_charge', stripe_portal.read_id(coalesce(object -> 'latest_charge', object #> '{charges,data,0}')),
    'payment_method', stripe_portal.read_id(object -> 'payment_method'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.payment_intent_row(jsonb, jsonb) IS
'The row of a payment_intent object';

CREATE OR REPLACE FUNCTION stripe_portal.dispute_row(object jsonb, origin jsonb)
RETURNS stripe_portal.dispute
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.dispute, object || jsonb_build_object(
    'charge', stripe_portal.read_id(object -> 'charge'),
    'payment_intent', stripe_portal.read_id(object -> 'payment_intent'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.dispute_row(jsonb, jsonb) IS
'The row of a dispute object';

CREATE OR REPLACE FUNCTION stripe_portal.entitlement_row(object jsonb, origin jsonb)
RETURNS stripe_portal.entitlement
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.entitlement, object || jsonb_build_object(
    'customer', stripe_portal.read_id(object -> 'customer'),
    'lookup_keys', (SELECT coalesce(jsonb_agg(DISTINCT e ->> 'lookup_key'), '[]') FROM jsonb_array_elements(object #> '{entitlements,data}') AS e)) || origin
    || CASE WHEN object #>> '{entitlements,has_more}' = 'true' THEN '{"refetch": true}' ELSE '{}' END::jsonb);

COMMENT ON FUNCTION stripe_portal.entitlement_row(jsonb, jsonb) IS
'The row of an entitlements.active_entitlement_summary object';
