/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Documents back to text.
 *
 * Comments are no part of the tree: they are a list by place, and a cursor in it moves along with the tree.
 * Before something is written, the comments that stand before its end in the source are; so none is lost
 * wherever it stood, and those inside of an entry move before it. */
#include "kdl-write.h"

typedef struct Formatter {
        const KdlDocument *doc;
        KdlWriter w;
        KdlParser source; /* to look at white space between things */
        size_t comment;   /* the next one that is not written yet */
        uint32_t last;    /* the end, in the source, of what was written last */
        unsigned depth;
        int r;
} Formatter;

static bool has_newlines(const Formatter *f, uint32_t from, uint32_t to, unsigned wanted) {
        unsigned found = 0;

        for (uint32_t i = from; i < to && found < wanted;) {
                size_t n = kdl_newline(&f->source, i);

                found += n > 0;
                i += n > 0 ? (uint32_t)n : 1;
        }
        return found >= wanted;
}

/* The next comment if it stands before `limit`. */
static const KdlComment *next_comment(const Formatter *f, uint32_t limit) {
        const KdlComment *c;

        if ((f->w.flags & KDL_FORMAT_CANONICAL) || f->comment >= f->doc->n_comments)
                return NULL;
        c = &f->doc->comments[f->comment];
        return c->span.start < limit ? c : NULL;
}

static void write_comment(Formatter *f, const KdlComment *c) {
        kdl_write_comment(&f->w, f->doc->text + c->span.start, c->span.end - c->span.start);
        f->last = MAX(f->last, c->span.end);
        f->comment++;
}

/* One empty line where the source has some before `to`; none at the beginning of a block. */
static void write_blank_line(Formatter *f, uint32_t to, bool first) {
        if (!first && !(f->w.flags & KDL_FORMAT_CANONICAL) && has_newlines(f, f->last, to, 2))
                fputc('\n', f->w.f);
}

/* Comments before `limit`, each on a line of its own. Returns whether nothing was written. */
static bool write_lines(Formatter *f, uint32_t limit, bool first) {
        const KdlComment *c;

        while ((c = next_comment(f, limit))) {
                write_blank_line(f, c->span.start, first);
                kdl_write_indent(&f->w, f->depth);
                write_comment(f, c);
                fputc('\n', f->w.f);
                first = false;
        }
        return first;
}

/* Comments behind what was just written, on its line, and the end of that line. */
static void write_line_end(Formatter *f, uint32_t limit) {
        const KdlComment *c;

        while ((c = next_comment(f, limit)) && !has_newlines(f, f->last, c->span.start, 1)) {
                fputc(' ', f->w.f);
                write_comment(f, c);
                if (c->line)
                        break;
        }
        fputc('\n', f->w.f);
}

/* Between parts of a node: a space, or a continuation where the source has one. */
static void write_gap(Formatter *f, uint32_t to) {
        if ((f->w.flags & KDL_FORMAT_CANONICAL) || !has_newlines(f, f->last, to, 1)) {
                fputc(' ', f->w.f);
                return;
        }
        fputs(" \\\n", f->w.f);
        kdl_write_indent(&f->w, f->depth + 1);
}

/* The same with the comments before `limit`; the part begins at `to`. */
static void write_separator(Formatter *f, uint32_t to, uint32_t limit) {
        const KdlComment *c;
        bool fresh = false;

        while ((c = next_comment(f, limit))) {
                if (!fresh)
                        write_gap(f, MIN(c->span.start, to));
                if (c->line)
                        fputs("\\ ", f->w.f);
                write_comment(f, c);
                fresh = c->line;
                if (!fresh)
                        continue;
                fputc('\n', f->w.f);
                kdl_write_indent(&f->w, f->depth + 1);
        }
        if (!fresh)
                write_gap(f, to);
}

static void write_string(Formatter *f, const KdlString *s, bool is_name) {
        kdl_write_string(&f->w, f->doc, s, is_name, f->depth + 1);
}

static void write_annotation(Formatter *f, const KdlString *s) {
        if (!s->text)
                return;
        fputc('(', f->w.f);
        write_string(f, s, true);
        fputc(')', f->w.f);
}

