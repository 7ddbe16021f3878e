#!/usr/bin/env python3
"""Look at the report's page in headless Chromium.

A small year (test/year.py) is loaded with hostile names of products, comments,
answers and codes.  The page must show all of it as text, run nothing, fetch
nothing, and say the same in its tables and its charts as the report functions.

Usage: check.py DIR, with the environment set up so that psql reaches a
superuser's session without the extension; the browser's driver is installed
into DIR, and screenshots are left there.  Prints "ok NAME" or "not ok NAME"
for each group of checks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
PERIOD = "'[2025-01-01,2026-01-01)', '', true"
DIGITS = {'usd': 2, 'eur': 2, 'jpy': 0, 'kwd': 3}

HOSTILE = [
    '<script>window.hacked = 1</script>',
    '"><img src="http://127.0.0.1:9/x.png" onerror="window.hacked = 1">',
    "'--></style></title></svg></table><svg onload='window.hacked = 1'>",
    '&lt;b&gt; &amp; &#60;i&#62; <!-- ]]> {{7 * 7}} %s %1$s \\',
    '\u202etxt.exe <a href="javascript:window.hacked = 1">click</a>',
    '予算がない ' + 'x' * 200,
]
# All that a page is made of.
ELEMENTS = set("""html head meta title style body header main footer nav section h1 h2 h3 p a strong small div figure figcaption
    details summary table caption thead tbody tr th td bdi ul li svg defs desc pattern rect path line circle polygon polyline text""".split())
ATTRIBUTES = set("""id class href scope role aria-hidden viewBox preserveAspectRatio patternUnits
    d x y x1 x2 y1 y2 cx cy r width height points""".split())

failures = 0


def report(name: str, wrong: list[str]) -> None:
    """Report a group of checks by those that went wrong."""
    global failures
    print(f'not ok {name}' if wrong else f'ok {name}')
    for text in wrong[:10]:
        print(f'    {text[:400]}')
    failures += bool(wrong)


def psql(script: str) -> str:
    return subprocess.run(['psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-f', '-'], input=script, check=True,
                          text=True, encoding='utf-8', stdout=subprocess.PIPE).stdout


def rows(query: str) -> list[dict]:
    return json.loads(psql(f"SET timezone = 'UTC'; SELECT coalesce(json_agg(r), '[]') FROM ({query}) AS r;"), parse_float=Decimal)


def money(amount: int | None, currency: str) -> str:
    digits = DIGITS[currency]
    return '–' if amount is None else f'{Decimal(amount).scaleb(-digits):,.{digits}f}'


def percent(share) -> str:
    return '–' if share is None else f"{(100 * Decimal(share)).quantize(Decimal('0.1'), 'ROUND_HALF_UP')} %"


def month(day: str) -> str:
    return date.fromisoformat(day[:10]).strftime('%b %y')


def word(key: str | None, otherwise: str = 'not known') -> str:
    return otherwise if key is None else key.replace('_', ' ') if re.fullmatch('[a-z_]+', key) else key


def install(folder: Path) -> None:
    """The driver of the browser, as the lock file says; it brings no browser."""
    folder.mkdir()
    for name in ('package.json', 'package-lock.json', 'look.js'):
        shutil.copy(HERE / name, folder)
    subprocess.run(['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier',
                    '--loglevel=error', '--cache', str(folder / 'cache')],
                   cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def look(folder: Path, name: str, html: str) -> dict:
    """What the browser sees of a page, by colour scheme."""
    page = folder / f'{name}.html'
    page.write_text(html, encoding='utf-8')
    return json.loads(subprocess.run(['node', 'look.js', shutil.which('chromium') or 'chromium', str(page), str(folder)],
                                     cwd=folder, check=True, text=True, encoding='utf-8', stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE).stdout)


def make_hostile(line: str, turn: int) -> str:
    """The same object or event, with hostile texts wherever there is room for one."""
    said = json.loads(line)
    subject = said.get('data', {}).get('object', said)
    hostile = HOSTILE[turn % len(HOSTILE)]
    if subject['object'] == 'product':
        subject['name'] = hostile + subject['id']
    for details in (subject.get('cancellation_details'), said.get('data', {}).get('previous_attributes', {}).get('cancellation_details')):
        if details and details.get('comment'):
            # the same each time that it is told
            details['comment'] = HOSTILE[len(details['comment']) % len(HOSTILE)]
        if details and details.get('feedback') == 'other':
            details['feedback'] = HOSTILE[0]
    return json.dumps(said).replace('new_code_of_next_year', json.dumps(HOSTILE[1])[1:-1])


def load(folder: Path) -> None:
    """A year of a small business, read from Stripe's API and received."""
    subprocess.run([sys.executable, str(HERE.parent / 'year.py'), str(folder), '300', '1'], check=True, stdout=subprocess.DEVNULL)
    for name in ('objects', 'events'):
        lines = (folder / f'{name}.jsonl').read_text().splitlines()
        (folder / f'{name}.hostile').write_text(''.join(make_hostile(line, turn) + '\n' for turn, line in enumerate(lines)))
    as_lines = "WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
    psql(f"""
        CREATE TABLE line (n integer GENERATED ALWAYS AS IDENTITY, payload jsonb);
        \\copy line (payload) FROM '{folder}/objects.hostile' {as_lines}
        SELECT count(stripe_portal.apply_object(payload, true, '', '2024-01-01Z')) FROM line;
        TRUNCATE line;
        \\copy line (payload) FROM '{folder}/events.hostile' {as_lines}
        SELECT count(stripe_portal.apply_event(payload)) FROM (SELECT payload FROM line ORDER BY n LIMIT 500) AS e;
        ANALYZE;
        SELECT count(stripe_portal.apply_event(payload)) FROM (SELECT payload FROM line ORDER BY n OFFSET 500) AS e;
        DROP TABLE line;
    """)


