/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>

#include "vm-record.h"

void vm_record_done(VmRecord *rec) {
        free(rec->name);
        free(rec->uuid);
        free(rec->mac);
        free(rec->machine);
        free(rec->image_uuid);
        strv_free(rec->provisioned);
        vm_spec_done(&rec->spec);
        for (int i = 0; i < _VM_FILE_MAX; i++)
                file_ref_done(&rec->files[i]);
        *rec = (VmRecord){};
}

static void write_provisioned(const VmRecord *rec, JsonWriter *w) {
        json_write_key(w, "provisioned");
        json_write_array(w);
        STRV_FOREACH(s, rec->provisioned)
                json_write_string(w, *s);
        json_write_end(w);
}

int vm_record_format(const VmRecord *rec, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(JSON_WRITER_PRETTY, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_unsigned(w, "version", VM_RECORD_VERSION);
        json_put_string(w, "name", rec->name);
        json_put_string(w, "uuid", rec->uuid);
        json_put_unsigned(w, "owner", rec->owner);
        json_put_unsigned(w, "uid", rec->uid);
        json_put_string(w, "mac", rec->mac);
        json_put_unsigned(w, "ssh-port", rec->ssh_port);
        json_put_unsigned(w, "created", rec->created);
        json_put_string(w, "machine", rec->machine);
        if (rec->image_uuid)
                json_put_string(w, "image-uuid", rec->image_uuid);
        json_put_unsigned(w, "disk-size", rec->disk_size);
        json_put_boolean(w, "seed", rec->seed);
        json_put_boolean(w, "generated-key", rec->generated_key);
        for (int i = 0; i < _VM_FILE_MAX; i++)
                if (rec->files[i].path) {
                        json_write_key(w, vm_file_to_string(i));
                        file_ref_write(&rec->files[i], w);
                }
        if (rec->provisioned)
                write_provisioned(rec, w);
        json_write_key(w, "spec");
        vm_spec_write(&rec->spec, w);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int take_string(const Json *doc, const char *key, char **field, Error **reterr) {
        const char *s = json_get_string(doc, key);

        if (!s)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is missing or not a string", key),
                       -EBADMSG;
        return free_and_strdup(field, s);
}

static int take_number(const Json *doc, const char *key, uint64_t max, uint64_t *field, Error **reterr) {
        if (json_get_unsigned(doc, key, field) < 0 || *field > max)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is missing or no number up to %" PRIu64,
                                       key, max),
                       -EBADMSG;
        return 0;
}

static int check_version(const Json *doc, Error **reterr) {
        uint64_t version;
        int r;

        r = take_number(doc, "version", UINT32_MAX, &version, reterr);
        if (r < 0)
                return r;
        if (version < 1 || version > VM_RECORD_SEALED_SINCE)
                return error_set(reterr, ERROR_NOT_SUPPORTED,
                                "It has version %" PRIu64 ", this service knows 1 to %i", version,
                                VM_RECORD_SEALED_SINCE);
        return 0;
}

static int read_numbers(const Json *doc, VmRecord *rec, Error **reterr) {
        uint64_t owner, uid, port;
        int r;

        r = take_number(doc, "owner", UINT32_MAX - 1, &owner, reterr);
        if (r >= 0)
                r = take_number(doc, "uid", UINT32_MAX - 1, &uid, reterr);
        if (r >= 0)
                r = take_number(doc, "ssh-port", UINT16_MAX, &port, reterr);
        if (r >= 0)
                r = take_number(doc, "created", INT64_MAX, &rec->created, reterr);
        if (r >= 0)
                r = take_number(doc, "disk-size", VM_DISK_MAX, &rec->disk_size, reterr);
        if (r < 0)
                return r;
        rec->owner = (uid_t)owner;
        rec->uid = (uid_t)uid;
        rec->ssh_port = (uint16_t)port;
        rec->seed = json_get_boolean(doc, "seed") == 1;
        rec->generated_key = json_get_boolean(doc, "generated-key") == 1;
        return 0;
}

static int read_provisioned(const Json *array, VmRecord *rec, Error **reterr) {
        for (size_t i = 0; i < json_length(array); i++) {
                const char *s = json_string(json_element(array, i));
                int r = s ? strv_extend(&rec->provisioned, s)
                          : (error_set(reterr, ERROR_INVALID_SPEC, "'provisioned' is no list of strings"),
                                            -EBADMSG);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_document(const Json *doc, VmRecord *rec, Error **reterr) {
        int r;

        r = check_version(doc, reterr);
        if (r >= 0)
                r = take_string(doc, "name", &rec->name, reterr);
        if (r >= 0)
                r = vm_name_check(rec->name, reterr);
        if (r >= 0)
                r = take_string(doc, "uuid", &rec->uuid, reterr);
        if (r >= 0)
                r = take_string(doc, "mac", &rec->mac, reterr);
        if (r >= 0)
                r = take_string(doc, "machine", &rec->machine, reterr);
        if (r >= 0 && json_get(doc, "image-uuid"))
                r = take_string(doc, "image-uuid", &rec->image_uuid, reterr);
        if (r >= 0)
                r = read_numbers(doc, rec, reterr);
        if (r >= 0)
                r = read_provisioned(json_get(doc, "provisioned"), rec, reterr);
        for (int i = 0; r >= 0 && i < _VM_FILE_MAX; i++) {
                const Json *file = json_get(doc, vm_file_to_string(i));

                if (file && file_ref_read(file, &rec->files[i]) < 0)
                        return error_set(reterr, ERROR_INVALID_SPEC, "'%s' does not name a file",
                                               vm_file_to_string(i)),
                               -EBADMSG;
        }
        return r < 0 ? r : vm_spec_read(json_get(doc, "spec"), &rec->spec, reterr);
}

int vm_record_read(const Json *doc, VmRecord *ret, Error **reterr) {
        VmRecord rec = {};
        int r;

        vm_spec_init(&rec.spec);
        r = read_document(doc, &rec, reterr);
        if (r < 0) {
                vm_record_done(&rec);
                return r;
        }
        *ret = rec;
        return 0;
}

int vm_record_parse(const char *text, size_t len, VmRecord *ret, Error **reterr) {
        const JsonLimits limits = { .max_size = VM_RECORD_MAX_SIZE };
        _cleanup_json_ Json *doc = NULL;
        int r;

        r = json_parse(text, len, &limits, &doc, reterr);
        return r < 0 ? r : vm_record_read(doc, ret, reterr);
}
