/*
 * https_loop.c
 *	  What the exchange itself costs: the request that opens a portal session,
 *	  sent again and again on one connection, and nothing else.
 *
 * https_loop COUNT URL CA_FILE KEY	prints the seconds that COUNT requests took.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>

static size_t
take(char *data, size_t size, size_t count, void *answer)
{
	size_t	   *length = answer;

	*length += size * count;
	return size * count;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	long		count = argc == 5 ? atol(argv[1]) : 0;
	char		authorization[256];
	struct curl_slist *headers = NULL;
	CURL	   *curl;
	double		began;

	if (count < 1)
	{
		fprintf(stderr, "usage: https_loop COUNT URL CA_FILE KEY\n");
		return 2;
	}
	snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", argv[4]);
	headers = curl_slist_append(headers, authorization);
	headers = curl_slist_append(headers, "Stripe-Version: 2026-10-28.endive");
	headers = curl_slist_append(headers, "Idempotency-Key: 7d9d3a0e-93a4-4f35-8a09-0e3d7f4f5a10");

	curl_global_init(CURL_GLOBAL_DEFAULT);
	curl = curl_easy_init();
	curl_easy_setopt(curl, CURLOPT_URL, argv[2]);
	curl_easy_setopt(curl, CURLOPT_CAINFO, argv[3]);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
					 "customer=cus_bench&return_url=https%3A%2F%2Fapp.example.com%2Faccount");
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);

	for (long i = -1; i < count; i++)
	{
		size_t		length = 0;
		CURLcode	code;

		/* the first one makes the connection */
		if (i == 0)
			began = now();
		curl_easy_setopt(curl, CURLOPT_WRITEDATA, &length);
		code = curl_easy_perform(curl);
		if (code != CURLE_OK || length == 0)
		{
			fprintf(stderr, "https_loop: %s\n", curl_easy_strerror(code));
			return 1;
		}
	}
	printf("%.6f\n", now() - began);
	return 0;
}
