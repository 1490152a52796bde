#include "node/job.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/entropy.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/private.h"
#include "node/topic.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

#define RECORD_MAX (1u << 20)      /* bytes of a job's record: its words, a few thousand file names at most */
#define UNLISTED_BASE (1ull << 40) /* numbers of unlisted jobs: not kept, never shown */
#define PUBLISH_US (250 * 1000)    /* how often progress reaches the jobs topic */
#define FLOW_MAX 128
#define RECORDS_BACK 1000 /* jobs that failed or were cancelled can be resumed until so many later ones have begun */

struct job {
    struct job *next; /* newest first */
    struct node *n;
    uint64_t id;
    char *title, flow[FLOW_MAX];
    bool listed, durable, fresh; /* fresh: with a number never used before */
    json_t *record;
    enum loam_status (*run)(struct job *j, void *arg, struct err *err);
    void (*end)(struct job *j, void *arg, enum loam_status s, const struct err *err);
    void *arg;

    uv_thread_t thread;
    bool joined;
    atomic_bool cancelled, finished; /* finished: the thread touches nothing any more */
    /* under jobs.lock */
    enum job_state state;
    bool pause, halted; /* halted: cancelled by the node's stop */
    uint64_t done, total, started_ms, ended_ms, published_us;
    json_t *detail, *result;
    enum loam_status status;
    struct err err;
};

struct jobs {
    uv_mutex_t lock, last_lock; /* last_lock: the file "last" */
    uv_cond_t cond;
    struct job *first;
    uint64_t next_listed, next_unlisted, ended;
    size_t threads;
    bool stopping;
    char *dir;
};

const char *job_state_name(enum job_state s) {
    static const char *const names[] = {"running", "paused", "waiting", "done", "failed", "cancelled"};
    return (unsigned)s < 6 ? names[s] : "?";
}

static char *record_path(struct jobs *js, uint64_t id) {
    return mem_printf("%s/%llu.json", js->dir, (unsigned long long)id);
}

static json_t *record_read(struct jobs *js, uint64_t id) {
    char *path = record_path(js, id);
    struct buf b = BUF_INIT(RECORD_MAX);
    json_t *o = NULL;
    struct err e;
    json_error_t je;
    if (path && file_exists(path)) {
        if (file_read(&b, path, &e))
            log_warn("node", "a job's record is left out: %s", e.text);
        else if (!(o = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, &je)))
            log_warn("node", "a job's record is left out: %s: %s", path, je.text);
    }
    buf_clear(&b);
    mem_free(path);
    return o;
}

static enum loam_status record_write(struct job *j, const char *state, struct err *err) {
    struct jobs *js = j->n->jobs;
    char *path = record_path(js, j->id), *text = NULL;
    json_t *o =
        json_pack("{s:I s:s s:s s:s s:I s:O?}", "id", (json_int_t)j->id, "flow", j->flow, "title", j->title,
                  "state", state, "started_ms", (json_int_t)j->started_ms, "record", j->record);
    if (o)
        text = json_dumps(o, JSON_COMPACT);
    enum loam_status s = path && text ? file_write(path, text, strlen(text), 0600, err)
                                      : err_set(err, LOAM_ENOMEM, "no memory for the job's record");
    json_decref(o);
    mem_free(text);
    mem_free(path);
    return s;
}

static void record_remove(struct job *j) {
    char *path = record_path(j->n->jobs, j->id);
    if (path && unlink(path) != 0 && errno != ENOENT)
        log_warn("node", "job %llu: its record %s cannot be removed", (unsigned long long)j->id, path);
    mem_free(path);
}

static int each_record(struct jobs *js, json_t *out, uint64_t *highest, bool all) {
    DIR *d = opendir(js->dir);
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));) {
        char *end;
        errno = 0;
        unsigned long long id = strtoull(e->d_name, &end, 10);
        if (errno || end == e->d_name || strcmp(end, ".json") != 0)
            continue;
        if (id > *highest)
            *highest = id;
        if (!out)
            continue;
        json_t *o = record_read(js, id);
        const char *state = json_string_value(json_object_get(o, "state"));
        if (o && state && (all || strcmp(state, "running") == 0)) {
            size_t at = json_array_size(out); /* by number: readdir has no order */
            while (at && (uint64_t)json_integer_value(json_object_get(json_array_get(out, at - 1), "id")) > id)
                at--;
            json_array_insert_new(out, at, o);
        } else
            json_decref(o);
    }
    closedir(d);
    return 0;
}

