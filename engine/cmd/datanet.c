/* datanet create | list | show */
#include "cmd/flows.h"
#include "flow/datanet.h"
#include "node/keys.h"

#include "base/banned.h"

static enum loam_status create_run(struct cmd_call *c, struct err *err);
static const struct cmd_arg create_args[] = {
    {"name", CMD_STR, CMD_REQUIRED, NULL, "its name, at most 64 bytes", NULL},
    {"licence", CMD_STR, CMD_NAMED, "CC0-1.0", "SPDX licence that rows come under", NULL},
    {"terms", CMD_STR, CMD_NAMED, NULL, "text whose hash is signed with it", NULL},
    {"as", CMD_KEY, CMD_NAMED, NULL, "key of its owner", NULL},
    {"relay", CMD_KEY, CMD_NAMED, NULL, "key that pays the gas", NULL},
    {NULL}};
const struct cmd entry_datanet_create = {.noun = "datanet",
                                         .verb = "create",
                                         .args = create_args,
                                         .flags = CMD_LONG | CMD_DURABLE | CMD_SPENDS,
                                         .help = "create a datanet, which takes contributions",
                                         .text = "The same owner and name again give the datanet that is there.",
                                         .example = "datanet create facts --as alice",
                                         .run = create_run};

static enum loam_status create_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    char key[KEY_NAME_MAX];
    json_t *out = NULL;
    enum loam_status s;
    if ((s = key_arg(c, "as", key, err)))
        return s;
    s = flow_datanet_create(&f, &out, key, cmd_str(c, "name"), cmd_str(c, "licence"), cmd_str(c, "terms"), cmd_str(c, "relay"), err);
    return flow_result(c, s, out);
}

static enum loam_status list_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    json_t *out = NULL;
    enum loam_status s = flow_datanet_list(&f, &out, err);
    return flow_result(c, s, out);
}
const struct cmd entry_datanet_list = {
    .noun = "datanet", .verb = "list", .help = "the chain's datanets, from verified logs", .example = "datanet list", .run = list_run};

static const struct cmd_arg show_args[] = {{"datanet", CMD_DATANET, CMD_REQUIRED, NULL, "its number", NULL}, {NULL}};
static enum loam_status show_run(struct cmd_call *c, struct err *err) {
    struct flow f = flow_of(c);
    json_t *out = NULL;
    enum loam_status s = flow_datanet_show(&f, &out, cmd_uint(c, "datanet"), err);
    return flow_result(c, s, out);
}
const struct cmd entry_datanet_show = {.noun = "datanet",
                                       .verb = "show",
                                       .args = show_args,
                                       .help = "a datanet and its contributions",
                                       .example = "datanet show 1",
                                       .run = show_run};
