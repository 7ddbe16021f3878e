-- Periodic work: each part on its own.  Catching up with many lost deliveries,
-- and pg_cron, are in test/t/.
\set VERBOSITY terse

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
    TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
        stripe_portal.entitlement, stripe_portal.coupon, stripe_portal.discount, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.sync_cursor, stripe_portal.event_cursor, stripe_portal.tick_run $$;
CREATE VIEW seen AS
SELECT r ->> 'path' AS path, r ->> 'query' AS query FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r;
CREATE VIEW status AS SELECT part, state, error, last_success IS NOT NULL AS ever FROM stripe_portal.tick_status;
SET stripe_portal.rate_limit = 1000;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();

SELECT * FROM status;

-- Events that were never delivered: the first time all that Stripe has, and all
-- objects too.
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_1", "email": "old@example.com"}');
SELECT FROM stripe_api('POST', '/v1/customers/cus_1', '{"email": "new@example.com"}');
CALL stripe_portal_tick();
SELECT * FROM status;
SELECT id, email FROM stripe_portal.customer;
SELECT type, status FROM stripe_portal.event ORDER BY created, id;
-- the payload is as Stripe wrote it
SELECT count(*) FROM stripe_portal.event WHERE payload::text LIKE E'{\n%"object": "event"%';

-- Then from a little before the last one on; what is there already stays as it is.
SELECT FROM stand_in('POST', 'reset');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_2"}');
CALL stripe_catch_up();
SELECT count(*) FROM stripe_portal.event;
SELECT path, query ~ 'created\[gte\]=\d+' AS since FROM seen WHERE query !~ 'limit=1$';
SELECT c.event = (SELECT stripe_api('GET', '/v1/events') #>> '{data,0,id}') AS newest, c.created IS NOT NULL AS created, c.next_created
FROM stripe_portal.event_cursor AS c;

-- An event that turns up later in the second of the last one is not skipped.
DELETE FROM stripe_portal.event WHERE object_id = 'cus_2';
DELETE FROM stripe_portal.customer WHERE id = 'cus_2';
UPDATE stripe_portal.event_cursor SET event = 'evt_other';
CALL stripe_catch_up();
SELECT count(*) FROM stripe_portal.customer WHERE id = 'cus_2';

-- After a pause that is longer than Stripe keeps events, all objects are listed.
SELECT FROM stripe_api('POST', '/v1/customers/cus_2', '{"email": "late@example.com"}');
SELECT FROM stripe_api('DELETE', '/v1/customers/cus_1');
SELECT FROM stand_in('POST', 'clock', jsonb_build_object('advance', 40 * 86400));
CALL stripe_portal_tick();
SELECT id, email, deleted, refetch FROM stripe_portal.customer ORDER BY id;
SELECT bool_and(caught_up IS NOT NULL AND NOT relist AND next_created IS NULL) AS done FROM stripe_portal.event_cursor;

-- What could not be told apart is read again.
UPDATE stripe_portal.customer SET email = 'unsure@example.com', refetch = true WHERE id = 'cus_2';
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_portal_tick();
SELECT email, refetch FROM stripe_portal.customer WHERE id = 'cus_2';

-- The tiers of a price and the products of a coupon are in no event, so both are
-- read: 12 x 0.50 in tiers, and 10.00 of which the coupon takes a half.
SELECT FROM (SELECT stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}'), stripe_api('POST', '/v1/products', '{"id": "prod_2", "name": "Extra"}'),
    stand_in('POST', 'prices', '{"id": "price_tiered", "product": "prod_1", "currency": "eur", "billing_scheme": "tiered", "tiers_mode": "volume",
        "tiers": [{"up_to": 10, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}], "recurring": {"interval": "month"}}'),
    stand_in('POST', 'prices', '{"id": "price_extra", "product": "prod_2", "currency": "eur", "unit_amount": 1000, "recurring": {"interval": "month"}}'),
    stripe_api('POST', '/v1/coupons', '{"id": "EXTRA50", "percent_off": 50, "duration": "repeating", "duration_in_months": 3, "applies_to": {"products": ["prod_2"]}}'),
    stripe_api('POST', '/v1/subscriptions', '{"customer": "cus_2", "items": [{"price": "price_tiered", "quantity": 12}, {"price": "price_extra"}], "discounts": [{"coupon": "EXTRA50"}]}')) AS made;
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM stand_in('POST', 'reset');
CALL stripe_portal_tick();
SELECT path FROM seen WHERE path ~ 'coupons/|prices/' ORDER BY path;
SELECT applies_to, refetch FROM stripe_portal.coupon;
SELECT id, jsonb_array_length(tiers) AS tiers, refetch FROM stripe_portal.price ORDER BY id;
SELECT DISTINCT mrr FROM stripe_portal.subscription_change WHERE until = 'infinity';
-- What the merchant has called a coupon does not matter, and an id that can be in
-- no request does not stop the others.
SELECT FROM (SELECT stripe_api('POST', '/v1/coupons', '{"id": "10..OFF", "percent_off": 10}')) AS made;
INSERT INTO stripe_portal.coupon (id, livemode, event, event_created, refetch)
SELECT id, false, '', '2020-01-01', true FROM (VALUES ('..'), ('a/../b'), (repeat('x', 1000)), ('10..OFF')) AS t (id);
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_portal_tick();
SELECT left(id, 10) AS id, percent_off, refetch FROM stripe_portal.coupon ORDER BY id;
DELETE FROM stripe_portal.coupon WHERE id <> 'EXTRA50';
-- The discount ends; no event tells of it.  (Stripe's clock is ahead of ours here.)
UPDATE stripe_portal.discount SET "end" = now() - interval '1 second';
UPDATE stripe_portal.subscription_change SET at = at - interval '60 days', created = created - interval '60 days', discount_ends = now() - interval '1 second';
CALL stripe_portal_tick();
SELECT mrr, movement, mrr_change, inferred FROM stripe_portal.subscription_change WHERE until = 'infinity';

-- The features of a customer who has more of them than an event carries are read
-- too, page by page.
SELECT count(stripe_api('POST', '/v1/products/prod_1/features', jsonb_build_object('entitlement_feature',
    stripe_api('POST', '/v1/entitlements/features', jsonb_build_object('name', 'F', 'lookup_key', 'feature_' || n)) ->> 'id')))
FROM generate_series(1, 12) AS n;
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 5}');
SELECT DISTINCT outcome FROM jsonb_array_elements(stand_in('GET', 'deliveries', '{"type": "entitlements.active_entitlement_summary.updated"}') -> 'data') AS d,
    stripe_receive_webhook(d ->> 'payload', d ->> 'signature');
