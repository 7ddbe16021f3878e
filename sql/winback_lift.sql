-- Win-back: a rule tried on history, and what it did, against sums made by hand.
\set VERBOSITY terse
SET client_min_messages = warning;
SET TIME ZONE 'UTC';

-- The interval: the examples of Newcombe's paper (Statistics in Medicine 17, 1998, 873–890, method 10).
SELECT k1, n1, k2, n2, d.*
FROM (VALUES (56, 70, 48, 80), (9, 10, 3, 10), (6, 7, 2, 7), (5, 56, 0, 29), (0, 10, 0, 20), (0, 10, 0, 10), (10, 10, 0, 20), (10, 10, 0, 10), (0, 0, 1, 1)) AS v (k1, n1, k2, n2)
LEFT JOIN LATERAL stripe_portal.share_difference(k1, n1, k2, n2) AS d ON true;

-- What a discount costs somebody who pays 20.00 a month, monthly or once a year.
SELECT terms, stripe_portal.winback_cost(terms::jsonb, 2000, 'eur', 1) AS monthly, stripe_portal.winback_cost(terms::jsonb, 2000, 'eur', 12) AS yearly
FROM unnest(ARRAY[
    '{"percent_off": 20, "duration": "once"}', '{"percent_off": 20, "duration": "repeating", "duration_in_months": 3}', '{"percent_off": 20, "duration": "forever"}',
    '{"amount_off": 500, "currency": "eur", "duration": "once"}', '{"amount_off": 5000, "currency": "eur", "duration": "repeating", "duration_in_months": 2}',
    '{"amount_off": 500, "currency": "usd", "duration": "once"}', '{"amount_off": 500, "currency": "usd", "currency_options": {"eur": {"amount_off": 400}}, "duration": "once"}', '{}'
]) WITH ORDINALITY AS t (terms, n) ORDER BY n;

-- ---------------------------------------------------------------------------
-- A history: 100 customers whose subscription of 20.00 ended 40 days ago.
CREATE FUNCTION ago(days numeric) RETURNS timestamptz LANGUAGE sql STABLE RETURN date_trunc('day', now()) - days * interval '1 day';
CREATE FUNCTION state(customer text, subscription text, status text, at timestamptz, until timestamptz, mrr bigint, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO stripe_portal.subscription_change
    SELECT * FROM jsonb_populate_record(NULL::stripe_portal.subscription_change, jsonb_build_object(
        'customer', customer, 'subscription', subscription, 'status', status, 'at', at, 'until', until, 'mrr', mrr, 'livemode', false, 'account', '', 'inferred', false,
        'event', 'evt', 'currency', 'eur', 'items', '[{"id": "si_1", "price": "price_1", "product": "prod_1", "quantity": 1}]'::jsonb, 'discounts', '[]'::jsonb,
        'cancel_at_period_end', false, 'created', at, 'start_date', at) || more) $$;
-- left with the answer, and perhaps was back from one day to another
CREATE FUNCTION left_us(n integer, feedback text, back numeric DEFAULT NULL, gone numeric DEFAULT NULL, currency text DEFAULT 'eur') RETURNS void LANGUAGE sql AS $$
    SELECT state('cus_' || n, 'sub_' || n, 'active', ago(400), ago(40), 2000, jsonb_build_object('currency', currency)),
           state('cus_' || n, 'sub_' || n, 'canceled', ago(40), 'infinity', 0, jsonb_build_object('currency', currency, 'created', ago(400), 'ended_at', ago(40), 'canceled_at', ago(40),
               'cancellation_reason', 'cancellation_requested', 'cancellation_feedback', feedback));
    SELECT state('cus_' || n, 'back_' || n, 'active', ago(back), coalesce(ago(gone), 'infinity'), 1600, jsonb_build_object('currency', currency)) WHERE back IS NOT NULL;
    SELECT state('cus_' || n, 'back_' || n, 'canceled', ago(gone), 'infinity', 0, jsonb_build_object('currency', currency, 'created', ago(back), 'ended_at', ago(gone))) WHERE gone IS NOT NULL $$;
INSERT INTO stripe_portal.price (id, livemode, product, currency, "interval", interval_count, event, event_created) VALUES ('price_1', false, 'prod_1', 'eur', 'month', 1, 'evt', now());
INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, subject, body, discount, holdout, wait, active, since)
VALUES ('back', 'ended', 'promotion_code', 's', 'b', '{"percent_off": 20, "duration": "repeating", "duration_in_months": 3}', 0.4, '1 day', false, now() - interval '90 days');

