/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <systemd/sd-bus.h>

#include "bus-paths.h"
#include "util/string-util.h"

static char *encode(const char *prefix, const char *name) {
        char *path;

        return sd_bus_path_encode(prefix, name, &path) < 0 ? NULL : path;
}

char *bus_vm_path(const char *name) {
        return encode(BUS_PATH_VM, name);
}

char *bus_image_path(const char *name) {
        return encode(BUS_PATH_IMAGE, name);
}

char *bus_job_path(uint32_t id) {
        return strf(BUS_PATH_JOB "/%" PRIu32, id);
}
