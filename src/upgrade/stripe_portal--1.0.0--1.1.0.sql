-- What differs between 1.0.0 and 1.1.0 in src/*/schema*.sql, and what has to go
-- before src/*/api*.sql are applied again; those, capability.sql and grants.sql
-- follow in the script that is installed.
--
--   a column           ALTER TABLE … ADD COLUMN; it comes last in schema*.sql too
--   the ledger         ALTER TABLE stripe_portal.event reaches its partitions; an
--                      index, or a key, is each partition's own: loop over
--                      stripe_portal.event_partitions() besides event_default
--   a function         DROP FUNCTION where its arguments' types or names, its
--                      result's type or its kind changed, or where it is gone; of
--                      those in the user's schema, first what is bound to it:
--                      page_data in churn/api_summary.sql and month_opening
--   a view             DROP VIEW where a column left, moved or changed its type
--   a trigger, and     DROP where it is gone; CREATE OR REPLACE does the rest
--   all other things
--   a new table        CREATE TABLE and pg_extension_config_dump, as in schema*.sql
--   a seeded row       INSERT … ON CONFLICT DO NOTHING; a change is UPDATE … WHERE
--                      the row is as it was seeded: others are their users'
--
-- Never CASCADE: what hangs on it is somebody's.

-- Which customer a user of the application is.
CREATE INDEX customer_metadata_idx
    ON stripe_portal.customer USING gin (metadata jsonb_path_ops) WITH (fastupdate = off);

