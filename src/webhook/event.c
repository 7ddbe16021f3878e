/*-------------------------------------------------------------------------
 *
 * event.c
 *	  Reading an event out of a signed body.
 *
 * Nothing here raises for the body's sake: it was signed by Stripe, so it is
 * kept whatever it is, with a word on what is wrong with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "stripe_portal.h"
#include "stripe/json.h"
#include "stripe/request.h"
#include "webhook/webhook.h"

PG_FUNCTION_INFO_V1(stripe_read_payload);

static Jsonb *read_jsonb(const char *payload, size_t payload_len, char **problem);
static char *name_body(const char *payload, size_t payload_len);
static bool is_account(const char *account);
static bool payload_mentions(const char *payload, size_t payload_len, const char *word);
static char *read_object_id(JsonbContainer *object, char **problem);
static bool read_unix_time(JsonbContainer *object, const char *key, TimestampTz *result);
static bool read_iso_time(JsonbContainer *object, const char *key, TimestampTz *result);

/*
 * Read the event in a body.  The result and all it points to are palloc'd in
 * the current context.
 */
SpEvent *
sp_webhook_read_event(const char *payload, size_t payload_len)
{
	SpEvent    *event = palloc0(sizeof(SpEvent));
	JsonbContainer *root;
	JsonbContainer *object;
	JsonbValue *livemode;
	char	   *id;
	char	   *account;

	event->account = "";
	event->jsonb = read_jsonb(payload, payload_len, &event->problem);
	root = event->jsonb ? &event->jsonb->root : NULL;
	event->thin = sp_stripe_json_text(root, "object") != NULL &&
		strcmp(sp_stripe_json_text(root, "object"), "v2.core.event") == 0;
	id = sp_stripe_json_text(root, "id");
	account = sp_stripe_json_text(root, event->thin ? "context" : "account");
	livemode = sp_stripe_json_get(root, "livemode");

	/*
	 * These three are the key of its row, and have to fit into an index.  The
	 * account also goes into the head of requests about what is in its rows.
	 */
	if (id == NULL || *id == '\0' || strlen(id) > SP_MAX_ID_LEN ||
		(account != NULL && !is_account(account)) ||
		livemode == NULL || livemode->type != jbvBool)
	{
		if (event->jsonb != NULL)
			event->problem = "the body is not an event: it has no usable \"id\", \"account\" and \"livemode\"";
		event->thin = false;
		event->unreadable = true;
		event->carries_url = payload_mentions(payload, payload_len, "billing_portal.session");
		event->id = name_body(payload, payload_len);
		return event;
	}
	event->id = id;
	if (account != NULL)
		event->account = account;
	event->livemode = livemode->val.boolean;
	event->type = sp_stripe_json_text(root, "type");
	event->api_version = sp_stripe_json_text(root, "api_version");

	if (event->thin)
	{
		/* An event of API v2 names its object, and carries nothing of it. */
		event->has_created = read_iso_time(root, "created", &event->created);
		event->object_id = read_object_id(sp_stripe_json_object(root, "related_object"), &event->problem);
		return event;
	}

	event->has_created = read_unix_time(root, "created", &event->created);
	object = sp_stripe_json_object(sp_stripe_json_object(root, "data"), "object");
	event->object_id = read_object_id(object, &event->problem);
	event->carries_url = sp_stripe_json_text(object, "object") != NULL &&
		strcmp(sp_stripe_json_text(object, "object"), "billing_portal.session") == 0;

	if (event->type == NULL)
		event->problem = "the event has no \"type\"";
	else if (!event->has_created)
		event->problem = "the event has no usable \"created\"";
	else if (object == NULL)
		event->problem = "the event has no \"data.object\"";
	return event;
}

/*
 * Whether it can be the id of an account; an empty one is the key's own.
 */
static bool
is_account(const char *account)
{
	for (const char *p = account; *p != '\0'; p++)
	{
		if (*p <= ' ' || *p > '~')
			return false;
	}
	return strlen(account) <= SP_MAX_ID_LEN;
}

/*
 * The key of an event's row, as the first parameters of a statement.
 */
void
sp_webhook_event_key(const SpEvent *event, Datum *values, bool *isnull)
{
	values[0] = CStringGetTextDatum(event->id);
	values[1] = BoolGetDatum(event->livemode);
	values[2] = CStringGetTextDatum(event->account);
	values[3] = TimestampTzGetDatum(event->created);
	isnull[0] = isnull[1] = isnull[2] = false;
	isnull[3] = !event->has_created;
}

/*
 * The body as jsonb in the server's encoding, or NULL and what the problem is.
 *
 * jsonb_in raises; a subtransaction is the only clean way to go on after it.
 * The one thing that is repaired is the escape \u0000, which JSON allows and
 * jsonb can not hold: it is read as U+FFFD.  The stored payload keeps it.
 */
