-- Everything that is in the extension's tables and sequences, which table by
-- which, whatever they are; but for what is not meant to be dumped.
CREATE FUNCTION public.contents(OUT relation text, OUT content jsonb) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    name regclass;
    condition text;
BEGIN
    FOR name, condition IN
        SELECT c.oid, d.condition
        FROM pg_class AS c
        LEFT JOIN (SELECT unnest(extconfig), unnest(extcondition) FROM pg_extension WHERE extname = 'stripe_portal') AS d (oid, condition) USING (oid)
        WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind IN ('r', 'S')
        ORDER BY c.relname COLLATE "C"
    LOOP
        -- log_cnt is a sequence's own affair
        RETURN QUERY EXECUTE format('SELECT %L, to_jsonb(t) - ''log_cnt'' FROM (SELECT * FROM %s %s) AS t ORDER BY 2', name, name, condition);
    END LOOP;
END $$;
