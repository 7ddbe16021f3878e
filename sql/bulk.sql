-- Many webhooks in one call: stripe_receive_webhooks.
\set VERBOSITY terse
SET TIME ZONE 'UTC';
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

CREATE FUNCTION event(id text, type text, at integer, object jsonb, more jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql AS $$
    SELECT (jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', 1700000000 + at, 'livemode', false,
        'data', jsonb_build_object('object', object)) || more)::text
$$;
CREATE FUNCTION subscription(n integer, status text, quantity integer DEFAULT 1) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT jsonb_build_object('object', 'subscription', 'id', 'sub_' || n, 'customer', 'cus_' || n % 7, 'status', status, 'currency', 'usd',
        'created', 1700000000, 'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_' || n, 'quantity', quantity,
            'price', '{"id": "price_1", "object": "price", "currency": "usd", "type": "recurring", "billing_scheme": "per_unit", "unit_amount": 1000,
                       "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}'::jsonb))))
$$;
CREATE FUNCTION deliver(VARIADIC payloads text[]) RETURNS TABLE (event text, type text, outcome text, error text)
LANGUAGE sql AS $$
    SELECT * FROM stripe_receive_webhooks(payloads, ARRAY(SELECT stripe_sign_webhook(p, 'whsec_test_secret') FROM unnest(payloads) AS p))
$$;

-- A verdict for each, in their order; a bad one is no harm to the others.
SELECT * FROM stripe_receive_webhooks(
    ARRAY[event('evt_1', 'customer.subscription.created', 0, subscription(1, 'active')),
          event('evt_forged', 'customer.subscription.created', 0, subscription(2, 'active')),
          event('evt_3', 'customer.created', 0, '{"object": "customer", "id": "cus_1", "email": "jenny@example.com"}'),
          NULL],
    ARRAY[stripe_sign_webhook(event('evt_1', 'customer.subscription.created', 0, subscription(1, 'active')), 'whsec_test_secret'),
          stripe_sign_webhook(event('evt_forged', 'customer.subscription.created', 0, subscription(2, 'active')), 'whsec_guessed'),
          stripe_sign_webhook(event('evt_3', 'customer.created', 0, '{"object": "customer", "id": "cus_1", "email": "jenny@example.com"}'), 'whsec_test_secret'),
          NULL]);
SELECT * FROM deliver(
    event('evt_4', 'customer.subscription.updated', 5, subscription(1, 'active', 3)),
    event('evt_5', 'customer.subscription.created', 2, subscription(2, 'active') || '{"items": {"data": 17}}'),
    event('evt_1', 'customer.subscription.created', 0, subscription(1, 'active')),
    'hello',
    event('evt_6', 'customer.subscription.created', 2, subscription(3, 'active') - 'customer'),
    event('evt_7', 'customer.subscription.created', 2, subscription(4, 'active')),
    event('evt_8', 'customer.subscription.deleted', 9, subscription(1, 'canceled', 3)),
    event('evt_7', 'customer.subscription.created', 2, subscription(4, 'active')),
    event('evt_9', 'radar.rule.created', 2, '{"object": "radar.rule", "id": "rule_1"}'),
    '{"id": "evt_10", "object": "v2.core.event", "type": "v1.customer.updated", "created": "2026-11-10T12:00:00.000Z", "livemode": false, "related_object": {"id": "cus_1"}}');
SELECT id, status, error FROM stripe_portal.event ORDER BY created, id;
SELECT id, status, items -> 0 -> 'quantity' AS quantity, event FROM stripe_portal.subscription ORDER BY id;
SELECT subscription, at, until, event, mrr, movement, mrr_change FROM stripe_portal.subscription_change ORDER BY subscription, at;

-- The time of arrival, of each.
SELECT outcome, error FROM stripe_receive_webhooks(
    ARRAY[event('evt_20', 'customer.updated', 1, '{"object": "customer", "id": "cus_1"}'), event('evt_21', 'customer.updated', 2, '{"object": "customer", "id": "cus_1"}')],
    ARRAY[stripe_sign_webhook(event('evt_20', 'customer.updated', 1, '{"object": "customer", "id": "cus_1"}'), 'whsec_test_secret', '2023-11-14 22:13'),
          stripe_sign_webhook(event('evt_21', 'customer.updated', 2, '{"object": "customer", "id": "cus_1"}'), 'whsec_test_secret', '2023-11-14 22:13')],
    ARRAY['2023-11-14 22:14', NULL]::timestamptz[]);

-- Handlers are called once for each event, and one that raises is no harm to the other events.
CREATE TABLE called (id text);
CREATE FUNCTION call(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.called VALUES (e.id);
    IF e.id = 'evt_31' THEN
        RAISE 'not this one';
    END IF;
END $$;
INSERT INTO stripe_portal.event_handler VALUES ('customer.subscription.*', 'public.call');
SELECT * FROM deliver(
    event('evt_30', 'customer.subscription.created', 0, subscription(10, 'active')),
    event('evt_31', 'customer.subscription.created', 0, subscription(11, 'active')),
    event('evt_32', 'customer.subscription.created', 0, subscription(12, 'active')));
SELECT * FROM called ORDER BY id;
SELECT count(*) FROM stripe_portal.subscription WHERE id IN ('sub_10', 'sub_11', 'sub_12');
DELETE FROM stripe_portal.event_handler;

-- Five hundred events, all at once and one by one, end in the same rows.
TRUNCATE stripe_portal.event, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.price;
CREATE TABLE story AS
SELECT event('evt_' || n || '_' || step, CASE step WHEN 0 THEN 'customer.subscription.created' ELSE 'customer.subscription.updated' END,
             -- some share a second
             n * 100 + (ARRAY[0, 10, 20, 20, 30])[step + 1],
             subscription(n, CASE WHEN step = 4 AND n % 3 = 0 THEN 'canceled' WHEN step = 1 AND n % 4 = 0 THEN 'past_due' ELSE 'active' END, 1 + step * (n % 5))
             || CASE WHEN step = 3 THEN '{"cancel_at_period_end": true, "cancellation_details": {"reason": "cancellation_requested"}}' ELSE '{}' END::jsonb) AS payload
FROM generate_series(1, 100) AS n, generate_series(0, 4) AS step;
CREATE VIEW state AS
SELECT 's' AS kind, to_jsonb(s) AS row FROM stripe_portal.subscription AS s
UNION ALL SELECT 'h', to_jsonb(h) FROM stripe_portal.subscription_change AS h
UNION ALL SELECT 'c', to_jsonb(c) FROM stripe_portal.cancellation AS c
UNION ALL SELECT 'p', to_jsonb(p) FROM stripe_portal.price AS p;
SELECT outcome, count(*) FROM deliver(VARIADIC ARRAY(SELECT payload FROM story ORDER BY md5(payload))) GROUP BY outcome;
CREATE TABLE at_once AS SELECT * FROM state;
TRUNCATE stripe_portal.event, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.price;
SELECT outcome, count(*)
FROM (SELECT payload FROM story ORDER BY md5(payload || 'x')) AS s, stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_test_secret'))
GROUP BY outcome;
SELECT kind, count(*) FROM state GROUP BY kind ORDER BY kind;
SELECT count(*) AS only_at_once FROM (TABLE at_once EXCEPT TABLE state) AS d;
SELECT count(*) AS only_one_by_one FROM (TABLE state EXCEPT TABLE at_once) AS d;

-- Nothing, and what makes no sense.
SELECT count(*) FROM stripe_receive_webhooks('{}', '{}');
SELECT count(*) FROM stripe_receive_webhooks(NULL, NULL);
\set VERBOSITY default
SELECT stripe_receive_webhooks('{a,b}', '{x}');
SET stripe_portal.webhook_secret = '';
SELECT outcome FROM stripe_receive_webhooks('{a}', '{x}');
RESET stripe_portal.webhook_secret;
BEGIN READ ONLY;
SELECT stripe_receive_webhooks('{a}', '{x}');
ROLLBACK;
DROP VIEW state;
DROP TABLE called, story, at_once;
DROP FUNCTION event, subscription, deliver, call;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.price;
RESET ALL;
