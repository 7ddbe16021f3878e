-- sync: forgetting a customer.
--
-- What is personal goes, what happened and what it cost stays: the histories
-- and the reports follow from what is kept, whenever they are derived again.
-- What Stripe tells later is held to the same by those who store it.

CREATE OR REPLACE VIEW stripe_portal.personal_column WITH (security_invoker = true) AS
SELECT table_name, column_name, coalesce(exception.becomes, 'NULL') AS becomes
FROM (VALUES
    ('customer', '{email, name, phone, address, shipping, preferred_locales, metadata}'::text[]),
    ('subscription', '{cancellation_comment, metadata}'),
    ('subscription_change', '{cancellation_comment}'),
    ('cancellation', '{comment}'),
    ('payment_method', '{brand, last4, exp_month, exp_year, country, funding, fingerprint, metadata}'),
    ('payment_attempt', '{brand, last4, exp_month, exp_year, country, risk_level, message}'),
    ('promotion_code', '{code, metadata}'),
    ('invoice', '{metadata}'),
    ('payment_intent', '{metadata}'),
    ('dispute', '{metadata}'),
    ('session', '{return_url, locale, opened_by, state}'),
    ('winback_offer', '{code, error}')
) AS list (table_name, column_names)
CROSS JOIN LATERAL unnest(column_names) AS column_name
LEFT JOIN (VALUES
    -- reports go by country
    ('customer', 'address', 'stripe_portal.keep_fields(t.address, ''{country}'')'),
    -- that there was one is not personal
    ('session', 'return_url', 'left(t.return_url, 0)'),
    -- without the digests
    ('session', 'state', 't.state #- ''{customer,details}'''),
    -- a role may be theirs alone, or have been
    ('session', 'opened_by', '''''')
) AS exception (table_name, column_name, becomes) USING (table_name, column_name);

COMMENT ON VIEW stripe_portal.personal_column IS 'The columns of customers'' rows that stripe_forget empties';
COMMENT ON COLUMN stripe_portal.personal_column.becomes IS 'What is left of it, as an expression on the row t';

