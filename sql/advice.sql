-- What the data say about the settings: each row comes with the figures that
-- call for it, and goes when they do not any more.
\set VERBOSITY terse
\pset format unaligned
\pset footer off
SET client_min_messages = warning;
SET IntervalStyle = postgres;

CREATE VIEW told AS
SELECT setting, now, suggested, because FROM stripe_portal.advice WHERE NOT livemode AND account = '' ORDER BY setting COLLATE "C", now;

-- n of a kind, the same but for the id
CREATE PROCEDURE sessions(n integer, more jsonb DEFAULT '{}') LANGUAGE sql AS $$
    INSERT INTO stripe_portal.session
    SELECT r.* FROM generate_series(1, n) AS i, jsonb_populate_record(NULL::stripe_portal.session, jsonb_build_object(
        'id', gen_random_uuid(), 'livemode', false, 'account', '', 'customer', 'cus_' || i, 'flow', 'portal', 'created', now() - interval '10 days',
        'return_url', 'https://app.example.com', 'opened_by', 'app', 'stripe_id', CASE WHEN more ? 'refused' THEN NULL ELSE 'bps_1' END) || more) AS r $$;
CREATE PROCEDURE cancellations(n integer, more jsonb DEFAULT '{}') LANGUAGE sql AS $$
    INSERT INTO stripe_portal.cancellation
    SELECT r.* FROM generate_series(1, n) AS i, jsonb_populate_record(NULL::stripe_portal.cancellation, jsonb_build_object(
        'subscription', 'sub_' || gen_random_uuid(), 'livemode', false, 'account', '', 'customer', 'cus_' || i,
        'began_at', now() - interval '10 days', 'asked_at', now() - interval '10 days', 'voluntary', true) || more) AS r $$;
CREATE PROCEDURE declines(n integer, more jsonb DEFAULT '{}') LANGUAGE sql AS $$
    INSERT INTO stripe_portal.payment_attempt
    SELECT r.* FROM generate_series(1, n) AS i, jsonb_populate_record(NULL::stripe_portal.payment_attempt, jsonb_build_object(
        'id', 'ch_' || gen_random_uuid(), 'livemode', false, 'account', '', 'customer', 'cus_' || i, 'failed_at', now() - interval '10 days',
        'payment_method_type', 'card', 'code', 'card_declined', 'decline_code', 'insufficient_funds') || more) AS r $$;
CREATE PROCEDURE forget() LANGUAGE sql AS $$
    TRUNCATE stripe_portal.session, stripe_portal.cancellation, stripe_portal.payment_attempt, stripe_portal.configuration, stripe_portal.subscription,
        stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.billing_portal_configuration, stripe_portal.winback_rule, stripe_portal.winback_offer, stripe_portal.event $$;
-- The portal as Stripe has it.
CREATE PROCEDURE portal(features jsonb) LANGUAGE sql AS $$
    INSERT INTO stripe_portal.billing_portal_configuration (id, livemode, active, is_default, features, products, products_updated, updated, event, event_created)
    VALUES ('bpc_1', false, true, true, features, '[]', now() - interval '100 days', now() - interval '100 days', 'evt_1', now() - interval '100 days')
    ON CONFLICT ON CONSTRAINT billing_portal_configuration_pkey DO UPDATE SET features = excluded.features $$;

-- Nothing is known, nothing is said.
CALL forget();
SELECT * FROM stripe_portal.advice;

-- ---------------------------------------------------------------------------
-- The survey is off, and nobody knows why they leave.
CALL portal('{"subscription_cancel": {"enabled": true, "mode": "at_period_end", "cancellation_reason": {"enabled": false}}}');
CALL cancellations(4);
CALL cancellations(2, '{"feedback": "other"}');
CALL cancellations(9, '{"began_at": "2020-01-01"}');
CALL cancellations(9, '{"voluntary": false, "asked_at": null}');
TABLE told;
CALL cancellations(1);
TABLE told;
CALL portal('{"subscription_cancel": {"enabled": true, "mode": "at_period_end", "cancellation_reason": {"enabled": true}}}');
TABLE told;

-- What is canceled at once can not be taken back.
CALL portal('{"subscription_cancel": {"enabled": true, "mode": "immediately"}}');
CALL cancellations(4, jsonb_build_object('ended_at', now() - interval '10 days'));
TABLE told;
CALL cancellations(1, jsonb_build_object('ended_at', now() - interval '10 days'));
TABLE told;
CALL portal('{"subscription_cancel": {"enabled": true, "mode": "at_period_end"}}');
TABLE told;

