"""The same events in the shapes of older API versions."""

import json

from stand_in.testing import CONTROL, Case

OLDEST, DATED, BASIL, CLOVER, TODAY = ('2020-08-27', '2024-06-20', '2025-03-31.basil', '2025-09-30.clover',
                                       '2026-10-28.endive')


class Versions(Case):
    def read(self, event_type, version):
        """The newest event of a type, in a version."""
        item, = self.get(CONTROL + 'deliveries', type=event_type, limit=1, api_version=version)['data']
        event = json.loads(item['payload'])
        self.assertEqual(event['api_version'], version)
        return event['data']

    def test_subscriptions(self):
        item = self.subscribe()['items']['data'][0]
        self.post('/v1/coupons', id='stay', percent_off=20)
        self.post('/v1/subscriptions/sub_a', discounts=[{'coupon': 'stay'}])
        for version, top, on_items, discount, discounts in (
                (OLDEST, True, False, True, False), (DATED, True, True, True, True),
                (BASIL, False, True, False, True), (CLOVER, False, True, False, True),
                (TODAY, False, True, False, True)):
            with self.subTest(version):
                data = self.read('customer.subscription.updated', version)
                subscription, previous = data['object'], data['previous_attributes']
                self.assertEqual('current_period_end' in subscription, top)
                self.assertEqual('current_period_end' in subscription['items']['data'][0], on_items)
                self.assertEqual('discount' in subscription, discount)
                self.assertEqual('discounts' in subscription, discounts)
                self.assertEqual((previous.get('discount', 0), previous.get('discounts', 0)),
                                 (None if discount else 0, [] if discounts else 0))
                if top:
                    self.assertEqual(subscription['current_period_end'], item['current_period_end'])
                if discount:
                    self.assertEqual(subscription['discount']['coupon']['percent_off'], 20)

    def test_a_renewal(self):
        item = self.subscribe()['items']['data'][0]
        self.control('renew', subscription='sub_a')
        previous = self.read('customer.subscription.updated', OLDEST)['previous_attributes']
        self.assertEqual(previous, {'current_period_start': item['current_period_start'],
                                    'current_period_end': item['current_period_end'], 'latest_invoice': None})
        self.assertIn('items', self.read('customer.subscription.updated', DATED)['previous_attributes'])

    def test_discounts_and_codes(self):
        self.subscribe()
        self.post('/v1/coupons', id='stay', percent_off=20)
        code = self.post('/v1/promotion_codes', promotion={'type': 'coupon', 'coupon': 'stay'})['id']
        self.post('/v1/subscriptions/sub_a', discounts=[{'promotion_code': code}])
        for version, old in ((DATED, True), (BASIL, True), (CLOVER, False), (TODAY, False)):
            with self.subTest(version):
                discount = self.read('customer.discount.created', version)['object']
                promotion = self.read('promotion_code.created', version)['object']
                if old:
                    self.assertEqual((discount['coupon']['id'], promotion['coupon']['id']), ('stay', 'stay'))
                else:
                    self.assertEqual((discount['source']['coupon'], promotion['promotion']['coupon']),
                                     ('stay', 'stay'))

    def test_invoices(self):
        self.subscribe(metadata={'k': 'v'})
        self.control('renew', subscription='sub_a', decline='do_not_honor')
        charge, intent = (self.get(f'/v1/{kind}')['data'][0]['id'] for kind in ('charges', 'payment_intents'))
        for version in (OLDEST, DATED):
            with self.subTest(version):
                invoice = self.read('invoice.payment_failed', version)['object']
                self.assertEqual((invoice['subscription'], invoice['charge'], invoice['payment_intent'],
                                  invoice['paid']), ('sub_a', charge, intent, False))
                self.assertEqual(invoice['subscription_details'], {'metadata': {'k': 'v'}})
                line = invoice['lines']['data'][0]
                self.assertEqual((line['price']['id'], line['plan']['id'], line['type'], line['subscription']),
                                 ('price_basic', 'price_basic', 'subscription', 'sub_a'))
                self.assertNotIn('parent', invoice)
                self.assertEqual(self.read('charge.failed', version)['object']['invoice'], invoice['id'])
                self.assertEqual(self.read('payment_intent.payment_failed', version)['object']['invoice'],
                                 invoice['id'])
        for version in (BASIL, TODAY):
            self.assertNotIn('subscription', self.read('invoice.payment_failed', version)['object'])
            self.assertNotIn('invoice', self.read('charge.failed', version)['object'])

    def test_an_endpoint_is_pinned(self):
        url, received = self.receiver()
        self.post('/v1/webhook_endpoints', url=url, enabled_events=['customer.subscription.created'],
                  api_version=DATED)
        self.subscribe()
        self.control('settle')
        event = json.loads(received.get_nowait()[0])
        self.assertEqual(event['api_version'], DATED)
        self.assertIn('current_period_end', event['data']['object'])

    def test_events_of_an_account_with_an_old_version(self):
        self.control('api_version', version=DATED)
        self.subscribe()
        self.control('api_version', version=TODAY)
        self.post('/v1/subscriptions/sub_a', description='x')
        updated, created = self.get('/v1/events', type='customer.subscription.*')['data']
        self.assertEqual((created['api_version'], updated['api_version']), (DATED, TODAY))
        self.assertIn('current_period_end', created['data']['object'])
        self.assertNotIn('current_period_end', updated['data']['object'])
        self.assertEqual(json.loads(self.get(CONTROL + 'deliveries', type=created['type'])['data'][0]['payload']),
                         created)
