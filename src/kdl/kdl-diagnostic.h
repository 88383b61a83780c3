/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What is wrong with a text, and where: collected by readers of a document, shown with the line and a caret.
 *
 * Lines end as in editors, at LF, CR LF and CR. Columns count characters from 1, a tab being one. */

#include <stdio.h>

#include "util/string-util.h"

typedef struct KdlSpan {
        uint32_t start, end; /* bytes; end is behind the last one */
} KdlSpan;

typedef enum KdlLevel {
        KDL_LEVEL_ERROR,
        KDL_LEVEL_WARNING,
        KDL_LEVEL_NOTE,
        _KDL_LEVEL_MAX,
        _KDL_LEVEL_INVALID = -EINVAL,
} KdlLevel;
DECLARE_STRING_TABLE(kdl_level, KdlLevel);

typedef struct KdlDiagnostic {
        KdlLevel level;
        KdlSpan span;
        char *message;
        char *hint; /* NULL: none */
} KdlDiagnostic;

#define KDL_ERRORS_MAX 20 /* nobody reads on; what comes then is counted */

typedef struct KdlDiagnostics KdlDiagnostics;

/* The text is borrowed and must stay as it is; `file` is what to call it. */
int kdl_diagnostics_new(const char *file, const char *text, size_t len, KdlDiagnostics **ret);
KdlDiagnostics *kdl_diagnostics_free(KdlDiagnostics *d);
DEFINE_CLEANUP(KdlDiagnostics *, kdl_diagnostics_free);
#define _cleanup_kdl_diagnostics_ _cleanup_(kdl_diagnostics_freep)

/* Both accept NULL for d and return -EBADMSG, so that a reader can end with them. When memory is short the
 * entry is only counted. The hint goes to the entry added last. */
int kdl_diagnostics_add(KdlDiagnostics *d, KdlLevel level, KdlSpan span, const char *format, ...)
                _printf_(4, 5);
int kdl_diagnostics_hint(KdlDiagnostics *d, const char *format, ...) _printf_(2, 3);

/* Moves what `from`, which is of the same text, has collected behind the entries of `d`. */
void kdl_diagnostics_take(KdlDiagnostics *d, KdlDiagnostics *from);

size_t kdl_diagnostics_errors(const KdlDiagnostics *d); /* all errors, also those not kept */
size_t kdl_diagnostics_count(const KdlDiagnostics *d);
const KdlDiagnostic *kdl_diagnostics_get(const KdlDiagnostics *d, size_t i);

/* Line and column, from 1, of a byte. Asking for lines in the order of the text costs one pass over it. */
unsigned kdl_diagnostics_line(KdlDiagnostics *d, uint32_t offset);
unsigned kdl_diagnostics_column(const KdlDiagnostics *d, uint32_t offset);

/* All entries by their places in the text. What a terminal would not print as one character is replaced. */
void kdl_diagnostics_write(KdlDiagnostics *d, FILE *f);
