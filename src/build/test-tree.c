/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "boot-files.h"
#include "tree.h"
#include "util/test.h"

static int add_mode(Tree *t, const char *path, uint32_t layer, mode_t mode, const char *target) {
        Inode *i = inode_new(mode);

        CHECK(i);
        if (target) {
                i->target = strdup(target);
                CHECK(i->target);
        }
        if (S_ISREG(mode))
                i->size = i->allocated = 1;
        i->layer = layer;
        return tree_add(t, path, layer, i, NULL);
}

static int add_file(Tree *t, const char *path, uint32_t layer) {
        return add_mode(t, path, layer, S_IFREG | 0644, NULL);
}

static int add_folder(Tree *t, const char *path, uint32_t layer) {
        return add_mode(t, path, layer, S_IFDIR | 0700, NULL);
}

static int add_symlink(Tree *t, const char *path, const char *target) {
        return add_mode(t, path, 0, S_IFLNK | 0777, target);
}

static Tree *new_tree(void) {
        Tree *t;

        CHECK_EQ(tree_new(&t), 0);
        return t;
}

static int append_name(Node *n, void *userdata, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        char *text = userdata;

        CHECK_EQ(node_path(n, &path), 0);
        if (path[0] != '\0')
                sprintf(text + strlen(text), "%s%s", text[0] ? " " : "", path);
        return 0;
}

static void check_tree(Tree *t, const char *expected) {
        char text[1024] = "";

        CHECK_EQ(tree_walk(t, append_name, text, NULL), 0);
        CHECK_STREQ(text, expected);
}

static void test_paths(void) {
        _cleanup_tree_ Tree *t = new_tree();
        char long_name[TREE_NAME_MAX + 2], long_path[TREE_PATH_MAX + 2];
        static const char *const bad[] = { "", "/", "/a", "..", "../a", "a/..", "a/../b", "./../a" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ Error *e = NULL;

                CHECK_EQ(tree_add(t, bad[i], 0, inode_new(S_IFREG), &e), -EINVAL);
                CHECK_EQ(error_code(e), ERROR_INVALID_ARCHIVE);
                CHECK(strstr(error_message(e), bad[i]));
        }
        memset(long_name, 'n', sizeof(long_name));
        long_name[TREE_NAME_MAX + 1] = '\0';
        CHECK_EQ(add_file(t, long_name, 0), -EINVAL);
        long_name[TREE_NAME_MAX] = '\0';
        CHECK_EQ(add_file(t, long_name, 0), 0);
        for (size_t i = 0; i <= TREE_PATH_MAX; i++)
                long_path[i] = i % 2 == 0 ? 'p' : '/';
        long_path[TREE_PATH_MAX + 1] = '\0';
        CHECK_EQ(add_file(t, long_path, 0), -EINVAL);
        long_path[TREE_PATH_MAX] = '\0';
        CHECK_EQ(add_file(t, long_path, 0), 0);
}

static void test_spellings(void) {
        _cleanup_tree_ Tree *t = new_tree();

        CHECK_EQ(add_folder(t, "./", 0), 0);
        CHECK_EQ(add_file(t, ".//a/./b", 0), 0);
        CHECK_EQ(add_file(t, "a//c/", 0), 0);
        CHECK_EQ(add_file(t, "a/..b", 0), 0);
        CHECK_EQ(add_file(t, "a/...", 0), 0);
        check_tree(t, "a a/... a/..b a/b a/c");
        CHECK_EQ(tree_n_nodes(t), 6);
        CHECK_EQ(node_inode(tree_root(t))->mode, S_IFDIR | 0700);
}

