-- For regression tests: a story of events and reads, told in every order.
SET TIME ZONE 'UTC';
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

-- Stripe's clock, by day of 2026 and second.
CREATE FUNCTION clock(day integer, second integer DEFAULT 0) RETURNS integer
LANGUAGE sql IMMUTABLE RETURN extract(epoch FROM timestamptz '2026-01-01 00:00:00+00')::integer + 86400 * (day - 1) + second;
CREATE FUNCTION day(day integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE RETURN to_timestamp(clock(day));

-- A subscription to one price of 20.00 a month, created on day 1, but for …
CREATE FUNCTION sub(id text, more jsonb DEFAULT '{}', quantity integer DEFAULT 1, price jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('object', 'subscription', 'id', id, 'customer', 'cus_1', 'status', 'active', 'currency', 'usd',
        'created', clock(1), 'start_date', clock(1), 'cancel_at', NULL, 'canceled_at', NULL, 'cancel_at_period_end', false, 'ended_at', NULL,
        'cancellation_details', '{"reason": null, "feedback": null, "comment": null}'::jsonb, 'discounts', '[]'::jsonb,
        'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_' || id, 'quantity', quantity,
            'price', '{"id": "price_a", "object": "price", "product": "prod_a", "currency": "usd", "type": "recurring", "billing_scheme": "per_unit",
                       "unit_amount": 2000, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}'::jsonb || price)))) || more $$;
CREATE FUNCTION event(id text, type text, at integer, object jsonb, previous jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'object', 'event', 'type', 'customer.subscription.' || type, 'created', at, 'livemode', false,
        'data', jsonb_build_object('object', object) || CASE WHEN previous IS NULL THEN '{}' ELSE jsonb_build_object('previous_attributes', previous) END) $$;
CREATE FUNCTION deliver(payload jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT outcome || coalesce(': ' || error, '')
    FROM stripe_receive_webhook(payload::text, stripe_sign_webhook(payload::text, 'whsec_test_secret')) $$;

-- What happened, step by step: an event, or an object read from the API.
CREATE TABLE story (step integer, event jsonb, object jsonb, read_at integer);
CREATE FUNCTION tell(s story, account text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    outcome text := CASE WHEN s.event IS NOT NULL THEN deliver(s.event || jsonb_build_object('account', account))
                    ELSE stripe_portal.apply_object(s.object, false, account, to_timestamp(s.read_at))::text END;
BEGIN
    IF outcome NOT IN ('applied', 'duplicate', 'true') THEN
        RAISE '%', outcome;
    END IF;
END $$;

-- Tells the story in every order (in thirty of them, if the story is long), each
-- step twice, each order to an account of its own, and shows how many orders
-- there were and how many different ends.
CREATE FUNCTION ends(OUT orders bigint, OUT different bigint) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE stripe_portal.subscription, stripe_portal.event, stripe_portal.price, stripe_portal.discount, stripe_portal.coupon,
        stripe_portal.customer, stripe_portal.customer_country, stripe_portal.subscription_change,
        stripe_portal.subscriber_change, stripe_portal.cancellation;
    CREATE TEMP TABLE permutation ON COMMIT DROP AS
    WITH RECURSIVE p AS (
        SELECT '{}'::integer[] AS steps
        UNION ALL SELECT p.steps || s.step FROM p, story AS s WHERE NOT s.step = ANY (p.steps))
    SELECT steps, 'acct_' || row_number() OVER (ORDER BY steps) AS account
    FROM p WHERE cardinality(steps) = (SELECT count(*) FROM story);
    DELETE FROM permutation
    WHERE (replace(account, 'acct_', '')::integer - 1) % greatest((SELECT count(*) FROM permutation) / 30, 1) <> 0;
    PERFORM tell(s, account), tell(s, account)
    FROM permutation AS p, unnest(p.steps) WITH ORDINALITY AS o (step, n) JOIN story AS s USING (step)
    ORDER BY account, n;
    SELECT count(*), count(DISTINCT rows) INTO orders, different
    FROM (SELECT string_agg((row - 'account')::text, E'\n' ORDER BY row) AS rows
          FROM permutation
          LEFT JOIN (SELECT account, to_jsonb(c) AS row FROM stripe_portal.subscription_change AS c
                     UNION ALL SELECT account, to_jsonb(c) FROM stripe_portal.subscriber_change AS c
                     UNION ALL SELECT account, to_jsonb(c) FROM stripe_portal.cancellation AS c) AS c USING (account)
          GROUP BY account) AS ends;
END $$;
