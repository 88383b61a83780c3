/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-build: makes a disk image from a root file system. vmctl runs it, with the rights of whoever calls
 * vmctl, and hands the file over to vmctld afterwards. It mounts nothing, becomes nobody else and unpacks
 * nothing (ext4.h says how), so that any user can run it on any archive.
 *
 *     vmctl-build --output FD [--kernel-output FD] [--initrd-output FD] [--kernel FD] [--initrd FD]
 *                 [--size BYTES] [--bootable] [--append STRING] [--label L] [--uuid U]
 *                 [--file CONTAINERFILE] [--root-owned] SOURCE
 *
 * SOURCE is a folder, a tar, a container image (folder or archive), a folder that has a Containerfile or a
 * Dockerfile at its top or is given one, or "-" for an archive on standard input. Of a folder, what is
 * mounted in it is left out. Outputs are regular files that are replaced. Without --bootable the image is a
 * file system; a kernel and an initial RAM disk for booting it directly are those given, or else the newest
 * in it. With --bootable it is a disk with a boot loader, and a kernel that is given is put into it; a
 * grub.cfg that is in the tree stays unless --kernel or --append says otherwise.
 *
 * Standard output gets lines of progress, and at last one with "result", or "error" and "message" and exit
 * status 1. With SOURCE_DATE_EPOCH and --uuid the same source makes the same image. */
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "boot-loader.h"
#include "grub.h"
#include "options.h"
#include "source.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "worker/reply.h"

#define BOOT_FILE_SIZE_MAX (512 * MIB)

/* Where a kernel that was given goes in a bootable image: no package has such names. */
#define GIVEN_KERNEL "boot/vmlinuz-given"
#define GIVEN_INITRD "boot/initrd.img-given"

#define GRUB_CFG "boot/grub/grub.cfg"

/* The screen and vmctl's console */
#define DEFAULT_APPEND "console=tty0 console=ttyS0,115200"

typedef struct Build {
        int argc;
        char **argv;
        BuildOptions options;
        BootUuids uuids;
        int64_t now;
        Source *source;
        Tree *tree;
        BootFiles boot_files;
        Ext4Needs needs;
        uint64_t size; /* of the disk */
        Ext4Layout layout;
        Ext4 *ext4;
        BootLoader *boot_loader;
} Build;

static void build_done(Build *b) {
        source_free(b->source);
        tree_free(b->tree);
        ext4_free(b->ext4);
        boot_loader_free(b->boot_loader);
}

static int no_memory(Error **reterr) {
        return error_set_errno(reterr, -ENOMEM, "Failed to build the image");
}

static int parse_options(Build *b, Error **reterr) {
        int r = build_options_parse(b->argc, b->argv, &b->options, reterr);

        if (r >= 0)
                r = boot_uuids_make(b->options.uuid, &b->uuids, reterr);
        if (r >= 0 && b->options.append)
                r = boot_loader_check_append(b->options.append, reterr);
        return r;
}

static int check_output(int fd, Error **reterr) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to write the image");
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, ERROR_FAILED, "vmctl-build writes to regular files");
        return ftruncate(fd, 0) < 0 ? error_set_errno(reterr, -errno, "Failed to write the image") : 0;
}

