-- sync: what the tables show and what is true at Stripe.

CREATE OR REPLACE FUNCTION stripe_portal.list_all(
    objects text[], created_from timestamptz, created_to timestamptz, account text)
RETURNS TABLE (kind text, object jsonb, as_of timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    portion CONSTANT integer := 100;
    kinds text[];
    lists jsonb[];
    customers text[];
    last_ids text[];
    at_customers boolean := false;
    known text[] := '{}';
    done integer := 0;
    upto integer;
    answer record;
BEGIN
    SELECT array_agg(k.object ORDER BY k.object, l.n), array_agg(l.params ORDER BY k.object, l.n) INTO kinds, lists
    FROM stripe_portal.sync_kind AS k, unnest(k.lists) WITH ORDINALITY AS l (params, n)
    WHERE k.object = ANY (objects) AND k.state_table IS NOT NULL AND k.cut_by <> 'customer';
    LOOP
        IF done >= coalesce(cardinality(kinds), 0) THEN
            EXIT WHEN at_customers;
            -- then the lists of the customers, those that are known here and those that were listed
            at_customers := true;
            known := known || ARRAY(SELECT c.id FROM stripe_portal.customer AS c
                                    WHERE c.livemode = stripe_portal.key_livemode() AND c.account = list_all.account AND NOT c.deleted
                                      AND (created_from IS NULL OR c.created >= created_from)
                                      AND (created_to IS NULL OR c.created < created_to));
            SELECT array_agg(k.object), array_agg(l.params), array_agg(c.id) INTO kinds, lists, customers
            FROM stripe_portal.sync_kind AS k, unnest(k.lists) AS l (params), (SELECT DISTINCT unnest(known)) AS c (id)
            WHERE k.object = ANY (objects) AND k.state_table IS NOT NULL AND k.cut_by = 'customer'
              AND (k.object <> 'entitlements.active_entitlement_summary' OR stripe_portal.has_features(account));
            last_ids := NULL;
            done := 0;
            CONTINUE;
        END IF;
        upto := least(done + portion, cardinality(kinds));
        FOR answer IN
            WITH request AS (
                SELECT i, r.path, r.params
                FROM generate_series(done + 1, upto) AS i,
                     stripe_portal.list_request(kinds[i], lists[i], created_from, created_to, customers[i], last_ids[i]) AS r)
            SELECT done + f.n AS i, f.status, f.body, f.as_of
            FROM stripe_portal.fetch(ARRAY(SELECT r.path FROM request AS r ORDER BY r.i),
                                     ARRAY(SELECT r.params FROM request AS r ORDER BY r.i), account) AS f
        LOOP
            kind := kinds[answer.i];
            CONTINUE WHEN customers[answer.i] IS NOT NULL AND stripe_portal.lacks_customer(answer.status, answer.body);
            PERFORM stripe_portal.require_list((SELECT k.path FROM stripe_portal.sync_kind AS k WHERE k.object = kind),
                                               answer.status, answer.body);
            IF kind = 'entitlements.active_entitlement_summary' AND (answer.body ->> 'has_more')::boolean THEN
                RETURN QUERY SELECT kinds[answer.i], r.object, r.as_of
                             FROM stripe_portal.read_objects(kind, customers[answer.i : answer.i], account) AS r;
                CONTINUE;
            END IF;
            FOR object, as_of IN
                SELECT w.whole, w.as_of
                FROM json_array_elements(stripe_portal.listed(kind, customers[answer.i], answer.body)) AS e,
                     stripe_portal.whole_subscription(stripe_portal.read_payload(e.value), account, answer.as_of) AS w
            LOOP
                IF kind = 'customer' THEN
                    known := array_append(known, object ->> 'id');
                END IF;
                RETURN NEXT;
            END LOOP;
            IF (answer.body ->> 'has_more')::boolean AND answer.body #> '{data,-1,id}' IS NOT NULL THEN
                kinds := array_append(kinds, kind);
                lists := array_append(lists, lists[answer.i]);
                customers[cardinality(kinds)] := customers[answer.i];
                last_ids[cardinality(kinds)] := answer.body #>> '{data,-1,id}';
            END IF;
        END LOOP;
        done := upto;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.list_all(text[], timestamptz, timestamptz, text) IS
'All objects of these kinds, as far as they have a table, that were created in [created_from, created_to), read from Stripe without writing anything; of kinds that are listed per customer, those of the customers created then. Error SP403 for a kind that the key has no right to read';

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
    WHERE key NOT IN ('event', 'event_created', 'refetch', 'products_read', 'unclear')
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
         FROM (SELECT) AS one LEFT JOIN stripe_portal.%1$I AS t
             ON (t.%3$I, t.livemode, t.account) = (stripe_portal.object_id($1), $3, $4)',
        stripe_portal.state_table(kind), stripe_portal.state_table(kind) || '_row', stripe_portal.key_column(kind))
    INTO shown, shown_since, "true"
    USING object, jsonb_build_object('livemode', livemode, 'account', account, 'event', '', 'event_created', as_of,
                                     'deleted', false, 'refetch', false), livemode, account;
    IF shown_since IS NULL THEN
        -- nobody misses a set with nothing in it
        IF "true" -> 'lookup_keys' = '[]' THEN
            RETURN;
        END IF;
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
        id := stripe_portal.object_id(object);
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
        EXECUTE format('SELECT array_agg(t.%3$I) FROM stripe_portal.%1$I AS t
                        WHERE t.livemode = $1 AND t.account = $2 AND %2$s
                          AND NOT EXISTS (SELECT FROM unnest($3, $4) AS seen (kind, id) WHERE seen.kind = $5 AND seen.id = t.%3$I)',
                       stripe_portal.state_table(kind), stripe_portal.is_open(kind), stripe_portal.key_column(kind))
        INTO unseen USING mode, account, seen_kinds, seen_ids, kind;
        CONTINUE WHEN unseen IS NULL;
        FOR answer IN SELECT r.* FROM stripe_portal.read_objects(kind, unseen, account) AS r LOOP
            id := answer.id;
            as_of := answer.as_of;
            object := answer.object;
            IF object IS NULL THEN
                PERFORM stripe_portal.raise_answer((SELECT k.path FROM stripe_portal.sync_kind AS k WHERE k.object = kind) || '/' || id,
                                                   answer.status, answer.body);
            ELSIF object -> 'deleted' = 'true' THEN
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
    account := coalesce(account, '');
    -- all is read before anything is written
    found := ARRAY(SELECT row(d.*)::stripe_portal.drift
                   FROM stripe_portal.find_drift(
                            stripe_portal.sync_kinds(coalesce(objects, ARRAY(
                                SELECT k.object FROM stripe_portal.sync_kind AS k WHERE k.cut_by <> 'customer'))), account) AS d
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
'Compares the tables with what Stripe lists, and gives what differs or should be looked at: missing here; stale here; gone at Stripe; test row in live data (the row says live, and Stripe has its object in test mode only); abandoned checkout (missing or stale here, but incomplete or incomplete_expired at Stripe, so that nobody was cut off); never paid (past_due or unpaid, and no invoice was ever paid with money); several active subscriptions (of a customer: active, trialing or past_due). here and at_stripe: the columns that differ, or the status. Writes nothing, unless repair is true: then the tables are made to show what was read, and repaired says of each row whether that was done. objects: kinds, NULL for all but those that Stripe lists per customer only (see stripe_portal.sync_kind). account: a connected account. Errors as in stripe_api';
