/* job list | show | cancel | pause | resume */
#include "node/job.h"
#include "cmd/private.h"

#include <string.h>

#include "base/banned.h"

static const struct cmd_arg which[] = {{"job", CMD_JOB, CMD_REQUIRED, NULL, "number of the job", NULL},
                                       {NULL}};

static enum loam_status list(struct cmd_call *c, struct err *err) {
    (void)err;
    json_t *a = job_list(cmd_node(c)), *o;
    size_t i;
    json_array_foreach(a, i, o) {
        json_object_del(o, "flow"); /* `job show` has it */
    }
    cmd_result(c, a);
    return LOAM_OK;
}
const struct cmd entry_job_list = {
    .noun = "job", .verb = "list", .help = "jobs, the newest first", .example = "job list", .run = list};

static enum loam_status show(struct cmd_call *c, struct err *err) {
    uint64_t id = cmd_uint(c, "job");
    json_t *o = job_show(cmd_node(c), id);
    if (!o)
        o = job_record(cmd_node(c), id);
    if (!o)
        return err_set(err, LOAM_ENOTFOUND, "no job %llu", (unsigned long long)id);
    cmd_result(c, o);
    return LOAM_OK;
}
const struct cmd entry_job_show = {.noun = "job",
                                   .verb = "show",
                                   .args = which,
                                   .help = "all about one job",
                                   .example = "job show 3",
                                   .run = show};

static enum loam_status cancel(struct cmd_call *c, struct err *err) {
    return job_cancel(cmd_node(c), cmd_uint(c, "job"), err);
}
const struct cmd entry_job_cancel = {.noun = "job",
                                     .verb = "cancel",
                                     .args = which,
                                     .help = "end a job at its next step; what it sent or stored stays",
                                     .example = "job cancel 3",
                                     .run = cancel};

static enum loam_status do_pause(struct cmd_call *c, struct err *err) {
    return job_pause(cmd_node(c), cmd_uint(c, "job"), err);
}
const struct cmd entry_job_pause = {.noun = "job",
                                    .verb = "pause",
                                    .args = which,
                                    .help = "let a job rest at its next step",
                                    .example = "job pause 3",
                                    .run = do_pause};

static enum loam_status resume(struct cmd_call *c, struct err *err) {
    struct node *n = cmd_node(c);
    uint64_t id = cmd_uint(c, "job");
    enum loam_status s = job_resume(n, id, err);
    if (s != LOAM_ESTATE && s != LOAM_ENOTFOUND)
        return s;
    json_t *record = job_record(n, id);
    if (!record)
        return s; /* it has ended well, or never was */
    s = cmd_restart(n, record, err);
    if (!s)
        cmd_note(c, "job %llu goes on; `job show %llu` follows it", (unsigned long long)id,
                 (unsigned long long)id);
    json_decref(record);
    return s;
}
const struct cmd entry_job_resume = {.noun = "job",
                                     .verb = "resume",
                                     .args = which,
                                     .help = "let a paused, waiting or failed job go on where it stopped",
                                     .text = "A job that failed or waits for a key continues under the same "
                                             "flow id, so that nothing is sent twice. "
                                             "Unlock the key first (`key unlock`).",
                                     .example = "job resume 3",
                                     .run = resume};
