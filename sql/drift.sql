-- What the tables show and what is true at Stripe: differences, classified.
\set VERBOSITY terse

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
    TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
        stripe_portal.invoice, stripe_portal.payment_intent, stripe_portal.billing_portal_configuration, stripe_portal.payment_method,
        stripe_portal.entitlement, stripe_portal.sync_cursor, stripe_portal.event_cursor $$;
-- Everything that tells whether something was written.
CREATE FUNCTION written() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(r, ' ' ORDER BY r)) FROM (
        SELECT xmin::text || s::text FROM stripe_portal.subscription AS s UNION ALL SELECT xmin::text || c::text FROM stripe_portal.customer AS c
        UNION ALL SELECT e.id FROM stripe_portal.event AS e UNION ALL SELECT s.object FROM stripe_portal.sync_cursor AS s) AS t (r) $$;
SET stripe_portal.rate_limit = 1000;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');

-- The fixture: 407 subscriptions, 28 of which were canceled at Stripe while the
-- deliveries went nowhere.
SELECT jsonb_array_length(stand_in('POST', 'bulk', '{"count": 407, "prices": ["price_1"], "events": "none"}') -> 'subscriptions') AS subscriptions;
CALL stripe_sync('{customer, subscription, product, price, billing_portal.configuration}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 3600}');
SELECT count(stand_in('POST', format('subscriptions/sub_bulk%s/status', to_char(n * 14, 'FM00000')), '{"status": "canceled"}')) FROM generate_series(1, 28) AS n;
SELECT FROM stand_in('POST', 'clock', '{"advance": 3600}');
SELECT status, count(*) FROM stripe_portal.subscription GROUP BY status;

SELECT written() AS before \gset
CREATE TEMP TABLE found AS SELECT * FROM stripe_drift();
SELECT written() = :'before' AS nothing_written;
SELECT kind, classification, here ->> 'status' AS here, at_stripe ->> 'status' AS at_stripe, repaired, count(*)
FROM found GROUP BY 1, 2, 3, 4, 5;
SELECT count(*) AS right_ones FROM found WHERE classification = 'stale here' AND id IN (SELECT 'sub_bulk' || to_char(n * 14, 'FM00000') FROM generate_series(1, 28) AS n);
SELECT (SELECT count(*) FROM stripe_portal.subscription) AS all_of_them, count(*) AS stale FROM found WHERE classification = 'stale here' \gset
\echo '# numbers: drift:' :all_of_them 'subscriptions,' :stale 'of them canceled at Stripe and active here'
DROP TABLE found;
BEGIN READ ONLY;
SELECT count(*) FROM stripe_drift(objects => '{subscription}');
ROLLBACK;

SELECT kind, classification, repaired, count(*) FROM stripe_drift(repair => true) GROUP BY 1, 2, 3;
SELECT status, count(*) FROM stripe_portal.subscription GROUP BY status ORDER BY 1;
SELECT count(*) FROM stripe_drift();
SELECT count(*) FROM stripe_drift(account => NULL);

-- One of each kind.
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT count(stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || name, 'email', name || '@example.com')))
FROM unnest('{twice, gone, stale, same, lapsed, paid, left, lost}'::text[]) AS name;
SELECT count(stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || name, 'customer', 'cus_' || split_part(name, '2', 1), 'price', 'price_1', 'status', status)))
FROM (VALUES ('twice', 'active'), ('twice2', 'trialing'), ('same', 'active'), ('lapsed', 'active'), ('paid', 'active'),
             ('left', 'incomplete'), ('left2', 'incomplete')) AS s (name, status);
