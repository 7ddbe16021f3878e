"""Invoices: made from a subscription, finalized, closed; payments.py pays them."""

from __future__ import annotations

from . import parameters as P
from .amounts import amount_of, discount_amounts
from .coupons import take_off
from .documents import render
from .errors import StripeError
from .routes import route
from .world import EXPANDED_LISTS, Account

INVOICE = {
    'account_country': 'US', 'account_name': 'Stand-in', 'account_tax_ids': None, 'amount_due': 0,
    'amount_overpaid': 0, 'amount_paid': 0, 'amount_remaining': 0, 'amount_shipping': 0, 'application': None,
    'attempt_count': 0, 'attempted': False, 'auto_advance': True,
    'automatically_finalizes_at': None,
    'automatic_tax': {'disabled_reason': None, 'enabled': False, 'liability': None, 'provider': None, 'status': None},
    'billing_reason': None, 'collection_method': 'charge_automatically', 'currency': None, 'custom_fields': None,
    'customer': None, 'customer_account': None, 'customer_address': None, 'customer_email': None,
    'customer_name': None, 'customer_phone': None, 'customer_shipping': None, 'customer_tax_exempt': 'none',
    'customer_tax_ids': [], 'default_payment_method': None, 'default_source': None, 'default_tax_rates': [],
    'description': None, 'discounts': [], 'due_date': None, 'effective_at': None, 'ending_balance': None,
    'footer': None, 'from_invoice': None, 'hosted_invoice_url': None, 'invoice_pdf': None,
    'issuer': {'type': 'self'}, 'last_finalization_error': None, 'latest_revision': None, 'lines': None,
    'metadata': {}, 'next_payment_attempt': None, 'number': None, 'on_behalf_of': None, 'parent': None,
    'payment_settings': {'default_mandate': None, 'payment_method_options': None, 'payment_method_types': None},
    'period_end': None, 'period_start': None, 'post_payment_credit_notes_amount': 0,
    'pre_payment_credit_notes_amount': 0, 'receipt_number': None, 'rendering': None, 'shipping_cost': None,
    'shipping_details': None, 'starting_balance': 0, 'statement_descriptor': None, 'status': 'draft',
    'status_transitions': {'finalized_at': None, 'marked_uncollectible_at': None, 'paid_at': None,
                           'voided_at': None},
    'subtotal': 0, 'subtotal_excluding_tax': 0, 'test_clock': None, 'total': 0, 'total_discount_amounts': [],
    'total_excluding_tax': 0, 'total_pretax_credit_amounts': [], 'total_taxes': [],
    'webhooks_delivered_at': None,
}

def invoice_line(account: Account, invoice: dict, subscription: dict, item: dict) -> dict:
    """The line of one item for its current period; metered usage is always nothing here."""
    price, quantity = item['price'], item.get('quantity')
    amount = amount_of(price, quantity) if quantity is not None and subscription['status'] != 'trialing' else 0
    return {
        'id': account.world.new_id('il'), 'object': 'line_item', 'amount': amount, 'currency': price['currency'],
        'description': None, 'discount_amounts': [], 'discountable': True, 'discounts': [],
        'invoice': invoice['id'], 'livemode': account.livemode, 'metadata': {},
        'parent': {'invoice_item_details': None, 'subscription_item_details': {
            'invoice_item': None, 'proration': False, 'proration_details': {'credited_items': None},
            'subscription': subscription['id'], 'subscription_item': item['id']},
            'type': 'subscription_item_details'},
        'period': {'end': item['current_period_end'], 'start': item['current_period_start']},
        'pretax_credit_amounts': [],
        'pricing': {'price_details': {'price': price['id'], 'product': price['product']}, 'type': 'price_details',
                    'unit_amount_decimal': price['unit_amount_decimal']},
        'quantity': quantity, 'subtotal': amount, 'taxes': [],
        # Old API versions show the price whole.
        '.price': price,
    }


