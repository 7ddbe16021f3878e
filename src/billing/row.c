/*-------------------------------------------------------------------------
 *
 * row.c
 *	  From a subscription of Stripe's, and the prices in it, to the rows of
 *	  their tables.
 *
 * These are the readers of api_row.sql that every event of a subscription
 * needs; here they take a tenth of the time.  What holds for those holds here:
 * all API versions read the same, and a value of the wrong type raises the
 * error that its type has for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "stripe/json.h"

PG_FUNCTION_INFO_V1(stripe_subscription_row);
PG_FUNCTION_INFO_V1(stripe_price_row);

/* How a column's value is found in an object. */
typedef enum Reading
{
	READ_TEXT,
	READ_ID,
	READ_TIME,
	READ_FLAG,
	READ_BIGINT,
	READ_INTEGER,
	READ_NUMERIC,
	READ_JSON,
	/* in the origin */
	READ_ORIGIN_TEXT,
	READ_ORIGIN_TIME,
	READ_ORIGIN_FLAG,
	/* of a subscription */
	READ_ITEMS,
	READ_DISCOUNTS,
	READ_PERIOD_START,
	READ_PERIOD_END,
	READ_REFETCH_ITEMS,
	/* of a price */
	READ_REFETCH_TIERS,
} Reading;

typedef struct Column
{
	const char *name;
	Reading		reading;
	const char *hash;			/* that the key is in; NULL: in the object */
	const char *key;			/* NULL: as the column */
	const char *otherwise;		/* where there is none: another key, or a value of READ_FLAG */
} Column;

/* In the order of the tables, for speed only. */
#define AS_IT_IS	NULL, NULL, NULL

static const Column subscription_columns[] = {
	{"id", READ_TEXT, AS_IT_IS},
	{"livemode", READ_ORIGIN_FLAG, AS_IT_IS},
	{"account", READ_ORIGIN_TEXT, AS_IT_IS},
	{"customer", READ_ID, AS_IT_IS},
	{"status", READ_TEXT, AS_IT_IS},
	{"currency", READ_TEXT, AS_IT_IS},
	{"collection_method", READ_TEXT, AS_IT_IS},
	{"billing_mode", READ_TEXT, "billing_mode", "type", NULL},
	{"items", READ_ITEMS, AS_IT_IS},
	{"current_period_start", READ_PERIOD_START, AS_IT_IS},
	{"current_period_end", READ_PERIOD_END, AS_IT_IS},
	{"trial_start", READ_TIME, AS_IT_IS},
	{"trial_end", READ_TIME, AS_IT_IS},
	{"cancel_at", READ_TIME, AS_IT_IS},
	{"cancel_at_period_end", READ_FLAG, NULL, NULL, "false"},
	{"canceled_at", READ_TIME, AS_IT_IS},
	{"ended_at", READ_TIME, AS_IT_IS},
	{"cancellation_reason", READ_TEXT, "cancellation_details", "reason", NULL},
	{"cancellation_feedback", READ_TEXT, "cancellation_details", "feedback", NULL},
	{"cancellation_feedback_option", READ_TEXT, "cancellation_details", "feedback_option", NULL},
	{"cancellation_comment", READ_TEXT, "cancellation_details", "comment", NULL},
	{"pause_collection", READ_JSON, AS_IT_IS},
	{"discounts", READ_DISCOUNTS, AS_IT_IS},
	{"default_payment_method", READ_ID, AS_IT_IS},
	{"latest_invoice", READ_ID, AS_IT_IS},
	{"schedule", READ_ID, AS_IT_IS},
	{"metadata", READ_JSON, AS_IT_IS},
	{"start_date", READ_TIME, AS_IT_IS},
	{"created", READ_TIME, AS_IT_IS},
	{"event", READ_ORIGIN_TEXT, AS_IT_IS},
	{"event_created", READ_ORIGIN_TIME, AS_IT_IS},
	{"refetch", READ_REFETCH_ITEMS, AS_IT_IS},
};

