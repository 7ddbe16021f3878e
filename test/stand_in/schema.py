"""Checks parameters against a description of them, as strictly as Stripe does.

A description is a dict from name to type.  The name may end in marks:
    *   required
    +   required when creating, optional when updating
    ~   may be emptied (`name=` clears it)
    -   may be emptied when updating only
A type is
    'string', 'integer', 'number', 'decimal' (text that keeps every digit), 'boolean',
    'timestamp', 'url', 'email', 'currency', 'version' (of the API),
    'range' (a time, or a hash of gt, gte, lt, lte), 'metadata' (a hash of strings),
    'TYPE or word or word' (the type, or one of the literal words),
    a tuple of words (an enumeration), a one-element list (a list of it), a dict (a hash).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .errors import StripeError

RANGE = {'gt': 'timestamp', 'gte': 'timestamp', 'lt': 'timestamp', 'lte': 'timestamp'}


def refuse(message: str, param: str, code: str | None = None) -> StripeError:
    return StripeError(message, code=code, param=param, before_execution=True)


def check(description: dict, given: dict, *, updating: bool = False, prefix: str = '') -> dict:
    """The parameters with their real types; None stands for one that was emptied."""
    known = {name.rstrip('*+~-'): (name, kind) for name, kind in description.items()}

    def full(name: str) -> str:
        return f'{prefix}[{name}]' if prefix else name

    unknown = [full(name) for name in given if name not in known]
    if unknown:
        plural = 's' if len(unknown) > 1 else ''
        raise refuse(f"Received unknown parameter{plural}: {', '.join(unknown)}", unknown[0], 'parameter_unknown')

    for name, (marked, _) in known.items():
        required = marked.endswith('*') or (marked.endswith('+') and not updating)
        if required and name not in given:
            raise refuse(f'Missing required param: {full(name)}.', full(name), 'parameter_missing')

    result = {}
    for name, value in given.items():
        marked, kind = known[name]
        if value == '':
            if not (marked.endswith('~') or (marked.endswith('-') and updating)):
                raise refuse(
                    f"You passed an empty string for '{full(name)}'. We assume empty values are an attempt to "
                    f"unset a parameter; however '{full(name)}' cannot be unset. You should remove "
                    f"'{full(name)}' from your request or supply a non-empty value.",
                    full(name), 'parameter_invalid_empty')
            result[name] = None
        else:
            result[name] = convert(kind, value, full(name), updating)
    return result


def convert(kind, value, param: str, updating: bool):
    """One value as its type, or the refusal Stripe would give."""
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise refuse('Invalid array', param)
        return [convert(kind[0], item, f'{param}[{position}]', updating) for position, item in enumerate(value)]
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            raise refuse('Invalid hash', param)
        return check(kind, value, updating=updating, prefix=param)
    if kind == 'metadata':
        return metadata(value, param)
    if kind == 'range' and isinstance(value, dict):
        return check(RANGE, value, prefix=param)
    if not isinstance(value, str):
        raise refuse('Invalid string: a single value is expected here', param)
    if isinstance(kind, tuple):
        return word(kind, value, param)
    kind, *literals = kind.split(' or ')
    return value if value in literals else SCALARS[kind](value, param)


def word(allowed: tuple, value: str, param: str) -> str:
    if value in allowed:
        return value
    wanted = ', '.join(allowed[:-1]) + ', or ' + allowed[-1] if len(allowed) > 2 else ' or '.join(allowed)
    raise refuse(f'Invalid {param}: must be one of {wanted}', param)


def integer(value: str, param: str) -> int:
    if not re.fullmatch(r'-?[0-9]{1,18}', value):
        raise refuse(f'Invalid integer: {value}', param, 'parameter_invalid_integer')
    return int(value)


def number(value: str, param: str):
    if not re.fullmatch(r'-?[0-9]+(\.[0-9]+)?', value):
        raise refuse(f'Invalid decimal: {value}', param)
    return float(value) if '.' in value else int(value)


def decimal(value: str, param: str) -> str:
    if not re.fullmatch(r'[0-9]+(\.[0-9]{1,12})?', value):
        raise refuse(f'Invalid decimal: {value}', param)
    return value.rstrip('0').rstrip('.') if '.' in value else value


def boolean(value: str, param: str) -> bool:
    if value not in ('true', 'false'):
        raise refuse(f'Invalid boolean: {value}', param)
    return value == 'true'


def url(value: str, param: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ('http', 'https') and parts.hostname and not re.search(r'[\s\x00-\x1f]', value)
    except ValueError:
        good = False
    if not good:
        raise refuse('Not a valid URL', param, 'url_invalid')
    return value


def email(value: str, param: str) -> str:
    if not re.fullmatch(r'[^@\s]+@[^@\s]+', value):
        raise refuse(f'Invalid email address: {value}', param, 'email_invalid')
    return value


def currency(value: str, param: str) -> str:
    if not re.fullmatch(r'[A-Za-z]{3}', value):
        raise refuse(f'Invalid currency: {value}', param)
    return value.lower()


def version(value: str, param: str) -> str:
    if not re.fullmatch(r'\d{4}-\d{2}-\d{2}(\.[a-z]+)?', value):
        raise refuse(f'Invalid API version: {value}', param)
    return value


def metadata(value, param: str) -> dict:
    if not isinstance(value, dict):
        raise refuse('Invalid hash', param)
    if len(value) > 50:
        raise refuse('You can only set up to 50 metadata keys.', param)
    for key, item in value.items():
        if not isinstance(item, str):
            raise refuse('Metadata values must be strings.', f'{param}[{key}]')
        if len(key) > 40 or len(item) > 500:
            raise refuse('Metadata keys hold at most 40 and values at most 500 characters.', f'{param}[{key}]')
    return dict(value)


SCALARS = {
    'string': lambda value, param: value,
    'integer': integer,
    'timestamp': integer,
    'range': integer,
    'number': number,
    'decimal': decimal,
    'boolean': boolean,
    'url': url,
    'email': email,
    'currency': currency,
    'version': version,
}
