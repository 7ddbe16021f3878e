"""Decoding of application/x-www-form-urlencoded bodies with bracketed names."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from .errors import StripeError

NAME = re.compile(r'^([^\[\]]+)((?:\[[^\[\]]*\])*)$')


def decode(text: str) -> dict:
    """`a[b]=1&c[0]=x&d[]=y` as nested dicts and lists of strings."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors='strict')
    except ValueError as error:
        raise StripeError('Invalid request: the parameters are not valid UTF-8.',
                          before_execution=True) from error
    tree: dict = {}
    for name, value in pairs:
        match = NAME.match(name)
        if not match:
            raise StripeError(f'Invalid request: malformed parameter name {name!r}.', before_execution=True)
        insert(tree, [match[1]] + re.findall(r'\[([^\[\]]*)\]', match[2]), value, name)
    return {key: lists(value) for key, value in tree.items()}


def insert(tree: dict, path: list[str], value: str, name: str) -> None:
    """Put one pair in place; an empty bracket opens the next element of a list."""
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if key == '':
            key = str(len(tree))
            # a[][b]=1&a[][c]=2 is one element until a name of it comes again.
            before = tree.get(str(len(tree) - 1))
            if not last and isinstance(before, dict) and path[depth + 1] not in before:
                key = str(len(tree) - 1)
        if last:
            if isinstance(tree.get(key), dict):
                raise StripeError('Invalid request: a parameter is given both as a value and as a hash.',
                                  param=name, before_execution=True)
            tree[key] = value
        else:
            tree = tree.setdefault(key, {})
            if not isinstance(tree, dict):
                raise StripeError('Invalid request: a parameter is given both as a value and as a hash.',
                                  param=name, before_execution=True)


def lists(value):
    """A hash whose keys are all numbers is a list."""
    if not isinstance(value, dict):
        return value
    if all(key.isdecimal() for key in value):
        return [lists(value[key]) for key in sorted(value, key=int)]
    return {key: lists(item) for key, item in value.items()}
