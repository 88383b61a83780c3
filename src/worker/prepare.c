/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-prepare: makes the files of a new VM. vmctld runs it once for each, so that bytes from a client are
 * read by a process without privileges that can be killed at any moment, and nothing slow happens in the
 * service.
 *
 *     vmctl-prepare [--uid N --gid N] [--image FD] [--kernel FD] [--initrd FD] [--user-data FD]
 *                   [--firmware-vars-template FD]
 *                   [--overlay FD] [--seed FD] [--private-key FD] [--public-key FD] [--vars FD]
 *
 * The first four inputs were opened by the client and can be anything. Outputs are empty files. The request
 * is a JSON object on standard input (request.h), the reply one on standard output: "result", which is what
 * was found out about the inputs, or "error" and "message", with exit status 1. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "image.h"
#include "key-pair.h"
#include "overlay.h"
#include "reply.h"
#include "request.h"
#include "seed.h"
#include "ssh-key.h"
#include "util/fd-util.h"
#include "worker-options.h"

#define FIRMWARE_VARS_MAX (16 * MIB) /* OVMF's have 0.5 MiB at most */

/* All files together stay below it: the overlay's first tables 0.2 MiB, the largest seed 1.4, OVMF's
 * variables 0.5. Beginning with less only to fail halfway helps nobody. */
#define SPACE_NEEDED (4 * MIB)

typedef enum FileRole {
        FILE_IMAGE,
        FILE_KERNEL,
        FILE_INITRD,
        FILE_USER_DATA,
        FILE_VARS_TEMPLATE,
        FILE_OVERLAY, /* from here on outputs */
        FILE_SEED,
        FILE_PRIVATE_KEY,
        FILE_PUBLIC_KEY,
        FILE_VARS,
        _FILE_ROLE_MAX,
        _FILE_ROLE_INVALID = -EINVAL,
} FileRole;

typedef struct Preparation {
        int argc;
        char **argv;
        Identity identity;
        int fds[_FILE_ROLE_MAX]; /* inherited; borrowed */
        Request request;
        FileIdentity image;
        FileIdentity kernel;
        FileIdentity initrd;
        ImageHeader header; /* the image's */
        uint64_t disk_size; /* 0: no disk */
        Overlay *overlay;
        char **keys;     /* lines for the guest's authorized_keys */
        char *user_data; /* the client's own */
        size_t user_data_len;
} Preparation;

static void preparation_done(Preparation *p) {
        request_done(&p->request);
        file_identity_done(&p->image);
        file_identity_done(&p->kernel);
        file_identity_done(&p->initrd);
        overlay_free(p->overlay);
        strv_free(p->keys);
        free(p->user_data);
}

static bool has(const Preparation *p, FileRole role) {
        return p->fds[role] >= 0;
}

static int parse_options(Preparation *p, Error **reterr) {
        const WorkerOption table[] = {
                { "--image", p->fds + FILE_IMAGE, 1 },
                { "--kernel", p->fds + FILE_KERNEL, 1 },
                { "--initrd", p->fds + FILE_INITRD, 1 },
                { "--user-data", p->fds + FILE_USER_DATA, 1 },
                { "--firmware-vars-template", p->fds + FILE_VARS_TEMPLATE, 1 },
                { "--overlay", p->fds + FILE_OVERLAY, 1 },
                { "--seed", p->fds + FILE_SEED, 1 },
                { "--private-key", p->fds + FILE_PRIVATE_KEY, 1 },
                { "--public-key", p->fds + FILE_PUBLIC_KEY, 1 },
                { "--vars", p->fds + FILE_VARS, 1 },
        };

        _Static_assert(ELEMENTSOF(table) == _FILE_ROLE_MAX, "a file has no option");
        return worker_parse_options(p->argc, p->argv, 1, table, ELEMENTSOF(table), &p->identity, reterr);
}

