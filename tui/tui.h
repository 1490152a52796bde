/* The console: the face of loam on a terminal. It is a client of a node's control socket and knows nothing of the engine
 * but base and the control protocol's header.
 *
 * It draws each frame into memory and hands it to the terminal as one non-blocking write; while the last frame has not
 * left, frames are skipped, so a stalled terminal never delays whoever shares the loop. The terminal is given back on
 * every way out: quit, lost node, SIGTERM, SIGHUP, SIGINT, abort() and the fatal signals (a handler on its own stack).
 *
 * One console a process at a time (the signal handlers and ncurses are process-wide). Not thread-safe: everything runs
 * on the loop's thread. */
#ifndef LOAM_TUI_TUI_H
#define LOAM_TUI_TUI_H

#include "base/status.h"

#include <stdbool.h>

struct uv_loop_s;
struct tui;

/* All strings are borrowed until tui_run returns or tui_open's `ended` was called; NULL means the default. */
struct tui_options {
    const char *socket; /* path of the node's control socket; used when fd < 0 */
    int fd;             /* a connected stream to the node (a socketpair with --inside), taken over; -1: none */
    int in, out;        /* the terminal's file descriptors; 0 and 1 */
    const char *data;   /* folder where history and layout are kept (console.history, console.layout); NULL: kept nowhere */
    const char *term;   /* instead of $TERM */
    const char *theme;  /* "dark", "light", "mono"; NULL or "auto": default colours only plus the six mid ANSI ones */
    const char *plot;   /* "block" (default), "braille", "ascii" */
    const char *keys;   /* remapping: "action=key[,action=key]...", names as in the help overlay */
    const char *pane;   /* first pane to show, by name ("train"), or "overview"; NULL: as remembered */
    const char *cast;   /* write an asciicast v2 of the session to this file */
    bool no_color;      /* also set by a non-empty NO_COLOR in the environment */
    bool ascii;         /* ASCII drawing even in a UTF-8 locale */
    bool plain;         /* append-only lines, no cursor movement; also when TERM=dumb or out is no terminal */
    bool readonly;      /* look, but send no command that changes anything */
    bool mouse;         /* off by default: it breaks select-and-copy */
    bool inside;        /* the node lives in this process: q ends both, suspend is off */
    bool started;       /* this program started the node just now (said when detaching) */
};

void tui_options_init(struct tui_options *o); /* the defaults above: fd -1, in 0, out 1 */

/* Runs a console on a loop of its own until the user detaches (LOAM_OK), the node goes away (LOAM_ENET), a signal ends
 * it (LOAM_ECANCEL) or it cannot start: LOAM_ENET (no node at the socket), LOAM_EVERSION (node of another version),
 * LOAM_EINVAL (a bad theme, key or pane name), LOAM_ENOMEM. What goes on and how to end it is printed to `out` after
 * the terminal was given back. */
enum loam_status tui_run(const struct tui_options *o, struct err *err) LOAM_MUST_USE;

/* The same on somebody else's loop. `ended` is called once, on the loop, after the terminal was given back and every
 * handle is closed; *out is then gone. On failure nothing is left on the loop and `ended` is not called. */
enum loam_status tui_open(struct tui **out, struct uv_loop_s *loop, const struct tui_options *o,
                          void (*ended)(void *arg, enum loam_status how, const char *text), void *arg,
                          struct err *err) LOAM_MUST_USE;
/* Asks it to end soon (as SIGTERM does). */
void tui_close(struct tui *t);

#endif
