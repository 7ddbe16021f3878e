/*-------------------------------------------------------------------------
 *
 * secret.c
 *	  Secrets that come from a setting or, better, from a file.
 *
 * PostgreSQL has no place for a secret among its settings: what is stored with
 * ALTER DATABASE, ALTER ROLE or a function stands in catalogs that everybody
 * reads, what stands in the configuration file can be shown by any role until
 * the library is loaded (it is a placeholder until then, which no flag
 * protects) and is logged when a reload changes it.  So the check hook takes a
 * secret only from a running session, and the place to keep one is a file that
 * nobody but the server may read; its path is not secret.
 *
 * The values are kept in memory of their own and zeroed before it is given
 * back.  The file is looked at by each statement that uses it, so a rotated
 * secret counts from the next one on, without a reload.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "stripe_portal.h"
#include "stripe/secret.h"

#ifdef __APPLE__
#define st_ctim st_ctimespec
#endif

/* Room for dozens of secrets; more means that the path is wrong. */
#define MAX_FILE_SIZE	(64 * 1024)

/* A show hook is not told which setting it shows, so each has its own. */
#define MAX_SOURCES		2
static SpSecretSource *sources[MAX_SOURCES];
static int	nsources = 0;

static bool check_secret(char **newval, void **extra, GucSource source);
static const char *show_secret_0(void);
static const char *show_secret_1(void);
static bool is_unchanged(SpSecretSource *source, const char *value, const char *file);
static void load(SpSecretSource *source, const char *value, const char *file);
static void forget(SpSecretSource *source);
static void add_secrets(SpSecretSource *source, const char *text, size_t length, char separator);
static void add_secret(SpSecretSource *source, const char *text, size_t length);
static char *read_secret_file(SpSecretSource *source, const char *path, size_t *length);
static const char *file_objection(const struct stat *st);

static const GucShowHook show_hooks[MAX_SOURCES] = {show_secret_0, show_secret_1};

/*
 * Defines the two settings of a secret: the value, which is never shown, and
 * the file that holds it.  Call it once for each source, from _PG_init.
 */
void
sp_stripe_define_secret(SpSecretSource *source,
						const char *value_setting, const char *value_description,
						const char *file_setting, const char *file_description)
{
	Assert(nsources < MAX_SOURCES);

	source->value_setting = value_setting;
	source->file_setting = file_setting;

	DefineCustomStringVariable(value_setting,
							   value_description,
							   "Several can be given, separated by commas. The statement that sets it may be logged: keep the secret in a file.",
							   source->value,
							   "",
							   PGC_SUSET,
							   GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL |
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_AUTO_FILE,
							   check_secret, NULL, show_hooks[nsources]);
	DefineCustomStringVariable(file_setting,
							   file_description,
							   "Absolute path; one secret in each line. Only the server's user may have access to the file.",
							   source->file,
							   "",
							   PGC_SUSET, 0,
							   sp_stripe_check_path, NULL, NULL);

	sources[nsources++] = source;
}

/*
 * Gives the secrets that are configured now, none being no error.
 *
 * Throws ERRCODE_SP_NOT_CONFIGURED when both settings are set, when the file
 * cannot be read or is open to others, and when what is in it cannot be a
 * secret.
 */
const SpSecrets *
sp_stripe_secrets(SpSecretSource *source)
{
	const char *value = **source->value != '\0' ? *source->value : NULL;
	const char *file = **source->file != '\0' ? *source->file : NULL;

	if (value != NULL && file != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("%s is configured twice", source->name),
				 errdetail("Both \"%s\" and \"%s\" are set.",
						   source->value_setting, source->file_setting),
				 errhint("Reset one of them.")));

	if (!is_unchanged(source, value, file))
		load(source, value, file);

	return &source->secrets;
}

/*
 * GUC check hook for a setting that names a file: an absolute path or nothing.
 */
bool
sp_stripe_check_path(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || is_absolute_path(*newval))
		return true;

	GUC_check_errdetail("The path must be absolute.");
	return false;
}

/*
 * Takes a secret only where nobody else can read it.  The message must not
 * show the value, as the server's own would.
 */
static bool
check_secret(char **newval, void **extra, GucSource source)
{
	switch (source)
	{
		case PGC_S_DEFAULT:
		case PGC_S_DYNAMIC_DEFAULT:
		case PGC_S_CLIENT:
		case PGC_S_OVERRIDE:
		case PGC_S_INTERACTIVE:
		case PGC_S_SESSION:
			return true;

		case PGC_S_ENV_VAR:
		case PGC_S_FILE:
		case PGC_S_ARGV:
		case PGC_S_GLOBAL:
		case PGC_S_DATABASE:
		case PGC_S_USER:
		case PGC_S_DATABASE_USER:
		case PGC_S_TEST:
			break;
	}

	if (**newval == '\0')
		return true;

	GUC_check_errmsg("a secret cannot be stored in a setting");
	GUC_check_errdetail("Other roles could read it.");
	GUC_check_errhint("Put the secret into a file that only the server's user may read, and set the parameter of the same name with \"_file\" to its path.");
	return false;
}

static const char *
show_secret_0(void)
{
	return **sources[0]->value != '\0' ? "********" : "";
}

static const char *
show_secret_1(void)
{
	return **sources[1]->value != '\0' ? "********" : "";
}

/*
 * Is what was read still what the settings and the file say?  A change of the
 * file's content or mode changes its ctime, a replaced file is another inode.
 * A statement that asks again and again looks at the file once in each of its
 * transactions: a look costs a good part of a signature.
 */
