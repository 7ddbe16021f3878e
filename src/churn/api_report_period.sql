-- churn: the time a report is about.
--
-- The reports are SECURITY DEFINER: who may read a report need not be able to
-- read the tables.  Days and months are those of UTC, whatever the session's
-- time zone, because each report sets it.

CREATE OR REPLACE FUNCTION stripe_portal.report_period(period daterange)
RETURNS daterange
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    this_month CONSTANT date := date_trunc('month', now());
BEGIN
    IF period IS NULL THEN
        RETURN daterange((this_month - interval '12 months')::date, (this_month + interval '1 month')::date);
    END IF;
    -- the bounds of an empty range are NULL, as are those that are not given
    IF lower(period) IS NULL OR upper(period) IS NULL OR NOT isfinite(lower(period)) OR NOT isfinite(upper(period)) THEN
        RAISE EXCEPTION 'period of a report must have a first and a last day'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('The period is %s.', period),
                  HINT = 'Name a range of days such as ''[2026-01-01,2026-04-01)'', or NULL for the last twelve months and this one.';
    END IF;
    RETURN period;
END
$$;

COMMENT ON FUNCTION stripe_portal.report_period(daterange) IS
'The days that a report is about: those of period; for NULL the last twelve months and this one. Error 22023 if the range is empty or has no first or last day';

CREATE OR REPLACE FUNCTION stripe_portal.report_months(period daterange)
RETURNS daterange
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    days CONSTANT daterange := stripe_portal.report_period(period);
BEGIN
    RETURN daterange(date_trunc('month', lower(days))::date,
                     (date_trunc('month', upper(days) - 1) + interval '1 month')::date);
END
$$;

COMMENT ON FUNCTION stripe_portal.report_months(daterange) IS
'The days that a report by month is about: those of report_period, widened to whole months';
