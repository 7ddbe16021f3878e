"""Everything the stand-in remembers: accounts, their objects, events, requests, faults.

An Account is one of Stripe's separate worlds of objects: one per mode (live or
test) and connected account.  Handlers run one at a time under World.lock, so
nothing below locks on its own.

Keys of stored objects that begin with '+' are properties that Stripe shows only
when they are expanded, those with '.' are ours; render() drops both.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable

from .errors import StripeError, missing

API_VERSION = '2026-10-28.endive'

# Property name -> kind of object whose id it holds, for expand[].
EXPANDABLE = {
    'configuration': 'billing_portal.configuration',
    'coupon': 'coupon',
    'customer': 'customer',
    'default_payment_method': 'payment_method',
    'default_price': 'price',
    'default_source': 'source',
    'discounts': 'discount',
    'latest_invoice': 'invoice',
    'pending_setup_intent': 'setup_intent',
    'product': 'product',
    'schedule': 'subscription_schedule',
}


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


def render(value):
    """A copy as the API shows it, without the hidden keys."""
    if isinstance(value, dict):
        return {key: render(item) for key, item in value.items() if not key.startswith(('+', '.'))}
    if isinstance(value, list):
        return [render(item) for item in value]
    return value


def to_json(value) -> str:
    """JSON as Stripe writes it, indented, in answers and in webhooks."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def difference(before: dict, after: dict) -> dict:
    """previous_attributes: the old values of what changed, nested for hashes, whole for lists."""
    result = {}
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        result[key] = difference(old, new) if isinstance(old, dict) and isinstance(new, dict) else old
    return result


def merge(target: dict, params: dict) -> None:
    """Overlay parameters on an object: hashes are merged, lists replaced, None empties."""
    for key, value in params.items():
        current = target.get(key)
        if key == 'metadata':
            merged = {**(current or {}), **value} if value else {}
            target[key] = {name: text for name, text in merged.items() if text != ''}
        elif value is None:
            target[key] = [] if isinstance(current, list) else None
        elif isinstance(value, dict) and isinstance(current, dict):
            merge(current, value)
        else:
            target[key] = value


def without(params: dict, *names: str) -> dict:
    """The parameters that go onto the object as they are."""
    return {key: value for key, value in params.items() if key not in ('expand', 'id', *names)}


def within(value: int, wanted) -> bool:
    """Does a time meet a range parameter (an exact time, or gt, gte, lt, lte)?"""
    if not isinstance(wanted, dict):
        return value == wanted
    return (value > wanted.get('gt', value - 1) and value >= wanted.get('gte', value)
            and value < wanted.get('lt', value + 1) and value <= wanted.get('lte', value))


