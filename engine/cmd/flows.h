/* A command's call as the flows see it. */
#ifndef LOAM_CMD_FLOWS_H
#define LOAM_CMD_FLOWS_H

#include "cmd/cmd.h"
#include "flow/ctx.h"

/* Valid until the handler returns. */
struct flow flow_of(struct cmd_call *c);
/* Hands a flow's result to the command: steals out when s is LOAM_OK. Returns s. */
enum loam_status flow_result(struct cmd_call *c, enum loam_status s, json_t *out);
/* The key named by argument `arg`, or the node's default one, into out (KEY_NAME_MAX bytes). */
enum loam_status key_arg(struct cmd_call *c, const char *arg, char *out, struct err *err) LOAM_MUST_USE;

#endif
