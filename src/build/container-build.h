/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A folder with a Containerfile or Dockerfile is built by podman, buildah or docker, whichever there is. */

#include "util/error.h"

/* 1: there is one, given or found in the folder; *ret is the caller's to free. 0: there is none, and none
 * was asked for. */
int container_find_file(const char *folder, const char *given, char **ret, Error **reterr);

/* Builds it, and saves the image in an unnamed file. ERROR_TOOL_MISSING where there is no such program. */
int container_build(const char *folder, const char *file, int *ret, Error **reterr);
