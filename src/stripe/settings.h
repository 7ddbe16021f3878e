/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings of the Stripe client.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_SETTINGS_H
#define SP_STRIPE_SETTINGS_H

#include "stripe/secret.h"

extern char *sp_api_base;
extern char *sp_api_version;
extern char *sp_ca_file;		/* "" for the system's certificates */
extern int	sp_connect_timeout; /* milliseconds */
extern int	sp_timeout;			/* milliseconds */
extern int	sp_max_retries;

extern SpSecretSource sp_stripe_api_key;

#endif							/* SP_STRIPE_SETTINGS_H */
