/* flow/board: what a node shows from its store before anything has run. Records are written, the node is opened again, and the topics
 * are read. */
#include "tests/test.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "flow/board.h"
#include "flow/models.h"
#include "lm/trainer.h"
#include "node/node.h"
#include "node/topic.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;
static char dir[64];
static struct node *n;

static int remove_one(const char *p, const struct stat *st, int kind, struct FTW *f) {
    (void)st;
    (void)kind;
    (void)f;
    return remove(p);
}

static void open_node(void) {
    struct options *o;
    OK(options_new(&o, &e));
    OK(option_put(o, "api.listen", "", OPTION_ARGUMENT, &e));
    struct node_config cfg = {.dir = dir, .opt = o, .inside = true};
    OK(node_open(&n, &cfg, &e));
    OK(flow_attach(n, &e));
}

static int set_up(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/loam-board-XXXXXX");
    assert_non_null(mkdtemp(dir));
    log_to_nowhere();
    open_node();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (n)
        node_close(n);
    n = NULL;
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static void again(void) {
    node_close(n);
    open_node();
}

/* RUN/steps of `steps` steps; step i has loss 1/i over two tokens. */
static void write_run(const char *name, size_t steps, json_int_t created) {
    char path[200];
    uint8_t *b = mem_array(steps, LM_STEP_BYTES);
    assert_non_null(b);
    memset(b, 0, steps * LM_STEP_BYTES);
    for (size_t i = 0; i < steps; i++) {
        double sum = 2.0 / (double)(i + 1);
        uint64_t bits;
        memcpy(&bits, &sum, 8);
        put_le64(b + i * LM_STEP_BYTES, i + 1);
        put_le64(b + i * LM_STEP_BYTES + 8, bits);
        put_le64(b + i * LM_STEP_BYTES + 16, 2);
    }
    snprintf(path, sizeof path, "%s/%s.run", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/%s.run/steps", dir, name);
    OK(file_write(path, b, steps * LM_STEP_BYTES, 0600, &e));
    mem_free(b);
    snprintf(path, sizeof path, "%s/%s.run", dir, name);
    json_t *r = json_pack("{s:s s:s s:f s:I s:i}", "name", name, "run_dir", path, "loss", 0.5, "created_ms", created, "rows", 7);
    OK(record_put(n, TABLE_MODEL, name, strlen(name), r, &e));
    json_decref(r);
}

static const json_t *at(const json_t *list, size_t i) { return json_array_get(list, i); }
static const char *str(const json_t *o, const char *k) {
    const char *s = json_string_value(json_object_get(o, k));
    return s ? s : "";
}
static json_int_t num(const json_t *o, const char *k) { return json_integer_value(json_object_get(o, k)); }

static void empty(void **state) {
    (void)state;
    json_t *t = topic_get(n, "train"), *v = topic_get(n, "validator"), *r = topic_recent(n, "ask", 100);
    assert_null(json_object_get(t, "run"));
    assert_int_equal(json_array_size(json_object_get(v, "verdicts")), 0);
    assert_int_equal(json_array_size(r), 0);
    json_decref(t);
    json_decref(v);
    json_decref(r);
}

static void runs(void **state) {
    (void)state;
    char name[16];
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "r%d", i);
        write_run(name, i == 3 ? 1000 : 5, 1000 + (i == 3 ? 500 : i)); /* r3 is the newest */
    }
    json_t *broken = json_pack("{s:s s:s s:I}", "name", "gone", "run_dir", "/no/such/run", "created_ms", (json_int_t)1);
    OK(record_put(n, TABLE_MODEL, "gone", 4, broken, &e));
    json_decref(broken);
    again();
    json_t *t = topic_get(n, "train");
    assert_string_equal(str(t, "run"), "r3");
    assert_string_equal(str(t, "state"), "done");
    assert_int_equal(num(t, "steps"), 1000); /* the record has no count: the last step of the file */
    const json_t *list = json_object_get(t, "runs"), *curve = json_object_get(t, "loss_curve");
    assert_int_equal(json_array_size(list), 11);
    assert_string_equal(str(at(list, 0), "run"), "r3");
    assert_string_equal(str(at(list, 1), "run"), "r9");
    assert_string_equal(str(at(list, 10), "run"), "gone");
    /* means of equal stretches: 11 steps each, 91 of them */
    assert_true(json_array_size(curve) <= BOARD_POINTS && json_array_size(curve) > BOARD_POINTS / 2);
    double want = 0;
    for (int i = 1; i <= 11; i++)
        want += 1.0 / i / 11;
    assert_int_equal(json_integer_value(at(at(curve, 0), 0)), 11);
    double got = json_real_value(at(at(curve, 0), 1));
    assert_true(got > want - 1e-12 && got < want + 1e-12);
    for (size_t i = 0; i < 11; i++) /* curves of the newest only */
        assert_int_equal(json_object_get(at(list, i), "curve") != NULL, i < BOARD_RUNS);
    json_decref(t);
}

