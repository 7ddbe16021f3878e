-- winback: the discount of an offer, made at Stripe by the tick.
--
-- Each portion is a transaction: one that keeps the idempotency keys, then one
-- for each offer, which writes when the call is over.  So nothing is locked
-- during a call, and after a crash the same is asked for with the same key.
-- Stripe forgets a key after a day, but the coupon's id and the code's text
-- follow from the offer, and Stripe has each only once.

CREATE OR REPLACE FUNCTION stripe_portal.winback_lacks_discount(o stripe_portal.winback_offer)
RETURNS boolean
LANGUAGE sql STABLE
RETURN o.state = 'planned' AND o.due_at <= now() AND o.expires_at > now()
       AND (o.kind = 'promotion_code' AND o.promotion_code IS NULL OR o.kind = 'coupon' AND o.coupon IS NULL)
       AND NOT EXISTS (SELECT FROM stripe_portal.forgotten AS f
                       WHERE (f.id, f.livemode, f.account) = (o.customer, o.livemode, o.account));

COMMENT ON FUNCTION stripe_portal.winback_lacks_discount(stripe_portal.winback_offer) IS
'Whether an offer is due and waits for its discount';

CREATE OR REPLACE FUNCTION stripe_portal.winback_word(what text, length integer)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN upper(left(encode(sha256(convert_to(what, 'UTF8')), 'hex'), length));

COMMENT ON FUNCTION stripe_portal.winback_word(text, integer) IS
'A word of up to 64 letters A to F and digits that follows from what, and from which that does not follow';