/* With the rights of the service, so nothing here looks into a file. */
static int identify_files(Preparation *p, Error **reterr) {
        const struct {
                FileRole role;
                const char *what;
                FileIdentity *file;
        } table[] = {
                { FILE_IMAGE, "The disk image", &p->image },
                { FILE_KERNEL, "The kernel", &p->kernel },
                { FILE_INITRD, "The initial RAM disk", &p->initrd },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                int r;

                if (!has(p, table[i].role))
                        continue;
                r = file_identify(p->fds[table[i].role], table[i].what, table[i].file, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int drop_privileges(Preparation *p, Error **reterr) {
        /* Far above what any of it takes: milliseconds, some 200 MiB of address space in qemu-img, and
         * 16 MiB for the table of an empty qcow2 disk of 1 PiB. */
        const ConfineLimits limits = {
                .cpu_seconds = 20,
                .address_space = 2 * GIB,
                .file_size = 64 * MIB,
        };

        return confine(&p->identity, &limits, reterr);
}

static int read_request(Preparation *p, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = worker_read_request(REQUEST_SIZE_MAX, &text, &len, reterr);
        return r < 0 ? r : request_parse(text, len, &p->request, reterr);
}

/* What goes together, so that nothing is left out in silence. */
static int check_request(Preparation *p, Error **reterr) {
        const Request *q = &p->request;

        if (q->generate_key && (!has(p, FILE_PRIVATE_KEY) || !has(p, FILE_PUBLIC_KEY)))
                return error_set(reterr, ERROR_FAILED, "vmctl-prepare needs files for the key pair");
        if (q->cloud_init && !has(p, FILE_SEED))
                return error_set(reterr, ERROR_FAILED, "vmctl-prepare needs a file for the seed");
        if (has(p, FILE_VARS_TEMPLATE) != has(p, FILE_VARS))
                return error_set(reterr, ERROR_FAILED, "vmctl-prepare needs both firmware files");
        if (has(p, FILE_INITRD) && !has(p, FILE_KERNEL))
                return error_set(reterr, ERROR_INVALID_SPEC, "An initial RAM disk needs a kernel beside it");
        if (!has(p, FILE_USER_DATA))
                return 0;
        if (!q->cloud_init)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "User-data and 'no cloud-init' exclude each other");
        if (q->ssh_key || q->generate_key)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "User-data is handed on unchanged, so no SSH key can be put in: write the "
                                "key into the user-data");
        return 0;
}

static int inspect_files(Preparation *p, Error **reterr) {
        int r;

        if (has(p, FILE_IMAGE)) {
                r = image_inspect(&p->image, p->request.image_format,
                                has(p, FILE_KERNEL) ? IMAGE_HEADER_ANY_CONTENT : 0, &p->header, reterr);
                if (r < 0)
                        return r;
        }
        if (has(p, FILE_KERNEL)) {
                r = image_inspect_kernel(&p->kernel, reterr);
                if (r < 0)
                        return r;
        }
        return has(p, FILE_INITRD) ? image_inspect_initrd(&p->initrd, reterr) : 0;
}

static int check_space(Preparation *p, Error **reterr) {
        for (int role = FILE_OVERLAY; role < _FILE_ROLE_MAX; role++) {
                struct statvfs sv;
                uint64_t space;

                if (!has(p, role))
                        continue;
                if (fstatvfs(p->fds[role], &sv) < 0)
                        return error_set_errno(reterr, -errno, "Failed to look for free space");
                space = (uint64_t)sv.f_bavail * sv.f_frsize;
                if (sv.f_blocks > 0 && space < SPACE_NEEDED) /* some FUSE file systems do not say */
                        return error_set(reterr, ERROR_NO_SPACE,
                                        "Not enough space for the VM's files: %s are free and up to %s are "
                                        "needed",
                                        FORMAT_SIZE(space), FORMAT_SIZE(SPACE_NEEDED));
                return 0; /* all of them lie in one folder */
        }
        return 0;
}

static int choose_disk_size(Preparation *p, Error **reterr) {
        uint64_t base = has(p, FILE_IMAGE) ? p->header.virtual_size : 0, wanted = p->request.disk_size;

        if (wanted > IMAGE_VIRTUAL_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_SPEC, "A disk of %s is more than there can be (%s)",
                                FORMAT_SIZE(wanted), FORMAT_SIZE(IMAGE_VIRTUAL_SIZE_MAX));
        if (wanted != 0 && wanted < base)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "A disk of %s cannot hold the image, which has %s", FORMAT_SIZE(wanted),
                                FORMAT_SIZE(base));
        p->disk_size = (MAX(base, wanted) + 511) / 512 * 512;
        return 0;
}

