/* Completion: commands, arguments, options, files, and live values from the topics. Runs on the loop: bounded
 * work only. */
#include "base/mem.h"
#include "base/option.h"
#include "base/text.h"
#include "cmd/private.h"
#include "node/topic.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/banned.h"

#define ENTRIES_MAX 2000 /* files of a folder that are looked at */

struct list {
    json_t *out;
    const char *word; /* what is typed of it */
    size_t len, from, to;
};

static void offer(struct list *l, const char *text, const char *help) {
    if (json_array_size(l->out) >= CMD_COMPLETE_MAX || strncmp(text, l->word, l->len) != 0)
        return;
    char clean[256];
    text_clean_cut(clean, sizeof clean, help ? help : "", help ? strlen(help) : 0);
    json_array_append_new(l->out, json_pack("{s:s s:s s:i s:i}", "text", text, "help", clean, "from",
                                            (int)l->from, "to", (int)l->to));
}

static void offer_topic(struct list *l, struct node *n, const char *topic, const char *key,
                        const char *help) {
    json_t *v = n ? topic_get(n, topic) : NULL, *o;
    size_t i;
    json_array_foreach(json_object_get(v, "list"), i, o) {
        const json_t *name = json_object_get(o, key);
        char number[32];
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(name));
        const char *text = json_is_string(name)    ? json_string_value(name)
                           : json_is_integer(name) ? number
                                                   : NULL;
        const json_t *h = json_object_get(o, help);
        if (text)
            offer(l, text, json_is_string(h) ? json_string_value(h) : "");
    }
    json_decref(v);
}

static void offer_files(struct list *l, const char *cwd) {
    char folder[4096], text[4096];
    const char *slash = strrchr(l->word, '/');
    size_t base = slash ? (size_t)(slash - l->word) + 1 : 0;
    int r = *l->word == '/' ? snprintf(folder, sizeof folder, "%.*s", (int)base, l->word)
                            : snprintf(folder, sizeof folder, "%s/%.*s", cwd ? cwd : ".", (int)base, l->word);
    DIR *d = r > 0 && (size_t)r < sizeof folder ? opendir(folder) : NULL;
    if (!d)
        return;
    struct dirent *e;
    for (int i = 0; i < ENTRIES_MAX && (e = readdir(d)); i++) {
        if (e->d_name[0] == '.' && l->word[base] != '.')
            continue;
        bool dir = e->d_type == DT_DIR;
        r = snprintf(text, sizeof text, "%.*s%s%s", (int)base, l->word, e->d_name, dir ? "/" : "");
        if (r > 0 && (size_t)r < sizeof text && utf8_valid((const uint8_t *)text, strlen(text), NULL))
            offer(l, text, dir ? "folder" : "");
    }
    closedir(d);
}

static void offer_choices(struct list *l, const char *choices, const char *help) {
    char one[64];
    for (const char *p = choices; *p;) {
        size_t n = strcspn(p, "|");
        if (n < sizeof one) {
            memcpy(one, p, n);
            one[n] = 0;
            offer(l, one, help);
        }
        p += n + (p[n] == '|');
    }
}

