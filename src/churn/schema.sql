-- churn: why subscribers leave.

-- One row per episode: from the request to cancel, or from an end that nobody
-- asked for, to its being undone or to the end.  Rows are a function of
-- stripe_portal.subscription_change (see api.sql); began_at, Stripe's time of
-- the request or the end, names the episode whenever it became known.
CREATE TABLE stripe_portal.cancellation (
    subscription text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL,
    customer text NOT NULL,
    asked_at timestamptz,
    undone_at timestamptz,
    effective_at timestamptz,
    ended_at timestamptz,
    ended_by text,
    voluntary boolean,
    feedback text,
    feedback_option text,
    comment text,
    product text,
    price text,
    quantity bigint,
    currency text,
    mrr bigint,
    started_at timestamptz,
    age interval,
    country text,
    session uuid,
    PRIMARY KEY (subscription, livemode, account, began_at)
);

CREATE INDEX cancellation_began_idx ON stripe_portal.cancellation (began_at);
CREATE INDEX cancellation_ended_idx ON stripe_portal.cancellation (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX cancellation_customer_idx ON stripe_portal.cancellation (customer, livemode, account);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.cancellation', '');