def expected_tables() -> dict[tuple[str, str], list[list[str]]]:
    """Every table of the page, by currency and caption, from the report functions."""
    tables: dict[tuple[str, str], list[list[str]]] = {}

    def add(row: dict, caption: str, *cells) -> None:
        currency = row['currency']
        tables.setdefault((currency, caption.replace('CURRENCY', currency.upper())), []).append(
            ['–' if cell is None else str(cell) for cell in cells])

    for r in rows(f'SELECT * FROM stripe_mrr_bridge({PERIOD}) ORDER BY month'):
        add(r, 'MRR bridge by month, in CURRENCY', month(r['month']),
            *(money(r[k], r['currency']) for k in ('opening', 'new', 'expansion', 'contraction', 'reactivation', 'pause', 'resume', 'churn', 'closing')),
            r['subscribers_opening'], r['subscribers_closing'], r['unknown'])
    for r in rows(f'SELECT * FROM stripe_churn_leak({PERIOD}) ORDER BY month'):
        add(r, 'The leak by month, in CURRENCY', month(r['month']),
            *(money(r[k], r['currency']) for k in ('cancellation_leak', 'payment_leak', 'cancellation_recovered', 'payment_recovered',
                                                   'cancellation_saved', 'payment_saved', 'recoverable')))
    reasons = rows(f"SELECT currency, key, sum(mrr) AS mrr FROM stripe_churn('reason', {PERIOD}) GROUP BY 1, 2 ORDER BY 3 DESC, 2")
    by_month = {(r['currency'], r['month'], r['key']): r['mrr'] for r in
                rows(f"SELECT currency, month, key, sum(mrr) AS mrr FROM stripe_churn('reason', {PERIOD}) GROUP BY 1, 2, 3")}
    for r in rows(f"SELECT currency, m::date AS month FROM generate_series('2025-01-01', '2025-12-01', interval '1 month') AS m,"
                  f" (SELECT DISTINCT currency FROM stripe_churn('reason', {PERIOD})) AS c ORDER BY 2"):
        add(r, 'Churned MRR by month and reason, in CURRENCY', month(r['month']),
            *(money(by_month.get((r['currency'], r['month'], reason['key']), 0), r['currency'])
              for reason in reasons if reason['currency'] == r['currency']))
    for r in rows(f"SELECT currency, key, sum(mrr) AS mrr, sum(customers) AS customers FROM stripe_churn('feedback', {PERIOD})"
                  " WHERE voluntary GROUP BY 1, 2 ORDER BY 3 DESC, 2"):
        add(r, 'What they said, in CURRENCY', word(r['key'], 'no answer'), money(r['mrr'], r['currency']), r['customers'])
    for r in rows(f"SELECT currency, p.name, sum(mrr) AS mrr, sum(customers) AS customers FROM stripe_churn('plan', {PERIOD})"
                  " JOIN stripe_portal.product AS p ON p.id = key GROUP BY 1, 2 ORDER BY 3 DESC, 2"):
        add(r, 'Churn by plan, in CURRENCY', r['name'], money(r['mrr'], r['currency']), r['customers'])
    cohorts: dict[tuple[str, str], list[str]] = {}
    for r in rows(f'SELECT * FROM stripe_retention({PERIOD}) ORDER BY cohort, months'):
        add(r, 'Customers and their MRR, in CURRENCY', month(r['cohort']), r['months'], r['customers'], r['retained'],
            money(r['mrr_start'], r['currency']), money(r['mrr_retained'], r['currency']))
        cohorts.setdefault((r['currency'], r['cohort']), [month(r['cohort']), str(r['customers'])]).append(
            str((100 * Decimal(r['retained']) / r['customers']).quantize(Decimal(1), 'ROUND_HALF_UP')))
    for (currency, _), cells in cohorts.items():
        # as wide as the cohort that can be followed longest
        width = max(len(others) for (other, _), others in cohorts.items() if other == currency)
        add({'currency': currency}, 'Customers who stayed, in percent', *cells, *[''] * (width - len(cells)))
    for r in rows(f'SELECT * FROM stripe_decline_report({PERIOD}) ORDER BY amount DESC, code'):
        add(r, 'Declined payments by code, in CURRENCY', word(r['code']), r['class'] + ('' if r['known'] else ' (unknown code)'), r['attempts'],
            percent(r['share']), r['payments'], money(r['amount'], r['currency']), r['recovered'], money(r['recovered_amount'], r['currency']))
    for r in rows(f'SELECT * FROM stripe_decline_recovery({PERIOD}) ORDER BY code, attempt'):
        add(r, 'Recovery by code and attempt, in CURRENCY', word(r['code']), r['attempt'], r['failed'], r['recovered'], percent(r['rate']),
            money(r['amount'], r['currency']), money(r['recovered_amount'], r['currency']))
    for r in rows("SELECT * FROM (SELECT r.*, row_number() OVER (PARTITION BY r.currency ORDER BY mrr DESC NULLS LAST, customer) AS n"
                  " FROM stripe_at_risk('', true) AS r) AS r WHERE n <= 10 ORDER BY n"):
        add(r, 'Subscriptions at risk now, in CURRENCY', r['customer'], word(r['code']), r['since'][:10], money(r['mrr'], r['currency']),
            money(r['amount_due'], r['currency']))
    for r in rows("SELECT * FROM (SELECT r.*, p.name, row_number() OVER (PARTITION BY r.currency ORDER BY at DESC, subscription) AS n"
                  f" FROM stripe_cancel_comments(NULL, {PERIOD}) AS r JOIN stripe_portal.product AS p ON p.id = plan) AS r WHERE n <= 10 ORDER BY n"):
        add(r, 'Comments, with the MRR in CURRENCY', r['at'][:10], r['name'], word(r['feedback'], 'no answer'), r['comment'],
            money(r['mrr'], r['currency']))
    return tables


