-- The settings of the Stripe client: who may change them, what they accept, and
-- that no secret shows.
\set VERBOSITY terse

CREATE FUNCTION attempt(command text, OUT state text, OUT said text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    said := 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    detail := regexp_replace(detail, '"/[^"]*/', '"DIR/');
END
$$;

SELECT said FROM attempt('SELECT stripe_portal.form_encode(''{}'')');     -- loads the library
SELECT name, context, unit, min_val, max_val, boot_val FROM pg_settings
WHERE name ~ '^stripe_portal\.(api|ca|connect|max|timeout)' ORDER BY name;
SET stripe_portal.no_such_setting = 1;
\echo :SQLSTATE

--
-- Where requests go
--
SELECT base, state, detail FROM (VALUES
    ('https://api.stripe.com'), ('https://localhost:8443'), ('https://[2001:db8::1]'), ('https://[::1]:8443'),
    ('http://localhost'), ('http://LOCALHOST:80'), ('http://127.0.0.1:12111'), ('http://127.255.0.3'), ('http://[::1]:1'),
    ('http://api.stripe.com'), ('http://127.0.0.1.example.com'), ('http://localhost.example.com'), ('http://128.0.0.1'),
    ('http://127.1'), ('http://0.0.0.0'), ('http://[::2]'), ('http://localhost@example.com'),
    ('https://user:password@api.stripe.com'), ('https://api.stripe.com/'), ('https://api.stripe.com/v1'),
    ('https://api.stripe.com?a'), ('https://api.stripe.com#a'), ('https://api.stripe.com:'), ('https://api.stripe.com:0'),
    ('https://api.stripe.com:65536'), ('https://api.stripe.com:1x'), ('https://'), ('https://:443'), ('https://[::1'), ('https://a b'),
    (E'https://a\nb'), ('ftp://localhost'), ('api.stripe.com'), ('HTTPS://api.stripe.com'), ('')
) AS t (base), attempt(format('SET stripe_portal.api_base = %L', base));
RESET stripe_portal.api_base;
SELECT version, state, detail FROM (VALUES ('2026-10-28.endive'), ('2020-08-27'), (E'2020\r\nx: y'), ('a b'), ('')) AS t (version),
    attempt(format('SET stripe_portal.api_version = %L', version));
RESET stripe_portal.api_version;
SELECT state, said, detail FROM attempt('SET stripe_portal.ca_file = ''ca.pem''');
SELECT state, said, detail FROM attempt('SET stripe_portal.api_key_file = ''../key''');

--
-- A secret does not show
--
SET stripe_portal.api_key_file = '';
SHOW stripe_portal.api_key;
SET stripe_portal.api_key = 'sk_test_stand_in_key';
SHOW stripe_portal.api_key;
SELECT current_setting('stripe_portal.api_key');
SELECT count(*) FROM pg_settings WHERE name = 'stripe_portal.api_key';
SELECT stripe_api('GET', '/v1/customers') ->> 'object' AS works;

-- and is not taken where it would be stored
SELECT stored, a.* FROM (VALUES
    ('role', 'ALTER ROLE CURRENT_USER'), ('database', format('ALTER DATABASE %I', current_database())),
    ('all roles', 'ALTER ROLE ALL'), ('function', 'ALTER FUNCTION attempt(text)')) AS t (stored, command),
    attempt(command || ' SET stripe_portal.api_key = ''sk_test_secret''') AS a \gx
ALTER SYSTEM SET stripe_portal.api_key = 'sk_test_secret';
\echo :SQLSTATE
-- not even if it was stored while the library was not there to object
RESET stripe_portal.api_key;
SELECT current_database() AS db \gset
\c
ALTER DATABASE :"db" SET stripe_portal.api_key = 'sk_test_secret';
\c
SELECT stripe_portal.form_encode('{}') = '' AS loaded;
SHOW stripe_portal.api_key;
ALTER DATABASE :"db" RESET stripe_portal.api_key;
SET stripe_portal.api_key_file = '';
SELECT state, said FROM attempt('SELECT stripe_api(''GET'', ''/v1/customers'')');

--
-- Who may change what
--
CREATE ROLE regress_stripe_user;
SET ROLE regress_stripe_user;
SELECT state FROM attempt('SHOW stripe_portal.api_key');
SHOW stripe_portal.timeout;
SELECT name, state, said FROM (VALUES
    ('api_base', 'https://localhost'), ('api_key', 'sk_test_x'), ('api_key_file', '/tmp/key'), ('api_version', '2020-08-27'),
    ('ca_file', '/tmp/ca.pem'), ('connect_timeout', '1s'), ('max_retries', '0'), ('timeout', '1min')
) AS t (name, value), attempt(format('SET stripe_portal.%I = %L', name, value));
RESET ROLE;
-- nor is it enough to set it before the library is there
\c
SET SESSION AUTHORIZATION regress_stripe_user;
SET stripe_portal.api_base = 'https://localhost:1';
RESET SESSION AUTHORIZATION;
SELECT stripe_portal.form_encode('{}') = '' AS loaded;
SELECT current_setting('stripe_portal.api_base') = 'https://localhost:1' AS taken;
\c
DROP ROLE regress_stripe_user;

--
-- Files
--
\getenv dir STRIPE_STAND_IN_DIR
SELECT :'dir' || '/key' AS key_file \gset
CREATE FUNCTION call(OUT state text, OUT said text, OUT detail text, OUT hint text)
LANGUAGE sql AS $$ SELECT * FROM attempt($q$SELECT stripe_api('GET', '/v1/customers')$q$) $$;

-- one secret in each line, blank space is nothing
\! umask 077; printf '\n  sk_test_stand_in_key \t\r\n\n' > "$STRIPE_STAND_IN_DIR/key"
SET stripe_portal.api_key_file = :'key_file';
SELECT said FROM call();
-- a change of the file counts at once, content and mode, also of the same length
\! printf 'sk_test_stand_in_kex' > "$STRIPE_STAND_IN_DIR/key"
SELECT state FROM call();
\! printf 'sk_test_stand_in_key' > "$STRIPE_STAND_IN_DIR/key"
SELECT said FROM call();
\! chmod 640 "$STRIPE_STAND_IN_DIR/key"
SELECT * FROM call() \gx
\! chmod 604 "$STRIPE_STAND_IN_DIR/key"
SELECT detail FROM call();
\! chmod 400 "$STRIPE_STAND_IN_DIR/key"
SELECT said FROM call();
\! cd "$STRIPE_STAND_IN_DIR" && mv key real && ln -s real key
SELECT said FROM call();
\! rm "$STRIPE_STAND_IN_DIR/key"
SELECT state, said, detail FROM call();
\! mkdir "$STRIPE_STAND_IN_DIR/key"
SELECT detail FROM call();
\! cd "$STRIPE_STAND_IN_DIR" && rmdir key && mkfifo -m 600 key
SELECT detail FROM call();
\! cd "$STRIPE_STAND_IN_DIR" && rm key && umask 077 && head -c 70000 /dev/zero > key
SELECT detail FROM call();
\! printf 'sk_test\000x\n' > "$STRIPE_STAND_IN_DIR/key"
SELECT state, said, detail FROM call();
\! printf 'sk_test_a\nsk_test b' > "$STRIPE_STAND_IN_DIR/key"
SELECT detail FROM call();
\! printf '\n \n' > "$STRIPE_STAND_IN_DIR/key"
SELECT state, said FROM call();
-- of several the first is sent; both modes at once are a mistake
\! printf 'sk_test_stand_in_key\nsk_test_b\n' > "$STRIPE_STAND_IN_DIR/key"
SELECT said FROM call();
\! printf 'sk_test_stand_in_key\nrk_live_b\n' > "$STRIPE_STAND_IN_DIR/key"
SELECT state, said, detail FROM call();
-- a file and a value are ambiguous
SET stripe_portal.api_key = 'sk_test_stand_in_key';
SELECT * FROM call() \gx
SET stripe_portal.api_key_file = '';
SELECT said FROM call();
SET stripe_portal.api_key = 'sk_test_stand_in_key, sk_test_b';
SELECT said FROM call();
SET stripe_portal.api_key = 'sk_test stand_in_key';
SELECT state, said, detail FROM call();
SET stripe_portal.api_key = ' , ';
SELECT state, said FROM call();
-- a path is not secret, and can be stored
ALTER DATABASE :"db" SET stripe_portal.api_key_file = '/etc/stripe/key';
ALTER DATABASE :"db" RESET stripe_portal.api_key_file;

\! rm -f "$STRIPE_STAND_IN_DIR/key" "$STRIPE_STAND_IN_DIR/real"
DROP FUNCTION attempt, call;
