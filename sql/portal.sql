-- The portal: stripe_portal_session and stripe_portal_open, against the
-- stand-in, with the subscribers' state brought by webhooks.
\set VERBOSITY terse

-- What the stand-in saw of us since the last look.
CREATE FUNCTION requests(OUT request text, OUT params jsonb) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT r ->> 'method' || ' ' || (r ->> 'path'), r -> 'params'
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r
$$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$ SELECT stripe_api('POST', '/v1/test_helpers/stand_in/reset') $$;
-- Everything the stand-in has to tell, received.
CREATE FUNCTION receive() RETURNS void LANGUAGE sql AS $$
    SELECT stripe_receive_webhook(d ->> 'payload', d ->> 'signature')
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d
$$;
CREATE FUNCTION become(subscription text, status text) RETURNS void LANGUAGE sql AS $$
    SELECT stripe_api('POST', format('/v1/test_helpers/stand_in/subscriptions/%s/status', subscription), jsonb_build_object('status', status));
    SELECT receive();
$$;

SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_1", "email": "jenny@example.com"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_1", "customer": "cus_1", "price": "price_1"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_2"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_2", "customer": "cus_2", "price": "price_1"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_3"}');
SELECT FROM receive();
SELECT FROM become('sub_2', 'past_due');
SELECT id, customer, status FROM stripe_portal.subscription ORDER BY 1;

-- ---------------------------------------------------------------------------
-- The main path: a subscriber gets a URL, and the ledger gets a row without it.
SELECT FROM forget();
SELECT stripe_portal_session('cus_1', 'https://app.example.com/account') AS url \gset
SELECT :'url' LIKE 'https://%' AS is_url;
SELECT * FROM requests();
SELECT customer, flow, return_url, configuration LIKE 'bpc\_%' AS configuration, stripe_id LIKE 'bps\_%' AS stripe_id,
       refused, opened_by = current_user AS opened_by_me, created = now() AS now FROM stripe_portal.session WHERE created > now() - interval '1 minute';
SELECT count(*) FROM stripe_portal.session AS s WHERE position(:'url' IN s::text) > 0 OR position(split_part(:'url', '/', 6) IN s::text) > 0;

-- without an argument, the setting says where to return to
SET stripe_portal.return_url = 'https://app.example.com/from-setting';
SELECT FROM forget();
SELECT stripe_portal_session('cus_1') LIKE 'https://%' AS url;
SELECT params FROM requests();

-- Configuration, locale and whatever else Stripe takes are passed through.
SELECT FROM forget();
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations', '{"features": {"invoice_history": {"enabled": true}, "payment_method_update": {"enabled": true}}}');
SELECT stripe_api('GET', '/v1/billing_portal/configurations', '{"limit": 1}') #>> '{data,0,id}' AS configuration \gset
SELECT FROM forget();
SELECT url IS NOT NULL AS url, refused FROM stripe_portal_open('cus_1', options => jsonb_build_object('configuration', :'configuration', 'locale', 'de', 'expand', '["configuration"]'::jsonb));
SELECT request, params - 'configuration' AS params, params ->> 'configuration' = :'configuration' AS configuration FROM requests();
SELECT locale, configuration = :'configuration' AS configuration FROM stripe_portal.session WHERE locale IS NOT NULL;
SELECT stripe_portal_session('cus_1', options => '{"colour": "blue"}');
\echo :LAST_ERROR_SQLSTATE

-- A flow, and what goes with it.
SELECT FROM forget();
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', 'https://app.example.com', 'payment_method_update');
SELECT url IS NOT NULL AS url FROM stripe_portal_open('cus_1', 'https://app.example.com', 'subscription_cancel', 'sub_1',
    '{"flow_data": {"after_completion": {"type": "redirect", "redirect": {"return_url": "https://app.example.com/bye"}}}}');
SELECT params FROM requests();
SELECT flow, subscription FROM stripe_portal.session WHERE flow <> 'portal' ORDER BY 1;

-- ---------------------------------------------------------------------------
-- Refused: no request leaves, and stripe_portal_open leaves a trace.
SELECT FROM forget();
\set VERBOSITY default
SELECT stripe_portal_session('cus_2');
\echo :LAST_ERROR_SQLSTATE
SELECT stripe_portal_session('cus_3');
SELECT stripe_portal_session('cus_nobody');
\set VERBOSITY terse
SELECT session IS NOT NULL AS session, url, refused FROM unnest(ARRAY['cus_2', 'cus_3', 'cus_nobody']) AS c, stripe_portal_open(c) AS o;
SELECT count(*) AS requests FROM requests();
SELECT customer, refused, stripe_id, opened_by = current_user AS opened_by_me FROM stripe_portal.session WHERE refused IS NOT NULL ORDER BY customer;

