"""What a subscriber does behind the URL of a portal session."""

from __future__ import annotations

from . import parameters as P
from .coupons import set_discounts
from .customers import whole_address
from .declines import describe, error_members
from .documents import merge
from .errors import StripeError
from .payment_methods import TEST_CARDS, add_card, detach
from .portal import CONFIGURATION_KIND, SESSION_KIND, disabled
from .subscriptions import (TERMINAL, change_item, end, is_classic, period_ends, resume, schedule_cancel,
                            set_status, unschedule_cancel)
from .world import Account

UNOPENED, IDLE = 300, 3600

# Action -> the feature of the configuration that offers it.
FEATURES = {
    'accept_offer': 'subscription_cancel', 'cancel': 'subscription_cancel', 'change_plan': 'subscription_update',
    'confirm': 'subscription_update', 'pause': 'subscription_pause',
    'remove_payment_method': 'payment_method_update', 'update_customer': 'customer_update',
    'update_payment_method': 'payment_method_update',
}
ANSWERS = ('comment', 'feedback', 'feedback_option')


def visit(account: Account, params: dict) -> dict:
    """One action in the portal, by the customer that the session was made for."""
    session = account.get(SESSION_KIND, params['session'], 'session')
    now = account.world.now()
    if now > session.get('.open_until', session['created'] + UNOPENED):
        raise StripeError('This portal session has expired.', param='session')
    session['.open_until'] = now + IDLE
    configuration = account.get(CONFIGURATION_KIND, session['configuration'], 'configuration')
    feature = FEATURES.get(params['action'])
    if feature and not configuration['features'][feature]['enabled']:
        raise disabled(f"The portal does not offer {params['action']}", feature)
    world = account.world
    with world.caused_by(world.new_id('req'), world.new_id('portal')):
        if params['action'] in CUSTOMER_VISITS:
            customer = account.get('customer', session['customer'], 'session')
            CUSTOMER_VISITS[params['action']](account, customer, params)
        else:
            subscription = visited_subscription(account, session, params)
            VISITS[params['action']](account, subscription, configuration, {**params, 'session': session})
    return session


def visited_subscription(account: Account, session: dict, params: dict) -> dict:
    """The subscription named by the visit or by the session's flow, else the customer's newest living one."""
    flow = session['flow'] or {}
    wanted = params.get('subscription') or (flow.get(flow.get('type')) or {}).get('subscription')
    if wanted:
        return account.get('subscription', wanted, 'subscription')
    for subscription in reversed(account.objects['subscription'].values()):
        if subscription['customer'] == session['customer'] and subscription['status'] not in TERMINAL:
            return subscription
    raise StripeError('This customer has no subscription to act on.', param='session')


def visit_cancel(account, subscription, configuration, params) -> None:
    """Cancelling is one event, the survey after it a second one."""
    if configuration['features']['subscription_cancel']['mode'] == 'immediately':
        end(account, subscription, 'cancellation_requested')
    else:
        with account.change(subscription, 'customer.subscription.updated'):
            schedule_cancel(account, subscription, max(period_ends(subscription)), is_classic(subscription))
    visit_survey(account, subscription, configuration, params)


def visit_survey(account, subscription, configuration, params) -> None:
    """The survey is shown after the cancellation, so its answers may come later, or never."""
    answers = {name: params[name] for name in ANSWERS if name in params}
    with account.change(subscription, 'customer.subscription.updated'):
        subscription['cancellation_details'].update(answers)


def visit_renew(account, subscription, configuration, params) -> None:
    with account.change(subscription, 'customer.subscription.updated'):
        unschedule_cancel(subscription)


def visit_change_plan(account, subscription, configuration, params) -> None:
    item = subscription['items']['data'][0]
    wanted = {'id': item['id'], 'price': params.get('price', item['price']['id']),
              'quantity': params.get('quantity', item.get('quantity', 1))}
    with account.change(subscription, 'customer.subscription.updated'):
        change_item(account, subscription, wanted, 'items[0]')


def visit_pause(account, subscription, configuration, params) -> None:
    set_status(account, subscription, 'paused', 'pause_requested')


def visit_resume(account, subscription, configuration, params) -> None:
    if subscription['status'] != 'paused':
        raise StripeError('Only a paused subscription can be resumed.', param='subscription')
    resume(account, subscription, 'now')


def visit_confirm(account, subscription, configuration, params) -> None:
    """Confirm the change that the session's flow proposes."""
    flow = params['session']['flow'] or {}
    proposal = flow.get('subscription_update_confirm')
    if not proposal:
        raise StripeError('This portal session proposes no change.', param='session')
    item, wanted = subscription['items']['data'][0], proposal['items'][0]
    with account.change(subscription, 'customer.subscription.updated'):
        change_item(account, subscription, {'quantity': item.get('quantity', 1), **wanted}, 'items[0]')
        if proposal['discounts']:
            set_discounts(account, subscription, proposal['discounts'])


def visit_accept_offer(account, subscription, configuration, params) -> None:
    """Take the coupon of the cancel flow, and stay."""
    cancel = (params['session']['flow'] or {}).get('subscription_cancel') or {}
    if not cancel.get('retention'):
        raise StripeError('This portal session makes no offer.', param='session')
    coupon = cancel['retention']['coupon_offer']['coupon']
    with account.change(subscription, 'customer.subscription.updated'):
        set_discounts(account, subscription, [{'coupon': coupon}])


VISITS = {'accept_offer': visit_accept_offer, 'cancel': visit_cancel, 'change_plan': visit_change_plan,
          'confirm': visit_confirm, 'pause': visit_pause, 'renew': visit_renew, 'resume': visit_resume,
          'survey': visit_survey}


def update_customer(account: Account, customer: dict, params: dict) -> None:
    given = {name: params[name] for name in ('address', 'email', 'name', 'phone') if name in params}
    with account.change(customer, 'customer.updated'):
        merge(customer, whole_address(given))


def update_payment_method(account: Account, customer: dict, params: dict) -> None:
    """Save a new card: a setup intent, the card, and the customer's new default; the bank may refuse."""
    card = params.get('card', 'pm_card_visa')
    intent = account.add('setup_intent', account.world.new_id('seti'), {
        'customer': customer['id'], 'last_setup_error': None, 'metadata': {}, 'payment_method': None,
        'status': 'requires_payment_method', 'usage': 'off_session'})
    account.emit('setup_intent.created', intent)
    refusal = TEST_CARDS[card][1]
    if refusal:
        described = describe(refusal)
        intent['last_setup_error'] = {'code': described['code'], 'message': described['message'],
                                      'type': 'card_error', **error_members(described)}
        account.emit('setup_intent.setup_failed', intent)
        return
    method = add_card(account, customer, card)
    method['allow_redisplay'] = 'always'
    account.emit('payment_method.attached', method)
    intent.update(payment_method=method['id'], status='succeeded')
    account.emit('setup_intent.succeeded', intent)
    with account.change(customer, 'customer.updated'):
        customer['invoice_settings']['default_payment_method'] = method['id']


def remove_payment_method(account: Account, customer: dict, params: dict) -> None:
    method_id = customer['invoice_settings']['default_payment_method']
    if method_id is None:
        raise StripeError('This customer has no card to remove.', param='session')
    detach(account, account.get('payment_method', method_id, 'session'))


CUSTOMER_VISITS = {'remove_payment_method': remove_payment_method, 'update_customer': update_customer,
                   'update_payment_method': update_payment_method}
ACTIONS = (*VISITS, *CUSTOMER_VISITS)
