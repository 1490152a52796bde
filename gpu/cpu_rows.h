/* Norms, RoPE, activations, loss, optimiser, adapters, attribution. Part of cpu_body.h. Tails of vectors are done by the
 * functions of gpu/arith.h themselves. */

#define CHUNK 8192 /* elements of a task of an elementwise operation */

/* Adds the elements of x into 32 lanes: body(lanes vector, i) for whole vectors; the caller does the tail. */
#define LANE_VECS (32 / W)

INL void lanes_end(const vf *v, float *lanes) {
    for (int i = 0; i < LANE_VECS; i++)
        vf_store(lanes + i * W, v[i]);
}

struct rms_job {
    float *y, *r;
    const float *x, *w, *dy, *r_in;
    uint32_t rows, c, per;
    float eps;
    bool add;
};

static void rmsnorm_task(void *arg, uint32_t task, int thread) {
    const struct rms_job *j = arg;
    uint32_t c = j->c, c32 = c / 32 * 32;
    for (uint32_t t = task * j->per; t < (task + 1) * j->per && t < j->rows; t++) {
        const float *x = j->x + (size_t)t * c;
        float *y = j->y + (size_t)t * c, lanes[32];
        vf v[LANE_VECS];
        for (int k = 0; k < LANE_VECS; k++)
            v[k] = vf_zero();
        for (uint32_t i = 0; i < c32; i += 32)
            for (int k = 0; k < LANE_VECS; k++) {
                vf a = vf_load(x + i + (uint32_t)k * W);
                v[k] = vf_fma(a, a, v[k]);
            }
        lanes_end(v, lanes);
        for (uint32_t i = c32; i < c; i++)
            lanes[i % 32] = arith_fma(x[i], x[i], lanes[i % 32]);
        float r = arith_rms(arith_tree(lanes), c, j->eps);
        uint32_t i = 0;
        for (; i + W <= c; i += W) {
            vf a = vf_mul(vf_load(x + i), vf_set(r));
            vf_store(y + i, j->w ? vf_mul(a, vf_load(j->w + i)) : a);
        }
        for (; i < c; i++)
            y[i] = j->w ? x[i] * r * j->w[i] : x[i] * r;
        if (j->r)
            j->r[t] = r;
    }
}

static uint32_t rows_per_task(uint32_t rows, uint32_t c) {
    uint32_t per = CHUNK / (c ? c : 1);
    return per ? per : 1;
}

static enum loam_status cpu_rmsnorm(struct gpu *g, float *y, float *r, const float *x, const float *w, uint32_t rows,
                                    uint32_t c, float eps, struct err *err) {
    GPU_BEGIN(g);
    struct rms_job j = {.y = y, .r = r, .x = x, .w = w, .rows = rows, .c = c, .per = rows_per_task(rows, c), .eps = eps};
    pool_run(g->pool, (rows + j.per - 1) / j.per, rmsnorm_task, &j);
    return LOAM_OK;
}

static void rmsnorm_dx_task(void *arg, uint32_t task, int thread) {
    const struct rms_job *j = arg;
    uint32_t c = j->c, c32 = c / 32 * 32;
    for (uint32_t t = task * j->per; t < (task + 1) * j->per && t < j->rows; t++) {
        const float *x = j->x + (size_t)t * c, *dy = j->dy + (size_t)t * c, *w = j->w;
        float *dx = j->y + (size_t)t * c, lanes[32], r = j->r_in[t];
        vf v[LANE_VECS];
        for (int k = 0; k < LANE_VECS; k++)
            v[k] = vf_zero();
        for (uint32_t i = 0; i < c32; i += 32)
            for (int k = 0; k < LANE_VECS; k++) {
                uint32_t at = i + (uint32_t)k * W;
                vf d = vf_load(dy + at);
                v[k] = vf_fma(w ? vf_mul(d, vf_load(w + at)) : d, vf_load(x + at), v[k]);
            }
        lanes_end(v, lanes);
        for (uint32_t i = c32; i < c; i++)
            lanes[i % 32] = arith_fma(w ? dy[i] * w[i] : dy[i], x[i], lanes[i % 32]);
        float f = arith_rms_dx_factor(arith_tree(lanes), r, c);
        uint32_t i = 0;
        for (; i + W <= c; i += W) {
            vf d = vf_load(dy + i);
            d = w ? vf_mul(d, vf_load(w + i)) : d;
            vf o = vf_fma(vf_set(-f), vf_load(x + i), vf_mul(d, vf_set(r)));
            vf_store(dx + i, j->add ? vf_add(vf_load(dx + i), o) : o);
        }
        for (; i < c; i++) {
            float o = arith_rms_dx(w ? dy[i] * w[i] : dy[i], x[i], r, f);
            dx[i] = j->add ? dx[i] + o : o;
        }
    }
}

