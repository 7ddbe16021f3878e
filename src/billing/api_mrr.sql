-- billing: monthly recurring revenue, by Stripe's definition.
--
-- terms: what a price asks for, as jsonb under the names of the columns of
-- table price.  item: {"id", "price", "product", "quantity", "terms"}.
-- discount: {"id", "item", "coupon", "duration", "percent_off", "amount_off",
-- "currency", "products", "end"}, where item is set on the discount of one
-- item, and end is a unix time.  Both are read here from what Stripe sends,
-- and completed from the tables where Stripe sends no more than an id.
--
-- Money is numeric in minor units, with whatever fraction it has, and is
-- rounded once, at the very end.  What can not be known is NULL, never 0.

-- ---------------------------------------------------------------------------
-- The arithmetic
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.item_amount(terms jsonb, quantity numeric)
RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    units numeric := coalesce(quantity, 1);
    amount numeric := 0;
    tier jsonb;
    reached numeric := 0;
    inside numeric;
BEGIN
    IF coalesce(terms ->> 'billing_scheme', 'per_unit') = 'per_unit' THEN
        units := units / coalesce((terms #>> '{transform_quantity,divide_by}')::numeric, 1);
        units := CASE terms #>> '{transform_quantity,round}'
                     WHEN 'up' THEN ceil(units) WHEN 'down' THEN floor(units) ELSE units END;
        RETURN units * coalesce(terms ->> 'unit_amount_decimal', terms ->> 'unit_amount')::numeric;
    END IF;

    -- Without its tiers, or with a scheme nobody has heard of, a price says
    -- nothing.
    IF coalesce(jsonb_typeof(terms -> 'tiers'), '') <> 'array' OR jsonb_array_length(terms -> 'tiers') = 0
       OR coalesce(terms ->> 'tiers_mode', '') NOT IN ('graduated', 'volume') THEN
        RETURN NULL;
    END IF;

    FOR tier IN
        SELECT value FROM jsonb_array_elements(terms -> 'tiers')
        ORDER BY (value ->> 'up_to')::numeric NULLS LAST
    LOOP
        IF terms ->> 'tiers_mode' = 'volume' THEN
            CONTINUE WHEN units > (tier ->> 'up_to')::numeric;
            inside := units;
        ELSE
            EXIT WHEN units <= reached;
            inside := least(units, (tier ->> 'up_to')::numeric) - reached;
            reached := (tier ->> 'up_to')::numeric;
        END IF;
        amount := amount
            + inside * coalesce(tier ->> 'unit_amount_decimal', tier ->> 'unit_amount', '0')::numeric
            + coalesce(tier ->> 'flat_amount_decimal', tier ->> 'flat_amount', '0')::numeric;
        EXIT WHEN terms ->> 'tiers_mode' = 'volume' OR reached IS NULL;
    END LOOP;
    RETURN amount;
END
$$;

COMMENT ON FUNCTION stripe_portal.item_amount(jsonb, numeric) IS
'What a price asks for a quantity (1 if NULL), once per its interval, in minor units and not rounded: per unit with transform_quantity, or by graduated or volume tiers. terms: under the names of the columns of table price. NULL if the terms do not tell, such as a tiered price without its tiers';

CREATE OR REPLACE FUNCTION stripe_portal.monthly_amount(amount numeric, "interval" text, interval_count integer)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN amount * CASE "interval" WHEN 'month' THEN 12 WHEN 'year' THEN 1 WHEN 'week' THEN 365 WHEN 'day' THEN 365 END
              / CASE "interval" WHEN 'week' THEN 84 ELSE 12 END
              / coalesce(interval_count, 1);

COMMENT ON FUNCTION stripe_portal.monthly_amount(numeric, text, integer) IS
'What an amount that is due every so many days, weeks, months or years comes to in a month: a twelfth of a year of 365 days. NULL for an interval that Stripe does not have';

CREATE OR REPLACE FUNCTION stripe_portal.discount_counts(discount jsonb, currency text, at timestamptz)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN discount ->> 'duration' = 'once' THEN false
    WHEN (discount ->> 'end')::double precision <= extract(epoch FROM at) THEN false
    WHEN discount ->> 'duration' IS NULL THEN NULL
    WHEN discount ->> 'percent_off' IS NOT NULL THEN true
    WHEN discount ->> 'amount_off' IS NULL THEN NULL
    ELSE coalesce(discount ->> 'currency' = currency, true)
END;

COMMENT ON FUNCTION stripe_portal.discount_counts(jsonb, text, timestamptz) IS
'Whether a discount lowers the MRR at that time: one that lasts for ever or has not ended yet does, one for a single invoice and one of an amount in another currency do not; NULL if its coupon is not known';

CREATE OR REPLACE FUNCTION stripe_portal.monthly_total(
    currency text, items jsonb, discounts jsonb, at timestamptz)
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item jsonb;
    discount jsonb;
    amount numeric;
    product text;
    products text[] := '{}';
    rest numeric[] := '{}';     -- what is left of each item, per month
    often numeric[] := '{}';    -- how often a month each is invoiced
    eligible integer[];
    total numeric;
    off numeric;
BEGIN
    FOR item IN SELECT value FROM jsonb_array_elements(items) LOOP
        -- usage and one-time items do not recur
        CONTINUE WHEN item #>> '{terms,usage_type}' = 'metered' OR item #>> '{terms,type}' = 'one_time';
        IF item #>> '{terms,currency}' <> currency THEN
            RETURN NULL;
        END IF;
        amount := stripe_portal.item_amount(item -> 'terms', (item ->> 'quantity')::numeric);
        product := coalesce(item ->> 'product', item #>> '{terms,product}');

        FOR discount IN
            SELECT value FROM jsonb_array_elements(discounts) WHERE value ->> 'item' = item ->> 'id'
        LOOP
            CONTINUE WHEN NOT stripe_portal.discount_counts(discount, currency, at)
                       OR NOT coalesce(discount -> 'products' ? product, true);
            -- an unknown discount makes this NULL
            amount := CASE WHEN stripe_portal.discount_counts(discount, currency, at) THEN
                CASE WHEN discount ->> 'percent_off' IS NOT NULL
                     THEN amount * (100 - (discount ->> 'percent_off')::numeric) / 100
                     ELSE amount - least(amount, (discount ->> 'amount_off')::numeric) END END;
        END LOOP;

        amount := stripe_portal.monthly_amount(
            amount, item #>> '{terms,interval}', (item #>> '{terms,interval_count}')::integer);
        IF amount IS NULL THEN
            RETURN NULL;
        END IF;
        products := products || product;
        rest := rest || amount;
        often := often || stripe_portal.monthly_amount(
            1, item #>> '{terms,interval}', (item #>> '{terms,interval_count}')::integer);
    END LOOP;

    FOR discount IN
        SELECT value FROM jsonb_array_elements(discounts) WHERE value ->> 'item' IS NULL
    LOOP
        CONTINUE WHEN NOT stripe_portal.discount_counts(discount, currency, at);
        eligible := ARRAY(SELECT n FROM generate_subscripts(rest, 1) AS n
                          WHERE coalesce(discount -> 'products' ? products[n], true));
        IF cardinality(eligible) = 0 THEN
            CONTINUE;
        ELSIF stripe_portal.discount_counts(discount, currency, at) IS NULL THEN
            RETURN NULL;
        END IF;

        -- A percentage comes off each item, an amount off each invoice: off
        -- all items together, as often as the most frequent one is invoiced.
        SELECT sum(rest[n]), max(often[n]) * (discount ->> 'amount_off')::numeric INTO total, off
        FROM unnest(eligible) AS n;
        IF discount ->> 'percent_off' IS NOT NULL THEN
            off := total * (discount ->> 'percent_off')::numeric / 100;
        END IF;
        CONTINUE WHEN total = 0;
        rest := ARRAY(SELECT CASE WHEN n = ANY (eligible) THEN rest[n] - rest[n] * least(off, total) / total
                                  ELSE rest[n] END
                      FROM generate_subscripts(rest, 1) AS n ORDER BY n);
    END LOOP;

    SELECT coalesce(sum(r), 0) INTO total FROM unnest(rest) AS r;
    -- A third of a cent, three times, is a cent: take off what division left
    -- before it decides a half.
    RETURN round(round(total, 9));
END
$$;

COMMENT ON FUNCTION stripe_portal.monthly_total(text, jsonb, jsonb, timestamptz) IS
'What the items come to in a month, less the discounts that count at that time, in minor units of the currency, rounded once at the end, halves away from zero. Items by usage and one-time items count nothing. An item''s discounts come first, then the subscription''s, each on what the one before it left, never below 0; one restricted to products takes its share of those; an amount off the subscription is per invoice, those of the most frequent interval. NULL if the terms of a price or a discount are missing, or a price is in another currency';

CREATE OR REPLACE FUNCTION stripe_portal.earning(status text, pause_collection jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN status = 'paused' OR (status IN ('active', 'past_due') AND pause_collection IS NOT NULL) THEN 'paused'
    WHEN status IN ('active', 'past_due') THEN 'earning'
    ELSE 'none'
END;

COMMENT ON FUNCTION stripe_portal.earning(text, jsonb) IS
'Whether a subscription counts for the MRR. earning: active or past_due; paused: by its status, or by pause_collection, while no money is asked for, whatever becomes of the invoices; none: everything else, also a trial, unpaid and a status that is not known. Not the rule of stripe_portal.access_rule: a trial may use what it does not pay for yet, and who is past_due is counted until given up';

-- ---------------------------------------------------------------------------
-- Reading terms and discounts from what Stripe sends
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.read_terms(price jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(price) = 'object' THEN jsonb_strip_nulls(jsonb_build_object(
    'currency', price ->> 'currency',
    'type', price ->> 'type',
    'product', stripe_portal.read_id(price -> 'product'),
    'billing_scheme', price ->> 'billing_scheme',
    -- a plan is a price under older names
    'unit_amount_decimal', coalesce(price ->> 'unit_amount_decimal', price ->> 'unit_amount',
                                    price ->> 'amount_decimal', price ->> 'amount')::numeric,
    'interval', coalesce(price #>> '{recurring,interval}', price ->> 'interval'),
    'interval_count', coalesce(price #>> '{recurring,interval_count}', price ->> 'interval_count')::integer,
    'usage_type', coalesce(price #>> '{recurring,usage_type}', price ->> 'usage_type'),
    'tiers_mode', price ->> 'tiers_mode',
    'tiers', price -> 'tiers',
    'transform_quantity', coalesce(nullif(price -> 'transform_quantity', 'null'), price -> 'transform_usage')))
END;

COMMENT ON FUNCTION stripe_portal.read_terms(jsonb) IS
'What a price, or a plan, as Stripe gives it asks for, under the names of the columns of table price; NULL for an id alone';

CREATE OR REPLACE FUNCTION stripe_portal.read_discount(discount jsonb, item text DEFAULT NULL)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'id', stripe_portal.read_id(discount),
        'item', item,
        'coupon', stripe_portal.read_id(coupon),
        'duration', coupon ->> 'duration',
        'percent_off', (coupon ->> 'percent_off')::numeric,
        'amount_off', (coupon ->> 'amount_off')::numeric,
        'currency', coupon ->> 'currency',
        'products', coupon #> '{applies_to,products}',
        'end', discount -> 'end'))
    FROM (SELECT coalesce(discount #> '{source,coupon}', discount -> 'coupon')) AS its (coupon);
END;

COMMENT ON FUNCTION stripe_portal.read_discount(jsonb, text) IS
'A discount as Stripe gives it, an id or an object, as monthly_total takes it; item: the item it is on, NULL for the whole subscription';
