-- churn: what the report's page shows of one currency, figure by figure.
--
-- Each of these takes the rows of one report in one currency, as page_data has
-- them, and gives HTML, or '' if there is nothing to show.

CREATE OR REPLACE FUNCTION stripe_portal.page_tile(name text, value text, remark text, picture text DEFAULT '')
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<div class="tile"><small>%s</small><strong>%s</strong><small>%s</small>%s</div>',
                  stripe_portal.html_escape(name), coalesce(stripe_portal.html_escape(value), '&ndash;'),
                  coalesce(stripe_portal.html_escape(remark), ''), picture)
$$;

COMMENT ON FUNCTION stripe_portal.page_tile(text, text, text, text) IS
'One figure in large print, with a remark, and a picture in HTML';

CREATE OR REPLACE FUNCTION stripe_portal.page_tiles(rates jsonb, bridge jsonb, leaks jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mrr record;
    rate record;
    leak record;
BEGIN
    IF bridge = '[]' THEN
        RETURN '';
    END IF;
    SELECT (array_agg(b.opening ORDER BY b.month))[1] AS before, (array_agg(b.closing ORDER BY b.month DESC))[1] AS after,
           (array_agg(b.subscribers_opening ORDER BY b.month))[1] AS subscribers_before,
           (array_agg(b.subscribers_closing ORDER BY b.month DESC))[1] AS subscribers_after,
           array_agg(b.closing ORDER BY b.month) AS line, array_agg(b.subscribers_closing ORDER BY b.month) AS subscribers_line
    INTO mrr
    FROM jsonb_to_recordset(bridge) AS b (month date, opening bigint, closing bigint, subscribers_opening bigint, subscribers_closing bigint);
    SELECT sum(r.voluntary_mrr + r.involuntary_mrr) / nullif(sum(r.mrr_opening), 0) AS mrr,
           sum(r.voluntary_customers + r.involuntary_customers) / nullif(sum(r.customers_opening), 0) AS customers,
           sum(r.involuntary_mrr) / nullif(sum(r.voluntary_mrr + r.involuntary_mrr), 0) AS involuntary,
           array_agg(100 * coalesce(r.mrr_rate, 0) ORDER BY r.month) AS line, array_agg(r.voluntary_mrr + r.involuntary_mrr ORDER BY r.month) AS lost_line
    INTO rate
    FROM jsonb_to_recordset(rates) AS r (month date, mrr_rate numeric, customers_opening numeric, mrr_opening numeric, voluntary_customers numeric,
                                         involuntary_customers numeric, voluntary_mrr numeric, involuntary_mrr numeric);
    SELECT sum(l.cancellation_leak + l.payment_leak) AS lost, sum(l.cancellation_recovered + l.payment_recovered) AS recovered
    INTO leak
    FROM jsonb_to_recordset(leaks) AS l (cancellation_leak numeric, payment_leak numeric, cancellation_recovered numeric, payment_recovered numeric);

    RETURN '<div class="tiles">'
        || stripe_portal.page_tile('MRR at the end', stripe_portal.money(mrr.after, currency),
               'from ' || stripe_portal.money(mrr.before, currency)
                   || coalesce(', ' || to_char(100.0 * (mrr.after - mrr.before) / nullif(mrr.before, 0), 'FMSG999,999,990.0') || ' %', ''),
               stripe_portal.svg_spark('MRR at the end of each month', mrr.line))
        || stripe_portal.page_tile('Subscribers at the end', to_char(mrr.subscribers_after, 'FM999,999,999,990'),
               'from ' || to_char(mrr.subscribers_before, 'FM999,999,999,990'),
               stripe_portal.svg_spark('Subscribers at the end of each month', mrr.subscribers_line))
        || stripe_portal.page_tile('MRR churn in a month', stripe_portal.percent(rate.mrr),
               stripe_portal.percent(rate.customers) || ' of the subscribers',
               stripe_portal.svg_spark('MRR churn by month', rate.line))
        || stripe_portal.page_tile('MRR lost', stripe_portal.money(leak.lost, currency),
               stripe_portal.money(leak.recovered, currency) || ' of it came back; '
                   || coalesce(stripe_portal.percent(rate.involuntary), '0 %') || ' was nobody''s decision',
               stripe_portal.svg_spark('MRR lost by month', rate.lost_line))
        || '</div>';
END
$$;

COMMENT ON FUNCTION stripe_portal.page_tiles(jsonb, jsonb, jsonb, text) IS
'The figures at the head of a currency, from rows of stripe_churn_rate, stripe_mrr_bridge and stripe_churn_leak. The churn in a month is that of all months by what they all began with';

CREATE OR REPLACE FUNCTION stripe_portal.page_bridge(bridge jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    movements CONSTANT text[] := '{new,expansion,reactivation,resume,contraction,pause,churn}';
    total record;
BEGIN
    IF bridge = '[]' THEN
        RETURN '';
    END IF;
    SELECT sum(b.closing - b.opening) AS net, sum(b.new + b.expansion + b.reactivation + b.resume) AS came,
           sum(b.contraction + b.pause + b.churn) AS went, (array_agg(b.unknown ORDER BY b.month DESC))[1] AS unknown
    INTO total
    FROM jsonb_to_recordset(bridge) AS b (month date, opening numeric, new numeric, expansion numeric, contraction numeric, reactivation numeric,
                                          pause numeric, resume numeric, churn numeric, closing numeric, unknown bigint);
    RETURN stripe_portal.html_figure('MRR bridge',
        format('%s came and %s went: %s in all.', stripe_portal.money(total.came, currency), stripe_portal.money(-total.went, currency),
               stripe_portal.money(total.net, currency))
            || CASE WHEN total.unknown > 0 THEN format(' Not in it, because their MRR is not known: %s subscriptions.', total.unknown) ELSE '' END,
        stripe_portal.svg_columns('MRR bridge by month', 'What was added to the MRR in each month, above, what was taken away, below, and what both come to',
            months, movements, '{1,2,3,4,5,6,7}',
            (SELECT jsonb_agg(jsonb_build_object('x', to_char((b.line ->> 'month')::date, 'Mon YY'), 'layer', m, 'value', b.line -> m))
             FROM jsonb_array_elements(bridge) AS b (line), unnest(movements) AS m), currency, true),
        stripe_portal.html_table('MRR bridge by month, in ' || upper(currency),
            '{Month,Opening,New,Expansion,Contraction,Reactivation,Pause,Resume,Churn,Closing,Subscribers at first,Subscribers at last,Without known MRR}',
            (SELECT jsonb_agg(jsonb_build_array(to_char((b.line ->> 'month')::date, 'Mon YY')) || (
                        SELECT jsonb_agg(stripe_portal.money((b.line ->> k)::numeric, currency) ORDER BY n)
                        FROM unnest('{opening,new,expansion,contraction,reactivation,pause,resume,churn,closing}'::text[]) WITH ORDINALITY AS u (k, n))
                    || jsonb_build_array(b.line ->> 'subscribers_opening', b.line ->> 'subscribers_closing', b.line ->> 'unknown') ORDER BY b.line ->> 'month')
             FROM jsonb_array_elements(bridge) AS b (line))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_bridge(jsonb, text[], text) IS
'The figure of stripe_mrr_bridge';

CREATE OR REPLACE FUNCTION stripe_portal.page_reasons(reasons jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[];       -- the most money first
    sums numeric[];
    shown text[];
    points jsonb;
BEGIN
    SELECT array_agg(r.name ORDER BY r.mrr DESC, r.name), array_agg(r.mrr ORDER BY r.mrr DESC, r.name) INTO names, sums
    FROM (SELECT stripe_portal.page_word(r.key) AS name, sum(r.mrr) AS mrr
          FROM jsonb_to_recordset(reasons) AS r (key text, mrr numeric) GROUP BY 1) AS r;
    IF names IS NULL THEN
        RETURN '';
    END IF;
    -- there are eight styles
    shown := names[:7] || CASE WHEN cardinality(names) > 7 THEN '{all others}'::text[] ELSE '{}' END;
    points := (
        SELECT jsonb_agg(jsonb_build_object('x', to_char(r.month, 'Mon YY'),
                   'layer', CASE WHEN array_position(names, stripe_portal.page_word(r.key)) > 7 THEN 'all others' ELSE stripe_portal.page_word(r.key) END,
                   'value', r.mrr))
        FROM jsonb_to_recordset(reasons) AS r (month date, key text, mrr numeric));
    RETURN stripe_portal.html_figure('Churn by reason',
        format('%s of the MRR that was lost: %s.', coalesce(stripe_portal.percent(sums[1] / nullif((SELECT sum(s) FROM unnest(sums) AS s), 0)), 'None'), names[1]),
        stripe_portal.svg_columns('Churned MRR by month and reason', 'What was lost in each month, stacked by what ended the subscriptions',
            months, shown, ('{1,7,5,6,3,4,2,8}'::integer[])[:cardinality(shown)], points, currency),
        stripe_portal.html_table('Churned MRR by month and reason, in ' || upper(currency), 'Month'::text || names,
            (SELECT jsonb_agg(jsonb_build_array(month) || (
                        SELECT jsonb_agg(stripe_portal.money(coalesce((
                                   SELECT sum(r.mrr) FROM jsonb_to_recordset(reasons) AS r (month date, key text, mrr numeric)
                                   WHERE to_char(r.month, 'Mon YY') = m.month AND stripe_portal.page_word(r.key) = name), 0), currency) ORDER BY k)
                        FROM unnest(names) WITH ORDINALITY AS u (name, k)) ORDER BY m.n)
             FROM unnest(months) WITH ORDINALITY AS m (month, n))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_reasons(jsonb, text[], text) IS
'The figure of stripe_churn by reason';

CREATE OR REPLACE FUNCTION stripe_portal.page_churn(title text, finding text, what text, rows jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sums jsonb;         -- the most money first
BEGIN
    SELECT jsonb_agg(jsonb_build_object('label', r.name, 'value', r.mrr, 'customers', r.customers) ORDER BY r.mrr DESC, r.name) INTO sums
    FROM (SELECT r.name, sum(r.mrr) AS mrr, sum(r.customers) AS customers
          FROM jsonb_to_recordset(rows) AS r (name text, mrr numeric, customers numeric) GROUP BY 1) AS r;
    IF sums IS NULL THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure(title, format(finding, coalesce(jsonb_path_query_first(sums, '$[*].label ? (@ <> "no answer" && @ <> "not known")') #>> '{}', 'nothing')),
        stripe_portal.svg_bars(title, 'What was lost in the whole period', jsonb_path_query_array(sums, '$[0 to 9]'), 1, currency),
        stripe_portal.html_table(title || ', in ' || upper(currency), ARRAY[what, 'MRR', 'Customers'],
            (SELECT jsonb_agg(jsonb_build_array(s.line ->> 'label', stripe_portal.money((s.line ->> 'value')::numeric, currency), s.line ->> 'customers') ORDER BY s.n)
             FROM jsonb_array_elements(sums) WITH ORDINALITY AS s (line, n))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_churn(text, text, text, jsonb, text) IS
'The figure of stripe_churn by something else, summed over the period: rows are {"name", "mrr", "customers"}, the finding is a format for the first name that is one, what is the head of the names'' column';

CREATE OR REPLACE FUNCTION stripe_portal.page_retention(retention jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last integer;
    kept numeric;
BEGIN
    SELECT max(r.months), sum(r.retained) FILTER (WHERE r.months = 3) / nullif(sum(r.customers) FILTER (WHERE r.months = 3), 0)
    INTO last, kept
    FROM jsonb_to_recordset(retention) AS r (months integer, customers numeric, retained numeric);
    IF last IS NULL THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('Who stays',
        coalesce(stripe_portal.percent(kept) || ' of the customers are still there after three months. ', '')
            || 'By the month of their first payment: how many of a hundred were there at the end of that month (0) and of those after it.',
        stripe_portal.html_heat('Customers who stayed, in percent', '{First paid,Customers}'::text[] || ARRAY(SELECT generate_series(0, last)::text),
            (SELECT jsonb_agg(jsonb_build_object('label', to_char(c.cohort, 'Mon YY'), 'count', c.customers, 'shares', c.shares) ORDER BY c.cohort)
             FROM (SELECT r.cohort, max(r.customers) AS customers, jsonb_agg(r.share ORDER BY r.months) AS shares
                   FROM (SELECT k.cohort, s.months, r.customers, r.retained / nullif(r.customers, 0) AS share
                         FROM (SELECT DISTINCT r.cohort FROM jsonb_to_recordset(retention) AS r (cohort date)) AS k
                         CROSS JOIN generate_series(0, last) AS s (months)
                         LEFT JOIN jsonb_to_recordset(retention) AS r (cohort date, months integer, customers numeric, retained numeric)
                             ON r.cohort = k.cohort AND r.months = s.months) AS r
                   GROUP BY r.cohort) AS c)),
        stripe_portal.html_table('Customers and their MRR, in ' || upper(currency),
            '{First paid,Months later,Customers,Still there,MRR at first,MRR then}',
            (SELECT jsonb_agg(jsonb_build_array(to_char(r.cohort, 'Mon YY'), r.months::text, r.customers::text, r.retained::text,
                        stripe_portal.money(r.mrr_start, currency), stripe_portal.money(r.mrr_retained, currency)) ORDER BY r.cohort, r.months)
             FROM jsonb_to_recordset(retention) AS r (cohort date, months integer, customers bigint, retained bigint,
                                                      mrr_start numeric, mrr_retained numeric))), true);
END
$$;

COMMENT ON FUNCTION stripe_portal.page_retention(jsonb, text) IS
'The figure of stripe_retention';

CREATE OR REPLACE FUNCTION stripe_portal.page_declines(declines jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    total record;
BEGIN
    IF declines = '[]' THEN
        RETURN '';
    END IF;
    SELECT sum(d.amount) AS amount, sum(d.recovered_amount) AS recovered, (array_agg(d.code ORDER BY d.amount DESC, d.code))[1] AS first
    INTO total
    FROM jsonb_to_recordset(declines) AS d (code text, amount numeric, recovered_amount numeric);
    RETURN stripe_portal.html_figure('Declined payments by code',
        format('Most money failed with %s. %s of what failed came in after all.', stripe_portal.page_word(total.first),
               coalesce(stripe_portal.percent(total.recovered / nullif(total.amount, 0)), 'Nothing')),
        stripe_portal.svg_bars('Declined payments by code', 'The money of the payments that failed with each code, and what of it came in after all',
            (SELECT jsonb_agg(jsonb_build_object('label', stripe_portal.page_word(d.code), 'value', d.amount, 'part', d.recovered_amount))
             FROM (SELECT d.* FROM jsonb_to_recordset(declines) AS d (code text, amount numeric, recovered_amount numeric)
                   ORDER BY d.amount DESC, d.code LIMIT 12) AS d), 7, currency)
            || stripe_portal.html_legend('{came in after all,did not}', '{2,7}'),
        stripe_portal.html_table('Declined payments by code, in ' || upper(currency),
            '{Code,Class,Attempts,Share,Payments,Amount,Recovered,Recovered amount}',
            (SELECT jsonb_agg(jsonb_build_array(stripe_portal.page_word(d.code), d.class || CASE WHEN d.known THEN '' ELSE ' (unknown code)' END,
                        d.attempts::text, stripe_portal.percent(d.share), d.payments::text, stripe_portal.money(d.amount, currency),
                        d.recovered::text, stripe_portal.money(d.recovered_amount, currency)) ORDER BY d.amount DESC, d.code)
             FROM jsonb_to_recordset(declines) AS d (code text, class text, known boolean, attempts bigint, share numeric, payments bigint,
                                                     amount numeric, recovered bigint, recovered_amount numeric)), 2));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_declines(jsonb, text) IS
'The figure of stripe_decline_report';

CREATE OR REPLACE FUNCTION stripe_portal.page_recovery(recovery jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attempts text[];
    points jsonb;
    first numeric;
BEGIN
    SELECT array_agg(a.name ORDER BY a.attempt),
           jsonb_agg(jsonb_build_object('x', a.name, 'layer', 'came in after all', 'value', a.recovered_amount))
               || jsonb_agg(jsonb_build_object('x', a.name, 'layer', 'did not', 'value', a.amount - a.recovered_amount)),
           sum(a.recovered) FILTER (WHERE a.attempt = 1) / nullif(sum(a.failed) FILTER (WHERE a.attempt = 1), 0)
    INTO attempts, points, first
    FROM (SELECT r.attempt, coalesce('attempt ' || r.attempt, 'not known') AS name, sum(r.failed) AS failed, sum(r.recovered) AS recovered,
                 sum(r.amount) AS amount, sum(r.recovered_amount) AS recovered_amount
          FROM jsonb_to_recordset(recovery) AS r (attempt integer, failed numeric, recovered numeric, amount numeric, recovered_amount numeric)
          GROUP BY r.attempt) AS a;
    IF attempts IS NULL THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('Recovery by attempt',
        coalesce(stripe_portal.percent(first) || ' of the payments that failed the first time came in after all.', 'What became of the payments that failed.'),
        stripe_portal.svg_columns('Failed payments by attempt', 'The money that failed at each attempt, and what of it came in after all',
            attempts, '{came in after all,did not}', '{2,7}', points, currency),
        stripe_portal.html_table('Recovery by code and attempt, in ' || upper(currency),
            '{Code,Attempt,Failed,Recovered,Rate,Amount,Recovered amount}',
            (SELECT jsonb_agg(jsonb_build_array(stripe_portal.page_word(r.code), r.attempt::text, r.failed::text, r.recovered::text,
                        stripe_portal.percent(r.rate), stripe_portal.money(r.amount, currency), stripe_portal.money(r.recovered_amount, currency))
                    ORDER BY r.code, r.attempt)
             FROM jsonb_to_recordset(recovery) AS r (code text, attempt integer, failed bigint, recovered bigint, rate numeric,
                                                     amount numeric, recovered_amount numeric))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_recovery(jsonb, text) IS
'The figure of stripe_decline_recovery';

CREATE OR REPLACE FUNCTION stripe_portal.page_leak(leaks jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    total record;
BEGIN
    IF leaks = '[]' THEN
        RETURN '';
    END IF;
    SELECT sum(l.cancellation_leak + l.payment_leak) AS lost, sum(l.payment_leak) AS payment, sum(l.recoverable) AS recoverable,
           min(l.assumed_cancellation_rate) AS cancellation_rate, min(l.assumed_payment_rate) AS payment_rate, min(l.assumed_within) AS within
    INTO total
    FROM jsonb_to_recordset(leaks) AS l (cancellation_leak numeric, payment_leak numeric, recoverable numeric,
                                         assumed_within interval, assumed_cancellation_rate numeric, assumed_payment_rate numeric);
    RETURN stripe_portal.html_figure('The leak',
        format('%s of MRR was lost, %s of it to failed payments. %s more could be had, if %s of the cancellations and %s of the failed payments '
               || 'can be prevented: an assumption. Who returns within %s days counts as back.',
               stripe_portal.money(total.lost, currency), stripe_portal.money(total.payment, currency), stripe_portal.money(total.recoverable, currency),
               stripe_portal.percent(total.cancellation_rate), stripe_portal.percent(total.payment_rate), (extract(epoch FROM total.within) / 86400)::integer),
        stripe_portal.svg_columns('The leak by month', 'MRR that was lost in each month, below, and what of it came back or did not leak at all, above',
            months, '{came back,saved before it leaked,lost to cancellations,lost to failed payments}', '{2,4,1,7}',
            (SELECT jsonb_agg(jsonb_build_object('x', to_char(l.month, 'Mon YY'), 'layer', s.name, 'value', s.value))
             FROM jsonb_to_recordset(leaks) AS l (month date, cancellation_leak numeric, payment_leak numeric, cancellation_recovered numeric,
                                                  payment_recovered numeric, cancellation_saved numeric, payment_saved numeric),
                  LATERAL (VALUES ('came back', l.cancellation_recovered + l.payment_recovered),
                                  ('saved before it leaked', l.cancellation_saved + l.payment_saved),
                                  ('lost to cancellations', -l.cancellation_leak),
                                  ('lost to failed payments', -l.payment_leak)) AS s (name, value)), currency),
        stripe_portal.html_table('The leak by month, in ' || upper(currency),
            '{Month,Cancellation leak,Payment leak,Cancellation recovered,Payment recovered,Cancellation saved,Payment saved,Recoverable}',
            (SELECT jsonb_agg(jsonb_build_array(to_char((l.line ->> 'month')::date, 'Mon YY')) || (
                        SELECT jsonb_agg(stripe_portal.money((l.line ->> k)::numeric, currency) ORDER BY n)
                        FROM unnest('{cancellation_leak,payment_leak,cancellation_recovered,payment_recovered,cancellation_saved,payment_saved,recoverable}'::text[])
                             WITH ORDINALITY AS u (k, n)) ORDER BY l.line ->> 'month')
             FROM jsonb_array_elements(leaks) AS l (line))));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_leak(jsonb, text[], text) IS
'The figure of stripe_churn_leak';

CREATE OR REPLACE FUNCTION stripe_portal.page_risk(risks jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF risks = '[]' THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('At risk now',
        (SELECT format('%s past due, with an MRR of %s; those with most of it:', count(*), stripe_portal.money(coalesce(sum(r.mrr), 0), currency))
         FROM jsonb_to_recordset(risks) AS r (mrr numeric)),
        stripe_portal.html_table('Subscriptions at risk now, in ' || upper(currency), '{Customer,Last code,Past due since,MRR,Due}',
            (SELECT jsonb_agg(jsonb_build_array(r.customer, stripe_portal.page_word(r.code), to_char(r.since, 'YYYY-MM-DD'),
                        stripe_portal.money(r.mrr, currency), stripe_portal.money(r.amount_due, currency)) ORDER BY r.mrr DESC NULLS LAST, r.customer)
             FROM (SELECT r.* FROM jsonb_to_recordset(risks) AS r (customer text, code text, since timestamptz, mrr numeric, amount_due numeric)
                   ORDER BY r.mrr DESC NULLS LAST, r.customer LIMIT 10) AS r), 3));
END
$$;

COMMENT ON FUNCTION stripe_portal.page_risk(jsonb, text) IS
'The ten largest of stripe_at_risk';

CREATE OR REPLACE FUNCTION stripe_portal.page_comments(comments jsonb, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF comments = '[]' THEN
        RETURN '';
    END IF;
    RETURN stripe_portal.html_figure('In their own words', format('The last of %s comments on cancelling.', jsonb_array_length(comments)),
        stripe_portal.html_table('Comments, with the MRR in ' || upper(currency), '{Day,Plan,Answer,Comment,MRR}',
            (SELECT jsonb_agg(jsonb_build_array(to_char(c.at, 'YYYY-MM-DD'), c.name, stripe_portal.page_word(c.feedback), c.comment,
                        stripe_portal.money(c.mrr, currency)) ORDER BY c.n)
             FROM (SELECT c.*, u.n FROM jsonb_array_elements(comments) WITH ORDINALITY AS u (line, n),
                       jsonb_to_record(u.line) AS c (at timestamptz, name text, feedback text, comment text, mrr numeric)
                   ORDER BY u.n LIMIT 10) AS c), 4), NULL, true);
END
$$;

COMMENT ON FUNCTION stripe_portal.page_comments(jsonb, text) IS
'The last ten of stripe_cancel_comments, without the customers';
