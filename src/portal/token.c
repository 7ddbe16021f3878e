/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Tokens that somebody outside brings back, signed with the API key.
 *
 * A token is the uuid of a row, the second it expires in and an HMAC-SHA256,
 * in 72 characters that need no encoding in a URL.  The HMAC is over these
 * two, the row's customer, account and mode, and what the token is for; so a
 * token proves nothing about another row, and tells nothing about its own.
 *
 * Nothing of a token is stored: it is made again from the row to be checked.
 * That it works once is for the row to see to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"

#include "compat.h"
#include "portal/token.h"
#include "stripe/request.h"
#include "stripe_portal.h"
#include "webhook/signature.h"

PG_FUNCTION_INFO_V1(stripe_token_id);
PG_FUNCTION_INFO_V1(stripe_token_require);

/*
 * Whole groups of three bytes: otherwise the last character would have bits
 * that mean nothing, and a token could be changed without harm.
 */
#define EXPIRES_LEN		6
#define HEAD_LEN		(UUID_LEN + EXPIRES_LEN)
#define TOKEN_LEN		(HEAD_LEN + SP_HMAC_LEN)
#define TOKEN_CHARS		(TOKEN_LEN / 3 * 4)

StaticAssertDecl(TOKEN_LEN % 3 == 0, "a token must fill its base64 characters");

static void append_subject(StringInfo message, const SpCustomer *customer);
static bool decode(const text *token, char *bytes);
static int64 unix_time(TimestampTz at);
pg_noreturn static void refuse(const char *problem);

/*
 * A token for the row with this id and customer, palloc'd.
 *
 * purpose is a word without a dot, one for each kind of row.  Throws
 * ERRCODE_SP_NOT_CONFIGURED without an API key.
 */
char *
sp_portal_make_token(const char *purpose, const pg_uuid_t *id,
					 const SpCustomer *customer, TimestampTz expires)
{
	const SpSecrets *keys = sp_stripe_require_keys();
	uint64		seconds = pg_hton64((uint64) unix_time(expires));
	StringInfoData message;
	unsigned char mac[SP_HMAC_LEN];
	char		bytes[TOKEN_LEN];
	char	   *token = palloc(TOKEN_CHARS + 1);

	memcpy(bytes, id->data, UUID_LEN);
	memcpy(bytes + UUID_LEN, (char *) &seconds + sizeof(seconds) - EXPIRES_LEN, EXPIRES_LEN);

	initStringInfo(&message);
	appendBinaryStringInfo(&message, bytes, HEAD_LEN);
	append_subject(&message, customer);
	sp_webhook_hmac(keys->values[0], purpose, strlen(purpose), message.data, message.len, mac);
	memcpy(bytes + HEAD_LEN, mac, SP_HMAC_LEN);

	/* void *: since 18 the bytes are unsigned */
	if (pg_b64_encode((void *) bytes, TOKEN_LEN, token, TOKEN_CHARS) != TOKEN_CHARS)
		elog(ERROR, "could not encode a token");
	token[TOKEN_CHARS] = '\0';
	for (char *p = token; *p != '\0'; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	return token;
}

/*
 * token_id(token text) returns uuid
 */
Datum
stripe_token_id(PG_FUNCTION_ARGS)
{
	char		bytes[TOKEN_LEN];
	pg_uuid_t  *id;

	if (!decode(PG_GETARG_TEXT_PP(0), bytes))
		PG_RETURN_NULL();
	id = palloc(sizeof(pg_uuid_t));
	memcpy(id->data, bytes, UUID_LEN);
	PG_RETURN_UUID_P(id);
}

/*
 * token_require(token text, purpose text, customer text, livemode boolean,
 *		account text) returns void
 *
 * customer, livemode and account are those of the row that the token names,
 * or NULL if there is none.  A forger must not learn which it was, so both are
 * one refusal after the same work.
 */
Datum
stripe_token_require(PG_FUNCTION_ARGS)
{
	const SpSecrets *keys = sp_stripe_require_keys();
	bool		known = !PG_ARGISNULL(2) && !PG_ARGISNULL(3) && !PG_ARGISNULL(4);
	SpCustomer	customer = {"", "", false};
	StringInfoData message;
	char	   *purpose;
	char		bytes[TOKEN_LEN];
	bool		match = false;
	uint64		expires = 0;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("purpose must not be null")));
	purpose = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (known)
	{
		customer.id = text_to_cstring(PG_GETARG_TEXT_PP(2));
		customer.livemode = PG_GETARG_BOOL(3);
		customer.account = text_to_cstring(PG_GETARG_TEXT_PP(4));
	}

	if (PG_ARGISNULL(0) || !decode(PG_GETARG_TEXT_PP(0), bytes))
		refuse("It was not made here, or has been changed.");

	initStringInfo(&message);
	appendBinaryStringInfo(&message, bytes, HEAD_LEN);
	append_subject(&message, &customer);
	for (int i = 0; i < keys->count; i++)
	{
		if (sp_webhook_hmac_matches(keys->values[i], purpose, strlen(purpose),
									message.data, message.len,
									(unsigned char *) bytes + HEAD_LEN))
			match = true;
	}
	if (!match || !known)
		refuse("It was not made here, or has been changed.");

	/* The time is worth a word only when the signature is good. */
	memcpy((char *) &expires + sizeof(expires) - EXPIRES_LEN, bytes + UUID_LEN, EXPIRES_LEN);
	if ((int64) pg_ntoh64(expires) <= unix_time(GetCurrentTimestamp()))
		refuse("It has expired.");
	PG_RETURN_VOID();
}

/*
 * Whose row it is.  No text holds a NUL, so nothing can be shifted from one
 * part to the other.
 */
static void
append_subject(StringInfo message, const SpCustomer *customer)
{
	appendStringInfoString(message, customer->account);
	appendStringInfoChar(message, '\0');
	appendStringInfoString(message, customer->id);
	appendStringInfoChar(message, '\0');
	appendStringInfoString(message, customer->livemode ? "live" : "test");
}

/*
 * The TOKEN_LEN bytes of a token; false if it can not be one.
 */
static bool
decode(const text *token, char *bytes)
{
	char		base64[TOKEN_CHARS];

	if (VARSIZE_ANY_EXHDR(token) != TOKEN_CHARS)
		return false;
	memcpy(base64, VARDATA_ANY(token), TOKEN_CHARS);
	for (int i = 0; i < TOKEN_CHARS; i++)
	{
		/* the server's decoder would skip spaces, and end at "=" */
		if (!((base64[i] >= 'A' && base64[i] <= 'Z') || (base64[i] >= 'a' && base64[i] <= 'z') ||
			  (base64[i] >= '0' && base64[i] <= '9') || base64[i] == '-' || base64[i] == '_'))
			return false;
		base64[i] = base64[i] == '-' ? '+' : base64[i] == '_' ? '/' : base64[i];
	}
	return pg_b64_decode(base64, TOKEN_CHARS, (void *) bytes, TOKEN_LEN) == TOKEN_LEN;
}

static int64
unix_time(TimestampTz at)
{
	return timestamptz_to_time_t(at);
}

static void
refuse(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_SP_TOKEN_REFUSED),
			 errmsg("token refused"),
			 errdetail_internal("%s", problem)));
}
