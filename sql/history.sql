-- The history of subscriptions: what each was on any day, and every movement of
-- MRR, the same whatever order the facts arrive in.
\set VERBOSITY terse
\getenv source PG_ABS_SRCDIR
\set story :source '/test/story.sql'
\set ECHO none
\i :story
\set ECHO all

-- The end of the order in which the steps are numbered.
CREATE VIEW history AS
SELECT subscription, to_char(at, 'DDD') AS day, CASE WHEN until = 'infinity' THEN '' ELSE to_char(until, 'DDD') END AS until,
       status, nullif(event, '') AS event, inferred, mrr, movement, mrr_change AS change
FROM stripe_portal.subscription_change WHERE account = 'acct_1' ORDER BY subscription, at;

-- ---------------------------------------------------------------------------
-- A life: a trial, the first money, more of it, less of it, a pause, the end.
INSERT INTO story (step, event) VALUES
    (1, event('evt_5', 'created', clock(1), sub('sub_1', jsonb_build_object('status', 'trialing', 'trial_end', clock(8))))),
    (2, event('evt_4', 'updated', clock(8), sub('sub_1'), '{"status": "trialing"}')),
    (3, event('evt_3', 'updated', clock(20), sub('sub_1', '{}', 3), '{"items": {}}')),
    (4, event('evt_2', 'updated', clock(30), sub('sub_1', '{"status": "past_due"}', 2), '{"items": {}}')),
    (5, event('evt_1', 'deleted', clock(50), sub('sub_1', jsonb_build_object('status', 'canceled', 'ended_at', clock(50), 'canceled_at', clock(50)), 2)));
SELECT * FROM ends();
SELECT * FROM history;
-- what it was on a day
SELECT to_char(day(d), 'DDD') AS day, (stripe_subscription_at('sub_1', day(d), 'acct_1')).status, (stripe_subscription_at('sub_1', day(d), 'acct_1')).mrr
FROM unnest(ARRAY[0, 1, 7, 8, 29, 30, 49, 50, 300]) AS d;
SELECT count(*), sum(mrr) FROM stripe_subscriptions_at(day(25), 'acct_1');
SELECT count(*), sum(mrr) FROM stripe_subscriptions_at(day(25), 'acct_1', true);
-- the movements up to a day add up to the MRR of that day
SELECT d AS day, (SELECT sum(mrr_change) FROM stripe_portal.subscription_change WHERE at <= day(d) AND account = 'acct_1') AS moved, (SELECT sum(mrr) FROM stripe_subscriptions_at(day(d), 'acct_1')) AS mrr
FROM unnest(ARRAY[8, 20, 30, 50]) AS d;
-- the MRR of the row that the mirror shows
SELECT stripe_portal.mrr(s, now()) FROM stripe_portal.subscription AS s WHERE account = 'acct_1';

-- Pauses: of the collection, and of the subscription; and a lapse that is paid.
DELETE FROM story;
INSERT INTO story (step, event) VALUES
    (1, event('evt_5', 'created', clock(1), sub('sub_1'))),
    (2, event('evt_4', 'updated', clock(8), sub('sub_1', '{"pause_collection": {"behavior": "void", "resumes_at": null}}'))),
    (3, event('evt_3', 'updated', clock(20), sub('sub_1', '{}', 2))),
    (4, event('evt_2', 'updated', clock(30), sub('sub_1', '{"status": "unpaid"}', 2))),
    (5, event('evt_1', 'updated', clock(50), sub('sub_1', '{}', 2)));
SELECT * FROM ends();
SELECT * FROM history;

-- Canceled out of a pause: the money went with the pause, the subscriber now.
DELETE FROM story WHERE step > 2;
INSERT INTO story (step, event) VALUES (3, event('evt_3', 'deleted', clock(20), sub('sub_1', jsonb_build_object('status', 'canceled', 'ended_at', clock(20), 'canceled_at', clock(20)))));
SELECT * FROM ends();
SELECT * FROM history;

-- One second: the last of its states, and what comes after the end is not taken in.
DELETE FROM story;
INSERT INTO story (step, event) VALUES
    (1, event('evt_z', 'created', clock(1), sub('sub_1', '{"status": "incomplete"}'))),
    (2, event('evt_b', 'updated', clock(1), sub('sub_1'), '{"status": "incomplete"}')),
    (3, event('evt_a', 'updated', clock(1), sub('sub_1', '{}', 4), jsonb_build_object('items', sub('x') -> 'items'))),
    (4, event('evt_d', 'deleted', clock(9), sub('sub_1', jsonb_build_object('status', 'canceled', 'ended_at', clock(9)), 4))),
    (5, event('evt_c', 'updated', clock(10), sub('sub_1', '{}', 4)));
