/* Attention. Part of cpu_body.h. Formulas at the end of gpu/arith.h.
 *
 * Training: a task is one sequence and one kv head. Queries are taken in blocks of NR; scores are kept transposed,
 * [position j][NR queries], which is at once a panel of B: scores, outputs and dq are three products of the micro-kernel
 * without any repacking, and the softmax runs with one query a lane. Masked scores are -infinity, so their p is exactly 0;
 * products with them change at most the sign of a zero, which the "+ 0" of arith-1 takes away. */

/* C (rows x NR, NR apart) = or continues A panels x B panel. pa: [panel][k][MR]. */
static void panel_product(float *c, const float *pa, const float *b, size_t rows, size_t k, size_t k_of_a, bool load) {
    for (size_t r = 0; r < rows; r += MR) {
        size_t n = rows - r < MR ? rows - r : MR;
        micros[0][n - 1](2, load, k, pa + r * k_of_a, 1, MR, b, c + r * NR, NR);
    }
}

/* All panels of A (rows x k), a_i between rows, a_p between k. */
static void pack_all(float *dst, const float *a, size_t a_i, size_t a_p, size_t rows, size_t k) {
    for (size_t r = 0; r < rows; r += MR)
        pack_a(dst + r * k, a, a_i, a_p, r, rows, k);
}
#define PANELS(rows) (((rows) + MR - 1) / MR * MR)

/* dst [d][NR]: column i is row i0 + i of x (rows ld apart); columns past n repeat zeros. */
static void fill_queries(float *dst, const float *x, size_t ld, size_t n, size_t d) {
    if (n == NR && d % 8 == 0) {
        for (size_t c = 0; c < d; c += 8)
            for (size_t i = 0; i < NR; i += 8)
                transpose8(dst + c * NR + i, NR, x + i * ld + c, ld, 8);
        return;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < d; c++)
            dst[c * NR + i] = x[i * ld + c];
    for (size_t i = n; i < NR; i++)
        for (size_t c = 0; c < d; c++)
            dst[c * NR + i] = 0.0f;
}

struct attn_job {
    struct gpu *g;
    float *o, *m, *l, *dq, *dk, *dv;
    const float *q, *k, *v, *d_o;
    const struct gpu_attn *a;
    const uint32_t *seg;
    uint32_t n_seg;
};

/* s [j1][NR] holds products for positions from .. j1 - 1 (rows before `from` are not read): scales them and masks what a
 * query does not see. Query i of the block is position i0 + i; nq of them are real. */
static void scores_mask(float *s, const struct gpu_attn *a, size_t i0, size_t from, size_t j1) {
    vf scale = vf_set(a->scale);
    for (size_t j = from; j < j1; j++) {
        float *row = s + j * NR;
        for (int at = 0; at < NR; at += W)
            vf_store(row + at, vf_mul(scale, vf_load(row + at)));
        for (size_t i = 0; i0 + i < j && i < NR; i++) /* queries before j */
            row[i] = -INFINITY;
        if (a->window && i0 + NR > j + a->window)
            for (size_t i = j + a->window > i0 ? j + a->window - i0 : 0; i < NR; i++)
                row[i] = -INFINITY;
    }
}

/* The tree over 32 lanes of vectors; lanes[x * W] is lane x. */
INL vf tree_vec(float *lanes) {
    for (int s = 16; s; s >>= 1)
        for (int i = 0; i < s; i++)
            vf_store(lanes + i * W, vf_add(vf_load(lanes + i * W), vf_load(lanes + (i + s) * W)));
    return vf_load(lanes);
}

