/*-------------------------------------------------------------------------
 *
 * answer.h
 *	  What came back from Stripe: a JSON object, or an error to be reported.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_ANSWER_H
#define SP_STRIPE_ANSWER_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "stripe/transport.h"

/* What an error report says about the call. */
typedef struct SpStripeCall
{
	const char *method;
	const char *path;
	const char *idempotency_key;	/* of a POST, else NULL */
	const char *key;			/* must not show in any message */
	int			nattempts;
	bool		maybe_done;		/* an earlier attempt may have had its effect */
} SpStripeCall;

extern Jsonb *sp_stripe_read_answer(const SpStripeCall *call, SpHttpAnswer *answer);
extern text *sp_stripe_read_json(const SpStripeCall *call, SpHttpAnswer *answer);
extern bool sp_stripe_is_rate_limit(const SpHttpAnswer *answer);
extern bool sp_stripe_is_invalid(const SpHttpAnswer *answer);
extern bool sp_stripe_is_missing(const SpHttpAnswer *answer);
extern TimestampTz sp_stripe_answer_time(const SpStripeCall *call, const SpHttpAnswer *answer);

#endif							/* SP_STRIPE_ANSWER_H */
