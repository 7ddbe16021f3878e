/*-------------------------------------------------------------------------
 *
 * query.c
 *	  A statement of the extension's own, planned once per backend.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "query.h"

/*
 * Run a statement; the caller is connected to SPI.
 *
 * isnull may be NULL where no value is null.  snapshot is InvalidSnapshot for
 * the usual one: the caller's for a read-only query, else a new one.  Returns
 * the number of rows, which are in SPI_tuptable if the statement returns any.
 */
uint64
sp_query_run(SpQuery *query, Datum *values, const bool *isnull, Snapshot snapshot)
{
	char		nulls[SP_QUERY_MAX_ARGS];
	int			nargs = 0;
	int			result;

	while (nargs < SP_QUERY_MAX_ARGS && OidIsValid(query->types[nargs]))
	{
		nulls[nargs] = isnull != NULL && isnull[nargs] ? 'n' : ' ';
		nargs++;
	}

	if (query->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(query->sql, nargs, query->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\": %s",
				 query->sql, SPI_result_code_string(SPI_result));
		query->plan = plan;
	}

	result = SPI_execute_snapshot(query->plan, values, nulls, snapshot, InvalidSnapshot,
								  query->read_only, true, 0);
	if (result != query->expected)
		elog(ERROR, "unexpected result of \"%s\": %s",
			 query->sql, SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * A column (from 1) of the first row of the last SELECT, as text in SPI's
 * context, or NULL.
 */
char *
sp_query_text(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}
