-- Win-back: a coupon in the portal's cancel flow, by a rule.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET stripe_portal.return_url = 'https://app.example.com/account';

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE FUNCTION receive() RETURNS void LANGUAGE sql AS $$
    SELECT stripe_receive_webhook(d ->> 'payload', d ->> 'signature') FROM jsonb_array_elements(stand_in('GET', 'deliveries') -> 'data') AS d $$;
-- Opens the cancel flow, and tells the coupon in it.
CREATE FUNCTION cancel_flow(n integer, options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in('POST', 'reset');
    PERFORM stripe_portal_session('cus_' || n, flow => 'subscription_cancel', options => options);
    RETURN (SELECT r #>> '{params,flow_data,subscription_cancel,retention,coupon_offer,coupon}'
            FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r WHERE r ->> 'path' = '/v1/billing_portal/sessions');
END $$;
CREATE VIEW offers AS
SELECT customer, rule, state, coupon, saved_stage AS saved, saved_at = accepted_at AS at_once, expires_at > now() AS open,
       (SELECT s.retention_coupon FROM stripe_portal.session AS s WHERE s.id = o.session) AS in_session
FROM stripe_portal.winback_offer AS o ORDER BY customer, planned_at;

SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM unnest(ARRAY['STAY20', 'STAY50']) AS id, stripe_api('POST', '/v1/coupons', jsonb_build_object('id', id, 'percent_off', right(id, 2), 'duration', 'repeating', 'duration_in_months', 3));
SELECT FROM generate_series(1, 5) AS i, stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || i));
SELECT FROM generate_series(1, 5) AS i, stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || i, 'customer', 'cus_' || i, 'price', 'price_1'));
SELECT FROM receive();

-- without a rule there is none
SELECT cancel_flow(1) IS NULL AS none, (SELECT count(*) FROM offers) AS offers;
INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, coupon, holdout, since)
VALUES ('stay', 'cancel_asked', 'cancel_flow_coupon', 'STAY20', 0.3, now() - interval '1 hour'),
       ('whales', 'cancel_asked', 'cancel_flow_coupon', 'STAY50', 0, now() - interval '1 hour');
UPDATE stripe_portal.winback_rule SET currency = 'eur', mrr_from = 5000, priority = 1 WHERE name = 'whales';
SELECT n, round(stripe_portal.winback_share('stay', 'cus_' || n), 2) AS share FROM generate_series(1, 5) AS n;

-- Who is held out sees none; every other one does.  Opening it again is not
-- another offer; and what the caller chose is left alone.
SELECT n, cancel_flow(n) FROM generate_series(1, 4) AS n;
SELECT n, cancel_flow(n) FROM generate_series(1, 4) AS n;
SELECT cancel_flow(5, '{"flow_data": {"subscription_cancel": {"retention": {"type": "coupon_offer", "coupon_offer": {"coupon": "STAY50"}}}}}');
SELECT * FROM offers;
SELECT customer, retention_coupon, count(*) FROM stripe_portal.session WHERE retention_coupon IS NOT NULL GROUP BY 1, 2 ORDER BY 1;

-- One takes it, and stays; one cancels all the same; the others close the page.
SELECT FROM stand_in('POST', 'visit', jsonb_build_object('session', (SELECT s.stripe_id FROM stripe_portal.session AS s WHERE s.customer = 'cus_1' ORDER BY created DESC LIMIT 1), 'action', 'accept_offer'));
SELECT FROM receive();
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_2', '{"cancel_at_period_end": true}');
SELECT FROM receive();
SELECT FROM stripe_refresh('cus_1');
SELECT FROM stripe_portal.winback_settle();
SELECT * FROM offers;
-- neither is offered it once more
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_2', '{"cancel_at_period_end": false}');
SELECT FROM receive();
SELECT n, cancel_flow(n) FROM generate_series(1, 2) AS n;
-- not even when it has expired: the cap is one
UPDATE stripe_portal.winback_offer SET expires_at = now() - interval '1 second';
SELECT n, cancel_flow(n) FROM generate_series(1, 4) AS n;
UPDATE stripe_portal.winback_rule SET cap_per_customer = 2;
SELECT n, cancel_flow(n) FROM generate_series(1, 4) AS n;
SELECT customer, count(*), count(*) FILTER (WHERE state = 'held_out') AS held_out FROM offers GROUP BY 1 ORDER BY 1;

-- A coupon that has gone keeps nobody from canceling: neither while the tables
-- do not know it yet, nor afterwards.
SELECT FROM stripe_api('DELETE', '/v1/coupons/STAY20');
TRUNCATE stripe_portal.winback_offer;
SELECT FROM stand_in('POST', 'reset');
SELECT stripe_portal_session('cus_4', flow => 'subscription_cancel') IS NOT NULL AS opened;
SELECT coalesce(r #>> '{params,flow_data,subscription_cancel,retention,coupon_offer,coupon}', 'none') AS coupon, r ->> 'status' AS status
FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') WITH ORDINALITY AS l (r, n) ORDER BY n;
SELECT count(*) FROM offers;
-- any other fault is the caller's to hear of, and so is that of a coupon of their own
SELECT stripe_portal_session('cus_4', flow => 'subscription_cancel', options => '{"theme": "dark"}');
SELECT stripe_portal_session('cus_4', flow => 'subscription_cancel',
    options => '{"flow_data": {"subscription_cancel": {"retention": {"type": "coupon_offer", "coupon_offer": {"coupon": "STAY20"}}}}}');
UPDATE stripe_portal.coupon SET deleted = true WHERE id = 'STAY20';
SELECT n, cancel_flow(n) FROM generate_series(1, 4) AS n;
SELECT count(*) FROM offers;

SELECT FROM stand_in('POST', 'reset', '{"state": true}');
DROP VIEW offers;
DROP FUNCTION receive, cancel_flow, stand_in;
TRUNCATE stripe_portal.winback_offer, stripe_portal.winback_rule, stripe_portal.session, stripe_portal.event, stripe_portal.customer, stripe_portal.subscription,
    stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.product, stripe_portal.price, stripe_portal.coupon, stripe_portal.discount;
