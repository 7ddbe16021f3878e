"""Custom reasons for the portal's cancel survey."""

from __future__ import annotations

from . import parameters as P
from .documents import merge, without
from .errors import StripeError
from .routes import route
from .world import Account

KIND = 'billing.feedback_option'


@route('POST', '/v1/billing/feedback_options', P.FEEDBACK_OPTION)
def create_feedback_option(account: Account, params: dict) -> dict:
    check(params)
    option = account.add(KIND, account.world.new_id('fbo'), {
        'description': params['description'], 'status': 'active', 'status_transitions': {'deactivated_at': None}})
    return option


def check(params: dict) -> None:
    if len(params.get('description', '')) > 100:
        raise StripeError('The description may have at most 100 characters.', param='description')


@route('GET', '/v1/billing/feedback_options', P.FEEDBACK_OPTION_LIST)
def list_feedback_options(account: Account, params: dict) -> dict:
    return account.page(KIND, params, '/v1/billing/feedback_options',
                        lambda item: params.get('status') in (None, item['status']))


@route('GET', '/v1/billing/feedback_options/{}', P.EXPAND)
def retrieve_feedback_option(account: Account, params: dict, option_id: str) -> dict:
    return account.get(KIND, option_id)


@route('POST', '/v1/billing/feedback_options/{}', P.FEEDBACK_OPTION_UPDATE, updating=True)
def update_feedback_option(account: Account, params: dict, option_id: str) -> dict:
    check(params)
    option = account.get(KIND, option_id)
    merge(option, without(params))
    return option


@route('POST', '/v1/billing/feedback_options/{}/deactivate', P.EXPAND)
def deactivate_feedback_option(account: Account, params: dict, option_id: str) -> dict:
    option = account.get(KIND, option_id)
    if option['status'] == 'active':
        option.update(status='inactive', status_transitions={'deactivated_at': account.world.now()})
    return option