static const Column price_columns[] = {
	{"id", READ_TEXT, AS_IT_IS},
	{"livemode", READ_ORIGIN_FLAG, AS_IT_IS},
	{"account", READ_ORIGIN_TEXT, AS_IT_IS},
	{"product", READ_ID, AS_IT_IS},
	{"active", READ_FLAG, AS_IT_IS},
	{"currency", READ_TEXT, AS_IT_IS},
	{"type", READ_TEXT, AS_IT_IS},
	{"billing_scheme", READ_TEXT, AS_IT_IS},
	{"unit_amount", READ_BIGINT, AS_IT_IS},
	{"unit_amount_decimal", READ_NUMERIC, NULL, NULL, "unit_amount"},
	{"interval", READ_TEXT, "recurring", NULL, NULL},
	{"interval_count", READ_INTEGER, "recurring", NULL, NULL},
	{"usage_type", READ_TEXT, "recurring", NULL, NULL},
	{"tiers_mode", READ_TEXT, AS_IT_IS},
	{"tiers", READ_JSON, AS_IT_IS},
	{"transform_quantity", READ_JSON, AS_IT_IS},
	{"tax_behavior", READ_TEXT, AS_IT_IS},
	{"lookup_key", READ_TEXT, AS_IT_IS},
	{"nickname", READ_TEXT, AS_IT_IS},
	{"metadata", READ_JSON, AS_IT_IS},
	{"created", READ_TIME, AS_IT_IS},
	{"deleted", READ_ORIGIN_FLAG, AS_IT_IS},
	{"event", READ_ORIGIN_TEXT, AS_IT_IS},
	{"event_created", READ_ORIGIN_TIME, AS_IT_IS},
	{"refetch", READ_REFETCH_TIERS, AS_IT_IS},
};

/* An item, as far as it is put in order by it; its period in unix seconds. */
typedef struct SubItem
{
	JsonbContainer *object;		/* NULL: it is no hash */
	char	   *id;
	int64		start;
	int64		end;
	bool		has_start;
	bool		has_end;
} SubItem;

static Datum read_row(FunctionCallInfo fcinfo, const Column *columns, int ncolumns);
static Datum read_column(const Column *column, JsonbContainer *object, JsonbContainer *origin,
						 bool *isnull);
static bool told_in_part(JsonbContainer *origin);
static char *as_text(const JsonbValue *value);
static char *text_of(JsonbContainer *object, const char *key);
static char *id_of(const JsonbValue *value);
static Datum text_or_null(const char *text, bool *isnull);
static Datum in_or_null(PGFunction in, const char *text, bool *isnull);
static Datum time_or_null(const char *text, bool *isnull);
static SubItem *find_items(JsonbContainer *object, int *count);
static int	compare_items(const void *a, const void *b);
static Datum common_period(JsonbContainer *object, bool start, bool *isnull);
static Datum build_items(JsonbContainer *object);
static JsonbValue *push_discounts(JsonbParseState **state, JsonbContainer *object);
static void push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text);
static void push_number(JsonbParseState **state, bool known, int64 number);

/*
 * stripe_portal.subscription_row(object jsonb, origin jsonb)
 * returns stripe_portal.subscription
 */
Datum
stripe_subscription_row(PG_FUNCTION_ARGS)
{
	return read_row(fcinfo, subscription_columns, lengthof(subscription_columns));
}

/*
 * stripe_portal.price_row(object jsonb, origin jsonb)
 * returns stripe_portal.price
 */
Datum
stripe_price_row(PG_FUNCTION_ARGS)
{
	return read_row(fcinfo, price_columns, lengthof(price_columns));
}

/*
 * What both have in common.
 */
static Datum
read_row(FunctionCallInfo fcinfo, const Column *columns, int ncolumns)
{
	JsonbContainer *object = &PG_GETARG_JSONB_P(0)->root;
	JsonbContainer *origin = &PG_GETARG_JSONB_P(1)->root;
	TupleDesc	tupdesc;
	Datum	   *values;
	bool	   *isnull;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values = palloc0(tupdesc->natts * sizeof(Datum));
	isnull = palloc(tupdesc->natts * sizeof(bool));
	for (int i = 0; i < tupdesc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(tupdesc, i)->attname);
		const Column *column = NULL;

		for (int n = 0; n < ncolumns && column == NULL; n++)
		{
			if (strcmp(columns[(i + n) % ncolumns].name, name) == 0)
				column = &columns[(i + n) % ncolumns];
		}
		if (column == NULL)
			elog(ERROR, "column \"%s\" cannot be read from an object", name);
		values[i] = read_column(column, object, origin, &isnull[i]);
	}
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
}

