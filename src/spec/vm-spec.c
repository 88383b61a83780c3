/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>

#include "image-record.h"
#include "vm-lists.h"
#include "vm-spec.h"

static const char *const vm_network_table[] = {
        [VM_NETWORK_USER] = "user",
        [VM_NETWORK_NONE] = "none",
};
DEFINE_STRING_TABLE(vm_network, VmNetwork, _VM_NETWORK_MAX);

static const char *const vm_firmware_table[] = {
        [VM_FIRMWARE_BIOS] = "bios",
        [VM_FIRMWARE_UEFI] = "uefi",
};
DEFINE_STRING_TABLE(vm_firmware, VmFirmware, _VM_FIRMWARE_MAX);

static const char *const vm_accelerator_table[] = {
        [VM_ACCELERATOR_AUTO] = "auto",
        [VM_ACCELERATOR_KVM] = "kvm",
        [VM_ACCELERATOR_TCG] = "tcg",
};
DEFINE_STRING_TABLE(vm_accelerator, VmAccelerator, _VM_ACCELERATOR_MAX);

static const char *const vm_display_table[] = {
        [VM_DISPLAY_VNC] = "vnc",
        [VM_DISPLAY_NONE] = "none",
};
DEFINE_STRING_TABLE(vm_display, VmDisplay, _VM_DISPLAY_MAX);

static const char *const vm_file_table[] = {
        [VM_FILE_IMAGE] = "image",
        [VM_FILE_KERNEL] = "kernel",
        [VM_FILE_INITRD] = "initrd",
        [VM_FILE_USER_DATA] = "user-data",
};
DEFINE_STRING_TABLE(vm_file, VmFile, _VM_FILE_MAX);

static bool all_of(const char *s, const char *also) {
        for (; *s; s++)
                if (!isalnum((unsigned char)*s) && !strchr(also, *s))
                        return false;
        return true;
}

/* RFC 1123 labels: what cloud-init and the guest's own tools accept. */
static int check_hostname(const char *s, Error **reterr) {
        size_t n = strlen(s);

        if (n >= 1 && n <= 253 && all_of(s, "-.") && s[0] != '-' && s[0] != '.' && s[n - 1] != '-' &&
                        s[n - 1] != '.' && !strstr(s, ".."))
                return 0;
        return error_set(reterr, ERROR_INVALID_SPEC,
                        "hostname '%s' is not valid: letters, digits, '-' and '.', at most 253 characters",
                        s);
}

static int check_user(const char *s, Error **reterr) {
        size_t n = strlen(s);

        if (n >= 1 && n <= 32 && all_of(s, "-_") && (isalpha((unsigned char)s[0]) || s[0] == '_'))
                return 0;
        return error_set(reterr, ERROR_INVALID_SPEC,
                        "user '%s' is not valid: at most 32 letters, digits, '-' and '_', a letter or '_' "
                        "first",
                        s);
}

static int check_machine(const char *s, Error **reterr) {
        if (streq(s, "q35") || streq(s, "microvm") || (startswith(s, "pc-q35-") && all_of(s, "-.")))
                return 0;
        return error_set(reterr, ERROR_INVALID_SPEC,
                        "machine '%s' is not supported: 'q35', 'microvm' or 'pc-q35-VERSION'", s);
}

/* The value becomes a part of a QEMU option, where a comma would start the next one. */
static int check_cpu(const char *s, Error **reterr) {
        if (*s != '\0' && strlen(s) <= 256 && all_of(s, "-_.,+="))
                return 0;
        return error_set(reterr, ERROR_INVALID_SPEC, "cpu '%s' is not a CPU model", s);
}

