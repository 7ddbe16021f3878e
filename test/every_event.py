#!/usr/bin/env python3
"""The body of every kind of event that the Stripe stand-in sends, one JSON string per line.

Lives through what can happen to a few customers, in a stand-in of its own:
snapshot events first, in order, then the thin ones.  For tests that change
events at random.
"""

import json
import ssl
import urllib.error
import urllib.request

from stand_in.server import StandIn
from stand_in.testing import CONTROL, SESSIONS, TEST, encode


class Client:
    """Calls the stand-in; what it refuses is an error here."""

    def __init__(self, stand_in: StandIn):
        self.base = stand_in.url
        self.context = ssl.create_default_context(cafile=stand_in.ca_file)

    def call(self, method: str, path: str, params: dict) -> dict:
        form = encode(params)
        request = urllib.request.Request(
            self.base + path + (f'?{form}' if form and method == 'GET' else ''), method=method,
            data=form.encode() if method == 'POST' else None, headers={'Authorization': f'Bearer {TEST}'})
        try:
            with urllib.request.urlopen(request, context=self.context) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            raise SystemExit(f'{method} {path}: {refusal.read().decode()}') from refusal

    def post(self, path: str, /, **params) -> dict:
        return self.call('POST', path, params)

    def control(self, name: str, /, **params) -> dict:
        return self.call('POST', CONTROL + name, params)

    def get(self, path: str, /, **params) -> dict:
        return self.call('GET', path, params)

    def delete(self, path: str) -> dict:
        return self.call('DELETE', path, {})


def sell(c: Client) -> None:
    """A catalogue, and subscribers of all sorts."""
    c.post('/v1/products', id='prod_a', name='Plan A')
    c.post('/v1/products/prod_a', name='Plan A, ü')
    c.post('/v1/products', id='prod_gone', name='Gone')
    c.delete('/v1/products/prod_gone')
    for price, amount, interval in (('price_basic', 1000, 'month'), ('price_plus', 2500, 'year')):
        c.control('prices', id=price, product='prod_a', currency='usd', unit_amount=amount,
                  recurring={'interval': interval})
    c.post('/v1/prices/price_plus', nickname='Plus')
    c.post('/v1/coupons', id='half', percent_off=50, duration='forever')
    c.post('/v1/coupons', id='gone', amount_off=100, currency='usd', duration='once')
    c.post('/v1/coupons/half', name='Half')
    c.delete('/v1/coupons/gone')
    code = c.post('/v1/promotion_codes', promotion={'type': 'coupon', 'coupon': 'half'}, code='HALF')
    c.post(f"/v1/promotion_codes/{code['id']}", active=False)
    feature = c.post('/v1/entitlements/features', name='Reports', lookup_key='reports')
    c.post('/v1/products/prod_a/features', entitlement_feature=feature['id'])
    for name in 'abcd':
        c.control('customers', id=f'cus_{name}', email=f'{name}@example.com', name='Jenny Rosen')
        c.control('payment_methods', customer=f'cus_{name}')
        c.control('subscriptions', id=f'sub_{name}', customer=f'cus_{name}', price='price_basic')
    c.post('/v1/customers/cus_a', balance=-500, address={'country': 'DE', 'line1': 'Weg 1'})
    c.post('/v1/subscriptions/sub_a', discounts=[{'coupon': 'half'}])
    c.delete('/v1/subscriptions/sub_a/discount')


def use_portal(c: Client) -> None:
    """Two configurations, a session, and what its visitor does there."""
    c.control('default_configuration', exists=True)
    made = c.post('/v1/billing_portal/configurations', name='Ours', features={
        'subscription_cancel': {'enabled': True, 'cancellation_reason': {'enabled': True, 'options': [
            'too_expensive', 'unused', 'other']}},
        'customer_update': {'enabled': True, 'allowed_updates': ['email', 'name']},
        'payment_method_update': {'enabled': True}, 'invoice_history': {'enabled': True}})
    c.post(f"/v1/billing_portal/configurations/{made['id']}", default_return_url='https://app.example.com/account')
    session = c.post(SESSIONS, customer='cus_a', configuration=made['id'], return_url='https://app.example.com/account')
    for visit in ({'action': 'cancel', 'feedback': 'too_expensive', 'comment': 'Zu teuer, "leider" \\ 予算'},
                  {'action': 'renew'}, {'action': 'update_customer', 'email': 'new@example.com'},
                  {'action': 'update_payment_method', 'card': 'pm_card_visa_chargeDeclined'},
                  {'action': 'update_payment_method', 'card': 'pm_card_visa'}):
        c.control('visit', session=session['id'], **visit)


def collect(c: Client) -> None:
    """Renewals that are paid, declined, recovered, disputed and given up."""
    c.control('renew', subscription='sub_a')
    c.control('disputes', subscription='sub_a', reason='fraudulent')
    dispute = c.get('/v1/disputes')['data'][0]
    c.control(f"disputes/{dispute['id']}/close", status='won')
    c.control('dunning', days=[1], final='cancel')
    failed = c.control('renew', subscription='sub_b', decline='insufficient_funds', network_decline_code='51')
    c.post(f"/v1/invoices/{failed['id']}/pay")
    failed = c.control('renew', subscription='sub_c', decline='do_not_honor', now=True)
    c.post(f"/v1/invoices/{failed['id']}/send")
    c.post(f"/v1/invoices/{failed['id']}/mark_uncollectible")
    c.post(f"/v1/invoices/{failed['id']}/void")
    method = c.post('/v1/payment_methods', type='card', card={'token': 'tok_visa'})
    c.post(f"/v1/payment_methods/{method['id']}/attach", customer='cus_d')
    c.post(f"/v1/payment_methods/{method['id']}", card={'exp_year': 2040})
    c.post(f"/v1/payment_methods/{method['id']}/detach")
    c.control('subscriptions', id='sub_trial', customer='cus_d', price='price_plus', trial_period_days=7)
    c.control('clock', advance=5 * 86400, run=True)
    c.control('subscriptions/sub_d/status', status='paused')
    c.control('subscriptions/sub_d/status', status='active')
    c.delete('/v1/subscriptions/sub_d')
    c.delete('/v1/customers/cus_d')


def main() -> None:
    stand_in = StandIn()
    try:
        client = Client(stand_in)
        sell(client)
        use_portal(client)
        collect(client)
        for thin in (False, True):
            for delivery in client.get(CONTROL + 'deliveries', thin=thin)['data']:
                print(json.dumps(delivery['payload']))
    finally:
        stand_in.close()


if __name__ == '__main__':
    main()
