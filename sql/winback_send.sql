-- Win-back: what is due is claimed, sent and reported; the link is opened; the
-- discount is made.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TIME ZONE 'UTC';
SET stripe_portal.winback_url = 'https://app.example.com/offer?t={token}';
SET stripe_portal.return_url = 'https://app.example.com/account';

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
-- A rule, and an offer of it to a customer, due so many minutes ago.
CREATE FUNCTION rule(name text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO stripe_portal.winback_rule
    SELECT * FROM jsonb_populate_record(NULL::stripe_portal.winback_rule, jsonb_build_object('name', name, 'livemode', false, 'account', '', 'active', true,
        'trigger_on', 'cancel_asked', 'kind', 'message', 'subject', 'Dear {{name|customer}}', 'body', 'Stay: {{link}}', 'wait', '0', 'valid_for', '30 days', 'priority', 0,
        'cap_per_customer', 1, 'holdout', 0, 'since', now(), 'created', now(), 'owner', '') || more) $$;
CREATE FUNCTION offer(rule text, customer text, due integer DEFAULT 0, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO stripe_portal.winback_offer
    SELECT (jsonb_populate_record(NULL::stripe_portal.winback_offer, jsonb_build_object('id', md5(concat(rule, customer))::uuid, 'rule', r.name, 'livemode', false, 'account', r.account, 'customer', 'cus_' || customer,
        'episode', 'x', 'trigger_on', r.trigger_on, 'kind', r.kind, 'subscription', 'sub_' || customer, 'at', now() - make_interval(mins => due), 'state', 'planned', 'planned_at', now(),
        'due_at', now() - make_interval(mins => due), 'expires_at', date_trunc('second', now()) + interval '10 days', 'attempts', 0) || more)).*
    FROM stripe_portal.winback_rule AS r WHERE r.name = rule $$;
CREATE FUNCTION person(id text, email text, name text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    INSERT INTO stripe_portal.customer (id, livemode, email, name, event, event_created) VALUES ('cus_' || id, false, email, name, 'evt_1', now()) $$;
CREATE VIEW offers AS SELECT customer, state, attempts, error, sent_at IS NOT NULL AS sent, lease_until > now() AS leased FROM stripe_portal.winback_offer ORDER BY customer;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
    TRUNCATE stripe_portal.winback_offer, stripe_portal.winback_rule, stripe_portal.customer, stripe_portal.subscription, stripe_portal.coupon, stripe_portal.session, stripe_portal.product $$;

-- ---------------------------------------------------------------------------
-- What a customer typed can not leave its place: names, as text and as HTML.
CREATE TABLE hostile (n serial, name text);
INSERT INTO hostile (name) VALUES ('Ada Lovelace'), ('Zoë O''Hara & Söhne "1843"'), ('<script>alert(1)</script>'), ('"><img src=x onerror=alert(1)>'),
    (E'Ada\r\nBcc: all@example.com\r\n\r\nHello'), (E'Ada\u2028\u202ezzub\u200b'), ('{{link}} {{code}}'), ('{{'), ('\1 \\& %s $1'), (E'\t\u0007 '), (''), (NULL);
SELECT n, stripe_portal.winback_render('Dear {{name|you}}, <b>', to_jsonb(h)) AS text, stripe_portal.winback_render('<p title="{{ name | you }}">', to_jsonb(h), true) AS html FROM hostile AS h ORDER BY n;
-- whom a mail could not be addressed to by name without carrying an advertisement
SELECT name, stripe_portal.winback_name(name) FROM unnest(ARRAY['Ada', 'J. R. Tolkien', 'Win at https://evil.example', 'visit evil.example now', 'EVIL.EXAMPLE', 'me@evil.example', repeat('x', 101), '  ']) AS name;
SELECT n, stripe_portal.winback_name(name) FROM unnest(ARRAY['J.R. Ewing', 'пример.рф', E'evil\u3002com', '203.0.113.5/login', E'evil.\u00adcom', E'Ada\u061c\ufeff\u2060 Lovelace']) WITH ORDINALITY AS t (name, n);
-- one address, and nothing else
SELECT email, stripe_portal.winback_address(email) IS NOT NULL AS ok FROM unnest(ARRAY['ada@example.com', 'ada+x@sub.example.com', 'zoë@exämple.com', 'ada', '@example.com', 'a@b@c', 'ada@example.com, all@example.com',
    'ada@example.com;all@example.com', 'Ada <ada@example.com>', E'ada@example.com\r\nBcc: all@example.com', E'ada@example.com\n', ' ada@example.com', '-oQ/tmp@example.com', '"a b"@example.com', E'ada\u2028@example.com',
    repeat('x', 243) || '@example.com', '', NULL]) AS email;
SELECT n, stripe_portal.winback_address(email) IS NOT NULL AS ok FROM unnest(ARRAY[E'ada\u00a0x@example.com', E'ada@exam\u3000ple.com', '{ada}@example.com']) WITH ORDINALITY AS t (email, n);
-- templates with a field that is not there are refused when they are written
SELECT t, stripe_portal.winback_template_problem(t) FROM unnest(ARRAY['Hi', 'Hi {{name}}, {{ code }} until {{expires|soon}}', '@media print {a {b: c}}', 'Hi {{nmae}}', 'Hi {{name', 'Hi {{}}', 'Hi {{name|{{email}}}}']) AS t;
SELECT rule('wrong', '{"body": "Dear {{firstname}}"}');

-- ---------------------------------------------------------------------------
-- Claiming: what is due, the longest first; a lease is one worker's.
SELECT rule('stay', '{"html": "<a href=\"{{link}}\">{{name|Stay}}</a> {{product}}"}');
INSERT INTO stripe_portal.product (id, livemode, name, event, event_created) VALUES ('prod_a', false, 'Letters & more', 'evt_1', now());
SELECT person(c, c || '@example.com', 'Ada <' || c || '>'), offer('stay', c, due, '{"product": "prod_a"}') FROM (VALUES ('a', 3), ('b', 9), ('c', 6), ('d', 0)) AS v (c, due);
SELECT offer('stay', 'e', -60);                                    -- not due
SELECT person('e', 'e@example.com');
SELECT person('f', E'f@example.com\nBcc: x@example.com'), offer('stay', 'f');
SELECT offer('stay', 'g');                                         -- unknown
SELECT person('i', 'i@example.com'), offer('stay', 'i', 9, '{"state": "held_out"}');
SELECT person('j', 'j@example.com'), offer('stay', 'j', 9, '{"state": "canceled", "canceled_because": "came_back"}');
SELECT person('k', 'k@example.com'), offer('stay', 'k', 99, jsonb_build_object('expires_at', now()));
SELECT customer, state, waits_for FROM stripe_portal.winback_outbox ORDER BY due_at, customer;
SELECT customer, email, name, subject, replace(body, link, '(link)') AS body, replace(html, link, '(link)') AS html, code, rule, livemode, account, attempt FROM stripe_winback_claim(2);
CREATE TABLE claimed AS SELECT * FROM stripe_winback_claim(10, '1 hour');
SELECT customer, link ~ '^https://app\.example\.com/offer\?t=[A-Za-z0-9_-]{72}$' AS link, lease IS NOT NULL AS lease FROM claimed ORDER BY 1;
SELECT count(*) FROM stripe_winback_claim(10);
SELECT customer, state, attempts, leased_by = format('%s, process %s', session_user, pg_backend_pid()) AS mine, lease_until - now() > interval '50 minutes' AS an_hour FROM stripe_portal.winback_offer WHERE state = 'claimed' ORDER BY 1;
SELECT customer, waits_for FROM stripe_portal.winback_outbox WHERE state = 'claimed' ORDER BY 1;
SELECT stripe_winback_claim(0);
SELECT stripe_winback_claim(1, '0');
SELECT stripe_winback_claim(1, '2 days');
SELECT stripe_winback_claim(NULL);
SELECT stripe_winback_claim(1, NULL);

-- Reporting: by the lease, as often as one likes.
SELECT stripe_winback_sent(offer, gen_random_uuid()) AS others, stripe_winback_sent(gen_random_uuid(), lease) AS nothing, stripe_winback_sent(offer, NULL) AS none FROM claimed WHERE customer = 'cus_a';
SELECT * FROM offers WHERE customer = 'cus_a';
SELECT stripe_winback_sent(offer, lease) AS first, stripe_winback_sent(offer, lease) AS again, stripe_winback_failed(offer, lease, 'x') AS after_all FROM claimed WHERE customer = 'cus_a';
SELECT * FROM offers WHERE customer = 'cus_a';
-- a failure gives it back, for later
SELECT stripe_winback_failed(offer, lease, '{''d@example.com'': 452 <{d}@example.com> mailbox full}') AS first, stripe_winback_failed(offer, lease, 'again') AS again, stripe_winback_sent(offer, lease) AS too_late FROM claimed WHERE customer = 'cus_d';
SELECT * FROM offers WHERE customer = 'cus_d';
SELECT waits_for, error FROM stripe_portal.winback_outbox WHERE customer = 'cus_d';
SELECT count(*) FROM stripe_winback_claim(10);
-- six times, and no more; each time later
DELETE FROM stripe_portal.winback_offer WHERE customer <> 'cus_d';
CREATE FUNCTION try() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c record;
BEGIN
    UPDATE stripe_portal.winback_offer SET lease_until = now() WHERE customer = 'cus_d';
    SELECT * INTO c FROM stripe_winback_claim(10);
    IF NOT FOUND THEN
        RETURN 'nothing';
    END IF;
    PERFORM stripe_winback_failed(c.offer, c.lease, 'no');
    RETURN (SELECT format('%s, again in %s min', o.attempts, round(extract(epoch FROM o.lease_until - now()) / 60)) FROM stripe_portal.winback_offer AS o WHERE o.id = c.offer);
END $$;
SELECT try() FROM generate_series(2, 7);
SELECT state, waits_for, error FROM stripe_portal.winback_outbox;
-- no report is a failure too, but only when the lease is over; then it is somebody else's
UPDATE stripe_portal.winback_offer SET attempts = 0;
DELETE FROM claimed;
INSERT INTO claimed SELECT * FROM stripe_winback_claim(10);
UPDATE stripe_portal.winback_offer SET lease_until = now() WHERE state = 'claimed';
SELECT attempt FROM stripe_winback_claim(10);
SELECT stripe_winback_sent(offer, lease) AS too_late FROM claimed;
SELECT state, attempts FROM offers WHERE customer = 'cus_d';
-- but a late report counts if nobody else took it up
UPDATE stripe_portal.winback_offer SET lease_until = now() - interval '1 hour' WHERE customer = 'cus_d';
SELECT stripe_winback_sent(id, lease) FROM stripe_portal.winback_offer WHERE customer = 'cus_d';
SELECT * FROM offers WHERE customer = 'cus_d';
SELECT FROM forget();

-- Withdrawn or expired while it was being sent: it stays so, and was sent.
SELECT rule('stay');
SELECT person(c, c || '@example.com'), offer('stay', c) FROM unnest(ARRAY['a', 'b', 'c']) AS c;
DELETE FROM claimed;
INSERT INTO claimed SELECT * FROM stripe_winback_claim(10);
UPDATE stripe_portal.winback_offer SET state = 'canceled', canceled_because = 'came_back', closed_at = now() WHERE customer IN ('cus_a', 'cus_c');
UPDATE stripe_portal.winback_offer SET expires_at = now() - interval '1 s', lease_until = now() - interval '1 s' WHERE customer = 'cus_b';
SELECT stripe_portal.winback_settle();
SELECT customer, CASE customer WHEN 'cus_c' THEN stripe_winback_failed(offer, lease, 'bounced') ELSE stripe_winback_sent(offer, lease) END FROM claimed ORDER BY 1;
SELECT * FROM offers;
SELECT count(*) FROM stripe_winback_claim(10);
SELECT FROM forget();

-- Where the link leads has to be said, if a message has one.
SELECT rule('stay'), rule('plain', '{"body": "Stay!", "html": null}');
SELECT person(c, c || '@example.com') FROM unnest(ARRAY['a', 'b']) AS c;
SELECT offer('stay', 'a'), offer('plain', 'b');
SET stripe_portal.winback_url = '';
SELECT customer, waits_for FROM stripe_portal.winback_outbox ORDER BY 1;
SELECT customer, body, html, link FROM stripe_winback_claim(10);
\set VERBOSITY default
SET stripe_portal.winback_url = 'https://app.example.com/offer';
SELECT stripe_winback_claim(10);
SET stripe_portal.winback_url = 'https://app.example.com/offer?c={customer}&t={token}';
SELECT stripe_winback_claim(10);
SET stripe_portal.winback_url = 'http://app.example.com/offer?t={token}';
SELECT stripe_winback_claim(10);
SET stripe_portal.return_hosts = '*.example.org';
SET stripe_portal.winback_url = 'https://app.example.com/offer?t={token}';
SELECT stripe_winback_claim(10);
RESET stripe_portal.return_hosts;
\set VERBOSITY terse
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- The discount is made by the tick, for what is due; once.
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_a", "name": "Letters"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_a", "product": "prod_a", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
CREATE FUNCTION subscriber(id text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || id, 'email', id || '@example.com'));
    PERFORM stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || id, 'customer', 'cus_' || id, 'price', 'price_a') || more);
    PERFORM stripe_refresh('cus_' || id);
