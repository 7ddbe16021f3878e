/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Many webhook deliveries in one call, for gateways that collect them and
 *	  for replays.
 *
 * What becomes of an event is what would become of it alone.  But events of
 * subscriptions, which most are, are applied and stored by the same statements
 * for many of them, each subscription having one of them in a round: that
 * shares the cost of a statement, which is most of the cost of an event.  A
 * round in which anything goes wrong is undone, and its events are received
 * one by one, so that one bad event never fails the others.
 *
 * The histories of all customers in the batch are locked before the first row
 * is, in one order; the events follow in the order of their objects.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "billing/forgotten.h"
#include "query.h"
#include "stripe/json.h"
#include "webhook/webhook.h"

PG_FUNCTION_INFO_V1(stripe_receive_webhooks);

/* Enough to share what a statement costs, few enough to look through. */
#define MAX_ROUND	500

typedef struct Member
{
	SpDelivery	delivery;
	char	   *customer;		/* of an event that can share a round; else NULL */
	int			round;
} Member;

static SpQuery lock_customers = {
	.sql = "SELECT stripe_portal.lock_changes(customer)"
	" FROM (SELECT DISTINCT ON (hashtext(customer) & 1023) customer FROM unnest($1) AS customer"
	" ORDER BY hashtext(customer) & 1023) AS c",
	.expected = SPI_OK_SELECT,
	.types = {TEXTARRAYOID}
};

static SpQuery apply_subscriptions = {
	.sql = "SELECT stripe_portal.apply_subscriptions($1)",
	.expected = SPI_OK_SELECT,
	.types = {JSONBARRAYOID}
};

static SpQuery insert_events = {
	.sql = "INSERT INTO stripe_portal.event (id, livemode, account, created, type, api_version,"
	" object_id, payload, status, received_at)"
	" SELECT e.id, $2, $3, e.created, e.type, e.api_version, e.object_id, e.payload, 'applied', e.received_at"
	" FROM unnest($1, $4, $5, $6, $7, $8, $9)"
	" AS e (id, created, type, api_version, object_id, payload, received_at)"
	" ON CONFLICT DO NOTHING",
	.expected = SPI_OK_INSERT,
	.types = {TEXTARRAYOID, BOOLOID, TEXTOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, JSONARRAYOID, TIMESTAMPTZARRAYOID}
};

static void read_member(Member *member, Datum payload, bool no_payload, Datum sig, bool no_sig,
						TimestampTz received_at);
static char *subscription_customer(const SpEvent *event);
static int	compare_members(const void *a, const void *b);
static bool same_subscription(const Member *a, const Member *b);
static void take_forgotten(Member **members, int count);
static void lock_histories(Member **members, int count);
static void receive_round(Member **members, int count);
static void attempt_round(Member **members, int count);
static void store_round(Member **members, int count);
static ArrayType *collect(Member **members, int count, Oid type, Datum (*get) (const Member *, bool *));
static Datum get_jsonb(const Member *member, bool *isnull);
static Datum get_id(const Member *member, bool *isnull);
static Datum get_created(const Member *member, bool *isnull);
static Datum get_type(const Member *member, bool *isnull);
static Datum get_api_version(const Member *member, bool *isnull);
static Datum get_object_id(const Member *member, bool *isnull);
static Datum get_payload(const Member *member, bool *isnull);
static Datum get_received_at(const Member *member, bool *isnull);

/*
 * stripe_receive_webhooks(payloads text[], sigs text[], received_at timestamptz[])
 * returns table (event text, type text, outcome text, error text)
 */
