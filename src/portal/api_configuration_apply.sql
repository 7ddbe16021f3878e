-- portal: comparing declared configurations with Stripe's, and applying them.

CREATE OR REPLACE FUNCTION stripe_portal.declared_configuration(name text, account text, livemode boolean)
RETURNS stripe_portal.configuration
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    declared stripe_portal.configuration;
BEGIN
    IF livemode <> key_livemode THEN
        RAISE EXCEPTION 'the configured Stripe API key is not for % mode', CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SPC01';
    END IF;
    SELECT known.* INTO declared
    FROM stripe_portal.configuration AS known
    WHERE known.name = declared_configuration.name AND known.livemode = key_livemode
      AND known.account = coalesce(declared_configuration.account, '');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no configuration "%" is declared in % mode', name,
                CASE WHEN key_livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Declare it by stripe_portal_configure.';
    END IF;
    RETURN declared;
END
$$;

COMMENT ON FUNCTION stripe_portal.declared_configuration(text, text, boolean) IS
'The declaration of that name in the mode of the configured key; error 22023 if there is none; SPC01 if livemode, unless NULL, is another mode';

CREATE OR REPLACE FUNCTION stripe_portal.read_configuration(declared stripe_portal.configuration)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    connected CONSTANT text := nullif(declared.account, '');
    page jsonb;
    params jsonb := '{"active": true, "limit": 100, "expand": ["data.features.subscription_update.products"]}';
    found jsonb;
