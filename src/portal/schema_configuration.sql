-- portal: what the team declares that the portal offers.

-- Stripe's own object is in billing_portal_configuration,
-- once it was applied.
CREATE TABLE stripe_portal.configuration (
    name text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    cancel_flows boolean NOT NULL,
    plan_changes boolean NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',
    return_url text,
    is_default boolean NOT NULL DEFAULT false,
    declared_at timestamptz NOT NULL DEFAULT now(),
    stripe_id text,
    applied_at timestamptz,
    PRIMARY KEY (name, livemode, account)
);

CREATE UNIQUE INDEX configuration_default_idx ON stripe_portal.configuration (livemode, account) WHERE is_default;
CREATE UNIQUE INDEX configuration_stripe_id_idx ON stripe_portal.configuration (stripe_id, livemode, account);

-- Counts what Stripe refused to create, outside of any transaction.
CREATE SEQUENCE stripe_portal.configuration_refused;

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.configuration', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.configuration_refused', '');