-- who has lapsed may still come back by paying
SELECT url IS NOT NULL AS may_pay FROM stripe_portal_open('cus_2', flow => 'payment_method_update');
SELECT FROM become('sub_2', 'unpaid');
SELECT url IS NOT NULL AS may_pay FROM stripe_portal_open('cus_2', flow => 'payment_method_update');
SELECT FROM become('sub_2', 'canceled');
SELECT url, refused FROM stripe_portal_open('cus_2', flow => 'payment_method_update');
-- a deleted customer
SELECT FROM stripe_api('DELETE', '/v1/customers/cus_2');
SELECT FROM receive();
SELECT url, refused FROM stripe_portal_open('cus_2');
\set VERBOSITY default
SELECT stripe_portal_session('cus_2');
\set VERBOSITY terse

-- The customer is refused although Stripe would not mind: with several
-- subscriptions one active is enough.
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_3", "customer": "cus_3", "price": "price_1"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_4", "customer": "cus_3", "price": "price_1"}');
SELECT FROM receive();
SELECT FROM become('sub_3', 'canceled');
SELECT url IS NOT NULL AS one_of_two FROM stripe_portal_open('cus_3');
SELECT FROM become('sub_4', 'canceled');
SELECT url IS NOT NULL AS none_of_two, refused FROM stripe_portal_open('cus_3');

-- ---------------------------------------------------------------------------
-- The rule once more while the row is written: the cancellation that landed
-- during the call, here by a trigger that plays it.
CREATE FUNCTION cancel_meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.refused IS NULL THEN
        UPDATE stripe_portal.subscription SET status = 'canceled' WHERE customer = NEW.customer;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cancel_meanwhile BEFORE INSERT ON stripe_portal.session FOR EACH ROW EXECUTE FUNCTION cancel_meanwhile();
SELECT FROM forget();
SELECT stripe_portal_session('cus_1');
SELECT session IS NOT NULL AS session, url, refused FROM stripe_portal_open('cus_1');
SELECT count(*) AS requests FROM requests();
DROP TRIGGER cancel_meanwhile ON stripe_portal.session;
DROP FUNCTION cancel_meanwhile();
-- An error that is no refusal stays one, and leaves nothing of the function's
-- rights to a caller who catches it.
CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the way'; END $$;
CREATE TRIGGER in_the_way AFTER INSERT ON stripe_portal.session FOR EACH ROW EXECUTE FUNCTION in_the_way();
CREATE ROLE regress_catcher;
GRANT EXECUTE ON FUNCTION stripe_portal_open TO regress_catcher;
CREATE TABLE noted (what text);
GRANT INSERT ON noted TO regress_catcher;
SET SESSION AUTHORIZATION regress_catcher;
DO $$
BEGIN
    INSERT INTO noted VALUES ('before');
    BEGIN
        PERFORM stripe_portal_open('cus_1');
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE '%, caught as %', SQLERRM, current_user;
    END;
    RAISE NOTICE 'goes on as %', current_user;
    INSERT INTO noted VALUES ('after');
END $$;
RESET SESSION AUTHORIZATION;
SELECT * FROM noted;
DROP TABLE noted;
DROP OWNED BY regress_catcher;
DROP ROLE regress_catcher;
DROP TRIGGER in_the_way ON stripe_portal.session;
DROP FUNCTION in_the_way();
-- (the try was undone with everything in it)
SELECT status FROM stripe_portal.subscription WHERE id = 'sub_1';

