/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries are sent as the journal's native protocol has it, and not by sd_journal_sendv(), which waits for
 * ever where the journal hangs and takes none: we wait a moment, and once. What is lost from then on is told
 * of when it takes some again. */
#include <endian.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "string-util.h"

#define MESSAGE_MAX 65536 /* bytes; with the rest it fits into a datagram (net.core.wmem_default) */
#define JOURNAL_PATIENCE_USEC 250000 /* a busy host's journal takes some milliseconds */
#define JOURNAL_BUFFER (8 << 20)     /* as sd-journal has it; the kernel bounds the number of entries */

static int max_level = LOG_INFO;
static int journal_fd = -EBADF; /* of our own while we log to the journal */
static unsigned lost;           /* entries, since the last one that went out */
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

static int open_journal(void) {
        const struct timeval patience = { .tv_usec = JOURNAL_PATIENCE_USEC };
        const int size = JOURNAL_BUFFER;
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return fd;
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
                (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        return fd;
}

void log_open(const char *id, int level) {
        identifier = id;
        max_level = level;
        if (journal_fd < 0 && stderr_is_journal())
                journal_fd = open_journal();
}

void log_set_max_level(int level) {
        max_level = level;
}

int log_max_level(void) {
        return max_level;
}

#define FIELDS_MAX 11

/* The entry as its fields, a line each. The message, which may be long and may have lines, is behind them:
 * its name, its length and itself. */
typedef struct Entry {
        struct iovec parts[FIELDS_MAX + 4];
        size_t n;
        char text[FIELDS_MAX][256];
} Entry;

_printf_(2, 3) static void add_field(Entry *e, const char *format, ...) {
        char *text = e->text[e->n];
        size_t len, size = sizeof(e->text[0]) - 1; /* the line's end comes on top */
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(text, size, format, ap);
        va_end(ap);
        len = strlen(text);
        text[len] = '\n';
        e->parts[e->n++] = (struct iovec){ text, len + 1 };
}

static void add_part(Entry *e, const void *data, size_t len) {
        e->parts[e->n++] = (struct iovec){ (void *)data, len };
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

static bool send_entry(Entry *e, const char *message) {
        static const struct sockaddr_un journal = { .sun_family = AF_UNIX,
                .sun_path = "/run/systemd/journal/socket" };
        size_t len = strnlen(message, MESSAGE_MAX);
        uint64_t le_len = htole64(len);
        struct msghdr m = {
                .msg_name = (void *)&journal, .msg_namelen = sizeof(journal), .msg_iov = e->parts
        };
        ssize_t n;

        add_part(e, "MESSAGE\n", strlen("MESSAGE\n"));
        add_part(e, &le_len, sizeof(le_len));
        add_part(e, message, len);
        add_part(e, "\n", 1);
        m.msg_iovlen = e->n;
        do
                n = sendmsg(journal_fd, &m, MSG_NOSIGNAL | (lost > 0 ? MSG_DONTWAIT : 0));
        while (n < 0 && errno == EINTR);
        return n >= 0;
}

static void add_origin(Entry *e, int level, const char *file, int line, const char *function) {
        add_field(e, "PRIORITY=%i", level);
        add_field(e, "SYSLOG_IDENTIFIER=%s", identifier);
        add_field(e, "CODE_FILE=%s", file);
        add_field(e, "CODE_LINE=%i", line);
        add_field(e, "CODE_FUNC=%s", function);
}

static bool tell_of_lost(void) {
        char message[64];
        Entry e = {};

        (void)snprintf(message, sizeof(message), "%u messages were lost: the journal took none", lost);
        add_origin(&e, LOG_WARNING, __FILE__, __LINE__, __func__);
        return send_entry(&e, message);
}

static void send_to_journal(int level, const LogSubject *subject, const char *file, int line,
                const char *function, const char *message) {
        Entry e = {};

        if (lost > 0 && tell_of_lost())
                lost = 0;
        add_origin(&e, level, file, line, function);
        if (subject)
                add_subject(&e, subject);
        if (lost > 0 || !send_entry(&e, message))
                lost++;
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
        if (journal_fd >= 0)
                send_to_journal(level, subject, file, line, function, message);
        else if (subject && subject->vm_name)
                (void)fprintf(stderr, "%s: %s: %s\n", identifier, subject->vm_name, message);
        else
                (void)fprintf(stderr, "%s: %s\n", identifier, message);
        errno = saved;
}
