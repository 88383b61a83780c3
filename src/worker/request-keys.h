/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The objects of a request, read by tables of their keys into structs. */

#include "util/error.h"
#include "json/json.h"

typedef struct RequestKey {
        const char *name; /* NULL ends a table */
        /* May set an error; else one that names the key is made. */
        int (*set)(const Json *v, void *field, Error **reterr);
        size_t offset; /* of the field */
} RequestKey;

/* Reads all members of the object into *fields. `where` says in messages where it stands; NULL: it is the
 * request itself. ERROR_UNKNOWN_OPTION or ERROR_INVALID_SPEC names the key. */
int request_read_object(
                const Json *object, const RequestKey *keys, const char *where, void *fields, Error **reterr);

/* A request as a whole. Once it is parsed, *ret_root owns it and lends the strings, also of an error. */
int request_read(const char *text, size_t len, const JsonLimits *limits, const RequestKey *keys,
                void *fields, Json **ret_root, Error **reterr);

/* For these types of fields: const char * (null is NULL), bool, uint64_t. */
int request_set_string(const Json *v, void *field, Error **reterr);
int request_set_boolean(const Json *v, void *field, Error **reterr);
int request_set_unsigned(const Json *v, void *field, Error **reterr);
