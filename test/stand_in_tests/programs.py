"""The two programs that start a stand-in."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from stand_in.testing import Case

TEST = Path(__file__).resolve().parent.parent


class Programs(unittest.TestCase):
    def test_with_stripe(self):
        start = time.monotonic()
        run = subprocess.run([TEST / 'with_stripe', 'sh', '-c', 'cat; env; test -r $STRIPE_STAND_IN_CA && exit 7'],
                             input='from stdin\n', capture_output=True, text=True,
                             env={**os.environ, 'PGOPTIONS': '-c geqo=off'})
        self.assertLess(time.monotonic() - start, 3)
        self.assertEqual((run.returncode, run.stderr), (7, ''))
        found = dict(line.partition('=')[::2] for line in run.stdout.splitlines())
        self.assertTrue(run.stdout.startswith('from stdin\n'))
        self.assertTrue(found['PGOPTIONS'].startswith(
            f"-c geqo=off -c stripe_portal.api_base={found['STRIPE_STAND_IN_URL']} -c stripe_portal.ca_file="))
        self.assertFalse(os.path.exists(found['STRIPE_STAND_IN_DIR']))

    def test_with_stripe_passes_signals_on(self):
        run = subprocess.Popen([TEST / 'with_stripe', 'sh', '-c', 'echo $STRIPE_STAND_IN_DIR; exec sleep 60'],
                               stdout=subprocess.PIPE, text=True)
        with run.stdout:
            directory = run.stdout.readline().strip()
        run.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(10), 128 + signal.SIGTERM)
        self.assertFalse(os.path.exists(directory))

    def test_stand_alone(self):
        run = subprocess.Popen([sys.executable, TEST / 'stripe_stand_in.py'], stdout=subprocess.PIPE, text=True)
        with run.stdout:
            ready = json.loads(run.stdout.read())
        self.assertTrue(os.path.exists(ready['ca_file']))
        run.terminate()
        self.assertEqual(run.wait(10), 0)
        self.assertFalse(os.path.exists(ready['dir']))

    def test_stand_alone_ends_with_its_parent(self):
        program = f"{sys.executable} {TEST / 'stripe_stand_in.py'} > $0 & until [ -s $0 ]; do sleep 0.05; done"
        output = Path(Case.stand_in.dir) / 'ready'
        subprocess.run(['sh', '-c', program, output], check=True)
        directory = json.loads(output.read_text())['dir']
        deadline = time.monotonic() + 10
        while os.path.exists(directory) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(os.path.exists(directory))
