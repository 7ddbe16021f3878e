#!/usr/bin/env python3
"""Subscription events to measure with, as Stripe sends them today.

Usage: events.py make FILE [EVENTS [SUBSCRIPTIONS [SEED]]]
       events.py sign FILE SECRET FROM COUNT TARGET

make writes the payloads, in the order in which they happened, each preceded by
a line with its length; the same seed gives the same bytes.  sign copies some
of them, each preceded by a line with its signature, made now, and its length.

Every subscription is created, updated and, most of them, deleted; what happens
to one of them is spread over a month, between what happens to the others, and
never twice in a second.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import sys
import time
from pathlib import Path

VERSION = '2026-09-30.endive'
DAY = 86400
FEEDBACK = ('too_expensive', 'missing_features', 'switched_service', 'unused', 'other', None)
PLANS = [('basic', 1900, 'month'), ('pro', 4900, 'month'), ('team', 9900, 'month'), ('pro_year', 49000, 'year')]


def name(prefix: str, *seed: object) -> str:
    """An id, the same for the same seed."""
    return prefix + hashlib.sha256(repr(seed).encode()).hexdigest()[:24]


def price(plan: int) -> dict:
    key, amount, interval = PLANS[plan]
    return {
        'id': name('price_1', plan), 'object': 'price', 'active': True, 'billing_scheme': 'per_unit',
        'created': 1735689600, 'currency': 'usd', 'custom_unit_amount': None, 'livemode': True,
        'lookup_key': key, 'metadata': {}, 'nickname': None, 'product': name('prod_', key.split('_')[0]),
        'recurring': {'interval': interval, 'interval_count': 1, 'meter': None, 'trial_period_days': None,
                      'usage_type': 'licensed'},
        'tax_behavior': 'exclusive', 'tiers_mode': None, 'transform_quantity': None, 'type': 'recurring',
        'unit_amount': amount, 'unit_amount_decimal': str(amount)}


def plan_object(plan: int) -> dict:
    key, amount, interval = PLANS[plan]
    return {
        'id': name('price_1', plan), 'object': 'plan', 'active': True, 'amount': amount,
        'amount_decimal': str(amount), 'billing_scheme': 'per_unit', 'created': 1735689600, 'currency': 'usd',
        'interval': interval, 'interval_count': 1, 'livemode': True, 'metadata': {}, 'meter': None,
        'nickname': None, 'product': name('prod_', key.split('_')[0]), 'tiers_mode': None, 'transform_usage': None,
        'trial_period_days': None, 'usage_type': 'licensed'}


def item(number: int, plan: int, quantity: int, start: int) -> dict:
    length = 365 if PLANS[plan][2] == 'year' else 30
    return {
        'id': name('si_', number), 'object': 'subscription_item', 'billing_thresholds': None, 'created': start,
        'current_period_end': start + length * DAY, 'current_period_start': start, 'discounts': [],
        'metadata': {}, 'plan': plan_object(plan), 'price': price(plan), 'quantity': quantity,
        'subscription': name('sub_1', number), 'tax_rates': []}


def subscription(number: int, start: int, rng: random.Random) -> dict:
    return {
        'id': name('sub_1', number), 'object': 'subscription', 'application': None, 'application_fee_percent': None,
        'automatic_tax': {'disabled_reason': None, 'enabled': True,
                          'liability': {'account': None, 'type': 'self'}},
        'billing_cycle_anchor': start, 'billing_cycle_anchor_config': None,
        'billing_mode': {'flexible': {'proration_discounts': 'included'}, 'type': 'flexible',
                         'updated_at': start},
        'billing_thresholds': None, 'cancel_at': None, 'cancel_at_period_end': False, 'canceled_at': None,
        'cancellation_details': {'comment': None, 'feedback': None, 'reason': None},
        'collection_method': 'charge_automatically', 'created': start, 'currency': 'usd',
        'customer': name('cus_', number), 'customer_account': None, 'days_until_due': None,
        'default_payment_method': name('pm_1', number), 'default_source': None, 'default_tax_rates': [],
        'description': None, 'discounts': [], 'ended_at': None,
        'invoice_settings': {'account_tax_ids': None, 'issuer': {'type': 'self'}},
        'items': {'object': 'list', 'data': [item(number, rng.randrange(len(PLANS)), rng.choice((1, 1, 1, 3, 5)), start)],
                  'has_more': False, 'total_count': 1,
                  'url': f"/v1/subscription_items?subscription={name('sub_1', number)}"},
        'latest_invoice': name('in_1', number, 0), 'livemode': True,
        'metadata': {'account_id': str(100000 + number), 'plan_source': rng.choice(('pricing_page', 'sales', 'upgrade'))},
        'next_pending_invoice_item_invoice': None, 'on_behalf_of': None, 'pause_collection': None,
        'payment_settings': {'payment_method_options': {'acss_debit': None, 'bancontact': None,
                                                        'card': {'network': None, 'request_three_d_secure': 'automatic'},
                                                        'customer_balance': None, 'konbini': None,
                                                        'sepa_debit': None, 'us_bank_account': None},
                             'payment_method_types': None, 'save_default_payment_method': 'on_subscription'},
        'pending_invoice_item_interval': None, 'pending_setup_intent': None, 'pending_update': None,
        'schedule': None, 'start_date': start, 'status': 'active', 'test_clock': None,
        'transfer_data': None, 'trial_end': None,
        'trial_settings': {'end_behavior': {'missing_payment_method': 'create_invoice'}}, 'trial_start': None}


def change(s: dict, rng: random.Random, at: int, number: int, step: int) -> dict:
    """Something that happens to a subscription; returns previous_attributes."""
    kind = rng.choice(('renew', 'renew', 'plan', 'quantity', 'metadata', 'past_due', 'cancel'))
    first = s['items']['data'][0]
    if s['status'] == 'past_due':
        previous = {'status': 'past_due'}
        s['status'] = 'active'
    elif s['cancel_at_period_end']:
        previous = {'cancel_at': s['cancel_at'], 'cancel_at_period_end': True, 'canceled_at': s['canceled_at'],
                    'cancellation_details': dict(s['cancellation_details'])}
        s.update(cancel_at=None, cancel_at_period_end=False, canceled_at=None,
                 cancellation_details={'comment': None, 'feedback': None, 'reason': None})
    elif kind == 'renew':
        previous = {'items': {'data': [dict(first)]}, 'latest_invoice': s['latest_invoice']}
        length = first['current_period_end'] - first['current_period_start']
        first.update(current_period_start=first['current_period_end'],
                     current_period_end=first['current_period_end'] + length)
        s['latest_invoice'] = name('in_1', number, step)
    elif kind in ('plan', 'quantity'):
        previous = {'items': {'data': [dict(first)]}}
        if kind == 'quantity':
            first['quantity'] += 1
        else:
            plan = rng.randrange(len(PLANS))
            first.update(plan=plan_object(plan), price=price(plan))
    elif kind == 'metadata':
        previous = {'metadata': {'account_id': s['metadata']['account_id']}}
        s['metadata']['account_id'] = str(200000 + number + step)
    elif kind == 'past_due':
        previous = {'status': s['status']}
        s['status'] = 'past_due'
    else:
        previous = {'cancel_at': None, 'cancel_at_period_end': False, 'canceled_at': None,
                    'cancellation_details': {'comment': None, 'feedback': None, 'reason': None}}
        s.update(cancel_at=first['current_period_end'], cancel_at_period_end=True, canceled_at=at,
                 cancellation_details={'comment': None, 'feedback': rng.choice(FEEDBACK), 'reason': 'cancellation_requested'})
    return previous


def event(number: int, step: int, kind: str, at: int, s: dict, previous: dict | None) -> str:
    data: dict = {'object': s}
    if previous is not None:
        data['previous_attributes'] = previous
    return json.dumps({
        'id': name('evt_1', number, step), 'object': 'event', 'api_version': VERSION, 'created': at, 'data': data, 'livemode': True, 'pending_webhooks': 1,
        'request': {'id': name('req_', number, step), 'idempotency_key': None},
        'type': f'customer.subscription.{kind}'}, indent=2)


def make(target: str, count: int = 20000, subscriptions: int = 5000, seed: int = 1) -> None:
    rng = random.Random(seed)
    # of this month, which has a partition
    end = int(time.time()) // DAY * DAY - DAY
    steps = [count // subscriptions] * subscriptions
    events = []
    for number in range(subscriptions):
        times = sorted(rng.sample(range(end - 25 * DAY, end), steps[number]))
        s = subscription(number, times[0], rng)
        for step, at in enumerate(times):
            if step == 0:
                events.append((at, event(number, step, 'created', at, s, None)))
            elif step == steps[number] - 1 and rng.random() < 0.6:
                s.update(status='canceled', ended_at=at, canceled_at=s['canceled_at'] or at)
                s['cancellation_details']['reason'] = 'cancellation_requested'
                events.append((at, event(number, step, 'deleted', at, s, None)))
            else:
                previous = change(s, rng, at, number, step)
                events.append((at, event(number, step, 'updated', at, s, previous)))
    events.sort(key=lambda e: e[0])
    with open(target, 'wb') as out:
        for _, payload in events:
            body = payload.encode()
            out.write(b'%d\n%s\n' % (len(body), body))


def sign(source: str, secret: str, first: int, count: int, target: str) -> None:
    at = int(time.time())
    with open(source, 'rb') as payloads, open(target, 'wb') as out:
        for number in range(first + count):
            line = payloads.readline()
            if not line:
                break
            body = payloads.read(int(line))
            payloads.read(1)
            if number >= first:
                mac = hmac.new(secret.encode(), b'%d.%s' % (at, body), hashlib.sha256).hexdigest()
                out.write(b't=%d,v1=%s %d\n%s\n' % (at, mac.encode(), len(body), body))


if __name__ == '__main__':
    if sys.argv[1] == 'make':
        make(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        sign(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
