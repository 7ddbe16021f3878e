/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  What came back from Stripe: a JSON object, or an error to be reported.
 *
 * This is the only place where what Stripe or libcurl say becomes an error of
 * ours.  All of it is foreign text: it is never a format, it is cut to a
 * sensible length, and the API key is masked in it, should a message ever
 * repeat it.  Of a body that cannot be read nothing is shown at all, since it
 * may hold a portal's URL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#include "compat.h"
#include "stripe_portal.h"
#include "stripe/answer.h"
#include "stripe/json.h"
#include "stripe/settings.h"

/* Limits for what is shown of foreign text, in bytes. */
#define MAX_MESSAGE		500
#define MAX_WORD		100

#define REDIRECTED		"Stripe answered with a redirect, which is not followed"
#define NOT_JSON		"Stripe's answer is not JSON that can be stored"

/* The members of Stripe's error object that decide or are shown. */
typedef struct StripeError
{
	char	   *type;
	char	   *code;
	char	   *decline_code;
	char	   *param;
	char	   *message;
} StripeError;

static void report_failure(const SpStripeCall *call, const SpHttpAnswer *answer);
static void report_stripe_error(const SpStripeCall *call, const SpHttpAnswer *answer);
pg_noreturn static void report_bad_answer(const SpStripeCall *call, const SpHttpAnswer *answer,
										  const char *what);
static StripeError parse_stripe_error(const SpHttpAnswer *answer);
static int	stripe_error_code(int status, const StripeError *error);
static const char *stripe_error_hint(const SpStripeCall *call, int status, const StripeError *error);
static char *describe_answer(const SpStripeCall *call, const SpHttpAnswer *answer,
							 const StripeError *error);
static Jsonb *parse_json(const char *text, size_t length);
static char *check_json(const char *text, size_t length, bool escapes);
static char *ascii_json(const char *text, size_t length);
static char *printable(const SpStripeCall *call, const char *text, int limit);
static bool is_word(const char *text, const char *word);

/*
 * Gives the JSON of a successful answer, in the current memory context; the
 * answer's body is freed.  Everything else is reported as an error:
 *
 * 08001 when the request never reached Stripe, 08006 when it may have, but no
 * answer came; ERRCODE_SP_BAD_RESPONSE for an answer that is not Stripe's; and
 * the code that ERRCODE_SP_* has for the kind of error that Stripe answered.
 */
Jsonb *
sp_stripe_read_answer(const SpStripeCall *call, SpHttpAnswer *answer)
{
	Jsonb	   *result;

	if (answer->outcome != SP_ANSWERED)
		report_failure(call, answer);
	if (answer->status >= 400)
		report_stripe_error(call, answer);
	if (answer->status >= 300)
		report_bad_answer(call, answer, REDIRECTED);

	result = parse_json(answer->body, answer->length);
	if (result == NULL)
		report_bad_answer(call, answer, NOT_JSON);

	pfree(answer->body);
	return result;
}

/*
 * The same for a bulk read, as the text of a json value, so that it stays as
 * Stripe wrote it.  What Stripe says about one object is an answer here, that
 * there is none for example; what would befall every request is an error.
 */
text *
sp_stripe_read_json(const SpStripeCall *call, SpHttpAnswer *answer)
{
	char	   *json;
	text	   *result;

	if (answer->outcome != SP_ANSWERED)
		report_failure(call, answer);
	if (answer->status == 401 || answer->status == 429 || answer->status >= 500)
		report_stripe_error(call, answer);
	if (answer->status >= 300 && answer->status < 400)
		report_bad_answer(call, answer, REDIRECTED);

	json = check_json(answer->body, answer->length, false);
	if (json == NULL && answer->status >= 400)
		report_stripe_error(call, answer);
	if (json == NULL)
		report_bad_answer(call, answer, NOT_JSON);

	result = cstring_to_text(json);
	pfree(answer->body);
	return result;
}

/*
 * Does Stripe say that requests come too fast?  Normally that is its status,
 * but 400 with a code of that name has been seen.
 */
bool
sp_stripe_is_rate_limit(const SpHttpAnswer *answer)
{
	return answer->status == 429 ||
		(answer->status == 400 &&
		 is_word(parse_stripe_error(answer).code, "rate_limit"));
}

/*
 * Does Stripe find fault with the parameters?
 */
bool
sp_stripe_is_invalid(const SpHttpAnswer *answer)
{
	return answer->outcome == SP_ANSWERED && answer->status == 400 &&
		!sp_stripe_is_rate_limit(answer);
}

/*
 * Does Stripe say that there is no such object?
 */
bool
sp_stripe_is_missing(const SpHttpAnswer *answer)
{
	return answer->outcome == SP_ANSWERED && answer->status == 404 &&
		is_word(parse_stripe_error(answer).code, "resource_missing");
}

