-- churn: the words and tables of the report's page.
--
-- The page is for people: nothing in it may run, and nothing may be fetched.
-- Whatever comes from data becomes text in one of these functions, and they
-- write no attribute that is made from data.  All is ASCII but for the data.

CREATE OR REPLACE FUNCTION stripe_portal.html_escape(value text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');

COMMENT ON FUNCTION stripe_portal.html_escape(text) IS
'Text as HTML that shows it, whatever it is, in an element or a quoted attribute';

CREATE OR REPLACE FUNCTION stripe_portal.money(amount numeric, currency text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
    SELECT to_char(value, 'FM9,999,999,999,999,999,990' || CASE scale(value) WHEN 0 THEN '' ELSE rpad('.', scale(value) + 1, '0') END)
    FROM @extschema@.stripe_amount(amount, currency) AS value);

COMMENT ON FUNCTION stripe_portal.money(numeric, text) IS
'An amount of minor units as people write it, without the currency: 123456 is 1,234.56 in dollars, 123,456 in yen, 123.456 in dinars';

CREATE OR REPLACE FUNCTION stripe_portal.money_short(amount numeric, currency text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
    SELECT CASE
        WHEN abs(value) >= 1000000 THEN trim_scale(round(value / 1000000, 1)) || 'M'
        WHEN abs(value) >= 1000 THEN trim_scale(round(value / 1000, 1)) || 'k'
        ELSE trim_scale(round(value, 1))::text END
    FROM @extschema@.stripe_amount(amount, currency) AS value);

COMMENT ON FUNCTION stripe_portal.money_short(numeric, text) IS
'An amount of minor units in few letters, for the axis of a chart: 123456 is 1.2k in dollars';

CREATE OR REPLACE FUNCTION stripe_portal.percent(share numeric)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN to_char(100 * share, 'FM999,999,990.0') || ' %';

COMMENT ON FUNCTION stripe_portal.percent(numeric) IS
'A share as people read it: 0.125 is 12.5 %';

CREATE OR REPLACE FUNCTION stripe_portal.page_word(key text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN key IS NULL THEN 'not known'
    -- ids have capitals or digits in them, and stay as they are
    WHEN key ~ '^[a-z_]+$' THEN replace(key, '_', ' ')
    ELSE key
END;

COMMENT ON FUNCTION stripe_portal.page_word(text) IS
'A code of Stripe''s in words: too_expensive is too expensive, NULL is not known';

CREATE OR REPLACE FUNCTION stripe_portal.html_table(caption text, head text[], body jsonb, words integer DEFAULT 1)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('<div class="scroll"><table><caption>%s</caption><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>',
        stripe_portal.html_escape(caption),
        (SELECT string_agg(format('<th scope="col"%s>%s</th>', CASE WHEN n <= words THEN ' class="word"' END,
                                  stripe_portal.html_escape(name)), '' ORDER BY n)
         FROM unnest(head) WITH ORDINALITY AS h (name, n)),
        (SELECT string_agg(format('<tr>%s</tr>', (
                    SELECT string_agg(CASE
                               WHEN c.n = 1 THEN format('<th scope="row"><bdi>%s</bdi></th>', stripe_portal.html_escape(c.cell))
                               WHEN c.n <= words THEN format('<td class="word"><bdi>%s</bdi></td>', coalesce(stripe_portal.html_escape(c.cell), '&ndash;'))
                               ELSE format('<td>%s</td>', coalesce(stripe_portal.html_escape(c.cell), '&ndash;')) END, '' ORDER BY c.n)
                    FROM jsonb_array_elements_text(r.cells) WITH ORDINALITY AS c (cell, n))), E'\n' ORDER BY r.n)
         FROM jsonb_array_elements(body) WITH ORDINALITY AS r (cells, n)));
END
$$;

COMMENT ON FUNCTION stripe_portal.html_table(text, text[], jsonb, integer) IS
'A table in HTML: body is an array of rows, each an array of texts (or null, a dash); the first so many columns are words, the others numbers. Cells are escaped';

CREATE OR REPLACE FUNCTION stripe_portal.html_heat(caption text, head text[], body jsonb)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('<div class="scroll"><table class="heat"><caption>%s</caption><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>',
        stripe_portal.html_escape(caption),
        (SELECT string_agg(format('<th scope="col"%s>%s</th>', CASE WHEN n = 1 THEN ' class="word"' END,
                                  stripe_portal.html_escape(name)), '' ORDER BY n)
         FROM unnest(head) WITH ORDINALITY AS h (name, n)),
        (SELECT string_agg(format('<tr><th scope="row"><bdi>%s</bdi></th><td>%s</td>%s</tr>',
                    stripe_portal.html_escape(r.line ->> 'label'), stripe_portal.html_escape(r.line ->> 'count'), (
                    SELECT string_agg(CASE WHEN s.share IS NULL THEN '<td></td>'
                               ELSE format('<td class="h%s">%s</td>', round(10 * least(s.share::numeric, 1)), round(100 * s.share::numeric)) END,
                               '' ORDER BY s.n)
                    FROM jsonb_array_elements_text(r.line -> 'shares') WITH ORDINALITY AS s (share, n))), E'\n' ORDER BY r.n)
         FROM jsonb_array_elements(body) WITH ORDINALITY AS r (line, n)));
END
$$;

COMMENT ON FUNCTION stripe_portal.html_heat(text, text[], jsonb) IS
'A table in HTML whose cells are percentages, the darker the more: body is an array of {"label", "count", "shares": [0 to 1, or null for an empty cell]}';

CREATE OR REPLACE FUNCTION stripe_portal.html_legend(names text[], styles integer[])
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '<ul class="legend">' || string_agg(format('<li><svg aria-hidden="true" viewBox="0 0 14 14"><rect class="s%s" width="14" height="14"/></svg><bdi>%s</bdi></li>',
                                                      style, stripe_portal.html_escape(name)), '' ORDER BY n) || '</ul>'
    FROM unnest(names, styles) WITH ORDINALITY AS u (name, style, n)
$$;

COMMENT ON FUNCTION stripe_portal.html_legend(text[], integer[]) IS
'What the colours and patterns of a chart mean; styles are those of stripe_portal.page_style';

CREATE OR REPLACE FUNCTION stripe_portal.html_figure(title text, finding text, picture text, numbers text DEFAULT NULL, wide boolean DEFAULT false)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<figure%s><figcaption><h3>%s</h3><p>%s</p></figcaption>%s%s</figure>',
                  CASE WHEN wide THEN ' class="wide"' END, stripe_portal.html_escape(title), stripe_portal.html_escape(finding),
                  picture, '<details><summary>The numbers</summary>' || numbers || '</details>')
$$;

COMMENT ON FUNCTION stripe_portal.html_figure(text, text, text, text, boolean) IS
'One figure of the page: its title and what it shows in a sentence, the picture, in HTML, and the same in numbers, in HTML, if there is more to it; wide takes the whole width';
