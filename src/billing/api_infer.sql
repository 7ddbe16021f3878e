-- billing: what must have happened to a subscription where no fact tells of it
-- (see api_history.sql).

CREATE OR REPLACE FUNCTION stripe_portal.first_state(first stripe_portal.subscription_change)
RETURNS stripe_portal.subscription_change
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    born stripe_portal.subscription_change := first;
BEGIN
    born.at := coalesce(first.created, first.start_date);
    born.status := CASE
        WHEN first.status IN ('incomplete', 'incomplete_expired') THEN 'incomplete'
        WHEN coalesce(first.trial_start, born.at) <= born.at AND first.trial_end > born.at THEN 'trialing'
        WHEN first.status = 'trialing' THEN 'trialing'
        ELSE 'active' END;
    born.cancel_at := NULL;
    born.cancel_at_period_end := false;
    born.canceled_at := NULL;
    born.ended_at := NULL;
    born.cancellation_reason := NULL;
    born.cancellation_feedback := NULL;
    born.cancellation_feedback_option := NULL;
    born.cancellation_comment := NULL;
    born.inferred := true;
    born.event := '';
    born.event_type := NULL;
    born.mrr := NULL;
    born.confirmed_at := NULL;
    RETURN born;
END
$$;

COMMENT ON FUNCTION stripe_portal.first_state(stripe_portal.subscription_change) IS
'What a subscription was when it was created, as far as the first that is known of it tells: the same without its cancellation, in its trial or active';

CREATE OR REPLACE FUNCTION stripe_portal.inferred_between(
    before stripe_portal.subscription_change, after stripe_portal.subscription_change)
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- the event of the end is the end, if a second late
    ended CONSTANT timestamptz := CASE WHEN stripe_portal.status_is_final(after.status)
                                        AND after.event_type IS DISTINCT FROM 'customer.subscription.deleted' THEN after.ended_at END;
    point timestamptz;
    state stripe_portal.subscription_change;
BEGIN
    FOR point IN
        SELECT p FROM (
            SELECT before.trial_end WHERE before.status = 'trialing' AND after.status <> 'trialing'
            UNION SELECT after.canceled_at WHERE after.canceled_at IS DISTINCT FROM before.canceled_at
            UNION SELECT ended) AS points (p)
        WHERE p > before.at AND p < after.at AND p <= coalesce(after.ended_at, 'infinity')
        ORDER BY p
    LOOP
        state := CASE WHEN point = ended THEN after ELSE before END;
        IF point IS DISTINCT FROM ended AND before.status = 'trialing' AND before.trial_end <= point THEN
            state.status := CASE WHEN after.status = 'paused' THEN 'paused' ELSE 'active' END;
        END IF;
        IF point IS DISTINCT FROM ended AND after.canceled_at <= point THEN
            state.cancel_at := coalesce(after.cancel_at, after.ended_at);
            state.cancel_at_period_end := after.cancel_at_period_end;
            state.canceled_at := after.canceled_at;
            state.cancellation_reason := after.cancellation_reason;
            state.cancellation_feedback := after.cancellation_feedback;
            state.cancellation_feedback_option := after.cancellation_feedback_option;
            state.cancellation_comment := after.cancellation_comment;
        END IF;
        state.at := point;
        state.inferred := true;
        state.event := '';
        state.event_type := NULL;
        state.mrr := NULL;
        state.confirmed_at := NULL;
        RETURN NEXT state;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.inferred_between(stripe_portal.subscription_change, stripe_portal.subscription_change) IS
'What must have happened between two states of a subscription that were not told of by every event in between: the end of the trial, the request to cancel, the end';

CREATE OR REPLACE FUNCTION stripe_portal.infer_changes(subscription text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fact stripe_portal.subscription_change;
    before stripe_portal.subscription_change;
    born stripe_portal.subscription_change;
BEGIN
    DELETE FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (infer_changes.subscription, infer_changes.livemode, infer_changes.account)
      AND c.inferred;

    FOR fact IN
        SELECT * FROM stripe_portal.subscription_change AS c
        WHERE (c.subscription, c.livemode, c.account) = (infer_changes.subscription, infer_changes.livemode, infer_changes.account)
        ORDER BY c.at
    LOOP
        -- Nothing comes after the end.
        IF stripe_portal.status_is_final(before.status) AND NOT stripe_portal.status_is_final(fact.status) THEN
            DELETE FROM stripe_portal.subscription_change AS c
            WHERE (c.subscription, c.livemode, c.account, c.at) = (fact.subscription, fact.livemode, fact.account, fact.at);
            CONTINUE;
        ELSIF fact.event = '' AND stripe_portal.same_state(before, fact) THEN
            before.confirmed_at := stripe_portal.confirmed_at(before.confirmed_at, fact.at || fact.confirmed_at);
            -- no UPDATE before the rows are whole
            DELETE FROM stripe_portal.subscription_change AS c
            WHERE (c.subscription, c.livemode, c.account) = (fact.subscription, fact.livemode, fact.account)
              AND c.at IN (before.at, fact.at);
            INSERT INTO stripe_portal.subscription_change SELECT before.*;
            CONTINUE;
        END IF;

        IF before.at IS NOT NULL THEN
            IF fact.event = '' THEN
                INSERT INTO stripe_portal.subscription_change
                SELECT * FROM stripe_portal.inferred_between(before, fact);
            END IF;
        ELSIF fact.event_type IS DISTINCT FROM 'customer.subscription.created'
              AND coalesce(fact.created, fact.start_date) < fact.at THEN
            born := stripe_portal.first_state(fact);
            INSERT INTO stripe_portal.subscription_change
            SELECT born.* UNION ALL SELECT * FROM stripe_portal.inferred_between(born, fact);
        END IF;
        before := fact;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.infer_changes(text, boolean, text) IS
'Makes the inferred rows of a subscription''s history anew: from its creation to the first fact, and before what was read from the API. Takes reads that tell nothing new into the row before them, and drops whatever is told of an ended subscription but that it ended';
