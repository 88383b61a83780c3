/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Strings, NULL-terminated string vectors, and tables between enums and strings. */

#include <stdarg.h>

#include "macro.h"

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}
static inline bool streq_ptr(const char *a, const char *b) {
        return a == b || (a && b && streq(a, b));
}
static inline bool isempty(const char *s) {
        return !s || *s == '\0';
}

/* The rest of s behind prefix, or NULL if s does not start with it. */
static inline const char *startswith(const char *s, const char *prefix) {
        size_t n = strlen(prefix);

        return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

static inline bool endswith(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && streq(s + n - m, suffix);
}

/* asprintf() that returns NULL when memory is short. The caller frees the result. */
char *strf(const char *format, ...) _printf_(1, 2);

/* Replaces *p by a copy of s (NULL allowed). Returns 0 or -ENOMEM; *p is untouched on failure. */
int free_and_strdup(char **p, const char *s);

/* In a vector of pointers to what has a name, sorted by that: the index of the first one that is not below
 * `name`. */
size_t sorted_position(
                const void *vector, size_t n, const char *(*name_of)(const void *element), const char *name);

/* Whole-string numbers in base 10. Return 0, -EINVAL (not a number) or -ERANGE. */
int parse_u64(const char *s, uint64_t *ret);
int parse_u32(const char *s, uint32_t *ret);

/* A size in bytes: a number with an optional suffix K, M, G or T (powers of 1024, "iB" or "B" may follow).
 * A bare number counts in units of `unit` bytes. Returns 0, -EINVAL or -ERANGE. */
int parse_size(const char *s, uint64_t unit, uint64_t *ret);

/* For people, exactly: in the largest unit of which it is a whole number, as "512 bytes" or "10 GiB".
 * FORMAT_SIZE() keeps the text until the end of the block. */
#define FORMAT_SIZE_MAX 32
const char *format_size(uint64_t bytes, char buf[static FORMAT_SIZE_MAX]);
#define FORMAT_SIZE(bytes) format_size((bytes), (char[FORMAT_SIZE_MAX]){})

/* Writes control characters and bytes that are not UTF-8 as \xNN, at most max bytes of input, so that text
 * from a guest or QEMU can be shown on a terminal and put in a D-Bus string. NULL when memory is short. */
char *string_escape(const char *s, size_t len, size_t max);

bool is_zero(const void *data, size_t len);

/* Two lower-case digits for each byte, and a NUL: 2 * len + 1 bytes. */
void hex_encode(const void *data, size_t len, char *ret);

/* The code point at s and its length in bytes, 1 to 4; 0 when there is none, or no UTF-8 (RFC 3629: neither
 * surrogates nor anything overlong), and *ret is untouched. */
size_t utf8_decode(const char *s, size_t len, uint32_t *ret);

/* Writes a code point up to U+10FFFF as 1 to 4 bytes; returns how many. */
size_t utf8_encode(uint32_t c, char *s);

bool utf8_is_valid(const char *s, size_t len);

/* A growing vector of owned strings, always NULL-terminated. `char **v = NULL` is the empty vector. */
char **strv_free(char **v);
DEFINE_CLEANUP(char **, strv_free);
#define _cleanup_strv_ _cleanup_(strv_freep)
size_t strv_length(char *const *v);
bool strv_contains(char *const *v, const char *s);
int strv_push(char ***v, char *s);         /* takes s, also on failure; NULL s is -ENOMEM */
int strv_extend(char ***v, const char *s); /* copies s */
int strv_extendf(char ***v, const char *format, ...) _printf_(2, 3);

#define STRV_FOREACH(s, v) for (char *const *s = (v); s && *s; s++)

/* name_to_string() and name_from_string() over the array name_table[]; unknown: NULL and -EINVAL. */
#define DECLARE_STRING_TABLE(name, type)          \
        const char *name##_to_string(type value); \
        type name##_from_string(const char *s)

#define DEFINE_STRING_TABLE(name, type, max)                                                          \
        _Static_assert(ELEMENTSOF(name##_table) == (max), "string table of " #name " is incomplete"); \
        const char *name##_to_string(type value) {                                                    \
                return (int)value >= 0 && value < (max) ? name##_table[value] : NULL;                 \
        }                                                                                             \
        type name##_from_string(const char *s) {                                                      \
                for (int i = 0; s && i < (int)(max); i++)                                             \
                        if (streq(name##_table[i], s))                                                \
                                return (type)i;                                                       \
                return (type)-EINVAL;                                                                 \
        }                                                                                             \
        _Static_assert(1, "")
