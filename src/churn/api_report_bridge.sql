-- churn: how the MRR of one month became that of the next.

CREATE OR REPLACE FUNCTION @extschema@.stripe_mrr_bridge(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    month date, currency text, opening bigint, new bigint, expansion bigint, contraction bigint, reactivation bigint,
    pause bigint, resume bigint, churn bigint, closing bigint, subscribers_opening bigint, subscribers_closing bigint,
    unknown bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    -- The months' beginnings and the end of the last one: what happens at one
    -- of them belongs to the time after it.  All that was before is month 0.
    boundaries CONSTANT timestamptz[] := ARRAY(SELECT generate_series(lower(months)::timestamptz, upper(months), interval '1 month'));
BEGIN
    RETURN QUERY
    WITH moved AS MATERIALIZED (
        SELECT width_bucket(c.at, boundaries) AS n, c.currency, c.movement, sum(c.mrr_change) AS mrr
        FROM stripe_portal.subscription_change AS c
        WHERE c.movement IS NOT NULL AND c.at < upper(months)
          AND c.account = stripe_mrr_bridge.account AND c.livemode = mode
        GROUP BY 1, 2, 3
    ), came AS (
        SELECT width_bucket(c.at, boundaries) AS n, c.currency, sum(c.subscribers) AS subscribers
        FROM stripe_portal.subscriber_change AS c
        WHERE c.subscribers <> 0 AND c.at < upper(months)
          AND c.account = stripe_mrr_bridge.account AND c.livemode = mode
        GROUP BY 1, 2
    ), without_mrr AS MATERIALIZED (
        SELECT b.n::integer - 1 AS n, c.currency, count(*) AS unknown
        FROM unnest(boundaries) WITH ORDINALITY AS b (boundary, n)
        JOIN stripe_portal.subscription_change AS c ON c.at < b.boundary AND c.until >= b.boundary
        WHERE c.mrr IS NULL AND c.account = stripe_mrr_bridge.account AND c.livemode = mode
        GROUP BY 1, 2
    ), by_month AS (
        SELECT n, currency,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'new'), 0) AS new,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'expansion'), 0) AS expansion,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'contraction'), 0) AS contraction,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'reactivation'), 0) AS reactivation,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'pause'), 0) AS pause,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'resume'), 0) AS resume,
               coalesce(sum(m.mrr) FILTER (WHERE movement = 'churn'), 0) AS churn,
               coalesce(sum(m.mrr), 0) AS moved
        FROM generate_series(0, cardinality(boundaries) - 1) AS n
        CROSS JOIN (SELECT currency FROM moved UNION SELECT currency FROM without_mrr) AS its
        LEFT JOIN moved AS m USING (n, currency)
        GROUP BY n, currency
    ), bridge AS (
        SELECT b.*, coalesce(c.subscribers, 0) AS came, sum(b.moved) OVER so_far AS closing, sum(coalesce(c.subscribers, 0)) OVER so_far AS subscribers
        FROM by_month AS b
        LEFT JOIN came AS c USING (n, currency)
        WINDOW so_far AS (PARTITION BY currency ORDER BY n)
    )
    SELECT boundaries[b.n]::date, b.currency, (b.closing - b.moved)::bigint, b.new::bigint, b.expansion::bigint, b.contraction::bigint,
           b.reactivation::bigint, b.pause::bigint, b.resume::bigint, b.churn::bigint, b.closing::bigint,
           (b.subscribers - b.came)::bigint, b.subscribers::bigint, coalesce(u.unknown, 0)
    FROM bridge AS b
    LEFT JOIN without_mrr AS u USING (n, currency)
    WHERE b.n > 0
    ORDER BY 1, 2;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_mrr_bridge(daterange, text, boolean) IS
'How the MRR of each month''s beginning became that of its end: opening + new + expansion + contraction + reactivation + pause + resume + churn = closing, which is the next month''s opening; what takes away is negative. One row for each month and each currency that ever had MRR, or has anything unknown; amounts in its minor units, months of UTC. subscribers_opening, subscribers_closing: customers with MRR above 0. unknown: subscriptions that count at the month''s end and whose MRR is not known: they are in closing with what was known of them last, and are no subscribers. The movements are those of stripe_portal.subscription_change. period: the months it touches; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

-- For reports that go on from here; bound when it is made, see api_summary.sql.
CREATE OR REPLACE FUNCTION stripe_portal.month_opening(months daterange, account text, livemode boolean)
RETURNS TABLE (month date, currency text, mrr bigint, customers bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT b.month, b.currency, b.opening, b.subscribers_opening
    FROM @extschema@.stripe_mrr_bridge(months, account, livemode) AS b;
END;

COMMENT ON FUNCTION stripe_portal.month_opening(daterange, text, boolean) IS
'With what each month began, as stripe_mrr_bridge has it';
