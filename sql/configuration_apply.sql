-- Portal configurations as code: compared with Stripe's, applied, and watched.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
\pset format unaligned
\pset footer off

CREATE FUNCTION requests(OUT request text, OUT params jsonb) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT r ->> 'method' || ' ' || (r ->> 'path'), (r -> 'params') - 'expand'
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r $$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$ SELECT stripe_api('POST', '/v1/test_helpers/stand_in/reset') $$;
-- Another second begins at Stripe's.
CREATE FUNCTION tick() RETURNS void LANGUAGE sql AS $$
    SELECT stripe_api('POST', '/v1/test_helpers/stand_in/clock', '{"advance": 2}'); SELECT forget() $$;
CREATE FUNCTION receive() RETURNS void LANGUAGE sql AS $$
    SELECT stripe_receive_webhook(d ->> 'payload', d ->> 'signature')
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') AS d $$;
-- What the stand-in has.
CREATE FUNCTION at_stripe(id text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT stripe_api('GET', '/v1/billing_portal/configurations/' || id, '{"expand": ["features.subscription_update.products"]}') $$;

SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
SELECT FROM unnest(ARRAY['month', 'year']) AS i, stripe_api('POST', '/v1/test_helpers/stand_in/prices', jsonb_build_object('id', 'price_' || i,
    'product', 'prod_1', 'currency', 'eur', 'unit_amount', 2000, 'tax_behavior', 'exclusive', 'recurring', jsonb_build_object('interval', i)));
SELECT FROM receive();

-- ---------------------------------------------------------------------------
-- Declared, compared, applied: one request looks for it, one creates it.
SELECT stripe_portal_configure('standard', cancel_flows => true, plan_changes => true, return_url => 'https://app.example.com/account', options => '{
    "business_profile": {"headline": "Acme"}, "metadata": {"team": "billing"},
    "features": {"subscription_update": {"products": [{"product": "prod_1", "prices": ["price_month", "price_year"]}]}}}');
SELECT * FROM stripe_portal_configuration_diff('standard');
SELECT forget();
SELECT stripe_portal_configuration_apply('standard') AS id \gset
SELECT request, jsonb_pretty(params) FROM requests();
SELECT stripe_id = :'id' AS id, applied_at >= declared_at AS applied FROM stripe_portal.configuration;
SELECT * FROM stripe_portal_configuration_diff('standard');

-- Applied again: nothing is sent.
SELECT forget();
SELECT stripe_portal_configuration_apply('standard') = :'id' AS same;
SELECT replace(request, :'id', 'ID') AS request FROM requests();

-- Only what differs is sent, and what the declaration has no longer is cleared.
SELECT tick();
SELECT stripe_portal_configure('standard', cancel_flows => true, plan_changes => true, options => '{
    "metadata": {"owner": "growth"},
    "features": {"subscription_cancel": {"mode": "immediately", "cancellation_reason": {"enabled": true, "options": ["unused", "other"]}},
                 "customer_update": {"enabled": true, "allowed_updates": ["email"]},
                 "subscription_pause": {"enabled": true, "duration": {"type": "indefinite"}},
                 "subscription_update": {"products": [{"product": "prod_1", "prices": ["price_year"], "adjustable_quantity": {"enabled": true, "maximum": 5}}],
                                         "schedule_at_period_end": {"conditions": [{"type": "shortening_interval"}]}}}}');
SELECT * FROM stripe_portal_configuration_diff('standard');
SELECT stripe_portal_configuration_apply('standard') = :'id' AS same;
SELECT replace(request, :'id', 'ID') AS request, params FROM requests() WHERE request LIKE 'POST%';
SELECT * FROM stripe_portal_configuration_diff('standard');
-- an own list of reasons takes the place of Stripe's
SELECT tick();
SELECT stripe_portal_configure('standard', true, true, '{
    "features": {"subscription_cancel": {"cancellation_reason": {"enabled": true, "options": [], "feedback_options": ["bfo_1"]}},
                 "customer_update": {"enabled": true, "allowed_updates": ["email"]},
                 "subscription_update": {"products": [{"product": "prod_1", "prices": ["price_year"]}],
                                         "schedule_at_period_end": {"conditions": [{"type": "shortening_interval"}]}}}}');
SELECT stripe_portal_configuration_apply('standard') = :'id' AS same;
SELECT params #> '{features,subscription_cancel}' AS cancel, params #> '{features,subscription_pause}' AS pause FROM requests() WHERE request LIKE 'POST%';
SELECT * FROM stripe_portal_configuration_diff('standard');
-- everything back to its default
SELECT tick();
SELECT stripe_portal_configure('standard', cancel_flows => true, plan_changes => false);
SELECT stripe_portal_configuration_apply('standard') = :'id' AS same;
SELECT replace(request, :'id', 'ID') AS request, params FROM requests() WHERE request LIKE 'POST%';
SELECT * FROM stripe_portal_configuration_diff('standard');
SELECT at_stripe(:'id') -> 'metadata' AS metadata, at_stripe(:'id') #> '{features,subscription_update,products}' AS products;

-- The order of a list is no difference, and neither is what Stripe has besides.
SELECT tick();
SELECT stripe_portal_configure('standard', true, true, '{"features": {"customer_update": {"enabled": true, "allowed_updates": ["name", "email"]},
    "subscription_update": {"products": [{"product": "prod_1", "prices": ["price_year", "price_month"]}]}}}');
