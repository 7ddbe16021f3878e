-- billing: in which country a customer was at a time.
--
-- Table customer shows the last country only.  Each event that makes or changes
-- a customer's address, and each read of a customer, leaves the country in
-- customer_country; an event that changes it also the one that was just before,
-- from previous_attributes, a microsecond earlier: Stripe's clock has seconds.
-- An address without a country says nothing of where somebody is.

CREATE OR REPLACE FUNCTION stripe_portal.record_country(object jsonb, origin jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at CONSTANT timestamptz := origin ->> 'event_created';
    previous CONSTANT jsonb := nullif(origin -> 'previous', 'null');
    now_in CONSTANT text := object #>> '{address,country}';
    -- a hash has only those of its keys that changed, but for one that was null before
    was_in CONSTANT text := CASE WHEN previous -> 'address' = 'null' OR previous -> 'address' ? 'country'
                                 THEN previous #>> '{address,country}' ELSE now_in END;
BEGIN
    IF previous IS NOT NULL AND was_in IS NOT DISTINCT FROM now_in THEN
        RETURN;
    END IF;
    INSERT INTO stripe_portal.customer_country
    SELECT object ->> 'id', (origin ->> 'livemode')::boolean, origin ->> 'account', told.at, told.country
    FROM (VALUES (at, now_in), (at - interval '1 microsecond', CASE WHEN previous IS NOT NULL THEN was_in END)) AS told (at, country)
    WHERE told.country IS NOT NULL
    ON CONFLICT DO NOTHING;
END
$$;

COMMENT ON FUNCTION stripe_portal.record_country(jsonb, jsonb) IS
'Takes what a customer object tells of the customer''s country into table customer_country; an event that changes something else tells nothing';

CREATE OR REPLACE VIEW stripe_portal.customer_moved AS
WITH told AS (
    SELECT c.* FROM stripe_portal.customer_country AS c
    UNION ALL
    -- all that is known of who was never told of in any other way
    SELECT c.id, c.livemode, c.account, '-infinity', c.address ->> 'country'
    FROM stripe_portal.customer AS c
    WHERE c.address ->> 'country' IS NOT NULL
      AND NOT EXISTS (SELECT FROM stripe_portal.customer_country AS t
                      WHERE (t.customer, t.livemode, t.account) = (c.id, c.livemode, c.account))
), second AS (
    -- Who moves more than once in a second was, after it, where no other move
    -- of that second began, and before it where none of them ended.
    SELECT DISTINCT ON (customer, livemode, account, at) customer, livemode, account, at, country
    FROM told AS t
    ORDER BY customer, livemode, account, at,
             EXISTS (SELECT FROM stripe_portal.customer_country AS o
                     WHERE (o.customer, o.livemode, o.account, o.country) = (t.customer, t.livemode, t.account, t.country)
                       AND o.at = t.at + CASE WHEN date_trunc('second', t.at) = t.at THEN -1 ELSE 1 END * interval '1 microsecond'),
             country
)
SELECT customer, livemode, account, at, country
FROM (SELECT s.*, lag(s.country) OVER (PARTITION BY customer, livemode, account ORDER BY at) AS before FROM second AS s) AS s
WHERE country IS DISTINCT FROM before AND (SELECT stripe_portal.all_customers());

COMMENT ON VIEW stripe_portal.customer_moved IS
'In which country each customer was first known to be, and when it turned out to be another one; at is -infinity for who has only ever been shown in one, by events that do not say since when';

CREATE OR REPLACE FUNCTION stripe_portal.country_at(customer text, livemode boolean, account text, at timestamptz)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT m.country FROM stripe_portal.customer_moved AS m
        WHERE (m.customer, m.livemode, m.account) = (country_at.customer, country_at.livemode, country_at.account)
        ORDER BY m.at > country_at.at, CASE WHEN m.at > country_at.at THEN m.at END, m.at DESC
        LIMIT 1);
END
$$;

COMMENT ON FUNCTION stripe_portal.country_at(text, boolean, text, timestamptz) IS
'The country of a customer''s address at that time: the last that was known by then, also if the address has gone since; before the first that is known, that one. NULL if none ever was. It follows from what was told, in whatever order that was';

COMMENT ON TABLE stripe_portal.customer_country IS 'What events and reads told of the country in a customer''s address, one row each: in which country the customer was at that time. See stripe_portal.country_at';
COMMENT ON COLUMN stripe_portal.customer_country.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.customer_country.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.customer_country.at IS 'On Stripe''s clock: when the event happened, or the customer was read. A microsecond before an event is what its previous_attributes tell of the time before it';