/* The evaluations of the newest run stand beside its loss after the node was started again. */
static void evaluations(void **state) {
    (void)state;
    static const double sum[3] = {6.0, 3.0, 4.5};
    uint8_t b[3 * LM_EVAL_BYTES + 5] = {0}; /* and a record cut off */
    char path[200];
    write_run("old", 5, 1);
    write_run("evaluated", 30, 2);
    for (size_t i = 0; i < 3; i++) {
        uint64_t bits;
        memcpy(&bits, &sum[i], 8);
        put_le64(b + i * LM_EVAL_BYTES, 10 * (i + 1));
        put_le64(b + i * LM_EVAL_BYTES + 8, bits);
        put_le64(b + i * LM_EVAL_BYTES + 16, 3);
        put_le64(b + i * LM_EVAL_BYTES + 24, i < 2);
    }
    snprintf(path, sizeof path, "%s/evaluated.run/evals", dir);
    OK(file_write(path, b, sizeof b, 0600, &e));
    again();
    json_t *t = topic_get(n, "train");
    const json_t *curve = json_object_get(t, "eval_curve");
    assert_string_equal(str(t, "run"), "evaluated");
    assert_int_equal(json_array_size(curve), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(json_integer_value(at(at(curve, i), 0)), 10 * (i + 1));
        assert_true(json_real_value(at(at(curve, i), 1)) == sum[i] / 3);
    }
    assert_true(json_real_value(json_object_get(t, "eval_loss")) == 1.5);
    assert_true(json_real_value(json_object_get(t, "best_loss")) == 1.0);
    assert_int_equal(num(t, "best_step"), 20);
    json_decref(t);
}

static void put_answer(uint64_t id, const char *text) {
    uint8_t key[15] = "answer/";
    for (int i = 0; i < 8; i++)
        key[7 + i] = (uint8_t)(id >> 8 * (7 - i));
    json_t *c = json_pack("{s:I s:s s:s s:I s:i s:[{s:s s:s}]}", "id", (json_int_t)id, "model", "facts", "text", text, "time_ms",
                          (json_int_t)(5000 + id), "tokens_out", 3, "messages", "role", "user", "content", "Where is it?");
    OK(record_put(n, TABLE_CALL, key, sizeof key, c, &e));
    json_decref(c);
}

