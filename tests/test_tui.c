/* The console's pure parts: layout over all sizes, keys, lines, cells, tables, plots, forms. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "tui/app.h"

#include <locale.h>
#include <math.h>
#include <unistd.h>

static struct err e;

/* ---- layout --------------------------------------------------------------------------------------------------------- */

static bool inside(struct rect r, int rows, int cols) {
    return r.y >= 0 && r.x >= 0 && r.h >= 0 && r.w >= 0 && r.y + r.h <= rows && r.x + r.w <= cols;
}

static bool apart(struct rect a, struct rect b) {
    return !a.h || !b.h || !a.w || !b.w || a.y + a.h <= b.y || b.y + b.h <= a.y || a.x + a.w <= b.x || b.x + b.w <= a.x;
}

static void layout_all_sizes(void **state) {
    (void)state;
    struct layout l;
    for (int rows = 1; rows <= 120; rows++)
        for (int cols = 1; cols <= 300; cols++)
            for (int m = 0; m < LAYOUT_MODES; m++)
                for (int f = 0; f < PANES; f += rows > 30 && cols > 100 ? 4 : 1) {
                    layout_compute(&l, rows, cols, (enum layout_mode)m, (enum pane_id)f);
                    struct rect all[PANES + 2];
                    memcpy(all, l.pane, sizeof l.pane);
                    all[PANES] = l.tabs;
                    all[PANES + 1] = l.prompt;
                    int shown = 0;
                    for (int i = 0; i < PANES + 2; i++) {
                        if (!inside(all[i], rows, cols))
                            fail_msg("%dx%d mode %d focus %d: rectangle %d is outside", cols, rows, m, f, i);
                        if (i < PANES && all[i].h && all[i].w)
                            shown++;
                        for (int j = 0; j < i; j++)
                            if (!apart(all[i], all[j]))
                                fail_msg("%dx%d mode %d focus %d: %d and %d overlap", cols, rows, m, f, i, j);
                    }
                    if (l.pane[f].h < 1 || l.pane[f].w < 1)
                        fail_msg("%dx%d mode %d: the focused pane %d is not shown", cols, rows, m, f);
                    if (m == LAYOUT_OVERVIEW && rows >= 24 && cols >= 80 && shown != PANES)
                        fail_msg("%dx%d: the overview shows %d panes", cols, rows, shown);
                }
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

static int decode(const char *s, size_t n, struct key *out, int max) {
    struct keydec d = {0};
    int k = 0;
    for (size_t i = 0; i < n; i++)
        if (key_feed(&d, &out[k], (uint8_t)s[i]) && k < max - 1)
            k++;
    if (key_pending(&d) && key_flush(&d, &out[k]))
        k++;
    return k;
}

static void keys(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *name;
    } t[] = {
        {"a", "a"},           {"\001", "ctrl-a"},    {"\r", "enter"},         {"\n", "enter"},        {"\t", "tab"},
        {"\177", "bs"},       {"\033[A", "up"},      {"\033OA", "up"},        {"\033[1;5C", "ctrl-right"}, {"\033[1;3D", "alt-left"},
        {"\033[H", "home"},   {"\033[4~", "end"},    {"\033[5~", "pgup"},     {"\033[3~", "del"},     {"\033OP", "f1"},
        {"\033[11~", "f1"},   {"\033[15~", "f5"},    {"\033[24~", "f12"},     {"\033[[B", "f2"},      {"\033[Z", "backtab"},
        {"\033x", "alt-x"},   {"\033\r", "alt-enter"}, {"\xc3\xa9", "\xc3\xa9"}, {"\xe4\xb8\xad", "\xe4\xb8\xad"}, {" ", "space"},
        {"\033", "esc"},      {"\033[97;5u", "ctrl-a"}, {"\033[1;2A", "shift-up"}, {",", "comma"},   {"\033OM", "enter"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct key k[8], want;
        char name[32];
        int n = decode(t[i].bytes, strlen(t[i].bytes), k, 8);
        if (n != 1)
            fail_msg("%s: %d keys", t[i].name, n);
        key_text(name, &k[0]);
        assert_string_equal(name, t[i].name);
        assert_true(key_parse(&want, t[i].name, strlen(t[i].name)));
        assert_int_equal(want.code, k[0].code);
        assert_int_equal(want.mods, k[0].mods);
    }
    struct key k[32];
    /* an unknown or broken sequence never turns into typed text */
    assert_int_equal(decode("\033[?1;2c\033[>0;1;2cx", 17, k, 32), 1);
    assert_int_equal(k[0].code, 'x');
    assert_int_equal(decode("\033]0;title\007y", 11, k, 32), 1);
    assert_int_equal(k[0].code, 'y');
    assert_int_equal(decode("\xff\xfe\xc3(", 4, k, 32), 1);
    assert_int_equal(k[0].code, '(');
    char longer[200];
    memset(longer, '1', sizeof longer);
    memcpy(longer, "\033[", 2);
    longer[198] = 'A';
    longer[199] = 'z';
    int n = decode(longer, 200, k, 32);
    assert_int_equal(n, 1);
    assert_int_equal(k[0].code, 'z');
    assert_int_equal(decode("\033[<0;12;5M\033[<64;1;1m", 20, k, 32), 2);
    assert_int_equal(k[0].code, TK_MOUSE);
    assert_int_equal(k[0].x, 11);
    assert_int_equal(k[0].y, 4);
    assert_int_equal(decode("\033[?2026;2$y", 11, k, 32), 1);
    assert_int_equal(k[0].code, TK_MODE);
    assert_int_equal(k[0].x, 2026);
    assert_int_equal(k[0].y, 2);
    assert_int_equal(decode("\033[200~hi\033[201~", 14, k, 32), 4);
    assert_int_equal(k[0].code, TK_PASTE_BEGIN);
    assert_int_equal(k[3].code, TK_PASTE_END);
    assert_int_equal(decode("\033\033[A", 4, k, 32), 2);
    assert_int_equal(k[0].code, TK_ESC);
}

static void keymap(void **state) {
    (void)state;
    struct keymap m;
    struct key k;
    char s[64];
    keymap_init(&m);
    /* no key does two things in one place, and every key shown can be pressed */
    for (int i = 0; i < m.n; i++)
        for (int j = 0; j < i; j++)
            if (m.bind[i].key.code == m.bind[j].key.code && m.bind[i].key.mods == m.bind[j].key.mods &&
                action_table[m.bind[i].act].where == action_table[m.bind[j].act].where)
                fail_msg("%s and %s share a key", action_table[m.bind[i].act].name, action_table[m.bind[j].act].name);
    assert_true(key_parse(&k, "m", 1));
    assert_int_equal(keymap_find(&m, &k, PANE_ASK), ACT_MODEL);
    assert_int_equal(keymap_find(&m, &k, PANE_CHAIN), ACT_NONE);
    OK(keymap_remap(&m, "detach=ctrl-q Q,help=f12", &e));
    keymap_keys(&m, ACT_DETACH, s, sizeof s);
    assert_string_equal(s, "ctrl-q Q");
    assert_true(key_parse(&k, "q", 1));
    assert_int_equal(keymap_find(&m, &k, PANE_CHAIN), ACT_NONE);
    FAILS(LOAM_EINVAL, keymap_remap(&m, "fly=f", &e));
    FAILS(LOAM_EINVAL, keymap_remap(&m, "help=hyper-x", &e));
    FAILS(LOAM_EINVAL, keymap_remap(&m, "help", &e));
    /* names are unique and documented */
    for (int a = 1; a < ACT_COUNT; a++) {
        assert_true(action_table[a].help[0] != 0);
        for (int b = 1; b < a; b++)
            assert_string_not_equal(action_table[a].name, action_table[b].name);
    }
}

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

static void type(struct line *l, const char *names) {
    while (*names) {
        size_t n = strcspn(names, " ");
        struct key k;
        if (!key_parse(&k, names, n))
            fail_msg("no key %.*s", (int)n, names);
        line_key(l, &k);
        names += n + (names[n] == ' ');
    }
}

static void lines(void **state) {
    (void)state;
    struct line l;
    line_init(&l);
    assert_string_equal(line_text(&l), "");
    type(&l, "h \xc3\xa9 l l o left left x");
    assert_string_equal(line_text(&l), "h\xc3\xa9lxlo");
    type(&l, "left left bs bs bs bs");
    assert_string_equal(line_text(&l), "lxlo");
    type(&l, "end space t w o ctrl-w");
    assert_string_equal(line_text(&l), "lxlo ");
    type(&l, "ctrl-y ctrl-a del ctrl-k");
    assert_string_equal(line_text(&l), "");
    type(&l, "ctrl-y alt-enter b");
    assert_string_equal(line_text(&l), "xlo two\nb");
    line_key(&l, &(struct key){.code = TK_PASTE_BEGIN});
    assert_true(line_key(&l, &(struct key){.code = TK_ENTER}));
    line_key(&l, &(struct key){.code = TK_PASTE_END});
    assert_false(line_key(&l, &(struct key){.code = TK_ENTER}));
    assert_string_equal(line_text(&l), "xlo two\nb\n");
    line_reset(&l);
    for (int i = 0; i < LINE_BYTES_MAX + 100; i++)
        type(&l, "a");
    assert_true(l.text.len <= LINE_BYTES_MAX);
    line_replace(&l, 0, l.text.len, "train", 5);
    line_replace(&l, 0, 2, "\xe4\xb8\xad", 3);
    assert_string_equal(line_text(&l), "\xe4\xb8\xad" "ain");
    assert_int_equal(l.cur, 3);
    line_free(&l);

    char path[] = "/tmp/loam-history-XXXXXX";
    close(mkstemp(path));
    struct history h, g;
    history_init(&h);
    history_init(&g);
    OK(history_add(&h, "train 1", &e));
    OK(history_add(&h, "train 1", &e));
    OK(history_add(&h, " secret", &e));
    OK(history_add(&h, "ask two\nlines \\ here", &e));
    OK(history_add(&h, "job list", &e));
    assert_int_equal(h.n, 3);
    OK(history_save(&h, path, &e));
    OK(history_load(&g, path, &e));
    assert_int_equal(g.n, 3);
    assert_string_equal(g.entry[1], "ask two\nlines \\ here");
    line_init(&l);
    line_set(&l, "tr", 2);
    assert_true(history_move(&g, &l, -1));
    assert_string_equal(line_text(&l), "train 1");
    assert_false(history_move(&g, &l, -1));
    assert_true(history_move(&g, &l, 1));
    assert_string_equal(line_text(&l), "tr");
    assert_int_equal(history_search(&g, "lines", g.n), 1);
    assert_int_equal(history_search(&g, "lines", 1), -1);
    for (int i = 0; i < HISTORY_MAX + 10; i++) {
        char s[32];
        snprintf(s, sizeof s, "entry %d", i);
        OK(history_add(&g, s, &e));
    }
    assert_int_equal(g.n, HISTORY_MAX);
    line_free(&l);
    history_free(&h);
    history_free(&g);
    unlink(path);
}

static void words(void **state) {
    (void)state;
    size_t a, b;
    const char *s = "train 'two words' --lr=1 \"x y\" # rest";
    assert_true(word_range(s, 1, &a, &b));
    assert_memory_equal(s + a, "'two words'", b - a);
    assert_true(word_range(s, 3, &a, &b));
    assert_memory_equal(s + a, "\"x y\"", b - a);
    assert_false(word_range(s, 4, &a, &b));
    assert_false(word_range("", 0, &a, &b));
    assert_true(word_range("a 'open", 1, &a, &b));
}

/* ---- cells ---------------------------------------------------------------------------------------------------------- */

static void cells(void **state) {
    (void)state;
    struct frame f = {0};
    struct buf b = BUF_INIT(1 << 20);
    OK(frame_resize(&f, 3, 10, &e));
    struct view v = view_all(&f);
    assert_int_equal(view_text(&v, 0, 0, 0, "ab\033[31mc\177\xc2\x9b"), 10);
    assert_int_equal(view_text(&v, 1, 7, 0, "\xe4\xb8\xad\xe4\xb8\xad"), 2); /* the second does not fit */
    assert_int_equal(view_text(&v, 1, -3, 0, "hidden"), 6);
    assert_int_equal(view_text(&v, 5, 0, 0, "outside"), 0);
    assert_int_equal(view_text(&v, 2, 0, 0, "e\xcc\x81\xe2\x80\xaex"), 2);
    OK(frame_dump(&b, &f, &e));
    assert_string_equal((char *)b.data, "ab\xef\xbf\xbd[31mc\xef\xbf\xbd\xef\xbf\xbd\nden    \xe4\xb8\xad\ne\xcc\x81x\n");
    for (size_t i = 0; i < b.len; i++)
        assert_true(b.data[i] >= 0x20 || b.data[i] == '\n');
    /* half of a wide character is never left standing */
    view_text(&v, 1, 8, 0, "x");
    assert_int_equal(f.cells[10 + 7].ch[0], ' ');
    view_text(&v, 1, 0, 0, "\xe4\xb8\xad\xe4\xb8\xad");
    view_text(&v, 1, 1, 0, "\xe4\xb8\xad");
    assert_int_equal(f.cells[10].ch[0], ' ');
    assert_int_equal(f.cells[13].ch[0], ' ');
    f.ascii = true;
    frame_clear(&f);
    view_text(&v, 0, 0, 0, "\xe4\xb8\xad\xc3\xa9");
    view_glyph(&v, 1, 0, 0, G_HLINE);
    view_braille(&v, 1, 1, 0, 0xff);
    buf_reset(&b);
    OK(frame_dump(&b, &f, &e));
    assert_string_equal((char *)b.data, "??\n-*\n\n");
    struct view sub = view_sub(&v, -1, -1, 100, 100);
    assert_int_equal(sub.h, 3);
    assert_int_equal(sub.w, 10);
    sub = view_sub(&v, 2, 9, 5, 5);
    assert_int_equal(sub.h, 1);
    assert_int_equal(sub.w, 1);
    OK(frame_resize(&f, 100000, 100000, &e));
    assert_true(f.rows * f.cols <= FRAME_CELLS_MAX);
    mem_fail_after(1);
    FAILS(LOAM_ENOMEM, frame_resize(&f, 3, 3, &e));
    mem_fail_after(0);
    frame_free(&f);
    buf_clear(&b);
}

static void formats(void **state) {
    (void)state;
    static const struct {
        const char *wei, *text;
    } t[] = {{"125000000000000000", "0.125"}, {"0", "0"}, {"1000000000000000000", "1"}, {"1", "0.000000000000000001"},
             {"1230000000000000000000", "1230"}, {"-5000000000000000000", "-5"}, {"0x12", "?"}, {"", ""}, {"1e5", "?"}};
    char s[FMT_MAX];
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        fmt_wei(s, sizeof s, t[i].wei);
        assert_string_equal(s, t[i].text);
    }
    fmt_seconds(s, sizeof s, 3721);
    assert_string_equal(s, "1h02m");
    fmt_bytes(s, sizeof s, 98362432);
    assert_string_equal(s, "93.8 MiB");
    fmt_count(s, sizeof s, 12345);
    assert_string_equal(s, "12 345");
    fmt_seconds(s, sizeof s, NAN);
    assert_string_equal(s, "?");
    json_t *o = json_pack("{s:{s:i}, s:n}", "a", "b", 7, "none");
    assert_int_equal(jint(o, "a.b", 0), 7);
    assert_int_equal(jint(o, "a.c", -1), -1);
    assert_null(jget(o, "none"));
    assert_string_equal(jstr(NULL, "x"), "");
    json_decref(o);
}

