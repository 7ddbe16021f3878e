-- portal: which customer is asking.
--
-- Anybody who can run SQL can set request.jwt.claims, so it is believed only of
-- the login role of a gateway, which lets nobody run SQL.  The login role is
-- session_user: neither SET ROLE nor a SECURITY DEFINER function changes it.

CREATE OR REPLACE FUNCTION stripe_portal.read_claim(claim text, is_user boolean)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claims CONSTANT jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    value CONSTANT jsonb := claims #> string_to_array(claim, '.');
BEGIN
    IF claims IS NULL THEN
        -- gateways used to set one setting for each claim
        RETURN nullif(current_setting('request.jwt.claim.' || claim, true), '');
    ELSIF jsonb_typeof(value) = 'string' OR is_user AND value::text ~ '^[0-9]+$' THEN
        RETURN nullif(value #>> '{}', '');
    END IF;
    -- a list or an object names nobody in particular
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION stripe_portal.read_claim(text, boolean) IS
'A claim of the request''s token; dots lead into nested claims. NULL if it is not there, empty, or anything but a string or, for a user''s id, a whole number';

CREATE OR REPLACE FUNCTION stripe_portal.mapped_customers(users regclass, user_column text, customer_column text, user_id text)
RETURNS text[]
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stripe_mapped_customers';

COMMENT ON FUNCTION stripe_portal.mapped_customers(regclass, text, text, text) IS
'Which customers a user is by a table of the application, two at most. Reads with the rights of the table''s owner';

CREATE OR REPLACE FUNCTION stripe_portal.asking_customer(
    required boolean DEFAULT true, OUT customer text, OUT livemode boolean, OUT account text)
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- asked first, because it loads the library: before, anybody could set its settings
    key_livemode CONSTANT boolean := stripe_portal.key_livemode();
    claim CONSTANT text := current_setting('stripe_portal.customer_claim');
    mapping stripe_portal.user_mapping;
    user_id text;
    customers bigint;
    problem text;
BEGIN
    livemode := key_livemode;
    account := '';
    IF session_user <> current_setting('stripe_portal.gateway_role') THEN
        SELECT r.customer, r.account INTO customer, account
        FROM stripe_portal.customer_role AS r
        WHERE r.role = session_user AND r.livemode = key_livemode;
        problem := format('Role "%s" has no row in stripe_portal.customer_role in %s mode.', session_user,
                          CASE WHEN key_livemode THEN 'live' ELSE 'test' END);
    ELSE
        SELECT m.* INTO mapping FROM stripe_portal.user_mapping AS m;
        IF NOT FOUND THEN
            customer := stripe_portal.read_claim(claim, false);
            problem := format('The token of the request has no claim "%s".', claim);
        ELSE
            IF mapping.setting IS NULL THEN
                user_id := stripe_portal.read_claim(mapping.claim, true);
                problem := format('The token of the request has no claim "%s".', mapping.claim);
            ELSE
                user_id := nullif(current_setting(mapping.setting, true), '');
                problem := format('The setting "%s" is empty.', mapping.setting);
            END IF;
            IF user_id IS NOT NULL THEN
                problem := 'There is no customer for this user.';
                IF mapping.metadata_key IS NOT NULL THEN
                    SELECT count(*), min(k.id) INTO customers, customer
                    FROM stripe_portal.customer AS k
                    WHERE k.metadata @> jsonb_build_object(mapping.metadata_key, user_id)
                      AND k.livemode = key_livemode AND k.account = '' AND NOT k.deleted;
                ELSE
                    SELECT count(*), min(c) INTO customers, customer
                    FROM unnest(stripe_portal.mapped_customers(
                        mapping.users, mapping.user_column, mapping.customer_column, user_id)) AS c;
                END IF;
            END IF;
            IF customers > 1 THEN
                RAISE EXCEPTION 'it is not known which customer is asking'
                    USING ERRCODE = 'insufficient_privilege',
                          DETAIL = 'There is more than one customer for this user.';
            END IF;
        END IF;
    END IF;

    -- whatever still names them
    IF EXISTS (SELECT FROM stripe_portal.customer AS k
               WHERE (k.id, k.livemode, k.account) = (asking_customer.customer, asking_customer.livemode, asking_customer.account)
                 AND k.deleted) THEN
        customer := NULL;
        problem := 'The customer is deleted.';
    END IF;

    IF customer IS NULL AND required THEN
        RAISE EXCEPTION 'it is not known which customer is asking'
            USING ERRCODE = 'insufficient_privilege', DETAIL = problem;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.asking_customer(boolean) IS
'The customer who is asking: of the login role stripe_portal.gateway_role, by the request''s token or what stripe_portal_map_users was told; of any other, by stripe_portal.customer_role. If neither tells, or the customer is deleted, error 42501, or NULL if that will do; for several customers always the error. Row-level security asks this once for each query';

CREATE OR REPLACE FUNCTION @extschema@.stripe_portal_map_users(
    metadata_key text DEFAULT NULL,
    users regclass DEFAULT NULL, user_column name DEFAULT NULL, customer_column name DEFAULT NULL,
    claim text DEFAULT 'sub', setting text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN metadata_key IS NOT NULL AND users IS NOT NULL THEN 'It is either a metadata_key or a table of users.'
        WHEN metadata_key = '' THEN 'The metadata_key is empty.'
        WHEN (users IS NULL) <> (user_column IS NULL) OR (users IS NULL) <> (customer_column IS NULL)
            THEN 'A table of users comes with its user_column and its customer_column.'
        WHEN coalesce(claim, '') = '' AND setting IS NULL THEN 'Neither a claim nor a setting tells who the user is.'
        -- a setting of the server''s, or of this extension, tells something else
        WHEN setting !~ '^[A-Za-z_][A-Za-z0-9_$]*([.][A-Za-z_][A-Za-z0-9_$]*)+$' OR starts_with(lower(setting), 'stripe_portal.')
            THEN 'A setting of the application has a name with a dot in it.' END;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_portal_map_users()');
    IF problem IS NULL AND users IS NOT NULL THEN
        problem := CASE
            WHEN NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = users AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't')
                THEN format('%s is no table that lasts.', users)
            WHEN NOT EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = users AND a.attname = user_column AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype,
                                     'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype))
                THEN format('%s has no column "%s" of type text, varchar, uuid, smallint, integer or bigint.', users, user_column)
            WHEN NOT EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = users AND a.attname = customer_column AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.atttypid IN ('text'::regtype, 'varchar'::regtype))
                THEN format('%s has no column "%s" of type text or varchar.', users, customer_column)
            WHEN NOT EXISTS (
                SELECT FROM pg_index AS i
                JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = users AND a.attname = user_column
                  AND i.indnkeyatts = 1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL)
                THEN format('Column "%s" of %s has no unique index of its own, which makes each user one customer, and finding them fast.',
                            user_column, users) END;
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'users cannot be mapped to customers like this'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = problem;
    END IF;

    DELETE FROM stripe_portal.user_mapping;
    IF metadata_key IS NOT NULL OR users IS NOT NULL THEN
        INSERT INTO stripe_portal.user_mapping (metadata_key, users, user_column, customer_column, claim, setting)
        VALUES (metadata_key, users, user_column, customer_column, CASE WHEN setting IS NULL THEN claim END, setting);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_portal_map_users(text, regclass, name, name, text, text) IS
