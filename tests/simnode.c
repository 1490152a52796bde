/* The simulator as a program, for tests of the whole node: POST /l2 and /l1 (JSON-RPC), /old (the L2's state of every block),
 * GET /feed/latest and /gossip/latest, /da (EigenDA's proxy). An L1 block is derived into the L2 at once; what is sent is mined at once.
 *   simnode PORTFILE [token]     token: gas on the L2 is paid in an ERC-20
 * Controls are RPC methods of /l2: sim_fund [address, wei], sim_mine [blocks], sim_censor [bool], sim_late [], sim_reorg [depth], sim_da [status, times, "put" or "get", StatusCode of a 418],
 * sim_oldproofs [bool], sim_twice [] (the sequencer signs another block of the head's height), sim_info []. */
#include "test.h"

#include "base/clock.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "net/hexjson.h"
#include "net/server.h"
#include "sim.h"

#include <signal.h>
#include <unistd.h>

#define L2_BLOCKS 16
#define DA_KEPT 16

static struct sim l1, l2;
static bool late; /* what was left out is included after all, in the block before the next deposit */
static bool twice; /* the feed serves another block of the head's height, once */
static int da_status, da_puts, da_gets, da_refused;
static int da_times;        /* answers that da_status is given for; 0: all */
static char da_on[8];       /* "put" or "get": only there */
static unsigned da_why;     /* StatusCode in the body of a 418 */
static struct {
    struct buf data;
    struct hash32 cert;
} da[DA_KEPT];
static size_t da_n;

static void fund(struct sim *s, const json_t *p) {
    struct addr20 a;
    struct u256 v;
    struct err e;
    OK(hj_str_fixed(a.b, 20, json_array_get(p, 0), "address", &e));
    OK(hj_str_u256(&v, json_array_get(p, 1), "wei", &e));
    sim_account(s, &a)->balance = v;
    sim_account(s, &a)->nonce = 0;
}

static json_t *control(const char *method, const json_t *p) {
    const json_t *a = json_array_get(p, 0);
    if (!strcmp(method, "sim_fund")) {
        fund(&l1, p);
        fund(&l2, p);
        sim_mine(&l1, false);
        sim_mine(&l2, false);
    } else if (!strcmp(method, "sim_mine")) {
        for (json_int_t i = 0; i < json_integer_value(a); i++)
            sim_mine(&l2, i % 2);
    } else if (!strcmp(method, "sim_censor")) {
        l2.censors = json_is_true(a);
    } else if (!strcmp(method, "sim_late")) {
        late = true;
    } else if (!strcmp(method, "sim_oldproofs")) {
        l2.no_old_proofs = !json_is_true(a);
    } else if (!strcmp(method, "sim_reorg")) {
        sim_reorg(&l2, (size_t)json_integer_value(a), 1);
    } else if (!strcmp(method, "sim_da")) {
        const char *on = json_string_value(json_array_get(p, 2));
        da_status = (int)json_integer_value(a);
        da_times = (int)json_integer_value(json_array_get(p, 1));
        snprintf(da_on, sizeof da_on, "%s", on ? on : "");
        da_why = json_is_integer(json_array_get(p, 3)) ? (unsigned)json_integer_value(json_array_get(p, 3)) : 3;
        da_refused = 0;
    } else if (!strcmp(method, "sim_twice")) {
        twice = true;
    } else if (!strcmp(method, "sim_info")) {
        char sc[ADDR_HEX_MAX], portal[ADDR_HEX_MAX], reg[ADDR_HEX_MAX], signer[ADDR_HEX_MAX];
        struct tx_signer who;
        struct err e;
        OK(tx_signer_from_key(&who, sim_sequencer_key, &e));
        return json_pack("{s:s s:s s:s s:s s:i s:i s:i s:I}", "system_config", addr_hex(sc, &sim_system_config), "portal", addr_hex(portal, &sim_portal),
                         "registry", addr_hex(reg, &sim_registry), "signer", addr_hex(signer, &who.addr), "da_puts", da_puts, "da_gets", da_gets, "da_refused", da_refused, "head",
                         (json_int_t)l2.n - 1);
    } else {
        return NULL;
    }
    return json_true();
}

static json_t *answer(struct sim *s, const json_t *m) {
    const char *method = json_string_value(json_object_get(m, "method"));
    const json_t *p = json_object_get(m, "params");
    json_t *r = control(method, p), *id = json_object_get(m, "id");
    if (!r)
        r = sim_answer(s, method, p);
    if (s == &l1 && s->pooled && late && l2.kept.len) {
        struct err e;
        late = false;
        buf_init(&l2.pool[l2.pooled], 1 << 18);
        OK(buf_add(&l2.pool[l2.pooled++], l2.kept.data, l2.kept.len, &e));
        sim_mine(&l2, false);
    }
    if (s->pooled) {
        sim_mine(s, false);
        if (s == &l1)
            sim_mine(&l2, false);
    }
    return r ? json_pack("{s:s,s:O,s:o}", "jsonrpc", "2.0", "id", id, "result", r)
             : json_pack("{s:s,s:O,s:{s:i,s:s}}", "jsonrpc", "2.0", "id", id, "error", "code", -32000, "message", "missing trie node, or no such method");
}

static void h_rpc(const struct server_request *q, struct server_reply *r) {
    bool old = l2.no_old_proofs;
    json_t *m = json_loadb((const char *)q->body, q->body_len, 0, NULL), *a, *x;
    size_t i;
    if (!strcmp(q->path, "/old"))
        l2.no_old_proofs = false;
    if (json_is_array(m)) {
        a = json_array();
        json_array_foreach(m, i, x) json_array_append_new(a, answer(q->arg, x));
    } else {
        a = answer(q->arg, m);
    }
    if (!strcmp(q->path, "/old"))
        l2.no_old_proofs = old;
    char *text = json_dumps(a, JSON_COMPACT);
    server_send(r, 200, "application/json", text, strlen(text));
    free(text);
    json_decref(a);
    json_decref(m);
}