/*
 * As of when does an answer tell the state?  By Stripe's own clock, like the
 * time of an event, in whole seconds: what the answer shows is at least as new.
 *
 * The Date header is from the moment when the answer left, but what it shows
 * may have been read as early as the request came.  In between an event can
 * have happened that the answer does not know of yet, so that time is taken
 * off: an answer must never pass for newer than it is.
 *
 * Throws ERRCODE_SP_BAD_RESPONSE if there is no usable date.
 */
TimestampTz
sp_stripe_answer_time(const SpStripeCall *call, const SpHttpAnswer *answer)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct pg_tm tm = {0};
	char		month[4];
	char		zone[4];
	const char *found;
	TimestampTz result;

	/* Wed, 25 Nov 2026 22:33:34 GMT, the one form that HTTP has left */
	if (sscanf(answer->date, "%*3s, %2d %3s %4d %2d:%2d:%2d %3s", &tm.tm_mday, month, &tm.tm_year,
			   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, zone) != 7 ||
		strcmp(zone, "GMT") != 0 ||
		strlen(month) != 3 || (found = strstr(months, month)) == NULL || (found - months) % 3 != 0)
		report_bad_answer(call, answer, "Stripe's answer has no date");
	tm.tm_mon = (found - months) / 3 + 1;
	if (tm.tm_mday < 1 || tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] ||
		tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 ||
		tm2timestamp(&tm, 0, NULL, &result) != 0)
		report_bad_answer(call, answer, "Stripe's answer has no date");

	result -= answer->elapsed_us;
	return result - result % USECS_PER_SEC;
}

/*
 * Reports an exchange that ended without an answer.
 */
static void
report_failure(const SpStripeCall *call, const SpHttpAnswer *answer)
{
	static const char *const phases[] = {
		[SP_PHASE_DNS] = "looking up the host's name",
		[SP_PHASE_CONNECT] = "connecting",
		[SP_PHASE_TLS] = "setting up TLS",
		[SP_PHASE_WAIT] = "waiting for the answer",
		[SP_PHASE_READ] = "reading the answer",
	};
	bool		sent = answer->phase >= SP_PHASE_WAIT;
	bool		limit_is_connect = !sent && sp_connect_timeout < sp_timeout;
	char	   *problem = printable(call, answer->problem, MAX_MESSAGE);
	const char *hint = NULL;

	/* Whoever repeats the call with the same key learns what became of it. */
	if ((sent || call->maybe_done) && call->idempotency_key != NULL)
		hint = psprintf("Stripe may have carried out the request. Repeat it with the idempotency key \"%s\" to get its answer without doing it twice.",
						call->idempotency_key);

	switch (answer->outcome)
	{
		case SP_UNTRUSTED:
			ereport(ERROR,
					(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					 errmsg("certificate of \"%s\" is not trusted", sp_api_base),
					 errdetail("%s.", problem),
					 errhint("The authorities to trust are the system's, or those in the file that \"stripe_portal.ca_file\" names.")));
			break;

		case SP_TIMED_OUT:
			ereport(ERROR,
					(errcode(sent ? ERRCODE_CONNECTION_FAILURE :
							 ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					 errmsg("request to \"%s\" timed out while %s", sp_api_base, phases[answer->phase]),
					 errdetail("Attempt %d reached the limit of %d ms that \"%s\" sets.",
							   call->nattempts,
							   limit_is_connect ? sp_connect_timeout : sp_timeout,
							   limit_is_connect ? "stripe_portal.connect_timeout" : "stripe_portal.timeout"),
					 hint ? errhint("%s", hint) : 0));
			break;

		case SP_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_SP_BAD_RESPONSE),
					 errmsg("answer from \"%s\" is larger than %d MB",
							sp_api_base, SP_MAX_ANSWER_SIZE / (1024 * 1024)),
					 hint ? errhint("%s", hint) : 0));
			break;

		default:
			if (answer->phase == SP_PHASE_READ)
				ereport(ERROR,
						(errcode(ERRCODE_SP_BAD_RESPONSE),
						 errmsg("answer from \"%s\" was cut off", sp_api_base),
						 errdetail("Attempt %d failed: %s.", call->nattempts, problem),
						 hint ? errhint("%s", hint) : 0));
			else if (sent)
				ereport(ERROR,
						(errcode(ERRCODE_CONNECTION_FAILURE),
						 errmsg("connection to \"%s\" was lost while %s", sp_api_base, phases[answer->phase]),
						 errdetail("Attempt %d failed: %s.", call->nattempts, problem),
						 hint ? errhint("%s", hint) : 0));
			else
				ereport(ERROR,
						(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
						 errmsg("could not connect to \"%s\"", sp_api_base),
						 errdetail("Attempt %d failed while %s: %s.",
								   call->nattempts, phases[answer->phase], problem),
						 hint ? errhint("%s", hint) : 0));
			break;
	}
}

