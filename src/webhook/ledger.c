/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  Which events the ledger has, and how long it keeps them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "query.h"
#include "stripe_portal.h"

#include "webhook/webhook.h"

PG_FUNCTION_INFO_V1(stripe_ledger_horizon);

/*
 * Stripe sends an event again for up to 30 days.  One that has left the ledger
 * would be taken for new, and its handlers called again.
 */
#define MIN_RETENTION	31

/* The look-up in one partition. */
typedef struct Partition
{
	Oid			oid;
	SpQuery		find;
} Partition;

static int	sp_event_retention;

static bool check_retention(int *newval, void **extra, GucSource source);
static Oid	find_partition(const SpEvent *event);

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

/*
 * Whether an event is in the ledger, and whether there are any handlers, which
 * can be told in passing; SPI is connected.
 *
 * The look-up goes to the one partition that the event belongs to, and locks
 * it: so tend_ledger can neither attach nor drop it between the look-up and
 * the insertion that follows, and a month that is on its way into its
 * partition is waited for.  A query on the whole ledger would do the same, but
 * be planned for each event, which costs many times the look-up.
 */
bool
sp_webhook_is_stored(const SpEvent *event, bool *any_handlers)
{
	static HTAB *partitions = NULL;
	Oid			oid = find_partition(event);
	Partition  *partition;
	bool		found;
	Datum		key[SP_EVENT_KEY_LEN];
	bool		isnull[SP_EVENT_KEY_LEN];
	Datum		stored;

	for (Oid again; ; oid = again)
	{
		LockRelationOid(oid, AccessShareLock);
		again = find_partition(event);
		if (again == oid)
			break;
		UnlockRelationOid(oid, AccessShareLock);
	}

	if (partitions == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Partition)};

		partitions = hash_create("partitions of stripe_portal.event", 16, &control, HASH_ELEM | HASH_BLOBS);
	}
	partition = hash_search(partitions, &oid, HASH_ENTER, &found);
	if (!found)
	{
		SpQuery		find = {.expected = SPI_OK_SELECT, .types = {TEXTOID, BOOLOID, TEXTOID}};

		partition->find = find;
	}
	if (partition->find.plan == NULL)
		partition->find.sql =
			psprintf("SELECT EXISTS (SELECT FROM %s WHERE id = $1 AND livemode = $2 AND account = $3),"
					 " EXISTS (SELECT FROM stripe_portal.event_handler)",
					 quote_qualified_identifier(SP_SCHEMA, get_rel_name(oid)));

	sp_webhook_event_key(event, key, isnull);
	sp_query_run(&partition->find, key, NULL, InvalidSnapshot);
	stored = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull[0]);
	*any_handlers = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
											   2, &isnull[0]));
	SPI_freetuptable(SPI_tuptable);
	return DatumGetBool(stored);
}

/*
 * The partition for the event's time, as the server itself finds it.
 */
static Oid
find_partition(const SpEvent *event)
{
	Relation	ledger = table_open(get_relname_relid("event", get_namespace_oid(SP_SCHEMA, false)),
									AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(ledger);
	PartitionDesc desc = RelationGetPartitionDesc(ledger, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	int			index = -1;
	Oid			oid;

	if (event->has_created)
	{
		Datum		created = TimestampTzGetDatum(event->created);
		bool		equal;
		int			bound = partition_range_datum_bsearch(key->partsupfunc, key->partcollation,
														  bounds, 1, &created, &equal);

		index = bounds->indexes[bound + 1];
	}
	oid = desc->oids[index >= 0 ? index : bounds->default_index];
	table_close(ledger, NoLock);
	return oid;
}
