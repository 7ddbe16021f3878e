-- billing: what can be read of the state.

CREATE OR REPLACE VIEW stripe_portal.subscription_item WITH (security_invoker = true) AS
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