class Account:
    """The objects of one account in one mode."""

    def __init__(self, world: World, livemode: bool, name: str | None):
        self.world = world
        self.livemode = livemode
        self.name = name
        self.objects: dict[str, dict[str, dict]] = defaultdict(dict)
        self.deleted: dict[str, set[str]] = defaultdict(set)

    # Objects ------------------------------------------------------------------

    def add(self, kind: str, object_id: str, properties: dict) -> dict:
        """Store a new object under an id that must be free."""
        if object_id in self.objects[kind]:
            raise StripeError(f'{noun(kind).capitalize()} already exists.', code='resource_already_exists',
                              param='id')
        entry = {'id': object_id, 'object': kind, 'created': self.world.now(), 'livemode': self.livemode,
                 **copy.deepcopy(properties)}
        self.objects[kind][object_id] = entry
        self.world.added.append((self.objects[kind], object_id))
        self.deleted[kind].discard(object_id)
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

    def remove(self, kind: str, object_id: str) -> dict:
        """Delete an object and give the stub Stripe answers with from then on."""
        del self.objects[kind][object_id]
        self.deleted[kind].add(object_id)
        return self.stub(kind, object_id)

    @staticmethod
    def stub(kind: str, object_id: str) -> dict:
        return {'id': object_id, 'object': kind, 'deleted': True}

    # Events -------------------------------------------------------------------

    def emit(self, event_type: str, subject: dict, previous: dict | None = None) -> dict:
        """Record an event about an object and hand it to whoever delivers webhooks."""
        data = {'object': render(subject)}
        if previous is not None:
            data['previous_attributes'] = previous
        event = self.add('event', self.world.new_id('evt'), {
            'api_version': API_VERSION,
            'data': data,
            'pending_webhooks': 0,
            'request': dict(self.world.cause),
            'type': event_type,
            **({'account': self.name} if self.name else {}),
        })
        self.world.webhooks.publish(self, event)
        return event

    @contextmanager
    def change(self, subject: dict, event_type: str):
        """Change an object in the body of `with`; an event follows if anything became different.

        An error inside leaves the object as it was.
        """
        before, untouched = render(subject), copy.deepcopy(subject)
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

    def page(self, kind: str, params: dict, url: str, match=lambda item: True) -> dict:
        """One page of a list, newest first."""
        limit = params.get('limit', 10)
        if limit < 1:
            raise StripeError('This value must be greater than or equal to 1.', param='limit',
                              code='parameter_invalid_integer', before_execution=True)
        if limit > 100:
            raise StripeError(f"This value must be less than or equal to 100 (it currently is '{limit}').",
                              param='limit', code='parameter_invalid_integer', before_execution=True)
        after, before = params.get('starting_after'), params.get('ending_before')
        if after and before:
            raise StripeError('Received both starting_after and ending_before parameters. Please pass in only one.',
                              code='parameters_exclusive', before_execution=True)
        newest_first = list(reversed(self.objects[kind].values()))
        if after:
            newest_first = newest_first[newest_first.index(self.get(kind, after, 'starting_after')) + 1:]
        elif before:
            newest_first = newest_first[:newest_first.index(self.get(kind, before, 'ending_before'))]
        wanted = [item for item in newest_first if match(item)
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
        elif name == 'subscriptions' and node.get('object') == 'customer':
            node[name] = self.page('subscription', {}, f"/v1/customers/{node['id']}/subscriptions",
                                   lambda item: item['customer'] == node['id'] and item['status'] != 'canceled')
            node[name] = copy.deepcopy(node[name])
        elif name not in node:
            raise refusal

        def expanded(value):
            if isinstance(value, list):
                return [expanded(item) for item in value]
            if isinstance(value, str) and name in EXPANDABLE:
                value = copy.deepcopy(self.objects[EXPANDABLE[name]].get(value, value))
            elif not isinstance(value, dict) and not (value is None and name in EXPANDABLE):
                raise refusal
            if rest and isinstance(value, dict):
                self.expand(value, rest, whole)
            return value

        node[name] = expanded(node[name])

    def present(self, result: dict, paths: list[str]) -> dict:
        """What a handler gave, as the API answers it."""
        result = copy.deepcopy(result)
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

    def reset(self, state: bool) -> None:
        """Forget requests and faults, and with `state` every object too."""
        self.requests.clear()
        self.faults.clear()
        if state:
            self.accounts.clear()
            self.counters.clear()
            self.idempotency.clear()
            self.ahead = 0

    def log(self, entry: dict) -> None:
        """Remember a request; the answer's status is filled in when it is sent."""
        with self.lock:
            self.requests.append(entry)

    def take_fault(self, path: str) -> Fault | None:
        """The misbehaviour due for a request to this path, counting it."""
        with self.lock:
            for fault in self.faults:
                if path.startswith(fault.path):
                    fault.times -= 1
                    if fault.times <= 0:
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
        except StripeError:
            for objects, object_id in self.added:
                objects.pop(object_id, None)
            self.counters = counters
            raise

    @contextmanager
    def caused_by(self, request_id: str | None, idempotency_key: str | None):
        """Events made inside name this request as their origin."""
        before, self.cause = self.cause, {'id': request_id, 'idempotency_key': idempotency_key}
        try:
            yield
        finally:
            self.cause = before
