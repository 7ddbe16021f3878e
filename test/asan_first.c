/*
 * asan_first.c
 *	  Preloaded into a server after AddressSanitizer's runtime, brings that up
 *	  before all libraries.  Else it comes up in the first malloc() of one's
 *	  constructor: libgpg-error's holds a lock of the C library then, which it
 *	  can not release any more after that, and the server hangs.
 */
extern void __asan_init(void);

__attribute__((constructor)) static void
first(void)
{
	__asan_init();
}
