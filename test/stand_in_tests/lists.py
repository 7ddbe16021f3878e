"""Every list pages and filters; the clock is Stripe's."""

import time
from email.utils import parsedate_to_datetime

from stand_in.testing import CONTROL, Case

DAY = 86400


class Lists(Case):
    def ids(self, path, /, **params):
        return [item['id'] for item in self.get(path, **params)['data']]

    def test_the_date_header_follows_the_clock(self):
        self.control('clock', advance=10 * DAY)
        date = parsedate_to_datetime(self.call('GET', '/v1/customers').headers['Date']).timestamp()
        self.assertLess(abs(date - time.time() - 10 * DAY), 5)
        self.assertEqual(self.control('clock', set=1700000000)['now'], 1700000000)
        self.assertEqual(self.call('GET', '/v1/customers').headers['Date'][:25], 'Tue, 14 Nov 2023 22:13:20')

    def test_every_list_has_paging(self):
        self.subscribe()
        for path in ('customers', 'products', 'prices', 'coupons', 'promotion_codes', 'subscriptions', 'events',
                     'payment_methods', 'entitlements/features', 'billing/feedback_options', 'webhook_endpoints',
                     'billing_portal/configurations', 'products/prod_a/features', 'customers/cus_a/payment_methods'):
            with self.subTest(path):
                page = self.get(f'/v1/{path}', limit=1)
                self.assertEqual((page['object'], page['url']), ('list', f'/v1/{path}'))
                self.refused('less than or equal to 100', f'/v1/{path}', {'limit': 101}, method='GET')

    def test_newest_first_by_creation(self):
        self.control('clock', set=1700000000)
        self.control('customers', id='cus_new')
        self.control('clock', set=1600000000)
        self.control('customers', id='cus_old')
        self.assertEqual(self.ids('/v1/customers'), ['cus_new', 'cus_old'])
        self.assertEqual(self.ids('/v1/customers', created={'gte': 1700000000}), ['cus_new'])

    def test_a_page_limit(self):
        for number in range(5):
            self.control('customers', id=f'cus_{number}')
        self.control('page_limit', limit=2)
        page = self.get('/v1/customers', limit=100)
        self.assertEqual((len(page['data']), page['has_more']), (2, True))

    def test_many_items(self):
        self.subscribe()
        prices = [self.control('prices', product='prod_a', currency='usd', unit_amount=1,
                               recurring={'interval': 'month'})['id'] for _ in range(12)]
        subscription = self.post('/v1/subscriptions', customer='cus_a', items=[{'price': price} for price in prices])
        inline = subscription['items']
        self.assertEqual((len(inline['data']), inline['has_more']), (10, True))
        rest = self.get('/v1/subscription_items', subscription=subscription['id'],
                        starting_after=inline['data'][-1]['id'])
        self.assertEqual([item['price']['id'] for item in rest['data']], prices[10:])

    def test_events_reach_back_thirty_days(self):
        self.control('customers', id='cus_a')
        event = self.events()[0]['id']
        self.control('clock', advance=30 * DAY + 1)
        self.control('customers', id='cus_b')
        self.assertEqual(len(self.events()), 1)
        self.refused('No such event', '/v1/events', {'ending_before': event}, method='GET')
        self.refused('No such event', f'/v1/events/{event}', method='GET', status=404)


