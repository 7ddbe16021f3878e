"""The customer portal: its configurations and its sessions."""

from __future__ import annotations

from . import parameters as P
from .documents import merge, without
from .errors import StripeError, missing
from .routes import route
from .subscriptions import TERMINAL, cancel_scheduled, usable_price
from .world import Account

CONFIGURATION_KIND = 'billing_portal.configuration'
SESSION_KIND = 'billing_portal.session'

CONFIGURATION = {
    'active': True, 'application': None,
    'business_profile': {'headline': None, 'privacy_policy_url': None, 'terms_of_service_url': None},
    'default_return_url': None,
    'features': {
        'customer_update': {'allowed_updates': [], 'enabled': False},
        'invoice_history': {'enabled': False},
        'payment_method_update': {'enabled': False, 'payment_method_configuration': None},
        'subscription_cancel': {
            'cancellation_reason': {'enabled': False, 'options': ['too_expensive', 'missing_features',
                                                                  'switched_service', 'unused', 'other']},
            'enabled': False, 'mode': 'at_period_end', 'proration_behavior': 'none'},
        'subscription_pause': {
            'duration': {'type': 'interval_options',
                         'interval_options': [{'interval': 'month', 'interval_count': 1}]},
            'enabled': False},
        'subscription_update': {
            'billing_cycle_anchor': None, 'default_allowed_updates': [], 'enabled': False, '+products': [],
            'proration_behavior': 'none', 'schedule_at_period_end': {'conditions': []},
            'trial_update_behavior': 'end_trial'},
    },
    'is_default': False, 'login_page': {'enabled': False, 'url': None}, 'metadata': {}, 'name': None,
    'updated': None,
}

# What the account has saved in the Dashboard: everything on, no plan to switch to.
EVERYTHING_ON = {
    'customer_update': {'allowed_updates': ['address', 'email', 'name', 'phone', 'shipping', 'tax_id'],
                        'enabled': True},
    'invoice_history': {'enabled': True},
    'payment_method_update': {'enabled': True},
    'subscription_cancel': {'enabled': True, 'cancellation_reason': {'enabled': True, 'options': list(P.FEEDBACK)}},
    'subscription_pause': {'enabled': True},
    'subscription_update': {'enabled': True, 'default_allowed_updates': ['price', 'promotion_code', 'quantity']},
}

LONGEST_PAUSE = {'day': 3 * 365, 'week': 3 * 52, 'month': 3 * 12, 'year': 3}


# Configurations -----------------------------------------------------------------

def default_configuration(account: Account) -> dict | None:
    return next((item for item in account.objects[CONFIGURATION_KIND].values() if item['is_default']), None)


def save_default_configuration(account: Account) -> dict:
    """What a merchant does by saving the portal settings in the Dashboard."""
    saved = default_configuration(account)
    if saved is None:
        saved = account.add(CONFIGURATION_KIND, 'bpc_default', CONFIGURATION)
        merge(saved['features'], EVERYTHING_ON)
        saved.update(is_default=True, updated=saved['created'])
    return saved


def configure(account: Account, configuration: dict, params: dict) -> None:
    """Overlay the parameters, and refuse what Stripe refuses."""
    params = without(params)
    update = params.get('features', {}).get('subscription_update', {})
    if 'products' in update:
        update['+products'] = check_products(account, update.pop('products') or [])
    merge(configuration, params)
    for option in configuration['features']['subscription_pause']['duration'].get('interval_options') or []:
        option.setdefault('interval_count', 1)
    features = configuration['features']
    if features['subscription_cancel']['proration_behavior'] == 'always_invoice':
        raise StripeError('Invoicing at once is not available when a subscription is canceled in the portal.',
                          param='features[subscription_cancel][proration_behavior]')
    for option in features['subscription_pause']['duration'].get('interval_options') or []:
        if not 1 <= option['interval_count'] <= LONGEST_PAUSE[option['interval']]:
            raise StripeError('A pause lasts at most 3 years.',
                              param='features[subscription_pause][duration][interval_options]')
    if features['subscription_update']['enabled'] and not features['payment_method_update']['enabled']:
        raise StripeError('Cannot enable subscription updates while payment method update is disabled.')
    page = configuration['login_page']
    page['url'] = f"https://billing.stripe.com/p/login/{configuration['id']}" if page['enabled'] else None


def check_products(account: Account, products: list[dict]) -> list[dict]:
    base = 'features[subscription_update][products]'
    if len(products) > 10:
        raise StripeError('You can only list up to 10 products.', param=base)
    result = []
    for position, entry in enumerate(products):
        account.get('product', entry['product'], f'{base}[{position}][product]')
        intervals = set()
        for index, price_id in enumerate(entry['prices']):
            param = f'{base}[{position}][prices][{index}]'
            price = usable_price(account, price_id, param)
            if price['product'] != entry['product']:
                raise StripeError(f"The price '{price_id}' does not belong to the product '{entry['product']}'.",
                                  param=param)
            interval = (price['recurring']['interval'], price['recurring']['interval_count'])
            if interval in intervals:
                raise StripeError('Two prices of one product may not have the same billing interval.', param=param)
            intervals.add(interval)
        adjustable = {'enabled': False, 'maximum': None, 'minimum': 0, **entry.get('adjustable_quantity', {})}
        result.append({'adjustable_quantity': adjustable, 'prices': entry['prices'], 'product': entry['product']})
    return result


