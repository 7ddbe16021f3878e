/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  Waiting for sockets and for time to pass, interruptibly.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_WAIT_H
#define SP_STRIPE_WAIT_H

#include "storage/latch.h"

#include "stripe/settings.h"

/* libcurl watches one socket of each exchange, or two while it tries IPv6 and IPv4 at once. */
#define SP_MAX_SOCKETS	(2 * SP_MAX_IN_FLIGHT)

/* What is waited for; start with all zeros. */
typedef struct SpWatch
{
	struct
	{
		pgsocket	fd;
		uint32		events;		/* WL_SOCKET_* */
	}			sockets[SP_MAX_SOCKETS];
	int			nsockets;
	bool		timer_armed;
	double		timer_due;		/* milliseconds of a clock that nobody sets */
	WaitEventSet *set;			/* NULL when there is none */
	bool		set_outdated;	/* by a change of the sockets */
} SpWatch;

/* These two do not throw, so that they can be used in callbacks. */
extern bool sp_stripe_watch_socket(SpWatch *watch, pgsocket fd, uint32 events);
extern void sp_stripe_watch_timer(SpWatch *watch, long timeout_ms);

extern bool sp_stripe_watch_timer_due(SpWatch *watch);
extern int	sp_stripe_watch_wait(SpWatch *watch, WaitEvent *ready, double until);
extern void sp_stripe_watch_end(SpWatch *watch);

extern void sp_stripe_sleep(long delay_ms);
extern double sp_stripe_now(void);

#endif							/* SP_STRIPE_WAIT_H */
