#include "lm/trainer.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/keccak.h"
#include "base/mem.h"
#include "base/text.h"
#include "gpu/arith.h"
#include "gpu/ops.h"
#include "lm/group.h"
#include "lm/model.h"
#include "lm/pass.h"
#include "lm/philox.h"
#include "lm/session.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

#define STATE_MAGIC "LOAMSTA1"
#define STATE_VERSION 1u
#define STATE_HEAD 4096       /* bytes before the numbers; holds the header and 32 checkpoints */
#define CHECKPOINTS_MAX 32    /* epochs 1, 2, 4 ... 2^30 and the last */
#define EPOCHS_MAX (1u << 30)
#define STEPS_MAX (1u << 22)  /* kept in memory at 64 bytes each */
/* Where nobody says how often the state is kept: so often that keeping takes a twenty-fifth of the time at most, within these seconds. */
#define SAVE_SHARE 25.0
#define SAVE_LEAST_S 1.0
#define SAVE_MOST_S 30.0
#define MICRO_MAX 512u        /* tokens in flight: past this only memory grows */
#define MICRO_LEAST 256u      /* below this the products get slower */
#define MICRO_SHORT 64u       /* rows up to this gain by sharing a pass: their common first tokens are computed once */

/* ---------------------------------------------------------------- hyper-parameters */

void lm_hyper_default(struct lm_hyper *h) {
    *h = (struct lm_hyper){.rank = 16,
                           .alpha = 32,
                           .targets = (1u << LM_LINEARS) - 1,
                           .lr = 1e-3,
                           .schedule = LM_LINEAR,
                           .warmup = 0.06,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .clip = 1,
                           .epochs = 12,
                           .batch = 8,
                           .max_tokens = 1024};
}

static enum loam_status within(const char *name, double v, double lo, double hi, struct err *err) {
    if (!(v >= lo && v <= hi))
        return err_set(err, LOAM_ERANGE, "%s is %g; it must be in %g .. %g", name, v, lo, hi);
    return LOAM_OK;
}

enum loam_status lm_hyper_check(const struct lm_hyper *h, struct err *err) {
    enum loam_status s = within("rank", h->rank, 1, LM_RANK_MAX, err);
    if (!s)
        s = within("alpha", h->alpha, 0x1p-20, 0x1p20, err);
    if (!s)
        s = within("dropout", h->dropout, 0, 0.9, err);
    if (!s)
        s = within("lr", h->lr, 0, 10, err);
    if (!s)
        s = within("warmup", h->warmup, 0, 1, err);
    if (!s)
        s = within("beta1", h->beta1, 0, 0.9999999, err);
    if (!s)
        s = within("beta2", h->beta2, 0, 0.9999999, err);
    if (!s)
        s = within("eps", h->eps, 1e-30, 1, err);
    if (!s)
        s = within("decay", h->decay, 0, 10, err);
    if (!s)
        s = within("clip", h->clip, 0, 1e9, err);
    if (!s)
        s = within("epochs", h->epochs, 1, EPOCHS_MAX, err);
    if (!s)
        s = within("batch", h->batch, 1, 65536, err);
    if (!s)
        s = within("max-tokens", h->max_tokens, 2, 1u << 20, err);
    if (!s)
        s = within("eval", h->eval, 0, 0.5, err);
    if (!s && h->eval <= 0 && (h->eval_every || h->patience))
        s = err_set(err, LOAM_EINVAL, "eval-every and patience need rows to evaluate on (eval)");
    if (!s && !(h->targets & ((1u << LM_LINEARS) - 1)))
        s = err_set(err, LOAM_EINVAL, "no linear layer is named to adapt");
    if (!s && h->schedule > LM_COSINE)
        s = err_set(err, LOAM_EINVAL, "unknown schedule");
    return s;
}

static const char *const schedules[] = {"constant", "linear", "cosine"};

enum loam_status lm_hyper_text(struct buf *out, const struct lm_hyper *h, struct err *err) {
    enum loam_status s = buf_printf(out, err,
                      "rank %u\nalpha %a\nrslora %d\ntargets %u\ndropout %a\nlr %a\nschedule %s\nwarmup %a\nbeta1 %a\nbeta2 %a\n"
                      "eps %a\ndecay %a\nclip %a\nepochs %u\nbatch %u\nmax-tokens %u\n",
                      h->rank, (double)h->alpha, h->rslora, h->targets, (double)h->dropout, h->lr, schedules[h->schedule],
                      h->warmup, h->beta1, h->beta2, h->eps, h->decay, h->clip, h->epochs, h->batch, h->max_tokens);
    if (!s && h->eval > 0)
        s = buf_printf(out, err, "eval %a\neval-every %u\npatience %u\n", h->eval, h->eval_every, h->patience);
    return s;
}

size_t lm_eval_rows(size_t n, double share) {
    if (share <= 0 || n < 2)
        return 0;
    size_t k = (size_t)((double)n * share + 0.5);
    return k < 1 ? 1 : k > n - 1 ? n - 1 : k;
}

enum loam_status lm_hyper_parse(struct lm_hyper *h, const char *text, size_t len, struct err *err) {
    char t[2048], schedule[16] = "";
    double alpha, dropout;
    int rslora, used = 0;
    if (len >= sizeof t)
        return err_set(err, LOAM_ELIMIT, "hyper-parameters of %zu bytes", len);
    memcpy(t, text, len);
    t[len] = 0;
    *h = (struct lm_hyper){0};
    int n = sscanf(t,
                   "rank %u alpha %la rslora %d targets %u dropout %la lr %la schedule %15s warmup %la beta1 %la beta2 %la eps %la "
                   "decay %la clip %la epochs %u batch %u max-tokens %u %n",
                   &h->rank, &alpha, &rslora, &h->targets, &dropout, &h->lr, schedule, &h->warmup, &h->beta1, &h->beta2,
                   &h->eps, &h->decay, &h->clip, &h->epochs, &h->batch, &h->max_tokens, &used);
    if (n == 16 && used > 0 && (size_t)used < len) {
        int more = 0;
        n += sscanf(t + used, "eval %la eval-every %u patience %u %n", &h->eval, &h->eval_every, &h->patience, &more);
        n = n == 19 && h->eval > 0 ? 16 : 0;
        used += more;
    }
    if (n != 16 || (size_t)used != len)
        return err_set(err, LOAM_EPARSE, "hyper-parameters are not in their canonical form");
    h->alpha = (float)alpha;
    h->dropout = (float)dropout;
    h->rslora = rslora != 0;
    for (h->schedule = LM_CONSTANT; h->schedule <= LM_COSINE; h->schedule++)
        if (!strcmp(schedule, schedules[h->schedule]))
            return lm_hyper_check(h, err);
    return err_set(err, LOAM_EPARSE, "unknown schedule");
}

