-- For tests of what becomes of the data: a little of everything.  A few people
-- subscribe at the stand-in, fail to pay, leave and are won back; every table has
-- something of it afterwards, written by the extension's own functions;
-- without_a_row tells which has not.
SET TIME ZONE 'UTC';
SET stripe_portal.rate_limit = 1000;
SET stripe_portal.return_url = 'https://app.example.com/account?t={token}';
SET stripe_portal.winback_url = 'https://app.example.com/offer?t={token}';

CREATE FUNCTION public.stand_in(what text, params jsonb DEFAULT NULL, method text DEFAULT 'POST') RETURNS jsonb LANGUAGE sql AS $$
    SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
-- What Stripe has sent so far and was not received yet.
CREATE FUNCTION public.deliver() RETURNS TABLE (outcome text, events bigint) LANGUAGE sql AS $$
    SELECT r.outcome, count(*)
    FROM jsonb_array_elements(public.stand_in('deliveries', NULL, 'GET') -> 'data') AS d, stripe_receive_webhook(d ->> 'payload', d ->> 'signature') AS r
    WHERE NOT EXISTS (SELECT FROM stripe_portal.event AS e WHERE e.id = d ->> 'id')
    GROUP BY 1 ORDER BY 1 $$;
CREATE FUNCTION public.deliver(payload text) RETURNS text LANGUAGE sql AS $$
    SELECT r.outcome
    FROM stripe_receive_webhook(payload, public.stand_in('sign', jsonb_build_object('payload', payload)) ->> 'signature') AS r $$;
CREATE FUNCTION public.wait(days numeric) RETURNS jsonb LANGUAGE sql AS $$
    SELECT public.stand_in('clock', jsonb_build_object('advance', (days * 86400)::integer, 'run', true)) $$;

-- A handler, which tells what it was called for.
CREATE TABLE public.handled (event text);
CREATE FUNCTION public.handle(e stripe_portal.event) RETURNS void LANGUAGE sql AS 'INSERT INTO public.handled VALUES (e.id)';
INSERT INTO stripe_portal.event_handler VALUES ('customer.*', 'public.handle');

-- The catalogue, 45 days ago.
SELECT FROM public.stand_in('reset', '{"state": true}');
SELECT FROM public.stand_in('clock', '{"advance": -3888000}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_letters", "name": "Letters by post"}');
SELECT FROM public.stand_in('prices', '{"id": "price_month", "product": "prod_letters", "currency": "eur", "unit_amount": 900, "recurring": {"interval": "month"}}');
SELECT FROM public.stand_in('prices', '{"id": "price_year", "product": "prod_letters", "currency": "eur", "unit_amount": 9000, "recurring": {"interval": "year"}}');
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY20", "percent_off": 20, "duration": "repeating", "duration_in_months": 3}');
SELECT FROM stripe_api('POST', '/v1/promotion_codes', '{"promotion": {"type": "coupon", "coupon": "STAY20"}, "code": "HELLO"}');
SELECT FROM stripe_api('POST', '/v1/entitlements/features', '{"name": "Ink", "lookup_key": "ink"}') AS f,
    stripe_api('POST', '/v1/products/prod_letters/features', jsonb_build_object('entitlement_feature', f ->> 'id'));

SELECT FROM public.deliver();

-- What the team declares.
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, coupon, subject, body, since) VALUES
    ('stay', false, 'cancel_asked', 'promotion_code', 'STAY20', 'Dear {{name|customer}}', 'Stay for less: {{link}}', now() - interval '200 days'),
    ('card', false, 'payment_failed', 'update_card', NULL, 'Your card', 'See to it: {{link}}', now() - interval '200 days');
UPDATE stripe_portal.winback_rule SET valid_for = '60 days' WHERE name = 'card';
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, holdout, since) VALUES
    ('away', false, 'ended', 'message', 'Come back', 'Come back', 1, now() - interval '200 days');
SELECT FROM stripe_portal_configure('standard', cancel_flows => true, plan_changes => false, return_url => 'https://app.example.com/account');
SELECT FROM stripe_portal_configuration_apply('standard');
INSERT INTO stripe_portal.customer_role VALUES ('postgres', false, '', 'cus_ada');
INSERT INTO stripe_portal.access_rule (flow, status, product, allowed) VALUES ('reports', 'active', 'prod_letters', true);

