-- churn: who was lost, why, and what it cost.

CREATE OR REPLACE VIEW stripe_portal.churned WITH (security_invoker = true) AS
SELECT c.subscription, c.livemode, c.account, c.at, c.customer, c.currency,
       -c.mrr_change AS mrr,
       -- without an episode it has not ended: Stripe gave up and left it unpaid
       CASE WHEN e.subscription IS NULL THEN c.status ELSE e.ended_by END AS reason,
       CASE WHEN e.subscription IS NULL THEN false ELSE e.voluntary END AS voluntary,
       e.feedback, e.feedback_option, e.comment, e.product, e.price, c.items, c.start_date,
       CASE WHEN e.subscription IS NULL THEN stripe_portal.country_at(c.customer, c.livemode, c.account, c.at) ELSE e.country END AS country,
       s.customer_left
FROM stripe_portal.subscription_change AS c
LEFT JOIN stripe_portal.subscriber_change AS s
    ON (s.subscription, s.livemode, s.account, s.at) = (c.subscription, c.livemode, c.account, c.at)
LEFT JOIN stripe_portal.cancellation AS e
    ON (e.subscription, e.livemode, e.account) = (c.subscription, c.livemode, c.account)
    AND e.ended_at IS NOT NULL AND c.status IN ('canceled', 'incomplete_expired')
WHERE c.movement = 'churn';

COMMENT ON VIEW stripe_portal.churned IS
'Every subscription that stopped counting for the MRR, when, why, and what was lost: one row for each movement churn of stripe_portal.subscription_change, with the reason of its stripe_portal.cancellation';
COMMENT ON COLUMN stripe_portal.churned.mrr IS 'What was lost, in minor units of the currency; 0 if a pause had taken everything before';
COMMENT ON COLUMN stripe_portal.churned.reason IS 'What ended it, as in stripe_portal.cancellation; unpaid, or another status, if it has not ended but no longer counts';
COMMENT ON COLUMN stripe_portal.churned.voluntary IS 'Whether somebody asked for it, as in stripe_portal.cancellation: NULL if it ended for a reason that is not known; false if it has not ended';
COMMENT ON COLUMN stripe_portal.churned.product IS 'As in stripe_portal.cancellation, and so is price: NULL if it has not ended';
COMMENT ON COLUMN stripe_portal.churned.items IS 'As in stripe_portal.subscription_change';
COMMENT ON COLUMN stripe_portal.churned.country IS 'As in stripe_portal.cancellation; of the customer''s address at that time if it has not ended';
COMMENT ON COLUMN stripe_portal.churned.customer_left IS 'Whether the customer had no other subscription then that brings in MRR or is paused';

