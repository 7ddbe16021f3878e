"""Keys, headers, parameters, idempotency, paging, and the ports themselves."""

import http.client
import json
import socket
import ssl
from urllib.parse import urlsplit

from stand_in import form
from stand_in.testing import CONTROL, LIVE, RESTRICTED, TEST, Case


class Requests(Case):
    def test_keys(self):
        self.refused('You did not provide an API key', '/v1/customers', key=None, status=401)
        error = self.refused('Invalid API Key provided: sk_test_', '/v1/customers', key='sk_test_wrong_key', status=401)
        self.assertNotIn('wrong_key', error['message'])
        self.refused("Having the 'rak_customer_portal_write' permission", '/v1/billing_portal/sessions',
                     key=RESTRICTED, status=403)
        self.assertEqual(self.call('GET', '/v1/customers', key=RESTRICTED).status, 200)

    def test_headers_are_echoed_and_recorded(self):
        answer = self.call('POST', '/v1/customers', Stripe_Version='2024-06-20', Stripe_Account='acct_1',
                           Idempotency_Key='k')
        self.assertRegex(answer.headers['Request-Id'], '^req_')
        self.assertEqual([answer.headers[name] for name in ('Stripe-Version', 'Stripe-Account', 'Idempotency-Key')],
                         ['2024-06-20', 'acct_1', 'k'])
        entry, = self.get(CONTROL + 'requests')['data']
        self.assertEqual((entry['method'], entry['path'], entry['status']), ('POST', '/v1/customers', 200))
        self.assertEqual(entry['headers']['authorization'], 'Bearer secret')
        self.assertEqual(entry['headers']['stripe-account'], 'acct_1')
        self.assertNotIn(TEST, json.dumps(entry))

    def test_requests_show_body_and_parameters_and_connection(self):
        self.call('POST', '/v1/customers', {'metadata': {'a b': 'é'}, 'preferred_locales': ['en', 'de']})
        self.call('GET', '/v1/customers', {'limit': 3})
        first, second = self.get(CONTROL + 'requests')['data']
        self.assertEqual(first['params'], {'metadata': {'a b': 'é'}, 'preferred_locales': ['en', 'de']})
        self.assertIn('preferred_locales[1]=de', first['body'])
        self.assertEqual(second['query'], 'limit=3')
        self.assertEqual(first['connection'], second['connection'])

    def test_unknown_things(self):
        self.refused('Unrecognized request URL (GET: /v1/nothing)', '/v1/nothing', method='GET', status=404)
        self.refused('Unrecognized request URL (GET: /v1/billing_portal/sessions)', '/v1/billing_portal/sessions',
                     method='GET', status=404)
        self.refused("No such customer: 'cus_x'", '/v1/customers/cus_x', method='GET', status=404,
                     code='resource_missing', param='id')
        self.refused('Invalid Stripe API version: tomorrow', '/v1/customers', Stripe_Version='tomorrow')
        self.refused('cannot be used together', '/v1/customers', Stripe_Account='acct_1', Stripe_Context='acct_1')

    def test_parameters_are_checked(self):
        for message, code, param, params in (
                ('Received unknown parameter: x', 'parameter_unknown', 'x', {'x': 1}),
                ('Received unknown parameters: x, y', 'parameter_unknown', 'x', {'x': 1, 'y': 2}),
                ('Received unknown parameter: address[x]', 'parameter_unknown', 'address[x]', {'address': {'x': 1}}),
                ('Invalid integer: many', 'parameter_invalid_integer', 'balance', {'balance': 'many'}),
                ('Invalid array', None, 'preferred_locales', {'preferred_locales': 'en'}),
                ('Invalid hash', None, 'address', {'address': 'home'}),
                ('Invalid string', None, 'name', {'name': {'a': 1}}),
                ('Invalid tax_exempt: must be one of exempt, none, or reverse', None, 'tax_exempt',
                 {'tax_exempt': 'maybe'}),
                ('Missing required param: shipping[address].', 'parameter_missing', 'shipping[address]',
                 {'shipping': {'name': 'A'}}),
                ("You passed an empty string for 'balance'", 'parameter_invalid_empty', 'balance', {'balance': ''})):
            with self.subTest(message):
                self.refused(message, '/v1/customers', params, code=code, param=param)
        self.refused('Invalid boolean: 1', '/v1/products', {'name': 'A', 'active': 1})
        self.refused('Missing required param: name.', '/v1/products', code='parameter_missing')
        self.refused('Not a valid URL', '/v1/products', {'name': 'A', 'url': '/x'}, code='url_invalid')

    def test_form_decoding(self):
        for text, tree in (
                ('a=1&b=+%2B', {'a': '1', 'b': ' +'}),
                ('a[b][c]=1&a[b][d]=2', {'a': {'b': {'c': '1', 'd': '2'}}}),
                ('a[1]=y&a[0]=x&a[10]=z', {'a': ['x', 'y', 'z']}),
                ('a[]=x&a[]=y', {'a': ['x', 'y']}),
                ('a[][b]=1&a[][c]=2&a[][b]=3', {'a': [{'b': '1', 'c': '2'}, {'b': '3'}]}),
                ('a%5Bb%5D=%5B', {'a': {'b': '['}}),
                ('a=', {'a': ''})):
            with self.subTest(text):
                self.assertEqual(form.decode(text), tree)

    def test_idempotency(self):
        first = self.call('POST', '/v1/customers', {'name': 'A'}, Idempotency_Key='k1')
        again = self.call('POST', '/v1/customers', {'name': 'A'}, Idempotency_Key='k1')
        self.assertEqual((again.text, again.headers['Idempotent-Replayed']), (first.text, 'true'))
        self.assertIsNone(first.headers['Idempotent-Replayed'])
        error = self.refused('can only be used with the same parameters', '/v1/customers', {'name': 'B'},
                             Idempotency_Key='k1')
        self.assertEqual(error['type'], 'idempotency_error')
        # A refused parameter is not kept; a refusal by the endpoint is.
        self.refused('unknown parameter', '/v1/customers', {'x': 'B'}, Idempotency_Key='k2')
        self.assertEqual(self.call('POST', '/v1/customers', {'name': 'B'}, Idempotency_Key='k2').status, 200)
        for _ in range(2):
            last = self.call('POST', '/v1/customers/cus_x', {'name': 'B'}, Idempotency_Key='k3')
        self.assertEqual((last.status, last.headers['Idempotent-Replayed']), (404, 'true'))
        self.assertEqual(len(self.get('/v1/customers')['data']), 2)

    def test_modes_and_accounts_are_separate(self):
        self.control('customers', id='cus_a')
        error = self.refused("No such customer: 'cus_a'; a similar object exists in test mode, but a live mode key",
                             '/v1/customers/cus_a', method='GET', key=LIVE, status=404)
        self.assertEqual(error['code'], 'resource_missing')
        self.refused('No such customer', '/v1/customers/cus_a', method='GET', status=404, Stripe_Account='acct_1')
        live = self.good(self.call('POST', '/v1/customers', key=LIVE))
        self.assertIs(live['livemode'], True)

    def test_paging(self):
        for number in range(1, 8):
            self.control('customers', id=f'cus_{number}')

        def page(**params):
            answer = self.get('/v1/customers', **params)
            return [item['id'][4:] for item in answer['data']], answer['has_more']
        self.assertEqual(page(limit=3), (['7', '6', '5'], True))
        self.assertEqual(page(limit=3, starting_after='cus_5'), (['4', '3', '2'], True))
        self.assertEqual(page(limit=3, starting_after='cus_2'), (['1'], False))
        self.assertEqual(page(limit=3, ending_before='cus_3'), (['6', '5', '4'], True))
        self.assertEqual(page(limit=3, ending_before='cus_6'), (['7'], False))
        self.refused('less than or equal to 100', '/v1/customers', {'limit': 101}, method='GET')
        self.refused('No such customer', '/v1/customers', {'starting_after': 'cus_x'}, method='GET')
        self.refused('Please pass in only one', '/v1/customers',
                     {'starting_after': 'cus_1', 'ending_before': 'cus_2'}, method='GET')

    def test_expand(self):
        self.subscribe()
        subscription = self.get('/v1/subscriptions/sub_a', expand=['customer', 'latest_invoice'])
        self.assertEqual(subscription['customer']['email'], 'a@example.com')
        self.assertEqual(self.get('/v1/subscriptions', expand=['data.customer'])['data'][0]['customer']['id'], 'cus_a')
        self.assertEqual(self.get('/v1/customers/cus_a', expand=['subscriptions'])['subscriptions']['data'][0]['id'],
                         'sub_a')
        self.refused('This property cannot be expanded (status).', '/v1/subscriptions/sub_a', {'expand': ['status']},
                     method='GET')


class Ports(Case):
    def test_plain_http(self):
        self.connection = http.client.HTTPConnection('127.0.0.1', urlsplit(self.stand_in.http_url).port)
        self.addCleanup(self.connection.close)
        self.assertEqual(self.get('/v1/customers')['data'], [])

    def test_untrusted_certificate(self):
        tls = ssl.create_default_context(cafile=self.stand_in.ca_file)
        with socket.create_connection(('127.0.0.1', urlsplit(self.stand_in.untrusted_url).port)) as plain:
            with self.assertRaises(ssl.SSLCertVerificationError):
                tls.wrap_socket(plain, server_hostname='localhost')

    def test_hanging_handshake(self):
        tls = ssl.create_default_context(cafile=self.stand_in.ca_file)
        with socket.create_connection(('127.0.0.1', urlsplit(self.stand_in.hang_url).port)) as plain:
            plain.settimeout(0.3)
            with self.assertRaises(TimeoutError):
                tls.wrap_socket(plain, server_hostname='localhost')

    def test_a_silent_peer_does_not_stop_the_others(self):
        with socket.create_connection(('127.0.0.1', urlsplit(self.stand_in.url).port)):
            self.assertEqual(self.get('/v1/customers')['data'], [])
