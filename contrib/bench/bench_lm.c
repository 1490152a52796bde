/* Inference figures of the model that LOAM_MODEL names (a GGUF file; the goals are SmolLM2-135M's on two cores): decode and
 * prefill in each format, many sequences, many adapters, the time from opening the file to the first token. */
#include "base/clock.h"
#include "base/mem.h"
#include "lm/batch.h"
#include "lm/quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err e;

#define MUST(call)                                                                                                 \
    do {                                                                                                           \
        if (call) {                                                                                                \
            fprintf(stderr, "bench_lm: %s\n", e.text);                                                             \
            exit(1);                                                                                               \
        }                                                                                                          \
    } while (0)

static void figure(const char *name, double v, const char *unit, const char *better, double goal, const char *peer, double peer_value) {
    printf("{\"suite\": \"lm\", \"name\": \"%s\", \"value\": %.2f, \"unit\": \"%s\", \"better\": \"%s\", \"goal\": %g, ", name, v, unit, better, goal);
    if (peer)
        printf("\"peer\": \"%s\", \"peer_value\": %g, ", peer, peer_value);
    else
        printf("\"peer\": null, \"peer_value\": null, ");
    printf("\"command\": \"LOAM_MODEL=FILE contrib/bench/bench_lm\"}\n");
    fflush(stdout);
}

static void tokens(uint32_t *ids, uint32_t n, uint32_t V, uint32_t salt) {
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (uint32_t)(((uint64_t)(i + salt) * 2654435761u >> 7) % V);
}

/* Best of three: the machine is shared. */
static void one_model(const char *path, const char *name, enum lm_act act, double decode_goal, double prefill_goal, const char *peer, double decode_peer, double prefill_peer) {
    struct lm_model *m;
    struct lm_engine *en;
    struct lm_session *s;
    uint32_t ids[512];
    char t[96];
    MUST(lm_model_open(&m, path, &e));
    MUST(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = act}, &e));
    MUST(lm_session_new(&s, en, NULL, 0, &e));
    float *logits = mem_array(m->config.V, sizeof *logits);
    double decode = 0, prefill = 0;
    tokens(ids, 512, m->config.V, 1);
    for (int rep = 0; rep < 3; rep++) {
        lm_session_truncate(s, 0);
        uint64_t t0 = clock_mono_us();
        MUST(lm_step(en, &(struct lm_item){s, ids, 512, false, logits}, 1, NULL, &e));
        double p = 512 / ((double)(clock_mono_us() - t0) * 1e-6);
        lm_session_truncate(s, 16);
        t0 = clock_mono_us();
        for (int i = 0; i < 64; i++)
            MUST(lm_step(en, &(struct lm_item){s, ids + i, 1, false, logits}, 1, NULL, &e));
        double d = 64 / ((double)(clock_mono_us() - t0) * 1e-6);
        decode = d > decode ? d : decode;
        prefill = p > prefill ? p : prefill;
    }
    snprintf(t, sizeof t, "decode %s act=%s, 1 sequence", name, lm_act_name(act));
    figure(t, decode, "tok/s", "more", decode_goal, peer, decode_peer);
    snprintf(t, sizeof t, "weights read at that speed, %s act=%s", name, lm_act_name(act));
    figure(t, decode * (double)m->bytes * 1e-9, "GB/s", "more", 0, NULL, 0);
    snprintf(t, sizeof t, "prefill of 512 %s act=%s", name, lm_act_name(act));
    figure(t, prefill, "tok/s", "more", prefill_goal, peer, prefill_peer);
    mem_free(logits);
    lm_session_free(s);
    lm_engine_free(en);
    lm_model_free(m);
}

/* n sequences decoding together, with no adapter, one for all, or one each. */
static double together(struct lm_model *m, enum lm_act act, uint32_t n, struct lm_adapter *const *ad, uint32_t n_ad) {
    struct lm_engine *en;
    struct lm_session *s[16];
    struct lm_item it[16];
    uint32_t ids[16][32];
    float *logits = mem_array((size_t)m->config.V * n, sizeof *logits);
    double best = 0;
    MUST(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = act}, &e));
    for (uint32_t i = 0; i < n; i++) {
        MUST(lm_session_new(&s[i], en, n_ad ? ad[i % n_ad] : NULL, 0, &e));
        tokens(ids[i], 32, m->config.V, i);
        it[i] = (struct lm_item){s[i], ids[i], 32, false, NULL};
    }
    MUST(lm_step(en, it, n, NULL, &e));
    for (int rep = 0; rep < 3; rep++) {
        uint64_t t0 = clock_mono_us();
        for (int k = 0; k < 16; k++) {
            for (uint32_t i = 0; i < n; i++)
                it[i] = (struct lm_item){s[i], ids[i] + k, 1, false, logits + (size_t)i * m->config.V};
            MUST(lm_step(en, it, n, NULL, &e));
        }
        double v = 16.0 * n / ((double)(clock_mono_us() - t0) * 1e-6);
        best = v > best ? v : best;
    }
    for (uint32_t i = 0; i < n; i++)
        lm_session_free(s[i]);
    lm_engine_free(en);
    mem_free(logits);
    return best;
}

