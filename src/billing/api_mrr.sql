-- billing: monthly recurring revenue, by Stripe's definition.
--
-- terms: what a price asks for, as jsonb under the names of the columns of
-- table price.  item: {"id", "price", "product", "quantity", "terms"}.
-- discount: {"id", "item", "coupon", "duration", "percent_off", "amount_off",
-- "currency", "currency_options", "products", "end"}, where item is set on the
-- discount of one item, and end is a unix time.
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

CREATE OR REPLACE FUNCTION stripe_portal.amount_off(discount jsonb, currency text)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (CASE WHEN discount ->> 'currency' = currency THEN discount ->> 'amount_off'
             ELSE discount #>> ARRAY['currency_options', currency, 'amount_off'] END)::numeric;

COMMENT ON FUNCTION stripe_portal.amount_off(jsonb, text) IS
'The amount that a discount takes off in a currency; NULL if it takes none';

CREATE OR REPLACE FUNCTION stripe_portal.discount_counts(discount jsonb, currency text, at timestamptz)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN discount ->> 'duration' = 'once' THEN false
    WHEN (discount ->> 'end')::double precision <= extract(epoch FROM at) THEN false
    WHEN discount ->> 'duration' IS NULL THEN NULL
    WHEN discount ->> 'percent_off' IS NOT NULL THEN true
    WHEN discount ->> 'amount_off' IS NULL THEN NULL
    ELSE stripe_portal.amount_off(discount, currency) IS NOT NULL
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
    -- by number: a query for each list would cost more than the arithmetic
    FOR i IN 0 .. jsonb_array_length(items) - 1 LOOP
        item := items -> i;
        -- usage and one-time items do not recur
        CONTINUE WHEN item #>> '{terms,usage_type}' = 'metered' OR item #>> '{terms,type}' = 'one_time';
        IF item #>> '{terms,currency}' <> currency THEN
            RETURN NULL;
        END IF;
        amount := stripe_portal.item_amount(item -> 'terms', (item ->> 'quantity')::numeric);
        product := coalesce(item ->> 'product', item #>> '{terms,product}');

        FOR d IN 0 .. jsonb_array_length(discounts) - 1 LOOP
            discount := discounts -> d;
            CONTINUE WHEN (discount ->> 'item' = item ->> 'id') IS NOT true
                       OR NOT stripe_portal.discount_counts(discount, currency, at)
                       OR NOT coalesce(discount -> 'products' ? product, true);
            -- an unknown discount makes this NULL
            amount := CASE WHEN stripe_portal.discount_counts(discount, currency, at) THEN
                CASE WHEN discount ->> 'percent_off' IS NOT NULL
                     THEN amount * (100 - (discount ->> 'percent_off')::numeric) / 100
                     ELSE amount - least(amount, stripe_portal.amount_off(discount, currency)) END END;
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

    FOR d IN 0 .. jsonb_array_length(discounts) - 1 LOOP
        discount := discounts -> d;
        CONTINUE WHEN discount ->> 'item' IS NOT NULL OR NOT stripe_portal.discount_counts(discount, currency, at);
        eligible := ARRAY(SELECT n FROM generate_subscripts(rest, 1) AS n
                          WHERE coalesce(discount -> 'products' ? products[n], true));
        IF cardinality(eligible) = 0 THEN
            CONTINUE;
        ELSIF stripe_portal.discount_counts(discount, currency, at) IS NULL THEN
            RETURN NULL;
        END IF;

        -- A percentage comes off each item, an amount off each invoice: off
        -- all items together, as often as the most frequent one is invoiced.
        SELECT sum(rest[n]), max(often[n]) * stripe_portal.amount_off(discount, currency) INTO total, off
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
    -- One price that is no amount of money would keep the events of all who
    -- have it from being applied.
    IF total NOT BETWEEN -1e15 AND 1e15 THEN
        RETURN NULL;
    END IF;
    -- A third of a cent, three times, is a cent: take off what division left
    -- before it decides a half.
    RETURN round(round(total, 9));
END
$$;

COMMENT ON FUNCTION stripe_portal.monthly_total(text, jsonb, jsonb, timestamptz) IS
'What the items come to in a month, less the discounts that count at that time, in minor units of the currency, rounded once at the end, halves away from zero. Items by usage and one-time items count nothing. An item''s discounts come first, then the subscription''s, each on what the one before it left, never below 0; one restricted to products takes its share of those; an amount off the subscription is per invoice, those of the most frequent interval. NULL if the terms of a price or a discount are missing, a price is in another currency, or what comes out is no amount of money, such as NaN';

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
-- The MRR of a subscription
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.price_terms(price stripe_portal.price)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'product', price.product, 'currency', price.currency, 'type', price.type,
        'billing_scheme', price.billing_scheme, 'unit_amount_decimal', price.unit_amount_decimal,
        'tiers_mode', price.tiers_mode, 'tiers', price.tiers, 'transform_quantity', price.transform_quantity,
        'interval', price."interval", 'interval_count', price.interval_count, 'usage_type', price.usage_type));