CREATE TABLE stripe_portal.user_mapping (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    metadata_key text,
    users regclass,
    user_column text,
    customer_column text,
    claim text,
    setting text,
    CHECK ((metadata_key IS NULL) <> (users IS NULL)),
    CHECK ((users IS NULL) = (user_column IS NULL) AND (users IS NULL) = (customer_column IS NULL)),
    CHECK ((claim IS NULL) <> (setting IS NULL))
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.user_mapping', '');

DROP FUNCTION stripe_portal.asking_customer();

-- In which country a customer was; what was not kept is where they are now.
CREATE TABLE stripe_portal.customer_country (
    customer text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    country text NOT NULL,
    PRIMARY KEY (customer, livemode, account, at, country)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.customer_country', '');

INSERT INTO stripe_portal.customer_country
SELECT c.id, c.livemode, c.account, c.event_created, c.address ->> 'country'
FROM stripe_portal.customer AS c
WHERE c.address ->> 'country' IS NOT NULL AND c.event_created > '-infinity';
-- pg_restore's jobs copy both tables at once.  A trigger stands in for it.
ALTER TABLE stripe_portal.winback_offer DROP CONSTRAINT winback_offer_rule_livemode_account_fkey;
CREATE INDEX customer_deleted_idx
    ON stripe_portal.customer (id, livemode, account) WHERE deleted;

-- Rows are read and appended where most events need it, see src/billing/row.c.
DROP FUNCTION stripe_portal.read_items(jsonb);
DROP FUNCTION stripe_portal.price_row(jsonb, jsonb);
DROP FUNCTION stripe_portal.told_in_part(jsonb);
DROP FUNCTION stripe_portal.known_terms(jsonb, boolean, text);
DROP FUNCTION stripe_portal.reprice_changes(jsonb, jsonb, boolean, text);
DROP FUNCTION stripe_portal.write_embedded(jsonb, jsonb);

-- Logical replication of the ledger by its root.
ALTER TABLE stripe_portal.event REPLICA IDENTITY FULL;
ALTER TABLE stripe_portal.event_default REPLICA IDENTITY FULL;
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT p.partition FROM stripe_portal.event_partitions() AS p LOOP
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', part);
    END LOOP;
END
$$;
-- billing: who was forgotten, so that they stay so.

-- The ids of a customer and of what is theirs: whatever names one of them is
-- stored without what is personal.
CREATE TABLE stripe_portal.forgotten (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX forgotten_customer_idx ON stripe_portal.forgotten (customer, livemode, account);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.forgotten', '');
-- What is read customer by customer.
ALTER TABLE stripe_portal.sync_cursor
    ADD COLUMN begun timestamptz,
    ADD COLUMN customer text,
    ADD COLUMN customer_to text,
    ADD COLUMN customers_left bigint;
ALTER TYPE stripe_portal.sync_page ADD ATTRIBUTE customer text;

-- Their columns are other ones now.
DROP FUNCTION stripe_portal.list_params(jsonb, timestamptz, timestamptz, text);
DROP FUNCTION stripe_portal.read_entitlements(text, text);
DROP VIEW stripe_portal.read_kind;

-- When the products of a portal configuration were read, and whether it is known
-- which of one second was the last.
DROP FUNCTION stripe_portal.portal_configuration_row(jsonb, jsonb);
ALTER TABLE stripe_portal.billing_portal_configuration
    ADD COLUMN products_read timestamptz,
    ADD COLUMN unclear boolean NOT NULL DEFAULT false;

-- What the tick has looked through.
CREATE UNLOGGED TABLE stripe_portal.looked_through (
    what text PRIMARY KEY,
    seen pg_snapshot NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.looked_through', 'WHERE false');

-- The movements of a kind, without reading those of all kinds.
DROP INDEX stripe_portal.subscription_change_movement_idx;
CREATE INDEX subscription_change_movement_idx
    ON stripe_portal.subscription_change (movement, at) INCLUDE (livemode, account, currency, mrr_change)
    WHERE movement IS NOT NULL;

-- Attempts of a customer at a time.
DROP INDEX stripe_portal.payment_attempt_customer_idx;
CREATE INDEX payment_attempt_customer_idx
    ON stripe_portal.payment_attempt (customer, livemode, account, failed_at);

-- When customers began and ceased to bring in money: as in derive_subscribers,
-- for all of them.
CREATE TABLE stripe_portal.subscriber_change (
    subscription text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    currency text,
    mrr_change bigint NOT NULL,
    subscribers smallint NOT NULL,
    since timestamptz,
    first boolean NOT NULL,
    customer_left boolean,
    PRIMARY KEY (subscription, livemode, account, at)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.subscriber_change', '');

INSERT INTO stripe_portal.subscriber_change
SELECT c.subscription, c.livemode, c.account, c.at, c.currency, c.mrr_change,
       ((c.n > 0)::integer - (c.n > c.paying)::integer)::smallint, c.since, c.first,
       CASE WHEN c.movement = 'churn' THEN c.others = 0 END
FROM (
    SELECT s.*, sum(s.paying) OVER (its ORDER BY s.at, s.subscription) AS n,
           sum(s.came_to_stay) OVER (PARTITION BY s.customer, s.livemode, s.account ORDER BY s.at) - s.stays AS others,
           min(s.at) FILTER (WHERE s.movement = 'new') OVER its AS since,
           s.movement IS NOT DISTINCT FROM 'new'
           AND row_number() OVER (PARTITION BY s.customer, s.livemode, s.account, s.currency, s.movement
                                  ORDER BY s.at, s.subscription) = 1 AS first
    FROM (
        SELECT c.customer, c.subscription, c.livemode, c.account, c.at, c.currency, c.movement,
               coalesce(c.mrr, 0) - coalesce(lag(c.mrr) OVER history, 0) AS mrr_change,
               (coalesce(c.mrr, 0) > 0)::integer - (coalesce(lag(c.mrr) OVER history, 0) > 0)::integer AS paying,
               stays::integer AS stays, stays::integer - coalesce(lag(stays) OVER history, false)::integer AS came_to_stay
        FROM stripe_portal.subscription_change AS c,
             coalesce(c.mrr > 0 OR c.status = 'paused' OR c.status IN ('active', 'past_due') AND c.pause_collection IS NOT NULL, false) AS stays
        WINDOW history AS (PARTITION BY c.subscription, c.livemode, c.account ORDER BY c.at)) AS s
    WINDOW its AS (PARTITION BY s.customer, s.livemode, s.account, s.currency)) AS c
WHERE c.mrr_change <> 0 OR c.movement = 'churn';

DROP FUNCTION stripe_portal.subscribers_at(timestamptz[], text, boolean);

-- One for a customer, and one for all offers.
DROP FUNCTION stripe_portal.winback_settle(text, boolean, text);

-- Reads that repeated the row before them; of what was not kept, the last one is
-- in the state.  Nothing derived changes, so what hangs on the UPDATE may sleep.
ALTER TABLE stripe_portal.subscription_change ADD COLUMN confirmed_at timestamptz[];
ALTER TABLE stripe_portal.subscription_change DISABLE TRIGGER USER;
UPDATE stripe_portal.subscription_change AS c SET confirmed_at = ARRAY[s.event_created]
FROM stripe_portal.subscription AS s
WHERE (c.subscription, c.livemode, c.account) = (s.id, s.livemode, s.account)
  AND s.event = '' AND s.event_created > c.at AND s.event_created < c.until AND NOT c.inferred;
ALTER TABLE stripe_portal.subscription_change ENABLE TRIGGER USER;
