/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree, and how text becomes one.
 *
 * A document is an arena, so freeing neither recurses nor walks the tree.
 * While the text is read, the values of all arrays and objects that are still open wait on one stack; when
 * one closes, its members move to the arena as an array. So every member is reached by position in one step,
 * and larger objects get an index of their keys in sorted order, which also finds keys that stand twice. */
#include <locale.h>
#include <math.h>
#include <stdalign.h>

#include <yajl/yajl_parse.h>

#include "json.h"
#include "util/arena.h"
#include "util/string-util.h"

/* Enough for state files and D-Bus requests; callers who expect more say so. */
#define DEFAULT_SIZE MIB
#define DEFAULT_DEPTH 64
#define DEFAULT_VALUES (64 * KIB)

/* 767 significant digits decide every double; nobody writes more, and each costs time to convert. */
#define NUMBER_LENGTH_MAX 1024

/* Up to here comparing every key is cheaper than an index, and most objects are this small. */
#define UNINDEXED_MAX 8

typedef struct Member Member;

struct Json {
        uint8_t type;
        bool beyond_int64; /* an integer that only `natural` can hold */
        uint32_t length;   /* elements, members, or bytes of a string */
        union {
                bool boolean;
                int64_t integer;
                uint64_t natural;
                double real;
                const char *string;
                const Json *elements;
                const Member *members; /* behind them, if indexed: uint32_t[length], positions by key */
                size_t parent;         /* while open: the stack position of what it stands in */
        };
};

struct Member {
        const char *key;
        Json value;
};

typedef struct Document {
        Json root; /* first, so that the root's address is the document's */
        Arena *arena;
} Document;
_Static_assert(offsetof(Document, root) == 0, "json_free() takes the root for the document");

typedef struct Parser {
        JsonLimits limits;
        Arena *arena; /* owned until the document is complete */
        locale_t c_locale;

        Member *stack;
        size_t n_stack, stack_size;
        size_t open; /* position of the innermost open array or object */
        unsigned depth;
        size_t n_values;

        int r; /* why a callback stopped the parser */
        const char *complaint;
} Parser;

#define NOTHING_OPEN SIZE_MAX
#define AWAITED UINT8_MAX /* the type of a value whose key has come; the builder's alone */

static void parser_done(Parser *p) {
        arena_free(p->arena);
        free(p->stack);
        if (p->c_locale)
                freelocale(p->c_locale);
}

/* For the callbacks, whose 0 stops yajl. */
static int stop(Parser *p, int r, const char *complaint) {
        p->r = r;
        p->complaint = complaint;
        return 0;
}

static Member *push(Parser *p) {
        if (p->n_stack == p->stack_size) {
                size_t size = MAX(p->stack_size * 2, (size_t)16);
                Member *grown = reallocarray(p->stack, size, sizeof(Member));

                if (!grown) {
                        stop(p, -ENOMEM, NULL);
                        return NULL;
                }
                p->stack = grown;
                p->stack_size = size;
        }
        return &p->stack[p->n_stack++];
}

/* The place for the next value: in an object its key has pushed the entry before. */
static Json *add_value(Parser *p, JsonType type) {
        bool keyed = p->open != NOTHING_OPEN && p->stack[p->open].value.type == JSON_OBJECT;
        Member *m;

        if (p->n_values >= p->limits.max_values) {
                stop(p, -EFBIG, "too many values");
                return NULL;
        }
        m = keyed ? &p->stack[p->n_stack - 1] : push(p);
        if (!m)
                return NULL;
        p->n_values++;
        m->value = (Json){ .type = (uint8_t)type };
        return &m->value;
}

static int on_null(void *ctx) {
        return !!add_value(ctx, JSON_NULL);
}

static int on_boolean(void *ctx, int b) {
        Json *v = add_value(ctx, JSON_BOOLEAN);

        if (!v)
                return 0;
        v->boolean = b;
        return 1;
}

/* False if it has a fraction or an exponent, or is beyond both integer types. */
static bool number_to_integer(const char *s, size_t len, Json *v) {
        bool negative = len > 0 && *s == '-';
        uint64_t n = 0;

        for (size_t i = negative; i < len; i++)
                if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
                                __builtin_add_overflow(n, (uint64_t)(s[i] - '0'), &n))
                        return false;
        if (negative && n > (uint64_t)INT64_MAX + 1)
                return false;
        v->type = JSON_INTEGER;
        v->beyond_int64 = !negative && n > INT64_MAX;
        v->natural = negative ? -n : n;
        return true;
}

