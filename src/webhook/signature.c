/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  Stripe's webhook signature scheme, and the HMAC that it is made of.
 *
 * A delivery carries one header line, t=<unix seconds>,v1=<hex>[,v1=<hex>…],
 * where each v1 is the HMAC-SHA256 of "<t>.<body>" under one of the secrets
 * that are valid at the moment.  The key is the whole secret as it is shown,
 * prefix whsec_ included.  Elements with other names are ignored: v0 is a
 * decoy, and whatever may come later must not be accepted by us unseen.
 *
 * This file knows bytes only: no SQL, no settings, no clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "stripe_portal.h"
#include "webhook/signature.h"

StaticAssertDecl(OPENSSL_VERSION_NUMBER >= 0x30000000L, "OpenSSL 3.0 or later is needed");

#define HEX_LEN			(2 * SP_HMAC_LEN)

/* Far longer than a header with every endpoint's secrets in rotation. */
#define MAX_HEADER_LEN	8192

/* Enough for any date, and safe in an int64. */
#define MAX_TIMESTAMP_DIGITS 15

static bool next_element(const char **cursor, const char *end,
						 const char **element, size_t *len);
static void sign_hex(const char *secret, const char *timestamp, size_t timestamp_len,
					 const char *payload, size_t payload_len, char *hex);

/*
 * Look at one delivery.
 *
 * at is the time to compare with, in unix seconds; tolerance, in seconds, is
 * for both directions: a clock that runs ahead is as wrong as a replay.
 * secrets must not be empty.  Takes time that depends on the lengths and on
 * the header's form, never on the secrets or on how much of a signature is
 * right.
 */
SpSignature
sp_webhook_check_signature(const char *payload, size_t payload_len,
						   const char *header, size_t header_len,
						   const SpSecrets *secrets, int64 at, int tolerance)
{
	const char *end = header + header_len;
	const char *cursor = header;
	const char *element;
	size_t		len;
	const char *timestamp = NULL;
	size_t		timestamp_len = 0;
	int64		t = 0;
	bool		has_v1 = false;
	bool		match = false;

	if (payload_len == 0)
		return SP_SIGNATURE_NO_PAYLOAD;
	if (header_len == 0)
		return SP_SIGNATURE_NO_HEADER;
	if (header_len > MAX_HEADER_LEN)
		return SP_SIGNATURE_BAD_HEADER;

	/* First pass: the timestamp, which every signature needs. */
	while (next_element(&cursor, end, &element, &len))
	{
		if (len >= 2 && strncmp(element, "t=", 2) == 0)
		{
			/* Two timestamps: nobody can tell which one was meant. */
			if (timestamp != NULL)
				return SP_SIGNATURE_BAD_HEADER;
			timestamp = element + 2;
			timestamp_len = len - 2;
		}
		else if (len >= 3 && strncmp(element, "v1=", 3) == 0)
			has_v1 = true;
	}

	if (timestamp_len == 0)
		return SP_SIGNATURE_NO_TIMESTAMP;
	if (timestamp_len > MAX_TIMESTAMP_DIGITS)
		return SP_SIGNATURE_BAD_HEADER;
	for (size_t i = 0; i < timestamp_len; i++)
	{
		if (timestamp[i] < '0' || timestamp[i] > '9')
			return SP_SIGNATURE_BAD_HEADER;
		t = t * 10 + (timestamp[i] - '0');
	}
	if (!has_v1)
		return SP_SIGNATURE_NO_SCHEME;

	/* Second pass: every v1 against every secret, without an early end. */
	for (int i = 0; i < secrets->count; i++)
	{
		char		expected[HEX_LEN];

		sign_hex(secrets->values[i], timestamp, timestamp_len, payload, payload_len, expected);
		cursor = header;
		while (next_element(&cursor, end, &element, &len))
		{
			if (len == 3 + HEX_LEN && strncmp(element, "v1=", 3) == 0 &&
				CRYPTO_memcmp(element + 3, expected, HEX_LEN) == 0)
				match = true;
		}
		OPENSSL_cleanse(expected, HEX_LEN);
	}

	/* The time is worth a word only when the signature is good. */
	if (!match)
		return SP_SIGNATURE_NO_MATCH;
	if (at - t > tolerance)
		return SP_SIGNATURE_TOO_OLD;
	if (t - at > tolerance)
		return SP_SIGNATURE_IN_FUTURE;
	return SP_SIGNATURE_GOOD;
}

