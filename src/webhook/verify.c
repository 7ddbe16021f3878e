/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  The signature check under the configured secrets, and its SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "stripe_portal.h"
#include "stripe/secret.h"
#include "webhook/webhook.h"

PG_FUNCTION_INFO_V1(stripe_verify_webhook_text);
PG_FUNCTION_INFO_V1(stripe_verify_webhook_bytea);
PG_FUNCTION_INFO_V1(stripe_sign_webhook);

static char *sp_webhook_secret;
static char *sp_webhook_secret_file;
static int	sp_tolerance;

static SpSecretSource webhook_secrets = {
	.name = "webhook_secret",
	.value = &sp_webhook_secret,
	.file = &sp_webhook_secret_file,
};

static bool verify_call(const char *payload, size_t payload_len, FunctionCallInfo fcinfo);
static int64 unix_time(TimestampTz at);

void
sp_webhook_init(void)
{
	sp_stripe_define_secret(&webhook_secrets,
							"stripe_portal.webhook_secret",
							"Signing secrets of the webhook endpoints, separated by commas.",
							"stripe_portal.webhook_secret_file",
							"File with the signing secrets of the webhook endpoints, one per line.");

	/* A wide window lets old deliveries be replayed: not for everybody. */
	DefineCustomIntVariable("stripe_portal.tolerance",
							"How far the time in a webhook signature may be from the time of arrival, before or after.",
							NULL,
							&sp_tolerance,
							300, 1, 86400,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);

	sp_webhook_init_ledger();
}

/*
 * Check a delivery by the settings, as of that time.
 *
 * sig may be NULL: no header.  A header with a NUL, or any other byte, is just
 * a bad header.  Raises ERRCODE_SP_NOT_CONFIGURED where no secret is set: to
 * answer "false" would hide that nothing can ever verify.
 */
SpSignature
sp_webhook_verify(const char *payload, size_t payload_len, text *sig, TimestampTz at)
{
	const SpSecrets *secrets = sp_stripe_secrets(&webhook_secrets);

	if (secrets->count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("no webhook secret is configured"),
				 errhint("Write the endpoint's signing secret (whsec_…) to a file that only the server's user can read, and name it in \"stripe_portal.webhook_secret_file\".")));

	if (sig == NULL)
		return SP_SIGNATURE_NO_HEADER;

	return sp_webhook_check_signature(payload, payload_len,
									  VARDATA_ANY(sig), VARSIZE_ANY_EXHDR(sig),
									  secrets, unix_time(at), sp_tolerance);
}

/*
 * Raise the error for a refused delivery.
 */
void
sp_webhook_refuse(SpSignature why)
{
	const char *hint;
	const char *detail = sp_webhook_refusal(why, &hint);

	ereport(ERROR,
			(errcode(ERRCODE_SP_SIGNATURE_REFUSED),
			 errmsg("webhook signature refused"),
			 errdetail_internal("%s", detail),
			 hint ? errhint("%s", hint) : 0));
}

/*
 * Why a delivery is refused, for each situation, and what to do about it if
 * there is something.
 */
const char *
sp_webhook_refusal(SpSignature why, const char **hint)
{
	*hint = NULL;
	switch (why)
	{
		case SP_SIGNATURE_GOOD:
			break;
		case SP_SIGNATURE_NO_PAYLOAD:
			return "The request body is empty.";
		case SP_SIGNATURE_NO_HEADER:
			*hint = "Only Stripe should know this endpoint's address; pass the request header \"Stripe-Signature\" as it arrived.";
			return "There is no Stripe-Signature header.";
		case SP_SIGNATURE_BAD_HEADER:
			return "The Stripe-Signature header is malformed.";
		case SP_SIGNATURE_NO_TIMESTAMP:
			return "The Stripe-Signature header has no timestamp.";
		case SP_SIGNATURE_NO_SCHEME:
			return "The Stripe-Signature header has no signature of scheme v1.";
		case SP_SIGNATURE_NO_MATCH:
			*hint = "Pass the raw request body, before any parsing, and configure the signing secret of this very endpoint and mode.";
			return "No signature in the header matches the request body under a configured secret.";
		case SP_SIGNATURE_TOO_OLD:
			*hint = "If the delivery waited in a queue, pass the time of its arrival.";
			return psprintf("The signature is good, but its timestamp is more than %d seconds old.", sp_tolerance);
		case SP_SIGNATURE_IN_FUTURE:
			*hint = "Check this server's clock.";
			return psprintf("The signature is good, but its timestamp is more than %d seconds ahead.", sp_tolerance);
	}
	elog(ERROR, "a good signature cannot be refused");
}

/*
 * The bytes that Stripe signed.  It signs and sends UTF-8; a database in
 * another encoding has converted a text on its way in, unless it is SQL_ASCII,
 * which takes everything as it comes.
 */
const char *
sp_webhook_signed_bytes(text *payload, size_t *len)
{
	char	   *bytes = VARDATA_ANY(payload);
	char	   *converted = GetDatabaseEncoding() == PG_SQL_ASCII ? bytes :
		pg_server_to_any(bytes, VARSIZE_ANY_EXHDR(payload), PG_UTF8);

	*len = converted == bytes ? VARSIZE_ANY_EXHDR(payload) : strlen(converted);
	return converted;
}

/*
 * stripe_verify_webhook(payload text, sig text, at timestamptz) returns boolean
 */
Datum
stripe_verify_webhook_text(PG_FUNCTION_ARGS)
{
	const char *payload;
	size_t		len;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	payload = sp_webhook_signed_bytes(PG_GETARG_TEXT_PP(0), &len);
	PG_RETURN_BOOL(verify_call(payload, len, fcinfo));
}

/*
 * stripe_verify_webhook(payload bytea, sig text, at timestamptz) returns boolean
 */
Datum
stripe_verify_webhook_bytea(PG_FUNCTION_ARGS)
{
	bytea	   *payload;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	payload = PG_GETARG_BYTEA_PP(0);
	PG_RETURN_BOOL(verify_call(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), fcinfo));
}

/*
 * The arguments that both forms have in common.  Never NULL: NOT NULL would
 * be as good as true to a careless IF.
 */
static bool
verify_call(const char *payload, size_t payload_len, FunctionCallInfo fcinfo)
{
	text	   *sig = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	TimestampTz at = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);

	return sp_webhook_verify(payload, payload_len, sig, at) == SP_SIGNATURE_GOOD;
}

/*
 * stripe_sign_webhook(payload text, secret text, at timestamptz) returns text
 */
Datum
stripe_sign_webhook(PG_FUNCTION_ARGS)
{
	const char *payload;
	size_t		len;
	char	   *secret;
	TimestampTz at;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	secret = PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strspn(secret, " \t\r\n") == strlen(secret))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("webhook secret must not be blank")));
	at = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);
	payload = sp_webhook_signed_bytes(PG_GETARG_TEXT_PP(0), &len);

	PG_RETURN_TEXT_P(cstring_to_text(sp_webhook_sign(payload, len, secret, unix_time(at))));
}

/*
 * Whole seconds since 1970, as Stripe counts; the infinities are far enough
 * from any timestamp as they are.
 */
static int64
unix_time(TimestampTz at)
{
	return at / USECS_PER_SEC +
		((int64) POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}
