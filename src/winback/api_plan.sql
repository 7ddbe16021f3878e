-- winback: from a change of state to an offer, and what becomes of it.
--
-- Everything starts from an UPDATE of subscription_change, with which the
-- derivation of a history ends, and which a restore does not make.  Planning
-- the same again finds the offer there; what customers did is worked out from
-- the whole history each time, so the order of arrival does not matter.

CREATE OR REPLACE FUNCTION stripe_portal.winback_capped(r stripe_portal.winback_rule, customer text, at timestamptz)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) >= r.cap_per_customer
    FROM stripe_portal.winback_offer AS o
    WHERE (o.rule, o.livemode, o.account, o.customer) = (r.name, r.livemode, r.account, winback_capped.customer)
      AND o.state <> 'canceled'
      AND (r.cap_window IS NULL OR o.at > winback_capped.at - r.cap_window)
$$;

COMMENT ON FUNCTION stripe_portal.winback_capped(stripe_portal.winback_rule, text, timestamptz) IS
'Whether a customer had as many offers of the rule before at as its cap allows. Being held out counts like an offer, so that both groups are treated alike';

CREATE OR REPLACE FUNCTION stripe_portal.winback_held_out(r stripe_portal.winback_rule, customer text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT stripe_portal.winback_share(r.name, customer) < r.holdout
        -- once held out, for ever, also by a holdout that is smaller now
        OR EXISTS (SELECT FROM stripe_portal.winback_offer AS o
                   WHERE (o.rule, o.livemode, o.account, o.customer, o.state)
                       = (r.name, r.livemode, r.account, winback_held_out.customer, 'held_out'))
$$;

COMMENT ON FUNCTION stripe_portal.winback_held_out(stripe_portal.winback_rule, text) IS
'Whether the customer gets nothing from the rule, so that its effect can be measured';

CREATE OR REPLACE FUNCTION stripe_portal.winback_offer_row(r stripe_portal.winback_rule, c stripe_portal.winback_case)
RETURNS stripe_portal.winback_offer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
BEGIN
    o.id := gen_random_uuid();
    o.rule := r.name;
    o.livemode := r.livemode;
    o.account := r.account;
    o.customer := c.customer;
    o.episode := c.episode;
    o.trigger_on := r.trigger_on;
    o.kind := r.kind;
    o.subscription := c.subscription;
    o.at := c.at;
    o.feedback := coalesce(c.feedback_option, c.feedback);
    o.product := c.product[1];
    o.price := c.price[1];
    o.country := c.country;
    o.mrr := c.mrr;
    o.currency := c.currency;
    o.state := CASE WHEN stripe_portal.winback_held_out(r, c.customer) THEN 'held_out' ELSE 'planned' END;
    o.planned_at := now();
    o.due_at := c.at + r.wait;
    o.expires_at := o.due_at + r.valid_for;
    o.attempts := 0;
    RETURN o;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_offer_row(stripe_portal.winback_rule, stripe_portal.winback_case) IS
'The offer that a rule makes for a case: planned, or held_out';

CREATE OR REPLACE FUNCTION stripe_portal.winback_decide(c stripe_portal.winback_case)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r stripe_portal.winback_rule;
    made stripe_portal.winback_offer;
    priority integer;
BEGIN
    -- what the customer answered comes later
    UPDATE stripe_portal.winback_offer AS o
    SET feedback = coalesce(c.feedback_option, c.feedback), country = c.country
    WHERE (o.customer, o.livemode, o.account, o.episode) = (c.customer, c.livemode, c.account, c.episode)
      AND (o.feedback, o.country) IS DISTINCT FROM (coalesce(c.feedback_option, c.feedback), c.country);

    IF EXISTS (SELECT FROM stripe_portal.winback_staying(c.customer, c.livemode, c.account, c.subscription, c.at))
       -- nobody writes to who was forgotten
       OR EXISTS (SELECT FROM stripe_portal.forgotten AS f
                  WHERE (f.id, f.livemode, f.account) = (c.customer, c.livemode, c.account)) THEN
        RETURN 0;
    END IF;

    -- What was made for this episode.  The first failure of a row can turn out
    -- to be another one when its event is late: it is still the same row.
    SELECT o.* INTO made
    FROM stripe_portal.winback_offer AS o
    WHERE (o.customer, o.livemode, o.account, o.subscription, o.trigger_on)
        = (c.customer, c.livemode, c.account, c.subscription, c.trigger_on)
      AND o.kind <> 'cancel_flow_coupon'
      AND o.canceled_because IS DISTINCT FROM 'superseded'
      AND (o.episode = c.episode
           OR c.trigger_on = 'payment_failed' AND NOT EXISTS (
               SELECT FROM stripe_portal.winback_staying(c.customer, c.livemode, c.account, c.subscription, least(o.at, c.at)) AS s
               WHERE s.at < greatest(o.at, c.at)))
    LIMIT 1;
    IF made.id IS NOT NULL THEN
        -- what is due is left as it is, in both groups alike
        IF made.state NOT IN ('planned', 'held_out') OR made.due_at <= now() THEN
            RETURN 0;
        END IF;
        SELECT w.priority INTO priority
        FROM stripe_portal.winback_rule AS w
        WHERE (w.name, w.livemode, w.account) = (made.rule, made.livemode, made.account);
    END IF;

    FOR r IN
        SELECT w.*
        FROM stripe_portal.winback_rule AS w
        WHERE w.active AND (w.livemode, w.account, w.trigger_on) = (c.livemode, c.account, c.trigger_on)
          AND w.kind <> 'cancel_flow_coupon'
          AND w.since <= c.at AND c.at + w.wait + w.valid_for > now()
        ORDER BY w.priority DESC, w.name
    LOOP
        EXIT WHEN r.name = made.rule OR r.priority <= priority;
        CONTINUE WHEN NOT stripe_portal.winback_fits(r, c) OR stripe_portal.winback_capped(r, c.customer, c.at);
        IF made.id IS NOT NULL THEN
            UPDATE stripe_portal.winback_offer AS o
            SET state = 'canceled', canceled_because = 'superseded', closed_at = now()
            WHERE o.id = made.id AND o.state IN ('planned', 'held_out');
            IF NOT FOUND THEN
                -- a worker was faster
                RETURN 0;
            END IF;
        END IF;
        INSERT INTO stripe_portal.winback_offer
        SELECT o.*
        FROM stripe_portal.winback_rule AS w, stripe_portal.winback_offer_row(r, c) AS o
        WHERE (w.name, w.livemode, w.account) = (r.name, r.livemode, r.account)
        FOR KEY SHARE OF w
        ON CONFLICT (rule, livemode, account, customer, episode) DO NOTHING;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
        PERFORM pg_notify('stripe_winback', '');
        RETURN 1;
    END LOOP;
    RETURN 0;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_decide(stripe_portal.winback_case) IS
'Makes the offer of a case, if there is none: that of the rule with the highest priority among those that fit and are not used up. Where the answers that have come in since make a better rule fit, its offer takes the place of one that is not due yet. Gives the number of offers made';

CREATE OR REPLACE FUNCTION stripe_portal.winback_plan(subscription text, livemode boolean, account text)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.winback_case;
    count integer := 0;
BEGIN
    FOR c IN
        SELECT w.*
        FROM stripe_portal.winback_case AS w
        WHERE (w.subscription, w.livemode, w.account) = (winback_plan.subscription, winback_plan.livemode, winback_plan.account)
        ORDER BY w.at, w.trigger_on
    LOOP
        count := count + stripe_portal.winback_decide(c);
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_plan(text, boolean, text) IS
'Makes the offers that are to be made for a subscription and have not been; gives their number';

-- ---------------------------------------------------------------------------
-- What became of it
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.winback_outcome(o stripe_portal.winback_offer)
RETURNS stripe_portal.winback_offer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n stripe_portal.winback_offer := o;
    in_flow CONSTANT boolean := o.kind = 'cancel_flow_coupon';
    back record;
    taken timestamptz;
    asked timestamptz;
BEGIN
    -- That of an offer in the cancel flow never was away.
    SELECT s.at, s.subscription INTO back
    FROM stripe_portal.winback_staying(o.customer, o.livemode, o.account, o.subscription, o.at) AS s
    WHERE NOT in_flow
    ORDER BY s.at
    LIMIT 1;

    IF o.coupon IS NOT NULL AND o.state <> 'held_out' THEN
        SELECT coalesce(d.start, d.event_created) INTO taken
        FROM stripe_portal.discount AS d
        WHERE (d.livemode, d.account) = (o.livemode, o.account)
          AND (d.subscription = o.subscription OR d.customer = o.customer AND NOT in_flow)
          AND CASE WHEN o.promotion_code IS NULL THEN d.coupon = o.coupon ELSE d.promotion_code = o.promotion_code END
          -- in the flow, the offer's time is ours, and the clocks may differ a little
          AND coalesce(d.start, d.event_created) >= date_trunc('second', o.at) - CASE WHEN in_flow THEN interval '1 minute' ELSE '0' END
        ORDER BY 1
        LIMIT 1;
    ELSIF o.kind NOT IN ('coupon', 'promotion_code') AND back.at >= date_trunc('second', o.sent_at) AND back.at <= o.expires_at THEN
        taken := back.at;
    END IF;

    IF in_flow THEN
        SELECT c.canceled_at INTO asked
        FROM stripe_portal.subscription_change AS c
        WHERE (c.subscription, c.livemode, c.account) = (o.subscription, o.livemode, o.account)
          AND c.canceled_at >= date_trunc('second', o.at) AND c.canceled_at <= o.expires_at
        ORDER BY c.canceled_at
        LIMIT 1;
        n.saved_at := taken;
        n.saved_stage := CASE WHEN taken IS NOT NULL THEN 'cancel_flow' END;
    ELSE
        n.saved_at := back.at;
        n.saved_stage := CASE WHEN back.at IS NULL THEN NULL
                              WHEN o.trigger_on = 'payment_failed' THEN 'after_payment'
                              WHEN back.subscription = o.subscription THEN 'before_end'
                              ELSE 'after_end' END;
    END IF;

    -- What has been superseded is settled, and so is what is held out.
    IF o.state = 'held_out' OR o.canceled_because = 'superseded' THEN
        RETURN n;
    ELSIF taken IS NOT NULL THEN
        n.state := 'accepted';
    ELSIF asked IS NOT NULL THEN
        n.state := 'declined';
        n.closed_at := asked;
    ELSIF back.at <= o.expires_at THEN
        n.state := 'canceled';
        n.closed_at := back.at;
    ELSIF o.expires_at <= now() AND (o.state <> 'claimed' OR o.lease_until <= now()) THEN
        n.state := 'expired';
        n.closed_at := o.expires_at;
    END IF;
    n.accepted_at := CASE n.state WHEN 'accepted' THEN coalesce(taken, o.accepted_at) END;
    n.closed_at := CASE WHEN n.state <> 'accepted' THEN n.closed_at END;
    n.canceled_because := CASE n.state WHEN 'canceled' THEN 'came_back' END;
    RETURN n;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_outcome(stripe_portal.winback_offer) IS
'The offer as it is by now: whether and where the customer came back, and whether that was the offer''s doing. An offer with a discount is accepted when a discount of its coupon, or of its promotion code, begins; any other, when the customer comes back after it was sent. Who comes back otherwise came back without it. Worked out from everything that is known, so the same whatever came first';

CREATE OR REPLACE FUNCTION stripe_portal.winback_bring_up(o stripe_portal.winback_offer)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n CONSTANT stripe_portal.winback_offer := stripe_portal.winback_outcome(o);
BEGIN
    IF n IS NOT DISTINCT FROM o THEN
        RETURN 0;
    END IF;
    -- unless a worker has changed it in the meantime: then next time
    UPDATE stripe_portal.winback_offer AS w
    SET (state, accepted_at, closed_at, canceled_because, saved_at, saved_stage)
      = (n.state, n.accepted_at, n.closed_at, n.canceled_because, n.saved_at, n.saved_stage)
    WHERE w.id = o.id
      AND (w.state, w.sent_at, w.lease_until, w.coupon, w.promotion_code)
          IS NOT DISTINCT FROM (o.state, o.sent_at, o.lease_until, o.coupon, o.promotion_code);
    RETURN CASE WHEN FOUND THEN 1 ELSE 0 END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_bring_up(stripe_portal.winback_offer) IS
'Brings an offer up to date with what is known. 1 if that changed it, else 0';

CREATE OR REPLACE FUNCTION stripe_portal.winback_settle(customer text, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
BEGIN
    FOR o IN
        SELECT w.*
        FROM stripe_portal.winback_offer AS w
        WHERE (w.customer, w.livemode, w.account) = (winback_settle.customer, winback_settle.livemode, winback_settle.account)
        ORDER BY w.id
    LOOP
        PERFORM stripe_portal.winback_bring_up(o);
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_settle(text, boolean, text) IS
'Brings the offers of a customer up to date with what is known';

CREATE OR REPLACE FUNCTION stripe_portal.winback_settle()
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    news CONSTANT integer := stripe_portal.look_through('offers');
    o stripe_portal.winback_offer;
    count integer := 0;
BEGIN
    FOR o IN
        SELECT w.*
        FROM stripe_portal.winback_offer AS w
        WHERE (w.state IN ('planned', 'claimed', 'sent') OR w.sent_at > now() - interval '90 days')
          -- a discount, unlike a subscription, can become known late; and what
          -- happened while the offer was made is news
          AND (w.state IN ('planned', 'claimed', 'sent') AND w.expires_at <= now()
               OR age(w.xmin) <= news
               OR EXISTS (SELECT FROM stripe_portal.discount AS d
                          WHERE (d.livemode, d.account) = (w.livemode, w.account)
                            AND (d.subscription = w.subscription OR d.customer = w.customer)
                            AND age(d.xmin) <= news)
               OR EXISTS (SELECT FROM stripe_portal.subscription_change AS c
                          WHERE (c.customer, c.livemode, c.account) = (w.customer, w.livemode, w.account)
                            AND age(c.xmin) <= news))
        ORDER BY w.id
    LOOP
        count := count + stripe_portal.winback_bring_up(o);
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_settle() IS
'Brings offers up to date with what is known: all that are open or were sent within 90 days and have expired, or of whose customer something is known that was not the last time. Gives the number of those that changed; to be called now and then, since no event tells that an offer has expired';

CREATE OR REPLACE FUNCTION stripe_portal.winback_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.winback_settle();
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_step(text) IS
'The care of the offers, for the tick';

CREATE OR REPLACE FUNCTION stripe_portal.winback_follow()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched record;
BEGIN
    IF NOT EXISTS (SELECT FROM stripe_portal.winback_rule) THEN
        RETURN NULL;
    END IF;
    FOR touched IN
        SELECT DISTINCT c.subscription, c.livemode, c.account FROM changed AS c ORDER BY 1, 2, 3
    LOOP
        PERFORM stripe_portal.winback_plan(touched.subscription, touched.livemode, touched.account);
    END LOOP;
    FOR touched IN
        SELECT DISTINCT c.customer, c.livemode, c.account FROM changed AS c ORDER BY 1, 2, 3
    LOOP
        PERFORM stripe_portal.winback_settle(touched.customer, touched.livemode, touched.account);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_follow() IS
'Plans and settles the offers of the subscriptions whose history was derived anew';

-- Never on INSERT: a restore makes those.  By its name it comes after
-- cancellation_follow, which makes the episodes.
CREATE OR REPLACE TRIGGER winback_follow
    AFTER UPDATE ON stripe_portal.subscription_change
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.winback_follow();
