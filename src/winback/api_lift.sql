-- winback: what it would do, and what it did.

-- ---------------------------------------------------------------------------
-- What a discount costs
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.winback_cost(terms jsonb, mrr bigint, currency text, invoice_months numeric)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(
    CASE terms ->> 'duration'
        WHEN 'once' THEN 1
        WHEN 'repeating' THEN ceil((terms ->> 'duration_in_months')::numeric / invoice_months)
        WHEN 'forever' THEN ceil(12 / invoice_months) END
    * CASE WHEN terms ->> 'percent_off' IS NOT NULL THEN mrr * invoice_months * (terms ->> 'percent_off')::numeric / 100
           WHEN stripe_portal.amount_off(terms, currency) IS NOT NULL
           THEN least(mrr * invoice_months, stripe_portal.amount_off(terms, currency)) END)::bigint;

COMMENT ON FUNCTION stripe_portal.winback_cost(jsonb, bigint, text, numeric) IS
'What a discount takes off altogether, in minor units: of one invoice, of those that its months cover, or, if it is for ever, of those of a year. terms: percent_off, amount_off with currency, duration and duration_in_months, as in Stripe''s coupon. invoice_months: how many months an invoice is for. NULL if the terms or the MRR are not known, or the amount is in another currency';

CREATE OR REPLACE FUNCTION stripe_portal.winback_offer_cost(
    coupon text, discount jsonb, price text, mrr bigint, currency text, livemode boolean, account text)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN winback_offer_cost.coupon IS NULL AND winback_offer_cost.discount IS NULL THEN 0
                ELSE stripe_portal.winback_cost(
                         coalesce(to_jsonb(k), winback_offer_cost.discount), winback_offer_cost.mrr, winback_offer_cost.currency,
                         coalesce(1 / stripe_portal.monthly_amount(1, p."interval", p.interval_count), 1)) END
    FROM (SELECT) AS one
    LEFT JOIN stripe_portal.coupon AS k
        ON (k.id, k.livemode, k.account) = (winback_offer_cost.coupon, winback_offer_cost.livemode, winback_offer_cost.account)
    LEFT JOIN stripe_portal.price AS p
        ON (p.id, p.livemode, p.account) = (winback_offer_cost.price, winback_offer_cost.livemode, winback_offer_cost.account)
$$;

COMMENT ON FUNCTION stripe_portal.winback_offer_cost(text, jsonb, text, bigint, text, boolean, text) IS
'What an offer costs if it is taken, as winback_cost; by its coupon, or the discount that one is to be made of; 0 if there is neither. An invoice is taken to be as often as the price says, monthly if that is not known';

-- ---------------------------------------------------------------------------
-- A rule, tried on history
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION @extschema@.stripe_winback_preview(
    rule text, since timestamptz DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL,
    OUT at timestamptz, OUT customer text, OUT subscription text, OUT verdict text, OUT due_at timestamptz,
    OUT feedback text, OUT product text, OUT country text, OUT mrr bigint, OUT currency text, OUT cost bigint)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    tried stripe_portal.winback_rule;
    other stripe_portal.winback_rule;
    c stripe_portal.winback_case;
    seen timestamptz[];
