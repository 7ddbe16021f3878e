-- Reading everything from Stripe.  How it behaves when it is killed, or run
-- twice at once, is in test/t/010_sync.pl.
\set VERBOSITY terse

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE VIEW shown AS
SELECT 'customer' AS kind, id, CASE WHEN deleted THEN 'deleted' ELSE coalesce(email, '-') END AS state FROM stripe_portal.customer
UNION ALL SELECT 'subscription', id, status FROM stripe_portal.subscription
UNION ALL SELECT 'price', id, CASE WHEN deleted THEN 'deleted' WHEN active THEN 'active' ELSE 'inactive' END FROM stripe_portal.price
UNION ALL SELECT 'product', id, CASE WHEN deleted THEN 'deleted' ELSE name END FROM stripe_portal.product;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
    TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
        stripe_portal.invoice, stripe_portal.coupon, stripe_portal.discount, stripe_portal.billing_portal_configuration,
        stripe_portal.subscription_change, stripe_portal.sync_cursor, stripe_portal.event_cursor, stripe_portal.tick_run $$;
SET stripe_portal.rate_limit = 1000;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();

SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_2", "product": "prod_1", "currency": "eur", "unit_amount": 1000, "recurring": {"interval": "month"}}');
SELECT FROM stripe_api('POST', '/v1/prices/price_2', '{"active": false}');
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY20", "percent_off": 20, "duration": "forever"}');
SELECT count(stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || n, 'email', n || '@example.com'))) FROM generate_series(1, 7) AS n;
SELECT count(stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || n, 'customer', 'cus_' || n, 'price', 'price_1')))
FROM generate_series(1, 7) AS n;
SELECT FROM stand_in('POST', 'subscriptions/sub_3/status', '{"status": "canceled"}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');

-- A dry run writes nothing.
CALL stripe_sync(dry_run => true);
SELECT count(*) FROM shown;
SELECT count(*) FROM stripe_portal.sync_cursor;
BEGIN READ ONLY;
CALL stripe_sync('{customer}', dry_run => true);
ROLLBACK;

-- Everything, whatever the size of a page: inactive prices and canceled
-- subscriptions too.
SET client_min_messages = warning;
CALL stripe_sync();
RESET client_min_messages;
SELECT * FROM shown ORDER BY kind, id;
SELECT object, rows, failed, error, state, finished >= started AS finished, rate > 0 AS rate, estimated_end
FROM stripe_portal.sync_progress WHERE rows > 0 ORDER BY object;
CALL stripe_sync(dry_run => true);

-- Kinds and times can be chosen.
SELECT FROM forget();
CALL stripe_sync('{customer}', created_to => now() + interval '1 day');
SELECT kind, count(*) FROM shown GROUP BY kind;
SELECT FROM forget();
CALL stripe_sync('{customer, product}', created_from => now() + interval '1 day');
SELECT count(*) FROM shown;
CALL stripe_sync('{customer, invoices}');
BEGIN;
CALL stripe_sync();
ROLLBACK;
BEGIN READ ONLY;
CALL stripe_sync();
ROLLBACK;

-- A run that was broken off goes on where it was: what it has read is not read
-- again.  Here the fourth page does not come.
SELECT FROM forget();
SET stripe_portal.in_flight = 1;
SET stripe_portal.max_retries = 0;
SELECT FROM stand_in('POST', 'reset');
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');
CALL stripe_sync('{product}');
CREATE FUNCTION after_some() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM stripe_portal.customer) >= 4 THEN
        RAISE 'the disk is full' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER after_some BEFORE INSERT ON stripe_portal.customer FOR EACH ROW EXECUTE FUNCTION after_some();
CALL stripe_sync('{customer}');
SELECT count(*) FROM stripe_portal.customer;
SELECT pages, rows, state FROM stripe_portal.sync_progress WHERE object = 'customer';
DROP TRIGGER after_some ON stripe_portal.customer;
SELECT FROM stand_in('POST', 'reset');
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');
CALL stripe_sync('{customer}');
SELECT count(*) FROM stripe_portal.customer;
SELECT r ->> 'path' AS path, substring(r ->> 'query' FROM 'starting_after=(\w+)') AS starting_after
FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r;

