"""Subscriptions, their items and discounts, and what Stripe's billing engine does to them.

All of it follows flexible billing, the default of today, unless a subscription
asks for billing_mode[type]=classic.
"""

from __future__ import annotations

from . import parameters as P
from .coupons import set_discounts, take_off
from .errors import StripeError, missing
from .periods import later
from .routes import route
from .documents import merge, within, without
from .world import EXPANDED_LISTS, Account

# Statuses that a subscription never leaves.
TERMINAL = ('canceled', 'incomplete_expired')

NO_CANCELLATION = {'comment': None, 'feedback': None, 'feedback_option': None, 'reason': None}

FLEXIBLE = {'type': 'flexible', 'flexible': {'proration_discounts': 'included'}}

SUBSCRIPTION = {
    'application': None, 'application_fee_percent': None,
    'automatic_tax': {'disabled_reason': None, 'enabled': False, 'liability': None},
    'billing_cycle_anchor': None, 'billing_cycle_anchor_config': None,
    'billing_mode': FLEXIBLE,
    'billing_schedules': [], 'billing_thresholds': None, 'cancel_at': None, 'cancel_at_period_end': False,
    'canceled_at': None, 'cancellation_details': NO_CANCELLATION, 'collection_method': 'charge_automatically',
    'currency': None, 'customer': None, 'customer_account': None, 'days_until_due': None,
    'default_payment_method': None, 'default_source': None, 'default_tax_rates': [], 'description': None,
    'discounts': [], 'ended_at': None,
    'invoice_settings': {'account_tax_ids': None, 'custom_fields': None, 'description': None, 'footer': None,
                         'issuer': {'type': 'self'}},
    'items': None, 'latest_invoice': None, 'managed_payments': {'enabled': False}, 'metadata': {},
    'next_pending_invoice_item_invoice': None, 'on_behalf_of': None, 'pause_collection': None,
    'payment_settings': {'payment_method_options': None, 'payment_method_types': None,
                         'save_default_payment_method': 'off'},
    'pending_invoice_item_interval': None, 'pending_setup_intent': None, 'pending_update': None,
    'schedule': None, 'start_date': None, 'status': 'active', 'status_details': None, 'test_clock': None,
    'transfer_data': None, 'trial_end': None,
    'trial_settings': {'end_behavior': {'missing_payment_method': 'create_invoice'}}, 'trial_start': None,
}

# Parameters that need more than being put onto the object.
SPECIAL = ('billing_cycle_anchor', 'billing_mode', 'cancel_at', 'cancel_at_period_end', 'cancellation_details',
           'customer', 'discounts', 'items', 'off_session', 'payment_behavior', 'proration_behavior',
           'proration_date', 'trial_end', 'trial_period_days')


# Items --------------------------------------------------------------------------

def usable_price(account: Account, price_id: str, param: str) -> dict:
    price = account.get('price', price_id, param)
    if price['type'] != 'recurring':
        raise StripeError('The price specified is set to `type=one_time` but this field only accepts prices with '
                          '`type=recurring`.', param=param)
    if not price['active']:
        raise StripeError('The price specified is inactive. This field only accepts active prices.', param=param)
    return price


def plan_of(price: dict) -> dict:
    """The legacy mirror of a price that items still carry."""
    return {
        'id': price['id'], 'object': 'plan', 'active': price['active'], 'amount': price['unit_amount'],
        'amount_decimal': price['unit_amount_decimal'], 'billing_scheme': price['billing_scheme'],
        'created': price['created'], 'currency': price['currency'], 'interval': price['recurring']['interval'],
        'interval_count': price['recurring']['interval_count'], 'livemode': price['livemode'],
        'metadata': price['metadata'], 'meter': None, 'nickname': price['nickname'], 'product': price['product'],
        'tiers_mode': price['tiers_mode'], 'transform_usage': price['transform_quantity'],
        'trial_period_days': price['recurring']['trial_period_days'],
        'usage_type': price['recurring']['usage_type'],
    }


def set_price(account: Account, item: dict, price: dict, trial_end: int | None) -> None:
    """Put a price on an item and start its period now."""
    now = account.world.now()
    item['price'], item['plan'] = dict(price), plan_of(price)
    item['current_period_start'] = now
    # What later periods count from.
    item['.anchor'] = trial_end or now
    item['current_period_end'] = trial_end or later(now, price['recurring']['interval'],
                                                    price['recurring']['interval_count'])