static int on_number(void *ctx, const char *s, size_t len) {
        Json *v = add_value(ctx, JSON_REAL);
        char buf[NUMBER_LENGTH_MAX + 1];
        Parser *p = ctx;

        if (!v)
                return 0;
        if (number_to_integer(s, len, v))
                return 1;
        if (len > NUMBER_LENGTH_MAX)
                return stop(p, -EFBIG, "number too long");
        memcpy(buf, s, len);
        buf[len] = '\0';
        v->real = strtod_l(buf, NULL, p->c_locale);
        return isfinite(v->real) ? 1 : stop(p, -EFBIG, "number out of range");
}

static const char *copy_string(Parser *p, const unsigned char *s, size_t len) {
        char *copy;

        if (memchr(s, '\0', len)) {
                stop(p, -EBADMSG, "NUL in a string");
                return NULL;
        }
        /* yajl checks the form of sequences, but lets surrogates and overlong ones pass. */
        if (!utf8_is_valid((const char *)s, len)) {
                stop(p, -EBADMSG, "invalid UTF-8 in a string");
                return NULL;
        }
        copy = arena_alloc(&p->arena, len + 1, 1);
        if (!copy) {
                stop(p, -ENOMEM, NULL);
                return NULL;
        }
        memcpy(copy, s, len);
        copy[len] = '\0';
        return copy;
}

static int on_string(void *ctx, const unsigned char *s, size_t len) {
        Json *v = add_value(ctx, JSON_STRING);

        if (!v)
                return 0;
        v->length = (uint32_t)len;
        v->string = copy_string(ctx, s, len);
        return !!v->string;
}

static int on_key(void *ctx, const unsigned char *s, size_t len) {
        const char *key = copy_string(ctx, s, len);
        Member *m = key ? push(ctx) : NULL;

        if (!m)
                return 0;
        m->key = key;
        return 1;
}

static int open_container(Parser *p, JsonType type) {
        Json *v;

        if (p->depth >= p->limits.max_depth)
                return stop(p, -EFBIG, "nested too deeply");
        v = add_value(p, type);
        if (!v)
                return 0;
        v->parent = p->open;
        p->open = p->n_stack - 1;
        p->depth++;
        return 1;
}

static int on_start_array(void *ctx) {
        return open_container(ctx, JSON_ARRAY);
}

static int on_start_object(void *ctx) {
        return open_container(ctx, JSON_OBJECT);
}

/* Takes the innermost container's members off the stack; they stay readable until the next push. */
static Json *close_container(Parser *p, const Member **ret_members) {
        Member *m = &p->stack[p->open];

        *ret_members = m + 1;
        m->value.length = (uint32_t)(p->n_stack - p->open - 1);
        p->n_stack = p->open + 1;
        p->open = m->value.parent;
        p->depth--;
        return &m->value;
}

static int on_end_array(void *ctx) {
        const Member *members;
        Parser *p = ctx;
        Json *v = close_container(p, &members), *elements;

        v->elements = NULL;
        if (v->length == 0)
                return 1;
        elements = arena_alloc(&p->arena, v->length * sizeof(Json), alignof(Json));
        if (!elements)
                return stop(p, -ENOMEM, NULL);
        for (uint32_t i = 0; i < v->length; i++)
                elements[i] = members[i].value;
        v->elements = elements;
        return 1;
}

static int compare_positions(const void *a, const void *b, void *members) {
        const Member *m = members;

        return strcmp(m[*(const uint32_t *)a].key, m[*(const uint32_t *)b].key);
}

static bool make_index(Member *members, uint32_t n) {
        uint32_t *index = (uint32_t *)(members + n);

        for (uint32_t i = 0; i < n; i++)
                index[i] = i;
        qsort_r(index, n, sizeof(uint32_t), compare_positions, members);
        for (uint32_t i = 1; i < n; i++)
                if (streq(members[index[i - 1]].key, members[index[i]].key))
                        return false;
        return true;
}

static bool keys_differ(const Member *members, uint32_t n) {
        for (uint32_t i = 1; i < n; i++)
                for (uint32_t j = 0; j < i; j++)
                        if (streq(members[i].key, members[j].key))
                                return false;
        return true;
}