-- If the object after which the next page begins is gone by then, nothing is
-- left out.
SELECT FROM forget();
CREATE TRIGGER after_some BEFORE INSERT ON stripe_portal.customer FOR EACH ROW EXECUTE FUNCTION after_some();
CALL stripe_sync('{customer}');
DROP TRIGGER after_some ON stripe_portal.customer;
DROP FUNCTION after_some;
SELECT last_id FROM stripe_portal.sync_cursor WHERE object = 'customer' \gset
SELECT FROM stripe_api('DELETE', '/v1/customers/' || :'last_id');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_sync('{customer}');
SELECT id, state FROM shown WHERE kind = 'customer' ORDER BY id;
RESET stripe_portal.in_flight;
RESET stripe_portal.max_retries;

-- What is gone at Stripe is in no list; a complete run finds out.
SELECT FROM stripe_api('DELETE', '/v1/customers/cus_7');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_sync('{customer}', created_from => '2020-01-01');
SELECT state FROM shown WHERE id = 'cus_7';
CALL stripe_sync('{customer}');
SELECT state FROM shown WHERE id = 'cus_7';
-- from the first to the last of the key's own account, and none at all
CALL stripe_sync('{customer}', created_from => '-infinity', created_to => 'infinity', account => NULL);
CALL stripe_sync('{customer}', created_from => 'infinity');
CALL stripe_sync('{customer}', created_to => '-infinity', dry_run => true);
-- but not with the key of another account
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
INSERT INTO stripe_portal.customer (id, livemode, event, event_created)
SELECT 'cus_other_' || n, false, '', '2020-01-01' FROM generate_series(1, 20) AS n;
CALL stripe_sync('{customer}');
SELECT count(*) FROM stripe_portal.customer WHERE id LIKE 'cus_other%' AND (deleted OR refetch);
SELECT FROM forget();

-- A page that was read before an event happened does not undo it.  The answer
-- with the page is under way for longer than the event takes.
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_1", "email": "old@example.com"}');
SELECT FROM stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 2, "path": "/v1/customers"}');
INSERT INTO stripe_portal.customer (id, livemode, email, event, event_created)
VALUES ('cus_1', false, 'new@example.com', 'evt_new', date_trunc('second', clock_timestamp() + interval '1 second'));
CALL stripe_sync('{customer}');
SELECT email, event FROM stripe_portal.customer;

-- An object that can not be applied does not keep back the others.
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_2", "email": "poison@example.com"}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_3"}');
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.email = 'poison@example.com' THEN
        RAISE 'poisoned';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER poison BEFORE INSERT ON stripe_portal.customer FOR EACH ROW EXECUTE FUNCTION poison();
CALL stripe_sync('{customer}');
SELECT rows, failed, failure, state FROM stripe_portal.sync_progress WHERE object = 'customer';
SELECT id FROM stripe_portal.customer ORDER BY id;
DROP FUNCTION poison CASCADE;

-- Subscriptions with more items than their object carries are read in full, and
-- tiers, of which no event tells.
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT count(stand_in('POST', 'prices', jsonb_build_object('id', 'price_' || n, 'product', 'prod_1', 'currency', 'eur', 'unit_amount', 100, 'recurring', '{"interval": "month"}'::jsonb)))
FROM generate_series(1, 15) AS n;
SELECT FROM stand_in('POST', 'prices', '{"id": "price_tiered", "product": "prod_1", "currency": "eur", "billing_scheme": "tiered", "tiers_mode": "volume",
    "tiers": [{"up_to": 10, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}], "recurring": {"interval": "month"}}');
SELECT FROM stripe_api('POST', '/v1/subscriptions', jsonb_build_object('customer', 'cus_1', 'items',
    (SELECT jsonb_agg(jsonb_build_object('price', 'price_' || n)) FROM generate_series(1, 15) AS n)));
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_sync('{subscription, price}');
SELECT jsonb_array_length(items) AS items, refetch FROM stripe_portal.subscription;
SELECT jsonb_array_length(tiers) AS tiers FROM stripe_portal.price WHERE id = 'price_tiered';

