/* LoRA adapters: for each adapted linear of the base model two fp32 matrices, A [R][in] and B [out][R]. The adapted layer is
 *     y = fma(scale, B h, W x),  h = A x        (arithmetic.md: never merged in a recorded answer)
 * with scale = alpha / R, or alpha / sqrt(R) (rsLoRA), rounded once to fp32. Tensors are named as in GGUF and in the base
 * file's own layout: q and k of Llama files have their rows permuted for interleaved RoPE; PEFT export undoes that.
 *
 * Order of tensors, everywhere (file, hash, gradients, optimiser): layer ascending, then q, k, v, o, gate, up, down.
 *
 * File, little-endian ("LOAMADP1"): 8 magic · u32 version 1 · u32 header length · header · padding to 64 · fp32 data (all
 * tensors, A then B) · 32 keccak of everything before. Header: 32 base hash · u32 rank · u32 flags (1 = rsLoRA) · f32 alpha ·
 * f32 scale · u32 tensors · u32 eot token · u32 0 · then a tensor: u32 layer · u32 kind · u32 in · u32 out.
 * Adapter hash = keccak("loam adapter 1" ‖ header ‖ data): what the Training statement names. */
#ifndef LOAM_LM_ADAPTER_H
#define LOAM_LM_ADAPTER_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum lm_linear { LM_Q, LM_K, LM_V, LM_O, LM_GATE, LM_UP, LM_DOWN, LM_LINEARS };

#define LM_RANK_MAX 256            /* past this LoRA is no longer low rank for the models served */
#define LM_ADAPTER_TENSORS_MAX 2048 /* 7 linears of 292 layers */
#define LM_ADAPTER_BYTES_MAX ((size_t)4 << 30)

struct lm_lora {        /* one adapted linear */
    uint32_t layer;     /* 0 .. L-1 */
    uint32_t kind;      /* enum lm_linear */
    uint32_t in, out;
    float *a;           /* [R][in], into the adapter's data */
    float *b;           /* [out][R], into the adapter's data */
    size_t a_at, b_at;  /* offsets of the two in data, in floats */
};

struct lm_adapter {
    uint8_t base_hash[32]; /* keccak of the base model's file */
    uint32_t rank;         /* R */
    float alpha, scale;
    bool rslora;
    uint32_t eot;          /* token that ends a turn, trained; for serving programs */
    uint32_t count;        /* tensors */
    struct lm_lora *t;     /* [count], ordered as above; owned */
    float *data;           /* [size] all A and B; owned, 64-byte aligned */
    size_t size;           /* floats */
};

/* Shapes of one layer's seven linears (0 = the model has no such linear), to build an adapter for a model. */
struct lm_shape {
    uint32_t layers;
    uint32_t in[LM_LINEARS], out[LM_LINEARS];
};

/* Builds a zeroed adapter. targets: bit (1 << enum lm_linear). LOAM_EINVAL names a rank of 0 or above LM_RANK_MAX and empty
 * targets. Free with lm_adapter_free (NULL is fine). */
enum loam_status lm_adapter_new(struct lm_adapter **out, const struct lm_shape *shape, const uint8_t base_hash[32],
                                uint32_t rank, float alpha, bool rslora, uint32_t targets, struct err *err) LOAM_MUST_USE;
enum loam_status lm_adapter_copy(struct lm_adapter **out, const struct lm_adapter *from, struct err *err) LOAM_MUST_USE;
void lm_adapter_free(struct lm_adapter *a);

/* The start of training: B = 0; A[r][i] of tensor t = (2 u - 1) * fl(1 / sqrt(in)), u = philox_unit of stream "init", index =
 * tensor's position, number r * in + i (block = number / 4, word = number mod 4). Uniform, as PEFT's kaiming with a = sqrt 5. */
void lm_adapter_init(struct lm_adapter *a, const uint8_t seed[32]);

void lm_adapter_hash(uint8_t out[32], const struct lm_adapter *a);
/* Atomic: after a crash the old or the new file stands there. */
enum loam_status lm_adapter_save(const struct lm_adapter *a, const char *path, struct err *err) LOAM_MUST_USE;
/* Checks magic, every size, the checksum (LOAM_EHASH) and that no number is infinite or NaN. */
enum loam_status lm_adapter_load(struct lm_adapter **out, const char *path, struct err *err) LOAM_MUST_USE;
enum loam_status lm_adapter_parse(struct lm_adapter **out, const uint8_t *p, size_t n, struct err *err) LOAM_MUST_USE;
/* LOAM_EINVAL names the first tensor that does not fit the model. */
enum loam_status lm_adapter_fits(const struct lm_adapter *a, const struct lm_shape *shape, struct err *err) LOAM_MUST_USE;

/* The tensor of (layer, kind), or NULL if that linear is not adapted. */
const struct lm_lora *lm_adapter_find(const struct lm_adapter *a, uint32_t layer, uint32_t kind);
/* "attn_q" ... "ffn_down"; and back from a comma list ("q,k,v,o", "all", GGUF names) to a set of bits. */
const char *lm_linear_name(uint32_t kind);
enum loam_status lm_targets_parse(uint32_t *targets, const char *text, struct err *err) LOAM_MUST_USE;

#endif
