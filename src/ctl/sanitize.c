/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sanitize.h"
#include "util/string-util.h"

#define ESC 0x1b
#define BEL 0x07

static void put_replacement(FILE *stream) {
        (void)fputs("\357\277\275", stream); /* U+FFFD */
}

static size_t sequence_length(unsigned char first) {
        return first >= 0xf0 && first < 0xf5            ? 4
                        : first >= 0xe0 && first < 0xf0 ? 3
                        : first >= 0xc2 && first < 0xe0 ? 2
                                                        : 0;
}

/* U+0080 to U+009F are control characters, U+009B being as good as ESC [. */
static bool is_c1(const unsigned char *utf8) {
        return utf8[0] == 0xc2 && utf8[1] < 0xa0;
}

static void flush_utf8(Sanitizer *s, FILE *stream) {
        if (s->n_utf8 < s->utf8_len || !utf8_is_valid((char *)s->utf8, s->n_utf8))
                put_replacement(stream);
        else if (!is_c1(s->utf8))
                (void)fwrite(s->utf8, 1, s->n_utf8, stream);
        s->n_utf8 = s->utf8_len = 0;
}

static void on_text(Sanitizer *s, FILE *stream, unsigned char c) {
        if (s->utf8_len > 0) {
                if ((c & 0xc0) == 0x80) {
                        s->utf8[s->n_utf8++] = c;
                        if (s->n_utf8 == s->utf8_len)
                                flush_utf8(s, stream);
                        return;
                }
                flush_utf8(s, stream); /* cut short; c begins something new */
        }
        if (c == ESC)
                s->step = SANITIZE_ESCAPE;
        else if (c == '\n' || c == '\r' || c == '\t' || (c >= ' ' && c < 0x7f))
                (void)fputc(c, stream);
        else if (c >= 0x80) {
                s->utf8_len = sequence_length(c);
                if (s->utf8_len == 0)
                        put_replacement(stream);
                else
                        s->utf8[s->n_utf8++] = c;
        }
}

static void on_escape(Sanitizer *s, unsigned char c) {
        s->n_csi = 0;
        if (c == '[')
                s->step = SANITIZE_CSI;
        else if (c && strchr("]PX^_", c))
                s->step = SANITIZE_STRING;
        else if (c >= 0x20 && c < 0x30)
                s->step = SANITIZE_CHARSET;
        else if (c != ESC)
                s->step = SANITIZE_TEXT;
}

/* Only "select graphic rendition" passes: ESC [ digits and semicolons m. */
static void on_csi(Sanitizer *s, FILE *stream, unsigned char c) {
        if (c == ESC) {
                s->step = SANITIZE_ESCAPE;
                return;
        }
        if (c >= 0x20 && c < 0x40) {
                if (s->n_csi < sizeof(s->csi))
                        s->csi[s->n_csi] = (char)c;
                s->n_csi++;
                return;
        }
        s->step = SANITIZE_TEXT;
        if (s->plain || c != 'm' || s->n_csi > sizeof(s->csi))
                return;
        for (size_t i = 0; i < s->n_csi; i++)
                if (!strchr("0123456789;", s->csi[i]))
                        return;
        (void)fprintf(stream, "\033[%.*sm", (int)s->n_csi, s->csi);
        s->styled = s->n_csi > 0 && !(s->n_csi == 1 && s->csi[0] == '0');
}

static void put(Sanitizer *s, FILE *stream, unsigned char c) {
        switch (s->step) {
        case SANITIZE_TEXT:
                on_text(s, stream, c);
                break;
        case SANITIZE_ESCAPE:
                on_escape(s, c);
                break;
        case SANITIZE_CSI:
                on_csi(s, stream, c);
                break;
        case SANITIZE_STRING:
                if (c == ESC)
                        s->step = SANITIZE_STRING_ESCAPE;
                else if (c == BEL || c == '\n') /* a line end, lest one stray sequence swallows all */
                        s->step = SANITIZE_TEXT;
                break;
        case SANITIZE_STRING_ESCAPE:
                s->step = SANITIZE_TEXT;
                if (c != '\\')
                        on_escape(s, c);
                break;
        case SANITIZE_CHARSET:
                if (c >= 0x30)
                        s->step = SANITIZE_TEXT;
                break;
        }
}

void sanitize_write(Sanitizer *s, FILE *stream, const char *data, size_t n) {
        for (size_t i = 0; i < n; i++)
                put(s, stream, (unsigned char)data[i]);
}

void sanitize_end(Sanitizer *s, FILE *stream) {
        if (s->styled)
                (void)fputs("\033[0m", stream);
        *s = (Sanitizer){ .plain = s->plain };
}
