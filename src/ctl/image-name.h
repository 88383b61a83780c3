/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Names for images, from those of files. */

#include "util/macro.h"

/* Of a file's name, or the last part of its path, less the endings of images and of what compresses them,
 * and with what no name may have replaced. NULL when memory is short; "image" where nothing is left. */
char *image_name_of(const char *path);

/* The path of a file: URL with nothing escaped. NULL if it is none, or names another host. */
char *image_url_path(const char *url);
