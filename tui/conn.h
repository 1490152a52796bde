/* A client of the control protocol (engine/node/protocol.h, messages in node/socket.h): requests with answers, and what the
 * node sends by itself. On the loop's thread; a message is a line of JSON. */
#ifndef LOAM_TUI_CONN_H
#define LOAM_TUI_CONN_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct uv_loop_s;
struct conn;

#define CONN_CALLS_MAX 256              /* requests without an answer yet */
#define CONN_SEND_MAX (4u << 20)        /* bytes queued to a node that does not read */

/* Exactly one of result and error is not NULL, both borrowed for the call; both NULL: the link went down first.
 * error: {code, message, data:{status, remedy, exit, word}}. */
typedef void conn_answer(void *arg, uint64_t id, const json_t *result, const json_t *error);

struct conn_events {
    void *arg;
    void (*up)(void *arg);                                                      /* connected: say hello */
    void (*down)(void *arg, enum loam_status why, const char *text);            /* after every pending answer was given */
    void (*notify)(void *arg, const char *method, json_t *params);              /* params borrowed (incref to keep) */
};

/* path: of the Unix socket; or fd >= 0: a connected stream, taken over. The result comes through up or down. */
enum loam_status conn_open(struct conn **out, struct uv_loop_s *loop, const char *path, int fd,
                           const struct conn_events *ev, struct err *err) LOAM_MUST_USE;
/* Steals params. Returns the request's id; 0 when not connected or full (answer is then not called). */
uint64_t conn_call(struct conn *c, const char *method, json_t *params, conn_answer *answer, void *arg);
bool conn_is_up(const struct conn *c);
/* Closes; pending answers are dropped, nothing is called but done. */
void conn_close(struct conn *c, void (*done)(void *arg), void *arg);

#endif
