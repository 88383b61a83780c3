/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A run of qemu-img, with the identity and the bounds of the worker and the descriptors it is given alone.
 */

#include "util/error.h"

#define QEMU_IMG_FDS_MAX 2
#define QEMU_IMG_PATH_0 "/proc/self/fd/3" /* what `fds` are called in the arguments */
#define QEMU_IMG_PATH_1 "/proc/self/fd/4"

typedef struct QemuImgSpec {
        const char *const *args;   /* NULL-terminated, behind the program's name */
        int fds[QEMU_IMG_FDS_MAX]; /* borrowed */
        size_t n_fds;
        const char *what;       /* it makes: "the VM's disk", in messages */
        uint64_t cpu_seconds;   /* 0: the worker's bound */
        uint64_t address_space; /* the same */
} QemuImgSpec;

typedef struct QemuImg QemuImg;

/* ERROR_QEMU_MISSING where there is none. */
int qemu_img_start(const QemuImgSpec *spec, QemuImg **ret, Error **reterr);

/* Waits for it; its own words are in the error, which is ERROR_NO_SPACE, ERROR_IMAGE_TOO_LARGE (the bound of
 * a file's size), ERROR_TIMEOUT (none of that after so many seconds; 0: no bound) or ERROR_FAILED.
 * on_percent (may be NULL) is called for what it says with -p. */
typedef void (*QemuImgPercent)(double percent, void *userdata);
int qemu_img_finish(
                QemuImg *q, unsigned seconds_max, QemuImgPercent on_percent, void *userdata, Error **reterr);

QemuImg *qemu_img_free(QemuImg *q); /* kills it where it still runs */
DEFINE_CLEANUP(QemuImg *, qemu_img_free);
