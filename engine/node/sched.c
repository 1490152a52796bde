#include "node/sched.h"

#include "base/clock.h"
#include "base/mem.h"
#include "node/job.h"

#include <stdatomic.h>
#include <uv.h>

#include "base/banned.h"

#define CANCEL_POLL_NS (100u * 1000 * 1000) /* how late a waiter notices that its job was cancelled */

struct sched {
    uv_mutex_t lock;
    uv_cond_t cond;
    bool held;
    enum sched_class holder;
    uint64_t since_us;
    struct waiter *first[SCHED_CLASSES], **last[SCHED_CLASSES];
    atomic_uint waiting[SCHED_CLASSES];
    atomic_uint higher; /* waiters of a class above the holder's */
    double seconds[SCHED_CLASSES];
};

struct waiter {
    struct waiter *next;
};

enum loam_status sched_new(struct sched **out, struct err *err) {
    struct sched *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, LOAM_ENOMEM, "no memory for the scheduler");
    uv_mutex_init(&s->lock);
    uv_cond_init(&s->cond);
    for (int c = 0; c < SCHED_CLASSES; c++)
        s->last[c] = &s->first[c];
    *out = s;
    return LOAM_OK;
}

void sched_free(struct sched *s) {
    if (!s)
        return;
    uv_cond_destroy(&s->cond);
    uv_mutex_destroy(&s->lock);
    mem_free(s);
}

static void count_higher(struct sched *s) {
    unsigned n = 0;
    if (s->held)
        for (int c = 0; c < (int)s->holder; c++)
            n += atomic_load_explicit(&s->waiting[c], memory_order_relaxed);
    atomic_store_explicit(&s->higher, n, memory_order_relaxed);
}

static bool my_turn(struct sched *s, enum sched_class c, struct waiter *w) {
    if (s->held || s->first[c] != w)
        return false;
    for (int h = 0; h < (int)c; h++)
        if (s->first[h])
            return false;
    return true;
}

static void unlink_waiter(struct sched *s, enum sched_class c, struct waiter *w) {
    for (struct waiter **p = &s->first[c]; *p; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            if (!*p)
                s->last[c] = p;
            break;
        }
    atomic_fetch_sub_explicit(&s->waiting[c], 1, memory_order_relaxed);
}

static enum loam_status enter_locked(struct sched *s, enum sched_class c, struct job *j, struct err *err) {
    struct waiter w = {NULL};
    *s->last[c] = &w;
    s->last[c] = &w.next;
    atomic_fetch_add_explicit(&s->waiting[c], 1, memory_order_relaxed);
    count_higher(s);
    while (!my_turn(s, c, &w)) {
        if (j && job_cancelled(j)) {
            unlink_waiter(s, c, &w);
            count_higher(s);
            uv_cond_broadcast(&s->cond); /* the next in line may have waited for this one */
            return err_set(err, LOAM_ECANCEL, "cancelled while it waited for its turn to compute");
        }
        uv_cond_timedwait(&s->cond, &s->lock, CANCEL_POLL_NS);
    }
    unlink_waiter(s, c, &w);
    s->held = true;
    s->holder = c;
    s->since_us = clock_mono_us();
    count_higher(s);
    return LOAM_OK;
}

static void leave_locked(struct sched *s) {
    LOAM_ASSERT(s->held);
    s->seconds[s->holder] += (double)(clock_mono_us() - s->since_us) / 1e6;
    s->held = false;
    count_higher(s);
    uv_cond_broadcast(&s->cond);
}

enum loam_status sched_enter(struct sched *s, enum sched_class c, struct job *j, struct err *err) {
    uv_mutex_lock(&s->lock);
    enum loam_status r = enter_locked(s, c, j, err);
    uv_mutex_unlock(&s->lock);
    return r;
}

void sched_leave(struct sched *s) {
    uv_mutex_lock(&s->lock);
    leave_locked(s);
    uv_mutex_unlock(&s->lock);
}

bool sched_wanted(struct sched *s) {
    return atomic_load_explicit(&s->higher, memory_order_relaxed) > 0;
}

enum loam_status sched_yield_turn(struct sched *s, struct job *j, struct err *err) {
    if (!sched_wanted(s))
        return LOAM_OK;
    uv_mutex_lock(&s->lock);
    enum sched_class c = s->holder;
    leave_locked(s);
    enum loam_status r = enter_locked(s, c, j, err);
    uv_mutex_unlock(&s->lock);
    return r;
}

void sched_stats(struct sched *s, double seconds[SCHED_CLASSES], unsigned waiting[SCHED_CLASSES]) {
    uv_mutex_lock(&s->lock);
    for (int c = 0; c < SCHED_CLASSES; c++) {
        seconds[c] = s->seconds[c];
        waiting[c] = atomic_load(&s->waiting[c]);
    }
    if (s->held)
        seconds[s->holder] += (double)(clock_mono_us() - s->since_us) / 1e6;
    uv_mutex_unlock(&s->lock);
}
