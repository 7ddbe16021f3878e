/*-------------------------------------------------------------------------
 *
 * transport.c
 *	  HTTPS exchanges, one or several at once, interruptible at any moment.
 *
 * libcurl's multi interface runs the exchanges, but the waiting is the server's
 * (wait.c), so that a cancel, a statement timeout or a shutdown takes effect at
 * once in every phase, with the server's own words and SQLSTATEs.
 *
 * Rules that keep it safe:
 *
 * - Nothing that can throw (palloc, ereport, CHECK_FOR_INTERRUPTS) happens in
 *	 a callback of libcurl's: a longjmp over its frames would leave its handles
 *	 half changed.  Callbacks note what they saw; drive() acts on it.
 * - The multi handle, which keeps connections alive between calls, is a
 *	 static of this process.  It outlives a call only if that call got an
 *	 answer; after anything else it is dropped with all its connections, as
 *	 soon as no other exchange needs it.
 * - No connection is used for another base or another set of trusted
 *	 certificates than it was opened for.  libcurl compares them as well, but
 *	 has had its holes there, and the secret key goes over that connection.
 * - The library is never used in the postmaster, so nothing of this is
 *	 inherited by a fork; a parallel worker opens its own connection.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "stripe/settings.h"
#include "stripe/transport.h"
#include "stripe/wait.h"

#if LIBCURL_VERSION_NUM < 0x074a00
#error "stripe_portal needs libcurl 7.74 or later"
#endif

/*
 * What a multi handle may hold between two calls: a connection, and the pair
 * that libcurl wakes itself with.
 */
#define KEPT_DESCRIPTORS	3

/*
 * The multi handle and what its callbacks told.  It must be as long-lived as
 * the handle, since closing a kept connection calls back too.
 */
static struct
{
	CURLM	   *multi;			/* NULL when there is none */
	int			ndescriptors;	/* accounted for with fd.c */
	char	   *api_base;		/* what its connections were opened for */
	char	   *ca_file;
	SpWatch		watch;
	struct Exchange *running;	/* a list of all that are */
	int			nrunning;
	bool		spoiled;		/* to be dropped when none is running */
}			engine;

/* What one exchange owns, all of it given back by release_exchange(). */
typedef struct Exchange
{
	struct Exchange *next;
	CURL	   *easy;
	struct curl_slist *headers;
	char	   *body;			/* malloc'd: the callback must not throw */
	size_t		length;
	size_t		capacity;
	bool		tls_began;
	bool		answer_began;
	bool		too_large;
	bool		out_of_memory;
	SpHttpAnswer *answer;
	char		problem[CURL_ERROR_SIZE];
} Exchange;

#define SET_OPTION(exchange, option, value) \
	do { \
		CURLcode	rc_ = curl_easy_setopt((exchange)->easy, option, value); \
		if (rc_ != CURLE_OK) \
			ereport(ERROR, \
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), \
					 errmsg("could not set libcurl's option %s", #option), \
					 errdetail("%s.", curl_easy_strerror(rc_)))); \
	} while (0)

static void ensure_engine(void);
static void drop_engine(void);
static void start_exchange(Exchange *exchange, const SpHttpRequest *request);
static void add_header(Exchange *exchange, const char *header);
static Exchange *drive(double until, CURLcode *result);
static void advance(curl_socket_t fd, int what);
static void take_answer(Exchange *exchange, CURLcode result);
static SpHttpPhase current_phase(const Exchange *exchange);
static void release_exchange(Exchange *exchange, bool keep_engine);
static void out_of_memory(void);

/* Callbacks of libcurl's: must not throw. */
static int	note_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg);
static int	note_timer(CURLM *multi, long timeout, void *arg);
static CURLcode note_tls(CURL *easy, void *tls_context, void *arg);
static size_t note_header(char *data, size_t size, size_t nmemb, void *arg);
static size_t note_body(char *data, size_t size, size_t nmemb, void *arg);

/*
 * Sends the request and fills in the answer, whose body is allocated in the
 * current memory context.  What went wrong on the way is an outcome, so that
 * the caller can decide to try again.
 *
 * Throws on interrupts and when the server is out of memory or descriptors.
 */
