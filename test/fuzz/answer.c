/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  What comes back from Stripe, or from whoever answers in its stead.
 *
 * The first line of an input is the HTTP status, then come the lines of the
 * head, an empty line, and the body.  A byte 1 stands for the API key, which
 * nothing that is reported may show.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "stripe/answer.h"
#include "stripe/request.h"
#include "stripe_portal.h"

#include "fuzz.h"

#define KEY			"sk_test_fuzz_of_the_answer"

typedef struct AnswerRun
{
	SpStripeCall call;
	SpHttpAnswer answer;
	Jsonb	   *jsonb;
	text	   *json;
	TimestampTz time;
} AnswerRun;

/* What is read is freed; it has a terminator after whatever it is. */
static char *
copy_body(const SpHttpAnswer *answer)
{
	return memcpy(palloc(answer->length + 1), answer->body, answer->length + 1);
}

static void
read_jsonb(void *arg)
{
	AnswerRun  *run = arg;
	SpHttpAnswer copy = run->answer;

	copy.body = copy_body(&copy);
	run->jsonb = sp_stripe_read_answer(&run->call, &copy);
}

static void
read_json(void *arg)
{
	AnswerRun  *run = arg;
	SpHttpAnswer copy = run->answer;

	copy.body = copy_body(&copy);
	run->json = sp_stripe_read_json(&run->call, &copy);
}

static void
read_time(void *arg)
{
	AnswerRun  *run = arg;

	run->time = sp_stripe_answer_time(&run->call, &run->answer);
}

static void
decide(void *arg)
{
	AnswerRun  *run = arg;

	if (sp_stripe_is_rate_limit(&run->answer))
		FUZZ_HOLDS(!sp_stripe_is_invalid(&run->answer));
	sp_stripe_is_missing(&run->answer);
	if (sp_stripe_is_worth_retrying(&run->answer))
		FUZZ_HOLDS(sp_stripe_retry_delay(1, &run->answer) >= 0);
}

/*
 * A report is text in the server's encoding, of a bounded length, and does not
 * have the key in it.  Its code is ours, or one of those that jsonb has for
 * what it can not hold.
 */
static void
check_report(ErrorData *error)
{
	const char *const texts[] = {error->message, error->detail, error->hint};

	for (size_t i = 0; i < lengthof(texts); i++)
	{
		if (texts[i] == NULL)
			continue;
		FUZZ_HOLDS(pg_verifymbstr(texts[i], strlen(texts[i]), true));
		FUZZ_HOLDS(strlen(texts[i]) < 1000);
		FUZZ_HOLDS(strstr(texts[i], KEY) == NULL);
	}
	FUZZ_HOLDS(strncmp(unpack_sql_state(error->sqlerrcode), "SP", 2) == 0 ||
			   error->sqlerrcode == ERRCODE_STATEMENT_TOO_COMPLEX ||
			   error->sqlerrcode == ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE);
}

void
fuzz_answer(FuzzInput *input)
{
	AnswerRun	run = {.call = {"POST", "/v1/customers", "key_1", KEY, 2, true}};
	char	   *line;
	size_t		len;
	char	   *rest;
	StringInfoData body;
	ErrorData  *error;

	run.answer.outcome = SP_ANSWERED;
	run.answer.status = 100 + abs(atoi(fuzz_line(input)) % 500);
	while (*(line = fuzz_line(input)) != '\0')
		sp_stripe_note_header(&run.answer, fuzz_exact(line, strlen(line)), strlen(line));

	rest = fuzz_rest(input, &len);
	initStringInfo(&body);
	for (size_t i = 0; i < len; i++)
	{
		if (rest[i] == 1)
			appendStringInfoString(&body, KEY);
		else
			appendStringInfoChar(&body, rest[i]);
	}
	run.answer.body = body.data;
	run.answer.length = body.len;

	error = fuzz_try(read_jsonb, &run);
	if (error != NULL)
		check_report(error);
	else
		FUZZ_HOLDS(run.answer.status < 300 && run.jsonb != NULL);

	error = fuzz_try(read_json, &run);
	if (error != NULL)
		check_report(error);

	error = fuzz_try(read_time, &run);
	if (error != NULL)
		check_report(error);
	else
		FUZZ_HOLDS(IS_VALID_TIMESTAMP(run.time) && run.time % USECS_PER_SEC == 0);

	error = fuzz_try(decide, &run);
	if (error != NULL)
		check_report(error);
}
