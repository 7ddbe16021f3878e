-- sync: what there is to be read from Stripe, and what went wrong with it.

CREATE OR REPLACE VIEW stripe_portal.sync_kind AS
SELECT object, path, lists::jsonb[] AS lists, one::jsonb AS one, stripe_portal.state_table(object) AS state_table
FROM (VALUES
    ('product', '/v1/products', ARRAY['{}'], '{}'),
    -- Stripe lists the active prices, or those that are not
    ('price', '/v1/prices', ARRAY['{"active": true, "expand": ["data.tiers", "data.currency_options"]}',
                                  '{"active": false, "expand": ["data.tiers", "data.currency_options"]}'],
     '{"expand": ["tiers", "currency_options"]}'),
    ('coupon', '/v1/coupons', ARRAY['{"expand": ["data.applies_to"]}'], '{"expand": ["applies_to"]}'),
    ('promotion_code', '/v1/promotion_codes', ARRAY['{}'], '{}'),
    ('customer', '/v1/customers', ARRAY['{}'], '{}'),
    ('subscription', '/v1/subscriptions', ARRAY['{"status": "all", "expand": ["data.discounts"]}'], '{"expand": ["discounts"]}'),
    ('invoice', '/v1/invoices', ARRAY['{"expand": ["data.payments"]}'], '{"expand": ["payments"]}'),
    -- a charge has no table of its own, but tells of payments that failed
    ('charge', '/v1/charges', ARRAY['{}'], '{}'),
    ('payment_intent', '/v1/payment_intents', ARRAY['{}'], '{}'),
    ('dispute', '/v1/disputes', ARRAY['{}'], '{}')
) AS kind (object, path, lists, one);

COMMENT ON VIEW stripe_portal.sync_kind IS 'The kinds of objects that Stripe lists and the tables are made from';
COMMENT ON COLUMN stripe_portal.sync_kind.object IS 'Stripe''s name of the kind';
COMMENT ON COLUMN stripe_portal.sync_kind.path IS 'Where Stripe lists them, and with an id after it has one of them';
COMMENT ON COLUMN stripe_portal.sync_kind.lists IS 'Parameters of the lists that together have all of them';
COMMENT ON COLUMN stripe_portal.sync_kind.one IS 'Parameters with which one object is read';
COMMENT ON COLUMN stripe_portal.sync_kind.state_table IS 'The table that shows them; NULL if they only add to others';

CREATE OR REPLACE FUNCTION stripe_portal.sync_kinds(objects text[])
RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known CONSTANT text[] := ARRAY(SELECT k.object FROM stripe_portal.sync_kind AS k ORDER BY k.object);
    unknown text;
BEGIN
    SELECT asked INTO unknown FROM unnest(objects) AS asked WHERE asked IS NULL OR asked <> ALL (known) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'objects of kind "%" can not be read', unknown
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('The kinds are %s.', array_to_string(known, ', '));
    END IF;
    RETURN CASE WHEN objects IS NULL THEN known ELSE ARRAY(SELECT DISTINCT asked FROM unnest(objects) AS asked ORDER BY asked) END;
END
$$;

COMMENT ON FUNCTION stripe_portal.sync_kinds(text[]) IS
'These kinds of objects, or all that can be read for NULL; error 22023 for one that can not';

