-- The portal's flows: what each takes, and what is refused by the mirrored
-- state before a request leaves.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET stripe_portal.return_url = 'https://app.example.com/account';

CREATE FUNCTION requests() RETURNS SETOF jsonb LANGUAGE sql AS $$
    SELECT (r -> 'params') - 'return_url'
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r $$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$ SELECT stripe_api('POST', '/v1/test_helpers/stand_in/reset') $$;
CREATE FUNCTION receive() RETURNS void LANGUAGE sql AS $$
    SELECT stripe_receive_webhook(d ->> 'payload', d ->> 'signature')
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d $$;

SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM unnest(ARRAY[2000, 3000]) AS amount,
    stripe_api('POST', '/v1/test_helpers/stand_in/prices', jsonb_build_object('id', 'price_' || amount, 'product', 'prod_1',
        'currency', 'eur', 'unit_amount', amount, 'tax_behavior', 'exclusive', 'recurring', jsonb_build_object('interval', CASE amount WHEN 2000 THEN 'month' ELSE 'year' END)));
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY20", "percent_off": 20, "duration": "repeating", "duration_in_months": 3}');
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/bpc_default', '{"features": {"subscription_update": {"enabled": true,
    "default_allowed_updates": ["price", "quantity"], "products": [{"product": "prod_1", "prices": ["price_2000", "price_3000"]}]}}}');
-- cus_1 has one subscription, cus_2 several, of which one can be updated
SELECT FROM (VALUES (1, 1), (2, 2), (3, 2), (4, 2)) AS s (id, customer),
    stripe_api('POST', '/v1/test_helpers/stand_in/customers', jsonb_build_object('id', 'cus_' || customer)) WHERE s.id < 3;
SELECT FROM (VALUES (1, 1), (2, 2), (3, 2), (4, 2)) AS s (id, customer),
    stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions',
               jsonb_build_object('id', 'sub_' || s.id, 'customer', 'cus_' || customer, 'price', 'price_2000'));
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_3', '{"cancel_at_period_end": true}');
SELECT FROM receive();
SELECT id AS item FROM stripe_portal.subscription_item WHERE subscription = 'sub_1' \gset

-- ---------------------------------------------------------------------------
-- Every flow, in one call each; the subscription is the customer's only one.
SELECT FROM forget();
SELECT flow, url IS NOT NULL AS url
FROM (VALUES
    (1, 'customer_update', '{}'),
    (2, 'payment_method_update', '{"flow_data": {"after_completion": {"type": "portal_homepage"}}}'),
    (3, 'subscription_cancel', '{"flow_data": {"subscription_cancel": {"retention": {"type": "coupon_offer", "coupon_offer": {"coupon": "STAY20"}}},
                               "after_completion": {"type": "redirect", "redirect": {"return_url": "https://app.example.com/bye"}}}}'),
    (4, 'subscription_pause', '{"locale": "fr"}'),
    (5, 'subscription_update', '{"flow_data": {"after_completion": {"type": "hosted_confirmation", "hosted_confirmation": {"custom_message": "Thank you"}}}}'),
    (6, 'subscription_update_confirm', '{"flow_data": {"subscription_update_confirm": {"items": [{"price": "price_3000", "quantity": 2}],
                               "discounts": [{"coupon": "STAY20"}]}}}')) AS call (n, flow, options),
    stripe_portal_open('cus_1', flow => flow, options => options::jsonb)
ORDER BY n;
SELECT replace(requests::text, :'item', 'ITEM') AS sent FROM requests();
SELECT flow, subscription FROM stripe_portal.session ORDER BY flow;

