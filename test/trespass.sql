-- The attempts of sql/trespass.sql, one statement in each line.  A line of "= name"
-- begins a section; each section is made by one role, in a session of its own.

= claims

-- 1. The claims of a token of her own making, with the customer's id or the user's.
SET request.jwt.claims = '{"stripe_customer": "cus_v", "sub": "v"}';
SELECT name FROM stripe_portal.customer WHERE id = 'cus_v';
-- 2. The same in the settings of older gateways, and in one of the application.
SELECT set_config('request.jwt.claims', '', false), set_config('request.jwt.claim.stripe_customer', 'cus_v', false), set_config('app.user_id', 'v', false);
SELECT name FROM stripe_portal.customer WHERE id = 'cus_v';
-- 3. The setting that says whose tokens are believed.
SET stripe_portal.gateway_role = 'regress_mallory';
= before_load
-- 4. The same before the extension's library is loaded, when it is a setting like any other.
SET stripe_portal.gateway_role = 'regress_mallory';
SET request.jwt.claims = '{"stripe_customer": "cus_v"}';
SELECT name FROM stripe_portal.customer WHERE id = 'cus_v';
= names
-- 5. The role of the gateway, or of somebody else.
SET ROLE regress_gateway;
SET SESSION AUTHORIZATION regress_victor;
SET SESSION AUTHORIZATION DEFAULT;
-- 6. Somebody else's name or password.
BEGIN;
ALTER ROLE regress_victor RENAME TO regress_eve;
ROLLBACK;
BEGIN;
ALTER ROLE regress_victor PASSWORD 'mallory';
ROLLBACK;
-- 7. A row that says that she is somebody else, or a user.
BEGIN;
UPDATE stripe_portal.customer_role SET customer = 'cus_v' WHERE role = current_user;
ROLLBACK;
BEGIN;
INSERT INTO stripe_portal.customer_role VALUES ('regress_mallory', true, '', 'cus_v');
ROLLBACK;
SELECT role, customer FROM stripe_portal.customer_role WHERE customer = 'cus_v';
-- 8. Another mapping.
BEGIN;
SELECT stripe_portal_map_users(metadata_key => 'name');
ROLLBACK;
BEGIN;
INSERT INTO stripe_portal.user_mapping (metadata_key, claim) VALUES ('name', 'sub');
ROLLBACK;
-- 9. Metadata of hers that has somebody else's user id.
BEGIN;
UPDATE stripe_portal.customer SET metadata = '{"user_id": "v"}' WHERE id = 'cus_m';
ROLLBACK;

= portal
SET request.jwt.claims = '{"stripe_customer": "cus_m"}';
-- 10. The customer as an argument.
SELECT stripe_portal_session('cus_v') LIKE 'http%' AS opened;
SELECT refused FROM stripe_portal_open('cus_v');
SELECT stripe_portal.open_session('cus_v', NULL, NULL, NULL, '{}') LIKE 'http%' AS opened;
-- 11. The customer, or an account, as an option.
SELECT stripe_my_portal_session(options => '{"customer": "cus_v"}') LIKE 'http%' AS opened;
SELECT stripe_my_portal_session(options => '{"account": "acct_v"}') LIKE 'http%' AS opened;
-- 12. Somebody else's subscription, in every disguise.
SELECT stripe_my_portal_session(flow => 'subscription_cancel', options => '{"subscription": "sub_v"}');
SELECT stripe_my_portal_session(flow => 'subscription_cancel', options => '{"subscription": "sub_m", "\u0073ubscription": "sub_v"}');
SELECT stripe_my_portal_session(flow => 'subscription_cancel', options => '{"subscription": {"id": "sub_v"}}');
SELECT stripe_my_portal_session(flow => 'subscription_cancel', options => '{"subscription": ["sub_v"]}');
SELECT stripe_my_portal_session(flow => 'subscription_cancel', options => '{"flow_data": {"subscription_cancel": {"subscription": "sub_v"}}}');
-- 13. A flow, or a return URL, that carries another customer along.
SELECT stripe_my_portal_session(flow => 'portal&customer=cus_v');
SELECT stripe_my_portal_session('https://app.example.com/?a=1&customer=cus_v') LIKE 'http%' AS opened_hers;
SELECT stripe_my_portal_session(E'https://app.example.com/\r\nX: &customer=cus_v');
-- 14. The way back of her own session, to a host of hers that learns of it.
SELECT stripe_my_portal_session('https://mallory.example/?t={token}');
SELECT stripe_my_portal_session('https://app.example.com@mallory.example/');
-- 15. A row in the ledger of sessions.
BEGIN;
INSERT INTO stripe_portal.session (livemode, customer, stripe_id) VALUES (false, 'cus_v', 'bps_1');
ROLLBACK;
-- whose portal was opened, if any was
SELECT DISTINCT customer FROM stripe_portal.session ORDER BY 1;

