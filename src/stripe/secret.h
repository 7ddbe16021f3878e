/*-------------------------------------------------------------------------
 *
 * secret.h
 *	  Secrets that come from a setting or, better, from a file.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_SECRET_H
#define SP_STRIPE_SECRET_H

#include <sys/stat.h>

#include "utils/guc.h"
#include "utils/palloc.h"
#include "utils/timestamp.h"

/* What is configured just now.  Valid until the source is asked again. */
typedef struct SpSecrets
{
	int			count;
	char	  **values;
	uint64		generation;		/* changes whenever the values do */
} SpSecrets;

/* Where one kind of secret comes from. */
typedef struct SpSecretSource
{
	const char *name;			/* for messages: "Stripe API key" */
	char	  **value;			/* the setting that holds it */
	char	  **file;			/* the setting that names its file */

	/* The rest is private to secret.c. */
	const char *value_setting;
	const char *file_setting;
	MemoryContext context;		/* of everything that points below */
	char	   *read_value;		/* the value or file that was read; NULL when */
	char	   *read_file;		/* there was none */
	struct stat read_stat;		/* and what the file was then */
	TimestampTz seen_by;		/* the statement, */
	TimestampTz seen_in;		/* and the transaction, that last looked */
	SpSecrets	secrets;
} SpSecretSource;

extern void sp_stripe_define_secret(SpSecretSource *source,
									const char *value_setting, const char *value_description,
									const char *file_setting, const char *file_description);
extern const SpSecrets *sp_stripe_secrets(SpSecretSource *source);
extern bool sp_stripe_check_path(char **newval, void **extra, GucSource source);

#endif							/* SP_STRIPE_SECRET_H */
