"""Misbehaviour on request."""

import http.client
import ssl
import time

from stand_in.testing import CONTROL, TEST, Case


class Faults(Case):
    def fault(self, kind, /, **params):
        self.control('fault', kind=kind, **params)

    def test_errors(self):
        for kind, status, code, headers in (
                ('rate_limited', 429, 'rate_limit', {'Retry-After': '3'}),
                ('lock_timeout', 429, 'lock_timeout', {'Stripe-Should-Retry': 'true'}),
                ('should_not_retry', 500, None, {'Stripe-Should-Retry': 'false'}),
                ('server_error', 500, None, {'Stripe-Should-Retry': None}),
                ('conflict', 409, 'idempotency_key_in_use', {})):
            with self.subTest(kind):
                self.fault(kind, **({'retry_after': 3} if kind == 'rate_limited' else {}))
                answer = self.call('POST', '/v1/customers')
                self.assertEqual((answer.status, answer.json['error'].get('code')), (status, code))
                for name, value in headers.items():
                    self.assertEqual(answer.headers[name], value)
                self.assertEqual(self.call('POST', '/v1/customers').status, 200)

    def test_times_path_and_key(self):
        self.fault('server_error', times=2, path='/v1/customers')
        self.get('/v1/products')
        self.assertEqual([self.call('POST', '/v1/customers', Idempotency_Key='k').status for _ in range(3)],
                         [500, 500, 200])
        self.assertEqual([item['fault'] for item in self.get(CONTROL + 'requests')['data']],
                         [None, 'server_error', 'server_error', None])
        self.fault('server_error')
        self.control('reset')
        self.get('/v1/products')

    def test_strange_bodies(self):
        for kind, status, text in (('unavailable', 503, b'<html>'), ('invalid_json', 200, b'{"id"'),
                                   ('not_json', 200, b'<html>'), ('empty_body', 200, b''), ('redirect', 302, b''),
                                   ('wrong_object', 200, b'{"object": "balance"'),
                                   ('deep_json', 200, b'[' * 10000)):
            with self.subTest(kind):
                self.fault(kind)
                self.connection.request('GET', '/v1/customers', headers={'Authorization': f'Bearer {TEST}'})
                answer = self.connection.getresponse()
                self.assertEqual(answer.status, status)
                self.assertTrue(answer.read().startswith(text))
        self.assertEqual(self.get('/v1/customers')['data'], [])

    def test_wrong_mode(self):
        path = '/v1/customers/' + self.post('/v1/customers')['id']
        self.fault('wrong_mode')
        self.assertEqual([self.get(path)['livemode'] for _ in range(2)], [True, False])

    def test_broken_connections(self):
        for kind, error in (('cut_body', http.client.IncompleteRead), ('close', ConnectionError),
                            ('close_after', ConnectionError)):
            with self.subTest(kind):
                self.fault(kind)
                with self.assertRaises((error, ssl.SSLEOFError)):
                    self.call('POST', '/v1/customers', Idempotency_Key=kind)
                self.connection.close()
                again = self.call('POST', '/v1/customers', Idempotency_Key=kind)
                replayed = None if kind == 'close' else 'true'
                self.assertEqual((again.status, again.headers['Idempotent-Replayed']), (200, replayed))
        self.assertEqual(len(self.get('/v1/customers')['data']), 3)

    def test_slow_answers(self):
        for kind in ('slow_first_byte', 'slow_body'):
            with self.subTest(kind):
                self.fault(kind, seconds=0.3)
                start = time.monotonic()
                self.get('/v1/customers')
                self.assertGreater(time.monotonic() - start, 0.25)

    def test_huge_body(self):
        self.fault('huge_body')
        self.connection.request('GET', '/v1/customers', headers={'Authorization': f'Bearer {TEST}'})
        answer, size = self.connection.getresponse(), 0
        while piece := answer.read(1 << 20):
            size += len(piece)
        self.assertGreater(size, 64 * 1024 * 1024)
