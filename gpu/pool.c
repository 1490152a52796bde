#include "gpu/pool.h"

#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/resource.h>
#endif

#include "base/banned.h"

#define SPINS 1500 /* pauses before sleeping: about 30 us */

struct worker {
    struct gpu_pool *pool;
    pthread_t thread;
    int index;
};

struct gpu_pool {
    int threads, started, nice;
    struct worker *workers;
    /* The job. `ticket` is generation << 32 | tasks not yet taken: taking one by compare-and-swap proves that the job
     * still runs, and f, arg and n cannot change until the taken task is done. */
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic uint32_t done;
    _Alignas(64) uint32_t n;
    void (*f)(void *arg, uint32_t task, int thread);
    void *arg;
    _Atomic bool quit;
    _Atomic int sleepers;
    _Atomic bool caller_sleeps;
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
    /* pool_ranges: what is left of each thread's range, from << 32 | to */
    struct {
        _Alignas(64) _Atomic uint64_t span;
    } *ranges;
    uint32_t grain;
    pool_range_fn *range_f;
    void *range_arg;
    char *shared, *each;
    size_t shared_bytes, each_bytes;
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes and runs tasks while there are some. */
static void work(struct gpu_pool *p, int index) {
    for (;;) {
        uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
        if (!(uint32_t)t)
            return;
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t - 1, memory_order_acq_rel, memory_order_acquire))
            continue;
        uint32_t n = p->n;
        p->f(p->arg, n - (uint32_t)t, index);
        if (atomic_fetch_add_explicit(&p->done, 1, memory_order_seq_cst) + 1 == n && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->finished);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static bool has_work(struct gpu_pool *p) {
    return (uint32_t)atomic_load_explicit(&p->ticket, memory_order_seq_cst) || atomic_load(&p->quit);
}

void pool_give_way(int nice) {
#if defined(__linux__)
    /* On Linux a priority belongs to a thread, and 0 is the one that asks. Best effort: a container may forbid it. */
    if (nice > 0 && getpriority(PRIO_PROCESS, 0) < nice)
        (void)!setpriority(PRIO_PROCESS, 0, nice);
#endif
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct gpu_pool *p = w->pool;
    pool_give_way(p->nice);
    while (!atomic_load(&p->quit)) {
        int i = 0;
        while (i < SPINS && !has_work(p)) {
            pause_cpu();
            i++;
        }
        if (i == SPINS) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);
            while (!has_work(p))
                pthread_cond_wait(&p->wake, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
        }
        work(p, w->index);
    }
    return NULL;
}

void pool_run(struct gpu_pool *p, uint32_t n, void (*f)(void *arg, uint32_t task, int thread), void *arg) {
    if (!n)
        return;
    if (n == 1 || p->threads == 1) {
        for (uint32_t i = 0; i < n; i++)
            f(arg, i, 0);
        return;
    }
    p->n = n;
    p->f = f;
    p->arg = arg;
    atomic_store(&p->done, 0);
    uint64_t generation = (atomic_load(&p->ticket) >> 32) + 1;
    atomic_store(&p->ticket, generation << 32 | n);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    work(p, 0);
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->done, memory_order_acquire) == n)
            return;
        pause_cpu();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->done) != n)
        pthread_cond_wait(&p->finished, &p->lock);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

/* Takes up to `grain` units off one end of a range: the front of one's own, the back of another's, so that each thread goes
 * through memory in order for as long as it can. */
