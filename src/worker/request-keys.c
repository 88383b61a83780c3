/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "request-keys.h"
#include "util/string-util.h"

int request_set_string(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (!s && !json_is_null(v))
                return -EINVAL;
        *(const char **)field = s;
        return 0;
}

int request_set_boolean(const Json *v, void *field, Error **reterr) {
        int b = json_boolean(v);

        if (b < 0)
                return b;
        *(bool *)field = b;
        return 0;
}

int request_set_unsigned(const Json *v, void *field, Error **reterr) {
        return json_unsigned(v, field);
}

static int unknown_key(const char *name, const char *where, Error **reterr) {
        return where ? error_set(reterr, ERROR_UNKNOWN_OPTION, "%s has no option '%s'", where, name)
                     : error_set(reterr, ERROR_UNKNOWN_OPTION, "There is no option '%s'", name);
}

static int read_member(const char *name, const Json *value, const RequestKey *keys, const char *where,
                void *fields, Error **reterr) {
        _cleanup_error_ Error *e = NULL;
        const RequestKey *key = keys;
        int r;

        while (key->name && !streq(key->name, name))
                key++;
        if (!key->name)
                return unknown_key(name, where, reterr);
        r = key->set(value, (char *)fields + key->offset, &e);
        if (r >= 0)
                return 0;
        if (e)
                return error_set(reterr, error_code(e), "%s", error_message(e));
        return error_set(reterr, ERROR_INVALID_SPEC, "'%s' has no valid value%s%s", name,
                        where ? " in " : "", where ?: "");
}

int request_read_object(const Json *object, const RequestKey *keys, const char *where, void *fields,
                Error **reterr) {
        if (json_type(object) != JSON_OBJECT)
                return error_set(reterr, ERROR_INVALID_SPEC, "%s is no JSON object", where ?: "The request");
        for (size_t i = 0; i < json_length(object); i++) {
                int r = read_member(
                                json_key(object, i), json_member(object, i), keys, where, fields, reterr);

                if (r < 0)
                        return r;
        }
        return 0;
}

int request_read(const char *text, size_t len, const JsonLimits *limits, const RequestKey *keys,
                void *fields, Json **ret_root, Error **reterr) {
        int r = json_parse(text, len, limits, ret_root, reterr);

        return r < 0 ? r : request_read_object(*ret_root, keys, NULL, fields, reterr);
}
