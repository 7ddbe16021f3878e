/*-------------------------------------------------------------------------
 *
 * receive.c
 *	  A webhook delivery, from the request body to the row that says what
 *	  became of it.
 *
 * Applying the event, storing it and calling the handlers happen in one
 * subtransaction, in that order: whoever looks at the event's row, in a
 * trigger or a handler, sees it finished and the state that it led to.  The
 * row's key decides whether the event is new; a second delivery at the same
 * moment waits there for the first, and then undoes what it did.
 *
 * If something fails, the subtransaction is undone and the event is stored as
 * failed.  A handler's failure must not hide what is true at Stripe, so then
 * the state is written once more, without the handlers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "billing/forgotten.h"
#include "query.h"
#include "stripe/json.h"
#include "stripe/request.h"
#include "stripe_portal.h"
#include "webhook/webhook.h"

PG_FUNCTION_INFO_V1(stripe_receive_webhook_text);
PG_FUNCTION_INFO_V1(stripe_receive_webhook_bytea);
PG_FUNCTION_INFO_V1(stripe_receive_event);
PG_FUNCTION_INFO_V1(stripe_replay);
PG_FUNCTION_INFO_V1(stripe_settle_thin);

/* By the id alone, in whatever partition that is. */
static SpQuery find_id = {
	.sql = "SELECT FROM stripe_portal.event WHERE id = $1 AND livemode = $2 AND account = $3",
	.expected = SPI_OK_SELECT,
	.types = {TEXTOID, BOOLOID, TEXTOID}
};

static SpQuery lock_event = {
	.sql = "SELECT status, coalesce(body, convert_to(payload::text, 'UTF8'))"
	" FROM stripe_portal.event"
	" WHERE id = $1 AND livemode = $2 AND account = $3 FOR UPDATE",
	.expected = SPI_OK_SELECT,
	.types = {TEXTOID, BOOLOID, TEXTOID}
};

static SpQuery apply_event = {
	.sql = "SELECT stripe_portal.apply_event($1)",
	.expected = SPI_OK_SELECT,
	.types = {JSONBOID}
};

/* The conflict names no key: each partition has its own, see schema.sql. */
static SpQuery insert_event = {
	.sql = "INSERT INTO stripe_portal.event (id, livemode, account, created, type, api_version,"
	" object_id, payload, body, status, error, received_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
	" ON CONFLICT DO NOTHING",
	.expected = SPI_OK_INSERT,
	.types = {SP_EVENT_KEY_TYPES, TEXTOID, TEXTOID,
	TEXTOID, JSONOID, BYTEAOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static SpQuery update_event = {
	.sql = "UPDATE stripe_portal.event SET status = $5, error = $6,"
	" attempts = attempts + 1, last_attempt_at = now()"
	" WHERE " SP_EVENT_KEY,
	.expected = SPI_OK_UPDATE,
	.types = {SP_EVENT_KEY_TYPES, TEXTOID, TEXTOID}
};

/* What is no event may have been meant to be one. */
static SpQuery body_is_forgotten = {
	.sql = "SELECT FROM stripe_portal.forgotten AS f"
	" WHERE position(convert_to('\"' || f.id || '\"', 'UTF8') IN $1) > 0 LIMIT 1",
	.expected = SPI_OK_SELECT,
	.read_only = true,
	.types = {BYTEAOID}
};

static SpQuery impersonal = {
	.sql = "SELECT stripe_portal.impersonal($1)",
	.expected = SPI_OK_SELECT,
	.types = {JSONBOID}
};

static Datum receive_call(const char *payload, size_t payload_len, FunctionCallInfo fcinfo);
static void find_stored(SpDelivery *delivery, FunctionCallInfo fcinfo);
static Datum stored_answer(const SpDelivery *delivery, FunctionCallInfo fcinfo);
static void process(SpDelivery *delivery);
static bool attempt(SpDelivery *delivery, const char *failure);
static bool store(SpDelivery *delivery, const char *status, const char *error);
static Jsonb *without_url(const SpEvent *event);
static Datum text_or_null(const char *string, bool *isnull);

/*
 * stripe_receive_webhook(payload text, sig text, received_at timestamptz)
 * returns (event text, type text, outcome text, error text)
 */
Datum
stripe_receive_webhook_text(PG_FUNCTION_ARGS)
{
	const char *payload = "";
	size_t		len = 0;

	if (!PG_ARGISNULL(0))
		payload = sp_webhook_signed_bytes(PG_GETARG_TEXT_PP(0), &len);
	return receive_call(payload, len, fcinfo);
}

/*
 * stripe_receive_webhook(payload bytea, sig text, received_at timestamptz)
 * returns (event text, type text, outcome text, error text)
 */
Datum
stripe_receive_webhook_bytea(PG_FUNCTION_ARGS)
{
	bytea	   *payload;

	if (PG_ARGISNULL(0))
		return receive_call("", 0, fcinfo);
	payload = PG_GETARG_BYTEA_PP(0);
	return receive_call(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), fcinfo);
}

/*
 * What both forms have in common.
 */
static Datum
receive_call(const char *payload, size_t payload_len, FunctionCallInfo fcinfo)
{
	SpDelivery	delivery = {0};
	SpSignature signature;
	TupleDesc	tupdesc;
	Datum		values[4];
	bool		isnull[4];

	PreventCommandIfReadOnly("stripe_receive_webhook()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	delivery.context = CurrentMemoryContext;
	delivery.received_at = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);
	signature = sp_webhook_verify(payload, payload_len,
								  PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1),
								  delivery.received_at);
	if (signature != SP_SIGNATURE_GOOD)
		sp_webhook_refuse(signature);

	delivery.payload = payload;
	delivery.payload_len = payload_len;
	delivery.event = sp_webhook_read_event(payload, payload_len);
	SPI_connect();
	sp_webhook_receive(&delivery);
	SPI_finish();

	sp_webhook_verdict(&delivery, values, isnull);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, isnull));
}

