/* SPDX-License-Identifier: GPL-2.0-or-later */
/* yajl quotes, indents and puts the commas; but it neither knows whether a key or a value is due, nor
 * reports a lack of memory, so the state and the text are kept here. */
#include <locale.h>
#include <math.h>
#include <stdio.h>

#include <yajl/yajl_gen.h>

#include "json.h"
#include "util/string-util.h"

/* yajl keeps a fixed number of levels, one of them for the document itself. */
#define DEPTH_MAX (YAJL_MAX_DEPTH - 1)
#ifndef YAJL_MAX_DEPTH
#        define YAJL_MAX_DEPTH 128
#endif

typedef struct Level {
        bool object;
        bool keyed;   /* an object's member has its key, and waits for the value */
        bool empty;   /* nothing stands in it yet */
        size_t start; /* where the text goes on behind the opening bracket */
} Level;

struct JsonWriter {
        yajl_gen gen;
        int r; /* the first failure */
        bool pretty;
        bool begun; /* the document's one value is there, or open */
        unsigned depth;
        Level levels[DEPTH_MAX];

        char *text;
        size_t len, size; /* there is always room for a NUL */
};

static void on_print(void *ctx, const char *s, size_t len) {
        JsonWriter *w = ctx;

        if (w->r < 0)
                return;
        if (len >= w->size - w->len) {
                size_t size = MAX(w->size * 2, w->len + len + 1);
                char *grown = realloc(w->text, size);

                if (!grown) {
                        w->r = -ENOMEM;
                        return;
                }
                w->text = grown;
                w->size = size;
        }
        memcpy(w->text + w->len, s, len);
        w->len += len;
}

int json_writer_new(JsonWriterFlags flags, JsonWriter **ret) {
        _cleanup_(json_writer_freep) JsonWriter *w = calloc(1, sizeof(JsonWriter));

        if (!w)
                return -ENOMEM;
        w->pretty = flags & JSON_WRITER_PRETTY;
        w->gen = yajl_gen_alloc(NULL);
        if (!w->gen)
                return -ENOMEM;
        yajl_gen_config(w->gen, yajl_gen_print_callback, on_print, w);
        if (w->pretty) {
                yajl_gen_config(w->gen, yajl_gen_beautify, 1);
                yajl_gen_config(w->gen, yajl_gen_indent_string, "  ");
        }
        *ret = TAKE_PTR(w);
        return 0;
}

JsonWriter *json_writer_free(JsonWriter *w) {
        if (!w)
                return NULL;
        if (w->gen)
                yajl_gen_free(w->gen);
        free(w->text);
        free(w);
        return NULL;
}

static void fail(JsonWriter *w, int r) {
        if (w->r >= 0)
                w->r = r;
}

static void check(JsonWriter *w, yajl_gen_status status) {
        if (status != yajl_gen_status_ok)
                fail(w, -EINVAL);
}

static Level *innermost(JsonWriter *w) {
        return w->depth > 0 ? &w->levels[w->depth - 1] : NULL;
}

/* Whether a value may stand here; if so, it does from now on. */
static bool enter_value(JsonWriter *w) {
        Level *l = innermost(w);

        if (w->r < 0)
                return false;
        if (l && l->object && !l->keyed) {
                fail(w, -EINVAL);
                return false;
        }
        w->begun = true;
        if (l) {
                l->keyed = false;
                l->empty = false;
        }
        return true;
}

static void open_level(JsonWriter *w, bool object) {
        if (w->depth >= DEPTH_MAX) {
                fail(w, -EFBIG);
                return;
        }
        if (!enter_value(w))
                return;
        check(w, object ? yajl_gen_map_open(w->gen) : yajl_gen_array_open(w->gen));
        w->levels[w->depth++] = (Level){
                .object = object,
                .empty = true,
                .start = w->len - (w->pretty ? 1 : 0), /* a newline is there already */
        };
}

void json_write_object(JsonWriter *w) {
        open_level(w, true);
}

void json_write_array(JsonWriter *w) {
        open_level(w, false);
}

void json_write_end(JsonWriter *w) {
        Level *l = innermost(w);

        if (!l || l->keyed)
                fail(w, -EINVAL);
        if (w->r < 0)
                return;
        check(w, l->object ? yajl_gen_map_close(w->gen) : yajl_gen_array_close(w->gen));
        w->depth--;
        if (l->empty && w->pretty && w->r >= 0) {
                /* yajl spreads it over three lines. */
                w->len = l->start;
                on_print(w, l->object ? "}" : "]", 1);
                if (w->depth == 0)
                        on_print(w, "\n", 1);
        }
}

