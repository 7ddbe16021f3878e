#!/usr/bin/env python3
"""Does the Stripe stand-in do what the tests of the extension rely on?

Runs the tests of stand_in_tests/ against one stand-in; names such as
portal.Portal.test_plain_session choose some of them.  Its clock stands still
but for the control call `clock`, so that a test can say exact times.
"""

import sys
import time
import unittest
from importlib import import_module
from pathlib import Path
from unittest import mock

from stand_in.server import StandIn
from stand_in.testing import Case
from stand_in.world import World

HERE = Path(__file__).resolve().parent / 'stand_in_tests'


def main() -> int:
    topics = sorted(path.stem for path in HERE.glob('[a-z]*.py'))
    modules = [import_module(f'stand_in_tests.{topic}') for topic in topics]
    loader = unittest.defaultTestLoader
    tests = (loader.loadTestsFromNames([f'stand_in_tests.{name}' for name in sys.argv[1:]]) if sys.argv[1:]
             else unittest.TestSuite(map(loader.loadTestsFromModule, modules)))
    started = int(time.time())
    with mock.patch.object(World, 'now', lambda world: started + world.ahead):
        Case.stand_in = StandIn()
        try:
            return not unittest.TextTestRunner().run(tests).wasSuccessful()
        finally:
            Case.stand_in.close()


if __name__ == '__main__':
    sys.exit(main())