/* ---------------------------------------------------------------- the trainer */

struct lm_trainer {
    struct gpu *g;
    struct lm_model *m;
    const struct lm_data *d, *eval; /* eval: NULL where there is none */
    struct lm_hyper h;
    uint8_t seed[32], manifest_hash[32];
    char *dir;
    struct lm_train_plan plan;
    struct lm_view *view;
    struct lm_pass *pass;
    struct lm_adapter *a; /* its data lies in the image */
    uint8_t *image;       /* [STATE_HEAD][p][m][v][32]: a state file as it is written */
    size_t image_len;
    float *p1, *p2, *grad;
    uint32_t *order;      /* of the current epoch */
    uint32_t order_epoch; /* whose; UINT32_MAX: none */
    const struct lm_example **ex;
    double *nll;
    uint8_t *records;     /* [steps][64] */
    uint64_t step, steps, per_epoch, tokens;
    double loss;
    struct lm_train_result r;
    uint8_t *evals;       /* [evals of the whole run][32] */
    uint32_t n_evals, since_best;
    uint64_t best_step;
    double eval_loss, best_loss; /* NaN: none yet */
    struct philox order_rng;
    struct philox dropout_rng;
    /* one of several ranks; NULL: alone */
    struct lm_group *group;
    struct lm_group_work work;
    float *each; /* [LM_GROUP_ROWS][size]: gradients of this rank's rows */
    /* while running */
    const struct lm_train_hooks *hooks;
    enum lm_train_ask asked;
    uint64_t saved_us, started_us, tokens_here;
    double save_took_s; /* the last time */
    double tok_s;
};

static char *path_of(const struct lm_trainer *t, const char *name) {
    return mem_printf("%s/%s", t->dir, name);
}

static size_t available_memory(void) {
    size_t n = mem_available();
    return n ? n : (size_t)4 << 30;
}

/* Most tokens and trained tokens that `batch` rows can have together. */
static void worst_step(const struct lm_data *d, uint32_t batch, uint64_t *tokens, uint64_t *targets, uint32_t *longest) {
    uint32_t most_targets = 0;
    *longest = *longest > d->longest ? *longest : d->longest;
    for (size_t i = 0; i < d->count; i++)
        if (d->rows[i].targets > most_targets)
            most_targets = d->rows[i].targets;
    uint64_t rows = batch < d->count ? batch : d->count;
    *tokens = rows * d->longest;
    *targets = rows * most_targets;
    if (*tokens > d->tokens)
        *tokens = d->tokens;
    if (*targets > d->targets)
        *targets = d->targets;
}

/* Of training and, where that is more, of evaluating as many rows at a time. */
static void worst_pass(const struct lm_trainer *t, uint64_t *tokens, uint64_t *targets, uint32_t *longest) {
    *longest = 0;
    worst_step(t->d, t->h.batch, tokens, targets, longest);
    if (t->eval) {
        uint64_t more, trained;
        worst_step(t->eval, t->h.batch, &more, &trained, longest);
        *tokens = more > *tokens ? more : *tokens;
        *targets = trained > *targets ? trained : *targets;
    }
}

static enum loam_status plan(struct lm_trainer *t, size_t memory, struct err *err) {
    struct lm_train_plan *p = &t->plan;
    const struct lm_weights *w;
    enum loam_status s = lm_model_weights(&w, t->m, err);
    if (s)
        return s;
    uint64_t tokens, targets;
    uint32_t longest;
    worst_pass(t, &tokens, &targets, &longest);
    p->base = t->m->bytes;
    p->packed = w->bytes;
    p->adapter = t->a->size * sizeof(float);
    p->optimiser = 3 * p->adapter;
    p->steps = t->steps;
    uint64_t room = t->g->dev_room ? t->g->dev_room(t->g) : 0; /* of a device that is not the CPU */
    size_t have = memory ? memory : (room ? (size_t)room : available_memory()) / 4 * 3, fixed = p->adapter + p->optimiser, least = 0;
    /* Smaller pieces first: from MICRO_LEAST tokens on they cost no time. Then work done twice, then pieces that do. */
    uint32_t least_free = MICRO_LEAST < longest ? longest : MICRO_LEAST;
    for (int round = 0; round < 2; round++)
        for (uint32_t keep = 0; keep < LM_KEEPS; keep++) {
            uint32_t most = longest > MICRO_SHORT ? MICRO_LEAST : MICRO_MAX, micro = tokens < most ? (uint32_t)tokens : most, floor = round ? longest : least_free;
            if (micro < longest)
                micro = longest;
            for (;; micro = micro / 2 > floor ? micro / 2 : floor) {
                size_t saved, all = lm_pass_bytes(t->view, t->a, micro, micro < targets ? micro : (uint32_t)targets, true, keep, &saved);
                least = fixed + all;
                if (least <= have) {
                    p->activations = saved;
                    p->scratch = all - saved;
                    p->micro_tokens = micro;
                    p->recompute = keep;
                    p->resident = mem_resident() + fixed + all + p->steps * LM_STEP_BYTES;
                    return LOAM_OK;
                }
                if (micro <= floor)
                    break;
            }
        }
    return err_set(err, LOAM_ENOMEM, "training needs at least %zu MiB beside the model, and %zu MiB may be used; lower the rank or "
                   "the longest row (max-tokens)", least >> 20, have >> 20);
}