CREATE OR REPLACE FUNCTION stripe_portal.winback_make_discount(
    o stripe_portal.winback_offer, OUT coupon text, OUT promotion_code text, OUT code text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r stripe_portal.winback_rule;
    connected CONSTANT text := nullif(o.account, '');
    expires CONSTANT bigint := floor(extract(epoch FROM o.expires_at));
    made jsonb;
BEGIN
    SELECT w.* INTO r FROM stripe_portal.winback_rule AS w WHERE (w.name, w.livemode, w.account) = (o.rule, o.livemode, o.account);

    coupon := r.coupon;
    IF coupon IS NULL THEN
        -- Codes share the coupon of their rule; a coupon that is given by
        -- itself is good for one customer.
        coupon := 'winback_' || CASE WHEN o.kind = 'coupon' THEN stripe_portal.winback_word('coupon ' || o.id, 20)
                                     ELSE stripe_portal.winback_word(concat_ws(E'\n', r.account, r.name, r.discount), 20) END;
        IF NOT EXISTS (SELECT FROM stripe_portal.coupon AS k
                       WHERE (k.id, k.livemode, k.account) = (winback_make_discount.coupon, o.livemode, o.account) AND NOT k.deleted)
           -- its event may be under way
           AND NOT EXISTS (SELECT FROM stripe_portal.winback_offer AS w
                           WHERE (w.rule, w.livemode, w.account, w.coupon) = (o.rule, o.livemode, o.account, winback_make_discount.coupon)) THEN
            BEGIN
                PERFORM stripe_portal.api('POST', '/v1/coupons',
                    r.discount || jsonb_build_object('id', coupon,
                        'metadata', coalesce(r.discount -> 'metadata', '{}') || jsonb_build_object('winback_rule', r.name))
                    || CASE WHEN o.kind = 'coupon' THEN jsonb_build_object('max_redemptions', 1, 'redeem_by', expires) ELSE '{}' END,
                    connected, o.idempotency_key || '-' || coupon);
            EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP409' THEN
                IF (SELECT f.status FROM stripe_portal.fetch(ARRAY['/v1/coupons/' || coupon], NULL, o.account) AS f) <> 200 THEN
                    RAISE;
                END IF;
            END;
        END IF;
    END IF;
    IF o.kind = 'coupon' THEN
        RETURN;
    END IF;

    code := stripe_portal.winback_word('code ' || o.id, 12);
    BEGIN
        made := stripe_portal.api('POST', '/v1/promotion_codes',
            jsonb_build_object('promotion', jsonb_build_object('type', 'coupon', 'coupon', coupon), 'code', code,
                'customer', o.customer, 'max_redemptions', 1, 'expires_at', expires,
                'metadata', jsonb_build_object('winback_rule', r.name, 'winback_offer', o.id)),
            connected, o.idempotency_key);
    EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP409' THEN
        -- it may be there: made before a crash, and the key forgotten since, or
        -- the rule edited
        SELECT p INTO made
        FROM stripe_portal.fetch(ARRAY['/v1/promotion_codes'],
                 ARRAY[jsonb_build_object('code', code, 'customer', o.customer)], o.account) AS f,
             jsonb_array_elements(f.body::jsonb -> 'data') AS p
        WHERE f.status = 200 AND p #>> '{metadata,winback_offer}' = o.id::text;
        IF NOT FOUND THEN
            RAISE;
        END IF;
        coupon := coalesce(made #>> '{promotion,coupon,id}', made #>> '{promotion,coupon}', made #>> '{coupon,id}', coupon);
    END;
    promotion_code := made ->> 'id';
    IF promotion_code IS NULL THEN
        RAISE EXCEPTION 'Stripe''s answer is not a promotion code' USING ERRCODE = 'SP502';
    END IF;
    code := coalesce(made ->> 'code', code);
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_make_discount(stripe_portal.winback_offer) IS
'Makes the discount of an offer at Stripe, or finds the one that was made: the rule''s coupon, or one of its discount, and for promotion_code a code for this customer, for one use, until the offer expires. Writes nothing here';

CREATE OR REPLACE FUNCTION stripe_portal.winback_discount_step(place text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o stripe_portal.winback_offer;
    made record;
    failure text;
BEGIN
    IF place IS NULL THEN
        UPDATE stripe_portal.winback_offer AS w
        SET idempotency_key = format('winback-%s-%s', w.id, stripe_portal.winback_word(gen_random_uuid()::text, 6))
        WHERE stripe_portal.winback_lacks_discount(w) AND w.state = 'planned' AND w.idempotency_key IS NULL
          AND w.livemode = stripe_portal.key_livemode();
        -- nobody is before this one
        RETURN '00000000-0000-0000-0000-000000000000';
    END IF;

    SELECT w.* INTO o
    FROM stripe_portal.winback_offer AS w
    WHERE stripe_portal.winback_lacks_discount(w) AND w.state = 'planned' AND w.idempotency_key IS NOT NULL
      AND w.livemode = stripe_portal.key_livemode() AND w.id > place::uuid
    ORDER BY w.id
    LIMIT 1;
    IF NOT FOUND THEN
        PERFORM stripe_portal.winback_wake();
        RETURN NULL;
    END IF;

    BEGIN
        made := stripe_portal.winback_make_discount(o);
    EXCEPTION WHEN SQLSTATE 'SP400' OR SQLSTATE 'SP402' OR SQLSTATE 'SP403' OR SQLSTATE 'SP404' OR SQLSTATE 'SP409' OR SQLSTATE 'SP500' THEN
        -- what is wrong with one, or with its account, must not keep the others
        -- waiting; anything else would befall them too, and ends the part
        IF SQLSTATE = 'SP403' AND o.account = '' THEN
            RAISE;
        END IF;
        failure := SQLERRM;
        RAISE WARNING 'the discount of win-back offer "%" could not be made: %', o.id, SQLERRM USING ERRCODE = SQLSTATE;
    END;
    IF failure IS NULL THEN
        UPDATE stripe_portal.winback_offer AS w
        SET coupon = made.coupon, promotion_code = made.promotion_code, code = made.code, error = NULL
        WHERE w.id = o.id;
    ELSE
        -- Stripe would answer the same to the same key for a day, also when
        -- what was wrong has been put right
        UPDATE stripe_portal.winback_offer AS w SET idempotency_key = NULL, error = failure WHERE w.id = o.id;
    END IF;
    RETURN o.id;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_discount_step(text) IS
'The discounts of the offers that are due, for the tick: a portion that keeps the idempotency keys, then one for each offer, and in the end, if there is something to claim, a notification of stripe_winback';
