#!/usr/bin/env python3
"""A year of a subscription business, made up, with everything there is to know about it.

Usage: year.py DIR [SUBSCRIBERS [SEED]]

Writes to DIR what Stripe would say (objects.jsonl, to be read from its API once;
events.jsonl, in order) and, worked out from the same lives by other means than
the extension's, what is true of it, as tab-separated files with a header line:

  country.tsv       one row a country that a customer's address was in, and since when
  movement.tsv      one row a change of a subscription's MRR
  cancellation.tsv  one row an episode of leaving
  failure.tsv       one row a failed attempt to be paid

Amounts are in minor units, times are unix seconds.  The same seed gives the
same year.  The MRR is computed with fractions and rounded once.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

START = int(datetime(2025, 1, 1, tzinfo=timezone.utc).timestamp())
END = int(datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp())
DAY = 86400
MONTH = 30 * DAY

COUNTRIES = ('US', 'US', 'US', 'DE', 'FR', 'GB', 'JP', 'KW', None)
CURRENCIES = {'US': 'usd', 'DE': 'eur', 'FR': 'eur', 'GB': 'eur', 'JP': 'jpy', 'KW': 'kwd', None: 'usd'}
FEEDBACK = ('too_expensive', 'too_expensive', 'missing_features', 'switched_service', 'unused', 'customer_service',
            'too_complex', 'low_quality', 'other', None, None)
COMMENTS = ('Budget cut', 'Missing SSO & audit <log>', 'Zu teuer für uns', "It's \"fine\", we moved on", '予算がない', None, None)
CODES = ('insufficient_funds', 'insufficient_funds', 'insufficient_funds', 'generic_decline', 'do_not_honor',
         'expired_card', 'lost_card', 'stolen_card', 'card_velocity_exceeded', 'authentication_required',
         'new_code_of_next_year')
# By currency: what one unit of the basic plan costs; kwd has three decimals, jpy none.
BASIC = {'usd': 2000, 'eur': 1800, 'jpy': 2200, 'kwd': 6125}
# Plan: product, interval, count, and its amount in basics; None is priced by tiers.
PLANS = {
    'basic': ('prod_basic', 'month', 1, Fraction(1)),
    'basic_year': ('prod_basic', 'year', 1, Fraction(10)),
    'pro': ('prod_pro', 'month', 1, Fraction(5, 2)),
    'pro_quarter': ('prod_pro', 'month', 3, Fraction(27, 4)),
    'weekly': ('prod_pass', 'week', 1, Fraction(2, 5)),
    'team': ('prod_team', 'month', 1, None),
}
TIERS = ((5, Fraction(1, 2), Fraction(1, 5)), (20, Fraction(2, 5), Fraction(0)), (None, Fraction(3, 10), Fraction(0)))
COUPONS = {
    'forever20': {'duration': 'forever', 'percent_off': 20},
    'three_months': {'duration': 'repeating', 'duration_in_months': 3, 'percent_off': 25},
    'pro_only': {'duration': 'forever', 'percent_off': 10, 'products': ['prod_pro']},
    'five_off_usd': {'duration': 'forever', 'amount_off': 500, 'currency': 'usd'},
    'welcome': {'duration': 'once', 'percent_off': 50},
}


def half_away(value: Fraction) -> int:
    """Rounded to a whole unit, halves away from zero (no MRR is negative)."""
    return int(value + Fraction(1, 2))


def unit(currency: str, share: Fraction) -> int:
    """A price in minor units: whole ones, as most prices are."""
    return half_away(BASIC[currency] * share)


def recurring(plan: str) -> tuple[str, str, int]:
    product, interval, count, _ = PLANS[plan]
    return product, interval, count


def plan_amount(plan: str, currency: str, quantity: int) -> int:
    """What one invoice is for, before discounts."""
    share = PLANS[plan][3]
    if share is not None:
        return unit(currency, share) * quantity
    total = reached = 0
    for up_to, per_unit, flat in TIERS:         # graduated
        if quantity <= reached:
            break
        upper = quantity if up_to is None else min(up_to, quantity)
        total += unit(currency, per_unit) * (upper - reached) + unit(currency, flat)
        reached = upper
    return total


def monthly(plan: str, currency: str, quantity: int, discounts: list[dict], at: int) -> int:
    """The MRR of one plan, by Stripe's definition."""
    product, interval, count = recurring(plan)
    per_month = {'month': Fraction(1), 'year': Fraction(1, 12), 'week': Fraction(365, 84)}[interval] / count
    rest = Fraction(plan_amount(plan, currency, quantity))
    for discount in discounts:
        coupon = COUPONS[discount['coupon']]
        if coupon['duration'] == 'once' or (discount['end'] is not None and discount['end'] <= at):
            continue
        if product not in coupon.get('products', [product]):
            continue
        if 'percent_off' in coupon:
            rest -= rest * coupon['percent_off'] / 100
        elif coupon['currency'] == currency:
            rest -= min(rest, coupon['amount_off'])
    return half_away(rest * per_month)