void
sp_stripe_exchange(const SpHttpRequest *request, SpHttpAnswer *answer)
{
	PG_TRY();
	{
		sp_stripe_start(request, answer);
		(void) sp_stripe_next_answer(0);
	}
	PG_CATCH();
	{
		sp_stripe_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * The same in parts, for several exchanges at once; at most SP_MAX_IN_FLIGHT.
 * This one sends a request.  Answer and request must stay where they are, and
 * the memory context as well, until the answer has come or all are abandoned;
 * whatever is thrown, the caller sees to that.
 */
void
sp_stripe_start(const SpHttpRequest *request, SpHttpAnswer *answer)
{
	Exchange   *exchange = palloc0(sizeof(Exchange));

	memset(answer, 0, sizeof(*answer));
	exchange->answer = answer;

	ensure_engine();
	exchange->next = engine.running;
	engine.running = exchange;
	engine.nrunning++;
	start_exchange(exchange, request);
}

/*
 * The next answer that is complete; NULL if none is until the time comes that
 * until says (see sp_stripe_now; 0: never).
 */
SpHttpAnswer *
sp_stripe_next_answer(double until)
{
	CURLcode	result;
	Exchange   *exchange = drive(until, &result);
	SpHttpAnswer *answer;

	if (exchange == NULL)
		return NULL;

	take_answer(exchange, result);
	answer = exchange->answer;
	release_exchange(exchange, answer->outcome == SP_ANSWERED);
	return answer;
}

/*
 * Ends all exchanges that are still running.  Does not throw.
 */
void
sp_stripe_abandon(void)
{
	while (engine.running != NULL)
		release_exchange(engine.running, false);
}

/*
 * Makes the multi handle, unless the one we have can be used, and makes room in
 * it for one more exchange.
 */
static void
ensure_engine(void)
{
	static bool initialized = false;

	/* Settings do not change while an exchange is running. */
	if (engine.multi != NULL && engine.nrunning == 0 &&
		(strcmp(engine.api_base, sp_api_base) != 0 ||
		 strcmp(engine.ca_file, sp_ca_file) != 0))
		drop_engine();

	if (!initialized)
	{
		CURLcode	rc = curl_global_init(CURL_GLOBAL_DEFAULT);

		if (rc != CURLE_OK)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("could not initialize libcurl"),
					 errdetail("%s.", curl_easy_strerror(rc))));
		initialized = true;
	}

	while (engine.ndescriptors < KEPT_DESCRIPTORS + engine.nrunning)
	{
		if (!AcquireExternalFD())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not open a connection to Stripe"),
					 errdetail("There are too many open files on the local server."),
					 errhint("Raise the server's max_files_per_process and/or \"ulimit -n\" limits.")));
		engine.ndescriptors++;
	}

	if (engine.multi != NULL)
	{
		curl_multi_setopt(engine.multi, CURLMOPT_MAXCONNECTS,
						  (long) (engine.ndescriptors - KEPT_DESCRIPTORS + 1));
		return;
	}

	engine.api_base = MemoryContextStrdup(TopMemoryContext, sp_api_base);
	engine.ca_file = MemoryContextStrdup(TopMemoryContext, sp_ca_file);

	engine.multi = curl_multi_init();
	if (engine.multi == NULL)
		out_of_memory();

#if LIBCURL_VERSION_NUM >= 0x081400
	/* As in start_exchange(); here is where the threads are since 8.20. */
	curl_multi_setopt(engine.multi, CURLMOPT_QUICK_EXIT, 1L);
#endif

	/* To one host, each exchange at a time needs one connection. */
	curl_multi_setopt(engine.multi, CURLMOPT_MAXCONNECTS, 1L);
	curl_multi_setopt(engine.multi, CURLMOPT_SOCKETFUNCTION, note_socket);
	curl_multi_setopt(engine.multi, CURLMOPT_TIMERFUNCTION, note_timer);
}

/*
 * Closes all connections.  Works on a half-made engine, too.
 */
