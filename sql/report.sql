-- The reports, on a story of seven subscribers that can be checked by hand.
\set VERBOSITY terse
SET TIME ZONE 'Asia/Tokyo';     -- months are those of UTC all the same
SET DATESTYLE = 'ISO';

CREATE SEQUENCE event_number;
CREATE FUNCTION happens(at text, type text, object jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT stripe_portal.apply_event(jsonb_build_object('id', 'evt_' || nextval('event_number'), 'object', 'event', 'type', type, 'livemode', false,
        'created', extract(epoch FROM (at || 'Z')::timestamptz)::bigint, 'data', jsonb_build_object('object', object))) $$;
CREATE FUNCTION seconds(at text) RETURNS bigint LANGUAGE sql RETURN extract(epoch FROM (at || 'Z')::timestamptz)::bigint;

-- A customer; a subscription of theirs to one price by the month; what is different about it then.
CREATE FUNCTION customer(name text, country text) RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('id', 'cus_' || name, 'object', 'customer', 'address', jsonb_build_object('country', country));
CREATE FUNCTION sub(name text, plan text, since text, more jsonb DEFAULT '{}', customer text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', 'sub_' || name, 'object', 'subscription', 'customer', 'cus_' || coalesce(customer, name), 'status', 'active', 'currency', p.currency,
        'created', seconds(since), 'start_date', seconds(since), 'cancel_at', NULL, 'canceled_at', NULL, 'cancel_at_period_end', false, 'ended_at', NULL,
        'cancellation_details', '{"reason": null, "feedback": null, "comment": null}'::jsonb, 'discounts', '[]'::jsonb,
        'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_' || name, 'quantity', 1, 'price', jsonb_build_object(
            'id', 'price_' || plan, 'object', 'price', 'product', 'prod_' || split_part(plan, '_', 1), 'currency', p.currency, 'type', 'recurring',
            'billing_scheme', 'per_unit', 'unit_amount', p.amount, 'recurring', '{"interval": "month", "interval_count": 1, "usage_type": "licensed"}'::jsonb))))) || more
    FROM (VALUES ('basic_usd', 'usd', 2000), ('pro_usd', 'usd', 5000), ('basic_eur', 'eur', 1800)) AS p (id, currency, amount)
    WHERE p.id = plan $$;
CREATE FUNCTION leaving(asked text, ends text, reason text, feedback text DEFAULT NULL, comment text DEFAULT NULL) RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('canceled_at', seconds(asked), 'cancel_at', seconds(ends), 'cancellation_details',
    jsonb_build_object('reason', reason, 'feedback', feedback, 'comment', comment));
CREATE FUNCTION gone(at text) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('status', 'canceled', 'ended_at', seconds(at));

-- An attempt to collect an invoice: it fails with a code, or the invoice is paid.
CREATE FUNCTION invoice(name text, amount integer, currency text, attempt integer, more jsonb, next_try text) RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('id', 'in_' || name, 'object', 'invoice', 'customer', 'cus_' || name, 'currency', currency, 'status', 'open',
    'amount_due', amount, 'amount_remaining', amount, 'attempt_count', attempt, 'next_payment_attempt', seconds(next_try),
    'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', 'sub_' || name)),
    'payments', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('payment', jsonb_build_object('payment_intent', 'pi_' || name)))))
    || more;
CREATE FUNCTION fails(at text, name text, amount integer, currency text, attempt integer, code text, next_try text, card text DEFAULT '1') RETURNS void LANGUAGE sql AS $$
    SELECT happens(at, 'charge.failed', jsonb_build_object('id', 'ch_' || name || attempt, 'object', 'charge', 'status', 'failed', 'customer', 'cus_' || name,
               'created', seconds(at), 'amount', amount, 'currency', currency, 'payment_intent', 'pi_' || name, 'failure_code', 'card_declined',
               'outcome', jsonb_build_object('type', 'issuer_declined', 'reason', code), 'payment_method', 'pm_' || name || card, 'payment_method_details', '{"type": "card"}'::jsonb)),
           happens(at, 'invoice.payment_failed', invoice(name, amount, currency, attempt, '{}', next_try)) $$;

