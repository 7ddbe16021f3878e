/*-------------------------------------------------------------------------
 *
 * return_url.c
 *	  Where the portal may send a customer back to.
 *
 * The return URL often comes from a request parameter, so it is checked as
 * one: a link on Stripe's own page that leads to a stranger's site is a gift
 * to a phisher.  It may leave blanks, {customer}, {session} and {token}, that
 * are filled in for each session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "compat.h"
#include "portal/return_url.h"
#include "stripe/form.h"

#define MAX_URL_LEN	2048

#define TOKEN_PLACEHOLDER "{token}"

static const char *const placeholders[] = {"{customer}", "{session}", TOKEN_PLACEHOLDER};

static void check_placement(const char *url);
static int placeholder_at(const char *url);
static char *fill(const char *url, const SpReturnValues *values);
static void check_filled(const char *url, const char *allowed_hosts);
static bool is_host(const char *host, size_t len);
static bool is_loopback(const char *host, size_t len);
static bool host_is_allowed(const char *host, size_t len, const char *allowed_hosts);
static void check_literals(const char *url);
static char *decode(const char *url);
static bool hex_decode_byte(const char *digits, char *byte);
pg_noreturn static void refuse(const char *problem);
pg_noreturn static void refuse_with_hint(const char *problem, const char *hint);

/*
 * Raise 22023 unless url is absolute, https (or http to this machine), and
 * leads to an allowed host.  allowed_hosts is a comma-separated list, where
 * *.example.com stands for every host below example.com; empty allows all.
 *
 * Returns whether the URL asks for a token.  The URL itself is in no message:
 * it may carry somebody's token.
 */
bool
sp_portal_check_return_url(const char *url, const char *allowed_hosts)
{
	static const SpReturnValues blank = {"", "", ""};

	check_placement(url);
	check_filled(fill(url, &blank), allowed_hosts);
	return strstr(url, TOKEN_PLACEHOLDER) != NULL;
}

/*
 * The URL for one session, palloc'd; raises 22023 if what was filled in made
 * it one that is refused.
 */
char *
sp_portal_fill_return_url(const char *url, const char *allowed_hosts, const SpReturnValues *values)
{
	SpReturnValues without_token = {values->customer, values->session, ""};
	char	   *filled;

	check_placement(url);
	filled = fill(url, values);

	/* a token is random: one in millions would look like the id of something */
	check_filled(fill(url, &without_token), allowed_hosts);
	if (strlen(filled) > MAX_URL_LEN)
		refuse("It is longer than 2048 bytes once its placeholders are filled in.");
	return filled;
}

/*
 * Raise 22023 for a placeholder where it would choose the host, or where no
 * server sees it.
 */
static void
check_placement(const char *url)
{
	const char *authority = strstr(url, "://");
	const char *path = authority != NULL ? authority + 3 + strcspn(authority + 3, "/?#") : url + strlen(url);
	const char *end = path + strcspn(path, "#");

	for (const char *p = url; *p != '\0'; p++)
	{
		if (placeholder_at(p) >= 0 && (p < path || p > end))
			refuse_with_hint("It has a placeholder outside of its path and query.",
							 "Put {customer}, {session} and {token} after the host and before \"#\".");
	}
}

/* Which placeholder begins here, or -1. */
static int
placeholder_at(const char *url)
{
	for (size_t i = 0; i < lengthof(placeholders); i++)
	{
		if (strncmp(url, placeholders[i], strlen(placeholders[i])) == 0)
			return i;
	}
	return -1;
}

/*
 * The URL with its placeholders filled in, palloc'd.
 */
static char *
fill(const char *url, const SpReturnValues *values)
{
	const char *const by_placeholder[] = {values->customer, values->session, values->token};
	StringInfoData filled;

	initStringInfo(&filled);
	while (*url != '\0')
	{
		int			i = placeholder_at(url);

		if (i < 0)
			appendStringInfoChar(&filled, *url++);
		else
		{
			sp_stripe_form_append_encoded(&filled, by_placeholder[i]);
			url += strlen(placeholders[i]);
		}
	}
	return filled.data;
}

/*
 * The refusals, for a URL that has no placeholder left.
 */
