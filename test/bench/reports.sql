-- For test/bench/reports.sh: the history of :n subscriptions over five years,
-- five rows each, as what the extension would have made of their events.

CREATE FUNCTION u(n bigint, k integer) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ((hashint8extended(n, k) & 1048575) + 1)::double precision / 1048577;
-- it takes longer than what it is for
SET jit = off;

-- A growing business; most stay about two years.  One customer in ten has a
-- second subscription: beside the first, or after it.
CREATE UNLOGGED TABLE life AS
SELECT n, 'cus_' || lpad(CASE WHEN n % 10 = 0 THEN n - 1 ELSE n END::text, 14, '0') AS customer, 'sub_' || lpad(n::text, 24, '0') AS subscription,
       (ARRAY['usd', 'usd', 'usd', 'eur', 'eur', 'gbp'])[1 + floor(6 * u(CASE WHEN n % 10 = 0 THEN n - 1 ELSE n END, 1))::integer] AS currency,
       (1 + floor(5 * u(n, 2)))::integer AS plan, start, least(start + stays, today) AS until, start + stays < today AS ended, u(n, 3) < 0.7 AS voluntary
FROM generate_series(1, :n) AS n,
     LATERAL (SELECT date_trunc('day', now()) AS today) AS t,
     LATERAL (SELECT date_trunc('second', today - interval '1 day' - interval '5 years' * (1 - sqrt(u(n, 4)))) AS start,
                     date_trunc('second', interval '1 day' - interval '700 days' * ln(u(n, 5))) AS stays) AS l;
UPDATE life AS l SET start = b.until + interval '30 days' * u(l.n, 6), until = greatest(l.until, b.until + interval '31 days'), ended = l.ended AND l.until > b.until + interval '31 days'
FROM life AS b WHERE l.n % 20 = 10 AND b.n = l.n - 1 AND b.ended AND b.until < now() - interval '40 days';
UPDATE life SET start = date_trunc('second', start), until = date_trunc('second', least(until, now() - interval '1 minute'));
CREATE UNIQUE INDEX ON life (n);
ANALYZE life;

INSERT INTO stripe_portal.subscription_change
SELECT l.subscription, true, '', at, lead(at, 1, 'infinity') OVER (PARTITION BY n ORDER BY k), false, 'evt_' || lpad((n * 5 + k)::text, 24, '0'),
       CASE k WHEN 1 THEN 'customer.subscription.created' WHEN 5 THEN CASE WHEN ended THEN 'customer.subscription.deleted' ELSE 'customer.subscription.updated' END
              ELSE 'customer.subscription.updated' END,
       customer, status, currency,
       jsonb_build_array(jsonb_build_object('id', 'si_' || lpad(n::text, 14, '0'), 'price', 'price_' || plan, 'product', 'prod_' || plan, 'quantity', 1)),
       '[]', NULL, NULL, NULL, at + interval '1 month',
       CASE WHEN leaves THEN until END, false, CASE WHEN leaves OR k = 5 AND ended THEN at END, CASE WHEN k = 5 AND ended THEN at END,
       CASE WHEN leaves OR k = 5 AND ended THEN CASE WHEN voluntary THEN 'cancellation_requested' ELSE 'payment_failed' END END, NULL, NULL, NULL,
       start, start, mrr,
       CASE WHEN k = 1 THEN CASE WHEN EXISTS (SELECT FROM life AS o WHERE l.n % 10 IN (0, 9) AND o.n = l.n + CASE l.n % 10 WHEN 0 THEN -1 ELSE 1 END AND o.ended AND o.until < l.start)
                                 THEN 'reactivation' ELSE 'new' END
            WHEN mrr = 0 THEN 'churn' WHEN mrr > before THEN 'expansion' WHEN mrr < before THEN 'contraction' END,
       CASE WHEN k = 1 OR mrr <> before THEN mrr - before END, NULL
