#include "tui/theme.h"

#include <string.h>

#include "base/banned.h"

enum { RED = 1, GREEN, YELLOW, BLUE, MAGENTA, CYAN };

#define SPANS(a, b, c, d, e, f)                                                                                        \
    [ST_SPAN] = a, [ST_SPAN + 1] = b, [ST_SPAN + 2] = c, [ST_SPAN + 3] = d, [ST_SPAN + 4] = e, [ST_SPAN + 5] = f
#define L(c8, c256, at) {c8, c256, at}

static const struct role_look automatic[ST_ROLES] = {
    [ST_NORMAL] = L(-1, -1, 0),
    [ST_TITLE] = L(-1, -1, ST_BOLD),
    [ST_FOCUS] = L(-1, -1, ST_BOLD | ST_REVERSE),
    [ST_GOOD] = L(GREEN, GREEN, 0),
    [ST_WARN] = L(YELLOW, YELLOW, ST_BOLD),
    [ST_BAD] = L(RED, RED, ST_BOLD),
    [ST_ACCENT] = L(CYAN, CYAN, 0),
    [ST_SOFT] = L(-1, -1, 0),
    [ST_PLOT] = L(CYAN, CYAN, 0),
    [ST_PLOT2] = L(MAGENTA, MAGENTA, ST_BOLD),
    SPANS(L(GREEN, GREEN, 0), L(BLUE, BLUE, 0), L(MAGENTA, MAGENTA, 0), L(CYAN, CYAN, 0), L(YELLOW, YELLOW, 0), L(RED, RED, 0)),
};
static const struct role_look dark[ST_ROLES] = {
    [ST_NORMAL] = L(-1, 252, 0),
    [ST_TITLE] = L(-1, 255, ST_BOLD),
    [ST_FOCUS] = L(-1, 255, ST_BOLD | ST_REVERSE),
    [ST_GOOD] = L(GREEN, 114, 0),
    [ST_WARN] = L(YELLOW, 221, 0),
    [ST_BAD] = L(RED, 210, ST_BOLD),
    [ST_ACCENT] = L(CYAN, 117, 0),
    [ST_SOFT] = L(-1, 246, 0),
    [ST_PLOT] = L(CYAN, 80, 0),
    [ST_PLOT2] = L(MAGENTA, 213, 0),
    SPANS(L(GREEN, 114, 0), L(BLUE, 111, 0), L(MAGENTA, 176, 0), L(CYAN, 80, 0), L(YELLOW, 179, 0), L(RED, 174, 0)),
};
static const struct role_look light[ST_ROLES] = {
    [ST_NORMAL] = L(-1, 235, 0),
    [ST_TITLE] = L(-1, 232, ST_BOLD),
    [ST_FOCUS] = L(-1, 232, ST_BOLD | ST_REVERSE),
    [ST_GOOD] = L(GREEN, 22, 0),
    [ST_WARN] = L(RED, 94, ST_BOLD),
    [ST_BAD] = L(RED, 124, ST_BOLD),
    [ST_ACCENT] = L(BLUE, 25, 0),
    [ST_SOFT] = L(-1, 240, 0),
    [ST_PLOT] = L(BLUE, 25, 0),
    [ST_PLOT2] = L(MAGENTA, 90, 0),
    SPANS(L(GREEN, 22, 0), L(BLUE, 18, 0), L(MAGENTA, 90, 0), L(CYAN, 30, 0), L(YELLOW, 94, 0), L(RED, 88, 0)),
};
static const struct role_look mono[ST_ROLES] = {
    [ST_NORMAL] = L(-1, -1, 0),
    [ST_TITLE] = L(-1, -1, ST_BOLD),
    [ST_FOCUS] = L(-1, -1, ST_BOLD | ST_REVERSE),
    [ST_GOOD] = L(-1, -1, 0),
    [ST_WARN] = L(-1, -1, ST_BOLD),
    [ST_BAD] = L(-1, -1, ST_BOLD),
    [ST_ACCENT] = L(-1, -1, 0),
    [ST_SOFT] = L(-1, -1, 0),
    [ST_PLOT] = L(-1, -1, 0),
    [ST_PLOT2] = L(-1, -1, ST_BOLD),
    SPANS(L(-1, -1, ST_UNDERLINE), L(-1, -1, ST_UNDERLINE), L(-1, -1, ST_UNDERLINE), L(-1, -1, ST_UNDERLINE),
          L(-1, -1, ST_UNDERLINE), L(-1, -1, ST_UNDERLINE)),
};

const struct role_look *theme_find(const char *name) {
    return !name || !*name || !strcmp(name, "auto") ? automatic
           : !strcmp(name, "dark")                  ? dark
           : !strcmp(name, "light")                 ? light
           : !strcmp(name, "mono")                  ? mono
                                                    : NULL;
}
