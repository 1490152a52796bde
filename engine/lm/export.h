/* Models and adapters in the files of other programs: what loam trained must not be locked in.
 *
 * A merged matrix is W + scale · B A, each element computed in fp64 (terms r ascending) from the dequantised W and rounded once.
 * It is another model than base and adapter: recorded answers never come from one (arithmetic.md). So every merged file is
 * opened again and compared, see lm_export_check. */
#ifndef LOAM_LM_EXPORT_H
#define LOAM_LM_EXPORT_H

#include "lm/adapter.h"
#include "lm/model.h"

#include <stdatomic.h>

/* A folder that transformers loads: config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json.
 * m: opened from `from`; a: NULL for the base alone. type: GPU_F32, GPU_F16 or GPU_BF16 for all tensors; rows of q and k get
 * Hugging Face's order. The tokenizer's files are copied where `from` is a folder, and written from the GGUF file's lists
 * otherwise. LOAM_EUNSUPPORTED names what config.json cannot say; LOAM_EEXIST where dir holds a config.json already. */
enum loam_status lm_export_folder(struct lm_model *m, const struct lm_adapter *a, const char *from, const char *dir, uint32_t type,
                                  struct err *err) LOAM_MUST_USE;

/* A GGUF file of base and adapter (NULL: the base alone). From a GGUF file: the adapted matrices in `type` (any of lm_type_parse), all
 * other bytes as they are; memory: the adapted matrices. From a folder: all matrices in `type`, vectors in fp32, tokenizer and chat
 * template in llama.cpp's keys; memory: the size of the result. LOAM_EUNSUPPORTED names what a GGUF file cannot say. */
enum loam_status lm_export_gguf(struct lm_model *m, const struct lm_adapter *a, const char *from, const char *to, uint32_t type,
                                struct err *err) LOAM_MUST_USE;

/* How far the model at `path` is from m with a: both compute a fixed text, act=f32. */
struct lm_export_check {
    uint32_t positions; /* compared, all logits of each */
    uint32_t same;      /* of them with the same highest logit */
    double max, mean;   /* |difference| of logits */
    bool exact;         /* by the fp32 path; false: through the fp16 cache, which adds a noise of its own */
    double clearest;    /* where the highest differ: the larger margin lost, 0 if none */
};
enum loam_status lm_export_check(struct lm_export_check *out, struct lm_model *m, const struct lm_adapter *a, const char *path, unsigned threads,
                                 const atomic_int *cancel, struct err *err) LOAM_MUST_USE;

/* Adapters as llama.cpp has them: general.type "adapter", adapter.type "lora", adapter.lora.alpha, and for each adapted matrix
 * NAME.weight.lora_a [R × in], NAME.weight.lora_b [out × R] in fp32, rows of q and k in the order of GGUF files (permuted for
 * llama). It knows no rsLoRA: then alpha is written so that alpha / R is the scale. The file is read back and compared. */
enum loam_status lm_gguf_adapter_export(const struct lm_adapter *a, struct lm_model *m, const char *path, struct err *err) LOAM_MUST_USE;
/* Reads one: F32, F16 or BF16. Ranks may differ between matrices: the adapter gets the largest. LOAM_EUNSUPPORTED names another kind of
 * file, another architecture, and every tensor that has no place here. */
enum loam_status lm_gguf_adapter_import(struct lm_adapter **out, struct lm_model *m, const char *path, struct err *err) LOAM_MUST_USE;

#endif
