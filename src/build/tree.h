/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A file system as it is to become: names and what they stand for, without the contents of files. It is
 * built from entries in the order in which an archive has them, of which a later one replaces an earlier one
 * of the same path, and from layers, of which a later one can also hide what lies below it.
 *
 * Paths come from archives, so nothing is taken on trust. A name is what the archive calls it: symbolic
 * links are never followed while the tree grows, and what would need that is refused.
 */

#include <sys/stat.h>
#include <time.h>

#include "util/error.h"

#define TREE_NODES_MAX (4 * 1024 * 1024) /* a full desktop system has less than one million */
#define TREE_MEMORY_MAX GIB              /* all nodes of ordinary names fit */
#define TREE_LINKS_MAX 65000             /* names of one file in ext4 */
#define TREE_NAME_MAX 255
#define TREE_PATH_MAX 4095

/* What no source knows has this layer: it lies above all others. */
#define TREE_LAYER_OURS UINT32_MAX

typedef struct Tree Tree;
typedef struct Node Node;

typedef struct Xattr {
        struct Xattr *next;
        size_t len;
        uint8_t *value; /* owned */
        char name[];
} Xattr;

/* What one or more names stand for. Made by inode_new() and filled by whoever reads a source; the tree takes
 * it over and does not change it but for n_links. */
typedef struct Inode {
        unsigned n_links;
        mode_t mode; /* with the type */
        uint32_t uid;
        uint32_t gid;
        uint32_t major; /* of a device */
        uint32_t minor;
        struct timespec mtime;
        uint64_t size;      /* of a regular file */
        uint64_t allocated; /* of that, bytes that are not in holes */
        char *target;       /* of a symbolic link; owned */
        Xattr *xattrs;      /* owned */
        void *data;         /* the content where it is not in the source; owned */
        uint32_t layer;     /* where the source has the content */
        uint64_t entry;
        uint64_t offset; /* and its place in the archive's bytes, after decompression */
        uint32_t ino;    /* in the file system that is written; 0 before */
} Inode;

Inode *inode_new(mode_t mode);
Inode *inode_unref(Inode *i); /* one link less */
DEFINE_CLEANUP(Inode *, inode_unref);
#define _cleanup_inode_ _cleanup_(inode_unrefp)
int inode_add_xattr(Inode *i, const char *name, const void *value, size_t len);

int tree_new(Tree **ret);
Tree *tree_free(Tree *t);
DEFINE_CLEANUP(Tree *, tree_free);
#define _cleanup_tree_ _cleanup_(tree_freep)

/* Puts an inode (taken, also on failure) at a path. Folders above it that are missing are made, of root,
 * 0755 and with the entry's time. An entry for "." describes the root folder. ERROR_INVALID_ARCHIVE names
 * the entry and what is wrong with it; ERROR_NO_MEMORY. */
int tree_add(Tree *t, const char *path, uint32_t layer, Inode *inode, Error **reterr);

/* Makes path another name of target, which is there. */
int tree_link(Tree *t, const char *path, const char *target, uint32_t layer, Error **reterr);

/* Hides what lower layers have at path; with opaque, what they have in the folder at path. What this layer
 * has put there, even before, stays. Nothing there is no error. */
int tree_hide(Tree *t, const char *path, uint32_t layer, bool opaque, Error **reterr);

Node *tree_root(Tree *t);
size_t tree_n_nodes(const Tree *t); /* the root counts */

const char *node_name(const Node *n);     /* "" for the root */
Inode *node_inode(const Node *n);         /* never NULL; borrowed */
Node *node_parent(const Node *n);         /* the root's is the root */
int node_path(const Node *n, char **ret); /* "boot/vmlinuz", "" for the root */

/* The nodes in a folder by name (bytes, as strcmp). The array is the caller's to free, and valid until the
 * tree changes. */
int node_children(const Node *folder, Node ***ret, size_t *ret_n);

/* Looks a path up as the system in the tree would: symbolic links lead to what they mean there, and nothing
 * leads out of the tree. NULL: there is nothing, or a loop. */
Node *tree_resolve(Tree *t, const char *path);

/* All regular files that have content in a source, in the order in which the source has them, each inode
 * once. The array is the caller's to free. */
int tree_files(Tree *t, Node ***ret, size_t *ret_n);

/* Calls visit for each node, a folder before what is in it, until it returns an error. */
typedef int (*tree_visit_t)(Node *n, void *userdata, Error **reterr);
int tree_walk(Tree *t, tree_visit_t visit, void *userdata, Error **reterr);
