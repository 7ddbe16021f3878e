/*-------------------------------------------------------------------------
 *
 * link.c
 *	  The link in a win-back message.
 *
 * A portal URL lives five minutes, a message lies around for days.  So what is
 * in the message is an address of the team's own, with a token in it for which
 * a session is opened whenever somebody comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "portal/return_url.h"
#include "portal/token.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_winback_link);

static char *sp_winback_url;

void
sp_winback_init(void)
{
	DefineCustomStringVariable("stripe_portal.winback_url",
							   "Where the link in a win-back message leads, with {token} in it.",
							   "Your page calls stripe_winback_open with the token, and redirects.",
							   &sp_winback_url,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);
}

/*
 * winback_link(offer uuid, customer text, livemode boolean, account text,
 *		expires timestamptz) returns text
 *
 * NULL if the setting is empty.
 */
Datum
stripe_winback_link(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *offer = PG_GETARG_UUID_P(0);
	SpCustomer	customer;
	SpReturnValues values = {"", "", NULL};
	const char *hosts = GetConfigOption("stripe_portal.return_hosts", false, false);

	if (*sp_winback_url == '\0')
		PG_RETURN_NULL();

	/* A mail is read by others: no id of the customer's, and no session yet. */
	if (!sp_portal_check_return_url(sp_winback_url, hosts) ||
		strstr(sp_winback_url, "{customer}") != NULL || strstr(sp_winback_url, "{session}") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"stripe_portal.winback_url\" must have {token} in it, and no other placeholder"),
				 errhint("For example: https://app.example.com/offer?t={token}.")));

	customer.id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	customer.livemode = PG_GETARG_BOOL(2);
	customer.account = text_to_cstring(PG_GETARG_TEXT_PP(3));
	values.token = sp_portal_make_token("winback", offer, &customer, PG_GETARG_TIMESTAMPTZ(4));
	PG_RETURN_TEXT_P(cstring_to_text(sp_portal_fill_return_url(sp_winback_url, hosts, &values)));
}
