/*-------------------------------------------------------------------------
 *
 * request.c
 *	  One call of Stripe's API, with retries and errors.
 *
 * Why sending again is safe: a POST carries the same Idempotency-Key each
 * time, by which Stripe recognizes it for at least 24 hours; a GET changes
 * nothing; and what is deleted stays deleted.  Only the answer to a repeated
 * DELETE may be 404 because the first one worked, which is told as a hint.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "stripe_portal.h"
#include "stripe/answer.h"
#include "stripe/request.h"
#include "stripe/settings.h"
#include "stripe/transport.h"
#include "stripe/wait.h"

/* Longer than this no Retry-After can make us wait. */
#define MAX_RETRY_AFTER_S	60

/* Stripe's limit for an idempotency key, used for an account as well. */
#define MAX_HEADER_VALUE	255

#define UUID_BYTES			16

static void check_method(const char *method, const char *path, const char *idempotency_key);
static void check_path(const char *path);
static void check_header_value(const char *what, const char *value);
static bool is_test_key(const char *key);
static char *fresh_idempotency_key(void);
static void send_call(SpStripeCall *call, const SpHttpRequest *request, SpHttpAnswer *answer);
static void begin_context(SpStripeCall *call, ErrorContextCallback *context);
static void describe_request(void *arg);

/*
 * Calls Stripe's API and gives its answer, allocated in the current memory
 * context.
 *
 * form holds the encoded parameters, which go into the body of a POST and the
 * query of anything else; it may be NULL.  So may account, the connected
 * account to act for, and idempotency_key; a POST gets a fresh key then.
 *
 * Throws ERRCODE_INVALID_PARAMETER_VALUE for an argument that cannot be sent,
 * ERRCODE_SP_NOT_CONFIGURED without an API key, ERRCODE_READ_ONLY_SQL_TRANSACTION
 * for anything but a GET where nothing may be written, and for what goes wrong
 * after that see sp_stripe_read_answer.
 */
Jsonb *
sp_stripe_request(const char *method, const char *path, const char *form,
				  const char *account, const char *idempotency_key)
{
	SpStripeCall call;
	SpHttpRequest request;
	SpHttpAnswer answer;
	ErrorContextCallback context;
	Jsonb	   *result;

	sp_stripe_prepare(&call, &request, method, path, form, account, idempotency_key);
	begin_context(&call, &context);
	send_call(&call, &request, &answer);
	result = sp_stripe_read_answer(&call, &answer);
	error_context_stack = context.previous;
	return result;
}

/*
 * The same, but gives NULL if Stripe finds fault with the parameters: for a
 * call that can do without some of them.
 */
Jsonb *
sp_stripe_try(const char *method, const char *path, const char *form, const char *account)
{
	SpStripeCall call;
	SpHttpRequest request;
	SpHttpAnswer answer;
	ErrorContextCallback context;
	Jsonb	   *result = NULL;

	sp_stripe_prepare(&call, &request, method, path, form, account, NULL);
	begin_context(&call, &context);
	send_call(&call, &request, &answer);
	if (!sp_stripe_is_invalid(&answer))
		result = sp_stripe_read_answer(&call, &answer);
	error_context_stack = context.previous;
	return result;
}

/*
 * Reads an object or a page of a list, for being applied to the state: gives
 * it and, in *as_of, how new it is at least, by Stripe's clock.  NULL if Stripe
 * says that there is no such object.
 *
 * Throws as sp_stripe_request does, and ERRCODE_SP_BAD_RESPONSE for an answer
 * that does not tell the time.
 */
Jsonb *
sp_stripe_read(const char *path, const char *form, const char *account, TimestampTz *as_of)
{
	SpStripeCall call;
	SpHttpRequest request;
	SpHttpAnswer answer;
	ErrorContextCallback context;
	Jsonb	   *result = NULL;

	sp_stripe_prepare(&call, &request, "GET", path, form, account, NULL);
	begin_context(&call, &context);
	send_call(&call, &request, &answer);
	if (!sp_stripe_is_missing(&answer))
		result = sp_stripe_read_answer(&call, &answer);
	*as_of = sp_stripe_answer_time(&call, &answer);
	error_context_stack = context.previous;
	return result;
}

/*
 * Fills in what is sent and what an error will say of it.  Throws what
 * sp_stripe_request does before a request leaves.
 */
