/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single settings: what stands behind a name, checked and put into the definition. */
#include <ctype.h>

#include "vmfile-reader.h"

#define ENV_MAX 256

void vmfile_keep(VmfileReader *r, char **field, const char *s) {
        if (free_and_strdup(field, s) < 0)
                r->r = -ENOMEM;
}

/* Takes a string that was just made. */
static void keep_new(VmfileReader *r, char **field, char *s) {
        if (!s)
                r->r = -ENOMEM;
        free(*field);
        *field = s;
}

const char *vmfile_string(VmfileReader *r, const KdlValue *v) {
        if (v->type != KDL_STRING) {
                vmfile_error(r, v->span, "expected a string, found %s",
                                v->type == KDL_NUMBER ? "a number" : "a keyword");
                if (v->type == KDL_NUMBER)
                        vmfile_hint(r, "write it in quotes: \"%s\"", v->string.text);
                return NULL;
        }
        if (strlen(v->string.text) != v->string.len) {
                vmfile_error(r, v->span, "a NUL character cannot stand here");
                return NULL;
        }
        return v->string.text;
}

/* A number, a size in a string such as "4G", or "50%". */
static bool read_number(VmfileReader *r, const VmfileKey *k, const KdlValue *v, uint64_t *ret) {
        uint64_t unit = MAX(k->unit, UINT64_C(1)), u = 0;
        const char *s;
        int q;

        if (v->type == KDL_NUMBER) {
                q = kdl_value_uint64(v, &u);
                if (q == 0 && __builtin_mul_overflow(u, unit, &u))
                        q = -ERANGE;
        } else if (k->unit > 0) {
                s = vmfile_string(r, v);
                if (!s)
                        return false;
                q = parse_size(s, unit, &u);
        } else {
                size_t len = v->type == KDL_STRING ? v->string.len : 0;
                _cleanup_free_ char *number = strndup(len > 0 ? v->string.text : "", len > 0 ? len - 1 : 0);

                if (!number)
                        r->r = -ENOMEM;
                q = number && len > 0 && v->string.text[len - 1] == '%' && streq(k->name, "cpu-quota")
                                ? parse_u64(number, &u)
                                : -EINVAL;
        }
        if (q == 0) {
                *ret = u;
                return true;
        }
        if (q == -ERANGE)
                vmfile_error(r, v->span, "'%s' is too large, or negative", v->string.text);
        else
                vmfile_error(r, v->span, "'%s' is not a whole number%s", v->string.text,
                                k->unit > 0 ? " or a size" : "");
        if (k->unit > 0)
                vmfile_hint(r,
                                "a bare number counts %s; with a unit it stands in quotes, as in \"512M\" "
                                "or \"4G\"",
                                k->unit == GIB ? "GB" : "MB");
        else if (v->type == KDL_STRING)
                vmfile_hint(r, "numbers have no quotes");
        return false;
}

/* A name alone is a yes. */
static bool read_flag(VmfileReader *r, const VmfileSetting *s, bool *ret) {
        if (s->n_values == 0) {
                *ret = true;
                return true;
        }
        if (s->values[0]->type == KDL_BOOLEAN) {
                *ret = s->values[0]->boolean;
                return true;
        }
        vmfile_error(r, s->values[0]->span, "expected #true or #false");
        return false;
}

static void set_spec(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, VmSpec *spec) {
        const SpecKey *key = spec_key_find(k->spec);
        _cleanup_error_ Error *e = NULL;
        const char *text;
        bool flag = false;
        uint64_t u;
        int q = 0;

        switch (key->type) {
        case SPEC_BOOLEAN:
                if (read_flag(r, s, &flag))
                        q = vm_spec_set_number(spec, key, flag, &e);
                break;
        case SPEC_UNSIGNED:
        case SPEC_SIZE:
                if (read_number(r, k, s->values[0], &u))
                        q = vm_spec_set_number(spec, key, u, &e);
                break;
        default:
                text = vmfile_string(r, s->values[0]);
                if (text)
                        q = vm_spec_set_string(spec, key, text, &e);
        }
        if (q == -ENOMEM)
                r->r = q;
        else if (q < 0)
                vmfile_error(r, s->n_values > 0 ? s->values[0]->span : s->span, "%s", error_message(e));
}

