/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>

#include "request-keys.h"
#include "request.h"

#define DEFAULT_USER "vm"
#define HOSTNAME_MAX 64 /* Linux' own */
#define USER_NAME_MAX 32

static int set_format(const Json *v, void *field, Error **reterr) {
        ImageFormat f = image_format_from_string(json_string(v));

        if (((int)f < 0 && !json_is_null(v)) || image_format_is_foreign(f))
                return -EINVAL;
        *(ImageFormat *)field = f;
        return 0;
}

static int set_hostname(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        return s ? free_and_strdup(field, s) : json_is_null(v) ? 0 : -EINVAL;
}

static const RequestKey keys[] = {
        { "name", request_set_string, offsetof(Request, name) },
        { "instance-id", request_set_string, offsetof(Request, instance_id) },
        { "hostname", set_hostname, offsetof(Request, hostname) },
        { "user", request_set_string, offsetof(Request, user) },
        { "ssh-key", request_set_string, offsetof(Request, ssh_key) },
        { "generate-key", request_set_boolean, offsetof(Request, generate_key) },
        { "cloud-init", request_set_boolean, offsetof(Request, cloud_init) },
        { "image-format", set_format, offsetof(Request, image_format) },
        { "disk-size", request_set_unsigned, offsetof(Request, disk_size) },
        {},
};

/* Labels of letters, digits and inner dashes, with dots between (RFC 1123). */
static bool hostname_is_valid(const char *s) {
        size_t n = strlen(s);

        if (n == 0 || n > HOSTNAME_MAX)
                return false;
        for (size_t i = 0; i < n; i++) {
                bool edge = i == 0 || s[i - 1] == '.' || i == n - 1 || s[i + 1] == '.';

                if (!isalnum((unsigned char)s[i]) && (edge || (s[i] != '-' && s[i] != '.')))
                        return false;
        }
        return true;
}

/* A VM's name may hold '_' and end in anything; "vm" if nothing is left of it. */
static char *hostname_from_name(const char *name) {
        char *s = strdup(name);
        size_t n = 0;

        if (!s)
                return NULL;
        for (const char *p = name; *p && n < HOSTNAME_MAX; p++) {
                bool inner = n > 0 && isalnum((unsigned char)s[n - 1]);

                if (isalnum((unsigned char)*p))
                        s[n++] = *p;
                else if (inner)
                        s[n++] = *p == '.' ? '.' : '-';
        }
        while (n > 0 && !isalnum((unsigned char)s[n - 1]))
                n--;
        s[n] = '\0';
        if (n > 0)
                return s;
        free(s);
        return strdup("vm");
}

/* What every useradd takes. */
static bool user_is_valid(const char *s) {
        if (!isalpha((unsigned char)*s) && *s != '_')
                return false;
        for (const char *p = s; *p; p++)
                if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
                        return false;
        return strlen(s) <= USER_NAME_MAX;
}

/* From the service or a client, so the value is shown escaped. */
static int set_invalid(const char *what, const char *value, const char *rule, Error **reterr) {
        _cleanup_free_ char *shown = string_escape(value, strlen(value), 100);

        return error_set(reterr, ERROR_INVALID_SPEC, "%s '%s' is not valid: %s", what, shown ?: "", rule);
}

static int complete(Request *r, Error **reterr) {
        if (isempty(r->name))
                return error_set(reterr, ERROR_INVALID_SPEC, "'name' is missing");
        if (!r->user)
                r->user = DEFAULT_USER;
        if (!user_is_valid(r->user))
                return set_invalid("User name", r->user,
                                "it has 1 to 32 letters, digits, '-', '_' or '.', and starts with a letter "
                                "or '_'",
                                reterr);
        if (!r->hostname)
                r->hostname = hostname_from_name(r->name);
        if (!r->hostname)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the request");
        if (!hostname_is_valid(r->hostname))
                return set_invalid("Host name", r->hostname,
                                "it has 1 to 64 letters, digits, '-' and '.', and no '-' or '.' at an end "
                                "or beside a '.'",
                                reterr);
        if (r->cloud_init && isempty(r->instance_id))
                return error_set(reterr, ERROR_INVALID_SPEC, "'instance-id' is missing");
        if (r->ssh_key && r->generate_key)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "'ssh-key' and 'generate-key' exclude each other");
        return 0;
}

int request_parse(const char *text, size_t len, Request *ret, Error **reterr) {
        const JsonLimits limits = { .max_size = REQUEST_SIZE_MAX, .max_depth = 2, .max_values = 64 };
        int r;

        *ret = (Request){ .image_format = _IMAGE_FORMAT_INVALID };
        r = request_read(text, len, &limits, keys, ret, &ret->root, reterr);
        return r < 0 ? r : complete(ret, reterr);
}

void request_done(Request *r) {
        json_free(r->root);
        free(r->hostname);
        *r = (Request){ .image_format = _IMAGE_FORMAT_INVALID };
}
