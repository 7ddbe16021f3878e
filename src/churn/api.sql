-- churn: the episodes of cancellation, read off the history of a subscription.
--
-- They are derived anew, a subscription at a time, after each UPDATE of its
-- history, with which every change of a history ends.  A restore, which only
-- inserts, derives nothing.  An episode is inserted bare and then filled by an
-- UPDATE, so that what reacts to episodes can hang on that in turn.

CREATE OR REPLACE FUNCTION stripe_portal.is_voluntary(reason text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN reason = 'cancellation_requested' THEN true
    WHEN reason IN ('payment_failed', 'payment_disputed', 'canceled_by_retention_policy') THEN false
END;

COMMENT ON FUNCTION stripe_portal.is_voluntary(text) IS
'Whether somebody asked for a cancellation of this reason (cancellation_details.reason); NULL for none and for a reason that is not known. Stripe does not say whether it was the customer or you';

CREATE OR REPLACE FUNCTION stripe_portal.main_item(items jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    completed CONSTANT jsonb := stripe_portal.complete_items(items, livemode, account);
BEGIN
    -- most subscriptions have one
    IF jsonb_array_length(completed) = 1 THEN
        RETURN completed -> 0;
    END IF;
    RETURN (
        SELECT item
        FROM jsonb_array_elements(completed) AS item
        ORDER BY stripe_portal.monthly_amount(
                     stripe_portal.item_amount(item -> 'terms', (item ->> 'quantity')::numeric),
                     item #>> '{terms,interval}', (item #>> '{terms,interval_count}')::integer) DESC NULLS LAST,
                 item ->> 'id'
        LIMIT 1);
END
$$;

COMMENT ON FUNCTION stripe_portal.main_item(jsonb, boolean, text) IS
'The item of a subscription that brings in most, before discounts: its plan, the others being extras';

CREATE OR REPLACE FUNCTION stripe_portal.explaining_session(
    customer text, livemode boolean, account text, subscription text, asked_at timestamptz)
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT s.id
        FROM stripe_portal.session AS s
        WHERE (s.customer, s.livemode, s.account)
            = (explaining_session.customer, explaining_session.livemode, explaining_session.account)
          AND s.refused IS NULL
          AND s.flow IN ('portal', 'subscription_cancel')
          AND coalesce(s.subscription, explaining_session.subscription) = explaining_session.subscription
          -- A session can be opened for five minutes, and lives for an hour
          -- after the last click.  Our clock and Stripe's differ a little.
          AND s.created BETWEEN explaining_session.asked_at - interval '65 minutes'
                            AND explaining_session.asked_at + interval '1 minute'
        ORDER BY s.created DESC, s.id
        LIMIT 1);
END
$$;

COMMENT ON FUNCTION stripe_portal.explaining_session(text, boolean, text, text, timestamptz) IS
'The portal session in which a cancellation was probably asked for: the customer''s last one, for the whole portal or for cancelling this subscription, that was opened at most 65 minutes before; NULL if there is none';

CREATE OR REPLACE FUNCTION stripe_portal.episodes(subscription text, livemode boolean, account text)
RETURNS SETOF stripe_portal.cancellation
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.subscription_change;
    before stripe_portal.subscription_change;
    at_that_moment stripe_portal.subscription_change;
    plan jsonb;
    episode stripe_portal.cancellation;
    reason text;        -- the episode's, as last told
    going boolean;      -- an end is scheduled, or has come
    ended boolean;
BEGIN
    FOR c IN
        SELECT * FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account) = (episodes.subscription, episodes.livemode, episodes.account)
        ORDER BY h.at
    LOOP
        ended := stripe_portal.status_is_final(c.status);
        -- a subscription that was never paid for expires; nobody leaves
        going := CASE WHEN ended THEN c.status = 'canceled' OR episode.undone_at IS NULL AND episode.began_at IS NOT NULL
                      ELSE c.cancel_at IS NOT NULL OR c.cancel_at_period_end END;

        IF going AND (episode.began_at IS NULL OR episode.undone_at IS NOT NULL) THEN
            IF episode.began_at IS NOT NULL THEN
                RETURN NEXT episode;
            END IF;
            episode := NULL;
            reason := NULL;
            episode.subscription := subscription;
            episode.livemode := livemode;
            episode.account := account;
            episode.customer := c.customer;
            episode.began_at := coalesce(c.canceled_at, c.ended_at, c.at);
            -- what it was when it was asked for, or before it was over
            at_that_moment := CASE WHEN ended AND before.at IS NOT NULL THEN before ELSE c END;
            plan := stripe_portal.main_item(at_that_moment.items, livemode, account);
            episode.price := plan ->> 'price';
            episode.product := coalesce(plan ->> 'product', plan #>> '{terms,product}');
            episode.quantity := (plan ->> 'quantity')::bigint;
            episode.currency := c.currency;
            episode.mrr := at_that_moment.mrr;
            episode.started_at := coalesce(c.start_date, c.created);
            episode.age := episode.began_at - episode.started_at;
        ELSIF NOT going AND episode.began_at IS NOT NULL AND episode.undone_at IS NULL THEN
            episode.undone_at := c.at;
        END IF;

        IF episode.began_at IS NOT NULL THEN
            -- The survey is shown after the cancellation: what it brought
            -- comes later, perhaps when the episode is over.
            episode.feedback := coalesce(c.cancellation_feedback, episode.feedback);
            episode.feedback_option := coalesce(c.cancellation_feedback_option, episode.feedback_option);
            episode.comment := coalesce(c.cancellation_comment, episode.comment);
            IF going THEN
                reason := coalesce(c.cancellation_reason, reason);
                episode.voluntary := stripe_portal.is_voluntary(reason);
                IF ended THEN
                    episode.ended_at := coalesce(c.ended_at, episode.ended_at, c.at);
                    episode.effective_at := coalesce(episode.effective_at, episode.ended_at);
                    episode.ended_by := reason;
                ELSE
                    episode.effective_at := coalesce(c.cancel_at, c.current_period_end);
                END IF;
                -- nobody asks for a payment to fail
                IF NOT ended OR episode.voluntary IS NOT false THEN
                    episode.asked_at := episode.began_at;
                END IF;
            END IF;
        END IF;
        before := c;
    END LOOP;
    IF episode.began_at IS NOT NULL THEN
        RETURN NEXT episode;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.episodes(text, boolean, text) IS
'The episodes of cancellation in a subscription''s history, without country and session';

CREATE OR REPLACE FUNCTION stripe_portal.derive_cancellations(subscription text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    episodes CONSTANT stripe_portal.cancellation[] := ARRAY(
        SELECT e FROM stripe_portal.episodes(subscription, livemode, account) AS e);
    episode stripe_portal.cancellation;
BEGIN
    DELETE FROM stripe_portal.cancellation AS known
    WHERE (known.subscription, known.livemode, known.account)
        = (derive_cancellations.subscription, derive_cancellations.livemode, derive_cancellations.account)
      AND NOT EXISTS (SELECT FROM unnest(episodes) AS e WHERE e.began_at = known.began_at);

    FOREACH episode IN ARRAY episodes LOOP
        episode.country := stripe_portal.country_at(episode.customer, livemode, account, episode.began_at);
        IF episode.voluntary IS NOT false THEN
            episode.session := stripe_portal.explaining_session(
                episode.customer, livemode, account, subscription, episode.asked_at);
        END IF;

        INSERT INTO stripe_portal.cancellation (subscription, livemode, account, began_at, customer)
        VALUES (subscription, livemode, account, episode.began_at, episode.customer)
        ON CONFLICT DO NOTHING;
        UPDATE stripe_portal.cancellation AS known
        SET (asked_at, undone_at, effective_at, ended_at, ended_by, voluntary,
             feedback, feedback_option, comment, product, price, quantity, currency, mrr,
             started_at, age, country, session)
          = (episode.asked_at, episode.undone_at, episode.effective_at, episode.ended_at, episode.ended_by, episode.voluntary,
             episode.feedback, episode.feedback_option, episode.comment, episode.product, episode.price, episode.quantity,
             episode.currency, episode.mrr, episode.started_at, episode.age, episode.country, episode.session)
        WHERE (known.subscription, known.livemode, known.account, known.began_at)
            = (episode.subscription, episode.livemode, episode.account, episode.began_at)
          AND known IS DISTINCT FROM episode;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.derive_cancellations(text, boolean, text) IS
'Makes the rows of table cancellation those that a subscription''s history tells of';

CREATE OR REPLACE FUNCTION stripe_portal.cancellation_follow()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched record;
BEGIN
    -- most changes are of subscriptions that nobody has ever spoken of leaving
    IF NOT EXISTS (
        SELECT FROM changed AS c
        WHERE c.cancel_at IS NOT NULL OR c.cancel_at_period_end OR stripe_portal.status_is_final(c.status)
           OR coalesce(c.cancellation_feedback, c.cancellation_feedback_option, c.cancellation_comment) IS NOT NULL
           -- with a limit, so that it is looked up and never hashed as a whole
           OR (SELECT true FROM stripe_portal.cancellation AS known
               WHERE (known.subscription, known.livemode, known.account) = (c.subscription, c.livemode, c.account)
               LIMIT 1))
    THEN
        RETURN NULL;
    END IF;
    FOR touched IN SELECT DISTINCT c.subscription, c.livemode, c.account FROM changed AS c LOOP
        PERFORM stripe_portal.derive_cancellations(touched.subscription, touched.livemode, touched.account);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.cancellation_follow() IS
'Keeps table cancellation true to the histories that changed';

CREATE OR REPLACE TRIGGER cancellation_follow
    AFTER UPDATE ON stripe_portal.subscription_change
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.cancellation_follow();

COMMENT ON TABLE stripe_portal.cancellation IS 'Why subscribers leave: one row per episode, from the request to cancel, or an end that nobody asked for, to its being undone or to the end. Subscriptions that expire before they were paid for are not in it';
COMMENT ON COLUMN stripe_portal.cancellation.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.cancellation.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.cancellation.began_at IS 'When it was asked for, or when it ended without that, on Stripe''s clock; names the episode';
COMMENT ON COLUMN stripe_portal.cancellation.asked_at IS 'When it was asked for (canceled_at); NULL if it ended for a failed payment, a dispute or the retention policy without having been scheduled';
COMMENT ON COLUMN stripe_portal.cancellation.undone_at IS 'When it was taken back; NULL if it stands';
COMMENT ON COLUMN stripe_portal.cancellation.effective_at IS 'When it was, or is, to take effect';
COMMENT ON COLUMN stripe_portal.cancellation.ended_at IS 'When the subscription ended; NULL if it has not, or not in this episode';
COMMENT ON COLUMN stripe_portal.cancellation.ended_by IS 'What ended it: cancellation_requested, payment_failed, payment_disputed, canceled_by_retention_policy, or whatever Stripe says; NULL if it has not ended, and for ends before Stripe kept reasons';
COMMENT ON COLUMN stripe_portal.cancellation.voluntary IS 'Whether somebody asked for it, the customer or you; false for a failed payment, a dispute and the retention policy, also if it had been scheduled before; NULL if the reason is not known';
COMMENT ON COLUMN stripe_portal.cancellation.feedback IS 'What was chosen in the portal''s survey, whenever it came: too_expensive, missing_features, switched_service, unused, customer_service, too_complex, low_quality, other';
COMMENT ON COLUMN stripe_portal.cancellation.feedback_option IS 'The id of the custom option that was chosen';
COMMENT ON COLUMN stripe_portal.cancellation.comment IS 'The customer''s own words';
COMMENT ON COLUMN stripe_portal.cancellation.product IS 'Of the item that brought in most when it was asked for, or before it ended; so are price and quantity';
COMMENT ON COLUMN stripe_portal.cancellation.mrr IS 'What the subscription brought in when it was asked for, or before it ended, in minor units; 0 for a trial, or if that was lost before, NULL if it is not known';
COMMENT ON COLUMN stripe_portal.cancellation.started_at IS 'When the subscription started (start_date)';
COMMENT ON COLUMN stripe_portal.cancellation.age IS 'How old the subscription was then';
COMMENT ON COLUMN stripe_portal.cancellation.country IS 'The country in the customer''s address then: the last that was known by then; before the first that is known, that one';
COMMENT ON COLUMN stripe_portal.cancellation.session IS 'The portal session in which it was probably asked for; see stripe_portal.explaining_session';
