-- churn: what leaks away each month, what of it comes back, and what could.

CREATE OR REPLACE FUNCTION @extschema@.stripe_churn_leak(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL,
    won_back_within interval DEFAULT '90 days',
    cancellation_save_rate numeric DEFAULT 0.1, payment_save_rate numeric DEFAULT 0.3)
RETURNS TABLE (
    month date, currency text, cancellation_leak bigint, payment_leak bigint,
    cancellation_recovered bigint, payment_recovered bigint, cancellation_saved bigint, payment_saved bigint,
    recoverable bigint, assumed_within interval, assumed_cancellation_rate numeric, assumed_payment_rate numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
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
        FROM stripe_portal.month_opening(months, stripe_churn_leak.account, mode) AS b
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
