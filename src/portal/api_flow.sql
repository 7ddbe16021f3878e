-- portal: the flows.  What Stripe would refuse, and what would open the wrong
-- thing, is refused here by the mirrored state, before a request leaves.

CREATE OR REPLACE FUNCTION stripe_portal.flow_problem(flow text, s stripe_portal.subscription)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN s.status IN ('canceled', 'incomplete_expired') THEN 'it has ended'
    WHEN s.schedule IS NOT NULL THEN 'a subscription schedule drives it'
    -- flexible subscriptions set cancel_at only, so look at both
    WHEN flow = 'subscription_cancel' AND (s.cancel_at IS NOT NULL OR s.cancel_at_period_end)
        THEN 'its cancellation is scheduled already'
    WHEN flow = 'subscription_pause' AND s.status = 'paused' THEN 'it is paused already'
    WHEN flow IN ('subscription_update', 'subscription_update_confirm') THEN
        CASE WHEN jsonb_array_length(s.items) <> 1 THEN format('it has %s items', jsonb_array_length(s.items))
             WHEN s.collection_method = 'send_invoice' THEN 'it is paid by invoice' END
END;

COMMENT ON FUNCTION stripe_portal.flow_problem(text, stripe_portal.subscription) IS
'Why Stripe''s portal would not take this subscription into the flow, or NULL';

CREATE OR REPLACE FUNCTION stripe_portal.flow_subscription(
    customer text, livemode boolean, account text, flow text, subscription text)
RETURNS stripe_portal.subscription
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    eligible stripe_portal.subscription[];
    held text;
    chosen stripe_portal.subscription;
    problem text;
BEGIN
    IF subscription IS NULL THEN
        SELECT array_agg(s ORDER BY s.created, s.id) FILTER (WHERE p.problem IS NULL),
               string_agg(format('%s (%s)', s.id, coalesce(p.problem, s.status)), ', ' ORDER BY s.created, s.id)
                   FILTER (WHERE s.status NOT IN ('canceled', 'incomplete_expired'))
        INTO eligible, held
        FROM stripe_portal.subscription AS s,
             stripe_portal.flow_problem(flow_subscription.flow, s) AS p (problem)
        WHERE s.customer = flow_subscription.customer AND s.livemode = flow_subscription.livemode
          AND s.account = flow_subscription.account;
        IF cardinality(eligible) = 1 THEN
            RETURN eligible[1];
        END IF;
        RAISE EXCEPTION 'flow "%" needs a subscription', flow
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = coalesce(format('Customer "%s" has %s.', customer, held),
                                    format('Customer "%s" has none that has not ended.', customer)),
                  HINT = 'Name one by the argument "subscription".';
    END IF;

    SELECT s.* INTO chosen
    FROM stripe_portal.subscription AS s
    WHERE s.id = flow_subscription.subscription AND s.customer = flow_subscription.customer
      AND s.livemode = flow_subscription.livemode AND s.account = flow_subscription.account;
    IF NOT FOUND THEN
        -- unknown, or somebody else's: which of the two is nobody's business
        RAISE EXCEPTION 'customer "%" has no subscription "%"', customer, subscription
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    problem := stripe_portal.flow_problem(flow, chosen);
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'subscription "%" cannot enter flow "%"', chosen.id, flow
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = upper(left(problem, 1)) || substr(problem, 2) || '.',
                  HINT = 'Open the plain portal, which shows the customer what can be done.';
    END IF;
    RETURN chosen;
END
$$;

COMMENT ON FUNCTION stripe_portal.flow_subscription(text, boolean, text, text, text) IS
'The subscription that a flow is for: the one named, if it is the customer''s and can enter the flow, else the customer''s only one that can; otherwise error 22023, which lists what there is';

