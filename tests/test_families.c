/* Training every family of models that can be opened: windows, biases, norms of heads and after halves, local RoPE, GELU. For a
 * small random model of each: gradients against finite differences and against PyTorch (tests/golden/families.txt, made by
 * contrib/models/golden_families.py), the same bits for any backend, threads, packing and recomputation, and the logits of
 * a session with act=f32 against training's forward on the same tokens.
 * With LOAM_FAMILIES=FOLDER the models, their adapters (PEFT) and rows are left there for the script. */
#include "tests/test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/grad.h"
#include "lm/model.h"
#include "lm/pass.h"
#include "lm/peft.h"
#include "lm/philox.h"
#include "lm/session.h"

#include <math.h>
#include <unistd.h>

static struct err e;

enum { L = 3, C = 32, H = 2, G = 1, D = 16, F = 48, V = 700, ROWS = 3, RANK = 4 };

#define COMMON                                                                                                         \
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":3,\"num_attention_heads\":2,\"num_key_value_heads\":1,"   \
    "\"head_dim\":16,\"vocab_size\":700,\"max_position_embeddings\":128,\"rms_norm_eps\":1e-6,\"eos_token_id\":2,\"torch_dtype\":\"float32\","
static const struct family {
    const char *name, *config;
    bool bias, head_norms, gemma, tied;
} families[] = {
    {"mistral", "{\"model_type\":\"mistral\",\"architectures\":[\"MistralForCausalLM\"]," COMMON
                "\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false,\"sliding_window\":6}", false, false, false, false},
    {"qwen2", "{\"model_type\":\"qwen2\",\"architectures\":[\"Qwen2ForCausalLM\"]," COMMON
              "\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":true}", true, false, false, true},
    {"qwen3", "{\"model_type\":\"qwen3\",\"architectures\":[\"Qwen3ForCausalLM\"]," COMMON
              "\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":true}", false, true, false, true},
    {"gemma3", "{\"model_type\":\"gemma3_text\",\"architectures\":[\"Gemma3ForCausalLM\"]," COMMON
               "\"hidden_activation\":\"gelu_pytorch_tanh\",\"tie_word_embeddings\":true,\"query_pre_attn_scalar\":24,\"sliding_window\":6,"
               "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"sliding_attention\"],"
               "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1000000.0,\"rope_type\":\"default\"},"
               "\"sliding_attention\":{\"rope_theta\":10000.0,\"rope_type\":\"default\"}}}", false, true, true, true},
};
enum { FAMILIES = sizeof families / sizeof *families };

/* ---------------------------------------------------------------- models */

struct model_file {
    struct buf head, data;
};

static void add(struct model_file *f, const char *name, uint32_t rows, uint32_t cols, float scale, float mean) {
    struct philox ph;
    uint8_t seed[32] = {1};
    philox_init(&ph, seed, name);
    size_t from = f->data.len;
    for (uint32_t i = 0; i < rows * cols; i++) {
        uint32_t w[4];
        philox_block(&ph, i, 0, w);
        float x = (2 * philox_unit(w[0]) - 1) * scale + mean;
        OK(buf_add(&f->data, &x, 4, &e));
    }
    char shape[40];
    if (rows == 1)
        snprintf(shape, sizeof shape, "[%u]", cols);
    else
        snprintf(shape, sizeof shape, "[%u,%u]", rows, cols);
    OK(buf_printf(&f->head, &e, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", f->head.len > 1 ? "," : "", name, shape, from,
                  f->data.len));
}

