/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The nodes of a folder are in a balanced tree (tsearch), so that no choice of names makes it slow. */
#include <inttypes.h>
#include <search.h>
#include <stdio.h>

#include "tree.h"
#include "util/string-util.h"

#define SYMLINKS_MAX 40 /* as Linux */

/* What malloc() adds to a piece and tsearch() to a node, roughly. */
#define OVERHEAD 48

struct Node {
        const char *name; /* points to text, or to a key for looking up */
        Node *parent;     /* borrowed; the root's is itself */
        Inode *inode;     /* owned, with other names of it */
        void *children;   /* of a folder */
        size_t n_children;
        uint32_t layer;
        uint32_t hidden; /* nothing in it is of a layer below this one */
        char text[];
};

struct Tree {
        Node *root;
        size_t n_nodes;
        size_t memory;
};

static bool is_folder(const Node *n) {
        return S_ISDIR(n->inode->mode);
}

static int compare(const void *a, const void *b) {
        return strcmp(((const Node *)a)->name, ((const Node *)b)->name);
}

Inode *inode_new(mode_t mode) {
        Inode *i = calloc(1, sizeof(Inode));

        if (!i)
                return NULL;
        i->n_links = 1;
        i->mode = mode;
        return i;
}

static void inode_free(Inode *i) {
        while (i->xattrs) {
                Xattr *x = i->xattrs;

                i->xattrs = x->next;
                free(x->value);
                free(x);
        }
        free(i->target);
        free(i->data);
        free(i);
}

Inode *inode_unref(Inode *i) {
        if (i && --i->n_links == 0)
                inode_free(i);
        return NULL;
}

int inode_add_xattr(Inode *i, const char *name, const void *value, size_t len) {
        size_t n = strlen(name);
        Xattr *x = malloc(sizeof(Xattr) + n + 1);

        if (!x)
                return -ENOMEM;
        x->value = malloc(len > 0 ? len : 1);
        if (!x->value) {
                free(x);
                return -ENOMEM;
        }
        if (len > 0)
                memcpy(x->value, value, len);
        memcpy(x->name, name, n + 1);
        x->len = len;
        x->next = i->xattrs;
        i->xattrs = x;
        return 0;
}

/* Content of our own is not counted: it is bounded where it comes from. */
static size_t inode_cost(const Inode *i) {
        size_t n = sizeof(Inode) + OVERHEAD + (i->target ? strlen(i->target) + OVERHEAD : 0);

        for (const Xattr *x = i->xattrs; x; x = x->next)
                n += sizeof(Xattr) + strlen(x->name) + x->len + 2 * OVERHEAD;
        return n;
}

static size_t node_cost(const char *name) {
        return sizeof(Node) + strlen(name) + 2 * OVERHEAD;
}

static Node *node_new(const char *name, Node *parent, uint32_t layer, Inode *inode) {
        size_t n = strlen(name) + 1;
        Node *node = calloc(1, sizeof(Node) + n);

        if (!node)
                return NULL;
        memcpy(node->text, name, n);
        node->name = node->text;
        node->parent = parent ?: node;
        node->inode = inode;
        node->layer = layer;
        return node;
}

static void node_free(void *p) {
        Node *n = p;

        tdestroy(n->children, node_free);
        inode_unref(n->inode);
        free(n);
}

int tree_new(Tree **ret) {
        _cleanup_inode_ Inode *inode = inode_new(S_IFDIR | 0755);
        _cleanup_free_ Tree *t = calloc(1, sizeof(Tree));

        if (!t || !inode)
                return -ENOMEM;
        t->root = node_new("", NULL, 0, inode);
        if (!t->root)
                return -ENOMEM;
        TAKE_PTR(inode);
        t->n_nodes = 1;
        *ret = TAKE_PTR(t);
        return 0;
}

Tree *tree_free(Tree *t) {
        if (!t)
                return NULL;
        node_free(t->root);
        free(t);
        return NULL;
}

static void release_inode(Tree *t, Inode *i) {
        if (i->n_links == 1)
                t->memory -= inode_cost(i);
        inode_unref(i);
}

_printf_(3, 4) static int refuse(Error **reterr, const char *path, const char *format, ...) {
        _cleanup_free_ char *shown = string_escape(path, strlen(path), 512), *why = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&why, format, ap);
        va_end(ap);
        if (n < 0)
                why = NULL;
        return error_set(reterr, ERROR_INVALID_ARCHIVE, "The entry '%s' is refused: %s", shown ?: "?",
                        why ?: "it is invalid");
}

static int no_memory(Error **reterr) {
        return error_set_errno(reterr, -ENOMEM, "Failed to note what the image is to have");
}

