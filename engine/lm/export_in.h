/* Inside of export: tensors with what an adapter adds, the JSON files of a Hugging Face folder, and a GGUF file from one. */
#ifndef LOAM_LM_EXPORT_IN_H
#define LOAM_LM_EXPORT_IN_H

#include "base/bytes.h"
#include "lm/adapter.h"
#include "lm/model.h"
#include "lm/tokenizer.h"

#define EXPORT_TEXT_MAX ((size_t)256 << 20)

/* config.json. LOAM_EUNSUPPORTED names what it cannot say. */
enum loam_status export_config(struct buf *b, const struct lm_model *m, uint32_t type, struct err *err);
/* tokenizer.json of a tokenizer that came from a GGUF file. */
enum loam_status export_tokenizer(struct buf *b, const struct lm_tokenizer *t, struct err *err);
/* tokenizer_config.json; the chat template is taken from the GGUF file `from`. */
enum loam_status export_tokenizer_config(struct buf *b, const struct lm_model *m, const char *from, struct err *err);
enum loam_status export_generation_config(struct buf *b, const struct lm_tokenizer *t, struct err *err);

/* ---- order of rows ----
 * Rotations of heads turn neighbouring pairs in GGUF files of Llama and halves elsewhere, so rows of q and k stand in another order. */

/* Row of a file in GGUF's order for Llama that holds Hugging Face's row r of a matrix with heads of D rows. */
static inline uint32_t export_gguf_row(uint32_t r, uint32_t D) {
    uint32_t h = r / D, at = r % D;
    return h * D + at % (D / 2) * 2 + at / (D / 2);
}

/* Hugging Face's row of GGUF's row r. */
static inline uint32_t export_hf_row(uint32_t r, uint32_t D) {
    uint32_t h = r / D, at = r % D;
    return h * D + at % 2 * (D / 2) + at / 2;
}

/* A tensor's rows as they leave, with what an adapter adds. */
struct part {
    const struct lm_tensor *t;
    const struct lm_lora *lora;                /* NULL: as it is */
    uint32_t (*turn)(uint32_t r, uint32_t D);  /* row of t, or value of a vector, that leaves as r; NULL: in t's order */
    float add;                                 /* to every value: Gemma's norms */
    char name[96];
};

/* Row r as it leaves into out[t->cols]. work: t->cols doubles, used only with an adapter. A vector keeps its order. */
void export_row(float *out, const struct part *p, uint32_t r, const struct lm_adapter *a, uint32_t D, double *work);

/* ---- GGUF from a folder (export_gguf.c) ---- */

/* The model of the folder `from` with a (NULL: alone) as a GGUF file: configuration, tokenizer, template as llama.cpp's converter writes
 * them, matrices in `type` (embedding and head: head_type; F16 where rows are no whole blocks), vectors in fp32. LOAM_EUNSUPPORTED
 * names what such a file cannot say. Memory: the size of the result. */
enum loam_status export_gguf_of_folder(struct lm_model *m, const struct lm_adapter *a, const char *from, const char *to, uint32_t type,
                                       uint32_t head_type, struct err *err);

/* Two ids that are merged; order: the earlier the lower. */
struct export_pair {
    uint32_t left, right;
    uint64_t order;
};
/* The merges of a byte-level or Hugging Face tokenizer by rank; *out is the caller's. */
enum loam_status export_merges(struct export_pair **out, size_t *n, const struct lm_tokenizer *t, struct err *err);

#endif