/*
 * What became of a delivery: (event, type, outcome, error).
 */
void
sp_webhook_verdict(const SpDelivery *delivery, Datum *values, bool *isnull)
{
	const SpEvent *event = delivery->event;

	values[0] = text_or_null(event ? event->id : NULL, &isnull[0]);
	values[1] = text_or_null(event ? event->type : NULL, &isnull[1]);
	values[2] = text_or_null(delivery->outcome, &isnull[2]);
	values[3] = text_or_null(delivery->error, &isnull[3]);
}

/*
 * stripe_portal.receive_event(payload json) returns text
 *
 * What was read from Stripe's API was not signed, and need not be: it came
 * from where the key was sent.
 */
Datum
stripe_receive_event(PG_FUNCTION_ARGS)
{
	SpDelivery	delivery = {0};

	PreventCommandIfReadOnly("receive_event()");
	delivery.context = CurrentMemoryContext;
	delivery.received_at = GetCurrentTimestamp();
	delivery.payload = sp_webhook_signed_bytes(PG_GETARG_TEXT_PP(0), &delivery.payload_len);
	delivery.event = sp_webhook_read_event(delivery.payload, delivery.payload_len);
	SPI_connect();
	sp_webhook_receive(&delivery);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(delivery.outcome));
}

/*
 * An event that is known to be Stripe's, and has been read; SPI is connected.
 * From here on, nothing about it may raise.
 */
void
sp_webhook_receive(SpDelivery *delivery)
{
	bool		any_handlers;

	if (sp_webhook_is_stored(delivery->event, &any_handlers))
		delivery->outcome = "duplicate";
	else
	{
		delivery->no_handlers = !any_handlers;
		/* before a statement has it as a parameter, which may be logged */
		if (delivery->event->carries_url && !delivery->event->unreadable)
			delivery->event->jsonb = without_url(delivery->event);
		sp_webhook_take_forgotten(delivery);
		process(delivery);
	}
}

/*
 * Leave out what is personal if the event is of a customer who was forgotten;
 * SPI is connected.
 */
void
sp_webhook_take_forgotten(SpDelivery *delivery)
{
	SpEvent    *event = delivery->event;
	Datum		told;
	bool		isnull;

	if (!sp_billing_can_forget())
		return;
	if (event->unreadable)
	{
		told = PointerGetDatum(cstring_to_text_with_len(delivery->payload, delivery->payload_len));
		sp_billing_lock_unnamed();
		delivery->forgotten = sp_query_run(&body_is_forgotten, &told, NULL, GetLatestSnapshot()) > 0;
	}
	else if (sp_billing_is_forgotten(event->jsonb, event->object_id, event->livemode, event->account))
	{
		delivery->forgotten = true;
		told = JsonbPGetDatum(event->jsonb);
		sp_query_run(&impersonal, &told, NULL, InvalidSnapshot);
		event->jsonb = DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
														1, &isnull));
	}
}

/*
 * stripe_replay(event text, livemode boolean, account text)
 * returns (outcome text, error text)
 */
Datum
stripe_replay(PG_FUNCTION_ARGS)
{
	SpDelivery	delivery = {0};

	PreventCommandIfReadOnly("stripe_replay()");
	delivery.context = CurrentMemoryContext;

	SPI_connect();
	find_stored(&delivery, fcinfo);
	if (strcmp(delivery.stored, "applied") != 0)
		process(&delivery);
	else
	{
		/* Its handlers were called; the state takes it as often as you like. */
		if (!delivery.event->thin)
		{
			Datum		event = JsonbPGetDatum(delivery.event->jsonb);

			sp_query_run(&apply_event, &event, NULL, InvalidSnapshot);
		}
		delivery.outcome = "applied";
	}
	SPI_finish();
	return stored_answer(&delivery, fcinfo);
}