static void write_model(const char *dir, const struct family *y) {
    struct model_file f = {BUF_INIT(1 << 20), BUF_INIT(1 << 22)};
    struct buf out = BUF_INIT(1 << 23);
    const float mean = y->gemma ? 0 : 1; /* Gemma keeps w - 1 */
    OK(buf_str(&f.head, "{", &e));
    add(&f, "model.embed_tokens.weight", V, C, 0.7f, 0);
    add(&f, "model.norm.weight", 1, C, 0.2f, mean);
    if (!y->tied)
        add(&f, "lm_head.weight", V, C, 0.5f, 0);
    for (int l = 0; l < L; l++) {
        char n[96];
        const struct {
            const char *name;
            uint32_t rows, cols;
            bool there;
        } t[] = {{"self_attn.q_proj", H * D, C, true}, {"self_attn.k_proj", G * D, C, true}, {"self_attn.v_proj", G * D, C, true},
                 {"self_attn.o_proj", C, H * D, true}, {"mlp.gate_proj", F, C, true}, {"mlp.up_proj", F, C, true}, {"mlp.down_proj", C, F, true},
                 {"input_layernorm", 1, C, true}, {"post_attention_layernorm", 1, C, true}, {"pre_feedforward_layernorm", 1, C, y->gemma},
                 {"post_feedforward_layernorm", 1, C, y->gemma}, {"self_attn.q_norm", 1, D, y->head_norms}, {"self_attn.k_norm", 1, D, y->head_norms}};
        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
            snprintf(n, sizeof n, "model.layers.%d.%s.weight", l, t[i].name);
            if (t[i].there)
                add(&f, n, t[i].rows, t[i].cols, t[i].rows == 1 ? 0.2f : 0.35f, t[i].rows == 1 ? mean : 0);
            snprintf(n, sizeof n, "model.layers.%d.%s.bias", l, t[i].name);
            if (i < 3 && y->bias)
                add(&f, n, 1, t[i].rows, 0.3f, 0);
        }
    }
    OK(buf_str(&f.head, "}", &e));
    uint8_t len[8];
    put_le64(len, f.head.len);
    OK(buf_add(&out, len, 8, &e));
    OK(buf_add(&out, f.head.data, f.head.len, &e));
    OK(buf_add(&out, f.data.data, f.data.len, &e));
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    OK(file_write(path, out.data, out.len, 0600, &e));
    snprintf(path, sizeof path, "%s/config.json", dir);
    OK(file_write(path, y->config, strlen(y->config), 0600, &e));
    buf_clear(&f.head);
    buf_clear(&f.data);
    buf_clear(&out);
}

static const struct js_doc *tokenizers(void) {
    static struct js_doc doc;
    if (!doc.root) {
        char path[1024];
        const char *src = getenv("srcdir");
        struct buf b = BUF_INIT(1 << 24);
        snprintf(path, sizeof path, "%s/tests/golden/tokenizers.json", src ? src : ".");
        OK(file_read(&b, path, &e));
        OK(js_parse(&doc, b.data, b.len, &e));
        buf_clear(&b);
    }
    return &doc;
}

struct fixture {
    char dir[128];
    bool keep;
    struct lm_model *m;
    struct lm_data d;
    struct lm_adapter *a;
};

/* Rows share their first tokens, as a template's do; the later half is trained. */
static void rows(struct fixture *x) {
    lm_data_init(&x->d);
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t ids[24], n = 14 + 4 * r;
        uint8_t train[24];
        for (uint32_t i = 0; i < n; i++) {
            ids[i] = i < 4 ? 5 + i : (i * 31 + r * 97 + 11) % V;
            train[i] = i >= n / 2;
        }
        OK(lm_data_add_tokens(&x->d, ids, train, n, r, &e));
    }
}

static void adapter(struct fixture *x) {
    struct lm_shape shape;
    struct lm_hashes hash;
    struct philox p;
    uint8_t seed[32] = {9};
    lm_model_shape(&shape, x->m);
    OK(lm_model_hashes(&hash, x->m, &e));
    OK(lm_adapter_new(&x->a, &shape, hash.base, RANK, 8, false, (1u << LM_LINEARS) - 1, &e));
    lm_adapter_init(x->a, seed);
    philox_init(&p, seed, "test");
    for (uint32_t i = 0; i < x->a->count; i++)
        for (uint32_t j = 0; j < x->a->t[i].out * RANK; j++) {
            uint32_t w[4];
            philox_block(&p, i, j, w);
            x->a->t[i].b[j] = (philox_unit(w[0]) - 0.5f) * 0.1f;
        }
}