static char *absolute_path(VmfileReader *r, const char *path, KdlSpan span) {
        if (*path == '\0') {
                vmfile_error(r, span, "a path cannot be empty");
        } else if (*path == '/') {
                return strdup(path);
        } else if (*path != '~') {
                while (startswith(path, "./"))
                        path += 2;
                return strf("%s/%s", streq(r->options->folder, "/") ? "" : r->options->folder, path);
        } else if (path[1] != '/' && path[1] != '\0') {
                vmfile_error(r, span, "'~' stands for your own home directory only");
                vmfile_hint(r, "write the whole path, or './%s' for a file of this name", path);
        } else if (!r->options->home) {
                vmfile_error(r, span, "there is no home directory that '~' could stand for");
        } else {
                return strf("%s%s", r->options->home, path + 1);
        }
        return NULL;
}

static void set_path(VmfileReader *r, const VmfileSetting *s, char **field) {
        const char *text = vmfile_string(r, s->values[0]);
        size_t before = kdl_diagnostics_errors(r->d);
        char *path = text ? absolute_path(r, text, s->values[0]->span) : NULL;

        if (!path && (!text || kdl_diagnostics_errors(r->d) > before))
                return;
        keep_new(r, field, path);
}

static void set_guest_path(VmfileReader *r, const VmfileSetting *s, char **field) {
        const char *text = vmfile_string(r, s->values[0]);

        if (!text)
                return;
        if (*text == '/') {
                vmfile_keep(r, field, text);
                return;
        }
        vmfile_error(r, s->values[0]->span, "'%s' is not an absolute path", text);
        vmfile_hint(r, "paths in the guest begin with '/'");
}

static void set_string(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, char **field) {
        const char *text = vmfile_string(r, s->values[0]);

        if (text && *text == '\0')
                vmfile_error(r, s->values[0]->span, "%s cannot be empty", k->name);
        else if (text)
                vmfile_keep(r, field, text);
}

static void set_url(VmfileReader *r, const VmfileSetting *s, char **field) {
        const char *text = vmfile_string(r, s->values[0]), *rest;

        if (!text)
                return;
        rest = startswith(text, "https://") ?: startswith(text, "http://");
        if (!isempty(rest)) {
                vmfile_keep(r, field, text);
                return;
        }
        vmfile_error(r, s->values[0]->span, "'%s' is not an http or https URL", text);
        if (!rest && !strstr(text, "://"))
                vmfile_hint(r, "for a file of this host, write: image \"%s\"", text);
}

static void set_digest(VmfileReader *r, const VmfileSetting *s, char **field) {
        const char *text = vmfile_string(r, s->values[0]);

        if (!text)
                return;
        if (strlen(text) != 64 || strspn(text, "0123456789abcdefABCDEF") != 64) {
                vmfile_error(r, s->values[0]->span, "a SHA-256 digest has 64 hexadecimal digits");
                return;
        }
        vmfile_keep(r, field, text);
        for (char *c = *field; c && *c; c++)
                *c = (char)tolower((unsigned char)*c);
}

static void hint_choices(VmfileReader *r, const VmfileKey *k) {
        _cleanup_free_ char *choices = NULL;

        for (size_t i = 0; i < k->n_names; i++) {
                char *longer = strf("%s%s\"%s\"", choices ?: "",
                                i == 0                               ? ""
                                                : i + 1 < k->n_names ? ", "
                                                                     : " or ",
                                k->names[i]);

                free(choices);
                choices = longer;
        }
        vmfile_hint(r, "it is %s", choices ?: "");
}

static void set_choice(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, int *field) {
        const char *text = vmfile_string(r, s->values[0]);

        for (size_t i = 0; text && i < k->n_names; i++)
                if (streq(k->names[i], text)) {
                        *field = (int)i;
                        return;
                }
        if (text) {
                vmfile_error(r, s->values[0]->span, "%s '%s' is not supported", k->name, text);
                hint_choices(r, k);
        }
}

