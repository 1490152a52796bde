/* The front door. */
#include "base/status.h"

#include <stdio.h>

#include "base/banned.h"

int main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    fputs("loam: not built\n", stderr);
    return status_exit(LOAM_ENOTBUILT);
}
