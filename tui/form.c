/* Forms: a command's arguments as fields, checked as one types, with the command itself at the bottom, so that a form
 * teaches the prompt. */
#include "tui/app.h"

#include "base/mem.h"
#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

const struct form_def form_defs[] = {
#define F(name, title, noun, verb, preset, main, text) {name, title, noun, verb, preset, main, text},
#include "tui/forms.def"
#undef F
};
const size_t form_count = sizeof form_defs / sizeof *form_defs;

static void pick(struct tui *t, const char *name) {
    form_open(t, name);
}

static size_t adapters(struct tui *t) {
    const json_t *list = jget(t->topic[TOP_MODELS], "list");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        n += !strcmp(jstr(json_array_get(list, i), "kind"), "adapter");
    return n;
}

/* Is what this form is for there already? -1: that cannot be told, it is done as often as wanted. */
static int form_done(struct tui *t, const char *name) {
    const json_t *nets = jget(t->topic[TOP_DATANETS], "list"), *named = jget(t->topic[TOP_REWARDS], "names");
    const char *account;
    json_t *v;
    if (!strcmp(name, "model"))
        return jcount(t->topic[TOP_MODELS], "list") > adapters(t);
    if (!strcmp(name, "train"))
        return adapters(t) > 0 || !strcmp(jstr(t->topic[TOP_TRAIN], "state"), "running");
    if (!strcmp(name, "chain"))
        return jbool(t->topic[TOP_CHAIN], "configured");
    if (!strcmp(name, "wallet"))
        return jcount(t->topic[TOP_KEYS], "list") > 0;
    if (!strcmp(name, "deploy"))
        return json_object_size(jget(t->topic[TOP_CHAIN], "contracts")) > 0;
    if (!strcmp(name, "account")) {
        json_object_foreach((json_t *)(uintptr_t)named, account, v)
            if (strtoll(account, NULL, 10) > 2)
                return 1;
        return 0;
    }
    if (!strcmp(name, "datanet"))
        return json_array_size(nets) > 0;
    if (!strcmp(name, "contribute")) {
        for (size_t i = 0; i < json_array_size(nets); i++)
            if (jint(json_array_get(nets, i), "contributions", 0))
                return 1;
        return 0;
    }
    if (!strcmp(name, "serve"))
        return *jstr(t->topic[TOP_NODE], "api") != 0;
    if (!strcmp(name, "record")) {
        const json_t *b = jget(t->topic[TOP_VALIDATOR], "batches");
        for (size_t i = 0; i < json_array_size(b); i++)
            if (jbool(json_array_get(b, i), "mine"))
                return 1;
        return 0;
    }
    if (!strcmp(name, "claim"))
        return jcount(t->topic[TOP_REWARDS], "payments") > 0;
    if (!strcmp(name, "validator"))
        return jbool(t->topic[TOP_VALIDATOR], "enabled");
    return -1;
}

/* The way through, in order: what is done is marked, the first that is not is chosen. */
void form_menu(struct tui *t) {
    int next = -1;
    menu_open(t, "Forms: what to do, in order (+ is done)", pick);
    for (size_t i = 0; i < form_count; i++) {
        int done = form_done(t, form_defs[i].name);
        menu_add(t, form_defs[i].name, "%s %s", done > 0 ? "+" : " ", form_defs[i].title);
        if (!done && next < 0)
            next = (int)i;
    }
    t->menu.sel = next < 0 ? 0 : next;
    overlay_open(t, OV_MENU);
}

void form_free(struct tui *t) {
    for (int i = 0; i < t->form.n; i++)
        line_free(&t->form.field[i].value);
    json_decref(t->form.found);
    json_decref(t->form.option);
    memset(&t->form, 0, sizeof t->form);
}

static void add_field(struct form *f, const json_t *arg) {
    if (f->n == FIELDS_MAX)
        return;
    struct field *fd = &f->field[f->n++];
    fd->arg = fd->told = arg;
    fd->option = fd->filled = false;
    line_init(&fd->value);
}