DO $$
BEGIN
    PERFORM happens('2026-01-01', 'customer.created', customer(name, country))
    FROM (VALUES ('ann', 'US'), ('ben', 'US'), ('cat', 'CA'), ('dan', 'DE'), ('eve', 'US'), ('fay', NULL), ('gus', 'US')) AS v (name, country);

    -- Ann takes the basic plan, and the better one in March.  Midnight in Tokyo is still January in UTC.
    PERFORM happens('2026-01-31 20:00', 'customer.subscription.created', sub('ann', 'basic_usd', '2026-01-31 20:00'));
    PERFORM happens('2026-03-05', 'customer.subscription.updated', sub('ann', 'pro_usd', '2026-01-31 20:00'));

    -- Ben cancels in February, for March, says why seven seconds later, and is back in April.
    PERFORM happens('2026-01-15', 'customer.subscription.created', sub('ben', 'basic_usd', '2026-01-15'));
    PERFORM happens('2026-02-20 00:00:00', 'customer.subscription.updated', sub('ben', 'basic_usd', '2026-01-15', leaving('2026-02-20', '2026-03-15', 'cancellation_requested')));
    PERFORM happens('2026-02-20 00:00:07', 'customer.subscription.updated', sub('ben', 'basic_usd', '2026-01-15',
        leaving('2026-02-20', '2026-03-15', 'cancellation_requested', 'too_expensive', 'Budget cut, sorry')));
    PERFORM happens('2026-03-15', 'customer.subscription.deleted', sub('ben', 'basic_usd', '2026-01-15',
        leaving('2026-02-20', '2026-03-15', 'cancellation_requested', 'too_expensive', 'Budget cut, sorry') || gone('2026-03-15')));
    PERFORM happens('2026-04-02', 'customer.subscription.created', sub('ben2', 'basic_usd', '2026-04-02', '{}', 'ben'));

    -- Cat cancels in March, and changes her mind.
    PERFORM happens('2026-02-03', 'customer.subscription.created', sub('cat', 'pro_usd', '2026-02-03'));
    PERFORM happens('2026-03-01', 'customer.subscription.updated', sub('cat', 'pro_usd', '2026-02-03',
        leaving('2026-03-01', '2026-04-03', 'cancellation_requested', 'missing_features', 'No SSO. Budget is fine')));
    PERFORM happens('2026-03-10', 'customer.subscription.updated', sub('cat', 'pro_usd', '2026-02-03'));

    -- Dan's card has expired; it is tried three times, and in April Stripe gives up.
    PERFORM happens('2026-01-20', 'customer.subscription.created', sub('dan', 'basic_eur', '2026-01-20'));
    PERFORM fails('2026-03-20', 'dan', 1800, 'eur', 1, 'expired_card', '2026-03-23');
    PERFORM happens('2026-03-20', 'customer.subscription.updated', sub('dan', 'basic_eur', '2026-01-20', '{"status": "past_due"}'));
    PERFORM fails('2026-03-23', 'dan', 1800, 'eur', 2, 'expired_card', '2026-03-28');
    PERFORM fails('2026-03-28', 'dan', 1800, 'eur', 3, 'expired_card', NULL);
    PERFORM happens('2026-04-04', 'customer.subscription.deleted', sub('dan', 'basic_eur', '2026-01-20',
        leaving('2026-04-04', '2026-04-04', 'payment_failed') || gone('2026-04-04')));

    -- Eve has no money on the first of the month, and has on the fourth.
    PERFORM happens('2026-02-01', 'customer.subscription.created', sub('eve', 'basic_usd', '2026-02-01'));
    PERFORM fails('2026-04-01', 'eve', 2000, 'usd', 1, 'insufficient_funds', '2026-04-04');
    PERFORM happens('2026-04-01', 'customer.subscription.updated', sub('eve', 'basic_usd', '2026-02-01', '{"status": "past_due"}'));
    PERFORM happens('2026-04-04', 'invoice.paid', invoice('eve', 2000, 'usd', 2, jsonb_build_object('status', 'paid', 'amount_remaining', 0,
        'status_transitions', jsonb_build_object('paid_at', seconds('2026-04-04'))), NULL));
    PERFORM happens('2026-04-04', 'customer.subscription.updated', sub('eve', 'basic_usd', '2026-02-01'));

    -- Fay's card is reported lost; the other one is declined with a code that nobody knows yet.
    PERFORM happens('2026-02-10', 'customer.subscription.created', sub('fay', 'pro_usd', '2026-02-10'));
    PERFORM fails('2026-04-10', 'fay', 5000, 'usd', 1, 'lost_card', '2026-04-13');
    PERFORM happens('2026-04-10', 'customer.subscription.updated', sub('fay', 'pro_usd', '2026-02-10', '{"status": "past_due"}'));
    PERFORM fails('2026-04-13', 'fay', 5000, 'usd', 2, 'a_code_of_tomorrow', '2026-04-18', '2');

    -- Gus has two subscriptions, and gives one up at once.
    PERFORM happens('2026-03-02', 'customer.subscription.created', sub('gus', 'pro_usd', '2026-03-02'));
    PERFORM happens('2026-03-02', 'customer.subscription.created', sub('gus2', 'basic_usd', '2026-03-02', '{}', 'gus'));
    PERFORM happens('2026-04-12', 'customer.subscription.deleted', sub('gus2', 'basic_usd', '2026-03-02',
        leaving('2026-04-12', '2026-04-12', 'cancellation_requested') || gone('2026-04-12'), 'gus'));
