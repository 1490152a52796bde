/* log: the newest lines. */
#include "base/clock.h"
#include "cmd/private.h"
#include "node/topic.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {{"lines", CMD_UINT, 0, "20", "how many", "1..256"}, {NULL}};
const struct cmd entry_log = {.noun = "log",
                              .args = args,
                              .help = "the newest lines of the node's log",
                              .example = "log 50",
                              .run = run};

static void print(struct cmd_call *c, const json_t *list) {
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o) {
        char when[24];
        clock_format(when, (uint64_t)json_integer_value(json_object_get(o, "time_ms")));
        cmd_out(c, "%s %-5s %s: %s", when, json_string_value(json_object_get(o, "level")),
                json_string_value(json_object_get(o, "room")), json_string_value(json_object_get(o, "text")));
    }
}

static enum loam_status run(struct cmd_call *c, struct err *err) {
    (void)err;
    json_t *list = topic_recent(cmd_node(c), "log", (size_t)cmd_uint(c, "lines"));
    if (list)
        print(c, list);
    if (c->json)
        cmd_result(c, list);
    else
        json_decref(list);
    return LOAM_OK;
}
