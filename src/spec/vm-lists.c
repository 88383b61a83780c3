/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>

#include "name.h"
#include "util/string-util.h"
#include "vm-lists.h"

#define ITEM_MAX 64

/* Copies the next item. Returns as vm_forward_next(). */
static int next_item(const char **list, char item[static ITEM_MAX]) {
        size_t n;

        if (isempty(*list))
                return 0;
        n = strcspn(*list, ",");
        if (n == 0 || n >= ITEM_MAX)
                return -EINVAL;
        memcpy(item, *list, n);
        item[n] = '\0';
        *list += n;
        if (**list == ',' && *++*list == '\0')
                return -EINVAL;
        return 1;
}

static int parse_port(const char *s, uint16_t *ret) {
        uint32_t v;

        if (parse_u32(s, &v) < 0 || v == 0 || v > UINT16_MAX)
                return -EINVAL;
        *ret = (uint16_t)v;
        return 0;
}

int vm_forward_next(const char **list, VmForward *ret) {
        char item[ITEM_MAX], *colon;
        int r;

        r = next_item(list, item);
        if (r <= 0)
                return r;
        colon = strchr(item, ':');
        if (!colon)
                return -EINVAL;
        *colon = '\0';
        return parse_port(item, &ret->host) < 0 || parse_port(colon + 1, &ret->guest) < 0 ? -EINVAL : 1;
}

int vm_disk_next(const char **list, VmDisk *ret) {
        char item[ITEM_MAX], *colon;
        int r;

        r = next_item(list, item);
        if (r <= 0)
                return r;
        colon = strchr(item, ':');
        if (!colon)
                return -EINVAL;
        *colon = '\0';
        if (!vm_name_is_valid(item) || strlen(item) > VM_DISK_NAME_MAX ||
                        parse_size(colon + 1, 1, &ret->size) < 0)
                return -EINVAL;
        strcpy(ret->name, item);
        return 1;
}

int vm_forwards_check(const char *list, Error **reterr) {
        uint16_t hosts[VM_FORWARDS_MAX];
        const char *at = list, *item = list;
        VmForward f;
        size_t n = 0;
        int r;

        for (; (r = vm_forward_next(&at, &f)) > 0; item = at) {
                if (n >= VM_FORWARDS_MAX)
                        return error_set(reterr, ERROR_INVALID_SPEC, "forward has more than %i ports",
                                        VM_FORWARDS_MAX);
                if (f.host < VM_PORT_MIN)
                        return error_set(reterr, ERROR_INVALID_SPEC,
                                        "forward: port %" PRIu16
                                        " of the host is below %i, where QEMU may not listen",
                                        f.host, VM_PORT_MIN);
                for (size_t i = 0; i < n; i++)
                        if (hosts[i] == f.host)
                                return error_set(reterr, ERROR_INVALID_SPEC,
                                                "forward has port %" PRIu16 " of the host twice", f.host);
                hosts[n++] = f.host;
        }
        return r < 0 ? error_set(reterr, ERROR_INVALID_SPEC,
                                       "forward '%.64s' is not HOST:GUEST,..., two TCP ports", item)
                     : 0;
}

static bool has_name(const char *list, const char *end, const char *name) {
        VmDisk d;

        while (list < end && vm_disk_next(&list, &d) > 0)
                if (streq(d.name, name))
                        return true;
        return false;
}

int vm_disks_check(const char *list, Error **reterr) {
        char size[FORMAT_SIZE_MAX];
        const char *at = list, *item = list;
        VmDisk d;
        size_t n = 0;
        int r;

        for (; (r = vm_disk_next(&at, &d)) > 0; item = at) {
                if (++n > VM_DISKS_MAX)
                        return error_set(reterr, ERROR_INVALID_SPEC, "disks has more than %i disks",
                                        VM_DISKS_MAX);
                if (d.size < MIB || d.size > VM_DISK_MAX)
                        return error_set(reterr, ERROR_INVALID_SPEC,
                                        "disks: '%s' has %s, not 1 MiB to 64 TiB", d.name,
                                        format_size(d.size, size));
                if (has_name(list, item, d.name))
                        return error_set(reterr, ERROR_INVALID_SPEC, "disks has '%s' twice", d.name);
        }
        return r < 0 ? error_set(reterr, ERROR_INVALID_SPEC,
                                       "disks '%.64s' is not NAME:SIZE,..., a name of at most %i letters, "
                                       "digits, '-', '_' "
                                       "and '.'",
                                       item, VM_DISK_NAME_MAX)
                     : 0;
}