void
sp_stripe_prepare(SpStripeCall *call, SpHttpRequest *request, const char *method, const char *path,
				  const char *form, const char *account, const char *idempotency_key)
{
	bool		post = strcmp(method, "POST") == 0;
	int			nheaders = 0;

	check_method(method, path, idempotency_key);
	check_path(path);
	if (account != NULL)
		check_header_value("account", account);
	if (idempotency_key != NULL)
		check_header_value("idempotency key", idempotency_key);
	else if (post)
		idempotency_key = fresh_idempotency_key();

	/*
	 * What a request changes at Stripe is no change of this database, but a
	 * transaction that was declared read-only is not expected to make one.
	 */
	if (strcmp(method, "GET") != 0)
		PreventCommandIfReadOnly(psprintf("Stripe %s requests", method));

	memset(call, 0, sizeof(*call));
	call->method = method;
	call->path = path;
	call->idempotency_key = idempotency_key;
	call->key = sp_stripe_require_keys()->values[0];

	memset(request, 0, sizeof(*request));
	request->method = method;
	request->key = call->key;
	if (post)
	{
		request->url = psprintf("%s%s", sp_api_base, path);
		request->body = form != NULL ? form : "";
	}
	else if (form != NULL && *form != '\0')
		request->url = psprintf("%s%s?%s", sp_api_base, path, form);
	else
		request->url = psprintf("%s%s", sp_api_base, path);

	request->headers[nheaders++] = "Accept: application/json";
	request->headers[nheaders++] = "User-Agent: Stripe/v1 stripe_portal/" SP_VERSION;
	request->headers[nheaders++] = psprintf("Stripe-Version: %s", sp_api_version);
	if (account != NULL)
		request->headers[nheaders++] = psprintf("Stripe-Account: %s", account);
	if (post)
	{
		request->headers[nheaders++] = "Content-Type: application/x-www-form-urlencoded";
		request->headers[nheaders++] = psprintf("Idempotency-Key: %s", idempotency_key);
	}
	Assert(nheaders < (int) lengthof(request->headers));
}

/*
 * Sends the request, as often as it takes.
 */
static void
send_call(SpStripeCall *call, const SpHttpRequest *request, SpHttpAnswer *answer)
{
	for (;;)
	{
		sp_stripe_exchange(request, answer);
		call->nattempts++;
		if (call->nattempts > sp_max_retries || !sp_stripe_is_worth_retrying(answer))
			break;

		if (answer->outcome != SP_ANSWERED && answer->phase >= SP_PHASE_WAIT)
			call->maybe_done = true;
		if (answer->body != NULL)
			pfree(answer->body);
		sp_stripe_sleep(sp_stripe_retry_delay(call->nattempts, answer));
	}
}

/*
 * Does the configured key belong to live mode?  True unless it says that it is
 * for testing, and true without a key, so that in doubt it is the real thing.
 *
 * Throws ERRCODE_SP_NOT_CONFIGURED only for a key file that cannot be used.
 */
bool
sp_stripe_livemode(void)
{
	const SpSecrets *keys = sp_stripe_secrets(&sp_stripe_api_key);

	return keys->count == 0 || !is_test_key(keys->values[0]);
}

/*
 * The configured keys, of which the first is the one to send and to sign with.
 * The others only verify what they have signed while they were the first.
 *
 * Throws ERRCODE_SP_NOT_CONFIGURED if there is none, or both live and test.
 */
const SpSecrets *
sp_stripe_require_keys(void)
{
	const SpSecrets *keys = sp_stripe_secrets(&sp_stripe_api_key);

	if (keys->count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("no Stripe API key is configured"),
				 errhint("Put the key into a file that only the server's user may read, and set \"stripe_portal.api_key_file\" to its path.")));
	for (int i = 1; i < keys->count; i++)
	{
		if (is_test_key(keys->values[i]) != is_test_key(keys->values[0]))
			ereport(ERROR,
					(errcode(ERRCODE_SP_NOT_CONFIGURED),
					 errmsg("Stripe API keys of live and of test mode are configured together"),
					 errdetail("Requests are sent with the first; any others must be earlier keys of the same mode.")));
	}
	return keys;
}

static bool
is_test_key(const char *key)
{
	return strstr(key, "_test_") != NULL;
}

static void
check_method(const char *method, const char *path, const char *idempotency_key)
{
	bool		post = strcmp(method, "POST") == 0;

	if (!post && strcmp(method, "GET") != 0 && strcmp(method, "DELETE") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid method of a Stripe request: \"%s\"", method),
				 errhint("Use GET, POST or DELETE.")));
	if (post && strncmp(path, "/v2/", 4) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("POST requests to version 2 of Stripe's API are not supported"),
				 errdetail("They need a JSON body, and only form-encoded ones can be sent.")));
	if (!post && idempotency_key != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a Stripe %s request takes no idempotency key", method)));
}

/*
 * Whether a segment is "." or "..", with dots or slashes percent-encoded or not:
 * those move to another place, while dots within an id, which a merchant may
 * choose, do not.
 */
static bool
has_dot_segment(const char *path)
{
	int			dots = 0;		/* all there is of the segment; -1: it has more */

	for (const char *p = path;; p++)
	{
		char		c = *p;

		if (pg_strncasecmp(p, "%2e", 3) == 0 || pg_strncasecmp(p, "%2f", 3) == 0)
		{
			c = pg_tolower((unsigned char) p[2]) == 'e' ? '.' : '/';
			p += 2;
		}
		if (c == '.' && dots >= 0)
			dots++;
		else if (c == '/' || c == '\0')
		{
			if (dots == 1 || dots == 2)
				return true;
			dots = 0;
		}
		else
			dots = -1;
		if (c == '\0')
			return false;
	}
}

