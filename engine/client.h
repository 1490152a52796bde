/* The command-line client: finds or starts the node of a data folder, runs commands there, streams their output. */
#ifndef LOAM_CLIENT_H
#define LOAM_CLIENT_H

#include "base/status.h"

#include <stdbool.h>

struct client_options {
    const char *dir;           /* data folder; NULL: the default */
    bool json, yes, no_wait;
    const char *password_file; /* answers questions for a password with its first line; "-": standard input's first line */
    bool start;                /* start a node by exec when none runs */
};

/* Connects to the node's socket, starting a node if asked; *fd is a blocking stream, *started whether a node was started.
 * LOAM_ENET no node runs (and none was to be started), or the one that was started ended at once (its words are in err). */
enum loam_status client_connect(int *fd, bool *started, const struct client_options *o, struct err *err) LOAM_MUST_USE;
/* Runs one command; prints its output and its error. Returns the exit status. */
int client_command(const struct client_options *o, char *const *argv, size_t argc);
/* Runs the commands of standard input, one a line, until one fails. Returns the exit status. */
int client_stdin(const struct client_options *o);
/* Ends the node and waits until its lock is free. Returns the exit status. */
int client_stop(const struct client_options *o);
/* Prints "loam: message" and the remedy to stderr; returns the exit status of s. */
int client_fail(enum loam_status s, const struct err *err);

#endif
