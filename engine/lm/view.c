/* A model as the training pass reads it. */
#include "lm/pass.h"

#include "base/mem.h"
#include "lm/model.h"

#include "base/banned.h"

struct view_own {
    struct lm_view v;
    float *table;
    double *freq;
};

enum loam_status lm_view_new(struct lm_view **out, struct lm_model *m, uint32_t positions, struct err *err) {
    const struct lm_config *c = &m->config;
    const struct lm_weights *w;
    *out = NULL;
    for (uint32_t l = 0; l < c->L; l++)
        if (m->layers[l].q_norm.data || m->layers[l].post_attn_norm.data)
            return err_set(err, LOAM_ENOTBUILT, "training %s models (norms of single heads or after a layer)", c->arch);
    if (c->embed_scale != 1.0f || c->rope_base_local != 0 || (c->window && c->window_pattern))
        return err_set(err, LOAM_ENOTBUILT, "training %s models", c->arch);
    enum loam_status s = lm_model_weights(&w, m, err);
    if (s)
        return s;
    struct view_own *o = mem_zalloc(sizeof *o);
    struct lm_view_layer *layer = mem_zarray(c->L, sizeof *layer);
    size_t half = c->D / 2;
    if (o) {
        o->freq = mem_array(half, sizeof *o->freq);
        o->table = mem_array((size_t)positions * half * 2, sizeof(float));
    }
    if (!o || !layer || !o->freq || !o->table) {
        mem_free(layer);
        lm_view_free(o ? &o->v : NULL);
        return err_set(err, LOAM_ENOMEM, "no memory to prepare the model for training");
    }
    for (uint32_t l = 0; l < c->L; l++) {
        const struct lm_layer_weights *f = &w->layers[l];
        layer[l].attn_norm = f->attn_norm;
        layer[l].ffn_norm = f->ffn_norm;
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            layer[l].w[k] = f->w[k];
            layer[l].bias[k] = f->bias[k];
        }
    }
    lm_model_rope(o->freq, m, false);
    float *sin_table = o->table + (size_t)positions * half;
    gpu_rope_table(o->table, sin_table, positions, c->D, o->freq);
    o->v = (struct lm_view){.layers = c->L,
                            .width = c->C,
                            .ffn = c->F,
                            .vocab = c->V,
                            .attn = {c->H, c->G, c->D, lm_attn_scale(c), c->window},
                            .d_rot = c->D,
                            .style = c->rope,
                            .cos_table = o->table,
                            .sin_table = sin_table,
                            .positions = positions,
                            .eps = c->norm_eps,
                            .act = c->gelu ? GPU_GELU_TANH : GPU_SILU,
                            .embed = &w->embed,
                            .head = &w->head,
                            .final_norm = w->out_norm,
                            .layer = layer};
    *out = &o->v;
    return LOAM_OK;
}

void lm_view_free(struct lm_view *v) {
    struct view_own *o = (struct view_own *)v; /* v is its first member */
    if (!o)
        return;
    mem_free((void *)o->v.layer);
    mem_free(o->table);
    mem_free(o->freq);
    mem_free(o);
}
