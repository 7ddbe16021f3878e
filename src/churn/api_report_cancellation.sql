-- churn: who asked for a cancellation, who changed their mind, and what they wrote.

CREATE OR REPLACE FUNCTION @extschema@.stripe_uncancel_rate(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (month date, currency text, asked bigint, undone bigint, pending bigint, rate numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT date_trunc('month', c.began_at)::date, c.currency, count(*), count(c.undone_at),
           count(*) FILTER (WHERE c.undone_at IS NULL AND c.ended_at IS NULL),
           round(count(c.undone_at)::numeric / count(*), 4)
    FROM stripe_portal.cancellation AS c
    WHERE c.asked_at IS NOT NULL AND c.began_at >= lower(months) AND c.began_at < upper(months)
      AND c.account = stripe_uncancel_rate.account AND c.livemode = mode
      -- what ends at once cannot be undone
      AND c.ended_at IS DISTINCT FROM c.asked_at
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_uncancel_rate(daterange, text, boolean) IS
'Of the cancellations that were asked for in a month (asked), to take effect later, how many they took back (undone), whenever that was, and how many are still to take effect (pending); rate: undone of asked, 0 to 1. By month of asking and currency. period: the months it touches, of UTC; NULL for the last twelve and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_cancel_comments(
    query text DEFAULT NULL, period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    at timestamptz, customer text, subscription text, plan text, feedback text, comment text, mrr bigint, currency text, rank real)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    words CONSTANT tsquery := websearch_to_tsquery('pg_catalog.simple', query);
BEGIN
    RETURN QUERY
    SELECT c.began_at, c.customer, c.subscription, c.product, coalesce(c.feedback_option, c.feedback), c.comment,
           c.mrr, c.currency, ts_rank(to_tsvector('pg_catalog.simple', c.comment), words)
    FROM stripe_portal.cancellation AS c
    WHERE (query IS NULL OR to_tsvector('pg_catalog.simple', c.comment) @@ words)
      AND c.comment <> ''
      AND c.began_at >= lower(days) AND c.began_at < upper(days)
      AND c.account = stripe_cancel_comments.account AND c.livemode = mode
    ORDER BY 9 DESC NULLS LAST, 1 DESC, 3;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_cancel_comments(text, daterange, text, boolean) IS
'What subscribers wrote when they cancelled in period, in their own words, with what they had. query: words to look for, as in a web search: all of them, "a phrase", or, -without; NULL for every comment, the newest first. Words are taken as they are written, in any language, but for upper and lower case. rank: how well it fits, the best first; NULL without a query. mrr: at that moment, in minor units. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
