-- portal: what is wrong with a declared configuration, told before Stripe is
-- asked.  What is not known here passes, since Stripe adds to it every month;
-- only what looks like a known parameter misspelt does not.

CREATE OR REPLACE FUNCTION stripe_portal.configuration_parameter(OUT path text, OUT kind text, OUT words text[])
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES
        ('name', 'argument', '{name}'::text[]),
        ('default_return_url', 'argument', '{return_url}'),
        ('active', 'ours', NULL),
        ('expand', 'ours', NULL),
        ('business_profile', 'hash', NULL),
        ('business_profile.headline', 'text', NULL),
        ('business_profile.privacy_policy_url', 'url', NULL),
        ('business_profile.terms_of_service_url', 'url', NULL),
        ('login_page', 'hash', NULL),
        ('login_page.enabled', 'boolean', NULL),
        ('metadata', 'metadata', NULL),
        ('features', 'hash', NULL),
        ('features.customer_update', 'hash', NULL),
        ('features.customer_update.enabled', 'boolean', NULL),
        ('features.customer_update.allowed_updates', 'words', '{address,email,name,phone,shipping,tax_id}'),
        ('features.invoice_history', 'hash', NULL),
        ('features.invoice_history.enabled', 'boolean', NULL),
        ('features.payment_method_update', 'hash', NULL),
        ('features.payment_method_update.enabled', 'boolean', NULL),
        ('features.payment_method_update.payment_method_configuration', 'text', NULL),
        ('features.subscription_cancel', 'hash', NULL),
        ('features.subscription_cancel.enabled', 'argument', '{cancel_flows}'),
        ('features.subscription_cancel.mode', 'word', '{at_period_end,immediately}'),
        -- always_invoice is in Stripe's list, and refused
        ('features.subscription_cancel.proration_behavior', 'word', '{create_prorations,none}'),
        ('features.subscription_cancel.cancellation_reason', 'hash', NULL),
        ('features.subscription_cancel.cancellation_reason.enabled', 'boolean', NULL),
        ('features.subscription_cancel.cancellation_reason.options', 'words',
         '{customer_service,low_quality,missing_features,other,switched_service,too_complex,too_expensive,unused}'),
        ('features.subscription_cancel.cancellation_reason.feedback_options', 'texts', NULL),
        ('features.subscription_pause', 'hash', NULL),
        ('features.subscription_pause.enabled', 'boolean', NULL),
        ('features.subscription_pause.duration', 'hash', NULL),
        ('features.subscription_pause.duration.type', 'word', '{indefinite,interval_options}'),
        ('features.subscription_pause.duration.interval_options', 'list', '{interval}'),
        ('features.subscription_pause.duration.interval_options.interval', 'word', '{day,week,month,year}'),
        ('features.subscription_pause.duration.interval_options.interval_count', 'integer', NULL),
        ('features.subscription_update', 'hash', NULL),
        ('features.subscription_update.enabled', 'argument', '{plan_changes}'),
        ('features.subscription_update.default_allowed_updates', 'words', '{price,promotion_code,quantity}'),
        ('features.subscription_update.products', 'list', '{product,prices}'),
        ('features.subscription_update.products.product', 'text', NULL),
        ('features.subscription_update.products.prices', 'texts', NULL),
        ('features.subscription_update.products.adjustable_quantity', 'hash', '{enabled}'),
        ('features.subscription_update.products.adjustable_quantity.enabled', 'boolean', NULL),
        ('features.subscription_update.products.adjustable_quantity.minimum', 'integer', NULL),
        ('features.subscription_update.products.adjustable_quantity.maximum', 'integer', NULL),
        ('features.subscription_update.proration_behavior', 'word', '{always_invoice,create_prorations,none}'),
        ('features.subscription_update.billing_cycle_anchor', 'word', '{now,unchanged}'),
        ('features.subscription_update.schedule_at_period_end', 'hash', NULL),
        ('features.subscription_update.schedule_at_period_end.conditions', 'list', '{type}'),
        ('features.subscription_update.schedule_at_period_end.conditions.type', 'word',
         '{decreasing_item_amount,shortening_interval}'),
        ('features.subscription_update.trial_update_behavior', 'word', '{continue_trial,end_trial}')
