/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bus-util.h"
#include "spec/spec-message.h"

int bus_reply_error(sd_bus_message *call, const Error *e) {
        return sd_bus_reply_method_errorf(call, error_code_name(error_code(e)), "%s", error_message(e));
}

void bus_reply_done(void *userdata, int r, const Error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = userdata;

        if (r < 0)
                (void)bus_reply_error(call, error);
        else
                (void)sd_bus_reply_method_return(call, NULL);
}

static const char *type_of(const SpecKey *k) {
        switch (k->type) {
        case SPEC_BOOLEAN:
                return "b";
        case SPEC_UNSIGNED:
                return "u";
        case SPEC_SIZE:
                return "t";
        case SPEC_STRING:
        case SPEC_ENUM:
                return "s";
        case SPEC_FILE:
                return "h";
        }
        return "";
}

/* A number of any integer type is taken: clients in dynamic languages send what they have. */
static int read_number(sd_bus_message *m, char type, uint64_t *ret) {
        union {
                uint8_t y;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
        } v;
        int64_t s;
        int r;

        r = sd_bus_message_read_basic(m, type, &v);
        if (r < 0)
                return r;
        switch (type) {
        case 'y':
                *ret = v.y;
                return 0;
        case 'q':
                *ret = v.q;
                return 0;
        case 'u':
                *ret = v.u;
                return 0;
        case 't':
                *ret = v.t;
                return 0;
        case 'n':
                s = v.n;
                break;
        case 'i':
                s = v.i;
                break;
        default:
                s = v.x;
                break;
        }
        if (s < 0)
                return -ERANGE;
        *ret = (uint64_t)s;
        return 0;
}

static int read_option(sd_bus_message *m, const BusOption *table, size_t n, Error **reterr) {
        const char *name, *type, *string;
        int boolean, r;

        r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = sd_bus_message_peek_type(m, NULL, &type);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                if (!streq(table[i].name, name))
                        continue;
                if (type[0] != table[i].type || type[1] != '\0')
                        return error_set(reterr, ERROR_INVALID_SPEC, "%s is of D-Bus type '%s', not '%c'",
                                        name, type, table[i].type);
                switch (table[i].type) {
                case 's':
                        r = sd_bus_message_read(m, "v", "s", &string);
                        *(const char **)table[i].value = string;
                        return r;
                case 'b':
                        r = sd_bus_message_read(m, "v", "b", &boolean);
                        *(bool *)table[i].value = boolean;
                        return r;
                default: /* as wide as D-Bus has it */
                        return sd_bus_message_read(m, "v", type, table[i].value);
                }
        }
        return error_set(reterr, ERROR_UNKNOWN_OPTION, "There is no option '%s'", name);
}

int bus_read_options(sd_bus_message *m, const BusOption *table, size_t n, Error **reterr) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_option(m, table, n, reterr);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int append_json_dicts(sd_bus_message *m, const Json *array) {
        int r;

        r = sd_bus_message_open_container(m, 'v', "aa{sv}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < json_length(array); i++)
                r = bus_append_json_dict(m, json_element(array, i));
        for (int i = 0; r >= 0 && i < 2; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_json_value(sd_bus_message *m, const Json *v) {
        uint64_t number;

        switch (json_type(v)) {
        case JSON_STRING:
                return sd_bus_message_append(m, "v", "s", json_string(v));
        case JSON_BOOLEAN:
                return sd_bus_message_append(m, "v", "b", json_boolean(v));
        case JSON_INTEGER:
                return json_unsigned(v, &number) < 0 ? -ERANGE : sd_bus_message_append(m, "v", "t", number);
        case JSON_ARRAY:
                return append_json_dicts(m, v);
        default:
                return -EBADMSG;
        }
}

int bus_append_json_dict(sd_bus_message *m, const Json *object) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        for (size_t i = 0; r >= 0 && i < json_length(object); i++) {
                if (json_is_null(json_member(object, i)))
                        continue;
                r = sd_bus_message_open_container(m, 'e', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", json_key(object, i));
                if (r >= 0)
                        r = append_json_value(m, json_member(object, i));
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int wrong_type(const SpecKey *k, const char *got, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_SPEC, "%s is of D-Bus type '%s', not '%s'", k->name, got,
                        type_of(k));
}

static int read_value(sd_bus_message *m, const SpecKey *k, const char *type, VmSpec *s, int *files,
                Error **reterr) {
        const char *string;
        uint64_t number;
        int boolean, r;

        switch (k->type) {
        case SPEC_BOOLEAN:
                if (!streq(type, "b"))
                        return wrong_type(k, type, reterr);
                r = sd_bus_message_read_basic(m, 'b', &boolean);
                return r < 0 ? r : vm_spec_set_number(s, k, (uint64_t)boolean, reterr);
        case SPEC_UNSIGNED:
        case SPEC_SIZE:
                if (type[1] != '\0' || !strchr("ynqiuxt", type[0]))
                        return wrong_type(k, type, reterr);
                r = read_number(m, type[0], &number);
                if (r == -ERANGE)
                        return error_set(reterr, ERROR_INVALID_SPEC, "%s is negative", k->name);
                return r < 0 ? r : vm_spec_set_number(s, k, number, reterr);
        case SPEC_STRING:
        case SPEC_ENUM:
                if (!streq(type, "s"))
                        return wrong_type(k, type, reterr);
                r = sd_bus_message_read_basic(m, 's', &string);
                return r < 0 ? r : vm_spec_set_string(s, k, string, reterr);
        case SPEC_FILE:
                if (!streq(type, "h"))
                        return wrong_type(k, type, reterr);
                if (!files)
                        return error_set(reterr, ERROR_INVALID_SPEC, "%s cannot be changed", k->name);
                return sd_bus_message_read_basic(m, 'h', &files[k->offset]);
        }
        return -EINVAL;
}

static int read_entry(sd_bus_message *m, SpecFlags allowed, VmSpec *s, int *files, Error **reterr) {
        const char *name, *type;
        const SpecKey *k;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        k = spec_key_find(name);
        if (!k)
                return error_set(reterr, ERROR_UNKNOWN_OPTION, "There is no option '%s'", name);
        if (allowed && !(k->flags & allowed))
                return error_set(reterr, ERROR_INVALID_SPEC, "%s cannot be changed%s", name,
                                k->flags & SPEC_UPDATE ? " while the VM runs" : "");
        r = sd_bus_message_peek_type(m, NULL, &type);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'v', type);
        if (r >= 0)
                r = read_value(m, k, type, s, files, reterr);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int bus_read_spec(sd_bus_message *m, SpecFlags allowed, VmSpec *s, int *files, Error **reterr) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_entry(m, allowed, s, files, reterr);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int bus_append_spec(sd_bus_message *m, const VmRecord *rec, const char *image_name) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        for (size_t i = 0; r >= 0 && i < vm_spec_n_keys; i++)
                if (!(vm_spec_keys[i].flags & SPEC_NOT_STORED))
                        r = spec_message_append(m, &vm_spec_keys[i], &rec->spec);
        for (int i = 0; r >= 0 && i < _VM_FILE_MAX; i++)
                if (rec->files[i].path)
                        r = sd_bus_message_append(m, "{sv}", vm_file_to_string(i), "s", rec->files[i].path);
        if (r >= 0 && image_name)
                r = sd_bus_message_append(m, "{sv}", "image-name", "s", image_name);
        return r < 0 ? r : sd_bus_message_close_container(m);
}
