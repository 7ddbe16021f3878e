-- billing: what becomes known of a subscription, or comes to an end, without an
-- event of its own (see api_history.sql).

CREATE OR REPLACE FUNCTION stripe_portal.known_terms(named jsonb, livemode boolean, account text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF named = '[]' THEN
        RETURN '{}';
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(kind || ' ' || id, terms), '{}')
        FROM (SELECT DISTINCT n ->> 'object', n ->> 'id' FROM jsonb_array_elements(named) AS n) AS of (kind, id),
             LATERAL (
                SELECT stripe_portal.price_terms(p) FROM stripe_portal.price AS p
                WHERE kind = 'price' AND (p.id, p.livemode, p.account) = (of.id, known_terms.livemode, known_terms.account)
                UNION ALL
                SELECT stripe_portal.discount_terms(NULL, c) FROM stripe_portal.coupon AS c
                WHERE kind = 'coupon' AND (c.id, c.livemode, c.account) = (of.id, known_terms.livemode, known_terms.account)
                UNION ALL
                SELECT stripe_portal.discount_terms(d, NULL) FROM stripe_portal.discount AS d
                WHERE kind = 'discount' AND (d.id, d.livemode, d.account) = (of.id, known_terms.livemode, known_terms.account)
                UNION ALL
                SELECT jsonb_agg(jsonb_build_array(m.at, m.country) ORDER BY m.at) FROM stripe_portal.customer_moved AS m
                WHERE kind = 'customer' AND (m.customer, m.livemode, m.account) = (of.id, known_terms.livemode, known_terms.account)
                HAVING count(*) > 0
             ) AS known (terms));
END
$$;

COMMENT ON FUNCTION stripe_portal.known_terms(jsonb, boolean, text) IS
'What the tables know of the terms of prices, coupons and discounts, and of where customers were, by kind and id; named: the objects in question, as named_objects has them';