static enum loam_status manifest(struct lm_trainer *t, struct buf *out, struct err *err) {
    struct lm_hashes hash;
    char base[65], tok[65], tmpl[65], data[65], seed[65];
    uint8_t rows[32];
    enum loam_status s = lm_model_hashes(&hash, t->m, err);
    if (s)
        return s;
    lm_data_hash(rows, t->d);
    hex_encode(base, hash.base, 32);
    hex_encode(tok, hash.tokenizer, 32);
    hex_encode(tmpl, hash.tmpl, 32);
    hex_encode(data, rows, 32);
    hex_encode(seed, t->seed, 32);
    memcpy(t->a->base_hash, hash.base, 32);
    s = buf_printf(out, err, "loam training 1\narithmetic %s\nbase %s\ntokenizer %s\ntemplate %s\ndata %s\nrows %zu\nseed %s\n",
                   LM_ARITHMETIC, base, tok, tmpl, data, t->d->count, seed);
    if (!s && t->eval) {
        lm_data_hash(rows, t->eval);
        hex_encode(data, rows, 32);
        s = buf_printf(out, err, "evaluation %s\nevaluation-rows %zu\n", data, t->eval->count);
    }
    return s ? s : lm_hyper_text(out, &t->h, err);
}

/* Says which line of the manifest of a run begun earlier differs. */
static enum loam_status same_manifest(const struct lm_trainer *t, const struct buf *now, bool *there, struct err *err) {
    char *path = path_of(t, "manifest");
    struct buf old = BUF_INIT(64u << 10);
    *there = path && file_exists(path);
    enum loam_status s = !path ? err_set(err, LOAM_ENOMEM, "no memory") : *there ? file_read(&old, path, err)
                                                                       : file_write(path, now->data, now->len, 0600, err);
    if (!s && *there && (old.len != now->len || memcmp(old.data, now->data, now->len))) {
        const char *a = (const char *)old.data, *b = (const char *)now->data;
        size_t at = 0, from = 0;
        while (at < old.len && at < now->len && a[at] == b[at])
            if (a[at++] == '\n')
                from = at;
        char was[100], is[100];
        text_clean_cut(was, sizeof was, a + from, strcspn(a + from, "\n"));
        text_clean_cut(is, sizeof is, b + from, strcspn(b + from, "\n"));
        s = err_set(err, LOAM_ESTATE, "%s holds another run: \"%s\" there, \"%s\" now", t->dir, was, is);
    }
    buf_clear(&old);
    mem_free(path);
    return s;
}

/* ---------------------------------------------------------------- state */

static void put_f64(uint8_t *p, double v) {
    uint64_t u;
    memcpy(&u, &v, 8);
    put_le64(p, u);
}

static double get_f64(const uint8_t *p) {
    uint64_t u = le64(p);
    double v;
    memcpy(&v, &u, 8);
    return v;
}

/* Header: 8 magic, u32 version, u32 checkpoints, 32 manifest hash, u64 step, u64 tokens, f64 loss, u64 floats of the adapter;
 * from 80: u32 evaluations, u32 of them since the best, u64 best step, f64 newest and best loss; from 128: 64 bytes a checkpoint:
 * u32 epoch, u32 0, u64 step, 32 hash. */
static void write_head(struct lm_trainer *t) {
    uint8_t *h = t->image;
    memset(h, 0, STATE_HEAD);
    memcpy(h, STATE_MAGIC, 8);
    put_le32(h + 8, STATE_VERSION);
    put_le32(h + 12, t->r.checkpoints);
    memcpy(h + 16, t->manifest_hash, 32);
    put_le64(h + 48, t->step);
    put_le64(h + 56, t->tokens);
    put_f64(h + 64, t->loss);
    put_le64(h + 72, t->a->size);
    put_le32(h + 80, t->n_evals);
    put_le32(h + 84, t->since_best);
    put_le64(h + 88, t->best_step);
    put_f64(h + 96, t->eval_loss);
    put_f64(h + 104, t->best_loss);
    for (uint32_t i = 0; i < t->r.checkpoints; i++) {
        uint8_t *c = h + 128 + 64 * i;
        put_le32(c, t->r.checkpoint_epoch[i]);
        put_le64(c + 8, t->r.checkpoint_step[i]);
        memcpy(c + 16, t->r.checkpoint_hash[i], 32);
    }
    keccak256(t->image + t->image_len - 32, t->image, t->image_len - 32);
}

static void read_head(struct lm_trainer *t) {
    const uint8_t *h = t->image;
    t->step = le64(h + 48);
    t->tokens = le64(h + 56);
    t->loss = get_f64(h + 64);
    t->n_evals = le32(h + 80);
    t->since_best = le32(h + 84);
    t->best_step = le64(h + 88);
    if (t->n_evals) {
        t->eval_loss = get_f64(h + 96);
        t->best_loss = get_f64(h + 104);
    }
    t->r.checkpoints = le32(h + 12);
    for (uint32_t i = 0; i < t->r.checkpoints; i++) {
        const uint8_t *c = h + 128 + 64 * i;
        t->r.checkpoint_epoch[i] = le32(c);
        t->r.checkpoint_step[i] = le64(c + 8);
        memcpy(t->r.checkpoint_hash[i], c + 16, 32);
    }
}

static enum loam_status save_state(struct lm_trainer *t, struct err *err) {
    if (!t->dir)
        return LOAM_OK;
    uint64_t before = clock_mono_us();
    write_head(t);
    char *steps = path_of(t, "steps"), *state = path_of(t, "state"), *evals = path_of(t, "evals");
    /* The steps first: a state never stands without the records that led to it. */
    enum loam_status s = !steps || !state || !evals ? err_set(err, LOAM_ENOMEM, "no memory") : LOAM_OK;
    if (!s)
        s = file_write(steps, t->records, t->step * LM_STEP_BYTES, 0600, err);
    if (!s && t->n_evals)
        s = file_write(evals, t->evals, (size_t)t->n_evals * LM_EVAL_BYTES, 0600, err);
    if (!s)
        s = file_write(state, t->image, t->image_len, 0600, err);
    mem_free(steps);
    mem_free(state);
    mem_free(evals);
    t->saved_us = clock_mono_us();
    t->save_took_s = (double)(t->saved_us - before) * 1e-6;
    return s;
}