static bool
is_unchanged(SpSecretSource *source, const char *value, const char *file)
{
	TimestampTz statement = GetCurrentStatementStartTimestamp();
	TimestampTz transaction = GetCurrentTransactionStartTimestamp();
	bool		seen = source->seen_by == statement && source->seen_in == transaction;
	struct stat now;

	source->seen_by = statement;
	source->seen_in = transaction;

	if (value != NULL)
		return source->read_value != NULL &&
			strcmp(source->read_value, value) == 0;

	if (file != NULL)
		return source->read_file != NULL &&
			strcmp(source->read_file, file) == 0 &&
			(seen ||
			 (stat(file, &now) == 0 &&
			  now.st_dev == source->read_stat.st_dev &&
			  now.st_ino == source->read_stat.st_ino &&
			  now.st_size == source->read_stat.st_size &&
			  now.st_ctim.tv_sec == source->read_stat.st_ctim.tv_sec &&
			  now.st_ctim.tv_nsec == source->read_stat.st_ctim.tv_nsec));

	return source->secrets.count == 0;
}

/*
 * Reads the secrets anew.  What was read is noted last, so that after an error
 * the next call tries again instead of working with half of it.
 */
static void
load(SpSecretSource *source, const char *value, const char *file)
{
	forget(source);

	if (value != NULL)
	{
		add_secrets(source, value, strlen(value), ',');
		source->read_value = MemoryContextStrdup(source->context, value);
	}
	else if (file != NULL)
	{
		size_t		length;
		char	   *text = read_secret_file(source, file, &length);

		add_secrets(source, text, length, '\n');
		explicit_bzero(text, length);
		pfree(text);
		source->read_file = MemoryContextStrdup(source->context, file);
	}
}

/*
 * Drops what was read, and starts a new generation.
 */
static void
forget(SpSecretSource *source)
{
	SpSecrets  *secrets = &source->secrets;

	if (source->context == NULL)
		source->context = AllocSetContextCreate(TopMemoryContext,
												"stripe_portal secret",
												ALLOCSET_SMALL_SIZES);

	for (int i = 0; i < secrets->count; i++)
		explicit_bzero(secrets->values[i], strlen(secrets->values[i]));
	if (source->read_value != NULL)
		explicit_bzero(source->read_value, strlen(source->read_value));

	secrets->count = 0;
	secrets->values = NULL;
	secrets->generation++;
	source->read_value = NULL;
	source->read_file = NULL;
	MemoryContextReset(source->context);
}

/*
 * Adds each non-blank part of the text, without the space around it.
 */
static void
add_secrets(SpSecretSource *source, const char *text, size_t length, char separator)
{
	const char *end = text + length;

	while (text < end)
	{
		const char *stop = memchr(text, separator, end - text);
		const char *next;

		if (stop == NULL)
			stop = end;
		next = stop + 1;

		while (text < stop && isspace((unsigned char) *text))
			text++;
		while (stop > text && isspace((unsigned char) stop[-1]))
			stop--;
		if (stop > text)
			add_secret(source, text, stop - text);

		text = next;
	}
}

static void
add_secret(SpSecretSource *source, const char *text, size_t length)
{
	SpSecrets  *secrets = &source->secrets;
	MemoryContext old_context;

	for (size_t i = 0; i < length; i++)
		if (text[i] <= ' ' || text[i] > '~')
			ereport(ERROR,
					(errcode(ERRCODE_SP_NOT_CONFIGURED),
					 errmsg("%s is not usable", source->name),
					 errdetail("Secret number %d of setting \"%s\" contains a space or a character that is not printable ASCII.",
							   secrets->count + 1,
							   **source->value != '\0' ? source->value_setting : source->file_setting)));

	old_context = MemoryContextSwitchTo(source->context);
	if (secrets->values == NULL)
		secrets->values = palloc(sizeof(char *));
	else
		secrets->values = repalloc(secrets->values,
								   (secrets->count + 1) * sizeof(char *));
	secrets->values[secrets->count] = pnstrdup(text, length);
	secrets->count++;
	MemoryContextSwitchTo(old_context);
}

/*
 * Reads a secret's file, and notes what it was.  The descriptor is asked about
 * type, owner and mode, not the path, so that what is checked is what is read.
 */
static char *
read_secret_file(SpSecretSource *source, const char *path, size_t *length)
{
	char	   *text = palloc(MAX_FILE_SIZE);
	const char *objection;
	ssize_t		nread;
	int			fd;

	/* Opening a FIFO must not wait for a writer. */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0 || fstat(fd, &source->read_stat) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("%s is not usable", source->name),
				 errdetail("File \"%s\" of setting \"%s\" could not be opened: %m.",
						   path, source->file_setting)));

	objection = file_objection(&source->read_stat);
	if (objection != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("%s is not usable", source->name),
				 errdetail("File \"%s\" of setting \"%s\" %s.",
						   path, source->file_setting, objection),
				 errhint("The file must be a regular one of at most 64 kB, owned by the server's user with mode 0600 or less, or by root with mode 0640 or less.")));

	nread = read(fd, text, MAX_FILE_SIZE);
	if (nread < 0)
		ereport(ERROR,
				(errcode(ERRCODE_SP_NOT_CONFIGURED),
				 errmsg("%s is not usable", source->name),
				 errdetail("File \"%s\" of setting \"%s\" could not be read: %m.",
						   path, source->file_setting)));
	CloseTransientFile(fd);

	*length = nread;
	return text;
}

/*
 * What makes this file unfit to hold a secret, or NULL.  The rule is that of
 * the server's own TLS key.
 */
static const char *
file_objection(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return "is owned by another user";
	if ((st->st_mode & (st->st_uid == 0 ? (S_IWGRP | S_IRWXO) : (S_IRWXG | S_IRWXO))) != 0)
		return "can be accessed by other users";
	if (st->st_size > MAX_FILE_SIZE)
		return "is too large";
	return NULL;
}
