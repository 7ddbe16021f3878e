-- Whose rows who sees: customers their own, and no other role any but by a right.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_gateway LOGIN;
CREATE ROLE regress_web_user;
CREATE ROLE regress_reader;
CREATE ROLE regress_by_hand;
GRANT regress_web_user, regress_reader, regress_by_hand TO regress_gateway;
SELECT stripe_portal_grant('regress_web_user', 'customer'), stripe_portal_grant('regress_reader', 'reader');
SET stripe_portal.gateway_role = 'regress_gateway';

-- ---------------------------------------------------------------------------
-- Every table is under row-level security, or holds nothing of customers.  If
-- yours is listed here: does it have anything of a customer?  Then it belongs in
-- src/row_security.sql, else into this list.
SELECT c.relname AS open_table
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
  AND c.relname NOT IN ('product', 'price', 'coupon', 'decline_code', 'access_rule', 'configuration', 'billing_portal_configuration',
                        'event_handler', 'event_cursor', 'looked_through', 'winback_rule')
ORDER BY 1;
-- the policies: all alike
SELECT count(*) AS tables, p.polname, p.polcmd, p.polroles = '{0}' AS for_all,
       regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g') AS using_what
FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
WHERE c.relnamespace = 'stripe_portal'::regnamespace
GROUP BY 2, 3, 4, 5 ORDER BY 2, 1 DESC, 5;
-- Every view goes by the rights of whoever asks, or asks for the right to see
-- all, or is nobody's, or tells nothing of a single customer.
SELECT c.relname AS open_view
FROM pg_class AS c
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind = 'v'
  AND NOT 'security_invoker=true' = ANY (coalesce(c.reloptions, '{}'))
  AND NOT position('( SELECT stripe_portal.all_customers()' IN pg_get_viewdef(c.oid)) > 0
  AND c.relname NOT IN ('session_state', 'observed_change', 'winback_case', 'winback_outbox', 'winback_lift',
                        'sync_kind', 'personal_column', 'read_kind', 'tick_part', 'capability', 'advice')
ORDER BY 1;
SELECT object AS open_view FROM stripe_portal.capability
WHERE object IN ('session_state', 'observed_change', 'winback_case', 'winback_outbox', 'winback_lift');
-- no policy holds back the owner, who is everybody in a SECURITY DEFINER function
SELECT count(*) AS forced FROM pg_class AS c WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relforcerowsecurity;

-- ---------------------------------------------------------------------------
TRUNCATE stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.payment_method, stripe_portal.entitlement,
    stripe_portal.discount, stripe_portal.promotion_code, stripe_portal.invoice, stripe_portal.payment_intent, stripe_portal.payment_attempt,
    stripe_portal.invoice_payment, stripe_portal.dispute, stripe_portal.event, stripe_portal.session, stripe_portal.cancellation,
    stripe_portal.winback_offer, stripe_portal.sync_cursor, stripe_portal.tick_run, stripe_portal.customer_role, stripe_portal.customer_country;
DO $$ BEGIN PERFORM stripe_portal.tend_ledger(); END $$;
-- One row of each of three customers in each table: ours; somebody else's; ours
-- in the other mode and on a connected account, and that is somebody else too.
SET session_replication_role = replica;
CREATE FUNCTION one_row(of_table regclass, customer text, livemode boolean, account text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    value jsonb;
BEGIN
    -- whatever has to be there, and what should not be seen
    SELECT jsonb_object_agg(a.attname, CASE
               WHEN a.attname = 'items' THEN '[{"id": "si_1"}]'
               WHEN a.attname IN ('discounts', 'payload') THEN '[]'
               WHEN t.typname = 'text' THEN to_jsonb(one_row.customer)
               WHEN t.typname = '_text' THEN '["secret"]'
               WHEN t.typname = 'jsonb' THEN '{"secret": true}'
               WHEN t.typname = 'bool' THEN 'false'
               WHEN t.typname = 'uuid' THEN to_jsonb(gen_random_uuid())
               WHEN t.typname = 'timestamptz' THEN to_jsonb(now())
               ELSE '1' END::jsonb)
    INTO value
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = of_table AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attnotnull OR a.attname IN ('customer', 'comment', 'code', 'sent_at', 'error', 'payload', 'refused', 'created'));
    value := value || jsonb_build_object('livemode', livemode, 'account', account)
        || CASE of_table::text WHEN 'stripe_portal.event' THEN '{"status": "failed"}'
                               WHEN 'stripe_portal.winback_offer' THEN '{"state": "sent"}' ELSE '{}' END::jsonb;
    EXECUTE format('INSERT INTO %1$s SELECT (jsonb_populate_record(NULL::%1$s, $1)).*', of_table) USING value;
