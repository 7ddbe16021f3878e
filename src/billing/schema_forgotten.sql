-- billing: who was forgotten, so that they stay so.

-- The ids of a customer and of what is theirs: whatever names one of them is
-- stored without what is personal.
CREATE TABLE stripe_portal.forgotten (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX forgotten_customer_idx ON stripe_portal.forgotten (customer, livemode, account);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.forgotten', '');