CREATE OR REPLACE FUNCTION stripe_portal.flow_confirmation(s stripe_portal.subscription, confirmation jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item CONSTANT jsonb := s.items -> 0;
    wanted jsonb := confirmation #> '{items,0}';
BEGIN
    IF confirmation ? 'items' AND (jsonb_typeof(wanted) IS DISTINCT FROM 'object'
                                   OR jsonb_array_length(confirmation -> 'items') <> 1) THEN
        RAISE EXCEPTION 'flow "subscription_update_confirm" takes exactly one item'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(wanted ->> 'id', item ->> 'id') <> item ->> 'id' THEN
        RAISE EXCEPTION 'subscription "%" has no item "%"', s.id, wanted ->> 'id'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('Its item is "%s".', item ->> 'id');
    END IF;
    wanted := jsonb_build_object('id', item -> 'id') || coalesce(wanted, '{}');
    IF coalesce(wanted -> 'price', item -> 'price') = item -> 'price'
       AND coalesce(wanted -> 'quantity', item -> 'quantity') = item -> 'quantity'
       AND NOT confirmation ? 'discounts' THEN
        RAISE EXCEPTION 'there is nothing to confirm for subscription "%"', s.id
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It has price "%s" and quantity %s already.', item ->> 'price', item ->> 'quantity'),
                  HINT = 'Give another price or quantity in "items", or "discounts".';
    END IF;
    RETURN confirmation || jsonb_build_object('items', jsonb_build_array(wanted));
END
$$;

COMMENT ON FUNCTION stripe_portal.flow_confirmation(stripe_portal.subscription, jsonb) IS
'What a customer is to confirm, with the item''s id filled in; error 22023 if it is what the subscription has';

CREATE OR REPLACE FUNCTION stripe_portal.retention_coupon(s stripe_portal.subscription)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    coupon text;
BEGIN
    -- win-back is built on the portal, so it may not be there
    IF to_regprocedure('stripe_portal.winback_retention(stripe_portal.subscription)') IS NOT NULL THEN
        EXECUTE 'SELECT stripe_portal.winback_retention($1)' INTO coupon USING s;
    END IF;
    RETURN coupon;
END
$$;

COMMENT ON FUNCTION stripe_portal.retention_coupon(stripe_portal.subscription) IS
'The coupon to offer to a customer who is about to cancel this subscription, by the win-back rules; NULL for none';

CREATE OR REPLACE FUNCTION stripe_portal.session_parameters(
    customer text, livemode boolean, account text, flow text, subscription text, options jsonb,
    OUT parameters jsonb, OUT return_url text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- the account goes into a header
    plain jsonb := options - 'account';
    configuration record;
    data jsonb := coalesce(options -> 'flow_data', '{}');
    own jsonb := coalesce(data -> flow, '{}');
    chosen stripe_portal.subscription;
    coupon text;
BEGIN
    -- a condition with a query in it is a query, so what is seldom asked is asked apart
    IF options ? 'customer_account' THEN
        IF options ->> 'customer_account' IS DISTINCT FROM (
            SELECT c.customer_account
            FROM stripe_portal.customer AS c
            WHERE c.id = session_parameters.customer AND c.livemode = session_parameters.livemode
              AND c.account = session_parameters.account) THEN
            RAISE EXCEPTION 'customer account "%" is not that of customer "%"', options ->> 'customer_account', customer
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;

    -- One flow at a time: a second one's parameters are a mistake, or an
    -- attempt to get past the rule for that flow.
    IF data <> '{}' THEN
        IF EXISTS (SELECT FROM jsonb_object_keys(data) AS key
                   JOIN stripe_portal.access_rule AS r ON r.flow = key
                   WHERE key <> session_parameters.flow) THEN
            RAISE EXCEPTION 'options have parameters for another flow than "%"', flow
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;

    configuration := stripe_portal.session_configuration(options -> 'configuration', livemode, account);
    plain := plain || jsonb_strip_nulls(jsonb_build_object('configuration', configuration.id));
    return_url := configuration.return_url;

    IF NOT starts_with(flow, 'subscription_') THEN
        IF subscription IS NOT NULL OR own <> '{}' THEN
            RAISE EXCEPTION 'flow "%" takes no %', flow,
                    CASE WHEN subscription IS NOT NULL THEN 'subscription' ELSE 'parameters of its own' END
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        PERFORM stripe_portal.check_flow_configuration(
            flow, own, NULL, configuration.id, configuration.name, livemode, account);
        parameters := plain || CASE flow WHEN 'portal' THEN '{}'
                          ELSE jsonb_build_object('flow_data', data || jsonb_build_object('type', flow)) END;
        RETURN;
    END IF;

    IF jsonb_typeof(own) <> 'object' THEN
        RAISE EXCEPTION 'the parameters of flow "%" must be a JSON object', flow
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF own ? 'subscription' THEN
        RAISE EXCEPTION 'options must not choose the subscription'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name it by the argument "subscription".';
    END IF;
    chosen := stripe_portal.flow_subscription(customer, livemode, account, flow, subscription);
    own := own || jsonb_build_object('subscription', chosen.id);
    IF flow = 'subscription_update_confirm' THEN
        own := stripe_portal.flow_confirmation(chosen, own);
    ELSIF flow = 'subscription_cancel' AND NOT own ? 'retention' THEN
        coupon := stripe_portal.retention_coupon(chosen);
        IF coupon IS NOT NULL THEN
            own := own || jsonb_build_object('retention', jsonb_build_object(
                'type', 'coupon_offer', 'coupon_offer', jsonb_build_object('coupon', coupon)));
        END IF;
    END IF;
    PERFORM stripe_portal.check_flow_configuration(
        flow, own, chosen, configuration.id, configuration.name, livemode, account);
    parameters := plain || jsonb_build_object('flow_data', data || jsonb_build_object('type', flow, flow, own));
END
$$;

COMMENT ON FUNCTION stripe_portal.session_parameters(text, boolean, text, text, text, jsonb) IS
'The parameters of Stripe''s session besides customer and return_url: the options, with the configuration, the flow and what belongs to it; and the return URL that the configuration declares; error 22023 for what Stripe would refuse or what contradicts the arguments';

