-- billing: locks that nobody else can take.

CREATE OR REPLACE FUNCTION stripe_portal.lock(name text)
RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stripe_lock';

COMMENT ON FUNCTION stripe_portal.lock(text) IS
'Waits for the lock of that name, and holds it until the end of the transaction. No advisory lock, so that nobody else can hold it';

CREATE OR REPLACE FUNCTION stripe_portal.try_lock(name text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stripe_try_lock';

COMMENT ON FUNCTION stripe_portal.try_lock(text) IS
'The same without waiting: false if another transaction holds the lock';
