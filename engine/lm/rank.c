/* loam-rank: one of several processes that train an adapter together (lm/group.h), started by mpirun; `loam train --ranks N` does
 * that, and so can anybody:
 *
 *   mpirun -n 2 loam-rank FOLDER          FOLDER: of a run, with its file "ranks" (lm/ranks.h); rank 0's is enough
 *
 *   --base FILE     the base model where it lies elsewhere on this machine than the run's file says
 *   --backend NAME  as compute.backend; "cuda" takes the device of the rank's number on its machine
 *   --threads N     compute threads of a rank; 0: the machine's cores shared out among its ranks
 *   --save S        seconds between states (as often as takes 4 % of the time, 1 to 30)
 *   --report        one line a step for a program to read (lm_ranks_step_write), and standard input is watched: at its end the run
 *                   is stopped, its state kept
 *
 * Exit status: status_exit of what went wrong. Whatever ends a rank, the folder keeps the last state; started again with any
 * number of ranks, or by `loam train` alone, the run goes on there and comes to the same adapter hash. */
#include "base/file.h"
#include "base/mem.h"
#include "gpu/ops.h"
#include "gpu/pool.h"
#include "lm/group.h"
#include "lm/model.h"
#include "lm/ranks.h"

#include <mpi.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

#define BCAST_PIECE ((size_t)1 << 28)

/* ---- MPI as a transport ---- */

static enum loam_status mpi(int code, const char *what, struct err *err) {
    char text[MPI_MAX_ERROR_STRING + 1];
    int n = 0;
    if (code == MPI_SUCCESS)
        return LOAM_OK;
    if (MPI_Error_string(code, text, &n) != MPI_SUCCESS)
        n = 0;
    text[n] = 0;
    return err_set(err, LOAM_ENET, "MPI: %.200s in %s; another rank may be lost", text, what);
}

static enum loam_status mpi_bcast(struct lm_group *g, void *p, size_t bytes, struct err *err) {
    enum loam_status s = LOAM_OK;
    for (size_t at = 0; !s && at < bytes; at += BCAST_PIECE)
        s = mpi(MPI_Bcast((char *)p + at, (int)(bytes - at < BCAST_PIECE ? bytes - at : BCAST_PIECE), MPI_BYTE, 0, MPI_COMM_WORLD),
                "MPI_Bcast", err);
    return s;
}

struct places { /* counts and offsets as MPI wants them */
    int n[2][LM_GROUP_MAX], at[2][LM_GROUP_MAX];
};

static void place(struct places *p, int side, const size_t *bytes, int ranks) {
    int at = 0;
    for (int r = 0; r < ranks; r++) { /* at most LM_GROUP_MAX * LM_GROUP_ROWS * LM_GROUP_SLICE * 4 bytes in all: 2^30 */
        p->n[side][r] = (int)bytes[r];
        p->at[side][r] = at;
        at += (int)bytes[r];
    }
}

static enum loam_status mpi_gather(struct lm_group *g, void *p, const size_t *bytes, struct err *err) {
    struct places *w = g->impl;
    place(w, 0, bytes, g->ranks);
    return mpi(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, p, w->n[0], w->at[0], MPI_BYTE, MPI_COMM_WORLD), "MPI_Allgatherv", err);
}

static enum loam_status mpi_exchange(struct lm_group *g, const void *send, const size_t *send_bytes, void *recv, const size_t *recv_bytes,
                                     struct err *err) {
    struct places *w = g->impl;
    place(w, 0, send_bytes, g->ranks);
    place(w, 1, recv_bytes, g->ranks);
    return mpi(MPI_Alltoallv(send, w->n[0], w->at[0], MPI_BYTE, recv, w->n[1], w->at[1], MPI_BYTE, MPI_COMM_WORLD), "MPI_Alltoallv", err);
}

/* ---- the program ---- */

struct run {
    bool report;
    const char *dir, *base, *backend;
    int threads;
    uint32_t since_looked;
    double save_s;
    struct lm_group g;
};

/* What a signal says: mpirun ends all ranks by SIGTERM when one is lost. Written after each step, by rank 0 alone. */
static char last_words[2][512]; /* one is whole at any instant */
static volatile sig_atomic_t last_words_len[2], last_words_at;

