"""The one exception of the stand-in: an answer of Stripe that is an error."""

from __future__ import annotations


class StripeError(Exception):
    """An error object of the API, with the HTTP status it travels under."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None,
                 param: str | None = None, error_type: str = 'invalid_request_error',
                 before_execution: bool = False, kept: bool = False, more: dict | None = None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.error_type = error_type
        # Stripe keeps no idempotent answer for what fails before the endpoint runs.
        self.before_execution = before_execution
        # A declined payment is an error, but the charge it made stays.
        self.kept = kept
        # Further members of the error object.
        self.more = more or {}

    def body(self) -> dict:
        error: dict = {}
        if self.code:
            error['code'] = self.code
            error['doc_url'] = 'https://stripe.com/docs/error-codes/' + self.code.replace('_', '-')
        error['message'] = str(self)
        if self.param:
            error['param'] = self.param
        error['type'] = self.error_type
        error.update(self.more)
        return {'error': error}


def missing(kind: str, object_id: str, param: str, *, status: int = 400, note: str = '') -> StripeError:
    """What Stripe says when an id names nothing: 404 for the id in the path, else 400."""
    return StripeError(f"No such {kind}: '{object_id}'{note}", status=status,
                       code='resource_missing', param=param)
