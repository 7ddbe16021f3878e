-- winback: what can trigger a rule, when that was over, and whether a rule fits.

CREATE OR REPLACE VIEW stripe_portal.winback_case AS
WITH history AS NOT MATERIALIZED (
    SELECT c.*,
           lag(c.status) OVER step AS status_before,
           coalesce(bool_or(stripe_portal.earning(c.status, c.pause_collection) = 'earning') OVER step, false) AS has_been_active
    FROM stripe_portal.subscription_change AS c
    WINDOW step AS (PARTITION BY c.subscription, c.livemode, c.account ORDER BY c.at)
), episode AS NOT MATERIALIZED (
    SELECT k.*, coalesce(k.ended_by, CASE WHEN k.voluntary THEN 'cancellation_requested' END) AS reason
    FROM stripe_portal.cancellation AS k
), happened AS (
    SELECT 'cancel_asked' AS trigger_on, k.asked_at AS since,
           format('%s cancel %s', k.subscription, extract(epoch FROM k.asked_at)::bigint) AS episode,
           k.subscription, k.livemode, k.account, k.customer, k.reason, k.feedback, k.feedback_option, k.comment
    FROM episode AS k
    WHERE k.asked_at IS NOT NULL AND k.reason = 'cancellation_requested'
      -- one that came at once left nothing to undo: it is an end
      AND coalesce(k.ended_at > k.asked_at + interval '1 minute', true)
    UNION ALL
    SELECT CASE WHEN EXISTS (SELECT FROM stripe_portal.subscription_change AS c
                             WHERE (c.subscription, c.livemode, c.account) = (k.subscription, k.livemode, k.account)
                               AND stripe_portal.earning(c.status, c.pause_collection) = 'earning')
                THEN 'ended' ELSE 'trial_not_converted' END,
           k.ended_at, k.subscription || ' end',
           k.subscription, k.livemode, k.account, k.customer, k.reason, k.feedback, k.feedback_option, k.comment
    FROM episode AS k
    WHERE k.ended_at IS NOT NULL
    UNION ALL
    SELECT 'trial_not_converted', h.at, h.subscription || ' end',
           h.subscription, h.livemode, h.account, h.customer, NULL, NULL, NULL, NULL
    FROM history AS h
    WHERE h.status = 'paused' AND h.status_before = 'trialing' AND NOT h.has_been_active
    UNION ALL
    SELECT 'payment_failed', h.at, format('%s payment %s', h.subscription, extract(epoch FROM h.at)::bigint),
           h.subscription, h.livemode, h.account, h.customer, NULL, NULL, NULL, NULL
    FROM history AS h
    WHERE h.status IN ('past_due', 'unpaid') AND h.status_before NOT IN ('past_due', 'unpaid')
)
SELECT h.trigger_on, h.since AS at, h.livemode, h.account, h.customer, h.subscription, h.episode,
       h.reason, h.feedback, h.feedback_option, h.comment,
       ARRAY(SELECT i ->> 'product' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n) AS product,
       ARRAY(SELECT i ->> 'price' FROM jsonb_array_elements(s.items) WITH ORDINALITY AS e (i, n) ORDER BY n) AS price,
       s.currency,
       (SELECT b.mrr
        FROM stripe_portal.subscription_change AS b
        WHERE (b.subscription, b.livemode, b.account) = (h.subscription, h.livemode, h.account)
          -- a request that left it running is asked in a row that still counts
          AND b.at <= h.since AND b.mrr IS DISTINCT FROM 0
        ORDER BY b.at DESC
        LIMIT 1) AS mrr,
       coalesce(s.start_date, s.created) AS started,
       stripe_portal.country_at(h.customer, h.livemode, h.account, h.since) AS country
FROM happened AS h
LEFT JOIN LATERAL (
    SELECT c.items, c.currency, c.start_date, c.created
    FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (h.subscription, h.livemode, h.account) AND c.at <= h.since
    ORDER BY c.at DESC
    LIMIT 1) AS s ON true;

COMMENT ON VIEW stripe_portal.winback_case IS
'Everything that a win-back rule can be triggered by, ever: one row for each request to cancel that left the subscription running (cancel_asked), end (ended, or trial_not_converted if the subscription had never been active) and first failed payment in a row (payment_failed). Requests and ends are those of stripe_portal.cancellation. at: when, on Stripe''s clock. episode: its name, always the same. reason, feedback, feedback_option, comment: of the cancellation, as far as they are known; NULL for payment_failed. product, price: arrays, one element for each item. mrr: what the subscription brought in then, or last before, in minor units of its currency; NULL if nothing, or not known. started: when the subscription began. country: of the customer''s address at that time. These are the columns that a rule''s predicate can use';

