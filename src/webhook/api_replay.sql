-- webhook: another attempt for what failed, and for what carries no data.

CREATE OR REPLACE FUNCTION @extschema@.stripe_replay(
    event text, livemode boolean DEFAULT NULL, account text DEFAULT '',
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_replay';

COMMENT ON FUNCTION @extschema@.stripe_replay(text, boolean, text) IS
'Applies a stored event once more. One that failed gets its handlers called again; for one that was applied nothing changes. outcome and error as in stripe_receive_webhook. livemode: NULL is the mode of the configured key. An unknown event is error P0002';

CREATE OR REPLACE FUNCTION stripe_portal.replay(
    event text, livemode boolean, account text,
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_replay';

COMMENT ON FUNCTION stripe_portal.replay(text, boolean, text) IS
'stripe_replay of one event, for other functions to call';

CREATE OR REPLACE FUNCTION stripe_portal.try_replay(
    event text, livemode boolean, account text,
    OUT outcome text, OUT error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT r.outcome, r.error INTO outcome, error
    FROM stripe_portal.replay(try_replay.event, try_replay.livemode, try_replay.account) AS r;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A handler that waits for ever is stopped by statement_timeout, and must
    -- not be the first to be tried, and the only one, for ever after.
    outcome := 'failed';
    error := SQLSTATE || ': ' || SQLERRM;
    UPDATE stripe_portal.event AS e
    SET error = try_replay.error, attempts = e.attempts + 1, last_attempt_at = now()
    WHERE e.id = try_replay.event AND e.livemode = try_replay.livemode AND e.account = try_replay.account
      AND e.status = 'failed';
END
$$;

COMMENT ON FUNCTION stripe_portal.try_replay(text, boolean, text) IS
'stripe_replay for one of many: whatever it raises, a cancel included, becomes the outcome failed and counts as an attempt';

-- The order of the arguments is such that stripe_replay('evt_…', …) is never
-- ambiguous, not even with parameters that have no type.
CREATE OR REPLACE FUNCTION @extschema@.stripe_replay(
    since timestamptz DEFAULT NULL, failed_only boolean DEFAULT true,
    type text DEFAULT NULL, until timestamptz DEFAULT NULL)
RETURNS TABLE (event text, livemode boolean, account text, outcome text, error text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_replay()');
    FOR event, livemode, account IN
        SELECT e.id, e.livemode, e.account
        FROM stripe_portal.event AS e
        WHERE (since IS NULL OR e.created >= since)
          AND (until IS NULL OR e.created < until)
          AND (stripe_replay.type IS NULL
               OR e.type LIKE replace(replace(stripe_replay.type, '_', '!_'), '*', '%') ESCAPE '!')
          AND (NOT failed_only OR e.status = 'failed')
        ORDER BY e.created, e.id
    LOOP
        SELECT r.* INTO outcome, error FROM stripe_portal.try_replay(event, livemode, account) AS r;
        RETURN NEXT;
        EXIT WHEN error LIKE '57014:%';     -- cancelled
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_replay(timestamptz, boolean, text, timestamptz) IS
'Applies stored events once more, the oldest first, and says what became of each: those created from since on and before until (NULL: no limit), of the type (NULL: all; * stands for any characters), and of these the failed ones, or all with failed_only => false, which changes nothing for what was applied. One that fails again does not keep the others back. A cancel ends the run and keeps what was done';

-- ---------------------------------------------------------------------------
-- Dead letters
-- ---------------------------------------------------------------------------

-- The views read with their owner's rights, since of an event's contents they
-- show what is not personal.  They are for those who see all customers, and
-- call no other function of ours: who may read them may not call those.

CREATE OR REPLACE VIEW stripe_portal.event_failed AS
SELECT id, livemode, account, created, type, object_id, error, attempts, received_at, last_attempt_at,
       CASE WHEN payload IS NOT NULL
            THEN last_attempt_at + least(interval '1 minute' * 2 ^ least(attempts - 1, 11), interval '1 day')
       END AS next_attempt
FROM stripe_portal.event
WHERE status = 'failed' AND (SELECT stripe_portal.all_customers());

COMMENT ON VIEW stripe_portal.event_failed IS 'Dead letters: events that could not be applied, each with its last error';
COMMENT ON COLUMN stripe_portal.event_failed.next_attempt IS 'From when on retry_failed tries it again: a minute after the first attempt, twice as long after each further one, a day at most; NULL for a body that is no event';

CREATE OR REPLACE FUNCTION stripe_portal.retry_failed(max_events integer DEFAULT 100)
RETURNS TABLE (event text, livemode boolean, account text, outcome text, error text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.check_can_write('retry_failed()');

    FOR event, livemode, account IN
        SELECT f.id, f.livemode, f.account
        FROM stripe_portal.event_failed AS f
        WHERE f.next_attempt <= now()
        ORDER BY f.received_at, f.id
        LIMIT max_events
        FOR UPDATE SKIP LOCKED
    LOOP
        SELECT r.* INTO outcome, error FROM stripe_portal.try_replay(event, livemode, account) AS r;
        RETURN NEXT;
        EXIT WHEN error LIKE '57014:%';     -- cancelled
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.retry_failed(integer) IS
'Replays the failed events whose next_attempt has come, those that arrived first before the others, max_events at most, and says what became of each. One that fails again rests for longer and does not keep the others back. Several runs at once share the work. A cancel ends the run, keeps what was done and counts as an attempt of the event under way';

-- ---------------------------------------------------------------------------
-- Thin events
-- ---------------------------------------------------------------------------

-- The secret key goes to path, so it takes no more than a plain one: no host,
-- no query, no escape, no dot.  jsonb can not hold the escape \u0000, see read_payload.
CREATE OR REPLACE VIEW stripe_portal.event_thin AS
SELECT e.id, e.livemode, e.account, e.created, e.type,
       related.object ->> 'type' AS object_type, e.object_id,
       substring(related.object ->> 'url' FROM '^/v1(?:/[A-Za-z0-9_-]+)+$') AS path,
       e.attempts, e.received_at
FROM stripe_portal.event AS e
CROSS JOIN LATERAL (SELECT replace(e.payload::text, '\u0000', '\ufffd')::jsonb -> 'related_object') AS related (object)
WHERE e.status = 'thin' AND (SELECT stripe_portal.all_customers());

COMMENT ON VIEW stripe_portal.event_thin IS 'Thin events whose object has yet to be read from Stripe';
COMMENT ON COLUMN stripe_portal.event_thin.object_type IS 'What kind of object it is about, in Stripe''s words';
COMMENT ON COLUMN stripe_portal.event_thin.path IS 'Where Stripe''s API has the object, such as /v1/subscriptions/sub_…; NULL if the event has no related object, or its url is anything but a plain path below /v1/';

CREATE OR REPLACE FUNCTION stripe_portal.settle_thin(
    event text, livemode boolean, account text, failure text DEFAULT NULL,
    OUT outcome text, OUT error text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_settle_thin';

COMMENT ON FUNCTION stripe_portal.settle_thin(text, boolean, text, text) IS
'Says of a thin event that its object was read and applied: calls its handlers, and it is applied; or, with a failure, why it could not be: it is failed with that error, and the next replay makes it thin again. outcome and error as in stripe_receive_webhook. An unknown event is error P0002, one that is not thin error 22023';
