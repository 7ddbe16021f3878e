/*-------------------------------------------------------------------------
 *
 * named.c
 *	  What Stripe's objects have in them of other objects.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "stripe/json.h"
#include "stripe/request.h"

PG_FUNCTION_INFO_V1(stripe_named_objects);

static List *find_named(List *named, JsonbContainer *container, int len);

/*
 * stripe_portal.named_objects(VARIADIC objects jsonb[]) returns jsonb
 *
 * One walk through each object.  Nobody else looks into all of its corners.
 */
Datum
stripe_named_objects(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *objects;
	bool	   *isnull;
	int			count;
	List	   *named = NIL;
	ListCell   *cell;
	JsonbParseState *state = NULL;

	deconstruct_array(array, JSONBOID, -1, false, TYPALIGN_INT, &objects, &isnull, &count);
	for (int i = 0; i < count; i++)
	{
		Jsonb	   *object;

		if (isnull[i])
			continue;
		object = DatumGetJsonbP(objects[i]);
		named = find_named(named, &object->root, VARSIZE(object) - VARHDRSZ);
	}

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, named)
		pushJsonbValue(&state, WJB_ELEM, lfirst(cell));
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/*
 * Append to a list what is named in a container.
 */
static List *
find_named(List *named, JsonbContainer *container, int len)
{
	static const char *const kinds[] = {"discount", "coupon", "price", "customer"};
	JsonbValue *kind = sp_stripe_json_get(container, "object");
	JsonbValue *id = sp_stripe_json_get(container, "id");
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;

	check_stack_depth();
	if (kind != NULL && kind->type == jbvString && id != NULL && id->type == jbvString &&
		sp_stripe_is_id(pnstrdup(id->val.string.val, id->val.string.len)))
	{
		for (int i = 0; i < (int) lengthof(kinds); i++)
		{
			JsonbValue *found;
			ListCell   *cell;
			bool		known = false;

			if (!sp_stripe_json_is(kind, kinds[i]))
				continue;
			foreach(cell, named)
			{
				found = lfirst(cell);
				known |= found->val.binary.len == len && memcmp(found->val.binary.data, container, len) == 0;
			}
			if (known)
				break;
			found = palloc(sizeof(JsonbValue));
			found->type = jbvBinary;
			found->val.binary.data = container;
			found->val.binary.len = len;
			named = lappend(named, found);
		}
	}

	iterator = JsonbIteratorInit(container);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvBinary)
			named = find_named(named, value.val.binary.data, value.val.binary.len);
	}
	return named;
}
