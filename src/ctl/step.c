/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder-stream.h"
#include "step.h"
#include "util/fd-util.h"

#define MODE_BITS 07777

/* A digest of fields of which each is preceded by its length, so that no two lists of them look alike. */
typedef struct Digest {
        EVP_MD_CTX *context;
        bool failed; /* out of memory, in effect */
} Digest;

static void digest_done(Digest *d) {
        EVP_MD_CTX_free(d->context);
}

static void digest_add(void *userdata, const void *data, size_t len) {
        Digest *d = userdata;

        d->failed |= !d->context || EVP_DigestUpdate(d->context, data, len) != 1;
}

static void digest_number(Digest *d, uint64_t v) {
        uint8_t bytes[8];

        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t)(v >> (8 * i));
        digest_add(d, bytes, sizeof(bytes));
}

static void digest_string(Digest *d, const char *s) {
        size_t len = s ? strlen(s) : 0;

        digest_number(d, len);
        digest_add(d, s ?: "", len);
}

static void digest_init(Digest *d) {
        *d = (Digest){ .context = EVP_MD_CTX_new() };
        d->failed = !d->context || EVP_DigestInit_ex2(d->context, EVP_sha256(), NULL) != 1;
}

static int digest_finish(Digest *d, char **ret) {
        uint8_t result[EVP_MAX_MD_SIZE];
        unsigned len;
        char *text;

        if (d->failed || EVP_DigestFinal_ex(d->context, result, &len) != 1)
                return -ENOMEM;
        text = malloc(2 * (size_t)len + 1);
        if (!text)
                return -ENOMEM;
        hex_encode(result, len, text);
        *ret = text;
        return 0;
}

typedef struct Source {
        int fd; /* of a file; -EBADF: it is a folder */
        mode_t mode;
} Source;

/* What a step's path leads to: a regular file, or a folder where that makes sense. */
static int open_source(const VmfileStep *step, Source *ret, Error **reterr) {
        _cleanup_close_ int fd = open(step->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        bool may_be_folder = step->type == VMFILE_STEP_FILE;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Cannot open '%s'", step->source);
        if (S_ISDIR(st.st_mode) && may_be_folder) {
                if (step->mode != VMFILE_MODE_UNSET)
                        return error_set(reterr, ERROR_INVALID_SPEC,
                                        "'%s' is a folder, whose files keep their modes: take the step's "
                                        "mode out",
                                        step->source);
                fd = safe_close(fd);
        } else if (!S_ISREG(st.st_mode))
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is neither a regular file%s",
                                step->source, may_be_folder ? " nor a folder" : "");
        *ret = (Source){ .fd = TAKE_FD(fd), .mode = st.st_mode & MODE_BITS };
        return 0;
}

static int digest_file(Digest *d, const VmfileStep *step, int fd, Error **reterr) {
        _cleanup_free_ char *data = malloc(64 * KIB);
        ssize_t n;

        if (!data)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        while ((n = read(fd, data, 64 * KIB)) > 0 || (n < 0 && errno == EINTR))
                if (n > 0)
                        digest_add(d, data, (size_t)n);
        return n < 0 ? error_set_errno(reterr, -errno, "Cannot read '%s'", step->source) : 0;
}

/* The content comes last, so its length needs no telling. */
static int digest_source(Digest *d, const VmfileStep *step, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        Source source;
        int r;

        r = open_source(step, &source, reterr);
        if (r < 0)
                return r;
        fd = source.fd;
        digest_string(d, fd < 0 ? "directory" : "file");
        if (step->type == VMFILE_STEP_FILE)
                digest_number(d, step->mode == VMFILE_MODE_UNSET ? source.mode : step->mode);
        if (fd < 0)
                return folder_stream_read(step->source, digest_add, d, reterr);
        return digest_file(d, step, fd, reterr);
}