static void attn_task(void *arg, uint32_t task, int thread) {
    const struct attn_job *j = arg;
    const struct gpu_attn *a = j->a;
    uint32_t e = task / a->g, kv = task % a->g, group = a->h / a->g, n = j->seg[e + 1] - j->seg[e];
    size_t ldq = (size_t)a->h * a->d, ldk = (size_t)a->g * a->d, d = a->d, base = j->seg[e];
    if (!n)
        return;
    float *pk = pool_each(j->g->pool, thread), *pv = pk + PANELS(n) * d, *s = pv + PANELS(d) * n;
    float *qb = s + ((size_t)n + NR) * NR, *ob = qb + d * NR;
    pack_all(pk, j->k + base * ldk + kv * d, ldk, 1, n, d);
    pack_all(pv, j->v + base * ldk + kv * d, 1, ldk, d, n);
    for (uint32_t h = kv * group; h < (kv + 1) * group; h++)
        for (uint32_t i0 = 0; i0 < n; i0 += NR) {
            uint32_t nq = n - i0 < NR ? n - i0 : NR, j1 = i0 + nq;
            uint32_t from = gpu_attn_from(a, i0) / MR * MR;
            fill_queries(qb, j->q + (base + i0) * ldq + h * d, ldq, nq, d);
            panel_product(s + (size_t)from * NR, pk + from * d, qb, j1 - from, d, d, false);
            scores_mask(s, a, i0, from, j1);
            _Alignas(64) float lanes[32 * W], inv[NR];
            for (int at = 0; at < NR; at += W) {
                vf big = vf_load(s + (size_t)from * NR + at);
                for (uint32_t p = from + 1; p < j1; p++)
                    big = vf_max(vf_load(s + (size_t)p * NR + at), big);
                memset(lanes, 0, sizeof lanes);
                for (uint32_t p = from; p < j1; p++) {
                    vf x = vf_exp(vf_sub(vf_load(s + (size_t)p * NR + at), big));
                    vf_store(s + (size_t)p * NR + at, x);
                    float *lane = lanes + p % 32 * W;
                    vf_store(lane, vf_add(vf_load(lane), x));
                }
                vf sum = tree_vec(lanes);
                vf_store(inv + at, sum);
                float mm[W];
                vf_store(mm, big);
                for (uint32_t i = (uint32_t)at; i < nq && i < (uint32_t)at + W; i++) {
                    j->m[(base + i0 + i) * a->h + h] = mm[i - (uint32_t)at] + 0.0f;
                    j->l[(base + i0 + i) * a->h + h] = inv[i];
                }
            }
            panel_product(ob, pv + (size_t)from * MR, s + (size_t)from * NR, d, j1 - from, n, false);
            for (size_t c = 0; c < d; c++)
                for (int at = 0; at < NR; at += W) {
                    vf x = vf_div(vf_load(ob + c * NR + at), vf_load(inv + at));
                    vf_store(ob + c * NR + at, vf_add(x, vf_zero()));
                }
            for (uint32_t i = 0; i < nq; i++)
                for (size_t c = 0; c < d; c++)
                    j->o[(base + i0 + i) * ldq + h * d + c] = ob[c * NR + i];
        }
}

static uint32_t longest(const uint32_t *seg, uint32_t n_seg) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_seg; i++)
        n = seg[i + 1] - seg[i] > n ? seg[i + 1] - seg[i] : n;
    return n;
}

static enum loam_status cpu_attn(struct gpu *g, float *o, float *m, float *l, const float *q, const float *k,
                                 const float *v, const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg,
                                 struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_attn(a, err);
    if (!st)
        st = gpu_check_seg(seg, n_seg, err);
    if (st)
        return st;
    size_t n = longest(seg, n_seg), d = a->d;
    st = pool_scratch(g->pool, 0, (PANELS(n) * d + PANELS(d) * n + (n + NR) * NR + 2 * PANELS(d) * NR) * sizeof(float), err);
    if (st)
        return st;
    struct attn_job j = {.g = g, .o = o, .m = m, .l = l, .q = q, .k = k, .v = v, .a = a, .seg = seg, .n_seg = n_seg};
    pool_run(g->pool, n_seg * a->g, attn_task, &j);
    return LOAM_OK;
}