static void many(const char *path, const char *name, enum lm_act act, double goal) {
    struct lm_model *m;
    struct lm_adapter *ad[8];
    struct lm_shape shape;
    uint8_t base[32] = {0};
    char t[96];
    MUST(lm_model_open(&m, path, &e));
    lm_model_shape(&shape, m);
    for (int i = 0; i < 8; i++) {
        uint8_t seed[32] = {(uint8_t)i};
        MUST(lm_adapter_new(&ad[i], &shape, base, 16, 32, false, 0x0f, &e));
        lm_adapter_init(ad[i], seed);
        for (size_t k = 0; k < ad[i]->size; k++)
            ad[i]->data[k] += 0.001f;
    }
    double none = together(m, act, 8, NULL, 0), same = together(m, act, 8, ad, 1), each = together(m, act, 8, ad, 8);
    snprintf(t, sizeof t, "8 sequences %s act=%s, no adapter", name, lm_act_name(act));
    figure(t, none, "tok/s", "more", 0, NULL, 0);
    snprintf(t, sizeof t, "8 sequences %s act=%s, 8 adapters r16 qkvo", name, lm_act_name(act));
    figure(t, each, "tok/s", "more", goal, "llama-server", 49);
    snprintf(t, sizeof t, "the same over one adapter for all, %s", name);
    figure(t, 100 * each / same, "%", "more", 90, NULL, 0);
    snprintf(t, sizeof t, "16 sequences %s act=%s", name, lm_act_name(act));
    figure(t, together(m, act, 16, NULL, 0), "tok/s", "more", act == LM_ACT_F32 ? 550 : 0, act == LM_ACT_F32 ? "llama.cpp" : NULL, 237);
    for (int i = 0; i < 8; i++)
        lm_adapter_free(ad[i]);
    lm_model_free(m);
}

static void first_token(const char *path) {
    double best = 1e9;
    for (int rep = 0; rep < 3; rep++) {
        struct lm_model *m;
        struct lm_engine *en;
        struct lm_session *s;
        uint32_t ids[32];
        uint64_t t0 = clock_mono_us();
        MUST(lm_model_open(&m, path, &e));
        MUST(lm_engine_new(&en, m, &(struct lm_engine_opt){.act = LM_ACT_Q8}, &e));
        MUST(lm_session_new(&s, en, NULL, 0, &e));
        float *logits = mem_array(m->config.V, sizeof *logits);
        tokens(ids, 32, m->config.V, 3);
        MUST(lm_step(en, &(struct lm_item){s, ids, 32, false, logits}, 1, NULL, &e));
        double ms = (double)(clock_mono_us() - t0) * 1e-3;
        best = ms < best ? ms : best;
        mem_free(logits);
        lm_session_free(s);
        lm_engine_free(en);
        lm_model_free(m);
    }
    figure("file to first token, prompt of 32", best, "ms", "less", 150, NULL, 0);
}

int main(void) {
    const char *path = getenv("LOAM_MODEL");
    if (!path) {
        fprintf(stderr, "bench_lm: LOAM_MODEL names no model; nothing measured\n");
        return 0;
    }
    char tmp[96];
    one_model(path, "Q4_1", LM_ACT_Q8, 320, 1500, "llama.cpp", 157, 411);
    one_model(path, "Q4_1", LM_ACT_F32, 30, 0, NULL, 0, 0);
    many(path, "Q4_1", LM_ACT_Q8, 700);
    first_token(path);
    static const struct {
        const char *name;
        uint32_t type, head;
        enum lm_act act;
        double decode, prefill, peer_decode, peer_prefill;
        const char *peer;
    } f[] = {{"Q4_0", GPU_Q4_0, GPU_Q8_0, LM_ACT_Q8, 330, 1500, 181, 501, "ik_llama.cpp"},
             {"Q8_0", GPU_Q8_0, GPU_Q8_0, LM_ACT_Q8, 220, 1000, 122, 438, "ik_llama.cpp"},
             {"F16", GPU_F16, GPU_F16, LM_ACT_F32, 120, 750, 63, 380, "llama.cpp, ik"}};
    snprintf(tmp, sizeof tmp, "/tmp/loam-bench-%ld.gguf", (long)getpid());
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
        MUST(lm_quantize(path, tmp, f[i].type, f[i].head, &e));
        one_model(tmp, f[i].name, f[i].act, f[i].decode, f[i].prefill, f[i].peer, f[i].peer_decode, f[i].peer_prefill);
        if (f[i].type == GPU_F16)
            many(tmp, "F16", LM_ACT_F32, 400);
        unlink(tmp);
    }
    return 0;
}