def add_item(account: Account, subscription: dict, wanted: dict, param: str) -> None:
    if 'price' not in wanted:
        raise StripeError(f'Missing required param: {param}[price].', code='parameter_missing',
                          param=f'{param}[price]')
    price = usable_price(account, wanted['price'], f'{param}[price]')
    item = {
        'id': account.world.new_id('si'), 'object': 'subscription_item', 'billing_thresholds': None,
        'created': account.world.now(), 'current_trial': None, 'discounts': [], 'metadata': {},
        'quantity': wanted.get('quantity', 1), 'subscription': subscription['id'], 'tax_rates': [],
    }
    merge(item, {'metadata': wanted.get('metadata')})
    if price['recurring']['usage_type'] == 'metered':
        del item['quantity']
    set_price(account, item, price, subscription['trial_end'])
    subscription['items']['data'].append(item)


def change_item(account: Account, subscription: dict, wanted: dict, param: str) -> None:
    """One element of items[] of an update."""
    if 'id' not in wanted:
        add_item(account, subscription, wanted, param)
        return
    items = subscription['items']['data']
    item = next((item for item in items if item['id'] == wanted['id']), None)
    if item is None:
        raise missing('subscription item', wanted['id'], f'{param}[id]')
    if wanted.get('deleted'):
        items.remove(item)
        return
    if 'price' in wanted:
        price = usable_price(account, wanted['price'], f'{param}[price]')
        same_interval = price['recurring'] == item['price']['recurring']
        start, end, anchor = item['current_period_start'], item['current_period_end'], item['.anchor']
        set_price(account, item, price, subscription['trial_end'])
        if same_interval:
            item['current_period_start'], item['current_period_end'], item['.anchor'] = start, end, anchor
        # Stripe's trap: a new price without a quantity means one.
        item['quantity'] = 1
    if 'quantity' in wanted:
        item['quantity'] = wanted['quantity']
    if 'metadata' in wanted:
        merge(item, {'metadata': wanted['metadata']})


# Cancelling -------------------------------------------------------------------------

def period_ends(subscription: dict) -> list[int]:
    return [item['current_period_end'] for item in subscription['items']['data']]


def is_classic(subscription: dict) -> bool:
    return subscription['billing_mode']['type'] == 'classic'


def cancel_scheduled(subscription: dict) -> bool:
    return subscription['cancel_at'] is not None or subscription['cancel_at_period_end']


def schedule_cancel(account: Account, subscription: dict, at: int | None, at_period_end: bool) -> None:
    """Note a cancellation that takes effect later."""
    subscription['cancel_at'] = at
    subscription['cancel_at_period_end'] = at_period_end
    subscription['canceled_at'] = account.world.now()
    subscription['cancellation_details']['reason'] = 'cancellation_requested'


def unschedule_cancel(subscription: dict) -> None:
    subscription.update(cancel_at=None, cancel_at_period_end=False, canceled_at=None,
                        cancellation_details=dict(NO_CANCELLATION))


def end(account: Account, subscription: dict, reason: str) -> None:
    """Cancel at once, and say so."""
    now = account.world.now()
    subscription.update(status='canceled', status_details=None, ended_at=now,
                        canceled_at=subscription['canceled_at'] or now)
    subscription['cancellation_details']['reason'] = reason
    account.emit('customer.subscription.deleted', subscription)
    latest = account.objects['invoice'].get(subscription['latest_invoice'])
    if latest and latest['status'] == 'open':
        with account.change(latest, 'invoice.updated'):
            latest.update(auto_advance=False, next_payment_attempt=None)


def change_cancellation(account: Account, subscription: dict, params: dict) -> None:
    """cancel_at, cancel_at_period_end and cancellation_details of an update."""
    at, at_period_end = params.get('cancel_at'), params.get('cancel_at_period_end')
    if at is not None and at_period_end:
        raise StripeError('You may only specify one of these parameters: cancel_at, cancel_at_period_end.',
                          code='parameters_exclusive', param='cancel_at')
    if at_period_end:
        schedule_cancel(account, subscription, min(period_ends(subscription)) if is_classic(subscription) else None,
                        True)
    elif at is not None:
        resolved = {'min_period_end': min, 'max_period_end': max}
        at = resolved[at](period_ends(subscription)) if at in resolved else at
        if at <= account.world.now():
            raise StripeError('`cancel_at` must be in the future.', param='cancel_at')
        schedule_cancel(account, subscription, at, False)
    else:
        undone = ('cancel_at' in params and subscription['cancel_at'] is not None
                  or at_period_end is False and subscription['cancel_at_period_end'])
        if undone:
            unschedule_cancel(subscription)
    merge(subscription['cancellation_details'], params.get('cancellation_details', {}))