static double save_every_s(const struct lm_trainer *t) {
    double s = t->save_took_s * SAVE_SHARE;
    return t->hooks->save_s > 0 ? t->hooks->save_s : s < SAVE_LEAST_S ? SAVE_LEAST_S : s > SAVE_MOST_S ? SAVE_MOST_S : s;
}

/* Evaluations of the whole run at most. */
static uint64_t evals_of(const struct lm_trainer *t) {
    uint64_t every = t->h.eval_every ? t->h.eval_every : t->per_epoch;
    return t->steps / every + 1;
}

static bool eval_due(const struct lm_trainer *t) {
    uint64_t every = t->h.eval_every ? t->h.eval_every : t->per_epoch;
    return t->eval && t->step && (t->step % every == 0 || t->step == t->steps) &&
           (!t->n_evals || le64(t->evals + (size_t)(t->n_evals - 1) * LM_EVAL_BYTES) < t->step);
}

static bool out_of_patience(const struct lm_trainer *t) {
    return t->h.patience && t->since_best >= t->h.patience;
}

static enum loam_status load_evals(struct lm_trainer *t, struct err *err) {
    char *path = path_of(t, "evals");
    struct buf b = BUF_INIT((size_t)STEPS_MAX * LM_EVAL_BYTES);
    enum loam_status s = path ? file_read(&b, path, err) : err_set(err, LOAM_ENOMEM, "no memory");
    if (!s && (!t->eval || t->n_evals > evals_of(t) || b.len < (size_t)t->n_evals * LM_EVAL_BYTES))
        s = err_set(err, LOAM_EPARSE, "%s does not fit the run", path);
    if (!s)
        memcpy(t->evals, b.data, (size_t)t->n_evals * LM_EVAL_BYTES);
    buf_clear(&b);
    mem_free(path);
    return s;
}

static enum loam_status load_state(struct lm_trainer *t, struct err *err) {
    char *path = path_of(t, "state"), *steps = path_of(t, "steps");
    enum loam_status s = path && steps ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    struct file_map f = {0}, r = {0};
    if (!s && file_exists(path)) {
        s = file_map(&f, path, err);
        if (!s)
            s = file_map(&r, steps, err);
        uint8_t sum[32];
        const uint8_t *h = f.data;
        if (!s && (f.len != t->image_len || memcmp(h, STATE_MAGIC, 8) || le64(h + 72) != t->a->size))
            s = err_set(err, LOAM_EPARSE, "%s is not a state of this run", path);
        else if (!s && le32(h + 8) != STATE_VERSION)
            s = err_set(err, LOAM_EVERSION, "%s: state version %u (this program reads %u)", path, le32(h + 8), STATE_VERSION);
        if (!s) {
            keccak256(sum, h, f.len - 32);
            if (memcmp(sum, h + f.len - 32, 32) || memcmp(h + 16, t->manifest_hash, 32))
                s = err_set(err, LOAM_EHASH, "%s is damaged; remove it to train from the start", path);
        }
        if (!s && (le64(h + 48) > t->steps || le32(h + 12) > CHECKPOINTS_MAX || r.len < le64(h + 48) * LM_STEP_BYTES))
            s = err_set(err, LOAM_EPARSE, "%s does not fit the run", path);
        if (!s) {
            memcpy(t->image, h, f.len);
            read_head(t);
            if (t->step) /* before the first step the file is empty, and an empty file maps to NULL */
                memcpy(t->records, r.data, t->step * LM_STEP_BYTES);
            if (t->n_evals)
                s = load_evals(t, err);
        }
        file_unmap(&f);
        file_unmap(&r);
    }
    mem_free(path);
    mem_free(steps);
    return s;
}

/* ---------------------------------------------------------------- making and freeing */

void lm_trainer_free(struct lm_trainer *t) {
    if (!t)
        return;
    lm_pass_free(t->pass);
    lm_view_free(t->view);
    if (t->a && t->image && t->a->data == (float *)(void *)(t->image + STATE_HEAD))
        t->a->data = NULL; /* lies in the image */
    lm_adapter_free(t->a);
    gpu_free(t->g, t->image);
    gpu_free(t->g, t->grad);
    gpu_free(t->g, t->each);
    lm_group_work_clear(&t->work);
    mem_free(t->order);
    mem_free(t->ex);
    mem_free(t->nll);
    mem_free(t->records);
    mem_free(t->evals);
    mem_free(t->dir);
    mem_free(t);
}

