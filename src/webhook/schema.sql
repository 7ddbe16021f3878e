-- webhook: the ledger of everything Stripe has sent, as it was signed.

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
    received_at timestamptz NOT NULL,
    PRIMARY KEY (id, livemode, account),
    -- exactly what was signed, as json where it is json
    CHECK ((payload IS NULL) <> (body IS NULL)),
    CHECK ((status = 'failed') = (error IS NOT NULL))
);

-- Events of one object and second, to put them in order.
CREATE INDEX event_object_idx ON stripe_portal.event (object_id, created);

-- What waits for replay.
CREATE INDEX event_failed_idx ON stripe_portal.event (received_at) WHERE status = 'failed';

-- lz4 costs a fraction of pglz on payloads of this size; a server built
-- without it keeps its default.
DO $$
BEGIN
    ALTER TABLE stripe_portal.event ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

CREATE TABLE stripe_portal.event_handler (
    pattern text NOT NULL CHECK (pattern ~ '^[a-z0-9_.*]+$'),
    function text NOT NULL,
    PRIMARY KEY (pattern, function)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_handler', '');

