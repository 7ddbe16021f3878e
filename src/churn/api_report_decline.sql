-- churn: why payments fail, and which of them come in after all.

CREATE OR REPLACE VIEW stripe_portal.explained_failure WITH (security_invoker = true) AS
SELECT f.id, f.livemode, f.account, f.failed_at, f.customer, f.subscription, f.invoice, f.currency, f.amount,
       -- what the attempts at one payment have in common
       coalesce(f.invoice, f.payment_intent, f.id) AS payment,
       f.payment_method, f.attempt_number, f.next_payment_attempt, f.recovered_at,
       reason.code,
       coalesce(known.class, blocked.class, generic.class) AS class,
       CASE f.advice_code
           WHEN 'do_not_try_again' THEN '{do_not_retry,new_method}'
           WHEN 'confirm_card_data' THEN '{correct_data}'
           WHEN 'try_again_later' THEN '{retry_later}'
           ELSE coalesce(known.steps, blocked.steps, generic.steps) END AS steps,
       coalesce(known.tell_customer, blocked.tell_customer, generic.tell_customer) AS tell_customer,
       known.code IS NOT NULL AS known
FROM stripe_portal.payment_failure AS f
CROSS JOIN LATERAL (
    -- blocked by Radar: the network was never asked, and its reason is none of the codes
    SELECT coalesce(f.decline_code, CASE f.outcome_type WHEN 'blocked' THEN f.outcome_reason END, f.code) AS code
) AS reason
LEFT JOIN stripe_portal.decline_code AS known
    ON known.code = reason.code AND known.method = CASE coalesce(f.payment_method_type, 'card') WHEN 'card' THEN 'card' ELSE 'other' END
LEFT JOIN stripe_portal.decline_code AS blocked
    ON f.outcome_type = 'blocked' AND blocked.method = 'card' AND blocked.code = 'fraudulent'
LEFT JOIN stripe_portal.decline_code AS generic
    ON generic.method = 'card' AND generic.code = 'generic_decline';

COMMENT ON VIEW stripe_portal.explained_failure IS
'Failed attempts to get paid, with what stripe_portal.decline_code makes of them';
COMMENT ON COLUMN stripe_portal.explained_failure.payment IS 'What the attempts at one payment have in common: the invoice, else the payment intent';
COMMENT ON COLUMN stripe_portal.explained_failure.code IS 'The decline code; what Radar blocked it for; the error code where there is neither. NULL if Stripe has not told';
COMMENT ON COLUMN stripe_portal.explained_failure.class IS 'That of the code; of an unknown one that of generic_decline, of what Radar blocked that of fraudulent';
COMMENT ON COLUMN stripe_portal.explained_failure.steps IS 'Likewise; Stripe''s advice_code overrides it';
COMMENT ON COLUMN stripe_portal.explained_failure.known IS 'Whether the code is in stripe_portal.decline_code';

