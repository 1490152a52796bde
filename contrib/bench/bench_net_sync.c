/* The light client over days, against a server of headers in this process: a cold start in round trips, 24 h of blocks of 2 s without
 * growth, and the resident memory of a whole node after 10^6 headers in its store (needs ./loam; LOAM_BENCH_HEADERS=N for fewer).
 *   bench_net_sync [start|day|headers]   one of the three only
 * LOAM_BENCH_DIR=DIR keeps the node's data there, and goes on with what is in it; LOAM_BENCH_SECONDS=N ends the node after N seconds, so that
 * 10^6 headers can be measured in several turns, with restarts between. One JSON object a figure (contrib/bench/run). */
#include "base/clock.h"
#include "base/mem.h"
#include "net/chain.h"
#include "net/hexjson.h"
#include "net/server.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 1000000, DAY = 43200, LATENCY_MS = 40 };

static struct header_rules rules = {.forks = {0, 0, 0, 0, 0, 0, FORK_NEVER}, .elasticity = 6, .denominator = 50, .denominator_canyon = 250, .block_time = 2};
static struct hash32 *hash; /* of each header; what else is in them follows from the number */
static atomic_ulong head, asked, top; /* top: highest number asked for */
static atomic_uint latency;
static unsigned port;

static void must(enum loam_status st, const struct err *e) {
    if (!st)
        return;
    fprintf(stderr, "bench_net_sync: %s\n", e->text);
    exit(status_exit(st));
}

static void figure(const char *name, double value, const char *unit, const char *better, const char *goal) {
    printf("{\"suite\": \"net\", \"name\": \"%s\", \"value\": %.5g, \"unit\": \"%s\", \"better\": \"%s\", \"goal\": %s, \"peer\": null, "
           "\"peer_value\": null, \"command\": \"bench_net_sync\"}\n",
           name, value, unit, better, goal);
    fflush(stdout);
}

static void make(struct header *h, uint64_t n) {
    static const uint8_t extra[9] = {0, 0, 0, 0, 250, 0, 0, 0, 6};
    memset(h, 0, sizeof *h);
    h->number = n;
    if (n)
        h->parent = hash[n - 1];
    put_be64(h->state_root.b, n * 0x9e3779b97f4a7c15u);
    put_be64(h->bloom + n % 31 * 8, n * 0x2545f4914f6cdd1du); /* some logs in each */
    h->uncles = header_empty_uncles;
    h->tx_root = h->receipts_root = header_empty_root;
    h->gas_limit = 60000000;
    h->gas_used = 10000000; /* the target: the base fee stays */
    h->timestamp = 1700000000 + 2 * n;
    h->fields = 21;
    h->base_fee = u256_from(1000000);
    memcpy(h->extra, extra, 9);
    h->extra_len = 9;
    h->requests_hash = header_empty_requests;
    h->withdrawals_root = header_empty_root;
}

static void put_hex(struct buf *b, const char *key, const uint8_t *p, size_t n) {
    char hex[2 * 256 + 1];
    struct err e;
    hex_encode(hex, p, n);
    must(buf_printf(b, &e, "\"%s\":\"0x%s\",", key, hex), &e);
}

static void header_text(struct buf *b, uint64_t n) {
    struct header h;
    struct err e;
    make(&h, n);
    must(buf_printf(b, &e, "{"), &e);
    put_hex(b, "hash", hash[n].b, 32);
    put_hex(b, "parentHash", h.parent.b, 32);
    put_hex(b, "sha3Uncles", h.uncles.b, 32);
    put_hex(b, "miner", h.miner.b, 20);
    put_hex(b, "stateRoot", h.state_root.b, 32);
    put_hex(b, "transactionsRoot", h.tx_root.b, 32);
    put_hex(b, "receiptsRoot", h.receipts_root.b, 32);
    put_hex(b, "logsBloom", h.bloom, 256);
    put_hex(b, "extraData", h.extra, h.extra_len);
    put_hex(b, "mixHash", h.mix_hash.b, 32);
    put_hex(b, "nonce", h.nonce, 8);
    put_hex(b, "withdrawalsRoot", h.withdrawals_root.b, 32);
    put_hex(b, "parentBeaconBlockRoot", h.beacon_root.b, 32);
    put_hex(b, "requestsHash", h.requests_hash.b, 32);
    must(buf_printf(b, &e,
                    "\"number\":\"0x%llx\",\"timestamp\":\"0x%llx\",\"gasLimit\":\"0x%llx\",\"gasUsed\":\"0x%llx\",\"difficulty\":\"0x0\","
                    "\"baseFeePerGas\":\"0xf4240\",\"blobGasUsed\":\"0x0\",\"excessBlobGas\":\"0x0\",\"transactions\":[]}",
                    (unsigned long long)h.number, (unsigned long long)h.timestamp, (unsigned long long)h.gas_limit, (unsigned long long)h.gas_used),
         &e);
}

