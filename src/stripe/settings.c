/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings of the Stripe client, and who may change each.
 *
 * A setting's context is a security decision.  Whoever may change where a
 * request goes or whose certificate is believed can read the secret key, so
 * api_base and ca_file are for superusers, like the key itself.  api_version
 * is too: the functions of this extension run with their owner's rights and
 * rely on the shape of the answers, which a caller must not shift under them.
 * What is left decides only how long the caller is willing to wait, and is
 * everybody's own business.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <limits.h>

#include "utils/guc.h"

#include "stripe_portal.h"
#include "stripe/settings.h"

char	   *sp_api_base;
char	   *sp_api_version;
char	   *sp_ca_file;
int			sp_connect_timeout;
int			sp_timeout;
int			sp_max_retries;
int			sp_in_flight;
int			sp_rate_limit;

static char *sp_api_key;
static char *sp_api_key_file;

SpSecretSource sp_stripe_api_key = {
	.name = "Stripe API key",
	.value = &sp_api_key,
	.file = &sp_api_key_file,
};

static bool check_api_base(char **newval, void **extra, GucSource source);
static bool check_api_version(char **newval, void **extra, GucSource source);
static bool is_host_and_port(const char *rest, int *host_length);
static bool is_loopback(const char *host, int length);

/*
 * Defines the settings; called once, when the library is loaded.
 */
void
sp_stripe_init(void)
{
	DefineCustomStringVariable("stripe_portal.api_base",
							   "Where requests to Stripe are sent.",
							   "https://host[:port]; plain http only for the loopback interface.",
							   &sp_api_base,
							   "https://api.stripe.com",
							   PGC_SUSET, 0,
							   check_api_base, NULL, NULL);

	sp_stripe_define_secret(&sp_stripe_api_key,
							"stripe_portal.api_key",
							"Secret or restricted key for Stripe's API, for trying out in one session.",
							"stripe_portal.api_key_file",
							"File that holds the secret or restricted key for Stripe's API.");

	DefineCustomStringVariable("stripe_portal.api_version",
							   "Version of Stripe's API that requests ask for.",
							   NULL,
							   &sp_api_version,
							   "2026-10-28.endive",
							   PGC_SUSET, 0,
							   check_api_version, NULL, NULL);

	DefineCustomStringVariable("stripe_portal.ca_file",
							   "Certificates that Stripe's is checked against, instead of the system's.",
							   "Absolute path of a PEM file; empty for the system's certificates.",
							   &sp_ca_file,
							   "",
							   PGC_SUSET, 0,
							   sp_stripe_check_path, NULL, NULL);

	DefineCustomIntVariable("stripe_portal.connect_timeout",
							"Time that finding, reaching and trusting Stripe's server may take.",
							"For each attempt: name lookup, connection and TLS together.",
							&sp_connect_timeout,
							10 * 1000,
							1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("stripe_portal.in_flight",
							"How many requests to Stripe a bulk read has in flight at once.",
							NULL,
							&sp_in_flight,
							4,
							1, SP_MAX_IN_FLIGHT,
							PGC_USERSET, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("stripe_portal.max_retries",
							"How often a request to Stripe that failed in passing is sent again.",
							NULL,
							&sp_max_retries,
							2,
							0, 10,
							PGC_USERSET, 0,
							NULL, NULL, NULL);

	/* Stripe allows 25 in a sandbox, and 25 per endpoint in live mode. */
	DefineCustomIntVariable("stripe_portal.rate_limit",
							"How many requests per second a bulk read sends to Stripe at most.",
							"For each session; one that Stripe tells to slow down sends fewer.",
							&sp_rate_limit,
							20,
							1, 1000,
							PGC_USERSET, 0,
							NULL, NULL, NULL);

	/*
	 * For each attempt, as in Stripe's own clients: a limit for the whole
	 * call, waits between attempts included, is what statement_timeout is.
	 */
	DefineCustomIntVariable("stripe_portal.timeout",
							"Time that one attempt of a request to Stripe may take.",
							"For each attempt, from name lookup to the last byte; statement_timeout limits the whole.",
							&sp_timeout,
							80 * 1000,
							1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/*
 * The base says where the key is sent: https to a host, or http to this very
 * machine.  Nothing else can be in it, so that appending a path is safe.
 */
static bool
check_api_base(char **newval, void **extra, GucSource source)
{
	const char *base = *newval;
	int			host_length;

	if (strncmp(base, "https://", 8) == 0)
	{
		if (is_host_and_port(base + 8, &host_length))
			return true;
		GUC_check_errdetail("The value must look like \"https://host\" or \"https://host:port\", with nothing after it.");
	}
	else if (strncmp(base, "http://", 7) == 0)
	{
		if (is_host_and_port(base + 7, &host_length) &&
			is_loopback(base + 7, host_length))
			return true;
		GUC_check_errdetail("Plain http is allowed only for 127.0.0.0/8, [::1] and localhost, because the secret key goes along.");
	}
	else
		GUC_check_errdetail("The value must begin with \"https://\".");

	return false;
}

/*
 * The version goes into a header as it is.
 */
static bool
check_api_version(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' ||
		strspn(*newval, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != strlen(*newval))
	{
		GUC_check_errdetail("An API version looks like \"2026-10-28.endive\".");
		return false;
	}
	return true;
}

/*
 * Is this "host", "host:port", "[v6 address]" or "[v6 address]:port", and
 * nothing more?  The host's length, brackets included, goes to *host_length.
 */
static bool
is_host_and_port(const char *rest, int *host_length)
{
	const char *p = rest;

	if (*p == '[')
	{
		p += 1 + strspn(p + 1, "0123456789abcdefABCDEF:.");
		if (*p++ != ']')
			return false;
	}
	else
		p += strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");

	*host_length = p - rest;
	if (*host_length == 0)
		return false;

	if (*p == ':')
	{
		int			digits = strspn(p + 1, "0123456789");

		if (digits < 1 || digits > 5 || atoi(p + 1) < 1 || atoi(p + 1) > 65535)
			return false;
		p += 1 + digits;
	}

	return *p == '\0';
}

/*
 * Does this host name the loopback interface?  A name that only begins like
 * an address ("127.0.0.1.example.com") does not.
 */
static bool
is_loopback(const char *host, int length)
{
	char	   *name = pnstrdup(host, length);
	struct in_addr address;

	return pg_strcasecmp(name, "localhost") == 0 ||
		strcmp(name, "[::1]") == 0 ||
		(inet_pton(AF_INET, name, &address) == 1 &&
		 (ntohl(address.s_addr) >> 24) == 127);
}
