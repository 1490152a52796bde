/* Every allocation of loam goes through here, so that tests can make each one fail in turn.
 * All functions return NULL on failure and when the product of sizes would overflow. */
#ifndef LOAM_BASE_MEM_H
#define LOAM_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t bytes);                      /* uninitialised; bytes 0 gives a unique pointer */
void *mem_zalloc(size_t bytes);                     /* zeroed */
void *mem_array(size_t n, size_t size);             /* n * size, checked, uninitialised */
void *mem_zarray(size_t n, size_t size);            /* n * size, checked, zeroed */
void *mem_resize(void *p, size_t n, size_t size);   /* like reallocarray; on failure p stays valid */
void *mem_dup(const void *p, size_t bytes);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
/* printf into a fresh string. */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *mem_aligned(size_t align, size_t bytes);      /* zeroed; free with mem_free */
void mem_free(void *p);
/* Overwrites before freeing; for secrets. The compiler may not remove it. */
void mem_wipe(void *p, size_t bytes);

/* Tests only: the n-th allocation from now (1 = the next) and all after it fail; 0 switches this off. Per process. */
void mem_fail_after(long n);
long mem_count(void); /* allocations so far */

/* Bytes this process can still have: what the kernel could free, within the process's own limit (ulimit -v). 0 where the
 * system does not say. */
size_t mem_available(void);
/* Bytes of it that lie in memory now; 0 where the system does not say. */
size_t mem_resident(void);

#endif