class Catalogue(Case):
    def test_tiers(self):
        self.post('/v1/products', id='prod_a', name='A')
        terms = {'product': 'prod_a', 'currency': 'usd', 'recurring': {'interval': 'month'}}
        tiers = [{'up_to': 5, 'unit_amount_decimal': '0.500'}, {'up_to': 'inf', 'unit_amount': 2, 'flat_amount': 100}]
        price = self.post('/v1/prices', billing_scheme='tiered', tiers_mode='graduated', tiers=tiers, **terms)
        self.assertEqual((price['tiers_mode'], price['unit_amount']), ('graduated', None))
        self.assertNotIn('tiers', price)
        shown, = self.get('/v1/prices', expand=['data.tiers'])['data']
        self.assertEqual(shown['tiers'], [
            {'flat_amount': None, 'flat_amount_decimal': None, 'unit_amount': None, 'unit_amount_decimal': '0.5',
             'up_to': 5},
            {'flat_amount': 100, 'flat_amount_decimal': '100', 'unit_amount': 2, 'unit_amount_decimal': '2',
             'up_to': None}])
        self.refused('require `tiers` and `tiers_mode`', '/v1/prices', {'billing_scheme': 'tiered', **terms})
        self.refused('ascending order', '/v1/prices', {
            'billing_scheme': 'tiered', 'tiers_mode': 'volume', 'tiers': tiers[:1], **terms})
        self.post('/v1/customers')
        self.post('/v1/subscriptions', customer='cus_0001', items=[{'price': price['id']}])
        shown, = self.get('/v1/subscriptions', expand=['data.items.data.price.tiers'])['data']
        self.assertEqual(len(shown['items']['data'][0]['price']['tiers']), 2)

    def test_packages_and_decimals(self):
        self.post('/v1/products', id='prod_a', name='A')
        price = self.post('/v1/prices', product='prod_a', currency='usd', unit_amount_decimal='12.345678901234',
                          transform_quantity={'divide_by': 10, 'round': 'up'}, recurring={'interval': 'month'})
        self.assertEqual((price['unit_amount'], price['unit_amount_decimal']), (None, '12.345678901234'))
        self.assertEqual(price['transform_quantity'], {'divide_by': 10, 'round': 'up'})

    def test_promotion_codes(self):
        self.subscribe()
        self.control('customers', id='cus_b')
        self.post('/v1/coupons', id='back', percent_off=20, applies_to={'products': ['prod_a']})
        shown, = self.get('/v1/coupons', expand=['data.applies_to'])['data']
        self.assertEqual(shown['applies_to'], {'products': ['prod_a']})
        terms = {'promotion': {'type': 'coupon', 'coupon': 'back'}}
        one = self.post('/v1/promotion_codes', customer='cus_a', max_redemptions=1, **terms)
        self.assertTrue(one['active'] and one['code'])
        self.assertEqual(one['promotion'], {'coupon': 'back', 'type': 'coupon'})
        self.refused('No such coupon', '/v1/promotion_codes', {'promotion': {'type': 'coupon', 'coupon': 'x'}},
                     param='promotion[coupon]')
        self.refused('already exists', '/v1/promotion_codes', {'code': one['code'].lower(), **terms})
        self.refused('belongs to another customer', '/v1/subscriptions', {
            'customer': 'cus_b', 'items': [{'price': 'price_basic'}], 'discounts': [{'promotion_code': one['id']}]})
        changed = self.post('/v1/subscriptions/sub_a', discounts=[{'promotion_code': one['id']}],
                            expand=['discounts.promotion_code', 'discounts.source.coupon.applies_to'])
        self.assertEqual(changed['discounts'][0]['source']['coupon']['applies_to'], {'products': ['prod_a']})
        self.assertEqual(changed['discounts'][0]['promotion_code']['times_redeemed'], 1)
        self.assertIs(self.get(f"/v1/promotion_codes/{one['id']}")['active'], False)
        self.refused('is not active', '/v1/subscriptions/sub_a', {'discounts': [{'promotion_code': one['id']}]})
        two = self.post('/v1/promotion_codes', code='TWO', expires_at=int(time.time()) + 50, **terms)
        self.assertEqual(len(self.get('/v1/promotion_codes', code='two', active=True)['data']), 1)
        self.control('clock', advance=60)
        self.assertIs(self.get(f"/v1/promotion_codes/{two['id']}")['active'], False)

    def test_discounts_come_and_go(self):
        self.subscribe()
        self.post('/v1/coupons', id='three', percent_off=20, duration='repeating', duration_in_months=3)
        self.post('/v1/coupons', id='ever', amount_off=100, currency='usd', duration='forever')
        kept, = self.post('/v1/subscriptions/sub_a', discounts=[{'coupon': 'three'}])['discounts']
        both = self.post('/v1/subscriptions/sub_a', discounts=[{'discount': kept}, {'coupon': 'ever'}])['discounts']
        self.assertEqual((len(both), both[0]), (2, kept))
        self.assertEqual(len(self.events('customer.discount.created')), 2)
        self.control('clock', advance=100 * DAY)
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['discounts'], both[1:])
        event, = self.events('customer.discount.deleted')
        self.assertEqual((event['data']['object']['id'], event['request']['id']), (kept, None))
        self.assertEqual(self.events()[-1]['data']['previous_attributes'], {'discounts': both})
        self.call('DELETE', '/v1/subscriptions/sub_a/discount')
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['discounts'], [])

    def test_payment_methods(self):
        self.subscribe()
        path = '/v1/payment_methods/pm_card_{}/attach'
        method = self.post(path.format('visa'), customer='cus_a')
        self.assertEqual((method['customer'], method['card']['last4']), ('cus_a', '4242'))
        error = self.refused('declined', path.format('visa_chargeDeclined'), {'customer': 'cus_a'}, status=402,
                             code='card_declined')
        self.assertEqual((error['type'], error['decline_code']), ('card_error', 'generic_decline'))
        self.post(path.format('chargeCustomerFail'), customer='cus_a')
        self.assertEqual(len(self.get('/v1/payment_methods', customer='cus_a')['data']), 2)
        self.post(f"/v1/payment_methods/{method['id']}/detach")
        event = self.events()[-1]
        self.assertEqual((event['data']['object']['customer'], event['data']['previous_attributes']),
                         (None, {'customer': 'cus_a'}))

    def test_pause_and_resume(self):
        self.subscribe()
        paused = self.post('/v1/subscriptions/sub_a/pause', type='subscription')
        self.assertEqual((paused['status'], self.events()[-1]['type']), ('paused', 'customer.subscription.paused'))
        self.refused('cannot be paused', '/v1/subscriptions/sub_a/pause', {'type': 'subscription'})
        self.control('clock', advance=DAY)
        resumed = self.post('/v1/subscriptions/sub_a/resume')
        self.assertEqual((resumed['status'], self.events()[-1]['type']), ('active', 'customer.subscription.resumed'))
        self.assertGreater(resumed['billing_cycle_anchor'], paused['billing_cycle_anchor'])
        self.refused('is not paused', '/v1/subscriptions/sub_a/resume')

    def test_entitlements(self):
        self.subscribe()
        feature = self.post('/v1/entitlements/features', lookup_key='sso', name='SSO')['id']
        self.post('/v1/products/prod_a/features', entitlement_feature=feature)
        held, = self.get('/v1/entitlements/active_entitlements', customer='cus_a')['data']
        self.assertEqual((held['feature'], held['lookup_key']), (feature, 'sso'))
        self.call('DELETE', '/v1/subscriptions/sub_a')
        event = self.events('entitlements.active_entitlement_summary.updated')[-1]['data']
        self.assertNotIn('id', event['object'])
        self.assertEqual(event['object']['entitlements']['data'], [])
        self.assertEqual(event['previous_attributes']['entitlements']['data'], [held])

    def test_feedback_options(self):
        option = self.post('/v1/billing/feedback_options', description='Too few cats')['id']
        self.post(f'/v1/billing/feedback_options/{option}/deactivate')
        self.assertEqual(self.get('/v1/billing/feedback_options', status='active')['data'], [])