def draft_invoice(account: Account, subscription: dict, reason: str, items: list[dict]) -> dict:
    """A draft over the current period of some items; the subscription's latest invoice from now on."""
    customer = account.known('customer', subscription['customer'])
    invoice = account.add('invoice', account.world.new_id('in'), INVOICE)
    lines = [invoice_line(account, invoice, subscription, item) for item in items]
    coupons = [(discount, find_coupon(account, discount)) for discount in subscription['discounts']]
    taken = discount_amounts(lines, coupons, subscription['currency'])
    subtotal = sum(line['amount'] for line in lines)
    total = subtotal - sum(entry['amount'] for entry in taken)
    send = subscription['collection_method'] == 'send_invoice'
    now = account.world.now()
    invoice.update(
        amount_due=total, amount_remaining=total, billing_reason=reason,
        collection_method=subscription['collection_method'], currency=subscription['currency'],
        customer=customer['id'], customer_address=customer['address'], customer_email=customer['email'],
        customer_name=customer['name'], customer_phone=customer['phone'], discounts=list(subscription['discounts']),
        due_date=now + (subscription['days_until_due'] or 30) * 86400 if send else None,
        lines={'object': 'list', 'data': lines, 'has_more': False, 'url': f"/v1/invoices/{invoice['id']}/lines",
               '.inline': True},
        parent={'quote_details': None, 'subscription_details': {
            'metadata': dict(subscription['metadata']), 'subscription': subscription['id']},
            'type': 'subscription_details'},
        # When the lines were gathered, not what they are for.
        period_end=now, period_start=now, subtotal=subtotal, subtotal_excluding_tax=subtotal, total=total,
        total_discount_amounts=taken, total_excluding_tax=total)
    invoice['.subscription'], invoice['.payments'] = subscription['id'], []
    subscription['latest_invoice'] = invoice['id']
    account.emit('invoice.created', invoice)
    return invoice


def find_coupon(account: Account, discount_id: str) -> dict:
    return account.known('coupon', account.known('discount', discount_id)['source']['coupon'])


def finalize(account: Account, invoice: dict) -> None:
    """Open the invoice, with the payment intent that will pay it; discounts of one invoice are used up."""
    customer = account.known('customer', invoice['customer'])
    number = customer['next_invoice_sequence']
    customer['next_invoice_sequence'] += 1
    now = account.world.now()
    invoice.update(status='open', number=f"{customer['invoice_prefix']}-{number:04d}", effective_at=now,
                   hosted_invoice_url=f"https://invoice.stripe.com/i/{invoice['id']}",
                   invoice_pdf=f"https://pay.stripe.com/invoice/{invoice['id']}/pdf")
    invoice['status_transitions']['finalized_at'] = now
    if invoice['amount_due'] > 0:
        add_payment(account, invoice)
    account.emit('invoice.finalized', invoice)
    subscription = subscription_of(account, invoice)
    if subscription:
        take_off(account, subscription, lambda discount: discount['id'] in invoice['discounts']
                 and find_coupon(account, discount['id'])['duration'] == 'once')
    if invoice['collection_method'] == 'send_invoice':
        account.emit('invoice.sent', invoice)


def subscription_of(account: Account, invoice: dict) -> dict | None:
    return account.objects['subscription'].get(invoice['.subscription'])


def add_payment(account: Account, invoice: dict) -> None:
    """The payment intent of an invoice, and the object that links the two."""
    intent = account.add('payment_intent', account.world.new_id('pi'), {
        'amount': invoice['amount_due'], 'amount_capturable': 0, 'amount_received': 0, 'application': None,
        'canceled_at': None, 'cancellation_reason': None, 'capture_method': 'automatic',
        'client_secret': None, 'confirmation_method': 'automatic',
        'currency': invoice['currency'], 'customer': invoice['customer'], 'customer_account': None,
        'description': 'Subscription update', 'last_payment_error': None, 'latest_charge': None, 'metadata': {},
        'next_action': None, 'on_behalf_of': None, 'payment_method': None, 'payment_method_types': ['card'],
        'receipt_email': None, 'review': None, 'setup_future_usage': 'off_session', 'statement_descriptor': None,
        'status': 'requires_payment_method', '.invoice': invoice['id']})
    intent['client_secret'] = f"{intent['id']}_secret_stand_in"
    payment = account.add('invoice_payment', account.world.new_id('inpay'), {
        'amount_paid': None, 'amount_requested': invoice['amount_due'], 'currency': invoice['currency'],
        'invoice': invoice['id'], 'is_default': True,
        'payment': {'payment_intent': intent['id'], 'type': 'payment_intent'}, 'status': 'open',
        'status_transitions': {'canceled_at': None, 'paid_at': None}})
    invoice['.payments'].append(payment['id'])
    invoice['.payment_intent'], invoice['.charge'] = intent['id'], None
    account.emit('payment_intent.created', intent)


