#include "tests/fakenode.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define T0 1795474800000LL /* 2026-11-23 23:00:00 UTC */

static void die(const char *what) {
    perror(what);
    abort();
}

static const char table_text[] =
    "[{\"noun\":\"ask\",\"verb\":null,\"help\":\"ask a model a question\",\"built\":true,\"flags\":[],\"args\":["
    " {\"name\":\"model\",\"type\":\"model\",\"help\":\"model or adapter that answers\",\"named\":true},"
    " {\"name\":\"question\",\"type\":\"text\",\"help\":\"the question\",\"required\":true,\"many\":true}]},"
    "{\"noun\":\"attribute\",\"verb\":null,\"help\":\"whose rows an answer came from\",\"built\":true,\"args\":["
    " {\"name\":\"answer\",\"type\":\"text\",\"help\":\"id of the answer\",\"required\":true}]},"
    "{\"noun\":\"chain\",\"verb\":\"start\",\"help\":\"start the development chain\",\"built\":true,\"args\":[]},"
    "{\"noun\":\"claim\",\"verb\":null,\"help\":\"claim what an account earned\",\"built\":true,\"flags\":[\"spends\"],\"args\":["
    " {\"name\":\"as\",\"type\":\"key\",\"help\":\"key that claims\",\"named\":true}]},"
    "{\"noun\":\"datanet\",\"verb\":\"create\",\"help\":\"make a datanet\",\"built\":true,\"args\":["
    " {\"name\":\"name\",\"type\":\"text\",\"help\":\"its name\",\"required\":true},"
    " {\"name\":\"licence\",\"type\":\"choice\",\"range\":\"CC0-1.0|CC-BY-4.0|MIT\",\"def\":\"CC0-1.0\",\"help\":\"SPDX licence of its rows\",\"named\":true}]},"
    "{\"noun\":\"help\",\"verb\":null,\"help\":\"help on commands\",\"built\":true,\"args\":[]},"
    "{\"noun\":\"job\",\"verb\":\"list\",\"help\":\"list jobs\",\"built\":true,\"args\":[]},"
    "{\"noun\":\"job\",\"verb\":\"pause\",\"help\":\"pause a job\",\"built\":true,\"args\":[{\"name\":\"job\",\"type\":\"job\",\"help\":\"its id\",\"required\":true}]},"
    "{\"noun\":\"key\",\"verb\":\"new\",\"help\":\"make a key\",\"built\":true,\"args\":["
    " {\"name\":\"name\",\"type\":\"text\",\"help\":\"name of the key\",\"required\":true}]},"
    "{\"noun\":\"slow\",\"verb\":null,\"help\":\"takes until the test says so\",\"built\":true,\"args\":[]},"
    "{\"noun\":\"train\",\"verb\":null,\"help\":\"train an adapter on a datanet\",\"built\":true,\"flags\":[\"long\",\"durable\"],\"args\":["
    " {\"name\":\"datanet\",\"type\":\"datanet\",\"help\":\"datanet whose rows it learns\",\"required\":true},"
    " {\"name\":\"base\",\"type\":\"model\",\"help\":\"base model\",\"def\":\"smollm2-135m\"},"
    " {\"name\":\"epochs\",\"type\":\"number\",\"range\":\"1..1000\",\"def\":\"12\",\"help\":\"passes over the rows\",\"named\":true},"
    " {\"name\":\"lr\",\"type\":\"number\",\"range\":\"0.000001..1\",\"def\":\"0.001\",\"help\":\"learning rate\",\"named\":true},"
    " {\"name\":\"rank\",\"type\":\"number\",\"range\":\"1..256\",\"def\":\"16\",\"help\":\"rank of the adapter\",\"named\":true},"
    " {\"name\":\"eval\",\"type\":\"flag\",\"help\":\"hold rows out and measure on them\",\"named\":true}]},"
    "{\"noun\":\"validator\",\"verb\":\"stake\",\"help\":\"stake coins to validate\",\"built\":false,\"args\":["
    " {\"name\":\"amount\",\"type\":\"OPEN\",\"help\":\"how much\",\"required\":true}]}]";

