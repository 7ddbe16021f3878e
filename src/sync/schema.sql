-- sync: how far reading from Stripe has come.

-- One row for each slice of a list that is, or was last, read: the objects of
-- one kind that were created in [created_from, created_to), the newest first;
-- or, of a kind that Stripe lists per customer, those of the customers after
-- the one and up to the other, in the order of their ids.  It is all that a run
-- knows, so a run that was killed goes on from here.
CREATE TABLE stripe_portal.sync_cursor (
    object text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    slice text NOT NULL,
    params jsonb NOT NULL,
    range_from timestamptz,
    range_to timestamptz,
    created_from timestamptz,
    created_to timestamptz,
    last_id text,
    last_created timestamptz,
    pages integer NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    failure text,
    error text,
    started timestamptz NOT NULL,
    as_of timestamptz,
    updated timestamptz,
    finished timestamptz,
    begun timestamptz,
    customer text,
    customer_to text,
    customers_left bigint,
    PRIMARY KEY (object, livemode, account, slice)
);

-- What one request of a run gave, between being read and being written.
CREATE TYPE stripe_portal.sync_page AS (
    slice stripe_portal.sync_cursor,
    status integer,
    body json,
    as_of timestamptz,
    customer text
);

-- One finding of stripe_drift, with what would repair it.
CREATE TYPE stripe_portal.drift AS (
    kind text,
    id text,
    classification text,
    here jsonb,
    at_stripe jsonb,
    object jsonb,
    as_of timestamptz
);

-- Up to which event the ledger is known to be complete, and up to which it will
-- be when the run under way is finished.
CREATE TABLE stripe_portal.event_cursor (
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    event text,
    created timestamptz,
    next_event text,
    next_created timestamptz,
    relist boolean NOT NULL DEFAULT false,
    caught_up timestamptz,
    PRIMARY KEY (livemode, account)
);

-- How the parts of the tick went.
CREATE TABLE stripe_portal.tick_run (
    part text PRIMARY KEY,
    started timestamptz NOT NULL,
    finished timestamptz,
    portions integer NOT NULL DEFAULT 0,
    error text,
    last_success timestamptz
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.sync_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.tick_run', '');
