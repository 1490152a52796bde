/* option list | get | set, and set for short. */
#include "base/option.h"
#include "cmd/private.h"

#include <string.h>

#include "base/banned.h"

static const struct cmd_arg get_args[] = {{"name", CMD_OPTION, CMD_REQUIRED, NULL, "the option", NULL},
                                          {NULL}};
static const struct cmd_arg set_args[] = {{"name", CMD_OPTION, CMD_REQUIRED, NULL, "the option", NULL},
                                          {"value", CMD_TEXT, CMD_REQUIRED, NULL, "its value", NULL},
                                          {NULL}};

static json_t *describe(struct node *n, const struct option_def *d, bool all) {
    char v[OPTION_TEXT_MAX];
    json_t *o = json_pack("{s:s s:s s:s s:s}", "name", d->name, "value", option_str(n->opt, d->name, v),
                          "from", option_source_name(option_where(n->opt, d->name)), "text", d->text);
    if (all && o) {
        json_object_set_new(o, "default", json_string(d->def));
        if (*d->unit)
            json_object_set_new(o, "unit", json_string(d->unit));
        if (d->choices)
            json_object_set_new(o, "choices", json_string(d->choices));
        if (d->type == OPTION_UINT || d->type == OPTION_BYTES || d->type == OPTION_REAL) {
            json_object_set_new(o, "min", json_real(d->min));
            json_object_set_new(o, "max", json_real(d->max));
        }
        json_object_set_new(o, "needs_restart", json_boolean(d->restart));
    }
    return o;
}

static enum loam_status list(struct cmd_call *c, struct err *err) {
    (void)err;
    json_t *a = json_array();
    for (size_t i = 0; a && i < option_count; i++)
        json_array_append_new(a, describe(cmd_node(c), &option_table[i], false));
    cmd_result(c, a);
    return LOAM_OK;
}
const struct cmd entry_option_list = {.noun = "option",
                                      .verb = "list",
                                      .help = "every option with its value and where it comes from",
                                      .example = "option list",
                                      .run = list};

static enum loam_status get(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, describe(cmd_node(c), option_find(cmd_str(c, "name")), true));
    return LOAM_OK;
}
const struct cmd entry_option_get = {.noun = "option",
                                     .verb = "get",
                                     .args = get_args,
                                     .help = "one option: value, range, default",
                                     .example = "option get key.spend-limit",
                                     .run = get};

static enum loam_status put(struct cmd_call *c, struct err *err) {
    const struct option_def *d = option_find(cmd_str(c, "name"));
    enum loam_status s = node_set_option(cmd_node(c), d->name, cmd_str(c, "value"), err);
    if (!s && d->restart)
        cmd_note(c, "%s takes effect when the node is started again", d->name);
    return s;
}
const struct cmd entry_option_set = {.noun = "option",
                                     .verb = "set",
                                     .args = set_args,
                                     .help = "set an option now and for later (DATA/config)",
                                     .example = "option set log.level debug",
                                     .run = put};
const struct cmd entry_set = {.noun = "set",
                              .args = set_args,
                              .help = "short for option set",
                              .example = "set console.theme dark",
                              .run = put};
