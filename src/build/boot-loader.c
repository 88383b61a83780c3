/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "boot-loader.h"
#include "grub.h"
#include "tool.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define SECTOR 512
#define BIOS_START 2048
#define BIOS_SECTORS 2046
#define ESP_START 4096
#define ESP_SECTORS (64 * 2048)
#define ROOT_START (BOOT_LOADER_ROOT_OFFSET / SECTOR)
_Static_assert(ROOT_START == ESP_START + ESP_SECTORS, "the partitions do not follow one another");

#define TYPE_BIOS "21686148-6449-6E6F-744E-656564454649"
#define TYPE_ESP "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
#define TYPE_ROOT "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" /* x86-64 */

/* What grub-bios-setup writes, and where */
#define BOOT_CODE_SIZE 440     /* the partition table is behind it */
#define BOOT_CORE_SECTOR 0x5c  /* in the boot sector: where the core image is */
#define CORE_REST_SECTOR 0x1f4 /* in the core image's first sector: where the rest of it is */
#define PARTITION_TABLE 0x1be  /* in a boot sector: the old one */
#define PARTITION_TABLE_SIZE 64

#define DISK "/proc/self/fd/3"
#define ESP_IMAGE DISK "@@2097152" /* ESP_START in bytes */
_Static_assert(ESP_START *SECTOR == 2097152, "the EFI system partition is elsewhere");

struct BootLoader {
        GrubImage core; /* owned */
        GrubImage efi;
        uint8_t boot_code[SECTOR];
        char serial[9]; /* of the EFI system partition's file system */
};

int boot_loader_check_tools(Error **reterr) {
        static const char *const tools[][2] = {
                { "sfdisk", "fdisk" },
                { "mformat", "mtools" },
                { "grub-mkimage", "grub-common" },
        };

        for (size_t i = 0; i < ELEMENTSOF(tools); i++) {
                _cleanup_free_ char *path = tool_find(tools[i][0]);

                if (!path)
                        return error_set(reterr, ERROR_TOOL_MISSING,
                                        "'%s' is not installed (Debian: apt install %s)", tools[i][0],
                                        tools[i][1]);
        }
        return 0;
}

int boot_loader_check_append(const char *append, Error **reterr) {
        for (const char *p = append; *p; p++)
                if (*p < ' ' || *p > '~' || strchr("\\'\"", *p))
                        return error_set(reterr, ERROR_INVALID_SPEC,
                                        "GRUB cannot pass on quotes, backslashes and other than ASCII "
                                        "characters, so '--append' must not have them");
        return 0;
}

int boot_loader_partition(int fd, uint64_t size, const BootUuids *uuids, Error **reterr) {
        uint64_t root_sectors = (size - BOOT_LOADER_ROOT_OFFSET - BOOT_LOADER_TAIL) / SECTOR;
        _cleanup_free_ char *script = strf("label: gpt\nlabel-id: %s\n"
                                           "start=%d, size=%d, type=" TYPE_BIOS ", uuid=%s\n"
                                           "start=%d, size=%d, type=" TYPE_ESP ", uuid=%s\n"
                                           "start=%" PRIu64 ", size=%" PRIu64 ", type=" TYPE_ROOT
                                           ", uuid=%s\n",
                        uuids->disk, BIOS_START, BIOS_SECTORS, uuids->bios, ESP_START, ESP_SECTORS,
                        uuids->esp, (uint64_t)ROOT_START, root_sectors, uuids->root_partition);
        const char *const argv[] = { "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", DISK, NULL };
        _cleanup_close_ int input = -EBADF;

        if (!script)
                return error_set_errno(reterr, -ENOMEM, "Failed to partition the disk");
        input = memfd_with("partitions", script, strlen(script));
        if (input < 0)
                return error_set_errno(reterr, input, "Failed to partition the disk");
        return tool_run(
                        &(ToolRun){
                                        .argv = argv,
                                        .package = "fdisk",
                                        .stdin_fd = input,
                                        .stdout_fd = -EBADF,
                                        .fds = { fd },
                                        .n_fds = 1,
                        },
                        reterr);
}

/* Words are quoted, so that nothing in them means anything to GRUB. */
static int quote_words(const char *text, char ***ret) {
        _cleanup_strv_ char **words = NULL;
        int r = 0;

        while (r >= 0 && *(text += strspn(text, " "))) {
                size_t n = strcspn(text, " ");

                r = strv_extendf(&words, " '%.*s'", (int)n, text);
                text += n;
        }
        if (r >= 0)
                *ret = TAKE_PTR(words);
        return r;
}

static char *join(char *const *words) {
        size_t len = 0, at = 0;
        char *joined;

        STRV_FOREACH(s, words)
                len += strlen(*s);
        joined = malloc(len + 1);
        if (!joined)
                return NULL;
        STRV_FOREACH(s, words) {
                memcpy(joined + at, *s, strlen(*s));
                at += strlen(*s);
        }
        joined[at] = '\0';
        return joined;
}

char *boot_loader_config(const BootFiles *files, const BootUuids *uuids, const char *append) {
        _cleanup_free_ char *kernel = NULL, *initrd = NULL, *options = NULL;
        _cleanup_strv_ char **words = NULL;

        if (quote_words(append, &words) < 0 || node_path(files->kernel, &kernel) < 0 ||
                        (files->initrd && node_path(files->initrd, &initrd) < 0))
                return NULL;
        options = join(words);
        return options ? strf("set timeout=0\nlinux '/%s' root=PARTUUID=%s ro%s\n%s%s%sboot\n", kernel,
                                         uuids->root_partition, options, initrd ? "initrd '/" : "",
                                         initrd ?: "", initrd ? "'\n" : "")
                       : NULL;
}