-- ---------------------------------------------------------------------------
-- Arguments
SELECT FROM forget();
SELECT stripe_portal_session(NULL);
SELECT stripe_portal_session('');
SELECT stripe_portal_session('cus_1', flow => 'subscription_cancl');
SELECT stripe_portal_session('cus_1', flow => 'access');
SELECT stripe_portal_session('cus_1', subscription => 'sub_1');
SELECT stripe_portal_session('cus_1', options => '[]');
SELECT stripe_portal_session('cus_1', options => '"x"');
SELECT stripe_portal_session('cus_1', options => '{"customer": "cus_3"}');
SELECT stripe_portal_session('cus_1', options => '{"customer_account": "acct_3"}');
SELECT stripe_portal_session('cus_1', options => '{"return_url": "https://evil.example"}');
SELECT stripe_portal_session('cus_1', options => '{"flow_data": {"type": "subscription_update"}}');
SELECT stripe_portal_session('cus_1', flow => 'payment_method_update', options => '{"flow_data": {"type": "subscription_update"}}');
-- a name in brackets says the same to Stripe
SELECT stripe_portal_session('cus_1', options => '{"flow_data[type]": "subscription_update"}');
SELECT stripe_portal_session('cus_1', options => '{"customer[]": "cus_3"}');
SELECT stripe_portal_session('cus_1', flow => 'payment_method_update', options => '{"flow_data": {"type]": "subscription_update"}}');
SELECT count(*) AS requests FROM requests();

-- Return URLs
DO $$
DECLARE
    url text;
    detail text;
BEGIN
    FOREACH url IN ARRAY ARRAY['/account', 'app.example.com', 'ftp://app.example.com', 'javascript:alert(1)', 'http://app.example.com/',
        'https://', 'https:///path', 'https://user:pw@app.example.com/', 'https://app.example.com\@evil.example', 'https://app.example.com/a b',
        E'https://app.example.com/\n', 'https://app.example.com:x/', 'https://app.example.com:123456/', 'https://bücher.example/', 'https://[::1',
        'https://app.example.com/' || repeat('x', 3000), '']
    LOOP
        BEGIN
            PERFORM stripe_portal_session('cus_1', url);
            RAISE NOTICE '% is accepted', url;
        EXCEPTION WHEN invalid_parameter_value THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            RAISE NOTICE '%: %', rpad(quote_literal(left(url, 40)), 45), detail;
        END;
    END LOOP;
END $$;
SELECT count(*) AS requests FROM requests();
SELECT url, stripe_portal_session('cus_1', url) LIKE 'https://%' AS accepted
FROM unnest(ARRAY['http://localhost:3000/account', 'http://127.0.0.1/', 'http://[::1]:8080', 'HTTPS://App.Example.com:8443/x?y=1#z']) AS url;

SET stripe_portal.return_hosts = 'app.example.com, *.shop.example';
SELECT url, stripe_portal_session('cus_1', url) LIKE 'https://%' AS accepted
FROM unnest(ARRAY['https://app.example.com/', 'https://APP.example.com:8443', 'https://eu.shop.example/x', 'https://a.b.shop.example']) AS url;
DO $$
DECLARE
    url text;
    detail text;
BEGIN
    FOREACH url IN ARRAY ARRAY['https://example.com', 'https://app.example.com.evil.example', 'https://evil.example/?app.example.com', 'https://shop.example',
        'https://badshop.example', 'http://localhost/', 'https://app.example.com.']
    LOOP
        BEGIN
            PERFORM stripe_portal_session('cus_1', url);
            RAISE NOTICE '% is accepted', url;
        EXCEPTION WHEN invalid_parameter_value THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            RAISE NOTICE '%: %', url, detail;
        END;
    END LOOP;
END $$;
-- so is where a flow leads when it is completed
SELECT stripe_portal_session('cus_1', 'https://app.example.com', 'payment_method_update',
    options => '{"flow_data": {"after_completion": {"type": "redirect", "redirect": {"return_url": "https://evil.example/"}}}}');
-- the setting is checked like an argument
SET stripe_portal.return_url = 'https://elsewhere.example/';
SELECT stripe_portal_session('cus_1');
RESET stripe_portal.return_url;
RESET stripe_portal.return_hosts;

-- ---------------------------------------------------------------------------
-- What Stripe refuses keeps its own words, and leaves no row.
SELECT count(*) AS before FROM stripe_portal.session \gset
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/default_configuration', '{"exists": false}');
SELECT stripe_portal_session('cus_1', 'https://app.example.com');
\echo :LAST_ERROR_SQLSTATE
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/default_configuration', '{"exists": true}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/fault', '{"kind": "invalid_json", "path": "/v1/billing_portal/sessions"}');
SELECT stripe_portal_session('cus_1', 'https://app.example.com');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) - :before AS new_rows FROM stripe_portal.session;

-- Nothing is opened in a read-only transaction: the ledger has to be written.
BEGIN READ ONLY;
SELECT stripe_portal_session('cus_1');
ROLLBACK;

DROP FUNCTION requests, receive, become, forget;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.session;
