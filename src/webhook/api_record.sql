-- webhook: every event of a subscription into its history, also one that comes
-- too late to change the state that is shown.

CREATE OR REPLACE FUNCTION stripe_portal.record_event(event jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    verdict record;
    last jsonb;
    unwritable text[] := '{}';
BEGIN
    IF event #>> '{data,object,object}' <> 'subscription' THEN
        RETURN;
    END IF;
    LOOP
        verdict := stripe_portal.last_event_of_second(event, unwritable);
        last := verdict.last;
        IF last ->> 'id' = event ->> 'id' THEN
            PERFORM stripe_portal.record_change(
                stripe_portal.subscription_row(last #> '{data,object}', stripe_portal.event_origin(last, false)), last ->> 'type');
            RETURN;
        END IF;
        BEGIN
            PERFORM stripe_portal.record_change(
                stripe_portal.subscription_row(last #> '{data,object}', stripe_portal.event_origin(last, false)), last ->> 'type');
            RETURN;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
            -- as in decide_second
            unwritable := unwritable || (last ->> 'id');
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.record_event(jsonb) IS
'Takes the second of an event about a subscription into the subscription''s history: the event of that second that happened last';
