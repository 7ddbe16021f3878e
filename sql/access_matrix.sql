-- Every cell of the rule: flow × status × grace × cancellation scheduled ×
-- collection paused × trial × product.  Whoever asks gets the same answer.
\set VERBOSITY terse
SET client_min_messages = warning;

-- ---------------------------------------------------------------------------
-- One customer with one subscription for each state.  What was paid ended three
-- days ago ("inside" a grace of seven) or ten ("over"); where it ended is told
-- by another column for each kind of status.
CREATE TABLE state AS
SELECT 'cus_' || row_number() OVER () AS customer, *
FROM unnest(ARRAY['active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled', 'a_new_one']) AS status,
     unnest(ARRAY['inside', 'over']) AS period,
     unnest(ARRAY['none', 'flag', 'date']) AS cancel,
     unnest(ARRAY[false, true]) AS paused,
     unnest(ARRAY[false, true]) AS trial,
     unnest(ARRAY['prod_a', 'prod_b']) AS product
-- what is true of all products is walked with one of them
WHERE product = 'prod_b' OR (cancel = 'none' AND NOT paused AND NOT trial);

INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, current_period_start, current_period_end, ended_at,
    cancel_at, cancel_at_period_end, pause_collection, trial_end, event, event_created)
SELECT replace(customer, 'cus', 'sub'), false, customer, status,
       jsonb_build_array(jsonb_build_object('id', 'si_1', 'product', 'prod_other'), jsonb_build_object('id', 'si_2', 'product', product)),
       CASE WHEN status IN ('past_due', 'unpaid') THEN paid_until ELSE paid_until - interval '1 month' END,
       CASE WHEN status IN ('past_due', 'unpaid', 'canceled', 'incomplete_expired') THEN paid_until + interval '1 month' ELSE paid_until END,
       CASE WHEN status IN ('canceled', 'incomplete_expired') THEN paid_until END,
       CASE cancel WHEN 'date' THEN now() + interval '1 month' END, cancel = 'flag',
       CASE WHEN paused THEN jsonb '{"behavior": "void", "resumes_at": null}' END,
       now() + CASE WHEN trial THEN interval '1 day' ELSE interval '-1 day' END, 'evt_1', now()
FROM state, LATERAL (SELECT now() - CASE period WHEN 'inside' THEN interval '3 days' ELSE interval '10 days' END) AS paid (paid_until);

-- ---------------------------------------------------------------------------
-- The settings of the rule: of the general rows (allowed NULL: as seeded), and
-- of rows for prod_a (NULL: none).
CREATE TABLE setting (n serial, name text, allowed boolean, grace interval, cancel_scheduled boolean, collection_paused boolean,
                      trial boolean, product_allowed boolean, product_grace interval);
INSERT INTO setting (name, allowed, grace, cancel_scheduled, collection_paused, trial, product_allowed, product_grace) VALUES
    ('as seeded',              NULL,  NULL,     NULL,  NULL,  NULL,  NULL, NULL),
    ('every status',           true,  NULL,     NULL,  NULL,  NULL,  NULL, NULL),
    ('a grace',                true,  '7 days', NULL,  NULL,  NULL,  NULL, NULL),
    ('no cancellation',        true,  NULL,     false, NULL,  NULL,  NULL, NULL),
    ('only a cancellation',    true,  NULL,     true,  NULL,  NULL,  NULL, NULL),
    ('not paused',             true,  NULL,     NULL,  false, NULL,  NULL, NULL),
    ('only paused',            true,  NULL,     NULL,  true,  NULL,  NULL, NULL),
    ('no trial',               true,  NULL,     NULL,  NULL,  false, NULL, NULL),
    ('only a trial',           true,  NULL,     NULL,  NULL,  true,  NULL, NULL),
    ('all together',           true,  '7 days', false, false, false, NULL, NULL),
    ('one product',            false, NULL,     NULL,  NULL,  NULL,  true, NULL),
    ('one product more',       NULL,  NULL,     NULL,  NULL,  NULL,  true, '7 days'),
    ('a product switched off', NULL,  NULL,     NULL,  NULL,  NULL,  false, NULL);