def check_tables(tables: list[dict]) -> None:
    expected = expected_tables()
    shown = {(t['currency'], t['caption']): t for t in tables}
    wrong = [f'{key} is missing' for key in expected.keys() - shown.keys()] + [f'{key} is too much' for key in shown.keys() - expected.keys()]
    for key in expected.keys() & shown.keys():
        table = shown[key]
        if not table['scoped'] or {len(row) for row in table['rows']} != {len(table['head'])}:
            wrong.append(f'{key}: heads and cells do not match')
        if len(table['rows']) != len(expected[key]):
            wrong.append(f"{key}: {len(table['rows'])} rows, not {len(expected[key])}")
        wrong += [f'{key}: {cells}, not {true}' for cells, true in zip(table['rows'], expected[key]) if cells != true]
    report(f'{len(expected)} tables with {sum(map(len, expected.values()))} rows are what the functions say', wrong)


def expected_parts() -> dict[tuple[str, str], dict[str, int]]:
    """Every chart of the page, by currency and title: the amount of each of its parts by name."""
    charts: dict[tuple[str, str], dict[str, int]] = {}

    def add(currency: str, chart: str, part: str, amount: int) -> None:
        parts = charts.setdefault((currency, chart), {})
        parts[part] = parts.get(part, 0) + amount

    for r in rows(f'SELECT * FROM stripe_mrr_bridge({PERIOD})'):
        for k in ('new', 'expansion', 'reactivation', 'resume', 'contraction', 'pause', 'churn'):
            add(r['currency'], 'MRR bridge by month', f"{month(r['month'])}, {k}", r[k])
        add(r['currency'], 'MRR bridge by month', f"{month(r['month'])}, net", r['closing'] - r['opening'])
    for r in rows(f'SELECT * FROM stripe_churn_leak({PERIOD})'):
        for name, amount in (('came back', r['cancellation_recovered'] + r['payment_recovered']),
                             ('saved before it leaked', r['cancellation_saved'] + r['payment_saved']),
                             ('lost to cancellations', -r['cancellation_leak']), ('lost to failed payments', -r['payment_leak'])):
            add(r['currency'], 'The leak by month', f"{month(r['month'])}, {name}", amount)
    for r in rows(f"SELECT * FROM stripe_churn('reason', {PERIOD})"):
        add(r['currency'], 'Churned MRR by month and reason', f"{month(r['month'])}, {word(r['key'])}", r['mrr'])
    for r in rows(f"SELECT * FROM stripe_churn('feedback', {PERIOD}) WHERE voluntary"):
        add(r['currency'], 'What they said', word(r['key'], 'no answer'), r['mrr'])
    for r in rows(f"SELECT r.*, p.name FROM stripe_churn('plan', {PERIOD}) AS r JOIN stripe_portal.product AS p ON p.id = key"):
        add(r['currency'], 'Churn by plan', r['name'], r['mrr'])
    for r in rows(f'SELECT * FROM stripe_decline_report({PERIOD})'):
        add(r['currency'], 'Declined payments by code', word(r['code']), r['amount'])
        add(r['currency'], 'Declined payments by code', word(r['code']) + ' of it', r['recovered_amount'])
    for r in rows(f'SELECT * FROM stripe_decline_recovery({PERIOD})'):
        add(r['currency'], 'Failed payments by attempt', f"attempt {r['attempt']}, came in after all", r['recovered_amount'])
        add(r['currency'], 'Failed payments by attempt', f"attempt {r['attempt']}, did not", r['amount'] - r['recovered_amount'])
    return charts


