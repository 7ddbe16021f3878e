/*-------------------------------------------------------------------------
 *
 * forgotten.c
 *	  What names a customer who was forgotten, and what is left of it.
 *
 * An object is a customer's if a member of its own names the customer, or
 * something of theirs, as what it belongs to.  Which ids those are stands in
 * stripe_portal.forgotten, and grows as Stripe goes on telling of the customer.
 * What names them deeper down only tells of them: it is emptied, but what is told
 * of the same object another time may be somebody else's.
 *
 * stripe_forget shuts out whoever is taking in something of this customer, or
 * of nobody in particular, at the same time: an event that is on its way would
 * be stored whole behind its back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "billing/forgotten.h"
#include "query.h"
#include "stripe/json.h"
#include "stripe_portal.h"

PG_FUNCTION_INFO_V1(stripe_named_ids);
PG_FUNCTION_INFO_V1(stripe_is_forgotten);
PG_FUNCTION_INFO_V1(stripe_lock_forgotten);
PG_FUNCTION_INFO_V1(stripe_keep_fields);

/* Few enough for one transaction to hold them all; and one for nobody. */
#define FORGOTTEN_LOCKS		1024

/* Members that say what their object belongs to, by its id or whole. */
static const char *const references[] = {
	"charge", "customer", "invoice", "payment_intent", "payment_method", "setup_intent", "subscription",
	/* what an event is about */
	"object", "related_object"
};

/* What an object or an event names. */
typedef struct Named
{
	List	   *ids;			/* of text * */
	List	   *owners;			/* those of them that the object itself is of */
	text	   *customer;		/* the first one; NULL for nobody in particular */
} Named;

/* By what is committed, whatever the transaction's own snapshot shows. */
static SpQuery find_forgotten = {
	.sql = "SELECT f.customer, f.id = ANY ($4) AS is_owner FROM stripe_portal.forgotten AS f"
	" WHERE f.id = ANY ($1) AND f.livemode = $2 AND f.account = $3 ORDER BY is_owner DESC LIMIT 1",
	.expected = SPI_OK_SELECT,
	.read_only = true,
	.types = {TEXTARRAYOID, BOOLOID, TEXTOID, TEXTARRAYOID}
};

static SpQuery note_forgotten = {
	.sql = "INSERT INTO stripe_portal.forgotten (id, livemode, account, customer)"
	" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
	.expected = SPI_OK_INSERT,
	.types = {TEXTOID, BOOLOID, TEXTOID, TEXTOID}
};

static bool nobody_is_forgotten(void);
static void find_named(Jsonb *told, Named *named);
static void add_named(Named *named, const JsonbValue *id, bool is_customer, bool is_owner);
static bool is_of_customer(Jsonb *told);
static bool is_reference(const JsonbValue *key);
static ArrayType *id_array(List *ids);
static void lock_person(text *customer, LOCKMODE mode);
static bool is_kept(const JsonbValue *parent, const JsonbValue *key, Datum *fields, int nfields);

/*
 * Is there a list of who was forgotten?  The library can be newer than the
 * tables, until the extension is updated.
 */
bool
sp_billing_can_forget(void)
{
	return OidIsValid(get_relname_relid("forgotten", get_namespace_oid("stripe_portal", false)));
}

/*
 * What names no customer is being taken in, to the end of the transaction.  To
 * be called first where there is much to take in, as stripe_forget does: then
 * the two can not wait for each other.
 */
void
sp_billing_lock_unnamed(void)
{
	lock_person(NULL, ShareLock);
}

/*
 * Whether an object, or an event about one, of this id is of a customer who
 * was forgotten; SPI is connected.  If the object itself is theirs, the id is
 * noted then, because others will name it.
 */
bool
sp_billing_is_forgotten(Jsonb *told, const char *id, bool livemode, const char *account)
{
	Named		named = {0};
	Datum		values[4];
	HeapTuple	row;
	bool		isnull;

	find_named(told, &named);
	if (id != NULL)
	{
		named.ids = lappend(named.ids, cstring_to_text(id));
		if (named.customer == NULL && is_of_customer(told))
			named.customer = llast(named.ids);
	}
	lock_person(named.customer, ShareLock);
	if (nobody_is_forgotten())
		return false;

	values[0] = PointerGetDatum(id_array(named.ids));
	values[1] = BoolGetDatum(livemode);
	values[2] = CStringGetTextDatum(account);
	values[3] = PointerGetDatum(id_array(named.owners));
	if (sp_query_run(&find_forgotten, values, NULL, GetLatestSnapshot()) == 0)
		return false;

	row = SPI_tuptable->vals[0];
	if (id != NULL && DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull)))
	{
		values[0] = CStringGetTextDatum(id);
		values[3] = SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull);
		sp_query_run(&note_forgotten, values, NULL, InvalidSnapshot);
	}
	return true;
}

