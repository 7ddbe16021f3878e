"""Renewals, declined payments, recovery, disputes, and the passing of time."""

from stand_in.testing import CONTROL, Case

DAY = 86400


class Money(Case):
    def types(self, since=0):
        return [event['type'] for event in self.told()][since:]

    def renew(self, **params):
        return self.control('renew', subscription='sub_a', **params)

    def test_a_renewal(self):
        item = self.subscribe(quantity=3)['items']['data'][0]
        before = len(self.told())
        invoice = self.renew()
        self.assertEqual((invoice['status'], invoice['amount_paid'], invoice['billing_reason'],
                          invoice['attempt_count']), ('paid', 3000, 'subscription_cycle', 1))
        self.assertEqual(invoice['parent']['subscription_details']['subscription'], 'sub_a')
        line, = invoice['lines']['data']
        self.assertEqual(line['period']['start'], item['current_period_end'])
        self.assertEqual(line['pricing']['price_details'], {'price': 'price_basic', 'product': 'prod_a'})
        self.assertEqual(self.types(before), [
            'invoice.created', 'customer.subscription.updated', 'payment_intent.created', 'invoice.finalized',
            'charge.succeeded', 'payment_intent.succeeded', 'invoice_payment.paid', 'invoice.updated',
            'invoice.paid', 'invoice.payment_succeeded'])
        previous = self.told('customer.subscription.updated')[0]['data']['previous_attributes']
        self.assertEqual(previous['items']['data'][0]['current_period_end'], item['current_period_end'])
        self.assertIsNone(previous['latest_invoice'])
        shown = self.get(f"/v1/invoices/{invoice['id']}", expand=['payments.data.payment.payment_intent'])
        intent = shown['payments']['data'][0]['payment']['payment_intent']
        self.assertEqual((intent['status'], intent['amount_received']), ('succeeded', 3000))
        linked, = self.get('/v1/invoice_payments', payment={
            'type': 'payment_intent', 'payment_intent': intent['id']})['data']
        self.assertEqual((linked['invoice'], linked['status']), (invoice['id'], 'paid'))

    def test_a_renewal_now_leaves_the_clock(self):
        self.subscribe()
        now = self.control('clock')['now']
        self.renew(now=True)
        self.assertLess(self.control('clock')['now'] - now, 5)

    def test_a_decline_tells_its_codes(self):
        self.subscribe()
        before = len(self.told())
        invoice = self.renew(decline='insufficient_funds', network_decline_code='51')
        self.assertEqual(self.types(before), [
            'invoice.created', 'customer.subscription.updated', 'payment_intent.created', 'invoice.finalized',
            'charge.failed', 'payment_intent.payment_failed', 'invoice.updated', 'invoice.payment_failed',
            'customer.updated', 'customer.subscription.updated'])
        self.assertEqual((invoice['status'], invoice['attempted'], invoice['attempt_count']), ('open', True, 1))
        self.assertEqual(invoice['next_payment_attempt'] - self.control('clock')['now'], 3 * DAY)
        charge, = self.get('/v1/charges', customer='cus_a')['data']
        self.assertEqual((charge['status'], charge['failure_code']), ('failed', 'card_declined'))
        outcome = charge['outcome']
        self.assertEqual((outcome['type'], outcome['reason'], outcome['advice_code'], outcome['network_decline_code']),
                         ('issuer_declined', 'insufficient_funds', 'try_again_later', '51'))
        intent, = self.get('/v1/payment_intents', customer='cus_a')['data']
        error = intent['last_payment_error']
        self.assertEqual((error['decline_code'], error['charge'], error['payment_method']['object']),
                         ('insufficient_funds', charge['id'], 'payment_method'))
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'past_due')
        self.assertEqual(self.told()[-1]['data']['previous_attributes'], {'status': 'active'})

    def test_billing_automations_tell_the_next_attempt_later(self):
        self.subscribe()
        self.renew(decline='do_not_honor', automations=True)
        failed, = self.told('invoice.payment_failed')
        self.assertIsNone(failed['data']['object']['next_payment_attempt'])
        self.assertIsNotNone(self.told('invoice.updated')[-1]['data']['object']['next_payment_attempt'])

    def test_the_last_failure(self):
        for final, status in (('cancel', 'canceled'), ('unpaid', 'unpaid'), ('past_due', 'past_due'),
                              ('pause', 'paused')):
            with self.subTest(final):
                self.post(CONTROL + 'reset', state=True)
                self.subscribe()
                self.control('dunning', days=[1], final=final)
                invoice = self.renew(decline='lost_card')
                again = self.control('attempt', invoice=invoice['id'], decline='lost_card')
                self.assertEqual((again['attempt_count'], again['next_payment_attempt']), (2, None))
                subscription = self.get('/v1/subscriptions/sub_a')
                self.assertEqual(subscription['status'], status)
                if final == 'cancel':
                    self.assertEqual(subscription['cancellation_details']['reason'], 'payment_failed')
                    self.assertIs(self.get(f"/v1/invoices/{invoice['id']}")['auto_advance'], False)

    def test_recovery(self):
        self.subscribe()
        invoice = self.renew(decline='expired_card')['id']
        paid = self.post(f'/v1/invoices/{invoice}/pay')
        self.assertEqual((paid['status'], paid['attempt_count'], paid['next_payment_attempt']), ('paid', 1, None))
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'active')
        self.assertIs(self.get('/v1/customers/cus_a')['delinquent'], False)
        self.assertEqual(len(self.get('/v1/charges')['data']), 2)
        self.refused('only open or uncollectible', f'/v1/invoices/{invoice}/pay')

    def test_a_declined_pay_call_leaves_its_charge(self):
        self.subscribe()
        invoice = self.renew(decline='do_not_honor')['id']
        error = self.refused('declined', f'/v1/invoices/{invoice}/pay', {
            'payment_method': 'pm_card_chargeCustomerFail'}, status=402, code='card_declined')
        self.assertEqual((error['type'], error['decline_code'], error['payment_intent']['object']),
                         ('card_error', 'generic_decline', 'payment_intent'))
        self.assertEqual(self.get('/v1/charges')['data'][0]['id'], error['charge'])
        self.refused('No such payment method', f'/v1/invoices/{invoice}/pay', {'payment_method': 'pm_x'})

    def test_closing_without_payment(self):
        self.subscribe()
        for action, status, event in (('void', 'void', 'invoice.voided'),
                                      ('mark_uncollectible', 'uncollectible', 'invoice.marked_uncollectible')):
            invoice = self.renew(decline='do_not_honor')['id']
            self.assertEqual(self.post(f'/v1/invoices/{invoice}/{action}')['status'], status)
            self.assertEqual(self.told()[-1]['type'], event)
        found = self.get('/v1/invoices', status='void', subscription='sub_a', customer='cus_a')['data']
        self.assertEqual(len(found), 1)

    def test_paid_out_of_band(self):
        self.subscribe()
        invoice = self.renew(decline='do_not_honor')['id']
        self.post(f'/v1/invoices/{invoice}/pay', paid_out_of_band=True)
        self.assertIn('invoice.paid', self.types())
        self.assertNotIn('invoice.payment_succeeded', self.types())

    def test_discounts_and_tiers_on_invoices(self):
        self.subscribe(quantity=2)
        self.post('/v1/coupons', id='once', percent_off=10)
        self.post('/v1/coupons', id='off', amount_off=300, currency='usd', duration='forever')
        self.post('/v1/subscriptions/sub_a', discounts=[{'coupon': 'once'}, {'coupon': 'off'}])
        invoice = self.renew()
        self.assertEqual((invoice['subtotal'], invoice['total']), (2000, 1500))
        self.assertEqual([entry['amount'] for entry in invoice['total_discount_amounts']], [200, 300])
        self.assertEqual(len(self.get('/v1/subscriptions/sub_a')['discounts']), 1, 'once is used up')
        self.assertEqual(self.renew()['total'], 1700)

    def test_disputes(self):
        self.subscribe()
        self.renew()
        dispute = self.control('disputes', subscription='sub_a', reason='fraudulent', then='cancel')
        self.assertEqual((dispute['amount'], dispute['status']), (1000, 'needs_response'))
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['cancellation_details']['reason'], 'payment_disputed')
        self.assertIs(self.get(f"/v1/charges/{dispute['charge']}")['disputed'], True)
        self.control(f"disputes/{dispute['id']}/close", status='won')
        self.assertEqual(self.types()[-2:], ['charge.dispute.closed', 'charge.dispute.funds_reinstated'])
        self.assertEqual(len(self.get('/v1/disputes', charge=dispute['charge'])['data']), 1)

    def test_pause_of_collection(self):
        self.subscribe()
        self.post('/v1/subscriptions/sub_a', pause_collection={'behavior': 'void'})
        self.assertEqual(self.renew()['status'], 'void')
        self.post('/v1/subscriptions/sub_a', pause_collection={'behavior': 'keep_as_draft'})
        self.assertEqual(self.renew()['status'], 'draft')


