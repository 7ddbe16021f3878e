#!/usr/bin/env python3
"""The bundle for PGXN, as "make dist" makes it, stands alone: from it comes
what the checkout builds, and it installs.

Usage: dist.py DIR in a built copy of the checkout, with a PG_CONFIG that can be
installed into; DIR is made.  Prints "ok NAME" or "not ok NAME" for each check.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path.cwd()
VERSION = re.search(r"^default_version *= *'(.+)'", Path('stripe_portal.control').read_text(), re.M)[1]
NAME = f'stripe_portal-{VERSION}'

failures = 0


def report(name: str, wrong: list[str]) -> None:
    """Report a group of checks by those that went wrong."""
    global failures
    print(f'not ok {name}' if wrong else f'ok {name}')
    for text in wrong[:20]:
        print(f'    {text}')
    failures += bool(wrong)


def run(*command: str, **environment: str) -> list[str]:
    """The end of what a command says, if it fails."""
    done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, **environment})
    return done.stdout.splitlines()[-20:] + [f'exit status {done.returncode}'] if done.returncode else []


def make_bundle(folder: Path) -> list[str]:
    """A copy has no history: it is given one with all that git does not ignore."""
    git = {'GIT_DIR': str(folder / 'git'), 'GIT_WORK_TREE': str(HERE)}
    return (run('git', 'init', '-q', **git) or run('git', 'add', '-A', **git)
            or run('git', '-c', 'user.name=nobody', '-c', 'user.email=nobody@example.com', 'commit', '-qm', 'x', **git)
            or run('make', '-s', 'dist', **git))


def unpack(bundle: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(bundle) as archive:
        outside = [name for name in archive.namelist() if not name.startswith(NAME + '/')]
        for member in archive.infolist():
            path = Path(archive.extract(member, folder))
            path.chmod(member.external_attr >> 16 or 0o755)
    return outside


def missing() -> list[str]:
    meta = json.loads(Path('META.json').read_text())
    named = [file for extension in meta['provides'].values() for file in (extension['file'], extension['docfile'])]
    return [f'{file} is missing' for file in named if not Path(file).is_file()]


def different() -> list[str]:
    built = sorted(HERE.glob('stripe_portal--*.sql'))
    return [script.name for script in built
            if not Path(script.name).is_file() or Path(script.name).read_bytes() != script.read_bytes()
            ] if built else ['this folder has built none']


folder = Path(sys.argv[1]).resolve()
folder.mkdir()
report('"make dist" makes a bundle', make_bundle(folder))
bundle = (HERE / f'{NAME}.zip').rename(folder / f'{NAME}.zip')
report('it is one folder with name and version', unpack(bundle, folder))
os.chdir(folder / NAME)
report('it has the files that META.json names', missing())
report('it builds', run('make'))
report('its scripts are those of the checkout', different())
run('make', '-C', str(HERE), 'uninstall')
report('it installs', run('make', 'install'))
report('the extension can be created', run('make', 'installcheck', 'REGRESS=install', 'ISOLATION=', 'TAP_TESTS='))
sys.exit(1 if failures else 0)
