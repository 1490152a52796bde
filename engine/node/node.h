/* The node: owner of the loop, the store, the keys and the compute turns. One per data folder.
 *
 * Threads. The loop thread owns every libuv handle. Job threads run commands and flows (sequential code) and reach the
 * services below through thread-safe calls; a call that waits says "job threads only". Nothing blocks the loop for more
 * than 2 ms. Services live from node_open to node_close; a job thread may use them freely, since node_close joins all jobs
 * first. */
#ifndef LOAM_NODE_NODE_H
#define LOAM_NODE_NODE_H

#include "base/option.h"
#include "base/status.h"
#include "node/protocol.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct jobs;
struct sched;
struct topics;
struct keys;
struct outbox;
struct control;
struct store;
struct blobs;
struct chain_service;
struct api;
struct flow_models;
struct flow_board;

struct node {
    char *dir; /* data folder, absolute, no slash at the end */
    struct options *opt;
    uv_loop_t *loop;
    struct topics *topics; /* node/topic.h */
    struct jobs *jobs;     /* node/job.h */
    struct sched *sched;   /* node/sched.h */
    struct keys *keys;     /* node/keys.h */
    struct store *store;   /* store/store.h: DATA/store */
    struct blobs *blobs;   /* store/blob.h: DATA/blobs */
    struct chain_service *chain; /* node/chain.h: light client and RPCs of the chain; never NULL, may be unconfigured */
    struct outbox *outbox; /* node/outbox.h */
    struct api *api;       /* node/api.h; NULL when api.listen is empty */
    struct control *control; /* node/socket.h */
    struct node_frontend *front; /* set by cmd_attach; NULL before */
    struct flow_models *models;  /* flow/models.h; set by flow_attach */
    struct flow_board *board;    /* flow/board.h; set by flow_attach */
    void (*tick)(struct node *n); /* set by flow_attach, may be NULL: once a second on the loop thread; must not wait */
    bool started_by_console; /* ends when nothing is left to do */
    uint64_t started_ms;     /* unix */
    struct node_private *p;
};

/* What the room above (engine/cmd) gives the control socket; node never includes cmd. All run on the loop thread, except
 * that run's callbacks may come from any thread. */
struct control_call; /* node/socket.h */
struct node_frontend {
    /* Starts a command. Must end with control_call_end exactly once (maybe later, from another thread). */
    void (*run)(struct node *n, struct control_call *call);
    json_t *(*complete)(struct node *n, const char *line, size_t cursor, const char *cwd);
    json_t *(*table)(void);
    /* Resumes job records left by an earlier life. */
    void (*resume)(struct node *n);
};

struct node_config {
    const char *dir;         /* NULL: the default folder */
    struct options *opt;     /* taken over by the node; NULL: read from the folder's config */
    bool started_by_console; /* see design, section 3 */
    bool inside;             /* no log on stderr, no signal handlers */
};

/* Default folder: $LOAM_DATA, else $XDG_DATA_HOME/loam, else ~/.local/share/loam. out: mem_free. */
enum loam_status node_default_dir(char **out, struct err *err) LOAM_MUST_USE;
/* Makes the folder (0700), takes its lock, opens every service. LOAM_EBUSY when another node holds the folder (the message
 * names its pid and version). */
enum loam_status node_open(struct node **out, const struct node_config *cfg, struct err *err) LOAM_MUST_USE;
/* Runs the loop until node_stop, SIGTERM, SIGINT, or (started_by_console) nothing is left. */
enum loam_status node_run(struct node *n, struct err *err) LOAM_MUST_USE;
/* Any thread. Asks running durable jobs to stop (they resume at the next start), waits for them, flushes, ends the loop. */
void node_stop(struct node *n);
bool node_stopping(struct node *n);
void node_close(struct node *n);
/* fn(arg) runs in node_close after the last job has ended and before the store closes, the newest first. Before node_run. */
enum loam_status node_at_close(struct node *n, void (*fn)(void *arg), void *arg, struct err *err) LOAM_MUST_USE;

/* Runs fn(arg) on the loop thread, soon. Any thread. LOAM_ESTATE once the loop has ended (fn will not run). */
enum loam_status node_post(struct node *n, void (*fn)(struct node *n, void *arg), void *arg, struct err *err) LOAM_MUST_USE;
/* The same, and waits until it ran. Job threads only. */
enum loam_status node_call(struct node *n, void (*fn)(struct node *n, void *arg), void *arg, struct err *err) LOAM_MUST_USE;

/* Something that keeps a node alive which a console started: a served model, a stake. Any thread; balanced by node_release. */
void node_hold(struct node *n);
void node_release(struct node *n);
/* `set`: checks, applies and saves to DATA/config. Any thread that may block. */
enum loam_status node_set_option(struct node *n, const char *name, const char *value, struct err *err) LOAM_MUST_USE;

/* DATA/a, into a fresh string (mem_free); NULL without memory. */
char *node_path(struct node *n, const char *a);
/* Where the control socket of a folder is: DATA/node.sock, or a checked folder in /tmp when that is longer than a
 * sockaddr_un holds (107 bytes). Used by node and client alike. out: mem_free. */
enum loam_status node_socket_path(char **out, const char *dir, struct err *err) LOAM_MUST_USE;

#endif
