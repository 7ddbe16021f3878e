/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzz targets share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_FUZZ_H
#define SP_FUZZ_H

#include "lib/stringinfo.h"

#include "compat.h"

/* The rest of an input, from which a target takes one part after the other. */
typedef struct FuzzInput
{
	const char *at;
	size_t		left;
} FuzzInput;

/* Runs under fuzz_try: may raise, must leave nothing behind. */
typedef void (*FuzzBody) (void *arg);

/* A property that does not hold ends the run, with the input kept. */
#define FUZZ_HOLDS(condition) \
	do { \
		if (!(condition)) \
			fuzz_broken(#condition, __FILE__, __LINE__); \
	} while (0)

pg_noreturn extern void fuzz_broken(const char *condition, const char *file, int line);
extern ErrorData *fuzz_try(FuzzBody body, void *arg);
extern char *fuzz_line(FuzzInput *input);
extern char *fuzz_rest(FuzzInput *input, size_t *len);
extern char *fuzz_exact(const char *bytes, size_t len);

/* The targets, each in a file of its name. */
extern void fuzz_signature(FuzzInput *input);
extern void fuzz_form(FuzzInput *input);
extern void fuzz_url(FuzzInput *input);
extern void fuzz_token(FuzzInput *input);
extern void fuzz_event(FuzzInput *input);
extern void fuzz_answer(FuzzInput *input);

#endif							/* SP_FUZZ_H */
