"""How the stand-in misbehaves on request.

Each kind is a function of the exchange (server.Exchange) and the fault.  Those
that need the normal answer call exchange.work(), which does what was asked for.
None of the errors here is kept for the request's Idempotency-Key: they stand for
what fails in front of the API, so that a retry finds it healthy again.
"""

from __future__ import annotations

import re
import time

from .api import Answer, error_answer
from .errors import StripeError
from .world import Fault

HUGE = 64 * 1024 * 1024


def rate_limited(exchange, fault: Fault) -> None:
    headers = {'Stripe-Rate-Limited-Reason': 'global-rate'}
    if fault.retry_after is not None:
        headers['Retry-After'] = str(fault.retry_after)
    exchange.send(error_answer(exchange.asked, StripeError(
        'Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.',
        status=429, code='rate_limit'), headers))


def lock_timeout(exchange, fault: Fault) -> None:
    exchange.send(error_answer(exchange.asked, StripeError(
        'This object cannot be accessed right now because another API request or Stripe process is currently '
        'accessing it. If you see this error intermittently, retry the request.',
        status=429, code='lock_timeout'), {'Stripe-Should-Retry': 'true'}))


def should_not_retry(exchange, fault: Fault) -> None:
    exchange.send(error_answer(exchange.asked, unexpected(), {'Stripe-Should-Retry': 'false'}))


def server_error(exchange, fault: Fault) -> None:
    exchange.send(error_answer(exchange.asked, unexpected()))


def unexpected() -> StripeError:
    return StripeError('An unknown error occurred.', status=500, error_type='api_error')


def unavailable(exchange, fault: Fault) -> None:
    exchange.send(Answer(503, b'<html><body><h1>503 Service Unavailable</h1></body></html>\n',
                         {'Content-Type': 'text/html'}))


def forbidden(exchange, fault: Fault) -> None:
    exchange.send(error_answer(exchange.asked, StripeError(
        'The provided key does not have the required permissions for this endpoint.', status=403)))


def conflict(exchange, fault: Fault) -> None:
    exchange.send(error_answer(exchange.asked, StripeError(
        'There is currently another in-progress request using this idempotent key (that probably means you '
        'submitted twice, and the other request is still going through). Please try again later.',
        status=409, code='idempotency_key_in_use', error_type='idempotency_error')))


def cut_body(exchange, fault: Fault) -> None:
    answer = exchange.work()
    head = exchange.head(answer, length=len(answer.body) + 1000)
    exchange.write(head + answer.body)
    exchange.close_connection = True


def invalid_json(exchange, fault: Fault) -> None:
    exchange.send(Answer(200, b'{"id": "cus_0001", "object": '))


def not_json(exchange, fault: Fault) -> None:
    exchange.send(Answer(200, b'<html><body>It works!</body></html>\n', {'Content-Type': 'text/html'}))


def wrong_object(exchange, fault: Fault) -> None:
    """Good JSON of a good status, about something else."""
    exchange.work()
    exchange.send(Answer(200, b'{"object": "balance", "livemode": false, "available": [], "pending": []}'))


def wrong_mode(exchange, fault: Fault) -> None:
    """The normal answer, as it would be in the other mode."""
    answer = exchange.work()
    body = re.sub(rb'"livemode": (true|false)', lambda m: b'"livemode": ' + (b'false' if m[1] == b'true' else b'true'), answer.body)
    exchange.send(Answer(answer.status, body, answer.headers))


def slow_first_byte(exchange, fault: Fault) -> None:
    answer = exchange.work()
    time.sleep(fault.seconds)
    exchange.send(answer)


def slow_body(exchange, fault: Fault) -> None:
    """The normal answer, its body dripping in fifty pieces over the given time."""
    answer = exchange.work()
    exchange.write(exchange.head(answer))
    step = max(1, -(-len(answer.body) // 50))
    for start in range(0, len(answer.body), step):
        exchange.write(answer.body[start:start + step])
        time.sleep(fault.seconds / 50)


def redirect(exchange, fault: Fault) -> None:
    """To another origin, where a request that follows would be seen in the log."""
    scheme = 'https' if exchange.server.tls else 'http'
    port = exchange.server.server_address[1]
    exchange.send(Answer(302, b'', {'Location': f'{scheme}://localhost:{port}/v1/redirected'}))


def huge_body(exchange, fault: Fault) -> None:
    answer = Answer(200, b'', {'Transfer-Encoding': 'chunked'})
    exchange.write(exchange.head(answer, length=None))
    exchange.write(chunk(b'{"object": "huge", "data": "'))
    piece = chunk(b'x' * 65536)
    for _ in range(HUGE // 65536):
        exchange.write(piece)
    exchange.write(chunk(b'"}') + chunk(b''))


def chunk(data: bytes) -> bytes:
    return b'%x\r\n%s\r\n' % (len(data), data)


def close(exchange, fault: Fault) -> None:
    exchange.close_connection = True


def close_after(exchange, fault: Fault) -> None:
    exchange.work()
    exchange.close_connection = True


def empty_body(exchange, fault: Fault) -> None:
    exchange.send(Answer(200, b''))


def nul_escape(exchange, fault: Fault) -> None:
    """The normal answer, but all names in it begin with a character that jsonb can not hold."""
    answer = exchange.work()
    exchange.send(Answer(answer.status, answer.body.replace(b'"name": "', b'"name": "\\u0000'), answer.headers))


def deep_json(exchange, fault: Fault) -> None:
    exchange.send(Answer(200, b'[' * 10000 + b']' * 10000))


KINDS = {function.__name__: function for function in (
    rate_limited, lock_timeout, should_not_retry, server_error, unavailable, forbidden, conflict, cut_body, invalid_json,
    not_json, wrong_object, wrong_mode, slow_first_byte, slow_body, redirect, huge_body, close, close_after, empty_body,
    nul_escape, deep_json)}