static int check_append(const char *s, Error **reterr) {
        if (strlen(s) > 2047) /* COMMAND_LINE_SIZE of x86 is 2048 */
                return error_set(reterr, ERROR_INVALID_SPEC, "append is %zu characters long, more than 2047",
                                strlen(s));
        for (const char *c = s; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        return error_set(reterr, ERROR_INVALID_SPEC, "append holds a control character");
        return 0;
}

static int check_format(const char *s, Error **reterr) {
        if (streq(s, "raw") || streq(s, "qcow2"))
                return 0;
        return error_set(reterr, ERROR_INVALID_SPEC, "image-format '%s' is not supported: 'raw' or 'qcow2'",
                        s);
}

static int check_origin(const char *s, Error **reterr) {
        if (s[0] == '/' && strlen(s) < PATH_MAX)
                return 0;
        return error_set(reterr, ERROR_INVALID_SPEC, "origin '%.100s' is no absolute path", s);
}

#define FIELD(f) offsetof(VmSpec, f)
#define ENUM(key, f, table, fl) \
        { key, SPEC_ENUM, fl, FIELD(f), 0, ELEMENTSOF(table) - 1, table, NULL }
#define STRING(key, f, chk, fl) \
        { key, SPEC_STRING, fl, FIELD(f), 0, 0, NULL, chk }

const SpecKey vm_spec_keys[] = {
        { "vcpus", SPEC_UNSIGNED, SPEC_UPDATE, FIELD(vcpus), 1, VM_VCPUS_MAX, NULL, NULL },
        { "memory", SPEC_SIZE, SPEC_UPDATE | SPEC_BYTES, FIELD(memory), VM_MEMORY_MIN, VM_MEMORY_MAX, NULL,
                        NULL },
        { "disk", SPEC_SIZE, SPEC_UPDATE | SPEC_ZERO_IS_NONE | SPEC_BYTES, FIELD(disk), MIB, VM_DISK_MAX,
                        NULL, NULL },
        ENUM("network", network, vm_network_table, SPEC_UPDATE),
        STRING("hostname", hostname, check_hostname, SPEC_UPDATE),
        { "cloud-init", SPEC_BOOLEAN, 0, FIELD(cloud_init), 0, 1, NULL, NULL },
        STRING("ssh-key", ssh_key, NULL, 0),
        STRING("user", user, check_user, SPEC_UPDATE),
        STRING("machine", machine, check_machine, 0),
        ENUM("firmware", firmware, vm_firmware_table, 0),
        STRING("append", append, check_append, SPEC_UPDATE),
        ENUM("accel", accelerator, vm_accelerator_table, SPEC_UPDATE),
        STRING("cpu", cpu, check_cpu, SPEC_UPDATE),
        ENUM("display", display, vm_display_table, SPEC_UPDATE),
        { "balloon", SPEC_BOOLEAN, SPEC_UPDATE, FIELD(balloon), 0, 1, NULL, NULL },
        { "console-log-max", SPEC_SIZE, SPEC_UPDATE | SPEC_BYTES, FIELD(console_log_max), VM_CONSOLE_LOG_MIN,
                        VM_CONSOLE_LOG_MAX, NULL, NULL },
        STRING("image-format", image_format, check_format, 0),
        { "cpu-quota", SPEC_UNSIGNED, SPEC_LIMIT | SPEC_ZERO_IS_NONE, FIELD(limits.cpu_quota), 1,
                        100 * VM_VCPUS_MAX, NULL, NULL },
        { "cpu-weight", SPEC_SIZE, SPEC_LIMIT | SPEC_ZERO_IS_NONE, FIELD(limits.cpu_weight), 1, 10000, NULL,
                        NULL },
        { "io-weight", SPEC_SIZE, SPEC_LIMIT | SPEC_ZERO_IS_NONE, FIELD(limits.io_weight), 1, 10000, NULL,
                        NULL },
        { "memory-max", SPEC_SIZE, SPEC_LIMIT | SPEC_ZERO_IS_NONE | SPEC_BYTES, FIELD(limits.memory_max),
                        16 * MIB, 2 * VM_MEMORY_MAX, NULL, NULL },
        { "memory-high", SPEC_SIZE, SPEC_LIMIT | SPEC_ZERO_IS_NONE | SPEC_BYTES, FIELD(limits.memory_high),
                        16 * MIB, 2 * VM_MEMORY_MAX, NULL, NULL },
        { "tasks-max", SPEC_SIZE, SPEC_LIMIT | SPEC_ZERO_IS_NONE, FIELD(limits.tasks_max), 8, 65536, NULL,
                        NULL },
        { "start", SPEC_BOOLEAN, SPEC_NOT_STORED, FIELD(start), 0, 1, NULL, NULL },
        STRING("forward", forward, vm_forwards_check, SPEC_UPDATE),
        STRING("disks", disks, vm_disks_check, 0),
        STRING("origin", origin, check_origin, SPEC_UPDATE),
        STRING("image-name", image_name, vm_name_check, SPEC_NOT_STORED),
        STRING("image-url", image_url, url_check, SPEC_NOT_STORED),
        { "image", SPEC_FILE, SPEC_NOT_STORED, VM_FILE_IMAGE, 0, 0, NULL, NULL },
        { "kernel", SPEC_FILE, SPEC_NOT_STORED, VM_FILE_KERNEL, 0, 0, NULL, NULL },
        { "initrd", SPEC_FILE, SPEC_NOT_STORED, VM_FILE_INITRD, 0, 0, NULL, NULL },
        { "user-data", SPEC_FILE, SPEC_NOT_STORED, VM_FILE_USER_DATA, 0, 0, NULL, NULL },
};
const size_t vm_spec_n_keys = ELEMENTSOF(vm_spec_keys);
_Static_assert(ELEMENTSOF(vm_spec_keys) <= 64, "VmSpec.given has too few bits");

const SpecKey *spec_key_find(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(vm_spec_keys); i++)
                if (streq(vm_spec_keys[i].name, name))
                        return &vm_spec_keys[i];
        return NULL;
}

