#!/usr/bin/env python3
"""Does the Stripe stand-in do what the tests of the extension rely on?"""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import unittest
from pathlib import Path
from urllib.parse import urlsplit

from stand_in import form
from stand_in.server import StandIn
from stand_in.testing import CONTROL, LIVE, RESTRICTED, SESSIONS, TEST, Case, verify

HERE = Path(__file__).resolve().parent


def setUpModule():
    Case.stand_in = StandIn()


def tearDownModule():
    Case.stand_in.close()


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
        self.assertEqual(entry['headers']['authorization'], 'secret')
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


class Objects(Case):
    def test_customer(self):
        self.control('customers', id='cus_a', email='a@example.com', metadata={'k': 'v'})
        self.post('/v1/customers/cus_a', name='A', metadata={'k': '', 'l': 'w'})
        event = self.events('customer.updated')[0]
        self.assertEqual(event['data']['previous_attributes'], {'name': None, 'metadata': {'k': 'v', 'l': None}})
        self.assertEqual(event['data']['object']['metadata'], {'l': 'w'})
        self.assertRegex(event['request']['id'], '^req_')
        self.post('/v1/customers/cus_a', name='A')
        self.assertEqual(len(self.events('customer.updated')), 1, 'no change, no event')
        stub = self.good(self.call('DELETE', '/v1/customers/cus_a'))
        self.assertEqual(stub, {'id': 'cus_a', 'object': 'customer', 'deleted': True})
        self.assertEqual(self.get('/v1/customers/cus_a'), stub)

    def test_deleting_a_customer_cancels(self):
        self.subscribe()
        self.call('DELETE', '/v1/customers/cus_a')
        self.assertEqual([event['type'] for event in self.events()][-2:],
                         ['customer.subscription.deleted', 'customer.deleted'])

    def test_subscription_shape(self):
        subscription = self.subscribe()
        item = subscription['items']['data'][0]
        self.assertEqual((subscription['status'], subscription['currency'], item['price']['id']),
                         ('active', 'usd', 'price_basic'))
        self.assertNotIn('current_period_end', subscription)
        self.assertTrue(27 <= (item['current_period_end'] - item['current_period_start']) / 86400 <= 31)
        self.assertEqual(subscription['billing_mode']['type'], 'flexible')

    def test_subscription_update(self):
        item = self.subscribe(quantity=3)['items']['data'][0]
        changed = self.post('/v1/subscriptions/sub_a', items=[{'id': item['id'], 'price': 'price_plus'}])
        self.assertEqual([(i['price']['id'], i['quantity']) for i in changed['items']['data']], [('price_plus', 1)])
        previous = self.events('customer.subscription.updated')[0]['data']['previous_attributes']
        self.assertEqual(previous['items']['data'][0]['price']['id'], 'price_basic')
        self.post('/v1/subscriptions/sub_a', pause_collection={'behavior': 'void'})
        self.assertIsNone(self.post('/v1/subscriptions/sub_a', pause_collection='')['pause_collection'])
        self.refused('No such price', '/v1/subscriptions/sub_a', {'items': [{'id': item['id'], 'price': 'price_x'}]})

    def test_failed_calls_leave_no_trace(self):
        self.subscribe()
        before = self.get(CONTROL + 'state')
        self.refused('No such coupon', '/v1/subscriptions',
                     {'customer': 'cus_a', 'items': [{'price': 'price_basic'}], 'discounts': [{'coupon': 'x'}]})
        self.refused('No such coupon', '/v1/subscriptions/sub_a', {'description': 'x', 'discounts': [{'coupon': 'x'}]})
        self.assertEqual(self.get(CONTROL + 'state'), before)

    def test_cancel_and_undo_by_api(self):
        self.subscribe()
        changed = self.post('/v1/subscriptions/sub_a', cancel_at_period_end=True,
                            cancellation_details={'feedback': 'unused'})
        self.assertEqual((changed['cancel_at_period_end'], changed['cancellation_details']['reason']),
                         (True, 'cancellation_requested'))
        undone = self.post('/v1/subscriptions/sub_a', cancel_at_period_end=False)
        self.assertIsNone(undone['canceled_at'])
        self.post('/v1/subscriptions/sub_a', cancel_at='max_period_end')
        self.assertIsNone(self.post('/v1/subscriptions/sub_a', cancel_at='')['cancel_at'])
        ended = self.good(self.call('DELETE', '/v1/subscriptions/sub_a'))
        self.assertEqual(ended['status'], 'canceled')
        self.assertEqual(self.events()[-1]['type'], 'customer.subscription.deleted')
        self.refused('can only update its cancellation_details', '/v1/subscriptions/sub_a', {'description': 'x'})
        self.refused("No such subscription: 'sub_a'", '/v1/subscriptions/sub_a', method='DELETE', status=404)

    def test_subscription_list(self):
        self.subscribe()
        self.control('subscriptions', id='sub_b', customer='cus_a', price='price_basic')
        self.call('DELETE', '/v1/subscriptions/sub_b')

        def ids(**params):
            return [item['id'] for item in self.get('/v1/subscriptions', **params)['data']]
        self.assertEqual(ids(), ['sub_a'])
        self.assertEqual(ids(status='all'), ['sub_b', 'sub_a'])
        self.assertEqual(ids(status='ended', customer='cus_a'), ['sub_b'])
        self.assertEqual(ids(customer='cus_x'), [])

    def test_forced_statuses(self):
        self.subscribe()
        seen = []
        for status in ('past_due', 'unpaid', 'paused', 'active', 'canceled'):
            self.control('subscriptions/sub_a/status', status=status,
                         **({'reason': 'payment_failed'} if status == 'canceled' else {}))
            event = self.events()[-1]
            self.assertEqual(event['request'], {'id': None, 'idempotency_key': None})
            seen.append((event['type'].rsplit('.')[-1], event['data']['object']['status'],
                         event['data'].get('previous_attributes', {}).get('status')))
        self.assertEqual(seen, [('updated', 'past_due', 'active'), ('updated', 'unpaid', 'past_due'),
                                ('paused', 'paused', None), ('resumed', 'active', None),
                                ('deleted', 'canceled', None)])
        details = self.get('/v1/subscriptions/sub_a')['cancellation_details']
        self.assertEqual(details['reason'], 'payment_failed')

    def test_coupon_and_discount(self):
        self.subscribe()
        self.post('/v1/coupons', id='save20', percent_off=20, duration='repeating', duration_in_months=3)
        self.refused('already exists', '/v1/coupons', {'id': 'save20', 'percent_off': 5},
                     code='resource_already_exists')
        changed = self.post('/v1/subscriptions/sub_a', discounts=[{'coupon': 'save20'}],
                            expand=['discounts.source.coupon'])
        self.assertEqual(changed['discounts'][0]['source']['coupon']['percent_off'], 20)
        self.assertEqual(self.post('/v1/subscriptions/sub_a', discounts='')['discounts'], [])

    def test_events_list(self):
        self.subscribe()
        self.assertEqual(len(self.get('/v1/events', type='price.*')['data']), 2)
        self.assertEqual(len(self.get('/v1/events', types=['product.created', 'customer.created'])['data']), 2)
        now = int(time.time())
        self.assertEqual(self.get('/v1/events', created={'gt': now + 10})['data'], [])
        self.assertEqual(len(self.get('/v1/events', created={'gte': now - 60})['data']), 5)

    def test_clock(self):
        self.control('clock', advance=100)
        self.assertGreater(self.post('/v1/customers')['created'], time.time() + 90)