static enum loam_status build(struct lm_trainer *t, size_t memory, struct err *err) {
    struct lm_shape shape;
    uint8_t none[32] = {0};
    lm_model_shape(&shape, t->m);
    enum loam_status s = lm_adapter_new(&t->a, &shape, none, t->h.rank, t->h.alpha, t->h.rslora, t->h.targets, err);
    if (s)
        return s;
    t->a->eot = lm_token_eos(t->m->tokenizer);
    {
        uint32_t longest = t->eval && t->eval->longest > t->d->longest ? t->eval->longest : t->d->longest;
        s = lm_view_new(&t->view, t->m, longest, err);
    }
    if (!s)
        s = plan(t, memory, err);
    if (s)
        return s;
    uint64_t tokens, targets;
    uint32_t longest;
    worst_pass(t, &tokens, &targets, &longest);
    size_t n = t->a->size * sizeof(float);
    t->image_len = STATE_HEAD + 3 * n + 32;
    t->image = gpu_alloc(t->g, t->image_len);
    t->grad = gpu_alloc(t->g, n);
    t->order = mem_array(t->d->count, sizeof *t->order);
    t->ex = mem_array(t->h.batch, sizeof *t->ex);
    t->nll = mem_array(t->h.batch, sizeof *t->nll);
    t->evals = mem_zarray(t->eval ? (size_t)evals_of(t) : 1, LM_EVAL_BYTES);
    t->records = mem_zarray(t->steps, LM_STEP_BYTES);
    if (!t->image || !t->grad || !t->order || !t->ex || !t->nll || !t->records || !t->evals)
        return err_set(err, LOAM_ENOMEM, "no memory for the optimiser (%zu MiB)", (t->image_len + n) >> 20);
    /* The adapter's numbers move into the image. */
    float *p = (float *)(void *)(t->image + STATE_HEAD);
    mem_free(t->a->data);
    t->a->data = p;
    for (uint32_t i = 0; i < t->a->count; i++) {
        t->a->t[i].a = p + t->a->t[i].a_at;
        t->a->t[i].b = p + t->a->t[i].b_at;
    }
    t->p1 = p + t->a->size;
    t->p2 = t->p1 + t->a->size;
    lm_adapter_init(t->a, t->seed);
    return lm_pass_new(&t->pass, t->g, t->view, t->a, t->plan.micro_tokens,
                       targets < t->plan.micro_tokens ? (uint32_t)targets : t->plan.micro_tokens, true, t->plan.recompute, err);
}

enum loam_status lm_trainer_new(struct lm_trainer **out, struct gpu *g, struct lm_model *m, const struct lm_data *d,
                                const struct lm_data *eval, const struct lm_hyper *h, const uint8_t seed[32], const char *dir, size_t memory,
                                struct err *err) {
    *out = NULL;
    enum loam_status s = lm_hyper_check(h, err);
    if (s)
        return s;
    if (!d->count)
        return err_set(err, LOAM_EINVAL, "no rows to train on");
    if ((eval && eval->count) != (h->eval > 0))
        return err_set(err, LOAM_EINVAL, h->eval > 0 ? "no rows to evaluate on" : "rows to evaluate on, and eval is 0");
    if (eval && eval->longest > m->config.context)
        return err_set(err, LOAM_ELIMIT, "a row of %u tokens; the model takes %u", eval->longest, m->config.context);
    if (d->longest > m->config.context)
        return err_set(err, LOAM_ELIMIT, "a row of %u tokens; the model takes %u", d->longest, m->config.context);
    struct lm_trainer *t = mem_zalloc(sizeof *t);
    if (!t || (dir && !(t->dir = mem_strdup(dir)))) {
        mem_free(t);
        return err_set(err, LOAM_ENOMEM, "no memory for a trainer");
    }
    t->g = g;
    t->m = m;
    t->d = d;
    t->eval = eval && eval->count ? eval : NULL;
    t->eval_loss = t->best_loss = NAN;
    t->h = *h;
    memcpy(t->seed, seed, 32);
    t->per_epoch = (d->count + h->batch - 1) / h->batch;
    t->order_epoch = UINT32_MAX;
    philox_init(&t->order_rng, seed, "order");
    philox_init(&t->dropout_rng, seed, "dropout");
    if (t->per_epoch > STEPS_MAX / h->epochs)
        s = err_set(err, LOAM_ELIMIT, "a run of more than %u steps", STEPS_MAX);
    t->steps = t->per_epoch * h->epochs;
    if (!s)
        s = build(t, memory, err);
    if (!s && dir)
        s = file_mkdirs(dir, err);
    struct buf text = BUF_INIT(64u << 10);
    bool there = false;
    if (!s)
        s = manifest(t, &text, err);
    if (!s) {
        keccak256(t->manifest_hash, text.data, text.len);
        memcpy(t->r.manifest_hash, t->manifest_hash, 32);
        if (dir)
            s = same_manifest(t, &text, &there, err);
    }
    if (!s && there)
        s = load_state(t, err);
    buf_clear(&text);
    if (s) {
        lm_trainer_free(t);
        return s;
    }
    *out = t;
    return LOAM_OK;
}

enum loam_status lm_trainer_group(struct lm_trainer *t, struct lm_group *group, struct err *err) {
    size_t each = LM_GROUP_ROWS * t->a->size * sizeof(float);
    uint8_t first[32];
    if (t->eval)
        return err_set(err, LOAM_ENOTBUILT, "evaluation in training by several processes");
    enum loam_status s = lm_group_work_new(&t->work, group, err);
    if (!s && !(t->each = gpu_alloc(t->g, each)))
        s = err_set(err, LOAM_ENOMEM, "no memory for the gradients of %u rows (%zu MiB)", LM_GROUP_ROWS, each >> 20);
    t->plan.scratch += each + lm_group_work_bytes(group);
    memcpy(first, t->manifest_hash, 32);
    if ((s = lm_group_agree(group, s, err)) || (s = group->bcast(group, first, sizeof first, err)))
        return s;
    if (memcmp(first, t->manifest_hash, 32))
        s = err_set(err, LOAM_ESTATE, "its base model, rows or recipe are not those of rank 0");
    if ((s = lm_group_agree(group, s, err)))
        return s;
    write_head(t);
    if ((s = group->bcast(group, t->image, t->image_len, err)))
        return s;
    read_head(t);
    if ((s = group->bcast(group, t->records, t->step * LM_STEP_BYTES, err)))
        return s;
    t->group = group;
    return LOAM_OK;
}

const struct lm_train_plan *lm_trainer_plan(const struct lm_trainer *t) {
    return &t->plan;
}

uint64_t lm_trainer_step(const struct lm_trainer *t) {
    return t->step;
}

const struct lm_adapter *lm_trainer_adapter(const struct lm_trainer *t) {
    return t->a;
}

/* ---------------------------------------------------------------- running */

/* Learning rate of step s (from 0) of S, fp64: warm-up rises (s + 1) / W to W = ceil(warmup * S) steps; then linear falls as
 * (S - s) / (S - W), cosine as (1 + cos(pi (s - W) / (S - W))) / 2. */