static void job_free(struct job *j) {
    json_decref(j->record);
    json_decref(j->detail);
    json_decref(j->result);
    mem_free(j->title);
    mem_free(j);
}

/* A job of an earlier life that waits, failed or was cancelled: listed, so that the user finds what can be
 * resumed. */
static void list_earlier(struct node *n, const json_t *o) {
    const char *title = json_string_value(json_object_get(o, "title")),
               *flow = json_string_value(json_object_get(o, "flow"));
    const char *state = json_string_value(json_object_get(o, "state"));
    struct job *j = title && flow && strlen(flow) < FLOW_MAX && strcmp(state, "running") != 0
                        ? mem_zalloc(sizeof *j)
                        : NULL;
    if (!j)
        return;
    j->n = n;
    j->id = (uint64_t)json_integer_value(json_object_get(o, "id"));
    j->title = mem_strdup(title);
    memcpy(j->flow, flow, strlen(flow) + 1);
    j->listed = j->durable = j->joined = true;
    atomic_store(&j->finished, true);
    j->record = json_deep_copy(json_object_get(o, "record"));
    j->started_ms = j->ended_ms = (uint64_t)json_integer_value(json_object_get(o, "started_ms"));
    j->state = strcmp(state, "waiting") == 0     ? JOB_WAITING
               : strcmp(state, "cancelled") == 0 ? JOB_CANCELLED
                                                 : JOB_FAILED;
    j->status = j->state == JOB_WAITING     ? LOAM_EPERM
                : j->state == JOB_CANCELLED ? LOAM_ECANCEL
                                            : LOAM_EINTERNAL;
    err_set(&j->err, j->status, "in an earlier life of the node; `job resume %llu` goes on",
            (unsigned long long)j->id);
    if (!j->title) {
        job_free(j);
        return;
    }
    struct job **p = &n->jobs->first; /* newest first */
    while (*p && (*p)->id > j->id)
        p = &(*p)->next;
    j->next = *p;
    *p = j;
}

enum loam_status jobs_open(struct node *n, struct err *err) {
    struct jobs *js = mem_zalloc(sizeof *js);
    if (!js)
        return err_set(err, LOAM_ENOMEM, "no memory for jobs");
    n->jobs = js;
    uv_mutex_init(&js->lock);
    uv_mutex_init(&js->last_lock);
    uv_cond_init(&js->cond);
    js->dir = node_path(n, "jobs");
    if (!js->dir)
        return err_set(err, LOAM_ENOMEM, "no memory for jobs");
    enum loam_status s = file_mkdirs(js->dir, err);
    if (s)
        return s;
    /* Numbers go on behind the highest ever given: the file "last", or a record. */
    uint64_t highest = 0;
    char *path = mem_printf("%s/last", js->dir);
    struct buf b = BUF_INIT(64);
    if (path && file_exists(path) && !(s = file_read(&b, path, err)))
        highest = strtoull((const char *)b.data, NULL, 10);
    buf_clear(&b);
    mem_free(path);
    if (s)
        return s;
    json_t *records = json_array(), *o;
    size_t i;
    if (!records || each_record(js, records, &highest, true) != 0) {
        json_decref(records);
        return err_set(err, LOAM_EIO, "jobs folder %s cannot be read", js->dir);
    }
    json_array_foreach(records, i, o) {
        const char *state = json_string_value(json_object_get(o, "state"));
        uint64_t id = (uint64_t)json_integer_value(json_object_get(o, "id"));
        if (strcmp(state, "running") != 0 && id < highest && highest - id > RECORDS_BACK) {
            char *old = record_path(js, id);
            if (old && unlink(old) != 0)
                log_warn("node", "the record of the old job %llu cannot be removed: %s", (unsigned long long)id, strerror(errno));
            mem_free(old);
            continue;
        }
        list_earlier(n, o);
    }
    json_decref(records);
    js->next_listed = highest + 1;
    js->next_unlisted = UNLISTED_BASE;
    return LOAM_OK;
}

/* Joins threads that ended, forgets the oldest listed and every unlisted ended job. */
static void reap_locked(struct jobs *js, size_t keep) {
    size_t kept = 0;
    for (struct job **p = &js->first; *p;) {
        struct job *j = *p;
        if (!atomic_load(&j->finished)) {
            p = &j->next;
            continue;
        }
        if (!j->joined) {
            uv_thread_join(&j->thread);
            j->joined = true;
        }
        if (j->listed && kept < keep) {
            kept++;
            p = &j->next;
            continue;
        }
        *p = j->next;
        job_free(j);
    }
}