static int charge(Tree *t, size_t cost, Error **reterr) {
        if (cost > TREE_MEMORY_MAX - t->memory)
                return error_set(reterr, ERROR_INVALID_ARCHIVE,
                                "The names and attributes of all files need more than %" PRIu64 " MiB",
                                (uint64_t)(TREE_MEMORY_MAX / MIB));
        t->memory += cost;
        return 0;
}

static Node *find_child(const Node *folder, const char *name) {
        Node key = { .name = name }, **found;

        found = tfind(&key, &folder->children, compare);
        return found ? *found : NULL;
}

/* Takes the inode when it succeeds. */
static int insert(Tree *t, Node *folder, const char *name, uint32_t layer, Inode *inode, Node **ret,
                Error **reterr) {
        Node *n;
        int r;

        if (t->n_nodes >= TREE_NODES_MAX)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "There are more than %d files",
                                TREE_NODES_MAX);
        r = charge(t, node_cost(name), reterr);
        if (r < 0)
                return r;
        n = node_new(name, folder, layer, inode);
        if (!n || !tsearch(n, &folder->children, compare)) {
                free(n);
                t->memory -= node_cost(name);
                return no_memory(reterr);
        }
        folder->n_children++;
        t->n_nodes++;
        *ret = n;
        return 0;
}

/* Only ever a node without children. */
static void remove_node(Tree *t, Node *n) {
        tdelete(n, &n->parent->children, compare);
        n->parent->n_children--;
        t->n_nodes--;
        t->memory -= node_cost(n->name);
        release_inode(t, n->inode);
        free(n);
}

/* The next part of a path, "." and empty ones left out: 1, or 0 at the end, or what is wrong with it. */
static int next_part(const char **path, char name[static TREE_NAME_MAX + 1], const char **ret_wrong) {
        for (;;) {
                size_t n;

                *path += strspn(*path, "/");
                n = strcspn(*path, "/");
                if (n == 0)
                        return 0;
                if (n > TREE_NAME_MAX) {
                        *ret_wrong = "a name in it is longer than 255 bytes";
                        return -ENAMETOOLONG;
                }
                memcpy(name, *path, n);
                name[n] = '\0';
                *path += n;
                if (streq(name, "..")) {
                        *ret_wrong = "it has '..' in its path";
                        return -EINVAL;
                }
                if (!streq(name, "."))
                        return 1;
        }
}

static const char *path_problem(const char *path) {
        char name[TREE_NAME_MAX + 1];
        const char *wrong = NULL;
        int r;

        if (isempty(path))
                return "it has no name";
        if (path[0] == '/')
                return "its path is absolute";
        if (strlen(path) > TREE_PATH_MAX)
                return "its path is longer than 4095 bytes";
        do
                r = next_part(&path, name, &wrong);
        while (r > 0);
        return wrong;
}

static Inode *parent_inode(const struct timespec *mtime) {
        Inode *i = inode_new(S_IFDIR | 0755);

        if (i)
                i->mtime = *mtime;
        return i;
}

static int make_folder(Tree *t, Node *folder, const char *name, uint32_t layer, const struct timespec *mtime,
                Node **ret, Error **reterr) {
        _cleanup_inode_ Inode *inode = parent_inode(mtime);
        int r;

        if (!inode)
                return no_memory(reterr);
        r = charge(t, inode_cost(inode), reterr);
        if (r < 0)
                return r;
        r = insert(t, folder, name, layer, inode, ret, reterr);
        if (r < 0) {
                t->memory -= inode_cost(inode);
                return r;
        }
        TAKE_PTR(inode);
        return 0;
}

static int refuse_way(const char *path, const Node *n, Error **reterr) {
        _cleanup_free_ char *shown = string_escape(n->name, strlen(n->name), TREE_NAME_MAX);

        return refuse(reterr, path, "'%s' above it is %s", shown ?: "?",
                        S_ISLNK(n->inode->mode) ? "a symbolic link" : "no folder");
}

/* Walks to the folder that path lies in. Folders that are missing are made if mtime is given; else *ret is
 * NULL. `name` becomes the last part, "" if path is the root. */
