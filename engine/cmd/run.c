/* Running commands for the control socket: parse, start a job, carry output and questions, resume what a dead
 * node left. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/private.h"
#include "node/job.h"
#include "node/keys.h"
#include "node/socket.h"
#include "node/topic.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

#define OUT_MAX (1u << 20) /* bytes of one cmd_out */
#define RETRY_FIRST_MS 2000
#define RETRY_MAX_MS 60000
#define FOLLOW_MS 250 /* between two looks at a job that is followed */
#define PROGRESS_US (100 * 1000) /* how often progress goes to the client */

struct node *cmd_node(struct cmd_call *c) {
    return c->node;
}
struct job *cmd_job(struct cmd_call *c) {
    return c->job;
}
const char *cmd_flow(struct cmd_call *c) {
    return job_flow(c->job);
}
bool cmd_resumed(struct cmd_call *c) {
    return c->resumed;
}

/* ---- arguments ---- */

static struct cmd_value *value_of(struct cmd_call *c, const char *name) {
    for (const struct cmd_arg *a = c->line.cmd->args; a && a->name; a++)
        if (strcmp(a->name, name) == 0)
            return &c->line.values[a - c->line.cmd->args];
    LOAM_ASSERT(!"a handler asked for an argument that its entry does not declare");
    return NULL;
}

bool cmd_given(struct cmd_call *c, const char *name) {
    return value_of(c, name)->count > 0;
}
const char *cmd_str(struct cmd_call *c, const char *name) {
    struct cmd_value *v = value_of(c, name);
    return v->count ? v->text[0] : NULL;
}
uint64_t cmd_uint(struct cmd_call *c, const char *name) {
    return value_of(c, name)->u;
}
double cmd_real(struct cmd_call *c, const char *name) {
    return value_of(c, name)->d;
}
bool cmd_flag(struct cmd_call *c, const char *name) {
    return value_of(c, name)->count > 0;
}
struct u256 cmd_coin(struct cmd_call *c, const char *name) {
    return value_of(c, name)->coin;
}
size_t cmd_count(struct cmd_call *c, const char *name) {
    return value_of(c, name)->count;
}
const char *cmd_str_at(struct cmd_call *c, const char *name, size_t i) {
    struct cmd_value *v = value_of(c, name);
    LOAM_ASSERT(i < v->count);
    return v->text[i];
}

/* ---- output ---- */

static void emit(struct cmd_call *c, int stream, const char *text, size_t n) {
    struct buf clean = BUF_INIT(OUT_MAX * 4);
    if (n && !text_clean(&clean, text, n, TEXT_LINES, NULL) && clean.len) {
        if (c->io)
            control_call_out(c->io, stream, (const char *)clean.data, clean.len);
        else if (stream == 2 && !(clean.len == 1 && clean.data[0] == '\n'))
            log_info("cmd", "job %llu: %s", (unsigned long long)c->job_id, (const char *)clean.data);
    }
    buf_clear(&clean);
}

static void emit_v(struct cmd_call *c, int stream, const char *fmt, va_list ap) LOAM_PRINTF(3, 0);
static void emit_v(struct cmd_call *c, int stream, const char *fmt, va_list ap) {
    char small[1024], *text = small;
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    if (n >= (int)sizeof small) {
        size_t cap = (size_t)n + 1 < OUT_MAX ? (size_t)n + 1 : OUT_MAX;
        text = mem_alloc(cap);
        if (text)
            n = vsnprintf(text, cap, fmt, again);
        if (n >= (int)cap)
            n = (int)cap - 1;
    }
    va_end(again);
    if (text && n > 0) {
        emit(c, stream, text, (size_t)n);
        if (text[n - 1] != '\n')
            emit(c, stream, "\n", 1);
    }
    if (text != small)
        mem_free(text);
}

void cmd_out(struct cmd_call *c, const char *fmt, ...) {
    if (c->json)
        return;
    va_list ap;
    va_start(ap, fmt);
    emit_v(c, 1, fmt, ap);
    va_end(ap);
}

