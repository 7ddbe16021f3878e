-- winback: what a rule may say.

CREATE OR REPLACE FUNCTION stripe_portal.winback_discount_problem(discount jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN jsonb_typeof(discount) <> 'object' THEN 'It is not a JSON object.'
    WHEN discount - '{percent_off,amount_off,currency,duration,duration_in_months,applies_to,currency_options,name,metadata}'::text[] <> '{}'
        THEN format('A coupon of an offer has no "%s".', (
            SELECT min(key) FROM jsonb_object_keys(
                discount - '{percent_off,amount_off,currency,duration,duration_in_months,applies_to,currency_options,name,metadata}'::text[]) AS key))
    WHEN (discount ? 'percent_off') = (discount ? 'amount_off') THEN 'It takes one of percent_off and amount_off.'
    WHEN discount ? 'percent_off' AND NOT coalesce(discount ->> 'percent_off' ~ '^\d{1,3}(\.\d+)?$'
         AND (discount ->> 'percent_off')::numeric > 0 AND (discount ->> 'percent_off')::numeric <= 100, false)
        THEN 'percent_off is more than 0 and at most 100.'
    WHEN discount ? 'amount_off' AND NOT coalesce(discount ->> 'amount_off' ~ '^[1-9]\d*$', false)
        THEN 'amount_off is a positive integer, in minor units.'
    WHEN discount ? 'amount_off' AND NOT coalesce(discount ->> 'currency' ~ '^[a-z]{3}$', false) THEN 'amount_off needs a currency.'
    WHEN coalesce(discount ->> 'duration', '') NOT IN ('once', 'repeating', 'forever')
        THEN 'duration is once, repeating or forever.'
    WHEN (discount ->> 'duration' = 'repeating') <> coalesce(discount ->> 'duration_in_months' ~ '^[1-9]\d*$', false)
        THEN 'duration repeating, and only that, has duration_in_months.'
END;

COMMENT ON FUNCTION stripe_portal.winback_discount_problem(jsonb) IS
'Why Stripe would not make a coupon with these parameters, as a sentence; NULL if it would';

CREATE OR REPLACE FUNCTION stripe_portal.winback_rule_problem(r stripe_portal.winback_rule, OUT problem text, OUT detail text, OUT hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known stripe_portal.coupon;
    condition record;
    unknown text;
    takes_discount CONSTANT boolean := r.kind IN ('coupon', 'promotion_code');
BEGIN
    -- conditions that nobody could meet
    FOR condition IN
        SELECT * FROM (VALUES ('feedback', r.feedback), ('reason', r.reason), ('product', r.product),
                              ('price', r.price), ('country', r.country)) AS v (name, elements)
        WHERE elements IS NOT NULL
    LOOP
        IF cardinality(condition.elements) = 0 OR array_position(condition.elements, NULL) IS NOT NULL THEN
            problem := format('condition "%s" fits nobody', condition.name);
            hint := 'NULL takes everybody; give at least one element, and none that is NULL.';
            RETURN;
        END IF;
    END LOOP;
    -- an id of Stripe's has digits or capitals in it, a misspelt word has not
    SELECT f INTO unknown FROM unnest(r.feedback) AS f
    WHERE f NOT IN ('too_expensive', 'missing_features', 'switched_service', 'unused', 'customer_service',
                    'too_complex', 'low_quality', 'other')
      AND f !~ '_.*[A-Z0-9]';
    IF FOUND THEN
        problem := format('unknown feedback "%s"', unknown);
        hint := 'Stripe has too_expensive, missing_features, switched_service, unused, customer_service, too_complex, low_quality and other; or give the id of a feedback option of your own.';
        RETURN;
    END IF;
    SELECT f INTO unknown FROM unnest(r.reason) AS f
    WHERE f NOT IN ('cancellation_requested', 'payment_failed', 'payment_disputed', 'canceled_by_retention_policy');
    IF FOUND THEN
        problem := format('unknown reason "%s"', unknown);
        hint := 'Stripe has cancellation_requested, payment_failed, payment_disputed and canceled_by_retention_policy.';
        RETURN;
    END IF;
    SELECT f INTO unknown FROM unnest(r.country) AS f WHERE f !~ '^[A-Z]{2}$';
    IF FOUND THEN
        problem := format('"%s" is not a country', unknown);
        hint := 'Countries have two capital letters, such as DE.';
        RETURN;
    END IF;

    problem := CASE
        WHEN r.mrr_from > r.mrr_to THEN format('no MRR is from %s to %s', r.mrr_from, r.mrr_to)
        WHEN r.mrr_from < 0 OR r.mrr_to < 0 THEN 'an MRR is not negative'
        WHEN r.currency IS NULL AND coalesce(r.mrr_from, r.mrr_to) IS NOT NULL THEN 'a condition on the MRR needs a currency'
        WHEN r.age_from >= r.age_to THEN format('no age is from %s to before %s', r.age_from, r.age_to)
        WHEN r.age_from < '0' OR r.age_to < '0' THEN 'an age is not negative'
        -- so that no sum with a time is out of range
        WHEN greatest(r.age_from, r.age_to, r.wait, r.valid_for, r.cap_window) > '100 years' THEN 'a time of more than 100 years is no use'
        WHEN r.wait < '0' THEN 'wait must not be negative'
        WHEN r.valid_for <= '0' THEN 'valid_for must be more than nothing'
        WHEN r.cap_per_customer < 1 THEN 'cap_per_customer must be at least 1'
        WHEN r.cap_window <= '0' THEN 'cap_window must be more than nothing'
        WHEN r.holdout < 0 OR r.holdout > 1 OR r.holdout = 'NaN' THEN 'holdout must be from 0 to 1'
        WHEN r.trigger_on = 'payment_failed' AND (r.feedback IS NOT NULL OR r.reason IS NOT NULL)
            THEN 'a failed payment has no feedback and no reason'

        WHEN r.kind = 'cancel_flow_coupon' AND r.trigger_on <> 'cancel_asked'
            THEN 'a coupon in the cancel flow needs the trigger "cancel_asked"'
        WHEN r.kind = 'cancel_flow_coupon' AND (r.feedback IS NOT NULL OR r.reason IS NOT NULL)
            THEN 'a coupon in the cancel flow is offered before feedback and reason are known'
        WHEN r.kind = 'cancel_flow_coupon' AND (r.coupon IS NULL OR r.discount IS NOT NULL)
            THEN 'a coupon in the cancel flow must exist: give coupon, not discount'
        WHEN r.kind = 'cancel_flow_coupon' AND (r.wait <> '0' OR coalesce(r.subject, r.body, r.html) IS NOT NULL)
            THEN 'a coupon in the cancel flow has no wait and no message'
        WHEN r.kind <> 'cancel_flow_coupon' AND (coalesce(r.subject, '') = '' OR coalesce(r.body, '') = '')
            THEN format('kind "%s" needs subject and body', r.kind)
        WHEN takes_discount AND (r.coupon IS NULL) = (r.discount IS NULL)
            THEN format('kind "%s" needs one of coupon and discount', r.kind)
        WHEN NOT takes_discount AND r.kind <> 'cancel_flow_coupon' AND (r.coupon IS NOT NULL OR r.discount IS NOT NULL)
            THEN format('kind "%s" gives no discount', r.kind)
        WHEN r.kind IN ('pause_offer', 'trial_extension') AND r.trigger_on <> 'cancel_asked'
            THEN format('kind "%s" needs a subscription that has not ended: trigger "cancel_asked"', r.kind)
        WHEN (r.kind = 'trial_extension') <> coalesce(r.extend_by > '0', false)
            THEN 'kind "trial_extension", and only that, needs extend_by'
        WHEN r.kind = 'update_card' AND r.trigger_on <> 'payment_failed'
            THEN 'kind "update_card" needs the trigger "payment_failed"'
    END;
    IF problem IS NOT NULL THEN
        RETURN;
    END IF;

    detail := coalesce(stripe_portal.winback_template_problem(r.subject), stripe_portal.winback_template_problem(r.body),
                       stripe_portal.winback_template_problem(r.html));
    IF detail IS NOT NULL THEN
        problem := 'unknown field in the message';
        hint := 'There are {{name}}, {{email}}, {{product}}, {{link}}, {{code}}, {{expires}} and {{ends}}; {{name|there}} says what to write if there is none.';
        RETURN;
    END IF;

    IF r.discount IS NOT NULL THEN
        detail := stripe_portal.winback_discount_problem(r.discount);
        problem := CASE WHEN detail IS NOT NULL THEN 'Stripe makes no coupon of this discount' END;
    ELSIF r.coupon IS NOT NULL THEN
        SELECT * INTO known FROM stripe_portal.coupon AS k
        WHERE (k.id, k.livemode, k.account) = (r.coupon, r.livemode, r.account);
        IF NOT FOUND THEN
            problem := format('coupon "%s" is not known', r.coupon);
            hint := format('If it exists at Stripe, read it first: SELECT stripe_refresh_coupon(%L).', r.coupon);
        ELSIF NOT stripe_portal.winback_coupon_works(known) THEN
            problem := format('coupon "%s" cannot be redeemed any more', r.coupon);
            detail := CASE WHEN known.deleted THEN 'It has been deleted.' WHEN known.redeem_by <= now() THEN 'Its redeem_by has passed.'
                           ELSE 'Stripe says that it is not valid.' END;
        END IF;
    END IF;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_rule_problem(stripe_portal.winback_rule) IS
'What is wrong with a rule, with a detail and a hint where there is one; problem is NULL if nothing is';

CREATE OR REPLACE FUNCTION stripe_portal.winback_coupon_works(coupon stripe_portal.coupon)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NOT coupon.deleted AND coalesce(coupon.valid, true) AND coalesce(coupon.redeem_by > now(), true);

COMMENT ON FUNCTION stripe_portal.winback_coupon_works(stripe_portal.coupon) IS
'Whether a coupon can still be redeemed, as far as the table knows';

CREATE OR REPLACE FUNCTION stripe_portal.winback_rule_check()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong record;
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.name, OLD.livemode, OLD.account) IS DISTINCT FROM (NEW.name, NEW.livemode, NEW.account) THEN
        RAISE EXCEPTION 'win-back rule "%" cannot be renamed', OLD.name
            USING ERRCODE = 'restrict_violation',
                  DETAIL = 'Its name decides who is held out.',
                  HINT = 'Switch it off, and write another one: UPDATE stripe_portal.winback_rule SET active = false WHERE ….';
    END IF;
    IF TG_OP = 'INSERT' AND NEW.created < transaction_timestamp()
       AND (SELECT u.rolsuper FROM pg_roles AS u WHERE u.rolname = current_user) THEN
        -- a dump brings it back, in whatever order the tables come
        RETURN NEW;
    END IF;

    NEW.livemode := coalesce(NEW.livemode, stripe_portal.key_livemode());
    IF TG_OP = 'UPDATE' AND NEW.active AND NOT OLD.active AND NEW.since = OLD.since THEN
        NEW.since := now();
    END IF;
    IF TG_OP = 'INSERT' OR NEW.predicate IS DISTINCT FROM OLD.predicate OR NEW.owner <> OLD.owner THEN
        -- whoever writes it can not make it run as somebody else
        NEW.owner := current_user;
        PERFORM stripe_portal.winback_predicate(NEW.predicate, NEW.owner, NULL) WHERE NEW.predicate IS NOT NULL;
    END IF;
    -- a rule that is only switched off need not be right
    IF TG_OP = 'INSERT' OR NEW.active OR (to_jsonb(NEW) - 'active') <> (to_jsonb(OLD) - 'active') THEN
        wrong := stripe_portal.winback_rule_problem(NEW);
        IF wrong.problem IS NOT NULL THEN
            RAISE EXCEPTION '%', wrong.problem
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = coalesce(wrong.detail, format('It is in win-back rule "%s".', NEW.name)),
                      HINT = coalesce(wrong.hint, 'The comments on the columns of stripe_portal.winback_rule say what they take.');
        END IF;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_rule_check() IS
'Refuses with 22023 a rule that could not work, with 23001 a new name; fills in the mode, the owner, and since when it is switched on. No request leaves. Rows from before this transaction that a superuser inserts are being restored, and pass';

CREATE OR REPLACE TRIGGER winback_rule_check
    BEFORE INSERT OR UPDATE ON stripe_portal.winback_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.winback_rule_check();

-- In place of a foreign key, over which pg_restore's jobs fail: they copy offers
-- and rules at once.  Who makes an offer holds the rule FOR KEY SHARE.
CREATE OR REPLACE FUNCTION stripe_portal.winback_rule_keep()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM stripe_portal.winback_offer AS o
               WHERE TG_OP = 'TRUNCATE' OR (o.rule, o.livemode, o.account) = (OLD.name, OLD.livemode, OLD.account)) THEN
        RAISE EXCEPTION 'win-back rules that have made offers cannot be deleted'
            USING ERRCODE = 'restrict_violation',
                  HINT = 'Switch the rule off: UPDATE stripe_portal.winback_rule SET active = false WHERE ….';
    END IF;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION stripe_portal.winback_rule_keep() IS