static void attn_dx_task(void *arg, uint32_t task, int thread) {
    const struct attn_job *j = arg;
    const struct gpu_attn *a = j->a;
    uint32_t e = task / a->g, kv = task % a->g, group = a->h / a->g, n = j->seg[e + 1] - j->seg[e];
    size_t ldq = (size_t)a->h * a->d, ldk = (size_t)a->g * a->d, d = a->d, base = j->seg[e];
    if (!n)
        return;
    size_t dp = (d + NR - 1) / NR * NR; /* columns of dk and dv in whole panels */
    float *pk = pool_each(j->g->pool, thread), *pkt = pk + PANELS(n) * d, *pv = pkt + PANELS(d) * n;
    float *w = pv + PANELS(n) * d, *z = w + ((size_t)n + MR) * NR;
    float *tp = z + ((size_t)n + MR) * NR, *qb = tp + PANELS(n) * NR, *gb = qb + PANELS(d) * NR;
    float *ob = gb + PANELS(d) * NR, *qr = ob + PANELS(d) * NR, *gr = qr + dp * NR;
    float *dk = gr + dp * NR, *dv = dk + (size_t)n * dp;
    const float *k0 = j->k + base * ldk + kv * d, *v0 = j->v + base * ldk + kv * d;
    pack_all(pk, k0, ldk, 1, n, d);
    pack_all(pkt, k0, 1, ldk, d, n);
    pack_all(pv, v0, ldk, 1, n, d);
    memset(dk, 0, (size_t)n * dp * sizeof *dk);
    memset(dv, 0, (size_t)n * dp * sizeof *dv);
    for (uint32_t h = kv * group; h < (kv + 1) * group; h++)
        for (uint32_t i0 = 0; i0 < n; i0 += NR) {
            uint32_t nq = n - i0 < NR ? n - i0 : NR, j1 = i0 + nq, from = gpu_attn_from(a, i0) / MR * MR;
            const float *q = j->q + (base + i0) * ldq + h * d, *go = j->d_o + (base + i0) * ldq + h * d;
            const float *o = j->o + (base + i0) * ldq + h * d;
            fill_queries(qb, q, ldq, nq, d);
            fill_queries(gb, go, ldq, nq, d);
            panel_product(w + (size_t)from * NR, pk + from * d, qb, j1 - from, d, d, false);
            panel_product(z + (size_t)from * NR, pv + from * d, gb, j1 - from, d, d, false);
            scores_mask(w, a, i0, from, j1);
            float big[NR] = {0}, inv[NR] = {0}, dd[NR] = {0};
            for (uint32_t i = 0; i < nq; i++) {
                float lanes[32] = {0};
                for (size_t c = 0; c < d; c++)
                    lanes[c % 32] = arith_fma(go[i * ldq + c], o[i * ldq + c], lanes[c % 32]);
                dd[i] = arith_tree(lanes);
                big[i] = j->m[(base + i0 + i) * a->h + h];
                inv[i] = 1.0f / j->l[(base + i0 + i) * a->h + h];
            }
            vf scale = vf_set(a->scale);
            for (int at = 0; at < NR; at += W) {
                vf vb = vf_load(big + at), vinv = vf_load(inv + at), vd = vf_load(dd + at);
                for (uint32_t p = from; p < j1; p++) {
                    float *wr = w + (size_t)p * NR + at, *zr = z + (size_t)p * NR + at;
                    vf x = vf_mul(vf_exp(vf_sub(vf_load(wr), vb)), vinv);
                    vf_store(wr, x);
                    vf_store(zr, vf_mul(vf_mul(x, vf_sub(vf_load(zr), vd)), scale));
                }
            }
            panel_product(ob, pkt + (size_t)from * MR, z + (size_t)from * NR, d, j1 - from, n, false);
            for (uint32_t i = 0; i < nq; i++)
                for (size_t c = 0; c < d; c++)
                    j->dq[(base + i0 + i) * ldq + h * d + c] = ob[c * NR + i] + 0.0f;
            /* dk and dv: k of the product is the block's queries, ascending; C continues */
            for (size_t c0 = 0; c0 < dp; c0 += NR)
                for (uint32_t i = 0; i < nq; i++)
                    for (size_t c = 0; c < NR; c++) {
                        qr[c0 * NR + i * NR + c] = c0 + c < d ? q[i * ldq + c0 + c] : 0.0f;
                        gr[c0 * NR + i * NR + c] = c0 + c < d ? go[i * ldq + c0 + c] : 0.0f;
                    }
            for (int which = 0; which < 2; which++) {
                pack_all(tp, (which ? w : z) + (size_t)from * NR, NR, 1, j1 - from, nq);
                for (size_t c0 = 0; c0 < dp; c0 += NR)
                    for (size_t r = 0; r < j1 - from; r += MR) {
                        size_t rows = j1 - from - r < MR ? j1 - from - r : MR;
                        micros[0][rows - 1](2, true, nq, tp + r * nq, 1, MR, (which ? gr : qr) + c0 * NR,
                                         (which ? dv : dk) + (from + r) * dp + c0, dp);
                    }
            }
        }
    for (uint32_t p = 0; p < n; p++)
        for (size_t c = 0; c < d; c++) {
            j->dk[(base + p) * ldk + kv * d + c] = dk[p * dp + c] + 0.0f;
            j->dv[(base + p) * ldk + kv * d + c] = dv[p * dp + c] + 0.0f;
        }
}

