/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Options of the command line as the a{sv} of CreateVM, UpdateSpec and SetLimits. */

#include "ctl.h"

/* Opens a file of the user's for reading. Only a regular file will do: -EISDIR or -EINVAL otherwise, and a
 * FIFO does not make us wait. The message names the file. */
int spec_open_file(const char *path, int *ret_fd, Error **reterr);

/* Reads a small text file, as a public key is. `what` names it in the message. */
int spec_read_text(const char *path, const char *what, char **ret, Error **reterr);

/* Appends the a{sv} of all options that were used, and of the words, which are "LIMIT=VALUE" with the names
 * of options that are limits. Of two entries for one key the last counts; words come last. */
int spec_append_changes(sd_bus_message *m, const Args *args, const char *const *words, Error **reterr);

/* What --image names: a file that is there, or has a slash in its name; a URL; else an image of the store.
 */
typedef enum ImageKind {
        IMAGE_FILE,
        IMAGE_URL,
        IMAGE_STORED,
} ImageKind;

ImageKind spec_image_kind(const char *text);

/* The a{sv} of those options that were used and stand in the table, or of all others. */
int spec_append_table(sd_bus_message *m, const Args *args, const Option *table, bool others, Error **reterr);

static inline int spec_append_options(sd_bus_message *m, const Args *args, Error **reterr) {
        return spec_append_changes(m, args, (const char *const[]){ NULL }, reterr);
}
