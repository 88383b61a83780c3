/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One table of keys for each kind of object; what belongs together is checked once all are read. */
#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>

#include "provision-request.h"
#include "request-keys.h"

#define USER_MAX 256
#define MODE_MAX 07777

static const char *const step_kind_table[] = {
        [STEP_SHELL] = "shell",
        [STEP_SCRIPT] = "script",
        [STEP_FILE] = "file",
        [STEP_DIRECTORY] = "directory",
};
DEFINE_STRING_TABLE(step_kind, StepKind, _STEP_KIND_MAX);

static const char *const copy_place_table[] = {
        [COPY_AS_FOUND] = "as-found",
        [COPY_INSIDE] = "inside",
        [COPY_ITSELF] = "itself",
};
DEFINE_STRING_TABLE(copy_place, CopyPlace, _COPY_PLACE_MAX);

static int set_host(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);
        struct in6_addr address;

        if (!s || (inet_pton(AF_INET, s, &address) != 1 && inet_pton(AF_INET6, s, &address) != 1))
                return -EINVAL;
        *(const char **)field = s;
        return 0;
}

static int set_port(const Json *v, void *field, Error **reterr) {
        uint64_t port;

        if (json_unsigned(v, &port) < 0 || port == 0 || port > UINT16_MAX)
                return -EINVAL;
        *(uint16_t *)field = (uint16_t)port;
        return 0;
}

static int set_user(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (isempty(s) || strlen(s) > USER_MAX)
                return -EINVAL;
        *(const char **)field = s;
        return 0;
}

static int set_kind(const Json *v, void *field, Error **reterr) {
        StepKind kind = step_kind_from_string(json_string(v));

        if ((int)kind < 0)
                return -EINVAL;
        *(StepKind *)field = kind;
        return 0;
}

static int set_inline(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (isempty(s) || strlen(s) > PROVISION_INLINE_MAX)
                return -EINVAL;
        *(const char **)field = s;
        return 0;
}

/* A newline in it would only ever be a mistake, and no login shell agrees with the next on how to quote it.
 */
static int set_path(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (isempty(s) || strlen(s) > PROVISION_PATH_MAX || strpbrk(s, "\r\n"))
                return -EINVAL;
        *(const char **)field = s;
        return 0;
}

static int set_absolute_path(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        return s && *s == '/' ? set_path(v, field, reterr) : -EINVAL;
}

static int set_file_name(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (!s || strchr(s, '/') || streq(s, ".") || streq(s, ".."))
                return -EINVAL;
        return set_path(v, field, reterr);
}

static int set_mode(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);
        unsigned long mode;
        char *end;

        if (json_is_null(v))
                return 0;
        if (isempty(s) || strspn(s, "01234567") != strlen(s))
                return -EINVAL;
        mode = strtoul(s, &end, 8);
        if (mode > MODE_MAX)
                return -EINVAL;
        *(mode_t *)field = (mode_t)mode;
        return 0;
}

static bool env_name_is_valid(const char *s) {
        if (!isalpha((unsigned char)*s) && *s != '_')
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char)*s) && *s != '_')
                        return false;
        return true;
}

static int set_env(const Json *v, void *field, Error **reterr) {
        size_t size = 0;

        if (json_type(v) != JSON_OBJECT)
                return -EINVAL;
        for (size_t i = 0; i < json_length(v); i++) {
                const char *value = json_string(json_member(v, i));

                if (!value || !env_name_is_valid(json_key(v, i)))
                        return -EINVAL;
                size += strlen(json_key(v, i)) + strlen(value);
        }
        if (size > PROVISION_ENV_MAX)
                return -EINVAL;
        *(const Json **)field = v;
        return 0;
}

static int set_direction(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (!streq_ptr(s, "from") && !streq_ptr(s, "to"))
                return -EINVAL;
        *(bool *)field = streq(s, "from");
        return 0;
}

static int set_place(const Json *v, void *field, Error **reterr) {
        CopyPlace place = copy_place_from_string(json_string(v));

        if ((int)place < 0)
                return -EINVAL;
        *(CopyPlace *)field = place;
        return 0;
}

