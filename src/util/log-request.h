/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a reader of a console log says first to the shim, in host byte order: the one thing that the service
 * and the shim have to agree on. */

#include <stdint.h>

typedef struct LogRequest {
        uint32_t tail;  /* that many of the last lines; LOG_REQUEST_ALL: everything */
        uint32_t flags; /* LOG_REQUEST_* */
} LogRequest;

#define LOG_REQUEST_ALL UINT32_MAX

enum {
        LOG_REQUEST_FOLLOW = 1 << 0,   /* then go on with what comes, until QEMU ends */
        LOG_REQUEST_THIS_RUN = 1 << 1, /* nothing that was printed before this QEMU */
};
