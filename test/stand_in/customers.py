"""Customers."""

from __future__ import annotations

from . import parameters as P
from .documents import merge, without
from .routes import route
from .subscriptions import TERMINAL, end
from .world import Account


def whole_address(params: dict) -> dict:
    """An address always shows all its lines."""
    def filled(address):
        return address and {**dict.fromkeys(('city', 'country', 'line1', 'line2', 'postal_code', 'state')), **address}
    params = dict(params)
    if 'address' in params:
        params['address'] = filled(params['address'])
    if params.get('shipping'):
        params['shipping'] = {'phone': None, **params['shipping'],
                              'address': filled(params['shipping']['address'])}
    return params


CUSTOMER = {
    'address': None, 'balance': 0, 'currency': None, 'customer_account': None, 'default_source': None,
    'delinquent': False, 'description': None, 'email': None, 'invoice_prefix': None,
    'invoice_settings': {'custom_fields': None, 'default_payment_method': None, 'footer': None,
                         'rendering_options': None},
    'metadata': {}, 'name': None, 'next_invoice_sequence': 1, 'phone': None, 'preferred_locales': [],
    'shipping': None, 'tax_exempt': 'none', 'test_clock': None,
}


def add_customer(account: Account, params: dict, customer_id: str | None = None) -> dict:
    customer = account.add('customer', customer_id or account.world.new_id('cus'), CUSTOMER)
    customer['invoice_prefix'] = f"STAND{account.world.counters['cus']:03d}"
    merge(customer, whole_address(without(params)))
    account.emit('customer.created', customer)
    return customer


@route('POST', '/v1/customers', P.CUSTOMER)
def create_customer(account: Account, params: dict) -> dict:
    return add_customer(account, params)


@route('GET', '/v1/customers', P.CUSTOMER_LIST)
def list_customers(account: Account, params: dict) -> dict:
    return account.page('customer', params, '/v1/customers',
                        lambda item: params.get('email') in (None, item['email']))


@route('GET', '/v1/customers/{}', P.EXPAND)
def retrieve_customer(account: Account, params: dict, customer_id: str) -> dict:
    if customer_id in account.deleted['customer']:
        return account.stub('customer', customer_id)
    return account.get('customer', customer_id)


@route('POST', '/v1/customers/{}', P.CUSTOMER, updating=True)
def update_customer(account: Account, params: dict, customer_id: str) -> dict:
    with account.change(account.get('customer', customer_id), 'customer.updated') as customer:
        merge(customer, whole_address(without(params)))
    return customer


@route('DELETE', '/v1/customers/{}', {})
def delete_customer(account: Account, params: dict, customer_id: str) -> dict:
    customer = account.get('customer', customer_id)
    for subscription in account.objects['subscription'].values():
        if subscription['customer'] == customer_id and subscription['status'] not in TERMINAL:
            end(account, subscription, 'cancellation_requested')
    stub = account.remove('customer', customer_id)
    account.emit('customer.deleted', customer)
    return stub
