"""Paying an invoice, or failing to: charges, payment intents, dunning; and disputes."""

from __future__ import annotations

from . import parameters as P
from .declines import declined, describe, error_members, outcome_of
from .documents import render
from .errors import StripeError
from .invoices import in_status, shown_in_error, subscription_of
from .payment_methods import add_card, in_use, usable
from .routes import route
from .subscriptions import TERMINAL, end, schedule_cancel, set_status
from .world import Account

DAY = 86400


def card_for(account: Account, subscription: dict | None, customer: dict) -> dict:
    """The card to charge; customers that a test made without one have had it all the time."""
    method = in_use(account, subscription or {'customer': customer['id'], 'default_payment_method': None})
    if method is None:
        method = add_card(account, customer)
        customer['invoice_settings']['default_payment_method'] = method['id']
    return method


def charge(account: Account, intent: dict, method: dict, described: dict | None) -> dict:
    """One charge of a payment intent, declined as described or succeeded; with the events of both."""
    card = {name: method['card'][name] for name in ('brand', 'country', 'exp_month', 'exp_year', 'fingerprint',
                                                    'funding', 'last4')}
    made = account.add('charge', account.world.new_id('ch'), {
        'amount': intent['amount'], 'amount_captured': 0 if described else intent['amount'], 'amount_refunded': 0,
        'application': None, 'balance_transaction': None, 'billing_details': method['billing_details'],
        'captured': not described,
        'currency': intent['currency'], 'customer': intent['customer'], 'description': intent['description'],
        'disputed': False, 'failure_code': described and described['code'],
        'failure_message': described and described['message'], 'fraud_details': {}, 'metadata': {},
        'outcome': outcome_of(described), 'paid': not described, 'payment_intent': intent['id'],
        'payment_method': method['id'], 'payment_method_details': {'card': card, 'type': 'card'},
        'receipt_email': None, 'receipt_number': None, 'receipt_url': None, 'refunded': False, 'review': None,
        'status': 'failed' if described else 'succeeded',
        '.invoice': intent['.invoice']})
    intent['latest_charge'] = made['id']
    if described:
        intent.update(payment_method=None, status='requires_payment_method', last_payment_error={
            'charge': made['id'], 'code': described['code'],
            'doc_url': 'https://stripe.com/docs/error-codes/' + described['code'].replace('_', '-'),
            'message': described['message'], 'payment_method': render(method), 'type': 'card_error',
            **error_members(described)})
        account.emit('charge.failed', made)
        account.emit('payment_intent.payment_failed', intent)
    else:
        intent.update(payment_method=method['id'], status='succeeded', last_payment_error=None,
                      amount_received=intent['amount'])
        account.emit('charge.succeeded', made)
        account.emit('payment_intent.succeeded', intent)
    return made


def attempt(account: Account, invoice: dict, method: dict, decline: dict | None = None, *,
            scheduled: bool = True) -> dict | None:
    """Try to collect an open invoice; gives the codes of the decline, if it was one.

    `decline` holds a decline_code and further codes; without it the card decides.  Only scheduled attempts count.
    """
    decline = decline or {}
    code = decline.get('decline') or method['.decline']
    described = describe(code, decline) if code else None
    if invoice['amount_due'] > 0:
        intent = account.objects['payment_intent'][invoice['.payment_intent']]
        invoice['.charge'] = charge(account, intent, method, described)['id']
    invoice['attempt_count'] += scheduled
    if described:
        failed(account, invoice, scheduled, decline.get('automations', False))
    else:
        paid(account, invoice)
        account.emit('invoice.payment_succeeded', invoice)
    return described


def paid(account: Account, invoice: dict) -> None:
    """The invoice is paid, and with it what it had brought to a halt."""
    now = account.world.now()
    for payment_id in invoice['.payments']:
        payment = account.objects['invoice_payment'][payment_id]
        payment.update(status='paid', amount_paid=payment['amount_requested'])
        payment['status_transitions']['paid_at'] = now
        account.emit('invoice_payment.paid', payment)
    with account.change(invoice, 'invoice.updated'):
        invoice.update(status='paid', attempted=True, amount_paid=invoice['amount_due'], amount_remaining=0,
                       next_payment_attempt=None)
        invoice['status_transitions']['paid_at'] = now
    account.emit('invoice.paid', invoice)
    subscription = subscription_of(account, invoice)
    if subscription and subscription['latest_invoice'] == invoice['id'] and subscription['status'] in (
            'past_due', 'unpaid', 'incomplete'):
        set_status(account, subscription, 'active', None)
    customer = account.objects['customer'].get(invoice['customer'])
    if customer and not owes(account, customer):
        with account.change(customer, 'customer.updated'):
            customer['delinquent'] = False


def owes(account: Account, customer: dict) -> bool:
    return customer['delinquent'] and any(
        item['customer'] == customer['id'] and item['status'] == 'open' and item['attempted']
        for item in account.objects['invoice'].values())


