/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <unistd.h>

#include "pull-request.h"
#include "pull-state.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "json/json.h"

#define VERSION 1
#define STATE_SIZE_MAX (64 * KIB)

static char boot_id[37]; /* a UUID */

int pull_state_init(Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", STATE_SIZE_MAX, &text, NULL);
        if (r >= 0 && strlen(text) < sizeof(boot_id) - 1)
                r = -EINVAL;
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the boot ID");
        memcpy(boot_id, text, sizeof(boot_id) - 1);
        return 0;
}

void pull_state_done(PullState *s) {
        free(s->url);
        free(s->effective);
        free(s->etag);
        free(s->last_modified);
        *s = (PullState){};
}

const char *pull_state_validator(const PullState *s) {
        if (s->etag && !startswith(s->etag, "W/"))
                return s->etag;
        return !s->etag && s->strong_date ? s->last_modified : NULL;
}

static int take_header(const Json *root, const char *key, char **ret) {
        const char *s = json_get_string(root, key);

        return s && header_value_is_valid(s) ? free_and_strdup(ret, s) : 0;
}

static int take(const Json *root, PullState *s) {
        uint64_t version;

        if (json_get_unsigned(root, "version", &version) < 0 || version != VERSION ||
                        !streq_ptr(json_get_string(root, "boot-id"), boot_id))
                return -ESTALE;
        if (!json_get_string(root, "url") || !json_get_string(root, "effective-url") ||
                        json_get_unsigned(root, "length", &s->length) < 0 || s->length > INT64_MAX)
                return -EBADMSG;
        s->strong_date = json_get_boolean(root, "strong-date") > 0;
        if (free_and_strdup(&s->url, json_get_string(root, "url")) < 0 ||
                        free_and_strdup(&s->effective, json_get_string(root, "effective-url")) < 0 ||
                        take_header(root, "etag", &s->etag) < 0 ||
                        take_header(root, "last-modified", &s->last_modified) < 0)
                return -ENOMEM;
        return 0;
}

int pull_state_read(int fd, PullState *ret) {
        const JsonLimits limits = { .max_size = STATE_SIZE_MAX, .max_depth = 2, .max_values = 64 };
        _cleanup_(pull_state_done) PullState s = {};
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ Json *root = NULL;
        size_t len;

        if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0 || read_all(fd, STATE_SIZE_MAX, &text, &len) < 0)
                return 0;
        if (json_parse(text, len, &limits, &root, NULL) < 0 || take(root, &s) < 0)
                return 0;
        *ret = s;
        s = (PullState){};
        return 1;
}

static int format(const PullState *s, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(JSON_WRITER_PRETTY, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_unsigned(w, "version", VERSION);
        json_put_string(w, "boot-id", boot_id);
        json_put_string(w, "url", s->url);
        json_put_string(w, "effective-url", s->effective);
        json_put_string(w, "etag", s->etag);
        json_put_string(w, "last-modified", s->last_modified);
        json_put_boolean(w, "strong-date", s->strong_date);
        json_put_unsigned(w, "length", s->length);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

int pull_state_write(int fd, const PullState *s, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        size_t len = 0;
        int r = 0;

        if (fd < 0)
                return 0;
        if (s)
                r = format(s, &text, &len);
        if (r >= 0 && (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0))
                r = -errno;
        if (r >= 0)
                r = write_all(fd, text, len);
        return r < 0 ? error_set_errno(reterr, r, "Failed to write down the state of the transfer") : 0;
}
