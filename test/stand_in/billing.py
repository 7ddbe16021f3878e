"""Stripe's billing engine: what happens to subscriptions because time passes."""

from __future__ import annotations

import heapq

from .coupons import refresh, take_off
from .invoices import draft_invoice, finalize, give_up, subscription_of, void
from .payment_methods import in_use
from .payments import attempt, card_for
from .periods import following
from .subscriptions import TERMINAL, cancel_scheduled, end, period_ends, set_status
from .world import Account

# Seconds before the end of a trial at which it is announced, and for which a first payment may be outstanding.
WARNING, UNFINISHED = 3 * 86400, 23 * 3600


# Billing a period -------------------------------------------------------------------

def bill(account: Account, subscription: dict, reason: str, items: list[dict], decline: dict | None = None) -> dict:
    """An invoice for the current period of some items, collected as far as it may be."""
    with account.change(subscription, 'customer.subscription.updated'):
        invoice = draft_invoice(account, subscription, reason, items)
    advance(account, subscription, invoice, decline)
    return invoice


def advance(account: Account, subscription: dict, invoice: dict, decline: dict | None) -> None:
    """Finalize and collect a draft, unless the subscription says otherwise."""
    paused = subscription['pause_collection']
    if subscription['status'] == 'unpaid' or paused and paused['behavior'] == 'keep_as_draft':
        invoice['auto_advance'] = False
        return
    finalize(account, invoice)
    if paused:
        (void if paused['behavior'] == 'void' else give_up)(account, invoice)
    elif invoice['collection_method'] == 'charge_automatically':
        collect(account, invoice, decline)


def collect(account: Account, invoice: dict, decline: dict | None = None) -> None:
    """A scheduled attempt with the card that Stripe would take."""
    customer = account.known('customer', invoice['customer'])
    attempt(account, invoice, card_for(account, subscription_of(account, invoice), customer), decline)


def renew(account: Account, subscription: dict, decline: dict | None = None) -> dict | None:
    """Begin the next period of every item whose period is over, and bill it."""
    now = account.world.now()
    over = [item for item in subscription['items']['data'] if item['current_period_end'] <= now]
    if not over:
        return None
    with account.change(subscription, 'customer.subscription.updated'):
        for item in over:
            recurring = item['price']['recurring']
            item['current_period_start'] = item['current_period_end']
            item['current_period_end'] = following(item['.anchor'], item['current_period_start'],
                                                   recurring['interval'], recurring['interval_count'])
        invoice = draft_invoice(account, subscription, 'subscription_cycle', over)
    advance(account, subscription, invoice, decline)
    return invoice


def end_trial(account: Account, subscription: dict) -> None:
    """What a trial turns into depends on whether there is a payment method."""
    without_method = subscription['trial_settings']['end_behavior']['missing_payment_method']
    if in_use(account, subscription) is None and without_method == 'cancel':
        end(account, subscription, 'cancellation_requested')
    elif in_use(account, subscription) is None and without_method == 'pause':
        set_status(account, subscription, 'paused', 'trial_end_without_payment_method')
    else:
        set_status(account, subscription, 'active', None)
        renew(account, subscription)


# The passing of time ------------------------------------------------------------------

def open_invoice(account: Account, subscription: dict) -> dict | None:
    """The latest invoice, which alone still decides something, if it is open."""
    latest = account.objects['invoice'].get(subscription['latest_invoice'])
    return latest if latest and latest['status'] == 'open' else None


def collection_due(account: Account, subscription: dict) -> int | None:
    """When the open invoice is tried again, is overdue, or takes an unfinished subscription with it."""
    invoice = open_invoice(account, subscription)
    if invoice is None:
        return None
    if subscription['status'] == 'incomplete':
        return invoice['created'] + UNFINISHED
    if invoice['collection_method'] == 'send_invoice':
        return invoice['due_date'] if subscription['status'] == 'active' else None
    return invoice['next_payment_attempt']


def chase(account: Account, subscription: dict) -> None:
    """Do what collection_due waited for."""
    invoice = open_invoice(account, subscription)
    if subscription['status'] == 'incomplete':
        void(account, invoice)
        set_status(account, subscription, 'incomplete_expired', None)
    elif invoice['collection_method'] == 'send_invoice':
        set_status(account, subscription, 'past_due', None)
    else:
        collect(account, invoice)


def warning_due(subscription: dict) -> int | None:
    """When to say that the trial ends soon, unless that was said."""
    trial_end = subscription['trial_end']
    if subscription['status'] != 'trialing' or subscription.get('.warned') == trial_end:
        return None
    return trial_end - WARNING


def next_due(account: Account, subscription: dict) -> int | None:
    """When the next thing happens to a subscription by itself."""
    if subscription['status'] in TERMINAL:
        return None
    times = [subscription['cancel_at'], warning_due(subscription), collection_due(account, subscription)]
    times += [account.objects['discount'][discount]['end'] for discount in subscription['discounts']]
    if subscription['pause_collection']:
        times.append(subscription['pause_collection'].get('resumes_at'))
    if subscription['status'] not in ('paused', 'incomplete'):
        times += period_ends(subscription)
    return min((moment for moment in times if moment is not None), default=None)


def catch_up(account: Account, subscription: dict) -> None:
    """Everything that is due for one subscription now."""
    now = account.world.now()
    refresh(account)
    take_off(account, subscription, lambda discount: discount['end'] is not None and discount['end'] <= now)
    warning = warning_due(subscription)
    if warning is not None and warning <= now:
        subscription['.warned'] = subscription['trial_end']
        account.emit('customer.subscription.trial_will_end', subscription)
    pause = subscription['pause_collection']
    if pause and pause.get('resumes_at') is not None and pause['resumes_at'] <= now:
        with account.change(subscription, 'customer.subscription.updated'):
            subscription['pause_collection'] = None
    at_end = min(period_ends(subscription)) if subscription['cancel_at_period_end'] else None
    if cancel_scheduled(subscription) and min(filter(None, (subscription['cancel_at'], at_end))) <= now:
        end(account, subscription, subscription['cancellation_details']['reason'])
        return
    chasing = collection_due(account, subscription)
    if chasing is not None and chasing <= now:
        chase(account, subscription)
    if subscription['status'] == 'trialing' and subscription['trial_end'] <= now:
        end_trial(account, subscription)
    elif subscription['status'] not in (*TERMINAL, 'paused', 'incomplete'):
        renew(account, subscription)


def run(account: Account, until: int) -> None:
    """Move the clock to `until`, stopping wherever something is due."""
    world = account.world
    due = [(moment, subscription_id) for subscription_id, subscription in account.objects['subscription'].items()
           if (moment := next_due(account, subscription)) is not None]
    heapq.heapify(due)
    while due and due[0][0] <= until:
        moment, subscription_id = heapq.heappop(due)
        subscription = account.objects['subscription'][subscription_id]
        world.ahead += max(0, moment - world.now())
        catch_up(account, subscription)
        following_moment = next_due(account, subscription)
        if following_moment is not None:
            heapq.heappush(due, (following_moment, subscription_id))
    world.ahead += until - world.now()