END $$;
SELECT count(one_row(c.oid, customer, livemode, account)) AS rows
FROM pg_class AS c, (VALUES ('cus_me', false, ''), ('cus_you', false, ''), ('cus_me', true, ''), ('cus_me', false, 'acct_1')) AS k (customer, livemode, account)
WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relrowsecurity
  AND c.relname NOT IN ('customer_role', 'user_mapping', 'tick_run');
INSERT INTO stripe_portal.tick_run (part, started, error) VALUES ('none', now(), 'secret');
INSERT INTO stripe_portal.customer_role (role, livemode, customer) VALUES ('regress_other', false, 'cus_you');
INSERT INTO stripe_portal.winback_offer (rule, livemode, customer, episode, trigger_on, kind, at, state, due_at, expires_at)
SELECT 'secret', false, 'cus_me', state, 'ended', 'message', now(), state, now(), now() FROM unnest('{planned,held_out,claimed,expired}'::text[]) AS state;
INSERT INTO stripe_portal.session (livemode, customer, refused, return_until) VALUES (false, 'cus_you', 'not_active', 'infinity');
RESET session_replication_role;

-- What a role sees of each table and view, with rights on all there is: in all,
-- and of others than cus_me in test mode.
GRANT USAGE ON SCHEMA stripe_portal TO regress_by_hand;
GRANT SELECT ON ALL TABLES IN SCHEMA stripe_portal TO regress_web_user, regress_by_hand;
CREATE FUNCTION seen(others boolean) RETURNS TABLE (name text, n bigint, denied text) LANGUAGE plpgsql AS $$
DECLARE
    own text;
