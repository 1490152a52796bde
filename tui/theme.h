/* Themes: what each role of cell.h looks like. "auto" uses the default colours plus the six mid ANSI ones, never a default
 * paired with a fixed one the other way round, so that it reads on dark and light grounds alike. */
#ifndef LOAM_TUI_THEME_H
#define LOAM_TUI_THEME_H

#include "tui/cell.h"

struct role_look {
    short fg8, fg256; /* -1: default */
    unsigned attrs;   /* ST_BOLD, … */
};
/* NULL: no such theme. ST_ROLES entries; mono has no colour. */
const struct role_look *theme_find(const char *name);

#endif