static enum loam_status cpu_rmsnorm_dx(struct gpu *g, float *dx, const float *dy, const float *x, const float *r,
                                       const float *w, uint32_t rows, uint32_t c, bool add, struct err *err) {
    GPU_BEGIN(g);
    struct rms_job j = {.y = dx, .dy = dy, .x = x, .r_in = r, .w = w, .rows = rows, .c = c,
                        .per = rows_per_task(rows, c), .add = add};
    pool_run(g->pool, (rows + j.per - 1) / j.per, rmsnorm_dx_task, &j);
    return LOAM_OK;
}

struct rope_job {
    float *x;
    size_t ldx;
    uint32_t t, heads, d, d_rot, per;
    const float *c, *s;
    const uint32_t *pos;
    enum gpu_rope_style style;
    bool inverse;
};

static void rope_task(void *arg, uint32_t task, int thread) {
    const struct rope_job *j = arg;
    uint32_t half = j->d_rot / 2;
    for (uint32_t t = task * j->per; t < (task + 1) * j->per && t < j->t; t++) {
        const float *ct = j->c + (size_t)j->pos[t] * half, *st = j->s + (size_t)j->pos[t] * half;
        for (uint32_t h = 0; h < j->heads; h++) {
            float *x = j->x + t * j->ldx + (size_t)h * j->d;
            uint32_t i = 0;
            if (j->style == GPU_ROPE_NEOX) {
                for (; i + W <= half; i += W) {
                    vf u = vf_load(x + i), v = vf_load(x + half + i), c = vf_load(ct + i), s = vf_load(st + i);
                    s = j->inverse ? vf_neg(s) : s;
                    vf_store(x + i, vf_fma(u, c, vf_neg(vf_mul(v, s))));
                    vf_store(x + half + i, vf_fma(u, s, vf_mul(v, c)));
                }
            }
            for (; i < half; i++) {
                float *a = x + (j->style == GPU_ROPE_NORM ? 2 * i : i), *b = j->style == GPU_ROPE_NORM ? a + 1 : a + half;
                float u = *a, v = *b, s = j->inverse ? -st[i] : st[i];
                *a = arith_rope_a(u, v, ct[i], s);
                *b = arith_rope_b(u, v, ct[i], s);
            }
        }
    }
}

static enum loam_status cpu_rope(struct gpu *g, float *x, size_t ldx, uint32_t t, uint32_t heads, uint32_t d,
                                 uint32_t d_rot, const float *cos_table, const float *sin_table, const uint32_t *pos,
                                 enum gpu_rope_style style, bool inverse, struct err *err) {
    GPU_BEGIN(g);
    if (d_rot > d || d_rot % 2)
        return err_set(err, LOAM_EINVAL, "RoPE over %u of %u elements", d_rot, d);
    struct rope_job j = {x, ldx, t, heads, d, d_rot, rows_per_task(t, heads * d), cos_table, sin_table, pos, style, inverse};
    pool_run(g->pool, (t + j.per - 1) / j.per, rope_task, &j);
    return LOAM_OK;
}

/* Elementwise operations: a task is a chunk from .. to. */
struct each_job {
    float *y, *y2, *m, *v;
    const float *a, *b, *c;
    size_t n;
    float alpha;
    int kind;
    uint32_t key[2];
    uint64_t index;
    struct arith_adam adam;
    int8_t *q;
};
enum { EACH_ADD, EACH_SCALE, EACH_AXPY, EACH_SILU, EACH_GELU, EACH_DSILU, EACH_DGELU, EACH_DROPOUT, EACH_ADAMW, EACH_POW2 };

INL vf gelu_u(vf g, vf g2) {
    return vf_mul(vf_set(ARITH_GELU_K), vf_fma(vf_mul(vf_set(ARITH_GELU_C), g2), g, g));
}
INL vf vf_gelu(vf g) {
    vf t = vf_tanh(gelu_u(g, vf_mul(g, g)));
    return vf_mul(vf_mul(vf_set(0.5f), g), vf_add(vf_set(1.0f), t));
}
INL vf vf_gelu_d(vf g) {
    vf one = vf_set(1.0f), half = vf_set(0.5f), g2 = vf_mul(g, g), t = vf_tanh(gelu_u(g, g2));
    vf du = vf_mul(vf_set(ARITH_GELU_K), vf_fma(vf_set(3.0f * ARITH_GELU_C), g2, one));
    return vf_fma(vf_mul(vf_mul(half, g), du), vf_fma(vf_neg(t), t, one), vf_mul(half, vf_add(one, t)));
}