static int start_overlay(Preparation *p, Error **reterr) {
        OverlaySpec spec = { .fd = p->fds[FILE_OVERLAY], .base = p->image.path, .format = p->header.format };
        int r;

        r = choose_disk_size(p, reterr);
        if (r < 0)
                return r;
        if (p->disk_size == 0)
                return 0;
        if (!has(p, FILE_OVERLAY))
                return error_set(reterr, ERROR_FAILED, "vmctl-prepare needs a file for the disk");
        spec.size = p->disk_size;
        return overlay_start(&spec, &p->overlay, reterr);
}

static int write_output(Preparation *p, FileRole role, const char *text, Error **reterr) {
        int r = write_all(p->fds[role], text, strlen(text));

        return r < 0 ? error_set_errno(reterr, r, "Failed to write the SSH key") : 0;
}

static int generate_keys(Preparation *p, Error **reterr) {
        _cleanup_free_ char *comment = strf("vmctl:%s", p->request.name);
        _cleanup_key_pair_ KeyPair pair = {};
        int r;

        if (!comment)
                return error_set_errno(reterr, -ENOMEM, "Failed to make an SSH key");
        r = key_pair_generate(comment, &pair, reterr);
        if (r < 0)
                return r;
        r = write_output(p, FILE_PRIVATE_KEY, pair.private_file, reterr);
        if (r < 0)
                return r;
        r = write_output(p, FILE_PUBLIC_KEY, pair.public_line, reterr);
        if (r < 0)
                return r;
        r = write_output(p, FILE_PUBLIC_KEY, "\n", reterr);
        if (r < 0)
                return r;
        r = strv_extend(&p->keys, pair.public_line);
        return r < 0 ? error_set_errno(reterr, r, "Failed to make an SSH key") : 0;
}

static int prepare_keys(Preparation *p, Error **reterr) {
        if (p->request.ssh_key)
                return ssh_key_parse(p->request.ssh_key, &p->keys, reterr);
        return p->request.generate_key ? generate_keys(p, reterr) : 0;
}

static int read_user_data(Preparation *p, Error **reterr) {
        int fd = p->fds[FILE_USER_DATA], r;
        char *data;
        size_t len;

        r = file_check_readable(fd, "The user-data file", ERROR_INVALID_SPEC, reterr);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0) /* the client may have read from it */
                return error_set_errno(reterr, -errno, "Failed to read the user-data file");
        r = read_all(fd, SEED_USER_DATA_MAX, &data, &len);
        if (r == -EFBIG)
                return error_set(reterr, ERROR_INVALID_SPEC, "The user-data file is larger than 1 MiB");
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the user-data file");
        p->user_data = data;
        p->user_data_len = len;
        return seed_check_user_data(data, len, reterr);
}

static int make_seed(Preparation *p, Error **reterr) {
        const SeedConfig config = {
                .instance_id = p->request.instance_id,
                .hostname = p->request.hostname,
                .user = p->request.user,
                .keys = p->keys,
        };
        _cleanup_free_ char *meta_data = NULL;
        size_t meta_data_len;
        int r;

        if (!p->request.cloud_init)
                return 0;
        r = has(p, FILE_USER_DATA) ? read_user_data(p, reterr)
                                   : seed_make_user_data(&config, &p->user_data, &p->user_data_len, reterr);
        if (r < 0)
                return r;
        r = seed_make_meta_data(&config, &meta_data, &meta_data_len, reterr);
        if (r < 0)
                return r;
        return seed_write(p->fds[FILE_SEED],
                        (const SeedFile[]){
                                        { "user-data", p->user_data, p->user_data_len },
                                        { "meta-data", meta_data, meta_data_len },
                        },
                        2, reterr);
}

