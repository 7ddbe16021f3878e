/*
 * slow_dns.c
 *	  A bad name server, for the tests.  Preloaded into the database server, it
 *	  makes the lookup of a name in hang.test take 20 seconds, and that of one
 *	  in fail.test fail at once.
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
	{
		sleep(20);
		return EAI_AGAIN;
	}
	if (node != NULL && strstr(node, ".fail.test") != NULL)
		return EAI_NONAME;
	return lookup(node, service, hints, result);
}
