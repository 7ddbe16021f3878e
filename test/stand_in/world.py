"""Everything the stand-in remembers: accounts, their objects, events, requests, faults.

An Account is one of Stripe's separate worlds of objects: one per mode (live or
test) and connected account.  Handlers run one at a time under World.lock, so
nothing below locks on its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable

from .documents import clone, difference, render, within
from .errors import StripeError, missing
from .limiter import RateLimiter

API_VERSION = '2026-10-28.endive'

# Shown when they are expanded, of objects that have them.
SHOWN_IF_ANY = {('coupon', 'applies_to'), ('coupon', 'currency_options'), ('price', 'currency_options'), ('price', 'tiers')}

# Property name -> kind of object whose id it holds, for expand[].
EXPANDABLE = {
    'charge': 'charge',
    'configuration': 'billing_portal.configuration',
    'coupon': 'coupon',
    'customer': 'customer',
    'default_payment_method': 'payment_method',
    'default_price': 'price',
    'default_source': 'source',
    'discounts': 'discount',
    'entitlement_feature': 'entitlements.feature',
    'feature': 'entitlements.feature',
    'feedback_option': 'billing.feedback_option',
    'invoice': 'invoice',
    'latest_charge': 'charge',
    'latest_invoice': 'invoice',
    'payment_intent': 'payment_intent',
    'payment_method': 'payment_method',
    'pending_setup_intent': 'setup_intent',
    'product': 'product',
    'promotion_code': 'promotion_code',
    'schedule': 'subscription_schedule',
    'subscription': 'subscription',
}

# (kind, property) -> function of the account and the object: lists that exist only when expanded.
EXPANDED_LISTS: dict[tuple[str, str], Callable] = {}

# Functions of the account, the event's type and its object, called after each event.
LISTENERS: list[Callable] = []

DUNNING = {'days': [3, 5, 7], 'final': 'cancel'}

# What becomes of an event: sent to whoever listens; known to Stripe but never delivered; not even recorded.
FATES = ('delivered', 'lost', 'none')


@dataclass(frozen=True)
class Key:
    """An API key: what the log of requests calls it, its mode, and whether it may write."""
    name: str
    livemode: bool
    writes: bool


KEYS = {
    'sk_test_stand_in_key': Key('secret', False, True),
    'rk_test_stand_in_readonly': Key('restricted', False, False),
    'sk_live_stand_in_key': Key('live_secret', True, True),
}


class Account:
    """The objects of one account in one mode."""

    def __init__(self, world: World, livemode: bool, name: str | None):
        self.world = world
        self.livemode = livemode
        self.name = name
        self.objects: dict[str, dict[str, dict]] = defaultdict(dict)
        # What was deleted, as it last was: some answers still speak of it.
        self.deleted: dict[str, dict[str, dict]] = defaultdict(dict)
        # The version whose shape new events have, unless an endpoint is pinned to another.
        self.api_version = API_VERSION

    # Objects ------------------------------------------------------------------

    def add(self, kind: str, object_id: str, properties: dict) -> dict:
        """Store a new object under an id that must be free."""
        if object_id in self.objects[kind]:
            raise StripeError(f'{noun(kind).capitalize()} already exists.', code='resource_already_exists',
                              param='id')
        entry = {'id': object_id, 'object': kind, 'created': self.world.now(), 'livemode': self.livemode,
                 **clone(properties)}
        self.objects[kind][object_id] = entry
        self.world.added.append((self.objects[kind], object_id))
        self.deleted[kind].pop(object_id, None)
        return entry

    def get(self, kind: str, object_id: str, param: str = 'id') -> dict:
        """The object with this id, or Stripe's error; `param` 'id' is the id in the path."""
        found = self.objects[kind].get(object_id)
        if found is None:
            note = ''
            other = self.world.accounts.get((not self.livemode, self.name))
            if other and object_id in other.objects[kind]:
                here, there = ('live', 'test') if self.livemode else ('test', 'live')
                note = (f'; a similar object exists in {there} mode, but a {here} mode key was used '
                        'to make this request.')
            raise missing(noun(kind), object_id, param, status=404 if param == 'id' else 400, note=note)
        return found

    def known(self, kind: str, object_id: str) -> dict:
        """The object, also when it was deleted: a coupon's end does not end its discounts."""
        return self.objects[kind].get(object_id) or self.deleted[kind][object_id]

    def remove(self, kind: str, object_id: str) -> dict:
        """Delete an object and give the stub Stripe answers with from then on."""
        self.deleted[kind][object_id] = self.objects[kind].pop(object_id)
        return self.stub(kind, object_id)

    @staticmethod
    def stub(kind: str, object_id: str) -> dict:
        return {'id': object_id, 'object': kind, 'deleted': True}

    def subscriptions_of(self, customer_id: str) -> list[dict]:
        return [item for item in self.objects['subscription'].values() if item['customer'] == customer_id]

    # Events -------------------------------------------------------------------

    def emit(self, event_type: str, subject: dict, previous: dict | None = None) -> None:
        """Record an event about an object and hand it to whoever delivers webhooks."""
        if self.world.fate != 'none':
            self.record(event_type, subject, previous)
        for listener in LISTENERS:
            listener(self, event_type, subject)

    def record(self, event_type: str, subject: dict, previous: dict | None) -> None:
        data = {'object': render(subject)}
        if previous is not None:
            data['previous_attributes'] = previous
        event = self.add('event', self.world.new_id('evt'), {
            'api_version': self.api_version,
            'data': None,
            'pending_webhooks': 0,
            'request': dict(self.world.cause),
            'type': event_type,
            **({'account': self.name} if self.name else {}),
        })
        # Put in here, since add() copies and this is a copy already.
        event['data'] = data
        # What the object keeps to itself, for renderings in which Stripe once showed it.
        event['.hidden'] = {key: clone(value) for key, value in subject.items() if key.startswith('.')}
        self.world.webhooks.publish(self, event)

    @contextmanager
    def change(self, subject: dict, event_type: str):
        """Change an object in the body of `with`; an event follows if anything became different.

        An error inside leaves the object as it was.
        """
        before, untouched = render(subject), clone(subject)
        try:
            yield subject
        except StripeError:
            subject.clear()
            subject.update(untouched)
            raise
        previous = difference(before, render(subject))
        if previous:
            self.emit(event_type, subject, previous)

    # Answers ------------------------------------------------------------------

    def page(self, kind: str, params: dict, url: str, match=lambda item: True,
             entries: list[dict] | None = None) -> dict:
        """One page of a list: of all objects of the kind, newest first, or of entries in their order."""
        limit = params.get('limit', 10)
        if limit < 1:
            raise StripeError('This value must be greater than or equal to 1.', param='limit',
                              code='parameter_invalid_integer', before_execution=True)
        if limit > 100:
            raise StripeError(f"This value must be less than or equal to 100 (it currently is '{limit}').",
                              param='limit', code='parameter_invalid_integer', before_execution=True)
        limit = min(limit, self.world.page_limit)
        after, before = params.get('starting_after'), params.get('ending_before')
        if after and before:
            raise StripeError('Received both starting_after and ending_before parameters. Please pass in only one.',
                              code='parameters_exclusive', before_execution=True)
        if entries is None:
            entries = sorted(reversed(self.objects[kind].values()), key=lambda item: -item.get('created', 0))

        def position(object_id: str, param: str) -> int:
            for index, item in enumerate(entries):
                if item['id'] == object_id:
                    return index
            raise missing(noun(kind), object_id, param)
        if after:
            entries = entries[position(after, 'starting_after') + 1:]
        elif before:
            entries = entries[:position(before, 'ending_before')]
        wanted = [item for item in entries if match(item)
                  and ('created' not in params or within(item['created'], params['created']))]
        data = wanted[-limit:] if before else wanted[:limit]
        return {'object': 'list', 'data': data, 'has_more': len(wanted) > limit, 'url': url}

    def expand(self, node: dict, path: list[str], whole: str) -> None:
        """Replace ids by objects in a copy, along one expand[] path."""
        refusal = StripeError(f'This property cannot be expanded ({whole}).', param='expand',
                              before_execution=True)
        name, rest = path[0], path[1:]
        if '+' + name in node:
            node[name] = node.pop('+' + name)
        elif (node.get('object'), name) in EXPANDED_LISTS:
            node[name] = clone(EXPANDED_LISTS[node['object'], name](self, node))
        elif (node.get('object'), name) in SHOWN_IF_ANY:
            return
        elif name not in node:
            raise refusal

        def expanded(value):
            if isinstance(value, list):
                return [expanded(item) for item in value]
            if isinstance(value, str) and name in EXPANDABLE:
                value = self.referred(EXPANDABLE[name], value)
            elif not isinstance(value, dict) and not (value is None and name in EXPANDABLE):
                raise refusal
            if rest and isinstance(value, dict):
                self.expand(value, rest, whole)
            return value

        node[name] = expanded(node[name])

    def referred(self, kind: str, object_id: str):
        """A copy of the object an id stands for, or its stub when deleted; discounts stay readable."""
        if object_id in self.deleted[kind]:
            return clone(self.deleted[kind][object_id]) if kind == 'discount' else self.stub(kind, object_id)
        return clone(self.objects[kind].get(object_id, object_id))

    def present(self, result: dict, paths: list[str]) -> dict:
        """What a handler gave, as the API answers it."""
        result = clone(result)
        for path in paths:
            if path.count('.') > 3 + (result.get('object') == 'list'):
                raise StripeError(f'You cannot expand more than 4 levels of a property. Property: {path}',
                                  param='expand', before_execution=True)
            self.expand(result, path.split('.'), path)
        return render(result)


