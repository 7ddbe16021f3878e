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

CREATE OR REPLACE FUNCTION stripe_portal.list_ids(list jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_agg(stripe_portal.read_id(element) ORDER BY position)
        FROM jsonb_array_elements(list) WITH ORDINALITY AS e (element, position));

COMMENT ON FUNCTION stripe_portal.list_ids(jsonb) IS
'The ids in a list of references; NULL for an empty one';

CREATE OR REPLACE FUNCTION stripe_portal.read_discounts(object jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- With no query of its own, and nothing that is not immutable, it becomes a part
-- of the expression it is in; mostly there are none.
RETURN CASE WHEN object #> '{discounts,0}' IS NOT NULL THEN stripe_portal.list_ids(object -> 'discounts')
            -- until 2025-03-31.basil there was a single one, at times beside the list
            WHEN coalesce(object -> 'discount', 'null') <> 'null' THEN stripe_portal.list_ids('[]'::jsonb || (object -> 'discount'))
            ELSE '[]' END;

COMMENT ON FUNCTION stripe_portal.read_discounts(jsonb) IS
'The ids of the discounts of a subscription, an item or an invoice, in the order in which they come off, from a list or a single one';

CREATE OR REPLACE FUNCTION stripe_portal.read_coupon(discount jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(discount #> '{source,coupon}', discount #> '{promotion,coupon}', discount -> 'coupon');

COMMENT ON FUNCTION stripe_portal.read_coupon(jsonb) IS
'The coupon of a discount or a promotion code, an id or an object: named by its source or promotion since 2025-09-30.clover';

CREATE OR REPLACE FUNCTION stripe_portal.read_subscription(invoice jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- its parent's since 2025-03-31.basil
RETURN stripe_portal.read_id(coalesce(nullif(invoice #> '{parent,subscription_details,subscription}', 'null'),
                                      invoice -> 'subscription'));

COMMENT ON FUNCTION stripe_portal.read_subscription(jsonb) IS
'The id of the subscription that an invoice bills; NULL for none';

CREATE OR REPLACE FUNCTION stripe_portal.read_method(method jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT jsonb_build_object(
        'brand', coalesce(details ->> 'brand', details ->> 'bank_name'),
        'last4', details ->> 'last4',
        'exp_month', details ->> 'exp_month',
        'exp_year', details ->> 'exp_year',
        'country', details ->> 'country',
        'funding', details ->> 'funding',
        'fingerprint', details ->> 'fingerprint')
    FROM (SELECT method -> (method ->> 'type')) AS of_the_type (details)
);

COMMENT ON FUNCTION stripe_portal.read_method(jsonb) IS
'What a payment method, or the payment_method_details of a charge, tells of the card or the bank account';
