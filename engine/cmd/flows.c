#include "cmd/flows.h"

#include "node/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static void note(void *ui, const char *text) { cmd_note(ui, "%s", text); }
static void progress(void *ui, uint64_t done, uint64_t total, const char *text) {
    cmd_progress(ui, done, total, json_pack("{s:s}", "text", text));
}
static enum loam_status confirm(void *ui, const char *text, struct err *err) { return cmd_confirm(ui, err, "%s", text); }
static enum loam_status unlock(void *ui, const char *key, struct err *err) { return cmd_unlock(ui, key, err); }

struct flow flow_of(struct cmd_call *c) {
    return (struct flow){cmd_node(c), cmd_job(c), cmd_flow(c), c, note, progress, confirm, unlock};
}

enum loam_status flow_result(struct cmd_call *c, enum loam_status s, json_t *out) {
    if (s)
        json_decref(out);
    else
        cmd_result(c, out);
    return s;
}

enum loam_status key_arg(struct cmd_call *c, const char *arg, char *out, struct err *err) {
    const char *k = cmd_str(c, arg);
    if (!k)
        return keys_default(cmd_node(c), out, err);
    if (strlen(k) >= KEY_NAME_MAX)
        return err_set(err, LOAM_EINVAL, "a key's name has at most %d bytes", KEY_NAME_MAX - 1);
    snprintf(out, KEY_NAME_MAX, "%s", k);
    return LOAM_OK;
}