CREATE OR REPLACE FUNCTION stripe_portal.reprice_changes(before jsonb, named jsonb, livemode boolean, account text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    after CONSTANT jsonb := stripe_portal.known_terms(named, livemode, account);
    affected record;
BEGIN
    IF after = before THEN
        RETURN;
    END IF;
    FOR affected IN
        WITH news AS (
            SELECT split_part(key, ' ', 1) AS kind, split_part(key, ' ', 2) AS id
            FROM jsonb_each(after) WHERE value IS DISTINCT FROM before -> key
        ), discounts AS (
            SELECT id FROM news WHERE kind = 'discount'
            UNION
            SELECT d.id FROM news JOIN stripe_portal.discount AS d
                ON (d.coupon, d.livemode, d.account) = (news.id, reprice_changes.livemode, reprice_changes.account)
            WHERE kind = 'coupon'
        ), subscriptions AS (
            -- What a price asks for never changes, so only what was missing is news.
            SELECT c.customer, c.subscription
            FROM news JOIN stripe_portal.subscription_change AS c
                ON c.mrr IS NULL AND c.items @> jsonb_build_array(jsonb_build_object('price', news.id))
            WHERE news.kind = 'price' AND (c.livemode, c.account) = (reprice_changes.livemode, reprice_changes.account)
            UNION
            SELECT c.customer, c.subscription
            FROM discounts JOIN stripe_portal.subscription_change AS c
                ON c.discounts <> '[]' AND c.discounts @> jsonb_build_array(jsonb_build_object('id', discounts.id))
            WHERE (c.livemode, c.account) = (reprice_changes.livemode, reprice_changes.account)
        )
        SELECT * FROM subscriptions ORDER BY hashtext(customer) & 1023, customer, subscription
    LOOP
        PERFORM stripe_portal.lock_changes(affected.customer);
        PERFORM stripe_portal.derive_changes(affected.subscription, livemode, account, NULL, true);
    END LOOP;

    -- No column here shows the country, but what is derived from these rows may.
    UPDATE stripe_portal.subscription_change AS c SET customer = c.customer
    FROM jsonb_each(after) AS news
    WHERE news.value IS DISTINCT FROM before -> news.key
      AND split_part(news.key, ' ', 1) = 'customer' AND split_part(news.key, ' ', 2) = c.customer
      AND (c.livemode, c.account, c.until) = (reprice_changes.livemode, reprice_changes.account, 'infinity');
END
$$;

COMMENT ON FUNCTION stripe_portal.reprice_changes(jsonb, jsonb, boolean, text) IS
'Works out anew what subscriptions brought in, if more is known of the prices, coupons or discounts that were named than before, and updates those of a customer who was in another country than it had seemed; before: what known_terms had said of them then';

CREATE OR REPLACE FUNCTION stripe_portal.look_through(what text)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now_seen CONSTANT pg_snapshot := pg_current_snapshot();
    last_seen CONSTANT pg_snapshot := (SELECT l.seen FROM stripe_portal.looked_through AS l WHERE l.what = look_through.what);
BEGIN
    INSERT INTO stripe_portal.looked_through AS l (what, seen) VALUES (look_through.what, now_seen)
    ON CONFLICT ON CONSTRAINT looked_through_pkey DO UPDATE SET seen = excluded.seen;
    RETURN coalesce(age(pg_snapshot_xmin(last_seen)::xid), 2147483647);
END
$$;

COMMENT ON FUNCTION stripe_portal.look_through(text) IS
'Notes that something is looked through now, and gives the age of the oldest transaction whose rows may not have been there the last time: rows with age(xmin) up to that are news';

CREATE OR REPLACE FUNCTION stripe_portal.settle_changes()
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    news CONSTANT integer := stripe_portal.look_through('unknown MRR');
    due record;
    count integer := 0;
BEGIN
    FOR due IN
        -- What became known in one transaction while another wrote the row: one
        -- of the two is news.
        WITH unsure AS MATERIALIZED (
            SELECT c AS row FROM stripe_portal.subscription_change AS c
            WHERE c.mrr IS NULL AND age(c.xmin) <= news
            UNION ALL
            SELECT c
            FROM stripe_portal.subscription_change AS c, jsonb_array_elements(c.items) AS item, stripe_portal.price AS p
            WHERE c.mrr IS NULL AND (p.id, p.livemode, p.account) = (item ->> 'price', c.livemode, c.account)
              AND age(p.xmin) <= news
            UNION ALL
            SELECT c
            FROM stripe_portal.subscription_change AS c, jsonb_array_elements(c.discounts) AS named,
                 stripe_portal.discount AS d LEFT JOIN stripe_portal.coupon AS p
                     ON (p.id, p.livemode, p.account) = (d.coupon, d.livemode, d.account)
            WHERE c.mrr IS NULL AND (d.id, d.livemode, d.account) = (named ->> 'id', c.livemode, c.account)
              AND (age(d.xmin) <= news OR age(p.xmin) <= news))
        SELECT c.customer, c.subscription, c.livemode, c.account
        FROM stripe_portal.subscription_change AS c
        WHERE c.discount_ends <= now()
        UNION
        SELECT (u.row).customer, (u.row).subscription, (u.row).livemode, (u.row).account
        FROM unsure AS u WHERE stripe_portal.mrr(u.row) IS NOT NULL
    LOOP
        PERFORM stripe_portal.lock_changes(due.customer);
        PERFORM stripe_portal.derive_changes(due.subscription, due.livemode, due.account, NULL, false);
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;

COMMENT ON FUNCTION stripe_portal.settle_changes() IS
'Enters into the histories the discounts that have ended since, each at its own end: no event tells of it; and what became known of prices and discounts while the row was being written. Gives the number of subscriptions; to be called now and then';

COMMENT ON TABLE stripe_portal.looked_through IS 'What the tick looked through the last time, and which transactions it saw then';
