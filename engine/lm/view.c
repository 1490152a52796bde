/* A model as the training pass reads it. */
#include "lm/pass.h"

#include "base/mem.h"
#include "lm/model.h"

#include "base/banned.h"

struct view_own {
    struct lm_view v;
    float *table, *local; /* RoPE: cosines, then sines; of sliding layers with a base of their own, or NULL */
    double *freq;
};

/* cos [positions][D/2], then sin. */
static float *rope_table(struct lm_model *m, double *freq, uint32_t positions, bool local) {
    size_t half = m->config.D / 2;
    float *t = mem_array((size_t)positions * half * 2, sizeof *t);
    if (t) {
        lm_model_rope(freq, m, local);
        gpu_rope_table(t, t + (size_t)positions * half, positions, m->config.D, freq);
    }
    return t;
}

enum loam_status lm_view_new(struct lm_view **out, struct lm_model *m, uint32_t positions, struct err *err) {
    const struct lm_config *c = &m->config;
    const struct lm_weights *w;
    *out = NULL;
    enum loam_status s = lm_model_weights(&w, m, err);
    if (s)
        return s;
    struct view_own *o = mem_zalloc(sizeof *o);
    struct lm_view_layer *layer = mem_zarray(c->L, sizeof *layer);
    size_t half = c->D / 2;
    if (o) {
        o->freq = mem_array(half, sizeof *o->freq);
        if (o->freq) {
            o->table = rope_table(m, o->freq, positions, false);
            o->local = c->rope_base_local != 0 ? rope_table(m, o->freq, positions, true) : NULL;
        }
    }
    if (!o || !layer || !o->freq || !o->table || (c->rope_base_local != 0 && !o->local)) {
        mem_free(layer);
        lm_view_free(o ? &o->v : NULL);
        return err_set(err, LOAM_ENOMEM, "no memory to prepare the model for training");
    }
    for (uint32_t l = 0; l < c->L; l++) {
        const struct lm_layer_weights *f = &w->layers[l];
        layer[l].attn_norm = f->attn_norm;
        layer[l].ffn_norm = f->ffn_norm;
        layer[l].q_norm = f->q_norm;
        layer[l].k_norm = f->k_norm;
        layer[l].post_attn_norm = f->post_attn_norm;
        layer[l].post_ffn_norm = f->post_ffn_norm;
        bool sliding = c->window && !(c->window_pattern && (l + 1) % c->window_pattern == 0);
        layer[l].window = sliding ? c->window : 0;
        layer[l].cos_table = sliding && o->local ? o->local : o->table;
        layer[l].sin_table = layer[l].cos_table + (size_t)positions * half;
        for (uint32_t k = 0; k < LM_LINEARS; k++) {
            layer[l].w[k] = f->w[k];
            layer[l].bias[k] = f->bias[k];
        }
    }
    o->v = (struct lm_view){.layers = c->L,
                            .width = c->C,
                            .ffn = c->F,
                            .vocab = c->V,
                            .attn = {c->H, c->G, c->D, lm_attn_scale(c), 0},
                            .d_rot = c->D,
                            .style = c->rope,
                            .positions = positions,
                            .eps = c->norm_eps,
                            .embed_scale = c->embed_scale,
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
    mem_free(o->local);
    mem_free(o->freq);
    mem_free(o);
}
