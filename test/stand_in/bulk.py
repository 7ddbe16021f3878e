"""Control calls that make or change many subscribers at once, for tests of volume and of drift."""

from __future__ import annotations

from . import parameters as P
from .customers import add_customer, delete_customer
from .errors import StripeError
from .routes import CONTROL, route
from .subscriptions import TERMINAL, add_subscription, set_status
from .world import FATES, Account


@route('POST', CONTROL + 'bulk', {
    'billing_mode': {'type*': P.words('classic flexible')}, 'count*': 'integer', 'countries': ['string'],
    'events': FATES, 'from': 'timestamp', 'prefix': 'string', 'prices*': ['string'], 'quantity': 'integer',
    'status': P.STATUSES, 'to': 'timestamp', 'trial_period_days': 'integer'})
def make_subscribers(account: Account, params: dict) -> dict:
    """Customers with a subscription each: cus_PREFIX00001 has sub_PREFIX00001, and so on.

    Prices and countries are dealt out in turn.  They are created evenly between `from` and `to`, both by default
    now; events=lost or none spares the deliveries or the events.
    """
    world, count, prefix = account.world, params['count'], params.get('prefix', 'bulk')
    if params.get('status') in (*TERMINAL, 'paused'):
        raise StripeError('Create the subscriptions, then set this status.', param='status')
    now = world.now()
    start, end = params.get('from', now), params.get('to', params.get('from', now))
    more = {name: params[name] for name in ('billing_mode', 'trial_period_days') if name in params}
    customers, subscriptions = [], []
    with world.fated(params.get('events', 'delivered')):
        for number in range(1, count + 1):
            name = f'{prefix}{number:05d}'
            country = params['countries'][number % len(params['countries'])] if params.get('countries') else None
            with world.at(start + (end - start) * number // count):
                customers.append(add_customer(account, {
                    'email': f'{name}@example.com', 'name': f'Subscriber {number}',
                    **({'address': {'country': country}} if country else {})}, f'cus_{name}')['id'])
                item = {'price': params['prices'][number % len(params['prices'])],
                        'quantity': params.get('quantity', 1)}
                subscriptions.append(add_subscription(account, {'customer': f'cus_{name}', 'items': [item], **more},
                                                      f'sub_{name}', params.get('status'))['id'])
    return {'object': 'stand_in.bulk', 'customers': customers, 'subscriptions': subscriptions}


@route('POST', CONTROL + 'bulk/status', {
    'comment': 'string', 'count*': 'integer', 'events': FATES, 'feedback': P.FEEDBACK, 'prefix': 'string',
    'reason': 'string', 'skip': 'integer', 'status*': P.STATUSES})
def change_subscribers(account: Account, params: dict) -> dict:
    """The first `count` living subscriptions, after `skip` of them, go into a status; events=lost tells nobody."""
    prefix = f"sub_{params.get('prefix', 'bulk')}"
    living = [item for item in account.objects['subscription'].values()
              if item['id'].startswith(prefix) and item['status'] not in TERMINAL]
    chosen = living[params.get('skip', 0):][:params['count']]
    answers = {name: params[name] for name in ('comment', 'feedback') if name in params}
    with account.world.fated(params.get('events', 'delivered')), account.world.caused_by(None, None):
        for subscription in chosen:
            subscription['cancellation_details'].update(answers)
            set_status(account, subscription, params['status'], params.get('reason'))
    return {'object': 'stand_in.bulk', 'subscriptions': [subscription['id'] for subscription in chosen]}


@route('POST', CONTROL + 'bulk/delete', {'count*': 'integer', 'events': FATES, 'prefix': 'string',
                                         'skip': 'integer'})
def delete_customers(account: Account, params: dict) -> dict:
    """The first `count` customers, after `skip` of them, are deleted, and with them their subscriptions."""
    prefix = f"cus_{params.get('prefix', 'bulk')}"
    chosen = [customer_id for customer_id in account.objects['customer'] if customer_id.startswith(prefix)]
    chosen = chosen[params.get('skip', 0):][:params['count']]
    with account.world.fated(params.get('events', 'delivered')), account.world.caused_by(None, None):
        for customer_id in chosen:
            delete_customer(account, {}, customer_id)
    return {'object': 'stand_in.bulk', 'customers': chosen}