def check_charts(charts: list[dict]) -> None:
    expected = expected_parts()
    shown = {(c['currency'], c['title']): c for c in charts if c['parts']}
    wrong = [f'{key} is missing' for key in expected.keys() - shown.keys()] + [f'{key} is too much' for key in shown.keys() - expected.keys()]
    for key in expected.keys() & shown.keys():
        currency, parts = key[0], shown[key]['parts']
        upright = not key[1] in ('What they said', 'Churn by plan', 'Declined payments by code')
        said = {}
        for part in parts:
            name, amount, of_it = re.fullmatch(r'(.*): (-?[\d,.]+)( of it)?', part['title'], re.DOTALL).groups()
            said[name + (of_it or '')] = amount
        # what is nothing need not be drawn
        true = {name: money(amount, currency) for name, amount in expected[key].items() if amount or name.endswith((', net', ' of it'))}
        if said != true:
            wrong.append(f'{key}: {sorted(set(said.items()) ^ set(true.items()))[:4]}')
        layers = {re.fullmatch(r'.*, (.*?)', name)[1] for name in expected[key]} if upright else None
        if upright and set(shown[key]['legend']) != layers:
            wrong.append(f"{key}: the legend is {shown[key]['legend']}")
        if not shown[key]['description']:
            wrong.append(f'{key} is not described')

        # as large as its amount
        sizes = [(part['height'] if upright else part['width'], abs(Decimal(amount.replace(',', ''))))
                 for part, amount in zip(parts, said.values()) if part['name'] == 'rect']
        largest, most = max(sizes)
        wrong += [f'{key}: {size} for {amount}' for size, amount in sizes if abs(size - largest * float(amount / most)) > 0.02]
        # and on top of one another, from zero
        stacks: dict[tuple[str, bool], list[tuple[float, float]]] = {}
        for part in parts:
            if upright and part['name'] == 'rect':
                stack = part['title'].split(', ')[0], ': -' in part['title']
                stacks.setdefault(stack, []).append((part['y'], part['y'] + part['height']))
        for stack, pieces in stacks.items():
            pieces.sort()
            if any(abs(above[1] - below[0]) > 0.03 for above, below in zip(pieces, pieces[1:])):
                wrong.append(f'{key}: the parts of {stack[0]} do not join')
    report(f'{len(expected)} charts with {sum(map(len, expected.values()))} parts are as large as the functions say', wrong)


