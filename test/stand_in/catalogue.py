"""Products and prices."""

from __future__ import annotations

from . import parameters as P
from .documents import merge, without
from .errors import StripeError
from .routes import route
from .world import Account

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
    tiered = params.get('billing_scheme') == 'tiered'
    if tiered != ('tiers' in params) or tiered != ('tiers_mode' in params):
        raise StripeError('Prices with `billing_scheme=tiered` require `tiers` and `tiers_mode`, and no other price '
                          'takes them.', code='parameter_missing', param='tiers')
    if not tiered and ('unit_amount' in params) == ('unit_amount_decimal' in params):
        raise StripeError('Prices require one of the `unit_amount` and `unit_amount_decimal` parameters to be set.',
                          code='parameter_missing', param='unit_amount')
    if tiered and 'transform_quantity' in params:
        raise StripeError('`transform_quantity` cannot be combined with `tiers`.', param='transform_quantity')
    price = account.add('price', price_id or account.world.new_id('price'), PRICE)
    merge(price, without(params, 'tiers'))
    if tiered:
        price['+tiers'] = tiers(params['tiers'])
    else:
        price.update(both_amounts(params, 'unit_amount'))
    if 'recurring' in params:
        price['type'] = 'recurring'
        price['recurring'] = {'interval_count': 1, 'meter': None, 'trial_period_days': None,
                              'usage_type': 'licensed', **params['recurring']}
    account.emit('price.created', price)
    return price


def both_amounts(params: dict, name: str) -> dict:
    """An amount as a number, where it is whole, and as decimal text."""
    if name in params:
        return {name: params[name], f'{name}_decimal': str(params[name])}
    text = params.get(f'{name}_decimal')
    return {name: int(text) if text and '.' not in text else None, f'{name}_decimal': text}


def tiers(wanted: list[dict]) -> list[dict]:
    """The tiers as an expanded price shows them; only the last has no end."""
    result = []
    for position, tier in enumerate(wanted):
        last = position == len(wanted) - 1
        bound = None if tier['up_to'] == 'inf' else tier['up_to']
        if (bound is None) != last or not last and result and bound <= result[-1]['up_to']:
            raise StripeError('Tiers must be in ascending order, and only the last must be `up_to=inf`.',
                              param=f'tiers[{position}][up_to]')
        if not any(name in tier for name in ('unit_amount', 'unit_amount_decimal', 'flat_amount',
                                             'flat_amount_decimal')):
            raise StripeError('Tiers must have a unit amount or a flat amount.', param=f'tiers[{position}]')
        result.append({**both_amounts(tier, 'flat_amount'), **both_amounts(tier, 'unit_amount'), 'up_to': bound})
    return result


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