def close(account: Account, invoice: dict, status: str, transition: str, event_type: str) -> None:
    """Void it or give it up; what was to pay a void one is canceled."""
    now = account.world.now()
    invoice.update(status=status, auto_advance=False, next_payment_attempt=None)
    invoice['status_transitions'][transition] = now
    if status == 'void':
        for payment_id in invoice['.payments']:
            payment = account.objects['invoice_payment'][payment_id]
            intent = account.objects['payment_intent'][payment['payment']['payment_intent']]
            payment['status'] = 'canceled'
            payment['status_transitions']['canceled_at'] = now
            intent.update(status='canceled', canceled_at=now, cancellation_reason='void_invoice')
            account.emit('payment_intent.canceled', intent)
    account.emit(event_type, invoice)


def void(account: Account, invoice: dict) -> None:
    invoice['amount_remaining'] = 0
    close(account, invoice, 'void', 'voided_at', 'invoice.voided')


def give_up(account: Account, invoice: dict) -> None:
    close(account, invoice, 'uncollectible', 'marked_uncollectible_at', 'invoice.marked_uncollectible')


# The API's calls ----------------------------------------------------------------------

def in_status(account: Account, invoice_id: str, *statuses: str) -> dict:
    invoice = account.get('invoice', invoice_id)
    if invoice['status'] not in statuses:
        raise StripeError(f"This invoice is {invoice['status']}; only {' or '.join(statuses)} ones allow this.",
                          code='invoice_not_editable')
    return invoice


@route('GET', '/v1/invoices', P.INVOICE_LIST)
def list_invoices(account: Account, params: dict) -> dict:
    return account.page('invoice', params, '/v1/invoices',
                        lambda item: all(params.get(name) in (None, item[name])
                                         for name in ('collection_method', 'customer', 'status'))
                        and params.get('subscription') in (None, item['.subscription']))


@route('GET', '/v1/invoices/{}', P.EXPAND)
def retrieve_invoice(account: Account, params: dict, invoice_id: str) -> dict:
    return account.get('invoice', invoice_id)


@route('GET', '/v1/invoices/{}/lines', P.PAGE)
def list_lines(account: Account, params: dict, invoice_id: str) -> dict:
    return account.page('line_item', params, f'/v1/invoices/{invoice_id}/lines',
                        entries=account.get('invoice', invoice_id)['lines']['data'])


@route('POST', '/v1/invoices/{}/finalize', P.INVOICE_FINALIZE)
def finalize_invoice(account: Account, params: dict, invoice_id: str) -> dict:
    invoice = in_status(account, invoice_id, 'draft')
    finalize(account, invoice)
    return invoice


@route('POST', '/v1/invoices/{}/void', P.EXPAND)
def void_invoice(account: Account, params: dict, invoice_id: str) -> dict:
    invoice = in_status(account, invoice_id, 'open', 'uncollectible')
    void(account, invoice)
    return invoice


@route('POST', '/v1/invoices/{}/mark_uncollectible', P.EXPAND)
def mark_invoice_uncollectible(account: Account, params: dict, invoice_id: str) -> dict:
    invoice = in_status(account, invoice_id, 'open')
    give_up(account, invoice)
    return invoice


@route('POST', '/v1/invoices/{}/send', P.EXPAND)
def send_invoice(account: Account, params: dict, invoice_id: str) -> dict:
    invoice = account.get('invoice', invoice_id)
    if invoice['status'] == 'draft':
        finalize(account, invoice)
    account.emit('invoice.sent', invoice)
    return invoice


# Invoice payments ---------------------------------------------------------------------

def expanded_payments(account: Account, invoice: dict) -> dict:
    return {'object': 'list', 'data': [account.objects['invoice_payment'][payment]
                                       for payment in invoice['.payments']],
            'has_more': False, 'url': f"/v1/invoice_payments?invoice={invoice['id']}"}


EXPANDED_LISTS['invoice', 'payments'] = expanded_payments


@route('GET', '/v1/invoice_payments', P.INVOICE_PAYMENT_LIST)
def list_invoice_payments(account: Account, params: dict) -> dict:
    wanted = params.get('payment', {})

    def match(item: dict) -> bool:
        return (all(params.get(name) in (None, item[name]) for name in ('invoice', 'status'))
                and all(wanted[name] == item['payment'].get(name) for name in wanted))
    return account.page('invoice_payment', params, '/v1/invoice_payments', match)


@route('GET', '/v1/invoice_payments/{}', P.EXPAND)
def retrieve_invoice_payment(account: Account, params: dict, payment_id: str) -> dict:
    return account.get('invoice_payment', payment_id)


def shown_in_error(account: Account, invoice: dict) -> dict:
    """What the error of a declined payment says beside the codes."""
    intent = account.objects['payment_intent'][invoice['.payment_intent']]
    return {'charge': intent['latest_charge'], 'payment_intent': render(intent)}
