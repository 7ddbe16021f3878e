/*-------------------------------------------------------------------------
 *
 * wish.c
 *	  Reading what a portal session is asked for.
 *
 * Nothing here knows the customer's state: what is refused is refused for
 * everybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "portal/return_url.h"
#include "portal/session.h"
#include "stripe/json.h"
#include "stripe/request.h"

static void check_options(SpWish *wish);

/*
 * The arguments that both functions have in common, checked.
 */
void
sp_portal_read_wish(FunctionCallInfo fcinfo, SpWish *wish)
{
	if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("customer must not be empty")));

	wish->customer.id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	wish->customer.account = "";	/* unless options name one */
	wish->customer.livemode = sp_stripe_livemode();
	wish->return_url = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	wish->flow = PG_ARGISNULL(2) ? SP_FLOW_PORTAL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	wish->subscription = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	wish->news = NIL;
	wish->options = PG_ARGISNULL(4) ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")))
		: PG_GETARG_JSONB_P(4);

	wish->return_url_given = wish->return_url != NULL;
	if (wish->return_url == NULL && *sp_return_url != '\0')
		wish->return_url = sp_return_url;
	if (wish->return_url != NULL)
		sp_portal_check_return_url(wish->return_url, sp_return_hosts);
	wish->wants_token = false;	/* unless found to be so below */

	if (strcmp(wish->flow, SP_FLOW_ACCESS) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("flow \"%s\" is not a flow of the portal", wish->flow)));

	check_options(wish);
}

/*
 * options must not say again, or otherwise, what the rule decides on: who the
 * customer is, where the customer is sent, and which flow is opened.  The one
 * that is not Stripe's is account, the connected account to act for.
 */
static void
check_options(SpWish *wish)
{
	static const char *const taken[] = {"customer", "return_url"};
	JsonbContainer *root;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		is_return_url = false;

	root = &wish->options->root;
	if (!JsonContainerIsObject(root) || JsonContainerIsScalar(root))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object")));

	/* "flow_data[type]" would be the same to Stripe as the hash */
	iterator = JsonbIteratorInit(root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		char	   *key;

		/* after_completion may redirect, which is a way back like any other */
		if ((token == WJB_VALUE || token == WJB_ELEM) && is_return_url && value.type == jbvString &&
			sp_portal_check_return_url(pnstrdup(value.val.string.val, value.val.string.len),
									   sp_return_hosts))
			wish->wants_token = true;
		if (token != WJB_KEY)
			continue;
		key = pnstrdup(value.val.string.val, value.val.string.len);
		if (*key == '\0' || strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(key))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid option name \"%s\"", key),
					 errhint("Nest options as JSON objects and arrays, with Stripe's plain parameter names.")));
		is_return_url = strcmp(key, "return_url") == 0;
	}

	for (size_t i = 0; i < lengthof(taken); i++)
	{
		if (sp_stripe_json_get(root, taken[i]) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("options must not have \"%s\"", taken[i]),
					 errhint("The function's arguments decide that.")));
	}

	if (sp_stripe_json_get(root, "account") != NULL)
	{
		wish->customer.account = sp_stripe_json_text(root, "account");
		if (wish->customer.account == NULL || *wish->customer.account == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"account\" must be the id of a connected account")));
	}

	if (sp_stripe_json_get(root, "flow_data") != NULL)
	{
		JsonbContainer *flow_data = sp_stripe_json_object(root, "flow_data");

		if (flow_data == NULL || strcmp(wish->flow, SP_FLOW_PORTAL) == 0 ||
			sp_stripe_json_get(flow_data, "type") != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("options must not choose the flow"),
					 errhint("Name the flow by the argument \"flow\"; \"flow_data\" may add to it.")));
	}
}
