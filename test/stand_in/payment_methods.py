"""Payment methods: Stripe's test cards, attached to customers."""

from __future__ import annotations

from . import parameters as P
from .declines import declined
from .documents import merge, without
from .errors import StripeError
from .routes import route
from .world import Account

# Test payment methods: last digits of the card, and the decline code of attaching and of charging it.
TEST_CARDS = {
    'pm_card_visa': ('4242', None, None),
    'pm_card_visa_chargeDeclined': ('0002', 'generic_decline', 'generic_decline'),
    'pm_card_chargeCustomerFail': ('0341', None, 'generic_decline'),
}

PAYMENT_METHOD = {
    'allow_redisplay': 'unspecified',
    'billing_details': {'address': {'city': None, 'country': None, 'line1': None, 'line2': None,
                                    'postal_code': None, 'state': None},
                        'email': None, 'name': None, 'phone': None, 'tax_id': None},
    'card': {'brand': 'visa', 'checks': {'address_line1_check': None, 'address_postal_code_check': None,
                                         'cvc_check': 'pass'},
             'country': 'US', 'display_brand': 'visa', 'exp_month': 12, 'exp_year': 2034, 'fingerprint': None,
             'funding': 'credit', 'generated_from': None, 'last4': '4242',
             'networks': {'available': ['visa'], 'preferred': None},
             'three_d_secure_usage': {'supported': True}, 'wallet': None},
    'customer': None, 'customer_account': None, 'metadata': {}, 'type': 'card',
}


def add_card(account: Account, customer: dict | None, card: str = 'pm_card_visa', decline: str | None = None) -> dict:
    """A payment method like one of the test cards; decline is a code every charge of it will meet."""
    last4, _, charging = TEST_CARDS[card]
    method = account.add('payment_method', account.world.new_id('pm'), PAYMENT_METHOD)
    method['card'].update(last4=last4, fingerprint=f'stand_in_{last4}')
    method['.decline'] = decline or charging
    if customer:
        method['customer'] = customer['id']
        method['billing_details'].update(email=customer['email'], name=customer['name'])
    return method


def usable(account: Account, customer: dict, method_id: str, param: str) -> dict:
    """A payment method of a customer; the name of a test card attaches a new one."""
    if method_id in TEST_CARDS:
        return attach(account, customer, method_id)
    method = account.get('payment_method', method_id, param)
    if method['customer'] != customer['id']:
        raise StripeError(f"The customer does not have a payment method with the ID {method_id}. The payment method "
                          'must be attached to the customer.', param=param, code='resource_missing')
    return method


def attach(account: Account, customer: dict, method_id: str) -> dict:
    if method_id in TEST_CARDS:
        refusal = TEST_CARDS[method_id][1]
        if refusal:
            raise declined(refusal)
        method = add_card(account, customer, method_id)
    else:
        method = account.get('payment_method', method_id)
        if method['customer'] not in (None, customer['id']):
            raise StripeError('The payment method you provided has already been attached to a customer.')
        method['customer'] = customer['id']
    account.emit('payment_method.attached', method)
    return method


def in_use(account: Account, subscription: dict) -> dict | None:
    """What a renewal is charged to: the first that is set of Stripe's order."""
    customer = account.known('customer', subscription['customer'])
    for method_id in (subscription['default_payment_method'],
                      customer['invoice_settings']['default_payment_method']):
        if method_id:
            return account.objects['payment_method'].get(method_id)
    return None


@route('POST', '/v1/payment_methods', P.PAYMENT_METHOD_CREATE)
def create_payment_method(account: Account, params: dict) -> dict:
    """A card, without the numbers: what it does is chosen by the test payment methods."""
    method = add_card(account, None)
    merge(method, without(params, 'card'))
    return method


@route('GET', '/v1/payment_methods', P.PAYMENT_METHOD_LIST)
def list_payment_methods(account: Account, params: dict) -> dict:
    return account.page('payment_method', params, '/v1/payment_methods',
                        lambda item: item['customer'] is not None
                        and all(params.get(name) in (None, item[name]) for name in ('customer', 'type')))


@route('GET', '/v1/customers/{}/payment_methods', P.PAYMENT_METHOD_LIST)
def list_customer_payment_methods(account: Account, params: dict, customer_id: str) -> dict:
    account.get('customer', customer_id)
    page = list_payment_methods(account, {**params, 'customer': customer_id})
    return {**page, 'url': f'/v1/customers/{customer_id}/payment_methods'}


@route('GET', '/v1/payment_methods/{}', P.EXPAND)
def retrieve_payment_method(account: Account, params: dict, method_id: str) -> dict:
    return account.get('payment_method', method_id)


@route('POST', '/v1/payment_methods/{}', P.PAYMENT_METHOD_UPDATE, updating=True)
def update_payment_method(account: Account, params: dict, method_id: str) -> dict:
    with account.change(account.get('payment_method', method_id), 'payment_method.updated') as method:
        merge(method, without(params))
    return method


@route('POST', '/v1/payment_methods/{}/attach', P.PAYMENT_METHOD_ATTACH)
def attach_payment_method(account: Account, params: dict, method_id: str) -> dict:
    return attach(account, account.get('customer', params['customer'], 'customer'), method_id)


@route('POST', '/v1/payment_methods/{}/detach', P.EXPAND)
def detach_payment_method(account: Account, params: dict, method_id: str) -> dict:
    method = account.get('payment_method', method_id)
    if method['customer'] is None:
        raise StripeError('The payment method you provided is not attached to a customer so detachment is impossible.')
    detach(account, method)
    return method


def detach(account: Account, method: dict) -> None:
    """Take a card from its customer; only previous_attributes says whose it was."""
    owner = account.objects['customer'].get(method['customer'])
    if owner and owner['invoice_settings']['default_payment_method'] == method['id']:
        with account.change(owner, 'customer.updated'):
            owner['invoice_settings']['default_payment_method'] = None
    before, method['customer'] = method['customer'], None
    account.emit('payment_method.detached', method, {'customer': before})
