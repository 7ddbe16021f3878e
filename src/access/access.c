/*-------------------------------------------------------------------------
 *
 * access.c
 *	  The active-subscriber rule: one query, for everybody who asks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "access/access.h"
#include "query.h"
#include "stripe/request.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_is_active);
PG_FUNCTION_INFO_V1(stripe_rule_allows);
PG_FUNCTION_INFO_V1(stripe_require_active);

/*
 * Why a customer is refused, or NULL.  Any one subscription without a problem
 * is enough: a customer may hold several, and the canceled ones stay.
 */
static SpQuery refusal = {
	.sql = "SELECT CASE"
	" WHEN EXISTS (SELECT FROM stripe_portal.access AS a"
	"  WHERE a.customer = $1 AND a.livemode = $2 AND a.account = $3 AND a.flow = $4"
	"  AND a.problem IS NULL)"
	"  THEN NULL"
	" WHEN c.deleted"
	"  THEN 'customer_deleted'"
	" WHEN NOT EXISTS (SELECT FROM stripe_portal.access_rule AS r WHERE r.flow = $4)"
	"  THEN 'flow_unknown'"
	" WHEN c.id IS NOT NULL"
	" OR EXISTS (SELECT FROM stripe_portal.subscription AS s"
	"  WHERE s.customer = $1 AND s.livemode = $2 AND s.account = $3)"
	"  THEN 'not_active'"
	" ELSE 'customer_unknown' END"
	" FROM (SELECT) AS asked"
	" LEFT JOIN stripe_portal.customer AS c ON c.id = $1 AND c.livemode = $2 AND c.account = $3",
	.expected = SPI_OK_SELECT,
	.read_only = true,
	.types = {TEXTOID, BOOLOID, TEXTOID, TEXTOID}
};

/* What an error tells of a refused customer's subscriptions. */
static SpQuery problems = {
	.sql = "SELECT string_agg(format('%s is %s', s.id, s.status)"
	" || coalesce(' (refused by ' || p.problems || ')', ''), ', ' ORDER BY s.created, s.id)"
	" FROM stripe_portal.subscription AS s,"
	" LATERAL (SELECT string_agg(DISTINCT a.problem, ' and ') FROM stripe_portal.access AS a"
	"  WHERE a.customer = $1 AND a.livemode = $2 AND a.account = $3 AND a.flow = $4"
	"  AND a.subscription = s.id AND a.problem <> 'allowed') AS p (problems)"
	" WHERE s.customer = $1 AND s.livemode = $2 AND s.account = $3",
	.expected = SPI_OK_SELECT,
	.read_only = true,
	.types = {TEXTOID, BOOLOID, TEXTOID, TEXTOID}
};

static bool ask_rule(const SpCustomer *customer, const char *flow);
static void customer_values(const SpCustomer *customer, Datum *values);

/*
 * Why the rule refuses this customer for a flow: customer_unknown,
 * customer_deleted or not_active, palloc'd in the caller's context; NULL if it
 * lets the customer through.
 *
 * SPI must be connected, by a caller whose search_path is pinned.  snapshot
 * decides the moment that is asked about: InvalidSnapshot for that of the
 * query, GetLatestSnapshot() for now.  A flow without any rule is error 22023:
 * a misspelt one would lock everybody out without a word.
 */
char *
sp_access_refusal(const SpCustomer *customer, const char *flow, Snapshot snapshot)
{
	Datum		values[4];
	char	   *reason;

	if (customer->id == NULL)
		return "customer_unknown";
	if (sp_access_probe(customer, flow, snapshot) == SP_ACCESS_YES)
		return NULL;

	customer_values(customer, values);
	values[3] = CStringGetTextDatum(flow);
	sp_query_run(&refusal, values, NULL, snapshot);
	reason = sp_query_text(1);
	if (reason != NULL && strcmp(reason, "flow_unknown") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown flow \"%s\"", flow),
				 errhint("The flows are those of stripe_portal.access_rule.")));
	return reason;
}

/*
 * Raise ERRCODE_SP_NOT_ACTIVE unless the rule lets the customer through now,
 * by what is committed, whatever the transaction's own snapshot shows.
 */
void
sp_access_require(const SpCustomer *customer, const char *flow)
{
	char	   *reason;

	SPI_connect();
	reason = sp_access_refusal(customer, flow, GetLatestSnapshot());
	if (reason != NULL)
		sp_access_raise(customer, flow, reason);
	SPI_finish();
}

/*
 * The error for a refusal; SPI is connected.
 */