CREATE OR REPLACE FUNCTION @extschema@.stripe_decline_report(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    code text, class text, known boolean, currency text, attempts bigint, share numeric,
    payments bigint, amount bigint, recovered bigint, recovered_amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH by_payment AS (
        SELECT f.code, f.class, f.known, f.currency, f.payment, count(*) AS attempts,
               -- what is due can change from one attempt to the next
               max(f.amount) AS amount, max(f.recovered_at) AS recovered_at
        FROM stripe_portal.explained_failure AS f
        WHERE f.failed_at >= lower(days) AND f.failed_at < upper(days)
          AND f.account = stripe_decline_report.account AND f.livemode = mode
        GROUP BY 1, 2, 3, 4, 5
    )
    SELECT p.code, p.class, p.known, p.currency, sum(p.attempts)::bigint,
           round(sum(p.attempts) / sum(sum(p.attempts)) OVER (PARTITION BY p.currency), 4),
           count(*), sum(p.amount)::bigint, count(p.recovered_at),
           coalesce(sum(p.amount) FILTER (WHERE p.recovered_at IS NOT NULL), 0)::bigint
    FROM by_payment AS p
    GROUP BY 1, 2, 3, 4
    ORDER BY p.currency, sum(p.amount) DESC, p.code;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_report(daterange, text, boolean) IS
'Failed attempts of period by decline code and currency, the most money first. code: NULL if Stripe has not told one; class: soft, hard or fraud, of an unknown code (known is false) that of generic_decline. attempts, and their share of all in that currency, 0 to 1; payments: the invoices that failed with this code, each counted once, with their amount in minor units; recovered, recovered_amount: those of them that were paid after all, whenever that was. An invoice that failed with two codes is in both rows. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_decline_recovery(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    code text, attempt integer, currency text, failed bigint, recovered bigint, rate numeric,
    amount bigint, recovered_amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT f.code, f.attempt_number, f.currency, count(*), count(f.recovered_at),
           round(count(f.recovered_at)::numeric / count(*), 4),
           sum(f.amount)::bigint, coalesce(sum(f.amount) FILTER (WHERE f.recovered_at IS NOT NULL), 0)::bigint
    FROM stripe_portal.explained_failure AS f
    WHERE f.failed_at >= lower(days) AND f.failed_at < upper(days)
      AND f.account = stripe_decline_recovery.account AND f.livemode = mode
    GROUP BY 1, 2, 3
    ORDER BY f.code, f.attempt_number, f.currency;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_recovery(daterange, text, boolean) IS
'What became of the attempts that failed in period, by code, number of the attempt and currency: how many failed, how many of those payments were paid after all, whenever that was, and the rate of the two, 0 to 1; the same in money, in minor units. attempt: the invoice''s attempt_count, NULL where no invoice told it. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_decline_wasted(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (code text, currency text, attempts bigint, amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    WITH attempt AS (
        SELECT f.failed_at, f.currency, f.amount,
               (array_agg(f.code) FILTER (WHERE f.class <> 'soft' OR 'do_not_retry' = ANY (f.steps)) OVER earlier)[1] AS hopeless_since
        FROM stripe_portal.explained_failure AS f
        -- retries go on for two months at the most
        WHERE f.failed_at >= lower(days) - interval '3 months' AND f.failed_at < upper(days)
          AND f.account = stripe_decline_wasted.account AND f.livemode = mode
        WINDOW earlier AS (PARTITION BY f.payment, f.payment_method ORDER BY f.failed_at, f.id
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT a.hopeless_since, a.currency, count(*), sum(a.amount)::bigint
    FROM attempt AS a
    WHERE a.failed_at >= lower(days) AND a.hopeless_since IS NOT NULL
    GROUP BY 1, 2
    ORDER BY count(*) DESC, 1, 2;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_wasted(daterange, text, boolean) IS
'Retries of period that could not succeed: attempts that failed after the same payment method had failed for the same payment with a code whose class is hard or fraud, or with Stripe''s advice not to try again. code: the first such code; attempts, amount: what was tried in vain after it, in minor units. period: the days, of UTC; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_decline_curable(account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    customer text, subscription text, invoice text, currency text, amount bigint, code text, attempts bigint,
    failed_at timestamptz, next_payment_attempt timestamptz, ask text, tell_customer boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT i.customer, i.subscription, i.id, f.currency, i.amount_remaining, f.code, f.attempts, f.failed_at,
           f.next_payment_attempt, step.ask, f.tell_customer
    -- few are open of all that ever failed: the attempts at those are looked for one by one
    FROM stripe_portal.invoice AS i
    CROSS JOIN LATERAL (
        SELECT e.*, count(*) OVER () AS attempts
        FROM stripe_portal.explained_failure AS e
        WHERE (e.customer, e.livemode, e.account) = (i.customer, i.livemode, i.account)
          AND e.invoice = i.id AND e.recovered_at IS NULL
        ORDER BY e.failed_at DESC, e.id DESC
        LIMIT 1) AS f
    CROSS JOIN LATERAL (
        SELECT s AS ask FROM unnest(f.steps) WITH ORDINALITY AS u (s, n)
        WHERE s IN ('new_method', 'correct_data') ORDER BY n LIMIT 1) AS step
    WHERE i.status = 'open' AND i.amount_remaining > 0 AND i.account = stripe_decline_curable.account AND i.livemode = mode
      -- who has gone will not send a new card
      AND NOT EXISTS (
        SELECT FROM stripe_portal.subscription AS s
        WHERE (s.id, s.livemode, s.account) = (i.subscription, i.livemode, i.account) AND stripe_portal.status_is_final(s.status))
    ORDER BY f.currency, i.amount_remaining DESC, i.id;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_decline_curable(text, boolean) IS
'Invoices that are open now, after failed attempts, and that the customer could cure: those whose last decline code has new_method or correct_data among its steps. One row each, the most money first; not those of subscriptions that have ended. amount: what is still due, in minor units; code, failed_at: of the last of the attempts; next_payment_attempt: when Stripe tries again, NULL if it will not; ask: what to ask the customer for, new_method or correct_data, whichever decline_code names first; tell_customer: whether the reason may be told. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_at_risk(account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS TABLE (
    subscription text, customer text, currency text, mrr bigint, status text, since timestamptz,
    next_payment_attempt timestamptz, code text, amount_due bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
BEGIN
    RETURN QUERY
    SELECT now.subscription, now.customer, now.currency, now.mrr, now.status,
           (SELECT min(h.at) FROM stripe_portal.subscription_change AS h
            WHERE (h.subscription, h.livemode, h.account) = (now.subscription, now.livemode, now.account)
              AND h.at > coalesce((SELECT max(other.at) FROM stripe_portal.subscription_change AS other
                                   WHERE (other.subscription, other.livemode, other.account)
                                       = (now.subscription, now.livemode, now.account)
                                     AND other.status <> now.status), '-infinity')),
           (SELECT min(i.next_payment_attempt) FROM stripe_portal.invoice AS i
            WHERE (i.subscription, i.livemode, i.account) = (now.subscription, now.livemode, now.account) AND i.status = 'open'),
           (SELECT f.code FROM stripe_portal.explained_failure AS f
            WHERE (f.customer, f.livemode, f.account) = (now.customer, now.livemode, now.account)
              AND f.subscription = now.subscription AND f.recovered_at IS NULL
            ORDER BY f.failed_at DESC, f.id DESC LIMIT 1),
           (SELECT sum(i.amount_remaining)::bigint FROM stripe_portal.invoice AS i
            WHERE (i.subscription, i.livemode, i.account) = (now.subscription, now.livemode, now.account) AND i.status = 'open')
    -- few of all that there are: the smaller table has them sooner
    FROM stripe_portal.subscription AS s
    JOIN stripe_portal.subscription_change AS now
        ON (now.subscription, now.livemode, now.account) = (s.id, s.livemode, s.account) AND now.until = 'infinity'
    WHERE s.status = 'past_due' AND now.status = 'past_due' AND s.account = stripe_at_risk.account AND s.livemode = mode
    ORDER BY now.currency, now.mrr DESC NULLS LAST, now.subscription;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_at_risk(text, boolean) IS
'Subscriptions that are past_due now: still counted, and lost when Stripe gives up. One row each, the most money first. mrr: in minor units, NULL if it is not known; since: when the status became so; next_payment_attempt: the next try at one of the open invoices, NULL if there is none; code: of the last failed attempt; amount_due: what the open invoices come to. livemode: NULL is the mode of the configured key, live without one';
