"""Customers, products, prices, coupons, events and webhook endpoints."""

from __future__ import annotations

from fnmatch import fnmatchcase

from . import parameters as P
from .errors import StripeError
from .routes import route
from .subscriptions import TERMINAL, end
from .world import Account, merge, without


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


# Customers --------------------------------------------------------------------

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


# Products and prices ------------------------------------------------------------

PRODUCT = {
    'active': True, 'default_price': None, 'description': None, 'images': [], 'marketing_features': [],
    'metadata': {}, 'name': None, 'package_dimensions': None, 'shippable': None, 'statement_descriptor': None,
    'tax_code': None, 'type': 'service', 'unit_label': None, 'updated': None, 'url': None,
}


@route('POST', '/v1/products', P.PRODUCT_CREATE)
def create_product(account: Account, params: dict) -> dict:
    product = account.add('product', params.get('id') or account.world.new_id('prod'), PRODUCT)
    product['updated'] = product['created']
    merge(product, without(params))
    account.emit('product.created', product)
    return product


@route('GET', '/v1/products', P.PRODUCT_LIST)
def list_products(account: Account, params: dict) -> dict:
    return account.page('product', params, '/v1/products',
                        lambda item: params.get('active') in (None, item['active'])
                        and ('ids' not in params or item['id'] in params['ids']))


@route('GET', '/v1/products/{}', P.EXPAND)
def retrieve_product(account: Account, params: dict, product_id: str) -> dict:
    return account.get('product', product_id)


@route('POST', '/v1/products/{}', P.PRODUCT_UPDATE, updating=True)
def update_product(account: Account, params: dict, product_id: str) -> dict:
    product = account.get('product', product_id)
    if 'default_price' in params:
        account.get('price', params['default_price'], 'default_price')
    with account.change(product, 'product.updated'):
        merge(product, without(params))
        product['updated'] = account.world.now()
    return product


@route('DELETE', '/v1/products/{}', {})
def delete_product(account: Account, params: dict, product_id: str) -> dict:
    product = account.get('product', product_id)
    if any(price['product'] == product_id for price in account.objects['price'].values()):
        raise StripeError('This product cannot be deleted because it has one or more user-created prices.')
    stub = account.remove('product', product_id)
    account.emit('product.deleted', product)
    return stub


PRICE = {
    'active': True, 'billing_scheme': 'per_unit', 'currency': None, 'custom_unit_amount': None,
    'lookup_key': None, 'metadata': {}, 'nickname': None, 'product': None, 'recurring': None,
    'tax_behavior': 'unspecified', 'tiers_mode': None, 'transform_quantity': None, 'type': 'one_time',
    'unit_amount': None, 'unit_amount_decimal': None,
}


def add_price(account: Account, params: dict, price_id: str | None = None) -> dict:
    account.get('product', params['product'], 'product')
    if ('unit_amount' in params) == ('unit_amount_decimal' in params):
        raise StripeError('Prices require one of the `unit_amount` and `unit_amount_decimal` parameters to be set.',
                          code='parameter_missing', param='unit_amount')
    price = account.add('price', price_id or account.world.new_id('price'), PRICE)
    merge(price, without(params))
    if 'unit_amount' in params:
        price['unit_amount_decimal'] = str(params['unit_amount'])
    else:
        decimal = params['unit_amount_decimal']
        price['unit_amount'] = int(decimal) if decimal == int(decimal) else None
        price['unit_amount_decimal'] = str(decimal)
    if 'recurring' in params:
        price['type'] = 'recurring'
        price['recurring'] = {'interval_count': 1, 'meter': None, 'trial_period_days': None,
                              'usage_type': 'licensed', **params['recurring']}
    account.emit('price.created', price)
    return price


@route('POST', '/v1/prices', P.PRICE_CREATE)
def create_price(account: Account, params: dict) -> dict:
    return add_price(account, params)


@route('GET', '/v1/prices', P.PRICE_LIST)
def list_prices(account: Account, params: dict) -> dict:
    return account.page('price', params, '/v1/prices',
                        lambda item: all(params.get(name) in (None, item[name])
                                         for name in ('active', 'currency', 'product', 'type'))
                        and ('lookup_keys' not in params or item['lookup_key'] in params['lookup_keys']))


@route('GET', '/v1/prices/{}', P.EXPAND)
def retrieve_price(account: Account, params: dict, price_id: str) -> dict:
    return account.get('price', price_id)


@route('POST', '/v1/prices/{}', P.PRICE, updating=True)
def update_price(account: Account, params: dict, price_id: str) -> dict:
    with account.change(account.get('price', price_id), 'price.updated') as price:
        merge(price, without(params))
    return price


# Coupons ------------------------------------------------------------------------

COUPON = {
    'amount_off': None, 'currency': None, 'duration': 'once', 'duration_in_months': None,
    'max_redemptions': None, 'metadata': {}, 'name': None, 'percent_off': None, 'redeem_by': None,
    'times_redeemed': 0, 'valid': True,
}