/* ---- tables, plots -------------------------------------------------------------------------------------------------- */

static const struct column cols[] = {
    {"name", "name", COL_TEXT, 6, true, 0},
    {"rows", "rows", COL_COUNT, 5, false, 1},
    {"OPEN", "wei", COL_WEI, 8, false, 2},
};
static const struct table tab = {cols, 3, NULL};

static void tables(void **state) {
    (void)state;
    struct frame f = {0};
    struct buf b = BUF_INIT(1 << 20);
    json_t *rows = json_array();
    for (int i = 0; i < 30; i++) {
        char n[64];
        snprintf(n, sizeof n, i == 3 ? "=cmd \"x\",y" : "name %d", i);
        json_array_append_new(rows, json_pack("{s:s, s:i, s:s}", "name", n, "rows", i * 7, "wei", "125000000000000000"));
    }
    struct list_state st = {0};
    OK(frame_resize(&f, 8, 40, &e));
    struct view v = view_all(&f);
    table_draw(&v, &tab, rows, &st, true);
    assert_int_equal(st.shown, 30);
    OK(frame_dump(&b, &f, &e));
    assert_non_null(strstr((char *)b.data, "\xe2\x96\xb6 name 0"));
    assert_non_null(strstr((char *)b.data, "0.125"));
    list_move(&st, 3, 7);
    assert_int_equal(st.sel, 29);
    table_draw(&v, &tab, rows, &st, true);
    assert_int_equal(st.top, 23);
    snprintf(st.filter, sizeof st.filter, "NAME 1");
    table_draw(&v, &tab, rows, &st, true);
    assert_int_equal(st.shown, 11);
    assert_string_equal(jstr(table_selected(&tab, rows, &st), "name"), "name 19");
    buf_reset(&b);
    OK(table_csv(&b, &tab, rows, "cmd", &e));
    assert_string_equal((char *)b.data, "name,rows,wei\r\n\"'=cmd \"\"x\"\",y\",21,125000000000000000\r\n");
    for (int h = 1; h < 6; h++)
        for (int w = 1; w < 30; w++) { /* never outside, whatever the size */
            OK(frame_resize(&f, h, w, &e));
            v = view_all(&f);
            table_draw(&v, &tab, rows, &st, true);
        }
    frame_free(&f);
    buf_clear(&b);
    json_decref(rows);
}