'Keeps, with 23001, the rules that offers were made by';

CREATE OR REPLACE TRIGGER winback_rule_keep
    BEFORE DELETE ON stripe_portal.winback_rule
    FOR EACH ROW EXECUTE FUNCTION stripe_portal.winback_rule_keep();

-- after: the offers may be truncated with it
CREATE OR REPLACE TRIGGER winback_rule_keep_all
    AFTER TRUNCATE ON stripe_portal.winback_rule
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_portal.winback_rule_keep();

CREATE OR REPLACE FUNCTION @extschema@.stripe_refresh_coupon(coupon text, account text DEFAULT '', livemode boolean DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    PERFORM stripe_portal.check_can_write('stripe_refresh_coupon()');
    account := coalesce(account, '');
    IF coalesce(livemode, stripe_portal.key_livemode()) <> stripe_portal.key_livemode() THEN
        RAISE EXCEPTION 'the configured key is not for % mode', CASE WHEN livemode THEN 'live' ELSE 'test' END
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT f.status, f.body::jsonb AS body, f.as_of INTO answer
    FROM stripe_portal.fetch(
        -- an id may be any text
        ARRAY['/v1/coupons/' || substr(stripe_portal.form_encode(jsonb_build_object('id', coupon)), 4)],
        ARRAY['{"expand": ["applies_to", "currency_options"]}'::jsonb], account) AS f;
    IF answer.status = 404 THEN
        RETURN false;
    ELSIF answer.status <> 200 THEN
        RAISE EXCEPTION 'coupon "%" could not be read', coupon
            USING ERRCODE = 'invalid_parameter_value', DETAIL = coalesce(answer.body #>> '{error,message}', '');
    END IF;
    PERFORM stripe_portal.apply_object(answer.body, stripe_portal.key_livemode(), account, answer.as_of);
    RETURN true;
END
$$;

COMMENT ON FUNCTION @extschema@.stripe_refresh_coupon(text, text, boolean) IS
'Reads one coupon from Stripe into stripe_portal.coupon, so that a win-back rule can name it; false if Stripe has none of this id. account: of a connected account (acct_…). livemode: NULL is the mode of the configured key, another one is error 22023; what Stripe answers, SP4xx and SP5xx';