static int on_end_object(void *ctx) {
        const Member *waiting;
        Parser *p = ctx;
        Json *v = close_container(p, &waiting);
        bool indexed = v->length > UNINDEXED_MAX;
        Member *members;

        v->members = NULL;
        if (v->length == 0)
                return 1;
        members = arena_alloc(&p->arena, v->length * (sizeof(Member) + (indexed ? sizeof(uint32_t) : 0)),
                        alignof(Member));
        if (!members)
                return stop(p, -ENOMEM, NULL);
        memcpy(members, waiting, v->length * sizeof(Member));
        v->members = members;
        if (indexed ? !make_index(members, v->length) : !keys_differ(members, v->length))
                return stop(p, -EBADMSG, "a key stands twice in this object");
        return 1;
}

/* The UTF-16 unit that is escaped at s, or 0. */
static unsigned escaped_unit(const char *s, const char *end) {
        unsigned unit = 0;

        if (end - s < 6 || s[0] != '\\' || s[1] != 'u')
                return 0;
        for (int i = 2; i < 6; i++) {
                char c = s[i] | 0x20;

                if (s[i] >= '0' && s[i] <= '9')
                        unit = unit << 4 | (unsigned)(s[i] - '0');
                else if (c >= 'a' && c <= 'f')
                        unit = unit << 4 | (unsigned)(c - 'a' + 10);
                else
                        return 0;
        }
        return unit;
}

/* yajl reads one half of a surrogate pair as '?' and swallows what follows. Valid JSON has backslashes
 * inside strings only, so there is no need to know where strings begin. */
static const char *find_lone_surrogate(const char *s, const char *end) {
        while (s < end && (s = memchr(s, '\\', (size_t)(end - s)))) {
                unsigned unit = escaped_unit(s, end) & 0xfc00;

                if (unit == 0xd800 && (escaped_unit(s + 6, end) & 0xfc00) == 0xdc00) {
                        s += 12;
                        continue;
                }
                if (unit == 0xd800 || unit == 0xdc00)
                        return s;
                s += 2;
        }
        return NULL;
}

static int report(Error **reterr, int r, const char *text, size_t position, const char *complaint) {
        size_t line = 1, line_start = 0;

        if (r == -ENOMEM)
                return error_set_errno(reterr, r, "Failed to read JSON");
        for (size_t i = 0; i < position; i++)
                if (text[i] == '\n') {
                        line++;
                        line_start = i + 1;
                }
        error_set(reterr, ERROR_FAILED, "%s at line %zu, column %zu: %s",
                        r == -EFBIG ? "JSON exceeds a limit" : "Not valid JSON", line,
                        position - line_start + 1, complaint);
        return r;
}

static int report_yajl(Error **reterr, yajl_handle y, const char *text, size_t position) {
        unsigned char *message = yajl_get_error(y, 0, NULL, 0);
        int r;

        if (message)
                message[strcspn((char *)message, "\n")] = '\0';
        r = report(reterr, -EBADMSG, text, position, message ? (char *)message : "unknown error");
        yajl_free_error(y, message);
        return r;
}

static int parse_text(Parser *p, const char *text, size_t len, Error **reterr) {
        static const yajl_callbacks callbacks = {
                .yajl_null = on_null,
                .yajl_boolean = on_boolean,
                .yajl_number = on_number,
                .yajl_string = on_string,
                .yajl_start_map = on_start_object,
                .yajl_map_key = on_key,
                .yajl_end_map = on_end_object,
                .yajl_start_array = on_start_array,
                .yajl_end_array = on_end_array,
        };
        yajl_handle y = yajl_alloc(&callbacks, NULL, p);
        yajl_status status;
        size_t position;
        int r = 0;

        if (!y)
                return report(reterr, -ENOMEM, NULL, 0, NULL);
        status = yajl_parse(y, (const unsigned char *)text, len);
        position = MAX(yajl_get_bytes_consumed(y), (size_t)1) - 1; /* the last byte of the offending token */
        if (status == yajl_status_ok) {
                position = len;
                status = yajl_complete_parse(y);
        }
        if (status == yajl_status_client_canceled)
                r = report(reterr, p->r, text, MIN(position, len), p->complaint);
        else if (status != yajl_status_ok)
                r = report_yajl(reterr, y, text, MIN(position, len));
        yajl_free(y);
        return r;
}

