/*-------------------------------------------------------------------------
 *
 * fuzz.c
 *	  libFuzzer inside a PostgreSQL backend.
 *
 * The extension's files are compiled as they are, with the sanitizers and
 * libFuzzer's instrumentation, into one library with the targets; a
 * single-user server loads it and calls fuzz().  So a target runs on the real
 * backend: its jsonb, its encodings, its errors and subtransactions.
 *
 * Every run of a target has a memory context in which each allocation of more
 * than eight bytes is a malloc of its own, freed at the end of the run, so
 * that AddressSanitizer sees a step outside of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "fuzz.h"

PG_FUNCTION_INFO_V1(fuzz);

/*
 * A block may not be larger than 160 bytes, a chunk not larger than a quarter
 * of one less its header: all else goes to malloc.  (A server with assertions
 * would not have it.)
 */
#define BLOCK_SIZE		160

/* What libFuzzer offers to programs that have a main() already. */
extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*callback) (const uint8_t *data, size_t size));

static const struct
{
	const char *name;
	void		(*run) (FuzzInput *input);
}			targets[] =
{
	{"signature", fuzz_signature},
	{"form", fuzz_form},
	{"url", fuzz_url},
	{"token", fuzz_token},
	{"event", fuzz_event},
	{"answer", fuzz_answer},
};

static void (*target) (FuzzInput *input);
static MemoryContext run_context;

static int	run_target(const uint8_t *data, size_t size);

/*
 * fuzz(target text, arguments text[]) returns void
 *
 * The arguments are libFuzzer's.  It ends the process when it is done.
 */
Datum
fuzz(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Datum	   *arguments;
	int			count;
	char	  **argv;
	int			argc;

	for (size_t i = 0; i < lengthof(targets); i++)
	{
		if (strcmp(targets[i].name, name) == 0)
			target = targets[i].run;
	}
	if (target == NULL)
		elog(ERROR, "there is no fuzz target \"%s\"", name);

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
					  &arguments, NULL, &count);
	argc = count + 1;
	argv = palloc0((argc + 1) * sizeof(char *));
	argv[0] = name;
	for (int i = 0; i < count; i++)
		argv[i + 1] = TextDatumGetCString(arguments[i]);

	run_context = AllocSetContextCreate(TopMemoryContext, "fuzz", 0, BLOCK_SIZE, BLOCK_SIZE);
	LLVMFuzzerRunDriver(&argc, &argv, run_target);
	PG_RETURN_VOID();
}

static int
run_target(const uint8_t *data, size_t size)
{
	MemoryContext context = MemoryContextSwitchTo(run_context);
	FuzzInput	input = {(const char *) data, size};

	target(&input);
	MemoryContextSwitchTo(context);
	MemoryContextReset(run_context);
	return 0;
}

/*
 * Run what may raise: NULL, or the error.
 */
ErrorData *
fuzz_try(FuzzBody body, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		body(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	return error;
}

void
fuzz_broken(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, condition);
	abort();
}

/*
 * Up to the next newline, without it and without any NUL, palloc'd.
 */
char *
fuzz_line(FuzzInput *input)
{
	const char *newline = memchr(input->at, '\n', input->left);
	size_t		len = newline ? newline - input->at : input->left;
	char	   *line = pnstrdup(input->at, len);

	input->at += len;
	input->left -= len;
	if (newline != NULL)
	{
		input->at++;
		input->left--;
	}
	return line;
}

/*
 * All that is left, of any bytes.
 */
char *
fuzz_rest(FuzzInput *input, size_t *len)
{
	char	   *rest = fuzz_exact(input->at, input->left);

	*len = input->left;
	input->left = 0;
	return rest;
}

/*
 * A copy without a terminator, that ends where its allocation does: there, not
 * at the beginning, is where a step too far would go unseen.
 */
char *
fuzz_exact(const char *bytes, size_t len)
{
	size_t		room = MAXALIGN(Max(len, 16));
	char	   *copy = (char *) palloc(room) + room - len;

	return memcpy(copy, bytes, len);
}
