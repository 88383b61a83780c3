/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes, and the choice between the versions.
 *
 * One recursive descent for both grammars. A complaint makes the document invalid but not the reading end:
 * either the token's end is known and reading goes on behind it, or the rest of the node is passed over.
 * Where even that cannot be told (an open string, an open comment) reading stops. */
#include "kdl-internal.h"

bool kdl_stop(KdlParser *p) {
        p->stop = true;
        return false;
}

bool kdl_fail(KdlParser *p, int r) {
        p->r = r;
        return kdl_stop(p);
}

bool kdl_complain(KdlParser *p, KdlSpan span, const char *format, ...) {
        char message[256];
        va_list ap;

        if (p->n_errors == 0 || span.start < p->first_error)
                p->first_error = span.start;
        if (++p->n_errors >= KDL_ERRORS_MAX)
                kdl_stop(p);
        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        kdl_diagnostics_add(p->d, KDL_LEVEL_ERROR, span, "%s", message);
        return false;
}

bool kdl_hint(KdlParser *p, const char *format, ...) {
        char message[256];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        kdl_diagnostics_hint(p->d, "%s", message);
        return false;
}

void kdl_foreign(KdlParser *p, KdlSpan span) {
        if (p->foreign.end == 0)
                p->foreign = span;
}

bool kdl_count_item(KdlParser *p) {
        if (++p->n_items <= KDL_ITEMS_MAX)
                return true;
        kdl_complain(p, kdl_span(p->pos, p->pos), "there are more than %d nodes, values and comments",
                        KDL_ITEMS_MAX);
        return kdl_fail(p, -EFBIG);
}

#define NEW(p, T)                                                                     \
        ({                                                                            \
                T *_item = kdl_count_item(p) ? arena_new(&(p)->doc->arena, T) : NULL; \
                if (!_item && (p)->r == 0)                                            \
                        kdl_fail((p), -ENOMEM);                                       \
                _item;                                                                \
        })

/* What stands at the cursor, for messages. */
static const char *found(const KdlParser *p, char buf[static 16]) {
        size_t n = kdl_char_length(p, p->pos);

        if (kdl_at_end(p))
                return "the end of the file";
        if (kdl_newline(p, p->pos) > 0)
                return "the end of the line";
        snprintf(buf, 16, "'%.*s'", (int)n, p->text + p->pos);
        return buf;
}

static bool complain_here(KdlParser *p, const char *expected) {
        uint32_t end = p->pos + (uint32_t)kdl_char_length(p, p->pos);
        char buf[16];

        if (kdl_newline(p, p->pos) > 0)
                end = p->pos;
        return kdl_complain(p, kdl_span(p->pos, end), "expected %s, found %s", expected, found(p, buf));
}

/* Spaces where KDL 2 allows them and KDL 1 does not. */
static bool skip_space_2(KdlParser *p, bool *ret_any) {
        return p->version == KDL_VERSION_1 || kdl_skip_node_space(p, ret_any);
}

/* "(type)" and, in KDL 2, the spaces behind it. */
static bool parse_annotation(KdlParser *p, KdlString *ret) {
        uint32_t start = p->pos;

        if (!kdl_at(p, '('))
                return true;
        p->pos++;
        if (!skip_space_2(p, NULL))
                return false;
        if (kdl_at(p, ')'))
                return kdl_complain(p, kdl_span(start, p->pos + 1), "a type annotation names a type");
        if (kdl_identifier_char(p, p->pos) == 0 && !kdl_at(p, '"') && !kdl_at(p, '#'))
                return complain_here(p, "the name of a type");
        if (!kdl_scan_string(p, ret) || !skip_space_2(p, NULL))
                return false;
        if (!kdl_at(p, ')'))
                return complain_here(p, "')'");
        p->pos++;
        return skip_space_2(p, NULL);
}

static bool parse_value(KdlParser *p, KdlValue *ret) {
        uint32_t start = p->pos;
        KdlString annotation = { 0 };

        if (!parse_annotation(p, &annotation))
                return false;
        if (!kdl_starts_value(p)) {
                complain_here(p, "a value");
                if (p->version == KDL_VERSION_1 && kdl_space(p, p->pos) > 0)
                        kdl_hint(p, "KDL 1 has no white space here");
                return false;
        }
        if (!kdl_scan_value(p, ret))
                return false;
        ret->annotation = annotation;
        ret->span.start = start;
        return true;
}