UPDATE story SET event = jsonb_set(event, '{data,previous_attributes,items,data,0,id}', '"si_sub_1"') WHERE step = 3;
SELECT * FROM ends();
SELECT * FROM history;

-- ---------------------------------------------------------------------------
-- Read from the API, the first that is heard of it: what was before is inferred,
DELETE FROM story;
INSERT INTO story (step, object, read_at) VALUES
    (1, sub('sub_1', jsonb_build_object('trial_start', clock(1), 'trial_end', clock(8), 'cancel_at', clock(61), 'canceled_at', clock(40),
        'cancellation_details', '{"reason": "cancellation_requested", "feedback": "unused"}'::jsonb)), clock(45));
SELECT * FROM ends();
SELECT * FROM history;
SELECT to_char(at, 'DDD') AS day, cancel_at, canceled_at, cancellation_reason, cancellation_feedback FROM stripe_portal.subscription_change WHERE account = 'acct_1' ORDER BY at;
-- also what ended long ago,
UPDATE story SET object = object || jsonb_build_object('status', 'canceled', 'ended_at', clock(61)), read_at = clock(100);
SELECT * FROM ends();
SELECT * FROM history;
-- until the events of the time arrive,
INSERT INTO story (step, event) VALUES
    (2, event('evt_3', 'updated', clock(20), sub('sub_1', jsonb_build_object('trial_start', clock(1), 'trial_end', clock(8)), 5))),
    (3, event('evt_2', 'updated', clock(40), sub('sub_1', jsonb_build_object('trial_start', clock(1), 'trial_end', clock(8), 'cancel_at', clock(61), 'canceled_at', clock(40))))),
    (4, event('evt_1', 'created', clock(1), sub('sub_1', jsonb_build_object('status', 'trialing', 'trial_start', clock(1), 'trial_end', clock(8)))));
SELECT * FROM ends();
SELECT * FROM history;
-- and the read tells nothing that they do not.
INSERT INTO story (step, event) VALUES
    (5, event('evt_0', 'deleted', clock(61), (SELECT object FROM story WHERE step = 1)));
SELECT * FROM ends();
SELECT * FROM history;

-- Reads that repeat the fact before them have no row, unless another fact turns out
-- to lie in between; the event that changed it back was lost.
DELETE FROM story;
INSERT INTO story (step, event, object, read_at) VALUES
    (1, event('evt_4', 'created', clock(1), sub('sub_1')), NULL, NULL),
    (2, event('evt_3', 'updated', clock(15), sub('sub_1', '{}', 2), '{"items": {}}'), NULL, NULL),
    (3, event('evt_2', 'updated', clock(40), sub('sub_1', '{}', 3), '{"items": {}}'), NULL, NULL),
    (4, NULL, sub('sub_1'), clock(10)),
    (5, NULL, sub('sub_1'), clock(20)),
    (6, NULL, sub('sub_1'), clock(30));
SELECT * FROM ends();
SELECT * FROM history;
SELECT to_char(at, 'DDD') AS day, ARRAY(SELECT to_char(t, 'DDD') FROM unnest(confirmed_at) AS t) AS confirmed
FROM stripe_portal.subscription_change WHERE account = 'acct_1' ORDER BY at;
-- a read of an event's second is nothing beside it
UPDATE story SET read_at = clock(15) WHERE step = 4;
SELECT * FROM ends();
SELECT * FROM history;
-- and of two reads of one second there is the same one in any order
UPDATE story SET object = sub('sub_1', '{}', 5), read_at = clock(30) WHERE step = 4;
SELECT * FROM ends();
SELECT * FROM history;

-- A read tells of what no event has told of, and steps back when one does.
DELETE FROM story;
INSERT INTO story (step, event, object, read_at) VALUES
    (1, event('evt_1', 'created', clock(1), sub('sub_1')), NULL, NULL),
    (2, event('evt_2', 'updated', clock(5), sub('sub_1', '{}', 2)), NULL, NULL),
    (3, NULL, sub('sub_1'), clock(9));
