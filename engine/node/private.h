/* Inside engine/node only. */
#ifndef LOAM_NODE_PRIVATE_H
#define LOAM_NODE_PRIVATE_H

#include "node/node.h"

#include <stdatomic.h>

struct post {
    struct post *next;
    void (*fn)(struct node *n, void *arg);
    void *arg;
};

struct at_close {
    struct at_close *next;
    void (*fn)(void *arg);
    void *arg;
};

struct node_private {
    struct at_close *at_close;
    uv_loop_t loop;
    uv_mutex_t lock; /* guards posts, ended, holds */
    uv_cond_t cond;
    uv_mutex_t publish; /* held while somebody reads what it publishes and sets its topic: else an older list
                           could follow a newer one */
    struct post *first, **last;
    bool ended;             /* the loop takes no more posts */
    int holds;
    uv_async_t wake;
    uv_signal_t sigterm, sigint, sighup;
    uv_timer_t topic_timer; /* paces state topics */
    uv_timer_t idle_timer;  /* end of a node that a console started */
    uv_timer_t stop_timer;  /* gives up on jobs that do not end */
    uv_timer_t second;      /* node topic, outbox, chain */
    atomic_bool stopping;
    bool closing, timed_out, had_client;
    bool last_chance; /* stopping took too long once already */
    int lock_fd;
    bool inside;
    atomic_bool handles;    /* the loop's handles stand */
};

/* Wakes the loop thread: posts, topics, output of commands. Any thread. */
void node_wake(struct node *n);
/* A client left, a job ended…: maybe nothing is left to do. Any thread. */
void node_maybe_idle(struct node *n);

/* topic.c */
enum loam_status topics_open(struct node *n, struct err *err) LOAM_MUST_USE;
void topics_close(struct node *n);
#define TOPICS_MAX 16
size_t topics_index(const char *name); /* TOPICS_MAX if unknown */
const char *topics_name(size_t i);
/* The next message after *seq of topic i as JSON text (mem_free), *seq advanced; NULL if there is none (or no memory).
 * A state topic gives its newest value. */
char *topics_next(struct node *n, size_t i, uint64_t *seq);
/* Takes the marks of what changed since the last call. */
void topics_dirty(struct node *n, bool *state, bool *stream);

/* job.c */
enum loam_status jobs_open(struct node *n, struct err *err) LOAM_MUST_USE;
/* Cancels all (durable ones stay recorded as running). */
void jobs_stop(struct node *n);
bool jobs_idle(struct node *n); /* no thread runs */
void jobs_close(struct node *n); /* joins */

/* socket.c */
void control_flush(struct node *n, bool state, bool stream);
/* Flushes what is queued, then closes clients. */
void control_end(struct node *n);
bool control_drained(struct node *n);

/* keys.c */
enum loam_status keys_open(struct node *n, struct err *err) LOAM_MUST_USE;
void keys_close(struct node *n);
/* Each second, on the loop: balances after a new head, while somebody looks. */
void keys_tick(struct node *n);
/* chain.c */
enum loam_status node_chain_open(struct node *n, struct err *err) LOAM_MUST_USE;
void node_chain_start(struct node *n);
/* Loop thread: begins to end it at the first call; true once nothing of it is left on the loop. */
bool node_chain_down(struct node *n);
/* The same for a node that never ran. */
void node_chain_shut(struct node *n);
void node_chain_close(struct node *n);
/* outbox.c */
enum loam_status outbox_open(struct node *n, struct err *err) LOAM_MUST_USE;
void outbox_close(struct node *n);
void outbox_tick(struct node *n);
/* Blocks above `common` are gone: transactions confirmed there are out again. */
enum loam_status outbox_undo(struct node *n, bool l1, uint64_t common, struct err *err) LOAM_MUST_USE;

#endif
