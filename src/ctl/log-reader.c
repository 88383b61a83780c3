/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log-reader.h"
#include "term.h"
#include "util/fd-util.h"

/* A line that is longer is shown in parts. */
#define LINE_MAX_SHOWN (16 * KIB)

int log_reader_open(Ctl *c, const char *vm_path, LogReader *ret, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *e = NULL;
        int r, fd;

        r = client_new_call(c->client, vm_path, VMCTL_VM, "OpenProvisionLog", &m);
        if (r < 0)
                return r;
        fd = client_call_fd(c->client, m, &e);
        if (fd < 0) {
                bool none = error_is(e, ERROR_INVALID_STATE);

                *reterr = TAKE_PTR(e);
                return none ? -ENOENT : fd;
        }
        *ret = (LogReader){ .fd = fd, .notices = -EBADF };
        return 0;
}

void log_reader_done(LogReader *l) {
        l->fd = safe_close(l->fd);
        l->notices = safe_close(l->notices);
}

off_t log_reader_size(const LogReader *l) {
        struct stat st;

        return l->fd >= 0 && fstat(l->fd, &st) >= 0 ? st.st_size : 0;
}

int log_reader_watch(LogReader *l) {
        _cleanup_close_ int notices = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        _cleanup_free_ char *path = strf("/proc/self/fd/%i", l->fd);

        if (!path)
                return -ENOMEM;
        /* Its number of links changes when it is removed. */
        if (notices < 0 || inotify_add_watch(notices, path, IN_MODIFY | IN_ATTRIB) < 0)
                return -errno;
        l->notices = TAKE_FD(notices);
        return 0;
}

bool log_reader_take_notices(LogReader *l) {
        char buffer[4096];
        struct stat st;

        while (read(l->notices, buffer, sizeof(buffer)) > 0)
                ;
        return fstat(l->fd, &st) >= 0 && st.st_nlink > 0;
}

static void skip_hole(LogReader *l) {
        off_t data;

        if (log_reader_size(l) < l->at) /* where there are no holes, it begins anew */
                l->at = 0;
        data = lseek(l->fd, l->at, SEEK_DATA);

        /* A file system without holes knows of none; behind the last data there is nothing to read. */
        if (data > l->at) {
                l->at = data;
                l->jumped = true;
        }
}

static ssize_t read_piece(const LogReader *l, char *data, size_t size) {
        ssize_t n;

        do
                n = pread(l->fd, data, size, l->at);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

int log_reader_read(LogReader *l, char *data, size_t size, size_t *ret_len) {
        size_t len = 0, zeros = 0;
        ssize_t n;

        skip_hole(l);
        do {
                n = read_piece(l, data, size);
                if (n < 0)
                        return (int)n;
                len = (size_t)n;
                l->at += n;
                /* Holes begin and end at blocks: what was cut off within one is NULs. */
                for (zeros = 0; l->jumped && zeros < len && data[zeros] == '\0';)
                        zeros++;
        } while (len > 0 && zeros == len);
        if (len > 0)
                l->jumped = false;
        memmove(data, data + zeros, len - zeros);
        *ret_len = len - zeros;
        return 0;
}

static void write_line(LogLines *l, FILE *stream, const char *line, size_t len) {
        if (l->name)
                (void)fprintf(stream, "%s%s |%s ", term_style(stream, STYLE_DIM), l->name,
                                term_normal(stream));
        if (l->raw)
                (void)fwrite(line, 1, len, stream);
        else {
                sanitize_write(&l->sanitizer, stream, line, len);
                sanitize_end(&l->sanitizer, stream);
        }
}

static void keep_rest(LogLines *l, FILE *stream, const char *data, size_t len) {
        char *longer;

        while (l->n_rest + len > LINE_MAX_SHOWN) {
                log_lines_end(l, stream);
                if (len <= LINE_MAX_SHOWN)
                        break;
                write_line(l, stream, data, LINE_MAX_SHOWN);
                (void)fputc('\n', stream);
                data += LINE_MAX_SHOWN;
                len -= LINE_MAX_SHOWN;
        }
        longer = len > 0 ? realloc(l->rest, l->n_rest + len) : NULL;
        if (!longer)
                return;
        l->rest = longer;
        memcpy(l->rest + l->n_rest, data, len);
        l->n_rest += len;
}

void log_lines_write(LogLines *l, FILE *stream, const char *data, size_t len) {
        while (len > 0) {
                const char *end = memchr(data, '\n', len);
                size_t n = end ? (size_t)(end - data) + 1 : len;

                if (!end) {
                        keep_rest(l, stream, data, n);
                        return;
                }
                if (l->n_rest > 0) {
                        keep_rest(l, stream, data, n - 1);
                        log_lines_end(l, stream);
                } else
                        write_line(l, stream, data, n);
                data += n;
                len -= n;
        }
}

void log_lines_end(LogLines *l, FILE *stream) {
        if (l->n_rest > 0) {
                write_line(l, stream, l->rest, l->n_rest);
                (void)fputc('\n', stream);
        }
        free(TAKE_PTR(l->rest));
        l->n_rest = 0;
}