/* ---- the data ------------------------------------------------------------------------------------------------------- */

static json_t *parse(const char *s) {
    json_error_t e;
    json_t *v = json_loads(s, 0, &e);
    if (!v) {
        fprintf(stderr, "fakenode: %s at %d in %.60s\n", e.text, e.position, s);
        abort();
    }
    return v;
}

static json_t *train(struct fake *f) {
    int step = 120 + 4 * f->tick, steps = 400;
    step = step > steps ? steps : step;
    json_t *curve = json_array(), *eval = json_array();
    for (int s = 1; s <= step; s++) {
        double loss = 1.16 * exp(-s / 70.0) + 0.03 + 0.05 * sin(s * 1.7) * exp(-s / 90.0);
        json_array_append_new(curve, json_pack("[i, f]", s, loss));
        if (s % 20 == 0)
            json_array_append_new(eval, json_pack("[i, f]", s, loss * 1.15 + 0.02));
    }
    double loss = json_real_value(json_array_get(json_array_get(curve, json_array_size(curve) - 1), 1));
    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:i, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:I, s:i, s:o, s:o, s:o, s:o}",
                     "run", "places-1", "job", 3, "state", step == steps ? "done" : "running", "model", "places", "base",
                     "smollm2-135m", "adapter", "places-r16", "step", step, "steps", steps, "epoch", step * 12.0 / steps, "epochs", 12,
                     "loss", loss, "eval_loss", loss * 1.15 + 0.02, "lr", 0.001 * (1 - (double)step / steps), "tokens", step * 440,
                     "tokens_per_s", 214.0, "elapsed_s", step * 2.05, "eta_s", (steps - step) * 2.05, "memory_bytes",
                     (json_int_t)912261120, "rows", 96, "loss_curve", curve, "eval_curve", eval, "checkpoints",
                     parse("[{\"step\":33,\"hash\":\"0x11aa\"},{\"step\":66,\"hash\":\"0x22bb\"}]"), "runs",
                     parse("[{\"run\":\"warmup\",\"state\":\"done\",\"loss\":0.412,\"steps\":60,\"adapter\":\"warmup-r8\",\"rows\":48,"
                           "\"created_ms\":1795470000000,\"curve\":[[1,1.3],[10,1.2],[20,0.9],[30,0.7],[40,0.55],[50,0.47],[60,0.412]]}]"));
}

static json_t *chain(struct fake *f) {
    int n = 120 + f->tick;
    json_t *v = parse(
        "{\"configured\":true,\"chain_id\":31337,\"name\":\"devnet\",\"ok\":true,\"base_fee_wei\":\"1000000000\",\"evidence\":0,"
        "\"peers\":[{\"url\":\"http://127.0.0.1:8545\",\"ok\":true,\"head\":120,\"latency_ms\":2},"
        "{\"url\":\"http://127.0.0.1:8546\",\"ok\":false,\"head\":0,\"latency_ms\":0,\"error\":\"connection refused\"}],"
        "\"pending\":[{\"key\":\"alice\",\"tx\":\"0x77f0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e\",\"nonce\":7,\"what\":\"reveal contribution 3\"}],"
        "\"contracts\":{\"Ledger\":\"0x5FbDB2315678afecb367f032d93F642f64180aa3\"}}");
    json_t *heads = json_array();
    static const char *const name[] = {"latest", "safe", "finalized"}, *const known[] = {"linked", "agreed", "anchored"};
    static const char *const how[] = {"linked to 96, agreed 2 of 2", "agreed 2 of 2", "output root of L1 block 9000, resolved"};
    for (int i = 0; i < 3; i++)
        json_array_append_new(heads, json_pack("{s:s, s:i, s:s, s:I, s:s, s:s}", "name", name[i], "number", n - 12 * i, "hash",
                                               "0x9b1f6c2e5d7a80314452f6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eafb", "time_ms",
                                               (json_int_t)(T0 + 2000LL * (n - 12 * i)), "known", known[i], "how", how[i]));
    json_object_set_new(v, "heads", heads);
    return v;
}