def failed(account: Account, invoice: dict, scheduled: bool, automations: bool) -> None:
    """A failed attempt: when is the next, and if there is none, what becomes of the subscription?"""
    dunning = account.world.dunning
    subscription = subscription_of(account, invoice)
    following = invoice['next_payment_attempt']
    if scheduled:
        tries = invoice['attempt_count']
        following = (account.world.now() + dunning['days'][tries - 1] * DAY if tries <= len(dunning['days'])
                     and subscription and subscription['status'] not in TERMINAL else None)
    with account.change(invoice, 'invoice.updated'):
        # Billing automations tell the next attempt later, by a second invoice.updated only.
        invoice.update(attempted=True, next_payment_attempt=None if automations else following)
    account.emit('invoice.payment_failed', invoice)
    with account.change(invoice, 'invoice.updated'):
        invoice['next_payment_attempt'] = following
    customer = account.known('customer', invoice['customer'])
    with account.change(customer, 'customer.updated'):
        customer['delinquent'] = True
    if not subscription or subscription['status'] in TERMINAL:
        return
    if invoice['billing_reason'] == 'subscription_create':
        if subscription['status'] != 'incomplete':
            set_status(account, subscription, 'incomplete', None)
        return
    if subscription['status'] in ('active', 'trialing'):
        set_status(account, subscription, 'past_due', None)
    if scheduled and following is None:
        LAST_RESORT[dunning['final']](account, subscription)


LAST_RESORT = {
    'cancel': lambda account, subscription: end(account, subscription, 'payment_failed'),
    'past_due': lambda account, subscription: None,
    'pause': lambda account, subscription: set_status(account, subscription, 'paused', 'final_payment_failure'),
    'unpaid': lambda account, subscription: set_status(account, subscription, 'unpaid', None),
}


# Invoices, charges and payment intents over the API ------------------------------------

@route('POST', '/v1/invoices/{}/pay', P.INVOICE_PAY)
def pay_invoice(account: Account, params: dict, invoice_id: str) -> dict:
    invoice = in_status(account, invoice_id, 'open', 'uncollectible')
    if params.get('paid_out_of_band'):
        paid(account, invoice)
        return invoice
    customer = account.get('customer', invoice['customer'], 'customer')
    if 'payment_method' in params:
        method = usable(account, customer, params['payment_method'], 'payment_method')
    else:
        method = card_for(account, subscription_of(account, invoice), customer)
    described = attempt(account, invoice, method, scheduled=False)
    if described:
        raise declined(described['decline_code'], described=described, more=shown_in_error(account, invoice))
    return invoice


@route('GET', '/v1/charges', P.CHARGE_LIST)
def list_charges(account: Account, params: dict) -> dict:
    return account.page('charge', params, '/v1/charges',
                        lambda item: all(params.get(name) in (None, item[name])
                                         for name in ('customer', 'payment_intent')))


@route('GET', '/v1/charges/{}', P.EXPAND)
def retrieve_charge(account: Account, params: dict, charge_id: str) -> dict:
    return account.get('charge', charge_id)


@route('GET', '/v1/payment_intents', P.PAYMENT_INTENT_LIST)
def list_payment_intents(account: Account, params: dict) -> dict:
    return account.page('payment_intent', params, '/v1/payment_intents',
                        lambda item: params.get('customer') in (None, item['customer']))


@route('GET', '/v1/payment_intents/{}', P.EXPAND)
def retrieve_payment_intent(account: Account, params: dict, intent_id: str) -> dict:
    return account.get('payment_intent', intent_id)


# Disputes -------------------------------------------------------------------------------

def dispute_charge(account: Account, charged: dict, reason: str, then: str) -> dict:
    """The cardholder disputes a charge; the Dashboard's setting says what becomes of the subscription."""
    if not charged['paid'] or charged['disputed']:
        raise StripeError('Only a successful charge can be disputed, and only once.', param='charge')
    dispute = account.add('dispute', account.world.new_id('dp'), {
        'amount': charged['amount'], 'balance_transactions': [], 'charge': charged['id'],
        'currency': charged['currency'], 'evidence_details': {
            'due_by': account.world.now() + 9 * DAY, 'has_evidence': False, 'past_due': False,
            'submission_count': 0},
        'is_charge_refundable': False, 'metadata': {}, 'payment_intent': charged['payment_intent'],
        'payment_method_details': {'card': {'brand': 'visa', 'case_type': 'chargeback',
                                            'network_reason_code': '10.4'}, 'type': 'card'},
        'reason': reason, 'status': 'needs_response'})
    with account.change(charged, 'charge.updated'):
        charged['disputed'] = True
    account.emit('charge.dispute.created', dispute)
    account.emit('charge.dispute.funds_withdrawn', dispute)
    subscription = subscription_of(account, account.objects['invoice'][charged['.invoice']])
    if subscription and subscription['status'] not in TERMINAL:
        if then == 'cancel':
            end(account, subscription, 'payment_disputed')
        elif then == 'cancel_at_period_end':
            with account.change(subscription, 'customer.subscription.updated'):
                schedule_cancel(account, subscription, None, True)
                subscription['cancellation_details']['reason'] = 'payment_disputed'
    return dispute


def close_dispute(account: Account, dispute: dict, status: str) -> None:
    with account.change(dispute, 'charge.dispute.updated'):
        dispute['status'] = status
    account.emit('charge.dispute.closed', dispute)
    if status == 'won':
        account.emit('charge.dispute.funds_reinstated', dispute)


@route('GET', '/v1/disputes', P.DISPUTE_LIST)
def list_disputes(account: Account, params: dict) -> dict:
    return account.page('dispute', params, '/v1/disputes',
                        lambda item: all(params.get(name) in (None, item[name])
                                         for name in ('charge', 'payment_intent')))


@route('GET', '/v1/disputes/{}', P.EXPAND)
def retrieve_dispute(account: Account, params: dict, dispute_id: str) -> dict:
    return account.get('dispute', dispute_id)


@route('POST', '/v1/disputes/{}/close', P.EXPAND)
def concede_dispute(account: Account, params: dict, dispute_id: str) -> dict:
    dispute = account.get('dispute', dispute_id)
    close_dispute(account, dispute, 'lost')
    return dispute