/*
 * Where nobody ever was, the list has no page that a query would find.
 */
static bool
nobody_is_forgotten(void)
{
	Relation	list = table_open(get_relname_relid("forgotten", get_namespace_oid(SP_SCHEMA, false)),
								  AccessShareLock);
	bool		empty = RelationGetNumberOfBlocks(list) == 0;

	table_close(list, AccessShareLock);
	return empty;
}

/*
 * is_forgotten(told jsonb, id text, livemode boolean, account text) returns boolean
 */
Datum
stripe_is_forgotten(PG_FUNCTION_ARGS)
{
	bool		result;

	SPI_connect();
	result = sp_billing_is_forgotten(PG_GETARG_JSONB_P(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
									 PG_GETARG_BOOL(2), text_to_cstring(PG_GETARG_TEXT_PP(3)));
	SPI_finish();
	PG_RETURN_BOOL(result);
}

/*
 * lock_forgotten(customer text) returns void
 */
Datum
stripe_lock_forgotten(PG_FUNCTION_ARGS)
{
	lock_person(NULL, ExclusiveLock);
	lock_person(PG_GETARG_TEXT_PP(0), ExclusiveLock);
	PG_RETURN_VOID();
}

/*
 * named_ids(told jsonb, owners boolean) returns text[]
 */
Datum
stripe_named_ids(PG_FUNCTION_ARGS)
{
	Named		named = {0};

	find_named(PG_GETARG_JSONB_P(0), &named);
	PG_RETURN_ARRAYTYPE_P(id_array(PG_GETARG_BOOL(1) ? named.owners : named.ids));
}

/*
 * keep_fields(value jsonb, fields text[]) returns jsonb
 *
 * By iteration, because what Stripe sends may be nested as deep as jsonb can be.
 */
Datum
stripe_keep_fields(PG_FUNCTION_ARGS)
{
	Jsonb	   *jsonb = PG_GETARG_JSONB_P(0);
	JsonbIterator *iterator = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbParseState *state = NULL;
	JsonbValue	value;
	JsonbValue	key = {.type = jbvNull};
	JsonbValue *result = NULL;
	List	   *parents = NIL;	/* the key that each open container stands under */
	bool		skip = false;
	Datum	   *fields;
	int			nfields;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &fields, NULL, &nfields);
	while ((token = JsonbIteratorNext(&iterator, &value, skip)) != WJB_DONE)
	{
		JsonbValue *parent = parents != NIL ? llast(parents) : &key;

		if (skip)
		{
			skip = false;
			continue;
		}
		switch (token)
		{
			case WJB_KEY:
				key = value;
				skip = !is_kept(parent, &key, fields, nfields);
				if (skip)
					continue;
				break;
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				{
					JsonbValue *under = palloc(sizeof(JsonbValue));

					*under = state != NULL && state->contVal.type == jbvArray ? *parent : key;
					parents = lappend(parents, under);
					break;
				}
			case WJB_END_OBJECT:
			case WJB_END_ARRAY:
				parents = list_delete_last(parents);
				break;
			default:
				break;
		}
		result = pushJsonbValue(&state, token,
								token < WJB_BEGIN_ARRAY || (token == WJB_BEGIN_ARRAY && value.val.array.rawScalar)
								? &value : NULL);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}

/*
 * The ids that are named in an object, or in an event, at whatever depth.  What
 * stands in metadata is the merchant's: that may well name somebody else.
 */
static void
find_named(Jsonb *told, Named *named)
{
	JsonbIterator *iterator = JsonbIteratorInit(&told->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue	key = {.type = jbvNull};
	int			depth = 0;
	int			own_depth = 1;	/* of the members of the object itself */
	int			whole_at = 0;	/* the depth of an object that is a reference */
	bool		whole_is_customer = false;
	bool		is_metadata = false;

	/* an event's "data" has the object */
	if (sp_stripe_json_object(sp_stripe_json_object(&told->root, "data"), "object") != NULL)
		own_depth = 3;
	while ((token = JsonbIteratorNext(&iterator, &value, is_metadata)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_KEY:
				key = value;
				is_metadata = sp_stripe_json_is(&key, "metadata");
				continue;
			case WJB_BEGIN_OBJECT:
				depth++;
				if (key.type == jbvString && is_reference(&key))
				{
					whole_at = depth;
					whole_is_customer = sp_stripe_json_is(&key, "customer");
				}
				break;
			case WJB_END_OBJECT:
				if (depth-- == whole_at)
					whole_at = 0;
				break;
			case WJB_VALUE:
				if (value.type != jbvString)
					break;
				/* "id" is the first of its object's keys: jsonb has the short ones in front */
				if (depth == whole_at && sp_stripe_json_is(&key, "id"))
					add_named(named, &value, whole_is_customer, depth - 1 <= own_depth);
				else if (is_reference(&key) && !sp_stripe_json_is(&key, "object"))
					add_named(named, &value, sp_stripe_json_is(&key, "customer"), depth <= own_depth);
				break;
			default:
				break;
		}
		key.type = jbvNull;
		is_metadata = false;
	}
}

static void
add_named(Named *named, const JsonbValue *id, bool is_customer, bool is_owner)
{
	text	   *copy;

	if (pg_mbstrlen_with_len(id->val.string.val, id->val.string.len) > SP_MAX_ID_LEN)
		return;
	copy = cstring_to_text_with_len(id->val.string.val, id->val.string.len);
	named->ids = lappend(named->ids, copy);
	if (is_owner)
		named->owners = lappend(named->owners, copy);
	if (is_customer && named->customer == NULL)
		named->customer = copy;
}

/*
 * Is this a customer, or an event about one?
 */
static bool
is_of_customer(Jsonb *told)
{
	JsonbContainer *object = sp_stripe_json_object(sp_stripe_json_object(&told->root, "data"), "object");
	JsonbValue *kind = sp_stripe_json_get(object != NULL ? object : &told->root, "object");

	return kind != NULL && sp_stripe_json_is(kind, "customer");
}

static bool
is_reference(const JsonbValue *key)
{
	for (size_t i = 0; i < lengthof(references); i++)
	{
		if (sp_stripe_json_is(key, references[i]))
			return true;
	}
	return false;
}

static ArrayType *
id_array(List *ids)
{
	Datum	   *elements = palloc(sizeof(Datum) * (list_length(ids) + 1));
	ListCell   *cell;

	foreach(cell, ids)
		elements[foreach_current_index(cell)] = PointerGetDatum(lfirst(cell));
	return construct_array(elements, list_length(ids), TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * Take the lock of a customer, or, for NULL, of what names none, to the end of
 * the transaction; as in exclusive.c, one that nothing in SQL can name.
 */
static void
lock_person(text *customer, LOCKMODE mode)
{
	uint32		key = FORGOTTEN_LOCKS;
	LOCKTAG		tag;

	if (customer != NULL)
		key = hash_bytes((unsigned char *) VARDATA_ANY(customer), VARSIZE_ANY_EXHDR(customer))
			% FORGOTTEN_LOCKS;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, key, 2);
	LockAcquire(&tag, mode, false, false);
}

/*
 * Whether a member is one of the fields: "key", or "parent.key", where parent
 * is the key that its object stands under.
 */
static bool
is_kept(const JsonbValue *parent, const JsonbValue *key, Datum *fields, int nfields)
{
	int			key_len = key->val.string.len;
	int			parent_len = parent->type == jbvString ? parent->val.string.len : 0;

	for (int i = 0; i < nfields; i++)
	{
		const char *field = VARDATA_ANY(DatumGetPointer(fields[i]));
		int			len = VARSIZE_ANY_EXHDR(DatumGetPointer(fields[i]));

		if (len < key_len || memcmp(field + len - key_len, key->val.string.val, key_len) != 0)
			continue;
		if (len == key_len ||
			(len == parent_len + 1 + key_len && field[parent_len] == '.' &&
			 memcmp(field, parent->val.string.val, parent_len) == 0))
			return true;
	}
	return false;
}
