-- Coming back: placeholders in a return URL, the token, and what
-- stripe_portal_return says of the visit.
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- compiling the views' comparison would take most of the time
SET jit = off;
SET stripe_portal.return_url = 'https://app.example.com/back?t={token}';

CREATE FUNCTION receive() RETURNS void LANGUAGE sql AS $$
    SELECT stripe_receive_webhook(d ->> 'payload', d ->> 'signature')
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d $$;
-- What was sent to Stripe last.
CREATE FUNCTION sent() RETURNS jsonb LANGUAGE sql AS $$
    SELECT stripe_api('GET', '/v1/test_helpers/stand_in/requests') #> '{data,-1,params}' $$;
-- A session: its id at Stripe, and the token that its return URL ends with.
CREATE FUNCTION open_portal(customer text, OUT stripe_id text, OUT token text) LANGUAGE plpgsql AS $$
DECLARE
    opened CONSTANT uuid := session FROM stripe_portal_open(customer);
BEGIN
    stripe_id := s.stripe_id FROM stripe_portal.session AS s WHERE s.id = opened;
    token := substring(sent() ->> 'return_url' FROM 't=(.*)');
END $$;
-- What the customer does there, some time after what was before.
CREATE FUNCTION visit(stripe_id text, action text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    SELECT stripe_api('POST', '/v1/test_helpers/stand_in/clock', '{"advance": 3}');
    SELECT stripe_api('POST', '/v1/test_helpers/stand_in/visit', jsonb_build_object('session', stripe_id, 'action', action) || more) $$;
-- The reason of a refusal, or else the outcomes.
CREATE FUNCTION attempt(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    RETURN (SELECT string_agg(r.outcome, ' ') FROM stripe_portal_return(token) AS r);
EXCEPTION WHEN SQLSTATE 'SPR01' THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail;
END $$;

SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM unnest(ARRAY[2000, 3000]) AS amount,
    stripe_api('POST', '/v1/test_helpers/stand_in/prices', jsonb_build_object('id', 'price_' || amount, 'product', 'prod_1',
        'currency', 'eur', 'unit_amount', amount, 'recurring', jsonb_build_object('interval', CASE amount WHEN 2000 THEN 'month' ELSE 'year' END)));
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY20", "percent_off": 20, "duration": "forever"}');
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/bpc_default', '{"features": {"subscription_update": {"enabled": true,
    "default_allowed_updates": ["price", "quantity"], "products": [{"product": "prod_1", "prices": ["price_2000", "price_3000"]}]}}}');
-- an id that a merchant chose, with what means something in a URL
SELECT FROM (VALUES ('cus_1', 'sub_1'), ('cus_2', 'sub_2'), ('cus/3 ?&=#%ü', 'sub_3')) AS c (customer, subscription),
    stripe_api('POST', '/v1/test_helpers/stand_in/customers', jsonb_build_object('id', customer, 'email', 'jenny@example.com', 'name', 'Jenny')) AS c1,
    stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', jsonb_build_object('id', subscription, 'customer', customer, 'price', 'price_2000')) AS s1;
SELECT FROM receive();

-- ---------------------------------------------------------------------------
-- Placeholders are filled in, and encoded; the ledger keeps them as they were.
SELECT session FROM stripe_portal_open('cus/3 ?&=#%ü', 'https://app.example.com/{customer}/{session}?c={customer}&t={token}#tab') \gset
SELECT replace(regexp_replace(sent() ->> 'return_url', 't=[A-Za-z0-9_-]{72}#', 't=(72 characters)#'), :'session', '(session)') AS return_url;
SELECT return_url, return_until = date_trunc('second', return_until) AND return_until BETWEEN now() + '23:59' AND now() + '24:01' AS a_day,
       returned_at, outcome FROM stripe_portal.session WHERE id = :'session';
-- also where a flow leads to when it is completed, with the same token
SELECT session FROM stripe_portal_open('cus_1', 'https://app.example.com/back?t={token}', 'payment_method_update', options =>
    '{"flow_data": {"after_completion": {"type": "redirect", "redirect": {"return_url": "https://app.example.com/done?t={token}"}}}}') \gset
SELECT replace(sent() #>> '{flow_data,after_completion,redirect,return_url}', 'done', 'back') = sent() ->> 'return_url' AS same_token;
SELECT return_until IS NOT NULL AS token FROM stripe_portal.session WHERE id = :'session';
-- or there alone
SELECT session FROM stripe_portal_open('cus_1', 'https://app.example.com/{customer}', 'payment_method_update', options =>
    '{"flow_data": {"after_completion": {"type": "redirect", "redirect": {"return_url": "https://app.example.com/done?t={token}"}}}}') \gset
SELECT return_until IS NOT NULL AS token FROM stripe_portal.session WHERE id = :'session';
-- no token, nothing to come back with
SELECT session FROM stripe_portal_open('cus_1', 'https://app.example.com/{customer}') \gset
SELECT sent() ->> 'return_url' AS return_url, return_until FROM stripe_portal.session WHERE id = :'session';
-- a refused session has neither
SELECT session FROM stripe_portal_open('cus_nobody') \gset
SELECT refused, return_until, state FROM stripe_portal.session WHERE id = :'session';
-- the length counts when all is filled in
\set VERBOSITY default
SELECT stripe_portal_session('cus_1', 'https://app.example.com/' || repeat('x', 1960) || '{token}');
\set VERBOSITY terse
TRUNCATE stripe_portal.session;

-- ---------------------------------------------------------------------------
-- What happened
SELECT * FROM open_portal('cus_1') \gset
SELECT customer, subscription, outcome, details, session = (SELECT id FROM stripe_portal.session) AS session FROM stripe_portal_return(:'token');
SELECT returned_at >= created AS returned, outcome FROM stripe_portal.session;
-- once
\set VERBOSITY default
SELECT stripe_portal_return(:'token');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse

-- another plan, more of it, another card, another address
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'change_plan', '{"price": "price_3000", "quantity": 3}');
SELECT FROM visit(:'stripe_id', 'update_payment_method');
SELECT FROM visit(:'stripe_id', 'update_customer', '{"email": "jane@example.com", "address": {"city": "Ghent"}}');
SELECT FROM receive();
SELECT subscription, outcome, details - 'item' - 'to' AS details, details -> 'to' ->> 'price' AS price,  details -> 'to' ->> 'quantity' AS quantity, details ->> 'to' LIKE 'pm\_%' AS card
FROM stripe_portal_return(:'token');
SELECT outcome FROM stripe_portal.session ORDER BY created DESC LIMIT 1;

-- a cancellation, and second thoughts at another visit
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'cancel', '{"feedback": "unused"}');
SELECT FROM receive();
SELECT subscription, outcome, details || jsonb_build_object('cancel_at', to_timestamp((details ->> 'cancel_at')::bigint) > now()) AS details FROM stripe_portal_return(:'token');
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'renew');
SELECT FROM receive();
SELECT subscription, outcome FROM stripe_portal_return(:'token');
-- at one and the same visit it is as if nothing had been
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'cancel');
SELECT FROM visit(:'stripe_id', 'renew');
SELECT FROM receive();
SELECT subscription, outcome FROM stripe_portal_return(:'token');

