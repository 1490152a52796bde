#include "tui/keymap.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

const struct action_def action_table[ACT_COUNT] = {
#define K(id, name, keys, where, help) [ACT_##id] = {name, keys, help, WHERE_##where},
#include "tui/keymap.def"
#undef K
};

static bool bind_keys(struct keymap *m, enum action a, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t j = i;
        while (j < n && s[j] != ' ')
            j++;
        struct key k;
        if (j > i) {
            if (m->n == KEYMAP_MAX || !key_parse(&k, s + i, j - i))
                return false;
            m->bind[m->n].key = k;
            m->bind[m->n++].act = a;
        }
        i = j + 1;
    }
    return true;
}

void keymap_init(struct keymap *m) {
    m->n = 0;
    for (int a = 1; a < ACT_COUNT; a++)
        LOAM_ASSERT(bind_keys(m, (enum action)a, action_table[a].keys, strlen(action_table[a].keys)));
}

enum loam_status keymap_remap(struct keymap *m, const char *s, struct err *err) {
    while (*s) {
        size_t n = strcspn(s, ","), name = strcspn(s, "=,");
        if (n) {
            enum action a = ACT_NONE;
            for (int i = 1; i < ACT_COUNT; i++)
                if (strlen(action_table[i].name) == name && !memcmp(action_table[i].name, s, name))
                    a = (enum action)i;
            if (!a || name >= n)
                return err_set(err, LOAM_EINVAL, "key map: no action \"%.*s\" (the help overlay lists them)", (int)name, s);
            int k = 0;
            for (int i = 0; i < m->n; i++)
                if (m->bind[i].act != a)
                    m->bind[k++] = m->bind[i];
            m->n = k;
            if (!bind_keys(m, a, s + name + 1, n - name - 1))
                return err_set(err, LOAM_EINVAL, "key map: \"%.*s\" is no key (examples: a, ctrl-l, alt-x, f5, pgup, space)",
                               (int)(n - name - 1), s + name + 1);
        }
        s += n + (s[n] == ',');
    }
    return LOAM_OK;
}

enum action keymap_find(const struct keymap *m, const struct key *k, int pane) {
    enum action all = ACT_NONE;
    for (int i = 0; i < m->n; i++) {
        if (m->bind[i].key.code != k->code || m->bind[i].key.mods != k->mods)
            continue;
        int w = action_table[m->bind[i].act].where;
        if (w == pane)
            return m->bind[i].act;
        if (w == WHERE_ALL)
            all = m->bind[i].act;
    }
    return all;
}

void keymap_keys(const struct keymap *m, enum action a, char *out, size_t cap) {
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < m->n; i++)
        if (m->bind[i].act == a) {
            char k[32];
            key_text(k, &m->bind[i].key);
            int n = snprintf(out + at, cap - at, "%s%s", at ? " " : "", k);
            if (n < 0 || (size_t)n >= cap - at)
                return;
            at += (size_t)n;
        }
}
