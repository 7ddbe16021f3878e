-- access: who counts as active, and for what.

-- A row says what a subscription must be like to let its customer through; one
-- row is enough, so a product's row adds to the general one, whose product is ''.
-- cancel_scheduled, collection_paused and trial: NULL is either way, true only
-- then, false only otherwise.
CREATE TABLE stripe_portal.access_rule (
    flow text NOT NULL,
    status text NOT NULL,
    allowed boolean NOT NULL,
    product text NOT NULL DEFAULT '',
    -- whoever adds it to a time of Stripe's must not run out of years
    grace interval CHECK (grace BETWEEN interval '0' AND interval '100 years'),
    cancel_scheduled boolean,
    collection_paused boolean,
    trial boolean,
    seeded boolean NOT NULL DEFAULT false,
    PRIMARY KEY (flow, status, product)
);

-- Every flow and every status Stripe has; a status that is not here is refused.
INSERT INTO stripe_portal.access_rule (flow, status, seeded, allowed)
SELECT flow, status, true,
       status IN ('active', 'trialing')
       -- who has lapsed may still come back by paying
       OR (flow = 'payment_method_update' AND status IN ('past_due', 'unpaid', 'paused'))
FROM unnest(ARRAY['access', 'portal', 'customer_update', 'payment_method_update',
                  'subscription_cancel', 'subscription_pause', 'subscription_update',
                  'subscription_update_confirm']) AS flow,
     unnest(ARRAY['active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete',
                  'incomplete_expired', 'canceled']) AS status;

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.access_rule', '');