static int walk(Tree *t, const char *path, uint32_t layer, const struct timespec *mtime,
                char name[static TREE_NAME_MAX + 1], Node **ret, Error **reterr) {
        const char *wrong = path_problem(path), *rest = path;
        char next[TREE_NAME_MAX + 1];
        Node *at = t->root;
        int r;

        if (wrong)
                return refuse(reterr, path, "%s", wrong);
        name[0] = '\0';
        while (next_part(&rest, next, &wrong) > 0) {
                if (name[0] != '\0') {
                        Node *child = find_child(at, name);

                        if (!child && !mtime) {
                                *ret = NULL;
                                return 0;
                        }
                        if (!child) {
                                r = make_folder(t, at, name, layer, mtime, &child, reterr);
                                if (r < 0)
                                        return r;
                        }
                        if (!is_folder(child))
                                return refuse_way(path, child, reterr);
                        at = child;
                }
                strcpy(name, next);
        }
        *ret = at;
        return 0;
}

/* Drops what is of lower layers at n and below. */
static int hide(Tree *t, Node *n, uint32_t layer, bool itself) {
        _cleanup_free_ Node **children = NULL;
        size_t n_children = 0;
        int r;

        if (is_folder(n) && n->hidden < layer) {
                r = node_children(n, &children, &n_children);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < n_children; i++) {
                        r = hide(t, children[i], layer, true);
                        if (r < 0)
                                return r;
                }
                n->hidden = layer; /* so that asking again, which an archive may do, costs nothing */
        }
        if (itself && n->layer < layer && n->n_children == 0)
                remove_node(t, n);
        return 0;
}

static void set_inode(Tree *t, Node *n, uint32_t layer, Inode *inode) {
        release_inode(t, n->inode);
        n->inode = inode;
        n->layer = layer;
}

/* Something else stands where the entry goes. A folder over a folder keeps what is in it. */
static int replace(Tree *t, Node *n, const char *path, uint32_t layer, Inode *inode, Error **reterr) {
        int r;

        if (is_folder(n) && !S_ISDIR(inode->mode)) {
                r = hide(t, n, layer, false);
                if (r < 0)
                        return no_memory(reterr);
                if (n == t->root || n->n_children > 0)
                        return refuse(reterr, path, "it would replace a folder that is not empty");
        }
        set_inode(t, n, layer, inode);
        return 0;
}

/* Takes the inode when it succeeds. */
static int place(Tree *t, const char *path, uint32_t layer, Inode *inode, Error **reterr) {
        char name[TREE_NAME_MAX + 1];
        Node *folder, *n;
        int r;

        r = walk(t, path, layer, &inode->mtime, name, &folder, reterr);
        if (r < 0)
                return r;
        n = name[0] == '\0' ? t->root : find_child(folder, name);
        return n ? replace(t, n, path, layer, inode, reterr)
                 : insert(t, folder, name, layer, inode, &n, reterr);
}

int tree_add(Tree *t, const char *path, uint32_t layer, Inode *inode, Error **reterr) {
        _cleanup_inode_ Inode *owned = inode;
        size_t cost;
        int r;

        if (S_ISLNK(inode->mode) && (isempty(inode->target) || strlen(inode->target) > TREE_PATH_MAX))
                return refuse(reterr, path, "it links to nothing, or to more than 4095 bytes");
        cost = inode_cost(inode);
        r = charge(t, cost, reterr);
        if (r < 0)
                return r;
        r = place(t, path, layer, inode, reterr);
        if (r < 0) {
                t->memory -= cost;
                return r;
        }
        TAKE_PTR(owned);
        return 0;
}

int tree_link(Tree *t, const char *path, const char *target, uint32_t layer, Error **reterr) {
        const char *wrong = path_problem(target);
        char name[TREE_NAME_MAX + 1];
        Node *folder, *n;
        Inode *inode;
        int r;

        if (wrong)
                return refuse(reterr, path, "it is a hard link, and of what it links to: %s", wrong);
        r = walk(t, target, layer, NULL, name, &folder, reterr);
        if (r < 0)
                return r;
        n = folder ? find_child(folder, name) : NULL;
        if (!n || is_folder(n))
                return refuse(reterr, path, "it is a hard link to what is not there before it, or no file");
        inode = n->inode;
        if (inode->n_links >= TREE_LINKS_MAX)
                return refuse(reterr, path, "its file has more than %d names", TREE_LINKS_MAX);
        inode->n_links++; /* first, since the path may be the last name of it, or lead to where that is */
        r = place(t, path, layer, inode, reterr);
        if (r < 0)
                release_inode(t, inode);
        return r;
}

int tree_hide(Tree *t, const char *path, uint32_t layer, bool opaque, Error **reterr) {
        char name[TREE_NAME_MAX + 1];
        Node *folder, *n;
        int r;

        r = walk(t, path, layer, NULL, name, &folder, reterr);
        if (r < 0)
                return r;
        n = name[0] == '\0' ? t->root : folder ? find_child(folder, name) : NULL;
        if (!n)
                return 0;
        r = hide(t, n, layer, !opaque && n != t->root);
        return r < 0 ? no_memory(reterr) : 0;
}