CREATE OR REPLACE FUNCTION stripe_portal.answer_error(status integer, body json)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN status >= 400 THEN format('SP%s: %s', status, coalesce(body #>> '{error,message}', 'no message')) END;

COMMENT ON FUNCTION stripe_portal.answer_error(integer, json) IS
'What a row of fetch says that went wrong, after its SQLSTATE; NULL if nothing did';

CREATE OR REPLACE FUNCTION stripe_portal.raise_answer(path text, status integer, body json)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF status >= 400 THEN
        RAISE EXCEPTION '%', coalesce(body #>> '{error,message}', 'Stripe answered with HTTP status ' || status)
            USING ERRCODE = CASE WHEN status IN (402, 403, 404, 409) THEN 'SP' || status ELSE 'SP400' END,
                  DETAIL = format('HTTP status %s for GET %s.', status, path);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.raise_answer(text, integer, json) IS
'Raises what a row of fetch says that went wrong, if anything did';

CREATE OR REPLACE FUNCTION stripe_portal.require_list(path text, status integer, body json)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM stripe_portal.raise_answer(path, status, body);
    -- to take it for an empty one would be to take all objects for deleted
    IF json_typeof(body -> 'data') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'Stripe''s answer is not a list'
            USING ERRCODE = 'SP502', DETAIL = format('HTTP status %s for GET %s.', status, path);
    ELSIF EXISTS (SELECT FROM json_array_elements(body -> 'data') AS item
                  WHERE (item ->> 'livemode')::boolean <> stripe_portal.key_livemode()) THEN
        RAISE EXCEPTION 'Stripe''s answer is not of % mode', CASE WHEN stripe_portal.key_livemode() THEN 'live' ELSE 'test' END
            USING ERRCODE = 'SP502', DETAIL = format('HTTP status %s for GET %s.', status, path);
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.require_list(text, integer, json) IS
'Raises what a row of fetch says that went wrong, and SP502 for an answer that is not a list, or one of the other mode''s objects';

CREATE OR REPLACE FUNCTION stripe_portal.encode_id(id text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substr(stripe_portal.form_encode(jsonb_build_object('i', id)), 3);

COMMENT ON FUNCTION stripe_portal.encode_id(text) IS
'An id as it stands in a path';

CREATE OR REPLACE FUNCTION stripe_portal.whole_subscription(object jsonb, account text, INOUT as_of timestamptz, OUT whole jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
    items jsonb := '[]';
    params jsonb := jsonb_build_object('subscription', object ->> 'id', 'limit', 100, 'expand', '["data.discounts"]'::jsonb);
BEGIN
    whole := object;
    IF object ->> 'object' IS DISTINCT FROM 'subscription' OR object #> '{items,has_more}' IS DISTINCT FROM 'true' THEN
        RETURN;
    END IF;
    LOOP
        SELECT * INTO answer FROM stripe_portal.fetch(ARRAY['/v1/subscription_items'], ARRAY[params], account);
        PERFORM stripe_portal.require_list('/v1/subscription_items', answer.status, answer.body);
        items := items || stripe_portal.read_payload(answer.body -> 'data');
        as_of := least(as_of, answer.as_of);
        EXIT WHEN (answer.body ->> 'has_more')::boolean IS NOT TRUE OR items = '[]';
        params := params || jsonb_build_object('starting_after', items #> '{-1,id}');
    END LOOP;
    whole := jsonb_set(object, '{items}', jsonb_build_object('data', items, 'has_more', false));
END
$$;

COMMENT ON FUNCTION stripe_portal.whole_subscription(jsonb, text, timestamptz) IS
'A subscription with all its items, of which its object has only the first; as_of becomes that of the oldest part. Anything else as it is';

COMMENT ON TABLE stripe_portal.sync_cursor IS 'How far each slice of a list has been read: the objects of one kind created from created_from on and before created_to, the newest first. Rows of the last run of each kind; see the view sync_progress';
COMMENT ON COLUMN stripe_portal.sync_cursor.slice IS 'Of which list of the kind, and where it was cut';
COMMENT ON COLUMN stripe_portal.sync_cursor.params IS 'Parameters of the list';
COMMENT ON COLUMN stripe_portal.sync_cursor.range_from IS 'What the run was asked for; NULL: no limit';
COMMENT ON COLUMN stripe_portal.sync_cursor.last_id IS 'The last object that was read; the next page begins after it';
COMMENT ON COLUMN stripe_portal.sync_cursor.failed IS 'Objects that could not be applied; failure is about the last of them';
COMMENT ON COLUMN stripe_portal.sync_cursor.error IS 'Why Stripe refused the list';
COMMENT ON COLUMN stripe_portal.sync_cursor.as_of IS 'When the first page was read, on Stripe''s clock';
COMMENT ON TABLE stripe_portal.event_cursor IS 'Up to which event the ledger is known to be complete, for each account and mode';
COMMENT ON COLUMN stripe_portal.event_cursor.created IS 'The second of that event, on Stripe''s clock: the next run begins a little before it';
COMMENT ON COLUMN stripe_portal.event_cursor.next_created IS 'Where that will be when the run under way is finished; NULL if there is none';
COMMENT ON COLUMN stripe_portal.event_cursor.relist IS 'The run under way also lists all objects, because Stripe has no events of so long ago any more';
COMMENT ON COLUMN stripe_portal.event_cursor.caught_up IS 'When a run was finished last, on the server''s clock';
COMMENT ON TABLE stripe_portal.tick_run IS 'The last run of each part of stripe_portal_tick; see the view tick_status';