CREATE OR REPLACE FUNCTION @extschema@.stripe_churn(
    by text, period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (month date, currency text, key text, voluntary boolean, customers bigint, mrr bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    IF by IS NULL OR by NOT IN ('reason', 'feedback', 'plan', 'price', 'cohort', 'country', 'age') THEN
        RAISE EXCEPTION 'churn is not reported by %', coalesce(quote_ident(by), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use reason, feedback, plan, price, cohort, country or age.';
    END IF;
    RETURN QUERY
    SELECT date_trunc('month', c.at)::date, c.currency,
           CASE by
               WHEN 'reason' THEN c.reason
               WHEN 'feedback' THEN coalesce(c.feedback_option, c.feedback)
               WHEN 'plan' THEN coalesce(c.product, stripe_portal.main_item(c.items, mode, stripe_churn.account) ->> 'product')
               WHEN 'price' THEN coalesce(c.price, stripe_portal.main_item(c.items, mode, stripe_churn.account) ->> 'price')
               WHEN 'cohort' THEN to_char(c.start_date, 'YYYY-MM')
               WHEN 'country' THEN c.country
               WHEN 'age' THEN CASE
                   WHEN c.at < c.start_date + interval '1 month' THEN '00-01 months'
                   WHEN c.at < c.start_date + interval '3 months' THEN '01-03 months'
                   WHEN c.at < c.start_date + interval '1 year' THEN '03-12 months'
                   WHEN c.at < c.start_date + interval '2 years' THEN '12-24 months'
                   WHEN c.at >= c.start_date + interval '2 years' THEN '24+ months' END
           END,
           c.voluntary, count(DISTINCT c.customer) FILTER (WHERE c.customer_left), sum(c.mrr)::bigint
    FROM stripe_portal.churned AS c
    WHERE c.at >= lower(months) AND c.at < upper(months) AND c.account = stripe_churn.account AND c.livemode = mode
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 6 DESC, 3, 4;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn(text, daterange, text, boolean) IS
'Churned MRR and customers by month, currency, and one key: by is reason, feedback (or the portal''s feedback option), plan (product) and price (both of the item that brought in most), cohort (month in which the subscription started), country (of the customer''s address, at the time of the cancellation) or age (of the subscription, in five bands); any other is error 22023. key is NULL where it is not known, such as the feedback of who gave none; so is voluntary where the reason of the end is not known. mrr: in minor units; all keys together are the churn of stripe_mrr_bridge. customers: those who left with their last subscription, so who keeps another one is in mrr only. period: the months it touches, of UTC; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_churn_rate(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    month date, currency text, customers_opening bigint, mrr_opening bigint,
    voluntary_customers bigint, involuntary_customers bigint, voluntary_mrr bigint, involuntary_mrr bigint,
    customer_rate numeric, voluntary_customer_rate numeric, involuntary_customer_rate numeric,
    mrr_rate numeric, voluntary_mrr_rate numeric, involuntary_mrr_rate numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    months CONSTANT daterange := stripe_portal.report_months(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH lost AS MATERIALIZED (
        SELECT date_trunc('month', c.at)::date AS month, c.currency, c.customer, c.at, c.subscription, c.voluntary, c.mrr, c.customer_left
        FROM stripe_portal.churned AS c
        WHERE c.at >= lower(months) AND c.at < upper(months) AND c.account = stripe_churn_rate.account AND c.livemode = mode
    ), leaver AS (
        -- a customer leaves once a month, for the last of the reasons
        SELECT DISTINCT ON (l.month, l.currency, l.customer) l.month, l.currency, l.voluntary
        FROM lost AS l
        WHERE l.customer_left
        ORDER BY l.month, l.currency, l.customer, l.at DESC, l.subscription DESC
    ), customers AS (
        SELECT month, currency, count(*) FILTER (WHERE voluntary IS NOT false) AS voluntary, count(*) FILTER (WHERE voluntary = false) AS involuntary
        FROM leaver
        GROUP BY 1, 2
    ), money AS (
        SELECT month, currency,
               coalesce(sum(l.mrr) FILTER (WHERE voluntary IS NOT false), 0)::bigint AS voluntary,
               coalesce(sum(l.mrr) FILTER (WHERE voluntary = false), 0)::bigint AS involuntary
        FROM lost AS l
        GROUP BY 1, 2
    ), counted AS (
        SELECT b.month, b.currency, b.customers AS customers_opening, b.mrr AS mrr_opening,
               coalesce(c.voluntary, 0) AS voluntary_customers, coalesce(c.involuntary, 0) AS involuntary_customers,
               coalesce(m.voluntary, 0) AS voluntary_mrr, coalesce(m.involuntary, 0) AS involuntary_mrr
        FROM stripe_portal.month_opening(months, stripe_churn_rate.account, mode) AS b
        LEFT JOIN customers AS c USING (month, currency)
        LEFT JOIN money AS m USING (month, currency)
    )
    SELECT c.*,
           round((c.voluntary_customers + c.involuntary_customers)::numeric / nullif(c.customers_opening, 0), 4),
           round(c.voluntary_customers::numeric / nullif(c.customers_opening, 0), 4),
           round(c.involuntary_customers::numeric / nullif(c.customers_opening, 0), 4),
           round((c.voluntary_mrr + c.involuntary_mrr)::numeric / nullif(c.mrr_opening, 0), 4),
           round(c.voluntary_mrr::numeric / nullif(c.mrr_opening, 0), 4),
           round(c.involuntary_mrr::numeric / nullif(c.mrr_opening, 0), 4)
    FROM counted AS c
    ORDER BY c.month, c.currency;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn_rate(daterange, text, boolean) IS
'Churn by month and currency, voluntary and involuntary, of customers and of MRR in minor units, and as a share of what the month began with, 0 to 1, NULL if that was nothing. An end without a known reason counts as voluntary. A customer counts who left with their last subscription in the month, once, also if they had come in that month or came back in it. The MRR is that of stripe_churn and stripe_mrr_bridge. period: the months it touches, of UTC; NULL for the last twelve and this one, so far; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