static Jsonb *
read_jsonb(const char *payload, size_t payload_len, char **problem)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext reading = AllocSetContextCreate(context, "body of an event", ALLOCSET_DEFAULT_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;

	BeginInternalSubTransaction(NULL);
	/* what jsonb_in leaves behind is ten times as large as its result */
	MemoryContextSwitchTo(reading);
	PG_TRY();
	{
		char	   *json = pnstrdup(payload, payload_len);
		Jsonb	   *jsonb;

		if (strlen(json) != payload_len)
			ereport(ERROR,
					(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
					 errmsg("the body has a NUL byte")));
		pg_verify_mbstr(PG_UTF8, json, payload_len, false);
		json = pg_any_to_server(json, payload_len, PG_UTF8);
		json = sp_stripe_json_replace_nul(json);
		jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
		result = memcpy(MemoryContextAlloc(context, VARSIZE(jsonb)), jsonb, VARSIZE(jsonb));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		sp_webhook_rethrow_if_passing(error);
		*problem = psprintf("the body could not be read: %s", error->message);
		result = NULL;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextDelete(reading);
	return result;
}

/*
 * Raise an error again that says nothing about the event: a cancel, a
 * serialization failure, a full disk.  The caller answers Stripe with a
 * failure then, and Stripe sends the event again.
 */
void
sp_webhook_rethrow_if_passing(ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
			ReThrowError(error);
	}
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
}

/*
 * An id for a body that has none: body_ and its SHA-256 in hex.
 */
static char *
name_body(const char *payload, size_t payload_len)
{
	bytea	   *hash;
	char		hex[2 * PG_SHA256_DIGEST_LENGTH];

	hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
											   PointerGetDatum(cstring_to_text_with_len(payload, payload_len))));
	hex_encode(VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash), hex);
	return psprintf("body_%.*s", (int) sizeof(hex), hex);
}

/*
 * Whether a word occurs in a body, which may hold any bytes.
 */
static bool
payload_mentions(const char *payload, size_t payload_len, const char *word)
{
	size_t		len = strlen(word);

	for (size_t i = 0; i + len <= payload_len; i++)
	{
		if (memcmp(payload + i, word, len) == 0)
			return true;
	}
	return false;
}

/*
 * stripe_portal.read_payload(json) returns jsonb
 */
Datum
stripe_read_payload(PG_FUNCTION_ARGS)
{
	char	   *json = sp_stripe_json_replace_nul(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

/*
 * The object's id; NULL if it has none.  One that is no text, or that no request
 * could name, is a problem.
 * What a customer is entitled to has none: it is the customer's.
 */
static char *
read_object_id(JsonbContainer *object, char **problem)
{
	char	   *kind = sp_stripe_json_text(object, "object");
	char	   *id = sp_stripe_json_text(object, "id");
	JsonbValue *value = sp_stripe_json_get(object, "id");

	if (id == NULL && kind != NULL && strcmp(kind, "entitlements.active_entitlement_summary") == 0)
		id = sp_stripe_json_text(object, "customer");
	if (id != NULL ? !sp_stripe_is_id(id) : value != NULL && value->type != jbvNull)
	{
		*problem = "the event has an object whose \"id\" is not usable";
		return NULL;
	}
	return id;
}

/*
 * A member with unix seconds, as number or string; false if it is not usable.
 */
static bool
read_unix_time(JsonbContainer *object, const char *key, TimestampTz *result)
{
	char	   *value = sp_stripe_json_text(object, key);

	if (value == NULL || *value == '\0' || strlen(value) > 11 ||
		strspn(value, "0123456789") != strlen(value))
		return false;
	*result = time_t_to_timestamptz((pg_time_t) strtoll(value, NULL, 10));
	return true;
}

/*
 * A member with a time in ISO 8601, UTC: 2026-11-10T12:00:00.000Z.  Read by
 * hand, because timestamptz_in raises and depends on settings.
 */
static bool
read_iso_time(JsonbContainer *object, const char *key, TimestampTz *result)
{
	static const char pattern[] = "dddd-dd-ddTdd:dd:dd";
	char	   *value = sp_stripe_json_text(object, key);
	struct pg_tm tm = {0};
	size_t		len;

	if (value == NULL || (len = strlen(value)) < lengthof(pattern) || value[len - 1] != 'Z')
		return false;
	for (int i = 0; pattern[i] != '\0'; i++)
	{
		if (pattern[i] == 'd' ? !isdigit((unsigned char) value[i]) : value[i] != pattern[i])
			return false;
	}
	if (value[19] != 'Z' && value[19] != '.')
		return false;

	sscanf(value, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec);
	if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
		tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] ||
		tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	return tm2timestamp(&tm, 0, NULL, result) == 0;
}