SELECT cardinality(lookup_keys) < 12 AS some, refetch FROM stripe_portal.entitlement WHERE customer = 'cus_2';
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_portal_tick();
SELECT cardinality(lookup_keys) AS all_of_them, refetch FROM stripe_portal.entitlement WHERE customer = 'cus_2';
-- A customer who is gone is entitled to nothing.
INSERT INTO stripe_portal.entitlement (customer, livemode, lookup_keys, event, event_created, refetch) VALUES ('cus_gone', false, '{sso}', '', '2020-01-01', true);
CALL stripe_portal_tick();
SELECT lookup_keys, refetch FROM stripe_portal.entitlement WHERE customer = 'cus_gone';
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 100}');

-- A thin event is resolved by reading its object, from nowhere but a plain path.
SELECT FROM stripe_api('POST', '/v1/customers/cus_2', '{"email": "thin@example.com"}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CREATE FUNCTION thin(id text, url text) RETURNS text LANGUAGE sql AS $$
    SELECT outcome FROM (SELECT format('{"id": "%s", "object": "v2.core.event", "type": "v1.customer.updated", "livemode": false,
        "created": "2026-11-10T12:00:00.000Z", "related_object": {"id": "cus_2", "type": "customer", "url": "%s"}}', id, url)) AS p (payload),
    stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_stand_in_secret')) $$;
SELECT thin('evt_thin1', '/v1/customers/cus_2');
SELECT outcome, error FROM stripe_resolve_thin('evt_thin1');
SELECT email FROM stripe_portal.customer WHERE id = 'cus_2';
SELECT status FROM stripe_portal.event WHERE id = 'evt_thin1';
SELECT * FROM stripe_resolve_thin('evt_thin1');
SELECT thin('evt_thin2', '//evil.example/v1/customers/cus_2'), thin('evt_thin3', '/v1/customers/cus_nobody'), thin('evt_thin4', '/v1/customers/cus_2');
SELECT FROM stand_in('POST', 'reset');
CALL stripe_portal_tick();
SELECT id, status, error FROM stripe_portal.event WHERE id LIKE 'evt_thin%' ORDER BY id;
SELECT path FROM seen WHERE path NOT LIKE '/v1/events%' ORDER BY path;

-- A part that fails does not stop the others, and is told of.
SELECT FROM stand_in('POST', 'fault', '{"kind": "should_not_retry", "path": "/v1/events", "times": 1}');
UPDATE stripe_portal.customer SET email = 'unsure@example.com', refetch = true WHERE id = 'cus_2';
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_portal_tick();
SELECT * FROM status;
SELECT email FROM stripe_portal.customer WHERE id = 'cus_2';
CALL stripe_portal_tick();
SELECT * FROM status;

-- The cursor does not pass an event that was kept out of the ledger.
SELECT created AS before FROM stripe_portal.event_cursor \gset
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_3"}');
CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
CREATE TRIGGER keep_out BEFORE INSERT ON stripe_portal.event FOR EACH ROW EXECUTE FUNCTION keep_out();
CALL stripe_catch_up();
DROP FUNCTION keep_out CASCADE;
SELECT created = :'before' AS stays FROM stripe_portal.event_cursor;
CALL stripe_catch_up();
SELECT created > :'before' AS moved_on FROM stripe_portal.event_cursor;
SELECT count(*) FROM stripe_portal.customer WHERE id = 'cus_3';

-- Dead letters are tried again when their time has come.
CREATE FUNCTION fragile(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
INSERT INTO stripe_portal.event_handler VALUES ('customer.updated', 'public.fragile');
SELECT FROM stripe_api('POST', '/v1/customers/cus_3', '{"name": "Ada"}');
CALL stripe_catch_up();
SELECT type, status, error FROM stripe_portal.event WHERE status = 'failed' AND type = 'customer.updated';
DELETE FROM stripe_portal.event_handler;
DROP FUNCTION fragile;
UPDATE stripe_portal.event SET last_attempt_at = now() - interval '1 day' WHERE status = 'failed' AND type = 'customer.updated';
CALL stripe_portal_tick();
SELECT count(*) FROM stripe_portal.event WHERE status = 'failed' AND type = 'customer.updated';

-- A part that has much to do lets the others have their turns: here one that
-- never comes to its end.
CREATE TEMP TABLE before AS SELECT pg_get_functiondef('stripe_portal.tend_step'::regproc) AS definition;
CREATE OR REPLACE FUNCTION stripe_portal.tend_step(place text) RETURNS text LANGUAGE sql AS $$ SELECT 'and so on' $$;
UPDATE stripe_portal.tick_run SET last_success = NULL;
CALL stripe_portal_tick();
SELECT part, state, portions, last_success IS NOT NULL AS done FROM stripe_portal.tick_status WHERE part IN ('refetch', 'ledger', 'win-back');
DO $$ BEGIN EXECUTE (SELECT definition FROM before); END $$;
DROP TABLE before;
CALL stripe_portal_tick();
SELECT part, state, portions FROM stripe_portal.tick_status WHERE part = 'ledger';

-- Whoever may call one portion can not write down a part that there is not.
SELECT stripe_portal.tick_portion('sleep', 'here');

-- It keeps the ledger to its retention; with it go the payloads.
INSERT INTO stripe_portal.event (id, livemode, created, type, object_id, payload, status, received_at)
SELECT 'evt_' || days, false, now() - days * interval '1 day', 'customer.updated', 'cus_old', '{"name": "Jenny"}', 'applied', now() FROM unnest('{100, 30}'::integer[]) AS days;
CALL stripe_portal_tick();
SELECT id FROM stripe_portal.event WHERE object_id = 'cus_old' ORDER BY id;
SET stripe_portal.event_retention = 60;
CALL stripe_portal_tick();
RESET stripe_portal.event_retention;
SELECT id FROM stripe_portal.event WHERE object_id = 'cus_old' ORDER BY id;

-- Its transactions are what they have to be, whatever the session's are.
SET default_transaction_isolation = 'serializable';
CALL stripe_portal_tick();
RESET default_transaction_isolation;
SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done';

-- A connected account that is closed to the key keeps no other waiting.
CALL stripe_catch_up('acct_zoe');
INSERT INTO stripe_portal.event_cursor (livemode, account, event, created, caught_up) VALUES (false, 'acct-gone', '', now() - interval '1 hour', now());
SELECT caught_up AS before FROM stripe_portal.event_cursor WHERE account = 'acct_zoe' \gset
CALL stripe_portal_tick();
SELECT part, state, error FROM stripe_portal.tick_status WHERE state <> 'done';
SELECT account, caught_up > :'before' AS caught_up FROM stripe_portal.event_cursor WHERE account = 'acct_zoe';
DELETE FROM stripe_portal.event_cursor WHERE account <> '';
CALL stripe_portal_tick();
SELECT part, state, error FROM stripe_portal.tick_status WHERE state <> 'done';

-- It commits, so it stands alone.
BEGIN;
CALL stripe_portal_tick();
ROLLBACK;

RESET stripe_portal.rate_limit;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();
DROP VIEW seen, status;
DROP FUNCTION thin, forget, stand_in;
