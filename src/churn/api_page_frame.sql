-- churn: the frame of the report's page, and how it looks.

CREATE OR REPLACE FUNCTION stripe_portal.page_style()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN $css$
:root {
    color-scheme: light dark;
    --page: #f5f6f8; --card: #fff; --ink: #1a1d21; --soft: #565d67; --line: #d9dde3; --texture: rgb(255 255 255 / 45%); --heat: 6.5%;
    --c1: #2563a8; --c2: #1a8a7d; --c3: #4a8536; --c4: #4b88bf; --c5: #b07d0a; --c6: #8559ad; --c7: #c03e28; --c8: #6d747e;
}
@media screen and (prefers-color-scheme: dark) {
    :root {
        --page: #101317; --card: #191d23; --ink: #eceef1; --soft: #a7afba; --line: #333a44; --texture: rgb(0 0 0 / 40%); --heat: 5%;
        --c1: #6ea8e6; --c2: #4cc4b4; --c3: #8bcb74; --c4: #9cc3ea; --c5: #e6b84a; --c6: #bfa3dd; --c7: #f0836d; --c8: #a0a6b0;
    }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 82rem; padding: 2rem 1.5rem; background: var(--page); color: var(--ink);
    font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
header p, footer, figcaption p, .tile small, caption { color: var(--soft); }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 3px solid var(--c1); font-size: 1.45rem; }
h3 { margin: 0; font-size: 1.05rem; }
p { margin: .25rem 0; }
nav a { display: inline-block; margin: .5rem .5rem 0 0; padding: .2rem .9rem; border: 1px solid var(--line); border-radius: 1rem;
    background: var(--card); color: var(--c1); font-weight: 600; text-decoration: none; }
.tiles, .figures { display: grid; gap: 1rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); margin-bottom: 1rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(min(34rem, 100%), 1fr)); }
.tile, figure { margin: 0; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: .6rem; background: var(--card); break-inside: avoid; }
.tile { display: flex; flex-direction: column; }
.tile strong { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile small { display: block; font-size: .85rem; }
.spark { display: block; width: 100%; height: 2.5rem; margin-top: auto; padding-top: .4rem; }
.spark polygon { fill: var(--c1); opacity: .18; }
.spark polyline { fill: none; stroke: var(--c1); stroke-width: 2; vector-effect: non-scaling-stroke; }
figcaption { margin-bottom: .75rem; }
.chart { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.chart .axis, .chart .name { text-anchor: end; }
.chart .label { text-anchor: middle; }
.chart .name { fill: var(--ink); font-size: 12.5px; }
.chart .value { fill: var(--ink); }
.grid { stroke: var(--line); }
.zero { stroke: var(--soft); }
.chart rect { stroke: var(--card); }
.net { fill: var(--ink); stroke: var(--card); stroke-width: 2; }
.s1 { fill: var(--c1); }
.s2 { fill: url(#p2); } .s3 { fill: url(#p3); } .s4 { fill: url(#p4); } .s5 { fill: url(#p5); }
.s6 { fill: url(#p6); } .s7 { fill: url(#p7); } .s8 { fill: url(#p8); }
.s9 { rx: 50%; fill: var(--ink); }
.f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); } .f4 { fill: var(--c4); }
.f5 { fill: var(--c5); } .f6 { fill: var(--c6); } .f7 { fill: var(--c7); } .f8 { fill: var(--c8); }
.texture { fill: none; stroke: var(--texture); stroke-width: 1.6; }
.patterns { position: absolute; width: 0; height: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: .5rem 0 0; padding: 0; list-style: none; font-size: .85rem; }
.legend svg { width: .9rem; height: .9rem; margin-right: .4rem; vertical-align: -.1rem; }
details { margin-top: .6rem; font-size: .85rem; }
summary { color: var(--c1); cursor: pointer; }
.scroll { overflow-x: auto; }
table { width: 100%; margin-top: .5rem; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: .25rem 0; text-align: left; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
tbody th { font-weight: 400; }
.word, tbody th { text-align: left; }
td.word, tbody th { min-width: 6rem; white-space: normal; overflow-wrap: anywhere; }
.heat { font-size: .85rem; }
.heat td { border: 1px solid var(--card); }
.heat td, .heat thead th:not(.word) { text-align: center; }
.wide { grid-column: 1 / -1; }
.h0 { --n: 0; } .h1 { --n: 1; } .h2 { --n: 2; } .h3 { --n: 3; } .h4 { --n: 4; } .h5 { --n: 5; }
.h6 { --n: 6; } .h7 { --n: 7; } .h8 { --n: 8; } .h9 { --n: 9; } .h10 { --n: 10; }
td[class^=h] { background: color-mix(in srgb, var(--c1) calc(var(--n) * var(--heat)), var(--card)); }
.nothing { padding: 3rem; border: 1px dashed var(--line); border-radius: .6rem; text-align: center; }
footer { margin-top: 2.5rem; font-size: .85rem; }
@media print {
    @page { margin: 14mm; }
    :root { --page: #fff; --ink: #000; --soft: #444; --line: #ccc; font-size: 10px; }
    body { padding: 0; max-width: none; font-size: 1rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
    nav, details:not([open]) { display: none; }
    section + section { break-before: page; }
    .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); }
    .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
    .tile, figure { padding: .8rem 1rem; }
}
$css$;

COMMENT ON FUNCTION stripe_portal.page_style() IS
'The style sheet of the report''s page, for screens in light and dark, and for paper';

CREATE OR REPLACE FUNCTION stripe_portal.page_patterns()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '<svg class="patterns" aria-hidden="true"><defs>' || string_agg(format(
               '<pattern id="p%1$s" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="f%1$s" width="8" height="8"/><path class="texture" d="%2$s"/></pattern>',
               n, path), '' ORDER BY n) || '</defs></svg>'
    FROM (VALUES (2, 'M-2 2l4-4M0 8l8-8M6 10l4-4'), (3, 'M2 2h2M6 6h2'), (4, 'M-2 6l4 4M0 0l8 8M6-2l4 4'), (5, 'M0 4h8'),
                 (6, 'M0 0l8 8M0 8l8-8'), (7, 'M4 0v8'), (8, 'M4 0v8M0 4h8')) AS p (n, path)
$$;

COMMENT ON FUNCTION stripe_portal.page_patterns() IS
'What tells the colours of the charts apart without colours';

CREATE OR REPLACE FUNCTION stripe_portal.page_document(title text, body text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- nothing but this style sheet is let in
    SELECT format('<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''sha256-%s''; base-uri ''none''; form-action ''none''">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>%s</style>
</head>
<body>
%s
</body>
</html>',
        encode(sha256(convert_to(stripe_portal.page_style(), 'UTF8')), 'base64'),
        stripe_portal.html_escape(title), stripe_portal.page_style(), body)
$$;

COMMENT ON FUNCTION stripe_portal.page_document(text, text) IS
'A whole document in HTML around its body, in which nothing runs and which fetches nothing';
