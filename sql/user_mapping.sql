-- Which customer a user of the application is: by the customers' metadata, or
-- by a table of the application.
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE ROLE regress_gateway LOGIN;
CREATE ROLE regress_web_user;
GRANT regress_web_user TO regress_gateway;
CREATE ROLE regress_application;
CREATE ROLE regress_mallory LOGIN;
GRANT regress_web_user TO regress_mallory;
SELECT stripe_portal_grant('regress_web_user', 'customer');
SET stripe_portal.gateway_role = 'regress_gateway';
INSERT INTO stripe_portal.customer (id, livemode, account, metadata, deleted, event, event_created) VALUES
    ('cus_1', false, '', '{"user_id": "1", "team": "7"}', false, '', now()),
    ('cus_2', false, '', '{"user_id": "2", "team": "7"}', false, '', now()),
    ('cus_2_before', false, '', '{"user_id": "2"}', true, '', now()),
    ('cus_3_live', true, '', '{"user_id": "3"}', false, '', now()),
    ('cus_4_account', false, 'acct_1', '{"user_id": "4"}', false, '', now()),
    ('cus_5_deleted', false, '', '{"user_id": "5"}', true, '', now()),
    ('cus_6', false, '', '{"user_id": "quoted '' \" \\ 6"}', false, '', now()),
    ('cus_none', false, '', NULL, false, '', now());
-- who is asking, by these claims: asked by the role that a gateway sets
CREATE FUNCTION who(claims jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE problem text;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN (SELECT customer FROM stripe_portal.asking_customer());
EXCEPTION WHEN insufficient_privilege THEN
    GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
    RETURN problem;
END $$;

-- ---------------------------------------------------------------------------
-- By the customers' metadata
SELECT stripe_portal_map_users(metadata_key => 'user_id');
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SELECT claims, who(claims) FROM (VALUES
    (1, '{"sub": "1"}'::jsonb), (2, '{"sub": "2"}'), (3, '{"sub": "3"}'), (4, '{"sub": "4"}'), (5, '{"sub": "5"}'),
    (6, '{"sub": "quoted '' \" \\ 6"}'), (7, '{"sub": 1}'), (8, '{"sub": 1.0}'), (9, '{"sub": 1e0}'), (10, '{"sub": ["1"]}'),
    (11, '{"sub": {"user_id": "1"}}'), (12, '{"sub": null}'), (13, '{"sub": true}'), (14, '{"sub": ""}'), (15, '{"sub": "none"}'),
    (16, '{"user_id": "1", "stripe_customer": "cus_1"}'), (17, '{"sub": "''; DROP TABLE users; --"}'), (18, '["sub"]'),
    (19, NULL)) AS t (n, claims) ORDER BY n;
-- what gateways used to set
SELECT set_config('request.jwt.claims', '', false), set_config('request.jwt.claim.sub', '2', false);
SELECT * FROM stripe_portal.asking_customer();
SET request.jwt.claims = '{"role": "regress_web_user"}';
SELECT * FROM stripe_portal.asking_customer();
RESET request.jwt.claim.sub;
SELECT * FROM stripe_portal.asking_customer(false);
RESET SESSION AUTHORIZATION;
-- several customers: it is not guessed which, not even where nobody would do
SELECT stripe_portal_map_users(metadata_key => 'team', claim => 'app_metadata.team');
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SET request.jwt.claims = '{"sub": "1", "app_metadata": {"team": "7"}}';
SELECT * FROM stripe_portal.asking_customer(false);
RESET SESSION AUTHORIZATION;
UPDATE stripe_portal.customer SET deleted = true WHERE id = 'cus_2';
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SELECT * FROM stripe_portal.asking_customer();
RESET SESSION AUTHORIZATION;
UPDATE stripe_portal.customer SET deleted = false WHERE id = 'cus_2';
-- a setting of the gateway's instead of a token
SELECT stripe_portal_map_users(metadata_key => 'user_id', setting => 'app.user_id');
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SET request.jwt.claims = '{"sub": "1"}';
SELECT * FROM stripe_portal.asking_customer();
SET app.user_id = '2';
SELECT * FROM stripe_portal.asking_customer();
RESET SESSION AUTHORIZATION;
-- whoever can run SQL can set both, and is believed neither
SET SESSION AUTHORIZATION regress_mallory;
SELECT * FROM stripe_portal.asking_customer();
SET ROLE regress_web_user;
SET request.jwt.claim.sub = '2';
SELECT * FROM stripe_portal.asking_customer();
RESET SESSION AUTHORIZATION;

-- ---------------------------------------------------------------------------
-- By a table of the application
CREATE SCHEMA "The App" AUTHORIZATION regress_application;
SET ROLE regress_application;
CREATE TABLE "The App"."User ""x" ("Id" uuid PRIMARY KEY, "Stripe id" varchar(60));
INSERT INTO "The App"."User ""x" VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'cus_1'), ('6ba7b811-9dad-11d1-80b4-00c04fd430c8', NULL);
CREATE TABLE "The App".account (id integer, number smallint, big bigint, name text, customer text, UNIQUE (number) INCLUDE (customer), UNIQUE (big), UNIQUE (name));
INSERT INTO "The App".account VALUES (1, 1, 9223372036854775807, 'jenny', 'cus_2'), (2, 32767, 7, '', 'cus_1');
CREATE VIEW "The App".account_view AS SELECT * FROM "The App".account;
RESET ROLE;
SELECT stripe_portal_map_users(users => '"The App"."User ""x"', user_column => 'Id', customer_column => 'Stripe id');
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SELECT claims, who(claims) FROM (VALUES
    (1, '{"sub": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}'::jsonb), (2, '{"sub": "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}'),
    (3, '{"sub": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}'), (4, '{"sub": "6ba7b812-9dad-11d1-80b4-00c04fd430c8"}'),
    (5, '{"sub": "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}"}'), (6, '{"sub": "6ba7b810-9dad-11d1-80b4-00c04fd430c8 "}'),
    (7, '{"sub": "6ba7b810"}'), (8, '{"sub": "'' OR true --"}')) AS t (n, claims) ORDER BY n;
