/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What is taken from the names of files. */

#include "util/macro.h"

/* image_name_from_path() of folders, too: NULL when memory is short or nothing fit for a name is left. */
char *image_name_of(const char *path);

/* The path of a file: URL with nothing escaped. NULL if it is none, or names another host. */
char *image_url_path(const char *url);
