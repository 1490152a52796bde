/* The inside of the console, shared by its files: state, panes, overlays. Everything runs on the loop's thread. */
#ifndef LOAM_TUI_APP_H
#define LOAM_TUI_APP_H

#include "tui/cell.h"
#include "tui/conn.h"
#include "tui/fmt.h"
#include "tui/keymap.h"
#include "tui/layout.h"
#include "tui/line.h"
#include "tui/plot.h"
#include "tui/screen.h"
#include "tui/table.h"
#include "tui/tui.h"

#include <jansson.h>
#include <uv.h>

enum topic_id {
    TOP_NODE, TOP_CHAIN, TOP_TRAIN, TOP_ATTRIBUTION, TOP_REWARDS, TOP_VALIDATOR, TOP_DATANETS, TOP_MODELS, TOP_JOBS,
    TOP_KEYS, TOPICS
};
extern const char *const topic_names[TOPICS];

#define LOG_KEPT 1000            /* lines */
#define LOG_LINE_MAX 2000        /* bytes kept of one */
#define TURNS_KEPT 64            /* questions and answers */
#define ANSWER_MAX (256u << 10)  /* bytes of one answer */
#define OUTPUT_MAX (1u << 20)    /* bytes kept of a command's output */
#define RUNS_MAX 16              /* commands under way */
#define TUI_EXPORT_MAX (64u << 20)  /* bytes of an exported file */
#define HEADS_KEPT 64
#define KEPT_MAX 3

struct log_line {
    int64_t time_ms;
    char level[8], room[16];
    char *text;
};

struct turn {
    char id[48], model[96], answer[80];
    char *prompt;
    struct buf text;
    bool ended;
    char *error;
    int64_t tokens_out;
    double tokens_per_s;
    json_t *source; /* the attribution topic's value for this answer, or NULL */
};

struct run { /* a command under way */
    uint64_t call; /* 0: free */
    char *line;
    uint64_t done, total, job;
    uint64_t began_us;
    bool quiet;      /* sent by the console itself: no output shown unless it fails */
    bool from_ask;
    char detail[128];
};

enum overlay { OV_NONE, OV_PROMPT, OV_FILTER, OV_HELP, OV_OUTPUT, OV_MENU, OV_FORM, OV_QUESTION, OV_ASK };

#define MENU_MAX 64
#define FIELDS_MAX 26
#define CANDIDATES_MAX 200

struct prompt {
    struct line line;
    struct history history;
    json_t *found;       /* completions: [{text, help, from, to}], or NULL */
    int pick;            /* shown candidate, -1 none */
    uint64_t complete_call;
    bool searching;      /* Ctrl-R */
    char needle[FILTER_MAX];
    size_t search_at;
    char error[512];     /* under the word at fault */
    size_t err_from, err_to;
};

struct field {
    const json_t *arg;  /* borrowed from t->table */
    const json_t *told; /* what is shown and checked: arg, or the option that a `set` form sets */
    bool option;
    bool filled; /* by the console: what is typed first takes its place */
    struct line value;
    char error[96];
};

struct form {
    const struct form_def *def;
    const json_t *cmd; /* borrowed from t->table; NULL: the node does not know the command */
    struct field field[FIELDS_MAX];
    int n, at, top;
    int main; /* the fields from here on stand below a rule */
    json_t *option; /* what the node says of a `set` form's option, as an argument would be told; or NULL */
    json_t *found;
    int pick;
};

struct tui {
    uv_loop_t *loop;
    struct tui_options o;
    void (*ended)(void *arg, enum loam_status how, const char *text);
    void *ended_arg;
    bool own_loop;

    struct screen *screen; /* NULL in plain mode */
    struct conn *conn;
    uv_timer_t frame_timer, retry;
    int handles;
    bool closing;
    bool first_hello;     /* a node has answered once */
    bool away;            /* it does not answer now */
    bool ending;          /* because it was asked to end */
    enum loam_status how;
    char how_text[256];
    struct plain *plain;

    struct frame frame;
    bool full;            /* repaint everything at the next frame */
    bool dirty, shown_data;
    uint64_t last_frame_us, last_key_us;

    struct layout layout;
    enum layout_mode mode, before_one;
    enum pane_id focus;
    struct keymap keys;
    enum plot_kind plot;
    bool told[5];         /* console.* options that were once another than the default: from then on the default is told too */