static void each_task(void *arg, uint32_t task, int thread) {
    const struct each_job *j = arg;
    size_t i = (size_t)task * CHUNK, n = i + CHUNK < j->n ? i + CHUNK : j->n;
    const float *a = j->a, *b = j->b, *c = j->c;
    float *y = j->y;
    vf alpha = vf_set(j->alpha), one = vf_set(1.0f);
    switch (j->kind) {
    case EACH_ADD:
        for (; i + W <= n; i += W)
            vf_store(y + i, vf_add(vf_load(a + i), vf_load(b + i)));
        for (; i < n; i++)
            y[i] = a[i] + b[i];
        break;
    case EACH_SCALE:
        for (; i + W <= n; i += W)
            vf_store(y + i, vf_mul(alpha, vf_load(a + i)));
        for (; i < n; i++)
            y[i] = j->alpha * a[i];
        break;
    case EACH_AXPY:
        for (; i + W <= n; i += W)
            vf_store(y + i, vf_fma(alpha, vf_load(a + i), vf_load(y + i)));
        for (; i < n; i++)
            y[i] = arith_fma(j->alpha, a[i], y[i]);
        break;
    case EACH_SILU:
        for (; i + W <= n; i += W) {
            vf g = vf_load(a + i);
            vf_store(y + i, vf_mul(vf_mul(g, vf_sigmoid(g)), vf_load(b + i)));
        }
        for (; i < n; i++)
            y[i] = arith_silu(a[i]) * b[i];
        break;
    case EACH_GELU:
        for (; i + W <= n; i += W)
            vf_store(y + i, vf_mul(vf_gelu(vf_load(a + i)), vf_load(b + i)));
        for (; i < n; i++)
            y[i] = arith_gelu(a[i]) * b[i];
        break;
    case EACH_DSILU: /* a gate, b up, c dy */
        for (; i + W <= n; i += W) {
            vf g = vf_load(a + i), u = vf_load(b + i), d = vf_load(c + i), s = vf_sigmoid(g);
            vf ds = vf_mul(s, vf_fma(g, vf_sub(one, s), one));
            vf_store(y + i, vf_mul(vf_mul(d, u), ds));
            vf_store(j->y2 + i, vf_mul(d, vf_mul(g, s)));
        }
        for (; i < n; i++) {
            float g = a[i], u = b[i], d = c[i];
            y[i] = d * u * arith_silu_d(g);
            j->y2[i] = d * arith_silu(g);
        }
        break;
    case EACH_DGELU:
        for (; i + W <= n; i += W) {
            vf g = vf_load(a + i), u = vf_load(b + i), d = vf_load(c + i);
            vf_store(y + i, vf_mul(vf_mul(d, u), vf_gelu_d(g)));
            vf_store(j->y2 + i, vf_mul(d, vf_gelu(g)));
        }
        for (; i < n; i++) {
            float g = a[i], u = b[i], d = c[i];
            y[i] = d * u * arith_gelu_d(g);
            j->y2[i] = d * arith_gelu(g);
        }
        break;
    case EACH_DROPOUT: {
        float inv = 1.0f / (1.0f - j->alpha);
        for (; i < n; i += 4) { /* a chunk is a multiple of 4 */
            uint32_t w[4];
            arith_philox_block(j->key, j->index, (uint32_t)(i / 4), w);
            for (size_t k = i; k < n && k < i + 4; k++)
                y[k] = arith_keep(w[k - i], j->alpha) ? a[k] * inv : 0.0f;
        }
        break;
    }
    case EACH_ADAMW: {
        const struct arith_adam *h = &j->adam;
        vf b1 = vf_set(h->beta1), o1 = vf_set(1.0f - h->beta1), b2 = vf_set(h->beta2), o2 = vf_set(1.0f - h->beta2);
        for (; i + W <= n; i += W) {
            vf g = vf_mul(vf_load(a + i), vf_set(h->g_scale)), p = vf_load(y + i);
            vf m = vf_fma(b1, vf_load(j->m + i), vf_mul(o1, g));
            vf v = vf_fma(b2, vf_load(j->v + i), vf_mul(vf_mul(o2, g), g));
            vf_store(j->m + i, m);
            vf_store(j->v + i, v);
            p = vf_fma(vf_set(-(h->lr * h->decay)), p, p);
            vf den = vf_add(vf_sqrt(vf_div(v, vf_set(h->correct2))), vf_set(h->eps));
            vf_store(y + i, vf_fma(vf_set(-h->lr), vf_div(vf_div(m, vf_set(h->correct1)), den), p));
        }
        for (; i < n; i++)
            arith_adamw(y + i, j->m + i, j->v + i, a[i], h);
        break;
    }
    default: /* EACH_POW2 */
        for (; i + W <= n; i += W) {
            vf x = vf_mul(vf_load(a + i), alpha);
            vi_to_i8(j->q + i, vi_rint(vf_max(vf_min(x, vf_set(127.0f)), vf_set(-127.0f))));
        }
        for (; i < n; i++)
            j->q[i] = (int8_t)arith_q_pow2(a[i], j->alpha);
        break;
    }
}

