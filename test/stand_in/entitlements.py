"""Entitlements: features, the products that carry them, and who has them now."""

from __future__ import annotations

from . import parameters as P
from .documents import merge, without
from .errors import StripeError
from .routes import route
from .world import LISTENERS, Account

FEATURE_KIND = 'entitlements.feature'
ENTITLEMENT_KIND = 'entitlements.active_entitlement'
SUMMARY_KIND = 'entitlements.active_entitlement_summary'

# Subscriptions of these statuses entitle; Stripe's documents are silent about the others.
ENTITLING = ('active', 'trialing', 'past_due')


# Features -------------------------------------------------------------------------

@route('POST', '/v1/entitlements/features', P.FEATURE_CREATE)
def create_feature(account: Account, params: dict) -> dict:
    if any(item['lookup_key'] == params['lookup_key'] for item in account.objects[FEATURE_KIND].values()):
        raise StripeError('A feature with this lookup key already exists.', param='lookup_key',
                          code='resource_already_exists')
    feature = account.add(FEATURE_KIND, account.world.new_id('feat'),
                          {'active': True, 'lookup_key': None, 'metadata': {}, 'name': None})
    del feature['created']
    merge(feature, without(params))
    return feature


@route('GET', '/v1/entitlements/features', P.FEATURE_LIST)
def list_features(account: Account, params: dict) -> dict:
    return account.page(FEATURE_KIND, params, '/v1/entitlements/features',
                        lambda item: params.get('lookup_key') in (None, item['lookup_key'])
                        and params.get('archived', not item['active']) != item['active'])


@route('GET', '/v1/entitlements/features/{}', P.EXPAND)
def retrieve_feature(account: Account, params: dict, feature_id: str) -> dict:
    return account.get(FEATURE_KIND, feature_id)


@route('POST', '/v1/entitlements/features/{}', P.FEATURE_UPDATE, updating=True)
def update_feature(account: Account, params: dict, feature_id: str) -> dict:
    feature = account.get(FEATURE_KIND, feature_id)
    merge(feature, without(params))
    return feature


# Features of products ---------------------------------------------------------------

@route('POST', '/v1/products/{}/features', P.PRODUCT_FEATURE_CREATE)
def attach_feature(account: Account, params: dict, product_id: str) -> dict:
    account.get('product', product_id)
    feature = account.get(FEATURE_KIND, params['entitlement_feature'], 'entitlement_feature')
    attached = account.add('product_feature', account.world.new_id('prodft'),
                           {'entitlement_feature': feature, '.product': product_id})
    del attached['created']
    for customer_id in list(account.objects['customer']):
        settle(account, customer_id)
    return attached


@route('GET', '/v1/products/{}/features', P.PAGE)
def list_product_features(account: Account, params: dict, product_id: str) -> dict:
    account.get('product', product_id)
    return account.page('product_feature', params, f'/v1/products/{product_id}/features',
                        lambda item: item['.product'] == product_id)


@route('GET', '/v1/products/{}/features/{}', P.EXPAND)
def retrieve_product_feature(account: Account, params: dict, product_id: str, attached_id: str) -> dict:
    account.get('product', product_id)
    return account.get('product_feature', attached_id)


@route('DELETE', '/v1/products/{}/features/{}', {})
def detach_feature(account: Account, params: dict, product_id: str, attached_id: str) -> dict:
    account.get('product_feature', attached_id)
    stub = account.remove('product_feature', attached_id)
    for customer_id in list(account.objects['customer']):
        settle(account, customer_id)
    return stub


# Active entitlements ----------------------------------------------------------------

@route('GET', '/v1/entitlements/active_entitlements', P.ENTITLEMENT_LIST)
def list_entitlements(account: Account, params: dict) -> dict:
    account.get('customer', params['customer'], 'customer')
    return held(account, params['customer'], params)


def held(account: Account, customer_id: str, params: dict) -> dict:
    return account.page(ENTITLEMENT_KIND, params, '/v1/entitlements/active_entitlements',
                        lambda item: item['.customer'] == customer_id)


@route('GET', '/v1/entitlements/active_entitlements/{}', P.EXPAND)
def retrieve_entitlement(account: Account, params: dict, entitlement_id: str) -> dict:
    return account.get(ENTITLEMENT_KIND, entitlement_id)


def entitled(account: Account, customer_id: str) -> list[str]:
    """The ids of the features that a customer's subscriptions give."""
    products = {item['price']['product'] for subscription in account.subscriptions_of(customer_id)
                if subscription['status'] in ENTITLING for item in subscription['items']['data']}
    return [attached['entitlement_feature']['id'] for attached in account.objects['product_feature'].values()
            if attached['.product'] in products]


def settle(account: Account, customer_id: str) -> None:
    """Bring a customer's entitlements up to date, with the event if they changed."""
    mine = {item['feature']: item for item in account.objects[ENTITLEMENT_KIND].values()
            if item['.customer'] == customer_id}
    wanted = entitled(account, customer_id)
    if set(mine) == set(wanted):
        return
    before = summary(account, customer_id)
    for feature_id, entitlement in mine.items():
        if feature_id not in wanted:
            account.remove(ENTITLEMENT_KIND, entitlement['id'])
    for feature_id in dict.fromkeys(wanted):
        if feature_id not in mine:
            added = account.add(ENTITLEMENT_KIND, account.world.new_id('ent'), {
                'feature': feature_id, 'lookup_key': account.objects[FEATURE_KIND][feature_id]['lookup_key'],
                '.customer': customer_id})
            del added['created']
    account.emit(f'{SUMMARY_KIND}.updated', summary(account, customer_id),
                 {'entitlements': {'data': before['entitlements']['data']}})


def summary(account: Account, customer_id: str) -> dict:
    """What the event shows: it has no id, and only the first page of the entitlements."""
    page = {**held(account, customer_id, {}), 'url': f'/v1/customers/{customer_id}/entitlements'}
    return {'object': SUMMARY_KIND, 'customer': customer_id, 'entitlements': page, 'livemode': account.livemode}


def on_event(account: Account, event_type: str, subject: dict) -> None:
    """A change of a subscription may change what its customer is entitled to."""
    if event_type.startswith('customer.subscription.') and account.objects['product_feature']:
        settle(account, subject['customer'])


LISTENERS.append(on_event)