static void plots(void **state) {
    (void)state;
    struct frame f = {0};
    double x[500], y[500];
    for (int i = 0; i < 500; i++) {
        x[i] = i;
        y[i] = i == 250 ? NAN : i == 251 ? INFINITY : exp(-i / 100.0);
    }
    struct series s[] = {{x, y, 500, ST_PLOT, "a"}, {x, y, 20, ST_PLOT2, "b"}, {x, y, 0, 0, "none"}};
    for (int k = 0; k < 3; k++)
        for (int h = 1; h < 20; h++)
            for (int w = 1; w < 90; w += 4)
                for (int a = 0; a < 2; a++) {
                    OK(frame_resize(&f, h, w, &e));
                    f.ascii = a;
                    struct view v = view_all(&f);
                    plot_draw(&v, (enum plot_kind)k, s, 3, 0, 600, "step");
                    plot_spark(&v, 0, 0, w, 0, y, 500);
                    plot_bar(&v, h - 1, 0, w, 0, NAN);
                    for (int i = 0; a && i < h * w; i++)
                        assert_true(f.cells[i].ch[0] < 0x7f);
                }
    OK(frame_resize(&f, 5, 4, &e));
    struct view v = view_all(&f);
    double one[] = {1};
    struct series single = {one, one, 1, 0, "one"};
    plot_draw(&v, PLOT_BLOCK, &single, 1, 1, 1, "step");
    frame_free(&f);
    enum plot_kind kind;
    assert_true(plot_parse(&kind, "braille"));
    assert_false(plot_parse(&kind, "pie"));
}