static void up(struct fixture *x, const struct family *y) {
    const char *keep = getenv("LOAM_FAMILIES");
    char path[256];
    memset(x, 0, sizeof *x);
    x->keep = keep != NULL;
    if (keep)
        snprintf(x->dir, sizeof x->dir, "%s/%s", keep, y->name);
    else
        snprintf(x->dir, sizeof x->dir, "/tmp/loam-test-families-%ld", (long)getpid());
    OK(file_mkdirs(x->dir, &e));
    write_model(x->dir, y);
    const struct js_val *text = js_get(tokenizers()->root->first, "tokenizer");
    snprintf(path, sizeof path, "%s/tokenizer.json", x->dir);
    OK(file_write(path, text->s, text->len, 0600, &e));
    OK(lm_model_open(&x->m, x->dir, &e));
    rows(x);
    adapter(x);
    if (!keep)
        return;
    struct buf b = BUF_INIT(1 << 16);
    OK(buf_str(&b, "[", &e));
    for (uint32_t r = 0; r < ROWS; r++) {
        OK(buf_printf(&b, &e, "%s{\"from\":%u,\"ids\":[", r ? "," : "", x->d.rows[r].n / 2));
        for (uint32_t i = 0; i < x->d.rows[r].n; i++)
            OK(buf_printf(&b, &e, "%s%u", i ? "," : "", x->d.rows[r].tokens[i]));
        OK(buf_str(&b, "]}", &e));
    }
    OK(buf_str(&b, "]\n", &e));
    snprintf(path, sizeof path, "%s/rows.json", x->dir);
    OK(file_write(path, b.data, b.len, 0600, &e));
    buf_clear(&b);
    snprintf(path, sizeof path, "%s/peft", x->dir);
    OK(lm_peft_export(x->a, x->m, path, y->name, &e));
}

static void down(struct fixture *x) {
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors"};
    char p[256];
    lm_adapter_free(x->a);
    lm_data_clear(&x->d);
    lm_model_free(x->m);
    for (size_t i = 0; !x->keep && i < sizeof names / sizeof *names; i++) {
        snprintf(p, sizeof p, "%s/%s", x->dir, names[i]);
        unlink(p);
    }
    if (!x->keep)
        rmdir(x->dir);
}

/* ---------------------------------------------------------------- gradients */

struct result {
    float *grad;
    double nll[ROWS];
};