static enum loam_status each_run(struct gpu *g, struct each_job *j, struct err *err) {
    GPU_BEGIN(g);
    if (j->n > (size_t)CHUNK * UINT32_MAX)
        return err_set(err, LOAM_EINVAL, "%zu elements are too many for one operation", j->n);
    pool_run(g->pool, (uint32_t)((j->n + CHUNK - 1) / CHUNK), each_task, j);
    return LOAM_OK;
}

static enum loam_status cpu_glu(struct gpu *g, float *y, const float *gate, const float *up, size_t n, enum gpu_act act,
                                struct err *err) {
    struct each_job j = {.y = y, .a = gate, .b = up, .n = n, .kind = act == GPU_SILU ? EACH_SILU : EACH_GELU};
    return each_run(g, &j, err);
}
static enum loam_status cpu_glu_dx(struct gpu *g, float *dgate, float *dup, const float *dy, const float *gate,
                                   const float *up, size_t n, enum gpu_act act, struct err *err) {
    struct each_job j = {.y = dgate, .y2 = dup, .a = gate, .b = up, .c = dy, .n = n,
                         .kind = act == GPU_SILU ? EACH_DSILU : EACH_DGELU};
    return each_run(g, &j, err);
}
static enum loam_status cpu_add(struct gpu *g, float *y, const float *a, const float *b, size_t n, struct err *err) {
    struct each_job j = {.y = y, .a = a, .b = b, .n = n, .kind = EACH_ADD};
    return each_run(g, &j, err);
}
static enum loam_status cpu_scale(struct gpu *g, float *y, const float *x, float alpha, size_t n, struct err *err) {
    struct each_job j = {.y = y, .a = x, .alpha = alpha, .n = n, .kind = EACH_SCALE};
    return each_run(g, &j, err);
}
static enum loam_status cpu_axpy(struct gpu *g, float *y, float alpha, const float *x, size_t n, struct err *err) {
    struct each_job j = {.y = y, .a = x, .alpha = alpha, .n = n, .kind = EACH_AXPY};
    return each_run(g, &j, err);
}
static enum loam_status cpu_dropout(struct gpu *g, float *y, const float *x, size_t n, float p, const uint32_t key[2],
                                    uint64_t index, struct err *err) {
    if (!(p >= 0.0f && p < 1.0f) || n >> 34)
        return err_set(err, LOAM_EINVAL, "dropout of %g on %zu elements", (double)p, n);
    struct each_job j = {.y = y, .a = x, .alpha = p, .n = n, .kind = EACH_DROPOUT, .key = {key[0], key[1]}, .index = index};
    return each_run(g, &j, err);
}
static enum loam_status cpu_adamw(struct gpu *g, float *p, float *m, float *v, const float *grad, size_t n,
                                  const struct gpu_adamw *how, struct err *err) {
    struct each_job j = {.y = p, .m = m, .v = v, .a = grad, .n = n, .kind = EACH_ADAMW,
                         .adam = {how->lr, how->beta1, how->beta2, how->eps, how->decay, how->correct1, how->correct2,
                                  how->g_scale}};
    return each_run(g, &j, err);
}
static enum loam_status cpu_quant_pow2(struct gpu *g, int8_t *q, const float *x, size_t n, int e, struct err *err) {
    if (e < -126 || e > 126)
        return err_set(err, LOAM_ERANGE, "scale 2^%d; -126 to 126", e);
    struct each_job j = {.q = q, .a = x, .alpha = arith_float((uint32_t)(127 - e) << 23), .n = n, .kind = EACH_POW2};
    return each_run(g, &j, err);
}

static enum loam_status cpu_add_row(struct gpu *g, float *y, size_t ldy, const float *b, uint32_t t, uint32_t n,
                                    struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < t; i++) {
        float *p = y + i * ldy;
        uint32_t k = 0;
        for (; k + W <= n; k += W)
            vf_store(p + k, vf_add(vf_load(p + k), vf_load(b + k)));
        for (; k < n; k++)
            p[k] = p[k] + b[k];
    }
    return LOAM_OK;
}

struct embed_job {
    float *y;
    size_t ldy;
    const struct gpu_weight *w;
    const uint32_t *ids;
    uint32_t t;
};
static void embed_task(void *arg, uint32_t task, int thread) {
    const struct embed_job *j = arg;
    for (uint32_t i = task * 16; i < task * 16 + 16 && i < j->t; i++)
        pack_row(j->y + i * j->ldy, j->w, j->ids[i]);
}
static enum loam_status cpu_embed(struct gpu *g, float *y, size_t ldy, const struct gpu_weight *w, const uint32_t *ids,
                                  uint32_t t, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t i = 0; i < t; i++)
        if (ids[i] >= w->n)
            return err_set(err, LOAM_ERANGE, "token %u is past the vocabulary of %u", ids[i], w->n);
    struct embed_job j = {y, ldy, w, ids, t};
    pool_run(g->pool, (t + 15) / 16, embed_task, &j);
    return LOAM_OK;
}

