-- churn: who stays, by the month in which they came.

CREATE OR REPLACE FUNCTION @extschema@.stripe_retention(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    cohort date, currency text, months integer, customers bigint, retained bigint, mrr_start bigint, mrr_retained bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    period_months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    -- the months' beginnings, and the end of the last one that has begun
    boundaries CONSTANT timestamptz[] := ARRAY(
        SELECT generate_series(lower(period_months)::timestamptz, least(upper(period_months), (date_trunc('month', now()) + interval '1 month')::date),
                               interval '1 month'));
BEGIN
    RETURN QUERY
    WITH moved AS MATERIALIZED (
        SELECT width_bucket(c.since, boundaries) AS cohort, c.currency, width_bucket(c.at, boundaries) AS n,
               sum(c.subscribers) AS customers, sum(c.mrr_change) AS mrr,
               count(*) FILTER (WHERE c.first) AS first_customers, sum(c.mrr_change) FILTER (WHERE c.first) AS first_mrr
        FROM stripe_portal.subscriber_change AS c
        WHERE c.since >= lower(period_months) AND c.since < boundaries[cardinality(boundaries)] AND c.at < boundaries[cardinality(boundaries)]
          AND c.account = stripe_retention.account AND c.livemode = mode
        GROUP BY 1, 2, 3
    ), cohort AS (
        SELECT m.cohort, m.currency, sum(m.first_customers)::bigint AS customers, sum(m.first_mrr)::bigint AS mrr
        FROM moved AS m
        GROUP BY 1, 2
    ), stayed AS (
        SELECT c.cohort, c.currency, n, c.customers, c.mrr,
               sum(m.customers) OVER so_far AS retained, sum(m.mrr) OVER so_far AS mrr_retained
        FROM cohort AS c
        CROSS JOIN generate_series(0, cardinality(boundaries) - 1) AS n
        LEFT JOIN moved AS m USING (cohort, currency, n)
        WINDOW so_far AS (PARTITION BY c.cohort, c.currency ORDER BY n)
    )
    SELECT boundaries[s.cohort]::date, s.currency, s.n - s.cohort, s.customers, coalesce(s.retained, 0)::bigint, s.mrr,
           coalesce(s.mrr_retained, 0)::bigint
    FROM stayed AS s
    WHERE s.n >= s.cohort
    ORDER BY 1, 2, 3;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_retention(daterange, text, boolean) IS
'How many of the customers who first paid in a month (cohort), and how much of their money, were there later. One row for each cohort in period, currency and number of months since: at the end of that month, which for months = 0 is that of the cohort itself and for the month that is under way is now. customers, mrr_start: all who came, with the MRR that each began with; retained, mrr_retained: those with MRR above 0 at that time, with what they then paid, which can be more. Who left and came back counts again. Amounts in minor units; months of UTC, up to the end of period; NULL for the last twelve and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