/* ---- forms ---------------------------------------------------------------------------------------------------------- */

static void fields(void **state) {
    (void)state;
    static const struct {
        const char *type, *range, *value;
        bool ok;
    } t[] = {
        {"datanet", "", "7", true},         {"datanet", "", "x7", false},       {"number", "-100..100", "-1.5", true}, {"number", "", "12x", false},
        {"number", "0..1", "0.5", true},    {"number", "0..1", "1.5", false},   {"number", "", "nan", false},      {"number", "", "0x10", false},
        {"OPEN", "", "0.125", true},      {"OPEN", "", "1.", false},        {"OPEN", "", "1.0000000000000000001", false}, {"OPEN", "", "-1", false},
        {"choice", "a|bc", "bc", true},   {"choice", "a|bc", "b", false},   {"flag", "", "yes", true},       {"flag", "", "maybe", false},
        {"address", "", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", true},   {"address", "", "0x7099", false},   {"text", "", "anything at all", true},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char why[96];
        json_t *a = json_pack("{s:s, s:s}", "type", t[i].type, "range", t[i].range);
        if (field_check(a, t[i].value, why, sizeof why) != t[i].ok)
            fail_msg("%s %s \"%s\": %s", t[i].type, t[i].range, t[i].value, why);
        if (!t[i].ok)
            assert_true(why[0] != 0);
        json_decref(a);
    }
    char why[96];
    json_t *a = json_pack("{s:s, s:b}", "type", "text", "required", 1);
    assert_false(field_check(a, "", why, sizeof why));
    json_decref(a);
}

/* ---- help and tables agree ------------------------------------------------------------------------------------------- */

static void help(void **state) {
    (void)state;
    static struct tui t;
    static const int shown[] = {PANE_TRAIN, PANE_ASK, PANE_ATTRIBUTION, PANE_REWARDS, PANE_CHAIN};
    struct buf all = BUF_INIT(1 << 20);
    keymap_init(&t.keys);
    OK(keymap_remap(&t.keys, "redraw=f9", &e));
    t.table = json_loads("[{\"noun\":\"train\",\"verb\":null,\"help\":\"train an adapter\",\"built\":false},"
                         "{\"noun\":\"key\",\"verb\":\"new\",\"help\":\"make a key\",\"built\":true}]", 0, NULL);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        t.focus = (enum pane_id)shown[i];
        OK(help_text(&t, &all, &e));
    }
    const char *s = (const char *)all.data;
    for (int a = 1; a < ACT_COUNT; a++) {
        char keys[128];
        keymap_keys(&t.keys, (enum action)a, keys, sizeof keys);
        if (!strstr(s, action_table[a].name) || !strstr(s, action_table[a].help) || !strstr(s, keys))
            fail_msg("the help overlay does not say %s", action_table[a].name);
    }
    for (size_t i = 0; i < local_word_count; i++)
        assert_non_null(strstr(s, local_words[i].usage));
    assert_non_null(strstr(s, "f9"));
    assert_non_null(strstr(s, "train an adapter (not built)"));
    assert_non_null(strstr(s, "key new"));
    for (size_t i = 0; i < form_count; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(form_defs[i].name, form_defs[j].name);
    json_decref(t.table);
    buf_clear(&all);
}

int main(void) {
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest t[] = {
        cmocka_unit_test(layout_all_sizes), cmocka_unit_test(keys),   cmocka_unit_test(keymap), cmocka_unit_test(lines),
        cmocka_unit_test(words),            cmocka_unit_test(cells),  cmocka_unit_test(formats), cmocka_unit_test(tables),
        cmocka_unit_test(plots),            cmocka_unit_test(fields), cmocka_unit_test(help),
    };
    return cmocka_run_group_tests_name("tui", t, NULL, NULL);
}
