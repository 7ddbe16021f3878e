/*-------------------------------------------------------------------------
 *
 * exclusive.c
 *	  Locks by name, until the end of the transaction, that nobody else can take.
 *
 * Advisory locks are everybody's: whoever may log in could hold one of ours and
 * keep the tick from its work.  These are on the extension itself, as an object,
 * in a part of it that nothing in SQL can name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_extension.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(stripe_lock);
PG_FUNCTION_INFO_V1(stripe_try_lock);

static bool lock(FunctionCallInfo fcinfo, bool wait);

/*
 * lock(name text) returns void
 */
Datum
stripe_lock(PG_FUNCTION_ARGS)
{
	lock(fcinfo, true);
	PG_RETURN_VOID();
}

/*
 * try_lock(name text) returns boolean
 */
Datum
stripe_try_lock(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(lock(fcinfo, false));
}

static bool
lock(FunctionCallInfo fcinfo, bool wait)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	uint32		hash = hash_bytes((unsigned char *) name, strlen(name));
	LOCKTAG		tag;

	/* Locks of the server's own on an extension have 0 for the last. */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, hash, 1);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}
