/*-------------------------------------------------------------------------
 *
 * caller.c
 *	  Whose customer a user of the application is, by its own table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(stripe_mapped_customers);

static bool can_be(Oid type, const char *user);
static Oid	owner_of(Oid relation);

/*
 * mapped_customers(users regclass, user_column text, customer_column text,
 *		user_id text) returns text[]
 *
 * The caller is the extension's owner, who reads anything and must run nothing
 * of others.  So this reads with the rights of the table's owner, whose code a
 * table may bring along, in an operation that can leave nothing behind.
 */
Datum
stripe_mapped_customers(PG_FUNCTION_ARGS)
{
	Oid			users = PG_GETARG_OID(0);
	char	   *user_column = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *customer_column = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char	   *user_id = text_to_cstring(PG_GETARG_TEXT_PP(3));
	Oid			owner = owner_of(users);
	Oid			type = get_atttype(users, get_attnum(users, user_column));
	Oid			text_type = TEXTOID;
	Datum		user = CStringGetTextDatum(user_id);
	MemoryContext context = CurrentMemoryContext;
	ArrayBuildState *customers = initArrayResult(TEXTOID, context, false);
	Oid			caller;
	int			security;
	int			guc_level;
	char	   *sql;

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", user_column, get_rel_name(users)),
				 errhint("Map the users again with stripe_portal_map_users.")));
	if (!can_be(type, user_id))
		PG_RETURN_DATUM(makeArrayResult(customers, context));

	sql = psprintf("SELECT DISTINCT u.%s::pg_catalog.text FROM %s AS u"
				   " WHERE u.%s OPERATOR(pg_catalog.=) $1::%s AND u.%s IS NOT NULL LIMIT 2",
				   quote_identifier(customer_column),
				   quote_qualified_identifier(get_namespace_name(get_rel_namespace(users)), get_rel_name(users)),
				   quote_identifier(user_column), format_type_be_qualified(type),
				   quote_identifier(customer_column));

	GetUserIdAndSecContext(&caller, &security);
	SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, &text_type, &user, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", sql);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		isnull;
		Datum		customer = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull);

		customers = accumArrayResult(customers, customer, isnull, TEXTOID, context);
	}
	SPI_finish();

	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(caller, security);
	PG_RETURN_DATUM(makeArrayResult(customers, context));
}

/*
 * Can a user's id be a value of the column's type?  One that can not is
 * nobody's, and no error.
 */
static bool
can_be(Oid type, const char *user)
{
	int			digits = strspn(user, "0123456789");
	int64		limit = 0;

	switch (type)
	{
		case INT2OID:
			limit = PG_INT16_MAX;
			break;
		case INT4OID:
			limit = PG_INT32_MAX;
			break;
		case INT8OID:
			limit = PG_INT64_MAX;
			break;
		case UUIDOID:
			for (int i = 0; i < 36; i++)
			{
				bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

				if (dash ? user[i] != '-' : !isxdigit((unsigned char) user[i]))
					return false;
			}
			return user[36] == '\0';
		default:
			return true;
	}

	/* as the number is written, and not 007 for 7 */
	errno = 0;
	return digits > 0 && user[digits] == '\0' && (user[0] != '0' || digits == 1) &&
		strtoll(user, NULL, 10) <= limit && errno == 0;
}

static Oid
owner_of(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of the application's users does not exist any more"),
				 errhint("Map the users again with stripe_portal_map_users.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}
