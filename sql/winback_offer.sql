-- Win-back offers: stories of customers, and what is offered to them.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TIME ZONE 'UTC';
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

-- Stripe's clock: so many seconds after noon of ten days ago.
CREATE FUNCTION clock(second integer) RETURNS bigint LANGUAGE sql STABLE RETURN
    extract(epoch FROM date_trunc('day', now()) - interval '10 days' + interval '12 hours')::bigint + second;
CREATE FUNCTION days(n numeric) RETURNS integer LANGUAGE sql IMMUTABLE RETURN (n * 86400)::integer;
-- A subscription of 20.00 a month, begun 100 days earlier, but for …
CREATE FUNCTION sub(id text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('object', 'subscription', 'id', 'sub_' || id, 'customer', 'cus_' || left(id, 1), 'status', 'active', 'currency', 'eur',
        'created', clock(-days(100)), 'start_date', clock(-days(100)), 'cancel_at', NULL, 'canceled_at', NULL, 'cancel_at_period_end', false, 'ended_at', NULL,
        'cancellation_details', '{"reason": null, "feedback": null, "comment": null}'::jsonb, 'discounts', '[]'::jsonb,
        'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_' || id, 'quantity', 1,
            'price', '{"id": "price_a", "object": "price", "product": "prod_a", "currency": "eur", "type": "recurring", "billing_scheme": "per_unit",
                       "unit_amount": 2000, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}'::jsonb)))) || more $$;
-- What it has after a request to cancel at that second.
CREATE FUNCTION asked(at integer, feedback text DEFAULT NULL) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('canceled_at', clock(at), 'cancel_at', clock(at + days(20)), 'cancel_at_period_end', true,
        'cancellation_details', jsonb_build_object('reason', 'cancellation_requested', 'feedback', feedback, 'comment', NULL)) $$;
CREATE FUNCTION ended(at integer, reason text DEFAULT 'cancellation_requested') RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('status', 'canceled', 'canceled_at', clock(at), 'ended_at', clock(at),
        'cancellation_details', jsonb_build_object('reason', reason, 'feedback', NULL, 'comment', NULL)) $$;
CREATE SEQUENCE event_number;
CREATE FUNCTION event(type text, at integer, object jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', 'evt_' || nextval('event_number'), 'object', 'event', 'type', type, 'created', clock(at), 'livemode', false,
        'data', jsonb_build_object('object', object)) $$;
CREATE FUNCTION deliver(payload jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT outcome || coalesce(': ' || error, '')
    FROM stripe_receive_webhook(payload::text, stripe_sign_webhook(payload::text, 'whsec_test_secret')) $$;
CREATE FUNCTION happens(at integer, object jsonb, type text DEFAULT 'customer.subscription.updated') RETURNS text LANGUAGE sql AS $$ SELECT deliver(event(type, at, object)) $$;
CREATE FUNCTION born(id text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT happens(-days(100), sub(id, more), 'customer.subscription.created') $$;
-- The time since noon of that day.
CREATE FUNCTION since(at timestamptz) RETURNS interval LANGUAGE sql STABLE RETURN at - to_timestamp(clock(0));
CREATE VIEW offers AS
SELECT customer, rule, trigger_on, state, since(at) AS at, since(due_at) AS due, since(expires_at) AS expires, feedback, mrr, saved_stage AS saved, since(saved_at) AS saved_at, canceled_because AS because
FROM stripe_portal.winback_offer ORDER BY planned_at, customer, at, rule;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
    TRUNCATE stripe_portal.winback_offer, stripe_portal.winback_rule, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.subscription, stripe_portal.event,
        stripe_portal.customer, stripe_portal.price, stripe_portal.discount, stripe_portal.coupon, stripe_portal.session $$;
CREATE FUNCTION rule(name text, trigger_on text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO stripe_portal.winback_rule
    SELECT * FROM jsonb_populate_record(NULL::stripe_portal.winback_rule, jsonb_build_object('name', name, 'livemode', false, 'account', '', 'active', true,
        'trigger_on', trigger_on, 'kind', 'message', 'subject', 's', 'body', 'b', 'wait', '1 hour', 'valid_for', '30 days', 'priority', 0, 'cap_per_customer', 1, 'holdout', 0,
        'since', to_timestamp(clock(-days(50))), 'created', now(), 'owner', '') || more) $$;

-- ---------------------------------------------------------------------------
-- A cancellation is asked for, the survey is answered, the customer stays.
SELECT rule('sorry', 'cancel_asked', '{"wait": "60 days", "valid_for": "90 days"}');
SELECT born('a'), happens(0, sub('a', asked(0)));
SELECT * FROM offers;
-- the survey comes with a second event: it is the same episode
SELECT happens(7, sub('a', asked(0, 'too_expensive')));
SELECT customer, state, feedback FROM offers;
-- whose rule stays, or nobody could say what it was
DELETE FROM stripe_portal.winback_rule;
TRUNCATE stripe_portal.winback_rule;
-- thinking again withdraws what was not sent
SELECT happens(300, sub('a'));
SELECT customer, state, saved, saved_at, because FROM offers;
-- asking once more is another episode, for which the cap leaves nothing
SELECT happens(400, sub('a', asked(400)));
SELECT count(*) FROM offers;
UPDATE stripe_portal.winback_rule SET cap_per_customer = 2;
SELECT happens(500, sub('a', asked(400, 'other')));
SELECT customer, state, at, feedback FROM offers;
-- and the customer of another mode or account is another one
SELECT deliver(event('customer.subscription.updated', 0, sub('b', asked(0))) || '{"account": "acct_1"}'), deliver(event('customer.subscription.updated', 0, sub('b', asked(0))) || '{"livemode": true}');
SELECT count(*) FROM offers WHERE customer = 'cus_b';
SELECT FROM forget();

-- What is triggered, by which story.  Each customer tells one.
SELECT FROM unnest(ARRAY['cancel_asked', 'ended', 'payment_failed', 'trial_not_converted']) AS t, rule(t, t);
SELECT born('a'), happens(10, sub('a', ended(10)), 'customer.subscription.deleted');                                              -- at once
SELECT born('b'), happens(10, sub('b', asked(10))), happens(20, sub('b', asked(10) || ended(20)), 'customer.subscription.deleted'); -- and comes due
SELECT born('c'), happens(10, sub('c', '{"status": "past_due"}')), happens(20, sub('c', '{"status": "unpaid"}'));                  -- does not pay
SELECT born('d'), happens(10, sub('d', '{"status": "past_due"}')), happens(20, sub('d', ended(20, 'payment_failed')), 'customer.subscription.deleted');
SELECT born('e', '{"status": "trialing"}'), happens(10, sub('e', ended(10)), 'customer.subscription.deleted');                    -- never paid
SELECT born('f', '{"status": "trialing"}'), happens(10, sub('f', '{"status": "paused"}'));
SELECT born('g', '{"status": "incomplete"}'), happens(10, sub('g', '{"status": "incomplete_expired"}'));                          -- never was one
SELECT born('h'), happens(10, sub('h', '{"pause_collection": {"behavior": "void"}}'));                                              -- goes nowhere
-- in the second it begins in
SELECT happens(10, sub('i', begun), 'customer.subscription.created'), happens(10, sub('i', begun || asked(10)))
FROM jsonb_build_object('created', clock(10), 'start_date', clock(10)) AS begun;
SELECT customer, trigger_on, at, mrr FROM offers;
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- Where they came back: before the end, after it, after paying.
SELECT FROM unnest(ARRAY['cancel_asked', 'ended', 'payment_failed']) AS t, rule(t, t);
SELECT born('a'), happens(10, sub('a', asked(10))), happens(20, sub('a'));
SELECT born('b'), happens(10, sub('b', ended(10)), 'customer.subscription.deleted'), happens(20, sub('b2', jsonb_build_object('created', clock(20), 'start_date', clock(20))), 'customer.subscription.created');
SELECT born('c'), happens(10, sub('c', '{"status": "past_due"}')), happens(20, sub('c'));
-- one that the customer had all along is not coming back; nor is one that is as good as gone
SELECT born('d'), born('d2'), happens(10, sub('d', ended(10)), 'customer.subscription.deleted'), happens(20, sub('d2', '{"metadata": {"x": "y"}}'));
SELECT born('e'), happens(10, sub('e', ended(10)), 'customer.subscription.deleted'), happens(20, sub('e2', jsonb_build_object('created', clock(20), 'start_date', clock(20), 'status', 'incomplete')), 'customer.subscription.created');
SELECT customer, rule, state, saved, saved_at, because FROM offers;
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- Several rules fit: the one with the highest priority.  A better one, that the
-- survey brings in, takes the place of one that is not due yet.
SELECT rule('anybody', 'cancel_asked', '{"wait": "60 days", "valid_for": "90 days"}'), rule('cheaper', 'cancel_asked', '{"priority": 5, "feedback": ["too_expensive"]}'),
       rule('later', 'cancel_asked', '{"priority": -1}'), rule('off', 'cancel_asked', '{"priority": 9, "active": false}');
SELECT born('a'), happens(10, sub('a', asked(10)));
SELECT rule, state FROM offers;
SELECT happens(17, sub('a', asked(10, 'too_expensive')));
SELECT rule, state, because FROM offers;
-- one that is due stays
UPDATE stripe_portal.winback_rule SET wait = '0' WHERE name = 'anybody';
SELECT born('b'), happens(10, sub('b', asked(10))), happens(17, sub('b', asked(10, 'too_expensive')));
SELECT rule, state, feedback FROM offers WHERE customer = 'cus_b';
-- one that is used up leaves it to the next
INSERT INTO stripe_portal.winback_offer (rule, livemode, customer, episode, trigger_on, kind, at, state, due_at, expires_at)
VALUES ('anybody', false, 'cus_c', 'earlier', 'cancel_asked', 'message', to_timestamp(clock(-days(40))), 'expired', to_timestamp(clock(-days(40))), to_timestamp(clock(-days(30))));
SELECT born('c'), happens(10, sub('c', asked(10)));
SELECT rule, state FROM offers WHERE customer = 'cus_c';
-- but not for ever
UPDATE stripe_portal.winback_rule SET cap_window = '30 days' WHERE name = 'anybody';
INSERT INTO stripe_portal.winback_offer (rule, livemode, customer, episode, trigger_on, kind, at, state, due_at, expires_at)
VALUES ('anybody', false, 'cus_d', 'earlier', 'cancel_asked', 'message', to_timestamp(clock(-days(40))), 'expired', to_timestamp(clock(-days(40))), to_timestamp(clock(-days(30))));
SELECT born('d'), happens(10, sub('d', asked(10)));
SELECT rule, state FROM offers WHERE customer = 'cus_d';
SELECT FROM forget();

-- What is over is not started: what happened before the rule, and what would have expired by now.
SELECT rule('new', 'ended', jsonb_build_object('since', to_timestamp(clock(5)))), rule('short', 'cancel_asked', '{"wait": "1 day", "valid_for": "1 day"}');
SELECT born('a'), happens(4, sub('a', ended(4)), 'customer.subscription.deleted');
SELECT born('b'), happens(5, sub('b', ended(5)), 'customer.subscription.deleted');
SELECT customer, rule FROM offers;
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- Held out: nothing, also when the rule changes; the next rule does not step in.
SELECT rule('half', 'ended', '{"holdout": 0.5, "cap_per_customer": 9, "priority": 1}'), rule('next', 'ended');
SELECT c, round(stripe_portal.winback_share('half', 'cus_' || c), 2) AS share FROM unnest(ARRAY['a', 'b', 'c', 'd']) AS c;
SELECT born(c), happens(10, sub(c, ended(10)), 'customer.subscription.deleted') FROM unnest(ARRAY['a', 'b', 'c', 'd']) AS c;
SELECT customer, rule, state FROM offers;
UPDATE stripe_portal.winback_rule SET holdout = 0 WHERE name = 'half';
SELECT happens(20, sub(c || '2', jsonb_build_object('created', clock(20), 'start_date', clock(20))), 'customer.subscription.created'),
       happens(30, sub(c || '2', jsonb_build_object('created', clock(20), 'start_date', clock(20)) || ended(30)), 'customer.subscription.deleted')
FROM unnest(ARRAY['a', 'b', 'c', 'd']) AS c;
SELECT customer, string_agg(state || coalesce(' ' || because, '') || coalesce(', back at ' || extract(epoch FROM saved_at)::integer, ''), '; ' ORDER BY at) FROM offers GROUP BY 1 ORDER BY 1;
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- What became of what was sent.
SELECT rule('message', 'ended');
INSERT INTO stripe_portal.coupon (id, livemode, percent_off, duration, valid, event, event_created) VALUES ('STAY20', false, 20, 'once', true, 'evt_x', now());
SELECT rule('code', 'cancel_asked', '{"kind": "promotion_code", "coupon": "STAY20"}');
SELECT born(c), happens(10, sub(c, ended(10)), 'customer.subscription.deleted') FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e']) AS c;
SELECT count(*) FROM offers WHERE state = 'planned';
DELETE FROM stripe_portal.winback_offer WHERE customer IN ('cus_d', 'cus_e') AND rule = 'message' OR customer NOT IN ('cus_d', 'cus_e') AND rule = 'code';
UPDATE stripe_portal.winback_offer SET state = 'sent', sent_at = to_timestamp(clock(100));
UPDATE stripe_portal.winback_offer SET coupon = 'STAY20', promotion_code = 'promo_' || customer WHERE rule = 'code';
CREATE FUNCTION returns(id text, at integer) RETURNS text LANGUAGE sql AS $$
    SELECT happens(at, sub(id || '2', jsonb_build_object('created', clock(at), 'start_date', clock(at))), 'customer.subscription.created') $$;
-- a comes back after it, b before it, c when it has expired; d with the code, e without
UPDATE stripe_portal.winback_offer SET expires_at = to_timestamp(clock(150)) WHERE customer = 'cus_c';
SELECT returns('a', 200), returns('b', 50), returns('c', 200), returns('d', 200), returns('e', 200);
SELECT happens(200, '{"object": "discount", "id": "di_1", "customer": "cus_d", "subscription": "sub_d2", "coupon": {"id": "STAY20", "object": "coupon"}, "promotion_code": "promo_cus_d"}'::jsonb
                    || jsonb_build_object('start', clock(200)), 'customer.discount.created');
SELECT happens(200, '{"object": "discount", "id": "di_2", "customer": "cus_e", "subscription": "sub_e2", "coupon": {"id": "STAY20", "object": "coupon"}, "promotion_code": "promo_other"}'::jsonb
                    || jsonb_build_object('start', clock(200)), 'customer.discount.created');
-- a discount by itself moves no subscription: the tick looks
SELECT stripe_portal.winback_settle();
SELECT customer, rule, state, saved, saved_at, because FROM offers;
SELECT customer, since(accepted_at) AS accepted, since(closed_at) AS closed FROM stripe_portal.winback_offer ORDER BY 1;
-- looking again changes nothing
SELECT stripe_portal.winback_settle();
SELECT FROM forget();
-- nobody comes
SELECT rule('message', 'ended');
SELECT born(c), happens(10, sub(c, ended(10)), 'customer.subscription.deleted') FROM unnest(ARRAY['a', 'b', 'c']) AS c;
-- what became of them is not worked out again and again, only if there is news of somebody
UPDATE stripe_portal.winback_offer SET expires_at = now() + interval '1 hour';
-- (whoever writes at the moment, as autovacuum may, keeps all that is newer new)
CREATE FUNCTION be_alone() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmax(pg_current_snapshot()) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT be_alone();
SELECT stripe_portal.winback_settle();
SET track_functions = 'pl';
CREATE FUNCTION looked_at(OUT settled integer, OUT worked_out bigint) LANGUAGE plpgsql AS $$
DECLARE
    before CONSTANT bigint := (SELECT sum(calls) FROM pg_stat_xact_user_functions WHERE funcname = 'winback_outcome');
BEGIN
    PERFORM be_alone();
    settled := stripe_portal.winback_settle();
    worked_out := coalesce((SELECT sum(calls) FROM pg_stat_xact_user_functions WHERE funcname = 'winback_outcome'), 0) - coalesce(before, 0);
END $$;
SELECT * FROM looked_at();
INSERT INTO stripe_portal.discount (id, livemode, customer, event, event_created) VALUES ('di_news', false, 'cus_b', '', now());
SELECT * FROM looked_at();
UPDATE stripe_portal.subscription_change SET customer = customer WHERE customer = 'cus_c';
SELECT * FROM looked_at();
SELECT * FROM looked_at();
RESET track_functions;
DROP FUNCTION looked_at, be_alone;
UPDATE stripe_portal.winback_offer SET expires_at = now() - interval '1 hour';
UPDATE stripe_portal.winback_offer SET state = 'sent', sent_at = to_timestamp(clock(100)) WHERE customer = 'cus_b';
UPDATE stripe_portal.winback_offer SET state = 'claimed', lease_until = now() + interval '1 hour' WHERE customer = 'cus_c';
SELECT stripe_portal.winback_settle();
SELECT customer, state FROM offers;
SELECT FROM forget();

-- ---------------------------------------------------------------------------
-- The same facts in every order end in the same offers; a row of failed payments stays one.
SELECT rule('card', 'payment_failed', '{"kind": "update_card"}'), rule('asked', 'cancel_asked');
CREATE TABLE story AS
SELECT row_number() OVER () AS step, e FROM (VALUES
    (event('customer.subscription.created', -days(100), sub('a'))),
    (event('customer.subscription.updated', 10, sub('a', '{"status": "past_due"}'))),
    (event('customer.subscription.updated', 20, sub('a', '{"status": "past_due", "metadata": {"try": "2"}}'))),
    (event('customer.subscription.updated', 37, sub('a', '{"status": "past_due"}' || asked(30, 'unused'))))) AS v (e);
CREATE TEMP TABLE ends (steps bigint[], offers text);
DO $$
DECLARE
    steps bigint[];
BEGIN
    FOR steps IN
        WITH RECURSIVE p AS (SELECT '{}'::bigint[] AS s UNION ALL SELECT p.s || step FROM p, public.story WHERE NOT step = ANY (p.s))
        SELECT s FROM p WHERE cardinality(s) = 4
    LOOP
        TRUNCATE stripe_portal.winback_offer, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.subscription, stripe_portal.event;
        PERFORM public.deliver(e) FROM unnest(steps) WITH ORDINALITY AS o (step, n) JOIN public.story USING (step) ORDER BY n;
        INSERT INTO ends SELECT steps, string_agg(format('%s %s %s %s', rule, state, feedback, mrr), ', ' ORDER BY rule) FROM stripe_portal.winback_offer;
    END LOOP;
END $$;
SELECT offers, count(*) AS orders FROM ends GROUP BY 1 ORDER BY 1;
-- told again, the second time by the ledger itself, it adds nothing
SELECT FROM story, deliver(e);
SELECT FROM stripe_portal.event AS v, stripe_portal.apply_event(v.payload::jsonb), stripe_portal.record_event(v.payload::jsonb);
SELECT stripe_portal.winback_plan('sub_a', false, '');
SELECT count(*) FROM offers;
-- and with the history rebuilt from nothing, neither
TRUNCATE stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation, stripe_portal.subscription, stripe_portal.event;
SELECT FROM story, deliver(e);
SELECT count(*) FROM offers;

SELECT FROM forget();
DROP VIEW offers;
DROP TABLE story, ends;
DROP SEQUENCE event_number CASCADE;
DROP FUNCTION clock, days, sub, asked, ended, event, deliver, happens, born, since, forget, rule, returns;
