-- Portal configurations as code: declaring one.  No request leaves.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = error;
\pset format unaligned
\pset tuples_only

-- What is wrong with options, and what to do about it; NULL if nothing is.
CREATE FUNCTION attempt(options jsonb, plan_changes boolean DEFAULT true, name text DEFAULT 'attempt') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    PERFORM stripe_portal_configure(name, true, plan_changes, options);
    RETURN NULL;
EXCEPTION WHEN invalid_parameter_value THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLERRM, nullif(hint, ''));
END $$;
-- The same, of one feature.
CREATE FUNCTION attempt(feature text, options jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT attempt(jsonb_build_object('features', jsonb_build_object(feature, options))) $$;

-- ---------------------------------------------------------------------------
-- Two switches are enough; the rest has defaults.
SELECT stripe_portal_configure('standard', cancel_flows => true, plan_changes => false);
SELECT name, livemode, account, cancel_flows, plan_changes, options, return_url, is_default, stripe_id, applied_at FROM stripe_portal.configuration;
SELECT jsonb_pretty(stripe_portal.configuration_parameters(c)) FROM stripe_portal.configuration AS c;

-- The first one is the default of its mode and account, until another one is.
SELECT stripe_portal_configure('other', true, false);
SELECT stripe_portal_configure('standard', true, false, livemode => true);
SELECT stripe_portal_configure('standard', true, false, account => 'acct_1');
SELECT name, livemode, account, is_default FROM stripe_portal.configuration ORDER BY livemode, account, name;
SELECT stripe_portal_configure('other', true, false, is_default => true);
SELECT name, is_default FROM stripe_portal.configuration WHERE account = '' AND NOT livemode ORDER BY name;
-- it stays so, and none at all is possible
SELECT stripe_portal_configure('other', false, false);
SELECT name, is_default FROM stripe_portal.configuration WHERE account = '' AND NOT livemode ORDER BY name;
SELECT stripe_portal_configure('other', true, false, is_default => false);
SELECT name, is_default FROM stripe_portal.configuration WHERE account = '' AND NOT livemode ORDER BY name;

-- Saying the same again is no new declaration.
SELECT declared_at AS before FROM stripe_portal.configuration WHERE name = 'other' \gset
SELECT stripe_portal_configure('other', true, false, '{"metadata": null}');
SELECT declared_at = :'before' AS same FROM stripe_portal.configuration WHERE name = 'other';
SELECT stripe_portal_configure('other', true, true);
SELECT declared_at > :'before' AS later FROM stripe_portal.configuration WHERE name = 'other';

-- Everything Stripe has, at once.
SELECT attempt('{
    "business_profile": {"headline": "Acme", "privacy_policy_url": "https://acme.example/privacy", "terms_of_service_url": "https://acme.example/terms"},
    "login_page": {"enabled": true},
    "metadata": {"team": "billing"},
    "features": {
        "customer_update": {"enabled": true, "allowed_updates": ["email", "tax_id"]},
        "invoice_history": {"enabled": false},
        "payment_method_update": {"enabled": true, "payment_method_configuration": "pmc_1"},
        "subscription_cancel": {"mode": "immediately", "proration_behavior": "create_prorations",
            "cancellation_reason": {"enabled": true, "options": ["too_expensive", "other"], "feedback_options": ["bfo_1"]}},
        "subscription_pause": {"enabled": true, "duration": {"type": "interval_options",
            "interval_options": [{"interval": "week", "interval_count": 2}, {"interval": "month"}]}},
        "subscription_update": {"default_allowed_updates": ["price", "quantity", "promotion_code"],
            "products": [{"product": "prod_9", "prices": ["price_91", "price_92"], "adjustable_quantity": {"enabled": true, "maximum": 10}}],
            "proration_behavior": "always_invoice", "billing_cycle_anchor": "now", "trial_update_behavior": "continue_trial",
            "schedule_at_period_end": {"conditions": [{"type": "decreasing_item_amount"}, {"type": "shortening_interval"}]}}}}');
SELECT jsonb_pretty(stripe_portal.configuration_parameters(c) -> 'features') FROM stripe_portal.configuration AS c WHERE name = 'attempt';

-- ---------------------------------------------------------------------------
-- Refused: misspelt, misplaced, mistyped, and what the arguments decide
SELECT option, attempt(option::jsonb) FROM unnest(ARRAY[
    '[]', '"x"', '{"featurs": {}}', '{"subscription_cancel": {}}', '{"features": {"products": []}}', '{"headline": "x"}',
    '{"features": {"subscription_updates": {}}}', '{"features": {"subscription_cancel": {"modes": "immediately"}}}',
    '{"features": {"subscription_update": {"trial_update_behaviour": "end_trial"}}}',
    '{"features": []}', '{"name": "x"}', '{"default_return_url": "https://a.example"}', '{"active": false}', '{"expand": ["x"]}',
    '{"features": {"subscription_cancel": {"enabled": true}}}', '{"features": {"subscription_update": {"enabled": true}}}',
    '{"login_page": {"enabled": "true"}}', '{"business_profile": {"headline": ""}}', '{"business_profile": {"privacy_policy_url": "acme.example"}}',
    '{"business_profile": {"terms_of_service_url": "javascript:alert(1)"}}',
    -- parameters in disguise
    '{"login_page][enabled": true}', '{"features": {"subscription_cancel][enabled": true}}', '{"features.subscription_cancel": {}}', '{"": 1}', '{"Name": "x"}',
    '{"retention": {"a][b": 1}}', '{"retention": [{"list": {"features[x]": 1}}]}'
]) WITH ORDINALITY AS o (option, n) ORDER BY n;
-- what Stripe adds later passes
SELECT option, attempt(option::jsonb) FROM unnest(ARRAY[
    '{"retention": {"offers": [{"coupon": "STAY20"}]}}', '{"features": {"subscription_resume": {"enabled": true}}}',
    '{"features": {"invoice_history": {"enabled": true, "mode": "all"}}}'
]) AS option;
-- metadata has limits
SELECT attempt(jsonb_build_object('metadata', m)) FROM (VALUES
    (1, '{"a[b]": "x"}'), (2, '{"a": 1}'), (3, '{"a": ""}'), (4, '{"": "x"}'), (5, '{"stripe_portal": "x"}'), (6, '[]'),
    (7, jsonb_build_object(repeat('k', 41), 'v')), (8, jsonb_build_object('k', repeat('v', 501))),
    (9, (SELECT jsonb_object_agg('k' || i, 'v') FROM generate_series(1, 50) AS i)),
    (10, (SELECT jsonb_object_agg('k.' || i, repeat('v', 500)) FROM generate_series(1, 49) AS i))) AS t (n, m) ORDER BY n;

-- feature by feature
SELECT feature, option, attempt(feature, option::jsonb) FROM (VALUES
    ('customer_update', '{"enabled": true, "allowed_updates": ["mail"]}'),
    ('customer_update', '{"enabled": true, "allowed_updates": ["email", "email"]}'),
    ('customer_update', '{"enabled": true, "allowed_updates": []}'),
    ('customer_update', '{"enabled": true}'),
    ('invoice_history', '{"enabled": 1}'),
    ('payment_method_update', '{"enabled": false}'),
    ('payment_method_update', '{"payment_method_configuration": "pm_1"}'),
    ('subscription_cancel', '{"mode": "at_once"}'),
    ('subscription_cancel', '{"mode": "immediately", "proration_behavior": "always_invoice"}'),
    ('subscription_cancel', '{"cancellation_reason": {"enabled": true, "options": []}}'),
    ('subscription_cancel', '{"cancellation_reason": {"enabled": true, "options": ["boring"]}}'),
    ('subscription_cancel', '{"cancellation_reason": {"enabled": true, "options": [], "feedback_options": ["bfo_1"]}}'),
    ('subscription_cancel', '{"cancellation_reason": {"feedback_options": [""]}}'),
    ('subscription_pause', '{"enabled": true}'),
    ('subscription_pause', '{"enabled": true, "duration": {"type": "indefinite"}}'),
    ('subscription_pause', '{"duration": {"type": "indefinite", "interval_options": [{"interval": "day"}]}}'),
    ('subscription_pause', '{"duration": {"type": "forever"}}'),
    ('subscription_pause', '{"duration": {"type": "interval_options", "interval_options": []}}'),
    ('subscription_pause', '{"duration": {"interval_options": [{"interval_count": 1}]}}'),
    ('subscription_pause', '{"duration": {"interval_options": [{"interval": "month", "interval_count": 36}, {"interval": "day", "interval_count": 1095}]}}'),
    ('subscription_pause', '{"duration": {"interval_options": [{"interval": "month", "interval_count": 37}]}}'),
    ('subscription_pause', '{"duration": {"interval_options": [{"interval": "year", "interval_count": 4}]}}'),
    ('subscription_pause', '{"duration": {"interval_options": [{"interval": "day", "interval_count": 0}]}}'),
    ('subscription_pause', '{"duration": {"interval_options": [{"interval": "day", "interval_count": 1.5}]}}'),
    ('subscription_update', '{"default_allowed_updates": ["plan"]}'),
    ('subscription_update', '{"proration_behavior": "prorate"}'),
    ('subscription_update', '{"billing_cycle_anchor": {"type": "now"}}'),
    ('subscription_update', '{"trial_update_behavior": "keep"}'),
    ('subscription_update', '{"schedule_at_period_end": {"conditions": ["decreasing_item_amount"]}}'),
    ('subscription_update', '{"schedule_at_period_end": {"conditions": [{"type": "cheaper"}]}}'),
    ('subscription_update', '{"products": [{"product": "prod_9"}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": []}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": ["price_9"], "quantity": 2}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": ["price_9", "price_9"]}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": ["price_9"]}, {"product": "prod_9", "prices": ["price_8"]}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": ["price_9"], "adjustable_quantity": {"maximum": 2}}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": ["price_9"], "adjustable_quantity": {"enabled": true, "minimum": 3, "maximum": 2}}]}'),
    ('subscription_update', '{"products": [{"product": "prod_9", "prices": ["price_9"], "adjustable_quantity": {"enabled": true, "minimum": -1}}]}')
) AS t (feature, option);
SELECT n AS products, attempt('subscription_update', jsonb_build_object('products',
    (SELECT jsonb_agg(jsonb_build_object('product', 'prod_' || i, 'prices', ARRAY['price_' || i])) FROM generate_series(101, 100 + n) AS i)))
FROM unnest(ARRAY[10, 11]) AS n;

-- products and prices that the mirror knows; others are Stripe's business
INSERT INTO stripe_portal.product (id, livemode, active, event, event_created)
SELECT p, false, p <> 'prod_old', 'evt_1', now() FROM unnest(ARRAY['prod_1', 'prod_2', 'prod_old']) AS p;
INSERT INTO stripe_portal.price (id, livemode, product, active, type, "interval", interval_count, usage_type, tax_behavior, event, event_created)
VALUES ('price_month', false, 'prod_1', true, 'recurring', 'month', 1, 'licensed', 'exclusive', 'evt_1', now()),
       ('price_month_2', false, 'prod_1', true, 'recurring', 'month', 1, 'licensed', 'exclusive', 'evt_1', now()),
       ('price_quarter', false, 'prod_1', true, 'recurring', 'month', 3, 'licensed', 'exclusive', 'evt_1', now()),
       ('price_of_2', false, 'prod_2', true, 'recurring', 'month', 1, 'licensed', 'exclusive', 'evt_1', now()),
       ('price_old', false, 'prod_1', false, 'recurring', 'year', 1, 'licensed', 'exclusive', 'evt_1', now()),
       ('price_once', false, 'prod_1', true, 'one_time', NULL, NULL, NULL, 'exclusive', 'evt_1', now()),
       ('price_metered', false, 'prod_1', true, 'recurring', 'year', 1, 'metered', 'exclusive', 'evt_1', now()),
       ('price_untaxed', false, 'prod_1', true, 'recurring', 'year', 1, 'licensed', 'unspecified', 'evt_1', now()),
       ('price_of_old', false, 'prod_old', true, 'recurring', 'year', 1, 'licensed', 'exclusive', 'evt_1', now());
SELECT products, attempt('subscription_update', jsonb_build_object('products', products::jsonb)) FROM unnest(ARRAY[
    '[{"product": "prod_1", "prices": ["price_month", "price_quarter", "price_unheard_of"]}, {"product": "prod_2", "prices": ["price_of_2"]}]',
    '[{"product": "prod_1", "prices": ["price_month", "price_month_2"]}]',
    '[{"product": "prod_1", "prices": ["price_of_2"]}]',
    '[{"product": "prod_1", "prices": ["price_old"]}]',
    '[{"product": "prod_1", "prices": ["price_once"]}]',
    '[{"product": "prod_1", "prices": ["price_metered"]}]',
    '[{"product": "prod_1", "prices": ["price_untaxed"]}]',
    '[{"product": "prod_old", "prices": ["price_of_old"]}]'
]) WITH ORDINALITY AS p (products, n) ORDER BY n;
-- live mode and connected accounts have prices of their own
SELECT stripe_portal_configure('attempt', true, true, '{"features": {"subscription_update": {"products": [{"product": "prod_1", "prices": ["price_old"]}]}}}', livemode => true);
SELECT stripe_portal_configure('attempt', true, true, '{"features": {"subscription_update": {"products": [{"product": "prod_1", "prices": ["price_old"]}]}}}', account => 'acct_1');

-- names, switches, accounts and return URLs
SELECT name, attempt('{}', name => name) FROM unnest(ARRAY['', ' x', 'x ', 'bpc_1', E'a\nb', repeat('x', 101), NULL]) AS name;
SELECT name, attempt('{}', name => name) FROM unnest(ARRAY['x', '''"; DROP TABLE stripe_portal.configuration; --', 'Größe $1 %s {x}', repeat('é', 100)]) AS name;
SELECT stripe_portal_configure('attempt', NULL, true);
SELECT stripe_portal_configure('attempt', true, NULL);
SELECT stripe_portal_configure('attempt', true, true, account => 'acct_1/../x');
SELECT stripe_portal_configure('attempt', true, true, return_url => 'http://app.example.com');
SELECT stripe_portal_configure('attempt', true, true, return_url => 'https://app.example.com/?k=sk_live_1');
SET stripe_portal.return_hosts = 'app.example.com';
SELECT stripe_portal_configure('attempt', true, true, return_url => 'https://evil.example');
RESET stripe_portal.return_hosts;

-- ---------------------------------------------------------------------------
-- Warnings, which a setting makes an error
SET client_min_messages = warning;
\set VERBOSITY default
SELECT stripe_portal_configure('attempt', true, true);
SELECT stripe_portal_configure('attempt', false, false);
SET stripe_portal.require_winback = on;
SELECT stripe_portal_configure('attempt', false, false);
SELECT stripe_portal_configure('attempt', true, false);
\set VERBOSITY terse
-- what counts is an active rule of the same mode and account
BEGIN;
INSERT INTO stripe_portal.winback_rule (name, livemode, active, trigger_on, kind, subject, body)
VALUES ('back', false, true, 'ended', 'message', 's', 'b'), ('back', true, false, 'ended', 'message', 's', 'b');
SELECT stripe_portal_configure('attempt', false, false);
SAVEPOINT other;
SELECT stripe_portal_configure('attempt', false, false, livemode => true);
ROLLBACK TO other;
SELECT stripe_portal_configure('attempt', false, false, account => 'acct_1');
ROLLBACK;
RESET stripe_portal.require_winback;
RESET client_min_messages;

DROP FUNCTION attempt(text, jsonb), attempt(jsonb, boolean, text);
TRUNCATE stripe_portal.configuration, stripe_portal.product, stripe_portal.price;