SELECT stripe_portal_configuration_apply('standard') = :'id' AS same;
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/' || :'id', '{"features": {"customer_update": {"allowed_updates": ["email", "name"]},
    "subscription_update": {"products": [{"product": "prod_1", "prices": ["price_month", "price_year"]}], "billing_cycle_anchor": "now"}}}');
SELECT * FROM stripe_portal_configuration_diff('standard');

-- ---------------------------------------------------------------------------
-- Drift: somebody clicks in the Dashboard.
SELECT receive();
SELECT name, path FROM stripe_portal.configuration_drift;
SELECT tick();
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/' || :'id', '{"active": false, "metadata": {"by": "sk_live_oops", "stripe_portal": ""}, "features": {"subscription_cancel": {"enabled": false}}}');
SELECT receive();
SELECT name, stripe_id = :'id' AS id, path, declared, at_stripe FROM stripe_portal.configuration_drift;
SELECT * FROM stripe_portal_configuration_diff('standard');
-- the mirror tells the same without a request
SELECT forget();
SELECT * FROM stripe_portal_configuration_diff('standard', from_mirror => true);
SELECT count(*) AS requests FROM requests();
-- the event had no products, so the mirror keeps those it knew, and says so
SELECT products_updated < updated AS stale, refetch, jsonb_array_length(products) AS products, features #> '{subscription_update,products}' AS in_features
FROM stripe_portal.billing_portal_configuration WHERE id = :'id';
-- products are compared only while they are known to be current
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/' || :'id', '{"features": {"subscription_update": {"products": ""}}}');
SELECT receive();
SELECT path FROM stripe_portal.configuration_drift;
SELECT path FROM stripe_portal_configuration_diff('standard');
-- the tick reads what is marked, products included
SELECT tick();
SELECT stripe_portal.refetch(kinds => '{billing_portal.configuration}') IS NOT NULL AS read;
SELECT products_updated = updated AS current, refetch, jsonb_array_length(products) AS products FROM stripe_portal.billing_portal_configuration WHERE id = :'id';
SELECT path FROM stripe_portal.configuration_drift;
-- applying puts it right, also in the mirror and at once
SELECT tick();
SELECT stripe_portal_configuration_apply('standard') = :'id' AS same;
SELECT replace(request, :'id', 'ID') AS request, params FROM requests() WHERE request LIKE 'POST%';
SELECT count(*) AS drift FROM stripe_portal.configuration_drift;
SELECT products_updated = updated AS current, refetch, jsonb_array_length(products) AS products FROM stripe_portal.billing_portal_configuration WHERE id = :'id';
-- its event comes later, and repeats it
SELECT receive();
SELECT products_updated = updated AS current, refetch, jsonb_array_length(products) AS products FROM stripe_portal.billing_portal_configuration WHERE id = :'id';
SELECT count(*) AS drift FROM stripe_portal.configuration_drift;

-- Clicks within one second are put in order, whichever comes first
SELECT tick();
SELECT count(*) FROM unnest(ARRAY['first', 'second', 'third']) AS headline,
    stripe_api('POST', '/v1/billing_portal/configurations/' || :'id', jsonb_build_object('business_profile', jsonb_build_object('headline', headline)));
