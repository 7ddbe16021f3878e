#!/usr/bin/env python3
"""The smallest web back end: hands Stripe's webhooks to the database.

Listens on 127.0.0.1 on a free port and prints its URL.  POST /webhook runs
stripe_receive_webhook() through psql, which finds its server by the usual PG*
variables, and answers 200, or 400 for a signature that is refused, so that
Stripe tries again only what is worth it; anything else is a 500.
"""

import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIGNATURE_REFUSED = 'SPW01'


def receive(body: bytes, signature: str) -> tuple[int, str]:
    """Give one webhook to the database: the HTTP status, and what to answer."""
    # The body goes over standard input: arguments show in the list of processes and are limited
    # in length.  In hexadecimal it needs no quoting and stays the bytes that were signed.
    script = (f'\\set body {body.hex()}\n'
              "SELECT outcome FROM stripe_receive_webhook(decode(:'body', 'hex'), :'signature');\n")
    psql = subprocess.run(
        ['psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=sqlstate', '-v', f'signature={signature}'],
        input=script, capture_output=True, text=True)
    if psql.returncode == 0:
        return 200, psql.stdout
    return 400 if SIGNATURE_REFUSED in psql.stderr else 500, psql.stderr


class Gateway(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        if self.path != '/webhook':
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        status, text = receive(body, self.headers.get('Stripe-Signature', ''))
        answer = text.encode()
        self.send_response(status)
        self.send_header('Content-Type', 'text/plain')
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        """Quiet: the database keeps the ledger."""


if __name__ == '__main__':
    server = ThreadingHTTPServer(('127.0.0.1', 0), Gateway)
    print(f'http://127.0.0.1:{server.server_address[1]}/webhook', flush=True)
    server.serve_forever()