@route('POST', '/v1/coupons', P.COUPON_CREATE)
def create_coupon(account: Account, params: dict) -> dict:
    if ('percent_off' in params) == ('amount_off' in params):
        raise StripeError('Must provide exactly one of percent_off or amount_off.', param='percent_off',
                          code='parameter_missing')
    if 'amount_off' in params and 'currency' not in params:
        raise StripeError('You must pass currency when passing amount_off.', param='currency',
                          code='parameter_missing')
    if params.get('duration') == 'repeating' and 'duration_in_months' not in params:
        raise StripeError('You must pass duration_in_months when the duration is repeating.',
                          param='duration_in_months', code='parameter_missing')
    coupon = account.add('coupon', params.get('id') or account.world.new_id('coupon'), COUPON)
    merge(coupon, without(params, 'applies_to'))
    if 'applies_to' in params:
        coupon['+applies_to'] = params['applies_to']
    account.emit('coupon.created', coupon)
    return coupon


@route('GET', '/v1/coupons', P.COUPON_LIST)
def list_coupons(account: Account, params: dict) -> dict:
    return account.page('coupon', params, '/v1/coupons')


@route('GET', '/v1/coupons/{}', P.EXPAND)
def retrieve_coupon(account: Account, params: dict, coupon_id: str) -> dict:
    return account.get('coupon', coupon_id)


@route('POST', '/v1/coupons/{}', P.COUPON_UPDATE, updating=True)
def update_coupon(account: Account, params: dict, coupon_id: str) -> dict:
    with account.change(account.get('coupon', coupon_id), 'coupon.updated') as coupon:
        merge(coupon, without(params))
    return coupon


@route('DELETE', '/v1/coupons/{}', {})
def delete_coupon(account: Account, params: dict, coupon_id: str) -> dict:
    coupon = account.get('coupon', coupon_id)
    stub = account.remove('coupon', coupon_id)
    account.emit('coupon.deleted', coupon)
    return stub


# Events and webhook endpoints -------------------------------------------------------

@route('GET', '/v1/events', P.EVENT_LIST)
def list_events(account: Account, params: dict) -> dict:
    if 'type' in params and 'types' in params:
        raise StripeError('You may only specify one of these parameters: type, types.', param='types',
                          code='parameters_exclusive', before_execution=True)
    patterns = params.get('types') or [params.get('type', '*')]

    def match(item: dict) -> bool:
        delivered = item['pending_webhooks'] == 0
        return (any(fnmatchcase(item['type'], pattern) for pattern in patterns)
                and params.get('delivery_success') in (None, delivered))
    return account.page('event', params, '/v1/events', match)


@route('GET', '/v1/events/{}', P.EXPAND)
def retrieve_event(account: Account, params: dict, event_id: str) -> dict:
    return account.get('event', event_id)


WEBHOOK_ENDPOINT = {'api_version': None, 'application': None, 'description': None, 'enabled_events': [],
                    'metadata': {}, 'status': 'enabled', 'url': None}


@route('POST', '/v1/webhook_endpoints', P.WEBHOOK_ENDPOINT_CREATE)
def create_webhook_endpoint(account: Account, params: dict) -> dict:
    endpoint = account.add('webhook_endpoint', account.world.new_id('we'), WEBHOOK_ENDPOINT)
    merge(endpoint, without(params, 'connect', 'secret'))
    endpoint['.connect'] = params.get('connect', False)
    endpoint['.secret'] = params.get('secret') or account.world.new_id('whsec_stand_in')
    # The only answer that ever shows the secret.
    return {**endpoint, 'secret': endpoint['.secret']}


@route('GET', '/v1/webhook_endpoints', P.PAGE)
def list_webhook_endpoints(account: Account, params: dict) -> dict:
    return account.page('webhook_endpoint', params, '/v1/webhook_endpoints')


@route('GET', '/v1/webhook_endpoints/{}', P.EXPAND)
def retrieve_webhook_endpoint(account: Account, params: dict, endpoint_id: str) -> dict:
    return account.get('webhook_endpoint', endpoint_id)


@route('POST', '/v1/webhook_endpoints/{}', P.WEBHOOK_ENDPOINT_UPDATE, updating=True)
def update_webhook_endpoint(account: Account, params: dict, endpoint_id: str) -> dict:
    endpoint = account.get('webhook_endpoint', endpoint_id)
    merge(endpoint, without(params, 'disabled'))
    if 'disabled' in params:
        endpoint['status'] = 'disabled' if params['disabled'] else 'enabled'
    return endpoint


@route('DELETE', '/v1/webhook_endpoints/{}', {})
def delete_webhook_endpoint(account: Account, params: dict, endpoint_id: str) -> dict:
    account.get('webhook_endpoint', endpoint_id)
    return account.remove('webhook_endpoint', endpoint_id)
