/*-------------------------------------------------------------------------
 *
 * probe.c
 *	  The common answers of the active-subscriber rule, without a query.
 *
 * Most customers hold a subscription whose status alone decides: active is
 * let through by a row of access_rule that has no condition, and what no row
 * allows is refused.  Then two index probes are the whole work, a small part
 * of what starting a query costs.  Whatever hangs on more than the status is
 * left to the view stripe_portal.access, which is the rule; nothing here
 * knows what a condition means.
 *
 * What is kept of access_rule per backend is kept as the catalogs' caches are:
 * read with a catalog snapshot, and thrown away when a change of the table is
 * told of, by a trigger on it (access_rule_changed).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "access/access.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_access_rule_changed);

/* What access_rule says of a status, for one flow, whatever else there is. */
typedef struct StatusRule
{
	char	   *flow;
	char	   *status;
	bool		always;			/* a row without a condition allows it */
	bool		never;			/* no row allows it */
} StatusRule;

/* A table with the index that is probed by (text, livemode, account). */
typedef struct ProbedTable
{
	Oid			table;
	Oid			index;
} ProbedTable;

static struct
{
	bool		valid;
	uint64		changes;		/* told of so far */
	Oid			access_rule;
	ProbedTable subscription;
	AttrNumber	status;			/* its column */
	ProbedTable deleted_customer;
	MemoryContext context;		/* of the rules */
	List	   *rules;			/* of StatusRule */
} known;

static bool look_up_tables(void);
static bool look_up(ProbedTable *probed, const char *table, const char *index,
					const char *key, const char *condition);
static void read_rules(void);
static StatusRule *find_rule(const char *flow, const char *status, size_t status_len);
static SpAccess probe_subscriptions(const SpCustomer *customer, const char *flow, Snapshot snapshot);
static bool probe_deleted(const SpCustomer *customer, Snapshot snapshot);
static IndexScanDesc begin_probe(Relation table, Relation index, const SpCustomer *customer, Snapshot snapshot);
static void forget_rules(Datum arg, Oid relation);

/*
 * Whether the status of a subscription of theirs alone lets the customer
 * through, or keeps all of them out, at the moment of the snapshot; or
 * SP_ACCESS_ASK, which every question of another kind gets as well.
 */
SpAccess
sp_access_probe(const SpCustomer *customer, const char *flow, Snapshot snapshot)
{
	SpAccess	answer;

	/* the transaction has a moment of its own, the rules here have not */
	if (snapshot == InvalidSnapshot && IsolationUsesXactSnapshot())
		return SP_ACCESS_ASK;

	AcceptInvalidationMessages();
	if (!known.valid)
	{
		if (!look_up_tables())
			return SP_ACCESS_ASK;
		read_rules();
	}

	snapshot = RegisterSnapshot(snapshot == InvalidSnapshot ? GetActiveSnapshot() : snapshot);
	answer = probe_subscriptions(customer, flow, snapshot);
	if (answer == SP_ACCESS_YES && probe_deleted(customer, snapshot))
		answer = SP_ACCESS_NO;
	UnregisterSnapshot(snapshot);
	return answer;
}

/*
 * access_rule_changed() returns trigger
 *
 * Makes every backend forget what it keeps of the rules, when the change is
 * committed, and this one at once.
 */
Datum
stripe_access_rule_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("access_rule_changed() must be called as a trigger")));
	CacheInvalidateRelcache(trigdata->tg_relation);
	return PointerGetDatum(NULL);
}

/*
 * Where to look.  False if an index is not there: then the query finds its
 * own way.
 */
