/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "provision-log.h"
#include "util/string-util.h"

#define PUNCH_STEP MIB /* so much is given back at a time */

int provision_log_open(ProvisionLog *l, int fd) {
        off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
        char last = '\n';

        if (end < 0 || (end > 0 && pread(fd, &last, 1, end - 1) < 0))
                return -errno;
        *l = (ProvisionLog){ .fd = fd, .end = (uint64_t)end, .in_line = last != '\n' };
        return 0;
}

/* A file system that knows no holes keeps all, up to the same size, and then begins anew. */
static int bound(ProvisionLog *l) {
        uint64_t upto = l->end - PROVISION_LOG_MAX;

        if (l->end < l->punched + PROVISION_LOG_MAX + PUNCH_STEP)
                return 0;
        if (fallocate(l->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)upto) < 0) {
                if (errno != EOPNOTSUPP)
                        return -errno;
                if (ftruncate(l->fd, 0) < 0)
                        return -errno;
                l->end = l->punched = 0;
                return 0;
        }
        l->punched = upto;
        return 0;
}

int provision_log_write(ProvisionLog *l, const void *data, size_t len) {
        const char *p = data;

        while (l->fd >= 0 && len > 0) {
                ssize_t n = pwrite(l->fd, p, len, (off_t)l->end);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                l->in_line = p[n - 1] != '\n';
                l->end += (uint64_t)n;
                p += n;
                len -= (size_t)n;
                n = bound(l);
                if (n < 0)
                        return (int)n;
        }
        return 0;
}

int provision_log_mark(ProvisionLog *l, const char *format, ...) {
        _cleanup_free_ char *text = NULL, *line = NULL;
        time_t now = time(NULL);
        char when[32];
        struct tm tm;
        va_list ap;
        int n;

        if (l->fd < 0)
                return 0;
        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0) {
                text = NULL;
                return -ENOMEM;
        }
        (void)strftime(when, sizeof(when), "%F %T UTC", gmtime_r(&now, &tm));
        line = strf("%s--- %s %s\n", l->in_line ? "\n" : "", when, text);
        return line ? provision_log_write(l, line, strlen(line)) : -ENOMEM;
}
