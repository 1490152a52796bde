/* Inside of a model: what lm_model_free gives back, and what the readers of file formats share. */
#ifndef LOAM_LM_MODEL_IN_H
#define LOAM_LM_MODEL_IN_H

#include "lm/gguf.h"
#include "lm/model.h"
#include "lm/template.h"

#include <pthread.h>

#define MODEL_LAYERS_MAX 1024u
#define MODEL_WIDTH_MAX 65536u
#define MODEL_FFN_MAX 524288u
#define MODEL_CONTEXT_MAX (1u << 24)

struct lm_model_own {
    struct gguf gguf;
    struct file_map *maps; /* [n_maps] safetensors files */
    size_t n_maps;
    struct st_tensor *tensors; /* [n_tensors], by name */
    size_t n_tensors;
    struct lm_tokenizer *tokenizer;
    struct lm_template *tmpl;
    pthread_mutex_t lock; /* for the two lazy parts below */
    bool hashed;
    struct lm_hashes hashes;
    struct lm_weights *weights;
    void *image;   /* the packed matrices; NULL where they are mapped */
    float *floats; /* vectors as fp32; likewise */
    struct file_map packed; /* image.h: both, mapped */
    char *path, *images;    /* what was opened; folder of packed images, or NULL */
    struct err image_note;  /* why there is no mapped image, or why it was made again */
};

/* A model with nothing in it but its own part. */
enum loam_status model_new(struct lm_model **out, struct err *err);
/* Ranges of the configuration that the engine can run; before layers are allocated. */
enum loam_status model_check_config(const struct lm_config *c, struct err *err);
/* attn_scale from the head size that scores are divided by the root of; YaRN's factor included. After scaling is set. */
void model_attn_scale(struct lm_config *c, double size);
/* Shapes of all tensors against the configuration; fills params, bytes, quantised. */
enum loam_status model_check_tensors(struct lm_model *m, struct err *err);
/* Reads a GGUF file into m. */
enum loam_status model_from_gguf(struct lm_model *m, const char *path, struct err *err);

/* Reads a folder of safetensors into m. */
enum loam_status model_from_folder(struct lm_model *m, const char *dir, struct err *err);
/* The folder's chat template: chat_template.jinja, else what tokenizer_config.json says; nothing is added where there is none. */
enum loam_status model_folder_template(struct buf *out, const char *dir, struct err *err);

#endif
