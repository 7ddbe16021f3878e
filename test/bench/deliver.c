/*
 * deliver.c
 *	  Sends signed events to a database, as fast as it takes them.
 *
 * Usage: deliver FILE CLIENTS BATCH STATEMENT
 *
 * FILE is what "events.py sign" wrote.  Each of CLIENTS processes has a
 * connection (by the environment) and takes every CLIENTSth event; STATEMENT
 * is prepared there, and gets the payload as $1 and, if it names it, the
 * signature as $2, each execution being a transaction.  With BATCH above 0 a
 * statement gets that many events at once, as arrays.  A statement whose first
 * column is "unexpected" has failed.
 *
 * Prints the seconds from the first statement to the last answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

typedef struct
{
	char	   *payload;
	char	   *sig;
} Event;

static Event *events;
static int	count;

static void
fail(const char *what)
{
	fprintf(stderr, "deliver: %s\n", what);
	exit(1);
}

static void
read_events(const char *name)
{
	FILE	   *file = fopen(name, "r");
	char		sig[512];
	size_t		len;
	int			room = 0;

	if (file == NULL)
		fail("cannot read the events");
	while (fscanf(file, "%511s %zu", sig, &len) == 2)
	{
		char	   *payload = malloc(len + 1);

		fgetc(file);
		if (fread(payload, 1, len, file) != len)
			fail("the file of events is cut short");
		payload[len] = '\0';
		if (count == room)
			events = realloc(events, (room = room * 2 + 1024) * sizeof(Event));
		events[count].payload = payload;
		events[count++].sig = strdup(sig);
	}
	fclose(file);
	if (count == 0)
		fail("no events");
}

/* The literal of a text array. */
static char *
array(int first, int step, int n, int of_sigs)
{
	size_t		room = 3;
	char	   *literal;
	char	   *out;

	for (int i = 0; i < n; i++)
		room += 2 * strlen(of_sigs ? events[first + i * step].sig : events[first + i * step].payload) + 3;
	literal = out = malloc(room);
	*out++ = '{';
	for (int i = 0; i < n; i++)
	{
		const char *in = of_sigs ? events[first + i * step].sig : events[first + i * step].payload;

		if (i > 0)
			*out++ = ',';
		*out++ = '"';
		for (; *in; in++)
		{
			if (*in == '"' || *in == '\\')
				*out++ = '\\';
			*out++ = *in;
		}
		*out++ = '"';
	}
	*out++ = '}';
	*out = '\0';
	return literal;
}

static void
deliver(int client, int clients, int batch, const char *statement, int ready, int go)
{
	PGconn	   *conn = PQconnectdb("");
	int			nparams = strstr(statement, "$2") ? 2 : 1;
	int			statements = 0;
	char	 *(*params)[2] = malloc((count + 1) * sizeof(*params));
	PGresult   *result;
	char		byte;

	if (PQstatus(conn) != CONNECTION_OK)
		fail(PQerrorMessage(conn));
	result = PQprepare(conn, "s", statement, 0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail(PQerrorMessage(conn));
	for (int i = client; i < count; statements++)
	{
		int			n = (count - i + clients - 1) / clients;

		if (batch > 0)
		{
			n = n < batch ? n : batch;
			params[statements][0] = array(i, clients, n, 0);
			params[statements][1] = array(i, clients, n, 1);
			i += n * clients;
		}
		else
		{
			params[statements][0] = events[i].payload;
			params[statements][1] = events[i].sig;
			i += clients;
		}
	}

	/* all begin together */
	if (write(ready, "r", 1) != 1 || read(go, &byte, 1) != 1)
		fail("cannot begin");
	for (int i = 0; i < statements; i++)
	{
		result = PQexecPrepared(conn, "s", nparams, (const char *const *) params[i], NULL, NULL, 0);
		if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
			fail(PQerrorMessage(conn));
		if (PQntuples(result) > 0 && strcmp(PQgetvalue(result, 0, 0), "unexpected") == 0)
			fail("an unexpected answer");
		PQclear(result);
	}
	PQfinish(conn);
	exit(0);
}

int
main(int argc, char **argv)
{
	int			clients;
	int			ready[2];
	int			go[2];
	int			bad = 0;
	char		byte;
	struct timespec began;
	struct timespec ended;

	if (argc != 5 || (clients = atoi(argv[2])) < 1)
		fail("usage: deliver FILE CLIENTS BATCH STATEMENT");
	read_events(argv[1]);
	if (pipe(ready) != 0 || pipe(go) != 0)
		fail("cannot make a pipe");
	for (int i = 0; i < clients; i++)
	{
		if (fork() == 0)
			deliver(i, clients, atoi(argv[3]), argv[4], ready[1], go[0]);
	}
	close(ready[1]);
	for (int i = 0; i < clients; i++)
	{
		if (read(ready[0], &byte, 1) != 1)
			return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (int i = 0; i < clients; i++)
	{
		if (write(go[1], "g", 1) != 1)
			return 1;
	}
	for (int i = 0; i < clients; i++)
	{
		int			status;

		wait(&status);
		bad |= status;
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	if (bad)
		return 1;
	printf("%.6f\n", (ended.tv_sec - began.tv_sec) + (ended.tv_nsec - began.tv_nsec) / 1e9);
	return 0;
}