bool form_sets(const char *option) {
    for (size_t i = 0; i < form_count; i++)
        if (form_defs[i].preset && !strcmp(form_defs[i].preset, option))
            return true;
    return false;
}

/* An option told like an argument, so that its field has the option's own type, range, default and help; its value now. */
static void tell_option(struct tui *t) {
    struct form *f = &t->form;
    for (size_t i = 0; f->def->preset && f->n == 1 && i < json_array_size(t->options); i++) {
        const json_t *o = json_array_get(t->options, i);
        const char *type = jstr(o, "type"), *v = jstr(o, "value");
        char range[96] = "", help[256];
        if (strcmp(jstr(o, "name"), f->def->preset))
            continue;
        bool number = !strcmp(type, "uint") || !strcmp(type, "real");
        if (number && jnum(o, "max", 0) > 0)
            snprintf(range, sizeof range, "%.9g..%.9g", jnum(o, "min", 0), jnum(o, "max", 0));
        else if (!strcmp(type, "choice"))
            snprintf(range, sizeof range, "%s", jstr(o, "choices"));
        snprintf(help, sizeof help, "%s%s", jstr(o, "text"), jbool(o, "restart") ? " (from the node's next start)" : "");
        f->option = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", jstr(o, "name"), "type",
                              number                    ? "number"
                              : !strcmp(type, "choice") ? "choice"
                              : !strcmp(type, "bool")   ? "flag"
                                                        : "text",
                              "range", range, "def", jstr(o, "default"), "help", help);
        if (!f->option)
            return;
        f->field[0].told = f->option;
        f->field[0].option = true;
        f->field[0].filled = true;
        line_set(&f->field[0].value, v, strlen(v));
    }
}

static bool is_main(const struct form_def *d, const char *name) {
    size_t n = strlen(name);
    for (const char *p = d->main ? d->main : ""; *p;) {
        size_t k = strcspn(p, ",");
        if (k == n && !strncmp(p, name, n))
            return true;
        p += k + (p[k] == ',');
    }
    return false;
}

bool form_open(struct tui *t, const char *name) {
    const struct form_def *d = NULL;
    for (size_t i = 0; i < form_count; i++)
        if (!strcmp(form_defs[i].name, name))
            d = &form_defs[i];
    if (!d)
        return false;
    form_free(t);
    table_need(t);
    t->form.def = d;
    t->form.pick = -1;
    for (size_t i = 0; i < json_array_size(t->table); i++) {
        const json_t *c = json_array_get(t->table, i);
        if (!strcmp(jstr(c, "noun"), d->noun) && !strcmp(jstr(c, "verb"), d->verb ? d->verb : ""))
            t->form.cmd = c;
    }
    const json_t *args = jget(t->form.cmd, "args");
    for (int pass = d->main ? 0 : 1; pass < 2; pass++) {
        for (const char *p = pass ? "" : d->main; *p;) { /* in the order of the form */
            size_t k = strcspn(p, ",");
            for (size_t i = 0; i < json_array_size(args); i++)
                if (strlen(jstr(json_array_get(args, i), "name")) == k && !strncmp(jstr(json_array_get(args, i), "name"), p, k))
                    add_field(&t->form, json_array_get(args, i));
            p += k + (p[k] == ',');
        }
        if (!pass)
            t->form.main = t->form.n;
        for (size_t i = d->preset ? 1 : 0; pass && i < json_array_size(args); i++)
            if (!is_main(d, jstr(json_array_get(args, i), "name")))
                add_field(&t->form, json_array_get(args, i));
    }
    if (!d->main || t->form.main == t->form.n)
        t->form.main = t->form.n;
    tell_option(t);
    /* where there is no choice, it is made */
    for (int i = 0; i < t->form.n; i++) {
        struct field *f = &t->form.field[i];
        const char *type = jstr(f->arg, "type"), *only = NULL;
        const json_t *list = jget(t->topic[!strcmp(type, "key") ? TOP_KEYS : TOP_MODELS], "list");
        int n = 0;
        if (strcmp(type, "model") && (strcmp(type, "key") || !strcmp(d->noun, "key")))
            continue;
        for (size_t k = 0; k < json_array_size(list); k++)
            if (strcmp(jstr(json_array_get(list, k), "kind"), "adapter")) {
                n++;
                only = jstr(json_array_get(list, k), "name");
            }
        if (n == 1 && (jbool(f->arg, "required") || i < t->form.main)) {
            line_set(&f->value, only, strlen(only));
            f->filled = true;
        }
    }
    overlay_open(t, OV_FORM);
    return true;
}