-- an offer that was taken
SELECT session FROM stripe_portal_open('cus_1', flow => 'subscription_cancel', options =>
    '{"flow_data": {"subscription_cancel": {"retention": {"type": "coupon_offer", "coupon_offer": {"coupon": "STAY20"}}}}}') \gset
SELECT substring(sent() ->> 'return_url' FROM 't=(.*)') AS token \gset
SELECT FROM stripe_portal.session AS s, visit(s.stripe_id, 'accept_offer') WHERE s.id = :'session';
SELECT FROM receive();
SELECT subscription, outcome, details ->> 'discount' LIKE 'di\_%' AS discount FROM stripe_portal_return(:'token');

-- a pause, and its end; a cancellation at once
SELECT * FROM open_portal('cus_2') \gset
SELECT FROM visit(:'stripe_id', 'pause');
SELECT FROM receive();
SELECT subscription, outcome, details FROM stripe_portal_return(:'token');
UPDATE stripe_portal.access_rule SET allowed = true WHERE flow = 'portal' AND status = 'paused';
SELECT * FROM open_portal('cus_2') \gset
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/clock', '{"advance": 3}');
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_2/resume');
SELECT FROM receive();
SELECT subscription, outcome FROM stripe_portal_return(:'token');
UPDATE stripe_portal.access_rule SET allowed = false WHERE flow = 'portal' AND status = 'paused';
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/bpc_default', '{"features": {"subscription_cancel": {"mode": "immediately"}}}');
SELECT * FROM open_portal('cus_2') \gset
SELECT FROM visit(:'stripe_id', 'cancel', '{"feedback": "too_expensive"}');
SELECT FROM receive();
SELECT subscription, outcome, details FROM stripe_portal_return(:'token');

