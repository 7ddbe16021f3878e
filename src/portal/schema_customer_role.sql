-- portal: which customer a database role is.

CREATE TABLE stripe_portal.customer_role (
    role text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    PRIMARY KEY (role, livemode)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.customer_role', '');
