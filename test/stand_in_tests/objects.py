"""Customers, the catalogue, subscriptions, and the events they make."""

import time

from stand_in.testing import CONTROL, Case


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
