/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Characters, white space and comments. The text is known to be UTF-8, so bytes tell characters apart. */
#include "kdl-internal.h"

enum {
        SPECIAL_1 = 1 << 0, /* no part of an identifier in KDL 1 */
        SPECIAL_2 = 1 << 1,
};

static const uint8_t ascii[128] = {
        [0 ... 8] = SPECIAL_1, /* KDL 2 disallows these everywhere, which is said once for all */
        ['\t'] = SPECIAL_1 | SPECIAL_2,
        ['\n'] = SPECIAL_1 | SPECIAL_2,
        ['\v'] = SPECIAL_1 | SPECIAL_2,
        ['\f'] = SPECIAL_1 | SPECIAL_2,
        ['\r'] = SPECIAL_1 | SPECIAL_2,
        [14 ... 31] = SPECIAL_1,
        [' '] = SPECIAL_1 | SPECIAL_2,
        ['\\'] = SPECIAL_1 | SPECIAL_2,
        ['/'] = SPECIAL_1 | SPECIAL_2,
        ['('] = SPECIAL_1 | SPECIAL_2,
        [')'] = SPECIAL_1 | SPECIAL_2,
        ['{'] = SPECIAL_1 | SPECIAL_2,
        ['}'] = SPECIAL_1 | SPECIAL_2,
        [';'] = SPECIAL_1 | SPECIAL_2,
        ['['] = SPECIAL_1 | SPECIAL_2,
        [']'] = SPECIAL_1 | SPECIAL_2,
        ['='] = SPECIAL_1 | SPECIAL_2,
        ['"'] = SPECIAL_1 | SPECIAL_2,
        ['<'] = SPECIAL_1,
        ['>'] = SPECIAL_1,
        [','] = SPECIAL_1,
        ['#'] = SPECIAL_2,
};

static uint8_t byte_at(const KdlParser *p, uint32_t at) {
        return at < p->len ? (uint8_t)p->text[at] : 0;
}

bool kdl_at_text(const KdlParser *p, const char *s) {
        size_t n = strlen(s);

        return n <= p->len - p->pos && memcmp(p->text + p->pos, s, n) == 0;
}

