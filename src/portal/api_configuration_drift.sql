-- portal: what a declaration stands for, and how what Stripe has differs.

CREATE OR REPLACE FUNCTION stripe_portal.configuration_parameters(declared stripe_portal.configuration)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    defaults CONSTANT jsonb := '{
        "business_profile": {"headline": null, "privacy_policy_url": null, "terms_of_service_url": null},
        "login_page": {"enabled": false},
        "features": {
            "customer_update": {"enabled": false, "allowed_updates": []},
            "invoice_history": {"enabled": true},
            "payment_method_update": {"enabled": true, "payment_method_configuration": null},
            "subscription_cancel": {
                "mode": "at_period_end", "proration_behavior": "none",
                "cancellation_reason": {"enabled": true, "feedback_options": [],
                    "options": ["too_expensive", "missing_features", "switched_service", "unused",
                                "customer_service", "too_complex", "low_quality", "other"]}},
            "subscription_pause": {"enabled": false},
            "subscription_update": {
                "default_allowed_updates": [], "products": [], "proration_behavior": "none",
                "schedule_at_period_end": {"conditions": []}, "trial_update_behavior": "end_trial"}}}';
    features CONSTANT jsonb := declared.options -> 'features';
    -- defaults that depend on what is declared beside them
    derived CONSTANT jsonb := jsonb_strip_nulls(jsonb_build_object(
        'customer_update', CASE WHEN features #> '{customer_update,enabled}' = 'true' THEN
            '{"allowed_updates": ["address", "email", "name", "phone", "shipping", "tax_id"]}'::jsonb END,
        'subscription_pause', CASE
            WHEN features #>> '{subscription_pause,duration,type}' = 'indefinite' THEN NULL
            WHEN features ? 'subscription_pause' THEN
            '{"duration": {"type": "interval_options", "interval_options": [{"interval": "month"}]}}'::jsonb END,
        'subscription_update', CASE WHEN features #> '{subscription_update,products}' <> '[]' THEN
            '{"default_allowed_updates": ["price"]}'::jsonb END));
    switches CONSTANT jsonb := jsonb_build_object(
        'active', true,
        'name', declared.name,
        -- placeholders are filled in when a session is opened
        'default_return_url', CASE WHEN declared.return_url !~ '[{}]' THEN declared.return_url END,
        -- by this it is found again if its id was lost before it was stored
        'metadata', jsonb_build_object('stripe_portal', declared.name),
        'features', jsonb_build_object(
            'subscription_cancel', jsonb_build_object('enabled', declared.cancel_flows),
            'subscription_update', jsonb_build_object('enabled', declared.plan_changes)));
    result jsonb := stripe_portal.put_back(stripe_portal.put_back(stripe_portal.put_back(
        defaults, jsonb_build_object('features', derived)), declared.options), switches);
