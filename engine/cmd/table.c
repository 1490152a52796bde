/* The command table, from commands.def. */
#include "cmd/cmd.h"

#include <string.h>

#include "base/banned.h"

#define C(name) extern const struct cmd entry_##name;
#include "cmd/commands.def"
#undef C

const struct cmd *const cmd_table[] = {
#define C(name) &entry_##name,
#include "cmd/commands.def"
#undef C
};
const size_t cmd_table_count = sizeof cmd_table / sizeof *cmd_table;

const struct cmd *cmd_find(const char *noun, const char *verb) {
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        if (strcmp(c->noun, noun) == 0 && (verb ? c->verb && strcmp(c->verb, verb) == 0 : !c->verb))
            return c;
    }
    return NULL;
}

bool cmd_looks(const struct cmd *c) {
    static const char *const verbs[] = {"account", "block", "evidence", "get", "heads", "info", "list", "logs", "peers", "pending", "show", "status", "storage", "tx", "watch"};
    static const char *const nouns[] = {"disk", "doctor", "help", "log", "trace", "version"};
    if (c->flags & (CMD_SPENDS | CMD_DURABLE | CMD_LOCAL))
        return false;
    for (size_t i = 0; c->verb && i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(c->verb, verbs[i]))
            return true;
    for (size_t i = 0; !c->verb && i < sizeof nouns / sizeof *nouns; i++)
        if (!strcmp(c->noun, nouns[i]))
            return true;
    return false;
}
