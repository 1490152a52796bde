/* A language model: configuration, tensors, tokenizer, template and the hashes that name it in statements.
 *
 * A model is read-only after lm_model_open and may be used by any number of threads. Tensors point into the mapped file;
 * they stay valid until lm_model_free.
 *
 * Letters: T tokens, C width, H query heads, G key/value heads, D head size, F ffn width, V vocabulary, L layers. */
#ifndef LOAM_LM_MODEL_H
#define LOAM_LM_MODEL_H

#include "gpu/ops.h"
#include "lm/adapter.h"

#include <stdbool.h>
#include <stdint.h>

/* rows × cols, row-major: row r is cols values (K, the inputs) of the format `type`; rows is the outputs. A vector has
 * rows 1. Absent: data NULL. */
struct lm_tensor {
    const char *name; /* as in the file; owned by the model */
    uint32_t type; /* enum gpu_type: numbers of the GGUF format */
    uint32_t rows, cols;
    const unsigned char *data; /* in the map, not necessarily aligned beyond 32 bytes */
    uint64_t bytes, row_bytes;
};

/* w and bias are indexed by enum lm_linear of adapter.h: q, k, v, o, gate, up, down. */
struct lm_layer {
    struct lm_tensor attn_norm;         /* [C] */
    struct lm_tensor ffn_norm;          /* [C] */
    struct lm_tensor w[LM_LINEARS];     /* q [H·D × C], k v [G·D × C], o [C × H·D], gate up [F × C], down [C × F] */
    struct lm_tensor bias[LM_LINEARS];  /* q k v only (Qwen2); [rows] */
    struct lm_tensor q_norm, k_norm;    /* [D]; Qwen3, Gemma 3 */
    struct lm_tensor post_attn_norm, post_ffn_norm; /* [C]; Gemma 3 */
};

enum lm_rope_scaling { LM_SCALING_NONE, LM_SCALING_LINEAR, LM_SCALING_LLAMA3, LM_SCALING_YARN };

struct lm_config {
    char arch[16]; /* "llama", "qwen2", "qwen3", "gemma3" */
    uint32_t L, C, H, G, D, F, V;
    uint32_t context;      /* positions the model was trained for */
    float norm_eps;
    double rope_base;
    enum gpu_rope_style rope; /* which two elements of a head turn together */
    enum lm_rope_scaling scaling;
    double scaling_factor, scaling_low, scaling_high, scaling_attn; /* Llama 3, YaRN */
    uint32_t scaling_context;
    double rope_base_local;  /* Gemma 3: base of the sliding layers; 0: the same everywhere */
    uint32_t window;         /* sliding window in tokens; 0: none */
    uint32_t window_pattern; /* layer l is global where (l + 1) % pattern == 0; 0: every layer slides where window != 0 */
    bool tied;               /* the head is the embedding */
    bool gelu;               /* gate activation: GELU (tanh form) instead of SiLU */
    bool norm_plus_one;      /* weights of norms are stored as w - 1 */
    float embed_scale;       /* multiplies embeddings; 1: none */
    float attn_scale;        /* scores' factor; 1/sqrt(D) unless the file says otherwise */
};

struct lm_tokenizer;
struct lm_template;

struct lm_hashes {
    uint8_t base[32];      /* configuration and all tensors */
    uint8_t tokenizer[32]; /* kind, pre-tokenizer, pieces, merges, special ids */
    uint8_t tmpl[32];      /* the template's source text */
};

struct lm_model {
    struct lm_config config;
    struct lm_tensor embed;    /* [V × C] */
    struct lm_tensor head;     /* [V × C]; equal to embed where tied */
    struct lm_tensor out_norm; /* [C] */
    struct lm_tensor rope_freqs; /* [D/2] factors that divide the frequencies (Llama 3 GGUF), or absent */
    struct lm_layer *layers;   /* [L] */
    const struct lm_tokenizer *tokenizer;
    const struct lm_template *tmpl;   /* NULL: the file has none; chat then answers LOAM_EUNSUPPORTED */
    char name[128];            /* general.name, cleaned; else the file's name */
    uint64_t params;           /* count of weights, tied head once */
    uint64_t bytes;            /* tensors in the file */
    bool quantised;            /* all linears and the head are quantised: act=q8 is possible */
    struct lm_model_own *own;  /* the map and what else is freed */
};

