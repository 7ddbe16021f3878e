"""Events in the shapes of older API versions.

Objects are kept in the shape of today's version.  An endpoint pinned to an older
one gets them translated back, one breaking release after the other.  Additions
are not taken away again, since Stripe shows them to old versions as well; only
FIRST stands for events as they were written then, before items had periods and
subscriptions had a list of discounts.
"""

from __future__ import annotations

from .documents import render
from .subscriptions import plan_of
from .world import API_VERSION, Account

CLOVER, BASIL, FIRST = '2025-09-30', '2025-03-31', '2022-11-15'

PERIOD = ('current_period_start', 'current_period_end')


def in_version(account: Account, event: dict, version: str) -> dict:
    """An event as an endpoint of this API version receives it."""
    shown = render(event)
    shown['api_version'] = version
    data = shown['data']
    kind = data['object']['object']
    for release, translations in RELEASES:
        if version[:10] < release and kind in translations:
            translations[kind](account, data['object'], data.get('previous_attributes'), event['.hidden'])
    return shown


# Before clover ------------------------------------------------------------------------

def clover_discount(account: Account, discount: dict, previous: dict | None, hidden: dict) -> None:
    discount['coupon'] = render(account.known('coupon', discount.pop('source')['coupon']))


def clover_promotion_code(account: Account, code: dict, previous: dict | None, hidden: dict) -> None:
    code['coupon'] = render(account.known('coupon', code.pop('promotion')['coupon']))


# Before basil -------------------------------------------------------------------------

def single_discount(account: Account, discounts: list[str]) -> dict | None:
    """The one discount of old shapes."""
    if not discounts:
        return None
    discount = render(account.known('discount', discounts[0]))
    clover_discount(account, discount, None, {})
    return discount


def whole_period(items: list[dict]) -> dict:
    """The period of a subscription, of those of its items."""
    return {'current_period_start': max(item['current_period_start'] for item in items),
            'current_period_end': min(item['current_period_end'] for item in items)}


def basil_subscription(account: Account, subscription: dict, previous: dict | None, hidden: dict) -> None:
    period = whole_period(subscription['items']['data'])
    subscription.update(period, discount=single_discount(account, subscription['discounts']))
    if previous and 'items' in previous:
        before = whole_period(previous['items']['data'])
        previous.update({name: before[name] for name in PERIOD if before[name] != period[name]})
    if previous and 'discounts' in previous:
        previous['discount'] = single_discount(account, previous['discounts'])


def basil_invoice(account: Account, invoice: dict, previous: dict | None, hidden: dict) -> None:
    details = invoice.pop('parent')['subscription_details']
    charge = account.objects['charge'].get(hidden.get('.charge'))
    paid = invoice['status'] == 'paid'
    invoice.update(
        subscription=details['subscription'], subscription_details={'metadata': details['metadata']},
        payment_intent=hidden.get('.payment_intent'), charge=hidden.get('.charge'), paid=paid,
        paid_out_of_band=paid and invoice['amount_due'] > 0 and not (charge and charge['paid']),
        discount=single_discount(account, invoice['discounts']), quote=None, tax=None, total_tax_amounts=[])
    del invoice['total_taxes']
    for line in invoice['lines']['data']:
        basil_line(account, line)
    if previous and 'status' in previous and paid:
        previous['paid'] = False


def basil_line(account: Account, line: dict) -> None:
    details = line.pop('parent')['subscription_item_details']
    price = render(account.known('price', line.pop('pricing')['price_details']['price']))
    line.update(type='subscription', price=price, plan=plan_of(price), proration=details['proration'],
                proration_details=details['proration_details'], subscription=details['subscription'],
                subscription_item=details['subscription_item'], tax_amounts=[])
    del line['taxes']


def basil_payment(account: Account, payment: dict, previous: dict | None, hidden: dict) -> None:
    payment['invoice'] = hidden['.invoice']


# Before item periods and lists of discounts ------------------------------------------------

def first_subscription(account: Account, subscription: dict, previous: dict | None, hidden: dict) -> None:
    def strip(items: list[dict]) -> list[dict]:
        for item in items:
            for name in (*PERIOD, 'discounts', 'current_trial'):
                item.pop(name, None)
        return items
    items = strip(subscription['items']['data'])
    for name in ('billing_mode', 'billing_schedules', 'customer_account', 'discounts', 'managed_payments'):
        subscription.pop(name)
    if previous:
        previous.pop('discounts', None)
        if 'items' in previous and strip(previous['items']['data']) == items:
            del previous['items']


# Newest first.
RELEASES = (
    (CLOVER, {'discount': clover_discount, 'promotion_code': clover_promotion_code}),
    (BASIL, {'subscription': basil_subscription, 'invoice': basil_invoice, 'charge': basil_payment,
             'payment_intent': basil_payment}),
    (FIRST, {'subscription': first_subscription}),
)