SELECT * FROM ends();
SELECT * FROM history;
INSERT INTO story (step, event) VALUES (4, event('evt_3', 'updated', clock(7), sub('sub_1')));
SELECT * FROM ends();
SELECT * FROM history;
-- In the second of an event, the event is right.
DELETE FROM story WHERE step > 3;
UPDATE story SET read_at = clock(5);
SELECT * FROM ends();
SELECT event, mrr FROM history;

-- ---------------------------------------------------------------------------
-- Several subscriptions of a customer: a new one is new money, unless the
-- customer had left.  Which one decides for the other, in any order.
DELETE FROM story;
INSERT INTO story (step, event) VALUES
    (1, event('evt_5', 'created', clock(1), sub('sub_1'))),
    (2, event('evt_4', 'created', clock(5), sub('sub_2', jsonb_build_object('created', clock(5))))),
    (3, event('evt_3', 'deleted', clock(8), sub('sub_1', jsonb_build_object('status', 'canceled', 'ended_at', clock(8))))),
    (4, event('evt_2', 'deleted', clock(9), sub('sub_2', jsonb_build_object('status', 'canceled', 'ended_at', clock(9), 'created', clock(5))))),
    (5, event('evt_1', 'created', clock(30), sub('sub_3', jsonb_build_object('created', clock(30)))));
SELECT * FROM ends();
SELECT * FROM history;
-- changing over in one second is not a return
UPDATE story SET event = jsonb_set(event, '{created}', to_jsonb(clock(9))) WHERE step = 5;
SELECT * FROM ends();
SELECT subscription, day, movement FROM history WHERE subscription = 'sub_3';
-- nor is the subscription of somebody else, or of the other mode
UPDATE story SET event = jsonb_set(event, '{data,object,customer}', '"cus_2"') WHERE step < 5;
SELECT * FROM ends();
SELECT subscription, day, movement FROM history WHERE subscription = 'sub_3';

-- ---------------------------------------------------------------------------
-- What a price asks for can become known later, such as the tiers, which are in
-- no event; whoever else tells of the price.
DELETE FROM story;
INSERT INTO story (step, event, object, read_at) VALUES
    (1, event('evt_1', 'created', clock(1), sub('sub_1', '{}', 12, '{"unit_amount": null, "billing_scheme": "tiered", "tiers_mode": "graduated"}')), NULL, NULL),
    (2, event('evt_2', 'updated', clock(5), sub('sub_1', '{}', 5, '{"unit_amount": null, "billing_scheme": "tiered", "tiers_mode": "graduated"}')), NULL, NULL);
SELECT * FROM ends();
SELECT * FROM history;
INSERT INTO story (step, object, read_at) VALUES
    (3, '{"object": "price", "id": "price_a", "product": "prod_a", "currency": "usd", "type": "recurring", "billing_scheme": "tiered", "tiers_mode": "graduated",
          "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}, "created": 1,
          "tiers": [{"up_to": 10, "unit_amount": 2000}, {"up_to": null, "unit_amount": 1500}]}', clock(9));
SELECT * FROM ends();
SELECT * FROM history;

-- An event has the id of a discount; what it takes off is told by others.
DELETE FROM story;
INSERT INTO story (step, event, object, read_at) VALUES
    (1, event('evt_1', 'created', clock(1), sub('sub_1')), NULL, NULL),
    (2, event('evt_2', 'updated', clock(5), sub('sub_1', '{"discounts": ["di_1"]}')), NULL, NULL),
    (3, event('evt_3', 'updated', clock(120), sub('sub_1', '{"discounts": ["di_1"]}', 2)), NULL, NULL);
SELECT * FROM ends();
SELECT * FROM history;
INSERT INTO story (step, event, object, read_at) VALUES
    (4, jsonb_set(event('evt_4', '', clock(5), jsonb_build_object('object', 'discount', 'id', 'di_1', 'customer', 'cus_1', 'subscription', 'sub_1',
        'start', clock(5), 'end', clock(96), 'source', '{"type": "coupon", "coupon": "STAY20"}'::jsonb)), '{type}', '"customer.discount.created"'), NULL, NULL),
    (5, NULL, '{"object": "coupon", "id": "STAY20", "percent_off": 20, "duration": "repeating", "duration_in_months": 3, "created": 1}', clock(9));
SELECT * FROM ends();
-- it ended by itself
SELECT * FROM history;
-- taken away before, and the other way round: of an item, for ever
UPDATE story SET event = jsonb_set(event, '{data,object,items,data,0,discounts}', '["di_1"]') #- '{data,object,discounts}' WHERE step IN (2, 3);
UPDATE story SET object = object || '{"duration": "forever"}' WHERE step = 5;
UPDATE story SET event = event || jsonb_build_object('type', 'customer.discount.deleted', 'created', clock(70)) WHERE step = 4;
SELECT * FROM ends();
SELECT * FROM history;