-- ---------------------------------------------------------------------------
-- Refused here, with no request
SELECT FROM forget();
\set VERBOSITY default
-- several to choose from
SELECT stripe_portal_session('cus_2', flow => 'subscription_update');
-- somebody else's, and one that does not exist, look the same
SELECT stripe_portal_session('cus_2', flow => 'subscription_cancel', subscription => 'sub_1');
SELECT stripe_portal_session('cus_2', flow => 'subscription_cancel', subscription => 'sub_nowhere');
-- a scheduled cancellation, in the classic way and in that of flexible billing
SELECT cancel_at_period_end, cancel_at IS NOT NULL AS cancel_at FROM stripe_portal.subscription WHERE id = 'sub_3';
SELECT stripe_portal_session('cus_2', flow => 'subscription_cancel', subscription => 'sub_3');
\set VERBOSITY terse
UPDATE stripe_portal.subscription SET cancel_at_period_end = false, cancel_at = now() WHERE id = 'sub_3';
SELECT stripe_portal_session('cus_2', flow => 'subscription_cancel', subscription => 'sub_3');
UPDATE stripe_portal.subscription SET cancel_at_period_end = true, cancel_at = NULL WHERE id = 'sub_3';
SELECT stripe_portal_session('cus_2', flow => 'subscription_cancel', subscription => 'sub_3');
-- in a cancel flow it is no candidate, so with one other left that is it
UPDATE stripe_portal.subscription SET status = 'canceled' WHERE id = 'sub_4';
SELECT count(*) AS requests FROM requests();
SELECT url IS NOT NULL AS the_only_one FROM stripe_portal_open('cus_2', flow => 'subscription_cancel');
SELECT subscription FROM stripe_portal.session WHERE customer = 'cus_2';

-- what the portal can not update
SELECT FROM forget();
\set VERBOSITY default
UPDATE stripe_portal.subscription SET items = items || items WHERE id = 'sub_2';
SELECT stripe_portal_session('cus_2', flow => 'subscription_update', subscription => 'sub_2');
UPDATE stripe_portal.subscription SET items = jsonb_build_array(items -> 0), collection_method = 'send_invoice' WHERE id = 'sub_2';
SELECT stripe_portal_session('cus_2', flow => 'subscription_update', subscription => 'sub_2');
UPDATE stripe_portal.subscription SET collection_method = NULL, schedule = 'sub_sched_1' WHERE id = 'sub_2';
SELECT stripe_portal_session('cus_2', flow => 'subscription_cancel', subscription => 'sub_2');
SELECT stripe_portal_session('cus_2', flow => 'subscription_pause', subscription => 'sub_4');
-- nothing to confirm
SELECT stripe_portal_session('cus_1', flow => 'subscription_update_confirm',
    options => '{"flow_data": {"subscription_update_confirm": {"items": [{"price": "price_2000"}]}}}');
SELECT stripe_portal_session('cus_1', flow => 'subscription_update_confirm');
\set VERBOSITY terse
SELECT stripe_portal_session('cus_1', flow => 'subscription_update_confirm',
    options => '{"flow_data": {"subscription_update_confirm": {"items": [{"id": "si_others", "price": "price_3000"}]}}}');
SELECT stripe_portal_session('cus_1', flow => 'subscription_update_confirm',
    options => '{"flow_data": {"subscription_update_confirm": {"items": [{"price": "price_3000"}, {"price": "price_2000"}]}}}');
-- arguments and options that contradict each other
SELECT stripe_portal_session('cus_1', flow => 'payment_method_update', subscription => 'sub_1');
SELECT stripe_portal_session('cus_1', flow => 'customer_update', options => '{"flow_data": {"customer_update": {"subscription": "sub_1"}}}');
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancel', options => '{"flow_data": {"subscription_cancel": {"subscription": "sub_2"}}}');
SELECT stripe_portal_session('cus_1', flow => 'payment_method_update', options => '{"flow_data": {"subscription_cancel": {"subscription": "sub_1"}}}');
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancel', options => '{"flow_data": {"subscription_cancel": [{"subscription": "sub_2"}]}}');
SELECT count(*) AS requests FROM requests();

-- ---------------------------------------------------------------------------
-- What the configuration does not offer, by what is known of it
SET client_min_messages = error;
SELECT stripe_portal_configure('strict', cancel_flows => false, plan_changes => true, options => '{
    "features": {"payment_method_update": {"enabled": true}, "subscription_update": {"products": [{"product": "prod_1", "prices": ["price_2000"]}]}}}');
RESET client_min_messages;
SELECT stripe_portal_session('cus_1', options => '{"configuration": "strict"}');
SELECT stripe_portal_session('cus_1', options => '{"configuration": "strikt"}');
SELECT stripe_portal_session('cus_1', options => '{"configuration": {"name": "strict"}}');
-- until it is applied, the declared default changes nothing
SELECT FROM forget();
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', flow => 'subscription_cancel');
SELECT * FROM requests();
SELECT stripe_portal_configuration_apply('strict') AS strict \gset
SELECT FROM forget();
\set VERBOSITY default
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancel');
SELECT stripe_portal_session('cus_1', flow => 'subscription_update_confirm',
    options => '{"flow_data": {"subscription_update_confirm": {"items": [{"price": "price_3000"}]}}}');
