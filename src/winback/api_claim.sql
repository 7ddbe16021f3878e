-- winback: the outbox.  Workers claim what is due, send it, and say so.
--
-- What became of an offer is no business of theirs: one that was withdrawn or
-- has expired while it was being sent keeps its state, and that it was sent.

CREATE OR REPLACE FUNCTION stripe_portal.winback_waits_for(o stripe_portal.winback_offer)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN o.livemode <> stripe_portal.key_livemode() THEN 'the key of its mode'
        WHEN o.expires_at <= now() THEN 'nothing: it has expired'
        WHEN o.lease_until > now() THEN CASE o.state WHEN 'claimed' THEN 'a report' ELSE 'its next attempt' END
        WHEN o.attempts >= 6 THEN 'nothing: it was given up'
        WHEN o.kind = 'promotion_code' AND o.promotion_code IS NULL OR o.kind = 'coupon' AND o.coupon IS NULL THEN 'its discount'
        WHEN NOT EXISTS (
            SELECT FROM stripe_portal.customer AS k
            WHERE (k.id, k.livemode, k.account) = (o.customer, o.livemode, o.account)
              AND NOT k.deleted AND stripe_portal.winback_address(k.email) IS NOT NULL) THEN 'an e-mail address'
        WHEN coalesce(current_setting('stripe_portal.winback_url', true), '') = '' AND EXISTS (
            SELECT FROM stripe_portal.winback_rule AS r
            WHERE (r.name, r.livemode, r.account) = (o.rule, o.livemode, o.account)
              AND concat(r.subject, r.body, r.html) ~ '[{][{] *link') THEN 'stripe_portal.winback_url'
    END;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_waits_for(stripe_portal.winback_offer) IS
'What an offer that is due has to wait for before it can be claimed; NULL for nothing';

CREATE OR REPLACE VIEW stripe_portal.winback_outbox AS
SELECT o.id AS offer, o.rule, o.livemode, o.account, o.customer, o.state, o.due_at, o.expires_at, o.attempts,
       o.leased_by, o.lease_until, stripe_portal.winback_waits_for(o) AS waits_for, o.error
FROM stripe_portal.winback_offer AS o
WHERE o.state IN ('planned', 'claimed') AND o.due_at <= now();

COMMENT ON VIEW stripe_portal.winback_outbox IS 'The offers that are due and have not been sent';
COMMENT ON COLUMN stripe_portal.winback_outbox.waits_for IS 'NULL: the next worker; else its discount, an e-mail address, stripe_portal.winback_url, a report of the worker that has it, its next attempt, the key of its mode, or nothing: it has expired, or was given up';
COMMENT ON COLUMN stripe_portal.winback_outbox.error IS 'Why it could not be sent, or its discount not be made, the last time';

CREATE OR REPLACE FUNCTION stripe_portal.winback_wake()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_notify('stripe_winback', '')
    WHERE EXISTS (SELECT FROM stripe_portal.winback_outbox AS b WHERE b.waits_for IS NULL)
$$;

COMMENT ON FUNCTION stripe_portal.winback_wake() IS
'Notifies the channel stripe_winback if there is something to claim; the payload is empty';

