-- Reading what Stripe lists per customer only, payment methods and entitlements,
-- and what no list can be cut by time of, portal configurations.
\set VERBOSITY terse

CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
    TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
        stripe_portal.payment_method, stripe_portal.entitlement, stripe_portal.billing_portal_configuration,
        stripe_portal.sync_cursor, stripe_portal.event_cursor $$;
-- what differs between the tables and the stand-in, by no code of the extension's
CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE sql AS $$
    WITH state AS MATERIALIZED (SELECT stand_in('GET', 'state') -> 'objects' AS objects),
    truth AS (
        SELECT concat_ws(' ', o ->> 'id', o ->> 'customer', o #>> '{card,last4}') AS row
        FROM state, jsonb_array_elements(objects -> 'payment_method') AS o
        WHERE o ->> 'customer' IN (SELECT c ->> 'id' FROM jsonb_array_elements(objects -> 'customer') AS c)
        UNION ALL
        SELECT concat_ws(' ', s ->> 'customer', array_agg(DISTINCT f #>> '{entitlement_feature,lookup_key}'))
        FROM state, jsonb_array_elements(objects -> 'subscription') AS s, jsonb_array_elements(objects -> 'product_feature') AS f
        WHERE s ->> 'status' = 'active' GROUP BY s ->> 'customer'
        UNION ALL
        SELECT concat_ws(' ', o ->> 'id', (o ->> 'active')::boolean)
        FROM state, jsonb_array_elements(objects -> 'billing_portal.configuration') AS o),
    shown AS (
        SELECT concat_ws(' ', id, customer, last4) AS row FROM stripe_portal.payment_method
        WHERE attached AND NOT deleted AND customer IN (SELECT c.id FROM stripe_portal.customer AS c WHERE NOT c.deleted)
        UNION ALL
        SELECT concat_ws(' ', customer, lookup_keys) FROM stripe_portal.entitlement WHERE lookup_keys <> '{}'
        UNION ALL
        SELECT concat_ws(' ', id, active) FROM stripe_portal.billing_portal_configuration)
    SELECT coalesce('not here: ' || t.row, 'not true: ' || s.row) FROM truth AS t FULL JOIN shown AS s USING (row)
    WHERE t.row IS NULL OR s.row IS NULL ORDER BY 1 $$;
CREATE VIEW asked AS
SELECT r ->> 'path' AS path, substring(r ->> 'query' FROM 'customer=(\w+)') AS customer, substring(r ->> 'query' FROM 'starting_after=(\w+)') AS starting_after
FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') WITH ORDINALITY AS d (r, n) ORDER BY n;
SET stripe_portal.rate_limit = 1000;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();

-- Seven customers; the first has five cards, the others one each, the last none.
-- The first three have a plan with three features.  Two pages and more of each.
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
SELECT count(stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || n))) FROM generate_series(1, 7) AS n;
SELECT count(stripe_api('POST', '/v1/payment_methods/pm_card_visa/attach', jsonb_build_object('customer', 'cus_' || n)))
FROM generate_series(1, 6) AS n, generate_series(1, CASE n WHEN 1 THEN 5 ELSE 1 END);
SELECT count(stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || n, 'customer', 'cus_' || n, 'price', 'price_1'))) FROM generate_series(1, 3) AS n;
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');

-- Where nobody can be entitled to anything, nobody is asked for.
SELECT FROM stand_in('POST', 'reset');
CALL stripe_sync('{customer, entitlements.active_entitlement_summary}');
SELECT path FROM asked WHERE path ~ 'entitlements';
SELECT count(stripe_api('POST', '/v1/products/prod_1/features', jsonb_build_object('entitlement_feature',
    stripe_api('POST', '/v1/entitlements/features', jsonb_build_object('name', 'F', 'lookup_key', 'feature_' || n)) ->> 'id')))