-- the first invoice of a trial is paid, with nothing
SELECT FROM stand_in('POST', 'prices', '{"id": "price_free", "product": "prod_1", "currency": "eur", "unit_amount": 0, "recurring": {"interval": "month"}}');
SELECT FROM stand_in('POST', 'subscriptions', '{"id": "sub_trial", "customer": "cus_lost", "price": "price_free"}');
SELECT stand_in('POST', 'bill', '{"subscription": "sub_trial"}') ->> 'status' AS status;
SELECT count(stand_in('POST', format('subscriptions/%s/status', id), '{"status": "past_due"}')) FROM unnest('{sub_lapsed, sub_trial}'::text[]) AS id;
CALL stripe_sync('{customer, subscription, product, price}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 3600}');
-- gone at Stripe, changed there, and new there
SELECT FROM stripe_api('DELETE', '/v1/customers/cus_gone');
SELECT FROM stripe_api('POST', '/v1/customers/cus_stale', '{"email": "new@example.com", "name": "New"}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_new"}');
SELECT FROM stand_in('POST', 'subscriptions', '{"id": "sub_new", "customer": "cus_new", "price": "price_1"}');
-- nobody finished these; one was missed, one has expired since, one is the same
SELECT FROM stand_in('POST', 'subscriptions', '{"id": "sub_left3", "customer": "cus_left", "price": "price_1", "status": "incomplete"}');
SELECT FROM stand_in('POST', 'subscriptions/sub_left2/status', '{"status": "incomplete_expired"}');
-- both are past due, but one has paid before
SELECT FROM stand_in('POST', 'bill', '{"subscription": "sub_paid"}');
SELECT FROM stand_in('POST', 'subscriptions/sub_paid/status', '{"status": "past_due"}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 3600}');
SELECT kind, id, classification, here - 'ended_at' AS here, at_stripe - 'ended_at' AS at_stripe, repaired
FROM stripe_drift(objects => '{customer, subscription, price}');
SELECT kind, id, classification FROM stripe_drift(true, '{customer, subscription}') WHERE NOT repaired;
SELECT id, CASE WHEN deleted THEN 'deleted' ELSE email END AS email FROM stripe_portal.customer WHERE id ~ 'gone|stale|new' ORDER BY id;
SELECT id, status FROM stripe_portal.subscription WHERE id ~ 'left|paid|new' ORDER BY id;
SELECT kind, id, classification FROM stripe_drift(objects => '{customer, subscription}');

-- A subscription with more items than its object carries is compared as a whole.
SELECT count(stand_in('POST', 'prices', jsonb_build_object('id', 'price_many_' || n, 'product', 'prod_1', 'currency', 'eur', 'unit_amount', 100, 'recurring', '{"interval": "month"}'::jsonb)))
FROM generate_series(1, 15) AS n;
SELECT stripe_api('POST', '/v1/subscriptions', jsonb_build_object('customer', 'cus_same', 'items',
    (SELECT jsonb_agg(jsonb_build_object('price', 'price_many_' || n)) FROM generate_series(1, 15) AS n))) ->> 'id' AS sub_many \gset
SELECT stripe_refresh('cus_same');
SELECT FROM stand_in('POST', 'clock', '{"advance": 3600}');
SELECT count(*) FROM stripe_drift(objects => '{subscription}') WHERE id = :'sub_many';
-- here the last one is missing
UPDATE stripe_portal.subscription SET items = items - 14 WHERE id = :'sub_many';
SELECT classification, jsonb_array_length(here -> 'items') AS here, jsonb_array_length(at_stripe -> 'items') AS at_stripe, repaired
FROM stripe_drift(true, '{subscription}') WHERE id = :'sub_many';
SELECT jsonb_array_length(items) AS items, refetch FROM stripe_portal.subscription WHERE id = :'sub_many';

-- A row that says live, of an object that Stripe has in test mode only.
CREATE FUNCTION live_key() RETURNS void LANGUAGE sql AS
$$ SELECT set_config('stripe_portal.api_key_file', '', false), set_config('stripe_portal.api_key', 'sk_live_stand_in_key', false) $$;
SELECT current_setting('stripe_portal.api_key_file') AS key_file \gset
SELECT FROM live_key();
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
VALUES ('sub_same', true, 'cus_same', 'active', '[]', 'evt_1', '2026-01-01');
SELECT * FROM stripe_drift(objects => '{subscription}');
SELECT classification, repaired FROM stripe_drift(true, objects => '{subscription}');
SELECT livemode, status FROM stripe_portal.subscription WHERE id = 'sub_same' ORDER BY livemode;
RESET stripe_portal.api_key;
SELECT FROM set_config('stripe_portal.api_key_file', :'key_file', false);

-- What can not be compared is said so.
SELECT * FROM stripe_drift(objects => '{refund}');
BEGIN READ ONLY;
SELECT * FROM stripe_drift(repair => true);
ROLLBACK;

RESET stripe_portal.rate_limit;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();
DROP FUNCTION forget, written, live_key, stand_in;
