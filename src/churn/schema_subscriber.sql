-- churn: when customers began and ceased to bring in money.

-- How many customers there were at a time, and how many of those of a month
-- stayed, are sums over these rows, where they would else be found out from
-- whole histories.  One row for each row of a history that moved the MRR;
-- derived from stripe_portal.subscription_change (see api_subscriber.sql).
CREATE TABLE stripe_portal.subscriber_change (
    subscription text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    currency text,
    mrr_change bigint NOT NULL,
    subscribers smallint NOT NULL,
    since timestamptz,
    first boolean NOT NULL,
    customer_left boolean,
    PRIMARY KEY (subscription, livemode, account, at)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.subscriber_change', '');