/*
 * The header that Stripe would send for this payload at that time (unix
 * seconds), palloc'd.
 */
char *
sp_webhook_sign(const char *payload, size_t payload_len, const char *secret, int64 at)
{
	char		timestamp[32];
	char		hex[HEX_LEN];

	snprintf(timestamp, sizeof(timestamp), INT64_FORMAT, at);
	sign_hex(secret, timestamp, strlen(timestamp), payload, payload_len, hex);
	return psprintf("t=%s,v1=%.*s", timestamp, HEX_LEN, hex);
}

/*
 * Step through the header's comma-separated elements; false at the end.
 */
static bool
next_element(const char **cursor, const char *end, const char **element, size_t *len)
{
	const char *comma;

	if (*cursor == NULL)
		return false;
	comma = memchr(*cursor, ',', end - *cursor);
	*element = *cursor;
	*len = (comma ? comma : end) - *cursor;
	*cursor = comma ? comma + 1 : NULL;
	return true;
}

/*
 * HMAC-SHA256 of "timestamp.payload", as HEX_LEN lower-case digits.
 */
static void
sign_hex(const char *secret, const char *timestamp, size_t timestamp_len,
		 const char *payload, size_t payload_len, char *hex)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char mac[SP_HMAC_LEN];

	sp_webhook_hmac(secret, timestamp, timestamp_len, payload, payload_len, mac);
	for (int i = 0; i < SP_HMAC_LEN; i++)
	{
		hex[2 * i] = digits[mac[i] >> 4];
		hex[2 * i + 1] = digits[mac[i] & 15];
	}
	OPENSSL_cleanse(mac, sizeof(mac));
}

/*
 * HMAC-SHA256 of "prefix.message", SP_HMAC_LEN bytes.  The prefix says what
 * the signature is for: without a dot in it, and different for each purpose,
 * it keeps a signature for one from passing as one for another.
 *
 * The context is kept for the life of the backend: fetching the algorithm
 * costs more than computing it.  It is keyed anew by each call.
 */
void
sp_webhook_hmac(const char *secret, const char *prefix, size_t prefix_len,
				const char *message, size_t message_len, unsigned char *mac)
{
	static EVP_MAC_CTX *context = NULL;
	size_t		mac_len = 0;

	/* What somebody else left in the queue is not ours to report. */
	ERR_clear_error();

	if (context == NULL)
	{
		EVP_MAC    *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
		EVP_MAC_CTX *fresh = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
		OSSL_PARAM	params[] = {
			OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0),
			OSSL_PARAM_construct_end()
		};

		EVP_MAC_free(hmac);
		if (fresh != NULL && EVP_MAC_CTX_set_params(fresh, params))
			context = fresh;
		else
			EVP_MAC_CTX_free(fresh);
	}

	if (context == NULL ||
		!EVP_MAC_init(context, (const unsigned char *) secret, strlen(secret), NULL) ||
		!EVP_MAC_update(context, (const unsigned char *) prefix, prefix_len) ||
		!EVP_MAC_update(context, (const unsigned char *) ".", 1) ||
		!EVP_MAC_update(context, (const unsigned char *) message, message_len) ||
		!EVP_MAC_final(context, mac, &mac_len, SP_HMAC_LEN) ||
		mac_len != SP_HMAC_LEN)
	{
		unsigned long code = ERR_get_error();

		/* The server's own TLS reads the same queue. */
		ERR_clear_error();
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("could not compute an HMAC-SHA256"),
				 errdetail("OpenSSL error %lu.", code)));
	}
}

/*
 * Whether mac is that of sp_webhook_hmac, in a time that does not depend on
 * how much of it is right.
 */
bool
sp_webhook_hmac_matches(const char *secret, const char *prefix, size_t prefix_len,
						const char *message, size_t message_len, const unsigned char *mac)
{
	unsigned char expected[SP_HMAC_LEN];
	bool		match;

	sp_webhook_hmac(secret, prefix, prefix_len, message, message_len, expected);
	match = CRYPTO_memcmp(mac, expected, SP_HMAC_LEN) == 0;
	OPENSSL_cleanse(expected, sizeof(expected));
	return match;
}