/* A string without an annotation may turn out to be the key of a property. */
static bool is_key(const KdlParser *p, const KdlValue *v) {
        return v->type == KDL_STRING && !v->annotation.text && kdl_at(p, '=');
}

/* The first value of an entry, which in KDL 1 may be a bare word only as a key. */
static bool parse_first(KdlParser *p, KdlValue *v) {
        uint32_t end = kdl_identifier_end(p, p->pos);
        bool bare_key = p->version == KDL_VERSION_1 && end > p->pos && end < p->len && p->text[end] == '=' &&
                        !kdl_looks_numeric(p->version, p->text + p->pos, end - p->pos);

        if (!bare_key)
                return parse_value(p, v);
        v->type = KDL_STRING;
        return kdl_scan_string(p, &v->string);
}

/* An argument or a property, and the spaces behind it as far as they had to be looked at. */
static bool parse_entry(KdlParser *p, uint32_t start, bool slashdash, KdlEntry **ret, bool *ret_space) {
        KdlEntry *e = NEW(p, KdlEntry);
        uint32_t end;

        if (!e || !parse_first(p, &e->value))
                return false;
        end = p->pos;
        if (!skip_space_2(p, ret_space))
                return false;
        if (is_key(p, &e->value)) {
                *ret_space = false;
                e->key = e->value.string;
                p->pos++;
                if (!skip_space_2(p, NULL) || !parse_value(p, &e->value))
                        return false;
                end = p->pos;
        } else if (kdl_at(p, '=') && e->value.annotation.text) {
                kdl_complain(p, e->value.annotation.span,
                                "a type annotation stands before the value of a property");
                return kdl_hint(p, "write %s=(%s)...", e->value.string.text, e->value.annotation.text);
        }
        e->slashdash = slashdash;
        e->span = kdl_span(start, end);
        *ret = e;
        return true;
}

static bool parse_nodes(KdlParser *p, KdlNode **ret);

/* From '{' to '}'. */
static bool parse_block(KdlParser *p, bool slashdash, KdlBlock **ret) {
        uint32_t start = p->pos++;
        KdlBlock *b;

        if (p->depth >= KDL_DEPTH_MAX) {
                kdl_complain(p, kdl_span(start, p->pos), "blocks are nested more than %d deep",
                                KDL_DEPTH_MAX);
                return kdl_fail(p, -EFBIG);
        }
        b = NEW(p, KdlBlock);
        if (!b)
                return false;
        p->depth++;
        parse_nodes(p, &b->nodes);
        p->depth--;
        if (p->stop)
                return false;
        if (!kdl_at(p, '}')) {
                kdl_complain(p, kdl_span(start, start + 1), "this block is not closed");
                kdl_hint(p, "a '}' is missing");
                return kdl_stop(p);
        }
        p->pos++;
        b->slashdash = slashdash;
        b->brace = start;
        b->span = kdl_span(start, p->pos);
        *ret = b;
        return true;
}

/* A node in the making. */
typedef struct Tail {
        KdlNode *node;
        KdlEntry **entries;
        KdlBlock **blocks;
        bool has_block; /* one that counts */
        bool space;     /* what comes next is set apart from what was before */
} Tail;

static bool add_block(KdlParser *p, Tail *t, uint32_t start, bool slashdash) {
        uint32_t brace = p->pos;
        bool again = p->version == KDL_VERSION_1 ? t->node->blocks != NULL : t->has_block && !slashdash;

        if (!parse_block(p, slashdash, t->blocks))
                return false;
        (*t->blocks)->span.start = start;
        t->node->span.end = p->pos;
        t->blocks = &(*t->blocks)->next;
        t->has_block = t->has_block || !slashdash;
        t->space = false;
        return !again ||
                        kdl_complain(p, kdl_span(brace, brace + 1), "a node has one block of children only");
}

static bool add_entry(KdlParser *p, Tail *t, uint32_t start, bool slashdash) {
        bool space = false;

        if (t->node->blocks) {
                complain_here(p, "the end of the node behind its block");
                return kdl_hint(p,
                                "arguments and properties stand before the block; the next node begins on a "
                                "line of its own, or behind ';'");
        }
        if (!parse_entry(p, start, slashdash, t->entries, &space))
                return false;
        t->node->span.end = (*t->entries)->span.end;
        t->entries = &(*t->entries)->next;
        t->space = space;
        return true;
}

