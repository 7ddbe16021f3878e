-- billing: reading Stripe's values.  First of the files, because all others read them.

CREATE OR REPLACE FUNCTION stripe_portal.read_time(value jsonb)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp((value #>> '{}')::double precision);

COMMENT ON FUNCTION stripe_portal.read_time(jsonb) IS
'A unix time (seconds, as number or string) as timestamptz; NULL for null';

CREATE OR REPLACE FUNCTION stripe_portal.read_id(value jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'object' THEN value ->> 'id' ELSE value #>> '{}' END;

COMMENT ON FUNCTION stripe_portal.read_id(jsonb) IS
'The id in a reference, which Stripe gives as a string or, expanded, as the object';

CREATE OR REPLACE FUNCTION stripe_portal.read_list(value jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL OR value = 'null' THEN '[]' ELSE jsonb_build_array(value) END;

COMMENT ON FUNCTION stripe_portal.read_list(jsonb) IS
'A single value, from before Stripe made a list of it, as a list';

CREATE OR REPLACE FUNCTION stripe_portal.read_items(subscription jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    -- Until 2025-03-31.basil the subscription had the period, since then each
    -- item has its own; for a while both are sent, and the items are right.
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', item ->> 'id',
               'price', stripe_portal.read_id(coalesce(item -> 'price', item -> 'plan')),
               'product', stripe_portal.read_id(coalesce(item #> '{price,product}', item #> '{plan,product}')),
               'quantity', (item ->> 'quantity')::bigint,
               'current_period_start', coalesce(item ->> 'current_period_start', subscription ->> 'current_period_start')::bigint,
               'current_period_end', coalesce(item ->> 'current_period_end', subscription ->> 'current_period_end')::bigint)
               ORDER BY item ->> 'id'), '[]')
    FROM jsonb_array_elements(subscription #> '{items,data}') AS item
);

COMMENT ON FUNCTION stripe_portal.read_items(jsonb) IS
'The items of a subscription, reduced to what the view subscription_item shows; times in unix seconds, as Stripe gives them';
