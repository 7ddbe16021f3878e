-- billing: from an event to the row that is true afterwards.
--
-- One write function per object kind, each a single upsert.  The order in
-- which events are delivered must not matter, so an event only replaces what
-- is older than itself:
--
--   1. a final state (deleted, canceled, incomplete_expired) is never left,
--   2. else the later event wins, by Stripe's own clock,
--   3. events of one second are put in order by what they say they changed
--      (last_event_of_second); where that is not decisive, one of them is
--      chosen the same way for every order of arrival, and refetch is set.

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
-- The order guard
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.event_is_final(event jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN event ->> 'type' LIKE '%.deleted'
    OR (event #>> '{data,object,object}' = 'subscription'
        AND event #>> '{data,object,status}' IN ('canceled', 'incomplete_expired'));

COMMENT ON FUNCTION stripe_portal.event_is_final(jsonb) IS
'Whether the event leaves its object in a state that Stripe never lets it leave';

CREATE OR REPLACE FUNCTION stripe_portal.shows(object jsonb, attributes jsonb)
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute record;
BEGIN
    IF attributes IS NULL OR attributes = '{}' THEN
        RETURN false;
    END IF;
    FOR attribute IN SELECT key, value FROM jsonb_each(attributes) LOOP
        IF jsonb_typeof(attribute.value) = 'object'
           AND jsonb_typeof(object -> attribute.key) = 'object' THEN
            -- nested hashes hold only the keys that changed
            IF attribute.value <> '{}'
               AND NOT stripe_portal.shows(object -> attribute.key, attribute.value) THEN
                RETURN false;
            END IF;
        ELSIF coalesce(object -> attribute.key, 'null') <> attribute.value THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$$;

COMMENT ON FUNCTION stripe_portal.shows(jsonb, jsonb) IS
'Whether the object has exactly these values; used with previous_attributes to find the event before another one';

CREATE OR REPLACE FUNCTION stripe_portal.event_follows(later jsonb, earlier jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (earlier ->> 'type' LIKE '%.created' AND later ->> 'type' NOT LIKE '%.created')
    OR (stripe_portal.shows(earlier #> '{data,object}', later #> '{data,previous_attributes}')
        AND later ->> 'type' NOT LIKE '%.created'
        AND NOT stripe_portal.shows(later #> '{data,object}', earlier #> '{data,previous_attributes}'));

COMMENT ON FUNCTION stripe_portal.event_follows(jsonb, jsonb) IS
'Whether, of two events of one second, the first starts from the state that the second left behind';

CREATE OR REPLACE FUNCTION stripe_portal.last_event_of_second(event jsonb, OUT last jsonb, OUT certain boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH second AS (
        -- what is known of this second: the ledger, and the event at hand
        SELECT event AS e
        UNION ALL
        SELECT known.payload::jsonb
        FROM stripe_portal.event AS known
        WHERE known.object_id = event #>> '{data,object,id}'
          AND known.created = stripe_portal.read_time(event -> 'created')
          AND known.livemode = (event ->> 'livemode')::boolean
          AND known.account = coalesce(event ->> 'account', '')
          AND known.id <> event ->> 'id'
          AND known.status IN ('applied', 'failed')
          AND known.payload #>> '{data,object,object}' = event #>> '{data,object,object}'
    ), candidate AS (
        SELECT e
        FROM second
        WHERE stripe_portal.event_is_final(e)
           OR NOT (SELECT bool_or(stripe_portal.event_is_final(any_of.e)) FROM second AS any_of)
    ), unfollowed AS (
        SELECT candidate.e
        FROM candidate
        WHERE NOT EXISTS (
            SELECT FROM candidate AS other
            WHERE other.e ->> 'id' <> candidate.e ->> 'id'
              AND stripe_portal.event_follows(other.e, candidate.e))
    )
    -- Several are left when they say the same, or when what they changed does
    -- not tell; none when they go round in a circle.
    SELECT coalesce((SELECT e FROM unfollowed ORDER BY e ->> 'id' DESC LIMIT 1),
                    (SELECT e FROM candidate ORDER BY e ->> 'id' DESC LIMIT 1)),
           (SELECT count(DISTINCT e #> '{data,object}') = 1 FROM unfollowed)
$$;

COMMENT ON FUNCTION stripe_portal.last_event_of_second(jsonb) IS
'Of all known events of this object and second, the one that happened last; certain is false where their content does not tell. Depends on the set of events only, never on their order of arrival';

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
        email, name, phone, address, currency, balance, delinquent, default_payment_method,
        preferred_locales, tax_exempt, metadata, created, deleted,
        event, event_created, refetch)
    VALUES (
        o ->> 'id',
        (event ->> 'livemode')::boolean,
        coalesce(event ->> 'account', ''),
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

-- ---------------------------------------------------------------------------
-- Applying an event
-- ---------------------------------------------------------------------------

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

CREATE OR REPLACE FUNCTION stripe_portal.apply_event(event jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := event #>> '{data,object,object}';
    tie boolean;
    verdict record;
BEGIN
    IF kind IS NULL OR kind NOT IN ('subscription', 'customer', 'price', 'product') THEN
        RETURN false;
    END IF;

    IF stripe_portal.write_object(kind, event, false, false) THEN
        RETURN true;
    END IF;

    -- The row was not older, and the attempt has locked it.  Nothing to do,
    -- unless another event of the same second wrote it.
    EXECUTE format('SELECT known.event <> $1 AND known.event_created = $2
                    FROM stripe_portal.%I AS known
                    WHERE known.id = $3 AND known.livemode = $4 AND known.account = $5', kind)
        INTO tie
        USING event ->> 'id', stripe_portal.read_time(event -> 'created'), event #>> '{data,object,id}',
              (event ->> 'livemode')::boolean, coalesce(event ->> 'account', '');

    IF tie THEN
        -- The arriving event can also be what shows that a third one, known
        -- but passed over before, was the last.
        verdict := stripe_portal.last_event_of_second(event);
        PERFORM stripe_portal.write_object(kind, verdict.last, true, NOT verdict.certain);
    END IF;
    RETURN true;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_event(jsonb) IS
'Makes the state tables show what the event says, unless they show something newer. False if the event is about an object that no table holds. Applying an event again changes nothing';

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
       stripe_portal.read_time(item.current_period_start) AS current_period_start,
       stripe_portal.read_time(item.current_period_end) AS current_period_end
FROM stripe_portal.subscription,
     jsonb_to_recordset(subscription.items) AS item (
         id text, price text, product text, quantity bigint,
         current_period_start jsonb, current_period_end jsonb);

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