-- What an amount off is in another currency, which no event tells, is read: here
-- 4.00 off the 15 items of 1.00 in euros.
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "OFF5", "amount_off": 500, "currency": "usd", "currency_options": {"eur": {"amount_off": 400}}, "duration": "forever"}');
SELECT id AS subscription FROM stripe_portal.subscription \gset
SELECT FROM stripe_api('POST', '/v1/subscriptions/' || :'subscription', '{"discounts": [{"coupon": "OFF5"}]}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_sync('{coupon, subscription}');
SELECT currency_options FROM stripe_portal.coupon WHERE id = 'OFF5';
SELECT mrr FROM stripe_portal.subscription_change WHERE subscription = :'subscription' AND until = 'infinity';
UPDATE stripe_portal.coupon SET currency_options = NULL, event = 'evt_1', event_created = event_created - interval '1 minute', applies_to = '["prod_1"]' WHERE id = 'OFF5';
SELECT stripe_portal.refetch(kinds => '{coupon}') IS NOT NULL AS read;
SELECT currency_options FROM stripe_portal.coupon WHERE id = 'OFF5';

-- A kind that the key has no right to read is refused, the others are read.
SELECT FROM stand_in('POST', 'fault', '{"kind": "forbidden", "path": "/v1/prices", "times": 0}');
CALL stripe_sync('{price, product}');
SELECT object, rows, state, error FROM stripe_portal.sync_progress WHERE object IN ('price', 'product') ORDER BY object;
SELECT count(*) FROM stripe_drift(objects => '{price}');
SELECT FROM stand_in('POST', 'reset');
CALL stripe_sync('{price, product}');

-- The one escape that text can not hold does not keep anything back.
SELECT FROM stripe_api('POST', '/v1/products/prod_1', '{"name": "Professional"}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM stand_in('POST', 'fault', '{"kind": "nul_escape", "times": 0}');
CALL stripe_sync('{product}');
CALL stripe_catch_up();
SELECT object, failed, state FROM stripe_portal.sync_progress WHERE object IN ('event', 'product') ORDER BY object;
SELECT ascii(name) = x'fffd'::integer AS replaced, substr(name, 2) AS name FROM stripe_portal.product;
SELECT count(*) FROM stripe_drift(objects => '{product}');
SELECT stripe_refresh('cus_3');
SELECT FROM stand_in('POST', 'reset');

-- Catching up does not take a run that read only a part for the whole that it
-- was to read.
DELETE FROM stripe_portal.event_cursor;
SELECT stripe_portal.catch_up_plan('') @> '{event, customer}' AS lists_all;
CALL stripe_sync('{customer}', created_from => now() + interval '1 day');
CALL stripe_catch_up();
SELECT caught_up IS NOT NULL AS caught_up, relist FROM stripe_portal.event_cursor;
CALL stripe_catch_up();
SELECT caught_up IS NOT NULL AS caught_up, relist FROM stripe_portal.event_cursor;

-- Tables that grow are analyzed on the way, or plans made on empty ones would
-- be used for a long time.
ALTER TABLE stripe_portal.customer SET (autovacuum_enabled = off);
INSERT INTO stripe_portal.customer (id, livemode, email, event, event_created)
SELECT 'cus_grown' || n, false, n || '@example.com', 'evt_1', '2026-01-01' FROM generate_series(1, 3000) AS n;
SELECT reltuples < 1000 AS before FROM pg_class WHERE oid = 'stripe_portal.customer'::regclass;
CALL stripe_sync('{customer}', created_from => now() + interval '1 day');
SELECT reltuples > 2000 AS analyzed FROM pg_class WHERE oid = 'stripe_portal.customer'::regclass;
SELECT stripe_portal.analyze_grown();
ALTER TABLE stripe_portal.customer RESET (autovacuum_enabled);
DELETE FROM stripe_portal.customer WHERE id LIKE 'cus\_grown%';

-- Connected accounts are read each by itself.
SELECT FROM stripe_api('POST', '/v1/customers', '{"name": "Theirs"}', account => 'acct_1');
CALL stripe_sync('{customer}', account => 'acct_1');
SELECT account, count(*) FROM stripe_portal.customer GROUP BY account ORDER BY account;

RESET stripe_portal.rate_limit;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();
DROP VIEW shown;
DROP FUNCTION forget, stand_in;