/* "/-" before an entry or a block. */
static bool add_slashdashed(KdlParser *p, Tail *t) {
        uint32_t start = p->pos;

        if (p->version == KDL_VERSION_1 && !t->space)
                return complain_here(p, "white space before '/-'");
        p->pos += 2;
        if (p->version == KDL_VERSION_1 ? !kdl_skip_node_space(p, NULL) : !kdl_skip_line_space(p))
                return false;
        if (kdl_at(p, '{'))
                return add_block(p, t, start, true);
        if (!kdl_starts_value(p) && !kdl_at(p, '('))
                return complain_here(p, "what '/-' takes out: an argument, a property or a block");
        return add_entry(p, t, start, true);
}

static bool is_node_end(const KdlParser *p) {
        return kdl_at_end(p) || kdl_at(p, ';') || kdl_at(p, '}') || kdl_newline(p, p->pos) > 0 ||
                        kdl_at_text(p, "//");
}

static bool complain_entry(KdlParser *p) {
        complain_here(p, "a value, a property, a block or the end of the node");
        if (kdl_at(p, '=') && p->version == KDL_VERSION_1) {
                kdl_foreign(p, kdl_span(p->pos, p->pos + 1));
                kdl_hint(p, "KDL 1 has no white space around '=', and keywords are no keys");
        } else if (kdl_at(p, '=')) {
                kdl_hint(p, "'=' stands between the name and the value of a property");
        } else if (kdl_at(p, '/')) {
                kdl_hint(p, "a text with '/' in it needs quotes");
        } else if (kdl_at(p, ',') || kdl_at(p, '[') || kdl_at(p, ']')) {
                kdl_hint(p, "values stand side by side, with white space between them");
        }
        return false;
}

/* Everything behind the name. */
static bool parse_tail(KdlParser *p, Tail *t) {
        bool space;

        for (;;) {
                if (!kdl_skip_node_space(p, &space))
                        return false;
                t->space = t->space || space;
                if (is_node_end(p))
                        return true;
                if (kdl_at_text(p, "/-")) {
                        if (!add_slashdashed(p, t))
                                return false;
                } else if (kdl_at(p, '{')) {
                        if (!add_block(p, t, p->pos, false))
                                return false;
                } else if (!kdl_starts_value(p) && !kdl_at(p, '(')) {
                        return complain_entry(p);
                } else if (!t->space && !t->node->blocks) {
                        return complain_here(p, "white space");
                } else if (!add_entry(p, t, p->pos, false)) {
                        return false;
                }
                if (p->stop)
                        return false;
        }
}

static bool parse_head(KdlParser *p, KdlNode *n) {
        if (!parse_annotation(p, &n->annotation))
                return false;
        if (kdl_identifier_char(p, p->pos) == 0 && !kdl_at(p, '"') && !kdl_at(p, '#')) {
                complain_here(p, "the name of a node");
                if (kdl_at_text(p, "/-"))
                        kdl_hint(p, "one '/-' takes out a whole node");
                return false;
        }
        if (!kdl_scan_string(p, &n->name))
                return false;
        n->span.end = p->pos;
        return true;
}

/* Goes to the end of a node that is wrong. Its blocks are read, as what is in them may be wrong, too. */
static void recover(KdlParser *p) {
        KdlBlock *ignored;
        KdlString s;

        while (!p->stop && !kdl_at_end(p) && !kdl_at(p, ';') && !kdl_at(p, '}')) {
                if (kdl_at_text(p, "//") || kdl_newline(p, p->pos) > 0)
                        return;
                if (kdl_at(p, '{'))
                        parse_block(p, false, &ignored);
                else if (kdl_at_quotes(p))
                        kdl_scan_string(p, &s);
                else if (kdl_at_text(p, "/*"))
                        kdl_skip_node_space(p, NULL);
                else
                        p->pos += (uint32_t)kdl_char_length(p, p->pos);
        }
}

/* What ends a node, apart from the brace that ends its parent. */
static void skip_end(KdlParser *p) {
        if (kdl_at(p, ';'))
                p->pos++;
        else if (kdl_at_text(p, "//"))
                kdl_skip_line_comment(p);
        else if (kdl_at(p, '}') && p->version == KDL_VERSION_1 && p->depth > 0) {
                kdl_complain(p, kdl_span(p->pos, p->pos + 1), "expected ';' or a new line before '}'");
                kdl_foreign(p, kdl_span(p->pos, p->pos + 1));
        } else
                p->pos += (uint32_t)kdl_newline(p, p->pos);
}

