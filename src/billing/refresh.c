/*-------------------------------------------------------------------------
 *
 * refresh.c
 *	  Reading one customer from Stripe now, with all their subscriptions.
 *
 * All is read before anything is written, so that no row is locked while the
 * network is waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "billing/refresh.h"
#include "query.h"
#include "stripe/form.h"
#include "stripe/json.h"
#include "stripe/request.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_refresh);

/* The largest page that Stripe gives. */
#define PAGE_SIZE "100"

static SpQuery apply_object = {
	.sql = "SELECT stripe_portal.apply_object($1, $2, $3, $4)",
	.expected = SPI_OK_SELECT,
	.types = {JSONBOID, BOOLOID, TEXTOID, TIMESTAMPTZOID}
};

static SpQuery open_subscriptions = {
	.sql = "SELECT id FROM stripe_portal.subscription"
	" WHERE (customer, livemode, account) = ($1, $2, $3) AND NOT stripe_portal.status_is_final(status)"
	" ORDER BY id",
	.expected = SPI_OK_SELECT,
	.read_only = true,
	.types = {TEXTOID, BOOLOID, TEXTOID}
};

static SpQuery is_known = {
	.sql = "SELECT FROM stripe_portal.customer WHERE (id, livemode, account) = ($1, $2, $3) AND NOT deleted",
	.expected = SPI_OK_SELECT,
	.read_only = true,
	.types = {TEXTOID, BOOLOID, TEXTOID}
};

static SpReading *read_one(const char *kind, const char *path, const char *id, const char *form,
						   const char *account);
static Jsonb *tombstone(const char *kind, const char *id);
static void push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text);
static bool is_shown(const char *customer, const char *account, bool livemode);
static List *find_open_subscriptions(const char *customer, const char *account, bool livemode);
static List *read_list(const char *path, const char *filter, const char *account);
static void complete_items(SpReading *subscription, const char *account);
static Jsonb *replace_items(Jsonb *subscription, List *items);

/*
 * stripe_refresh(customer text, account text, livemode boolean) returns integer
 */
Datum
stripe_refresh(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("stripe_refresh()");
	if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("customer must not be empty")));

	PG_RETURN_INT32(sp_billing_refresh(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									   PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1)),
									   PG_ARGISNULL(2) ? sp_stripe_livemode() : PG_GETARG_BOOL(2)));
}

/*
 * Reads a customer and all their subscriptions and applies them.  Gives the
 * number of objects that there were, which is 0 if Stripe knows no such customer.
 */
int
sp_billing_refresh(const char *customer, const char *account, bool livemode)
{
	List	   *readings = sp_billing_read_customer(customer, account, livemode);
	ListCell   *cell;
	int			nread = 0;

	SPI_connect();
	sp_billing_apply(readings, account, livemode);
	SPI_finish();
	foreach(cell, readings)
		nread += !((SpReading *) lfirst(cell))->missing;
	return nread;
}

/*
 * Reads a customer and all their subscriptions, as a list of SpReading.  It is
 * empty if neither Stripe nor the tables know such a customer.  Of one who was
 * deleted, whose subscriptions Stripe has canceled, or whom Stripe does not know,
 * those are read that go on in the table; what is missing at Stripe is a reading
 * like one that says that it was deleted.
 *
 * Throws what sp_stripe_read does, and ERRCODE_SP_NOT_CONFIGURED if the key is
 * for the other mode.
 */
List *
sp_billing_read_customer(const char *customer, const char *account, bool livemode)
{
	SpReading  *reading;
	StringInfoData filter;
	List	   *subscriptions = NIL;
	ListCell   *cell;

	if (livemode != sp_stripe_livemode())
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("the configured Stripe API key is not for %s mode", livemode ? "live" : "test")));

	reading = read_one("customer", "/v1/customers/", customer, NULL, account);

	initStringInfo(&filter);
	if (sp_stripe_json_get(&reading->object->root, "deleted") != NULL)
	{
		sp_stripe_form_append(&filter, "expand[0]", "discounts");
		foreach(cell, find_open_subscriptions(customer, account, livemode))
		{
			SpReading  *subscription = read_one("subscription", "/v1/subscriptions/", lfirst(cell),
												filter.data, account);

			subscriptions = lappend(subscriptions, subscription);
		}
		if (reading->missing && subscriptions == NIL && !is_shown(customer, account, livemode))
			return NIL;
	}
	else
	{
		sp_stripe_form_append(&filter, "customer", customer);
		sp_stripe_form_append(&filter, "status", "all");
		sp_stripe_form_append(&filter, "expand[0]", "data.discounts");
		subscriptions = read_list("/v1/subscriptions", filter.data, account);
	}
	foreach(cell, subscriptions)
		complete_items(lfirst(cell), account);
	return lcons(reading, subscriptions);
}

/*
 * Applies what was read; SPI is connected, by a caller whose search_path is
 * pinned.
 */
void
sp_billing_apply(List *readings, const char *account, bool livemode)
{
	ListCell   *cell;

	foreach(cell, readings)
	{
		SpReading  *reading = lfirst(cell);
		Datum		values[4];

		values[0] = JsonbPGetDatum(reading->object);
		values[1] = BoolGetDatum(livemode);
		values[2] = CStringGetTextDatum(account);
		values[3] = TimestampTzGetDatum(reading->as_of);
		sp_query_run(&apply_object, values, NULL, InvalidSnapshot);
	}
}

/*
 * Reads one object.
 */