static bool
look_up_tables(void)
{
	static bool registered = false;

	if (!registered)
	{
		known.context = AllocSetContextCreate(CacheMemoryContext, "stripe_portal access rules",
											  ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(forget_rules, (Datum) 0);
		registered = true;
	}
	known.access_rule = get_relname_relid("access_rule", get_namespace_oid(SP_SCHEMA, false));
	return OidIsValid(known.access_rule) &&
		look_up(&known.subscription, "subscription", "subscription_customer_idx", "customer", NULL) &&
		(known.status = get_attnum(known.subscription.table, "status")) != InvalidAttrNumber &&
		look_up(&known.deleted_customer, "customer", "customer_deleted_idx", "id", "deleted");
}

/*
 * Look up a table and its index on (key, livemode, account), which has the
 * rows where the column condition is true, or all.
 */
static bool
look_up(ProbedTable *probed, const char *table, const char *index,
		const char *key, const char *condition)
{
	Oid			schema = get_namespace_oid(SP_SCHEMA, false);
	Relation	relation;
	Form_pg_index form;
	List	   *predicate;
	bool		fits;

	probed->table = get_relname_relid(table, schema);
	probed->index = get_relname_relid(index, schema);
	if (!OidIsValid(probed->table) || get_rel_relkind(probed->index) != RELKIND_INDEX)
		return false;

	/* an administrator may have put another one in its place */
	relation = index_open(probed->index, AccessShareLock);
	form = relation->rd_index;
	fits = form->indrelid == probed->table && form->indisvalid && form->indnkeyatts == 3 &&
		form->indkey.values[0] == get_attnum(probed->table, key) &&
		form->indkey.values[1] == get_attnum(probed->table, "livemode") &&
		form->indkey.values[2] == get_attnum(probed->table, "account") &&
		relation->rd_rel->relam == BTREE_AM_OID;
	predicate = RelationGetIndexPredicate(relation);
	if (condition == NULL)
		fits &= predicate == NIL;
	else
		fits &= list_length(predicate) == 1 && IsA(linitial(predicate), Var) &&
			linitial_node(Var, predicate)->varattno == get_attnum(probed->table, condition);
	index_close(relation, AccessShareLock);
	return fits;
}

/*
 * What the rules say of each status, by the status alone.
 */
static void
read_rules(void)
{
	static const char *const conditions[] = {"grace", "cancel_scheduled", "collection_paused", "trial"};
	Relation	table = table_open(known.access_rule, AccessShareLock);
	TupleDesc	tupdesc = RelationGetDescr(table);
	AttrNumber	flow = get_attnum(known.access_rule, "flow");
	AttrNumber	status = get_attnum(known.access_rule, "status");
	AttrNumber	product = get_attnum(known.access_rule, "product");
	AttrNumber	allowed = get_attnum(known.access_rule, "allowed");
	SysScanDesc scan;
	HeapTuple	tuple;
	MemoryContext context;

	uint64		changes = known.changes;

	MemoryContextReset(known.context);
	known.rules = NIL;
	scan = systable_beginscan(table, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		char	   *its_flow = TextDatumGetCString(heap_getattr(tuple, flow, tupdesc, &isnull));
		char	   *its_status = TextDatumGetCString(heap_getattr(tuple, status, tupdesc, &isnull));
		bool		is_allowed = DatumGetBool(heap_getattr(tuple, allowed, tupdesc, &isnull));
		bool		is_general = VARSIZE_ANY_EXHDR(DatumGetPointer(heap_getattr(tuple, product, tupdesc, &isnull))) == 0;
		StatusRule *rule = find_rule(its_flow, its_status, strlen(its_status));

		context = MemoryContextSwitchTo(known.context);
		if (rule == NULL)
		{
			rule = palloc(sizeof(StatusRule));
			rule->flow = pstrdup(its_flow);
			rule->status = pstrdup(its_status);
			rule->always = false;
			rule->never = true;
			known.rules = lappend(known.rules, rule);
		}
		MemoryContextSwitchTo(context);

		if (is_allowed)
		{
			bool		has_condition = !is_general;

			for (size_t i = 0; i < lengthof(conditions); i++)
			{
				heap_getattr(tuple, get_attnum(known.access_rule, conditions[i]), tupdesc, &isnull);
				has_condition |= !isnull;
			}
			rule->never = false;
			rule->always |= !has_condition;
		}
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	/* else they are good for this time only */
	known.valid = known.changes == changes;
}

static StatusRule *
find_rule(const char *flow, const char *status, size_t status_len)
{
	ListCell   *cell;

	foreach(cell, known.rules)
	{
		StatusRule *rule = lfirst(cell);

		if (strncmp(rule->status, status, status_len) == 0 && rule->status[status_len] == '\0' &&
			strcmp(rule->flow, flow) == 0)
			return rule;
	}
	return NULL;
}

/*
 * SP_ACCESS_YES by one subscription that the rules always allow, SP_ACCESS_NO
 * if there are some and the rules never allow any of them.
 */
static SpAccess
probe_subscriptions(const SpCustomer *customer, const char *flow, Snapshot snapshot)
{
	Relation	table = table_open(known.subscription.table, AccessShareLock);
	Relation	index = index_open(known.subscription.index, AccessShareLock);
	AttrNumber	column = known.status;
	IndexScanDesc scan = begin_probe(table, index, customer, snapshot);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	SpAccess	answer = SP_ACCESS_ASK;

	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		text	   *status = DatumGetTextPP(slot_getattr(slot, column, &isnull));
		StatusRule *rule = find_rule(flow, VARDATA_ANY(status), VARSIZE_ANY_EXHDR(status));

		if (rule != NULL && rule->always)
		{
			answer = SP_ACCESS_YES;
			break;
		}
		/* an unknown flow or status is the query's business */
		if (rule == NULL || !rule->never)
		{
			answer = SP_ACCESS_ASK;
			break;
		}
		answer = SP_ACCESS_NO;
	}

	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	/* the locks are kept to the end of the transaction, as those of a query */
	index_close(index, NoLock);
	table_close(table, NoLock);
	return answer;
}

/*
 * There are few of them, so this one is mostly a look at an empty page.
 */
static bool
probe_deleted(const SpCustomer *customer, Snapshot snapshot)
{
	Relation	table = table_open(known.deleted_customer.table, AccessShareLock);
	Relation	index = index_open(known.deleted_customer.index, AccessShareLock);
	IndexScanDesc scan = begin_probe(table, index, customer, snapshot);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	bool		deleted = index_getnext_slot(scan, ForwardScanDirection, slot);

	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, NoLock);
	table_close(table, NoLock);
	return deleted;
}

static IndexScanDesc
begin_probe(Relation table, Relation index, const SpCustomer *customer, Snapshot snapshot)
{
	IndexScanDesc scan = sp_index_beginscan(table, index, snapshot, 3);
	ScanKeyData keys[3];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[0],
						   F_TEXTEQ, CStringGetTextDatum(customer->id));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_BOOLEQ, BoolGetDatum(customer->livemode));
	ScanKeyEntryInitialize(&keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[2],
						   F_TEXTEQ, CStringGetTextDatum(customer->account));
	index_rescan(scan, keys, 3, NULL, 0);
	return scan;
}

/*
 * A change of one of the tables, or of all.
 */
static void
forget_rules(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == known.access_rule ||
		relation == known.subscription.table || relation == known.subscription.index ||
		relation == known.deleted_customer.table || relation == known.deleted_customer.index)
	{
		known.valid = false;
		known.changes++;
	}
}
