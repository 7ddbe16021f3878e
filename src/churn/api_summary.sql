-- churn: all reports at once, for the page.
--
-- Whoever owns the schema that the user chose can put another function in the
-- place of one that is called there by name, also by renaming the schema.  So
-- nothing is: the body here is no string, and is bound when it is made.

CREATE OR REPLACE FUNCTION stripe_portal.page_data(period daterange, account text, livemode boolean)
RETURNS jsonb
LANGUAGE sql STABLE
SET timezone = 'UTC'
RETURN jsonb_build_object(
    'bridge', (SELECT jsonb_agg(r) FROM @extschema@.stripe_mrr_bridge(period, account, livemode) AS r),
    'rate', (SELECT jsonb_agg(r) FROM @extschema@.stripe_churn_rate(period, account, livemode) AS r),
    'reason', (SELECT jsonb_agg(r) FROM @extschema@.stripe_churn('reason', period, account, livemode) AS r),
    'feedback', (
        SELECT jsonb_agg(jsonb_build_object('currency', r.currency, 'name', stripe_portal.page_word(coalesce(r.key, 'no_answer')),
                                            'mrr', r.mrr, 'customers', r.customers))
        FROM @extschema@.stripe_churn('feedback', period, account, livemode) AS r
        WHERE r.voluntary),
    'plan', (
        SELECT jsonb_agg(jsonb_build_object('currency', r.currency, 'name', coalesce(p.name, r.key, 'not known'),
                                            'mrr', r.mrr, 'customers', r.customers))
        FROM @extschema@.stripe_churn('plan', period, account, livemode) AS r
        LEFT JOIN stripe_portal.product AS p ON (p.id, p.livemode, p.account) = (r.key, page_data.livemode, page_data.account)),
    'retention', (SELECT jsonb_agg(r) FROM @extschema@.stripe_retention(period, account, livemode) AS r),
    'decline', (SELECT jsonb_agg(r) FROM @extschema@.stripe_decline_report(period, account, livemode) AS r),
    'recovery', (SELECT jsonb_agg(r) FROM @extschema@.stripe_decline_recovery(period, account, livemode) AS r),
    'leak', (SELECT jsonb_agg(r) FROM @extschema@.stripe_churn_leak(period, account, livemode) AS r),
    'risk', (SELECT jsonb_agg(r) FROM @extschema@.stripe_at_risk(account, livemode) AS r),
    'comment', (
        SELECT jsonb_agg(jsonb_build_object('currency', r.currency, 'at', r.at, 'name', coalesce(p.name, r.plan), 'comment', r.comment,
                                            'feedback', coalesce(r.feedback, 'no_answer'), 'mrr', r.mrr) ORDER BY r.at DESC, r.subscription)
        FROM @extschema@.stripe_cancel_comments(NULL, period, account, livemode) AS r
        LEFT JOIN stripe_portal.product AS p ON (p.id, p.livemode, p.account) = (r.plan, page_data.livemode, page_data.account)));

COMMENT ON FUNCTION stripe_portal.page_data(daterange, text, boolean) IS
'What the page shows: each report once, as an array of its rows or null, with the names of products';
