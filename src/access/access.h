/*-------------------------------------------------------------------------
 *
 * access.h
 *	  The active-subscriber rule.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_ACCESS_H
#define SP_ACCESS_H

#include "utils/snapshot.h"

#include "compat.h"

/* The flows that are not Stripe's. */
#define SP_FLOW_ACCESS	"access"
#define SP_FLOW_PORTAL	"portal"

typedef struct SpCustomer
{
	const char *id;				/* NULL is never let through */
	const char *account;		/* "" for the key's own */
	bool		livemode;
} SpCustomer;

/* What can be told without a query. */
typedef enum SpAccess
{
	SP_ACCESS_ASK,				/* nothing: it hangs on more */
	SP_ACCESS_YES,
	SP_ACCESS_NO
} SpAccess;

extern SpAccess sp_access_probe(const SpCustomer *customer, const char *flow, Snapshot snapshot);
extern char *sp_access_refusal(const SpCustomer *customer, const char *flow, Snapshot snapshot);
extern void sp_access_require(const SpCustomer *customer, const char *flow);
pg_noreturn extern void sp_access_raise(const SpCustomer *customer, const char *flow,
										const char *refusal);

#endif							/* SP_ACCESS_H */