Datum
stripe_receive_webhooks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum	   *payloads;
	Datum	   *sigs;
	Datum	   *times = NULL;
	bool	   *no_payload;
	bool	   *no_sig;
	bool	   *no_time = NULL;
	int			count = 0;
	int			sig_count = 0;
	int			time_count;
	Member	   *members;
	Member	  **order;

	PreventCommandIfReadOnly("stripe_receive_webhooks()");
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
						  &payloads, &no_payload, &count);
	if (!PG_ARGISNULL(1))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
						  &sigs, &no_sig, &sig_count);
	time_count = count;
	if (!PG_ARGISNULL(2))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE, &times, &no_time, &time_count);
	if (sig_count != count || time_count != count)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("the arrays must have the same length"),
				 times == NULL ?
				 errdetail("There are %d payloads and %d signatures.", count, sig_count) :
				 errdetail("There are %d payloads, %d signatures and %d times of arrival.",
						   count, sig_count, time_count)));

	members = palloc0(Max(count, 1) * sizeof(Member));
	order = palloc(Max(count, 1) * sizeof(Member *));
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		read_member(&members[i], payloads[i], no_payload[i], sigs[i], no_sig[i],
					times == NULL || no_time[i] ? GetCurrentTimestamp() : DatumGetTimestampTz(times[i]));
		order[i] = &members[i];
	}

	/* The rounds: each subscription has one event in each, in their order. */
	qsort(order, count, sizeof(Member *), compare_members);
	for (int i = 1; i < count; i++)
	{
		if (same_subscription(order[i - 1], order[i]))
			order[i]->round = order[i - 1]->round + 1;
	}

	SPI_connect();
	take_forgotten(order, count);
	lock_histories(order, count);
	for (int round = 0, left = count; left > 0; round++)
	{
		Member	   *together[MAX_ROUND];
		int			n = 0;

		for (int i = 0; i < count; i++)
		{
			Member	   *member = order[i];

			if (member->round != round)
				continue;
			left--;
			if (member->delivery.outcome != NULL)
				continue;		/* refused */
			if (n == MAX_ROUND ||
				(n > 0 && (member->customer == NULL ||
						   together[0]->delivery.event->livemode != member->delivery.event->livemode ||
						   strcmp(together[0]->delivery.event->account, member->delivery.event->account) != 0)))
			{
				receive_round(together, n);
				n = 0;
			}
			if (member->customer == NULL)
				sp_webhook_receive(&member->delivery);
			else
				together[n++] = member;
		}
		receive_round(together, n);
	}
	SPI_finish();

	for (int i = 0; i < count; i++)
	{
		Datum		values[4];
		bool		isnull[4];

		sp_webhook_verdict(&members[i].delivery, values, isnull);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * Verify a delivery, and read its event.
 */
static void
read_member(Member *member, Datum payload, bool no_payload, Datum sig, bool no_sig, TimestampTz received_at)
{
	SpDelivery *delivery = &member->delivery;
	SpSignature signature;

	delivery->context = CurrentMemoryContext;
	delivery->received_at = received_at;
	delivery->payload = "";
	if (!no_payload)
		delivery->payload = sp_webhook_signed_bytes(DatumGetTextPP(payload), &delivery->payload_len);
	signature = sp_webhook_verify(delivery->payload, delivery->payload_len,
								  no_sig ? NULL : DatumGetTextPP(sig), received_at);
	if (signature != SP_SIGNATURE_GOOD)
	{
		const char *hint;

		delivery->outcome = "refused";
		delivery->error = sp_webhook_refusal(signature, &hint);
		return;
	}
	delivery->event = sp_webhook_read_event(delivery->payload, delivery->payload_len);
	member->customer = subscription_customer(delivery->event);
}

/*
 * Whose subscription an event is about; NULL if it is about something else, or
 * not to be applied as it stands.
 */
static char *
subscription_customer(const SpEvent *event)
{
	JsonbContainer *object;
	JsonbValue *customer;
	char	   *kind;

	if (event->problem != NULL || event->thin)
		return NULL;
	object = sp_stripe_json_object(sp_stripe_json_object(&event->jsonb->root, "data"), "object");
	kind = sp_stripe_json_text(object, "object");
	customer = sp_stripe_json_get(object, "customer");
	if (kind == NULL || strcmp(kind, "subscription") != 0 || event->object_id == NULL ||
		sp_stripe_json_get(object, "deleted") != NULL)
		return NULL;
	if (customer != NULL && customer->type == jbvBinary)
		return sp_stripe_json_text(customer->val.binary.data, "id");
	return sp_stripe_json_text(object, "customer");
}

/*
 * By mode and account, object, time and id.  What was refused comes first.
 */
static int
compare_members(const void *a, const void *b)
{
	const SpEvent *left = (*(Member *const *) a)->delivery.event;
	const SpEvent *right = (*(Member *const *) b)->delivery.event;
	int			result;

	if (left == NULL || right == NULL)
		return (left != NULL) - (right != NULL);
	if (left->livemode != right->livemode)
		return left->livemode - right->livemode;
	result = strcmp(left->account, right->account);
	if (result == 0)
		result = strcmp(left->object_id ? left->object_id : "", right->object_id ? right->object_id : "");
	if (result == 0 && left->created != right->created)
		result = left->created < right->created ? -1 : 1;
	return result ? result : strcmp(left->id, right->id);
}

static bool
same_subscription(const Member *a, const Member *b)
{
	return a->customer != NULL && b->customer != NULL &&
		a->delivery.event->livemode == b->delivery.event->livemode &&
		strcmp(a->delivery.event->account, b->delivery.event->account) == 0 &&
		strcmp(a->delivery.event->object_id, b->delivery.event->object_id) == 0;
}

/*
 * What is of customers who were forgotten; of what is received alone, receiving
 * sees to that.
 */
static void
take_forgotten(Member **members, int count)
{
	if (!sp_billing_can_forget())
		return;
	sp_billing_lock_unnamed();
	for (int i = 0; i < count; i++)
	{
		if (members[i]->customer != NULL)
			sp_webhook_take_forgotten(&members[i]->delivery);
	}
}

/*
 * Lock the histories of all customers, in the order in which everybody does.
 */
static void
lock_histories(Member **members, int count)
{
	Datum	   *customers = palloc(Max(count, 1) * sizeof(Datum));
	int			n = 0;
	Datum		array;

	for (int i = 0; i < count; i++)
	{
		if (members[i]->customer != NULL)
			customers[n++] = CStringGetTextDatum(members[i]->customer);
	}
	if (n == 0)
		return;
	array = PointerGetDatum(construct_array(customers, n, TEXTOID, -1, false, TYPALIGN_INT));
	sp_query_run(&lock_customers, &array, NULL, InvalidSnapshot);
}

/*
 * Receive events of as many subscriptions, all of one mode and account.
 */
static void
receive_round(Member **members, int count)
{
	Member	   *fresh[MAX_ROUND];
	int			n = 0;
	bool		any_handlers = false;

	for (int i = 0; i < count && !any_handlers; i++)
	{
		if (sp_webhook_is_stored(members[i]->delivery.event, &any_handlers))
			members[i]->delivery.outcome = "duplicate";
		else
			fresh[n++] = members[i];
	}

	/* Handlers are called for one event after the other. */
	if (n > 0 && !any_handlers)
		attempt_round(fresh, n);
	for (int i = 0; i < count; i++)
	{
		if (members[i]->delivery.outcome == NULL)
			sp_webhook_receive(&members[i]->delivery);
	}
}

/*
 * All of them, or none if anything was not as usual.
 */
static void
attempt_round(Member **members, int count)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext copies = AllocSetContextCreate(context, "round of events", ALLOCSET_DEFAULT_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(copies);
	PG_TRY();
	{
		Datum		events = PointerGetDatum(collect(members, count, JSONBOID, get_jsonb));

		sp_query_run(&apply_subscriptions, &events, NULL, InvalidSnapshot);
		MemoryContextReset(copies);
		MemoryContextSwitchTo(copies);
		store_round(members, count);
		done = SPI_processed == (uint64) count;
		if (done)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		sp_webhook_rethrow_if_passing(error);
		FreeErrorData(error);
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	MemoryContextDelete(copies);
	CurrentResourceOwner = owner;
	for (int i = 0; done && i < count; i++)
		members[i]->delivery.outcome = "applied";
}

/*
 * Write the rows of the events.  Another delivery may be faster with one of
 * them; then SPI_processed is less than their number.
 */
static void
store_round(Member **members, int count)
{
	const SpEvent *first = members[0]->delivery.event;
	Datum		values[9];

	values[0] = PointerGetDatum(collect(members, count, TEXTOID, get_id));
	values[1] = BoolGetDatum(first->livemode);
	values[2] = CStringGetTextDatum(first->account);
	values[3] = PointerGetDatum(collect(members, count, TIMESTAMPTZOID, get_created));
	values[4] = PointerGetDatum(collect(members, count, TEXTOID, get_type));
	values[5] = PointerGetDatum(collect(members, count, TEXTOID, get_api_version));
	values[6] = PointerGetDatum(collect(members, count, TEXTOID, get_object_id));
	values[7] = PointerGetDatum(collect(members, count, JSONOID, get_payload));
	values[8] = PointerGetDatum(collect(members, count, TIMESTAMPTZOID, get_received_at));
	sp_query_run(&insert_events, values, NULL, InvalidSnapshot);
}

/*
 * An array of what get takes from each.
 */
static ArrayType *
collect(Member **members, int count, Oid type, Datum (*get) (const Member *, bool *))
{
	Datum	   *values = palloc(count * sizeof(Datum));
	bool	   *isnull = palloc(count * sizeof(bool));
	int			lower = 1;
	bool		is_time = type == TIMESTAMPTZOID;

	for (int i = 0; i < count; i++)
	{
		isnull[i] = false;
		values[i] = get(members[i], &isnull[i]);
	}
	return construct_md_array(values, isnull, 1, &count, &lower, type,
							  is_time ? (int) sizeof(TimestampTz) : -1, is_time && FLOAT8PASSBYVAL,
							  is_time ? TYPALIGN_DOUBLE : TYPALIGN_INT);
}

static Datum
get_jsonb(const Member *member, bool *isnull)
{
	return JsonbPGetDatum(member->delivery.event->jsonb);
}

static Datum
get_id(const Member *member, bool *isnull)
{
	return CStringGetTextDatum(member->delivery.event->id);
}

static Datum
get_created(const Member *member, bool *isnull)
{
	return TimestampTzGetDatum(member->delivery.event->created);
}

static Datum
get_type(const Member *member, bool *isnull)
{
	return CStringGetTextDatum(member->delivery.event->type);
}

static Datum
get_api_version(const Member *member, bool *isnull)
{
	char	   *version = member->delivery.event->api_version;

	*isnull = version == NULL;
	return version == NULL ? (Datum) 0 : CStringGetTextDatum(version);
}

static Datum
get_object_id(const Member *member, bool *isnull)
{
	return CStringGetTextDatum(member->delivery.event->object_id);
}

static Datum
get_payload(const Member *member, bool *isnull)
{
	return sp_webhook_payload(&member->delivery);
}

static Datum
get_received_at(const Member *member, bool *isnull)
{
	return TimestampTzGetDatum(member->delivery.received_at);
}
