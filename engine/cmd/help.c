/* help: the table, told. */
#include "base/mem.h"
#include "cmd/private.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {{"words", CMD_COMMAND, CMD_MANY, NULL, "noun, or noun and verb", NULL},
                                      {NULL}};
const struct cmd entry_help = {.noun = "help",
                               .args = args,
                               .help = "list the commands, or explain one",
                               .example = "help key new",
                               .run = run};

static void print(struct cmd_call *c, const json_t *r) {
    cmd_out(c, "%s", json_string_value(json_object_get(r, "text")));
}

static enum loam_status run(struct cmd_call *c, struct err *err) {
    size_t n = cmd_count(c, "words");
    struct buf b = BUF_INIT(1u << 20);
    enum loam_status s =
        cmd_help(&b, n ? cmd_str_at(c, "words", 0) : NULL, n > 1 ? cmd_str_at(c, "words", 1) : NULL, err);
    if (!s) {
        json_t *r = json_pack("{s:s}", "text", b.data);
        if (r)
            print(c, r);
        json_decref(r);
    }
    buf_clear(&b);
    return s;
}