END
$$;

-- The bridge.  usd, January: Ann and Ben, 2 x 20.00.  February: Cat, Eve and Fay, 50 + 20 + 50.  March: Gus, 50 + 20;
-- Ann moves up by 30; Ben's 20 go.  April: Ben is back, and Gus gives up 20.
SELECT * FROM stripe_mrr_bridge('[2026-01-01,2026-05-01)');
-- A period is as long as the months it touches, and begins with what was there.
SELECT month, currency, opening, churn, closing FROM stripe_mrr_bridge('[2026-03-31,2026-04-02)');

-- Who stayed.  Of those who first paid in January, Ann and Ben, one was left at the end of March, and paid more.
SELECT * FROM stripe_retention('[2026-01-01,2026-05-01)');

-- Who was lost.  Gus has another subscription left, so his 20.00 are lost and he is not.
SELECT * FROM stripe_churn('reason', '[2026-01-01,2026-05-01)');
SELECT * FROM stripe_churn('feedback', '[2026-03-01,2026-04-01)');
SELECT by, r.month, r.currency, r.key, r.customers, r.mrr
FROM unnest('{plan, price, cohort, country, age}'::text[]) WITH ORDINALITY AS u (by, n), stripe_churn(by, '[2026-04-01,2026-05-01)') AS r ORDER BY n, currency;
SELECT stripe_churn('weather');
SELECT stripe_churn(NULL);
-- as shares of what the months began with
SELECT month, currency, customers_opening, mrr_opening, voluntary_customers, involuntary_customers, voluntary_mrr, involuntary_mrr FROM stripe_churn_rate('[2026-03-01,2026-05-01)');
SELECT month, currency, customer_rate, voluntary_customer_rate, involuntary_customer_rate, mrr_rate, voluntary_mrr_rate, involuntary_mrr_rate FROM stripe_churn_rate('[2026-03-01,2026-05-01)');
-- Ben and Cat asked for an end that was to come, and Cat took it back.
SELECT * FROM stripe_uncancel_rate('[2026-01-01,2026-05-01)');

