-- churn: how the MRR of one month became that of the next.

CREATE OR REPLACE FUNCTION stripe_portal.subscribers_at(boundaries timestamptz[], account text, livemode boolean)
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

CREATE OR REPLACE FUNCTION @extschema@.stripe_mrr_bridge(
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
