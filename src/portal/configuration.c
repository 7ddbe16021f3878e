/*-------------------------------------------------------------------------
 *
 * configuration.c
 *	  What declaring portal configurations needs from the server's own code.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(stripe_edit_distance);

/*
 * edit_distance(a text, b text) RETURNS integer
 */
Datum
stripe_edit_distance(PG_FUNCTION_ARGS)
{
	text	   *a = PG_GETARG_TEXT_PP(0);
	text	   *b = PG_GETARG_TEXT_PP(1);

	PG_RETURN_INT32(varstr_levenshtein(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a),
									   VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b),
									   1, 1, 1, false));
}
