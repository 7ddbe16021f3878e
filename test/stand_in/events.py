"""The list of events, and webhook endpoints."""

from __future__ import annotations

from fnmatch import fnmatchcase

from . import parameters as P
from .documents import merge, without
from .errors import StripeError, missing
from .routes import route
from .versions import in_version
from .world import API_VERSION, Account


# Stripe's API reaches back this many seconds, by its own clock.
RETENTION = 30 * 86400


def is_kept(account: Account, event: dict) -> bool:
    return event['created'] > account.world.now() - RETENTION


@route('GET', '/v1/events', P.EVENT_LIST)
def list_events(account: Account, params: dict) -> dict:
    if 'type' in params and 'types' in params:
        raise StripeError('You may only specify one of these parameters: type, types.', param='types',
                          code='parameters_exclusive', before_execution=True)
    if len(params.get('types', [])) > 20:
        raise StripeError('At most 20 types can be given.', param='types', before_execution=True)
    patterns = params.get('types') or [params.get('type', '*')]

    def match(item: dict) -> bool:
        delivered = item['pending_webhooks'] == 0
        return (any(fnmatchcase(item['type'], pattern) for pattern in patterns)
                and params.get('delivery_success') in (None, delivered))
    # Newest first; Stripe promises no order within a second, and ours is that of making.
    kept = [event for event in reversed(account.objects['event'].values()) if is_kept(account, event)]
    kept.sort(key=lambda event: -event['created'])
    page = account.page('event', params, '/v1/events', match, kept)
    return {**page, 'data': [in_own_version(account, event) for event in page['data']]}


def in_own_version(account: Account, event: dict) -> dict:
    """An event keeps for ever the shape of the version that it was made in."""
    return event if event['api_version'] == API_VERSION else in_version(account, event, event['api_version'])


@route('GET', '/v1/events/{}', P.EXPAND)
def retrieve_event(account: Account, params: dict, event_id: str) -> dict:
    event = account.get('event', event_id)
    if not is_kept(account, event):
        raise missing('event', event_id, 'id', status=404)
    return in_own_version(account, event)


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