BEGIN
    IF declared.stripe_id IS NOT NULL THEN
        BEGIN
            RETURN stripe_portal.api('GET', '/v1/billing_portal/configurations/' || declared.stripe_id,
                                     '{"expand": ["features.subscription_update.products"]}', connected);
        EXCEPTION WHEN SQLSTATE 'SP404' THEN
            NULL; -- a restored dump may speak of another account's objects
        END;
    END IF;

    -- It may have been created by a transaction that did not live to tell.
    -- The oldest is the one; the list begins with the newest.
    LOOP
        page := stripe_portal.api('GET', '/v1/billing_portal/configurations', params, connected);
        -- taken for an empty list, it would lead to a second object
        IF jsonb_typeof(page -> 'data') IS DISTINCT FROM 'array' THEN
            RAISE EXCEPTION 'Stripe''s answer is not a list of portal configurations' USING ERRCODE = 'SP502';
        END IF;
        found := coalesce((
            SELECT item
            FROM jsonb_array_elements(page -> 'data') WITH ORDINALITY AS data (item, n)
            WHERE item #>> '{metadata,stripe_portal}' = declared.name
            ORDER BY n DESC
            LIMIT 1), found);
        EXIT WHEN (page ->> 'has_more')::boolean IS NOT TRUE OR page #> '{data,-1,id}' IS NULL;
        params := params || jsonb_build_object('starting_after', page #> '{data,-1,id}');
    END LOOP;
    RETURN found;
END
$$;

COMMENT ON FUNCTION stripe_portal.read_configuration(stripe_portal.configuration) IS
'Stripe''s object of a declared configuration, read from the API with its products: by its id, else by the name in its metadata; NULL if there is none';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_configuration_diff(
    name text, account text DEFAULT '', livemode boolean DEFAULT NULL, from_mirror boolean DEFAULT false,
    OUT path text, OUT declared jsonb, OUT at_stripe jsonb)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    configuration CONSTANT stripe_portal.configuration := stripe_portal.declared_configuration(name, account, livemode);
BEGIN
    IF NOT from_mirror THEN
        RETURN QUERY
        SELECT array_to_string(d.path, '.'), stripe_portal.without_secrets(d.declared),
               stripe_portal.without_secrets(d.at_stripe)
        FROM stripe_portal.configuration_difference(
            configuration, stripe_portal.read_configuration(configuration)) AS d;
        RETURN;
    END IF;

    RETURN QUERY
    SELECT d.path, d.declared, d.at_stripe
    FROM stripe_portal.billing_portal_configuration AS known,
         stripe_portal.configuration_drift(configuration, known) AS d
    WHERE (known.id, known.livemode, known.account)
          = (configuration.stripe_id, configuration.livemode, configuration.account);
    IF NOT EXISTS (SELECT FROM stripe_portal.billing_portal_configuration AS known
                   WHERE (known.id, known.livemode, known.account)
                         = (configuration.stripe_id, configuration.livemode, configuration.account)) THEN
        RAISE EXCEPTION 'configuration "%" is not in the mirror', name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Apply it by stripe_portal_configuration_apply.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_configuration_diff(text, text, boolean, boolean) IS
'The fields in which a declared portal configuration and Stripe''s differ: path as Stripe names it, the value declared (defaults included) and the one at Stripe; no rows if nothing is to be applied. Asks Stripe, and changes nothing; with from_mirror, asks the mirrored object instead, without a request (error 55000 if there is none), and without the products of plan changes if they may have changed since they were read. account: as for stripe_portal_configure. livemode: NULL is the mode of the configured key, the only one that can be read; the other is error SPC01. Keys and secrets are cut from the values';

CREATE OR REPLACE FUNCTION stripe_portal.configuration_request(declared stripe_portal.configuration, stripe jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parameters CONSTANT jsonb := stripe_portal.configuration_parameters(declared);
    field record;
    whole text[];
    value jsonb;
    request jsonb := '{}';
BEGIN
    FOR field IN
        -- to create one takes "enabled" of every feature, also where it is false
        SELECT f.path
        FROM stripe_portal.configuration_fields(parameters - 'active') AS f
        WHERE stripe IS NULL AND f.value NOT IN ('null', '[]')
          -- but for this one, which older versions of Stripe's API do not know
          AND NOT (f.path = '{features,subscription_pause,enabled}' AND f.value = 'false')
        UNION ALL
        SELECT d.path
        FROM stripe_portal.configuration_difference(declared, stripe) AS d
        WHERE stripe IS NOT NULL
    LOOP
        -- Stripe wants "enabled" or "type" with whatever is in these
        whole := CASE WHEN field.path[1:2] = '{features,payment_method_update}' THEN field.path[1:2]
                      WHEN field.path[1:3] IN ('{features,subscription_cancel,cancellation_reason}',
                                               '{features,subscription_pause,duration}') THEN field.path[1:3]
                      ELSE field.path END;
        value := coalesce(jsonb_strip_nulls(parameters #> whole), 'null');
        IF jsonb_typeof(value) = 'object' THEN
            -- what is empty and was so is left out
            SELECT jsonb_object_agg(e.key, CASE e.value WHEN '[]' THEN 'null' ELSE e.value END) INTO value
            FROM jsonb_each(parameters #> whole) AS e
            WHERE e.value NOT IN ('null', '[]') OR e.key = 'options'
               OR stripe #> (whole || e.key) NOT IN ('null', '[]');
        ELSIF value = '[]' THEN
            value := 'null'; -- which clears it, while an empty list says nothing
        END IF;
        FOR step IN REVERSE cardinality(whole) .. 1 LOOP
            value := jsonb_build_object(whole[step], value);
        END LOOP;
        request := stripe_portal.put_back(request, value);
    END LOOP;
    RETURN request;
END
$$;

COMMENT ON FUNCTION stripe_portal.configuration_request(stripe_portal.configuration, jsonb) IS
'The parameters that make Stripe''s object as declared: of those that differ, and where Stripe wants it their whole hash; all of them to create one, if there is none (NULL). {} if nothing differs';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_configuration_apply(
    name text, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    expand CONSTANT jsonb := '{"expand": ["features.subscription_update.products"]}';
    declared stripe_portal.configuration := stripe_portal.declared_configuration(name, account, livemode);
    stripe jsonb;
    request jsonb;
    left_over text;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_portal_configuration_apply()');
    -- Nobody waits for this lock, and it is held until what was done is
    -- committed, so that the next one sees it.
    IF NOT stripe_portal.try_lock(format('configuration %L %s %L', declared.name, declared.livemode, declared.account)) THEN
        RAISE EXCEPTION 'configuration "%" is being applied by another session', name
            USING ERRCODE = 'lock_not_available',
                  HINT = 'Try again when that transaction has ended.';
    END IF;
    declared := stripe_portal.declared_configuration(name, account, livemode);

    stripe := stripe_portal.read_configuration(declared);
    request := stripe_portal.configuration_request(declared, stripe);
    IF stripe IS NULL THEN
        -- An attempt whose answer was lost, or one from another database, has
        -- the same key, and Stripe makes one object of both.  A refusal would
        -- be repeated for the same key, too, so it makes the next key another.
        BEGIN
            stripe := stripe_portal.api(
                'POST', '/v1/billing_portal/configurations', request || expand, nullif(declared.account, ''),
                'stripe_portal-' || encode(sha256(convert_to(concat_ws(' ',
                    declared.livemode, extract(epoch FROM declared.declared_at), request,
                    (SELECT s.last_value + s.is_called::integer FROM stripe_portal.configuration_refused AS s)),
                    'UTF8')), 'hex'));
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE LIKE 'SP%' THEN
                PERFORM nextval('stripe_portal.configuration_refused');
            END IF;
            RAISE;
        END;
    ELSIF request <> '{}' THEN
        stripe := stripe_portal.api(
            'POST', '/v1/billing_portal/configurations/' || (stripe ->> 'id'), request || expand,
            nullif(declared.account, ''));
    END IF;

    IF stripe ->> 'id' IS NULL OR stripe -> 'livemode' IS DISTINCT FROM to_jsonb(declared.livemode) THEN
        RAISE EXCEPTION 'Stripe''s answer is not a portal configuration in % mode',
                CASE WHEN declared.livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SP502';
    END IF;
    PERFORM stripe_portal.apply_object(stripe, declared.livemode, declared.account,
                                       stripe_portal.read_time(stripe -> 'updated'));
    UPDATE stripe_portal.configuration AS known
    SET stripe_id = stripe ->> 'id',
        applied_at = CASE WHEN known.declared_at = declared.declared_at THEN clock_timestamp() ELSE known.applied_at END
    WHERE (known.name, known.livemode, known.account) = (declared.name, declared.livemode, declared.account);

    SELECT string_agg(array_to_string(d.path, '.'), ', ') INTO left_over
    FROM stripe_portal.configuration_difference(declared, stripe) AS d;
    IF left_over IS NOT NULL THEN
        RAISE WARNING 'configuration "%" is not as declared after it was applied', name
            USING DETAIL = format('Stripe kept its own value of %s.', left_over);
    END IF;
    RETURN stripe ->> 'id';
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_configuration_apply(text, text, boolean) IS
'Makes Stripe''s portal configuration as declared and returns its id (bpc_…): sends only the fields that differ, nothing if none does, and creates the object if there is none. It finds it again by its metadata if the id was lost with a transaction. account: as for stripe_portal_configure. livemode: NULL is the mode of the configured key; the other is error SPC01. Error 55P03 if another session is applying the same configuration; 22023 if it is not declared. What was done at Stripe is not undone when the transaction is rolled back; calling again then takes it over. Give each call its own transaction, so that the next one''s request is not waited for by others';
