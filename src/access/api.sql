-- access: the one rule, for the portal, for triggers, for queries and policies.

-- What everybody asks.  No function of ours is in it: who may read the tables
-- may read the view.  Its time is that of the statement, which is the same in
-- parallel workers; days and months of grace are counted in UTC, so that the
-- answer does not hang on TimeZone.
CREATE OR REPLACE VIEW stripe_portal.access WITH (security_invoker = true) AS
SELECT s.customer, s.livemode, s.account, r.flow, s.id AS subscription, s.status, r.product,
       CASE
           WHEN EXISTS (SELECT FROM stripe_portal.customer AS c
                        WHERE c.id = s.customer AND c.livemode = s.livemode AND c.account = s.account AND c.deleted)
               THEN 'customer_deleted'
           WHEN NOT r.allowed
               THEN 'allowed'
           WHEN r.grace IS NOT NULL AND coalesce(
                   (CASE WHEN s.status IN ('past_due', 'unpaid') THEN s.current_period_start
                         ELSE coalesce(s.ended_at, s.current_period_end) END AT TIME ZONE 'UTC') + r.grace
                   <= statement_timestamp() AT TIME ZONE 'UTC', true)
               THEN 'grace'
           -- flexible subscriptions set cancel_at only, so look at both
           WHEN r.cancel_scheduled <> (s.status NOT IN ('canceled', 'incomplete_expired')
                                       AND (s.cancel_at IS NOT NULL OR s.cancel_at_period_end))
               THEN 'cancel_scheduled'
           WHEN r.collection_paused <> (s.pause_collection IS NOT NULL)
               THEN 'collection_paused'
           WHEN r.trial <> (s.status = 'trialing'
                            OR (s.status NOT IN ('canceled', 'incomplete_expired')
                                AND coalesce(s.trial_end > statement_timestamp(), false)))
               THEN 'trial'
       END AS problem
FROM stripe_portal.subscription AS s
JOIN stripe_portal.access_rule AS r ON r.status = s.status
    AND (r.product = '' OR s.items @> jsonb_build_array(jsonb_build_object('product', r.product)));

COMMENT ON VIEW stripe_portal.access IS
'What the rule says of each subscription: one row for each row of access_rule that speaks of its status and of all products or one of its own. A customer is let through for a flow by one row without a problem';
COMMENT ON COLUMN stripe_portal.access.product IS 'Of the rule: empty is the general row';
COMMENT ON COLUMN stripe_portal.access.problem IS 'The first column of access_rule that is not met, or customer_deleted; NULL: this row lets the customer through';

CREATE OR REPLACE FUNCTION stripe_portal.rule_allows(customer text, livemode boolean, account text, flow text)
RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_rule_allows';

COMMENT ON FUNCTION stripe_portal.rule_allows(text, boolean, text, text) IS
'What stripe_is_active answers where more than a status decides: one query of stripe_portal.access';

