/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container-build.h"
#include "folder.h"
#include "oci.h"
#include "source.h"
#include "tarball.h"
#include "tool.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define BUFFER_SIZE (256 * KIB)

struct Source {
        int folder;       /* or -EBADF */
        OciLayers layers; /* of one tar there is one */
};

Source *source_free(Source *s) {
        if (!s)
                return NULL;
        safe_close(s->folder);
        oci_layers_done(&s->layers);
        free(s);
        return NULL;
}

/* A pipe is read once, and we read twice. */
static int spool(int from, int *ret, Error **reterr) {
        _cleanup_free_ char *buffer = malloc(BUFFER_SIZE);
        _cleanup_close_ int fd = -EBADF;
        Progress progress;
        int r;

        if (!buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the archive");
        r = tool_temporary_file(&fd, reterr);
        if (r < 0)
                return r;
        progress_begin(&progress, "receiving", 0);
        for (;;) {
                ssize_t n = read(from, buffer, BUFFER_SIZE);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr, -errno, "Failed to read the archive");
                if (n == 0)
                        break;
                r = write_all(fd, buffer, (size_t)n);
                if (r < 0)
                        return error_set_errno(reterr, r, "Failed to keep the archive in '%s'",
                                        tool_temporary_folder());
                progress_add(&progress, (uint64_t)n);
        }
        *ret = TAKE_FD(fd);
        return 0;
}

static int read_layers(Source *s, Tree *t, TarballFlags flags, Error **reterr) {
        uint64_t total = 0;
        Progress progress;

        for (size_t i = 0; i < s->layers.n; i++)
                total += s->layers.layers[i].size;
        progress_begin(&progress, "reading", total);
        for (size_t i = 0; i < s->layers.n; i++) {
                int r = tarball_read_tree(
                                &s->layers.layers[i], (uint32_t)i, flags, t, &progress, NULL, reterr);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int new_tree(Tree **ret, Error **reterr) {
        return tree_new(ret) < 0 ? error_set_errno(reterr, -ENOMEM, "Failed to read the source") : 0;
}

/* The layers of a container image make a tree of their own. */
static int read_image(Source *s, const OciFiles *files, Tree **ret, Error **reterr) {
        _cleanup_tree_ Tree *t = NULL;
        OciLayers layers = {};
        int r;

        r = oci_find_layers(files, &layers, reterr);
        if (r < 0)
                return r;
        oci_layers_done(&s->layers);
        s->layers = layers;
        r = new_tree(&t, reterr);
        if (r >= 0)
                r = read_layers(s, t, TARBALL_WHITEOUTS, reterr);
        if (r >= 0)
                *ret = TAKE_PTR(t);
        return r;
}

static int read_tar(Source *s, Tree *t, bool *ret_compressed, Error **reterr) {
        Progress progress;

        progress_begin(&progress, "reading", s->layers.layers[0].size);
        return tarball_read_tree(&s->layers.layers[0], 0, 0, t, &progress, ret_compressed, reterr);
}

/* Takes fd. What kind of archive it is shows when its names are known. A container image is read at random,
 * so that a compressed one is decompressed first. */
static int read_archive(Source *s, int fd, Tree **ret, Error **reterr) {
        Tarball *a = &s->layers.layers[0], plain;
        _cleanup_tree_ Tree *t = NULL;
        bool compressed;
        int r;

        a->fd = fd;
        s->layers.n = 1;
        r = tarball_from_fd(fd, a, reterr);
        if (r >= 0)
                r = new_tree(&t, reterr);
        if (r >= 0)
                r = read_tar(s, t, &compressed, reterr);
        if (r < 0)
                return r;
        if (!oci_is_image(&(OciFiles){ .folder = -EBADF, .archive = a, .tree = t })) {
                *ret = TAKE_PTR(t);
                return 0;
        }
        if (compressed) {
                r = tarball_decompress(a, &plain, reterr);
                if (r < 0)
                        return r;
                safe_close(a->fd);
                *a = plain;
        }
        return read_image(s, &(OciFiles){ .folder = -EBADF, .archive = a, .tree = t }, ret, reterr);
}

static int read_root(Source *s, const SourceOptions *options, Tree **ret, Error **reterr) {
        _cleanup_tree_ Tree *t = NULL;
        Progress progress;
        int r;

        progress_begin(&progress, "reading", 0);
        r = new_tree(&t, reterr);
        if (r >= 0)
                r = folder_read_tree(s->folder, options->root_owned ? FOLDER_ROOT_OWNED : 0, t, &progress,
                                reterr);
        if (r >= 0)
                *ret = TAKE_PTR(t);
        return r;
}

static int read_folder(Source *s, const SourceOptions *options, Tree **ret, Error **reterr) {
        OciFiles files = { .folder = s->folder };
        _cleanup_free_ char *containerfile = NULL;
        Progress progress;
        int fd, r;

        if (oci_is_image(&files))
                return read_image(s, &files, ret, reterr);
        r = container_find_file(options->path, options->containerfile, &containerfile, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                return read_root(s, options, ret, reterr);
        progress_begin(&progress, "building", 0);
        r = container_build(options->path, containerfile, &fd, reterr);
        return r < 0 ? r : read_archive(s, fd, ret, reterr);
}

static int open_source(const char *path, int *ret, struct stat *ret_st, Error **reterr) {
        _cleanup_close_ int fd = streq(path, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                                  : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

        if (fd < 0 || fstat(fd, ret_st) < 0)
                return error_set_errno(reterr, -errno, "Failed to open '%s'", path);
        *ret = TAKE_FD(fd);
        return 0;
}

static int read_any(Source *s, const SourceOptions *options, Tree **ret, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int spooled, r;

        r = open_source(options->path, &fd, &st, reterr);
        if (r < 0)
                return r;
        if (S_ISDIR(st.st_mode)) {
                s->folder = TAKE_FD(fd);
                return read_folder(s, options, ret, reterr);
        }
        if (options->containerfile)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is no folder that '--file' could be for",
                                options->path);
        if (S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0)
                return read_archive(s, TAKE_FD(fd), ret, reterr);
        r = spool(fd, &spooled, reterr);
        return r < 0 ? r : read_archive(s, spooled, ret, reterr);
}

int source_read(const SourceOptions *options, Source **ret, Tree **ret_tree, Error **reterr) {
        _cleanup_(source_freep) Source *s = calloc(1, sizeof(Source));
        int r;

        if (!s)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the source");
        s->folder = -EBADF;
        r = read_any(s, options, ret_tree, reterr);
        if (r >= 0)
                *ret = TAKE_PTR(s);
        return r;
}

static int write_layers(
                Source *s, Node *const *files, size_t n, Ext4 *e, Progress *progress, Error **reterr) {
        size_t from = 0, to;
        int r = 0;

        for (; r >= 0 && from < n; from = to) {
                uint32_t layer = node_inode(files[from])->layer;

                for (to = from; to < n && node_inode(files[to])->layer == layer;)
                        to++;
                r = tarball_read_contents(
                                &s->layers.layers[layer], files + from, to - from, e, progress, reterr);
        }
        return r;
}

int source_write_contents(Source *s, Tree *t, Ext4 *e, uint64_t total, Error **reterr) {
        _cleanup_free_ Node **files = NULL;
        Progress progress;
        size_t n;

        if (tree_files(t, &files, &n) < 0)
                return error_set_errno(reterr, -ENOMEM, "Failed to list the files");
        progress_begin(&progress, "writing", total);
        return s->layers.n > 0 ? write_layers(s, files, n, e, &progress, reterr)
                               : folder_read_contents(s->folder, files, n, e, &progress, reterr);
}