static Datum
read_column(const Column *column, JsonbContainer *object, JsonbContainer *origin, bool *isnull)
{
	const char *key = column->key ? column->key : column->name;
	JsonbContainer *from = column->hash ? sp_stripe_json_object(object, column->hash) : object;
	JsonbParseState *state = NULL;
	JsonbValue *value;
	char	   *text;

	*isnull = false;
	switch (column->reading)
	{
		case READ_TEXT:
			return text_or_null(text_of(from, key), isnull);
		case READ_ID:
			return text_or_null(id_of(sp_stripe_json_get(from, key)), isnull);
		case READ_TIME:
			return time_or_null(text_of(from, key), isnull);
		case READ_FLAG:
			text = text_of(from, key);
			return in_or_null(boolin, text ? text : column->otherwise, isnull);
		case READ_BIGINT:
			return in_or_null(int8in, text_of(from, key), isnull);
		case READ_INTEGER:
			return in_or_null(int4in, text_of(from, key), isnull);
		case READ_NUMERIC:
			text = text_of(from, key);
			return in_or_null(numeric_in, text ? text : text_of(from, column->otherwise), isnull);
		case READ_JSON:
			value = sp_stripe_json_get(from, key);
			*isnull = value == NULL || value->type == jbvNull;
			return *isnull ? (Datum) 0 : JsonbPGetDatum(JsonbValueToJsonb(value));
		case READ_ORIGIN_TEXT:
			return text_or_null(text_of(origin, key), isnull);
		case READ_ORIGIN_TIME:
			return in_or_null(timestamptz_in, text_of(origin, key), isnull);
		case READ_ORIGIN_FLAG:
			return in_or_null(boolin, text_of(origin, key), isnull);
		case READ_ITEMS:
			return build_items(object);
		case READ_DISCOUNTS:
			return JsonbPGetDatum(JsonbValueToJsonb(push_discounts(&state, object)));
		case READ_PERIOD_START:
		case READ_PERIOD_END:
			return common_period(object, column->reading == READ_PERIOD_START, isnull);
		case READ_REFETCH_ITEMS:
			/* perhaps only the first items are in the object */
			text = text_of(sp_stripe_json_object(object, "items"), "has_more");
			if (text != NULL && strcmp(text, "true") == 0)
				return BoolGetDatum(true);
			return in_or_null(boolin, text_of(origin, key), isnull);
		case READ_REFETCH_TIERS:
			/* no event has the tiers */
			text = text_of(object, "billing_scheme");
			if (text != NULL && strcmp(text, "tiered") == 0 &&
				sp_stripe_json_get(object, "tiers") == NULL && told_in_part(origin))
				return BoolGetDatum(true);
			return in_or_null(boolin, text_of(origin, key), isnull);
	}
	pg_unreachable();
}

/*
 * Whether what only Stripe's API tells is to be read: not if it was, nor of
 * what is deleted.
 */
static bool
told_in_part(JsonbContainer *origin)
{
	char	   *event = text_of(origin, "event");
	char	   *deleted = text_of(origin, "deleted");

	return event != NULL && *event != '\0' && deleted != NULL && strcmp(deleted, "false") == 0;
}

/*
 * A value as text, NULL for null.
 */
static char *
as_text(const JsonbValue *value)
{
	if (value == NULL)
		return NULL;
	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return value->val.boolean ? "true" : "false";
		case jbvBinary:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		default:
			elog(ERROR, "unexpected kind of jsonb value: %d", (int) value->type);
	}
}

static char *
text_of(JsonbContainer *object, const char *key)
{
	return as_text(sp_stripe_json_get(object, key));
}

/*
 * The id in a reference, which Stripe gives as a string or, expanded, as the
 * object.
 */
