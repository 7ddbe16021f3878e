-- sync: what the tables show and what is true at Stripe.

CREATE OR REPLACE FUNCTION stripe_portal.list_all(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS TABLE (kind text, object jsonb, as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kinds text[];
    paths text[];
    lists jsonb[];
    last_ids text[];
    finished boolean[];
    reading integer[];
    answer record;
BEGIN
    SELECT array_agg(k.object ORDER BY k.object, n), array_agg(k.path ORDER BY k.object, n), array_agg(l.params ORDER BY k.object, n)
    INTO kinds, paths, lists
    FROM stripe_portal.sync_kind AS k, unnest(k.lists) WITH ORDINALITY AS l (params, n)
    WHERE k.object = ANY (objects) AND k.state_table IS NOT NULL;
    LOOP
        reading := ARRAY(SELECT n FROM generate_subscripts(kinds, 1) AS n WHERE finished[n] IS NOT TRUE);
        EXIT WHEN cardinality(reading) = 0;
        FOR answer IN
            SELECT reading[f.n] AS n, f.status, f.body, f.as_of
            FROM stripe_portal.fetch(
                ARRAY(SELECT paths[n] FROM unnest(reading) AS n),
                ARRAY(SELECT stripe_portal.list_params(lists[n], created_from, created_to, last_ids[n]) FROM unnest(reading) AS n),
                account) AS f
        LOOP
            PERFORM stripe_portal.require_list(paths[answer.n], answer.status, answer.body);
            RETURN QUERY
                SELECT kinds[answer.n], w.whole, w.as_of
                FROM json_array_elements(answer.body -> 'data') AS e,
                     stripe_portal.whole_subscription(stripe_portal.read_payload(e.value), account, answer.as_of) AS w;
            last_ids[answer.n] := answer.body #>> '{data,-1,id}';
            finished[answer.n] := (answer.body ->> 'has_more')::boolean IS NOT TRUE OR last_ids[answer.n] IS NULL;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.list_all(text[], timestamptz, timestamptz, text) IS
'All objects of these kinds, as far as they have a table, that were created in [created_from, created_to), read from Stripe without writing anything; error SP403 for a kind that the key has no right to read';

CREATE OR REPLACE FUNCTION stripe_portal.comparable(shown jsonb, other jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    -- without what is not Stripe's, and what the other may not have been told;
    -- of a discount, which may be given whole or by its id, the id
    SELECT coalesce(jsonb_object_agg(key, CASE WHEN key = 'discounts' AND jsonb_typeof(value) = 'array' THEN
               (SELECT jsonb_agg(stripe_portal.read_id(discount)) FROM jsonb_array_elements(value) AS discount)
               ELSE value END), '{}')
    FROM jsonb_each(shown)
    WHERE key NOT IN ('event', 'event_created', 'refetch')
      AND NOT (key IN ('tiers', 'applies_to', 'currency_options') AND other -> key = 'null')
);

COMMENT ON FUNCTION stripe_portal.comparable(jsonb, jsonb) IS
'Of a row, as jsonb, what can be compared with another reading of its object';

CREATE OR REPLACE FUNCTION stripe_portal.compare_object(
    kind text, object jsonb, livemode boolean, account text, as_of timestamptz,
    OUT difference text, OUT here jsonb, OUT at_stripe jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown jsonb;
    shown_since timestamptz;
    "true" jsonb;
BEGIN
    IF EXISTS (SELECT FROM stripe_portal.forgotten AS f
               WHERE f.id = ANY (stripe_portal.named_ids(object) || (object ->> 'id'))
                 AND (f.livemode, f.account) = (compare_object.livemode, compare_object.account)) THEN
        object := stripe_portal.impersonal(object);
    END IF;
    EXECUTE format(
        'SELECT to_jsonb(t), t.event_created, to_jsonb(stripe_portal.%2$I($1, $2))
         FROM (SELECT) AS one LEFT JOIN stripe_portal.%1$I AS t ON (t.id, t.livemode, t.account) = ($1 ->> ''id'', $3, $4)',
        stripe_portal.state_table(kind), stripe_portal.state_table(kind) || '_row')
    INTO shown, shown_since, "true"
    USING object, jsonb_build_object('livemode', livemode, 'account', account, 'event', '', 'event_created', as_of,
                                     'deleted', false, 'refetch', false), livemode, account;
    IF shown_since IS NULL THEN
        difference := 'missing here';
        at_stripe := CASE WHEN "true" ? 'status' THEN jsonb_build_object('status', "true" -> 'status') ELSE '{}' END;
        RETURN;
    END IF;

    -- What this second or a later one has told is newer than what was read.
    IF shown_since < as_of THEN
        SELECT jsonb_object_agg(key, a.value), jsonb_object_agg(key, b.value) INTO here, at_stripe
        FROM jsonb_each(stripe_portal.comparable(shown, "true")) AS a
        JOIN jsonb_each(stripe_portal.comparable("true", shown)) AS b USING (key)
        WHERE a.value IS DISTINCT FROM b.value;
        difference := CASE WHEN here IS NOT NULL THEN 'stale here' END;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.compare_object(text, jsonb, boolean, text, timestamptz) IS
'How an object that was read from Stripe differs from its row: missing here, stale here or NULL; here and at_stripe have the columns that differ';

CREATE OR REPLACE FUNCTION stripe_portal.sync_dry_run(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    kind record;
BEGIN
    FOR kind IN
        SELECT l.kind, count(*) AS n, count(*) FILTER (WHERE c.difference = 'missing here') AS new,
               count(*) FILTER (WHERE c.difference = 'stale here') AS changed
        FROM stripe_portal.list_all(objects, created_from, created_to, account) AS l,
             stripe_portal.compare_object(l.kind, l.object, mode, account, l.as_of) AS c
        GROUP BY l.kind ORDER BY l.kind
    LOOP
        RAISE NOTICE '%: % at Stripe, % new, % changed', kind.kind, kind.n, kind.new, kind.changed;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_dry_run(text[], timestamptz, timestamptz, text) IS
'Tells in NOTICEs what stripe_sync would do';

CREATE OR REPLACE FUNCTION stripe_portal.never_paid(subscriptions text[], account text)
RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    FOR answer IN
        SELECT subscriptions[f.n] AS id, f.status, f.body
        FROM stripe_portal.fetch(
            array_fill('/v1/invoices'::text, ARRAY[cardinality(subscriptions)]),
            ARRAY(SELECT jsonb_build_object('subscription', id, 'status', 'paid', 'limit', 100) FROM unnest(subscriptions) AS id),
            account) AS f
    LOOP
        PERFORM stripe_portal.require_list('/v1/invoices', answer.status, answer.body);
        -- the first invoice of a trial is paid with nothing
        IF NOT EXISTS (SELECT FROM json_array_elements(answer.body -> 'data') AS invoice
                       WHERE (invoice ->> 'amount_paid')::bigint > 0) THEN
            RETURN NEXT answer.id;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.never_paid(text[], text) IS
'Those of the subscriptions for which no invoice was ever paid with money';

CREATE OR REPLACE FUNCTION stripe_portal.find_drift(kinds text[], account text)
RETURNS TABLE (kind text, id text, classification text, here jsonb, at_stripe jsonb, object jsonb, as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mode CONSTANT boolean := stripe_portal.key_livemode();
    seen_kinds text[] := '{}';
    seen_ids text[] := '{}';
    customers text[] := '{}';
    subscriptions text[] := '{}';
    lapsed text[] := '{}';
    lapsed_rows jsonb[] := '{}';
    unpaid text[];
    unseen text[];
    answer record;
BEGIN
    -- what Stripe lists
    FOR kind, object, as_of IN
        SELECT l.kind, l.object, l.as_of FROM stripe_portal.list_all(kinds, NULL, NULL, account) AS l
    LOOP
        id := object ->> 'id';
        seen_kinds := array_append(seen_kinds, kind);
        seen_ids := array_append(seen_ids, id);
        SELECT c.difference, c.here, c.at_stripe INTO classification, here, at_stripe
        FROM stripe_portal.compare_object(kind, object, mode, account, as_of) AS c;

        IF kind = 'subscription' AND object ->> 'status' IN ('active', 'trialing', 'past_due') THEN
            customers := array_append(customers, stripe_portal.read_id(object -> 'customer'));
            subscriptions := array_append(subscriptions, id);
        END IF;
        IF kind = 'subscription' AND object ->> 'status' IN ('past_due', 'unpaid') THEN
            lapsed := array_append(lapsed, id);
            lapsed_rows := array_append(lapsed_rows, jsonb_build_object(
                'classification', classification, 'here', here,
                'at_stripe', coalesce(at_stripe, jsonb_build_object('status', object -> 'status')),
                'object', CASE WHEN classification IS NOT NULL THEN object END, 'as_of', as_of));
        ELSIF classification IS NOT NULL THEN
            IF kind = 'subscription' AND object ->> 'status' IN ('incomplete', 'incomplete_expired') THEN
                classification := 'abandoned checkout';
            END IF;
            RETURN NEXT;
        END IF;
    END LOOP;

    -- who has lapsed, and whether they ever paid
    unpaid := ARRAY(SELECT stripe_portal.never_paid(lapsed, account));
    kind := 'subscription';
    FOR n IN 1 .. cardinality(lapsed) LOOP
        id := lapsed[n];
        classification := CASE WHEN id = ANY (unpaid) THEN 'never paid' ELSE lapsed_rows[n] ->> 'classification' END;
        here := nullif(lapsed_rows[n] -> 'here', 'null');
        at_stripe := lapsed_rows[n] -> 'at_stripe';
        object := nullif(lapsed_rows[n] -> 'object', 'null');
        as_of := (lapsed_rows[n] ->> 'as_of')::timestamptz;
        IF classification IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    -- who pays more than once
    RETURN QUERY
        SELECT 'customer', c.customer, 'several active subscriptions', NULL::jsonb,
               jsonb_build_object('subscriptions', jsonb_agg(c.subscription ORDER BY c.subscription)), NULL::jsonb, NULL::timestamptz
        FROM unnest(customers, subscriptions) AS c (customer, subscription)
        GROUP BY c.customer HAVING count(*) > 1;

    -- what is here and was not listed
    FOR kind IN SELECT k.object FROM stripe_portal.sync_kind AS k
                WHERE k.object = ANY (kinds) AND k.state_table IS NOT NULL ORDER BY k.object
    LOOP
        EXECUTE format('SELECT array_agg(t.id) FROM stripe_portal.%I AS t
                        WHERE t.livemode = $1 AND t.account = $2 AND %s
                          AND NOT EXISTS (SELECT FROM unnest($3, $4) AS seen (kind, id) WHERE seen.kind = $5 AND seen.id = t.id)',
                       stripe_portal.state_table(kind), stripe_portal.is_open(kind))
        INTO unseen USING mode, account, seen_kinds, seen_ids, kind;
        CONTINUE WHEN unseen IS NULL;
        FOR answer IN
            SELECT unseen[f.n] AS id, f.status, stripe_portal.read_payload(f.body) AS body, f.as_of
            FROM stripe_portal.sync_kind AS k,
                 stripe_portal.fetch(
                     ARRAY(SELECT k.path || '/' || stripe_portal.encode_id(u.id) FROM unnest(unseen) WITH ORDINALITY AS u (id, n) ORDER BY n),
                     array_fill(k.one, ARRAY[cardinality(unseen)]), account) AS f
            WHERE k.object = kind
        LOOP
            id := answer.id;
            as_of := answer.as_of;
            object := answer.body;
            IF answer.status = 404 OR answer.body -> 'deleted' = 'true' THEN
                classification := CASE WHEN answer.body #>> '{error,message}' LIKE '%similar object exists in % mode%'
                                       THEN format('%s row in %s data', CASE WHEN mode THEN 'test' ELSE 'live' END,
                                                   CASE WHEN mode THEN 'live' ELSE 'test' END)
                                       ELSE 'gone at Stripe' END;
                EXECUTE format('SELECT CASE WHEN to_jsonb(t) ? ''status'' THEN jsonb_build_object(''status'', to_jsonb(t) -> ''status'')
                                            ELSE ''{}'' END
                                FROM stripe_portal.%I AS t WHERE (t.id, t.livemode, t.account) = ($1, $2, $3)',
                               stripe_portal.state_table(kind))
                INTO here USING id, mode, account;
                at_stripe := NULL;
                object := jsonb_build_object('id', id, 'object', kind, 'deleted', true);
            ELSE
                PERFORM stripe_portal.raise_answer((SELECT k.path FROM stripe_portal.sync_kind AS k WHERE k.object = kind) || '/' || id,
                                                   answer.status, answer.body::json);
                SELECT w.whole, w.as_of INTO object, as_of
                FROM stripe_portal.whole_subscription(answer.body, account, answer.as_of) AS w;
                SELECT c.difference, c.here, c.at_stripe INTO classification, here, at_stripe
                FROM stripe_portal.compare_object(kind, object, mode, account, as_of) AS c;
                CONTINUE WHEN classification IS NULL;
            END IF;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.find_drift(text[], text) IS
'What stripe_drift reports, and the object that would repair it, as of when it was read';

CREATE OR REPLACE FUNCTION @extschema@.stripe_drift(
    repair boolean DEFAULT false, objects text[] DEFAULT NULL, account text DEFAULT '',
    OUT kind text, OUT id text, OUT classification text, OUT here jsonb, OUT at_stripe jsonb, OUT repaired boolean)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found stripe_portal.drift[];
    drift stripe_portal.drift;
BEGIN
    IF repair THEN
        PERFORM stripe_portal.check_can_write('stripe_drift() with repair');
    END IF;
    -- all is read before anything is written
    found := ARRAY(SELECT row(d.*)::stripe_portal.drift
                   FROM stripe_portal.find_drift(stripe_portal.sync_kinds(objects), account) AS d
                   ORDER BY d.kind, d.id, d.classification);
    FOREACH drift IN ARRAY found LOOP
        kind := drift.kind;
        id := drift.id;
        classification := drift.classification;
        here := drift.here;
        at_stripe := drift.at_stripe;
        repaired := false;
        IF repair AND drift.object IS NOT NULL THEN
            BEGIN
                PERFORM stripe_portal.apply_object(drift.object, stripe_portal.key_livemode(), account, drift.as_of);
                repaired := true;
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
                RAISE WARNING 'could not apply "%": %', drift.id, SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_drift(boolean, text[], text) IS
'Compares the tables with what Stripe lists, and gives what differs or should be looked at: missing here; stale here; gone at Stripe; test row in live data (the row says live, and Stripe has its object in test mode only); abandoned checkout (missing or stale here, but incomplete or incomplete_expired at Stripe, so that nobody was cut off); never paid (past_due or unpaid, and no invoice was ever paid with money); several active subscriptions (of a customer: active, trialing or past_due). here and at_stripe: the columns that differ, or the status. Writes nothing, unless repair is true: then the tables are made to show what was read, and repaired says of each row whether that was done. objects: kinds, NULL for all (see stripe_portal.sync_kind). account: a connected account. Errors as in stripe_api';
