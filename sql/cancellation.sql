-- Why subscribers leave: one row per episode, the same whatever order the facts
-- arrive in, and however often.
\set VERBOSITY terse
\getenv source PG_ABS_SRCDIR
\set story :source '/test/story.sql'
\set ECHO none
\i :story
\set ECHO all

-- To be canceled at the end of day 31, asked for on a day.
CREATE FUNCTION asked(day integer, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT sub('sub_1', jsonb_build_object('cancel_at', clock(32), 'canceled_at', clock(day),
        'cancellation_details', '{"reason": "cancellation_requested", "feedback": null, "comment": null}'::jsonb || more), 2) $$;
-- Canceled on a day, for a reason.
CREATE FUNCTION ended(day integer, reason text, more jsonb DEFAULT '{}', asked integer DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT sub('sub_1', jsonb_build_object('status', 'canceled', 'canceled_at', clock(coalesce(asked, day)), 'ended_at', clock(day),
        'cancellation_details', jsonb_build_object('reason', reason, 'feedback', NULL, 'comment', NULL) || more), 2) $$;
CREATE VIEW episode AS
SELECT to_char(began_at, 'DDD') AS began, to_char(asked_at, 'DDD') AS asked, to_char(undone_at, 'DDD') AS undone, to_char(effective_at, 'DDD') AS effective,
       to_char(ended_at, 'DDD') AS ended, ended_by, voluntary, feedback, comment, mrr
FROM stripe_portal.cancellation WHERE account = 'acct_1' ORDER BY began_at;

-- ---------------------------------------------------------------------------
-- Asked for in the portal, the reason seconds later, taken back, asked for
-- again, and over: two episodes, each with its own reason.
INSERT INTO story (step, event) VALUES
    (1, event('evt_6', 'created', clock(1), sub('sub_1', '{}', 2))),
    (2, event('evt_5', 'updated', clock(10), asked(10), '{"cancel_at": null, "canceled_at": null, "cancellation_details": {"reason": null}}')),
    (3, event('evt_4', 'updated', clock(10, 7), asked(10, '{"feedback": "too_expensive", "comment": "Budget cut"}'), '{"cancellation_details": {"feedback": null, "comment": null}}')),
    (4, event('evt_3', 'updated', clock(12), sub('sub_1', '{}', 2))),
    (5, event('evt_2', 'updated', clock(20), asked(20))),
    (6, event('evt_1', 'deleted', clock(32), ended(32, 'cancellation_requested', '{"feedback": "unused"}', 20)));
SELECT * FROM ends();
SELECT * FROM episode;
\x on
SELECT * FROM stripe_portal.cancellation WHERE account = 'acct_1' ORDER BY began_at LIMIT 1;
\x off
-- Told from the start once more, nothing changes, not even a row version.
CREATE TEMP TABLE before AS SELECT c.*, c.xmin AS version, c.ctid AS place FROM stripe_portal.cancellation AS c;
SELECT count(*) FROM (SELECT stripe_replay(id, false, account) FROM stripe_portal.event) AS replay;
SELECT count(*) AS before, count(*) FILTER (WHERE c.xmin = b.version AND c.ctid = b.place AND c.session IS NOT DISTINCT FROM b.session) AS unchanged
FROM before AS b LEFT JOIN stripe_portal.cancellation AS c USING (subscription, livemode, account, began_at);
DROP TABLE before;

-- The reason in the second of the request, in either order of ids.
DELETE FROM story WHERE step > 3;
UPDATE story SET event = event || jsonb_build_object('created', clock(10)) WHERE step = 3;
SELECT * FROM ends();
SELECT began, asked, effective, feedback, comment FROM episode;
-- days after the end
INSERT INTO story (step, event) VALUES (4, event('evt_3', 'deleted', clock(32), ended(32, 'cancellation_requested', '{}', 10)));
UPDATE story SET event = event('evt_4', 'updated', clock(35), ended(32, 'cancellation_requested', '{"feedback": "other", "comment": "Forgot to say"}', 10)) WHERE step = 3;
SELECT * FROM ends();
SELECT * FROM episode;

-- Canceled at once, the reason in a later event, or in an earlier one of that second.
DELETE FROM story WHERE step > 1;
INSERT INTO story (step, event) VALUES
    (2, event('evt_5', 'deleted', clock(10), ended(10, 'cancellation_requested'))),
    (3, event('evt_4', 'updated', clock(10, 9), ended(10, 'cancellation_requested', '{"feedback": "low_quality"}'), '{"cancellation_details": {"feedback": null}}'));
SELECT * FROM ends();
SELECT * FROM episode;
UPDATE story SET event = event || jsonb_build_object('created', clock(10)) WHERE step = 3;
SELECT * FROM ends();
SELECT began, ended, feedback FROM episode;

-- Not paid: nobody asked. The money is that of the last state that counted for anything.
UPDATE story SET event = event('evt_5', 'updated', clock(8), sub('sub_1', '{"status": "past_due"}', 2)) WHERE step = 2;
UPDATE story SET event = event('evt_4', 'deleted', clock(10), ended(10, 'payment_failed')) WHERE step = 3;
SELECT * FROM ends();
SELECT * FROM episode;
-- not paid, after a cancellation was scheduled
UPDATE story SET event = event('evt_5', 'updated', clock(8), asked(8)) WHERE step = 2;
UPDATE story SET event = event('evt_4', 'deleted', clock(10), ended(10, 'payment_failed', '{}', 8)) WHERE step = 3;
SELECT * FROM ends();
SELECT * FROM episode;
-- a dispute, and a reason that Stripe has yet to invent
UPDATE story SET event = event('evt_4', 'deleted', clock(10), ended(10, 'payment_disputed')) WHERE step = 3;
DELETE FROM story WHERE step = 2;
SELECT * FROM ends();
SELECT ended, ended_by, voluntary, asked FROM episode;
UPDATE story SET event = event('evt_4', 'deleted', clock(10), ended(10, 'moved_to_mars')) WHERE step = 3;
SELECT * FROM ends();
SELECT ended, ended_by, voluntary, asked FROM episode;

-- Never paid for: nobody has left. In older shapes, the schedule is a boolean alone.
UPDATE story SET event = event('evt_6', 'created', clock(1), sub('sub_1', '{"status": "incomplete"}')) WHERE step = 1;
UPDATE story SET event = event('evt_4', 'updated', clock(2), sub('sub_1', jsonb_build_object('status', 'incomplete_expired', 'ended_at', clock(2)))) WHERE step = 3;
SELECT * FROM ends();
SELECT * FROM episode;
UPDATE story SET event = event('evt_6', 'created', clock(1), sub('sub_1')) WHERE step = 1;
UPDATE story SET event = event('evt_4', 'updated', clock(5), sub('sub_1', jsonb_build_object('cancel_at_period_end', true, 'canceled_at', clock(5), 'current_period_end', clock(32)))) WHERE step = 3;
SELECT * FROM ends();
SELECT began, asked, effective, ended FROM episode;

-- ---------------------------------------------------------------------------
-- Read from the API only: the request and the end are where they were.
DELETE FROM story;
INSERT INTO story (step, object, read_at) VALUES (1, ended(32, 'cancellation_requested', '{"feedback": "unused"}', 10), clock(60));
SELECT * FROM ends();
SELECT * FROM episode;
-- and the same episode when the events arrive after all
INSERT INTO story (step, event) VALUES
    (2, event('evt_1', 'created', clock(1), sub('sub_1', '{}', 2))),
    (3, event('evt_2', 'updated', clock(10, 1), asked(10)));
SELECT * FROM ends();
SELECT * FROM episode;

-- ---------------------------------------------------------------------------
-- The plan is the item that brings in most; the country is the customer's at
-- that moment, whenever it becomes known.
DELETE FROM story;
INSERT INTO story (step, event) VALUES
    (1, event('evt_1', 'created', clock(1), sub('sub_1'))),
    (2, event('evt_2', 'updated', clock(10), asked(10))),
    (3, jsonb_set(event('evt_3', '', clock(0), '{"object": "customer", "id": "cus_1", "address": {"country": "DE"}}'), '{type}', '"customer.created"')),
    (4, jsonb_set(event('evt_4', '', clock(9), '{"object": "customer", "id": "cus_1", "address": {"country": "AT"}}'), '{type}', '"customer.updated"'));
UPDATE story SET event = jsonb_set(event, '{data,object,items,data}', event #> '{data,object,items,data}' || '[{"id": "si_0", "quantity": 5,
    "price": {"id": "price_extra", "object": "price", "product": "prod_extra", "currency": "usd", "unit_amount": 100, "recurring": {"interval": "month", "interval_count": 1}}}]')
WHERE step < 3;
SELECT * FROM ends();
SELECT product, price, quantity, currency, mrr, started_at, age, country FROM stripe_portal.cancellation WHERE account = 'acct_1';
-- Who moves away afterwards, or takes the address back, has left where it was:
-- by what events tell, told from the start once more,
INSERT INTO story (step, event) VALUES
    (5, jsonb_set(event('evt_5', '', clock(11), '{"object": "customer", "id": "cus_1", "address": {"country": "FR"}}', '{"address": {"country": "AT"}}'), '{type}', '"customer.updated"')),
    (6, jsonb_set(event('evt_6', '', clock(12), '{"object": "customer", "id": "cus_1", "address": null}', '{"address": {"country": "FR"}}'), '{type}', '"customer.updated"'));
SELECT * FROM ends();
SELECT DISTINCT country FROM stripe_portal.cancellation;
SELECT count(*) FROM (SELECT stripe_replay(id, false, account) FROM stripe_portal.event WHERE object_id = 'cus_1') AS replay;
SELECT DISTINCT country FROM stripe_portal.cancellation;
-- after the ledger's rows are gone, and the customer;
DELETE FROM stripe_portal.event;
SELECT count(deliver(jsonb_set(event('evt_7', '', clock(20), '{"object": "customer", "id": "cus_1", "address": {"country": "ES"}}'), '{type}', '"customer.deleted"')
                     || jsonb_build_object('account', account))) FROM (SELECT DISTINCT account FROM stripe_portal.cancellation) AS a;
SELECT DISTINCT country FROM stripe_portal.cancellation;
-- by what is read from the API, in any order;
DELETE FROM story WHERE step > 2;
INSERT INTO story (step, object, read_at) VALUES
    (3, '{"object": "customer", "id": "cus_1", "address": {"country": "DE"}}', clock(2)),
    (4, '{"object": "customer", "id": "cus_1", "address": {"country": "AT"}}', clock(9)),
    (5, '{"object": "customer", "id": "cus_1", "address": {"country": "FR"}}', clock(11)),
    (6, '{"object": "customer", "id": "cus_1", "address": {"country": "FR"}}', clock(12));
SELECT * FROM ends();
SELECT DISTINCT country FROM stripe_portal.cancellation;
-- and by a move that is the first that is told of them.
DELETE FROM story WHERE step > 3;
UPDATE story SET object = NULL, event = jsonb_set(event('evt_3', '', clock(12), '{"object": "customer", "id": "cus_1", "address": {"country": "FR"}}',
    '{"address": {"country": "AT", "city": "Wien"}}'), '{type}', '"customer.updated"') WHERE step = 3;
SELECT * FROM ends();
SELECT DISTINCT country FROM stripe_portal.cancellation;
-- Before the first country that is known it is that one: an address is filled in late more often than people move.
UPDATE story SET event = event || '{"data": {"object": {"object": "customer", "id": "cus_1", "address": {"country": "FR"}}, "previous_attributes": {"address": null}}}' WHERE step = 3;
SELECT * FROM ends();
SELECT DISTINCT country FROM stripe_portal.cancellation;
-- Known only by events about something else, it is the last that was shown.
UPDATE story SET event = event || '{"data": {"object": {"object": "customer", "id": "cus_1", "address": {"country": "AT"}}, "previous_attributes": {"name": "Jo"}}}' WHERE step = 3;
SELECT * FROM ends();
SELECT DISTINCT country FROM stripe_portal.cancellation;
-- Two moves in one second: before it, the country was the one that none of them ended in.
DELETE FROM story WHERE step > 2;
INSERT INTO story (step, event) VALUES
    (3, jsonb_set(event('evt_3', '', clock(12), '{"object": "customer", "id": "cus_1", "address": {"country": "FR"}}', '{"address": {"country": "AT"}}'), '{type}', '"customer.updated"')),
    (4, jsonb_set(event('evt_4', '', clock(12), '{"object": "customer", "id": "cus_1", "address": {"country": "AT"}}', '{"address": {"country": "DE"}}'), '{type}', '"customer.updated"'));
SELECT * FROM ends();
SELECT DISTINCT c.country, m.country AS in_the_end FROM stripe_portal.cancellation AS c JOIN stripe_portal.customer_moved AS m USING (account) WHERE m.at = day(12);

-- ---------------------------------------------------------------------------
-- The portal session in which it was asked for.
DELETE FROM story WHERE step > 2;
UPDATE story SET event = event || jsonb_build_object('created', clock(-99)) WHERE step = 1;
UPDATE story SET event = event || jsonb_build_object('created', extract(epoch FROM now())::bigint) WHERE step = 2;
UPDATE story SET event = jsonb_set(event, '{data,object,canceled_at}', event -> 'created') WHERE step = 2;
SELECT tell(s, 'acct_s') FROM story AS s WHERE step = 1;
INSERT INTO stripe_portal.session (id, livemode, account, customer, flow, subscription, stripe_id, refused, created)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, livemode, account, customer, flow, subscription,
       CASE WHEN refused IS NULL THEN 'bps_' || n END, refused, now() - ago
FROM (VALUES (1, false, 'acct_s', 'cus_1', 'portal', NULL, NULL, interval '64 minutes'),
             (2, false, 'acct_s', 'cus_1', 'portal', NULL, NULL, interval '66 minutes'),
             (3, false, 'acct_s', 'cus_1', 'payment_method_update', NULL, NULL, interval '3 minutes'),
             (4, false, 'acct_s', 'cus_1', 'subscription_cancel', 'sub_2', NULL, interval '3 minutes'),
             (5, false, 'acct_s', 'cus_2', 'portal', NULL, NULL, interval '3 minutes'),
             (6, false, 'acct_s', 'cus_1', 'portal', NULL, 'not_active', interval '3 minutes'),
             (7, true, 'acct_s', 'cus_1', 'portal', NULL, NULL, interval '3 minutes'),
             (8, false, '', 'cus_1', 'portal', NULL, NULL, interval '3 minutes')
    ) AS s (n, livemode, account, customer, flow, subscription, refused, ago);
SELECT tell(s, 'acct_s') FROM story AS s WHERE step = 2;
SELECT session FROM stripe_portal.cancellation WHERE account = 'acct_s';
TRUNCATE stripe_portal.session;

-- ---------------------------------------------------------------------------
-- Who leaves has left only if no other subscription stays: one that is paused
-- does, also if it has never brought in anything.
DELETE FROM story;
INSERT INTO story (step, event) VALUES
    (1, event('evt_1', 'created', clock(1), sub('sub_1'))),
    (2, event('evt_2', 'created', clock(2), sub('sub_2', jsonb_build_object('status', 'trialing', 'trial_end', clock(4))))),
    (3, event('evt_3', 'updated', clock(4), sub('sub_2', '{"status": "paused"}'), '{"status": "trialing"}')),
    (4, event('evt_4', 'deleted', clock(9), ended(9, 'cancellation_requested')));
SELECT * FROM ends();
SELECT DISTINCT customer_left FROM stripe_portal.subscriber_change WHERE mrr_change < 0;

-- ---------------------------------------------------------------------------
-- A restore inserts, and derives nothing from it.
DELETE FROM story;
INSERT INTO story (step, event) VALUES
    (1, event('evt_1', 'created', clock(1), sub('sub_1'))),
    (2, event('evt_2', 'updated', clock(10), asked(10)));
SELECT * FROM ends();
CREATE TEMP TABLE saved AS SELECT * FROM stripe_portal.subscription_change;
TRUNCATE stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.cancellation;
INSERT INTO stripe_portal.subscription_change SELECT * FROM saved;
SELECT count(*) FROM stripe_portal.cancellation;
DROP TABLE saved;

DELETE FROM story;
SELECT * FROM ends();
DROP VIEW episode;
DROP FUNCTION ended, asked, ends, tell, deliver, event, sub, day, clock;
DROP TABLE story;
