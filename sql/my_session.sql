-- The portal of whoever asks: who that is, is never an argument.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM unnest('{1,2}'::int[]) AS i, stripe_api('POST', '/v1/test_helpers/stand_in/customers', jsonb_build_object('id', 'cus_' || i));
SELECT FROM unnest('{1,2}'::int[]) AS i, stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', jsonb_build_object('id', 'sub_' || i, 'customer', 'cus_' || i, 'price', 'price_1'));
SELECT count(stripe_refresh('cus_' || i)) AS known FROM generate_series(1, 2) AS i;
CREATE ROLE regress_gateway LOGIN;
CREATE ROLE regress_web_user;
GRANT regress_web_user TO regress_gateway;
CREATE ROLE regress_jenny LOGIN;
CREATE ROLE regress_mallory LOGIN;
GRANT regress_gateway TO regress_mallory;
SELECT stripe_portal_grant(r, 'customer') FROM unnest('{regress_web_user,regress_jenny,regress_mallory}'::regrole[]) AS r;
-- what a session is told, and for whom it was opened
CREATE FUNCTION opened() RETURNS TABLE (customer text, flow text, subscription text, locale text, opened_by text) LANGUAGE sql SECURITY DEFINER AS $$
    DELETE FROM stripe_portal.session RETURNING customer, flow, subscription, locale, opened_by $$;

-- No gateway is named: no token is believed.
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SET request.jwt.claims = '{"stripe_customer": "cus_1"}';
SELECT stripe_my_portal_session('https://app.example.com');
RESET SESSION AUTHORIZATION;

SET stripe_portal.gateway_role = 'regress_gateway';
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SELECT stripe_my_portal_session('https://app.example.com') LIKE 'http%' AS url;
SELECT * FROM opened();
SELECT stripe_my_portal_session('https://app.example.com', 'subscription_cancel', '{"locale": "de", "subscription": "sub_1",
    "flow_data": {"after_completion": {"type": "portal_homepage"}}}') LIKE 'http%' AS url;
SELECT * FROM opened();
-- somebody else's subscription
SELECT stripe_my_portal_session('https://app.example.com', 'subscription_cancel', '{"subscription": "sub_2"}');
-- a coupon, a configuration, an account, another customer
SELECT stripe_my_portal_session(flow => 'subscription_cancel', options => '{"flow_data": {"subscription_cancel": {"retention": {"type": "coupon_offer", "coupon_offer": {"coupon": "FREE"}}}}}');
SELECT stripe_my_portal_session(flow => 'subscription_update_confirm', options => '{"flow_data": {"subscription_update_confirm": {"items": [{"price": "price_cheap"}]}}}');
\set VERBOSITY terse
SELECT stripe_my_portal_session(options => '{"configuration": "bpc_1"}');
SELECT stripe_my_portal_session(options => '{"account": "acct_1"}');
SELECT stripe_my_portal_session(options => '{"customer": "cus_2"}');
SELECT stripe_my_portal_session(options => '[]');
SELECT stripe_portal_session('cus_2');
-- an unknown customer in the token, no claim, no token
\set VERBOSITY default
SET request.jwt.claims = '{"stripe_customer": "cus_none"}';
SELECT stripe_my_portal_session();
SET request.jwt.claims = '{"sub": "1", "app_metadata": {"stripe_customer": "cus_2"}}';
SELECT stripe_my_portal_session();
SET request.jwt.claims = '';
SELECT stripe_my_portal_session();
RESET SESSION AUTHORIZATION;
-- a claim further down
SET stripe_portal.customer_claim = 'app_metadata.stripe_customer';
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SET request.jwt.claims = '{"sub": "1", "app_metadata": {"stripe_customer": "cus_2"}}';
SELECT stripe_my_portal_session('https://app.example.com') LIKE 'http%' AS url;
SELECT customer FROM opened();
SET stripe_portal.customer_claim = 'sub';
SET stripe_portal.gateway_role = 'regress_mallory';
RESET SESSION AUTHORIZATION;

-- Who can run SQL can set anything, and even the gateway's role, but has not logged in as it.
SET SESSION AUTHORIZATION regress_mallory;
SET request.jwt.claims = '{"app_metadata": {"stripe_customer": "cus_1"}}';
SELECT stripe_my_portal_session();
SET ROLE regress_gateway;
SET ROLE regress_web_user;
SELECT stripe_my_portal_session();
RESET SESSION AUTHORIZATION;

-- Who logs in with a role of their own.
INSERT INTO stripe_portal.customer_role (role, livemode, customer) VALUES ('regress_jenny', false, 'cus_1'), ('regress_mallory', true, 'cus_1');
SET SESSION AUTHORIZATION regress_jenny;
SET request.jwt.claims = '{"app_metadata": {"stripe_customer": "cus_2"}}';
SELECT stripe_my_portal_session('https://app.example.com') LIKE 'http%' AS url;
SELECT customer, opened_by FROM opened();
UPDATE stripe_portal.customer_role SET customer = 'cus_2';
RESET SESSION AUTHORIZATION;
-- A deleted customer is nobody, whoever names them.
INSERT INTO stripe_portal.customer (id, livemode, deleted, event, event_created) VALUES ('cus_gone', false, true, '', now());
UPDATE stripe_portal.customer_role SET customer = 'cus_gone' WHERE role = 'regress_jenny';
SET SESSION AUTHORIZATION regress_jenny;
SELECT stripe_my_portal_session('https://app.example.com');
RESET SESSION AUTHORIZATION;
UPDATE stripe_portal.customer_role SET customer = 'cus_1';
DELETE FROM stripe_portal.customer WHERE id = 'cus_gone';
-- of a connected account
UPDATE stripe_portal.customer_role SET account = 'acct_1';
SET SESSION AUTHORIZATION regress_jenny;
SELECT stripe_my_portal_session('https://app.example.com');
RESET SESSION AUTHORIZATION;
-- live and test mode are two
SET SESSION AUTHORIZATION regress_mallory;
SELECT stripe_my_portal_session();
RESET SESSION AUTHORIZATION;

-- Before the library is loaded, its settings are anybody's; loading it puts that right.
\c -
SET SESSION AUTHORIZATION regress_mallory;
SET stripe_portal.gateway_role = 'regress_mallory';
SET stripe_portal.customer_claim = 'stripe_customer';
SET request.jwt.claims = '{"stripe_customer": "cus_1"}';
SELECT stripe_my_portal_session();
RESET SESSION AUTHORIZATION;

DROP FUNCTION opened;
DROP OWNED BY regress_gateway, regress_web_user, regress_jenny, regress_mallory;
DROP ROLE regress_gateway, regress_web_user, regress_jenny, regress_mallory;
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
TRUNCATE stripe_portal.customer_role, stripe_portal.session, stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change,
    stripe_portal.product, stripe_portal.price;