/* ---------------------------------------------------------------- adapters of a batch */

struct lora_job {
    struct gpu *g;
    float *y;
    size_t ldy;
    const float *x;
    size_t ldx;
    uint32_t t, per; /* per: tokens of a task */
    const struct gpu_lora *list;
    const int32_t *map;
    size_t rp; /* widest rank, padded */
};

#define LORA_T 4    /* most tokens of a task: their chains hide each other's latency */
#define LORA_N 2048 /* outputs that are added up together: they stay in the first cache */

/* h = A x for up to four tokens, whatever their adapters: lanes are ranks. A is read in order, one line ahead by hand because
 * each adapter's part is short; B, which is wanted next, is asked for meanwhile. */
INL void lora_h(const struct gpu_lora *const *a, const float *const *x, float *const *h, uint32_t k_all) {
    uint32_t widest = 0;
    for (int i = 0; i < LORA_T; i++)
        widest = a[i]->r > widest ? a[i]->r : widest;
    for (uint32_t r = 0; r < widest; r += W) {
        const float *p[LORA_T], *b[LORA_T];
        size_t step[LORA_T], left[LORA_T];
        uint32_t at[LORA_T];
        for (int i = 0; i < LORA_T; i++) {
            step[i] = gpu_lora_pad(a[i]->r);
            at[i] = r < step[i] ? r : 0; /* a smaller rank computes its first lanes again */
            p[i] = a[i]->at + at[i];
            b[i] = a[i]->bt;
            left[i] = r ? 0 : a[i]->r * gpu_lora_pad(a[i]->n) / 16; /* lines */
        }
        vf c0 = vf_zero(), c1 = c0, c2 = c0, c3 = c0;
#define STEP(i)                                                                                                       \
    __builtin_prefetch(p[i] + (k + 12) * step[i]);                                                                    \
    if (k < left[i])                                                                                                  \
        __builtin_prefetch(b[i] + 16 * (size_t)k, 0, 2);                                                              \
    c##i = vf_fma(vf_set(x[i][k]), vf_load(p[i] + k * step[i]), c##i);
        for (uint32_t k = 0; k < k_all; k++) {
            STEP(0)
            STEP(1)
            STEP(2)
            STEP(3)
        }
#undef STEP
        vf_store(h[0] + at[0], c0);
        vf_store(h[1] + at[1], c1);
        vf_store(h[2] + at[2], c2);
        vf_store(h[3] + at[3], c3);
    }
}

/* y = fma(scale, B h, y) for one token. B is read in order, four of its rows at a time; the sums wait in acc. */
INL void lora_y(const struct gpu_lora *a, const float *h, float *y, float *acc) {
    size_t np = gpu_lora_pad(a->n);
    for (size_t from = 0; from < a->n; from += LORA_N) {
        size_t n = a->n - from < LORA_N ? a->n - from : LORA_N, whole = (n + W - 1) / W * W;
        const float *b = a->bt + from;
        uint32_t r = 0;
        for (; r + 4 <= a->r; r += 4, b += 4 * np) {
            vf h0 = vf_set(h[r]), h1 = vf_set(h[r + 1]), h2 = vf_set(h[r + 2]), h3 = vf_set(h[r + 3]);
            for (size_t i = 0; i < whole; i += W) {
                vf c = vf_fma(h0, vf_load(b + i), r ? vf_load(acc + i) : vf_zero());
                c = vf_fma(h1, vf_load(b + np + i), c);
                c = vf_fma(h2, vf_load(b + 2 * np + i), c);
                vf_store(acc + i, vf_fma(h3, vf_load(b + 3 * np + i), c));
            }
        }
        for (; r < a->r; r++, b += np)
            for (size_t i = 0; i < whole; i += W)
                vf_store(acc + i, vf_fma(vf_set(h[r]), vf_load(b + i), r ? vf_load(acc + i) : vf_zero()));
        vf s = vf_set(a->scale);
        size_t i = 0;
        for (; i + W <= n; i += W)
            vf_store(y + from + i, vf_fma(s, vf_load(acc + i), vf_load(y + from + i)));
        for (; i < n; i++)
            y[from + i] = arith_fma(a->scale, acc[i], y[from + i]);
    }
}