-- ---------------------------------------------------------------------------
-- Preview
SELECT FROM (SELECT left_us(n, CASE WHEN n <= 6 THEN 'too_expensive' ELSE 'unused' END) FROM generate_series(1, 8) AS n WHERE n <> 7) AS done;
-- 7 was back before the offer would have been due; 1 left a second time
SELECT left_us(7, 'unused', 39.5);
SELECT FROM (SELECT state('cus_1', 'again_1', 'active', ago(30), ago(20), 1000), state('cus_1', 'again_1', 'canceled', ago(20), 'infinity', 0, jsonb_build_object('created', ago(30), 'ended_at', ago(20)))) AS done;
SELECT FROM (SELECT DISTINCT subscription FROM stripe_portal.subscription_change) AS s, stripe_portal.derive_cancellations(s.subscription, false, '');
SELECT customer, at = ago(40) AS first, verdict, due_at - at AS wait, feedback, product, mrr, currency, cost FROM stripe_winback_preview('back') ORDER BY customer, at;
SELECT customer, round(stripe_portal.winback_share('back', customer), 2) AS share FROM (SELECT 'cus_' || n FROM generate_series(1, 8) AS n) AS c (customer);
SELECT verdict, count(*), sum(cost) AS cost FROM stripe_winback_preview('back', ago(30)) GROUP BY 1;
-- another rule that comes first
INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, subject, body, feedback, priority, since) VALUES ('first', 'ended', 'message', 's', 'b', '{unused}', 1, now());
SELECT verdict, count(*) FROM stripe_winback_preview('back') GROUP BY 1 ORDER BY 1;
UPDATE stripe_portal.winback_rule SET cap_per_customer = 2 WHERE name = 'back';
SELECT verdict, count(*) FROM stripe_winback_preview('back') GROUP BY 1 ORDER BY 1;
SELECT count(*) AS nothing_written FROM stripe_portal.winback_offer;
SELECT stripe_winback_preview('nothing');
TRUNCATE stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation;

-- ---------------------------------------------------------------------------
-- Lift.  The rule's offers were due 39 days ago.  Of 40 that got one, 20 were
-- back within 7 days, and 12 of these are still there after 30; of 40 held out,
-- 6 were back, and stayed.  10 more were back before the offer was due, half of
-- them held out, and 2 were taken over by another rule.
SELECT FROM (SELECT left_us(n, CASE WHEN n % 2 = 0 THEN 'too_expensive' ELSE 'unused' END,
               CASE WHEN n <= 20 THEN 35 WHEN n BETWEEN 41 AND 46 THEN 35 WHEN n BETWEEN 81 AND 90 THEN 39.5 END,
               CASE WHEN n BETWEEN 13 AND 20 THEN 15 END) FROM generate_series(1, 92) AS n) AS done;
