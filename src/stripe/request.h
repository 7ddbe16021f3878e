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
#include "utils/timestamp.h"

#include "stripe/answer.h"

#include "stripe/secret.h"

extern Jsonb *sp_stripe_request(const char *method, const char *path, const char *form,
								const char *account, const char *idempotency_key);
extern Jsonb *sp_stripe_try(const char *method, const char *path, const char *form,
							const char *account);
extern Jsonb *sp_stripe_read(const char *path, const char *form, const char *account,
							 TimestampTz *as_of);
extern bool sp_stripe_is_id(const char *id);
extern bool sp_stripe_livemode(void);
extern const SpSecrets *sp_stripe_require_keys(void);

/* The parts of a call, for whoever has several in flight. */
extern void sp_stripe_prepare(SpStripeCall *call, SpHttpRequest *request,
							  const char *method, const char *path, const char *form,
							  const char *account, const char *idempotency_key);
extern bool sp_stripe_is_worth_retrying(const SpHttpAnswer *answer);
extern long sp_stripe_retry_delay(int nretries, const SpHttpAnswer *answer);

#endif							/* SP_STRIPE_REQUEST_H */
