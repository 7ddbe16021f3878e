/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  Calling the functions that users registered for events.
 *
 * A handler runs with the rights of the function's owner: receiving is a
 * SECURITY DEFINER function of the extension's owner, and whoever owns a
 * handler must not become that owner by it.  Nor may it do so afterwards: what
 * it sets is undone when it returns, since the rest of the receiving relies on
 * the search path, and it cannot queue anything that runs as somebody else at
 * commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "query.h"
#include "webhook/webhook.h"

typedef struct Handler
{
	char	   *name;
	Oid			function;		/* InvalidOid: dropped since it was registered */
	Oid			owner;
} Handler;

/*
 * A function that two patterns bring in is called once.  Types hold no % and
 * the table takes no pattern with one, so only _ and * need care.
 */
static SpQuery find_handlers = {
	.sql = "SELECT DISTINCT h.function, p.oid, p.proowner"
	" FROM stripe_portal.event_handler AS h"
	" LEFT JOIN pg_catalog.pg_proc AS p"
	" ON p.oid = pg_catalog.to_regprocedure(h.function || '(stripe_portal.event)')"
	" WHERE $1 LIKE replace(replace(h.pattern, '_', '!_'), '*', '%') ESCAPE '!'"
	" ORDER BY h.function",
	.expected = SPI_OK_SELECT,
	.types = {TEXTOID}
};

static SpQuery read_event = {
	.sql = "SELECT e FROM stripe_portal.event AS e"
	" WHERE " SP_EVENT_KEY,
	.expected = SPI_OK_SELECT,
	.types = {SP_EVENT_KEY_TYPES}
};

static void handler_error_context(void *arg);

/*
 * The handlers for an event's type, by name.  SPI is connected; the list
 * lives in the current context.
 */
List *
sp_webhook_find_handlers(const SpEvent *event)
{
	Datum		type = CStringGetTextDatum(event->type ? event->type : "");
	List	   *handlers = NIL;
	uint64		rows = sp_query_run(&find_handlers, &type, NULL, InvalidSnapshot);
	SPITupleTable *table = SPI_tuptable;

	for (uint64 row = 0; row < rows; row++)
	{
		Handler    *handler = palloc(sizeof(Handler));
		bool		isnull;

		handler->name = SPI_getvalue(table->vals[row], table->tupdesc, 1);
		handler->function = DatumGetObjectId(SPI_getbinval(table->vals[row], table->tupdesc,
														   2, &isnull));
		if (isnull)
			handler->function = InvalidOid;
		handler->owner = DatumGetObjectId(SPI_getbinval(table->vals[row], table->tupdesc,
														3, &isnull));
		handlers = lappend(handlers, handler);
	}
	return handlers;
}

/*
 * Call handlers, one after the other, with the event's row as it is stored.
 * Runs in the caller's subtransaction, which an error leaves.
 */
void
sp_webhook_call_handlers(List *handlers, const SpEvent *event)
{
	Datum		key[SP_EVENT_KEY_LEN];
	bool		key_isnull[SP_EVENT_KEY_LEN];
	Datum		row;
	bool		isnull;
	ListCell   *cell;

	if (handlers == NIL)
		return;

	sp_webhook_event_key(event, key, key_isnull);
	if (sp_query_run(&read_event, key, key_isnull, InvalidSnapshot) != 1)
		elog(ERROR, "event \"%s\" is not in the ledger", event->id);
	row = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

	foreach(cell, handlers)
	{
		Handler    *handler = lfirst(cell);
		LOCAL_FCINFO(fcinfo, 1);
		FmgrInfo	flinfo;
		ErrorContextCallback context;
		Oid			user;
		int			security;
		int			guc_level;

		context.callback = handler_error_context;
		context.arg = handler;
		context.previous = error_context_stack;
		error_context_stack = &context;

		if (!OidIsValid(handler->function))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("event handler %s(stripe_portal.event) does not exist", handler->name)));

		GetUserIdAndSecContext(&user, &security);
		SetUserIdAndSecContext(handler->owner,
							   security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
		guc_level = NewGUCNestLevel();
		PushActiveSnapshot(GetTransactionSnapshot());

		/* No FunctionCall1: a handler may well return NULL. */
		fmgr_info(handler->function, &flinfo);
		InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
		fcinfo->args[0].value = row;
		fcinfo->args[0].isnull = false;
		(void) FunctionCallInvoke(fcinfo);

		PopActiveSnapshot();
		AtEOXact_GUC(false, guc_level);
		SetUserIdAndSecContext(user, security);
		error_context_stack = context.previous;
		CommandCounterIncrement();
	}
}

static void
handler_error_context(void *arg)
{
	errcontext("event handler %s", ((Handler *) arg)->name);
}
