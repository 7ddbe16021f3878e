#!/usr/bin/env python3
"""Events of every kind, changed at random: mutate.py COUNT SEED

Reads bodies from standard input as every_event.py prints them.  Prints one
changed body per line, as PostgreSQL's bytea in hex, and a Stripe-Signature
header for it, with a tab between them; the signatures are of TIME.

Most bodies are still JSON: members are swapped, dropped, doubled, given other
types and unlikely values.  Some are cut or have bytes changed.  The event's own
time never goes into the future: no event could be newer than one from there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import sys
from copy import deepcopy

SECRET = 'whsec_mutated'
TIME = 1800000000


class Hash(list):
    """A JSON object as the list of its pairs, which may have a key twice."""


class Raw(str):
    """Stands in the JSON text as it is."""


def parse(text: str):
    return json.loads(text, object_pairs_hook=lambda pairs: Hash([key, value] for key, value in pairs), parse_float=Raw)


def render(value) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, Hash):
        return '{' + ', '.join(f'{json.dumps(key)}: {render(inner)}' for key, inner in value) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(render, value)) + ']'
    return json.dumps(value)


# What a value may become, apart from one of another place.
NUMBERS = [Raw(text) for text in (
    '0', '-0', '-1', '1.5', '1e2', '1e400', '-1e400', '1e-400', '2147483648', '9223372036854775808',
    '-9223372036854775809', '9' * 40, '9' * 400, '0.' + '9' * 400, '9223371331200', '-99999999999', '253402300800',
    '99999999999')]
TEXTS = ['', ' ', '0', '-1', '1700000000', '1e400', 'NaN', 'infinity', '-infinity', 'null', 'now', 'true', 'cus_a', 'sub_a',
         'usd', 'USD', 'xxx', '%', '_%', "'", '"', '\\', '\\u0000', '$1', '{', '{}', '{a,b}', '[1,2)', '\x01\x7f', '\n\r\t',
         'ü', '\u202e', '\ufeff', '\U0001f600', 'x' * 256, 'ü' * 2000, '../../etc/passwd', 'https://evil.test/?bps_1',
         '2026-11-26T00:00:00.000Z', '292278-01-01T00:00:00Z', '0000-00-00', 'sk_live_1']
ESCAPES = [Raw(f'"{text}"') for text in (
    r'\u0000', r'a\u0000b', r'\ud83d\ude00', r'\uFFFF', r'\\u0000', r'\/')]
# and what JSON, or jsonb, has no room for
IMPOSSIBLE = [Raw(text) for text in (
    'NaN', 'Infinity', '-Infinity', '01', '0x10', '1.', '1e999999999', r'"\ud800"', r'"\udc00\ud800"', r'"\u00"', r'"\x"',
    '"\x00"', '"\t"', "'x'", 'undefined')]
PLAIN = [None, True, False, Hash(), [], [[]], [None], Hash([['id', 'cus_a']]), Hash([['object', 'list'], ['data', []]]),
         Hash([['', '']])]
BAD_TIMES = NUMBERS[:4] + [Raw('1.5'), Raw('-99999999999'), Raw('999999999999'), '', 'x', '1700000000', None, True, [], Hash()]


def nested(depth: int) -> Raw:
    opened, closed = random.choice((('[', ']'), ('{"a":', '}'), ('[{"object":[', ']}]')))
    return Raw(opened * depth + '1' + closed * depth)


def value_of(pool: list):
    kind = random.random()
    if kind < 0.25:
        return random.choice(NUMBERS)
    if kind < 0.5:
        return random.choice(TEXTS)
    if kind < 0.6:
        return random.choice(ESCAPES)
    if kind < 0.75:
        return deepcopy(random.choice(PLAIN))
    if kind < 0.78:
        return nested(random.choice((10, 100, 1000)))
    if kind < 0.781:
        return nested(20000)
    if kind < 0.8:
        return random.choice(IMPOSSIBLE)
    if kind < 0.805:
        # the longest fit into an index, compressed, but as an id into no request
        return 'x' * random.choice((3000, 10000, 100000, 1000000))
    return deepcopy(random.choice(pool))


def places(value, found: list) -> list:
    """All (container, index) whose value can be changed; of a pair's container the value is at 1."""
    if isinstance(value, Hash):
        for pair in value:
            found.append((value, pair))
            places(pair[1], found)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found.append((value, index))
            places(inner, found)
    return found