/*
 * stripe_portal.settle_thin(event text, livemode boolean, account text,
 *		failure text) returns (outcome text, error text)
 */
Datum
stripe_settle_thin(PG_FUNCTION_ARGS)
{
	SpDelivery	delivery = {0};

	PreventCommandIfReadOnly("settle_thin()");
	delivery.context = CurrentMemoryContext;
	delivery.settled = true;
	if (!PG_ARGISNULL(3))
		delivery.error = text_to_cstring(PG_GETARG_TEXT_PP(3));

	SPI_connect();
	find_stored(&delivery, fcinfo);
	if (!delivery.event->thin)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event \"%s\" is not a thin one", delivery.event->id)));

	/* Two may have read its object at the same time. */
	if (strcmp(delivery.stored, "applied") == 0)
	{
		delivery.outcome = "applied";
		delivery.error = NULL;
	}
	else
		process(&delivery);
	SPI_finish();
	return stored_answer(&delivery, fcinfo);
}

/*
 * Lock and read the event in the ledger that the first three arguments name.
 */
static void
find_stored(SpDelivery *delivery, FunctionCallInfo fcinfo)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *id = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		livemode = PG_ARGISNULL(1) ? sp_stripe_livemode() : PG_GETARG_BOOL(1);
	char	   *account = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Datum		values[3];
	bool		isnull;
	bytea	   *payload;

	values[0] = CStringGetTextDatum(id);
	values[1] = BoolGetDatum(livemode);
	values[2] = CStringGetTextDatum(account);

	/*
	 * A second look finds an event that went into a new partition while the
	 * first one waited for that to be finished.
	 */
	if (sp_query_run(&lock_event, values, NULL, InvalidSnapshot) == 0 &&
		sp_query_run(&lock_event, values, NULL, InvalidSnapshot) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("event \"%s\" is not in the ledger", id),
				 errdetail("It was looked for in %s mode.", livemode ? "live" : "test")));

	delivery->stored = sp_query_text(1);
	payload = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	delivery->payload = VARDATA_ANY(payload);
	delivery->payload_len = VARSIZE_ANY_EXHDR(payload);
	/* its words are in the answer, which outlives SPI */
	MemoryContextSwitchTo(delivery->context);
	delivery->event = sp_webhook_read_event(delivery->payload, delivery->payload_len);
	MemoryContextSwitchTo(context);

	if (delivery->payload_len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("the body of \"%s\" was not kept", id)));

	/*
	 * It was readable when it came in, but with less stack left than then, a
	 * deeply nested one is not.
	 */
	if (strcmp(delivery->event->id, id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("event \"%s\" could not be read again", id),
				 delivery->event->problem ? errdetail_internal("%s", delivery->event->problem) : 0));
}

/*
 * What became of an event that was in the ledger: (outcome, error).
 */
static Datum
stored_answer(const SpDelivery *delivery, FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2];

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = text_or_null(delivery->outcome, &isnull[0]);
	values[1] = text_or_null(delivery->error, &isnull[1]);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, isnull));
}

/*
 * Apply, store and handle an event, and say in delivery what became of it.
 */
static void
process(SpDelivery *delivery)
{
	SpEvent    *event = delivery->event;

	if (event->problem != NULL)
		delivery->error = event->problem;
	else if (delivery->error == NULL && (!event->thin || delivery->settled))
	{
		if (attempt(delivery, NULL))
			return;
		if (delivery->handlers_failed && attempt(delivery, delivery->error))
			return;
	}

	if (store(delivery, delivery->error ? "failed" : "thin", delivery->error))
		delivery->outcome = delivery->error ? "failed" : "thin";
	else
	{
		delivery->outcome = "duplicate";
		delivery->error = NULL;
	}
}

/*
 * One try, all or nothing.  failure is NULL, or why the handlers are left out
 * this time and the event is stored as failed.  False if something raised:
 * then delivery has the error, and nothing is left of the try.
 */
