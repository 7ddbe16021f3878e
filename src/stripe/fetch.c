/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  Reading in bulk: several GET requests in flight, at a pace that Stripe
 *	  accepts.
 *
 * The pace belongs to the session and not to one call, so that calls that
 * follow each other keep it together.  When Stripe says that requests come too
 * fast, none is sent for the time that it asks for, and the pace is halved; it
 * recovers with every request that goes well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "stripe/answer.h"
#include "stripe/form.h"
#include "stripe/request.h"
#include "stripe/settings.h"
#include "stripe/transport.h"
#include "stripe/wait.h"

PG_FUNCTION_INFO_V1(stripe_fetch);

/*
 * So often a request is sent again that came too fast.  That says nothing about
 * the request, so it does not count as a retry, but it has to end some time.
 */
#define MAX_RATE_LIMITED	10

/* The slowest pace, in milliseconds between requests. */
#define SLOWEST				2000.0

/* One request. */
typedef struct Fetch
{
	SpStripeCall call;
	SpHttpRequest request;
	SpHttpAnswer answer;
	double		due;			/* not to be sent before this time */
	int			nrate_limited;
	enum
	{
		WAITING,
		RUNNING,
		DONE
	}			state;
} Fetch;

/* When the next request may be sent, and how far apart they are. */
static struct
{
	double		next;
	double		interval;
}			pace;

/* All of one call, for the error context. */
typedef struct Bulk
{
	Fetch	   *fetches;
	int			nfetches;
} Bulk;

static Fetch *read_arguments(FunctionCallInfo fcinfo, int *nfetches);
static void run_all(Fetch *fetches, int nfetches);
static void run(Fetch *fetches, int nfetches);
static bool start_due(Fetch *fetches, int nfetches, int nrunning, double *next_due);
static void take(Fetch *fetch);
static void describe_fetch(void *arg);
static void describe_bulk(void *arg);

/*
 * fetch(paths text[], params jsonb[], account text)
 * returns setof (n integer, status integer, body json, as_of timestamptz)
 */
Datum
stripe_fetch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			nfetches;
	Fetch	   *fetches = read_arguments(fcinfo, &nfetches);

	InitMaterializedSRF(fcinfo, 0);
	run_all(fetches, nfetches);

	for (int i = 0; i < nfetches; i++)
	{
		Fetch	   *fetch = &fetches[i];
		ErrorContextCallback context;
		Datum		values[4];
		bool		isnull[4] = {false};

		context.callback = describe_fetch;
		context.arg = fetch;
		context.previous = error_context_stack;
		error_context_stack = &context;

		values[0] = Int32GetDatum(i + 1);
		values[1] = Int32GetDatum(fetch->answer.status);
		values[2] = PointerGetDatum(sp_stripe_read_json(&fetch->call, &fetch->answer));
		values[3] = TimestampTzGetDatum(sp_stripe_answer_time(&fetch->call, &fetch->answer));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);

		error_context_stack = context.previous;
	}
	return (Datum) 0;
}

static Fetch *
read_arguments(FunctionCallInfo fcinfo, int *nfetches)
{
	char	   *account = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Datum	   *paths;
	Datum	   *params = NULL;
	bool	   *no_path;
	bool	   *no_params = NULL;
	int			nparams = 0;
	Fetch	   *fetches;

	*nfetches = 0;
	if (PG_ARGISNULL(0))
		return NULL;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
					  &paths, &no_path, nfetches);
	if (!PG_ARGISNULL(1))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT,
						  &params, &no_params, &nparams);
	if (account != NULL && *account == '\0')
		account = NULL;

	fetches = palloc0_array(Fetch, *nfetches);
	for (int i = 0; i < *nfetches; i++)
	{
		StringInfoData form;

		if (no_path[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("path of a Stripe request must not be null")));
		initStringInfo(&form);
		if (i < nparams && !no_params[i])
			sp_stripe_form_append_jsonb(&form, DatumGetJsonbP(params[i]));
		sp_stripe_prepare(&fetches[i].call, &fetches[i].request, "GET",
						  TextDatumGetCString(paths[i]), form.data, account, NULL);
	}

	/* Asking for the key makes the one that was given before invalid. */
	for (int i = 0; i < *nfetches; i++)
		fetches[i].call.key = fetches[i].request.key = fetches[*nfetches - 1].call.key;
	return fetches;
}