class Time(Case):
    def test_a_year(self):
        self.control('clock', set=1706659200)  # 31 January 2024
        self.subscribe()
        self.control('clock', set=1738281600, run=True)  # 31 January 2025
        starts = [invoice['created'] for invoice in self.get('/v1/invoices', limit=100)['data']]
        self.assertEqual(len(starts), 12)
        self.assertEqual(starts[-1], 1709164800, '29 February')
        self.assertEqual(starts[0], 1738281600, 'and still on the 31st')

    def test_a_failing_card_ends_the_subscription(self):
        self.subscribe()
        self.control('payment_methods', customer='cus_a', decline='insufficient_funds')
        self.control('clock', advance=60 * DAY, run=True)
        subscription = self.get('/v1/subscriptions/sub_a')
        self.assertEqual((subscription['status'], subscription['cancellation_details']['reason']),
                         ('canceled', 'payment_failed'))
        failed = self.told('invoice.payment_failed')
        self.assertEqual([event['data']['object']['attempt_count'] for event in failed], [1, 2, 3, 4])
        self.assertEqual([(b['created'] - a['created']) // DAY for a, b in zip(failed, failed[1:])], [3, 5, 7])

    def test_a_card_that_works_again(self):
        self.subscribe()
        method = self.control('payment_methods', customer='cus_a', decline='insufficient_funds')['id']
        self.control('clock', advance=32 * DAY, run=True)
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'past_due')
        self.control(f'payment_methods/{method}', decline='')
        self.control('clock', advance=4 * DAY, run=True)
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'active')

    def test_scheduled_cancel_and_trials(self):
        self.subscribe(trial_period_days=7)
        for number, behavior in enumerate(('cancel', 'pause')):
            self.control('subscriptions', id=f'sub_{number}', customer='cus_a', price='price_basic',
                         trial_period_days=7, trial_settings={'end_behavior': {'missing_payment_method': behavior}})
        self.control('subscriptions', id='sub_2', customer='cus_a', price='price_basic')
        self.post('/v1/subscriptions/sub_2', cancel_at_period_end=True)
        self.control('clock', advance=6 * DAY, run=True)
        self.assertEqual(len(self.told('customer.subscription.trial_will_end')), 3)
        self.control('clock', advance=26 * DAY, run=True)
        self.assertEqual({item['id']: item['status'] for item in self.get('/v1/subscriptions', status='all')['data']},
                         {'sub_a': 'active', 'sub_0': 'canceled', 'sub_1': 'paused', 'sub_2': 'canceled'})

    def test_repeating_discounts(self):
        self.subscribe()
        self.post('/v1/coupons', id='three', percent_off=50, duration='repeating', duration_in_months=3)
        self.post('/v1/subscriptions/sub_a', discounts=[{'coupon': 'three'}])
        self.control('clock', advance=130 * DAY, run=True)
        self.assertEqual([invoice['total'] for invoice in reversed(self.get('/v1/invoices')['data'])],
                         [500, 500, 1000, 1000])

    def test_a_first_payment_that_never_comes(self):
        self.subscribe()
        self.control('bill', subscription='sub_a', decline='do_not_honor')
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'incomplete')
        self.control('clock', advance=23 * 3600, run=True)
        subscription = self.get('/v1/subscriptions/sub_a', expand=['latest_invoice'])
        self.assertEqual((subscription['status'], subscription['latest_invoice']['status']),
                         ('incomplete_expired', 'void'))

    def test_an_invoice_that_is_sent_and_not_paid(self):
        self.subscribe(collection_method='send_invoice', days_until_due=10)
        invoice = self.control('renew', subscription='sub_a')
        self.assertEqual((invoice['status'], invoice['next_payment_attempt']), ('open', None))
        self.control('clock', advance=10 * DAY, run=True)
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'past_due')
        self.post(f"/v1/invoices/{invoice['id']}/pay", paid_out_of_band=True)
        self.assertEqual(self.get('/v1/subscriptions/sub_a')['status'], 'active')