static int write_number(Formatter *f, const KdlValue *v) {
        _cleanup_free_ char *canonical = NULL;
        const char *s = v->string.text;
        bool keyword = s[s[0] == '-'] > '9';

        if (keyword && f->w.version == KDL_VERSION_1)
                return -EOPNOTSUPP;
        if (!keyword && (f->w.flags & KDL_FORMAT_CANONICAL)) {
                s = canonical = kdl_number_canonical(v);
                if (!s)
                        return -ENOMEM;
        }
        fprintf(f->w.f, "%s%s", keyword ? "#" : "", s);
        return 0;
}

static int write_value(Formatter *f, const KdlValue *v) {
        const char *sign = f->w.version == KDL_VERSION_1 ? "" : "#";

        write_annotation(f, &v->annotation);
        switch (v->type) {
        case KDL_STRING:
                write_string(f, &v->string, false);
                return 0;
        case KDL_NUMBER:
                return write_number(f, v);
        case KDL_BOOLEAN:
                fprintf(f->w.f, "%s%s", sign, v->boolean ? "true" : "false");
                return 0;
        default:
                fprintf(f->w.f, "%snull", sign);
                return 0;
        }
}

static int write_entry(Formatter *f, const KdlEntry *e) {
        write_separator(f, e->span.start, e->span.end);
        if (e->slashdash)
                fputs("/-", f->w.f);
        if (e->key.text) {
                write_string(f, &e->key, true);
                fputc('=', f->w.f);
        }
        f->last = MAX(f->last, e->span.end);
        return write_value(f, &e->value);
}

static int write_nodes(Formatter *f, const KdlNode *nodes, uint32_t end, bool first);

static int write_block(Formatter *f, const KdlBlock *b) {
        const KdlNode *nodes = f->w.flags & KDL_FORMAT_CANONICAL ? NULL : b->nodes;
        uint32_t end = b->span.end - 1;
        int r;

        write_separator(f, b->span.start, b->brace);
        fputs(b->slashdash ? "/-{" : "{", f->w.f);
        f->last = b->brace + 1;
        if (!b->nodes && !next_comment(f, end)) {
                fputc('}', f->w.f);
        } else {
                write_line_end(f, nodes ? nodes->span.start : end);
                f->depth++;
                r = write_nodes(f, b->nodes, end, true);
                f->depth--;
                if (r < 0)
                        return r;
                kdl_write_indent(&f->w, f->depth);
                fputc('}', f->w.f);
        }
        f->last = b->span.end;
        return 0;
}

static int compare_keys(const void *a, const void *b) {
        const KdlEntry *x = *(const KdlEntry *const *)a, *y = *(const KdlEntry *const *)b;
        int r = memcmp(x->key.text, y->key.text, MIN(x->key.len, y->key.len));

        if (r == 0)
                r = (x->key.len > y->key.len) - (x->key.len < y->key.len);
        return r != 0 ? r : (x->span.start > y->span.start) - (x->span.start < y->span.start);
}

static bool same_key(const KdlEntry *a, const KdlEntry *b) {
        return a->key.len == b->key.len && memcmp(a->key.text, b->key.text, a->key.len) == 0;
}

/* Arguments, then properties by name, of those with one name the last. */
static int write_canonical_entries(Formatter *f, const KdlNode *n) {
        _cleanup_free_ const KdlEntry **properties = NULL;
        size_t n_properties = 0, i = 0;
        int r = 0;

        for (const KdlEntry *e = kdl_node_entries(n); e && r >= 0; e = kdl_entry_next(e)) {
                if (e->key.text)
                        n_properties++;
                else
                        r = write_entry(f, e);
        }
        if (r < 0 || n_properties == 0)
                return r;
        properties = calloc(n_properties, sizeof(KdlEntry *));
        if (!properties)
                return -ENOMEM;
        for (const KdlEntry *e = kdl_node_entries(n); e; e = kdl_entry_next(e))
                if (e->key.text)
                        properties[i++] = e;
        qsort(properties, n_properties, sizeof(KdlEntry *), compare_keys);
        for (i = 0; i < n_properties && r >= 0; i++)
                if (i + 1 == n_properties || !same_key(properties[i], properties[i + 1]))
                        r = write_entry(f, properties[i]);
        return r;
}