static void answers(void **state) {
    (void)state;
    for (uint64_t i = 1; i <= 40; i++) {
        put_answer(i, i == 40 ? "In the \033[31mharbour." : "At home.");
        json_t *a = json_pack("{s:I s:s s:s s:[{s:i s:i s:i}] s:[{s:i s:i}] s:[]}", "answer", (json_int_t)i, "model", "facts", "text", "At home.", "rows",
                              "row", 1, "account", 4, "datanet", 1, "shares", "account", 4, "share_ppm", 1000000, "scores");
        if (i != 39) /* not attributed */
            OK(record_put_u64(n, TABLE_ATTRIBUTION, i, a, &e));
        json_decref(a);
    }
    /* of an answer that is not there: left out, nothing else with it */
    json_t *lost = json_pack("{s:i}", "answer", 99);
    OK(record_put_u64(n, TABLE_ATTRIBUTION, 99, lost, &e));
    json_decref(lost);
    again();
    json_t *a = topic_get(n, "attribution"), *s = topic_recent(n, "ask", 100);
    assert_int_equal(num(a, "answer"), 40);
    assert_string_equal(str(a, "prompt"), "Where is it?");
    assert_null(json_object_get(a, "scores")); /* raw scores stay in the store */
    assert_int_equal(json_array_size(json_object_get(a, "contributors")), 1);
    const json_t *h = json_object_get(a, "history");
    assert_int_equal(json_array_size(h), 31); /* the newest 32 records, one of which has no answer */
    assert_int_equal(num(at(h, 0), "answer"), 40);
    assert_int_equal(num(at(h, 1), "answer"), 38);
    /* the chat: the newest 16, oldest first, each as it was streamed */
    assert_int_equal(json_array_size(s), 16 * 3);
    const json_t *first = at(s, 0), *last = at(s, 47);
    if (json_object_get(first, "value")) /* with its number, or bare */
        first = json_object_get(first, "value"), last = json_object_get(last, "value");
    assert_string_equal(str(first, "event"), "start");
    assert_string_equal(str(first, "ask"), "answer-25");
    assert_string_equal(str(first, "prompt"), "Where is it?");
    assert_string_equal(str(last, "event"), "end");
    assert_int_equal(num(last, "answer"), 40);
    json_decref(a);
    json_decref(s);
}

static void verdicts(void **state) {
    (void)state;
    static const char *const states[] = {"drawn", "settled", "voided", "slashed"};
    for (uint64_t i = 0; i < 60; i++) {
        json_t *v = json_pack("{s:I s:i s:s s:s}", "batch", (json_int_t)i, "poster", 3, "verdict", i % 2 ? "valid" : "invalid", "state", states[i % 4]);
        OK(record_put_u64(n, TABLE_VALIDATION, i, v, &e));
        json_decref(v);
    }
    again();
    json_t *v = topic_get(n, "validator");
    const json_t *l = json_object_get(v, "verdicts");
    assert_int_equal(json_array_size(l), 50);
    for (size_t k = 0; k < 50; k++) {
        json_int_t batch = 59 - (json_int_t)k;
        assert_int_equal(num(at(l, k), "batch"), batch);
        assert_string_equal(str(at(l, k), "outcome"), batch % 4 ? states[batch % 4] : ""); /* open: no outcome yet */
    }
    json_decref(v);
}

/* Without a chain: what was claimed, newest first, at most 200; the reserved accounts have names. */
static void rewards(void **state) {
    (void)state;
    char key[16], tx[32];
    for (int i = 0; i < 210; i++) {
        int block = (i * 37) % 210; /* stored in another order than they happened */
        snprintf(key, sizeof key, "c%03d", i);
        snprintf(tx, sizeof tx, "0x%d", block);
        json_t *c = json_pack("{s:s s:i s:i s:s}", "tx", tx, "block", block, "account", 4, "amount_wei", "5");
        OK(record_put(n, TABLE_CLAIM, key, strlen(key), c, &e));
        json_decref(c);
    }
    struct flow f = {.node = n, .name = "board"};
    json_t *accounts = json_pack("[{s:i s:s}]", "account", 4, "earned_wei", "5");
    board_rewards(&f, accounts);
    json_t *r = topic_get(n, "rewards");
    const json_t *p = json_object_get(r, "payments");
    assert_int_equal(json_array_size(p), 200);
    for (size_t k = 0; k < 200; k++) {
        assert_int_equal(num(at(p, k), "block"), 209 - (json_int_t)k);
        assert_string_equal(str(at(p, k), "id"), str(at(p, k), "tx"));
        assert_string_equal(str(at(p, k), "state"), "paid");
    }
    assert_string_equal(str(json_object_get(r, "names"), "0"), "(burnt)");
    assert_string_equal(str(json_object_get(r, "names"), "2"), "(stakers)");
    assert_int_equal(json_array_size(json_object_get(r, "accounts")), 1);
    assert_int_equal(json_array_size(json_object_get(r, "datanets")), 0);
    json_decref(r);
    json_decref(accounts);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest t[] = {T(empty), T(runs), T(evaluations), T(answers), T(verdicts), T(rewards)};
    return cmocka_run_group_tests_name("board", t, NULL, NULL);
}