static int check_outputs(Build *b, Error **reterr) {
        const int outputs[] = { b->options.output, b->options.kernel_output, b->options.initrd_output };

        for (size_t i = 0; i < ELEMENTSOF(outputs); i++) {
                int r = outputs[i] >= 0 ? check_output(outputs[i], reterr) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_machine(Build *b, Error **reterr) {
        if (!b->options.bootable)
                return 0;
#if defined(__x86_64__)
        return boot_loader_check_tools(reterr);
#else
        return error_set(reterr, ERROR_NOT_SUPPORTED, "'--bootable' is there for x86-64 alone");
#endif
}

/* A build that is to be repeated says what the time is. */
static int set_time(Build *b, Error **reterr) {
        const char *given = getenv("SOURCE_DATE_EPOCH");
        uint64_t v;

        b->now = time(NULL);
        if (!given)
                return 0;
        if (parse_u64(given, &v) < 0 || v > INT64_C(0x37fffffff)) /* what ext4 can keep */
                return error_set(reterr, ERROR_INVALID_SPEC, "SOURCE_DATE_EPOCH is no time: '%s'", given);
        b->now = (int64_t)v;
        return 0;
}

static int read_source(Build *b, Error **reterr) {
        const SourceOptions options = {
                .path = b->options.source,
                .containerfile = b->options.file,
                .root_owned = b->options.root_owned,
        };

        return source_read(&options, &b->source, &b->tree, reterr);
}

static int read_given(int fd, char **ret, size_t *ret_len, Error **reterr) {
        int r;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return error_set_errno(reterr, -errno, "Failed to read the kernel");
        r = read_all(fd, BOOT_FILE_SIZE_MAX, ret, ret_len);
        return r < 0 ? error_set_errno(reterr, r, "Failed to read the kernel or its RAM disk") : 0;
}

/* Into the image if it boots by itself, and to the output if there is one. */
static int take_given(Build *b, int fd, const char *path, int output, Node **ret, Error **reterr) {
        _cleanup_free_ char *data = NULL;
        size_t len;
        int r;

        if (fd < 0)
                return 0;
        r = read_given(fd, &data, &len, reterr);
        if (r >= 0 && output >= 0 && (r = write_all(output, data, len)) < 0)
                (void)error_set_errno(reterr, r, "Failed to write the kernel");
        if (r >= 0 && b->options.bootable)
                r = grub_add_file(b->tree, path, data, len, reterr);
        if (r >= 0)
                *ret = tree_resolve(b->tree, path);
        return r;
}

static bool wants_kernel(const Build *b) {
        return b->options.bootable || b->options.kernel_output >= 0;
}

static int find_boot_files(Build *b, Error **reterr) {
        const BuildOptions *o = &b->options;
        int r;

        if (o->kernel >= 0) {
                r = take_given(b, o->kernel, GIVEN_KERNEL, o->kernel_output, &b->boot_files.kernel, reterr);
                return r < 0 ? r
                             : take_given(b, o->initrd, GIVEN_INITRD, o->initrd_output,
                                               &b->boot_files.initrd, reterr);
        }
        if (boot_files_find(b->tree, &b->boot_files) < 0)
                return no_memory(reterr);
        if (wants_kernel(b) && !b->boot_files.kernel)
                return error_set(reterr, ERROR_KERNEL_MISSING,
                                "'%s' has no kernel: neither /boot/vmlinuz* nor /usr/lib/modules/*/vmlinuz",
                                o->source);
        return 0;
}

/* The tree's own configuration stays unless what was asked for must be in it. */
static int add_config(Build *b, Error **reterr) {
        const BuildOptions *o = &b->options;
        _cleanup_free_ char *config = NULL;

        if (!o->bootable || (tree_resolve(b->tree, GRUB_CFG) && o->kernel < 0 && !o->append))
                return 0;
        config = boot_loader_config(&b->boot_files, &b->uuids, o->append ?: DEFAULT_APPEND);
        return config ? grub_add_file(b->tree, GRUB_CFG, config, strlen(config), reterr) : no_memory(reterr);
}

static int choose_size(Build *b, Error **reterr) {
        uint64_t around = b->options.bootable ? BOOT_LOADER_ROOT_OFFSET + BOOT_LOADER_TAIL : 0, size;
        int r = ext4_measure(b->tree, &b->needs, reterr);

        if (r < 0)
                return r;
        if (b->options.bootable)
                b->needs.bytes += BOOT_LOADER_RESERVE;
        b->size = b->options.size > 0 ? b->options.size : ext4_size_for(&b->needs) + around;
        size = b->size > around ? b->size - around : 0;
        if (size > EXT4_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_SPEC, "An image is built with up to 16 TiB");
        b->layout = (Ext4Layout){
                .fd = b->options.output,
                .offset = b->options.bootable ? BOOT_LOADER_ROOT_OFFSET : 0,
                .size = size / EXT4_BLOCK * EXT4_BLOCK,
                .uuid = b->uuids.root,
                .label = b->options.label,
                .now = b->now,
        };
        return 0;
}

static int make_disk(Build *b, Error **reterr) {
        int r = 0;

        if (ext4_size_least(&b->needs) > b->layout.size) /* before anything is written */
                return ext4_make(&b->layout, &b->needs, reterr);
        if (ftruncate(b->options.output, (off_t)b->size) < 0)
                return error_set_errno(reterr, -errno, "Failed to write the image");
        if (b->options.bootable)
                r = boot_loader_partition(b->options.output, b->size, &b->uuids, reterr);
        if (r >= 0)
                r = ext4_make(&b->layout, &b->needs, reterr);
        return r < 0 ? r : ext4_open(&b->layout, &b->needs, &b->ext4, reterr);
}

static int write_files(Build *b, Error **reterr) {
        int r = ext4_add_tree(b->ext4, b->tree, reterr);

        return r < 0 ? r : source_write_contents(b->source, b->tree, b->ext4, b->needs.content, reterr);
}

/* Files that were given have been copied already. */
static int copy_boot_files(Build *b, Error **reterr) {
        const BuildOptions *o = &b->options;
        int r = 0;

        if (o->kernel >= 0)
                return 0;
        if (o->kernel_output >= 0)
                r = ext4_copy_to(b->ext4, b->boot_files.kernel, o->kernel_output, reterr);
        if (r >= 0 && o->initrd_output >= 0 && b->boot_files.initrd)
                r = ext4_copy_to(b->ext4, b->boot_files.initrd, o->initrd_output, reterr);
        return r;
}

static int prepare_boot_loader(Build *b, Error **reterr) {
        Progress progress;
        int r;

        if (!b->options.bootable)
                return 0;
        progress_begin(&progress, "boot loader", 0);
        r = boot_loader_prepare(b->ext4, b->tree, &b->uuids, &b->boot_loader, reterr);
        return r < 0 ? r : ext4_add_tree(b->ext4, b->tree, reterr);
}

static int finish_files(Build *b, Error **reterr) {
        int r = ext4_write_folders(b->ext4, b->tree, reterr);

        return r < 0 ? r : ext4_close(&b->ext4, reterr);
}

static int install_boot_loader(Build *b, Error **reterr) {
        return b->boot_loader ? boot_loader_install(b->boot_loader, b->options.output, reterr) : 0;
}

static void put_node(JsonWriter *w, const char *key, const Node *n) {
        _cleanup_free_ char *path = NULL, *absolute = NULL;

        if (n && node_path(n, &path) >= 0)
                absolute = strf("/%s", path);
        json_put_string(w, key, absolute);
}

static void write_result(JsonWriter *w, const Build *b) {
        json_put_unsigned(w, "size", b->size);
        json_put_unsigned(w, "files", tree_n_nodes(b->tree));
        put_node(w, "kernel", b->boot_files.kernel);
        put_node(w, "initrd", b->boot_files.initrd);
        json_put_string(w, "label", b->options.label);
        json_put_string(w, "uuid", b->uuids.root);
        if (b->options.bootable)
                json_put_string(w, "partition-uuid", b->uuids.root_partition);
}

/* The message may name files, whose names are any bytes. */
static int fail(int r, const Error *error, Error **reterr) {
        _cleanup_free_ char *shown = NULL;

        if (error)
                shown = string_escape(error_message(error), strlen(error_message(error)), SIZE_MAX);
        if (shown)
                (void)error_set(reterr, error_code(error), "%s", shown);
        return r;
}

static int build(void *userdata, JsonWriter *w, Error **reterr) {
        static int (*const steps[])(Build *, Error **) = {
                parse_options,
                check_outputs,
                check_machine,
                set_time,
                read_source,
                find_boot_files,
                add_config,
                choose_size,
                make_disk,
                write_files,
                copy_boot_files,
                prepare_boot_loader,
                finish_files,
                install_boot_loader,
        };
        _cleanup_error_ Error *error = NULL;
        Build *b = userdata;

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                int r = steps[i](b, &error);

                if (r < 0)
                        return fail(r, error, reterr);
        }
        write_result(w, b);
        return 0;
}

int main(int argc, char *argv[]) {
        _cleanup_(build_done) Build b = { .argc = argc, .argv = argv };

        /* Tars have their names in UTF-8, which libarchive turns into the locale's. */
        (void)setlocale(LC_CTYPE, "C.UTF-8");
        (void)signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error like others */
        return reply_run(build, NULL, &b);
}