static void one(struct buf *b, const json_t *m) {
    const char *method = json_string_value(json_object_get(m, "method")), *word = json_string_value(json_array_get(json_object_get(m, "params"), 0));
    struct err e;
    must(buf_printf(b, &e, "{\"jsonrpc\":\"2.0\",\"id\":%lld,", (long long)json_integer_value(json_object_get(m, "id"))), &e);
    if (method && !strcmp(method, "eth_chainId")) {
        must(buf_printf(b, &e, "\"result\":\"0x64c\"}"), &e);
    } else if (method && word && !strcmp(method, "eth_getBlockByNumber")) {
        uint64_t n = strcmp(word, "latest") ? strtoull(word, NULL, 16) : atomic_load(&head);
        if (strcmp(word, "latest") && n > atomic_load(&top))
            atomic_store(&top, n);
        if (n > atomic_load(&head)) {
            must(buf_printf(b, &e, "\"result\":null}"), &e);
            return;
        }
        must(buf_printf(b, &e, "\"result\":"), &e);
        header_text(b, n);
        must(buf_printf(b, &e, "}"), &e);
    } else {
        must(buf_printf(b, &e, "\"error\":{\"code\":-32601,\"message\":\"no such method\"}}"), &e);
    }
}

struct late {
    uv_timer_t t;
    struct server_reply *r;
    struct buf b;
};
static void late_gone(uv_handle_t *h) {
    free(h->data);
}
static void late_send(uv_timer_t *t) {
    struct late *l = t->data;
    server_send(l->r, 200, "application/json", l->b.data, l->b.len);
    buf_clear(&l->b);
    uv_close((uv_handle_t *)t, late_gone);
}
static uv_loop_t loop;

static void h_rpc(const struct server_request *q, struct server_reply *r) {
    struct buf b = BUF_INIT(64u << 20);
    struct err e;
    json_t *m = json_loadb((const char *)q->body, q->body_len, 0, NULL), *x;
    size_t i;
    atomic_fetch_add(&asked, 1);
    if (json_is_array(m)) {
        must(buf_printf(&b, &e, "["), &e);
        json_array_foreach(m, i, x) {
            if (i)
                must(buf_printf(&b, &e, ","), &e);
            one(&b, x);
        }
        must(buf_printf(&b, &e, "]"), &e);
    } else {
        one(&b, m);
    }
    json_decref(m);
    struct late *l = atomic_load(&latency) ? calloc(1, sizeof *l) : NULL;
    if (l) {
        l->r = r;
        l->b = b;
        uv_timer_init(&loop, &l->t);
        l->t.data = l;
        uv_timer_start(&l->t, late_send, atomic_load(&latency), 0);
        return;
    }
    server_send(r, 200, "application/json", b.data, b.len);
    buf_clear(&b);
}

static void run(void *arg) {
    (void)arg;
    uv_run(&loop, UV_RUN_DEFAULT);
}

static double status_mb(pid_t pid, const char *what) {
    char path[64], line[256];
    double kb = 0;
    if (pid)
        snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    else
        snprintf(path, sizeof path, "/proc/self/status");
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, what, strlen(what)))
            kb = strtod(line + strlen(what) + 1, NULL);
    if (f)
        fclose(f);
    return kb / 1024;
}

