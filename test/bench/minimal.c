/*
 * minimal.c
 *	  The least that a function has to do that checks Stripe's signatures: no
 *	  settings, no rotation, no word on what is wrong.  Only to measure with.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "fmgr.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(minimal_verify);

/* minimal_verify(payload text, sig text, secret text) returns boolean */
Datum
minimal_verify(PG_FUNCTION_ARGS)
{
	static EVP_MAC_CTX *context = NULL;
	static const char digits[] = "0123456789abcdef";
	text	   *payload = PG_GETARG_TEXT_PP(0);
	text	   *sig = PG_GETARG_TEXT_PP(1);
	text	   *secret = PG_GETARG_TEXT_PP(2);
	const char *header = VARDATA_ANY(sig);
	const char *end = header + VARSIZE_ANY_EXHDR(sig);
	const char *comma = memchr(header, ',', end - header);
	unsigned char mac[32];
	char		hex[64];
	size_t		len;
	int64		t = 0;

	if (comma == NULL || comma - header < 3 || end - comma != 4 + 64 ||
		memcmp(header, "t=", 2) != 0 || memcmp(comma, ",v1=", 4) != 0)
		PG_RETURN_BOOL(false);
	for (const char *c = header + 2; c < comma; c++)
		t = t * 10 + (*c - '0');
	t -= ((int64) POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	if (Abs(t - GetCurrentTimestamp() / USECS_PER_SEC) > 300)
		PG_RETURN_BOOL(false);

	if (context == NULL)
	{
		OSSL_PARAM	params[] = {
			OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0),
			OSSL_PARAM_construct_end()
		};

		context = EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "HMAC", NULL));
		EVP_MAC_CTX_set_params(context, params);
	}
	if (!EVP_MAC_init(context, (unsigned char *) VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), NULL) ||
		!EVP_MAC_update(context, (const unsigned char *) header + 2, comma - header - 2) ||
		!EVP_MAC_update(context, (const unsigned char *) ".", 1) ||
		!EVP_MAC_update(context, (unsigned char *) VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload)) ||
		!EVP_MAC_final(context, mac, &len, sizeof(mac)))
		elog(ERROR, "no HMAC");
	for (int i = 0; i < 32; i++)
	{
		hex[2 * i] = digits[mac[i] >> 4];
		hex[2 * i + 1] = digits[mac[i] & 15];
	}
	PG_RETURN_BOOL(CRYPTO_memcmp(hex, comma + 4, 64) == 0);
}
