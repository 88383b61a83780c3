/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Logging. Where standard error is the journal (JOURNAL_STREAM) entries go there with their fields, else as
 * one line to standard error. %m works: errno is kept. Callers pass fields as a NULL-terminated list
 * "KEY=value". */

#include <syslog.h>

#include "macro.h"

void log_open(const char *identifier, int max_level);
void log_set_max_level(int level);
int log_max_level(void);

/* `vm` may be NULL; else the entry gets VM_NAME=. `message_id` may be NULL; else MESSAGE_ID=. */
void log_full(int level, const char *vm, const char *message_id, const char *file, int line,
                const char *function, const char *format, ...) _printf_(7, 8);

#define log_at(level, vm, id, ...)                                                                \
        do {                                                                                      \
                if ((level) <= log_max_level())                                                   \
                        log_full((level), (vm), (id), __FILE__, __LINE__, __func__, __VA_ARGS__); \
        } while (false)

#define log_debug(...) log_at(LOG_DEBUG, NULL, NULL, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, NULL, NULL, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, NULL, NULL, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERR, NULL, NULL, __VA_ARGS__)

/* For %m where the error is a return value: log_error_errno(r, "Failed to open '%s': %m", path). Returns r.
 */
#define log_errno_at(level, vm, r, ...)               \
        ({                                            \
                int _r = (r);                         \
                errno = _r < 0 ? -_r : _r;            \
                log_at(level, vm, NULL, __VA_ARGS__); \
                _r;                                   \
        })
#define log_debug_errno(r, ...) log_errno_at(LOG_DEBUG, NULL, r, __VA_ARGS__)
#define log_warning_errno(r, ...) log_errno_at(LOG_WARNING, NULL, r, __VA_ARGS__)
#define log_error_errno(r, ...) log_errno_at(LOG_ERR, NULL, r, __VA_ARGS__)
