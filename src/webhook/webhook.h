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

extern SpEvent *sp_webhook_read_event(const char *payload, size_t payload_len);
extern void sp_webhook_rethrow_if_passing(ErrorData *error);

/* handler.c */
extern List *sp_webhook_find_handlers(const SpEvent *event);
extern void sp_webhook_call_handlers(List *handlers, const SpEvent *event);

#endif							/* SP_WEBHOOK_H */
