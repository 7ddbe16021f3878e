/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15 and 18, named as in the newest.
 *
 * The floors of libcurl and OpenSSL are asserted where those libraries are
 * included (stripe/transport.c, webhook/signature.c), because no other file
 * may include them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SP_COMPAT_H
#define SP_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "stripe_portal needs PostgreSQL 15 or later"
#endif

/* 18 has pg_noreturn, to be written before the declaration. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* One function checks rights on all kinds of objects since 16. */
#if PG_VERSION_NUM < 160000
#define object_aclcheck(class, object, role, mode) \
	pg_proc_aclcheck(object, role, mode)
#endif

/* A named wait event needs no shared memory of ours since 17. */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define SP_WAIT_EVENT(name) WaitEventExtensionNew(name)
#else
#include "utils/wait_event.h"
#define SP_WAIT_EVENT(name) PG_WAIT_EXTENSION
#endif

/* The owner of a wait event set is a resource owner since 17. */
#if PG_VERSION_NUM >= 170000
#define sp_create_wait_event_set(nevents) \
	CreateWaitEventSet(CurrentResourceOwner, nevents)
#else
#define sp_create_wait_event_set(nevents) \
	CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

/* Who scans an index can count what it does since 18. */
#if PG_VERSION_NUM >= 180000
#define sp_index_beginscan(table, index, snapshot, nkeys) \
	index_beginscan(table, index, snapshot, NULL, nkeys, 0)
#else
#define sp_index_beginscan(table, index, snapshot, nkeys) \
	index_beginscan(table, index, snapshot, nkeys, 0)
#endif

#endif							/* SP_COMPAT_H */