static void lora_task(void *arg, uint32_t task, int thread) {
    const struct lora_job *j = arg;
    float *scratch = pool_each(j->g->pool, thread), *acc = scratch + LORA_T * j->rp;
    const struct gpu_lora *a[LORA_T];
    const float *x[LORA_T];
    float *h[LORA_T], *y[LORA_T];
    uint32_t n = 0;
    for (uint32_t t = task * j->per; t < (task + 1) * j->per && t < j->t; t++)
        if (!j->map || j->map[t] >= 0) {
            a[n] = &j->list[j->map ? j->map[t] : 0];
            x[n] = j->x + t * j->ldx;
            h[n] = scratch + n * j->rp;
            y[n++] = j->y + t * j->ldy;
        }
    if (!n)
        return;
    for (uint32_t i = n; i < LORA_T; i++) { /* repeats the last token: same values, written twice */
        a[i] = a[n - 1];
        x[i] = x[n - 1];
        h[i] = h[n - 1];
    }
    lora_h(a, x, h, j->list[0].k);
    for (uint32_t i = 0; i < n; i++)
        lora_y(a[i], h[i], y[i], acc);
}

static enum loam_status cpu_lora(struct gpu *g, float *y, size_t ldy, const float *x, size_t ldx, uint32_t t,
                                 const struct gpu_lora *list, int n_list, const int32_t *map, struct err *err) {
    bool any;
    enum loam_status s = gpu_check_lora(list, n_list, map, t, &any, err);
    if (s || !any)
        return s;
    GPU_BEGIN(g);
    struct lora_job j = {.g = g, .y = y, .ldy = ldy, .x = x, .ldx = ldx, .t = t, .list = list, .map = map};
    for (int i = 0; i < n_list; i++)
        j.rp = gpu_lora_pad(list[i].r) > j.rp ? gpu_lora_pad(list[i].r) : j.rp;
    s = pool_scratch(g->pool, 0, (LORA_T * j.rp + LORA_N) * sizeof(float), err);
    if (s)
        return s;
    j.per = (t + (uint32_t)g->threads - 1) / (uint32_t)g->threads;
    j.per = j.per > LORA_T ? LORA_T : j.per;
    pool_run(g->pool, (t + j.per - 1) / j.per, lora_task, &j);
    return LOAM_OK;
}

/* ---------------------------------------------------------------- loss */

struct xent_job {
    float *nll, *logits;
    size_t ld;
    uint32_t v;
    const uint32_t *target;
    bool grad;
};

static void xent_task(void *arg, uint32_t t, int thread) {
    const struct xent_job *j = arg;
    float *x = j->logits + t * j->ld, part[W], m = x[0], lanes[32];
    uint32_t v = j->v, v32 = v / 32 * 32, i = 0;
    vf big = vf_set(x[0]);
    for (; i + W <= v; i += W)
        big = vf_max(vf_load(x + i), big);
    vf_store(part, big);
    for (int k = 0; k < W; k++)
        m = part[k] > m ? part[k] : m;
    for (; i < v; i++)
        m = x[i] > m ? x[i] : m;
    vf vm = vf_set(m), sum[LANE_VECS];
    for (int k = 0; k < LANE_VECS; k++)
        sum[k] = vf_zero();
    float hit = x[j->target[t]];
    for (i = 0; i < v32; i += 32)
        for (int k = 0; k < LANE_VECS; k++) {
            float *p = x + i + (uint32_t)k * W;
            vf e = vf_exp(vf_sub(vf_load(p), vm));
            sum[k] = vf_add(sum[k], e);
            if (j->grad)
                vf_store(p, e);
        }
    lanes_end(sum, lanes);
    for (i = v32; i < v; i++) {
        float e = arith_exp(x[i] - m);
        lanes[i % 32] = lanes[i % 32] + e;
        if (j->grad)
            x[i] = e;
    }
    float s = arith_tree(lanes), inv = 1.0f / s;
    j->nll[t] = arith_log(s) - (hit - m);
    if (!j->grad)
        return;
    for (i = 0; i + W <= v; i += W)
        vf_store(x + i, vf_mul(vf_load(x + i), vf_set(inv)));
    for (; i < v; i++)
        x[i] = x[i] * inv;
    x[j->target[t]] = x[j->target[t]] - 1.0f;
}

static enum loam_status cpu_xent(struct gpu *g, float *nll, float *logits, size_t ld, uint32_t rows, uint32_t v,
                                 const uint32_t *target, bool grad, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t t = 0; t < rows; t++)
        if (target[t] >= v)
            return err_set(err, LOAM_ERANGE, "target %u is past the vocabulary of %u", target[t], v);
    struct xent_job j = {nll, logits, ld, v, target, grad};
    pool_run(g->pool, rows, xent_task, &j);
    return LOAM_OK;
}

/* ---------------------------------------------------------------- sums over whole arrays: one thread, memory speed */

static enum loam_status cpu_sumsq(struct gpu *g, float *out, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    float lanes[32];
    vf v[LANE_VECS];
    for (int k = 0; k < LANE_VECS; k++)
        v[k] = vf_zero();
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int k = 0; k < LANE_VECS; k++) {
            vf a = vf_load(x + i + (size_t)k * W);
            v[k] = vf_fma(a, a, v[k]);
        }
    lanes_end(v, lanes);
    for (; i < n; i++)
        lanes[i % 32] = arith_fma(x[i], x[i], lanes[i % 32]);
    *out = arith_tree(lanes);
    return LOAM_OK;
}

