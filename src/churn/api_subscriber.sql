-- churn: keeping table subscriber_change, whole customers at a time.
--
-- Like the episodes it follows from the histories, after each UPDATE of those,
-- and a restore derives nothing.

-- Rows are looked for one by one, because a plan is kept, and was perhaps made when
-- there was next to nothing here.
CREATE OR REPLACE FUNCTION stripe_portal.derive_subscribers(customers text[], livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    WITH step AS MATERIALIZED (
        SELECT c.customer, c.subscription, c.at, c.currency, c.movement,
               coalesce(c.mrr, 0) - coalesce(lag(c.mrr) OVER history, 0) AS mrr_change,
               (coalesce(c.mrr, 0) > 0)::integer - (coalesce(lag(c.mrr) OVER history, 0) > 0)::integer AS paying,
               stays::integer AS stays, stays::integer - coalesce(lag(stays) OVER history, false)::integer AS came_to_stay
        FROM unnest(customers) AS its (customer),
             LATERAL (SELECT h.customer, h.subscription, h.at, h.currency, h.movement, h.mrr, h.status, h.pause_collection
                      FROM stripe_portal.subscription_change AS h
                      WHERE (h.customer, h.livemode, h.account) = (its.customer, derive_subscribers.livemode, derive_subscribers.account)
                      OFFSET 0) AS c,
             coalesce(c.mrr > 0 OR c.status = 'paused' OR c.status IN ('active', 'past_due') AND c.pause_collection IS NOT NULL, false) AS stays
        WINDOW history AS (PARTITION BY c.subscription ORDER BY c.at)
    ), counted AS (
        -- subscriptions that bring in something, of all that the customer has
        SELECT s.*, sum(s.paying) OVER (PARTITION BY s.customer, s.currency ORDER BY s.at, s.subscription) AS n,
               sum(s.came_to_stay) OVER (PARTITION BY s.customer ORDER BY s.at) - s.stays AS others,
               min(s.at) FILTER (WHERE s.movement = 'new') OVER (PARTITION BY s.customer, s.currency) AS since,
               s.movement IS NOT DISTINCT FROM 'new'
               AND row_number() OVER (PARTITION BY s.customer, s.currency, s.movement ORDER BY s.at, s.subscription) = 1 AS first
        FROM step AS s
    ), derived AS MATERIALIZED (
        SELECT c.subscription, c.at, c.currency, c.mrr_change, ((c.n > 0)::integer - (c.n > c.paying)::integer)::smallint AS subscribers, c.since, c.first,
               CASE WHEN c.movement = 'churn' THEN c.others = 0 END AS customer_left
        FROM counted AS c
        WHERE c.mrr_change <> 0 OR c.movement = 'churn'
    ), gone AS (
        DELETE FROM stripe_portal.subscriber_change AS known
        USING (SELECT DISTINCT s.subscription FROM step AS s) AS its,
              LATERAL (SELECT k.ctid FROM stripe_portal.subscriber_change AS k
                       WHERE (k.subscription, k.livemode, k.account)
                           = (its.subscription, derive_subscribers.livemode, derive_subscribers.account)
                       OFFSET 0) AS found
        WHERE known.ctid = found.ctid
          AND NOT EXISTS (SELECT FROM derived AS d WHERE d.subscription = known.subscription AND d.at = known.at)
    )
    INSERT INTO stripe_portal.subscriber_change AS known
    SELECT d.subscription, derive_subscribers.livemode, derive_subscribers.account, d.at, d.currency, d.mrr_change, d.subscribers, d.since, d.first, d.customer_left
    FROM derived AS d
    ON CONFLICT ON CONSTRAINT subscriber_change_pkey DO UPDATE
    SET (currency, mrr_change, subscribers, since, first, customer_left)
      = (excluded.currency, excluded.mrr_change, excluded.subscribers, excluded.since, excluded.first, excluded.customer_left)
    WHERE known IS DISTINCT FROM excluded;
END
$$;

COMMENT ON FUNCTION stripe_portal.derive_subscribers(text[], boolean, text) IS
'Makes the rows of table subscriber_change those that the histories of some customers'' subscriptions tell of';

CREATE OR REPLACE FUNCTION stripe_portal.subscriber_follow()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched record;
BEGIN
    -- A row that lasts longer than it did can have been followed by one that
    -- is not there any more.  Most rows only end, with the next one; if they
    -- brought in money, that one tells whether anything has become of it.  One
    -- that is paused may move nothing, and still matters when another ends.
    FOR touched IN
        SELECT array_agg(DISTINCT c.customer) AS customers, c.livemode, c.account
        -- each row is in both; but the plan is kept, was perhaps made for one row,
        -- and with FULL does not look at all of them for each
        FROM changed AS c FULL JOIN before AS b USING (subscription, livemode, account, at)
        WHERE c.until > b.until
           OR stripe_portal.earning(c.status, c.pause_collection) = 'paused'
           OR (c.movement IS NOT NULL OR c.mrr IS NULL OR b.movement IS NOT NULL OR b.mrr IS NULL)
              AND NOT coalesce(c.until < b.until AND c.mrr > 0 AND c.mrr = b.mrr AND c.movement IS NOT DISTINCT FROM b.movement, false)
        GROUP BY c.livemode, c.account
    LOOP
        PERFORM stripe_portal.derive_subscribers(touched.customers, touched.livemode, touched.account);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.subscriber_follow() IS
'Keeps table subscriber_change true to the histories that changed';

CREATE OR REPLACE TRIGGER subscriber_follow
    AFTER UPDATE ON stripe_portal.subscription_change
    REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.subscriber_follow();

COMMENT ON TABLE stripe_portal.subscriber_change IS 'When customers began and ceased to bring in MRR, and how much more or less that was: one row for each row of stripe_portal.subscription_change that changed the MRR, or was a churn out of a pause, which had changed it before. What reports add up';
COMMENT ON COLUMN stripe_portal.subscriber_change.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.subscriber_change.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.subscriber_change.mrr_change IS 'By how much the MRR is more than just before, in minor units; what is not known counts as 0, unlike in stripe_portal.subscription_change';
COMMENT ON COLUMN stripe_portal.subscriber_change.subscribers IS '1 if the customer had brought in nothing in this currency and now does, -1 if that was the last of it, else 0. Their sum up to a time is the number of customers at that time';
COMMENT ON COLUMN stripe_portal.subscriber_change.since IS 'When the customer first paid in this currency, as one who was new; NULL if never';
COMMENT ON COLUMN stripe_portal.subscriber_change.first IS 'Whether this is the row of since, one for each customer and currency';
COMMENT ON COLUMN stripe_portal.subscriber_change.customer_left IS 'Of a churn: whether the customer had no other subscription then that brings in MRR or is paused; else NULL';