void jobs_close(struct node *n) {
    struct jobs *js = n->jobs;
    if (!js)
        return;
    for (struct job *j = js->first; j; j = j->next)
        if (!j->joined) {
            uv_thread_join(&j->thread);
            j->joined = true;
            atomic_store(&j->finished, true);
        }
    while (js->first) {
        struct job *j = js->first;
        js->first = j->next;
        job_free(j);
    }
    uv_cond_destroy(&js->cond);
    uv_mutex_destroy(&js->lock);
    uv_mutex_destroy(&js->last_lock);
    mem_free(js->dir);
    mem_free(js);
    n->jobs = NULL;
}

void jobs_stop(struct node *n) {
    struct jobs *js = n->jobs;
    uv_mutex_lock(&js->lock);
    js->stopping = true;
    for (struct job *j = js->first; j; j = j->next)
        if (!atomic_load(&j->finished) && !atomic_load(&j->cancelled)) {
            j->halted = true;
            atomic_store(&j->cancelled, true);
        }
    uv_cond_broadcast(&js->cond);
    uv_mutex_unlock(&js->lock);
}

bool jobs_idle(struct node *n) {
    uv_mutex_lock(&n->jobs->lock);
    bool idle = n->jobs->threads == 0;
    uv_mutex_unlock(&n->jobs->lock);
    return idle;
}

static json_t *job_json_locked(struct job *j, bool whole) {
    json_t *o =
        json_pack("{s:I s:s s:s s:s s:I s:I s:I s:b}", "id", (json_int_t)j->id, "title", j->title, "flow",
                  j->flow, "state", job_state_name(j->state), "done", (json_int_t)j->done, "total",
                  (json_int_t)j->total, "started_ms", (json_int_t)j->started_ms, "durable", j->durable);
    if (!o)
        return NULL;
    if (j->detail)
        json_object_set_new(o, "detail", json_deep_copy(j->detail));
    if (j->ended_ms) {
        json_object_set_new(o, "ended_ms", json_integer((json_int_t)j->ended_ms));
        json_object_set_new(o, "status", json_string(status_name(j->status)));
        if (j->status)
            json_object_set_new(o, "error", json_string(j->err.text));
    }
    if (whole) {
        if (j->record)
            json_object_set_new(o, "record", json_deep_copy(j->record));
        if (j->result)
            json_object_set_new(o, "result", json_deep_copy(j->result));
    }
    return o;
}

json_t *job_list(struct node *n) {
    json_t *a = json_array();
    uv_mutex_lock(&n->jobs->lock);
    for (struct job *j = n->jobs->first; a && j; j = j->next)
        if (j->listed)
            json_array_append_new(a, job_json_locked(j, false));
    uv_mutex_unlock(&n->jobs->lock);
    return a;
}

json_t *job_show(struct node *n, uint64_t id) {
    json_t *o = NULL;
    uv_mutex_lock(&n->jobs->lock);
    for (struct job *j = n->jobs->first; j; j = j->next)
        if (j->id == id) {
            o = job_json_locked(j, true);
            break;
        }
    uv_mutex_unlock(&n->jobs->lock);
    return o;
}

size_t job_running(struct node *n) {
    size_t count = 0;
    uv_mutex_lock(&n->jobs->lock);
    for (struct job *j = n->jobs->first; j; j = j->next)
        count += j->listed && (j->state == JOB_RUNNING || j->state == JOB_PAUSED);
    uv_mutex_unlock(&n->jobs->lock);
    return count;
}

uint64_t jobs_ended(struct node *n) {
    uv_mutex_lock(&n->jobs->lock);
    uint64_t ended = n->jobs->ended;
    uv_mutex_unlock(&n->jobs->lock);
    return ended;
}

json_t *job_unfinished(struct node *n) {
    json_t *a = json_array();
    uint64_t highest = 0;
    if (a)
        each_record(n->jobs, a, &highest, false);
    return a;
}

uint64_t job_same(struct node *n, uint64_t before, const json_t *record) {
    const json_t *argv = json_object_get(record, "argv"), *cwd = json_object_get(record, "cwd");
    uint64_t id = 0;
    if (!argv)
        return 0;
    uv_mutex_lock(&n->jobs->lock);
    for (struct job *j = n->jobs->first; j; j = j->next)
        if (j->durable && j->id < before && (j->state == JOB_RUNNING || j->state == JOB_PAUSED) && (!id || j->id < id) &&
            json_equal(json_object_get(j->record, "argv"), argv) && json_equal(json_object_get(j->record, "cwd"), cwd))
            id = j->id;
    uv_mutex_unlock(&n->jobs->lock);
    return id;
}