END $$;
CREATE FUNCTION made(what text) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT jsonb_array_elements(stand_in('GET', 'state') #> ARRAY['objects', what]) $$;
SELECT subscriber(c) FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e', 'f']) AS c;
SELECT rule('code', '{"kind": "promotion_code", "discount": {"percent_off": 20, "duration": "repeating", "duration_in_months": 3, "name": "Stay"}}');
SELECT rule('mine', '{"kind": "coupon", "discount": {"amount_off": 500, "currency": "eur", "duration": "once", "metadata": {"team": "growth"}}}');
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY30", "percent_off": 30, "duration": "once"}');
SELECT stripe_refresh_coupon('STAY30');
SELECT rule('given', '{"kind": "coupon", "coupon": "STAY30"}'), rule('given_code', '{"kind": "promotion_code", "coupon": "STAY30"}');
SELECT offer('code', 'a'), offer('code', 'b'), offer('mine', 'c'), offer('given', 'd'), offer('given_code', 'e'), offer('code', 'f', -60);
SELECT customer, waits_for FROM stripe_portal.winback_outbox ORDER BY 1;
SELECT count(*) FROM stripe_winback_claim(10);
CREATE FUNCTION portion(INOUT place text) LANGUAGE plpgsql AS $$ BEGIN place := stripe_portal.winback_discount_step(place); END $$;
CREATE PROCEDURE discounts() LANGUAGE plpgsql AS $$
DECLARE
    place text;
BEGIN
    LOOP
        place := portion(place);
        COMMIT;
        EXIT WHEN place IS NULL;
    END LOOP;
END $$;
CALL discounts();
SELECT customer, rule, idempotency_key LIKE 'winback-' || id || '%' AS key, left(coupon, 8) AS coupon, promotion_code ~ '^promo_' AS promotion_code, code ~ '^[0-9A-F]{12}$' AS code, error FROM stripe_portal.winback_offer ORDER BY 1;
SELECT left(c ->> 'id', 8) AS id, c ->> 'name' AS name, c ->> 'percent_off' AS percent, c ->> 'amount_off' AS amount, c ->> 'duration' AS duration, c ->> 'duration_in_months' AS months, c ->> 'max_redemptions' AS uses,
       to_timestamp((c ->> 'redeem_by')::bigint) = (SELECT expires_at FROM stripe_portal.winback_offer WHERE customer = 'cus_c') AS by, c -> 'metadata' AS metadata FROM made('coupon') AS c;
SELECT p ->> 'customer' AS customer, p ->> 'max_redemptions' AS uses, to_timestamp((p ->> 'expires_at')::bigint) = o.expires_at AS expires, p ->> 'code' = o.code AS code, p #>> '{promotion,coupon}' = o.coupon AS coupon, p #>> '{metadata,winback_rule}' AS rule
FROM made('promotion_code') AS p LEFT JOIN stripe_portal.winback_offer AS o ON o.promotion_code = p ->> 'id' ORDER BY 1;
SELECT FROM stand_in('POST', 'reset');
CALL discounts();
SELECT count(*) FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r WHERE r ->> 'path' NOT LIKE '%stand_in%';
SELECT customer, code IS NOT NULL AS code FROM stripe_winback_claim(10) ORDER BY 1;

-- What was made and not recorded is found: by the key on the same day, by the
-- code later, or when the rule was edited in between.
UPDATE stripe_portal.winback_offer SET state = 'planned', lease_until = NULL, promotion_code = NULL, coupon = NULL, code = NULL WHERE customer IN ('cus_a', 'cus_c');
CALL discounts();
SELECT FROM stand_in('POST', 'clock', '{"advance": 172800}');
UPDATE stripe_portal.winback_offer SET promotion_code = NULL, coupon = NULL, code = NULL WHERE customer IN ('cus_a', 'cus_c');
CALL discounts();
UPDATE stripe_portal.winback_rule SET discount = discount || '{"percent_off": 50}' WHERE name = 'code';
UPDATE stripe_portal.winback_rule SET discount = discount || '{"amount_off": 900}' WHERE name = 'mine';
UPDATE stripe_portal.winback_offer SET promotion_code = NULL, coupon = NULL, code = NULL WHERE customer IN ('cus_a', 'cus_c');
CALL discounts();
SELECT o.customer, error, p #>> '{promotion,coupon}' = o.coupon AS the_first FROM stripe_portal.winback_offer AS o LEFT JOIN made('promotion_code') AS p ON p ->> 'id' = o.promotion_code WHERE o.customer IN ('cus_a', 'cus_c') ORDER BY 1;
SELECT count(*) AS codes, count(DISTINCT p ->> 'customer') AS customers FROM made('promotion_code') AS p;
SELECT c ->> 'amount_off' AS amount FROM made('coupon') AS c WHERE c ->> 'amount_off' IS NOT NULL;

-- What Stripe refuses is on the offer, and the others go on; what would befall
-- all ends the part.
SELECT rule('bad', '{"kind": "promotion_code", "coupon": "STAY30"}');
SELECT offer('bad', 'x'), offer('bad', 'b');
CALL discounts();
SELECT customer, promotion_code IS NOT NULL AS made, error FROM stripe_portal.winback_offer WHERE rule = 'bad' ORDER BY 1;
-- put right, it is made the next time
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_x"}');
CALL discounts();
SELECT customer, promotion_code IS NOT NULL AS made, error FROM stripe_portal.winback_offer WHERE rule = 'bad' ORDER BY 1;
-- nor is a connected account that is closed to the key the others' concern
INSERT INTO stripe_portal.winback_rule (name, livemode, account, trigger_on, kind, discount, subject, body)
VALUES ('gone', false, 'acct-gone', 'ended', 'promotion_code', '{"percent_off": 20, "duration": "once"}', 'x', '{{code}}');
INSERT INTO stripe_portal.winback_offer (id, rule, livemode, account, customer, episode, trigger_on, kind, at, state, due_at, expires_at)
VALUES ('00000000-0000-4000-8000-000000000001', 'gone', false, 'acct-gone', 'cus_1', 'e', 'ended', 'promotion_code', now(), 'planned', now(), now() + interval '14 days');
SELECT offer('bad', 'f');
CALL discounts();
SELECT rule, promotion_code IS NOT NULL AS made, left(error, 16) AS error FROM stripe_portal.winback_offer WHERE rule = 'gone' OR rule = 'bad' AND customer = 'cus_f' ORDER BY 1;
DELETE FROM stripe_portal.winback_offer WHERE rule = 'gone';
DELETE FROM stripe_portal.winback_rule WHERE name = 'gone';
SELECT offer('bad', 'c'), offer('bad', 'd');
SET stripe_portal.max_retries = 0;
SELECT FROM stand_in('POST', 'fault', '{"kind": "rate_limited", "path": "/v1/promotion_codes"}');
CALL discounts();
SELECT customer, promotion_code IS NOT NULL AS made, error FROM stripe_portal.winback_offer WHERE customer IN ('cus_c', 'cus_d') AND rule = 'bad' ORDER BY 1;
-- an answer that is lost
SELECT FROM stand_in('POST', 'fault', '{"kind": "close_after", "path": "/v1/promotion_codes"}');
CALL discounts();
CALL discounts();
SELECT o.customer, promotion_code IS NOT NULL AS made, (SELECT count(*) FROM made('promotion_code') AS p WHERE p ->> 'customer' = o.customer) AS codes
FROM stripe_portal.winback_offer AS o WHERE o.customer IN ('cus_c', 'cus_d') AND rule = 'bad' ORDER BY 1;
RESET stripe_portal.max_retries;
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- The link.  What is asked of Stripe when it is opened, as often as it is.
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_a", "name": "Letters"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_a", "product": "prod_a", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY30", "percent_off": 30, "duration": "once"}');
SELECT FROM stripe_refresh_coupon('STAY30');
CREATE FUNCTION opened(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    url text;
    detail text;
BEGIN
    url := stripe_winback_open(token);
    RETURN (SELECT coalesce(s #>> '{flow,type}', 'portal')
                   || coalesce(' ' || (s #>> '{flow,subscription_update_confirm,discounts,0}'), '') || coalesce(', then ' || (s #>> '{flow,after_completion,type}'), '')
            FROM made('billing_portal.session') AS s WHERE s ->> 'url' = url);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, CASE WHEN SQLSTATE = 'SPR01' THEN detail END);
END $$;
SELECT rule('message'), rule('code', '{"kind": "promotion_code", "coupon": "STAY30"}'), rule('coupon', '{"kind": "coupon", "coupon": "STAY30"}'), rule('pause', '{"kind": "pause_offer"}'),
       rule('trial', '{"kind": "trial_extension", "extend_by": "7 days"}'), rule('card', '{"kind": "update_card", "trigger_on": "payment_failed"}'), rule('pay', '{"trigger_on": "payment_failed"}'), rule('back', '{"trigger_on": "ended"}');
SELECT subscriber(c) FROM unnest(ARRAY['a', 'b', 'c', 'd']) AS c;
SELECT subscriber('e', '{"trial_period_days": 14}'), subscriber('f', '{"status": "unpaid"}'), subscriber('g', '{"status": "unpaid"}'), subscriber('h');
SELECT offer('message', 'a'), offer('code', 'b'), offer('coupon', 'c'), offer('pause', 'd'), offer('trial', 'e'), offer('card', 'f'), offer('pay', 'g'), offer('back', 'h');
CALL discounts();
CREATE TABLE link AS SELECT rule, offer, lease, substring(link FROM 't=(.*)') AS token FROM stripe_winback_claim(10);
SELECT FROM stripe_api('DELETE', '/v1/subscriptions/sub_h');
SELECT FROM stripe_refresh('cus_h');
SELECT rule, opened(token), opened(token) AS again FROM link ORDER BY 1;
SELECT count(*), count(DISTINCT s ->> 'url') AS sessions FROM made('billing_portal.session') AS s;
-- the trial is a week longer, not two
SELECT to_timestamp((s ->> 'trial_end')::bigint) - t.trial_end AS longer FROM made('subscription') AS s, stripe_portal.subscription AS t WHERE t.id = s ->> 'id' AND t.id = 'sub_e';
-- who was let in, and by whom; the token is nowhere
SELECT customer, flow, opened_by = session_user AS mine, return_url FROM stripe_portal.session ORDER BY created, customer LIMIT 1;

-- Where a flow is not possible any more, the portal is: the discount was taken, the pause is on.
UPDATE stripe_portal.winback_offer SET state = 'accepted', accepted_at = now() WHERE customer = 'cus_b';
SELECT FROM stripe_api('DELETE', '/v1/coupons/STAY30');
SELECT FROM stand_in('POST', 'subscriptions/sub_d/status', '{"status": "paused"}');
SELECT rule, opened(token) FROM link WHERE rule IN ('code', 'coupon', 'pause') ORDER BY 1;

-- What does not open it: another token, another purpose, the time.
SELECT attempt, opened(changed) FROM link, LATERAL (VALUES (1, 'x'), (2, NULL), (3, ''), (4, overlay(token PLACING CASE left(token, 1) WHEN 'A' THEN 'B' ELSE 'A' END FROM 1)),
    (5, overlay(token PLACING CASE right(token, 1) WHEN 'A' THEN 'B' ELSE 'A' END FROM 72))) AS v (attempt, changed) WHERE rule = 'message' ORDER BY 1;
SELECT stripe_portal_return(token) FROM link WHERE rule = 'message';
SET stripe_portal.return_url = 'https://app.example.com/account?t={token}';
SELECT FROM stripe_portal_session('cus_a');
SELECT opened(substring(r #>> '{params,return_url}' FROM 't=(.*)')) FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') WITH ORDINALITY AS x (r, n) WHERE r ->> 'path' LIKE '%sessions' ORDER BY n DESC LIMIT 1;
-- one that has been claimed is good until it expires, whatever became of it
UPDATE stripe_portal.winback_offer SET state = 'canceled', canceled_because = 'came_back' WHERE customer = 'cus_a';
SELECT opened(token) FROM link WHERE rule = 'message';
UPDATE stripe_portal.winback_offer SET expires_at = now() WHERE customer = 'cus_a';
SELECT opened(token) FROM link WHERE rule = 'message';
UPDATE stripe_portal.winback_offer SET expires_at = now() + interval '1 day', claimed_at = NULL WHERE customer = 'cus_a';
SELECT opened(token) FROM link WHERE rule = 'message';
DELETE FROM stripe_portal.winback_offer WHERE customer = 'cus_a';
SELECT opened(token) FROM link WHERE rule = 'message';
SELECT opened(substring(stripe_portal.winback_link(o.id, o.customer, false, '', now() - interval '1 s') FROM 't=(.*)')) FROM stripe_portal.winback_offer AS o WHERE rule = 'card';
BEGIN READ ONLY;
SELECT opened(token) FROM link WHERE rule = 'card';
ROLLBACK;

SELECT FROM forget();
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
DROP VIEW offers;
DROP TABLE hostile, claimed, link;
DROP PROCEDURE discounts;
DROP FUNCTION stand_in, rule, offer, person, forget, try, subscriber, made, portion, opened;
