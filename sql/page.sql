-- The page of the reports: how it is put together.  test/page looks at it in a browser.
\set VERBOSITY terse

-- Whatever it is, it is shown.
SELECT stripe_portal.html_escape($$<script>alert("it's")</script> &amp;$$);
-- Amounts, by the decimals that the currency has at Stripe; isk and ugx are sent with two.
SELECT currency, stripe_amount(123456789, currency) AS amount,
       stripe_portal.money(123456789, currency), stripe_portal.money(-5, currency) AS little, stripe_portal.money_short(123456789, currency) AS short
FROM unnest('{usd,USD,jpy,kwd,isk,ugx,clp,tnd}'::text[]) AS currency;
SELECT stripe_portal.money(NULL, 'usd') IS NULL AS unknown, stripe_portal.money(0, 'usd') AS nothing, stripe_portal.money(9223372036854775807, 'jpy') AS much;
SELECT amount, stripe_portal.money_short(amount, 'usd') FROM unnest('{0,50,99999,100000,-123456,123456789}'::numeric[]) AS amount;
SELECT stripe_portal.percent(0.125), stripe_portal.percent(0), stripe_portal.percent(1), stripe_portal.percent(NULL) IS NULL AS unknown;
SELECT stripe_portal.page_word('too_expensive'), stripe_portal.page_word(NULL), stripe_portal.page_word('prod_A1');
SELECT height, stripe_portal.chart_step(height) FROM unnest('{0,60,100,599,12345,1000000}'::numeric[]) AS height;

-- Tables.
SELECT stripe_portal.html_table('A & B', '{Name,Word,Number}', '[["<b>", "x > y", "1.00"], ["c", null, null]]', 2);
SELECT stripe_portal.html_heat('Stay', '{Cohort,Customers,0,1}', '[{"label": "<b>", "count": 3, "shares": [1, 0.664]}, {"label": "c", "count": 1, "shares": [1.5, null]}]');
SELECT stripe_portal.html_figure('A', '1 < 2', '<svg/>'), stripe_portal.html_figure('A', 'b', '<svg/>', '<table/>', true);

-- Charts: 15 up and 5 down in the first month, nothing in the second; 242 pixels for 0.30.
SELECT regexp_replace(stripe_portal.svg_columns('T', 'D', '{Jan,Feb}', '{come,stay,<go>}', '{1,2,7}',
    '[{"x": "Jan", "layer": "come", "value": 10}, {"x": "Jan", "layer": "stay", "value": 5}, {"x": "Jan", "layer": "<go>", "value": -5}]', 'usd', true),
    '(<(rect|circle|line|text|ul))', E'\n\\1', 'g') AS columns;
-- Without net, nothing says net.
SELECT substring(stripe_portal.svg_columns('T', 'D', '{Jan}', '{come}', '{1}', '[]', 'usd') FROM '<ul.*') AS legend;
SELECT regexp_replace(stripe_portal.svg_bars('T', 'D', '[{"label": "<all>", "value": 200, "part": 50}, {"label": "none", "value": 0}]', 7, 'jpy'),
    '(<(rect|text))', E'\n\\1', 'g') AS bars;
SELECT stripe_portal.svg_spark('<T>', '{1,2,4}'), stripe_portal.svg_spark('T', '{0}');

-- Unknown reasons are many one day; there are styles for eight.
SELECT regexp_matches(stripe_portal.page_reasons((
    SELECT jsonb_agg(jsonb_build_object('month', '2026-01-01', 'key', 'r' || n, 'mrr', 100 * n)) FROM generate_series(1, 10) AS n),
    '{Jan 26}', 'usd'), '<title>(Jan 26, [^<]*)</title>', 'g');

-- A database in which nothing has happened.
SELECT page LIKE '<!DOCTYPE html>%</html>' AS whole, page ~ 'There is nothing yet' AS nothing, page ~ 'test data' AS test,
       substring(page FROM 'http-equiv="[^>]*default-src ''none''') AS policy, page ~* '<script|<link|<img|<iframe| style=| on[a-z]+=|https?:|url\((?!#p)' AS fetches
FROM unnest(ARRAY[stripe_churn_report(), stripe_churn_report(livemode => true)]) AS page;
SELECT substring(stripe_churn_report('[2026-01-15,2026-03-02)', 'acct_<1>') FROM '<header>.*</header>');
-- Its style sheet is the one that is let in.
SELECT position(encode(sha256(convert_to(substring(page FROM '<style>(.*)</style>'), 'UTF8')), 'base64') IN page) > 0 AS let_in FROM stripe_churn_report() AS page;
SELECT stripe_churn_report('[2026-01-01,)');

-- What cannot be counted is said.
SELECT regexp_matches(stripe_portal.page_bridge('[{"month": "2026-01-01", "opening": 0, "new": 500, "expansion": 0, "contraction": 0, "reactivation": 0, "pause": 0,
    "resume": 0, "churn": -200, "closing": 300, "subscribers_opening": 0, "subscribers_closing": 1, "unknown": 2}]', '{Jan 26}', 'usd'), '<p>(.*)</p>') AS finding;