/*
 * Reports an answer that says that the request failed.
 */
static void
report_stripe_error(const SpStripeCall *call, const SpHttpAnswer *answer)
{
	StripeError error = parse_stripe_error(answer);
	const char *hint = stripe_error_hint(call, answer->status, &error);
	const char *message;

	if (error.message != NULL && *error.message != '\0')
		message = printable(call, error.message, MAX_MESSAGE);
	else
		message = psprintf("Stripe answered with HTTP status %d", answer->status);

	ereport(ERROR,
			(errcode(stripe_error_code(answer->status, &error)),
			 errmsg_internal("%s", message),
			 errdetail_internal("%s", describe_answer(call, answer, &error)),
			 hint ? errhint("%s", hint) : 0));
}

/*
 * Reports an answer that cannot be Stripe's.
 */
static void
report_bad_answer(const SpStripeCall *call, const SpHttpAnswer *answer, const char *what)
{
	StripeError none = {0};

	ereport(ERROR,
			(errcode(ERRCODE_SP_BAD_RESPONSE),
			 errmsg("%s", what),
			 errdetail_internal("%s", describe_answer(call, answer, &none)),
			 errhint("Check that \"stripe_portal.api_base\" (\"%s\") leads to Stripe's API.", sp_api_base)));
}

/*
 * Reads the error object.  A body without one, like a proxy's page, leaves
 * everything NULL.
 */
static StripeError
parse_stripe_error(const SpHttpAnswer *answer)
{
	StripeError error = {0};
	Jsonb	   *json = NULL;
	JsonbContainer *object;

	/*
	 * The report must come out whatever it says, so what this database cannot
	 * represent is replaced.
	 */
	if (GetDatabaseEncoding() == PG_UTF8)
		json = parse_json(answer->body, answer->length);
	if (json == NULL)
	{
		char	   *ascii = ascii_json(answer->body, answer->length);

		json = parse_json(ascii, strlen(ascii));
	}
	if (json == NULL)
		return error;

	object = sp_stripe_json_object(&json->root, "error");
	error.type = sp_stripe_json_text(object, "type");
	error.code = sp_stripe_json_text(object, "code");
	error.decline_code = sp_stripe_json_text(object, "decline_code");
	error.param = sp_stripe_json_text(object, "param");
	error.message = sp_stripe_json_text(object, "message");
	return error;
}

static int
stripe_error_code(int status, const StripeError *error)
{
	if (status == 401)
		return ERRCODE_SP_AUTHENTICATION;
	if (status == 403)
		return ERRCODE_SP_PERMISSION;
	if (status == 402 || is_word(error->type, "card_error"))
		return ERRCODE_SP_CARD_ERROR;
	if (status == 404 || is_word(error->code, "resource_missing"))
		return ERRCODE_SP_MISSING;
	if (status == 409 || is_word(error->type, "idempotency_error"))
		return ERRCODE_SP_CONFLICT;
	if (status == 429 || is_word(error->code, "rate_limit"))
		return ERRCODE_SP_RATE_LIMITED;
	if (status >= 500 || is_word(error->type, "api_error"))
		return ERRCODE_SP_API_ERROR;
	return ERRCODE_SP_INVALID_REQUEST;
}

/*
 * What to do about the common ones, or NULL.
 */
static const char *
stripe_error_hint(const SpStripeCall *call, int status, const StripeError *error)
{
	switch (stripe_error_code(status, error))
	{
		case ERRCODE_SP_AUTHENTICATION:
			return "Check the key in the file that \"stripe_portal.api_key_file\" names.";
		case ERRCODE_SP_PERMISSION:
			if (strncmp(call->path, "/v1/billing_portal/", 19) == 0)
				return "A restricted key needs write access to the customer portal (rak_customer_portal_write).";
			return "Give the restricted key this permission in Stripe's Dashboard, or act for an account that is connected.";
		case ERRCODE_SP_MISSING:
			if (call->maybe_done && strcmp(call->method, "DELETE") == 0)
				return "An earlier attempt of this request lost its connection, and may have deleted the object.";
			if (is_word(error->code, "resource_missing"))
				return "An object exists in one account and one mode only: check that the API key is for this account, and for live or test mode as the object is.";
			return NULL;
		case ERRCODE_SP_CONFLICT:
			if (is_word(error->type, "idempotency_error") && status != 409)
				return "Use a new idempotency key when a parameter changes.";
			return NULL;
		case ERRCODE_SP_RATE_LIMITED:
			return "Try again later, and send fewer requests at once.";
		case ERRCODE_SP_INVALID_REQUEST:
			if (error->message != NULL && strncmp(error->message, "No configuration provided", 25) == 0)
				return "Save the customer portal's settings in Stripe's Dashboard, where test mode has its own, or pass a configuration.";
			return NULL;
		default:
			return NULL;
	}
}

