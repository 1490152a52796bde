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
