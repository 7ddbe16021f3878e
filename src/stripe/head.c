/*-------------------------------------------------------------------------
 *
 * head.c
 *	  What is kept of the head of an answer.
 *
 * Called from libcurl's callbacks: nothing here may throw.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "stripe/transport.h"

static void keep_value(const char *line, size_t length, const char *name,
					   char *value, size_t value_size);

/*
 * Keeps of one line of the head what somebody asks for later.
 */
void
sp_stripe_note_header(SpHttpAnswer *answer, const char *line, size_t length)
{
	keep_value(line, length, "request-id:", answer->request_id, sizeof(answer->request_id));
	keep_value(line, length, "stripe-should-retry:", answer->should_retry, sizeof(answer->should_retry));
	keep_value(line, length, "retry-after:", answer->retry_after, sizeof(answer->retry_after));
	keep_value(line, length, "date:", answer->date, sizeof(answer->date));
}

/*
 * If the header line has this name, which must be lower-case and end in a
 * colon, keeps its value without the space around it, cut to what fits.
 */
static void
keep_value(const char *line, size_t length, const char *name,
		   char *value, size_t value_size)
{
	size_t		name_length = strlen(name);

	if (length < name_length || pg_strncasecmp(line, name, name_length) != 0)
		return;

	line += name_length;
	length -= name_length;
	while (length > 0 && *line == ' ')
	{
		line++;
		length--;
	}
	while (length > 0 && strchr(" \r\n", line[length - 1]) != NULL)
		length--;

	length = Min(length, value_size - 1);
	memcpy(value, line, length);
	value[length] = '\0';
}