FROM (SELECT l.*, k, start + k * interval '1 second' + (until - start - interval '10 seconds') * ((k - 1) / 4.0)
                  * CASE WHEN k = 5 AND NOT ended THEN u(n, 7) / 4 + 0.75 ELSE 1 END AS exact,
             CASE WHEN k = 5 AND ended THEN 'canceled' WHEN k = 4 AND ended AND NOT voluntary OR k = 5 AND u(n, 8) < 0.01 THEN 'past_due' ELSE 'active' END AS status,
             CASE WHEN k = 5 AND ended THEN 0 ELSE price[k] END AS mrr, coalesce(price[k - 1], 0) AS before,
             k = 4 AND (ended AND voluntary OR NOT ended AND u(n, 9) < 0.1) AS leaves
      FROM life AS l, generate_series(1, 5) AS k,
           LATERAL (SELECT ARRAY[b, b, c, c, CASE WHEN u(n, 11) < 0.2 THEN c * 2 ELSE c END]::bigint[] AS price
                    FROM (SELECT 1000 * plan AS b, 500 * plan * CASE WHEN u(n, 10) < 0.3 THEN 4 WHEN u(n, 10) < 0.4 THEN 1 ELSE 2 END AS c) AS p) AS p
      OFFSET 0) AS l,
     LATERAL (SELECT date_trunc('second', exact) AS at OFFSET 0) AS t
ORDER BY at;

INSERT INTO stripe_portal.subscription (id, livemode, customer, status, currency, items, start_date, created, ended_at, event, event_created)
SELECT c.subscription, true, c.customer, c.status, c.currency, c.items, c.start_date, c.created, c.ended_at, c.event, c.at
FROM stripe_portal.subscription_change AS c WHERE c.until = 'infinity';

INSERT INTO stripe_portal.price (id, livemode, product, active, currency, type, billing_scheme, unit_amount, unit_amount_decimal, "interval", interval_count, usage_type, event, event_created)
SELECT 'price_' || n, true, 'prod_' || n, true, 'usd', 'recurring', 'per_unit', 1000 * n, 1000 * n, 'month', 1, 'licensed', '', now() FROM generate_series(1, 5) AS n;

INSERT INTO stripe_portal.customer (id, livemode, email, address, created, event, event_created)
SELECT DISTINCT ON (customer) customer, true, customer || '@example.com', jsonb_build_object('country', (ARRAY['US', 'US', 'DE', 'FR', 'GB'])[1 + n % 5]), start, 'evt_', start
FROM life ORDER BY customer, start;
INSERT INTO stripe_portal.customer_country SELECT id, livemode, account, created, address ->> 'country' FROM stripe_portal.customer;

INSERT INTO stripe_portal.cancellation
SELECT l.subscription, true, '', c.at, l.customer, CASE WHEN c.status = 'active' THEN c.at END, CASE WHEN NOT l.ended THEN e.at END,
       l.until, CASE WHEN l.ended THEN e.at END, CASE WHEN l.ended THEN c.cancellation_reason END, c.cancellation_reason = 'cancellation_requested',
       CASE WHEN c.status = 'active' THEN (ARRAY['too_expensive', 'missing_features', 'switched_service', 'unused', 'too_complex', 'low_quality', 'other', NULL])[1 + l.n % 8] END,
       NULL, CASE WHEN c.status = 'active' AND l.n % 5 < 2 THEN 'Note ' || l.n % 10007 || ': the ' || (ARRAY['budget', 'support', 'speed', 'price', 'team'])[1 + l.n % 5] || ' is not what we need any more' END,
       'prod_' || plan, 'price_' || plan, 1, l.currency, c.mrr, l.start, c.at - l.start, (ARRAY['US', 'US', 'DE', 'FR', 'GB'])[1 + l.n % 5], NULL
