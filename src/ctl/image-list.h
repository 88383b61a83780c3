/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The reply to ListImages, read without a copy: strings are the message's. */

#include "ctl.h"

typedef struct ListedImage {
        const char *name, *path, *format, *url;
        uint32_t owner;
        int shared;
        uint64_t virtual_size, size, allocated, created_usec, used_usec;
        char **users; /* owned; names of VMs */
} ListedImage;

typedef struct ImageList {
        sd_bus_message *reply;
        ListedImage *images;
        size_t n;
} ImageList;

/* Reports failure. */
int image_list_fetch(Ctl *c, ImageList *ret);
void image_list_done(ImageList *l);