static void on_end(int sig) {
    if (write(STDERR_FILENO, last_words[last_words_at], (size_t)last_words_len[last_words_at]) < 0) {
    }
    _exit(128 + sig);
}

static void words(uint64_t step, uint64_t steps) {
    int at = !last_words_at;
    last_words_len[at] = snprintf(last_words[at], sizeof last_words[at],
                                  "loam-rank: ended by mpirun at step %llu of %llu, because another rank was lost or the run was stopped; the folder keeps "
                                  "the last state, and the same command goes on from it\n",
                                  (unsigned long long)step, (unsigned long long)steps);
    last_words_at = at;
}

static void metrics(void *ctx, const struct lm_train_metrics *m) {
    struct run *r = ctx;
    struct buf line = BUF_INIT(1024);
    words(m->step, m->steps);
    if (!r->report)
        printf("step %llu of %llu, loss %.4f, %.0f tok/s on rank 0's clock\n", (unsigned long long)m->step, (unsigned long long)m->steps, m->loss, m->tok_s);
    else if (!lm_ranks_step_write(&line, m, NULL))
        fputs((const char *)line.data, stdout);
    buf_clear(&line);
    fflush(stdout);
}

/* Asked before every operation: looks now and then whether standard input has ended. */
static enum lm_train_ask ask(void *ctx) {
    struct run *r = ctx;
    char c;
    if (!r->report || r->since_looked++ % 64)
        return LM_GO_ON;
    struct pollfd p = {STDIN_FILENO, POLLIN, 0};
    return poll(&p, 1, 0) > 0 && read(STDIN_FILENO, &c, 1) <= 0 ? LM_CANCEL : LM_GO_ON;
}

/* Rank 0's file, to all. */
static enum loam_status job(struct run *r, struct buf *out, struct err *err) {
    char *path = mem_printf("%s/%s", r->dir, LM_RANKS_FILE);
    uint64_t len = 0;
    enum loam_status s = path ? LOAM_OK : err_set(err, LOAM_ENOMEM, "no memory");
    if (!s && !r->g.rank) {
        s = file_read(out, path, err);
        len = out->len;
    }
    mem_free(path);
    if ((s = lm_group_agree(&r->g, s, err)) || (s = r->g.bcast(&r->g, &len, sizeof len, err)))
        return s;
    if (r->g.rank) {
        s = buf_reserve(out, (size_t)len, err);
        out->len = s ? 0 : (size_t)len;
    }
    return (s = lm_group_agree(&r->g, s, err)) ? s : r->g.bcast(&r->g, out->data, (size_t)len, err);
}

static enum loam_status open_device(struct gpu **out, const struct run *r, int *shared, struct err *err) {
    MPI_Comm local;
    int here = 0, at = 0;
    char name[32];
    enum loam_status s = mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, r->g.rank, MPI_INFO_NULL, &local), "MPI_Comm_split_type", err);
    if (!s)
        s = mpi(MPI_Comm_size(local, &here), "MPI_Comm_size", err);
    if (!s)
        s = mpi(MPI_Comm_rank(local, &at), "MPI_Comm_rank", err);
    if (s)
        return s;
    MPI_Comm_free(&local);
    *shared = here;
    struct gpu_config c = {r->backend, r->threads};
    if (!c.threads)
        c.threads = pool_cores() / here > 1 ? pool_cores() / here : 1;
    if (r->backend && !strcmp(r->backend, "cuda")) {
        snprintf(name, sizeof name, "cuda:%d", at);
        c.backend = name;
    }
    return gpu_open(out, &c, err);
}

static size_t memory_of(int ranks_here) {
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page / 4 * 3 / (size_t)ranks_here : 0;
}