static uint64_t cpu_us(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* A cold start: chain id, genesis, the head; what it takes beside what the bare round trips take. */
static void cold_start(struct http *http, const char *url) {
    struct err e;
    double best = 0;
    unsigned long calls = 0;
    atomic_store(&head, 5000);
    atomic_store(&latency, LATENCY_MS);
    for (int i = 0; i < 5; i++) {
        struct rpc *rpc;
        struct chain_store st;
        struct chain *c;
        struct chain_head h;
        json_t *r;
        struct chain_config cfg = {.chain_id = 1612, .rules = rules, .from_head = true, .has_genesis = true, .genesis = hash[0]};
        must(rpc_new(&rpc, http, &(struct rpc_config){.urls = (const char *const[]){url, NULL}}, &e), &e);
        must(rpc_call_wait(rpc, &r, "eth_chainId", NULL, NULL, &e), &e); /* connects */
        json_decref(r);
        uint64_t t = clock_mono_us();
        must(rpc_call_wait(rpc, &r, "eth_chainId", NULL, NULL, &e), &e); /* one bare round trip */
        json_decref(r);
        double bare = (double)(clock_mono_us() - t);
        must(chain_store_memory(&st, &e), &e);
        must(chain_new(&c, &cfg, rpc, &st, NULL, &e), &e);
        unsigned long before = atomic_load(&asked);
        t = clock_mono_us();
        must(chain_check(c, &e), &e);
        must(chain_sync(c, &e), &e);
        double whole = (double)(clock_mono_us() - t);
        must(chain_head(c, &h, &e), &e);
        calls = atomic_load(&asked) - before;
        double ratio = whole / (bare * (double)calls);
        if (!best || ratio < best)
            best = ratio;
        chain_free(c);
        chain_store_memory_free(&st);
        rpc_free(rpc);
    }
    atomic_store(&latency, 0);
    figure("cold start to verified head, in its RPC's round trips", (double)calls, "calls", "lower", "null");
    figure("cold start beside those round trips alone", best, "x", "lower", "1.5");
}

/* A day of blocks, one round each, as a node that follows does it. */
static void day(struct http *http, const char *url) {
    struct err e;
    struct rpc *rpc;
    struct chain_store st;
    struct chain *c;
    struct chain_config cfg = {.chain_id = 1612, .rules = rules, .from_head = true};
    double hour = 0;
    must(rpc_new(&rpc, http, &(struct rpc_config){.urls = (const char *const[]){url, NULL}}, &e), &e);
    must(chain_store_memory_most(&st, 1024, &e), &e);
    must(chain_new(&c, &cfg, rpc, &st, NULL, &e), &e);
    uint64_t wall = clock_mono_us(), cpu = cpu_us();
    for (uint64_t n = 1; n <= DAY; n++) {
        atomic_store(&head, n);
        must(chain_sync(c, &e), &e);
        if (n == DAY / 24)
            hour = status_mb(0, "VmRSS:");
    }
    figure("24 h of 2 s blocks followed, wall time", (double)(clock_mono_us() - wall) / 1e6, "s", "lower", "600");
    figure("24 h of 2 s blocks followed, processor (client and server)", (double)(cpu_us() - cpu) / 1e6, "s", "lower", "null");
    figure("resident growth from hour 1 to hour 24", status_mb(0, "VmRSS:") - hour, "MB", "lower", "1");
    chain_free(c);
    chain_store_memory_free(&st);
    rpc_free(rpc);
}

/* What of a node is resident, told apart: its own memory, and mapped files (program, libraries, the store's pages). */
static void resident(FILE *f, pid_t pid, unsigned long at) {
    fprintf(f, "bench_net_sync: header %lu: resident %.2f MB: own %.2f, files %.2f\n", at, status_mb(pid, "VmRSS:"), status_mb(pid, "RssAnon:"),
            status_mb(pid, "RssFile:"));
}

/* Bytes resident of the store's mapping alone. */
static double store_mb(pid_t pid) {
    char path[64], line[512];
    double kb = 0;
    bool in = false;
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strspn(line, "0123456789abcdef") && line[strspn(line, "0123456789abcdef")] == '-') /* a mapping's first line */
            in = strstr(line, ".mdb") || strstr(line, "/store");
        else if (in && !strncmp(line, "Rss:", 4))
            kb += strtod(line + 4, NULL);
    }
    if (f)
        fclose(f);
    return kb / 1024;
}

static unsigned long number_of(const char *name, unsigned long otherwise) {
    const char *env = getenv(name);
    return env ? strtoul(env, NULL, 10) : otherwise;
}

