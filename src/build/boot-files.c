/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "boot-files.h"
#include "util/string-util.h"

typedef struct Candidate {
        char *version; /* owned */
        Node *kernel;
} Candidate;

static void candidate_done(Candidate *c) {
        free(c->version);
}

/* Boot loaders' configurations have rules of their own for all other characters. */
static bool is_plain(const char *path) {
        return path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-/")] ==
                        '\0';
}

/* What package managers keep of former kernels, and what distributions keep for emergencies. */
static bool is_spare(const char *version) {
        return endswith(version, ".old") || endswith(version, ".bak") || strstr(version, "rescue");
}

/* Also where a symbolic link leads must have a plain name. */
static Node *find_file(Tree *t, const char *path) {
        Node *n = tree_resolve(t, path);
        _cleanup_free_ char *where = NULL;

        if (!n || !S_ISREG(node_inode(n)->mode) || node_inode(n)->size == 0)
                return NULL;
        return node_path(n, &where) >= 0 && is_plain(where) ? n : NULL;
}

static int consider(Tree *t, const char *path, const char *version, Candidate *best) {
        Node *kernel = find_file(t, path);
        char *copy;

        if (!kernel || is_spare(version) || (best->version && strverscmp(version, best->version) <= 0))
                return 0;
        copy = strdup(version);
        if (!copy)
                return -ENOMEM;
        free(best->version);
        *best = (Candidate){ .version = copy, .kernel = kernel };
        return 0;
}

/* Each name in the folder that starts with prefix and ends in a version, with `behind` behind it. */
static int consider_all(
                Tree *t, const char *folder, const char *prefix, const char *behind, Candidate *best) {
        Node *n = tree_resolve(t, folder);
        _cleanup_free_ Node **children = NULL;
        size_t n_children;
        int r;

        if (!n || !S_ISDIR(node_inode(n)->mode))
                return 0;
        r = node_children(n, &children, &n_children);
        for (size_t i = 0; r >= 0 && i < n_children; i++) {
                const char *version = startswith(node_name(children[i]), prefix);
                _cleanup_free_ char *path = strf("%s/%s%s", folder, node_name(children[i]), behind);

                if (!path)
                        return -ENOMEM;
                if (!isempty(version))
                        r = consider(t, path, version, best);
        }
        return r;
}

static int find_initrd(Tree *t, const char *version, Node **ret) {
        static const char *const forms[][2] = {
                { "boot/initrd.img-", "" },
                { "boot/initramfs-", ".img" },
                { "boot/initramfs-", "" },
                { "boot/initrd-", "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
                _cleanup_free_ char *path = strf("%s%s%s", forms[i][0], version, forms[i][1]);

                if (!path)
                        return -ENOMEM;
                *ret = find_file(t, path);
                if (*ret)
                        return 0;
        }
        return 0;
}

static Node *find_first(Tree *t, const char *const paths[]) {
        Node *n = NULL;

        for (; !n && *paths; paths++)
                n = find_file(t, *paths);
        return n;
}

int boot_files_find(Tree *t, BootFiles *ret) {
        static const char *const kernels[] = { "boot/vmlinuz", "vmlinuz", NULL };
        static const char *const initrds[] = { "boot/initrd.img", "boot/initrd", "initrd.img", NULL };
        _cleanup_(candidate_done) Candidate best = {};
        BootFiles found = {};
        int r;

        r = consider_all(t, "boot", "vmlinuz-", "", &best);
        if (r >= 0)
                r = consider_all(t, "usr/lib/modules", "", "/vmlinuz", &best);
        if (r >= 0)
                r = consider_all(t, "lib/modules", "", "/vmlinuz", &best);
        if (r < 0)
                return r;
        found.kernel = best.kernel ?: find_first(t, kernels);
        if (best.kernel)
                r = find_initrd(t, best.version, &found.initrd);
        else if (found.kernel)
                found.initrd = find_first(t, initrds);
        if (r >= 0)
                *ret = found;
        return r;
}
