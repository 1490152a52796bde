/* A terminal: raw mode, keys in, frames out, and the way back.
 *
 * Output. ncurses draws into a memfd; the bytes of a frame leave as one write(2) on a non-blocking descriptor of our own
 * (the terminal is opened again, so that the shell's descriptor never becomes non-blocking). While a frame has not left
 * whole, screen_frame draws nothing and says so; `drained` is called when it may draw again.
 * Restore. screen_close, and a handler for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT on its own stack, leave the alternate
 * screen, show the cursor, end modes and set the old termios. One terminal a process. */
#ifndef LOAM_TUI_SCREEN_H
#define LOAM_TUI_SCREEN_H

#include "tui/cell.h"
#include "tui/key.h"

struct uv_loop_s;
struct screen;

struct screen_options {
    int in, out;
    const char *name;  /* TERM; NULL or "": the environment's */
    const char *theme; /* NULL, "auto", "dark", "light", "mono" */
    const char *cast;  /* asciicast v2 file, or NULL */
    bool no_color, ascii, mouse, inside;
};

struct screen_events { /* all on the loop; arg is given back */
    void *arg;
    void (*key)(void *arg, const struct key *k);
    void (*keys_end)(void *arg); /* the keys that were there have been given: time to draw */
    void (*resized)(void *arg, int rows, int cols);
    void (*drained)(void *arg);
    void (*gone)(void *arg, enum loam_status why, const char *text); /* hangup or a signal that ends us; once */
};

/* LOAM_EINVAL: in or out is no terminal, or an unknown theme; LOAM_EUNSUPPORTED: no description fits (use plain mode). */
enum loam_status screen_open(struct screen **out, struct uv_loop_s *loop, const struct screen_options *o,
                           const struct screen_events *ev, struct err *err) LOAM_MUST_USE;
void screen_size(const struct screen *t, int *rows, int *cols);
bool screen_ascii(const struct screen *t);        /* only ASCII may be drawn */
const char *screen_fallback(const struct screen *t); /* what was said about an unknown TERM, or NULL */
bool screen_busy(const struct screen *t);         /* the last frame has not left */
/* Draws f; false when busy (nothing was drawn). full: repaint everything. */
bool screen_frame(struct screen *t, const struct frame *f, bool full);
/* Another theme (NULL: keep), ASCII, mouse; the next frame should be a full one. false: no such theme. */
bool screen_restyle(struct screen *t, const char *theme, bool ascii, bool mouse);
void screen_suspend(struct screen *t);            /* gives the terminal back, stops the process group, comes back */
uint64_t screen_frames(const struct screen *t), screen_skipped(const struct screen *t), screen_bytes(const struct screen *t);
/* Restores the terminal, closes the handles, then calls done(arg) from the loop and is gone. */
void screen_close(struct screen *t, void (*done)(void *arg), void *arg);
/* Is this a terminal that can be drawn on? (a tty, TERM not dumb) */
bool screen_usable(int in, int out, const char *name);

#endif
