/* The log: one line, level, room. Everything in it is cleaned text. Lines go to stderr (`loam node`) or to a file that is
 * rotated at LOG_FILE_MAX (one older file is kept), and to a hook (the log topic). Thread-safe.
 *
 *     2026-11-23T22:44:00Z info  node: socket /home/a/.local/share/loam/node.sock */
#ifndef LOAM_BASE_LOG_H
#define LOAM_BASE_LOG_H

#include "base/status.h"

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_LINE_MAX 1024
#define LOG_FILE_MAX (8u << 20)

void log_level_set(enum log_level most); /* lines above it are dropped; default LOG_INFO */
enum loam_status log_to_file(const char *path, struct err *err) LOAM_MUST_USE;
void log_to_stderr(void); /* the default */
void log_to_nowhere(void);
void log_close(void);
int log_descriptor(void); /* where lines go now; -1: nowhere. For signal handlers: takes no lock */
/* Called for each line, on the thread that logs, outside the log's lock; must not log, nor call this. NULL removes it;
 * when this returns, no call of the hook before is under way any more. */
void log_hook(void (*fn)(void *ctx, enum log_level level, const char *room, const char *text, uint64_t unix_ms), void *ctx);
/* A secret must never be an argument of this. */
void log_line(enum log_level level, const char *room, const char *fmt, ...) LOAM_PRINTF(3, 4);
const char *log_level_name(enum log_level l);

#define log_error(room, ...) log_line(LOG_ERROR, room, __VA_ARGS__)
#define log_warn(room, ...) log_line(LOG_WARN, room, __VA_ARGS__)
#define log_info(room, ...) log_line(LOG_INFO, room, __VA_ARGS__)
#define log_debug(room, ...) log_line(LOG_DEBUG, room, __VA_ARGS__)

#endif
