/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree, as readers see it: without what is slashdashed. */
#include "kdl-internal.h"

KdlDocument *kdl_document_free(KdlDocument *doc) {
        if (!doc)
                return NULL;
        free(doc->comments);
        arena_free(doc->arena); /* the document is in it, too */
        return NULL;
}

KdlVersion kdl_document_version(const KdlDocument *doc) {
        return doc->version;
}

static const KdlNode *live_node(const KdlNode *n) {
        while (n && n->slashdash)
                n = n->next;
        return n;
}

static const KdlEntry *live_entry(const KdlEntry *e) {
        while (e && e->slashdash)
                e = e->next;
        return e;
}

const KdlNode *kdl_document_nodes(const KdlDocument *doc) {
        return live_node(doc->nodes);
}

const KdlNode *kdl_node_next(const KdlNode *n) {
        return live_node(n->next);
}

const KdlBlock *kdl_node_block(const KdlNode *n) {
        const KdlBlock *b = n->blocks;

        while (b && b->slashdash)
                b = b->next;
        return b;
}

const KdlNode *kdl_node_children(const KdlNode *n) {
        const KdlBlock *b = kdl_node_block(n);

        return b ? live_node(b->nodes) : NULL;
}

const KdlEntry *kdl_node_entries(const KdlNode *n) {
        return live_entry(n->entries);
}

const KdlEntry *kdl_entry_next(const KdlEntry *e) {
        return live_entry(e->next);
}

const KdlValue *kdl_node_argument(const KdlNode *n, size_t i) {
        for (const KdlEntry *e = kdl_node_entries(n); e; e = kdl_entry_next(e))
                if (!e->key.text && i-- == 0)
                        return &e->value;
        return NULL;
}

const KdlValue *kdl_node_property(const KdlNode *n, const char *key) {
        const KdlValue *v = NULL;

        for (const KdlEntry *e = kdl_node_entries(n); e; e = kdl_entry_next(e))
                if (e->key.text && kdl_string_is(&e->key, key))
                        v = &e->value;
        return v;
}

bool kdl_string_is(const KdlString *s, const char *text) {
        return s->text && s->len == strlen(text) && memcmp(s->text, text, s->len) == 0;
}
