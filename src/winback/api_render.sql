-- winback: from a template to a message.
--
-- What customers typed themselves goes into a mail that others may be sent in
-- their name: it never brings along a line, a tag, an address or a link.

CREATE OR REPLACE FUNCTION stripe_portal.winback_field_pattern()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\{\{ *(name|email|product|link|code|expires|ends) *(?:\|([^{}]*))?\}\}';

COMMENT ON FUNCTION stripe_portal.winback_field_pattern() IS
'What a field looks like in a template: {{name}}, or {{name|what to say if there is none}}';

CREATE OR REPLACE FUNCTION stripe_portal.winback_template_problem(template text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('The template has "%s".', substring(rest FROM '[{][{][^{}]{0,40}(?:[}][}])?'))
    FROM regexp_replace(template, stripe_portal.winback_field_pattern(), '', 'g') AS rest
    WHERE rest LIKE '%{{%'
$$;

COMMENT ON FUNCTION stripe_portal.winback_template_problem(text) IS
'What a template has that is no field, as a sentence; NULL if all is well';

CREATE OR REPLACE FUNCTION stripe_portal.winback_plain(value text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN btrim(regexp_replace(value, '[\s\u0001-\u001f\u007f-\u00a0\u00ad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]+', ' ', 'g'));

COMMENT ON FUNCTION stripe_portal.winback_plain(text) IS
'A value in one line: without line breaks, other control characters, and those that are not seen or turn the direction of the text';

CREATE OR REPLACE FUNCTION stripe_portal.winback_html(value text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');

COMMENT ON FUNCTION stripe_portal.winback_html(text) IS
'A value as it stands in HTML, between tags or as a quoted attribute';

CREATE OR REPLACE FUNCTION stripe_portal.winback_address(email text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN email ~ '^[^@]+@[^@]+$' AND email !~ '[\s\u0001-\u001f\u007f-\u00a0\u00ad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff<>()\[\]\\,;:"]'
                 AND length(email) <= 254 AND email !~ '^-' THEN email END;

COMMENT ON FUNCTION stripe_portal.winback_address(text) IS
'The e-mail address, if it is just one, and nothing else; NULL otherwise';

CREATE OR REPLACE FUNCTION stripe_portal.winback_name(name text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT CASE WHEN length(name) <= 100 AND plain !~ '://|@|[^ ][.\u3002\uff0e\uff61][^ .]{2,}' THEN nullif(plain, '') END
    FROM stripe_portal.winback_plain(name) AS plain);

COMMENT ON FUNCTION stripe_portal.winback_name(text) IS
'A customer''s name, to address them by; NULL for what is too long, or what a mail program would make a link of: such a name is an advertisement that somebody has us send';

-- Expressions alone: a statement may be logged with what is in it, and one of the
-- fields is a link with a token.
CREATE OR REPLACE FUNCTION stripe_portal.winback_render(template text, fields jsonb, html boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pattern CONSTANT text := stripe_portal.winback_field_pattern();
    rendered text := '';
    rest text := template;
    field text[];
    value text;
BEGIN
    -- Between two fields stands what the template says, so nothing that a
    -- field brings along is looked at again.
    LOOP
        field := regexp_match(rest, pattern);
        EXIT WHEN field IS NULL;
        value := nullif(stripe_portal.winback_plain(fields ->> field[1]), '');
        rendered := rendered || left(rest, regexp_instr(rest, pattern) - 1)
                    || coalesce(CASE WHEN html THEN stripe_portal.winback_html(value) ELSE value END, field[2], '');
        rest := substr(rest, regexp_instr(rest, pattern, 1, 1, 1));
    END LOOP;
    RETURN rendered || rest;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_render(text, jsonb, boolean) IS
'A template with its fields filled in, each in one line, and escaped if html; NULL for no template';

CREATE OR REPLACE FUNCTION stripe_portal.winback_fields(o stripe_portal.winback_offer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'email', stripe_portal.winback_address(k.email),
        'name', stripe_portal.winback_name(k.name),
        'product', (SELECT p.name FROM stripe_portal.product AS p WHERE (p.id, p.livemode, p.account) = (o.product, o.livemode, o.account)),
        'link', stripe_portal.winback_link(o.id, o.customer, o.livemode, o.account, o.expires_at),
        'code', o.code,
        'expires', to_char(o.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
        'ends', (SELECT to_char(coalesce(s.ended_at, s.cancel_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                 FROM stripe_portal.subscription AS s WHERE (s.id, s.livemode, s.account) = (o.subscription, o.livemode, o.account)))
    FROM (SELECT) AS one
    LEFT JOIN stripe_portal.customer AS k ON (k.id, k.livemode, k.account) = (o.customer, o.livemode, o.account) AND NOT k.deleted
$$;

COMMENT ON FUNCTION stripe_portal.winback_fields(stripe_portal.winback_offer) IS
'What can be said in the message of an offer: email, name, product, link, code, expires (the last day of the offer) and ends (the day the subscription ends, or ended); NULL where there is nothing to say. Days are YYYY-MM-DD, in UTC';

CREATE OR REPLACE FUNCTION stripe_portal.winback_link(offer uuid, customer text, livemode boolean, account text, expires timestamptz)
RETURNS text
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stripe_winback_link';

COMMENT ON FUNCTION stripe_portal.winback_link(uuid, text, boolean, text, timestamptz) IS
'stripe_portal.winback_url with a token for this offer that works until expires; NULL if it is not set. Error 22023 for one that a return URL could not be, SPC01 without an API key';
