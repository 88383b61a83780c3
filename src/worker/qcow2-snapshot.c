/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of snapshots: entries of varying length one behind the other, each padded to 8 bytes. */
#include <endian.h>

#include "qcow2-header.h"

#define TABLE_SIZE_MAX (64 * MIB) /* these three are QEMU's own bounds */
#define EXTRA_SIZE_MAX 1024
#define L1_SIZE_MAX (32 * MIB)
#define TEXT_SHOWN 256 /* bytes of an id or a name */

typedef struct Entry {
        uint64_t l1_table_offset;
        uint32_t l1_size;
        uint16_t id_size;
        uint16_t name_size;
        uint32_t date_sec;
        uint32_t date_nsec;
        uint64_t vm_clock_nsec;
        uint32_t vm_state_size;
        uint32_t extra_size;
        /* extra data, id, name */
} __attribute__((packed)) Entry;
_Static_assert(sizeof(Entry) == 40, "entry of the table of snapshots");

static int set_broken(const ImageReader *reader, unsigned i, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE, "%s is broken: entry %u of its table of snapshots",
                        reader->label, i + 1);
}

static int read_entry(const ImageReader *reader, uint64_t offset, Entry *ret, Error **reterr) {
        Entry e;
        int r;

        r = image_reader_read(reader, offset, &e, sizeof(e), "table of snapshots", reterr);
        if (r < 0)
                return r;
        *ret = (Entry){
                .l1_table_offset = be64toh(e.l1_table_offset),
                .l1_size = be32toh(e.l1_size),
                .id_size = be16toh(e.id_size),
                .name_size = be16toh(e.name_size),
                .date_sec = be32toh(e.date_sec),
                .vm_state_size = be32toh(e.vm_state_size),
                .extra_size = be32toh(e.extra_size),
        };
        return 0;
}

static bool entry_is_sane(const Qcow2Header *h, const ImageReader *reader, const Entry *e) {
        uint64_t size = e->l1_size * UINT64_C(8);

        return e->extra_size <= EXTRA_SIZE_MAX && size <= L1_SIZE_MAX &&
                        e->l1_table_offset % (UINT64_C(1) << h->cluster_bits) == 0 &&
                        e->l1_table_offset <= reader->size && size <= reader->size - e->l1_table_offset;
}

static int read_text(const ImageReader *reader, uint64_t offset, size_t len, char **ret, Error **reterr) {
        size_t n = MIN(len, (size_t)TEXT_SHOWN);
        char buf[TEXT_SHOWN];
        int r;

        /* the last byte alone tells whether the rest is there */
        r = len > n ? image_reader_read(reader, offset + len - 1, buf, 1, "table of snapshots", reterr) : 0;
        if (r >= 0)
                r = image_reader_read(reader, offset, buf, n, "table of snapshots", reterr);
        if (r < 0)
                return r;
        *ret = string_escape(buf, n, n);
        return *ret ? 0 : error_set_errno(reterr, -ENOMEM, "%s cannot be read", reader->label);
}

static int read_variable(const ImageReader *reader, uint64_t offset, const Entry *e,
                int (*each)(const Qcow2Snapshot *s, void *userdata), void *userdata, Error **reterr) {
        _cleanup_free_ char *id = NULL, *name = NULL;
        uint64_t extra[2] = {}; /* size of the VM's state in 64 bits, size of the disk */
        Qcow2Snapshot s = { .date = e->date_sec, .vm_state_size = e->vm_state_size };
        int r;

        r = image_reader_read(reader, offset, extra, MIN((size_t)e->extra_size / 8 * 8, sizeof(extra)),
                        "table of snapshots", reterr);
        if (r < 0)
                return r;
        if (e->extra_size >= 8)
                s.vm_state_size = be64toh(extra[0]);
        s.disk_size = be64toh(extra[1]);
        r = read_text(reader, offset + e->extra_size, e->id_size, &id, reterr);
        if (r >= 0)
                r = read_text(reader, offset + e->extra_size + e->id_size, e->name_size, &name, reterr);
        if (r < 0)
                return r;
        s.id = id;
        s.name = name;
        return each ? each(&s, userdata) : 0;
}

int qcow2_read_snapshots(const Qcow2Header *h, const ImageReader *reader,
                int (*each)(const Qcow2Snapshot *s, void *userdata), void *userdata, Error **reterr) {
        uint64_t done = 0;

        if (h->nb_snapshots > QCOW2_SNAPSHOTS_MAX || h->cluster_bits > 21 || h->snapshots_offset > INT64_MAX)
                return set_broken(reader, 0, reterr);
        for (unsigned i = 0; i < h->nb_snapshots; i++) {
                Entry e;
                int r;

                r = read_entry(reader, h->snapshots_offset + done, &e, reterr);
                if (r < 0)
                        return r;
                if (!entry_is_sane(h, reader, &e))
                        return set_broken(reader, i, reterr);
                r = read_variable(
                                reader, h->snapshots_offset + done + sizeof(e), &e, each, userdata, reterr);
                if (r < 0)
                        return r;
                done += (sizeof(e) + e.extra_size + e.id_size + e.name_size + 7) / 8 * 8;
                if (done > TABLE_SIZE_MAX)
                        return error_set(reterr, ERROR_INVALID_IMAGE,
                                        "%s is broken: its table of snapshots has more than 64 MiB",
                                        reader->label);
        }
        return 0;
}
