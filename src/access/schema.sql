-- access: who counts as active, and for what.

CREATE TABLE stripe_portal.access_rule (
    flow text NOT NULL,
    status text NOT NULL,
    allowed boolean NOT NULL,
    PRIMARY KEY (flow, status)
);

-- Every flow and every status Stripe has; a status that is not here is refused.
INSERT INTO stripe_portal.access_rule (flow, status, allowed)
SELECT flow, status,
       status IN ('active', 'trialing')
       -- who has lapsed may still come back by paying
       OR (flow = 'payment_method_update' AND status IN ('past_due', 'unpaid', 'paused'))
FROM unnest(ARRAY['access', 'portal', 'customer_update', 'payment_method_update',
                  'subscription_cancel', 'subscription_pause', 'subscription_update',
                  'subscription_update_confirm']) AS flow,
     unnest(ARRAY['active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete',
                  'incomplete_expired', 'canceled']) AS status;

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.access_rule', '');

