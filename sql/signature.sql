-- Stripe's webhook signature: stripe_verify_webhook, stripe_sign_webhook.
\set VERBOSITY terse
SET stripe_portal.webhook_secret_file = '';
SET stripe_portal.webhook_secret = 'whsec_test_secret';

-- A known answer, computed outside; the secret is used whole, as it is shown.
SELECT stripe_sign_webhook('{"id":"evt_1","object":"event"}', 'whsec_test_secret', to_timestamp(1700000000));
SELECT stripe_sign_webhook('{"id":"evt_1","object":"event"}', 'whsec_old_secret', to_timestamp(1700000000)) AS old_secret;
SELECT stripe_sign_webhook(E'{\n  "id": "evt_test_webhook",\n  "object": "event"\n}', 'whsec_test_secret', to_timestamp(1700000000)) AS multi_line;

\set body '{"id":"evt_1","object":"event"}'
\set good 0c8670ed117751cc551a20e35839447075c42800ea3cf3e8a2fbda99cd1e6edd
\set good_old 921476aa6febf6d11353fcee45246000c9edf7b3938ae2d09a2d6ea5cb98d9db
\set stripped 0fb54d9a35d072623dc9c03143395360f9abb724c46b8d837a63aa8d704baede

-- One row per header: whether it verifies at the time that it was made.
CREATE FUNCTION verifies(sig text, at double precision DEFAULT 1700000000) RETURNS boolean
LANGUAGE sql AS $$ SELECT stripe_verify_webhook('{"id":"evt_1","object":"event"}', sig, to_timestamp(at)) $$;

SELECT what, verifies(replace(sig, 'GOOD', :'good')) FROM (VALUES
    ('as Stripe sends it', 't=1700000000,v1=GOOD'),
    ('with a decoy', 't=1700000000,v1=GOOD,v0=GOOD'),
    ('one of several matches', 't=1700000000,v1=' || repeat('0', 64) || ',v1=GOOD'),
    ('signature first', 'v1=GOOD,t=1700000000'),
    ('unknown elements are ignored', 'x=1,t=1700000000,,=,v1=GOOD,v2=GOOD,'),
    ('only the decoy', 't=1700000000,v0=GOOD'),
    ('another scheme', 't=1700000000,v2=GOOD'),
    ('no timestamp', 'v1=GOOD'),
    ('no signature', 't=1700000000'),
    ('empty', ''),
    ('blank', '   '),
    ('another second', 't=1700000001,v1=GOOD'),
    ('two timestamps', 't=1700000000,t=1700000000,v1=GOOD'),
    ('leading zero', 't=01700000000,v1=GOOD'),
    ('plus sign', 't=+1700000000,v1=GOOD'),
    ('negative', 't=-1,v1=GOOD'),
    ('not a number', 't=yesterday,v1=GOOD'),
    ('far too long a number', 't=' || repeat('9', 400) || ',v1=GOOD'),
    ('capital digits', 't=1700000000,v1=' || upper(:'good')),
    ('one digit short', 't=1700000000,v1=' || left(:'good', 63)),
    ('one digit more', 't=1700000000,v1=GOOD0'),
    ('one digit wrong', 't=1700000000,v1=' || overlay(:'good' placing '1' from 1)),
    ('last digit wrong', 't=1700000000,v1=' || overlay(:'good' placing 'e' from 64)),
    ('spaces', 't=1700000000, v1=GOOD'),
    ('newline', E't=1700000000,v1=GOOD\n'),
    ('prefix of the secret left out', 't=1700000000,v1=' || :'stripped'),
    ('secret that is not configured', 't=1700000000,v1=' || :'good_old'),
    ('huge', 't=1700000000,v1=GOOD' || repeat(',v1=0', 100000)),
    ('just commas', repeat(',', 1000)),
    ('multi-byte', 't=1700000000,v1=ünïcödé')
) AS header (what, sig);
SELECT verifies(NULL) AS no_header, stripe_verify_webhook(NULL::text, 't=1,v1=0') AS no_body,
       stripe_verify_webhook('', 't=1,v1=0') AS empty_body;

