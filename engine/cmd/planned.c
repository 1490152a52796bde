/* Commands that are declared and not there yet: they answer "not built". Whoever builds one moves its entry to a file of
 * its own. */
#include "cmd/cmd.h"

#include "base/banned.h"

const struct cmd entry_claim = {.noun = "claim", .help = "take what was settled for an account", .example = "claim"};
const struct cmd entry_record = {.noun = "record", .help = "post answers and their attribution as a batch", .example = "record"};
const struct cmd entry_settle = {.noun = "settle", .help = "settle a batch whose windows have closed", .example = "settle"};
const struct cmd entry_trace = {.noun = "trace", .help = "walk a payment back to the row behind it", .example = "trace"};
const struct cmd entry_validate = {.noun = "validate", .help = "re-run a batch and give a verdict", .example = "validate"};
