/* The compute threads of one struct gpu. A job is a number of tasks; the caller's thread and the workers take tasks until
 * none is left. Tasks write disjoint outputs and each output element is computed whole by one task, so results never
 * depend on the number of threads or on who took what; a thread that lost its core delays only the task it holds.
 * Idle workers spin for some tens of microseconds and then sleep: on a busy machine spinning costs the others time. */
#ifndef LOAM_GPU_POOL_H
#define LOAM_GPU_POOL_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define POOL_THREADS_MAX 256

struct gpu_pool;

/* threads >= 1, the caller's included. nice (0 to 19): how far the workers give way to other threads of the machine. */
enum loam_status pool_new(struct gpu_pool **out, int threads, int nice, struct err *err) LOAM_MUST_USE;
/* The calling thread gives way too, for good; where the system has no priority of single threads, nothing changes. */
void pool_give_way(int nice);
void pool_free(struct gpu_pool *p); /* NULL allowed */
int pool_threads(const struct gpu_pool *p);
/* Cores this process may run on (>= 1). */
int pool_cores(void);

/* f(arg, task, thread) for task 0 .. n - 1; thread is 0 .. threads - 1. Returns when all are done. Not reentrant. */
void pool_run(struct gpu_pool *p, uint32_t n, void (*f)(void *arg, uint32_t task, int thread), void *arg);

/* f(arg, from, to, thread) for units 0 .. n - 1 in pieces of at most `grain`: each thread goes through one contiguous range in
 * order (memory that is read once is met in order), and one that is through takes single pieces from the far end of the
 * others'. Pieces are small, so nobody waits long at the end, and a thread that lost its core keeps one piece only. */
typedef void pool_range_fn(void *arg, uint32_t from, uint32_t to, int thread);
void pool_ranges(struct gpu_pool *p, uint32_t n, uint32_t grain, pool_range_fn *f, void *arg);

/* Scratch memory, kept between operations and valid until the next call with a larger size: `shared` bytes for all, and
 * `each` bytes a thread, every part aligned to 64. */
enum loam_status pool_scratch(struct gpu_pool *p, size_t shared, size_t each, struct err *err) LOAM_MUST_USE;
void *pool_shared(struct gpu_pool *p);
void *pool_each(struct gpu_pool *p, int thread);

#endif
