-- Row-level security: whose rows each table has.
--
-- Every table that has something of a customer is in this list, under the
-- column that says whose it is, or under NULL where no column says so and
-- customers see nothing.  The test "row_security" wants to know of every table
-- that is not in it.
--
-- The owner, and so every SECURITY DEFINER function, is above this.  Of the
-- others, whoever has the right all_customers sees all rows, customers see
-- their own, and both is known before a row is looked at: in each plan there is
-- one of the two policies left (see billing/visible.c), and who is asking is
-- asked once.  Nobody but the owner gets to write by a policy of a customer's.

DO $do$
DECLARE
    has record;
BEGIN
    FOR has IN
        SELECT 'stripe_portal.' || name AS name, owner, more
        FROM (VALUES
            ('customer', 'id', NULL),
            ('customer_country', 'customer', NULL),
            ('subscription', 'customer', NULL),
            ('subscription_change', 'customer', NULL),
            ('payment_method', 'customer', NULL),
            ('entitlement', 'customer', NULL),
            ('discount', 'customer', NULL),
            ('promotion_code', 'customer', NULL),
            ('invoice', 'customer', NULL),
            ('payment_intent', 'customer', NULL),
            ('payment_attempt', 'customer', NULL),
            ('invoice_payment', NULL, NULL),
            ('dispute', NULL, NULL),
            ('event', NULL, NULL),
            ('session', 'customer', NULL),
            ('cancellation', 'customer', NULL),
            ('forgotten', NULL, NULL),
            ('subscriber_change', NULL, NULL),
            -- nobody knows of an offer before it is made, or that it was held back
            ('winback_offer', 'customer', 'sent_at IS NOT NULL'),
            -- their errors repeat what was in an object
            ('sync_cursor', NULL, NULL),
            ('tick_run', NULL, NULL)) AS list (name, owner, more)
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', has.name);
        EXECUTE format('DROP POLICY IF EXISTS all_customers ON %s', has.name);
        EXECUTE format('DROP POLICY IF EXISTS own ON %s', has.name);
        EXECUTE format('CREATE POLICY all_customers ON %s USING (%s(SELECT stripe_portal.all_customers()))', has.name,
                       CASE WHEN has.owner IS NOT NULL THEN 'stripe_portal.sees_all_customers() AND ' END);
        IF has.owner IS NOT NULL THEN
            EXECUTE format('CREATE POLICY own ON %s FOR SELECT USING (NOT stripe_portal.sees_all_customers()'
                           ' AND (%I, livemode, account) = (SELECT a.customer, a.livemode, a.account'
                           ' FROM stripe_portal.asking_customer(false) AS a)%s)', has.name, has.owner, ' AND ' || has.more);
        END IF;
    END LOOP;
END
$do$;

-- Nobody has rights on a partition, but if somebody had, there would be nothing
-- to see: rows are read by way of the ledger.
DO $do$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN
        SELECT i.inhrelid::regclass FROM pg_inherits AS i WHERE i.inhparent = 'stripe_portal.event'::regclass
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition);
    END LOOP;
END
$do$;

-- Which customer a role or a user is, is for the owner only.
ALTER TABLE stripe_portal.customer_role ENABLE ROW LEVEL SECURITY;
ALTER TABLE stripe_portal.user_mapping ENABLE ROW LEVEL SECURITY;