= rows
-- 16. By asking for them.
SELECT comment FROM stripe_portal.cancellation WHERE comment LIKE '%victor%';
SELECT id FROM stripe_portal.subscription WHERE id = 'sub_v' UNION SELECT id FROM stripe_portal.subscription_item WHERE customer = 'cus_v' ORDER BY 1;
SELECT count(*) > 0 AS found FROM stripe_portal.session WHERE customer = 'cus_v';
-- 17. By where they lie.
SELECT name FROM stripe_portal.customer WHERE ctid IN ('(0,1)', '(0,2)', '(0,3)', '(0,4)', '(0,5)') AND name = 'victor';
SELECT name FROM stripe_portal.customer TABLESAMPLE system (100) WHERE name = 'victor';
-- 18. Without row-level security, or without the table's.
SET row_security = off;
SELECT name FROM stripe_portal.customer WHERE name = 'victor';
RESET row_security;
BEGIN;
ALTER TABLE stripe_portal.customer DISABLE ROW LEVEL SECURITY;
ROLLBACK;
BEGIN;
CREATE POLICY all_of_it ON stripe_portal.customer USING (true);
ROLLBACK;
BEGIN;
DROP POLICY own ON stripe_portal.customer;
ROLLBACK;
-- 19. By the right to see all, granted to herself, or replaced.
BEGIN;
GRANT EXECUTE ON FUNCTION stripe_portal.all_customers TO regress_mallory;
ROLLBACK;
BEGIN;
SELECT stripe_portal_grant('regress_mallory', 'reader');
ROLLBACK;
BEGIN;
CREATE OR REPLACE FUNCTION stripe_portal.sees_all_customers() RETURNS boolean LANGUAGE sql AS 'SELECT true';
ROLLBACK;
SELECT stripe_portal.all_customers();
= leaks
-- 20. A function that tells what it is asked about, cheaper than any other.
CREATE FUNCTION mallory.leak(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN false; END $$;
SELECT FROM stripe_portal.cancellation WHERE mallory.leak(comment);
-- 21. The same as an operator, in front of the server's own.
CREATE FUNCTION mallory.leak_equal(a text, b text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked % %', a, b; RETURN true; END $$;
CREATE OPERATOR mallory.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mallory.leak_equal);
SET search_path = mallory, pg_catalog, public;
SELECT name FROM stripe_portal.customer WHERE name = 'victor';
SELECT stripe_my_portal_session('https://app.example.com') LIKE 'http%' AS opened_hers;
RESET search_path;
-- 22. The same in a view, with barrier and without; and in an index.
CREATE VIEW mallory.peep WITH (security_barrier) AS SELECT comment FROM stripe_portal.cancellation WHERE mallory.leak(comment) IS NOT NULL;
SELECT comment FROM mallory.peep WHERE comment LIKE '%victor%';
BEGIN;
CREATE INDEX ON stripe_portal.cancellation ((mallory.leak(comment)));
ROLLBACK;
BEGIN;
CREATE STATISTICS stripe_portal.told ON customer, comment FROM stripe_portal.cancellation;
ROLLBACK;
= knows
-- 23. What the server knows of the columns' values.
SELECT histogram_bounds FROM pg_stats WHERE schemaname = 'stripe_portal' AND tablename = 'cancellation' AND attname = 'comment' AND histogram_bounds::text LIKE '%victor%';
SELECT count(*) > 0 AS told FROM pg_statistic WHERE starelid = 'stripe_portal.cancellation'::regclass;
-- 24. Errors that depend on the rows.
SELECT 1 / (CASE WHEN name = 'victor' THEN 0 ELSE 1 END) AS nothing_wrong FROM stripe_portal.customer ORDER BY 1 LIMIT 1;
SELECT name::integer FROM stripe_portal.customer WHERE id = 'cus_v';
-- 25. Errors that depend on what is there already: it is the same for what is, and what is not.
BEGIN;
INSERT INTO stripe_portal.customer (id, livemode, event, event_created) VALUES ('cus_v', false, '', now());
ROLLBACK;
BEGIN;
INSERT INTO stripe_portal.customer (id, livemode, event, event_created) VALUES ('cus_none', false, '', now()) ON CONFLICT DO NOTHING;
ROLLBACK;
CREATE TABLE mallory.guess (id text, livemode boolean, account text);
ALTER TABLE mallory.guess ADD FOREIGN KEY (id, livemode, account) REFERENCES stripe_portal.customer;
-- 26. Queries inside of functions of the server, and copies that are refreshed.
SELECT query_to_xml('SELECT name FROM stripe_portal.customer', true, false, '')::text LIKE '%victor%' AS told;
CREATE MATERIALIZED VIEW mallory.copied AS SELECT comment FROM stripe_portal.cancellation;
REFRESH MATERIALIZED VIEW mallory.copied;
SELECT comment FROM mallory.copied WHERE comment LIKE '%victor%';
COPY (SELECT name FROM stripe_portal.customer WHERE name = 'victor') TO STDOUT;
-- 27. Columns that are the merchant's business, of her own row, in every way to name them.
SELECT metadata ->> 'user_id' AS metadata FROM stripe_portal.customer WHERE id = 'cus_m';
SELECT c IS NOT NULL AS whole_row FROM stripe_portal.customer AS c WHERE id = 'cus_m';
SELECT count(to_jsonb(c)) FROM stripe_portal.customer AS c WHERE id = 'cus_m';
SELECT count(*) FROM (TABLE stripe_portal.customer) AS c;
-- 28. What events hold, in the ledger, its partitions, and what went wrong with them.
SELECT payload FROM stripe_portal.event WHERE id = 'evt_v';
SELECT count(*) >= 0 AS told FROM stripe_portal.event_default;
SELECT error FROM stripe_portal.event_failed WHERE id = 'evt_v';
-- 29. Views and reports for others.
SELECT count(*) > 0 AS told FROM stripe_portal.session_unreturned;
SELECT count(*) >= 0 AS told FROM stripe_portal.winback_case;
SELECT stripe_churn_report() IS NOT NULL AS told;
SELECT comment FROM stripe_cancel_comments('victor');
SELECT count(*) >= 0 AS told FROM stripe_drift();
-- 30. Plans that were made before, and cursors.
PREPARE peep AS SELECT name FROM stripe_portal.customer WHERE name = 'victor';
EXECUTE peep;
BEGIN;
DECLARE peep CURSOR WITH HOLD FOR SELECT name FROM stripe_portal.customer WHERE name = 'victor';
COMMIT;
FETCH ALL FROM peep;
CLOSE peep;

= writes
-- 31. With what writes tables.
BEGIN;
UPDATE stripe_portal.subscription SET status = 'canceled' WHERE id = 'sub_v';
ROLLBACK;
BEGIN;
DELETE FROM stripe_portal.cancellation WHERE customer = 'cus_v' RETURNING comment;
ROLLBACK;
BEGIN;
MERGE INTO stripe_portal.customer AS c USING (SELECT 'cus_v' AS id) AS v ON c.id = v.id WHEN MATCHED THEN UPDATE SET email = 'mallory@example.com';
ROLLBACK;
BEGIN;
TRUNCATE stripe_portal.cancellation;
ROLLBACK;
BEGIN;
SELECT id FROM stripe_portal.subscription WHERE id = 'sub_v' FOR UPDATE;
ROLLBACK;
BEGIN;
LOCK TABLE stripe_portal.subscription IN ACCESS SHARE MODE;
ROLLBACK;
-- 32. With what hangs on tables.
CREATE FUNCTION mallory.on_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
BEGIN;
CREATE TRIGGER hers BEFORE UPDATE ON stripe_portal.subscription FOR EACH ROW EXECUTE FUNCTION mallory.on_write();
ROLLBACK;
BEGIN;
CREATE RULE hers AS ON UPDATE TO stripe_portal.subscription DO INSTEAD NOTHING;
ROLLBACK;
BEGIN;
CREATE TABLE mallory.part PARTITION OF stripe_portal.event FOR VALUES FROM ('1999-01-01') TO ('1999-02-01');
ROLLBACK;
BEGIN;
CREATE TABLE mallory.child () INHERITS (stripe_portal.customer);
ROLLBACK;
BEGIN;
INSERT INTO stripe_portal.event_handler VALUES ('*', 'mallory.on_event');
ROLLBACK;
-- 33. With what writes for the extension.
BEGIN;
SELECT count(stripe_portal.apply_object('{"object": "customer", "id": "cus_v", "name": "mallory"}', false, '', now()));
ROLLBACK;
BEGIN;
SELECT stripe_portal.receive_event('{"id": "evt_1", "livemode": false, "object": "event"}') IS NOT NULL AS received;
ROLLBACK;
BEGIN;
SELECT count(stripe_portal.sync_write('{}', 1));
ROLLBACK;
SELECT event FROM stripe_replay(failed_only => true);
SELECT stripe_refresh('cus_v') > 0 AS read;
SELECT count(stripe_api('GET', '/v1/customers/cus_v'));
-- 34. With a webhook of her own making.
SELECT outcome FROM stripe_receive_webhook('{}', stripe_sign_webhook('{}', 'whsec_mallory'));

= offers
-- 35. Offers to others, and what was held back from her or is to come.
SELECT customer, code FROM stripe_portal.winback_offer WHERE customer = 'cus_v' OR sent_at IS NULL ORDER BY code;
SELECT count(*) FROM stripe_portal.winback_offer WHERE state = 'held_out';
-- 36. What is in the outbox, and the links in it.
BEGIN;
SELECT count(*) >= 0 AS told FROM stripe_winback_claim(10);
ROLLBACK;
SELECT count(stripe_portal.winback_link('00000000-0000-4000-8000-000000000001', 'cus_v', false, '', 'infinity'));
-- 37. Somebody else's link, and way back, as she has seen them in his mail and over his shoulder.
SELECT stripe_winback_open((SELECT link_v FROM token)) LIKE 'http%' AS opened;
BEGIN;
SELECT customer FROM stripe_portal_return((SELECT return_v FROM token));
ROLLBACK;
-- 38. The keys that sign them.
SELECT current_setting('stripe_portal.api_key') = '' AS told;
SELECT pg_read_file(current_setting('stripe_portal.api_key_file')) LIKE '%\_test\_%' AS told;

= in_front
-- 39. Things of hers in front of those of the extension.
CREATE TEMPORARY TABLE customer_role (role text, livemode boolean, account text, customer text);
INSERT INTO customer_role VALUES ('regress_mallory', false, '', 'cus_v');
CREATE FUNCTION mallory.asking_customer(boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'cus_v' $$;
CREATE FUNCTION mallory.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'regress_mallory' $$;
CREATE FUNCTION mallory.jsonb_build_object(VARIADIC text[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
SET search_path = pg_temp, mallory, public, pg_catalog;
SET request.jwt.claims = '{"stripe_customer": "cus_v"}';
SELECT stripe_my_portal_session('https://app.example.com') LIKE 'http%' AS opened_hers;
SELECT name FROM stripe_portal.customer WHERE name = 'victor';
RESET search_path;
SELECT DISTINCT customer FROM stripe_portal.session ORDER BY 1;
-- 40. A function of hers, where the extension's are.
BEGIN;
CREATE FUNCTION public.stripe_my_portal_session(text) RETURNS text LANGUAGE sql AS $$ SELECT 'https://mallory.example' $$;
ROLLBACK;
BEGIN;
ALTER FUNCTION public.stripe_my_portal_session OWNER TO regress_mallory;
ROLLBACK;
BEGIN;
DROP EXTENSION stripe_portal CASCADE;
ROLLBACK;

= gateway
SET ROLE regress_web_user;
-- 41. Claims that name somebody besides her, or in a way that is no string.
SET request.jwt.claims = '{"stripe_customer": ["cus_v"]}';
SELECT count(id) FROM stripe_portal.customer;
SET request.jwt.claims = '{"stripe_customer": {"id": "cus_v"}}';
SELECT count(id) FROM stripe_portal.customer;
SET request.jwt.claims = '{"stripe_customer": null, "sub": "cus_v"}';
SELECT count(id) FROM stripe_portal.customer;
SET request.jwt.claims = '{"stripe_customer": "cus_v'' OR true --"}';
SELECT count(id) FROM stripe_portal.customer;
SET request.jwt.claims = '{"stripe_customer": "%"}';
SELECT count(id) FROM stripe_portal.customer;
SET request.jwt.claims = '["stripe_customer", "cus_v"]';
SELECT count(id) FROM stripe_portal.customer;
SET request.jwt.claims = '"cus_v"';
SELECT count(id) FROM stripe_portal.customer;
-- 42. A cursor, and a plan, that were made while the session was victor's.
SET request.jwt.claims = '{"stripe_customer": "cus_v"}';
SET plan_cache_mode = force_generic_plan;
PREPARE left_over AS SELECT id FROM stripe_portal.customer;
EXECUTE left_over;
BEGIN;
DECLARE left_over CURSOR FOR SELECT id FROM stripe_portal.customer;
SET request.jwt.claims = '{"stripe_customer": "cus_m"}';
FETCH ALL FROM left_over;
COMMIT;
EXECUTE left_over;

= shop
SET ROLE regress_shop;
-- 43. Her own, with his offer or session in it.
SELECT stripe_winback_open(substr((SELECT link_v FROM token), 1, 22) || substr((SELECT link_m FROM token), 23));
SELECT customer FROM stripe_portal_return(substr((SELECT return_v FROM token), 1, 22) || substr((SELECT return_m FROM token), 23));
-- 44. His, made to last, or with another letter anywhere.
SELECT stripe_winback_open(overlay((SELECT link_v FROM token) PLACING '____' FROM 26));
SELECT count(*) FILTER (WHERE NOT refused) AS taken FROM (SELECT n, refused(overlay((SELECT link_v FROM token) PLACING CASE substr((SELECT link_v FROM token), n, 1) WHEN 'A' THEN 'B' ELSE 'A' END FROM n)) AS refused FROM generate_series(1, 72) AS n) AS t;
-- 45. One kind for the other.
SELECT stripe_winback_open((SELECT return_v FROM token));
SELECT customer FROM stripe_portal_return((SELECT link_v FROM token));
-- 46. An offer that was never sent, by a token that is right.
SELECT stripe_winback_open((SELECT link_planned FROM token));
-- 47. One that was used.
SELECT customer FROM stripe_portal_return((SELECT return_m FROM token));
SELECT customer FROM stripe_portal_return((SELECT return_m FROM token));