$$;

COMMENT ON FUNCTION stripe_portal.configuration_parameter() IS
'The known parameters of Stripe''s portal configuration. kind: argument for those that an argument of stripe_portal_configure decides, which words names; ours for those that nobody else decides; word or words with the values there are in words; hash and list with the required keys in words; else the type of the value';

CREATE OR REPLACE FUNCTION stripe_portal.edit_distance(a text, b text)
RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_edit_distance';

COMMENT ON FUNCTION stripe_portal.edit_distance(text, text) IS
'How many characters to insert, delete or replace to make one name (at most 255 characters) of the other';

CREATE OR REPLACE FUNCTION stripe_portal.refuse_configuration(problem text, hint text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hint IS NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RAISE EXCEPTION '%', problem USING ERRCODE = 'invalid_parameter_value', HINT = hint;
END
$$;

COMMENT ON FUNCTION stripe_portal.refuse_configuration(text, text) IS
'Raises error 22023';

CREATE OR REPLACE FUNCTION stripe_portal.check_configuration_option(path text, value jsonb, known_parent boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last CONSTANT text := regexp_replace(path, '^.*[.]', '');
    parent CONSTANT text := left(path, -length(last));
    parameter record;
    meant text;
    problem text;
    element jsonb;
    entry record;
BEGIN
    SELECT p.* INTO parameter
    FROM stripe_portal.configuration_parameter() AS p
    WHERE p.path = check_configuration_option.path;

    IF NOT FOUND THEN
        -- one of these could make another parameter of it
        IF last !~ '^[a-z][a-z0-9_]{0,62}$' THEN
            PERFORM stripe_portal.refuse_configuration(format('option "%s" is not a name of a parameter', path));
        END IF;
        IF known_parent THEN
            SELECT p.path INTO meant
            FROM stripe_portal.configuration_parameter() AS p,
                 regexp_replace(p.path, '^.*[.]', '') AS known (key)
            WHERE (left(p.path, -length(known.key)) = parent
                   AND stripe_portal.edit_distance(known.key, last) <= 2)
               -- right, but not here
               OR (parent IN ('', 'features.') AND known.key = last)
            ORDER BY stripe_portal.edit_distance(known.key, last), length(p.path)
            LIMIT 1;
            IF FOUND THEN
                PERFORM stripe_portal.refuse_configuration(
                    format('option "%s" is not known', path), format('Perhaps you mean "%s".', meant));
            END IF;
        END IF;
        -- a parameter of later: its names have to be names all the same
        FOR entry IN SELECT e.key, e.value
                     FROM jsonb_path_query(value, 'strict $.** ? (@.type() == "object")') AS hash, jsonb_each(hash) AS e
        LOOP
            PERFORM stripe_portal.check_configuration_option(path || '.' || replace(entry.key, '.', ' '), 'null', false);
        END LOOP;
        RETURN;
    END IF;

    CASE parameter.kind
        WHEN 'argument' THEN
            PERFORM stripe_portal.refuse_configuration(
                format('options must not have "%s"', path),
                format('The argument "%s" decides that.', parameter.words[1]));
        WHEN 'ours' THEN
            PERFORM stripe_portal.refuse_configuration(format('options must not have "%s"', path));
        WHEN 'hash' THEN
            IF jsonb_typeof(value) <> 'object' THEN
                problem := 'a JSON object';
            ELSIF NOT value ?& coalesce(parameter.words, '{}') THEN
                problem := format('a JSON object with "%s"', array_to_string(parameter.words, '" and "'));
            ELSE
                FOR entry IN SELECT e.key, e.value FROM jsonb_each(value) AS e LOOP
                    PERFORM stripe_portal.check_configuration_option(
                        path || '.' || replace(entry.key, '.', ' '), entry.value, true);
                END LOOP;
            END IF;
        WHEN 'list' THEN
            IF jsonb_typeof(value) <> 'array' THEN
                problem := 'a list of JSON objects';
            ELSE
                FOR element IN SELECT jsonb_array_elements(value) LOOP
                    IF jsonb_typeof(element) <> 'object' OR NOT element ?& parameter.words THEN
                        problem := format('a list of JSON objects with "%s"',
                                          array_to_string(parameter.words, '" and "'));
                        EXIT;
                    END IF;
                    FOR entry IN SELECT e.key, e.value FROM jsonb_each(element) AS e LOOP
                        PERFORM stripe_portal.check_configuration_option(
                            path || '.' || replace(entry.key, '.', ' '), entry.value, true);
                    END LOOP;
                END LOOP;
            END IF;
        WHEN 'metadata' THEN
            -- one more is ours
            IF jsonb_typeof(value) <> 'object' OR (SELECT count(*) FROM jsonb_object_keys(value)) > 49 THEN
                problem := 'a JSON object with at most 49 keys';
            ELSIF value ? 'stripe_portal' THEN
                PERFORM stripe_portal.refuse_configuration('options must not have "metadata.stripe_portal"');
            ELSIF EXISTS (SELECT FROM jsonb_each(value) AS e
                          WHERE length(e.key) NOT BETWEEN 1 AND 40 OR e.key ~ '[][[:cntrl:]]'
                             OR jsonb_typeof(e.value) <> 'string' OR length(e.value #>> '{}') NOT BETWEEN 1 AND 500) THEN
                problem := 'a JSON object with keys of 1 to 40 characters without brackets, and strings of 1 to 500 characters';
            END IF;
        WHEN 'word' THEN
            IF jsonb_typeof(value) <> 'string' OR value #>> '{}' <> ALL (parameter.words) THEN
                problem := 'one of ' || array_to_string(parameter.words, ', ');
            END IF;
        WHEN 'words' THEN
            IF jsonb_typeof(value) <> 'array' OR NOT value <@ to_jsonb(parameter.words)
               OR (SELECT count(*) <> count(DISTINCT w) FROM jsonb_array_elements(value) AS w) THEN
                problem := 'a list of ' || array_to_string(parameter.words, ', ') || ', each at most once';
            END IF;
        WHEN 'texts' THEN
            IF jsonb_typeof(value) <> 'array'
               OR EXISTS (SELECT FROM jsonb_array_elements(value) AS t
                          WHERE jsonb_typeof(t) <> 'string' OR t = '""')
               OR (SELECT count(*) <> count(DISTINCT t) FROM jsonb_array_elements(value) AS t) THEN
                problem := 'a list of strings, each at most once';
            END IF;
        WHEN 'boolean' THEN
            IF jsonb_typeof(value) <> 'boolean' THEN
                problem := 'true or false';
            END IF;
        WHEN 'integer' THEN
            IF jsonb_typeof(value) <> 'number' OR value::text !~ '^[0-9]{1,9}$' THEN
                problem := 'a whole number, not negative';
            END IF;
        WHEN 'text' THEN
            IF jsonb_typeof(value) <> 'string' OR value = '""' THEN
                problem := 'a string that is not empty';
            END IF;
        WHEN 'url' THEN
            IF jsonb_typeof(value) <> 'string' OR value #>> '{}' !~ '^https?://[^/?#[:space:][:cntrl:]]+[^[:space:][:cntrl:]]*$' THEN
                problem := 'an absolute URL';
            END IF;
    END CASE;
    IF problem IS NOT NULL THEN
        PERFORM stripe_portal.refuse_configuration(format('option "%s" must be %s', path, problem));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_configuration_option(text, jsonb, boolean) IS
'Raises error 22023 if a parameter has the wrong type or value, or is unknown and looks like a known one; known_parent says that the hash it is in is a known one, and calls for the latter';

CREATE OR REPLACE FUNCTION stripe_portal.check_configuration_prices(
    products jsonb, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    -- Prices that are not known here are Stripe's business.
    WITH listed AS (
        SELECT entry.value ->> 'product' AS product, price.id
        FROM jsonb_array_elements(products) AS entry, jsonb_array_elements_text(entry.value -> 'prices') AS price (id)
    )
    SELECT format('price "%s" can not be offered: %s', listed.id, p.problem) INTO problem
    FROM listed
    JOIN stripe_portal.price AS known
        ON known.id = listed.id AND known.livemode = check_configuration_prices.livemode
        AND known.account = check_configuration_prices.account,
    LATERAL (SELECT CASE
        WHEN known.deleted OR NOT known.active THEN 'it is not active'
        WHEN known.type <> 'recurring' THEN 'it is not recurring'
        WHEN known.product <> listed.product THEN
            format('it belongs to product "%s", not to "%s"', known.product, listed.product)
        WHEN known.usage_type <> 'licensed' THEN 'it depends on usage'
        WHEN known.tax_behavior = 'unspecified' THEN 'its tax_behavior is unspecified'
        WHEN (SELECT count(*) FROM listed AS l
              JOIN stripe_portal.price AS k ON (k.id, k.livemode, k.account) = (l.id, known.livemode, known.account)
              WHERE l.product = listed.product
                AND (k."interval", k.interval_count) = (known."interval", known.interval_count)) > 1 THEN
            format('product "%s" has another one with the same interval', listed.product)
        END) AS p (problem)
    WHERE p.problem IS NOT NULL
    ORDER BY listed.id
    LIMIT 1;
    IF FOUND THEN
        PERFORM stripe_portal.refuse_configuration(problem);
    END IF;

    SELECT format('product "%s" is not active', known.id) INTO problem
    FROM jsonb_array_elements(products) AS entry
    JOIN stripe_portal.product AS known
        ON known.id = entry.value ->> 'product' AND known.livemode = check_configuration_prices.livemode
        AND known.account = check_configuration_prices.account
    WHERE known.deleted OR NOT known.active
    ORDER BY known.id
    LIMIT 1;
    IF FOUND THEN
        PERFORM stripe_portal.refuse_configuration(problem);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_configuration_prices(jsonb, boolean, text) IS
'Raises error 22023 if a product or price that is known here could not be offered for a change of plans';

CREATE OR REPLACE FUNCTION stripe_portal.check_configuration(declared stripe_portal.configuration)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    features jsonb;
    update_feature jsonb;
    pause jsonb;
    option record;
BEGIN
    IF coalesce(declared.name, '') !~ '^[^[:space:][:cntrl:]]([^[:cntrl:]]{0,98}[^[:space:][:cntrl:]])?$'
       OR starts_with(declared.name, 'bpc_') THEN
        PERFORM stripe_portal.refuse_configuration(
            'a configuration needs a name of 1 to 100 characters',
            'It must not begin or end with a space, nor begin with "bpc_", as Stripe''s ids do.');
    END IF;
    IF declared.account !~ '^(acct_[A-Za-z0-9_]+)?$' THEN
        PERFORM stripe_portal.refuse_configuration('argument "account" must be the id of a connected account');
    END IF;
    IF declared.cancel_flows IS NULL OR declared.plan_changes IS NULL THEN
        PERFORM stripe_portal.refuse_configuration('cancel_flows and plan_changes must be true or false');
    END IF;
    IF jsonb_typeof(declared.options) <> 'object' THEN
        PERFORM stripe_portal.refuse_configuration('options must be a JSON object');
    END IF;
    IF declared.return_url IS NOT NULL THEN
        PERFORM stripe_portal.check_return_url(declared.return_url);
    END IF;
    FOR option IN SELECT e.key, e.value FROM jsonb_each(declared.options) AS e LOOP
        PERFORM stripe_portal.check_configuration_option(replace(option.key, '.', ' '), option.value, true);
    END LOOP;

    -- From here on types and words are right; now what belongs together.
    features := stripe_portal.configuration_parameters(declared) -> 'features';
    update_feature := features -> 'subscription_update';
    IF declared.plan_changes AND features #> '{payment_method_update,enabled}' = 'false' THEN
        PERFORM stripe_portal.refuse_configuration(
            'plan changes need payment method updates',
            'Leave out "features.payment_method_update", or set plan_changes to false.');
    END IF;
    IF features #> '{customer_update,enabled}' = 'true' AND features #> '{customer_update,allowed_updates}' = '[]' THEN
        PERFORM stripe_portal.refuse_configuration('"features.customer_update" is enabled and allows no updates');
    END IF;
    IF features #> '{subscription_cancel,cancellation_reason,enabled}' = 'true'
       AND features #> '{subscription_cancel,cancellation_reason,options}' = '[]'
       AND features #> '{subscription_cancel,cancellation_reason,feedback_options}' = '[]' THEN
        PERFORM stripe_portal.refuse_configuration('there is no cancellation reason to choose from');
    END IF;
    IF NOT starts_with(features #>> '{payment_method_update,payment_method_configuration}', 'pmc_') THEN
        PERFORM stripe_portal.refuse_configuration(
            'option "features.payment_method_update.payment_method_configuration" must be an id (pmc_…)');
    END IF;

    pause := features #> '{subscription_pause,duration}';
    IF pause ->> 'type' = 'indefinite'
       AND declared.options #> '{features,subscription_pause,duration,interval_options}' IS NOT NULL THEN
        PERFORM stripe_portal.refuse_configuration('an indefinite pause has no interval options');
    END IF;
    IF pause ->> 'type' = 'interval_options' AND pause -> 'interval_options' = '[]' THEN
        PERFORM stripe_portal.refuse_configuration('there is no interval for a pause to choose from');
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(pause -> 'interval_options') AS o,
                   LATERAL (SELECT (o ->> 'interval_count')::integer) AS c (n)
               WHERE c.n < 1 OR c.n > CASE o ->> 'interval' WHEN 'day' THEN 1095 WHEN 'week' THEN 156
                                                            WHEN 'month' THEN 36 ELSE 3 END) THEN
        PERFORM stripe_portal.refuse_configuration('an interval of a pause must be at least 1 and at most 3 years');
    END IF;

    IF jsonb_array_length(update_feature -> 'products') > 10 THEN
        PERFORM stripe_portal.refuse_configuration('at most 10 products can be offered');
    END IF;
    IF (SELECT count(*) <> count(DISTINCT p -> 'product')
        FROM jsonb_array_elements(update_feature -> 'products') AS p) THEN
        PERFORM stripe_portal.refuse_configuration(
            'a product is listed twice', 'List it once, with all its prices.');
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(update_feature -> 'products') AS p WHERE p -> 'prices' = '[]') THEN
        PERFORM stripe_portal.refuse_configuration('a product has no prices');
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(update_feature -> 'products') AS p
               WHERE (p #>> '{adjustable_quantity,maximum}')::integer
                     < greatest((p #>> '{adjustable_quantity,minimum}')::integer, 1)) THEN
        PERFORM stripe_portal.refuse_configuration('the maximum of a quantity must not be less than its minimum, or 0');
    END IF;
    PERFORM stripe_portal.check_configuration_prices(update_feature -> 'products', declared.livemode, declared.account);

    IF declared.plan_changes AND '[]' IN (update_feature -> 'products', update_feature -> 'default_allowed_updates') THEN
        RAISE WARNING 'plan changes are switched on, but there is nothing that customers can change'
            USING HINT = 'List products with their prices in "features.subscription_update.products".';
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_configuration(stripe_portal.configuration) IS
'Raises error 22023 for what Stripe would refuse of a declared configuration, or what no customer could use';
