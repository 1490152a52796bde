/* source FILE: runs the commands of a file, one a line, until one fails. */
#include "base/file.h"
#include "base/mem.h"
#include "cmd/private.h"
#include "node/job.h"

#include <string.h>

#include "base/banned.h"

#define FILE_MAX (1u << 20)

static enum loam_status run(struct cmd_call *c, struct err *err);
static const struct cmd_arg args[] = {
    {"file", CMD_PATH, CMD_REQUIRED, NULL, "file of commands, one a line", NULL}, {NULL}};
const struct cmd entry_source = {.noun = "source",
                                 .args = args,
                                 .help = "run the commands of a file until one fails",
                                 .text = "A \\ at the end of a line goes on in the next; # begins a comment. "
                                         "The same lines can be piped into `loam -`.",
                                 .example = "source setup.loam",
                                 .run = run};

/* One line as a job of its own, so that durable commands are recorded as always; waits for its end. */
static enum loam_status one(struct cmd_call *c, const char *text, size_t len, struct err *err) {
    char **words;
    size_t count;
    struct cmd_line line;
    enum loam_status s = cmd_split(&words, &count, text, len, err);
    if (s || !count)
        return s;
    s = cmd_parse(&line, words, count, NULL, NULL, err);
    if (s) {
        cmd_words_free(words, count);
        return s;
    }
    if (strcmp(line.cmd->noun, "source") == 0) {
        cmd_line_clear(&line);
        cmd_words_free(words, count);
        return err_set(err, LOAM_EINVAL, "a sourced file cannot source another");
    }
    line.json = line.json || c->json;
    line.yes = line.yes || c->yes;
    bool wait = !line.no_wait;
    json_t *record = cmd_record(words, count, NULL, line.yes);
    cmd_words_free(words, count);
    uint64_t job;
    s = cmd_start(c->node, &job, &line, wait ? c->io : NULL, false, record, 0, NULL, err);
    json_decref(record);
    if (s || !wait)
        return s;
    enum loam_status how;
    do { /* cancelling the source cancels the line under way */
        s = job_wait_ms(c->node, job, 100, &how, err);
        if (s == LOAM_ETIMEOUT && cmd_cancelled(c)) {
            enum loam_status r = job_cancel(c->node, job, NULL);
            (void)r; /* it may have ended */
        }
    } while (s == LOAM_ETIMEOUT);
    return s ? s : how;
}

static enum loam_status run(struct cmd_call *c, struct err *err) {
    struct buf b = BUF_INIT(FILE_MAX);
    const char *path = cmd_str(c, "file");
    enum loam_status s = file_read(&b, path, err);
    size_t at = 0, number = 0;
    while (!s && at < b.len) {
        size_t from = at;
        number++;
        size_t first = number;
        while (at < b.len && (b.data[at] != '\n' || (at > from && b.data[at - 1] == '\\'))) {
            number += b.data[at] == '\n';
            at++;
        }
        s = cmd_check(c, err);
        if (!s)
            s = one(c, (const char *)b.data + from, at - from, err);
        if (s)
            s = err_prefix(err, s, "%s:%zu", path, first);
        at++;
    }
    buf_clear(&b);
    return s;
}
