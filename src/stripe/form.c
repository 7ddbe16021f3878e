/*-------------------------------------------------------------------------
 *
 * form.c
 *	  Parameters as Stripe's API wants them: nested, form-encoded.
 *
 * The rules are those of Stripe's own clients: a hash is a[key], an array is
 * always indexed, a[0], null and the empty string are both "a=" (which clears
 * a parameter), and of an empty hash or array nothing is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/numeric.h"

#include "stripe/form.h"

static void append_value(StringInfo form, StringInfo name, JsonbValue *value);
static void append_container(StringInfo form, StringInfo name, JsonbContainer *container);
static void append_pair(StringInfo form, const char *name, const char *value, int length);
static void append_encoded(StringInfo out, const char *text, int length, const char *literal);

/*
 * Appends one pair, with "&" before it if it is not the first.  Name and value
 * are in the database's encoding; brackets in the name say how it is nested.
 */
void
sp_stripe_form_append(StringInfo form, const char *name, const char *value)
{
	StringInfoData encoded;

	initStringInfo(&encoded);
	append_encoded(&encoded, name, strlen(name), "[]");
	append_pair(form, encoded.data, value, strlen(value));
	pfree(encoded.data);
}

/*
 * Appends the text, percent-encoded, to stand in a part of a URL.
 */
void
sp_stripe_form_append_encoded(StringInfo out, const char *text)
{
	append_encoded(out, text, strlen(text), "");
}

/*
 * Appends all that is in the object, in jsonb's order of keys.
 *
 * Throws ERRCODE_INVALID_PARAMETER_VALUE when it is not an object.
 */
void
sp_stripe_form_append_jsonb(StringInfo form, Jsonb *params)
{
	StringInfoData name;

	if (!JB_ROOT_IS_OBJECT(params))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameters of a Stripe request must be a JSON object")));

	initStringInfo(&name);
	append_container(form, &name, &params->root);
	pfree(name.data);
}

/*
 * Appends what the (already encoded) name has as its value.
 */
static void
append_value(StringInfo form, StringInfo name, JsonbValue *value)
{
	char	   *number;

	switch (value->type)
	{
		case jbvNull:
			append_pair(form, name->data, "", 0);
			break;
		case jbvString:
			append_pair(form, name->data, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			/* Never an exponent, and "1.0" is 1, as it is in JavaScript. */
			number = numeric_normalize(value->val.numeric);
			append_pair(form, name->data, number, strlen(number));
			pfree(number);
			break;
		case jbvBool:
			if (value->val.boolean)
				append_pair(form, name->data, "true", 4);
			else
				append_pair(form, name->data, "false", 5);
			break;
		case jbvBinary:
			append_container(form, name, value->val.binary.data);
			break;
		default:
			elog(ERROR, "unexpected jsonb value type: %d", (int) value->type);
	}
}

/*
 * Appends the elements of an object or array, whose name is empty at the top.
 */
static void
append_container(StringInfo form, StringInfo name, JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	int			name_length = name->len;
	int			index = 0;

	check_stack_depth();

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_KEY:
				name->len = name_length;
				if (name_length > 0)
					appendStringInfoChar(name, '[');
				append_encoded(name, value.val.string.val, value.val.string.len, "[]");
				if (name_length > 0)
					appendStringInfoChar(name, ']');
				break;
			case WJB_ELEM:
				name->len = name_length;
				appendStringInfo(name, "[%d]", index++);
				append_value(form, name, &value);
				break;
			case WJB_VALUE:
				append_value(form, name, &value);
				break;
			default:
				break;
		}
	}

	name->len = name_length;
	name->data[name_length] = '\0';
}

static void
append_pair(StringInfo form, const char *name, const char *value, int length)
{
	if (form->len > 0)
		appendStringInfoChar(form, '&');
	appendStringInfoString(form, name);
	appendStringInfoChar(form, '=');
	append_encoded(form, value, length, "");
}

/*
 * Percent-encodes all but the unreserved characters of RFC 3986 and those that
 * are to stay literal, as UTF-8 whatever the database's encoding is.
 */
static void
append_encoded(StringInfo out, const char *text, int length, const char *literal)
{
	static const char hex[] = "0123456789ABCDEF";
	char	   *utf8 = pg_server_to_any(text, length, PG_UTF8);

	if (utf8 != text)
		length = strlen(utf8);

	for (int i = 0; i < length; i++)
	{
		unsigned char c = utf8[i];

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			(c >= '0' && c <= '9') ||
			(c != '\0' && (strchr("-_.~", c) != NULL || strchr(literal, c) != NULL)))
			appendStringInfoChar(out, c);
		else
		{
			appendStringInfoChar(out, '%');
			appendStringInfoChar(out, hex[c >> 4]);
			appendStringInfoChar(out, hex[c & 0x0F]);
		}
	}

	if (utf8 != text)
		pfree(utf8);
}