static void mark_given(VmSpec *s, const SpecKey *k) {
        s->given |= UINT64_C(1) << (k - vm_spec_keys);
}

bool vm_spec_has(const VmSpec *s, const char *key) {
        const SpecKey *k = spec_key_find(key);

        return k && (s->given & UINT64_C(1) << (k - vm_spec_keys));
}

static int set_out_of_range(const SpecKey *k, uint64_t value, Error **reterr) {
        const char *end = k->flags & SPEC_ZERO_IS_NONE ? ", or 0 for none" : "";

        if (k->flags & SPEC_BYTES)
                return error_set(reterr, ERROR_INVALID_SPEC, "%s %s is out of range: %s to %s%s", k->name,
                                FORMAT_SIZE(value), FORMAT_SIZE(k->min), FORMAT_SIZE(k->max), end);
        return error_set(reterr, ERROR_INVALID_SPEC,
                        "%s %" PRIu64 " is out of range: %" PRIu64 " to %" PRIu64 "%s", k->name, value,
                        k->min, k->max, end);
}

int vm_spec_set_number(VmSpec *s, const SpecKey *k, uint64_t value, Error **reterr) {
        void *field = (uint8_t *)s + k->offset;

        if ((value < k->min || value > k->max) && !(value == 0 && (k->flags & SPEC_ZERO_IS_NONE)))
                return set_out_of_range(k, value, reterr);
        switch (k->type) {
        case SPEC_BOOLEAN:
                *(bool *)field = value != 0;
                break;
        case SPEC_UNSIGNED:
                *(uint32_t *)field = (uint32_t)value;
                break;
        case SPEC_SIZE:
                *(uint64_t *)field = value;
                break;
        case SPEC_STRING:
        case SPEC_ENUM:
        case SPEC_FILE:
                return error_set(reterr, ERROR_INVALID_SPEC, "%s is not a number", k->name);
        }
        mark_given(s, k);
        return 0;
}

static int set_enum(VmSpec *s, const SpecKey *k, const char *value, Error **reterr) {
        _cleanup_free_ char *allowed = NULL;

        for (uint64_t i = 0; i <= k->max; i++)
                if (streq(k->names[i], value)) {
                        int v = (int)i;

                        memcpy((uint8_t *)s + k->offset, &v, sizeof(v));
                        mark_given(s, k);
                        return 0;
                }
        for (uint64_t i = 0; i <= k->max; i++) {
                char *longer = strf("%s%s'%s'", allowed ?: "",
                                i == 0                        ? ""
                                                : i == k->max ? " or "
                                                              : ", ",
                                k->names[i]);

                free(allowed);
                allowed = longer;
        }
        return error_set(reterr, ERROR_INVALID_SPEC, "%s '%s' is not supported: %s", k->name, value,
                        allowed ?: "");
}

int vm_spec_set_string(VmSpec *s, const SpecKey *k, const char *value, Error **reterr) {
        int r;

        if (k->type == SPEC_ENUM)
                return set_enum(s, k, value, reterr);
        if (k->type != SPEC_STRING)
                return error_set(reterr, ERROR_INVALID_SPEC, "%s is not a string", k->name);
        if (k->check) {
                r = k->check(value, reterr);
                if (r < 0)
                        return r;
        }
        r = free_and_strdup((char **)((uint8_t *)s + k->offset), value);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot keep %s", k->name);
        mark_given(s, k);
        return 0;
}