-- In their own words.
SELECT at, customer, plan, feedback, comment, mrr, currency, rank FROM stripe_cancel_comments(period => '[2026-01-01,2026-05-01)');
SELECT customer, rank > 0 AS ranked FROM stripe_cancel_comments('BUDGET', '[2026-01-01,2026-05-01)') ORDER BY customer;
SELECT customer FROM stripe_cancel_comments('budget -sso', '[2026-01-01,2026-05-01)');
SELECT customer FROM stripe_cancel_comments('"budget cut" or churn', '[2026-01-01,2026-05-01)');
SELECT customer FROM stripe_cancel_comments(''') & | !:*', '[2026-01-01,2026-05-01)');
SELECT customer FROM stripe_cancel_comments(period => '[2026-02-20,2026-02-21)');

-- The leak.  March: Ben left, and was back with as much in April; Cat stayed.
-- April: Gus's 20.00 went, Dan's 18.00, and Eve's 20.00 came in late.
-- What could be had, if one in ten who cancel and three in ten who fail to pay: 2.00 of Gus's, 5.40 of Dan's.
SELECT month, currency, cancellation_leak, payment_leak, cancellation_recovered, payment_recovered, cancellation_saved, payment_saved, recoverable
FROM stripe_churn_leak('[2026-03-01,2026-05-01)');
-- With other assumptions: two weeks are too short for Ben to count as won back.
SELECT month, currency, cancellation_recovered, recoverable, assumed_within, assumed_cancellation_rate, assumed_payment_rate
FROM stripe_churn_leak('[2026-03-01,2026-04-01)', won_back_within => '14 days', cancellation_save_rate => 0.5, payment_save_rate => 0);
-- the page makes the same assumptions
SELECT p.data = jsonb_agg(l) AS same, count(*) > 0 AS any
FROM (SELECT stripe_portal.page_data('[2026-03-01,2026-05-01)', '', false) -> 'leak') AS p (data), stripe_churn_leak('[2026-03-01,2026-05-01)', '', false) AS l
GROUP BY p.data;
SELECT stripe_churn_leak(cancellation_save_rate => 2);
SELECT stripe_churn_leak(won_back_within => NULL);

-- Declined payments.
SELECT * FROM stripe_decline_report('[2026-01-01,2026-05-01)');
SELECT * FROM stripe_decline_recovery('[2026-01-01,2026-05-01)');
-- Dan's card was tried twice after it was known to have expired; Fay's second try was another card.
SELECT * FROM stripe_decline_wasted('[2026-01-01,2026-05-01)');
-- a period is days
SELECT * FROM stripe_decline_wasted('[2026-03-28,2026-03-29)');
-- Fay could still send another card; Dan has gone.
SELECT * FROM stripe_decline_curable();
SELECT * FROM stripe_at_risk();

-- Other modes and accounts have nothing of this.
SELECT count(*) FROM stripe_mrr_bridge('[2026-01-01,2026-05-01)', livemode => true);
SELECT count(*) FROM stripe_decline_report('[2026-01-01,2026-05-01)', account => 'acct_1');
SELECT count(*) FROM stripe_at_risk('acct_1');
SELECT count(*) FROM stripe_churn('reason', '[2026-01-01,2026-05-01)', livemode => true);
SELECT count(*) FROM stripe_churn_leak('[2026-01-01,2026-05-01)', 'acct_1');

-- The tiers of a price are in no event: until it is read, its subscriptions are in no sum, but not unseen.
DO $$
BEGIN
    PERFORM happens('2026-04-20', 'customer.subscription.created', jsonb_set(sub(name, plan, '2026-04-20'), '{items,data,0,price}',
        jsonb_build_object('id', 'price_tiered', 'object', 'price', 'product', 'prod_pro', 'currency', currency, 'type', 'recurring', 'billing_scheme', 'tiered',
            'tiers_mode', 'volume', 'unit_amount', NULL, 'recurring', '{"interval": "month", "interval_count": 1, "usage_type": "licensed"}'::jsonb)) || jsonb_build_object('currency', currency))
    FROM (VALUES ('hal', 'pro_usd', 'usd'), ('ida', 'pro_usd', 'gbp')) AS v (name, plan, currency);
END
$$;
SELECT month, currency, opening, new, closing, subscribers_closing, unknown FROM stripe_mrr_bridge('[2026-03-01,2026-05-01)') WHERE currency <> 'eur';

-- Without a period: the last twelve months and this one.
SELECT count(DISTINCT month), max(month) = date_trunc('month', now() AT TIME ZONE 'UTC') FROM stripe_mrr_bridge();
-- What is no period.
SELECT stripe_mrr_bridge('[2026-01-01,)');
SELECT stripe_retention('empty');
SELECT stripe_decline_report('[-infinity,2026-01-01)');

DROP FUNCTION fails, invoice, gone, leaving, sub, customer, seconds, happens;
DROP SEQUENCE event_number;
TRUNCATE stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.subscription, stripe_portal.customer, stripe_portal.customer_country, stripe_portal.price,
    stripe_portal.invoice, stripe_portal.invoice_payment, stripe_portal.payment_attempt;
