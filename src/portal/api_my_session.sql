-- portal: the portal of whoever asks.

CREATE OR REPLACE FUNCTION @extschema@.stripe_my_portal_session(
    return_url text DEFAULT NULL, flow text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asking CONSTANT record := stripe_portal.asking_customer();
BEGIN
    -- What else there is, such as coupons and another configuration, is not the customer's to choose.
    IF (options - 'locale' - 'subscription') #- '{flow_data,after_completion}' NOT IN ('{}', '{"flow_data": {}}') THEN
        RAISE EXCEPTION 'options must have nothing but "locale", "subscription" and "after_completion" in "flow_data"'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN stripe_portal.open_session(
        asking.customer, return_url, flow, options ->> 'subscription',
        coalesce(options - 'subscription', '{}') || jsonb_strip_nulls(jsonb_build_object('account', nullif(asking.account, ''))));
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_my_portal_session(text, text, jsonb) IS
'Opens the portal for the customer who is asking, as stripe_portal_session does, and returns its URL. Who that is, is never an argument: for a session of the login role stripe_portal.gateway_role the request''s token tells, in the setting request.jwt.claims, which gateways such as PostgREST fill from a token that they have verified: by the claim stripe_portal.customer_claim, or by the user''s id and what stripe_portal_map_users was told; for any other login role its row in stripe_portal.customer_role. Error 42501 if that tells nobody. options: only locale, subscription (the subscription of the flow) and flow_data with after_completion; error 22023 for the rest, which is not the customer''s to choose';
