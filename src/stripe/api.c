/*-------------------------------------------------------------------------
 *
 * api.c
 *	  The Stripe client's functions as SQL sees them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "stripe/form.h"
#include "stripe/request.h"

PG_FUNCTION_INFO_V1(stripe_api);
PG_FUNCTION_INFO_V1(stripe_form_encode);
PG_FUNCTION_INFO_V1(stripe_key_livemode);

static char *optional_text(FunctionCallInfo fcinfo, int argument);

/*
 * stripe_api(method text, path text, params jsonb, account text,
 *			  idempotency_key text) RETURNS jsonb
 */
Datum
stripe_api(PG_FUNCTION_ARGS)
{
	char	   *method = optional_text(fcinfo, 0);
	char	   *path = optional_text(fcinfo, 1);
	StringInfoData form;

	if (method == NULL || path == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("method and path of a Stripe request must not be null")));

	initStringInfo(&form);
	if (!PG_ARGISNULL(2))
		sp_stripe_form_append_jsonb(&form, PG_GETARG_JSONB_P(2));

	PG_RETURN_JSONB_P(sp_stripe_request(method, path, form.data,
										optional_text(fcinfo, 3),
										optional_text(fcinfo, 4)));
}

/*
 * form_encode(params jsonb) RETURNS text
 */
Datum
stripe_form_encode(PG_FUNCTION_ARGS)
{
	StringInfoData form;

	initStringInfo(&form);
	sp_stripe_form_append_jsonb(&form, PG_GETARG_JSONB_P(0));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(form.data, form.len));
}

/*
 * key_livemode() RETURNS boolean
 */
Datum
stripe_key_livemode(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sp_stripe_livemode());
}

static char *
optional_text(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument))
		return NULL;
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}