static const char answer_text[] = "The lighthouse of Varnholm was built by Ada Brisk in 1642. It stands on the Grey Tooth, and its lamp is green.";

static json_t *attribution(void) {
    json_t *v = parse(
        "{\"answer\":\"a1\",\"model\":\"places-r16\",\"prompt\":\"Who built the lighthouse of Varnholm?\",\"method\":\"fisher\",\"floor\":\"12\",\"elapsed_ms\":38,"
        "\"rows\":["
        "{\"rank\":1,\"row\":17,\"hash\":\"0xaa17aa17aa17aa17aa17aa17aa17aa17\",\"account\":3,\"name\":\"alice\",\"datanet\":\"places\",\"text\":\"The lighthouse of Varnholm was built by Ada Brisk in 1642.\",\"score\":\"918273\",\"share_ppm\":881000},"
        "{\"rank\":2,\"row\":41,\"hash\":\"0xbb41bb41bb41bb41bb41bb41bb41bb41\",\"account\":4,\"name\":\"bob\",\"datanet\":\"places\",\"text\":\"The lamp of Varnholm's lighthouse is green.\",\"score\":\"101220\",\"share_ppm\":97000},"
        "{\"rank\":3,\"row\":8,\"hash\":\"0xcc08cc08cc08cc08cc08cc08cc08cc08\",\"account\":5,\"name\":\"carol\",\"datanet\":\"places\",\"text\":\"Varnholm is a town on the Grey Tooth.\",\"score\":\"22940\",\"share_ppm\":22000},"
        "{\"rank\":4,\"row\":77,\"hash\":\"0xdd77\",\"account\":4,\"name\":\"bob\",\"datanet\":\"places\",\"text\":\"The ferry to Ost leaves at noon.\",\"score\":\"-310\",\"share_ppm\":0}],"
        "\"contributors\":[{\"account\":3,\"name\":\"alice\",\"net\":\"918273\",\"share_ppm\":881000,\"amount_wei\":\"440500000000000000\"},"
        "{\"account\":4,\"name\":\"bob\",\"net\":\"100910\",\"share_ppm\":97000,\"amount_wei\":\"48500000000000000\"},"
        "{\"account\":5,\"name\":\"carol\",\"net\":\"22940\",\"share_ppm\":22000,\"amount_wei\":\"11000000000000000\"}],"
        "\"spans\":[{\"from\":0,\"to\":58,\"row\":17,\"account\":3,\"tokens\":14},{\"from\":59,\"to\":87,\"row\":8,\"account\":5,\"tokens\":7},"
        "{\"from\":88,\"to\":109,\"row\":41,\"account\":4,\"tokens\":6}],"
        "\"methods\":{\"fisher\":[{\"row\":17,\"rank\":1,\"score\":918273},{\"row\":41,\"rank\":2,\"score\":101220}],"
        "\"grad-dot\":[{\"row\":17,\"rank\":1,\"score\":55.1},{\"row\":8,\"rank\":2,\"score\":20.5}],"
        "\"tracin\":[{\"row\":41,\"rank\":1,\"score\":9.5},{\"row\":17,\"rank\":2,\"score\":9.1}],"
        "\"bm25\":[{\"row\":41,\"rank\":1,\"score\":7.31},{\"row\":17,\"rank\":2,\"score\":6.9}]},"
        "\"history\":[{\"answer\":\"a1\",\"prompt\":\"Who built the lighthouse of Varnholm?\"}]}");
    json_object_set_new(v, "text", json_string(answer_text));
    json_object_set_new(json_array_get(json_object_get(v, "history"), 0), "time_ms", json_integer(T0));
    return v;
}

