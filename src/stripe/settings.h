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

#define SP_MAX_IN_FLIGHT	16

extern char *sp_api_base;
extern char *sp_api_version;
extern char *sp_ca_file;		/* "" for the system's certificates */
extern int	sp_connect_timeout; /* milliseconds */
extern int	sp_timeout;			/* milliseconds */
extern int	sp_max_retries;
extern int	sp_in_flight;		/* requests at once, of those that read in bulk */
extern int	sp_rate_limit;		/* and how many of them per second */

extern SpSecretSource sp_stripe_api_key;

#endif							/* SP_STRIPE_SETTINGS_H */
