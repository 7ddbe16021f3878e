"""Configurations, sessions, and visits."""

from stand_in.testing import CONTROL, SESSIONS, Case


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
        self.refused('Invoicing at once is not available', path,
                     {'features': {'subscription_cancel': {'proration_behavior': 'always_invoice'}}})
        self.refused('A pause lasts at most 3 years.', path, {'features': {'subscription_pause': {'duration': {
            'type': 'interval_options', 'interval_options': [{'interval': 'month', 'interval_count': 37}]}}}})
        reasons = {'enabled': True, 'options': '', 'feedback_options': ['bfo_1']}
        changed = self.post(path, features={'subscription_cancel': {'cancellation_reason': reasons}})
        self.assertEqual(changed['features']['subscription_cancel']['cancellation_reason'],
                         {**reasons, 'options': []})
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

    def test_a_declined_offer_and_a_late_survey(self):
        self.subscribe()
        option = self.post('/v1/billing/feedback_options', description='Too few cats')['id']
        session = self.session()['id']
        self.control('visit', session=session, action='cancel')
        self.control('clock', advance=7)
        self.control('visit', session=session, action='survey', feedback='other', feedback_option=option)
        first, second = self.events('customer.subscription.updated')
        self.assertEqual(second['created'] - first['created'], 7)
        self.assertEqual(second['data']['object']['cancellation_details']['feedback_option'], option)

    def test_pausing_and_resuming(self):
        self.subscribe()
        session = self.session()['id']
        self.control('visit', session=session, action='pause')
        self.control('visit', session=session, action='resume')
        self.assertEqual([event['type'] for event in self.events()][-2:],
                         ['customer.subscription.paused', 'customer.subscription.resumed'])

    def test_a_confirmed_change(self):
        item = self.subscribe()['items']['data'][0]['id']
        self.post('/v1/coupons', id='stay', percent_off=20)
        self.post('/v1/billing_portal/configurations/bpc_default', features={'subscription_update': {
            'products': [{'product': 'prod_a', 'prices': ['price_basic', 'price_plus']}]}})
        session = self.session(flow_data={'type': 'subscription_update_confirm', 'subscription_update_confirm': {
            'subscription': 'sub_a', 'items': [{'id': item, 'price': 'price_plus'}],
            'discounts': [{'coupon': 'stay'}]}})['id']
        self.control('visit', session=session, action='confirm')
        subscription = self.get('/v1/subscriptions/sub_a', expand=['discounts'])
        self.assertEqual((subscription['items']['data'][0]['price']['id'],
                          subscription['discounts'][0]['source']['coupon']), ('price_plus', 'stay'))

    def test_cards(self):
        self.subscribe()
        session = self.session()['id']
        self.control('visit', session=session, action='update_payment_method', card='pm_card_visa_chargeDeclined')
        event = self.events()[-1]
        self.assertEqual((event['type'], event['data']['object']['last_setup_error']['decline_code']),
                         ('setup_intent.setup_failed', 'generic_decline'))
        self.control('visit', session=session, action='update_payment_method', card='pm_card_chargeCustomerFail')
        self.assertEqual(self.control('renew', subscription='sub_a', now=True)['status'], 'open')
        self.control('visit', session=session, action='remove_payment_method')
        self.assertIsNone(self.get('/v1/customers/cus_a')['invoice_settings']['default_payment_method'])
        self.assertEqual(self.events()[-1]['type'], 'payment_method.detached')
