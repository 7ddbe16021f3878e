-- billing: who sees the rows of all customers.

CREATE OR REPLACE FUNCTION stripe_portal.plan_visible(internal)
RETURNS internal
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'stripe_plan_visible';

COMMENT ON FUNCTION stripe_portal.plan_visible(internal) IS
'Lets the planner know whether a query is of somebody who sees all customers';

CREATE OR REPLACE FUNCTION stripe_portal.all_customers()
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stripe_sees_all_customers';

COMMENT ON FUNCTION stripe_portal.all_customers() IS
'A right: whoever may execute this sees the rows of all customers in the tables that they may read; everybody else their own. It is true';

CREATE OR REPLACE FUNCTION stripe_portal.sees_all_customers()
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT stripe_portal.plan_visible
AS 'MODULE_PATHNAME', 'stripe_sees_all_customers';

COMMENT ON FUNCTION stripe_portal.sees_all_customers() IS
'Whether the current role has the right stripe_portal.all_customers; known when a query is planned';
