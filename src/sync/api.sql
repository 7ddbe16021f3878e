-- sync: what there is to be read from Stripe, and what went wrong with it.

CREATE OR REPLACE VIEW stripe_portal.sync_kind AS
SELECT object, path, lists::jsonb[] AS lists, one::jsonb AS one, stripe_portal.state_table(object) AS state_table, cut_by
FROM (VALUES
    ('product', '/v1/products', ARRAY['{}'], '{}', 'created'),
    -- Stripe lists the active prices, or those that are not
    ('price', '/v1/prices', ARRAY['{"active": true, "expand": ["data.tiers", "data.currency_options"]}',
                                  '{"active": false, "expand": ["data.tiers", "data.currency_options"]}'],
     '{"expand": ["tiers", "currency_options"]}', 'created'),
    ('coupon', '/v1/coupons', ARRAY['{"expand": ["data.applies_to", "data.currency_options"]}'],
     '{"expand": ["applies_to", "currency_options"]}', 'created'),
    ('promotion_code', '/v1/promotion_codes', ARRAY['{}'], '{}', 'created'),
    ('customer', '/v1/customers', ARRAY['{}'], '{}', 'created'),
    ('subscription', '/v1/subscriptions', ARRAY['{"status": "all", "expand": ["data.discounts"]}'], '{"expand": ["discounts"]}', 'created'),
    ('invoice', '/v1/invoices', ARRAY['{"expand": ["data.payments"]}'], '{"expand": ["payments"]}', 'created'),
    -- a charge has no table of its own, but tells of payments that failed
    ('charge', '/v1/charges', ARRAY['{}'], '{}', 'created'),
    ('payment_intent', '/v1/payment_intents', ARRAY['{}'], '{}', 'created'),
    ('dispute', '/v1/disputes', ARRAY['{}'], '{}', 'created'),
    ('billing_portal.configuration', '/v1/billing_portal/configurations',
     ARRAY['{"expand": ["data.features.subscription_update.products"]}'], '{"expand": ["features.subscription_update.products"]}', 'nothing'),
    ('payment_method', '/v1/payment_methods', ARRAY['{}'], '{}', 'customer'),
    -- all of a customer are one object here, as in events
    ('entitlements.active_entitlement_summary', '/v1/entitlements/active_entitlements', ARRAY['{}'], NULL, 'customer')
) AS kind (object, path, lists, one, cut_by);

COMMENT ON VIEW stripe_portal.sync_kind IS 'The kinds of objects that Stripe lists and the tables are made from';
COMMENT ON COLUMN stripe_portal.sync_kind.object IS 'Stripe''s name of the kind';
COMMENT ON COLUMN stripe_portal.sync_kind.path IS 'Where Stripe lists them, and with an id after it has one of them';
COMMENT ON COLUMN stripe_portal.sync_kind.lists IS 'Parameters of the lists that together have all of them';
COMMENT ON COLUMN stripe_portal.sync_kind.one IS 'Parameters with which one object is read; NULL if there is no request for one';
COMMENT ON COLUMN stripe_portal.sync_kind.state_table IS 'The table that shows them; NULL if they only add to others';
COMMENT ON COLUMN stripe_portal.sync_kind.cut_by IS 'By what the lists can be cut: created, the time of creation; nothing; customer: there is no list of all, only one for each customer';

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