BEGIN
    -- what Stripe fills in within lists
    IF result #> '{features,subscription_pause,duration,interval_options}' IS NOT NULL THEN
        result := jsonb_set(result, '{features,subscription_pause,duration,interval_options}', (
            SELECT coalesce(jsonb_agg('{"interval_count": 1}' || o ORDER BY n), '[]')
            FROM jsonb_array_elements(result #> '{features,subscription_pause,duration,interval_options}')
                WITH ORDINALITY AS options (o, n)));
    END IF;
    RETURN jsonb_set(result, '{features,subscription_update,products}', (
        SELECT coalesce(jsonb_agg(p || jsonb_build_object('adjustable_quantity',
                   CASE WHEN p #> '{adjustable_quantity,enabled}' = 'true'
                        THEN '{"minimum": 1}' || (p -> 'adjustable_quantity')
                        ELSE '{"enabled": false}' END) ORDER BY n), '[]')
        FROM jsonb_array_elements(result #> '{features,subscription_update,products}')
            WITH ORDINALITY AS products (p, n)));
END
$$;

COMMENT ON FUNCTION stripe_portal.configuration_parameters(stripe_portal.configuration) IS
'All parameters of Stripe''s configuration that a declaration stands for, with defaults for what it leaves out; null and [] for what is to be empty';

CREATE OR REPLACE FUNCTION stripe_portal.configuration_fields(tree jsonb, OUT path text[], OUT value jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE node (path, value) AS (
        SELECT '{}'::text[], tree
        UNION ALL
        SELECT node.path || e.key, e.value
        FROM node, jsonb_each(CASE jsonb_typeof(node.value) WHEN 'object' THEN node.value ELSE '{}' END) AS e
    )
    SELECT node.path, node.value
    FROM node
    WHERE jsonb_typeof(node.value) <> 'object'
$$;

COMMENT ON FUNCTION stripe_portal.configuration_fields(jsonb) IS
'The fields of nested objects, each with its path; a list is one field';

-- Lists are sets to Stripe, and grow keys with its versions.
CREATE OR REPLACE FUNCTION stripe_portal.comparable_field(path text[], value jsonb, declared jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        -- what is not there is as good as empty
        WHEN value IN ('null', '[]', 'false', '""') THEN NULL
        WHEN jsonb_typeof(value) <> 'array' THEN value
        WHEN path = '{features,subscription_update,products}' THEN (
            SELECT jsonb_agg(jsonb_build_object(
                       'product', p -> 'product',
                       'prices', (SELECT jsonb_agg(price ORDER BY price) FROM jsonb_array_elements(p -> 'prices') AS price),
                       'quantity', CASE WHEN p #> '{adjustable_quantity,enabled}' = 'true'
                                        THEN jsonb_build_array(p #> '{adjustable_quantity,minimum}',
                                                               p #> '{adjustable_quantity,maximum}') END)
                       ORDER BY p -> 'product')
            FROM jsonb_array_elements(value) AS p)
        ELSE (
            SELECT jsonb_agg(element ORDER BY element)
            FROM jsonb_array_elements(value) AS e,
                 LATERAL (SELECT CASE jsonb_typeof(e) WHEN 'object' THEN (
                              SELECT jsonb_object_agg(member.key, member.value)
                              FROM jsonb_each(e) AS member
                              WHERE jsonb_typeof(declared) <> 'array' OR declared = '[]'
                                 OR jsonb_path_exists(declared, '$[*].keyvalue() ? (@.key == $key)',
                                                      jsonb_build_object('key', member.key)))
                          ELSE e END) AS reduced (element))
        END
$$;

COMMENT ON FUNCTION stripe_portal.comparable_field(text[], jsonb, jsonb) IS
'A field''s value in the form in which two can be compared: lists in one order and without keys that no declared element has, and NULL for what is empty';

CREATE OR REPLACE FUNCTION stripe_portal.configuration_difference(
    configuration stripe_portal.configuration, stripe jsonb, OUT path text[], OUT declared jsonb, OUT at_stripe jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH field AS (
        SELECT f.path, f.value AS declared, stripe #> f.path AS at_stripe
        FROM stripe_portal.configuration_fields(stripe_portal.configuration_parameters(configuration)) AS f
        UNION ALL
        -- metadata is the team's own: what is declared, and nothing else
        SELECT ARRAY['metadata', m.key], NULL, m.value
        FROM jsonb_each(CASE jsonb_typeof(stripe -> 'metadata') WHEN 'object' THEN stripe -> 'metadata' ELSE '{}' END) AS m
        WHERE m.key <> 'stripe_portal' AND NOT coalesce(configuration.options -> 'metadata', '{}') ? m.key
    )
    SELECT f.path, f.declared, f.at_stripe
    FROM field AS f
    WHERE stripe_portal.comparable_field(f.path, f.declared, f.declared)
          IS DISTINCT FROM stripe_portal.comparable_field(f.path, f.at_stripe, f.declared)
      -- a list of products that is not known is not an empty one
      AND NOT (f.path = '{features,subscription_update,products}' AND f.at_stripe IS NULL AND stripe IS NOT NULL)
    ORDER BY f.path
$$;

COMMENT ON FUNCTION stripe_portal.configuration_difference(stripe_portal.configuration, jsonb) IS
'The fields in which Stripe''s object differs from a declaration; of no object (NULL), all that are not empty. Other than metadata, what Stripe has and the declaration does not speak of is no difference';

CREATE OR REPLACE FUNCTION stripe_portal.without_secrets(value jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(value::text, '((sk|rk)_(test|live|org)_|whsec_)[A-Za-z0-9_]+', '\1…', 'g')::jsonb;

COMMENT ON FUNCTION stripe_portal.without_secrets(jsonb) IS
'The value with Stripe''s keys and webhook secrets cut, wherever somebody has put one';

-- It looks at nothing but its arguments; the rights of the owner are there so
-- that who reads the view needs those on this one function only.
CREATE OR REPLACE FUNCTION stripe_portal.configuration_drift(
    configuration stripe_portal.configuration, known stripe_portal.billing_portal_configuration,
    OUT path text, OUT declared jsonb, OUT at_stripe jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_to_string(d.path, '.'), stripe_portal.without_secrets(d.declared), stripe_portal.without_secrets(d.at_stripe)
    FROM stripe_portal.configuration_difference(configuration, jsonb_build_object(
        'active', known.active, 'name', known.name, 'business_profile', known.business_profile,
        'default_return_url', known.default_return_url, 'login_page', known.login_page, 'metadata', known.metadata,
        'features', CASE WHEN known.products_updated = known.updated
                         THEN jsonb_set(known.features, '{subscription_update,products}', known.products)
                         ELSE known.features END)) AS d
$$;

COMMENT ON FUNCTION stripe_portal.configuration_drift(stripe_portal.configuration, stripe_portal.billing_portal_configuration) IS
'The fields in which the mirrored object differs from a declaration, for the view of that name; the products of plan changes only if they are current';

CREATE OR REPLACE VIEW stripe_portal.configuration_drift WITH (security_invoker = true) AS
SELECT configuration.name,
       configuration.livemode,
       configuration.account,
       configuration.stripe_id,
       field.path,
       field.declared,
       field.at_stripe,
       known.updated
FROM stripe_portal.configuration
JOIN stripe_portal.billing_portal_configuration AS known
    ON known.id = configuration.stripe_id AND known.livemode = configuration.livemode
    AND known.account = configuration.account,
LATERAL stripe_portal.configuration_drift(configuration, known) AS field;

COMMENT ON VIEW stripe_portal.configuration_drift IS 'Where Stripe''s configuration is not as declared, by what its events and the last read said: a change by hand in the Dashboard, or a declaration that is not applied yet; who reads it needs EXECUTE on the function of the same name';
COMMENT ON COLUMN stripe_portal.configuration_drift.path IS 'The field, as Stripe names it: features.subscription_cancel.mode';
COMMENT ON COLUMN stripe_portal.configuration_drift.updated IS 'When the object was last changed, on Stripe''s clock';
