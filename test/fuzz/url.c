/*-------------------------------------------------------------------------
 *
 * url.c
 *	  The check of return URLs: what it accepts leads where curl's parser of
 *	  URLs says, and that is an allowed host.
 *
 * An input is a list of allowed hosts, a customer and a URL, one per line.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <curl/curl.h>

#include "mb/pg_wchar.h"

#include "portal/return_url.h"

#include "fuzz.h"

#define SESSION		"0b8f0d5e-0000-4000-8000-00000000abcd"
#define TOKEN		"abcdefghijklmnopqrstuvwxyz-_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefgh"

typedef struct UrlRun
{
	char	   *hosts;
	char	   *url;
	SpReturnValues values;
	bool		wants_token;
	char	   *filled;
} UrlRun;

static void
check(void *arg)
{
	UrlRun	   *run = arg;

	run->wants_token = sp_portal_check_return_url(run->url, run->hosts);
}

static void
fill(void *arg)
{
	UrlRun	   *run = arg;

	run->filled = sp_portal_fill_return_url(run->url, run->hosts, &run->values);
}

/*
 * Whether a host is in the list: itself, or below what stands after "*.".
 */
static bool
is_allowed(const char *host, const char *hosts)
{
	char	   *copy = pstrdup(hosts);
	char	   *entry;
	bool		any = false;

	while ((entry = strsep(&copy, ", \t")) != NULL)
	{
		size_t		host_len = strlen(host);
		size_t		entry_len = strlen(entry);

		any = any || entry_len > 0;
		if (entry_len > 2 && entry[0] == '*' && entry[1] == '.')
		{
			if (host_len > entry_len - 1 &&
				pg_strcasecmp(host + host_len - (entry_len - 1), entry + 1) == 0)
				return true;
		}
		else if (entry_len > 0 && pg_strcasecmp(host, entry) == 0)
			return true;
	}
	return *hosts == '\0';
}

/*
 * One part of a URL as curl sees it, or NULL.
 */
static char *
part(CURLU *parsed, CURLUPart what)
{
	char	   *value = NULL;
	char	   *copy = NULL;

	if (curl_url_get(parsed, what, &value, 0) == CURLUE_OK)
		copy = pstrdup(value);
	curl_free(value);
	return copy;
}

/*
 * A URL that was accepted.
 */
static void
check_accepted(const char *url, const char *hosts)
{
	CURLU	   *parsed = curl_url();
	char	   *scheme;
	char	   *host;

	FUZZ_HOLDS(strlen(url) <= 2048);
	for (const char *p = url; *p != '\0'; p++)
		FUZZ_HOLDS(*p > ' ' && *p < 0x7f && strchr("\\\"<>^`{|}", *p) == NULL);

	FUZZ_HOLDS(curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK);
	scheme = part(parsed, CURLUPART_SCHEME);
	host = part(parsed, CURLUPART_HOST);
	FUZZ_HOLDS(scheme != NULL && host != NULL && *host != '\0');
	FUZZ_HOLDS(part(parsed, CURLUPART_USER) == NULL && part(parsed, CURLUPART_PASSWORD) == NULL);
	FUZZ_HOLDS(strcmp(scheme, "https") == 0 ||
			   (strcmp(scheme, "http") == 0 &&
				(pg_strcasecmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0 ||
				 strcmp(host, "[::1]") == 0)));
	FUZZ_HOLDS(is_allowed(host, hosts));
	curl_url_cleanup(parsed);
}

void
fuzz_url(FuzzInput *input)
{
	UrlRun		run = {0};
	ErrorData  *error;

	run.hosts = fuzz_line(input);
	run.values.customer = fuzz_line(input);
	run.values.session = SESSION;
	run.values.token = TOKEN;
	run.url = fuzz_line(input);

	error = fuzz_try(check, &run);
	FUZZ_HOLDS(error == NULL || error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE);
	if (error == NULL)
	{
		FUZZ_HOLDS(run.wants_token == (strstr(run.url, "{token}") != NULL));
		if (strchr(run.url, '{') == NULL)
			check_accepted(run.url, run.hosts);
	}

	error = fuzz_try(fill, &run);
	FUZZ_HOLDS(error == NULL || error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE);
	if (error == NULL)
	{
		check_accepted(run.filled, run.hosts);
		FUZZ_HOLDS((strstr(run.filled, TOKEN) != NULL) == (strstr(run.url, "{token}") != NULL) ||
				   strstr(run.url, TOKEN) != NULL);
	}
}
