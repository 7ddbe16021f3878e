-- billing: invoices, how they were paid, and how they were not.

CREATE TABLE stripe_portal.invoice (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    number text,
    customer text,
    subscription text,
    status text,
    billing_reason text,
    collection_method text,
    currency text,
    amount_due bigint,
    amount_paid bigint,
    amount_remaining bigint,
    subtotal bigint,
    total bigint,
    attempted boolean,
    attempt_count integer,
    next_payment_attempt timestamptz,
    auto_advance boolean,
    due_date timestamptz,
    period_start timestamptz,
    period_end timestamptz,
    discounts jsonb,
    finalized_at timestamptz,
    paid_at timestamptz,
    marked_uncollectible_at timestamptz,
    voided_at timestamptz,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX invoice_customer_idx ON stripe_portal.invoice (customer, livemode, account);
CREATE INDEX invoice_subscription_idx ON stripe_portal.invoice (subscription, livemode, account);

CREATE TABLE stripe_portal.payment_intent (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text,
    status text,
    amount bigint,
    amount_received bigint,
    currency text,
    latest_charge text,
    payment_method text,
    cancellation_reason text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.dispute (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    charge text,
    payment_intent text,
    amount bigint,
    currency text,
    reason text,
    status text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- The two tables that follow are no copies of objects, but facts that several
-- objects tell, each a part, in any order; so they name no event.

-- Which invoice a payment intent, or a charge, was made for.
CREATE TABLE stripe_portal.invoice_payment (
    payment text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    invoice text NOT NULL,
    PRIMARY KEY (payment, livemode, account)
);

CREATE INDEX invoice_payment_invoice_idx
    ON stripe_portal.invoice_payment (invoice, livemode, account);

-- What a failed charge and its intent told of a failed attempt, under the
-- charge's id; and what the invoice told of it, under an id of its own, because
-- since 2025-03-31.basil neither of them knows of the other.  The view
-- payment_failure puts them together.
CREATE TABLE stripe_portal.payment_attempt (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    failed_at timestamptz NOT NULL,
    customer text,
    charge text,
    payment_intent text,
    invoice text,
    subscription text,
    amount bigint,
    currency text,
    code text,
    decline_code text,
    network_decline_code text,
    network_advice_code text,
    advice_code text,
    outcome_type text,
    outcome_reason text,
    risk_level text,
    message text,
    payment_method text,
    payment_method_type text,
    brand text,
    last4 text,
    exp_month integer,
    exp_year integer,
    country text,
    attempt_number integer,
    next_payment_attempt timestamptz,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX payment_attempt_customer_idx
    ON stripe_portal.payment_attempt (customer, livemode, account, failed_at);
CREATE INDEX payment_attempt_failed_idx ON stripe_portal.payment_attempt (failed_at);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.invoice', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.payment_intent', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.dispute', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.invoice_payment', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.payment_attempt', '');