/*
 * Whether an object can have this id: one that a path takes.  Nothing could ever
 * be read again under any other.
 */
bool
sp_stripe_is_id(const char *id)
{
	return *id != '\0' && pg_mbstrlen(id) <= SP_MAX_ID_LEN && !has_dot_segment(id);
}

/*
 * Accepts a path only if it is exactly what Stripe will see.  An empty segment
 * is most likely an empty id, and "/v1/customers/" would list all customers
 * instead of telling about none; dots, "?" and "#" would address something
 * else than the caller meant.
 */
static void
check_path(const char *path)
{
	const char *objection = NULL;

	if (strncmp(path, "/v1/", 4) != 0 && strncmp(path, "/v2/", 4) != 0)
		objection = "It must begin with /v1/ or /v2/.";
	else if (strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~%:@!$&'()*+,;=") != strlen(path))
		objection = "It contains a character that must be percent-encoded, or a query, which belongs into the parameters.";
	else if (strstr(path, "//") != NULL || path[strlen(path) - 1] == '/')
		objection = "It has an empty segment; perhaps an id is empty.";
	else if (has_dot_segment(path))
		objection = "It has a segment \".\" or \"..\".";

	if (objection != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid path of a Stripe request: \"%s\"", path),
				 errdetail("%s", objection)));
}

/*
 * Accepts printable ASCII, so that no value can end its header.
 */
static void
check_header_value(const char *what, const char *value)
{
	bool		valid = *value != '\0' && strlen(value) <= MAX_HEADER_VALUE;

	for (const char *p = value; *p != '\0'; p++)
		valid = valid && *p > ' ' && *p <= '~';

	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s of a Stripe request", what),
				 errdetail("It must be 1 to %d characters of printable ASCII without spaces.",
						   MAX_HEADER_VALUE)));
}

/*
 * A random UUID, which is what Stripe recommends.
 */
static char *
fresh_idempotency_key(void)
{
	unsigned char uuid[UUID_BYTES];

	if (!pg_strong_random(uuid, sizeof(uuid)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));

	uuid[6] = (uuid[6] & 0x0F) | 0x40;	/* version 4, random */
	uuid[8] = (uuid[8] & 0x3F) | 0x80;	/* variant of RFC 4122 */
	return psprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
					uuid[0], uuid[1], uuid[2], uuid[3], uuid[4], uuid[5], uuid[6], uuid[7],
					uuid[8], uuid[9], uuid[10], uuid[11], uuid[12], uuid[13], uuid[14], uuid[15]);
}

/*
 * Could the same request succeed in a moment?  This is the rule of Stripe's own
 * clients, in their order, and then ours for a rate limit, with which they leave
 * their callers alone.
 */
bool
sp_stripe_is_worth_retrying(const SpHttpAnswer *answer)
{
	if (answer->outcome != SP_ANSWERED)
		return answer->outcome == SP_FAILED || answer->outcome == SP_TIMED_OUT;
	if (strcmp(answer->should_retry, "false") == 0)
		return false;
	if (strcmp(answer->should_retry, "true") == 0)
		return true;
	if (answer->status == 409 || answer->status >= 500)
		return true;
	return sp_stripe_is_rate_limit(answer);
}

/*
 * How many milliseconds to wait before the n-th retry: doubling from half a second to five
 * seconds, with jitter so that sessions that failed together do not come back
 * together, and what the peer asks for if that is longer.
 */
long
sp_stripe_retry_delay(int nretries, const SpHttpAnswer *answer)
{
	double		delay = Min(500.0 * (1 << (nretries - 1)), 5000.0);
	int			retry_after = 0;

	delay *= 0.5 + 0.5 * pg_prng_double(&pg_global_prng_state);
	delay = Max(delay, 500.0);

	/* Only seconds count: the other form, a date, depends on two clocks. */
	if (answer->outcome == SP_ANSWERED &&
		strspn(answer->retry_after, "0123456789") == strlen(answer->retry_after))
		retry_after = Min(strtoul(answer->retry_after, NULL, 10), MAX_RETRY_AFTER_S);

	return (long) Max(delay, retry_after * 1000.0);
}

/*
 * Errors from here on tell which request it was; the caller pops the context.
 */
static void
begin_context(SpStripeCall *call, ErrorContextCallback *context)
{
	context->callback = describe_request;
	context->arg = call;
	context->previous = error_context_stack;
	error_context_stack = context;
}

/*
 * Error context: which request it was, but nothing of its parameters.
 */
static void
describe_request(void *arg)
{
	SpStripeCall *call = arg;

	errcontext("Stripe request %s %s", call->method, call->path);
}