def check_quiet(name: str, seen: dict) -> None:
    """No console message, no request but for the page itself, nothing that is not a page's."""
    for scheme, page in seen.items():
        wrong = [f'the console says {text}' for text in page['console']]
        wrong += [f'a request for {url}' for url in page['requests'] if not url.endswith(f'/{name}.html')]
        wrong += [f'an element {e}' for e in set(page['elements']) - ELEMENTS] + [f'an attribute {a}' for a in set(page['attributes']) - ATTRIBUTES]
        wrong += ['a script ran'] if 'hacked' in page else []
        wrong += [f"read as {page['charset']}"] if page['charset'] != 'UTF-8' else []
        report(f'the {name} page in {scheme}: no console message, no request, nothing but text, tables and charts', wrong)


def check_seen(folder: Path, seen: dict) -> None:
    wrong = []
    for scheme, page in seen.items():
        picture, paper = (folder / f'full-{scheme}.png').read_bytes(), (folder / f'full-{scheme}.pdf').read_bytes()
        wrong += [] if picture.startswith(b'\x89PNG') and len(picture) > 50000 else [f'no picture in {scheme}']
        wrong += [] if paper.startswith(b'%PDF') and len(paper) > 20000 else [f'no print in {scheme}']
        wrong += [f"{page['overflow']} pixels too wide for a telephone"] if page['overflow'] > 0 else []
        for kind, least in (('text', 4.5), ('heat', 4.5), ('parts', 3)):
            wrong += [f'{scheme}: contrast of {what} is {ratio:.2f}' for what, ratio in page['contrasts'][kind].items() if ratio < least]
    if seen['light']['background'] == seen['dark']['background']:
        wrong.append('dark is as light')
    report('it can be seen: in light, in dark, on paper, on a telephone, with enough contrast', wrong)


def main() -> int:
    folder = Path(sys.argv[1])
    install(folder)
    psql('CREATE EXTENSION stripe_portal;')
    empty = look(folder, 'empty', psql('SELECT stripe_churn_report();'))
    check_quiet('empty', empty)
    report('an empty database has a page that says so',
           [] if 'There is nothing yet' in empty['light']['text'] and not empty['light']['tables'] else [empty['light']['text']])

    load(folder)
    html = psql(f'SELECT stripe_churn_report({PERIOD});')
    full = look(folder, 'full', html)
    check_quiet('full', full)
    report('hostile names, comments and codes are shown as text',
           [f'{text!r} is not' for text in HOSTILE if text not in full['light']['text']])
    report('each currency has its part',
           [] if sorted(full['light']['currencies']) == sorted(DIGITS) else full['light']['currencies'])
    check_tables(full['light']['tables'])
    check_charts(full['light']['charts'])
    check_seen(folder, full)

    # What would have been noticed.
    leaky = look(folder, 'leaky', html.replace('<main>', '<main><img src="http://127.0.0.1:9/x.png"><script>window.hacked = 1</script>'))
    report('a page with a script and a picture would be noticed, and neither would be let in',
           [f'in {scheme}' for scheme, page in leaky.items() if len(page['console']) < 2 or 'hacked' in page])
    return 1 if failures else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as problem:
        sys.exit(f'{problem.cmd[0]} failed')