static char *core_config(const BootUuids *uuids) {
        return strf("search.fs_uuid %s root\nset prefix=($root)/boot/grub\nnormal\n", uuids->root);
}

static int make_images(
                BootLoader *b, const GrubFiles files[static 2], const BootUuids *uuids, Error **reterr) {
        _cleanup_free_ char *config = core_config(uuids);
        const GrubFile *boot = grub_files_get(&files[GRUB_BIOS], "boot.img");
        int r;

        if (!config)
                return error_set_errno(reterr, -ENOMEM, "Failed to make the boot loader");
        if (!boot || boot->len != SECTOR)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "GRUB's boot.img is not one sector");
        memcpy(b->boot_code, boot->data, SECTOR);
        r = grub_make_image(GRUB_BIOS, &files[GRUB_BIOS], config, &b->core, reterr);
        if (r >= 0)
                r = grub_make_image(GRUB_EFI, &files[GRUB_EFI], config, &b->efi, reterr);
        if (r >= 0 && (b->core.len < SECTOR || b->core.len > BIOS_SECTORS * SECTOR))
                r = error_set(reterr, ERROR_FAILED, "GRUB's core image does not fit its partition");
        return r;
}

int boot_loader_prepare(Ext4 *e, Tree *t, const BootUuids *uuids, BootLoader **ret, Error **reterr) {
        _cleanup_(boot_loader_freep) BootLoader *b = calloc(1, sizeof(BootLoader));
        GrubFiles files[_GRUB_PLATFORM_MAX] = {};
        int r = b ? 0 : error_set_errno(reterr, -ENOMEM, "Failed to make the boot loader");

        for (int i = 0; r >= 0 && i < _GRUB_PLATFORM_MAX; i++)
                r = grub_files_read((GrubPlatform)i, e, t, &files[i], reterr);
        for (int i = 0; r >= 0 && i < _GRUB_PLATFORM_MAX; i++)
                r = grub_files_add_to((GrubPlatform)i, &files[i], t, reterr);
        if (r >= 0)
                r = make_images(b, files, uuids, reterr);
        for (int i = 0; i < _GRUB_PLATFORM_MAX; i++)
                grub_files_done(&files[i]);
        if (r < 0)
                return r;
        snprintf(b->serial, sizeof(b->serial), "%.8s", uuids->esp);
        *ret = TAKE_PTR(b);
        return 0;
}

BootLoader *boot_loader_free(BootLoader *b) {
        if (!b)
                return NULL;
        grub_image_done(&b->core);
        grub_image_done(&b->efi);
        free(b);
        return NULL;
}

static int write_at(int fd, const void *data, size_t len, uint64_t offset, Error **reterr) {
        const uint8_t *p = data;

        while (len > 0) {
                ssize_t n = pwrite(fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr, -errno, "Failed to write the boot loader");
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

static int write_bios(const BootLoader *b, int fd, Error **reterr) {
        uint64_t core = htole64(BIOS_START), rest = htole64(BIOS_START + 1);
        int r;

        r = write_at(fd, b->boot_code, BOOT_CODE_SIZE, 0, reterr);
        if (r >= 0)
                r = write_at(fd, &core, sizeof(core), BOOT_CORE_SECTOR, reterr);
        if (r >= 0)
                r = write_at(fd, b->core.data, b->core.len, BIOS_START * SECTOR, reterr);
        if (r >= 0)
                r = write_at(fd, &rest, sizeof(rest), BIOS_START * SECTOR + CORE_REST_SECTOR, reterr);
        return r;
}

static int run_mtools(const char *const argv[], int disk, int file, Error **reterr) {
        return tool_run(
                        &(ToolRun){
                                        .argv = argv,
                                        .environment = "MTOOLS_SKIP_CHECK=1",
                                        .package = "mtools",
                                        .stdin_fd = -EBADF,
                                        .stdout_fd = -EBADF,
                                        .fds = { disk, file },
                                        .n_fds = file >= 0 ? 2 : 1,
                        },
                        reterr);
}

static int write_esp(const BootLoader *b, int fd, Error **reterr) {
        _cleanup_free_ char *sectors = strf("%d", ESP_SECTORS);
        const char *const format[] = { "mformat", "-i", ESP_IMAGE, "-T", sectors, "-h", "255", "-s", "63",
                "-N", b->serial, "-v", "ESP", "::", NULL };
        const char *const folders[] = { "mmd", "-i", ESP_IMAGE, "::/EFI", "::/EFI/BOOT", NULL };
        const char *const copy[] = { "mcopy", "-i", ESP_IMAGE, "/proc/self/fd/4", "::/EFI/BOOT/BOOTX64.EFI",
                NULL };
        static const uint8_t zeros[PARTITION_TABLE_SIZE] = {};
        _cleanup_close_ int efi = memfd_with("BOOTX64.EFI", b->efi.data, b->efi.len);
        int r;

        if (efi < 0 || !sectors)
                return error_set_errno(reterr, efi < 0 ? efi : -ENOMEM, "Failed to write the boot loader");
        r = run_mtools(format, fd, -EBADF, reterr);
        /* mformat writes a partition table, by which tools find partitions in the partition. */
        if (r >= 0)
                r = write_at(fd, zeros, sizeof(zeros), ESP_START * SECTOR + PARTITION_TABLE, reterr);
        if (r >= 0)
                r = run_mtools(folders, fd, -EBADF, reterr);
        return r < 0 ? r : run_mtools(copy, fd, efi, reterr);
}

int boot_loader_install(const BootLoader *b, int fd, Error **reterr) {
        int r = write_bios(b, fd, reterr);

        return r < 0 ? r : write_esp(b, fd, reterr);
}
