/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <archive.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include "tarball-entry.h"
#include "tarball.h"
#include "tool.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define BUFFER_SIZE (256 * KIB)

#define WHITEOUT ".wh."
#define WHITEOUT_OF_ALL ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh." /* names that old layer drivers keep for themselves */

/* An archive that is being read */
typedef struct Reader {
        const Tarball *source;
        struct archive *archive; /* owned */
        EVP_MD_CTX *hash;        /* owned; NULL: not asked for */
        Progress *progress;      /* or NULL */
        uint64_t at;             /* in the source */
        uint64_t n_entries;      /* so far */
        uint8_t *buffer;         /* owned */
} Reader;

static void reader_done(Reader *r) {
        if (r->archive)
                archive_read_free(r->archive);
        EVP_MD_CTX_free(r->hash);
        free(r->buffer);
}

static la_ssize_t read_callback(struct archive *a, void *userdata, const void **ret) {
        Reader *r = userdata;
        size_t want = (size_t)MIN((uint64_t)BUFFER_SIZE, r->source->size - r->at);
        ssize_t n;

        do
                n = pread(r->source->fd, r->buffer, want, (off_t)(r->source->offset + r->at));
        while (n < 0 && errno == EINTR);
        if (n < 0) {
                archive_set_error(a, errno, "%s", strerror(errno));
                return ARCHIVE_FATAL;
        }
        if (r->hash && EVP_DigestUpdate(r->hash, r->buffer, (size_t)n) != 1)
                return ARCHIVE_FATAL;
        r->at += (uint64_t)n;
        if (r->progress)
                progress_add(r->progress, (uint64_t)n);
        *ret = r->buffer;
        return n;
}

static la_int64_t skip_callback(struct archive *a, void *userdata, la_int64_t request) {
        Reader *r = userdata;
        uint64_t n = MIN((uint64_t)request, r->source->size - r->at);

        if (r->hash) /* all of it has to be seen */
                return 0;
        r->at += n;
        if (r->progress)
                progress_add(r->progress, n);
        return (la_int64_t)n;
}

static int reader_error(const Reader *r, Error **reterr) {
        int number = archive_errno(r->archive);
        const char *text = archive_error_string(r->archive);
        _cleanup_free_ char *shown = NULL;

        if (!text)
                text = "it is truncated or damaged";
        shown = string_escape(text, strlen(text), 512);
        if (number == ENOMEM)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the archive");
        if (number == EIO)
                return error_set_errno(reterr, -EIO, "Failed to read the archive");
        return error_set(reterr, ERROR_INVALID_ARCHIVE, "The archive cannot be read: %s", shown ?: "?");
}

/* Before it is opened, which reads the first bytes. */
static int reader_start_hash(Reader *r, const Tarball *source, Error **reterr) {
        if (source->digest[0] == '\0')
                return 0;
        r->hash = EVP_MD_CTX_new();
        if (!r->hash || EVP_DigestInit_ex(r->hash, EVP_sha256(), NULL) != 1)
                return error_set_errno(reterr, -ENOMEM, "Failed to compute a digest");
        return 0;
}

typedef int (*support_t)(struct archive *);

/* format: tar, or "raw" for any bytes */
static int reader_open(Reader *r, const Tarball *source, support_t format, Error **reterr) {
        static const support_t filters[] = {
                archive_read_support_filter_gzip,
                archive_read_support_filter_bzip2,
                archive_read_support_filter_xz,
                archive_read_support_filter_lzma,
                archive_read_support_filter_zstd,
        };

        r->source = source;
        r->archive = archive_read_new();
        r->buffer = malloc(BUFFER_SIZE);
        if (!r->archive || !r->buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the archive");
        (void)format(r->archive);
        for (size_t i = 0; i < ELEMENTSOF(filters); i++)
                if (filters[i](r->archive) != ARCHIVE_OK) /* a libarchive that would run a program for it */
                        return error_set(reterr, ERROR_NOT_SUPPORTED,
                                        "This libarchive lacks one of gzip, bzip2, xz and zstd");
        archive_read_set_callback_data(r->archive, r);
        archive_read_set_read_callback(r->archive, read_callback);
        archive_read_set_skip_callback(r->archive, skip_callback);
        return archive_read_open1(r->archive) == ARCHIVE_OK ? 0 : reader_error(r, reterr);
}

/* 1: there is an entry; 0: there is no more */
static int reader_next(Reader *r, struct archive_entry **ret, Error **reterr) {
        int q = archive_read_next_header(r->archive, ret);

        if (q == ARCHIVE_EOF)
                return 0;
        if (q != ARCHIVE_OK) /* also what libarchive would do without: a part of a name, for example */
                return reader_error(r, reterr);
        r->n_entries++;
        return 1;
}

static int reader_check_hash(Reader *r, Error **reterr) {
        uint8_t digest[EVP_MAX_MD_SIZE];
        char hex[SHA256_HEX + 1];
        const void *unused;

        if (!r->hash)
                return 0;
        while (r->at < r->source->size) /* what stands behind the end of the tar */
                if (read_callback(r->archive, r, &unused) <= 0)
                        return reader_error(r, reterr);
        if (EVP_DigestFinal_ex(r->hash, digest, NULL) != 1)
                return error_set_errno(reterr, -ENOMEM, "Failed to compute a digest");
        hex_encode(digest, SHA256_HEX / 2, hex);
        return streq(hex, r->source->digest)
                        ? 0
                        : error_set(reterr, ERROR_DIGEST_MISMATCH, "A layer has the digest %s instead of %s",
                                          hex, r->source->digest);
}

int tarball_from_fd(int fd, Tarball *ret, Error **reterr) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to look at the archive");
        *ret = (Tarball){ .fd = fd, .size = (uint64_t)st.st_size };
        return 0;
}

