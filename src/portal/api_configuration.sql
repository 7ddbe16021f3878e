-- portal: declaring what the portal offers.

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_configure(
    name text, cancel_flows boolean, plan_changes boolean, options jsonb DEFAULT '{}',
    return_url text DEFAULT NULL, is_default boolean DEFAULT NULL,
    account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- asked first, because it loads the library, and with it the settings
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    declared stripe_portal.configuration;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_portal_configure()');
    declared.name := stripe_portal_configure.name;
    declared.livemode := coalesce(stripe_portal_configure.livemode, key_livemode);
    declared.account := coalesce(stripe_portal_configure.account, '');
    declared.cancel_flows := stripe_portal_configure.cancel_flows;
    declared.plan_changes := stripe_portal_configure.plan_changes;
    declared.options := jsonb_strip_nulls(coalesce(stripe_portal_configure.options, '{}'));
    declared.return_url := stripe_portal_configure.return_url;
    PERFORM stripe_portal.check_configuration(declared);

    IF NOT declared.cancel_flows AND NOT stripe_portal.has_winback(declared.livemode, declared.account) THEN
        IF current_setting('stripe_portal.require_winback')::boolean THEN
            RAISE EXCEPTION 'configuration "%" switches cancellation off while no win-back rule is active', name
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'Activate a rule in stripe_portal.winback_rule first, or set "stripe_portal.require_winback" to off.';
        END IF;
        RAISE WARNING 'configuration "%" switches cancellation off while no win-back rule is active', name
            USING HINT = 'Who can not cancel in the portal cancels elsewhere, and is won back by nobody.';
    END IF;

    -- The first one is what sessions use, until another one is said to be.
    declared.is_default := coalesce(
        stripe_portal_configure.is_default,
        (SELECT known.is_default
         FROM stripe_portal.configuration AS known
         WHERE (known.name, known.livemode, known.account) = (declared.name, declared.livemode, declared.account)),
        NOT EXISTS (SELECT FROM stripe_portal.configuration AS known
                    WHERE known.is_default
                      AND (known.livemode, known.account) = (declared.livemode, declared.account)));
    IF declared.is_default THEN
        UPDATE stripe_portal.configuration AS other
        SET is_default = false
        WHERE other.is_default AND other.name <> declared.name
          AND (other.livemode, other.account) = (declared.livemode, declared.account);
    END IF;

    INSERT INTO stripe_portal.configuration AS known (
        name, livemode, account, cancel_flows, plan_changes, options, return_url, is_default, declared_at)
    VALUES (
        declared.name, declared.livemode, declared.account, declared.cancel_flows, declared.plan_changes,
        declared.options, declared.return_url, declared.is_default, clock_timestamp())
    ON CONFLICT ON CONSTRAINT configuration_pkey DO UPDATE SET
        cancel_flows = excluded.cancel_flows,
        plan_changes = excluded.plan_changes,
        options = excluded.options,
        return_url = excluded.return_url,
        is_default = excluded.is_default,
        -- saying the same again declares nothing new
        declared_at = CASE
            WHEN (known.cancel_flows, known.plan_changes, known.options, known.return_url)
                 IS DISTINCT FROM (excluded.cancel_flows, excluded.plan_changes, excluded.options, excluded.return_url)
            THEN excluded.declared_at ELSE known.declared_at END;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_configure(text, boolean, boolean, jsonb, text, boolean, text, boolean) IS
'Declares a portal configuration; stripe_portal_configuration_apply brings it to Stripe, no request leaves here. name: yours, by which sessions ask for it, and Stripe''s name of it. cancel_flows, plan_changes: whether customers can cancel and change plans. options: every other parameter of Stripe''s configuration under its own name, such as features, business_profile, login_page and metadata; what is left out has a default, and what was declared before and is left out now goes back to it. return_url: of sessions that are opened without one; may have the placeholders of return URLs. is_default: whether sessions that name no configuration use this one; NULL leaves that as it is, and makes the first one of a mode and account the default. account: a connected account (acct_…). livemode: NULL is the mode of the configured key. Error 22023 for what Stripe would refuse, or what no customer could use; a warning, or with stripe_portal.require_winback an error, if cancellation is switched off while no win-back rule is active';

CREATE OR REPLACE FUNCTION stripe_portal.has_winback(livemode boolean, account text)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found boolean := false;
BEGIN
    -- win-back is built on the portal, so its table is asked for by name only
    IF to_regclass('stripe_portal.winback_rule') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM stripe_portal.winback_rule AS r
                                WHERE r.active AND r.livemode = $1 AND r.account = $2)'
            INTO found
            USING has_winback.livemode, has_winback.account;
    END IF;
    RETURN found;
END
$$;

COMMENT ON FUNCTION stripe_portal.has_winback(boolean, text) IS
'Whether a win-back rule is active in the mode and account';

COMMENT ON TABLE stripe_portal.configuration IS 'Portal configurations as the team declares them, by stripe_portal_configure';
COMMENT ON COLUMN stripe_portal.configuration.name IS 'The team''s name of it, which sessions can ask for; also its name at Stripe';
COMMENT ON COLUMN stripe_portal.configuration.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.configuration.cancel_flows IS 'features.subscription_cancel.enabled';
COMMENT ON COLUMN stripe_portal.configuration.plan_changes IS 'features.subscription_update.enabled';
COMMENT ON COLUMN stripe_portal.configuration.options IS 'The other parameters, under Stripe''s names; only what was declared, without defaults';
COMMENT ON COLUMN stripe_portal.configuration.return_url IS 'Where sessions lead back to that are opened without a return URL; Stripe''s default_return_url, if it has no placeholders';
COMMENT ON COLUMN stripe_portal.configuration.is_default IS 'Whether sessions that name no configuration use this one, once it is applied; at most one per mode and account';
COMMENT ON COLUMN stripe_portal.configuration.declared_at IS 'When the declaration last changed';
COMMENT ON COLUMN stripe_portal.configuration.stripe_id IS 'Stripe''s id (bpc_…); NULL until it is applied';
COMMENT ON COLUMN stripe_portal.configuration.applied_at IS 'When Stripe last was found, or made, to be as declared; before declared_at if the declaration has changed since';
COMMENT ON SEQUENCE stripe_portal.configuration_refused IS 'Counts the configurations that Stripe refused to create, so that the next attempt has another idempotency key and not the old refusal';
