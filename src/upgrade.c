/*-------------------------------------------------------------------------
 *
 * upgrade.c
 *	  What upgrade scripts need and SQL can not do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(stripe_upgrade_grant);

/*
 * upgrade_grant(command text) returns void
 *
 * Runs a command that grants, in an extension's script, as if it were none.
 * What a script grants is the extension's own: pg_dump expects CREATE
 * EXTENSION to bring it back, and leaves it out.
 */
Datum
stripe_upgrade_grant(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("upgrade_grant() works in an extension's script only")));

	SPI_connect();
	creating_extension = false;
	PG_TRY();
	{
		int			result = SPI_execute(command, false, 0);

		if (result < 0)
			elog(ERROR, "could not run \"%s\": %s", command, SPI_result_code_string(result));
	}
	PG_FINALLY();
	{
		creating_extension = true;
	}
	PG_END_TRY();
	SPI_finish();

	PG_RETURN_VOID();
}