/* false: nothing more can be read. */
static bool parse_node(KdlParser *p, KdlNode **ret) {
        KdlNode *n = NEW(p, KdlNode);
        Tail t = { .node = n };

        if (!n)
                return false;
        t.entries = &n->entries;
        t.blocks = &n->blocks;
        n->span.start = p->pos;
        if (kdl_at_text(p, "/-")) {
                n->slashdash = true;
                p->pos += 2;
                if (p->version == KDL_VERSION_1 ? !kdl_skip_node_space(p, NULL) : !kdl_skip_line_space(p))
                        return !p->stop;
        }
        if (!parse_head(p, n) || !parse_tail(p, &t))
                recover(p);
        if (p->stop)
                return false;
        *ret = n;
        skip_end(p);
        return !p->stop;
}

/* Up to the end of the text or, in a block, to a brace. */
static bool parse_nodes(KdlParser *p, KdlNode **ret) {
        while (!p->stop) {
                uint32_t before = p->pos;

                if (!kdl_skip_line_space(p) && p->stop)
                        return false;
                if (kdl_at_end(p))
                        return true;
                if (kdl_at(p, '}')) {
                        if (p->depth > 0)
                                return true;
                        kdl_complain(p, kdl_span(p->pos, p->pos + 1), "there is no '{' to this '}'");
                        p->pos++;
                        continue;
                }
                if (!parse_node(p, ret))
                        return false;
                while (*ret)
                        ret = &(*ret)->next;
                if (p->pos == before)
                        p->pos += (uint32_t)kdl_char_length(p, p->pos);
        }
        return false;
}

/* Whatever stands literally in the text must be UTF-8, and in KDL 2 nothing that hides or reorders it. */
static void check_characters(KdlParser *p, uint32_t from) {
        uint32_t c;
        size_t n;

        for (uint32_t i = from; i < p->len && !p->stop; i += (uint32_t)n) {
                n = 1;
                c = (uint8_t)p->text[i];
                if (c >= 0x20 && c < 0x7f)
                        continue;
                n = utf8_decode(p->text + i, p->len - i, &c);
                if (n == 0) {
                        kdl_complain(p, kdl_span(i, i + 1), "the file is not UTF-8: byte 0x%02x",
                                        (uint8_t)p->text[i]);
                        kdl_stop(p);
                } else if (p->version == KDL_VERSION_2 && kdl_is_disallowed(c)) {
                        kdl_complain(p, kdl_span(i, i + (uint32_t)n), "U+%04X may not stand in a KDL file",
                                        c);
                        kdl_hint(p, "in a string in quotes, write \\u{%X}", c);
                        if (c != 0)
                                kdl_foreign(p, kdl_span(i, i + (uint32_t)n));
                }
        }
}

static uint32_t bom_length(const KdlParser *p) {
        return kdl_at_text(p, "\xef\xbb\xbf") ? 3 : 0;
}

/* "/- kdl-version N" on the first line: moves behind it and returns N. */
static KdlVersion parse_marker(KdlParser *p) {
        uint32_t start = p->pos, at = start;
        KdlVersion version;
        size_t n;

        if (!kdl_at_text(p, "/-"))
                return KDL_VERSION_ANY;
        for (at += 2; (n = kdl_space(p, at)) > 0;)
                at += (uint32_t)n;
        p->pos = at;
        if (kdl_at_text(p, "kdl-version")) {
                for (at += strlen("kdl-version"); (n = kdl_space(p, at)) > 0;)
                        at += (uint32_t)n;
                version = at < p->len && p->text[at] == '1' ? KDL_VERSION_1 : KDL_VERSION_2;
                if (at > p->pos + strlen("kdl-version") && at < p->len &&
                                (p->text[at] == '1' || p->text[at] == '2')) {
                        for (at++; (n = kdl_space(p, at)) > 0;)
                                at += (uint32_t)n;
                        n = kdl_newline(p, at);
                        if (n > 0) {
                                p->doc->marker = kdl_span(start, at);
                                p->pos = at + (uint32_t)n;
                                return version;
                        }
                }
        }
        p->pos = start;
        return KDL_VERSION_ANY;
}

