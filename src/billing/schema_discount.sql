-- billing: coupons, and what was given to whom.

CREATE TABLE stripe_portal.coupon (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    name text,
    percent_off numeric,
    amount_off bigint,
    currency text,
    currency_options jsonb,
    duration text,
    duration_in_months integer,
    max_redemptions bigint,
    times_redeemed bigint,
    redeem_by timestamptz,
    applies_to jsonb,
    valid boolean,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.promotion_code (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    code text,
    coupon text,
    customer text,
    active boolean,
    expires_at timestamptz,
    max_redemptions bigint,
    times_redeemed bigint,
    restrictions jsonb,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.discount (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text,
    subscription text,
    subscription_item text,
    coupon text,
    promotion_code text,
    start timestamptz,
    "end" timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX discount_subscription_idx
    ON stripe_portal.discount (subscription, livemode, account);
CREATE INDEX discount_customer_idx
    ON stripe_portal.discount (customer, livemode, account);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.coupon', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.promotion_code', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.discount', '');