SELECT count(DISTINCT outcome) AS outcomes
FROM (SELECT d FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries') -> 'data') WITH ORDINALITY AS e (d, n) ORDER BY n DESC LIMIT 3) AS last_three,
     stripe_receive_webhook(d ->> 'payload', d ->> 'signature');
SELECT path, declared, at_stripe FROM stripe_portal.configuration_drift;

-- Reads, two of them of one second, and the events of the same changes, in every
-- order, leave the same row.
CREATE FUNCTION orders(fact jsonb[], seen integer[] DEFAULT '{}') RETURNS SETOF integer[] LANGUAGE sql AS $$
    SELECT seen WHERE cardinality(seen) = cardinality(fact)
    UNION ALL
    SELECT o FROM generate_subscripts(fact, 1) AS i, orders(fact, seen || i) AS o WHERE i <> ALL (seen) AND cardinality(seen) < cardinality(fact) $$;
CREATE FUNCTION replay(fact jsonb[], ordering integer[]) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    i integer;
    result jsonb;
BEGIN
    FOREACH i IN ARRAY ordering LOOP
        IF fact[i] ? 'id' THEN
            PERFORM stripe_portal.apply_event(fact[i] || '{"livemode": false}');
        ELSE
            PERFORM stripe_portal.apply_object(fact[i] -> 'object', false, '', to_timestamp((fact[i] ->> 'read')::integer));
        END IF;
    END LOOP;
    DELETE FROM stripe_portal.billing_portal_configuration AS c WHERE id = 'bpc_x' RETURNING to_jsonb(c) INTO result;
    RETURN result;
END $$;
SELECT count(*) AS orders, count(DISTINCT row) AS rows, min(row ->> 'name') AS name, min(row ->> 'products') AS products, min(row ->> 'event') AS event, min(row ->> 'refetch') AS refetch
FROM (SELECT ARRAY(SELECT jsonb_strip_nulls(jsonb_build_object('id', event, 'type', 'billing_portal.configuration.updated', 'created', at, 'read', CASE WHEN event IS NULL THEN at END,
          CASE WHEN event IS NULL THEN 'object' ELSE 'data' END, CASE WHEN event IS NULL THEN o ELSE jsonb_build_object('object', o) END))
      FROM (VALUES ('evt_1', 100, 100, NULL), ('evt_2', 201, 200, NULL), (NULL, 200, 200, '[{"product": "prod_2"}]'), (NULL, 200, 200, '[{"product": "prod_3"}]'), (NULL, 100, 100, '[{"product": "prod_1"}]')) AS f (event, at, updated, products),
           LATERAL (SELECT jsonb_build_object('id', 'bpc_x', 'object', 'billing_portal.configuration', 'name', 'as of ' || updated, 'updated', updated, 'active', true,
                               'features', jsonb_build_object('subscription_update', jsonb_build_object('enabled', true, 'products', products::jsonb)))) AS c (o)) AS fact) AS facts,
     orders(fact) AS ordering, replay(fact, ordering) AS row;

-- ---------------------------------------------------------------------------
-- Created, but the transaction did not live to tell: it is found again by its metadata.
SELECT stripe_portal_configure('lost', true, false);
BEGIN;
SELECT stripe_portal_configuration_apply('lost') AS lost \gset
ROLLBACK;
SELECT stripe_id FROM stripe_portal.configuration WHERE name = 'lost';
SELECT forget();
SELECT stripe_portal_configuration_apply('lost') = :'lost' AS same;
SELECT request, params FROM requests();
-- and should no list show it, its idempotency key does not let there be a second one
SELECT stripe_portal_configure('cut', true, false);
BEGIN;
SELECT stripe_portal_configuration_apply('cut') AS cut \gset
ROLLBACK;
SELECT FROM stripe_api('POST', '/v1/billing_portal/configurations/' || :'cut', '{"active": false}');
SELECT stripe_portal_configuration_apply('cut') = :'cut' AS same;
SELECT * FROM stripe_portal_configuration_diff('cut');
SELECT stripe_portal_configuration_apply('cut') = :'cut' AS same;
SELECT count(*) AS made FROM jsonb_array_elements(stripe_api('GET', '/v1/billing_portal/configurations', '{"limit": 100}') -> 'data') AS c WHERE c ->> 'name' = 'cut';

-- What Stripe refused once is not refused for ever.
SELECT stripe_portal_configure('unlucky', true, true, '{"features": {"subscription_update": {"products": [{"product": "prod_2", "prices": ["price_2"]}]}}}');
SELECT stripe_portal_configuration_apply('unlucky');
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_2", "name": "Plus"}');
SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_2", "product": "prod_2", "currency": "eur", "unit_amount": 1, "recurring": {"interval": "month"}}');
SELECT stripe_portal_configuration_apply('unlucky') LIKE 'bpc\_%' AS created;

-- ---------------------------------------------------------------------------
-- Modes, accounts and names
SELECT stripe_portal_configuration_apply('nobody');
SELECT stripe_portal_configuration_diff('nobody');
SELECT stripe_portal_configure('lost', true, false, livemode => true);
SELECT stripe_portal_configuration_apply('lost', livemode => true);
SELECT stripe_portal_configuration_diff('lost', livemode => true);
SELECT stripe_portal_configuration_apply('lost', account => 'acct_1');
SELECT stripe_portal_configure('lost', true, false, account => 'acct_1');
SELECT stripe_portal_configuration_diff('lost', account => 'acct_1', from_mirror => true);
SELECT forget();
SELECT stripe_portal_configuration_apply('lost', account => 'acct_1') AS lost_of_acct_1 \gset
SELECT DISTINCT r -> 'headers' ->> 'stripe-account' AS account FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r;
SELECT livemode, account, stripe_id IS NOT NULL AS applied, is_default FROM stripe_portal.configuration WHERE name = 'lost' ORDER BY 1, 2;
-- a name is only ever a value
SELECT stripe_portal_configure('''"][x]=%s&{a}; DROP TABLE é', true, false, '{"metadata": {"a.b": "ü", "0": "=&"}}');
SELECT stripe_portal_configuration_apply('''"][x]=%s&{a}; DROP TABLE é') AS odd \gset
SELECT at_stripe(:'odd') -> 'name' AS name, at_stripe(:'odd') -> 'metadata' AS metadata;
SELECT * FROM stripe_portal_configuration_diff('''"][x]=%s&{a}; DROP TABLE é');

-- ---------------------------------------------------------------------------
-- Who may what: one role applies without any right on a table, another reads.
CREATE ROLE regress_deploy;
CREATE ROLE regress_reader;
GRANT EXECUTE ON FUNCTION stripe_portal_configure, stripe_portal_configuration_diff, stripe_portal_configuration_apply TO regress_deploy;
GRANT USAGE ON SCHEMA stripe_portal TO regress_reader;
GRANT SELECT ON stripe_portal.configuration, stripe_portal.billing_portal_configuration, stripe_portal.configuration_drift TO regress_reader;
GRANT EXECUTE ON FUNCTION stripe_portal.configuration_drift TO regress_reader;
SET ROLE regress_deploy;
SELECT stripe_portal_configure('deployed', true, false);
SELECT stripe_portal_configuration_apply('deployed') LIKE 'bpc\_%' AS applied;
SELECT stripe_portal_configure('deployed', true, false, '{"features": {"invoice_history": {"enabled": false}}}');
SELECT * FROM stripe_portal_configuration_diff('deployed');
SET stripe_portal.require_winback = off;
SELECT stripe_id FROM stripe_portal.configuration;
RESET ROLE;
SET ROLE regress_reader;
SELECT name, path FROM stripe_portal.configuration_drift WHERE name = 'deployed';
SELECT stripe_portal_configure('deployed', true, false);
SELECT stripe_portal.declared_configuration('deployed', '', NULL);
RESET ROLE;
DROP OWNED BY regress_deploy, regress_reader;
DROP ROLE regress_deploy, regress_reader;
-- In a read-only transaction, and so on a standby, there is the diff but no more.
BEGIN READ ONLY;
SELECT path FROM stripe_portal_configuration_diff('deployed');
SELECT stripe_portal_configuration_apply('deployed');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- A dump that was restored beside another Stripe account knows ids that are not there.
UPDATE stripe_portal.configuration SET stripe_id = 'bpc_elsewhere' WHERE name = 'deployed';
SELECT stripe_portal_configuration_apply('deployed') AS deployed \gset
SELECT count(*) AS made FROM jsonb_array_elements(stripe_api('GET', '/v1/billing_portal/configurations', '{"limit": 100}') -> 'data') AS c WHERE c ->> 'name' = 'deployed';

DROP FUNCTION requests, forget, tick, receive, at_stripe, orders, replay;
TRUNCATE stripe_portal.event, stripe_portal.product, stripe_portal.price, stripe_portal.configuration, stripe_portal.billing_portal_configuration;