@dataclass
class Subscription:
    """One subscription while it lives: Stripe's fields, and what becomes true with each change."""
    id: str
    customer: str
    currency: str
    plan: str
    quantity: int
    start: int
    status: str
    trial_end: int | None = None
    discounts: list = field(default_factory=list)
    cancel_at: int | None = None
    at_period_end: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None
    details: dict = field(default_factory=lambda: {'comment': None, 'feedback': None, 'reason': None})
    pause_collection: dict | None = None
    flexible: bool = True


class Year:
    """All lives, and what is said of them."""

    def __init__(self, subscribers: int, seed: int):
        self.random = random.Random(seed)
        self.events: list[dict] = []
        self.movements: list[tuple] = []
        self.cancellations: list[tuple] = []
        self.failures: list[tuple] = []
        self.countries: list[tuple] = []
        self.counter = 0
        for number in range(subscribers):
            self.live(number)
        self.events.sort(key=lambda event: (event['created'], event['id']))

    # What Stripe says ---------------------------------------------------------------

    def emit(self, kind: str, at: int, subject: dict, previous: dict | None = None) -> None:
        self.counter += 1
        data = {'object': json.loads(json.dumps(subject))}
        if previous is not None:
            data['previous_attributes'] = previous
        self.events.append({'id': f'evt_{self.counter:07d}', 'object': 'event', 'api_version': '2026-10-28.endive',
                            'created': at, 'livemode': True, 'pending_webhooks': 0,
                            'request': {'id': None, 'idempotency_key': None}, 'type': kind, 'data': data})

    @staticmethod
    def price(plan: str, currency: str) -> dict:
        product, interval, count = recurring(plan)
        share = PLANS[plan][3]
        price = {'id': f'price_{plan}_{currency}', 'object': 'price', 'active': True, 'created': START - 700 * DAY,
                 'livemode': True, 'currency': currency, 'product': product, 'type': 'recurring', 'metadata': {},
                 'nickname': None, 'lookup_key': None, 'tax_behavior': 'exclusive', 'transform_quantity': None,
                 'recurring': {'interval': interval, 'interval_count': count, 'meter': None, 'usage_type': 'licensed'},
                 'billing_scheme': 'per_unit', 'tiers_mode': None}
        if share is None:
            return {**price, 'billing_scheme': 'tiered', 'tiers_mode': 'graduated', 'unit_amount': None,
                    'unit_amount_decimal': None}
        amount = unit(currency, share)
        return {**price, 'unit_amount': amount, 'unit_amount_decimal': str(amount)}

    def show(self, s: Subscription) -> dict:
        """The subscription as an event has it: discounts as ids, no tiers."""
        return {
            'id': s.id, 'object': 'subscription', 'status': s.status, 'customer': s.customer, 'currency': s.currency,
            'livemode': True, 'created': s.start, 'start_date': s.start, 'collection_method': 'charge_automatically',
            'billing_mode': {'type': 'flexible' if s.flexible else 'classic'},
            'cancel_at_period_end': s.at_period_end, 'cancel_at': s.cancel_at, 'canceled_at': s.canceled_at,
            'ended_at': s.ended_at, 'cancellation_details': dict(s.details),
            'discounts': [discount['id'] for discount in s.discounts], 'pause_collection': s.pause_collection,
            'trial_start': s.start if s.trial_end else None, 'trial_end': s.trial_end, 'schedule': None,
            'latest_invoice': None, 'default_payment_method': None, 'metadata': {},
            'items': {'object': 'list', 'has_more': False, 'data': [{
                'id': s.id.replace('sub_', 'si_'), 'object': 'subscription_item', 'subscription': s.id,
                'quantity': s.quantity, 'current_period_start': s.start, 'current_period_end': s.start + MONTH,
                'discounts': [], 'price': self.price(s.plan, s.currency)}]}}

    def change(self, s: Subscription, at: int, kind: str = 'updated', **values) -> None:
        """Set fields at a time: the event, and the movement if the MRR is another one."""
        before, was_paying, was_mrr = self.show(s), self.state(s), self.mrr(s, at - 1)
        for name, value in values.items():
            setattr(s, name, value)
        after = self.show(s)
        previous = {key: self.old(before[key], after[key]) for key in before if before[key] != after[key]}
        self.emit(f'customer.subscription.{kind}', at, after, previous if kind == 'updated' else None)
        self.move(s, at, was_paying, was_mrr)

    @staticmethod
    def old(before, after):
        """Of a hash, previous_attributes has only what changed in it."""
        if isinstance(before, dict) and isinstance(after, dict) and 'object' not in before:
            return {key: before[key] for key in before if before[key] != after.get(key)}
        return before

    # What is true -------------------------------------------------------------------

    @staticmethod
    def state(s: Subscription) -> str:
        if s.status == 'paused' or (s.status in ('active', 'past_due') and s.pause_collection):
            return 'paused'
        return 'earning' if s.status in ('active', 'past_due') else 'none'

    def mrr(self, s: Subscription, at: int) -> int:
        return monthly(s.plan, s.currency, s.quantity, s.discounts, at) if self.state(s) == 'earning' else 0

    def move(self, s: Subscription, at: int, before: str, was: int) -> None:
        state, now = self.state(s), self.mrr(s, at)
        if (before, was) == (state, now):
            return
        if before == 'none':
            kind = 'first'      # see name_first_movements
        elif state == 'none':
            kind = 'churn'
        elif state == 'paused':
            kind = 'pause'
        elif before == 'paused':
            kind = 'resume'
        else:
            kind = 'expansion' if now > was else 'contraction'
        self.moved.append((at, s.id, kind, s.customer, s.currency, now - was, now,
                           recurring(s.plan)[0], f'price_{s.plan}_{s.currency}', s.start))

    def name_first_movements(self) -> None:
        """A customer's movements in their order: whose first money is that of one who had left."""
        last: dict[str, str] = {}
        for at, subscription, kind, customer, currency, *rest in sorted(self.moved):
            if kind == 'first':
                others = [movement for other, movement in last.items() if other != subscription]
                left = subscription in last or others and all(movement == 'churn' for movement in others)
                kind = 'reactivation' if left else 'new'
            last[subscription] = kind
            self.movements.append((subscription, customer, at, currency, kind, *rest))

    # Lives --------------------------------------------------------------------------

    def live(self, number: int) -> None:
        """One customer from the first day to the last."""
        r = self.random
        self.moved: list[tuple] = []
        country = r.choice(COUNTRIES)
        currency = CURRENCIES[country]
        customer = f'cus_{number:05d}'
        # Three in ten were there before the year began.
        at = START - r.randrange(1, 400) * DAY if r.random() < 0.3 else r.randrange(START, END)
        at -= at % DAY
        at += r.randrange(6 * 3600, 20 * 3600)
        self.reside(customer, currency, at, country)
        first = at
        for round_number in range(3):
            end = self.subscribe(f'sub_{number:05d}_{round_number}', customer, currency, at + 60)
            # One in four of those who left comes back with a new subscription.
            if end is None or r.random() >= 0.25:
                break
            at = end + r.randrange(5, 90) * DAY
            if at >= END:
                break
        # One in twelve has a second subscription beside it for a while.
        beside = first + r.randrange(10, 200) * DAY + r.randrange(120, 3600)
        if r.random() < 1 / 12 and beside < END:
            self.subscribe(f'sub_{number:05d}_s', customer, currency, beside)
        self.name_first_movements()

    def reside(self, customer: str, currency: str, created: int, country: str | None) -> None:
        """The customer, and where they live: one in three moves, now and then the address is given late, or taken back."""
        r = self.random

        def show(**values) -> dict:
            return {'id': customer, 'object': 'customer', 'livemode': True, 'created': created, 'currency': currency,
                    'email': f'{customer}@example.com', 'name': 'Jo', 'phone': None, 'balance': 0, 'delinquent': False,
                    'metadata': {}, 'invoice_settings': {'default_payment_method': None},
                    'address': country and {'city': 'Springfield', 'country': country, 'line1': None, 'line2': None,
                                            'postal_code': None, 'state': None}, **values}

        self.countries.append((customer, created, country))
        # Some are first heard of later, and by something else.
        at = created
        if r.random() < 0.9:
            self.emit('customer.created', created, show())
        else:
            self.emit('customer.updated', created + 100, show(balance=100), {'balance': 0})
        while r.random() < 0.5 and (at := at + r.randrange(1, 150 * DAY)) < END:
            old = show()
            if r.random() < 0.3:
                self.emit('customer.updated', at, show(balance=500), {'balance': 0})
                continue
            country = r.choice([other for other in COUNTRIES if other != country])
            address = self.old(old['address'], show()['address'])
            self.emit('customer.updated', at, show(), {'address': address})
            self.countries.append((customer, at, country))

    def subscribe(self, name: str, customer: str, currency: str, at: int) -> int | None:
        """One subscription from its creation; the time of its end, None if it lives on."""
        r = self.random
        plan = r.choice(list(PLANS))
        s = Subscription(name, customer, currency, plan, r.randrange(1, 40) if plan == 'team' else r.choice((1, 1, 1, 2, 3)),
                         at, 'active', flexible=r.random() < 0.5)
        if r.random() < 0.3:
            s.status, s.trial_end = 'trialing', at + 14 * DAY
        if r.random() < 0.25:
            self.discount(s, at, r.choice(list(COUPONS)))
        self.emit('customer.subscription.created', at, self.show(s))
        self.move(s, at, 'none', 0)
        if s.status == 'trialing':
            at = s.trial_end
            if at >= END:
                return None
            if r.random() < 0.3:
                return self.end(s, at, 'trial')
            self.change(s, at, status='active')

        while True:
            at += r.randrange(12, 120) * DAY + r.randrange(0, 3600)
            at = self.let_discounts_end(s, at)
            if at >= END:
                return None
            ended = self.something_happens(s, at)
            if ended is not None:
                return ended
            at = max(at, self.events[-1]['created'])

    def let_discounts_end(self, s: Subscription, until: int) -> int:
        """A repeating discount runs out by itself: the MRR moves without an event of the subscription."""
        for discount in s.discounts:
            if discount['end'] is not None and not discount.get('over') and discount['end'] <= min(until, END - 1):
                discount['over'] = True
                self.move_at_end_of(s, discount['end'])
        return until

    def move_at_end_of(self, s: Subscription, at: int) -> None:
        was = self.mrr(s, at - 1)
        self.move(s, at, self.state(s), was)

    def discount(self, s: Subscription, at: int, coupon: str) -> None:
        self.counter += 1
        months = COUPONS[coupon].get('duration_in_months')
        discount = {'id': f'di_{self.counter:07d}', 'coupon': coupon, 'end': at + months * MONTH if months else None}
        s.discounts = s.discounts + [discount]
        self.emit('customer.discount.created', at, {
            'id': discount['id'], 'object': 'discount', 'customer': s.customer, 'subscription': s.id,
            'subscription_item': None, 'invoice': None, 'invoice_item': None, 'promotion_code': None,
            'source': {'type': 'coupon', 'coupon': coupon}, 'start': at, 'end': discount['end']})

    def something_happens(self, s: Subscription, at: int) -> int | None:
        """One thing that subscribers do; the end's time if it ended the subscription."""
        r = self.random
        choice = r.random()
        if choice < 0.25:
            return self.plan_change(s, at)
        if choice < 0.40:
            return self.cancel_at_period_end(s, at)
        if choice < 0.47:
            return self.end(s, at, 'now')
        if choice < 0.57:
            return self.payment_fails(s, at)
        if choice < 0.62:
            self.change(s, at, pause_collection={'behavior': 'void', 'resumes_at': None})
            back = at + r.randrange(5, 60) * DAY
            back = self.let_discounts_end(s, back)
            if back < END:
                self.change(s, back, pause_collection=None)
            return None
        if choice < 0.66:
            self.change(s, at, 'paused', status='paused')
            back = at + r.randrange(5, 60) * DAY
            back = self.let_discounts_end(s, back)
            if back < END:
                self.change(s, back, 'resumed', status='active')
            return None
        if choice < 0.72 and not s.discounts:
            before, was, mrr = self.show(s), self.state(s), self.mrr(s, at - 1)
            self.discount(s, at, r.choice(list(COUPONS)))
            self.emit('customer.subscription.updated', at, self.show(s), {'discounts': before['discounts']})
            self.move(s, at, was, mrr)
        return None

    def plan_change(self, s: Subscription, at: int) -> None:
        r = self.random
        if s.plan == 'team' or r.random() < 0.3:
            self.change(s, at, quantity=max(1, s.quantity + r.choice((-2, -1, 1, 1, 2, 5))))
        else:
            self.change(s, at, plan=r.choice([plan for plan in PLANS if plan != s.plan]))

    def cancel_at_period_end(self, s: Subscription, at: int) -> int | None:
        """Asked in the portal; the survey's answer follows in a second event; one in four changes their mind."""
        r = self.random
        effective = at + r.randrange(3, 30) * DAY
        self.change(s, at, cancel_at=effective, at_period_end=not s.flexible, canceled_at=at,
                    details={'comment': None, 'feedback': None, 'reason': 'cancellation_requested'})
        feedback, comment = r.choice(FEEDBACK), r.choice(COMMENTS)
        if feedback:
            self.change(s, at + r.choice((0, 5, 7, 90)),
                        details={'comment': comment, 'feedback': feedback, 'reason': 'cancellation_requested'})
        else:
            comment = None
        mrr = self.mrr(s, at)
        if r.random() < 0.25:
            undone = at + r.randrange(DAY, effective - at)
            undone = self.let_discounts_end(s, undone)
            if undone < END:
                self.change(s, undone, cancel_at=None, at_period_end=False, canceled_at=None,
                            details={'comment': None, 'feedback': None, 'reason': None})
                self.episode(s, at, undone, effective, None, 'cancellation_requested', feedback, comment, mrr)
                return None
            self.episode(s, at, None, effective, None, 'cancellation_requested', feedback, comment, mrr)
            return END
        self.let_discounts_end(s, effective)
        if effective >= END:
            self.episode(s, at, None, effective, None, 'cancellation_requested', feedback, comment, mrr)
            return END
        self.change(s, effective, 'deleted', status='canceled', ended_at=effective)
        self.episode(s, at, None, effective, effective, 'cancellation_requested', feedback, comment, mrr)
        return effective

    def end(self, s: Subscription, at: int, how: str) -> int:
        """Canceled at once, by the subscriber or at the end of a trial that was not paid for."""
        r = self.random
        mrr = self.mrr(s, at - 1)
        self.change(s, at, 'deleted', status='canceled', ended_at=at, canceled_at=at,
                    details={'comment': None, 'feedback': None, 'reason': 'cancellation_requested'})
        feedback = comment = None
        if how == 'now' and (feedback := r.choice(FEEDBACK)):
            comment = r.choice(COMMENTS)
            # the reason of an immediate cancel arrives after the end
            self.change(s, at + 6, details={'comment': comment, 'feedback': feedback, 'reason': 'cancellation_requested'})
        self.episode(s, at, None, None, at, 'cancellation_requested', feedback, comment, mrr)
        return at

    def payment_fails(self, s: Subscription, at: int) -> int | None:
        """Up to four attempts; paid in the end, or given up and canceled; some are disputed at once."""
        r = self.random
        if r.random() < 0.1:
            mrr = self.mrr(s, at - 1)
            self.change(s, at, 'deleted', status='canceled', ended_at=at, canceled_at=at,
                        details={'comment': None, 'feedback': None, 'reason': 'payment_disputed'})
            self.episode(s, at, None, None, at, 'payment_disputed', None, None, mrr)
            return at
        self.counter += 1
        invoice, intent = f'in_{self.counter:07d}', f'pi_{self.counter:07d}'
        amount, code, method = plan_amount(s.plan, s.currency, s.quantity), r.choice(CODES), 1
        recovered_at_attempt = r.choice((2, 2, 3, 4, None, None))
        rows = []
        now = at
        for attempt in range(1, 5):
            now = self.let_discounts_end(s, now)
            if now >= END:
                break
            if attempt == recovered_at_attempt:
                self.emit('invoice.paid', now, self.invoice(s, invoice, intent, amount, at, attempt, 'paid', None, now))
                self.change(s, now, status='active')
                self.failures += [(*row, now) for row in rows]
                return None
            # The bank gives another reason, or the customer another card.
            if attempt > 1 and r.random() < 0.3:
                code = r.choice(CODES)
            if attempt > 1 and r.random() < 0.15:
                method += 1
            following = None if attempt == 4 else now + (3, 5, 7, 0)[attempt - 1] * DAY
            charge, card = f'ch_{invoice[3:]}_{attempt}', f'pm_{invoice[3:]}_{method}'
            self.emit('charge.failed', now, self.charge(s, charge, intent, amount, now, code, card))
            self.emit('invoice.payment_failed', now,
                      self.invoice(s, invoice, intent, amount, at, attempt, 'open', following, None, charge))
            if attempt == 1:
                self.change(s, now, status='past_due')
            rows.append((charge, invoice, s.id, s.customer, s.currency, code, amount, attempt, now, card))
            if following is None and r.random() < 0.2:
                return self.lapse(s, now + 60, rows, invoice, intent, amount, at)
            if following is None:
                mrr = self.mrr(s, now)
                self.change(s, now + 60, 'deleted', status='canceled', ended_at=now + 60, canceled_at=now + 60,
                            details={'comment': None, 'feedback': None, 'reason': 'payment_failed'})
                self.episode(s, now + 60, None, None, now + 60, 'payment_failed', None, None, mrr)
                self.failures += [(*row, None) for row in rows]
                return now + 60
            now = following
        self.failures += [(*row, None) for row in rows]
        return END

    def lapse(self, s, now, rows, invoice, intent, amount, at) -> int | None:
        """Given up, but not canceled: unpaid, and one in three pays after all."""
        self.change(s, now, status='unpaid')
        back = now + self.random.randrange(5, 60) * DAY
        if self.random.random() < 1 / 3 and back < END:
            self.let_discounts_end(s, back)
            self.emit('invoice.paid', back, self.invoice(s, invoice, intent, amount, at, 5, 'paid', None, back))
            self.change(s, back, status='active')
            self.failures += [(*row, back) for row in rows]
            return None
        self.failures += [(*row, None) for row in rows]
        return END

    def invoice(self, s, name, intent, amount, created, attempt, status, following, paid_at, charge=None) -> dict:
        payment = {'id': f'inpay_{name[3:]}', 'object': 'invoice_payment', 'invoice': name, 'is_default': True,
                   'amount_requested': amount, 'currency': s.currency, 'status': 'paid' if paid_at else 'open',
                   'payment': {'type': 'payment_intent', 'payment_intent': intent}}
        return {'id': name, 'object': 'invoice', 'livemode': True, 'created': created, 'customer': s.customer,
                'status': status, 'billing_reason': 'subscription_cycle', 'collection_method': 'charge_automatically',
                'currency': s.currency, 'amount_due': amount, 'amount_paid': amount if paid_at else 0,
                'amount_remaining': 0 if paid_at else amount, 'subtotal': amount, 'total': amount, 'attempted': True,
                'attempt_count': attempt, 'next_payment_attempt': following, 'auto_advance': True,
                'parent': {'type': 'subscription_details', 'subscription_details': {'subscription': s.id, 'metadata': {}}},
                'payments': {'object': 'list', 'has_more': False, 'data': [payment]},
                'status_transitions': {'finalized_at': created, 'paid_at': paid_at, 'voided_at': None,
                                       'marked_uncollectible_at': None}}

    @staticmethod
    def charge(s, name, intent, amount, at, code, card) -> dict:
        return {'id': name, 'object': 'charge', 'livemode': True, 'created': at, 'amount': amount, 'currency': s.currency,
                'customer': s.customer, 'payment_intent': intent, 'status': 'failed', 'paid': False,
                'failure_code': 'expired_card' if code == 'expired_card' else 'card_declined',
                'failure_message': 'Your card was declined.',
                'outcome': {'type': 'issuer_declined', 'reason': code, 'network_status': 'declined_by_network',
                            'advice_code': None, 'network_advice_code': None, 'network_decline_code': None,
                            'risk_level': 'normal'},
                'payment_method': card, 'payment_method_details': {'type': 'card', 'card': {
                    'brand': 'visa', 'last4': '0341', 'exp_month': 1, 'exp_year': 2026, 'country': 'US'}}}

    def episode(self, s, asked, undone, effective, ended, reason, feedback, comment, mrr) -> None:
        product = recurring(s.plan)[0]
        self.cancellations.append((s.id, s.customer, asked, undone, effective, ended, reason, feedback, comment, product,
                                   f'price_{s.plan}_{s.currency}', s.quantity, s.currency, mrr, s.start))


