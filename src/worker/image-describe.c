/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inspect: what 'qemu-img info' would tell, read by our own code, also of images that would not be taken.
 *
 * Request: "format" (what the client calls it, or null). Result: "size", "allocated"; where they can be told
 * "format", "virtual-size", "variant" and all of qcow2's below; "refused" (why) where an import would refuse
 * it. Names in it are the image's own words, escaped, and nothing is opened by them. */
#include <sys/stat.h>

#include "image-task.h"
#include "qcow2-header.h"

#define SNAPSHOTS_SHOWN 256
#define NAME_SHOWN 1023

typedef struct SnapshotList {
        JsonWriter *w;
        unsigned n;
        uint64_t disk_size; /* where a snapshot does not record it */
} SnapshotList;

static void put_text(JsonWriter *w, const char *key, const char *text, size_t len) {
        _cleanup_free_ char *escaped = string_escape(text, len, NAME_SHOWN);

        json_put_string(w, key, escaped);
}

static int write_snapshot(const Qcow2Snapshot *s, void *userdata) {
        SnapshotList *l = userdata;

        if (l->n++ >= SNAPSHOTS_SHOWN)
                return 0;
        json_write_object(l->w);
        json_put_string(l->w, "id", s->id);
        json_put_string(l->w, "name", s->name);
        json_put_unsigned(l->w, "date", s->date);
        json_put_unsigned(l->w, "vm-state-size", s->vm_state_size);
        json_put_unsigned(l->w, "disk-size", s->disk_size != 0 ? s->disk_size : l->disk_size);
        json_write_end(l->w);
        return 0;
}

/* What is wrong with them stands in "refused". */
static void write_snapshots(const Qcow2Header *h, const FileIdentity *file, JsonWriter *w) {
        SnapshotList l = { .w = w, .disk_size = h->size };
        const ImageReader reader = image_reader(file);

        json_put_unsigned(w, "snapshot-count", h->nb_snapshots);
        json_write_key(w, "snapshots");
        json_write_array(w);
        (void)qcow2_read_snapshots(h, &reader, write_snapshot, &l, NULL);
        json_write_end(w);
}

static void write_extensions(const Qcow2Header *h, const void *buf, size_t len, JsonWriter *w) {
        bool format = false, data_file = false; /* each key once, however often it stands there */
        Qcow2Extension e = { .next = qcow2_first_extension(h) };

        while (e.next != 0 && qcow2_read_extension(h, buf, len, e.next, &e)) {
                if (e.type == QCOW2_EXTENSION_BACKING_FORMAT && !format) {
                        put_text(w, "backing-format", e.data, e.len);
                        format = true;
                } else if (e.type == QCOW2_EXTENSION_DATA_FILE && !data_file) {
                        put_text(w, "data-file", e.data, e.len);
                        data_file = true;
                }
        }
}

static void write_features(const Qcow2Header *h, JsonWriter *w) {
        json_put_string(w, "compat", h->version == 2 ? "0.10" : "1.1");
        if (h->cluster_bits < 63)
                json_put_unsigned(w, "cluster-size", UINT64_C(1) << h->cluster_bits);
        if (h->refcount_order <= 6)
                json_put_unsigned(w, "refcount-bits", UINT64_C(1) << h->refcount_order);
        if (h->compression_type <= 1)
                json_put_string(w, "compression-type", h->compression_type == 0 ? "zlib" : "zstd");
        json_put_boolean(w, "lazy-refcounts", h->compatible_features & QCOW2_LAZY_REFCOUNTS);
        json_put_boolean(w, "extended-l2", h->incompatible_features & QCOW2_EXTENDED_L2);
        json_put_boolean(w, "dirty", h->incompatible_features & QCOW2_DIRTY);
        json_put_boolean(w, "corrupt", h->incompatible_features & QCOW2_CORRUPT);
        json_put_boolean(w, "encrypted", h->crypt_method != 0);
}

static void write_qcow2(const FileIdentity *file, const void *buf, size_t len, JsonWriter *w) {
        Qcow2Header h;

        json_put_string(w, "format", image_format_to_string(IMAGE_FORMAT_QCOW2));
        if (qcow2_header_read(buf, len, file->label, &h, NULL) < 0)
                return;
        json_put_unsigned(w, "virtual-size", h.size);
        write_features(&h, w);
        if (h.backing_file_offset != 0 && h.backing_file_offset <= len &&
                        h.backing_file_size <= len - h.backing_file_offset)
                put_text(w, "backing-file", (const char *)buf + h.backing_file_offset, h.backing_file_size);
        write_extensions(&h, buf, len, w);
        write_snapshots(&h, file, w);
}

static int read_head(const FileIdentity *file, void *buf, size_t *ret_len, Error **reterr) {
        const ImageReader reader = image_reader(file);

        return reader.read(reader.userdata, 0, buf, IMAGE_HEADER_SIZE, ret_len, reterr);
}

static int describe(const ImageTask *t, const FileIdentity *file, const void *buf, size_t len, JsonWriter *w,
                Error **reterr) {
        _cleanup_error_ Error *refused = NULL;
        ImageHeader h;
        int r;

        r = image_inspect(file, t->format, IMAGE_HEADER_CONVERTIBLE, &h, &refused);
        if (r < 0 && !refused)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", file->label);
        if (r < 0 && error_code(refused) != ERROR_FORMAT_REFUSED &&
                        error_code(refused) != ERROR_INVALID_IMAGE)
                return error_set(reterr, error_code(refused), "%s", error_message(refused));
        if (image_header_is_qcow2(buf, len)) {
                write_qcow2(file, buf, len, w);
        } else if (r >= 0) {
                json_put_string(w, "format", image_format_to_string(h.format));
                json_put_unsigned(w, "virtual-size", h.virtual_size);
                if (h.variant)
                        json_put_string(w, "variant", h.variant);
        }
        if (r < 0)
                json_put_string(w, "refused", error_message(refused));
        return 0;
}

int image_describe(ImageTask *t, JsonWriter *w, Error **reterr) {
        _cleanup_free_ void *buf = malloc(IMAGE_HEADER_SIZE);
        FileIdentity file;
        struct stat st;
        size_t len;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", t->label);
        r = file_check_readable(t->fds[IMAGE_FILE_INPUT], t->label, ERROR_INVALID_IMAGE, reterr);
        if (r < 0)
                return r;
        r = image_task_file(t, IMAGE_FILE_INPUT, &file, reterr);
        if (r < 0)
                return r;
        if (fstat(file.fd, &st) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", t->label);
        r = read_head(&file, buf, &len, reterr);
        if (r < 0)
                return r;
        json_put_unsigned(w, "size", file.size);
        json_put_unsigned(w, "allocated", (uint64_t)st.st_blocks * 512);
        return describe(t, &file, buf, len, w, reterr);
}