int step_fingerprint(const VmfileStep *step, char **ret, Error **reterr) {
        _cleanup_(digest_done) Digest d;
        int r = 0;

        digest_init(&d);
        digest_number(&d, step->type);
        digest_string(&d, step->command);
        digest_string(&d, step->destination);
        digest_number(&d, step->env ? strv_length(step->env) : 0);
        STRV_FOREACH(e, step->env)
                digest_string(&d, *e);
        if (step_has_file(step))
                r = digest_source(&d, step, reterr);
        if (r < 0)
                return r;
        r = digest_finish(&d, ret);
        return r < 0 ? error_set(reterr, ERROR_NO_MEMORY, "Out of memory") : 0;
}

static int append_env(sd_bus_message *m, char *const *env) {
        int r;

        if (!env || !*env)
                return 0;
        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "env");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a{ss}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{ss}");
        for (; r >= 0 && *env; env++) {
                size_t len = strcspn(*env, "=");
                _cleanup_free_ char *name = strndup(*env, len);

                r = name ? sd_bus_message_append(m, "{ss}", name, *env + len + ((*env)[len] == '='))
                         : -ENOMEM;
        }
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_command(sd_bus_message *m, const VmfileStep *step) {
        int r;

        r = sd_bus_message_append(m, "{sv}{sv}", "kind", "s", "shell", "inline", "s", step->command);
        return r < 0 ? r : append_env(m, step->env);
}

static int append_script(sd_bus_message *m, const VmfileStep *step, int fd) {
        const char *slash = strrchr(step->source, '/');
        int r;

        r = sd_bus_message_append(m, "{sv}{sv}{sv}", "kind", "s", "script", "name", "s",
                        slash ? slash + 1 : step->source, "file", "h", fd);
        return r < 0 ? r : append_env(m, step->env);
}

/* Folders on the way are made, and root does what the user may not: /etc/app/app.conf needs both. */
static int append_copy(sd_bus_message *m, const VmfileStep *step, const Source *source) {
        char mode[8];
        int r;

        r = sd_bus_message_append(m, "{sv}{sv}{sv}", "destination", "s", step->destination, "sudo", "b",
                        true, "file", "h", source->fd);
        if (r < 0)
                return r;
        (void)snprintf(mode, sizeof(mode), "%04o",
                        (unsigned)(step->mode == VMFILE_MODE_UNSET ? source->mode : step->mode) & MODE_BITS);
        return sd_bus_message_append(
                        m, "{sv}{sv}{sv}", "kind", "s", "file", "parents", "b", true, "mode", "s", mode);
}

static int append_folder(sd_bus_message *m, const VmfileStep *step, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = folder_stream_open(step->source, &fd, reterr);
        if (r < 0)
                return r;
        return sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "kind", "s", "directory", "destination", "s",
                        step->destination, "sudo", "b", true, "file", "h", fd);
}

static int append_content(sd_bus_message *m, const VmfileStep *step, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        Source source;
        int r;

        if (step->type == VMFILE_STEP_INLINE)
                return append_command(m, step);
        r = open_source(step, &source, reterr);
        if (r < 0)
                return r;
        fd = source.fd;
        if (step->type == VMFILE_STEP_SCRIPT)
                return append_script(m, step, fd);
        return fd < 0 ? append_folder(m, step, reterr) : append_copy(m, step, &source);
}

int step_append(sd_bus_message *m, const VmfileStep *step, const char *fingerprint, Error **reterr) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && fingerprint)
                r = sd_bus_message_append(m, "{sv}", "fingerprint", "s", fingerprint);
        if (r >= 0)
                r = append_content(m, step, &e);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                return 0;
        if (e)
                return error_set(reterr, error_code(e), "%s", error_message(e));
        return error_set_errno(reterr, r, "Cannot put the step of line %u in a message", step->line);
}

int step_append_done(sd_bus_message *m, const char *fingerprint, Error **reterr) {
        int r;

        r = sd_bus_message_append(m, "a{sv}", 3, "kind", "s", "shell", "inline", "s", ":", "fingerprint",
                        "s", fingerprint);
        return r < 0 ? error_set_errno(reterr, r, "Cannot put a step in a message") : 0;
}
