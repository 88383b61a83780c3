/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Logging. Where standard error is the journal (JOURNAL_STREAM) entries go there with their fields
 * (systemd.journal-fields(7)), else as one line to standard error. %m works: errno is kept. */

#include <syslog.h>

#include <sys/types.h>

#include "macro.h"

/* What an entry is about. Each member that is set becomes a field of the entry; all are borrowed. */
typedef struct LogSubject {
        const char *vm_name;    /* VM_NAME=, also the prefix of the line where there is no journal */
        const char *vm_uuid;    /* VM_UUID= */
        const uid_t *vm_owner;  /* VM_OWNER=, a decimal user ID */
        uint32_t job_id;        /* JOB_ID=, a Job's number; 0: none */
        const char *message_id; /* MESSAGE_ID=: 32 hexadecimal digits, which a message catalogue explains */
} LogSubject;

void log_open(const char *identifier, int max_level);
void log_set_max_level(int level);
int log_max_level(void);

/* `subject` may be NULL. */
void log_full(int level, const LogSubject *subject, const char *file, int line, const char *function,
                const char *format, ...) _printf_(6, 7);

#define log_at(level, subject, ...)                                                              \
        do {                                                                                     \
                if ((level) <= log_max_level())                                                  \
                        log_full((level), (subject), __FILE__, __LINE__, __func__, __VA_ARGS__); \
        } while (false)

#define log_debug(...) log_at(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, NULL, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, NULL, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERR, NULL, __VA_ARGS__)

/* For %m where the error is a return value: log_error_errno(r, "Failed to open '%s': %m", path). Returns r.
 */
#define log_errno_at(level, r, ...)               \
        ({                                        \
                int _r = (r);                     \
                errno = _r < 0 ? -_r : _r;        \
                log_at(level, NULL, __VA_ARGS__); \
                _r;                               \
        })
#define log_debug_errno(r, ...) log_errno_at(LOG_DEBUG, r, __VA_ARGS__)
#define log_warning_errno(r, ...) log_errno_at(LOG_WARNING, r, __VA_ARGS__)
#define log_error_errno(r, ...) log_errno_at(LOG_ERR, r, __VA_ARGS__)
