/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first byte says as which version to read and to write. What is accepted must mean the same after
 * formatting, keep its comments, and not change when it is formatted again; what is refused must come with
 * an error that can be shown. */
#include "fuzz.h"
#include "kdl/kdl-internal.h"
#include "util/test.h"

typedef struct Text {
        char *s; /* KDL 1 allows NULs in it */
        size_t len;
} Text;

static void text_done(Text *t) {
        free(t->s);
}
#define _cleanup_text_ _cleanup_(text_done)

static Text format(const KdlDocument *doc, KdlVersion version, KdlFormatFlags flags) {
        Text t = { 0 };
        int r = kdl_format(doc, version, flags, &t.s, &t.len);

        CHECK(r == 0 || (r == -EOPNOTSUPP && version == KDL_VERSION_1));
        CHECK(r < 0 || utf8_is_valid(t.s, t.len));
        return t;
}

static bool same(const Text *a, const Text *b) {
        return a->len == b->len && memcmp(a->s, b->s, a->len) == 0;
}

/* Whatever is slashdashed counts, too. */
static size_t count_items(const KdlNode *n) {
        size_t items = 0;

        for (; n; n = n->next) {
                items++;
                for (const KdlEntry *e = n->entries; e; e = e->next)
                        items++;
                for (const KdlBlock *b = n->blocks; b; b = b->next)
                        items += 1 + count_items(b->nodes);
        }
        return items;
}

static void check_comments(const KdlDocument *a, const KdlDocument *b) {
        CHECK_EQ(a->n_comments, b->n_comments);
        for (size_t i = 0; a->version == b->version && i < a->n_comments; i++) {
                KdlSpan x = a->comments[i].span, y = b->comments[i].span;

                CHECK_EQ(x.end - x.start, y.end - y.start);
                CHECK(memcmp(a->text + x.start, b->text + y.start, x.end - x.start) == 0);
        }
}

static void check_format(const KdlDocument *doc, KdlVersion version) {
        _cleanup_text_ Text text = format(doc, version, 0), again = { 0 }, data = { 0 }, data_again = { 0 };
        _cleanup_kdl_ KdlDocument *second = NULL;

        if (!text.s)
                return;
        CHECK_EQ(kdl_parse(text.s, text.len, version, &second, NULL), 0);
        CHECK_EQ(count_items(second->nodes), count_items(doc->nodes));
        check_comments(second, doc);
        data = format(doc, KDL_VERSION_2, KDL_FORMAT_CANONICAL);
        data_again = format(second, KDL_VERSION_2, KDL_FORMAT_CANONICAL);
        CHECK(same(&data, &data_again));
        again = format(second, version, 0);
        CHECK(same(&text, &again));
}

static void check_numbers(const KdlNode *n) {
        uint64_t u;
        int64_t i;
        double d;

        for (; n; n = kdl_node_next(n)) {
                for (const KdlEntry *e = kdl_node_entries(n); e; e = kdl_entry_next(e)) {
                        if (kdl_value_uint64(&e->value, &u) == 0 && kdl_value_int64(&e->value, &i) == 0)
                                CHECK((uint64_t)i == u);
                        (void)kdl_value_double(&e->value, &d);
                }
                check_numbers(kdl_node_children(n));
        }
}

static void check_errors(KdlDiagnostics *d, size_t size) {
        _cleanup_free_ char *shown = NULL;
        size_t len;
        FILE *f;

        CHECK(kdl_diagnostics_errors(d) > 0 && kdl_diagnostics_count(d) > 0);
        for (size_t i = 0; i < kdl_diagnostics_count(d); i++) {
                const KdlDiagnostic *entry = kdl_diagnostics_get(d, i);

                CHECK(entry->span.start <= size && entry->span.start <= entry->span.end);
                CHECK(utf8_is_valid(entry->message, strlen(entry->message)));
        }
        f = open_memstream(&shown, &len);
        CHECK(f);
        kdl_diagnostics_write(d, f);
        fclose(f);
        CHECK(utf8_is_valid(shown, len) && strlen(shown) == len);
        CHECK(!strpbrk(shown, "\x1b\r\b\x7f"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = NULL;
        _cleanup_kdl_ KdlDocument *doc = NULL;
        const char *text;
        int r;

        if (size == 0)
                return 0;
        text = (const char *)data + 1;
        CHECK_EQ(kdl_diagnostics_new("input", text, size - 1, &d), 0);
        r = kdl_parse(text, size - 1, (KdlVersion)(data[0] % _KDL_VERSION_MAX), &doc, d);
        CHECK(r == 0 || r == -EBADMSG || r == -EFBIG);
        if (r < 0) {
                check_errors(d, size - 1);
                return 0;
        }
        CHECK_EQ(kdl_diagnostics_count(d), 0);
        check_numbers(kdl_document_nodes(doc));
        check_format(doc, KDL_VERSION_1);
        check_format(doc, KDL_VERSION_2);
        return 0;
}
