"""A stand-in for Stripe's API, for tests and the demo.

Reading order: parameters.py says what may be sent, documents.py works on JSON,
world.py keeps the objects and makes the events; customers.py, catalogue.py,
coupons.py, payment_methods.py, subscriptions.py, invoices.py, payments.py,
entitlements.py, events.py, feedback_options.py and portal.py are the API's calls; visits.py is what a
subscriber does in the portal and billing.py what time brings about; control.py,
control_billing.py and bulk.py are what only a test may ask for; faults.py and
limiter.py are how it misbehaves; versions.py writes events as older API versions
do, webhooks.py signs and delivers them; api.py answers one request and server.py listens.
"""