class Portal(Case):
    def test_plain_session(self):
        self.subscribe()
        session = self.session(locale='de')
        self.assertEqual((session['id'], session['object'], session['locale'], session['flow']),
                         ('bps_0001', 'billing_portal.session', 'de', None))
        self.assertRegex(session['url'], '^https://billing.stripe.com/p/session/test_')
        self.assertEqual(session['configuration'], 'bpc_default')
        self.assertEqual(self.events()[-1]['type'], 'billing_portal.session.created')

    def test_flow_is_shown_whole(self):
        self.subscribe()
        self.post('/v1/coupons', id='stay', percent_off=20)
        flow = self.session(flow_data={
            'type': 'subscription_cancel',
            'after_completion': {'type': 'redirect', 'redirect': {'return_url': 'https://example.com/bye'}},
            'subscription_cancel': {'subscription': 'sub_a',
                                    'retention': {'type': 'coupon_offer', 'coupon_offer': {'coupon': 'stay'}}}})['flow']
        self.assertEqual(flow['subscription_cancel']['retention']['coupon_offer'], {'coupon': 'stay'})
        self.assertIsNone(flow['subscription_update_confirm'])
        self.assertEqual(flow['after_completion']['redirect'], {'return_url': 'https://example.com/bye'})

    def test_refusals(self):
        self.subscribe()
        self.control('customers', id='cus_b')

        def cancel(subscription):
            return {'type': 'subscription_cancel', 'subscription_cancel': {'subscription': subscription}}
        self.session_refused("No such customer: 'cus_x'", 'customer', 'resource_missing', customer='cus_x')
        self.session_refused('No such configuration', 'configuration', configuration='bpc_x')
        self.session_refused('Not a valid URL', 'return_url', 'url_invalid', return_url='example.com')
        self.session_refused('Invalid locale: must be one of auto', 'locale', locale='xx')
        self.session_refused('Missing required param: flow_data[subscription_cancel].',
                             flow_data={'type': 'subscription_cancel'})
        self.session_refused('can not be given', flow_data={**cancel('sub_a'), 'type': 'customer_update'})
        self.session_refused("No such subscription: 'sub_x'", 'flow_data[subscription_cancel][subscription]',
                             flow_data=cancel('sub_x'))
        self.session_refused('does not belong', customer='cus_b', flow_data=cancel('sub_a'))
        self.session_refused('no price in the portal configuration available to change to',
                             flow_data={'type': 'subscription_update',
                                        'subscription_update': {'subscription': 'sub_a'}})
        self.post('/v1/subscriptions/sub_a', cancel_at='max_period_end')
        self.session_refused('The subscription `sub_a` is already set to be canceled at period end.',
                             flow_data=cancel('sub_a'))
        self.refused('Missing required param: customer.', SESSIONS, {'return_url': 'https://example.com/'},
                     code='parameter_missing')
        self.refused('does not have a `default_return_url`', SESSIONS, {'customer': 'cus_a'})

    def test_configuration(self):
        self.subscribe()
        self.refused('Missing required param: features.', '/v1/billing_portal/configurations')
        self.refused('Missing required param: features[subscription_cancel][enabled].',
                     '/v1/billing_portal/configurations',
                     {'features': {'subscription_cancel': {'mode': 'immediately'}}})
        self.refused('Cannot enable subscription updates while payment method update is disabled.',
                     '/v1/billing_portal/configurations', {'features': {'subscription_update': {'enabled': True}}})
        products = [{'product': 'prod_a', 'prices': ['price_basic', 'price_plus']}]
        made = self.post('/v1/billing_portal/configurations', default_return_url='https://example.com/', features={
            'payment_method_update': {'enabled': True},
            'subscription_update': {'enabled': True, 'default_allowed_updates': ['price'], 'products': products}})
        self.assertNotIn('products', made['features']['subscription_update'])
        self.assertEqual((made['id'], made['is_default'], made['features']['subscription_cancel']['enabled']),
                         ('bpc_0001', False, False))
        path = '/v1/billing_portal/configurations/bpc_0001'
        shown = self.get(path, expand=['features.subscription_update.products'])
        self.assertEqual(shown['features']['subscription_update']['products'][0]['prices'],
                         ['price_basic', 'price_plus'])

        self.session_refused('subscription cancel feature in the portal configuration is disabled',
                             configuration='bpc_0001', flow_data={
                                 'type': 'subscription_cancel', 'subscription_cancel': {'subscription': 'sub_a'}})
        confirm = {'subscription': 'sub_a', 'items': [{'id': 'si_0001', 'price': 'price_basic'}]}
        flow = {'type': 'subscription_update_confirm', 'subscription_update_confirm': confirm}
        self.session_refused('because there are no changes to confirm.', configuration='bpc_0001', flow_data=flow)
        confirm['items'][0]['price'] = 'price_plus'
        self.session(configuration='bpc_0001', flow_data=flow)
        changed = self.post(path, features={'subscription_cancel': {'mode': 'immediately'}}, default_return_url='')
        self.assertEqual(changed['features']['subscription_cancel']['mode'], 'immediately')
        self.assertIsNone(changed['default_return_url'])
        self.post(path, active=False)
        self.assertEqual(len(self.get('/v1/billing_portal/configurations', active=True)['data']), 1)

    def test_default_configuration(self):
        self.subscribe()
        self.control('default_configuration', exists=False)
        self.session_refused('your test mode default configuration has not been created')
        self.control('default_configuration', exists=True)
        self.session()

    def test_cancel_visit_gives_two_events(self):
        self.subscribe()
        session = self.session()
        self.control('visit', session=session['id'], action='cancel', feedback='too_expensive', comment='Budget cut')
        first, second = self.events('customer.subscription.updated')
        self.assertEqual(first['data']['previous_attributes'],
                         {'cancel_at': None, 'canceled_at': None, 'cancellation_details': {'reason': None}})
        self.assertIs(first['data']['object']['cancel_at_period_end'], False)
        self.assertEqual(second['data']['previous_attributes'],
                         {'cancellation_details': {'comment': None, 'feedback': None}})
        self.assertEqual(second['data']['object']['cancellation_details']['feedback'], 'too_expensive')
        self.control('visit', session=session['id'], action='renew')
        self.assertIsNone(self.get('/v1/subscriptions/sub_a')['cancel_at'])

    def test_classic_and_immediate_cancel(self):
        self.subscribe(billing_mode={'type': 'classic'})
        session = self.session()
        self.control('visit', session=session['id'], action='cancel')
        event, = self.events('customer.subscription.updated')
        self.assertIs(event['data']['previous_attributes']['cancel_at_period_end'], False)
        self.control('visit', session=session['id'], action='renew')
        self.post('/v1/billing_portal/configurations/bpc_default',
                  features={'subscription_cancel': {'mode': 'immediately'}})
        self.control('visit', session=session['id'], action='cancel', feedback='unused')
        self.assertEqual([event['type'] for event in self.events()][-2:],
                         ['customer.subscription.deleted', 'customer.subscription.updated'])

    def test_other_visits(self):
        self.subscribe()
        session = self.session()['id']
        self.control('visit', session=session, action='change_plan', price='price_plus')
        self.control('visit', session=session, action='update_customer', email='new@example.com')
        self.control('visit', session=session, action='update_payment_method')
        self.control('visit', session=session, action='pause')
        subscription, customer = self.get('/v1/subscriptions/sub_a'), self.get('/v1/customers/cus_a')
        self.assertEqual(subscription['items']['data'][0]['price']['id'], 'price_plus')
        self.assertEqual((customer['email'], customer['invoice_settings']['default_payment_method']),
                         ('new@example.com', 'pm_0001'))
        self.assertEqual(subscription['status_details']['paused']['subscription']['type'], 'pause_requested')
        self.control('clock', advance=4000)
        self.refused('This portal session has expired.', CONTROL + 'visit', {'session': session, 'action': 'renew'})

    def test_accepting_the_offer(self):
        self.subscribe()
        self.post('/v1/coupons', id='stay', percent_off=20)
        session = self.session(flow_data={'type': 'subscription_cancel', 'subscription_cancel': {
            'subscription': 'sub_a', 'retention': {'type': 'coupon_offer', 'coupon_offer': {'coupon': 'stay'}}}})
        self.control('visit', session=session['id'], action='accept_offer')
        event, = self.events('customer.subscription.updated')
        self.assertEqual(event['data']['previous_attributes'], {'discounts': []})


