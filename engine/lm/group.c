#include "lm/group.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

uint32_t lm_group_share(const struct lm_group *g, uint32_t n, int r, uint32_t *count) {
    uint64_t from = (uint64_t)n * (uint64_t)r / (uint64_t)g->ranks, to = (uint64_t)n * ((uint64_t)r + 1) / (uint64_t)g->ranks;
    *count = (uint32_t)(to - from);
    return (uint32_t)from;
}

enum loam_status lm_group_agree(struct lm_group *g, enum loam_status mine, struct err *err) {
    struct say {
        uint32_t status;
        char text[sizeof err->text];
    } *all = mem_zarray((size_t)g->ranks, sizeof *all);
    size_t *bytes = mem_array((size_t)g->ranks, sizeof *bytes);
    enum loam_status s = all && bytes ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory for %d ranks", g->ranks);
    if (!s) {
        for (int r = 0; r < g->ranks; r++)
            bytes[r] = sizeof *all;
        all[g->rank].status = (uint32_t)mine;
        if (mine && err)
            memcpy(all[g->rank].text, err->text, sizeof err->text);
        s = g->gather(g, all, bytes, err);
        for (int r = 0; !s && r < g->ranks; r++)
            if (all[r].status) {
                s = (enum loam_status)all[r].status;
                all[r].text[sizeof all[r].text - 1] = 0;
                /* a cancel is everybody's; what a rank found is said with its number */
                if (s == LOAM_ECANCEL)
                    err_set(err, s, "%s", all[r].text);
                else
                    err_set(err, s, "rank %d: %s", r, all[r].text);
            }
    }
    mem_free(all);
    mem_free(bytes);
    return s;
}

#define WORK_FLOATS(g) ((size_t)(g)->ranks * LM_GROUP_ROWS * LM_GROUP_SLICE)

size_t lm_group_work_bytes(const struct lm_group *g) {
    return 2 * WORK_FLOATS(g) * sizeof(float) + 2 * (size_t)g->ranks * sizeof(size_t);
}

enum loam_status lm_group_work_new(struct lm_group_work *w, const struct lm_group *g, struct err *err) {
    memset(w, 0, sizeof *w);
    if (g->ranks < 1 || g->ranks > LM_GROUP_MAX || g->rank < 0 || g->rank >= g->ranks)
        return err_set(err, LOAM_EINVAL, "rank %d of %d; at most %d", g->rank, g->ranks, LM_GROUP_MAX);
    w->send = mem_array(WORK_FLOATS(g), sizeof *w->send);
    w->recv = mem_array(WORK_FLOATS(g), sizeof *w->recv);
    w->out = mem_array((size_t)g->ranks, sizeof *w->out);
    w->in = mem_array((size_t)g->ranks, sizeof *w->in);
    if (w->send && w->recv && w->out && w->in)
        return LOAM_OK;
    lm_group_work_clear(w);
    return err_set(err, LOAM_ENOMEM, "no memory to exchange gradients among %d ranks (%zu MiB)", g->ranks, lm_group_work_bytes(g) >> 20);
}

void lm_group_work_clear(struct lm_group_work *w) {
    mem_free(w->send);
    mem_free(w->recv);
    mem_free(w->out);
    mem_free(w->in);
    memset(w, 0, sizeof *w);
}

/* Slice of rank r in the piece that starts at `at` with `n` floats. */
static size_t slice(size_t n, int r, size_t *count) {
    size_t from = (size_t)r * LM_GROUP_SLICE;
    *count = from >= n ? 0 : n - from < LM_GROUP_SLICE ? n - from : LM_GROUP_SLICE;
    return from < n ? from : n;
}

enum loam_status lm_group_add(struct lm_group *g, struct lm_group_work *w, float *sum, size_t size, const float *mine, uint32_t n,
                              struct err *err) {
    size_t piece = (size_t)g->ranks * LM_GROUP_SLICE;
    uint32_t own;
    lm_group_share(g, n, g->rank, &own);
    LOAM_ASSERT(n <= (uint32_t)g->ranks * LM_GROUP_ROWS && own <= LM_GROUP_ROWS);
    for (size_t at = 0; at < size; at += piece) {
        size_t len = size - at < piece ? size - at : piece, put = 0, count, mylen, from;
        for (int r = 0; r < g->ranks; r++) { /* my rows' slices, owner by owner */
            from = slice(len, r, &count);
            for (uint32_t i = 0; i < own; i++, put += count)
                memcpy(w->send + put, mine + i * size + at + from, count * sizeof(float));
            w->out[r] = own * count * sizeof(float);
        }
        from = slice(len, g->rank, &mylen);
        for (int r = 0; r < g->ranks; r++) {
            uint32_t rows;
            lm_group_share(g, n, r, &rows);
            w->in[r] = rows * mylen * sizeof(float);
        }
        enum loam_status s = g->exchange(g, w->send, w->out, w->recv, w->in, err);
        if (s)
            return s;
        float *to = sum + at + from;
        for (uint32_t i = 0; i < n; i++) /* ranks hold neighbouring rows in order: what came first is first */
            for (size_t j = 0; j < mylen; j++)
                to[j] = to[j] + w->recv[i * mylen + j];
        for (int r = 0; r < g->ranks; r++) {
            slice(len, r, &count);
            w->in[r] = count * sizeof(float);
        }
        if ((s = g->gather(g, sum + at, w->in, err)))
            return s;
    }
    return LOAM_OK;
}
