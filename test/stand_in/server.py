"""Listening: the same API over TLS, over plain HTTP, behind a bad certificate, and a port that hangs."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import socket
import ssl
import sys
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from . import api, bulk, certificates, control, control_billing, faults  # noqa: F401, the control calls
from .errors import StripeError
from .portal import save_default_configuration
from .webhooks import SECRET, Webhooks
from .world import World

HOST = '127.0.0.1'
API_KEY = 'sk_test_stand_in_key'


class Server(ThreadingHTTPServer):
    """One listening port of a stand-in."""
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, world: World, connections: itertools.count, tls: ssl.SSLContext | None = None):
        super().__init__((HOST, 0), Exchange)
        self.world = world
        self.connections = connections
        self.tls = tls
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            # The handshake waits for the connection's own thread: a slow peer must not stop the others.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request, client_address) -> None:
        """Peers that go away are what many tests are about; anything else is a bug worth seeing."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Exchange(BaseHTTPRequestHandler):
    """The requests of one connection, one after another."""
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    server: Server
    asked: api.Request

    def setup(self) -> None:
        super().setup()
        self.number = next(self.server.connections)

    def serve(self) -> None:
        world = self.server.world
        path, _, query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        with world.lock:
            # Control calls count by themselves, so that one more of them renumbers nothing.
            request_id = world.new_id('req_control' if api.is_control(path) else 'req')
        self.asked = api.Request(self.command, path, query,
                                   {name.lower(): value for name, value in self.headers.items()},
                                   body.decode(errors='replace'), request_id)
        self.entry: dict = {}
        fault = None
        if not api.is_control(path):
            self.entry = logged(self.asked, self.number)
            fault = world.arrive(self.entry)
        if fault:
            self.entry['fault'] = fault.kind
            faults.KINDS[fault.kind](self, fault)
        else:
            self.send(self.work())

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = serve

    def work(self) -> api.Answer:
        """Do what was asked for, without answering yet."""
        return api.answer(self.server.world, self.asked)

    def send(self, answer: api.Answer) -> None:
        self.write(self.head(answer) + answer.body)

    def head(self, answer: api.Answer, length: int | None = -1) -> bytes:
        """The status line and headers; a length of -1 is the body's own, None states none."""
        self.entry['status'] = answer.status
        # Clients take it for Stripe's clock, which a test may have moved.
        headers = {'Date': self.date_time_string(self.server.world.now()), 'Content-Type': 'application/json',
                   **answer.headers}
        if length is not None:
            headers['Content-Length'] = str(len(answer.body) if length < 0 else length)
        lines = [f'HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}',
                 *(f'{name}: {value}' for name, value in headers.items()), '', '']
        return '\r\n'.join(lines).encode('latin-1', 'replace')

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def log_message(self, format, *args) -> None:
        """The log of requests is GET requests, not standard error."""


def logged(request: api.Request, connection: int) -> dict:
    """A request as the control call `requests` shows it, without the key."""
    headers = dict(request.headers)
    if 'authorization' in headers:
        headers['authorization'] = f"{headers['authorization'].partition(' ')[0]} {api.key_name(request)}"
    try:
        params = api.parameters_of(request)
    except StripeError:
        params = None
    return {'id': request.request_id, 'connection': connection, 'method': request.method, 'path': request.path,
            'query': request.query, 'headers': headers, 'body': request.body, 'params': params, 'fault': None,
            'status': None}


class StandIn:
    """A running stand-in, with its temporary directory of certificates, key and secret."""

    def __init__(self):
        # Our objects have no cycles, and the collector would walk through all of them again and again.
        gc.disable()
        self.dir = Path(tempfile.mkdtemp(prefix='stripe_stand_in.'))
        try:
            # The database server may run as another user and reads ca.pem.
            self.dir.chmod(0o755)
            certificates.make(self.dir)
            self.api_key_file = self.secret_file('api_key', API_KEY)
            self.webhook_secret_file = self.secret_file('webhook_secret', SECRET)
            self.ca_file = str(self.dir / 'ca.pem')
            world = World(furnish=save_default_configuration)
            world.webhooks = Webhooks(world, self.ca_file)
            numbers = itertools.count(1)
            self.url = self.address('https', Server(world, numbers, self.tls('server')))
            self.http_url = self.address('http', Server(world, numbers))
            self.untrusted_url = self.address('https', Server(world, numbers, self.tls('untrusted')))
            # Connections are accepted by the kernel and never answered.
            self.hanging = socket.create_server((HOST, 0), backlog=128)
            self.hang_url = f'https://{HOST}:{self.hanging.getsockname()[1]}'
        except BaseException:
            self.close()
            raise

    def secret_file(self, name: str, value: str) -> str:
        path = self.dir / name
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), 'w') as file:
            file.write(value + '\n')
        return str(path)

    def tls(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / f'{name}.pem', self.dir / f'{name}.key')
        context.set_alpn_protocols(['http/1.1'])
        return context

    @staticmethod
    def address(scheme: str, server: Server) -> str:
        return f'{scheme}://{HOST}:{server.server_address[1]}'

    def close(self) -> None:
        """Remove the directory; the ports go with the process."""
        shutil.rmtree(self.dir, ignore_errors=True)
