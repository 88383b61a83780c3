/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Checks for unit tests: they hold in every build type, and say what was there instead. A test program's
 * main() calls its test functions one after another; the first failure ends it. */

#include <inttypes.h>
#include <stdio.h>

#include "string-util.h"

#define TEST_FAIL(...)                                                        \
        do {                                                                  \
                fprintf(stderr, "%s:%d: check failed: ", __FILE__, __LINE__); \
                fprintf(stderr, __VA_ARGS__);                                 \
                fputc('\n', stderr);                                          \
                abort();                                                      \
        } while (false)

#define CHECK(expr)                             \
        do {                                    \
                if (!(expr))                    \
                        TEST_FAIL("%s", #expr); \
        } while (false)

/* Integers of any type up to int64. */
#define CHECK_EQ(a, b)                                                                         \
        do {                                                                                   \
                int64_t _x = (int64_t)(a), _y = (int64_t)(b);                                  \
                if (_x != _y)                                                                  \
                        TEST_FAIL("%s is %" PRId64 ", expected %s, %" PRId64, #a, _x, #b, _y); \
        } while (false)

/* Strings, NULL included. */
#define CHECK_STREQ(a, b)                                                                               \
        do {                                                                                            \
                const char *_x = (a), *_y = (b);                                                        \
                if (!streq_ptr(_x, _y))                                                                 \
                        TEST_FAIL("%s is \"%s\", expected \"%s\"", #a, _x ?: "(null)", _y ?: "(null)"); \
        } while (false)