def objects() -> list[dict]:
    """What a read of the API tells and no event does: tiers, and what a coupon applies to."""
    result = []
    for product in sorted({plan[0] for plan in PLANS.values()}):
        result.append({'id': product, 'object': 'product', 'name': product[5:].title(), 'active': True,
                       'livemode': True, 'created': START - 700 * DAY, 'metadata': {}})
    for currency in BASIC:
        for plan in PLANS:
            price = Year.price(plan, currency)
            if PLANS[plan][3] is None:
                price['tiers'] = [{'up_to': up_to, 'unit_amount': unit(currency, share), 'unit_amount_decimal': None,
                                   'flat_amount': unit(currency, flat), 'flat_amount_decimal': None}
                                  for up_to, share, flat in TIERS]
            result.append(price)
    for name, coupon in COUPONS.items():
        shown = {key: value for key, value in coupon.items() if key != 'products'}
        if 'products' in coupon:
            shown['applies_to'] = {'products': coupon['products']}
        result.append({'id': name, 'object': 'coupon', 'livemode': True, 'created': START - 700 * DAY, 'valid': True,
                       'name': name, 'metadata': {}, 'percent_off': None, 'amount_off': None, 'currency': None,
                       'duration_in_months': None, **shown})
    return result


def write(path: Path, columns: str, rows: list[tuple]) -> None:
    def text(value) -> str:
        return r'\N' if value is None else str(value)
    path.write_text('\n'.join(['\t'.join(columns.split()), *('\t'.join(map(text, row)) for row in rows), '']))


def main() -> None:
    folder = Path(sys.argv[1])
    subscribers = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 20250101
    folder.mkdir(parents=True, exist_ok=True)
    year = Year(subscribers, seed)
    for name, lines in (('objects', objects()), ('events', year.events)):
        (folder / f'{name}.jsonl').write_text(''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines))
    write(folder / 'country.tsv', 'customer since country', year.countries)
    write(folder / 'movement.tsv', 'subscription customer at currency movement mrr_change mrr product price '
          'start_date', year.movements)
    write(folder / 'cancellation.tsv', 'subscription customer asked_at undone_at effective_at ended_at reason feedback '
          'comment product price quantity currency mrr start_date', year.cancellations)
    write(folder / 'failure.tsv', 'charge invoice subscription customer currency code amount attempt failed_at '
          'method recovered_at', year.failures)
    print(f'seed {seed}: {subscribers} subscribers, {len(year.events)} events, {len(year.movements)} movements, '
          f'{len(year.cancellations)} cancellations, {len(year.failures)} failed attempts')


if __name__ == '__main__':
    main()
