"""A stand-in for Stripe's API, for tests and the demo.

Reading order: parameters.py says what may be sent, world.py keeps the objects
and makes the events, resources.py, subscriptions.py and portal.py are the
API's calls, control.py is what only a test may ask for, faults.py is how it
misbehaves, webhooks.py signs and delivers, api.py answers one request and
server.py listens.
"""