static char *
id_of(const JsonbValue *value)
{
	if (value != NULL && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		return text_of(value->val.binary.data, "id");
	return as_text(value);
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/*
 * A text as its type reads it; in is the type's input function, which raises
 * what it has to say.
 */
static Datum
in_or_null(PGFunction in, const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 :
		DirectFunctionCall3(in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/*
 * A time in unix seconds.
 */
static Datum
time_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 :
		DirectFunctionCall1(float8_timestamptz, DirectFunctionCall1(float8in, CStringGetDatum(text)));
}

/*
 * The items of a subscription, by id.
 */
static SubItem *
find_items(JsonbContainer *object, int *count)
{
	JsonbValue *data = sp_stripe_json_get(sp_stripe_json_object(object, "items"), "data");
	JsonbContainer *list;
	SubItem	   *items;

	*count = 0;
	if (data == NULL)
		return NULL;
	if (data->type != jbvBinary || !JsonContainerIsArray(data->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the items of the subscription are not a list")));

	list = data->val.binary.data;
	*count = JsonContainerSize(list);
	items = palloc0(Max(*count, 1) * sizeof(SubItem));
	for (int i = 0; i < *count; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(list, i);
		SubItem	   *item = &items[i];
		char	   *text;

		if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
			item->object = value->val.binary.data;
		item->id = text_of(item->object, "id");

		/*
		 * Until 2025-03-31.basil the subscription had the period, since then
		 * each item has its own; for a while both are sent, and the items are
		 * right.
		 */
		text = text_of(item->object, "current_period_start");
		if (text == NULL)
			text = text_of(object, "current_period_start");
		item->has_start = text != NULL;
		if (text != NULL)
			item->start = DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(text)));
		text = text_of(item->object, "current_period_end");
		if (text == NULL)
			text = text_of(object, "current_period_end");
		item->has_end = text != NULL;
		if (text != NULL)
			item->end = DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(text)));
	}
	if (*count > 1)
		qsort(items, *count, sizeof(SubItem), compare_items);
	return items;
}

/*
 * By id, as ORDER BY has it; without an id last.
 */
static int
compare_items(const void *a, const void *b)
{
	const char *left = ((const SubItem *) a)->id;
	const char *right = ((const SubItem *) b)->id;

	if (left == NULL || right == NULL)
		return (left == NULL) - (right == NULL);
	return varstr_cmp(left, strlen(left), right, strlen(right), DEFAULT_COLLATION_OID);
}

/*
 * What all items have in common, where their intervals differ: the latest
 * start, or the earliest end.
 */
static Datum
common_period(JsonbContainer *object, bool start, bool *isnull)
{
	int			count;
	SubItem	   *items = find_items(object, &count);
	int64		common = 0;

	*isnull = true;
	for (int i = 0; i < count; i++)
	{
		const SubItem *item = &items[i];

		if (start && item->has_start)
			common = *isnull ? item->start : Max(common, item->start);
		else if (!start && item->has_end)
			common = *isnull ? item->end : Min(common, item->end);
		else
			continue;
		*isnull = false;
	}
	return *isnull ? (Datum) 0 :
		DirectFunctionCall1(float8_timestamptz, Float8GetDatum((float8) common));
}

/*
 * The items, reduced to what the view subscription_item shows and the ids of
 * their discounts; times in unix seconds, as Stripe gives them.
 */
static Datum
build_items(JsonbContainer *object)
{
	int			count;
	SubItem	   *items = find_items(object, &count);
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
	{
		const SubItem *item = &items[i];
		JsonbValue *price = sp_stripe_json_get(item->object, "price");
		JsonbValue *product = sp_stripe_json_get(sp_stripe_json_object(item->object, "price"), "product");
		char	   *quantity = text_of(item->object, "quantity");

		if (price == NULL)
			price = sp_stripe_json_get(item->object, "plan");
		if (product == NULL)
			product = sp_stripe_json_get(sp_stripe_json_object(item->object, "plan"), "product");

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		sp_stripe_json_push_key(&state, "id");
		push_text(&state, WJB_VALUE, item->id);
		sp_stripe_json_push_key(&state, "price");
		push_text(&state, WJB_VALUE, id_of(price));
		sp_stripe_json_push_key(&state, "product");
		push_text(&state, WJB_VALUE, id_of(product));
		sp_stripe_json_push_key(&state, "quantity");
		push_number(&state, quantity != NULL, quantity == NULL ? 0 :
					DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(quantity))));
		sp_stripe_json_push_key(&state, "discounts");
		push_discounts(&state, item->object);
		sp_stripe_json_push_key(&state, "current_period_start");
		push_number(&state, item->has_start, item->start);
		sp_stripe_json_push_key(&state, "current_period_end");
		push_number(&state, item->has_end, item->end);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/*
 * The ids of the discounts of a subscription or an item, in the order in which
 * they come off.  Until 2025-03-31.basil there was a single one, at times
 * beside the list.
 */
static JsonbValue *
push_discounts(JsonbParseState **state, JsonbContainer *object)
{
	JsonbValue *list = sp_stripe_json_get(object, "discounts");
	JsonbValue *single = sp_stripe_json_get(object, "discount");

	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	if (list != NULL && list->type == jbvBinary && JsonContainerIsArray(list->val.binary.data) &&
		JsonContainerSize(list->val.binary.data) > 0)
	{
		for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
			push_text(state, WJB_ELEM, id_of(getIthJsonbValueFromContainer(list->val.binary.data, i)));
	}
	else if (single != NULL && single->type != jbvNull)
		push_text(state, WJB_ELEM, id_of(single));
	return pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value = {.type = jbvNull};

	if (text != NULL)
	{
		value.type = jbvString;
		value.val.string.val = unconstify(char *, text);
		value.val.string.len = strlen(text);
	}
	pushJsonbValue(state, token, &value);
}

static void
push_number(JsonbParseState **state, bool known, int64 number)
{
	JsonbValue	value = {.type = jbvNull};

	if (known)
	{
		value.type = jbvNumeric;
		value.val.numeric = int64_to_numeric(number);
	}
	pushJsonbValue(state, WJB_VALUE, &value);
}
