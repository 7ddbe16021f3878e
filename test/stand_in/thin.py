"""Thin events: what API v2 destinations receive instead of an event with its object."""

from __future__ import annotations

from datetime import datetime, timezone

from .documents import to_json

# Where the related object is read; kinds that cannot be read by an id have no thin event here.
PATHS = {
    'billing_portal.configuration': '/v1/billing_portal/configurations/', 'charge': '/v1/charges/',
    'coupon': '/v1/coupons/', 'customer': '/v1/customers/', 'dispute': '/v1/disputes/', 'invoice': '/v1/invoices/',
    'invoice_payment': '/v1/invoice_payments/', 'payment_intent': '/v1/payment_intents/',
    'payment_method': '/v1/payment_methods/', 'price': '/v1/prices/', 'product': '/v1/products/',
    'promotion_code': '/v1/promotion_codes/', 'subscription': '/v1/subscriptions/',
}


def thin_payload(event: dict) -> str | None:
    """The text of the thin event that goes with a snapshot event, if there is one."""
    subject = event['data']['object']
    if subject['object'] not in PATHS:
        return None
    created = datetime.fromtimestamp(event['created'], timezone.utc).strftime('%Y-%m-%dT%H:%M:%S.000Z')
    mode = '' if event['livemode'] else 'test_'
    return to_json({
        'id': f"evt_{mode}thin_{event['id'].removeprefix('evt_')}", 'object': 'v2.core.event',
        'type': f"v1.{event['type']}", 'livemode': event['livemode'], 'created': created,
        'context': event.get('account'),
        'related_object': {'id': subject['id'], 'type': subject['object'],
                           'url': PATHS[subject['object']] + subject['id']},
        'reason': {'type': 'request', 'request': event['request']} if event['request']['id'] else None,
        'snapshot_event': event['id']})