static Parser parser_init(const JsonLimits *limits) {
        Parser p = { .open = NOTHING_OPEN };

        p.limits.max_size = limits && limits->max_size > 0 ? limits->max_size : DEFAULT_SIZE;
        p.limits.max_depth = limits && limits->max_depth > 0 ? limits->max_depth : DEFAULT_DEPTH;
        p.limits.max_values = limits && limits->max_values > 0 ? limits->max_values : DEFAULT_VALUES;
        /* Lengths and positions are kept in 32 bits, and each value takes at least one byte of text. */
        p.limits.max_size = MIN(p.limits.max_size, (size_t)UINT32_MAX);
        return p;
}

/* Of what is complete. */
static int take_document(Parser *p, Json **ret) {
        Document *d = arena_alloc(&p->arena, sizeof(Document), alignof(Document));

        if (!d)
                return -ENOMEM;
        assert(p->n_stack == 1 && p->open == NOTHING_OPEN);
        d->root = p->stack[0].value;
        d->arena = TAKE_PTR(p->arena);
        *ret = &d->root;
        return 0;
}

int json_parse(const char *text, size_t len, const JsonLimits *limits, Json **ret, Error **reterr) {
        _cleanup_(parser_done) Parser p = parser_init(limits);
        const char *surrogate;
        int r;

        if (len > p.limits.max_size) {
                error_set(reterr, ERROR_FAILED, "JSON exceeds a limit: %zu bytes of text, %zu allowed", len,
                                p.limits.max_size);
                return -EFBIG;
        }
        if (len == 0)
                text = ""; /* NULL is fine for nothing, but not for yajl */
        surrogate = find_lone_surrogate(text, text + len);
        if (surrogate)
                return report(reterr, -EBADMSG, text, (size_t)(surrogate - text),
                                "half a surrogate pair in a string");

        /* Other locales may have another decimal point. */
        p.c_locale = newlocale(LC_ALL_MASK, "C", NULL);
        if (!p.c_locale)
                return report(reterr, -ENOMEM, NULL, 0, NULL);
        r = parse_text(&p, text, len, reterr);
        if (r < 0)
                return r;
        r = take_document(&p, ret);
        return r < 0 ? report(reterr, r, NULL, 0, NULL) : 0;
}

/* What builds a tree without a text calls what yajl would. */
struct JsonBuilder {
        Parser parser;
};

int json_builder_new(JsonBuilder **ret) {
        JsonBuilder *b = malloc(sizeof(JsonBuilder));

        if (!b)
                return -ENOMEM;
        b->parser = (Parser){ .open = NOTHING_OPEN };
        b->parser.limits = (JsonLimits){ .max_depth = DEFAULT_DEPTH, .max_values = UINT32_MAX };
        *ret = b;
        return 0;
}

JsonBuilder *json_builder_free(JsonBuilder *b) {
        if (b)
                parser_done(&b->parser);
        free(b);
        return NULL;
}

/* Whether a value (or, in an object, its key) can come now: the first failure sticks. */
static bool is_expected(JsonBuilder *b, bool key) {
        Parser *p = &b->parser;
        bool in_object = p->open != NOTHING_OPEN && p->stack[p->open].value.type == JSON_OBJECT;
        bool has_key = in_object && p->n_stack > p->open + 1 &&
                        p->stack[p->n_stack - 1].value.type == AWAITED;

        if (p->r < 0)
                return false;
        if (key ? in_object && !has_key : in_object ? has_key : p->open != NOTHING_OPEN || p->n_stack == 0)
                return true;
        return stop(p, -EINVAL, NULL);
}

void json_build_object(JsonBuilder *b) {
        if (is_expected(b, false))
                (void)on_start_object(&b->parser);
}

void json_build_array(JsonBuilder *b) {
        if (is_expected(b, false))
                (void)on_start_array(&b->parser);
}

void json_build_end(JsonBuilder *b) {
        Parser *p = &b->parser;

        if (p->r < 0)
                return;
        if (p->open == NOTHING_OPEN)
                (void)stop(p, -EINVAL, NULL);
        else if (p->stack[p->open].value.type == JSON_ARRAY)
                (void)on_end_array(p);
        else if (is_expected(b, true))
                (void)on_end_object(p);
}

void json_build_key(JsonBuilder *b, const char *key) {
        if (is_expected(b, true) && on_key(&b->parser, (const unsigned char *)key, strlen(key)))
                b->parser.stack[b->parser.n_stack - 1].value.type = AWAITED;
}

