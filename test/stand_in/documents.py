"""Work on objects as plain JSON: copying, showing, comparing, overlaying.

Keys of stored objects that begin with '+' are properties that Stripe shows only
when they are expanded, those with '.' are ours; render() drops both.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring

# How many elements a list inside an object shows; '.inline' marks such a list.
INLINE = 10


# Most values are neither; asking here spares a call for each of them.
NESTED = (dict, list)


def clone(value):
    """A deep copy of JSON, several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: clone(item) if type(item) in NESTED else item for key, item in value.items()}
    if isinstance(value, list):
        return [clone(item) for item in value]
    return value


def render(value):
    """A copy as the API shows it, without the hidden keys."""
    if isinstance(value, dict):
        shown = {key: render(item) if type(item) in NESTED else item for key, item in value.items()
                 if key[:1] not in ('+', '.')}
        if '.inline' in value:
            shown['has_more'] = len(shown['data']) > INLINE
            shown['data'] = shown['data'][:INLINE]
        return shown
    if isinstance(value, list):
        return [render(item) for item in value]
    return value


def to_json(value) -> str:
    """JSON as Stripe writes it, indented, in answers and in webhooks."""
    pieces: list[str] = []
    write(value, '\n', pieces.append)
    return ''.join(pieces)


def write(value, newline: str, put) -> None:
    """json.dumps(value, indent=2, ensure_ascii=False), but fast: the library's own is slow when it indents."""
    if isinstance(value, str):
        put(encode_basestring(value))
    elif isinstance(value, dict) and value:
        inner = newline + '  '
        opening = '{'
        for key, item in value.items():
            put(f'{opening}{inner}{encode_basestring(key)}: ')
            if item is None:
                put('null')
            else:
                write(item, inner, put)
            opening = ','
        put(newline + '}')
    elif isinstance(value, list) and value:
        inner = newline + '  '
        opening = '['
        for item in value:
            put(opening + inner)
            write(item, inner, put)
            opening = ','
        put(newline + ']')
    elif type(value) is int:
        put(str(value))
    else:
        put(json.dumps(value))


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
