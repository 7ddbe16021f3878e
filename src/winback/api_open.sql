-- winback: the link in a message is visited.

CREATE OR REPLACE FUNCTION stripe_portal.winback_flow(o stripe_portal.winback_offer, OUT flow text, OUT subscription text, OUT own jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s stripe_portal.subscription;
BEGIN
    own := '{}';
    flow := CASE
        -- the access rule lets those who do not pay reach this one only
        WHEN o.trigger_on = 'payment_failed' AND o.kind IN ('update_card', 'message') THEN 'payment_method_update'
        WHEN o.kind = 'pause_offer' THEN 'subscription_pause'
        WHEN o.kind IN ('coupon', 'promotion_code') AND o.coupon IS NOT NULL AND o.state <> 'accepted' THEN 'subscription_update_confirm'
        ELSE 'portal' END;
    IF NOT starts_with(flow, 'subscription_') THEN
        RETURN;
    END IF;

    SELECT k.* INTO s
    FROM stripe_portal.subscription AS k
    WHERE (k.id, k.customer, k.livemode, k.account) = (o.subscription, o.customer, o.livemode, o.account);
    IF NOT FOUND OR stripe_portal.flow_problem(flow, s) IS NOT NULL THEN
        flow := 'portal';
        RETURN;
    END IF;
    subscription := s.id;
    IF flow = 'subscription_update_confirm' THEN
        own := jsonb_build_object('discounts', jsonb_build_array(
            CASE WHEN o.promotion_code IS NOT NULL THEN jsonb_build_object('promotion_code', o.promotion_code)
                 ELSE jsonb_build_object('coupon', o.coupon) END));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_flow(stripe_portal.winback_offer) IS
'The flow of the portal that an offer leads to, for which subscription, and its parameters: payment_method_update after a failed payment, subscription_pause, subscription_update_confirm with the discount; the plain portal for the rest, and where the subscription can not enter the flow';

CREATE OR REPLACE FUNCTION stripe_portal.winback_extend_trial(o stripe_portal.winback_offer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until bigint;
BEGIN
    -- counted from the end that the trial had then, so twice is the same as once
    SELECT extract(epoch FROM c.trial_end + r.extend_by)::bigint INTO until
    FROM stripe_portal.winback_rule AS r
    JOIN stripe_portal.subscription AS s ON (s.id, s.livemode, s.account) = (o.subscription, o.livemode, o.account)
    CROSS JOIN LATERAL (
        SELECT h.trial_end
        FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account) = (o.subscription, o.livemode, o.account) AND h.at <= o.at
        ORDER BY h.at DESC
        LIMIT 1) AS c
    WHERE (r.name, r.livemode, r.account) = (o.rule, o.livemode, o.account)
      AND s.status = 'trialing' AND c.trial_end + r.extend_by > s.trial_end;
    IF FOUND THEN
        PERFORM stripe_portal.api('POST', '/v1/subscriptions/' || o.subscription,
            jsonb_build_object('trial_end', until, 'proration_behavior', 'none'),
            nullif(o.account, ''), format('winback-trial-%s-%s', o.id, until));
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_extend_trial(stripe_portal.winback_offer) IS
'Moves the end of a trial that is still running to extend_by after what it was when the offer was made; once';

CREATE OR REPLACE FUNCTION @extschema@.stripe_winback_open(token text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
    way record;
    options jsonb;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_winback_open()');
    SELECT w.* INTO o FROM stripe_portal.winback_offer AS w WHERE w.id = stripe_portal.token_id(token);
    PERFORM stripe_portal.token_require(token, 'winback', o.customer, o.livemode, o.account);
    -- A worker that died may have sent it, so having been claimed is enough;
    -- what was promised in a message that has left holds until it expires.
    IF o.claimed_at IS NULL OR o.expires_at <= now() THEN
        RAISE EXCEPTION 'token refused'
            USING ERRCODE = 'SPR01', DETAIL = 'It has expired.';
    END IF;

    -- nothing is locked while Stripe is asked
    IF o.kind = 'trial_extension' THEN
        PERFORM stripe_portal.winback_extend_trial(o);
    END IF;
    options := CASE WHEN o.account = '' THEN '{}' ELSE jsonb_build_object('account', o.account) END;
    way := stripe_portal.winback_flow(o);
    IF way.flow <> 'portal' THEN
        BEGIN
            RETURN stripe_portal.open_session(
                o.customer, NULL, way.flow, way.subscription,
                options || jsonb_build_object('flow_data', jsonb_build_object(
                    'after_completion', jsonb_build_object('type', 'portal_homepage'))
                    || CASE WHEN way.own = '{}' THEN '{}' ELSE jsonb_build_object(way.flow, way.own) END));
        EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'SP400' OR SQLSTATE 'SP404' OR SQLSTATE 'SPA01' THEN
            -- the flow is not for this customer, or not any more; the portal may be
            NULL;
        END;
    END IF;
    RETURN stripe_portal.open_session(o.customer, NULL, NULL, NULL, options);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_open(text) IS
'Opens the portal for the customer who came with the token in a message''s link, and gives its URL, to which the browser is to be redirected: a new session each time, as often as the customer comes, until the offer expires. The flow is that of the offer''s kind: a new card after a failed payment, a pause, a confirmation with the discount; the plain portal otherwise, where the flow is not possible, and once the discount was taken. A trial_extension is given first. Error SPR01 for a token that has expired or was not made here, SPA01 if the access rule lets the customer into neither, as after the end of the subscription; otherwise as stripe_portal_session';
