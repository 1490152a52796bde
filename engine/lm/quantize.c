#include "lm/quantize.h"
#include "base/file.h"
#include "base/mem.h"
#include "gpu/ops.h"
#include "lm/export_in.h"
#include "lm/gguf.h"
#include "lm/model.h"

#include <string.h>
#include <strings.h>

#include "base/banned.h"

static const uint32_t types[] = {GPU_F32, GPU_F16, GPU_BF16, GPU_Q8_0, GPU_Q4_0, GPU_Q4_1, GPU_Q5_0, GPU_Q5_1};

enum loam_status lm_type_parse(uint32_t *type, const char *name, struct err *err) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcasecmp(name, gpu_type_name(types[i]))) {
            *type = types[i];
            return LOAM_OK;
        }
    return err_set(err, LOAM_EINVAL, "no format of weights: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
}

/* t's values in another type, row by row; *out is the caller's. */
static enum loam_status convert(void **out, uint64_t *bytes, const struct gguf_tensor *t, uint32_t type, struct err *err) {
    uint64_t cols = t->ne[0], rows = t->ne[1], row = gpu_row_bytes(type, cols), from = t->bytes / rows;
    float *f = mem_array(cols, sizeof *f);
    unsigned char *p = mem_array(rows, row);
    enum loam_status s = f && p ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for tensor %s", t->name);
    for (uint64_t r = 0; r < rows && !s; r++) {
        gpu_dequant(f, t->type, t->data + r * from, cols);
        s = gpu_quantise(p + r * row, type, f, cols, err);
    }
    mem_free(f);
    if (s) {
        mem_free(p);
        return err_prefix(err, s, "tensor %s", t->name);
    }
    *out = p;
    *bytes = rows * row;
    return LOAM_OK;
}

/* The result is a model. */
static enum loam_status opens(const char *path, struct err *err) {
    struct lm_model *m = NULL;
    enum loam_status s = lm_model_open(&m, path, err);
    lm_model_free(m);
    return s;
}

enum loam_status lm_quantize(const char *from, const char *to, uint32_t type, uint32_t head_type, struct err *err) {
    struct gguf g;
    struct gguf_writer *w = NULL;
    enum loam_status s;
    if (file_is_folder(from)) {
        struct lm_model *m = NULL;
        if (!(s = lm_model_open(&m, from, err)))
            s = export_gguf_of_folder(m, NULL, from, to, type, head_type, err);
        lm_model_free(m);
        return s ? s : opens(to, err);
    }
    if ((s = gguf_open(&g, from, err)))
        return s;
    void **keep = mem_zarray(g.n_tensors ? g.n_tensors : 1, sizeof *keep);
    s = keep ? gguf_writer_new(&w, err) : err_set(err, LOAM_ENOMEM, "no memory for a table");
    for (uint64_t i = 0; i < g.n_pairs && !s; i++)
        if (!gguf_str_is(g.pairs[i].key, "general.file_type") && !gguf_str_is(g.pairs[i].key, "general.alignment"))
            s = gguf_put_pair(w, &g.pairs[i], err);
    for (uint64_t i = 0; i < g.n_tensors && !s; i++) {
        const struct gguf_tensor *t = &g.tensors[i];
        bool head = !strcmp(t->name, "token_embd.weight") || !strcmp(t->name, "output.weight");
        uint32_t want = head ? head_type : type;
        const void *data = t->data;
        uint64_t bytes = t->bytes;
        uint32_t as = t->type;
        if (t->dims == 2 && t->ne[0] % gpu_type_elems(want) == 0 && want != t->type) {
            s = convert(&keep[i], &bytes, t, want, err);
            data = keep[i];
            as = want;
        }
        if (!s)
            s = gguf_put_tensor(w, t->name, as, t->ne, t->dims, data, bytes, err);
    }
    if (!s)
        s = gguf_write(w, to, err);
    for (uint64_t i = 0; keep && i < g.n_tensors; i++)
        mem_free(keep[i]);
    mem_free(keep);
    gguf_writer_free(w);
    gguf_clear(&g);
    return s ? s : opens(to, err);
}