static enum loam_status cpu_absmax(struct gpu *g, float *out, const float *x, size_t n, struct err *err) {
    GPU_BEGIN(g);
    float part[W], big = 0.0f;
    vf v = vf_zero();
    size_t i = 0;
    for (; i + W <= n; i += W)
        v = vf_max(vf_abs(vf_load(x + i)), v);
    vf_store(part, v);
    for (int k = 0; k < W; k++)
        big = part[k] > big ? part[k] : big;
    for (; i < n; i++)
        big = fabsf(x[i]) > big ? fabsf(x[i]) : big;
    *out = big;
    return LOAM_OK;
}

static enum loam_status cpu_finite(struct gpu *g, const float *x, size_t n, const char *what, struct err *err) {
    GPU_BEGIN(g);
    size_t i = 0;
    vf v = vf_zero(); /* x * 0 is 0 for every finite x, and NaN for the others */
    for (; i + W <= n; i += W)
        v = vf_fma(vf_load(x + i), vf_zero(), v);
    float part[W], bad = 0.0f;
    vf_store(part, v);
    for (int k = 0; k < W; k++)
        bad += part[k];
    for (; i < n; i++)
        bad = arith_fma(x[i], 0.0f, bad);
    return isnan(bad) ? ref_finite(g, x, n, what, err) : LOAM_OK;
}

/* ---------------------------------------------------------------- attribution */

#define DOT_STEP ((size_t)1 << 16) /* |sum| <= 2^16 * 127^2 < 2^31: int32 is exact over a step */

INL int64_t dot_i8(const int8_t *a, const int8_t *b, size_t len) {
    int64_t total = 0;
    for (size_t at = 0; at < len; at += DOT_STEP) {
        size_t n = len - at < DOT_STEP ? len - at : DOT_STEP, i = 0;
        int32_t sum = 0;
#if defined(SIMD_AVX512)
        __m512i s0 = _mm512_setzero_si512(), s1 = s0;
        for (; i + 64 <= n; i += 64) { /* 16-bit products of signed bytes */
            __m512i x = _mm512_loadu_si512(a + at + i), y = _mm512_loadu_si512(b + at + i);
            s0 = _mm512_dpwssd_epi32(s0, _mm512_cvtepi8_epi16(_mm512_castsi512_si256(x)),
                                     _mm512_cvtepi8_epi16(_mm512_castsi512_si256(y)));
            s1 = _mm512_dpwssd_epi32(s1, _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(x, 1)),
                                     _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(y, 1)));
        }
        sum = _mm512_reduce_add_epi32(_mm512_add_epi32(s0, s1));
#elif defined(SIMD_AVX2)
        __m256i s0 = _mm256_setzero_si256(), s1 = s0;
        for (; i + 32 <= n; i += 32) {
            __m256i x0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + at + i)));
            __m256i x1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + at + i + 16)));
            __m256i y0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + at + i)));
            __m256i y1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + at + i + 16)));
            s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(x0, y0));
            s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(x1, y1));
        }
        int32_t part[8];
        _mm256_storeu_si256((__m256i *)part, _mm256_add_epi32(s0, s1));
        for (int k = 0; k < 8; k++)
            sum += part[k];
#elif defined(SIMD_NEON)
        int32x4_t s0 = vdupq_n_s32(0);
        for (; i + 16 <= n; i += 16)
            s0 = q8_dot(s0, vld1q_s8(a + at + i), vld1q_s8(b + at + i));
        sum = vaddvq_s32(s0);
#endif
        for (; i < n; i++)
            sum += a[at + i] * b[at + i];
        total += sum;
    }
    return total;
}

struct dot_job {
    int64_t *out;
    size_t ldo, ldr, ldq, len;
    const int8_t *rows, *q;
    uint32_t n_rows, n_q, per;
};

static void dot_task(void *arg, uint32_t task, int thread) {
    const struct dot_job *j = arg;
    uint32_t from = task * j->per, to = from + j->per < j->n_rows ? from + j->per : j->n_rows;
    for (uint32_t i = from; i < to; i++)
        for (uint32_t k = 0; k < j->n_q; k++)
            j->out[i * j->ldo + k] += dot_i8(j->rows + i * j->ldr, j->q + k * j->ldq, j->len);
}