@route('POST', '/v1/billing_portal/configurations', P.CONFIGURATION)
def create_configuration(account: Account, params: dict) -> dict:
    configuration = account.add(CONFIGURATION_KIND, account.world.new_id('bpc'), CONFIGURATION)
    configuration['updated'] = configuration['created']
    configure(account, configuration, params)
    account.emit('billing_portal.configuration.created', configuration)
    return configuration


@route('GET', '/v1/billing_portal/configurations', P.CONFIGURATION_LIST)
def list_configurations(account: Account, params: dict) -> dict:
    return account.page(CONFIGURATION_KIND, params, '/v1/billing_portal/configurations',
                        lambda item: all(params.get(name) in (None, item[name]) for name in ('active', 'is_default')))


@route('GET', '/v1/billing_portal/configurations/{}', P.EXPAND)
def retrieve_configuration(account: Account, params: dict, configuration_id: str) -> dict:
    return account.get(CONFIGURATION_KIND, configuration_id)


@route('POST', '/v1/billing_portal/configurations/{}', P.CONFIGURATION_UPDATE, updating=True)
def update_configuration(account: Account, params: dict, configuration_id: str) -> dict:
    with account.change(account.get(CONFIGURATION_KIND, configuration_id),
                        'billing_portal.configuration.updated') as configuration:
        configure(account, configuration, params)
        configuration['updated'] = account.world.now()
    return configuration


# Sessions -------------------------------------------------------------------------

@route('POST', '/v1/billing_portal/sessions', P.SESSION)
def create_session(account: Account, params: dict) -> dict:
    customer = session_customer(account, params)
    configuration = session_configuration(account, params)
    if 'return_url' not in params and configuration['default_return_url'] is None:
        raise StripeError('Your PortalConfiguration does not have a `default_return_url`, and you did not provide '
                          'a `return_url`.', param='return_url')
    flow = params.get('flow_data')
    if flow:
        check_flow(account, customer, configuration, flow)
    session_id = account.world.new_id('bps')
    mode = 'live' if account.livemode else 'test'
    session = account.add(SESSION_KIND, session_id, {
        'after_expiration': params.get('after_expiration'),
        'configuration': configuration['id'],
        'customer': customer['id'],
        'customer_account': customer['customer_account'],
        'flow': flow and shown_flow(flow),
        'locale': params.get('locale'),
        'on_behalf_of': params.get('on_behalf_of'),
        'return_url': params.get('return_url', configuration['default_return_url']),
        'url': f"https://billing.stripe.com/p/session/{mode}_{session_id.removeprefix('bps_')}",
    })
    account.emit('billing_portal.session.created', session)
    return session


def session_customer(account: Account, params: dict) -> dict:
    if 'customer' in params:
        return account.get('customer', params['customer'], 'customer')
    if 'customer_account' not in params:
        raise StripeError('Missing required param: customer.', code='parameter_missing', param='customer',
                          before_execution=True)
    for customer in account.objects['customer'].values():
        if customer['customer_account'] == params['customer_account']:
            return customer
    raise missing('account', params['customer_account'], 'customer_account')


def session_configuration(account: Account, params: dict) -> dict:
    if 'configuration' in params:
        configuration = account.get(CONFIGURATION_KIND, params['configuration'], 'configuration')
        if not configuration['active']:
            raise StripeError(f"The configuration '{configuration['id']}' is not active.", param='configuration')
        return configuration
    configuration = default_configuration(account)
    if configuration is None:
        mode, path = ('live', '') if account.livemode else ('test', 'test/')
        raise StripeError(
            f'No configuration provided and your {mode} mode default configuration has not been created. Provide a '
            f'configuration or create your default by saving your customer portal settings in {mode} mode at '
            f'https://dashboard.stripe.com/{path}settings/billing/portal.')
    return configuration


def shown_flow(flow: dict) -> dict:
    """flow_data as the session shows it: every sub-hash is there, null where it does not apply."""
    after = flow.get('after_completion', {'type': 'hosted_confirmation'})
    shown = {name: flow.get(name) for name in ('subscription_cancel', 'subscription_pause', 'subscription_update',
                                               'subscription_update_confirm')}
    if shown['subscription_cancel']:
        shown['subscription_cancel'] = {'retention': None, **shown['subscription_cancel']}
    if shown['subscription_update_confirm']:
        shown['subscription_update_confirm'] = {'discounts': None, **shown['subscription_update_confirm']}
    return {
        'after_completion': {'hosted_confirmation': after.get('hosted_confirmation'),
                             'redirect': after.get('redirect'), 'type': after['type']},
        **shown,
        'type': flow['type'],
    }