BEGIN
    FOR name, own IN
        SELECT c.relname, coalesce((SELECT format(' WHERE (%I, livemode, account) <> (''cus_me'', false, '''')', a.attname)
                                    FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = CASE c.relname WHEN 'customer' THEN 'id' ELSE 'customer' END), '')
        FROM pg_class AS c
        WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          -- what holds nothing of customers, and what is nobody's
          AND c.relname NOT IN ('product', 'looked_through', 'price', 'coupon', 'decline_code', 'access_rule', 'configuration', 'billing_portal_configuration',
                                'event_handler', 'event_cursor', 'winback_rule', 'configuration_drift',
                                'sync_kind', 'personal_column', 'read_kind', 'tick_part', 'capability', 'advice',
                                'session_state', 'observed_change', 'winback_case', 'winback_outbox', 'winback_lift')
        ORDER BY 1
    LOOP
        n := NULL;
        denied := NULL;
        BEGIN
            EXECUTE format('SELECT count(*) FROM stripe_portal.%I', name) || CASE WHEN others THEN own ELSE '' END INTO n;
        EXCEPTION WHEN insufficient_privilege THEN
            denied := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT name, n FROM seen(false) WHERE n > 0;
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SET request.jwt.claims = '{"stripe_customer": "cus_me"}';
SELECT name, n FROM seen(false) WHERE n > 0;
SELECT name, n FROM seen(true) WHERE n > 0 AND name <> 'tick_status';
SELECT name, denied FROM seen(false) WHERE denied IS NOT NULL;
-- an offer is there once it was sent, and one that was held back never
SELECT state FROM stripe_portal.winback_offer;
-- a user who is no customer has no rows, and that is no error
SET request.jwt.claims = '{"sub": "1"}';
SELECT sum(n) AS rows FROM seen(false) WHERE name NOT LIKE 'tick%';
-- with rights but not this one, an error says so
SET ROLE regress_by_hand;
SELECT name, n, denied FROM seen(false);
RESET SESSION AUTHORIZATION;
REVOKE ALL ON ALL TABLES IN SCHEMA stripe_portal FROM regress_web_user, regress_by_hand;
SELECT stripe_portal_grant('regress_web_user', 'customer');

-- What each capability sees: the tables and columns it has, and all of the rows, or one's own.
CREATE FUNCTION visible(capability text) RETURNS TABLE (name text, n bigint) LANGUAGE plpgsql AS $$
DECLARE
    columns text;
BEGIN
    FOR name, columns IN
        SELECT c.object, coalesce(substring(c.privilege FROM '\((.*)\)'), '*') FROM stripe_portal.capability AS c
        JOIN pg_class AS k ON k.relname = c.object AND k.relnamespace = 'stripe_portal'::regnamespace
        WHERE c.capability = visible.capability AND c.privilege LIKE 'SELECT%'
          AND (k.relkind = 'v' OR k.relrowsecurity) AND c.object NOT IN ('sync_kind', 'personal_column', 'tick_part', 'tick_status', 'capability', 'advice', 'configuration_drift')
        ORDER BY 1
    LOOP
        EXECUTE format('SELECT count(t) FROM (SELECT %s FROM stripe_portal.%I) AS t', columns, name) INTO n;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION visible_list(capability text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('%s of %s', n, string_agg(name, ', ' ORDER BY name)) FROM visible(capability) GROUP BY n ORDER BY n $$;
GRANT SELECT ON stripe_portal.capability TO regress_web_user, regress_reader;
SET SESSION AUTHORIZATION regress_gateway;
SET request.jwt.claims = '{"stripe_customer": "cus_me"}';
SET ROLE regress_web_user;
SELECT * FROM visible_list('customer');
-- of another customer, with the same plans
SET request.jwt.claims = '{"stripe_customer": "cus_you"}';
SELECT * FROM visible_list('customer');
SELECT customer, refused FROM stripe_portal.session;
SET request.jwt.claims = '{"stripe_customer": "cus_none"}';
SELECT * FROM visible_list('customer');
SET ROLE regress_reader;
SELECT * FROM visible_list('reader');
-- the same for those who log in themselves
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_other LOGIN;
GRANT regress_web_user TO regress_other;
SET SESSION AUTHORIZATION regress_other;
SET request.jwt.claims = '{"stripe_customer": "cus_me"}';
SELECT id FROM stripe_portal.customer;
SELECT customer, comment FROM stripe_portal.cancellation;
RESET SESSION AUTHORIZATION;
-- Reports go by EXECUTE: a reader has all, a customer not one.
SELECT p.proname AS report_for_customers
FROM pg_proc AS p JOIN stripe_portal.capability AS c ON c.object = p.proname AND c.capability = 'reader' AND c.privilege = 'EXECUTE'
WHERE has_function_privilege('regress_web_user', p.oid, 'EXECUTE');

-- ---------------------------------------------------------------------------
-- It costs once for each query: no row is asked, and a customer's rows are
-- found by the index.
INSERT INTO stripe_portal.invoice (id, livemode, customer, event, event_created)
SELECT 'in_' || n, false, 'cus_' || n / 4, '', now() FROM generate_series(1, 20000) AS n;
ANALYZE stripe_portal.invoice;
CREATE FUNCTION plan(query text) RETURNS TABLE (node text, of text, loops int, rows int, condition text) LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) ' || query INTO plan;
    RETURN QUERY
        WITH RECURSIVE nodes AS (
            SELECT plan #> '{0,Plan}' AS n
            UNION ALL
            SELECT json_array_elements(n -> 'Plans') FROM nodes)
        SELECT n ->> 'Node Type', coalesce(n ->> 'Relation Name', n ->> 'Parent Relationship'), (n ->> 'Actual Loops')::int, (n ->> 'Actual Rows')::numeric::int,
               -- a parameter of an InitPlan is written in more than one way
               regexp_replace(coalesce(n ->> 'Index Cond', n ->> 'Filter'), '\$\d|\(InitPlan \d\)(\.col\d)?', 'it', 'g')
        FROM nodes;
END $$;
SET max_parallel_workers_per_gather = 0;
SET enable_bitmapscan = off;
SET SESSION AUTHORIZATION regress_gateway;
SET request.jwt.claims = '{"stripe_customer": "cus_77"}';
SET ROLE regress_web_user;
SELECT * FROM plan('SELECT id FROM stripe_portal.invoice') ORDER BY node;
SELECT * FROM plan('SELECT count(id) FROM stripe_portal.invoice') ORDER BY node;
SET ROLE regress_reader;
SELECT * FROM plan('SELECT id FROM stripe_portal.invoice') ORDER BY node;
RESET SESSION AUTHORIZATION;
RESET enable_bitmapscan;
-- the owner's plans are what they were
SELECT node, of FROM plan('SELECT id FROM stripe_portal.invoice');
RESET max_parallel_workers_per_gather;

-- ---------------------------------------------------------------------------
-- A plan that is kept is made anew for another role; what it was made for is
-- looked at each time.
SET SESSION AUTHORIZATION regress_gateway;
SET request.jwt.claims = '{"stripe_customer": "cus_me"}';
SET plan_cache_mode = force_generic_plan;
SET ROLE regress_reader;
PREPARE subscriptions AS SELECT count(id) FROM stripe_portal.subscription;
EXECUTE subscriptions;
SET ROLE regress_web_user;
EXECUTE subscriptions;
SET request.jwt.claims = '{"stripe_customer": "cus_none"}';
EXECUTE subscriptions;
SET ROLE regress_reader;
EXECUTE subscriptions;
RESET SESSION AUTHORIZATION;
REVOKE EXECUTE ON FUNCTION stripe_portal.all_customers FROM regress_reader;
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_reader;
EXECUTE subscriptions;
RESET SESSION AUTHORIZATION;
GRANT EXECUTE ON FUNCTION stripe_portal.all_customers TO regress_reader;
-- of a right that comes with a role
GRANT regress_reader TO regress_other;
SET SESSION AUTHORIZATION regress_other;
SET request.jwt.claims = '';
PREPARE customers AS SELECT count(id) FROM stripe_portal.customer;
EXECUTE customers;
RESET SESSION AUTHORIZATION;
REVOKE regress_reader FROM regress_other;
SET SESSION AUTHORIZATION regress_other;
EXECUTE customers;
SELECT count(id) FROM stripe_portal.customer;
DEALLOCATE ALL;
RESET plan_cache_mode;
-- Without row-level security, or none at all: not a part of the rows, as a dump would be.
SET row_security = off;
SELECT count(id) FROM stripe_portal.customer;
COPY stripe_portal.customer (id) TO STDOUT;
RESET SESSION AUTHORIZATION;
SET ROLE regress_reader;
SELECT count(id) FROM stripe_portal.customer;
RESET ROLE;
ALTER ROLE regress_reader BYPASSRLS;
SET ROLE regress_reader;
SELECT count(id) FROM stripe_portal.customer;
RESET ROLE;
RESET row_security;
ALTER ROLE regress_reader NOBYPASSRLS;
-- Statistics tell what is in the rows of others: not here.
ANALYZE stripe_portal.customer, stripe_portal.subscription;
SELECT count(*) > 0 AS told FROM pg_stats WHERE schemaname = 'stripe_portal' AND tablename = 'customer';
SET ROLE regress_other;
SELECT count(*) FROM pg_stats WHERE schemaname = 'stripe_portal';
SET ROLE regress_reader;
SELECT count(*) FROM pg_stats WHERE schemaname = 'stripe_portal' AND tablename = 'customer';
RESET ROLE;
-- New partitions are closed as well.
SELECT count(*) FILTER (WHERE action = 'made') > 0 AS made FROM stripe_portal.tend_ledger(12);
SELECT count(*) FILTER (WHERE relrowsecurity) = count(*) AS closed FROM pg_class WHERE oid IN (SELECT partition FROM stripe_portal.event_partitions());

DROP FUNCTION one_row, seen, visible_list, visible, plan;
REVOKE regress_web_user FROM regress_other;
DROP OWNED BY regress_gateway, regress_web_user, regress_reader, regress_by_hand, regress_other;
DROP ROLE regress_gateway, regress_web_user, regress_reader, regress_by_hand, regress_other;
TRUNCATE stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.payment_method, stripe_portal.entitlement,
    stripe_portal.discount, stripe_portal.promotion_code, stripe_portal.invoice, stripe_portal.payment_intent, stripe_portal.payment_attempt,
    stripe_portal.invoice_payment, stripe_portal.dispute, stripe_portal.event, stripe_portal.session, stripe_portal.cancellation,
    stripe_portal.winback_offer, stripe_portal.sync_cursor, stripe_portal.tick_run, stripe_portal.customer_role, stripe_portal.customer_country;
