-- billing: what each subscription was, and what it brought in.

-- One row per subscription and second: the state that second ended with.  It
-- lasts until the next one.  Rows are a function of what is known, never of
-- the order it became known in (see api_history.sql).
CREATE TABLE stripe_portal.subscription_change (
    subscription text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    until timestamptz NOT NULL DEFAULT 'infinity',
    inferred boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_type text,
    customer text NOT NULL,
    status text NOT NULL,
    currency text,
    items jsonb NOT NULL,
    discounts jsonb NOT NULL,
    pause_collection jsonb,
    trial_start timestamptz,
    trial_end timestamptz,
    current_period_end timestamptz,
    cancel_at timestamptz,
    cancel_at_period_end boolean NOT NULL,
    canceled_at timestamptz,
    ended_at timestamptz,
    cancellation_reason text,
    cancellation_feedback text,
    cancellation_feedback_option text,
    cancellation_comment text,
    start_date timestamptz,
    created timestamptz,
    mrr bigint,
    movement text,
    mrr_change bigint,
    discount_ends timestamptz,
    confirmed_at timestamptz[],
    PRIMARY KEY (subscription, livemode, account, at)
);

-- All subscriptions on a day: most questions are about a recent one, which
-- few rows were over before.
CREATE INDEX subscription_change_until_idx ON stripe_portal.subscription_change (until, at);

-- The movements of a kind in a month; and what all of them add up to, without a
-- look at the rows, which are wide.
CREATE INDEX subscription_change_movement_idx
    ON stripe_portal.subscription_change (movement, at) INCLUDE (livemode, account, currency, mrr_change)
    WHERE movement IS NOT NULL;

-- Whether a customer has left with all of their subscriptions.
CREATE INDEX subscription_change_customer_idx
    ON stripe_portal.subscription_change (customer, livemode, account);

-- What has to be looked at again when a price, a coupon or a discount becomes
-- known, and when a discount has ended.
CREATE INDEX subscription_change_unknown_idx
    ON stripe_portal.subscription_change (subscription) WHERE mrr IS NULL;
CREATE INDEX subscription_change_discounts_idx
    ON stripe_portal.subscription_change USING gin (discounts jsonb_path_ops) WHERE discounts <> '[]';
CREATE INDEX subscription_change_discount_ends_idx
    ON stripe_portal.subscription_change (discount_ends) WHERE discount_ends IS NOT NULL;

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.subscription_change', '');

-- What was there when something was looked through the last time, so that the
-- next time only what was written since is looked at.  Neither dumped nor
-- replicated: elsewhere, transactions have other numbers.
CREATE UNLOGGED TABLE stripe_portal.looked_through (
    what text PRIMARY KEY,
    seen pg_snapshot NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.looked_through', 'WHERE false');