-- The webhook comes later than the customer: it can be seen afterwards.
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'change_plan', '{"quantity": 5}');
SELECT subscription, outcome FROM stripe_portal_return(:'token');
SELECT FROM receive();
SELECT c.subscription, c.outcome, c.details #> '{to,quantity}' AS quantity
FROM stripe_portal.observed_change AS c JOIN stripe_portal.session AS s ON s.id = c.session WHERE s.stripe_id = :'stripe_id';

-- Or Stripe is asked, once.
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'change_plan', '{"quantity": 6}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset');
SELECT subscription, outcome, details #> '{to,quantity}' AS quantity FROM stripe_portal_return(:'token', refresh => true);
SELECT FROM stripe_portal_return(:'token', refresh => true);
SELECT r ->> 'path' AS path FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r;
SELECT FROM receive();
-- If that fails, the token has not been used.
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/fault', '{"kind": "invalid_json", "path": "/v1/customers"}');
SELECT outcome FROM stripe_portal_return(:'token', refresh => true);
SELECT outcome FROM stripe_portal_return(:'token', refresh => true);

-- ---------------------------------------------------------------------------
-- Whoever has not come back
SELECT * FROM open_portal('cus_1') \gset
SELECT FROM visit(:'stripe_id', 'change_plan', '{"quantity": 7}');
SELECT FROM receive();
SELECT customer, flow, may_return, outcome FROM stripe_portal.session_unreturned;

-- Every change so far was made while a session was open, or before the first.
SELECT count(*) FROM stripe_portal.change_unexplained;
-- As if nobody had been at the portal: each change of a subscription once, and
-- no news in that a scheduled cancellation comes due.
BEGIN;
DELETE FROM stripe_portal.session;
SELECT subscription, outcome, count(*) FROM stripe_portal.change_unexplained GROUP BY 1, 2 ORDER BY 1, 2;
ROLLBACK;
-- in the Dashboard, the day after
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/clock', '{"advance": 86400}');
SELECT FROM stripe_api('POST', '/v1/subscriptions/sub_1', '{"cancel_at": "max_period_end"}');
SELECT FROM receive();
SELECT customer, subscription, outcome, details - 'cancel_at' AS details, at > now() + '23:59' AS at FROM stripe_portal.change_unexplained;
-- which comes due as was to be expected
SELECT FROM stripe_portal.subscription AS s,
    stripe_api('POST', '/v1/test_helpers/stand_in/clock', jsonb_build_object('advance', extract(epoch FROM s.cancel_at - now())::bigint)) WHERE s.id = 'sub_1';
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions/sub_1/status', '{"status": "canceled"}');
SELECT FROM receive();
SELECT status FROM stripe_portal.subscription WHERE id = 'sub_1';
SELECT subscription, outcome FROM stripe_portal.change_unexplained;