static void test_no_way_through(void) {
        _cleanup_tree_ Tree *t = new_tree();

        CHECK_EQ(add_symlink(t, "out", "/etc"), 0);
        CHECK_EQ(add_file(t, "file", 0), 0);
        CHECK_EQ(add_file(t, "out/passwd", 0), -EINVAL);
        CHECK_EQ(add_file(t, "file/x", 0), -EINVAL);
        CHECK_EQ(tree_link(t, "x", "out/passwd", 0, NULL), -EINVAL);
        CHECK_EQ(tree_hide(t, "out/passwd", 1, false, NULL), -EINVAL);
        CHECK_EQ(add_file(t, "folder/x", 0), 0);
        CHECK_EQ(add_symlink(t, "folder", "/etc"), -EINVAL);
        CHECK_EQ(add_file(t, ".", 0), -EINVAL);
        check_tree(t, "file folder folder/x out");
}

static void test_links(void) {
        _cleanup_tree_ Tree *t = new_tree();

        CHECK_EQ(tree_link(t, "b", "a", 0, NULL), -EINVAL);
        CHECK_EQ(add_file(t, "a", 0), 0);
        CHECK_EQ(tree_link(t, "a", "a", 0, NULL), 0);
        CHECK_EQ(node_inode(tree_resolve(t, "a"))->n_links, 1);
        CHECK_EQ(tree_link(t, "b", "a", 0, NULL), 0);
        CHECK_EQ(tree_link(t, "d/c", "b", 0, NULL), 0);
        CHECK(node_inode(tree_resolve(t, "a")) == node_inode(tree_resolve(t, "d/c")));
        CHECK_EQ(node_inode(tree_resolve(t, "a"))->n_links, 3);
        CHECK_EQ(add_file(t, "a", 0), 0);
        CHECK(node_inode(tree_resolve(t, "a")) != node_inode(tree_resolve(t, "b")));
        CHECK_EQ(node_inode(tree_resolve(t, "b"))->n_links, 2);
        CHECK_EQ(tree_link(t, "e", "d", 0, NULL), -EINVAL);
        CHECK_EQ(tree_link(t, "e", ".", 0, NULL), -EINVAL);
        CHECK_EQ(tree_link(t, "d", "a", 0, NULL), -EINVAL);
        CHECK_EQ(node_inode(tree_resolve(t, "a"))->n_links, 1);
}

/* The new name takes the place of the folder that the old one is in, and then does not fit. */
static void test_link_over_its_target(void) {
        _cleanup_tree_ Tree *t = new_tree();

        CHECK_EQ(add_file(t, "a/low", 0), 0);
        CHECK_EQ(add_file(t, "a/high", 1), 0);
        CHECK_EQ(tree_link(t, "a", "a/low", 1, NULL), -EINVAL);
        check_tree(t, "a a/high");
        CHECK_EQ(tree_link(t, "a", "a/high", 2, NULL), 0);
        check_tree(t, "a");
        CHECK_EQ(node_inode(tree_resolve(t, "a"))->n_links, 1);
}

static void test_layers(void) {
        _cleanup_tree_ Tree *t = new_tree();

        CHECK_EQ(add_file(t, "a/low", 0), 0);
        CHECK_EQ(add_file(t, "a/sub/low", 0), 0);
        CHECK_EQ(add_file(t, "b/low", 0), 0);
        CHECK_EQ(add_file(t, "c", 0), 0);
        CHECK_EQ(tree_hide(t, "c", 0, false, NULL), 0); /* not of a lower layer */
        CHECK_EQ(add_file(t, "a/high", 1), 0);
        CHECK_EQ(add_file(t, "a/sub/high", 1), 0);
        CHECK_EQ(tree_hide(t, "a", 1, true, NULL), 0);
        check_tree(t, "a a/high a/sub a/sub/high b b/low c");
        CHECK_EQ(tree_hide(t, "b", 1, true, NULL), 0);
        CHECK_EQ(tree_hide(t, "c", 1, false, NULL), 0);
        CHECK_EQ(tree_hide(t, "never/there", 1, false, NULL), 0);
        check_tree(t, "a a/high a/sub a/sub/high b");
        CHECK_EQ(add_symlink(t, "b", "a"), 0);
        CHECK_EQ(add_file(t, "a", 2), 0); /* a file over a folder of lower layers */
        check_tree(t, "a b");
        CHECK_EQ(tree_hide(t, ".", 3, false, NULL), 0); /* the root itself stays */
        check_tree(t, "");
        CHECK_EQ(tree_n_nodes(t), 1);
}