static bool
attempt(SpDelivery *delivery, const char *failure)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool in_handlers = false;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		Datum		event = JsonbPGetDatum(delivery->event->jsonb);
		bool		known_kind = delivery->settled;
		List	   *handlers = NIL;
		const char *status = "failed";
		bool		isnull;

		if (!delivery->settled)
		{
			sp_query_run(&apply_event, &event, NULL, InvalidSnapshot);
			known_kind = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
													1, &isnull));
		}
		if (failure == NULL)
		{
			if (!delivery->no_handlers)
				handlers = sp_webhook_find_handlers(delivery->event);
			status = known_kind || handlers != NIL ? "applied" : "ignored";
		}

		if (store(delivery, status, failure))
		{
			in_handlers = true;
			sp_webhook_call_handlers(handlers, delivery->event);
			delivery->outcome = status;
			delivery->error = failure;
			ReleaseCurrentSubTransaction();
		}
		else
		{
			delivery->outcome = "duplicate";
			delivery->error = NULL;
			RollbackAndReleaseCurrentSubTransaction();
		}
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(delivery->context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(delivery->context);
		CurrentResourceOwner = owner;
		sp_webhook_rethrow_if_passing(error);

		delivery->handlers_failed = in_handlers;
		delivery->error = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/*
 * Write the event's row.  False if it is there already.
 */
static bool
store(SpDelivery *delivery, const char *status, const char *error)
{
	SpEvent    *event = delivery->event;
	Datum		values[12];
	bool		isnull[12] = {false};

	sp_webhook_event_key(event, values, isnull);
	if (delivery->stored != NULL)
	{
		/* What a replay finds as it was stays as it was; failures count. */
		if (error == NULL && strcmp(status, delivery->stored) == 0)
			return true;
		values[4] = CStringGetTextDatum(status);
		values[5] = text_or_null(error, &isnull[5]);
		return sp_query_run(&update_event, values, isnull, InvalidSnapshot) == 1;
	}

	values[4] = text_or_null(event->type, &isnull[4]);
	values[5] = text_or_null(event->api_version, &isnull[5]);
	values[6] = text_or_null(event->object_id, &isnull[6]);
	isnull[7] = event->unreadable;
	isnull[8] = !event->unreadable;
	if (event->unreadable && (event->carries_url || delivery->forgotten))
		values[8] = PointerGetDatum(cstring_to_text(""));
	else if (event->unreadable)
		values[8] = PointerGetDatum(cstring_to_text_with_len(delivery->payload,
															 delivery->payload_len));
	else
		values[7] = sp_webhook_payload(delivery);
	values[9] = CStringGetTextDatum(status);
	values[10] = text_or_null(error, &isnull[10]);
	values[11] = TimestampTzGetDatum(delivery->received_at);
	if (sp_query_run(&insert_event, values, isnull, InvalidSnapshot) == 1)
		return true;

	/* Another delivery was faster, or else somebody's trigger is in the way. */
	if (sp_query_run(&find_id, values, NULL, InvalidSnapshot) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("event \"%s\" was not stored", event->id),
				 errdetail("A trigger on stripe_portal.event left the row out.")));
	return false;
}

/*
 * The payload as json: text that was checked, since reading the event has
 * checked it, or what is kept of it.
 */
Datum
sp_webhook_payload(const SpDelivery *delivery)
{
	if (delivery->event->carries_url || delivery->forgotten)
		return CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(jsonb_out,
																	   JsonbPGetDatum(delivery->event->jsonb))));
	return CStringGetTextDatum(pg_any_to_server(pnstrdup(delivery->payload, delivery->payload_len),
												delivery->payload_len, PG_UTF8));
}

/*
 * An event that announces a portal session without the session's URL, by which
 * whoever can read the ledger could act as the customer, and without the ways
 * back, which may carry a token.
 */
static Jsonb *
without_url(const SpEvent *event)
{
	static const char *const secret[][6] = {
		{"data", "object", "url"},
		{"data", "object", "return_url"},
		{"data", "object", "flow", "after_completion", "redirect", "return_url"}
	};
	Datum		stripped = JsonbPGetDatum(event->jsonb);

	for (size_t i = 0; i < lengthof(secret); i++)
	{
		JsonbContainer *container = &event->jsonb->root;
		Datum		path[6];
		int			depth = 0;

		/* an array on the way, which Stripe does not send, goes as a whole */
		while (depth < 6 && secret[i][depth] != NULL &&
			   (container == NULL || JsonContainerIsObject(container)))
		{
			JsonbValue *value = sp_stripe_json_get(container, secret[i][depth]);

			path[depth] = CStringGetTextDatum(secret[i][depth]);
			container = value != NULL && value->type == jbvBinary ? value->val.binary.data : NULL;
			depth++;
		}
		stripped = DirectFunctionCall2(jsonb_delete_path, stripped,
									   PointerGetDatum(construct_array(path, depth, TEXTOID,
																	   -1, false, TYPALIGN_INT)));
	}
	return DatumGetJsonbP(stripped);
}

static Datum
text_or_null(const char *string, bool *isnull)
{
	*isnull = string == NULL;
	return string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}