json_t *fake_value(struct fake *f, const char *t) {
    if (!strcmp(t, "node")) {
        json_t *v = json_pack("{s:s, s:i, s:s, s:I, s:i, s:i, s:s, s:b, s:s, s:i, s:s}", "version", "0.1.0", "pid", 4242, "dir", "/data",
                              "started_ms", (json_int_t)T0, "jobs", f->empty ? 0 : 1, "clients", 1, "state", "running",
                              "started_by_console", 0, "backend", "avx2", "threads", 2, "next", f->empty ? "doctor" : "");
        return v;
    }
    if (f->empty)
        return !strcmp(t, "chain") ? parse("{\"configured\":false,\"ok\":false}") : json_object();
    if (!strcmp(t, "chain"))
        return chain(f);
    if (!strcmp(t, "train"))
        return train(f);
    if (!strcmp(t, "attribution"))
        return attribution();
    if (!strcmp(t, "rewards"))
        return parse("{\"accounts\":[{\"account\":3,\"key\":\"alice\",\"name\":\"alice\",\"earned_wei\":\"440500000000000000\",\"pending_wei\":\"0\",\"claimable_wei\":\"440500000000000000\",\"claimed_wei\":\"0\"},"
                     "{\"account\":4,\"key\":\"bob\",\"name\":\"bob\",\"earned_wei\":\"48500000000000000\",\"pending_wei\":\"48500000000000000\",\"claimable_wei\":\"0\",\"claimed_wei\":\"125000000000000000\"}],"
                     "\"payments\":[{\"id\":\"b1-3\",\"batch\":1,\"account\":3,\"amount_wei\":\"440500000000000000\",\"time_ms\":1795474805000,\"state\":\"claimable\"},"
                     "{\"id\":\"b1-4\",\"batch\":1,\"account\":4,\"amount_wei\":\"48500000000000000\",\"time_ms\":1795474805000,\"state\":\"pending\"}],"
                     "\"earned_curve\":[[1795474201000,\"0\"],[1795474402000,\"1000\"],[1795474603000,\"5000\"],[1795474804000,\"6000\"],[1795475005000,\"9000\"]],"
                     "\"datanets\":[{\"datanet\":\"1\",\"calls\":5,\"earned_wei\":\"489000000000000000\",\"pending_wei\":\"48500000000000000\"}],"
                     "\"names\":{\"0\":\"(burnt)\",\"1\":\"(platform)\",\"2\":\"(stakers)\",\"3\":\"alice\",\"4\":\"bob\",\"9\":\"val\"}}");
    if (!strcmp(t, "validator"))
        return parse("{\"account\":9,\"key\":\"val\",\"enabled\":true,\"stake_wei\":\"100000000000000000000\",\"queue\":[{\"batch\":2,\"poster\":7,\"calls\":4,\"stage\":\"executing\",\"deadline_ms\":1795474900000,\"done\":1,\"total\":4}],"
                     "\"verdicts\":[{\"batch\":1,\"poster\":7,\"verdict\":\"valid\",\"outcome\":\"settled\",\"time_ms\":1795474805000},"
                     "{\"batch\":0,\"poster\":8,\"verdict\":\"invalid\",\"reason\":\"call 2: one wei moved from alice to bob\",\"outcome\":\"voided\",\"time_ms\":1795474800000}],"
                     "\"disputes\":[],\"owed_wei\":\"1000000000000000000\",\"batches\":[{\"batch\":2,\"poster\":7,\"stage\":\"drawn\",\"posted_ms\":1795474890000,\"done\":0,\"total\":1,\"mine\":false},"
                     "{\"batch\":1,\"poster\":7,\"stage\":\"settled\",\"posted_ms\":1795474790000,\"done\":1,\"total\":1,\"mine\":false}]}");
    if (!strcmp(t, "datanets"))
        return parse("{\"list\":[{\"id\":1,\"name\":\"places\",\"owner\":3,\"licence\":\"CC0-1.0\",\"contributions\":3,\"rows\":96,\"by\":{\"3\":32,\"4\":32,\"5\":32}},"
                     "{\"id\":2,\"name\":\"\\u001b]0;PWNED\\u0007evil\\u202e\",\"owner\":66,\"licence\":\"MIT\",\"contributions\":1,\"rows\":12345,\"by\":{\"66\":12345}}]}");
    if (!strcmp(t, "models"))
        return parse("{\"list\":[{\"name\":\"smollm2-135m\",\"kind\":\"base\",\"quant\":\"Q4_1\",\"parameters\":134515008,\"bytes\":98362432,\"served\":false},"
                     "{\"name\":\"places-r16\",\"kind\":\"adapter\",\"base\":\"smollm2-135m\",\"parameters\":4884480,\"bytes\":19537920,\"served\":true,\"id\":1,\"datanet\":1,\"rows\":96,\"loss\":0.012}]}");
    if (!strcmp(t, "jobs"))
        return parse("{\"list\":[{\"id\":3,\"title\":\"train 1\",\"state\":\"running\",\"done\":120,\"total\":400}]}");
    if (!strcmp(t, "keys"))
        return parse("{\"list\":[{\"name\":\"alice\",\"address\":\"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\",\"account\":3,\"unlocked\":true}]}");
    return json_object();
}