static enum loam_status cpu_attn_dx(struct gpu *g, float *dq, float *dk, float *dv, const float *d_o, const float *o,
                                    const float *m, const float *l, const float *q, const float *k, const float *v,
                                    const struct gpu_attn *a, const uint32_t *seg, uint32_t n_seg, struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_attn(a, err);
    if (!st)
        st = gpu_check_seg(seg, n_seg, err);
    if (st)
        return st;
    size_t n = longest(seg, n_seg), d = a->d, dp = (d + NR - 1) / NR * NR;
    size_t each = 2 * PANELS(n) * d + PANELS(d) * n + 2 * (n + MR) * NR + PANELS(n) * NR + 3 * PANELS(d) * NR +
                  2 * dp * NR + 2 * n * dp;
    st = pool_scratch(g->pool, 0, each * sizeof(float), err);
    if (st)
        return st;
    struct attn_job j = {.g = g, .o = (float *)(uintptr_t)o, .m = (float *)(uintptr_t)m, .l = (float *)(uintptr_t)l, .dq = dq,
                         .dk = dk, .dv = dv, .q = q, .k = k, .v = v, .d_o = d_o, .a = a, .seg = seg, .n_seg = n_seg};
    pool_run(g->pool, n_seg * a->g, attn_dx_task, &j);
    return LOAM_OK;
}

/* ---------------------------------------------------------------- over the fp16 cache */

struct kv_job {
    struct gpu *g;
    float *o;
    const float *q, *k, *v;
    size_t ldo, ldq;
    const struct gpu_attn *a;
    const struct gpu_kv_item *items;
    uint32_t n_items;
    uint32_t block; /* tokens of a task */
    size_t stride;  /* floats of a row of scores */
};

static enum loam_status cpu_kv_store(struct gpu *g, const float *k, const float *v, size_t ldkv, const struct gpu_attn *a,
                                     const struct gpu_kv_item *items, uint32_t n_items, struct err *err) {
    GPU_BEGIN(g);
    for (uint32_t n = 0; n < n_items; n++)
        for (uint32_t i = 0; i < items[n].t; i++)
            for (uint32_t h = 0; h < a->g; h++) {
                const float *ks = k + (items[n].row + i) * ldkv + h * a->d, *vs = v + (items[n].row + i) * ldkv + h * a->d;
                uint16_t *kd = gpu_kv_k(a, &items[n], items[n].pos + i, h), *vd = gpu_kv_v(a, &items[n], items[n].pos + i, h);
                uint32_t c = 0;
                for (; c + W <= a->d; c += W) {
                    uint16_t half[W];
                    vf_to_half(half, vf_load(ks + c));
                    for (uint32_t x = 0; x < W; x++)
                        kd[16 * (c + x)] = half[x];
                    vf_to_half(vd + c, vf_load(vs + c));
                }
                for (; c < a->d; c++) {
                    kd[16 * c] = arith_to_half(ks[c]);
                    vd[c] = arith_to_half(vs[c]);
                }
            }
    return LOAM_OK;
}

#define KV_ROWS 4 /* query rows that share the loads of keys and values */

