/*-------------------------------------------------------------------------
 *
 * token.h
 *	  Tokens that somebody outside brings back, signed with the API key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_PORTAL_TOKEN_H
#define SP_PORTAL_TOKEN_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "access/access.h"

extern char *sp_portal_make_token(const char *purpose, const pg_uuid_t *id,
								  const SpCustomer *customer, TimestampTz expires);

#endif							/* SP_PORTAL_TOKEN_H */
