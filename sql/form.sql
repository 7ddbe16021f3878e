-- Parameters as Stripe's own clients encode them.
\set VERBOSITY terse

SELECT stripe_portal.form_encode(params) FROM (VALUES
    -- hashes and arrays, always indexed
    ('{"a": 1, "b": "x"}'::jsonb),
    ('{"a": {"b": {"c": "d"}}}'),
    ('{"a": ["x", "y"]}'),
    ('{"a": [{"b": 1}, {"b": 2, "c": [true, false]}]}'),
    ('{"a": [["x"], ["y", "z"]]}'),
    ('{"items": [{"price": "price_1", "quantity": 2}], "expand": ["latest_invoice.payments"]}'),
    -- null and '' clear a parameter
    ('{"a": null, "b": ""}'),
    ('{"metadata": {"k": ""}, "list": [null, "x"]}'),
    -- of what is empty nothing is sent
    ('{}'),
    ('{"a": {}, "b": [], "c": 1, "d": [[], {}], "e": {"f": {}}}'),
    -- numbers are plain
    ('{"a": 0, "b": -1, "c": 1.5, "d": 1.0, "e": 1e3, "f": 1e-7, "g": 12345678901234567890, "h": 1e30}')
) AS t (params);

-- what is percent-encoded, in values and in names
SELECT stripe_portal.form_encode('{"unreserved": "AZaz09-_.~"}');
SELECT stripe_portal.form_encode('{"marks": "! * '' ( ) & = + % / ? # [ ] \" \\ @ : , ; $"}');
SELECT stripe_portal.form_encode(jsonb_build_object('control', E'\x01\t\r\n\x7f'));
SELECT stripe_portal.form_encode(U&'{"\00e9": "\00e9\65e5\672c\+01f600"}');
SELECT stripe_portal.form_encode('{"a b": {"c&d": "e", "f[g]": "h"}, "!": 1}');

-- every byte but the unreserved ones
SELECT bool_and(CASE WHEN chr(c) ~ '[-A-Za-z0-9_.~]' THEN encoded = 'v=' || chr(c)
                     ELSE encoded = 'v=%' || upper(lpad(to_hex(c), 2, '0')) END)
FROM generate_series(1, 127) AS c,
     stripe_portal.form_encode(jsonb_build_object('v', chr(c))) AS encoded;

-- deep, but not endless
SELECT length(stripe_portal.form_encode((repeat('{"a":', 100) || '1' || repeat('}', 100))::jsonb));
DO $$
DECLARE
    deep jsonb := repeat('{"a":', 3000) || '1' || repeat('}', 3000);
BEGIN
    SET LOCAL max_stack_depth = '100kB';
    PERFORM stripe_portal.form_encode(deep);
EXCEPTION WHEN statement_too_complex THEN
    RAISE NOTICE 'too deep';
END
$$;

-- only an object has names
SELECT stripe_portal.form_encode('[1]');
SELECT stripe_portal.form_encode('"a"');
SELECT stripe_portal.form_encode('null');
\echo :SQLSTATE
SELECT stripe_portal.form_encode(NULL) IS NULL AS no_params;