static double learning_rate(const struct lm_trainer *t, uint64_t s) {
    double S = (double)t->steps, W = ceil(t->h.warmup * S), at = (double)s;
    if (at < W)
        return t->h.lr * ((at + 1) / W);
    if (t->h.schedule == LM_LINEAR)
        return t->h.lr * ((S - at) / (S - W));
    if (t->h.schedule == LM_COSINE) {
        double sine, cosine;
        arith_sincos64(3.14159265358979323846 * ((at - W) / (S - W)), &sine, &cosine);
        return t->h.lr * (0.5 * (1 + cosine));
    }
    return t->h.lr;
}

static bool yield_hook(void *arg) {
    struct lm_trainer *t = arg;
    if (t->asked == LM_GO_ON && t->hooks->ask)
        t->asked = t->hooks->ask(t->hooks->ctx);
    return t->asked != LM_GO_ON;
}

static void take_rows(struct lm_trainer *t, uint64_t step, uint32_t *n) {
    uint32_t epoch = (uint32_t)(step / t->per_epoch);
    size_t at = (size_t)(step % t->per_epoch) * t->h.batch;
    if (t->order_epoch != epoch) {
        philox_shuffle(&t->order_rng, epoch, (uint32_t)t->d->count, t->order);
        t->order_epoch = epoch;
    }
    *n = (uint32_t)(t->d->count - at < t->h.batch ? t->d->count - at : t->h.batch);
    for (uint32_t i = 0; i < *n; i++)
        t->ex[i] = &t->d->rows[t->order[at + i]];
}

/* Rows from .. to of the step, added to the gradient; each (NULL: none) gets every row's by itself instead. */
static enum loam_status passes(struct lm_trainer *t, uint32_t from, uint32_t to, float *each, struct err *err) {
    uint64_t first_of_step = t->step / t->per_epoch * t->d->count + t->step % t->per_epoch * t->h.batch;
    for (uint32_t at = from; at < to;) {
        uint32_t n = 0;
        for (uint32_t tokens = 0; at + n < to && t->ex[at + n]->n <= t->plan.micro_tokens - tokens; n++)
            tokens += t->ex[at + n]->n;
        const struct lm_dropout drop = {
            t->h.dropout, {t->dropout_rng.key[0], t->dropout_rng.key[1]}, first_of_step + at};
        enum loam_status s = lm_pass_forward(t->pass, t->ex + at, n, true, &drop, t->nll + at, err);
        if (!s && each)
            s = lm_pass_backward_rows(t->pass, each + (at - from) * t->a->size, t->a->size, err);
        else if (!s)
            s = lm_pass_backward(t->pass, t->grad, NULL, 0, err);
        if (s)
            return s;
        at += n;
    }
    return LOAM_OK;
}

/* The step's rows shared out among the ranks, a round at a time; the same sum on all of them. */
static enum loam_status group_passes(struct lm_trainer *t, uint32_t n, struct err *err) {
    struct lm_group *g = t->group;
    uint32_t most = (uint32_t)g->ranks * LM_GROUP_ROWS, own, count;
    for (uint32_t at = 0; at < n; at += most) {
        uint32_t rows = n - at < most ? n - at : most, mine = at + lm_group_share(g, rows, g->rank, &own);
        memset(t->each, 0, own * t->a->size * sizeof(float));
        enum loam_status s = lm_group_agree(g, passes(t, mine, mine + own, t->each, err), err);
        for (int r = 0; r < g->ranks; r++) {
            lm_group_share(g, rows, r, &count);
            t->work.in[r] = count * sizeof *t->nll;
        }
        if (s || (s = g->gather(g, t->nll + at, t->work.in, err)) ||
            (s = lm_group_add(g, &t->work, t->grad, t->a->size, t->each, rows, err)))
            return s;
    }
    return LOAM_OK;
}

/* Row by row until the one whose gradient is not finite is found. */
static enum loam_status name_nonfinite(struct lm_trainer *t, uint32_t n, struct err *err) {
    for (uint32_t i = 0; i < n; i++) {
        memset(t->grad, 0, t->a->size * sizeof(float));
        enum loam_status s = passes(t, i, i + 1, NULL, err);
        if (s)
            return s;
        for (uint32_t k = 0; k < t->a->count; k++) {
            const struct lm_lora *l = &t->a->t[k];
            for (size_t j = l->a_at; j < l->b_at + (size_t)t->a->rank * l->out; j++)
                if (!isfinite(t->grad[j]))
                    return err_set(err, LOAM_ENONFINITE, "step %llu: the gradient of row %llu at layer %u %s is not finite",
                                   (unsigned long long)t->step + 1, (unsigned long long)t->ex[i]->id, l->layer,
                                   lm_linear_name(l->kind));
        }
    }
    return err_set(err, LOAM_ENONFINITE, "step %llu: the gradients' sum is not finite", (unsigned long long)t->step + 1);
}

