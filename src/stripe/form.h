/*-------------------------------------------------------------------------
 *
 * form.h
 *	  Parameters as Stripe's API wants them: nested, form-encoded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_STRIPE_FORM_H
#define SP_STRIPE_FORM_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

extern void sp_stripe_form_append(StringInfo form, const char *name, const char *value);
extern void sp_stripe_form_append_encoded(StringInfo out, const char *text);
extern void sp_stripe_form_append_jsonb(StringInfo form, Jsonb *params);

#endif							/* SP_STRIPE_FORM_H */