FROM life AS l
JOIN stripe_portal.subscription_change AS e ON e.subscription = l.subscription AND e.until = 'infinity'
JOIN stripe_portal.subscription_change AS c ON c.subscription = l.subscription
    AND CASE WHEN l.ended AND NOT l.voluntary THEN c.at = e.at ELSE c.cancel_at IS NOT NULL END;

-- Whose payments fail: those who leave for it, and one in twenty of the others, who pay in the end; up to four attempts.
CREATE UNLOGGED TABLE failure AS
SELECT l.*, c.at AS first, c.mrr AS amount, CASE WHEN l.ended AND NOT l.voluntary THEN 4 ELSE (1 + floor(3 * u(n, 12)))::integer END AS attempts,
       c.until = 'infinity' AS open, l.ended AND NOT l.voluntary AS lost
FROM life AS l JOIN stripe_portal.subscription_change AS c ON c.subscription = l.subscription
WHERE c.status = 'past_due' OR c.movement IS NULL AND c.status = 'active' AND c.mrr > 0 AND u(n, 13) < 0.05;
INSERT INTO stripe_portal.payment_attempt (id, livemode, failed_at, customer, charge, payment_intent, invoice, subscription, amount, currency, code, decline_code, outcome_type, outcome_reason,
    payment_method, payment_method_type, attempt_number, next_payment_attempt)
SELECT CASE told WHEN 'charge' THEN 'ch_' ELSE 'in_' END || key || k, true, at, customer, CASE told WHEN 'charge' THEN 'ch_' || key || k END, CASE told WHEN 'charge' THEN 'pi_' || key END,
       CASE told WHEN 'invoice' THEN 'in_' || key END, CASE told WHEN 'invoice' THEN subscription END, amount, currency, CASE told WHEN 'charge' THEN 'card_declined' END, NULL,
       CASE told WHEN 'charge' THEN 'issuer_declined' END,
       CASE told WHEN 'charge' THEN (ARRAY['insufficient_funds', 'insufficient_funds', 'generic_decline', 'do_not_honor', 'expired_card', 'lost_card', 'a_new_code'])[1 + n % 7] END,
       CASE told WHEN 'charge' THEN 'pm_' || n END, CASE told WHEN 'charge' THEN 'card' END, CASE told WHEN 'invoice' THEN k END, CASE WHEN told = 'invoice' AND k < attempts THEN at + interval '4 days' END
FROM failure AS f, generate_series(1, attempts) AS k, unnest(ARRAY['charge', 'invoice']) AS told,
     LATERAL (SELECT lpad(n::text, 12, '0') || extract(epoch FROM first)::bigint AS key, first + (k - 1) * interval '4 days' AS at) AS a
ORDER BY at;
INSERT INTO stripe_portal.invoice_payment
SELECT 'pi_' || key, true, '', 'in_' || key FROM failure, LATERAL (SELECT lpad(n::text, 12, '0') || extract(epoch FROM first)::bigint AS key) AS a;
INSERT INTO stripe_portal.payment_intent (id, livemode, customer, status, amount, currency, event, event_created)
SELECT 'pi_' || key, true, customer, CASE WHEN open OR lost THEN 'requires_payment_method' ELSE 'succeeded' END, amount, currency, 'evt_', first + attempts * interval '4 days'
FROM failure, LATERAL (SELECT lpad(n::text, 12, '0') || extract(epoch FROM first)::bigint AS key) AS a;
-- and one invoice a subscription that was paid at once
INSERT INTO stripe_portal.invoice (id, livemode, customer, subscription, status, currency, amount_due, amount_remaining, attempt_count, next_payment_attempt, paid_at, created, event, event_created)
SELECT 'in_' || key, true, customer, subscription, CASE WHEN open OR lost THEN 'open' ELSE 'paid' END, currency, amount, CASE WHEN open OR lost THEN amount ELSE 0 END, attempts,
       CASE WHEN open THEN first + attempts * interval '4 days' END, CASE WHEN NOT (open OR lost) THEN first + attempts * interval '4 days' END, first, 'evt_', first
