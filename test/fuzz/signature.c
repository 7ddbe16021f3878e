/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  The signature header: accepted is exactly what the scheme says.
 *
 * The first line of an input is the header, the rest is the body.  Nobody
 * guesses an HMAC, so three bytes in the header stand for right ones: 1 and 2
 * for those under the secrets that are configured, 3 for that under another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/hmac.h>

#include "webhook/signature.h"

#include "fuzz.h"

#define NOW			INT64CONST(1700000000)
#define TOLERANCE	300

static char *const secrets[] = {"whsec_first", "whsec_second", "whsec_foreign"};

/*
 * The scheme, said a second time: the HMAC in hex, with OpenSSL's older call.
 */
static char *
hmac_hex(const char *secret, const char *timestamp, const char *payload, size_t payload_len)
{
	StringInfoData message;
	StringInfoData hex;
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned int mac_len;

	initStringInfo(&message);
	appendStringInfo(&message, "%s.", timestamp);
	appendBinaryStringInfo(&message, payload, payload_len);
	FUZZ_HOLDS(HMAC(EVP_sha256(), secret, strlen(secret), (unsigned char *) message.data, message.len,
					mac, &mac_len) != NULL);
	initStringInfo(&hex);
	for (unsigned int i = 0; i < mac_len; i++)
		appendStringInfo(&hex, "%02x", mac[i]);
	return hex.data;
}

/*
 * The value of the only "t=" in the header, if it is a number of at most 15
 * digits, else NULL.
 */
static char *
timestamp_of(const char *header)
{
	char	   *copy = pstrdup(header);
	char	   *found = NULL;
	char	   *element;

	while ((element = strsep(&copy, ",")) != NULL)
	{
		if (strncmp(element, "t=", 2) != 0)
			continue;
		if (found != NULL)
			return NULL;
		found = element + 2;
	}
	if (found == NULL || *found == '\0' || strlen(found) > 15 ||
		strspn(found, "0123456789") != strlen(found))
		return NULL;
	return found;
}

static bool
is_acceptable(const char *header, const char *payload, size_t payload_len)
{
	char	   *timestamp = timestamp_of(header);
	char	   *copy = pstrdup(header);
	char	   *element;
	bool		match = false;

	if (timestamp == NULL || payload_len == 0 || strlen(header) > 8192)
		return false;
	while ((element = strsep(&copy, ",")) != NULL)
	{
		for (int i = 0; i < 2; i++)
		{
			if (strcmp(element, psprintf("v1=%s", hmac_hex(secrets[i], timestamp, payload, payload_len))) == 0)
				match = true;
		}
	}
	return match && llabs(atoll(timestamp) - NOW) <= TOLERANCE;
}

void
fuzz_signature(FuzzInput *input)
{
	SpSecrets	configured = {2, (char **) secrets, 1};
	char	   *line = fuzz_line(input);
	size_t		payload_len;
	char	   *payload = fuzz_rest(input, &payload_len);
	char	   *timestamp = timestamp_of(line);
	StringInfoData filled;
	char	   *header;
	SpSignature verdict;

	initStringInfo(&filled);
	for (char *p = line; *p != '\0'; p++)
	{
		if (*p >= 1 && *p <= 3)
			appendStringInfoString(&filled, hmac_hex(secrets[*p - 1], timestamp ? timestamp : "",
													 payload, payload_len));
		else
			appendStringInfoChar(&filled, *p);
	}
	header = fuzz_exact(filled.data, filled.len);
	verdict = sp_webhook_check_signature(payload, payload_len, header, filled.len,
										 &configured, NOW, TOLERANCE);
	FUZZ_HOLDS((verdict == SP_SIGNATURE_GOOD) == is_acceptable(filled.data, payload, payload_len));

	/* What we sign ourselves is good, for that body and no other. */
	if (payload_len > 0)
	{
		header = sp_webhook_sign(payload, payload_len, secrets[1], NOW);
		FUZZ_HOLDS(sp_webhook_check_signature(payload, payload_len, header, strlen(header),
											  &configured, NOW, TOLERANCE) == SP_SIGNATURE_GOOD);
		payload[payload_len / 2] ^= 1;
		FUZZ_HOLDS(sp_webhook_check_signature(payload, payload_len, header, strlen(header),
											  &configured, NOW, TOLERANCE) == SP_SIGNATURE_NO_MATCH);
	}
}