def set_status(account: Account, subscription: dict, status: str, reason: str | None) -> None:
    """Force a status as Stripe's billing engine would reach it, with the event of it.

    The reason is cancellation_details.reason for canceled, the kind of pause for paused.
    """
    if status == 'canceled':
        end(account, subscription, reason or 'cancellation_requested')
        return
    if status == 'paused':
        subscription.update(status='paused', status_details={'paused': {
            'type': 'subscription', 'subscription': {'type': reason or 'system'},
            'transitioned_at': account.world.now()}})
        account.emit('customer.subscription.paused', subscription)
        return
    if subscription['status'] == 'paused' and status == 'active':
        subscription.update(status='active', status_details=None)
        account.emit('customer.subscription.resumed', subscription)
        return
    with account.change(subscription, 'customer.subscription.updated'):
        subscription.update(status=status, status_details=None)
        if status == 'incomplete_expired':
            subscription['ended_at'] = account.world.now()


# The API's calls ----------------------------------------------------------------------

def add_subscription(account: Account, params: dict, subscription_id: str | None = None,
                     status: str | None = None) -> dict:
    customer = account.get('customer', params['customer'], 'customer')
    for position, item in enumerate(params['items']):
        usable_price(account, item['price'], f'items[{position}][price]')
    now = account.world.now()
    trial_end = params.get('trial_end')
    if 'trial_period_days' in params:
        trial_end = now + params['trial_period_days'] * 86400
    if trial_end == 'now':
        trial_end = None
    if trial_end is not None and trial_end <= now:
        raise StripeError('Invalid timestamp: must be an integer Unix timestamp in the future.', param='trial_end')

    subscription = account.add('subscription', subscription_id or account.world.new_id('sub'), SUBSCRIPTION)
    subscription.update(billing_cycle_anchor=trial_end or now, customer=customer['id'], start_date=now,
                        trial_start=now if trial_end else None, trial_end=trial_end,
                        status=status or ('trialing' if trial_end else 'active'))
    if params.get('billing_mode', {}).get('type') == 'classic':
        subscription['billing_mode'] = {'type': 'classic', 'flexible': None}
    subscription['items'] = {'object': 'list', 'data': [], 'has_more': False, '.inline': True,
                             'url': f"/v1/subscription_items?subscription={subscription['id']}"}
    for position, item in enumerate(params['items']):
        add_item(account, subscription, item, f'items[{position}]')
    merge(subscription, without(params, *SPECIAL))
    subscription['currency'] = subscription['items']['data'][0]['price']['currency']
    customer['currency'] = customer['currency'] or subscription['currency']
    change_cancellation(account, subscription, params)
    set_discounts(account, subscription, params.get('discounts'))
    account.emit('customer.subscription.created', subscription)
    return subscription


@route('POST', '/v1/subscriptions', P.SUBSCRIPTION_CREATE)
def create_subscription(account: Account, params: dict) -> dict:
    return add_subscription(account, params)


@route('GET', '/v1/subscriptions', P.SUBSCRIPTION_LIST)
def list_subscriptions(account: Account, params: dict) -> dict:
    status = params.get('status')

    def match(item: dict) -> bool:
        if status is None:
            wanted = item['status'] != 'canceled'
        else:
            wanted = status == 'all' or item['status'] == status or status == 'ended' and item['status'] in TERMINAL
        entries = item['items']['data']
        return (wanted and all(params.get(name) in (None, item[name]) for name in ('collection_method', 'customer'))
                and ('price' not in params or any(entry['price']['id'] == params['price'] for entry in entries))
                and all(name not in params or any(within(entry[name], params[name]) for entry in entries)
                        for name in ('current_period_start', 'current_period_end')))
    return account.page('subscription', params, '/v1/subscriptions', match)


def expanded_list(account: Account, customer: dict) -> dict:
    return account.page('subscription', {}, f"/v1/customers/{customer['id']}/subscriptions",
                        lambda item: item['customer'] == customer['id'] and item['status'] != 'canceled')


EXPANDED_LISTS['customer', 'subscriptions'] = expanded_list


@route('GET', '/v1/subscription_items', P.SUBSCRIPTION_ITEM_LIST)
def list_subscription_items(account: Account, params: dict) -> dict:
    """In the order of the list inside the subscription, which this one continues."""
    subscription = account.get('subscription', params['subscription'], 'subscription')
    return account.page('subscription_item', params, '/v1/subscription_items',
                        entries=subscription['items']['data'])


@route('GET', '/v1/subscriptions/{}', P.EXPAND)
def retrieve_subscription(account: Account, params: dict, subscription_id: str) -> dict:
    return account.get('subscription', subscription_id)