CREATE TABLE seeded AS SELECT flow, status, allowed FROM stripe_portal.access_rule WHERE seeded;

CREATE PROCEDURE set_rule(s setting) LANGUAGE sql AS $$
    DELETE FROM stripe_portal.access_rule WHERE NOT seeded;
    UPDATE stripe_portal.access_rule AS r
    SET allowed = coalesce(s.allowed, d.allowed), grace = s.grace, cancel_scheduled = s.cancel_scheduled,
        collection_paused = s.collection_paused, trial = s.trial
    FROM seeded AS d WHERE d.flow = r.flow AND d.status = r.status;
    INSERT INTO stripe_portal.access_rule (flow, status, allowed, product, grace)
    SELECT flow, status, s.product_allowed, 'prod_a', s.product_grace FROM seeded WHERE s.product_allowed IS NOT NULL;
$$;

-- What has to come out, told by the names of the states and not by their times.
CREATE TABLE answer AS
SELECT g.name AS setting, f.flow, s.customer, 'expected' AS surface,
       (coalesce(g.allowed, d.allowed, false)
        AND (g.grace IS NULL OR s.period = 'inside')
        AND (g.cancel_scheduled IS NULL OR g.cancel_scheduled = (s.cancel <> 'none' AND NOT ended))
        AND (g.collection_paused IS NULL OR g.collection_paused = s.paused)
        AND (g.trial IS NULL OR g.trial = (s.status = 'trialing' OR s.trial AND NOT ended))
        OR coalesce(g.product_allowed, false) AND s.product = 'prod_a' AND (g.product_grace IS NULL OR s.period = 'inside'))
       AND s.status <> 'a_new_one' AS through
FROM setting AS g
CROSS JOIN (SELECT DISTINCT flow FROM seeded) AS f
CROSS JOIN state AS s
CROSS JOIN LATERAL (SELECT s.status IN ('canceled', 'incomplete_expired')) AS e (ended)
LEFT JOIN seeded AS d ON d.flow = f.flow AND d.status = s.status;

