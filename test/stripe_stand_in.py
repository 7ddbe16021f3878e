#!/usr/bin/env python3
"""Run the Stripe stand-in by itself: stripe_stand_in.py [--detach]

Prints one line of JSON with its addresses and files when it is ready, then
closes its standard output.  Ends on SIGTERM, and with its parent unless
--detach is given.  test/with_stripe is the usual way to use it.
"""

import json
import os
import signal
import sys
import threading

from stand_in.server import StandIn


def main() -> None:
    if sys.argv[1:] not in ([], ['--detach']):
        sys.exit(__doc__)
    parent = None if sys.argv[1:] else os.getppid()
    finished = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: finished.set())
    stand_in = StandIn()
    try:
        print(json.dumps({
            'url': stand_in.url, 'http_url': stand_in.http_url, 'hang_url': stand_in.hang_url,
            'untrusted_url': stand_in.untrusted_url, 'ca_file': stand_in.ca_file, 'dir': str(stand_in.dir),
            'api_key_file': stand_in.api_key_file, 'webhook_secret_file': stand_in.webhook_secret_file,
            'pid': os.getpid()}), flush=True)
        # Whoever reads the line by `$(…)` waits for the end of the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        while not finished.wait(0.5) and parent in (None, os.getppid()):
            pass
    finally:
        stand_in.close()


if __name__ == '__main__':
    main()