/* Opens a GGUF file, or a folder with config.json, tokenizer.json and *.safetensors. Every shape is checked against the
 * configuration. LOAM_EPARSE, LOAM_EUNSUPPORTED (architecture, tensor, tokenizer kind, by name), LOAM_ELIMIT, LOAM_EIO,
 * LOAM_ENOMEM. */
enum loam_status lm_model_open(struct lm_model **out, const char *path, struct err *err) LOAM_MUST_USE;
/* The same, with a folder where packed images of models are kept (lm/image.h); NULL: none, weights are packed in memory. Base hashes are
 * then remembered there too: a file that has not changed is not read again to be named. */
enum loam_status lm_model_open_images(struct lm_model **out, const char *path, const char *images, struct err *err) LOAM_MUST_USE;
void lm_model_free(struct lm_model *m);

/* The three hashes; the first call reads all weights (keccak, a fraction of a second for 100 MB), later calls are free.
 * Thread-safe.
 *   base = keccak(header ‖ for each tensor in the order embed, per layer (attn_norm, q, k, v, o, ffn_norm, gate, up, down,
 *          then bias q k v, q_norm, k_norm, post norms where present), out_norm, head where not tied, rope_freqs where
 *          present: u32 type ‖ u32 rows ‖ u32 cols ‖ keccak(bytes)), all integers little-endian; header = "loam.base.1"
 *          and the fields of lm_config in their order (u32, f32 and f64 as stored, text with a u32 length). */
enum loam_status lm_model_hashes(struct lm_hashes *out, struct lm_model *m, struct err *err) LOAM_MUST_USE;

/* What the operations of gpu/ read: matrices packed for the kernels, vectors as fp32. */
struct lm_layer_weights {
    struct gpu_weight w[LM_LINEARS];
    const float *bias[LM_LINEARS];       /* [rows] or NULL */
    const float *attn_norm, *ffn_norm;   /* [C] */
    const float *q_norm, *k_norm;        /* [D] or NULL */
    const float *post_attn_norm, *post_ffn_norm; /* [C] or NULL */
};
struct lm_weights {
    struct gpu_weight embed; /* [V × C] */
    struct gpu_weight head;  /* [V × C]; shares embed's bytes where tied */
    const float *out_norm;   /* [C] */
    struct lm_layer_weights *layers;
    uint64_t bytes;          /* of the packed image */
};
/* The weights, packed at the first call (shared by all engines and trainers of this model; later calls are free).
 * Thread-safe. LOAM_ENOMEM, LOAM_ENONFINITE naming the tensor. *out lives as long as the model. */
enum loam_status lm_model_weights(const struct lm_weights **out, struct lm_model *m, struct err *err) LOAM_MUST_USE;

/* How the weights are held, once lm_model_weights was called: mapped from an image or in memory. Images that were made again or could not
 * be made leave a note, else "". note: room for sizeof(err.text). */
bool lm_model_mapped(const struct lm_model *m, struct err *note);

/* Row r of t as fp32 into out[t->cols], exactly as arith-1 says (one rounding at most a value). r < t->rows. */
void lm_tensor_row(float *out, const struct lm_tensor *t, uint32_t r);
/* The shapes an adapter for this model has. */
void lm_model_shape(struct lm_shape *out, const struct lm_model *m);
/* Frequencies of RoPE after the model's scaling: inv_freq[D/2], for the layers with the local base if `local`. */
void lm_model_rope(double *inv_freq, const struct lm_model *m, bool local);
/* The factor of attention scores as fp32. */
static inline float lm_attn_scale(const struct lm_config *c) {
    return c->attn_scale;
}

#endif
