-- billing: what each subscription was on any day, and every movement of MRR.
--
-- The facts are the rows with an event, one for each second that something
-- happened in, and the rows that were read from Stripe's API (event = ''),
-- which stand where no event tells what they tell.  A read that repeats the fact
-- before it has no row: its time is in that row's confirmed_at, and it becomes a
-- row once another fact comes between the two, or takes the other's place.
-- Everything else is derived by derive_changes, whole subscriptions at a time:
--
--   - inferred rows, for what must have happened where no fact tells of it;
--   - until, mrr, movement, mrr_change and discount_ends of all rows.
--
-- It ends with an UPDATE of the rows that were touched.  What is derived from
-- this table may hang on that UPDATE; it must not hang on the INSERT, which is
-- also what a restore does.

CREATE OR REPLACE FUNCTION stripe_portal.lock_changes(customer text)
RETURNS void
LANGUAGE sql
-- few enough for one transaction to hold them all
RETURN stripe_portal.lock('subscription_change ' || (hashtext(customer) & 1023));

COMMENT ON FUNCTION stripe_portal.lock_changes(text) IS
'Locks the history of a customer''s subscriptions to the end of the transaction: one can decide the movement of another. To be taken before the row of a subscription is locked';

CREATE OR REPLACE FUNCTION stripe_portal.read_change(s stripe_portal.subscription, event_type text)
RETURNS stripe_portal.subscription_change
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'stripe_read_change';

COMMENT ON FUNCTION stripe_portal.read_change(stripe_portal.subscription, text) IS
'A row of table subscription as one of its history, with nothing derived yet: without the periods, which move on by themselves and are no change; event_type: the type of the event it was read from';

CREATE OR REPLACE FUNCTION stripe_portal.same_state(a stripe_portal.subscription_change, b stripe_portal.subscription_change)
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (a.status, a.items, a.discounts, a.pause_collection, a.trial_end, a.cancel_at, a.cancel_at_period_end,
            a.canceled_at, a.ended_at, a.cancellation_reason, a.cancellation_feedback,
            a.cancellation_feedback_option, a.cancellation_comment)
           IS NOT DISTINCT FROM
           (b.status, b.items, b.discounts, b.pause_collection, b.trial_end, b.cancel_at, b.cancel_at_period_end,
            b.canceled_at, b.ended_at, b.cancellation_reason, b.cancellation_feedback,
            b.cancellation_feedback_option, b.cancellation_comment);
END
$$;

COMMENT ON FUNCTION stripe_portal.same_state(stripe_portal.subscription_change, stripe_portal.subscription_change) IS
'Whether two rows of a subscription''s history say the same of it, apart from what is derived';

CREATE OR REPLACE FUNCTION stripe_portal.confirmed_at(a timestamptz[], b timestamptz[])
RETURNS timestamptz[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT array_agg(at ORDER BY at)
    FROM (SELECT at, max(at) OVER () AS last FROM (SELECT unnest(a) UNION SELECT unnest(b)) AS times (at)) AS t
    -- Stripe keeps events for 30 days, so nothing comes in between before that.
    WHERE at > last - interval '31 days');

COMMENT ON FUNCTION stripe_portal.confirmed_at(timestamptz[], timestamptz[]) IS
'When a state was read again, from two lists of times, in their order: the last 31 days, because no event is told later than that';

-- ---------------------------------------------------------------------------
-- Deriving a history from its facts
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.customer_had_left(
    customer text, livemode boolean, account text, subscription text, at timestamptz)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(bool_and(last_of_each.movement = 'churn'), false)
        FROM (SELECT DISTINCT ON (c.subscription) c.movement
              FROM stripe_portal.subscription_change AS c
              WHERE (c.customer, c.livemode, c.account)
                  = (customer_had_left.customer, customer_had_left.livemode, customer_had_left.account)
                AND c.subscription <> customer_had_left.subscription
                AND c.movement IS NOT NULL AND c.at < customer_had_left.at
              ORDER BY c.subscription, c.at DESC) AS last_of_each);
END
$$;

COMMENT ON FUNCTION stripe_portal.customer_had_left(text, boolean, text, text, timestamptz) IS
'Whether a customer had paid for other subscriptions before that second, and had left with all of them';