static int set_later(const Json *v, void *field, Error **reterr) {
        return 0;
}

#define FIELD(type, field) offsetof(type, field)

static const RequestKey request_keys[] = {
        { "host", set_host, FIELD(ProvisionRequest, host) },
        { "port", set_port, FIELD(ProvisionRequest, port) },
        { "user", set_user, FIELD(ProvisionRequest, user) },
        { "wait-usec", request_set_unsigned, FIELD(ProvisionRequest, wait_usec) },
        { "auth-retry-usec", request_set_unsigned, FIELD(ProvisionRequest, auth_retry_usec) },
        { "log-in", request_set_boolean, FIELD(ProvisionRequest, log_in) },
        { "cloud-init", request_set_boolean, FIELD(ProvisionRequest, cloud_init) },
        { "steps", set_later, 0 },
        { "copy", set_later, 0 },
        {},
};

static const RequestKey shell_keys[] = {
        { "kind", set_kind, FIELD(ProvisionStep, kind) },
        { "inline", set_inline, FIELD(ProvisionStep, text) },
        { "env", set_env, FIELD(ProvisionStep, env) },
        { "timeout-usec", request_set_unsigned, FIELD(ProvisionStep, timeout_usec) },
        {},
};

static const RequestKey script_keys[] = {
        { "kind", set_kind, FIELD(ProvisionStep, kind) },
        { "file", request_set_unsigned, FIELD(ProvisionStep, file) },
        { "name", request_set_string, FIELD(ProvisionStep, name) },
        { "env", set_env, FIELD(ProvisionStep, env) },
        { "timeout-usec", request_set_unsigned, FIELD(ProvisionStep, timeout_usec) },
        {},
};

static const RequestKey file_keys[] = {
        { "kind", set_kind, FIELD(ProvisionStep, kind) },
        { "file", request_set_unsigned, FIELD(ProvisionStep, file) },
        { "destination", set_absolute_path, FIELD(ProvisionStep, destination) },
        { "mode", set_mode, FIELD(ProvisionStep, mode) },
        { "parents", request_set_boolean, FIELD(ProvisionStep, parents) },
        { "sudo", request_set_boolean, FIELD(ProvisionStep, sudo) },
        { "timeout-usec", request_set_unsigned, FIELD(ProvisionStep, timeout_usec) },
        {},
};

static const RequestKey directory_keys[] = {
        { "kind", set_kind, FIELD(ProvisionStep, kind) },
        { "file", request_set_unsigned, FIELD(ProvisionStep, file) },
        { "destination", set_absolute_path, FIELD(ProvisionStep, destination) },
        { "sudo", request_set_boolean, FIELD(ProvisionStep, sudo) },
        { "timeout-usec", request_set_unsigned, FIELD(ProvisionStep, timeout_usec) },
        {},
};

static const RequestKey copy_keys[] = {
        { "direction", set_direction, FIELD(ProvisionCopy, from) },
        { "file", request_set_unsigned, FIELD(ProvisionCopy, file) },
        { "path", set_path, FIELD(ProvisionCopy, path) },
        { "name", set_file_name, FIELD(ProvisionCopy, name) },
        { "preserve", request_set_boolean, FIELD(ProvisionCopy, preserve) },
        { "place", set_place, FIELD(ProvisionCopy, place) },
        { "recursive", request_set_boolean, FIELD(ProvisionCopy, recursive) },
        {},
};

static const RequestKey *const step_keys[] = {
        [STEP_SHELL] = shell_keys,
        [STEP_SCRIPT] = script_keys,
        [STEP_FILE] = file_keys,
        [STEP_DIRECTORY] = directory_keys,
};
_Static_assert(ELEMENTSOF(step_keys) == _STEP_KIND_MAX, "a kind of step has no keys");

