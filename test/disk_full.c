/*
 * disk_full.c
 *	  A disk without room, for the tests.  Preloaded into the database server:
 *	  while the file exists that DISK_FULL names, no file of a table or index
 *	  gets larger.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int
is_full(int fd, off64_t end)
{
	const char *flag = getenv("DISK_FULL");
	char		link[64];
	char		path[1024];
	ssize_t		length;
	struct stat st;

	if (flag == NULL || access(flag, F_OK) != 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = '\0';
	if (strstr(path, "/base/") == NULL || fstat(fd, &st) != 0 || end <= st.st_size)
		return 0;
	errno = ENOSPC;
	return 1;
}

ssize_t
pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
	ssize_t		(*next) (int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");

	return is_full(fd, offset + size) ? -1 : next(fd, buffer, size, offset);
}

ssize_t
pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
	return pwrite64(fd, buffer, size, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *vector, int count, off64_t offset)
{
	ssize_t		(*next) (int, const struct iovec *, int, off64_t) = dlsym(RTLD_NEXT, "pwritev64");
	off64_t		end = offset;

	for (int i = 0; i < count; i++)
		end += vector[i].iov_len;
	return is_full(fd, end) ? -1 : next(fd, vector, count, offset);
}

ssize_t
pwritev(int fd, const struct iovec *vector, int count, off_t offset)
{
	return pwritev64(fd, vector, count, offset);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t size)
{
	int			(*next) (int, off64_t, off64_t) = dlsym(RTLD_NEXT, "posix_fallocate64");

	return is_full(fd, offset + size) ? ENOSPC : next(fd, offset, size);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	return posix_fallocate64(fd, offset, size);
}
