/* version */
#include "cmd/private.h"

#include "base/banned.h"

static enum loam_status run(struct cmd_call *c, struct err *err) {
    (void)err;
    cmd_result(c, json_pack("{s:s s:i s:s}", "loam", PACKAGE_VERSION, "protocol", LOAM_PROTOCOL, "compiler",
                            __VERSION__));
    return LOAM_OK;
}

const struct cmd entry_version = {
    .noun = "version", .help = "the program's version and its protocol's", .example = "version", .run = run};
