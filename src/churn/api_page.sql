-- churn: the reports on one page, to look at.

CREATE OR REPLACE FUNCTION stripe_portal.page_rows(data jsonb, report text, currency text)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_path_query_array(data -> report, '$[*] ? (@.currency == $currency)', jsonb_build_object('currency', currency));

COMMENT ON FUNCTION stripe_portal.page_rows(jsonb, text, text) IS
'The rows of one report in one currency, of what page_data gives';

CREATE OR REPLACE FUNCTION stripe_portal.page_currency(data jsonb, months text[], currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bridge CONSTANT jsonb := stripe_portal.page_rows(data, 'bridge', currency);
    leak CONSTANT jsonb := stripe_portal.page_rows(data, 'leak', currency);
BEGIN
    RETURN format('<section id="%1$s"><h2>%2$s</h2>', stripe_portal.html_escape(currency), stripe_portal.html_escape(upper(currency)))
        || stripe_portal.page_tiles(stripe_portal.page_rows(data, 'rate', currency), bridge, leak, currency)
        || '<div class="figures">'
        || stripe_portal.page_bridge(bridge, months, currency)
        || stripe_portal.page_leak(leak, months, currency)
        || stripe_portal.page_reasons(stripe_portal.page_rows(data, 'reason', currency), months, currency)
        || stripe_portal.page_churn('What they said', 'Who cancelled said most often, by money: %s.', 'Answer',
                                    stripe_portal.page_rows(data, 'feedback', currency), currency)
        || stripe_portal.page_retention(stripe_portal.page_rows(data, 'retention', currency), currency)
        || stripe_portal.page_declines(stripe_portal.page_rows(data, 'decline', currency), currency)
        || stripe_portal.page_recovery(stripe_portal.page_rows(data, 'recovery', currency), currency)
        || stripe_portal.page_churn('Churn by plan', 'Most MRR was lost with %s.', 'Plan', stripe_portal.page_rows(data, 'plan', currency), currency)
        || stripe_portal.page_risk(stripe_portal.page_rows(data, 'risk', currency), currency)
        || stripe_portal.page_comments(stripe_portal.page_rows(data, 'comment', currency), currency)
        || '</div></section>';
END
$$;

COMMENT ON FUNCTION stripe_portal.page_currency(jsonb, text[], text) IS
'The part of the page that is about one currency, from what page_data gives; months are the names of the columns of charts';

CREATE OR REPLACE FUNCTION @extschema@.stripe_churn_report(
    period daterange DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET timezone = 'UTC'
AS $$
DECLARE
    mode CONSTANT boolean := coalesce(livemode, stripe_portal.key_livemode());
    days CONSTANT daterange := stripe_portal.report_period(period);
    months CONSTANT daterange := stripe_portal.report_months(period);
    names CONSTANT text[] := ARRAY(
        SELECT to_char(m, 'Mon YY') FROM generate_series(lower(months), upper(months) - 1, interval '1 month') AS m);
    data CONSTANT jsonb := stripe_portal.page_data(days, account, mode);
    -- where most subscribers are comes first
    currencies CONSTANT text[] := ARRAY(
        SELECT r.currency
        FROM jsonb_each(data) AS e (report, rows), jsonb_to_recordset(CASE WHEN rows <> 'null' THEN rows END) AS r (currency text, subscribers_closing bigint)
        WHERE r.currency IS NOT NULL
        GROUP BY 1
        ORDER BY sum(r.subscribers_closing) DESC NULLS LAST, 1);
BEGIN
    RETURN stripe_portal.page_document('Churn report',
        '<header><h1>Why they leave and what it costs</h1><p>'
        || format('%s to %s', to_char(lower(days), 'FMDD FMMonth YYYY'), to_char(upper(days) - 1, 'FMDD FMMonth YYYY'))
        || CASE WHEN upper(days) > now()::date THEN ', so far' ELSE '' END
        || CASE WHEN mode THEN '' ELSE ' &middot; <strong>test data</strong>' END
        || CASE WHEN account = '' THEN '' ELSE ' &middot; account ' || stripe_portal.html_escape(account) END
        || '</p>'
        || coalesce((SELECT '<nav>' || string_agg(format('<a href="#%s">%s</a>', stripe_portal.html_escape(c), stripe_portal.html_escape(upper(c))), '' ORDER BY n) || '</nav>'
                     FROM unnest(currencies) WITH ORDINALITY AS u (c, n)), '')
        || '</header>' || stripe_portal.page_patterns() || '<main>'
        || coalesce((SELECT string_agg(stripe_portal.page_currency(data, names, c), E'\n' ORDER BY n) FROM unnest(currencies) WITH ORDINALITY AS u (c, n)),
                    format('<p class="nothing">There is nothing yet: no subscription has brought in money, and no payment has failed%s.</p>',
                           CASE WHEN mode THEN '' ELSE ', in test mode' END))
        || '</main><footer><p>Money is MRR, what subscriptions bring in per month, but for failed payments, which are what was to be paid. '
        || 'Currencies are never added up. Months are those of UTC. Made '
        || to_char(now(), 'YYYY-MM-DD HH24:MI') || ' UTC.</p></footer>');
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_churn_report(daterange, text, boolean) IS
'The reports on one page, in HTML, to be written to a file as UTF-8: for each currency the MRR bridge, the leak, churn by reason, by what was answered and by plan, retention, declined payments by code and by attempt, what is at risk now and the last comments, as charts and as tables. It needs nothing else, runs nothing and fetches nothing; what is in the data is shown as text. Of customers it has their comments, and the ids of the ten of each currency with most at risk. period: the days, of UTC, widened to months as in the reports it is made of; NULL for the last twelve months and this one; error 22023 if it is empty or open. livemode: NULL is the mode of the configured key, live without one';