CREATE OR REPLACE FUNCTION stripe_portal.may_name(payload json, type text, customer text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN strpos(payload::text, customer) > 0
       -- it may be written with escapes
       OR strpos(payload::text, '\') > 0
       -- what is not known to name its customer may name a charge
       OR type IS NULL
       OR type !~ '^(customer|invoice|invoiceitem|payment_intent|payment_method|product|price|plan|coupon)\.|^charge\.[a-z]+$'
       -- a charge that is nobody's can be one of an intent that became theirs
       OR payload::text ~ '"customer"\s*:\s*null';

COMMENT ON FUNCTION stripe_portal.may_name(json, text, text) IS
'Whether an event could name a customer, or something of theirs, by a look that is quicker than reading it';

CREATE OR REPLACE FUNCTION stripe_portal.owned_ids(customer text, livemode boolean, account text)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.id
    FROM (
        SELECT c.id, c.id, c.livemode, c.account FROM stripe_portal.customer AS c
        UNION ALL SELECT NULL, r.customer, r.livemode, r.account FROM stripe_portal.customer_role AS r
        UNION ALL SELECT NULL, s.customer, s.livemode, s.account FROM stripe_portal.session AS s
        UNION ALL SELECT c.subscription, c.customer, c.livemode, c.account FROM stripe_portal.subscription_change AS c
        UNION ALL SELECT s.id, s.customer, s.livemode, s.account FROM stripe_portal.subscription AS s
        UNION ALL SELECT m.id, m.customer, m.livemode, m.account FROM stripe_portal.payment_method AS m
        UNION ALL SELECT p.id, p.customer, p.livemode, p.account FROM stripe_portal.promotion_code AS p
        UNION ALL SELECT i.id, i.customer, i.livemode, i.account FROM stripe_portal.invoice AS i
        UNION ALL SELECT n.id, n.customer, n.livemode, n.account FROM stripe_portal.payment_intent AS n
        UNION ALL SELECT n.latest_charge, n.customer, n.livemode, n.account FROM stripe_portal.payment_intent AS n
        UNION ALL SELECT a.charge, a.customer, a.livemode, a.account FROM stripe_portal.payment_attempt AS a
    ) AS t (id, customer, livemode, account)
    WHERE (t.customer, t.livemode, t.account) = (owned_ids.customer, owned_ids.livemode, owned_ids.account)
$$;

COMMENT ON FUNCTION stripe_portal.owned_ids(text, boolean, text) IS
'What the tables know to be a customer''s: an id for each row that says so, NULL where it has none. No row: they know no such customer';

CREATE OR REPLACE FUNCTION stripe_portal.note_forgotten(customer text, livemode boolean, account text)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids text[];
    news bigint;
BEGIN
    INSERT INTO stripe_portal.forgotten (id, livemode, account, customer)
    SELECT note_forgotten.customer, note_forgotten.livemode, note_forgotten.account, note_forgotten.customer
    UNION
    SELECT o.id, note_forgotten.livemode, note_forgotten.account, note_forgotten.customer
    FROM stripe_portal.owned_ids(note_forgotten.customer, note_forgotten.livemode, note_forgotten.account) AS o (id)
    WHERE o.id IS NOT NULL
    ON CONFLICT DO NOTHING;

    -- what only the ledger knows to be theirs, and what that is the key to
    LOOP
        ids := ARRAY(SELECT f.id FROM stripe_portal.forgotten AS f
                     WHERE (f.customer, f.livemode, f.account) = (note_forgotten.customer, note_forgotten.livemode, note_forgotten.account));
        INSERT INTO stripe_portal.forgotten (id, livemode, account, customer)
        SELECT DISTINCT t.id, note_forgotten.livemode, note_forgotten.account, note_forgotten.customer
        FROM (
            SELECT e.object_id
            FROM stripe_portal.event AS e
            WHERE (e.livemode, e.account) = (note_forgotten.livemode, note_forgotten.account)
              AND stripe_portal.may_name(e.payload, e.type, note_forgotten.customer)
              AND stripe_portal.named_ids(stripe_portal.read_payload(e.payload), owners => true) && ids
            UNION ALL
            SELECT p.payment
            FROM stripe_portal.invoice_payment AS p
            WHERE (p.livemode, p.account) = (note_forgotten.livemode, note_forgotten.account) AND p.invoice = ANY (ids)
            UNION ALL
            SELECT d.id
            FROM stripe_portal.dispute AS d
            WHERE (d.livemode, d.account) = (note_forgotten.livemode, note_forgotten.account)
              AND (d.charge = ANY (ids) OR d.payment_intent = ANY (ids))
        ) AS t (id)
        WHERE t.id IS NOT NULL AND t.id <> ALL (ids)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS news = ROW_COUNT;
        EXIT WHEN news = 0;
    END LOOP;
    RETURN ids;
END
$$;

COMMENT ON FUNCTION stripe_portal.note_forgotten(text, boolean, text) IS
'Notes in stripe_portal.forgotten a customer and all that is known to be theirs, and gives the ids';

CREATE OR REPLACE FUNCTION stripe_portal.forget_events(ids text[], customer text, livemode boolean, account text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    payloads bigint;
    bodies bigint;
BEGIN
    UPDATE stripe_portal.event AS e
    SET payload = stripe_portal.impersonal(stripe_portal.read_payload(e.payload))::text::json,
        -- the words of an error may quote what was in it
        error = CASE WHEN e.error ~ '^[0-9A-Z]{5}: ' THEN left(e.error, 5) ELSE e.error END
    WHERE (e.livemode, e.account) = (forget_events.livemode, forget_events.account)
      AND (e.object_id = ANY (ids)
           OR stripe_portal.may_name(e.payload, e.type, forget_events.customer)
              AND stripe_portal.named_ids(stripe_portal.read_payload(e.payload)) && ids)
      AND (e.error ~ '^[0-9A-Z]{5}: '
           OR e.payload::text <> stripe_portal.impersonal(stripe_portal.read_payload(e.payload))::text);
    GET DIAGNOSTICS payloads = ROW_COUNT;

    -- of what is no event it is not known whose it is
    UPDATE stripe_portal.event AS e
    SET body = ''
    WHERE e.body <> ''
      AND EXISTS (SELECT FROM unnest(ids) AS id WHERE position(convert_to('"' || id || '"', 'UTF8') IN e.body) > 0);
    GET DIAGNOSTICS bodies = ROW_COUNT;
    RETURN payloads + bodies;
END
$$;

COMMENT ON FUNCTION stripe_portal.forget_events(text[], text, boolean, text) IS
'Empties the payloads in the ledger that are of a customer with these ids, and gives their number';

CREATE OR REPLACE FUNCTION stripe_portal.forget_rows(table_name text, ids text[], livemode boolean, account text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts record;
    rows bigint;
BEGIN
    SELECT string_agg(format('%I = %s', p.column_name, p.becomes), ', ') AS assignments,
           string_agg(format('t.%I IS DISTINCT FROM %s', p.column_name, p.becomes), ' OR ') AS is_personal,
           (SELECT string_agg(format('t.%I = ANY ($1)', a.attname), ' OR ')
            FROM pg_attribute AS a
            WHERE a.attrelid = format('stripe_portal.%I', forget_rows.table_name)::regclass
              AND a.attname IN ('id', 'customer') AND a.atttypid = 'text'::regtype) AS is_theirs
    INTO parts
    FROM stripe_portal.personal_column AS p
    WHERE p.table_name = forget_rows.table_name;

    EXECUTE format('UPDATE stripe_portal.%I AS t SET %s WHERE (%s) AND (t.livemode, t.account) = ($2, $3) AND (%s)',
                   table_name, parts.assignments, parts.is_theirs, parts.is_personal)
    USING ids, livemode, account;
    GET DIAGNOSTICS rows = ROW_COUNT;
    RETURN rows;
END
$$;

COMMENT ON FUNCTION stripe_portal.forget_rows(text, text[], boolean, text) IS
'Empties the personal columns of the rows of a table that are of a customer with these ids, and gives their number';

CREATE OR REPLACE FUNCTION @extschema@.stripe_forget(
    customer text, account text DEFAULT '', livemode boolean DEFAULT NULL,
    OUT place text, OUT rows bigint)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mode CONSTANT boolean := coalesce(stripe_forget.livemode, stripe_portal.key_livemode());
    ids text[];
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_forget()');
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'stripe_forget() works in READ COMMITTED transactions only'
            USING ERRCODE = 'invalid_transaction_state',
                  DETAIL = 'It has to see everything that is committed by the time it holds its locks.';
    ELSIF coalesce(customer, '') = '' THEN
        RAISE EXCEPTION 'customer must not be empty'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- What is being read from Stripe is written first; what follows waits, a
    -- page by leaving the slice alone, anything else for the lock.
    PERFORM FROM stripe_portal.sync_cursor AS c
    WHERE (c.livemode, c.account) = (mode, stripe_forget.account)
    ORDER BY c.object, c.slice FOR UPDATE;
    PERFORM stripe_portal.lock_forgotten(customer);
    PERFORM stripe_portal.lock_changes(customer);

    IF NOT EXISTS (SELECT FROM stripe_portal.owned_ids(customer, mode, stripe_forget.account))
       -- only events may tell, and of something else they can have the id
       AND NOT EXISTS (
           SELECT FROM stripe_portal.event AS e
           WHERE (e.livemode, e.account) = (mode, stripe_forget.account)
             AND stripe_portal.may_name(e.payload, e.type, stripe_forget.customer)
             AND jsonb_path_exists(stripe_portal.read_payload(e.payload),
                                   '$.data.object ? (@.customer == $id || @.customer.id == $id || @.object == "customer" && @.id == $id)',
                                   jsonb_build_object('id', stripe_forget.customer))) THEN
        RAISE EXCEPTION 'customer "%" is unknown', customer
            USING ERRCODE = 'no_data_found',
                  DETAIL = format('Nothing is known of this customer in %s mode%s.', CASE WHEN mode THEN 'live' ELSE 'test' END,
                                  CASE WHEN account = '' THEN '' ELSE format(' on account "%s"', account) END);
    END IF;
    ids := stripe_portal.note_forgotten(customer, mode, account);

    -- The payloads before what is made of them: whoever replays an event holds its row.
    place := 'event';
    rows := stripe_portal.forget_events(ids, customer, mode, account);
    IF rows > 0 THEN
        RETURN NEXT;
    END IF;
    FOR place IN SELECT DISTINCT p.table_name FROM stripe_portal.personal_column AS p ORDER BY 1 LOOP
        rows := stripe_portal.forget_rows(place, ids, mode, account);
        IF rows > 0 THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    place := 'customer_role';
    DELETE FROM stripe_portal.customer_role AS r
    WHERE (r.customer, r.livemode, r.account) = (stripe_forget.customer, mode, stripe_forget.account);
    GET DIAGNOSTICS rows = ROW_COUNT;
    IF rows > 0 THEN
        RETURN NEXT;
    END IF;

    -- What went wrong may quote what it went wrong with; the SQLSTATE stays.
    UPDATE stripe_portal.sync_cursor AS c
    SET failure = substring(c.failure FROM '^(.*?: [0-9A-Z]{5}): ')
    WHERE (c.livemode, c.account) = (mode, stripe_forget.account) AND c.failure ~ '^.*?: [0-9A-Z]{5}: ';
    UPDATE stripe_portal.tick_run AS r SET error = left(r.error, 5) WHERE r.error ~ '^[0-9A-Z]{5}: ';
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_forget(text, text, boolean) IS
'Removes what is personal of a customer, for good, and keeps what happened and what it cost: the columns in stripe_portal.personal_column; of the events in the ledger all that stripe_portal.impersonal does not keep; their row in stripe_portal.customer_role. Reports stay the same. What Stripe tells of the customer from then on, by an event, a read or a replay, is stored without what is personal too, and no win-back rule makes them an offer. One row for each table in which something was emptied; none if it had been before. Asks Stripe nothing and changes nothing there. account: a connected account. livemode: NULL is the mode of the configured key. Webhooks of this customer, and those that name none, wait until the transaction ends. Only in a READ COMMITTED transaction, else error 25000; a customer of whom nothing is known is error P0002';
