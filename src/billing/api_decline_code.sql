-- billing: the seeded decline codes, which may be changed and added to.

-- A seeded row that somebody deleted or renamed would be back after a restore;
-- so inserting one that exists sets it, which is what a restore does.
CREATE OR REPLACE FUNCTION stripe_portal.decline_code_set()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE stripe_portal.decline_code AS known
    SET (class, steps, tell_customer, description) = (NEW.class, NEW.steps, NEW.tell_customer, NEW.description)
    WHERE known.method = NEW.method AND known.code = NEW.code;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.decline_code_set() IS
'Makes an INSERT of a code that exists set it';

CREATE OR REPLACE TRIGGER decline_code_set
    BEFORE INSERT ON stripe_portal.decline_code
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.decline_code_set();
-- a logical subscriber has the seeded rows too
ALTER TABLE stripe_portal.decline_code ENABLE ALWAYS TRIGGER decline_code_set;

CREATE OR REPLACE FUNCTION stripe_portal.decline_code_keep()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'decline codes cannot be deleted or renamed'
        USING ERRCODE = 'restrict_violation',
              HINT = 'Change what is to be done: UPDATE stripe_portal.decline_code SET class = …, steps = … WHERE ….';
END
$$;

COMMENT ON FUNCTION stripe_portal.decline_code_keep() IS
'Keeps the codes complete: a missing one would come back with a restore';

CREATE OR REPLACE TRIGGER decline_code_keep_row
    BEFORE DELETE OR UPDATE OF method, code ON stripe_portal.decline_code
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.decline_code_keep();

CREATE OR REPLACE TRIGGER decline_code_keep_all
    BEFORE TRUNCATE ON stripe_portal.decline_code
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.decline_code_keep();

COMMENT ON TABLE stripe_portal.decline_code IS 'Why payments are declined, and what to do; change it with UPDATE, add to it with INSERT. The class is ours: Stripe publishes texts only. A code that is not here is to be treated as generic_decline';
COMMENT ON COLUMN stripe_portal.decline_code.method IS 'card, or other for all other payment methods, which use some of the same codes';
COMMENT ON COLUMN stripe_portal.decline_code.code IS 'Stripe''s decline code, as in outcome.reason of the charge or decline_code of the error; for other methods also under the name that outcome.reason uses';
COMMENT ON COLUMN stripe_portal.decline_code.class IS 'soft: the same payment method may work another time; hard: it will not without a change; fraud: do not try again';
COMMENT ON COLUMN stripe_portal.decline_code.steps IS 'What to do, in this order: retry_later, call_issuer (the customer asks their bank), new_method, authenticate (the customer is there and confirms), correct_data, do_not_retry (this method, ever), merchant_acts (you). advice_code, where Stripe gives one, overrides it';
COMMENT ON COLUMN stripe_portal.decline_code.tell_customer IS 'Whether the customer may be told the reason; if not, tell them no more than for generic_decline';
COMMENT ON COLUMN stripe_portal.decline_code.description IS 'What it means, in our words, for you; not for the customer';
