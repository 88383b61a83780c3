/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* org.vmctl1.Image on the bus, and the methods of org.vmctl1.Manager that are about images. */

#include "bus-face.h"
#include "image/image-operations.h"

/* Registers the objects below /org/vmctl1/image, for the connection's life. */
int image_bus_add(BusFace *face);

/* For ImageHooks, with the Manager as userdata */
void image_bus_new(void *userdata, Image *image);
void image_bus_removed(void *userdata, Image *image);
void image_bus_changed(void *userdata, Image *image);

int image_bus_pull(sd_bus_message *m, void *userdata, sd_bus_error *error);
int image_bus_import(sd_bus_message *m, void *userdata, sd_bus_error *error);
int image_bus_inspect(sd_bus_message *m, void *userdata, sd_bus_error *error);
int image_bus_get(sd_bus_message *m, void *userdata, sd_bus_error *error);
int image_bus_list(sd_bus_message *m, void *userdata, sd_bus_error *error);
int image_bus_prune(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* Reads PullImage's options. The strings are borrowed from the message. */
int image_bus_read_pull(const BusFace *face, sd_bus_message *m, PullOptions *o, Error **reterr);
