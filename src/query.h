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
 * Define one as a static variable: .sql, with every name qualified, and
 * .types, ended by InvalidOid.  What the statement does, read or write, is
 * told by its first result code, expected.
 */
typedef struct SpQuery
{
	const char *sql;
	int			expected;
	Oid			types[SP_QUERY_MAX_ARGS];
	SPIPlanPtr	plan;
} SpQuery;

extern uint64 sp_query_run(SpQuery *query, Datum *values, const bool *isnull, Snapshot snapshot);
extern char *sp_query_text(int column);

#endif							/* SP_QUERY_H */
