-- billing: what Stripe says is true.
--
-- One table per object kind.  The key is (id, livemode, account): product and
-- price ids may be the same in test and live mode, and on every connected
-- account.  account is '' for the key's own account.
--
-- Every row names the event it was read from, '' if it was read from the API,
-- and the event's or the answer's time.  That is Stripe's clock, the only one
-- that decides which of two is newer.

CREATE TABLE stripe_portal.customer (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer_account text,
    email text,
    name text,
    phone text,
    address jsonb,
    currency text,
    balance bigint,
    delinquent boolean,
    default_payment_method text,
    default_source text,
    shipping jsonb,
    preferred_locales jsonb,
    tax_exempt text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- Which customer has this user's id in their metadata, under whatever key.
CREATE INDEX customer_metadata_idx
    ON stripe_portal.customer USING gin (metadata jsonb_path_ops) WITH (fastupdate = off);

-- The active-subscriber rule asks whether a customer is deleted; few are.
CREATE INDEX customer_deleted_idx
    ON stripe_portal.customer (id, livemode, account) WHERE deleted;

CREATE TABLE stripe_portal.product (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    name text,
    description text,
    active boolean,
    default_price text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.price (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    product text,
    active boolean,
    currency text,
    type text,
    billing_scheme text,
    unit_amount bigint,
    unit_amount_decimal numeric,
    "interval" text,
    interval_count integer,
    usage_type text,
    tiers_mode text,
    tiers jsonb,
    transform_quantity jsonb,
    tax_behavior text,
    lookup_key text,
    nickname text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- The items are a column, not a table: they change with the subscription in
-- one row version, so a trigger on this table sees both, and the order guard
-- covers both.  The view subscription_item gives them as rows.
CREATE TABLE stripe_portal.subscription (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    status text NOT NULL,
    currency text,
    collection_method text,
    billing_mode text,
    items jsonb NOT NULL,
    current_period_start timestamptz,
    current_period_end timestamptz,
    trial_start timestamptz,
    trial_end timestamptz,
    cancel_at timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    canceled_at timestamptz,
    ended_at timestamptz,
    cancellation_reason text,
    cancellation_feedback text,
    cancellation_feedback_option text,
    cancellation_comment text,
    pause_collection jsonb,
    discounts jsonb,
    default_payment_method text,
    latest_invoice text,
    schedule text,
    metadata jsonb,
    start_date timestamptz,
    created timestamptz,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- "Is this customer active" is asked before every portal session and in every
-- row of a guarded table.
CREATE INDEX subscription_customer_idx
    ON stripe_portal.subscription (customer, livemode, account);

CREATE TABLE stripe_portal.payment_method (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text,
    attached boolean,
    type text,
    brand text,
    last4 text,
    exp_month integer,
    exp_year integer,
    country text,
    funding text,
    fingerprint text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX payment_method_customer_idx
    ON stripe_portal.payment_method (customer, livemode, account);

-- Stripe tells the whole set at once, and the set has no id.
CREATE TABLE stripe_portal.entitlement (
    customer text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    lookup_keys text[] NOT NULL,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (customer, livemode, account)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.customer', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.product', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.price', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.subscription', '');

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.payment_method', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.entitlement', '');