static enum loam_status cpu_dot_i8(struct gpu *g, int64_t *out, size_t ldo, const int8_t *rows, size_t ldr, uint32_t n_rows,
                                   const int8_t *q, size_t ldq, uint32_t n_q, size_t len, struct err *err) {
    GPU_BEGIN(g);
    uint64_t row = (uint64_t)len * n_q + 1;
    struct dot_job j = {out, ldo, ldr, ldq, len, rows, q, n_rows, n_q, (uint32_t)(((uint64_t)1 << 20) / row) + 1};
    pool_run(g->pool, (n_rows + j.per - 1) / j.per, dot_task, &j);
    return LOAM_OK;
}

struct f64_job {
    double *out;
    size_t ldo, ldm, ldx, len;
    const double *m;
    const int8_t *x;
    uint32_t n, k;
};

#define F64_COLS 64 /* columns of a task's strip; the converted strip of x stays in the first caches */

static void f64_task(void *arg, uint32_t task, int thread) {
    const struct f64_job *j = arg;
    size_t p0 = (size_t)task * F64_COLS, cols = j->len - p0 < F64_COLS ? j->len - p0 : F64_COLS;
    for (uint32_t i0 = 0; i0 < j->n; i0 += 4) {
        double acc[4][F64_COLS];
        uint32_t rows = j->n - i0 < 4 ? j->n - i0 : 4;
        memset(acc, 0, sizeof acc);
        for (size_t c0 = 0; c0 < cols; c0 += 16) {
            size_t n = cols - c0 < 16 ? cols - c0 : 16;
#if defined(SIMD_AVX512) || defined(SIMD_AVX2)
            if (n == 16 && rows == 4) {
#if defined(SIMD_AVX512)
#define VD __m512d
#define VD_N 8
#define VD_SET _mm512_set1_pd
#define VD_FMA _mm512_fmadd_pd
#define VD_LOAD(p) _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define VD_STORE _mm512_storeu_pd
#define VD_ZERO _mm512_setzero_pd
#else
#define VD __m256d
#define VD_N 4
#define VD_SET _mm256_set1_pd
#define VD_FMA _mm256_fmadd_pd
#define VD_LOAD(p) _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_loadu_si32(p)))
#define VD_STORE _mm256_storeu_pd
#define VD_ZERO _mm256_setzero_pd
#endif
                for (size_t c = 0; c < 16; c += 2 * VD_N) {
                    VD a0 = VD_ZERO(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
                    const int8_t *x = j->x + p0 + c0 + c;
                    const double *m = j->m + i0 * j->ldm;
                    for (uint32_t k = 0; k < j->k; k++, x += j->ldx, m++) {
                        VD u = VD_LOAD(x), v = VD_LOAD(x + VD_N);
                        VD s = VD_SET(m[0]);
                        a0 = VD_FMA(s, u, a0);
                        b0 = VD_FMA(s, v, b0);
                        s = VD_SET(m[j->ldm]);
                        a1 = VD_FMA(s, u, a1);
                        b1 = VD_FMA(s, v, b1);
                        s = VD_SET(m[2 * j->ldm]);
                        a2 = VD_FMA(s, u, a2);
                        b2 = VD_FMA(s, v, b2);
                        s = VD_SET(m[3 * j->ldm]);
                        a3 = VD_FMA(s, u, a3);
                        b3 = VD_FMA(s, v, b3);
                    }
                    VD_STORE(&acc[0][c0 + c], a0);
                    VD_STORE(&acc[1][c0 + c], a1);
                    VD_STORE(&acc[2][c0 + c], a2);
                    VD_STORE(&acc[3][c0 + c], a3);
                    VD_STORE(&acc[0][c0 + c + VD_N], b0);
                    VD_STORE(&acc[1][c0 + c + VD_N], b1);
                    VD_STORE(&acc[2][c0 + c + VD_N], b2);
                    VD_STORE(&acc[3][c0 + c + VD_N], b3);
                }
                continue;
            }
#endif
            for (uint32_t k = 0; k < j->k; k++)
                for (uint32_t r = 0; r < rows; r++) {
                    double s = j->m[(i0 + r) * j->ldm + k];
                    for (size_t c = 0; c < n; c++)
                        acc[r][c0 + c] = arith_fma64(s, (double)j->x[k * j->ldx + p0 + c0 + c], acc[r][c0 + c]);
                }
        }
        for (uint32_t r = 0; r < rows; r++)
            memcpy(j->out + (i0 + r) * j->ldo + p0, acc[r], cols * sizeof(double));
    }
}

static enum loam_status cpu_gemm_f64i8(struct gpu *g, double *out, size_t ldo, const double *m, size_t ldm, uint32_t n,
                                       uint32_t k, const int8_t *x, size_t ldx, size_t len, struct err *err) {
    GPU_BEGIN(g);
    struct f64_job j = {out, ldo, ldm, ldx, len, m, x, n, k};
    pool_run(g->pool, (uint32_t)((len + F64_COLS - 1) / F64_COLS), f64_task, &j);
    return LOAM_OK;
}
