/*-------------------------------------------------------------------------
 *
 * stripe_portal.h
 *	  What every topic shares: the schema's name, the private SQLSTATEs and
 *	  the init functions that _PG_init calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STRIPE_PORTAL_H
#define STRIPE_PORTAL_H

#include "utils/elog.h"

/* Tables, views and internal functions; the public functions go where the user says. */
#define SP_SCHEMA "stripe_portal"

/* Stripe's own limit for ids, in characters; no key of a row is longer. */
#define SP_MAX_ID_LEN 255

/*
 * Class SP is private (classes from I to Z are left to implementations), so
 * that SQL callers can catch each kind by its code.  Those that stand for an
 * answer of Stripe's carry its HTTP status.
 */
#define ERRCODE_SP_NOT_CONFIGURED		MAKE_SQLSTATE('S','P','C','0','1')
#define ERRCODE_SP_NOT_ACTIVE			MAKE_SQLSTATE('S','P','A','0','1')
#define ERRCODE_SP_SIGNATURE_REFUSED	MAKE_SQLSTATE('S','P','W','0','1')
#define ERRCODE_SP_TOKEN_REFUSED		MAKE_SQLSTATE('S','P','R','0','1')
#define ERRCODE_SP_INVALID_REQUEST		MAKE_SQLSTATE('S','P','4','0','0')
#define ERRCODE_SP_AUTHENTICATION		MAKE_SQLSTATE('S','P','4','0','1')
#define ERRCODE_SP_CARD_ERROR			MAKE_SQLSTATE('S','P','4','0','2')
#define ERRCODE_SP_PERMISSION			MAKE_SQLSTATE('S','P','4','0','3')
#define ERRCODE_SP_MISSING				MAKE_SQLSTATE('S','P','4','0','4')
#define ERRCODE_SP_CONFLICT				MAKE_SQLSTATE('S','P','4','0','9')
#define ERRCODE_SP_RATE_LIMITED			MAKE_SQLSTATE('S','P','4','2','9')
#define ERRCODE_SP_API_ERROR			MAKE_SQLSTATE('S','P','5','0','0')
#define ERRCODE_SP_BAD_RESPONSE			MAKE_SQLSTATE('S','P','5','0','2')

/* One init per topic: each defines its own settings. */
extern void sp_stripe_init(void);
extern void sp_webhook_init(void);
extern void sp_portal_init(void);
extern void sp_winback_init(void);

#endif							/* STRIPE_PORTAL_H */
