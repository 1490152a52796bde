#include "base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static atomic_long count, fail_at;

static int refuse(void) {
    long c = atomic_fetch_add(&count, 1) + 1;
    long f = atomic_load(&fail_at);
    return f && c >= f;
}

void mem_fail_after(long n) {
    atomic_store(&fail_at, n ? atomic_load(&count) + n : 0);
}
long mem_count(void) {
    return atomic_load(&count);
}

void *mem_alloc(size_t bytes) {
    return refuse() ? NULL : malloc(bytes ? bytes : 1);
}
void *mem_zalloc(size_t bytes) {
    return refuse() ? NULL : calloc(1, bytes ? bytes : 1);
}
void *mem_array(size_t n, size_t size) {
    size_t b;
    return __builtin_mul_overflow(n, size, &b) ? NULL : mem_alloc(b);
}
void *mem_zarray(size_t n, size_t size) {
    size_t b;
    return __builtin_mul_overflow(n, size, &b) ? NULL : mem_zalloc(b);
}
void *mem_resize(void *p, size_t n, size_t size) {
    size_t b;
    if (__builtin_mul_overflow(n, size, &b) || refuse())
        return NULL;
    return realloc(p, b ? b : 1);
}
void *mem_dup(const void *p, size_t bytes) {
    void *q = mem_alloc(bytes);
    if (q && bytes)
        memcpy(q, p, bytes);
    return q;
}
char *mem_strndup(const char *s, size_t n) {
    size_t len = strnlen(s, n);
    char *q = mem_alloc(len + 1);
    if (q) {
        memcpy(q, s, len);
        q[len] = 0;
    }
    return q;
}
char *mem_strdup(const char *s) {
    return mem_dup(s, strlen(s) + 1);
}
char *mem_printf(const char *fmt, ...) {
    va_list ap, aq;
    va_start(ap, fmt);
    va_copy(aq, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *q = n < 0 ? NULL : mem_alloc((size_t)n + 1);
    if (q)
        vsnprintf(q, (size_t)n + 1, fmt, aq);
    va_end(aq);
    return q;
}
void *mem_aligned(size_t align, size_t bytes) {
    if (refuse() || bytes > SIZE_MAX - align)
        return NULL;
    size_t b = (bytes + align - 1) / align * align;
    void *q = aligned_alloc(align, b ? b : align);
    if (q)
        memset(q, 0, b ? b : align);
    return q;
}
void mem_free(void *p) {
    free(p);
}
void mem_wipe(void *p, size_t bytes) {
    if (p)
        explicit_bzero(p, bytes);
}

/* Pages of the whole process and of its part in memory. */
static int statm(unsigned long *size, unsigned long *resident) {
    FILE *f = fopen("/proc/self/statm", "re");
    int ok = f && fscanf(f, "%lu %lu", size, resident) == 2;
    if (f)
        fclose(f);
    return ok;
}

size_t mem_available(void) {
    char line[128];
    unsigned long kib = 0, size, resident;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    size_t left = (size_t)kib << 10;
    struct rlimit l;
    if (getrlimit(RLIMIT_AS, &l) == 0 && l.rlim_cur != RLIM_INFINITY && statm(&size, &resident)) {
        size_t used = (size_t)size * (size_t)sysconf(_SC_PAGESIZE), own = l.rlim_cur > used ? (size_t)(l.rlim_cur - used) : 0;
        left = own < left ? own : left;
    }
    return left;
}

size_t mem_resident(void) {
    unsigned long size, resident;
    return statm(&size, &resident) ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}
