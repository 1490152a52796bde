/* What is generated from the table: the text of help, and JSON. contrib/gen.c makes man page, completion and
 * reference. */
#include "base/mem.h"
#include "cmd/private.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

json_t *cmd_table_json(void) {
    json_t *all = json_array();
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        json_t *args = json_array(), *flags = json_array();
        for (const struct cmd_arg *a = c->args; a && a->name; a++)
            json_array_append_new(args,
                                  json_pack("{s:s s:s s:s s:s? s:s? s:b s:b s:b}", "name", a->name, "type",
                                            cmd_type_name(a->type), "help", a->help, "def", a->def, "range",
                                            a->range, "required", (a->flags & CMD_REQUIRED) != 0, "many",
                                            (a->flags & CMD_MANY) != 0, "named",
                                            (a->flags & CMD_NAMED) != 0 || a->type == CMD_FLAG));
        static const struct {
            unsigned bit;
            const char *name;
        } bits[] = {
            {CMD_LONG, "long"}, {CMD_DURABLE, "durable"}, {CMD_SPENDS, "spends"}, {CMD_REPEATS, "repeats"}, {CMD_LOCAL, "local"}};
        for (size_t k = 0; k < sizeof bits / sizeof *bits; k++)
            if (c->flags & bits[k].bit)
                json_array_append_new(flags, json_string(bits[k].name));
        json_array_append_new(all, json_pack("{s:s s:s? s:s s:s? s:s? s:b s:o s:o}", "noun", c->noun, "verb",
                                             c->verb, "help", c->help, "text", c->text, "example", c->example,
                                             "built", c->run != NULL || (c->flags & CMD_LOCAL), "flags",
                                             flags, "args", args));
    }
    return all;
}

static enum loam_status usage(struct buf *out, const struct cmd *c, struct err *err) {
    enum loam_status s = buf_printf(out, err, "%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
    for (const struct cmd_arg *a = c->args; !s && a && a->name; a++) {
        bool need = (a->flags & CMD_REQUIRED) != 0, flag = a->type == CMD_FLAG;
        const char *many = (a->flags & CMD_MANY) ? "…" : "";
        if (flag)
            s = buf_printf(out, err, " [--%s]", a->name);
        else if (a->flags & CMD_NAMED)
            s = buf_printf(out, err, need ? " --%s %s%s" : " [--%s %s%s]", a->name, cmd_type_name(a->type),
                           many);
        else
            s = buf_printf(out, err, need ? " <%s>%s" : " [%s]%s", a->name, many);
    }
    return s;
}

static enum loam_status help_one(struct buf *out, const struct cmd *c, struct err *err) {
    enum loam_status s = usage(out, c, err);
    if (!s)
        s = buf_printf(out, err, "\n    %s%s\n", c->help,
                       c->run || (c->flags & CMD_LOCAL) ? "" : " (not built)");
    for (const struct cmd_arg *a = c->args; !s && a && a->name; a++) {
        char name[48];
        snprintf(name, sizeof name, "%s%s", (a->flags & CMD_NAMED) || a->type == CMD_FLAG ? "--" : "",
                 a->name);
        s = buf_printf(out, err, "      %-18s %s", name, a->help);
        if (!s && a->type != CMD_FLAG && a->type != CMD_STR && a->type != CMD_TEXT)
            s = buf_printf(out, err, " (%s%s%s)", cmd_type_name(a->type), a->range ? " " : "",
                           a->range ? a->range : "");
        if (!s && a->def)
            s = buf_printf(out, err, "; default %s", a->def);
        if (!s)
            s = buf_byte(out, '\n', err);
    }
    if (!s && c->text)
        s = buf_printf(out, err, "\n    %s\n", c->text);
    if (!s && c->example)
        s = buf_printf(out, err, "      example:  %s\n", c->example);
    return s;
}

enum loam_status cmd_help(struct buf *out, const char *noun, const char *verb, struct err *err) {
    enum loam_status s = LOAM_OK;
    if (noun) {
        size_t found = 0;
        for (size_t i = 0; !s && i < cmd_table_count; i++) {
            const struct cmd *c = cmd_table[i];
            if (strcmp(c->noun, noun) != 0 || (verb && !(c->verb && strcmp(c->verb, verb) == 0)))
                continue;
            if (found++)
                s = buf_byte(out, '\n', err);
            if (!s)
                s = help_one(out, c, err);
        }
        if (!found)
            return err_set(err, LOAM_ENOTFOUND, "no command \"%.40s%s%.40s\"; `help` lists all", noun,
                           verb ? " " : "", verb ? verb : "");
        return s;
    }
    for (size_t i = 0; !s && i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i];
        char words[64];
        snprintf(words, sizeof words, "%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
        s = buf_printf(out, err, "  %-18s %s%s\n", words, c->help,
                       c->run || (c->flags & CMD_LOCAL) ? "" : " (not built)");
    }
    if (!s)
        s = buf_str(out,
                    "\nEvery command also takes --json, --yes (spend without asking) and --no-wait.\n`help "
                    "NOUN VERB` says more.\n",
                    err);
    return s;
}
