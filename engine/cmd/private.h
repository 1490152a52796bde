/* Inside engine/cmd only. */
#ifndef LOAM_CMD_PRIVATE_H
#define LOAM_CMD_PRIVATE_H

#include "cmd/cmd.h"
#include "node/node.h"

struct control_call;

struct cmd_value {
    char **text; /* as given (or the default), checked; paths made absolute */
    size_t count;
    uint64_t u;
    double d;
    struct u256 coin;
};

struct cmd_call {
    struct node *node;
    struct job *job;
    struct control_call *io; /* NULL after a resume */
    bool own_io;             /* ends io with the call; false inside `source` */
    struct cmd_line line;
    bool json, yes, resumed, detached, secret;
    uint64_t confirmed;      /* questions the user agreed to before the node died */
    uint64_t asked;
    uint64_t progress_us;
    json_t *result;
    uint64_t job_id;
};

const char *cmd_type_name(enum cmd_type t);
/* Starts a parsed line (taken over, also on failure) as a job. io may be NULL. */
enum loam_status cmd_start(struct node *n, uint64_t *job, struct cmd_line *line, struct control_call *io, bool own_io,
                           const json_t *record, uint64_t id, const char *flow, struct err *err) LOAM_MUST_USE;
/* What a resume of these words needs; new reference, NULL without memory. */
json_t *cmd_record(char *const *words, size_t count, const char *cwd, bool yes);
/* Starts an ended or unfinished durable job again from its record (borrowed). */
enum loam_status cmd_restart(struct node *n, const json_t *record, struct err *err) LOAM_MUST_USE;
/* Appends a value as text for people: see cmd.h, print. */
enum loam_status cmd_print(struct buf *out, const json_t *v, struct err *err) LOAM_MUST_USE;

#endif