-- The body counts byte by byte, as text and as bytea.
SELECT stripe_verify_webhook(:'body'::bytea, 't=1700000000,v1=' || :'good', to_timestamp(1700000000)) AS bytea,
       stripe_verify_webhook(:'body' || ' ', 't=1700000000,v1=' || :'good', to_timestamp(1700000000)) AS trailing_space,
       stripe_verify_webhook(replace(:'body', 'evt_1', 'evt_2'), 't=1700000000,v1=' || :'good', to_timestamp(1700000000)) AS other_id;

-- Tolerance: five minutes, both ways, the last second included.
SELECT at - 1700000000 AS seconds_after, verifies('t=1700000000,v1=' || :'good', at)
FROM unnest(ARRAY[1699999699, 1699999700, 1699999999, 1700000300, 1700000301, 1700086400]) AS at;
SELECT verifies('t=1700000000,v1=' || :'good', 'Infinity') AS in_the_end, verifies('t=1700000000,v1=' || :'good', '-Infinity') AS before_time;
SELECT stripe_verify_webhook(:'body', 't=1700000000,v1=' || :'good') AS now;
SELECT stripe_verify_webhook('now', stripe_sign_webhook('now', 'whsec_test_secret')) AS signed_now;
SET stripe_portal.tolerance = '1min';
SELECT verifies('t=1700000000,v1=' || :'good', 1700000060) AS last_second, verifies('t=1700000000,v1=' || :'good', 1700000061) AS one_more;
-- (PostgreSQL words it differently from version to version.)
\set VERBOSITY sqlstate
SET stripe_portal.tolerance = 0;
\set VERBOSITY terse
RESET stripe_portal.tolerance;

-- Rotation: several secrets at once.
SET stripe_portal.webhook_secret = 'whsec_test_secret,whsec_old_secret';
SELECT verifies('t=1700000000,v1=' || :'good') AS new_secret, verifies('t=1700000000,v1=' || :'good_old') AS old_secret,
       verifies('t=1700000000,v1=' || :'good_old' || ',v1=' || :'good') AS both,
       verifies('t=1700000000,v1=' || :'stripped') AS neither;

-- The same from a file, where a change counts at once.
SET stripe_portal.webhook_secret = '';
\getenv dir STRIPE_STAND_IN_DIR
\set secrets :dir '/secrets'
\! umask 077; printf 'whsec_test_secret\nwhsec_old_secret\n' > "$STRIPE_STAND_IN_DIR/secrets"
SET stripe_portal.webhook_secret_file = :'secrets';
SELECT verifies('t=1700000000,v1=' || :'good') AS new_secret, verifies('t=1700000000,v1=' || :'good_old') AS old_secret;
\! printf 'whsec_test_secret\n' > "$STRIPE_STAND_IN_DIR/secrets"
SELECT verifies('t=1700000000,v1=' || :'good') AS new_secret, verifies('t=1700000000,v1=' || :'good_old') AS old_secret;
SET stripe_portal.webhook_secret_file = '';

-- Without a secret nothing can be right, and that is not the header's fault.
SET stripe_portal.webhook_secret = '';
SELECT verifies('t=1700000000,v1=' || :'good');
SET stripe_portal.webhook_secret = ' , ,';
SELECT verifies('t=1700000000,v1=' || :'good');
\echo :LAST_ERROR_SQLSTATE
SELECT stripe_sign_webhook('x', '');
SELECT stripe_sign_webhook('x', NULL);

-- No mutation of a good header verifies: 2,000 of them, seeded.
SET stripe_portal.webhook_secret = 'whsec_test_secret';
SELECT setseed(0.42);
WITH mutation AS MATERIALIZED (
    SELECT overlay(h.sig placing chr(32 + (random() * 94)::int) from 1 + (random() * (length(h.sig) - 1))::int) AS sig, h.sig AS original
    FROM (SELECT 't=1700000000,v1=' || :'good' AS sig) AS h, generate_series(1, 2000)
)
SELECT count(*) FILTER (WHERE verifies(sig)) AS verified,
       count(*) > 1900 AS nearly_all_differ
FROM mutation WHERE sig <> original;

DROP FUNCTION verifies;
