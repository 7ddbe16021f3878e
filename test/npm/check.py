#!/usr/bin/env python3
"""Compare the extension with Stripe's official client for Node.

What the client signs must verify, what was changed afterwards must not, and
the same request parameters must give the same body (see signer.js).

Usage: check.py DIR, with the environment set up so that psql reaches a
superuser's session; the client is installed into DIR.  Prints "ok NAME" or
"not ok NAME" for each group of checks.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

HERE = Path(__file__).resolve().parent

failures = 0


def report(name: str, wrong: list[str]) -> None:
    """Report a group of checks by those that went wrong."""
    global failures
    print(f'not ok {name}' if wrong else f'ok {name}')
    for text in wrong[:10]:
        print(f'    {text}')
    failures += bool(wrong)


def run_client(folder: Path) -> dict:
    """Install the client as the lock file says and let it make the cases."""
    folder.mkdir()
    for name in ('package.json', 'package-lock.json', 'signer.js'):
        shutil.copy(HERE / name, folder)
    subprocess.run(['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier',
                    '--loglevel=error', '--cache', str(folder / 'cache')],
                   cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return json.loads(subprocess.run(['node', 'signer.js'], cwd=folder, check=True, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE).stdout)


def psql(script: str) -> list[str]:
    """The lines that a script prints."""
    return subprocess.run(['psql', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-f', '-'], input=script, check=True,
                          text=True, encoding='utf-8', stdout=subprocess.PIPE).stdout.splitlines()


def literal(text: str) -> str:
    """Any text as an SQL expression, whatever it contains."""
    return f"convert_from('\\x{text.encode().hex()}'::bytea, 'UTF8')"


def verify(secrets: str, case: dict) -> str:
    """SQL that asks about one delivery, as text and as bytea."""
    payload, header = literal(case['payload']), literal(case['header'])
    return (f"SET stripe_portal.webhook_secret = '{secrets}';\n"
            f"SELECT stripe_verify_webhook({payload}, {header}, to_timestamp({case['at']})),\n"
            f"    stripe_verify_webhook(convert_to({payload}, 'UTF8'), {header}, to_timestamp({case['at']}));\n")


def check_deliveries(deliveries: list[dict]) -> None:
    answers = psql('\n'.join(verify(d['secret'], d) for d in deliveries))
    report(f'{len(deliveries)} headers of the official client verify',
           [f"{answer}: {d['header']} of {d['payload'][:80]!r}"
            for d, answer in zip(deliveries, answers, strict=True) if answer != 't|t'])

    answers = psql('\n'.join(verify(d['mutated']['secret'], d['mutated']) for d in deliveries))
    report(f'{len(deliveries)} mutations of them do not',
           [f"{answer}: {d['mutation']}: {d['mutated']['header']}"
            for d, answer in zip(deliveries, answers, strict=True) if answer != 'f|f'])


def check_rotated(case: dict) -> None:
    """While a secret is rolled, either of the two will do, and so do both."""
    old, new = case['oldSecret'], case['newSecret']
    expected = {old: 't|t', new: 't|t', f'{old}, {new}': 't|t', f'whsec_other,{new}': 't|t', 'whsec_other': 'f|f'}
    answers = psql('\n'.join(verify(secrets, case) for secrets in expected))
    report('a rotated pair of secrets verifies',
           [f'{answer} with {secrets}'
            for (secrets, wanted), answer in zip(expected.items(), answers, strict=True) if answer != wanted])


def check_forms(forms: list[dict]) -> None:
    """Brackets may be encoded or not, and jsonb has an order of its own."""
    def decoded(body: str) -> list[list[bytes]]:
        return sorted([unquote_to_bytes(part) for part in pair.split('=')] for pair in body.split('&'))

    answers = psql('\n'.join(f"SELECT stripe_portal.form_encode({literal(json.dumps(f['params']))}::jsonb);"
                             for f in forms))
    report(f'{len(forms)} request bodies are those of the official client',
           [f"{answer} but {f['body']}" for f, answer in zip(forms, answers, strict=True)
            if decoded(answer) != decoded(f['body'])
            or not re.fullmatch(r'([\w.~\[\]=&-]|%[0-9A-F]{2})*', answer, re.ASCII)])


def main() -> int:
    cases = run_client(Path(sys.argv[1]))
    psql('CREATE EXTENSION stripe_portal;')
    check_deliveries(cases['deliveries'])
    check_rotated(cases['rotated'])
    check_forms(cases['forms'])
    return 1 if failures else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as problem:
        sys.exit(f'{problem.cmd[0]} failed')
