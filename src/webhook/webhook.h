/*-------------------------------------------------------------------------
 *
 * webhook.h
 *	  What the files of this topic share: verifying by the settings, and the
 *	  event as it was read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_WEBHOOK_H
#define SP_WEBHOOK_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "webhook/signature.h"

/* verify.c */
extern SpSignature sp_webhook_verify(const char *payload, size_t payload_len,
									 text *sig, TimestampTz at);
extern const char *sp_webhook_signed_bytes(text *payload, size_t *len);
pg_noreturn extern void sp_webhook_refuse(SpSignature why);
extern const char *sp_webhook_refusal(SpSignature why, const char **hint);

/*
 * event.c: an event, as far as it could be read.  problem says why it can not
 * be applied, else it is NULL.  A body that is no event at all is unreadable:
 * its id is made from its SHA-256, so that it is stored once too.
 */
typedef struct SpEvent
{
	char	   *id;
	bool		livemode;
	char	   *account;
	char	   *type;
	bool		has_created;
	TimestampTz created;
	char	   *api_version;
	char	   *object_id;
	bool		thin;
	bool		unreadable;
	bool		carries_url;	/* of a portal session: never stored */
	Jsonb	   *jsonb;
	char	   *problem;
} SpEvent;

/* An event's row in the ledger; created leads to its one partition. */
#define SP_EVENT_KEY_LEN	4
#define SP_EVENT_KEY_TYPES	TEXTOID, BOOLOID, TEXTOID, TIMESTAMPTZOID
#define SP_EVENT_KEY \
	"id = $1 AND livemode = $2 AND account = $3" \
	" AND (created = $4 OR ($4 IS NULL AND created IS NULL))"

extern SpEvent *sp_webhook_read_event(const char *payload, size_t payload_len);
extern void sp_webhook_event_key(const SpEvent *event, Datum *values, bool *isnull);
extern void sp_webhook_rethrow_if_passing(ErrorData *error);

/* receive.c */
/* One event on its way into the ledger. */
typedef struct SpDelivery
{
	SpEvent    *event;
	const char *payload;		/* as signed, UTF-8 */
	size_t		payload_len;
	TimestampTz received_at;
	const char *stored;			/* its status in the ledger; NULL: it is new */
	bool		no_handlers;	/* there are none at all */
	bool		settled;		/* thin, and its object has been read */
	bool		forgotten;		/* of a customer who was: event has what is kept of it */
	MemoryContext context;		/* outlives SPI, for the answer */

	/* what became of it */
	const char *outcome;
	const char *error;
	bool		handlers_failed;
} SpDelivery;

extern void sp_webhook_receive(SpDelivery *delivery);
extern void sp_webhook_take_forgotten(SpDelivery *delivery);
extern void sp_webhook_verdict(const SpDelivery *delivery, Datum *values, bool *isnull);
extern Datum sp_webhook_payload(const SpDelivery *delivery);

/* ledger.c */
extern void sp_webhook_init_ledger(void);
extern bool sp_webhook_is_stored(const SpEvent *event, bool *any_handlers);

/* handler.c */
extern List *sp_webhook_find_handlers(const SpEvent *event);
extern void sp_webhook_call_handlers(List *handlers, const SpEvent *event);

#endif							/* SP_WEBHOOK_H */