CREATE OR REPLACE FUNCTION @extschema@.stripe_winback_claim(
    n integer DEFAULT 10, lease_for interval DEFAULT '5 minutes',
    OUT offer uuid, OUT lease uuid, OUT email text, OUT name text, OUT subject text, OUT body text, OUT html text,
    OUT link text, OUT code text, OUT rule text, OUT customer text, OUT livemode boolean, OUT account text,
    OUT expires_at timestamptz, OUT attempt integer)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_winback_claim()');
    IF (n >= 1 AND lease_for > '0' AND lease_for <= '1 day') IS NOT TRUE THEN
        RAISE EXCEPTION 'n must be at least 1, and a lease last up to a day'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- loads the library, so that its settings are what an administrator set
    PERFORM stripe_portal.key_livemode();

    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT o.id
        FROM stripe_portal.winback_offer AS o
        WHERE o.state IN ('planned', 'claimed') AND o.due_at <= now() AND stripe_portal.winback_waits_for(o) IS NULL
        ORDER BY o.due_at, o.id
        LIMIT n
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE stripe_portal.winback_offer AS o
        SET state = 'claimed', claimed_at = now(), attempts = o.attempts + 1,
            leased_by = format('%s, process %s', session_user, pg_backend_pid()),
            lease = gen_random_uuid(), lease_until = clock_timestamp() + lease_for
        FROM due
        WHERE o.id = due.id
        RETURNING o
    )
    SELECT (c.o).id, (c.o).lease, f.fields ->> 'email', f.fields ->> 'name',
           stripe_portal.winback_plain(stripe_portal.winback_render(r.subject, f.fields)),
           stripe_portal.winback_render(r.body, f.fields),
           stripe_portal.winback_render(r.html, f.fields, html => true),
           f.fields ->> 'link', (c.o).code, r.name, (c.o).customer, r.livemode, r.account, (c.o).expires_at, (c.o).attempts
    FROM claimed AS c
    JOIN stripe_portal.winback_rule AS r ON (r.name, r.livemode, r.account) = ((c.o).rule, (c.o).livemode, (c.o).account)
    -- OFFSET 0: worked out once, not once for each mention
    CROSS JOIN LATERAL (SELECT stripe_portal.winback_fields(c.o) OFFSET 0) AS f (fields)
    ORDER BY (c.o).due_at, (c.o).id;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_claim(integer, interval) IS
'Leases up to n offers that are due to the caller, the longest due first, and gives what is to be sent. No two workers get the same: not while a lease lasts, and not while another transaction is claiming. What is not reported by stripe_winback_sent or stripe_winback_failed within lease_for (up to a day) can be claimed again, six times altogether. email: the customer''s billing address, checked to be one address and nothing else; name: NULL if there is none to be used; subject: one line; body, html: the rule''s templates with the fields filled in, html escaped and NULL if the rule has none; link: NULL unless stripe_portal.winback_url is set; code: the promotion code. lease: what the reports take. Offers of the configured key''s mode, of all accounts. Commit before you send. Error 22023 for an n or a lease out of range';

CREATE OR REPLACE FUNCTION @extschema@.stripe_winback_sent(offer uuid, lease uuid)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_winback_sent()');
    UPDATE stripe_portal.winback_offer AS o
    SET state = CASE o.state WHEN 'claimed' THEN 'sent' ELSE o.state END,
        sent_at = coalesce(o.sent_at, now()), lease_until = NULL, error = NULL
    WHERE (o.id, o.lease) = (stripe_winback_sent.offer, stripe_winback_sent.lease);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_sent(uuid, uuid) IS
'Says that an offer was sent, by the lease that it was claimed with: also after the lease is over, as long as nobody else has claimed it. An offer that was withdrawn or has expired meanwhile stays so, and has its sent_at. True if it is recorded, now or before; false if the lease is not the offer''s any more: somebody else may have sent it too';

CREATE OR REPLACE FUNCTION @extschema@.stripe_winback_failed(offer uuid, lease uuid, error text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_winback_failed()');
    UPDATE stripe_portal.winback_offer AS o
    SET state = CASE o.state WHEN 'claimed' THEN 'planned' ELSE o.state END,
        lease = NULL, lease_until = clock_timestamp() + interval '1 minute' * 4 ^ (o.attempts - 1),
        -- analysts read it, and mail servers repeat the address
        error = CASE WHEN NOT EXISTS (SELECT FROM stripe_portal.forgotten AS f
                                      WHERE (f.id, f.livemode, f.account) = (o.customer, o.livemode, o.account))
                THEN left(regexp_replace(stripe_winback_failed.error, '[^[:space:]<>]+@[^[:space:]<>]+', '(address)', 'g'), 1000) END
    WHERE (o.id, o.lease) = (stripe_winback_failed.offer, stripe_winback_failed.lease) AND o.sent_at IS NULL;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_winback_failed(uuid, uuid, text) IS
'Says that an offer could not be sent, and why; e-mail addresses are left out of that. It can be claimed again after 1, 4, 16, 64 and 256 minutes, and is given up after the sixth attempt. False if the lease is not the offer''s any more, or it was reported as sent';
