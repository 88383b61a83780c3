/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "grub.h"
#include "tool.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define FILES_MAX 1024            /* there are some 300 for each platform */
#define FILE_SIZE_MAX (8 * MIB)   /* the largest has 0.2 MiB */
#define FILES_SIZE_MAX (32 * MIB) /* all have some 5 MiB */
#define IMAGE_SIZE_MAX (16 * MIB)

/* A tree's modules are anybody's, and are read by this machine's grub-mkimage. */
#define MKIMAGE_ADDRESS_SPACE GIB
#define MKIMAGE_CPU_SECONDS 30

#define HOST_FOLDER "/usr/lib/grub"

static const struct {
        const char *name;
        const char *package;
} platforms[_GRUB_PLATFORM_MAX] = {
        [GRUB_BIOS] = { "i386-pc", "grub-pc-bin" },
        [GRUB_EFI] = { "x86_64-efi", "grub-efi-amd64-bin" },
};

void grub_files_done(GrubFiles *files) {
        for (size_t i = 0; i < files->n; i++) {
                free(files->files[i].name);
                free(files->files[i].data);
        }
        free(files->files);
        *files = (GrubFiles){};
}

void grub_image_done(GrubImage *image) {
        free(image->data);
        *image = (GrubImage){};
}

const GrubFile *grub_files_get(const GrubFiles *files, const char *name) {
        for (size_t i = 0; i < files->n; i++)
                if (streq(files->files[i].name, name))
                        return &files->files[i];
        return NULL;
}

static int no_memory(Error **reterr) {
        return error_set_errno(reterr, -ENOMEM, "Failed to read GRUB's files");
}

/* Names become files in a folder of this machine's, and lines in lists. */
static bool is_wanted(const char *name) {
        if (name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")] !=
                                        '\0' ||
                        name[0] == '.' || name[0] == '-')
                return false;
        return endswith(name, ".mod") || endswith(name, ".lst") || endswith(name, ".img");
}

/* Takes data. */
static int add(GrubFiles *files, const char *name, void *data, size_t len, Error **reterr) {
        _cleanup_free_ void *owned = data;
        size_t sum = len;
        GrubFile *grown;
        char *copy;

        for (size_t i = 0; i < files->n; i++)
                sum += files->files[i].len;
        if (files->n >= FILES_MAX || sum > FILES_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "GRUB's files are too many or too large");
        grown = reallocarray(files->files, files->n + 1, sizeof(GrubFile));
        if (!grown)
                return no_memory(reterr);
        files->files = grown;
        copy = strdup(name);
        if (!copy)
                return no_memory(reterr);
        files->files[files->n++] = (GrubFile){ .name = copy, .data = TAKE_PTR(owned), .len = len };
        return 0;
}

static int read_from_tree(Ext4 *e, const Node *folder, GrubFiles *files, Error **reterr) {
        _cleanup_free_ Node **children = NULL;
        size_t n, len;
        int r = 0;

        if (node_children(folder, &children, &n) < 0)
                return no_memory(reterr);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                void *data;

                if (!is_wanted(node_name(children[i])) || !S_ISREG(node_inode(children[i])->mode))
                        continue;
                r = ext4_read(e, children[i], FILE_SIZE_MAX, &data, &len, reterr);
                if (r >= 0)
                        r = add(files, node_name(children[i]), data, len, reterr);
        }
        return r;
}

static int read_from_host(GrubPlatform platform, GrubFiles *files, Error **reterr) {
        _cleanup_free_ char *path = strf(HOST_FOLDER "/%s", platforms[platform].name);
        struct dirent **names;
        int n, r = 0;

        if (!path)
                return no_memory(reterr);
        n = scandir(path, &names, NULL, alphasort);
        if (n < 0)
                return error_set(reterr, ERROR_TOOL_MISSING,
                                "Neither the files of the image nor this machine have GRUB's modules for %s "
                                "(Debian: apt install %s)",
                                platforms[platform].name, platforms[platform].package);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *file = strf("%s/%s", path, names[i]->d_name);
                char *data;
                size_t len;

                if (r >= 0 && is_wanted(names[i]->d_name)) {
                        r = file ? read_file_at(AT_FDCWD, file, FILE_SIZE_MAX, &data, &len) : -ENOMEM;
                        r = r < 0 ? error_set_errno(reterr, r, "Failed to read GRUB's files")
                                  : add(files, names[i]->d_name, data, len, reterr);
                }
                free(names[i]);
        }
        free(names);
        return r;
}

int grub_files_read(GrubPlatform platform, Ext4 *e, Tree *t, GrubFiles *ret, Error **reterr) {
        _cleanup_free_ char *kernel = strf("usr/lib/grub/%s/kernel.img", platforms[platform].name);
        Node *n;

        if (!kernel)
                return no_memory(reterr);
        n = tree_resolve(t, kernel);
        return n ? read_from_tree(e, node_parent(n), ret, reterr) : read_from_host(platform, ret, reterr);
}

