-- winback: the coupon in the portal's cancel flow.
--
-- Stripe has no memory of it: that it was shown, and to whom not, is kept here.

CREATE OR REPLACE FUNCTION stripe_portal.winback_in_flow(s stripe_portal.subscription, OUT rule stripe_portal.winback_rule, OUT offer stripe_portal.winback_offer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c stripe_portal.winback_case;
    r stripe_portal.winback_rule;
    made stripe_portal.winback_offer;
    earlier bigint;
BEGIN
    c.trigger_on := 'cancel_asked';
    c.at := now();
    c.livemode := s.livemode;
    c.account := s.account;
    c.customer := s.customer;
    c.subscription := s.id;
    c.currency := s.currency;
    c.product := ARRAY(SELECT i ->> 'product' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n);
    c.price := ARRAY(SELECT i ->> 'price' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n);
    c.started := coalesce(s.start_date, s.created);
    c.country := stripe_portal.country_at(s.customer, s.livemode, s.account, c.at);

    FOR r IN
        SELECT w.*
        FROM stripe_portal.winback_rule AS w
        JOIN stripe_portal.coupon AS k ON (k.id, k.livemode, k.account) = (w.coupon, w.livemode, w.account)
        WHERE w.active AND (w.livemode, w.account, w.kind) = (s.livemode, s.account, 'cancel_flow_coupon')
          AND w.since <= now() AND stripe_portal.winback_coupon_works(k)
        ORDER BY w.priority DESC, w.name
    LOOP
        c.mrr := coalesce(c.mrr, stripe_portal.mrr(s, now()));
        CONTINUE WHEN NOT stripe_portal.winback_fits(r, c);

        -- One that is open is shown again, and stays open as long as it was
        -- said to be; after that, it is another one, if the cap allows it.
        SELECT o.* INTO made
        FROM stripe_portal.winback_offer AS o
        WHERE (o.rule, o.livemode, o.account, o.customer, o.subscription) = (r.name, r.livemode, r.account, s.customer, s.id)
          AND o.expires_at > now()
        ORDER BY o.at DESC
        LIMIT 1;
        IF FOUND THEN
            CONTINUE WHEN made.state NOT IN ('sent', 'held_out');
            rule := r;
            offer := made;
            RETURN;
        END IF;
        CONTINUE WHEN stripe_portal.winback_capped(r, s.customer, now());

        SELECT count(*) INTO earlier
        FROM stripe_portal.winback_offer AS o
        WHERE (o.rule, o.livemode, o.account, o.customer, o.subscription) = (r.name, r.livemode, r.account, s.customer, s.id);
        -- the same for two who look at the same moment
        c.episode := format('%s flow %s', s.id, earlier + 1);
        rule := r;
        offer := stripe_portal.winback_offer_row(r, c);
        IF offer.state = 'planned' THEN
            offer.state := 'sent';
            offer.sent_at := now();
            offer.coupon := r.coupon;
        END IF;
        RETURN;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_in_flow(stripe_portal.subscription) IS
'The offer that a subscription''s cancel flow has now, sent or held_out, and its rule: one that was made before and is still open, or a new one, which is not in the table yet; NULL for none';

CREATE OR REPLACE FUNCTION stripe_portal.winback_retention(s stripe_portal.subscription)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen record;
BEGIN
    chosen := stripe_portal.winback_in_flow(s);
    RETURN CASE (chosen.offer).state WHEN 'sent' THEN (chosen.offer).coupon END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_retention(stripe_portal.subscription) IS
'The coupon to offer in the subscription''s cancel flow; NULL for none, and for who is held out';

CREATE OR REPLACE FUNCTION stripe_portal.winback_shown()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen record;
BEGIN
    SELECT f.* INTO chosen
    FROM stripe_portal.subscription AS s, stripe_portal.winback_in_flow(s) AS f
    WHERE (s.id, s.livemode, s.account) = (NEW.subscription, NEW.livemode, NEW.account);
    -- what the session really has, which can be the caller's own choice
    IF (chosen.offer).id IS NULL OR NEW.retention_coupon IS DISTINCT FROM (chosen.offer).coupon THEN
        RETURN NULL;
    END IF;
    chosen.offer := jsonb_populate_record(chosen.offer, jsonb_build_object('session', NEW.id));
    INSERT INTO stripe_portal.winback_offer
    SELECT (chosen.offer).*
    FROM stripe_portal.winback_rule AS w
    WHERE (w.name, w.livemode, w.account) = ((chosen.rule).name, (chosen.rule).livemode, (chosen.rule).account)
    FOR KEY SHARE
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_shown() IS
'Keeps that an offer was shown in the cancel flow, or held out, when the session has been opened';

-- The state is filled in when a session has been opened, and by no restore.
CREATE OR REPLACE TRIGGER winback_shown
    AFTER UPDATE OF state ON stripe_portal.session
    FOR EACH ROW WHEN (OLD.state IS NULL AND NEW.state IS NOT NULL AND NEW.flow = 'subscription_cancel')
    EXECUTE FUNCTION stripe_portal.winback_shown();