'Says, once, which customer a user of the application is, of whom the gateway''s token knows only the user''s id: the one whose metadata has that id under metadata_key; or the one in the customer_column of a table of users, in the row with that id in user_column. claim: where in the token the id is, dots lead into nested claims. setting: a setting, such as app.user_id, that the gateway sets to the id, instead of a token. Either is believed only of the login role stripe_portal.gateway_role. Only customers of the configured key''s mode and own account count; a deleted one does not. The table is read with its owner''s rights, and whoever may write it decides who is which customer. Without arguments the mapping is taken away, and the token has to name the customer. For superusers; error 22023 for what cannot work';

COMMENT ON TABLE stripe_portal.user_mapping IS 'Which customer a user of the application is; one row, written by stripe_portal_map_users, or none';
COMMENT ON COLUMN stripe_portal.user_mapping.metadata_key IS 'The key in the metadata of customers that has the user''s id';
COMMENT ON COLUMN stripe_portal.user_mapping.users IS 'Else the table that has users and their customers';
COMMENT ON COLUMN stripe_portal.user_mapping.claim IS 'The claim of the request''s token that has the user''s id';
COMMENT ON COLUMN stripe_portal.user_mapping.setting IS 'Else the setting that has it';

COMMENT ON TABLE stripe_portal.customer_role IS 'Which customer a login role is, for stripe_my_portal_session';
COMMENT ON COLUMN stripe_portal.customer_role.role IS 'The name of the login role, as session_user has it';
COMMENT ON COLUMN stripe_portal.customer_role.livemode IS 'Live or test mode';
COMMENT ON COLUMN stripe_portal.customer_role.account IS 'The connected account that the customer is of; empty for your own';
