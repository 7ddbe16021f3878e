-- winback: what the team's own data say about the portal's settings.
--
-- A row is there only if the figures call for it.  No function of ours is in
-- the view, and it reads with its owner's rights: SELECT on it is enough.

CREATE OR REPLACE VIEW stripe_portal.advice AS
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
       format('%s%% come back', round(100.0 * (lapsed - unreturned) / nullif(lapsed, 0))),
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
