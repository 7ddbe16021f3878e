-- First part of the install script.
\echo Use "CREATE EXTENSION stripe_portal" to load this file. \quit

-- Tables and internal functions live in a schema of their own, made here and
-- not named in the control file, so that it is a member of the extension and
-- goes away with it.
DO $$
BEGIN
    IF '@extschema@' = 'stripe_portal' THEN
        RAISE EXCEPTION 'the functions of extension "stripe_portal" cannot be installed in schema "stripe_portal"'
            USING ERRCODE = 'duplicate_schema',
                  DETAIL = 'The extension creates that schema itself, for its tables.',
                  HINT = 'Drop the schema and install the functions in another one, for example: CREATE EXTENSION stripe_portal SCHEMA public.';
    END IF;
END
$$;

CREATE SCHEMA stripe_portal;
COMMENT ON SCHEMA stripe_portal IS 'Tables, views and internal functions of the extension stripe_portal';

-- Whatever stands in the caller's search path gets no say in what follows.
SET LOCAL search_path = pg_catalog, pg_temp;

-- billing: what Stripe says is true.
--
-- One table per object kind.  The key is (id, livemode, account): product and
-- price ids may be the same in test and live mode, and on every connected
-- account.  account is '' for the key's own account.
--
-- Every row names the event it was read from, '' if it was read from the API,
-- and the event's or the answer's time.  That is Stripe's clock, the only one
-- that decides which of two is newer.

CREATE TABLE stripe_portal.customer (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer_account text,
    email text,
    name text,
    phone text,
    address jsonb,
    currency text,
    balance bigint,
    delinquent boolean,
    default_payment_method text,
    default_source text,
    shipping jsonb,
    preferred_locales jsonb,
    tax_exempt text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.product (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    name text,
    description text,
    active boolean,
    default_price text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.price (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    product text,
    active boolean,
    currency text,
    type text,
    billing_scheme text,
    unit_amount bigint,
    unit_amount_decimal numeric,
    "interval" text,
    interval_count integer,
    usage_type text,
    tiers_mode text,
    tiers jsonb,
    transform_quantity jsonb,
    tax_behavior text,
    lookup_key text,
    nickname text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- The items are a column, not a table: they change with the subscription in
-- one row version, so a trigger on this table sees both, and the order guard
-- covers both.  The view subscription_item gives them as rows.
CREATE TABLE stripe_portal.subscription (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    status text NOT NULL,
    currency text,
    collection_method text,
    billing_mode text,
    items jsonb NOT NULL,
    current_period_start timestamptz,
    current_period_end timestamptz,
    trial_start timestamptz,
    trial_end timestamptz,
    cancel_at timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    canceled_at timestamptz,
    ended_at timestamptz,
    cancellation_reason text,
    cancellation_feedback text,
    cancellation_feedback_option text,
    cancellation_comment text,
    pause_collection jsonb,
    discounts jsonb,
    default_payment_method text,
    latest_invoice text,
    schedule text,
    metadata jsonb,
    start_date timestamptz,
    created timestamptz,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- "Is this customer active" is asked before every portal session and in every
-- row of a guarded table.
CREATE INDEX subscription_customer_idx
    ON stripe_portal.subscription (customer, livemode, account);

CREATE TABLE stripe_portal.payment_method (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text,
    attached boolean,
    type text,
    brand text,
    last4 text,
    exp_month integer,
    exp_year integer,
    country text,
    funding text,
    fingerprint text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX payment_method_customer_idx
    ON stripe_portal.payment_method (customer, livemode, account);

-- Stripe tells the whole set at once, and the set has no id.
CREATE TABLE stripe_portal.entitlement (
    customer text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    lookup_keys text[] NOT NULL,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (customer, livemode, account)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.customer', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.product', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.price', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.subscription', '');

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.payment_method', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.entitlement', '');
-- billing: what a decline code means, and what to do about it.

-- The codes are those that Stripe documents.  Stripe publishes a sentence for
-- each; class, steps and tell_customer are a reading of them that whoever
-- knows better can change.
CREATE TABLE stripe_portal.decline_code (
    method text NOT NULL CHECK (method IN ('card', 'other')),
    code text NOT NULL,
    class text NOT NULL CHECK (class IN ('soft', 'hard', 'fraud')),
    steps text[] NOT NULL,
    tell_customer boolean NOT NULL,
    description text NOT NULL,
    PRIMARY KEY (method, code),
    CHECK (steps <@ ARRAY['retry_later', 'call_issuer', 'new_method', 'authenticate', 'correct_data',
                          'do_not_retry', 'merchant_acts'])
);

INSERT INTO stripe_portal.decline_code (method, code, class, steps, tell_customer, description) VALUES
    -- passing trouble: the same card may work later
    ('card', 'approve_with_id', 'soft', '{retry_later,call_issuer}', true, 'The issuer could not authorise the payment this time'),
    ('card', 'issuer_not_available', 'soft', '{retry_later,call_issuer}', true, 'The issuer could not be reached'),
    ('card', 'processing_error', 'soft', '{retry_later,call_issuer}', true, 'Something went wrong while the payment was processed'),
    ('card', 'reenter_transaction', 'soft', '{retry_later,call_issuer}', true, 'The issuer could not process the payment and asks for another try'),
    ('card', 'try_again_later', 'soft', '{retry_later,call_issuer}', true, 'Declined for a reason that is not given; deprecated by Stripe'),
    -- no money at the moment: retry when there is, such as on a payday
    ('card', 'insufficient_funds', 'soft', '{retry_later,new_method}', true, 'There is not enough money in the account'),
    ('card', 'withdrawal_count_limit_exceeded', 'soft', '{retry_later,new_method}', true, 'The balance, credit or number of payments that the card allows is used up'),
    ('card', 'card_velocity_exceeded', 'soft', '{retry_later,new_method}', true, 'The card was charged too often or too much in a short time'),
    -- the customer has to be there: another try without them fails again
    ('card', 'authentication_required', 'soft', '{authenticate}', true, 'The payment needs the customer''s authentication'),
    ('card', 'authentication_not_handled', 'soft', '{authenticate}', true, 'The payment needed authentication, and it was not carried out'),
    -- no cause given
    ('card', 'generic_decline', 'soft', '{retry_later,call_issuer,new_method}', true, 'Declined for a reason that is not given, or blocked by Radar'),
    ('card', 'do_not_honor', 'soft', '{retry_later,call_issuer,new_method}', true, 'The issuer declined and does not say why'),
    ('card', 'call_issuer', 'soft', '{retry_later,call_issuer,new_method}', true, 'The issuer declined and wants to be called'),
    ('card', 'no_action_taken', 'soft', '{retry_later,call_issuer,new_method}', true, 'The issuer declined and does not say why'),
    -- something was typed wrong
    ('card', 'incorrect_cvc', 'soft', '{correct_data}', true, 'The security code is wrong'),
    ('card', 'invalid_cvc', 'soft', '{correct_data}', true, 'The security code is not possible for this card'),
    ('card', 'incorrect_zip', 'soft', '{correct_data}', true, 'The postal code does not match the card'),
    ('card', 'incorrect_address', 'soft', '{correct_data}', true, 'The address does not match the card'),
    ('card', 'expired_card', 'hard', '{correct_data,new_method}', true, 'The card has expired'),
    ('card', 'incorrect_number', 'hard', '{correct_data,new_method}', true, 'The card number is wrong'),
    ('card', 'invalid_number', 'hard', '{correct_data,new_method}', true, 'The card number is not possible'),
    ('card', 'invalid_expiry_month', 'hard', '{correct_data,new_method}', true, 'The month of expiry is not possible'),
    ('card', 'invalid_expiry_year', 'hard', '{correct_data,new_method}', true, 'The year of expiry is not possible'),
    -- the card is not for this: the issuer may change that, another card is quicker
    ('card', 'card_not_supported', 'hard', '{call_issuer,new_method}', true, 'The card cannot be used for purchases of this kind'),
    ('card', 'currency_not_supported', 'hard', '{call_issuer,new_method}', true, 'The card cannot be charged in this currency'),
    ('card', 'invalid_account', 'hard', '{call_issuer,new_method}', true, 'The card, or the account behind it, is not valid'),
    ('card', 'new_account_information_available', 'hard', '{call_issuer,new_method}', true, 'The card, or the account behind it, has been replaced'),
    ('card', 'not_permitted', 'hard', '{call_issuer,new_method}', true, 'The issuer does not allow this payment'),
    ('card', 'security_violation', 'hard', '{call_issuer,new_method}', true, 'The issuer declined for security reasons and does not say which'),
    ('card', 'service_not_allowed', 'hard', '{call_issuer,new_method}', true, 'The card is not allowed for this service'),
    ('card', 'transaction_not_allowed', 'hard', '{call_issuer,new_method}', true, 'The card is not allowed for this payment'),
    -- the customer has withdrawn their consent
    ('card', 'revocation_of_authorization', 'hard', '{do_not_retry,new_method}', true, 'The customer told the issuer to stop this payment'),
    ('card', 'revocation_of_all_authorizations', 'hard', '{do_not_retry,new_method}', true, 'The customer told the issuer to stop all your payments'),
    ('card', 'stop_payment_order', 'hard', '{do_not_retry,new_method}', true, 'The customer told the issuer to stop this payment'),
    ('card', 'do_not_try_again', 'hard', '{do_not_retry,new_method}', true, 'The issuer wants no further try and does not say why; deprecated by Stripe'),
    -- say no more than that it was declined: whoever pays may be a thief
    ('card', 'pickup_card', 'hard', '{do_not_retry,new_method,call_issuer}', false, 'The issuer wants the card back; it may be lost or stolen'),
    ('card', 'restricted_card', 'hard', '{do_not_retry,new_method,call_issuer}', false, 'The card is restricted; it may be lost or stolen'),
    ('card', 'lost_card', 'hard', '{do_not_retry,new_method}', false, 'The card is reported lost'),
    ('card', 'stolen_card', 'hard', '{do_not_retry,new_method}', false, 'The card is reported stolen'),
    ('card', 'fraudulent', 'fraud', '{do_not_retry,merchant_acts}', false, 'Stripe suspects fraud'),
    ('card', 'merchant_blacklist', 'fraud', '{do_not_retry,merchant_acts}', false, 'The payment matches a value on your own block list'),
    -- for you to look at
    ('card', 'duplicate_transaction', 'hard', '{merchant_acts}', true, 'A payment of the same amount was made with the card just before: look for it'),
    ('card', 'invalid_amount', 'hard', '{merchant_acts,call_issuer}', true, 'The amount is not possible, or more than the card allows'),
    ('card', 'testmode_decline', 'hard', '{merchant_acts}', true, 'A test card was used in live mode'),
    -- card readers only: no subscription is renewed with one
    ('card', 'incorrect_pin', 'soft', '{correct_data,new_method}', true, 'The PIN is wrong; card readers only'),
    ('card', 'invalid_pin', 'soft', '{correct_data,new_method}', true, 'The PIN is wrong; card readers only'),
    ('card', 'pin_try_exceeded', 'hard', '{new_method}', true, 'The PIN was wrong too often; card readers only'),
    ('card', 'offline_pin_required', 'soft', '{correct_data,new_method}', true, 'The card has to be inserted and its PIN entered; card readers only'),
    ('card', 'online_or_offline_pin_required', 'soft', '{correct_data,new_method}', true, 'The PIN has to be entered; card readers only'),
    ('card', 'mobile_device_authentication_required', 'soft', '{correct_data,new_method}', true, 'The customer has to authenticate on their device; card readers only'),
    -- Other payment methods.  The outcome of a charge gives some of the codes
    -- another name: both are here.
    ('other', 'processing_error', 'soft', '{retry_later}', true, 'Something went wrong while the payment was processed'),
    ('other', 'partner_processing_error', 'soft', '{retry_later}', true, 'The same as processing_error'),
    ('other', 'insufficient_funds', 'soft', '{retry_later}', true, 'There is not enough money in the account'),
    ('other', 'partner_insufficient_funds', 'soft', '{retry_later}', true, 'The same as insufficient_funds'),
    ('other', 'partner_generic_decline', 'soft', '{retry_later}', true, 'Declined for a reason that is not given'),
    ('other', 'invalid_customer_account', 'hard', '{correct_data,retry_later}', true, 'The customer''s account cannot pay until they mend it'),
    ('other', 'payment_limit_exceeded', 'soft', '{correct_data,retry_later}', true, 'The payment is above a limit of the customer''s'),
    ('other', 'expired_payment_information', 'hard', '{correct_data,retry_later}', true, 'What the customer''s account pays with has expired'),
    ('other', 'expired_card', 'hard', '{correct_data,retry_later}', true, 'The card behind the customer''s account has expired'),
    ('other', 'partner_expired_card', 'hard', '{correct_data,retry_later}', true, 'The same as expired_card'),
    ('other', 'invalid_billing_agreement', 'hard', '{do_not_retry,new_method}', true, 'The agreement to charge the customer is not valid, or has ended'),
    ('other', 'invalid_authorization', 'hard', '{do_not_retry,new_method}', true, 'The authorisation of the payment is not valid, or has ended'),
    ('other', 'invalid_payment_information', 'hard', '{do_not_retry,new_method}', true, 'What the customer gave to pay with is not valid'),
    ('other', 'currency_not_supported', 'hard', '{do_not_retry,new_method}', true, 'The customer''s account cannot be charged in this currency'),
    ('other', 'partner_invalid_currency', 'hard', '{do_not_retry,new_method}', true, 'The same as currency_not_supported'),
    ('other', 'invalid_amount', 'hard', '{do_not_retry,new_method}', true, 'The amount is not possible with this payment method'),
    ('other', 'partner_invalid_amount', 'hard', '{do_not_retry,new_method}', true, 'The same as invalid_amount'),
    ('other', 'compliance_violation', 'hard', '{do_not_retry,new_method}', true, 'The payment would break a rule that its provider has to keep'),
    ('other', 'partner_high_risk_customer', 'fraud', '{do_not_retry,new_method}', false, 'The provider of the payment method finds the customer too risky'),
    ('other', 'invalid_business_account', 'hard', '{merchant_acts}', true, 'Your account with the provider of the payment method cannot take payments'),
    ('other', 'partner_payment_not_found', 'hard', '{merchant_acts}', true, 'The provider of the payment method does not know the payment'),
    ('other', 'duplicate_transaction', 'hard', '{merchant_acts}', true, 'The same payment was made before: look for it'),
    ('other', 'partner_duplicate_transaction', 'hard', '{merchant_acts}', true, 'The same as duplicate_transaction'),
    ('other', 'payment_disputed', 'hard', '{merchant_acts,retry_later}', true, 'The customer disputes the payment; to be tried again only after the dispute is won');

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.decline_code', '');
-- billing: coupons, and what was given to whom.

CREATE TABLE stripe_portal.coupon (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    name text,
    percent_off numeric,
    amount_off bigint,
    currency text,
    currency_options jsonb,
    duration text,
    duration_in_months integer,
    max_redemptions bigint,
    times_redeemed bigint,
    redeem_by timestamptz,
    applies_to jsonb,
    valid boolean,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.promotion_code (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    code text,
    coupon text,
    customer text,
    active boolean,
    expires_at timestamptz,
    max_redemptions bigint,
    times_redeemed bigint,
    restrictions jsonb,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.discount (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text,
    subscription text,
    subscription_item text,
    coupon text,
    promotion_code text,
    start timestamptz,
    "end" timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX discount_subscription_idx
    ON stripe_portal.discount (subscription, livemode, account);
CREATE INDEX discount_customer_idx
    ON stripe_portal.discount (customer, livemode, account);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.coupon', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.promotion_code', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.discount', '');
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
    PRIMARY KEY (subscription, livemode, account, at)
);

-- All subscriptions on a day: most questions are about a recent one, which
-- few rows were over before.
CREATE INDEX subscription_change_until_idx ON stripe_portal.subscription_change (until, at);

-- The movements of a month; and what all of them add up to, without a look at
-- the rows, which are wide.
CREATE INDEX subscription_change_movement_idx
    ON stripe_portal.subscription_change (at) INCLUDE (livemode, account, currency, movement, mrr_change)
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
-- billing: invoices, how they were paid, and how they were not.

CREATE TABLE stripe_portal.invoice (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    number text,
    customer text,
    subscription text,
    status text,
    billing_reason text,
    collection_method text,
    currency text,
    amount_due bigint,
    amount_paid bigint,
    amount_remaining bigint,
    subtotal bigint,
    total bigint,
    attempted boolean,
    attempt_count integer,
    next_payment_attempt timestamptz,
    auto_advance boolean,
    due_date timestamptz,
    period_start timestamptz,
    period_end timestamptz,
    discounts jsonb,
    finalized_at timestamptz,
    paid_at timestamptz,
    marked_uncollectible_at timestamptz,
    voided_at timestamptz,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX invoice_customer_idx ON stripe_portal.invoice (customer, livemode, account);
CREATE INDEX invoice_subscription_idx ON stripe_portal.invoice (subscription, livemode, account);

CREATE TABLE stripe_portal.payment_intent (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text,
    status text,
    amount bigint,
    amount_received bigint,
    currency text,
    latest_charge text,
    payment_method text,
    cancellation_reason text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

CREATE TABLE stripe_portal.dispute (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    charge text,
    payment_intent text,
    amount bigint,
    currency text,
    reason text,
    status text,
    metadata jsonb,
    created timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

-- The two tables that follow are no copies of objects, but facts that several
-- objects tell, each a part, in any order; so they name no event.

-- Which invoice a payment intent, or a charge, was made for.
CREATE TABLE stripe_portal.invoice_payment (
    payment text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    invoice text NOT NULL,
    PRIMARY KEY (payment, livemode, account)
);

CREATE INDEX invoice_payment_invoice_idx
    ON stripe_portal.invoice_payment (invoice, livemode, account);

-- What a failed charge and its intent told of a failed attempt, under the
-- charge's id; and what the invoice told of it, under an id of its own, because
-- since 2025-03-31.basil neither of them knows of the other.  The view
-- payment_failure puts them together.
CREATE TABLE stripe_portal.payment_attempt (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    failed_at timestamptz NOT NULL,
    customer text,
    charge text,
    payment_intent text,
    invoice text,
    subscription text,
    amount bigint,
    currency text,
    code text,
    decline_code text,
    network_decline_code text,
    network_advice_code text,
    advice_code text,
    outcome_type text,
    outcome_reason text,
    risk_level text,
    message text,
    payment_method text,
    payment_method_type text,
    brand text,
    last4 text,
    exp_month integer,
    exp_year integer,
    country text,
    attempt_number integer,
    next_payment_attempt timestamptz,
    PRIMARY KEY (id, livemode, account)
);

CREATE INDEX payment_attempt_customer_idx
    ON stripe_portal.payment_attempt (customer, livemode, account);
CREATE INDEX payment_attempt_failed_idx ON stripe_portal.payment_attempt (failed_at);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.invoice', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.payment_intent', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.dispute', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.invoice_payment', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.payment_attempt', '');
-- billing: portal configurations.

-- updated is the version of the object at Stripe.  features are without the
-- products of plan changes, which Stripe leaves out of events; products are
-- as they were read from the API, when the object had products_updated.
CREATE TABLE stripe_portal.billing_portal_configuration (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    active boolean,
    is_default boolean,
    name text,
    business_profile jsonb,
    default_return_url text,
    features jsonb,
    products jsonb,
    products_updated timestamptz,
    login_page jsonb,
    metadata jsonb,
    created timestamptz,
    updated timestamptz,
    deleted boolean NOT NULL DEFAULT false,
    event text NOT NULL,
    event_created timestamptz NOT NULL,
    refetch boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, livemode, account)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.billing_portal_configuration', '');
-- webhook: the ledger of everything Stripe has sent, as it was signed.
--
-- Partitioned by the month of the event's own time, in UTC.  tend_ledger makes
-- the partitions; what has no partition, or no time, is in event_default.
--
-- Keys and indexes are the partitions' own, and the partitioned table has
-- none: ATTACH would make copies of its indexes before pg_dump's restore comes
-- to those of the partition, and fails over them.  The key of a partition is
-- exact for the whole ledger all the same, because an event's time is signed
-- with it: whoever delivers the event again is sent to the same partition.

CREATE TABLE stripe_portal.event (
    id text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    type text,
    created timestamptz,
    api_version text,
    object_id text,
    payload json,
    body bytea,
    status text NOT NULL CHECK (status IN ('applied', 'ignored', 'thin', 'failed')),
    error text,
    attempts integer NOT NULL DEFAULT 1,
    last_attempt_at timestamptz NOT NULL DEFAULT now(),
    received_at timestamptz NOT NULL,
    -- exactly what was signed, as json where it is json
    CHECK ((payload IS NULL) <> (body IS NULL)),
    CHECK ((status = 'failed') = (error IS NOT NULL))
) PARTITION BY RANGE (created);

-- lz4 costs a fraction of pglz on payloads of this size; a server built
-- without it keeps its default.
DO $$
BEGIN
    ALTER TABLE stripe_portal.event ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- The model of all partitions: tend_ledger makes them LIKE this one.
CREATE TABLE stripe_portal.event_default PARTITION OF stripe_portal.event (
    PRIMARY KEY (id, livemode, account)
) DEFAULT;

-- Events of one object and second, to put them in order.
CREATE INDEX event_default_object_idx ON stripe_portal.event_default (object_id, created);

-- What waits for another attempt.
CREATE INDEX event_default_waiting_idx ON stripe_portal.event_default (received_at) WHERE status IN ('failed', 'thin');

CREATE TABLE stripe_portal.event_handler (
    pattern text NOT NULL CHECK (pattern ~ '^[a-z0-9_.*]+$'),
    function text NOT NULL,
    PRIMARY KEY (pattern, function)
);

-- A partition made later is no member of the extension: pg_dump has it whole.
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_default', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_handler', '');

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
-- portal: what the team declares that the portal offers.

-- Stripe's own object is in billing_portal_configuration,
-- once it was applied.
CREATE TABLE stripe_portal.configuration (
    name text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    cancel_flows boolean NOT NULL,
    plan_changes boolean NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',
    return_url text,
    is_default boolean NOT NULL DEFAULT false,
    declared_at timestamptz NOT NULL DEFAULT now(),
    stripe_id text,
    applied_at timestamptz,
    PRIMARY KEY (name, livemode, account)
);

CREATE UNIQUE INDEX configuration_default_idx ON stripe_portal.configuration (livemode, account) WHERE is_default;
CREATE UNIQUE INDEX configuration_stripe_id_idx ON stripe_portal.configuration (stripe_id, livemode, account);

-- Counts what Stripe refused to create, outside of any transaction.
CREATE SEQUENCE stripe_portal.configuration_refused;

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.configuration', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.configuration_refused', '');
-- portal: which customer a database role is.

CREATE TABLE stripe_portal.customer_role (
    role text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    customer text NOT NULL,
    PRIMARY KEY (role, livemode)
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.customer_role', '');
-- churn: why subscribers leave.

-- One row per episode: from the request to cancel, or from an end that nobody
-- asked for, to its being undone or to the end.  Rows are a function of
-- stripe_portal.subscription_change (see api.sql); began_at, Stripe's time of
-- the request or the end, names the episode whenever it became known.
CREATE TABLE stripe_portal.cancellation (
    subscription text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL,
    customer text NOT NULL,
    asked_at timestamptz,
    undone_at timestamptz,
    effective_at timestamptz,
    ended_at timestamptz,
    ended_by text,
    voluntary boolean,
    feedback text,
    feedback_option text,
    comment text,
    product text,
    price text,
    quantity bigint,
    currency text,
    mrr bigint,
    started_at timestamptz,
    age interval,
    country text,
    session uuid,
    PRIMARY KEY (subscription, livemode, account, began_at)
);

CREATE INDEX cancellation_began_idx ON stripe_portal.cancellation (began_at);
CREATE INDEX cancellation_ended_idx ON stripe_portal.cancellation (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX cancellation_customer_idx ON stripe_portal.cancellation (customer, livemode, account);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.cancellation', '');
-- churn: what the reports need to be fast.

-- The comments of cancellations, by word: in any language, so without stems.
CREATE INDEX cancellation_comment_idx
    ON stripe_portal.cancellation USING gin (to_tsvector('pg_catalog.simple', comment)) WHERE comment <> '';

-- Those that were taken back in a month.
CREATE INDEX cancellation_undone_idx ON stripe_portal.cancellation (undone_at) WHERE undone_at IS NOT NULL;
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
    FOREIGN KEY (rule, livemode, account) REFERENCES stripe_portal.winback_rule (name, livemode, account),
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

-- sync: how far reading from Stripe has come.

-- One row for each slice of a list that is, or was last, read: the objects of
-- one kind that were created in [created_from, created_to), the newest first.
-- It is all that a run knows, so a run that was killed goes on from here.
CREATE TABLE stripe_portal.sync_cursor (
    object text NOT NULL,
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    slice text NOT NULL,
    params jsonb NOT NULL,
    range_from timestamptz,
    range_to timestamptz,
    created_from timestamptz,
    created_to timestamptz,
    last_id text,
    last_created timestamptz,
    pages integer NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    failure text,
    error text,
    started timestamptz NOT NULL,
    as_of timestamptz,
    updated timestamptz,
    finished timestamptz,
    PRIMARY KEY (object, livemode, account, slice)
);

-- What one request of a run gave, between being read and being written.
CREATE TYPE stripe_portal.sync_page AS (
    slice stripe_portal.sync_cursor,
    status integer,
    body json,
    as_of timestamptz
);

-- One finding of stripe_drift, with what would repair it.
CREATE TYPE stripe_portal.drift AS (
    kind text,
    id text,
    classification text,
    here jsonb,
    at_stripe jsonb,
    object jsonb,
    as_of timestamptz
);

-- Up to which event the ledger is known to be complete, and up to which it will
-- be when the run under way is finished.
CREATE TABLE stripe_portal.event_cursor (
    livemode boolean NOT NULL,
    account text NOT NULL DEFAULT '',
    event text,
    created timestamptz,
    next_event text,
    next_created timestamptz,
    relist boolean NOT NULL DEFAULT false,
    caught_up timestamptz,
    PRIMARY KEY (livemode, account)
);

-- How the parts of the tick went.
CREATE TABLE stripe_portal.tick_run (
    part text PRIMARY KEY,
    started timestamptz NOT NULL,
    finished timestamptz,
    portions integer NOT NULL DEFAULT 0,
    error text,
    last_success timestamptz
);

SELECT pg_catalog.pg_extension_config_dump('stripe_portal.sync_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.event_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('stripe_portal.tick_run', '');
-- stripe: talking to Stripe's API.

CREATE FUNCTION stripe_portal.plan_support(internal)
RETURNS internal
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'stripe_plan_support';

COMMENT ON FUNCTION stripe_portal.plan_support(internal) IS
'Makes the planner load the library before a parallel query begins, so that its settings are there in the workers';

-- Volatile, because it has effects outside, and so that it is called exactly
-- as often as it is written.  Not in a parallel worker, which would open a
-- connection of its own and could be started more than once.
CREATE FUNCTION @extschema@.stripe_api(
    method text, path text, params jsonb DEFAULT NULL,
    account text DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'stripe_api';

COMMENT ON FUNCTION @extschema@.stripe_api(text, text, jsonb, text, text) IS
'Calls Stripe''s API with the configured key and returns its answer; for administrators, since it can do whatever the key may. method: GET, POST or DELETE. path: from /v1/ on, with ids percent-encoded. params: sent as form, nested as in Stripe''s reference. account: a connected account to act for. idempotency_key: of a POST; a fresh one is made if it is NULL. What the call does at Stripe is not undone when the transaction is rolled back; in a read-only transaction and on a standby only GET is allowed (error 25006). Stripe''s errors have SQLSTATE SP4xx and SP5xx, network errors 08001 if the request was not sent and 08006 if it may have been';

-- Others may be allowed to create functions where the public ones are, and a
-- call by a name there may be taken for one of theirs.  So no function calls
-- one that is public: what both need has a second name in this schema.
CREATE FUNCTION stripe_portal.api(
    method text, path text, params jsonb DEFAULT NULL,
    account text DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'stripe_api';

COMMENT ON FUNCTION stripe_portal.api(text, text, jsonb, text, text) IS
'stripe_api, for other functions to call';

CREATE FUNCTION stripe_portal.form_encode(params jsonb)
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_form_encode';

COMMENT ON FUNCTION stripe_portal.form_encode(jsonb) IS
'The parameters as stripe_api sends them: a[b][0]=value&…, percent-encoded';

CREATE FUNCTION stripe_portal.fetch(
    paths text[], params jsonb[] DEFAULT NULL, account text DEFAULT '',
    OUT n integer, OUT status integer, OUT body json, OUT as_of timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'stripe_fetch';

COMMENT ON FUNCTION stripe_portal.fetch(text[], jsonb[], text) IS
'Sends GET requests to Stripe''s API, stripe_portal.in_flight of them at once and stripe_portal.rate_limit of them per second, and gives a row for each, in order of n, which counts from 1. params: of each path; an element or the whole may be NULL. status: Stripe''s; one that concerns this request only, such as 404, is a row with Stripe''s error object, one that would befall all (401, 429, 5xx, after the retries) is an error as in stripe_api. body: as Stripe wrote it. as_of: how new the answer is at least, in whole seconds of Stripe''s clock';

CREATE FUNCTION stripe_portal.key_livemode()
RETURNS boolean
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'stripe_key_livemode';

COMMENT ON FUNCTION stripe_portal.key_livemode() IS
'Whether the configured key is for live mode; true without a key';
-- billing: reading Stripe's values.  First of the files, because all others read them.

CREATE FUNCTION stripe_portal.read_time(value jsonb)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp((value #>> '{}')::double precision);

COMMENT ON FUNCTION stripe_portal.read_time(jsonb) IS
'A unix time (seconds, as number or string) as timestamptz; NULL for null';

CREATE FUNCTION stripe_portal.read_id(value jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'object' THEN value ->> 'id' ELSE value #>> '{}' END;

COMMENT ON FUNCTION stripe_portal.read_id(jsonb) IS
'The id in a reference, which Stripe gives as a string or, expanded, as the object';

CREATE FUNCTION stripe_portal.read_discounts(object jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(jsonb_agg(stripe_portal.read_id(discount) ORDER BY position), '[]')
    FROM jsonb_array_elements(
        -- until 2025-03-31.basil there was a single one, at times beside the list
        CASE WHEN object #> '{discounts,0}' IS NOT NULL THEN object -> 'discounts'
             WHEN coalesce(object -> 'discount', 'null') = 'null' THEN '[]'
             ELSE jsonb_build_array(object -> 'discount') END) WITH ORDINALITY AS d (discount, position)
);

COMMENT ON FUNCTION stripe_portal.read_discounts(jsonb) IS
'The ids of the discounts of a subscription, an item or an invoice, in the order in which they come off, from a list or a single one';

CREATE FUNCTION stripe_portal.read_items(subscription jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    items jsonb := '[]';
    item jsonb;
BEGIN
    FOR item IN SELECT value FROM jsonb_array_elements(subscription #> '{items,data}') ORDER BY value ->> 'id' LOOP
        -- Until 2025-03-31.basil the subscription had the period, since then
        -- each item has its own; for a while both are sent, and the items are
        -- right.
        items := items || jsonb_build_object(
            'id', item ->> 'id',
            'price', stripe_portal.read_id(coalesce(item -> 'price', item -> 'plan')),
            'product', stripe_portal.read_id(coalesce(item #> '{price,product}', item #> '{plan,product}')),
            'quantity', (item ->> 'quantity')::bigint,
            'discounts', stripe_portal.read_discounts(item),
            'current_period_start', coalesce(item ->> 'current_period_start', subscription ->> 'current_period_start')::bigint,
            'current_period_end', coalesce(item ->> 'current_period_end', subscription ->> 'current_period_end')::bigint);
    END LOOP;
    RETURN items;
END
$$;

COMMENT ON FUNCTION stripe_portal.read_items(jsonb) IS
'The items of a subscription, reduced to what the view subscription_item shows and the ids of their discounts; times in unix seconds, as Stripe gives them';

CREATE FUNCTION stripe_portal.read_coupon(discount jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(discount #> '{source,coupon}', discount #> '{promotion,coupon}', discount -> 'coupon');

COMMENT ON FUNCTION stripe_portal.read_coupon(jsonb) IS
'The coupon of a discount or a promotion code, an id or an object: named by its source or promotion since 2025-09-30.clover';

CREATE FUNCTION stripe_portal.read_subscription(invoice jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- its parent's since 2025-03-31.basil
RETURN stripe_portal.read_id(coalesce(nullif(invoice #> '{parent,subscription_details,subscription}', 'null'),
                                      invoice -> 'subscription'));

COMMENT ON FUNCTION stripe_portal.read_subscription(jsonb) IS
'The id of the subscription that an invoice bills; NULL for none';

CREATE FUNCTION stripe_portal.read_method(method jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT jsonb_build_object(
        'brand', coalesce(details ->> 'brand', details ->> 'bank_name'),
        'last4', details ->> 'last4',
        'exp_month', details ->> 'exp_month',
        'exp_year', details ->> 'exp_year',
        'country', details ->> 'country',
        'funding', details ->> 'funding',
        'fingerprint', details ->> 'fingerprint')
    FROM (SELECT method -> (method ->> 'type')) AS of_the_type (details)
);

COMMENT ON FUNCTION stripe_portal.read_method(jsonb) IS
'What a payment method, or the payment_method_details of a charge, tells of the card or the bank account';
-- billing: amounts in minor units, and in the currency's own.

CREATE FUNCTION @extschema@.stripe_amount(amount numeric, currency text)
RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN lower(currency) = ANY ('{bif,clp,djf,gnf,jpy,kmf,krw,mga,pyg,rwf,vnd,vuv,xaf,xof,xpf}') THEN round(amount)
    WHEN lower(currency) = ANY ('{bhd,jod,kwd,omr,tnd}') THEN round(amount / 1000, 3)
    ELSE round(amount / 100, 2)
END;

COMMENT ON FUNCTION @extschema@.stripe_amount(numeric, text) IS
'An amount of minor units in the currency itself, with all its decimals: 123456 is 1234.56 in usd, 123456 in jpy, 123.456 in kwd, as Stripe counts them';
-- billing: the seeded decline codes, which may be changed and added to.

-- A seeded row that somebody deleted or renamed would be back after a restore;
-- so inserting one that exists sets it, which is what a restore does.
CREATE FUNCTION stripe_portal.decline_code_set()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.decline_code AS known
    SET (class, steps, tell_customer, description) = (NEW.class, NEW.steps, NEW.tell_customer, NEW.description)
    WHERE known.method = NEW.method AND known.code = NEW.code;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.decline_code_set() IS
'Makes an INSERT of a code that exists set it';

CREATE TRIGGER decline_code_set
    BEFORE INSERT ON stripe_portal.decline_code
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.decline_code_set();

CREATE FUNCTION stripe_portal.decline_code_keep()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'decline codes cannot be deleted or renamed'
        USING ERRCODE = 'restrict_violation',
              HINT = 'Change what is to be done: UPDATE stripe_portal.decline_code SET class = …, steps = … WHERE ….';
END
$$;

COMMENT ON FUNCTION stripe_portal.decline_code_keep() IS
'Keeps the codes complete: a missing one would come back with a restore';

CREATE TRIGGER decline_code_keep_row
    BEFORE DELETE OR UPDATE OF method, code ON stripe_portal.decline_code
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.decline_code_keep();

CREATE TRIGGER decline_code_keep_all
    BEFORE TRUNCATE ON stripe_portal.decline_code
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.decline_code_keep();

COMMENT ON TABLE stripe_portal.decline_code IS 'Why payments are declined, and what to do; change it with UPDATE, add to it with INSERT. The class is ours: Stripe publishes texts only. A code that is not here is to be treated as generic_decline';
COMMENT ON COLUMN stripe_portal.decline_code.method IS 'card, or other for all other payment methods, which use some of the same codes';
COMMENT ON COLUMN stripe_portal.decline_code.code IS 'Stripe''s decline code, as in outcome.reason of the charge or decline_code of the error; for other methods also under the name that outcome.reason uses';
COMMENT ON COLUMN stripe_portal.decline_code.class IS 'soft: the same payment method may work another time; hard: it will not without a change; fraud: do not try again';
COMMENT ON COLUMN stripe_portal.decline_code.steps IS 'What to do, in this order: retry_later, call_issuer (the customer asks their bank), new_method, authenticate (the customer is there and confirms), correct_data, do_not_retry (this method, ever), merchant_acts (you). advice_code, where Stripe gives one, overrides it';
COMMENT ON COLUMN stripe_portal.decline_code.tell_customer IS 'Whether the customer may be told the reason; if not, tell them no more than for generic_decline';
COMMENT ON COLUMN stripe_portal.decline_code.description IS 'What it means, in our words, for you; not for the customer';
-- billing: what each subscription was on any day, and every movement of MRR.
--
-- The facts are the rows with an event, one for each second that something
-- happened in, and the rows that were read from Stripe's API (event = ''),
-- which stand where no event tells what they tell.  Everything else is derived
-- from them by derive_changes, whole subscriptions at a time:
--
--   - inferred rows, for what must have happened where no fact tells of it;
--   - until, mrr, movement, mrr_change and discount_ends of all rows.
--
-- It ends with an UPDATE of the rows that were touched.  What is derived from
-- this table may hang on that UPDATE; it must not hang on the INSERT, which is
-- also what a restore does.

CREATE FUNCTION stripe_portal.lock_changes(customer text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- few enough for one transaction to hold them all
    PERFORM pg_advisory_xact_lock(hashtext('stripe_portal.subscription_change'), hashtext(customer) & 1023);
END
$$;

COMMENT ON FUNCTION stripe_portal.lock_changes(text) IS
'Locks the history of a customer''s subscriptions to the end of the transaction: one can decide the movement of another. To be taken before the row of a subscription is locked';

CREATE FUNCTION stripe_portal.read_change(s stripe_portal.subscription, event_type text)
RETURNS stripe_portal.subscription_change
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.subscription_change;
    item jsonb;
    discount jsonb;
BEGIN
    c := jsonb_populate_record(c, to_jsonb(s));
    c.subscription := s.id;
    c.at := s.event_created;
    c.until := 'infinity';
    c.inferred := false;
    c.event_type := event_type;
    c.items := '[]';
    c.discounts := '[]';
    FOR discount IN SELECT value FROM jsonb_array_elements(s.discounts) LOOP
        c.discounts := c.discounts || jsonb_build_object('id', discount);
    END LOOP;
    FOR item IN SELECT value FROM jsonb_array_elements(s.items) LOOP
        -- the periods move on by themselves, and are no change
        c.items := c.items || item - '{current_period_start,current_period_end,discounts}'::text[];
        FOR discount IN SELECT value FROM jsonb_array_elements(item -> 'discounts') LOOP
            c.discounts := c.discounts || jsonb_build_object('id', discount, 'item', item -> 'id');
        END LOOP;
    END LOOP;
    RETURN c;
END
$$;

COMMENT ON FUNCTION stripe_portal.read_change(stripe_portal.subscription, text) IS
'A row of table subscription as one of its history, with nothing derived yet; event_type: the type of the event it was read from';

CREATE FUNCTION stripe_portal.same_state(a stripe_portal.subscription_change, b stripe_portal.subscription_change)
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (a.status, a.items, a.discounts, a.pause_collection, a.trial_end, a.cancel_at, a.cancel_at_period_end,
            a.canceled_at, a.ended_at, a.cancellation_reason, a.cancellation_feedback,
            a.cancellation_feedback_option, a.cancellation_comment)
           IS NOT DISTINCT FROM
           (b.status, b.items, b.discounts, b.pause_collection, b.trial_end, b.cancel_at, b.cancel_at_period_end,
            b.canceled_at, b.ended_at, b.cancellation_reason, b.cancellation_feedback,
            b.cancellation_feedback_option, b.cancellation_comment);
END
$$;

COMMENT ON FUNCTION stripe_portal.same_state(stripe_portal.subscription_change, stripe_portal.subscription_change) IS
'Whether two rows of a subscription''s history say the same of it, apart from what is derived';

-- ---------------------------------------------------------------------------
-- What must have happened
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.first_state(first stripe_portal.subscription_change)
RETURNS stripe_portal.subscription_change
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    born stripe_portal.subscription_change := first;
BEGIN
    born.at := coalesce(first.created, first.start_date);
    born.status := CASE
        WHEN first.status IN ('incomplete', 'incomplete_expired') THEN 'incomplete'
        WHEN coalesce(first.trial_start, born.at) <= born.at AND first.trial_end > born.at THEN 'trialing'
        WHEN first.status = 'trialing' THEN 'trialing'
        ELSE 'active' END;
    born.cancel_at := NULL;
    born.cancel_at_period_end := false;
    born.canceled_at := NULL;
    born.ended_at := NULL;
    born.cancellation_reason := NULL;
    born.cancellation_feedback := NULL;
    born.cancellation_feedback_option := NULL;
    born.cancellation_comment := NULL;
    born.inferred := true;
    born.event := '';
    born.event_type := NULL;
    born.mrr := NULL;
    RETURN born;
END
$$;

COMMENT ON FUNCTION stripe_portal.first_state(stripe_portal.subscription_change) IS
'What a subscription was when it was created, as far as the first that is known of it tells: the same without its cancellation, in its trial or active';

CREATE FUNCTION stripe_portal.inferred_between(
    before stripe_portal.subscription_change, after stripe_portal.subscription_change)
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- the event of the end is the end, if a second late
    ended CONSTANT timestamptz := CASE WHEN stripe_portal.status_is_final(after.status)
                                        AND after.event_type IS DISTINCT FROM 'customer.subscription.deleted' THEN after.ended_at END;
    point timestamptz;
    state stripe_portal.subscription_change;
BEGIN
    FOR point IN
        SELECT p FROM (
            SELECT before.trial_end WHERE before.status = 'trialing' AND after.status <> 'trialing'
            UNION SELECT after.canceled_at WHERE after.canceled_at IS DISTINCT FROM before.canceled_at
            UNION SELECT ended) AS points (p)
        WHERE p > before.at AND p < after.at AND p <= coalesce(after.ended_at, 'infinity')
        ORDER BY p
    LOOP
        state := CASE WHEN point = ended THEN after ELSE before END;
        IF point IS DISTINCT FROM ended AND before.status = 'trialing' AND before.trial_end <= point THEN
            state.status := CASE WHEN after.status = 'paused' THEN 'paused' ELSE 'active' END;
        END IF;
        IF point IS DISTINCT FROM ended AND after.canceled_at <= point THEN
            state.cancel_at := coalesce(after.cancel_at, after.ended_at);
            state.cancel_at_period_end := after.cancel_at_period_end;
            state.canceled_at := after.canceled_at;
            state.cancellation_reason := after.cancellation_reason;
            state.cancellation_feedback := after.cancellation_feedback;
            state.cancellation_feedback_option := after.cancellation_feedback_option;
            state.cancellation_comment := after.cancellation_comment;
        END IF;
        state.at := point;
        state.inferred := true;
        state.event := '';
        state.event_type := NULL;
        state.mrr := NULL;
        RETURN NEXT state;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.inferred_between(stripe_portal.subscription_change, stripe_portal.subscription_change) IS
'What must have happened between two states of a subscription that were not told of by every event in between: the end of the trial, the request to cancel, the end';

-- ---------------------------------------------------------------------------
-- Deriving a history from its facts
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.infer_changes(subscription text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fact stripe_portal.subscription_change;
    before stripe_portal.subscription_change;
    mirror stripe_portal.subscription;
    born stripe_portal.subscription_change;
BEGIN
    DELETE FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (infer_changes.subscription, infer_changes.livemode, infer_changes.account)
      AND c.inferred;

    -- What was read last is what the mirror shows, if no event is newer.
    SELECT * INTO mirror FROM stripe_portal.subscription AS s
    WHERE (s.id, s.livemode, s.account) = (infer_changes.subscription, infer_changes.livemode, infer_changes.account)
      AND s.event = '';
    IF FOUND THEN
        INSERT INTO stripe_portal.subscription_change
        SELECT (stripe_portal.read_change(mirror, NULL)).*
        ON CONFLICT DO NOTHING;
    END IF;

    FOR fact IN
        SELECT * FROM stripe_portal.subscription_change AS c
        WHERE (c.subscription, c.livemode, c.account) = (infer_changes.subscription, infer_changes.livemode, infer_changes.account)
        ORDER BY c.at
    LOOP
        -- Nothing comes after the end; a read that tells nothing new is none.
        IF (stripe_portal.status_is_final(before.status) AND NOT stripe_portal.status_is_final(fact.status))
           OR (fact.event = '' AND stripe_portal.same_state(before, fact)) THEN
            DELETE FROM stripe_portal.subscription_change AS c
            WHERE (c.subscription, c.livemode, c.account, c.at) = (fact.subscription, fact.livemode, fact.account, fact.at);
            CONTINUE;
        END IF;

        IF before.at IS NOT NULL THEN
            IF fact.event = '' THEN
                INSERT INTO stripe_portal.subscription_change
                SELECT * FROM stripe_portal.inferred_between(before, fact);
            END IF;
        ELSIF fact.event_type IS DISTINCT FROM 'customer.subscription.created'
              AND coalesce(fact.created, fact.start_date) < fact.at THEN
            born := stripe_portal.first_state(fact);
            INSERT INTO stripe_portal.subscription_change
            SELECT born.* UNION ALL SELECT * FROM stripe_portal.inferred_between(born, fact);
        END IF;
        before := fact;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.infer_changes(text, boolean, text) IS
'Makes the inferred rows of a subscription''s history anew: from its creation to the first fact, and before what was read from the API. Drops reads that tell nothing new, and whatever is told of an ended subscription but that it ended';

CREATE FUNCTION stripe_portal.customer_had_left(
    customer text, livemode boolean, account text, subscription text, at timestamptz)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(bool_and(last_of_each.movement = 'churn'), false)
        FROM (SELECT DISTINCT ON (c.subscription) c.movement
              FROM stripe_portal.subscription_change AS c
              WHERE (c.customer, c.livemode, c.account)
                  = (customer_had_left.customer, customer_had_left.livemode, customer_had_left.account)
                AND c.subscription <> customer_had_left.subscription
                AND c.movement IS NOT NULL AND c.at < customer_had_left.at
              ORDER BY c.subscription, c.at DESC) AS last_of_each);
END
$$;

COMMENT ON FUNCTION stripe_portal.customer_had_left(text, boolean, text, text, timestamptz) IS
'Whether a customer had paid for other subscriptions before that second, and had left with all of them';

CREATE FUNCTION stripe_portal.derive_changes(
    subscription text, livemode boolean, account text, touched timestamptz, reprice boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_fact record;
    c stripe_portal.subscription_change;
    derived stripe_portal.subscription_change[] := '{}';
    counts text;
    ends timestamptz;
    -- what the rows so far add up to
    running bigint := 0;
    paying boolean := false;    -- has paid, and has not left since
    paused boolean := false;
    left_before boolean := false;
BEGIN
    PERFORM stripe_portal.infer_changes(subscription, livemode, account);

    FOR next_fact IN
        SELECT h AS state, lead(h.at, 1, 'infinity') OVER (ORDER BY h.at) AS next_at
        FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account)
            = (derive_changes.subscription, derive_changes.livemode, derive_changes.account)
        ORDER BY h.at
    LOOP
        c := next_fact.state;
        -- once, and once more for each discount that ends before the next row
        LOOP
            counts := stripe_portal.earning(c.status, c.pause_collection);
            IF counts <> 'earning' THEN
                c.mrr := 0;
            ELSIF c.mrr IS NULL OR reprice THEN
                c.mrr := stripe_portal.mrr(c);
            END IF;

            ends := CASE WHEN c.discounts <> '[]' AND counts = 'earning' THEN stripe_portal.next_discount_end(c) END;
            IF ends < next_fact.next_at AND (ends <= now() OR next_fact.next_at < 'infinity') THEN
                c.until := ends;
                c.discount_ends := NULL;
            ELSE
                c.until := next_fact.next_at;
                c.discount_ends := CASE WHEN next_fact.next_at = 'infinity' THEN ends END;
            END IF;

            c.movement := NULL;
            c.mrr_change := NULL;
            IF counts = 'none' THEN
                IF paying THEN
                    c.movement := 'churn';
                END IF;
                left_before := left_before OR paying;
                paying := false;
                paused := false;
            ELSIF counts = 'paused' THEN
                IF running > 0 THEN
                    c.movement := 'pause';
                    paused := true;
                END IF;
            ELSIF c.mrr <> running THEN
                c.movement := CASE
                    WHEN paused THEN 'resume'
                    WHEN paying AND c.mrr > running THEN 'expansion'
                    WHEN paying THEN 'contraction'
                    WHEN left_before OR stripe_portal.customer_had_left(c.customer, livemode, account, subscription, c.at)
                    THEN 'reactivation'
                    ELSE 'new' END;
                paying := true;
                paused := false;
            END IF;
            IF c.movement IS NOT NULL THEN
                c.mrr_change := c.mrr - running;
            END IF;
            running := coalesce(c.mrr, running);

            derived := derived || c;
            EXIT WHEN c.until = next_fact.next_at;

            c.at := c.until;
            c.mrr := NULL;
            c.inferred := true;
            c.event := '';
            c.event_type := NULL;
            INSERT INTO stripe_portal.subscription_change SELECT c.*;
        END LOOP;
    END LOOP;

    UPDATE stripe_portal.subscription_change AS known
    SET (until, mrr, movement, mrr_change, discount_ends) = (d.until, d.mrr, d.movement, d.mrr_change, d.discount_ends)
    FROM unnest(derived) AS d
    WHERE (known.subscription, known.livemode, known.account, known.at) = (d.subscription, d.livemode, d.account, d.at)
      AND ((known.until, known.mrr, known.movement, known.mrr_change, known.discount_ends)
           IS DISTINCT FROM (d.until, d.mrr, d.movement, d.mrr_change, d.discount_ends)
           OR known.at = touched);

    -- It can decide for the customer's other subscriptions whether their
    -- first money was that of a new customer or of one who had come back.
    UPDATE stripe_portal.subscription_change AS other
    SET movement = CASE other.movement WHEN 'new' THEN 'reactivation' ELSE 'new' END
    WHERE (other.customer, other.livemode, other.account) = (c.customer, derive_changes.livemode, derive_changes.account)
      AND other.subscription <> derive_changes.subscription
      AND other.movement IN ('new', 'reactivation')
      AND NOT EXISTS (SELECT FROM stripe_portal.subscription_change AS earlier
                      WHERE (earlier.subscription, earlier.livemode, earlier.account)
                          = (other.subscription, other.livemode, other.account)
                        AND earlier.movement IS NOT NULL AND earlier.at < other.at)
      AND (other.movement = 'reactivation')
          <> stripe_portal.customer_had_left(other.customer, other.livemode, other.account, other.subscription, other.at);
END
$$;

COMMENT ON FUNCTION stripe_portal.derive_changes(text, boolean, text, timestamptz, boolean) IS
'Derives the history of a subscription from its facts: inferred rows, then what every row lasted, brought in and moved. touched: the row that is new, to be updated in any case; reprice: also the MRR that is known, because a price, coupon or discount has changed';

CREATE FUNCTION stripe_portal.record_change(s stripe_portal.subscription, event_type text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fact CONSTANT stripe_portal.subscription_change := stripe_portal.read_change(s, event_type);
    known stripe_portal.subscription_change;
BEGIN
    PERFORM stripe_portal.lock_changes(fact.customer);
    SELECT * INTO known FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (fact.subscription, fact.livemode, fact.account)
      AND c.at <= fact.at AND NOT c.inferred
    ORDER BY c.at DESC
    LIMIT 1;

    IF known.at = fact.at THEN
        -- the same again; or a read of a second that an event tells of
        IF known.event = fact.event AND fact.event <> '' OR known.event <> '' AND fact.event = '' THEN
            RETURN;
        END IF;
    ELSIF fact.event = '' AND stripe_portal.same_state(known, fact) THEN
        RETURN;
    END IF;

    -- not an upsert, so that there is but one UPDATE, the one at the end
    DELETE FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account, c.at) = (fact.subscription, fact.livemode, fact.account, fact.at);
    INSERT INTO stripe_portal.subscription_change SELECT fact.*;
    PERFORM stripe_portal.derive_changes(fact.subscription, fact.livemode, fact.account, fact.at, false);
END
$$;

COMMENT ON FUNCTION stripe_portal.record_change(stripe_portal.subscription, text) IS
'Takes what a subscription was at its event_created, as read from an event or from the API, into its history; of the events of one second it is to be given the last';

-- ---------------------------------------------------------------------------
-- What becomes known, or comes to an end, without an event of the subscription
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.known_terms(object jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named CONSTANT jsonb := jsonb_path_query_array(object,
        'lax $.** ? (@.object == "discount" || @.object == "coupon" || @.object == "price" || @.object == "customer") ? (exists(@.id))');
BEGIN
    IF named = '[]' THEN
        RETURN '{}';
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(kind || ' ' || id, terms), '{}')
        FROM (SELECT DISTINCT n ->> 'object', n ->> 'id' FROM jsonb_array_elements(named) AS n) AS of (kind, id),
             LATERAL (
                SELECT stripe_portal.price_terms(p) FROM stripe_portal.price AS p
                WHERE kind = 'price' AND (p.id, p.livemode, p.account) = (of.id, known_terms.livemode, known_terms.account)
                UNION ALL
                SELECT stripe_portal.discount_terms(NULL, c) FROM stripe_portal.coupon AS c
                WHERE kind = 'coupon' AND (c.id, c.livemode, c.account) = (of.id, known_terms.livemode, known_terms.account)
                UNION ALL
                SELECT stripe_portal.discount_terms(d, NULL) FROM stripe_portal.discount AS d
                WHERE kind = 'discount' AND (d.id, d.livemode, d.account) = (of.id, known_terms.livemode, known_terms.account)
                UNION ALL
                SELECT jsonb_build_object('country', c.address -> 'country') FROM stripe_portal.customer AS c
                WHERE kind = 'customer' AND (c.id, c.livemode, c.account) = (of.id, known_terms.livemode, known_terms.account)
             ) AS known (terms));
END
$$;

COMMENT ON FUNCTION stripe_portal.known_terms(jsonb, boolean, text) IS
'What the tables know of the terms of the prices, coupons and discounts that are in an object, or are it, and of a customer''s country: by kind and id';

CREATE FUNCTION stripe_portal.reprice_changes(before jsonb, object jsonb, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    after CONSTANT jsonb := stripe_portal.known_terms(object, livemode, account);
    affected record;
BEGIN
    IF after = before THEN
        RETURN;
    END IF;
    FOR affected IN
        WITH news AS (
            SELECT split_part(key, ' ', 1) AS kind, split_part(key, ' ', 2) AS id
            FROM jsonb_each(after) WHERE value IS DISTINCT FROM before -> key
        ), discounts AS (
            SELECT id FROM news WHERE kind = 'discount'
            UNION
            SELECT d.id FROM news JOIN stripe_portal.discount AS d
                ON (d.coupon, d.livemode, d.account) = (news.id, reprice_changes.livemode, reprice_changes.account)
            WHERE kind = 'coupon'
        ), subscriptions AS (
            -- What a price asks for never changes, so only what was missing is news.
            SELECT c.customer, c.subscription
            FROM news JOIN stripe_portal.subscription_change AS c
                ON c.mrr IS NULL AND c.items @> jsonb_build_array(jsonb_build_object('price', news.id))
            WHERE news.kind = 'price' AND (c.livemode, c.account) = (reprice_changes.livemode, reprice_changes.account)
            UNION
            SELECT c.customer, c.subscription
            FROM discounts JOIN stripe_portal.subscription_change AS c
                ON c.discounts <> '[]' AND c.discounts @> jsonb_build_array(jsonb_build_object('id', discounts.id))
            WHERE (c.livemode, c.account) = (reprice_changes.livemode, reprice_changes.account)
        )
        SELECT * FROM subscriptions ORDER BY hashtext(customer) & 1023, customer, subscription
    LOOP
        PERFORM stripe_portal.lock_changes(affected.customer);
        PERFORM stripe_portal.derive_changes(affected.subscription, livemode, account, NULL, true);
    END LOOP;

    -- No column here shows the country, but what is derived from these rows may.
    UPDATE stripe_portal.subscription_change AS c SET customer = c.customer
    FROM jsonb_each(after) AS news
    WHERE news.value IS DISTINCT FROM before -> news.key
      AND split_part(news.key, ' ', 1) = 'customer' AND split_part(news.key, ' ', 2) = c.customer
      AND (c.livemode, c.account, c.until) = (reprice_changes.livemode, reprice_changes.account, 'infinity');
END
$$;

COMMENT ON FUNCTION stripe_portal.reprice_changes(jsonb, jsonb, boolean, text) IS
'Works out anew what subscriptions brought in, if an object has told of their prices, coupons or discounts what was not known before, and updates those of a customer who is in another country; before: what known_terms had said of the object then';

CREATE FUNCTION stripe_portal.settle_changes()
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    due record;
    count integer := 0;
BEGIN
    FOR due IN
        SELECT c.customer, c.subscription, c.livemode, c.account
        FROM stripe_portal.subscription_change AS c
        WHERE c.discount_ends <= now()
        UNION
        -- became known in one transaction while another wrote the row
        SELECT c.customer, c.subscription, c.livemode, c.account
        FROM stripe_portal.subscription_change AS c
        WHERE c.mrr IS NULL AND stripe_portal.mrr(c) IS NOT NULL
    LOOP
        PERFORM stripe_portal.lock_changes(due.customer);
        PERFORM stripe_portal.derive_changes(due.subscription, due.livemode, due.account, NULL, false);
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.settle_changes() IS
'Enters into the histories the discounts that have ended since, each at its own end: no event tells of it. Gives the number of subscriptions; to be called now and then';

-- ---------------------------------------------------------------------------
-- Reading a history
-- ---------------------------------------------------------------------------

CREATE FUNCTION @extschema@.stripe_subscription_at(
    subscription text, at timestamptz, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS stripe_portal.subscription_change
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c
    FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account)
        = (stripe_subscription_at.subscription, coalesce(stripe_subscription_at.livemode, stripe_portal.key_livemode()),
           stripe_subscription_at.account)
      AND c.at <= stripe_subscription_at.at AND c.until > stripe_subscription_at.at
$$;

COMMENT ON FUNCTION @extschema@.stripe_subscription_at(text, timestamptz, text, boolean) IS
'What a subscription was at that time: its row of stripe_portal.subscription_change; NULL before it was created, and if it is not known. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_subscriptions_at(
    at timestamptz, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE sql STABLE
-- in this form it is inlined: what the caller asks of the rows meets the index
BEGIN ATOMIC
    SELECT *
    FROM stripe_portal.subscription_change AS c
    WHERE c.at <= stripe_subscriptions_at.at AND c.until > stripe_subscriptions_at.at
      AND c.account = stripe_subscriptions_at.account
      AND c.livemode = coalesce(stripe_subscriptions_at.livemode, stripe_portal.key_livemode());
END;

COMMENT ON FUNCTION @extschema@.stripe_subscriptions_at(timestamptz, text, boolean) IS
'What all subscriptions were at that time, also those that had ended by then: rows of stripe_portal.subscription_change. livemode: NULL is the mode of the configured key, live without one';

COMMENT ON TABLE stripe_portal.subscription_change IS 'What each subscription was, from second to second, and every movement of MRR: one row for each second in which something happened, valid from at until the next. Rows are never in conflict with the events, in whatever order those arrived';
COMMENT ON COLUMN stripe_portal.subscription_change.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.subscription_change.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.subscription_change.at IS 'When it became so, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.subscription_change.until IS 'When the next row took over; infinity for the last one. What was on a day: at <= day AND until > day';
COMMENT ON COLUMN stripe_portal.subscription_change.inferred IS 'No event and no read tells of it, but it must have been so: the creation of a subscription that was first heard of later, the end of its trial, the end of a discount. Gone when events that tell arrive';
COMMENT ON COLUMN stripe_portal.subscription_change.event IS 'The event it was read from; empty if it was read from the API, or inferred';
COMMENT ON COLUMN stripe_portal.subscription_change.items IS 'id, price, product and quantity of each item';
COMMENT ON COLUMN stripe_portal.subscription_change.discounts IS 'id of each discount, and the item it is on if it is not on the whole subscription';
COMMENT ON COLUMN stripe_portal.subscription_change.mrr IS 'Monthly recurring revenue in minor units of the currency; 0 if it does not count (see stripe_portal.earning), NULL if its prices or discounts are not known';
COMMENT ON COLUMN stripe_portal.subscription_change.movement IS 'new: the subscription''s first money; reactivation: the same, of a customer who had left with all subscriptions, or of this one after it had lapsed; expansion, contraction (also to 0); pause, resume; churn: it no longer counts. NULL if the MRR did not move, or is not known';
COMMENT ON COLUMN stripe_portal.subscription_change.mrr_change IS 'What the movement added or took, since the last MRR that was known; their sum up to a time is the MRR at that time. 0 for a churn out of a pause, which had taken everything';
COMMENT ON COLUMN stripe_portal.subscription_change.discount_ends IS 'When a discount of this row, the last one, will end and change the MRR: stripe_portal.settle_changes() then adds a row';
-- billing: monthly recurring revenue, by Stripe's definition.
--
-- terms: what a price asks for, as jsonb under the names of the columns of
-- table price.  item: {"id", "price", "product", "quantity", "terms"}.
-- discount: {"id", "item", "coupon", "duration", "percent_off", "amount_off",
-- "currency", "currency_options", "products", "end"}, where item is set on the
-- discount of one item, and end is a unix time.
--
-- Money is numeric in minor units, with whatever fraction it has, and is
-- rounded once, at the very end.  What can not be known is NULL, never 0.

-- ---------------------------------------------------------------------------
-- The arithmetic
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.item_amount(terms jsonb, quantity numeric)
RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    units numeric := coalesce(quantity, 1);
    amount numeric := 0;
    tier jsonb;
    reached numeric := 0;
    inside numeric;
BEGIN
    IF coalesce(terms ->> 'billing_scheme', 'per_unit') = 'per_unit' THEN
        units := units / coalesce((terms #>> '{transform_quantity,divide_by}')::numeric, 1);
        units := CASE terms #>> '{transform_quantity,round}'
                     WHEN 'up' THEN ceil(units) WHEN 'down' THEN floor(units) ELSE units END;
        RETURN units * coalesce(terms ->> 'unit_amount_decimal', terms ->> 'unit_amount')::numeric;
    END IF;

    -- Without its tiers, or with a scheme nobody has heard of, a price says
    -- nothing.
    IF coalesce(jsonb_typeof(terms -> 'tiers'), '') <> 'array' OR jsonb_array_length(terms -> 'tiers') = 0
       OR coalesce(terms ->> 'tiers_mode', '') NOT IN ('graduated', 'volume') THEN
        RETURN NULL;
    END IF;

    FOR tier IN
        SELECT value FROM jsonb_array_elements(terms -> 'tiers')
        ORDER BY (value ->> 'up_to')::numeric NULLS LAST
    LOOP
        IF terms ->> 'tiers_mode' = 'volume' THEN
            CONTINUE WHEN units > (tier ->> 'up_to')::numeric;
            inside := units;
        ELSE
            EXIT WHEN units <= reached;
            inside := least(units, (tier ->> 'up_to')::numeric) - reached;
            reached := (tier ->> 'up_to')::numeric;
        END IF;
        amount := amount
            + inside * coalesce(tier ->> 'unit_amount_decimal', tier ->> 'unit_amount', '0')::numeric
            + coalesce(tier ->> 'flat_amount_decimal', tier ->> 'flat_amount', '0')::numeric;
        EXIT WHEN terms ->> 'tiers_mode' = 'volume' OR reached IS NULL;
    END LOOP;
    RETURN amount;
END
$$;

COMMENT ON FUNCTION stripe_portal.item_amount(jsonb, numeric) IS
'What a price asks for a quantity (1 if NULL), once per its interval, in minor units and not rounded: per unit with transform_quantity, or by graduated or volume tiers. terms: under the names of the columns of table price. NULL if the terms do not tell, such as a tiered price without its tiers';

CREATE FUNCTION stripe_portal.monthly_amount(amount numeric, "interval" text, interval_count integer)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN amount * CASE "interval" WHEN 'month' THEN 12 WHEN 'year' THEN 1 WHEN 'week' THEN 365 WHEN 'day' THEN 365 END
              / CASE "interval" WHEN 'week' THEN 84 ELSE 12 END
              / coalesce(interval_count, 1);

COMMENT ON FUNCTION stripe_portal.monthly_amount(numeric, text, integer) IS
'What an amount that is due every so many days, weeks, months or years comes to in a month: a twelfth of a year of 365 days. NULL for an interval that Stripe does not have';

CREATE FUNCTION stripe_portal.amount_off(discount jsonb, currency text)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (CASE WHEN discount ->> 'currency' = currency THEN discount ->> 'amount_off'
             ELSE discount #>> ARRAY['currency_options', currency, 'amount_off'] END)::numeric;

COMMENT ON FUNCTION stripe_portal.amount_off(jsonb, text) IS
'The amount that a discount takes off in a currency; NULL if it takes none';

CREATE FUNCTION stripe_portal.discount_counts(discount jsonb, currency text, at timestamptz)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN discount ->> 'duration' = 'once' THEN false
    WHEN (discount ->> 'end')::double precision <= extract(epoch FROM at) THEN false
    WHEN discount ->> 'duration' IS NULL THEN NULL
    WHEN discount ->> 'percent_off' IS NOT NULL THEN true
    WHEN discount ->> 'amount_off' IS NULL THEN NULL
    ELSE stripe_portal.amount_off(discount, currency) IS NOT NULL
END;

COMMENT ON FUNCTION stripe_portal.discount_counts(jsonb, text, timestamptz) IS
'Whether a discount lowers the MRR at that time: one that lasts for ever or has not ended yet does, one for a single invoice and one of an amount in another currency do not; NULL if its coupon is not known';

CREATE FUNCTION stripe_portal.monthly_total(
    currency text, items jsonb, discounts jsonb, at timestamptz)
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item jsonb;
    discount jsonb;
    amount numeric;
    product text;
    products text[] := '{}';
    rest numeric[] := '{}';     -- what is left of each item, per month
    often numeric[] := '{}';    -- how often a month each is invoiced
    eligible integer[];
    total numeric;
    off numeric;
BEGIN
    FOR item IN SELECT value FROM jsonb_array_elements(items) LOOP
        -- usage and one-time items do not recur
        CONTINUE WHEN item #>> '{terms,usage_type}' = 'metered' OR item #>> '{terms,type}' = 'one_time';
        IF item #>> '{terms,currency}' <> currency THEN
            RETURN NULL;
        END IF;
        amount := stripe_portal.item_amount(item -> 'terms', (item ->> 'quantity')::numeric);
        product := coalesce(item ->> 'product', item #>> '{terms,product}');

        FOR discount IN
            SELECT value FROM jsonb_array_elements(discounts) WHERE value ->> 'item' = item ->> 'id'
        LOOP
            CONTINUE WHEN NOT stripe_portal.discount_counts(discount, currency, at)
                       OR NOT coalesce(discount -> 'products' ? product, true);
            -- an unknown discount makes this NULL
            amount := CASE WHEN stripe_portal.discount_counts(discount, currency, at) THEN
                CASE WHEN discount ->> 'percent_off' IS NOT NULL
                     THEN amount * (100 - (discount ->> 'percent_off')::numeric) / 100
                     ELSE amount - least(amount, stripe_portal.amount_off(discount, currency)) END END;
        END LOOP;

        amount := stripe_portal.monthly_amount(
            amount, item #>> '{terms,interval}', (item #>> '{terms,interval_count}')::integer);
        IF amount IS NULL THEN
            RETURN NULL;
        END IF;
        products := products || product;
        rest := rest || amount;
        often := often || stripe_portal.monthly_amount(
            1, item #>> '{terms,interval}', (item #>> '{terms,interval_count}')::integer);
    END LOOP;

    FOR discount IN
        SELECT value FROM jsonb_array_elements(discounts) WHERE value ->> 'item' IS NULL
    LOOP
        CONTINUE WHEN NOT stripe_portal.discount_counts(discount, currency, at);
        eligible := ARRAY(SELECT n FROM generate_subscripts(rest, 1) AS n
                          WHERE coalesce(discount -> 'products' ? products[n], true));
        IF cardinality(eligible) = 0 THEN
            CONTINUE;
        ELSIF stripe_portal.discount_counts(discount, currency, at) IS NULL THEN
            RETURN NULL;
        END IF;

        -- A percentage comes off each item, an amount off each invoice: off
        -- all items together, as often as the most frequent one is invoiced.
        SELECT sum(rest[n]), max(often[n]) * stripe_portal.amount_off(discount, currency) INTO total, off
        FROM unnest(eligible) AS n;
        IF discount ->> 'percent_off' IS NOT NULL THEN
            off := total * (discount ->> 'percent_off')::numeric / 100;
        END IF;
        CONTINUE WHEN total = 0;
        rest := ARRAY(SELECT CASE WHEN n = ANY (eligible) THEN rest[n] - rest[n] * least(off, total) / total
                                  ELSE rest[n] END
                      FROM generate_subscripts(rest, 1) AS n ORDER BY n);
    END LOOP;

    SELECT coalesce(sum(r), 0) INTO total FROM unnest(rest) AS r;
    -- A third of a cent, three times, is a cent: take off what division left
    -- before it decides a half.
    RETURN round(round(total, 9));
END
$$;

COMMENT ON FUNCTION stripe_portal.monthly_total(text, jsonb, jsonb, timestamptz) IS
'What the items come to in a month, less the discounts that count at that time, in minor units of the currency, rounded once at the end, halves away from zero. Items by usage and one-time items count nothing. An item''s discounts come first, then the subscription''s, each on what the one before it left, never below 0; one restricted to products takes its share of those; an amount off the subscription is per invoice, those of the most frequent interval. NULL if the terms of a price or a discount are missing, or a price is in another currency';

CREATE FUNCTION stripe_portal.earning(status text, pause_collection jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN status = 'paused' OR (status IN ('active', 'past_due') AND pause_collection IS NOT NULL) THEN 'paused'
    WHEN status IN ('active', 'past_due') THEN 'earning'
    ELSE 'none'
END;

COMMENT ON FUNCTION stripe_portal.earning(text, jsonb) IS
'Whether a subscription counts for the MRR. earning: active or past_due; paused: by its status, or by pause_collection, while no money is asked for, whatever becomes of the invoices; none: everything else, also a trial, unpaid and a status that is not known. Not the rule of stripe_portal.access_rule: a trial may use what it does not pay for yet, and who is past_due is counted until given up';

-- ---------------------------------------------------------------------------
-- The MRR of a subscription
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.price_terms(price stripe_portal.price)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'product', price.product, 'currency', price.currency, 'type', price.type,
        'billing_scheme', price.billing_scheme, 'unit_amount_decimal', price.unit_amount_decimal,
        'tiers_mode', price.tiers_mode, 'tiers', price.tiers, 'transform_quantity', price.transform_quantity,
        'interval', price."interval", 'interval_count', price.interval_count, 'usage_type', price.usage_type));
END
$$;

COMMENT ON FUNCTION stripe_portal.price_terms(stripe_portal.price) IS
'The terms of a price, as item_amount takes them';

CREATE FUNCTION stripe_portal.discount_terms(discount stripe_portal.discount, coupon stripe_portal.coupon)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'coupon', discount.coupon, 'duration', coupon.duration, 'percent_off', coupon.percent_off,
        'amount_off', coupon.amount_off, 'currency', coupon.currency, 'currency_options', coupon.currency_options,
        'products', coupon.applies_to,
        -- one that was taken away ended then
        'end', extract(epoch FROM least(discount."end", CASE WHEN discount.deleted THEN nullif(discount.event_created, '-infinity') END))));
END
$$;

COMMENT ON FUNCTION stripe_portal.discount_terms(stripe_portal.discount, stripe_portal.coupon) IS
'The terms of a discount and its coupon, as monthly_total takes them';

CREATE FUNCTION stripe_portal.complete_items(items jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(item || jsonb_build_object('terms', stripe_portal.price_terms(price)) ORDER BY n), '[]')
        FROM jsonb_array_elements(items) WITH ORDINALITY AS i (item, n)
        LEFT JOIN stripe_portal.price
            ON (price.id, price.livemode, price.account) = (item ->> 'price', complete_items.livemode, complete_items.account));
END
$$;

COMMENT ON FUNCTION stripe_portal.complete_items(jsonb, boolean, text) IS
'The items with the terms of their prices, as far as table price knows them';

CREATE FUNCTION stripe_portal.complete_discounts(discounts jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF discounts = '[]' THEN
        RETURN discounts;
    END IF;
    RETURN (
        SELECT jsonb_agg(named || stripe_portal.discount_terms(d, c) ORDER BY n)
        FROM jsonb_array_elements(discounts) WITH ORDINALITY AS i (named, n)
        LEFT JOIN stripe_portal.discount AS d
            ON (d.id, d.livemode, d.account) = (named ->> 'id', complete_discounts.livemode, complete_discounts.account)
        LEFT JOIN stripe_portal.coupon AS c
            ON (c.id, c.livemode, c.account) = (d.coupon, d.livemode, d.account));
END
$$;

COMMENT ON FUNCTION stripe_portal.complete_discounts(jsonb, boolean, text) IS
'The discounts with their terms and those of their coupons, as far as the tables know them';

CREATE FUNCTION stripe_portal.mrr(c stripe_portal.subscription_change)
RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT CASE WHEN stripe_portal.earning(c.status, c.pause_collection) = 'earning'
                    THEN stripe_portal.monthly_total(c.currency,
                             stripe_portal.complete_items(c.items, c.livemode, c.account),
                             stripe_portal.complete_discounts(c.discounts, c.livemode, c.account), c.at)
                    ELSE 0 END);
END
$$;

COMMENT ON FUNCTION stripe_portal.mrr(stripe_portal.subscription_change) IS
'The MRR of a subscription as its history shows it, in minor units of its currency; 0 if it does not count, NULL if its prices or discounts are not known';

CREATE FUNCTION stripe_portal.mrr(s stripe_portal.subscription, at timestamptz)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT stripe_portal.mrr(jsonb_populate_record(stripe_portal.read_change(s, NULL), jsonb_build_object('at', mrr.at)))
$$;

COMMENT ON FUNCTION stripe_portal.mrr(stripe_portal.subscription, timestamptz) IS
'The MRR of a subscription as it is, with the discounts that count at that time: SELECT stripe_portal.mrr(s, now()) FROM stripe_portal.subscription AS s';

CREATE FUNCTION stripe_portal.next_discount_end(c stripe_portal.subscription_change)
RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT min(stripe_portal.read_time(discount -> 'end'))
        FROM jsonb_array_elements(stripe_portal.complete_discounts(c.discounts, c.livemode, c.account)) AS discount
        WHERE stripe_portal.discount_counts(discount, c.currency, c.at));
END
$$;

COMMENT ON FUNCTION stripe_portal.next_discount_end(stripe_portal.subscription_change) IS
'When the first of the discounts that count in this row ends, and changes the MRR without an event; NULL if none does';
-- billing: failed payments.
--
-- A failed attempt is told in up to three events, in any order: charge.failed
-- knows the card and what the network said, payment_intent.payment_failed the
-- decline code, invoice.payment_failed how often it was tried and when the next
-- try is.  The first two name the charge.  The third names neither since
-- 2025-03-31.basil; who pays for which invoice is told by invoice_payment.*
-- and by whatever else names both.

CREATE FUNCTION stripe_portal.charge_attempt(charge jsonb, origin jsonb)
RETURNS stripe_portal.payment_attempt
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_attempt, stripe_portal.read_method(charge -> 'payment_method_details') || jsonb_build_object(
    'id', charge ->> 'id',
    'failed_at', stripe_portal.read_time(charge -> 'created'),
    'customer', stripe_portal.read_id(charge -> 'customer'),
    'charge', charge ->> 'id',
    'payment_intent', stripe_portal.read_id(charge -> 'payment_intent'),
    'amount', charge ->> 'amount',
    'currency', charge ->> 'currency',
    'code', charge ->> 'failure_code',
    'network_decline_code', charge #>> '{outcome,network_decline_code}',
    'network_advice_code', charge #>> '{outcome,network_advice_code}',
    'advice_code', charge #>> '{outcome,advice_code}',
    'outcome_type', charge #>> '{outcome,type}',
    'outcome_reason', charge #>> '{outcome,reason}',
    'risk_level', charge #>> '{outcome,risk_level}',
    'message', charge ->> 'failure_message',
    'payment_method', stripe_portal.read_id(charge -> 'payment_method'),
    'payment_method_type', charge #>> '{payment_method_details,type}',
    'livemode', origin -> 'livemode',
    'account', origin -> 'account'));

COMMENT ON FUNCTION stripe_portal.charge_attempt(jsonb, jsonb) IS
'What a failed charge tells of the attempt';

CREATE FUNCTION stripe_portal.intent_attempt(intent jsonb, origin jsonb)
RETURNS stripe_portal.payment_attempt
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_attempt, stripe_portal.read_method(intent #> '{last_payment_error,payment_method}') || jsonb_build_object(
    -- without a charge nothing but the intent and the second tell attempts apart
    'id', coalesce(intent #>> '{last_payment_error,charge}',
                   concat_ws('/', intent ->> 'id', extract(epoch FROM (origin ->> 'event_created')::timestamptz)::bigint)),
    'failed_at', origin -> 'event_created',
    'customer', stripe_portal.read_id(intent -> 'customer'),
    'charge', intent #>> '{last_payment_error,charge}',
    'payment_intent', intent ->> 'id',
    'amount', intent ->> 'amount',
    'currency', intent ->> 'currency',
    'code', intent #>> '{last_payment_error,code}',
    'decline_code', intent #>> '{last_payment_error,decline_code}',
    'network_decline_code', intent #>> '{last_payment_error,network_decline_code}',
    'network_advice_code', intent #>> '{last_payment_error,network_advice_code}',
    'advice_code', intent #>> '{last_payment_error,advice_code}',
    'message', intent #>> '{last_payment_error,message}',
    'payment_method', stripe_portal.read_id(intent #> '{last_payment_error,payment_method}'),
    'payment_method_type', intent #>> '{last_payment_error,payment_method,type}',
    'livemode', origin -> 'livemode',
    'account', origin -> 'account'));

COMMENT ON FUNCTION stripe_portal.intent_attempt(jsonb, jsonb) IS
'What a payment intent tells of its last failed attempt, when the attempt has just failed';

CREATE FUNCTION stripe_portal.invoice_attempt(invoice jsonb, origin jsonb)
RETURNS stripe_portal.payment_attempt
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_attempt, jsonb_build_object(
    'id', concat_ws('/', invoice ->> 'id', extract(epoch FROM (origin ->> 'event_created')::timestamptz)::bigint),
    'failed_at', origin -> 'event_created',
    'customer', stripe_portal.read_id(invoice -> 'customer'),
    'invoice', invoice ->> 'id',
    'subscription', stripe_portal.read_subscription(invoice),
    'amount', invoice ->> 'amount_remaining',
    'currency', invoice ->> 'currency',
    'attempt_number', invoice ->> 'attempt_count',
    'next_payment_attempt', stripe_portal.read_time(invoice -> 'next_payment_attempt'),
    'livemode', origin -> 'livemode',
    'account', origin -> 'account'));

COMMENT ON FUNCTION stripe_portal.invoice_attempt(jsonb, jsonb) IS
'What an invoice tells of an attempt that has just failed';

CREATE FUNCTION stripe_portal.write_payment_facts(event_type text, object jsonb, origin jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := object ->> 'object';
    payment text;
BEGIN
    IF kind IS NULL OR kind NOT IN ('invoice', 'payment_intent', 'charge', 'invoice_payment') OR object ->> 'id' IS NULL THEN
        RETURN false;
    END IF;

    -- who pays for which invoice; the intent where there is one
    FOR payment IN
        SELECT DISTINCT coalesce(stripe_portal.read_id(p -> 'payment_intent'), stripe_portal.read_id(p -> 'charge')) AS id
        FROM (SELECT CASE kind
                  WHEN 'payment_intent' THEN jsonb_build_object('payment_intent', object -> 'id')
                  WHEN 'charge' THEN jsonb_build_object('payment_intent', object -> 'payment_intent', 'charge', object -> 'id')
                  WHEN 'invoice_payment' THEN object -> 'payment'
                  ELSE object END
              UNION ALL
              SELECT jsonb_path_query(object, '$.payments.data[*].payment') WHERE kind = 'invoice') AS told (p)
        ORDER BY id
    LOOP
        CONTINUE WHEN payment IS NULL OR (kind <> 'invoice' AND stripe_portal.read_id(object -> 'invoice') IS NULL);
        PERFORM stripe_portal.unite_row(ROW(
            payment, (origin ->> 'livemode')::boolean, origin ->> 'account',
            CASE kind WHEN 'invoice' THEN object ->> 'id' ELSE stripe_portal.read_id(object -> 'invoice') END
        )::stripe_portal.invoice_payment);
    END LOOP;

    IF kind = 'charge' AND object ->> 'status' = 'failed' THEN
        PERFORM stripe_portal.unite_row(stripe_portal.charge_attempt(object, origin));
        RETURN true;
    ELSIF event_type = 'payment_intent.payment_failed' THEN
        PERFORM stripe_portal.unite_row(stripe_portal.intent_attempt(object, origin));
    ELSIF event_type = 'invoice.payment_failed' THEN
        PERFORM stripe_portal.unite_row(stripe_portal.invoice_attempt(object, origin));
    END IF;
    RETURN kind = 'invoice_payment';
END
$$;

COMMENT ON FUNCTION stripe_portal.write_payment_facts(text, jsonb, jsonb) IS
'Keeps what an object tells of a failed attempt and of who pays for which invoice. event_type: the event''s, NULL for a read. True for what is kept nowhere but there: a failed charge, an invoice payment';

CREATE VIEW stripe_portal.payment_failure WITH (security_invoker = true) AS
WITH told AS (
    SELECT a.id, a.livemode, a.account, a.failed_at, a.customer, a.charge, a.payment_intent,
           coalesce(paid_for.invoice, i.invoice) AS invoice,
           i.subscription, a.amount, a.currency, a.code, a.decline_code, a.network_decline_code, a.network_advice_code,
           a.advice_code, a.outcome_type, a.outcome_reason, a.risk_level, a.message,
           a.payment_method, a.payment_method_type, a.brand, a.last4, a.exp_month, a.exp_year, a.country,
           i.attempt_number, i.next_payment_attempt
    FROM stripe_portal.payment_attempt AS a
    LEFT JOIN stripe_portal.invoice_payment AS paid_for
        ON (paid_for.payment, paid_for.livemode, paid_for.account) = (coalesce(a.payment_intent, a.charge), a.livemode, a.account)
    -- the nearest that an invoice told of; where nobody says which invoice was
    -- to be paid, one of the same customer over the same amount
    LEFT JOIN LATERAL (
        SELECT i.* FROM stripe_portal.payment_attempt AS i
        WHERE i.invoice IS NOT NULL AND (i.customer, i.livemode, i.account) = (a.customer, a.livemode, a.account)
          AND coalesce(i.invoice = paid_for.invoice, (i.amount, i.currency) = (a.amount, a.currency))
          AND i.failed_at BETWEEN a.failed_at - interval '10 minutes' AND a.failed_at + interval '10 minutes'
        ORDER BY greatest(i.failed_at - a.failed_at, a.failed_at - i.failed_at), i.id
        LIMIT 1) AS i ON true
    WHERE a.invoice IS NULL
    UNION ALL
    -- what only the invoice told of
    SELECT i.* FROM (
        SELECT id, livemode, account, failed_at, customer, charge, payment_intent, invoice, subscription, amount, currency,
               code, decline_code, network_decline_code, network_advice_code, advice_code, outcome_type, outcome_reason,
               risk_level, message, payment_method, payment_method_type, brand, last4, exp_month, exp_year, country,
               attempt_number, next_payment_attempt
        FROM stripe_portal.payment_attempt) AS i
    WHERE i.invoice IS NOT NULL AND NOT EXISTS (
        SELECT FROM stripe_portal.payment_attempt AS a
        LEFT JOIN stripe_portal.invoice_payment AS paid_for
            ON (paid_for.payment, paid_for.livemode, paid_for.account) = (coalesce(a.payment_intent, a.charge), a.livemode, a.account)
        WHERE a.invoice IS NULL AND (i.customer, i.livemode, i.account) = (a.customer, a.livemode, a.account)
          AND coalesce(i.invoice = paid_for.invoice, (i.amount, i.currency) = (a.amount, a.currency))
          AND i.failed_at BETWEEN a.failed_at - interval '10 minutes' AND a.failed_at + interval '10 minutes')
)
SELECT told.id, told.livemode, told.account, told.failed_at, told.customer, told.charge, told.payment_intent, told.invoice,
       coalesce(told.subscription, invoice.subscription) AS subscription, told.amount, told.currency, told.code,
       -- unless the network was never asked, the outcome's reason is the decline code
       coalesce(told.decline_code, CASE told.outcome_type WHEN 'issuer_declined' THEN told.outcome_reason END) AS decline_code,
       told.network_decline_code, told.network_advice_code, told.advice_code, told.outcome_type, told.outcome_reason,
       told.risk_level, told.message, told.payment_method, told.payment_method_type, told.brand, told.last4,
       told.exp_month, told.exp_year, told.country, told.attempt_number,
       -- moved since, or told later than the failure
       CASE WHEN invoice.attempt_count = told.attempt_number AND invoice.status = 'open'
            THEN invoice.next_payment_attempt ELSE told.next_payment_attempt END AS next_payment_attempt,
       CASE WHEN invoice.status = 'paid' THEN coalesce(invoice.paid_at, invoice.event_created)
            WHEN intent.status = 'succeeded' THEN intent.event_created END AS recovered_at
FROM told
LEFT JOIN stripe_portal.invoice
    ON (invoice.id, invoice.livemode, invoice.account) = (told.invoice, told.livemode, told.account)
LEFT JOIN stripe_portal.payment_intent AS intent
    ON (intent.id, intent.livemode, intent.account) = (told.payment_intent, told.livemode, told.account);

COMMENT ON VIEW stripe_portal.payment_failure IS 'Failed attempts to get paid, one row each, put together from what the charge, the payment intent and the invoice told, whichever of these were heard of';
COMMENT ON COLUMN stripe_portal.payment_failure.id IS 'The charge''s id; where there was none, that of the payment intent or the invoice with the second of the failure';
COMMENT ON COLUMN stripe_portal.payment_failure.failed_at IS 'When it failed, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.payment_failure.invoice IS 'The invoice that was to be paid; where Stripe did not name it, the one of this customer over this amount that failed within ten minutes';
COMMENT ON COLUMN stripe_portal.payment_failure.amount IS 'What was to be paid, in minor units of currency';
COMMENT ON COLUMN stripe_portal.payment_failure.code IS 'Stripe''s error code, such as card_declined';
COMMENT ON COLUMN stripe_portal.payment_failure.decline_code IS 'Why the issuer declined, as Stripe has it, also where it is not known here';
COMMENT ON COLUMN stripe_portal.payment_failure.message IS 'Stripe''s words to the merchant; not for the customer''s eyes';
COMMENT ON COLUMN stripe_portal.payment_failure.attempt_number IS 'The invoice''s attempt_count, which counts scheduled attempts';
COMMENT ON COLUMN stripe_portal.payment_failure.next_payment_attempt IS 'When Stripe tries again; NULL if it will not, or has not said';
COMMENT ON COLUMN stripe_portal.payment_failure.recovered_at IS 'When the invoice, or else the payment intent, was paid after all; NULL if it was not';
-- billing: portal configurations, as Stripe has them.

CREATE FUNCTION stripe_portal.portal_configuration_row(object jsonb, origin jsonb)
RETURNS stripe_portal.billing_portal_configuration
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.billing_portal_configuration, object || jsonb_build_object(
    'features', (object -> 'features') #- '{subscription_update,products}',
    'products', object #> '{features,subscription_update,products}',
    'products_updated', CASE WHEN object #> '{features,subscription_update,products}' IS NOT NULL
                             THEN stripe_portal.read_time(object -> 'updated') END,
    'created', stripe_portal.read_time(object -> 'created'),
    'updated', stripe_portal.read_time(object -> 'updated')) || origin);

COMMENT ON FUNCTION stripe_portal.portal_configuration_row(jsonb, jsonb) IS
'The row of a portal configuration object';

-- The products have an age of their own, that of the object they were read
-- with: an event leaves them out, and may arrive before or after a read.  Both
-- the row and its products are the newest there are, in any order; if they are
-- not of one age, and matter, the object is to be fetched.
CREATE FUNCTION stripe_portal.write_row(
    new_row stripe_portal.billing_portal_configuration, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown stripe_portal.billing_portal_configuration;
    result stripe_portal.billing_portal_configuration := new_row;
    newer boolean := true;
BEGIN
    LOOP
        SELECT known.* INTO shown
        FROM stripe_portal.billing_portal_configuration AS known
        WHERE (known.id, known.livemode, known.account) = (new_row.id, new_row.livemode, new_row.account)
        FOR UPDATE;
        IF FOUND THEN
            newer := decided
                OR (new_row.event_created, new_row.event <> '') > (shown.event_created, shown.event <> '')
                -- of two reads of one second, the later: the answer to a change is written at once
                OR (new_row.event_created, new_row.event, shown.event) = (shown.event_created, '', '');
            IF NOT newer THEN
                result := shown;
            END IF;
            IF new_row.products_updated >= shown.products_updated OR shown.products_updated IS NULL THEN
                result.products := new_row.products;
                result.products_updated := new_row.products_updated;
            ELSE
                result.products := shown.products;
                result.products_updated := shown.products_updated;
            END IF;
            result.deleted := shown.deleted OR new_row.deleted;
        END IF;

        result.refetch := NOT result.deleted AND CASE
            WHEN result.products_updated = result.updated THEN result.refetch AND newer
            ELSE result.refetch OR coalesce(result.features #> '{subscription_update,enabled}' = 'true', false) END;

        IF shown.id IS NULL THEN
            INSERT INTO stripe_portal.billing_portal_configuration VALUES (result.*) ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN true;
            END IF;
        ELSE
            IF result IS DISTINCT FROM shown THEN
                UPDATE stripe_portal.billing_portal_configuration AS known
                SET (active, is_default, name, business_profile, default_return_url, features, products,
                     products_updated, login_page, metadata, updated, deleted, event, event_created, refetch)
                    = (result.active, result.is_default, result.name, result.business_profile,
                       result.default_return_url, result.features, result.products, result.products_updated,
                       result.login_page, result.metadata, result.updated, result.deleted, result.event,
                       result.event_created, result.refetch)
                WHERE (known.id, known.livemode, known.account) = (new_row.id, new_row.livemode, new_row.account);
            END IF;
            -- which of two events of one second is later is decided where they are known
            RETURN CASE WHEN newer OR new_row.event_created <> shown.event_created
                             OR new_row.event = '' OR shown.event IN ('', new_row.event) THEN newer END;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_row(stripe_portal.billing_portal_configuration, boolean) IS
'Makes table billing_portal_configuration show this row, if it is newer than the one that is shown, or decided to be the later of one second; and its products, if those are. True if it does; false if the row was passed over, NULL if that was for another event of the same second. Then the row that is shown is locked';

COMMENT ON TABLE stripe_portal.billing_portal_configuration IS 'Portal configurations as Stripe has them, by their latest event or read; what the team declares is in stripe_portal.configuration';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.is_default IS 'Whether Stripe uses it for sessions that name none: the one saved in the Dashboard';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.features IS 'Stripe''s features, without subscription_update.products';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.products IS 'Stripe''s features.subscription_update.products, which only reads from the API have; NULL if it was never read';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.products_updated IS 'What updated was when the products were read; they are current if it is the same now';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.deleted IS 'Stripe said that it is gone; a retired one is merely not active';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.updated IS 'When the object was last changed, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.event IS 'The event this row was read from; empty if it was read from the API';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.event_created IS 'That event''s or read''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.refetch IS 'Two events of one second could not be put in order, or plan changes are on and the products may have changed: read the object from Stripe to be sure';
-- billing: reading one customer from Stripe now.

CREATE FUNCTION @extschema@.stripe_refresh(
    customer text, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS integer
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_refresh';

COMMENT ON FUNCTION @extschema@.stripe_refresh(text, text, boolean) IS
'Reads one customer and all their subscriptions, the canceled ones included, from Stripe and makes the tables show them, unless these show something newer. Gives the number of objects read; 0 if Stripe knows no such customer. Of one who was deleted, those subscriptions are read that go on here. No lock is held while Stripe is waited for. account: a connected account. livemode: NULL is the mode of the configured key, the only one that can be read; the other is error SPC01. Errors otherwise as in stripe_api, and SP502 for an answer without a date, which could not be put in order';
-- billing: from an object of Stripe's to its table's row.
--
-- One reader per kind, for all API versions.  A column takes the field of its
-- own name; what a reader spells out is what is not as simple as that.  origin
-- tells what the object does not: livemode, account, event, event_created,
-- deleted and refetch (see event_origin in webhook, and apply_object).
-- Enumerations are text: Stripe adds values without notice.
--
-- A value of the wrong type raises its usual error, which makes the event a
-- failed one.

CREATE FUNCTION stripe_portal.customer_row(object jsonb, origin jsonb)
RETURNS stripe_portal.customer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.customer, object || jsonb_build_object(
    'default_payment_method', stripe_portal.read_id(object #> '{invoice_settings,default_payment_method}'),
    'default_source', stripe_portal.read_id(object -> 'default_source'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.customer_row(jsonb, jsonb) IS
'The row of a customer object';

CREATE FUNCTION stripe_portal.product_row(object jsonb, origin jsonb)
RETURNS stripe_portal.product
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.product, object || jsonb_build_object(
    'default_price', stripe_portal.read_id(object -> 'default_price'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.product_row(jsonb, jsonb) IS
'The row of a product object';

CREATE FUNCTION stripe_portal.told_in_part(origin jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN origin ->> 'event' <> '' AND origin -> 'deleted' = 'false' THEN '{"refetch": true}' ELSE '{}' END::jsonb;

COMMENT ON FUNCTION stripe_portal.told_in_part(jsonb) IS
'What a row takes besides its origin if the object lacks what only Stripe''s API tells: it is to be read, unless it was, or is deleted';

CREATE FUNCTION stripe_portal.price_row(object jsonb, origin jsonb)
RETURNS stripe_portal.price
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.price, object || jsonb_build_object(
    'product', stripe_portal.read_id(object -> 'product'),
    'unit_amount_decimal', coalesce(object ->> 'unit_amount_decimal', object ->> 'unit_amount'),
    'interval', object #>> '{recurring,interval}',
    'interval_count', object #>> '{recurring,interval_count}',
    'usage_type', object #>> '{recurring,usage_type}',
    'created', stripe_portal.read_time(object -> 'created')) || origin
    -- no event has the tiers
    || CASE WHEN object ->> 'billing_scheme' = 'tiered' AND NOT object ? 'tiers' THEN stripe_portal.told_in_part(origin) ELSE '{}' END);

COMMENT ON FUNCTION stripe_portal.price_row(jsonb, jsonb) IS
'The row of a price object';

CREATE FUNCTION stripe_portal.subscription_row(object jsonb, origin jsonb)
RETURNS stripe_portal.subscription
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    items CONSTANT jsonb := stripe_portal.read_items(object);
    item jsonb;
    period_start timestamptz;
    period_end timestamptz;
BEGIN
    -- what all items have in common, where their intervals differ
    FOR item IN SELECT value FROM jsonb_array_elements(items) LOOP
        period_start := greatest(period_start, stripe_portal.read_time(item -> 'current_period_start'));
        period_end := least(period_end, stripe_portal.read_time(item -> 'current_period_end'));
    END LOOP;
    RETURN jsonb_populate_record(NULL::stripe_portal.subscription, object || jsonb_build_object(
        'customer', stripe_portal.read_id(object -> 'customer'),
        'billing_mode', object #>> '{billing_mode,type}',
        'items', items,
        'current_period_start', period_start,
        'current_period_end', period_end,
        'trial_start', stripe_portal.read_time(object -> 'trial_start'),
        'trial_end', stripe_portal.read_time(object -> 'trial_end'),
        'cancel_at', stripe_portal.read_time(object -> 'cancel_at'),
        'cancel_at_period_end', coalesce(object ->> 'cancel_at_period_end', 'false'),
        'canceled_at', stripe_portal.read_time(object -> 'canceled_at'),
        'ended_at', stripe_portal.read_time(object -> 'ended_at'),
        'cancellation_reason', object #>> '{cancellation_details,reason}',
        'cancellation_feedback', object #>> '{cancellation_details,feedback}',
        'cancellation_feedback_option', object #>> '{cancellation_details,feedback_option}',
        'cancellation_comment', object #>> '{cancellation_details,comment}',
        'discounts', stripe_portal.read_discounts(object),
        'default_payment_method', stripe_portal.read_id(object -> 'default_payment_method'),
        'latest_invoice', stripe_portal.read_id(object -> 'latest_invoice'),
        'schedule', stripe_portal.read_id(object -> 'schedule'),
        'start_date', stripe_portal.read_time(object -> 'start_date'),
        'created', stripe_portal.read_time(object -> 'created')) || origin
        -- only the first items are in the object
        || CASE WHEN object #>> '{items,has_more}' = 'true' THEN '{"refetch": true}' ELSE '{}' END::jsonb);
END
$$;

COMMENT ON FUNCTION stripe_portal.subscription_row(jsonb, jsonb) IS
'The row of a subscription object';

CREATE FUNCTION stripe_portal.payment_method_row(object jsonb, origin jsonb)
RETURNS stripe_portal.payment_method
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_method, object || jsonb_build_object(
    -- once detached it names nobody; whose it was stands in what changed
    'customer', coalesce(stripe_portal.read_id(nullif(object -> 'customer', 'null')), stripe_portal.read_id(origin #> '{previous,customer}')),
    'attached', coalesce(object -> 'customer', 'null') <> 'null',
    'created', stripe_portal.read_time(object -> 'created')) || stripe_portal.read_method(object) || origin);

COMMENT ON FUNCTION stripe_portal.payment_method_row(jsonb, jsonb) IS
'The row of a payment_method object; origin has the event''s previous_attributes as previous';

CREATE FUNCTION stripe_portal.coupon_row(object jsonb, origin jsonb)
RETURNS stripe_portal.coupon
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.coupon, object || jsonb_build_object(
    -- only in an expanded coupon
    'applies_to', object #> '{applies_to,products}',
    'redeem_by', stripe_portal.read_time(object -> 'redeem_by'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.coupon_row(jsonb, jsonb) IS
'The row of a coupon object';

CREATE FUNCTION stripe_portal.promotion_code_row(object jsonb, origin jsonb)
RETURNS stripe_portal.promotion_code
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.promotion_code, object || jsonb_build_object(
    'coupon', stripe_portal.read_id(stripe_portal.read_coupon(object)),
    'customer', stripe_portal.read_id(object -> 'customer'),
    'restrictions', object -> 'restrictions' #- '{currency_options}',
    'expires_at', stripe_portal.read_time(object -> 'expires_at'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.promotion_code_row(jsonb, jsonb) IS
'The row of a promotion_code object';

CREATE FUNCTION stripe_portal.discount_row(object jsonb, origin jsonb)
RETURNS stripe_portal.discount
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.discount, object || jsonb_build_object(
    'coupon', stripe_portal.read_id(stripe_portal.read_coupon(object)),
    'customer', stripe_portal.read_id(object -> 'customer'),
    'subscription', stripe_portal.read_id(object -> 'subscription'),
    'promotion_code', stripe_portal.read_id(object -> 'promotion_code'),
    'start', stripe_portal.read_time(object -> 'start'),
    'end', stripe_portal.read_time(object -> 'end')) || origin);

COMMENT ON FUNCTION stripe_portal.discount_row(jsonb, jsonb) IS
'The row of a discount object';

CREATE FUNCTION stripe_portal.invoice_row(object jsonb, origin jsonb)
RETURNS stripe_portal.invoice
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.invoice, object || jsonb_build_object(
    'customer', stripe_portal.read_id(object -> 'customer'),
    'subscription', stripe_portal.read_subscription(object),
    'discounts', stripe_portal.read_discounts(object),
    'finalized_at', stripe_portal.read_time(object #> '{status_transitions,finalized_at}'),
    'paid_at', stripe_portal.read_time(object #> '{status_transitions,paid_at}'),
    'marked_uncollectible_at', stripe_portal.read_time(object #> '{status_transitions,marked_uncollectible_at}'),
    'voided_at', stripe_portal.read_time(object #> '{status_transitions,voided_at}'),
    'next_payment_attempt', stripe_portal.read_time(object -> 'next_payment_attempt'),
    'due_date', stripe_portal.read_time(object -> 'due_date'),
    'period_start', stripe_portal.read_time(object -> 'period_start'),
    'period_end', stripe_portal.read_time(object -> 'period_end'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.invoice_row(jsonb, jsonb) IS
'The row of an invoice object';

CREATE FUNCTION stripe_portal.payment_intent_row(object jsonb, origin jsonb)
RETURNS stripe_portal.payment_intent
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.payment_intent, object || jsonb_build_object(
    'customer', stripe_portal.read_id(object -> 'customer'),
    -- the newest of a list before 2022-11-15
    'latest_charge', stripe_portal.read_id(coalesce(object -> 'latest_charge', object #> '{charges,data,0}')),
    'payment_method', stripe_portal.read_id(object -> 'payment_method'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.payment_intent_row(jsonb, jsonb) IS
'The row of a payment_intent object';

CREATE FUNCTION stripe_portal.dispute_row(object jsonb, origin jsonb)
RETURNS stripe_portal.dispute
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.dispute, object || jsonb_build_object(
    'charge', stripe_portal.read_id(object -> 'charge'),
    'payment_intent', stripe_portal.read_id(object -> 'payment_intent'),
    'created', stripe_portal.read_time(object -> 'created')) || origin);

COMMENT ON FUNCTION stripe_portal.dispute_row(jsonb, jsonb) IS
'The row of a dispute object';

CREATE FUNCTION stripe_portal.entitlement_row(object jsonb, origin jsonb)
RETURNS stripe_portal.entitlement
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.entitlement, object || jsonb_build_object(
    'customer', stripe_portal.read_id(object -> 'customer'),
    'lookup_keys', (SELECT coalesce(jsonb_agg(DISTINCT e ->> 'lookup_key'), '[]') FROM jsonb_array_elements(object #> '{entitlements,data}') AS e)) || origin
    || CASE WHEN object #>> '{entitlements,has_more}' = 'true' THEN '{"refetch": true}' ELSE '{}' END::jsonb);

COMMENT ON FUNCTION stripe_portal.entitlement_row(jsonb, jsonb) IS
'The row of an entitlements.active_entitlement_summary object';
-- billing: what can be read of the state.

CREATE VIEW stripe_portal.subscription_item WITH (security_invoker = true) AS
SELECT item.id,
       subscription.livemode,
       subscription.account,
       subscription.id AS subscription,
       subscription.customer,
       item.price,
       item.product,
       item.quantity,
       -- no function of ours: who may read the view may not call those
       to_timestamp(item.current_period_start) AS current_period_start,
       to_timestamp(item.current_period_end) AS current_period_end
FROM stripe_portal.subscription,
     jsonb_to_recordset(subscription.items) AS item (
         id text, price text, product text, quantity bigint,
         current_period_start double precision, current_period_end double precision);

-- These columns mean the same in every table that has them.
DO $do$
DECLARE
    meaning record;
BEGIN
    FOR meaning IN
        SELECT c.relname, a.attname, m.text
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN (VALUES ('livemode', 'Live or test mode; part of the key, because ids do not tell'),
                     ('account', 'The connected account (acct_…); empty for the key''s own account'),
                     ('deleted', 'It was deleted at Stripe; the row shows the last that was known of it'),
                     ('event', 'The event this row was read from; empty if it was read from Stripe''s API'),
                     ('event_created', 'That event''s time, or that of the read, on Stripe''s clock; -infinity if the row shows only what other objects told of this one'),
                     ('refetch', 'Not sure, or not complete: read the object from Stripe')) AS m (attname, text) USING (attname)
        WHERE c.oid = ANY ('{stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
                             stripe_portal.payment_method, stripe_portal.entitlement, stripe_portal.coupon,
                             stripe_portal.promotion_code, stripe_portal.discount, stripe_portal.invoice,
                             stripe_portal.payment_intent, stripe_portal.dispute, stripe_portal.invoice_payment,
                             stripe_portal.payment_attempt}'::regclass[])
    LOOP
        EXECUTE format('COMMENT ON COLUMN stripe_portal.%I.%I IS %L', meaning.relname, meaning.attname, meaning.text);
    END LOOP;
END
$do$;

COMMENT ON TABLE stripe_portal.customer IS 'Stripe customers';
COMMENT ON TABLE stripe_portal.product IS 'Stripe products';
COMMENT ON TABLE stripe_portal.price IS 'Stripe prices; amounts in minor units, unit_amount_decimal also where unit_amount cannot say it';
COMMENT ON TABLE stripe_portal.subscription IS 'Stripe subscriptions with their items; canceled ones stay';
COMMENT ON VIEW stripe_portal.subscription_item IS 'The items of all subscriptions, one row each; quantity is NULL for metered prices';
COMMENT ON TABLE stripe_portal.payment_method IS 'Payment methods that are, or were, attached to customers';
COMMENT ON TABLE stripe_portal.entitlement IS 'What each customer is entitled to, by Stripe Entitlements';
COMMENT ON TABLE stripe_portal.coupon IS 'Stripe coupons; amounts in minor units';
COMMENT ON TABLE stripe_portal.promotion_code IS 'Stripe promotion codes: what customers enter to get a coupon';
COMMENT ON TABLE stripe_portal.discount IS 'Coupons as they were applied to customers, subscriptions and items';
COMMENT ON TABLE stripe_portal.invoice IS 'Stripe invoices; amounts in minor units. An upcoming invoice, which has no id, is not in it';
COMMENT ON TABLE stripe_portal.payment_intent IS 'Stripe payment intents: what became of each payment';
COMMENT ON TABLE stripe_portal.dispute IS 'Disputed charges';
COMMENT ON TABLE stripe_portal.invoice_payment IS 'Which invoice a payment was made for, as far as any object has told';
COMMENT ON TABLE stripe_portal.payment_attempt IS 'What charges, payment intents and invoices told of failed attempts, each a part; payment_failure puts the parts together';

COMMENT ON COLUMN stripe_portal.price.tiers IS 'Only Stripe''s API tells them, if asked to expand them: NULL until the price was read from there';
COMMENT ON COLUMN stripe_portal.coupon.applies_to IS 'The ids of the products it is for, NULL for all of them; only Stripe''s API tells them, if asked to expand them';
COMMENT ON COLUMN stripe_portal.coupon.currency_options IS 'As applies_to: NULL until the coupon was read with them';
COMMENT ON COLUMN stripe_portal.discount."end" IS 'When a discount of a limited duration ends; NULL if it does not';
COMMENT ON COLUMN stripe_portal.payment_method.customer IS 'Whose it is; once detached, whose it was, if Stripe told';
COMMENT ON COLUMN stripe_portal.payment_method.brand IS 'The card''s brand, or the name of the bank';
COMMENT ON COLUMN stripe_portal.entitlement.lookup_keys IS 'The lookup keys of all features the customer may use now; empty for none';
COMMENT ON COLUMN stripe_portal.invoice.subscription IS 'The subscription it bills; NULL for none';
COMMENT ON COLUMN stripe_portal.invoice.attempt_count IS 'How often Stripe has tried to collect it, also where it skipped the try';
COMMENT ON COLUMN stripe_portal.invoice.next_payment_attempt IS 'When Stripe tries again; NULL if it will not';
COMMENT ON COLUMN stripe_portal.invoice_payment.payment IS 'The payment intent; the charge, if there is no intent';
COMMENT ON COLUMN stripe_portal.payment_attempt.invoice IS 'Only in what an invoice told';
COMMENT ON COLUMN stripe_portal.subscription.discounts IS 'The ids of its discounts, in the order in which they come off; those of an item are in items';
COMMENT ON COLUMN stripe_portal.subscription.status IS 'Stripe''s status, kept as it is sent, also when it is not known here';
COMMENT ON COLUMN stripe_portal.subscription.current_period_end IS 'The earliest end of an item''s period';
COMMENT ON COLUMN stripe_portal.subscription.cancel_at IS 'When a scheduled cancellation takes effect; set without cancel_at_period_end on flexible subscriptions, so look at both';
COMMENT ON COLUMN stripe_portal.subscription.canceled_at IS 'When the cancellation was asked for; the end is ended_at';
COMMENT ON COLUMN stripe_portal.subscription.cancellation_feedback IS 'cancellation_details.feedback: what the subscriber chose in the portal''s survey; arrives in a later event than the cancellation';
COMMENT ON COLUMN stripe_portal.subscription.cancellation_comment IS 'cancellation_details.comment: the subscriber''s own words';

-- billing: writing a row, whatever order the facts arrive in.
--
-- A row replaces the one that is shown if it is newer, by Stripe's own clock:
--
--   1. a subscription that ended (canceled, incomplete_expired) stays so,
--   2. else the later event or read wins,
--   3. and in one second an event beats a read: what changes after a read is
--      told by another event, what changed before one is in it.
--
-- Which of two events of one second is later is decided where the events are
-- known, in webhook.  Of two reads of one second that differ the greater row
-- is taken, the same in any order, and marked for a refetch.
--
-- Some columns only grow, whichever row is newer.  deleted is never taken
-- back; it says nothing of the other columns, so a tombstone shows the last
-- that was known of its object.  What Stripe sends only when it is asked to
-- expand it does not vanish with the next event, which lacks it.  Both end with
-- the object: a merchant can give the id of a deleted coupon to another one,
-- which was created later.
--
-- What one object tells of another that is embedded in it is taken where
-- nothing better is known: united, column by column, into a row whose
-- event_created is -infinity, so that whatever the object itself says is newer.

CREATE FUNCTION stripe_portal.status_is_final(status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('canceled', 'incomplete_expired');

COMMENT ON FUNCTION stripe_portal.status_is_final(text) IS
'Whether a subscription never leaves this status';

-- ---------------------------------------------------------------------------
-- One row
--
-- The tables differ in their columns only, so the functions are made from
-- those: one for each table, told apart by their argument.
-- ---------------------------------------------------------------------------

DO $do$
DECLARE
    kind text;
    newer_object text;
    parts record;
BEGIN
    FOREACH kind IN ARRAY '{customer, product, price, subscription, payment_method, entitlement,
                            coupon, promotion_code, discount, invoice, payment_intent, dispute}'::text[] LOOP
        newer_object := CASE WHEN kind IN ('entitlement', 'discount') THEN 'false' ELSE '%1$s.created > %2$s.created' END;
        SELECT min(name) FILTER (WHERE attnum = 1) AS key,
               string_agg(format(CASE WHEN grows THEN '%1$s = CASE WHEN %2$s THEN excluded.%1$s ELSE greatest(known.%1$s, excluded.%1$s) END'
                                      -- of what is deleted there is nothing to fetch
                                      WHEN name = 'refetch' AND kind NOT IN ('entitlement', 'subscription')
                                      THEN 'refetch = excluded.refetch AND NOT (known.deleted OR excluded.deleted)'
                                      ELSE '%1$s = excluded.%1$s' END,
                                 name, format(newer_object, 'excluded', 'known')),
                          E',\n        ' ORDER BY attnum) AS assignments,
               string_agg(format('new_row.%1$s := CASE WHEN %2$s THEN shown.%1$s ELSE greatest(shown.%1$s, new_row.%1$s) END;',
                                 name, format(newer_object, 'shown', 'new_row')),
                          E'\n    ' ORDER BY attnum) FILTER (WHERE grows) AS growth,
               string_agg(format('new_row.%1$s IS DISTINCT FROM shown.%1$s', name), ' OR ' ORDER BY attnum) FILTER (WHERE grows) AS has_grown,
               string_agg(format('%1$s = new_row.%1$s', name), ', ' ORDER BY attnum) FILTER (WHERE grows) AS grown,
               CASE kind WHEN 'subscription' THEN 'stripe_portal.status_is_final(%s.status)' ELSE 'false' END AS final
        INTO parts
        FROM pg_catalog.pg_attribute,
             quote_ident(attname) AS name,
             LATERAL (SELECT attname IN ('deleted', 'tiers', 'applies_to', 'currency_options')) AS g (grows)
        WHERE attrelid = format('stripe_portal.%I', kind)::regclass AND attnum > 0 AND NOT attisdropped;

        EXECUTE format($template$
CREATE FUNCTION stripe_portal.write_row(new_row stripe_portal.%1$I, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown stripe_portal.%1$I;
BEGIN
    INSERT INTO stripe_portal.%1$I AS known VALUES (new_row.*)
    ON CONFLICT (%2$s, livemode, account) DO UPDATE SET
        %3$s
    WHERE decided
       OR (%4$s, excluded.event_created, excluded.event <> '')
        > (%5$s, known.event_created, known.event <> '');
    IF FOUND THEN
        RETURN true;
    END IF;

    SELECT * INTO shown FROM stripe_portal.%1$I AS known
    WHERE (known.%2$s, known.livemode, known.account) = (new_row.%2$s, new_row.livemode, new_row.account);
    %6$s
    IF new_row.event_created <> shown.event_created THEN
        RETURN false;
    ELSIF new_row.event <> '' AND shown.event NOT IN ('', new_row.event) THEN
        RETURN NULL;
    ELSIF new_row.event = '' AND shown.event = '' THEN
        -- two reads of one second
        new_row.refetch := shown.refetch;
        IF new_row IS DISTINCT FROM shown THEN
            new_row.refetch := true;
            shown.refetch := true;
            RETURN stripe_portal.write_row(greatest(new_row, shown), true);
        END IF;
    END IF;
    RETURN false;
END
$$
$template$, kind, parts.key, parts.assignments, format(parts.final, 'excluded'), format(parts.final, 'known'),
            -- an older row can still tell what the newer one did not
            CASE WHEN parts.growth IS NOT NULL THEN format('%1$s
    IF %2$s THEN
        UPDATE stripe_portal.%3$I AS known SET %4$s, refetch = known.refetch AND NOT new_row.deleted
        WHERE (known.%5$s, known.livemode, known.account) = (new_row.%5$s, new_row.livemode, new_row.account)
        RETURNING known.* INTO shown;
    END IF;', parts.growth, parts.has_grown, kind, parts.grown, parts.key) END);

        EXECUTE format('COMMENT ON FUNCTION stripe_portal.write_row(stripe_portal.%I, boolean) IS %L', kind,
                       'Makes table ' || kind || ' show this row, if it is newer than the one that is shown, or decided to be the later of one second. True if it does; false if the row was passed over, NULL if that was for another event of the same second. Then the row that is shown is locked');
    END LOOP;

    FOREACH kind IN ARRAY '{price, coupon, discount, invoice_payment, payment_attempt}'::text[] LOOP
        SELECT min(name) FILTER (WHERE attnum = 1) AS key,
               string_agg(format(CASE WHEN name = 'failed_at' THEN '%1$s = least(known.%1$s, excluded.%1$s)'
                                      WHEN name = 'refetch' THEN 'refetch = NOT (known.deleted OR excluded.deleted)'
                                      ELSE '%1$s = greatest(known.%1$s, excluded.%1$s)' END, name),
                          E',\n        ' ORDER BY attnum) FILTER (WHERE attnum > 3) AS assignments,
               CASE WHEN bool_or(name = 'event_created') THEN '%s.event_created > ''-infinity''' ELSE 'false' END AS better_known
        INTO parts
        FROM pg_catalog.pg_attribute, quote_ident(attname) AS name
        WHERE attrelid = format('stripe_portal.%I', kind)::regclass AND attnum > 0 AND NOT attisdropped;

        EXECUTE format($template$
CREATE FUNCTION stripe_portal.unite_row(new_row stripe_portal.%1$I)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown stripe_portal.%1$I;
BEGIN
    -- mostly there is nothing new, and then nothing to lock
    SELECT * INTO shown FROM stripe_portal.%1$I AS known
    WHERE (known.%2$s, known.livemode, known.account) = (new_row.%2$s, new_row.livemode, new_row.account);
    IF NOT FOUND OR NOT (%4$s OR new_row IS NOT DISTINCT FROM shown) THEN
        INSERT INTO stripe_portal.%1$I AS known VALUES (new_row.*)
        ON CONFLICT (%2$s, livemode, account) DO UPDATE SET
        %3$s
        WHERE NOT %5$s;
    END IF;
END
$$
$template$, kind, parts.key, parts.assignments, format(parts.better_known, 'shown'), format(parts.better_known, 'known'));

        EXECUTE format('COMMENT ON FUNCTION stripe_portal.unite_row(stripe_portal.%I) IS %L', kind,
                       'Adds to table ' || kind || ' what this row knows of an object, or of a fact, that others tell as well, each a part of it: every column keeps the greatest value that was told. What its object itself has told is left alone');
    END LOOP;
END
$do$;

-- ---------------------------------------------------------------------------
-- One object
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.state_table(kind text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN kind IN ('customer', 'product', 'price', 'subscription', 'payment_method', 'coupon', 'promotion_code',
                  'discount', 'invoice', 'payment_intent', 'dispute') THEN kind
    WHEN kind = 'entitlements.active_entitlement_summary' THEN 'entitlement'
    WHEN kind = 'billing_portal.configuration' THEN 'billing_portal_configuration'
END;

COMMENT ON FUNCTION stripe_portal.state_table(text) IS
'The table that shows objects of this kind (the field object); NULL if none does';

CREATE FUNCTION stripe_portal.object_id(object jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN object ->> 'object' = 'entitlements.active_entitlement_summary'
            THEN stripe_portal.read_id(object -> 'customer')
            ELSE object ->> 'id' END;

COMMENT ON FUNCTION stripe_portal.object_id(jsonb) IS
'The id of an object; a customer''s for the customer''s entitlements, which have none of their own; NULL for what has none, such as an upcoming invoice';

CREATE FUNCTION stripe_portal.write_object(object jsonb, origin jsonb, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE stripe_portal.state_table(object ->> 'object')
        WHEN 'subscription' THEN RETURN stripe_portal.write_row(stripe_portal.subscription_row(object, origin), decided);
        WHEN 'invoice' THEN RETURN stripe_portal.write_row(stripe_portal.invoice_row(object, origin), decided);
        WHEN 'payment_intent' THEN RETURN stripe_portal.write_row(stripe_portal.payment_intent_row(object, origin), decided);
        WHEN 'customer' THEN RETURN stripe_portal.write_row(stripe_portal.customer_row(object, origin), decided);
        WHEN 'payment_method' THEN RETURN stripe_portal.write_row(stripe_portal.payment_method_row(object, origin), decided);
        WHEN 'entitlement' THEN RETURN stripe_portal.write_row(stripe_portal.entitlement_row(object, origin), decided);
        WHEN 'price' THEN RETURN stripe_portal.write_row(stripe_portal.price_row(object, origin), decided);
        WHEN 'product' THEN RETURN stripe_portal.write_row(stripe_portal.product_row(object, origin), decided);
        WHEN 'discount' THEN RETURN stripe_portal.write_row(stripe_portal.discount_row(object, origin), decided);
        WHEN 'coupon' THEN RETURN stripe_portal.write_row(stripe_portal.coupon_row(object, origin), decided);
        WHEN 'promotion_code' THEN RETURN stripe_portal.write_row(stripe_portal.promotion_code_row(object, origin), decided);
        WHEN 'dispute' THEN RETURN stripe_portal.write_row(stripe_portal.dispute_row(object, origin), decided);
        WHEN 'billing_portal_configuration' THEN
            RETURN stripe_portal.write_row(stripe_portal.portal_configuration_row(object, origin), decided);
    END CASE;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_object(jsonb, jsonb, boolean) IS
'Writes the row of an object, as write_row of its table does';

CREATE FUNCTION stripe_portal.write_tombstone(object jsonb, livemode boolean, account text, as_of timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := stripe_portal.state_table(object ->> 'object');
    canceled stripe_portal.subscription;
BEGIN
    IF kind = 'subscription' THEN
        -- Stripe keeps canceled ones; it loses only those of deleted test data.
        UPDATE stripe_portal.subscription AS known
        SET status = 'canceled', ended_at = coalesce(known.ended_at, as_of),
            event = '', event_created = as_of, refetch = false
        WHERE (known.id, known.livemode, known.account) = (object ->> 'id', write_tombstone.livemode, write_tombstone.account)
          AND NOT stripe_portal.status_is_final(known.status)
        RETURNING known.* INTO canceled;
        IF FOUND THEN
            PERFORM stripe_portal.record_change(canceled, NULL);
        END IF;
    ELSIF kind <> 'entitlement' THEN
        EXECUTE format($sql$
            INSERT INTO stripe_portal.%I AS known (id, livemode, account, deleted, event, event_created)
            VALUES ($1, $2, $3, true, '', '-infinity')
            ON CONFLICT (id, livemode, account) DO UPDATE SET deleted = true, refetch = false
            WHERE NOT known.deleted $sql$, kind)
        USING object ->> 'id', livemode, account;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_tombstone(jsonb, boolean, text, timestamptz) IS
'Marks an object as deleted of which Stripe tells nothing but that ({"id": …, "object": …, "deleted": true}), and keeps what is known of it; if nothing is, event_created is -infinity. A subscription that is known here becomes canceled';

CREATE FUNCTION stripe_portal.write_embedded(object jsonb, origin jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- without what can change in an object's life
    changes CONSTANT text[] := '{active, applies_to, currency_options, lookup_key, metadata, name, nickname,
                                 tax_behavior, tiers, times_redeemed, valid}';
    poor_origin CONSTANT jsonb := origin || '{"event": "", "event_created": "-infinity", "deleted": false, "refetch": true}';
    found CONSTANT jsonb := jsonb_path_query_array(object,
        'lax $.**{1 to last} ? (@.object == "discount" || @.object == "coupon" || @.object == "price") ? (exists(@.id))');
    embedded jsonb;
BEGIN
    IF found = '[]' THEN
        RETURN;
    END IF;

    -- Always in this order, so that two who do the same do not wait for each
    -- other in a circle.
    FOR embedded IN
        SELECT DISTINCT ON (e ->> 'object', e ->> 'id', e) e FROM jsonb_array_elements(found) AS e
        WHERE e -> 'deleted' IS DISTINCT FROM 'true'
        ORDER BY e ->> 'object', e ->> 'id', e
    LOOP
        CASE embedded ->> 'object'
            WHEN 'coupon' THEN
                PERFORM stripe_portal.unite_row(stripe_portal.coupon_row(embedded - changes, poor_origin));
            WHEN 'price' THEN
                PERFORM stripe_portal.unite_row(stripe_portal.price_row(embedded - changes, poor_origin));
            WHEN 'discount' THEN
                -- Stripe has no request for one discount: what was read with
                -- its owner is as good as a read of its own.
                IF origin ->> 'event' = '' THEN
                    PERFORM stripe_portal.write_row(stripe_portal.discount_row(embedded, origin), false);
                ELSE
                    PERFORM stripe_portal.unite_row(stripe_portal.discount_row(embedded, poor_origin));
                END IF;
            ELSE
                NULL;
        END CASE;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_embedded(jsonb, jsonb) IS
'Takes from an object the discounts, coupons and prices that are in it, where nothing better is known of them: only what never changes in them, with refetch set';

CREATE FUNCTION stripe_portal.apply_object(object jsonb, livemode boolean, account text, as_of timestamptz)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    origin CONSTANT jsonb := jsonb_build_object(
        'livemode', livemode, 'account', account, 'event', '', 'event_created', date_trunc('second', as_of),
        'deleted', false, 'refetch', false);
    terms CONSTANT jsonb := stripe_portal.known_terms(object, livemode, account);
    told boolean;
BEGIN
    IF stripe_portal.object_id(object) IS NULL THEN
        RETURN false;
    ELSIF object -> 'deleted' = 'true' THEN
        IF stripe_portal.state_table(object ->> 'object') IS NULL THEN
            RETURN false;
        END IF;
        PERFORM stripe_portal.write_tombstone(object, livemode, account, date_trunc('second', as_of));
        RETURN true;
    ELSIF object -> 'livemode' <> to_jsonb(livemode) THEN
        -- the key was exchanged between the question and the answer
        RAISE EXCEPTION 'object "%" is not of % mode', stripe_portal.object_id(object),
                CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SP502';
    END IF;

    IF object ->> 'object' = 'subscription' THEN
        PERFORM stripe_portal.lock_changes(stripe_portal.read_id(object -> 'customer'));
    END IF;
    IF stripe_portal.state_table(object ->> 'object') IS NOT NULL THEN
        PERFORM stripe_portal.write_object(object, origin, false);
        PERFORM stripe_portal.write_embedded(object, origin);
        PERFORM stripe_portal.reprice_changes(terms, object, livemode, account);
    END IF;
    IF object ->> 'object' = 'subscription' THEN
        PERFORM stripe_portal.record_change(stripe_portal.subscription_row(object, origin), NULL);
    END IF;
    told := stripe_portal.write_payment_facts(NULL, object, origin);
    RETURN told OR stripe_portal.state_table(object ->> 'object') IS NOT NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_object(jsonb, boolean, text, timestamptz) IS
'Makes the state tables show an object that was read from Stripe at as_of, on Stripe''s clock, unless they show something newer: a page that was read before an event happened never undoes it. {"id": …, "object": …, "deleted": true} leaves a tombstone. False if no table holds its kind. An object of the other mode is error SP502';
-- webhook: verify, receive, handle.

CREATE FUNCTION @extschema@.stripe_verify_webhook(payload text, sig text, at timestamptz DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_verify_webhook_text';

CREATE FUNCTION @extschema@.stripe_verify_webhook(payload bytea, sig text, at timestamptz DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_verify_webhook_bytea';

COMMENT ON FUNCTION @extschema@.stripe_verify_webhook(text, text, timestamptz) IS
'Whether the Stripe-Signature header sig was made for this raw request body with one of the configured webhook secrets, within stripe_portal.tolerance before or after at (now if NULL; give the time of arrival for a delivery that waited in a queue). Anything wrong with the header, and NULL, is false; no configured secret is error SPC01';

COMMENT ON FUNCTION @extschema@.stripe_verify_webhook(bytea, text, timestamptz) IS
'The same for a body that is kept as bytes';

CREATE FUNCTION @extschema@.stripe_sign_webhook(payload text, secret text, at timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_sign_webhook';

COMMENT ON FUNCTION @extschema@.stripe_sign_webhook(text, text, timestamptz) IS
'A Stripe-Signature header for the payload, as Stripe would send it at that time (now if NULL): for tests of your own. A NULL or blank secret is error 22023';

CREATE FUNCTION @extschema@.stripe_receive_webhook(
    payload text, sig text, received_at timestamptz DEFAULT NULL,
    OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhook_text';

CREATE FUNCTION @extschema@.stripe_receive_webhook(
    payload bytea, sig text, received_at timestamptz DEFAULT NULL,
    OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhook_bytea';

COMMENT ON FUNCTION @extschema@.stripe_receive_webhook(text, text, timestamptz) IS
'Verifies a webhook delivery, stores its event once, applies it to the state tables, calls the handlers registered for it and tells what became of it: outcome is applied, ignored (no table for its object), thin (no data in it), failed (stored, with the reason in error; stripe_replay tries again) or duplicate (stored before). A refused signature is error SPW01, no configured secret SPC01; after a good signature nothing about the event raises. received_at: as at in stripe_verify_webhook';

COMMENT ON FUNCTION @extschema@.stripe_receive_webhook(bytea, text, timestamptz) IS
'The same for a body that is kept as bytes';

CREATE FUNCTION stripe_portal.receive_event(payload json)
RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stripe_receive_event';

COMMENT ON FUNCTION stripe_portal.receive_event(json) IS
'Stores and applies an event that was read from Stripe''s API, which needs no signature: whoever may call this can claim anything of Stripe''s to have happened. Gives the outcome as stripe_receive_webhook does';

CREATE FUNCTION stripe_portal.receive_webhook(
    payload text, sig text, received_at timestamptz,
    OUT event text, OUT type text, OUT outcome text, OUT error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_receive_webhook_text';

COMMENT ON FUNCTION stripe_portal.receive_webhook(text, text, timestamptz) IS
'stripe_receive_webhook, for other functions to call';

CREATE FUNCTION @extschema@.stripe_webhook(json)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    receipt record;
BEGIN
    SELECT * INTO receipt
    FROM stripe_portal.receive_webhook(
        $1::text,
        nullif(current_setting('request.headers', true), '')::json ->> 'stripe-signature', NULL);
    RETURN pg_catalog.json_build_object('event', receipt.event, 'outcome', receipt.outcome);
EXCEPTION WHEN SQLSTATE 'SPW01' THEN
    PERFORM set_config('response.status', '400', true);
    RETURN json_build_object('error', SQLERRM);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_webhook(json) IS
'stripe_receive_webhook as an endpoint of a gateway in the manner of PostgREST, which hands over the raw body as the only, unnamed argument and the headers in the setting request.headers. A refused signature answers 400 through response.status, every stored event 200, also one that failed: Stripe need not send it again';

-- ---------------------------------------------------------------------------
-- Handlers, and what the tables hold
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.event_handler_check()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    handler record;
BEGIN
    SELECT format('%I.%I', n.nspname, p.proname) AS name, p.proretset INTO handler
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid = to_regprocedure(NEW.function || '(stripe_portal.event)')
      AND p.prokind = 'f';
    IF handler.name IS NULL OR handler.proretset THEN
        RAISE EXCEPTION 'function "%" cannot handle events', NEW.function
            USING ERRCODE = 'undefined_function',
                  DETAIL = 'There is no such function that takes one stripe_portal.event and returns one value.',
                  HINT = 'Give its name with its schema: myschema.on_cancel for myschema.on_cancel(stripe_portal.event).';
    END IF;
    NEW.function := handler.name;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.event_handler_check() IS
'Refuses a handler that does not exist, and stores its name fully qualified';

CREATE TRIGGER event_handler_check
    BEFORE INSERT OR UPDATE ON stripe_portal.event_handler
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.event_handler_check();

COMMENT ON TABLE stripe_portal.event IS 'Every verified event, once, as it was signed; partitioned by created, see tend_ledger';
COMMENT ON COLUMN stripe_portal.event.id IS 'Stripe''s id; for a body that is no event, body_ and its SHA-256';
COMMENT ON COLUMN stripe_portal.event.created IS 'When it happened, on Stripe''s clock, to the second; NULL where the body does not say';
COMMENT ON COLUMN stripe_portal.event.object_id IS 'The id of the object it is about';
COMMENT ON COLUMN stripe_portal.event.payload IS 'The request body, byte for byte; only the URL of a portal session, and where it leads back to, are left out';
COMMENT ON COLUMN stripe_portal.event.body IS 'The request body where it is not an event that json can hold; empty if it speaks of a portal session, whose URL must not be kept';
COMMENT ON COLUMN stripe_portal.event.status IS 'applied; ignored: no table for its object; thin: carries no data, its object has yet to be read; failed: see error';
COMMENT ON COLUMN stripe_portal.event.attempts IS 'How often it was tried to apply it';
COMMENT ON COLUMN stripe_portal.event.last_attempt_at IS 'When that was tried last';
COMMENT ON TABLE stripe_portal.event_default IS 'The partition of event for what has no other: events without a time, of a month whose partition has yet to be made, and failed ones that outlived theirs';

COMMENT ON TABLE stripe_portal.event_handler IS 'Functions to call once for each applied event; unlike a trigger on the extension''s tables, a handler is in the dump';
COMMENT ON COLUMN stripe_portal.event_handler.pattern IS 'An event type; * stands for any characters';
COMMENT ON COLUMN stripe_portal.event_handler.function IS 'Schema-qualified name of a function that takes one stripe_portal.event; it runs with the rights of its owner';

-- webhook: applying an event, in whatever order it arrives.
--
-- An event that is newer than the row is simply written (see billing).  Events
-- of one second are put in order by what they say they changed; where that is
-- not decisive, one of them is chosen, the same for every order of arrival,
-- and the row's refetch is set.

CREATE FUNCTION stripe_portal.event_stage(event jsonb)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN event #>> '{data,object,object}' = 'subscription' THEN
        CASE WHEN stripe_portal.status_is_final(event #>> '{data,object,status}') THEN 2
             WHEN event #>> '{data,object,status}' = 'incomplete' THEN 0 ELSE 1 END
    WHEN event ->> 'type' LIKE '%.deleted' THEN 1000000
    WHEN event #>> '{data,object,object}' = 'invoice' THEN
        CASE event #>> '{data,object,status}'
            WHEN 'draft' THEN 0 WHEN 'open' THEN 10000 WHEN 'uncollectible' THEN 20000 ELSE 30000 END
        + least(coalesce(event #>> '{data,object,attempt_count}', '0')::numeric, 9999)::integer
    WHEN event #>> '{data,object,object}' = 'payment_intent' THEN
        CASE WHEN event #>> '{data,object,status}' IN ('succeeded', 'canceled') THEN 1 ELSE 0 END
    WHEN event #>> '{data,object,object}' = 'dispute' THEN
        CASE WHEN event ->> 'type' = 'charge.dispute.closed' THEN 1 ELSE 0 END
    ELSE 0
END;

COMMENT ON FUNCTION stripe_portal.event_stage(jsonb) IS
'How far the object has come in its life, where that only goes on: of two events of one second the one with the higher stage is later';

CREATE FUNCTION stripe_portal.put_back(object jsonb, previous jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute record;
BEGIN
    FOR attribute IN SELECT key, value FROM jsonb_each(previous) LOOP
        object := object || jsonb_build_object(attribute.key,
            -- nested hashes hold only the keys that changed, lists are whole
            CASE WHEN jsonb_typeof(attribute.value) = 'object' AND jsonb_typeof(object -> attribute.key) = 'object'
                 THEN stripe_portal.put_back(object -> attribute.key, attribute.value)
                 ELSE attribute.value END);
    END LOOP;
    RETURN object;
END
$$;

COMMENT ON FUNCTION stripe_portal.put_back(jsonb, jsonb) IS
'An event''s object as it was before the event: with its previous_attributes put back';

CREATE FUNCTION stripe_portal.read_payload(payload json)
RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_read_payload';

COMMENT ON FUNCTION stripe_portal.read_payload(json) IS
'A payload as jsonb, with U+FFFD for the escape \u0000, which jsonb can not hold';

CREATE FUNCTION stripe_portal.last_event_of_second(
    event jsonb, unwritable text[], OUT last jsonb, OUT certain boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH second AS (
        -- what is known of this second: the ledger, and the event at hand
        SELECT event AS e
        UNION ALL
        SELECT stripe_portal.read_payload(known.payload)
        FROM stripe_portal.event AS known
        WHERE known.object_id = stripe_portal.object_id(event #> '{data,object}')
          AND known.created = stripe_portal.read_time(event -> 'created')
          AND known.livemode = (event ->> 'livemode')::boolean
          AND known.account = coalesce(event ->> 'account', '')
          AND known.id <> event ->> 'id'
          AND known.status IN ('applied', 'failed')
          AND known.id <> ALL (unwritable)
    ), stage AS (
        SELECT e, rank() OVER (ORDER BY stripe_portal.event_stage(e) DESC) AS rank
        FROM second
        WHERE e #>> '{data,object,object}' = event #>> '{data,object,object}'
          -- who says no more than that it is deleted has no say in what it was
          AND e #> '{data,object,deleted}' IS DISTINCT FROM 'true'
    ), candidate AS (
        SELECT e, e ->> 'id' AS id, e ->> 'type' LIKE '%.created' AS creates,
               jsonb_strip_nulls(e #> '{data,object}') AS after,
               nullif(nullif(e #> '{data,previous_attributes}', '{}'), 'null') AS previous,
               e ->> 'type' LIKE '%.deleted' AS deletes
        FROM stage WHERE rank = 1
    ), step AS (
        -- Each event is a step from one state of the object to another.  On a
        -- walk, every state is left as often as it is entered, but for the
        -- last one, which is entered once more.
        SELECT after AS state, 1 AS entered, creates FROM candidate
        WHERE previous IS NOT NULL OR creates OR deletes
        UNION ALL
        SELECT jsonb_strip_nulls(stripe_portal.put_back(after, previous)), -1, false FROM candidate
        WHERE previous IS NOT NULL
    ), entered_more AS (
        SELECT state, bool_and(creates) AS is_the_first FROM step GROUP BY state HAVING sum(entered) > 0
    ), shown AS (
        -- An event that does not say what it changed shows a state that was
        -- there at some time.
        SELECT after AS state FROM candidate
        WHERE NOT (previous IS NOT NULL OR creates OR deletes)
    ), last_state AS (
        SELECT state FROM entered_more WHERE NOT is_the_first
        UNION
        SELECT state FROM shown
        UNION
        -- that of the creation, if nothing else is spoken of
        SELECT state FROM entered_more
        WHERE is_the_first AND NOT EXISTS (SELECT FROM shown)
          AND NOT EXISTS (SELECT FROM entered_more AS other WHERE NOT other.is_the_first)
    ), verdict AS (
        -- Several states are left when events of this second have yet to
        -- arrive, or do not say where they came from; none, when the walk
        -- ended where it began.  And where all say the same, that is it.
        SELECT count(*) = 1 AND (EXISTS (SELECT FROM entered_more) OR NOT EXISTS (SELECT FROM step))
               OR (SELECT count(DISTINCT after) = 1 FROM candidate) AS certain
        FROM last_state
    )
    SELECT candidate.e, verdict.certain
    FROM candidate, verdict
    WHERE NOT verdict.certain OR candidate.after IN (SELECT state FROM last_state)
       OR NOT EXISTS (SELECT FROM last_state)
    ORDER BY candidate.creates, candidate.id DESC
    LIMIT 1
$$;

COMMENT ON FUNCTION stripe_portal.last_event_of_second(jsonb, text[]) IS
'Of all known events of this object and second, but for the unwritable ones, the one that happened last; certain is false where their content does not tell. Depends on the set of events only, never on their order of arrival';

CREATE FUNCTION stripe_portal.event_origin(event jsonb, unclear boolean)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object(
    'livemode', event -> 'livemode',
    'account', coalesce(event ->> 'account', ''),
    'event', event -> 'id',
    'event_created', stripe_portal.read_time(event -> 'created'),
    'previous', event #> '{data,previous_attributes}',
    'deleted', event ->> 'type' LIKE '%.deleted',
    'refetch', unclear);

COMMENT ON FUNCTION stripe_portal.event_origin(jsonb, boolean) IS
'What a row takes from the event itself, not from its object; unclear: whether it is a guess that the event was the last of its second';

CREATE FUNCTION stripe_portal.decide_second(event jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    verdict record;
    unwritable text[] := '{}';
BEGIN
    -- The arriving event can also be what shows that a third one, known but
    -- passed over before, was the last.
    LOOP
        verdict := stripe_portal.last_event_of_second(event, unwritable);
        BEGIN
            PERFORM stripe_portal.write_object(
                verdict.last #> '{data,object}',
                stripe_portal.event_origin(verdict.last, NOT verdict.certain OR unwritable <> '{}'), true);
            RETURN;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
            IF verdict.last ->> 'id' = event ->> 'id' THEN
                RAISE;
            END IF;
            -- that one has failed before: not the fault of this one
            unwritable := unwritable || (verdict.last ->> 'id');
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.decide_second(jsonb) IS
'Writes the last of all known events of this object and second; an event among them that can not be written is left out, and the row marked for a refetch';

CREATE FUNCTION stripe_portal.apply_event(event jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    object CONSTANT jsonb := event #> '{data,object}';
    origin CONSTANT jsonb := stripe_portal.event_origin(event, false);
    has_table CONSTANT boolean := stripe_portal.state_table(object ->> 'object') IS NOT NULL;
    terms CONSTANT jsonb := stripe_portal.known_terms(object, (origin ->> 'livemode')::boolean, origin ->> 'account');
BEGIN
    -- an upcoming invoice, which does not exist yet
    IF object ->> 'object' = 'invoice' AND object ->> 'id' IS NULL THEN
        RETURN false;
    END IF;

    IF has_table AND object -> 'deleted' = 'true' THEN
        PERFORM stripe_portal.write_tombstone(object, (origin ->> 'livemode')::boolean, origin ->> 'account',
                                              (origin ->> 'event_created')::timestamptz);
        RETURN true;
    ELSIF has_table THEN
        IF object ->> 'object' = 'subscription' THEN
            PERFORM stripe_portal.lock_changes(stripe_portal.read_id(object -> 'customer'));
        END IF;
        IF stripe_portal.write_object(object, origin, false) IS NULL THEN
            PERFORM stripe_portal.decide_second(event);
        END IF;
        PERFORM stripe_portal.write_embedded(object, origin);
        PERFORM stripe_portal.reprice_changes(terms, object, (origin ->> 'livemode')::boolean, origin ->> 'account');
        PERFORM stripe_portal.record_event(event);
    END IF;
    RETURN stripe_portal.write_payment_facts(event ->> 'type', object, origin) OR has_table;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_event(jsonb) IS
'Makes the state tables show what the event says, unless they show something newer, and takes it into the history. False if the event is about an object that no table holds, or about an upcoming invoice, which does not exist yet. Applying an event again changes nothing';
-- webhook: the ledger's partitions, made ahead and dropped when they are old.

CREATE FUNCTION stripe_portal.ledger_horizon()
RETURNS timestamptz
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'stripe_ledger_horizon';

COMMENT ON FUNCTION stripe_portal.ledger_horizon() IS
'Events from before this time may leave the ledger, by stripe_portal.event_retention; NULL if all are kept';

CREATE FUNCTION stripe_portal.event_partitions()
RETURNS TABLE (partition regclass, starts timestamptz, ends timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
    SELECT c.oid::regclass, bound[1]::timestamptz, bound[2]::timestamptz
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    CROSS JOIN regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$FROM \('(.*)'\) TO \('(.*)'\)$re$) AS bound
    WHERE i.inhparent = 'stripe_portal.event'::regclass AND bound IS NOT NULL
    ORDER BY 2
$$;

COMMENT ON FUNCTION stripe_portal.event_partitions() IS
'The partitions of stripe_portal.event but for event_default: events created from starts on and before ends';

-- Locks are taken in the order that keeps receiving alive.  Dropping locks the
-- whole ledger, for a moment; a month that moves out of event_default locks
-- that partition while it moves.  So no month moves after a drop, and one at
-- most in each run.  Whoever holds a lock for longer than lock_timeout, which
-- is far below deadlock_timeout, makes this give way until the next run.
--
-- Moving a row is no change of it: no trigger sees it.  The rows go through a
-- temporary table, so that logical decoding sees them leave and come back.
CREATE FUNCTION stripe_portal.tend_ledger(months_ahead integer DEFAULT 2)
RETURNS TABLE (partition text, action text, events bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '200ms'
SET session_replication_role = replica
AS $$
DECLARE
    horizon CONSTANT timestamptz := stripe_portal.ledger_horizon();
    this_month CONSTANT timestamptz := date_trunc('month', now());
    one_month CONSTANT interval := '1 month';
    part record;
    month timestamptz;
    other record;
    may_move boolean := true;
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute tend_ledger() in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'tend_ledger() works in READ COMMITTED transactions only'
            USING ERRCODE = 'invalid_transaction_state',
                  DETAIL = 'It has to see every event that is committed by the time it holds a lock.';
    ELSIF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'months_ahead must be between 0 and 120'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- somebody else is at it
    IF NOT pg_try_advisory_xact_lock(hashtextextended('stripe_portal.tend_ledger', 0)) THEN
        RETURN;
    END IF;

    FOR part IN
        SELECT c.relname::text AS name, p.starts, p.ends
        FROM stripe_portal.event_partitions() AS p
        JOIN pg_class AS c ON c.oid = p.partition
        WHERE p.ends <= horizon
    LOOP
        partition := part.name;
        BEGIN
            LOCK TABLE ONLY stripe_portal.event IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('LOCK TABLE stripe_portal.%I IN ACCESS EXCLUSIVE MODE', partition);
            -- a dead letter outlives its partition
            CREATE TEMPORARY TABLE event_moved AS
                SELECT e.* FROM stripe_portal.event AS e
                WHERE e.created >= part.starts AND e.created < part.ends AND e.status = 'failed';
            EXECUTE format('ALTER TABLE stripe_portal.event DETACH PARTITION stripe_portal.%I', partition);
            INSERT INTO stripe_portal.event SELECT m.* FROM pg_temp.event_moved AS m;
            GET DIAGNOSTICS events = ROW_COUNT;
            DROP TABLE pg_temp.event_moved;
            EXECUTE format('DROP TABLE stripe_portal.%I', partition);
            action := 'dropped';
            may_move := false;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
            action := 'busy';
            events := 0;
        END;
        RETURN NEXT;
    END LOOP;

    IF horizon IS NOT NULL THEN
        partition := 'event_default';
        BEGIN
            -- a body that is no event is no dead letter: nothing can mend it
            DELETE FROM stripe_portal.event_default AS e
            WHERE coalesce(e.created, e.received_at) < horizon AND (e.status <> 'failed' OR e.payload IS NULL);
            GET DIAGNOSTICS events = ROW_COUNT;
            action := 'pruned';
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            action := 'busy';
            events := 0;
        END;
        IF action = 'busy' OR events > 0 THEN
            RETURN NEXT;
        END IF;
    END IF;

    -- The newest month first: as soon as the current one has its partition,
    -- receiving no longer waits for what moves out of event_default.
    FOR month IN
        SELECT wanted.month
        FROM (SELECT this_month + n * one_month FROM generate_series(0, months_ahead) AS n
              UNION
              SELECT date_trunc('month', e.created) FROM stripe_portal.event_default AS e
              WHERE isfinite(e.created) AND e.created < this_month + (months_ahead + 1) * one_month
                AND (horizon IS NULL OR e.created >= date_trunc('month', horizon))) AS wanted (month)
        WHERE NOT EXISTS (SELECT FROM stripe_portal.event_partitions() AS p
                          WHERE p.starts <= wanted.month AND p.ends > wanted.month)
        ORDER BY 1 DESC
    LOOP
        CONTINUE WHEN NOT may_move
            AND EXISTS (SELECT FROM stripe_portal.event_default AS e
                        WHERE e.created >= month AND e.created < month + one_month);
        partition := to_char(month, '"event_"YYYY_MM');
        BEGIN
            EXECUTE format('CREATE TABLE stripe_portal.%I (LIKE stripe_portal.event_default INCLUDING ALL)', partition);
            -- rights go through the partitioned table, whatever the owner's default privileges are
            FOR other IN
                SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS name
                FROM pg_class AS c, aclexplode(c.relacl) AS a
                WHERE c.oid = to_regclass(format('stripe_portal.%I', partition)) AND a.grantee <> c.relowner
            LOOP
                EXECUTE format('REVOKE ALL ON stripe_portal.%I FROM %s', partition, other.name);
            END LOOP;
            EXECUTE format('COMMENT ON TABLE stripe_portal.%I IS %L', partition,
                           to_char(month, '"Events of "YYYY-MM", UTC"'));

            LOCK TABLE stripe_portal.event_default IN ACCESS EXCLUSIVE MODE;
            CREATE TEMPORARY TABLE event_moved AS
                SELECT e.* FROM stripe_portal.event AS e WHERE e.created >= month AND e.created < month + one_month;
            DELETE FROM stripe_portal.event AS e WHERE e.created >= month AND e.created < month + one_month;
            EXECUTE format('ALTER TABLE stripe_portal.event ATTACH PARTITION stripe_portal.%I FOR VALUES FROM (%L) TO (%L)',
                           partition, month, month + one_month);
            INSERT INTO stripe_portal.event SELECT m.* FROM pg_temp.event_moved AS m;
            GET DIAGNOSTICS events = ROW_COUNT;
            DROP TABLE pg_temp.event_moved;
            action := 'made';
            may_move := may_move AND events = 0;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
                action := 'busy';
                events := 0;
            WHEN duplicate_table THEN
                -- detached to be archived, most likely: the other months go on
                action := 'name taken';
                events := 0;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.tend_ledger(integer) IS
'Takes care of the ledger''s partitions and says what it did, if anything. made: a partition for this month, for each of the months_ahead, or for a month that has events in event_default, which moved into it (events says how many; one such month in each run). dropped: a partition that is older than stripe_portal.event_retention; events says how many failed ones were kept, in event_default. pruned: so many events that are older have left event_default, failed ones excepted; what was no event at all goes by the time it was received. busy: others held a lock; the next run tries again. name taken: there is a table of that name that is no partition, such as one that was detached; events of that month stay in event_default. Returns at once if another run is at it. Only in a READ COMMITTED transaction, else error 25000';
-- webhook: every event of a subscription into its history, also one that comes
-- too late to change the state that is shown.

CREATE FUNCTION stripe_portal.record_event(event jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    verdict record;
    last jsonb;
    unwritable text[] := '{}';
BEGIN
    IF event #>> '{data,object,object}' <> 'subscription' THEN
        RETURN;
    END IF;
    LOOP
        verdict := stripe_portal.last_event_of_second(event, unwritable);
        last := verdict.last;
        IF last ->> 'id' = event ->> 'id' THEN
            PERFORM stripe_portal.record_change(
                stripe_portal.subscription_row(last #> '{data,object}', stripe_portal.event_origin(last, false)), last ->> 'type');
            RETURN;
        END IF;
        BEGIN
            PERFORM stripe_portal.record_change(
                stripe_portal.subscription_row(last #> '{data,object}', stripe_portal.event_origin(last, false)), last ->> 'type');
            RETURN;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
            -- as in decide_second
            unwritable := unwritable || (last ->> 'id');
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.record_event(jsonb) IS
'Takes the second of an event about a subscription into the subscription''s history: the event of that second that happened last';
-- webhook: another attempt for what failed, and for what carries no data.

CREATE FUNCTION @extschema@.stripe_replay(
    event text, livemode boolean DEFAULT NULL, account text DEFAULT '',
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_replay';

COMMENT ON FUNCTION @extschema@.stripe_replay(text, boolean, text) IS
'Applies a stored event once more. One that failed gets its handlers called again; for one that was applied nothing changes. outcome and error as in stripe_receive_webhook. livemode: NULL is the mode of the configured key. An unknown event is error P0002';

CREATE FUNCTION stripe_portal.replay(
    event text, livemode boolean, account text,
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_replay';

COMMENT ON FUNCTION stripe_portal.replay(text, boolean, text) IS
'stripe_replay of one event, for other functions to call';

CREATE FUNCTION stripe_portal.try_replay(
    event text, livemode boolean, account text,
    OUT outcome text, OUT error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT r.outcome, r.error INTO outcome, error
    FROM stripe_portal.replay(try_replay.event, try_replay.livemode, try_replay.account) AS r;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A handler that waits for ever is stopped by statement_timeout, and must
    -- not be the first to be tried, and the only one, for ever after.
    outcome := 'failed';
    error := SQLSTATE || ': ' || SQLERRM;
    UPDATE stripe_portal.event AS e
    SET error = try_replay.error, attempts = e.attempts + 1, last_attempt_at = now()
    WHERE e.id = try_replay.event AND e.livemode = try_replay.livemode AND e.account = try_replay.account
      AND e.status = 'failed';
END
$$;

COMMENT ON FUNCTION stripe_portal.try_replay(text, boolean, text) IS
'stripe_replay for one of many: whatever it raises, a cancel included, becomes the outcome failed and counts as an attempt';

-- The order of the arguments is such that stripe_replay('evt_…', …) is never
-- ambiguous, not even with parameters that have no type.
CREATE FUNCTION @extschema@.stripe_replay(
    since timestamptz DEFAULT NULL, failed_only boolean DEFAULT true,
    type text DEFAULT NULL, until timestamptz DEFAULT NULL)
RETURNS TABLE (event text, livemode boolean, account text, outcome text, error text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR event, livemode, account IN
        SELECT e.id, e.livemode, e.account
        FROM stripe_portal.event AS e
        WHERE (since IS NULL OR e.created >= since)
          AND (until IS NULL OR e.created < until)
          AND (stripe_replay.type IS NULL
               OR e.type LIKE replace(replace(stripe_replay.type, '_', '\_'), '*', '%'))
          AND (NOT failed_only OR e.status = 'failed')
        ORDER BY e.created, e.id
    LOOP
        SELECT r.* INTO outcome, error FROM stripe_portal.try_replay(event, livemode, account) AS r;
        RETURN NEXT;
        EXIT WHEN error LIKE '57014:%';     -- cancelled
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_replay(timestamptz, boolean, text, timestamptz) IS
'Applies stored events once more, the oldest first, and says what became of each: those created from since on and before until (NULL: no limit), of the type (NULL: all; * stands for any characters), and of these the failed ones, or all with failed_only => false, which changes nothing for what was applied. One that fails again does not keep the others back. A cancel ends the run and keeps what was done';

-- ---------------------------------------------------------------------------
-- Dead letters
-- ---------------------------------------------------------------------------

-- The views call no function of ours: who may read them may not call those.

CREATE VIEW stripe_portal.event_failed AS
SELECT id, livemode, account, created, type, object_id, error, attempts, received_at, last_attempt_at,
       CASE WHEN payload IS NOT NULL
            THEN last_attempt_at + least(interval '1 minute' * 2 ^ least(attempts - 1, 11), interval '1 day')
       END AS next_attempt
FROM stripe_portal.event
WHERE status = 'failed';

COMMENT ON VIEW stripe_portal.event_failed IS 'Dead letters: events that could not be applied, each with its last error';
COMMENT ON COLUMN stripe_portal.event_failed.next_attempt IS 'From when on retry_failed tries it again: a minute after the first attempt, twice as long after each further one, a day at most; NULL for a body that is no event';

CREATE FUNCTION stripe_portal.retry_failed(max_events integer DEFAULT 100)
RETURNS TABLE (event text, livemode boolean, account text, outcome text, error text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute retry_failed() in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;

    FOR event, livemode, account IN
        SELECT f.id, f.livemode, f.account
        FROM stripe_portal.event_failed AS f
        WHERE f.next_attempt <= now()
        ORDER BY f.received_at, f.id
        LIMIT max_events
        FOR UPDATE SKIP LOCKED
    LOOP
        SELECT r.* INTO outcome, error FROM stripe_portal.try_replay(event, livemode, account) AS r;
        RETURN NEXT;
        EXIT WHEN error LIKE '57014:%';     -- cancelled
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.retry_failed(integer) IS
'Replays the failed events whose next_attempt has come, those that arrived first before the others, max_events at most, and says what became of each. One that fails again rests for longer and does not keep the others back. Several runs at once share the work. A cancel ends the run, keeps what was done and counts as an attempt of the event under way';

-- ---------------------------------------------------------------------------
-- Thin events
-- ---------------------------------------------------------------------------

-- The secret key goes to path, so it takes no more than a plain one: no host,
-- no query, no escape, no dot.  jsonb can not hold the escape \u0000, see read_payload.
CREATE VIEW stripe_portal.event_thin AS
SELECT e.id, e.livemode, e.account, e.created, e.type,
       related.object ->> 'type' AS object_type, e.object_id,
       substring(related.object ->> 'url' FROM '^/v1(?:/[A-Za-z0-9_-]+)+$') AS path,
       e.attempts, e.received_at
FROM stripe_portal.event AS e
CROSS JOIN LATERAL (SELECT replace(e.payload::text, '\u0000', '\ufffd')::jsonb -> 'related_object') AS related (object)
WHERE e.status = 'thin';

COMMENT ON VIEW stripe_portal.event_thin IS 'Thin events whose object has yet to be read from Stripe';
COMMENT ON COLUMN stripe_portal.event_thin.object_type IS 'What kind of object it is about, in Stripe''s words';
COMMENT ON COLUMN stripe_portal.event_thin.path IS 'Where Stripe''s API has the object, such as /v1/subscriptions/sub_…; NULL if the event has no related object, or its url is anything but a plain path below /v1/';

CREATE FUNCTION stripe_portal.settle_thin(
    event text, livemode boolean, account text, failure text DEFAULT NULL,
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_settle_thin';

COMMENT ON FUNCTION stripe_portal.settle_thin(text, boolean, text, text) IS
'Says of a thin event that its object was read and applied: calls its handlers, and it is applied; or, with a failure, why it could not be: it is failed with that error, and the next replay makes it thin again. outcome and error as in stripe_receive_webhook. An unknown event is error P0002, one that is not thin error 22023';
-- webhook: what kinds of events have come in.

CREATE VIEW stripe_portal.event_type WITH (security_invoker = true) AS
SELECT type, livemode, account, status, count(*) AS count, min(created) AS first, max(created) AS last
FROM stripe_portal.event
GROUP BY type, livemode, account, status;

COMMENT ON VIEW stripe_portal.event_type IS 'How many events of each type are in the ledger, by what became of them; a type that nothing here knows is ignored, and shows up here';
COMMENT ON COLUMN stripe_portal.event_type.first IS 'When the first of them happened, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.event_type.last IS 'When the last of them happened';
-- access: the one rule, for the portal, for triggers, for queries and policies.

-- What everybody asks.  No function of ours is in it: who may read the tables
-- may read the view.  Its time is that of the statement, which is the same in
-- parallel workers; days and months of grace are counted in UTC, so that the
-- answer does not hang on TimeZone.
CREATE VIEW stripe_portal.access WITH (security_invoker = true) AS
SELECT s.customer, s.livemode, s.account, r.flow, s.id AS subscription, s.status, r.product,
       CASE
           WHEN EXISTS (SELECT FROM stripe_portal.customer AS c
                        WHERE c.id = s.customer AND c.livemode = s.livemode AND c.account = s.account AND c.deleted)
               THEN 'customer_deleted'
           WHEN NOT r.allowed
               THEN 'allowed'
           WHEN r.grace IS NOT NULL AND coalesce(
                   (CASE WHEN s.status IN ('past_due', 'unpaid') THEN s.current_period_start
                         ELSE coalesce(s.ended_at, s.current_period_end) END AT TIME ZONE 'UTC') + r.grace
                   <= statement_timestamp() AT TIME ZONE 'UTC', true)
               THEN 'grace'
           -- flexible subscriptions set cancel_at only, so look at both
           WHEN r.cancel_scheduled <> (s.status NOT IN ('canceled', 'incomplete_expired')
                                       AND (s.cancel_at IS NOT NULL OR s.cancel_at_period_end))
               THEN 'cancel_scheduled'
           WHEN r.collection_paused <> (s.pause_collection IS NOT NULL)
               THEN 'collection_paused'
           WHEN r.trial <> (s.status = 'trialing'
                            OR (s.status NOT IN ('canceled', 'incomplete_expired')
                                AND coalesce(s.trial_end > statement_timestamp(), false)))
               THEN 'trial'
       END AS problem
FROM stripe_portal.subscription AS s
JOIN stripe_portal.access_rule AS r ON r.status = s.status
    AND (r.product = '' OR s.items @> jsonb_build_array(jsonb_build_object('product', r.product)));

COMMENT ON VIEW stripe_portal.access IS
'What the rule says of each subscription: one row for each row of access_rule that speaks of its status and of all products or one of its own. A customer is let through for a flow by one row without a problem';
COMMENT ON COLUMN stripe_portal.access.product IS 'Of the rule: empty is the general row';
COMMENT ON COLUMN stripe_portal.access.problem IS 'The first column of access_rule that is not met, or customer_deleted; NULL: this row lets the customer through';

CREATE FUNCTION @extschema@.stripe_is_active(
    customer text, flow text DEFAULT 'access', account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER COST 50 SUPPORT stripe_portal.plan_support
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_is_active';

COMMENT ON FUNCTION @extschema@.stripe_is_active(text, text, text, boolean) IS
'Whether the rule in stripe_portal.access_rule lets the customer through: at least one subscription is what a row for the flow allows, and the customer is not deleted. Never NULL: an unknown or NULL customer is not active. flow: access for your own features, portal for the plain portal, one of Stripe''s flow types, or one of your own that has a row in the rule; an unknown one is error 22023. The time that grace and trials are compared with is that of the statement. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_require_active()
RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_require_active';

COMMENT ON FUNCTION @extschema@.stripe_require_active() IS
'Row trigger for your own tables: CREATE TRIGGER … BEFORE INSERT OR UPDATE ON … FOR EACH ROW EXECUTE FUNCTION stripe_require_active(''customer_column'' [, ''flow'']). Refuses with SPA01 a row whose customer the rule does not let through, by the state that is committed at that moment';

-- A seeded row that somebody deleted would be back after a restore, and let
-- people in again; so it is switched, not deleted, and inserting a row that
-- exists sets it, which is what a restore does.
CREATE FUNCTION stripe_portal.access_rule_set()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.access_rule AS known
    SET allowed = NEW.allowed,
        grace = NEW.grace,
        cancel_scheduled = NEW.cancel_scheduled,
        collection_paused = NEW.collection_paused,
        trial = NEW.trial,
        seeded = known.seeded OR NEW.seeded
    WHERE known.flow = NEW.flow AND known.status = NEW.status AND known.product = NEW.product;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.access_rule_set() IS
'Makes an INSERT of a rule that exists set it';

CREATE TRIGGER access_rule_set
    BEFORE INSERT ON stripe_portal.access_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.access_rule_set();

CREATE FUNCTION stripe_portal.access_rule_keep()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'access rules that come with the extension cannot be deleted or renamed'
        USING ERRCODE = 'restrict_violation',
              HINT = 'Switch the rule off: UPDATE stripe_portal.access_rule SET allowed = false WHERE ….';
END
$$;

COMMENT ON FUNCTION stripe_portal.access_rule_keep() IS
'Keeps the rules complete: a missing one would come back with a restore';

CREATE TRIGGER access_rule_keep_row
    BEFORE DELETE ON stripe_portal.access_rule
    FOR EACH ROW WHEN (OLD.seeded)
    EXECUTE FUNCTION stripe_portal.access_rule_keep();

CREATE TRIGGER access_rule_keep_key
    BEFORE UPDATE ON stripe_portal.access_rule
    FOR EACH ROW WHEN (OLD.seeded AND (OLD.flow, OLD.status, OLD.product, true) <> (NEW.flow, NEW.status, NEW.product, NEW.seeded))
    EXECUTE FUNCTION stripe_portal.access_rule_keep();

CREATE TRIGGER access_rule_keep_all
    BEFORE TRUNCATE ON stripe_portal.access_rule
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.access_rule_keep();

COMMENT ON TABLE stripe_portal.access_rule IS 'What a subscription must be like to let its customer do what; change it with UPDATE';
COMMENT ON COLUMN stripe_portal.access_rule.flow IS 'access: your own features; portal: the plain portal; Stripe''s flow type; or a name of your own, for stripe_is_active and stripe_require_active';
COMMENT ON COLUMN stripe_portal.access_rule.status IS 'A subscription status of Stripe''s; one without a rule is refused';
COMMENT ON COLUMN stripe_portal.access_rule.allowed IS 'Whether one subscription of this status that meets the conditions is enough';
COMMENT ON COLUMN stripe_portal.access_rule.product IS 'Empty: the general row, for every subscription. Else only for those with an item of this product (prod_…, in either mode and on any account); it adds to the general row, so switch that off to let only some products through';
COMMENT ON COLUMN stripe_portal.access_rule.grace IS 'How long it still counts after the end of what was paid; NULL: without limit. The end is current_period_end, but current_period_start for past_due and unpaid, whose current period is the one that is not paid, and ended_at once there is one. A time that is unknown does not count';
COMMENT ON COLUMN stripe_portal.access_rule.cancel_scheduled IS 'false: only if no cancellation is scheduled (neither cancel_at nor cancel_at_period_end); true: only if one is; NULL: either way';
COMMENT ON COLUMN stripe_portal.access_rule.collection_paused IS 'false: only if payment collection is not paused (pause_collection); true: only if it is; NULL: either way';
COMMENT ON COLUMN stripe_portal.access_rule.trial IS 'false: only outside a trial; true: only in one (the status is trialing, or trial_end is to come); NULL: either way';
COMMENT ON COLUMN stripe_portal.access_rule.seeded IS 'Whether it came with the extension, and so can be switched off but not deleted';
-- portal: opening Stripe's customer portal.

CREATE FUNCTION @extschema@.stripe_portal_session(
    customer text, return_url text DEFAULT NULL, flow text DEFAULT NULL,
    subscription text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_portal_session';

COMMENT ON FUNCTION @extschema@.stripe_portal_session(text, text, text, text, jsonb) IS
'Opens Stripe''s customer portal for a customer and returns its URL, for an immediate redirect: it is valid for five minutes and lets whoever has it act as the customer. return_url: where the portal''s back link leads, else the setting stripe_portal.return_url. flow: NULL for the whole portal, or one of Stripe''s flow types, with its subscription where it needs one. options: any other parameter of Stripe''s session, such as configuration and locale. Refused by the rule: error SPA01, before any request leaves; bad arguments 22023; what Stripe answers, SP4xx and SP5xx';

CREATE FUNCTION stripe_portal.open_session(
    customer text, return_url text, flow text, subscription text, options jsonb)
RETURNS text
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_portal_session';

COMMENT ON FUNCTION stripe_portal.open_session(text, text, text, text, jsonb) IS
'stripe_portal_session, for other functions to call';

CREATE FUNCTION @extschema@.stripe_portal_open(
    customer text, return_url text DEFAULT NULL, flow text DEFAULT NULL,
    subscription text DEFAULT NULL, options jsonb DEFAULT '{}',
    OUT session uuid, OUT url text, OUT refused text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_portal_open';

COMMENT ON FUNCTION @extschema@.stripe_portal_open(text, text, text, text, jsonb) IS
'The same as stripe_portal_session, but a refusal by the rule is an answer and not an error, so that it stays in stripe_portal.session: refused is NULL, customer_unknown, customer_deleted or not_active, and url is NULL unless refused is';

CREATE FUNCTION stripe_portal.session_require_active()
RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_session_require_active';

COMMENT ON FUNCTION stripe_portal.session_require_active() IS
'Holds the rule for stripe_portal.session itself, so that no INSERT goes round it; this is also the second look that stripe_portal_session takes. Rows from before this transaction that a superuser inserts are history being restored, and pass';

CREATE TRIGGER session_require_active
    BEFORE INSERT OR UPDATE OF livemode, account, customer, flow, refused, created ON stripe_portal.session
    FOR EACH ROW WHEN (NEW.refused IS NULL)
    EXECUTE FUNCTION stripe_portal.session_require_active();

CREATE FUNCTION stripe_portal.check_return_url(url text)
RETURNS void
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stripe_check_return_url';

COMMENT ON FUNCTION stripe_portal.check_return_url(text) IS
'Raises error 22023 unless the URL is one that a session may lead back to';

COMMENT ON TABLE stripe_portal.session IS 'Portal sessions, opened and refused; never their URLs';
COMMENT ON COLUMN stripe_portal.session.flow IS 'portal for the whole portal, else Stripe''s flow type';
COMMENT ON COLUMN stripe_portal.session.stripe_id IS 'Stripe''s id of the session (bps_…); NULL if it was refused';
COMMENT ON COLUMN stripe_portal.session.refused IS 'Why it was refused: customer_unknown, customer_deleted or not_active; NULL if it was opened';
COMMENT ON COLUMN stripe_portal.session.opened_by IS 'The role that asked';

-- portal: declaring what the portal offers.

CREATE FUNCTION @extschema@.stripe_portal_configure(
    name text, cancel_flows boolean, plan_changes boolean, options jsonb DEFAULT '{}',
    return_url text DEFAULT NULL, is_default boolean DEFAULT NULL,
    account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- asked first, because it loads the library, and with it the settings
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    declared stripe_portal.configuration;
BEGIN
    declared.name := stripe_portal_configure.name;
    declared.livemode := coalesce(stripe_portal_configure.livemode, key_livemode);
    declared.account := coalesce(stripe_portal_configure.account, '');
    declared.cancel_flows := stripe_portal_configure.cancel_flows;
    declared.plan_changes := stripe_portal_configure.plan_changes;
    declared.options := jsonb_strip_nulls(coalesce(stripe_portal_configure.options, '{}'));
    declared.return_url := stripe_portal_configure.return_url;
    PERFORM stripe_portal.check_configuration(declared);

    IF NOT declared.cancel_flows AND NOT stripe_portal.has_winback(declared.livemode, declared.account) THEN
        IF current_setting('stripe_portal.require_winback')::boolean THEN
            RAISE EXCEPTION 'configuration "%" switches cancellation off while no win-back rule is active', name
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'Activate a rule in stripe_portal.winback_rule first, or set "stripe_portal.require_winback" to off.';
        END IF;
        RAISE WARNING 'configuration "%" switches cancellation off while no win-back rule is active', name
            USING HINT = 'Who can not cancel in the portal cancels elsewhere, and is won back by nobody.';
    END IF;

    -- The first one is what sessions use, until another one is said to be.
    declared.is_default := coalesce(
        stripe_portal_configure.is_default,
        (SELECT known.is_default
         FROM stripe_portal.configuration AS known
         WHERE (known.name, known.livemode, known.account) = (declared.name, declared.livemode, declared.account)),
        NOT EXISTS (SELECT FROM stripe_portal.configuration AS known
                    WHERE known.is_default
                      AND (known.livemode, known.account) = (declared.livemode, declared.account)));
    IF declared.is_default THEN
        UPDATE stripe_portal.configuration AS other
        SET is_default = false
        WHERE other.is_default AND other.name <> declared.name
          AND (other.livemode, other.account) = (declared.livemode, declared.account);
    END IF;

    INSERT INTO stripe_portal.configuration AS known (
        name, livemode, account, cancel_flows, plan_changes, options, return_url, is_default, declared_at)
    VALUES (
        declared.name, declared.livemode, declared.account, declared.cancel_flows, declared.plan_changes,
        declared.options, declared.return_url, declared.is_default, clock_timestamp())
    ON CONFLICT ON CONSTRAINT configuration_pkey DO UPDATE SET
        cancel_flows = excluded.cancel_flows,
        plan_changes = excluded.plan_changes,
        options = excluded.options,
        return_url = excluded.return_url,
        is_default = excluded.is_default,
        -- saying the same again declares nothing new
        declared_at = CASE
            WHEN (known.cancel_flows, known.plan_changes, known.options, known.return_url)
                 IS DISTINCT FROM (excluded.cancel_flows, excluded.plan_changes, excluded.options, excluded.return_url)
            THEN excluded.declared_at ELSE known.declared_at END;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_configure(text, boolean, boolean, jsonb, text, boolean, text, boolean) IS
'Declares a portal configuration; stripe_portal_configuration_apply brings it to Stripe, no request leaves here. name: yours, by which sessions ask for it, and Stripe''s name of it. cancel_flows, plan_changes: whether customers can cancel and change plans. options: every other parameter of Stripe''s configuration under its own name, such as features, business_profile, login_page and metadata; what is left out has a default, and what was declared before and is left out now goes back to it. return_url: of sessions that are opened without one; may have the placeholders of return URLs. is_default: whether sessions that name no configuration use this one; NULL leaves that as it is, and makes the first one of a mode and account the default. account: a connected account (acct_…). livemode: NULL is the mode of the configured key. Error 22023 for what Stripe would refuse, or what no customer could use; a warning, or with stripe_portal.require_winback an error, if cancellation is switched off while no win-back rule is active';

CREATE FUNCTION stripe_portal.has_winback(livemode boolean, account text)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found boolean := false;
BEGIN
    -- win-back is built on the portal, so its table is asked for by name only
    IF to_regclass('stripe_portal.winback_rule') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM stripe_portal.winback_rule AS r
                                WHERE r.active AND r.livemode = $1 AND r.account = $2)'
            INTO found
            USING has_winback.livemode, has_winback.account;
    END IF;
    RETURN found;
END
$$;

COMMENT ON FUNCTION stripe_portal.has_winback(boolean, text) IS
'Whether a win-back rule is active in the mode and account';

COMMENT ON TABLE stripe_portal.configuration IS 'Portal configurations as the team declares them, by stripe_portal_configure';
COMMENT ON COLUMN stripe_portal.configuration.name IS 'The team''s name of it, which sessions can ask for; also its name at Stripe';
COMMENT ON COLUMN stripe_portal.configuration.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.configuration.cancel_flows IS 'features.subscription_cancel.enabled';
COMMENT ON COLUMN stripe_portal.configuration.plan_changes IS 'features.subscription_update.enabled';
COMMENT ON COLUMN stripe_portal.configuration.options IS 'The other parameters, under Stripe''s names; only what was declared, without defaults';
COMMENT ON COLUMN stripe_portal.configuration.return_url IS 'Where sessions lead back to that are opened without a return URL; Stripe''s default_return_url, if it has no placeholders';
COMMENT ON COLUMN stripe_portal.configuration.is_default IS 'Whether sessions that name no configuration use this one, once it is applied; at most one per mode and account';
COMMENT ON COLUMN stripe_portal.configuration.declared_at IS 'When the declaration last changed';
COMMENT ON COLUMN stripe_portal.configuration.stripe_id IS 'Stripe''s id (bpc_…); NULL until it is applied';
COMMENT ON COLUMN stripe_portal.configuration.applied_at IS 'When Stripe last was found, or made, to be as declared; before declared_at if the declaration has changed since';
COMMENT ON SEQUENCE stripe_portal.configuration_refused IS 'Counts the configurations that Stripe refused to create, so that the next attempt has another idempotency key and not the old refusal';
-- portal: comparing declared configurations with Stripe's, and applying them.

CREATE FUNCTION stripe_portal.declared_configuration(name text, account text, livemode boolean)
RETURNS stripe_portal.configuration
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    declared stripe_portal.configuration;
BEGIN
    IF livemode <> key_livemode THEN
        RAISE EXCEPTION 'the configured Stripe API key is not for % mode', CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SPC01';
    END IF;
    SELECT known.* INTO declared
    FROM stripe_portal.configuration AS known
    WHERE known.name = declared_configuration.name AND known.livemode = key_livemode
      AND known.account = coalesce(declared_configuration.account, '');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no configuration "%" is declared in % mode', name,
                CASE WHEN key_livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Declare it by stripe_portal_configure.';
    END IF;
    RETURN declared;
END
$$;

COMMENT ON FUNCTION stripe_portal.declared_configuration(text, text, boolean) IS
'The declaration of that name in the mode of the configured key; error 22023 if there is none; SPC01 if livemode, unless NULL, is another mode';

CREATE FUNCTION stripe_portal.read_configuration(declared stripe_portal.configuration)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    connected CONSTANT text := nullif(declared.account, '');
    page jsonb;
    params jsonb := '{"active": true, "limit": 100, "expand": ["data.features.subscription_update.products"]}';
    found jsonb;
BEGIN
    IF declared.stripe_id IS NOT NULL THEN
        BEGIN
            RETURN stripe_portal.api('GET', '/v1/billing_portal/configurations/' || declared.stripe_id,
                                     '{"expand": ["features.subscription_update.products"]}', connected);
        EXCEPTION WHEN SQLSTATE 'SP404' THEN
            NULL; -- a restored dump may speak of another account's objects
        END;
    END IF;

    -- It may have been created by a transaction that did not live to tell.
    -- The oldest is the one; the list begins with the newest.
    LOOP
        page := stripe_portal.api('GET', '/v1/billing_portal/configurations', params, connected);
        found := coalesce((
            SELECT item
            FROM jsonb_array_elements(page -> 'data') WITH ORDINALITY AS data (item, n)
            WHERE item #>> '{metadata,stripe_portal}' = declared.name
            ORDER BY n DESC
            LIMIT 1), found);
        EXIT WHEN (page ->> 'has_more')::boolean IS NOT TRUE OR page #> '{data,-1,id}' IS NULL;
        params := params || jsonb_build_object('starting_after', page #> '{data,-1,id}');
    END LOOP;
    RETURN found;
END
$$;

COMMENT ON FUNCTION stripe_portal.read_configuration(stripe_portal.configuration) IS
'Stripe''s object of a declared configuration, read from the API with its products: by its id, else by the name in its metadata; NULL if there is none';

CREATE FUNCTION @extschema@.stripe_portal_configuration_diff(
    name text, account text DEFAULT '', livemode boolean DEFAULT NULL, from_mirror boolean DEFAULT false,
    OUT path text, OUT declared jsonb, OUT at_stripe jsonb)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    configuration CONSTANT stripe_portal.configuration := stripe_portal.declared_configuration(name, account, livemode);
BEGIN
    IF NOT from_mirror THEN
        RETURN QUERY
        SELECT array_to_string(d.path, '.'), stripe_portal.without_secrets(d.declared),
               stripe_portal.without_secrets(d.at_stripe)
        FROM stripe_portal.configuration_difference(
            configuration, stripe_portal.read_configuration(configuration)) AS d;
        RETURN;
    END IF;

    RETURN QUERY
    SELECT d.path, d.declared, d.at_stripe
    FROM stripe_portal.billing_portal_configuration AS known,
         stripe_portal.configuration_drift(configuration, known) AS d
    WHERE (known.id, known.livemode, known.account)
          = (configuration.stripe_id, configuration.livemode, configuration.account);
    IF NOT EXISTS (SELECT FROM stripe_portal.billing_portal_configuration AS known
                   WHERE (known.id, known.livemode, known.account)
                         = (configuration.stripe_id, configuration.livemode, configuration.account)) THEN
        RAISE EXCEPTION 'configuration "%" is not in the mirror', name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Apply it by stripe_portal_configuration_apply.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_configuration_diff(text, text, boolean, boolean) IS
'The fields in which a declared portal configuration and Stripe''s differ: path as Stripe names it, the value declared (defaults included) and the one at Stripe; no rows if nothing is to be applied. Asks Stripe, and changes nothing; with from_mirror, asks the mirrored object instead, without a request (error 55000 if there is none), and without the products of plan changes if they may have changed since they were read. account: as for stripe_portal_configure. livemode: NULL is the mode of the configured key, the only one that can be read; the other is error SPC01. Keys and secrets are cut from the values';

CREATE FUNCTION stripe_portal.configuration_request(declared stripe_portal.configuration, stripe jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parameters CONSTANT jsonb := stripe_portal.configuration_parameters(declared);
    field record;
    whole text[];
    value jsonb;
    request jsonb := '{}';
BEGIN
    FOR field IN
        -- to create one takes "enabled" of every feature, also where it is false
        SELECT f.path
        FROM stripe_portal.configuration_fields(parameters - 'active') AS f
        WHERE stripe IS NULL AND f.value NOT IN ('null', '[]')
          -- but for this one, which older versions of Stripe's API do not know
          AND NOT (f.path = '{features,subscription_pause,enabled}' AND f.value = 'false')
        UNION ALL
        SELECT d.path
        FROM stripe_portal.configuration_difference(declared, stripe) AS d
        WHERE stripe IS NOT NULL
    LOOP
        -- Stripe wants "enabled" or "type" with whatever is in these
        whole := CASE WHEN field.path[1:2] = '{features,payment_method_update}' THEN field.path[1:2]
                      WHEN field.path[1:3] IN ('{features,subscription_cancel,cancellation_reason}',
                                               '{features,subscription_pause,duration}') THEN field.path[1:3]
                      ELSE field.path END;
        value := coalesce(jsonb_strip_nulls(parameters #> whole), 'null');
        IF jsonb_typeof(value) = 'object' THEN
            -- what is empty and was so is left out
            SELECT jsonb_object_agg(e.key, CASE e.value WHEN '[]' THEN 'null' ELSE e.value END) INTO value
            FROM jsonb_each(parameters #> whole) AS e
            WHERE e.value NOT IN ('null', '[]') OR e.key = 'options'
               OR stripe #> (whole || e.key) NOT IN ('null', '[]');
        ELSIF value = '[]' THEN
            value := 'null'; -- which clears it, while an empty list says nothing
        END IF;
        FOR step IN REVERSE cardinality(whole) .. 1 LOOP
            value := jsonb_build_object(whole[step], value);
        END LOOP;
        request := stripe_portal.put_back(request, value);
    END LOOP;
    RETURN request;
END
$$;

COMMENT ON FUNCTION stripe_portal.configuration_request(stripe_portal.configuration, jsonb) IS
'The parameters that make Stripe''s object as declared: of those that differ, and where Stripe wants it their whole hash; all of them to create one, if there is none (NULL). {} if nothing differs';

CREATE FUNCTION @extschema@.stripe_portal_configuration_apply(
    name text, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    expand CONSTANT jsonb := '{"expand": ["features.subscription_update.products"]}';
    declared stripe_portal.configuration := stripe_portal.declared_configuration(name, account, livemode);
    stripe jsonb;
    request jsonb;
    left_over text;
BEGIN
    -- Nobody waits for this lock, and it is held until what was done is
    -- committed, so that the next one sees it.
    IF NOT pg_try_advisory_xact_lock(hashtextextended(
            format('stripe_portal.configuration %L %s %L', declared.name, declared.livemode, declared.account), 0)) THEN
        RAISE EXCEPTION 'configuration "%" is being applied by another session', name
            USING ERRCODE = 'lock_not_available',
                  HINT = 'Try again when that transaction has ended.';
    END IF;
    declared := stripe_portal.declared_configuration(name, account, livemode);

    stripe := stripe_portal.read_configuration(declared);
    request := stripe_portal.configuration_request(declared, stripe);
    IF stripe IS NULL THEN
        -- An attempt whose answer was lost, or one from another database, has
        -- the same key, and Stripe makes one object of both.  A refusal would
        -- be repeated for the same key, too, so it makes the next key another.
        BEGIN
            stripe := stripe_portal.api(
                'POST', '/v1/billing_portal/configurations', request || expand, nullif(declared.account, ''),
                'stripe_portal-' || encode(sha256(convert_to(concat_ws(' ',
                    declared.livemode, extract(epoch FROM declared.declared_at), request,
                    (SELECT s.last_value + s.is_called::integer FROM stripe_portal.configuration_refused AS s)),
                    'UTF8')), 'hex'));
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE LIKE 'SP%' THEN
                PERFORM nextval('stripe_portal.configuration_refused');
            END IF;
            RAISE;
        END;
    ELSIF request <> '{}' THEN
        stripe := stripe_portal.api(
            'POST', '/v1/billing_portal/configurations/' || (stripe ->> 'id'), request || expand,
            nullif(declared.account, ''));
    END IF;

    IF stripe ->> 'id' IS NULL OR stripe -> 'livemode' IS DISTINCT FROM to_jsonb(declared.livemode) THEN
        RAISE EXCEPTION 'Stripe''s answer is not a portal configuration in % mode',
                CASE WHEN declared.livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SP502';
    END IF;
    PERFORM stripe_portal.apply_object(stripe, declared.livemode, declared.account,
                                       stripe_portal.read_time(stripe -> 'updated'));
    UPDATE stripe_portal.configuration AS known
    SET stripe_id = stripe ->> 'id',
        applied_at = CASE WHEN known.declared_at = declared.declared_at THEN clock_timestamp() ELSE known.applied_at END
    WHERE (known.name, known.livemode, known.account) = (declared.name, declared.livemode, declared.account);

    SELECT string_agg(array_to_string(d.path, '.'), ', ') INTO left_over
    FROM stripe_portal.configuration_difference(declared, stripe) AS d;
    IF left_over IS NOT NULL THEN
        RAISE WARNING 'configuration "%" is not as declared after it was applied', name
            USING DETAIL = format('Stripe kept its own value of %s.', left_over);
    END IF;
    RETURN stripe ->> 'id';
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_configuration_apply(text, text, boolean) IS
'Makes Stripe''s portal configuration as declared and returns its id (bpc_…): sends only the fields that differ, nothing if none does, and creates the object if there is none. It finds it again by its metadata if the id was lost with a transaction. account: as for stripe_portal_configure. livemode: NULL is the mode of the configured key; the other is error SPC01. Error 55P03 if another session is applying the same configuration; 22023 if it is not declared. What was done at Stripe is not undone when the transaction is rolled back; calling again then takes it over. Give each call its own transaction, so that the next one''s request is not waited for by others';
-- portal: what is wrong with a declared configuration, told before Stripe is
-- asked.  What is not known here passes, since Stripe adds to it every month;
-- only what looks like a known parameter misspelt does not.

CREATE FUNCTION stripe_portal.configuration_parameter(OUT path text, OUT kind text, OUT words text[])
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES
        ('name', 'argument', '{name}'::text[]),
        ('default_return_url', 'argument', '{return_url}'),
        ('active', 'ours', NULL),
        ('expand', 'ours', NULL),
        ('business_profile', 'hash', NULL),
        ('business_profile.headline', 'text', NULL),
        ('business_profile.privacy_policy_url', 'url', NULL),
        ('business_profile.terms_of_service_url', 'url', NULL),
        ('login_page', 'hash', NULL),
        ('login_page.enabled', 'boolean', NULL),
        ('metadata', 'metadata', NULL),
        ('features', 'hash', NULL),
        ('features.customer_update', 'hash', NULL),
        ('features.customer_update.enabled', 'boolean', NULL),
        ('features.customer_update.allowed_updates', 'words', '{address,email,name,phone,shipping,tax_id}'),
        ('features.invoice_history', 'hash', NULL),
        ('features.invoice_history.enabled', 'boolean', NULL),
        ('features.payment_method_update', 'hash', NULL),
        ('features.payment_method_update.enabled', 'boolean', NULL),
        ('features.payment_method_update.payment_method_configuration', 'text', NULL),
        ('features.subscription_cancel', 'hash', NULL),
        ('features.subscription_cancel.enabled', 'argument', '{cancel_flows}'),
        ('features.subscription_cancel.mode', 'word', '{at_period_end,immediately}'),
        -- always_invoice is in Stripe's list, and refused
        ('features.subscription_cancel.proration_behavior', 'word', '{create_prorations,none}'),
        ('features.subscription_cancel.cancellation_reason', 'hash', NULL),
        ('features.subscription_cancel.cancellation_reason.enabled', 'boolean', NULL),
        ('features.subscription_cancel.cancellation_reason.options', 'words',
         '{customer_service,low_quality,missing_features,other,switched_service,too_complex,too_expensive,unused}'),
        ('features.subscription_cancel.cancellation_reason.feedback_options', 'texts', NULL),
        ('features.subscription_pause', 'hash', NULL),
        ('features.subscription_pause.enabled', 'boolean', NULL),
        ('features.subscription_pause.duration', 'hash', NULL),
        ('features.subscription_pause.duration.type', 'word', '{indefinite,interval_options}'),
        ('features.subscription_pause.duration.interval_options', 'list', '{interval}'),
        ('features.subscription_pause.duration.interval_options.interval', 'word', '{day,week,month,year}'),
        ('features.subscription_pause.duration.interval_options.interval_count', 'integer', NULL),
        ('features.subscription_update', 'hash', NULL),
        ('features.subscription_update.enabled', 'argument', '{plan_changes}'),
        ('features.subscription_update.default_allowed_updates', 'words', '{price,promotion_code,quantity}'),
        ('features.subscription_update.products', 'list', '{product,prices}'),
        ('features.subscription_update.products.product', 'text', NULL),
        ('features.subscription_update.products.prices', 'texts', NULL),
        ('features.subscription_update.products.adjustable_quantity', 'hash', '{enabled}'),
        ('features.subscription_update.products.adjustable_quantity.enabled', 'boolean', NULL),
        ('features.subscription_update.products.adjustable_quantity.minimum', 'integer', NULL),
        ('features.subscription_update.products.adjustable_quantity.maximum', 'integer', NULL),
        ('features.subscription_update.proration_behavior', 'word', '{always_invoice,create_prorations,none}'),
        ('features.subscription_update.billing_cycle_anchor', 'word', '{now,unchanged}'),
        ('features.subscription_update.schedule_at_period_end', 'hash', NULL),
        ('features.subscription_update.schedule_at_period_end.conditions', 'list', '{type}'),
        ('features.subscription_update.schedule_at_period_end.conditions.type', 'word',
         '{decreasing_item_amount,shortening_interval}'),
        ('features.subscription_update.trial_update_behavior', 'word', '{continue_trial,end_trial}')
$$;

COMMENT ON FUNCTION stripe_portal.configuration_parameter() IS
'The known parameters of Stripe''s portal configuration. kind: argument for those that an argument of stripe_portal_configure decides, which words names; ours for those that nobody else decides; word or words with the values there are in words; hash and list with the required keys in words; else the type of the value';

CREATE FUNCTION stripe_portal.edit_distance(a text, b text)
RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_edit_distance';

COMMENT ON FUNCTION stripe_portal.edit_distance(text, text) IS
'How many characters to insert, delete or replace to make one name (at most 255 characters) of the other';

CREATE FUNCTION stripe_portal.refuse_configuration(problem text, hint text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hint IS NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RAISE EXCEPTION '%', problem USING ERRCODE = 'invalid_parameter_value', HINT = hint;
END
$$;

COMMENT ON FUNCTION stripe_portal.refuse_configuration(text, text) IS
'Raises error 22023';

CREATE FUNCTION stripe_portal.check_configuration_option(path text, value jsonb, known_parent boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last CONSTANT text := regexp_replace(path, '^.*\.', '');
    parent CONSTANT text := left(path, -length(last));
    parameter record;
    meant text;
    problem text;
    element jsonb;
    entry record;
BEGIN
    SELECT p.* INTO parameter
    FROM stripe_portal.configuration_parameter() AS p
    WHERE p.path = check_configuration_option.path;

    IF NOT FOUND THEN
        -- one of these could make another parameter of it
        IF last !~ '^[a-z][a-z0-9_]{0,62}$' THEN
            PERFORM stripe_portal.refuse_configuration(format('option "%s" is not a name of a parameter', path));
        END IF;
        IF known_parent THEN
            SELECT p.path INTO meant
            FROM stripe_portal.configuration_parameter() AS p,
                 regexp_replace(p.path, '^.*\.', '') AS known (key)
            WHERE (left(p.path, -length(known.key)) = parent
                   AND stripe_portal.edit_distance(known.key, last) <= 2)
               -- right, but not here
               OR (parent IN ('', 'features.') AND known.key = last)
            ORDER BY stripe_portal.edit_distance(known.key, last), length(p.path)
            LIMIT 1;
            IF FOUND THEN
                PERFORM stripe_portal.refuse_configuration(
                    format('option "%s" is not known', path), format('Perhaps you mean "%s".', meant));
            END IF;
        END IF;
        -- a parameter of later: its names have to be names all the same
        FOR entry IN SELECT e.key, e.value
                     FROM jsonb_path_query(value, 'strict $.** ? (@.type() == "object")') AS hash, jsonb_each(hash) AS e
        LOOP
            PERFORM stripe_portal.check_configuration_option(path || '.' || replace(entry.key, '.', ' '), 'null', false);
        END LOOP;
        RETURN;
    END IF;

    CASE parameter.kind
        WHEN 'argument' THEN
            PERFORM stripe_portal.refuse_configuration(
                format('options must not have "%s"', path),
                format('The argument "%s" decides that.', parameter.words[1]));
        WHEN 'ours' THEN
            PERFORM stripe_portal.refuse_configuration(format('options must not have "%s"', path));
        WHEN 'hash' THEN
            IF jsonb_typeof(value) <> 'object' THEN
                problem := 'a JSON object';
            ELSIF NOT value ?& coalesce(parameter.words, '{}') THEN
                problem := format('a JSON object with "%s"', array_to_string(parameter.words, '" and "'));
            ELSE
                FOR entry IN SELECT e.key, e.value FROM jsonb_each(value) AS e LOOP
                    PERFORM stripe_portal.check_configuration_option(
                        path || '.' || replace(entry.key, '.', ' '), entry.value, true);
                END LOOP;
            END IF;
        WHEN 'list' THEN
            IF jsonb_typeof(value) <> 'array' THEN
                problem := 'a list of JSON objects';
            ELSE
                FOR element IN SELECT jsonb_array_elements(value) LOOP
                    IF jsonb_typeof(element) <> 'object' OR NOT element ?& parameter.words THEN
                        problem := format('a list of JSON objects with "%s"',
                                          array_to_string(parameter.words, '" and "'));
                        EXIT;
                    END IF;
                    FOR entry IN SELECT e.key, e.value FROM jsonb_each(element) AS e LOOP
                        PERFORM stripe_portal.check_configuration_option(
                            path || '.' || replace(entry.key, '.', ' '), entry.value, true);
                    END LOOP;
                END LOOP;
            END IF;
        WHEN 'metadata' THEN
            -- one more is ours
            IF jsonb_typeof(value) <> 'object' OR (SELECT count(*) FROM jsonb_object_keys(value)) > 49 THEN
                problem := 'a JSON object with at most 49 keys';
            ELSIF value ? 'stripe_portal' THEN
                PERFORM stripe_portal.refuse_configuration('options must not have "metadata.stripe_portal"');
            ELSIF EXISTS (SELECT FROM jsonb_each(value) AS e
                          WHERE length(e.key) NOT BETWEEN 1 AND 40 OR e.key ~ '[][[:cntrl:]]'
                             OR jsonb_typeof(e.value) <> 'string' OR length(e.value #>> '{}') NOT BETWEEN 1 AND 500) THEN
                problem := 'a JSON object with keys of 1 to 40 characters without brackets, and strings of 1 to 500 characters';
            END IF;
        WHEN 'word' THEN
            IF jsonb_typeof(value) <> 'string' OR value #>> '{}' <> ALL (parameter.words) THEN
                problem := 'one of ' || array_to_string(parameter.words, ', ');
            END IF;
        WHEN 'words' THEN
            IF jsonb_typeof(value) <> 'array' OR NOT value <@ to_jsonb(parameter.words)
               OR (SELECT count(*) <> count(DISTINCT w) FROM jsonb_array_elements(value) AS w) THEN
                problem := 'a list of ' || array_to_string(parameter.words, ', ') || ', each at most once';
            END IF;
        WHEN 'texts' THEN
            IF jsonb_typeof(value) <> 'array'
               OR EXISTS (SELECT FROM jsonb_array_elements(value) AS t
                          WHERE jsonb_typeof(t) <> 'string' OR t = '""')
               OR (SELECT count(*) <> count(DISTINCT t) FROM jsonb_array_elements(value) AS t) THEN
                problem := 'a list of strings, each at most once';
            END IF;
        WHEN 'boolean' THEN
            IF jsonb_typeof(value) <> 'boolean' THEN
                problem := 'true or false';
            END IF;
        WHEN 'integer' THEN
            IF jsonb_typeof(value) <> 'number' OR value::text !~ '^[0-9]{1,9}$' THEN
                problem := 'a whole number, not negative';
            END IF;
        WHEN 'text' THEN
            IF jsonb_typeof(value) <> 'string' OR value = '""' THEN
                problem := 'a string that is not empty';
            END IF;
        WHEN 'url' THEN
            IF jsonb_typeof(value) <> 'string' OR value #>> '{}' !~ '^https?://[^/?#[:space:][:cntrl:]]+[^[:space:][:cntrl:]]*$' THEN
                problem := 'an absolute URL';
            END IF;
    END CASE;
    IF problem IS NOT NULL THEN
        PERFORM stripe_portal.refuse_configuration(format('option "%s" must be %s', path, problem));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_configuration_option(text, jsonb, boolean) IS
'Raises error 22023 if a parameter has the wrong type or value, or is unknown and looks like a known one; known_parent says that the hash it is in is a known one, and calls for the latter';

CREATE FUNCTION stripe_portal.check_configuration_prices(
    products jsonb, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    -- Prices that are not known here are Stripe's business.
    WITH listed AS (
        SELECT entry.value ->> 'product' AS product, price.id
        FROM jsonb_array_elements(products) AS entry, jsonb_array_elements_text(entry.value -> 'prices') AS price (id)
    )
    SELECT format('price "%s" can not be offered: %s', listed.id, p.problem) INTO problem
    FROM listed
    JOIN stripe_portal.price AS known
        ON known.id = listed.id AND known.livemode = check_configuration_prices.livemode
        AND known.account = check_configuration_prices.account,
    LATERAL (SELECT CASE
        WHEN known.deleted OR NOT known.active THEN 'it is not active'
        WHEN known.type <> 'recurring' THEN 'it is not recurring'
        WHEN known.product <> listed.product THEN
            format('it belongs to product "%s", not to "%s"', known.product, listed.product)
        WHEN known.usage_type <> 'licensed' THEN 'it depends on usage'
        WHEN known.tax_behavior = 'unspecified' THEN 'its tax_behavior is unspecified'
        WHEN (SELECT count(*) FROM listed AS l
              JOIN stripe_portal.price AS k ON (k.id, k.livemode, k.account) = (l.id, known.livemode, known.account)
              WHERE l.product = listed.product
                AND (k."interval", k.interval_count) = (known."interval", known.interval_count)) > 1 THEN
            format('product "%s" has another one with the same interval', listed.product)
        END) AS p (problem)
    WHERE p.problem IS NOT NULL
    ORDER BY listed.id
    LIMIT 1;
    IF FOUND THEN
        PERFORM stripe_portal.refuse_configuration(problem);
    END IF;

    SELECT format('product "%s" is not active', known.id) INTO problem
    FROM jsonb_array_elements(products) AS entry
    JOIN stripe_portal.product AS known
        ON known.id = entry.value ->> 'product' AND known.livemode = check_configuration_prices.livemode
        AND known.account = check_configuration_prices.account
    WHERE known.deleted OR NOT known.active
    ORDER BY known.id
    LIMIT 1;
    IF FOUND THEN
        PERFORM stripe_portal.refuse_configuration(problem);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_configuration_prices(jsonb, boolean, text) IS
'Raises error 22023 if a product or price that is known here could not be offered for a change of plans';

CREATE FUNCTION stripe_portal.check_configuration(declared stripe_portal.configuration)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    features jsonb;
    update_feature jsonb;
    pause jsonb;
    option record;
BEGIN
    IF coalesce(declared.name, '') !~ '^[^[:space:][:cntrl:]]([^[:cntrl:]]{0,98}[^[:space:][:cntrl:]])?$'
       OR declared.name LIKE 'bpc\_%' THEN
        PERFORM stripe_portal.refuse_configuration(
            'a configuration needs a name of 1 to 100 characters',
            'It must not begin or end with a space, nor begin with "bpc_", as Stripe''s ids do.');
    END IF;
    IF declared.account !~ '^(acct_[A-Za-z0-9_]+)?$' THEN
        PERFORM stripe_portal.refuse_configuration('argument "account" must be the id of a connected account');
    END IF;
    IF declared.cancel_flows IS NULL OR declared.plan_changes IS NULL THEN
        PERFORM stripe_portal.refuse_configuration('cancel_flows and plan_changes must be true or false');
    END IF;
    IF jsonb_typeof(declared.options) <> 'object' THEN
        PERFORM stripe_portal.refuse_configuration('options must be a JSON object');
    END IF;
    IF declared.return_url IS NOT NULL THEN
        PERFORM stripe_portal.check_return_url(declared.return_url);
    END IF;
    FOR option IN SELECT e.key, e.value FROM jsonb_each(declared.options) AS e LOOP
        PERFORM stripe_portal.check_configuration_option(replace(option.key, '.', ' '), option.value, true);
    END LOOP;

    -- From here on types and words are right; now what belongs together.
    features := stripe_portal.configuration_parameters(declared) -> 'features';
    update_feature := features -> 'subscription_update';
    IF declared.plan_changes AND features #> '{payment_method_update,enabled}' = 'false' THEN
        PERFORM stripe_portal.refuse_configuration(
            'plan changes need payment method updates',
            'Leave out "features.payment_method_update", or set plan_changes to false.');
    END IF;
    IF features #> '{customer_update,enabled}' = 'true' AND features #> '{customer_update,allowed_updates}' = '[]' THEN
        PERFORM stripe_portal.refuse_configuration('"features.customer_update" is enabled and allows no updates');
    END IF;
    IF features #> '{subscription_cancel,cancellation_reason,enabled}' = 'true'
       AND features #> '{subscription_cancel,cancellation_reason,options}' = '[]'
       AND features #> '{subscription_cancel,cancellation_reason,feedback_options}' = '[]' THEN
        PERFORM stripe_portal.refuse_configuration('there is no cancellation reason to choose from');
    END IF;
    IF features #>> '{payment_method_update,payment_method_configuration}' NOT LIKE 'pmc\_%' THEN
        PERFORM stripe_portal.refuse_configuration(
            'option "features.payment_method_update.payment_method_configuration" must be an id (pmc_…)');
    END IF;

    pause := features #> '{subscription_pause,duration}';
    IF pause ->> 'type' = 'indefinite'
       AND declared.options #> '{features,subscription_pause,duration,interval_options}' IS NOT NULL THEN
        PERFORM stripe_portal.refuse_configuration('an indefinite pause has no interval options');
    END IF;
    IF pause ->> 'type' = 'interval_options' AND pause -> 'interval_options' = '[]' THEN
        PERFORM stripe_portal.refuse_configuration('there is no interval for a pause to choose from');
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(pause -> 'interval_options') AS o,
                   LATERAL (SELECT (o ->> 'interval_count')::integer) AS c (n)
               WHERE c.n < 1 OR c.n > CASE o ->> 'interval' WHEN 'day' THEN 1095 WHEN 'week' THEN 156
                                                            WHEN 'month' THEN 36 ELSE 3 END) THEN
        PERFORM stripe_portal.refuse_configuration('an interval of a pause must be at least 1 and at most 3 years');
    END IF;

    IF jsonb_array_length(update_feature -> 'products') > 10 THEN
        PERFORM stripe_portal.refuse_configuration('at most 10 products can be offered');
    END IF;
    IF (SELECT count(*) <> count(DISTINCT p -> 'product')
        FROM jsonb_array_elements(update_feature -> 'products') AS p) THEN
        PERFORM stripe_portal.refuse_configuration(
            'a product is listed twice', 'List it once, with all its prices.');
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(update_feature -> 'products') AS p WHERE p -> 'prices' = '[]') THEN
        PERFORM stripe_portal.refuse_configuration('a product has no prices');
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(update_feature -> 'products') AS p
               WHERE (p #>> '{adjustable_quantity,maximum}')::integer
                     < greatest((p #>> '{adjustable_quantity,minimum}')::integer, 1)) THEN
        PERFORM stripe_portal.refuse_configuration('the maximum of a quantity must not be less than its minimum, or 0');
    END IF;
    PERFORM stripe_portal.check_configuration_prices(update_feature -> 'products', declared.livemode, declared.account);

    IF declared.plan_changes AND '[]' IN (update_feature -> 'products', update_feature -> 'default_allowed_updates') THEN
        RAISE WARNING 'plan changes are switched on, but there is nothing that customers can change'
            USING HINT = 'List products with their prices in "features.subscription_update.products".';
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_configuration(stripe_portal.configuration) IS
'Raises error 22023 for what Stripe would refuse of a declared configuration, or what no customer could use';
-- portal: what a declaration stands for, and how what Stripe has differs.

CREATE FUNCTION stripe_portal.configuration_parameters(declared stripe_portal.configuration)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    defaults CONSTANT jsonb := '{
        "business_profile": {"headline": null, "privacy_policy_url": null, "terms_of_service_url": null},
        "login_page": {"enabled": false},
        "features": {
            "customer_update": {"enabled": false, "allowed_updates": []},
            "invoice_history": {"enabled": true},
            "payment_method_update": {"enabled": true, "payment_method_configuration": null},
            "subscription_cancel": {
                "mode": "at_period_end", "proration_behavior": "none",
                "cancellation_reason": {"enabled": true, "feedback_options": [],
                    "options": ["too_expensive", "missing_features", "switched_service", "unused",
                                "customer_service", "too_complex", "low_quality", "other"]}},
            "subscription_pause": {"enabled": false},
            "subscription_update": {
                "default_allowed_updates": [], "products": [], "proration_behavior": "none",
                "schedule_at_period_end": {"conditions": []}, "trial_update_behavior": "end_trial"}}}';
    features CONSTANT jsonb := declared.options -> 'features';
    -- defaults that depend on what is declared beside them
    derived CONSTANT jsonb := jsonb_strip_nulls(jsonb_build_object(
        'customer_update', CASE WHEN features #> '{customer_update,enabled}' = 'true' THEN
            '{"allowed_updates": ["address", "email", "name", "phone", "shipping", "tax_id"]}'::jsonb END,
        'subscription_pause', CASE
            WHEN features #>> '{subscription_pause,duration,type}' = 'indefinite' THEN NULL
            WHEN features ? 'subscription_pause' THEN
            '{"duration": {"type": "interval_options", "interval_options": [{"interval": "month"}]}}'::jsonb END,
        'subscription_update', CASE WHEN features #> '{subscription_update,products}' <> '[]' THEN
            '{"default_allowed_updates": ["price"]}'::jsonb END));
    switches CONSTANT jsonb := jsonb_build_object(
        'active', true,
        'name', declared.name,
        -- placeholders are filled in when a session is opened
        'default_return_url', CASE WHEN declared.return_url !~ '[{}]' THEN declared.return_url END,
        -- by this it is found again if its id was lost before it was stored
        'metadata', jsonb_build_object('stripe_portal', declared.name),
        'features', jsonb_build_object(
            'subscription_cancel', jsonb_build_object('enabled', declared.cancel_flows),
            'subscription_update', jsonb_build_object('enabled', declared.plan_changes)));
    result jsonb := stripe_portal.put_back(stripe_portal.put_back(stripe_portal.put_back(
        defaults, jsonb_build_object('features', derived)), declared.options), switches);
BEGIN
    -- what Stripe fills in within lists
    IF result #> '{features,subscription_pause,duration,interval_options}' IS NOT NULL THEN
        result := jsonb_set(result, '{features,subscription_pause,duration,interval_options}', (
            SELECT coalesce(jsonb_agg('{"interval_count": 1}' || o ORDER BY n), '[]')
            FROM jsonb_array_elements(result #> '{features,subscription_pause,duration,interval_options}')
                WITH ORDINALITY AS options (o, n)));
    END IF;
    RETURN jsonb_set(result, '{features,subscription_update,products}', (
        SELECT coalesce(jsonb_agg(p || jsonb_build_object('adjustable_quantity',
                   CASE WHEN p #> '{adjustable_quantity,enabled}' = 'true'
                        THEN '{"minimum": 1}' || (p -> 'adjustable_quantity')
                        ELSE '{"enabled": false}' END) ORDER BY n), '[]')
        FROM jsonb_array_elements(result #> '{features,subscription_update,products}')
            WITH ORDINALITY AS products (p, n)));
END
$$;

COMMENT ON FUNCTION stripe_portal.configuration_parameters(stripe_portal.configuration) IS
'All parameters of Stripe''s configuration that a declaration stands for, with defaults for what it leaves out; null and [] for what is to be empty';

CREATE FUNCTION stripe_portal.configuration_fields(tree jsonb, OUT path text[], OUT value jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE node (path, value) AS (
        SELECT '{}'::text[], tree
        UNION ALL
        SELECT node.path || e.key, e.value
        FROM node, jsonb_each(CASE jsonb_typeof(node.value) WHEN 'object' THEN node.value ELSE '{}' END) AS e
    )
    SELECT node.path, node.value
    FROM node
    WHERE jsonb_typeof(node.value) <> 'object'
$$;

COMMENT ON FUNCTION stripe_portal.configuration_fields(jsonb) IS
'The fields of nested objects, each with its path; a list is one field';

-- Lists are sets to Stripe, and grow keys with its versions.
CREATE FUNCTION stripe_portal.comparable_field(path text[], value jsonb, declared jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        -- what is not there is as good as empty
        WHEN value IN ('null', '[]', 'false', '""') THEN NULL
        WHEN jsonb_typeof(value) <> 'array' THEN value
        WHEN path = '{features,subscription_update,products}' THEN (
            SELECT jsonb_agg(jsonb_build_object(
                       'product', p -> 'product',
                       'prices', (SELECT jsonb_agg(price ORDER BY price) FROM jsonb_array_elements(p -> 'prices') AS price),
                       'quantity', CASE WHEN p #> '{adjustable_quantity,enabled}' = 'true'
                                        THEN jsonb_build_array(p #> '{adjustable_quantity,minimum}',
                                                               p #> '{adjustable_quantity,maximum}') END)
                       ORDER BY p -> 'product')
            FROM jsonb_array_elements(value) AS p)
        ELSE (
            SELECT jsonb_agg(element ORDER BY element)
            FROM jsonb_array_elements(value) AS e,
                 LATERAL (SELECT CASE jsonb_typeof(e) WHEN 'object' THEN (
                              SELECT jsonb_object_agg(member.key, member.value)
                              FROM jsonb_each(e) AS member
                              WHERE jsonb_typeof(declared) <> 'array' OR declared = '[]'
                                 OR jsonb_path_exists(declared, '$[*].keyvalue() ? (@.key == $key)',
                                                      jsonb_build_object('key', member.key)))
                          ELSE e END) AS reduced (element))
        END
$$;

COMMENT ON FUNCTION stripe_portal.comparable_field(text[], jsonb, jsonb) IS
'A field''s value in the form in which two can be compared: lists in one order and without keys that no declared element has, and NULL for what is empty';

CREATE FUNCTION stripe_portal.configuration_difference(
    configuration stripe_portal.configuration, stripe jsonb, OUT path text[], OUT declared jsonb, OUT at_stripe jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH field AS (
        SELECT f.path, f.value AS declared, stripe #> f.path AS at_stripe
        FROM stripe_portal.configuration_fields(stripe_portal.configuration_parameters(configuration)) AS f
        UNION ALL
        -- metadata is the team's own: what is declared, and nothing else
        SELECT ARRAY['metadata', m.key], NULL, m.value
        FROM jsonb_each(CASE jsonb_typeof(stripe -> 'metadata') WHEN 'object' THEN stripe -> 'metadata' ELSE '{}' END) AS m
        WHERE m.key <> 'stripe_portal' AND NOT coalesce(configuration.options -> 'metadata', '{}') ? m.key
    )
    SELECT f.path, f.declared, f.at_stripe
    FROM field AS f
    WHERE stripe_portal.comparable_field(f.path, f.declared, f.declared)
          IS DISTINCT FROM stripe_portal.comparable_field(f.path, f.at_stripe, f.declared)
      -- a list of products that is not known is not an empty one
      AND NOT (f.path = '{features,subscription_update,products}' AND f.at_stripe IS NULL AND stripe IS NOT NULL)
    ORDER BY f.path
$$;

COMMENT ON FUNCTION stripe_portal.configuration_difference(stripe_portal.configuration, jsonb) IS
'The fields in which Stripe''s object differs from a declaration; of no object (NULL), all that are not empty. Other than metadata, what Stripe has and the declaration does not speak of is no difference';

CREATE FUNCTION stripe_portal.without_secrets(value jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(value::text, '((sk|rk)_(test|live|org)_|whsec_)[A-Za-z0-9_]+', '\1…', 'g')::jsonb;

COMMENT ON FUNCTION stripe_portal.without_secrets(jsonb) IS
'The value with Stripe''s keys and webhook secrets cut, wherever somebody has put one';

-- It looks at nothing but its arguments; the rights of the owner are there so
-- that who reads the view needs those on this one function only.
CREATE FUNCTION stripe_portal.configuration_drift(
    configuration stripe_portal.configuration, known stripe_portal.billing_portal_configuration,
    OUT path text, OUT declared jsonb, OUT at_stripe jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_to_string(d.path, '.'), stripe_portal.without_secrets(d.declared), stripe_portal.without_secrets(d.at_stripe)
    FROM stripe_portal.configuration_difference(configuration, jsonb_build_object(
        'active', known.active, 'name', known.name, 'business_profile', known.business_profile,
        'default_return_url', known.default_return_url, 'login_page', known.login_page, 'metadata', known.metadata,
        'features', CASE WHEN known.products_updated = known.updated
                         THEN jsonb_set(known.features, '{subscription_update,products}', known.products)
                         ELSE known.features END)) AS d
$$;

COMMENT ON FUNCTION stripe_portal.configuration_drift(stripe_portal.configuration, stripe_portal.billing_portal_configuration) IS
'The fields in which the mirrored object differs from a declaration, for the view of that name; the products of plan changes only if they are current';

CREATE VIEW stripe_portal.configuration_drift WITH (security_invoker = true) AS
SELECT configuration.name,
       configuration.livemode,
       configuration.account,
       configuration.stripe_id,
       field.path,
       field.declared,
       field.at_stripe,
       known.updated
FROM stripe_portal.configuration
JOIN stripe_portal.billing_portal_configuration AS known
    ON known.id = configuration.stripe_id AND known.livemode = configuration.livemode
    AND known.account = configuration.account,
LATERAL stripe_portal.configuration_drift(configuration, known) AS field;

COMMENT ON VIEW stripe_portal.configuration_drift IS 'Where Stripe''s configuration is not as declared, by what its events and the last read said: a change by hand in the Dashboard, or a declaration that is not applied yet; who reads it needs EXECUTE on the function of the same name';
COMMENT ON COLUMN stripe_portal.configuration_drift.path IS 'The field, as Stripe names it: features.subscription_cancel.mode';
COMMENT ON COLUMN stripe_portal.configuration_drift.updated IS 'When the object was last changed, on Stripe''s clock';
-- portal: the configuration of a session.  Checked is what Stripe has, as far
-- as the mirror knows it, since that is what the customer will meet.

CREATE FUNCTION stripe_portal.session_configuration(
    wanted jsonb, livemode boolean, account text, OUT id text, OUT name text, OUT return_url text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF wanted IS NOT NULL AND (jsonb_typeof(wanted) <> 'string' OR wanted = '""') THEN
        RAISE EXCEPTION 'option "configuration" must be a name or an id'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    SELECT c.stripe_id, c.name, c.return_url INTO id, name, return_url
    FROM stripe_portal.configuration AS c
    WHERE c.livemode = session_configuration.livemode AND c.account = session_configuration.account
      AND CASE WHEN wanted IS NULL THEN c.is_default AND c.stripe_id IS NOT NULL
               ELSE wanted #>> '{}' IN (c.name, c.stripe_id) END;
    IF FOUND AND id IS NULL THEN
        RAISE EXCEPTION 'configuration "%" is not applied yet', name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Apply it by stripe_portal_configuration_apply.';
    ELSIF NOT FOUND AND wanted #>> '{}' LIKE 'bpc\_%' THEN
        id := wanted #>> '{}';
    ELSIF NOT FOUND AND wanted IS NOT NULL THEN
        RAISE EXCEPTION 'no configuration "%" is declared in % mode', wanted #>> '{}',
                CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Declare it by stripe_portal_configure, or give Stripe''s id (bpc_…).';
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.session_configuration(jsonb, boolean, text) IS
'The configuration of a session: the declared one of that name, Stripe''s of that id, or if none is wanted (NULL) the declared default, once it is applied. All NULL leaves it to Stripe; error 22023 for a name that is not declared, or not applied';

CREATE FUNCTION stripe_portal.check_flow_configuration(
    flow text, own jsonb, s stripe_portal.subscription, id text, name text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    feature CONSTANT text := CASE flow WHEN 'subscription_update_confirm' THEN 'subscription_update' ELSE flow END;
    price CONSTANT text := own #>> '{items,0,price}';
    known stripe_portal.billing_portal_configuration;
    called text;
BEGIN
    SELECT c.* INTO known
    FROM stripe_portal.billing_portal_configuration AS c
    WHERE c.livemode = check_flow_configuration.livemode AND c.account = check_flow_configuration.account
      AND CASE WHEN check_flow_configuration.id IS NULL THEN c.is_default
               ELSE c.id = check_flow_configuration.id END;
    called := coalesce(name, known.id);

    IF known.deleted OR NOT known.active THEN
        RAISE EXCEPTION 'portal configuration "%" is not active', called
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF known.features #> ARRAY[feature, 'enabled'] = 'false' THEN
        RAISE EXCEPTION 'flow "%" is switched off in portal configuration "%"', flow, called
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('At Stripe, features.%s.enabled is false.', feature);
    END IF;
    IF flow = 'subscription_update_confirm' AND price <> s.items #>> '{0,price}'
       AND known.products_updated = known.updated
       AND NOT jsonb_path_exists(known.products, '$[*].prices[*] ? (@ == $price)', jsonb_build_object('price', price)) THEN
        RAISE EXCEPTION 'portal configuration "%" does not offer price "%"', called, price
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'List it in "features.subscription_update.products", and apply the configuration.';
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_flow_configuration(text, jsonb, stripe_portal.subscription, text, text, boolean, text) IS
'Raises error 22023 if the configuration of the id, or Stripe''s default for NULL, is known not to let anybody into the flow, or not to offer the price that own, the flow''s parameters, wants confirmed; name is what messages call it';
-- portal: the flows.  What Stripe would refuse, and what would open the wrong
-- thing, is refused here by the mirrored state, before a request leaves.

CREATE FUNCTION stripe_portal.flow_problem(flow text, s stripe_portal.subscription)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN s.status IN ('canceled', 'incomplete_expired') THEN 'it has ended'
    WHEN s.schedule IS NOT NULL THEN 'a subscription schedule drives it'
    -- flexible subscriptions set cancel_at only, so look at both
    WHEN flow = 'subscription_cancel' AND (s.cancel_at IS NOT NULL OR s.cancel_at_period_end)
        THEN 'its cancellation is scheduled already'
    WHEN flow = 'subscription_pause' AND s.status = 'paused' THEN 'it is paused already'
    WHEN flow IN ('subscription_update', 'subscription_update_confirm') THEN
        CASE WHEN jsonb_array_length(s.items) <> 1 THEN format('it has %s items', jsonb_array_length(s.items))
             WHEN s.collection_method = 'send_invoice' THEN 'it is paid by invoice' END
END;

COMMENT ON FUNCTION stripe_portal.flow_problem(text, stripe_portal.subscription) IS
'Why Stripe''s portal would not take this subscription into the flow, or NULL';

CREATE FUNCTION stripe_portal.flow_subscription(
    customer text, livemode boolean, account text, flow text, subscription text)
RETURNS stripe_portal.subscription
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    eligible stripe_portal.subscription[];
    held text;
    chosen stripe_portal.subscription;
    problem text;
BEGIN
    IF subscription IS NULL THEN
        SELECT array_agg(s ORDER BY s.created, s.id) FILTER (WHERE p.problem IS NULL),
               string_agg(format('%s (%s)', s.id, coalesce(p.problem, s.status)), ', ' ORDER BY s.created, s.id)
                   FILTER (WHERE s.status NOT IN ('canceled', 'incomplete_expired'))
        INTO eligible, held
        FROM stripe_portal.subscription AS s,
             stripe_portal.flow_problem(flow_subscription.flow, s) AS p (problem)
        WHERE s.customer = flow_subscription.customer AND s.livemode = flow_subscription.livemode
          AND s.account = flow_subscription.account;
        IF cardinality(eligible) = 1 THEN
            RETURN eligible[1];
        END IF;
        RAISE EXCEPTION 'flow "%" needs a subscription', flow
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = coalesce(format('Customer "%s" has %s.', customer, held),
                                    format('Customer "%s" has none that has not ended.', customer)),
                  HINT = 'Name one by the argument "subscription".';
    END IF;

    SELECT s.* INTO chosen
    FROM stripe_portal.subscription AS s
    WHERE s.id = flow_subscription.subscription AND s.customer = flow_subscription.customer
      AND s.livemode = flow_subscription.livemode AND s.account = flow_subscription.account;
    IF NOT FOUND THEN
        -- unknown, or somebody else's: which of the two is nobody's business
        RAISE EXCEPTION 'customer "%" has no subscription "%"', customer, subscription
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    problem := stripe_portal.flow_problem(flow, chosen);
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'subscription "%" cannot enter flow "%"', chosen.id, flow
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = upper(left(problem, 1)) || substr(problem, 2) || '.',
                  HINT = 'Open the plain portal, which shows the customer what can be done.';
    END IF;
    RETURN chosen;
END
$$;

COMMENT ON FUNCTION stripe_portal.flow_subscription(text, boolean, text, text, text) IS
'The subscription that a flow is for: the one named, if it is the customer''s and can enter the flow, else the customer''s only one that can; otherwise error 22023, which lists what there is';

CREATE FUNCTION stripe_portal.flow_confirmation(s stripe_portal.subscription, confirmation jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item CONSTANT jsonb := s.items -> 0;
    wanted jsonb := confirmation #> '{items,0}';
BEGIN
    IF confirmation ? 'items' AND (jsonb_typeof(wanted) IS DISTINCT FROM 'object'
                                   OR jsonb_array_length(confirmation -> 'items') <> 1) THEN
        RAISE EXCEPTION 'flow "subscription_update_confirm" takes exactly one item'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(wanted ->> 'id', item ->> 'id') <> item ->> 'id' THEN
        RAISE EXCEPTION 'subscription "%" has no item "%"', s.id, wanted ->> 'id'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('Its item is "%s".', item ->> 'id');
    END IF;
    wanted := jsonb_build_object('id', item -> 'id') || coalesce(wanted, '{}');
    IF coalesce(wanted -> 'price', item -> 'price') = item -> 'price'
       AND coalesce(wanted -> 'quantity', item -> 'quantity') = item -> 'quantity'
       AND NOT confirmation ? 'discounts' THEN
        RAISE EXCEPTION 'there is nothing to confirm for subscription "%"', s.id
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It has price "%s" and quantity %s already.', item ->> 'price', item ->> 'quantity'),
                  HINT = 'Give another price or quantity in "items", or "discounts".';
    END IF;
    RETURN confirmation || jsonb_build_object('items', jsonb_build_array(wanted));
END
$$;

COMMENT ON FUNCTION stripe_portal.flow_confirmation(stripe_portal.subscription, jsonb) IS
'What a customer is to confirm, with the item''s id filled in; error 22023 if it is what the subscription has';

CREATE FUNCTION stripe_portal.retention_coupon(s stripe_portal.subscription)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    coupon text;
BEGIN
    -- win-back is built on the portal, so it may not be there
    IF to_regprocedure('stripe_portal.winback_retention(stripe_portal.subscription)') IS NOT NULL THEN
        EXECUTE 'SELECT stripe_portal.winback_retention($1)' INTO coupon USING s;
    END IF;
    RETURN coupon;
END
$$;

COMMENT ON FUNCTION stripe_portal.retention_coupon(stripe_portal.subscription) IS
'The coupon to offer to a customer who is about to cancel this subscription, by the win-back rules; NULL for none';

CREATE FUNCTION stripe_portal.session_parameters(
    customer text, livemode boolean, account text, flow text, subscription text, options jsonb,
    OUT parameters jsonb, OUT return_url text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- the account goes into a header
    plain jsonb := options - 'account';
    configuration record;
    data jsonb := coalesce(options -> 'flow_data', '{}');
    own jsonb := coalesce(data -> flow, '{}');
    chosen stripe_portal.subscription;
    coupon text;
BEGIN
    IF options ? 'customer_account' AND options ->> 'customer_account' IS DISTINCT FROM (
        SELECT c.customer_account
        FROM stripe_portal.customer AS c
        WHERE c.id = session_parameters.customer AND c.livemode = session_parameters.livemode
          AND c.account = session_parameters.account) THEN
        RAISE EXCEPTION 'customer account "%" is not that of customer "%"', options ->> 'customer_account', customer
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- One flow at a time: a second one's parameters are a mistake, or an
    -- attempt to get past the rule for that flow.
    IF EXISTS (SELECT FROM jsonb_object_keys(data) AS key
               JOIN stripe_portal.access_rule AS r ON r.flow = key
               WHERE key <> session_parameters.flow) THEN
        RAISE EXCEPTION 'options have parameters for another flow than "%"', flow
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    configuration := stripe_portal.session_configuration(options -> 'configuration', livemode, account);
    plain := plain || jsonb_strip_nulls(jsonb_build_object('configuration', configuration.id));
    return_url := configuration.return_url;

    IF flow NOT LIKE 'subscription\_%' THEN
        IF subscription IS NOT NULL OR own <> '{}' THEN
            RAISE EXCEPTION 'flow "%" takes no %', flow,
                    CASE WHEN subscription IS NOT NULL THEN 'subscription' ELSE 'parameters of its own' END
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        PERFORM stripe_portal.check_flow_configuration(
            flow, own, NULL, configuration.id, configuration.name, livemode, account);
        parameters := plain || CASE flow WHEN 'portal' THEN '{}'
                          ELSE jsonb_build_object('flow_data', data || jsonb_build_object('type', flow)) END;
        RETURN;
    END IF;

    IF jsonb_typeof(own) <> 'object' THEN
        RAISE EXCEPTION 'the parameters of flow "%" must be a JSON object', flow
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF own ? 'subscription' THEN
        RAISE EXCEPTION 'options must not choose the subscription'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name it by the argument "subscription".';
    END IF;
    chosen := stripe_portal.flow_subscription(customer, livemode, account, flow, subscription);
    own := own || jsonb_build_object('subscription', chosen.id);
    IF flow = 'subscription_update_confirm' THEN
        own := stripe_portal.flow_confirmation(chosen, own);
    ELSIF flow = 'subscription_cancel' AND NOT own ? 'retention' THEN
        coupon := stripe_portal.retention_coupon(chosen);
        IF coupon IS NOT NULL THEN
            own := own || jsonb_build_object('retention', jsonb_build_object(
                'type', 'coupon_offer', 'coupon_offer', jsonb_build_object('coupon', coupon)));
        END IF;
    END IF;
    PERFORM stripe_portal.check_flow_configuration(
        flow, own, chosen, configuration.id, configuration.name, livemode, account);
    parameters := plain || jsonb_build_object('flow_data', data || jsonb_build_object('type', flow, flow, own));
END
$$;

COMMENT ON FUNCTION stripe_portal.session_parameters(text, boolean, text, text, text, jsonb) IS
'The parameters of Stripe''s session besides customer and return_url: the options, with the configuration, the flow and what belongs to it; and the return URL that the configuration declares; error 22023 for what Stripe would refuse or what contradicts the arguments';

-- portal: the portal of whoever asks.
--
-- Anybody who can run SQL can set request.jwt.claims, so it is believed only of
-- the login role of a gateway, which lets nobody run SQL.  The login role is
-- session_user: neither SET ROLE nor a SECURITY DEFINER function changes it.

CREATE FUNCTION stripe_portal.asking_customer(OUT customer text, OUT account text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- asked first, because it loads the library: before, anybody could set its settings
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    claim CONSTANT text := current_setting('stripe_portal.customer_claim');
BEGIN
    IF session_user = current_setting('stripe_portal.gateway_role') THEN
        customer := nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> string_to_array(claim, '.'), '');
        account := '';
        IF customer IS NULL THEN
            RAISE EXCEPTION 'it is not known which customer is asking'
                USING ERRCODE = 'insufficient_privilege',
                      DETAIL = format('The token of the request has no claim "%s".', claim);
        END IF;
        RETURN;
    END IF;

    SELECT r.customer, r.account INTO customer, account
    FROM stripe_portal.customer_role AS r
    WHERE r.role = session_user AND r.livemode = key_livemode;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'it is not known which customer is asking'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" has no row in stripe_portal.customer_role in %s mode.', session_user,
                                  CASE WHEN key_livemode THEN 'live' ELSE 'test' END);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.asking_customer() IS
'The customer who is asking, and their connected account: by the claim of the request''s token, if the login role is the gateway''s, else by stripe_portal.customer_role; error 42501 if neither tells';

CREATE FUNCTION @extschema@.stripe_my_portal_session(
    return_url text DEFAULT NULL, flow text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asking CONSTANT record := stripe_portal.asking_customer();
BEGIN
    -- What else there is, such as coupons and another configuration, is not the customer's to choose.
    IF (options - 'locale' - 'subscription') #- '{flow_data,after_completion}' NOT IN ('{}', '{"flow_data": {}}') THEN
        RAISE EXCEPTION 'options must have nothing but "locale", "subscription" and "after_completion" in "flow_data"'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN stripe_portal.open_session(
        asking.customer, return_url, flow, options ->> 'subscription',
        coalesce(options - 'subscription', '{}') || jsonb_strip_nulls(jsonb_build_object('account', nullif(asking.account, ''))));
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_my_portal_session(text, text, jsonb) IS
'Opens the portal for the customer who is asking, as stripe_portal_session does, and returns its URL. Who that is, is never an argument: for a session of the login role stripe_portal.gateway_role it is the claim stripe_portal.customer_claim in the setting request.jwt.claims, which gateways such as PostgREST fill from a token that they have verified; for any other login role its row in stripe_portal.customer_role. Error 42501 if that tells nobody. options: only locale, subscription (the subscription of the flow) and flow_data with after_completion; error 22023 for the rest, which is not the customer''s to choose';

COMMENT ON TABLE stripe_portal.customer_role IS 'Which customer a login role is, for stripe_my_portal_session';
COMMENT ON COLUMN stripe_portal.customer_role.role IS 'The name of the login role, as session_user has it';
COMMENT ON COLUMN stripe_portal.customer_role.livemode IS 'Live or test mode';
COMMENT ON COLUMN stripe_portal.customer_role.account IS 'The connected account that the customer is of; empty for your own';
-- portal: what happened between the way to the portal and the way back.
--
-- Views, not functions: who may read a view may not call the functions in it.
-- Subscriptions are compared in Stripe's own shape, so that a snapshot, a row
-- and an event go through the same comparison.

CREATE VIEW stripe_portal.session_state AS
SELECT k.id AS session,
       jsonb_strip_nulls(jsonb_build_object(
           'customer', (
               SELECT jsonb_build_object(
                          'default_payment_method', c.default_payment_method,
                          -- to tell that it changed, a few bits of a digest do;
                          -- the sessions hold no personal data
                          'details', (
                              SELECT jsonb_object_agg(d.name, left(encode(sha256(
                                         convert_to(concat(c.id, ' ', d.value), getdatabaseencoding())), 'hex'), 8))
                              FROM (VALUES ('name', c.name), ('email', c.email), ('phone', c.phone),
                                           ('address', c.address::text)) AS d (name, value)
                              WHERE d.value IS NOT NULL))
               FROM stripe_portal.customer AS c
               WHERE (c.id, c.livemode, c.account) = (k.customer, k.livemode, k.account)),
           'subscriptions', (
               SELECT jsonb_object_agg(s.id, jsonb_build_object(
                          'status', s.status,
                          'ended_at', extract(epoch FROM s.ended_at)::bigint,
                          'cancellation_details', jsonb_build_object(
                              'reason', s.cancellation_reason, 'feedback', s.cancellation_feedback))
                      -- what has ended does not change any more
                      || CASE WHEN s.status IN ('canceled', 'incomplete_expired') THEN '{}' ELSE jsonb_build_object(
                          'cancel_at', extract(epoch FROM s.cancel_at)::bigint,
                          'cancel_at_period_end', s.cancel_at_period_end,
                          'pause_collection', s.pause_collection,
                          'default_payment_method', s.default_payment_method,
                          'discounts', (
                              SELECT jsonb_agg(coalesce(d ->> 'id', d #>> '{}'))
                              FROM jsonb_array_elements(s.discounts) AS d),
                          'items', jsonb_build_object('data', (
                              SELECT jsonb_agg(jsonb_build_object(
                                         'id', i -> 'id', 'price', i -> 'price', 'quantity', i -> 'quantity'))
                              FROM jsonb_array_elements(s.items) AS i))) END)
               FROM stripe_portal.subscription AS s
               WHERE (s.customer, s.livemode, s.account) = (k.customer, k.livemode, k.account)))) AS state
FROM stripe_portal.session AS k;

COMMENT ON VIEW stripe_portal.session_state IS
'For each session, what its customer can change in the portal, as it is now: the default payment method, digests of name, email, phone and address, and each subscription in Stripe''s shape. Kept in stripe_portal.session as it was when the session was opened';

CREATE VIEW stripe_portal.observed_change AS
WITH step AS (
    -- each subscription of a session's customer: then and now
    SELECT s.id AS session, NULL::text AS event, s.livemode, s.account, s.customer, s.created AS since,
           key AS subscription, earlier.before, later.after
    FROM stripe_portal.session AS s
    JOIN stripe_portal.session_state AS now ON now.session = s.id
    CROSS JOIN jsonb_each(s.state -> 'subscriptions') AS earlier (key, before)
    JOIN jsonb_each(now.state -> 'subscriptions') AS later (key, after) USING (key)
    UNION ALL
    -- each event: the object with the values that it had before, and as it is
    SELECT NULL, e.id, e.livemode, e.account, coalesce(o #>> '{customer,id}', o ->> 'customer'), e.created,
           e.object_id,
           o || CASE e.type WHEN 'customer.subscription.updated' THEN '{}'
                            WHEN 'customer.subscription.resumed' THEN '{"status": "paused"}'
                            -- deleted and paused
                            ELSE '{"status": "active"}' END::jsonb
             || CASE jsonb_typeof(data -> 'previous_attributes') WHEN 'object' THEN data -> 'previous_attributes' ELSE '{}' END,
           o
    FROM stripe_portal.event AS e,
         -- jsonb can not hold this one escape, which json keeps
         jsonb_extract_path(replace(e.payload::text, '\u0000', '\ufffd')::jsonb, 'data') AS data,
         jsonb_extract_path(data, 'object') AS o
    WHERE e.type IN ('customer.subscription.updated', 'customer.subscription.deleted',
                     'customer.subscription.paused', 'customer.subscription.resumed')
      AND e.status = 'applied'
)
SELECT step.session, step.event, step.livemode, step.account, step.customer, step.since, step.subscription,
       change.outcome, change.details
FROM step,
     LATERAL (
         SELECT before ->> 'status' IN ('canceled', 'incomplete_expired') AS had_ended,
                after ->> 'status' IN ('canceled', 'incomplete_expired') AS has_ended,
                -- flexible subscriptions set cancel_at only, so look at both
                before ->> 'cancel_at' IS NOT NULL
                    OR coalesce(before ->> 'cancel_at_period_end' = 'true', false) AS was_scheduled,
                after ->> 'cancel_at' IS NOT NULL
                    OR coalesce(after ->> 'cancel_at_period_end' = 'true', false) AS is_scheduled,
                before ->> 'status' = 'paused' OR before ->> 'pause_collection' IS NOT NULL AS was_paused,
                after ->> 'status' = 'paused' OR after ->> 'pause_collection' IS NOT NULL AS is_paused,
                coalesce(before #>> '{default_payment_method,id}', before ->> 'default_payment_method') AS old_method,
                coalesce(after #>> '{default_payment_method,id}', after ->> 'default_payment_method') AS new_method
     ) AS s,
     LATERAL (
         SELECT 'canceled' AS outcome, jsonb_build_object(
                    -- whether it was only a matter of time
                    'scheduled', was_scheduled
                        AND coalesce((before ->> 'cancel_at')::numeric <= (after ->> 'ended_at')::numeric, true),
                    'reason', after #> '{cancellation_details,reason}',
                    'feedback', after #> '{cancellation_details,feedback}') AS details
         WHERE has_ended AND NOT had_ended
         UNION ALL
         SELECT 'cancel_scheduled', jsonb_build_object(
                    'cancel_at', after -> 'cancel_at',
                    'reason', after #> '{cancellation_details,reason}',
                    'feedback', after #> '{cancellation_details,feedback}')
         WHERE is_scheduled AND NOT was_scheduled AND NOT has_ended
         UNION ALL
         SELECT 'cancel_undone', jsonb_build_object('cancel_at', before -> 'cancel_at')
         WHERE was_scheduled AND NOT is_scheduled AND NOT has_ended
         UNION ALL
         SELECT 'paused', '{}'::jsonb WHERE is_paused AND NOT was_paused AND NOT has_ended
         UNION ALL
         SELECT 'resumed', '{}'::jsonb WHERE was_paused AND NOT is_paused AND NOT has_ended
         UNION ALL
         SELECT 'payment_method_changed', jsonb_build_object('from', old_method, 'to', new_method)
         WHERE old_method IS DISTINCT FROM new_method AND NOT has_ended
         UNION ALL
         SELECT 'discount_added', jsonb_build_object('discount', added.id)
         FROM (SELECT coalesce(d ->> 'id', d #>> '{}') FROM jsonb_path_query(after, '$.discounts[*]') AS d
               EXCEPT
               SELECT coalesce(d ->> 'id', d #>> '{}') FROM jsonb_path_query(before, '$.discounts[*]') AS d
              ) AS added (id)
         WHERE NOT has_ended
         UNION ALL
         SELECT 'plan_changed', jsonb_build_object('item', id, 'from', old.plan, 'to', new.plan)
         FROM (SELECT i ->> 'id', jsonb_build_object(
                          'price', coalesce(i #>> '{price,id}', i #>> '{plan,id}', i ->> 'price'),
                          'quantity', i -> 'quantity')
               FROM jsonb_path_query(before, '$.items.data[*]') AS i) AS old (id, plan)
         FULL JOIN
              (SELECT i ->> 'id', jsonb_build_object(
                          'price', coalesce(i #>> '{price,id}', i #>> '{plan,id}', i ->> 'price'),
                          'quantity', i -> 'quantity')
               FROM jsonb_path_query(after, '$.items.data[*]') AS i) AS new (id, plan) USING (id)
         WHERE old.plan IS DISTINCT FROM new.plan AND NOT has_ended
     ) AS change
UNION ALL
-- what is the customer's and not a subscription's
SELECT s.id, NULL, s.livemode, s.account, s.customer, s.created, NULL, change.outcome, change.details
FROM stripe_portal.session AS s
-- OFFSET 0: worked out once, not once for each mention
CROSS JOIN LATERAL (SELECT n.state FROM stripe_portal.session_state AS n WHERE n.session = s.id OFFSET 0) AS now,
     LATERAL (
         SELECT 'payment_method_changed' AS outcome, jsonb_build_object(
                    'from', s.state #> '{customer,default_payment_method}',
                    'to', now.state #> '{customer,default_payment_method}') AS details
         WHERE s.state #> '{customer,default_payment_method}'
             IS DISTINCT FROM now.state #> '{customer,default_payment_method}'
         UNION ALL
         SELECT 'details_updated', jsonb_build_object('fields', jsonb_agg(key ORDER BY key))
         FROM jsonb_each(s.state #> '{customer,details}') AS old (key, value)
         FULL JOIN jsonb_each(now.state #> '{customer,details}') AS new (key, value) USING (key)
         WHERE old.value IS DISTINCT FROM new.value
         HAVING count(*) > 0
     ) AS change
-- a customer whose event was late has not changed
WHERE s.state ? 'customer' AND now.state ? 'customer';

COMMENT ON VIEW stripe_portal.observed_change IS
'What changed: for each session, between its opening and now (session is set, since is its opening); for each event of a subscription, by it (event is set, since is its time). subscription is NULL for what is the customer''s. outcome, with its details: canceled {scheduled, reason, feedback}, cancel_scheduled {cancel_at, reason, feedback}, cancel_undone {cancel_at}, plan_changed {item, from, to}, each {price, quantity}, payment_method_changed {from, to}, paused {}, resumed {}, discount_added {discount}, details_updated {fields}. Select by session or event: the view reads much otherwise';

CREATE VIEW stripe_portal.session_unreturned AS
SELECT s.id AS session, s.livemode, s.account, s.customer, s.flow, s.subscription, s.created,
       s.return_until, s.return_until > now() AS may_return,
       (SELECT coalesce(array_agg(DISTINCT c.outcome), '{nothing}')
        FROM stripe_portal.observed_change AS c
        WHERE c.session = s.id) AS outcome
FROM stripe_portal.session AS s
WHERE s.return_until IS NOT NULL AND s.returned_at IS NULL;

COMMENT ON VIEW stripe_portal.session_unreturned IS
'Sessions that were opened with a {token} to come back with, which nobody has: whether it still works, and what changed since, as in stripe_portal.observed_change';

CREATE VIEW stripe_portal.change_unexplained AS
SELECT DISTINCT ON (c.livemode, c.account, c.subscription, c.since, c.outcome, c.details)
       c.event, c.livemode, c.account, c.customer, c.subscription, c.since AS at, c.outcome, c.details
FROM stripe_portal.observed_change AS c
WHERE c.event IS NOT NULL
  -- what had been scheduled was to be expected
  AND NOT (c.outcome = 'canceled' AND (c.details ->> 'scheduled')::boolean)
  AND NOT EXISTS (
      SELECT FROM stripe_portal.session AS s
      WHERE (s.customer, s.livemode, s.account) = (c.customer, c.livemode, c.account)
        AND s.refused IS NULL
        -- The clocks may differ a little.  A session is over an hour after the
        -- last activity, and at most five minutes pass before the first.
        AND c.since BETWEEN s.created - interval '1 minute'
                        AND greatest(s.created + interval '5 minutes', s.returned_at) + interval '1 hour')
ORDER BY c.livemode, c.account, c.subscription, c.since, c.outcome, c.details, c.event;

COMMENT ON VIEW stripe_portal.change_unexplained IS
'Changes of subscriptions, as in stripe_portal.observed_change, that happened while no session of the customer was open: made in the Dashboard, through the API or by Stripe itself, such as a cancellation for non-payment (its reason says so). A scheduled cancellation that comes due is not one. at is Stripe''s time';

-- ---------------------------------------------------------------------------
-- The token
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.token_id(token text)
RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_token_id';

COMMENT ON FUNCTION stripe_portal.token_id(text) IS
'The id of the row that a token says it is for, not verified; NULL for what can be no token';

CREATE FUNCTION stripe_portal.token_require(
    token text, purpose text, customer text, livemode boolean, account text)
RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stripe_token_require';

COMMENT ON FUNCTION stripe_portal.token_require(text, text, text, boolean, text) IS
'Raises SPR01 unless the token was made for this purpose and for the row whose customer, livemode and account are given (NULL if there is no such row), with one of the configured API keys, and has not expired. That it works once is for the caller to see to';

CREATE FUNCTION stripe_portal.refresh(customer text, account text, livemode boolean)
RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_refresh';

COMMENT ON FUNCTION stripe_portal.refresh(text, text, boolean) IS
'stripe_refresh, for other functions to call';

CREATE FUNCTION @extschema@.stripe_portal_return(
    token text, refresh boolean DEFAULT false,
    OUT session uuid, OUT customer text, OUT subscription text, OUT outcome text, OUT details jsonb)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- compiling the comparison takes longer than many of them
SET jit = off
AS $$
DECLARE
    opened stripe_portal.session;
    changes jsonb;
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute stripe_portal_return() in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    SELECT s.* INTO opened
    FROM stripe_portal.session AS s
    WHERE s.id = stripe_portal.token_id(token);
    -- also if there is none, with the same answer as for a forged one
    PERFORM stripe_portal.token_require(token, 'return', opened.customer, opened.livemode, opened.account);

    -- before anything is locked, and not for a token that has been used
    IF refresh AND opened.returned_at IS NULL THEN
        PERFORM stripe_portal.refresh(opened.customer, opened.account, opened.livemode);
    END IF;

    SELECT coalesce(jsonb_agg(jsonb_build_object('subscription', c.subscription, 'outcome', c.outcome, 'details', c.details)
                              ORDER BY c.subscription NULLS FIRST, c.outcome, c.details),
                    '[{"outcome": "nothing", "details": {}}]')
    INTO changes
    FROM stripe_portal.observed_change AS c
    WHERE c.session = opened.id;

    -- the one place where a token is used up
    UPDATE stripe_portal.session AS s
    SET returned_at = now(),
        outcome = ARRAY(SELECT DISTINCT c ->> 'outcome' FROM jsonb_array_elements(changes) AS c ORDER BY 1)
    WHERE s.id = opened.id AND s.returned_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'token refused'
            USING ERRCODE = 'SPR01',
                  DETAIL = 'It has been used.',
                  HINT = 'stripe_portal.session has what was told then.';
    END IF;

    RETURN QUERY
    SELECT opened.id, opened.customer, c.subscription, c.outcome, c.details
    FROM jsonb_to_recordset(changes) AS c (subscription text, outcome text, details jsonb);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_return(text, boolean) IS
'What happened since the session was opened whose {token} a customer came back with: one row per change, with outcome and details as in stripe_portal.observed_change, or a single row with outcome nothing. subscription is NULL for what is the customer''s. It is read from the state tables, so a change whose webhook is still under way is not in it but will be in stripe_portal.observed_change; refresh => true first reads the customer from Stripe, with the errors of stripe_refresh, after which the token still works. The session''s row keeps returned_at and the outcomes. A token works once: error SPR01 for one that has been used, has expired or was not made here';

COMMENT ON COLUMN stripe_portal.session.return_url IS 'Where the portal''s back link leads, with its placeholders as they were given; never a token';
COMMENT ON COLUMN stripe_portal.session.state IS 'What stripe_portal.session_state was when the session was opened';
COMMENT ON COLUMN stripe_portal.session.retention_coupon IS 'The coupon that was offered in the cancel flow, by a win-back rule or by the caller; NULL for none';
COMMENT ON COLUMN stripe_portal.session.return_until IS 'Until when the token in a return URL works; NULL if there is none in it';
COMMENT ON COLUMN stripe_portal.session.returned_at IS 'When the customer came back with the token; NULL before';
COMMENT ON COLUMN stripe_portal.session.outcome IS 'What stripe_portal_return found then; {nothing} if nothing had changed';
-- churn: the episodes of cancellation, read off the history of a subscription.
--
-- They are derived anew, a subscription at a time, after each UPDATE of its
-- history, with which every change of a history ends.  A restore, which only
-- inserts, derives nothing.  An episode is inserted bare and then filled by an
-- UPDATE, so that what reacts to episodes can hang on that in turn.

CREATE FUNCTION stripe_portal.is_voluntary(reason text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN reason = 'cancellation_requested' THEN true
    WHEN reason IN ('payment_failed', 'payment_disputed', 'canceled_by_retention_policy') THEN false
END;

COMMENT ON FUNCTION stripe_portal.is_voluntary(text) IS
'Whether somebody asked for a cancellation of this reason (cancellation_details.reason); NULL for none and for a reason that is not known. Stripe does not say whether it was the customer or you';

CREATE FUNCTION stripe_portal.main_item(items jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT item
        FROM jsonb_array_elements(stripe_portal.complete_items(items, livemode, account)) AS item
        ORDER BY stripe_portal.monthly_amount(
                     stripe_portal.item_amount(item -> 'terms', (item ->> 'quantity')::numeric),
                     item #>> '{terms,interval}', (item #>> '{terms,interval_count}')::integer) DESC NULLS LAST,
                 item ->> 'id'
        LIMIT 1);
END
$$;

COMMENT ON FUNCTION stripe_portal.main_item(jsonb, boolean, text) IS
'The item of a subscription that brings in most, before discounts: its plan, the others being extras';

CREATE FUNCTION stripe_portal.explaining_session(
    customer text, livemode boolean, account text, subscription text, asked_at timestamptz)
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT s.id
        FROM stripe_portal.session AS s
        WHERE (s.customer, s.livemode, s.account)
            = (explaining_session.customer, explaining_session.livemode, explaining_session.account)
          AND s.refused IS NULL
          AND s.flow IN ('portal', 'subscription_cancel')
          AND coalesce(s.subscription, explaining_session.subscription) = explaining_session.subscription
          -- A session can be opened for five minutes, and lives for an hour
          -- after the last click.  Our clock and Stripe's differ a little.
          AND s.created BETWEEN explaining_session.asked_at - interval '65 minutes'
                            AND explaining_session.asked_at + interval '1 minute'
        ORDER BY s.created DESC, s.id
        LIMIT 1);
END
$$;

COMMENT ON FUNCTION stripe_portal.explaining_session(text, boolean, text, text, timestamptz) IS
'The portal session in which a cancellation was probably asked for: the customer''s last one, for the whole portal or for cancelling this subscription, that was opened at most 65 minutes before; NULL if there is none';

CREATE FUNCTION stripe_portal.episodes(subscription text, livemode boolean, account text)
RETURNS SETOF stripe_portal.cancellation
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.subscription_change;
    before stripe_portal.subscription_change;
    at_that_moment stripe_portal.subscription_change;
    plan jsonb;
    episode stripe_portal.cancellation;
    reason text;        -- the episode's, as last told
    going boolean;      -- an end is scheduled, or has come
    ended boolean;
BEGIN
    FOR c IN
        SELECT * FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account) = (episodes.subscription, episodes.livemode, episodes.account)
        ORDER BY h.at
    LOOP
        ended := stripe_portal.status_is_final(c.status);
        -- a subscription that was never paid for expires; nobody leaves
        going := CASE WHEN ended THEN c.status = 'canceled' OR episode.undone_at IS NULL AND episode.began_at IS NOT NULL
                      ELSE c.cancel_at IS NOT NULL OR c.cancel_at_period_end END;

        IF going AND (episode.began_at IS NULL OR episode.undone_at IS NOT NULL) THEN
            IF episode.began_at IS NOT NULL THEN
                RETURN NEXT episode;
            END IF;
            episode := NULL;
            reason := NULL;
            episode.subscription := subscription;
            episode.livemode := livemode;
            episode.account := account;
            episode.customer := c.customer;
            episode.began_at := coalesce(c.canceled_at, c.ended_at, c.at);
            -- what it was when it was asked for, or before it was over
            at_that_moment := CASE WHEN ended AND before.at IS NOT NULL THEN before ELSE c END;
            plan := stripe_portal.main_item(at_that_moment.items, livemode, account);
            episode.price := plan ->> 'price';
            episode.product := coalesce(plan ->> 'product', plan #>> '{terms,product}');
            episode.quantity := (plan ->> 'quantity')::bigint;
            episode.currency := c.currency;
            episode.mrr := at_that_moment.mrr;
            episode.started_at := coalesce(c.start_date, c.created);
            episode.age := episode.began_at - episode.started_at;
        ELSIF NOT going AND episode.began_at IS NOT NULL AND episode.undone_at IS NULL THEN
            episode.undone_at := c.at;
        END IF;

        IF episode.began_at IS NOT NULL THEN
            -- The survey is shown after the cancellation: what it brought
            -- comes later, perhaps when the episode is over.
            episode.feedback := coalesce(c.cancellation_feedback, episode.feedback);
            episode.feedback_option := coalesce(c.cancellation_feedback_option, episode.feedback_option);
            episode.comment := coalesce(c.cancellation_comment, episode.comment);
            IF going THEN
                reason := coalesce(c.cancellation_reason, reason);
                episode.voluntary := stripe_portal.is_voluntary(reason);
                IF ended THEN
                    episode.ended_at := coalesce(c.ended_at, episode.ended_at, c.at);
                    episode.effective_at := coalesce(episode.effective_at, episode.ended_at);
                    episode.ended_by := reason;
                ELSE
                    episode.effective_at := coalesce(c.cancel_at, c.current_period_end);
                END IF;
                -- nobody asks for a payment to fail
                IF NOT ended OR episode.voluntary IS NOT false THEN
                    episode.asked_at := episode.began_at;
                END IF;
            END IF;
        END IF;
        before := c;
    END LOOP;
    IF episode.began_at IS NOT NULL THEN
        RETURN NEXT episode;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.episodes(text, boolean, text) IS
'The episodes of cancellation in a subscription''s history, without country and session';

CREATE FUNCTION stripe_portal.derive_cancellations(subscription text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    episodes CONSTANT stripe_portal.cancellation[] := ARRAY(
        SELECT e FROM stripe_portal.episodes(subscription, livemode, account) AS e);
    episode stripe_portal.cancellation;
BEGIN
    DELETE FROM stripe_portal.cancellation AS known
    WHERE (known.subscription, known.livemode, known.account)
        = (derive_cancellations.subscription, derive_cancellations.livemode, derive_cancellations.account)
      AND NOT EXISTS (SELECT FROM unnest(episodes) AS e WHERE e.began_at = known.began_at);

    FOREACH episode IN ARRAY episodes LOOP
        episode.country := (
            SELECT c.address ->> 'country' FROM stripe_portal.customer AS c
            WHERE (c.id, c.livemode, c.account) = (episode.customer, episode.livemode, episode.account));
        IF episode.voluntary IS NOT false THEN
            episode.session := stripe_portal.explaining_session(
                episode.customer, livemode, account, subscription, episode.asked_at);
        END IF;

        INSERT INTO stripe_portal.cancellation (subscription, livemode, account, began_at, customer)
        VALUES (subscription, livemode, account, episode.began_at, episode.customer)
        ON CONFLICT DO NOTHING;
        UPDATE stripe_portal.cancellation AS known
        SET (asked_at, undone_at, effective_at, ended_at, ended_by, voluntary,
             feedback, feedback_option, comment, product, price, quantity, currency, mrr,
             started_at, age, country, session)
          = (episode.asked_at, episode.undone_at, episode.effective_at, episode.ended_at, episode.ended_by, episode.voluntary,
             episode.feedback, episode.feedback_option, episode.comment, episode.product, episode.price, episode.quantity,
             episode.currency, episode.mrr, episode.started_at, episode.age, episode.country, episode.session)
        WHERE (known.subscription, known.livemode, known.account, known.began_at)
            = (episode.subscription, episode.livemode, episode.account, episode.began_at)
          AND known IS DISTINCT FROM episode;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.derive_cancellations(text, boolean, text) IS
'Makes the rows of table cancellation those that a subscription''s history tells of';

CREATE FUNCTION stripe_portal.cancellation_follow()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched record;
BEGIN
    FOR touched IN SELECT DISTINCT c.subscription, c.livemode, c.account FROM changed AS c LOOP
        PERFORM stripe_portal.derive_cancellations(touched.subscription, touched.livemode, touched.account);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.cancellation_follow() IS
'Keeps table cancellation true to the histories that changed';

CREATE TRIGGER cancellation_follow
    AFTER UPDATE ON stripe_portal.subscription_change
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.cancellation_follow();

COMMENT ON TABLE stripe_portal.cancellation IS 'Why subscribers leave: one row per episode, from the request to cancel, or an end that nobody asked for, to its being undone or to the end. Subscriptions that expire before they were paid for are not in it';
COMMENT ON COLUMN stripe_portal.cancellation.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.cancellation.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.cancellation.began_at IS 'When it was asked for, or when it ended without that, on Stripe''s clock; names the episode';
COMMENT ON COLUMN stripe_portal.cancellation.asked_at IS 'When it was asked for (canceled_at); NULL if it ended for a failed payment, a dispute or the retention policy without having been scheduled';
COMMENT ON COLUMN stripe_portal.cancellation.undone_at IS 'When it was taken back; NULL if it stands';
COMMENT ON COLUMN stripe_portal.cancellation.effective_at IS 'When it was, or is, to take effect';
COMMENT ON COLUMN stripe_portal.cancellation.ended_at IS 'When the subscription ended; NULL if it has not, or not in this episode';
COMMENT ON COLUMN stripe_portal.cancellation.ended_by IS 'What ended it: cancellation_requested, payment_failed, payment_disputed, canceled_by_retention_policy, or whatever Stripe says; NULL if it has not ended, and for ends before Stripe kept reasons';
COMMENT ON COLUMN stripe_portal.cancellation.voluntary IS 'Whether somebody asked for it, the customer or you; false for a failed payment, a dispute and the retention policy, also if it had been scheduled before; NULL if the reason is not known';
COMMENT ON COLUMN stripe_portal.cancellation.feedback IS 'What was chosen in the portal''s survey, whenever it came: too_expensive, missing_features, switched_service, unused, customer_service, too_complex, low_quality, other';
COMMENT ON COLUMN stripe_portal.cancellation.feedback_option IS 'The id of the custom option that was chosen';
COMMENT ON COLUMN stripe_portal.cancellation.comment IS 'The customer''s own words';
COMMENT ON COLUMN stripe_portal.cancellation.product IS 'Of the item that brought in most when it was asked for, or before it ended; so are price and quantity';
COMMENT ON COLUMN stripe_portal.cancellation.mrr IS 'What the subscription brought in when it was asked for, or before it ended, in minor units; 0 for a trial, or if that was lost before, NULL if it is not known';
COMMENT ON COLUMN stripe_portal.cancellation.started_at IS 'When the subscription started (start_date)';
COMMENT ON COLUMN stripe_portal.cancellation.age IS 'How old the subscription was then';
COMMENT ON COLUMN stripe_portal.cancellation.country IS 'The country in the customer''s address, as last known';
COMMENT ON COLUMN stripe_portal.cancellation.session IS 'The portal session in which it was probably asked for; see stripe_portal.explaining_session';
-- churn: the reports on one page, to look at.

CREATE FUNCTION stripe_portal.page_data(period daterange, account text, livemode boolean)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    -- the assumptions of stripe_churn_leak
    won_back_within CONSTANT interval := '90 days';
    cancellation_save_rate CONSTANT numeric := 0.1;
    payment_save_rate CONSTANT numeric := 0.3;
BEGIN
    -- Exactly the declared types, so that no other function can be meant.
    RETURN jsonb_build_object(
        'bridge', (SELECT jsonb_agg(r) FROM @extschema@.stripe_mrr_bridge(period, account, livemode) AS r),
        'rate', (SELECT jsonb_agg(r) FROM @extschema@.stripe_churn_rate(period, account, livemode) AS r),
        'reason', (SELECT jsonb_agg(r) FROM @extschema@.stripe_churn('reason'::text, period, account, livemode) AS r),
        'feedback', (
            SELECT jsonb_agg(jsonb_build_object('currency', r.currency, 'name', stripe_portal.page_word(coalesce(r.key, 'no_answer')),
                                                'mrr', r.mrr, 'customers', r.customers))
            FROM @extschema@.stripe_churn('feedback'::text, period, account, livemode) AS r
            WHERE r.voluntary),
        'plan', (
            SELECT jsonb_agg(jsonb_build_object('currency', r.currency, 'name', coalesce(p.name, r.key, 'not known'),
                                                'mrr', r.mrr, 'customers', r.customers))
            FROM @extschema@.stripe_churn('plan'::text, period, account, livemode) AS r
            LEFT JOIN stripe_portal.product AS p ON (p.id, p.livemode, p.account) = (r.key, page_data.livemode, page_data.account)),
        'retention', (SELECT jsonb_agg(r) FROM @extschema@.stripe_retention(period, account, livemode) AS r),
        'decline', (SELECT jsonb_agg(r) FROM @extschema@.stripe_decline_report(period, account, livemode) AS r),
        'recovery', (SELECT jsonb_agg(r) FROM @extschema@.stripe_decline_recovery(period, account, livemode) AS r),
        'leak', (SELECT jsonb_agg(r) FROM @extschema@.stripe_churn_leak(period, account, livemode,
                                                        won_back_within, cancellation_save_rate, payment_save_rate) AS r),
        'risk', (SELECT jsonb_agg(r) FROM @extschema@.stripe_at_risk(account, livemode) AS r),
        'comment', (
            SELECT jsonb_agg(jsonb_build_object('currency', r.currency, 'at', r.at, 'name', coalesce(p.name, r.plan), 'comment', r.comment,
                                                'feedback', coalesce(r.feedback, 'no_answer'), 'mrr', r.mrr) ORDER BY r.at DESC, r.subscription)
            FROM @extschema@.stripe_cancel_comments(NULL::text, period, account, livemode) AS r
            LEFT JOIN stripe_portal.product AS p ON (p.id, p.livemode, p.account) = (r.plan, page_data.livemode, page_data.account)));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_data(daterange, text, boolean) IS
'What the page shows: each report once, as an array of its rows or null, with the names of products';

CREATE FUNCTION stripe_portal.page_rows(data jsonb, report text, currency text)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_path_query_array(data -> report, '$[*] ? (@.currency == $currency)', jsonb_build_object('currency', currency));

COMMENT ON FUNCTION stripe_portal.page_rows(jsonb, text, text) IS
'The rows of one report in one currency, of what page_data gives';

CREATE FUNCTION stripe_portal.page_currency(data jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bridge CONSTANT jsonb := stripe_portal.page_rows(data, 'bridge', currency);
    leak CONSTANT jsonb := stripe_portal.page_rows(data, 'leak', currency);
BEGIN
    RETURN format('<section id="%1$s"><h2>%2$s</h2>', stripe_portal.html_escape(currency), stripe_portal.html_escape(upper(currency)))
        || stripe_portal.page_tiles(stripe_portal.page_rows(data, 'rate', currency), bridge, leak, currency)
        || '<div class="figures">'
        || stripe_portal.page_bridge(bridge, months, currency)
        || stripe_portal.page_leak(leak, months, currency)
        || stripe_portal.page_reasons(stripe_portal.page_rows(data, 'reason', currency), months, currency)
        || stripe_portal.page_churn('What they said', 'Who cancelled said most often, by money: %s.', 'Answer',
                                    stripe_portal.page_rows(data, 'feedback', currency), currency)
        || stripe_portal.page_retention(stripe_portal.page_rows(data, 'retention', currency), currency)
        || stripe_portal.page_declines(stripe_portal.page_rows(data, 'decline', currency), currency)
        || stripe_portal.page_recovery(stripe_portal.page_rows(data, 'recovery', currency), currency)
        || stripe_portal.page_churn('Churn by plan', 'Most MRR was lost with %s.', 'Plan', stripe_portal.page_rows(data, 'plan', currency), currency)
        || stripe_portal.page_risk(stripe_portal.page_rows(data, 'risk', currency), currency)
        || stripe_portal.page_comments(stripe_portal.page_rows(data, 'comment', currency), currency)
        || '</div></section>';
END
$$;

COMMENT ON FUNCTION stripe_portal.page_currency(jsonb, text[], text) IS
'The part of the page that is about one currency, from what page_data gives; months are the names of the columns of charts';

CREATE FUNCTION @extschema@.stripe_churn_report(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    days CONSTANT daterange := stripe_portal.report_period(period);
    months CONSTANT daterange := stripe_portal.report_months(period);
    names CONSTANT text[] := ARRAY(
        SELECT to_char(m, 'Mon YY') FROM generate_series(lower(months), upper(months) - 1, interval '1 month') AS m);
    data CONSTANT jsonb := stripe_portal.page_data(days, account, mode);
    -- where most subscribers are comes first
    currencies CONSTANT text[] := ARRAY(
        SELECT r.currency
        FROM jsonb_each(data) AS e (report, rows), jsonb_to_recordset(CASE WHEN rows <> 'null' THEN rows END) AS r (currency text, subscribers_closing bigint)
        WHERE r.currency IS NOT NULL
        GROUP BY 1
        ORDER BY sum(r.subscribers_closing) DESC NULLS LAST, 1);
BEGIN
    RETURN stripe_portal.page_document('Churn report',
        '<header><h1>Why they leave and what it costs</h1><p>'
        || format('%s to %s', to_char(lower(days), 'FMDD FMMonth YYYY'), to_char(upper(days) - 1, 'FMDD FMMonth YYYY'))
        || CASE WHEN upper(days) > now()::date THEN ', so far' ELSE '' END
        || CASE WHEN mode THEN '' ELSE ' &middot; <strong>test data</strong>' END
        || CASE WHEN account = '' THEN '' ELSE ' &middot; account ' || stripe_portal.html_escape(account) END
        || '</p>'
        || coalesce((SELECT '<nav>' || string_agg(format('<a href="#%s">%s</a>', stripe_portal.html_escape(c), stripe_portal.html_escape(upper(c))), '' ORDER BY n) || '</nav>'
                     FROM unnest(currencies) WITH ORDINALITY AS u (c, n)), '')
        || '</header>' || stripe_portal.page_patterns() || '<main>'
        || coalesce((SELECT string_agg(stripe_portal.page_currency(data, names, c), E'\n' ORDER BY n) FROM unnest(currencies) WITH ORDINALITY AS u (c, n)),
                    format('<p class="nothing">There is nothing yet: no subscription has brought in money, and no payment has failed%s.</p>',
                           CASE WHEN mode THEN '' ELSE ', in test mode' END))
        || '</main><footer><p>Money is MRR, what subscriptions bring in per month, but for failed payments, which are what was to be paid. '
        || 'Currencies are never added up. Months are those of UTC. Made '
        || to_char(now(), 'YYYY-MM-DD HH24:MI') || ' UTC.</p></footer>');
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn_report(daterange, text, boolean) IS
'The reports on one page, in HTML, to be written to a file as UTF-8: for each currency the MRR bridge, the leak, churn by reason, by what was answered and by plan, retention, declined payments by code and by attempt, what is at risk now and the last comments, as charts and as tables. It needs nothing else, runs nothing and fetches nothing; what is in the data is shown as text. Of customers it has their comments, and the ids of the ten of each currency with most at risk. period: the days, of UTC, widened to months as in the reports it is made of; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
-- churn: the frame of the report's page, and how it looks.

CREATE FUNCTION stripe_portal.page_style()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN $css$
:root {
    color-scheme: light dark;
    --page: #f5f6f8; --card: #fff; --ink: #1a1d21; --soft: #565d67; --line: #d9dde3; --texture: rgb(255 255 255 / 45%); --heat: 6.5%;
    --c1: #2563a8; --c2: #1a8a7d; --c3: #4a8536; --c4: #4b88bf; --c5: #b07d0a; --c6: #8559ad; --c7: #c03e28; --c8: #6d747e;
}
@media screen and (prefers-color-scheme: dark) {
    :root {
        --page: #101317; --card: #191d23; --ink: #eceef1; --soft: #a7afba; --line: #333a44; --texture: rgb(0 0 0 / 40%); --heat: 5%;
        --c1: #6ea8e6; --c2: #4cc4b4; --c3: #8bcb74; --c4: #9cc3ea; --c5: #e6b84a; --c6: #bfa3dd; --c7: #f0836d; --c8: #a0a6b0;
    }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 82rem; padding: 2rem 1.5rem; background: var(--page); color: var(--ink);
    font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
header p, footer, figcaption p, .tile small, caption { color: var(--soft); }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 3px solid var(--c1); font-size: 1.45rem; }
h3 { margin: 0; font-size: 1.05rem; }
p { margin: .25rem 0; }
nav a { display: inline-block; margin: .5rem .5rem 0 0; padding: .2rem .9rem; border: 1px solid var(--line); border-radius: 1rem;
    background: var(--card); color: var(--c1); font-weight: 600; text-decoration: none; }
.tiles, .figures { display: grid; gap: 1rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); margin-bottom: 1rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(min(34rem, 100%), 1fr)); }
.tile, figure { margin: 0; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: .6rem; background: var(--card); break-inside: avoid; }
.tile { display: flex; flex-direction: column; }
.tile strong { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile small { display: block; font-size: .85rem; }
.spark { display: block; width: 100%; height: 2.5rem; margin-top: auto; padding-top: .4rem; }
.spark polygon { fill: var(--c1); opacity: .18; }
.spark polyline { fill: none; stroke: var(--c1); stroke-width: 2; vector-effect: non-scaling-stroke; }
figcaption { margin-bottom: .75rem; }
.chart { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.chart .axis, .chart .name { text-anchor: end; }
.chart .label { text-anchor: middle; }
.chart .name { fill: var(--ink); font-size: 12.5px; }
.chart .value { fill: var(--ink); }
.grid { stroke: var(--line); }
.zero { stroke: var(--soft); }
.chart rect { stroke: var(--card); }
.net { fill: var(--ink); stroke: var(--card); stroke-width: 2; }
.s1 { fill: var(--c1); }
.s2 { fill: url(#p2); } .s3 { fill: url(#p3); } .s4 { fill: url(#p4); } .s5 { fill: url(#p5); }
.s6 { fill: url(#p6); } .s7 { fill: url(#p7); } .s8 { fill: url(#p8); }
.s9 { rx: 50%; fill: var(--ink); }
.f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); } .f4 { fill: var(--c4); }
.f5 { fill: var(--c5); } .f6 { fill: var(--c6); } .f7 { fill: var(--c7); } .f8 { fill: var(--c8); }
.texture { fill: none; stroke: var(--texture); stroke-width: 1.6; }
.patterns { position: absolute; width: 0; height: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: .5rem 0 0; padding: 0; list-style: none; font-size: .85rem; }
.legend svg { width: .9rem; height: .9rem; margin-right: .4rem; vertical-align: -.1rem; }
details { margin-top: .6rem; font-size: .85rem; }
summary { color: var(--c1); cursor: pointer; }
.scroll { overflow-x: auto; }
table { width: 100%; margin-top: .5rem; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: .25rem 0; text-align: left; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
tbody th { font-weight: 400; }
.word, tbody th { text-align: left; }
td.word, tbody th { min-width: 6rem; white-space: normal; overflow-wrap: anywhere; }
.heat { font-size: .85rem; }
.heat td { border: 1px solid var(--card); }
.heat td, .heat thead th:not(.word) { text-align: center; }
.wide { grid-column: 1 / -1; }
.h0 { --n: 0; } .h1 { --n: 1; } .h2 { --n: 2; } .h3 { --n: 3; } .h4 { --n: 4; } .h5 { --n: 5; }
.h6 { --n: 6; } .h7 { --n: 7; } .h8 { --n: 8; } .h9 { --n: 9; } .h10 { --n: 10; }
td[class^=h] { background: color-mix(in srgb, var(--c1) calc(var(--n) * var(--heat)), var(--card)); }
.nothing { padding: 3rem; border: 1px dashed var(--line); border-radius: .6rem; text-align: center; }
footer { margin-top: 2.5rem; font-size: .85rem; }
@media print {
    @page { margin: 14mm; }
    :root { --page: #fff; --ink: #000; --soft: #444; --line: #ccc; font-size: 10px; }
    body { padding: 0; max-width: none; font-size: 1rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
    nav, details:not([open]) { display: none; }
    section + section { break-before: page; }
    .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); }
    .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
    .tile, figure { padding: .8rem 1rem; }
}
$css$;

COMMENT ON FUNCTION stripe_portal.page_style() IS
'The style sheet of the report''s page, for screens in light and dark, and for paper';

CREATE FUNCTION stripe_portal.page_patterns()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '<svg class="patterns" aria-hidden="true"><defs>' || string_agg(format(
               '<pattern id="p%1$s" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="f%1$s" width="8" height="8"/><path class="texture" d="%2$s"/></pattern>',
               n, path), '' ORDER BY n) || '</defs></svg>'
    FROM (VALUES (2, 'M-2 2l4-4M0 8l8-8M6 10l4-4'), (3, 'M2 2h2M6 6h2'), (4, 'M-2 6l4 4M0 0l8 8M6-2l4 4'), (5, 'M0 4h8'),
                 (6, 'M0 0l8 8M0 8l8-8'), (7, 'M4 0v8'), (8, 'M4 0v8M0 4h8')) AS p (n, path)
$$;

COMMENT ON FUNCTION stripe_portal.page_patterns() IS
'What tells the colours of the charts apart without colours';

CREATE FUNCTION stripe_portal.page_document(title text, body text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- nothing but this style sheet is let in
    SELECT format('<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''sha256-%s''; base-uri ''none''; form-action ''none''">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>%s</style>
</head>
<body>
%s
</body>
</html>',
        encode(sha256(convert_to(stripe_portal.page_style(), 'UTF8')), 'base64'),
        stripe_portal.html_escape(title), stripe_portal.page_style(), body)
$$;

COMMENT ON FUNCTION stripe_portal.page_document(text, text) IS
'A whole document in HTML around its body, in which nothing runs and which fetches nothing';
-- churn: the words and tables of the report's page.
--
-- The page is for people: nothing in it may run, and nothing may be fetched.
-- Whatever comes from data becomes text in one of these functions, and they
-- write no attribute that is made from data.  All is ASCII but for the data.

CREATE FUNCTION stripe_portal.html_escape(value text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');

COMMENT ON FUNCTION stripe_portal.html_escape(text) IS
'Text as HTML that shows it, whatever it is, in an element or a quoted attribute';

CREATE FUNCTION stripe_portal.money(amount numeric, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    value CONSTANT numeric := @extschema@.stripe_amount(amount, currency);
BEGIN
    RETURN to_char(value, 'FM9,999,999,999,999,999,990' || CASE scale(value) WHEN 0 THEN '' ELSE rpad('.', scale(value) + 1, '0') END);
END
$$;

COMMENT ON FUNCTION stripe_portal.money(numeric, text) IS
'An amount of minor units as people write it, without the currency: 123456 is 1,234.56 in dollars, 123,456 in yen, 123.456 in dinars';

CREATE FUNCTION stripe_portal.money_short(amount numeric, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    value CONSTANT numeric := @extschema@.stripe_amount(amount, currency);
BEGIN
    RETURN CASE
        WHEN abs(value) >= 1000000 THEN trim_scale(round(value / 1000000, 1)) || 'M'
        WHEN abs(value) >= 1000 THEN trim_scale(round(value / 1000, 1)) || 'k'
        ELSE trim_scale(round(value, 1))::text END;
END
$$;

COMMENT ON FUNCTION stripe_portal.money_short(numeric, text) IS
'An amount of minor units in few letters, for the axis of a chart: 123456 is 1.2k in dollars';

CREATE FUNCTION stripe_portal.percent(share numeric)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN to_char(100 * share, 'FM999,999,990.0') || ' %';

COMMENT ON FUNCTION stripe_portal.percent(numeric) IS
'A share as people read it: 0.125 is 12.5 %';

CREATE FUNCTION stripe_portal.page_word(key text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN key IS NULL THEN 'not known'
    -- ids have capitals or digits in them, and stay as they are
    WHEN key ~ '^[a-z_]+$' THEN replace(key, '_', ' ')
    ELSE key
END;

COMMENT ON FUNCTION stripe_portal.page_word(text) IS
'A code of Stripe''s in words: too_expensive is too expensive, NULL is not known';

CREATE FUNCTION stripe_portal.html_table(caption text, head text[], body jsonb, words integer DEFAULT 1)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('<div class="scroll"><table><caption>%s</caption><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>',
        stripe_portal.html_escape(caption),
        (SELECT string_agg(format('<th scope="col"%s>%s</th>', CASE WHEN n <= words THEN ' class="word"' END,
                                  stripe_portal.html_escape(name)), '' ORDER BY n)
         FROM unnest(head) WITH ORDINALITY AS h (name, n)),
        (SELECT string_agg(format('<tr>%s</tr>', (
                    SELECT string_agg(CASE
                               WHEN c.n = 1 THEN format('<th scope="row"><bdi>%s</bdi></th>', stripe_portal.html_escape(c.cell))
                               WHEN c.n <= words THEN format('<td class="word"><bdi>%s</bdi></td>', coalesce(stripe_portal.html_escape(c.cell), '&ndash;'))
                               ELSE format('<td>%s</td>', coalesce(stripe_portal.html_escape(c.cell), '&ndash;')) END, '' ORDER BY c.n)
                    FROM jsonb_array_elements_text(r.cells) WITH ORDINALITY AS c (cell, n))), E'\n' ORDER BY r.n)
         FROM jsonb_array_elements(body) WITH ORDINALITY AS r (cells, n)));
END
$$;

COMMENT ON FUNCTION stripe_portal.html_table(text, text[], jsonb, integer) IS
'A table in HTML: body is an array of rows, each an array of texts (or null, a dash); the first so many columns are words, the others numbers. Cells are escaped';

CREATE FUNCTION stripe_portal.html_heat(caption text, head text[], body jsonb)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('<div class="scroll"><table class="heat"><caption>%s</caption><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>',
        stripe_portal.html_escape(caption),
        (SELECT string_agg(format('<th scope="col"%s>%s</th>', CASE WHEN n = 1 THEN ' class="word"' END,
                                  stripe_portal.html_escape(name)), '' ORDER BY n)
         FROM unnest(head) WITH ORDINALITY AS h (name, n)),
        (SELECT string_agg(format('<tr><th scope="row"><bdi>%s</bdi></th><td>%s</td>%s</tr>',
                    stripe_portal.html_escape(r.line ->> 'label'), stripe_portal.html_escape(r.line ->> 'count'), (
                    SELECT string_agg(CASE WHEN s.share IS NULL THEN '<td></td>'
                               ELSE format('<td class="h%s">%s</td>', round(10 * least(s.share::numeric, 1)), round(100 * s.share::numeric)) END,
                               '' ORDER BY s.n)
                    FROM jsonb_array_elements_text(r.line -> 'shares') WITH ORDINALITY AS s (share, n))), E'\n' ORDER BY r.n)
         FROM jsonb_array_elements(body) WITH ORDINALITY AS r (line, n)));
END
$$;

COMMENT ON FUNCTION stripe_portal.html_heat(text, text[], jsonb) IS
'A table in HTML whose cells are percentages, the darker the more: body is an array of {"label", "count", "shares": [0 to 1, or null for an empty cell]}';

CREATE FUNCTION stripe_portal.html_legend(names text[], styles integer[])
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '<ul class="legend">' || string_agg(format('<li><svg aria-hidden="true" viewBox="0 0 14 14"><rect class="s%s" width="14" height="14"/></svg><bdi>%s</bdi></li>',
                                                      style, stripe_portal.html_escape(name)), '' ORDER BY n) || '</ul>'
    FROM unnest(names, styles) WITH ORDINALITY AS u (name, style, n)
$$;

COMMENT ON FUNCTION stripe_portal.html_legend(text[], integer[]) IS
'What the colours and patterns of a chart mean; styles are those of stripe_portal.page_style';

CREATE FUNCTION stripe_portal.html_figure(title text, finding text, picture text, numbers text DEFAULT NULL, wide boolean DEFAULT false)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<figure%s><figcaption><h3>%s</h3><p>%s</p></figcaption>%s%s</figure>',
                  CASE WHEN wide THEN ' class="wide"' END, stripe_portal.html_escape(title), stripe_portal.html_escape(finding),
                  picture, '<details><summary>The numbers</summary>' || numbers || '</details>')
$$;

COMMENT ON FUNCTION stripe_portal.html_figure(text, text, text, text, boolean) IS
'One figure of the page: its title and what it shows in a sentence, the picture, in HTML, and the same in numbers, in HTML, if there is more to it; wide takes the whole width';
-- churn: what the report's page shows of one currency, figure by figure.
--
-- Each of these takes the rows of one report in one currency, as page_data has
-- them, and gives HTML, or '' if there is nothing to show.

CREATE FUNCTION stripe_portal.page_tile(name text, value text, remark text, picture text DEFAULT '')
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<div class="tile"><small>%s</small><strong>%s</strong><small>%s</small>%s</div>',
                  stripe_portal.html_escape(name), coalesce(stripe_portal.html_escape(value), '&ndash;'),
                  coalesce(stripe_portal.html_escape(remark), ''), picture)
$$;

COMMENT ON FUNCTION stripe_portal.page_tile(text, text, text, text) IS
'One figure in large print, with a remark, and a picture in HTML';

CREATE FUNCTION stripe_portal.page_tiles(rates jsonb, bridge jsonb, leaks jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mrr record;
    rate record;
    leak record;
BEGIN
    IF bridge = '[]' THEN
        RETURN '';
    END IF;
    SELECT (array_agg(b.opening ORDER BY b.month))[1] AS before, (array_agg(b.closing ORDER BY b.month DESC))[1] AS after,
           (array_agg(b.subscribers_opening ORDER BY b.month))[1] AS subscribers_before,
           (array_agg(b.subscribers_closing ORDER BY b.month DESC))[1] AS subscribers_after,
           array_agg(b.closing ORDER BY b.month) AS line, array_agg(b.subscribers_closing ORDER BY b.month) AS subscribers_line
    INTO mrr
    FROM jsonb_to_recordset(bridge) AS b (month date, opening bigint, closing bigint, subscribers_opening bigint, subscribers_closing bigint);
    SELECT sum(r.voluntary_mrr + r.involuntary_mrr) / nullif(sum(r.mrr_opening), 0) AS mrr,
           sum(r.voluntary_customers + r.involuntary_customers) / nullif(sum(r.customers_opening), 0) AS customers,
           sum(r.involuntary_mrr) / nullif(sum(r.voluntary_mrr + r.involuntary_mrr), 0) AS involuntary,
           array_agg(100 * coalesce(r.mrr_rate, 0) ORDER BY r.month) AS line, array_agg(r.voluntary_mrr + r.involuntary_mrr ORDER BY r.month) AS lost_line
    INTO rate
    FROM jsonb_to_recordset(rates) AS r (month date, mrr_rate numeric, customers_opening numeric, mrr_opening numeric, voluntary_customers numeric,
                                         involuntary_customers numeric, voluntary_mrr numeric, involuntary_mrr numeric);
    SELECT sum(l.cancellation_leak + l.payment_leak) AS lost, sum(l.cancellation_recovered + l.payment_recovered) AS recovered
    INTO leak
    FROM jsonb_to_recordset(leaks) AS l (cancellation_leak numeric, payment_leak numeric, cancellation_recovered numeric, payment_recovered numeric);

    RETURN '<div class="tiles">'
        || stripe_portal.page_tile('MRR at the end', stripe_portal.money(mrr.after, currency),
               'from ' || stripe_portal.money(mrr.before, currency)
                   || coalesce(', ' || to_char(100.0 * (mrr.after - mrr.before) / nullif(mrr.before, 0), 'FMSG999,999,990.0') || ' %', ''),
               stripe_portal.svg_spark('MRR at the end of each month', mrr.line))
        || stripe_portal.page_tile('Subscribers at the end', to_char(mrr.subscribers_after, 'FM999,999,999,990'),
               'from ' || to_char(mrr.subscribers_before, 'FM999,999,999,990'),
               stripe_portal.svg_spark('Subscribers at the end of each month', mrr.subscribers_line))
        || stripe_portal.page_tile('MRR churn in a month', stripe_portal.percent(rate.mrr),
               stripe_portal.percent(rate.customers) || ' of the subscribers',
               stripe_portal.svg_spark('MRR churn by month', rate.line))
        || stripe_portal.page_tile('MRR lost', stripe_portal.money(leak.lost, currency),
               stripe_portal.money(leak.recovered, currency) || ' of it came back; '
                   || coalesce(stripe_portal.percent(rate.involuntary), '0 %') || ' was nobody''s decision',
               stripe_portal.svg_spark('MRR lost by month', rate.lost_line))
        || '</div>';
END
$$;

COMMENT ON FUNCTION stripe_portal.page_tiles(jsonb, jsonb, jsonb, text) IS
'The figures at the head of a currency, from rows of stripe_churn_rate, stripe_mrr_bridge and stripe_churn_leak. The churn in a month is that of all months by what they all began with';

CREATE FUNCTION stripe_portal.page_bridge(bridge jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    movements CONSTANT text[] := '{new,expansion,reactivation,resume,contraction,pause,churn}';
    total record;
BEGIN
    IF bridge = '[]' THEN
        RETURN '';
    END IF;
    SELECT sum(b.closing - b.opening) AS net, sum(b.new + b.expansion + b.reactivation + b.resume) AS came,
           sum(b.contraction + b.pause + b.churn) AS went, (array_agg(b.unknown ORDER BY b.month DESC))[1] AS unknown
    INTO total
    FROM jsonb_to_recordset(bridge) AS b (month date, opening numeric, new numeric, expansion numeric, contraction numeric, reactivation numeric,
                                          pause numeric, resume numeric, churn numeric, closing numeric, unknown bigint);
    RETURN stripe_portal.html_figure('MRR bridge',
        format('%s came and %s went: %s in all.', stripe_portal.money(total.came, currency), stripe_portal.money(-total.went, currency),
               stripe_portal.money(total.net, currency))
            || CASE WHEN total.unknown > 0 THEN format(' Not in it, because their MRR is not known: %s subscriptions.', total.unknown) ELSE '' END,
        stripe_portal.svg_columns('MRR bridge by month', 'What was added to the MRR in each month, above, what was taken away, below, and what both come to',
            months, movements, '{1,2,3,4,5,6,7}',
            (SELECT jsonb_agg(jsonb_build_object('x', to_char((b.line ->> 'month')::date, 'Mon YY'), 'layer', m, 'value', b.line -> m))
             FROM jsonb_array_elements(bridge) AS b (line), unnest(movements) AS m), currency, true),
        stripe_portal.html_table('MRR bridge by month, in ' || upper(currency),
            '{Month,Opening,New,Expansion,Contraction,Reactivation,Pause,Resume,Churn,Closing,Subscribers at first,Subscribers at last,Without known MRR}',
            (SELECT jsonb_agg(jsonb_build_array(to_char((b.line ->> 'month')::date, 'Mon YY')) || (
                        SELECT jsonb_agg(stripe_portal.money((b.line ->> k)::numeric, currency) ORDER BY n)
                        FROM unnest('{opening,new,expansion,contraction,reactivation,pause,resume,churn,closing}'::text[]) WITH ORDINALITY AS u (k, n))
                    || jsonb_build_array(b.line ->> 'subscribers_opening', b.line ->> 'subscribers_closing', b.line ->> 'unknown') ORDER BY b.line ->> 'month')
             FROM jsonb_array_elements(bridge) AS b (line))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_bridge(jsonb, text[], text) IS
'The figure of stripe_mrr_bridge';

CREATE FUNCTION stripe_portal.page_reasons(reasons jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[];       -- the most money first
    sums numeric[];
    shown text[];
    points jsonb;
BEGIN
    SELECT array_agg(r.name ORDER BY r.mrr DESC, r.name), array_agg(r.mrr ORDER BY r.mrr DESC, r.name) INTO names, sums
    FROM (SELECT stripe_portal.page_word(r.key) AS name, sum(r.mrr) AS mrr
          FROM jsonb_to_recordset(reasons) AS r (key text, mrr numeric) GROUP BY 1) AS r;
    IF names IS NULL THEN
        RETURN '';
    END IF;
    -- there are eight styles
    shown := names[:7] || CASE WHEN cardinality(names) > 7 THEN '{all others}'::text[] ELSE '{}' END;
    points := (
        SELECT jsonb_agg(jsonb_build_object('x', to_char(r.month, 'Mon YY'),
                   'layer', CASE WHEN array_position(names, stripe_portal.page_word(r.key)) > 7 THEN 'all others' ELSE stripe_portal.page_word(r.key) END,
                   'value', r.mrr))
        FROM jsonb_to_recordset(reasons) AS r (month date, key text, mrr numeric));
    RETURN stripe_portal.html_figure('Churn by reason',
        format('%s of the MRR that was lost: %s.', coalesce(stripe_portal.percent(sums[1] / nullif((SELECT sum(s) FROM unnest(sums) AS s), 0)), 'None'), names[1]),
        stripe_portal.svg_columns('Churned MRR by month and reason', 'What was lost in each month, stacked by what ended the subscriptions',
            months, shown, ('{1,7,5,6,3,4,2,8}'::integer[])[:cardinality(shown)], points, currency),
        stripe_portal.html_table('Churned MRR by month and reason, in ' || upper(currency), 'Month'::text || names,
            (SELECT jsonb_agg(jsonb_build_array(month) || (
                        SELECT jsonb_agg(stripe_portal.money(coalesce((
                                   SELECT sum(r.mrr) FROM jsonb_to_recordset(reasons) AS r (month date, key text, mrr numeric)
                                   WHERE to_char(r.month, 'Mon YY') = m.month AND stripe_portal.page_word(r.key) = name), 0), currency) ORDER BY k)
                        FROM unnest(names) WITH ORDINALITY AS u (name, k)) ORDER BY m.n)
             FROM unnest(months) WITH ORDINALITY AS m (month, n))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_reasons(jsonb, text[], text) IS
'The figure of stripe_churn by reason';

CREATE FUNCTION stripe_portal.page_churn(title text, finding text, what text, rows jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sums jsonb;         -- the most money first
BEGIN
    SELECT jsonb_agg(jsonb_build_object('label', r.name, 'value', r.mrr, 'customers', r.customers) ORDER BY r.mrr DESC, r.name) INTO sums
    FROM (SELECT r.name, sum(r.mrr) AS mrr, sum(r.customers) AS customers
          FROM jsonb_to_recordset(rows) AS r (name text, mrr numeric, customers numeric) GROUP BY 1) AS r;
    IF sums IS NULL THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure(title, format(finding, coalesce(jsonb_path_query_first(sums, '$[*].label ? (@ <> "no answer" && @ <> "not known")') #>> '{}', 'nothing')),
        stripe_portal.svg_bars(title, 'What was lost in the whole period', jsonb_path_query_array(sums, '$[0 to 9]'), 1, currency),
        stripe_portal.html_table(title || ', in ' || upper(currency), ARRAY[what, 'MRR', 'Customers'],
            (SELECT jsonb_agg(jsonb_build_array(s.line ->> 'label', stripe_portal.money((s.line ->> 'value')::numeric, currency), s.line ->> 'customers') ORDER BY s.n)
             FROM jsonb_array_elements(sums) WITH ORDINALITY AS s (line, n))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_churn(text, text, text, jsonb, text) IS
'The figure of stripe_churn by something else, summed over the period: rows are {"name", "mrr", "customers"}, the finding is a format for the first name that is one, what is the head of the names'' column';

CREATE FUNCTION stripe_portal.page_retention(retention jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last integer;
    kept numeric;
BEGIN
    SELECT max(r.months), sum(r.retained) FILTER (WHERE r.months = 3) / nullif(sum(r.customers) FILTER (WHERE r.months = 3), 0)
    INTO last, kept
    FROM jsonb_to_recordset(retention) AS r (months integer, customers numeric, retained numeric);
    IF last IS NULL THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('Who stays',
        coalesce(stripe_portal.percent(kept) || ' of the customers are still there after three months. ', '')
            || 'By the month of their first payment: how many of a hundred were there at the end of that month (0) and of those after it.',
        stripe_portal.html_heat('Customers who stayed, in percent', '{First paid,Customers}'::text[] || ARRAY(SELECT generate_series(0, last)::text),
            (SELECT jsonb_agg(jsonb_build_object('label', to_char(c.cohort, 'Mon YY'), 'count', c.customers, 'shares', c.shares) ORDER BY c.cohort)
             FROM (SELECT r.cohort, max(r.customers) AS customers, jsonb_agg(r.share ORDER BY r.months) AS shares
                   FROM (SELECT k.cohort, s.months, r.customers, r.retained / nullif(r.customers, 0) AS share
                         FROM (SELECT DISTINCT r.cohort FROM jsonb_to_recordset(retention) AS r (cohort date)) AS k
                         CROSS JOIN generate_series(0, last) AS s (months)
                         LEFT JOIN jsonb_to_recordset(retention) AS r (cohort date, months integer, customers numeric, retained numeric)
                             ON r.cohort = k.cohort AND r.months = s.months) AS r
                   GROUP BY r.cohort) AS c)),
        stripe_portal.html_table('Customers and their MRR, in ' || upper(currency),
            '{First paid,Months later,Customers,Still there,MRR at first,MRR then}',
            (SELECT jsonb_agg(jsonb_build_array(to_char(r.cohort, 'Mon YY'), r.months::text, r.customers::text, r.retained::text,
                        stripe_portal.money(r.mrr_start, currency), stripe_portal.money(r.mrr_retained, currency)) ORDER BY r.cohort, r.months)
             FROM jsonb_to_recordset(retention) AS r (cohort date, months integer, customers bigint, retained bigint,
                                                      mrr_start numeric, mrr_retained numeric))), true);
END
$$;

COMMENT ON FUNCTION stripe_portal.page_retention(jsonb, text) IS
'The figure of stripe_retention';

CREATE FUNCTION stripe_portal.page_declines(declines jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    total record;
BEGIN
    IF declines = '[]' THEN
        RETURN '';
    END IF;
    SELECT sum(d.amount) AS amount, sum(d.recovered_amount) AS recovered, (array_agg(d.code ORDER BY d.amount DESC, d.code))[1] AS first
    INTO total
    FROM jsonb_to_recordset(declines) AS d (code text, amount numeric, recovered_amount numeric);
    RETURN stripe_portal.html_figure('Declined payments by code',
        format('Most money failed with %s. %s of what failed came in after all.', stripe_portal.page_word(total.first),
               coalesce(stripe_portal.percent(total.recovered / nullif(total.amount, 0)), 'Nothing')),
        stripe_portal.svg_bars('Declined payments by code', 'The money of the payments that failed with each code, and what of it came in after all',
            (SELECT jsonb_agg(jsonb_build_object('label', stripe_portal.page_word(d.code), 'value', d.amount, 'part', d.recovered_amount))
             FROM (SELECT d.* FROM jsonb_to_recordset(declines) AS d (code text, amount numeric, recovered_amount numeric)
                   ORDER BY d.amount DESC, d.code LIMIT 12) AS d), 7, currency)
            || stripe_portal.html_legend('{came in after all,did not}', '{2,7}'),
        stripe_portal.html_table('Declined payments by code, in ' || upper(currency),
            '{Code,Class,Attempts,Share,Payments,Amount,Recovered,Recovered amount}',
            (SELECT jsonb_agg(jsonb_build_array(stripe_portal.page_word(d.code), d.class || CASE WHEN d.known THEN '' ELSE ' (unknown code)' END,
                        d.attempts::text, stripe_portal.percent(d.share), d.payments::text, stripe_portal.money(d.amount, currency),
                        d.recovered::text, stripe_portal.money(d.recovered_amount, currency)) ORDER BY d.amount DESC, d.code)
             FROM jsonb_to_recordset(declines) AS d (code text, class text, known boolean, attempts bigint, share numeric, payments bigint,
                                                     amount numeric, recovered bigint, recovered_amount numeric)), 2));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_declines(jsonb, text) IS
'The figure of stripe_decline_report';

CREATE FUNCTION stripe_portal.page_recovery(recovery jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attempts text[];
    points jsonb;
    first numeric;
BEGIN
    SELECT array_agg(a.name ORDER BY a.attempt),
           jsonb_agg(jsonb_build_object('x', a.name, 'layer', 'came in after all', 'value', a.recovered_amount))
               || jsonb_agg(jsonb_build_object('x', a.name, 'layer', 'did not', 'value', a.amount - a.recovered_amount)),
           sum(a.recovered) FILTER (WHERE a.attempt = 1) / nullif(sum(a.failed) FILTER (WHERE a.attempt = 1), 0)
    INTO attempts, points, first
    FROM (SELECT r.attempt, coalesce('attempt ' || r.attempt, 'not known') AS name, sum(r.failed) AS failed, sum(r.recovered) AS recovered,
                 sum(r.amount) AS amount, sum(r.recovered_amount) AS recovered_amount
          FROM jsonb_to_recordset(recovery) AS r (attempt integer, failed numeric, recovered numeric, amount numeric, recovered_amount numeric)
          GROUP BY r.attempt) AS a;
    IF attempts IS NULL THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('Recovery by attempt',
        coalesce(stripe_portal.percent(first) || ' of the payments that failed the first time came in after all.', 'What became of the payments that failed.'),
        stripe_portal.svg_columns('Failed payments by attempt', 'The money that failed at each attempt, and what of it came in after all',
            attempts, '{came in after all,did not}', '{2,7}', points, currency),
        stripe_portal.html_table('Recovery by code and attempt, in ' || upper(currency),
            '{Code,Attempt,Failed,Recovered,Rate,Amount,Recovered amount}',
            (SELECT jsonb_agg(jsonb_build_array(stripe_portal.page_word(r.code), r.attempt::text, r.failed::text, r.recovered::text,
                        stripe_portal.percent(r.rate), stripe_portal.money(r.amount, currency), stripe_portal.money(r.recovered_amount, currency))
                    ORDER BY r.code, r.attempt)
             FROM jsonb_to_recordset(recovery) AS r (code text, attempt integer, failed bigint, recovered bigint, rate numeric,
                                                     amount numeric, recovered_amount numeric))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_recovery(jsonb, text) IS
'The figure of stripe_decline_recovery';

CREATE FUNCTION stripe_portal.page_leak(leaks jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    total record;
BEGIN
    IF leaks = '[]' THEN
        RETURN '';
    END IF;
    SELECT sum(l.cancellation_leak + l.payment_leak) AS lost, sum(l.payment_leak) AS payment, sum(l.recoverable) AS recoverable,
           min(l.assumed_cancellation_rate) AS cancellation_rate, min(l.assumed_payment_rate) AS payment_rate, min(l.assumed_within) AS within
    INTO total
    FROM jsonb_to_recordset(leaks) AS l (cancellation_leak numeric, payment_leak numeric, recoverable numeric,
                                         assumed_within interval, assumed_cancellation_rate numeric, assumed_payment_rate numeric);
    RETURN stripe_portal.html_figure('The leak',
        format('%s of MRR was lost, %s of it to failed payments. %s more could be had, if %s of the cancellations and %s of the failed payments '
               || 'can be prevented: an assumption. Who returns within %s days counts as back.',
               stripe_portal.money(total.lost, currency), stripe_portal.money(total.payment, currency), stripe_portal.money(total.recoverable, currency),
               stripe_portal.percent(total.cancellation_rate), stripe_portal.percent(total.payment_rate), (extract(epoch FROM total.within) / 86400)::integer),
        stripe_portal.svg_columns('The leak by month', 'MRR that was lost in each month, below, and what of it came back or did not leak at all, above',
            months, '{came back,saved before it leaked,lost to cancellations,lost to failed payments}', '{2,4,1,7}',
            (SELECT jsonb_agg(jsonb_build_object('x', to_char(l.month, 'Mon YY'), 'layer', s.name, 'value', s.value))
             FROM jsonb_to_recordset(leaks) AS l (month date, cancellation_leak numeric, payment_leak numeric, cancellation_recovered numeric,
                                                  payment_recovered numeric, cancellation_saved numeric, payment_saved numeric),
                  LATERAL (VALUES ('came back', l.cancellation_recovered + l.payment_recovered),
                                  ('saved before it leaked', l.cancellation_saved + l.payment_saved),
                                  ('lost to cancellations', -l.cancellation_leak),
                                  ('lost to failed payments', -l.payment_leak)) AS s (name, value)), currency),
        stripe_portal.html_table('The leak by month, in ' || upper(currency),
            '{Month,Cancellation leak,Payment leak,Cancellation recovered,Payment recovered,Cancellation saved,Payment saved,Recoverable}',
            (SELECT jsonb_agg(jsonb_build_array(to_char((l.line ->> 'month')::date, 'Mon YY')) || (
                        SELECT jsonb_agg(stripe_portal.money((l.line ->> k)::numeric, currency) ORDER BY n)
                        FROM unnest('{cancellation_leak,payment_leak,cancellation_recovered,payment_recovered,cancellation_saved,payment_saved,recoverable}'::text[])
                             WITH ORDINALITY AS u (k, n)) ORDER BY l.line ->> 'month')
             FROM jsonb_array_elements(leaks) AS l (line))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_leak(jsonb, text[], text) IS
'The figure of stripe_churn_leak';

CREATE FUNCTION stripe_portal.page_risk(risks jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF risks = '[]' THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('At risk now',
        (SELECT format('%s past due, with an MRR of %s; those with most of it:', count(*), stripe_portal.money(coalesce(sum(r.mrr), 0), currency))
         FROM jsonb_to_recordset(risks) AS r (mrr numeric)),
        stripe_portal.html_table('Subscriptions at risk now, in ' || upper(currency), '{Customer,Last code,Past due since,MRR,Due}',
            (SELECT jsonb_agg(jsonb_build_array(r.customer, stripe_portal.page_word(r.code), to_char(r.since, 'YYYY-MM-DD'),
                        stripe_portal.money(r.mrr, currency), stripe_portal.money(r.amount_due, currency)) ORDER BY r.mrr DESC NULLS LAST, r.customer)
             FROM (SELECT r.* FROM jsonb_to_recordset(risks) AS r (customer text, code text, since timestamptz, mrr numeric, amount_due numeric)
                   ORDER BY r.mrr DESC NULLS LAST, r.customer LIMIT 10) AS r), 3));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_risk(jsonb, text) IS
'The ten largest of stripe_at_risk';

CREATE FUNCTION stripe_portal.page_comments(comments jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF comments = '[]' THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('In their own words', format('The last of %s comments on cancelling.', jsonb_array_length(comments)),
        stripe_portal.html_table('Comments, with the MRR in ' || upper(currency), '{Day,Plan,Answer,Comment,MRR}',
            (SELECT jsonb_agg(jsonb_build_array(to_char(c.at, 'YYYY-MM-DD'), c.name, stripe_portal.page_word(c.feedback), c.comment,
                        stripe_portal.money(c.mrr, currency)) ORDER BY c.n)
             FROM (SELECT c.*, u.n FROM jsonb_array_elements(comments) WITH ORDINALITY AS u (line, n),
                       jsonb_to_record(u.line) AS c (at timestamptz, name text, feedback text, comment text, mrr numeric)
                   ORDER BY u.n LIMIT 10) AS c), 4), NULL, true);
END
$$;

COMMENT ON FUNCTION stripe_portal.page_comments(jsonb, text) IS
'The last ten of stripe_cancel_comments, without the customers';
-- churn: the charts of the report's page, in SVG.
--
-- A chart has a title and a description for those who do not see it, and each
-- of its parts a title with the exact amount, which shows when pointed at.
-- The classes s1 to s8 are colours with patterns, s9 is a dot; see page_style and page_patterns.

CREATE FUNCTION stripe_portal.svg_chart(title text, description text, width integer, height integer, content text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<svg class="chart" role="img" viewBox="0 0 %s %s"><title>%s</title><desc>%s</desc>%s</svg>',
                  width, height, stripe_portal.html_escape(title), stripe_portal.html_escape(description), content)
$$;

COMMENT ON FUNCTION stripe_portal.svg_chart(text, text, integer, integer, text) IS
'A picture in SVG around its content';

CREATE FUNCTION stripe_portal.svg_number(value numeric)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(round(value, 2))::text;

COMMENT ON FUNCTION stripe_portal.svg_number(numeric) IS
'A coordinate in SVG, to a hundredth';

CREATE FUNCTION stripe_portal.chart_step(height numeric)
RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rough CONSTANT numeric := greatest(height, 60) / 6;
    power CONSTANT numeric := trim_scale(10 ^ floor(log(rough)));
BEGIN
    RETURN power * CASE WHEN rough <= power THEN 1 WHEN rough <= 2 * power THEN 2 WHEN rough <= 5 * power THEN 5 ELSE 10 END;
END
$$;

COMMENT ON FUNCTION stripe_portal.chart_step(numeric) IS
'The distance of the lines of a grid, a round number, so that there are about five in a height';

CREATE FUNCTION stripe_portal.svg_columns(
    title text, description text, columns text[], layers text[], styles integer[], points jsonb, currency text, net boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT numeric := 600;
    gutter CONSTANT numeric := 46;      -- for what is written at the axis
    top CONSTANT numeric := 10;
    bottom CONSTANT numeric := 252;
    band CONSTANT numeric := (width - gutter) / cardinality(columns);
    bar CONSTANT numeric := least(0.72 * band, 56);
    low numeric;
    high numeric;
    step numeric;
    scale numeric;      -- pixels per minor unit
    zero numeric;       -- where nothing is
    content text;
BEGIN
    SELECT coalesce(min(down), 0), coalesce(max(up), 0) INTO low, high
    FROM (SELECT sum(least(p.value, 0)) AS down, sum(greatest(p.value, 0)) AS up
          FROM jsonb_to_recordset(points) AS p (x text, value numeric)
          GROUP BY p.x) AS stack;
    step := stripe_portal.chart_step(high - low);
    low := step * floor(low / step);
    high := greatest(step * ceil(high / step), low + step);
    scale := (bottom - top) / (high - low);
    zero := bottom + low * scale;

    SELECT string_agg(format('<line class="%1$s" x1="%2$s" x2="%3$s" y1="%4$s" y2="%4$s"/><text class="axis" x="%5$s" y="%6$s">%7$s</text>',
               CASE WHEN level = 0 THEN 'zero' ELSE 'grid' END, gutter, width, stripe_portal.svg_number(zero - level * scale),
               gutter - 6, stripe_portal.svg_number(zero - level * scale + 4), stripe_portal.money_short(level, currency)), '' ORDER BY level)
    INTO content
    FROM generate_series(low, high, step) AS level;

    -- what adds grows upwards from zero, what takes away downwards
    content := content || coalesce((
        SELECT string_agg(format('<rect class="s%s" x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>',
                   styles[s.layer_n], stripe_portal.svg_number(gutter + (s.column_n - 1) * band + (band - bar) / 2),
                   stripe_portal.svg_number(zero - scale * CASE WHEN s.value > 0 THEN s.reached ELSE s.reached - s.value END),
                   stripe_portal.svg_number(bar), stripe_portal.svg_number(scale * abs(s.value)),
                   stripe_portal.html_escape(format('%s, %s: %s', columns[s.column_n], layers[s.layer_n],
                                                    stripe_portal.money(s.value, currency)))), E'\n' ORDER BY s.column_n, s.layer_n)
        FROM (SELECT place.*, sum(value) OVER (PARTITION BY column_n, value > 0 ORDER BY layer_n) AS reached
              FROM (SELECT array_position(columns, p.x) AS column_n, array_position(layers, p.layer) AS layer_n, sum(p.value) AS value
                    FROM jsonb_to_recordset(points) AS p (x text, layer text, value numeric)
                    GROUP BY 1, 2) AS place
              WHERE value <> 0) AS s), '');

    IF net THEN
        content := content || coalesce((
            SELECT string_agg(format('<circle class="net" cx="%s" cy="%s" r="5"><title>%s</title></circle>',
                       stripe_portal.svg_number(gutter + (n - 0.5) * band), stripe_portal.svg_number(zero - scale * value),
                       stripe_portal.html_escape(format('%s, net: %s', name, stripe_portal.money(value, currency)))), E'\n' ORDER BY n)
            FROM (SELECT name, n, (SELECT coalesce(sum(p.value), 0) FROM jsonb_to_recordset(points) AS p (x text, value numeric)
                                   WHERE p.x = name) AS value
                  FROM unnest(columns) WITH ORDINALITY AS c (name, n)) AS total), '');
    END IF;

    content := content || (
        SELECT string_agg(format('<text class="label" x="%s" y="%s">%s</text>', stripe_portal.svg_number(gutter + (n - 0.5) * band),
                                 bottom + 20, stripe_portal.html_escape(name)), '' ORDER BY n)
        FROM unnest(columns) WITH ORDINALITY AS c (name, n));

    RETURN stripe_portal.svg_chart(title, description, width::integer, bottom::integer + 28, content)
        || CASE WHEN net THEN stripe_portal.html_legend(layers || 'net'::text, styles || 9)
                ELSE stripe_portal.html_legend(layers, styles) END;
END
$$;

COMMENT ON FUNCTION stripe_portal.svg_columns(text, text, text[], text[], integer[], jsonb, text, boolean) IS
'A chart of stacked columns with its legend, in HTML: points is an array of {"x", "layer", "value"} with amounts in minor units of the currency; positive ones are stacked upwards, negative ones downwards, in the order of layers; x is one of columns, and styles has the style of each layer. net marks the sum of each column';

CREATE FUNCTION stripe_portal.svg_bars(title text, description text, points jsonb, style integer, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT integer := 600;
    gutter CONSTANT numeric := 180;     -- for the names
    place CONSTANT numeric := 95;      -- for the amounts
    line CONSTANT numeric := 26;
    scale CONSTANT numeric := (width - gutter - place) / greatest(1, (
        SELECT max(p.value) FROM jsonb_to_recordset(points) AS p (value numeric)));
BEGIN
    RETURN stripe_portal.svg_chart(title, description, width, (jsonb_array_length(points) * line)::integer + 4, (
        SELECT string_agg(format('<text class="name" x="%1$s" y="%2$s">%3$s</text>'
                   '<rect class="s%4$s" x="%5$s" y="%6$s" width="%7$s" height="18"><title>%8$s</title></rect>%9$s'
                   '<text class="value" x="%10$s" y="%2$s">%11$s</text>',
                   gutter - 8, (n - 1) * line + 17,
                   stripe_portal.html_escape(CASE WHEN length(p.label) > 24 THEN left(p.label, 22) || '...' ELSE p.label END),
                   style, gutter, (n - 1) * line + 4, stripe_portal.svg_number(p.value * scale),
                   stripe_portal.html_escape(format('%s: %s', p.label, stripe_portal.money(p.value, currency))),
                   -- a part of it, inside
                   CASE WHEN p.part IS NULL THEN ''
                       ELSE format('<rect class="s2" x="%s" y="%s" width="%s" height="18"><title>%s</title></rect>',
                           gutter, (n - 1) * line + 4, stripe_portal.svg_number(p.part * scale),
                           stripe_portal.html_escape(format('%s: %s of it', p.label, stripe_portal.money(p.part, currency)))) END,
                   stripe_portal.svg_number(gutter + p.value * scale + 8), stripe_portal.money(p.value, currency)), E'\n' ORDER BY n)
        FROM jsonb_array_elements(points) WITH ORDINALITY AS u (point, n),
             jsonb_to_record(point) AS p (label text, value numeric, part numeric)));
END
$$;

COMMENT ON FUNCTION stripe_portal.svg_bars(text, text, jsonb, integer, text) IS
'A chart of horizontal bars: points is an array of {"label", "value", "part"} with amounts in minor units of the currency; part, if there is one, is a part of the value';

CREATE FUNCTION stripe_portal.svg_spark(title text, amounts numeric[])
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT integer := 160;
    height CONSTANT integer := 40;
    -- from zero, or it would say more than there is
    high CONSTANT numeric := greatest(1, (SELECT max(a) FROM unnest(amounts) AS a));
    line CONSTANT text := (
        SELECT string_agg(stripe_portal.svg_number((n - 1) * width::numeric / greatest(cardinality(amounts) - 1, 1)) || ','
                          || stripe_portal.svg_number(height - 2 - greatest(a, 0) / high * (height - 4)), ' ' ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (a, n));
BEGIN
    RETURN format('<svg class="spark" role="img" preserveAspectRatio="none" viewBox="0 0 %1$s %2$s"><title>%3$s</title><polygon points="0,%2$s %4$s %1$s,%2$s"/><polyline points="%4$s"/></svg>',
                  width, height, stripe_portal.html_escape(title), line);
END
$$;

COMMENT ON FUNCTION stripe_portal.svg_spark(text, numeric[]) IS
'A small line of amounts over time, from zero';
-- churn: how the MRR of one month became that of the next.

CREATE FUNCTION stripe_portal.subscribers_at(boundaries timestamptz[], account text, livemode boolean)
RETURNS TABLE (boundary timestamptz, currency text, subscribers bigint, mrr bigint, unknown bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- What becomes so at the boundary itself belongs to the time after it.
    RETURN QUERY
    SELECT b.boundary, c.currency, count(DISTINCT c.customer) FILTER (WHERE c.mrr > 0), coalesce(sum(c.mrr), 0)::bigint,
           count(*) FILTER (WHERE c.mrr IS NULL)
    FROM unnest(boundaries) AS b (boundary)
    JOIN stripe_portal.subscription_change AS c ON c.at < b.boundary AND c.until >= b.boundary
    WHERE c.mrr IS DISTINCT FROM 0 AND c.account = subscribers_at.account AND c.livemode = subscribers_at.livemode
    GROUP BY b.boundary, c.currency;
END
$$;

COMMENT ON FUNCTION stripe_portal.subscribers_at(timestamptz[], text, boolean) IS
'How many customers brought in MRR just before each of these times, and how much, by currency; unknown: how many subscriptions counted whose MRR is not known';

CREATE FUNCTION @extschema@.stripe_mrr_bridge(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    month date, currency text, opening bigint, new bigint, expansion bigint, contraction bigint, reactivation bigint,
    pause bigint, resume bigint, churn bigint, closing bigint, subscribers_opening bigint, subscribers_closing bigint,
    unknown bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH subscribers AS MATERIALIZED (
        SELECT s.boundary::date AS day, s.currency, s.subscribers, s.unknown
        FROM stripe_portal.subscribers_at(
                 ARRAY(SELECT generate_series(lower(months)::timestamptz, upper(months), interval '1 month')),
                 stripe_mrr_bridge.account, mode) AS s
    ), moved AS (
        -- all that was before the first month is one month
        SELECT greatest(date_trunc('month', c.at)::date, lower(months) - 1) AS month, c.currency, c.movement,
               sum(c.mrr_change) AS mrr
        FROM stripe_portal.subscription_change AS c
        WHERE c.movement IS NOT NULL AND c.at < upper(months)
          AND c.account = stripe_mrr_bridge.account AND c.livemode = mode
        GROUP BY 1, 2, 3
    ), by_month AS (
        SELECT month, currency,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'new'), 0) AS new,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'expansion'), 0) AS expansion,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'contraction'), 0) AS contraction,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'reactivation'), 0) AS reactivation,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'pause'), 0) AS pause,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'resume'), 0) AS resume,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'churn'), 0) AS churn,
               coalesce(sum(m.mrr), 0) AS moved
        FROM (SELECT lower(months) - 1 UNION ALL
              SELECT generate_series(lower(months), upper(months) - 1, interval '1 month')::date) AS every (month)
        CROSS JOIN (SELECT currency FROM moved UNION SELECT currency FROM subscribers) AS its
        LEFT JOIN moved AS m USING (month, currency)
        GROUP BY month, currency
    ), bridge AS (
        SELECT b.*, sum(b.moved) OVER (PARTITION BY currency ORDER BY month) AS closing
        FROM by_month AS b
    )
    SELECT b.month, b.currency, (b.closing - b.moved)::bigint, b.new::bigint, b.expansion::bigint, b.contraction::bigint,
           b.reactivation::bigint, b.pause::bigint, b.resume::bigint, b.churn::bigint, b.closing::bigint,
           coalesce(first.subscribers, 0), coalesce(last.subscribers, 0), coalesce(last.unknown, 0)
    FROM bridge AS b
    LEFT JOIN subscribers AS first ON first.day = b.month AND first.currency = b.currency
    LEFT JOIN subscribers AS last ON last.day = (b.month + interval '1 month')::date AND last.currency = b.currency
    WHERE b.month >= lower(months)
    ORDER BY b.month, b.currency;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_mrr_bridge(daterange, text, boolean) IS
'How the MRR of each month''s beginning became that of its end: opening + new + expansion + contraction + reactivation + pause + resume + churn = closing, which is the next month''s opening; what takes away is negative. One row for each month and each currency that ever had MRR, or has anything unknown; amounts in its minor units, months of UTC. subscribers_opening, subscribers_closing: customers with MRR above 0. unknown: subscriptions that count at the month''s end and whose MRR is not known: they are in closing with what was known of them last, and are no subscribers. The movements are those of stripe_portal.subscription_change. period: the months it touches; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
-- churn: who asked for a cancellation, who changed their mind, and what they wrote.

CREATE FUNCTION @extschema@.stripe_uncancel_rate(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (month date, currency text, asked bigint, undone bigint, pending bigint, rate numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT date_trunc('month', c.began_at)::date, c.currency, count(*), count(c.undone_at),
           count(*) FILTER (WHERE c.undone_at IS NULL AND c.ended_at IS NULL),
           round(count(c.undone_at)::numeric / count(*), 4)
    FROM stripe_portal.cancellation AS c
    WHERE c.asked_at IS NOT NULL AND c.began_at >= lower(months) AND c.began_at < upper(months)
      AND c.account = stripe_uncancel_rate.account AND c.livemode = mode
      -- what ends at once cannot be undone
      AND c.ended_at IS DISTINCT FROM c.asked_at
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_uncancel_rate(daterange, text, boolean) IS
'Of the cancellations that were asked for in a month (asked), to take effect later, how many they took back (undone), whenever that was, and how many are still to take effect (pending); rate: undone of asked, 0 to 1. By month of asking and currency. period: the months it touches, of UTC; NULL for the last twelve and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_cancel_comments(
    query text DEFAULT NULL, period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    at timestamptz, customer text, subscription text, plan text, feedback text, comment text, mrr bigint, currency text, rank real)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    words CONSTANT tsquery := websearch_to_tsquery('pg_catalog.simple', query);
BEGIN
    RETURN QUERY
    SELECT c.began_at, c.customer, c.subscription, c.product, coalesce(c.feedback_option, c.feedback), c.comment,
           c.mrr, c.currency, ts_rank(to_tsvector('pg_catalog.simple', c.comment), words)
    FROM stripe_portal.cancellation AS c
    WHERE (query IS NULL OR to_tsvector('pg_catalog.simple', c.comment) @@ words)
      AND c.comment <> ''
      AND c.began_at >= lower(days) AND c.began_at < upper(days)
      AND c.account = stripe_cancel_comments.account AND c.livemode = mode
    ORDER BY 9 DESC NULLS LAST, 1 DESC, 3;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_cancel_comments(text, daterange, text, boolean) IS
'What subscribers wrote when they cancelled in period, in their own words, with what they had. query: words to look for, as in a web search: all of them, "a phrase", or, -without; NULL for every comment, the newest first. Words are taken as they are written, in any language, but for upper and lower case. rank: how well it fits, the best first; NULL without a query. mrr: at that moment, in minor units. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
-- churn: who was lost, why, and what it cost.

CREATE VIEW stripe_portal.churned WITH (security_invoker = true) AS
SELECT c.subscription, c.livemode, c.account, c.at, c.customer, c.currency,
       -c.mrr_change AS mrr,
       -- without an episode it has not ended: Stripe gave up and left it unpaid
       CASE WHEN e.subscription IS NULL THEN c.status ELSE e.ended_by END AS reason,
       CASE WHEN e.subscription IS NULL THEN false ELSE e.voluntary END AS voluntary,
       e.feedback, e.feedback_option, e.comment, e.product, e.price, c.items, c.start_date,
       CASE WHEN e.subscription IS NULL THEN customer.address ->> 'country' ELSE e.country END AS country,
       NOT EXISTS (
           SELECT FROM stripe_portal.subscription_change AS other
           WHERE (other.customer, other.livemode, other.account) = (c.customer, c.livemode, c.account)
             AND other.subscription <> c.subscription AND other.at <= c.at AND other.until > c.at
             AND (other.mrr > 0 OR other.status = 'paused'
                  OR other.status IN ('active', 'past_due') AND other.pause_collection IS NOT NULL)) AS customer_left
FROM stripe_portal.subscription_change AS c
LEFT JOIN stripe_portal.cancellation AS e
    ON (e.subscription, e.livemode, e.account) = (c.subscription, c.livemode, c.account)
    AND e.ended_at IS NOT NULL AND c.status IN ('canceled', 'incomplete_expired')
LEFT JOIN stripe_portal.customer
    ON (customer.id, customer.livemode, customer.account) = (c.customer, c.livemode, c.account)
WHERE c.movement = 'churn';

COMMENT ON VIEW stripe_portal.churned IS
'Every subscription that stopped counting for the MRR, when, why, and what was lost: one row for each movement churn of stripe_portal.subscription_change, with the reason of its stripe_portal.cancellation';
COMMENT ON COLUMN stripe_portal.churned.mrr IS 'What was lost, in minor units of the currency; 0 if a pause had taken everything before';
COMMENT ON COLUMN stripe_portal.churned.reason IS 'What ended it, as in stripe_portal.cancellation; unpaid, or another status, if it has not ended but no longer counts';
COMMENT ON COLUMN stripe_portal.churned.voluntary IS 'Whether somebody asked for it, as in stripe_portal.cancellation: NULL if it ended for a reason that is not known; false if it has not ended';
COMMENT ON COLUMN stripe_portal.churned.product IS 'As in stripe_portal.cancellation, and so is price: NULL if it has not ended';
COMMENT ON COLUMN stripe_portal.churned.items IS 'As in stripe_portal.subscription_change';
COMMENT ON COLUMN stripe_portal.churned.country IS 'Of the customer''s address';
COMMENT ON COLUMN stripe_portal.churned.customer_left IS 'Whether the customer had no other subscription then that brings in MRR or is paused';

CREATE FUNCTION @extschema@.stripe_churn(
    by text, period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (month date, currency text, key text, voluntary boolean, customers bigint, mrr bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    IF by IS NULL OR by NOT IN ('reason', 'feedback', 'plan', 'price', 'cohort', 'country', 'age') THEN
        RAISE EXCEPTION 'churn is not reported by %', coalesce(quote_ident(by), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use reason, feedback, plan, price, cohort, country or age.';
    END IF;
    RETURN QUERY
    SELECT date_trunc('month', c.at)::date, c.currency,
           CASE by
               WHEN 'reason' THEN c.reason
               WHEN 'feedback' THEN coalesce(c.feedback_option, c.feedback)
               WHEN 'plan' THEN coalesce(c.product, stripe_portal.main_item(c.items, mode, stripe_churn.account) ->> 'product')
               WHEN 'price' THEN coalesce(c.price, stripe_portal.main_item(c.items, mode, stripe_churn.account) ->> 'price')
               WHEN 'cohort' THEN to_char(c.start_date, 'YYYY-MM')
               WHEN 'country' THEN c.country
               WHEN 'age' THEN CASE
                   WHEN c.at < c.start_date + interval '1 month' THEN '00-01 months'
                   WHEN c.at < c.start_date + interval '3 months' THEN '01-03 months'
                   WHEN c.at < c.start_date + interval '1 year' THEN '03-12 months'
                   WHEN c.at < c.start_date + interval '2 years' THEN '12-24 months'
                   WHEN c.at >= c.start_date + interval '2 years' THEN '24+ months' END
           END,
           c.voluntary, count(DISTINCT c.customer) FILTER (WHERE c.customer_left), sum(c.mrr)::bigint
    FROM stripe_portal.churned AS c
    WHERE c.at >= lower(months) AND c.at < upper(months) AND c.account = stripe_churn.account AND c.livemode = mode
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 6 DESC, 3, 4;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn(text, daterange, text, boolean) IS
'Churned MRR and customers by month, currency, and one key: by is reason, feedback (or the portal''s feedback option), plan (product) and price (both of the item that brought in most), cohort (month in which the subscription started), country (of the customer''s address) or age (of the subscription, in five bands); any other is error 22023. key is NULL where it is not known, such as the feedback of who gave none; so is voluntary where the reason of the end is not known. mrr: in minor units; all keys together are the churn of stripe_mrr_bridge. customers: those who left with their last subscription, so who keeps another one is in mrr only. period: the months it touches, of UTC; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_churn_rate(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    month date, currency text, customers_opening bigint, mrr_opening bigint,
    voluntary_customers bigint, involuntary_customers bigint, voluntary_mrr bigint, involuntary_mrr bigint,
    customer_rate numeric, voluntary_customer_rate numeric, involuntary_customer_rate numeric,
    mrr_rate numeric, voluntary_mrr_rate numeric, involuntary_mrr_rate numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH leaver AS (
        -- a customer leaves once a month, for the last of the reasons
        SELECT DISTINCT ON (date_trunc('month', c.at), c.currency, c.customer)
               date_trunc('month', c.at)::date AS month, c.currency, c.voluntary
        FROM stripe_portal.churned AS c
        WHERE c.at >= lower(months) AND c.at < upper(months) AND c.account = stripe_churn_rate.account AND c.livemode = mode
          AND c.customer_left
        ORDER BY date_trunc('month', c.at), c.currency, c.customer, c.at DESC, c.subscription DESC
    ), customers AS (
        SELECT month, currency, count(*) FILTER (WHERE voluntary IS NOT false) AS voluntary, count(*) FILTER (WHERE voluntary = false) AS involuntary
        FROM leaver
        GROUP BY 1, 2
    ), money AS (
        SELECT date_trunc('month', c.at)::date AS month, c.currency,
               coalesce(sum(c.mrr) FILTER (WHERE c.voluntary IS NOT false), 0)::bigint AS voluntary,
               coalesce(sum(c.mrr) FILTER (WHERE c.voluntary = false), 0)::bigint AS involuntary
        FROM stripe_portal.churned AS c
        WHERE c.at >= lower(months) AND c.at < upper(months) AND c.account = stripe_churn_rate.account AND c.livemode = mode
        GROUP BY 1, 2
    ), counted AS (
        SELECT b.month, b.currency, b.subscribers_opening AS customers_opening, b.opening AS mrr_opening,
               coalesce(c.voluntary, 0) AS voluntary_customers, coalesce(c.involuntary, 0) AS involuntary_customers,
               coalesce(m.voluntary, 0) AS voluntary_mrr, coalesce(m.involuntary, 0) AS involuntary_mrr
        FROM @extschema@.stripe_mrr_bridge(months, stripe_churn_rate.account, mode) AS b
        LEFT JOIN customers AS c USING (month, currency)
        LEFT JOIN money AS m USING (month, currency)
    )
    SELECT c.*,
           round((c.voluntary_customers + c.involuntary_customers)::numeric / nullif(c.customers_opening, 0), 4),
           round(c.voluntary_customers::numeric / nullif(c.customers_opening, 0), 4),
           round(c.involuntary_customers::numeric / nullif(c.customers_opening, 0), 4),
           round((c.voluntary_mrr + c.involuntary_mrr)::numeric / nullif(c.mrr_opening, 0), 4),
           round(c.voluntary_mrr::numeric / nullif(c.mrr_opening, 0), 4),
           round(c.involuntary_mrr::numeric / nullif(c.mrr_opening, 0), 4)
    FROM counted AS c
    ORDER BY c.month, c.currency;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn_rate(daterange, text, boolean) IS
'Churn by month and currency, voluntary and involuntary, of customers and of MRR in minor units, and as a share of what the month began with, 0 to 1, NULL if that was nothing. An end without a known reason counts as voluntary. A customer counts who left with their last subscription in the month, once, also if they had come in that month or came back in it. The MRR is that of stripe_churn and stripe_mrr_bridge. period: the months it touches, of UTC; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
-- churn: why payments fail, and which of them come in after all.

CREATE VIEW stripe_portal.explained_failure WITH (security_invoker = true) AS
SELECT f.id, f.livemode, f.account, f.failed_at, f.customer, f.subscription, f.invoice, f.currency, f.amount,
       -- what the attempts at one payment have in common
       coalesce(f.invoice, f.payment_intent, f.id) AS payment,
       f.payment_method, f.attempt_number, f.next_payment_attempt, f.recovered_at,
       reason.code,
       coalesce(known.class, blocked.class, generic.class) AS class,
       CASE f.advice_code
           WHEN 'do_not_try_again' THEN '{do_not_retry,new_method}'
           WHEN 'confirm_card_data' THEN '{correct_data}'
           WHEN 'try_again_later' THEN '{retry_later}'
           ELSE coalesce(known.steps, blocked.steps, generic.steps) END AS steps,
       coalesce(known.tell_customer, blocked.tell_customer, generic.tell_customer) AS tell_customer,
       known.code IS NOT NULL AS known
FROM stripe_portal.payment_failure AS f
CROSS JOIN LATERAL (
    -- blocked by Radar: the network was never asked, and its reason is none of the codes
    SELECT coalesce(f.decline_code, CASE f.outcome_type WHEN 'blocked' THEN f.outcome_reason END, f.code) AS code
) AS reason
LEFT JOIN stripe_portal.decline_code AS known
    ON known.code = reason.code AND known.method = CASE coalesce(f.payment_method_type, 'card') WHEN 'card' THEN 'card' ELSE 'other' END
LEFT JOIN stripe_portal.decline_code AS blocked
    ON f.outcome_type = 'blocked' AND blocked.method = 'card' AND blocked.code = 'fraudulent'
LEFT JOIN stripe_portal.decline_code AS generic
    ON generic.method = 'card' AND generic.code = 'generic_decline';

COMMENT ON VIEW stripe_portal.explained_failure IS
'Failed attempts to get paid, with what stripe_portal.decline_code makes of them';
COMMENT ON COLUMN stripe_portal.explained_failure.payment IS 'What the attempts at one payment have in common: the invoice, else the payment intent';
COMMENT ON COLUMN stripe_portal.explained_failure.code IS 'The decline code; what Radar blocked it for; the error code where there is neither. NULL if Stripe has not told';
COMMENT ON COLUMN stripe_portal.explained_failure.class IS 'That of the code; of an unknown one that of generic_decline, of what Radar blocked that of fraudulent';
COMMENT ON COLUMN stripe_portal.explained_failure.steps IS 'Likewise; Stripe''s advice_code overrides it';
COMMENT ON COLUMN stripe_portal.explained_failure.known IS 'Whether the code is in stripe_portal.decline_code';

CREATE FUNCTION @extschema@.stripe_decline_report(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    code text, class text, known boolean, currency text, attempts bigint, share numeric,
    payments bigint, amount bigint, recovered bigint, recovered_amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH by_payment AS (
        SELECT f.code, f.class, f.known, f.currency, f.payment, count(*) AS attempts,
               -- what is due can change from one attempt to the next
               max(f.amount) AS amount, max(f.recovered_at) AS recovered_at
        FROM stripe_portal.explained_failure AS f
        WHERE f.failed_at >= lower(days) AND f.failed_at < upper(days)
          AND f.account = stripe_decline_report.account AND f.livemode = mode
        GROUP BY 1, 2, 3, 4, 5
    )
    SELECT p.code, p.class, p.known, p.currency, sum(p.attempts)::bigint,
           round(sum(p.attempts) / sum(sum(p.attempts)) OVER (PARTITION BY p.currency), 4),
           count(*), sum(p.amount)::bigint, count(p.recovered_at),
           coalesce(sum(p.amount) FILTER (WHERE p.recovered_at IS NOT NULL), 0)::bigint
    FROM by_payment AS p
    GROUP BY 1, 2, 3, 4
    ORDER BY p.currency, sum(p.amount) DESC, p.code;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_report(daterange, text, boolean) IS
'Failed attempts of period by decline code and currency, the most money first. code: NULL if Stripe has not told one; class: soft, hard or fraud, of an unknown code (known is false) that of generic_decline. attempts, and their share of all in that currency, 0 to 1; payments: the invoices that failed with this code, each counted once, with their amount in minor units; recovered, recovered_amount: those of them that were paid after all, whenever that was. An invoice that failed with two codes is in both rows. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_decline_recovery(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    code text, attempt integer, currency text, failed bigint, recovered bigint, rate numeric,
    amount bigint, recovered_amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT f.code, f.attempt_number, f.currency, count(*), count(f.recovered_at),
           round(count(f.recovered_at)::numeric / count(*), 4),
           sum(f.amount)::bigint, coalesce(sum(f.amount) FILTER (WHERE f.recovered_at IS NOT NULL), 0)::bigint
    FROM stripe_portal.explained_failure AS f
    WHERE f.failed_at >= lower(days) AND f.failed_at < upper(days)
      AND f.account = stripe_decline_recovery.account AND f.livemode = mode
    GROUP BY 1, 2, 3
    ORDER BY f.code, f.attempt_number, f.currency;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_recovery(daterange, text, boolean) IS
'What became of the attempts that failed in period, by code, number of the attempt and currency: how many failed, how many of those payments were paid after all, whenever that was, and the rate of the two, 0 to 1; the same in money, in minor units. attempt: the invoice''s attempt_count, NULL where no invoice told it. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_decline_wasted(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (code text, currency text, attempts bigint, amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH attempt AS (
        SELECT f.failed_at, f.currency, f.amount,
               (array_agg(f.code) FILTER (WHERE f.class <> 'soft' OR 'do_not_retry' = ANY (f.steps)) OVER earlier)[1] AS hopeless_since
        FROM stripe_portal.explained_failure AS f
        -- retries go on for two months at the most
        WHERE f.failed_at >= lower(days) - interval '3 months' AND f.failed_at < upper(days)
          AND f.account = stripe_decline_wasted.account AND f.livemode = mode
        WINDOW earlier AS (PARTITION BY f.payment, f.payment_method ORDER BY f.failed_at, f.id
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT a.hopeless_since, a.currency, count(*), sum(a.amount)::bigint
    FROM attempt AS a
    WHERE a.failed_at >= lower(days) AND a.hopeless_since IS NOT NULL
    GROUP BY 1, 2
    ORDER BY count(*) DESC, 1, 2;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_wasted(daterange, text, boolean) IS
'Retries of period that could not succeed: attempts that failed after the same payment method had failed for the same payment with a code whose class is hard or fraud, or with Stripe''s advice not to try again. code: the first such code; attempts, amount: what was tried in vain after it, in minor units. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_decline_curable(account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    customer text, subscription text, invoice text, currency text, amount bigint, code text, attempts bigint,
    failed_at timestamptz, next_payment_attempt timestamptz, ask text, tell_customer boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH last_failure AS (
        SELECT DISTINCT ON (f.payment) f.*, count(*) OVER (PARTITION BY f.payment) AS attempts
        FROM stripe_portal.explained_failure AS f
        WHERE f.account = stripe_decline_curable.account AND f.livemode = mode AND f.recovered_at IS NULL
        ORDER BY f.payment, f.failed_at DESC, f.id DESC
    )
    SELECT f.customer, f.subscription, f.invoice, f.currency, i.amount_remaining, f.code, f.attempts, f.failed_at,
           f.next_payment_attempt, step.ask, f.tell_customer
    FROM last_failure AS f
    JOIN stripe_portal.invoice AS i
        ON (i.id, i.livemode, i.account) = (f.invoice, f.livemode, f.account) AND i.status = 'open' AND i.amount_remaining > 0
    CROSS JOIN LATERAL (
        SELECT s AS ask FROM unnest(f.steps) WITH ORDINALITY AS u (s, n)
        WHERE s IN ('new_method', 'correct_data') ORDER BY n LIMIT 1) AS step
    -- who has gone will not send a new card
    WHERE NOT EXISTS (
        SELECT FROM stripe_portal.subscription AS s
        WHERE (s.id, s.livemode, s.account) = (f.subscription, f.livemode, f.account) AND stripe_portal.status_is_final(s.status))
    ORDER BY f.currency, i.amount_remaining DESC, f.invoice;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_curable(text, boolean) IS
'Invoices that are open now, after failed attempts, and that the customer could cure: those whose last decline code has new_method or correct_data among its steps. One row each, the most money first; not those of subscriptions that have ended. amount: what is still due, in minor units; code, failed_at: of the last of the attempts; next_payment_attempt: when Stripe tries again, NULL if it will not; ask: what to ask the customer for, new_method or correct_data, whichever decline_code names first; tell_customer: whether the reason may be told. livemode: NULL is the mode of the configured key, live without one';

CREATE FUNCTION @extschema@.stripe_at_risk(account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    subscription text, customer text, currency text, mrr bigint, status text, since timestamptz,
    next_payment_attempt timestamptz, code text, amount_due bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT now.subscription, now.customer, now.currency, now.mrr, now.status,
           (SELECT min(h.at) FROM stripe_portal.subscription_change AS h
            WHERE (h.subscription, h.livemode, h.account) = (now.subscription, now.livemode, now.account)
              AND h.at > coalesce((SELECT max(other.at) FROM stripe_portal.subscription_change AS other
                                   WHERE (other.subscription, other.livemode, other.account)
                                       = (now.subscription, now.livemode, now.account)
                                     AND other.status <> now.status), '-infinity')),
           (SELECT min(i.next_payment_attempt) FROM stripe_portal.invoice AS i
            WHERE (i.subscription, i.livemode, i.account) = (now.subscription, now.livemode, now.account) AND i.status = 'open'),
           (SELECT f.code FROM stripe_portal.explained_failure AS f
            WHERE (f.customer, f.livemode, f.account) = (now.customer, now.livemode, now.account)
              AND f.subscription = now.subscription AND f.recovered_at IS NULL
            ORDER BY f.failed_at DESC, f.id DESC LIMIT 1),
           (SELECT sum(i.amount_remaining)::bigint FROM stripe_portal.invoice AS i
            WHERE (i.subscription, i.livemode, i.account) = (now.subscription, now.livemode, now.account) AND i.status = 'open')
    FROM stripe_portal.subscription_change AS now
    WHERE now.until = 'infinity' AND now.status = 'past_due'
      AND now.account = stripe_at_risk.account AND now.livemode = mode
    ORDER BY now.currency, now.mrr DESC NULLS LAST, now.subscription;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_at_risk(text, boolean) IS
'Subscriptions that are past_due now: still counted, and lost when Stripe gives up. One row each, the most money first. mrr: in minor units, NULL if it is not known; since: when the status became so; next_payment_attempt: the next try at one of the open invoices, NULL if there is none; code: of the last failed attempt; amount_due: what the open invoices come to. livemode: NULL is the mode of the configured key, live without one';
-- churn: what leaks away each month, what of it comes back, and what could.

CREATE FUNCTION @extschema@.stripe_churn_leak(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL,
    won_back_within interval DEFAULT '90 days',
    cancellation_save_rate numeric DEFAULT 0.1, payment_save_rate numeric DEFAULT 0.3)
RETURNS TABLE (
    month date, currency text, cancellation_leak bigint, payment_leak bigint,
    cancellation_recovered bigint, payment_recovered bigint, cancellation_saved bigint, payment_saved bigint,
    recoverable bigint, assumed_within interval, assumed_cancellation_rate numeric, assumed_payment_rate numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    IF (won_back_within >= interval '0' AND cancellation_save_rate BETWEEN 0 AND 1 AND payment_save_rate BETWEEN 0 AND 1) IS NOT TRUE THEN
        RAISE EXCEPTION 'assumption out of range'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'won_back_within is a time that is not negative, and both rates are from 0 to 1.';
    END IF;
    RETURN QUERY
    WITH lost AS (
        SELECT c.subscription, c.at, c.customer, c.currency, c.voluntary IS NOT false AS voluntary, c.mrr, date_trunc('month', c.at)::date AS month
        FROM stripe_portal.churned AS c
        WHERE c.at >= lower(months) AND c.at < upper(months) AND c.account = stripe_churn_leak.account AND c.livemode = mode
    ), came_back AS (
        -- each return goes with the last loss before it
        SELECT before.subscription, before.at, sum(r.mrr_change) AS mrr
        FROM stripe_portal.subscription_change AS r
        CROSS JOIN LATERAL (
            SELECT c.subscription, c.at, c.currency FROM stripe_portal.subscription_change AS c
            WHERE (c.customer, c.livemode, c.account) = (r.customer, r.livemode, r.account)
              AND c.movement = 'churn' AND c.at < r.at
            ORDER BY c.at DESC, c.subscription DESC LIMIT 1) AS before
        WHERE r.movement = 'reactivation' AND r.at >= lower(months) AND r.at <= upper(months) + won_back_within
          AND r.account = stripe_churn_leak.account AND r.livemode = mode
          AND before.currency = r.currency AND r.at <= before.at + won_back_within
        GROUP BY 1, 2
    ), leak AS (
        SELECT l.month, l.currency, l.voluntary, sum(l.mrr) AS mrr,
               -- more than was lost is growth
               sum(least(l.mrr, coalesce(b.mrr, 0))) AS recovered
        FROM lost AS l
        LEFT JOIN came_back AS b USING (subscription, at)
        GROUP BY 1, 2, 3
    ), saved AS (
        SELECT date_trunc('month', c.undone_at)::date AS month, c.currency, true AS voluntary, sum(c.mrr) AS mrr
        FROM stripe_portal.cancellation AS c
        WHERE c.undone_at >= lower(months) AND c.undone_at < upper(months)
          AND c.account = stripe_churn_leak.account AND c.livemode = mode
        GROUP BY 1, 2
        UNION ALL
        -- as much as was counted when the invoice was paid after all
        SELECT date_trunc('month', p.recovered_at)::date, was.currency, false, sum(was.mrr)
        FROM (SELECT DISTINCT f.payment, f.subscription, f.recovered_at
              FROM stripe_portal.explained_failure AS f
              WHERE f.recovered_at >= lower(months) AND f.recovered_at < upper(months)
                -- not every failure there ever was; nobody is past_due for a year
                AND f.failed_at >= lower(months) - interval '1 year' AND f.failed_at < upper(months)
                AND f.account = stripe_churn_leak.account AND f.livemode = mode) AS p
        JOIN stripe_portal.subscription_change AS was
            ON (was.subscription, was.livemode, was.account) = (p.subscription, mode, stripe_churn_leak.account)
            AND was.at < p.recovered_at AND was.until >= p.recovered_at
        GROUP BY 1, 2
    ), by_month AS (
        SELECT b.month, b.currency,
               coalesce(c.mrr, 0) AS cancellation_leak, coalesce(p.mrr, 0) AS payment_leak,
               coalesce(c.recovered, 0) AS cancellation_recovered, coalesce(p.recovered, 0) AS payment_recovered,
               coalesce(sc.mrr, 0) AS cancellation_saved, coalesce(sp.mrr, 0) AS payment_saved
        FROM @extschema@.stripe_mrr_bridge(months, stripe_churn_leak.account, mode) AS b
        LEFT JOIN leak AS c ON (c.month, c.currency) = (b.month, b.currency) AND c.voluntary
        LEFT JOIN leak AS p ON (p.month, p.currency) = (b.month, b.currency) AND NOT p.voluntary
        LEFT JOIN saved AS sc ON (sc.month, sc.currency) = (b.month, b.currency) AND sc.voluntary
        LEFT JOIN saved AS sp ON (sp.month, sp.currency) = (b.month, b.currency) AND NOT sp.voluntary
    )
    SELECT m.month, m.currency, m.cancellation_leak::bigint, m.payment_leak::bigint,
           m.cancellation_recovered::bigint, m.payment_recovered::bigint,
           m.cancellation_saved::bigint, m.payment_saved::bigint,
           round((m.cancellation_leak - m.cancellation_recovered) * cancellation_save_rate
                 + (m.payment_leak - m.payment_recovered) * payment_save_rate)::bigint,
           won_back_within, cancellation_save_rate, payment_save_rate
    FROM by_month AS m
    ORDER BY m.month, m.currency;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn_leak(daterange, text, boolean, interval, numeric, numeric) IS
'What leaks away each month, by currency, all in MRR and minor units. cancellation_leak: lost because it was asked for, or for a reason that is not known; payment_leak: lost because payments failed or were disputed; together they are the churn of stripe_mrr_bridge. cancellation_recovered, payment_recovered: of that, what the same customers came back with within won_back_within, at most what they had left with. cancellation_saved, payment_saved: what did not leak at all, because in that month a cancellation was undone, or an invoice paid after failed attempts while the subscription still counted. recoverable: what of the rest could be had: cancellation_save_rate of what cancellations took, payment_save_rate of what failed payments took, rates from 0 to 1. These three are assumptions, and no measurement: set your own; they are repeated as assumed_within and the two rates; one that is NULL or out of range is error 22023. period: the months it touches, of UTC; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
-- churn: the time a report is about.
--
-- The reports are SECURITY DEFINER: who may read a report need not be able to
-- read the tables.  Days and months are those of UTC, whatever the session's
-- time zone, because each report sets it.

CREATE FUNCTION stripe_portal.report_period(period daterange)
RETURNS daterange
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    this_month CONSTANT date := date_trunc('month', now());
BEGIN
    IF period IS NULL THEN
        RETURN daterange((this_month - interval '12 months')::date, (this_month + interval '1 month')::date);
    END IF;
    -- the bounds of an empty range are NULL, as are those that are not given
    IF lower(period) IS NULL OR upper(period) IS NULL OR NOT isfinite(lower(period)) OR NOT isfinite(upper(period)) THEN
        RAISE EXCEPTION 'period of a report must have a first and a last day'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('The period is %s.', period),
                  HINT = 'Name a range of days such as ''[2026-01-01,2026-04-01)'', or NULL for the last twelve months and this one.';
    END IF;
    RETURN period;
END
$$;

COMMENT ON FUNCTION stripe_portal.report_period(daterange) IS
'The days that a report is about: those of period; for NULL the last twelve months and this one. Error 22023 if the range is empty or has no first or last day';

CREATE FUNCTION stripe_portal.report_months(period daterange)
RETURNS daterange
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
BEGIN
    RETURN daterange(date_trunc('month', lower(days))::date,
                     (date_trunc('month', upper(days) - 1) + interval '1 month')::date);
END
$$;

COMMENT ON FUNCTION stripe_portal.report_months(daterange) IS
'The days that a report by month is about: those of report_period, widened to whole months';
-- churn: who stays, by the month in which they came.

CREATE FUNCTION @extschema@.stripe_retention(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    cohort date, currency text, months integer, customers bigint, retained bigint, mrr_start bigint, mrr_retained bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    period_months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    -- the end of the last month that has begun
    last_end CONSTANT date := least(upper(period_months), (date_trunc('month', now()) + interval '1 month')::date);
BEGIN
    RETURN QUERY
    WITH member AS (
        SELECT DISTINCT ON (c.customer, c.currency) c.customer, c.currency, date_trunc('month', c.at)::date AS cohort, c.mrr
        FROM stripe_portal.subscription_change AS c
        -- nobody comes with anything else
        WHERE c.movement = 'new' AND c.at < upper(period_months)
          AND c.account = stripe_retention.account AND c.livemode = mode
        ORDER BY c.customer, c.currency, c.at, c.subscription
    ), cohort AS (
        SELECT m.cohort, m.currency, count(*) AS customers, sum(m.mrr) AS mrr
        FROM member AS m
        WHERE m.cohort >= lower(period_months)
        GROUP BY 1, 2
    ), stayed AS (
        SELECT m.cohort, m.currency, b.boundary, count(DISTINCT m.customer) AS customers, sum(c.mrr) AS mrr
        FROM member AS m
        JOIN stripe_portal.subscription_change AS c
            ON c.customer = m.customer AND c.currency = m.currency AND c.mrr > 0
            AND c.account = stripe_retention.account AND c.livemode = mode
        CROSS JOIN LATERAL generate_series(
            greatest(m.cohort + interval '1 month', date_trunc('month', c.at) + interval '1 month'),
            least(last_end, c.until), interval '1 month') AS b (boundary)
        WHERE m.cohort >= lower(period_months)
        GROUP BY 1, 2, 3
    )
    SELECT c.cohort, c.currency, b.n::integer - 1, c.customers, coalesce(s.customers, 0), c.mrr::bigint,
           coalesce(s.mrr, 0)::bigint
    FROM cohort AS c
    CROSS JOIN LATERAL generate_series(c.cohort + interval '1 month', last_end, interval '1 month')
        WITH ORDINALITY AS b (boundary, n)
    LEFT JOIN stayed AS s ON s.cohort = c.cohort AND s.currency = c.currency AND s.boundary = b.boundary
    ORDER BY c.cohort, c.currency, b.n;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_retention(daterange, text, boolean) IS
'How many of the customers who first paid in a month (cohort), and how much of their money, were there later. One row for each cohort in period, currency and number of months since: at the end of that month, which for months = 0 is that of the cohort itself and for the month that is under way is now. customers, mrr_start: all who came, with the MRR that each began with; retained, mrr_retained: those with MRR above 0 at that time, with what they then paid, which can be more. Who left and came back counts again. Amounts in minor units; months of UTC, up to the end of period; NULL for the last twelve and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
-- winback: what the tables hold.

COMMENT ON TABLE stripe_portal.winback_rule IS 'Who is offered what, and when. A condition that is NULL takes everybody; of an array, one element has to fit';
COMMENT ON COLUMN stripe_portal.winback_rule.name IS 'With the customer, it decides who is held out';
COMMENT ON COLUMN stripe_portal.winback_rule.livemode IS 'Live or test mode; if left out, that of the configured key';
COMMENT ON COLUMN stripe_portal.winback_rule.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.winback_rule.active IS 'Whether it makes new offers; those it has made go on';
COMMENT ON COLUMN stripe_portal.winback_rule.trigger_on IS 'cancel_asked: a cancellation was asked for, and has yet to come; ended: a subscription ended that had been active, for whatever reason; payment_failed: it became past_due or unpaid; trial_not_converted: it ended, or was paused, without having been active';
COMMENT ON COLUMN stripe_portal.winback_rule.feedback IS 'Stripe''s feedback values, or ids of feedback options of your own';
COMMENT ON COLUMN stripe_portal.winback_rule.reason IS 'Stripe''s reasons of a cancellation';
COMMENT ON COLUMN stripe_portal.winback_rule.product IS 'Product ids; one item of the subscription has to have one of them';
COMMENT ON COLUMN stripe_portal.winback_rule.price IS 'Price ids; likewise';
COMMENT ON COLUMN stripe_portal.winback_rule.currency IS 'The subscription''s currency; needed with mrr_from and mrr_to';
COMMENT ON COLUMN stripe_portal.winback_rule.mrr_from IS 'From this MRR on, in minor units of the currency';
COMMENT ON COLUMN stripe_portal.winback_rule.mrr_to IS 'Up to and with this MRR';
COMMENT ON COLUMN stripe_portal.winback_rule.age_from IS 'From this age of the subscription on';
COMMENT ON COLUMN stripe_portal.winback_rule.age_to IS 'Before this age of the subscription';
COMMENT ON COLUMN stripe_portal.winback_rule.country IS 'Two-letter countries of the customer''s address';
COMMENT ON COLUMN stripe_portal.winback_rule.predicate IS 'A condition in SQL on the columns of stripe_portal.winback_case, for the rest: it sees one case, reads what its owner may read, writes nothing, and needs all names qualified';
COMMENT ON COLUMN stripe_portal.winback_rule.kind IS 'message; cancel_flow_coupon: the coupon is offered in the portal''s cancel flow; coupon, promotion_code: a message with a discount; pause_offer, trial_extension, update_card: a message whose link leads there';
COMMENT ON COLUMN stripe_portal.winback_rule.subject IS 'The message''s subject, a template';
COMMENT ON COLUMN stripe_portal.winback_rule.body IS 'The message as plain text, a template';
COMMENT ON COLUMN stripe_portal.winback_rule.html IS 'The message as HTML, a template; NULL for plain text only';
COMMENT ON COLUMN stripe_portal.winback_rule.coupon IS 'The id of a coupon at Stripe that is to be given; or give discount';
COMMENT ON COLUMN stripe_portal.winback_rule.discount IS 'Stripe''s parameters of the coupon that is to be made, such as {"percent_off": 20, "duration": "repeating", "duration_in_months": 3}';
COMMENT ON COLUMN stripe_portal.winback_rule.extend_by IS 'By how much a trial_extension moves the end of the trial';
COMMENT ON COLUMN stripe_portal.winback_rule.wait IS 'How long after the trigger the offer is due';
COMMENT ON COLUMN stripe_portal.winback_rule.valid_for IS 'How long after that it can be taken';
COMMENT ON COLUMN stripe_portal.winback_rule.priority IS 'Of the rules that fit, the one with the highest makes the offer';
COMMENT ON COLUMN stripe_portal.winback_rule.cap_per_customer IS 'How many offers of this rule a customer gets within cap_window';
COMMENT ON COLUMN stripe_portal.winback_rule.cap_window IS 'The time cap_per_customer is for; NULL for ever';
COMMENT ON COLUMN stripe_portal.winback_rule.holdout IS 'The share of the customers who get nothing, so that the effect can be measured: 0 to 1';
COMMENT ON COLUMN stripe_portal.winback_rule.since IS 'What happened before is not touched: the moment it was written, or switched on last, unless another is given';
COMMENT ON COLUMN stripe_portal.winback_rule.created IS 'When the rule was written';
COMMENT ON COLUMN stripe_portal.winback_rule.owner IS 'The role that wrote the predicate, with whose rights it runs';

COMMENT ON TABLE stripe_portal.winback_offer IS 'What was offered to whom, and what became of it: one row for each rule, customer and episode, also for those who are held out';
COMMENT ON COLUMN stripe_portal.winback_offer.episode IS 'What the offer was made for, in the same words whenever it is looked at again';
COMMENT ON COLUMN stripe_portal.winback_offer.trigger_on IS 'As in the rule when the offer was made; so is kind';
COMMENT ON COLUMN stripe_portal.winback_offer.at IS 'When that happened, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.winback_offer.session IS 'The portal session in whose cancel flow it was shown';
COMMENT ON COLUMN stripe_portal.winback_offer.feedback IS 'What the customer answered, as it was known last: an id of one of your own options, or Stripe''s value';
COMMENT ON COLUMN stripe_portal.winback_offer.product IS 'The first of the subscription''s products; so is price';
COMMENT ON COLUMN stripe_portal.winback_offer.mrr IS 'What was at stake: the MRR before, in minor units of the currency';
COMMENT ON COLUMN stripe_portal.winback_offer.state IS 'planned; held_out: gets nothing; claimed: a worker is sending it; sent, or shown; accepted; declined: canceled all the same in the cancel flow; expired; canceled: see canceled_because';
COMMENT ON COLUMN stripe_portal.winback_offer.due_at IS 'When it is to be sent; from here the days of winback_lift are counted, also for those who are held out';
COMMENT ON COLUMN stripe_portal.winback_offer.expires_at IS 'Until when it can be taken';
COMMENT ON COLUMN stripe_portal.winback_offer.closed_at IS 'When it was declined, expired or canceled';
COMMENT ON COLUMN stripe_portal.winback_offer.canceled_because IS 'came_back: the customer was faster; superseded: a rule of higher priority fits better';
COMMENT ON COLUMN stripe_portal.winback_offer.saved_stage IS 'Where the customer came back, offer or not: cancel_flow, before_end, after_end, after_payment; NULL if not, or not yet';
COMMENT ON COLUMN stripe_portal.winback_offer.saved_at IS 'When that was, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.winback_offer.leased_by IS 'The worker that claimed it';
COMMENT ON COLUMN stripe_portal.winback_offer.lease IS 'What that worker shows to report on it; it stays when the offer is sent';
COMMENT ON COLUMN stripe_portal.winback_offer.lease_until IS 'Until when no worker gets it: it is being sent, or could not be';
COMMENT ON COLUMN stripe_portal.winback_offer.attempts IS 'How often it was claimed';
COMMENT ON COLUMN stripe_portal.winback_offer.error IS 'Why it could not be sent, or its discount not be made, the last time';
COMMENT ON COLUMN stripe_portal.winback_offer.idempotency_key IS 'The key under which its discount is asked for at Stripe, kept before it is asked for';
COMMENT ON COLUMN stripe_portal.winback_offer.coupon IS 'The coupon of its discount at Stripe; NULL until there is one';
COMMENT ON COLUMN stripe_portal.winback_offer.promotion_code IS 'The id of its promotion code at Stripe (promo_…)';
COMMENT ON COLUMN stripe_portal.winback_offer.code IS 'The promotion code as the customer types it';
-- winback: what the team's own data say about the portal's settings.
--
-- A row is there only if the figures call for it.  No function of ours is in
-- the view, and it reads with its owner's rights: SELECT on it is enough.

CREATE VIEW stripe_portal.advice AS
WITH threshold AS (
    SELECT interval '90 days' AS period,       -- how far back the figures go
           5 AS few,                           -- fewer cases than this say nothing
           0.3 AS many,                        -- the share of the reasons that makes one worth an answer
           0.5 AS most,
           0.8 AS nearly_all,
           interval '1 day' AS settled,        -- for how long something may stay undone
           interval '7 days' AS silence        -- for how long no event is no alarm
), portal AS (
    -- what a session gets that names no configuration, as Stripe has it
    SELECT p.livemode, p.account, coalesce(c.name, p.id) AS name, p.default_return_url,
           p.features #> '{subscription_cancel}' AS cancel,
           p.features #> '{subscription_update}' AS update,
           p.features #> '{payment_method_update}' AS payment_method,
           p.features #> '{subscription_pause}' AS pause,
           CASE WHEN p.products_updated = p.updated THEN coalesce(p.products, '[]') END AS products
    FROM stripe_portal.billing_portal_configuration AS p
    LEFT JOIN stripe_portal.configuration AS c
        ON c.is_default AND (c.stripe_id, c.livemode, c.account) = (p.id, p.livemode, p.account)
    WHERE p.active AND NOT p.deleted
      AND (c.name IS NOT NULL
           OR p.is_default AND NOT EXISTS (
               SELECT FROM stripe_portal.configuration AS d
               WHERE d.is_default AND d.stripe_id IS NOT NULL AND (d.livemode, d.account) = (p.livemode, p.account)))
), sessions AS (
    SELECT s.livemode, s.account,
           count(*) FILTER (WHERE s.refused IS NULL) AS opened,
           count(*) FILTER (WHERE s.refused IS NULL AND s.return_url IS NULL) AS without_return_url,
           count(*) FILTER (WHERE s.return_until <= now()) AS lapsed,
           count(*) FILTER (WHERE s.return_until <= now() AND s.returned_at IS NULL) AS unreturned,
           count(*) FILTER (WHERE s.refused IS NULL AND s.created > now() - t.silence) AS opened_lately,
           count(*) FILTER (WHERE s.refused = 'customer_unknown') AS unknown,
           count(DISTINCT s.customer) FILTER (WHERE s.refused = 'customer_unknown') AS unknown_customers,
           count(*) FILTER (WHERE s.refused IS NULL AND s.flow = 'subscription_cancel' AND s.retention_coupon IS NULL) AS cancel_flows,
           count(k.session) FILTER (WHERE s.flow = 'subscription_cancel' AND s.retention_coupon IS NULL) AS canceled_in_flow,
           count(*) FILTER (WHERE s.configuration IS NOT NULL AND c.name IS NULL) AS undeclared
    FROM threshold AS t
    JOIN stripe_portal.session AS s ON s.created > now() - t.period
    LEFT JOIN (SELECT DISTINCT session FROM stripe_portal.cancellation WHERE session IS NOT NULL) AS k ON k.session = s.id
    LEFT JOIN stripe_portal.configuration AS c
        ON (c.stripe_id, c.livemode, c.account) = (s.configuration, s.livemode, s.account)
    GROUP BY s.livemode, s.account
), cancellations AS (
    SELECT k.livemode, k.account,
           count(*) AS asked,
           count(k.feedback) AS answered,
           count(*) FILTER (WHERE k.feedback = 'too_expensive') AS too_expensive,
           count(*) FILTER (WHERE k.feedback = 'unused') AS unused,
           count(*) FILTER (WHERE k.ended_at <= k.asked_at + interval '1 minute') AS at_once,
           count(*) FILTER (WHERE k.undone_at IS NOT NULL) AS undone
    FROM threshold AS t
    JOIN stripe_portal.cancellation AS k ON k.began_at > now() - t.period AND k.asked_at IS NOT NULL AND k.voluntary IS NOT FALSE
    GROUP BY k.livemode, k.account
), declines AS (
    SELECT a.livemode, a.account, count(*) AS declined, count(*) FILTER (WHERE d.class = 'soft') AS soft
    FROM threshold AS t
    JOIN stripe_portal.payment_attempt AS a ON a.failed_at > now() - t.period AND a.invoice IS NULL
    JOIN stripe_portal.decline_code AS d
        ON d.method = CASE coalesce(a.payment_method_type, 'card') WHEN 'card' THEN 'card' ELSE 'other' END
        -- unless the network was never asked, the outcome's reason is the decline code
        AND d.code = coalesce(a.decline_code, CASE a.outcome_type WHEN 'issuer_declined' THEN a.outcome_reason END, a.code)
    GROUP BY a.livemode, a.account
), subscriptions AS (
    SELECT s.livemode, s.account,
           count(*) FILTER (WHERE s.status IN ('active', 'trialing')) AS active,
           count(*) FILTER (WHERE s.status = 'past_due') AS past_due
    FROM stripe_portal.subscription AS s
    GROUP BY s.livemode, s.account
), shut_out AS (
    -- who came to the portal past due, and whether they paid after all
    SELECT s.livemode, s.account, count(DISTINCT s.id) AS refused, count(DISTINCT s.customer) AS customers,
           count(DISTINCT s.customer) FILTER (WHERE later.subscription IS NOT NULL) AS recovered
    FROM threshold AS t
    JOIN stripe_portal.session AS s ON s.created > now() - t.period AND s.refused = 'not_active' AND s.flow = 'portal'
    JOIN stripe_portal.subscription_change AS c
        ON (c.customer, c.livemode, c.account) = (s.customer, s.livemode, s.account)
        AND c.status = 'past_due' AND c.at <= s.created AND c.until > s.created
    LEFT JOIN stripe_portal.subscription_change AS later
        ON (later.subscription, later.livemode, later.account) = (c.subscription, c.livemode, c.account)
        AND later.at > s.created AND later.status = 'active'
    GROUP BY s.livemode, s.account
), failed AS (
    SELECT e.livemode, e.account, count(*) AS failed, min(e.received_at) AS oldest
    FROM threshold AS t
    JOIN stripe_portal.event AS e ON e.status = 'failed' AND e.received_at < now() - t.settled
    GROUP BY e.livemode, e.account
), scope AS (
    SELECT livemode, account FROM stripe_portal.session
    UNION
    SELECT livemode, account FROM stripe_portal.configuration
    UNION
    SELECT livemode, account FROM stripe_portal.billing_portal_configuration
    UNION
    SELECT livemode, account FROM declines
    UNION
    SELECT livemode, account FROM failed
), figures AS (
    SELECT scope.livemode, scope.account, t.*,
           p.name, p.default_return_url, p.cancel, p.update, p.payment_method, p.pause, p.products,
           coalesce(s.opened, 0) AS opened, s.without_return_url, s.lapsed, s.unreturned, s.opened_lately,
           s.unknown, s.unknown_customers, s.cancel_flows, s.canceled_in_flow, s.undeclared,
           coalesce(k.asked, 0) AS asked, k.answered, k.too_expensive, k.unused, k.at_once, k.undone,
           coalesce(d.declined, 0) AS declined, d.soft,
           coalesce(b.active, 0) AS active, coalesce(b.past_due, 0) AS past_due,
           o.refused, o.customers, o.recovered
    FROM scope
    CROSS JOIN threshold AS t
    LEFT JOIN portal AS p USING (livemode, account)
    LEFT JOIN sessions AS s USING (livemode, account)
    LEFT JOIN cancellations AS k USING (livemode, account)
    LEFT JOIN declines AS d USING (livemode, account)
    LEFT JOIN subscriptions AS b USING (livemode, account)
    LEFT JOIN shut_out AS o USING (livemode, account)
)
-- the cancel flow
SELECT livemode, account, format('%s: features.subscription_cancel.cancellation_reason.enabled', name) AS setting,
       'false' AS now, 'true' AS suggested,
       format('%s cancellations were asked for in %s, and of %s nobody knows why', asked, period, asked - answered) AS because
FROM figures
WHERE cancel @> '{"enabled": true, "cancellation_reason": {"enabled": false}}' AND asked - answered >= few
UNION ALL
SELECT livemode, account, format('%s: features.subscription_cancel.mode', name),
       'immediately', 'at_period_end',
       format('%s of %s cancellations in %s took effect at once, and can not be taken back', at_once, asked, period)
FROM figures
WHERE cancel @> '{"enabled": true, "mode": "immediately"}' AND at_once >= few
UNION ALL
SELECT livemode, account, 'stripe_portal.winback_rule',
       'no rule with kind cancel_flow_coupon is active', 'a rule with kind cancel_flow_coupon',
       format('%s cancel flows were opened without a coupon in %s, and %s of them led to a cancellation',
              cancel_flows, period, canceled_in_flow)
FROM figures AS f
WHERE cancel_flows >= few AND canceled_in_flow > 0
  AND NOT EXISTS (SELECT FROM stripe_portal.winback_rule AS r
                  WHERE r.active AND r.kind = 'cancel_flow_coupon' AND (r.livemode, r.account) = (f.livemode, f.account))
-- what could be had instead of a cancellation
UNION ALL
SELECT livemode, account, format('%s: features.subscription_update.enabled', name),
       'false', 'true',
       format('%s of %s who said why they cancel in %s find it too expensive, and can not change to a cheaper plan',
              too_expensive, answered, period)
FROM figures
WHERE update @> '{"enabled": false}' AND too_expensive >= few AND too_expensive >= many * answered
UNION ALL
SELECT livemode, account, format('%s: features.subscription_pause.enabled', name),
       'false', 'true',
       format('%s of %s who said why they cancel in %s do not use it at present, and can not pause', unused, answered, period)
FROM figures
WHERE pause @> '{"enabled": false}' AND unused >= few AND unused >= many * answered
UNION ALL
SELECT livemode, account, format('%s: features.subscription_update.products', name),
       'no products', 'the products and prices to change to',
       format('%s active subscriptions have plan changes switched on and nothing to change to', active)
FROM figures
WHERE update @> '{"enabled": true}' AND products = '[]' AND active >= few
-- payments that fail
UNION ALL
SELECT livemode, account, format('%s: features.payment_method_update.enabled', name),
       'false', 'true',
       format('%s payments were declined in %s, and %s subscriptions are past due', declined, period, past_due)
FROM figures
WHERE payment_method @> '{"enabled": false}' AND declined >= few
UNION ALL
SELECT livemode, account, 'stripe_portal.access_rule: payment_method_update, past_due',
       'not allowed', 'allowed',
       format('%s of %s declines in %s were soft, and %s subscriptions are past due', soft, declined, period, past_due)
FROM figures
WHERE declined >= few AND soft >= most * declined
  AND NOT EXISTS (SELECT FROM stripe_portal.access_rule AS r
                  WHERE r.flow = 'payment_method_update' AND r.status = 'past_due' AND r.allowed)
UNION ALL
SELECT livemode, account, 'stripe_portal.access_rule: portal, past_due',
       'not allowed', 'allowed, with a grace',
       format('the portal was refused %s times in %s to customers who were past due, and %s of these %s paid later',
              refused, period, recovered, customers)
FROM figures
WHERE refused >= few AND recovered > 0
  AND NOT EXISTS (SELECT FROM stripe_portal.access_rule AS r
                  WHERE r.flow = 'portal' AND r.status = 'past_due' AND r.allowed)
-- coming back
UNION ALL
SELECT livemode, account, 'stripe_portal.return_url',
       'none', 'a URL with {token} in it',
       format('%s of %s sessions in %s had no link back', without_return_url, opened, period)
FROM figures AS f
WHERE without_return_url >= few AND default_return_url IS NULL
  AND coalesce(current_setting('stripe_portal.return_url', true), '') = ''
  AND NOT EXISTS (SELECT FROM stripe_portal.configuration AS c
                  WHERE c.is_default AND c.return_url IS NOT NULL AND (c.livemode, c.account) = (f.livemode, f.account))
UNION ALL
SELECT livemode, account, 'return URL',
       format('%s%% come back', round(100.0 * (lapsed - unreturned) / lapsed)),
       'a page that calls stripe_portal_return with the token',
       format('%s of %s sessions in %s whose token has lapsed never came back', unreturned, lapsed, period)
FROM figures
WHERE unreturned >= few AND unreturned >= nearly_all * lapsed
-- configurations as code
UNION ALL
SELECT f.livemode, f.account, 'stripe_portal.configuration: ' || c.name,
       CASE WHEN c.stripe_id IS NULL THEN 'never applied' ELSE 'not applied since it was changed' END,
       format('SELECT stripe_portal_configuration_apply(%L)', c.name),
       format('it was declared %s ago, and customers have not seen it', date_trunc('day', now() - c.declared_at))
FROM figures AS f
JOIN stripe_portal.configuration AS c USING (livemode, account)
WHERE (c.applied_at IS NULL OR c.applied_at < c.declared_at) AND c.declared_at < now() - f.settled
UNION ALL
SELECT f.livemode, f.account, 'stripe_portal.configuration: ' || c.name,
       'changed at Stripe since it was applied',
       format('SELECT * FROM stripe_portal_configuration_diff(%L)', c.name),
       format('it was applied %s ago, and changed there %s ago',
              date_trunc('day', now() - c.applied_at), date_trunc('day', now() - p.updated))
FROM figures AS f
JOIN stripe_portal.configuration AS c USING (livemode, account)
JOIN stripe_portal.billing_portal_configuration AS p ON (p.id, p.livemode, p.account) = (c.stripe_id, f.livemode, f.account)
-- the two clocks differ a little
WHERE p.updated > c.applied_at + interval '5 minutes' AND p.updated < now() - f.settled AND c.declared_at <= c.applied_at
UNION ALL
SELECT livemode, account, 'stripe_portal.configuration',
       'no default is declared', 'stripe_portal_configure with is_default => true',
       format('%s of %s sessions in %s had a configuration that only the Dashboard knows', undeclared, opened, period)
FROM figures AS f
WHERE undeclared >= few
  AND NOT EXISTS (SELECT FROM stripe_portal.configuration AS c
                  WHERE c.is_default AND (c.livemode, c.account) = (f.livemode, f.account))
-- what the database does not hear of
UNION ALL
SELECT livemode, account, 'stripe_portal.refresh_unknown',
       'off', 'on, and CALL stripe_sync() once',
       format('the portal was refused %s times in %s to %s customers whom the tables do not know',
              unknown, period, unknown_customers)
FROM figures
WHERE unknown >= few AND coalesce(current_setting('stripe_portal.refresh_unknown', true), 'off') <> 'on'
UNION ALL
SELECT f.livemode, f.account, 'webhook endpoint',
       'silent', 'look at its address and signing secret; CALL stripe_portal_tick() catches up',
       format('%s sessions were opened in %s, and not one event has come in', opened_lately, silence)
FROM figures AS f
WHERE opened_lately >= few
  AND NOT EXISTS (SELECT FROM stripe_portal.event AS e
                  WHERE (e.livemode, e.account) = (f.livemode, f.account) AND e.created > now() - f.silence)
UNION ALL
SELECT f.livemode, f.account, 'stripe_portal.event_failed',
       format('%s failed', e.failed), 'stripe_replay, when the cause is mended',
       format('of %s that failed more than a day ago, the oldest has waited for %s', e.failed, date_trunc('day', now() - e.oldest))
FROM figures AS f
JOIN failed AS e USING (livemode, account);

COMMENT ON VIEW stripe_portal.advice IS 'What the data of the last 90 days say about the settings: one row for each that the figures speak against, none without at least 5 cases, or a day in which a configuration was not applied or an event kept failing. The thresholds are at the head of the view. For each mode and account; the whole of it reads the tables and asks Stripe nothing';
COMMENT ON COLUMN stripe_portal.advice.setting IS 'What to change: a field of a portal configuration, after its name; a table or setting of this extension; something of yours';
COMMENT ON COLUMN stripe_portal.advice.now IS 'What it is';
COMMENT ON COLUMN stripe_portal.advice.suggested IS 'What it might better be';
COMMENT ON COLUMN stripe_portal.advice.because IS 'The evidence, in figures';
-- winback: what can trigger a rule, when that was over, and whether a rule fits.

CREATE VIEW stripe_portal.winback_case AS
WITH history AS NOT MATERIALIZED (
    SELECT c.*,
           lag(c.status) OVER step AS status_before,
           coalesce(bool_or(stripe_portal.earning(c.status, c.pause_collection) = 'earning') OVER step, false) AS has_been_active
    FROM stripe_portal.subscription_change AS c
    WINDOW step AS (PARTITION BY c.subscription, c.livemode, c.account ORDER BY c.at)
), episode AS NOT MATERIALIZED (
    SELECT k.*, coalesce(k.ended_by, CASE WHEN k.voluntary THEN 'cancellation_requested' END) AS reason
    FROM stripe_portal.cancellation AS k
), happened AS (
    SELECT 'cancel_asked' AS trigger_on, k.asked_at AS since,
           format('%s cancel %s', k.subscription, extract(epoch FROM k.asked_at)::bigint) AS episode,
           k.subscription, k.livemode, k.account, k.customer, k.reason, k.feedback, k.feedback_option, k.comment
    FROM episode AS k
    WHERE k.asked_at IS NOT NULL AND k.reason = 'cancellation_requested'
      -- one that came at once left nothing to undo: it is an end
      AND coalesce(k.ended_at > k.asked_at + interval '1 minute', true)
    UNION ALL
    SELECT CASE WHEN EXISTS (SELECT FROM stripe_portal.subscription_change AS c
                             WHERE (c.subscription, c.livemode, c.account) = (k.subscription, k.livemode, k.account)
                               AND stripe_portal.earning(c.status, c.pause_collection) = 'earning')
                THEN 'ended' ELSE 'trial_not_converted' END,
           k.ended_at, k.subscription || ' end',
           k.subscription, k.livemode, k.account, k.customer, k.reason, k.feedback, k.feedback_option, k.comment
    FROM episode AS k
    WHERE k.ended_at IS NOT NULL
    UNION ALL
    SELECT 'trial_not_converted', h.at, h.subscription || ' end',
           h.subscription, h.livemode, h.account, h.customer, NULL, NULL, NULL, NULL
    FROM history AS h
    WHERE h.status = 'paused' AND h.status_before = 'trialing' AND NOT h.has_been_active
    UNION ALL
    SELECT 'payment_failed', h.at, format('%s payment %s', h.subscription, extract(epoch FROM h.at)::bigint),
           h.subscription, h.livemode, h.account, h.customer, NULL, NULL, NULL, NULL
    FROM history AS h
    WHERE h.status IN ('past_due', 'unpaid') AND h.status_before NOT IN ('past_due', 'unpaid')
)
SELECT h.trigger_on, h.since AS at, h.livemode, h.account, h.customer, h.subscription, h.episode,
       h.reason, h.feedback, h.feedback_option, h.comment,
       ARRAY(SELECT i ->> 'product' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n) AS product,
       ARRAY(SELECT i ->> 'price' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n) AS price,
       s.currency,
       (SELECT b.mrr
        FROM stripe_portal.subscription_change AS b
        WHERE (b.subscription, b.livemode, b.account) = (h.subscription, h.livemode, h.account)
          AND b.at < h.since AND b.mrr IS DISTINCT FROM 0
        ORDER BY b.at DESC
        LIMIT 1) AS mrr,
       coalesce(s.start_date, s.created) AS started,
       (SELECT k.address ->> 'country'
        FROM stripe_portal.customer AS k
        WHERE (k.id, k.livemode, k.account) = (h.customer, h.livemode, h.account)) AS country
FROM happened AS h
LEFT JOIN LATERAL (
    SELECT c.items, c.currency, c.start_date, c.created
    FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (h.subscription, h.livemode, h.account) AND c.at <= h.since
    ORDER BY c.at DESC
    LIMIT 1) AS s ON true;

COMMENT ON VIEW stripe_portal.winback_case IS
'Everything that a win-back rule can be triggered by, ever: one row for each request to cancel that left the subscription running (cancel_asked), end (ended, or trial_not_converted if the subscription had never been active) and first failed payment in a row (payment_failed). Requests and ends are those of stripe_portal.cancellation. at: when, on Stripe''s clock. episode: its name, always the same. reason, feedback, feedback_option, comment: of the cancellation, as far as they are known; NULL for payment_failed. product, price: arrays, one element for each item. mrr: what the subscription brought in last before, in minor units of its currency; NULL if nothing, or not known. started: when the subscription began. country: of the customer''s address. These are the columns that a rule''s predicate can use';

CREATE FUNCTION stripe_portal.winback_stays(c stripe_portal.subscription_change)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN c.status IN ('active', 'trialing') AND c.cancel_at IS NULL AND NOT c.cancel_at_period_end;

COMMENT ON FUNCTION stripe_portal.winback_stays(stripe_portal.subscription_change) IS
'Whether a subscription is neither lost nor about to be: active or in its trial, with no cancellation scheduled';

CREATE FUNCTION stripe_portal.winback_staying(
    customer text, livemode boolean, account text, subscription text, since timestamptz, at timestamptz DEFAULT NULL)
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.*
    FROM stripe_portal.subscription_change AS c
    WHERE (c.customer, c.livemode, c.account) = (winback_staying.customer, winback_staying.livemode, winback_staying.account)
      AND (c.subscription = winback_staying.subscription OR c.created > winback_staying.since)
      AND CASE WHEN winback_staying.at IS NULL THEN c.at > winback_staying.since
               ELSE c.at <= winback_staying.at AND c.until > winback_staying.at END
      AND stripe_portal.winback_stays(c);
END;

COMMENT ON FUNCTION stripe_portal.winback_staying(text, boolean, text, text, timestamptz, timestamptz) IS
'When a customer was back after a case of a subscription at since: the rows of the history, after that or at the time at, in which this subscription, or one that was made later, stays';

CREATE FUNCTION stripe_portal.winback_predicate(predicate text, owner text, candidate stripe_portal.winback_case)
RETURNS boolean
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_winback_predicate';

COMMENT ON FUNCTION stripe_portal.winback_predicate(text, text, stripe_portal.winback_case) IS
'Whether a rule''s predicate holds for a case, by the rights of the role that owns the rule, in a security-restricted operation that can write nothing. A NULL case: NULL if it can be run at all. Raises what it raises, 42601 for more than one condition, 42704 for an owner that does not exist, 42501 for one that is another role, unless a superuser asks';

CREATE FUNCTION stripe_portal.winback_fits(r stripe_portal.winback_rule, c stripe_portal.winback_case)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT coalesce(
           (r.livemode, r.account, r.trigger_on) = (c.livemode, c.account, c.trigger_on)
       AND (r.feedback IS NULL OR r.feedback && ARRAY[c.feedback, c.feedback_option])
       AND (r.reason IS NULL OR c.reason = ANY (r.reason))
       AND (r.product IS NULL OR r.product && c.product)
       AND (r.price IS NULL OR r.price && c.price)
       AND (r.country IS NULL OR c.country = ANY (r.country))
       AND (r.currency IS NULL OR c.currency = r.currency)
       AND (r.mrr_from IS NULL OR c.mrr >= r.mrr_from)
       AND (r.mrr_to IS NULL OR c.mrr <= r.mrr_to)
       AND (r.age_from IS NULL OR c.started + r.age_from <= c.at)
       AND (r.age_to IS NULL OR c.started + r.age_to > c.at), false) THEN
        RETURN false;
    END IF;
    IF r.predicate IS NULL THEN
        RETURN true;
    END IF;
    BEGIN
        RETURN stripe_portal.winback_predicate(r.predicate, r.owner, c);
    -- OTHERS are not quite all
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        -- An event must not be lost, nor a customer be kept from the portal,
        -- for somebody's condition.
        RAISE WARNING 'win-back rule "%" was passed over: %', r.name, SQLERRM;
        RETURN false;
    END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_fits(stripe_portal.winback_rule, stripe_portal.winback_case) IS
'Whether a rule''s conditions hold for a case; what is not known fits no condition. A predicate that fails is a warning, and does not hold';

CREATE FUNCTION stripe_portal.winback_share(rule text, customer text)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(substr(sha256(convert_to(rule || E'\n' || customer, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint
       / 4294967296.0;

COMMENT ON FUNCTION stripe_portal.winback_share(text, text) IS
'A number from 0 up to 1 that is always the same for a rule and a customer, and evenly spread over customers. Who is below the rule''s holdout is held out, so a larger holdout only adds people';
-- winback: the outbox.  Workers claim what is due, send it, and say so.
--
-- What became of an offer is no business of theirs: one that was withdrawn or
-- has expired while it was being sent keeps its state, and that it was sent.

CREATE FUNCTION stripe_portal.winback_waits_for(o stripe_portal.winback_offer)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN o.livemode <> stripe_portal.key_livemode() THEN 'the key of its mode'
        WHEN o.expires_at <= now() THEN 'nothing: it has expired'
        WHEN o.lease_until > now() THEN CASE o.state WHEN 'claimed' THEN 'a report' ELSE 'its next attempt' END
        WHEN o.attempts >= 6 THEN 'nothing: it was given up'
        WHEN o.kind = 'promotion_code' AND o.promotion_code IS NULL OR o.kind = 'coupon' AND o.coupon IS NULL THEN 'its discount'
        WHEN NOT EXISTS (
            SELECT FROM stripe_portal.customer AS k
            WHERE (k.id, k.livemode, k.account) = (o.customer, o.livemode, o.account)
              AND NOT k.deleted AND stripe_portal.winback_address(k.email) IS NOT NULL) THEN 'an e-mail address'
        WHEN coalesce(current_setting('stripe_portal.winback_url', true), '') = '' AND EXISTS (
            SELECT FROM stripe_portal.winback_rule AS r
            WHERE (r.name, r.livemode, r.account) = (o.rule, o.livemode, o.account)
              AND concat(r.subject, r.body, r.html) ~ '\{\{ *link') THEN 'stripe_portal.winback_url'
    END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_waits_for(stripe_portal.winback_offer) IS
'What an offer that is due has to wait for before it can be claimed; NULL for nothing';

CREATE VIEW stripe_portal.winback_outbox AS
SELECT o.id AS offer, o.rule, o.livemode, o.account, o.customer, o.state, o.due_at, o.expires_at, o.attempts,
       o.leased_by, o.lease_until, stripe_portal.winback_waits_for(o) AS waits_for, o.error
FROM stripe_portal.winback_offer AS o
WHERE o.state IN ('planned', 'claimed') AND o.due_at <= now();

COMMENT ON VIEW stripe_portal.winback_outbox IS 'The offers that are due and have not been sent';
COMMENT ON COLUMN stripe_portal.winback_outbox.waits_for IS 'NULL: the next worker; else its discount, an e-mail address, stripe_portal.winback_url, a report of the worker that has it, its next attempt, the key of its mode, or nothing: it has expired, or was given up';
COMMENT ON COLUMN stripe_portal.winback_outbox.error IS 'Why it could not be sent, or its discount not be made, the last time';

CREATE FUNCTION stripe_portal.winback_wake()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_notify('stripe_winback', '')
    WHERE EXISTS (SELECT FROM stripe_portal.winback_outbox AS b WHERE b.waits_for IS NULL)
$$;

COMMENT ON FUNCTION stripe_portal.winback_wake() IS
'Notifies the channel stripe_winback if there is something to claim; the payload is empty';

CREATE FUNCTION @extschema@.stripe_winback_claim(
    n integer DEFAULT 10, lease_for interval DEFAULT '5 minutes',
    OUT offer uuid, OUT lease uuid, OUT email text, OUT name text, OUT subject text, OUT body text, OUT html text,
    OUT link text, OUT code text, OUT rule text, OUT customer text, OUT livemode boolean, OUT account text,
    OUT expires_at timestamptz, OUT attempt integer)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF n < 1 OR lease_for <= '0' OR lease_for > '1 day' THEN
        RAISE EXCEPTION 'n must be at least 1, and a lease last up to a day'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- loads the library, so that its settings are what an administrator set
    PERFORM stripe_portal.key_livemode();

    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT o.id
        FROM stripe_portal.winback_offer AS o
        WHERE o.state IN ('planned', 'claimed') AND o.due_at <= now() AND stripe_portal.winback_waits_for(o) IS NULL
        ORDER BY o.due_at, o.id
        LIMIT n
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE stripe_portal.winback_offer AS o
        SET state = 'claimed', claimed_at = now(), attempts = o.attempts + 1,
            leased_by = format('%s, process %s', session_user, pg_backend_pid()),
            lease = gen_random_uuid(), lease_until = clock_timestamp() + lease_for
        FROM due
        WHERE o.id = due.id
        RETURNING o
    )
    SELECT (c.o).id, (c.o).lease, f.fields ->> 'email', f.fields ->> 'name',
           stripe_portal.winback_plain(stripe_portal.winback_render(r.subject, f.fields)),
           stripe_portal.winback_render(r.body, f.fields),
           stripe_portal.winback_render(r.html, f.fields, html => true),
           f.fields ->> 'link', (c.o).code, r.name, (c.o).customer, r.livemode, r.account, (c.o).expires_at, (c.o).attempts
    FROM claimed AS c
    JOIN stripe_portal.winback_rule AS r ON (r.name, r.livemode, r.account) = ((c.o).rule, (c.o).livemode, (c.o).account)
    -- OFFSET 0: worked out once, not once for each mention
    CROSS JOIN LATERAL (SELECT stripe_portal.winback_fields(c.o) OFFSET 0) AS f (fields)
    ORDER BY (c.o).due_at, (c.o).id;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_claim(integer, interval) IS
'Leases up to n offers that are due to the caller, the longest due first, and gives what is to be sent. No two workers get the same: not while a lease lasts, and not while another transaction is claiming. What is not reported by stripe_winback_sent or stripe_winback_failed within lease_for (up to a day) can be claimed again, six times altogether. email: the customer''s billing address, checked to be one address and nothing else; name: NULL if there is none to be used; subject: one line; body, html: the rule''s templates with the fields filled in, html escaped and NULL if the rule has none; link: NULL unless stripe_portal.winback_url is set; code: the promotion code. lease: what the reports take. Offers of the configured key''s mode, of all accounts. Commit before you send. Error 22023 for an n or a lease out of range';

CREATE FUNCTION @extschema@.stripe_winback_sent(offer uuid, lease uuid)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.winback_offer AS o
    SET state = CASE o.state WHEN 'claimed' THEN 'sent' ELSE o.state END,
        sent_at = coalesce(o.sent_at, now()), lease_until = NULL, error = NULL
    WHERE (o.id, o.lease) = (stripe_winback_sent.offer, stripe_winback_sent.lease);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_sent(uuid, uuid) IS
'Says that an offer was sent, by the lease that it was claimed with: also after the lease is over, as long as nobody else has claimed it. An offer that was withdrawn or has expired meanwhile stays so, and has its sent_at. True if it is recorded, now or before; false if the lease is not the offer''s any more: somebody else may have sent it too';

CREATE FUNCTION @extschema@.stripe_winback_failed(offer uuid, lease uuid, error text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.winback_offer AS o
    SET state = CASE o.state WHEN 'claimed' THEN 'planned' ELSE o.state END,
        lease = NULL, lease_until = clock_timestamp() + interval '1 minute' * 4 ^ (o.attempts - 1),
        -- analysts read it, and mail servers repeat the address
        error = left(regexp_replace(stripe_winback_failed.error, '[^\s<>{}'':"]+@[^\s<>{}'':"]+', '(address)', 'g'), 1000)
    WHERE (o.id, o.lease) = (stripe_winback_failed.offer, stripe_winback_failed.lease) AND o.sent_at IS NULL;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_failed(uuid, uuid, text) IS
'Says that an offer could not be sent, and why; e-mail addresses are left out of that. It can be claimed again after 1, 4, 16, 64 and 256 minutes, and is given up after the sixth attempt. False if the lease is not the offer''s any more, or it was reported as sent';
-- winback: the discount of an offer, made at Stripe by the tick.
--
-- Each portion is a transaction: one that keeps the idempotency keys, then one
-- for each offer, which writes when the call is over.  So nothing is locked
-- during a call, and after a crash the same is asked for with the same key.
-- Stripe forgets a key after a day, but the coupon's id and the code's text
-- follow from the offer, and Stripe has each only once.

CREATE FUNCTION stripe_portal.winback_lacks_discount(o stripe_portal.winback_offer)
RETURNS boolean
LANGUAGE sql STABLE
RETURN o.state = 'planned' AND o.due_at <= now() AND o.expires_at > now()
       AND (o.kind = 'promotion_code' AND o.promotion_code IS NULL OR o.kind = 'coupon' AND o.coupon IS NULL);

COMMENT ON FUNCTION stripe_portal.winback_lacks_discount(stripe_portal.winback_offer) IS
'Whether an offer is due and waits for its discount';

CREATE FUNCTION stripe_portal.winback_word(what text, length integer)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN upper(left(encode(sha256(convert_to(what, 'UTF8')), 'hex'), length));

COMMENT ON FUNCTION stripe_portal.winback_word(text, integer) IS
'A word of up to 64 letters A to F and digits that follows from what, and from which that does not follow';

CREATE FUNCTION stripe_portal.winback_make_discount(
    o stripe_portal.winback_offer, OUT coupon text, OUT promotion_code text, OUT code text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r stripe_portal.winback_rule;
    connected CONSTANT text := nullif(o.account, '');
    expires CONSTANT bigint := floor(extract(epoch FROM o.expires_at));
    made jsonb;
BEGIN
    SELECT w.* INTO r FROM stripe_portal.winback_rule AS w WHERE (w.name, w.livemode, w.account) = (o.rule, o.livemode, o.account);

    coupon := r.coupon;
    IF coupon IS NULL THEN
        -- Codes share the coupon of their rule; a coupon that is given by
        -- itself is good for one customer.
        coupon := 'winback_' || CASE WHEN o.kind = 'coupon' THEN stripe_portal.winback_word('coupon ' || o.id, 20)
                                     ELSE stripe_portal.winback_word(concat_ws(E'\n', r.account, r.name, r.discount), 20) END;
        IF NOT EXISTS (SELECT FROM stripe_portal.coupon AS k
                       WHERE (k.id, k.livemode, k.account) = (winback_make_discount.coupon, o.livemode, o.account) AND NOT k.deleted)
           -- its event may be under way
           AND NOT EXISTS (SELECT FROM stripe_portal.winback_offer AS w
                           WHERE (w.rule, w.livemode, w.account, w.coupon) = (o.rule, o.livemode, o.account, winback_make_discount.coupon)) THEN
            BEGIN
                PERFORM stripe_portal.api('POST', '/v1/coupons',
                    r.discount || jsonb_build_object('id', coupon,
                        'metadata', coalesce(r.discount -> 'metadata', '{}') || jsonb_build_object('winback_rule', r.name))
                    || CASE WHEN o.kind = 'coupon' THEN jsonb_build_object('max_redemptions', 1, 'redeem_by', expires) ELSE '{}' END,
                    connected, o.idempotency_key || '-' || coupon);
            EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP409' THEN
                IF (SELECT f.status FROM stripe_portal.fetch(ARRAY['/v1/coupons/' || coupon], NULL, o.account) AS f) <> 200 THEN
                    RAISE;
                END IF;
            END;
        END IF;
    END IF;
    IF o.kind = 'coupon' THEN
        RETURN;
    END IF;

    code := stripe_portal.winback_word('code ' || o.id, 12);
    BEGIN
        made := stripe_portal.api('POST', '/v1/promotion_codes',
            jsonb_build_object('promotion', jsonb_build_object('type', 'coupon', 'coupon', coupon), 'code', code,
                'customer', o.customer, 'max_redemptions', 1, 'expires_at', expires,
                'metadata', jsonb_build_object('winback_rule', r.name, 'winback_offer', o.id)),
            connected, o.idempotency_key);
    EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP409' THEN
        -- it may be there: made before a crash, and the key forgotten since, or
        -- the rule edited
        SELECT p INTO made
        FROM stripe_portal.fetch(ARRAY['/v1/promotion_codes'],
                 ARRAY[jsonb_build_object('code', code, 'customer', o.customer)], o.account) AS f,
             jsonb_array_elements(f.body::jsonb -> 'data') AS p
        WHERE f.status = 200 AND p #>> '{metadata,winback_offer}' = o.id::text;
        IF NOT FOUND THEN
            RAISE;
        END IF;
        coupon := coalesce(made #>> '{promotion,coupon,id}', made #>> '{promotion,coupon}', made #>> '{coupon,id}', coupon);
    END;
    promotion_code := made ->> 'id';
    IF promotion_code IS NULL THEN
        RAISE EXCEPTION 'Stripe''s answer is not a promotion code' USING ERRCODE = 'SP502';
    END IF;
    code := coalesce(made ->> 'code', code);
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_make_discount(stripe_portal.winback_offer) IS
'Makes the discount of an offer at Stripe, or finds the one that was made: the rule''s coupon, or one of its discount, and for promotion_code a code for this customer, for one use, until the offer expires. Writes nothing here';

CREATE FUNCTION stripe_portal.winback_discount_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
    made record;
    failure text;
BEGIN
    IF place IS NULL THEN
        UPDATE stripe_portal.winback_offer AS w
        SET idempotency_key = format('winback-%s-%s', w.id, stripe_portal.winback_word(gen_random_uuid()::text, 6))
        WHERE stripe_portal.winback_lacks_discount(w) AND w.state = 'planned' AND w.idempotency_key IS NULL
          AND w.livemode = stripe_portal.key_livemode();
        -- nobody is before this one
        RETURN '00000000-0000-0000-0000-000000000000';
    END IF;

    SELECT w.* INTO o
    FROM stripe_portal.winback_offer AS w
    WHERE stripe_portal.winback_lacks_discount(w) AND w.state = 'planned' AND w.idempotency_key IS NOT NULL
      AND w.livemode = stripe_portal.key_livemode() AND w.id > place::uuid
    ORDER BY w.id
    LIMIT 1;
    IF NOT FOUND THEN
        PERFORM stripe_portal.winback_wake();
        RETURN NULL;
    END IF;

    BEGIN
        made := stripe_portal.winback_make_discount(o);
    EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP402' OR SQLSTATE 'SP404' OR SQLSTATE 'SP409' OR SQLSTATE 'SP500' THEN
        -- what is wrong with one must not keep the others waiting; anything
        -- else would befall them too, and ends the part
        failure := SQLERRM;
        RAISE WARNING 'the discount of win-back offer "%" could not be made: %', o.id, SQLERRM USING ERRCODE = SQLSTATE;
    END;
    IF failure IS NULL THEN
        UPDATE stripe_portal.winback_offer AS w
        SET coupon = made.coupon, promotion_code = made.promotion_code, code = made.code, error = NULL
        WHERE w.id = o.id;
    ELSE
        -- Stripe would answer the same to the same key for a day, also when
        -- what was wrong has been put right
        UPDATE stripe_portal.winback_offer AS w SET idempotency_key = NULL, error = failure WHERE w.id = o.id;
    END IF;
    RETURN o.id;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_discount_step(text) IS
'The discounts of the offers that are due, for the tick: a portion that keeps the idempotency keys, then one for each offer, and in the end, if there is something to claim, a notification of stripe_winback';
-- winback: what it would do, and what it did.

-- ---------------------------------------------------------------------------
-- What a discount costs
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.winback_cost(terms jsonb, mrr bigint, currency text, invoice_months numeric)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(
    CASE terms ->> 'duration'
        WHEN 'once' THEN 1
        WHEN 'repeating' THEN ceil((terms ->> 'duration_in_months')::numeric / invoice_months)
        WHEN 'forever' THEN ceil(12 / invoice_months) END
    * CASE WHEN terms ->> 'percent_off' IS NOT NULL THEN mrr * invoice_months * (terms ->> 'percent_off')::numeric / 100
           WHEN stripe_portal.amount_off(terms, currency) IS NOT NULL
           THEN least(mrr * invoice_months, stripe_portal.amount_off(terms, currency)) END)::bigint;

COMMENT ON FUNCTION stripe_portal.winback_cost(jsonb, bigint, text, numeric) IS
'What a discount takes off altogether, in minor units: of one invoice, of those that its months cover, or, if it is for ever, of those of a year. terms: percent_off, amount_off with currency, duration and duration_in_months, as in Stripe''s coupon. invoice_months: how many months an invoice is for. NULL if the terms or the MRR are not known, or the amount is in another currency';

CREATE FUNCTION stripe_portal.winback_offer_cost(
    coupon text, discount jsonb, price text, mrr bigint, currency text, livemode boolean, account text)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN winback_offer_cost.coupon IS NULL AND winback_offer_cost.discount IS NULL THEN 0
                ELSE stripe_portal.winback_cost(
                         coalesce(to_jsonb(k), winback_offer_cost.discount), winback_offer_cost.mrr, winback_offer_cost.currency,
                         coalesce(1 / stripe_portal.monthly_amount(1, p."interval", p.interval_count), 1)) END
    FROM (SELECT) AS one
    LEFT JOIN stripe_portal.coupon AS k
        ON (k.id, k.livemode, k.account) = (winback_offer_cost.coupon, winback_offer_cost.livemode, winback_offer_cost.account)
    LEFT JOIN stripe_portal.price AS p
        ON (p.id, p.livemode, p.account) = (winback_offer_cost.price, winback_offer_cost.livemode, winback_offer_cost.account)
$$;

COMMENT ON FUNCTION stripe_portal.winback_offer_cost(text, jsonb, text, bigint, text, boolean, text) IS
'What an offer costs if it is taken, as winback_cost; by its coupon, or the discount that one is to be made of; 0 if there is neither. An invoice is taken to be as often as the price says, monthly if that is not known';

-- ---------------------------------------------------------------------------
-- A rule, tried on history
-- ---------------------------------------------------------------------------

CREATE FUNCTION @extschema@.stripe_winback_preview(
    rule text, since timestamptz DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL,
    OUT at timestamptz, OUT customer text, OUT subscription text, OUT verdict text, OUT due_at timestamptz,
    OUT feedback text, OUT product text, OUT country text, OUT mrr bigint, OUT currency text, OUT cost bigint)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tried stripe_portal.winback_rule;
    other stripe_portal.winback_rule;
    c stripe_portal.winback_case;
    seen timestamptz[];
BEGIN
    SELECT r.* INTO tried
    FROM stripe_portal.winback_rule AS r
    WHERE (r.name, r.livemode, r.account) = (rule, coalesce(stripe_winback_preview.livemode, stripe_portal.key_livemode()), stripe_winback_preview.account);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no win-back rule "%"', rule
            USING ERRCODE = 'undefined_object',
                  HINT = 'Write it with active => false, try it, and switch it on when it does what it should.';
    END IF;

    FOR c IN
        SELECT w.*
        FROM stripe_portal.winback_case AS w
        WHERE (w.trigger_on, w.livemode, w.account) = (tried.trigger_on, tried.livemode, tried.account)
          AND w.at >= coalesce(stripe_winback_preview.since, now() - interval '90 days')
        ORDER BY w.customer, w.at, w.episode
    LOOP
        IF customer IS DISTINCT FROM c.customer THEN
            seen := '{}';
        END IF;
        customer := c.customer;
        CONTINUE WHEN NOT stripe_portal.winback_fits(tried, c);

        at := c.at;
        subscription := c.subscription;
        due_at := c.at + tried.wait;
        feedback := coalesce(c.feedback_option, c.feedback);
        product := c.product[1];
        country := c.country;
        mrr := c.mrr;
        currency := c.currency;
        cost := NULL;
        verdict := NULL;
        FOR other IN
            SELECT r.*
            FROM stripe_portal.winback_rule AS r
            WHERE r.active AND (r.trigger_on, r.livemode, r.account) = (tried.trigger_on, tried.livemode, tried.account)
              AND (r.kind = 'cancel_flow_coupon') = (tried.kind = 'cancel_flow_coupon')
              AND (-r.priority, r.name) < (-tried.priority, tried.name)
            ORDER BY r.priority DESC, r.name
        LOOP
            IF stripe_portal.winback_fits(other, c) THEN
                verdict := format('rule %s', other.name);
                EXIT;
            END IF;
        END LOOP;
        IF verdict IS NULL AND (SELECT count(*) FROM unnest(seen) AS s
                                WHERE tried.cap_window IS NULL OR s > c.at - tried.cap_window) >= tried.cap_per_customer THEN
            verdict := 'capped';
        END IF;
        IF verdict IS NULL THEN
            IF tried.kind <> 'cancel_flow_coupon' AND EXISTS (
                   SELECT FROM stripe_portal.winback_staying(c.customer, c.livemode, c.account, c.subscription, c.at) AS s
                   WHERE s.at < stripe_winback_preview.due_at) THEN
                verdict := 'came back';
            ELSE
                seen := seen || c.at;
                verdict := CASE WHEN stripe_portal.winback_share(tried.name, c.customer) < tried.holdout THEN 'held out' ELSE 'offer' END;
            END IF;
        END IF;
        IF verdict = 'offer' THEN
            cost := stripe_portal.winback_offer_cost(tried.coupon, tried.discount, c.price[1], c.mrr, c.currency, c.livemode, c.account);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_preview(text, timestamptz, text, boolean) IS
'Whom a rule, active or not, would have reached from since on (NULL: within 90 days): one row for each case that fits, with verdict offer; held out; capped; came back, before it was due; or rule and the name of one that comes first. cost: what the discount would take off if it were taken, in minor units, as stripe_portal.winback_cost; 0 without a discount, NULL if it is not known. Writes nothing and looks at no offer that was made. A coupon in the cancel flow is tried on the requests to cancel; how many more opened the flow is not in it. account: of a connected account (acct_…). livemode: NULL is the mode of the configured key. Error 42704 if there is no such rule';

-- ---------------------------------------------------------------------------
-- What it did
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.wilson(k bigint, n bigint, OUT low double precision, OUT high double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- z = 1.959964: 95 %
    SELECT (2 * k + z2 - sqrt(z2 * (z2 + 4 * k * (1 - k::double precision / n)))) / (2 * (n + z2)),
           (2 * k + z2 + sqrt(z2 * (z2 + 4 * k * (1 - k::double precision / n)))) / (2 * (n + z2))
    FROM (VALUES (1.959964 ^ 2)) AS v (square), LATERAL (SELECT square::double precision) AS s (z2)
    WHERE n > 0
$$;

COMMENT ON FUNCTION stripe_portal.wilson(bigint, bigint) IS
'Wilson''s 95 % interval of a share of which k in n were seen; NULL if n is 0';

CREATE FUNCTION stripe_portal.share_difference(
    k1 bigint, n1 bigint, k2 bigint, n2 bigint, OUT difference numeric, OUT low numeric, OUT high numeric)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT round((p1 - p2)::numeric, 4),
           round((p1 - p2 - sqrt((p1 - a.low) ^ 2 + (b.high - p2) ^ 2))::numeric, 4),
           round((p1 - p2 + sqrt((a.high - p1) ^ 2 + (p2 - b.low) ^ 2))::numeric, 4)
    FROM (SELECT k1::double precision / n1 AS p1, k2::double precision / n2 AS p2 WHERE n1 > 0 AND n2 > 0) AS share,
         stripe_portal.wilson(k1, n1) AS a, stripe_portal.wilson(k2, n2) AS b
$$;

COMMENT ON FUNCTION stripe_portal.share_difference(bigint, bigint, bigint, bigint) IS
'By how much the share of k1 in n1 is above that of k2 in n2, with its 95 % interval by Newcombe''s hybrid score method (his method 10, without continuity correction); NULL if one of the groups is empty';

CREATE VIEW stripe_portal.winback_lift AS
WITH member AS (
    SELECT o.rule, o.livemode, o.account, d.days, coalesce(o.currency, '') AS currency,
           o.feedback, o.product, o.country,
           o.state = 'held_out' AS held_out, o.sent_at IS NOT NULL AS reached, o.state = 'accepted' AS accepted,
           later.alive, later.mrr,
           CASE WHEN o.state = 'accepted' THEN stripe_portal.winback_offer_cost(
               coalesce(o.coupon, r.coupon), r.discount, o.price, o.mrr, o.currency, o.livemode, o.account) END AS cost
    FROM stripe_portal.winback_offer AS o
    JOIN stripe_portal.winback_rule AS r ON (r.name, r.livemode, r.account) = (o.rule, o.livemode, o.account)
    CROSS JOIN (VALUES (7), (30), (90)) AS d (days)
    CROSS JOIN LATERAL (
        SELECT count(*) > 0 AS alive, coalesce(sum(s.mrr) FILTER (WHERE s.currency = o.currency), 0) AS mrr
        FROM stripe_portal.winback_staying(
                 o.customer, o.livemode, o.account, o.subscription, o.at, o.due_at + make_interval(days => d.days)) AS s) AS later
    WHERE o.due_at + make_interval(days => d.days) <= now()
      AND o.canceled_because IS DISTINCT FROM 'superseded'
      -- who came back before it was due was not to be reached, in both groups
      AND (o.kind = 'cancel_flow_coupon' OR coalesce(o.saved_at >= o.due_at, true))
), figure AS (
    SELECT m.rule, m.livemode, m.account, s.segment, s.value, m.days,
           CASE WHEN grouping(m.currency) = 0 THEN m.currency END AS currency,
           count(*) FILTER (WHERE NOT m.held_out) AS offered,
           count(*) FILTER (WHERE m.reached) AS reached,
           count(*) FILTER (WHERE m.accepted) AS accepted,
           count(*) FILTER (WHERE m.held_out) AS held_out,
           count(*) FILTER (WHERE m.alive AND NOT m.held_out) AS saved,
           count(*) FILTER (WHERE m.alive AND m.held_out) AS held_out_saved,
           CASE WHEN grouping(m.currency) = 0 THEN coalesce(sum(m.mrr) FILTER (WHERE NOT m.held_out), 0)::bigint END AS mrr_kept,
           CASE WHEN grouping(m.currency) = 0 THEN coalesce(sum(m.mrr) FILTER (WHERE m.held_out), 0)::bigint END AS held_out_mrr_kept,
           CASE WHEN grouping(m.currency) = 0 THEN coalesce(sum(m.cost), 0)::bigint END AS discount_cost
    FROM member AS m
    CROSS JOIN LATERAL (VALUES ('all', NULL), ('feedback', m.feedback), ('product', m.product), ('country', m.country)) AS s (segment, value)
    GROUP BY GROUPING SETS ((m.rule, m.livemode, m.account, s.segment, s.value, m.days),
                            (m.rule, m.livemode, m.account, s.segment, s.value, m.days, m.currency))
)
SELECT f.rule, f.livemode, f.account, f.segment, f.value, f.days, f.currency,
       f.offered, f.reached, f.accepted, f.held_out, f.saved, f.held_out_saved,
       round(f.saved::numeric / nullif(f.offered, 0), 4) AS saved_rate,
       round(f.held_out_saved::numeric / nullif(f.held_out, 0), 4) AS held_out_rate,
       l.difference AS lift, l.low AS lift_low, l.high AS lift_high,
       CASE WHEN least(f.offered, f.held_out) < 30 THEN 'too few to say'
            WHEN l.low > 0 THEN 'it works'
            WHEN l.high < 0 THEN 'it does harm'
            ELSE 'no difference seen' END AS verdict,
       f.mrr_kept, f.held_out_mrr_kept, f.discount_cost
FROM figure AS f
LEFT JOIN LATERAL stripe_portal.share_difference(f.saved, f.offered, f.held_out_saved, f.held_out) AS l ON true;

COMMENT ON VIEW stripe_portal.winback_lift IS
'What each rule did: of those it made an offer, and of those it held out, how many were customers again 7, 30 and 90 days after the offer was due, and what difference that is. A row for all (segment all) and for each feedback, product and country; for each currency, and for all of them together (currency NULL), which has no money in it. Everybody counts in the group that was drawn, also whom no message reached; who came back before the offer was due, and whom a better rule took over, counts in neither';
COMMENT ON COLUMN stripe_portal.winback_lift.segment IS 'all, feedback, product or country; value says which';
COMMENT ON COLUMN stripe_portal.winback_lift.days IS 'How many days after due_at the customers were looked at; who was not due that long ago is not in yet';
COMMENT ON COLUMN stripe_portal.winback_lift.offered IS 'For how many an offer was planned; reached: to how many it was sent or shown; accepted: by how many it was taken';
COMMENT ON COLUMN stripe_portal.winback_lift.saved IS 'Of offered, whose subscription, or a later one, was then active or in its trial with no cancellation scheduled; held_out_saved: likewise of held_out. Who came back and left again is not saved';
COMMENT ON COLUMN stripe_portal.winback_lift.lift IS 'saved_rate less held_out_rate, with its 95 % confidence interval lift_low to lift_high, by Newcombe''s hybrid score method';
COMMENT ON COLUMN stripe_portal.winback_lift.verdict IS 'too few to say, if one of the groups has fewer than 30; it works, or it does harm, if the whole interval is on one side of 0; no difference seen';
COMMENT ON COLUMN stripe_portal.winback_lift.mrr_kept IS 'The MRR of the saved on that day, in minor units; held_out_mrr_kept: of held_out_saved. The groups differ in size';
COMMENT ON COLUMN stripe_portal.winback_lift.discount_cost IS 'What the discounts that were accepted take off altogether, for ever being a year, on the MRR that was at stake';

CREATE FUNCTION @extschema@.stripe_winback_lift(
    rule text DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS SETOF stripe_portal.winback_lift
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.*
    FROM stripe_portal.winback_lift AS l
    WHERE (stripe_winback_lift.rule IS NULL OR l.rule = stripe_winback_lift.rule)
      AND l.account = stripe_winback_lift.account
      AND l.livemode = coalesce(stripe_winback_lift.livemode, stripe_portal.key_livemode())
    ORDER BY l.rule, l.segment, l.value, l.days, l.currency NULLS FIRST
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_lift(text, text, boolean) IS
'The rows of stripe_portal.winback_lift of a rule, or of all (NULL), for who may call it and need not read the tables. account: of a connected account (acct_…). livemode: NULL is the mode of the configured key, live without one';
-- winback: the link in a message is visited.

CREATE FUNCTION stripe_portal.winback_flow(o stripe_portal.winback_offer, OUT flow text, OUT subscription text, OUT own jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s stripe_portal.subscription;
BEGIN
    own := '{}';
    flow := CASE
        -- the access rule lets those who do not pay reach this one only
        WHEN o.trigger_on = 'payment_failed' AND o.kind IN ('update_card', 'message') THEN 'payment_method_update'
        WHEN o.kind = 'pause_offer' THEN 'subscription_pause'
        WHEN o.kind IN ('coupon', 'promotion_code') AND o.coupon IS NOT NULL AND o.state <> 'accepted' THEN 'subscription_update_confirm'
        ELSE 'portal' END;
    IF flow NOT LIKE 'subscription\_%' THEN
        RETURN;
    END IF;

    SELECT k.* INTO s
    FROM stripe_portal.subscription AS k
    WHERE (k.id, k.customer, k.livemode, k.account) = (o.subscription, o.customer, o.livemode, o.account);
    IF NOT FOUND OR stripe_portal.flow_problem(flow, s) IS NOT NULL THEN
        flow := 'portal';
        RETURN;
    END IF;
    subscription := s.id;
    IF flow = 'subscription_update_confirm' THEN
        own := jsonb_build_object('discounts', jsonb_build_array(
            CASE WHEN o.promotion_code IS NOT NULL THEN jsonb_build_object('promotion_code', o.promotion_code)
                 ELSE jsonb_build_object('coupon', o.coupon) END));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_flow(stripe_portal.winback_offer) IS
'The flow of the portal that an offer leads to, for which subscription, and its parameters: payment_method_update after a failed payment, subscription_pause, subscription_update_confirm with the discount; the plain portal for the rest, and where the subscription can not enter the flow';

CREATE FUNCTION stripe_portal.winback_extend_trial(o stripe_portal.winback_offer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until bigint;
BEGIN
    -- counted from the end that the trial had then, so twice is the same as once
    SELECT extract(epoch FROM c.trial_end + r.extend_by)::bigint INTO until
    FROM stripe_portal.winback_rule AS r
    JOIN stripe_portal.subscription AS s ON (s.id, s.livemode, s.account) = (o.subscription, o.livemode, o.account)
    CROSS JOIN LATERAL (
        SELECT h.trial_end
        FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account) = (o.subscription, o.livemode, o.account) AND h.at <= o.at
        ORDER BY h.at DESC
        LIMIT 1) AS c
    WHERE (r.name, r.livemode, r.account) = (o.rule, o.livemode, o.account)
      AND s.status = 'trialing' AND c.trial_end + r.extend_by > s.trial_end;
    IF FOUND THEN
        PERFORM stripe_portal.api('POST', '/v1/subscriptions/' || o.subscription,
            jsonb_build_object('trial_end', until, 'proration_behavior', 'none'),
            nullif(o.account, ''), format('winback-trial-%s-%s', o.id, until));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_extend_trial(stripe_portal.winback_offer) IS
'Moves the end of a trial that is still running to extend_by after what it was when the offer was made; once';

CREATE FUNCTION @extschema@.stripe_winback_open(token text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
    way record;
    options jsonb;
BEGIN
    SELECT w.* INTO o FROM stripe_portal.winback_offer AS w WHERE w.id = stripe_portal.token_id(token);
    PERFORM stripe_portal.token_require(token, 'winback', o.customer, o.livemode, o.account);
    -- A worker that died may have sent it, so having been claimed is enough;
    -- what was promised in a message that has left holds until it expires.
    IF o.claimed_at IS NULL OR o.expires_at <= now() THEN
        RAISE EXCEPTION 'token refused'
            USING ERRCODE = 'SPR01', DETAIL = 'It has expired.';
    END IF;

    -- nothing is locked while Stripe is asked
    IF o.kind = 'trial_extension' THEN
        PERFORM stripe_portal.winback_extend_trial(o);
    END IF;
    options := CASE WHEN o.account = '' THEN '{}' ELSE jsonb_build_object('account', o.account) END;
    way := stripe_portal.winback_flow(o);
    IF way.flow <> 'portal' THEN
        BEGIN
            RETURN stripe_portal.open_session(
                o.customer, NULL, way.flow, way.subscription,
                options || jsonb_build_object('flow_data', jsonb_build_object(
                    'after_completion', jsonb_build_object('type', 'portal_homepage'))
                    || CASE WHEN way.own = '{}' THEN '{}' ELSE jsonb_build_object(way.flow, way.own) END));
        EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'SP400' OR SQLSTATE 'SP404' OR SQLSTATE 'SPA01' THEN
            -- the flow is not for this customer, or not any more; the portal may be
            NULL;
        END;
    END IF;
    RETURN stripe_portal.open_session(o.customer, NULL, NULL, NULL, options);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_open(text) IS
'Opens the portal for the customer who came with the token in a message''s link, and gives its URL, to which the browser is to be redirected: a new session each time, as often as the customer comes, until the offer expires. The flow is that of the offer''s kind: a new card after a failed payment, a pause, a confirmation with the discount; the plain portal otherwise, where the flow is not possible, and once the discount was taken. A trial_extension is given first. Error SPR01 for a token that has expired or was not made here, SPA01 if the access rule lets the customer into neither, as after the end of the subscription; otherwise as stripe_portal_session';
-- winback: from a change of state to an offer, and what becomes of it.
--
-- Everything starts from an UPDATE of subscription_change, with which the
-- derivation of a history ends, and which a restore does not make.  Planning
-- the same again finds the offer there; what customers did is worked out from
-- the whole history each time, so the order of arrival does not matter.

CREATE FUNCTION stripe_portal.winback_capped(r stripe_portal.winback_rule, customer text, at timestamptz)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) >= r.cap_per_customer
    FROM stripe_portal.winback_offer AS o
    WHERE (o.rule, o.livemode, o.account, o.customer) = (r.name, r.livemode, r.account, winback_capped.customer)
      AND o.state <> 'canceled'
      AND (r.cap_window IS NULL OR o.at > winback_capped.at - r.cap_window)
$$;

COMMENT ON FUNCTION stripe_portal.winback_capped(stripe_portal.winback_rule, text, timestamptz) IS
'Whether a customer had as many offers of the rule before at as its cap allows. Being held out counts like an offer, so that both groups are treated alike';

CREATE FUNCTION stripe_portal.winback_held_out(r stripe_portal.winback_rule, customer text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT stripe_portal.winback_share(r.name, customer) < r.holdout
        -- once held out, for ever, also by a holdout that is smaller now
        OR EXISTS (SELECT FROM stripe_portal.winback_offer AS o
                   WHERE (o.rule, o.livemode, o.account, o.customer, o.state)
                       = (r.name, r.livemode, r.account, winback_held_out.customer, 'held_out'))
$$;

COMMENT ON FUNCTION stripe_portal.winback_held_out(stripe_portal.winback_rule, text) IS
'Whether the customer gets nothing from the rule, so that its effect can be measured';

CREATE FUNCTION stripe_portal.winback_offer_row(r stripe_portal.winback_rule, c stripe_portal.winback_case)
RETURNS stripe_portal.winback_offer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
BEGIN
    o.id := gen_random_uuid();
    o.rule := r.name;
    o.livemode := r.livemode;
    o.account := r.account;
    o.customer := c.customer;
    o.episode := c.episode;
    o.trigger_on := r.trigger_on;
    o.kind := r.kind;
    o.subscription := c.subscription;
    o.at := c.at;
    o.feedback := coalesce(c.feedback_option, c.feedback);
    o.product := c.product[1];
    o.price := c.price[1];
    o.country := c.country;
    o.mrr := c.mrr;
    o.currency := c.currency;
    o.state := CASE WHEN stripe_portal.winback_held_out(r, c.customer) THEN 'held_out' ELSE 'planned' END;
    o.planned_at := now();
    o.due_at := c.at + r.wait;
    o.expires_at := o.due_at + r.valid_for;
    o.attempts := 0;
    RETURN o;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_offer_row(stripe_portal.winback_rule, stripe_portal.winback_case) IS
'The offer that a rule makes for a case: planned, or held_out';

CREATE FUNCTION stripe_portal.winback_decide(c stripe_portal.winback_case)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r stripe_portal.winback_rule;
    made stripe_portal.winback_offer;
    priority integer;
BEGIN
    -- what the customer answered comes later
    UPDATE stripe_portal.winback_offer AS o
    SET feedback = coalesce(c.feedback_option, c.feedback), country = c.country
    WHERE (o.customer, o.livemode, o.account, o.episode) = (c.customer, c.livemode, c.account, c.episode)
      AND (o.feedback, o.country) IS DISTINCT FROM (coalesce(c.feedback_option, c.feedback), c.country);

    IF EXISTS (SELECT FROM stripe_portal.winback_staying(c.customer, c.livemode, c.account, c.subscription, c.at)) THEN
        RETURN 0;
    END IF;

    -- What was made for this episode.  The first failure of a row can turn out
    -- to be another one when its event is late: it is still the same row.
    SELECT o.* INTO made
    FROM stripe_portal.winback_offer AS o
    WHERE (o.customer, o.livemode, o.account, o.subscription, o.trigger_on)
        = (c.customer, c.livemode, c.account, c.subscription, c.trigger_on)
      AND o.kind <> 'cancel_flow_coupon'
      AND o.canceled_because IS DISTINCT FROM 'superseded'
      AND (o.episode = c.episode
           OR c.trigger_on = 'payment_failed' AND NOT EXISTS (
               SELECT FROM stripe_portal.winback_staying(c.customer, c.livemode, c.account, c.subscription, least(o.at, c.at)) AS s
               WHERE s.at < greatest(o.at, c.at)))
    LIMIT 1;
    IF made.id IS NOT NULL THEN
        -- what is due is left as it is, in both groups alike
        IF made.state NOT IN ('planned', 'held_out') OR made.due_at <= now() THEN
            RETURN 0;
        END IF;
        SELECT w.priority INTO priority
        FROM stripe_portal.winback_rule AS w
        WHERE (w.name, w.livemode, w.account) = (made.rule, made.livemode, made.account);
    END IF;

    FOR r IN
        SELECT w.*
        FROM stripe_portal.winback_rule AS w
        WHERE w.active AND (w.livemode, w.account, w.trigger_on) = (c.livemode, c.account, c.trigger_on)
          AND w.kind <> 'cancel_flow_coupon'
          AND w.since <= c.at AND c.at + w.wait + w.valid_for > now()
        ORDER BY w.priority DESC, w.name
    LOOP
        EXIT WHEN r.name = made.rule OR r.priority <= priority;
        CONTINUE WHEN NOT stripe_portal.winback_fits(r, c) OR stripe_portal.winback_capped(r, c.customer, c.at);
        IF made.id IS NOT NULL THEN
            UPDATE stripe_portal.winback_offer AS o
            SET state = 'canceled', canceled_because = 'superseded', closed_at = now()
            WHERE o.id = made.id AND o.state IN ('planned', 'held_out');
            IF NOT FOUND THEN
                -- a worker was faster
                RETURN 0;
            END IF;
        END IF;
        INSERT INTO stripe_portal.winback_offer
        SELECT (stripe_portal.winback_offer_row(r, c)).*
        ON CONFLICT (rule, livemode, account, customer, episode) DO NOTHING;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
        PERFORM pg_notify('stripe_winback', '');
        RETURN 1;
    END LOOP;
    RETURN 0;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_decide(stripe_portal.winback_case) IS
'Makes the offer of a case, if there is none: that of the rule with the highest priority among those that fit and are not used up. Where the answers that have come in since make a better rule fit, its offer takes the place of one that is not due yet. Gives the number of offers made';

CREATE FUNCTION stripe_portal.winback_plan(subscription text, livemode boolean, account text)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.winback_case;
    count integer := 0;
BEGIN
    FOR c IN
        SELECT w.*
        FROM stripe_portal.winback_case AS w
        WHERE (w.subscription, w.livemode, w.account) = (winback_plan.subscription, winback_plan.livemode, winback_plan.account)
        ORDER BY w.at, w.trigger_on
    LOOP
        count := count + stripe_portal.winback_decide(c);
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_plan(text, boolean, text) IS
'Makes the offers that are to be made for a subscription and have not been; gives their number';

-- ---------------------------------------------------------------------------
-- What became of it
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.winback_outcome(o stripe_portal.winback_offer)
RETURNS stripe_portal.winback_offer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n stripe_portal.winback_offer := o;
    in_flow CONSTANT boolean := o.kind = 'cancel_flow_coupon';
    back record;
    taken timestamptz;
    asked timestamptz;
BEGIN
    -- That of an offer in the cancel flow never was away.
    SELECT s.at, s.subscription INTO back
    FROM stripe_portal.winback_staying(o.customer, o.livemode, o.account, o.subscription, o.at) AS s
    WHERE NOT in_flow
    ORDER BY s.at
    LIMIT 1;

    IF o.coupon IS NOT NULL AND o.state <> 'held_out' THEN
        SELECT coalesce(d.start, d.event_created) INTO taken
        FROM stripe_portal.discount AS d
        WHERE (d.livemode, d.account) = (o.livemode, o.account)
          AND (d.subscription = o.subscription OR d.customer = o.customer AND NOT in_flow)
          AND CASE WHEN o.promotion_code IS NULL THEN d.coupon = o.coupon ELSE d.promotion_code = o.promotion_code END
          -- in the flow, the offer's time is ours, and the clocks may differ a little
          AND coalesce(d.start, d.event_created) >= date_trunc('second', o.at) - CASE WHEN in_flow THEN interval '1 minute' ELSE '0' END
        ORDER BY 1
        LIMIT 1;
    ELSIF o.kind NOT IN ('coupon', 'promotion_code') AND back.at >= date_trunc('second', o.sent_at) AND back.at <= o.expires_at THEN
        taken := back.at;
    END IF;

    IF in_flow THEN
        SELECT c.canceled_at INTO asked
        FROM stripe_portal.subscription_change AS c
        WHERE (c.subscription, c.livemode, c.account) = (o.subscription, o.livemode, o.account)
          AND c.canceled_at >= date_trunc('second', o.at) AND c.canceled_at <= o.expires_at
        ORDER BY c.canceled_at
        LIMIT 1;
        n.saved_at := taken;
        n.saved_stage := CASE WHEN taken IS NOT NULL THEN 'cancel_flow' END;
    ELSE
        n.saved_at := back.at;
        n.saved_stage := CASE WHEN back.at IS NULL THEN NULL
                              WHEN o.trigger_on = 'payment_failed' THEN 'after_payment'
                              WHEN back.subscription = o.subscription THEN 'before_end'
                              ELSE 'after_end' END;
    END IF;

    -- What has been superseded is settled, and so is what is held out.
    IF o.state = 'held_out' OR o.canceled_because = 'superseded' THEN
        RETURN n;
    ELSIF taken IS NOT NULL THEN
        n.state := 'accepted';
    ELSIF asked IS NOT NULL THEN
        n.state := 'declined';
        n.closed_at := asked;
    ELSIF back.at <= o.expires_at THEN
        n.state := 'canceled';
        n.closed_at := back.at;
    ELSIF o.expires_at <= now() AND (o.state <> 'claimed' OR o.lease_until <= now()) THEN
        n.state := 'expired';
        n.closed_at := o.expires_at;
    END IF;
    n.accepted_at := CASE n.state WHEN 'accepted' THEN coalesce(taken, o.accepted_at) END;
    n.closed_at := CASE WHEN n.state <> 'accepted' THEN n.closed_at END;
    n.canceled_because := CASE n.state WHEN 'canceled' THEN 'came_back' END;
    RETURN n;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_outcome(stripe_portal.winback_offer) IS
'The offer as it is by now: whether and where the customer came back, and whether that was the offer''s doing. An offer with a discount is accepted when a discount of its coupon, or of its promotion code, begins; any other, when the customer comes back after it was sent. Who comes back otherwise came back without it. Worked out from everything that is known, so the same whatever came first';

CREATE FUNCTION stripe_portal.winback_settle(
    customer text DEFAULT NULL, livemode boolean DEFAULT NULL, account text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
    n stripe_portal.winback_offer;
    count integer := 0;
BEGIN
    FOR o IN
        SELECT w.*
        FROM stripe_portal.winback_offer AS w
        WHERE CASE WHEN winback_settle.customer IS NOT NULL
                   THEN (w.customer, w.livemode, w.account) = (winback_settle.customer, winback_settle.livemode, winback_settle.account)
                   -- a discount, unlike a subscription, can become known late
                   ELSE w.state IN ('planned', 'claimed', 'sent') OR w.sent_at > now() - interval '90 days' END
        ORDER BY w.id
    LOOP
        n := stripe_portal.winback_outcome(o);
        CONTINUE WHEN n IS NOT DISTINCT FROM o;
        -- unless a worker has changed it in the meantime: then next time
        UPDATE stripe_portal.winback_offer AS w
        SET (state, accepted_at, closed_at, canceled_because, saved_at, saved_stage)
          = (n.state, n.accepted_at, n.closed_at, n.canceled_because, n.saved_at, n.saved_stage)
        WHERE w.id = o.id
          AND (w.state, w.sent_at, w.lease_until, w.coupon, w.promotion_code)
              IS NOT DISTINCT FROM (o.state, o.sent_at, o.lease_until, o.coupon, o.promotion_code);
        count := count + CASE WHEN FOUND THEN 1 ELSE 0 END;
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_settle(text, boolean, text) IS
'Brings offers up to date with what is known: those of a customer, or all that are open or were sent within 90 days. Gives the number of those that changed; to be called now and then, since no event tells that an offer has expired';

CREATE FUNCTION stripe_portal.winback_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.winback_settle();
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_step(text) IS
'The care of the offers, for the tick';

CREATE FUNCTION stripe_portal.winback_follow()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched record;
BEGIN
    IF NOT EXISTS (SELECT FROM stripe_portal.winback_rule) THEN
        RETURN NULL;
    END IF;
    FOR touched IN
        SELECT DISTINCT c.subscription, c.livemode, c.account FROM changed AS c ORDER BY 1, 2, 3
    LOOP
        PERFORM stripe_portal.winback_plan(touched.subscription, touched.livemode, touched.account);
    END LOOP;
    FOR touched IN
        SELECT DISTINCT c.customer, c.livemode, c.account FROM changed AS c ORDER BY 1, 2, 3
    LOOP
        PERFORM stripe_portal.winback_settle(touched.customer, touched.livemode, touched.account);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_follow() IS
'Plans and settles the offers of the subscriptions whose history was derived anew';

-- Never on INSERT: a restore makes those.  By its name it comes after
-- cancellation_follow, which makes the episodes.
CREATE TRIGGER winback_follow
    AFTER UPDATE ON stripe_portal.subscription_change
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.winback_follow();
-- winback: from a template to a message.
--
-- What customers typed themselves goes into a mail that others may be sent in
-- their name: it never brings along a line, a tag, an address or a link.

CREATE FUNCTION stripe_portal.winback_field_pattern()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\{\{ *(name|email|product|link|code|expires|ends) *(?:\|([^{}]*))?\}\}';

COMMENT ON FUNCTION stripe_portal.winback_field_pattern() IS
'What a field looks like in a template: {{name}}, or {{name|what to say if there is none}}';

CREATE FUNCTION stripe_portal.winback_template_problem(template text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('The template has "%s".', substring(rest FROM '\{\{[^{}]{0,40}(?:\}\})?'))
    FROM regexp_replace(template, stripe_portal.winback_field_pattern(), '', 'g') AS rest
    WHERE rest LIKE '%{{%'
$$;

COMMENT ON FUNCTION stripe_portal.winback_template_problem(text) IS
'What a template has that is no field, as a sentence; NULL if all is well';

CREATE FUNCTION stripe_portal.winback_plain(value text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN btrim(regexp_replace(value, '[\s\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+', ' ', 'g'));

COMMENT ON FUNCTION stripe_portal.winback_plain(text) IS
'A value in one line: without line breaks, other control characters, and those that are not seen or turn the direction of the text';

CREATE FUNCTION stripe_portal.winback_html(value text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');

COMMENT ON FUNCTION stripe_portal.winback_html(text) IS
'A value as it stands in HTML, between tags or as a quoted attribute';

CREATE FUNCTION stripe_portal.winback_address(email text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN email ~ '^[^\s\u0001-\u0020\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069<>()\[\]\\,;:@"]+@[^\s\u0001-\u0020\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069<>()\[\]\\,;:@"]+$'
                 AND length(email) <= 254 AND email !~ '^-' THEN email END;

COMMENT ON FUNCTION stripe_portal.winback_address(text) IS
'The e-mail address, if it is just one, and nothing else; NULL otherwise';

CREATE FUNCTION stripe_portal.winback_name(name text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN length(name) <= 100 AND name !~* '://|@|[[:alnum:]]\.[[:alpha:]]{2,}' THEN nullif(stripe_portal.winback_plain(name), '') END;

COMMENT ON FUNCTION stripe_portal.winback_name(text) IS
'A customer''s name, to address them by; NULL for what is too long, or what a mail program would make a link of: such a name is an advertisement that somebody has us send';

CREATE FUNCTION stripe_portal.winback_render(template text, fields jsonb, html boolean DEFAULT false)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- Between two fields stands what the template says, so nothing that a
    -- field brings along is looked at again.
    SELECT string_agg(
               coalesce(piece.before, '')
               || CASE WHEN piece.field IS NULL THEN ''
                       WHEN v.value IS NULL THEN coalesce(piece.field[2], '')
                       WHEN html THEN stripe_portal.winback_html(v.value)
                       ELSE v.value END, '' ORDER BY piece.n)
    FROM (SELECT s.n, s.before, f.field
          FROM regexp_split_to_table(template, stripe_portal.winback_field_pattern()) WITH ORDINALITY AS s (before, n)
          LEFT JOIN regexp_matches(template, stripe_portal.winback_field_pattern(), 'g') WITH ORDINALITY AS f (field, n) USING (n)
         ) AS piece,
         LATERAL (SELECT nullif(stripe_portal.winback_plain(fields ->> piece.field[1]), '')) AS v (value)
$$;

COMMENT ON FUNCTION stripe_portal.winback_render(text, jsonb, boolean) IS
'A template with its fields filled in, each in one line, and escaped if html; NULL for no template';

CREATE FUNCTION stripe_portal.winback_fields(o stripe_portal.winback_offer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'email', stripe_portal.winback_address(k.email),
        'name', stripe_portal.winback_name(k.name),
        'product', (SELECT p.name FROM stripe_portal.product AS p WHERE (p.id, p.livemode, p.account) = (o.product, o.livemode, o.account)),
        'link', stripe_portal.winback_link(o.id, o.customer, o.livemode, o.account, o.expires_at),
        'code', o.code,
        'expires', to_char(o.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
        'ends', (SELECT to_char(coalesce(s.ended_at, s.cancel_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                 FROM stripe_portal.subscription AS s WHERE (s.id, s.livemode, s.account) = (o.subscription, o.livemode, o.account)))
    FROM (SELECT) AS one
    LEFT JOIN stripe_portal.customer AS k ON (k.id, k.livemode, k.account) = (o.customer, o.livemode, o.account) AND NOT k.deleted
$$;

COMMENT ON FUNCTION stripe_portal.winback_fields(stripe_portal.winback_offer) IS
'What can be said in the message of an offer: email, name, product, link, code, expires (the last day of the offer) and ends (the day the subscription ends, or ended); NULL where there is nothing to say. Days are YYYY-MM-DD, in UTC';

CREATE FUNCTION stripe_portal.winback_link(offer uuid, customer text, livemode boolean, account text, expires timestamptz)
RETURNS text
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stripe_winback_link';

COMMENT ON FUNCTION stripe_portal.winback_link(uuid, text, boolean, text, timestamptz) IS
'stripe_portal.winback_url with a token for this offer that works until expires; NULL if it is not set. Error 22023 for one that a return URL could not be, SPC01 without an API key';
-- winback: the coupon in the portal's cancel flow.
--
-- Stripe has no memory of it: that it was shown, and to whom not, is kept here.

CREATE FUNCTION stripe_portal.winback_in_flow(s stripe_portal.subscription, OUT rule stripe_portal.winback_rule, OUT offer stripe_portal.winback_offer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.winback_case;
    r stripe_portal.winback_rule;
    made stripe_portal.winback_offer;
    earlier bigint;
BEGIN
    c.trigger_on := 'cancel_asked';
    c.at := now();
    c.livemode := s.livemode;
    c.account := s.account;
    c.customer := s.customer;
    c.subscription := s.id;
    c.currency := s.currency;
    c.product := ARRAY(SELECT i ->> 'product' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n);
    c.price := ARRAY(SELECT i ->> 'price' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n);
    c.started := coalesce(s.start_date, s.created);
    c.country := (SELECT k.address ->> 'country' FROM stripe_portal.customer AS k
                  WHERE (k.id, k.livemode, k.account) = (s.customer, s.livemode, s.account));

    FOR r IN
        SELECT w.*
        FROM stripe_portal.winback_rule AS w
        JOIN stripe_portal.coupon AS k ON (k.id, k.livemode, k.account) = (w.coupon, w.livemode, w.account)
        WHERE w.active AND (w.livemode, w.account, w.kind) = (s.livemode, s.account, 'cancel_flow_coupon')
          AND w.since <= now() AND stripe_portal.winback_coupon_works(k)
        ORDER BY w.priority DESC, w.name
    LOOP
        c.mrr := coalesce(c.mrr, stripe_portal.mrr(s, now()));
        CONTINUE WHEN NOT stripe_portal.winback_fits(r, c);

        -- One that is open is shown again, and stays open as long as it was
        -- said to be; after that, it is another one, if the cap allows it.
        SELECT o.* INTO made
        FROM stripe_portal.winback_offer AS o
        WHERE (o.rule, o.livemode, o.account, o.customer, o.subscription) = (r.name, r.livemode, r.account, s.customer, s.id)
          AND o.expires_at > now()
        ORDER BY o.at DESC
        LIMIT 1;
        IF FOUND THEN
            CONTINUE WHEN made.state NOT IN ('sent', 'held_out');
            rule := r;
            offer := made;
            RETURN;
        END IF;
        CONTINUE WHEN stripe_portal.winback_capped(r, s.customer, now());

        SELECT count(*) INTO earlier
        FROM stripe_portal.winback_offer AS o
        WHERE (o.rule, o.livemode, o.account, o.customer, o.subscription) = (r.name, r.livemode, r.account, s.customer, s.id);
        -- the same for two who look at the same moment
        c.episode := format('%s flow %s', s.id, earlier + 1);
        rule := r;
        offer := stripe_portal.winback_offer_row(r, c);
        IF offer.state = 'planned' THEN
            offer.state := 'sent';
            offer.sent_at := now();
            offer.coupon := r.coupon;
        END IF;
        RETURN;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_in_flow(stripe_portal.subscription) IS
'The offer that a subscription''s cancel flow has now, sent or held_out, and its rule: one that was made before and is still open, or a new one, which is not in the table yet; NULL for none';

CREATE FUNCTION stripe_portal.winback_retention(s stripe_portal.subscription)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen record;
BEGIN
    chosen := stripe_portal.winback_in_flow(s);
    RETURN CASE (chosen.offer).state WHEN 'sent' THEN (chosen.offer).coupon END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_retention(stripe_portal.subscription) IS
'The coupon to offer in the subscription''s cancel flow; NULL for none, and for who is held out';

CREATE FUNCTION stripe_portal.winback_shown()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen record;
BEGIN
    SELECT f.* INTO chosen
    FROM stripe_portal.subscription AS s, stripe_portal.winback_in_flow(s) AS f
    WHERE (s.id, s.livemode, s.account) = (NEW.subscription, NEW.livemode, NEW.account);
    -- what the session really has, which can be the caller's own choice
    IF (chosen.offer).id IS NULL OR NEW.retention_coupon IS DISTINCT FROM (chosen.offer).coupon THEN
        RETURN NULL;
    END IF;
    chosen.offer := jsonb_populate_record(chosen.offer, jsonb_build_object('session', NEW.id));
    INSERT INTO stripe_portal.winback_offer SELECT (chosen.offer).*
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_shown() IS
'Keeps that an offer was shown in the cancel flow, or held out, when the session has been opened';

-- The state is filled in when a session has been opened, and by no restore.
CREATE TRIGGER winback_shown
    AFTER UPDATE OF state ON stripe_portal.session
    FOR EACH ROW WHEN (OLD.state IS NULL AND NEW.state IS NOT NULL AND NEW.flow = 'subscription_cancel')
    EXECUTE FUNCTION stripe_portal.winback_shown();
-- winback: what a rule may say.

CREATE FUNCTION stripe_portal.winback_discount_problem(discount jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN jsonb_typeof(discount) <> 'object' THEN 'It is not a JSON object.'
    WHEN discount - '{percent_off,amount_off,currency,duration,duration_in_months,applies_to,currency_options,name,metadata}'::text[] <> '{}'
        THEN format('A coupon of an offer has no "%s".', (
            SELECT min(key) FROM jsonb_object_keys(
                discount - '{percent_off,amount_off,currency,duration,duration_in_months,applies_to,currency_options,name,metadata}'::text[]) AS key))
    WHEN (discount ? 'percent_off') = (discount ? 'amount_off') THEN 'It takes one of percent_off and amount_off.'
    WHEN discount ? 'percent_off' AND NOT coalesce(discount ->> 'percent_off' ~ '^\d{1,3}(\.\d+)?$'
         AND (discount ->> 'percent_off')::numeric > 0 AND (discount ->> 'percent_off')::numeric <= 100, false)
        THEN 'percent_off is more than 0 and at most 100.'
    WHEN discount ? 'amount_off' AND NOT coalesce(discount ->> 'amount_off' ~ '^[1-9]\d*$', false)
        THEN 'amount_off is a positive integer, in minor units.'
    WHEN discount ? 'amount_off' AND NOT coalesce(discount ->> 'currency' ~ '^[a-z]{3}$', false) THEN 'amount_off needs a currency.'
    WHEN coalesce(discount ->> 'duration', '') NOT IN ('once', 'repeating', 'forever')
        THEN 'duration is once, repeating or forever.'
    WHEN (discount ->> 'duration' = 'repeating') <> coalesce(discount ->> 'duration_in_months' ~ '^[1-9]\d*$', false)
        THEN 'duration repeating, and only that, has duration_in_months.'
END;

COMMENT ON FUNCTION stripe_portal.winback_discount_problem(jsonb) IS
'Why Stripe would not make a coupon with these parameters, as a sentence; NULL if it would';

CREATE FUNCTION stripe_portal.winback_rule_problem(r stripe_portal.winback_rule, OUT problem text, OUT detail text, OUT hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known stripe_portal.coupon;
    condition record;
    unknown text;
    takes_discount CONSTANT boolean := r.kind IN ('coupon', 'promotion_code');
BEGIN
    -- conditions that nobody could meet
    FOR condition IN
        SELECT * FROM (VALUES ('feedback', r.feedback), ('reason', r.reason), ('product', r.product),
                              ('price', r.price), ('country', r.country)) AS v (name, elements)
        WHERE elements IS NOT NULL
    LOOP
        IF cardinality(condition.elements) = 0 OR array_position(condition.elements, NULL) IS NOT NULL THEN
            problem := format('condition "%s" fits nobody', condition.name);
            hint := 'NULL takes everybody; give at least one element, and none that is NULL.';
            RETURN;
        END IF;
    END LOOP;
    -- an id of Stripe's has digits or capitals in it, a misspelt word has not
    SELECT f INTO unknown FROM unnest(r.feedback) AS f
    WHERE f NOT IN ('too_expensive', 'missing_features', 'switched_service', 'unused', 'customer_service',
                    'too_complex', 'low_quality', 'other')
      AND f !~ '_.*[A-Z0-9]';
    IF FOUND THEN
        problem := format('unknown feedback "%s"', unknown);
        hint := 'Stripe has too_expensive, missing_features, switched_service, unused, customer_service, too_complex, low_quality and other; or give the id of a feedback option of your own.';
        RETURN;
    END IF;
    SELECT f INTO unknown FROM unnest(r.reason) AS f
    WHERE f NOT IN ('cancellation_requested', 'payment_failed', 'payment_disputed', 'canceled_by_retention_policy');
    IF FOUND THEN
        problem := format('unknown reason "%s"', unknown);
        hint := 'Stripe has cancellation_requested, payment_failed, payment_disputed and canceled_by_retention_policy.';
        RETURN;
    END IF;
    SELECT f INTO unknown FROM unnest(r.country) AS f WHERE f !~ '^[A-Z]{2}$';
    IF FOUND THEN
        problem := format('"%s" is not a country', unknown);
        hint := 'Countries have two capital letters, such as DE.';
        RETURN;
    END IF;

    problem := CASE
        WHEN r.mrr_from > r.mrr_to THEN format('no MRR is from %s to %s', r.mrr_from, r.mrr_to)
        WHEN r.mrr_from < 0 OR r.mrr_to < 0 THEN 'an MRR is not negative'
        WHEN r.currency IS NULL AND coalesce(r.mrr_from, r.mrr_to) IS NOT NULL THEN 'a condition on the MRR needs a currency'
        WHEN r.age_from >= r.age_to THEN format('no age is from %s to before %s', r.age_from, r.age_to)
        WHEN r.age_from < '0' OR r.age_to < '0' THEN 'an age is not negative'
        -- so that no sum with a time is out of range
        WHEN greatest(r.age_from, r.age_to, r.wait, r.valid_for, r.cap_window) > '100 years' THEN 'a time of more than 100 years is no use'
        WHEN r.wait < '0' THEN 'wait must not be negative'
        WHEN r.valid_for <= '0' THEN 'valid_for must be more than nothing'
        WHEN r.cap_per_customer < 1 THEN 'cap_per_customer must be at least 1'
        WHEN r.cap_window <= '0' THEN 'cap_window must be more than nothing'
        WHEN r.holdout < 0 OR r.holdout > 1 OR r.holdout = 'NaN' THEN 'holdout must be from 0 to 1'
        WHEN r.trigger_on = 'payment_failed' AND (r.feedback IS NOT NULL OR r.reason IS NOT NULL)
            THEN 'a failed payment has no feedback and no reason'

        WHEN r.kind = 'cancel_flow_coupon' AND r.trigger_on <> 'cancel_asked'
            THEN 'a coupon in the cancel flow needs the trigger "cancel_asked"'
        WHEN r.kind = 'cancel_flow_coupon' AND (r.feedback IS NOT NULL OR r.reason IS NOT NULL)
            THEN 'a coupon in the cancel flow is offered before feedback and reason are known'
        WHEN r.kind = 'cancel_flow_coupon' AND (r.coupon IS NULL OR r.discount IS NOT NULL)
            THEN 'a coupon in the cancel flow must exist: give coupon, not discount'
        WHEN r.kind = 'cancel_flow_coupon' AND (r.wait <> '0' OR coalesce(r.subject, r.body, r.html) IS NOT NULL)
            THEN 'a coupon in the cancel flow has no wait and no message'
        WHEN r.kind <> 'cancel_flow_coupon' AND (coalesce(r.subject, '') = '' OR coalesce(r.body, '') = '')
            THEN format('kind "%s" needs subject and body', r.kind)
        WHEN takes_discount AND (r.coupon IS NULL) = (r.discount IS NULL)
            THEN format('kind "%s" needs one of coupon and discount', r.kind)
        WHEN NOT takes_discount AND r.kind <> 'cancel_flow_coupon' AND (r.coupon IS NOT NULL OR r.discount IS NOT NULL)
            THEN format('kind "%s" gives no discount', r.kind)
        WHEN r.kind IN ('pause_offer', 'trial_extension') AND r.trigger_on <> 'cancel_asked'
            THEN format('kind "%s" needs a subscription that has not ended: trigger "cancel_asked"', r.kind)
        WHEN (r.kind = 'trial_extension') <> coalesce(r.extend_by > '0', false)
            THEN 'kind "trial_extension", and only that, needs extend_by'
        WHEN r.kind = 'update_card' AND r.trigger_on <> 'payment_failed'
            THEN 'kind "update_card" needs the trigger "payment_failed"'
    END;
    IF problem IS NOT NULL THEN
        RETURN;
    END IF;

    detail := coalesce(stripe_portal.winback_template_problem(r.subject), stripe_portal.winback_template_problem(r.body),
                       stripe_portal.winback_template_problem(r.html));
    IF detail IS NOT NULL THEN
        problem := 'unknown field in the message';
        hint := 'There are {{name}}, {{email}}, {{product}}, {{link}}, {{code}}, {{expires}} and {{ends}}; {{name|there}} says what to write if there is none.';
        RETURN;
    END IF;

    IF r.discount IS NOT NULL THEN
        detail := stripe_portal.winback_discount_problem(r.discount);
        problem := CASE WHEN detail IS NOT NULL THEN 'Stripe makes no coupon of this discount' END;
    ELSIF r.coupon IS NOT NULL THEN
        SELECT * INTO known FROM stripe_portal.coupon AS k
        WHERE (k.id, k.livemode, k.account) = (r.coupon, r.livemode, r.account);
        IF NOT FOUND THEN
            problem := format('coupon "%s" is not known', r.coupon);
            hint := format('If it exists at Stripe, read it first: SELECT stripe_refresh_coupon(%L).', r.coupon);
        ELSIF NOT stripe_portal.winback_coupon_works(known) THEN
            problem := format('coupon "%s" cannot be redeemed any more', r.coupon);
            detail := CASE WHEN known.deleted THEN 'It has been deleted.' WHEN known.redeem_by <= now() THEN 'Its redeem_by has passed.'
                           ELSE 'Stripe says that it is not valid.' END;
        END IF;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_rule_problem(stripe_portal.winback_rule) IS
'What is wrong with a rule, with a detail and a hint where there is one; problem is NULL if nothing is';

CREATE FUNCTION stripe_portal.winback_coupon_works(coupon stripe_portal.coupon)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NOT coupon.deleted AND coalesce(coupon.valid, true) AND coalesce(coupon.redeem_by > now(), true);

COMMENT ON FUNCTION stripe_portal.winback_coupon_works(stripe_portal.coupon) IS
'Whether a coupon can still be redeemed, as far as the table knows';

CREATE FUNCTION stripe_portal.winback_rule_check()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong record;
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.name, OLD.livemode, OLD.account) IS DISTINCT FROM (NEW.name, NEW.livemode, NEW.account) THEN
        RAISE EXCEPTION 'win-back rule "%" cannot be renamed', OLD.name
            USING ERRCODE = 'restrict_violation',
                  DETAIL = 'Its name decides who is held out.',
                  HINT = 'Switch it off, and write another one: UPDATE stripe_portal.winback_rule SET active = false WHERE ….';
    END IF;
    IF TG_OP = 'INSERT' AND NEW.created < transaction_timestamp()
       AND (SELECT u.rolsuper FROM pg_roles AS u WHERE u.rolname = current_user) THEN
        -- a dump brings it back, in whatever order the tables come
        RETURN NEW;
    END IF;

    NEW.livemode := coalesce(NEW.livemode, stripe_portal.key_livemode());
    IF TG_OP = 'UPDATE' AND NEW.active AND NOT OLD.active AND NEW.since = OLD.since THEN
        NEW.since := now();
    END IF;
    IF TG_OP = 'INSERT' OR NEW.predicate IS DISTINCT FROM OLD.predicate OR NEW.owner <> OLD.owner THEN
        -- whoever writes it can not make it run as somebody else
        NEW.owner := current_user;
        PERFORM stripe_portal.winback_predicate(NEW.predicate, NEW.owner, NULL) WHERE NEW.predicate IS NOT NULL;
    END IF;
    -- a rule that is only switched off need not be right
    IF TG_OP = 'INSERT' OR NEW.active OR (to_jsonb(NEW) - 'active') <> (to_jsonb(OLD) - 'active') THEN
        wrong := stripe_portal.winback_rule_problem(NEW);
        IF wrong.problem IS NOT NULL THEN
            RAISE EXCEPTION '%', wrong.problem
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = coalesce(wrong.detail, format('It is in win-back rule "%s".', NEW.name)),
                      HINT = coalesce(wrong.hint, 'The comments on the columns of stripe_portal.winback_rule say what they take.');
        END IF;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_rule_check() IS
'Refuses with 22023 a rule that could not work, with 23001 a new name; fills in the mode, the owner, and since when it is switched on. No request leaves. Rows from before this transaction that a superuser inserts are being restored, and pass';

CREATE TRIGGER winback_rule_check
    BEFORE INSERT OR UPDATE ON stripe_portal.winback_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.winback_rule_check();

CREATE FUNCTION @extschema@.stripe_refresh_coupon(coupon text, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    IF coalesce(livemode, stripe_portal.key_livemode()) <> stripe_portal.key_livemode() THEN
        RAISE EXCEPTION 'the configured key is not for % mode', CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT f.status, f.body::jsonb AS body, f.as_of INTO answer
    FROM stripe_portal.fetch(
        -- an id may be any text
        ARRAY['/v1/coupons/' || substr(stripe_portal.form_encode(jsonb_build_object('id', coupon)), 4)],
        ARRAY['{"expand": ["applies_to"]}'::jsonb], account) AS f;
    IF answer.status = 404 THEN
        RETURN false;
    ELSIF answer.status <> 200 THEN
        RAISE EXCEPTION 'coupon "%" could not be read', coupon
            USING ERRCODE = 'invalid_parameter_value', DETAIL = coalesce(answer.body #>> '{error,message}', '');
    END IF;
    PERFORM stripe_portal.apply_object(answer.body, stripe_portal.key_livemode(), account, answer.as_of);
    RETURN true;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_refresh_coupon(text, text, boolean) IS
'Reads one coupon from Stripe into stripe_portal.coupon, so that a win-back rule can name it; false if Stripe has none of this id. account: of a connected account (acct_…). livemode: NULL is the mode of the configured key, another one is error 22023; what Stripe answers, SP4xx and SP5xx';
-- sync: what there is to be read from Stripe, and what went wrong with it.

CREATE VIEW stripe_portal.sync_kind AS
SELECT object, path, lists::jsonb[] AS lists, one::jsonb AS one, stripe_portal.state_table(object) AS state_table
FROM (VALUES
    ('product', '/v1/products', ARRAY['{}'], '{}'),
    -- Stripe lists the active prices, or those that are not
    ('price', '/v1/prices', ARRAY['{"active": true, "expand": ["data.tiers", "data.currency_options"]}',
                                  '{"active": false, "expand": ["data.tiers", "data.currency_options"]}'],
     '{"expand": ["tiers", "currency_options"]}'),
    ('coupon', '/v1/coupons', ARRAY['{"expand": ["data.applies_to"]}'], '{"expand": ["applies_to"]}'),
    ('promotion_code', '/v1/promotion_codes', ARRAY['{}'], '{}'),
    ('customer', '/v1/customers', ARRAY['{}'], '{}'),
    ('subscription', '/v1/subscriptions', ARRAY['{"status": "all", "expand": ["data.discounts"]}'], '{"expand": ["discounts"]}'),
    ('invoice', '/v1/invoices', ARRAY['{"expand": ["data.payments"]}'], '{"expand": ["payments"]}'),
    -- a charge has no table of its own, but tells of payments that failed
    ('charge', '/v1/charges', ARRAY['{}'], '{}'),
    ('payment_intent', '/v1/payment_intents', ARRAY['{}'], '{}'),
    ('dispute', '/v1/disputes', ARRAY['{}'], '{}')
) AS kind (object, path, lists, one);

COMMENT ON VIEW stripe_portal.sync_kind IS 'The kinds of objects that Stripe lists and the tables are made from';
COMMENT ON COLUMN stripe_portal.sync_kind.object IS 'Stripe''s name of the kind';
COMMENT ON COLUMN stripe_portal.sync_kind.path IS 'Where Stripe lists them, and with an id after it has one of them';
COMMENT ON COLUMN stripe_portal.sync_kind.lists IS 'Parameters of the lists that together have all of them';
COMMENT ON COLUMN stripe_portal.sync_kind.one IS 'Parameters with which one object is read';
COMMENT ON COLUMN stripe_portal.sync_kind.state_table IS 'The table that shows them; NULL if they only add to others';

CREATE FUNCTION stripe_portal.sync_kinds(objects text[])
RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known CONSTANT text[] := ARRAY(SELECT k.object FROM stripe_portal.sync_kind AS k ORDER BY k.object);
    unknown text;
BEGIN
    SELECT asked INTO unknown FROM unnest(objects) AS asked WHERE asked IS NULL OR asked <> ALL (known) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'objects of kind "%" can not be read', unknown
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('The kinds are %s.', array_to_string(known, ', '));
    END IF;
    RETURN CASE WHEN objects IS NULL THEN known ELSE ARRAY(SELECT DISTINCT asked FROM unnest(objects) AS asked ORDER BY asked) END;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_kinds(text[]) IS
'These kinds of objects, or all that can be read for NULL; error 22023 for one that can not';

CREATE FUNCTION stripe_portal.answer_error(status integer, body json)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN status >= 400 THEN format('SP%s: %s', status, coalesce(body #>> '{error,message}', 'no message')) END;

COMMENT ON FUNCTION stripe_portal.answer_error(integer, json) IS
'What a row of fetch says that went wrong, after its SQLSTATE; NULL if nothing did';

CREATE FUNCTION stripe_portal.raise_answer(path text, status integer, body json)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF status >= 400 THEN
        RAISE EXCEPTION '%', coalesce(body #>> '{error,message}', 'Stripe answered with HTTP status ' || status)
            USING ERRCODE = CASE WHEN status IN (402, 403, 404, 409) THEN 'SP' || status ELSE 'SP400' END,
                  DETAIL = format('HTTP status %s for GET %s.', status, path);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.raise_answer(text, integer, json) IS
'Raises what a row of fetch says that went wrong, if anything did';

CREATE FUNCTION stripe_portal.encode_id(id text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substr(stripe_portal.form_encode(jsonb_build_object('i', id)), 3);

COMMENT ON FUNCTION stripe_portal.encode_id(text) IS
'An id as it stands in a path';

CREATE FUNCTION stripe_portal.whole_subscription(object jsonb, account text, INOUT as_of timestamptz, OUT whole jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
    items jsonb := '[]';
    params jsonb := jsonb_build_object('subscription', object ->> 'id', 'limit', 100, 'expand', '["data.discounts"]'::jsonb);
BEGIN
    whole := object;
    IF object ->> 'object' IS DISTINCT FROM 'subscription' OR object #> '{items,has_more}' IS DISTINCT FROM 'true' THEN
        RETURN;
    END IF;
    LOOP
        SELECT * INTO answer FROM stripe_portal.fetch(ARRAY['/v1/subscription_items'], ARRAY[params], account);
        PERFORM stripe_portal.raise_answer('/v1/subscription_items', answer.status, answer.body);
        items := items || stripe_portal.read_payload(answer.body -> 'data');
        as_of := least(as_of, answer.as_of);
        EXIT WHEN (answer.body ->> 'has_more')::boolean IS NOT TRUE OR items = '[]';
        params := params || jsonb_build_object('starting_after', items #> '{-1,id}');
    END LOOP;
    whole := jsonb_set(object, '{items}', jsonb_build_object('data', items, 'has_more', false));
END
$$;

COMMENT ON FUNCTION stripe_portal.whole_subscription(jsonb, text, timestamptz) IS
'A subscription with all its items, of which its object has only the first; as_of becomes that of the oldest part. Anything else as it is';

COMMENT ON TABLE stripe_portal.sync_cursor IS 'How far each slice of a list has been read: the objects of one kind created from created_from on and before created_to, the newest first. Rows of the last run of each kind; see the view sync_progress';
COMMENT ON COLUMN stripe_portal.sync_cursor.slice IS 'Of which list of the kind, and where it was cut';
COMMENT ON COLUMN stripe_portal.sync_cursor.params IS 'Parameters of the list';
COMMENT ON COLUMN stripe_portal.sync_cursor.range_from IS 'What the run was asked for; NULL: no limit';
COMMENT ON COLUMN stripe_portal.sync_cursor.last_id IS 'The last object that was read; the next page begins after it';
COMMENT ON COLUMN stripe_portal.sync_cursor.failed IS 'Objects that could not be applied; failure is about the last of them';
COMMENT ON COLUMN stripe_portal.sync_cursor.error IS 'Why Stripe refused the list';
COMMENT ON COLUMN stripe_portal.sync_cursor.as_of IS 'When the first page was read, on Stripe''s clock';
COMMENT ON TABLE stripe_portal.event_cursor IS 'Up to which event the ledger is known to be complete, for each account and mode';
COMMENT ON COLUMN stripe_portal.event_cursor.created IS 'The second of that event, on Stripe''s clock: the next run begins a little before it';
COMMENT ON COLUMN stripe_portal.event_cursor.next_created IS 'Where that will be when the run under way is finished; NULL if there is none';
COMMENT ON COLUMN stripe_portal.event_cursor.relist IS 'The run under way also lists all objects, because Stripe has no events of so long ago any more';
COMMENT ON COLUMN stripe_portal.event_cursor.caught_up IS 'When a run was finished last, on the server''s clock';
COMMENT ON TABLE stripe_portal.tick_run IS 'The last run of each part of stripe_portal_tick; see the view tick_status';
-- sync: events that were never delivered, read from Stripe's list of them.
--
-- The list is in the order of the events' seconds, with no order within one,
-- and an event may show up in it a little late.  So reading begins some time
-- before the last event that is known, and nothing depends on the order or on
-- an event being new: the ledger takes each once.

CREATE FUNCTION stripe_portal.newest_event(
    account text, OUT event text, OUT created timestamptz, OUT as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    SELECT * INTO answer FROM stripe_portal.fetch('{/v1/events}', ARRAY['{"limit": 1}']::jsonb[], account);
    PERFORM stripe_portal.raise_answer('/v1/events', answer.status, answer.body);
    event := answer.body #>> '{data,0,id}';
    created := coalesce(stripe_portal.read_time((answer.body #> '{data,0,created}')::jsonb), answer.as_of);
    as_of := answer.as_of;
END
$$;

COMMENT ON FUNCTION stripe_portal.newest_event(text) IS
'The newest event that Stripe has, and what time it is there; without any event, created is that time';

CREATE FUNCTION stripe_portal.event_cursor_begin(account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM stripe_portal.event_cursor AS c
                   WHERE c.livemode = stripe_portal.key_livemode() AND c.account = event_cursor_begin.account) THEN
        INSERT INTO stripe_portal.event_cursor (livemode, account, event, created)
        SELECT stripe_portal.key_livemode(), event_cursor_begin.account, n.event, n.created
        FROM stripe_portal.newest_event(account) AS n
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.event_cursor_begin(text) IS
'Where nothing has been caught up with yet, lets that begin now: what was before is about to be read from the lists of objects';

CREATE FUNCTION stripe_portal.catch_up_plan(account text)
RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    -- Stripe keeps events for 30 days
    kept CONSTANT interval := '30 days';
    overlap CONSTANT interval := '10 minutes';
    newest record;
    known stripe_portal.event_cursor;
    kinds text[];
BEGIN
    IF NOT stripe_portal.catch_up_is_under_way(account) THEN
        newest := stripe_portal.newest_event(account);

        PERFORM pg_advisory_xact_lock(hashtextextended('stripe_portal.catch_up_plan', 0));
        IF NOT stripe_portal.catch_up_is_under_way(account) THEN
            SELECT * INTO known FROM stripe_portal.event_cursor AS c
            WHERE c.livemode = mode AND c.account = catch_up_plan.account;
            -- what is no longer in the list is not to be had as events
            known.relist := coalesce(known.created < newest.as_of - kept + overlap, true);

            INSERT INTO stripe_portal.event_cursor AS c (livemode, account, next_event, next_created, relist)
            VALUES (mode, catch_up_plan.account, newest.event, newest.created, known.relist)
            ON CONFLICT ON CONSTRAINT event_cursor_pkey DO UPDATE
            SET next_event = excluded.next_event, next_created = excluded.next_created,
                relist = c.relist OR excluded.relist;
            DELETE FROM stripe_portal.sync_cursor AS c
            WHERE c.object = 'event' AND c.livemode = mode AND c.account = catch_up_plan.account;
            PERFORM stripe_portal.sync_plan('{event}', greatest(known.created - overlap, newest.as_of - kept), NULL, account);
            IF known.relist THEN
                PERFORM stripe_portal.sync_plan(stripe_portal.sync_kinds(NULL), NULL, NULL, account);
            END IF;
        END IF;
    END IF;

    SELECT CASE WHEN c.relist THEN stripe_portal.sync_kinds(NULL) ELSE '{}' END || '{event}'::text[]
    INTO kinds
    FROM stripe_portal.event_cursor AS c WHERE c.livemode = mode AND c.account = catch_up_plan.account;
    RETURN kinds;
END
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_plan(text) IS
'Prepares catching up, or finds that it is under way, and gives the kinds of objects to read: events, and all others too if nothing was caught up with yet, or the last event that is known is older than those that Stripe keeps';

CREATE FUNCTION stripe_portal.catch_up_is_under_way(account text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM stripe_portal.event_cursor AS c
                   WHERE c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_is_under_way.account
                     AND c.next_created IS NOT NULL)
       AND EXISTS (SELECT FROM stripe_portal.sync_cursor AS c
                   WHERE c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_is_under_way.account
                     AND c.finished IS NULL)
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_is_under_way(text) IS
'Whether a run of catching up was begun that has something left to read';

CREATE FUNCTION stripe_portal.catch_up_done(kinds text[], account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    trouble record;
BEGIN
    -- The cursor must not pass an event that is not in the ledger.
    SELECT c.object, c.error, c.failure INTO trouble
    FROM stripe_portal.sync_cursor AS c
    WHERE c.object = 'event' AND c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_done.account
      AND (c.error IS NOT NULL OR c.failed > 0);
    IF FOUND THEN
        RAISE EXCEPTION 'events could not be caught up with'
            USING ERRCODE = 'external_routine_exception',
                  DETAIL = coalesce(trouble.error, trouble.failure) || '.';
    END IF;

    -- Somebody may have asked for a part of a kind meanwhile, and that took the
    -- place of the whole that this run was to read.
    SELECT c.object INTO trouble
    FROM stripe_portal.sync_cursor AS c
    WHERE c.object = ANY (kinds) AND c.object <> 'event'
      AND c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_done.account
      AND (c.range_from IS NOT NULL OR c.range_to IS NOT NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'another run has read only a part of objects of kind "%"', trouble.object
            USING ERRCODE = 'external_routine_exception',
                  HINT = 'Catch up again: that lists them all.';
    END IF;

    PERFORM stripe_portal.sync_mark_unseen(kinds, account);
    UPDATE stripe_portal.event_cursor AS c
    SET event = next_event, created = next_created, next_event = NULL, next_created = NULL, relist = false,
        caught_up = clock_timestamp()
    WHERE c.livemode = stripe_portal.key_livemode() AND c.account = catch_up_done.account AND c.next_created IS NOT NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_done(text[], text) IS
'Notes that the ledger is complete up to where a run of catching up began; error 38000 if an event could not be stored, Stripe refused the list, or another run took the place of this one, and then the next run begins where this one did';

CREATE PROCEDURE @extschema@.stripe_catch_up(account text DEFAULT '')
LANGUAGE plpgsql
AS $$
DECLARE
    kinds text[] := stripe_portal.catch_up_plan(account);
BEGIN
    COMMIT;
    CALL stripe_portal.sync_run(kinds, account);
    PERFORM stripe_portal.catch_up_done(kinds, account);
    COMMIT;
END
$$;

COMMENT ON PROCEDURE @extschema@.stripe_catch_up(text) IS
'Reads the events that Stripe has from the last one that was read on, puts those into the ledger that are missing there and applies them as if they had been delivered. Stripe keeps them for 30 days: after a longer pause, and the first time unless stripe_sync has read everything before, lists all objects too, as stripe_sync does. Commits after each page, so it can not be called in a transaction; goes on after being broken off; several at once share the work. account: a connected account. Errors as in stripe_api, and 38000 if an event could not be stored';

CREATE FUNCTION stripe_portal.catch_up_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    here CONSTANT text := coalesce(place, '');
    kinds CONSTANT text[] := stripe_portal.catch_up_plan(here);
    -- one page, since a portion is one transaction
    pages CONSTANT stripe_portal.sync_page[] := stripe_portal.sync_read(kinds, here, 1);
BEGIN
    IF cardinality(pages) > 0 THEN
        PERFORM stripe_portal.sync_write(pages, 1);
    END IF;
    IF stripe_portal.sync_is_done(kinds, here) THEN
        PERFORM stripe_portal.catch_up_done(kinds, here);
    ELSIF cardinality(pages) > 0 THEN
        RETURN here;
    END IF;
    -- then the next account, of those that were caught up with before
    RETURN (SELECT min(c.account) FROM stripe_portal.event_cursor AS c
            WHERE c.livemode = mode AND c.account > here);
END
$$;

COMMENT ON FUNCTION stripe_portal.catch_up_step(text) IS
'A portion of catching up, for the tick: place is the connected account at which it is, NULL at first, and where to go on is the result, NULL at the end. Takes the key''s own account and every one for which stripe_sync or stripe_catch_up was called before';
-- sync: what the tables show and what is true at Stripe.

CREATE FUNCTION stripe_portal.list_all(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS TABLE (kind text, object jsonb, as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kinds text[];
    paths text[];
    lists jsonb[];
    last_ids text[];
    finished boolean[];
    reading integer[];
    answer record;
BEGIN
    SELECT array_agg(k.object ORDER BY k.object, n), array_agg(k.path ORDER BY k.object, n), array_agg(l.params ORDER BY k.object, n)
    INTO kinds, paths, lists
    FROM stripe_portal.sync_kind AS k, unnest(k.lists) WITH ORDINALITY AS l (params, n)
    WHERE k.object = ANY (objects) AND k.state_table IS NOT NULL;
    LOOP
        reading := ARRAY(SELECT n FROM generate_subscripts(kinds, 1) AS n WHERE finished[n] IS NOT TRUE);
        EXIT WHEN cardinality(reading) = 0;
        FOR answer IN
            SELECT reading[f.n] AS n, f.status, f.body, f.as_of
            FROM stripe_portal.fetch(
                ARRAY(SELECT paths[n] FROM unnest(reading) AS n),
                ARRAY(SELECT stripe_portal.list_params(lists[n], created_from, created_to, last_ids[n]) FROM unnest(reading) AS n),
                account) AS f
        LOOP
            PERFORM stripe_portal.raise_answer(paths[answer.n], answer.status, answer.body);
            RETURN QUERY
                SELECT kinds[answer.n], w.whole, w.as_of
                FROM json_array_elements(answer.body -> 'data') AS e,
                     stripe_portal.whole_subscription(stripe_portal.read_payload(e.value), account, answer.as_of) AS w;
            last_ids[answer.n] := answer.body #>> '{data,-1,id}';
            finished[answer.n] := (answer.body ->> 'has_more')::boolean IS NOT TRUE OR last_ids[answer.n] IS NULL;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.list_all(text[], timestamptz, timestamptz, text) IS
'All objects of these kinds, as far as they have a table, that were created in [created_from, created_to), read from Stripe without writing anything; error SP403 for a kind that the key has no right to read';

CREATE FUNCTION stripe_portal.comparable(shown jsonb, other jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    -- without what is not Stripe's, and what the other may not have been told;
    -- of a discount, which may be given whole or by its id, the id
    SELECT coalesce(jsonb_object_agg(key, CASE WHEN key = 'discounts' AND jsonb_typeof(value) = 'array' THEN
               (SELECT jsonb_agg(stripe_portal.read_id(discount)) FROM jsonb_array_elements(value) AS discount)
               ELSE value END), '{}')
    FROM jsonb_each(shown)
    WHERE key NOT IN ('event', 'event_created', 'refetch')
      AND NOT (key IN ('tiers', 'applies_to', 'currency_options') AND other -> key = 'null')
);

COMMENT ON FUNCTION stripe_portal.comparable(jsonb, jsonb) IS
'Of a row, as jsonb, what can be compared with another reading of its object';

CREATE FUNCTION stripe_portal.compare_object(
    kind text, object jsonb, livemode boolean, account text, as_of timestamptz,
    OUT difference text, OUT here jsonb, OUT at_stripe jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown jsonb;
    shown_since timestamptz;
    "true" jsonb;
BEGIN
    EXECUTE format(
        'SELECT to_jsonb(t), t.event_created, to_jsonb(stripe_portal.%2$I($1, $2))
         FROM (SELECT) AS one LEFT JOIN stripe_portal.%1$I AS t ON (t.id, t.livemode, t.account) = ($1 ->> ''id'', $3, $4)',
        stripe_portal.state_table(kind), stripe_portal.state_table(kind) || '_row')
    INTO shown, shown_since, "true"
    USING object, jsonb_build_object('livemode', livemode, 'account', account, 'event', '', 'event_created', as_of,
                                     'deleted', false, 'refetch', false), livemode, account;
    IF shown_since IS NULL THEN
        difference := 'missing here';
        at_stripe := CASE WHEN "true" ? 'status' THEN jsonb_build_object('status', "true" -> 'status') ELSE '{}' END;
        RETURN;
    END IF;

    -- What this second or a later one has told is newer than what was read.
    IF shown_since < as_of THEN
        SELECT jsonb_object_agg(key, a.value), jsonb_object_agg(key, b.value) INTO here, at_stripe
        FROM jsonb_each(stripe_portal.comparable(shown, "true")) AS a
        JOIN jsonb_each(stripe_portal.comparable("true", shown)) AS b USING (key)
        WHERE a.value IS DISTINCT FROM b.value;
        difference := CASE WHEN here IS NOT NULL THEN 'stale here' END;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.compare_object(text, jsonb, boolean, text, timestamptz) IS
'How an object that was read from Stripe differs from its row: missing here, stale here or NULL; here and at_stripe have the columns that differ';

CREATE FUNCTION stripe_portal.sync_dry_run(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    kind record;
BEGIN
    FOR kind IN
        SELECT l.kind, count(*) AS n, count(*) FILTER (WHERE c.difference = 'missing here') AS new,
               count(*) FILTER (WHERE c.difference = 'stale here') AS changed
        FROM stripe_portal.list_all(objects, created_from, created_to, account) AS l,
             stripe_portal.compare_object(l.kind, l.object, mode, account, l.as_of) AS c
        GROUP BY l.kind ORDER BY l.kind
    LOOP
        RAISE NOTICE '%: % at Stripe, % new, % changed', kind.kind, kind.n, kind.new, kind.changed;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_dry_run(text[], timestamptz, timestamptz, text) IS
'Tells in NOTICEs what stripe_sync would do';

CREATE FUNCTION stripe_portal.never_paid(subscriptions text[], account text)
RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    FOR answer IN
        SELECT subscriptions[f.n] AS id, f.status, f.body
        FROM stripe_portal.fetch(
            array_fill('/v1/invoices'::text, ARRAY[cardinality(subscriptions)]),
            ARRAY(SELECT jsonb_build_object('subscription', id, 'status', 'paid', 'limit', 100) FROM unnest(subscriptions) AS id),
            account) AS f
    LOOP
        PERFORM stripe_portal.raise_answer('/v1/invoices', answer.status, answer.body);
        -- the first invoice of a trial is paid with nothing
        IF NOT EXISTS (SELECT FROM json_array_elements(answer.body -> 'data') AS invoice
                       WHERE (invoice ->> 'amount_paid')::bigint > 0) THEN
            RETURN NEXT answer.id;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.never_paid(text[], text) IS
'Those of the subscriptions for which no invoice was ever paid with money';

CREATE FUNCTION stripe_portal.find_drift(kinds text[], account text)
RETURNS TABLE (kind text, id text, classification text, here jsonb, at_stripe jsonb, object jsonb, as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    seen_kinds text[] := '{}';
    seen_ids text[] := '{}';
    customers text[] := '{}';
    subscriptions text[] := '{}';
    lapsed text[] := '{}';
    lapsed_rows jsonb[] := '{}';
    unpaid text[];
    unseen text[];
    answer record;
BEGIN
    -- what Stripe lists
    FOR kind, object, as_of IN
        SELECT l.kind, l.object, l.as_of FROM stripe_portal.list_all(kinds, NULL, NULL, account) AS l
    LOOP
        id := object ->> 'id';
        seen_kinds := array_append(seen_kinds, kind);
        seen_ids := array_append(seen_ids, id);
        SELECT c.difference, c.here, c.at_stripe INTO classification, here, at_stripe
        FROM stripe_portal.compare_object(kind, object, mode, account, as_of) AS c;

        IF kind = 'subscription' AND object ->> 'status' IN ('active', 'trialing', 'past_due') THEN
            customers := array_append(customers, stripe_portal.read_id(object -> 'customer'));
            subscriptions := array_append(subscriptions, id);
        END IF;
        IF kind = 'subscription' AND object ->> 'status' IN ('past_due', 'unpaid') THEN
            lapsed := array_append(lapsed, id);
            lapsed_rows := array_append(lapsed_rows, jsonb_build_object(
                'classification', classification, 'here', here,
                'at_stripe', coalesce(at_stripe, jsonb_build_object('status', object -> 'status')),
                'object', CASE WHEN classification IS NOT NULL THEN object END, 'as_of', as_of));
        ELSIF classification IS NOT NULL THEN
            IF kind = 'subscription' AND object ->> 'status' IN ('incomplete', 'incomplete_expired') THEN
                classification := 'abandoned checkout';
            END IF;
            RETURN NEXT;
        END IF;
    END LOOP;

    -- who has lapsed, and whether they ever paid
    unpaid := ARRAY(SELECT stripe_portal.never_paid(lapsed, account));
    kind := 'subscription';
    FOR n IN 1 .. cardinality(lapsed) LOOP
        id := lapsed[n];
        classification := CASE WHEN id = ANY (unpaid) THEN 'never paid' ELSE lapsed_rows[n] ->> 'classification' END;
        here := nullif(lapsed_rows[n] -> 'here', 'null');
        at_stripe := lapsed_rows[n] -> 'at_stripe';
        object := nullif(lapsed_rows[n] -> 'object', 'null');
        as_of := (lapsed_rows[n] ->> 'as_of')::timestamptz;
        IF classification IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    -- who pays more than once
    RETURN QUERY
        SELECT 'customer', c.customer, 'several active subscriptions', NULL::jsonb,
               jsonb_build_object('subscriptions', jsonb_agg(c.subscription ORDER BY c.subscription)), NULL::jsonb, NULL::timestamptz
        FROM unnest(customers, subscriptions) AS c (customer, subscription)
        GROUP BY c.customer HAVING count(*) > 1;

    -- what is here and was not listed
    FOR kind IN SELECT k.object FROM stripe_portal.sync_kind AS k
                WHERE k.object = ANY (kinds) AND k.state_table IS NOT NULL ORDER BY k.object
    LOOP
        EXECUTE format('SELECT array_agg(t.id) FROM stripe_portal.%I AS t
                        WHERE t.livemode = $1 AND t.account = $2 AND %s
                          AND NOT EXISTS (SELECT FROM unnest($3, $4) AS seen (kind, id) WHERE seen.kind = $5 AND seen.id = t.id)',
                       stripe_portal.state_table(kind), stripe_portal.is_open(kind))
        INTO unseen USING mode, account, seen_kinds, seen_ids, kind;
        CONTINUE WHEN unseen IS NULL;
        FOR answer IN
            SELECT unseen[f.n] AS id, f.status, stripe_portal.read_payload(f.body) AS body, f.as_of
            FROM stripe_portal.sync_kind AS k,
                 stripe_portal.fetch(
                     ARRAY(SELECT k.path || '/' || stripe_portal.encode_id(u.id) FROM unnest(unseen) WITH ORDINALITY AS u (id, n) ORDER BY n),
                     array_fill(k.one, ARRAY[cardinality(unseen)]), account) AS f
            WHERE k.object = kind
        LOOP
            id := answer.id;
            as_of := answer.as_of;
            object := answer.body;
            IF answer.status = 404 OR answer.body -> 'deleted' = 'true' THEN
                classification := CASE WHEN answer.body #>> '{error,message}' LIKE '%similar object exists in % mode%'
                                       THEN format('%s row in %s data', CASE WHEN mode THEN 'test' ELSE 'live' END,
                                                   CASE WHEN mode THEN 'live' ELSE 'test' END)
                                       ELSE 'gone at Stripe' END;
                EXECUTE format('SELECT CASE WHEN to_jsonb(t) ? ''status'' THEN jsonb_build_object(''status'', to_jsonb(t) -> ''status'')
                                            ELSE ''{}'' END
                                FROM stripe_portal.%I AS t WHERE (t.id, t.livemode, t.account) = ($1, $2, $3)',
                               stripe_portal.state_table(kind))
                INTO here USING id, mode, account;
                at_stripe := NULL;
                object := jsonb_build_object('id', id, 'object', kind, 'deleted', true);
            ELSE
                PERFORM stripe_portal.raise_answer((SELECT k.path FROM stripe_portal.sync_kind AS k WHERE k.object = kind) || '/' || id,
                                                   answer.status, answer.body::json);
                SELECT w.whole, w.as_of INTO object, as_of
                FROM stripe_portal.whole_subscription(answer.body, account, answer.as_of) AS w;
                SELECT c.difference, c.here, c.at_stripe INTO classification, here, at_stripe
                FROM stripe_portal.compare_object(kind, object, mode, account, as_of) AS c;
                CONTINUE WHEN classification IS NULL;
            END IF;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.find_drift(text[], text) IS
'What stripe_drift reports, and the object that would repair it, as of when it was read';

CREATE FUNCTION @extschema@.stripe_drift(
    repair boolean DEFAULT false, objects text[] DEFAULT NULL, account text DEFAULT '',
    OUT kind text, OUT id text, OUT classification text, OUT here jsonb, OUT at_stripe jsonb, OUT repaired boolean)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found stripe_portal.drift[];
    drift stripe_portal.drift;
BEGIN
    IF repair AND current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute stripe_drift() with repair in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    -- all is read before anything is written
    found := ARRAY(SELECT row(d.*)::stripe_portal.drift
                   FROM stripe_portal.find_drift(stripe_portal.sync_kinds(objects), account) AS d
                   ORDER BY d.kind, d.id, d.classification);
    FOREACH drift IN ARRAY found LOOP
        kind := drift.kind;
        id := drift.id;
        classification := drift.classification;
        here := drift.here;
        at_stripe := drift.at_stripe;
        repaired := false;
        IF repair AND drift.object IS NOT NULL THEN
            BEGIN
                PERFORM stripe_portal.apply_object(drift.object, stripe_portal.key_livemode(), account, drift.as_of);
                repaired := true;
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                RAISE WARNING 'could not apply "%": %', drift.id, SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_drift(boolean, text[], text) IS
'Compares the tables with what Stripe lists, and gives what differs or should be looked at: missing here; stale here; gone at Stripe; test row in live data (the row says live, and Stripe has its object in test mode only); abandoned checkout (missing or stale here, but incomplete or incomplete_expired at Stripe, so that nobody was cut off); never paid (past_due or unpaid, and no invoice was ever paid with money); several active subscriptions (of a customer: active, trialing or past_due). here and at_stripe: the columns that differ, or the status. Writes nothing, unless repair is true: then the tables are made to show what was read, and repaired says of each row whether that was done. objects: kinds, NULL for all (see stripe_portal.sync_kind). account: a connected account. Errors as in stripe_api';
-- sync: reading single objects, where the tables know that they are not sure.

CREATE VIEW stripe_portal.read_kind AS
SELECT object, path, one FROM stripe_portal.sync_kind
UNION ALL
-- of these there is no list of all, or none that tells when they were created
SELECT object, path, one::jsonb
FROM (VALUES
    ('payment_method', '/v1/payment_methods', '{}'),
    ('billing_portal.configuration', '/v1/billing_portal/configurations', '{"expand": ["features.subscription_update.products"]}')
) AS kind (object, path, one);

COMMENT ON VIEW stripe_portal.read_kind IS 'The kinds of objects of which single ones are read from Stripe, as in stripe_portal.sync_kind';

CREATE FUNCTION stripe_portal.refetch_discounts()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    -- No event tells what a coupon is for, and one that was read is no event's any
    -- more.  Not marked when it is applied: an id can be given to another coupon.
    UPDATE stripe_portal.coupon SET refetch = true
    WHERE event <> '' AND applies_to IS NULL AND NOT deleted AND NOT refetch AND livemode = stripe_portal.key_livemode();

    WITH unsure AS (
        UPDATE stripe_portal.discount SET refetch = false
        WHERE refetch AND livemode = stripe_portal.key_livemode()
        RETURNING subscription, customer, livemode, account
    ), subscription AS (
        UPDATE stripe_portal.subscription AS s SET refetch = true FROM unsure AS u
        WHERE (s.id, s.livemode, s.account) = (u.subscription, u.livemode, u.account) AND NOT s.refetch
    )
    UPDATE stripe_portal.customer AS c SET refetch = true FROM unsure AS u
    WHERE u.subscription IS NULL AND (c.id, c.livemode, c.account) = (u.customer, u.livemode, u.account)
      AND NOT c.refetch AND NOT c.deleted
$$;

COMMENT ON FUNCTION stripe_portal.refetch_discounts() IS
'Passes the mark for a refetch on from discounts to what they are on, with which they are read: Stripe has no request for one discount. Marks the coupons of which no more than their events is known';

CREATE FUNCTION stripe_portal.has_marked(kinds text[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text;
    found_one boolean;
BEGIN
    FOR kind IN SELECT k.state_table FROM stripe_portal.sync_kind AS k WHERE k.object = ANY (kinds) AND k.state_table IS NOT NULL LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM stripe_portal.%I WHERE refetch AND livemode = stripe_portal.key_livemode())', kind)
        INTO found_one;
        IF found_one THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

COMMENT ON FUNCTION stripe_portal.has_marked(text[]) IS
'Whether a row of these kinds of objects is marked for a refetch';

CREATE FUNCTION stripe_portal.read_entitlements(
    customer text, account text, OUT summary jsonb, OUT as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    path CONSTANT text := '/v1/entitlements/active_entitlements';
    params jsonb := jsonb_build_object('customer', customer, 'limit', 100);
    entitlements jsonb := '[]';
    answer record;
BEGIN
    LOOP
        SELECT * INTO answer FROM stripe_portal.fetch(ARRAY[path], ARRAY[params], account);
        as_of := least(as_of, answer.as_of);
        IF answer.body #>> '{error,code}' = 'resource_missing' AND answer.body #>> '{error,param}' = 'customer' THEN
            -- who is gone is entitled to nothing
            entitlements := '[]';
            EXIT;
        END IF;
        PERFORM stripe_portal.raise_answer(path, answer.status, answer.body);
        entitlements := entitlements || stripe_portal.read_payload(answer.body -> 'data');
        EXIT WHEN (answer.body ->> 'has_more')::boolean IS NOT TRUE OR entitlements = '[]';
        params := params || jsonb_build_object('starting_after', entitlements #> '{-1,id}');
    END LOOP;
    summary := jsonb_build_object('object', 'entitlements.active_entitlement_summary', 'customer', customer,
                                  'entitlements', jsonb_build_object('data', entitlements, 'has_more', false));
END
$$;

COMMENT ON FUNCTION stripe_portal.read_entitlements(text, text) IS
'All that a customer is entitled to now, read from Stripe, in the form in which events tell it; as_of is that of the oldest part. Errors as in raise_answer and fetch';

CREATE FUNCTION stripe_portal.refetch(place text DEFAULT NULL, kinds text[] DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    portion CONSTANT integer := 100;
    mode CONSTANT boolean := stripe_portal.key_livemode();
    kind record;
    ids text[];
    accounts text[];
    objects jsonb[];
    times timestamptz[];
    answer record;
    last_key text;
BEGIN
    IF place IS NULL THEN
        PERFORM stripe_portal.refetch_discounts();
    END IF;
    FOR kind IN
        SELECT k.* FROM (
            SELECT object, path, one FROM stripe_portal.read_kind
            -- of which there is not one object for each customer
            UNION ALL SELECT 'entitlements.active_entitlement_summary', NULL, NULL
        ) AS k
        WHERE stripe_portal.state_table(k.object) IS NOT NULL
          AND (kinds IS NULL OR k.object = ANY (kinds)) AND k.object >= coalesce(split_part(place, ' ', 1), '')
        ORDER BY k.object
    LOOP
        -- as a key that can be compared, and said in one word
        last_key := CASE WHEN split_part(place, ' ', 1) = kind.object THEN substr(place, length(kind.object) + 2) ELSE '' END;
        EXECUTE format(
            'SELECT array_agg(id ORDER BY account, id), array_agg(account ORDER BY account, id)
             FROM (SELECT %2$I AS id, account FROM stripe_portal.%1$I
                   WHERE refetch AND livemode = $1 AND (account, %2$I) > (split_part($2, '' '', 1), split_part($2, '' '', 2))
                   ORDER BY account, %2$I LIMIT $3) AS t',
            stripe_portal.state_table(kind.object), CASE WHEN kind.path IS NULL THEN 'customer' ELSE 'id' END)
        INTO ids, accounts USING mode, last_key, portion;
        CONTINUE WHEN ids IS NULL;

        -- one account at a time, and first all that takes time
        ids := ids[1 : array_length(array_positions(accounts, accounts[1]), 1)];
        objects := '{}';
        times := '{}';
        IF kind.path IS NULL THEN
            FOR n IN 1 .. cardinality(ids) LOOP
                BEGIN
                    SELECT array_append(objects, r.summary), array_append(times, r.as_of) INTO objects, times
                    FROM stripe_portal.read_entitlements(ids[n], accounts[1]) AS r;
                EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP403' THEN
                    RAISE WARNING 'could not read the entitlements of "%" from Stripe: %', ids[n], SQLERRM;
                END;
            END LOOP;
        ELSE
            FOR answer IN
                SELECT ids[f.n] AS id, f.status, f.body, f.as_of
                FROM stripe_portal.fetch(
                    ARRAY(SELECT kind.path || '/' || stripe_portal.encode_id(id)
                          FROM unnest(ids) WITH ORDINALITY AS u (id, n) ORDER BY n),
                    array_fill(kind.one, ARRAY[cardinality(ids)]), accounts[1]) AS f
                ORDER BY f.n
            LOOP
                IF answer.status = 404 AND answer.body #>> '{error,code}' = 'resource_missing' THEN
                    objects := array_append(objects, jsonb_build_object('id', answer.id, 'object', kind.object, 'deleted', true));
                    times := array_append(times, answer.as_of);
                ELSIF answer.status < 400 THEN
                    SELECT array_append(objects, w.whole), array_append(times, w.as_of) INTO objects, times
                    FROM stripe_portal.whole_subscription(stripe_portal.read_payload(answer.body), accounts[1], answer.as_of) AS w;
                ELSE
                    RAISE WARNING 'could not read "%" from Stripe: %', answer.id, stripe_portal.answer_error(answer.status, answer.body);
                END IF;
            END LOOP;
        END IF;
        FOR n IN 1 .. cardinality(objects) LOOP
            BEGIN
                PERFORM stripe_portal.apply_object(objects[n], mode, accounts[1], times[n]);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                RAISE WARNING 'could not apply "%": %', stripe_portal.object_id(objects[n]), SQLERRM;
            END;
        END LOOP;
        RETURN format('%s %s %s', kind.object, accounts[1], ids[cardinality(ids)]);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.refetch(text, text[]) IS
'Reads the objects whose rows are marked for a refetch from Stripe and applies them; what Stripe does not know any more is deleted here. Works in portions, and tries each row once: place is NULL at first and then what the call before gave, until that is NULL. A row that an event of this very second has changed stays marked. kinds: NULL for all';

-- ---------------------------------------------------------------------------
-- Thin events
-- ---------------------------------------------------------------------------

CREATE FUNCTION stripe_portal.resolve_thin(
    event text, livemode boolean, account text,
    OUT outcome text, OUT error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    thin record;
    kind record;
    answer record;
    read_object record;
    failure text;
BEGIN
    SELECT t.* INTO thin FROM stripe_portal.event_thin AS t
    WHERE (t.id, t.livemode, t.account)
        = (resolve_thin.event, coalesce(resolve_thin.livemode, mode), resolve_thin.account);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no thin event "%" that waits to be resolved', event
            USING ERRCODE = 'no_data_found', HINT = 'The view stripe_portal.event_thin has those that do.';
    END IF;
    IF thin.livemode <> mode THEN
        RAISE EXCEPTION 'the configured Stripe API key is not for % mode', CASE WHEN thin.livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SPC01';
    END IF;

    IF thin.path IS NULL THEN
        failure := 'the event does not say where its object is';
    ELSE
        SELECT k.* INTO kind FROM stripe_portal.read_kind AS k WHERE thin.path ~ ('^' || k.path || '/[^/]+$');
        SELECT f.* INTO answer
        FROM stripe_portal.fetch(ARRAY[thin.path], ARRAY[coalesce(kind.one, '{}')], account) AS f;
        IF answer.status = 404 AND answer.body #>> '{error,code}' = 'resource_missing' AND kind.object IS NOT NULL THEN
            PERFORM stripe_portal.apply_object(
                jsonb_build_object('id', thin.object_id, 'object', kind.object, 'deleted', true), mode, account, answer.as_of);
        ELSIF answer.status >= 400 THEN
            failure := stripe_portal.answer_error(answer.status, answer.body);
        ELSE
            read_object := stripe_portal.whole_subscription(stripe_portal.read_payload(answer.body), account, answer.as_of);
            BEGIN
                PERFORM stripe_portal.apply_object(read_object.whole, mode, account, read_object.as_of);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                failure := SQLSTATE || ': ' || SQLERRM;
            END;
        END IF;
    END IF;
    SELECT s.* INTO outcome, error FROM stripe_portal.settle_thin(event, mode, account, failure) AS s;
END
$$;

COMMENT ON FUNCTION stripe_portal.resolve_thin(text, boolean, text) IS
'stripe_resolve_thin, for other functions to call';

CREATE FUNCTION @extschema@.stripe_resolve_thin(
    event text, livemode boolean DEFAULT NULL, account text DEFAULT '',
    OUT outcome text, OUT error text)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.outcome, r.error FROM stripe_portal.resolve_thin(event, livemode, account) AS r $$;

COMMENT ON FUNCTION @extschema@.stripe_resolve_thin(text, boolean, text) IS
'Reads the object of a thin event from Stripe and applies it, and then calls the event''s handlers. The key is sent only to a plain path below /v1/. outcome and error as in stripe_receive_webhook: what can not be read is failed, and waits for its next attempt. livemode: NULL is the mode of the configured key, the only one that can be read (error SPC01). An event that does not wait is error P0002; errors of the connection as in stripe_api';

CREATE FUNCTION stripe_portal.resolve_next_thin(place text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    thin record;
BEGIN
    SELECT t.id, t.account INTO thin FROM stripe_portal.event_thin AS t
    WHERE t.livemode = stripe_portal.key_livemode()
      AND (place IS NULL OR (t.account, t.id) > (split_part(place, ' ', 1), split_part(place, ' ', 2)))
    ORDER BY t.account, t.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM stripe_portal.resolve_thin(thin.id, NULL, thin.account);
    RETURN format('%s %s', thin.account, thin.id);
END
$$;

COMMENT ON FUNCTION stripe_portal.resolve_next_thin(text) IS
'Resolves one thin event that waits; place as in refetch';
-- sync: reading all objects of a kind, page by page.
--
-- A list is read the newest first, and can not be entered in the middle, but it
-- can be cut by the time of creation.  As long as there is room for another
-- request in flight, the longest slice that is left is cut in half: this finds
-- the places where much lies without knowing them.
--
-- Procedures that commit can not have a search_path of their own; that is why
-- all they do is done in functions.

CREATE FUNCTION stripe_portal.sync_plan(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    began timestamptz;
    kind record;
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute stripe_sync() in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;

    -- Two that plan at once would each begin anew.
    PERFORM pg_advisory_xact_lock(hashtextextended('stripe_portal.sync_plan', 0));
    -- A run that was broken off is gone on with; which it is, is told by when it began.
    SELECT max(c.started) INTO began FROM stripe_portal.sync_cursor AS c
    WHERE c.object = ANY (objects) AND c.livemode = mode AND c.account = account AND c.finished IS NULL
      AND c.range_from IS NOT DISTINCT FROM created_from AND c.range_to IS NOT DISTINCT FROM created_to;
    began := coalesce(began, clock_timestamp());
    FOR kind IN
        SELECT k.object, k.lists FROM stripe_portal.sync_kind AS k WHERE k.object = ANY (objects)
        UNION ALL
        SELECT 'event', ARRAY['{}'::jsonb] WHERE 'event' = ANY (objects)
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM stripe_portal.sync_cursor AS c
            WHERE c.object = kind.object AND c.livemode = mode AND c.account = account AND c.started = began
              AND c.range_from IS NOT DISTINCT FROM created_from AND c.range_to IS NOT DISTINCT FROM created_to);
        DELETE FROM stripe_portal.sync_cursor AS c
        WHERE c.object = kind.object AND c.livemode = mode AND c.account = account;
        INSERT INTO stripe_portal.sync_cursor
            (object, livemode, account, slice, params, range_from, range_to, created_from, created_to, started)
        SELECT kind.object, mode, account, n::text, params, created_from, created_to, created_from, created_to, began
        FROM unnest(kind.lists) WITH ORDINALITY AS list (params, n);
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_plan(text[], timestamptz, timestamptz, text) IS
'Prepares reading objects of these kinds, or events, created in [created_from, created_to). A run with the same range that is not finished is gone on with, and what it has read is not read again';

CREATE FUNCTION stripe_portal.sync_claim(objects text[], account text, width integer)
RETURNS stripe_portal.sync_cursor[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    -- before Stripe had customers
    beginning CONSTANT timestamptz := '2010-01-01 00:00:00+00';
    claimed stripe_portal.sync_cursor[];
    whole stripe_portal.sync_cursor;
    older stripe_portal.sync_cursor;
    longest integer;
    longest_span interval;
    span interval;
BEGIN
    claimed := ARRAY(
        SELECT c FROM stripe_portal.sync_cursor AS c
        WHERE c.object = ANY (objects) AND c.livemode = mode AND c.account = account AND c.finished IS NULL
        ORDER BY c.pages, c.object, c.slice
        LIMIT width
        FOR UPDATE SKIP LOCKED);

    WHILE cardinality(claimed) BETWEEN 1 AND width - 1 LOOP
        longest := NULL;
        longest_span := interval '1 day';
        FOR i IN 1 .. cardinality(claimed) LOOP
            -- of a list that was not begun, nobody knows whether it has two pages
            CONTINUE WHEN claimed[i].last_created IS NULL;
            span := claimed[i].last_created - coalesce(claimed[i].created_from, beginning);
            IF span > longest_span THEN
                longest := i;
                longest_span := span;
            END IF;
        END LOOP;
        EXIT WHEN longest IS NULL;

        whole := claimed[longest];
        older := whole;
        older.created_to := date_trunc('second', whole.last_created - longest_span / 2);
        older.slice := format('%s/%s', whole.slice, extract(epoch FROM older.created_to)::bigint);
        older.last_id := NULL;
        older.last_created := NULL;
        older.pages := 0;
        older.rows := 0;
        older.failed := 0;
        older.failure := NULL;
        older.as_of := NULL;
        whole.created_from := older.created_to;
        INSERT INTO stripe_portal.sync_cursor VALUES (older.*);
        UPDATE stripe_portal.sync_cursor AS c SET created_from = whole.created_from
        WHERE (c.object, c.livemode, c.account, c.slice) = (whole.object, whole.livemode, whole.account, whole.slice);
        claimed[longest] := whole;
        claimed := claimed || older;
    END LOOP;
    RETURN claimed;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_claim(text[], text, integer) IS
'Slices to read the next page of, so many at most, locked until the end of the transaction; others skip them. While there are fewer, the longest is cut in half';

CREATE FUNCTION stripe_portal.list_params(
    params jsonb, created_from timestamptz, created_to timestamptz, starting_after text)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_strip_nulls(params || jsonb_build_object(
    'limit', 100,
    'starting_after', starting_after,
    'created', jsonb_build_object('gte', ceil(extract(epoch FROM created_from))::bigint,
                                  'lt', ceil(extract(epoch FROM created_to))::bigint)));

COMMENT ON FUNCTION stripe_portal.list_params(jsonb, timestamptz, timestamptz, text) IS
'The parameters of the next page of a list';

CREATE FUNCTION stripe_portal.sync_read(
    objects text[], account text, width integer DEFAULT current_setting('stripe_portal.in_flight')::integer)
RETURNS stripe_portal.sync_page[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claimed CONSTANT stripe_portal.sync_cursor[] := stripe_portal.sync_claim(objects, account, width);
BEGIN
    RETURN ARRAY(
        SELECT (claimed[f.n], f.status, f.body, f.as_of)::stripe_portal.sync_page
        FROM stripe_portal.fetch(
            ARRAY(SELECT coalesce((SELECT k.path FROM stripe_portal.sync_kind AS k WHERE k.object = c.object), '/v1/events')
                  FROM unnest(claimed) WITH ORDINALITY AS c ORDER BY c.ordinality),
            ARRAY(SELECT stripe_portal.list_params(c.params, c.created_from, c.created_to, c.last_id)
                  FROM unnest(claimed) WITH ORDINALITY AS c ORDER BY c.ordinality),
            account) AS f
        ORDER BY f.n);
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_read(text[], text, integer) IS
'Reads the next page of several slices at once, of width at most. Nothing is locked meanwhile but their rows in sync_cursor, for which nobody waits. Empty if there is nothing left that nobody else is reading';

CREATE FUNCTION stripe_portal.sync_apply(page stripe_portal.sync_page, OUT failed bigint, OUT failure text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    element json;
    slice CONSTANT stripe_portal.sync_cursor := page.slice;
BEGIN
    failed := 0;
    -- by id, so that two pages with the same objects do not wait for each other
    FOR element IN
        SELECT value FROM json_array_elements(page.body -> 'data') AS value ORDER BY value ->> 'id'
    LOOP
        BEGIN
            IF slice.object = 'event' THEN
                PERFORM stripe_portal.receive_event(
                    -- an event that is read for a connected account need not name it
                    CASE WHEN slice.account = '' OR element ->> 'account' IS NOT NULL THEN element
                         ELSE (element::jsonb || jsonb_build_object('account', slice.account))::json END);
            ELSE
                PERFORM stripe_portal.apply_object(stripe_portal.read_payload(element), slice.livemode, slice.account, page.as_of);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            -- what is wrong with the server is not the object's fault
            IF SQLSTATE ~ '^(40|53|57|58)' OR SQLSTATE = '55P03' THEN
                RAISE;
            END IF;
            failed := failed + 1;
            failure := format('%s: %s: %s', element ->> 'id', SQLSTATE, SQLERRM);
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_apply(stripe_portal.sync_page) IS
'Applies the objects of a page, or receives its events. One that can not be applied does not keep back the others: failed counts them, failure is about the last';

CREATE FUNCTION stripe_portal.sync_write(batch stripe_portal.sync_page[], n integer)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    page CONSTANT stripe_portal.sync_page := batch[n];
    slice CONSTANT stripe_portal.sync_cursor := page.slice;
    data CONSTANT json := page.body -> 'data';
    size CONSTANT integer := CASE json_typeof(data) WHEN 'array' THEN json_array_length(data) ELSE 0 END;
    last CONSTANT json := data -> -1;
    mine boolean;
    new_failed bigint := 0;
    new_failure text;
BEGIN
    -- The pages that are still to be written were locked until the commit of
    -- the one before.  If somebody was faster, the page is theirs.
    SELECT bool_or(c.slice = slice.slice AND c.object = slice.object) INTO mine
    FROM (SELECT c.* FROM stripe_portal.sync_cursor AS c
          JOIN unnest(batch[n:]) AS p
            ON (c.object, c.livemode, c.account, c.slice)
             = ((p.slice).object, (p.slice).livemode, (p.slice).account, (p.slice).slice)
           AND c.last_id IS NOT DISTINCT FROM (p.slice).last_id AND c.started = (p.slice).started
          WHERE c.finished IS NULL
          FOR UPDATE OF c SKIP LOCKED) AS c;
    IF mine IS NOT TRUE THEN
        RETURN;
    END IF;

    IF page.status = 400 AND page.body #>> '{error,code}' = 'resource_missing' AND slice.last_id IS NOT NULL THEN
        -- The object that the page was to begin after is gone: its second again.
        UPDATE stripe_portal.sync_cursor AS c
        SET last_id = NULL, created_to = slice.last_created + interval '1 second'
        WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
        RETURN;
    END IF;

    IF page.status >= 400 THEN
        UPDATE stripe_portal.sync_cursor AS c
        SET error = stripe_portal.answer_error(page.status, page.body),
            updated = clock_timestamp(), finished = clock_timestamp()
        WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
        RETURN;
    END IF;

    IF size > 0 THEN
        FOR tries IN 1 .. 5 LOOP
            BEGIN
                SELECT a.failed, a.failure INTO new_failed, new_failure FROM stripe_portal.sync_apply(page) AS a;
                EXIT;
            EXCEPTION WHEN deadlock_detected OR serialization_failure THEN
                IF tries = 5 THEN
                    RAISE;
                END IF;
            END;
        END LOOP;
    END IF;
    UPDATE stripe_portal.sync_cursor AS c
    SET last_id = coalesce(last ->> 'id', c.last_id),
        last_created = coalesce(stripe_portal.read_time(last::jsonb -> 'created'), c.last_created),
        pages = c.pages + 1,
        rows = c.rows + size,
        failed = c.failed + new_failed,
        failure = coalesce(new_failure, c.failure),
        as_of = least(c.as_of, page.as_of),
        updated = clock_timestamp(),
        finished = CASE WHEN (page.body ->> 'has_more')::boolean IS NOT TRUE OR size = 0 THEN clock_timestamp() END
    WHERE (c.object, c.livemode, c.account, c.slice) = (slice.object, slice.livemode, slice.account, slice.slice);
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_write(stripe_portal.sync_page[], integer) IS
'Writes the n-th of the pages that sync_read gave, and notes how far its slice has come. To be followed by a commit';

CREATE FUNCTION stripe_portal.sync_is_done(objects text[], account text)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (
        SELECT FROM stripe_portal.sync_cursor AS c
        WHERE c.object = ANY (objects) AND c.livemode = stripe_portal.key_livemode()
          AND c.account = sync_is_done.account AND c.finished IS NULL)
$$;

COMMENT ON FUNCTION stripe_portal.sync_is_done(text[], text) IS
'Whether all slices of these kinds have been read to the end';

CREATE FUNCTION stripe_portal.is_open(kind text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN kind = 'subscription' THEN 'NOT stripe_portal.status_is_final(t.status)'
                WHEN EXISTS (SELECT FROM pg_attribute
                             WHERE attrelid = format('stripe_portal.%I', stripe_portal.state_table(kind))::regclass
                               AND attname = 'deleted' AND NOT attisdropped) THEN 'NOT t.deleted'
                ELSE 'true' END
$$;

COMMENT ON FUNCTION stripe_portal.is_open(text) IS
'The SQL condition for a row t of this kind''s table to show something that can still change or vanish';

CREATE FUNCTION stripe_portal.sync_mark_unseen(objects text[], account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    run record;
    shown bigint;
    unseen bigint;
BEGIN
    FOR run IN
        SELECT c.object, c.livemode, min(c.as_of) AS as_of
        FROM stripe_portal.sync_cursor AS c
        WHERE c.object = ANY (objects) AND stripe_portal.state_table(c.object) IS NOT NULL AND c.livemode = stripe_portal.key_livemode()
          AND c.account = sync_mark_unseen.account
        GROUP BY c.object, c.livemode
        HAVING bool_and(c.finished IS NOT NULL AND c.error IS NULL AND c.range_from IS NULL AND c.range_to IS NULL)
    LOOP
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE t.event_created < $3)
                        FROM stripe_portal.%I AS t WHERE t.livemode = $1 AND t.account = $2 AND %s',
                       stripe_portal.state_table(run.object), stripe_portal.is_open(run.object))
        INTO shown, unseen USING run.livemode, account, run.as_of;
        -- With the key of another account, everything would seem to be gone,
        -- and what is marked as deleted stays so.
        IF unseen > 10 AND unseen > shown / 2 THEN
            RAISE WARNING 'Stripe does not list % of % objects of kind "%"', unseen, shown, run.object
                USING HINT = 'If the key is that of the right account, stripe_drift(repair => true) takes over what is gone.';
            CONTINUE;
        END IF;
        EXECUTE format('UPDATE stripe_portal.%I AS t SET refetch = true
                        WHERE t.livemode = $1 AND t.account = $2 AND t.event_created < $3 AND NOT t.refetch AND %s',
                       stripe_portal.state_table(run.object), stripe_portal.is_open(run.object))
        USING run.livemode, account, run.as_of;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_mark_unseen(text[], text) IS
'Marks for a refetch what a complete run did not come across: lists do not have what was deleted. If that is most of a table, a WARNING tells of it instead';

CREATE PROCEDURE stripe_portal.sync_run(objects text[], account text)
LANGUAGE plpgsql
AS $$
DECLARE
    pages stripe_portal.sync_page[];
    told timestamptz := pg_catalog.clock_timestamp();
BEGIN
    LOOP
        pages := stripe_portal.sync_read(objects, account);
        FOR n IN 1 .. pg_catalog.cardinality(pages) LOOP
            PERFORM stripe_portal.sync_write(pages, n);
            COMMIT;
        END LOOP;
        IF pg_catalog.cardinality(pages) = 0 THEN
            EXIT WHEN stripe_portal.sync_is_done(objects, account);
            -- somebody else is reading the rest
            COMMIT;
            PERFORM pg_catalog.pg_sleep(0.2);
        END IF;
        IF pg_catalog.clock_timestamp() > told + interval '10 seconds' THEN
            told := pg_catalog.clock_timestamp();
            PERFORM stripe_portal.sync_tell(objects, account);
        END IF;
    END LOOP;
    COMMIT;
END
$$;

COMMENT ON PROCEDURE stripe_portal.sync_run(text[], text) IS
'Reads these kinds to the end, with a commit after each page. Several at once share the work. Can not be called in a transaction';

CREATE FUNCTION stripe_portal.sync_tell(objects text[], account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p record;
BEGIN
    FOR p IN
        SELECT s.* FROM stripe_portal.sync_progress AS s
        WHERE s.object = ANY (objects) AND s.livemode = stripe_portal.key_livemode() AND s.account = sync_tell.account
        ORDER BY s.object
    LOOP
        RAISE NOTICE '%: % read%', p.object, p.rows,
            CASE WHEN p.state = 'refused' THEN ', refused: ' || p.error
                 WHEN p.state = 'unfinished' THEN format(' in %s pages, %s per second, to end about %s',
                      p.pages, coalesce(p.rate::text, '?'), coalesce(to_char(p.estimated_end, 'HH24:MI:SS'), '?'))
                 WHEN p.failed > 0 THEN format(', %s of them not applied, the last because of %s', p.failed, p.failure)
                 ELSE '' END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_tell(text[], text) IS
'Tells in NOTICEs how far reading these kinds has come';

CREATE VIEW stripe_portal.sync_progress WITH (security_invoker = true) AS
SELECT object, livemode, account, pages, rows, failed, failure, error, started, updated,
       CASE WHEN not_finished = 0 THEN finished END AS finished,
       CASE WHEN not_finished > 0 THEN 'unfinished' WHEN error IS NOT NULL THEN 'refused' ELSE 'done' END AS state,
       round(rows / nullif(extract(epoch FROM updated - started), 0), 1) AS rate,
       CASE WHEN not_finished > 0 AND covered > 0 THEN started + (updated - started) / covered END AS estimated_end
FROM (
    SELECT object, livemode, account, sum(pages) AS pages, sum(rows) AS rows, sum(failed) AS failed,
           max(failure) AS failure, max(error) AS error,
           min(started) AS started, max(updated) AS updated, max(finished) AS finished,
           count(*) FILTER (WHERE finished IS NULL) AS not_finished,
           -- The share of the time of creation that has been read.  When the
           -- first object was created is known once the slices before are read.
           1 - sum(extract(epoch FROM CASE WHEN finished IS NULL
                   THEN coalesce(last_created, created_to, started) - greatest(created_from, beginning) ELSE interval '0' END))
               / nullif(extract(epoch FROM max(coalesce(range_to, started) - beginning)), 0)::double precision AS covered
    FROM (SELECT c.*,
                 nullif(min(coalesce(created_from, '-infinity')) FILTER (WHERE finished IS NULL OR rows > 0)
                        OVER (PARTITION BY object, livemode, account), '-infinity') AS beginning
          FROM stripe_portal.sync_cursor AS c) AS c
    GROUP BY object, livemode, account
) AS run;

COMMENT ON VIEW stripe_portal.sync_progress IS 'How far reading from Stripe has come, by kind of object: a run that is under way, or the last one';
COMMENT ON COLUMN stripe_portal.sync_progress.rate IS 'Objects per second';
COMMENT ON COLUMN stripe_portal.sync_progress.failed IS 'How many objects could not be applied; failure tells of one of them';
COMMENT ON COLUMN stripe_portal.sync_progress.error IS 'Why Stripe refused to list them, after its SQLSTATE';
COMMENT ON COLUMN stripe_portal.sync_progress.state IS 'unfinished: being read, or to be gone on with by the next call; done; refused';
COMMENT ON COLUMN stripe_portal.sync_progress.estimated_end IS 'If the rest of the time of creation goes as fast as what was read; NULL as long as it is not known when the first was created';

CREATE PROCEDURE @extschema@.stripe_sync(
    objects text[] DEFAULT NULL, created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL,
    dry_run boolean DEFAULT false, account text DEFAULT '')
LANGUAGE plpgsql
AS $$
DECLARE
    kinds text[] := stripe_portal.sync_kinds(objects);
    place text;
BEGIN
    IF dry_run THEN
        PERFORM stripe_portal.sync_dry_run(kinds, created_from, created_to, account);
        RETURN;
    END IF;

    PERFORM stripe_portal.sync_plan(kinds, created_from, created_to, account);
    IF objects IS NULL AND created_from IS NULL AND created_to IS NULL THEN
        PERFORM stripe_portal.event_cursor_begin(account);
    END IF;
    COMMIT;
    CALL stripe_portal.sync_run(kinds, account);
    PERFORM stripe_portal.sync_mark_unseen(kinds, account);
    COMMIT;
    IF stripe_portal.has_marked(kinds) THEN
        -- a second reading in the same second could not be told from the first
        PERFORM pg_catalog.pg_sleep(2);
    END IF;
    LOOP
        place := stripe_portal.refetch(place, kinds);
        COMMIT;
        EXIT WHEN place IS NULL;
    END LOOP;
    PERFORM stripe_portal.sync_tell(kinds, account);
END
$$;

COMMENT ON PROCEDURE @extschema@.stripe_sync(text[], timestamptz, timestamptz, boolean, text) IS
'Reads all objects that the tables hold from Stripe, canceled subscriptions included, and makes the tables show them, unless these show something newer. Commits after each page, so it can not be called in a transaction; a run that was broken off goes on where it was, and several at once share the work. objects: kinds of them, NULL for all (see stripe_portal.sync_kind). created_from, created_to: only what was created from the one on and before the other; NULL: no limit. dry_run: writes nothing and tells in NOTICEs how many would be new or changed. account: a connected account. How far it is: stripe_portal.sync_progress. Errors as in stripe_api; a kind that the key has no right to read is refused, and the others are read';
-- sync: all periodic work.
--
-- A part is a function that does one portion of its work: it takes a place,
-- NULL at first, and gives the place to go on at, NULL when it is done.  Each
-- portion is a transaction of its own, and a portion that fails ends its part
-- and no other.

CREATE VIEW stripe_portal.tick_part AS
SELECT n, part, function
FROM (VALUES
    (1, 'events', 'stripe_portal.catch_up_step'),
    (2, 'thin events', 'stripe_portal.resolve_next_thin'),
    (3, 'dead letters', 'stripe_portal.retry_step'),
    (4, 'refetch', 'stripe_portal.refetch_step'),
    (5, 'ended discounts', 'stripe_portal.settle_step'),
    (6, 'ledger', 'stripe_portal.tend_step'),
    (7, 'win-back', 'stripe_portal.winback_step'),
    (8, 'offer discounts', 'stripe_portal.winback_discount_step')
) AS part (n, part, function);

COMMENT ON VIEW stripe_portal.tick_part IS 'What stripe_portal_tick does, in this order';
COMMENT ON COLUMN stripe_portal.tick_part.function IS 'Takes and gives a place (text): NULL to begin, and NULL when the part is done';

CREATE FUNCTION stripe_portal.refetch_step(place text)
RETURNS text
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT stripe_portal.refetch(place) $$;

COMMENT ON FUNCTION stripe_portal.refetch_step(text) IS
'A portion of refetching, for the tick';

CREATE FUNCTION stripe_portal.retry_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tried bigint;
BEGIN
    SELECT count(*) INTO tried FROM stripe_portal.retry_failed(100);
    RETURN CASE WHEN tried = 100 THEN 'more' END;
END
$$;

COMMENT ON FUNCTION stripe_portal.retry_step(text) IS
'A portion of the dead letters whose time has come, for the tick';

CREATE FUNCTION stripe_portal.settle_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.settle_changes();
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.settle_step(text) IS
'The discounts that ended since, for the tick';

CREATE FUNCTION stripe_portal.tend_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.tend_ledger();
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.tend_step(text) IS
'The care of the ledger''s partitions, for the tick';

CREATE FUNCTION stripe_portal.tick_portion(part text, INOUT place text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_first CONSTANT boolean := place IS NULL;
    function CONSTANT text := (SELECT p.function FROM stripe_portal.tick_part AS p WHERE p.part = tick_portion.part);
    failure text;
    began CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF function IS NULL THEN
        RAISE EXCEPTION 'the tick has no part "%"', part
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Another tick that is at this part sees to it; nobody waits for this lock.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('stripe_portal.tick ' || part, 0)) THEN
        place := NULL;
        RETURN;
    END IF;

    BEGIN
        EXECUTE format('SELECT %s($1)', function) INTO place USING place;
    EXCEPTION WHEN OTHERS THEN
        failure := SQLSTATE || ': ' || SQLERRM;
        place := NULL;
        RAISE WARNING 'part "%" of the tick failed: %', part, SQLERRM USING ERRCODE = SQLSTATE;
    END;

    INSERT INTO stripe_portal.tick_run AS r (part, started, finished, portions, error, last_success)
    VALUES (tick_portion.part, began, CASE WHEN place IS NULL THEN clock_timestamp() END, 1, failure,
            CASE WHEN place IS NULL AND failure IS NULL THEN clock_timestamp() END)
    ON CONFLICT ON CONSTRAINT tick_run_pkey DO UPDATE
    SET started = CASE WHEN is_first THEN excluded.started ELSE r.started END,
        portions = CASE WHEN is_first THEN 1 ELSE r.portions + 1 END,
        finished = excluded.finished, error = excluded.error,
        last_success = coalesce(excluded.last_success, r.last_success);
END
$$;

COMMENT ON FUNCTION stripe_portal.tick_portion(text, text) IS
'One portion of one part of the tick, and a note of how it went. Gives the place to go on at, NULL when the part is done, has failed, or is being done by somebody else; error 22023 for an unknown part';

CREATE PROCEDURE @extschema@.stripe_portal_tick()
LANGUAGE plpgsql
AS $$
DECLARE
    parts text[] := ARRAY(SELECT p.part FROM stripe_portal.tick_part AS p ORDER BY p.n);
    this_part text;
    place text;
BEGIN
    FOREACH this_part IN ARRAY parts LOOP
        LOOP
            place := stripe_portal.tick_portion(this_part, place);
            COMMIT;
            EXIT WHEN place IS NULL;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON PROCEDURE @extschema@.stripe_portal_tick() IS
'All periodic work: catches up with events that were not delivered, resolves thin events, tries failed events again whose time has come, reads objects whose rows are marked for a refetch, enters discounts that have ended into the histories, takes care of the ledger''s partitions, brings win-back offers up to date, and makes their discounts. Each part on its own: one that fails is a WARNING and does not stop the others. To be called every few minutes, from pg_cron, cron or by hand, not in a transaction; two at once do not get in each other''s way. How it went is in stripe_portal.tick_status';

CREATE VIEW stripe_portal.tick_status WITH (security_invoker = true) AS
SELECT p.part, r.started, r.finished,
       CASE WHEN r.part IS NULL THEN 'never run' WHEN r.error IS NOT NULL THEN 'failed'
            WHEN r.finished IS NULL THEN 'unfinished' ELSE 'done' END AS state,
       r.error, r.portions, r.last_success
FROM stripe_portal.tick_part AS p
LEFT JOIN stripe_portal.tick_run AS r USING (part)
ORDER BY p.n;

COMMENT ON VIEW stripe_portal.tick_status IS 'When each part of stripe_portal_tick last ran, and how it went';
COMMENT ON COLUMN stripe_portal.tick_status.state IS 'done; failed: see error; unfinished: being done, or broken off; never run';
COMMENT ON COLUMN stripe_portal.tick_status.error IS 'SQLSTATE and message of the last run, if it failed';
COMMENT ON COLUMN stripe_portal.tick_status.portions IS 'Of how many transactions the run consisted so far';
COMMENT ON COLUMN stripe_portal.tick_status.last_success IS 'When the part was last finished without an error';
-- Who may do what: what each capability stands for, and giving it to a role.
--
-- This list is all that stripe_portal_grant grants.  EXECUTE is on every
-- function of that name.  A function for users that is in no capability is for
-- superusers only, and the test "capability" wants to know of it.

CREATE VIEW stripe_portal.capability AS
SELECT capability, privilege, object
FROM (VALUES
    -- The application's back end.  It opens the portal for any customer.
    ('app', 'EXECUTE', ARRAY[
        'stripe_portal_session', 'stripe_portal_open', 'stripe_portal_return',
        'stripe_is_active', 'stripe_require_active', 'stripe_refresh', 'stripe_winback_open']),

    -- Customers themselves, by way of a gateway or with a role of their own.
    ('customer', 'EXECUTE', ARRAY['stripe_my_portal_session']),

    -- Whoever receives webhooks.
    ('webhook', 'EXECUTE', ARRAY[
        'stripe_receive_webhook', 'stripe_webhook', 'stripe_verify_webhook']),

    -- Whoever sends win-back messages, and so sees to whom they go.
    ('mailer', 'EXECUTE', ARRAY[
        'stripe_winback_claim', 'stripe_winback_sent', 'stripe_winback_failed']),

    -- Analysts.  Of customers and events only what is not personal.
    ('reader', 'USAGE', ARRAY['stripe_portal']),
    ('reader', 'SELECT', ARRAY[
        'product', 'price', 'coupon', 'promotion_code', 'discount',
        'subscription', 'subscription_item', 'subscription_change', 'entitlement',
        'invoice', 'invoice_payment', 'payment_intent', 'payment_method', 'payment_attempt', 'payment_failure',
        'explained_failure', 'dispute', 'decline_code',
        'access', 'access_rule',
        'session', 'session_unreturned', 'change_unexplained',
        'configuration', 'billing_portal_configuration', 'configuration_drift',
        'cancellation', 'winback_rule', 'winback_offer', 'advice',
        'event_failed', 'event_thin', 'event_type', 'event_cursor', 'sync_cursor', 'sync_progress',
        'tick_part', 'tick_run', 'tick_status', 'capability']),
    ('reader', 'SELECT (id, livemode, account, customer_account, currency, balance, delinquent, default_payment_method,'
               ' default_source, preferred_locales, tax_exempt, created, deleted, event, event_created, refetch)',
        ARRAY['customer']),
    ('reader', 'SELECT (id, livemode, account, type, created, api_version, object_id, status, error, attempts,'
               ' last_attempt_at, received_at)',
        ARRAY['event']),
    ('reader', 'EXECUTE', ARRAY[
        'stripe_is_active', 'stripe_subscription_at', 'stripe_subscriptions_at',
        'stripe_mrr_bridge', 'stripe_churn', 'stripe_churn_rate', 'stripe_churn_leak', 'stripe_retention',
        'stripe_cancel_comments', 'stripe_uncancel_rate', 'stripe_at_risk', 'stripe_churn_report', 'stripe_amount',
        'stripe_decline_report', 'stripe_decline_recovery', 'stripe_decline_wasted', 'stripe_decline_curable',
        'stripe_winback_preview', 'stripe_winback_lift',
        -- what those and the views call
        'key_livemode', 'configuration_drift']),

    -- Whoever deploys configurations and keeps the tables true.  The sync_
    -- functions take what procedures read and write it, since those commit and
    -- so run as their caller: an operator can make the tables show anything.
    ('operator', 'USAGE', ARRAY['stripe_portal']),
    ('operator', 'SELECT', ARRAY[
        'configuration', 'billing_portal_configuration', 'configuration_drift', 'advice',
        'event_failed', 'event_thin', 'event_cursor', 'sync_cursor', 'sync_progress',
        'tick_part', 'tick_run', 'tick_status', 'capability']),
    ('operator', 'EXECUTE', ARRAY[
        'stripe_portal_configure', 'stripe_portal_configuration_diff', 'stripe_portal_configuration_apply',
        'stripe_sync', 'stripe_catch_up', 'stripe_portal_tick',
        'stripe_drift', 'stripe_replay', 'stripe_resolve_thin', 'stripe_refresh', 'stripe_refresh_coupon',
        'retry_failed', 'tend_ledger', 'configuration_drift',
        -- what the procedures call
        'sync_kinds', 'sync_dry_run', 'sync_plan', 'sync_run', 'sync_read', 'sync_write', 'sync_is_done', 'sync_tell',
        'sync_mark_unseen', 'has_marked', 'refetch', 'event_cursor_begin', 'catch_up_plan', 'catch_up_done',
        'tick_portion'])
) AS list (capability, privilege, objects),
unnest(objects) AS object;

COMMENT ON VIEW stripe_portal.capability IS 'What stripe_portal_grant grants. Functions that begin with stripe_ are those for users, all else is in schema stripe_portal';
COMMENT ON COLUMN stripe_portal.capability.capability IS 'app: open the portal for any customer, and ask who is active. customer: open one''s own. webhook: receive events. mailer: send win-back messages. reader: read tables and reports, but for personal data of customers and the contents of events. operator: configurations, reading from Stripe, the tick, dead letters';
COMMENT ON COLUMN stripe_portal.capability.privilege IS 'EXECUTE on the functions and procedures of that name, SELECT on a table or view, or on some of its columns, or USAGE on the schema';

CREATE FUNCTION stripe_portal.capability_target(privilege text, object text)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || p.oid::regprocedure
    FROM pg_extension AS e
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    WHERE privilege = 'EXECUTE' AND e.extname = 'stripe_portal' AND p.proname = object
    UNION ALL
    SELECT CASE privilege WHEN 'USAGE' THEN format('SCHEMA %I', object) ELSE format('TABLE stripe_portal.%I', object) END
    WHERE privilege <> 'EXECUTE'
$$;

COMMENT ON FUNCTION stripe_portal.capability_target(text, text) IS
'What a row of stripe_portal.capability is about, as GRANT names it: one function or procedure for each of that name, or the table or schema';

CREATE FUNCTION stripe_portal.check_capability(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL OR role = 0::regrole THEN
        RAISE EXCEPTION 'role must not be null'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF capability IS NULL OR NOT EXISTS (SELECT FROM stripe_portal.capability AS c
                                            WHERE c.capability = check_capability.capability) THEN
        RAISE EXCEPTION 'unknown capability "%"', capability
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('The capabilities are %s.', (
                      SELECT string_agg(DISTINCT c.capability, ', ' ORDER BY c.capability) FROM stripe_portal.capability AS c));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_capability(regrole, text) IS
'Raises 22023 unless there is such a capability, and a role to give it to';

CREATE FUNCTION @extschema@.stripe_portal_grant(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    PERFORM stripe_portal.check_capability(role, capability);
    -- where the functions are may be closed to the role
    IF NOT has_schema_privilege(role, '@extschema@'::regnamespace, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s', '@extschema@'::regnamespace, role);
    END IF;
    FOR item IN
        SELECT c.privilege, t.target
        FROM stripe_portal.capability AS c, stripe_portal.capability_target(c.privilege, c.object) AS t (target)
        WHERE c.capability = stripe_portal_grant.capability
    LOOP
        EXECUTE format('GRANT %s ON %s TO %s', item.privilege, item.target, role);
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_grant(regrole, text) IS
'Lets a role do what a capability stands for: app, customer, webhook, mailer, reader or operator; what each is, is in stripe_portal.capability. A role can have several. Can be repeated, and should be after an upgrade, which may bring functions. For the owner of the extension; error 22023 for an unknown capability';

CREATE FUNCTION @extschema@.stripe_portal_revoke(role regrole, capability text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept text[];
    item record;
BEGIN
    PERFORM stripe_portal.check_capability(role, capability);
    -- Another capability is the role's if it has a function that no other one stands for.
    kept := ARRAY(
        SELECT DISTINCT c.capability
        FROM stripe_portal.capability AS c
        JOIN pg_proc AS p ON p.proname = c.object
        JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'stripe_portal'
        CROSS JOIN aclexplode(p.proacl) AS a
        WHERE c.privilege = 'EXECUTE' AND a.grantee = role AND c.capability <> stripe_portal_revoke.capability
          AND NOT EXISTS (SELECT FROM stripe_portal.capability AS other
                          WHERE other.privilege = 'EXECUTE' AND other.object = c.object AND other.capability <> c.capability));
    FOR item IN
        SELECT c.privilege, t.target
        FROM stripe_portal.capability AS c, stripe_portal.capability_target(c.privilege, c.object) AS t (target)
        WHERE c.capability = stripe_portal_revoke.capability
          AND (c.privilege, c.object) NOT IN (SELECT k.privilege, k.object FROM stripe_portal.capability AS k
                                              WHERE k.capability = ANY (kept))
    LOOP
        EXECUTE format('REVOKE %s ON %s FROM %s', item.privilege, item.target, role);
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_revoke(regrole, text) IS
'Takes a capability back from a role, but for what another one that it has stands for as well, and the right to use the schema of the functions. What was granted by hand besides stays. For the owner of the extension; error 22023 for an unknown capability';
-- Last part of the install script: every right in one place.
--
-- Nothing is for PUBLIC.  Who may do what is granted by the superuser who
-- installed the extension, function by function and table by table; the
-- functions that need more rights than their caller are SECURITY DEFINER
-- with a pinned search_path.

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT format('%s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
                      p.oid::regprocedure) AS name
        FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_proc AS p ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
        JOIN pg_catalog.pg_extension AS e
            ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
        WHERE e.extname = 'stripe_portal' AND d.deptype = 'e'
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', object.name);
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA stripe_portal FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA stripe_portal FROM PUBLIC;