void vm_spec_init(VmSpec *s) {
        *s = (VmSpec){
                .vcpus = 1,
                .memory = GIB,
                .console_log_max = VM_CONSOLE_LOG_DEFAULT,
        };
}

void vm_spec_done(VmSpec *s) {
        for (size_t i = 0; i < vm_spec_n_keys; i++)
                if (vm_spec_keys[i].type == SPEC_STRING)
                        free(*(char **)((uint8_t *)s + vm_spec_keys[i].offset));
        vm_spec_init(s);
}

int vm_spec_copy(const VmSpec *s, VmSpec *ret) {
        VmSpec copy = *s;
        int r = 0;

        for (size_t i = 0; i < vm_spec_n_keys; i++)
                if (vm_spec_keys[i].type == SPEC_STRING) {
                        char **field = (char **)((uint8_t *)&copy + vm_spec_keys[i].offset);

                        *field = *field ? strdup(*field) : NULL;
                        if (!*field && *(char *const *)spec_key_field(&vm_spec_keys[i], s))
                                r = -ENOMEM;
                }
        if (r < 0) {
                vm_spec_done(&copy);
                return r;
        }
        *ret = copy;
        return 0;
}

static bool is_same(const SpecKey *k, const VmSpec *a, const VmSpec *b) {
        const void *x = spec_key_field(k, a), *y = spec_key_field(k, b);

        switch (k->type) {
        case SPEC_BOOLEAN:
                return *(const bool *)x == *(const bool *)y;
        case SPEC_UNSIGNED:
                return *(const uint32_t *)x == *(const uint32_t *)y;
        case SPEC_SIZE:
                return *(const uint64_t *)x == *(const uint64_t *)y;
        case SPEC_STRING:
                return streq_ptr(*(char *const *)x, *(char *const *)y);
        case SPEC_ENUM:
                return *(const int *)x == *(const int *)y;
        case SPEC_FILE:
                break;
        }
        return true; /* no part of the struct */
}

static int copy_field(const SpecKey *k, const VmSpec *from, VmSpec *to) {
        const void *x = spec_key_field(k, from);
        void *y = (uint8_t *)to + k->offset;

        switch (k->type) {
        case SPEC_BOOLEAN:
                *(bool *)y = *(const bool *)x;
                break;
        case SPEC_UNSIGNED:
                *(uint32_t *)y = *(const uint32_t *)x;
                break;
        case SPEC_SIZE:
                *(uint64_t *)y = *(const uint64_t *)x;
                break;
        case SPEC_STRING:
                return free_and_strdup(y, *(char *const *)x);
        case SPEC_ENUM:
                *(int *)y = *(const int *)x;
                break;
        case SPEC_FILE:
                break;
        }
        return 0;
}

int vm_spec_rebase(const VmSpec *from, const VmSpec *to, VmSpec *onto) {
        int flags = ~0, r;

        for (size_t i = 0; i < vm_spec_n_keys; i++) {
                const SpecKey *k = &vm_spec_keys[i];

                if (is_same(k, from, to))
                        continue;
                r = copy_field(k, to, onto);
                if (r < 0)
                        return r;
                flags &= (int)k->flags;
        }
        onto->given |= to->given;
        return flags;
}

static int check_microvm(const VmSpec *s, unsigned files, Error **reterr) {
        if (s->firmware == VM_FIRMWARE_UEFI)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "machine 'microvm' has no firmware 'uefi'; it boots a kernel");
        if (!(files & 1U << VM_FILE_KERNEL))
                return error_set(reterr, ERROR_INVALID_SPEC, "machine 'microvm' needs a kernel");
        if (vm_spec_has(s, "display") && s->display == VM_DISPLAY_VNC)
                return error_set(reterr, ERROR_INVALID_SPEC, "machine 'microvm' has no display");
        return 0;
}

