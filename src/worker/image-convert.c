/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image-task.h"
#include "qemu-img.h"

#define SECONDS_MAX (4 * 3600)
#define CPU_SECONDS (4 * 3600)
#define ADDRESS_SPACE (2 * GIB)

static void on_percent(double percent, void *userdata) {
        ImageTask *t = userdata;

        progress_tell(&t->progress, t->phase, (uint64_t)((double)t->total * percent / 100), t->total);
}

/* The bounds of a qcow2 image and of its tables are known to hold, those of other formats only roughly: what
 * qemu-img does not take, or chokes on, is the image's fault. */
static int convert(ImageTask *t, const QemuImgSpec *spec, Error **reterr) {
        _cleanup_(qemu_img_freep) QemuImg *q = NULL;
        _cleanup_error_ Error *e = NULL;
        int r;

        r = qemu_img_start(spec, &q, reterr);
        if (r < 0)
                return r;
        r = qemu_img_finish(q, SECONDS_MAX, on_percent, t, &e);
        if (r >= 0)
                return 0;
        return error_set(reterr, error_code(e) == ERROR_FAILED ? ERROR_INVALID_IMAGE : error_code(e),
                        "%s cannot be converted: %s", t->label, error_message(e));
}

int image_convert(ImageTask *t, ImageFile from, const ImageHeader *header, ImageFile to, ImageFormat format,
                Error **reterr) {
        /* The format is stated, and no other file is followed, whatever the image says. */
        _cleanup_free_ char *source = strf("json:{\"driver\":\"%s\",\"read-only\":true,%s\"file\":"
                                           "{\"driver\":\"file\",\"filename\":\"" QEMU_IMG_PATH_0 "\"}}",
                        image_format_to_string(header->format),
                        header->format == IMAGE_FORMAT_RAW ? "" : "\"backing\":null,");
        const char *const args[] = { "convert", "-p", "-O", image_format_to_string(format), source,
                QEMU_IMG_PATH_1, NULL };
        const QemuImgSpec spec = {
                .args = args,
                .fds = { t->fds[from], t->fds[to] },
                .n_fds = 2,
                .what = "the converted image",
                .cpu_seconds = CPU_SECONDS,
                .address_space = ADDRESS_SPACE,
        };
        int r;

        if (!source)
                return error_set_errno(reterr, -ENOMEM, "Failed to start qemu-img");
        r = image_task_check_empty(t, to, reterr);
        if (r < 0)
                return r;
        t->phase = "converting";
        t->total = header->virtual_size;
        progress_tell(&t->progress, t->phase, 0, t->total);
        return convert(t, &spec, reterr);
}
