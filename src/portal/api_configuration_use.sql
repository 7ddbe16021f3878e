-- portal: the configuration of a session.  Checked is what Stripe has, as far
-- as the mirror knows it, since that is what the customer will meet.

CREATE OR REPLACE FUNCTION stripe_portal.session_configuration(
    wanted jsonb, livemode boolean, account text, OUT id text, OUT name text, OUT return_url text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF wanted IS NOT NULL AND (jsonb_typeof(wanted) <> 'string' OR wanted = '""') THEN
        RAISE EXCEPTION 'option "configuration" must be a name or an id'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    SELECT c.stripe_id, c.name, c.return_url INTO id, name, return_url
    FROM stripe_portal.configuration AS c
    WHERE c.livemode = session_configuration.livemode AND c.account = session_configuration.account
      AND CASE WHEN wanted IS NULL THEN c.is_default AND c.stripe_id IS NOT NULL
               ELSE wanted #>> '{}' IN (c.name, c.stripe_id) END;
    IF FOUND AND id IS NULL THEN
        RAISE EXCEPTION 'configuration "%" is not applied yet', name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Apply it by stripe_portal_configuration_apply.';
    ELSIF NOT FOUND AND starts_with(wanted #>> '{}', 'bpc_') THEN
        id := wanted #>> '{}';
    ELSIF NOT FOUND AND wanted IS NOT NULL THEN
        RAISE EXCEPTION 'no configuration "%" is declared in % mode', wanted #>> '{}',
                CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Declare it by stripe_portal_configure, or give Stripe''s id (bpc_…).';
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.session_configuration(jsonb, boolean, text) IS
'The configuration of a session: the declared one of that name, Stripe''s of that id, or if none is wanted (NULL) the declared default, once it is applied. All NULL leaves it to Stripe; error 22023 for a name that is not declared, or not applied';

CREATE OR REPLACE FUNCTION stripe_portal.check_flow_configuration(
    flow text, own jsonb, s stripe_portal.subscription, id text, name text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    feature CONSTANT text := CASE flow WHEN 'subscription_update_confirm' THEN 'subscription_update' ELSE flow END;
    price CONSTANT text := own #>> '{items,0,price}';
    known stripe_portal.billing_portal_configuration;
    called text;
BEGIN
    SELECT c.* INTO known
    FROM stripe_portal.billing_portal_configuration AS c
    WHERE c.livemode = check_flow_configuration.livemode AND c.account = check_flow_configuration.account
      AND CASE WHEN check_flow_configuration.id IS NULL THEN c.is_default
               ELSE c.id = check_flow_configuration.id END;
    called := coalesce(name, known.id);

    IF known.deleted OR NOT known.active THEN
        RAISE EXCEPTION 'portal configuration "%" is not active', called
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF known.features #> ARRAY[feature, 'enabled'] = 'false' THEN
        RAISE EXCEPTION 'flow "%" is switched off in portal configuration "%"', flow, called
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('At Stripe, features.%s.enabled is false.', feature);
    END IF;
    IF flow = 'subscription_update_confirm' AND price <> s.items #>> '{0,price}'
       AND known.products_updated = known.updated
       AND NOT jsonb_path_exists(known.products, '$[*].prices[*] ? (@ == $price)', jsonb_build_object('price', price)) THEN
        RAISE EXCEPTION 'portal configuration "%" does not offer price "%"', called, price
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'List it in "features.subscription_update.products", and apply the configuration.';
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.check_flow_configuration(text, jsonb, stripe_portal.subscription, text, text, boolean, text) IS
'Raises error 22023 if the configuration of the id, or Stripe''s default for NULL, is known not to let anybody into the flow, or not to offer the price that own, the flow''s parameters, wants confirmed; name is what messages call it';
