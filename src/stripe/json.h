/*-------------------------------------------------------------------------
 *
 * json.h
 *	  Reading single members of what Stripe sends, and making the like.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_JSON_H
#define SP_STRIPE_JSON_H

#include "utils/jsonb.h"

extern JsonbValue *sp_stripe_json_get(JsonbContainer *object, const char *key);
extern JsonbContainer *sp_stripe_json_object(JsonbContainer *object, const char *key);
extern char *sp_stripe_json_text(JsonbContainer *object, const char *key);
extern bool sp_stripe_json_is(const JsonbValue *value, const char *string);
extern void sp_stripe_json_push_key(JsonbParseState **state, const char *key);
extern char *sp_stripe_json_replace_nul(char *json);

#endif							/* SP_STRIPE_JSON_H */
