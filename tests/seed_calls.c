/* Puts answers with known scores into the store of a node that does not run, as `ask` and `attribute` would: for tests of money, batches and
 * disputes, which need exact shares and no model.
 *
 *   seed_calls DATA COUNT TRAINER ALICE BOB CAROL
 *   seed_calls attest SECRET CHAIN LEDGER VALIDATOR BATCH       two attestations of one validator for one batch, as `validator accuse` takes them
 *
 * The last answer says that it was computed in the fast mode, which `record` refuses.
 * The model "golden" (number 1) has eight rows, one of ALICE, one of BOB, six of CAROL; every answer's scores are 250, 500, 250 and five
 * times 0, so that ALICE has a quarter of the influence, BOB half, CAROL a quarter, and the noise floor is 0. */
#include "base/bytes.h"
#include "base/mem.h"
#include "flow/batchdoc.h"
#include "flow/chainio.h"
#include "flow/flow.h"
#include "record/sign.h"
#include "store/blob.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 8

static void need(enum loam_status s, const struct err *e) {
    if (s) {
        fprintf(stderr, "seed_calls: %s\n", e->text);
        exit(1);
    }
}

static void put(struct store *st, enum store_table t, const void *key, size_t klen, json_t *o) {
    struct store_batch *b;
    struct err e;
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!text) {
        fprintf(stderr, "seed_calls: no memory\n");
        exit(1);
    }
    need(store_batch_new(&b, &e), &e);
    need(store_batch_put(b, t, key, klen, text, strlen(text), &e), &e);
    need(store_commit(st, b, &e), &e);
    free(text);
    json_decref(o);
}

static int attest(char **argv) {
    struct err e;
    uint8_t secret[32];
    struct addr20 ledger;
    json_t *list = json_array();
    need(hex_decode(secret, 32, argv[2], &e), &e);
    need(addr_parse(&ledger, argv[4], &e), &e);
    struct hash32 domain = st_domain(strtoull(argv[3], NULL, 10), &ledger);
    for (int verdict = VERDICT_VALID; verdict <= VERDICT_INVALID; verdict++) {
        struct st_attestation a = {.validator = strtoull(argv[5], NULL, 10), .batch = strtoull(argv[6], NULL, 10), .verdict = (uint8_t)verdict};
        struct hash32 h = st_hash(ST_Attestation, &a), d = st_digest(&domain, &h);
        struct sig65 sig;
        need(sig_make(&sig, &d, secret, &e), &e);
        json_array_append_new(list, json_pack("{s:o s:o}", "attestation", st_to_json(ST_Attestation, &a), "signature", json_sig(&sig)));
    }
    json_t *o = json_pack("{s:o}", "attestations", list);
    json_dumpf(o, stdout, JSON_INDENT(1));
    json_decref(o);
    return 0;
}

int main(int argc, char **argv) {
    static const int scores[ROWS] = {250, 500, 250, 0, 0, 0, 0, 0};
    struct store *st;
    struct blobs *blobs;
    struct err e;
    struct hash32 rows_blob, root, bundle = hash_of("bundle", 6);
    struct manifest m = {0};
    struct buf b = BUF_INIT(1u << 20);
    char path[4096], hex[HASH_HEX_MAX], salt[HASH_HEX_MAX];
    if (argc == 7 && !strcmp(argv[1], "attest"))
        return attest(argv);
    if (argc != 7) {
        fprintf(stderr, "usage: seed_calls DATA COUNT TRAINER ALICE BOB CAROL\n");
        return 2;
    }
    unsigned long long count = strtoull(argv[2], NULL, 10), trainer = strtoull(argv[3], NULL, 10);
    snprintf(path, sizeof path, "%s/store", argv[1]);
    need(store_open(&st, path, &e), &e);
    snprintf(path, sizeof path, "%s/blobs", argv[1]);
    need(blobs_open(&blobs, path, &e), &e);
    for (int i = 0; i < ROWS; i++) {
        uint8_t n = (uint8_t)i;
        struct hash32 h = hash_of(&n, 1);
        need(buf_printf(&b, &e, "{\"row\":\"%s\",\"account\":%s}\n", hash_hex(hex, &h), argv[i < 2 ? 4 + i : 6]), &e);
    }
    need(blob_put(blobs, &rows_blob, b.data, b.len, &e), &e);
    need(manifest_read(&m, b.data, b.len, &root, &e), &e);
    put(st, TABLE_MODEL, "golden", 6,
        json_pack("{s:s s:i s:I s:o s:o s:o s:i}", "name", "golden", "model", 1, "trainer", (json_int_t)trainer, "bundle_blob", json_hash(&bundle), "rows_blob",
                  json_hash(&rows_blob), "data_root", json_hash(&root), "rows", ROWS));
    for (unsigned long long id = 1; id <= count; id++) {
        uint8_t key[15] = "answer/", id8[8];
        char question[64];
        put_be64(id8, id);
        memcpy(key + 7, id8, 8);
        struct hash32 h = hash_of(id8, 8), seed = hash_of(h.b, 32);
        snprintf(question, sizeof question, "question %llu", id);
        hash_hex(salt, &h);
        put(st, TABLE_CALL, key, sizeof key,
            json_pack("{s:I s:s s:[{s:s s:s}] s:[i i i] s:s s:s s:i s:i s:s s:s s:{s:f s:i s:i s:[]} s:s s:s s:s s:s}", "id", (json_int_t)id, "model", "golden", "messages", "role",
                      "user", "content", question, "output_ids", 11, 12, 13, "text", "an answer", "stop", "end", "tokens_in", 5, "tokens_out", 3, "act", "q8", "arithmetic",
                      id == count ? "fast-bf16" : "arith-1", "sampler", "repeat_penalty", 1.0, "max_tokens", 3, "top_k", 0, "stop", "seed", hash_hex(hex, &seed), "prompt_salt", salt, "output_salt", salt,
                      "privacy", "own"));
        json_t *list = json_array();
        for (int i = 0; i < ROWS; i++)
            json_array_append_new(list, json_sprintf("%d", scores[i]));
        put(st, TABLE_ATTRIBUTION, id8, 8,
            json_pack("{s:I s:s s:o s:o s:[]}", "answer", (json_int_t)id, "method", "fisher", "parameters_hash", json_hash(&bundle), "scores", list, "gradients"));
    }
    buf_clear(&b);
    manifest_clear(&m);
    blobs_close(blobs);
    store_close(st);
    return 0;
}