FROM generate_series(1, 3) AS n;
SELECT stripe_api('POST', '/v1/billing_portal/configurations', '{"features": {"payment_method_update": {"enabled": true}, "subscription_update": {"enabled": true,
    "default_allowed_updates": ["price"], "products": [{"product": "prod_1", "prices": ["price_1"]}]}}}') ->> 'id' AS bpc \gset
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM forget();

-- A dry run asks for those customers, too, whom it came across itself.
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');
CALL stripe_sync('{customer, payment_method, entitlements.active_entitlement_summary, billing_portal.configuration}', dry_run => true);
SELECT count(*) FROM wrong();

-- By default everything is read: first all else, then customer by customer.
SELECT FROM stand_in('POST', 'reset');
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');
SET client_min_messages = warning;
CALL stripe_sync();
RESET client_min_messages;
SELECT * FROM wrong();
SELECT jsonb_array_length(products) AS products, products_updated = updated AS current, refetch FROM stripe_portal.billing_portal_configuration WHERE id = :'bpc';
SELECT bool_or(path ~ 'active_entitlements') AS asked, count(*) FILTER (WHERE path ~ 'payment_methods') AS pages_of_cards,
       string_agg(path, ' ') FILTER (WHERE path !~ 'payment_methods|active_entitlements') ~ 'payment_intents' AS others
FROM asked;
SELECT min(n) FILTER (WHERE path ~ 'payment_methods') > max(n) FILTER (WHERE path ~ '/v1/(customers|invoices|subscriptions)$') AS afterwards
FROM (SELECT path, row_number() OVER () AS n FROM asked) AS a;
SELECT object, rows, failed, state, rate > 0 AS rate FROM stripe_portal.sync_progress WHERE object ~ 'payment_method|entitlement|configuration' ORDER BY object;
CALL stripe_sync('{payment_method, entitlements.active_entitlement_summary, billing_portal.configuration}', dry_run => true);

-- Of the customers, those can be chosen who were created in some time; portal
-- configurations are always read as a whole.
SELECT FROM stand_in('POST', 'clock', '{"advance": 86400}');
SELECT FROM stand_in('POST', 'customers', '{"id": "cus_8"}');
SELECT FROM stripe_api('POST', '/v1/payment_methods/pm_card_visa/attach', '{"customer": "cus_8"}');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
CALL stripe_sync('{customer}');
SELECT FROM stand_in('POST', 'reset');
SELECT to_timestamp((stripe_api('GET', '/v1/customers/cus_8') ->> 'created')::bigint) AS created \gset
CALL stripe_sync('{payment_method, entitlements.active_entitlement_summary, billing_portal.configuration}', created_from => :'created');
SELECT path, customer FROM asked WHERE path !~ 'cus_8$|stand_in' ORDER BY path;
SELECT FROM stand_in('POST', 'reset');
CALL stripe_sync('{payment_method}', created_to => :'created');
SELECT count(*) AS requests, count(*) FILTER (WHERE path ~ 'cus_8') AS of_the_new_one FROM asked WHERE path ~ 'payment_methods';

-- What is not there any more is found by a complete run: a card that was
-- detached, what a customer who was deleted was entitled to.
SELECT FROM stripe_api('POST', '/v1/payment_methods/' || (SELECT min(id) FROM stripe_portal.payment_method WHERE customer = 'cus_1') || '/detach');
SELECT FROM stripe_api('DELETE', '/v1/customers/cus_2');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SET client_min_messages = warning;
CALL stripe_sync();
RESET client_min_messages;
SELECT * FROM wrong();
SELECT attached, count(*) FROM stripe_portal.payment_method GROUP BY attached ORDER BY attached;
SELECT customer, cardinality(lookup_keys) AS features FROM stripe_portal.entitlement WHERE customer IN ('cus_2', 'cus_3') ORDER BY customer;

-- A customer whom only the tables know keeps nothing back.
INSERT INTO stripe_portal.customer (id, livemode, event, event_created) VALUES ('cus_0', false, 'evt_1', '2020-01-01');
CALL stripe_sync('{payment_method, entitlements.active_entitlement_summary}');
DELETE FROM stripe_portal.customer WHERE id = 'cus_0';

