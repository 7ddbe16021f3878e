/*
 * slow_dns.c
 *	  A name server that hangs, for the tests: preloaded into the server, it
 *	  makes the lookup of any name under ".hang.test" take 20 seconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int (*lookup_function) (const char *, const char *,
								const struct addrinfo *, struct addrinfo **);

int
getaddrinfo(const char *node, const char *service,
			const struct addrinfo *hints, struct addrinfo **result)
{
	lookup_function lookup = (lookup_function) dlsym(RTLD_NEXT, "getaddrinfo");

	if (node != NULL && strstr(node, ".hang.test") != NULL)
		sleep(20);
	return lookup(node, service, hints, result);
}