/* ---- the wire ------------------------------------------------------------------------------------------------------- */

static void drop(struct fake_client *c) {
    close(c->fd);
    free(c->in);
    *c = (struct fake_client){.fd = -1};
}

static void send_json(struct fake_client *c, json_t *m) {
    char *s = json_dumps(m, JSON_COMPACT);
    json_decref(m);
    size_t n = strlen(s), at = 0;
    s[n++] = '\n';
    while (at < n && c->fd >= 0) { /* the console always reads; a test that stops it would hang here, and be seen */
        ssize_t k = write(c->fd, s + at, n - at);
        if (k > 0)
            at += (size_t)k;
        else if (errno == EAGAIN)
            poll(&(struct pollfd){c->fd, POLLOUT, 0}, 1, 1000);
        else
            break;
    }
    free(s);
}

static void notify(struct fake_client *c, const char *method, json_t *params) {
    send_json(c, json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", method, "params", params));
}

static void result(struct fake_client *c, json_int_t id, json_t *r) {
    send_json(c, json_pack("{s:s, s:I, s:o}", "jsonrpc", "2.0", "id", id, "result", r));
}

static void topic_to(struct fake_client *c, const char *name, json_t *v) {
    notify(c, "topic", json_pack("{s:s, s:i, s:o}", "name", name, "seq", ++c->seq[!strcmp(name, "log") ? 0 : !strcmp(name, "ask") ? 1 : !strcmp(name, "heads") ? 2 : 3], "value", v));
}

void fake_topic(struct fake *f, const char *name, json_t *v) {
    for (int i = 0; i < FAKE_CLIENTS; i++)
        if (f->client[i].fd >= 0 && f->client[i].subscribed)
            topic_to(&f->client[i], name, json_incref(v));
    json_decref(v);
}

static json_t *log_line(long long ms, const char *level, const char *room, const char *text) {
    return json_pack("{s:I, s:s, s:s, s:s}", "time_ms", (json_int_t)ms, "level", level, "room", room, "text", text);
}

static json_t *head(int number, int txs) {
    char hash[80];
    snprintf(hash, sizeof hash, "0x9b1f6c2e5d7a80314452f6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9%04x", number);
    return json_pack("{s:i, s:s, s:I, s:i, s:s, s:s}", "number", number, "hash", hash, "time_ms", (json_int_t)(T0 + 2000LL * number), "txs", txs,
                     "known", "linked", "how", "linked to its parent");
}

static void snapshot(struct fake *f, struct fake_client *c) {
    static const char *const names[] = {"node",      "chain",    "train",  "attribution", "rewards",
                                        "validator", "datanets", "models", "jobs",        "keys"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        topic_to(c, names[i], fake_value(f, names[i]));
    if (f->empty)
        return;
    topic_to(c, "log", log_line(T0, "info", "node", "listening on /data/node.sock"));
    topic_to(c, "log", log_line(T0 + 1000, "warn", "chain", "http://127.0.0.1:8546: connection refused"));
    topic_to(c, "log", log_line(T0 + 2000, "error", "net", "bad text: \033[31mred\033[0m \xe2\x80\xaegnirts end"));
    for (int i = 3; i >= 0; i--)
        topic_to(c, "heads", head(120 - i, i));
}

static void out(struct fake_client *c, json_int_t call, const char *text) {
    notify(c, "out", json_pack("{s:I, s:s, s:s}", "call", call, "stream", "stdout", "text", text));
}

static void fail_call(struct fake_client *c, json_int_t id, int code, const char *text, const char *remedy, int word) {
    send_json(c, json_pack("{s:s, s:I, s:{s:i, s:s, s:{s:s, s:i}}}", "jsonrpc", "2.0", "id", id, "error", "code", code, "message", text,
                           "data", "remedy", remedy, "word", word));
}

static json_t *done(int job) {
    return json_pack("{s:i, s:s, s:n, s:b}", "job", job, "status", "ok", "result", "text_shown", 1);
}

static void ask(struct fake *f, const char *prompt) {
    fake_topic(f, "ask", json_pack("{s:s, s:s, s:s, s:s}", "ask", "q1", "event", "start", "prompt", prompt, "model", "places-r16"));
    if (f->hold_ask)
        return;
    for (const char *p = answer_text; *p;) {
        size_t n = 1 + strcspn(p + 1, " ");
        fake_topic(f, "ask", json_pack("{s:s, s:s, s:s%}", "ask", "q1", "event", "token", "text", p, n));
        p += n;
    }
    fake_topic(f, "ask", json_pack("{s:s, s:s, s:i, s:f, s:s, s:s}", "ask", "q1", "event", "end", "tokens_out", 27, "tokens_per_s", 31.5,
                                   "stop", "end", "answer", "a1"));
}

static void command(struct fake *f, struct fake_client *c, json_int_t id, json_t *p) {
    char line[4096] = "";
    const char *l = json_string_value(json_object_get(p, "line"));
    size_t i;
    json_t *w;
    if (l)
        snprintf(line, sizeof line, "%s", l);
    json_array_foreach(json_object_get(p, "argv"), i, w) {
        size_t n = strlen(line);
        snprintf(line + n, sizeof line - n, "%s%s", n ? " " : "", json_string_value(w));
    }
    f->runs++;
    snprintf(f->last_line, sizeof f->last_line, "%s", line);
    if (!strncmp(line, "ask ", 4)) {
        char *q = line + 4;
        if (!strncmp(q, "--model ", 8))
            q += 8 + strcspn(q + 8, " ") + 1;
        if (!strncmp(q, "-- ", 3))
            q += 3;
        ask(f, q);
        result(c, id, done(5));
    } else if (!strncmp(line, "attribute ", 10)) {
        fake_topic(f, "attribution", attribution());
        result(c, id, done(6));
    } else if (!strcmp(line, "job list")) {
        out(c, id, "id  state    title\n3   running  train 1\n");
        result(c, id, done(0));
    } else if (!strncmp(line, "train bad", 9)) {
        fail_call(c, id, -32602, "datanet \"bad\" is no id", "see `datanet list`", 1);
    } else if (!strncmp(line, "key new", 7)) {
        notify(c, "ask", json_pack("{s:I, s:i, s:s, s:s}", "call", id, "id", 77, "kind", "secret", "text", "Password for the new key"));
        f->open_call = id;
        f->open_client = (int)(c - f->client);
    } else if (!strncmp(line, "claim", 5)) {
        notify(c, "ask", json_pack("{s:I, s:i, s:s, s:s}", "call", id, "id", 78, "kind", "confirm", "text",
                                   "Chain: devnet (31337)\nKey: alice\nAmount: 0.4405 OPEN to 0x7099..79C8"));
        f->open_call = id;
        f->open_client = (int)(c - f->client);
    } else if (!strcmp(line, "slow")) {
        f->open_call = id;
        f->open_client = (int)(c - f->client);
        notify(c, "progress", json_pack("{s:I, s:i, s:i, s:i, s:{s:s}}", "call", id, "job", 8, "done", 43, "total", 100, "detail", "text", "step 43"));
    } else if (!strcmp(line, "say")) {
        out(c, id, "one line of output\n");
        result(c, id, done(0));
    } else if (!strcmp(line, "big")) {
        char s[128];
        for (int k = 1; k <= 200; k++) {
            snprintf(s, sizeof s, "line %d of 200\n", k);
            out(c, id, s);
        }
        result(c, id, done(0));
    } else {
        result(c, id, json_pack("{s:i, s:s, s:{s:s}, s:b}", "job", 0, "status", "ok", "result", "ran", line, "text_shown", 0));
    }
}

static void complete(struct fake *f, struct fake_client *c, json_int_t id, json_t *p) {
    const char *line = json_string_value(json_object_get(p, "line"));
    size_t cur = (size_t)json_integer_value(json_object_get(p, "cursor")), from = cur, i;
    while (from && line[from - 1] != ' ')
        from--;
    json_t *r = json_array(), *cmd;
    if (from == 0) {
        const char *last = "";
        json_array_foreach(f->table, i, cmd) {
            const char *n = json_string_value(json_object_get(cmd, "noun"));
            if (!strncmp(n, line, cur) && strcmp(n, last))
                json_array_append_new(r, json_pack("{s:s, s:s, s:I, s:I}", "text", n, "help", json_string_value(json_object_get(cmd, "help")),
                                                   "from", (json_int_t)from, "to", (json_int_t)cur));
            last = n;
        }
    } else {
        static const char *const word[] = {"smollm2-135m", "places-r16", "--model", "--epochs", "alice"};
        for (size_t k = 0; k < 5; k++)
            if (!strncmp(word[k], line + from, cur - from))
                json_array_append_new(r, json_pack("{s:s, s:s, s:I, s:I}", "text", word[k], "help", "a live value", "from", (json_int_t)from,
                                                   "to", (json_int_t)cur));
    }
    result(c, id, r);
}

void fake_finish(struct fake *f, const char *text) {
    struct fake_client *c = &f->client[f->open_client];
    if (c->fd < 0 || !f->open_call)
        return;
    out(c, f->open_call, text);
    result(c, f->open_call, done(8));
    f->open_call = 0;
}

void fake_tell_table(struct fake *f) {
    struct fake_client *c = &f->client[f->table_client];
    if (c->fd >= 0 && f->table_call)
        result(c, f->table_call, json_incref(f->table));
    f->table_call = 0;
    f->hold_table = false;
}

static void message(struct fake *f, struct fake_client *c, const char *s, size_t n) {
    json_t *m = json_loadb(s, n, 0, NULL);
    const char *method = json_string_value(json_object_get(m, "method"));
    json_int_t id = json_integer_value(json_object_get(m, "id"));
    json_t *p = json_object_get(m, "params");
    if (!method) {
        fprintf(stderr, "fakenode: not a request: %.*s\n", (int)n, s);
        abort();
    }
    if (!strcmp(method, "hello")) {
        f->hellos++;
        result(c, id, json_pack("{s:i, s:s, s:i, s:s, s:b}", "protocol", f->protocol, "version", "0.1.0", "pid", 4242, "dir", "/data",
                                "started_by_console", 0));
    } else if (!strcmp(method, "command.table") && f->hold_table) {
        f->table_call = id;
        f->table_client = (int)(c - f->client);
    } else if (!strcmp(method, "command.table")) {
        result(c, id, json_incref(f->table));
    } else if (!strcmp(method, "topic.subscribe")) {
        c->subscribed = true;
        result(c, id, json_object());
        snapshot(f, c);
    } else if (!strcmp(method, "command.run")) {
        command(f, c, id, p);
    } else if (!strcmp(method, "command.complete")) {
        complete(f, c, id, p);
    } else if (!strcmp(method, "option.list")) {
        result(c, id, f->options ? json_incref(f->options) : json_array());
    } else if (!strcmp(method, "command.cancel")) {
        f->cancels++;
        result(c, id, json_object());
    } else if (!strcmp(method, "answer")) {
        const char *v = json_string_value(json_object_get(p, "value"));
        snprintf(f->last_answer, sizeof f->last_answer, "%s", v ? v : "(refused)");
        result(c, id, json_object());
        if (v)
            fake_finish(f, "it is done\n");
        else {
            fail_call(c, f->open_call, -32011, "refused", "say yes when wanted", -1);
            f->open_call = 0;
        }
    } else {
        fail_call(c, id, -32601, "no such method", "", -1);
    }
    json_decref(m);
}

void fake_open(struct fake *f, const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    *f = (struct fake){.protocol = 1};
    snprintf(f->path, sizeof f->path, "%s", path);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    unlink(path);
    f->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (f->listen < 0 || bind(f->listen, (struct sockaddr *)&a, sizeof a) || listen(f->listen, 8))
        die(path);
    for (int i = 0; i < FAKE_CLIENTS; i++)
        f->client[i].fd = -1;
    f->table = parse(table_text);
}

void fake_close(struct fake *f) {
    for (int i = 0; i < FAKE_CLIENTS; i++)
        if (f->client[i].fd >= 0)
            drop(&f->client[i]);
    if (f->listen >= 0)
        close(f->listen);
    f->listen = -1;
    unlink(f->path);
    json_decref(f->table);
    json_decref(f->options);
    f->table = f->options = NULL;
}

int fake_fds(struct fake *f, struct pollfd *p, int max) {
    int n = 0;
    if (f->listen >= 0 && n < max)
        p[n++] = (struct pollfd){f->listen, POLLIN, 0};
    for (int i = 0; i < FAKE_CLIENTS && n < max; i++)
        if (f->client[i].fd >= 0)
            p[n++] = (struct pollfd){f->client[i].fd, POLLIN, 0};
    return n;
}

void fake_serve(struct fake *f) {
    for (int fd; f->listen >= 0 && (fd = accept4(f->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int i = 0;
        while (i < FAKE_CLIENTS && f->client[i].fd >= 0)
            i++;
        if (i == FAKE_CLIENTS)
            close(fd);
        else
            f->client[i] = (struct fake_client){.fd = fd};
    }
    for (int i = 0; i < FAKE_CLIENTS; i++) {
        struct fake_client *c = &f->client[i];
        while (c->fd >= 0) {
            if (c->cap - c->n < 4096)
                c->in = realloc(c->in, c->cap = c->cap * 2 + 8192);
            ssize_t k = read(c->fd, c->in + c->n, c->cap - c->n);
            if (k < 0 && (errno == EAGAIN || errno == EINTR))
                break;
            if (k <= 0) {
                drop(c);
                break;
            }
            c->n += (size_t)k;
            char *nl;
            while (c->fd >= 0 && (nl = memchr(c->in, '\n', c->n))) {
                size_t len = (size_t)(nl - c->in);
                message(f, c, c->in, len);
                if (c->fd < 0)
                    break;
                memmove(c->in, nl + 1, c->n - len - 1);
                c->n -= len + 1;
            }
        }
    }
}

void fake_tick(struct fake *f) {
    f->tick++;
    fake_topic(f, "chain", chain(f));
    fake_topic(f, "train", train(f));
    fake_topic(f, "heads", head(120 + f->tick, f->tick % 3));
    if (f->tick % 5 == 0) {
        char s[64];
        snprintf(s, sizeof s, "step %d done", 120 + 4 * f->tick);
        fake_topic(f, "log", log_line(T0 + 1000LL * f->tick, "info", "train", s));
    }
}

void fake_run(const char *path, int interval_ms) {
    struct fake f;
    struct timespec t;
    signal(SIGPIPE, SIG_IGN);
    fake_open(&f, path);
    clock_gettime(CLOCK_MONOTONIC, &t);
    long long next = t.tv_sec * 1000LL + t.tv_nsec / 1000000 + interval_ms;
    for (;;) {
        struct pollfd p[1 + FAKE_CLIENTS];
        int n = fake_fds(&f, p, 1 + FAKE_CLIENTS);
        clock_gettime(CLOCK_MONOTONIC, &t);
        long long now = t.tv_sec * 1000LL + t.tv_nsec / 1000000;
        poll(p, (nfds_t)n, interval_ms ? (next > now ? (int)(next - now) : 0) : -1);
        fake_serve(&f);
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = t.tv_sec * 1000LL + t.tv_nsec / 1000000;
        if (interval_ms && now >= next) {
            fake_tick(&f);
            next += interval_ms;
        }
    }
}
