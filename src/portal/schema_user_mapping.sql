-- portal: which customer a user of the application is.

CREATE TABLE stripe_portal.user_mapping (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    metadata_key text,
    users regclass,
    user_column text,
    customer_column text,
    claim text,
    setting text,
    CHECK ((metadata_key IS NULL) <> (users IS NULL)),
    CHECK ((users IS NULL) = (user_column IS NULL) AND (users IS NULL) = (customer_column IS NULL)),
    CHECK ((claim IS NULL) <> (setting IS NULL))
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.user_mapping', '');