static void test_resolve(void) {
        _cleanup_tree_ Tree *t = new_tree();

        CHECK_EQ(add_file(t, "usr/lib/file", 0), 0);
        CHECK_EQ(add_symlink(t, "lib", "usr/lib"), 0);
        CHECK_EQ(add_symlink(t, "usr/up", "../../../lib"), 0);
        CHECK_EQ(add_symlink(t, "usr/absolute", "/lib/file"), 0);
        CHECK_EQ(add_symlink(t, "loop", "loop"), 0);
        CHECK_EQ(add_symlink(t, "broken", "nothing"), 0);
        CHECK(tree_resolve(t, "lib/file") == tree_resolve(t, "usr/lib/file"));
        CHECK(tree_resolve(t, "/usr/up/file") == tree_resolve(t, "usr/lib/file"));
        CHECK(tree_resolve(t, "usr/absolute") == tree_resolve(t, "usr/lib/file"));
        CHECK(tree_resolve(t, "../..") == tree_root(t));
        CHECK(!tree_resolve(t, "loop"));
        CHECK(!tree_resolve(t, "broken"));
        CHECK(!tree_resolve(t, "usr/lib/file/x"));
}

static void test_files(void) {
        _cleanup_tree_ Tree *t = new_tree();
        _cleanup_free_ Node **files = NULL;
        size_t n;

        CHECK_EQ(add_file(t, "z", 0), 0);
        node_inode(tree_resolve(t, "z"))->entry = 1;
        CHECK_EQ(add_file(t, "y", 0), 0);
        node_inode(tree_resolve(t, "y"))->entry = 2;
        CHECK_EQ(tree_link(t, "a", "z", 0, NULL), 0);
        CHECK_EQ(add_file(t, "b", 1), 0);
        CHECK_EQ(add_file(t, "empty", 0), 0);
        node_inode(tree_resolve(t, "empty"))->size = 0;
        CHECK_EQ(tree_files(t, &files, &n), 0);
        CHECK_EQ(n, 3);
        CHECK(node_inode(files[0]) == node_inode(tree_resolve(t, "z")));
        CHECK(files[1] == tree_resolve(t, "y"));
        CHECK(files[2] == tree_resolve(t, "b"));
}

static void test_boot_files(void) {
        _cleanup_tree_ Tree *t = new_tree();
        BootFiles found;

        CHECK_EQ(boot_files_find(t, &found), 0);
        CHECK(!found.kernel && !found.initrd);
        CHECK_EQ(add_symlink(t, "boot/vmlinuz", "kernel"), 0);
        CHECK_EQ(add_file(t, "boot/kernel", 0), 0);
        CHECK_EQ(add_file(t, "boot/initrd.img-6.1.0-10", 0), 0);
        CHECK_EQ(boot_files_find(t, &found), 0);
        CHECK(found.kernel == tree_resolve(t, "boot/kernel") && !found.initrd);
        CHECK_EQ(add_file(t, "boot/vmlinuz-6.1.0-9", 0), 0);
        CHECK_EQ(add_file(t, "boot/vmlinuz-6.1.0-10", 0), 0);
        CHECK_EQ(add_file(t, "boot/vmlinuz-7.0.old", 0), 0);
        CHECK_EQ(add_file(t, "boot/vmlinuz-8'", 0), 0);
        CHECK_EQ(add_folder(t, "boot/vmlinuz-9", 0), 0);
        CHECK_EQ(boot_files_find(t, &found), 0);
        CHECK(found.kernel == tree_resolve(t, "boot/vmlinuz-6.1.0-10"));
        CHECK(found.initrd == tree_resolve(t, "boot/initrd.img-6.1.0-10"));
}

int main(void) {
        test_paths();
        test_spellings();
        test_no_way_through();
        test_links();
        test_link_over_its_target();
        test_layers();
        test_resolve();
        test_files();
        test_boot_files();
        return 0;
}