BEGIN
    SELECT r.* INTO tried
    FROM stripe_portal.winback_rule AS r
    WHERE (r.name, r.livemode, r.account) = (rule, coalesce(stripe_winback_preview.livemode, stripe_portal.key_livemode()), stripe_winback_preview.account);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no win-back rule "%"', rule
            USING ERRCODE = 'undefined_object',
                  HINT = 'Write it with active => false, try it, and switch it on when it does what it should.';
    END IF;

    FOR c IN
        SELECT w.*
        FROM stripe_portal.winback_case AS w
        WHERE (w.trigger_on, w.livemode, w.account) = (tried.trigger_on, tried.livemode, tried.account)
          AND w.at >= coalesce(stripe_winback_preview.since, now() - interval '90 days')
        ORDER BY w.customer, w.at, w.episode
    LOOP
        IF customer IS DISTINCT FROM c.customer THEN
            seen := '{}';
        END IF;
        customer := c.customer;
        CONTINUE WHEN NOT stripe_portal.winback_fits(tried, c);

        at := c.at;
        subscription := c.subscription;
        due_at := c.at + tried.wait;
        feedback := coalesce(c.feedback_option, c.feedback);
        product := c.product[1];
        country := c.country;
        mrr := c.mrr;
        currency := c.currency;
        cost := NULL;
        verdict := NULL;
        FOR other IN
            SELECT r.*
            FROM stripe_portal.winback_rule AS r
            WHERE r.active AND (r.trigger_on, r.livemode, r.account) = (tried.trigger_on, tried.livemode, tried.account)
              AND (r.kind = 'cancel_flow_coupon') = (tried.kind = 'cancel_flow_coupon')
              AND (-r.priority, r.name) < (-tried.priority, tried.name)
            ORDER BY r.priority DESC, r.name
        LOOP
            IF stripe_portal.winback_fits(other, c) THEN
                verdict := format('rule %s', other.name);
                EXIT;
            END IF;
        END LOOP;
        IF verdict IS NULL AND (SELECT count(*) FROM unnest(seen) AS s
                                WHERE tried.cap_window IS NULL OR s > c.at - tried.cap_window) >= tried.cap_per_customer THEN
            verdict := 'capped';
        END IF;
        IF verdict IS NULL THEN
            IF tried.kind <> 'cancel_flow_coupon' AND EXISTS (
                   SELECT FROM stripe_portal.winback_staying(c.customer, c.livemode, c.account, c.subscription, c.at) AS s
                   WHERE s.at < stripe_winback_preview.due_at) THEN
                verdict := 'came back';
            ELSE
                seen := seen || c.at;
                verdict := CASE WHEN stripe_portal.winback_share(tried.name, c.customer) < tried.holdout THEN 'held out' ELSE 'offer' END;
            END IF;
        END IF;
        IF verdict = 'offer' THEN
            cost := stripe_portal.winback_offer_cost(tried.coupon, tried.discount, c.price[1], c.mrr, c.currency, c.livemode, c.account);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_preview(text, timestamptz, text, boolean) IS
'Whom a rule, active or not, would have reached from since on (NULL: within 90 days): one row for each case that fits, with verdict offer; held out; capped; came back, before it was due; or rule and the name of one that comes first. cost: what the discount would take off if it were taken, in minor units, as stripe_portal.winback_cost; 0 without a discount, NULL if it is not known. Writes nothing and looks at no offer that was made. A coupon in the cancel flow is tried on the requests to cancel; how many more opened the flow is not in it. account: of a connected account (acct_…). livemode: NULL is the mode of the configured key. Error 42704 if there is no such rule';

