"""From one request to one answer: key, headers, route, parameters, idempotency, handler."""

from __future__ import annotations

import base64
import binascii
import re
import sys
import traceback
from dataclasses import dataclass, field

from . import form, schema
from .documents import to_json
from .errors import StripeError
from .routes import CONTROL, Route, find
from .world import API_VERSION, KEYS, Account, Key, World


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: str
    request_id: str


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def is_control(path: str) -> bool:
    return path.startswith(CONTROL)


def given_key(request: Request) -> str | None:
    """The API key, sent as a bearer token or as the user of basic authentication."""
    scheme, _, value = request.headers.get('authorization', '').partition(' ')
    if scheme.lower() == 'bearer':
        return value.strip() or None
    if scheme.lower() == 'basic':
        try:
            return base64.b64decode(value).decode().partition(':')[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def key_name(request: Request) -> str | None:
    """What the log of requests shows in place of the Authorization header."""
    key = given_key(request)
    return key and (KEYS[key].name if key in KEYS else 'unknown')


def masked(key: str) -> str:
    """A key as Stripe's messages show it."""
    prefix = re.match(r'^([a-z]+_(?:test|live)_)?', key)[0]
    return prefix + '*' * max(0, len(key) - len(prefix) - 4) + key[max(len(prefix), len(key) - 4):]


def authenticate(request: Request) -> Key:
    key = given_key(request)
    if key is None:
        raise StripeError(
            'You did not provide an API key. You need to provide your API key in the Authorization header, using '
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            'https://stripe.com/docs/api#authentication for details, or we can help at '
            'https://support.stripe.com/.', status=401, before_execution=True)
    if key not in KEYS:
        raise StripeError(f'Invalid API Key provided: {masked(key)}', status=401, before_execution=True)
    return KEYS[key]


def check_headers(request: Request) -> None:
    headers = request.headers
    version = headers.get('stripe-version', API_VERSION)
    if not re.fullmatch(r'\d{4}-\d{2}-\d{2}(\.[a-z]+)?', version):
        raise StripeError(f'Invalid Stripe API version: {version}', before_execution=True)
    if 'stripe-account' in headers and 'stripe-context' in headers:
        raise StripeError('The Stripe-Account and Stripe-Context headers cannot be used together.',
                          before_execution=True)
    account = headers.get('stripe-account')
    if account is not None and not re.fullmatch(r'acct_\w+', account):
        raise StripeError(f"The provided key '{masked(given_key(request))}' does not have access to account "
                          f"'{account}' (or that account does not exist). Application access may have been revoked.",
                          status=403, code='account_invalid', before_execution=True)
    content = headers.get('content-type', '').partition(';')[0].strip()
    if request.body and content != 'application/x-www-form-urlencoded':
        raise StripeError(f'Invalid request: the body must be application/x-www-form-urlencoded, not {content!r}.',
                          before_execution=True)
    if len(headers.get('idempotency-key', '')) > 255:
        raise StripeError('Idempotency keys can be at most 255 characters long.', before_execution=True)


def route_of(request: Request) -> tuple[Route, list[str]]:
    found = find(request.method, request.path)
    if found is None:
        raise StripeError(f'Unrecognized request URL ({request.method}: {request.path}). Please see '
                          'https://stripe.com/docs or we can help at https://support.stripe.com/.',
                          status=404, before_execution=True)
    return found


def permit(request: Request, key: Key) -> None:
    """A restricted key may read everything and write nothing."""
    if key.writes or request.method == 'GET' or is_control(request.path):
        return
    resource = request.path.split('/')[2]
    right = 'customer_portal' if resource == 'billing_portal' else resource.rstrip('s')
    account = request.headers.get('stripe-account', 'acct_stand_in')
    raise StripeError(f"The provided key '{masked(given_key(request))}' does not have the required permissions for "
                      f"this endpoint on account '{account}'. Having the 'rak_{right}_write' permission would allow "
                      'this request to continue.', status=403, before_execution=True)


def parameters_of(request: Request) -> dict:
    """The parameters as they came: of the body for POST, else of the query."""
    return form.decode(request.body if request.method == 'POST' else request.query)


def answer(world: World, request: Request) -> Answer:
    """Do what a request asks for."""
    try:
        key = authenticate(request)
        check_headers(request)
        route, ids = route_of(request)
        permit(request, key)
        given = parameters_of(request)
        params = schema.check(route.parameters, given, updating=route.updating)
        if not route.locked:
            result = route.handler(world.account(key.livemode, None), params, *ids)
            return Answer(200, to_json(result).encode(), headers_of(request))
        with world.lock:
            account = world.account(key.livemode, request.headers.get('stripe-account'))
            return once(account, request, route, given, params, ids)
    except StripeError as error:
        return error_answer(request, error)
    except Exception:  # a bug of ours: say so where the test's output is read, and answer as Stripe would
        traceback.print_exc(file=sys.stderr)
        return error_answer(request, StripeError('The stand-in failed; see its standard error.', status=500,
                                                 error_type='api_error'))


def once(account: Account, request: Request, route: Route, given: dict, params: dict, ids: list[str]) -> Answer:
    """Execute, or repeat the answer that this Idempotency-Key has had already."""
    idempotency_key = request.headers.get('idempotency-key') if request.method == 'POST' else None
    if not idempotency_key:
        return execute(account, request, route, params, ids)
    saved = account.world.idempotency
    slot = (account.livemode, account.name, idempotency_key)
    asked = (request.path, given)
    if slot in saved:
        before, first = saved[slot]
        if before != asked:
            raise StripeError('Keys for idempotent requests can only be used with the same parameters they were '
                              f"first used with. Try using a key other than '{idempotency_key}' if you meant to "
                              'execute a different request.', error_type='idempotency_error')
        return Answer(first.status, first.body, {**headers_of(request), 'Idempotent-Replayed': 'true',
                                                 'Original-Request': first.headers['Request-Id']})
    try:
        result = execute(account, request, route, params, ids)
    except StripeError as error:
        if error.before_execution:
            raise
        result = error_answer(request, error)
    saved[slot] = (asked, result)
    return result


def execute(account: Account, request: Request, route: Route, params: dict, ids: list[str]) -> Answer:
    world = account.world
    with world.caused_by(request.request_id, request.headers.get('idempotency-key')), world.undoing():
        result = account.present(route.handler(account, params, *ids), params.get('expand', []))
    return Answer(200, to_json(result).encode(), headers_of(request))


def headers_of(request: Request) -> dict[str, str]:
    """The headers every answer has."""
    headers = {'Content-Type': 'application/json', 'Request-Id': request.request_id,
               'Stripe-Version': request.headers.get('stripe-version', API_VERSION)}
    for name in ('Idempotency-Key', 'Stripe-Account'):
        if name.lower() in request.headers:
            headers[name] = request.headers[name.lower()]
    return headers


def error_answer(request: Request, error: StripeError, extra: dict[str, str] | None = None) -> Answer:
    headers = {**headers_of(request), **(extra or {})}
    if error.status == 401:
        headers['WWW-Authenticate'] = 'Bearer realm="Stripe"'
    body = error.body()
    body['error']['request_log_url'] = f'https://dashboard.stripe.com/test/logs/{request.request_id}'
    return Answer(error.status, to_json(body).encode(), headers)
