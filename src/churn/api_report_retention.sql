-- churn: who stays, by the month in which they came.

CREATE OR REPLACE FUNCTION @extschema@.stripe_retention(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    cohort date, currency text, months integer, customers bigint, retained bigint, mrr_start bigint, mrr_retained bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    period_months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    -- the end of the last month that has begun
    last_end CONSTANT date := least(upper(period_months), (date_trunc('month', now()) + interval '1 month')::date);
BEGIN
    RETURN QUERY
    WITH member AS (
        SELECT DISTINCT ON (c.customer, c.currency) c.customer, c.currency, date_trunc('month', c.at)::date AS cohort, c.mrr
        FROM stripe_portal.subscription_change AS c
        -- nobody comes with anything else
        WHERE c.movement = 'new' AND c.at < upper(period_months)
          AND c.account = stripe_retention.account AND c.livemode = mode
        ORDER BY c.customer, c.currency, c.at, c.subscription
    ), cohort AS (
        SELECT m.cohort, m.currency, count(*) AS customers, sum(m.mrr) AS mrr
        FROM member AS m
        WHERE m.cohort >= lower(period_months)
        GROUP BY 1, 2
    ), stayed AS (
        SELECT m.cohort, m.currency, b.boundary, count(DISTINCT m.customer) AS customers, sum(c.mrr) AS mrr
        FROM member AS m
        JOIN stripe_portal.subscription_change AS c
            ON c.customer = m.customer AND c.currency = m.currency AND c.mrr > 0
            AND c.account = stripe_retention.account AND c.livemode = mode
        CROSS JOIN LATERAL generate_series(
            greatest(m.cohort + interval '1 month', date_trunc('month', c.at) + interval '1 month'),
            least(last_end, c.until), interval '1 month') AS b (boundary)
        WHERE m.cohort >= lower(period_months)
        GROUP BY 1, 2, 3
    )
    SELECT c.cohort, c.currency, b.n::integer - 1, c.customers, coalesce(s.customers, 0), c.mrr::bigint,
           coalesce(s.mrr, 0)::bigint
    FROM cohort AS c
    CROSS JOIN LATERAL generate_series(c.cohort + interval '1 month', last_end, interval '1 month')
        WITH ORDINALITY AS b (boundary, n)
    LEFT JOIN stayed AS s ON s.cohort = c.cohort AND s.currency = c.currency AND s.boundary = b.boundary
    ORDER BY c.cohort, c.currency, b.n;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_retention(daterange, text, boolean) IS
'How many of the customers who first paid in a month (cohort), and how much of their money, were there later. One row for each cohort in period, currency and number of months since: at the end of that month, which for months = 0 is that of the cohort itself and for the month that is under way is now. customers, mrr_start: all who came, with the MRR that each began with; retained, mrr_retained: those with MRR above 0 at that time, with what they then paid, which can be more. Who left and came back counts again. Amounts in minor units; months of UTC, up to the end of period; NULL for the last twelve and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