static enum loam_status one_step(struct lm_trainer *t, struct lm_train_metrics *mt, struct err *err) {
    uint32_t n;
    take_rows(t, t->step, &n);
    memset(t->grad, 0, t->a->size * sizeof(float));
    enum loam_status s = t->group ? group_passes(t, n, err) : passes(t, 0, n, NULL, err);
    if (t->group)
        t->g->yield = NULL; /* from here on no rank may leave the others */
    if (s)
        return s == LOAM_ENONFINITE ? err_prefix(err, s, "step %llu", (unsigned long long)t->step + 1) : s;
    uint64_t targets = 0, tokens = 0;
    double loss = 0;
    for (uint32_t i = 0; i < n; i++) {
        targets += t->ex[i]->targets;
        tokens += t->ex[i]->n;
        loss += t->nll[i];
    }
    const struct gpu_ops *ops = t->g->ops;
    float sum2, part;
    if ((s = ops->sumsq(t->g, &sum2, t->grad, t->a->size, err)))
        return s;
    if (!isfinite(sum2))
        return name_nonfinite(t, n, err);
    float inv = (float)(1.0 / (double)targets), norm = sqrtf(sum2) * inv, g_scale = inv;
    if (t->h.clip > 0 && norm > (float)t->h.clip)
        g_scale = inv * ((float)t->h.clip / (norm + 1e-6f));
    double lr = learning_rate(t, t->step);
    struct gpu_adamw how = {.lr = (float)lr,
                            .beta1 = (float)t->h.beta1,
                            .beta2 = (float)t->h.beta2,
                            .eps = (float)t->h.eps,
                            .decay = (float)t->h.decay,
                            .g_scale = g_scale};
    gpu_adamw_correct(&how, t->step + 1);
    struct keccak k;
    keccak_init(&k);
    for (uint32_t i = 0; i < t->a->count; i++) {
        const struct lm_lora *l = &t->a->t[i];
        if ((s = ops->sumsq(t->g, &part, t->grad + l->a_at, (size_t)t->a->rank * (l->in + l->out), err)))
            return s;
        keccak_add(&k, &part, sizeof part);
    }
    t->g->yield = NULL; /* an update done by half could not be taken back */
    s = ops->adamw(t->g, t->a->data, t->p1, t->p2, t->grad, t->a->size, &how, err);
    t->g->yield = yield_hook;
    if (s)
        return s;
    uint8_t *rec = t->records + t->step * LM_STEP_BYTES;
    uint32_t bits;
    put_le64(rec, t->step + 1);
    put_f64(rec + 8, loss);
    put_le64(rec + 16, targets);
    memcpy(&bits, &norm, 4);
    put_le32(rec + 24, bits);
    memcpy(&bits, &how.lr, 4);
    put_le32(rec + 28, bits);
    keccak_end(&k, rec + 32);
    t->step++;
    t->tokens += tokens;
    t->tokens_here += tokens;
    t->loss = loss / (double)targets;
    *mt = (struct lm_train_metrics){.step = t->step,
                                    .steps = t->steps,
                                    .epoch = (uint32_t)((t->step - 1) / t->per_epoch) + 1,
                                    .epochs = t->h.epochs,
                                    .loss = t->loss,
                                    .lr = lr,
                                    .grad_norm = (double)norm,
                                    .tokens = t->tokens,
                                    .targets = targets,
                                    .eval_loss = t->eval_loss,
                                    .best_loss = t->best_loss,
                                    .best_step = t->best_step};
    return LOAM_OK;
}

static bool is_checkpoint(const struct lm_trainer *t, uint32_t epoch) {
    return epoch == t->h.epochs || !(epoch & (epoch - 1));
}

/* After the last step of an epoch: its adapter, if it is one to keep. */
static enum loam_status checkpoint(struct lm_trainer *t, struct err *err) {
    uint32_t epoch = (uint32_t)(t->step / t->per_epoch), i = t->r.checkpoints;
    if (t->step % t->per_epoch || !is_checkpoint(t, epoch))
        return LOAM_OK;
    char name[40];
    snprintf(name, sizeof name, "epoch-%u.adapter", epoch);
    char *path = t->dir ? path_of(t, name) : NULL;
    enum loam_status s = path || !t->dir ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    t->g->yield = NULL;
    if (!s)
        s = t->g->ops->finite(t->g, t->a->data, t->a->size, "the adapter", err);
    t->g->yield = yield_hook;
    if (!s && path)
        s = lm_adapter_save(t->a, path, err);
    if (!s) {
        LOAM_ASSERT(i < CHECKPOINTS_MAX);
        t->r.checkpoint_epoch[i] = epoch;
        t->r.checkpoint_step[i] = t->step;
        lm_adapter_hash(t->r.checkpoint_hash[i], t->a);
        t->r.checkpoints++;
        s = save_state(t, err);
    }
    if (!s && path && t->hooks->checkpoint)
        t->hooks->checkpoint(t->hooks->ctx, epoch, path);
    mem_free(path);
    return s;
}

static enum loam_status save_best(struct lm_trainer *t, struct err *err) {
    char *path = path_of(t, "best.adapter");
    enum loam_status s = path ? lm_adapter_save(t->a, path, err) : err_set(err, LOAM_ENOMEM, "no memory");
    mem_free(path);
    return s;
}

/* The rows kept back, forward only, in the buffers of training. Cancelled in between it is done again later, with the same bits. */
static enum loam_status evaluate(struct lm_trainer *t, struct err *err) {
    double sum = 0;
    uint64_t targets = 0;
    const struct lm_data *d = t->eval;
    for (size_t at = 0; at < d->count;) {
        uint32_t n = 0;
        uint64_t trained = 0;
        for (uint32_t tokens = 0; at + n < d->count && n < t->h.batch && d->rows[at + n].n <= t->plan.micro_tokens - tokens; n++) {
            tokens += d->rows[at + n].n;
            t->ex[n] = &d->rows[at + n];
            trained += d->rows[at + n].targets;
        }
        enum loam_status s = lm_pass_forward(t->pass, t->ex, n, false, NULL, t->nll, err);
        if (s)
            return s == LOAM_ENONFINITE ? err_prefix(err, s, "evaluation after step %llu", (unsigned long long)t->step) : s;
        for (uint32_t i = 0; i < n; i++)
            sum += t->nll[i];
        targets += trained;
        at += n;
    }
    double loss = sum / (double)targets;
    bool best = !(loss >= t->best_loss); /* the first is better than none */
    enum loam_status s = best ? save_best(t, err) : LOAM_OK;
    if (s)
        return s;
    uint8_t *rec = t->evals + (size_t)t->n_evals++ * LM_EVAL_BYTES;
    put_le64(rec, t->step);
    put_f64(rec + 8, sum);
    put_le64(rec + 16, targets);
    put_le64(rec + 24, best);
    t->eval_loss = loss;
    t->since_best = best ? 0 : t->since_best + 1;
    if (best) {
        t->best_loss = loss;
        t->best_step = t->step;
    }
    if (t->hooks->evaluated)
        t->hooks->evaluated(t->hooks->ctx, t->step, loss, best);
    return LOAM_OK;
}