FROM failure, LATERAL (SELECT lpad(n::text, 12, '0') || extract(epoch FROM first)::bigint AS key) AS a
UNION ALL
SELECT 'in_' || lpad(n::text, 24, '0'), true, customer, subscription, 'paid', currency, 1000 * plan, 0, 1, NULL, start, start, 'evt_', start FROM life;

-- One rule, and whom it reached in the last year.
INSERT INTO stripe_portal.winback_rule (name, livemode, active, trigger_on, kind, discount, subject, body, holdout)
VALUES ('fifth', true, false, 'ended', 'promotion_code', '{"percent_off": 20, "duration": "repeating", "duration_in_months": 3}', 's', 'b', 0.2);
INSERT INTO stripe_portal.winback_offer (rule, livemode, customer, episode, trigger_on, kind, subscription, at, feedback, product, price, country, mrr, currency, state, due_at, expires_at, sent_at)
SELECT 'fifth', true, customer, subscription || ' end', 'ended', 'promotion_code', subscription, ended_at, feedback, product, price, country, mrr, currency,
       CASE WHEN hashtext(customer) % 5 = 0 THEN 'held_out' WHEN hashtext(customer) % 7 = 0 THEN 'accepted' ELSE 'expired' END,
       ended_at + interval '1 day', ended_at + interval '15 days', CASE WHEN hashtext(customer) % 5 <> 0 THEN ended_at + interval '1 day' END
FROM stripe_portal.cancellation WHERE voluntary AND ended_at > now() - interval '1 year';

-- what the triggers would have made of all this
INSERT INTO stripe_portal.subscriber_change
SELECT c.subscription, c.livemode, c.account, c.at, c.currency, c.mrr_change,
       ((c.n > 0)::integer - (c.n > c.paying)::integer)::smallint, c.since, c.first, CASE WHEN c.movement = 'churn' THEN c.n = 0 END
FROM (SELECT s.*, sum(s.paying) OVER (its ORDER BY s.at, s.subscription) AS n, min(s.at) FILTER (WHERE s.movement = 'new') OVER its AS since,
             s.movement = 'new' AND row_number() OVER (PARTITION BY s.customer, s.currency, s.movement ORDER BY s.at, s.subscription) = 1 AS first
      FROM (SELECT c.*, (c.mrr > 0)::integer - (c.mrr > c.mrr_change)::integer AS paying
            FROM stripe_portal.subscription_change AS c WHERE c.movement IS NOT NULL) AS s
      WINDOW its AS (PARTITION BY s.customer, s.currency)) AS c;

DROP TABLE life, failure;

-- An event that makes a subscription cost twice as much, of one in a hundred that live, from a place on.
CREATE FUNCTION dearer(place integer, at timestamptz) RETURNS SETOF jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', 'evt_' || md5(s.id || at), 'object', 'event', 'type', 'customer.subscription.updated', 'livemode', true, 'created', extract(epoch FROM at)::bigint,
        'data', jsonb_build_object('previous_attributes', '{"quantity": 1}'::jsonb, 'object', jsonb_build_object('id', s.id, 'object', 'subscription', 'livemode', true, 'customer', s.customer,
            'status', 'active', 'currency', s.currency, 'created', extract(epoch FROM s.created)::bigint, 'start_date', extract(epoch FROM s.created)::bigint,
            'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', s.items #> '{0,id}', 'quantity', 2 + place % 2,
                'price', jsonb_build_object('id', s.items #> '{0,price}', 'object', 'price', 'product', s.items #> '{0,product}', 'currency', s.currency, 'type', 'recurring',
                    'billing_scheme', 'per_unit', 'unit_amount', 1000, 'recurring', '{"interval": "month", "interval_count": 1, "usage_type": "licensed"}'::jsonb)))))))
    FROM stripe_portal.subscription AS s WHERE s.status = 'active' AND hashtext(s.id) & 127 = place $$;