static int check_file(const Json *object, uint64_t file, size_t n_files, const char *where, Error **reterr) {
        if (json_is_null(json_get(object, "file")))
                return error_set(reterr, ERROR_INVALID_SPEC, "'file' is missing in %s", where);
        if (file >= n_files)
                return error_set(reterr, ERROR_INVALID_SPEC, "%s names file %" PRIu64 " of %zu", where, file,
                                n_files);
        return 0;
}

static int parse_step(
                const Json *object, size_t n_files, const char *where, ProvisionStep *ret, Error **reterr) {
        StepKind kind = step_kind_from_string(json_get_string(object, "kind"));
        int r;

        if ((int)kind < 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "'kind' has no valid value in %s", where);
        *ret = (ProvisionStep){ .mode = PROVISION_MODE_UNSET };
        r = request_read_object(object, step_keys[kind], where, ret, reterr);
        if (r < 0)
                return r;
        if (kind == STEP_SHELL && !ret->text)
                return error_set(reterr, ERROR_INVALID_SPEC, "'inline' is missing in %s", where);
        if ((kind == STEP_FILE || kind == STEP_DIRECTORY) && !ret->destination)
                return error_set(reterr, ERROR_INVALID_SPEC, "'destination' is missing in %s", where);
        return kind == STEP_SHELL ? 0 : check_file(object, ret->file, n_files, where, reterr);
}

static int parse_steps(ProvisionRequest *q, const Json *steps, size_t n_files, Error **reterr) {
        size_t n = json_length(steps);

        if (json_is_null(steps))
                return 0;
        if (json_type(steps) != JSON_ARRAY || n > PROVISION_STEPS_MAX)
                return error_set(reterr, ERROR_INVALID_SPEC, "'steps' is no list of at most %i steps",
                                PROVISION_STEPS_MAX);
        q->steps = calloc(n + 1, sizeof(ProvisionStep));
        if (!q->steps)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the request");
        for (; q->n_steps < n; q->n_steps++) {
                _cleanup_free_ char *where = strf("step %zu", q->n_steps + 1);
                int r;

                r = parse_step(json_element(steps, q->n_steps), n_files, where ?: "a step",
                                q->steps + q->n_steps, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_copy(ProvisionRequest *q, const Json *object, size_t n_files, Error **reterr) {
        int r;

        if (json_is_null(object))
                return 0;
        r = request_read_object(object, copy_keys, "'copy'", &q->copy, reterr);
        if (r < 0)
                return r;
        if (json_is_null(json_get(object, "direction")) || !q->copy.path || !q->copy.name)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "'copy' needs all of 'direction', 'path' and 'name'");
        q->copy.set = true;
        return check_file(object, q->copy.file, n_files, "'copy'", reterr);
}

int provision_request_parse(
                const char *text, size_t len, size_t n_files, ProvisionRequest *ret, Error **reterr) {
        const JsonLimits limits = { .max_size = PROVISION_REQUEST_SIZE_MAX, .max_depth = 4 };
        int r;

        *ret = (ProvisionRequest){
                .host = "127.0.0.1",
                .wait_usec = PROVISION_WAIT_USEC,
                .log_in = true,
                .cloud_init = true,
                .copy.recursive = true,
        };
        r = request_read(text, len, &limits, request_keys, ret, &ret->root, reterr);
        if (r >= 0 && !ret->user)
                r = error_set(reterr, ERROR_INVALID_SPEC, "'user' is missing");
        if (r >= 0)
                r = parse_steps(ret, json_get(ret->root, "steps"), n_files, reterr);
        if (r >= 0)
                r = parse_copy(ret, json_get(ret->root, "copy"), n_files, reterr);
        if (r >= 0 && ret->copy.set && ret->n_steps > 0)
                r = error_set(reterr, ERROR_INVALID_SPEC, "'steps' and 'copy' exclude each other");
        if (r >= 0 && !ret->log_in && (ret->copy.set || ret->n_steps > 0))
                r = error_set(reterr, ERROR_INVALID_SPEC, "'steps' and 'copy' need a log-in");
        return r;
}

void provision_request_done(ProvisionRequest *r) {
        json_free(r->root);
        free(r->steps);
        *r = (ProvisionRequest){};
}
