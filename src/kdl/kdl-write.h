/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Strings and comments as the text of a version: the lower half of the formatter. */

#include "kdl-internal.h"

typedef struct KdlWriter {
        FILE *f;
        KdlVersion version;        /* to write */
        KdlVersion source_version; /* that the document was read as */
        KdlFormatFlags flags;
} KdlWriter;

void kdl_write_indent(KdlWriter *w, unsigned depth);

/* `depth` is that of the lines of a multi-line string; only names may be bare words in KDL 1. */
void kdl_write_string(
                KdlWriter *w, const KdlDocument *doc, const KdlString *s, bool is_name, unsigned depth);

void kdl_write_comment(KdlWriter *w, const char *text, size_t len);
