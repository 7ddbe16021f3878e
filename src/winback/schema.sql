-- winback: who gets which offer, and what became of it.

-- What to do when.  An array that is NULL takes everybody; of one that is not,
-- one element has to fit.
CREATE TABLE stripe_portal.winback_rule (
    name text NOT NULL CHECK (name <> ''),
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    active boolean NOT NULL DEFAULT true,
    -- when
    trigger_on text NOT NULL CHECK (trigger_on IN ('cancel_asked', 'ended', 'payment_failed', 'trial_not_converted')),
    -- who
    feedback text[],
    reason text[],
    product text[],
    price text[],
    currency text CHECK (currency ~ '^[a-z]{3}$'),
    mrr_from bigint,
    mrr_to bigint,
    age_from interval,
    age_to interval,
    country text[],
    predicate text,
    -- what
    kind text NOT NULL CHECK (kind IN ('message', 'cancel_flow_coupon', 'coupon', 'promotion_code',
                                       'pause_offer', 'trial_extension', 'update_card')),
    subject text,
    body text,
    html text,
    coupon text,
    discount jsonb,
    extend_by interval,
    wait interval NOT NULL DEFAULT '0',
    valid_for interval NOT NULL DEFAULT '14 days',
    -- how often
    priority integer NOT NULL DEFAULT 0,
    cap_per_customer integer NOT NULL DEFAULT 1,
    cap_window interval,
    holdout numeric NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT now(),
    created timestamptz NOT NULL DEFAULT now(),
    owner text NOT NULL DEFAULT current_user,
    PRIMARY KEY (name, livemode, account)
);

-- The customer, the rule and the episode are what an offer is made for, so
-- whatever asks for it again finds it there.  What is held out is a row too:
-- without it, nobody could tell whether the others stayed because of the offer.
CREATE TABLE stripe_portal.winback_offer (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    rule text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    episode text NOT NULL,
    trigger_on text NOT NULL,
    kind text NOT NULL,
    subscription text,
    at timestamptz NOT NULL,
    session uuid,
    -- what lift is told apart by
    feedback text,
    product text,
    price text,
    country text,
    mrr bigint,
    currency text,
    -- what became of it
    state text NOT NULL CHECK (state IN ('planned', 'held_out', 'claimed', 'sent', 'accepted',
                                         'declined', 'expired', 'canceled')),
    planned_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    claimed_at timestamptz,
    sent_at timestamptz,
    accepted_at timestamptz,
    closed_at timestamptz,
    canceled_because text,
    saved_stage text CHECK (saved_stage IN ('cancel_flow', 'before_end', 'after_end', 'after_payment')),
    saved_at timestamptz,
    -- sending it
    leased_by text,
    lease uuid,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    error text,
    -- its discount at Stripe
    idempotency_key text,
    coupon text,
    promotion_code text,
    code text,
    UNIQUE (rule, livemode, account, customer, episode),
    CHECK ((state = 'canceled') = (canceled_because IS NOT NULL)),
    CHECK ((saved_stage IS NULL) = (saved_at IS NULL))
);

-- What is next.
CREATE INDEX winback_offer_due_idx
    ON stripe_portal.winback_offer (due_at) WHERE state IN ('planned', 'claimed');

-- What this customer was offered before; what has to be looked at again.
CREATE INDEX winback_offer_customer_idx
    ON stripe_portal.winback_offer (customer, livemode, account);
CREATE INDEX winback_offer_open_idx
    ON stripe_portal.winback_offer (expires_at) WHERE state IN ('planned', 'claimed', 'sent');

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.winback_rule', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.winback_offer', '');

