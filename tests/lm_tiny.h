/* A small random model as a GGUF file, for tests that need a model and none that anybody trained. */
#ifndef LOAM_TESTS_LM_TINY_H
#define LOAM_TESTS_LM_TINY_H

#include "base/mem.h"
#include "base/text.h"
#include "gpu/ops.h"
#include "lm/gguf.h"
#include "lm/philox.h"

#include <stdio.h>
#include <string.h>

struct tiny {
    const char *arch;    /* "llama", "qwen2", "qwen3" */
    uint32_t linear;     /* enum gpu_type of the linears */
    uint32_t embed;      /* of the embedding */
    bool head;           /* a head of its own */
    uint32_t context;
};
#define TINY_Q4_1 ((struct tiny){"llama", GPU_Q4_1, GPU_Q8_0, false, 256})
#define TINY_F16 ((struct tiny){"llama", GPU_F16, GPU_F16, false, 256})

enum { TINY_L = 2, TINY_C = 64, TINY_H = 4, TINY_G = 2, TINY_D = 16, TINY_F = 96, TINY_V = 288 };

#define TINY_TEMPLATE                                                                                              \
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" \
    "You are tiny.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}" \
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

/* Vocabulary: 0 <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>, 256 bytes, then the results of 29 merges. */
static const char *const tiny_merges[29] = {"Ġ t", "h e", "i n", "Ġt he", "Ġ a", "r e", "o n", "a t", "e n", "Ġ w",
                                            "e r", "o u", "Ġ i", "in g", "i s", "Ġ c", "a l", "o r", "Ġ b", "l l",
                                            "Ġi s", "Ġ o", "a n", "u s", "e s", "s y", "t e", "m e", "sy s"};

struct tiny_blob {
    void *p[64];
    int n;
};

static inline enum loam_status tiny_tensor(struct gguf_writer *w, struct tiny_blob *keep, const char *name, uint32_t type, uint64_t rows,
                                           uint64_t cols, float scale, float add, struct err *err) {
    static const uint8_t seed[32] = {7};
    struct philox ph;
    philox_init(&ph, seed, name);
    float *f = mem_array(rows * cols, sizeof *f);
    size_t bytes = rows * gpu_row_bytes(type, cols);
    void *q = mem_alloc(bytes);
    if (!f || !q)
        return LOAM_ENOMEM;
    for (uint64_t i = 0; i < rows * cols; i++) {
        uint32_t b[4];
        philox_block(&ph, i, 0, b);
        f[i] = (2 * philox_unit(b[0]) - 1) * scale + add;
    }
    enum loam_status s = gpu_quantise(q, type, f, rows * cols, err);
    mem_free(f);
    keep->p[keep->n++] = q;
    uint64_t ne[2] = {cols, rows};
    return s ? s : gguf_put_tensor(w, name, type, ne, rows > 1 ? 2 : 1, q, bytes, err);
}

