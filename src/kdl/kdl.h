/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* KDL documents (https://kdl.dev), versions 2.0 and 1.0: text to a tree with places, and back.
 *
 * A document is one arena: the text, the tree and all strings live as long as it does, and everything that
 * is handed out is borrowed from it. What is commented out by slashdash stays in the tree, marked, because
 * the formatter keeps it; kdl_node_next() and the other functions here pass over it. */

#include "kdl-diagnostic.h"

typedef enum KdlVersion {
        KDL_VERSION_ANY, /* the marker decides, else 2 is tried first, then 1 */
        KDL_VERSION_1,
        KDL_VERSION_2,
        _KDL_VERSION_MAX,
        _KDL_VERSION_INVALID = -EINVAL,
} KdlVersion;

typedef enum KdlType {
        KDL_STRING,
        KDL_NUMBER,
        KDL_BOOLEAN,
        KDL_NULL,
        _KDL_TYPE_MAX,
        _KDL_TYPE_INVALID = -EINVAL,
} KdlType;

typedef enum KdlStyle {
        KDL_STYLE_BARE,
        KDL_STYLE_QUOTED,
        KDL_STYLE_MULTILINE,
        KDL_STYLE_RAW,
        KDL_STYLE_RAW_MULTILINE,
} KdlStyle;

/* Valid UTF-8 behind which a NUL stands; it may hold NULs itself, so whoever takes it for a C string
 * compares strlen() to len first. */
typedef struct KdlString {
        const char *text; /* NULL: there is none, as with an optional type */
        uint32_t len;
        KdlStyle style;
        KdlSpan span; /* quotes included */
} KdlString;

typedef struct KdlValue {
        KdlType type;
        bool boolean;
        KdlString annotation; /* (u8)10 */
        KdlString string;     /* of a number: its text, as written */
        KdlSpan span;         /* annotation included */
} KdlValue;

typedef struct KdlEntry KdlEntry;
struct KdlEntry {
        KdlEntry *next;
        KdlString key; /* of a property; .text is NULL for an argument */
        KdlValue value;
        bool slashdash;
        KdlSpan span;
};

typedef struct KdlNode KdlNode;
typedef struct KdlBlock KdlBlock;
struct KdlNode {
        KdlNode *next;
        KdlString annotation;
        KdlString name;
        KdlEntry *entries;
        KdlBlock *blocks; /* one at most is not slashdashed */
        bool slashdash;
        KdlSpan span; /* up to the last entry or closing brace */
};

struct KdlBlock {
        KdlBlock *next;
        KdlNode *nodes;
        bool slashdash;
        uint32_t brace; /* where '{' stands */
        KdlSpan span;   /* up to '}', with the slashdash */
};

typedef struct KdlDocument KdlDocument;

#define KDL_SIZE_MAX (16 * MIB) /* what nobody writes by hand, and what fits well in memory as a tree */
#define KDL_DEPTH_MAX 128       /* nested blocks: parser and formatter recurse */
#define KDL_ITEMS_MAX \
        (1 << 20) /* nodes, entries, blocks and comments, so that "a;a;a;…" stays below 128 MiB */

/* Parses a whole document; a marker in it is stronger than `version`. `d` gets the errors, twenty at most,
 * and may be NULL; it must be of this text. -EBADMSG: not KDL; -EFBIG: beyond a limit (said in `d`, too);
 * -ENOMEM. */
int kdl_parse(const char *text, size_t len, KdlVersion version, KdlDocument **ret, KdlDiagnostics *d);

KdlDocument *kdl_document_free(KdlDocument *doc);
DEFINE_CLEANUP(KdlDocument *, kdl_document_free);
#define _cleanup_kdl_ _cleanup_(kdl_document_freep)

KdlVersion kdl_document_version(const KdlDocument *doc); /* as which it was read */

/* The first node, the one behind, the first child; NULL when there is none. */
const KdlNode *kdl_document_nodes(const KdlDocument *doc);
const KdlNode *kdl_node_next(const KdlNode *n);
const KdlNode *kdl_node_children(const KdlNode *n);
const KdlBlock *kdl_node_block(const KdlNode *n); /* an empty one, too */

const KdlEntry *kdl_node_entries(const KdlNode *n);
const KdlEntry *kdl_entry_next(const KdlEntry *e);
const KdlValue *kdl_node_argument(const KdlNode *n, size_t i);
const KdlValue *kdl_node_property(const KdlNode *n, const char *key); /* the rightmost of this name */

bool kdl_string_is(const KdlString *s, const char *text);

/* Numbers are exact text; these convert. -EINVAL: no number, or no integer as written; -ERANGE: it does not
 * fit. "-0" is an integer and unsigned. */
int kdl_value_int64(const KdlValue *v, int64_t *ret);
int kdl_value_uint64(const KdlValue *v, uint64_t *ret);
int kdl_value_double(const KdlValue *v, double *ret); /* also of integers; rounded to nearest */

typedef enum KdlFormatFlags {
        /* One text for all documents of the same data: no comments and nothing slashdashed, properties
         * sorted and without duplicates behind the arguments, quotes only where they must be, integers that
         * fit 64 bits in decimal, empty blocks left out. */
        KDL_FORMAT_CANONICAL = 1 << 0,
} KdlFormatFlags;

/* Writes a document, four spaces for each level. Without KDL_FORMAT_CANONICAL all that its author chose
 * stays: comments, order, quoting, the notation of numbers, single blank lines, continued lines. `version`
 * (KDL_VERSION_ANY: 2) may differ from the document's. Formatting the result again changes nothing.
 * -EOPNOTSUPP: the document holds what KDL 1 cannot say (#inf, #-inf, #nan, several blocks of one node). */
int kdl_format(const KdlDocument *doc, KdlVersion version, KdlFormatFlags flags, char **ret,
                size_t *ret_len);