/* "0644" or 0o644: a decimal number would be read in another way than it looks. */
static void set_mode(VmfileReader *r, const VmfileSetting *s, uint32_t *field) {
        const KdlValue *v = s->values[0];
        const char *text = v->string.text;
        uint64_t u = UINT64_MAX;

        if (v->type == KDL_NUMBER && startswith(text, "0o"))
                (void)kdl_value_uint64(v, &u);
        else if (v->type == KDL_STRING && *text != '\0' && strlen(text) <= 5 &&
                        text[strspn(text, "01234567")] == '\0')
                u = strtoul(text, NULL, 8);
        if (u <= 07777) {
                *field = (uint32_t)u;
                return;
        }
        vmfile_error(r, v->span, "expected permissions in octal");
        vmfile_hint(r, "write them as \"0644\" or 0o644");
}

static bool is_variable(const KdlString *s) {
        for (size_t i = 0; i < s->len; i++)
                if (!isalpha((unsigned char)s->text[i]) && s->text[i] != '_' &&
                                (i == 0 || !isdigit((unsigned char)s->text[i])))
                        return false;
        return s->len > 0;
}

static void add_variable(VmfileReader *r, const KdlEntry *e, char ***env) {
        const char *value;

        if (!e->key.text || !is_variable(&e->key)) {
                vmfile_error(r, e->span, "expected NAME=\"value\"");
                vmfile_hint(r, "names of variables are letters, digits and '_'");
                return;
        }
        value = e->value.type == KDL_NUMBER ? e->value.string.text : vmfile_string(r, &e->value);
        if (!value)
                return;
        if (strv_length(*env) >= ENV_MAX)
                vmfile_error(r, e->span, "there are more than %d variables", ENV_MAX);
        else if (strv_extendf(env, "%s=%s", e->key.text, value) < 0)
                r->r = -ENOMEM;
}

static void set_env(VmfileReader *r, const VmfileSetting *s, char ***field) {
        if (!s->node || !kdl_node_entries(s->node)) {
                vmfile_error(r, s->span, "env has no variables");
                vmfile_hint(r, "write it as: env NAME=\"value\"");
                return;
        }
        for (const KdlEntry *e = kdl_node_entries(s->node); e; e = kdl_entry_next(e))
                add_variable(r, e, field);
}

static void set_names(VmfileReader *r, const VmfileSetting *s, char ***field) {
        const KdlValue *v;

        for (size_t i = 0; i < s->n_values; i++) {
                const char *text;

                v = s->node ? kdl_node_argument(s->node, i) : s->values[i];
                text = vmfile_string(r, v);
                if (text && strv_contains(*field, text))
                        vmfile_error(r, v->span, "'%s' stands here twice", text);
                else if (text && strv_extend(field, text) < 0)
                        r->r = -ENOMEM;
        }
}

static bool read_port(VmfileReader *r, const KdlValue *v, uint16_t *ret) {
        uint64_t u;

        if (kdl_value_uint64(v, &u) == 0 && u >= 1 && u <= UINT16_MAX) {
                *ret = (uint16_t)u;
                return true;
        }
        vmfile_error(r, v->span, "expected a port, 1 to 65535");
        return false;
}

static void add_forward(VmfileReader *r, const VmfileSetting *s, VmfileVm *vm) {
        VmfileForward f = { 0 }, *grown;

        if (!read_port(r, s->values[0], &f.host) || !read_port(r, s->values[1], &f.guest))
                return;
        if (vm->n_forwards >= VMFILE_FORWARDS_MAX) {
                vmfile_error(r, s->span, "there are more than %d forwards", VMFILE_FORWARDS_MAX);
                return;
        }
        if (r->ports[f.host / 8] & 1 << f.host % 8) {
                vmfile_error(r, s->values[0]->span, "port %u is forwarded already", f.host);
                return;
        }
        r->ports[f.host / 8] |= (uint8_t)(1 << f.host % 8);
        grown = reallocarray(vm->forwards, vm->n_forwards + 1, sizeof(VmfileForward));
        if (!grown) {
                r->r = -ENOMEM;
                return;
        }
        vm->forwards = grown;
        vm->forwards[vm->n_forwards++] = f;
}