    /* what the node said */
    json_t *topic[TOPICS];
    json_t *hello;        /* answer to hello */
    char *table_text;     /* command table as JSON; a tree of it takes five times the memory, and is seldom needed: */
    json_t *table;        /* made by table_need, gone when the overlay closes that needed it */
    int64_t stream_seq[3]; /* newest number taken of log, ask, heads */
    json_t *heads;        /* the newest HEADS_KEPT, newest first */
    json_t *options;      /* of the node: those that forms set */
    json_t *methods;      /* Attribution: [{rank, NAME: "row score", …}], from the topic's methods */
    struct log_line log[LOG_KEPT];
    int log_at, log_n;
    bool log_gap;
    struct turn turn[TURNS_KEPT];
    int turns;
    struct {
        json_t *curve;    /* [[step, loss]…], owned */
        char name[64];
    } kept[KEPT_MAX];     /* Train: curves to compare with */
    int kept_n;

    /* panes */
    struct list_state list[PANES];
    int tab[PANES];       /* which of a pane's lists */
    int span, turn_sel, ask_scroll;
    struct line ask;      /* the question being written */
    int asked;            /* questions of ours whose answers are not attributed yet */
    char model[96];       /* that answers; "" the node's default */

    /* overlays */
    enum overlay over, under; /* under: what a question covers */
    struct prompt prompt;
    struct buf output;    /* of the last command that was typed */
    char output_title[128];
    int output_top, output_left, help_top;
    uint64_t output_call;
    struct {
        char title[64];
        struct {
            char text[160], value[160];
        } item[MENU_MAX];
        int n, sel;
        void (*pick)(struct tui *t, const char *value);
    } menu;
    struct form form;
    struct {
        uint64_t call, id;
        char kind[12];
        char *text;
        struct line line;
    } question;
    struct run run[RUNS_MAX];
    struct buf script;    /* lines of `source` or of a multi-line prompt that wait for their turn */
    char *data_history, *data_layout;

    char status[256];
    unsigned status_style;
};

/* ---- panes (pane_*.c) --------------------------------------------------------------------------------------------- */

/* One of a pane's lists: the array at `path` of a topic's value. */
struct pane_list {
    const char *title;
    enum topic_id topic; /* TOPICS: t->heads */
    const char *path;
    struct table table;
};

struct pane {
    const char *name, *title;
    const char *empty; /* what it would show */
    const char *next;  /* command to type while it is empty */
    enum topic_id topic; /* exported as JSON; TOPICS: none */
    bool (*is_empty)(struct tui *t);
    /* The rows above the lists; returns how many were used. For panes without a draw of their own. */
    int (*head)(struct tui *t, const struct view *v, bool small);
    const struct pane_list *lists;
    int n_lists;
    void (*draw)(struct tui *t, const struct view *v, bool small, bool focus); /* NULL: head and lists */
    bool (*act)(struct tui *t, enum action a); /* true: taken */
    /* What the plain mode says when the topic changed; false: nothing worth a line. */
    bool (*line)(struct tui *t, char *out, size_t cap);
};
extern const struct pane pane_chain, pane_train, pane_ask, pane_attribution, pane_rewards, pane_validator, pane_datanets,
    pane_models, pane_log;
extern const struct pane *const panes[PANES];

/* "label value" pairs in one row, cut at the edge; returns the column after it. */
int pane_pair(const struct view *v, int y, int x, const char *label, unsigned style, const char *fmt, ...) LOAM_PRINTF(6, 7);
int pane_page(struct tui *t, enum pane_id p); /* rows of its list on the screen */
void ask_submit(struct tui *t);
void ask_on_event(struct tui *t, const json_t *e);
void ask_on_attribution(struct tui *t);
void log_add(struct tui *t, const json_t *e);
void log_local(struct tui *t, const char *level, const char *text);
void pane_draw(struct tui *t, enum pane_id p, const struct view *v, bool small, bool focus);
bool pane_act(struct tui *t, enum pane_id p, enum action a);
/* The list that pane p shows; *rows borrowed. NULL: it has none. */
const struct pane_list *pane_list(struct tui *t, enum pane_id p, const json_t **rows);
void pane_detail(struct tui *t, const char *title, const json_t *row); /* every field, in the output overlay */
void attribution_changed(struct tui *t);
void log_text(struct tui *t, int i, char *out, size_t cap);

/* ---- tui.c -------------------------------------------------------------------------------------------------------- */

