/* The key table: which key does what. Built from keymap.def; remapped by "action=key[ key],…". */
#ifndef LOAM_TUI_KEYMAP_H
#define LOAM_TUI_KEYMAP_H

#include "base/status.h"
#include "tui/key.h"

enum action {
    ACT_NONE,
#define K(id, name, keys, where, help) ACT_##id,
#include "tui/keymap.def"
#undef K
    ACT_COUNT
};

enum where { WHERE_ALL = -1, WHERE_TRAIN = 1, WHERE_ASK = 2, WHERE_ATTRIBUTION = 3, WHERE_REWARDS = 4 }; /* pane_id */

struct action_def {
    const char *name, *keys, *help;
    int where;
};
extern const struct action_def action_table[ACT_COUNT]; /* [0] is empty */

#define KEYMAP_MAX 160
struct keymap {
    struct {
        struct key key;
        enum action act;
    } bind[KEYMAP_MAX];
    int n;
};

void keymap_init(struct keymap *m);
/* "train=T,detach=ctrl-q Q": the named actions lose their keys and get these. LOAM_EINVAL names the word at fault. */
enum loam_status keymap_remap(struct keymap *m, const char *text, struct err *err) LOAM_MUST_USE;
/* A pane's own keys go before those that work everywhere. */
enum action keymap_find(const struct keymap *m, const struct key *k, int pane);
/* The keys of an action as text: "? f1". */
void keymap_keys(const struct keymap *m, enum action a, char *out, size_t cap);

#endif