-- ---------------------------------------------------------------------------
-- The token
SELECT * FROM open_portal('cus/3 ?&=#%ü') \gset
SELECT id AS session FROM stripe_portal.session WHERE stripe_id = :'stripe_id' \gset
-- nothing of it can be read but the session's random id
SELECT position('cus' IN decode(translate(:'token', '-_', '+/'), 'base64')) AS customer;
SELECT stripe_portal.token_id(:'token') = :'session' AS session;
-- and it is nowhere in the database
SELECT FROM receive();
SELECT count(*) FROM (SELECT e::text FROM stripe_portal.event AS e UNION ALL SELECT s::text FROM stripe_portal.session AS s) AS r (row)
WHERE position(substr(:'token', 1, 24) IN row) > 0 OR position(substr(:'token', 25, 24) IN row) > 0 OR position(substr(:'token', 49) IN row) > 0;

-- every character changed to every other, left out, put in
SELECT attempt(left(:'token', i - 1) || c || substr(:'token', i + 1)) AS changed, count(*)
FROM generate_series(1, 72) AS i, regexp_split_to_table('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. ', '') AS c
WHERE c <> substr(:'token', i, 1) GROUP BY 1;
SELECT attempt(t) AS odd, count(*) FROM unnest(ARRAY[NULL, '', ' ', 'x', left(:'token', 71), substr(:'token', 2), :'token' || 'A', :'token' || ' ', ' ' || :'token', :'token' || '=', repeat('A', 72),
    upper(:'token'), repeat(:'token', 100000), translate(:'token', '-_', '+/') || '==', :'session']) AS t GROUP BY 1;
-- the id of no session is refused like a forged token
BEGIN;
DELETE FROM stripe_portal.session WHERE id = :'session';
SELECT attempt(:'token');
ROLLBACK;
-- another customer's, account's or mode's row, another row, another purpose
SET session_replication_role = replica;
BEGIN;
UPDATE stripe_portal.session SET customer = 'cus_1' WHERE id = :'session';
SELECT attempt(:'token');
ROLLBACK;
BEGIN;
UPDATE stripe_portal.session SET account = 'acct_1' WHERE id = :'session';
SELECT attempt(:'token');
ROLLBACK;
BEGIN;
UPDATE stripe_portal.session SET livemode = NOT livemode WHERE id = :'session';
SELECT attempt(:'token');
ROLLBACK;
RESET session_replication_role;
SELECT stripe_portal.token_require(:'token', 'winback', customer, livemode, account) FROM stripe_portal.session WHERE id = :'session';
-- the parts of two tokens do not make a third
SELECT token AS other FROM open_portal('cus/3 ?&=#%ü') \gset
SELECT attempt(left(:'token', 24) || substr(:'other', 25)), attempt(left(:'token', 32) || substr(:'other', 33));

-- The API key is rolled: the old one still verifies while it is there.
SET stripe_portal.api_key_file = '';
SET stripe_portal.api_key = 'sk_test_new';
SELECT attempt(:'token');
SET stripe_portal.api_key = 'sk_test_new, sk_test_stand_in_key';
BEGIN;
SELECT attempt(:'token');
ROLLBACK;
SET stripe_portal.api_key = '';
SELECT attempt(:'token');
\echo :LAST_ERROR_SQLSTATE
RESET stripe_portal.api_key_file;
RESET stripe_portal.api_key;

-- not in a read-only transaction, nor by way of somebody's search path
BEGIN READ ONLY;
SELECT stripe_portal_return(:'token');
ROLLBACK;
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
SET search_path = hostile, public, pg_catalog;
SELECT outcome FROM stripe_portal_return(:'token');
RESET search_path;
SELECT isfinite(returned_at) FROM stripe_portal.session WHERE id = :'session';
DROP SCHEMA hostile CASCADE;

-- It expires.
SET stripe_portal.return_token_lifetime = 1;
SELECT * FROM open_portal('cus/3 ?&=#%ü') \gset
SELECT pg_sleep(1);
SELECT attempt(:'token');
RESET stripe_portal.return_token_lifetime;
SELECT u.may_return, u.outcome FROM stripe_portal.session_unreturned AS u JOIN stripe_portal.session AS s ON s.id = u.session WHERE s.stripe_id = :'stripe_id';

DROP FUNCTION receive, sent, open_portal, visit, attempt;
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset', '{"state": true}');
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.session;
