-- webhook: what kinds of events have come in.

CREATE OR REPLACE VIEW stripe_portal.event_type WITH (security_invoker = true) AS
SELECT type, livemode, account, status, count(*) AS count, min(created) AS first, max(created) AS last
FROM stripe_portal.event
GROUP BY type, livemode, account, status;

COMMENT ON VIEW stripe_portal.event_type IS 'How many events of each type are in the ledger, by what became of them; a type that nothing here knows is ignored, and shows up here';
COMMENT ON COLUMN stripe_portal.event_type.first IS 'When the first of them happened, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.event_type.last IS 'When the last of them happened';
