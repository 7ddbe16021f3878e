/*-------------------------------------------------------------------------
 *
 * return_url.h
 *	  Where the portal may send a customer back to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_PORTAL_RETURN_URL_H
#define SP_PORTAL_RETURN_URL_H

/* What the placeholders {customer}, {session} and {token} stand for. */
typedef struct SpReturnValues
{
	const char *customer;
	const char *session;
	const char *token;			/* NULL unless a URL asks for it */
} SpReturnValues;

extern bool sp_portal_check_return_url(const char *url, const char *allowed_hosts);
extern char *sp_portal_fill_return_url(const char *url, const char *allowed_hosts,
									   const SpReturnValues *values);

#endif							/* SP_PORTAL_RETURN_URL_H */