/* Ours and yajl's idea of a string differ: yajl's check lets surrogates pass, and NUL. */
static bool string_is_valid(const char *s, size_t len) {
        return !memchr(s, '\0', len) && utf8_is_valid(s, len);
}

void json_write_key(JsonWriter *w, const char *key) {
        Level *l = innermost(w);

        if (!l || !l->object || l->keyed || !key || !utf8_is_valid(key, strlen(key)))
                fail(w, -EINVAL);
        if (w->r < 0)
                return;
        l->keyed = true;
        check(w, yajl_gen_string(w->gen, (const unsigned char *)key, strlen(key)));
}

void json_write_string(JsonWriter *w, const char *s) {
        if (s)
                json_write_string_n(w, s, strlen(s));
        else
                json_write_null(w);
}

void json_write_string_n(JsonWriter *w, const char *s, size_t len) {
        if (len == 0)
                s = "";
        if (!string_is_valid(s, len))
                fail(w, -EINVAL);
        if (enter_value(w))
                check(w, yajl_gen_string(w->gen, (const unsigned char *)s, len));
}

static void write_number(JsonWriter *w, const char *text) {
        if (enter_value(w))
                check(w, yajl_gen_number(w->gen, text, strlen(text)));
}

void json_write_integer(JsonWriter *w, int64_t v) {
        char buf[24];

        snprintf(buf, sizeof(buf), "%lld", (long long)v);
        write_number(w, buf);
}

void json_write_unsigned(JsonWriter *w, uint64_t v) {
        char buf[24];

        snprintf(buf, sizeof(buf), "%llu", (unsigned long long)v);
        write_number(w, buf);
}

/* A short text that reads back as the same double, and as a real. Wants the C locale. */
static void format_real(char *buf, size_t size, double v) {
        for (int digits = 15; digits <= 17; digits++) {
                snprintf(buf, size, "%.*g", digits, v);
                if (strtod(buf, NULL) == v)
                        break;
        }
        if (!strpbrk(buf, ".e"))
                strcat(buf, ".0");
}

void json_write_real(JsonWriter *w, double v) {
        char buf[40];
        locale_t c_locale, old;

        if (!isfinite(v)) {
                fail(w, -EINVAL);
                return;
        }
        /* Other locales may have another decimal point. */
        c_locale = newlocale(LC_ALL_MASK, "C", NULL);
        if (!c_locale) {
                fail(w, -ENOMEM);
                return;
        }
        old = uselocale(c_locale);
        format_real(buf, sizeof(buf), v);
        uselocale(old);
        freelocale(c_locale);
        write_number(w, buf);
}

void json_write_boolean(JsonWriter *w, bool v) {
        if (enter_value(w))
                check(w, yajl_gen_bool(w->gen, v));
}

void json_write_null(JsonWriter *w) {
        if (enter_value(w))
                check(w, yajl_gen_null(w->gen));
}

static void write_number_value(JsonWriter *w, const Json *v) {
        uint64_t natural;
        int64_t integer;
        double real;

        if (json_integer(v, &integer) >= 0)
                json_write_integer(w, integer);
        else if (json_unsigned(v, &natural) >= 0)
                json_write_unsigned(w, natural);
        else if (json_real(v, &real) >= 0)
                json_write_real(w, real);
}

/* Recursion ends with the writer's depth. */
void json_write_value(JsonWriter *w, const Json *v) {
        switch (json_type(v)) {
        case JSON_BOOLEAN:
                json_write_boolean(w, json_boolean(v) > 0);
                break;
        case JSON_INTEGER:
        case JSON_REAL:
                write_number_value(w, v);
                break;
        case JSON_STRING:
                json_write_string(w, json_string(v));
                break;
        case JSON_ARRAY:
                json_write_array(w);
                for (size_t i = 0; i < json_length(v) && w->r >= 0; i++)
                        json_write_value(w, json_element(v, i));
                json_write_end(w);
                break;
        case JSON_OBJECT:
                json_write_object(w);
                for (size_t i = 0; i < json_length(v) && w->r >= 0; i++) {
                        json_write_key(w, json_key(v, i));
                        json_write_value(w, json_member(v, i));
                }
                json_write_end(w);
                break;
        default: /* null, or no value at all */
                json_write_null(w);
                break;
        }
}

int json_writer_finish(JsonWriter *w, char **ret, size_t *ret_len) {
        if (w->depth > 0 || !w->begun)
                fail(w, -EINVAL);
        if (w->r < 0)
                return w->r;
        w->text[w->len] = '\0';
        *ret = TAKE_PTR(w->text);
        if (ret_len)
                *ret_len = w->len;
        w->r = -EINVAL; /* the document is gone */
        return 0;
}
