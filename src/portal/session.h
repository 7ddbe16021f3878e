/*-------------------------------------------------------------------------
 *
 * session.h
 *	  A portal session: what is asked for, and what becomes of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_PORTAL_SESSION_H
#define SP_PORTAL_SESSION_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "access/access.h"

/* Settings. */
extern char *sp_return_url;
extern char *sp_return_hosts;

/* What the caller asks for. */
typedef struct SpWish
{
	SpCustomer	customer;
	char	   *flow;			/* SP_FLOW_PORTAL or Stripe's flow type */
	char	   *subscription;	/* NULL: the only one, if the flow takes one */
	char	   *return_url;		/* NULL leaves it to Stripe's configuration */
	bool		return_url_given;	/* by the caller, not by the setting */
	bool		wants_token;	/* this or another way back asks for one */
	Jsonb	   *options;
	Jsonb	   *parameters;		/* for Stripe, made of all these */
	List	   *news;			/* what was read of an unknown customer */
} SpWish;

/*
 * The row of the ledger; an opened session has a stripe_id and a URL.  Its id
 * is made before the call, because the way back may name it.
 */
typedef struct SpSession
{
	pg_uuid_t  *id;
	TimestampTz return_until;	/* 0: no token was given out */
	char	   *stripe_id;
	char	   *configuration;
	char	   *locale;
	char	   *retention_coupon;	/* that the cancel flow offers, or NULL */
	char	   *url;
	char	   *refused;
} SpSession;

/* wish.c */
extern void sp_portal_read_wish(FunctionCallInfo fcinfo, SpWish *wish);

/* session_row.c */
extern void sp_portal_write_session(const SpWish *wish, const SpSession *session);
extern void sp_portal_set_text(Datum *value, bool *isnull, const char *string);

#endif							/* SP_PORTAL_SESSION_H */