def noun(kind: str) -> str:
    """A kind of object as Stripe's messages call it."""
    return kind.split('.')[-1].replace('_', ' ')


@dataclass
class Fault:
    """A misbehaviour waiting for its requests."""
    kind: str
    # How many are left; one that starts at 0 never ends.
    times: int
    path: str
    seconds: float
    retry_after: int | None


@dataclass
class World:
    """All accounts, and what is common to them."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    accounts: dict = field(default_factory=dict)
    counters: Counter = field(default_factory=Counter)
    idempotency: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    # Whoever delivers events (webhooks.Webhooks).
    webhooks: object = None
    # What every account has from the start.
    furnish: Callable = lambda account: None
    # What the call that runs now has added, so that an error can take it back.
    added: list = field(default_factory=list)
    # The id and idempotency key of the request that events are about now.
    cause: dict = field(default_factory=lambda: {'id': None, 'idempotency_key': None})
    # Seconds by which the control call `clock` has moved our time ahead.
    ahead: int = 0
    # What becomes of the events that are made now (FATES).
    fate: str = 'delivered'
    # The share of events whose delivery is lost, and the generator that chooses them.
    drop: tuple[float, random.Random] | None = None
    # A page of a list never holds more.
    page_limit: int = 100
    # Days from one attempt to the next, and what follows the last (payments.LAST_RESORT).
    dunning: dict = field(default_factory=lambda: dict(DUNNING))
    limiter: RateLimiter = field(default_factory=RateLimiter)

    def reset(self, state: bool) -> None:
        """Forget requests and faults, and with `state` every object too."""
        self.requests.clear()
        self.faults.clear()
        self.drop = None
        self.page_limit = 100
        self.limiter = RateLimiter()
        if state:
            self.accounts.clear()
            self.counters.clear()
            self.idempotency.clear()
            self.ahead = 0
            self.dunning = dict(DUNNING)

    def arrive(self, entry: dict) -> Fault | None:
        """Log a request, whose answer's status comes later, and give the misbehaviour that is due for it."""
        with self.lock:
            self.requests.append(entry)
            if self.limiter.refuses():
                return Fault('rate_limited', 1, entry['path'], 0, self.limiter.retry_after)
            for fault in self.faults:
                if entry['path'].startswith(fault.path):
                    fault.times -= 1
                    if fault.times == 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def now(self) -> int:
        return int(time.time()) + self.ahead

    def new_id(self, prefix: str) -> str:
        """Ids count up, so that tests can expect them."""
        self.counters[prefix] += 1
        return f'{prefix}_{self.counters[prefix]:04d}'

    def account(self, livemode: bool, name: str | None) -> Account:
        key = (livemode, name)
        if key not in self.accounts:
            self.accounts[key] = Account(self, livemode, name)
            self.furnish(self.accounts[key])
        return self.accounts[key]

    @contextmanager
    def undoing(self):
        """Take back the objects that a call added before it failed, and their ids."""
        self.added.clear()
        counters = self.counters.copy()
        try:
            yield
        except StripeError as error:
            if error.kept:
                raise
            for objects, object_id in self.added:
                objects.pop(object_id, None)
            self.counters = counters
            raise

    @contextmanager
    def at(self, moment: int):
        """What is made inside is made at another time."""
        before, self.ahead = self.ahead, self.ahead + moment - self.now()
        try:
            yield
        finally:
            self.ahead = before

    @contextmanager
    def fated(self, fate: str):
        """Events made inside are delivered, lost or not made at all."""
        before, self.fate = self.fate, fate
        try:
            yield
        finally:
            self.fate = before

    @contextmanager
    def caused_by(self, request_id: str | None, idempotency_key: str | None):
        """Events made inside name this request as their origin."""
        before, self.cause = self.cause, {'id': request_id, 'idempotency_key': idempotency_key}
        try:
            yield
        finally:
            self.cause = before