def change(event, pool: list) -> None:
    found = places(event, [])
    if not found:
        return
    container, place = random.choice(found)
    top = container is event and isinstance(place, list) and place[0] == 'created'
    what = random.random()
    if isinstance(place, list):
        if top:
            place[1] = random.choice(BAD_TIMES)
        elif what < 0.6:
            place[1] = value_of(pool)
        elif what < 0.75:
            container.remove(place)
        elif what < 0.85:
            container.append([place[0], value_of(pool)])
        elif what < 0.9:
            place[0] = random.choice(('', 'id', 'object', 'data', 'deleted', 'customer', 'status', 'x' * 300, '\u00fc'))
        else:
            other = random.choice(container)
            if not (container is event and 'created' in (other[0], place[0])):
                place[1], other[1] = other[1], place[1]
    elif what < 0.5:
        container[place] = value_of(pool)
    elif what < 0.7:
        del container[place]
    elif what < 0.9:
        container.extend(container[:1] * random.choice((1, 2, 100)))
    else:
        random.shuffle(container)


def spoil(body: bytes) -> bytes:
    """Changes that no JSON survives, or that it may."""
    at = random.randrange(len(body))
    what = random.randrange(7)
    if what == 0:
        return body[:at]
    if what == 1:
        return body[:at] + bytes(random.randrange(256) for _ in range(random.randrange(1, 5))) + body[at + 1:]
    if what == 2:
        return body[:at] + random.choice((b'\xff\xfe', b'\xc0\x80', b'\xed\xa0\x80', b'\xf5\x80\x80\x80', b'\x00')) + body[at:]
    if what == 3:
        return random.choice((b'\xef\xbb\xbf', b' \n', b'[', b'null', b'"')) + body
    if what == 4:
        return body + random.choice((b' ', b'\n\n', b'}', b'\x00', body))
    if what == 5:
        return body[at:at + random.randrange(1, 100)]
    return b'{"id": "evt_1", "livemode": true, "created": 1, "type": "x", "data": {"object": ' + body + b'}}'


def mutated(bodies: list[str], thin: list[str], pool: list, number: int) -> bytes:
    event = parse(random.choice(thin if random.random() < 0.05 else bodies))
    # an event of its own, but now and then one that was there before
    own = number if random.random() < 0.97 else random.randrange(number + 1)
    for pair in event:
        if pair[0] == 'id':
            pair[1] = f'evt_m{own}'
        elif pair[0] == 'created' and isinstance(pair[1], int):
            # not all that happened to an object in one second
            pair[1] -= random.choice((0, random.randrange(100), random.randrange(10000000)))
    if random.random() < 0.98:
        for _ in range(random.choice((0, 1, 1, 1, 1, 2, 2, 3, 5))):
            change(event, pool)
    body = render(event).encode('utf-8', 'surrogatepass')
    return spoil(body) if random.random() < 0.1 else body


def main() -> None:
    count, seed = map(int, sys.argv[1:])
    bodies = [json.loads(line) for line in sys.stdin]
    thin = [body for body in bodies if 'related_object' in json.loads(body)]
    bodies = [body for body in bodies if body not in thin]
    pool = [place[1] for body in bodies for _, place in places(parse(body), []) if isinstance(place, list)]
    random.seed(seed)
    for number in range(count):
        body = mutated(bodies, thin, pool, number) or b' '
        mac = hmac.new(SECRET.encode(), b'%d.' % TIME + body, hashlib.sha256).hexdigest()
        print(f'\\\\x{body.hex()}\tt={TIME},v1={mac}')


if __name__ == '__main__':
    main()
