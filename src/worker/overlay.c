/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "overlay.h"
#include "qemu-img.h"

#define BACKING_NAME_MAX 1023 /* qcow2's */

struct Overlay {
        QemuImg *qemu_img;
};

Overlay *overlay_free(Overlay *o) {
        if (!o)
                return NULL;
        qemu_img_free(o->qemu_img);
        free(o);
        return NULL;
}

/* -u: the base is not opened, so nothing in it is trusted, and qemu-img needs no right to it. QEMU is told
 * the base's descriptor at each start, so the name in the file is only for people who look at it: it is
 * taken literally where it begins with '/', whatever else is in it. */
static int start_qemu_img(const OverlaySpec *spec, QemuImg **ret, Error **reterr) {
        const char *args[16];
        const QemuImgSpec q = { .args = args, .fds = { spec->fd }, .n_fds = 1, .what = "the VM's disk" };
        char size[32];
        size_t n = 0;

        (void)snprintf(size, sizeof(size), "%" PRIu64, spec->size);
        args[n++] = "create";
        args[n++] = "-q";
        args[n++] = "-f";
        args[n++] = "qcow2";
        if (spec->base) {
                args[n++] = "-u";
                args[n++] = "-F";
                args[n++] = image_format_to_string(spec->format);
                args[n++] = "-b";
                args[n++] = spec->base;
        }
        args[n++] = QEMU_IMG_PATH_0;
        args[n++] = size;
        args[n] = NULL;
        return qemu_img_start(&q, ret, reterr);
}

int overlay_start(const OverlaySpec *spec, Overlay **ret, Error **reterr) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        int r;

        if (spec->base && strlen(spec->base) > BACKING_NAME_MAX)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "The disk image's path has %zu bytes, and only %u fit in a qcow2 file: move "
                                "it",
                                strlen(spec->base), BACKING_NAME_MAX);
        o = calloc(1, sizeof(*o));
        if (!o)
                return error_set_errno(reterr, -ENOMEM, "Failed to start qemu-img");
        r = start_qemu_img(spec, &o->qemu_img, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

int overlay_finish(Overlay *o, Error **reterr) {
        return qemu_img_finish(o->qemu_img, 0, NULL, NULL, reterr);
}