Node *tree_root(Tree *t) {
        return t->root;
}

size_t tree_n_nodes(const Tree *t) {
        return t->n_nodes;
}

const char *node_name(const Node *n) {
        return n->name;
}

Inode *node_inode(const Node *n) {
        return n->inode;
}

Node *node_parent(const Node *n) {
        return n->parent;
}

int node_path(const Node *n, char **ret) {
        size_t len = 0;
        char *path, *p;

        for (const Node *i = n; i->parent != i; i = i->parent)
                len += strlen(i->name) + 1;
        path = malloc(len > 0 ? len : 1);
        if (!path)
                return -ENOMEM;
        p = path + (len > 0 ? len - 1 : 0);
        *p = '\0';
        for (; n->parent != n; n = n->parent) {
                size_t k = strlen(n->name);

                memcpy(p -= k, n->name, k);
                if (p > path)
                        *--p = '/';
        }
        *ret = path;
        return 0;
}

typedef struct List {
        Node **nodes;
        size_t n;
} List;

static void append(const void *p, VISIT which, void *userdata) {
        List *list = userdata;

        if (which == postorder || which == leaf)
                list->nodes[list->n++] = *(Node *const *)p;
}

int node_children(const Node *folder, Node ***ret, size_t *ret_n) {
        List list = { .nodes = malloc((folder->n_children + 1) * sizeof(Node *)) };

        if (!list.nodes)
                return -ENOMEM;
        twalk_r(folder->children, append, &list);
        *ret = list.nodes;
        *ret_n = list.n;
        return 0;
}

static Node *resolve_from(Tree *t, Node *at, const char *path, unsigned *n_links) {
        char name[TREE_NAME_MAX + 1];

        if (path[0] == '/')
                at = t->root;
        while (at) {
                Node *child;
                size_t n;

                path += strspn(path, "/");
                n = strcspn(path, "/");
                if (n == 0)
                        return at;
                if (n > TREE_NAME_MAX || !is_folder(at))
                        return NULL;
                memcpy(name, path, n);
                name[n] = '\0';
                path += n;
                if (streq(name, "."))
                        continue;
                child = streq(name, "..") ? at->parent : find_child(at, name);
                if (child && S_ISLNK(child->inode->mode))
                        child = ++*n_links > SYMLINKS_MAX
                                        ? NULL
                                        : resolve_from(t, at, child->inode->target, n_links);
                at = child;
        }
        return NULL;
}

Node *tree_resolve(Tree *t, const char *path) {
        unsigned n_links = 0;

        return resolve_from(t, t->root, path, &n_links);
}

static int walk_node(Node *n, tree_visit_t visit, void *userdata, Error **reterr) {
        _cleanup_free_ Node **children = NULL;
        size_t n_children;
        int r;

        r = visit(n, userdata, reterr);
        if (r < 0 || !is_folder(n))
                return r;
        if (node_children(n, &children, &n_children) < 0)
                return no_memory(reterr);
        for (size_t i = 0; i < n_children; i++) {
                r = walk_node(children[i], visit, userdata, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int tree_walk(Tree *t, tree_visit_t visit, void *userdata, Error **reterr) {
        return walk_node(t->root, visit, userdata, reterr);
}

static int collect(Node *n, void *userdata, Error **reterr) {
        const Inode *i = n->inode;
        List *list = userdata;

        if (S_ISREG(i->mode) && i->size > 0 && !i->data)
                list->nodes[list->n++] = n;
        return 0;
}

static int compare_places(const void *a, const void *b) {
        const Inode *x = (*(Node *const *)a)->inode, *y = (*(Node *const *)b)->inode;

        if (x->layer != y->layer)
                return x->layer < y->layer ? -1 : 1;
        return x->entry < y->entry ? -1 : x->entry > y->entry;
}

int tree_files(Tree *t, Node ***ret, size_t *ret_n) {
        List list = { .nodes = malloc(t->n_nodes * sizeof(Node *)) };
        size_t n = 0;

        if (!list.nodes)
                return -ENOMEM;
        if (tree_walk(t, collect, &list, NULL) < 0) {
                free(list.nodes);
                return -ENOMEM;
        }
        qsort(list.nodes, list.n, sizeof(Node *), compare_places);
        for (size_t i = 0; i < list.n; i++)
                if (n == 0 || list.nodes[n - 1]->inode != list.nodes[i]->inode)
                        list.nodes[n++] = list.nodes[i];
        *ret = list.nodes;
        *ret_n = n;
        return 0;
}
