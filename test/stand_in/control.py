"""The calls under /v1/test_helpers/stand_in/ with which a test directs the stand-in.

They take form parameters and answer JSON like the API, need the same keys, are
not subject to faults and do not appear in the log of requests.
"""

from __future__ import annotations

from . import parameters as P
from .errors import StripeError
from .faults import KINDS
from .portal import ACTIONS, default_configuration, save_default_configuration, visit
from .resources import add_customer, add_price
from .routes import CONTROL, route
from .subscriptions import add_subscription, set_status
from .webhooks import SECRET, sign
from .world import Account, Fault, render

MOMENT = {'secret': 'string', 'timestamp': 'timestamp'}


@route('POST', CONTROL + 'fault', {'kind*': tuple(KINDS), 'times': 'integer', 'path': 'string',
                                   'retry_after': 'integer', 'seconds': 'number'})
def add_fault(account: Account, params: dict) -> dict:
    """The next `times` API requests (of this path prefix) misbehave."""
    fault = Fault(params['kind'], params.get('times', 1), params.get('path', '/'), params.get('seconds', 5),
                  params.get('retry_after'))
    account.world.faults.append(fault)
    return {'object': 'stand_in.fault', **vars(fault)}


@route('POST', CONTROL + 'reset', {'state': 'boolean'})
def reset(account: Account, params: dict) -> dict:
    """Forget faults and requests, and with state=true all objects."""
    account.world.reset(params.get('state', False))
    return {'object': 'stand_in.reset'}


@route('GET', CONTROL + 'requests', {})
def requests(account: Account, params: dict) -> dict:
    """The API requests since the last reset, oldest first."""
    return {'object': 'stand_in.requests', 'data': account.world.requests}


@route('GET', CONTROL + 'deliveries', {'limit': 'integer', 'object': 'string', 'starting_after': 'string',
                                       'type': 'string', **MOMENT})
def deliveries(account: Account, params: dict) -> dict:
    """Events as they would be delivered now, oldest first; `limit` keeps the newest."""
    events = list(account.objects['event'].values())
    if 'starting_after' in params:
        events = events[events.index(account.get('event', params['starting_after'], 'starting_after')) + 1:]
    events = [event for event in events
              if params.get('type') in (None, event['type'])
              and params.get('object') in (None, event['data']['object'].get('id'))]
    return {'object': 'stand_in.deliveries', 'data': [{
        'id': event['id'], 'type': event['type'], 'object_id': event['data']['object'].get('id'),
        'payload': event['.payload'],
        'signature': sign(event['.payload'], params.get('secret', SECRET), params.get('timestamp')),
        'attempts': event.get('.attempts', []),
    } for event in (events[-params['limit']:] if 'limit' in params else events)]}


@route('POST', CONTROL + 'sign', {'payload*': 'string', **MOMENT})
def sign_payload(account: Account, params: dict) -> dict:
    """A Stripe-Signature header for any text."""
    return {'object': 'stand_in.signature', 'payload': params['payload'],
            'signature': sign(params['payload'], params.get('secret', SECRET), params.get('timestamp'))}


@route('POST', CONTROL + 'resend', {'event*': 'string'})
def resend(account: Account, params: dict) -> dict:
    """Deliver an event to its endpoints once more."""
    sent = account.world.webhooks.resend(account, account.get('event', params['event'], 'event'))
    return {'object': 'stand_in.resend', 'endpoints': sent}


@route('POST', CONTROL + 'settle', {'timeout': 'number'}, locked=False)
def settle(account: Account, params: dict) -> dict:
    """Wait until every webhook is sent."""
    return {'object': 'stand_in.settle', 'settled': account.world.webhooks.settle(params.get('timeout', 30))}


@route('POST', CONTROL + 'clock', {'advance*': 'integer'})
def advance_clock(account: Account, params: dict) -> dict:
    """Move the time of new objects and events ahead; signatures keep the real time."""
    account.world.ahead += params['advance']
    return {'object': 'stand_in.clock', 'now': account.world.now()}


@route('GET', CONTROL + 'state', {})
def state(account: Account, params: dict) -> dict:
    """All objects of the account, by kind."""
    return {'object': 'stand_in.state', 'objects': {
        kind: [render(item) for item in items.values()] for kind, items in account.objects.items() if items}}


@route('POST', CONTROL + 'default_configuration', {'exists*': 'boolean'})
def set_default_configuration(account: Account, params: dict) -> dict:
    """Save the portal settings in the Dashboard, or never have done so."""
    if params['exists']:
        return save_default_configuration(account)
    configuration = default_configuration(account)
    if configuration:
        account.remove(configuration['object'], configuration['id'])
    return {'object': 'stand_in.default_configuration', 'exists': False}


@route('POST', CONTROL + 'customers', {'id': 'string', **P.CUSTOMER})
def customer_with_id(account: Account, params: dict) -> dict:
    return add_customer(account, params, params.get('id'))


@route('POST', CONTROL + 'prices', {'id': 'string', **P.PRICE_CREATE})
def price_with_id(account: Account, params: dict) -> dict:
    return add_price(account, params, params.get('id'))

SUBSCRIPTION = {name: kind for name, kind in P.SUBSCRIPTION_CREATE.items() if name != 'items*'}


@route('POST', CONTROL + 'subscriptions', {**SUBSCRIPTION, 'id': 'string', 'price*': 'string',
                                           'quantity': 'integer', 'status': P.STATUSES})
def subscription_with_id(account: Account, params: dict) -> dict:
    """One item, and any status to begin with; canceled is reached by the status call."""
    if params.get('status') in ('canceled', 'paused'):
        raise StripeError('Create the subscription, then set this status.', param='status')
    item = {'price': params.pop('price'), 'quantity': params.pop('quantity', 1)}
    status = params.pop('status', None)
    return add_subscription(account, {**params, 'items': [item]}, params.get('id'), status)


@route('POST', CONTROL + 'subscriptions/{}/status', {'status*': P.STATUSES, 'reason': 'string'})
def force_status(account: Account, params: dict, subscription_id: str) -> dict:
    """What Stripe's billing engine does by itself, hence without a request."""
    subscription = account.get('subscription', subscription_id)
    with account.world.caused_by(None, None):
        set_status(account, subscription, params['status'], params.get('reason'))
    return subscription


@route('POST', CONTROL + 'visit', {
    'action*': ACTIONS, 'address': P.ADDRESS, 'comment': 'string', 'email': 'email', 'feedback': P.FEEDBACK,
    'name': 'string', 'phone': 'string', 'price': 'string', 'quantity': 'integer', 'session*': 'string',
    'subscription': 'string'})
def visit_portal(account: Account, params: dict) -> dict:
    """What the subscriber does behind a session's URL."""
    return visit(account, params)