/* Scores of nr query rows (the same kv head) for positions from .. to - 1; from is a multiple of 16. */
INL void kv_scores(const int nr, float *s, size_t stride, const float *const *q, const struct kv_job *j,
                   const struct gpu_kv_item *it, uint32_t kv, uint32_t from, uint32_t to) {
    const size_t d = j->a->d;
    const vf scale = vf_set(j->a->scale);
    for (uint32_t p = from; p < to; p += 16) {
        const uint16_t *k = gpu_kv_k(j->a, it, p, kv);
        for (int at = 0; at < 16; at += W) {
            vf c0 = vf_zero(), c1 = c0, c2 = c0, c3 = c0;
            for (size_t c = 0; c < d; c++) {
                vf x = vf_half(k + 16 * c + at);
                c0 = vf_fma(vf_set(q[0][c]), x, c0);
                if (nr > 1)
                    c1 = vf_fma(vf_set(q[1][c]), x, c1);
                if (nr > 2)
                    c2 = vf_fma(vf_set(q[2][c]), x, c2);
                if (nr > 3)
                    c3 = vf_fma(vf_set(q[3][c]), x, c3);
            }
            float *out = s + p + at;
            vf_store(out, vf_mul(scale, c0));
            if (nr > 1)
                vf_store(out + stride, vf_mul(scale, c1));
            if (nr > 2)
                vf_store(out + 2 * stride, vf_mul(scale, c2));
            if (nr > 3)
                vf_store(out + 3 * stride, vf_mul(scale, c3));
        }
    }
}

