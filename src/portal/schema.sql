-- portal: the ledger of portal sessions, opened and refused.

-- The URL of a session lets whoever has it act as the customer, so it is
-- returned to the caller and stored nowhere.
CREATE TABLE stripe_portal.session (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    flow text NOT NULL DEFAULT 'portal',
    subscription text,
    configuration text,
    return_url text,
    locale text,
    stripe_id text,
    refused text,
    opened_by text NOT NULL DEFAULT session_user,
    created timestamptz NOT NULL DEFAULT now(),
    state jsonb,
    retention_coupon text,
    return_until timestamptz,
    returned_at timestamptz,
    outcome text[],
    CHECK ((refused IS NULL) = (stripe_id IS NOT NULL)),
    CHECK (returned_at IS NULL OR return_until IS NOT NULL),
    CHECK ((returned_at IS NULL) = (outcome IS NULL))
);

CREATE INDEX session_customer_idx ON stripe_portal.session (customer, created);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.session', '');