class Deliveries(Case):
    def test_pulled(self):
        self.subscribe()
        data = self.get(CONTROL + 'deliveries')['data']
        self.assertEqual([item['type'] for item in data],
                         ['product.created', 'price.created', 'price.created', 'customer.created',
                          'customer.subscription.created'])
        self.assertTrue(all(verify(item['payload'], item['signature'], 'whsec_stand_in_secret') for item in data))
        event = json.loads(data[-1]['payload'])
        self.assertEqual((event['id'], event['object'], event['api_version'], event['livemode']),
                         (data[-1]['id'], 'event', '2026-10-28.endive', False))
        self.assertEqual([item['id'] for item in self.get(CONTROL + 'deliveries', limit=2)['data']],
                         [item['id'] for item in data[-2:]])
        one, = self.get(CONTROL + 'deliveries', object='cus_a', secret='whsec_x', timestamp=7)['data']
        self.assertTrue(one['signature'].startswith('t=7,') and verify(one['payload'], one['signature'], 'whsec_x'))
        signed = self.control('sign', payload='{"ü": 1}', secret='whsec_y')
        self.assertTrue(verify('{"ü": 1}', signed['signature'], 'whsec_y'))

    def test_pushed(self):
        url, received = self.receiver()
        endpoint = self.post('/v1/webhook_endpoints', url=url, enabled_events=['customer.created', 'price.created'])
        self.assertIn('secret', endpoint)
        self.assertNotIn('secret', self.get('/v1/webhook_endpoints')['data'][0])
        self.subscribe()
        self.assertTrue(self.control('settle')['settled'])
        bodies = [received.get_nowait() for _ in range(3)]
        self.assertTrue(all(verify(body, header, endpoint['secret']) for body, header in bodies))
        self.assertEqual([json.loads(body)['type'] for body, _ in bodies],
                         ['price.created', 'price.created', 'customer.created'])
        self.assertEqual(self.control('resend', event=json.loads(bodies[0][0])['id'])['endpoints'], 1)
        self.control('settle')
        self.assertEqual(received.get_nowait()[0], bodies[0][0])
        self.assertTrue(received.empty())
        self.assertEqual(len(self.get('/v1/events', delivery_success=False)['data']), 0)

    def test_failed_push_stays_pending(self):
        url, received = self.receiver(status=500)
        self.post('/v1/webhook_endpoints', url=url, enabled_events=['*'], secret='whsec_mine')
        self.post('/v1/customers')
        self.control('settle')
        body, header = received.get_nowait()
        self.assertTrue(verify(body, header, 'whsec_mine'))
        self.assertEqual(len(self.get('/v1/events', delivery_success=False)['data']), 1)
        self.assertEqual(self.get(CONTROL + 'deliveries')['data'][0]['attempts'],
                         [{'endpoint': 'we_0001', 'status': 500}])


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
                                   ('deep_json', 200, b'[' * 10000)):
            with self.subTest(kind):
                self.fault(kind)
                self.connection.request('GET', '/v1/customers', headers={'Authorization': f'Bearer {TEST}'})
                answer = self.connection.getresponse()
                self.assertEqual(answer.status, status)
                self.assertTrue(answer.read().startswith(text))
        self.assertEqual(self.get('/v1/customers')['data'], [])

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