/* o = sum of p v, positions ascending; every row's p outside what it sees is 0. */
INL void kv_values(const int nr, float *const *o, const float *s, size_t stride, const struct kv_job *j,
                   const struct gpu_kv_item *it, uint32_t kv, uint32_t from, uint32_t to) {
    const size_t d = j->a->d;
    size_t c = 0;
#define STEP(i, n)                                                                                                    \
    if (nr > i) {                                                                                                     \
        vf y = vf_set(s[i * stride + p]);                                                                             \
        a##i = vf_fma(y, x0, a##i);                                                                                   \
        if (n > 1)                                                                                                    \
            b##i = vf_fma(y, x1, b##i);                                                                               \
    }
#define SAVE(i, n)                                                                                                    \
    if (nr > i) {                                                                                                     \
        vf_store(o[i] + c, a##i);                                                                                     \
        if (n > 1)                                                                                                    \
            vf_store(o[i] + c + W, b##i);                                                                             \
    }
#define COLUMNS(n)                                                                                                    \
    do {                                                                                                              \
        vf a0 = vf_zero(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;                             \
        for (uint32_t p = from; p < to; p++) {                                                                        \
            const uint16_t *v = gpu_kv_v(j->a, it, p, kv) + c;                                                        \
            vf x0 = vf_half(v), x1 = n > 1 ? vf_half(v + W) : x0;                                                     \
            STEP(0, n)                                                                                                \
            STEP(1, n)                                                                                                \
            STEP(2, n)                                                                                                \
            STEP(3, n)                                                                                                \
        }                                                                                                             \
        SAVE(0, n)                                                                                                    \
        SAVE(1, n)                                                                                                    \
        SAVE(2, n)                                                                                                    \
        SAVE(3, n)                                                                                                    \
    } while (0)
    for (; c + 2 * W <= d; c += 2 * W)
        COLUMNS(2);
    for (; c + W <= d; c += W)
        COLUMNS(1);
#undef COLUMNS
#undef STEP
#undef SAVE
    for (; c < d; c++) /* heads whose size is not a multiple of the vector */
        for (int r = 0; r < nr; r++) {
            float acc = 0.0f;
            for (uint32_t p = from; p < to; p++)
                acc = arith_fma(s[(size_t)r * stride + p], arith_half(gpu_kv_v(j->a, it, p, kv)[c]), acc);
            o[r][c] = acc;
        }
}

/* nr rows: query row `rows[r]` is position at[r]; all of one kv head. */
static void kv_rows(const struct kv_job *j, const struct gpu_kv_item *it, uint32_t kv, int nr, const float *const *q,
                    float *const *o, const uint32_t *at, float *s) {
    uint32_t from = gpu_attn_from(j->a, at[0]), to = 0;
    for (int r = 0; r < nr; r++) {
        uint32_t f = gpu_attn_from(j->a, at[r]);
        from = f < from ? f : from;
        to = at[r] + 1 > to ? at[r] + 1 : to;
    }
    from = from / 16 * 16;
    switch (nr) {
    case 1: kv_scores(1, s, j->stride, q, j, it, kv, from, to); break;
    case 2: kv_scores(2, s, j->stride, q, j, it, kv, from, to); break;
    case 3: kv_scores(3, s, j->stride, q, j, it, kv, from, to); break;
    default: kv_scores(4, s, j->stride, q, j, it, kv, from, to); break;
    }
    uint32_t end = (to + 15) / 16 * 16;
    float sums[KV_ROWS];
    for (int r = 0; r < nr; r++) {
        float *row = s + (size_t)r * j->stride;
        for (uint32_t p = from; p < gpu_attn_from(j->a, at[r]); p++)
            row[p] = -INFINITY;
        for (uint32_t p = at[r] + 1; p < end; p++)
            row[p] = -INFINITY;
        float part[W], big = -INFINITY;
        vf m = vf_set(-INFINITY);
        for (uint32_t p = from; p < end; p += W)
            m = vf_max(vf_load(row + p), m);
        vf_store(part, m);
        for (int i = 0; i < W; i++)
            big = part[i] > big ? part[i] : big;
        _Alignas(64) float lanes[32] = {0};
        for (uint32_t p = from; p < end; p += W) {
            vf x = vf_exp(vf_sub(vf_load(row + p), vf_set(big)));
            vf_store(row + p, x);
            vf_store(lanes + p % 32, vf_add(vf_load(lanes + p % 32), x));
        }
        sums[r] = arith_tree(lanes);
    }
    switch (nr) {
    case 1: kv_values(1, o, s, j->stride, j, it, kv, from, to); break;
    case 2: kv_values(2, o, s, j->stride, j, it, kv, from, to); break;
    case 3: kv_values(3, o, s, j->stride, j, it, kv, from, to); break;
    default: kv_values(4, o, s, j->stride, j, it, kv, from, to); break;
    }
    for (int r = 0; r < nr; r++)
        for (uint32_t c = 0; c < j->a->d; c++)
            o[r][c] = o[r][c] / sums[r] + 0.0f;
}

static void attn_kv_task(void *arg, uint32_t task, int thread) {
    const struct kv_job *j = arg;
    const struct gpu_attn *a = j->a;
    uint32_t kv = task % a->g, at = task / a->g, n = 0, group = a->h / a->g;
    while (at >= (j->items[n].t + j->block - 1) / j->block)
        at -= (j->items[n++].t + j->block - 1) / j->block;
    const struct gpu_kv_item *it = &j->items[n];
    uint32_t t0 = at * j->block, t1 = t0 + j->block < it->t ? t0 + j->block : it->t;
    const float *q[KV_ROWS];
    float *o[KV_ROWS];
    uint32_t pos[KV_ROWS];
    int nr = 0;
    for (uint32_t t = t0; t < t1; t++)
        for (uint32_t h = kv * group; h < (kv + 1) * group; h++) {
            q[nr] = j->q + (it->row + t) * j->ldq + h * a->d;
            o[nr] = j->o + (it->row + t) * j->ldo + h * a->d;
            pos[nr++] = it->pos + t;
            if (nr == KV_ROWS || (t + 1 == t1 && h + 1 == (kv + 1) * group)) {
                kv_rows(j, it, kv, nr, q, o, pos, pool_each(j->g->pool, thread));
                nr = 0;
            }
        }
}

static enum loam_status cpu_attn_kv(struct gpu *g, float *o, size_t ldo, const float *q, size_t ldq,
                                    const struct gpu_attn *a, const struct gpu_kv_item *items, uint32_t n_items,
                                    struct err *err) {
    GPU_BEGIN(g);
    enum loam_status st = gpu_check_attn(a, err);
    if (st)
        return st;
    struct kv_job j = {.g = g, .o = o, .q = q, .ldo = ldo, .ldq = ldq, .a = a, .items = items, .n_items = n_items, .block = 8};
    uint32_t tasks = 0, longest_row = 0;
    for (uint32_t n = 0; n < n_items; n++) {
        tasks += (items[n].t + j.block - 1) / j.block;
        longest_row = items[n].pos + items[n].t > longest_row ? items[n].pos + items[n].t : longest_row;
    }
    j.stride = ((size_t)longest_row + 31) / 32 * 32;
    st = pool_scratch(g->pool, 0, j.stride * KV_ROWS * sizeof(float), err);
    if (st)
        return st;
    pool_run(g->pool, tasks * a->g, attn_kv_task, &j);
    return LOAM_OK;
}