-- Lives.
SELECT FROM unnest('{ada, ben, cleo, dora, emil}'::text[]) AS name,
    public.stand_in('customers', jsonb_build_object('id', 'cus_' || name, 'email', name || '@example.com', 'name', initcap(name), 'address', '{"country": "DE"}'::jsonb)) AS customer,
    public.stand_in('payment_methods', jsonb_build_object('customer', 'cus_' || name)) AS card,
    public.stand_in('subscriptions', jsonb_build_object('id', 'sub_' || name, 'customer', 'cus_' || name, 'price', 'price_month')) AS subscription,
    public.stand_in('bill', jsonb_build_object('subscription', 'sub_' || name)) AS invoice;
SELECT * FROM public.deliver();
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_cleo', '{"discounts": [{"coupon": "STAY20"}]}');
SELECT FROM public.stand_in('disputes', '{"subscription": "sub_dora"}');
SELECT FROM public.stand_in('renew', '{"subscription": "sub_ben", "decline": "insufficient_funds"}');
SELECT FROM public.wait(10);
SELECT FROM public.deliver();
SELECT FROM stripe_api('POST', '/v1/customers/cus_ada', '{"address": {"country": "FR"}}');
-- who goes, by the portal, and who is not let in
SELECT url IS NOT NULL AS opened, refused FROM stripe_portal_open('cus_ada');
SELECT url IS NOT NULL AS opened, refused FROM stripe_portal_open('cus_nobody');
SELECT FROM stripe_portal.session AS s, public.stand_in('visit', jsonb_build_object('session', s.stripe_id, 'action', 'cancel', 'feedback', 'too_expensive', 'comment', 'I write too few letters'))
WHERE s.customer = 'cus_ada';
SELECT FROM public.stand_in('subscriptions/sub_emil/status', '{"status": "canceled", "reason": "cancellation_requested"}');
SELECT FROM public.deliver();
-- what is not applied: a thin event, one that makes no sense, one that is none
SELECT public.deliver('{"id": "evt_thin", "object": "v2.core.event", "type": "v1.customer.updated", "livemode": false, "created": "2026-01-10T12:00:00.000Z",
    "related_object": {"id": "cus_ada", "type": "customer", "url": "/v1/customers/cus_ada"}}'),
    public.deliver('{"id": "evt_bad", "object": "event", "type": "customer.updated", "livemode": false, "created": 1760000000, "data": {"object": {"object": "customer", "id": "cus_bad", "balance": "x"}}}'),
    public.deliver('{"id": "evt_other", "object": "event", "type": "climate.order.created", "livemode": false, "created": 1760000000, "data": {"object": {"object": "climate.order", "id": "climorder_1"}}}'),
    public.deliver('no event');

-- The rest is read from Stripe, and offers are made and sent.
CALL stripe_sync(ARRAY['customer', 'subscription']);
CALL stripe_portal_tick();
SELECT part, state, error FROM stripe_portal.tick_status WHERE error IS NOT NULL;
SELECT count(*) > 0 AS sent FROM stripe_winback_claim(1) AS c, stripe_winback_sent(c.offer, c.lease) AS sent WHERE sent;
SELECT rule, customer, state FROM stripe_portal.winback_offer ORDER BY 1, 2;

-- One more offer, which is due.
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_dora', '{"cancel_at_period_end": true}');
SELECT FROM public.deliver();
CALL stripe_portal_tick();
SELECT FROM public.deliver();

-- What came after 1.0.0.
SELECT extversion <> '1.0.0' AS current FROM pg_extension WHERE extname = 'stripe_portal' \gset
\if :current
CREATE TABLE public.account (id integer PRIMARY KEY, stripe_customer text);
SELECT stripe_portal_map_users(users => 'public.account', user_column => 'id', customer_column => 'stripe_customer');
SELECT FROM stripe_api('POST', '/v1/customers/cus_ben', '{"address": {"country": "DE"}}');
SELECT FROM public.deliver();
SELECT count(*) > 0 AS forgotten FROM stripe_forget('cus_emil');
\endif

CREATE FUNCTION public.is_empty(name regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found_one boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', name) INTO found_one;
    RETURN NOT found_one;
END $$;
CREATE VIEW public.without_a_row AS
SELECT c.oid::regclass AS relation
FROM pg_class AS c, pg_extension AS e
WHERE e.extname = 'stripe_portal' AND c.oid = ANY (e.extconfig) AND public.is_empty(c.oid);
