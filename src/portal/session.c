/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Opening Stripe's customer portal.
 *
 * The order is: rule, call, rule again while the ledger row is written (by
 * the trigger on stripe_portal.session).  Nothing is locked during the call,
 * so a cancellation may land in between; then the URL goes nowhere.  Nobody
 * but Stripe's server and the caller ever sees it: it is not stored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "access/access.h"
#include "billing/refresh.h"
#include "portal/return_url.h"
#include "portal/session.h"
#include "portal/token.h"
#include "query.h"
#include "stripe/form.h"
#include "stripe/json.h"
#include "stripe/request.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_portal_session);
PG_FUNCTION_INFO_V1(stripe_portal_open);
PG_FUNCTION_INFO_V1(stripe_check_return_url);

#define SESSIONS_PATH "/v1/billing_portal/sessions"

char	   *sp_return_url;
char	   *sp_return_hosts;
static int	sp_return_token_lifetime;
static bool sp_refresh_unknown;
static bool sp_require_winback;
static char *sp_gateway_role;
static char *sp_customer_claim;

static SpQuery session_parameters = {
	.sql = "SELECT p.parameters, p.return_url FROM stripe_portal.session_parameters($1, $2, $3, $4, $5, $6) AS p",
	.expected = SPI_OK_SELECT,
	.types = {TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID}
};

static char *consider(SpWish *wish);
static char *consider_news(SpWish *wish);
static char *refusal(const SpWish *wish);
static void make_parameters(SpWish *wish);
static pg_uuid_t *make_id(void);
static void fill_return_urls(SpWish *wish, SpSession *session, char **return_url);
static void open_session(SpWish *wish, SpSession *session);
static char *make_form(const SpWish *wish, const char *return_url);
static JsonbContainer *offer_in_flow(const Jsonb *parameters);
static void take_offer_away(SpWish *wish);

/*
 * Settings.  Where customers may be sent is the administrator's business.
 */
