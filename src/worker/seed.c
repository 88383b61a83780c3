/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdint.h> /* which libisofs.h does not include, but needs */

#define LIBISOFS_WITHOUT_LIBBURN /* lets the header declare struct burn_source itself */
#include <libisofs/libisofs.h>

#include "seed.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "json/json.h"

#define SEED_LABEL "cidata"
#define BLOCK_SIZE 2048 /* ISO 9660's; libisofs hands out whole ones alone */

static void write_keys(JsonWriter *w, char *const *keys) {
        if (strv_length(keys) == 0)
                return;
        json_write_key(w, "ssh_authorized_keys");
        json_write_array(w);
        STRV_FOREACH(key, keys)
                json_write_string(w, *key);
        json_write_end(w);
}

static void write_user(JsonWriter *w, const SeedConfig *c) {
        bool root = streq(c->user, "root"); /* is there already, and its password stays as it is */

        json_write_key(w, "users");
        json_write_array(w);
        json_write_object(w);
        json_put_string(w, "name", c->user);
        if (!root) {
                json_put_string(w, "sudo", "ALL=(ALL) NOPASSWD:ALL");
                json_put_string(w, "shell", "/bin/bash");
        }
        json_put_boolean(w, "lock_passwd", !root);
        write_keys(w, c->keys);
        json_write_end(w);
        json_write_end(w);
}

static void write_growpart(JsonWriter *w) {
        json_write_key(w, "growpart");
        json_write_object(w);
        json_put_string(w, "mode", "auto");
        json_write_key(w, "devices");
        json_write_array(w);
        json_write_string(w, "/");
        json_write_end(w);
        json_put_boolean(w, "ignore_growroot_disabled", false);
        json_write_end(w);
        json_put_boolean(w, "resize_rootfs", true);
}

static int finish(JsonWriter *w, const char *prefix, char **ret, size_t *ret_len, Error **reterr) {
        _cleanup_free_ char *json = NULL;
        char *text;
        int r;

        r = json_writer_finish(w, &json, NULL);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to write the cloud-init configuration");
        text = strf("%s%s", prefix, json);
        if (!text)
                return error_set_errno(reterr, -ENOMEM, "Failed to write the cloud-init configuration");
        *ret_len = strlen(text);
        *ret = text;
        return 0;
}

int seed_make_user_data(const SeedConfig *c, char **ret, size_t *ret_len, Error **reterr) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(JSON_WRITER_PRETTY, &w);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to write the cloud-init configuration");
        json_write_object(w);
        json_put_string(w, "hostname", c->hostname);
        json_put_boolean(w, "preserve_hostname", false);
        /* "localhost" keeps the name in /etc/hosts, without which sudo complains at each call, and leaves
         * the rest of the file alone, which true would replace at each boot. */
        json_put_string(w, "manage_etc_hosts", "localhost");
        json_put_boolean(w, "disable_root", !streq(c->user, "root"));
        json_put_boolean(w, "ssh_pwauth", false);
        write_user(w, c);
        write_growpart(w);
        json_write_end(w);
        return finish(w, "#cloud-config\n", ret, ret_len, reterr);
}

int seed_make_meta_data(const SeedConfig *c, char **ret, size_t *ret_len, Error **reterr) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(JSON_WRITER_PRETTY, &w);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to write the cloud-init configuration");
        json_write_object(w);
        json_put_string(w, "instance-id", c->instance_id);
        json_put_string(w, "local-hostname", c->hostname);
        json_write_end(w);
        return finish(w, "", ret, ret_len, reterr);
}

int seed_check_user_data(const char *data, size_t len, Error **reterr) {
        static const char *const beginnings[] = {
                "#cloud-config", "#cloud-boothook", "#include", "#part-handler", "#!", "## template: jinja",
                "Content-Type:", "MIME-Version:", "\x1f\x8b", /* any of the others, compressed by gzip */
        };
        const char *end = memchr(data, '\n', len);
        _cleanup_free_ char *line = NULL;

        if (len == 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "The user-data file is empty");
        for (size_t i = 0; i < ELEMENTSOF(beginnings); i++)
                if (len >= strlen(beginnings[i]) &&
                                strncasecmp(data, beginnings[i], strlen(beginnings[i])) == 0)
                        return 0;
        line = string_escape(data, end ? (size_t)(end - data) : len, 60);
        return error_set(reterr, ERROR_INVALID_SPEC,
                        "The user-data file begins with '%s', which cloud-init would ignore: its first line "
                        "has to be '#cloud-config', or '#!' and an interpreter, '#include', "
                        "'#cloud-boothook', '## template: jinja' or a MIME header",
                        line ?: "");
}