static int write_all_entries(Formatter *f, const KdlNode *n) {
        for (const KdlEntry *e = n->entries; e; e = e->next) {
                int r = write_entry(f, e);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_blocks(Formatter *f, const KdlNode *n) {
        if (f->w.flags & KDL_FORMAT_CANONICAL)
                return kdl_node_children(n) ? write_block(f, kdl_node_block(n)) : 0;
        if (f->w.version == KDL_VERSION_1 && n->blocks && n->blocks->next)
                return -EOPNOTSUPP;
        for (const KdlBlock *b = n->blocks; b; b = b->next) {
                int r = write_block(f, b);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* A node that is taken out, and that at the beginning of a file would be taken for the version's marker. */
static bool looks_like_marker(const Formatter *f, const KdlNode *n) {
        return n->slashdash && n->name.style == KDL_STYLE_BARE && kdl_string_is(&n->name, "kdl-version") &&
                        ftell(f->w.f) == 0;
}

static int write_node(Formatter *f, const KdlNode *n) {
        bool quoted = looks_like_marker(f, n);
        int r;

        kdl_write_indent(&f->w, f->depth);
        if (n->slashdash)
                fputs("/-", f->w.f);
        write_annotation(f, &n->annotation);
        if (quoted)
                fputs("\"kdl-version\"", f->w.f);
        else
                write_string(f, &n->name, true);
        f->last = MAX(f->last, n->name.span.end);
        r = f->w.flags & KDL_FORMAT_CANONICAL ? write_canonical_entries(f, n) : write_all_entries(f, n);
        return r < 0 ? r : write_blocks(f, n);
}

static const KdlNode *skip_dropped(const Formatter *f, const KdlNode *n) {
        while (n && n->slashdash && (f->w.flags & KDL_FORMAT_CANONICAL))
                n = n->next;
        return n;
}

/* The nodes of a block or document that ends at `end`; `first` tells that no line of it was written yet. */
static int write_nodes(Formatter *f, const KdlNode *nodes, uint32_t end, bool first) {
        for (const KdlNode *n = skip_dropped(f, nodes), *next; n; n = next) {
                int r;

                next = skip_dropped(f, n->next);
                first = write_lines(f, n->name.span.end, first);
                write_blank_line(f, n->span.start, first);
                r = write_node(f, n);
                if (r < 0)
                        return r;
                write_line_end(f, next ? next->span.start : end);
                first = false;
        }
        write_lines(f, end, first);
        return 0;
}

static void write_marker(Formatter *f) {
        if (f->doc->marker.end == 0 || (f->w.flags & KDL_FORMAT_CANONICAL))
                return;
        fprintf(f->w.f, "/- kdl-version %d\n", f->w.version == KDL_VERSION_1 ? 1 : 2);
        f->last = f->doc->marker.end;
}

int kdl_format(const KdlDocument *doc, KdlVersion version, KdlFormatFlags flags, char **ret,
                size_t *ret_len) {
        Formatter f = {
                .doc = doc,
                .source = { .text = doc->text, .len = doc->len, .version = doc->version },
                .w = { .version = version == KDL_VERSION_1 ? KDL_VERSION_1 : KDL_VERSION_2, .flags = flags },
        };
        char *text = NULL;
        size_t len = 0;
        int r;

        f.w.f = open_memstream(&text, &len);
        if (!f.w.f)
                return -ENOMEM;
        f.w.source_version = doc->version;
        write_marker(&f);
        r = write_nodes(&f, doc->nodes, doc->len, doc->marker.end == 0);
        if (r >= 0 && ferror(f.w.f))
                r = -ENOMEM;
        if (fclose(f.w.f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r < 0) {
                free(text);
                return r;
        }
        *ret = text;
        *ret_len = len;
        return 0;
}
