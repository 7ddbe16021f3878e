-- webhook: the ledger of everything Stripe has sent, as it was signed.
--
-- Partitioned by the month of the event's own time, in UTC.  tend_ledger makes
-- the partitions; what has no partition, or no time, is in event_default.
--
-- Keys and indexes are the partitions' own, and the partitioned table has
-- none: ATTACH would make copies of its indexes before pg_dump's restore comes
-- to those of the partition, and fails over them.  The key of a partition is
-- exact for the whole ledger all the same, because an event's time is signed
-- with it: whoever delivers the event again is sent to the same partition.

CREATE TABLE stripe_portal.event (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    type text,
    created timestamptz,
    api_version text,
    object_id text,
    payload json,
    body bytea,
    status text NOT NULL CHECK (status IN ('applied', 'ignored', 'thin', 'failed')),
    error text,
    attempts integer NOT NULL DEFAULT 1,
    last_attempt_at timestamptz NOT NULL DEFAULT now(),
    received_at timestamptz NOT NULL,
    -- exactly what was signed, as json where it is json
    CHECK ((payload IS NULL) <> (body IS NULL)),
    CHECK ((status = 'failed') = (error IS NOT NULL))
) PARTITION BY RANGE (created);

-- lz4 costs a fraction of pglz on payloads of this size; a server built
-- without it keeps its default.
DO $$
BEGIN
    ALTER TABLE stripe_portal.event ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- The model of all partitions: tend_ledger makes them LIKE this one.
CREATE TABLE stripe_portal.event_default PARTITION OF stripe_portal.event (
    PRIMARY KEY (id, livemode, account)
) DEFAULT;

-- A subscriber that has the ledger by its root looks for the partition of an
-- old row by its time, which is in no key.  Rows are seldom changed or deleted.
ALTER TABLE stripe_portal.event REPLICA IDENTITY FULL;
ALTER TABLE stripe_portal.event_default REPLICA IDENTITY FULL;

-- Events of one object and second, to put them in order.
CREATE INDEX event_default_object_idx ON stripe_portal.event_default (object_id, created);

-- What waits for another attempt.
CREATE INDEX event_default_waiting_idx ON stripe_portal.event_default (received_at) WHERE status IN ('failed', 'thin');

CREATE TABLE stripe_portal.event_handler (
    pattern text NOT NULL CHECK (pattern ~ '^[a-z0-9_.*]+$'),
    function text NOT NULL,
    PRIMARY KEY (pattern, function)
);

-- A partition made later is no member of the extension: pg_dump has it whole.
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_default', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_handler', '');

