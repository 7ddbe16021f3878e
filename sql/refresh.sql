-- Reading one customer from Stripe now, when asked to or before refusing them.
\set VERBOSITY terse

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE VIEW shown AS
SELECT 'customer' AS kind, id, CASE WHEN deleted THEN 'deleted' ELSE email END AS state, event FROM stripe_portal.customer
UNION ALL
SELECT 'subscription', id, status, event FROM stripe_portal.subscription ORDER BY 1, 2;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.session;

SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_1", "email": "ada@example.com"}');
SELECT count(stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || n, 'customer', 'cus_1', 'price', 'price_1')))
FROM generate_series(1, 5) AS n;
SELECT FROM stand_in('POST', 'subscriptions/sub_2/status', '{"status": "canceled"}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_2", "email": "bob@example.com"}');

-- The customer and all subscriptions, page by page, the canceled ones too; not
-- what belongs to others.
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');
SELECT stripe_refresh('cus_1');
SELECT * FROM shown;

-- A second reading changes nothing, one of somebody unknown gives nothing.
SELECT stripe_refresh('cus_1');
SELECT count(*) FROM shown;
SELECT stripe_refresh('cus_nobody'), stripe_refresh('cus/nobody');
SELECT stripe_refresh('cus/../nobody');
SELECT count(*) FROM shown;

-- What is true at Stripe later replaces it.
SELECT FROM stand_in('POST', 'clock', '{"advance": 10}');
SELECT FROM stand_in('POST', 'subscriptions/sub_1/status', '{"status": "past_due"}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 10}');
SELECT stripe_refresh('cus_1');
SELECT * FROM shown WHERE id = 'sub_1';

-- An event that is newer than what was read is not undone by it: here Stripe's
-- answer is on its way for longer than the event takes.
SELECT FROM stripe_api('POST', '/v1/customers/cus_1', '{"email": "new@example.com"}');
SELECT outcome FROM jsonb_array_elements(stand_in('GET', 'deliveries', '{"type": "customer.updated"}') -> 'data') AS d,
    stripe_receive_webhook(d ->> 'payload', d ->> 'signature');
SELECT email, event <> '' AS from_event FROM stripe_portal.customer WHERE id = 'cus_1';
UPDATE stripe_portal.customer SET email = 'newer@example.com', event_created = event_created + interval '1 second' WHERE id = 'cus_1';
SELECT FROM stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 2, "path": "/v1/customers/"}');
SELECT stripe_refresh('cus_1');
SELECT email, event <> '' AS from_event FROM stripe_portal.customer WHERE id = 'cus_1';

-- A subscription with more items than its object carries is read in full.
SELECT FROM stripe_api('POST', '/v1/subscriptions', jsonb_build_object('customer', 'cus_2', 'items',
    (SELECT jsonb_agg(jsonb_build_object('price', stand_in('POST', 'prices', jsonb_build_object('id', 'price_many_' || n, 'product', 'prod_1', 'currency', 'eur', 'unit_amount', 100, 'recurring', '{"interval": "month"}'::jsonb)) ->> 'id'))
     FROM generate_series(1, 15) AS n)));
SELECT stripe_refresh('cus_2');
SELECT jsonb_array_length(items) AS items, refetch FROM stripe_portal.subscription WHERE customer = 'cus_2';

-- Who was deleted at Stripe is deleted here, and their subscriptions have ended.
SELECT FROM stripe_api('DELETE', '/v1/customers/cus_2');
SELECT FROM stand_in('POST', 'clock', '{"advance": 10}');
SELECT stripe_refresh('cus_2');
SELECT * FROM shown WHERE id = 'cus_2';
SELECT status, ended_at IS NOT NULL AS ended FROM stripe_portal.subscription WHERE customer = 'cus_2';
-- then there is nothing left to read but the customer
SELECT stripe_refresh('cus_2');

