/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "report.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define IDENTIFIER "vmctl-generator"

/* The journal's own protocol: a datagram with a field on each line. The message has no line break. */
static bool send_to_journal(int priority, const char *message) {
        static const struct sockaddr_un sa = { AF_UNIX, "/run/systemd/journal/socket" };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        _cleanup_free_ char *text = strf(
                        "MESSAGE=%s\nPRIORITY=%i\nSYSLOG_IDENTIFIER=" IDENTIFIER "\n", message, priority);

        return fd >= 0 && text &&
                        sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&sa,
                                        sizeof(sa)) >= 0;
}

static bool send_to_kernel(int priority, const char *message) {
        _cleanup_close_ int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *text = strf(
                        "<%i>" IDENTIFIER "[%i]: %s\n", LOG_DAEMON | priority, (int)getpid(), message);

        return fd >= 0 && text && write(fd, text, strlen(text)) >= 0;
}

void report(int priority, const char *format, ...) {
        const char *scope = getenv("SYSTEMD_SCOPE"); /* not set: run by hand, for whoever looks on */
        _cleanup_free_ char *message = NULL, *line = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        va_end(ap);
        line = message ? string_escape(message, strlen(message), SIZE_MAX) : NULL;
        if (!line || (scope && send_to_journal(priority, line)) ||
                        (streq_ptr(scope, "system") && send_to_kernel(priority, line)))
                return;
        (void)fprintf(stderr, IDENTIFIER ": %s\n", line);
}