int grub_add_file(Tree *t, const char *path, const void *data, size_t len, Error **reterr) {
        _cleanup_inode_ Inode *i = inode_new(S_IFREG | 0644);

        if (!i)
                return no_memory(reterr);
        i->data = malloc(len + 1);
        if (!i->data)
                return no_memory(reterr);
        memcpy(i->data, data, len);
        i->size = i->allocated = len;
        i->mtime = node_inode(tree_root(t))->mtime;
        return tree_add(t, path, TREE_LAYER_OURS, TAKE_PTR(i), reterr);
}

int grub_files_add_to(GrubPlatform platform, const GrubFiles *files, Tree *t, Error **reterr) {
        _cleanup_free_ char *folder = strf("boot/grub/%s", platforms[platform].name);
        int r = 0;

        if (!folder)
                return no_memory(reterr);
        if (tree_resolve(t, folder))
                return 0;
        for (size_t i = 0; r >= 0 && i < files->n; i++) {
                const GrubFile *f = &files->files[i];
                _cleanup_free_ char *path = strf("%s/%s", folder, f->name);

                if (!path)
                        return no_memory(reterr);
                if (f->len > 0 && !endswith(f->name, ".img"))
                        r = grub_add_file(t, path, f->data, f->len, reterr);
        }
        return r;
}

static int run_mkimage(GrubPlatform platform, const char *folder, int config, int output, Error **reterr) {
        const char *argv[] = { "grub-mkimage", "-d", folder, "-O", platforms[platform].name, "-p",
                "/boot/grub", "-c", "/proc/self/fd/3", "-o", "/proc/self/fd/4", "part_gpt", "fat", "ext2",
                "search", "search_fs_uuid", "normal", "configfile", "linux", "test", "echo", "minicmd",
                platform == GRUB_BIOS ? "biosdisk" : NULL, NULL };

        return tool_run(
                        &(ToolRun){
                                        .argv = argv,
                                        .package = "grub-common",
                                        .stdin_fd = -EBADF,
                                        .stdout_fd = -EBADF,
                                        .fds = { config, output },
                                        .n_fds = 2,
                                        .address_space = MKIMAGE_ADDRESS_SPACE,
                                        .cpu_seconds = MKIMAGE_CPU_SECONDS,
                        },
                        reterr);
}

static int write_files(int folder, const GrubFiles *files, Error **reterr) {
        for (size_t i = 0; i < files->n; i++) {
                const GrubFile *f = &files->files[i];
                int r = write_file_at(folder, f->name, f->data, f->len, 0600, 0);

                if (r < 0)
                        return error_set_errno(reterr, r, "Failed to keep GRUB's files in '%s'",
                                        tool_temporary_folder());
        }
        return 0;
}

/* grub-mkimage reads a folder, and no descriptor can be one. Signals wait until it is gone again. */
static int with_folder(
                GrubPlatform platform, const GrubFiles *files, int config, int output, Error **reterr) {
        _cleanup_free_ char *path = strf("%s/vmctl-grub-XXXXXX", tool_temporary_folder());
        _cleanup_close_ int folder = -EBADF;
        int r;

        if (!path)
                return no_memory(reterr);
        if (!mkdtemp(path))
                return error_set_errno(
                                reterr, -errno, "Failed to make a folder in '%s'", tool_temporary_folder());
        folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = folder < 0 ? error_set_errno(reterr, -errno, "Failed to open '%s'", path)
                       : write_files(folder, files, reterr);
        if (r >= 0)
                r = run_mkimage(platform, path, config, output, reterr);
        (void)remove_tree_at(AT_FDCWD, path);
        return r;
}

int grub_make_image(GrubPlatform platform, const GrubFiles *files, const char *config, GrubImage *ret,
                Error **reterr) {
        _cleanup_close_ int input = memfd_with("grub.cfg", config, strlen(config));
        _cleanup_close_ int output = memfd_create("grub", MFD_CLOEXEC);
        sigset_t all, before;
        int r;

        if (input < 0 || output < 0)
                return no_memory(reterr);
        sigfillset(&all);
        (void)sigprocmask(SIG_BLOCK, &all, &before);
        r = with_folder(platform, files, input, output, reterr);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (r < 0)
                return r;
        if (lseek(output, 0, SEEK_SET) < 0)
                return error_set_errno(reterr, -errno, "Failed to read GRUB's image");
        r = read_all(output, IMAGE_SIZE_MAX, &ret->data, &ret->len);
        return r < 0 ? error_set_errno(reterr, r, "Failed to read GRUB's image") : 0;
}
