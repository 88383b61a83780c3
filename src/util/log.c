/* SPDX-License-Identifier: GPL-2.0-or-later */
#define SD_JOURNAL_SUPPRESS_LOCATION /* the caller's is given, not ours */

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

static void send_to_journal(int level, const char *vm, const char *message_id, const char *file, int line,
                const char *function, const char *message) {
        char buf[6][256];
        _cleanup_free_ char *text = strf("MESSAGE=%s", message);
        struct iovec iov[7];
        size_t n = 0;

        if (!text)
                return;
        iov[n++] = (struct iovec){ text, strlen(text) };
#define FIELD(...)                                                         \
        do {                                                               \
                (void)snprintf(buf[n - 1], sizeof(buf[0]), __VA_ARGS__);   \
                iov[n] = (struct iovec){ buf[n - 1], strlen(buf[n - 1]) }; \
                n++;                                                       \
        } while (false)
        FIELD("PRIORITY=%i", level);
        FIELD("SYSLOG_IDENTIFIER=%s", identifier);
        FIELD("CODE_FILE=%s", file);
        FIELD("CODE_LINE=%i", line);
        FIELD("CODE_FUNC=%s", function);
        if (vm)
                FIELD("VM_NAME=%s", vm);
#undef FIELD
        if (message_id) {
                char id[64];
                struct iovec with_id[ELEMENTSOF(iov) + 1];

                memcpy(with_id, iov, n * sizeof(iov[0]));
                (void)snprintf(id, sizeof(id), "MESSAGE_ID=%s", message_id);
                with_id[n] = (struct iovec){ id, strlen(id) };
                (void)sd_journal_sendv(with_id, (int)n + 1);
                return;
        }
        (void)sd_journal_sendv(iov, (int)n);
}

void log_full(int level, const char *vm, const char *message_id, const char *file, int line,
                const char *function, const char *format, ...) {
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
                send_to_journal(level, vm, message_id, file, line, function, message);
        else if (vm)
                (void)fprintf(stderr, "%s: %s: %s\n", identifier, vm, message);
        else
                (void)fprintf(stderr, "%s: %s\n", identifier, message);
        errno = saved;
}