CREATE OR REPLACE FUNCTION stripe_portal.derive_others(customer text, livemode boolean, account text, subscription text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.subscription_change AS other
    SET movement = CASE other.movement WHEN 'new' THEN 'reactivation' ELSE 'new' END
    WHERE (other.customer, other.livemode, other.account) = (derive_others.customer, derive_others.livemode, derive_others.account)
      AND other.subscription <> derive_others.subscription
      AND other.movement IN ('new', 'reactivation')
      AND NOT EXISTS (SELECT FROM stripe_portal.subscription_change AS earlier
                      WHERE (earlier.subscription, earlier.livemode, earlier.account)
                          = (other.subscription, other.livemode, other.account)
                        AND earlier.movement IS NOT NULL AND earlier.at < other.at)
      AND (other.movement = 'reactivation')
          <> stripe_portal.customer_had_left(other.customer, other.livemode, other.account, other.subscription, other.at);
END
$$;

COMMENT ON FUNCTION stripe_portal.derive_others(text, boolean, text, text) IS
'Decides anew for a customer''s other subscriptions whether their first money was that of a new customer or of one who had come back, which a movement of this one can change';

CREATE OR REPLACE FUNCTION stripe_portal.derive_changes(
    subscription text, livemode boolean, account text, touched timestamptz, reprice boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_fact record;
    c stripe_portal.subscription_change;
    derived stripe_portal.subscription_change[] := '{}';
    counts text;
    ends timestamptz;
    -- what the rows so far add up to
    running bigint := 0;
    paying boolean := false;    -- has paid, and has not left since
    paused boolean := false;
    left_before boolean := false;
BEGIN
    PERFORM stripe_portal.infer_changes(subscription, livemode, account);

    FOR next_fact IN
        SELECT h AS state, lead(h.at, 1, 'infinity') OVER (ORDER BY h.at) AS next_at
        FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account)
            = (derive_changes.subscription, derive_changes.livemode, derive_changes.account)
        ORDER BY h.at
    LOOP
        c := next_fact.state;
        -- once, and once more for each discount that ends before the next row
        LOOP
            counts := stripe_portal.earning(c.status, c.pause_collection);
            IF counts <> 'earning' THEN
                c.mrr := 0;
            ELSIF c.mrr IS NULL OR reprice THEN
                c.mrr := stripe_portal.mrr(c);
            END IF;

            ends := CASE WHEN c.discounts <> '[]' AND counts = 'earning' THEN stripe_portal.next_discount_end(c) END;
            IF ends < next_fact.next_at AND (ends <= now() OR next_fact.next_at < 'infinity') THEN
                c.until := ends;
                c.discount_ends := NULL;
            ELSE
                c.until := next_fact.next_at;
                c.discount_ends := CASE WHEN next_fact.next_at = 'infinity' THEN ends END;
            END IF;

            c.movement := NULL;
            c.mrr_change := NULL;
            IF counts = 'none' THEN
                IF paying THEN
                    c.movement := 'churn';
                END IF;
                left_before := left_before OR paying;
                paying := false;
                paused := false;
            ELSIF counts = 'paused' THEN
                IF running > 0 THEN
                    c.movement := 'pause';
                    paused := true;
                END IF;
            ELSIF c.mrr <> running THEN
                c.movement := CASE
                    WHEN paused THEN 'resume'
                    WHEN paying AND c.mrr > running THEN 'expansion'
                    WHEN paying THEN 'contraction'
                    WHEN left_before OR stripe_portal.customer_had_left(c.customer, livemode, account, subscription, c.at)
                    THEN 'reactivation'
                    ELSE 'new' END;
                paying := true;
                paused := false;
            END IF;
            IF c.movement IS NOT NULL THEN
                c.mrr_change := c.mrr - running;
            END IF;
            running := coalesce(c.mrr, running);

            derived := derived || c;
            EXIT WHEN c.until = next_fact.next_at;

            c.at := c.until;
            c.mrr := NULL;
            c.confirmed_at := NULL;
            c.inferred := true;
            c.event := '';
            c.event_type := NULL;
            INSERT INTO stripe_portal.subscription_change SELECT c.*;
        END LOOP;
    END LOOP;

    UPDATE stripe_portal.subscription_change AS known
    SET (until, mrr, movement, mrr_change, discount_ends) = (d.until, d.mrr, d.movement, d.mrr_change, d.discount_ends)
    FROM unnest(derived) AS d
    WHERE (known.subscription, known.livemode, known.account, known.at) = (d.subscription, d.livemode, d.account, d.at)
      AND ((known.until, known.mrr, known.movement, known.mrr_change, known.discount_ends)
           IS DISTINCT FROM (d.until, d.mrr, d.movement, d.mrr_change, d.discount_ends)
           OR known.at = touched);

    PERFORM stripe_portal.derive_others(c.customer, livemode, account, subscription);
END
$$;

COMMENT ON FUNCTION stripe_portal.derive_changes(text, boolean, text, timestamptz, boolean) IS
'Derives the history of a subscription from its facts: inferred rows, then what every row lasted, brought in and moved. touched: the row that is new, to be updated in any case; reprice: also the MRR that is known, because a price, coupon or discount has changed';

-- The rows are looked for one by one, and updated where they are: a plan is kept,
-- and was perhaps made when there was next to nothing here.  The lock on the
-- histories keeps them there.
CREATE OR REPLACE FUNCTION stripe_portal.confirm_changes(reads stripe_portal.subscription_change[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    confirmed text[];
BEGIN
    WITH told AS (
        UPDATE stripe_portal.subscription_change AS c
        SET confirmed_at = stripe_portal.confirmed_at(c.confirmed_at, ARRAY[r.at])
        FROM unnest(reads) AS r, LATERAL (
            SELECT known.ctid, known.at, known.confirmed_at, known AS row FROM stripe_portal.subscription_change AS known
            WHERE (known.subscription, known.livemode, known.account) = (r.subscription, r.livemode, r.account)
              AND known.at <= r.at AND NOT known.inferred
            ORDER BY known.at DESC LIMIT 1) AS last
        WHERE c.ctid = last.ctid AND last.at < r.at AND NOT coalesce(r.at = ANY (last.confirmed_at), false) AND stripe_portal.same_state(last.row, r)
        RETURNING c.subscription)
    SELECT coalesce(array_agg(subscription), '{}') INTO confirmed FROM told;
    RETURN confirmed;
END
$$;

COMMENT ON FUNCTION stripe_portal.confirm_changes(stripe_portal.subscription_change[]) IS
'Notes when subscriptions, each of them once, were read to be as they were known to be then. Gives the ids of those; for the others, record_change has to see what they tell';

CREATE OR REPLACE FUNCTION stripe_portal.next_changes(facts stripe_portal.subscription_change[])
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fact stripe_portal.subscription_change;
    born stripe_portal.subscription_change;
    c stripe_portal.subscription_change;
    -- the fact, and what must have been before it
    states stripe_portal.subscription_change[];
    counts text;
    before record;
BEGIN
    FOREACH fact IN ARRAY facts LOOP
        SELECT h.at, h.status, h.pause_collection, h.currency, h.items, h.discounts, h.mrr, h.confirmed_at,
               EXISTS (SELECT FROM stripe_portal.subscription_change AS u
                       WHERE u.mrr IS NULL
                         AND (u.subscription, u.livemode, u.account) = (h.subscription, h.livemode, h.account)) AS unknown,
               (SELECT m.movement FROM stripe_portal.subscription_change AS m
                WHERE (m.subscription, m.livemode, m.account) = (h.subscription, h.livemode, h.account) AND m.movement IS NOT NULL
                ORDER BY m.at DESC LIMIT 1) AS movement
        INTO before
        FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account) = (fact.subscription, fact.livemode, fact.account)
        ORDER BY h.at DESC
        LIMIT 1;
        CONTINUE WHEN fact.discounts <> '[]'
            OR before.at >= fact.at OR before.discounts <> '[]' OR before.unknown OR stripe_portal.status_is_final(before.status)
            -- there is something to infer, or to confirm
            OR fact.at <= ANY (before.confirmed_at)
            OR before.at IS NOT NULL AND fact.event = '';

        states := ARRAY[fact];
        IF before.at IS NULL AND fact.event_type IS DISTINCT FROM 'customer.subscription.created'
           AND coalesce(fact.created, fact.start_date) < fact.at THEN
            born := stripe_portal.first_state(fact);
            states := born || ARRAY(SELECT i FROM stripe_portal.inferred_between(born, fact) AS i) || fact;
        END IF;

        -- from here on as in derive_changes
        FOR i IN 1 .. cardinality(states) LOOP
            c := states[i];
            c.until := coalesce(states[i + 1].at, 'infinity');
            counts := stripe_portal.earning(c.status, c.pause_collection);
            c.mrr := CASE WHEN counts <> 'earning' THEN 0
                          WHEN (before.items, before.currency) = (c.items, c.currency)
                               AND stripe_portal.earning(before.status, before.pause_collection) = 'earning' THEN before.mrr
                          ELSE stripe_portal.mrr(c) END;
            c.movement := CASE
                WHEN counts = 'none' THEN CASE WHEN before.movement <> 'churn' THEN 'churn' END
                WHEN counts = 'paused' THEN CASE WHEN before.mrr > 0 THEN 'pause' END
                WHEN c.mrr IS NULL OR c.mrr = coalesce(before.mrr, 0) THEN NULL
                WHEN before.movement = 'pause' THEN 'resume'
                WHEN before.movement <> 'churn' THEN CASE WHEN c.mrr > before.mrr THEN 'expansion' ELSE 'contraction' END
                WHEN before.movement = 'churn'
                     OR stripe_portal.customer_had_left(c.customer, c.livemode, c.account, c.subscription, c.at) THEN 'reactivation'
                ELSE 'new' END;
            IF c.movement IS NOT NULL THEN
                c.mrr_change := c.mrr - coalesce(before.mrr, 0);
                before.movement := c.movement;
            END IF;
            RETURN NEXT c;
            EXIT WHEN i = cardinality(states);
            before.status := c.status;
            before.pause_collection := c.pause_collection;
            before.currency := c.currency;
            before.items := c.items;
            before.mrr := c.mrr;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.next_changes(stripe_portal.subscription_change[]) IS
'The rows that facts add to histories, with all that derive_changes would derive for them: where a fact is later than all that is known of its subscription, and nothing before it has to be derived anew. Of a first read, also what must have been before it';

CREATE OR REPLACE FUNCTION stripe_portal.append_change(fact stripe_portal.subscription_change)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz;
    moves boolean;
BEGIN
    WITH new AS (
        INSERT INTO stripe_portal.subscription_change SELECT * FROM stripe_portal.next_changes(ARRAY[fact]) RETURNING at, movement
    )
    SELECT min(at), bool_or(movement IS NOT NULL) INTO since, moves FROM new;
    IF since IS NULL THEN
        RETURN false;
    END IF;

    -- the row before, and those that are new, for what hangs on the UPDATE
    UPDATE stripe_portal.subscription_change AS c
    SET until = CASE WHEN c.at < since THEN since ELSE c.until END
    WHERE (c.subscription, c.livemode, c.account) = (fact.subscription, fact.livemode, fact.account)
      AND (c.at >= since OR c.until = 'infinity');

    IF moves THEN
        IF EXISTS (SELECT FROM stripe_portal.subscription_change AS h
                   WHERE (h.customer, h.livemode, h.account) = (fact.customer, fact.livemode, fact.account)
                     AND h.subscription <> fact.subscription) THEN
            PERFORM stripe_portal.derive_others(fact.customer, fact.livemode, fact.account, fact.subscription);
        END IF;
    END IF;
    RETURN true;
END
$$;

COMMENT ON FUNCTION stripe_portal.append_change(stripe_portal.subscription_change) IS
'Takes into its history what a subscription has become by an event, where nothing but the new rows has to be derived: the usual case. False where record_change has to do it';

CREATE OR REPLACE FUNCTION stripe_portal.append_changes(facts stripe_portal.subscription_change[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    recorded text[];
    since timestamptz[];
    moved record;
BEGIN
    WITH new AS (
        INSERT INTO stripe_portal.subscription_change SELECT * FROM stripe_portal.next_changes(facts) RETURNING subscription, at
    )
    SELECT coalesce(array_agg(n.subscription), '{}'), array_agg(n.since) INTO recorded, since
    FROM (SELECT new.subscription, min(new.at) AS since FROM new GROUP BY new.subscription) AS n;

    -- The row before, and those that are new, for what hangs on the UPDATE; see
    -- confirm_changes for the way to them.
    UPDATE stripe_portal.subscription_change AS c
    SET until = CASE WHEN c.at < new.since THEN new.since ELSE c.until END
    FROM unnest(recorded, since) AS new (subscription, since), LATERAL (
        SELECT h.ctid FROM stripe_portal.subscription_change AS h
        WHERE (h.subscription, h.livemode, h.account) = (new.subscription, facts[1].livemode, facts[1].account)
          AND (h.at >= new.since OR h.until = 'infinity')
        OFFSET 0) AS h
    WHERE c.ctid = h.ctid;

    FOR moved IN
        SELECT f.customer, f.subscription FROM unnest(facts) AS f
        WHERE f.subscription = ANY (recorded)
          AND EXISTS (SELECT FROM stripe_portal.subscription_change AS h
                      WHERE (h.customer, h.livemode, h.account) = (f.customer, f.livemode, f.account)
                        AND h.subscription <> f.subscription)
    LOOP
        PERFORM stripe_portal.derive_others(moved.customer, facts[1].livemode, facts[1].account, moved.subscription);
    END LOOP;

    IF cardinality(recorded) < cardinality(facts) THEN
        recorded := recorded || stripe_portal.confirm_changes(
            ARRAY(SELECT f FROM unnest(facts) AS f WHERE f.event = '' AND NOT f.subscription = ANY (recorded)));
    END IF;
    RETURN recorded;
END
$$;

COMMENT ON FUNCTION stripe_portal.append_changes(stripe_portal.subscription_change[]) IS
'Takes into the histories what subscriptions, each of them once, all of one mode and account, have become, where nothing but the new rows has to be derived: the usual case. Gives the ids of those subscriptions; for the others, record_change has to do it';

CREATE OR REPLACE FUNCTION stripe_portal.record_change(s stripe_portal.subscription, event_type text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fact CONSTANT stripe_portal.subscription_change := stripe_portal.read_change(s, event_type);
    derived CONSTANT text[] := '{at, until, inferred, event, event_type, mrr, movement, mrr_change, discount_ends, confirmed_at}';
    known stripe_portal.subscription_change;
    earlier timestamptz[];
    later timestamptz[];
BEGIN
    PERFORM stripe_portal.lock_changes(fact.customer);
    SELECT * INTO known FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (fact.subscription, fact.livemode, fact.account)
      AND c.at <= fact.at AND NOT c.inferred
    ORDER BY c.at DESC
    LIMIT 1;

    IF known.at = fact.at AND (known.event = fact.event AND fact.event <> '' OR known.event <> '' AND fact.event = '') THEN
        -- the same again; or a read of a second that an event tells of
        RETURN;
    ELSIF fact.event = '' AND (known.at = fact.at OR fact.at = ANY (known.confirmed_at))
          AND (stripe_portal.status_is_final(known.status), to_jsonb(known) - derived)
           >= (stripe_portal.status_is_final(fact.status), to_jsonb(fact) - derived) THEN
        -- of two reads of one second the end, else the greater, in any order
        RETURN;
    ELSIF fact.event = '' AND known.at < fact.at AND stripe_portal.same_state(known, fact) THEN
        UPDATE stripe_portal.subscription_change AS c
        SET confirmed_at = stripe_portal.confirmed_at(known.confirmed_at, ARRAY[fact.at])
        WHERE (c.subscription, c.livemode, c.account, c.at) = (known.subscription, known.livemode, known.account, known.at);
        RETURN;
    END IF;

    -- The reads that had repeated the fact before, or the one of this second: a
    -- read of this second is nothing beside an event, a later one stands for itself.
    earlier := ARRAY(SELECT t FROM unnest(known.confirmed_at) AS t WHERE t < fact.at ORDER BY t);
    later := ARRAY(SELECT t FROM unnest(known.confirmed_at) AS t WHERE t > fact.at ORDER BY t);

    -- no upsert and no update, so that there is but one UPDATE, the one at the end
    DELETE FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account) = (fact.subscription, fact.livemode, fact.account)
      AND c.at IN (fact.at, later[1], CASE WHEN known.confirmed_at <> earlier THEN known.at END);
    IF known.at < fact.at AND known.confirmed_at <> earlier THEN
        known.confirmed_at := nullif(earlier, '{}');
        INSERT INTO stripe_portal.subscription_change SELECT known.*;
    END IF;
    INSERT INTO stripe_portal.subscription_change SELECT fact.*;
    IF later <> '{}' THEN
        known.at := later[1];
        known.confirmed_at := nullif(later[2:], '{}');
        known.event := '';
        known.event_type := NULL;
        known.mrr := NULL;
        INSERT INTO stripe_portal.subscription_change SELECT known.*;
    END IF;
    PERFORM stripe_portal.derive_changes(fact.subscription, fact.livemode, fact.account, fact.at, false);
END
$$;

COMMENT ON FUNCTION stripe_portal.record_change(stripe_portal.subscription, text) IS
'Takes what a subscription was at its event_created, as read from an event or from the API, into its history; of the events of one second it is to be given the last';

-- ---------------------------------------------------------------------------
-- Reading a history
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION @extschema@.stripe_subscription_at(
    subscription text, at timestamptz, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS stripe_portal.subscription_change
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c
    FROM stripe_portal.subscription_change AS c
    WHERE (c.subscription, c.livemode, c.account)
        = (stripe_subscription_at.subscription, coalesce(stripe_subscription_at.livemode, stripe_portal.key_livemode()),
           stripe_subscription_at.account)
      AND c.at <= stripe_subscription_at.at AND c.until > stripe_subscription_at.at
$$;

COMMENT ON FUNCTION @extschema@.stripe_subscription_at(text, timestamptz, text, boolean) IS
'What a subscription was at that time: its row of stripe_portal.subscription_change; NULL before it was created, and if it is not known. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_subscriptions_at(
    at timestamptz, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS SETOF stripe_portal.subscription_change
LANGUAGE sql STABLE
-- in this form it is inlined: what the caller asks of the rows meets the index
BEGIN ATOMIC
    SELECT *
    FROM stripe_portal.subscription_change AS c
    WHERE c.at <= stripe_subscriptions_at.at AND c.until > stripe_subscriptions_at.at
      AND c.account = stripe_subscriptions_at.account
      AND c.livemode = coalesce(stripe_subscriptions_at.livemode, stripe_portal.key_livemode());
END;

COMMENT ON FUNCTION @extschema@.stripe_subscriptions_at(timestamptz, text, boolean) IS
'What all subscriptions were at that time, also those that had ended by then: rows of stripe_portal.subscription_change. livemode: NULL is the mode of the configured key, live without one';

COMMENT ON TABLE stripe_portal.subscription_change IS 'What each subscription was, from second to second, and every movement of MRR: one row for each second in which something happened, valid from at until the next. Rows are never in conflict with the events, in whatever order those arrived';
COMMENT ON COLUMN stripe_portal.subscription_change.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.subscription_change.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.subscription_change.at IS 'When it became so, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.subscription_change.until IS 'When the next row took over; infinity for the last one. What was on a day: at <= day AND until > day';
COMMENT ON COLUMN stripe_portal.subscription_change.inferred IS 'No event and no read tells of it, but it must have been so: the creation of a subscription that was first heard of later, the end of its trial, the end of a discount. Gone when events that tell arrive';
COMMENT ON COLUMN stripe_portal.subscription_change.event IS 'The event it was read from; empty if it was read from the API, or inferred';
COMMENT ON COLUMN stripe_portal.subscription_change.confirmed_at IS 'When reads from the API told the same again, before the next row: the last 31 days of them; NULL if none did';
COMMENT ON COLUMN stripe_portal.subscription_change.items IS 'id, price, product and quantity of each item';
COMMENT ON COLUMN stripe_portal.subscription_change.discounts IS 'id of each discount, and the item it is on if it is not on the whole subscription';
COMMENT ON COLUMN stripe_portal.subscription_change.mrr IS 'Monthly recurring revenue in minor units of the currency; 0 if it does not count (see stripe_portal.earning), NULL if its prices or discounts are not known';
COMMENT ON COLUMN stripe_portal.subscription_change.movement IS 'new: the subscription''s first money; reactivation: the same, of a customer who had left with all subscriptions, or of this one after it had lapsed; expansion, contraction (also to 0); pause, resume; churn: it no longer counts. NULL if the MRR did not move, or is not known';
COMMENT ON COLUMN stripe_portal.subscription_change.mrr_change IS 'What the movement added or took, since the last MRR that was known; their sum up to a time is the MRR at that time. 0 for a churn out of a pause, which had taken everything';
COMMENT ON COLUMN stripe_portal.subscription_change.discount_ends IS 'When a discount of this row, the last one, will end and change the MRR: stripe_portal.settle_changes() then adds a row';
