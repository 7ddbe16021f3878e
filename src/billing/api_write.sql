-- billing: writing a row, whatever order the facts arrive in.
--
-- A row replaces the one that is shown if it is newer, by Stripe's own clock:
--
--   1. a subscription that ended (canceled, incomplete_expired) stays so,
--   2. else the later event or read wins,
--   3. and in one second an event beats a read: what changes after a read is
--      told by another event, what changed before one is in it.
--
-- Which of two events of one second is later is decided where the events are
-- known, in webhook.  Of two reads of one second that differ the greater row
-- is taken, the same in any order, and marked for a refetch.
--
-- Some columns only grow, whichever row is newer.  deleted is never taken
-- back; it says nothing of the other columns, so a tombstone shows the last
-- that was known of its object.  What Stripe sends only when it is asked to
-- expand it does not vanish with the next event, which lacks it.  Both end with
-- the object: a merchant can give the id of a deleted coupon to another one,
-- which was created later.
--
-- What one object tells of another that is embedded in it is taken where
-- nothing better is known: united, column by column, into a row whose
-- event_created is -infinity, so that whatever the object itself says is newer.

CREATE OR REPLACE FUNCTION stripe_portal.status_is_final(status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('canceled', 'incomplete_expired');

COMMENT ON FUNCTION stripe_portal.status_is_final(text) IS
'Whether a subscription never leaves this status';

-- ---------------------------------------------------------------------------
-- One row
--
-- The tables differ in their columns only, so the functions are made from
-- those: one for each table, told apart by their argument.
-- ---------------------------------------------------------------------------

DO $do$
DECLARE
    kind text;
    newer_object text;
    parts record;
BEGIN
    FOREACH kind IN ARRAY '{customer, product, price, subscription, payment_method, entitlement,
                            coupon, promotion_code, discount, invoice, payment_intent, dispute}'::text[] LOOP
        newer_object := CASE WHEN kind IN ('entitlement', 'discount') THEN 'false' ELSE '%1$s.created > %2$s.created' END;
        SELECT min(name) FILTER (WHERE attnum = 1) AS key,
               string_agg(format(CASE WHEN grows THEN '%1$s = CASE WHEN %2$s THEN excluded.%1$s ELSE greatest(known.%1$s, excluded.%1$s) END'
                                      -- of what is deleted there is nothing to fetch
                                      WHEN name = 'refetch' AND kind NOT IN ('entitlement', 'subscription')
                                      THEN 'refetch = excluded.refetch AND NOT (known.deleted OR excluded.deleted)'
                                      ELSE '%1$s = excluded.%1$s' END,
                                 name, format(newer_object, 'excluded', 'known')),
                          E',\n        ' ORDER BY attnum) AS assignments,
               string_agg(format('new_row.%1$s := CASE WHEN %2$s THEN shown.%1$s ELSE greatest(shown.%1$s, new_row.%1$s) END;',
                                 name, format(newer_object, 'shown', 'new_row')),
                          E'\n    ' ORDER BY attnum) FILTER (WHERE grows) AS growth,
               string_agg(format('new_row.%1$s IS DISTINCT FROM shown.%1$s', name), ' OR ' ORDER BY attnum) FILTER (WHERE grows) AS has_grown,
               string_agg(format('%1$s = new_row.%1$s', name), ', ' ORDER BY attnum) FILTER (WHERE grows) AS grown,
               CASE kind WHEN 'subscription' THEN 'stripe_portal.status_is_final(%s.status)' ELSE 'false' END AS final
        INTO parts
        FROM pg_catalog.pg_attribute,
             quote_ident(attname) AS name,
             LATERAL (SELECT attname IN ('deleted', 'tiers', 'applies_to', 'currency_options')) AS g (grows)
        WHERE attrelid = format('stripe_portal.%I', kind)::regclass AND attnum > 0 AND NOT attisdropped;

        EXECUTE format($template$
CREATE OR REPLACE FUNCTION stripe_portal.write_row(new_row stripe_portal.%1$I, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    shown stripe_portal.%1$I;
BEGIN
    INSERT INTO stripe_portal.%1$I AS known VALUES (new_row.*)
    ON CONFLICT (%2$s, livemode, account) DO UPDATE SET
        %3$s
    WHERE decided
       OR (%4$s, excluded.event_created, excluded.event <> '')
        > (%5$s, known.event_created, known.event <> '');
    IF FOUND THEN
        RETURN true;
    END IF;

    SELECT * INTO shown FROM stripe_portal.%1$I AS known
    WHERE (known.%2$s, known.livemode, known.account) = (new_row.%2$s, new_row.livemode, new_row.account);
    %6$s
    IF new_row.event_created <> shown.event_created THEN
        RETURN false;
    ELSIF new_row.event <> '' AND shown.event NOT IN ('', new_row.event) THEN
        RETURN NULL;
    ELSIF new_row.event = '' AND shown.event = '' THEN
        -- two reads of one second
        new_row.refetch := shown.refetch;
        IF new_row IS DISTINCT FROM shown THEN
            new_row.refetch := true;
            shown.refetch := true;
            RETURN stripe_portal.write_row(greatest(new_row, shown), true);
        END IF;
    END IF;
    RETURN false;
END
$$
$template$, kind, parts.key, parts.assignments, format(parts.final, 'excluded'), format(parts.final, 'known'),
            -- an older row can still tell what the newer one did not
            CASE WHEN parts.growth IS NOT NULL THEN format('%1$s
    IF %2$s THEN
        UPDATE stripe_portal.%3$I AS known SET %4$s, refetch = known.refetch AND NOT new_row.deleted
        WHERE (known.%5$s, known.livemode, known.account) = (new_row.%5$s, new_row.livemode, new_row.account)
        RETURNING known.* INTO shown;
    END IF;', parts.growth, parts.has_grown, kind, parts.grown, parts.key) END);

        -- Most events are of subscriptions, and newer than what is shown.
        IF kind = 'subscription' THEN
            EXECUTE format($template$
CREATE OR REPLACE FUNCTION stripe_portal.write_newer(new_rows stripe_portal.subscription[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- else it is planned anew for each array
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    written text[];
BEGIN
    WITH told AS (
        INSERT INTO stripe_portal.subscription AS known
        SELECT * FROM unnest(new_rows)
        ON CONFLICT (id, livemode, account) DO UPDATE SET
        %1$s
        WHERE (%2$s, excluded.event_created, excluded.event <> '')
            > (%3$s, known.event_created, known.event <> '')
        RETURNING known.id)
    SELECT coalesce(array_agg(id), '{}') INTO written FROM told;
    RETURN written;
END
$$
$template$, parts.assignments, format(parts.final, 'excluded'), format(parts.final, 'known'));
            COMMENT ON FUNCTION stripe_portal.write_newer(stripe_portal.subscription[]) IS
            'Makes table subscription show those of the rows, one for each subscription, that are newer than the ones that are shown, and gives their ids; write_row has to see to the others';
        END IF;

        EXECUTE format('COMMENT ON FUNCTION stripe_portal.write_row(stripe_portal.%I, boolean) IS %L', kind,
                       'Makes table ' || kind || ' show this row, if it is newer than the one that is shown, or decided to be the later of one second. True if it does; false if the row was passed over, NULL if that was for another event of the same second. Then the row that is shown is locked');
    END LOOP;

    FOREACH kind IN ARRAY '{price, coupon, discount, invoice_payment, payment_attempt}'::text[] LOOP
        SELECT min(name) FILTER (WHERE attnum = 1) AS key,
               string_agg(format(CASE WHEN name = 'failed_at' THEN '%1$s = least(known.%1$s, excluded.%1$s)'
                                      WHEN name = 'refetch' THEN 'refetch = NOT (known.deleted OR excluded.deleted)'
                                      ELSE '%1$s = greatest(known.%1$s, excluded.%1$s)' END, name),
                          E',\n        ' ORDER BY attnum) FILTER (WHERE attnum > 3) AS assignments,
               CASE WHEN bool_or(name = 'event_created') THEN '%s.event_created > ''-infinity''' ELSE 'false' END AS better_known
        INTO parts
        FROM pg_catalog.pg_attribute, quote_ident(attname) AS name
        WHERE attrelid = format('stripe_portal.%I', kind)::regclass AND attnum > 0 AND NOT attisdropped;

        EXECUTE format($template$
CREATE OR REPLACE FUNCTION stripe_portal.unite_row(new_row stripe_portal.%1$I)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown stripe_portal.%1$I;
BEGIN
    -- mostly there is nothing new, and then nothing to lock
    SELECT * INTO shown FROM stripe_portal.%1$I AS known
    WHERE (known.%2$s, known.livemode, known.account) = (new_row.%2$s, new_row.livemode, new_row.account);
    IF NOT FOUND OR NOT (%4$s OR new_row IS NOT DISTINCT FROM shown) THEN
        INSERT INTO stripe_portal.%1$I AS known VALUES (new_row.*)
        ON CONFLICT (%2$s, livemode, account) DO UPDATE SET
        %3$s
        WHERE NOT %5$s;
    END IF;
END
$$
$template$, kind, parts.key, parts.assignments, format(parts.better_known, 'shown'), format(parts.better_known, 'known'));

        EXECUTE format('COMMENT ON FUNCTION stripe_portal.unite_row(stripe_portal.%I) IS %L', kind,
                       'Adds to table ' || kind || ' what this row knows of an object, or of a fact, that others tell as well, each a part of it: every column keeps the greatest value that was told. What its object itself has told is left alone');
    END LOOP;
END
$do$;

-- ---------------------------------------------------------------------------
-- One object
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.state_table(kind text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN kind IN ('customer', 'product', 'price', 'subscription', 'payment_method', 'coupon', 'promotion_code',
                  'discount', 'invoice', 'payment_intent', 'dispute') THEN kind
    WHEN kind = 'entitlements.active_entitlement_summary' THEN 'entitlement'
    WHEN kind = 'billing_portal.configuration' THEN 'billing_portal_configuration'
END;

COMMENT ON FUNCTION stripe_portal.state_table(text) IS
'The table that shows objects of this kind (the field object); NULL if none does';

CREATE OR REPLACE FUNCTION stripe_portal.object_id(object jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN object ->> 'object' = 'entitlements.active_entitlement_summary'
            THEN stripe_portal.read_id(object -> 'customer')
            ELSE object ->> 'id' END;

COMMENT ON FUNCTION stripe_portal.object_id(jsonb) IS
'The id of an object; a customer''s for the customer''s entitlements, which have none of their own; NULL for what has none, such as an upcoming invoice';

CREATE OR REPLACE FUNCTION stripe_portal.write_object(object jsonb, origin jsonb, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE stripe_portal.state_table(object ->> 'object')
        WHEN 'subscription' THEN RETURN stripe_portal.write_row(stripe_portal.subscription_row(object, origin), decided);
        WHEN 'invoice' THEN RETURN stripe_portal.write_row(stripe_portal.invoice_row(object, origin), decided);
        WHEN 'payment_intent' THEN RETURN stripe_portal.write_row(stripe_portal.payment_intent_row(object, origin), decided);
        WHEN 'customer' THEN RETURN stripe_portal.write_row(stripe_portal.customer_row(object, origin), decided);
        WHEN 'payment_method' THEN RETURN stripe_portal.write_row(stripe_portal.payment_method_row(object, origin), decided);
        WHEN 'entitlement' THEN RETURN stripe_portal.write_row(stripe_portal.entitlement_row(object, origin), decided);
        WHEN 'price' THEN RETURN stripe_portal.write_row(stripe_portal.price_row(object, origin), decided);
        WHEN 'product' THEN RETURN stripe_portal.write_row(stripe_portal.product_row(object, origin), decided);
        WHEN 'discount' THEN RETURN stripe_portal.write_row(stripe_portal.discount_row(object, origin), decided);
        WHEN 'coupon' THEN RETURN stripe_portal.write_row(stripe_portal.coupon_row(object, origin), decided);
        WHEN 'promotion_code' THEN RETURN stripe_portal.write_row(stripe_portal.promotion_code_row(object, origin), decided);
        WHEN 'dispute' THEN RETURN stripe_portal.write_row(stripe_portal.dispute_row(object, origin), decided);
        WHEN 'billing_portal_configuration' THEN
            RETURN stripe_portal.write_row(stripe_portal.billing_portal_configuration_row(object, origin), decided);
    END CASE;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_object(jsonb, jsonb, boolean) IS
'Writes the row of an object, as write_row of its table does';

CREATE OR REPLACE FUNCTION stripe_portal.write_tombstone(object jsonb, livemode boolean, account text, as_of timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := stripe_portal.state_table(object ->> 'object');
    canceled stripe_portal.subscription;
BEGIN
    IF kind = 'subscription' THEN
        -- Stripe keeps canceled ones; it loses only those of deleted test data.
        UPDATE stripe_portal.subscription AS known
        SET status = 'canceled', ended_at = coalesce(known.ended_at, as_of),
            event = '', event_created = as_of, refetch = false
        WHERE (known.id, known.livemode, known.account) = (object ->> 'id', write_tombstone.livemode, write_tombstone.account)
          AND NOT stripe_portal.status_is_final(known.status)
        RETURNING known.* INTO canceled;
        IF FOUND THEN
            PERFORM stripe_portal.record_change(canceled, NULL);
        END IF;
    ELSIF kind <> 'entitlement' THEN
        EXECUTE format($sql$
            INSERT INTO stripe_portal.%I AS known (id, livemode, account, deleted, event, event_created)
            VALUES ($1, $2, $3, true, '', '-infinity')
            ON CONFLICT (id, livemode, account) DO UPDATE SET deleted = true, refetch = false
            WHERE NOT known.deleted $sql$, kind)
        USING object ->> 'id', livemode, account;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_tombstone(jsonb, boolean, text, timestamptz) IS
'Marks an object as deleted of which Stripe tells nothing but that ({"id": …, "object": …, "deleted": true}), and keeps what is known of it; if nothing is, event_created is -infinity. A subscription that is known here becomes canceled';

CREATE OR REPLACE FUNCTION stripe_portal.named_objects(VARIADIC objects jsonb[])
RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_named_objects';

COMMENT ON FUNCTION stripe_portal.named_objects(jsonb[]) IS
'The discounts, coupons, prices and customers with an id that are in objects, however deep, or are one of them, as a list that has none of them twice';

CREATE OR REPLACE FUNCTION stripe_portal.embedded_price(price jsonb, origin jsonb)
RETURNS stripe_portal.price
LANGUAGE sql STABLE PARALLEL SAFE
RETURN stripe_portal.price_row(
    -- without what can change in a price's life
    price - '{active, lookup_key, metadata, nickname, tax_behavior, tiers}'::text[],
    origin || '{"event": "", "event_created": "-infinity", "deleted": false, "refetch": true}');

COMMENT ON FUNCTION stripe_portal.embedded_price(jsonb, jsonb) IS
'What a price in another object tells for good';

CREATE OR REPLACE FUNCTION stripe_portal.tells_news(named jsonb, origin jsonb)
RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    told stripe_portal.price;
    shown stripe_portal.price;
BEGIN
    FOR i IN 0 .. jsonb_array_length(named) - 1 LOOP
        IF named -> i ->> 'object' <> 'price' THEN
            RETURN true;
        END IF;
        told := stripe_portal.embedded_price(named -> i, origin);
        SELECT * INTO shown FROM stripe_portal.price AS p
        WHERE (p.id, p.livemode, p.account) = (told.id, told.livemode, told.account);
        IF shown.id IS NULL OR shown.event_created = '-infinity' AND told IS DISTINCT FROM shown THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

COMMENT ON FUNCTION stripe_portal.tells_news(jsonb, jsonb) IS
'Whether the objects that are named in another one may tell what is not known; false where all are prices that are known as well or better: the usual case';

CREATE OR REPLACE FUNCTION stripe_portal.write_embedded(object jsonb, named jsonb, origin jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- without what can change in an object's life
    changes CONSTANT text[] := '{applies_to, currency_options, metadata, name, times_redeemed, valid}';
    poor_origin CONSTANT jsonb := origin || '{"event": "", "event_created": "-infinity", "deleted": false, "refetch": true}';
    embedded jsonb;
BEGIN
    -- Always in this order, so that two who do the same do not wait for each
    -- other in a circle.
    FOR embedded IN
        SELECT DISTINCT ON (e ->> 'object', e ->> 'id', e) e FROM jsonb_array_elements(named) AS e
        WHERE e <> object AND e -> 'deleted' IS DISTINCT FROM 'true'
        ORDER BY e ->> 'object', e ->> 'id', e
    LOOP
        CASE embedded ->> 'object'
            WHEN 'coupon' THEN
                PERFORM stripe_portal.unite_row(stripe_portal.coupon_row(embedded - changes, poor_origin));
            WHEN 'price' THEN
                PERFORM stripe_portal.unite_row(stripe_portal.embedded_price(embedded, origin));
            WHEN 'discount' THEN
                -- Stripe has no request for one discount: what was read with
                -- its owner is as good as a read of its own.
                IF origin ->> 'event' = '' THEN
                    PERFORM stripe_portal.write_row(stripe_portal.discount_row(embedded, origin), false);
                ELSE
                    PERFORM stripe_portal.unite_row(stripe_portal.discount_row(embedded, poor_origin));
                END IF;
            ELSE
                NULL;
        END CASE;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_embedded(jsonb, jsonb, jsonb) IS
'Takes from an object the discounts, coupons and prices that are in it, where nothing better is known of them: only what never changes in them, with refetch set';

-- ---------------------------------------------------------------------------
-- Many subscriptions
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.write_subscriptions(
    objects jsonb[], new_rows stripe_portal.subscription[], facts stripe_portal.subscription_change[], origin jsonb,
    OUT written text[], OUT recorded text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named CONSTANT jsonb := stripe_portal.named_objects(VARIADIC objects);
    livemode CONSTANT boolean := (origin ->> 'livemode')::boolean;
    account CONSTANT text := origin ->> 'account';
    terms jsonb;
BEGIN
    IF stripe_portal.tells_news(named, origin) THEN
        terms := stripe_portal.known_terms(named, livemode, account);
    END IF;

    PERFORM stripe_portal.lock_changes(customer)
    FROM (SELECT DISTINCT ON (hashtext(customer) & 1023) customer FROM unnest(new_rows)
          ORDER BY hashtext(customer) & 1023) AS c;
    written := stripe_portal.write_newer(new_rows);

    IF terms IS NOT NULL THEN
        FOR i IN 1 .. cardinality(objects) LOOP
            PERFORM stripe_portal.write_embedded(objects[i], stripe_portal.named_objects(objects[i]), origin);
        END LOOP;
        PERFORM stripe_portal.reprice_changes(terms, named, livemode, account);
    END IF;

    -- What made a row newer is the only one of its second that is known.
    IF cardinality(written) < cardinality(objects) THEN
        facts := ARRAY(SELECT f FROM unnest(facts) AS f WHERE f.subscription = ANY (written));
    END IF;
    recorded := stripe_portal.append_changes(facts);
END
$$;

COMMENT ON FUNCTION stripe_portal.write_subscriptions(jsonb[], stripe_portal.subscription[], stripe_portal.subscription_change[], jsonb) IS
'Writes the rows of subscription objects, each of them once, all of one mode and account, with what else is told in them, and takes them into their histories, where they are newer than all that is known: the usual case. facts: the rows as read_change has them; origin: of one of them. Gives the ids of those that it has written and recorded; for the others write_row and record_change have to do it';

CREATE OR REPLACE FUNCTION stripe_portal.read_origin(livemode boolean, account text, as_of timestamptz)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object(
    'livemode', livemode, 'account', account, 'event', '', 'event_created', date_trunc('second', as_of),
    'deleted', false, 'refetch', false);

COMMENT ON FUNCTION stripe_portal.read_origin(boolean, text, timestamptz) IS
'What the row of an object that was read from Stripe at as_of takes from that';

CREATE OR REPLACE FUNCTION stripe_portal.admit_object(object jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF object -> 'livemode' <> to_jsonb(livemode) THEN
        -- the key was exchanged between the question and the answer
        RAISE EXCEPTION 'object "%" is not of % mode', stripe_portal.object_id(object),
                CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SP502';
    ELSIF stripe_portal.is_forgotten(object, stripe_portal.object_id(object), livemode, account) THEN
        RETURN stripe_portal.impersonal(object);
    END IF;
    RETURN object;
END
$$;

COMMENT ON FUNCTION stripe_portal.admit_object(jsonb, boolean, text) IS
'An object that was read from Stripe, as it may be kept: without what is personal if its customer was forgotten. One of the other mode is error SP502';

CREATE OR REPLACE FUNCTION stripe_portal.apply_read_subscriptions(
    objects jsonb[], livemode boolean, account text, as_of timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    origin CONSTANT jsonb := stripe_portal.read_origin(livemode, account, as_of);
    new_rows stripe_portal.subscription[];
    done record;
BEGIN
    objects := ARRAY(SELECT stripe_portal.admit_object(o, livemode, account) FROM unnest(objects) AS o);
    new_rows := ARRAY(SELECT stripe_portal.subscription_row(o, origin) FROM unnest(objects) AS o);
    done := stripe_portal.write_subscriptions(objects, new_rows, 
        ARRAY(SELECT stripe_portal.read_change(r, NULL) FROM unnest(new_rows) AS r), origin);

    FOR i IN 1 .. cardinality(objects) LOOP
        EXIT WHEN cardinality(done.recorded) = cardinality(objects);
        IF NOT new_rows[i].id = ANY (done.written) THEN
            PERFORM stripe_portal.write_row(new_rows[i], false);
        END IF;
        IF NOT new_rows[i].id = ANY (done.recorded) THEN
            PERFORM stripe_portal.record_change(new_rows[i], NULL);
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_read_subscriptions(jsonb[], boolean, text, timestamptz) IS
'apply_object for subscriptions, each of them once';

-- ---------------------------------------------------------------------------
-- Whatever was read
-- ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION stripe_portal.apply_object(object jsonb, livemode boolean, account text, as_of timestamptz)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := object ->> 'object';
    has_table CONSTANT boolean := stripe_portal.state_table(kind) IS NOT NULL;
    origin jsonb;
    named jsonb;
    terms jsonb;
BEGIN
    IF stripe_portal.object_id(object) IS NULL THEN
        RETURN false;
    ELSIF object -> 'deleted' = 'true' THEN
        IF has_table THEN
            PERFORM stripe_portal.write_tombstone(object, livemode, account, date_trunc('second', as_of));
        END IF;
        RETURN has_table;
    ELSIF kind = 'subscription' THEN
        PERFORM stripe_portal.apply_read_subscriptions(ARRAY[object], livemode, account, as_of);
        RETURN true;
    END IF;

    object := stripe_portal.admit_object(object, livemode, account);
    origin := stripe_portal.read_origin(livemode, account, as_of);
    IF has_table THEN
        named := stripe_portal.named_objects(object);
        terms := stripe_portal.known_terms(named, livemode, account);
        IF kind = 'customer' THEN
            PERFORM stripe_portal.lock_changes(object ->> 'id');
        END IF;
        PERFORM stripe_portal.write_object(object, origin, false);
        IF kind = 'customer' THEN
            PERFORM stripe_portal.record_country(object, origin);
        END IF;
        PERFORM stripe_portal.write_embedded(object, named, origin);
        PERFORM stripe_portal.reprice_changes(terms, named, livemode, account);
    END IF;
    RETURN stripe_portal.write_payment_facts(NULL, object, origin) OR has_table;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_object(jsonb, boolean, text, timestamptz) IS
'Makes the state tables show an object that was read from Stripe at as_of, on Stripe''s clock, unless they show something newer: a page that was read before an event happened never undoes it. {"id": …, "object": …, "deleted": true} leaves a tombstone. False if no table holds its kind. An object of the other mode is error SP502';
