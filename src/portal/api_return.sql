-- portal: what happened between the way to the portal and the way back.
--
-- Views, not functions: who may read a view may not call the functions in it.
-- Those that others may read are for those who see all customers.
-- Subscriptions are compared in Stripe's own shape, so that a snapshot, a row
-- and an event go through the same comparison.

CREATE OR REPLACE VIEW stripe_portal.session_state AS
SELECT k.id AS session,
       jsonb_strip_nulls(jsonb_build_object(
           'customer', (
               SELECT jsonb_build_object(
                          'default_payment_method', c.default_payment_method,
                          -- to tell that it changed, a few bits of a digest do;
                          -- the sessions hold no personal data
                          'details', (
                              SELECT jsonb_object_agg(d.name, left(encode(sha256(
                                         convert_to(concat(c.id, ' ', d.value), getdatabaseencoding())), 'hex'), 8))
                              FROM (VALUES ('name', c.name), ('email', c.email), ('phone', c.phone),
                                           ('address', c.address::text)) AS d (name, value)
                              WHERE d.value IS NOT NULL))
               FROM stripe_portal.customer AS c
               WHERE (c.id, c.livemode, c.account) = (k.customer, k.livemode, k.account)),
           'subscriptions', (
               SELECT jsonb_object_agg(s.id, jsonb_build_object(
                          'status', s.status,
                          'ended_at', extract(epoch FROM s.ended_at)::bigint,
                          'cancellation_details', jsonb_build_object(
                              'reason', s.cancellation_reason, 'feedback', s.cancellation_feedback))
                      -- what has ended does not change any more
                      || CASE WHEN s.status IN ('canceled', 'incomplete_expired') THEN '{}' ELSE jsonb_build_object(
                          'cancel_at', extract(epoch FROM s.cancel_at)::bigint,
                          'cancel_at_period_end', s.cancel_at_period_end,
                          'pause_collection', s.pause_collection,
                          'default_payment_method', s.default_payment_method,
                          'discounts', (
                              SELECT jsonb_agg(coalesce(d ->> 'id', d #>> '{}'))
                              FROM jsonb_array_elements(s.discounts) AS d),
                          'items', jsonb_build_object('data', (
                              SELECT jsonb_agg(jsonb_build_object(
                                         'id', i -> 'id', 'price', i -> 'price', 'quantity', i -> 'quantity'))
                              FROM jsonb_array_elements(s.items) AS i))) END)
               FROM stripe_portal.subscription AS s
               WHERE (s.customer, s.livemode, s.account) = (k.customer, k.livemode, k.account)))) AS state
FROM stripe_portal.session AS k;

COMMENT ON VIEW stripe_portal.session_state IS
'For each session, what its customer can change in the portal, as it is now: the default payment method, digests of name, email, phone and address, and each subscription in Stripe''s shape. Kept in stripe_portal.session as it was when the session was opened';

CREATE OR REPLACE VIEW stripe_portal.observed_change AS
WITH step AS (
    -- each subscription of a session's customer: then and now
    SELECT s.id AS session, NULL::text AS event, s.livemode, s.account, s.customer, s.created AS since,
           key AS subscription, earlier.before, later.after
    FROM stripe_portal.session AS s
    JOIN stripe_portal.session_state AS now ON now.session = s.id
    CROSS JOIN jsonb_each(s.state -> 'subscriptions') AS earlier (key, before)
    JOIN jsonb_each(now.state -> 'subscriptions') AS later (key, after) USING (key)
    UNION ALL
    -- each event: the object with the values that it had before, and as it is
    SELECT NULL, e.id, e.livemode, e.account, coalesce(o #>> '{customer,id}', o ->> 'customer'), e.created,
           e.object_id,
           o || CASE e.type WHEN 'customer.subscription.updated' THEN '{}'
                            WHEN 'customer.subscription.resumed' THEN '{"status": "paused"}'
                            -- deleted and paused
                            ELSE '{"status": "active"}' END::jsonb
             || CASE jsonb_typeof(data -> 'previous_attributes') WHEN 'object' THEN data -> 'previous_attributes' ELSE '{}' END,
           o
    FROM stripe_portal.event AS e,
         -- jsonb can not hold this one escape, which json keeps
         jsonb_extract_path(replace(e.payload::text, '\u0000', '\ufffd')::jsonb, 'data') AS data,
         jsonb_extract_path(data, 'object') AS o
    WHERE e.type IN ('customer.subscription.updated', 'customer.subscription.deleted',
                     'customer.subscription.paused', 'customer.subscription.resumed')
      AND e.status = 'applied'
)
SELECT step.session, step.event, step.livemode, step.account, step.customer, step.since, step.subscription,
       change.outcome, change.details
FROM step,
     LATERAL (
         SELECT before ->> 'status' IN ('canceled', 'incomplete_expired') AS had_ended,
                after ->> 'status' IN ('canceled', 'incomplete_expired') AS has_ended,
                -- flexible subscriptions set cancel_at only, so look at both
                before ->> 'cancel_at' IS NOT NULL
                    OR coalesce(before ->> 'cancel_at_period_end' = 'true', false) AS was_scheduled,
                after ->> 'cancel_at' IS NOT NULL
                    OR coalesce(after ->> 'cancel_at_period_end' = 'true', false) AS is_scheduled,
                before ->> 'status' = 'paused' OR before ->> 'pause_collection' IS NOT NULL AS was_paused,
                after ->> 'status' = 'paused' OR after ->> 'pause_collection' IS NOT NULL AS is_paused,
                coalesce(before #>> '{default_payment_method,id}', before ->> 'default_payment_method') AS old_method,
                coalesce(after #>> '{default_payment_method,id}', after ->> 'default_payment_method') AS new_method
     ) AS s,
     LATERAL (
         SELECT 'canceled' AS outcome, jsonb_build_object(
                    -- whether it was only a matter of time
                    'scheduled', was_scheduled
                        AND coalesce((before ->> 'cancel_at')::numeric <= (after ->> 'ended_at')::numeric, true),
                    'reason', after #> '{cancellation_details,reason}',
                    'feedback', after #> '{cancellation_details,feedback}') AS details
         WHERE has_ended AND NOT had_ended
         UNION ALL
         SELECT 'cancel_scheduled', jsonb_build_object(
                    'cancel_at', after -> 'cancel_at',
                    'reason', after #> '{cancellation_details,reason}',
                    'feedback', after #> '{cancellation_details,feedback}')
         WHERE is_scheduled AND NOT was_scheduled AND NOT has_ended
         UNION ALL
         SELECT 'cancel_undone', jsonb_build_object('cancel_at', before -> 'cancel_at')
         WHERE was_scheduled AND NOT is_scheduled AND NOT has_ended
         UNION ALL
         SELECT 'paused', '{}'::jsonb WHERE is_paused AND NOT was_paused AND NOT has_ended
         UNION ALL
         SELECT 'resumed', '{}'::jsonb WHERE was_paused AND NOT is_paused AND NOT has_ended
         UNION ALL
         SELECT 'payment_method_changed', jsonb_build_object('from', old_method, 'to', new_method)
         WHERE old_method IS DISTINCT FROM new_method AND NOT has_ended
         UNION ALL
         SELECT 'discount_added', jsonb_build_object('discount', added.id)
         FROM (SELECT coalesce(d ->> 'id', d #>> '{}') FROM jsonb_path_query(after, '$.discounts[*]') AS d
               EXCEPT
               SELECT coalesce(d ->> 'id', d #>> '{}') FROM jsonb_path_query(before, '$.discounts[*]') AS d
              ) AS added (id)
         WHERE NOT has_ended
         UNION ALL
         SELECT 'plan_changed', jsonb_build_object('item', id, 'from', old.plan, 'to', new.plan)
         FROM (SELECT i ->> 'id', jsonb_build_object(
                          'price', coalesce(i #>> '{price,id}', i #>> '{plan,id}', i ->> 'price'),
                          'quantity', i -> 'quantity')
               FROM jsonb_path_query(before, '$.items.data[*]') AS i) AS old (id, plan)
         FULL JOIN
              (SELECT i ->> 'id', jsonb_build_object(
                          'price', coalesce(i #>> '{price,id}', i #>> '{plan,id}', i ->> 'price'),
                          'quantity', i -> 'quantity')
               FROM jsonb_path_query(after, '$.items.data[*]') AS i) AS new (id, plan) USING (id)
         WHERE old.plan IS DISTINCT FROM new.plan AND NOT has_ended
     ) AS change
UNION ALL
-- what is the customer's and not a subscription's
SELECT s.id, NULL, s.livemode, s.account, s.customer, s.created, NULL, change.outcome, change.details
FROM stripe_portal.session AS s
-- OFFSET 0: worked out once, not once for each mention
CROSS JOIN LATERAL (SELECT n.state FROM stripe_portal.session_state AS n WHERE n.session = s.id OFFSET 0) AS now,
     LATERAL (
         SELECT 'payment_method_changed' AS outcome, jsonb_build_object(
                    'from', s.state #> '{customer,default_payment_method}',
                    'to', now.state #> '{customer,default_payment_method}') AS details
         WHERE s.state #> '{customer,default_payment_method}'
             IS DISTINCT FROM now.state #> '{customer,default_payment_method}'
         UNION ALL
         SELECT 'details_updated', jsonb_build_object('fields', jsonb_agg(key ORDER BY key))
         FROM jsonb_each(s.state #> '{customer,details}') AS old (key, value)
         FULL JOIN jsonb_each(now.state #> '{customer,details}') AS new (key, value) USING (key)
         WHERE old.value IS DISTINCT FROM new.value
         HAVING count(*) > 0
     ) AS change
-- a customer whose event was late has not changed
WHERE s.state ? 'customer' AND now.state ? 'customer';

COMMENT ON VIEW stripe_portal.observed_change IS
'What changed: for each session, between its opening and now (session is set, since is its opening); for each event of a subscription, by it (event is set, since is its time). subscription is NULL for what is the customer''s. outcome, with its details: canceled {scheduled, reason, feedback}, cancel_scheduled {cancel_at, reason, feedback}, cancel_undone {cancel_at}, plan_changed {item, from, to}, each {price, quantity}, payment_method_changed {from, to}, paused {}, resumed {}, discount_added {discount}, details_updated {fields}. Select by session or event: the view reads much otherwise';

CREATE OR REPLACE VIEW stripe_portal.session_unreturned AS
SELECT s.id AS session, s.livemode, s.account, s.customer, s.flow, s.subscription, s.created,
       s.return_until, s.return_until > now() AS may_return,
       (SELECT coalesce(array_agg(DISTINCT c.outcome), '{nothing}')
        FROM stripe_portal.observed_change AS c
        WHERE c.session = s.id) AS outcome
FROM stripe_portal.session AS s
WHERE s.return_until IS NOT NULL AND s.returned_at IS NULL
  AND (SELECT stripe_portal.all_customers());

COMMENT ON VIEW stripe_portal.session_unreturned IS
'Sessions that were opened with a {token} to come back with, which nobody has: whether it still works, and what changed since, as in stripe_portal.observed_change';

CREATE OR REPLACE VIEW stripe_portal.change_unexplained AS
SELECT DISTINCT ON (c.livemode, c.account, c.subscription, c.since, c.outcome, c.details)
       c.event, c.livemode, c.account, c.customer, c.subscription, c.since AS at, c.outcome, c.details
FROM stripe_portal.observed_change AS c
WHERE c.event IS NOT NULL AND (SELECT stripe_portal.all_customers())
  -- what had been scheduled was to be expected
  AND NOT (c.outcome = 'canceled' AND (c.details ->> 'scheduled')::boolean)
  AND NOT EXISTS (
      SELECT FROM stripe_portal.session AS s
      WHERE (s.customer, s.livemode, s.account) = (c.customer, c.livemode, c.account)
        AND s.refused IS NULL
        -- The clocks may differ a little.  A session is over an hour after the
        -- last activity, and at most five minutes pass before the first.
        AND c.since BETWEEN s.created - interval '1 minute'
                        AND greatest(s.created + interval '5 minutes', s.returned_at) + interval '1 hour')
ORDER BY c.livemode, c.account, c.subscription, c.since, c.outcome, c.details, c.event;

COMMENT ON VIEW stripe_portal.change_unexplained IS
'Changes of subscriptions, as in stripe_portal.observed_change, that happened while no session of the customer was open: made in the Dashboard, through the API or by Stripe itself, such as a cancellation for non-payment (its reason says so). A scheduled cancellation that comes due is not one. at is Stripe''s time';

-- ---------------------------------------------------------------------------
-- The token
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.token_id(token text)
RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_token_id';

COMMENT ON FUNCTION stripe_portal.token_id(text) IS
'The id of the row that a token says it is for, not verified; NULL for what can be no token';

CREATE OR REPLACE FUNCTION stripe_portal.token_require(
    token text, purpose text, customer text, livemode boolean, account text)
RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stripe_token_require';

COMMENT ON FUNCTION stripe_portal.token_require(text, text, text, boolean, text) IS
'Raises SPR01 unless the token was made for this purpose and for the row whose customer, livemode and account are given (NULL if there is no such row), with one of the configured API keys, and has not expired. That it works once is for the caller to see to';

CREATE OR REPLACE FUNCTION stripe_portal.refresh(customer text, account text, livemode boolean)
RETURNS integer
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_refresh';

COMMENT ON FUNCTION stripe_portal.refresh(text, text, boolean) IS
'stripe_refresh, for other functions to call';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_return(
    token text, refresh boolean DEFAULT false,
    OUT session uuid, OUT customer text, OUT subscription text, OUT outcome text, OUT details jsonb)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- compiling the comparison takes longer than many of them
SET jit = off
AS $$
DECLARE
    opened stripe_portal.session;
    changes jsonb;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_portal_return()');
    SELECT s.* INTO opened
    FROM stripe_portal.session AS s
    WHERE s.id = stripe_portal.token_id(token);
    -- also if there is none, with the same answer as for a forged one
    PERFORM stripe_portal.token_require(token, 'return', opened.customer, opened.livemode, opened.account);

    -- before anything is locked, and not for a token that has been used
    IF refresh AND opened.returned_at IS NULL THEN
        PERFORM stripe_portal.refresh(opened.customer, opened.account, opened.livemode);
    END IF;

    SELECT coalesce(jsonb_agg(jsonb_build_object('subscription', c.subscription, 'outcome', c.outcome, 'details', c.details)
                              ORDER BY c.subscription NULLS FIRST, c.outcome, c.details),
                    '[{"outcome": "nothing", "details": {}}]')
    INTO changes
    FROM stripe_portal.observed_change AS c
    WHERE c.session = opened.id;

    -- the one place where a token is used up
    UPDATE stripe_portal.session AS s
    SET returned_at = now(),
        outcome = ARRAY(SELECT DISTINCT c ->> 'outcome' FROM jsonb_array_elements(changes) AS c ORDER BY 1)
    WHERE s.id = opened.id AND s.returned_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'token refused'
            USING ERRCODE = 'SPR01',
                  DETAIL = 'It has been used.',
                  HINT = 'stripe_portal.session has what was told then.';
    END IF;

    RETURN QUERY
    SELECT opened.id, opened.customer, c.subscription, c.outcome, c.details
    FROM jsonb_to_recordset(changes) AS c (subscription text, outcome text, details jsonb);
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_return(text, boolean) IS
'What happened since the session was opened whose {token} a customer came back with: one row per change, with outcome and details as in stripe_portal.observed_change, or a single row with outcome nothing. subscription is NULL for what is the customer''s. It is read from the state tables, so a change whose webhook is still under way is not in it but will be in stripe_portal.observed_change; refresh => true first reads the customer from Stripe, with the errors of stripe_refresh, after which the token still works. The session''s row keeps returned_at and the outcomes. A token works once: error SPR01 for one that has been used, has expired or was not made here';

COMMENT ON COLUMN stripe_portal.session.return_url IS 'Where the portal''s back link leads, with its placeholders as they were given; never a token; empty when the customer was forgotten';
COMMENT ON COLUMN stripe_portal.session.state IS 'What stripe_portal.session_state was when the session was opened';
COMMENT ON COLUMN stripe_portal.session.retention_coupon IS 'The coupon that was offered in the cancel flow, by a win-back rule or by the caller; NULL for none';
COMMENT ON COLUMN stripe_portal.session.return_until IS 'Until when the token in a return URL works; NULL if there is none in it';
COMMENT ON COLUMN stripe_portal.session.returned_at IS 'When the customer came back with the token; NULL before';
COMMENT ON COLUMN stripe_portal.session.outcome IS 'What stripe_portal_return found then; {nothing} if nothing had changed';
