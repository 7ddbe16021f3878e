/*-------------------------------------------------------------------------
 *
 * return_url.c
 *	  Where the portal may send a customer back to.
 *
 * The return URL often comes from a request parameter, so it is checked as
 * one: a link on Stripe's own page that leads to a stranger's site is a gift
 * to a phisher.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "portal/return_url.h"

#define MAX_URL_LEN	2048

static bool is_loopback(const char *host, size_t len);
static bool host_is_allowed(const char *host, size_t len, const char *allowed_hosts);
static void refuse(const char *problem) pg_attribute_noreturn();

/*
 * Raise 22023 unless url is absolute, https (or http to this machine), and
 * leads to an allowed host.  allowed_hosts is a comma-separated list, where
 * *.example.com stands for every host below example.com; empty allows all.
 *
 * The URL itself is not in the message: it may carry somebody's token.
 */
void
sp_portal_check_return_url(const char *url, const char *allowed_hosts)
{
	bool		https = pg_strncasecmp(url, "https://", 8) == 0;
	const char *authority;
	const char *host;
	const char *host_end;
	const char *port;
	size_t		authority_len;

	if (strlen(url) > MAX_URL_LEN)
		refuse("It is longer than 2048 bytes.");
	for (const char *p = url; *p != '\0'; p++)
	{
		/* browsers read a backslash as a slash, so it can hide the host */
		if (*p <= ' ' || *p >= 0x7f || strchr("\\\"<>^`{|}", *p) != NULL)
			refuse("It has characters that must be percent-encoded in a URL.");
	}
	if (!https && pg_strncasecmp(url, "http://", 7) != 0)
		refuse("It is not an absolute https URL.");

	authority = url + (https ? 8 : 7);
	authority_len = strcspn(authority, "/?#");
	if (memchr(authority, '@', authority_len) != NULL)
		refuse("It has a user name before the host.");

	host = authority;
	if (*host == '[')
	{
		host_end = memchr(host, ']', authority_len);
		if (host_end == NULL)
			refuse("Its host is malformed.");
		host_end++;
	}
	else
	{
		host_end = memchr(host, ':', authority_len);
		if (host_end == NULL)
			host_end = authority + authority_len;
	}
	if (host_end == host)
		refuse("It has no host.");

	port = host_end;
	if (port < authority + authority_len)
	{
		size_t		digits = strspn(port + 1, "0123456789");

		if (*port != ':' || digits == 0 || digits > 5 || port + 1 + digits != authority + authority_len)
			refuse("Its port is malformed.");
	}

	if (!https && !is_loopback(host, host_end - host))
		refuse("Only https leads back safely; http is for this machine alone.");
	if (*allowed_hosts != '\0' && !host_is_allowed(host, host_end - host, allowed_hosts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("return URL refused"),
				 errdetail("Host \"%.*s\" is not in \"stripe_portal.return_hosts\".",
						   (int) Min(host_end - host, 255), host)));
}

static bool
is_loopback(const char *host, size_t len)
{
	return (len == 9 && pg_strncasecmp(host, "localhost", 9) == 0) ||
		(len == 5 && strncmp(host, "[::1]", 5) == 0) ||
		(len == 9 && strncmp(host, "127.0.0.1", 9) == 0);
}

static bool
host_is_allowed(const char *host, size_t len, const char *allowed_hosts)
{
	const char *entry = allowed_hosts;

	while (*entry != '\0')
	{
		size_t		entry_len;

		entry += strspn(entry, ", \t");
		entry_len = strcspn(entry, ", \t");
		if (entry_len > 2 && strncmp(entry, "*.", 2) == 0)
		{
			/* the dot stays: *.example.com must not let badexample.com in */
			if (len > entry_len - 1 &&
				pg_strncasecmp(host + len - (entry_len - 1), entry + 1, entry_len - 1) == 0)
				return true;
		}
		else if (entry_len == len && pg_strncasecmp(host, entry, len) == 0)
			return true;
		entry += entry_len;
	}
	return false;
}

static void
refuse(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("return URL refused"),
			 errdetail_internal("%s", problem),
			 errhint("Give an absolute URL such as https://app.example.com/account.")));
}
