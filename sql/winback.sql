-- Win-back rules: what they may say, whom they fit, who is held out.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TIME ZONE 'UTC';
INSERT INTO stripe_portal.coupon (id, livemode, percent_off, duration, duration_in_months, valid, deleted, redeem_by, event, event_created) VALUES
    ('STAY20', false, 20, 'repeating', 3, true, false, NULL, 'evt_1', now()),
    ('GONE', false, 20, 'once', NULL, true, true, NULL, 'evt_1', now()),
    ('OVER', false, 20, 'once', NULL, true, false, now() - interval '1 day', 'evt_1', now()),
    ('USED_UP', false, 20, 'once', NULL, false, false, NULL, 'evt_1', now()),
    ('LIVE', true, 20, 'once', NULL, true, false, NULL, 'evt_1', now());

-- ---------------------------------------------------------------------------
-- Writing one.  What it takes is refused, with a reason, if it could not work.
CREATE FUNCTION attempt(rule jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
    complete jsonb := '{"name": "attempt", "livemode": false, "account": "", "active": true, "trigger_on": "cancel_asked", "kind": "message",
        "wait": "0", "valid_for": "14 days", "priority": 0, "cap_per_customer": 1, "holdout": 0, "since": "now", "owner": ""}';
BEGIN
    complete := complete || jsonb_build_object('created', now())
        || CASE WHEN rule ->> 'kind' = 'cancel_flow_coupon' THEN '{}' ELSE '{"subject": "s", "body": "b"}' END::jsonb || rule;
    INSERT INTO stripe_portal.winback_rule SELECT * FROM jsonb_populate_record(NULL::stripe_portal.winback_rule, complete);
    RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION
    WHEN SQLSTATE 'ZZ000' THEN RETURN 'ok';
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        RETURN concat_ws(' | ', SQLERRM, CASE WHEN detail NOT LIKE 'It is in win-back rule %' AND detail NOT LIKE 'Failing row %' THEN nullif(detail, '') END,
                         CASE WHEN hint NOT LIKE 'The comments on %' THEN nullif(hint, '') END);
END $$;

