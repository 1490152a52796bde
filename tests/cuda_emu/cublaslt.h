/* cuBLASLt on a CPU, as much of it as gpu/cuda_fast.cu uses: a plain product, so that the whole of the fast mode runs. Included by
 * gpu/cuda_blaslt.h's user after struct lt_api is known. */
#ifndef CUDA_EMU_CUBLASLT_H
#define CUDA_EMU_CUBLASLT_H

struct emu_desc {
    int ta, tb, epilogue;
    const uint16_t *bias;
};
struct emu_layout {
    int type;
    uint64_t rows, cols;
    int64_t ld;
};
static int emu_lt_any(lt_any *p) { *p = malloc(1); return 0; }
static int emu_lt_free(lt_any p) { free(p); return 0; }
static int emu_lt_desc(lt_any *p, int compute, int type) {
    *p = calloc(1, sizeof(struct emu_desc));
    return compute != LT_COMPUTE_32F || type != LT_R_32F;
}
static int emu_lt_desc_set(lt_any p, int what, const void *v, size_t n) {
    struct emu_desc *d = (struct emu_desc *)p;
    void *to = what == LT_DESC_TRANSA ? (void *)&d->ta : what == LT_DESC_TRANSB ? (void *)&d->tb : what == LT_DESC_EPILOGUE ? (void *)&d->epilogue
             : what == LT_DESC_BIAS_POINTER ? (void *)&d->bias : NULL;
    if (to)
        memcpy(to, v, n);
    return !to && what != LT_DESC_BIAS_TYPE;
}
static int emu_lt_layout(lt_any *p, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    struct emu_layout *l = (struct emu_layout *)malloc(sizeof *l);
    *l = {type, rows, cols, ld};
    *p = l;
    return ld < (int64_t)rows; /* column-major */
}
static int emu_lt_pref_set(lt_any, int, const void *, size_t) { return 0; }
static int emu_lt_heuristic(lt_any, lt_any, lt_any, lt_any, lt_any, lt_any, lt_any, int, struct lt_found *, int *found) { *found = 1; return 0; }
static int emu_lt_matmul(lt_any, lt_any dp, const void *alpha, const void *a, lt_any lap, const void *b, lt_any lbp, const void *beta, const void *,
                         lt_any, void *d, lt_any ldp, const struct lt_algo *, void *, size_t, cudaStream_t) {
    struct emu_desc e = *(struct emu_desc *)dp;
    struct emu_layout la = *(struct emu_layout *)lap, lb = *(struct emu_layout *)lbp, ld = *(struct emu_layout *)ldp;
    float al = *(const float *)alpha, be = *(const float *)beta;
    uint64_t k = e.ta ? la.rows : la.cols;
    if ((e.ta ? la.cols : la.rows) != ld.rows || (e.tb ? lb.rows : lb.cols) != ld.cols || (e.tb ? lb.cols : lb.rows) != k)
        return 7; /* shapes that do not fit */
    emu_enqueue([=] {
        for (uint64_t j = 0; j < ld.cols; j++)
            for (uint64_t i = 0; i < ld.rows; i++) {
                float s = 0;
                for (uint64_t p = 0; p < k; p++)
                    s += arith_bf16(((const uint16_t *)a)[e.ta ? p + i * la.ld : i + p * la.ld]) * arith_bf16(((const uint16_t *)b)[e.tb ? j + p * lb.ld : p + j * lb.ld]);
                s *= al;
                size_t at = i + j * ld.ld;
                if (be != 0)
                    s += be * (ld.type == LT_R_32F ? ((float *)d)[at] : arith_bf16(((uint16_t *)d)[at]));
                if (e.epilogue == LT_EPILOGUE_BIAS)
                    s += arith_bf16(e.bias[i]);
                if (ld.type == LT_R_32F)
                    ((float *)d)[at] = s;
                else
                    ((uint16_t *)d)[at] = arith_to_bf16(s);
            }
    });
    return 0;
}
static const struct lt_api emu_cublaslt = {emu_lt_any,  emu_lt_free,     emu_lt_desc, emu_lt_free,      emu_lt_desc_set,  emu_lt_layout,
                                           emu_lt_free, emu_lt_any,      emu_lt_free, emu_lt_pref_set,  emu_lt_heuristic, emu_lt_matmul};

#endif