class Programs(unittest.TestCase):
    def test_with_stripe(self):
        start = time.monotonic()
        run = subprocess.run([HERE / 'with_stripe', 'sh', '-c', 'cat; env; test -r $STRIPE_STAND_IN_CA && exit 7'],
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
        run = subprocess.Popen([HERE / 'with_stripe', 'sh', '-c', 'echo $STRIPE_STAND_IN_DIR; exec sleep 60'],
                               stdout=subprocess.PIPE, text=True)
        with run.stdout:
            directory = run.stdout.readline().strip()
        run.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(10), 128 + signal.SIGTERM)
        self.assertFalse(os.path.exists(directory))

    def test_stand_alone(self):
        run = subprocess.Popen([sys.executable, HERE / 'stripe_stand_in.py'], stdout=subprocess.PIPE, text=True)
        with run.stdout:
            ready = json.loads(run.stdout.read())
        self.assertTrue(os.path.exists(ready['ca_file']))
        run.terminate()
        self.assertEqual(run.wait(10), 0)
        self.assertFalse(os.path.exists(ready['dir']))

    def test_stand_alone_ends_with_its_parent(self):
        program = f"{sys.executable} {HERE / 'stripe_stand_in.py'} > $0 & until [ -s $0 ]; do sleep 0.05; done"
        output = Path(Case.stand_in.dir) / 'ready'
        subprocess.run(['sh', '-c', program, output], check=True)
        directory = json.loads(output.read_text())['dir']
        deadline = time.monotonic() + 10
        while os.path.exists(directory) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(os.path.exists(directory))


if __name__ == '__main__':
    unittest.main()
