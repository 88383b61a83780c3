/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of the parser share. Three layers stand on one cursor: kdl-lexer.c knows characters, white
 * space and comments, kdl-value.c knows strings and numbers, kdl-parse.c knows nodes. */

#include "kdl.h"
#include "util/arena.h"

typedef struct KdlComment {
        KdlSpan span; /* of a line comment: without the newline */
        bool line;
} KdlComment;

struct KdlDocument {
        Arena *arena;
        char *text; /* a copy: places stay valid, and the formatter looks between them */
        uint32_t len;
        KdlVersion version;
        KdlSpan marker; /* "/- kdl-version N", empty if there is none */
        KdlNode *nodes;
        KdlComment *comments; /* by place; owned */
        size_t n_comments, comments_size;
};

typedef struct KdlParser {
        KdlDocument *doc;
        const char *text;
        uint32_t len, pos;
        KdlVersion version;
        KdlDiagnostics *d; /* NULL: nobody wants to know */
        unsigned depth;
        unsigned n_items;
        unsigned n_errors;
        uint32_t first_error;
        KdlSpan foreign; /* the first use of the other version's syntax; empty: there was none */
        bool stop;       /* what comes cannot be told apart any more */
        int r;           /* -ENOMEM or -EFBIG: why it stopped, other than by errors */
} KdlParser;

/* A thing found wrong. The document is lost, but reading may go on. Returns false. */
bool kdl_complain(KdlParser *p, KdlSpan span, const char *format, ...) _printf_(3, 4);
bool kdl_hint(KdlParser *p, const char *format, ...) _printf_(2, 3);
/* The same, for what is right in the other version. */
void kdl_foreign(KdlParser *p, KdlSpan span);
bool kdl_stop(KdlParser *p); /* returns false */
bool kdl_fail(KdlParser *p, int r);
bool kdl_count_item(KdlParser *p); /* false: there are too many */

static inline KdlSpan kdl_span(uint32_t start, uint32_t end) {
        return (KdlSpan){ start, end };
}
static inline bool kdl_at(const KdlParser *p, char c) {
        return p->pos < p->len && p->text[p->pos] == c;
}
static inline bool kdl_at_end(const KdlParser *p) {
        return p->pos >= p->len;
}
bool kdl_at_text(const KdlParser *p, const char *s);

/* Bytes of the newline, space or identifier character at `at`; 0 when there is none. */
size_t kdl_newline(const KdlParser *p, uint32_t at);
size_t kdl_space(const KdlParser *p, uint32_t at);
size_t kdl_identifier_char(const KdlParser *p, uint32_t at);
size_t kdl_space_length(KdlVersion version, const char *s, size_t len);
/* Bytes of the character at `at`, whatever it is. */
size_t kdl_char_length(const KdlParser *p, uint32_t at);
/* The place behind the longest run of identifier characters. */
uint32_t kdl_identifier_end(const KdlParser *p, uint32_t at);
/* A code point that KDL 2 allows nowhere but behind \u. */
bool kdl_is_disallowed(uint32_t c);

/* Each moves the cursor; false after an error. */
bool kdl_skip_node_space(KdlParser *p, bool *ret_any);
bool kdl_skip_line_space(KdlParser *p);   /* also newlines and line comments */
void kdl_skip_line_comment(KdlParser *p); /* with its newline */

/* The cursor stands on the first character of a string, a number or a keyword. After a complaint that leaves
 * the token's end known, it stands behind it and the result is true. */
bool kdl_scan_string(KdlParser *p, KdlString *ret); /* identifiers included */
bool kdl_at_quotes(const KdlParser *p);             /* a string in quotes, a raw one included */
bool kdl_scan_value(KdlParser *p, KdlValue *ret);   /* without an annotation */
bool kdl_starts_value(const KdlParser *p);

/* By the rules of both versions; *ret_good is where it goes wrong. */
bool kdl_is_number(const char *s, size_t len, size_t *ret_good);
/* "1.", "-.5": what looks like a number and so is no identifier. */
bool kdl_looks_numeric(KdlVersion version, const char *s, size_t len);
bool kdl_is_keyword(KdlVersion version, const char *s, size_t len);
/* Whether it can be written without quotes. */
bool kdl_is_identifier(KdlVersion version, const char *s, size_t len);

char *kdl_arena_text(KdlParser *p, size_t len); /* NULL after kdl_fail() */

/* The shortest text of the same number: integers of 64 bits in decimal, others as written without '+', '_'
 * and capitals. The caller frees it; NULL when memory is short. */
char *kdl_number_canonical(const KdlValue *v);
