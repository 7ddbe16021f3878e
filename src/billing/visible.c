/*-------------------------------------------------------------------------
 *
 * visible.c
 *	  Whether a role sees the rows of all customers, or only its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/supportnodes.h"
#include "parser/parse_func.h"
#include "utils/acl.h"

#include "compat.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_sees_all_customers);
PG_FUNCTION_INFO_V1(stripe_plan_visible);

static bool sees_all(void);

/*
 * sees_all_customers() returns boolean
 */
Datum
stripe_sees_all_customers(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sees_all());
}

/*
 * plan_visible(internal) returns internal
 *
 * Answers while the query is planned, so that what is left of a policy is
 * either nothing that a row is asked about, or a condition that an index has:
 * of an OR of both, no index could be used.  A plan with policies is made anew
 * when the role changes; the right itself is looked at whenever it is run.
 */
Datum
stripe_plan_visible(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (!IsA(request, SupportRequestSimplify))
		PG_RETURN_POINTER(NULL);
	PG_RETURN_POINTER(makeBoolConst(sees_all(), false));
}

static bool
sees_all(void)
{
	List	   *name = list_make2(makeString(SP_SCHEMA), makeString("all_customers"));
	Oid			right = LookupFuncName(name, 0, NULL, true);

	return OidIsValid(right) &&
		object_aclcheck(ProcedureRelationId, right, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
}
