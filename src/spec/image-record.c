/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <strings.h>

#include "image-record.h"
#include "name.h"
#include "util/string-util.h"

/* The strings, by key: one list for writing, reading and freeing. */
static const struct {
        const char *key;
        size_t offset;
        bool required;
} string_table[] = {
        { "name", offsetof(ImageRecord, name), true },
        { "uuid", offsetof(ImageRecord, uuid), true },
        { "format", offsetof(ImageRecord, format), true },
        { "source-format", offsetof(ImageRecord, source_format), true },
        { "content-digest", offsetof(ImageRecord, content_digest), true },
        { "url", offsetof(ImageRecord, url), false },
        { "final-url", offsetof(ImageRecord, final_url), false },
        { "sha256", offsetof(ImageRecord, sha256), false },
        { "etag", offsetof(ImageRecord, etag), false },
        { "last-modified", offsetof(ImageRecord, last_modified), false },
};

static const struct {
        const char *key;
        size_t offset;
} number_table[] = {
        { "virtual-size", offsetof(ImageRecord, virtual_size) },
        { "size", offsetof(ImageRecord, size) },
        { "allocated", offsetof(ImageRecord, allocated) },
        { "created", offsetof(ImageRecord, created) },
};

static char **string_at(const ImageRecord *rec, size_t i) {
        return (char **)((uint8_t *)rec + string_table[i].offset);
}

static uint64_t *number_at(const ImageRecord *rec, size_t i) {
        return (uint64_t *)((uint8_t *)rec + number_table[i].offset);
}

bool image_format_is_usable(const char *format) {
        return streq_ptr(format, "raw") || streq_ptr(format, "qcow2");
}

void image_record_done(ImageRecord *rec) {
        for (size_t i = 0; i < ELEMENTSOF(string_table); i++)
                free(*string_at(rec, i));
        *rec = (ImageRecord){};
}

int image_record_format(const ImageRecord *rec, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(JSON_WRITER_PRETTY, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_unsigned(w, "version", IMAGE_RECORD_VERSION);
        json_put_unsigned(w, "owner", rec->owner);
        json_put_boolean(w, "shared", rec->shared);
        for (size_t i = 0; i < ELEMENTSOF(string_table); i++)
                if (*string_at(rec, i))
                        json_put_string(w, string_table[i].key, *string_at(rec, i));
        for (size_t i = 0; i < ELEMENTSOF(number_table); i++)
                json_put_unsigned(w, number_table[i].key, *number_at(rec, i));
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int wrong(const char *key, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE, "'%s' is missing or not valid", key), -EBADMSG;
}

static int read_strings(const Json *doc, ImageRecord *rec, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(string_table); i++) {
                const char *s = json_get_string(doc, string_table[i].key);
                int r;

                if (!s && (string_table[i].required || json_get(doc, string_table[i].key)))
                        return wrong(string_table[i].key, reterr);
                r = free_and_strdup(string_at(rec, i), s);
                if (r < 0)
                        return r;
        }
        if (!vm_name_is_valid(rec->name))
                return wrong("name", reterr);
        return image_format_is_usable(rec->format) ? 0 : wrong("format", reterr);
}

static int read_document(const Json *doc, ImageRecord *rec, Error **reterr) {
        uint64_t version, owner;
        int r;

        if (json_get_unsigned(doc, "version", &version) < 0)
                return wrong("version", reterr);
        if (version < 1 || version > IMAGE_RECORD_VERSION)
                return error_set(reterr, ERROR_NOT_SUPPORTED,
                                "It has version %" PRIu64 ", this service knows 1 to %i", version,
                                IMAGE_RECORD_VERSION);
        if (json_get_unsigned(doc, "owner", &owner) < 0 || owner >= UINT32_MAX)
                return wrong("owner", reterr);
        rec->owner = (uid_t)owner;
        r = json_get_boolean(doc, "shared");
        if (r < 0)
                return wrong("shared", reterr);
        rec->shared = r > 0;
        for (size_t i = 0; i < ELEMENTSOF(number_table); i++)
                if (json_get_unsigned(doc, number_table[i].key, number_at(rec, i)) < 0)
                        return wrong(number_table[i].key, reterr);
        return read_strings(doc, rec, reterr);
}

int image_record_read(const Json *doc, ImageRecord *ret, Error **reterr) {
        ImageRecord rec = {};
        int r;

        r = read_document(doc, &rec, reterr);
        if (r < 0) {
                image_record_done(&rec);
                return r;
        }
        *ret = rec;
        return 0;
}

int image_record_parse(const char *text, size_t len, ImageRecord *ret, Error **reterr) {
        const JsonLimits limits = { .max_size = IMAGE_RECORD_MAX_SIZE };
        _cleanup_json_ Json *doc = NULL;
        int r;

        r = json_parse(text, len, &limits, &doc, reterr);
        return r < 0 ? r : image_record_read(doc, ret, reterr);
}

int url_check(const char *url, Error **reterr) {
        const char *scheme_end = strstr(url, "://");

        if (!scheme_end || strlen(url) > IMAGE_URL_MAX)
                return error_set(reterr, ERROR_INVALID_URL, "'%.100s' is no URL", url);
        for (const char *c = url; *c; c++)
                if ((unsigned char)*c <= ' ' || *c == 0x7f)
                        return error_set(reterr, ERROR_INVALID_URL,
                                        "The URL '%.100s' holds a blank or a control character", url);
        for (const char *const *s = (const char *const[]){ "https://", "http://", "file:///", NULL }; *s;
                        s++)
                if (strncasecmp(url, *s, strlen(*s)) == 0 && url[strlen(*s)] != '\0')
                        return 0;
        return error_set(reterr, ERROR_INVALID_URL, "URLs of the kind '%.*s' are not taken",
                        (int)(scheme_end - url), url);
}

char *url_without_credentials(const char *url) {
        const char *authority = strstr(url, "://"), *end, *at = NULL;

        if (!authority)
                return strdup(url);
        authority += strlen("://");
        end = authority + strcspn(authority, "/?#");
        for (const char *c = authority; c < end; c++)
                if (*c == '@')
                        at = c;
        return at ? strf("%.*s%s", (int)(authority - url), url, at + 1) : strdup(url);
}

static bool strip_ending(char *name) {
        static const char *const endings[] = { ".qcow2", ".img", ".raw", ".vmdk", ".vdi", ".vhdx", ".vhd",
                ".vpc", ".tar", ".tgz", ".oci", ".zst", ".zstd", ".gz", ".xz", ".bz2" };
        size_t n = strlen(name);

        for (size_t i = 0; i < ELEMENTSOF(endings); i++) {
                size_t m = strlen(endings[i]);

                if (n > m && strcasecmp(name + n - m, endings[i]) == 0) {
                        name[n - m] = '\0';
                        return true;
                }
        }
        return false;
}

char *image_name_from_path(const char *path) {
        size_t end = strcspn(path, "?#"), start = end;
        _cleanup_free_ char *name = NULL;
        char *first;

        while (start > 0 && path[start - 1] != '/')
                start--;
        name = strndup(path + start, end - start);
        if (!name)
                return NULL;
        while (strip_ending(name))
                ;
        for (char *c = name; *c; c++)
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", *c))
                        *c = '-';
        first = name + strspn(name, ".-");
        if (strlen(first) > VM_NAME_MAX)
                first[VM_NAME_MAX] = '\0';
        return vm_name_is_valid(first) ? strdup(first) : NULL;
}
