"""Many subscribers at once."""

import time

from stand_in.testing import CONTROL, Case

DAY = 86400


class Bulk(Case):
    def test_the_drift_of_407_subscriptions(self):
        self.subscribe()
        self.control('bulk', count=407, prices=['price_basic', 'price_plus'], prefix='b')
        told = len(self.told())
        gone = self.control('bulk/status', count=28, prefix='b', status='canceled', feedback='unused', events='lost')
        self.assertEqual(len(gone['subscriptions']), 28)
        self.assertEqual(len(self.told()), told)
        self.assertEqual(len(self.get('/v1/events', type='customer.subscription.deleted', delivery_success=False,
                                      limit=100)['data']), 28)
        self.control('bulk/status', count=1, skip=1, prefix='b', status='past_due', events='none')
        self.assertEqual(self.get('/v1/subscriptions/sub_b00030')['status'], 'past_due')
        self.control('bulk/delete', count=1, prefix='b')
        self.assertIs(self.get('/v1/customers/cus_b00001')['deleted'], True)

    def test_spread_over_time(self):
        self.subscribe()
        now = self.control('clock')['now']
        self.control('bulk', count=10, prices=['price_basic'], countries=['DE', 'US'], **{
            'from': now - 100 * DAY, 'to': now})
        first, last = (self.get(f'/v1/customers/cus_bulk{number:05d}') for number in (1, 10))
        self.assertEqual((first['created'], last['created']), (now - 90 * DAY, now))
        self.assertEqual({first['address']['country'], last['address']['country']}, {'DE', 'US'})
        self.control('clock', run=True)
        self.assertEqual(len(self.get('/v1/invoices', customer='cus_bulk00001')['data']), 2, 'what was due since')

    def test_speed(self):
        self.subscribe()
        start = time.monotonic()
        self.control('bulk', count=1000, prices=['price_basic'])
        self.get('/v1/subscriptions', limit=100, expand=['data.customer'])
        # Far from measured time, which no busy machine reaches; a quadratic mistake would.
        self.assertLess(time.monotonic() - start, 5)
