/* The control socket's server: JSON-RPC 2.0, one message a line, over a Unix socket (0600, the peer's uid is checked) or a
 * socketpair (`loam --inside`).
 *
 * client → node                                       result
 *   hello {protocol, version, client, readonly}       {protocol, version, pid, dir, started_by_console}   first message
 *   command.run {argv:[…] | line:"…", json, wait, yes, cwd, tty}   {job, status, result, text_shown} at the end;
 *                                                     {job} at once with wait:false. Errors: {code, message, data:{status,
 *                                                     remedy, exit, word}}
 *   command.complete {line, cursor, cwd}              [{text, help, from, to}]
 *   command.table {}                                  as cmd_table_json
 *   command.cancel {call | job}                       {}      call: id of a command.run of this client
 *   answer {id, value}                                {}      value null: refused
 *   topic.subscribe {topics:[…]}, topic.unsubscribe   {}
 *   option.list {}, option.get {name}, option.set {name, value}
 *   job.list {}, node.stop {}, node.status {}
 * node → client, notifications
 *   started {call, job, long}  (its job; long: it goes on when the client leaves)
 *   out {call, stream:"stdout"|"stderr", text}        progress {call, job, done, total, detail}
 *   ask {call, id, kind:"confirm"|"secret"|"text", text}     topic {name, seq, value}
 *
 * A client that says readonly:true in hello can run commands that only look (cmd.h, cmd_looks) and nothing else: other commands, option.set,
 * node.stop and the cancelling of jobs are LOAM_EPERM for it, whatever it sends.
 * Limits: a message of CONTROL_LINE_MAX; CONTROL_CLIENTS_MAX clients; CONTROL_QUEUE_MAX bytes queued to a client: beyond
 * that topics are dropped (state topics: a fresh snapshot once it has caught up; streams: a gap in seq) and output of its
 * commands is dropped with a line that says so. A client never delays the node. */
#ifndef LOAM_NODE_SOCKET_H
#define LOAM_NODE_SOCKET_H

#include "base/status.h"
#include "node/protocol.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct control;
struct control_call;

#define CONTROL_CLIENTS_MAX 64
#define CONTROL_QUEUE_MAX (2u << 20)

enum loam_status control_open(struct node *n, struct err *err) LOAM_MUST_USE;
void control_close(struct node *n); /* stops listening, drops clients; loop thread */
/* Takes one end of a socketpair as a client. Loop thread. */
enum loam_status control_adopt(struct node *n, int fd, struct err *err) LOAM_MUST_USE;
size_t control_clients(struct node *n);
size_t control_watchers(struct node *n, const char *topic); /* clients subscribed to it; loop thread */

/* ---- a running command.run, for the frontend. Thread-safe; lives until control_call_end. --------------------------- */
const json_t *control_call_params(struct control_call *c);
bool control_call_readonly(struct control_call *c); /* loop thread */
/* n bytes of clean text to stream 1 (stdout) or 2 (stderr). */
void control_call_out(struct control_call *c, int stream, const char *text, size_t n);
void control_call_progress(struct control_call *c, uint64_t job, uint64_t done, uint64_t total, json_t *detail);
/* Tells the client which job works for it. */
void control_call_started(struct control_call *c, uint64_t job, bool goes_on);
/* Asks and waits. kind: "confirm", "secret", "text". *value: mem_wipe and mem_free it. LOAM_EPERM if nobody can answer
 * (client gone, or it said tty:false), LOAM_ECANCEL if refused or cancelled() turns true. Not on the loop thread. */
enum loam_status control_call_ask(struct control_call *c, char **value, const char *kind, const char *text,
                                  bool (*cancelled)(void *ctx), void *ctx, struct err *err) LOAM_MUST_USE;
/* The client is gone, or it sent command.cancel for this call. */
bool control_call_gone(struct control_call *c);
/* The job that works for the call: it is cancelled when the client sends command.cancel, and when it leaves unless goes_on. */
void control_call_job(struct control_call *c, uint64_t job, bool goes_on);
/* Keeps c from being freed by control_call_end until the release. */
void control_call_hold(struct control_call *c);
void control_call_release(struct control_call *c);
/* Answers now with {job} and goes on (wait:false): later output is dropped. */
void control_call_detach(struct control_call *c, uint64_t job);
/* The end: result stolen (NULL allowed). word: index of the word at fault, -1 none. Frees c. */
void control_call_end(struct control_call *c, enum loam_status s, const struct err *err, json_t *result, uint64_t job, long word);

#endif