/* 1: it was one */
static int read_whiteout(Tree *t, const char *path, uint32_t layer, Error **reterr) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        _cleanup_free_ char *hidden = NULL;
        int folder_len = (int)(name - path), r;

        if (!startswith(name, WHITEOUT))
                return 0;
        if (startswith(name, WHITEOUT_META) && !streq(name, WHITEOUT_OF_ALL))
                return 1;
        hidden = streq(name, WHITEOUT_OF_ALL) ? strf("%.*s.", folder_len, path)
                                              : strf("%.*s%s", folder_len, path, name + strlen(WHITEOUT));
        if (!hidden)
                return error_set_errno(reterr, -ENOMEM, "Failed to note an entry");
        r = tree_hide(t, hidden, layer, streq(name, WHITEOUT_OF_ALL), reterr);
        return r < 0 ? r : 1;
}

static int read_entry(Reader *reader, struct archive_entry *entry, uint32_t layer, TarballFlags flags,
                Tree *t, Error **reterr) {
        const char *path = archive_entry_pathname(entry), *target = archive_entry_hardlink(entry);
        Inode *inode;
        int r;

        if (!path)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "An entry has a name that cannot be read");
        if (flags & TARBALL_WHITEOUTS) {
                r = read_whiteout(t, path, layer, reterr);
                if (r != 0)
                        return r;
        }
        if (target)
                return tree_link(t, path, target, layer, reterr);
        r = tarball_entry_to_inode(entry, &inode, reterr);
        if (r < 0)
                return r;
        inode->layer = layer;
        inode->entry = reader->n_entries;
        inode->offset = (uint64_t)archive_filter_bytes(reader->archive, 0);
        return tree_add(t, path, layer, inode, reterr);
}

int tarball_read_tree(const Tarball *a, uint32_t layer, TarballFlags flags, Tree *t, Progress *progress,
                bool *ret_compressed, Error **reterr) {
        _cleanup_(reader_done) Reader reader = { .progress = progress };
        struct archive_entry *entry;
        int r;

        r = reader_start_hash(&reader, a, reterr);
        if (r >= 0)
                r = reader_open(&reader, a, archive_read_support_format_tar, reterr);
        if (r < 0)
                return r;
        while ((r = reader_next(&reader, &entry, reterr)) > 0) {
                r = read_entry(&reader, entry, layer, flags, t, reterr);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (ret_compressed)
                *ret_compressed = archive_filter_code(reader.archive, 0) != ARCHIVE_FILTER_NONE;
        return reader_check_hash(&reader, reterr);
}

static int changed(Error **reterr) {
        return error_set(reterr, ERROR_INVALID_ARCHIVE, "The archive was changed while it was read");
}

static int copy_content(Reader *reader, const Node *n, Ext4 *e, Progress *progress, Error **reterr) {
        const void *data;
        size_t len;
        la_int64_t offset;
        int q, r;

        r = ext4_file_begin(e, n, reterr);
        if (r < 0)
                return r;
        while ((q = archive_read_data_block(reader->archive, &data, &len, &offset)) == ARCHIVE_OK) {
                r = ext4_file_write(e, data, len, (uint64_t)offset, reterr);
                if (r < 0)
                        return r;
                progress_add(progress, len);
        }
        return q == ARCHIVE_EOF ? ext4_file_end(e, reterr) : reader_error(reader, reterr);
}

int tarball_read_contents(const Tarball *a, Node *const *files, size_t n_files, Ext4 *e, Progress *progress,
                Error **reterr) {
        _cleanup_(reader_done) Reader reader = {};
        struct archive_entry *entry;
        size_t done = 0;
        int r;

        r = reader_open(&reader, a, archive_read_support_format_tar, reterr);
        while (r >= 0 && done < n_files) {
                const Inode *i = node_inode(files[done]);

                r = reader_next(&reader, &entry, reterr);
                if (r == 0 || reader.n_entries > i->entry)
                        return changed(reterr);
                if (r < 0 || reader.n_entries < i->entry)
                        continue;
                if (!S_ISREG(archive_entry_mode(entry)) || (uint64_t)archive_entry_size(entry) != i->size)
                        return changed(reterr);
                r = copy_content(&reader, files[done++], e, progress, reterr);
        }
        return r;
}

static int copy_raw(Reader *reader, int fd, Error **reterr) {
        uint8_t *buffer;
        la_ssize_t n;
        int r = 0;

        buffer = malloc(BUFFER_SIZE);
        if (!buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to decompress the archive");
        while (r >= 0 && (n = archive_read_data(reader->archive, buffer, BUFFER_SIZE)) > 0)
                r = write_all(fd, buffer, (size_t)n);
        free(buffer);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to decompress the archive in '%s'",
                                tool_temporary_folder());
        return n < 0 ? reader_error(reader, reterr) : 0;
}

int tarball_decompress(const Tarball *a, Tarball *ret, Error **reterr) {
        _cleanup_(reader_done) Reader reader = {};
        _cleanup_close_ int fd = -EBADF;
        struct archive_entry *entry;
        int r;

        r = tool_temporary_file(&fd, reterr);
        if (r >= 0)
                r = reader_open(&reader, a, archive_read_support_format_raw, reterr);
        if (r >= 0)
                r = reader_next(&reader, &entry, reterr);
        if (r >= 0)
                r = copy_raw(&reader, fd, reterr);
        if (r >= 0)
                r = tarball_from_fd(fd, ret, reterr);
        if (r >= 0)
                TAKE_FD(fd);
        return r;
}
