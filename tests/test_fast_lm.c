/* The fast mode behind engine/lm (lm/fast_session.h): engines of a small random model, with and without biases, and of
 * contrib/models/tiny.gguf on the device against the CPU's referee (act=f32) on the same tokens, by the normalised squared error
 * of all logits; prompts at once, in pieces and after a copied cache, one token at a time (directly and as a graph), batches that
 * mix adapters, all weight formats. With LOAM_GPU_CUDA=cuda or cuda:N (or the emulated device); without, only what is refused. */
#include "tests/test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/philox.h"
#include "lm/session.h"

#include <math.h>
#include <unistd.h>

static struct err e;

enum { L = 2, C = 128, H = 2, G = 1, D = 64, F = 192, V = 704, N = 70, SEQUENCES = 6 };
/* Bounds of the logits' NMSE. One rounding to bf16 is 3e-6, and some thirty follow each other; e4m3 has three bits of fraction
 * (7e-4 a weight), 4 bits of a uniform weight 4e-3. */
#define BF16 4e-4
#define Q8 1e-3
#define F8 2e-2
#define FOUR 1e-1

static void add(struct buf *head, struct buf *data, const char *name, uint32_t rows, uint32_t cols, float scale, float mean) {
    struct philox ph;
    uint8_t seed[32] = {3};
    char shape[40];
    size_t from = data->len;
    philox_init(&ph, seed, name);
    for (uint32_t i = 0; i < rows * cols; i++) {
        uint32_t w[4];
        philox_block(&ph, i, 0, w);
        float x = (2 * philox_unit(w[0]) - 1) * scale + mean;
        OK(buf_add(data, &x, 4, &e));
    }
    snprintf(shape, sizeof shape, rows == 1 ? "[%u]" : "[%u,%u]", rows == 1 ? cols : rows, cols);
    OK(buf_printf(head, &e, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", head->len > 1 ? "," : "", name, shape, from, data->len));
}

static struct lm_model *random_model(bool bias) {
    struct buf head = BUF_INIT(1 << 20), data = BUF_INIT(1 << 23), out = BUF_INIT(1 << 23), tok = BUF_INIT(1 << 24);
    char dir[128], path[1024], config[600];
    const char *src = getenv("srcdir");
    struct lm_model *m;
    struct js_doc doc;
    snprintf(dir, sizeof dir, "/tmp/loam-test-fast-lm-%ld", (long)getpid());
    OK(file_mkdirs(dir, &e));
    snprintf(config, sizeof config,
             "{\"model_type\":\"%s\",\"architectures\":[\"%s\"],\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
             "\"num_key_value_heads\":%d,\"head_dim\":%d,\"vocab_size\":%d,\"max_position_embeddings\":256,\"rms_norm_eps\":1e-6,\"eos_token_id\":2,"
             "\"torch_dtype\":\"float32\",\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false%s}",
             bias ? "qwen2" : "mistral", bias ? "Qwen2ForCausalLM" : "MistralForCausalLM", C, F, L, H, G, D, V, bias ? "" : ",\"sliding_window\":40");
    OK(buf_str(&head, "{", &e));
    add(&head, &data, "model.embed_tokens.weight", V, C, 0.7f, 0);
    add(&head, &data, "model.norm.weight", 1, C, 0.2f, 1);
    add(&head, &data, "lm_head.weight", V, C, 0.3f, 0);
    for (int l = 0; l < L; l++) {
        const struct {
            const char *name;
            uint32_t rows, cols;
        } t[] = {{"self_attn.q_proj", H * D, C}, {"self_attn.k_proj", G * D, C}, {"self_attn.v_proj", G * D, C}, {"self_attn.o_proj", C, H * D}, {"mlp.gate_proj", F, C},
                 {"mlp.up_proj", F, C}, {"mlp.down_proj", C, F}, {"input_layernorm", 1, C}, {"post_attention_layernorm", 1, C}};
        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
            char n[96];
            snprintf(n, sizeof n, "model.layers.%d.%s.weight", l, t[i].name);
            add(&head, &data, n, t[i].rows, t[i].cols, t[i].rows == 1 ? 0.2f : 0.15f, t[i].rows == 1 ? 1 : 0);
            snprintf(n, sizeof n, "model.layers.%d.%s.bias", l, t[i].name);
            if (bias && i < 3)
                add(&head, &data, n, 1, t[i].rows, 0.3f, 0);
        }
    }
    OK(buf_str(&head, "}", &e));
    uint8_t len[8];
    put_le64(len, head.len);
    OK(buf_add(&out, len, 8, &e));
    OK(buf_add(&out, head.data, head.len, &e));
    OK(buf_add(&out, data.data, data.len, &e));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    OK(file_write(path, out.data, out.len, 0600, &e));
    snprintf(path, sizeof path, "%s/config.json", dir);
    OK(file_write(path, config, strlen(config), 0600, &e));
    snprintf(path, sizeof path, "%s/tests/golden/tokenizers.json", src ? src : ".");
    OK(file_read(&tok, path, &e));
    OK(js_parse(&doc, tok.data, tok.len, &e));
    const struct js_val *text = js_get(doc.root->first, "tokenizer");
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    OK(file_write(path, text->s, text->len, 0600, &e));
    js_free(&doc);
    OK(lm_model_open(&m, dir, &e));
    const char *names[] = {"model.safetensors", "config.json", "tokenizer.json"};
    for (int i = 0; i < 3; i++) { /* mapped: may go */
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    buf_clear(&head);
    buf_clear(&data);
    buf_clear(&out);
    buf_clear(&tok);
    return m;
}

static struct lm_adapter *adapter(struct lm_model *m, uint32_t rank, uint32_t targets, uint8_t seed) {
    struct lm_shape shape;
    struct philox p;
    struct lm_adapter *a;
    uint8_t hash[32] = {0}, s[32] = {seed};
    lm_model_shape(&shape, m);
    OK(lm_adapter_new(&a, &shape, hash, rank, (float)rank, false, targets, &e));
    lm_adapter_init(a, s);
    philox_init(&p, s, "test");
    for (uint32_t i = 0; i < a->count; i++)
        for (uint32_t j = 0; j < a->t[i].out * rank; j++) {
            uint32_t w[4];
            philox_block(&p, i, j, w);
            a->t[i].b[j] = (philox_unit(w[0]) - 0.5f) * 0.3f;
        }
    return a;
}

static struct lm_engine *engine(struct lm_model *m, bool fast, enum fast_type weights) {
    struct lm_engine *x;
    const struct lm_engine_opt o = {.act = LM_ACT_F32, .threads = 2, .backend = fast ? getenv("LOAM_GPU_CUDA") : NULL, .kv_bytes_max = 8 << 20, .fast = fast, .weights = weights};
    OK(lm_engine_new(&x, m, &o, &e));
    return x;
}

static double nmse(const float *got, const float *want, size_t n) {
    double d = 0, w = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        w += (double)want[i] * (double)want[i];
    }
    return w > 0 ? d / w : 1;
}
static void below(double x, double bound, const char *what) {
    printf("%s: NMSE %.2g (at most %.2g)\n", what, x, bound);
    if (!(x <= bound))
        fail_msg("%s: NMSE %.3g, at most %.3g", what, x, bound);
}

static uint32_t token(uint32_t i, uint32_t s, uint32_t v) {
    return (i * 31 + s * 97 + 11) % v;
}
static void step(struct lm_engine *x, struct lm_session *s, const uint32_t *t, uint32_t n, float *out, bool all) {
    OK(lm_step(x, &(struct lm_item){s, t, n, all, out}, 1, NULL, &e));
}

/* One sequence: its beginning at once, the rest in a piece and by single tokens; then all again after a cut and from a copy. */
static void sequence(struct lm_engine *x, const struct lm_adapter *a, uint32_t v, float *out) {
    struct lm_session *s, *copy;
    uint32_t ids[N];
    for (uint32_t i = 0; i < N; i++)
        ids[i] = token(i, 0, v);
    OK(lm_session_new(&s, x, a, 0, &e));
    OK(lm_session_new(&copy, x, a, 0, &e));
    step(x, s, ids, 40, out, true);
    step(x, s, ids + 40, 20, out + (size_t)40 * v, true);
    lm_session_truncate(s, 58);
    OK(lm_session_copy(copy, s, 50, &e));
    for (uint32_t i = 58; i < N; i++)
        step(x, s, ids + i, 1, out + (size_t)i * v, false);
    step(x, copy, ids + 50, N - 50, out + (size_t)N * v, true);
    lm_session_free(s);
    lm_session_free(copy);
}

/* Sequences of different lengths and adapters together, prompts and then eight tokens each. out: the last five of each. */
static void mixed(struct lm_engine *x, const struct lm_adapter *const *a, uint32_t v, float *out, bool alone) {
    struct lm_session *s[SEQUENCES];
    for (uint32_t i = 0; i < SEQUENCES; i++)
        OK(lm_session_new(&s[i], x, a[i], 0, &e));
    for (uint32_t turn = 0; turn < 8; turn++) {
        struct lm_item items[SEQUENCES];
        uint32_t ids[SEQUENCES][32];
        for (uint32_t i = 0; i < SEQUENCES; i++) {
            uint32_t n = turn ? 1 : 5 + 3 * i, at = lm_session_length(s[i]);
            for (uint32_t j = 0; j < n; j++)
                ids[i][j] = token(at + j, i, v);
            items[i] = (struct lm_item){s[i], ids[i], n, false, out + ((size_t)(turn < 3 ? 0 : turn - 3) * SEQUENCES + i) * v};
        }
        for (uint32_t i = 0; alone && i < SEQUENCES; i++)
            OK(lm_step(x, &items[i], 1, NULL, &e));
        if (!alone)
            OK(lm_step(x, items, SEQUENCES, NULL, &e));
    }
    for (uint32_t i = 0; i < SEQUENCES; i++)
        lm_session_free(s[i]);
}

static void compare(struct lm_model *m, const char *name, bool formats) {
    uint32_t v = m->config.V, all = (1u << LM_LINEARS) - 1;
    size_t one = (size_t)(2 * N - 50) * v, many = (size_t)5 * SEQUENCES * v;
    float *want = mem_zarray(one, 4), *got = mem_zarray(one, 4), *base = mem_zarray(one, 4);
    float *wants = mem_zarray(many, 4), *gots = mem_zarray(many, 4), *alone = mem_zarray(many, 4);
    struct lm_adapter *x = adapter(m, 4, all, 1), *y = adapter(m, 16, 1u << LM_Q | 1u << LM_V, 2), *z = adapter(m, 8, all, 3);
    const struct lm_adapter *const list[SEQUENCES] = {NULL, x, y, z, x, NULL};
    char what[96];
    struct lm_engine *cpu = engine(m, false, FAST_BF16), *dev = engine(m, true, FAST_BF16);
    struct lm_engine_memory mem;
    lm_engine_memory(&mem, dev);
    assert_true(mem.weights > 0 && mem.work > 0 && mem.kv == 0 && !lm_engine_lost(dev));
    sequence(cpu, NULL, v, base);
    sequence(dev, NULL, v, got);
    snprintf(what, sizeof what, "%s, base", name);
    below(nmse(got, base, one), BF16, what);
    sequence(cpu, x, v, want);
    assert_true(nmse(want, base, one) > 50 * BF16); /* the adapter is seen */
    sequence(dev, x, v, got);
    snprintf(what, sizeof what, "%s, adapter", name);
    below(nmse(got, want, one), BF16, what);
    mixed(cpu, list, v, wants, false);
    mixed(dev, list, v, gots, false);
    snprintf(what, sizeof what, "%s, %d sequences with mixed adapters", name, SEQUENCES);
    below(nmse(gots, wants, many), BF16, what);
    mixed(dev, list, v, alone, true);
    snprintf(what, sizeof what, "%s, the same together and alone", name);
    below(nmse(gots, alone, many), BF16, what);
    mixed(dev, list, v, alone, false);
    assert_memory_equal(alone, gots, many * sizeof *gots); /* graphs of before, the same numbers */
    lm_engine_memory(&mem, dev);
    assert_true(mem.kv > 0 && mem.kv <= mem.kv_max);
    lm_engine_free(dev);
    static const struct {
        enum fast_type type;
        const char *name;
        double bound;
    } types[] = {{FAST_F8, "fp8", F8}, {FAST_Q8, "Q8", Q8}, {FAST_Q4, "4-bit", FOUR}, {FAST_NF4, "NF4", FOUR}};
    for (size_t i = 0; formats && i < sizeof types / sizeof *types; i++) {
        dev = engine(m, true, types[i].type);
        sequence(dev, x, v, got);
        snprintf(what, sizeof what, "%s, weights in %s", name, types[i].name);
        below(nmse(got, want, one), types[i].bound, what);
        lm_engine_free(dev);
    }
    lm_engine_free(cpu);
    lm_adapter_free(x);
    lm_adapter_free(y);
    lm_adapter_free(z);
    mem_free(want), mem_free(got), mem_free(base), mem_free(wants), mem_free(gots), mem_free(alone);
}

static void tiny(void **state) {
    (void)state;
    char path[1024];
    const char *src = getenv("srcdir");
    struct lm_model *m;
    if (!getenv("LOAM_GPU_CUDA"))
        skip();
    snprintf(path, sizeof path, "%s/contrib/models/tiny.gguf", src ? src : ".");
    OK(lm_model_open(&m, path, &e));
    compare(m, "tiny", false);
    lm_model_free(m);
}
static void windowed(void **state) {
    (void)state;
    if (!getenv("LOAM_GPU_CUDA"))
        skip();
    struct lm_model *m = random_model(false);
    compare(m, "mistral", true);
    lm_model_free(m);
}
static void biased(void **state) {
    (void)state;
    if (!getenv("LOAM_GPU_CUDA"))
        skip();
    struct lm_model *m = random_model(true);
    compare(m, "qwen2", false);
    lm_model_free(m);
}

/* What cannot be had is said. */
static void refused(void **state) {
    (void)state;
    struct lm_model *m = random_model(false);
    struct lm_engine *x;
    const char *device = getenv("LOAM_GPU_CUDA");
    assert_int_equal(lm_engine_new(&x, m, &(struct lm_engine_opt){.fast = true}, &e), LOAM_EINVAL);
    assert_non_null(strstr(e.text, "gpu use cuda"));
    assert_int_equal(lm_engine_new(&x, m, &(struct lm_engine_opt){.fast = true, .backend = "cuda:x"}, &e), LOAM_EINVAL);
    m->config.gelu = true;
    assert_int_equal(lm_engine_new(&x, m, &(struct lm_engine_opt){.fast = true, .backend = "cuda"}, &e), LOAM_EUNSUPPORTED);
    assert_non_null(strstr(e.text, "GELU"));
    m->config.gelu = false;
    if (device) {
        assert_int_equal(lm_engine_new(&x, m, &(struct lm_engine_opt){.fast = true, .backend = device, .kv_bytes_max = (uint64_t)1 << 50}, &e), LOAM_ENOMEM);
        assert_non_null(strstr(e.text, "lower model.cache"));
        struct lm_adapter *wide = adapter(m, 65, 1, 1);
        struct lm_session *s;
        x = engine(m, true, FAST_BF16);
        assert_int_equal(lm_session_new(&s, x, wide, 0, &e), LOAM_EUNSUPPORTED);
        lm_engine_free(x);
        lm_adapter_free(wide);
    }
    lm_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refused), cmocka_unit_test(windowed), cmocka_unit_test(biased), cmocka_unit_test(tiny)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