size_t kdl_char_length(const KdlParser *p, uint32_t at) {
        uint8_t b = byte_at(p, at);

        return at >= p->len ? 0 : b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

size_t kdl_newline(const KdlParser *p, uint32_t at) {
        uint8_t b = byte_at(p, at);

        if (at >= p->len)
                return 0;
        switch (b) {
        case '\r':
                return byte_at(p, at + 1) == '\n' ? 2 : 1;
        case '\n':
        case '\f':
                return 1;
        case '\v':
                return p->version == KDL_VERSION_1 ? 0 : 1;
        case 0xc2: /* U+0085 */
                return byte_at(p, at + 1) == 0x85 ? 2 : 0;
        case 0xe2: /* U+2028, U+2029 */
                return byte_at(p, at + 1) == 0x80 && (byte_at(p, at + 2) & ~1) == 0xa8 ? 3 : 0;
        default:
                return 0;
        }
}

size_t kdl_space_length(KdlVersion version, const char *s, size_t len) {
        uint8_t bytes[3] = { 0 };

        memcpy(bytes, s, MIN(len, sizeof(bytes)));
        switch (bytes[0]) {
        case ' ':
        case '\t':
                return 1;
        case 0xc2: /* U+00A0 */
                return bytes[1] == 0xa0 ? 2 : 0;
        case 0xe1: /* U+1680 */
                return bytes[1] == 0x9a && bytes[2] == 0x80 ? 3 : 0;
        case 0xe2: /* U+2000 to U+200A, U+202F, U+205F */
                if (bytes[1] == 0x80)
                        return bytes[2] <= 0x8a || bytes[2] == 0xaf ? 3 : 0;
                return bytes[1] == 0x81 && bytes[2] == 0x9f ? 3 : 0;
        case 0xe3: /* U+3000 */
                return bytes[1] == 0x80 && bytes[2] == 0x80 ? 3 : 0;
        case 0xef: /* U+FEFF, which KDL 2 disallows but as the first character */
                return version == KDL_VERSION_1 && bytes[1] == 0xbb && bytes[2] == 0xbf ? 3 : 0;
        default:
                return 0;
        }
}

size_t kdl_space(const KdlParser *p, uint32_t at) {
        uint8_t b = byte_at(p, at);

        if (b == ' ' || b == '\t')
                return 1;
        return b < 0x80 ? 0 : kdl_space_length(p->version, p->text + at, p->len - at);
}

size_t kdl_identifier_char(const KdlParser *p, uint32_t at) {
        uint8_t b = byte_at(p, at);

        if (at >= p->len)
                return 0;
        if (b < 0x80)
                return ascii[b] & (p->version == KDL_VERSION_1 ? SPECIAL_1 : SPECIAL_2) ? 0 : 1;
        return kdl_space(p, at) > 0 || kdl_newline(p, at) > 0 ? 0 : kdl_char_length(p, at);
}

uint32_t kdl_identifier_end(const KdlParser *p, uint32_t at) {
        size_t n;

        while ((n = kdl_identifier_char(p, at)) > 0)
                at += (uint32_t)n;
        return at;
}

bool kdl_is_disallowed(uint32_t c) {
        return c <= 8 || (c >= 0xe && c <= 0x1f) || c == 0x7f || (c >= 0xd800 && c <= 0xdfff) ||
                        c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
                        (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static bool keep_comment(KdlParser *p, uint32_t start, bool line) {
        KdlDocument *doc = p->doc;

        if (!kdl_count_item(p))
                return false;
        if (doc->n_comments == doc->comments_size) {
                size_t size = MAX(doc->comments_size * 2, (size_t)16);
                KdlComment *grown = reallocarray(doc->comments, size, sizeof(KdlComment));

                if (!grown)
                        return kdl_fail(p, -ENOMEM);
                doc->comments = grown;
                doc->comments_size = size;
        }
        doc->comments[doc->n_comments++] = (KdlComment){ kdl_span(start, p->pos), line };
        return true;
}

void kdl_skip_line_comment(KdlParser *p) {
        uint32_t start = p->pos;

        while (!kdl_at_end(p) && kdl_newline(p, p->pos) == 0)
                p->pos++;
        if (keep_comment(p, start, true))
                p->pos += (uint32_t)kdl_newline(p, p->pos);
}

static bool skip_block_comment(KdlParser *p) {
        uint32_t start = p->pos, level = 0;

        do {
                if (kdl_at_text(p, "/*")) {
                        p->pos += 2;
                        level++;
                } else if (kdl_at_text(p, "*/")) {
                        p->pos += 2;
                        level--;
                } else if (!kdl_at_end(p)) {
                        p->pos++;
                } else {
                        kdl_complain(p, kdl_span(start, start + 2), "this comment is not closed");
                        kdl_hint(p,
                                        level > 1 ? "comments nest: each '/*' needs a '*/' of its own"
                                                  : "end it with '*/'");
                        return kdl_stop(p);
                }
        } while (level > 0);
        return keep_comment(p, start, false);
}

/* Spaces and block comments. */
static bool skip_space(KdlParser *p, bool *any) {
        size_t n;

        for (;;) {
                if ((n = kdl_space(p, p->pos)) > 0)
                        p->pos += (uint32_t)n;
                else if (!kdl_at_text(p, "/*"))
                        return true;
                else if (!skip_block_comment(p))
                        return false;
                *any = true;
        }
}

/* A backslash that continues the line. */
static bool skip_continuation(KdlParser *p) {
        uint32_t start = p->pos++;
        bool any = false;

        if (!skip_space(p, &any))
                return false;
        if (kdl_at_text(p, "//")) {
                kdl_skip_line_comment(p);
                return !p->stop;
        }
        if (kdl_newline(p, p->pos) > 0) {
                p->pos += (uint32_t)kdl_newline(p, p->pos);
                return true;
        }
        if (kdl_at_end(p) && p->version != KDL_VERSION_1)
                return true;
        if (kdl_at_end(p))
                kdl_foreign(p, kdl_span(start, start + 1));
        kdl_complain(p, kdl_span(p->pos, p->pos + 1), "expected the end of the line behind '\\'");
        return kdl_hint(p,
                        "outside of strings a backslash continues a node on the next line, and does nothing "
                        "else");
}

bool kdl_skip_node_space(KdlParser *p, bool *ret_any) {
        bool any = false;

        for (;;) {
                if (!skip_space(p, &any))
                        return false;
                if (!kdl_at(p, '\\'))
                        break;
                if (!skip_continuation(p))
                        return false;
                any = true;
        }
        if (ret_any)
                *ret_any = any;
        return true;
}

bool kdl_skip_line_space(KdlParser *p) {
        bool any = false;
        size_t n;

        for (;;) {
                if (p->version == KDL_VERSION_1 ? !skip_space(p, &any) : !kdl_skip_node_space(p, NULL))
                        return false;
                n = kdl_newline(p, p->pos);
                if (n > 0)
                        p->pos += (uint32_t)n;
                else if (!kdl_at_text(p, "//"))
                        return true;
                else
                        kdl_skip_line_comment(p);
                if (p->stop)
                        return false;
        }
}
