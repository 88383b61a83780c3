/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <systemd/sd-bus.h>

#include "names.h"

static char *encode(const char *prefix, const char *name) {
        char *path = NULL;

        return sd_bus_path_encode(prefix, name, &path) < 0 ? NULL : path;
}

static char *decode(const char *prefix, const char *path) {
        char *name = NULL;

        return sd_bus_path_decode(path, prefix, &name) <= 0 ? NULL : name;
}

char *client_vm_path(const char *name) {
        return encode(VMCTL_VM_PREFIX, name);
}

char *client_image_path(const char *name) {
        return encode(VMCTL_IMAGE_PREFIX, name);
}

char *client_vm_name(const char *path) {
        return decode(VMCTL_VM_PREFIX, path);
}

char *client_image_name(const char *path) {
        return decode(VMCTL_IMAGE_PREFIX, path);
}