json_t *job_record(struct node *n, uint64_t id) {
    return record_read(n->jobs, id);
}

static void publish(struct node *n) {
    uv_mutex_lock(&n->p->publish);
    json_t *list = job_list(n);
    topic_set(n, "jobs", list ? json_pack("{s:o}", "list", list) : NULL);
    uv_mutex_unlock(&n->p->publish);
}

static enum loam_status record_begin(struct job *j, struct err *err) {
    struct jobs *js = j->n->jobs;
    enum loam_status s = LOAM_OK;
    if (j->listed && j->fresh) {
        uv_mutex_lock(&js->last_lock); /* so that an older number never overwrites a newer one */
        uv_mutex_lock(&js->lock);
        uint64_t last = js->next_listed - 1;
        uv_mutex_unlock(&js->lock);
        char text[32], *path = mem_printf("%s/last", js->dir);
        int len = snprintf(text, sizeof text, "%llu\n", (unsigned long long)last);
        s = path ? file_write(path, text, (size_t)len, 0600, err)
                 : err_set(err, LOAM_ENOMEM, "no memory for a job");
        mem_free(path);
        uv_mutex_unlock(&js->last_lock);
    }
    return s || !j->durable ? s : record_write(j, "running", err);
}

static void thread_main(void *arg) {
    struct job *j = arg;
    struct node *n = j->n;
    struct jobs *js = n->jobs;
    struct err e = {LOAM_OK, ""};
    /* The disk is waited for here and not by whoever starts jobs, which may be the loop. Nothing is done, and
     * nobody is told of the job, before its record stands. */
    enum loam_status s = record_begin(j, &e);
    if (!s)
        s = j->run(j, j->arg, &e);

    uv_mutex_lock(&js->lock);
    bool halted = j->halted;
    uv_mutex_unlock(&js->lock);
    /* A stopping node leaves the record as it is ("running"), so that the next one goes on. A job that lacks
     * a password waits for the user. Failed and cancelled ones keep their record, so that `job resume` can go
     * on under the same flow id; done ones need none. */
    enum job_state state = s == LOAM_OK ? JOB_DONE : s == LOAM_ECANCEL ? JOB_CANCELLED : JOB_FAILED;
    if (s == LOAM_EPERM && j->durable)
        state = JOB_WAITING;
    if (j->durable) {
        struct err we;
        if (s == LOAM_OK)
            record_remove(j);
        else if (!(halted && s == LOAM_ECANCEL) && record_write(j, job_state_name(state), &we))
            log_warn("node", "job %llu: %s", (unsigned long long)j->id, we.text);
    }
    uv_mutex_lock(&js->lock);
    j->state = state;
    j->status = s;
    j->err = e;
    j->ended_ms = clock_unix_ms();
    js->ended += j->listed;
    uv_cond_broadcast(&js->cond);
    uv_mutex_unlock(&js->lock);
    if (j->listed) {
        if (s)
            log_line(s == LOAM_ECANCEL ? LOG_INFO : LOG_WARN, "node", "job %llu (%s): %s: %s",
                     (unsigned long long)j->id, j->title, job_state_name(state), e.text);
        else
            log_info("node", "job %llu (%s): done", (unsigned long long)j->id, j->title);
        publish(n);
    }
    if (j->end)
        j->end(j, j->arg, s, &e);
    uv_mutex_lock(&js->lock);
    js->threads--;
    atomic_store(&j->finished, true);
    uv_mutex_unlock(&js->lock);
    node_maybe_idle(n);
}

