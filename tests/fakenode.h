/* A scripted node for the console's tests and figures: speaks the control protocol of engine/node/socket.h over a Unix
 * socket, with fixed data (the times never change, so that screens can be compared). Single-threaded; the owner polls its
 * descriptors. Nothing of it is part of loam. */
#ifndef LOAM_TESTS_FAKENODE_H
#define LOAM_TESTS_FAKENODE_H

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define FAKE_CLIENTS 8

struct fake_client {
    int fd;
    char *in;
    size_t n, cap;
    bool hello, subscribed;
    int seq[4]; /* log, ask, heads, the rest */
};

struct fake {
    int listen;
    char path[100];
    struct fake_client client[FAKE_CLIENTS];
    int protocol;         /* told in hello */
    bool empty;           /* a node on which nothing was done yet */
    bool hold_ask;        /* `ask` sends only its start; the test sends tokens itself */
    bool hold_table;      /* command.table is answered by fake_tell_table */
    json_int_t table_call;
    int table_client;
    int runs, hellos, cancels;
    char last_line[4096]; /* of the newest command.run: its line, or its argv joined by one space */
    char last_answer[256];
    long long open_call;  /* id of a `slow` under way, 0 none */
    int open_client;
    int tick;
    json_t *table, *options; /* options: answer to option.list, NULL none */
};

/* Makes the socket; aborts with a message on failure (it is a test's tool). */
void fake_open(struct fake *f, const char *path);
void fake_close(struct fake *f);
int fake_fds(struct fake *f, struct pollfd *p, int max);
/* Serves what is readable now. */
void fake_serve(struct fake *f);
/* Sends a topic's value (stolen) to everyone who subscribed. */
void fake_topic(struct fake *f, const char *name, json_t *value);
/* The next second of a live node: chain, train, log change. */
void fake_tick(struct fake *f);
/* Ends the `slow` command under way. */
void fake_finish(struct fake *f, const char *text);
void fake_tell_table(struct fake *f);
/* Fixed data. */
json_t *fake_value(struct fake *f, const char *topic);
/* Serves for ever, with a tick every interval_ms (0: none). */
void fake_run(const char *path, int interval_ms);

#endif
