#!/usr/bin/env python3
"""Run every query of the dashboards in examples/.

They run as the roles that README.md makes for them, with the grants that it
shows, on the year that test/page/check.py has loaded.  Grafana's macros and
variables are put in as its PostgreSQL data source does.

Usage: dashboards.py, in the top folder, with the environment set up so that psql
reaches a superuser's session.  Prints "ok NAME" or "not ok NAME" for each group
of checks.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import yaml

failures = 0


def report(name: str, wrong: list[str]) -> None:
    """Report a group of checks by those that went wrong."""
    global failures
    print(f'not ok {name}' if wrong else f'ok {name}')
    for text in wrong[:10]:
        print(f'    {text}')
    failures += bool(wrong)


def psql(script: str) -> str:
    run = subprocess.run(['psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-f', '-'], input=script, text=True,
                         encoding='utf-8', stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    return run.stdout


def rows_as(role: str, query: str) -> list[dict]:
    """What a query gives to a role that only reads, far from UTC."""
    return json.loads(psql(f"SET default_transaction_read_only = on; SET timezone = 'Pacific/Kiritimati'; SET ROLE {role};\n"
                           f"SELECT coalesce(json_agg(r), '[]') FROM (\n{query}\n) AS r;"))


def make_roles() -> None:
    grants = re.findall(r"^(?:GRANT [^;]* TO monitoring|SELECT stripe_portal_grant\('analyst', [^;]*);", Path('README.md').read_text(), re.M)
    psql('CREATE ROLE analyst; CREATE ROLE monitoring;' + '\n'.join(grants))


def filled_in(query: str, currency: str = '') -> str:
    """A query of the dashboard as Grafana sends it."""
    said = {'$__timeFrom()': "'2025-01-01T00:00:00Z'", '$__timeTo()': "'2025-12-31T23:59:59.999Z'", '${account:sqlstring}': "''",
            '${currency:sqlstring}': f"'{currency}'", '$livemode': 'true'}
    for name, value in said.items():
        query = query.replace(name, value)
    return query


def check_form(dashboard: dict) -> None:
    panels = dashboard['panels']
    wrong = [] if isinstance(dashboard['schemaVersion'], int) else ['no schemaVersion']
    wrong += [] if len({p['id'] for p in panels}) == len(panels) else ['two panels have one id']
    source = {'type': 'grafana-postgresql-datasource', 'uid': '${datasource}'}
    wrong += [f"{p['title']}: another data source" for p in panels if [p['datasource'], *(t['datasource'] for t in p['targets'])] != [source] * 2]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel['gridPos']
        cells = {(x, y) for x in range(at['x'], at['x'] + at['w']) for y in range(at['y'], at['y'] + at['h'])}
        wrong += [f"{panel['title']} is on top of another"] if cells & taken or at['x'] + at['w'] > 24 else []
        taken |= cells
    report('the Grafana dashboard is one', wrong)


def check_grafana(dashboard: dict) -> None:
    variables = {v['name']: v for v in dashboard['templating']['list']}
    currencies = [row['currency'] for row in rows_as('analyst', filled_in(variables['currency']['query']))]
    report('its currencies are those of the year', [] if sorted(currencies) == ['eur', 'jpy', 'kwd', 'usd'] else currencies)

    wrong, filled = [], 0
    for panel in dashboard['panels']:
        query, shape = panel['targets'][0]['rawSql'], panel['targets'][0]['format']
        found = []
        for currency in currencies:
            asked = filled_in(query, currency)
            try:
                found.append(rows_as('analyst', asked))
            except RuntimeError as problem:
                wrong.append(f"{panel['title']}: {problem}")
                continue
            wrong += [f"{panel['title']}: {name} is not filled in" for name in re.findall(r'\$\S+', asked)]
            if shape == 'time_series':
                times = [datetime.fromisoformat(row['time']).timestamp() for row in found[-1]]
                wrong += [f"{panel['title']}: not in the order of time"] if times != sorted(times) else []
                wrong += [f"{panel['title']}: {row}" for row in found[-1] if any(
                    not isinstance(value, (int, float, type(None))) for name, value in row.items() if name not in ('time', 'metric'))]
        filled += sum(map(len, found))
        wrong += [] if any(found) else [f"{panel['title']}: nothing is found in any currency"]
    report(f"its {len(dashboard['panels'])} panels give {filled} rows to an analyst", wrong)

    # in the currency itself, not in minor units
    bridge = next(p for p in dashboard['panels'] if p['title'] == 'MRR')['targets'][0]['rawSql']
    wrong = []
    for currency, minor in {'usd': 100, 'eur': 100, 'jpy': 1, 'kwd': 1000}.items():
        closing = json.loads(psql("SELECT json_agg(closing ORDER BY month) FROM stripe_mrr_bridge('[2025-01-01,2026-01-01)', '', true)"
                                  f" WHERE currency = '{currency}';"))
        shown = rows_as('analyst', filled_in(bridge, currency))
        wrong += [f"{currency}: {row}" for row, amount in zip(shown, closing, strict=True) if row['MRR'] != amount / minor]
        wrong += [f"{currency}: begins at {shown[0]['time']}"] if datetime.fromisoformat(shown[0]['time']).timestamp() != 1735689600 else []
    report('it shows the MRR of each month, in the currency itself', wrong)


def check_prometheus(queries: dict) -> None:
    wrong = []
    for name, entry in queries.items():
        columns = [column for metric in entry['metrics'] for column in metric]
        kinds = {column: about['usage'] for metric in entry['metrics'] for column, about in metric.items()}
        wrong += [f'{name}: {column} is not described' for metric in entry['metrics'] for column, about in metric.items() if not about['description']]
        wrong += [f'{name}: {kind}?' for kind in kinds.values() if kind not in ('LABEL', 'GAUGE', 'COUNTER')]
        try:
            # the names of the columns, also of no row
            header = psql(f"SET ROLE monitoring;\n\\pset format csv\n\\pset tuples_only off\n{entry['query'].strip()};").splitlines()[0].split(',')
            found = rows_as('monitoring', entry['query'])
        except RuntimeError as problem:
            wrong.append(f'{name}: {problem}')
            continue
        wrong += [f'{name}: columns {header}, metrics {columns}'] if header != columns else []
        labels = [tuple(row[c] for c in columns if kinds[c] == 'LABEL') for row in found]
        wrong += [f'{name}: two rows have one set of labels'] if len(set(labels)) != len(labels) else []
        wrong += [f'{name}: {row}' for row in found if any(
            not isinstance(row[c], str if kinds[c] == 'LABEL' else (int, float, type(None))) for c in columns)]
    report(f'the {len(queries)} queries for the Prometheus exporter give metrics to the role of the exporter', wrong)


def main() -> int:
    make_roles()
    dashboard = json.loads(Path('examples/grafana/churn.json').read_text())
    check_form(dashboard)
    check_grafana(dashboard)
    check_prometheus(yaml.safe_load(Path('examples/prometheus/queries.yaml').read_text()))
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