enum loam_status job_start(struct node *n, uint64_t *id, const struct job_def *def, struct err *err) {
    struct jobs *js = n->jobs;
    struct job *j = mem_zalloc(sizeof *j);
    if (!j)
        return err_set(err, LOAM_ENOMEM, "no memory for a job");
    enum loam_status s = LOAM_OK;
    j->n = n;
    j->title = mem_strdup(def->title);
    j->listed = def->listed || def->durable;
    j->durable = def->durable;
    j->fresh = def->id == 0;
    j->run = def->run;
    j->end = def->end;
    j->arg = def->arg;
    j->state = JOB_RUNNING;
    j->started_ms = clock_unix_ms();
    if (def->record)
        j->record = json_deep_copy(def->record);
    if (!j->title || (def->record && !j->record))
        s = err_set(err, LOAM_ENOMEM, "no memory for a job");
    if (!s && def->flow) {
        if (strlen(def->flow) >= FLOW_MAX)
            s = err_set(err, LOAM_ELIMIT, "flow id longer than %d bytes", FLOW_MAX - 1);
        else
            memcpy(j->flow, def->flow, strlen(def->flow) + 1);
    } else if (!s) {
        uint8_t r[16];
        char hex[33];
        s = entropy_fill(r, sizeof r, err);
        hex_encode(hex, r, sizeof r);
        snprintf(j->flow, sizeof j->flow, "%.*s-%s", (int)strcspn(def->title, " "), def->title, hex);
    }
    if (s) {
        job_free(j);
        return s;
    }

    uv_mutex_lock(&js->lock);
    reap_locked(js, (size_t)option_uint(n->opt, "job.keep-finished"));
    if (js->stopping)
        s = err_set(err, LOAM_ESTATE, "the node is stopping");
    else if (js->threads >= JOBS_RUNNING_MAX)
        s = err_set(err, LOAM_EBUSY, "%d jobs run already", JOBS_RUNNING_MAX);
    for (struct job **p = &js->first; !s && def->id && *p; p = &(*p)->next)
        if ((*p)->id == def->id) {
            if (!atomic_load(&(*p)->finished)) {
                s = err_set(err, LOAM_EBUSY, "job %llu still runs", (unsigned long long)def->id);
            } else { /* its successor takes its place */
                struct job *old = *p;
                *p = old->next;
                if (!old->joined)
                    uv_thread_join(&old->thread);
                job_free(old);
            }
            break;
        }
    if (!s) {
        j->id = def->id ? def->id : j->listed ? js->next_listed++ : js->next_unlisted++;
        js->threads++;
    }
    uv_mutex_unlock(&js->lock);
    if (s) {
        uv_mutex_lock(&js->lock);
        if (j->id)
            js->threads--;
        uv_mutex_unlock(&js->lock);
        job_free(j);
        return s;
    }
    *id = j->id;
    bool listed = j->listed;
    uv_mutex_lock(&js->lock);
    j->next = js->first;
    js->first = j;
    if (js->stopping) {
        j->halted = true;
        atomic_store(&j->cancelled, true);
    }
    int rc = uv_thread_create(&j->thread, thread_main, j);
    if (rc) {
        js->first = j->next;
        js->threads--;
    }
    uv_mutex_unlock(&js->lock);
    if (rc) {
        job_free(j);
        return err_set(err, LOAM_ENOMEM, "no thread for a job: %s", uv_strerror(rc));
    }
    if (listed)
        publish(n);
    return LOAM_OK;
}

uint64_t job_id(struct job *j) {
    return j->id;
}

const char *job_flow(struct job *j) {
    return j->flow;
}

bool job_cancelled(struct job *j) {
    return atomic_load_explicit(&j->cancelled, memory_order_relaxed);
}

static enum loam_status cancelled(struct job *j, struct err *err) {
    return err_set(err, LOAM_ECANCEL, j->halted ? "stopped with the node" : "cancelled");
}

enum loam_status job_check(struct job *j, struct err *err) {
    struct jobs *js = j->n->jobs;
    if (job_cancelled(j))
        return cancelled(j, err);
    uv_mutex_lock(&js->lock);
    bool was = j->pause;
    if (was) {
        j->state = JOB_PAUSED;
        uv_mutex_unlock(&js->lock);
        publish(j->n);
        uv_mutex_lock(&js->lock);
        while (j->pause && !job_cancelled(j))
            uv_cond_wait(&js->cond, &js->lock);
        j->state = JOB_RUNNING;
    }
    uv_mutex_unlock(&js->lock);
    if (was)
        publish(j->n);
    return job_cancelled(j) ? cancelled(j, err) : LOAM_OK;
}

enum loam_status job_sleep_ms(struct job *j, uint64_t ms, struct err *err) {
    struct jobs *js = j->n->jobs;
    uint64_t end = clock_mono_us() + ms * 1000;
    uv_mutex_lock(&js->lock);
    for (uint64_t now; !job_cancelled(j) && (now = clock_mono_us()) < end;)
        uv_cond_timedwait(&js->cond, &js->lock, (end - now) * 1000);
    uv_mutex_unlock(&js->lock);
    return job_check(j, err);
}