void tui_dirty(struct tui *t);
void tui_status(struct tui *t, unsigned style, const char *fmt, ...) LOAM_PRINTF(3, 4);
void tui_focus(struct tui *t, enum pane_id p);
void tui_end(struct tui *t, enum loam_status how, const char *text);
/* Answer to option.list: the console's own options take effect. */
void tui_options_told(void *arg, uint64_t id, const json_t *result, const json_t *error);
void tui_compose(struct tui *t); /* draws into t->frame */

/* ---- run.c: commands ---------------------------------------------------------------------------------------------- */

/* Runs a line: one of the console's own words, else command.run. quiet: see struct run. */
void run_line(struct tui *t, const char *line, bool quiet);
void run_argv(struct tui *t, json_t *argv /* stolen */, const char *title, bool from_ask);
void run_next(struct tui *t); /* the next line of t->script */
void run_out(struct tui *t, const json_t *params);
void run_progress(struct tui *t, const json_t *params);
void run_started(struct tui *t, const json_t *params);
void run_lost(struct tui *t); /* the link is down */
struct run *run_last(struct tui *t);
bool run_export(struct tui *t, const char *file, enum pane_id p, struct err *err);
bool run_screen(struct tui *t, const char *file, struct err *err);

struct local_word {
    const char *name, *usage, *help;
};
extern const struct local_word local_words[];
extern const size_t local_word_count;

/* ---- prompt.c ----------------------------------------------------------------------------------------------------- */

void prompt_open(struct tui *t, const char *text);
void prompt_key(struct tui *t, const struct key *k);
void prompt_draw(struct tui *t, const struct view *all, const struct view *row);
/* Byte range of word `index` of a line, split as a shell does. */
bool word_range(const char *line, long index, size_t *from, size_t *to);
void table_need(struct tui *t); /* t->table stands, where the node has told it */
/* The entry of t->table whose words begin the line; *used gets how many words. NULL if none. */
const json_t *table_command(struct tui *t, const char *line, int *used);
/* A line editor's text in one row, scrolled so that its cursor shows. secret: nothing is shown. */
void line_draw(const struct view *v, int y, int x, unsigned style, const struct line *l, bool secret);

/* ---- overlay.c: help, output, menu, question --------------------------------------------------------------------- */

void overlay_draw(struct tui *t, const struct view *body);
bool overlay_key(struct tui *t, const struct key *k); /* false: not for an overlay */
void overlay_open(struct tui *t, enum overlay o);
void overlay_close(struct tui *t);
void question_ask(struct tui *t, const json_t *params);
void menu_open(struct tui *t, const char *title, void (*pick)(struct tui *t, const char *value));
void menu_add(struct tui *t, const char *value, const char *fmt, ...) LOAM_PRINTF(3, 4);
/* All lines of the help overlay, from the key and command tables. */
enum loam_status help_text(struct tui *t, struct buf *out, struct err *err) LOAM_MUST_USE;

/* ---- form.c ------------------------------------------------------------------------------------------------------- */

struct form_def {
    const char *name, *title, *noun, *verb;
    const char *preset; /* the first argument, fixed; NULL: all arguments are fields */
    const char *main;   /* names of the fields that stand first, "name,base"; NULL: no others do */
    const char *text;
};
extern const struct form_def form_defs[];
extern const size_t form_count;
bool form_sets(const char *option); /* is there a form for this option? */
void form_menu(struct tui *t);
bool form_open(struct tui *t, const char *name);
void form_key(struct tui *t, const struct key *k);
void form_draw(struct tui *t, const struct view *v);
void form_free(struct tui *t);
void form_table_changed(struct tui *t); /* t->table is a new one, the old one stands until this returns */
enum loam_status form_command(const struct tui *t, struct buf *out, struct err *err) LOAM_MUST_USE;
/* Checks one field's text against its declared type and range; false fills why. Pure. */
bool field_check(const json_t *arg, const char *value, char *why, size_t cap);

/* ---- plain.c: append-only lines ----------------------------------------------------------------------------------- */

struct plain;
enum loam_status plain_open(struct tui *t, struct err *err) LOAM_MUST_USE;
void plain_close(struct tui *t, void (*done)(void *arg)); /* done(t) once its handles are closed */
void plain_ask(struct tui *t, const json_t *event);
void plain_say(struct tui *t, const char *fmt, ...) LOAM_PRINTF(2, 3);
void plain_topic(struct tui *t, enum topic_id id);
void plain_question(struct tui *t);
void plain_idle(struct tui *t); /* a command ended: leave if the input has ended too */

#endif
