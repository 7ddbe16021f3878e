/*-------------------------------------------------------------------------
 *
 * transport.h
 *	  HTTPS exchanges, interruptible at any moment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_TRANSPORT_H
#define SP_STRIPE_TRANSPORT_H

/* No answer of Stripe's comes near this; it bounds what a peer can make us hold. */
#define SP_MAX_ANSWER_SIZE	(16 * 1024 * 1024)

typedef struct SpHttpRequest
{
	const char *method;			/* GET, POST or DELETE */
	const char *url;
	const char *key;			/* goes out as bearer token, never printed */
	const char *headers[7];		/* "Name: value", ended by a NULL */
	const char *body;			/* of a POST; must not be NULL there */
} SpHttpRequest;

/* How far an exchange came. */
typedef enum SpHttpPhase
{
	SP_PHASE_DNS,
	SP_PHASE_CONNECT,
	SP_PHASE_TLS,
	SP_PHASE_WAIT,				/* from here on the peer may have acted on it */
	SP_PHASE_READ,
} SpHttpPhase;

typedef enum SpHttpOutcome
{
	SP_ANSWERED,				/* with whatever status */
	SP_FAILED,					/* while in .phase */
	SP_TIMED_OUT,				/* while in .phase */
	SP_UNTRUSTED,				/* the peer's certificate was not accepted */
	SP_TOO_LARGE,				/* more than SP_MAX_ANSWER_SIZE */
} SpHttpOutcome;

typedef struct SpHttpAnswer
{
	SpHttpOutcome outcome;
	SpHttpPhase phase;
	char		problem[256];	/* libcurl's words, when not SP_ANSWERED */
	int			status;
	char	   *body;			/* palloc'd and terminated */
	size_t		length;
	char		request_id[64]; /* what follows is empty when not sent */
	char		should_retry[8];
	char		retry_after[32];
	char		date[40];
	int64		elapsed_us;		/* at most this long ago the request left */
} SpHttpAnswer;

extern void sp_stripe_exchange(const SpHttpRequest *request, SpHttpAnswer *answer);

/* Several at once. */
extern void sp_stripe_start(const SpHttpRequest *request, SpHttpAnswer *answer);
extern SpHttpAnswer *sp_stripe_next_answer(double until);
extern void sp_stripe_abandon(void);

/* head.c */
extern void sp_stripe_note_header(SpHttpAnswer *answer, const char *line, size_t length);

#endif							/* SP_STRIPE_TRANSPORT_H */
