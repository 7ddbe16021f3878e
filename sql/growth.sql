-- Receiving an event touches as much of an empty ledger as of a full one.  Pages
-- are counted, not time.
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';
SET TIME ZONE 'UTC';
TRUNCATE stripe_portal.event, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.customer;

-- A subscription that is changed from time to time, and an event that no table is for.
CREATE FUNCTION changed(n integer) RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', 'evt_grow' || n, 'object', 'event', 'type', 'customer.subscription.updated', 'livemode', false,
        'created', extract(epoch FROM now())::bigint + n, 'data', jsonb_build_object('object', jsonb_build_object(
            'object', 'subscription', 'id', 'sub_grow', 'customer', 'cus_grow', 'status', 'active', 'currency', 'eur',
            'created', extract(epoch FROM now())::bigint, 'metadata', jsonb_build_object('n', n::text),
            'items', jsonb_build_object('data', '[]'::jsonb)), 'previous_attributes', '{"metadata": {"n": "0"}}'::jsonb))::text
$$;
CREATE FUNCTION other(n integer) RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', 'evt_other' || n, 'object', 'event', 'type', 'mandate.updated', 'livemode', false,
        'created', extract(epoch FROM now())::bigint + n, 'data', '{"object": {"object": "mandate", "id": "mandate_1"}}'::jsonb)::text
$$;
-- The pages that an event touched, of three the one that touched the fewest:
-- now and then a page is full, and then there are more.
CREATE FUNCTION touched(kind text, first integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    plan json;
    pages bigint;
    fewest bigint;
BEGIN
    FOR n IN first .. first + 5 LOOP
        EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)
            SELECT stripe_receive_webhook(payload, stripe_sign_webhook(payload, ''whsec_test_secret'')) FROM %I(%s) AS payload', kind, n) INTO plan;
        pages := (plan #>> '{0,Plan,Shared Hit Blocks}')::bigint + (plan #>> '{0,Plan,Shared Read Blocks}')::bigint;
        -- the first ones make plans and fill caches
        fewest := CASE WHEN n >= first + 3 THEN least(fewest, pages) END;
    END LOOP;
    RETURN fewest;
END
$$;

SELECT count(*) IS NOT NULL AS tended FROM stripe_portal.tend_ledger();
SELECT touched('changed', 1) AS changed_empty, touched('other', 1) AS other_empty \gset
-- Three years of events in their partitions, most of them of now: a hundred in each
-- second that the events below are of.
CREATE FUNCTION fill(first integer, last integer, step interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO stripe_portal.event (id, livemode, type, created, object_id, payload, status, received_at)
    SELECT 'evt_' || n, false, 'customer.updated', date_trunc('second', now() + step * n), 'cus_' || n % 1000,
           '{"id": "evt", "data": {"object": {"object": "customer"}}}', 'applied', now()
    FROM generate_series(first, last) AS n $$;
SELECT FROM fill(1, 36, '-1 month');
DO $$
BEGIN
    WHILE EXISTS (SELECT FROM stripe_portal.tend_ledger() AS t WHERE t.events > 0) LOOP
    END LOOP;
END $$;
SELECT FROM fill(1001, 50000, '-1500 seconds');
SELECT FROM fill(50001, 100000, '0.01 seconds');
ANALYZE stripe_portal.event;
SELECT count(*) AS events FROM stripe_portal.event WHERE id ~ '^evt_[0-9]' \gset
\echo '# numbers: growth:' :events 'events in 37 months'
SELECT count(*) >= 37 AS partitions FROM stripe_portal.event_partitions();
SELECT touched('changed', 501) AS changed_full, touched('other', 501) AS other_full \gset
-- Each index is a level or two deeper; to look through what is there would take
-- a thousand pages.
SELECT :changed_full - :changed_empty <= 60 AS changed_stays_flat, :other_full - :other_empty <= 12 AS other_stays_flat;
SELECT DISTINCT status FROM stripe_portal.event WHERE id LIKE 'evt\_grow%' OR id LIKE 'evt\_other%' ORDER BY status;

TRUNCATE stripe_portal.event, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.customer;
DROP FUNCTION changed, other, touched, fill;