void json_build_string(JsonBuilder *b, const char *s) {
        if (is_expected(b, false))
                (void)on_string(&b->parser, (const unsigned char *)s, strlen(s));
}

void json_build_integer(JsonBuilder *b, int64_t v) {
        Json *value = is_expected(b, false) ? add_value(&b->parser, JSON_INTEGER) : NULL;

        if (value)
                value->integer = v;
}

void json_build_unsigned(JsonBuilder *b, uint64_t v) {
        Json *value = is_expected(b, false) ? add_value(&b->parser, JSON_INTEGER) : NULL;

        if (value) {
                value->natural = v;
                value->beyond_int64 = v > INT64_MAX;
        }
}

void json_build_real(JsonBuilder *b, double v) {
        Json *value = is_expected(b, false) ? add_value(&b->parser, JSON_REAL) : NULL;

        if (value && isfinite(v))
                value->real = v;
        else if (value)
                (void)stop(&b->parser, -EINVAL, NULL);
}

void json_build_boolean(JsonBuilder *b, bool v) {
        if (is_expected(b, false))
                (void)on_boolean(&b->parser, v);
}

void json_build_null(JsonBuilder *b) {
        if (is_expected(b, false))
                (void)on_null(&b->parser);
}

int json_builder_finish(JsonBuilder *b, Json **ret) {
        Parser *p = &b->parser;

        if (p->r >= 0 && (p->n_stack != 1 || p->open != NOTHING_OPEN))
                (void)stop(p, -EINVAL, NULL);
        return p->r < 0 ? p->r : take_document(p, ret);
}

Json *json_free(Json *v) {
        if (v)
                arena_free(((Document *)v)->arena);
        return NULL;
}

static bool is(const Json *v, JsonType type) {
        return v && v->type == type;
}

JsonType json_type(const Json *v) {
        return v ? (JsonType)v->type : _JSON_TYPE_INVALID;
}

bool json_is_null(const Json *v) {
        return !v || v->type == JSON_NULL;
}

const char *json_string(const Json *v) {
        return is(v, JSON_STRING) ? v->string : NULL;
}

int json_boolean(const Json *v) {
        return is(v, JSON_BOOLEAN) ? v->boolean : -EINVAL;
}

int json_integer(const Json *v, int64_t *ret) {
        if (!is(v, JSON_INTEGER) || v->beyond_int64)
                return -EINVAL;
        *ret = v->integer;
        return 0;
}

int json_unsigned(const Json *v, uint64_t *ret) {
        if (!is(v, JSON_INTEGER) || (!v->beyond_int64 && v->integer < 0))
                return -EINVAL;
        *ret = v->natural;
        return 0;
}

int json_real(const Json *v, double *ret) {
        if (is(v, JSON_REAL))
                *ret = v->real;
        else if (is(v, JSON_INTEGER))
                *ret = v->beyond_int64 ? (double)v->natural : (double)v->integer;
        else
                return -EINVAL;
        return 0;
}

size_t json_length(const Json *v) {
        return is(v, JSON_ARRAY) || is(v, JSON_OBJECT) ? v->length : 0;
}

const Json *json_element(const Json *array, size_t i) {
        return is(array, JSON_ARRAY) && i < array->length ? &array->elements[i] : NULL;
}

const char *json_key(const Json *object, size_t i) {
        return is(object, JSON_OBJECT) && i < object->length ? object->members[i].key : NULL;
}

const Json *json_member(const Json *object, size_t i) {
        return is(object, JSON_OBJECT) && i < object->length ? &object->members[i].value : NULL;
}

static const Json *find_indexed(const Json *object, const char *key) {
        const uint32_t *index = (const uint32_t *)(object->members + object->length);
        size_t low = 0, high = object->length;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const Member *m = &object->members[index[middle]];
                int c = strcmp(key, m->key);

                if (c == 0)
                        return &m->value;
                if (c < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

const Json *json_get(const Json *object, const char *key) {
        if (!is(object, JSON_OBJECT))
                return NULL;
        if (object->length > UNINDEXED_MAX)
                return find_indexed(object, key);
        for (uint32_t i = 0; i < object->length; i++)
                if (streq(object->members[i].key, key))
                        return &object->members[i].value;
        return NULL;
}
