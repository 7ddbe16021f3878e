/*-------------------------------------------------------------------------
 *
 * change.c
 *	  From a row of table subscription to one of the subscription's history.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "stripe/json.h"

PG_FUNCTION_INFO_V1(stripe_read_change);

static Datum change_items(Jsonb *items);
static Datum change_discounts(Jsonb *discounts, Jsonb *items);
static void push_discounts(JsonbParseState **state, JsonbContainer *discounts, JsonbValue *item);

/*
 * stripe_portal.read_change(s stripe_portal.subscription, event_type text)
 * returns stripe_portal.subscription_change
 */
Datum
stripe_read_change(PG_FUNCTION_ARGS)
{
	HeapTupleHeader header;
	HeapTupleData tuple;
	TupleDesc	from;
	TupleDesc	tupdesc;
	Datum	   *given;
	bool	   *missing;
	Datum	   *values;
	bool	   *isnull;
	Jsonb	   *items = NULL;
	Jsonb	   *discounts = NULL;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	header = PG_GETARG_HEAPTUPLEHEADER(0);
	from = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	given = palloc(from->natts * sizeof(Datum));
	missing = palloc(from->natts * sizeof(bool));
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values = palloc0(tupdesc->natts * sizeof(Datum));
	isnull = palloc(tupdesc->natts * sizeof(bool));

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	heap_deform_tuple(&tuple, from, given, missing);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(tupdesc, i)->attname);
		const char *source = name;

		isnull[i] = true;
		if (strcmp(name, "subscription") == 0)
			source = "id";
		else if (strcmp(name, "at") == 0)
			source = "event_created";
		for (int n = 0; n < from->natts; n++)
		{
			Form_pg_attribute attribute = TupleDescAttr(from, n);

			if (strcmp(NameStr(attribute->attname), source) != 0 || missing[n])
				continue;
			values[i] = given[n];
			isnull[i] = false;
			if (strcmp(name, "items") == 0)
				items = DatumGetJsonbP(given[n]);
			else if (strcmp(name, "discounts") == 0)
				discounts = DatumGetJsonbP(given[n]);
			break;
		}
		if (strcmp(name, "event_type") == 0 && !PG_ARGISNULL(1))
		{
			values[i] = PG_GETARG_DATUM(1);
			isnull[i] = false;
		}
		else if (strcmp(name, "until") == 0)
		{
			values[i] = TimestampTzGetDatum(DT_NOEND);
			isnull[i] = false;
		}
		else if (strcmp(name, "inferred") == 0)
		{
			values[i] = BoolGetDatum(false);
			isnull[i] = false;
		}
	}
	for (int i = 0; i < tupdesc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(tupdesc, i)->attname);

		if (strcmp(name, "items") == 0)
			values[i] = change_items(items);
		else if (strcmp(name, "discounts") == 0)
			values[i] = change_discounts(discounts, items);
		else
			continue;
		isnull[i] = false;
	}
	ReleaseTupleDesc(from);
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
}

/*
 * The items of a subscription's row, for its history: the periods move on by
 * themselves, and are no change; the discounts have a column of their own.
 */
static Datum
change_items(Jsonb *items)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; items != NULL && i < (int) JB_ROOT_COUNT(items); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(&items->root, i);
		JsonbIterator *iterator = JsonbIteratorInit(item->val.binary.data);
		JsonbIteratorToken token;
		JsonbValue	value;

		while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
			{
				JsonbValue	key = value;

				token = JsonbIteratorNext(&iterator, &value, true);
				if (sp_stripe_json_is(&key, "current_period_start") || sp_stripe_json_is(&key, "current_period_end") ||
					sp_stripe_json_is(&key, "discounts"))
					continue;
				pushJsonbValue(&state, WJB_KEY, &key);
			}
			pushJsonbValue(&state, token, token < WJB_BEGIN_ARRAY ? &value : NULL);
		}
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/*
 * The discounts of a subscription's row, for its history, each with the item
 * that it is on if it is not on the whole subscription.
 */
static Datum
change_discounts(Jsonb *discounts, Jsonb *items)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	if (discounts != NULL)
		push_discounts(&state, &discounts->root, NULL);
	for (int i = 0; items != NULL && i < (int) JB_ROOT_COUNT(items); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(&items->root, i);
		JsonbValue *own = sp_stripe_json_get(item->val.binary.data, "discounts");

		if (own != NULL && own->type == jbvBinary)
			push_discounts(&state, own->val.binary.data, sp_stripe_json_get(item->val.binary.data, "id"));
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

static void
push_discounts(JsonbParseState **state, JsonbContainer *discounts, JsonbValue *item)
{
	for (uint32 i = 0; i < JsonContainerSize(discounts); i++)
	{
		pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		sp_stripe_json_push_key(state, "id");
		pushJsonbValue(state, WJB_VALUE, getIthJsonbValueFromContainer(discounts, i));
		if (item != NULL)
		{
			sp_stripe_json_push_key(state, "item");
			pushJsonbValue(state, WJB_VALUE, item);
		}
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
}