static void
run_all(Fetch *fetches, int nfetches)
{
	Bulk		bulk = {fetches, nfetches};
	ErrorContextCallback context;

	context.callback = describe_bulk;
	context.arg = &bulk;
	context.previous = error_context_stack;
	error_context_stack = &context;

	PG_TRY();
	{
		run(fetches, nfetches);
	}
	PG_CATCH();
	{
		sp_stripe_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();

	error_context_stack = context.previous;
}

/*
 * Sends all of them and waits for their answers.
 */
static void
run(Fetch *fetches, int nfetches)
{
	int			ndone = 0;
	int			nrunning = 0;

	while (ndone < nfetches)
	{
		double		next_due = 0;
		SpHttpAnswer *answer;

		if (start_due(fetches, nfetches, nrunning, &next_due))
		{
			nrunning++;
			continue;
		}
		if (nrunning == 0)
		{
			sp_stripe_sleep((long) Max(next_due - sp_stripe_now(), 0));
			continue;
		}

		answer = sp_stripe_next_answer(next_due);
		for (int i = 0; answer != NULL && i < nfetches; i++)
		{
			if (&fetches[i].answer != answer)
				continue;
			take(&fetches[i]);
			nrunning--;
			if (fetches[i].state == DONE)
				ndone++;
		}
	}
}

/*
 * Sends the first request that may be sent now.  If there is none, tells in
 * *next_due when there will be one; 0 if that is not a matter of time.
 */
static bool
start_due(Fetch *fetches, int nfetches, int nrunning, double *next_due)
{
	double		now = sp_stripe_now();

	if (nrunning >= sp_in_flight)
		return false;

	for (int i = 0; i < nfetches; i++)
	{
		double		due = Max(fetches[i].due, pace.next);

		if (fetches[i].state != WAITING)
			continue;
		if (due <= now)
		{
			fetches[i].state = RUNNING;
			pace.interval = Max(pace.interval, 1000.0 / sp_rate_limit);
			pace.next = now + pace.interval;
			sp_stripe_start(&fetches[i].request, &fetches[i].answer);
			return true;
		}
		if (*next_due == 0 || due < *next_due)
			*next_due = due;
	}
	return false;
}

/*
 * An answer has come: was it the last word?
 */
static void
take(Fetch *fetch)
{
	bool		rate_limited = fetch->answer.outcome == SP_ANSWERED &&
		sp_stripe_is_rate_limit(&fetch->answer);
	double		delay;

	fetch->call.nattempts++;
	fetch->state = DONE;

	if (!rate_limited)
		pace.interval = Max(pace.interval * 0.9, 1000.0 / sp_rate_limit);
	if (rate_limited ? fetch->nrate_limited++ >= MAX_RATE_LIMITED
		: fetch->call.nattempts - fetch->nrate_limited > sp_max_retries ||
		!sp_stripe_is_worth_retrying(&fetch->answer))
		return;

	delay = sp_stripe_retry_delay(fetch->call.nattempts, &fetch->answer);
	fetch->state = WAITING;
	fetch->due = sp_stripe_now() + delay;
	if (rate_limited)
	{
		pace.next = Max(pace.next, fetch->due);
		pace.interval = Min(pace.interval * 2, SLOWEST);
	}
	if (fetch->answer.body != NULL)
		pfree(fetch->answer.body);
}

/*
 * Error context: which request it was, but nothing of its parameters.
 */
static void
describe_fetch(void *arg)
{
	Fetch	   *fetch = arg;

	errcontext("Stripe request %s %s", fetch->call.method, fetch->call.path);
}

static void
describe_bulk(void *arg)
{
	Bulk	   *bulk = arg;

	if (bulk->nfetches > 1)
		errcontext("Stripe request GET %s and %d more", bulk->fetches[0].call.path, bulk->nfetches - 1);
	else
		describe_fetch(&bulk->fetches[0]);
}