void cmd_note(struct cmd_call *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    emit_v(c, 2, fmt, ap);
    va_end(ap);
}

void cmd_write(struct cmd_call *c, const char *text, size_t n) {
    if (!c->json)
        emit(c, 1, text, n);
}

void cmd_result(struct cmd_call *c, json_t *result) {
    json_decref(c->result);
    c->result = result ? result : json_null();
}

void cmd_result_secret(struct cmd_call *c, json_t *result) {
    c->secret = true;
    cmd_result(c, result);
}

void cmd_progress(struct cmd_call *c, uint64_t done, uint64_t total, json_t *detail) {
    uint64_t now = clock_mono_us();
    if (c->io && (now - c->progress_us >= PROGRESS_US || (total && done >= total))) {
        c->progress_us = now;
        control_call_progress(c->io, c->job_id, done, total, detail ? json_deep_copy(detail) : NULL);
    }
    job_progress(c->job, done, total, detail);
}

/* ---- questions ---- */

bool cmd_cancelled(struct cmd_call *c) {
    return job_cancelled(c->job);
}

enum loam_status cmd_check(struct cmd_call *c, struct err *err) {
    return job_check(c->job, err);
}

static bool ask_cancelled(void *ctx) {
    return job_cancelled(ctx);
}

enum loam_status cmd_confirm(struct cmd_call *c, struct err *err, const char *fmt, ...) {
    char text[1024], clean[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return err_set(err, LOAM_EINTERNAL, "a question that cannot be written");
    text_clean_cut(clean, sizeof clean, text, strlen(text));
    c->asked++;
    if (c->yes || c->asked <= c->confirmed)
        return LOAM_OK;
    if (!c->io)
        return err_set(err, LOAM_EPERM, "nobody can be asked: %s", clean);
    char *answer = NULL;
    enum loam_status s = control_call_ask(c->io, &answer, "confirm", clean, ask_cancelled, c->job, err);
    if (s)
        return s;
    bool yes = strcmp(answer, "yes") == 0 || strcmp(answer, "y") == 0 || strcmp(answer, "true") == 0;
    mem_free(answer);
    if (!yes)
        return err_set(err, LOAM_ECANCEL, "not confirmed");
    return job_note(c->job, "confirmed", json_integer((json_int_t)c->asked),
                    err); /* a resume does not ask again */
}

enum loam_status cmd_secret(struct cmd_call *c, struct buf *out, const char *question, struct err *err) {
    if (!c->io)
        return err_set(err, LOAM_EPERM, "nobody can be asked: %s", question);
    char *answer = NULL;
    enum loam_status s = control_call_ask(c->io, &answer, "secret", question, ask_cancelled, c->job, err);
    if (s)
        return s;
    buf_reset(out);
    s = buf_str(out, answer, err);
    mem_wipe(answer, strlen(answer));
    mem_free(answer);
    return s;
}

enum loam_status cmd_unlock(struct cmd_call *c, const char *name, struct err *err) {
    if (keys_unlocked(c->node, name))
        return LOAM_OK;
    struct addr20 a;
    enum loam_status s = keys_address(c->node, name, &a, err);
    if (s)
        return s;
    struct err first = {LOAM_OK, ""};
    s = keys_unlock_unattended(c->node, name, &first);
    if (s && err)
        *err = first;
    if (s == LOAM_EPERM && c->resumed)
        return LOAM_OK; /* what was signed before the node died needs no key; a new signature says that it is
                           locked */
    if (s != LOAM_EPERM || !c->io)
        return s;
    char question[KEY_NAME_MAX + 80];
    snprintf(question, sizeof question, "Password of key %s: ", name);
    struct buf password = BUF_INIT(PASSWORD_MAX);
    s = cmd_secret(c, &password, question, err);
    if (s == LOAM_EPERM && err)
        *err = first; /* nobody is there: why the key did not open by itself says more */
    if (!s)
        s = keys_unlock(c->node, name, password.data ? (const char *)password.data : "", err);
    mem_wipe(password.data, password.len);
    buf_clear(&password);
    return s;
}

/* ---- running ---- */

static void call_free(struct cmd_call *c) {
    json_decref(c->result);
    cmd_line_clear(&c->line);
    mem_free(c);
}

static bool passes(enum loam_status s) {
    return s == LOAM_ENET || s == LOAM_ETIMEOUT || s == LOAM_EBUSY || s == LOAM_ECUT || s == LOAM_ERATE ||
           s == LOAM_ESTALE;
}

/* The same words are under way already (given twice, or resumed after the node died): one of the two does the work, or
 * each would record and pay its own. The other waits for it and gives its result. */
static enum loam_status follow(struct cmd_call *c, uint64_t id, struct err *err) {
    enum loam_status s, how = LOAM_OK;
    cmd_note(c, "job %llu does this already; following it", (unsigned long long)id);
    while ((s = job_wait_ms(c->node, id, FOLLOW_MS, &how, err)) == LOAM_ETIMEOUT) {
        json_t *o = job_show(c->node, id), *detail = json_object_get(o, "detail");
        cmd_progress(c, (uint64_t)json_integer_value(json_object_get(o, "done")),
                     (uint64_t)json_integer_value(json_object_get(o, "total")), json_incref(detail));
        json_decref(o);
        s = job_check(c->job, err);
        if (s)
            return s;
    }
    if (s)
        return s;
    json_t *o = job_show(c->node, id), *result = json_object_get(o, "result");
    if (how) {
        const char *why = json_string_value(json_object_get(o, "error"));
        s = err_set(err, how, "job %llu: %s", (unsigned long long)id, why ? why : status_text(how));
    } else if (result) {
        cmd_result(c, json_incref(result));
    }
    json_decref(o);
    return s;
}

static enum loam_status run(struct job *j, void *arg, struct err *err) {
    struct cmd_call *c = arg;
    c->job = j;
    c->job_id = job_id(j);
    if (c->io && c->own_io && c->detached)
        control_call_detach(c->io, c->job_id); /* its record stands: it will be done */
    else if (c->io && c->own_io)
        control_call_started(c->io, c->job_id, (c->line.cmd->flags & (CMD_LONG | CMD_DURABLE)) != 0);
    unsigned flags = c->line.cmd->flags;
    json_t *record = (flags & CMD_DURABLE) && !(flags & CMD_REPEATS) ? job_show(c->node, c->job_id) : NULL;
    uint64_t same = job_same(c->node, c->job_id, json_object_get(record, "record"));
    json_decref(record);
    enum loam_status s = same ? follow(c, same, err) : c->line.cmd->run(c, err);
    /* Nobody stands by a resumed job: what passes by itself (the chain's RPC is not up yet) is waited for. */
    for (uint64_t wait = RETRY_FIRST_MS; c->resumed && passes(s);
         wait = wait * 2 < RETRY_MAX_MS ? wait * 2 : RETRY_MAX_MS) {
        log_info("cmd", "job %llu tries again in %llu s: %s", (unsigned long long)c->job_id,
                 (unsigned long long)(wait / 1000), err->text);
        s = job_sleep_ms(j, wait, err);
        if (!s) {
            c->asked = 0;
            s = c->line.cmd->run(c, err);
        }
    }
    if (!s && json_is_null(c->result))
        s = err_set(err, LOAM_ENOMEM, "no memory for the result");
    if (!s && c->result && !c->json) {
        if (c->line.cmd->print) {
            c->line.cmd->print(c, c->result);
        } else {
            struct buf text = BUF_INIT(OUT_MAX);
            s = cmd_print(&text, c->result, err);
            if (!s)
                emit(c, 1, (const char *)text.data, text.len);
            buf_clear(&text);
        }
    }
    if (!s && c->result && !c->secret)
        job_result(j, json_deep_copy(c->result));
    return s;
}

static void ended(struct job *j, void *arg, enum loam_status s, const struct err *err) {
    struct cmd_call *c = arg;
    (void)j;
    if (c->io && c->own_io) {
        bool listed = c->line.cmd->flags & (CMD_LONG | CMD_DURABLE);
        control_call_end(c->io, s, err, c->result, listed ? c->job_id : 0, -1);
        c->result = NULL;
    }
    call_free(c);
}

enum loam_status cmd_start(struct node *n, uint64_t *job, struct cmd_line *line, struct control_call *io,
                           bool own_io, const json_t *record, uint64_t id, const char *flow,
                           struct err *err) {
    const struct cmd *cmd = line->cmd;
    struct cmd_call *c = mem_zalloc(sizeof *c);
    if (!c) {
        cmd_line_clear(line);
        return err_set(err, LOAM_ENOMEM, "no memory for a command");
    }
    c->node = n;
    c->io = io;
    c->own_io = own_io;
    c->line = *line;
    c->json = line->json;
    c->yes = line->yes || json_is_true(json_object_get(record, "yes"));
    c->resumed = id != 0;
    c->confirmed = (uint64_t)json_integer_value(json_object_get(record, "confirmed"));
    c->detached = line->no_wait;
    *line = (struct cmd_line){0};
    if (!cmd->run) {
        call_free(c);
        return err_set(err, LOAM_ENOTBUILT, "%s%s%s: not built", cmd->noun, cmd->verb ? " " : "",
                       cmd->verb ? cmd->verb : "");
    }
    const char *title = json_string_value(json_object_get(record, "title"));
    struct job_def def = {.id = id,
                          .title = title ? title : cmd->noun,
                          .flow = flow,
                          .listed = (cmd->flags & (CMD_LONG | CMD_DURABLE)) != 0,
                          .durable = (cmd->flags & CMD_DURABLE) != 0,
                          .record = (json_t *)(uintptr_t)record,
                          .run = run,
                          .end = ended,
                          .arg = c};
    enum loam_status s = job_start(n, job, &def, err);
    if (s)
        call_free(c);
    return s;
}

/* What a resume needs, and the title: the words as the user would type them. */
json_t *cmd_record(char *const *words, size_t count, const char *cwd, bool yes) {
    json_t *argv = json_array();
    struct buf title = BUF_INIT(CMD_LINE_MAX * 2);
    enum loam_status s = LOAM_OK;
    for (size_t i = 0; !s && argv && i < count; i++) {
        json_array_append_new(argv, json_string(words[i]));
        bool quote = !*words[i] || strpbrk(words[i], " \t\"'#\\");
        if (title.len < 160)
            s = buf_printf(&title, NULL, quote ? "%s\"%s\"" : "%s%s", i ? " " : "", words[i]);
    }
    char shown[200];
    text_clean_cut(shown, sizeof shown, title.data ? (const char *)title.data : "", title.len);
    buf_clear(&title);
    return json_pack("{s:o s:s s:s? s:b}", "argv", argv, "title", shown, "cwd", cwd, "yes", yes);
}

static enum loam_status words_of_json(const json_t *argv, char ***words, size_t *count, struct err *err) {
    size_t n = json_array_size(argv);
    if (n > CMD_WORDS_MAX)
        return err_set(err, LOAM_ELIMIT, "more than %d words", CMD_WORDS_MAX);
    *words = mem_zarray(n ? n : 1, sizeof **words);
    if (!*words)
        return err_set(err, LOAM_ENOMEM, "no memory for words");
    *count = n;
    for (size_t i = 0; i < n; i++) {
        const char *w = json_string_value(json_array_get(argv, i));
        if (!w)
            return err_set(err, LOAM_EINVAL, "argv must be strings");
        if (!((*words)[i] = mem_strdup(w)))
            return err_set(err, LOAM_ENOMEM, "no memory for words");
    }
    return LOAM_OK;
}

static void front_run(struct node *n, struct control_call *io) {
    const json_t *p = control_call_params(io), *argv = json_object_get(p, "argv");
    const char *text = json_string_value(json_object_get(p, "line")),
               *cwd = json_string_value(json_object_get(p, "cwd"));
    char **words = NULL;
    size_t count = 0, bad = 0;
    struct err e = {LOAM_OK, ""};
    struct cmd_line line;
    enum loam_status s = json_is_array(argv) ? words_of_json(argv, &words, &count, &e)
                         : text              ? cmd_split(&words, &count, text, strlen(text), &e)
                                             : err_set(&e, LOAM_EINVAL, "command.run needs argv or line");
    long word = -1;
    if (!s) {
        s = cmd_parse(&line, words, count, cwd, &bad, &e);
        if (s)
            word = (long)bad;
    }
    if (s) {
        cmd_words_free(words, count);
        control_call_end(io, s, &e, NULL, 0, word);
        return;
    }
    if (control_call_readonly(io) && !cmd_looks(line.cmd)) {
        s = err_set(&e, LOAM_EPERM, "this client said that it only looks (--readonly); %s%s%s may change something", line.cmd->noun,
                    line.cmd->verb ? " " : "", line.cmd->verb ? line.cmd->verb : "");
        cmd_line_clear(&line);
        cmd_words_free(words, count);
        control_call_end(io, s, &e, NULL, 0, -1);
        return;
    }
    line.json = line.json || json_is_true(json_object_get(p, "json"));
    line.yes = line.yes || json_is_true(json_object_get(p, "yes"));
    line.no_wait = line.no_wait || json_is_false(json_object_get(p, "wait"));
    bool goes_on = line.cmd->flags & (CMD_LONG | CMD_DURABLE);
    json_t *record = cmd_record(words, count, cwd, line.yes);
    cmd_words_free(words, count);
    /* The job may end, and with it the call, before this goes on: hence the hold. */
    control_call_hold(io);
    uint64_t job = 0;
    s = record ? cmd_start(n, &job, &line, io, true, record, 0, NULL, &e)
               : err_set(&e, LOAM_ENOMEM, "no memory for a command");
    if (!record)
        cmd_line_clear(&line);
    json_decref(record);
    if (s) {
        control_call_end(io, s, &e, NULL, 0, -1);
    } else {
        control_call_job(io, job, goes_on);
    }
    control_call_release(io);
}

enum loam_status cmd_restart(struct node *n, const json_t *o, struct err *err) {
    const json_t *record = json_object_get(o, "record");
    uint64_t id = (uint64_t)json_integer_value(json_object_get(o, "id")), job;
    const char *flow = json_string_value(json_object_get(o, "flow"));
    char **words = NULL;
    size_t count = 0;
    struct cmd_line line;
    if (!id || !flow)
        return err_set(err, LOAM_EPARSE, "a job record without id or flow");
    enum loam_status s = words_of_json(json_object_get(record, "argv"), &words, &count, err);
    if (!s)
        s = cmd_parse(&line, words, count, json_string_value(json_object_get(record, "cwd")), NULL, err);
    cmd_words_free(words, count);
    if (!s)
        s = cmd_start(n, &job, &line, NULL, false, record, id, flow, err);
    return s;
}

static void front_resume(struct node *n) {
    json_t *all = job_unfinished(n), *o;
    size_t i;
    json_array_foreach(all, i, o) {
        struct err e;
        long long id = (long long)json_integer_value(json_object_get(o, "id"));
        const char *title = json_string_value(json_object_get(o, "title"));
        enum loam_status s = cmd_restart(n, o, &e);
        if (s)
            log_error("cmd", "job %lld (%s) cannot be resumed: %s", id, title ? title : "?", e.text);
        else
            log_info("cmd", "job %lld (%s) goes on", id, title ? title : "?");
    }
    json_decref(all);
}

enum loam_status cmd_attach(struct node *n, struct err *err) {
    n->front = mem_zalloc(sizeof *n->front);
    if (!n->front)
        return err_set(err, LOAM_ENOMEM, "no memory for commands");
    *n->front = (struct node_frontend){front_run, cmd_complete, cmd_table_json, front_resume};
    return LOAM_OK;
}
