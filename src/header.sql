-- First part of the install script.
\echo Use "CREATE EXTENSION stripe_portal" to load this file. \quit

-- Tables and internal functions live in a schema of their own, made here and
-- not named in the control file, so that it is a member of the extension and
-- goes away with it.
DO $$
BEGIN
    IF '@extschema@' = 'stripe_portal' THEN
        RAISE EXCEPTION 'the functions of extension "stripe_portal" cannot be installed in schema "stripe_portal"'
            USING ERRCODE = 'duplicate_schema',
                  DETAIL = 'The extension creates that schema itself, for its tables.',
                  HINT = 'Drop the schema and install the functions in another one, for example: CREATE EXTENSION stripe_portal SCHEMA public.';
    END IF;
END
$$;

CREATE SCHEMA stripe_portal;
COMMENT ON SCHEMA stripe_portal IS 'Tables, views and internal functions of the extension stripe_portal';

-- Whatever stands in the caller's search path gets no say in what follows.
SET LOCAL search_path = pg_catalog, pg_temp;

