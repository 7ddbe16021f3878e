"""A stand-in for Stripe's API, for tests and the demo.

Reading order: parameters.py says what may be sent, documents.py works on JSON,
world.py keeps the objects and makes the events.  The API's calls are in
customers.py, catalogue.py, coupons.py, payment_methods.py, subscriptions.py,
invoices.py, payments.py, entitlements.py, events.py, feedback_options.py and
portal.py; visits.py is what a subscriber does in the portal, billing.py what time
brings about.  Only a test may ask for what control.py, control_billing.py and
bulk.py do.  faults.py and limiter.py are how it misbehaves, versions.py and
thin.py write events in their other forms, webhooks.py signs and delivers them; api.py
answers one request and server.py listens.
"""
