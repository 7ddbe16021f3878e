/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Tokens: one that is accepted is one that we made, for that row.
 *
 * The first three lines of an input are the row's customer, its account, and
 * for which other customer the token is brought back (empty: the same).  Then
 * come a byte of switches, four bytes that say when it expires, and pairs of
 * bytes: at that place of the token, change that.  What is left over, if there
 * is no pair, is brought back in its stead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/uuid.h"

#include "portal/token.h"
#include "stripe_portal.h"

#include "fuzz.h"

#define TOKEN_CHARS		72

/* The switches. */
#define OTHER_PURPOSE	1
#define OTHER_MODE		2
#define NO_ROW			4
#define ROTATED_KEY		8
#define RAW				16

typedef struct TokenRun
{
	text	   *token;
	const char *purpose;
	const char *customer;
	const char *account;
	bool		livemode;
	bool		no_row;
} TokenRun;

extern Datum stripe_token_id(PG_FUNCTION_ARGS);
extern Datum stripe_token_require(PG_FUNCTION_ARGS);

static const pg_uuid_t id = {{0x0b, 0x8f, 0x0d, 0x5e, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0xab, 0xcd}};

static void
require(void *arg)
{
	TokenRun   *run = arg;
	LOCAL_FCINFO(fcinfo, 5);

	InitFunctionCallInfoData(*fcinfo, NULL, 5, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(run->token);
	fcinfo->args[1].value = CStringGetTextDatum(run->purpose);
	fcinfo->args[2].value = CStringGetTextDatum(run->customer);
	fcinfo->args[3].value = BoolGetDatum(run->livemode);
	fcinfo->args[4].value = CStringGetTextDatum(run->account);
	for (int i = 0; i < 5; i++)
		fcinfo->args[i].isnull = run->no_row && i >= 2;
	stripe_token_require(fcinfo);
}

static void
set_keys(const char *keys)
{
	SetConfigOption("stripe_portal.api_key", keys, PGC_SUSET, PGC_S_SESSION);
}

void
fuzz_token(FuzzInput *input)
{
	char	   *customer = fuzz_line(input);
	char	   *account = fuzz_line(input);
	char	   *other = fuzz_line(input);
	SpCustomer	owner = {customer, account, true};
	TokenRun	run = {.purpose = "return", .customer = customer, .account = account, .livemode = true};
	unsigned char head[5] = {0};
	TimestampTz expires;
	int32		seconds;
	char	   *made;
	char	   *brought;
	size_t		len;
	bool		same_row;
	ErrorData  *error;

	memcpy(head, input->at, Min(input->left, sizeof(head)));
	input->at += Min(input->left, sizeof(head));
	input->left -= Min(input->left, sizeof(head));
	memcpy(&seconds, head + 1, sizeof(seconds));
	seconds %= 1000000000;		/* nobody makes a token for a time before 1970 */

	set_keys("sk_test_fuzz_first");
	expires = GetCurrentTimestamp() + (int64) seconds * USECS_PER_SEC;
	made = sp_portal_make_token("return", &id, &owner, expires);
	FUZZ_HOLDS(strlen(made) == TOKEN_CHARS);
	FUZZ_HOLDS(strspn(made, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == TOKEN_CHARS);

	if (head[0] & RAW)
		brought = fuzz_rest(input, &len);
	else
	{
		len = TOKEN_CHARS;
		brought = pstrdup(made);
		for (; input->left >= 2; input->at += 2, input->left -= 2)
			brought[(unsigned char) input->at[0] % len] ^= input->at[1];
	}
	run.token = cstring_to_text_with_len(brought, len);

	if (*other != '\0')
		run.customer = other;
	if (head[0] & OTHER_PURPOSE)
		run.purpose = "winback";
	if (head[0] & OTHER_MODE)
		run.livemode = false;
	run.no_row = (head[0] & NO_ROW) != 0;
	set_keys(head[0] & ROTATED_KEY ? "sk_test_fuzz_second,sk_test_fuzz_first" : "sk_test_fuzz_first");

	same_row = !run.no_row && run.livemode && strcmp(run.customer, customer) == 0 &&
		strcmp(run.purpose, "return") == 0;
	error = fuzz_try(require, &run);
	FUZZ_HOLDS(error == NULL || error->sqlerrcode == ERRCODE_SP_TOKEN_REFUSED);
	if (abs(seconds) > 5)		/* else it is a matter of this very moment */
		FUZZ_HOLDS((error == NULL) == (same_row && seconds > 0 &&
									   len == TOKEN_CHARS && memcmp(brought, made, len) == 0));

	/* Whatever has the form of a token names a row; nothing else does. */
	{
		LOCAL_FCINFO(fcinfo, 1);
		Datum		found;
		bool		well_formed = len == TOKEN_CHARS;

		InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
		fcinfo->args[0].value = PointerGetDatum(run.token);
		fcinfo->args[0].isnull = false;
		found = stripe_token_id(fcinfo);
		for (size_t i = 0; well_formed && i < len; i++)
			well_formed = isalnum((unsigned char) brought[i]) || brought[i] == '-' || brought[i] == '_';
		FUZZ_HOLDS(fcinfo->isnull == !well_formed);
		if (len == TOKEN_CHARS && memcmp(brought, made, len) == 0)
			FUZZ_HOLDS(memcmp(DatumGetUUIDP(found), &id, UUID_LEN) == 0);
	}
}
