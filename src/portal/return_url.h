/*-------------------------------------------------------------------------
 *
 * return_url.h
 *	  Where the portal may send a customer back to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_PORTAL_RETURN_URL_H
#define SP_PORTAL_RETURN_URL_H

extern void sp_portal_check_return_url(const char *url, const char *allowed_hosts);

#endif							/* SP_PORTAL_RETURN_URL_H */
