-- billing: portal configurations.

-- updated is the version of the object at Stripe.  features are without the
-- products of plan changes, which Stripe leaves out of events; products are
-- as they were read from the API at products_read, when the object had
-- products_updated.
CREATE TABLE stripe_portal.billing_portal_configuration (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    active boolean,
    is_default boolean,
    name text,
    business_profile jsonb,
    default_return_url text,
    features jsonb,
    products jsonb,
    products_updated timestamptz,
    login_page jsonb,
    metadata jsonb,
    created timestamptz,
    updated timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    products_read timestamptz,
    unclear boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.billing_portal_configuration', '');
