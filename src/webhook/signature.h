/*-------------------------------------------------------------------------
 *
 * signature.h
 *	  Stripe's webhook signature scheme.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_WEBHOOK_SIGNATURE_H
#define SP_WEBHOOK_SIGNATURE_H

#include "stripe/secret.h"

/* What a look at a delivery found; everything but the first is a refusal. */
typedef enum SpSignature
{
	SP_SIGNATURE_GOOD,
	SP_SIGNATURE_NO_PAYLOAD,
	SP_SIGNATURE_NO_HEADER,
	SP_SIGNATURE_BAD_HEADER,
	SP_SIGNATURE_NO_TIMESTAMP,
	SP_SIGNATURE_NO_SCHEME,
	SP_SIGNATURE_NO_MATCH,
	SP_SIGNATURE_TOO_OLD,
	SP_SIGNATURE_IN_FUTURE
} SpSignature;

extern SpSignature sp_webhook_check_signature(const char *payload, size_t payload_len,
											  const char *header, size_t header_len,
											  const SpSecrets *secrets,
											  int64 at, int tolerance);
extern char *sp_webhook_sign(const char *payload, size_t payload_len,
							 const char *secret, int64 at);

/* The same primitive, for what the extension signs itself. */
#define SP_HMAC_LEN		32

extern void sp_webhook_hmac(const char *secret, const char *prefix, size_t prefix_len,
							const char *message, size_t message_len, unsigned char *mac);
extern bool sp_webhook_hmac_matches(const char *secret, const char *prefix, size_t prefix_len,
									const char *message, size_t message_len,
									const unsigned char *mac);

#endif							/* SP_WEBHOOK_SIGNATURE_H */