SELECT rule, attempt(rule::jsonb) FROM unnest(ARRAY[
    '{}',
    '{"feedback": ["too_expensive", "fbo_1QxYz"], "reason": ["cancellation_requested"], "country": ["DE", "AT"]}',
    '{"mrr_from": 1000, "mrr_to": 5000, "currency": "eur", "age_from": "3 mons", "age_to": "1 year"}',
    -- nobody, or nothing there is
    '{"feedback": ["too_expensve"]}', '{"feedback": []}', '{"feedback": [null]}', '{"reason": ["because"]}', '{"country": ["Germany"]}',
    '{"trigger_on": "payment_failed", "feedback": ["other"]}', '{"trigger_on": "someday"}', '{"kind": "letter"}', '{"currency": "EUR"}',
    -- ranges
    '{"mrr_from": 2, "mrr_to": 1, "currency": "eur"}', '{"mrr_from": 1}', '{"mrr_from": -1, "currency": "eur"}',
    '{"age_from": "1 year", "age_to": "1 year"}', '{"age_to": "-1 day"}', '{"wait": "-1 s"}', '{"wait": "101 years"}', '{"cap_window": "1000000 years"}', '{"valid_for": "0"}',
    '{"cap_per_customer": 0}', '{"cap_window": "0"}', '{"holdout": 1.1}', '{"holdout": -0.1}', '{"holdout": "NaN"}',
    -- the coupon
    '{"kind": "coupon", "coupon": "STAY20"}', '{"kind": "coupon", "coupon": "NOWHERE"}', '{"kind": "coupon", "coupon": "LIVE"}',
    '{"kind": "coupon", "coupon": "GONE"}', '{"kind": "promotion_code", "coupon": "OVER"}', '{"kind": "promotion_code", "coupon": "USED_UP"}',
    '{"kind": "coupon"}', '{"kind": "coupon", "coupon": "STAY20", "discount": {}}', '{"kind": "message", "coupon": "STAY20"}',
    -- the discount
    '{"kind": "promotion_code", "discount": {"percent_off": 20, "duration": "repeating", "duration_in_months": 3}}',
    '{"kind": "promotion_code", "discount": {"amount_off": 500, "currency": "eur", "duration": "once", "name": "Come back"}}',
    '{"kind": "coupon", "discount": []}', '{"kind": "coupon", "discount": {}}', '{"kind": "coupon", "discount": {"percent_off": 120, "duration": "once"}}',
    '{"kind": "coupon", "discount": {"percent_off": 0, "duration": "once"}}', '{"kind": "coupon", "discount": {"percent_off": 20}}',
    '{"kind": "coupon", "discount": {"percent_off": 20, "duration": "repeating"}}', '{"kind": "coupon", "discount": {"percent_off": 20, "duration": "once", "duration_in_months": 3}}',
    '{"kind": "coupon", "discount": {"amount_off": 500, "duration": "once"}}', '{"kind": "coupon", "discount": {"amount_off": 1.5, "currency": "eur", "duration": "once"}}',
    '{"kind": "coupon", "discount": {"percent_off": 20, "amount_off": 5, "duration": "once"}}', '{"kind": "coupon", "discount": {"percentoff": 20, "duration": "once"}}',
    -- in the cancel flow
    '{"kind": "cancel_flow_coupon", "coupon": "STAY20"}', '{"kind": "cancel_flow_coupon", "coupon": "STAY20", "feedback": ["other"]}',
    '{"kind": "cancel_flow_coupon", "coupon": "STAY20", "trigger_on": "ended"}', '{"kind": "cancel_flow_coupon", "discount": {"percent_off": 20, "duration": "once"}}',
    '{"kind": "cancel_flow_coupon", "coupon": "STAY20", "wait": "1 h"}', '{"kind": "cancel_flow_coupon", "coupon": "STAY20", "body": "b"}',
    -- what a link can lead to
    '{"kind": "message", "body": ""}', '{"kind": "pause_offer", "trigger_on": "ended"}', '{"kind": "trial_extension"}', '{"kind": "message", "extend_by": "7 days"}',
    '{"kind": "trial_extension", "extend_by": "7 days"}', '{"kind": "update_card"}', '{"kind": "update_card", "trigger_on": "payment_failed"}',
    -- a condition in SQL
    '{"predicate": "country = ''DE'' OR mrr > 1000 -- or nothing"}', '{"predicate": "mrr"}', '{"predicate": "nothing = 1"}', '{"predicate": "true) ; DROP TABLE x; SELECT (true"}',
    '{"predicate": "true) UNION SELECT (true"}', '{"predicate": ""}', '{"predicate": "EXISTS (SELECT FROM nowhere)"}'
]) WITH ORDINALITY AS r (rule, n) ORDER BY n;
DROP FUNCTION attempt;

-- What is left out: the mode is that of the key, and nothing before it is touched.
INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, subject, body) VALUES ('plain', 'ended', 'message', 'We miss you', 'Come back.');
SELECT name, livemode, account, active, wait, valid_for, cap_per_customer, holdout, since <= now() AS since_now, owner = current_user AS mine FROM stripe_portal.winback_rule;
-- nor what happened while it was off, unless it is told to
UPDATE stripe_portal.winback_rule SET active = false, since = '2026-01-01';
UPDATE stripe_portal.winback_rule SET holdout = 0.1;
SELECT since FROM stripe_portal.winback_rule;
UPDATE stripe_portal.winback_rule SET active = true;
SELECT since > now() - interval '1 minute' AS since_now FROM stripe_portal.winback_rule;
UPDATE stripe_portal.winback_rule SET active = false;
UPDATE stripe_portal.winback_rule SET active = true, since = '2026-02-01';
SELECT since FROM stripe_portal.winback_rule;
-- its name decides who is held out, so it stays
UPDATE stripe_portal.winback_rule SET name = 'other';
-- one whose coupon has gone since can be switched off, and not on again
INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, subject, body, coupon) VALUES ('code', 'ended', 'promotion_code', 's', 'b', 'STAY20');
UPDATE stripe_portal.coupon SET deleted = true WHERE id = 'STAY20';
UPDATE stripe_portal.winback_rule SET active = false WHERE name = 'code';
UPDATE stripe_portal.winback_rule SET active = true WHERE name = 'code';
UPDATE stripe_portal.winback_rule SET priority = 7 WHERE name = 'code';
-- restored rows come in whatever order, so they are not looked at
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, coupon, created, owner)
VALUES ('restored', false, 'ended', 'promotion_code', 's', 'b', 'ELSEWHERE', now() - interval '1 day', 'regress_gone');
TRUNCATE stripe_portal.winback_rule CASCADE;
-- a coupon that the tables do not have yet
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "HALF PRICE/2", "percent_off": 50, "duration": "once"}');
\set VERBOSITY default
SELECT stripe_refresh_coupon('HALF PRICE/2') AS found, stripe_refresh_coupon('NOWHERE') AS not_found;
SELECT id, percent_off, duration, event FROM stripe_portal.coupon WHERE id LIKE 'HALF%';
SELECT stripe_refresh_coupon('HALF PRICE/2', livemode => true);

