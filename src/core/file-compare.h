/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Whether two regular files have the same content: 1 or 0, or a negative errno. Holes are not read. Takes as
 * long as their disks do. */
int file_compare(int a, int b);