/* What one reading of the text came to. */
typedef struct Attempt {
        KdlDocument *doc; /* NULL unless r is 0 */
        KdlDiagnostics *d;
        int r;
        uint32_t first_error;
        KdlSpan foreign;
} Attempt;

static void attempt_done(Attempt *a) {
        kdl_document_free(a->doc);
        kdl_diagnostics_free(a->d);
}

static KdlDocument *document_new(const char *text, size_t len) {
        Arena *arena = NULL;
        KdlDocument *doc = arena_new(&arena, KdlDocument);
        char *copy = doc ? arena_alloc(&arena, len + 1, 1) : NULL;

        if (!copy) {
                arena_free(arena);
                return NULL;
        }
        memcpy(copy, text, len);
        copy[len] = '\0';
        *doc = (KdlDocument){ .arena = arena, .text = copy, .len = (uint32_t)len };
        return doc;
}

/* Reads the text as `version`; ANY: as its marker says, else as 2. *ret_marked tells whether it said so. */
static void attempt(const char *text, size_t len, KdlVersion version, Attempt *a, bool *ret_marked) {
        _cleanup_kdl_ KdlDocument *doc = document_new(text, len);
        KdlParser p = { .doc = doc, .len = (uint32_t)len, .version = KDL_VERSION_2, .d = a->d };
        KdlVersion marked;
        uint32_t bom;

        a->r = -ENOMEM;
        if (!doc)
                return;
        p.text = doc->text;
        p.pos = bom = bom_length(&p);
        marked = parse_marker(&p);
        *ret_marked = marked != KDL_VERSION_ANY;
        doc->version = p.version = marked != KDL_VERSION_ANY ? marked
                        : version != KDL_VERSION_ANY         ? version
                                                             : KDL_VERSION_2;
        check_characters(&p, bom);
        if (!p.stop)
                parse_nodes(&p, &doc->nodes);
        a->r = p.r < 0 ? p.r : p.n_errors > 0 ? -EBADMSG : 0;
        a->first_error = p.first_error;
        a->foreign = p.foreign;
        if (a->r == 0)
                a->doc = TAKE_PTR(doc);
}

/* Both readings failed: the errors of the version that seems to be meant. That is 2 unless there is syntax
 * of 1 alone in the text and reading it as 1 got farther. */
static void report(const Attempt *second, const Attempt *first, KdlDiagnostics *d) {
        bool is_1 = second->foreign.end > 0 && first->first_error > second->first_error;
        const Attempt *meant = is_1 ? first : second;

        kdl_diagnostics_take(d, meant->d);
        if (second->foreign.end > 0 && first->foreign.end > 0) {
                kdl_diagnostics_add(d, KDL_LEVEL_NOTE, is_1 ? second->foreign : first->foreign,
                                "this is KDL %d, but other parts of the file are KDL %d", is_1 ? 1 : 2,
                                is_1 ? 2 : 1);
                kdl_diagnostics_hint(d,
                                "a file keeps to one version; '/- kdl-version 2' as its first line says "
                                "which");
        }
}

static int new_diagnostics(KdlDiagnostics *d, const char *text, size_t len, Attempt *a) {
        return d ? kdl_diagnostics_new("", text, len, &a->d) : 0;
}

int kdl_parse(const char *text, size_t len, KdlVersion version, KdlDocument **ret, KdlDiagnostics *d) {
        _cleanup_(attempt_done) Attempt second = { 0 }, first = { 0 };
        bool marked = false;

        if (len > KDL_SIZE_MAX) {
                kdl_diagnostics_add(d, KDL_LEVEL_ERROR, kdl_span(0, 0), "the file is larger than %d MiB",
                                (int)(KDL_SIZE_MAX / MIB));
                return -EFBIG;
        }
        if (new_diagnostics(d, text, len, &second) < 0 || new_diagnostics(d, text, len, &first) < 0)
                return -ENOMEM;
        attempt(text, len, version, &second, &marked);
        if (second.r == -EBADMSG && version == KDL_VERSION_ANY && !marked) {
                attempt(text, len, KDL_VERSION_1, &first, &marked);
                if (first.r == -EBADMSG)
                        report(&second, &first, d);
                else if (first.r < 0)
                        kdl_diagnostics_take(d, first.d);
                else
                        *ret = TAKE_PTR(first.doc);
                return first.r;
        }
        if (second.r < 0)
                kdl_diagnostics_take(d, second.d);
        else
                *ret = TAKE_PTR(second.doc);
        return second.r;
}