static bool range_take(_Atomic uint64_t *span, uint32_t grain, bool back, uint32_t *from, uint32_t *to) {
    uint64_t s = atomic_load_explicit(span, memory_order_relaxed);
    for (;;) {
        uint32_t a = (uint32_t)(s >> 32), b = (uint32_t)s, n = b - a < grain ? b - a : grain;
        if (!n)
            return false;
        *from = back ? b - n : a;
        *to = *from + n;
        uint64_t left = back ? (uint64_t)a << 32 | (b - n) : (uint64_t)(a + n) << 32 | b;
        if (atomic_compare_exchange_weak_explicit(span, &s, left, memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

static void range_task(void *arg, uint32_t task, int thread) {
    struct gpu_pool *p = arg;
    uint32_t from, to, n = (uint32_t)p->threads;
    for (uint32_t i = 0; i < n; i++)
        while (range_take(&p->ranges[(task + i) % n].span, p->grain, i != 0, &from, &to))
            p->range_f(p->range_arg, from, to, thread);
}

void pool_ranges(struct gpu_pool *p, uint32_t n, uint32_t grain, pool_range_fn *f, void *arg) {
    uint32_t threads = (uint32_t)p->threads, units = (n + grain - 1) / grain;
    if (units <= 1 || threads == 1) {
        if (n)
            f(arg, 0, n, 0);
        return;
    }
    for (uint32_t i = 0; i < threads; i++) {
        uint64_t from = (uint64_t)units * i / threads * grain, to = (uint64_t)units * (i + 1) / threads * grain;
        atomic_store_explicit(&p->ranges[i].span, from << 32 | (to < n ? to : n), memory_order_relaxed);
    }
    p->grain = grain;
    p->range_f = f;
    p->range_arg = arg;
    pool_run(p, threads, range_task, p);
}

int pool_threads(const struct gpu_pool *p) {
    return p->threads;
}

int pool_cores(void) {
#ifdef CPU_COUNT
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set) && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

enum loam_status pool_new(struct gpu_pool **out, int threads, int nice, struct err *err) {
    *out = NULL;
    if (threads < 1 || threads > POOL_THREADS_MAX)
        return err_set(err, LOAM_ERANGE, "%d compute threads; 1 to %d", threads, POOL_THREADS_MAX);
    struct gpu_pool *p = mem_aligned(64, sizeof *p);
    struct worker *w = mem_zarray((size_t)threads, sizeof *w);
    void *ranges = mem_aligned(64, (size_t)threads * sizeof *p->ranges);
    if (!p || !w || !ranges) {
        mem_free(p);
        mem_free(w);
        mem_free(ranges);
        return err_set(err, LOAM_ENOMEM, "no memory for %d compute threads", threads);
    }
    p->threads = threads;
    p->nice = nice;
    p->workers = w;
    p->ranges = ranges;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->finished, NULL);
    for (int i = 1; i < threads; i++) {
        w[i].pool = p;
        w[i].index = i;
        if (pthread_create(&w[i].thread, NULL, worker_main, &w[i])) {
            pool_free(p);
            return err_set(err, LOAM_ENOMEM, "cannot start compute thread %d of %d", i + 1, threads);
        }
        p->started = i;
    }
    *out = p;
    return LOAM_OK;
}

void pool_free(struct gpu_pool *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->quit, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->finished);
    mem_free(p->workers);
    mem_free(p->ranges);
    mem_free(p->shared);
    mem_free(p->each);
    mem_free(p);
}

enum loam_status pool_scratch(struct gpu_pool *p, size_t shared, size_t each, struct err *err) {
    shared = (shared + 63) & ~(size_t)63;
    each = ((each + 63) & ~(size_t)63) + 64; /* a line between threads */
    if (shared > p->shared_bytes) {
        mem_free(p->shared);
        p->shared_bytes = 0;
        p->shared = mem_aligned(64, shared);
        if (!p->shared)
            return err_set(err, LOAM_ENOMEM, "no memory for %zu bytes of scratch", shared);
        p->shared_bytes = shared;
    }
    if (each > p->each_bytes) {
        mem_free(p->each);
        p->each_bytes = 0;
        p->each = each > SIZE_MAX / (size_t)p->threads ? NULL : mem_aligned(64, each * (size_t)p->threads);
        if (!p->each)
            return err_set(err, LOAM_ENOMEM, "no memory for %zu bytes of scratch a thread", each);
        p->each_bytes = each;
    }
    return LOAM_OK;
}

void *pool_shared(struct gpu_pool *p) {
    return p->shared;
}

void *pool_each(struct gpu_pool *p, int thread) {
    return p->each + p->each_bytes * (size_t)thread;
}
