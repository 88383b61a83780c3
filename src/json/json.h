/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* JSON (RFC 8259) by yajl: text to a tree of values, and a writer. The only place that includes yajl.
 *
 * A parsed tree is one arena owned by its root; accessors lend pointers into it. Strings are valid UTF-8 and
 * hold no NUL. Integers are exact from INT64_MIN to UINT64_MAX (QEMU uses both ends); one beyond that, and
 * all other numbers, are double. A key that stands twice in one object is an error, so that two readers
 * cannot see two documents.
 */

#include "util/error.h"

typedef enum JsonType {
        JSON_NULL,
        JSON_BOOLEAN,
        JSON_INTEGER,
        JSON_REAL,
        JSON_STRING,
        JSON_ARRAY,
        JSON_OBJECT,
        _JSON_TYPE_MAX,
        _JSON_TYPE_INVALID = -EINVAL,
} JsonType;

typedef struct Json Json;

/* What a document may cost: zero fields mean the defaults. */
typedef struct JsonLimits {
        size_t max_size;    /* bytes of text; default 1 MiB */
        unsigned max_depth; /* nested arrays and objects; default 64 */
        size_t max_values;  /* values in all, so that "[[],[],…" cannot eat memory; default 65536 */
} JsonLimits;

/* Parses exactly one document (white space may surround it). limits may be NULL.
 * -EBADMSG: not JSON (the error says where); -EFBIG: beyond a limit, or a number beyond double; -ENOMEM. */
int json_parse(const char *text, size_t len, const JsonLimits *limits, Json **ret, Error **reterr);

Json *json_free(Json *v); /* only ever the root */
DEFINE_CLEANUP(Json *, json_free);
#define _cleanup_json_ _cleanup_(json_freep)

/* All accessors accept NULL, and answer as if the value were of no type. */
JsonType json_type(const Json *v);
bool json_is_null(const Json *v);                /* JSON null, or no value at all */
const char *json_string(const Json *v);          /* NULL unless a string */
int json_boolean(const Json *v);                 /* 0, 1, or -EINVAL */
int json_integer(const Json *v, int64_t *ret);   /* -EINVAL unless an integer that fits */
int json_unsigned(const Json *v, uint64_t *ret); /* -EINVAL unless an integer that fits */
int json_real(const Json *v, double *ret);       /* integers count; else -EINVAL */

size_t json_length(const Json *v); /* members of an array or object, else 0 */
const Json *json_element(const Json *array, size_t i);
const char *json_key(const Json *object, size_t i); /* in the document's order */
const Json *json_member(const Json *object, size_t i);
const Json *json_get(const Json *object, const char *key); /* NULL when absent */

static inline const char *json_get_string(const Json *object, const char *key) {
        return json_string(json_get(object, key));
}
static inline int json_get_unsigned(const Json *object, const char *key, uint64_t *ret) {
        return json_unsigned(json_get(object, key), ret);
}
static inline int json_get_boolean(const Json *object, const char *key) {
        return json_boolean(json_get(object, key));
}

/* The writer: calls in document order; the first failure sticks and is returned by json_writer_finish(), so
 * callers check once: -EINVAL for what would not be JSON that json_parse() accepts, so strings must be UTF-8
 * without NUL; -EFBIG for nesting beyond 127 levels; -ENOMEM. */
typedef struct JsonWriter JsonWriter;

typedef enum JsonWriterFlags {
        JSON_WRITER_PRETTY = 1 << 0, /* indented, newline at the end */
} JsonWriterFlags;

int json_writer_new(JsonWriterFlags flags, JsonWriter **ret);
JsonWriter *json_writer_free(JsonWriter *w);
DEFINE_CLEANUP(JsonWriter *, json_writer_free);

void json_write_object(JsonWriter *w); /* opens; members follow as key, value */
void json_write_array(JsonWriter *w);  /* opens */
void json_write_end(JsonWriter *w);    /* closes the innermost array or object */
void json_write_key(JsonWriter *w, const char *key);
void json_write_string(JsonWriter *w, const char *s); /* NULL writes null */
void json_write_string_n(JsonWriter *w, const char *s, size_t len);
void json_write_integer(JsonWriter *w, int64_t v);
void json_write_unsigned(JsonWriter *w, uint64_t v);
void json_write_real(JsonWriter *w, double v); /* finite only: -EINVAL */
void json_write_boolean(JsonWriter *w, bool v);
void json_write_null(JsonWriter *w);
void json_write_value(JsonWriter *w, const Json *v); /* a whole parsed tree */

/* Ends the document (every open level must be closed: -EINVAL) and hands the text over, NUL-terminated. */
int json_writer_finish(JsonWriter *w, char **ret, size_t *ret_len);

/* A tree that comes from no text: calls in document order, as with the writer. The first failure sticks, and
 * is returned by json_builder_finish(): -EBADMSG for a string that is not UTF-8 or a key that stands twice,
 * -EFBIG for nesting beyond 64 levels, -EINVAL for what is no document, -ENOMEM. Strings are copied. */
typedef struct JsonBuilder JsonBuilder;

int json_builder_new(JsonBuilder **ret);
JsonBuilder *json_builder_free(JsonBuilder *b);
DEFINE_CLEANUP(JsonBuilder *, json_builder_free);

void json_build_object(JsonBuilder *b);
void json_build_array(JsonBuilder *b);
void json_build_end(JsonBuilder *b);
void json_build_key(JsonBuilder *b, const char *key);
void json_build_string(JsonBuilder *b, const char *s);
void json_build_integer(JsonBuilder *b, int64_t v);
void json_build_unsigned(JsonBuilder *b, uint64_t v);
void json_build_real(JsonBuilder *b, double v); /* finite only: -EINVAL */
void json_build_boolean(JsonBuilder *b, bool v);
void json_build_null(JsonBuilder *b);

/* Hands the tree over, for json_free(). */
int json_builder_finish(JsonBuilder *b, Json **ret);

/* key and value in one call */
static inline void json_put_string(JsonWriter *w, const char *key, const char *s) {
        json_write_key(w, key);
        json_write_string(w, s);
}
static inline void json_put_unsigned(JsonWriter *w, const char *key, uint64_t v) {
        json_write_key(w, key);
        json_write_unsigned(w, v);
}
static inline void json_put_boolean(JsonWriter *w, const char *key, bool v) {
        json_write_key(w, key);
        json_write_boolean(w, v);
}
