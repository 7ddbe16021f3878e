/*-------------------------------------------------------------------------
 *
 * event.c
 *	  Reading an event out of a body that was signed, whatever it is.
 *
 * An input is a body.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "stripe/json.h"
#include "webhook/webhook.h"

#include "fuzz.h"

#define MAX_ID_LEN	255

typedef struct EventRun
{
	const char *payload;
	size_t		payload_len;
	SpEvent    *event;
	Jsonb	   *reread;
} EventRun;

static void
read_event(void *arg)
{
	EventRun   *run = arg;

	run->event = sp_webhook_read_event(run->payload, run->payload_len);
}

/*
 * What the ledger does with the payload: it is stored as json, and read again
 * by replay and by whoever asks for what is in it.
 */
static void
store_payload(void *arg)
{
	EventRun   *run = arg;
	char	   *json = pnstrdup(run->payload, run->payload_len);

	DirectFunctionCall1(json_in, CStringGetDatum(json));
	run->reread = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													 CStringGetDatum(sp_stripe_json_replace_nul(json))));
}

static bool
is_text(const char *text)
{
	return pg_verifymbstr(text, strlen(text), true);
}

static bool
is_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

void
fuzz_event(FuzzInput *input)
{
	EventRun	run = {0};
	EventRun	again;
	SpEvent    *event;

	run.payload = fuzz_rest(input, &run.payload_len);
	FUZZ_HOLDS(fuzz_try(read_event, &run) == NULL);
	event = run.event;

	/* The key fits into its index, in the server's encoding. */
	FUZZ_HOLDS(event->id != NULL && *event->id != '\0' && strlen(event->id) <= MAX_ID_LEN);
	FUZZ_HOLDS(event->account != NULL && strlen(event->account) <= MAX_ID_LEN);
	FUZZ_HOLDS(is_text(event->id));
	for (const char *p = event->account; *p != '\0'; p++)
		FUZZ_HOLDS(*p > ' ' && *p <= '~');
	FUZZ_HOLDS(event->object_id == NULL || (strlen(event->object_id) <= MAX_ID_LEN && is_text(event->object_id)));
	FUZZ_HOLDS(event->type == NULL || is_text(event->type));
	FUZZ_HOLDS(event->api_version == NULL || is_text(event->api_version));
	FUZZ_HOLDS(event->problem == NULL || is_text(event->problem));
	FUZZ_HOLDS(!event->has_created || IS_VALID_TIMESTAMP(event->created));

	/* What is no event at all says so, and is named after its bytes. */
	if (event->unreadable)
	{
		FUZZ_HOLDS(event->problem != NULL);
		FUZZ_HOLDS(strncmp(event->id, "body_", 5) == 0 && strlen(event->id) == 5 + 64);
	}
	else
	{
		FUZZ_HOLDS(event->jsonb != NULL);
		FUZZ_HOLDS(fuzz_try(store_payload, &run) == NULL);
		FUZZ_HOLDS(compareJsonbContainers(&event->jsonb->root, &run.reread->root) == 0);
	}

	/* What has no problem has all that applying it relies on. */
	if (event->problem == NULL && !event->thin)
	{
		FUZZ_HOLDS(event->type != NULL && event->has_created);
		FUZZ_HOLDS(sp_stripe_json_object(sp_stripe_json_object(&event->jsonb->root, "data"), "object") != NULL);
	}

	/* A second delivery is the same event. */
	again = run;
	FUZZ_HOLDS(fuzz_try(read_event, &again) == NULL);
	FUZZ_HOLDS(is_same(again.event->id, event->id) && is_same(again.event->account, event->account));
	FUZZ_HOLDS(is_same(again.event->problem, event->problem) && again.event->created == event->created);
}
