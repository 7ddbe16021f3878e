-- The state tables: what each kind of event writes, in old and current API
-- shapes, and that the order of delivery does not matter.
\set VERBOSITY terse
SET TIME ZONE 'UTC';
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

CREATE FUNCTION deliver(payload jsonb) RETURNS text
LANGUAGE sql AS $$ SELECT outcome || coalesce(': ' || error, '')
    FROM stripe_receive_webhook(payload::text, stripe_sign_webhook(payload::text, 'whsec_test_secret')) $$;
CREATE FUNCTION event(id text, type text, at integer, object jsonb, previous jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', 1700000000 + at, 'livemode', false,
        'data', jsonb_build_object('object', object) || CASE WHEN previous IS NULL THEN '{}' ELSE jsonb_build_object('previous_attributes', previous) END)
$$;

-- ---------------------------------------------------------------------------
-- One row per kind
SELECT deliver(event('evt_c', 'customer.created', 0, '{"object": "customer", "id": "cus_1", "created": 1690000000,
    "email": "jenny@example.com", "name": "Jenny Rosen", "phone": null, "address": {"country": "DE", "city": "Berlin"},
    "currency": "eur", "balance": -500, "delinquent": false, "preferred_locales": ["de"], "tax_exempt": "none",
    "invoice_settings": {"default_payment_method": {"id": "pm_1", "object": "payment_method"}}, "metadata": {"user": "42"}}'));
SELECT deliver(event('evt_p', 'product.created', 0, '{"object": "product", "id": "prod_1", "name": "Pro", "active": true,
    "description": null, "default_price": "price_1", "metadata": {}, "created": "1690000000"}'));
SELECT deliver(event('evt_pr', 'price.created', 0, '{"object": "price", "id": "price_1", "product": "prod_1", "active": true,
    "currency": "eur", "type": "recurring", "billing_scheme": "per_unit", "unit_amount": null, "unit_amount_decimal": "0.5",
    "recurring": {"interval": "month", "interval_count": 3, "usage_type": "licensed"}, "tax_behavior": "exclusive",
    "transform_quantity": {"divide_by": 10, "round": "up"}, "lookup_key": "pro", "nickname": "Pro", "created": 1690000000}'));
\x on
SELECT * FROM stripe_portal.customer;
SELECT * FROM stripe_portal.product;
SELECT * FROM stripe_portal.price;
\x off

-- ---------------------------------------------------------------------------
-- A subscription in the shape of 2024-06-20 and in that of today gives the
-- same row: period, discount and cancellation have moved in between.
SELECT deliver(event('evt_old', 'customer.subscription.updated', 0, '{"object": "subscription", "id": "sub_old", "customer": "cus_1",
    "status": "active", "currency": "eur", "collection_method": "charge_automatically", "created": 1690000000, "start_date": 1690000000,
    "current_period_start": 1698796800, "current_period_end": 1701388800, "cancel_at_period_end": true, "cancel_at": 1701388800,
    "canceled_at": 1700000000, "ended_at": null, "trial_start": null, "trial_end": null,
    "cancellation_details": {"comment": "Budget cut", "feedback": "too_expensive", "reason": "cancellation_requested"},
    "discount": {"id": "di_1", "object": "discount"}, "latest_invoice": "in_1", "default_payment_method": null,
    "pause_collection": null, "schedule": null, "metadata": {},
    "items": {"object": "list", "has_more": false, "data": [{"id": "si_1", "object": "subscription_item", "quantity": 2,
        "price": {"id": "price_1", "object": "price", "product": "prod_1"}}]}}'));
SELECT deliver(event('evt_new', 'customer.subscription.updated', 0, '{"object": "subscription", "id": "sub_new", "customer": {"id": "cus_1", "object": "customer"},
    "status": "active", "currency": "eur", "collection_method": "charge_automatically", "created": 1690000000, "start_date": 1690000000,
    "billing_mode": {"type": "flexible"}, "cancel_at_period_end": false, "cancel_at": 1701388800,
    "canceled_at": 1700000000, "ended_at": null, "trial_start": null, "trial_end": null,
    "cancellation_details": {"comment": "Budget cut", "feedback": "too_expensive", "feedback_option": null, "reason": "cancellation_requested"},
    "discounts": [{"id": "di_1", "object": "discount"}], "latest_invoice": {"id": "in_1", "object": "invoice"}, "default_payment_method": null,
    "pause_collection": null, "schedule": null, "metadata": {},
    "items": {"object": "list", "has_more": false, "data": [{"id": "si_1", "object": "subscription_item", "quantity": 2,
        "current_period_start": 1698796800, "current_period_end": 1701388800,
        "price": {"id": "price_1", "object": "price", "product": {"id": "prod_1", "object": "product"}}}]}}'));
SELECT o.key, o.value AS old, n.value AS new
FROM (SELECT to_jsonb(s) AS row FROM stripe_portal.subscription AS s WHERE id = 'sub_old') AS old,
     (SELECT to_jsonb(s) AS row FROM stripe_portal.subscription AS s WHERE id = 'sub_new') AS new,
     jsonb_each(old.row) AS o JOIN LATERAL jsonb_each(new.row) AS n USING (key)
WHERE o.value <> n.value ORDER BY 1;
\x on
SELECT * FROM stripe_portal.subscription WHERE id = 'sub_new';
\x off
SELECT subscription, id, price, product, quantity, current_period_start, current_period_end FROM stripe_portal.subscription_item ORDER BY 1;

-- Items of different intervals: the period that is common to all of them.
SELECT deliver(event('evt_mix', 'customer.subscription.created', 0, '{"object": "subscription", "id": "sub_mix", "customer": "cus_1", "status": "a_new_status",
    "items": {"data": [{"id": "si_b", "price": "price_1", "current_period_start": 100, "current_period_end": 900},
                       {"id": "si_a", "plan": {"id": "plan_old", "product": "prod_1"}, "current_period_start": 200, "current_period_end": 800}], "has_more": true}}'));
SELECT status, extract(epoch FROM current_period_start) AS start, extract(epoch FROM current_period_end) AS "end", items -> 0 ->> 'price' AS first_price, refetch AS more_items
FROM stripe_portal.subscription WHERE id = 'sub_mix';

-- ---------------------------------------------------------------------------
-- Deletes leave tombstones that nothing brings back.
SELECT deliver(event('evt_c_del', 'customer.deleted', 10, '{"object": "customer", "id": "cus_1", "deleted": true}'));
SELECT deliver(event('evt_c_upd', 'customer.updated', 5, '{"object": "customer", "id": "cus_1", "email": "late@example.com"}'));
SELECT deliver(event('evt_c_up2', 'customer.updated', 15, '{"object": "customer", "id": "cus_1", "email": "later@example.com"}'));
SELECT email, deleted, event FROM stripe_portal.customer;

-- A canceled subscription takes its reason afterwards, and stays canceled.
SELECT deliver(event('evt_gone', 'customer.subscription.deleted', 20, '{"object": "subscription", "id": "sub_gone", "customer": "cus_2", "status": "canceled",
    "ended_at": 1700000020, "canceled_at": 1700000020, "cancellation_details": {"reason": "cancellation_requested", "feedback": null, "comment": null}}'));
SELECT deliver(event('evt_back', 'customer.subscription.updated', 25, '{"object": "subscription", "id": "sub_gone", "customer": "cus_2", "status": "active"}'));
SELECT deliver(event('evt_why', 'customer.subscription.updated', 27, '{"object": "subscription", "id": "sub_gone", "customer": "cus_2", "status": "canceled",
    "ended_at": 1700000020, "canceled_at": 1700000020, "cancellation_details": {"reason": "cancellation_requested", "feedback": "unused", "comment": "Moving on"}}',
    '{"cancellation_details": {"feedback": null, "comment": null}}'));
SELECT status, cancellation_feedback, cancellation_comment, event FROM stripe_portal.subscription WHERE id = 'sub_gone';

-- ---------------------------------------------------------------------------
-- Any order: a story, and every permutation of it, with each event twice.
CREATE TEMP TABLE story (step integer, event jsonb);
CREATE FUNCTION sub(more jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"object": "subscription", "id": "sub_s", "customer": "cus_s", "cancel_at": null, "canceled_at": null, "cancel_at_period_end": false,
        "cancellation_details": {"reason": null, "feedback": null, "comment": null}}'::jsonb || more $$;

-- Delivers the story in every order and tells how many different ends it had.
CREATE FUNCTION ends(OUT orders bigint, OUT different bigint, OUT last text, OUT refetch boolean) LANGUAGE plpgsql AS $$
DECLARE
    permutation integer[];
    e jsonb;
    outcomes text[] := '{}';
BEGIN
    orders := 0;
    FOR permutation IN
        WITH RECURSIVE p AS (
            SELECT '{}'::integer[] AS steps
            UNION ALL SELECT p.steps || s.step FROM p, story AS s WHERE NOT s.step = ANY (p.steps))
        SELECT steps FROM p WHERE cardinality(steps) = (SELECT count(*) FROM story)
    LOOP
        DELETE FROM stripe_portal.subscription;
        DELETE FROM stripe_portal.subscription_change;
        DELETE FROM stripe_portal.event;
        FOR e IN SELECT s.event FROM unnest(permutation) WITH ORDINALITY AS o (step, n) JOIN story AS s USING (step) ORDER BY n LOOP
            PERFORM deliver(e);
            PERFORM deliver(e);
        END LOOP;
        orders := orders + 1;
        SELECT array_agg(DISTINCT x) INTO outcomes
        FROM (SELECT unnest(outcomes) UNION SELECT to_jsonb(s)::text FROM stripe_portal.subscription AS s) AS all_of (x);
    END LOOP;
    different := cardinality(outcomes);
    SELECT s.event, s.refetch INTO last, refetch FROM stripe_portal.subscription AS s;
END $$;

-- created, cancel, reason, undone, canceled: five different seconds
INSERT INTO story VALUES
    (1, event('evt_z', 'customer.subscription.created', 1, sub('{"status": "active"}'))),
    (2, event('evt_y', 'customer.subscription.updated', 2, sub('{"status": "active", "cancel_at": 1800000000, "canceled_at": 1700000002}'), '{"cancel_at": null, "canceled_at": null}')),
    (3, event('evt_x', 'customer.subscription.updated', 3, sub('{"status": "active", "cancel_at": 1800000000, "canceled_at": 1700000002, "cancellation_details": {"feedback": "unused"}}'), '{"cancellation_details": {"feedback": null}}')),
    (4, event('evt_w', 'customer.subscription.updated', 4, sub('{"status": "active"}'), '{"cancel_at": 1800000000, "canceled_at": 1700000002}')),
    (5, event('evt_v', 'customer.subscription.deleted', 5, sub('{"status": "canceled"}')));
SELECT * FROM ends();

-- the same in one second: what each says it changed puts them in order
UPDATE story SET event = jsonb_set(event, '{created}', '1700000001');
SELECT * FROM ends();

-- created, cancel, reason, all in one second, the ids in the wrong order
DELETE FROM story WHERE step > 3;
SELECT * FROM ends();

-- canceled at once, the reason in the same second
DELETE FROM story;
INSERT INTO story VALUES
    (1, event('evt_c', 'customer.subscription.created', 1, sub('{"status": "active"}'))),
    (2, event('evt_b', 'customer.subscription.deleted', 1, sub('{"status": "canceled"}'))),
    (3, event('evt_a', 'customer.subscription.updated', 1, sub('{"status": "canceled", "cancellation_details": {"reason": null, "feedback": "unused", "comment": null}}'),
              '{"cancellation_details": {"feedback": null}}')),
    (4, event('evt_d', 'customer.subscription.updated', 1, sub('{"status": "active", "metadata": {"a": "b"}}'), '{"metadata": {"a": null}}'));
SELECT * FROM ends();

-- there and back, and there again: counted, not guessed
DELETE FROM story;
INSERT INTO story VALUES
    (1, event('evt_d', 'customer.subscription.created', 1, sub('{"status": "active"}'))),
    (2, event('evt_a', 'customer.subscription.updated', 1, sub('{"status": "active", "cancel_at": 1800000000}'), '{"cancel_at": null}')),
    (3, event('evt_c', 'customer.subscription.updated', 1, sub('{"status": "active"}'), '{"cancel_at": 1800000000}')),
    (4, event('evt_b', 'customer.subscription.updated', 1, sub('{"status": "active", "cancel_at": 1800000000}'), '{"cancel_at": null}'));
SELECT orders, different, refetch FROM ends();
SELECT cancel_at IS NOT NULL AS cancel_scheduled FROM stripe_portal.subscription;
-- without the beginning, an even number of turns could have ended either way
DELETE FROM story WHERE step IN (1, 4);
SELECT * FROM ends();

-- two changes of one second that know nothing of each other: nobody can tell,
-- so one is taken, the same in every order, and the row is marked
DELETE FROM story;
INSERT INTO story VALUES
    (1, event('evt_a', 'customer.subscription.updated', 1, sub('{"status": "active", "metadata": {"a": "1"}}'), '{"metadata": {"a": "0"}}')),
    (2, event('evt_b', 'customer.subscription.updated', 1, sub('{"status": "active", "metadata": {"a": "2"}}'), '{"metadata": {"a": "5"}}'));
SELECT * FROM ends();
-- unless they say the same
UPDATE story SET event = jsonb_set(event, '{data,object,metadata}', '{"a": "1"}');
SELECT * FROM ends();
-- a later event settles it
INSERT INTO story VALUES (3, event('evt_0', 'customer.subscription.updated', 2, sub('{"status": "past_due"}'), '{"status": "active"}'));
SELECT * FROM ends();

-- A bad one of the same second is a failed event, and no more than that: the
-- others are put in order without it.
DELETE FROM story;
SELECT deliver(event('evt_1', 'product.created', 1, '{"object": "product", "id": "prod_t", "name": "1"}'));
SELECT deliver(event('evt_9', 'product.updated', 1, '{"object": "product", "id": "prod_t", "name": "3", "active": "perhaps"}', '{"name": "2", "active": null}'));
SELECT deliver(event('evt_2', 'product.updated', 1, '{"object": "product", "id": "prod_t", "name": "2"}', '{"name": "1"}'));
SELECT name, event, refetch FROM stripe_portal.product WHERE id = 'prod_t';
-- whatever is wrong with it
DELETE FROM story;
INSERT INTO story VALUES
    (1, event('evt_i1', 'invoice.updated', 1, '{"object": "invoice", "id": "in_t", "status": "open", "attempt_count": 1}', '{"attempt_count": 0}')),
    (2, event('evt_i9', 'invoice.updated', 1, '{"object": "invoice", "id": "in_t", "status": "open", "attempt_count": "-infinity"}')),
    (3, event('evt_i8', 'invoice.updated', 1, '{"object": "invoice", "id": "in_t", "status": 9, "attempt_count": true}', '9')),
    (4, event('evt_i2', 'invoice.updated', 1, '{"object": "invoice", "id": "in_t", "status": "open", "attempt_count": 2}', '{"attempt_count": 1}'));
SELECT deliver(s.event) FROM story AS s ORDER BY step;
SELECT attempt_count, event, refetch FROM stripe_portal.invoice WHERE id = 'in_t';
DELETE FROM stripe_portal.invoice;
-- a NUL, which jsonb can not hold, does not stand in the way either
CREATE FUNCTION deliver_text(payload text) RETURNS text LANGUAGE sql AS $$
    SELECT outcome FROM stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_test_secret')) $$;
SELECT deliver_text('{"id":"evt_n1","livemode":false,"created":9,"type":"product.created","data":{"object":{"object":"product","id":"prod_n","name":"X"}}}');
SELECT deliver_text('{"id":"evt_n2","livemode":false,"created":9,"type":"product.updated","data":{"object":{"object":"product","id":"prod_n","name":"a\u0000b"},"previous_attributes":{"name":"X"}}}');
SELECT deliver_text('{"id":"evt_n3","livemode":false,"created":9,"type":"product.updated","data":{"object":{"object":"product","id":"prod_n","name":"last"},"previous_attributes":{"name":"a\u0000b"}}}');
SELECT name, refetch FROM stripe_portal.product WHERE id = 'prod_n';
DROP FUNCTION deliver_text;
-- An id that is no text, or that no request could name, is a failed event; within
-- another object it is passed over.
SELECT deliver(event('evt_l0', 'product.created', 1, '{"object": "product", "id": {"id": "prod_1"}}'));
SELECT deliver(event('evt_p' || n, 'product.created', 1, jsonb_build_object('object', 'product', 'id', id)))
FROM unnest('{"", .., a/../b}'::text[]) WITH ORDINALITY AS t (id, n);
SELECT deliver(event('evt_l1', 'product.created', 1, jsonb_build_object('object', 'product', 'id', repeat('x', 256))));
SELECT deliver(event('evt_l2', 'product.created', 1, jsonb_build_object('object', 'product', 'id', repeat('ü', 255), 'name', 'long')));
SELECT length, deliver(event('evt_l' || length, 'customer.discount.created', 1, jsonb_build_object('object', 'discount', 'id', 'di_' || length, 'customer', 'cus_1',
    'coupon', jsonb_build_object('object', 'coupon', 'id', repeat('x', length), 'percent_off', 10, 'duration', 'once'))))
FROM (VALUES (256), (255)) AS t (length);
SELECT id = repeat('ü', 255) AS long_one FROM stripe_portal.product WHERE name = 'long';
SELECT percent_off, length(id) FROM stripe_portal.coupon;
SELECT length(coupon), id FROM stripe_portal.discount ORDER BY id;
DELETE FROM stripe_portal.coupon;
DELETE FROM stripe_portal.discount;

DROP FUNCTION ends, sub, deliver, event;
DROP TABLE story;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change;