CREATE OR REPLACE FUNCTION stripe_portal.winback_stays(c stripe_portal.subscription_change)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN c.status IN ('active', 'trialing') AND c.cancel_at IS NULL AND NOT c.cancel_at_period_end;

COMMENT ON FUNCTION stripe_portal.winback_stays(stripe_portal.subscription_change) IS
'Whether a subscription is neither lost nor about to be: active or in its trial, with no cancellation scheduled';

CREATE OR REPLACE FUNCTION stripe_portal.winback_staying(
    customer text, livemode boolean, account text, subscription text, since timestamptz, at timestamptz DEFAULT NULL)
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.*
    FROM stripe_portal.subscription_change AS c
    WHERE (c.customer, c.livemode, c.account) = (winback_staying.customer, winback_staying.livemode, winback_staying.account)
      AND (c.subscription = winback_staying.subscription OR c.created > winback_staying.since)
      AND CASE WHEN winback_staying.at IS NULL THEN c.at > winback_staying.since
               ELSE c.at <= winback_staying.at AND c.until > winback_staying.at END
      AND stripe_portal.winback_stays(c);
END;

COMMENT ON FUNCTION stripe_portal.winback_staying(text, boolean, text, text, timestamptz, timestamptz) IS
'When a customer was back after a case of a subscription at since: the rows of the history, after that or at the time at, in which this subscription, or one that was made later, stays';

CREATE OR REPLACE FUNCTION stripe_portal.winback_predicate(predicate text, owner text, candidate stripe_portal.winback_case)
RETURNS boolean
LANGUAGE c STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_winback_predicate';

COMMENT ON FUNCTION stripe_portal.winback_predicate(text, text, stripe_portal.winback_case) IS
'Whether a rule''s predicate holds for a case, by the rights of the role that owns the rule, in a security-restricted operation that can write nothing. A NULL case: NULL if it can be run at all. Raises what it raises, 42601 for more than one condition, 42704 for an owner that does not exist, 42501 for one that is another role, unless a superuser asks';

CREATE OR REPLACE FUNCTION stripe_portal.winback_fits(r stripe_portal.winback_rule, c stripe_portal.winback_case)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT coalesce(
           (r.livemode, r.account, r.trigger_on) = (c.livemode, c.account, c.trigger_on)
       AND (r.feedback IS NULL OR r.feedback && ARRAY[c.feedback, c.feedback_option])
       AND (r.reason IS NULL OR c.reason = ANY (r.reason))
       AND (r.product IS NULL OR r.product && c.product)
       AND (r.price IS NULL OR r.price && c.price)
       AND (r.country IS NULL OR c.country = ANY (r.country))
       AND (r.currency IS NULL OR c.currency = r.currency)
       AND (r.mrr_from IS NULL OR c.mrr >= r.mrr_from)
       AND (r.mrr_to IS NULL OR c.mrr <= r.mrr_to)
       AND (r.age_from IS NULL OR c.started + r.age_from <= c.at)
       AND (r.age_to IS NULL OR c.started + r.age_to > c.at), false) THEN
        RETURN false;
    END IF;
    IF r.predicate IS NULL THEN
        RETURN true;
    END IF;
    BEGIN
        RETURN stripe_portal.winback_predicate(r.predicate, r.owner, c);
    -- OTHERS are not quite all
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        -- An event must not be lost, nor a customer be kept from the portal,
        -- for somebody's condition.
        RAISE WARNING 'win-back rule "%" was passed over: %', r.name, SQLERRM;
        RETURN false;
    END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_fits(stripe_portal.winback_rule, stripe_portal.winback_case) IS
'Whether a rule''s conditions hold for a case; what is not known fits no condition. A predicate that fails is a warning, and does not hold';

CREATE OR REPLACE FUNCTION stripe_portal.winback_share(rule text, customer text)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(substr(sha256(convert_to(rule || E'\n' || customer, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint
       / 4294967296.0;

COMMENT ON FUNCTION stripe_portal.winback_share(text, text) IS
'A number from 0 up to 1 that is always the same for a rule and a customer, and evenly spread over customers. Who is below the rule''s holdout is held out, so a larger holdout only adds people';
