-- billing: amounts in minor units, and in the currency's own.

CREATE OR REPLACE FUNCTION @extschema@.stripe_amount(amount numeric, currency text)
RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN lower(currency) = ANY ('{bif,clp,djf,gnf,jpy,kmf,krw,mga,pyg,rwf,vnd,vuv,xaf,xof,xpf}') THEN round(amount)
    WHEN lower(currency) = ANY ('{bhd,jod,kwd,omr,tnd}') THEN round(amount / 1000, 3)
    ELSE round(amount / 100, 2)
END;

COMMENT ON FUNCTION @extschema@.stripe_amount(numeric, text) IS
'An amount of minor units in the currency itself, with all its decimals: 123456 is 1234.56 in usd, 123456 in jpy, 123.456 in kwd, as Stripe counts them';