static void run_pass(struct result *out, const struct fixture *x, struct gpu *g, uint32_t per_pass, enum lm_keep keep, float dropout) {
    struct lm_view *v;
    struct lm_pass *p;
    const struct lm_example *ex[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        ex[i] = &x->d.rows[i];
    out->grad = mem_zarray(x->a->size, sizeof(float));
    OK(lm_view_new(&v, x->m, x->d.longest, &e));
    OK(lm_pass_new(&p, g, v, x->a, (uint32_t)x->d.tokens, (uint32_t)x->d.targets, true, keep, &e));
    for (uint32_t at = 0; at < ROWS; at += per_pass) {
        uint32_t n = ROWS - at < per_pass ? (uint32_t)ROWS - at : per_pass;
        const struct lm_dropout drop = {dropout, {123, 45}, 100 + at};
        OK(lm_pass_forward(p, ex + at, n, true, &drop, out->nll + at, &e));
        OK(lm_pass_backward(p, out->grad, NULL, at, &e));
    }
    lm_pass_free(p);
    lm_view_free(v);
}

static double loss(const struct fixture *x, struct gpu *g) {
    double nll[ROWS], sum = 0;
    OK(lm_nll_rows(g, x->m, x->a, &x->d, 0, ROWS, 0, nll, &e));
    for (size_t i = 0; i < ROWS; i++)
        sum += nll[i];
    return sum;
}

static double length(const float *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += (double)x[i] * x[i];
    return sqrt(s);
}

static struct gpu *gpu_of(const char *backend, int threads) {
    struct gpu *g = NULL;
    return gpu_open(&g, &(struct gpu_config){backend, threads}, &e) ? NULL : g;
}

static void slopes(void **state) {
    (void)state;
    struct gpu *g = gpu_of(NULL, 1);
    for (size_t k = 0; k < FAMILIES; k++) {
        struct fixture x;
        struct result r;
        double worst = 0;
        up(&x, &families[k]);
        run_pass(&r, &x, g, ROWS, LM_KEEP_ALL, 0);
        for (uint32_t i = 0; i < x.a->count; i++)
            for (int half = 0; half < 2; half++) {
                const struct lm_lora *t = &x.a->t[i];
                size_t at = half ? t->b_at : t->a_at, n = (size_t)RANK * (half ? t->out : t->in);
                double len = length(r.grad + at, n), h = 0.1 / (len > 1 ? len : 1), side[2];
                if (h > 0.03)
                    h = 0.03;
                float *was = mem_dup(x.a->data + at, n * sizeof(float));
                for (int s = 0; s < 2; s++) {
                    for (size_t j = 0; j < n; j++)
                        x.a->data[at + j] = was[j] + (float)((s ? -h : h) * r.grad[at + j] / len);
                    side[s] = loss(&x, g);
                }
                memcpy(x.a->data + at, was, n * sizeof(float));
                mem_free(was);
                double slope = (side[0] - side[1]) / (2 * h), off = fabs(slope - len) / len;
                worst = off > worst ? off : worst;
                if (off > 0.02)
                    fail_msg("%s, layer %u %s %s: slope %g, gradient %g", families[k].name, t->layer, lm_linear_name(t->kind), half ? "B" : "A",
                             slope, len);
            }
        print_message("# %s: worst difference of slope and gradient %.2g of its length\n", families[k].name, worst);
        mem_free(r.grad);
        down(&x);
    }
    gpu_close(g);
}

static void same_bits(void **state) {
    (void)state;
    for (size_t k = 0; k < FAMILIES; k++)
        for (int d = 0; d < 2; d++) {
            struct fixture x;
            struct result first, other;
            float p = d ? 0.25f : 0;
            up(&x, &families[k]);
            struct gpu *g = gpu_of("ref", 1);
            assert_non_null(g);
            run_pass(&first, &x, g, ROWS, LM_KEEP_ALL, p);
            gpu_close(g);
            for (const char *const *b = gpu_backends(); *b; b++)
                for (int w = 0; w < 4 && (g = gpu_of(*b, 1 + w % 2)); w++) {
                    static const uint32_t per[4] = {ROWS, 1, ROWS, ROWS};
                    static const enum lm_keep keep[4] = {LM_KEEP_ALL, LM_KEEP_ALL, LM_KEEP_MOST, LM_KEEP_INPUTS};
                    run_pass(&other, &x, g, per[w], keep[w], p);
                    if (memcmp(first.nll, other.nll, sizeof first.nll) || memcmp(first.grad, other.grad, x.a->size * sizeof(float)))
                        fail_msg("%s on %s, way %d: other bits", families[k].name, *b, w);
                    mem_free(other.grad);
                    gpu_close(g);
                    g = NULL;
                }
            gpu_close(g);
            mem_free(first.grad);
            down(&x);
        }
}

/* ---------------------------------------------------------------- inference and training agree */

static void logits(void **state) {
    (void)state;
    for (size_t k = 0; k < FAMILIES; k++) {
        struct fixture x;
        struct lm_engine *en;
        struct lm_session *s;
        struct lm_view *v;
        struct lm_pass *p;
        double nll[ROWS], worst = 0, largest = 0;
        const struct lm_example *ex[ROWS];
        struct gpu *g = gpu_of(NULL, 1);
        up(&x, &families[k]);
        float *a = mem_array(24 * V, 4), *b = mem_array(V, 4);
        OK(lm_engine_new(&en, x.m, &(struct lm_engine_opt){.act = LM_ACT_F32, .threads = 1}, &e));
        OK(lm_session_new(&s, en, x.a, 0, &e));
        OK(lm_view_new(&v, x.m, x.d.longest, &e));
        OK(lm_pass_new(&p, g, v, x.a, (uint32_t)x.d.tokens, (uint32_t)x.d.targets, false, LM_KEEP_ALL, &e));
        for (uint32_t r = 0; r < ROWS; r++)
            ex[r] = &x.d.rows[r];
        OK(lm_pass_forward(p, ex, ROWS, false, NULL, nll, &e));
        for (uint32_t r = 0; r < ROWS; r++) {
            lm_session_truncate(s, 0);
            OK(lm_step(en, &(struct lm_item){s, ex[r]->tokens, ex[r]->n, true, a}, 1, NULL, &e));
            for (uint32_t t = 0; t < ex[r]->n; t++) {
                OK(lm_pass_logits(p, r, t, b, &e));
                for (uint32_t i = 0; i < V; i++) {
                    double off = fabs((double)a[t * V + i] - b[i]);
                    worst = off > worst ? off : worst;
                    largest = fabs((double)b[i]) > largest ? fabs((double)b[i]) : largest;
                }
            }
        }
        print_message("# %s: session and training differ by %.2g at most (logits to %.1f); keys and values are fp16 in one, fp32 in the other\n",
                      families[k].name, worst, largest);
        assert_true(worst <= 2e-3 * (largest > 1 ? largest : 1));
        lm_pass_free(p);
        lm_view_free(v);
        lm_session_free(s);
        lm_engine_free(en);
        mem_free(a);
        mem_free(b);
        gpu_close(g);
        down(&x);
    }
}

/* ---------------------------------------------------------------- PyTorch */

/* A line a family: "family NAME", ROWS lines of NLL, then a line a tensor: layer kind |dA| |dB| and three numbers of each. */
static void torch(void **state) {
    (void)state;
    char path[512], name[32];
    const char *src = getenv("srcdir");
    snprintf(path, sizeof path, "%s/tests/golden/families.txt", src ? src : ".");
    FILE *f = fopen(path, "r");
    if (!f) {
        print_message("# skipped: %s is not there\n", path);
        skip();
    }
    struct gpu *g = gpu_of(NULL, 1);
    (void)!fscanf(f, "#%*[^\n]");
    for (size_t k = 0; k < FAMILIES; k++) {
        struct fixture x;
        struct result r;
        double worst = 0, worst_nll = 0, want;
        up(&x, &families[k]);
        run_pass(&r, &x, g, ROWS, LM_KEEP_ALL, 0);
        assert_int_equal(fscanf(f, " family %31s", name), 1);
        assert_string_equal(name, families[k].name);
        for (int i = 0; i < ROWS; i++) {
            assert_int_equal(fscanf(f, "%lf", &want), 1);
            double off = fabs(want - r.nll[i]);
            worst_nll = off > worst_nll ? off : worst_nll;
        }
        for (uint32_t i = 0; i < x.a->count; i++) {
            const struct lm_lora *t = &x.a->t[i];
            unsigned layer;
            double len[2], some;
            assert_int_equal(fscanf(f, "%u %31s %lf %lf", &layer, name, &len[0], &len[1]), 4);
            if (layer != t->layer || strcmp(name, lm_linear_name(t->kind)))
                fail_msg("%s, tensor %u is layer %u %s there, layer %u %s here", families[k].name, i, layer, name, t->layer, lm_linear_name(t->kind));
            for (int half = 0; half < 2; half++) {
                size_t at = half ? t->b_at : t->a_at, n = (size_t)RANK * (half ? t->out : t->in);
                double off = fabs(length(r.grad + at, n) - len[half]) / len[half];
                worst = off > worst ? off : worst;
                for (size_t j = 0; j < 3; j++) {
                    assert_int_equal(fscanf(f, "%lf", &some), 1);
                    off = fabs((double)r.grad[at + j * (n - 1) / 2] - some) / len[half];
                    worst = off > worst ? off : worst;
                }
            }
        }
        print_message("# %s: PyTorch's losses within %.2g, gradients within %.2g of their length\n", families[k].name, worst_nll, worst);
        assert_true(worst_nll < 1e-4 && worst < 1e-4);
        mem_free(r.grad);
        down(&x);
    }
    gpu_close(g);
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(slopes), cmocka_unit_test(same_bits), cmocka_unit_test(logits), cmocka_unit_test(torch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
