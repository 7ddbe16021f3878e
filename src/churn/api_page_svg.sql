-- churn: the charts of the report's page, in SVG.
--
-- A chart has a title and a description for those who do not see it, and each
-- of its parts a title with the exact amount, which shows when pointed at.
-- The classes s1 to s8 are colours with patterns, s9 is a dot; see page_style and page_patterns.

CREATE OR REPLACE FUNCTION stripe_portal.svg_chart(title text, description text, width integer, height integer, content text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<svg class="chart" role="img" viewBox="0 0 %s %s"><title>%s</title><desc>%s</desc>%s</svg>',
                  width, height, stripe_portal.html_escape(title), stripe_portal.html_escape(description), content)
$$;

COMMENT ON FUNCTION stripe_portal.svg_chart(text, text, integer, integer, text) IS
'A picture in SVG around its content';

CREATE OR REPLACE FUNCTION stripe_portal.svg_number(value numeric)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(round(value, 2))::text;

COMMENT ON FUNCTION stripe_portal.svg_number(numeric) IS
'A coordinate in SVG, to a hundredth';

CREATE OR REPLACE FUNCTION stripe_portal.chart_step(height numeric)
RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rough CONSTANT numeric := greatest(height, 60) / 6;
    power CONSTANT numeric := trim_scale(10 ^ floor(log(rough)));
BEGIN
    RETURN power * CASE WHEN rough <= power THEN 1 WHEN rough <= 2 * power THEN 2 WHEN rough <= 5 * power THEN 5 ELSE 10 END;
END
$$;

COMMENT ON FUNCTION stripe_portal.chart_step(numeric) IS
'The distance of the lines of a grid, a round number, so that there are about five in a height';

