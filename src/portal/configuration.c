/*-------------------------------------------------------------------------
 *
 * configuration.c
 *	  What declaring portal configurations needs from the server's own code.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(stripe_edit_distance);

/*
 * edit_distance(a text, b text) RETURNS integer
 */
Datum
stripe_edit_distance(PG_FUNCTION_ARGS)
{
	char	   *a = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *b = text_to_cstring(PG_GETARG_TEXT_PP(1));

	PG_RETURN_INT32(varstr_levenshtein(a, strlen(a), b, strlen(b), 1, 1, 1, false));
}
