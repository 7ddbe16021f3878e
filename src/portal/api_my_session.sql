-- portal: the portal of whoever asks.
--
-- Anybody who can run SQL can set request.jwt.claims, so it is believed only of
-- the login role of a gateway, which lets nobody run SQL.  The login role is
-- session_user: neither SET ROLE nor a SECURITY DEFINER function changes it.

CREATE OR REPLACE FUNCTION stripe_portal.asking_customer(OUT customer text, OUT account text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- asked first, because it loads the library: before, anybody could set its settings
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    claim CONSTANT text := current_setting('stripe_portal.customer_claim');
BEGIN
    IF session_user = current_setting('stripe_portal.gateway_role') THEN
        customer := nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> string_to_array(claim, '.'), '');
        account := '';
        IF customer IS NULL THEN
            RAISE EXCEPTION 'it is not known which customer is asking'
                USING ERRCODE = 'insufficient_privilege',
                      DETAIL = format('The token of the request has no claim "%s".', claim);
        END IF;
        RETURN;
    END IF;

    SELECT r.customer, r.account INTO customer, account
    FROM stripe_portal.customer_role AS r
    WHERE r.role = session_user AND r.livemode = key_livemode;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'it is not known which customer is asking'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" has no row in stripe_portal.customer_role in %s mode.', session_user,
                                  CASE WHEN key_livemode THEN 'live' ELSE 'test' END);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.asking_customer() IS
'The customer who is asking, and their connected account: by the claim of the request''s token, if the login role is the gateway''s, else by stripe_portal.customer_role; error 42501 if neither tells';

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
'Opens the portal for the customer who is asking, as stripe_portal_session does, and returns its URL. Who that is, is never an argument: for a session of the login role stripe_portal.gateway_role it is the claim stripe_portal.customer_claim in the setting request.jwt.claims, which gateways such as PostgREST fill from a token that they have verified; for any other login role its row in stripe_portal.customer_role. Error 42501 if that tells nobody. options: only locale, subscription (the subscription of the flow) and flow_data with after_completion; error 22023 for the rest, which is not the customer''s to choose';

COMMENT ON TABLE stripe_portal.customer_role IS 'Which customer a login role is, for stripe_my_portal_session';
COMMENT ON COLUMN stripe_portal.customer_role.role IS 'The name of the login role, as session_user has it';
COMMENT ON COLUMN stripe_portal.customer_role.livemode IS 'Live or test mode';
COMMENT ON COLUMN stripe_portal.customer_role.account IS 'The connected account that the customer is of; empty for your own';
