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

COMMENT ON TABLE stripe_portal.customer IS 'Stripe customers, as their latest event left them; deleted ones stay as tombstones';
COMMENT ON TABLE stripe_portal.product IS 'Stripe products, as their latest event left them; deleted ones stay as tombstones';
COMMENT ON TABLE stripe_portal.price IS 'Stripe prices, as their latest event left them; amounts in minor units, unit_amount_decimal also where unit_amount cannot say it';
COMMENT ON TABLE stripe_portal.subscription IS 'Stripe subscriptions with their items, as their latest event left them; canceled ones stay';
COMMENT ON VIEW stripe_portal.subscription_item IS 'The items of all subscriptions, one row each; quantity is NULL for metered prices';

COMMENT ON COLUMN stripe_portal.customer.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.customer.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.customer.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.customer.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.customer.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.product.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.product.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.product.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.product.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.product.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.price.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.price.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.price.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.price.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.price.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.subscription.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.subscription.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.subscription.event IS 'The event this row was read from';
COMMENT ON COLUMN stripe_portal.subscription.event_created IS 'That event''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.subscription.refetch IS 'Two events of one second could not be put in order, or the event was incomplete: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.subscription.status IS 'Stripe''s status, kept as it is sent, also when it is not known here';
COMMENT ON COLUMN stripe_portal.subscription.current_period_end IS 'The earliest end of an item''s period';
COMMENT ON COLUMN stripe_portal.subscription.cancel_at IS 'When a scheduled cancellation takes effect; set without cancel_at_period_end on flexible subscriptions, so look at both';
COMMENT ON COLUMN stripe_portal.subscription.canceled_at IS 'When the cancellation was asked for; the end is ended_at';
COMMENT ON COLUMN stripe_portal.subscription.cancellation_feedback IS 'cancellation_details.feedback: what the subscriber chose in the portal''s survey; arrives in a later event than the cancellation';
COMMENT ON COLUMN stripe_portal.subscription.cancellation_comment IS 'cancellation_details.comment: the subscriber''s own words';

