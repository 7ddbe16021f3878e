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
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "access/access.h"
#include "billing/refresh.h"
#include "portal/return_url.h"
#include "portal/token.h"
#include "query.h"
#include "stripe/form.h"
#include "stripe/json.h"
#include "stripe/request.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_portal_session);
PG_FUNCTION_INFO_V1(stripe_portal_open);
PG_FUNCTION_INFO_V1(stripe_session_require_active);
PG_FUNCTION_INFO_V1(stripe_check_return_url);

#define SESSIONS_PATH "/v1/billing_portal/sessions"

static char *sp_return_url;
static char *sp_return_hosts;
static int	sp_return_token_lifetime;
static bool sp_refresh_unknown;
static bool sp_require_winback;

/* What the caller asks for. */
typedef struct Wish
{
	SpCustomer	customer;
	char	   *flow;			/* SP_FLOW_PORTAL or Stripe's flow type */
	char	   *subscription;	/* NULL: the only one, if the flow takes one */
	char	   *return_url;		/* NULL leaves it to Stripe's configuration */
	bool		return_url_given;	/* by the caller, not by the setting */
	bool		wants_token;	/* this or another way back asks for one */
	Jsonb	   *options;
	Jsonb	   *parameters;		/* for Stripe, made of all these */
	List	   *news;			/* what was read of an unknown customer */
} Wish;

/*
 * The row of the ledger; an opened session has a stripe_id and a URL.  Its id
 * is made before the call, because the way back may name it.
 */
typedef struct Session
{
	pg_uuid_t  *id;
	TimestampTz return_until;	/* 0: no token was given out */
	char	   *stripe_id;
	char	   *configuration;
	char	   *locale;
	char	   *url;
	char	   *refused;
} Session;

static SpQuery insert_session = {
	.sql = "INSERT INTO stripe_portal.session (livemode, account, customer, flow, subscription,"
	" configuration, return_url, locale, stripe_id, refused, opened_by, id, return_until)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
	.expected = SPI_OK_INSERT,
	.types = {BOOLOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID}
};

static SpQuery keep_state = {
	.sql = "UPDATE stripe_portal.session AS s SET state = now.state, retention_coupon ="
	" $2 #>> '{flow_data,subscription_cancel,retention,coupon_offer,coupon}'"
	" FROM stripe_portal.session_state AS now WHERE now.session = s.id AND s.id = $1",
	.expected = SPI_OK_UPDATE,
	.types = {UUIDOID, JSONBOID}
};

static SpQuery session_parameters = {
	.sql = "SELECT p.parameters, p.return_url FROM stripe_portal.session_parameters($1, $2, $3, $4, $5, $6) AS p",
	.expected = SPI_OK_SELECT,
	.types = {TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID}
};

static void read_wish(FunctionCallInfo fcinfo, Wish *wish);
static void check_options(Wish *wish);
static char *consider(Wish *wish);
static char *consider_news(Wish *wish);
static char *refusal(const Wish *wish);
static void make_parameters(Wish *wish);
static pg_uuid_t *make_id(void);
static void fill_return_urls(Wish *wish, Session *session, char **return_url);
static void open_session(Wish *wish, Session *session);
static char *make_form(const Wish *wish, const char *return_url);
static JsonbContainer *offer_in_flow(const Jsonb *parameters);
static void take_offer_away(Wish *wish);
static void write_session(const Wish *wish, Session *session);
static void set_text(Datum *value, bool *isnull, const char *string);

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
	Wish		wish;
	Session		session = {0};
	char	   *reason;

	PreventCommandIfReadOnly("stripe_portal_session()");
	read_wish(fcinfo, &wish);

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
	write_session(&wish, &session);
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
	Wish		wish;
	Session		session = {0};
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		isnull[3] = {false};

	PreventCommandIfReadOnly("stripe_portal_open()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	read_wish(fcinfo, &wish);

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
			write_session(&wish, &session);
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
		write_session(&wish, &session);
	}
	SPI_finish();

	values[0] = UUIDPGetDatum(session.id);
	set_text(&values[1], &isnull[1], session.url);
	set_text(&values[2], &isnull[2], session.refused);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, isnull));
}

/*
 * The arguments that both functions have in common, checked.
 */
static void
read_wish(FunctionCallInfo fcinfo, Wish *wish)
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
check_options(Wish *wish)
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

/*
 * Why the customer is refused, or NULL: then the parameters are made.  A
 * customer that is unknown here is first read from Stripe, if that is set.
 */
