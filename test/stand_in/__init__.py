"""A stand-in for Stripe's API, for tests and the demo.

Reading order: parameters.py says what may be sent, documents.py works on JSON,
world.py keeps the objects and makes the events; customers.py, catalogue.py,
coupons.py, payment_methods.py, subscriptions.py, invoices.py, payments.py,
entitlements.py, events.py, feedback_options.py and portal.py are the API's calls;
billing.py is what time brings about; control.py and control_billing.py are what
only a test may ask for; faults.py and limiter.py are how it misbehaves; webhooks.py
signs and delivers, api.py answers one request and server.py listens.
"""