static void
drop_engine(void)
{
	if (engine.multi != NULL)
		curl_multi_cleanup(engine.multi);
	if (engine.api_base != NULL)
		pfree(engine.api_base);
	if (engine.ca_file != NULL)
		pfree(engine.ca_file);
	while (engine.ndescriptors > 0)
	{
		ReleaseExternalFD();
		engine.ndescriptors--;
	}
	memset(&engine, 0, sizeof(engine));
}

static void
start_exchange(Exchange *exchange, const SpHttpRequest *request)
{
	bool		https = strncmp(request->url, "https:", 6) == 0;
	char	   *authorization;

	exchange->easy = curl_easy_init();
	if (exchange->easy == NULL)
		out_of_memory();

#if LIBCURL_VERSION_NUM >= 0x075700

	/*
	 * The threaded resolver cannot be stopped.  Without this, giving a handle
	 * back waits for it, so that a hung name server would hold up a cancel.
	 */
	SET_OPTION(exchange, CURLOPT_QUICK_EXIT, 1L);
#endif
	SET_OPTION(exchange, CURLOPT_NOSIGNAL, 1L);
	SET_OPTION(exchange, CURLOPT_ERRORBUFFER, exchange->problem);

	/*
	 * Where the key may go: only to the base that a superuser has set,
	 * directly, and only if it can prove who it is.  Redirects are not
	 * followed, since the key would follow them, and neither the environment
	 * nor a .netrc of the server's user has a say.
	 */
	SET_OPTION(exchange, CURLOPT_URL, request->url);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET_OPTION(exchange, CURLOPT_PROTOCOLS_STR, https ? "https" : "http");
#else
	SET_OPTION(exchange, CURLOPT_PROTOCOLS, (long) (https ? CURLPROTO_HTTPS : CURLPROTO_HTTP));
#endif
	SET_OPTION(exchange, CURLOPT_FOLLOWLOCATION, 0L);
	SET_OPTION(exchange, CURLOPT_PROXY, "");
	SET_OPTION(exchange, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET_OPTION(exchange, CURLOPT_PATH_AS_IS, 1L);
	SET_OPTION(exchange, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET_OPTION(exchange, CURLOPT_SSL_VERIFYPEER, 1L);
	SET_OPTION(exchange, CURLOPT_SSL_VERIFYHOST, 2L);
	if (*sp_ca_file != '\0')
	{
		/* Instead of the system's directory, not in addition to it. */
		SET_OPTION(exchange, CURLOPT_CAINFO, sp_ca_file);
		SET_OPTION(exchange, CURLOPT_CAPATH, NULL);
	}

	/* With a few connections that are kept, HTTP/2 would have nothing to offer. */
	SET_OPTION(exchange, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET_OPTION(exchange, CURLOPT_CONNECTTIMEOUT_MS, (long) sp_connect_timeout);
	SET_OPTION(exchange, CURLOPT_TIMEOUT_MS, (long) sp_timeout);

	if (strcmp(request->method, "POST") == 0)
	{
		SET_OPTION(exchange, CURLOPT_POST, 1L);
		SET_OPTION(exchange, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(request->body));
		SET_OPTION(exchange, CURLOPT_POSTFIELDS, request->body);
	}
	else if (strcmp(request->method, "GET") != 0)
	{
		SET_OPTION(exchange, CURLOPT_CUSTOMREQUEST, request->method);

		/*
		 * If a kept connection turns out to be closed, libcurl repeats the
		 * request without a word.  That is fine for a GET and for a POST with
		 * its idempotency key, but the second answer to a DELETE may differ.
		 */
		SET_OPTION(exchange, CURLOPT_FRESH_CONNECT, 1L);
	}

	authorization = psprintf("Authorization: Bearer %s", request->key);
	add_header(exchange, authorization);
	explicit_bzero(authorization, strlen(authorization));
	pfree(authorization);
	for (int i = 0; request->headers[i] != NULL; i++)
		add_header(exchange, request->headers[i]);
	add_header(exchange, "Expect:");	/* a large body needs no permission */
	SET_OPTION(exchange, CURLOPT_HTTPHEADER, exchange->headers);

	/* Not every TLS library has it; then TLS counts as connecting. */
	curl_easy_setopt(exchange->easy, CURLOPT_SSL_CTX_FUNCTION, note_tls);
	curl_easy_setopt(exchange->easy, CURLOPT_SSL_CTX_DATA, exchange);
	SET_OPTION(exchange, CURLOPT_HEADERFUNCTION, note_header);
	SET_OPTION(exchange, CURLOPT_HEADERDATA, exchange);
	SET_OPTION(exchange, CURLOPT_WRITEFUNCTION, note_body);
	SET_OPTION(exchange, CURLOPT_WRITEDATA, exchange);

	SET_OPTION(exchange, CURLOPT_PRIVATE, exchange);

	if (curl_multi_add_handle(engine.multi, exchange->easy) != CURLM_OK)
		out_of_memory();
}

static void
add_header(Exchange *exchange, const char *header)
{
	struct curl_slist *headers = curl_slist_append(exchange->headers, header);

	if (headers == NULL)
		out_of_memory();
	exchange->headers = headers;
}

/*
 * Runs the exchanges until one of them is at its end, and gives that one; NULL
 * if none is when the time is up.
 */
static Exchange *
drive(double until, CURLcode *result)
{
	for (;;)
	{
		WaitEvent	ready[SP_MAX_SOCKETS];
		CURLMsg    *message;
		int			nready;
		int			nleft;

		while ((message = curl_multi_info_read(engine.multi, &nleft)) != NULL)
		{
			if (message->msg == CURLMSG_DONE)
			{
				Exchange   *exchange;

				curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &exchange);
				*result = message->data.result;
				return exchange;
			}
		}

		CHECK_FOR_INTERRUPTS();

		if (sp_stripe_watch_timer_due(&engine.watch))
		{
			advance(CURL_SOCKET_TIMEOUT, 0);
			continue;
		}
		if (until != 0 && sp_stripe_now() >= until)
			return NULL;

		nready = sp_stripe_watch_wait(&engine.watch, ready, until);
		for (int i = 0; i < nready; i++)
			advance(ready[i].fd,
					((ready[i].events & WL_SOCKET_READABLE) ? CURL_CSELECT_IN : 0) |
					((ready[i].events & WL_SOCKET_WRITEABLE) ? CURL_CSELECT_OUT : 0));
	}
}

/*
 * Lets libcurl do what it can do without waiting.
 *
 * It may start a thread for a name lookup.  That thread must not take the
 * process's signals, since handlers like the one for a cancel are for the main
 * thread: a thread inherits the signal mask of the one that made it.
 */
static void
advance(curl_socket_t fd, int what)
{
	sigset_t	all_signals;
	sigset_t	old_signals;
	int			nrunning;
	CURLMcode	rc;

	sigfillset(&all_signals);
	pthread_sigmask(SIG_SETMASK, &all_signals, &old_signals);
	rc = curl_multi_socket_action(engine.multi, fd, what, &nrunning);
	pthread_sigmask(SIG_SETMASK, &old_signals, NULL);

	if (rc != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not carry out the request to Stripe"),
				 errdetail("%s.", curl_multi_strerror(rc))));
}

/*
 * Fills in the answer from how the exchange ended.
 */
static void
take_answer(Exchange *exchange, CURLcode result)
{
	SpHttpAnswer *answer = exchange->answer;
	long		status = 0;
	curl_off_t	elapsed = 0;

	if (exchange->out_of_memory || result == CURLE_OUT_OF_MEMORY)
		out_of_memory();

	answer->phase = current_phase(exchange);

	switch (result)
	{
		case CURLE_OK:
			curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
			answer->outcome = SP_ANSWERED;
			answer->status = (int) status;
			answer->length = exchange->length;
			answer->body = palloc(exchange->length + 1);
			if (exchange->length > 0)
				memcpy(answer->body, exchange->body, exchange->length);
			answer->body[exchange->length] = '\0';
			curl_easy_getinfo(exchange->easy, CURLINFO_TOTAL_TIME_T, &elapsed);
			answer->elapsed_us = elapsed;
			return;

		case CURLE_OPERATION_TIMEDOUT:
			answer->outcome = SP_TIMED_OUT;
			break;

		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
			answer->outcome = SP_UNTRUSTED;
			break;

		default:
			answer->outcome = exchange->too_large ? SP_TOO_LARGE : SP_FAILED;
			break;
	}

	strlcpy(answer->problem,
			exchange->problem[0] != '\0' ? exchange->problem : curl_easy_strerror(result),
			sizeof(answer->problem));
}

/*
 * How far did the exchange come?  libcurl's times say nothing reliable about
 * the phases after that of the lookup: what they count from, and when they are
 * set, differs from version to version.
 */
static SpHttpPhase
current_phase(const Exchange *exchange)
{
	curl_off_t	looked_up = 0;
	long		sent = 0;

	curl_easy_getinfo(exchange->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up);
	curl_easy_getinfo(exchange->easy, CURLINFO_REQUEST_SIZE, &sent);

	if (exchange->answer_began)
		return SP_PHASE_READ;
	if (sent > 0)
		return SP_PHASE_WAIT;
	if (exchange->tls_began)
		return SP_PHASE_TLS;
	if (looked_up > 0)
		return SP_PHASE_CONNECT;
	return SP_PHASE_DNS;
}

/*
 * Gives back what the exchange owns, whatever became of it.  Does not throw.
 */
static void
release_exchange(Exchange *exchange, bool keep_engine)
{
	Exchange  **link = &engine.running;

	while (*link != exchange)
		link = &(*link)->next;
	*link = exchange->next;
	engine.nrunning--;

	if (exchange->easy != NULL)
	{
		curl_multi_remove_handle(engine.multi, exchange->easy);
		curl_easy_cleanup(exchange->easy);
	}
	if (!keep_engine)
		engine.spoiled = true;
	if (engine.nrunning == 0)
	{
		sp_stripe_watch_end(&engine.watch);
		if (engine.spoiled)
			drop_engine();
	}

	/* The key is in one of them. */
	for (struct curl_slist *header = exchange->headers; header != NULL; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(exchange->headers);

	free(exchange->body);
	pfree(exchange);
}

static void
out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("Failed while talking to Stripe.")));
}