void job_progress(struct job *j, uint64_t done, uint64_t total, json_t *detail) {
    struct jobs *js = j->n->jobs;
    uint64_t now = clock_mono_us();
    uv_mutex_lock(&js->lock);
    j->done = done;
    j->total = total;
    json_t *old = NULL;
    if (detail) {
        old = j->detail;
        j->detail = detail;
    }
    bool due = j->listed && now - j->published_us >= PUBLISH_US;
    if (due)
        j->published_us = now;
    uv_mutex_unlock(&js->lock);
    json_decref(old);
    if (due)
        publish(j->n);
}

enum loam_status job_note(struct job *j, const char *field, json_t *value, struct err *err) {
    struct jobs *js = j->n->jobs;
    if (!value)
        return err_set(err, LOAM_ENOMEM, "no memory for the job's record");
    if (!j->durable) {
        json_decref(value);
        return LOAM_OK;
    }
    json_t *next = j->record ? json_deep_copy(j->record) : json_object();
    if (!next || json_object_set_new(next, field, value) != 0) {
        json_decref(next);
        return err_set(err, LOAM_ENOMEM, "no memory for the job's record");
    }
    uv_mutex_lock(&js->lock);
    json_t *old = j->record;
    j->record = next;
    uv_mutex_unlock(&js->lock);
    json_decref(old);
    return record_write(j, "running", err);
}

void job_result(struct job *j, json_t *result) {
    uv_mutex_lock(&j->n->jobs->lock);
    json_t *old = j->result;
    j->result = result;
    uv_mutex_unlock(&j->n->jobs->lock);
    json_decref(old);
}

enum action { CANCEL, PAUSE, RESUME };

static enum loam_status act(struct node *n, uint64_t id, enum action a, struct err *err) {
    struct jobs *js = n->jobs;
    enum loam_status s = LOAM_ENOTFOUND;
    uv_mutex_lock(&js->lock);
    for (struct job *j = js->first; j; j = j->next) {
        if (j->id != id)
            continue;
        if (j->ended_ms) {
            s = err_set(err, LOAM_ESTATE, "job %llu has ended (%s)", (unsigned long long)id,
                        job_state_name(j->state));
        } else {
            s = LOAM_OK;
            if (a == CANCEL)
                atomic_store(&j->cancelled, true);
            else
                j->pause = a == PAUSE;
            uv_cond_broadcast(&js->cond);
        }
        break;
    }
    uv_mutex_unlock(&js->lock);
    if (s == LOAM_ENOTFOUND)
        return err_set(err, LOAM_ENOTFOUND, "no job %llu", (unsigned long long)id);
    return s;
}

enum loam_status job_cancel(struct node *n, uint64_t id, struct err *err) {
    return act(n, id, CANCEL, err);
}
enum loam_status job_pause(struct node *n, uint64_t id, struct err *err) {
    return act(n, id, PAUSE, err);
}
enum loam_status job_resume(struct node *n, uint64_t id, struct err *err) {
    return act(n, id, RESUME, err);
}

static enum loam_status wait_end(struct node *n, uint64_t id, uint64_t ms, enum loam_status *out,
                                 struct err *err) {
    struct jobs *js = n->jobs;
    uint64_t end = clock_mono_us() + ms * 1000;
    uv_mutex_lock(&js->lock);
    for (;;) {
        struct job *j = js->first;
        while (j && j->id != id)
            j = j->next;
        if (!j) {
            uv_mutex_unlock(&js->lock);
            return err_set(err, LOAM_ENOTFOUND, "no job %llu", (unsigned long long)id);
        }
        if (j->ended_ms) {
            *out = j->status;
            if (j->status && err)
                *err = j->err;
            uv_mutex_unlock(&js->lock);
            return LOAM_OK;
        }
        uint64_t now = clock_mono_us();
        if (!ms) {
            uv_cond_wait(&js->cond, &js->lock);
        } else if (now < end) {
            uv_cond_timedwait(&js->cond, &js->lock, (end - now) * 1000);
        } else {
            uv_mutex_unlock(&js->lock);
            return err_set(err, LOAM_ETIMEOUT, "job %llu still runs", (unsigned long long)id);
        }
    }
}

enum loam_status job_wait(struct node *n, uint64_t id, enum loam_status *out, struct err *err) {
    return wait_end(n, id, 0, out, err);
}
enum loam_status job_wait_ms(struct node *n, uint64_t id, uint64_t ms, enum loam_status *out,
                             struct err *err) {
    return wait_end(n, id, ms ? ms : 1, out, err);
}
