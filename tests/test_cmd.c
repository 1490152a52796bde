/* engine/cmd: words, grammar, table, completion, help; engine/base/option. */
#include "tests/test.h"

#include "base/mem.h"
#include "base/option.h"
#include "cmd/cmd.h"
#include "cmd/private.h"

#include <unistd.h>

static struct err e;

static void words_are(const char *text, size_t count, const char *const *want) {
    char **w;
    size_t n;
    OK(cmd_split(&w, &n, text, strlen(text), &e));
    assert_int_equal(n, count);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(w[i], want[i]);
    cmd_words_free(w, n);
}
#define WORDS(text, ...)                                                                                     \
    words_are(text, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static void test_split(void **s) {
    (void)s;
    char **w;
    size_t n;
    WORDS("ask what is it", "ask", "what", "is", "it");
    WORDS("  a\t 'b c'  \"d \\\" e\" f\\ g ", "a", "b c", "d \" e", "f g");
    WORDS("a '' \"\" # rest", "a", "", "");
    WORDS("a b#c", "a", "b#c");
    WORDS("a'b'\"c\"", "abc");
    OK(cmd_split(&w, &n, "  # only this", 13, &e));
    assert_int_equal(n, 0);
    cmd_words_free(w, n);
    FAILS(LOAM_EPARSE, cmd_split(&w, &n, "a 'b", 4, &e));
    FAILS(LOAM_EPARSE, cmd_split(&w, &n, "a \"b", 4, &e));
    char *big = mem_alloc(CMD_LINE_MAX + 1);
    memset(big, 'x', CMD_LINE_MAX + 1);
    FAILS(LOAM_ELIMIT, cmd_split(&w, &n, big, CMD_LINE_MAX + 1, &e));
    for (size_t i = 0; i < CMD_LINE_MAX; i++)
        big[i] = i % 2 ? ' ' : 'y';
    FAILS(LOAM_ELIMIT, cmd_split(&w, &n, big, CMD_LINE_MAX, &e));
    mem_free(big);
}

static enum loam_status parse(const char *text, struct cmd_line *l, size_t *bad) {
    char **w;
    size_t n;
    enum loam_status s = cmd_split(&w, &n, text, strlen(text), &e);
    if (!s)
        s = cmd_parse(l, w, n, "/somewhere", bad, &e);
    cmd_words_free(w, n);
    return s;
}

static void refused(const char *text, enum loam_status want, size_t word, const char *says) {
    struct cmd_line l;
    size_t bad = 999;
    enum loam_status s = parse(text, &l, &bad);
    if (s != want || bad != word || !strstr(e.text, says))
        fail_msg("%s: %s, word %zu: %s", text, status_name(s), bad, e.text);
}

static void test_parse(void **s) {
    (void)s;
    struct cmd_line l;
    size_t bad;
    OK(parse("job show 12", &l, &bad));
    assert_string_equal(l.cmd->verb, "show");
    assert_int_equal(l.values[0].u, 12);
    cmd_line_clear(&l);
    OK(parse("job show --job=12 --json --yes --no-wait", &l, &bad));
    assert_true(l.json && l.yes && l.no_wait);
    cmd_line_clear(&l);
    OK(parse("log", &l, &bad)); /* the default is parsed too */
    assert_int_equal(l.values[0].u, 20);
    cmd_line_clear(&l);
    OK(parse("key backup alice out/a.json", &l, &bad));
    assert_string_equal(l.values[1].text[0], "/somewhere/out/a.json");
    cmd_line_clear(&l);
    OK(parse("set api.listen 127.0.0.1:0", &l, &bad));
    cmd_line_clear(&l);
    OK(parse("chain send bob 0.5 --from alice", &l, &bad));
    assert_int_equal(l.values[1].coin.w[0], 500000000000000000u);
    cmd_line_clear(&l);
    OK(parse("help key new", &l, &bad));
    assert_int_equal(l.values[0].count, 2);
    cmd_line_clear(&l);

    refused("", LOAM_EINVAL, 0, "no command");
    refused("jbo list", LOAM_ENOTFOUND, 1, "do you mean \"job list\"");
    refused("job lsit", LOAM_ENOTFOUND, 1, "job list");
    refused("job", LOAM_ENOTFOUND, 0, "help job");
    refused("zzzzzzzzzzzz", LOAM_ENOTFOUND, 0, "help");
    refused("job show", LOAM_EINVAL, 2, "needs job");
    refused("job show twelve", LOAM_EINVAL, 2, "no whole number");
    refused("job show -1", LOAM_EINVAL, 2, "no whole number");
    refused("job show 99999999999999999999", LOAM_EINVAL, 2, "no whole number");
    refused("job show 1 2", LOAM_EINVAL, 3, "too many");
    refused("job show 1 --nothing", LOAM_EINVAL, 3, "--nothing");
    refused("job show --job", LOAM_EINVAL, 2, "needs a value");
    refused("job show 1 --job 2", LOAM_EINVAL, 4, "twice");
    refused("log 0", LOAM_ERANGE, 1, "1..256");
    refused("log 257", LOAM_ERANGE, 1, "1..256");
    refused("chain send bob abc", LOAM_EINVAL, 3, "OPEN");
    refused("chain tx 0x12", LOAM_EINVAL, 2, "hash");
    refused("set nothing.here 1", LOAM_ENOTFOUND, 1, "option list");
    refused("version now", LOAM_ENOTFOUND, 1, "version");
}

/* Whatever the words: no crash, no leak (sanitizers), a message with a failure. */
static void test_parse_any(void **s) {
    (void)s;
    static const char *const pieces[] = {"job",       "show",      "list",     "key",    "new",
                                         "--",        "--json",    "--job",    "--job=", "=",
                                         "-",         "1",         "\xff\xfe", "chain",  "send",
                                         "--from",    "",          "0x",       "help",   "set",
                                         "log.level", "--name=--", "source",   "ask",    "doctor"};
    enum { N = sizeof pieces / sizeof *pieces };
    uint32_t x = 12345;
    for (int i = 0; i < 20000; i++) {
        char *w[8];
        size_t n = 0, bad;
        for (; n < (x >> 28) % 8; n++) {
            x = x * 1664525u + 1013904223u;
            w[n] = (char *)(uintptr_t)pieces[(x >> 8) % N];
        }
        x = x * 1664525u + 1013904223u;
        struct cmd_line l;
        e.text[0] = 0;
        if (cmd_parse(&l, w, n, NULL, &bad, &e))
            assert_true(e.text[0]);
        else
            cmd_line_clear(&l);
    }
}

static void test_table(void **s) {
    (void)s;
    for (size_t i = 0; i < cmd_table_count; i++) {
        const struct cmd *c = cmd_table[i], *p = i ? cmd_table[i - 1] : NULL;
        char name[80];
        snprintf(name, sizeof name, "%s %s", c->noun, c->verb ? c->verb : "");
        if (p) {
            int order = strcmp(p->noun, c->noun);
            if (order > 0 || (order == 0 && strcmp(p->verb ? p->verb : "", c->verb ? c->verb : "") >= 0))
                fail_msg("%s is out of order", name);
        }
        if (!c->help || !*c->help || c->help[strlen(c->help) - 1] == '.')
            fail_msg("%s: help must be a phrase without a full stop", name);
        if (!c->example)
            fail_msg("%s: no example", name);
        size_t n = 0;
        bool optional = false;
        for (const struct cmd_arg *a = c->args; a && a->name; a++, n++) {
            if (!a->help || strspn(a->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(a->name))
                fail_msg("%s: argument %s", name, a->name);
            if (a->type == CMD_CHOICE && !a->range)
                fail_msg("%s: %s has no choices", name, a->name);
            bool place = !(a->flags & CMD_NAMED) && a->type != CMD_FLAG;
            if (place && (a->flags & CMD_REQUIRED) && optional)
                fail_msg("%s: required %s stands behind an optional place", name, a->name);
            optional = optional || (place && !(a->flags & CMD_REQUIRED));
        }
        assert_true(n <= CMD_ARGS_MAX);
        struct cmd_line l;
        size_t bad;
        if (parse(c->example, &l, &bad))
            fail_msg("the example \"%s\" does not parse: %s", c->example, e.text);
        if (l.cmd != c)
            fail_msg("the example of %s is another command's", name);
        cmd_line_clear(&l);
        struct buf b = BUF_INIT(1u << 20);
        OK(cmd_help(&b, c->noun, c->verb, &e));
        assert_non_null(strstr((char *)b.data, c->help));
        buf_clear(&b);
    }
    struct buf b = BUF_INIT(1u << 20);
    FAILS(LOAM_ENOTFOUND, cmd_help(&b, "nothing", NULL, &e));
    buf_clear(&b);
    json_t *t = cmd_table_json();
    assert_int_equal(json_array_size(t), cmd_table_count);
    json_decref(t);
}

static bool offers(const char *line, const char *want) {
    json_t *a = cmd_complete(NULL, line, strlen(line), "/");
    bool found = false;
    size_t i;
    json_t *o;
    json_array_foreach(a, i, o) {
        found = found || strcmp(json_string_value(json_object_get(o, "text")), want) == 0;
        assert_true((size_t)json_integer_value(json_object_get(o, "to")) == strlen(line));
    }
    json_decref(a);
    return found;
}

static void test_complete(void **s) {
    (void)s;
    assert_true(offers("", "key"));
    assert_true(offers("ke", "key"));
    assert_false(offers("ke", "job"));
    assert_true(offers("key ", "new"));
    assert_true(offers("key n", "new"));
    assert_true(offers("set log.", "log.level"));
    assert_true(offers("set log.level ", "debug"));
    assert_true(offers("help key ", "import"));
    assert_true(offers("chain send a 1 --", "--from"));
    assert_true(offers("source /et", "/etc/"));
    assert_false(offers("'open", "key"));
}

static void test_print(void **s) {
    (void)s;
    struct buf b = BUF_INIT(1u << 20);
    json_t *v = json_pack("{s:s s:s s:i s:[{s:s s:i} {s:s s:i}] s:[]}", "name", "a\x1b[31mb", "paid_wei",
                          "1500000000000000000", "share_ppm", 250000, "rows", "k", "x", "n", 1, "k", "longer",
                          "n", 22, "none");
    OK(cmd_print(&b, v, &e));
    json_decref(v);
    assert_null(strchr((char *)b.data, 0x1b));
    assert_non_null(strstr((char *)b.data, "1.5 OPEN"));
    assert_non_null(strstr((char *)b.data, "25.00 %"));
    assert_non_null(strstr((char *)b.data, "  k       n\n  x       1\n  longer  22\n"));
    buf_clear(&b);
}

static void test_options(void **s) {
    (void)s;
    struct options *o;
    char t[OPTION_TEXT_MAX];
    OK(options_new(&o, &e));
    for (size_t i = 0; i < option_count; i++) {
        if (i)
            assert_true(strcmp(option_table[i - 1].name, option_table[i].name) < 0);
        OK(option_put(o, option_table[i].name, option_table[i].def, OPTION_FILE,
                      &e)); /* defaults obey their own rules */
    }
    options_free(o);
    OK(options_new(&o, &e));
    assert_string_equal(option_str(o, "log.level", t), "info");
    OK(option_put(o, "log.level", "warn", OPTION_ARGUMENT, &e));
    OK(option_put(o, "log.level", "debug", OPTION_FILE, &e)); /* beneath */
    assert_string_equal(option_str(o, "log.level", t), "warn");
    OK(option_put(o, "log.level", "error", OPTION_SET, &e));
    assert_string_equal(option_str(o, "log.level", t), "error");
    OK(option_put(o, "attribute.budget", "2G", OPTION_SET, &e));
    assert_int_equal(option_uint(o, "attribute.budget"), 2ull << 30);
    FAILS(LOAM_ENOTFOUND, option_put(o, "no.such", "1", OPTION_SET, &e));
    FAILS(LOAM_EINVAL, option_put(o, "log.level", "loud", OPTION_SET, &e));
    FAILS(LOAM_EINVAL, option_put(o, "compute.threads", "-1", OPTION_SET, &e));
    FAILS(LOAM_ERANGE, option_put(o, "compute.threads", "1025", OPTION_SET, &e));
    FAILS(LOAM_EINVAL, option_put(o, "chain.poll", "nan", OPTION_SET, &e));
    FAILS(LOAM_EINVAL, option_put(o, "key.spend-limit", "1e3", OPTION_SET, &e));
    FAILS(LOAM_EINVAL, option_put(o, "key.default", "a\nb", OPTION_SET, &e));
    char path[] = "/tmp/loam-options-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    OK(options_save(o, path, &e));
    struct options *p;
    OK(options_new(&p, &e));
    OK(options_load(p, path, &e));
    assert_string_equal(option_str(p, "log.level", t), "error");
    assert_int_equal(option_where(p, "log.level"), OPTION_FILE);
    FILE *f = fopen(path, "w");
    fputs("# a comment\n log.level = info \n\nlog.level 7\n", f);
    fclose(f);
    FAILS(LOAM_EPARSE, options_load(p, path, &e));
    assert_non_null(strstr(e.text, ":4"));
    f = fopen(path, "w");
    fputs("log.level = silent\n", f);
    fclose(f);
    FAILS(LOAM_EINVAL, options_load(p, path, &e));
    assert_non_null(strstr(e.text, ":1"));
    unlink(path);
    options_free(o);
    options_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_split),     cmocka_unit_test(test_parse),
                                       cmocka_unit_test(test_parse_any), cmocka_unit_test(test_table),
                                       cmocka_unit_test(test_complete),  cmocka_unit_test(test_print),
                                       cmocka_unit_test(test_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