class Traffic(Case):
    def test_a_rate_limit_is_enforced_and_counted(self):
        self.control('rate_limit', per_second=3, retry_after=1)
        answers = [self.call('GET', '/v1/customers') for _ in range(5)]
        self.assertEqual([answer.status for answer in answers], [200, 200, 200, 429, 429])
        self.assertEqual(answers[3].headers['Retry-After'], '1')
        report = self.get(CONTROL + 'rate_limit')
        self.assertEqual((report['requests'], report['refused'], report['peak']), (5, 2, 5))

    def test_faults_without_end(self):
        self.control('fault', kind='server_error', path='/v1/prices', times=0)
        self.assertEqual([self.call('GET', '/v1/prices').status for _ in range(3)], [500, 500, 500])
        self.get('/v1/customers')

    def test_lost_deliveries(self):
        self.control('drop', share=0.3, seed=7)
        for number in range(50):
            self.control('customers', id=f'cus_{number}')

        def ids(**params):
            return [item['object_id'] for item in self.get(CONTROL + 'deliveries', **params)['data']]
        lost = ids(lost=True)
        self.assertTrue(5 < len(lost) < 25)
        self.assertEqual(set(lost) | set(ids()), {f'cus_{number}' for number in range(50)})
        self.assertEqual(len(self.events()), 50)
        self.assertEqual(len(self.get('/v1/events', delivery_success=False, limit=100)['data']), len(lost))
        self.post(CONTROL + 'reset', state=True)
        self.control('drop', share=0.3, seed=7)
        for number in range(50):
            self.control('customers', id=f'cus_{number}')
        self.assertEqual(ids(lost=True), lost, 'a seed chooses the same')
