/* Adapters in the formats of other programs.
 *
 * PEFT: a folder with adapter_config.json and adapter_model.safetensors, keys base_model.model.model.layers.N.MODULE.lora_A.weight
 * [R][in] and lora_B.weight [out][R]. Files in Llama's GGUF layout have the rows of q and k permuted for interleaved RoPE
 * (GGUF row h·D + 2i + s is Hugging Face row h·D + s·D/2 + i): undone on the way out, done on the way in. */
#ifndef LOAM_LM_PEFT_H
#define LOAM_LM_PEFT_H

#include "lm/adapter.h"

struct lm_model;

/* Writes both files into dir (made if missing). base_name: what base_model_name_or_path says. */
enum loam_status lm_peft_export(const struct lm_adapter *a, const struct lm_model *m, const char *dir, const char *base_name,
                                struct err *err) LOAM_MUST_USE;
/* Reads a folder. Numbers F32, F16 or BF16. Ranks and alphas of single modules (rank_pattern, alpha_pattern) are honoured: the
 * adapter gets the largest rank, smaller ones are filled with zeros, and another scale is multiplied into B (one rounding).
 * LOAM_EUNSUPPORTED names what loam has not: DoRA, modules_to_save, trained biases, adapted embeddings, other methods, and
 * every setting that it does not know. The
 * base hash is that of m (m's hashes are computed if they were not). */
enum loam_status lm_peft_import(struct lm_adapter **out, struct lm_model *m, const char *dir, struct err *err) LOAM_MUST_USE;

#endif
