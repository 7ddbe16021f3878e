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