-- ---------------------------------------------------------------------------
-- Whom it fits: each condition, just met and just not.
CREATE FUNCTION fits(rule jsonb, more jsonb DEFAULT '{}') RETURNS boolean LANGUAGE sql AS $$
    SELECT stripe_portal.winback_fits(
        jsonb_populate_record(NULL::stripe_portal.winback_rule, jsonb_build_object('name', 'r', 'livemode', false, 'account', '', 'trigger_on', 'ended', 'owner', current_user) || rule),
        jsonb_populate_record(NULL::stripe_portal.winback_case, '{"livemode": false, "account": "", "trigger_on": "ended", "at": "2026-07-15Z", "started": "2026-01-15Z",
            "customer": "cus_1", "subscription": "sub_1", "feedback": "too_expensive", "feedback_option": "fbo_1", "reason": "cancellation_requested",
            "product": ["prod_a", "prod_b"], "price": ["price_a", "price_b"], "currency": "eur", "mrr": 2000, "country": "DE"}'::jsonb || more)) $$;
SELECT rule, fits(rule::jsonb) FROM unnest(ARRAY[
    '{}', '{"livemode": true}', '{"account": "acct_1"}', '{"trigger_on": "cancel_asked"}',
    '{"feedback": ["unused", "too_expensive"]}', '{"feedback": ["fbo_1"]}', '{"feedback": ["unused"]}',
    '{"reason": ["cancellation_requested"]}', '{"reason": ["payment_failed"]}',
    '{"product": ["prod_b"]}', '{"product": ["prod_c"]}', '{"price": ["price_a"]}', '{"price": ["price_c"]}',
    '{"country": ["FR", "DE"]}', '{"country": ["FR"]}', '{"currency": "eur"}', '{"currency": "usd"}',
    '{"mrr_from": 2000}', '{"mrr_from": 2001}', '{"mrr_to": 2000}', '{"mrr_to": 1999}',
    '{"age_from": "6 mons"}', '{"age_from": "6 mons 1 s"}', '{"age_to": "6 mons"}', '{"age_to": "6 mons 1 s"}',
    '{"predicate": "mrr = 2000 AND ''prod_a'' = ANY (product)"}', '{"predicate": "mrr = 1"}', '{"predicate": "comment = ''x''"}',
    '{"mrr_to": 2000, "country": ["FR"]}'
]) WITH ORDINALITY AS r (rule, n) ORDER BY n;
-- what is not known fits no condition
SELECT rule, fits(rule::jsonb, '{"feedback": null, "feedback_option": null, "reason": null, "mrr": null, "country": null, "started": null, "product": null}')
FROM unnest(ARRAY['{}', '{"feedback": ["other"]}', '{"reason": ["payment_failed"]}', '{"mrr_from": 0}', '{"country": ["DE"]}', '{"age_to": "10 years"}', '{"product": ["prod_a"]}']) AS rule;

-- ---------------------------------------------------------------------------
-- A predicate runs with the rights of whoever wrote it, and writes nothing.
CREATE ROLE regress_marketing;
CREATE TABLE public.account (customer text, vip boolean);
INSERT INTO account VALUES ('cus_1', true);
CREATE TABLE public.secret AS SELECT 1 AS x;
CREATE FUNCTION public.spend() RETURNS boolean LANGUAGE sql AS 'INSERT INTO public.account VALUES (NULL, false) RETURNING true';
CREATE FUNCTION public.unlock() RETURNS boolean LANGUAGE sql AS $$ SELECT set_config('transaction_read_only', 'off', false)::boolean OR public.spend() $$;
CREATE FUNCTION public.insist() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN ASSERT false; END';
CREATE FUNCTION public.whoami() RETURNS text LANGUAGE sql RETURN current_user;
GRANT USAGE ON SCHEMA stripe_portal TO regress_marketing;
GRANT SELECT, INSERT ON stripe_portal.winback_rule TO regress_marketing;
GRANT SELECT ON public.account TO regress_marketing;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA stripe_portal TO regress_marketing;
SELECT fits(format('{"owner": %s, "predicate": %s}', to_json(owner), to_json(predicate))::jsonb) AS fits, owner, predicate
FROM (VALUES ('regress_marketing', 'EXISTS (SELECT FROM public.account AS a WHERE a.customer = candidate.customer AND a.vip)'),
             ('regress_marketing', 'EXISTS (SELECT FROM public.secret)'), (current_user, 'EXISTS (SELECT FROM public.secret)'),
             ('regress_marketing', 'public.whoami() = ''regress_marketing'''), ('regress_nobody', 'true'),
             (current_user, 'public.spend()'), (current_user, 'public.unlock()'), (current_user, 'public.insist()'), (current_user, '1 / (mrr - 2000) > 0')) AS p (owner, predicate);
SELECT count(*) AS untouched, current_user = session_user AS myself FROM account GROUP BY 2;
-- afterwards, everything can be written again
INSERT INTO account VALUES ('cus_2', false);
-- nobody can make one run as somebody else
SET ROLE regress_marketing;
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, predicate, owner, created)
VALUES ('mine', false, 'ended', 'message', 's', 'b', 'true', 'postgres', now() - interval '1 day');
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, predicate)
VALUES ('theirs', false, 'ended', 'message', 's', 'b', 'EXISTS (SELECT FROM public.secret)');
SELECT stripe_portal.winback_predicate('true', 'postgres', NULL);
RESET ROLE;
SELECT name, owner FROM stripe_portal.winback_rule;
TRUNCATE stripe_portal.winback_rule CASCADE;