/* The table was told anew, and the fields of an open form point into the old one, which still stands. A form that was opened
 * before any table was there gets its fields now; one that was being filled in when the node came back keeps its values. */
void form_table_changed(struct tui *t) {
    struct form was = t->form;
    enum overlay over = t->over;
    if (over != OV_FORM && t->under != OV_FORM) { /* left behind: nothing of it is shown any more */
        form_free(t);
        return;
    }
    memset(&t->form, 0, sizeof t->form);
    form_open(t, was.def->name);
    t->over = over; /* a question may lie over the form */
    for (int i = 0; i < was.n; i++) {
        for (int k = 0; k < t->form.n; k++) {
            struct field *to = &t->form.field[k], *from = &was.field[i];
            if (strcmp(jstr(to->arg, "name"), jstr(from->arg, "name")))
                continue;
            struct line swap = to->value;
            to->value = from->value;
            from->value = swap;
            to->filled = from->filled;
            if (i == was.at)
                t->form.at = k;
        }
        line_free(&was.field[i].value);
    }
    json_decref(was.found);
    json_decref(was.option);
}

static bool digits(const char *s) {
    return *s && strspn(s, "0123456789") == strlen(s);
}

/* One value against its declared type and range. */
static bool word_check(const json_t *arg, const char *v, char *why, size_t cap) {
    const char *type = jstr(arg, "type"), *range = jstr(arg, "range");
    if (!strcmp(type, "datanet") || !strcmp(type, "job")) {
        if (!digits(v))
            snprintf(why, cap, "an id: a whole number");
    } else if (!strcmp(type, "number")) {
        char *end;
        double d = strtod(v, &end), lo, hi;
        if (*end || !isfinite(d) || strpbrk(v, "xXnN"))
            snprintf(why, cap, "a number");
        else if (*range && strstr(range, "..")) {
            lo = strtod(range, NULL);
            hi = strtod(strstr(range, "..") + 2, &end);
            if (d < lo || (end != strstr(range, "..") + 2 && d > hi))
                snprintf(why, cap, "from %s", range);
        }
    } else if (!strcmp(type, "OPEN")) {
        size_t a = strspn(v, "0123456789"), b = v[a] == '.' ? strspn(v + a + 1, "0123456789") : 0;
        if (!a || a > 60 || (v[a] == '.' ? !b || b > 18 || v[a + 1 + b] : v[a] != 0))
            snprintf(why, cap, "an amount of OPEN, like 0.125 (at most 18 decimals)");
    } else if (!strcmp(type, "choice")) {
        size_t n = strlen(v);
        bool ok = false;
        for (const char *p = range; *p;) {
            size_t k = strcspn(p, "|");
            ok |= k == n && !memcmp(p, v, n);
            p += k + (p[k] == '|');
        }
        if (!ok)
            snprintf(why, cap, "one of %s", range);
    } else if (!strcmp(type, "address") || !strcmp(type, "hash")) {
        size_t n = *type == 'a' ? 40 : 64;
        if (strncmp(v, "0x", 2) || strlen(v) != n + 2 || strspn(v + 2, "0123456789abcdefABCDEF") != n)
            snprintf(why, cap, "0x and %zu hex digits", n);
    } else if (!strcmp(type, "flag")) {
        if (strcmp(v, "yes") && strcmp(v, "no"))
            snprintf(why, cap, "yes or no");
    }
    return !*why;
}