static bool check_disk_name(VmfileReader *r, const VmfileVm *vm, const char *name, KdlSpan span) {
        if (!vm_name_is_valid(name)) {
                vmfile_error(r, span, "'%s' is not a valid name for a disk", name);
                return false;
        }
        for (size_t i = 0; i < vm->n_disks; i++)
                if (streq(vm->disks[i].name, name)) {
                        vmfile_error(r, span, "there is a disk '%s' already", name);
                        return false;
                }
        if (vm->n_disks < VMFILE_DISKS_MAX)
                return true;
        vmfile_error(r, span, "there are more than %d further disks", VMFILE_DISKS_MAX);
        return false;
}

/* `disk SIZE` is the VM's own, `disk NAME SIZE` a further one with the same bounds. */
static void set_disk(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, VmfileVm *vm) {
        VmfileSetting size = *s;
        VmfileKey key = *k;
        VmfileDisk *grown;
        VmSpec checked;
        const char *name;

        key.unit = GIB;
        size.values[0] = s->values[s->n_values - 1];
        if (s->n_values == 1) {
                if (vm_spec_has(&vm->spec, "disk"))
                        vmfile_error(r, s->span, "the size of the disk stands here twice");
                else
                        set_spec(r, &key, &size, &vm->spec);
                return;
        }
        vm_spec_init(&checked);
        set_spec(r, &key, &size, &checked);
        name = vmfile_string(r, s->values[0]);
        if (!name || !check_disk_name(r, vm, name, s->values[0]->span))
                return;
        if (vm_spec_has(&checked, "disk") && checked.disk == 0)
                vmfile_error(r, size.values[0]->span, "a disk without an image needs a size");
        grown = reallocarray(vm->disks, vm->n_disks + 1, sizeof(VmfileDisk));
        if (!grown) {
                r->r = -ENOMEM;
                return;
        }
        vm->disks = grown;
        vm->disks[vm->n_disks++] = (VmfileDisk){ .size = checked.disk };
        vmfile_keep(r, &vm->disks[vm->n_disks - 1].name, name);
}

#define DEFAULT_BRIDGE "br0"

/* "tap" is what a bridge makes of it; the others are those of CreateVM. */
static void set_network(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, VmfileVm *vm) {
        const char *mode = vmfile_string(r, s->values[0]);
        int value;

        if (!mode)
                return;
        value = vm_network_from_string(mode);
        if (streq(mode, "tap")) {
                vmfile_keep(r, &vm->bridge, DEFAULT_BRIDGE);
        } else if (value >= 0) {
                set_spec(r, k, s, &vm->spec);
        } else {
                vmfile_error(r, s->values[0]->span, "network '%s' is not supported", mode);
                vmfile_hint(r, "it is \"user\" or \"none\"");
        }
}

void vmfile_set_value(
                VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, VmfileVm *vm, void *base) {
        void *field = k->offset == VMFILE_NOWHERE ? NULL : (uint8_t *)base + k->offset;
        bool flag;

        switch (k->kind) {
        case VMFILE_KIND_SPEC:
                set_spec(r, k, s, &vm->spec);
                break;
        case VMFILE_KIND_STRING:
                set_string(r, k, s, field);
                break;
        case VMFILE_KIND_PATH:
                set_path(r, s, field);
                break;
        case VMFILE_KIND_GUEST_PATH:
                set_guest_path(r, s, field);
                break;
        case VMFILE_KIND_URL:
                set_url(r, s, field);
                break;
        case VMFILE_KIND_DIGEST:
                set_digest(r, s, field);
                break;
        case VMFILE_KIND_FLAG:
                if (read_flag(r, s, &flag))
                        *(bool *)field = flag;
                break;
        case VMFILE_KIND_CHOICE:
                set_choice(r, k, s, field);
                break;
        case VMFILE_KIND_MODE:
                set_mode(r, s, field);
                break;
        case VMFILE_KIND_ENV:
                set_env(r, s, field);
                break;
        case VMFILE_KIND_NAMES:
                set_names(r, s, field);
                break;
        case VMFILE_KIND_FORWARD:
                add_forward(r, s, vm);
                break;
        case VMFILE_KIND_DISK:
                set_disk(r, k, s, vm);
                break;
        case VMFILE_KIND_NETWORK:
                set_network(r, k, s, vm);
                break;
        case VMFILE_KIND_BLOCK:
                if (field)
                        *(bool *)field = true;
                break;
        default: /* what has definitions of its own */
                break;
        }
}