/* The sequencer makes a block every two seconds, as clocks go: what it signs is fresh. */
static void keep_up(void) {
    uint64_t now = clock_unix_ms() / 1000;
    while (l2.b[l2.n - 1].h.timestamp + 2 <= now)
        sim_mine(&l2, l2.n % 2);
}

static void h_feed(const struct server_request *q, struct server_reply *r) {
    keep_up();
    struct header was = l2.b[l2.n - 1].h;
    static uint64_t served; /* the height of the last true one */
    bool other = twice && served == was.number && was.timestamp <= clock_unix_ms() / 1000 + 3;
    if (other) {
        struct err e;
        l2.b[l2.n - 1].h.mix_hash.b[5] ^= 1;
        OK(header_hash(&l2.b[l2.n - 1].h, &e));
        twice = false;
    }
    if (was.timestamp <= clock_unix_ms() / 1000 + 3) /* else the client refuses it, and has not seen it */
        served = was.number;
    json_t *o = sim_feed(&l2, l2.n - 1, sim_sequencer_key, l2.chain_id);
    l2.b[l2.n - 1].h = was;
    char *text = json_dumps(o, JSON_COMPACT);
    server_send(r, 200, "application/json", text, strlen(text));
    free(text);
    json_decref(o);
}
static void h_gossip(const struct server_request *q, struct server_reply *r) {
    struct buf b = BUF_INIT(PAYLOAD_MAX);
    keep_up();
    sim_gossip(&b, &l2, l2.n - 1, sim_sequencer_key, l2.chain_id);
    server_send(r, 200, "application/octet-stream", b.data, b.len);
    buf_clear(&b);
}

/* EigenDA's proxy, standard mode: the "certificate" is version 0 and an RLP list of 32 bytes that it knows the payload by. */
static void h_da(const struct server_request *q, struct server_reply *r) {
    struct err e;
    bool put = !strcmp(q->method, "POST");
    if (da_status && (!*da_on || put == !strcmp(da_on, "put"))) {
        char text[128]; /* bodies as the proxy's: JSON with a 418, plain text else */
        int n = da_status == 418 ? snprintf(text, sizeof text, "{\"StatusCode\":%u,\"Msg\":\"invalid cert\"}", da_why)
                                 : snprintf(text, sizeof text, "refused with %d for a test", da_status);
        int status = da_status;
        da_refused++;
        if (da_times && !--da_times)
            da_status = 0;
        server_send(r, status, status == 418 ? "application/json" : "text/plain", text, (size_t)n);
    } else if (!strcmp(q->method, "POST")) {
        uint8_t c[35] = {0x00, 0xe1, 0xa0};
        size_t at = da_n++ % DA_KEPT;
        da_puts++;
        buf_clear(&da[at].data);
        buf_init(&da[at].data, 16 << 20);
        OK(buf_add(&da[at].data, q->body, q->body_len, &e));
        keccak256(c + 3, q->body, q->body_len);
        memcpy(da[at].cert.b, c + 3, 32);
        server_send(r, 200, "application/octet-stream", c, sizeof c);
    } else {
        char want[65];
        for (size_t i = 0; i < DA_KEPT; i++) {
            hex_encode(want, da[i].cert.b, 32);
            if (da[i].data.len && strstr(q->path, want)) {
                da_gets++;
                server_send(r, 200, "application/octet-stream", da[i].data.data, da[i].data.len);
                return;
            }
        }
        server_send(r, 404, "text/plain", "no", 2);
    }
}

static const struct server_route routes[] = {{"POST", "/l2", h_rpc, &l2}, {"POST", "/old", h_rpc, &l2}, {"POST", "/l1", h_rpc, &l1}, {"GET", "/feed/latest", h_feed, NULL},
                                             {"GET", "/gossip/latest", h_gossip, NULL}, {NULL, "/da/*", h_da, NULL}, {0}};

int main(int argc, char **argv) {
    uv_loop_t loop;
    struct server *server;
    struct err e;
    struct tx_signer seq;
    uint64_t now = clock_unix_ms() / 1000;
    if (argc < 2)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    alarm(600); /* never left behind */
    sim_init(&l1, 900, true, now - 1200);
    l1.portal = sim_portal;
    if (argc > 2)
        l1.token = sim_token;
    for (int i = 1; i < 80; i++)
        sim_mine(&l1, false);
    sim_init(&l2, 1612, false, now - 2 * L2_BLOCKS - 16);
    l2.portal = sim_portal;
    l2.parent = &l1;
    l2.derived = l1.n - 1;
    l2.l1_origin = l1.b[l1.n - 1].h;
    for (int i = 1; i < L2_BLOCKS; i++)
        sim_mine(&l2, i % 3 == 0);
    OK(tx_signer_from_key(&seq, sim_sequencer_key, &e));
    sim_l1_contracts(&l1, &l2, 5, 9, &seq.addr);
    sim_mine(&l1, false);
    l1.pools = l2.pools = true;
    uv_loop_init(&loop);
    OK(server_new(&server, &loop, &(struct server_config){.routes = routes}, &e));
    char tmp[512];
    snprintf(tmp, sizeof tmp, "%s.new", argv[1]);
    FILE *f = fopen(tmp, "w");
    if (!f || fprintf(f, "%u\n", server_port(server)) < 0 || fclose(f) || rename(tmp, argv[1]))
        return 1;
    return uv_run(&loop, UV_RUN_DEFAULT);
}