-- A run that was broken off goes on with the page, and the customer, where it
-- was; here it was between two pages of the first one's cards, and the card after
-- which the next page begins has gone.
CREATE FUNCTION after_some() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM stripe_portal.payment_method) >= TG_ARGV[0]::integer THEN
        RAISE 'the disk is full' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NEW;
END $$;
SET stripe_portal.in_flight = 1;
TRUNCATE stripe_portal.payment_method;
CREATE TRIGGER after_some BEFORE INSERT ON stripe_portal.payment_method FOR EACH ROW EXECUTE FUNCTION after_some(2);
SELECT FROM stand_in('POST', 'page_limit', '{"limit": 2}');
CALL stripe_sync('{payment_method}');
SELECT pages, rows, state, estimated_end > started AS estimated FROM stripe_portal.sync_progress WHERE object = 'payment_method';
SELECT FROM stripe_api('POST', '/v1/payment_methods/' || (SELECT last_id FROM stripe_portal.sync_cursor WHERE object = 'payment_method') || '/detach');
DROP TRIGGER after_some ON stripe_portal.payment_method;
CREATE TRIGGER after_some BEFORE INSERT ON stripe_portal.payment_method FOR EACH ROW EXECUTE FUNCTION after_some(6);
CALL stripe_sync('{payment_method}');
DROP TRIGGER after_some ON stripe_portal.payment_method;
SELECT pages, rows, state FROM stripe_portal.sync_progress WHERE object = 'payment_method';
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT FROM stand_in('POST', 'reset');
CALL stripe_sync('{payment_method}');
SELECT path FROM asked WHERE path ~ '/payment_methods$' ORDER BY path;
CALL stripe_sync('{payment_method}');
SELECT * FROM wrong();
RESET stripe_portal.in_flight;
DROP FUNCTION after_some;

-- What the key has no right to read is refused, and the others are read.
SELECT FROM stand_in('POST', 'fault', '{"kind": "forbidden", "path": "/v1/entitlements", "times": 0}');
CALL stripe_sync('{payment_method, entitlements.active_entitlement_summary}');
SELECT object, state, error FROM stripe_portal.sync_progress WHERE object ~ 'payment_method|entitlement' ORDER BY object;
SELECT FROM stand_in('POST', 'reset');

-- Drift looks at them if it is asked to.
UPDATE stripe_portal.payment_method SET last4 = '0000' WHERE customer = 'cus_4';
DELETE FROM stripe_portal.payment_method WHERE customer = 'cus_5';
UPDATE stripe_portal.entitlement SET lookup_keys = '{feature_1}' WHERE customer = 'cus_3';
UPDATE stripe_portal.billing_portal_configuration SET products = '[]' WHERE id = :'bpc';
INSERT INTO stripe_portal.entitlement (customer, livemode, lookup_keys, event, event_created) VALUES ('cus_gone', false, '{feature_1}', 'evt_1', '2020-01-01');
SELECT FROM stand_in('POST', 'clock', '{"advance": 60}');
SELECT kind, count(*) FROM stripe_drift() GROUP BY kind;
SELECT count(*) AS requests FROM asked WHERE path ~ 'payment_methods|active_entitlements';
SELECT kind, CASE WHEN kind ~ 'ent' AND kind !~ 'payment' THEN id END AS customer, classification, here - 'products_updated' AS here, repaired
FROM stripe_drift(true, '{payment_method, entitlements.active_entitlement_summary, billing_portal.configuration}') ORDER BY kind, classification, customer;
SELECT * FROM wrong();
SELECT * FROM stripe_drift(objects => '{payment_method, entitlements.active_entitlement_summary, billing_portal.configuration}');

RESET stripe_portal.rate_limit;
SELECT FROM stand_in('POST', 'reset', '{"state": true}');
SELECT FROM forget();
DROP VIEW asked;
DROP FUNCTION forget, wrong, stand_in;
