-- billing: in which country a customer was, and when.

-- What was told, each by itself, so that what follows from it (see
-- api_country.sql) is the same in whatever order it was told.
CREATE TABLE stripe_portal.customer_country (
    customer text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    country text NOT NULL,
    PRIMARY KEY (customer, livemode, account, at, country)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.customer_country', '');
