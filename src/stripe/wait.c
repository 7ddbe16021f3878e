/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Waiting for sockets and for time to pass, interruptibly.
 *
 * Whatever is waited for, the process latch and the postmaster's death are
 * waited for as well.  Time is taken from the monotonic clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"

#include "compat.h"
#include "stripe/wait.h"

/* Postmaster death and the latch come before the sockets. */
#define MAX_EVENTS	(2 + SP_MAX_SOCKETS)

static void make_set(SpWatch *watch);

/*
 * Watches a socket for these events, instead of those it was watched for; none
 * ends it.  Returns false if there are too many sockets.  Does not throw.
 */
bool
sp_stripe_watch_socket(SpWatch *watch, pgsocket fd, uint32 events)
{
	int			i = 0;

	/*
	 * Even if nothing seems to change: a descriptor that was closed and opened
	 * again is no longer in the old set, although its number is.
	 */
	watch->set_outdated = true;

	while (i < watch->nsockets && watch->sockets[i].fd != fd)
		i++;

	if (events == 0)
	{
		if (i < watch->nsockets)
			watch->sockets[i] = watch->sockets[--watch->nsockets];
		return true;
	}

	if (i == SP_MAX_SOCKETS)
		return false;
	if (i == watch->nsockets)
		watch->nsockets++;
	watch->sockets[i].fd = fd;
	watch->sockets[i].events = events;
	return true;
}

/*
 * Arms the timer, or disarms it if the time is negative.  Does not throw.
 */
void
sp_stripe_watch_timer(SpWatch *watch, long timeout_ms)
{
	watch->timer_armed = timeout_ms >= 0;
	if (watch->timer_armed)
		watch->timer_due = sp_stripe_now() + timeout_ms;
}

/*
 * Has the timer run out?  That is told once.
 */
bool
sp_stripe_watch_timer_due(SpWatch *watch)
{
	if (!watch->timer_armed || watch->timer_due > sp_stripe_now())
		return false;
	watch->timer_armed = false;
	return true;
}

/*
 * Sleeps until a socket is ready, the timer is due, the latch is set or the
 * time comes that until says (0: never), and gives the number of ready sockets.
 * ready must have room for SP_MAX_SOCKETS.
 *
 * The latch is reset: the caller checks for interrupts before the next wait.
 */
int
sp_stripe_watch_wait(SpWatch *watch, WaitEvent *ready, double until)
{
	static uint32 wait_event = 0;
	WaitEvent	occurred[MAX_EVENTS];
	long		timeout = -1;
	int			noccurred;
	int			nready = 0;

	if (wait_event == 0)
		wait_event = SP_WAIT_EVENT("StripeRequest");

	if (watch->set == NULL || watch->set_outdated)
		make_set(watch);

	if (watch->timer_armed && (until == 0 || watch->timer_due < until))
		until = watch->timer_due;

	/* Rounded up, so as not to spin through the last millisecond. */
	if (until != 0)
		timeout = (long) Max(until - sp_stripe_now(), 0) + 1;

	noccurred = WaitEventSetWait(watch->set, timeout, occurred, lengthof(occurred), wait_event);
	for (int i = 0; i < noccurred; i++)
	{
		if (occurred[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else
			ready[nready++] = occurred[i];
	}
	return nready;
}

/*
 * Gives back the wait event set, which holds a descriptor.  Does not throw.
 */
void
sp_stripe_watch_end(SpWatch *watch)
{
	if (watch->set != NULL)
		FreeWaitEventSet(watch->set);
	watch->set = NULL;
}

/*
 * Does nothing for some time, but reacts to interrupts.
 */
void
sp_stripe_sleep(long delay_ms)
{
	static uint32 wait_event = 0;
	double		until = sp_stripe_now() + delay_ms;

	if (wait_event == 0)
		wait_event = SP_WAIT_EVENT("StripeRetry");

	for (;;)
	{
		double		left;

		CHECK_FOR_INTERRUPTS();
		left = until - sp_stripe_now();
		if (left <= 0)
			break;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) left + 1, wait_event);
		ResetLatch(MyLatch);
	}
}

static void
make_set(SpWatch *watch)
{
	sp_stripe_watch_end(watch);
	watch->set = sp_create_wait_event_set(MAX_EVENTS);
	if (IsUnderPostmaster)
		AddWaitEventToSet(watch->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(watch->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	for (int i = 0; i < watch->nsockets; i++)
		AddWaitEventToSet(watch->set, watch->sockets[i].events, watch->sockets[i].fd, NULL, NULL);
	watch->set_outdated = false;
}

/*
 * Milliseconds by a clock that nobody sets.  Does not throw.
 */
double
sp_stripe_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MILLISEC(now);
}