-- Too expensive, and no cheaper plan to change to; unused, and no pause.
CALL portal('{"subscription_update": {"enabled": false}, "subscription_pause": {"enabled": false}}');
CALL cancellations(4, '{"feedback": "too_expensive"}');
CALL cancellations(4, '{"feedback": "unused"}');
TABLE told;
CALL cancellations(1, '{"feedback": "too_expensive"}');
CALL cancellations(1, '{"feedback": "unused"}');
TABLE told;
-- one reason among many
CALL cancellations(12, '{"feedback": "other"}');
TABLE told;
CALL cancellations(10, '{"feedback": "unused"}');
TABLE told;
CALL portal('{"subscription_update": {"enabled": true}, "subscription_pause": {"enabled": true}}');
TABLE told;

-- Plans can be changed, to nothing.
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
SELECT 'sub_' || i, false, 'cus_' || i, 'active', '[]', 'evt_1', now() FROM generate_series(1, 5) AS i;
TABLE told;
-- products that were changed since they were read are not known
UPDATE stripe_portal.billing_portal_configuration SET updated = updated + interval '1 second';
TABLE told;
UPDATE stripe_portal.billing_portal_configuration SET products_updated = updated, products = '[{"product": "prod_1", "prices": ["price_1"]}]';
TABLE told;

-- ---------------------------------------------------------------------------
-- A cancel flow without an offer.
CALL forget();
CALL sessions(6, '{"flow": "subscription_cancel"}');
CALL sessions(9, '{"flow": "subscription_cancel", "retention_coupon": "STAY20"}');
CALL sessions(9);
TABLE told;
CALL cancellations(2);
UPDATE stripe_portal.cancellation AS k SET session = s.id
FROM (SELECT id, customer FROM stripe_portal.session WHERE flow = 'subscription_cancel' AND retention_coupon IS NULL) AS s WHERE s.customer = k.customer;
TABLE told;
INSERT INTO stripe_portal.coupon (id, livemode, valid, percent_off, duration, event, event_created) VALUES ('STAY20', false, true, 20, 'once', 'evt_1', now());
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, coupon, active) VALUES ('stay', false, 'cancel_asked', 'cancel_flow_coupon', 'STAY20', true);
TABLE told;
UPDATE stripe_portal.winback_rule SET active = false;
SELECT setting FROM told;

-- ---------------------------------------------------------------------------
-- Payments that would come in with another try or card.
CALL forget();
CALL declines(3);
CALL declines(2, '{"decline_code": null, "outcome_type": "issuer_declined", "outcome_reason": "stolen_card"}');
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
SELECT 'sub_' || i, false, 'cus_' || i, 'past_due', '[]', 'evt_1', now() FROM generate_series(1, 3) AS i;
TABLE told;
UPDATE stripe_portal.access_rule SET allowed = false WHERE flow = 'payment_method_update' AND status = 'past_due';
TABLE told;
-- what an invoice told of is the same attempts
CALL declines(9, '{"invoice": "in_1", "decline_code": null, "code": null}');
TABLE told;
CALL declines(2, '{"decline_code": "lost_card"}');
TABLE told;
CALL portal('{"payment_method_update": {"enabled": false}}');
TABLE told;
CALL portal('{"payment_method_update": {"enabled": true}}');
CALL declines(1);
TABLE told;
UPDATE stripe_portal.access_rule SET allowed = true WHERE flow = 'payment_method_update' AND status = 'past_due';
TABLE told;

-- Past due, refused at the portal, and paid later.
CALL forget();
CALL sessions(5, '{"refused": "not_active"}');
TABLE told;
INSERT INTO stripe_portal.subscription_change (subscription, livemode, at, until, event, customer, status, items, discounts, cancel_at_period_end)
SELECT 'sub_' || i, false, now() - interval '12 days', 'infinity', 'evt_1', 'cus_' || i, 'past_due', '[]', '[]', false FROM generate_series(1, 5) AS i;
TABLE told;
INSERT INTO stripe_portal.subscription_change (subscription, livemode, at, until, event, customer, status, items, discounts, cancel_at_period_end)
SELECT 'sub_' || i, false, now() - interval '5 days', 'infinity', 'evt_2', 'cus_' || i, 'active', '[]', '[]', false FROM generate_series(1, 4) AS i;
TABLE told;
UPDATE stripe_portal.access_rule SET allowed = true, grace = '14 days' WHERE flow = 'portal' AND status = 'past_due';
TABLE told;
UPDATE stripe_portal.access_rule SET allowed = false, grace = NULL WHERE flow = 'portal' AND status = 'past_due';

-- ---------------------------------------------------------------------------
-- No way back.
CALL forget();
CALL sessions(4, '{"return_url": null}');
CALL sessions(3);
TABLE told;
CALL sessions(1, '{"return_url": null}');
TABLE told;
SET stripe_portal.return_url = 'https://app.example.com';
TABLE told;
RESET stripe_portal.return_url;
CALL portal('{}');
UPDATE stripe_portal.billing_portal_configuration SET default_return_url = 'https://app.example.com';
TABLE told;