static int copy_firmware_vars(Preparation *p, Error **reterr) {
        _cleanup_free_ char *data = NULL;
        size_t len;
        int r;

        if (!has(p, FILE_VARS))
                return 0;
        r = read_all(p->fds[FILE_VARS_TEMPLATE], FIRMWARE_VARS_MAX, &data, &len);
        if (r >= 0)
                r = write_all(p->fds[FILE_VARS], data, len);
        return r < 0 ? error_set_errno(reterr, r, "Failed to copy the firmware's variables") : 0;
}

static int finish_overlay(Preparation *p, Error **reterr) {
        return p->overlay ? overlay_finish(p->overlay, reterr) : 0;
}

/* Writing back is begun for all before the first is waited for, and one commit of the file system's journal
 * serves them all. */
static int sync_outputs(Preparation *p, Error **reterr) {
        for (int role = FILE_OVERLAY; role < _FILE_ROLE_MAX; role++)
                if (has(p, role))
                        (void)sync_file_range(p->fds[role], 0, 0, SYNC_FILE_RANGE_WRITE);
        for (int role = FILE_OVERLAY; role < _FILE_ROLE_MAX; role++)
                if (has(p, role) && fsync(p->fds[role]) < 0)
                        return error_set_errno(reterr, -errno, "Failed to write the VM's files to disk");
        return 0;
}

static void write_file(JsonWriter *w, const char *key, const FileIdentity *file, const ImageHeader *header) {
        json_write_key(w, key);
        json_write_object(w);
        json_put_string(w, "path", file->path);
        json_put_unsigned(w, "ino", file->ino);
        json_write_key(w, "btime");
        json_write_integer(w, file->btime);
        json_write_key(w, "ctime");
        json_write_integer(w, file->ctime);
        json_put_unsigned(w, "mtime", (uint64_t)file->mtime); /* before 1970 it wraps, as in FileRef */
        json_put_unsigned(w, "size", file->size);
        if (header) {
                json_put_string(w, "format", image_format_to_string(header->format));
                json_put_unsigned(w, "virtual-size", header->virtual_size);
        }
        json_write_end(w);
}

static void write_result(JsonWriter *w, const Preparation *p) {
        if (has(p, FILE_IMAGE))
                write_file(w, "image", &p->image, &p->header);
        if (has(p, FILE_KERNEL))
                write_file(w, "kernel", &p->kernel, NULL);
        if (has(p, FILE_INITRD))
                write_file(w, "initrd", &p->initrd, NULL);
        json_put_unsigned(w, "disk-size", p->disk_size);
        if (p->request.generate_key)
                json_put_string(w, "public-key", p->keys[0]);
}

static int prepare(void *userdata, JsonWriter *w, Error **reterr) {
        /* qemu-img takes longest, so it starts first, and the rest happens beside it. */
        static int (*const steps[])(Preparation *, Error **) = {
                parse_options,
                identify_files,
                drop_privileges,
                read_request,
                check_request,
                inspect_files,
                check_space,
                start_overlay,
                prepare_keys,
                make_seed,
                copy_firmware_vars,
                finish_overlay,
                sync_outputs,
        };
        Preparation *p = userdata;

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                int r = steps[i](p, reterr);

                if (r < 0)
                        return r;
        }
        write_result(w, p);
        return 0;
}

int main(int argc, char *argv[]) {
        _cleanup_(preparation_done) Preparation p = {
                .argc = argc,
                .argv = argv,
                .image = FILE_IDENTITY_NULL,
                .kernel = FILE_IDENTITY_NULL,
                .initrd = FILE_IDENTITY_NULL,
        };

        for (size_t i = 0; i < ELEMENTSOF(p.fds); i++)
                p.fds[i] = -EBADF;
        return reply_run(prepare, NULL, &p);
}
