"""The self-test of the Stripe stand-in, by topic; ../stand_in_test.py runs it."""