void
sp_portal_init(void)
{
	DefineCustomBoolVariable("stripe_portal.refresh_unknown",
							 "Whether a customer that is not in the tables is read from Stripe before being refused.",
							 "So that a database that was never filled works for the first customer who comes.",
							 &sp_refresh_unknown,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("stripe_portal.return_hosts",
							   "Hosts that a return URL may lead to.",
							   "Separated by commas; *.example.com stands for every host below example.com; empty allows all.",
							   &sp_return_hosts,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("stripe_portal.return_url",
							   "Return URL of portal sessions that are opened without one.",
							   "Empty leaves it to the portal configuration at Stripe.",
							   &sp_return_url,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);

	DefineCustomIntVariable("stripe_portal.return_token_lifetime",
							"How long the {token} in a return URL works.",
							"From the moment the session is opened; each works once.",
							&sp_return_token_lifetime,
							24 * 60 * 60, 1, 366 * 24 * 60 * 60,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);

	/* these two are read in SQL, by stripe_my_portal_session */
	DefineCustomStringVariable("stripe_portal.customer_claim",
							   "Claim of a request's token that names the customer who is asking.",
							   "Dots lead into nested claims.",
							   &sp_customer_claim,
							   "stripe_customer",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("stripe_portal.gateway_role",
							   "Login role of the gateway whose tokens are believed.",
							   "It must let nobody run SQL of their own; empty believes no token.",
							   &sp_gateway_role,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);

	/* read in SQL, by stripe_portal_configure */
	DefineCustomBoolVariable("stripe_portal.require_winback",
							 "Refuse a configuration without cancellation while no win-back rule is active.",
							 "Otherwise it is a warning.",
							 &sp_require_winback,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
}

/*
 * stripe_portal_session(customer text, return_url text, flow text,
 *		subscription text, options jsonb) returns text
 */
Datum
stripe_portal_session(PG_FUNCTION_ARGS)
{
	SpWish		wish;
	SpSession		session = {0};
	char	   *reason;

	PreventCommandIfReadOnly("stripe_portal_session()");
	sp_portal_read_wish(fcinfo, &wish);

	reason = consider(&wish);
	if (reason != NULL)
	{
		SPI_connect();
		/* for what the error tells; it undoes this as well */
		sp_billing_apply(wish.news, wish.customer.account, wish.customer.livemode);
		sp_access_raise(&wish.customer, wish.flow, reason);
	}

	session.id = make_id();
	open_session(&wish, &session);

	SPI_connect();
	sp_billing_apply(wish.news, wish.customer.account, wish.customer.livemode);
	sp_portal_write_session(&wish, &session);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(session.url));
}

/*
 * stripe_portal_open(customer text, return_url text, flow text,
 *		subscription text, options jsonb)
 * returns (session uuid, url text, refused text)
 *
 * Only the rule's refusal is an answer; other errors stay errors.
 */
Datum
stripe_portal_open(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	SpWish		wish;
	SpSession		session = {0};
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		isnull[3] = {false};

	PreventCommandIfReadOnly("stripe_portal_open()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	sp_portal_read_wish(fcinfo, &wish);

	session.refused = consider(&wish);
	session.id = make_id();
	if (session.refused == NULL)
		open_session(&wish, &session);

	SPI_connect();
	sp_billing_apply(wish.news, wish.customer.account, wish.customer.livemode);
	if (session.refused == NULL)
	{
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		PG_TRY();
		{
			sp_portal_write_session(&wish, &session);
			ReleaseCurrentSubTransaction();
		}
		PG_CATCH();
		{
			ErrorData  *error;

			/* Undo before raising again: a caller may catch that. */
			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(context);
			CurrentResourceOwner = owner;
			if (error->sqlerrcode != ERRCODE_SP_NOT_ACTIVE)
				ReThrowError(error);

			/* The rule changed its mind during the call. */
			session.refused = refusal(&wish);
			if (session.refused == NULL)
				session.refused = "not_active";
		}
		PG_END_TRY();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	if (session.refused != NULL)
	{
		session.stripe_id = session.url = NULL;
		session.return_until = 0;
		sp_portal_write_session(&wish, &session);
	}
	SPI_finish();

	values[0] = UUIDPGetDatum(session.id);
	sp_portal_set_text(&values[1], &isnull[1], session.url);
	sp_portal_set_text(&values[2], &isnull[2], session.refused);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, isnull));
}

/*
 * Why the customer is refused, or NULL: then the parameters are made.  A
 * customer that is unknown here is first read from Stripe, if that is set.
 */
static char *
consider(SpWish *wish)
{
	char	   *reason;

	SPI_connect();
	reason = refusal(wish);
	if (reason == NULL)
		make_parameters(wish);
	SPI_finish();

	if (reason != NULL && strcmp(reason, "customer_unknown") == 0 && sp_refresh_unknown)
	{
		wish->news = sp_billing_read_customer(wish->customer.id, wish->customer.account,
											  wish->customer.livemode);
		if (wish->news != NIL)
			reason = consider_news(wish);
	}
	return reason;
}

/*
 * The same with what was read of the customer.  Its rows would stay locked
 * during the call that follows, so they are written for this question only,
 * and for good when the call is over.
 */
static char *
consider_news(SpWish *wish)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile reason = NULL;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		SPI_connect();
		sp_billing_apply(wish->news, wish->customer.account, wish->customer.livemode);
		reason = refusal(wish);
		if (reason == NULL)
			make_parameters(wish);
		SPI_finish();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (error != NULL)
		ReThrowError(error);
	return reason;
}

/*
 * What the rule says now; SPI is connected.  The answer outlives SPI.
 */
static char *
refusal(const SpWish *wish)
{
	char	   *reason = sp_access_refusal(&wish->customer, wish->flow, GetLatestSnapshot());
	char	   *copy;

	if (reason == NULL)
		return NULL;
	copy = SPI_palloc(strlen(reason) + 1);
	strcpy(copy, reason);
	return copy;
}

/*
 * Make what is sent of what is wished for, by the mirrored state; SPI is
 * connected.  Raises 22023 for what Stripe would refuse.
 */
static void
make_parameters(SpWish *wish)
{
	Datum		values[6];
	bool		isnull[6] = {false};
	bool		null;
	Jsonb	   *parameters;
	char	   *configured;

	sp_portal_set_text(&values[0], &isnull[0], wish->customer.id);
	values[1] = BoolGetDatum(wish->customer.livemode);
	sp_portal_set_text(&values[2], &isnull[2], wish->customer.account);
	sp_portal_set_text(&values[3], &isnull[3], wish->flow);
	sp_portal_set_text(&values[4], &isnull[4], wish->subscription);
	values[5] = JsonbPGetDatum(wish->options);
	sp_query_run(&session_parameters, values, isnull, InvalidSnapshot);

	parameters = DatumGetJsonbP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	wish->parameters = SPI_palloc(VARSIZE(parameters));
	memcpy(wish->parameters, parameters, VARSIZE(parameters));

	/* the configuration's goes before the setting's, and after the caller's */
	configured = sp_query_text(2);
	if (configured != NULL && !wish->return_url_given)
	{
		wish->return_url = SPI_palloc(strlen(configured) + 1);
		strcpy(wish->return_url, configured);
	}
	if (wish->return_url != NULL && sp_portal_check_return_url(wish->return_url, sp_return_hosts))
		wish->wants_token = true;
}

static pg_uuid_t *
make_id(void)
{
	return DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
}

/*
 * Fill in the ways back: *return_url, and those among the parameters.  What
 * the ledger keeps is the wish, which has no token in it.
 */
static void
fill_return_urls(SpWish *wish, SpSession *session, char **return_url)
{
	SpReturnValues values;
	JsonbParseState *state = NULL;
	JsonbIterator *iterator = JsonbIteratorInit(&wish->parameters->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue *filled = NULL;
	bool		is_return_url = false;

	values.customer = wish->customer.id;
	values.session = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(session->id)));
	values.token = NULL;
	if (wish->wants_token)
	{
		TimestampTz until = GetCurrentTimestamp() + sp_return_token_lifetime * USECS_PER_SEC;

		session->return_until = until - until % USECS_PER_SEC;
		values.token = sp_portal_make_token("return", session->id, &wish->customer, session->return_until);
	}

	if (wish->return_url != NULL)
		*return_url = sp_portal_fill_return_url(wish->return_url, sp_return_hosts, &values);

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			is_return_url = sp_stripe_json_is(&value, "return_url");
		else if ((token == WJB_VALUE || token == WJB_ELEM) && is_return_url && value.type == jbvString)
		{
			value.val.string.val =
				sp_portal_fill_return_url(pnstrdup(value.val.string.val, value.val.string.len),
										  sp_return_hosts, &values);
			value.val.string.len = strlen(value.val.string.val);
		}
		filled = pushJsonbValue(&state, token, token < WJB_BEGIN_ARRAY ? &value : NULL);
	}
	wish->parameters = JsonbValueToJsonb(filled);
}