CREATE OR REPLACE FUNCTION stripe_portal.svg_columns(
    title text, description text, columns text[], layers text[], styles integer[], points jsonb, currency text, net boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT numeric := 600;
    gutter CONSTANT numeric := 46;      -- for what is written at the axis
    top CONSTANT numeric := 10;
    bottom CONSTANT numeric := 252;
    band CONSTANT numeric := (width - gutter) / cardinality(columns);
    bar CONSTANT numeric := least(0.72 * band, 56);
    low numeric;
    high numeric;
    step numeric;
    scale numeric;      -- pixels per minor unit
    zero numeric;       -- where nothing is
    content text;
BEGIN
    SELECT coalesce(min(down), 0), coalesce(max(up), 0) INTO low, high
    FROM (SELECT sum(least(p.value, 0)) AS down, sum(greatest(p.value, 0)) AS up
          FROM jsonb_to_recordset(points) AS p (x text, value numeric)
          GROUP BY p.x) AS stack;
    step := stripe_portal.chart_step(high - low);
    low := step * floor(low / step);
    high := greatest(step * ceil(high / step), low + step);
    scale := (bottom - top) / (high - low);
    zero := bottom + low * scale;

    SELECT string_agg(format('<line class="%1$s" x1="%2$s" x2="%3$s" y1="%4$s" y2="%4$s"/><text class="axis" x="%5$s" y="%6$s">%7$s</text>',
               CASE WHEN level = 0 THEN 'zero' ELSE 'grid' END, gutter, width, stripe_portal.svg_number(zero - level * scale),
               gutter - 6, stripe_portal.svg_number(zero - level * scale + 4), stripe_portal.money_short(level, currency)), '' ORDER BY level)
    INTO content
    FROM generate_series(low, high, step) AS level;

    -- what adds grows upwards from zero, what takes away downwards
    content := content || coalesce((
        SELECT string_agg(format('<rect class="s%s" x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>',
                   styles[s.layer_n], stripe_portal.svg_number(gutter + (s.column_n - 1) * band + (band - bar) / 2),
                   stripe_portal.svg_number(zero - scale * CASE WHEN s.value > 0 THEN s.reached ELSE s.reached - s.value END),
                   stripe_portal.svg_number(bar), stripe_portal.svg_number(scale * abs(s.value)),
                   stripe_portal.html_escape(format('%s, %s: %s', columns[s.column_n], layers[s.layer_n],
                                                    stripe_portal.money(s.value, currency)))), E'\n' ORDER BY s.column_n, s.layer_n)
        FROM (SELECT place.*, sum(value) OVER (PARTITION BY column_n, value > 0 ORDER BY layer_n) AS reached
              FROM (SELECT array_position(columns, p.x) AS column_n, array_position(layers, p.layer) AS layer_n, sum(p.value) AS value
                    FROM jsonb_to_recordset(points) AS p (x text, layer text, value numeric)
                    GROUP BY 1, 2) AS place
              WHERE value <> 0) AS s), '');

    IF net THEN
        content := content || coalesce((
            SELECT string_agg(format('<circle class="net" cx="%s" cy="%s" r="5"><title>%s</title></circle>',
                       stripe_portal.svg_number(gutter + (n - 0.5) * band), stripe_portal.svg_number(zero - scale * value),
                       stripe_portal.html_escape(format('%s, net: %s', name, stripe_portal.money(value, currency)))), E'\n' ORDER BY n)
            FROM (SELECT name, n, (SELECT coalesce(sum(p.value), 0) FROM jsonb_to_recordset(points) AS p (x text, value numeric)
                                   WHERE p.x = name) AS value
                  FROM unnest(columns) WITH ORDINALITY AS c (name, n)) AS total), '');
    END IF;

    content := content || (
        SELECT string_agg(format('<text class="label" x="%s" y="%s">%s</text>', stripe_portal.svg_number(gutter + (n - 0.5) * band),
                                 bottom + 20, stripe_portal.html_escape(name)), '' ORDER BY n)
        FROM unnest(columns) WITH ORDINALITY AS c (name, n));

    RETURN stripe_portal.svg_chart(title, description, width::integer, bottom::integer + 28, content)
        || CASE WHEN net THEN stripe_portal.html_legend(layers || 'net'::text, styles || 9)
                ELSE stripe_portal.html_legend(layers, styles) END;
END
$$;

COMMENT ON FUNCTION stripe_portal.svg_columns(text, text, text[], text[], integer[], jsonb, text, boolean) IS
'A chart of stacked columns with its legend, in HTML: points is an array of {"x", "layer", "value"} with amounts in minor units of the currency; positive ones are stacked upwards, negative ones downwards, in the order of layers; x is one of columns, and styles has the style of each layer. net marks the sum of each column';

CREATE OR REPLACE FUNCTION stripe_portal.svg_bars(title text, description text, points jsonb, style integer, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT integer := 600;
    gutter CONSTANT numeric := 180;     -- for the names
    place CONSTANT numeric := 95;      -- for the amounts
    line CONSTANT numeric := 26;
    scale CONSTANT numeric := (width - gutter - place) / greatest(1, (
        SELECT max(p.value) FROM jsonb_to_recordset(points) AS p (value numeric)));
BEGIN
    RETURN stripe_portal.svg_chart(title, description, width, (jsonb_array_length(points) * line)::integer + 4, (
        SELECT string_agg(format('<text class="name" x="%1$s" y="%2$s">%3$s</text>'
                   '<rect class="s%4$s" x="%5$s" y="%6$s" width="%7$s" height="18"><title>%8$s</title></rect>%9$s'
                   '<text class="value" x="%10$s" y="%2$s">%11$s</text>',
                   gutter - 8, (n - 1) * line + 17,
                   stripe_portal.html_escape(CASE WHEN length(p.label) > 24 THEN left(p.label, 22) || '...' ELSE p.label END),
                   style, gutter, (n - 1) * line + 4, stripe_portal.svg_number(p.value * scale),
                   stripe_portal.html_escape(format('%s: %s', p.label, stripe_portal.money(p.value, currency))),
                   -- a part of it, inside
                   CASE WHEN p.part IS NULL THEN ''
                       ELSE format('<rect class="s2" x="%s" y="%s" width="%s" height="18"><title>%s</title></rect>',
                           gutter, (n - 1) * line + 4, stripe_portal.svg_number(p.part * scale),
                           stripe_portal.html_escape(format('%s: %s of it', p.label, stripe_portal.money(p.part, currency)))) END,
                   stripe_portal.svg_number(gutter + p.value * scale + 8), stripe_portal.money(p.value, currency)), E'\n' ORDER BY n)
        FROM jsonb_array_elements(points) WITH ORDINALITY AS u (point, n),
             jsonb_to_record(point) AS p (label text, value numeric, part numeric)));
END
$$;

COMMENT ON FUNCTION stripe_portal.svg_bars(text, text, jsonb, integer, text) IS
'A chart of horizontal bars: points is an array of {"label", "value", "part"} with amounts in minor units of the currency; part, if there is one, is a part of the value';

CREATE OR REPLACE FUNCTION stripe_portal.svg_spark(title text, amounts numeric[])
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT integer := 160;
    height CONSTANT integer := 40;
    -- from zero, or it would say more than there is
    high CONSTANT numeric := greatest(1, (SELECT max(a) FROM unnest(amounts) AS a));
    line CONSTANT text := (
        SELECT string_agg(stripe_portal.svg_number((n - 1) * width::numeric / greatest(cardinality(amounts) - 1, 1)) || ','
                          || stripe_portal.svg_number(height - 2 - greatest(a, 0) / high * (height - 4)), ' ' ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (a, n));
BEGIN
    RETURN format('<svg class="spark" role="img" preserveAspectRatio="none" viewBox="0 0 %1$s %2$s"><title>%3$s</title><polygon points="0,%2$s %4$s %1$s,%2$s"/><polyline points="%4$s"/></svg>',
                  width, height, stripe_portal.html_escape(title), line);
END
$$;

COMMENT ON FUNCTION stripe_portal.svg_spark(text, numeric[]) IS
'A small line of amounts over time, from zero';