int vm_spec_check(const VmSpec *s, unsigned files, Error **reterr) {
        bool kernel = files & 1U << VM_FILE_KERNEL;

        if (s->machine && streq(s->machine, "microvm")) {
                int r = check_microvm(s, files, reterr);

                if (r < 0)
                        return r;
        }
        if (!(files & 1U << VM_FILE_IMAGE) && !kernel)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "There is neither an image nor a kernel to boot from");
        if (!kernel && (files & 1U << VM_FILE_INITRD))
                return error_set(reterr, ERROR_INVALID_SPEC, "An initrd is given, but no kernel");
        if (!kernel && !isempty(s->append))
                return error_set(reterr, ERROR_INVALID_SPEC, "append '%s' is given, but no kernel",
                                s->append);
        if (kernel && s->firmware == VM_FIRMWARE_UEFI)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "firmware 'uefi' and a kernel exclude each other");
        if ((files & 1U << VM_FILE_USER_DATA) && s->ssh_key)
                return error_set(reterr, ERROR_INVALID_SPEC, "user-data and ssh-key exclude each other");
        if (vm_spec_has(s, "cloud-init") && !s->cloud_init &&
                        (s->ssh_key || (files & 1U << VM_FILE_USER_DATA)))
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "cloud-init is switched off, so ssh-key and user-data reach nobody");
        if (s->limits.memory_max > 0 && s->limits.memory_high > s->limits.memory_max)
                return error_set(reterr, ERROR_INVALID_SPEC, "memory-high %s is above memory-max %s",
                                FORMAT_SIZE(s->limits.memory_high), FORMAT_SIZE(s->limits.memory_max));
        return 0;
}

void vm_spec_write(const VmSpec *s, JsonWriter *w) {
        json_write_object(w);
        for (size_t i = 0; i < vm_spec_n_keys; i++) {
                const SpecKey *k = &vm_spec_keys[i];
                const void *field = spec_key_field(k, s);

                if (k->flags & SPEC_NOT_STORED)
                        continue;
                if (k->type == SPEC_STRING && !*(char *const *)field)
                        continue;
                json_write_key(w, k->name);
                switch (k->type) {
                case SPEC_BOOLEAN:
                        json_write_boolean(w, *(const bool *)field);
                        break;
                case SPEC_UNSIGNED:
                        json_write_unsigned(w, *(const uint32_t *)field);
                        break;
                case SPEC_SIZE:
                        json_write_unsigned(w, *(const uint64_t *)field);
                        break;
                case SPEC_STRING:
                        json_write_string(w, *(char *const *)field);
                        break;
                case SPEC_ENUM:
                        json_write_string(w, k->names[*(const int *)field]);
                        break;
                case SPEC_FILE:
                        break;
                }
        }
        json_write_end(w);
}

static int read_key(const SpecKey *k, const Json *v, VmSpec *s, Error **reterr) {
        uint64_t u;

        if (json_string(v))
                return vm_spec_set_string(s, k, json_string(v), reterr);
        if (json_type(v) == JSON_BOOLEAN && k->type == SPEC_BOOLEAN)
                return vm_spec_set_number(s, k, (uint64_t)json_boolean(v), reterr);
        if (k->type != SPEC_BOOLEAN && json_unsigned(v, &u) >= 0)
                return vm_spec_set_number(s, k, u, reterr);
        return error_set(reterr, ERROR_INVALID_SPEC, "%s has a value of the wrong type", k->name);
}

int vm_spec_read(const Json *object, VmSpec *s, Error **reterr) {
        for (size_t i = 0; i < json_length(object); i++) {
                const SpecKey *k = spec_key_find(json_key(object, i));
                int r;

                if (!k || (k->flags & SPEC_NOT_STORED))
                        return error_set(
                                        reterr, ERROR_INVALID_SPEC, "Unknown key '%s'", json_key(object, i));
                r = read_key(k, json_member(object, i), s, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

VmLimits vm_limits_resolve(const VmSpec *s, bool tcg) {
        VmLimits l = s->limits;

        /* QEMU's own heap and code, video memory and I/O buffers, and passt's; then page tables by RAM, then
         * translated code with the tables that describe it. */
        if (l.memory_max == 0)
                l.memory_max = s->memory + 256 * MIB + s->memory / 16 +
                                (tcg ? VM_TCG_CACHE + VM_TCG_CACHE / 4 : 0);
        /* vCPUs, up to 64 workers of the I/O thread pool, VNC and migration threads, and the shim. */
        if (l.tasks_max == 0)
                l.tasks_max = 128 + s->vcpus;
        return l;
}
