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
-- that was known of its object.

CREATE OR REPLACE FUNCTION stripe_portal.status_is_final(status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('canceled', 'incomplete_expired');

COMMENT ON FUNCTION stripe_portal.status_is_final(text) IS
'Whether a subscription never leaves this status';

-- The tables differ in their columns only, so write_row is made from those: a
-- function for each table, told apart by its argument.
DO $do$
DECLARE
    kind text;
    parts record;
BEGIN
    FOREACH kind IN ARRAY '{customer, product, price, subscription}'::text[] LOOP
        SELECT min(name) FILTER (WHERE attnum = 1) AS key,
               string_agg(format(CASE WHEN grows THEN '%1$s = greatest(known.%1$s, excluded.%1$s)'
                                      ELSE '%1$s = excluded.%1$s' END, name), E',\n        ' ORDER BY attnum)
                   FILTER (WHERE name <> 'refetch') AS assignments,
               -- of what is deleted there is nothing to fetch
               CASE WHEN bool_or(name = 'deleted') THEN ' AND NOT (known.deleted OR excluded.deleted)' END AS unless_deleted,
               CASE WHEN bool_or(name = 'deleted') THEN ', refetch = known.refetch AND NOT new_row.deleted' END AS not_deleted,
               string_agg(format('new_row.%1$s := greatest(shown.%1$s, new_row.%1$s);', name), E'\n    ') FILTER (WHERE grows) AS growth,
               string_agg(format('%1$s = new_row.%1$s', name), ', ') FILTER (WHERE grows) AS grown,
               string_agg(format('new_row.%1$s IS DISTINCT FROM shown.%1$s', name), ' OR ') FILTER (WHERE grows) AS has_grown,
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
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown stripe_portal.%1$I;
BEGIN
    INSERT INTO stripe_portal.%1$I AS known VALUES (new_row.*)
    ON CONFLICT (%2$s, livemode, account) DO UPDATE SET
        %3$s,
        refetch = excluded.refetch%7$s
    WHERE decided
       OR (%4$s, excluded.event_created, excluded.event <> '')
        > (%5$s, known.event_created, known.event <> '');
    IF FOUND THEN
        RETURN true;
    END IF;

    SELECT * INTO shown FROM stripe_portal.%1$I AS known
    WHERE (known.%2$s, known.livemode, known.account) = (new_row.%2$s, new_row.livemode, new_row.account);
    %6$s
    -- two reads of one second
    IF new_row.event = '' AND shown.event = '' AND new_row.event_created = shown.event_created THEN
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
        UPDATE stripe_portal.%3$I AS known SET %4$s%6$s
        WHERE (known.%5$s, known.livemode, known.account) = (new_row.%5$s, new_row.livemode, new_row.account)
        RETURNING known.* INTO shown;
    END IF;', parts.growth, parts.has_grown, kind, parts.grown, parts.key, parts.not_deleted) END,
            parts.unless_deleted);

        EXECUTE format('COMMENT ON FUNCTION stripe_portal.write_row(stripe_portal.%I, boolean) IS %L', kind,
                       'Makes table ' || kind || ' show this row, if it is newer than the one that is shown, or decided to be the later of one second. False if it was passed over; the row that is shown is locked then');
    END LOOP;
END
$do$;

CREATE OR REPLACE FUNCTION stripe_portal.state_table(kind text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kind IN ('customer', 'product', 'price', 'subscription') THEN kind END;

COMMENT ON FUNCTION stripe_portal.state_table(text) IS
'The table that shows objects of this kind (the field object); NULL if none does';

CREATE OR REPLACE FUNCTION stripe_portal.write_object(object jsonb, origin jsonb, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE object ->> 'object'
        WHEN 'subscription' THEN RETURN stripe_portal.write_row(stripe_portal.read_subscription(object, origin), decided);
        WHEN 'customer' THEN RETURN stripe_portal.write_row(stripe_portal.read_customer(object, origin), decided);
        WHEN 'price' THEN RETURN stripe_portal.write_row(stripe_portal.read_price(object, origin), decided);
        WHEN 'product' THEN RETURN stripe_portal.write_row(stripe_portal.read_product(object, origin), decided);
    END CASE;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_object(jsonb, jsonb, boolean) IS
'Reads the object and writes its row, by the read function and the write_row of its kind';

CREATE OR REPLACE FUNCTION stripe_portal.write_tombstone(object jsonb, livemode boolean, account text, as_of timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := stripe_portal.state_table(object ->> 'object');
BEGIN
    IF kind = 'subscription' THEN
        -- Stripe keeps canceled ones; it loses only those of deleted test data.
        UPDATE stripe_portal.subscription AS known
        SET status = 'canceled', ended_at = coalesce(known.ended_at, as_of),
            event = '', event_created = as_of, refetch = false
        WHERE (known.id, known.livemode, known.account) = (object ->> 'id', write_tombstone.livemode, write_tombstone.account)
          AND NOT stripe_portal.status_is_final(known.status);
    ELSE
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

CREATE OR REPLACE FUNCTION stripe_portal.apply_object(object jsonb, livemode boolean, account text, as_of timestamptz)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    read_at CONSTANT timestamptz := date_trunc('second', as_of);
BEGIN
    IF stripe_portal.state_table(object ->> 'object') IS NULL THEN
        RETURN false;
    END IF;
    IF object -> 'deleted' = 'true' THEN
        PERFORM stripe_portal.write_tombstone(object, livemode, account, read_at);
    ELSE
        PERFORM stripe_portal.write_object(object, jsonb_build_object(
            'livemode', livemode, 'account', account, 'event', '', 'event_created', read_at,
            'deleted', false, 'refetch', false), false);
    END IF;
    RETURN true;
END
$$;

COMMENT ON FUNCTION stripe_portal.apply_object(jsonb, boolean, text, timestamptz) IS
'Makes the state tables show an object that was read from Stripe at as_of, on Stripe''s clock, unless they show something newer: a page that was read before an event happened never undoes it. {"id": …, "object": …, "deleted": true} leaves a tombstone. False if no table holds its kind';
