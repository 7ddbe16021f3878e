"""Declined payments: from a decline code to everything Stripe says about it."""

from __future__ import annotations

from .errors import StripeError

# Decline codes that are error codes themselves; the others are told as card_declined.
OWN_CODE = ('authentication_required', 'expired_card', 'incorrect_cvc', 'incorrect_number', 'incorrect_zip',
            'processing_error')

# The network's own code, and the advice that some declines come with.
NETWORK_CODES = {'do_not_honor': '05', 'expired_card': '54', 'insufficient_funds': '51', 'lost_card': '41',
                 'pickup_card': '04', 'stolen_card': '43', 'transaction_not_allowed': '57'}
ADVICE = {'expired_card': 'confirm_card_data', 'incorrect_number': 'confirm_card_data',
          'insufficient_funds': 'try_again_later', 'issuer_not_available': 'try_again_later',
          'lost_card': 'do_not_try_again', 'pickup_card': 'do_not_try_again',
          'processing_error': 'try_again_later', 'stolen_card': 'do_not_try_again'}
NETWORK_ADVICE = {'do_not_try_again': '03', 'try_again_later': '02', 'confirm_card_data': '01'}


def describe(decline_code: str, given: dict | None = None) -> dict:
    """The codes of a decline; what a test gives goes before what we think likely."""
    given = given or {}
    advice = given.get('advice_code', ADVICE.get(decline_code))
    return {
        'code': decline_code if decline_code in OWN_CODE else 'card_declined',
        'decline_code': decline_code,
        'advice_code': advice,
        'network_advice_code': given.get('network_advice_code', NETWORK_ADVICE.get(advice)),
        'network_decline_code': given.get('network_decline_code', NETWORK_CODES.get(decline_code)),
        'type': given.get('outcome_type', 'issuer_declined'),
        'message': 'Your card has expired.' if decline_code == 'expired_card' else 'Your card was declined.',
    }


def error_members(described: dict) -> dict:
    """The codes as an error object and last_payment_error hold them: those that are known."""
    return {name: described[name] for name in ('advice_code', 'decline_code', 'network_advice_code',
                                               'network_decline_code') if described[name] is not None}


def declined(decline_code: str, *, described: dict | None = None, more: dict | None = None) -> StripeError:
    """The error that a request gets whose payment was declined."""
    described = described or describe(decline_code)
    return StripeError(described['message'], status=402, code=described['code'], error_type='card_error', kept=True,
                       more={**error_members(described), **(more or {})})


def outcome_of(described: dict | None) -> dict:
    """charge.outcome, of a payment that was declined as described or that succeeded."""
    if described is None:
        return {'advice_code': None, 'network_advice_code': None, 'network_decline_code': None,
                'network_status': 'approved_by_network', 'reason': None, 'risk_level': 'normal',
                'seller_message': 'Payment complete.', 'type': 'authorized'}
    blocked = described['type'] in ('blocked', 'invalid')
    return {'advice_code': described['advice_code'], 'network_advice_code': described['network_advice_code'],
            'network_decline_code': described['network_decline_code'],
            'network_status': 'not_sent_to_network' if blocked else 'declined_by_network',
            'reason': described['decline_code'], 'risk_level': 'highest' if blocked else 'normal',
            'seller_message': 'The payment was declined.', 'type': described['type']}
