-- Monthly recurring revenue, case by case, each worked out by hand.
SET TIME ZONE 'UTC';

CREATE TABLE worked (
    n integer GENERATED ALWAYS AS IDENTITY, name text, currency text,
    items jsonb, discounts jsonb, expected bigint, by_hand text);

-- The price of an item: {"terms": …} with the amount per unit and the interval.
CREATE FUNCTION per(amount numeric, "interval" text DEFAULT 'month', count integer DEFAULT 1, more jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('unit_amount_decimal', amount, 'interval', "interval", 'interval_count', count) || more;
CREATE FUNCTION item(terms jsonb, quantity numeric DEFAULT 1, product text DEFAULT 'prod_a', id text DEFAULT 'si_a')
RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('id', id, 'product', product, 'quantity', quantity, 'terms', terms);
CREATE FUNCTION off(percent numeric, more jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql RETURN '{"duration": "forever"}' || jsonb_build_object('percent_off', percent) || more;
CREATE FUNCTION amount_off(amount numeric, more jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql RETURN '{"duration": "forever", "currency": "usd"}' || jsonb_build_object('amount_off', amount) || more;
CREATE FUNCTION until(day date) RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('duration', 'repeating', 'end', extract(epoch FROM day::timestamp));
CREATE FUNCTION all_of(VARIADIC jsonb[]) RETURNS jsonb LANGUAGE sql RETURN to_jsonb($1);

-- 20.00 for each of the first 10, then 15.00; and 5.00 for the first 10, 2.50 up to 50, then 1.00 and 30.00 at once
\set graduated '{"billing_scheme": "tiered", "tiers_mode": "graduated", "interval": "month", "tiers": [{"up_to": 10, "unit_amount": 2000}, {"up_to": null, "unit_amount": 1500}]}'
\set volume '{"billing_scheme": "tiered", "tiers_mode": "volume", "interval": "month", "tiers": [{"up_to": 10, "unit_amount": 500}, {"up_to": 50, "unit_amount": 250}, {"up_to": null, "unit_amount": 100, "flat_amount": 3000}]}'

INSERT INTO worked (name, currency, items, discounts, expected, by_hand) VALUES
    -- intervals, counts and quantities
    ('monthly', 'usd', all_of(item(per(2000))), '[]', 2000, '2000'),
    ('a quantity', 'usd', all_of(item(per(2000), 7)), '[]', 14000, '2000 x 7'),
    ('no quantity is one', 'usd', all_of(item(per(2000), NULL)), '[]', 2000, '2000 x 1'),
    ('a quantity of none', 'usd', all_of(item(per(2000), 0)), '[]', 0, '2000 x 0'),
    ('yearly', 'usd', all_of(item(per(12000, 'year'))), '[]', 1000, '12000 / 12'),
    ('yearly, divided evenly', 'usd', all_of(item(per(9900, 'year'))), '[]', 825, '9900 / 12 = 825'),
    ('yearly, rounded down', 'usd', all_of(item(per(9999, 'year'))), '[]', 833, '9999 / 12 = 833.25'),
    ('a half is rounded up', 'usd', all_of(item(per(6, 'year'))), '[]', 1, '6 / 12 = 0.5'),
    ('less than a half is nothing', 'usd', all_of(item(per(5, 'year'))), '[]', 0, '5 / 12 = 0.42'),
    ('quarterly', 'usd', all_of(item(per(3000, 'month', 3))), '[]', 1000, '3000 / 3'),
    ('every second year', 'usd', all_of(item(per(48000, 'year', 2))), '[]', 2000, '48000 / 12 / 2'),
    ('weekly', 'usd', all_of(item(per(1000, 'week'))), '[]', 4345, '1000 x 365 / 7 / 12 = 4345.24'),
    ('every second week', 'usd', all_of(item(per(1000, 'week', 2))), '[]', 2173, '1000 x 365 / 7 / 12 / 2 = 2172.62'),
    ('daily', 'usd', all_of(item(per(100, 'day'))), '[]', 3042, '100 x 365 / 12 = 3041.67'),
    ('every 30 days', 'usd', all_of(item(per(3000, 'day', 30))), '[]', 3042, '3000 x 365 / 12 / 30 = 3041.67'),
    ('an interval nobody knows', 'usd', all_of(item(per(3000, 'fortnight'))), '[]', NULL, 'not known'),
    -- several items
    ('two items', 'usd', all_of(item(per(2000)), item(per(500), 3, 'prod_b', 'si_b')), '[]', 3500, '2000 + 500 x 3'),
    ('a month and a year', 'usd', all_of(item(per(2000)), item(per(12000, 'year'), 1, 'prod_b', 'si_b')), '[]', 3000, '2000 + 12000 / 12'),
    ('rounded once, not each', 'usd', all_of(item(per(100, 'year')), item(per(100, 'year'), 1, 'b', 'si_b'), item(per(100, 'year'), 1, 'c', 'si_c')), '[]', 25, '3 x 100 / 12 = 25, not 3 x 8'),
    ('usage counts nothing', 'usd', all_of(item(per(2000)), item(per(5, 'month', 1, '{"usage_type": "metered"}'), NULL, 'prod_b', 'si_b')), '[]', 2000, '2000 + 0'),
    ('a one-time item counts nothing', 'usd', all_of(item(per(2000)), item('{"type": "one_time", "unit_amount": 9900}', 1, 'prod_b', 'si_b')), '[]', 2000, '2000 + 0'),
    ('a free plan', 'usd', all_of(item(per(0))), '[]', 0, '0'),
    ('no items', 'usd', '[]', '[]', 0, 'nothing'),
    -- decimals and packages
    ('a fraction of a cent', 'usd', all_of(item(per(0.5), 1001)), '[]', 501, '0.5 x 1001 = 500.5'),
    ('twelve decimals', 'usd', all_of(item(per(0.123456789012), 1000000)), '[]', 123457, '123456.79'),
    ('packages of 10, rounded up', 'usd', all_of(item(per(1000, 'month', 1, '{"transform_quantity": {"divide_by": 10, "round": "up"}}'), 21)), '[]', 3000, '21 / 10 is 3 x 1000'),
    ('packages of 10, rounded down', 'usd', all_of(item(per(1000, 'month', 1, '{"transform_quantity": {"divide_by": 10, "round": "down"}}'), 29)), '[]', 2000, '29 / 10 is 2 x 1000'),
    -- tiers
    ('graduated, inside the first tier', 'usd', all_of(item(:'graduated', 4)), '[]', 8000, '4 x 2000'),
    ('graduated, the first tier full', 'usd', all_of(item(:'graduated', 10)), '[]', 20000, '10 x 2000'),
    ('graduated, over two tiers', 'usd', all_of(item(:'graduated', 12)), '[]', 23000, '10 x 2000 + 2 x 1500'),
    ('graduated, with flat fees', 'usd', all_of(item('{"billing_scheme": "tiered", "tiers_mode": "graduated", "interval": "month", "tiers": [{"up_to": 5, "unit_amount": 0, "flat_amount": 1000}, {"up_to": 20, "unit_amount": 100, "flat_amount": 700}, {"up_to": null, "unit_amount": 50}]}', 8)), '[]', 2000, '1000 + 700 + 3 x 100'),
    ('graduated, no units', 'usd', all_of(item(:'graduated', 0)), '[]', 0, 'no tier is reached'),
    ('volume, the first tier', 'usd', all_of(item(:'volume', 10)), '[]', 5000, '10 x 500'),
    ('volume, the second for all', 'usd', all_of(item(:'volume', 11)), '[]', 2750, '11 x 250'),
    ('volume, the last, with a flat fee', 'usd', all_of(item(:'volume', 60)), '[]', 9000, '60 x 100 + 3000'),
    ('tiers by year', 'usd', all_of(item(:'volume'::jsonb || '{"interval": "year"}', 11)), '[]', 229, '11 x 250 / 12 = 229.17'),
    ('tiers with decimals', 'usd', all_of(item('{"billing_scheme": "tiered", "tiers_mode": "volume", "interval": "month", "tiers": [{"up_to": null, "unit_amount": null, "unit_amount_decimal": "0.25", "flat_amount_decimal": "1.5"}]}', 3)), '[]', 2, '3 x 0.25 + 1.5 = 2.25'),
    ('tiers that are not known', 'usd', all_of(item('{"billing_scheme": "tiered", "tiers_mode": "volume", "interval": "month"}', 3)), '[]', NULL, 'not known'),
    ('a price that is not known', 'usd', '[{"id": "si_a", "price": "price_x", "quantity": 1}]', '[]', NULL, 'not known'),
    ('one of two prices is not known', 'usd', all_of(item(per(2000)), '{"id": "si_b"}'), '[]', NULL, 'not known'),
    -- discounts
    ('a percentage for ever', 'usd', all_of(item(per(2000))), all_of(off(10)), 1800, '2000 x 0.9'),
    ('yearly, three, less a tenth', 'usd', all_of(item(per(120000, 'year'), 3)), all_of(off(10)), 27000, '120000 x 3 x 0.9 / 12'),
    ('a percentage with a fraction', 'usd', all_of(item(per(2000))), all_of(off(12.5)), 1750, '2000 x 0.875'),
    ('everything off', 'usd', all_of(item(per(2000))), all_of(off(100)), 0, '2000 x 0'),
    ('two percentages, one after the other', 'usd', all_of(item(per(2000))), all_of(off(50), off(50)), 500, '2000 x 0.5 x 0.5'),
    ('an amount off', 'usd', all_of(item(per(2000), 3)), all_of(amount_off(500)), 5500, '2000 x 3 - 500'),
    ('an amount off a yearly invoice', 'usd', all_of(item(per(12000, 'year'))), all_of(amount_off(1200)), 900, '(12000 - 1200) / 12'),
    ('an amount off, once for all items', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(amount_off(500)), 2500, '3000 - 500'),
    ('an amount off every invoice', 'usd', all_of(item(per(2000)), item(per(12000, 'year'), 1, 'prod_b', 'si_b')), all_of(amount_off(500)), 2500, '2000 + 1000 - 500 a month'),
    ('more off than there is', 'usd', all_of(item(per(2000))), all_of(amount_off(5000)), 0, 'never below 0'),
    ('nothing left for the next discount', 'usd', all_of(item(per(2000))), all_of(amount_off(5000), off(10)), 0, '0'),
    ('a percentage, then an amount', 'usd', all_of(item(per(2000))), all_of(off(10), amount_off(500)), 1300, '2000 x 0.9 - 500'),
    ('an amount, then a percentage', 'usd', all_of(item(per(2000))), all_of(amount_off(500), off(10)), 1350, '(2000 - 500) x 0.9'),
    ('an amount in another currency', 'eur', all_of(item(per(2000))), all_of(amount_off(500)), 2000, 'not applied'),
    ('an amount in several currencies', 'eur', all_of(item(per(2000))), all_of(amount_off(500, '{"currency_options": {"eur": {"amount_off": 450}}}')), 1550, '2000 - 450'),
    ('for a few months, still running', 'usd', all_of(item(per(2000))), all_of(off(10, until('2026-06-02'))), 1800, '2000 x 0.9'),
    ('for a few months, over', 'usd', all_of(item(per(2000))), all_of(off(10, until('2026-06-01'))), 2000, '2000'),
    ('for a few months, end not known', 'usd', all_of(item(per(2000))), all_of(off(10, '{"duration": "repeating"}')), 1800, '2000 x 0.9'),
    ('for one invoice', 'usd', all_of(item(per(2000))), all_of(off(10, '{"duration": "once"}')), 2000, '2000'),
    ('for a product', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(off(50, '{"products": ["prod_b"]}')), 2500, '2000 + 1000 x 0.5'),
    ('an amount off a product', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(amount_off(1500, '{"products": ["prod_b"]}')), 2000, '2000 + 0'),
    ('an amount off all, then a percentage off a product', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(amount_off(600), off(50, '{"products": ["prod_b"]}')), 2000, '600 off by share: 1600 + 800 x 0.5'),
    ('for a product it has not', 'usd', all_of(item(per(2000))), all_of(off(50, '{"products": ["prod_b"]}')), 2000, '2000'),
    ('off an item', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(off(50, '{"item": "si_a"}')), 2000, '2000 x 0.5 + 1000'),
    ('an amount off a yearly item', 'usd', all_of(item(per(12000, 'year'))), all_of(amount_off(1200, '{"item": "si_a"}')), 900, '(12000 - 1200) / 12'),
    ('more off than the item is', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(amount_off(1500, '{"item": "si_b"}')), 2000, '2000 + 0'),
    ('off an item first, then off all', 'usd', all_of(item(per(2000)), item(per(1000), 1, 'prod_b', 'si_b')), all_of(amount_off(600), off(50, '{"item": "si_a"}')), 1400, '2000 x 0.5 + 1000 - 600'),
    ('off one of an item that is three', 'usd', all_of(item(per(1000), 3)), all_of(amount_off(500, '{"item": "si_a"}')), 2500, '1000 x 3 - 500'),
    ('a coupon that is not known', 'usd', all_of(item(per(2000))), '[{"id": "di_x"}]', NULL, 'not known'),
    ('a coupon that is not known, but over', 'usd', all_of(item(per(2000))), '[{"id": "di_x", "end": 1700000000}]', 2000, '2000'),
    ('thirds that make a whole', 'usd', all_of(item(per(1000)), item(per(1000), 1, 'b', 'si_b'), item(per(1000), 1, 'c', 'si_c')), all_of(amount_off(1000)), 2000, '3000 - 1000'),
    -- currencies
    ('yen have no cents', 'jpy', all_of(item(per(980))), '[]', 980, '980 yen'),
    ('yen, yearly', 'jpy', all_of(item(per(9800, 'year'))), '[]', 817, '9800 / 12 = 816.67'),
    ('dinar have three decimals', 'kwd', all_of(item(per(12345, 'year'))), '[]', 1029, '12345 / 12 = 1028.75, which is 1.029'),
    ('a price in the subscription''s currency', 'eur', all_of(item(per(2000, 'month', 1, '{"currency": "eur"}'))), '[]', 2000, '2000'),
    ('a price in another currency', 'usd', all_of(item(per(2000, 'month', 1, '{"currency": "eur"}'))), '[]', NULL, 'what it is in dollars is not known');

SELECT n, name, expected, by_hand,
       CASE WHEN stripe_portal.monthly_total(currency, items, discounts, '2026-06-01') IS DISTINCT FROM expected
            THEN stripe_portal.monthly_total(currency, items, discounts, '2026-06-01') END AS wrong
FROM worked ORDER BY n;
SELECT count(*) AS cases,
       count(*) FILTER (WHERE stripe_portal.monthly_total(currency, items, discounts, '2026-06-01') IS DISTINCT FROM expected) AS wrong
FROM worked;

-- no amount of money at all
SELECT amount, stripe_portal.monthly_total('usd', all_of(item(per(amount::numeric))), '[]', '2026-06-01') FROM unnest(ARRAY['NaN', 'infinity', '1e40']) AS amount;

-- Which subscriptions count at all.
SELECT status, stripe_portal.earning(status, NULL) AS alone, stripe_portal.earning(status, '{"behavior": "void"}') AS collection_paused
FROM unnest(ARRAY['active', 'past_due', 'trialing', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled', 'a_new_one']) AS status;

DROP FUNCTION per, item, off, amount_off, until, all_of;
DROP TABLE worked;