static enum loam_status train(struct run *r, struct err *err) {
    struct buf file = BUF_INIT(LM_RANKS_BYTES_MAX);
    struct lm_data data;
    struct lm_hyper h;
    struct lm_model *m = NULL;
    struct gpu *g = NULL;
    struct lm_trainer *t = NULL;
    struct lm_train_result res;
    static char base[LM_RANKS_PATH_MAX];
    uint8_t seed[32];
    int here = 1;
    lm_data_init(&data);
    enum loam_status s = job(r, &file, err);
    if (!s) { /* what each rank does for itself, agreed on at the end */
        s = lm_ranks_read(file.data, file.len, base, &data, &h, seed, err);
        buf_clear(&file);
        if (!s)
            s = lm_model_open(&m, r->base ? r->base : base, err);
        if (!s)
            s = open_device(&g, r, &here, err);
        if (!s)
            s = lm_trainer_new(&t, g, m, &data, NULL, &h, seed, r->g.rank ? NULL : r->dir, memory_of(here), err);
        s = lm_group_agree(&r->g, s, err);
    }
    if (!s)
        s = lm_trainer_group(t, &r->g, err);
    if (!s) {
        const struct lm_train_hooks hooks = {.ctx = r, .metrics = metrics, .ask = ask, .save_s = r->save_s};
        words(lm_trainer_step(t), lm_trainer_plan(t)->steps);
        if (!r->g.rank) {
            signal(SIGTERM, on_end);
            signal(SIGINT, on_end);
        }
        s = lm_trainer_run(t, r->g.rank ? NULL : &hooks, &res, err);
    }
    if (!s && !r->g.rank) {
        char hex[65];
        hex_encode(hex, res.adapter_hash, 32);
        printf("done %llu steps on %d rank%s, adapter %s\n", (unsigned long long)res.steps, r->g.ranks, r->g.ranks == 1 ? "" : "s", hex);
        fflush(stdout);
    }
    lm_trainer_free(t);
    gpu_close(g);
    lm_model_free(m);
    lm_data_clear(&data);
    buf_clear(&file);
    return s;
}

static int bad_use(const char *what) {
    fprintf(stderr, "loam-rank: %s\nusage: mpirun -n N loam-rank [--base FILE] [--backend NAME] [--threads N] [--save S] [--report] FOLDER\n", what);
    return status_exit(LOAM_EINVAL);
}

int main(int argc, char **argv) {
    struct err e = {LOAM_OK, ""};
    struct run *r = mem_zalloc(sizeof *r);
    struct places *w = mem_zalloc(sizeof *w);
    if (!r || !w)
        return status_exit(LOAM_ENOMEM);
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--report"))
            r->report = true;
        else if (!strcmp(a, "--base") && v)
            r->base = v, i++;
        else if (!strcmp(a, "--backend") && v)
            r->backend = v, i++;
        else if (!strcmp(a, "--threads") && v) {
            char *end;
            long n = strtol(v, &end, 10);
            if (*end || n < 0 || n > POOL_THREADS_MAX)
                return bad_use("--threads takes 0 to 256");
            r->threads = (int)n;
            i++;
        } else if (!strcmp(a, "--save") && v) {
            char *end;
            r->save_s = strtod(v, &end);
            if (*end || !(r->save_s > 0))
                return bad_use("--save takes seconds");
            i++;
        } else if (a[0] == '-' || r->dir)
            return bad_use("unknown word");
        else
            r->dir = a;
    }
    if (!r->dir)
        return bad_use("a folder is missing");
    int provided;
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return status_exit(LOAM_ENET);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    r->g = (struct lm_group){0, 1, w, mpi_bcast, mpi_gather, mpi_exchange};
    MPI_Comm_rank(MPI_COMM_WORLD, &r->g.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &r->g.ranks);
    enum loam_status s = r->g.ranks <= LM_GROUP_MAX ? train(r, &e) : err_set(&e, LOAM_ELIMIT, "%d ranks; at most %d", r->g.ranks, LM_GROUP_MAX);
    /* An agreed error is everybody's: rank 0 says it. What only one rank met is its own to say, and the others are ended. */
    if (s && s != LOAM_ECANCEL && (!r->g.rank || strncmp(e.text, "rank ", 5) != 0))
        fprintf(stderr, "loam-rank: %s\n", e.text);
    if (s && s != LOAM_ECANCEL) {
        fflush(NULL);
        if (strncmp(e.text, "rank ", 5) != 0)
            MPI_Abort(MPI_COMM_WORLD, status_exit(s));
    }
    if (s == LOAM_ECANCEL && !r->g.rank)
        fprintf(stderr, "loam-rank: %s\n", e.text);
    MPI_Finalize();
    mem_free(r);
    mem_free(w);
    return s ? status_exit(s) : 0;
}
