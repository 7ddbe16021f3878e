/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  How long the ledger keeps events.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "webhook/webhook.h"

PG_FUNCTION_INFO_V1(stripe_ledger_horizon);

/*
 * Stripe sends an event again for up to 30 days.  One that has left the ledger
 * would be taken for new, and its handlers called again.
 */
#define MIN_RETENTION	31

static int	sp_event_retention;

static bool check_retention(int *newval, void **extra, GucSource source);

void
sp_webhook_init_ledger(void)
{
	/* It makes tend_ledger delete what cannot be had again: not for everybody. */
	DefineCustomIntVariable("stripe_portal.event_retention",
							"Days after which an event may leave the ledger, at least 31; 0 keeps all.",
							"By the event's own time. Failed events stay until they are resolved.",
							&sp_event_retention,
							0, 0, 36500,
							PGC_SUSET, 0,
							check_retention, NULL, NULL);
}

static bool
check_retention(int *newval, void **extra, GucSource source)
{
	if (*newval == 0 || *newval >= MIN_RETENTION)
		return true;
	GUC_check_errdetail("It must be 0 or at least %d: Stripe may send an event again for 30 days.",
						MIN_RETENTION);
	return false;
}

/*
 * stripe_portal.ledger_horizon() returns timestamptz
 *
 * In C because reading a setting from SQL does not load the library that
 * defines and checks it.
 */
Datum
stripe_ledger_horizon(PG_FUNCTION_ARGS)
{
	if (sp_event_retention == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(GetCurrentTransactionStartTimestamp() - sp_event_retention * USECS_PER_DAY);
}
