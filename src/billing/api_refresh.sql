-- billing: reading one customer from Stripe now.

CREATE OR REPLACE FUNCTION @extschema@.stripe_refresh(
    customer text, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS integer
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_refresh';

COMMENT ON FUNCTION @extschema@.stripe_refresh(text, text, boolean) IS
'Reads one customer and all their subscriptions, the canceled ones included, from Stripe and makes the tables show them, unless these show something newer. Gives the number of objects read; 0 if Stripe knows no such customer. Of one who was deleted, or whom Stripe does not know, those subscriptions are read that go on here; what Stripe does not know is deleted here, or a subscription canceled, and nothing is written of a customer who is not here. No lock is held while Stripe is waited for. account: a connected account. livemode: NULL is the mode of the configured key, the only one that can be read; the other is error SPC01. Errors otherwise as in stripe_api, and SP502 for an answer without a date, which could not be put in order';
