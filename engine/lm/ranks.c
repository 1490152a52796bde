#include "lm/ranks.h"

#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static enum loam_status row(struct buf *out, const struct lm_example *e, struct err *err) {
    uint8_t head[12], word[4];
    put_le64(head, e->id);
    put_le32(head + 8, e->n);
    enum loam_status s = buf_add(out, head, sizeof head, err);
    for (uint32_t i = 0; !s && i < e->n; i++) {
        put_le32(word, e->tokens[i]);
        s = buf_add(out, word, sizeof word, err);
    }
    return s ? s : buf_add(out, e->train, e->n, err);
}

enum loam_status lm_ranks_write(const char *dir, const char *base, const struct lm_data *d, const struct lm_hyper *h,
                                const uint8_t seed[32], struct err *err) {
    struct buf hyper = BUF_INIT(4096), out = BUF_INIT(LM_RANKS_BYTES_MAX);
    char hex[65];
    uint8_t sum[32];
    hex_encode(hex, seed, 32);
    enum loam_status s = strlen(base) < LM_RANKS_PATH_MAX && !strchr(base, '\n')
                             ? lm_hyper_text(&hyper, h, err)
                             : err_set(err, LOAM_EINVAL, "the base model's path is too long or has a line feed");
    if (!s)
        s = buf_printf(&out, err, "loam ranks 1\nbase %s\nseed %s\nhyper %zu\nrows %zu\n\n", base, hex, hyper.len, d->count);
    if (!s)
        s = buf_add(&out, hyper.data, hyper.len, err);
    for (size_t i = 0; !s && i < d->count; i++)
        s = row(&out, &d->rows[i], err);
    if (!s) {
        keccak256(sum, out.data, out.len);
        s = buf_add(&out, sum, sizeof sum, err);
    }
    char *path = s ? NULL : mem_printf("%s/%s", dir, LM_RANKS_FILE);
    if (!s)
        s = path ? file_mkdirs(dir, err) : err_set(err, LOAM_ENOMEM, "no memory");
    if (!s)
        s = file_write(path, out.data, out.len, 0600, err);
    mem_free(path);
    buf_clear(&hyper);
    buf_clear(&out);
    return s;
}

enum loam_status lm_ranks_read(const uint8_t *p, size_t n, char *base, struct lm_data *d, struct lm_hyper *h, uint8_t seed[32],
                               struct err *err) {
    uint8_t sum[32];
    char head[LM_RANKS_PATH_MAX + 256], hex[65];
    unsigned long long hyper, rows;
    int used = 0;
    if (n < 32)
        return err_set(err, LOAM_EPARSE, "a run of %zu bytes", n);
    keccak256(sum, p, n - 32);
    if (memcmp(sum, p + n - 32, 32))
        return err_set(err, LOAM_EHASH, "the run's file is damaged");
    n -= 32;
    size_t cut = n < sizeof head - 1 ? n : sizeof head - 1;
    memcpy(head, p, cut);
    head[cut] = 0;
    _Static_assert(LM_RANKS_PATH_MAX == 4096, "the width in the next line");
    if (sscanf(head, "loam ranks 1\nbase %4095[^\n]\nseed %64[0-9a-f]\nhyper %llu\nrows %llu\n%n", base, hex, &hyper, &rows, &used) != 4 || !used)
        return err_set(err, LOAM_EPARSE, "the run's file has no head that this program reads");
    /* the empty line's own feed was eaten with the one before it: hyper starts with a letter */
    size_t at = (size_t)used;
    enum loam_status s = hex_decode(seed, 32, hex, err);
    if (!s && (at > n || hyper > n - at || rows > LM_DATA_ROWS_MAX))
        s = err_set(err, LOAM_EPARSE, "the run's file is cut");
    if (!s)
        s = lm_hyper_parse(h, (const char *)p + at, (size_t)hyper, err);
    at += (size_t)hyper;
    uint32_t *tokens = s ? NULL : mem_array(h->max_tokens, sizeof *tokens);
    if (!s && !tokens)
        s = err_set(err, LOAM_ENOMEM, "no memory");
    for (unsigned long long i = 0; !s && i < rows; i++) {
        uint32_t len = n - at >= 12 ? le32(p + at + 8) : 0;
        if (!len || len > h->max_tokens || (n - at - 12) / 5 < len)
            s = err_set(err, LOAM_EPARSE, "row %llu of the run's file is cut or too long", i);
        for (uint32_t j = 0; !s && j < len; j++)
            tokens[j] = le32(p + at + 12 + 4 * (size_t)j);
        if (!s)
            s = lm_data_add_tokens(d, tokens, p + at + 12 + 4 * (size_t)len, len, le64(p + at), err);
        at += 12 + 5 * (size_t)len;
    }
    if (!s && at != n)
        s = err_set(err, LOAM_EPARSE, "%zu bytes too many after the rows", n - at);
    mem_free(tokens);
    return s;
}

enum loam_status lm_ranks_step_write(struct buf *out, const struct lm_train_metrics *m, struct err *err) {
    return buf_printf(out, err, "step %llu %llu %u %u %a %a %a %a %a %llu %zu %llu\n", (unsigned long long)m->step,
                      (unsigned long long)m->steps, m->epoch, m->epochs, m->loss, m->lr, m->grad_norm, m->tok_s, m->eta_s,
                      (unsigned long long)m->tokens, m->rss, (unsigned long long)m->targets);
}

enum loam_status lm_ranks_step_read(struct lm_train_metrics *m, const char *line, struct err *err) {
    unsigned long long step, steps, tokens, targets;
    if (sscanf(line, "step %llu %llu %u %u %la %la %la %la %la %llu %zu %llu", &step, &steps, &m->epoch, &m->epochs, &m->loss, &m->lr,
               &m->grad_norm, &m->tok_s, &m->eta_s, &tokens, &m->rss, &targets) != 12)
        return err_set(err, LOAM_EPARSE, "no line of a step");
    m->step = step;
    m->steps = steps;
    m->tokens = tokens;
    m->targets = targets;
    return LOAM_OK;
}