-- ---------------------------------------------------------------------------
-- What it did
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.wilson(k bigint, n bigint, OUT low double precision, OUT high double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- z = 1.959964: 95 %
    SELECT (2 * k + z2 - sqrt(z2 * (z2 + 4 * k * (1 - k::double precision / nullif(n, 0))))) / (2 * (n + z2)),
           (2 * k + z2 + sqrt(z2 * (z2 + 4 * k * (1 - k::double precision / nullif(n, 0))))) / (2 * (n + z2))
    FROM (VALUES (1.959964 ^ 2)) AS v (square), LATERAL (SELECT square::double precision) AS s (z2)
    WHERE n > 0
$$;

COMMENT ON FUNCTION stripe_portal.wilson(bigint, bigint) IS
'Wilson''s 95 % interval of a share of which k in n were seen; NULL if n is 0';

CREATE OR REPLACE FUNCTION stripe_portal.share_difference(
    k1 bigint, n1 bigint, k2 bigint, n2 bigint, OUT difference numeric, OUT low numeric, OUT high numeric)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT round((p1 - p2)::numeric, 4),
           round((p1 - p2 - sqrt((p1 - a.low) ^ 2 + (b.high - p2) ^ 2))::numeric, 4),
           round((p1 - p2 + sqrt((a.high - p1) ^ 2 + (p2 - b.low) ^ 2))::numeric, 4)
    FROM (SELECT k1::double precision / nullif(n1, 0) AS p1, k2::double precision / nullif(n2, 0) AS p2 WHERE n1 > 0 AND n2 > 0) AS share,
         stripe_portal.wilson(k1, n1) AS a, stripe_portal.wilson(k2, n2) AS b
$$;

COMMENT ON FUNCTION stripe_portal.share_difference(bigint, bigint, bigint, bigint) IS
'By how much the share of k1 in n1 is above that of k2 in n2, with its 95 % interval by Newcombe''s hybrid score method (his method 10, without continuity correction); NULL if one of the groups is empty';

CREATE OR REPLACE VIEW stripe_portal.winback_lift AS
WITH member AS (
    SELECT o.rule, o.livemode, o.account, d.days, coalesce(o.currency, '') AS currency,
           o.feedback, o.product, o.country,
           o.state = 'held_out' AS held_out, o.sent_at IS NOT NULL AS reached, o.state = 'accepted' AS accepted,
           later.alive, later.mrr,
           CASE WHEN o.state = 'accepted' THEN stripe_portal.winback_offer_cost(
               coalesce(o.coupon, r.coupon), r.discount, o.price, o.mrr, o.currency, o.livemode, o.account) END AS cost
    FROM stripe_portal.winback_offer AS o
    JOIN stripe_portal.winback_rule AS r ON (r.name, r.livemode, r.account) = (o.rule, o.livemode, o.account)
    CROSS JOIN (VALUES (7), (30), (90)) AS d (days)
    CROSS JOIN LATERAL (
        SELECT count(*) > 0 AS alive, coalesce(sum(s.mrr) FILTER (WHERE s.currency = o.currency), 0) AS mrr
        FROM stripe_portal.winback_staying(
                 o.customer, o.livemode, o.account, o.subscription, o.at, o.due_at + make_interval(days => d.days)) AS s) AS later
    WHERE o.due_at + make_interval(days => d.days) <= now()
      AND o.canceled_because IS DISTINCT FROM 'superseded'
      -- who came back before it was due was not to be reached, in both groups
      AND (o.kind = 'cancel_flow_coupon' OR coalesce(o.saved_at >= o.due_at, true))
), figure AS (
    SELECT m.rule, m.livemode, m.account, s.segment, s.value, m.days,
           CASE WHEN grouping(m.currency) = 0 THEN m.currency END AS currency,
           count(*) FILTER (WHERE NOT m.held_out) AS offered,
           count(*) FILTER (WHERE m.reached) AS reached,
           count(*) FILTER (WHERE m.accepted) AS accepted,
           count(*) FILTER (WHERE m.held_out) AS held_out,
           count(*) FILTER (WHERE m.alive AND NOT m.held_out) AS saved,
           count(*) FILTER (WHERE m.alive AND m.held_out) AS held_out_saved,
           CASE WHEN grouping(m.currency) = 0 THEN coalesce(sum(m.mrr) FILTER (WHERE NOT m.held_out), 0)::bigint END AS mrr_kept,
           CASE WHEN grouping(m.currency) = 0 THEN coalesce(sum(m.mrr) FILTER (WHERE m.held_out), 0)::bigint END AS held_out_mrr_kept,
           CASE WHEN grouping(m.currency) = 0 THEN coalesce(sum(m.cost), 0)::bigint END AS discount_cost
    FROM member AS m
    CROSS JOIN LATERAL (VALUES ('all', NULL), ('feedback', m.feedback), ('product', m.product), ('country', m.country)) AS s (segment, value)
    GROUP BY GROUPING SETS ((m.rule, m.livemode, m.account, s.segment, s.value, m.days),
                            (m.rule, m.livemode, m.account, s.segment, s.value, m.days, m.currency))
)
SELECT f.rule, f.livemode, f.account, f.segment, f.value, f.days, f.currency,
       f.offered, f.reached, f.accepted, f.held_out, f.saved, f.held_out_saved,
       round(f.saved::numeric / nullif(f.offered, 0), 4) AS saved_rate,
       round(f.held_out_saved::numeric / nullif(f.held_out, 0), 4) AS held_out_rate,
       l.difference AS lift, l.low AS lift_low, l.high AS lift_high,
       CASE WHEN least(f.offered, f.held_out) < 30 THEN 'too few to say'
            WHEN l.low > 0 THEN 'it works'
            WHEN l.high < 0 THEN 'it does harm'
            ELSE 'no difference seen' END AS verdict,
       f.mrr_kept, f.held_out_mrr_kept, f.discount_cost
FROM figure AS f
LEFT JOIN LATERAL stripe_portal.share_difference(f.saved, f.offered, f.held_out_saved, f.held_out) AS l ON true;

COMMENT ON VIEW stripe_portal.winback_lift IS
'What each rule did: of those it made an offer, and of those it held out, how many were customers again 7, 30 and 90 days after the offer was due, and what difference that is. A row for all (segment all) and for each feedback, product and country; for each currency, and for all of them together (currency NULL), which has no money in it. Everybody counts in the group that was drawn, also whom no message reached; who came back before the offer was due, and whom a better rule took over, counts in neither';
COMMENT ON COLUMN stripe_portal.winback_lift.segment IS 'all, feedback, product or country; value says which';
COMMENT ON COLUMN stripe_portal.winback_lift.days IS 'How many days after due_at the customers were looked at; who was not due that long ago is not in yet';
COMMENT ON COLUMN stripe_portal.winback_lift.offered IS 'For how many an offer was planned; reached: to how many it was sent or shown; accepted: by how many it was taken';
COMMENT ON COLUMN stripe_portal.winback_lift.saved IS 'Of offered, whose subscription, or a later one, was then active or in its trial with no cancellation scheduled; held_out_saved: likewise of held_out. Who came back and left again is not saved';
COMMENT ON COLUMN stripe_portal.winback_lift.lift IS 'saved_rate less held_out_rate, with its 95 % confidence interval lift_low to lift_high, by Newcombe''s hybrid score method';
COMMENT ON COLUMN stripe_portal.winback_lift.verdict IS 'too few to say, if one of the groups has fewer than 30; it works, or it does harm, if the whole interval is on one side of 0; no difference seen';
COMMENT ON COLUMN stripe_portal.winback_lift.mrr_kept IS 'The MRR of the saved on that day, in minor units; held_out_mrr_kept: of held_out_saved. The groups differ in size';
COMMENT ON COLUMN stripe_portal.winback_lift.discount_cost IS 'What the discounts that were accepted take off altogether, for ever being a year, on the MRR that was at stake';

CREATE OR REPLACE FUNCTION @extschema@.stripe_winback_lift(
    rule text DEFAULT NULL, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS SETOF stripe_portal.winback_lift
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.*
    FROM stripe_portal.winback_lift AS l
    WHERE (stripe_winback_lift.rule IS NULL OR l.rule = stripe_winback_lift.rule)
      AND l.account = stripe_winback_lift.account
      AND l.livemode = coalesce(stripe_winback_lift.livemode, stripe_portal.key_livemode())
    ORDER BY l.rule, l.segment, l.value, l.days, l.currency NULLS FIRST
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_lift(text, text, boolean) IS
'The rows of stripe_portal.winback_lift of a rule, or of all (NULL), for who may call it and need not read the tables. account: of a connected account (acct_…). livemode: NULL is the mode of the configured key, live without one';
