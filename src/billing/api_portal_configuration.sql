-- billing: portal configurations, as Stripe has them.

CREATE OR REPLACE FUNCTION stripe_portal.billing_portal_configuration_row(object jsonb, origin jsonb)
RETURNS stripe_portal.billing_portal_configuration
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_populate_record(NULL::stripe_portal.billing_portal_configuration, object || jsonb_build_object(
    'features', (object -> 'features') #- '{subscription_update,products}',
    'products', object #> '{features,subscription_update,products}',
    'products_updated', CASE WHEN object #> '{features,subscription_update,products}' IS NOT NULL
                             THEN stripe_portal.read_time(object -> 'updated') END,
    'products_read', CASE WHEN object #> '{features,subscription_update,products}' IS NOT NULL THEN origin -> 'event_created' END,
    'unclear', origin -> 'refetch',
    'created', stripe_portal.read_time(object -> 'created'),
    'updated', stripe_portal.read_time(object -> 'updated')) || origin);

COMMENT ON FUNCTION stripe_portal.billing_portal_configuration_row(jsonb, jsonb) IS
'The row of a portal configuration object';

CREATE OR REPLACE FUNCTION stripe_portal.products_are_stale(c stripe_portal.billing_portal_configuration)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(c.features #> '{subscription_update,enabled}' = 'true', false)
   AND (c.products_updated IS DISTINCT FROM c.updated
        -- what an event tells of can be a later change of the second in which they were read
        OR c.event <> '' AND c.products_read <= c.updated);

COMMENT ON FUNCTION stripe_portal.products_are_stale(stripe_portal.billing_portal_configuration) IS
'Whether the products of plan changes matter, and may have changed since they were read';

-- The products have an age of their own, that of the object they were read
-- with: an event leaves them out, and may arrive before or after a read.  Both
-- the row and its products are the newest there are, in any order; if the
-- products may be older, and matter, the object is to be fetched.
--
-- Of two reads of one second the one with the later updated is newer; of two
-- that have the same, the greater is taken, and marked as unclear.
CREATE OR REPLACE FUNCTION stripe_portal.write_row(
    new_row stripe_portal.billing_portal_configuration, decided boolean)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown stripe_portal.billing_portal_configuration;
    result stripe_portal.billing_portal_configuration := new_row;
    new_self stripe_portal.billing_portal_configuration := new_row;
    shown_self stripe_portal.billing_portal_configuration;
    newer boolean := true;
    two_reads boolean := false;
    marked boolean := false;
BEGIN
    LOOP
        SELECT known.* INTO shown
        FROM stripe_portal.billing_portal_configuration AS known
        WHERE (known.id, known.livemode, known.account) = (new_row.id, new_row.livemode, new_row.account)
        FOR UPDATE;
        IF FOUND THEN
            two_reads := (new_row.event_created, new_row.event, shown.event) = (shown.event_created, '', '');
            shown_self := shown;
            -- only what was read of the object
            shown_self.deleted := new_row.deleted;
            shown_self.refetch := new_row.refetch;
            shown_self.unclear := new_row.unclear;
            newer := decided OR CASE
                WHEN two_reads AND new_row.updated IS NOT DISTINCT FROM shown.updated THEN new_self > shown_self
                WHEN two_reads THEN coalesce(new_row.updated > shown.updated, shown.updated IS NULL)
                ELSE (new_row.event_created, new_row.event <> '') > (shown.event_created, shown.event <> '') END;
            IF NOT newer THEN
                result := shown;
            END IF;
            IF two_reads AND new_row.updated IS NOT DISTINCT FROM shown.updated THEN
                result.unclear := shown.unclear OR new_self IS DISTINCT FROM shown_self;
            END IF;
            IF (new_row.products_updated, new_row.products_read, new_row.products)
                > (shown.products_updated, shown.products_read, shown.products) OR shown.products_updated IS NULL THEN
                result.products := new_row.products;
                result.products_updated := new_row.products_updated;
                result.products_read := new_row.products_read;
            ELSE
                result.products := shown.products;
                result.products_updated := shown.products_updated;
                result.products_read := shown.products_read;
            END IF;
            result.deleted := shown.deleted OR new_row.deleted;
            -- by something else than what is known of the object
            marked := NOT newer AND shown.refetch AND NOT (shown.unclear OR stripe_portal.products_are_stale(shown));
        END IF;

        result.refetch := NOT result.deleted AND (marked OR result.unclear OR stripe_portal.products_are_stale(result));

        IF shown.id IS NULL THEN
            INSERT INTO stripe_portal.billing_portal_configuration VALUES (result.*) ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN true;
            END IF;
        ELSE
            IF result IS DISTINCT FROM shown THEN
                UPDATE stripe_portal.billing_portal_configuration AS known
                SET (active, is_default, name, business_profile, default_return_url, features, products,
                     products_updated, products_read, login_page, metadata, created, updated, deleted, event, event_created,
                     refetch, unclear)
                    = (result.active, result.is_default, result.name, result.business_profile,
                       result.default_return_url, result.features, result.products, result.products_updated,
                       result.products_read, result.login_page, result.metadata, result.created, result.updated,
                       result.deleted, result.event, result.event_created, result.refetch, result.unclear)
                WHERE (known.id, known.livemode, known.account) = (new_row.id, new_row.livemode, new_row.account);
            END IF;
            -- which of two events of one second is later is decided where they are known
            RETURN CASE WHEN newer OR new_row.event_created <> shown.event_created
                             OR new_row.event = '' OR shown.event IN ('', new_row.event) THEN newer END;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION stripe_portal.write_row(stripe_portal.billing_portal_configuration, boolean) IS
'Makes table billing_portal_configuration show this row, if it is newer than the one that is shown, or decided to be the later of one second; and its products, if those are. True if it does; false if the row was passed over, NULL if that was for another event of the same second. Then the row that is shown is locked';

COMMENT ON TABLE stripe_portal.billing_portal_configuration IS 'Portal configurations as Stripe has them, by their latest event or read; what the team declares is in stripe_portal.configuration';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.livemode IS 'Live or test mode; part of the key, because ids do not tell';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.account IS 'The connected account (acct_…); empty for the key''s own account';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.is_default IS 'Whether Stripe uses it for sessions that name none: the one saved in the Dashboard';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.features IS 'Stripe''s features, without subscription_update.products';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.products IS 'Stripe''s features.subscription_update.products, which only reads from the API have; NULL if it was never read';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.products_updated IS 'What updated was when the products were read; they are current if it is the same now';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.products_read IS 'When the products were read, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.deleted IS 'Stripe said that it is gone; a retired one is merely not active';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.updated IS 'When the object was last changed, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.event IS 'The event this row was read from; empty if it was read from the API';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.event_created IS 'That event''s or read''s time, on Stripe''s clock';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.refetch IS 'Unclear, or plan changes are on and the products may have changed: read the object from Stripe to be sure';
COMMENT ON COLUMN stripe_portal.billing_portal_configuration.unclear IS 'Two events, or two reads, of one second could not be put in order';