/*
 * libcurl wants a socket to be watched, differently or no longer.
 */
static int
note_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	uint32		events = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;

	/* Of -1 libcurl makes an error, which advance() reports. */
	return sp_stripe_watch_socket(&engine.watch, fd, events) ? 0 : -1;
}

/*
 * libcurl wants to be called after some milliseconds, or (-1) not at all.
 */
static int
note_timer(CURLM *multi, long timeout, void *arg)
{
	sp_stripe_watch_timer(&engine.watch, timeout);
	return 0;
}

/*
 * The connection stands, and TLS begins on it.
 */
static CURLcode
note_tls(CURL *easy, void *tls_context, void *arg)
{
	((Exchange *) arg)->tls_began = true;
	return CURLE_OK;
}

/*
 * One line of the answer's head came in.
 */
static size_t
note_header(char *data, size_t size, size_t nmemb, void *arg)
{
	Exchange   *exchange = arg;
	size_t		length = size * nmemb;

	exchange->answer_began = true;
	sp_stripe_note_header(exchange->answer, data, length);
	return length;
}

/*
 * Some of the answer's body came in.  Taking less than was offered makes
 * libcurl end the exchange.
 */
static size_t
note_body(char *data, size_t size, size_t nmemb, void *arg)
{
	Exchange   *exchange = arg;
	size_t		length = size * nmemb;

	if (length > SP_MAX_ANSWER_SIZE - exchange->length)
	{
		exchange->too_large = true;
		return 0;
	}

	if (length > exchange->capacity - exchange->length)
	{
		size_t		capacity = Max(exchange->capacity * 2, exchange->length + length);
		char	   *body = realloc(exchange->body, capacity);

		if (body == NULL)
		{
			exchange->out_of_memory = true;
			return 0;
		}
		exchange->body = body;
		exchange->capacity = capacity;
	}

	memcpy(exchange->body + exchange->length, data, length);
	exchange->length += length;
	return length;
}
