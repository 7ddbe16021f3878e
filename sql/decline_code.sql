-- The decline codes that Stripe documents, each with what to do about it.
\set VERBOSITY terse
SELECT method, count(*) FROM stripe_portal.decline_code GROUP BY 1 ORDER BY 1;
SELECT method, class, steps, tell_customer AS tell, string_agg(code, ' ' ORDER BY code) AS codes
FROM stripe_portal.decline_code GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;

-- Who knows better changes it; an INSERT, such as a restore's, sets what exists.
BEGIN;
UPDATE stripe_portal.decline_code SET class = 'hard', steps = '{call_issuer,new_method}' WHERE code = 'do_not_honor';
INSERT INTO stripe_portal.decline_code VALUES
    ('card', 'expired_card', 'hard', '{new_method}', true, 'The card has expired'),
    ('card', 'of_our_own', 'soft', '{merchant_acts}', true, 'Something new');
SELECT method, code, class, steps FROM stripe_portal.decline_code WHERE code IN ('do_not_honor', 'expired_card', 'of_our_own') ORDER BY 1, 2;
ROLLBACK;

-- What is there stays there.
DELETE FROM stripe_portal.decline_code WHERE code = 'do_not_honor';
\echo :LAST_ERROR_SQLSTATE
UPDATE stripe_portal.decline_code SET code = 'honor' WHERE code = 'do_not_honor';
TRUNCATE stripe_portal.decline_code;
INSERT INTO stripe_portal.decline_code VALUES ('card', 'x', 'soft', '{pray}', true, 'No such step');
