-- access: the one rule, for the portal, for triggers, for queries and policies.

CREATE OR REPLACE FUNCTION @extschema@.stripe_is_active(
    customer text, flow text DEFAULT 'access', account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER COST 50 SUPPORT stripe_portal.plan_support
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_is_active';

COMMENT ON FUNCTION @extschema@.stripe_is_active(text, text, text, boolean) IS
'Whether the rule in stripe_portal.access_rule lets the customer through: at least one subscription has a status that is allowed for the flow, and the customer is not deleted. Never NULL: an unknown or NULL customer is not active. flow: access for your own features, portal for the plain portal, or one of Stripe''s flow types; an unknown one is error 22023. livemode: NULL is the mode of the configured key, live without one';

CREATE OR REPLACE FUNCTION @extschema@.stripe_require_active()
RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stripe_require_active';

COMMENT ON FUNCTION @extschema@.stripe_require_active() IS
'Row trigger for your own tables: CREATE TRIGGER … BEFORE INSERT OR UPDATE ON … FOR EACH ROW EXECUTE FUNCTION stripe_require_active(''customer_column'' [, ''flow'']). Refuses with SPA01 a row whose customer the rule does not let through, by the state that is committed at that moment';

-- A seeded row that somebody deleted would be back after a restore, and let
-- people in again; so rules are switched, not deleted, and inserting one that
-- exists sets it, which is what a restore does.
CREATE OR REPLACE FUNCTION stripe_portal.access_rule_set()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.access_rule AS known
    SET allowed = NEW.allowed
    WHERE known.flow = NEW.flow AND known.status = NEW.status;
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

CREATE OR REPLACE FUNCTION stripe_portal.access_rule_keep()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'access rules cannot be deleted or renamed'
        USING ERRCODE = 'restrict_violation',
              HINT = 'Switch the rule off: UPDATE stripe_portal.access_rule SET allowed = false WHERE ….';
END
$$;

COMMENT ON FUNCTION stripe_portal.access_rule_keep() IS
'Keeps the rules complete: a missing one would come back with a restore';

CREATE OR REPLACE TRIGGER access_rule_keep_row
    BEFORE DELETE OR UPDATE OF flow, status ON stripe_portal.access_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.access_rule_keep();

CREATE OR REPLACE TRIGGER access_rule_keep_all
    BEFORE TRUNCATE ON stripe_portal.access_rule
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.access_rule_keep();

COMMENT ON TABLE stripe_portal.access_rule IS 'Which subscription statuses let a customer do what; change it with UPDATE';
COMMENT ON COLUMN stripe_portal.access_rule.flow IS 'access: your own features; portal: the plain portal; else Stripe''s flow type';
COMMENT ON COLUMN stripe_portal.access_rule.status IS 'A subscription status of Stripe''s; one without a rule is refused';
COMMENT ON COLUMN stripe_portal.access_rule.allowed IS 'Whether one subscription of this status is enough';

