/*-------------------------------------------------------------------------
 *
 * forgotten.h
 *	  Whether what Stripe tells is of a customer who was forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_BILLING_FORGOTTEN_H
#define SP_BILLING_FORGOTTEN_H

#include "utils/jsonb.h"

extern bool sp_billing_can_forget(void);
extern void sp_billing_lock_unnamed(void);
extern bool sp_billing_is_forgotten(Jsonb *told, const char *id, bool livemode, const char *account);

#endif							/* SP_BILLING_FORGOTTEN_H */
