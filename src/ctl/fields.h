/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Blocks of lines that tell all about an object of the service. What is absent is "" or 0. */

#include "ctl.h"

/* Members are what the service says, and some of that is what QEMU, a guest or an image says: it is shown by
 * the functions here, which let no control character pass. */
const char *fields_string(const Json *object, const char *key);
uint64_t fields_number(const Json *object, const char *key);

/* A line for a member that is a string, a time, or an array of strings; none when it is empty. */
void fields_print(const char *label, const Json *object, const char *key);
void fields_print_time(const char *label, const Json *object, const char *key);
void fields_print_list(const char *label, const Json *list);

/* Prints a string behind the text before it; nothing at all when it is empty. No line of its own. */
void fields_print_word(const char *before, const Json *object, const char *key);

/* A line for the member Owner. */
void fields_print_owner(const Ctl *c, const Json *object);

/* Prints a size behind the text before it; no line of its own. */
void fields_print_size(const char *before, uint64_t bytes);