@route('POST', '/v1/subscriptions/{}', P.SUBSCRIPTION_UPDATE, updating=True)
def update_subscription(account: Account, params: dict, subscription_id: str) -> dict:
    subscription = account.get('subscription', subscription_id)
    if subscription['status'] in TERMINAL and without(params, 'cancellation_details', 'metadata'):
        raise StripeError('A canceled subscription can only update its cancellation_details and metadata.',
                          code='invalid_canceled_subscription_fields')
    with account.change(subscription, 'customer.subscription.updated'):
        merge(subscription, without(params, *SPECIAL))
        for position, item in enumerate(params.get('items', [])):
            change_item(account, subscription, item, f'items[{position}]')
        if not subscription['items']['data']:
            raise StripeError('A subscription must have at least one item.', param='items')
        if 'trial_end' in params:
            change_trial(account, subscription, params['trial_end'])
        if params.get('billing_cycle_anchor', {}).get('type') == 'now':
            restart_period(account, subscription)
        change_cancellation(account, subscription, params)
        if 'discounts' in params:
            set_discounts(account, subscription, params['discounts'])
    return subscription


def restart_period(account: Account, subscription: dict) -> None:
    """Begin every item's period now."""
    subscription['billing_cycle_anchor'] = account.world.now()
    for item in subscription['items']['data']:
        set_price(account, item, item['price'], None)


def change_trial(account: Account, subscription: dict, trial_end) -> None:
    now = account.world.now()
    if trial_end == 'now':
        trial_end = now
    elif trial_end <= now:
        raise StripeError('Invalid timestamp: must be an integer Unix timestamp in the future.', param='trial_end')
    subscription.update(trial_start=subscription['trial_start'] or now, trial_end=trial_end,
                        billing_cycle_anchor=trial_end, status='trialing' if trial_end > now else 'active')
    for item in subscription['items']['data']:
        set_price(account, item, item['price'], trial_end if trial_end > now else None)


@route('DELETE', '/v1/subscriptions/{}', P.SUBSCRIPTION_CANCEL)
def cancel_subscription(account: Account, params: dict, subscription_id: str) -> dict:
    subscription = account.get('subscription', subscription_id)
    if subscription['status'] in TERMINAL:
        raise missing('subscription', subscription_id, 'id', status=404)
    merge(subscription['cancellation_details'], params.get('cancellation_details', {}))
    end(account, subscription, 'cancellation_requested')
    return subscription


@route('POST', '/v1/subscriptions/{}/pause', P.SUBSCRIPTION_PAUSE)
def pause_subscription(account: Account, params: dict, subscription_id: str) -> dict:
    subscription = account.get('subscription', subscription_id)
    if subscription['status'] in (*TERMINAL, 'paused'):
        raise StripeError(f"The subscription `{subscription_id}` is {subscription['status']} and cannot be paused.")
    if subscription['schedule'] is not None:
        raise StripeError(f'The subscription `{subscription_id}` has a schedule attached and cannot be paused.')
    if is_classic(subscription):
        raise StripeError('Only subscriptions with `billing_mode[type]=flexible` can be paused.')
    set_status(account, subscription, 'paused', 'pause_requested')
    return subscription


@route('POST', '/v1/subscriptions/{}/resume', P.SUBSCRIPTION_RESUME)
def resume_subscription(account: Account, params: dict, subscription_id: str) -> dict:
    subscription = account.get('subscription', subscription_id)
    if subscription['status'] != 'paused':
        raise StripeError(f'The subscription `{subscription_id}` is not paused and cannot be resumed.')
    resume(account, subscription, params.get('billing_cycle_anchor', {'type': 'now'})['type'])
    return subscription


def resume(account: Account, subscription: dict, anchor: str) -> None:
    """End a pause; unless the anchor is unchanged, a period begins now."""
    if anchor == 'now':
        restart_period(account, subscription)
    set_status(account, subscription, 'active', None)


@route('POST', '/v1/subscriptions/{}/migrate', P.SUBSCRIPTION_MIGRATE)
def migrate_subscription(account: Account, params: dict, subscription_id: str) -> dict:
    """From classic to flexible billing; there is no way back."""
    with account.change(account.get('subscription', subscription_id),
                        'customer.subscription.updated') as subscription:
        if not is_classic(subscription):
            raise StripeError(f'The subscription `{subscription_id}` already uses flexible billing.')
        subscription['billing_mode'] = {**FLEXIBLE, 'updated_at': account.world.now()}
    return subscription


@route('DELETE', '/v1/subscriptions/{}/discount', {})
def delete_subscription_discount(account: Account, params: dict, subscription_id: str) -> dict:
    take_off(account, account.get('subscription', subscription_id), lambda discount: True)
    return {'object': 'discount', 'deleted': True}
