/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Our folder by the XDG Base Directory Specification: "vmctl" below what the variable names, or below
 * `fallback` (NULL: nothing else will do) in the home directory. NULL when there is none, or memory is
 * short. */
char *xdg_folder(const char *variable, const char *fallback);
