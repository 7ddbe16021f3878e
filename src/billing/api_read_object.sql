-- billing: from an object of Stripe's to its table's row.
--
-- One reader per kind, for all API versions.  A column takes the field of its
-- own name; what a reader spells out is what is not as simple as that.  origin
-- tells what the object does not: livemode, account, event, event_created,
-- deleted and refetch (see event_origin in webhook, and apply_object).
--
-- A value of the wrong type raises its usual error, which makes the event a
-- failed one.

CREATE OR REPLACE FUNCTION stripe_portal.read_customer(object jsonb, origin jsonb)
RETURNS stripe_portal.customer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.customer, object || jsonb_build_object(
    'default_payment_method', stripe_portal.read_id(object #> '{invoice_settings,default_payment_method}'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.read_customer(jsonb, jsonb) IS
'The row of a customer object';

CREATE OR REPLACE FUNCTION stripe_portal.read_product(object jsonb, origin jsonb)
RETURNS stripe_portal.product
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.product, object || jsonb_build_object(
    'default_price', stripe_portal.read_id(object -> 'default_price'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.read_product(jsonb, jsonb) IS
'The row of a product object';

CREATE OR REPLACE FUNCTION stripe_portal.read_price(object jsonb, origin jsonb)
RETURNS stripe_portal.price
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.price, object || jsonb_build_object(
    'product', stripe_portal.read_id(object -> 'product'),
    'unit_amount_decimal', coalesce(object ->> 'unit_amount_decimal', object ->> 'unit_amount'),
    'interval', object #>> '{recurring,interval}',
    'interval_count', object #>> '{recurring,interval_count}',
    'usage_type', object #>> '{recurring,usage_type}',
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.read_price(jsonb, jsonb) IS
'The row of a price object';

CREATE OR REPLACE FUNCTION stripe_portal.read_subscription(object jsonb, origin jsonb)
RETURNS stripe_portal.subscription
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    items CONSTANT jsonb := stripe_portal.read_items(object);
BEGIN
    RETURN jsonb_populate_record(NULL::stripe_portal.subscription, object || jsonb_build_object(
        'customer', stripe_portal.read_id(object -> 'customer'),
        'billing_mode', object #>> '{billing_mode,type}',
        'items', items,
        -- what all items have in common, where their intervals differ
        'current_period_start', (SELECT max(stripe_portal.read_time(item -> 'current_period_start')) FROM jsonb_array_elements(items) AS item),
        'current_period_end', (SELECT min(stripe_portal.read_time(item -> 'current_period_end')) FROM jsonb_array_elements(items) AS item),
        'trial_start', stripe_portal.read_time(object -> 'trial_start'),
        'trial_end', stripe_portal.read_time(object -> 'trial_end'),
        'cancel_at', stripe_portal.read_time(object -> 'cancel_at'),
        'cancel_at_period_end', coalesce(object ->> 'cancel_at_period_end', 'false'),
        'canceled_at', stripe_portal.read_time(object -> 'canceled_at'),
        'ended_at', stripe_portal.read_time(object -> 'ended_at'),
        'cancellation_reason', object #>> '{cancellation_details,reason}',
        'cancellation_feedback', object #>> '{cancellation_details,feedback}',
        'cancellation_feedback_option', object #>> '{cancellation_details,feedback_option}',
        'cancellation_comment', object #>> '{cancellation_details,comment}',
        'discounts', coalesce(nullif(object -> 'discounts', 'null'), stripe_portal.read_list(object -> 'discount')),
        'default_payment_method', stripe_portal.read_id(object -> 'default_payment_method'),
        'latest_invoice', stripe_portal.read_id(object -> 'latest_invoice'),
        'schedule', stripe_portal.read_id(object -> 'schedule'),
        'start_date', stripe_portal.read_time(object -> 'start_date'),
        'created', stripe_portal.read_time(object -> 'created')) || origin
        -- only the first items are in the object
        || CASE WHEN object #>> '{items,has_more}' = 'true' THEN '{"refetch": true}' ELSE '{}' END::jsonb);
END
$$;

COMMENT ON FUNCTION stripe_portal.read_subscription(jsonb, jsonb) IS
'The row of a subscription object: periods from the items or the subscription, discounts from a list or a single one';