void
sp_access_raise(const SpCustomer *customer, const char *flow, const char *reason)
{
	Datum		values[4];
	char	   *held;

	if (customer->id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_ACTIVE),
				 errmsg("no customer is given"),
				 errdetail("The rule for flow \"%s\" lets known customers through only.", flow)));
	if (strcmp(reason, "customer_unknown") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_ACTIVE),
				 errmsg("customer \"%s\" is unknown", customer->id),
				 errdetail("No webhook event in %s mode has mentioned this customer or a subscription of theirs.",
						   customer->livemode ? "live" : "test")));
	if (strcmp(reason, "customer_deleted") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_ACTIVE),
				 errmsg("customer \"%s\" has been deleted", customer->id)));

	customer_values(customer, values);
	values[3] = CStringGetTextDatum(flow);
	sp_query_run(&problems, values, NULL, GetLatestSnapshot());
	held = sp_query_text(1);
	ereport(ERROR,
			(errcode(ERRCODE_SP_NOT_ACTIVE),
			 errmsg("customer \"%s\" has no active subscription", customer->id),
			 held ? errdetail("Subscription %s; the rule for flow \"%s\" allows none of these.", held, flow)
			 : errdetail("The customer has no subscription at all."),
			 errhint("What counts as active is in stripe_portal.access_rule.")));
}

/*
 * stripe_is_active(customer text, flow text, account text, livemode boolean)
 * returns boolean
 *
 * Runs as its caller: the probe asks for no rights.  What it can not tell is
 * asked of rule_allows, which has them and is found without any.
 */
Datum
stripe_is_active(PG_FUNCTION_ARGS)
{
	SpCustomer	customer;
	char	   *flow;
	SpAccess	access;
	FmgrInfo   *rule_allows;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);

	customer.id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	customer.account = text_to_cstring(PG_GETARG_TEXT_PP(2));
	customer.livemode = PG_ARGISNULL(3) ? sp_stripe_livemode() : PG_GETARG_BOOL(3);
	flow = text_to_cstring(PG_GETARG_TEXT_PP(1));

	access = sp_access_probe(&customer, flow, InvalidSnapshot);
	if (access != SP_ACCESS_ASK)
		PG_RETURN_BOOL(access == SP_ACCESS_YES);

	rule_allows = fcinfo->flinfo->fn_extra;
	if (rule_allows == NULL)
	{
		Oid			types[] = {TEXTOID, BOOLOID, TEXTOID, TEXTOID};
		Oid			schema = get_namespace_oid(SP_SCHEMA, false);
		Oid			function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
											   CStringGetDatum("rule_allows"),
											   PointerGetDatum(buildoidvector(types, lengthof(types))),
											   ObjectIdGetDatum(schema));

		/* 1.0.0, which has no rule_allows, calls this one with its rights */
		if (!OidIsValid(function))
			PG_RETURN_BOOL(ask_rule(&customer, flow));
		rule_allows = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(function, rule_allows, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = rule_allows;
	}
	return FunctionCall4(rule_allows, PG_GETARG_DATUM(0), BoolGetDatum(customer.livemode),
						 PG_GETARG_DATUM(2), PG_GETARG_DATUM(1));
}

/*
 * stripe_portal.rule_allows(customer text, livemode boolean, account text,
 *		flow text) returns boolean
 */
Datum
stripe_rule_allows(PG_FUNCTION_ARGS)
{
	SpCustomer	customer;

	customer.id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	customer.livemode = PG_GETARG_BOOL(1);
	customer.account = text_to_cstring(PG_GETARG_TEXT_PP(2));
	PG_RETURN_BOOL(ask_rule(&customer, text_to_cstring(PG_GETARG_TEXT_PP(3))));
}

static bool
ask_rule(const SpCustomer *customer, const char *flow)
{
	bool		allowed;

	SPI_connect();
	allowed = sp_access_refusal(customer, flow, InvalidSnapshot) == NULL;
	SPI_finish();
	return allowed;
}

/*
 * stripe_require_active('column' [, 'flow']) returns trigger
 */
Datum
stripe_require_active(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Trigger    *trigger;
	TupleDesc	tupdesc;
	HeapTuple	row;
	SpCustomer	customer = {.account = ""};
	int			column;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("stripe_require_active() must be fired for each row by INSERT or UPDATE")));

	trigger = trigdata->tg_trigger;
	tupdesc = RelationGetDescr(trigdata->tg_relation);
	row = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;

	if (trigger->tgnargs < 1 || trigger->tgnargs > 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must name the column that holds the customer", trigger->tgname),
				 errhint("EXECUTE FUNCTION stripe_require_active('customer_column' [, 'flow']).")));
	column = SPI_fnumber(tupdesc, trigger->tgargs[0]);
	if (column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", trigger->tgargs[0],
						RelationGetRelationName(trigdata->tg_relation)),
				 errdetail("Trigger \"%s\" names it as the column that holds the customer.", trigger->tgname)));

	customer.id = SPI_getvalue(row, tupdesc, column);
	customer.livemode = sp_stripe_livemode();
	sp_access_require(&customer, trigger->tgnargs == 2 ? trigger->tgargs[1] : SP_FLOW_ACCESS);
	return PointerGetDatum(row);
}

/*
 * The customer's key, as the first three parameters of a statement.
 */
static void
customer_values(const SpCustomer *customer, Datum *values)
{
	values[0] = CStringGetTextDatum(customer->id);
	values[1] = BoolGetDatum(customer->livemode);
	values[2] = CStringGetTextDatum(customer->account);
}