static void offer_value(struct list *l, struct node *n, const struct cmd_arg *a, const char *cwd,
                        const char *before) {
    switch (a->type) {
    case CMD_CHOICE:
        offer_choices(l, a->range, a->help);
        break;
    case CMD_PATH:
        offer_files(l, cwd);
        break;
    case CMD_KEY:
    case CMD_ACCOUNT:
        offer_topic(l, n, "keys", "name", "address");
        break;
    case CMD_DATANET:
        offer_topic(l, n, "datanets", "id", "name");
        break;
    case CMD_MODEL:
        offer_topic(l, n, "models", "name", "kind");
        break;
    case CMD_JOB:
        offer_topic(l, n, "jobs", "id", "title");
        break;
    case CMD_OPTION:
        for (size_t i = 0; i < option_count; i++)
            offer(l, option_table[i].name, option_table[i].text);
        break;
    case CMD_COMMAND:
        for (size_t i = 0; i < cmd_table_count; i++)
            if (!before || strcmp(cmd_table[i]->noun, before) != 0)
                offer(l, cmd_table[i]->noun, cmd_table[i]->verb ? "" : cmd_table[i]->help);
            else if (cmd_table[i]->verb)
                offer(l, cmd_table[i]->verb, cmd_table[i]->help);
        break;
    case CMD_STR: /* the value of an option named just before */
    case CMD_TEXT:
        if (before && strcmp(a->name, "value") == 0 && option_find(before)) {
            const struct option_def *o = option_find(before);
            if (o->type == OPTION_CHOICE)
                offer_choices(l, o->choices, o->text);
            else if (o->type == OPTION_BOOL)
                offer_choices(l, "yes|no", o->text);
        }
        break;
    default:
        break;
    }
}

json_t *cmd_complete(struct node *n, const char *line, size_t cursor, const char *cwd) {
    json_t *out = json_array();
    /* The word under the cursor begins after the last blank that is in no quote; words before it are parsed
     * whole. */
    size_t from = cursor;
    while (from && line[from - 1] != ' ' && line[from - 1] != '\t')
        from--;
    char *word = mem_strndup(line + from, cursor - from);
    char **w = NULL;
    size_t count = 0;
    if (!out || !word || cmd_split(&w, &count, line, from, NULL)) {
        mem_free(word);
        return out;
    }
    struct list l = {out, word, strlen(word), from, cursor};
    const struct cmd *c = count > 1 ? cmd_find(w[0], w[1]) : NULL;
    size_t first = 2;
    if (!c && count) {
        c = cmd_find(w[0], NULL);
        first = 1;
    }
    if (!count) {
        const char *last = NULL;
        for (size_t i = 0; i < cmd_table_count; i++) {
            const struct cmd *k = cmd_table[i];
            if (!last || strcmp(last, k->noun) != 0)
                offer(&l, k->noun, k->verb ? "" : k->help);
            last = k->noun;
        }
    }
    if (count == 1)
        for (size_t i = 0; i < cmd_table_count; i++)
            if (cmd_table[i]->verb && strcmp(cmd_table[i]->noun, w[0]) == 0)
                offer(&l, cmd_table[i]->verb, cmd_table[i]->help);
    if (c) {
        /* After "--name": its value. Else by position, and the names. */
        const struct cmd_arg *value_for = NULL, *place = NULL;
        size_t places = 0;
        for (size_t i = first; i < count; i++) {
            value_for = NULL;
            if (strncmp(w[i], "--", 2) == 0) {
                for (const struct cmd_arg *a = c->args; a && a->name; a++)
                    if (strcmp(a->name, w[i] + 2) == 0 && a->type != CMD_FLAG) {
                        if (i + 1 == count)
                            value_for = a;
                        else
                            i++;
                        break;
                    }
            } else {
                places++;
            }
        }
        size_t k = 0;
        for (const struct cmd_arg *a = c->args; a && a->name && !place; a++)
            if (!(a->flags & CMD_NAMED) && a->type != CMD_FLAG && (k++ == places || (a->flags & CMD_MANY)))
                place = a;
        if (value_for) {
            offer_value(&l, n, value_for, cwd, w[count - 1]);
        } else {
            if (place && strncmp(word, "--", 2) != 0)
                offer_value(&l, n, place, cwd, count > first ? w[count - 1] : NULL);
            for (const struct cmd_arg *a = c->args; a && a->name; a++) {
                char name[64];
                bool named = (a->flags & CMD_NAMED) || a->type == CMD_FLAG || word[0] == '-';
                snprintf(name, sizeof name, "--%s", a->name);
                if (named && (!place || word[0] == '-'))
                    offer(&l, name, a->help);
            }
        }
    }
    cmd_words_free(w, count);
    mem_free(word);
    return out;
}
