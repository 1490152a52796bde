/* A terminal for tests: a program on a pty, its screen kept by libvterm. No sleeps: every wait polls with a deadline, and
 * prints the last screen when it fails. */
#ifndef LOAM_TESTS_VT_H
#define LOAM_TESTS_VT_H

#include "tests/fakenode.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <vterm.h>

struct vt {
    VTerm *term;
    VTermScreen *screen;
    int fd;
    pid_t pid;
    int rows, cols, status;
    bool dead, answer; /* answer: the terminal answers queries */
    size_t bytes;      /* the program wrote */
    char *raw;         /* all of them, up to 4 MB */
    size_t raw_n;
    struct fake *fake; /* served while we wait; NULL: none */
};

/* Runs child(arg) on a pty; its return is the exit status. */
void vt_start(struct vt *v, int rows, int cols, struct fake *fake, int (*child)(void *arg), void *arg);
int vt_pump(struct vt *v, int ms);                          /* 1 something happened, 0 not, -1 the program is gone */
void vt_row(struct vt *v, int y, char *out, size_t cap);    /* text of a row, blanks at its end cut */
char *vt_text(struct vt *v);                                /* all rows; static buffer */
int vt_find(struct vt *v, const char *s);                   /* row, or -1 */
int vt_wait(struct vt *v, const char *s);                   /* fails the test when it does not come in a minute */
void vt_wait_gone(struct vt *v, const char *s);             /* until it is not on the screen */
bool vt_until(struct vt *v, bool (*cond)(struct vt *v, void *arg), void *arg);
void vt_keys(struct vt *v, const char *s);
void vt_resize(struct vt *v, int rows, int cols);
void vt_quiet(struct vt *v, int ms);                        /* until nothing came for ms */
int vt_exit(struct vt *v);                                  /* waits for the end; exit status, or -signal */
bool vt_raw_has(struct vt *v, const char *bytes);
void vt_end(struct vt *v);                                  /* kills what still runs; frees */
void vt_kill_all(void);                                      /* what a failed test left running */
uint64_t vt_now_us(void);

#define VT_LIMIT_MS 60000 /* for a machine that others slow down; nobody waits for it but a test that fails */

#endif