-- and a handful in another currency
SELECT FROM (SELECT left_us(n, 'other', 35, NULL, 'usd') FROM generate_series(101, 103) AS n) AS done;
INSERT INTO stripe_portal.winback_offer (rule, livemode, customer, episode, trigger_on, kind, subscription, at, state, due_at, expires_at, sent_at, accepted_at, closed_at, canceled_because, feedback, product, price, mrr, currency)
SELECT 'back', false, 'cus_' || n, 'sub_' || n || ' end', 'ended', 'promotion_code', 'sub_' || n, ago(40),
       CASE WHEN n BETWEEN 41 AND 80 OR n BETWEEN 86 AND 90 THEN 'held_out' WHEN n IN (91, 92) OR n BETWEEN 81 AND 85 THEN 'canceled' ELSE 'sent' END, ago(39), ago(25),
       CASE WHEN n <= 38 OR n > 100 THEN ago(39) END, NULL, CASE WHEN n IN (91, 92) THEN ago(40) END, CASE WHEN n IN (91, 92) THEN 'superseded' WHEN n BETWEEN 81 AND 85 THEN 'came_back' END,
       CASE WHEN n > 100 THEN 'other' WHEN n % 2 = 0 THEN 'too_expensive' ELSE 'unused' END, 'prod_1', 'price_1', 2000, CASE WHEN n > 100 THEN 'usd' ELSE 'eur' END
FROM generate_series(1, 103) AS n WHERE n NOT BETWEEN 93 AND 100;
-- two never left the outbox
UPDATE stripe_portal.winback_offer SET state = 'planned' WHERE customer IN ('cus_39', 'cus_40');
-- 10 of those who were back had used the code: 20 % of three months of 20.00 each
UPDATE stripe_portal.winback_offer SET coupon = 'WB', promotion_code = 'promo_' || customer WHERE state = 'sent';
INSERT INTO stripe_portal.coupon (id, livemode, percent_off, duration, duration_in_months, event, event_created) VALUES ('WB', false, 20, 'repeating', 3, 'evt', now());
INSERT INTO stripe_portal.discount (id, livemode, customer, subscription, coupon, promotion_code, start, event, event_created)
SELECT 'di_' || n, false, 'cus_' || n, 'back_' || n, 'WB', 'promo_cus_' || n, ago(35), 'evt', now() FROM generate_series(1, 10) AS n;
SELECT FROM stripe_portal.winback_settle();
SELECT count(*) FROM (SELECT DISTINCT customer FROM stripe_portal.winback_offer) AS c, stripe_portal.winback_settle(c.customer, false, '');
SELECT state, saved_stage, count(*) FROM stripe_portal.winback_offer GROUP BY 1, 2 ORDER BY 1, 2;

SELECT segment, value, days, currency, offered, reached, accepted, held_out, saved, held_out_saved AS h_saved, saved_rate, held_out_rate AS h_rate, lift, lift_low, lift_high, verdict, mrr_kept, held_out_mrr_kept AS h_mrr, discount_cost AS cost
FROM stripe_portal.winback_lift WHERE rule = 'back' AND (segment IN ('all', 'feedback')) ORDER BY segment, value, days, currency NULLS FIRST;
-- by hand: 7 days 20/40 and 6/40, 30 days 12/40 and 6/40; 20 × 16.00, 12 × 16.00, 6 × 16.00; 10 × 12.00
SELECT difference, low, high FROM stripe_portal.share_difference(20, 40, 6, 40);
SELECT difference, low, high FROM stripe_portal.share_difference(12, 40, 6, 40);
-- every segment adds up to all
SELECT days, currency, segment, sum(offered) AS offered, sum(held_out) AS held_out, sum(saved) AS saved, sum(mrr_kept) AS mrr_kept, sum(discount_cost) AS cost
FROM stripe_portal.winback_lift WHERE currency IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- who may call the function need not read anything
CREATE ROLE regress_analyst;
GRANT EXECUTE ON FUNCTION stripe_winback_lift TO regress_analyst;
SET ROLE regress_analyst;
SELECT days, lift, verdict FROM stripe_winback_lift('back', livemode => false) WHERE segment = 'all' AND currency = 'eur';
SELECT count(*) FROM stripe_winback_lift('back', livemode => true);
RESET ROLE;
DROP OWNED BY regress_analyst;
DROP ROLE regress_analyst;

DROP FUNCTION left_us, state, ago;
TRUNCATE stripe_portal.winback_offer, stripe_portal.winback_rule, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.price, stripe_portal.coupon, stripe_portal.discount;
