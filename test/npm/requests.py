#!/usr/bin/env python3
"""Compare the requests of the extension with those of Stripe's official client.

Both say the same to the stand-in, about portal sessions and configurations;
method, path, parameters and the headers that matter must be the same, and
every parameter, and every value of those that are one of a list, must have
been said.

Usage: with_stripe requests.py DIR, where check.py has installed the client,
with the environment set up so that psql reaches a superuser's session.  Prints
"ok NAME" or "not ok NAME" for each group of checks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import cases  # noqa: E402
from stand_in import parameters as known  # noqa: E402
from stand_in.server import API_KEY  # noqa: E402

# Stripe refuses it, though its list has it.
NOT_FOR_US = {('features[subscription_cancel][proration_behavior]', 'always_invoice')}

failures = 0


def report(name: str, wrong: list[str]) -> None:
    """Report a group of checks by those that went wrong."""
    global failures
    print(f'not ok {name}' if wrong else f'ok {name}')
    for text in wrong[:10]:
        print(f'    {text}')
    failures += bool(wrong)


def psql(script: str) -> list[str]:
    """The lines that a script prints."""
    return subprocess.run(['psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-f', '-'], input=script, check=True,
                          text=True, encoding='utf-8', stdout=subprocess.PIPE).stdout.splitlines()


def literal(value) -> str:
    """Text, or anything as jsonb, as an SQL expression, whatever it contains."""
    if value is None or isinstance(value, bool):
        return str(value or value is False and 'false' or 'NULL')
    if isinstance(value, str):
        return f"convert_from('\\x{value.encode().hex()}'::bytea, 'UTF8')"
    return literal(json.dumps(value)) + '::jsonb'


# A statement, and the requests that left because of it.
RECORDED = """
CREATE FUNCTION pg_temp.recorded(prepare text, statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    -- another second begins at Stripe's
    PERFORM stripe_api('POST', '/v1/test_helpers/stand_in/clock', '{"advance": 2}');
    IF prepare IS NOT NULL THEN
        EXECUTE prepare;
    END IF;
    PERFORM stripe_api('POST', '/v1/test_helpers/stand_in/reset');
    EXECUTE statement;
    RETURN stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data';
END
$$;
SET client_min_messages = error;
"""


def record(statements: list[tuple[str | None, str]]) -> list[list[dict]]:
    """The requests that the extension sends because of each statement."""
    answers = psql(RECORDED + ''.join(f'SELECT pg_temp.recorded({literal(prepare)}, {literal(statement)});\n'
                                      for prepare, statement in statements))
    return [json.loads(answer) for answer in answers]


def client(folder: Path, version: str, calls: list[dict]) -> list[dict]:
    """The requests that the official client sends, one for each call."""
    shutil.copy(HERE / 'requests.js', folder)
    psql("SELECT FROM stripe_api('POST', '/v1/test_helpers/stand_in/reset');")
    said = {'version': version, 'key': API_KEY, 'url': os.environ['STRIPE_STAND_IN_URL'], 'calls': calls}
    outcomes = json.loads(subprocess.run(
        ['node', 'requests.js'], cwd=folder, input=json.dumps(said), check=True, text=True, encoding='utf-8',
        stdout=subprocess.PIPE, env={**os.environ, 'NODE_EXTRA_CA_CERTS': os.environ['STRIPE_STAND_IN_CA']}).stdout)
    report('the official client has its calls answered',
           [f'{problem}: {said}' for problem, said in zip(outcomes, calls, strict=True) if problem])
    return json.loads(psql("SELECT stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data';")[0])


def pairs(request: dict) -> list[tuple[str, str]]:
    """The names and values of a request's parameters, decoded; jsonb has an order of its own."""
    return sorted(parse_qsl(request['body'] or request['query'], keep_blank_values=True, strict_parsing=False))


def essence(request: dict) -> dict:
    """What has to be the same."""
    headers = request['headers']
    same = ['authorization', 'accept', 'stripe-version', 'stripe-account', 'stripe-context']
    if request['method'] == 'POST':
        same.append('content-type')
    return {'method': request['method'], 'path': request['path'], 'in the body': bool(request['body']),
            'parameters': pairs(request), 'idempotent': 'idempotency-key' in headers,
            **{name: headers.get(name) for name in same}}


def compare(name: str, ours: list[dict], theirs: list[dict]) -> None:
    wrong = [] if len(ours) == len(theirs) else [f'{len(ours)} requests of ours, {len(theirs)} of the client']
    for our, their in zip(ours, theirs):
        a, b = essence(our), essence(their)
        wrong += [f"{our['method']} {our['path']}: {key}: {a[key]!r}, the client {b[key]!r}" for key in a if a[key] != b[key]]
    wrong += [f"{r['method']} {r['path']}: answered {r['status']}" for r in ours if r['status'] != 200]
    report(f'{len(ours)} requests {name} are those of the official client', wrong)


def session_statement(params: dict, account: str | None) -> str:
    """The same session in SQL: the arguments say what options may not."""
    options = {name: value for name, value in params.items() if name not in ('customer', 'return_url', 'flow_data')}
    flow = subscription = None
    if 'flow_data' in params:
        data = dict(params['flow_data'])
        flow = data.pop('type')
        own = dict(data.pop(flow, {}))
        subscription = own.pop('subscription', None)
        data.update({flow: own} if own else {})
        options.update({'flow_data': data} if data else {})
    if account:
        options['account'] = account
    return ('SELECT stripe_portal_session(' +
            ', '.join(literal(value) for value in (params['customer'], params.get('return_url'), flow, subscription)) +
            f', {literal(options)})')


def declare(declaration: dict) -> str:
    return ('SELECT stripe_portal_configure(' +
            ', '.join(f'{name} => {literal(value)}' for name, value in declaration.items()) + ')')


def apply(declaration: dict) -> str:
    return f"SELECT stripe_portal_configuration_apply({literal(declaration['name'])}, {literal(declaration.get('account', ''))})"


def api_statement(call: dict) -> str:
    *path, params = call['arguments']
    return ('SELECT stripe_api(' + literal('POST' if call['method'] in ('create', 'update') else 'GET') + ', ' +
            literal('/'.join(['/v1/billing_portal/configurations', *path])) +
            f", {literal(params)}, {literal(call['account'])})")


def flattened(parameters: dict, prefix: str = '') -> dict[str, tuple]:
    """Names of parameters as they are sent, with [] for any position, and the words that one takes."""
    names = {}
    for name, kind in parameters.items():
        name = name.rstrip('*+-~')
        name = f'{prefix}[{name}]' if prefix else name
        if isinstance(kind, list):
            name, kind = name + '[]', kind[0]
        if isinstance(kind, dict):
            names.update(flattened(kind, name))
        elif kind == 'metadata':
            names[name + '[*]'] = ()
        else:
            names[name] = kind if isinstance(kind, tuple) else ()
    return names


def check_covered(name: str, requests: list[dict], parameters: dict, words_in: list[dict] | None = None) -> None:
    """Every parameter was said in these requests, and every word it takes in them or the others."""
    def said(where: list[dict]) -> set[tuple[str, str]]:
        return {(re.sub(r'^metadata\[.*\]$', 'metadata[*]', re.sub(r'\[\d+\]', '[]', key)), value)
                for request in where for key, value in pairs(request)}

    names = flattened(parameters)
    here, words = said(requests), said(words_in or requests)
    missing = [f'{key} is not compared' for key in sorted(names.keys() - {key for key, _ in here})]
    missing += [f'{key}={word} is not compared' for key, kind in names.items() for word in kind
                if (key, word) not in words | NOT_FOR_US]
    report(f'every one of the {len(names)} parameters {name} is compared', missing)


def main() -> int:
    folder = Path(sys.argv[1])
    psql(cases.PREPARE)
    # the first function that is called loads the library, and with it the setting
    _, version, item = psql('SELECT stripe_is_active(NULL); SHOW stripe_portal.api_version;'
                            " SELECT id FROM stripe_portal.subscription_item WHERE account = '';")
    promotion_code = psql("SELECT stripe_api('POST', '/v1/promotion_codes',"
                          " '{\"promotion\": {\"type\": \"coupon\", \"coupon\": \"STAY20\"}}') ->> 'id';")[0]

    sessions = cases.sessions(item, promotion_code, known.LOCALES)
    our_sessions = [request for sent in record([(None, session_statement(*session)) for session in sessions])
                    for request in sent]
    our_reads = [request for sent in record([(None, api_statement(call)) for call in cases.READ]) for request in sent]
    steps = []
    for _, declaration, prepare, _ in cases.DECLARED:
        steps.append((prepare, declare(declaration)))
        steps.append((None, apply(declaration)))
    our_steps = record(steps)[1::2]

    made = psql("SELECT stripe_id FROM stripe_portal.configuration WHERE name = 'standard';")[0]
    calls = [{'resource': 'sessions', 'method': 'create', 'arguments': [params], 'account': account}
             for params, account in sessions]
    calls += cases.READ
    calls += [{**call, 'arguments': [made if a == 'ID' else a for a in call['arguments']]}
              for *_, by_client in cases.DECLARED for call in by_client]
    theirs = client(folder, version, calls)

    def take(count: int) -> list[dict]:
        taken = theirs[:count]
        del theirs[:count]
        return taken

    compare('for sessions', our_sessions, take(len(sessions)))
    compare('by stripe_api', our_reads, take(len(cases.READ)))
    for (name, _, _, by_client), ours in zip(cases.DECLARED, our_steps, strict=True):
        compare(f'for a configuration, {name},', ours, take(len(by_client)))

    ours = our_sessions + our_reads + [request for sent in our_steps for request in sent]
    keys = [request['headers']['idempotency-key'] for request in ours if request['method'] == 'POST']
    report(f'{len(keys)} idempotency keys differ', [key for key in set(keys) if keys.count(key) > 1])

    base = '/v1/billing_portal/configurations'
    written = [r for r in ours if r['method'] == 'POST' and r['path'].startswith(base)]
    check_covered('of sessions', our_sessions, known.SESSION)
    check_covered('of new configurations', [r for r in written if r['path'] == base], known.CONFIGURATION, written)
    check_covered('of configurations that change', [r for r in written if r['path'] != base], known.CONFIGURATION_UPDATE, written)
    check_covered('of lists of configurations', [r for r in ours if r['method'] == 'GET' and r['path'] == base],
                  known.CONFIGURATION_LIST)
    return 1 if failures else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as problem:
        sys.exit(f'{problem.cmd[0]} failed')
