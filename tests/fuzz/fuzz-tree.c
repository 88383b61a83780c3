/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The input is what an archive's entries say: lines of a letter (what it is), a digit (the layer) and a
 * path, for links with '>' and the target behind it. Whatever is accepted must be a tree of proper names, in
 * which every file has as many names as it says, and paths lead where they should. */
#include <stdio.h>

#include "build/boot-files.h"
#include "build/tree.h"
#include "fuzz.h"
#include "util/test.h"

#define INPUT_MAX (256 * KIB)

static mode_t type_of(char letter) {
        return letter == 'd' ? S_IFDIR : letter == 's' ? S_IFLNK : letter == 'c' ? S_IFCHR : S_IFREG;
}

static int add(Tree *t, char letter, uint32_t layer, const char *path, const char *target, Error **reterr) {
        Inode *i = inode_new(type_of(letter) | 0644);

        CHECK(i);
        i->size = S_ISREG(i->mode);
        if (target) {
                i->target = strdup(target);
                CHECK(i->target);
        }
        return tree_add(t, path, layer, i, reterr);
}

static void perform(Tree *t, char *line) {
        _cleanup_error_ Error *e = NULL;
        char letter = line[0], *path = line + 2, *target;
        uint32_t layer = line[1] >= '0' && line[1] <= '9' ? (uint32_t)(line[1] - '0') : 0;
        int r;

        target = strchr(path, '>');
        if (target)
                *target++ = '\0';
        if (letter == 'l')
                r = tree_link(t, path, target ?: "", layer, &e);
        else if (letter == 'w' || letter == 'o')
                r = tree_hide(t, path, layer, letter == 'o', &e);
        else
                r = add(t, letter, layer, path, target, &e);
        CHECK(r == 0 || r == -EINVAL);
        if (r < 0) {
                CHECK_EQ(error_code(e), ERROR_INVALID_ARCHIVE);
                CHECK(utf8_is_valid(error_message(e), strlen(error_message(e))));
        }
}

/* `ino` counts an inode's names here. */
static int visit(Node *n, void *userdata, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        const char *name = node_name(n);
        size_t *count = userdata;

        ++*count;
        node_inode(n)->ino++;
        CHECK_EQ(node_path(n, &path), 0);
        CHECK(strlen(path) <= TREE_PATH_MAX);
        if (node_parent(n) != n) {
                CHECK(name[0] != '\0' && strlen(name) <= TREE_NAME_MAX && !strchr(name, '/'));
                CHECK(!streq(name, ".") && !streq(name, ".."));
                CHECK(S_ISDIR(node_inode(node_parent(n))->mode));
        }
        return 0;
}

static int visit_again(Node *n, void *userdata, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        Tree *t = userdata;

        CHECK_EQ(node_inode(n)->ino, node_inode(n)->n_links);
        CHECK_EQ(node_path(n, &path), 0);
        if (S_ISLNK(node_inode(n)->mode))
                (void)tree_resolve(t, path);
        else
                CHECK(tree_resolve(t, path) == n);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = NULL;
        _cleanup_free_ Node **files = NULL;
        _cleanup_tree_ Tree *t = NULL;
        size_t n_files, n_nodes = 0;
        BootFiles boot;
        char *line, *rest;

        if (size > INPUT_MAX)
                return 0;
        text = strndup((const char *)data, size);
        CHECK(text);
        CHECK_EQ(tree_new(&t), 0);
        for (rest = text; (line = strsep(&rest, "\n"));)
                if (strlen(line) >= 2)
                        perform(t, line);
        CHECK_EQ(tree_walk(t, visit, &n_nodes, NULL), 0);
        CHECK_EQ(n_nodes, tree_n_nodes(t));
        CHECK_EQ(tree_walk(t, visit_again, t, NULL), 0);
        CHECK_EQ(tree_files(t, &files, &n_files), 0);
        CHECK(n_files < n_nodes);
        CHECK_EQ(boot_files_find(t, &boot), 0);
        return 0;
}