-- ---------------------------------------------------------------------------
-- Who is held out: always the same, evenly spread, and more of them by a
-- larger share; another rule holds out others.
SELECT stripe_portal.winback_share('plain', 'cus_1') = stripe_portal.winback_share('plain', 'cus_1') AS same,
       round(stripe_portal.winback_share('plain', 'cus_1'), 6) AS cus_1, round(stripe_portal.winback_share('other', 'cus_1'), 6) AS other_rule;
SELECT count(*) FILTER (WHERE share < 0) AS below, count(*) FILTER (WHERE share >= 1) AS above,
       bool_and(abs(n - 1000) < 120) AS even
FROM (SELECT share, count(*) OVER (PARTITION BY floor(share * 10)) AS n
      FROM generate_series(1, 10000) AS i, stripe_portal.winback_share('plain', 'cus_' || i) AS share) AS s;
SELECT count(*) FILTER (WHERE a < 0.2 AND b < 0.2) BETWEEN 340 AND 460 AS independent
FROM generate_series(1, 10000) AS i, stripe_portal.winback_share('plain', 'cus_' || i) AS a, stripe_portal.winback_share('other', 'cus_' || i) AS b;

DROP OWNED BY regress_marketing;
DROP ROLE regress_marketing;
DROP TABLE account, secret;
DROP FUNCTION fits, spend, unlock, insist, whoami;
TRUNCATE stripe_portal.coupon;