-- ---------------------------------------------------------------------------
-- Whoever asks.  A refusal by the trigger is an error; what it lets in is
-- not kept.
CREATE TABLE gate (flow text, customer text);
SELECT format('CREATE TRIGGER %1$I BEFORE INSERT ON gate FOR EACH ROW WHEN (NEW.flow = %1$L) EXECUTE FUNCTION stripe_require_active(''customer'', %1$L)', flow)
FROM (SELECT DISTINCT flow FROM seeded) AS f ORDER BY flow \gexec
CREATE FUNCTION trigger_lets_in(flow text, customer text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gate VALUES (flow, customer);
    RAISE SQLSTATE 'OK000';
EXCEPTION
    WHEN SQLSTATE 'OK000' THEN RETURN true;
    WHEN SQLSTATE 'SPA01' THEN RETURN false;
END
$$;
-- The rule comes first: whom it lets through is then told that a subscription
-- of that name is not theirs, so that no request leaves for each cell.
CREATE FUNCTION portal_opens(flow text, customer text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT o.refused IS NULL
            FROM stripe_portal_open(customer, flow => nullif(flow, 'portal'), subscription => 'sub_of_nobody') AS o);
EXCEPTION
    WHEN invalid_parameter_value THEN RETURN true;
END
$$;

CREATE TABLE guarded (flow text, customer text);
INSERT INTO guarded SELECT DISTINCT flow, customer FROM answer;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY subscribers ON guarded USING (stripe_is_active(customer, flow));
CREATE ROLE regress_reader;
GRANT SELECT ON guarded TO regress_reader;
GRANT EXECUTE ON FUNCTION stripe_is_active TO regress_reader;
CREATE PROCEDURE ask(setting text) LANGUAGE plpgsql AS $$
DECLARE
    visible guarded[];
BEGIN
    INSERT INTO answer SELECT setting, g.flow, g.customer, 'stripe_is_active', stripe_is_active(g.customer, g.flow) FROM guarded AS g;
    INSERT INTO answer
    SELECT setting, g.flow, g.customer, 'view',
           EXISTS (SELECT FROM stripe_portal.access AS a WHERE a.customer = g.customer AND a.flow = g.flow AND a.problem IS NULL)
    FROM guarded AS g;
    SET LOCAL ROLE regress_reader;
    visible := ARRAY(SELECT g FROM guarded AS g);
    RESET ROLE;
    INSERT INTO answer SELECT setting, g.flow, g.customer, 'policy', v.flow IS NOT NULL
    FROM guarded AS g LEFT JOIN unnest(visible) AS v USING (flow, customer);
    INSERT INTO answer SELECT setting, g.flow, g.customer, 'trigger', trigger_lets_in(g.flow, g.customer) FROM guarded AS g;
    -- access is not a flow of the portal
    INSERT INTO answer SELECT setting, g.flow, g.customer, 'portal', portal_opens(g.flow, g.customer) FROM guarded AS g WHERE g.flow <> 'access';
END
$$;

DO $$
DECLARE
    s setting;
BEGIN
    FOR s IN SELECT * FROM setting ORDER BY n LOOP
        CALL set_rule(s);
        CALL ask(s.name);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------
-- The same answer in the same cell
SELECT surface, count(*) AS cells, count(*) FILTER (WHERE through) AS through FROM answer GROUP BY 1 ORDER BY 1;
SELECT a.surface, a.setting, a.flow, s.*, a.through
FROM answer AS a JOIN answer AS e USING (setting, flow, customer) JOIN state AS s USING (customer)
WHERE e.surface = 'expected' AND a.through IS DISTINCT FROM e.through
ORDER BY a.setting, a.flow, s.status, a.surface LIMIT 20;

-- As seeded, the status alone decides.
SELECT flow, string_agg(DISTINCT s.status, ' ' ORDER BY s.status) FILTER (WHERE through) AS through,
       string_agg(DISTINCT s.status, ' ' ORDER BY s.status) FILTER (WHERE NOT through) AS refused
FROM answer AS a JOIN state AS s USING (customer)
WHERE a.surface = 'stripe_is_active' AND a.setting = 'as seeded'
GROUP BY 1 ORDER BY 1;

-- What each setting makes of a subscription of prod_b that differs from a plain one in one thing.
SELECT g.name AS setting, s.status,
       bool_or(through) FILTER (WHERE differs = '{}') AS plain,
       bool_or(through) FILTER (WHERE differs = '{over}') AS over,
       bool_or(through) FILTER (WHERE differs = '{cancel}') AS cancel,
       bool_or(through) FILTER (WHERE differs = '{paused}') AS paused,
       bool_or(through) FILTER (WHERE differs = '{trial}') AS trial,
       bool_or(through) FILTER (WHERE differs = '{prod_a}') AS prod_a,
       bool_or(through) FILTER (WHERE differs = '{over,prod_a}') AS "over, prod_a"
FROM answer AS a JOIN state AS s USING (customer) JOIN setting AS g ON g.name = a.setting,
     LATERAL (SELECT array_remove(ARRAY[CASE WHEN period = 'over' THEN 'over' END, CASE WHEN cancel <> 'none' THEN 'cancel' END,
                                        CASE WHEN paused THEN 'paused' END, CASE WHEN s.trial THEN 'trial' END,
                                        CASE WHEN product = 'prod_a' THEN 'prod_a' END], NULL)) AS d (differs)
WHERE a.surface = 'stripe_is_active' AND a.flow = 'access' AND s.status IN ('active', 'past_due', 'canceled')
GROUP BY g.n, g.name, s.status ORDER BY g.n, s.status;

-- ---------------------------------------------------------------------------
-- As it was
DELETE FROM stripe_portal.access_rule WHERE NOT seeded;
UPDATE stripe_portal.access_rule AS r
SET allowed = d.allowed, grace = NULL, cancel_scheduled = NULL, collection_paused = NULL, trial = NULL
FROM seeded AS d WHERE d.flow = r.flow AND d.status = r.status;
DROP FUNCTION trigger_lets_in, portal_opens;
DROP PROCEDURE ask, set_rule;
DROP TABLE answer, gate, guarded, setting, seeded, state;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader;
TRUNCATE stripe_portal.subscription, stripe_portal.session;