bool field_check(const json_t *arg, const char *v, char *why, size_t cap) {
    why[0] = 0;
    if (!*v && jbool(arg, "required"))
        snprintf(why, cap, "needed");
    if (!*v || !jbool(arg, "many"))
        return !*why && (!*v || word_check(arg, v, why, cap));
    size_t from, to;
    char word[256];
    for (long i = 0; !*why && word_range(v, i, &from, &to); i++) {
        snprintf(word, sizeof word, "%.*s", (int)(to - from), v + from);
        word_check(arg, word, why, cap);
    }
    return !*why;
}

static enum loam_status quoted(struct buf *out, const char *v, struct err *err) {
    if (*v && strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,@%+=~") == strlen(v))
        return buf_str(out, v, err);
    enum loam_status s = buf_byte(out, '\'', err);
    for (; *v && !s; v++)
        s = *v == '\'' ? buf_str(out, "'\\''", err) : *v == '\n' ? buf_byte(out, ' ', err) : buf_byte(out, (uint8_t)*v, err);
    return s ? s : buf_byte(out, '\'', err);
}

/* A default that was left alone is not written; an option's value always is. */
static bool said(const struct field *fd) {
    const char *v = line_text(&fd->value), *def = jstr(fd->arg, "def");
    bool flag = !strcmp(jstr(fd->arg, "type"), "flag");
    return fd->option || (*v && (flag ? !strcmp(v, "yes") : !*def || strcmp(def, v)));
}

static enum loam_status emit(struct buf *out, const struct field *fd, bool by_name, struct err *err) {
    const char *v = line_text(&fd->value);
    bool many = jbool(fd->arg, "many"), dashes = !strncmp(v, "--", 2);
    if (many && by_name) { /* each of several words by the name: quotes stay as they are typed */
        enum loam_status s = LOAM_OK;
        size_t from, to;
        for (long i = 0; !s && word_range(v, i, &from, &to); i++)
            s = buf_printf(out, err, " --%s %.*s", jstr(fd->arg, "name"), (int)(to - from), v + from);
        return s;
    }
    enum loam_status s = by_name || dashes ? buf_printf(out, err, " --%s", jstr(fd->arg, "name")) : LOAM_OK;
    if (s || !strcmp(jstr(fd->arg, "type"), "flag"))
        return s;
    s = buf_byte(out, dashes ? '=' : ' ', err);
    if (s || !many)
        return s ? s : quoted(out, v, err);
    for (; *v && !s; v++) /* several words as they stand */
        s = buf_byte(out, *v == '\n' ? ' ' : (uint8_t)*v, err);
    return s;
}

/* Positions first, then names. Once a position is left out, those after it go by name. */
enum loam_status form_command(const struct tui *t, struct buf *out, struct err *err) {
    const struct form *f = &t->form;
    enum loam_status s = buf_printf(out, err, "%s%s%s", f->def->noun, f->def->verb ? " " : "", f->def->verb ? f->def->verb : "");
    bool left_out = false;
    if (!s && f->def->preset)
        s = buf_printf(out, err, " %s", f->def->preset);
    const json_t *args = jget(f->cmd, "args");
    for (int pass = 0; pass < 2 && !s; pass++)
        for (size_t k = 0; k < json_array_size(args) && !s; k++) { /* in the command's order, not the form's */
            const struct field *fd = NULL;
            for (int i = 0; i < f->n; i++)
                if (f->field[i].arg == json_array_get(args, k))
                    fd = &f->field[i];
            if (!fd)
                continue;
            bool named = jbool(fd->arg, "named") || !strcmp(jstr(fd->arg, "type"), "flag");
            if (named != (pass == 1))
                continue;
            if (!said(fd))
                left_out |= !named;
            else
                s = emit(out, fd, named || left_out, err);
        }
    return s;
}

static void drop_found(struct form *f) {
    json_decref(f->found);
    f->found = NULL;
    f->pick = -1;
}

/* Where the last of several words begins. */
static size_t last_word(const struct field *fd) {
    const char *v = line_text(&fd->value), *last = jbool(fd->arg, "many") ? strrchr(v, ' ') : NULL;
    return last ? (size_t)(last + 1 - v) : 0;
}

/* The completion takes the place of the last word; those before it stay. */
static void use(struct form *f, int i) {
    struct field *fd = &f->field[f->at];
    const char *s = jstr(json_array_get(f->found, (size_t)i), "text");
    struct buf b = BUF_INIT(LINE_BYTES_MAX);
    if (!buf_printf(&b, NULL, "%.*s%s", (int)last_word(fd), line_text(&fd->value), s))
        line_set(&fd->value, (char *)b.data, b.len);
    buf_clear(&b);
    f->pick = i;
}

static void on_complete(void *arg, uint64_t id, const json_t *result, const json_t *error) {
    struct tui *t = arg;
    (void)id;
    (void)error;
    if (t->closing || t->over != OV_FORM || !t->form.n)
        return;
    drop_found(&t->form);
    if (json_array_size(result)) {
        t->form.found = json_copy((json_t *)(uintptr_t)result);
        use(&t->form, 0);
    } else {
        tui_status(t, ST_NORMAL, "nothing to choose from yet");
    }
    tui_dirty(t);
}

/* Values that exist (keys, models, files): asked of the node as if the argument stood on the prompt. */
static void complete(struct tui *t) {
    struct form *f = &t->form;
    int n = (int)json_array_size(f->found);
    if (n) {
        use(f, (f->pick + 1) % n);
        return;
    }
    struct buf b = BUF_INIT(LINE_BYTES_MAX);
    struct field *fd = &f->field[f->at];
    const char *v = line_text(&fd->value);
    if (!buf_printf(&b, NULL, "%s%s%s --%s %s", f->def->noun, f->def->verb ? " " : "", f->def->verb ? f->def->verb : "",
                    jstr(fd->arg, "name"), v + last_word(fd)))
        conn_call(t->conn, "command.complete", json_pack("{s:s, s:I}", "line", (char *)b.data, "cursor", (json_int_t)b.len),
                  on_complete, t);
    buf_clear(&b);
}

static void cycle(struct field *fd, int dir) {
    const char *range = !strcmp(jstr(fd->told, "type"), "flag") ? "no|yes" : jstr(fd->told, "range");
    const char *v = *line_text(&fd->value) ? line_text(&fd->value) : *jstr(fd->told, "def") ? jstr(fd->told, "def") : "no";
    const char *item[32];
    size_t len[32];
    int n = 0, now = -1;
    for (const char *p = range; *p && n < 32;) {
        size_t k = strcspn(p, "|");
        item[n] = p;
        len[n] = k;
        if (strlen(v) == k && !memcmp(p, v, k))
            now = n;
        n++;
        p += k + (p[k] == '|');
    }
    if (!n)
        return;
    now = now < 0 ? (dir > 0 ? 0 : n - 1) : (now + dir + n) % n;
    char s[64];
    snprintf(s, sizeof s, "%.*s", (int)len[now], item[now]);
    line_set(&fd->value, s, strlen(s));
}

static bool choosable(const struct field *fd) {
    return !strcmp(jstr(fd->told, "type"), "choice") || !strcmp(jstr(fd->told, "type"), "flag");
}

static void submit(struct tui *t) {
    struct form *f = &t->form;
    char why[96];
    if (!f->cmd) {
        tui_status(t, ST_BAD, t->table ? "this node does not know `%s %s`" : "the node has not told its commands yet: `%s %s`", f->def->noun, f->def->verb ? f->def->verb : "");
        return;
    }
    for (int i = 0; i < f->n; i++)
        if (!field_check(f->field[i].told, line_text(&f->field[i].value), why, sizeof why)) {
            f->at = i;
            tui_status(t, ST_BAD, "%s: %s", jstr(f->field[i].told, "name"), why);
            return;
        }
    struct buf b = BUF_INIT(LINE_BYTES_MAX);
    if (!form_command(t, &b, NULL)) {
        char *line = mem_strdup((char *)b.data);
        overlay_close(t);
        if (line) {
            struct err e;
            if (!history_add(&t->prompt.history, line, &e) && t->data_history && history_save(&t->prompt.history, t->data_history, &e))
                log_local(t, "warn", e.text);
            run_line(t, line, false);
        }
        mem_free(line);
    }
    buf_clear(&b);
}

void form_key(struct tui *t, const struct key *k) {
    struct form *f = &t->form;
    struct field *fd = f->n ? &f->field[f->at] : NULL;
    if (k->code == TK_ESC || (k->code == 'c' && k->mods == TK_CTRL)) {
        if (f->found)
            drop_found(f);
        else
            overlay_close(t);
        return;
    }
    if ((k->code == 's' && k->mods == TK_CTRL) || k->code == TK_F5) {
        submit(t);
        return;
    }
    if (k->code == 'e' && k->mods == TK_CTRL) { /* to the prompt, to be edited there */
        struct buf b = BUF_INIT(LINE_BYTES_MAX);
        if (!form_command(t, &b, NULL)) {
            overlay_close(t);
            prompt_open(t, (char *)b.data);
        }
        buf_clear(&b);
        return;
    }
    if (!fd)
        return;
    if (k->code == TK_UP || k->code == TK_BACKTAB || k->code == TK_DOWN || (k->code == TK_ENTER && !fd->value.pasting)) {
        bool up = k->code == TK_UP || k->code == TK_BACKTAB;
        drop_found(f);
        if (k->code == TK_ENTER && f->at == f->n - 1) {
            submit(t);
            return;
        }
        f->at = up ? (f->at ? f->at - 1 : 0) : f->at < f->n - 1 ? f->at + 1 : f->at;
        return;
    }
    if (choosable(fd) && (k->code == TK_LEFT || k->code == TK_RIGHT || k->code == ' ')) {
        cycle(fd, k->code == TK_LEFT ? -1 : 1);
        return;
    }
    if (k->code == TK_TAB && !fd->value.pasting) {
        if (choosable(fd))
            cycle(fd, 1);
        else
            complete(t);
        return;
    }
    if (fd->filled && k->code < TK_BASE && !(k->mods & (TK_CTRL | TK_ALT)))
        line_set(&fd->value, "", 0);
    fd->filled = false;
    if (line_key(&fd->value, k))
        drop_found(f);
}

static void about(const struct field *fd, char *out, size_t cap) {
    const json_t *a = fd->told;
    snprintf(out, cap, "%s. %s%s%s%s%s%s%s", jstr(a, "help"), jstr(a, "type"), *jstr(a, "range") ? ", " : "", jstr(a, "range"),
             *jstr(a, "def") ? ", default " : "", jstr(a, "def"), jbool(a, "required") ? ", needed" : "",
             jbool(a, "many") ? ", several" : "");
}

void form_draw(struct tui *t, const struct view *v) {
    struct form *f = &t->form;
    for (int y = 0; y < v->h; y++)
        view_fill(v, y, 0, v->w, ST_NORMAL);
    view_fill(v, 0, 0, v->w, ST_FOCUS);
    view_text(v, 0, 1, ST_FOCUS, f->def->title);
    struct buf cmd = BUF_INIT(LINE_BYTES_MAX);
    if (form_command(t, &cmd, NULL))
        buf_reset(&cmd);
    int foot = v->h >= 20 ? (text_columns((char *)cmd.data, cmd.len) + v->w - 6) / (v->w > 6 ? v->w - 5 : 1) : 1; /* rows of the command */
    foot = foot > 3 ? 3 : foot < 1 ? 1 : foot;
    int y = 1, low = v->h >= 20 ? 3 + foot : v->h >= 8 ? 3 : v->h >= 4 ? 1 : 0;
    if (v->h >= 12) {
        y += view_wrap(v, y, 1, v->w - 2, 3, ST_SOFT, f->def->text);
        y++;
    }
    int rows = v->h - y - low;
    int above = y;
    rows = rows < 1 ? 1 : rows;
    if (!f->cmd && !t->table)
        view_text(v, y, 1, ST_WARN, "The node has not told its commands yet.");
    else if (!f->cmd)
        view_printf(v, y, 1, ST_WARN, "This node does not know the command `%s%s%s` (not built).", f->def->noun,
                    f->def->verb ? " " : "", f->def->verb ? f->def->verb : "");
    int at = f->at + (f->main < f->n && f->at >= f->main); /* counted with the rule */
    f->top = at < f->top ? at : at >= f->top + rows ? at - rows + 1 : f->top;
    int label = 0;
    for (int i = 0; i < f->n; i++) {
        int w = (int)strlen(jstr(f->field[i].told, "name"));
        label = w > label ? w : label;
    }
    label = label > v->w / 3 ? v->w / 3 : label;
    int cy = y, cx = label + 5;
    for (int row = f->top; row < f->n + (f->main < f->n) && row < f->top + rows; row++) {
        if (row == f->main && f->main < f->n) {
            int x = 3 + view_text(v, y + row - f->top, 3, ST_SOFT, "more, with defaults that do for most ");
            view_rule(v, y + row - f->top, x, v->w - x - 1, ST_SOFT, G_HLINE);
            continue;
        }
        int i = row > f->main ? row - 1 : row;
        struct field *fd = &f->field[i];
        const char *val = line_text(&fd->value), *name = jstr(fd->told, "name");
        int r = y + row - f->top;
        bool on = i == f->at;
        char why[96];
        bool ok = field_check(fd->told, val, why, sizeof why);
        if (on)
            view_glyph(v, r, 1, ST_TITLE, G_FOCUS);
        view_textn(v, r, 3, on ? ST_TITLE : ST_NORMAL, name, strlen(name), label);
        struct view cell = view_sub(v, r, label + 5, 1, v->w / 2 > 10 ? v->w / 2 : 10);
        view_fill(&cell, 0, 0, cell.w, ST_UNDERLINE);
        if (*val || on) {
            if (on)
                line_draw(&cell, 0, 0, ST_UNDERLINE, &fd->value, false);
            else
                view_text(&cell, 0, 0, ST_UNDERLINE, val);
        }
        if (!*val && *jstr(fd->told, "def")) /* in brackets, so that it looks like no value without colour too */
            view_printf(&cell, 0, on ? 1 : 0, ST_SOFT | ST_UNDERLINE, "(%s)", jstr(fd->told, "def"));
        if (on)
            cy = t->frame.cur_y - v->y, cx = t->frame.cur_x - v->x;
        int x = cell.x - v->x + cell.w + 1;
        if (!ok)
            view_text(v, r, x, *val ? ST_BAD : ST_WARN, why);
        else if (*val)
            view_glyph(v, r, x, ST_GOOD, G_CHECK);
    }
    if (f->top > 0)
        view_glyph(v, above, v->w - 1, ST_SOFT, G_MORE_UP);
    if (f->top + rows < f->n + (f->main < f->n))
        view_glyph(v, above + rows - 1, v->w - 1, ST_SOFT, G_MORE_DOWN);
    if (f->n && low > 1) {
        char say[512];
        view_rule(v, v->h - low, 0, v->w, ST_SOFT, G_HLINE);
        if (json_array_size(f->found) > 1)
            snprintf(say, sizeof say, "%zu choices, Tab for the next: %s", json_array_size(f->found),
                     jstr(json_array_get(f->found, (size_t)(f->pick < 0 ? 0 : f->pick)), "help"));
        else
            about(&f->field[f->at], say, sizeof say);
        view_wrap(v, v->h - low + 1, 1, v->w - 2, low > 3 ? 2 : 1, ST_NORMAL, say);
    }
    if (low && cmd.len) {
        for (int r = 0; r < foot; r++)
            view_fill(v, v->h - foot + r, 0, v->w, ST_NORMAL);
        int x = 1 + view_text(v, v->h - foot, 1, ST_SOFT, "= :");
        view_wrap(v, v->h - foot, x, v->w - x - 1, foot, ST_ACCENT | ST_BOLD, (char *)cmd.data);
    }
    buf_clear(&cmd);
    view_cursor(v, cy, cx, true);
}