static char *
consider(Wish *wish)
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
consider_news(Wish *wish)
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
refusal(const Wish *wish)
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
make_parameters(Wish *wish)
{
	Datum		values[6];
	bool		isnull[6] = {false};
	bool		null;
	Jsonb	   *parameters;
	char	   *configured;

	set_text(&values[0], &isnull[0], wish->customer.id);
	values[1] = BoolGetDatum(wish->customer.livemode);
	set_text(&values[2], &isnull[2], wish->customer.account);
	set_text(&values[3], &isnull[3], wish->flow);
	set_text(&values[4], &isnull[4], wish->subscription);
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
fill_return_urls(Wish *wish, Session *session, char **return_url)
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
			is_return_url = value.val.string.len == strlen("return_url") &&
				memcmp(value.val.string.val, "return_url", strlen("return_url")) == 0;
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
open_session(Wish *wish, Session *session)
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
make_form(const Wish *wish, const char *return_url)
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
take_offer_away(Wish *wish)
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
 * The ledger's row; SPI is connected.  Raises ERRCODE_SP_NOT_ACTIVE if an
 * opened session no longer passes the rule.
 */
static void
write_session(const Wish *wish, Session *session)
{
	Datum		values[13];
	bool		isnull[13] = {false};

	values[0] = BoolGetDatum(wish->customer.livemode);
	set_text(&values[1], &isnull[1], wish->customer.account);
	set_text(&values[2], &isnull[2], wish->customer.id);
	set_text(&values[3], &isnull[3], wish->flow);
	set_text(&values[4], &isnull[4], wish->subscription);
	set_text(&values[5], &isnull[5], session->configuration);
	set_text(&values[6], &isnull[6], wish->return_url);
	set_text(&values[7], &isnull[7], session->locale);
	set_text(&values[8], &isnull[8], session->stripe_id);
	set_text(&values[9], &isnull[9], session->refused);
	/* inside SECURITY DEFINER, current_user would be the extension's owner */
	set_text(&values[10], &isnull[10], GetUserNameFromId(GetOuterUserId(), false));
	values[11] = UUIDPGetDatum(session->id);
	values[12] = TimestampTzGetDatum(session->return_until);
	isnull[12] = session->return_until == 0;

	if (sp_query_run(&insert_session, values, isnull, InvalidSnapshot) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("the portal session was not stored"),
				 errdetail("A trigger on stripe_portal.session left the row out.")));

	/* what the customer is going to change is told by what was there before */
	if (session->refused == NULL)
	{
		Datum		opened[2] = {UUIDPGetDatum(session->id), JsonbPGetDatum(wish->parameters)};

		sp_query_run(&keep_state, opened, NULL, InvalidSnapshot);
	}
}

/*
 * session_require_active() returns trigger
 *
 * The rule on the ledger itself.  A row from before this transaction that a
 * superuser inserts is history that a dump brings back: who lapsed since then
 * had a session all the same.
 */
Datum
stripe_session_require_active(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc	tupdesc;
	HeapTuple	row;
	SpCustomer	customer;
	char	   *flow;
	Datum		livemode;
	Datum		created;
	bool		no_livemode;
	bool		no_created;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("session_require_active() must be fired for each row by INSERT or UPDATE")));

	tupdesc = RelationGetDescr(trigdata->tg_relation);
	row = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;

	customer.id = SPI_getvalue(row, tupdesc, SPI_fnumber(tupdesc, "customer"));
	customer.account = SPI_getvalue(row, tupdesc, SPI_fnumber(tupdesc, "account"));
	flow = SPI_getvalue(row, tupdesc, SPI_fnumber(tupdesc, "flow"));
	livemode = SPI_getbinval(row, tupdesc, SPI_fnumber(tupdesc, "livemode"), &no_livemode);
	created = SPI_getbinval(row, tupdesc, SPI_fnumber(tupdesc, "created"), &no_created);

	/* The table's own constraints refuse these. */
	if (customer.id == NULL || customer.account == NULL || flow == NULL || no_livemode || no_created)
		return PointerGetDatum(row);

	/* SECURITY DEFINER makes everybody a superuser here, so ask who it was. */
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		DatumGetTimestampTz(created) < GetCurrentTransactionStartTimestamp() &&
		superuser_arg(GetOuterUserId()))
		return PointerGetDatum(row);

	customer.livemode = DatumGetBool(livemode);
	sp_access_require(&customer, flow);
	return PointerGetDatum(row);
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

static void
set_text(Datum *value, bool *isnull, const char *string)
{
	*isnull = string == NULL;
	*value = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}
