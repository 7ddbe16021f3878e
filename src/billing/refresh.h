/*-------------------------------------------------------------------------
 *
 * refresh.h
 *	  Reading one customer from Stripe now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_BILLING_REFRESH_H
#define SP_BILLING_REFRESH_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* An object as it was read, and as of when; missing: Stripe knows none such. */
typedef struct SpReading
{
	Jsonb	   *object;
	TimestampTz as_of;
	bool		missing;
} SpReading;

extern List *sp_billing_read_customer(const char *customer, const char *account, bool livemode);
extern void sp_billing_apply(List *readings, const char *account, bool livemode);
extern int	sp_billing_refresh(const char *customer, const char *account, bool livemode);

#endif							/* SP_BILLING_REFRESH_H */