\set VERBOSITY terse
SELECT stripe_portal_session('cus_1', flow => 'customer_update');
SELECT stripe_portal_session('cus_1', flow => 'subscription_pause');
SELECT stripe_portal_session('cus_1', flow => 'subscription_pause', options => jsonb_build_object('configuration', :'strict'));
SELECT count(*) AS requests FROM requests();
-- what it offers is opened, by default, by name and by id
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1');
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', flow => 'payment_method_update', options => '{"configuration": "strict"}');
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', flow => 'subscription_update_confirm', options => jsonb_build_object('configuration', :'strict',
    'flow_data', '{"subscription_update_confirm": {"items": [{"quantity": 2}]}}'::jsonb));
SELECT params ->> 'configuration' = :'strict' AS strict, params #> '{flow_data,type}' AS flow FROM requests() AS params;
-- the way back: an argument goes before the configuration, and that before the setting
SELECT stripe_portal_configure('strict', cancel_flows => true, plan_changes => false, return_url => 'https://app.example.com/{customer}?back=strict');
SELECT FROM forget();
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1');
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', 'https://app.example.com/argument');
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', options => '{"configuration": "bpc_default"}');
SELECT r #>> '{params,return_url}' AS return_url
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r;
SELECT return_url FROM stripe_portal.session WHERE return_url LIKE '%{customer}%';
-- it may not lead where the setting forbids now
SET stripe_portal.return_hosts = 'other.example.com';
SET stripe_portal.return_url = '';
SELECT stripe_portal_session('cus_1');
RESET stripe_portal.return_hosts;
SET stripe_portal.return_url = 'https://app.example.com/account';
-- placeholders are ours to fill in, so Stripe gets no default return URL with one
SELECT path, declared FROM stripe_portal_configuration_diff('strict');
-- another one, such as that of the Dashboard, which offers more, or one that is not known here
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', flow => 'subscription_cancel', options => '{"configuration": "bpc_default"}');
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancel', options => '{"configuration": "bpc_unheard_of"}');
-- what is done in the Dashboard counts as soon as its event is here
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/bpc_default', '{"features": {"subscription_cancel": {"enabled": false}}}');
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/' || :'strict', '{"active": false}');
SELECT FROM receive();
SELECT FROM forget();
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancel', options => '{"configuration": "bpc_default"}');
SELECT stripe_portal_session('cus_1');
SELECT count(*) AS requests FROM requests();
UPDATE stripe_portal.configuration SET is_default = false;
-- with no declared default, it is the Dashboard's
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancel');
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1');
SELECT * FROM requests();

-- ---------------------------------------------------------------------------
-- The other parameters of a session
SELECT FROM forget();
UPDATE stripe_portal.customer SET customer_account = 'acct_c1' WHERE id = 'cus_1';
SELECT stripe_portal_session('cus_1', options => '{"customer_account": "acct_other"}');
SELECT stripe_portal_session('cus_1', options => '{"account": ""}');
-- a connected account has customers of its own
SELECT stripe_portal_session('cus_1', options => '{"account": "acct_1"}');
SELECT count(*) AS requests FROM requests();
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_1"}', account => 'acct_1');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}', account => 'acct_1');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 1, "recurring": {"interval": "month"}}', account => 'acct_1');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_1", "customer": "cus_1", "price": "price_1"}', account => 'acct_1');
SELECT FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries', account => 'acct_1') -> 'data') AS d,
    stripe_receive_webhook(d ->> 'payload', d ->> 'signature');
SELECT FROM forget();
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', options => '{"account": "acct_1"}');
SELECT r -> 'headers' ->> 'stripe-account' AS account, (r -> 'params') - 'return_url' AS params
FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r;
SELECT account, customer FROM stripe_portal.session WHERE account <> '';
-- these and whatever Stripe adds later go through as they are
SELECT FROM forget();
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', options => format('{"on_behalf_of": "acct_2", "locale": "pt-BR", "expand": ["configuration"],
    "after_expiration": {"type": "customer_login", "customer_login": {"expires_at": %s}}}', 2000000000)::jsonb);
SELECT stripe_portal_session('cus_1', options => '{"theme": {"colour": ["blue"]}}');
SELECT * FROM requests();

DROP FUNCTION requests, forget, receive;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.session,
    stripe_portal.configuration, stripe_portal.billing_portal_configuration;
