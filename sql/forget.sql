-- Forgetting a customer: nothing personal is left or comes back, and no figure
-- changes.  Whatever is personal of Jenny has "plant" in it; what must stay, of
-- others, "kept".
\set VERBOSITY terse
SET client_min_messages = warning;
SET TIME ZONE 'UTC';
SET stripe_portal.rate_limit = 1000;
SET jit = off;       -- compiling the reports takes longer than running them

CREATE FUNCTION stand_in(what text, params jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql AS $$ SELECT stripe_api('POST', '/v1/test_helpers/stand_in/' || what, params) $$;
CREATE FUNCTION receive(payload text) RETURNS text LANGUAGE sql AS $$
    SELECT r.outcome FROM stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_stand_in_secret')) AS r $$;
CREATE FUNCTION event(id text, type text, object jsonb, previous jsonb DEFAULT NULL, livemode boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', extract(epoch FROM now())::bigint, 'livemode', livemode,
                              'data', jsonb_build_object('object', object, 'previous_attributes', previous))::text $$;
-- Everything that the stand-in would deliver, in the shape of one API version,
-- with a word planted where it does not take ours.
CREATE FUNCTION deliver(word text, api_version text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FILTER (WHERE outcome <> 'duplicate')
    FROM (SELECT receive(regexp_replace(d ->> 'payload',
                     '("(?:last4|fingerprint|seller_message|message|hosted_invoice_url|receipt_url|description|receipt_email)":\s*)"[^"]*"', '\1"' || word || '"', 'g')) AS outcome
          FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries', jsonb_build_object('api_version', api_version)) -> 'data') AS d) AS received $$;
SELECT FROM stand_in('reset', '{"state": true}');
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.subscription_change,
    stripe_portal.cancellation, stripe_portal.session, stripe_portal.invoice, stripe_portal.invoice_payment, stripe_portal.payment_intent, stripe_portal.payment_attempt,
    stripe_portal.payment_method, stripe_portal.dispute, stripe_portal.coupon, stripe_portal.promotion_code, stripe_portal.discount, stripe_portal.entitlement,
    stripe_portal.winback_offer, stripe_portal.winback_rule, stripe_portal.customer_role, stripe_portal.sync_cursor, stripe_portal.event_cursor, stripe_portal.tick_run, stripe_portal.customer_country,
    stripe_portal.configuration, stripe_portal.billing_portal_configuration;

-- ---------------------------------------------------------------------------
-- Jenny and another customer come, pay, fail to, complain, and leave
-- ---------------------------------------------------------------------------
CREATE FUNCTION person(word text) RETURNS jsonb LANGUAGE sql RETURN replace('{
    "name": "W Rosen", "email": "W.rosen@example.com", "phone": "+49 W", "description": "W", "metadata": {"crm": "W"}, "preferred_locales": ["xx-W"],
    "address": {"city": "W City", "line1": "W Street 1", "line2": "W", "postal_code": "W-1", "state": "W", "country": "DE"},
    "shipping": {"name": "W Rosen", "phone": "W", "address": {"line1": "W Street 2", "country": "DE"}}}', 'W', word)::jsonb;
-- What happens to a customer, and what happens to them later.
CREATE PROCEDURE story(name text, word text) LANGUAGE plpgsql AS $$
DECLARE
    opened text;
BEGIN
    PERFORM stand_in('customers', jsonb_build_object('id', 'cus_' || name) || person(word));
    PERFORM stand_in('payment_methods', jsonb_build_object('customer', 'cus_' || name));
    PERFORM stand_in('subscriptions', jsonb_build_object('id', 'sub_' || name, 'customer', 'cus_' || name, 'price', 'price_pro', 'metadata', jsonb_build_object('note', word)));
    PERFORM stand_in('bill', jsonb_build_object('subscription', 'sub_' || name));
    PERFORM stand_in('disputes', jsonb_build_object('subscription', 'sub_' || name));
    PERFORM stand_in('subscriptions', jsonb_build_object('id', 'more_' || name, 'customer', 'cus_' || name, 'price', 'price_basic', 'discounts', '[{"coupon": "STAY20"}]'::jsonb));
    PERFORM stand_in('bill', jsonb_build_object('subscription', 'more_' || name));
    PERFORM stand_in('subscriptions', jsonb_build_object('id', 'gone_' || name, 'customer', 'cus_' || name, 'price', 'price_basic'));
    PERFORM deliver(word, '2020-08-27');
    PERFORM stand_in('clock', '{"advance": 2000000}');
    PERFORM stand_in(format('subscriptions/gone_%s/status', name), '{"status": "canceled", "reason": "payment_failed"}');

    -- they look, and cancel in the portal
    PERFORM stripe_portal_session('cus_' || name, format('https://app.example.com/%s/back?t={token}', word), options => '{"locale": "de"}');
    SELECT s.stripe_id INTO opened FROM stripe_portal.session AS s WHERE s.customer = 'cus_' || name;
    PERFORM stand_in('visit', jsonb_build_object('session', opened, 'action', 'update_customer', 'name', word || ' Miller', 'email', word || '.miller@example.com'));
    PERFORM stand_in('visit', jsonb_build_object('session', opened, 'action', 'cancel', 'subscription', 'sub_' || name, 'feedback', 'too_expensive', 'comment', word || ' needs the money'));
    -- and their card expires
    PERFORM stand_in('renew', jsonb_build_object('subscription', 'more_' || name, 'decline', 'expired_card'));
    PERFORM stand_in('attempt', jsonb_build_object('invoice', stripe_api('GET', '/v1/subscriptions/more_' || name) ->> 'latest_invoice', 'decline', 'expired_card'));
    PERFORM deliver(word, '2025-03-31.basil');
END
$$;
CREATE PROCEDURE later(name text, word text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in('clock', '{"advance": 3600}');
    PERFORM stripe_api('POST', '/v1/customers/cus_' || name, person(word));
    PERFORM stand_in('subscriptions/sub_' || name || '/status', '{"status": "canceled", "reason": "cancellation_requested"}');
    PERFORM stand_in('subscriptions', jsonb_build_object('id', 'last_' || name, 'customer', 'cus_' || name, 'price', 'price_pro', 'metadata', jsonb_build_object('note', word)));
    PERFORM stand_in('bill', jsonb_build_object('subscription', 'last_' || name, 'decline', 'expired_card'));
    PERFORM deliver(word, '2024-06-20');
END
$$;
SELECT FROM stand_in('clock', jsonb_build_object('set', extract(epoch FROM now() - interval '100 days')::bigint));
SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_pro", "name": "kept"}');
SELECT count(stand_in('prices', jsonb_build_object('id', 'price_' || name, 'product', 'prod_pro', 'currency', 'eur', 'unit_amount', amount, 'recurring', '{"interval": "month"}'::jsonb)))
FROM (VALUES ('pro', 2000), ('basic', 1000)) AS p (name, amount);
SELECT FROM stripe_api('POST', '/v1/coupons', '{"id": "STAY20", "percent_off": 20, "duration": "forever"}');
SELECT FROM stand_in('default_configuration', '{"exists": true}');
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, discount, subject, body, since, valid_for)
VALUES ('stay', false, 'cancel_asked', 'promotion_code', '{"percent_off": 20, "duration": "once"}', 'Stay', 'Dear {{name|you}}', now() - interval '1 year', '1 year');
CALL story('jenny', 'plant');
CALL story('other', 'kept');
CALL stripe_portal_tick();
CALL stripe_portal_tick();
UPDATE stripe_portal.promotion_code SET code = CASE customer WHEN 'cus_jenny' THEN 'plant' ELSE 'kept' END;
UPDATE stripe_portal.payment_method SET (last4, fingerprint) = (SELECT w, w FROM (SELECT CASE customer WHEN 'cus_jenny' THEN 'plant' ELSE 'kept' END) AS t (w));

-- The mailer is told that it could not be delivered, the customers have roles
-- of their own, an event could not be applied, and some were no events.
SELECT count(stripe_winback_failed(c.offer, c.lease, c.name || ' has moved')) FROM stripe_winback_claim() AS c;
UPDATE stripe_portal.winback_offer AS o SET code = p.code FROM stripe_portal.promotion_code AS p WHERE p.id = o.promotion_code;
CREATE ROLE regress_plant;
SELECT stripe_portal_grant('regress_plant', 'customer');
INSERT INTO stripe_portal.customer_role (role, livemode, customer) VALUES ('regress_plant', false, 'cus_jenny'), ('regress_kept', false, 'cus_other');
SET SESSION AUTHORIZATION regress_plant;
SELECT stripe_my_portal_session('https://app.example.com/') IS NOT NULL AS opened;
RESET SESSION AUTHORIZATION;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'who is %', NEW.name; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON stripe_portal.customer FOR EACH ROW WHEN (NEW.name LIKE 'bad %') EXECUTE FUNCTION refuse();
SELECT receive(event('evt_bad_' || name, 'customer.updated', jsonb_build_object('id', 'cus_' || name, 'object', 'customer') || person('bad ' || word))),
       -- once it was nobody's, then theirs
       receive(event('evt_cs1_' || name, 'checkout.session.created', jsonb_build_object('id', 'cs_' || name, 'object', 'checkout.session', 'customer', NULL, 'customer_email', word))),
       receive(event('evt_cs2_' || name, 'checkout.session.completed', jsonb_build_object('id', 'cs_' || name, 'object', 'checkout.session', 'customer', jsonb_build_object('id', 'cus_' || name, 'name', word)))),
       -- what names a charge only, and what names that
       receive(event('evt_ch_' || name, 'charge.succeeded', jsonb_build_object('id', 'ch_' || name, 'object', 'charge', 'customer', 'cus_' || name, 'billing_details', jsonb_build_object('name', word)))),
       receive(event('evt_dp_' || name, 'charge.dispute.created', jsonb_build_object('id', 'dp_' || name, 'object', 'dispute', 'charge', 'ch_' || name, 'amount', 1, 'metadata', jsonb_build_object('a', word),
           'evidence', jsonb_build_object('customer_name', word, 'customer_purchase_ip', word)))),
       -- what names a charge and an intent that only the invoice names
       receive(event('evt_in9_' || name, 'invoice.paid', jsonb_build_object('id', 'in9_' || name, 'object', 'invoice', 'customer', 'cus_' || name, 'charge', 'ch9_' || name, 'payment_intent', 'pi9_' || name))),
       receive(event('evt_dp9_' || name, 'charge.dispute.created', jsonb_build_object('id', 'dp9_' || name, 'object', 'dispute', 'charge', 'ch9_' || name, 'payment_intent', 'pi9_' || name, 'amount', 1,
           'metadata', jsonb_build_object('a', word), 'evidence', jsonb_build_object('customer_name', word)))),
       -- a charge of nobody's, whose intent became theirs
       receive(event('evt_ch8_' || name, 'charge.failed', jsonb_build_object('id', 'ch8_' || name, 'object', 'charge', 'status', 'succeeded', 'customer', NULL, 'payment_intent', 'pi8_' || name,
           'billing_details', jsonb_build_object('name', word)))),
       receive(event('evt_pi8_' || name, 'payment_intent.succeeded', jsonb_build_object('id', 'pi8_' || name, 'object', 'payment_intent', 'customer', 'cus_' || name, 'status', 'succeeded', 'latest_charge', 'ch7_' || name))),
       receive(event('evt_of_tomorrow_' || name, 'tomorrow.happened', jsonb_build_object('id', 'tom_' || name, 'object', 'tomorrow', 'of', jsonb_build_object('customer', 'cus_' || name), 'words', jsonb_build_array(word)))),
       -- escapes for letters
       receive(replace(event('evt_escaped_' || name, 'tomorrow.happened', jsonb_build_object('id', 'esc_' || name, 'customer', 'cus_' || name, 'words', word)), '"cus_', '"\u0063us_')),
       -- gone from its customer
       receive(event('evt_pm_' || name, 'payment_method.detached', jsonb_build_object('id', 'pm_' || name, 'object', 'payment_method', 'customer', NULL, 'type', 'card',
           'billing_details', jsonb_build_object('name', word), 'card', jsonb_build_object('last4', word, 'brand', word, 'fingerprint', word, 'country', 'DE', 'exp_year', 2030)),
           jsonb_build_object('customer', 'cus_' || name))),
       receive(format('{"id": "evt_cut", "data": {"object": {"customer": "cus_%s", "email": "%s"', name, word)),
       receive(format('{"object": "v2.core.event", "id": "evt_thin_%s", "type": "v1.customer.updated", "livemode": false, "created": "2026-11-10T12:00:00.000Z",
           "reason": {"type": "request", "request": {"id": "req_1", "idempotency_key": "%s"}}, "related_object": {"id": "cus_%1$s", "type": "customer", "url": "/v1/customers/cus_%1$s"}}', name, word))
FROM (VALUES ('jenny', 'plant'), ('other', 'kept')) AS c (name, word);
-- whoever has a customer in their metadata is still somebody else
SELECT receive(event('evt_friend', 'customer.created', '{"id": "cus_friend", "object": "customer", "name": "kept", "email": "kept", "metadata": {"customer": "cus_jenny", "subscription": "sub_jenny"}}'));
-- the same customer in live mode and on another account is another one
SELECT receive(event('evt_live', 'customer.created', '{"id": "cus_jenny", "object": "customer", "name": "kept"}', livemode => true)),
       receive(jsonb_set(event('evt_account', 'customer.created', '{"id": "cus_jenny", "object": "customer", "name": "kept"}')::jsonb, '{account}', '"acct_1"')::text);
INSERT INTO stripe_portal.sync_cursor (object, livemode, slice, params, started, finished, failure) VALUES ('customer', false, 'all', '{}', now(), now(), 'cus_jenny: 22P02: plant');
UPDATE stripe_portal.tick_run SET error = '22P02: plant' WHERE part = 'events';

-- ---------------------------------------------------------------------------
-- All places with a word in them, whatever they are made of; and all figures
-- ---------------------------------------------------------------------------
CREATE FUNCTION places(word text) RETURNS TABLE (place text, times bigint) LANGUAGE plpgsql AS $$
DECLARE
    col record;
BEGIN
    FOR col IN
        SELECT c.oid::regclass AS rel, a.attname, a.atttypid
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
          AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY c.oid::regclass::text, a.attnum
    LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE %s ILIKE %L', col.rel,
                       CASE col.atttypid WHEN 'bytea'::regtype THEN format('encode(%I, ''escape'')', col.attname) ELSE format('%I::text', col.attname) END,
                       '%' || word || '%') INTO times;
        IF times > 0 THEN
            place := format('%s.%s', col.rel, col.attname);
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

-- What every report says, for every choice of its arguments, and the views
-- that tell of money; but for the words of customers.
CREATE FUNCTION figures() RETURNS TABLE (report text, figure jsonb) LANGUAGE plpgsql AS $$
DECLARE
    f record;
    argument text;
    choices text[];
    without CONSTANT text[] := '{comment, cancellation_comment}';
BEGIN
    FOR f IN
        SELECT p.proname, p.proargnames[1:p.pronargs] AS names
        FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'stripe_portal'
        JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
        WHERE d.deptype = 'e' AND p.provolatile = 's' AND p.proretset AND p.proname LIKE 'stripe\_%' AND p.proname <> 'stripe_cancel_comments' AND 'livemode' = ANY (p.proargnames)
        ORDER BY 1
    LOOP
        choices := '{""}';
        FOREACH argument IN ARRAY f.names LOOP
            SELECT array_agg(concat_ws(', ', nullif(c, ''), argument || ' => ' || v)) INTO choices
            FROM unnest(choices) AS c, unnest(CASE argument
                WHEN 'period' THEN ARRAY[format('%L', daterange((now() - interval '200 days')::date, (now() + interval '40 days')::date)),
                                         format('%L', daterange((now() - interval '90 days')::date, (now() - interval '60 days')::date))]
                WHEN 'by' THEN ARRAY['''reason''', '''feedback''', '''plan''', '''price''', '''cohort''', '''country''', '''age''']
                WHEN 'account' THEN ARRAY['''''', '''acct_1''']
                WHEN 'livemode' THEN ARRAY['true', 'false', 'NULL']
                WHEN 'at' THEN ARRAY['now() + interval ''1 day''', 'now() - interval ''1 day''']
                WHEN 'rule' THEN ARRAY['NULL', '''stay''']
                WHEN 'query' THEN ARRAY['NULL']
                WHEN 'since' THEN ARRAY['now() - interval ''1 year''']
                WHEN 'won_back_within' THEN ARRAY['''90 days''', '''1 day''']
                ELSE ARRAY['0.2'] END) AS v;
        END LOOP;
        FOREACH argument IN ARRAY choices LOOP
            report := format('%s(%s)', f.proname, argument);
            BEGIN
                RETURN QUERY EXECUTE format('SELECT %L, to_jsonb(r) - $1 FROM %s AS r', report, report) USING without;
            EXCEPTION WHEN OTHERS THEN
                figure := to_jsonb(SQLERRM);
                RETURN NEXT;
            END;
        END LOOP;
    END LOOP;
    FOREACH report IN ARRAY '{churned, access, advice, change_unexplained, winback_case, winback_lift, subscription_item}'::text[] LOOP
        RETURN QUERY EXECUTE format('SELECT %L, to_jsonb(r) - $1 FROM stripe_portal.%I AS r', report, report) USING without;
    END LOOP;
END
$$;
DROP TRIGGER refuse ON stripe_portal.customer;
SELECT deliver('plant', '2020-08-27') AS session;
CREATE TABLE figures AS SELECT * FROM figures();
CREATE FUNCTION changed() RETURNS TABLE (report text, before jsonb, now jsonb) LANGUAGE sql AS $$
    WITH f AS MATERIALIZED (SELECT * FROM figures())
    SELECT report, figures.figure, f.figure FROM figures FULL JOIN f USING (report, figure)
    WHERE figures.figure IS NULL OR f.figure IS NULL $$;
SELECT DISTINCT split_part(report, '(', 1) AS report FROM figures WHERE jsonb_typeof(figure) = 'object' ORDER BY 1;
SELECT place FROM places('plant');
CREATE TABLE kept AS SELECT * FROM places('kept');

-- ---------------------------------------------------------------------------
-- Forgotten
-- ---------------------------------------------------------------------------
SELECT place, rows > 0 AS emptied FROM stripe_forget('cus_jenny');
SELECT * FROM places('plant');
-- not a figure less, nor a word of others
SELECT * FROM changed();
(TABLE kept EXCEPT SELECT * FROM places('kept')) UNION ALL (SELECT * FROM places('kept') EXCEPT TABLE kept);
-- the card's digits were not all planted
SELECT brand, last4, exp_year, country, fingerprint FROM stripe_portal.payment_method WHERE customer = 'cus_jenny' AND id LIKE 'pm%' LIMIT 1;
SELECT id, address, balance, deleted FROM stripe_portal.customer WHERE id = 'cus_jenny' AND NOT livemode AND account = '';
SELECT subscription, feedback, comment, country, mrr FROM stripe_portal.cancellation WHERE customer = 'cus_jenny' ORDER BY 1;
SELECT jsonb_pretty(payload::jsonb - 'created') FROM stripe_portal.event WHERE id = 'evt_dp_jenny';
-- twice is once
SELECT * FROM stripe_forget('cus_jenny');

-- Worked out again from what is kept, everything is as it was.
SELECT count(stripe_portal.derive_changes(s.id, s.livemode, s.account, NULL, true)) FROM stripe_portal.subscription AS s;
SELECT count(stripe_portal.derive_cancellations(s.id, s.livemode, s.account)) FROM stripe_portal.subscription AS s;
SELECT * FROM changed();

-- ---------------------------------------------------------------------------
-- It does not come back
-- ---------------------------------------------------------------------------
-- by a replay, or by being delivered again, in whatever shape
SELECT outcome, regexp_replace(error, 'body_\w+', 'body_…') AS error FROM stripe_replay(failed_only => false) GROUP BY 1, 2 ORDER BY 1, 2;
SELECT deliver('plant', '2020-08-27') + deliver('plant', '2026-10-28.endive') AS new;
SELECT * FROM places('plant');
SELECT * FROM changed();
-- by what Stripe still has: reading it all, what was missed, what is marked, what differs
CREATE FUNCTION hers() RETURNS TABLE (kind text, shown jsonb) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH kind IN ARRAY '{customer, subscription, invoice, payment_intent, payment_method, dispute, promotion_code, discount}'::text[] LOOP
        RETURN QUERY EXECUTE format('SELECT %L, to_jsonb(t) - ''{event,event_created,refetch}''::text[] FROM stripe_portal.%I AS t JOIN stripe_portal.forgotten AS f USING (id, livemode, account)
                                     WHERE id !~ ''^(pm|dp|dp9|in9|pi8)_jenny$''', kind, kind);
    END LOOP;
END
$$;
CREATE TABLE hers AS SELECT * FROM hers();
UPDATE stripe_portal.customer SET refetch = true;
UPDATE stripe_portal.subscription SET refetch = true;
UPDATE stripe_portal.payment_method SET refetch = true;
CALL stripe_sync();
CALL stripe_catch_up();
CALL stripe_portal_tick();
SELECT stripe_refresh('cus_jenny');
SELECT kind, id, classification, here, at_stripe FROM stripe_drift(repair => true) WHERE id LIKE '%jenny';
SELECT * FROM places('plant');
-- read or told, it is the same
SELECT DISTINCT kind FROM hers ORDER BY 1;
(TABLE hers EXCEPT SELECT * FROM hers()) UNION ALL (SELECT * FROM hers() EXCEPT TABLE hers);
SELECT id, email, event FROM stripe_portal.customer WHERE id IN ('cus_jenny', 'cus_other') AND NOT livemode AND account = '' ORDER BY id;
-- and not by what happens to them from now on, which counts as it does for others
INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, since, valid_for)
VALUES ('back', false, 'ended', 'message', 'Back', 'Dear {{name|you}}', now() - interval '1 year', '1 year');
CALL later('jenny', 'plant');
CALL later('other', 'kept');
CALL stripe_portal_tick();
-- many at once
SELECT r.event, r.outcome
FROM (SELECT array_agg(payload) AS payloads, array_agg(stripe_sign_webhook(payload, 'whsec_stand_in_secret')) AS sigs
      FROM (VALUES ('jenny', 'plant'), ('other', 'kept')) AS c (name, word),
           LATERAL (SELECT e.payload FROM stripe_portal.event AS e WHERE e.object_id = 'gone_' || name AND NOT e.livemode ORDER BY e.created DESC LIMIT 1) AS last (told),
           LATERAL event('evt_many_' || name, 'customer.subscription.updated', (told #> '{data,object}')::jsonb || jsonb_build_object('metadata', jsonb_build_object('a', word))) AS payload) AS many,
     stripe_receive_webhooks(payloads, sigs) AS r ORDER BY 1;
SELECT receive(event('evt_ch2', 'charge.succeeded', '{"id": "ch_2", "object": "charge", "customer": "cus_jenny", "billing_details": {"name": "plant"}}')),
       receive(event('evt_rv', 'review.opened', '{"id": "prv_1", "object": "review", "charge": "ch_2", "ip_address": "plant"}')),
       receive('{"data": "cus_jenny", "name": "plant"');
SELECT * FROM places('plant');
-- of others nothing is lost, but that their card and code were read again
SELECT place, k.times AS before, p.times AS now FROM places('kept') AS p RIGHT JOIN kept AS k USING (place)
WHERE coalesce(p.times, 0) < k.times AND place !~ 'payment_method|promotion_code';
CREATE VIEW money AS
SELECT right(customer, 5) AS who, regexp_replace(subscription, '_.*', '') AS subscription, movement, mrr_change, status, mrr, cancellation_reason, cancellation_feedback
FROM stripe_portal.subscription_change WHERE NOT livemode AND movement IS NOT NULL;
SELECT * FROM money WHERE who = 'jenny' ORDER BY subscription, mrr DESC;
SELECT to_jsonb(m) - 'who' FROM money AS m GROUP BY 1 HAVING count(DISTINCT who) < 2;
SELECT feedback, ended_by, voluntary, country, mrr, currency, count(*) FROM stripe_portal.cancellation GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2;
SELECT DISTINCT code, outcome_reason FROM stripe_portal.payment_attempt WHERE invoice IS NULL ORDER BY 1, 2;
-- nobody writes to her any more
SELECT customer, rule, count(*) FROM stripe_portal.winback_offer GROUP BY 1, 2 ORDER BY 1, 2;

-- ---------------------------------------------------------------------------
-- For whom, and whom not
-- ---------------------------------------------------------------------------
SELECT stripe_forget('cus_nobody');
SELECT stripe_forget('cus_other', 'acct_1');
SELECT stripe_forget('');
-- the id of something else
SELECT stripe_forget('more_other');
-- of whom there is an event, and no row
SELECT receive(event('evt_ledger', 'checkout.session.completed', '{"id": "cs_1", "object": "checkout.session", "customer": "cus_ledger", "customer_details": {"name": "plant"}}'));
SELECT * FROM stripe_forget('cus_ledger');
-- What only tells of them is emptied; of others the same thing can tell another time.
CREATE FUNCTION read_card(id text, intent text) RETURNS text LANGUAGE sql AS $$
    SELECT receive(event(id, 'terminal.reader.action_succeeded', jsonb_build_object('id', 'tmr_1', 'object', 'terminal.reader', 'label', 'Counter',
        'action', jsonb_build_object('process_payment_intent', jsonb_build_object('payment_intent', intent))))) $$;
SELECT receive(event('evt_left', 'payment_intent.created', '{"id": "pi_left", "object": "payment_intent", "customer": "cus_left"}')),
    receive(event('evt_right', 'payment_intent.created', '{"id": "pi_right", "object": "payment_intent", "customer": "cus_right"}')),
    read_card('evt_card_1', 'pi_left'), read_card('evt_card_2', 'pi_right');
SELECT place FROM stripe_forget('cus_left');
SELECT read_card('evt_card_3', 'pi_left'), read_card('evt_card_4', 'pi_right');
SELECT id, payload #>> '{data,object,label}' AS label FROM stripe_portal.event WHERE object_id = 'tmr_1' ORDER BY id;
SELECT id FROM stripe_portal.forgotten WHERE customer = 'cus_left' ORDER BY 1;
DROP FUNCTION read_card;
-- errors are their SQLSTATE then, whatever the id before it is
BEGIN;
UPDATE stripe_portal.sync_cursor SET failure = 'shop: left: P0001: who: 22P02: plant' WHERE object = 'customer';
UPDATE stripe_portal.sync_cursor SET failure = ': 22P02: plant' WHERE object = 'invoice';
SELECT FROM stripe_forget('cus_left');
SELECT DISTINCT object, failure FROM stripe_portal.sync_cursor WHERE failure IS NOT NULL ORDER BY 1;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT stripe_forget('cus_other');
ROLLBACK;
BEGIN READ ONLY;
SELECT stripe_forget('cus_other');
ROLLBACK;
BEGIN;
SELECT count(*) > 10 AS forgotten FROM stripe_forget('cus_other');
ROLLBACK;
SELECT name FROM stripe_portal.customer WHERE id = 'cus_other';
SELECT name FROM stripe_portal.customer WHERE id = 'cus_jenny' ORDER BY livemode, account;
SELECT * FROM stripe_forget('cus_jenny', livemode => true);
SELECT * FROM stripe_forget('cus_jenny', 'acct_1');
-- an operator can, an analyst can not
CREATE ROLE regress_reader;
CREATE ROLE regress_operator;
SELECT FROM stripe_portal_grant('regress_reader', 'reader') AS reader, stripe_portal_grant('regress_operator', 'operator') AS operator;
SET ROLE regress_reader;
SELECT stripe_forget('cus_other');
RESET ROLE;
-- every column that could have something in it has, whatever it is for
CREATE PROCEDURE plant_everywhere(customer text) LANGUAGE plpgsql SET session_replication_role = replica AS $$
DECLARE
    col record;
BEGIN
    FOR col IN
        SELECT c.oid::regclass AS rel, a.attname, a.atttypid,
               EXISTS (SELECT FROM pg_attribute AS k WHERE k.attrelid = c.oid AND k.attname = 'customer') AS has_customer
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition AND a.attnum > 0
          AND a.atttypid IN ('text'::regtype, 'jsonb'::regtype) AND a.attname NOT IN ('id', 'account', 'customer', 'subscription', 'charge', 'role', 'rule')
          AND EXISTS (SELECT FROM stripe_portal.personal_column AS p WHERE p.table_name = c.relname)
    LOOP
        BEGIN
            EXECUTE format('UPDATE %s SET %I = %s WHERE %I = $1', col.rel, col.attname,
                           CASE WHEN col.atttypid = 'text'::regtype THEN '''plant''' WHEN col.attname IN ('items', 'discounts') THEN '''[{"name": "plant"}]'''
                                ELSE '''{"customer": {"details": {"name": "plant"}}, "line1": "plant"}''' END,
                           CASE WHEN col.has_customer THEN 'customer' ELSE 'id' END) USING customer;
        EXCEPTION WHEN integrity_constraint_violation THEN NULL;
        END;
    END LOOP;
    UPDATE stripe_portal.dispute SET metadata = '{"a": "plant"}' WHERE stripe_portal.dispute.id = 'dp_other';
END
$$;
CALL plant_everywhere('cus_other');
SET ROLE regress_operator;
SELECT count(*) > 10 AS forgotten FROM stripe_forget('cus_other');
RESET ROLE;
-- of the word of others, what is nobody's, and a friend's
SELECT place FROM places('kept') WHERE place NOT LIKE 'figures%';
-- and what stays is no person's: ids, states, terms
SELECT split_part(place, '.', 2) AS "table", string_agg(split_part(place, '.', 3), ' ' ORDER BY place) AS columns FROM places('plant') GROUP BY 1 ORDER BY 1;

-- ---------------------------------------------------------------------------
SELECT FROM stripe_portal_revoke('regress_reader', 'reader') AS reader, stripe_portal_revoke('regress_operator', 'operator') AS operator,
            stripe_portal_revoke('regress_plant', 'customer') AS customer;
REVOKE USAGE ON SCHEMA public FROM regress_reader, regress_operator, regress_plant;
DROP ROLE regress_reader, regress_operator, regress_plant;
DROP TABLE figures, kept, hers;
DROP VIEW money;
DROP PROCEDURE story, later, plant_everywhere;
SELECT FROM stand_in('reset', '{"state": true}');
DROP FUNCTION stand_in, receive, event, deliver, person, places, changed, figures, hers, refuse;
TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription, stripe_portal.subscription_change,
    stripe_portal.cancellation, stripe_portal.session, stripe_portal.invoice, stripe_portal.invoice_payment, stripe_portal.payment_intent, stripe_portal.payment_attempt,
    stripe_portal.payment_method, stripe_portal.dispute, stripe_portal.coupon, stripe_portal.promotion_code, stripe_portal.discount, stripe_portal.entitlement,
    stripe_portal.winback_offer, stripe_portal.winback_rule, stripe_portal.customer_role, stripe_portal.sync_cursor, stripe_portal.event_cursor, stripe_portal.tick_run, stripe_portal.customer_country,
    stripe_portal.forgotten;
