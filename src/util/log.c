/* SPDX-License-Identifier: GPL-2.0-or-later */
#define SD_JOURNAL_SUPPRESS_LOCATION /* the caller's is given, not ours */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "log.h"
#include "string-util.h"

static int max_level = LOG_INFO;
static bool to_journal;
static const char *identifier = "vmctl";

/* JOURNAL_STREAM=device:inode names the stream that systemd connected (systemd.exec(5)): only when standard
 * error still is that stream may the journal's own protocol be used instead. */
static bool stderr_is_journal(void) {
        const char *e = getenv("JOURNAL_STREAM");
        unsigned long long dev, ino;
        struct stat st;

        return e && sscanf(e, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) >= 0 &&
                        st.st_dev == dev && st.st_ino == ino;
}

void log_open(const char *id, int level) {
        identifier = id;
        max_level = level;
        to_journal = stderr_is_journal();
}

void log_set_max_level(int level) {
        max_level = level;
}

int log_max_level(void) {
        return max_level;
}

#define FIELDS_MAX 11

/* The entry as its fields. All text but the first field's stands in `text`. */
typedef struct Entry {
        struct iovec fields[FIELDS_MAX];
        size_t n;
        char text[FIELDS_MAX][256];
} Entry;

_printf_(2, 3) static void add_field(Entry *e, const char *format, ...) {
        char *text = e->text[e->n];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(text, sizeof(e->text[0]), format, ap);
        va_end(ap);
        e->fields[e->n++] = (struct iovec){ text, strlen(text) };
}

static void add_subject(Entry *e, const LogSubject *s) {
        if (s->vm_name)
                add_field(e, "VM_NAME=%s", s->vm_name);
        if (s->vm_uuid)
                add_field(e, "VM_UUID=%s", s->vm_uuid);
        if (s->vm_owner)
                add_field(e, "VM_OWNER=%u", (unsigned)*s->vm_owner);
        if (s->job_id > 0)
                add_field(e, "JOB_ID=%" PRIu32, s->job_id);
        if (s->message_id)
                add_field(e, "MESSAGE_ID=%s", s->message_id);
}

static void send_to_journal(int level, const LogSubject *subject, const char *file, int line,
                const char *function, const char *message) {
        _cleanup_free_ char *text = strf("MESSAGE=%s", message);
        Entry e = { .n = 1 };

        if (!text)
                return;
        e.fields[0] = (struct iovec){ text, strlen(text) };
        add_field(&e, "PRIORITY=%i", level);
        add_field(&e, "SYSLOG_IDENTIFIER=%s", identifier);
        add_field(&e, "CODE_FILE=%s", file);
        add_field(&e, "CODE_LINE=%i", line);
        add_field(&e, "CODE_FUNC=%s", function);
        if (subject)
                add_subject(&e, subject);
        (void)sd_journal_sendv(e.fields, (int)e.n);
}

void log_full(int level, const LogSubject *subject, const char *file, int line, const char *function,
                const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        int saved = errno, r;
        va_list ap;

        va_start(ap, format);
        r = vasprintf(&message, format, ap);
        va_end(ap);
        if (r < 0) {
                message = NULL;
                errno = saved;
                return;
        }
        if (to_journal)
                send_to_journal(level, subject, file, line, function, message);
        else if (subject && subject->vm_name)
                (void)fprintf(stderr, "%s: %s: %s\n", identifier, subject->vm_name, message);
        else
                (void)fprintf(stderr, "%s: %s\n", identifier, message);
        errno = saved;
}