static inline enum loam_status tiny_write(const char *path, struct tiny t, struct err *err) {
    struct gguf_writer *w;
    struct tiny_blob keep = {.n = 0};
    char key[96];
    enum loam_status s = gguf_writer_new(&w, err);
#define DO(call)                                                                                                   \
    do {                                                                                                           \
        if (!s)                                                                                                    \
            s = call;                                                                                              \
    } while (0)
    DO(gguf_put_string(w, "general.architecture", t.arch, err));
    DO(gguf_put_string(w, "general.name", "tiny", err));
    const struct {
        const char *k;
        uint32_t v;
    } u[] = {{"block_count", TINY_L}, {"embedding_length", TINY_C}, {"feed_forward_length", TINY_F}, {"attention.head_count", TINY_H},
             {"attention.head_count_kv", TINY_G}, {"context_length", t.context}};
    for (size_t i = 0; i < sizeof u / sizeof *u; i++) {
        snprintf(key, sizeof key, "%s.%s", t.arch, u[i].k);
        DO(gguf_put_u32(w, key, u[i].v, err));
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", t.arch);
    DO(gguf_put_f32(w, key, 1e-5f, err));
    snprintf(key, sizeof key, "%s.rope.freq_base", t.arch);
    DO(gguf_put_f32(w, key, 10000.0f, err));
    static char bytes[256][4], merged[29][24];
    struct gguf_str pieces[TINY_V] = {{"<|endoftext|>", 13}, {"<|im_start|>", 12}, {"<|im_end|>", 10}}, merges[29];
    int32_t types[TINY_V] = {3, 3, 3};
    uint32_t n = 3, other = 0;
    for (unsigned b = 0; b < 256; b++, n++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        size_t len = utf8_encode((uint8_t *)bytes[b], plain ? b : 256 + other++);
        pieces[n] = (struct gguf_str){bytes[b], len};
        types[n] = 1;
    }
    for (int i = 0; i < 29; i++, n++) {
        const char *cut = strchr(tiny_merges[i], ' ');
        snprintf(merged[i], sizeof merged[i], "%.*s%s", (int)(cut - tiny_merges[i]), tiny_merges[i], cut + 1);
        pieces[n] = (struct gguf_str){merged[i], strlen(merged[i])};
        merges[i] = (struct gguf_str){tiny_merges[i], strlen(tiny_merges[i])};
        types[n] = 1;
    }
    DO(gguf_put_string(w, "tokenizer.ggml.model", "gpt2", err));
    DO(gguf_put_string(w, "tokenizer.ggml.pre", "smollm", err));
    DO(gguf_put_strings(w, "tokenizer.ggml.tokens", pieces, TINY_V, err));
    DO(gguf_put_i32s(w, "tokenizer.ggml.token_type", types, TINY_V, err));
    DO(gguf_put_strings(w, "tokenizer.ggml.merges", merges, 29, err));
    DO(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1, err));
    DO(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2, err));
    DO(gguf_put_string(w, "tokenizer.chat_template", TINY_TEMPLATE, err));
    DO(tiny_tensor(w, &keep, "token_embd.weight", t.embed, TINY_V, TINY_C, 1.0f, 0, err));
    DO(tiny_tensor(w, &keep, "output_norm.weight", GPU_F32, 1, TINY_C, 0.1f, 1, err));
    if (t.head)
        DO(tiny_tensor(w, &keep, "output.weight", t.embed, TINY_V, TINY_C, 0.5f, 0, err));
    const struct {
        const char *name;
        uint32_t rows, cols;
    } lin[] = {{"attn_q", TINY_H * TINY_D, TINY_C}, {"attn_k", TINY_G * TINY_D, TINY_C}, {"attn_v", TINY_G * TINY_D, TINY_C},
               {"attn_output", TINY_C, TINY_H * TINY_D}, {"ffn_gate", TINY_F, TINY_C}, {"ffn_up", TINY_F, TINY_C}, {"ffn_down", TINY_C, TINY_F}};
    for (int l = 0; l < TINY_L; l++) {
        for (int i = 0; i < 7; i++) {
            snprintf(key, sizeof key, "blk.%d.%s.weight", l, lin[i].name);
            DO(tiny_tensor(w, &keep, key, t.linear, lin[i].rows, lin[i].cols, 0.2f, 0, err));
            snprintf(key, sizeof key, "blk.%d.%s.bias", l, lin[i].name);
            if (i < 3 && !strcmp(t.arch, "qwen2"))
                DO(tiny_tensor(w, &keep, key, GPU_F32, 1, lin[i].rows, 0.3f, 0, err));
        }
        static const char *const norms[] = {"attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm"};
        for (int i = 0; i < (strcmp(t.arch, "qwen3") ? 2 : 4); i++) {
            snprintf(key, sizeof key, "blk.%d.%s.weight", l, norms[i]);
            DO(tiny_tensor(w, &keep, key, GPU_F32, 1, i < 2 ? TINY_C : TINY_D, 0.2f, 1, err));
        }
    }
    DO(gguf_write(w, path, err));
#undef DO
    for (int i = 0; i < keep.n; i++)
        mem_free(keep.p[i]);
    gguf_writer_free(w);
    return s;
}

#endif
