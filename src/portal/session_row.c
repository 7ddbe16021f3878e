/*-------------------------------------------------------------------------
 *
 * session_row.c
 *	  The row that the ledger has of each portal session, and the rule on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "portal/session.h"
#include "query.h"

PG_FUNCTION_INFO_V1(stripe_session_require_active);

static SpQuery insert_session = {
	.sql = "INSERT INTO stripe_portal.session (livemode, account, customer, flow, subscription,"
	" configuration, return_url, locale, stripe_id, refused, opened_by, id, return_until)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
	.expected = SPI_OK_INSERT,
	.types = {BOOLOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID}
};

static SpQuery keep_state = {
	.sql = "UPDATE stripe_portal.session AS s SET state = now.state, retention_coupon = $2"
	" FROM stripe_portal.session_state AS now WHERE now.session = s.id AND s.id = $1",
	.expected = SPI_OK_UPDATE,
	.types = {UUIDOID, TEXTOID}
};

/*
 * The ledger's row; SPI is connected.  Raises ERRCODE_SP_NOT_ACTIVE if an
 * opened session no longer passes the rule.
 */
void
sp_portal_write_session(const SpWish *wish, const SpSession *session)
{
	Datum		values[13];
	bool		isnull[13] = {false};

	values[0] = BoolGetDatum(wish->customer.livemode);
	sp_portal_set_text(&values[1], &isnull[1], wish->customer.account);
	sp_portal_set_text(&values[2], &isnull[2], wish->customer.id);
	sp_portal_set_text(&values[3], &isnull[3], wish->flow);
	sp_portal_set_text(&values[4], &isnull[4], wish->subscription);
	sp_portal_set_text(&values[5], &isnull[5], session->configuration);
	sp_portal_set_text(&values[6], &isnull[6], wish->return_url);
	sp_portal_set_text(&values[7], &isnull[7], session->locale);
	sp_portal_set_text(&values[8], &isnull[8], session->stripe_id);
	sp_portal_set_text(&values[9], &isnull[9], session->refused);
	/* inside SECURITY DEFINER, current_user would be the extension's owner */
	sp_portal_set_text(&values[10], &isnull[10], GetUserNameFromId(GetOuterUserId(), false));
	values[11] = UUIDPGetDatum(session->id);
	values[12] = TimestampTzGetDatum(session->return_until);
	isnull[12] = session->return_until == 0;

	if (sp_query_run(&insert_session, values, isnull, InvalidSnapshot) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("the portal session was not stored"),
				 errdetail("A trigger on stripe_portal.session left the row out.")));

	/* what the customer is going to change is told by what was there before */
	if (session->refused == NULL)
	{
		Datum		opened[2] = {UUIDPGetDatum(session->id)};
		bool		opened_isnull[2] = {false};

		sp_portal_set_text(&opened[1], &opened_isnull[1], session->retention_coupon);
		sp_query_run(&keep_state, opened, opened_isnull, InvalidSnapshot);
	}
}

/*
 * session_require_active() returns trigger
 *
 * The rule on the ledger itself.  A row from before this transaction that a
 * superuser inserts is history that a dump brings back: who lapsed since then
 * had a session all the same.
 */
Datum
stripe_session_require_active(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc	tupdesc;
	HeapTuple	row;
	SpCustomer	customer;
	char	   *flow;
	Datum		livemode;
	Datum		created;
	bool		no_livemode;
	bool		no_created;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("session_require_active() must be fired for each row by INSERT or UPDATE")));

	tupdesc = RelationGetDescr(trigdata->tg_relation);
	row = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;

	customer.id = SPI_getvalue(row, tupdesc, SPI_fnumber(tupdesc, "customer"));
	customer.account = SPI_getvalue(row, tupdesc, SPI_fnumber(tupdesc, "account"));
	flow = SPI_getvalue(row, tupdesc, SPI_fnumber(tupdesc, "flow"));
	livemode = SPI_getbinval(row, tupdesc, SPI_fnumber(tupdesc, "livemode"), &no_livemode);
	created = SPI_getbinval(row, tupdesc, SPI_fnumber(tupdesc, "created"), &no_created);

	/* The table's own constraints refuse these. */
	if (customer.id == NULL || customer.account == NULL || flow == NULL || no_livemode || no_created)
		return PointerGetDatum(row);

	/* SECURITY DEFINER makes everybody a superuser here, so ask who it was. */
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		DatumGetTimestampTz(created) < GetCurrentTransactionStartTimestamp() &&
		superuser_arg(GetOuterUserId()))
		return PointerGetDatum(row);

	customer.livemode = DatumGetBool(livemode);
	sp_access_require(&customer, flow);
	return PointerGetDatum(row);
}

/*
 * A text that may be NULL, as a parameter or a column.
 */
void
sp_portal_set_text(Datum *value, bool *isnull, const char *string)
{
	*isnull = string == NULL;
	*value = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}
