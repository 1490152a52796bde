/* Commands that are declared and not there yet: they answer "not built". Whoever builds one moves its entry
 * to a file of its own. */
#include "cmd/cmd.h"

#include "base/banned.h"
