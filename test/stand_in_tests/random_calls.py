"""Whatever is asked in whatever order, the stand-in itself does not fail."""

import random

from stand_in.testing import CONTROL, Case

VERSIONS = ('2020-08-27', '2024-06-20', '2025-03-31.basil', '2025-09-30.clover', '2026-10-28.endive')
STATUSES = ('active', 'past_due', 'unpaid', 'paused', 'canceled', 'incomplete')
DAY = 86400


class RandomCalls(Case):
    def test_no_call_fails(self):
        for seed in range(12):
            with self.subTest(seed=seed):
                self.story(random.Random(seed))

    def ask(self, method, path, params=None):
        """A refusal is a good answer, a failure is not."""
        answer = self.call(method, path, params)
        self.assertLess(answer.status, 500, (method, path, params))
        return answer.json

    def story(self, rand):
        self.control('reset', state=True)
        self.subscribe()
        self.post('/v1/coupons', id='c1', percent_off=10, duration='repeating', duration_in_months=1)
        self.post('/v1/coupons', id='c2', amount_off=10, currency='usd')
        feature = self.post('/v1/entitlements/features', lookup_key='k', name='K')['id']
        self.post('/v1/products/prod_a/features', entitlement_feature=feature)
        self.control('dunning', days=[1, 2], final=rand.choice(['cancel', 'unpaid', 'past_due', 'pause']))
        self.control('customers', id='cus_b')
        subscriptions = ['sub_a']
        for _ in range(40):
            made = self.ask(*self.call_at_random(rand, rand.choice(subscriptions)))
            if made.get('object') == 'subscription' and made['id'] not in subscriptions:
                subscriptions.append(made['id'])
        for version in VERSIONS:
            self.get(CONTROL + 'deliveries', api_version=version)
        self.get('/v1/subscriptions', status='all', expand=['data.discounts.source.coupon', 'data.latest_invoice'])
        self.get('/v1/invoices', expand=['data.payments.data.payment.payment_intent'])

    def call_at_random(self, rand, subscription):
        path = f'/v1/subscriptions/{subscription}'
        customer = rand.choice(['cus_a', 'cus_b'])
        decline = rand.choice([{}, {'decline': 'lost_card'}])
        invoices = self.get('/v1/invoices', limit=5)['data']
        invoice = rand.choice(invoices)['id'] if invoices else 'in_x'
        return rand.choice((
            ('POST', '/v1/subscriptions', {
                'customer': customer, 'items': [{'price': rand.choice(['price_basic', 'price_plus'])}],
                **rand.choice([{}, {'trial_period_days': 5}, {'discounts': [{'coupon': 'c1'}]},
                               {'billing_mode': {'type': 'classic'}}, {'collection_method': 'send_invoice'}])}),
            ('POST', path, {'cancel_at_period_end': rand.choice([True, False])}),
            ('POST', path, {'discounts': [{'coupon': rand.choice(['c1', 'c2'])}]}),
            ('POST', path, {'pause_collection': rand.choice(['', {'behavior': 'void'}, {
                'behavior': 'keep_as_draft', 'resumes_at': self.control('clock')['now'] + 9 * DAY}])}),
            ('POST', f'{path}/pause', {'type': 'subscription'}),
            ('POST', f'{path}/resume'),
            ('DELETE', path),
            ('DELETE', f'{path}/discount'),
            ('DELETE', f"/v1/{rand.choice(['customers/cus_b', 'coupons/c2', 'customers/cus_x'])}"),
            ('POST', f"/v1/invoices/{invoice}/{rand.choice(['pay', 'void', 'mark_uncollectible', 'finalize'])}"),
            ('POST', CONTROL + 'renew', {'subscription': subscription, 'now': rand.random() < 0.5, **decline}),
            ('POST', CONTROL + 'bill', {'subscription': subscription, **decline}),
            ('POST', CONTROL + 'attempt', {'invoice': invoice, **decline}),
            ('POST', CONTROL + 'disputes', {'subscription': subscription, 'then': 'cancel_at_period_end'}),
            ('POST', CONTROL + 'payment_methods', {'customer': customer, **decline}),
            ('POST', CONTROL + 'clock', {'advance': rand.choice([3600, DAY, 20 * DAY]), 'run': True}),
            ('POST', CONTROL + f'subscriptions/{subscription}/status', {'status': rand.choice(STATUSES)}),
        ))
