/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Reading single members of what Stripe sends, and making the like.
 *
 * All that read take whatever container is there: Stripe's answers and events
 * are foreign, so a member of another type than expected is absent, not an
 * error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "stripe/json.h"

/*
 * The member of an object, palloc'd; NULL if there is none or object is NULL
 * or no object.
 */
JsonbValue *
sp_stripe_json_get(JsonbContainer *object, const char *key)
{
	if (object == NULL || !JsonContainerIsObject(object))
		return NULL;
	return getKeyJsonValueFromContainer(object, key, strlen(key), NULL);
}

/*
 * A member that is a hash itself, else NULL.
 */
JsonbContainer *
sp_stripe_json_object(JsonbContainer *object, const char *key)
{
	JsonbValue *value = sp_stripe_json_get(object, key);

	if (value == NULL || value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

/*
 * A member that is a string or a number, as text; else NULL.
 */
char *
sp_stripe_json_text(JsonbContainer *object, const char *key)
{
	JsonbValue *value = sp_stripe_json_get(object, key);

	if (value == NULL)
		return NULL;
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	return NULL;
}

/*
 * Whether a value, or a key, is this string.
 */
bool
sp_stripe_json_is(const JsonbValue *value, const char *string)
{
	return value->type == jbvString && value->val.string.len == (int) strlen(string) &&
		memcmp(value->val.string.val, string, value->val.string.len) == 0;
}

/*
 * The key of the member that comes next in the object that is being made.
 */
void
sp_stripe_json_push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

/*
 * The JSON text, changed in place to have \ufffd for every escape \u0000.  An
 * escaped backslash that happens to stand before "u0000" is left alone.
 */
char *
sp_stripe_json_replace_nul(char *json)
{
	if (strstr(json, "\\u0000") == NULL)
		return json;

	for (char *p = json; *p != '\0'; p++)
	{
		if (*p != '\\' || p[1] == '\0')
			continue;
		if (strncmp(p + 1, "u0000", 5) == 0)
			memcpy(p + 2, "fffd", 4);
		p++;
	}
	return json;
}
