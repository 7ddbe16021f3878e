/*-------------------------------------------------------------------------
 *
 * predicate.c
 *	  The conditions in SQL that rules may have.
 *
 * A predicate runs while an event is received, or a portal session opened, both
 * with the rights of the extension's owner.  It gets those of the role that
 * wrote it, in a security-restricted operation, and can write nothing: who is
 * asked whether a rule fits must not change what it is asked about.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(stripe_winback_predicate);

static void predicate_error_context(void *arg);

/*
 * winback_predicate(predicate text, owner text, candidate winback_case)
 * returns boolean
 *
 * NULL for the candidate only looks whether the predicate can be run.
 */
Datum
stripe_winback_predicate(PG_FUNCTION_ARGS)
{
	char	   *predicate = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			owner = get_role_oid(text_to_cstring(PG_GETARG_TEXT_PP(1)), false);
	bool		only_check = PG_ARGISNULL(2);
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 2);
	bool		was_read_only = XactReadOnly;
	ErrorContextCallback context;
	Oid			user;
	int			security;
	int			guc_level;
	char	   *sql;
	SPIPlanPtr	plan;
	bool		holds = false;

	if (owner != GetUserId() && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to run a predicate as another role")));

	context.callback = predicate_error_context;
	context.arg = predicate;
	context.previous = error_context_stack;
	error_context_stack = &context;

	/* The line break ends a comment that the predicate may end with. */
	sql = psprintf("SELECT FROM (SELECT ($1).*) AS candidate WHERE (%s\n)", predicate);

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();

	/* An error puts it back together with the (sub)transaction. */
	XactReadOnly = true;

	SPI_connect();
	plan = SPI_prepare(sql, 1, &type);
	/* more than one statement is no plan for a cursor */
	if (plan == NULL || !SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a predicate must be one condition")));
	if (!only_check)
	{
		Datum		candidate = PG_GETARG_DATUM(2);

		if (SPI_execute_plan(plan, &candidate, NULL, true, 1) != SPI_OK_SELECT)
			elog(ERROR, "unexpected result of a predicate");
		holds = SPI_processed > 0;
	}
	SPI_finish();

	XactReadOnly = was_read_only;
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(user, security);
	error_context_stack = context.previous;

	if (only_check)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(holds);
}

static void
predicate_error_context(void *arg)
{
	errcontext("predicate \"%s\"", (char *) arg);
}
