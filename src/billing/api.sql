-- billing: from what an event says of an object to the object's row.
--
-- One write function per object kind, each a single upsert, which replaces
-- only what is older than the event:
--
--   1. a final state (deleted, canceled, incomplete_expired) is never left,
--   2. else the later event wins, by Stripe's own clock.
--
-- What happens when two events bear the same second is decided where the
-- events are known, in webhook.

-- ---------------------------------------------------------------------------
-- Reading Stripe's values
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.read_time(value jsonb)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp((value #>> '{}')::double precision);

COMMENT ON FUNCTION stripe_portal.read_time(jsonb) IS
'A unix time (seconds, as number or string) as timestamptz; NULL for null';

CREATE OR REPLACE FUNCTION stripe_portal.read_id(value jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'object' THEN value ->> 'id' ELSE value #>> '{}' END;

COMMENT ON FUNCTION stripe_portal.read_id(jsonb) IS
'The id in a reference, which Stripe gives as a string or, expanded, as the object';

CREATE OR REPLACE FUNCTION stripe_portal.read_list(value jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL OR value = 'null' THEN '[]' ELSE jsonb_build_array(value) END;

COMMENT ON FUNCTION stripe_portal.read_list(jsonb) IS
'A single value, from before Stripe made a list of it, as a list';

CREATE OR REPLACE FUNCTION stripe_portal.read_items(subscription jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    -- Until 2025-03-31.basil the subscription had the period, since then each
    -- item has its own; for a while both are sent, and the items are right.
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', item ->> 'id',
               'price', stripe_portal.read_id(coalesce(item -> 'price', item -> 'plan')),
               'product', stripe_portal.read_id(coalesce(item #> '{price,product}', item #> '{plan,product}')),
               'quantity', (item ->> 'quantity')::bigint,
               'current_period_start', coalesce(item ->> 'current_period_start', subscription ->> 'current_period_start')::bigint,
               'current_period_end', coalesce(item ->> 'current_period_end', subscription ->> 'current_period_end')::bigint)
               ORDER BY item ->> 'id'), '[]')
    FROM jsonb_array_elements(subscription #> '{items,data}') AS item
);

COMMENT ON FUNCTION stripe_portal.read_items(jsonb) IS
'The items of a subscription, reduced to what the view subscription_item shows; times in unix seconds, as Stripe gives them';

-- ---------------------------------------------------------------------------
-- Writing one object
--
-- event is the whole event; decided says that a tie has been decided for it,
-- unclear that the decision was a choice.  True if the row was written, false
-- if it was not older.  A value of the wrong type raises its usual error,
-- which makes the event a failed one.
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.write_customer(event jsonb, decided boolean, unclear boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o CONSTANT jsonb := event #> '{data,object}';
BEGIN
    INSERT INTO stripe_portal.customer AS known (
        id, livemode, account,
        customer_account, email, name, phone, address, currency, balance, delinquent, default_payment_method,
        preferred_locales, tax_exempt, metadata, created, deleted,
        event, event_created, refetch)
    VALUES (
        o ->> 'id',
        (event ->> 'livemode')::boolean,
        coalesce(event ->> 'account', ''),
        o ->> 'customer_account',
        o ->> 'email',
        o ->> 'name',
        o ->> 'phone',
        nullif(o -> 'address', 'null'),
        o ->> 'currency',
        (o ->> 'balance')::bigint,
        (o ->> 'delinquent')::boolean,
        stripe_portal.read_id(o #> '{invoice_settings,default_payment_method}'),
        nullif(o -> 'preferred_locales', 'null'),
        o ->> 'tax_exempt',
        nullif(o -> 'metadata', 'null'),
        stripe_portal.read_time(o -> 'created'),
        event ->> 'type' = 'customer.deleted',
        event ->> 'id',
        stripe_portal.read_time(event -> 'created'),
        unclear)
    ON CONFLICT (id, livemode, account) DO UPDATE SET
        customer_account = excluded.customer_account,
        email = excluded.email,
        name = excluded.name,
        phone = excluded.phone,
        address = excluded.address,
        currency = excluded.currency,
        balance = excluded.balance,
        delinquent = excluded.delinquent,
        default_payment_method = excluded.default_payment_method,
        preferred_locales = excluded.preferred_locales,
        tax_exempt = excluded.tax_exempt,
        metadata = excluded.metadata,
        created = excluded.created,
        deleted = excluded.deleted,
        event = excluded.event,
        event_created = excluded.event_created,
        refetch = excluded.refetch
    WHERE decided
       OR (excluded.deleted, excluded.event_created)
        > (known.deleted, known.event_created);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_customer(jsonb, boolean, boolean) IS
'Writes what a customer.* event says of its customer';

CREATE OR REPLACE FUNCTION stripe_portal.write_product(event jsonb, decided boolean, unclear boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o CONSTANT jsonb := event #> '{data,object}';
BEGIN
    INSERT INTO stripe_portal.product AS known (
        id, livemode, account,
        name, description, active, default_price, metadata, created, deleted,
        event, event_created, refetch)
    VALUES (
        o ->> 'id',
        (event ->> 'livemode')::boolean,
        coalesce(event ->> 'account', ''),
        o ->> 'name',
        o ->> 'description',
        (o ->> 'active')::boolean,
        stripe_portal.read_id(o -> 'default_price'),
        nullif(o -> 'metadata', 'null'),
        stripe_portal.read_time(o -> 'created'),
        event ->> 'type' = 'product.deleted',
        event ->> 'id',
        stripe_portal.read_time(event -> 'created'),
        unclear)
    ON CONFLICT (id, livemode, account) DO UPDATE SET
        name = excluded.name,
        description = excluded.description,
        active = excluded.active,
        default_price = excluded.default_price,
        metadata = excluded.metadata,
        created = excluded.created,
        deleted = excluded.deleted,
        event = excluded.event,
        event_created = excluded.event_created,
        refetch = excluded.refetch
    WHERE decided
       OR (excluded.deleted, excluded.event_created)
        > (known.deleted, known.event_created);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_product(jsonb, boolean, boolean) IS
'Writes what a product.* event says of its product';

CREATE OR REPLACE FUNCTION stripe_portal.write_price(event jsonb, decided boolean, unclear boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o CONSTANT jsonb := event #> '{data,object}';
BEGIN
    INSERT INTO stripe_portal.price AS known (
        id, livemode, account,
        product, active, currency, type, billing_scheme, unit_amount, unit_amount_decimal,
        "interval", interval_count, usage_type, tiers_mode, transform_quantity, tax_behavior,
        lookup_key, nickname, metadata, created, deleted,
        event, event_created, refetch)
    VALUES (
        o ->> 'id',
        (event ->> 'livemode')::boolean,
        coalesce(event ->> 'account', ''),
        stripe_portal.read_id(o -> 'product'),
        (o ->> 'active')::boolean,
        o ->> 'currency',
        o ->> 'type',
        o ->> 'billing_scheme',
        (o ->> 'unit_amount')::bigint,
        coalesce(o ->> 'unit_amount_decimal', o ->> 'unit_amount')::numeric,
        o #>> '{recurring,interval}',
        (o #>> '{recurring,interval_count}')::integer,
        o #>> '{recurring,usage_type}',
        o ->> 'tiers_mode',
        nullif(o -> 'transform_quantity', 'null'),
        o ->> 'tax_behavior',
        o ->> 'lookup_key',
        o ->> 'nickname',
        nullif(o -> 'metadata', 'null'),
        stripe_portal.read_time(o -> 'created'),
        event ->> 'type' = 'price.deleted',
        event ->> 'id',
        stripe_portal.read_time(event -> 'created'),
        unclear)
    ON CONFLICT (id, livemode, account) DO UPDATE SET
        product = excluded.product,
        active = excluded.active,
        currency = excluded.currency,
        type = excluded.type,
        billing_scheme = excluded.billing_scheme,
        unit_amount = excluded.unit_amount,
        unit_amount_decimal = excluded.unit_amount_decimal,
        "interval" = excluded."interval",
        interval_count = excluded.interval_count,
        usage_type = excluded.usage_type,
        tiers_mode = excluded.tiers_mode,
        transform_quantity = excluded.transform_quantity,
        tax_behavior = excluded.tax_behavior,
        lookup_key = excluded.lookup_key,
        nickname = excluded.nickname,
        metadata = excluded.metadata,
        created = excluded.created,
        deleted = excluded.deleted,
        event = excluded.event,
        event_created = excluded.event_created,
        refetch = excluded.refetch
    WHERE decided
       OR (excluded.deleted, excluded.event_created)
        > (known.deleted, known.event_created);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_price(jsonb, boolean, boolean) IS
'Writes what a price.* event says of its price';

CREATE OR REPLACE FUNCTION stripe_portal.write_subscription(event jsonb, decided boolean, unclear boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o CONSTANT jsonb := event #> '{data,object}';
    items CONSTANT jsonb := stripe_portal.read_items(o);
BEGIN
    INSERT INTO stripe_portal.subscription AS known (
        id, livemode, account,
        customer, status, currency, collection_method, billing_mode, items,
        current_period_start, current_period_end, trial_start, trial_end, cancel_at,
        cancel_at_period_end, canceled_at, ended_at, cancellation_reason, cancellation_feedback,
        cancellation_feedback_option, cancellation_comment, pause_collection, discounts,
        default_payment_method, latest_invoice, schedule, metadata, start_date, created,
        event, event_created, refetch)
    VALUES (
        o ->> 'id',
        (event ->> 'livemode')::boolean,
        coalesce(event ->> 'account', ''),
        stripe_portal.read_id(o -> 'customer'),
        o ->> 'status',
        o ->> 'currency',
        o ->> 'collection_method',
        o #>> '{billing_mode,type}',
        items,
        -- what all items have in common, where their intervals differ
        (SELECT max(stripe_portal.read_time(item -> 'current_period_start')) FROM jsonb_array_elements(items) AS item),
        (SELECT min(stripe_portal.read_time(item -> 'current_period_end')) FROM jsonb_array_elements(items) AS item),
        stripe_portal.read_time(o -> 'trial_start'),
        stripe_portal.read_time(o -> 'trial_end'),
        stripe_portal.read_time(o -> 'cancel_at'),
        coalesce((o ->> 'cancel_at_period_end')::boolean, false),
        stripe_portal.read_time(o -> 'canceled_at'),
        stripe_portal.read_time(o -> 'ended_at'),
        o #>> '{cancellation_details,reason}',
        o #>> '{cancellation_details,feedback}',
        o #>> '{cancellation_details,feedback_option}',
        o #>> '{cancellation_details,comment}',
        nullif(o -> 'pause_collection', 'null'),
        coalesce(nullif(o -> 'discounts', 'null'), stripe_portal.read_list(o -> 'discount')),
        stripe_portal.read_id(o -> 'default_payment_method'),
        stripe_portal.read_id(o -> 'latest_invoice'),
        stripe_portal.read_id(o -> 'schedule'),
        nullif(o -> 'metadata', 'null'),
        stripe_portal.read_time(o -> 'start_date'),
        stripe_portal.read_time(o -> 'created'),
        event ->> 'id',
        stripe_portal.read_time(event -> 'created'),
        -- an event carries the first items only
        unclear OR coalesce((o #>> '{items,has_more}')::boolean, false))
    ON CONFLICT (id, livemode, account) DO UPDATE SET
        customer = excluded.customer,
        status = excluded.status,
        currency = excluded.currency,
        collection_method = excluded.collection_method,
        billing_mode = excluded.billing_mode,
        items = excluded.items,
        current_period_start = excluded.current_period_start,
        current_period_end = excluded.current_period_end,
        trial_start = excluded.trial_start,
        trial_end = excluded.trial_end,
        cancel_at = excluded.cancel_at,
        cancel_at_period_end = excluded.cancel_at_period_end,
        canceled_at = excluded.canceled_at,
        ended_at = excluded.ended_at,
        cancellation_reason = excluded.cancellation_reason,
        cancellation_feedback = excluded.cancellation_feedback,
        cancellation_feedback_option = excluded.cancellation_feedback_option,
        cancellation_comment = excluded.cancellation_comment,
        pause_collection = excluded.pause_collection,
        discounts = excluded.discounts,
        default_payment_method = excluded.default_payment_method,
        latest_invoice = excluded.latest_invoice,
        schedule = excluded.schedule,
        metadata = excluded.metadata,
        start_date = excluded.start_date,
        created = excluded.created,
        event = excluded.event,
        event_created = excluded.event_created,
        refetch = excluded.refetch
    WHERE decided
       OR (excluded.status IN ('canceled', 'incomplete_expired'), excluded.event_created)
        > (known.status IN ('canceled', 'incomplete_expired'), known.event_created);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_subscription(jsonb, boolean, boolean) IS
'Writes what a customer.subscription.* event says of its subscription; reads the shapes of all API versions: periods on the items or on the subscription, discounts as a list or a single one';

CREATE OR REPLACE FUNCTION stripe_portal.write_object(kind text, event jsonb, decided boolean, unclear boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE kind
        WHEN 'subscription' THEN RETURN stripe_portal.write_subscription(event, decided, unclear);
        WHEN 'customer' THEN RETURN stripe_portal.write_customer(event, decided, unclear);
        WHEN 'price' THEN RETURN stripe_portal.write_price(event, decided, unclear);
        WHEN 'product' THEN RETURN stripe_portal.write_product(event, decided, unclear);
    END CASE;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_object(text, jsonb, boolean, boolean) IS
'Calls the write function of the object kind';

-- ---------------------------------------------------------------------------
-- Reading the state
-- ---------------------------------------------------------------------------

CREATE OR REPLACE VIEW stripe_portal.subscription_item WITH (security_invoker = true) AS
SELECT item.id,
       subscription.livemode,
       subscription.account,
       subscription.id AS subscription,
       subscription.customer,
       item.price,
       item.product,
       item.quantity,
       -- no function of ours: who may read the view may not call those
       to_timestamp(item.current_period_start) AS current_period_start,
       to_timestamp(item.current_period_end) AS current_period_end
FROM stripe_portal.subscription,
     jsonb_to_recordset(subscription.items) AS item (
         id text, price text, product text, quantity bigint,
         current_period_start double precision, current_period_end double precision);

COMMENT ON TABLE stripe_portal.customer IS 'Stripe customers, as their latest event left them; deleted ones stay as tombstones';
COMMENT ON TABLE stripe_portal.product IS 'Stripe products, as their latest event left them; deleted ones stay as tombstones';
COMMENT ON TABLE stripe_portal.price IS 'Stripe prices, as their latest event left them; amounts in minor units, unit_amount_decimal also where unit_amount cannot say it';
COMMENT ON TABLE stripe_portal.subscription IS 'Stripe subscriptions with their items, as their latest event left them; canceled ones stay';
COMMENT ON VIEW stripe_portal.subscription_item IS 'The items of all subscriptions, one row each; quantity is NULL for metered prices';

COMMENT ON COLUMN stripe_portal.customer.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.customer.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.customer.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.customer.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.customer.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.product.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.product.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.product.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.product.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.product.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.price.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.price.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.price.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.price.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.price.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.subscription.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.subscription.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.subscription.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.subscription.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.subscription.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.subscription.status IS 'Stripe''s status, kept as it is sent, also when it is not known here';
COMMENT ON COLUMN stripe_portal.subscription.current_period_end IS 'The earliest end of an item''s period';
COMMENT ON COLUMN stripe_portal.subscription.cancel_at IS 'When a scheduled cancellation takes effect; set without cancel_at_period_end on flexible subscriptions, so look at both';
COMMENT ON COLUMN stripe_portal.subscription.canceled_at IS 'When the cancellation was asked for; the end is ended_at';
COMMENT ON COLUMN stripe_portal.subscription.cancellation_feedback IS 'cancellation_details.feedback: what the subscriber chose in the portal''s survey; arrives in a later event than the cancellation';
COMMENT ON COLUMN stripe_portal.subscription.cancellation_comment IS 'cancellation_details.comment: the subscriber''s own words';

