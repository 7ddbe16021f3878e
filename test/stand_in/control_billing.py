"""Control calls that let time pass and money move, or fail to."""

from __future__ import annotations

from . import parameters as P
from .billing import bill, collect, renew, run
from .coupons import end_discounts, refresh
from .errors import StripeError
from .invoices import in_status
from .payment_methods import TEST_CARDS, add_card
from .payments import LAST_RESORT, close_dispute, dispute_charge
from .routes import CONTROL, route
from .subscriptions import TERMINAL
from .world import Account

# How an attempt fails, beside what its decline code makes likely; nothing given lets the card decide.
DECLINE = {'advice_code': 'string', 'automations': 'boolean', 'decline': 'string', 'network_advice_code': 'string',
           'network_decline_code': 'string', 'outcome_type': 'string'}


@route('POST', CONTROL + 'clock', {'advance': 'integer', 'run': 'boolean', 'set': 'timestamp'})
def move_clock(account: Account, params: dict) -> dict:
    """Move the time of new objects, events and Date headers; signatures keep the real time.

    Discounts end and coupons expire by themselves.  With run=true everything else happens too that time brings
    about in this account, each at its moment: renewals, attempts to collect, ends of trials, scheduled cancellations.
    """
    world = account.world
    moment = params.get('set', world.now()) + params.get('advance', 0)
    with world.caused_by(None, None):
        if params.get('run'):
            run(account, moment)
        world.ahead += moment - world.now()
        for one in list(world.accounts.values()):
            end_discounts(one)
            refresh(one)
    return {'object': 'stand_in.clock', 'now': world.now()}


@route('POST', CONTROL + 'renew', {'now': 'boolean', 'subscription*': 'string', **DECLINE})
def renew_subscription(account: Account, params: dict) -> dict:
    """The next renewal, with the clock moved to the end of the period; now=true ends the period instead."""
    subscription = account.get('subscription', params['subscription'], 'subscription')
    if subscription['status'] in (*TERMINAL, 'paused', 'incomplete'):
        raise StripeError(f"A subscription that is {subscription['status']} does not renew.", param='subscription')
    world, items = account.world, subscription['items']['data']
    if params.get('now'):
        for item in items:
            item['current_period_end'] = item['.anchor'] = min(item['current_period_end'], world.now())
    world.ahead += max(0, min(item['current_period_end'] for item in items) - world.now())
    with world.caused_by(None, None):
        return renew(account, subscription, params)


@route('POST', CONTROL + 'bill', {'subscription*': 'string', **DECLINE})
def bill_subscription(account: Account, params: dict) -> dict:
    """The first invoice, which subscriptions of the stand-in do not get by themselves."""
    subscription = account.get('subscription', params['subscription'], 'subscription')
    if subscription['status'] in TERMINAL:
        raise StripeError(f"A subscription that is {subscription['status']} is not billed.", param='subscription')
    with account.world.caused_by(None, None):
        return bill(account, subscription, 'subscription_create', subscription['items']['data'], params)


@route('POST', CONTROL + 'attempt', {'invoice*': 'string', **DECLINE})
def attempt_invoice(account: Account, params: dict) -> dict:
    """The next scheduled attempt to collect an open invoice, whenever it was due."""
    invoice = in_status(account, params['invoice'], 'open')
    with account.world.caused_by(None, None):
        collect(account, invoice, params)
    return invoice


@route('POST', CONTROL + 'dunning', {'days': ['integer'], 'final': tuple(LAST_RESORT)})
def set_dunning(account: Account, params: dict) -> dict:
    """Days between attempts, and what becomes of the subscription after the last; days= alone is one attempt."""
    account.world.dunning.update(params)
    return {'object': 'stand_in.dunning', **account.world.dunning}


@route('POST', CONTROL + 'payment_methods', {'card': tuple(TEST_CARDS), 'customer*': 'string', 'decline': 'string',
                                             'default': 'boolean'})
def give_card(account: Account, params: dict) -> dict:
    """A customer gets a card, which every charge will decline with a code if one is given."""
    customer = account.get('customer', params['customer'], 'customer')
    method = add_card(account, customer, params.get('card', 'pm_card_visa'), params.get('decline'))
    account.emit('payment_method.attached', method)
    if params.get('default', True):
        with account.change(customer, 'customer.updated'):
            customer['invoice_settings']['default_payment_method'] = method['id']
    return method


@route('POST', CONTROL + 'payment_methods/{}', {'decline~': 'string'})
def change_card(account: Account, params: dict, method_id: str) -> dict:
    """From now on the issuer declines an existing card with this code, or approves it again (decline=)."""
    method = account.get('payment_method', method_id)
    method['.decline'] = params.get('decline')
    return method


@route('POST', CONTROL + 'disputes', {'charge': 'string', 'reason': 'string', 'subscription': 'string',
                                      'then': P.words('nothing cancel cancel_at_period_end')})
def open_dispute(account: Account, params: dict) -> dict:
    """A dispute of a charge, or of a subscription's latest invoice's."""
    charge_id = params.get('charge')
    if charge_id is None:
        subscription = account.get('subscription', params.get('subscription', ''), 'subscription')
        invoice = account.get('invoice', subscription['latest_invoice'] or '', 'subscription')
        charge_id = invoice.get('.charge') or ''
    with account.world.caused_by(None, None):
        return dispute_charge(account, account.get('charge', charge_id, 'charge'),
                              params.get('reason', 'fraudulent'), params.get('then', 'nothing'))


@route('POST', CONTROL + 'disputes/{}/close', {'status*': P.words('lost won')})
def decide_dispute(account: Account, params: dict, dispute_id: str) -> dict:
    """The bank decides."""
    dispute = account.get('dispute', dispute_id)
    with account.world.caused_by(None, None):
        close_dispute(account, dispute, params['status'])
    return dispute
