-- Everything that is in the extension's tables and sequences, which table by
-- which, whatever they are; but for unlogged ones, which are of one server only.
CREATE FUNCTION public.contents(OUT relation text, OUT content jsonb) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    name regclass;
BEGIN
    FOR name IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind IN ('r', 'S') AND relpersistence = 'p'
        ORDER BY relname COLLATE "C"
    LOOP
        -- log_cnt is a sequence's own affair
        RETURN QUERY EXECUTE format('SELECT %L, to_jsonb(t) - ''log_cnt'' FROM (SELECT * FROM %s) AS t ORDER BY 2', name, name);
    END LOOP;
END $$;
