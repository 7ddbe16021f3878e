-- Return URLs: what must not be written into one.  Nobody here is a
-- subscriber, so a URL that passes is followed by the rule's refusal, and no
-- request leaves either way.
\set VERBOSITY terse
CREATE FUNCTION attempt(url text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM stripe_portal_session('cus_nobody', url);
EXCEPTION
    WHEN SQLSTATE 'SPA01' THEN
        RETURN 'passes';
    WHEN invalid_parameter_value THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        -- neither quotes the URL, which may hold a secret
        RETURN concat_ws(' ', detail, hint);
END $$;

-- a secret, an id of one session, a placeholder of another Stripe product
SELECT url, attempt('https://app.example.com/' || url) FROM unnest(ARRAY[
    '?k=sk_test_1', '?k=sk_live_1', '?k=sk_org_1', '?k=rk_test_1', '?k=rk_live_1', 'whsec_1', '#whsec_1', '?k%3Dsk_live_1', '?k=%73k%5flive%5F1',
    '?s=bps_1', 'bps_1', '?s=cs_test_a1', '?s=cs_live_a1', '?s=%63s_live_a1', '?x=%00bps_1',
    '?s={CHECKOUT_SESSION_ID}', '?s=%7BCHECKOUT_SESSION_ID%7d', '{anything}/x'
]) WITH ORDINALITY AS u (url, n) ORDER BY n;
-- a host that one reader takes for another, or none
SELECT url, attempt(url) FROM unnest(ARRAY[
    'https://app.example.com:99999/', 'https://app.example.com:0/', 'https://app.example.com:65535/', 'https://app]', 'https://[::1/', 'https://[fe80::1]:8443/',
    'https://[::g]/', 'https://app%2eexample.com/', 'https://a,b.example.com/', 'https://0x7f.1/', 'https://127.1/', 'https://192.0.2.1/', 'https://192.0.2.256/'
]) WITH ORDINALITY AS u (url, n) ORDER BY n;
-- a query that no server sees
SELECT url, attempt('https://app.example.com/' || url) FROM unnest(ARRAY['#tab?x=1', '?x=1#tab?y=2', '#?']) AS url;
-- what only looks like it
SELECT url, attempt('https://app.example.com/' || url) FROM unnest(ARRAY[
    '', 'sk_SK/account', 'task_live_1', 'my_sk_live_1', 'desk_test_1', '?q=docs_test_1', 'subscription?x=1#tab', '#', '?x=%7B%22a%22%3A1%7D', '?x=%', '?x=%4', '?x=%zz'
]) WITH ORDINALITY AS u (url, n) ORDER BY n;
-- a placeholder of the portal's own: in the path or the query, and nowhere else
SELECT url, attempt(url) FROM unnest(ARRAY[
    'https://app.example.com/{customer}/{session}?t={token}', 'https://app.example.com?t={token}#tab',
    'https://{customer}.example.com/', 'https://app.example.com{customer}', 'https://app.example.com:{session}/', 'https://{customer}@app.example.com/',
    '{token}', '{customer}://app.example.com/', 'https://app.example.com/#{token}', 'https://app.example.com\{token}',
    'https://app.example.com/?t={Token}', 'https://app.example.com/?t={{token}}', 'https://app.example.com/?t={token', 'https://app.example.com/?t=%7Btoken%7D',
    'https://app.example.com/?k=sk_{token}live_1', 'http://app.example.com/{token}'
]) WITH ORDINALITY AS u (url, n) ORDER BY n;
-- the setting is held to it, and so is where a flow leads
SET stripe_portal.return_url = 'https://app.example.com/?k=sk_live_1';
SELECT attempt(NULL);
RESET stripe_portal.return_url;
\set VERBOSITY default
SELECT stripe_portal_session('cus_nobody', 'https://app.example.com/', 'payment_method_update',
    options => '{"flow_data": {"after_completion": {"type": "redirect", "redirect": {"return_url": "https://app.example.com/?s={CHECKOUT_SESSION_ID}"}}}}');
\set VERBOSITY terse

DROP FUNCTION attempt;