-- A way back that nobody takes.
CALL forget();
CALL sessions(4, jsonb_build_object('return_until', now() - interval '9 days'));
TABLE told;
CALL sessions(1, jsonb_build_object('return_until', now() - interval '9 days'));
CALL sessions(9, jsonb_build_object('return_until', now() + interval '1 day'));
CALL sessions(1, jsonb_build_object('return_until', now() - interval '9 days', 'returned_at', now() - interval '10 days', 'outcome', '{nothing}'::text[]));
TABLE told;
CALL sessions(1, jsonb_build_object('return_until', now() - interval '9 days', 'returned_at', now() - interval '10 days', 'outcome', '{nothing}'::text[]));
TABLE told;

-- ---------------------------------------------------------------------------
-- Declared, and not applied; a deployment that is under way is not told of.
CALL forget();
INSERT INTO stripe_portal.configuration (name, livemode, cancel_flows, plan_changes, is_default, declared_at) VALUES ('standard', false, true, false, true, now() - interval '20 hours');
TABLE told;
UPDATE stripe_portal.configuration SET declared_at = now() - interval '50 hours';
TABLE told;
UPDATE stripe_portal.configuration SET applied_at = now() - interval '60 hours', stripe_id = 'bpc_1';
TABLE told;
UPDATE stripe_portal.configuration SET applied_at = now() - interval '50 hours';
TABLE told;
-- changed by hand; the answer to applying it is no change
CALL portal('{"subscription_cancel": {"enabled": true, "mode": "immediately"}}');
UPDATE stripe_portal.billing_portal_configuration SET updated = now() - interval '50 hours' + interval '1 minute';
TABLE told;
UPDATE stripe_portal.billing_portal_configuration SET updated = now() - interval '30 hours';
TABLE told;
-- what is advised about a declared one has its name
CALL cancellations(5, jsonb_build_object('ended_at', now() - interval '10 days'));
SELECT setting FROM told;

-- Sessions depend on what somebody clicked.
CALL forget();
CALL sessions(4, '{"configuration": "bpc_1"}');
TABLE told;
CALL sessions(1, '{"configuration": "bpc_1"}');
TABLE told;
INSERT INTO stripe_portal.configuration (name, livemode, cancel_flows, plan_changes, is_default) VALUES ('standard', false, true, false, true);
TABLE told;

-- ---------------------------------------------------------------------------
-- Customers whom nobody has read from Stripe.
CALL forget();
CALL sessions(3, '{"refused": "customer_unknown"}');
CALL sessions(1, '{"refused": "customer_unknown"}');
TABLE told;
CALL sessions(1, '{"refused": "customer_unknown"}');
TABLE told;
SET stripe_portal.refresh_unknown = on;
TABLE told;
RESET stripe_portal.refresh_unknown;

-- Sessions are opened, and Stripe is not heard of.
CALL forget();
CALL sessions(5, jsonb_build_object('created', now() - interval '1 day'));
TABLE told;
INSERT INTO stripe_portal.event (id, livemode, created, payload, status, received_at) VALUES ('evt_1', true, now(), '{}', 'applied', now()), ('evt_2', false, now() - interval '8 days', '{}', 'applied', now());
SELECT setting FROM told;
INSERT INTO stripe_portal.event (id, livemode, created, payload, status, received_at) VALUES ('evt_3', false, now(), '{}', 'applied', now());
TABLE told;

-- Events that keep failing.
INSERT INTO stripe_portal.event (id, livemode, created, payload, status, error, received_at)
VALUES ('evt_4', false, now(), '{}', 'failed', 'x', now() - interval '20 hours'), ('evt_5', false, now(), '{}', 'failed', 'x', now() - interval '76 hours');
TABLE told;
UPDATE stripe_portal.event SET status = 'applied', error = NULL WHERE id = 'evt_5';
TABLE told;

-- ---------------------------------------------------------------------------
-- Modes and accounts each have figures of their own.
CALL forget();
CALL sessions(3, '{"return_url": null}');
CALL sessions(3, '{"return_url": null, "account": "acct_1"}');
CALL sessions(3, '{"return_url": null, "livemode": true}');
SELECT * FROM stripe_portal.advice;
CALL sessions(2, '{"return_url": null, "account": "acct_1"}');
CALL sessions(3, '{"return_url": null, "livemode": true}');
SELECT livemode, account, setting, because FROM stripe_portal.advice ORDER BY 1, 2;

-- SELECT on the view is all it takes.
CREATE ROLE regress_adviser;
GRANT USAGE ON SCHEMA stripe_portal TO regress_adviser;
GRANT SELECT ON stripe_portal.advice TO regress_adviser;
\c -
SET ROLE regress_adviser;
SELECT count(*) FROM stripe_portal.advice;
SELECT count(*) FROM stripe_portal.session;
RESET ROLE;
DROP OWNED BY regress_adviser;
DROP ROLE regress_adviser;
CALL forget();
TRUNCATE stripe_portal.coupon;
DROP VIEW told;
DROP PROCEDURE sessions, cancellations, declines, portal, forget;