/* The best adapter becomes the result, and the last of its checkpoints. The state stays that of the last step. */
static enum loam_status take_best(struct lm_trainer *t, struct err *err) {
    struct lm_adapter *b;
    char *path = path_of(t, "best.adapter"), name[40];
    enum loam_status s = path ? lm_adapter_load(&b, path, err) : err_set(err, LOAM_ENOMEM, "no memory");
    mem_free(path);
    if (s)
        return s;
    if (b->size != t->a->size)
        s = err_set(err, LOAM_EPARSE, "%s/best.adapter is not of this run", t->dir);
    else
        memcpy(t->a->data, b->data, b->size * sizeof(float));
    lm_adapter_free(b);
    if (s)
        return s;
    uint32_t n = 0;
    while (n < t->r.checkpoints && t->r.checkpoint_step[n] <= t->best_step)
        n++;
    t->r.checkpoints = n;
    if (n && t->r.checkpoint_step[n - 1] == t->best_step)
        return LOAM_OK;
    uint32_t epoch = (uint32_t)((t->best_step + t->per_epoch - 1) / t->per_epoch);
    if (n == CHECKPOINTS_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %d checkpoints", CHECKPOINTS_MAX);
    snprintf(name, sizeof name, "epoch-%u.adapter", epoch);
    if (!(path = path_of(t, name)))
        return err_set(err, LOAM_ENOMEM, "no memory");
    s = lm_adapter_save(t->a, path, err);
    if (!s) {
        t->r.checkpoint_epoch[n] = epoch;
        t->r.checkpoint_step[n] = t->best_step;
        lm_adapter_hash(t->r.checkpoint_hash[n], t->a);
        t->r.checkpoints++;
        if (t->hooks->checkpoint)
            t->hooks->checkpoint(t->hooks->ctx, epoch, path);
    }
    mem_free(path);
    return s;
}

static void speed(struct lm_trainer *t, uint64_t tokens, uint64_t us, struct lm_train_metrics *mt) {
    double now = us ? (double)tokens * 1e6 / (double)us : 0;
    t->tok_s = t->tok_s > 0 ? 0.9 * t->tok_s + 0.1 * now : now;
    mt->tok_s = t->tok_s;
    double left = (double)(t->steps - t->step) * (double)t->d->tokens / (double)t->per_epoch;
    mt->eta_s = t->tok_s > 0 ? left / t->tok_s : 0;
    mt->rss = mem_resident();
}

/* Rank 0's wish is everybody's. */
static enum loam_status agree_to_go_on(struct lm_trainer *t, struct err *err) {
    uint32_t asked = t->asked;
    enum loam_status s = t->group ? t->group->bcast(t->group, &asked, sizeof asked, err) : LOAM_OK;
    t->asked = (enum lm_train_ask)asked;
    return s;
}

static enum loam_status run(struct lm_trainer *t, struct err *err) {
    for (;;) {
        struct lm_train_metrics mt;
        enum loam_status s = eval_due(t) ? evaluate(t, err) : LOAM_OK;
        if (s == LOAM_ECANCEL && t->asked != LM_GO_ON)
            break;
        if (s)
            return s;
        if (t->step == t->steps || out_of_patience(t))
            break;
        uint64_t before = clock_mono_us(), tokens = t->tokens;
        s = agree_to_go_on(t, err);
        if (s)
            return s;
        if (t->asked != LM_GO_ON)
            break;
        s = one_step(t, &mt, err);
        if (s == LOAM_ECANCEL && t->asked != LM_GO_ON)
            break;
        if (!s)
            s = checkpoint(t, err);
        if (s)
            return s;
        uint64_t now = clock_mono_us();
        speed(t, t->tokens - tokens, now - before, &mt);
        if (t->hooks->metrics)
            t->hooks->metrics(t->hooks->ctx, &mt);
        if ((double)(now - t->saved_us) > save_every_s(t) * 1e6 && (s = save_state(t, err)))
            return s;
        if (yield_hook(t) && !t->group)
            break;
    }
    if (t->asked != LM_GO_ON && (eval_due(t) || (t->step < t->steps && !out_of_patience(t)))) {
        enum loam_status s = save_state(t, err);
        if (s)
            return s;
        t->r.paused = t->asked == LM_PAUSE;
        return err_set(err, LOAM_ECANCEL, "training %s at step %llu of %llu; started again it goes on there",
                       t->r.paused ? "paused" : "cancelled", (unsigned long long)t->step, (unsigned long long)t->steps);
    }
    if (!t->dir)
        return LOAM_OK;
    enum loam_status s = save_state(t, err); /* before the best takes the place of the last */
    if (!s && t->n_evals)
        s = take_best(t, err);
    char *path = path_of(t, "adapter");
    if (!s)
        s = path ? lm_adapter_save(t->a, path, err) : err_set(err, LOAM_ENOMEM, "no memory");
    mem_free(path);
    return s;
}

enum loam_status lm_trainer_run(struct lm_trainer *t, const struct lm_train_hooks *hooks, struct lm_train_result *out,
                                struct err *err) {
    static const struct lm_train_hooks none = {0};
    bool (*yield)(void *) = t->g->yield;
    void *yield_arg = t->g->yield_arg;
    t->hooks = hooks ? hooks : &none;
    t->asked = LM_GO_ON;
    t->g->yield = yield_hook;
    t->g->yield_arg = t;
    t->started_us = t->saved_us = clock_mono_us();
    t->tokens_here = 0;
    enum loam_status s = run(t, err);
    t->g->yield = yield;
    t->g->yield_arg = yield_arg;
    lm_adapter_hash(t->r.adapter_hash, t->a);
    t->r.steps = t->step;
    t->r.loss = t->loss;
    t->r.evals = t->n_evals;
    t->r.best_loss = t->best_loss;
    t->r.best_step = t->best_step;
    t->r.stopped = t->step < t->steps && out_of_patience(t);
    t->r.seconds = (double)(clock_mono_us() - t->started_us) / 1e6;
    t->r.tok_s = t->r.seconds > 0 ? (double)t->tokens_here / t->r.seconds : 0;
    *out = t->r;
    return s;
}