CREATE OR REPLACE FUNCTION @extschema@.stripe_is_active(
    customer text, flow text DEFAULT 'access', account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE COST 50 SUPPORT stripe_portal.plan_support
AS 'MODULE_PATHNAME', 'stripe_is_active';

COMMENT ON FUNCTION @extschema@.stripe_is_active(text, text, text, boolean) IS
'Whether the rule in stripe_portal.access_rule lets the customer through: at least one subscription is what a row for the flow allows, and the customer is not deleted. Never NULL: an unknown or NULL customer is not active. flow: access for your own features, portal for the plain portal, one of Stripe''s flow types, or one of your own that has a row in the rule; an unknown one is error 22023. The time that grace and trials are compared with is that of the statement. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_require_active()
RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_require_active';

COMMENT ON FUNCTION @extschema@.stripe_require_active() IS
'Row trigger for your own tables: CREATE TRIGGER … BEFORE INSERT OR UPDATE ON … FOR EACH ROW EXECUTE FUNCTION stripe_require_active(''customer_column'' [, ''flow'']). Refuses with SPA01 a row whose customer the rule does not let through, by the state that is committed at that moment';

-- A seeded row that somebody deleted would be back after a restore, and let
-- people in again; so it is switched, not deleted, and inserting a row that
-- exists sets it, which is what a restore does.
CREATE OR REPLACE FUNCTION stripe_portal.access_rule_set()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.access_rule AS known
    SET allowed = NEW.allowed,
        grace = NEW.grace,
        cancel_scheduled = NEW.cancel_scheduled,
        collection_paused = NEW.collection_paused,
        trial = NEW.trial,
        seeded = known.seeded OR NEW.seeded
    WHERE known.flow = NEW.flow AND known.status = NEW.status AND known.product = NEW.product;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.access_rule_set() IS
'Makes an INSERT of a rule that exists set it';

CREATE OR REPLACE TRIGGER access_rule_set
    BEFORE INSERT ON stripe_portal.access_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.access_rule_set();
-- a logical subscriber has the seeded rows too
ALTER TABLE stripe_portal.access_rule ENABLE ALWAYS TRIGGER access_rule_set;

CREATE OR REPLACE FUNCTION stripe_portal.access_rule_keep()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'access rules that come with the extension cannot be deleted or renamed'
        USING ERRCODE = 'restrict_violation',
              HINT = 'Switch the rule off: UPDATE stripe_portal.access_rule SET allowed = false WHERE ….';
END
$$;

COMMENT ON FUNCTION stripe_portal.access_rule_keep() IS
'Keeps the rules complete: a missing one would come back with a restore';

CREATE OR REPLACE TRIGGER access_rule_keep_row
    BEFORE DELETE ON stripe_portal.access_rule
    FOR EACH ROW WHEN (OLD.seeded)
    EXECUTE FUNCTION stripe_portal.access_rule_keep();

CREATE OR REPLACE TRIGGER access_rule_keep_key
    BEFORE UPDATE ON stripe_portal.access_rule
    FOR EACH ROW WHEN (OLD.seeded AND (OLD.flow, OLD.status, OLD.product, true) <> (NEW.flow, NEW.status, NEW.product, NEW.seeded))
    EXECUTE FUNCTION stripe_portal.access_rule_keep();

CREATE OR REPLACE TRIGGER access_rule_keep_all
    BEFORE TRUNCATE ON stripe_portal.access_rule
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.access_rule_keep();

-- What backends keep of the rules is to be forgotten, whoever changes them: a
-- restore with triggers disabled and the apply worker of a subscription, too.
CREATE OR REPLACE FUNCTION stripe_portal.access_rule_changed()
RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'stripe_access_rule_changed';

COMMENT ON FUNCTION stripe_portal.access_rule_changed() IS
'Tells every backend of a change of the rules';

CREATE OR REPLACE TRIGGER access_rule_changed
    AFTER INSERT OR UPDATE OR DELETE ON stripe_portal.access_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.access_rule_changed();

CREATE OR REPLACE TRIGGER access_rule_changed_all
    AFTER TRUNCATE ON stripe_portal.access_rule
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.access_rule_changed();

ALTER TABLE stripe_portal.access_rule ENABLE ALWAYS TRIGGER access_rule_changed;
ALTER TABLE stripe_portal.access_rule ENABLE ALWAYS TRIGGER access_rule_changed_all;

COMMENT ON TABLE stripe_portal.access_rule IS 'What a subscription must be like to let its customer do what; change it with UPDATE';
COMMENT ON COLUMN stripe_portal.access_rule.flow IS 'access: your own features; portal: the plain portal; Stripe''s flow type; or a name of your own, for stripe_is_active and stripe_require_active';
COMMENT ON COLUMN stripe_portal.access_rule.status IS 'A subscription status of Stripe''s; one without a rule is refused';
COMMENT ON COLUMN stripe_portal.access_rule.allowed IS 'Whether one subscription of this status that meets the conditions is enough';
COMMENT ON COLUMN stripe_portal.access_rule.product IS 'Empty: the general row, for every subscription. Else only for those with an item of this product (prod_…, in either mode and on any account); it adds to the general row, so switch that off to let only some products through';
COMMENT ON COLUMN stripe_portal.access_rule.grace IS 'How long it still counts after the end of what was paid; NULL: without limit. The end is current_period_end, but current_period_start for past_due and unpaid, whose current period is the one that is not paid, and ended_at once there is one. A time that is unknown does not count';
COMMENT ON COLUMN stripe_portal.access_rule.cancel_scheduled IS 'false: only if no cancellation is scheduled (neither cancel_at nor cancel_at_period_end); true: only if one is; NULL: either way';
COMMENT ON COLUMN stripe_portal.access_rule.collection_paused IS 'false: only if payment collection is not paused (pause_collection); true: only if it is; NULL: either way';
COMMENT ON COLUMN stripe_portal.access_rule.trial IS 'false: only outside a trial; true: only in one (the status is trialing, or trial_end is to come); NULL: either way';
COMMENT ON COLUMN stripe_portal.access_rule.seeded IS 'Whether it came with the extension, and so can be switched off but not deleted';