static void many(const char *url) {
    unsigned long n = number_of("LOAM_BENCH_HEADERS", MANY), seconds = number_of("LOAM_BENCH_SECONDS", 3600);
    const char *keep = getenv("LOAM_BENCH_DIR");
    char made[] = "/tmp/loam-bench-XXXXXX", dir[256], path[300], hex[HASH_HEX_MAX];
    if (access("./loam", X_OK) || !n || n > MANY || (keep ? mkdir(keep, 0700) && errno != EEXIST : !mkdtemp(made))) {
        fprintf(stderr, "bench_net_sync: no node measured: ./loam is not there, or no folder for it\n");
        return;
    }
    snprintf(dir, sizeof dir, "%s", keep ? keep : made);
    atomic_store(&head, 0);
    atomic_store(&top, 0);
    snprintf(path, sizeof path, "%s/chains", dir);
    if (mkdir(path, 0700) && errno != EEXIST)
        return;
    snprintf(path, sizeof path, "%s/chains/1612.json", dir);
    FILE *f = fopen(path, "w");
    if (!f)
        return;
    fprintf(f, "{\"chain_id\": 1612, \"profile\": \"op\", \"genesis\": \"%s\", \"block_time\": 2, \"urls\": [\"%s\"], \"forks\": {\"canyon\": 0, "
               "\"ecotone\": 0, \"fjord\": 0, \"granite\": 0, \"holocene\": 0, \"isthmus\": 0}}\n",
            hash_hex(hex, &hash[0]), url);
    fclose(f);
    snprintf(path, sizeof path, "%s/kept", dir); /* how far the turn before came: the server's head must not be below it */
    unsigned long from = 0;
    if ((f = fopen(path, "r"))) {
        if (fscanf(f, "%lu", &from) != 1 || from >= n)
            from = 0;
        fclose(f);
    }
    atomic_store(&head, from);
    pid_t pid = fork();
    if (!pid) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(126);
        execl("./loam", "loam", "--data", dir, "--set", "api.listen=", "--set", "chain.poll=0.5", "node", (char *)NULL);
        _exit(127);
    }
    sleep(3);
    double base = status_mb(pid, "VmRSS:"), base_own = status_mb(pid, "RssAnon:"), most = 0, most_own = 0;
    atomic_store(&head, n - 1);
    unsigned long last = from, still = 0, told = from;
    uint64_t wall = clock_mono_us(), ends = wall + 1000000ull * seconds;
    resident(stderr, pid, from);
    while (still < 600 && last < n - 2 && clock_mono_us() < ends) {
        usleep(100000);
        unsigned long now = atomic_load(&top) > from ? atomic_load(&top) : from;
        still = now == last ? still + 1 : 0;
        last = now;
        double all = status_mb(pid, "VmRSS:"), own = status_mb(pid, "RssAnon:");
        most = all > most ? all : most;
        most_own = own > most_own ? own : most_own;
        if (last - told >= 50000) {
            resident(stderr, pid, last);
            told = last;
        }
    }
    double took = (double)(clock_mono_us() - wall) / 1e6;
    sleep(3);
    resident(stderr, pid, last);
    if (last >= n - 2) {
        char name[128];
        figure("node at its start: resident", base, "MB", "lower", "null");
        figure("node at its start: resident, its own memory", base_own, "MB", "lower", "null");
        snprintf(name, sizeof name, "node after %lu headers: resident, all", n);
        figure(name, status_mb(pid, "VmRSS:"), "MB", "lower", "20");
        snprintf(name, sizeof name, "node after %lu headers: resident, its own memory", n);
        figure(name, status_mb(pid, "RssAnon:"), "MB", "lower", "null");
        snprintf(name, sizeof name, "node after %lu headers: resident, mapped files", n);
        figure(name, status_mb(pid, "RssFile:"), "MB", "lower", "null");
        snprintf(name, sizeof name, "node after %lu headers: resident, the store's pages of those", n);
        figure(name, store_mb(pid), "MB", "lower", "null");
        snprintf(name, sizeof name, "the most resident from header %lu to %lu", from, n);
        figure(name, most, "MB", "lower", "20");
        snprintf(name, sizeof name, "the most of its own memory from header %lu to %lu", from, n);
        figure(name, most_own, "MB", "lower", "null");
        figure("node catching up, headers kept", (double)(n - from) / took, "1/s", "higher", "null");
    } else {
        fprintf(stderr, "bench_net_sync: the node came from header %lu to %lu in %.1f s (%.0f/s); the most resident %.2f MB, own %.2f MB\n", from, last, took,
                (double)(last - from) / took, most, most_own);
    }
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    if (keep) {
        if ((f = fopen(path, "w"))) {
            fprintf(f, "%lu\n", last < n - 2 ? last : n - 1);
            fclose(f);
        }
        return;
    }
    pid = fork();
    if (!pid) {
        execlp("rm", "rm", "-rf", dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static void run_client(void *arg) {
    uv_run(arg, UV_RUN_DEFAULT);
}

int main(int argc, char **argv) {
    const char *only = argc > 1 ? argv[1] : "";
    static const struct server_route routes[] = {{"POST", "/", h_rpc, NULL}, {0}};
    uv_loop_t client;
    uv_thread_t t1, t2;
    struct server *server;
    struct http *http;
    struct err e;
    char url[64];
    hash = mem_array(MANY, sizeof *hash);
    if (!hash)
        return 12;
    for (uint64_t i = 0; i < MANY; i++) {
        struct header h;
        make(&h, i);
        must(header_hash(&h, &e), &e);
        hash[i] = h.hash;
    }
    uv_loop_init(&loop);
    uv_loop_init(&client);
    must(server_new(&server, &loop, &(struct server_config){.routes = routes}, &e), &e);
    must(http_new(&http, &client, &(struct http_config){.no_proxy = true}, &e), &e);
    port = server_port(server);
    uv_async_t stay; /* the client's loop has nothing else to wait for at first */
    uv_async_init(&client, &stay, NULL);
    uv_thread_create(&t1, run, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    uv_thread_create(&t2, run_client, &client);
    if (!*only || !strcmp(only, "start"))
        cold_start(http, url);
    if (!*only || !strcmp(only, "day"))
        day(http, url);
    if (!*only || !strcmp(only, "headers"))
        many(url);
    return 0; /* the threads end with the program */
}