static SpReading *
read_one(const char *kind, const char *path, const char *id, const char *form, const char *account)
{
	SpReading  *reading = palloc(sizeof(SpReading));
	StringInfoData whole_path;

	initStringInfo(&whole_path);
	appendStringInfoString(&whole_path, path);
	sp_stripe_form_append_encoded(&whole_path, id);
	reading->object = sp_stripe_read(whole_path.data, form, *account != '\0' ? account : NULL,
									 &reading->as_of);
	reading->missing = reading->object == NULL;
	if (reading->missing)
		reading->object = tombstone(kind, id);
	return reading;
}

/*
 * What Stripe says of an object that was deleted.
 */
static Jsonb *
tombstone(const char *kind, const char *id)
{
	JsonbParseState *state = NULL;
	JsonbValue	value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, WJB_KEY, "id");
	push_text(&state, WJB_VALUE, id);
	push_text(&state, WJB_KEY, "object");
	push_text(&state, WJB_VALUE, kind);
	push_text(&state, WJB_KEY, "deleted");
	value.type = jbvBool;
	value.val.boolean = true;
	pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	pushJsonbValue(state, token, &value);
}

/*
 * Whether the table shows the customer, and not as deleted.
 */
static bool
is_shown(const char *customer, const char *account, bool livemode)
{
	Datum		values[3];
	bool		result;

	values[0] = CStringGetTextDatum(customer);
	values[1] = BoolGetDatum(livemode);
	values[2] = CStringGetTextDatum(account);

	SPI_connect();
	sp_query_run(&is_known, values, NULL, InvalidSnapshot);
	result = SPI_processed > 0;
	SPI_finish();
	return result;
}

/*
 * The ids of the customer's subscriptions that go on, for all the table knows.
 */
static List *
find_open_subscriptions(const char *customer, const char *account, bool livemode)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *result = NIL;
	Datum		values[3];

	values[0] = CStringGetTextDatum(customer);
	values[1] = BoolGetDatum(livemode);
	values[2] = CStringGetTextDatum(account);

	SPI_connect();
	sp_query_run(&open_subscriptions, values, NULL, InvalidSnapshot);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *id = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		result = lappend(result, pstrdup(id));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return result;
}

/*
 * Reads all pages of a list, as a list of SpReading.
 */
static List *
read_list(const char *path, const char *filter, const char *account)
{
	List	   *result = NIL;
	char	   *last_id = NULL;
	bool		more;

	do
	{
		StringInfoData form;
		TimestampTz as_of;
		Jsonb	   *page;
		JsonbValue *data;
		JsonbValue *has_more;
		int			n;

		CHECK_FOR_INTERRUPTS();

		initStringInfo(&form);
		appendStringInfoString(&form, filter);
		sp_stripe_form_append(&form, "limit", PAGE_SIZE);
		if (last_id != NULL)
			sp_stripe_form_append(&form, "starting_after", last_id);
		page = sp_stripe_read(path, form.data, *account != '\0' ? account : NULL, &as_of);

		data = page != NULL ? sp_stripe_json_get(&page->root, "data") : NULL;
		if (data == NULL || data->type != jbvBinary || !JsonContainerIsArray(data->val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_SP_BAD_RESPONSE),
					 errmsg("Stripe's answer to %s is not a list", path)));
		has_more = sp_stripe_json_get(&page->root, "has_more");
		more = has_more != NULL && has_more->type == jbvBool && has_more->val.boolean;

		last_id = NULL;
		n = JsonContainerSize(data->val.binary.data);
		for (int i = 0; i < n; i++)
		{
			JsonbValue *element = getIthJsonbValueFromContainer(data->val.binary.data, i);
			SpReading  *reading = palloc(sizeof(SpReading));

			reading->object = JsonbValueToJsonb(element);
			reading->as_of = as_of;
			reading->missing = false;
			result = lappend(result, reading);
			last_id = sp_stripe_json_text(&reading->object->root, "id");
		}

		/* Without a last id, the next page would be this one again. */
		more = more && last_id != NULL;
	} while (more);

	return result;
}

/*
 * A subscription has only its first items in it; if there are more, reads them
 * all.  What was put together from two readings is as new as the older one.
 */
static void
complete_items(SpReading *subscription, const char *account)
{
	JsonbContainer *items = sp_stripe_json_object(&subscription->object->root, "items");
	JsonbValue *has_more = sp_stripe_json_get(items, "has_more");
	char	   *id = sp_stripe_json_text(&subscription->object->root, "id");
	StringInfoData filter;

	if (has_more == NULL || has_more->type != jbvBool || !has_more->val.boolean || id == NULL)
		return;

	initStringInfo(&filter);
	sp_stripe_form_append(&filter, "subscription", id);
	subscription->object = replace_items(subscription->object,
										 read_list("/v1/subscription_items", filter.data, account));
}

/*
 * The subscription with these items, and no more to come.
 */
static Jsonb *
replace_items(Jsonb *subscription, List *items)
{
	JsonbParseState *state = NULL;
	JsonbValue	value;
	JsonbValue *list;
	ListCell   *cell;
	Datum		path[1] = {CStringGetTextDatum("items")};

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, WJB_KEY, "data");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, items)
	{
		JsonbToJsonbValue(((SpReading *) lfirst(cell))->object, &value);
		pushJsonbValue(&state, WJB_ELEM, &value);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	push_text(&state, WJB_KEY, "has_more");
	value.type = jbvBool;
	value.val.boolean = false;
	pushJsonbValue(&state, WJB_VALUE, &value);
	list = pushJsonbValue(&state, WJB_END_OBJECT, NULL);

	return DatumGetJsonbP(DirectFunctionCall4(jsonb_set,
											  JsonbPGetDatum(subscription),
											  PointerGetDatum(construct_array(path, lengthof(path), TEXTOID,
																			  -1, false, TYPALIGN_INT)),
											  JsonbPGetDatum(JsonbValueToJsonb(list)),
											  BoolGetDatum(true)));
}
