/*-------------------------------------------------------------------------
 *
 * query.h
 *	  A statement of the extension's own, planned once per backend.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_QUERY_H
#define SP_QUERY_H

#include "executor/spi.h"
#include "utils/snapshot.h"

#define SP_QUERY_MAX_ARGS 16

/*
 * Define one as a static variable: .sql, with every name qualified, .types,
 * ended by InvalidOid, and .expected, the SPI code of its success.  A SELECT
 * that has to see what its caller's query sees, and no more, is .read_only.
 */
typedef struct SpQuery
{
	const char *sql;
	int			expected;
	bool		read_only;
	Oid			types[SP_QUERY_MAX_ARGS];
	SPIPlanPtr	plan;
} SpQuery;

extern uint64 sp_query_run(SpQuery *query, Datum *values, const bool *isnull, Snapshot snapshot);
extern char *sp_query_text(int column);

#endif							/* SP_QUERY_H */