static int set_iso_error(Error **reterr, int code) {
        if (code == (int)ISO_OUT_OF_MEM)
                return error_set_errno(reterr, -ENOMEM, "Failed to make the cloud-init disk");
        return error_set(reterr, ERROR_FAILED, "Failed to make the cloud-init disk: %s",
                        iso_error_to_msg(code));
}

static int add_file(IsoImage *image, const SeedFile *file, Error **reterr) {
        unsigned char *copy = malloc(file->len + 1); /* the stream's, which frees it */
        IsoStream *stream = NULL;
        IsoFile *node;
        int r;

        if (!copy)
                return set_iso_error(reterr, (int)ISO_OUT_OF_MEM);
        memcpy(copy, file->data, file->len);
        r = iso_memory_stream_new(copy, file->len, &stream);
        if (r < 0) {
                free(copy);
                return set_iso_error(reterr, r);
        }
        r = iso_tree_add_new_file(iso_image_get_root(image), file->name, stream, &node);
        if (r < 0) {
                iso_stream_unref(stream);
                return set_iso_error(reterr, r);
        }
        /* cloud-init reads it as root; a user's password hash or token is nobody else's business. */
        iso_node_set_permissions(ISO_NODE(node), 0400);
        return 0;
}

/* Options, and the thread that makes the blocks. Rock Ridge holds the names as they are; Joliet is for
 * readers without it. */
static int start_source(IsoImage *image, struct burn_source **ret, Error **reterr) {
        IsoWriteOpts *opts = NULL;
        int r;

        r = iso_write_opts_new(&opts, 0);
        if (r < 0)
                return set_iso_error(reterr, r);
        r = iso_write_opts_set_rockridge(opts, 1);
        if (r >= 0)
                r = iso_write_opts_set_joliet(opts, 1);
        if (r >= 0)
                r = iso_write_opts_set_omit_version_numbers(opts, 2); /* 2: in Joliet's names, no ";1" */
        if (r >= 0)
                r = iso_write_opts_set_no_force_dots(opts, 2); /* and no "." at their end */
        if (r >= 0)
                r = iso_write_opts_set_relaxed_vol_atts(opts, 1); /* small letters in the label */
        if (r >= 0)
                r = iso_write_opts_set_default_uid(opts, 0);
        if (r >= 0)
                r = iso_write_opts_set_default_gid(opts, 0);
        if (r >= 0)
                r = iso_write_opts_set_replace_mode(opts, 0, 0, 2, 2);
        if (r >= 0)
                r = iso_image_create_burn_source(image, opts, ret);
        iso_write_opts_free(opts);
        return r < 0 ? set_iso_error(reterr, r) : 0;
}

static int copy_source(struct burn_source *source, int fd, Error **reterr) {
        int (*read_block)(struct burn_source *, unsigned char *, int) = source->read ? source->read
                                                                                     : source->read_xt;
        off_t size = source->get_size(source);
        _cleanup_free_ unsigned char *buf = NULL;
        int r;

        if (size <= 0 || size % BLOCK_SIZE != 0 || size > (off_t)(8 * SEED_USER_DATA_MAX))
                return error_set(reterr, ERROR_FAILED, "Failed to make the cloud-init disk: odd size %lli",
                                (long long)size);
        buf = malloc((size_t)size);
        if (!buf)
                return set_iso_error(reterr, (int)ISO_OUT_OF_MEM);
        for (off_t done = 0; done < size; done += BLOCK_SIZE)
                if (read_block(source, buf + done, BLOCK_SIZE) != BLOCK_SIZE)
                        return error_set(reterr, ERROR_FAILED,
                                        "Failed to make the cloud-init disk: it ends after %lli of %lli "
                                        "bytes",
                                        (long long)done, (long long)size);
        r = write_all(fd, buf, (size_t)size);
        return r < 0 ? error_set_errno(reterr, r, "Failed to write the cloud-init disk") : 0;
}

static int write_image(IsoImage *image, int fd, const SeedFile *files, size_t n_files, Error **reterr) {
        struct burn_source *source;
        int r;

        for (size_t i = 0; i < n_files; i++) {
                r = add_file(image, files + i, reterr);
                if (r < 0)
                        return r;
        }
        r = start_source(image, &source, reterr);
        if (r < 0)
                return r;
        r = copy_source(source, fd, reterr);
        source->free_data(source); /* stops its thread and waits for it */
        free(source);
        return r;
}

int seed_write(int fd, const SeedFile *files, size_t n_files, Error **reterr) {
        IsoImage *image = NULL;
        int r;

        r = iso_init();
        if (r < 0)
                return set_iso_error(reterr, r);
        iso_set_msgs_severities((char *)"NEVER", (char *)"NEVER", (char *)"");
        r = iso_image_new(SEED_LABEL, &image);
        if (r >= 0)
                r = write_image(image, fd, files, n_files, reterr);
        else
                r = set_iso_error(reterr, r);
        iso_image_unref(image);
        iso_finish();
        return r;
}
