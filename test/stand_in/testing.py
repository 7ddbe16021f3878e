"""What the self-test of the stand-in is written with."""

import hashlib
import hmac
import http.client
import json
import queue
import ssl
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

from .server import StandIn

CONTROL = '/v1/test_helpers/stand_in/'
SESSIONS = '/v1/billing_portal/sessions'
TEST, LIVE, RESTRICTED = 'sk_test_stand_in_key', 'sk_live_stand_in_key', 'rk_test_stand_in_readonly'


def verify(payload: str, header: str, secret: str) -> bool:
    """Check a Stripe-Signature header."""
    pairs = dict(pair.split('=') for pair in header.split(','))
    wanted = hmac.new(secret.encode(), f"{pairs['t']}.{payload}".encode(), hashlib.sha256).hexdigest()
    return wanted == pairs['v1']


def encode(params: dict, prefix: str = '') -> str:
    pairs = []
    for name, value in params.items():
        name = f'{prefix}[{name}]' if prefix else name
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            pairs.append(encode(value, name))
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            pairs.append(f'{name}={quote(text, safe="")}')
    return '&'.join(filter(None, pairs))


class Case(unittest.TestCase):
    """A fresh state for every test, and one connection to it."""

    stand_in: StandIn

    def setUp(self):
        self.connection = http.client.HTTPSConnection(
            '127.0.0.1', urlsplit(self.stand_in.url).port, timeout=10,
            context=ssl.create_default_context(cafile=self.stand_in.ca_file))
        self.addCleanup(self.connection.close)
        self.post(CONTROL + 'reset', state=True)

    def call(self, method, path, params=None, key=TEST, **headers):
        body = encode(params or {})
        headers = {name.replace('_', '-'): value for name, value in headers.items()}
        if key:
            headers['Authorization'] = f'Bearer {key}'
        if method == 'POST':
            headers['Content-Type'] = 'application/x-www-form-urlencoded'
        elif body:
            path, body = f'{path}?{body}', ''
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        return SimpleNamespace(status=answer.status, headers=answer.headers, text=text,
                               json=json.loads(text) if answer.headers['Content-Type'] == 'application/json' else None)

    def good(self, answer):
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json

    def post(self, path, /, **params):
        return self.good(self.call('POST', path, params))

    def get(self, path, /, **params):
        return self.good(self.call('GET', path, params))

    def refused(self, message, path, params=None, method='POST', status=400, code=None, param=None, **options):
        answer = self.call(method, path, params, **options)
        self.assertEqual(answer.status, status, answer.text)
        error = answer.json['error']
        self.assertIn(message, error['message'])
        if code:
            self.assertEqual(error.get('code'), code)
        if param:
            self.assertEqual(error.get('param'), param)
        return error

    def control(self, name, /, **params):
        return self.post(CONTROL + name, **params)

    def subscribe(self, **params):
        """A customer with a subscription to a monthly price; basic and plus belong to one product."""
        self.post('/v1/products', id='prod_a', name='A')
        for price, amount in (('price_basic', 1000), ('price_plus', 2500)):
            self.control('prices', id=price, product='prod_a', currency='usd', unit_amount=amount,
                         recurring={'interval': 'month' if price == 'price_basic' else 'year'})
        self.control('customers', id='cus_a', email='a@example.com')
        return self.control('subscriptions', id='sub_a', customer='cus_a', price='price_basic', **params)

    def events(self, event_type=None):
        """The events so far, oldest first."""
        data = self.get('/v1/events', limit=100, **({'type': event_type} if event_type else {}))['data']
        return list(reversed(data))

    def told(self, event_type=None):
        """All events so far, also those that are too old for the API."""
        data = self.get(CONTROL + 'deliveries', **({'type': event_type} if event_type else {}))['data']
        return [json.loads(item['payload']) for item in data]

    def session(self, **params):
        return self.post(SESSIONS, **{'customer': 'cus_a', 'return_url': 'https://example.com/', **params})

    def session_refused(self, message, param=None, code=None, **params):
        self.refused(message, SESSIONS, {'customer': 'cus_a', 'return_url': 'https://example.com/', **params},
                     param=param, code=code)

    def receiver(self, status=200):
        """A web server that puts what it gets into a queue."""
        received = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers['Content-Length'])).decode()
                received.put((body, self.headers['Stripe-Signature']))
                self.send_response(status)
                self.send_header('Content-Length', '0')
                self.end_headers()

            def log_message(self, *_):
                pass
        server = HTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f'http://127.0.0.1:{server.server_address[1]}/webhook', received