/*
 * The call.  Fills in what Stripe answers.
 */
static void
open_session(SpWish *wish, SpSession *session)
{
	const char *account = *wish->customer.account != '\0' ? wish->customer.account : NULL;
	char	   *return_url = NULL;
	Jsonb	   *created = NULL;
	bool		refused_offer = false;
	JsonbContainer *answer;
	JsonbValue *livemode;

	fill_return_urls(wish, session, &return_url);

	/* the ledger wants to know which one it was */
	if (wish->subscription == NULL)
		wish->subscription =
			sp_stripe_json_text(sp_stripe_json_object(sp_stripe_json_object(&wish->parameters->root, "flow_data"),
													  wish->flow),
								"subscription");

	/*
	 * The coupon that a win-back rule offers is Stripe's to refuse, and then
	 * the flow's to do without: nobody is kept from cancelling for it.
	 */
	if (offer_in_flow(wish->parameters) != NULL && offer_in_flow(wish->options) == NULL)
	{
		created = sp_stripe_try("POST", SESSIONS_PATH, make_form(wish, return_url), account);
		refused_offer = created == NULL;
		if (refused_offer)
			take_offer_away(wish);
	}

	/* A fresh idempotency key: with an old one Stripe returns the old URL. */
	if (created == NULL)
		created = sp_stripe_request("POST", SESSIONS_PATH, make_form(wish, return_url), account, NULL);
	if (refused_offer)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("Stripe refused the coupon that a win-back rule offers in the cancel flow"),
				 errdetail("The flow was opened without it.")));
	answer = &created->root;

	session->retention_coupon = sp_stripe_json_text(sp_stripe_json_object(offer_in_flow(wish->parameters), "coupon_offer"), "coupon");
	session->stripe_id = sp_stripe_json_text(answer, "id");
	session->url = sp_stripe_json_text(answer, "url");
	session->locale = sp_stripe_json_text(answer, "locale");
	session->configuration = sp_stripe_json_text(answer, "configuration");
	if (session->configuration == NULL)
		session->configuration = sp_stripe_json_text(sp_stripe_json_object(answer, "configuration"), "id");

	livemode = sp_stripe_json_get(answer, "livemode");
	if (session->stripe_id == NULL || session->url == NULL || *session->url == '\0' ||
		livemode == NULL || livemode->type != jbvBool ||
		livemode->val.boolean != wish->customer.livemode)
		ereport(ERROR,
				(errcode(ERRCODE_SP_BAD_RESPONSE),
				 errmsg("Stripe's answer is not a portal session in %s mode",
						wish->customer.livemode ? "live" : "test")));
}

/*
 * The parameters as they are sent.
 */
static char *
make_form(const SpWish *wish, const char *return_url)
{
	StringInfoData form;

	initStringInfo(&form);
	sp_stripe_form_append(&form, "customer", wish->customer.id);
	if (return_url != NULL)
		sp_stripe_form_append(&form, "return_url", return_url);
	sp_stripe_form_append_jsonb(&form, wish->parameters);
	return form.data;
}

/*
 * The offer that parameters make in the cancel flow, or NULL.
 */
static JsonbContainer *
offer_in_flow(const Jsonb *parameters)
{
	return sp_stripe_json_object(sp_stripe_json_object(sp_stripe_json_object((JsonbContainer *) &parameters->root,
																			 "flow_data"),
													   "subscription_cancel"),
								 "retention");
}

static void
take_offer_away(SpWish *wish)
{
	Datum		path[] = {
		CStringGetTextDatum("flow_data"),
		CStringGetTextDatum("subscription_cancel"),
		CStringGetTextDatum("retention")
	};
	ArrayType  *array = construct_array(path, lengthof(path), TEXTOID, -1, false, TYPALIGN_INT);

	wish->parameters = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete_path,
														  JsonbPGetDatum(wish->parameters),
														  PointerGetDatum(array)));
}

/*
 * check_return_url(url text) returns void
 */
Datum
stripe_check_return_url(PG_FUNCTION_ARGS)
{
	sp_portal_check_return_url(text_to_cstring(PG_GETARG_TEXT_PP(0)), sp_return_hosts);
	PG_RETURN_VOID();
}