-- A discount that has not ended yet, and one that just has: nothing happens to
-- the subscription, but the time has come.
DELETE FROM story WHERE step NOT IN (2, 4, 5);
UPDATE story SET event = event || jsonb_build_object('type', 'customer.discount.created', 'created', clock(5)) WHERE step = 4;
UPDATE story SET event = jsonb_set(event, '{data,object,end}', to_jsonb(extract(epoch FROM now() + interval '1 hour')::bigint)) WHERE step = 4;
UPDATE story SET object = object || '{"duration": "repeating"}' WHERE step = 5;
SELECT * FROM ends();
SELECT stripe_portal.settle_changes();
SELECT mrr, movement, inferred, discount_ends > now() AS discount_ends FROM stripe_portal.subscription_change WHERE account = 'acct_1' ORDER BY at;
UPDATE stripe_portal.discount SET "end" = now() - interval '1 second';
UPDATE stripe_portal.subscription_change SET discount_ends = now() - interval '1 second' WHERE discount_ends IS NOT NULL;
SELECT stripe_portal.settle_changes(), stripe_portal.settle_changes();
SELECT mrr, movement, inferred, discount_ends FROM stripe_portal.subscription_change WHERE account = 'acct_1' ORDER BY at;

-- What is not known is not worked out again and again, only when there is news: of
-- a price, of a discount's coupon.
INSERT INTO stripe_portal.subscription_change (subscription, livemode, at, event, customer, status, currency, items, discounts, cancel_at_period_end)
SELECT 'sub_unknown' || n, false, '2026-01-01', 'evt_' || n, 'cus_1', 'active', 'eur', jsonb_build_array(jsonb_build_object('price', 'price_u' || n, 'quantity', 1)),
    '[{"id": "di_u"}]', false FROM generate_series(1, 5) AS n;
-- (whoever writes at the moment, as autovacuum may, keeps all that is newer new)
CREATE FUNCTION be_alone() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmax(pg_current_snapshot()) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT be_alone();
SELECT stripe_portal.settle_changes();
SET track_functions = 'pl';
CREATE FUNCTION looked_at(OUT settled integer, OUT worked_out bigint) LANGUAGE plpgsql AS $$
DECLARE
    before CONSTANT bigint := (SELECT sum(calls) FROM pg_stat_xact_user_functions WHERE funcname = 'mrr');
BEGIN
    PERFORM be_alone();
    settled := stripe_portal.settle_changes();
    worked_out := coalesce((SELECT sum(calls) FROM pg_stat_xact_user_functions WHERE funcname = 'mrr'), 0) - coalesce(before, 0);
END $$;
SELECT * FROM looked_at();
INSERT INTO stripe_portal.price (id, livemode, currency, unit_amount_decimal, billing_scheme, "interval", interval_count, type, usage_type, event, event_created)
SELECT 'price_u' || n, false, 'eur', 1000, 'per_unit', 'month', 1, 'recurring', 'licensed', '', '2026-01-01' FROM generate_series(1, 2) AS n;
SELECT * FROM looked_at();
SELECT * FROM looked_at();
INSERT INTO stripe_portal.discount (id, livemode, coupon, event, event_created) VALUES ('di_u', false, 'coupon_u', '', '2026-01-01');
SELECT * FROM looked_at();
INSERT INTO stripe_portal.coupon (id, livemode, percent_off, duration, event, event_created) VALUES ('coupon_u', false, 50, 'forever', '', '2026-01-01');
SELECT settled FROM looked_at();
SELECT * FROM looked_at();
SELECT count(mrr) AS known, count(*) FROM stripe_portal.subscription_change WHERE subscription LIKE 'sub\_unknown%';
RESET track_functions;
DROP FUNCTION looked_at, be_alone;
DELETE FROM stripe_portal.subscription_change WHERE subscription LIKE 'sub\_unknown%';
DELETE FROM stripe_portal.price WHERE id LIKE 'price\_u%';
DELETE FROM stripe_portal.discount WHERE id = 'di_u';
DELETE FROM stripe_portal.coupon WHERE id = 'coupon_u';

DELETE FROM story;
SELECT * FROM ends();
DROP VIEW history;
DROP FUNCTION ends, tell, deliver, event, sub, day, clock;
DROP TABLE story;