END
$$;

COMMENT ON FUNCTION stripe_portal.price_terms(stripe_portal.price) IS
'The terms of a price, as item_amount takes them';

CREATE OR REPLACE FUNCTION stripe_portal.discount_terms(discount stripe_portal.discount, coupon stripe_portal.coupon)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'coupon', discount.coupon, 'duration', coupon.duration, 'percent_off', coupon.percent_off,
        'amount_off', coupon.amount_off, 'currency', coupon.currency, 'currency_options', coupon.currency_options,
        'products', coupon.applies_to,
        -- one that was taken away ended then
        'end', extract(epoch FROM least(discount."end", CASE WHEN discount.deleted THEN nullif(discount.event_created, '-infinity') END))));
END
$$;

COMMENT ON FUNCTION stripe_portal.discount_terms(stripe_portal.discount, stripe_portal.coupon) IS
'The terms of a discount and its coupon, as monthly_total takes them';

CREATE OR REPLACE FUNCTION stripe_portal.complete_items(items jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    completed jsonb := items;
    price stripe_portal.price;
BEGIN
    FOR i IN 0 .. jsonb_array_length(items) - 1 LOOP
        SELECT * INTO price FROM stripe_portal.price AS p
        WHERE (p.id, p.livemode, p.account) = (items -> i ->> 'price', complete_items.livemode, complete_items.account);
        completed := jsonb_set(completed, ARRAY[i::text, 'terms'], stripe_portal.price_terms(price));
    END LOOP;
    RETURN completed;
END
$$;

COMMENT ON FUNCTION stripe_portal.complete_items(jsonb, boolean, text) IS
'The items with the terms of their prices, as far as table price knows them';

CREATE OR REPLACE FUNCTION stripe_portal.complete_discounts(discounts jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF discounts = '[]' THEN
        RETURN discounts;
    END IF;
    RETURN (
        SELECT jsonb_agg(named || stripe_portal.discount_terms(d, c) ORDER BY n)
        FROM jsonb_array_elements(discounts) WITH ORDINALITY AS i (named, n)
        LEFT JOIN stripe_portal.discount AS d
            ON (d.id, d.livemode, d.account) = (named ->> 'id', complete_discounts.livemode, complete_discounts.account)
        LEFT JOIN stripe_portal.coupon AS c
            ON (c.id, c.livemode, c.account) = (d.coupon, d.livemode, d.account));
END
$$;

COMMENT ON FUNCTION stripe_portal.complete_discounts(jsonb, boolean, text) IS
'The discounts with their terms and those of their coupons, as far as the tables know them';

CREATE OR REPLACE FUNCTION stripe_portal.mrr(c stripe_portal.subscription_change)
RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN stripe_portal.earning(c.status, c.pause_collection) = 'earning'
                THEN stripe_portal.monthly_total(c.currency,
                         stripe_portal.complete_items(c.items, c.livemode, c.account),
                         stripe_portal.complete_discounts(c.discounts, c.livemode, c.account), c.at)
                ELSE 0 END;
END
$$;

COMMENT ON FUNCTION stripe_portal.mrr(stripe_portal.subscription_change) IS
'The MRR of a subscription as its history shows it, in minor units of its currency; 0 if it does not count, NULL if its prices or discounts are not known';

CREATE OR REPLACE FUNCTION stripe_portal.mrr(s stripe_portal.subscription, at timestamptz)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT stripe_portal.mrr(jsonb_populate_record(stripe_portal.read_change(s, NULL), jsonb_build_object('at', mrr.at)))
$$;

COMMENT ON FUNCTION stripe_portal.mrr(stripe_portal.subscription, timestamptz) IS
'The MRR of a subscription as it is, with the discounts that count at that time: SELECT stripe_portal.mrr(s, now()) FROM stripe_portal.subscription AS s';

CREATE OR REPLACE FUNCTION stripe_portal.next_discount_end(c stripe_portal.subscription_change)
RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT min(stripe_portal.read_time(discount -> 'end'))
        FROM jsonb_array_elements(stripe_portal.complete_discounts(c.discounts, c.livemode, c.account)) AS discount
        WHERE stripe_portal.discount_counts(discount, c.currency, c.at));
END
$$;

COMMENT ON FUNCTION stripe_portal.next_discount_end(stripe_portal.subscription_change) IS
'When the first of the discounts that count in this row ends, and changes the MRR without an event; NULL if none does';