-- Whom Stripe does not know at all, which happens to test data, is deleted here as
-- well, unless nothing of them is here.
INSERT INTO stripe_portal.customer (id, livemode, email, event, event_created)
VALUES ('cus_lost', false, 'lost@example.com', 'evt_1', '2026-01-01'), ('cus_lost', true, 'live@example.com', 'evt_1', '2026-01-01');
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
VALUES ('sub_lost', false, 'cus_lost', 'active', '[]', 'evt_1', '2026-01-01'), ('sub_lost', true, 'cus_lost', 'active', '[]', 'evt_1', '2026-01-01'),
       ('sub_over', false, 'cus_lost', 'canceled', '[]', 'evt_1', '2026-01-01'), ('sub_alone', false, 'cus_alone', 'past_due', '[]', 'evt_1', '2026-01-01');
SELECT stripe_refresh('cus_lost'), stripe_refresh('cus_alone'), stripe_refresh('cus_nobody');
SELECT id, livemode, email, deleted FROM stripe_portal.customer WHERE id IN ('cus_lost', 'cus_alone', 'cus_nobody') ORDER BY id, livemode;
SELECT id, livemode, status, ended_at IS NOT NULL AS ended FROM stripe_portal.subscription WHERE id IN ('sub_lost', 'sub_over', 'sub_alone') ORDER BY id, livemode;
DELETE FROM stripe_portal.customer WHERE id IN ('cus_lost', 'cus_alone');
DELETE FROM stripe_portal.subscription WHERE id IN ('sub_lost', 'sub_over', 'sub_alone');

-- The key's mode and no other; and nothing is written where nothing may be.
SELECT stripe_refresh('cus_1', livemode => true);
SELECT stripe_refresh('');
SELECT stripe_refresh(NULL);
BEGIN READ ONLY;
SELECT stripe_refresh('cus_1');
ROLLBACK;

-- The portal: a customer who is unknown here is refused, or with a setting read
-- from Stripe first, once.
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 100}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_3"}');
SELECT FROM stand_in('POST', 'subscriptions', '{"id": "sub_3a", "customer": "cus_3", "price": "price_1"}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_4"}');
SELECT stripe_portal_session('cus_3', 'https://app.example.com') LIKE 'https://%' AS url;
SET stripe_portal.refresh_unknown = on;
SELECT stripe_portal_session('cus_3', 'https://app.example.com') LIKE 'https://%' AS url;
SELECT * FROM shown WHERE id IN ('cus_3', 'sub_3a');
SELECT FROM stand_in('POST', 'reset');
SELECT url, refused FROM stripe_portal_open('cus_4', 'https://app.example.com');
SELECT r ->> 'path' AS read_once FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r;
SELECT url, refused FROM stripe_portal_open('cus_nobody');
SELECT stripe_portal_session('cus_nobody');
SELECT customer, refused FROM stripe_portal.session ORDER BY created;
SELECT id FROM stripe_portal.customer WHERE id IN ('cus_4', 'cus_nobody');

-- The error tells what was read.
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_6"}');
SELECT FROM stand_in('POST', 'subscriptions', '{"id": "sub_6a", "customer": "cus_6", "price": "price_1"}');
SELECT FROM stand_in('POST', 'subscriptions/sub_6a/status', '{"status": "canceled"}');
\set VERBOSITY default
SELECT stripe_portal_session('cus_6');
\set VERBOSITY terse
SELECT count(*) FROM shown WHERE id IN ('cus_6', 'sub_6a');

-- A flow that Stripe would refuse leaves no trace of the customer.
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_5"}');
SELECT FROM stand_in('POST', 'subscriptions', '{"id": "sub_5a", "customer": "cus_5", "price": "price_1"}');
SELECT stripe_portal_session('cus_5', flow => 'subscription_cancel', subscription => 'sub_1');
SELECT count(*) FROM shown WHERE id IN ('cus_5', 'sub_5a');

RESET stripe_portal.refresh_unknown;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.session;
DROP VIEW shown;
DROP FUNCTION stand_in;
