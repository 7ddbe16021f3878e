/*-------------------------------------------------------------------------
 *
 * stripe_portal.c
 *	  Module entry: a table of contents, nothing more.
 *
 * The library needs no preloading; it is loaded by the first call of one of
 * its functions, and defines its settings then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "compat.h"
#include "stripe_portal.h"

#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "stripe_portal",.version = SP_VERSION);
#else
PG_MODULE_MAGIC;
#endif

extern void _PG_init(void);

PG_FUNCTION_INFO_V1(stripe_plan_support);

void
_PG_init(void)
{
	sp_stripe_init();
	sp_webhook_init();
	sp_portal_init();
	sp_winback_init();

	MarkGUCPrefixReserved("stripe_portal");
}

/*
 * plan_support(internal) returns internal
 *
 * Has nothing to say to the planner, which loads this library by asking.  That
 * has to happen before a parallel query begins: a library that is loaded in
 * one, its settings in tow, is refused what was set for them before.
 */
Datum
stripe_plan_support(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(NULL);
}