RESET SESSION AUTHORIZATION;
CREATE FUNCTION who_by(user_column name, user_id jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stripe_portal_map_users(users => '"The App".account', user_column => user_column, customer_column => 'customer', setting => 'app.user_id');
    PERFORM set_config('app.user_id', user_id #>> '{}', true);
    PERFORM set_config('stripe_portal.gateway_role', session_user, true);
    RETURN who('{}');
END $$;
SELECT user_column, user_id, who_by(user_column, user_id)
FROM (VALUES (1, 'number', '"1"'::jsonb), (2, 'number', '"01"'), (3, 'number', '"32767"'), (4, 'number', '"32768"'), (5, 'number', '"-1"'),
             (6, 'number', '"1 OR true"'), (7, 'number', '"1.0"'), (8, 'big', '"9223372036854775807"'), (9, 'big', '"9223372036854775808"'),
             (10, 'big', '"99999999999999999999"'), (11, 'name', '"jenny"'), (12, 'name', '"Jenny"'), (13, 'name', '""')) AS t (n, user_column, user_id)
ORDER BY n;
-- A deleted customer is nobody, whoever names them.
SELECT who_by('name', '"jenny"');
UPDATE stripe_portal.customer SET deleted = true WHERE id = 'cus_2';
SELECT who_by('name', '"jenny"');
UPDATE stripe_portal.customer SET deleted = false WHERE id = 'cus_2';
-- What the owner of the table could make it run, runs as that owner.
SET ROLE regress_application;
CREATE FUNCTION "The App".hook(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'run as %', current_user; RETURN true; END $$;
ALTER TABLE "The App".account ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY hook ON "The App".account USING ("The App".hook(customer));
RESET ROLE;
SELECT who_by('name', '"jenny"');
-- A table that is gone, or has changed, names nobody.
ALTER TABLE "The App".account RENAME COLUMN name TO nickname;
SELECT * FROM stripe_portal.mapped_customers('"The App".account', 'name', 'customer', 'jenny');
DROP TABLE "The App"."User ""x";
UPDATE stripe_portal.user_mapping SET users = 4294967295::oid;
SELECT * FROM stripe_portal.mapped_customers(4294967295::oid, 'name', 'customer', 'jenny');

-- ---------------------------------------------------------------------------
-- What is refused, and changes nothing
\set VERBOSITY default
SELECT stripe_portal_map_users(metadata_key => 'user_id');
SELECT stripe_portal_map_users(metadata_key => '');
SELECT stripe_portal_map_users('user_id', '"The App".account', 'nickname', 'customer');
SELECT stripe_portal_map_users(users => '"The App".account', user_column => 'nickname');
SELECT stripe_portal_map_users(users => '"The App".account_view', user_column => 'nickname', customer_column => 'customer');
SELECT stripe_portal_map_users(users => '"The App".account', user_column => 'ctid', customer_column => 'customer');
SELECT stripe_portal_map_users(users => '"The App".account', user_column => 'nickname', customer_column => 'id');
SELECT stripe_portal_map_users(users => '"The App".account', user_column => 'id', customer_column => 'customer');
CREATE UNIQUE INDEX ON "The App".account (id) WHERE id > 1;
CREATE UNIQUE INDEX ON "The App".account (id, customer);
SELECT stripe_portal_map_users(users => '"The App".account', user_column => 'id', customer_column => 'customer');
SELECT stripe_portal_map_users(metadata_key => 'user_id', claim => '');
SELECT stripe_portal_map_users(metadata_key => 'user_id', setting => 'role');
SELECT stripe_portal_map_users(metadata_key => 'user_id', setting => 'Stripe_Portal.customer_claim');
SELECT metadata_key, users, user_column, customer_column, claim, setting FROM stripe_portal.user_mapping;
-- without arguments, the token has to name the customer again
SELECT stripe_portal_map_users();
SET SESSION AUTHORIZATION regress_gateway;
SET ROLE regress_web_user;
SELECT claims, who(claims) FROM (VALUES (1, '{"sub": "1", "stripe_customer": "cus_2"}'::jsonb), (2, '{"sub": "1"}'),
    (3, '{"stripe_customer": 2}'), (4, '{"stripe_customer": ["cus_2"]}'), (5, '{"stripe_customer": {"id": "cus_2"}}'),
    (6, '{"stripe_customer": "cus_5_deleted"}')) AS t (n, claims) ORDER BY n;
SELECT stripe_portal_map_users(metadata_key => 'user_id');
UPDATE stripe_portal.user_mapping SET metadata_key = 'team';
RESET SESSION AUTHORIZATION;

-- ---------------------------------------------------------------------------
-- Both ways are fast: the index finds the customer among many.
INSERT INTO stripe_portal.customer (id, livemode, metadata, event, event_created)
SELECT 'cus_many_' || n, false, jsonb_build_object('user_id', 'many_' || n, 'plan', 'x'), '', now() FROM generate_series(1, 20000) AS n;
ANALYZE stripe_portal.customer;
SELECT stripe_portal_map_users(metadata_key => 'user_id');
SELECT set_config('stripe_portal.gateway_role', session_user, false) = session_user AS gateway;
CREATE FUNCTION scans(index regclass, OUT by_index bigint, OUT whole_table bigint) LANGUAGE sql AS $$
    SELECT pg_stat_get_xact_numscans(indexrelid), pg_stat_get_xact_numscans(indrelid) FROM pg_index WHERE indexrelid = index $$;
BEGIN;
SELECT by_index AS by_index_before, whole_table AS whole_table_before FROM scans('stripe_portal.customer_metadata_idx') \gset
SELECT count(*) FILTER (WHERE who(jsonb_build_object('sub', 'many_' || n)) = 'cus_many_' || n) AS found FROM generate_series(1, 20) AS n;
SELECT by_index - :by_index_before AS by_index, whole_table - :whole_table_before AS whole_table FROM scans('stripe_portal.customer_metadata_idx');
ROLLBACK;
RESET stripe_portal.gateway_role;
CREATE TABLE "The App".member (id bigint PRIMARY KEY, customer text);
INSERT INTO "The App".member SELECT n, 'cus_' || n FROM generate_series(1, 20000) AS n;
ANALYZE "The App".member;
BEGIN;
SELECT by_index AS by_index_before, whole_table AS whole_table_before FROM scans('"The App".member_pkey') \gset
SELECT count(*) FILTER (WHERE stripe_portal.mapped_customers('"The App".member', 'id', 'customer', n::text) = ARRAY['cus_' || n]) AS found
FROM generate_series(1, 20) AS n;
SELECT by_index - :by_index_before AS by_index, whole_table - :whole_table_before AS whole_table FROM scans('"The App".member_pkey');
ROLLBACK;

SELECT stripe_portal_map_users();
DROP FUNCTION who, who_by, scans;
SET client_min_messages = warning;
DROP SCHEMA "The App" CASCADE;
DROP OWNED BY regress_gateway, regress_web_user, regress_application, regress_mallory;
DROP ROLE regress_gateway, regress_web_user, regress_application, regress_mallory;
TRUNCATE stripe_portal.customer;
