"""The calls under /v1/test_helpers/stand_in/ with which a test directs the stand-in.

They take form parameters and answer JSON like the API, need the same keys, are
not subject to faults and do not appear in the log of requests.
"""

from __future__ import annotations

import random

from . import entitlements, events, feedback_options, parameters as P, payment_methods  # noqa: F401, their calls
from .catalogue import add_price
from .customers import add_customer
from .documents import render
from .errors import StripeError
from .faults import KINDS
from .limiter import RateLimiter
from .payment_methods import TEST_CARDS
from .portal import default_configuration, save_default_configuration
from .routes import CONTROL, route
from .subscriptions import add_subscription, set_status
from .thin import thin_payload
from .visits import ACTIONS, visit
from .webhooks import SECRET, sign
from .world import Account, Fault

MOMENT = {'secret': 'string', 'timestamp': 'timestamp'}


@route('POST', CONTROL + 'fault', {'kind*': tuple(KINDS), 'times': 'integer', 'path': 'string',
                                   'retry_after': 'integer', 'seconds': 'number'})
def add_fault(account: Account, params: dict) -> dict:
    """The next `times` API requests (of this path prefix) misbehave; times=0 is all until the next reset."""
    fault = Fault(params['kind'], params.get('times', 1), params.get('path', '/'), params.get('seconds', 5),
                  params.get('retry_after'))
    account.world.faults.append(fault)
    return {'object': 'stand_in.fault', **vars(fault)}


@route('POST', CONTROL + 'rate_limit', {'per_second': 'integer', 'retry_after': 'integer'})
def limit_rate(account: Account, params: dict) -> dict:
    """From now on refuse with 429 what exceeds a rate, and count; without per_second only count."""
    account.world.limiter = RateLimiter(params.get('per_second'), params.get('retry_after'))
    return read_rate(account, {})


@route('GET', CONTROL + 'rate_limit', {})
def read_rate(account: Account, params: dict) -> dict:
    """How many requests came, how many in the busiest second, and how many were refused."""
    return {'object': 'stand_in.rate_limit', **account.world.limiter.report()}


@route('POST', CONTROL + 'page_limit', {'limit*': 'integer'})
def limit_pages(account: Account, params: dict) -> dict:
    """Lists give at most so many objects per page, whatever limit asks for."""
    account.world.page_limit = params['limit']
    return {'object': 'stand_in.page_limit', 'limit': params['limit']}


@route('POST', CONTROL + 'drop', {'share*': 'number', 'seed': 'integer'})
def drop_deliveries(account: Account, params: dict) -> dict:
    """Lose this share of the deliveries of events to come, chosen at random; 0 ends it."""
    account.world.drop = (params['share'], random.Random(params.get('seed', 0))) if params['share'] else None
    return {'object': 'stand_in.drop', 'share': params['share']}


@route('POST', CONTROL + 'reset', {'state': 'boolean'})
def reset(account: Account, params: dict) -> dict:
    """Forget requests, faults, limits and losses; with state=true also all objects, the clock and dunning."""
    account.world.reset(params.get('state', False))
    return {'object': 'stand_in.reset'}


@route('GET', CONTROL + 'requests', {})
def requests(account: Account, params: dict) -> dict:
    """The API requests since the last reset, oldest first."""
    return {'object': 'stand_in.requests', 'data': account.world.requests}


@route('GET', CONTROL + 'deliveries', {
    'api_version': 'version', 'limit': 'integer', 'lost': 'boolean', 'object': 'string', 'starting_after': 'string',
    'thin': 'boolean', 'type': 'string', **MOMENT})
def deliveries(account: Account, params: dict) -> dict:
    """Events as they would be delivered now, oldest first; `limit` keeps the newest.

    Those whose delivery is lost are missing; lost=true gives only them.  api_version is the endpoint's; thin=true
    gives the thin events that go with them.
    """
    def payload(event: dict) -> str | None:
        if params.get('thin'):
            return thin_payload(event)
        return account.world.webhooks.payload(account, event, params.get('api_version'))
    events = list(account.objects['event'].values())
    if 'starting_after' in params:
        events = events[events.index(account.get('event', params['starting_after'], 'starting_after')) + 1:]
    events = [event for event in events
              if event['.lost'] == params.get('lost', False) and params.get('type') in (None, event['type'])
              and params.get('object') in (None, event['data']['object'].get('id'))]
    if 'limit' in params:
        events = events[-params['limit']:]
    chosen = [(event, text) for event in events if (text := payload(event)) is not None]
    return {'object': 'stand_in.deliveries', 'data': [{
        'id': event['id'], 'type': event['type'], 'object_id': event['data']['object'].get('id'),
        'payload': text, 'signature': sign(text, params.get('secret', SECRET), params.get('timestamp')),
        'attempts': event.get('.attempts', []),
    } for event, text in chosen]}


@route('POST', CONTROL + 'api_version', {'version*': 'version'})
def set_api_version(account: Account, params: dict) -> dict:
    """The account's default: new events have the shape of this version, in the list of events too."""
    account.api_version = params['version']
    return {'object': 'stand_in.api_version', 'version': params['version']}


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
    'action*': ACTIONS, 'address': P.ADDRESS, 'card': tuple(TEST_CARDS), 'comment': 'string', 'email': 'email',
    'feedback': P.FEEDBACK, 'feedback_option': 'string', 'name': 'string', 'phone': 'string', 'price': 'string',
    'quantity': 'integer', 'session*': 'string', 'subscription': 'string'})
def visit_portal(account: Account, params: dict) -> dict:
    """What the subscriber does behind a session's URL."""
    return visit(account, params)
