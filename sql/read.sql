-- Objects that were read from Stripe's API, among events: neither undoes what
-- is newer, whichever comes first.
\set VERBOSITY terse
SET TIME ZONE 'UTC';

CREATE FUNCTION read(object jsonb, at integer, livemode boolean DEFAULT false, account text DEFAULT '') RETURNS boolean
LANGUAGE sql AS $$ SELECT stripe_portal.apply_object(object, livemode, account, to_timestamp(1700000000.4 + at)) $$;
CREATE FUNCTION happen(id text, type text, at integer, object jsonb) RETURNS boolean
LANGUAGE sql AS $$
    SELECT stripe_portal.apply_event(jsonb_build_object('id', id, 'type', type, 'created', 1700000000 + at, 'livemode', false,
        'data', jsonb_build_object('object', object)))
$$;
CREATE FUNCTION customer(email text) RETURNS jsonb
LANGUAGE sql AS $$ SELECT jsonb_build_object('object', 'customer', 'id', 'cus_1', 'email', email) $$;
CREATE VIEW shown AS
SELECT email, deleted, refetch, event, extract(epoch FROM event_created) - 1700000000 AS at FROM stripe_portal.customer;

-- A read makes the row; an older read or event does not undo it, a newer one replaces it.
SELECT read(customer('read at 5'), 5);
SELECT read(customer('read at 4'), 4), happen('evt_4', 'customer.updated', 4, customer('event at 4'));
TABLE shown;
SELECT happen('evt_6', 'customer.updated', 6, customer('event at 6'));
SELECT read(customer('a page that took long'), 5);
TABLE shown;
-- in one second the event wins, before and after
SELECT read(customer('read at 6'), 6);
TABLE shown;
SELECT read(customer('read at 7'), 7), happen('evt_7', 'customer.updated', 7, customer('event at 7'));
TABLE shown;

-- What is not of the mode that was asked for is not taken: the key may have been exchanged on the way.
SELECT read(customer('live') || '{"livemode": true}', 9);
SELECT read(customer('live') || '{"livemode": true}', 9, livemode => true);
SELECT livemode, email FROM stripe_portal.customer ORDER BY livemode;
DELETE FROM stripe_portal.customer WHERE livemode;

-- Two events of one second that can not be put in order mark the row; a read of a later second settles it.
UPDATE stripe_portal.customer SET refetch = true;
SELECT read(customer('the same second'), 7);
TABLE shown;
SELECT read(customer('settled'), 8);
TABLE shown;
-- two reads of one second that say the same are one
SELECT read(customer('settled'), 8);
TABLE shown;
-- if they do not, one is taken, the same in both orders, and marked
SELECT read(customer('other'), 8);
TABLE shown;
SELECT read(customer('other'), 9), read(customer('settled'), 9), read(customer('other'), 9);
TABLE shown;

-- Gone at Stripe: what was known stays known, and the row stays deleted.
SELECT read('{"object": "customer", "id": "cus_1", "deleted": true}', 20);
TABLE shown;
SELECT happen('evt_15', 'customer.updated', 15, customer('before the end'));
TABLE shown;
-- also if nothing was known before
TRUNCATE stripe_portal.customer;
SELECT read('{"object": "customer", "id": "cus_1", "deleted": true}', 20);
TABLE shown;
SELECT happen('evt_15', 'customer.updated', 15, customer('before the end'));
TABLE shown;
-- a deletion that arrives late does not make an older row of it
TRUNCATE stripe_portal.customer;
SELECT read(customer('read at 5'), 5), happen('evt_4', 'customer.deleted', 4, customer('event at 4'));
TABLE shown;

-- A canceled subscription stays canceled; one that Stripe has lost becomes it.
SELECT happen('evt_1', 'customer.subscription.deleted', 1, '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "canceled"}'),
       read('{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "active"}', 2),
       read('{"object": "subscription", "id": "sub_2", "customer": "cus_1", "status": "active"}', 2),
       read('{"object": "subscription", "id": "sub_2", "deleted": true}', 3),
       read('{"object": "subscription", "id": "sub_3", "deleted": true}', 3);
SELECT id, status, ended_at, event FROM stripe_portal.subscription ORDER BY id;

-- Modes and accounts do not mix; what no table holds is said to be so.
SELECT read(customer('live'), 1, true), read(customer('connected'), 1, false, 'acct_1');
SELECT livemode, account, email FROM stripe_portal.customer ORDER BY 1, 2;
SELECT read('{"object": "tax_rate", "id": "txr_1"}', 1);

DROP VIEW shown;
DROP FUNCTION read, happen, customer;
TRUNCATE stripe_portal.customer, stripe_portal.subscription;
