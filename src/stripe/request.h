/*-------------------------------------------------------------------------
 *
 * request.h
 *	  One call of Stripe's API, with retries and errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_REQUEST_H
#define SP_STRIPE_REQUEST_H

#include "utils/jsonb.h"

#include "stripe/secret.h"

extern Jsonb *sp_stripe_request(const char *method, const char *path, const char *form,
								const char *account, const char *idempotency_key);
extern bool sp_stripe_livemode(void);
extern const SpSecrets *sp_stripe_require_keys(void);

#endif							/* SP_STRIPE_REQUEST_H */