static void
check_filled(const char *url, const char *allowed_hosts)
{
	bool		https = pg_strncasecmp(url, "https://", 8) == 0;
	const char *authority;
	const char *host;
	const char *host_end;
	const char *port;
	const char *fragment;
	size_t		authority_len;

	if (strlen(url) > MAX_URL_LEN)
		refuse("It is longer than 2048 bytes.");
	check_literals(url);
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
	if (!is_host(host, host_end - host))
		refuse("Its host is malformed.");

	port = host_end;
	if (port < authority + authority_len)
	{
		size_t		digits = strspn(port + 1, "0123456789");

		if (*port != ':' || digits == 0 || digits > 5 || port + 1 + digits != authority + authority_len ||
			atoi(port + 1) < 1 || atoi(port + 1) > 65535)
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

	/* what stands after "#" stays in the browser */
	if ((fragment = strchr(url, '#')) != NULL && strchr(fragment, '?') != NULL)
		refuse_with_hint("Its query stands after the fragment, where no server sees it.",
					   "Put \"?\" and what follows it before \"#\".");
}

/*
 * Raise 22023 for what was written into the URL by hand and works at most
 * once, or should never leave the server.
 */
static void
check_literals(const char *url)
{
	static const char *const ids[] = {"bps_", "cs_test_", "cs_live_"};

	/* sk_ alone would do away with Slovak: /sk_SK/account */
	static const char *const secrets[] = {
		"sk_test_", "sk_live_", "sk_org_", "rk_test_", "rk_live_", "whsec_"
	};
	char	   *plain = decode(url);
	const char *brace = strchr(url, '{');

	if ((brace != NULL && strchr(brace, '}') != NULL) || strstr(plain, "{CHECKOUT_SESSION_ID}") != NULL)
		refuse_with_hint("It has a placeholder in braces, which the portal does not fill in.",
						 "There are {customer}, {session} and {token}; {CHECKOUT_SESSION_ID} is for Stripe's Checkout only.");
	for (size_t i = 0; i < lengthof(placeholders); i++)
	{
		if (strstr(plain, placeholders[i]) != NULL)
			refuse_with_hint("It has a placeholder whose braces are percent-encoded.",
							 "Write {customer}, {session} and {token} as they are.");
	}

	for (const char *word = plain; *word != '\0'; word++)
	{
		if (word > plain && (isalnum((unsigned char) word[-1]) || word[-1] == '_'))
			continue;
		for (size_t i = 0; i < lengthof(ids); i++)
		{
			if (strncmp(word, ids[i], strlen(ids[i])) == 0)
				refuse_with_hint("It has the id of one Stripe session in it.",
							   "Each session has an id of its own; leave it out.");
		}
		for (size_t i = 0; i < lengthof(secrets); i++)
		{
			if (strncmp(word, secrets[i], strlen(secrets[i])) == 0)
				refuse_with_hint("It has a secret in it.",
							   "Whoever comes back sees the URL: take the secret out, and replace it at Stripe.");
		}
	}
	pfree(plain);
}

/*
 * The URL with its percent-encoding undone once.  A NUL in it would hide the
 * rest, so it becomes a space.
 */
static char *
decode(const char *url)
{
	char	   *plain = palloc(strlen(url) + 1);
	char	   *end = plain;

	for (const char *p = url; *p != '\0'; p++)
	{
		char		byte;

		if (*p == '%' && hex_decode_byte(p + 1, &byte))
		{
			*end++ = byte != '\0' ? byte : ' ';
			p += 2;
		}
		else
			*end++ = *p;
	}
	*end = '\0';
	return plain;
}

/* The byte that two hexadecimal digits stand for, if that is what they are. */
static bool
hex_decode_byte(const char *digits, char *byte)
{
	int			value = 0;

	for (int i = 0; i < 2; i++)
	{
		if (!isxdigit((unsigned char) digits[i]))
			return false;
		value = value * 16 + (isdigit((unsigned char) digits[i]) ? digits[i] - '0'
							  : pg_tolower((unsigned char) digits[i]) - 'a' + 10);
	}
	*byte = (char) value;
	return true;
}

/*
 * Is it a name or an address in its usual form?  Whatever else browsers take
 * for a host, some read one way and some another: with percent-encoding in it,
 * or as an address in octal.
 */
static bool
is_host(const char *host, size_t len)
{
	char	   *name = pnstrdup(host, len);
	char	   *last = strrchr(name, '.');
	struct in6_addr address;

	if (*name == '[')
	{
		name[len - 1] = '\0';
		return inet_pton(AF_INET6, name + 1, &address) == 1;
	}
	if (isdigit((unsigned char) (last != NULL ? last[1] : *name)))
		return inet_pton(AF_INET, name, &address) == 1;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
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
	refuse_with_hint(problem, "Give an absolute URL such as https://app.example.com/account.");
}

static void
refuse_with_hint(const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("return URL refused"),
			 errdetail_internal("%s", problem),
			 errhint("%s", hint)));
}