/*
 * The facts about an answer, as a sentence.
 */
static char *
describe_answer(const SpStripeCall *call, const SpHttpAnswer *answer, const StripeError *error)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "HTTP status %d", answer->status);
	if (error->type != NULL)
		appendStringInfo(&text, ", type %s", printable(call, error->type, MAX_WORD));
	if (error->code != NULL)
		appendStringInfo(&text, ", code %s", printable(call, error->code, MAX_WORD));
	if (error->decline_code != NULL)
		appendStringInfo(&text, ", decline code %s", printable(call, error->decline_code, MAX_WORD));
	if (error->param != NULL)
		appendStringInfo(&text, ", parameter %s", printable(call, error->param, MAX_WORD));
	if (answer->request_id[0] != '\0')
		appendStringInfo(&text, ", request %s", printable(call, answer->request_id, MAX_WORD));
	if (call->nattempts > 1)
		appendStringInfo(&text, ", after %d attempts", call->nattempts);
	appendStringInfoChar(&text, '.');
	return text.data;
}

/*
 * Parses JSON in UTF-8, or returns NULL for what is not JSON or no jsonb.
 *
 * The input function would quote the text in its error, so it is called only
 * for what it will accept.  Still thrown are the server's own errors for a
 * stack that is too deep, a number beyond numeric's range and, in a database
 * with another encoding than UTF-8, a character that this has not.
 */
static Jsonb *
parse_json(const char *text, size_t length)
{
	char	   *json = check_json(text, length, true);

	if (json == NULL)
		return NULL;
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/*
 * A copy of the text in the database's encoding if it is JSON in UTF-8, else
 * NULL.  It has U+FFFD for the escape \u0000; other escapes that the database
 * can not represent matter for jsonb, which holds none of them.
 */
static char *
check_json(const char *text, size_t length, bool escapes)
{
	JsonLexContext *lex;
	char	   *converted;

	if (length == 0 || !pg_verify_mbstr(PG_UTF8, text, length, true))
		return NULL;

	converted = pg_any_to_server(text, length, PG_UTF8);
	if (converted == text)
		converted = pnstrdup(text, length);
	/* one such escape, and not even json's operators could read the rest */
	sp_stripe_json_replace_nul(converted);
	length = strlen(converted);

#if PG_VERSION_NUM >= 170000
	lex = makeJsonLexContextCstringLen(NULL, converted, length, GetDatabaseEncoding(), escapes);
#else
	lex = makeJsonLexContextCstringLen(converted, length, GetDatabaseEncoding(), escapes);
#endif
	if (pg_parse_json(lex, &nullSemAction) != JSON_SUCCESS)
		return NULL;
	return converted;
}

/*
 * A copy of JSON text in which all but ASCII, written out or escaped, is "?".
 */
static char *
ascii_json(const char *text, size_t length)
{
	char	   *copy = palloc(length + 1);
	char	   *out = copy;

	for (size_t i = 0; i < length; i++)
	{
		if (text[i] == '\\' && i + 5 < length && text[i + 1] == 'u')
		{
			*out++ = '?';
			i += 5;
		}
		else if (text[i] == '\\' && i + 1 < length)
		{
			*out++ = text[i++];
			*out++ = text[i];
		}
		else
			*out++ = (IS_HIGHBIT_SET(text[i]) || text[i] == '\0') ? '?' : text[i];
	}
	*out = '\0';
	return copy;
}

/*
 * The first line of foreign text, fit to be shown: without the API key and
 * control characters, and at most limit bytes of it.
 */
static char *
printable(const SpStripeCall *call, const char *text, int limit)
{
	size_t		key_length = strlen(call->key);
	StringInfoData out;
	int			length;

	initStringInfo(&out);
	for (const char *p = text; *p != '\0' && *p != '\n'; p++)
	{
		if (strncmp(p, call->key, key_length) == 0)
		{
			appendStringInfoString(&out, "********");
			p += key_length - 1;
		}
		else if ((unsigned char) *p < ' ' || *p == 0x7F)
			appendStringInfoChar(&out, ' ');
		else
			appendStringInfoChar(&out, *p);
	}

	/* What libcurl or a header says need not be in our encoding. */
	if (!pg_verifymbstr(out.data, out.len, true))
	{
		for (char *p = out.data; *p != '\0'; p++)
		{
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
		}
	}

	length = pg_mbcliplen(out.data, out.len, limit);
	if (length < out.len)
	{
		out.len = length;
		out.data[length] = '\0';
		appendStringInfoString(&out, "...");
	}
	return out.data;
}

static bool
is_word(const char *text, const char *word)
{
	return text != NULL && strcmp(text, word) == 0;
}