CREATE OR REPLACE FUNCTION stripe_portal.key_column(kind text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kind = 'entitlements.active_entitlement_summary' THEN 'customer' ELSE 'id' END;

COMMENT ON FUNCTION stripe_portal.key_column(text) IS
'The column in which the table of a kind has what object_id gives of an object';

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

CREATE OR REPLACE FUNCTION stripe_portal.list_request(
    kind text, list jsonb, created_from timestamptz, created_to timestamptz, customer text, starting_after text,
    OUT path text, OUT params jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE kind WHEN 'event' THEN '/v1/events'
                     -- the list of all kinds of payment methods, which the one at their path is not
                     WHEN 'payment_method' THEN format('/v1/customers/%s/payment_methods', stripe_portal.encode_id(customer))
                     ELSE k.path END,
           jsonb_strip_nulls(list || jsonb_build_object(
               'limit', 100,
               'starting_after', starting_after,
               'customer', CASE WHEN kind = 'entitlements.active_entitlement_summary' THEN customer END)
           || CASE WHEN kind = 'event' OR k.cut_by = 'created' THEN jsonb_build_object(
                  'created', jsonb_build_object('gte', ceil(extract(epoch FROM created_from))::bigint,
                                                'lt', ceil(extract(epoch FROM created_to))::bigint)) ELSE '{}' END)
    FROM (SELECT) AS one LEFT JOIN stripe_portal.sync_kind AS k ON k.object = kind
$$;

COMMENT ON FUNCTION stripe_portal.list_request(text, jsonb, timestamptz, timestamptz, text, text) IS
'The request for a page of a list of one kind, or of events: one of the lists of the kind, the times of creation if it can be cut by them, the customer if there is a list for each';

CREATE OR REPLACE FUNCTION stripe_portal.listed(kind text, customer text, body json)
RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kind = 'entitlements.active_entitlement_summary' THEN json_build_array(json_build_object(
                 'object', kind, 'customer', customer,
                 'entitlements', json_build_object('data', body -> 'data', 'has_more', body -> 'has_more')))
            ELSE body -> 'data' END;

COMMENT ON FUNCTION stripe_portal.listed(text, text, json) IS
'The objects on a page of a list, as an array: of a customer''s entitlements, a single one in the form in which events tell them';

CREATE OR REPLACE FUNCTION stripe_portal.lacks_customer(status integer, body json)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(status IN (400, 404) AND body #>> '{error,code}' = 'resource_missing'
                AND body #>> '{error,param}' IS DISTINCT FROM 'starting_after', false);

COMMENT ON FUNCTION stripe_portal.lacks_customer(integer, json) IS
'Whether the answer to the request for a list of one customer''s says that Stripe has no such customer';

CREATE OR REPLACE FUNCTION stripe_portal.has_features(account text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    SELECT * INTO answer FROM stripe_portal.fetch('{/v1/entitlements/features}', ARRAY['{"limit": 1}']::jsonb[], account);
    IF answer.status < 400 THEN
        PERFORM stripe_portal.require_list('/v1/entitlements/features', answer.status, answer.body);
    END IF;
    -- if they may not be read, nothing is known of them
    RETURN answer.status >= 400 OR answer.body #> '{data,0}' IS NOT NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.has_features(text) IS
'Whether the account has features that somebody could be entitled to: if not, no customer needs to be asked for';

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

-- To be called by the statement that reads the page, of which it becomes a part:
-- a set, and without a search_path of its own.  A statement that has the page as a
-- parameter may be logged with that, and so may the one in a function.
CREATE OR REPLACE FUNCTION stripe_portal.without_urls(page json)
RETURNS SETOF json
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN strpos(page::text, 'billing_portal.session') = 0 THEN page ELSE (
        SELECT json_build_object('has_more', page -> 'has_more', 'data', json_agg(
                   CASE WHEN value #>> '{data,object,object}' = 'billing_portal.session'
                        THEN (stripe_portal.read_payload(value) #- '{data,object,url}' #- '{data,object,return_url}'
                              #- '{data,object,flow,after_completion,redirect,return_url}')::text::json
                        ELSE value END ORDER BY n))
        FROM json_array_elements(page -> 'data') WITH ORDINALITY AS e (value, n)) END;
END;

COMMENT ON FUNCTION stripe_portal.without_urls(json) IS
'A page of events without the URLs of portal sessions, and where those lead back to';

COMMENT ON TABLE stripe_portal.sync_cursor IS 'How far each slice of a list has been read: the objects of one kind created from created_from on and before created_to, the newest first; of a kind that is listed per customer, those of the customers created then, by id. Rows of the last run of each kind; see the view sync_progress';
COMMENT ON COLUMN stripe_portal.sync_cursor.slice IS 'Of which list of the kind, and where it was cut';
COMMENT ON COLUMN stripe_portal.sync_cursor.params IS 'Parameters of the list';
COMMENT ON COLUMN stripe_portal.sync_cursor.range_from IS 'What the run was asked for; NULL: no limit';
COMMENT ON COLUMN stripe_portal.sync_cursor.last_id IS 'The last object that was read; the next page begins after it';
COMMENT ON COLUMN stripe_portal.sync_cursor.failed IS 'Objects that could not be applied; failure is about the last of them';
COMMENT ON COLUMN stripe_portal.sync_cursor.error IS 'Why Stripe refused the list';
COMMENT ON COLUMN stripe_portal.sync_cursor.as_of IS 'When the first page was read, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.sync_cursor.begun IS 'When reading it began, on the server''s clock';
COMMENT ON COLUMN stripe_portal.sync_cursor.customer IS 'The last customer all of whose objects were read; the slice goes on with the next';
COMMENT ON COLUMN stripe_portal.sync_cursor.customer_to IS 'The last customer of the slice; NULL: no limit';
COMMENT ON COLUMN stripe_portal.sync_cursor.customers_left IS 'About how many customers are left; NULL if it was not begun, or is not read per customer';
COMMENT ON TABLE stripe_portal.event_cursor IS 'Up to which event the ledger is known to be complete, for each account and mode';
COMMENT ON COLUMN stripe_portal.event_cursor.created IS 'The second of that event, on Stripe''s clock: the next run begins a little before it';
COMMENT ON COLUMN stripe_portal.event_cursor.next_created IS 'Where that will be when the run under way is finished; NULL if there is none';
COMMENT ON COLUMN stripe_portal.event_cursor.relist IS 'The run under way also lists all objects, because Stripe has no events of so long ago any more';
COMMENT ON COLUMN stripe_portal.event_cursor.caught_up IS 'When a run was finished last, on the server''s clock';
COMMENT ON TABLE stripe_portal.tick_run IS 'The last run of each part of stripe_portal_tick; see the view tick_status';
