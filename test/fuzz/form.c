/*-------------------------------------------------------------------------
 *
 * form.c
 *	  The form encoder: what it writes is read again as what was meant.
 *
 * An input is a JSON object.  A walk over it and a decoder of the form, both
 * of our own, go through the two side by side.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "stripe/form.h"

#include "fuzz.h"

typedef struct FormRun
{
	char	   *json;
	Jsonb	   *params;
	StringInfoData form;
} FormRun;

static void
read_params(void *arg)
{
	FormRun    *run = arg;

	pg_verify_mbstr(PG_UTF8, run->json, strlen(run->json), false);
	run->params = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(run->json)));
}

static void
encode(void *arg)
{
	FormRun    *run = arg;

	initStringInfo(&run->form);
	sp_stripe_form_append_jsonb(&run->form, run->params);
}

/*
 * What stands in the form up to one of the bytes in end, decoded; moves on to
 * there.  Only what a form may hold may stand there.
 */
static char *
decode(const char **form, const char *end)
{
	StringInfoData plain;

	initStringInfo(&plain);
	for (; **form != '\0' && strchr(end, **form) == NULL; (*form)++)
	{
		unsigned int byte;

		if (**form == '%')
		{
			FUZZ_HOLDS(strspn(*form + 1, "0123456789ABCDEF") >= 2 && sscanf(*form + 1, "%2x", &byte) == 1);
			appendStringInfoChar(&plain, byte);
			*form += 2;
		}
		else
		{
			FUZZ_HOLDS(strchr("-_.~[]", **form) != NULL || isalnum((unsigned char) **form));
			appendStringInfoChar(&plain, **form);
		}
	}
	return plain.data;
}

/*
 * The next pair in the form is this name with this scalar.
 */
static void
check_pair(const char **form, const char *name, JsonbValue *value)
{
	char	   *text;

	FUZZ_HOLDS(strcmp(decode(form, "="), name) == 0);
	FUZZ_HOLDS(**form == '=');
	(*form)++;
	text = decode(form, "&");
	if (**form == '&')
		(*form)++;

	switch (value->type)
	{
		case jbvNull:
			FUZZ_HOLDS(*text == '\0');
			break;
		case jbvBool:
			FUZZ_HOLDS(strcmp(text, value->val.boolean ? "true" : "false") == 0);
			break;
		case jbvString:
			FUZZ_HOLDS(strcmp(text, pnstrdup(value->val.string.val, value->val.string.len)) == 0);
			break;
		case jbvNumeric:
			FUZZ_HOLDS(strspn(text, "-.0123456789") == strlen(text));
			FUZZ_HOLDS(strchr(text, '.') == NULL || text[strlen(text) - 1] != '0');
			FUZZ_HOLDS(DatumGetBool(DirectFunctionCall2(numeric_eq,
														NumericGetDatum(value->val.numeric),
														DirectFunctionCall3(numeric_in, CStringGetDatum(text),
																			ObjectIdGetDatum(InvalidOid),
																			Int32GetDatum(-1)))));
			break;
		default:
			FUZZ_HOLDS(false);
	}
}

/*
 * The next pairs in the form are the leaves of this hash or array.
 */
static void
check_container(const char **form, const char *name, JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *inner = NULL;
	int			index = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			inner = pnstrdup(value.val.string.val, value.val.string.len);
			if (*name != '\0')
				inner = psprintf("%s[%s]", name, inner);
			continue;
		}
		if (token == WJB_ELEM)
			inner = psprintf("%s[%d]", name, index++);
		else if (token != WJB_VALUE)
			continue;
		if (value.type == jbvBinary)
			check_container(form, inner, value.val.binary.data);
		else
			check_pair(form, inner, &value);
	}
}

void
fuzz_form(FuzzInput *input)
{
	FormRun		run = {.json = pnstrdup(input->at, input->left)};
	const char *form;
	ErrorData  *error;

	if (fuzz_try(read_params, &run) == NULL)
	{
		error = fuzz_try(encode, &run);
		FUZZ_HOLDS((error == NULL) == JB_ROOT_IS_OBJECT(run.params));
		if (error == NULL)
		{
			form = run.form.data;
			check_container(&form, "", &run.params->root);
			FUZZ_HOLDS(*form == '\0');
		}
		else
			FUZZ_HOLDS(error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE);
	}

	/* Any text as name, value and part of a URL. */
	initStringInfo(&run.form);
	sp_stripe_form_append(&run.form, run.json, run.json);
	form = run.form.data;
	FUZZ_HOLDS(strcmp(decode(&form, "="), run.json) == 0);
	form++;
	FUZZ_HOLDS(strcspn(form, "[]") == strlen(form));
	FUZZ_HOLDS(strcmp(decode(&form, "&"), run.json) == 0);
	FUZZ_HOLDS(*form == '\0');

	resetStringInfo(&run.form);
	sp_stripe_form_append_encoded(&run.form, run.json);
	form = run.form.data;
	FUZZ_HOLDS(strcspn(form, "[]") == strlen(form));
	FUZZ_HOLDS(strcmp(decode(&form, ""), run.json) == 0);
}
