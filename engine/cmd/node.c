/* node, stop (front-door words: engine/loam.c) and node status. */
#include "cmd/private.h"
#include "node/topic.h"

#include "base/banned.h"

const struct cmd entry_node = {.noun = "node",
                               .flags = CMD_LOCAL,
                               .help = "run a node in the foreground until it is stopped",
                               .text = "Logs to stderr. SIGTERM, SIGINT and `loam stop` end it; what is "
                                       "under way resumes at the next start. --set NAME=VALUE sets an "
                                       "option for this run.",
                               .example = "node"};

const struct cmd entry_stop = {.noun = "stop",
                               .flags = CMD_LOCAL,
                               .help = "end the node of the data folder and wait until it is gone",
                               .example = "stop"};

static enum loam_status run(struct cmd_call *c, struct err *err) {
    json_t *v = topic_get(cmd_node(c), "node");
    if (!v)
        return err_set(err, LOAM_ENOMEM, "no memory for the status");
    cmd_result(c, v);
    return LOAM_OK;
}

const struct cmd entry_node_status = {.noun = "node",
                                      .verb = "status",
                                      .help =
                                          "what the node is and does: version, folder, jobs, clients, memory",
                                      .example = "node status",
                                      .run = run};