def only_its_own(given: dict, kind: str, needs: tuple, prefix: str) -> None:
    """A hash with a `type` holds the sub-hash of that type, if it has one, and no other."""
    if kind in needs and kind not in given:
        raise StripeError(f'Missing required param: {prefix}[{kind}].', code='parameter_missing',
                          param=f'{prefix}[{kind}]', before_execution=True)
    for name in given:
        if name not in ('type', 'after_completion', kind):
            raise StripeError(f'{prefix}[{name}] can not be given when {prefix}[type] is {kind}.',
                              param=f'{prefix}[{name}]', before_execution=True)


def check_flow(account: Account, customer: dict, configuration: dict, flow: dict) -> None:
    """Refuse a flow that could not be gone through."""
    kind = flow['type']
    only_its_own(flow, kind, P.FLOWS[2:], 'flow_data')
    if 'after_completion' in flow:
        only_its_own(flow['after_completion'], flow['after_completion']['type'], ('redirect',),
                     'flow_data[after_completion]')
    features = configuration['features']
    feature = 'subscription_update' if kind == 'subscription_update_confirm' else kind
    if kind in ('customer_update', 'payment_method_update'):
        if not features[feature]['enabled']:
            raise disabled(f'This customer cannot use the {kind} flow', feature)
        return

    details = flow[kind]
    param = f'flow_data[{kind}]'
    subscription = account.get('subscription', details['subscription'], f'{param}[subscription]')
    if subscription['customer'] != customer['id']:
        raise StripeError(f"The subscription `{subscription['id']}` does not belong to the customer "
                          f"`{customer['id']}`.", param=f'{param}[subscription]')
    if not features[feature]['enabled']:
        action = {'subscription_cancel': 'canceled', 'subscription_pause': 'paused'}.get(kind, 'updated')
        raise disabled(f'This subscription cannot be {action}', feature)
    if subscription['status'] in TERMINAL:
        raise StripeError(f"The subscription `{subscription['id']}` is canceled.", param=f'{param}[subscription]')
    CHECKS[kind](account, subscription, configuration, details, param)


def disabled(what: str, feature: str) -> StripeError:
    return StripeError(f"{what} because the {feature.replace('_', ' ')} feature in the portal configuration is "
                       'disabled.')


def check_cancel(account, subscription, configuration, details, param) -> None:
    if cancel_scheduled(subscription):
        raise StripeError(f"The subscription `{subscription['id']}` is already set to be canceled at period end.",
                          param=f'{param}[subscription]')
    if 'retention' in details:
        account.get('coupon', details['retention']['coupon_offer']['coupon'],
                    f'{param}[retention][coupon_offer][coupon]')


def check_pause(account, subscription, configuration, details, param) -> None:
    if subscription['status'] == 'paused':
        raise StripeError(f"The subscription `{subscription['id']}` is already paused.",
                          param=f'{param}[subscription]')


def listed_prices(configuration: dict) -> list[str]:
    products = configuration['features']['subscription_update']['+products']
    return [price for entry in products for price in entry['prices']]


def check_update(account, subscription, configuration, details, param) -> None:
    items = subscription['items']['data']
    if len(items) > 1 or not set(listed_prices(configuration)) - {items[0]['price']['id']}:
        raise StripeError('This subscription cannot be updated because there is no price in the portal configuration '
                          'available to change to.', param=f'{param}[subscription]')


def check_confirm(account, subscription, configuration, details, param) -> None:
    items = subscription['items']['data']
    if len(details['items']) != 1 or len(items) != 1:
        raise StripeError('Exactly one item can be updated, of a subscription that has one item.',
                          param=f'{param}[items]')
    if len(details.get('discounts', [])) > 1:
        raise StripeError('At most one discount can be given.', param=f'{param}[discounts]')
    wanted, item = details['items'][0], items[0]
    if wanted['id'] != item['id']:
        raise missing('subscription item', wanted['id'], f'{param}[items][0][id]')
    if 'price' in wanted:
        account.get('price', wanted['price'], f'{param}[items][0][price]')
        if wanted['price'] != item['price']['id'] and wanted['price'] not in listed_prices(configuration):
            raise StripeError(f"The price `{wanted['price']}` is not in the portal configuration's products.",
                              param=f'{param}[items][0][price]')
    for entry in details.get('discounts', []):
        for name, value in entry.items():
            account.get(name, value, f'{param}[discounts][0][{name}]')
    unchanged = (wanted.get('price', item['price']['id']) == item['price']['id']
                 and wanted.get('quantity', item.get('quantity')) == item.get('quantity'))
    if unchanged and not details.get('discounts'):
        raise StripeError(f"Cannot update the subscription `{subscription['id']}` because there are no changes to "
                          'confirm.', param=param)


CHECKS = {'subscription_cancel': check_cancel, 'subscription_pause': check_pause,
          'subscription_update': check_update, 'subscription_update_confirm': check_confirm}
