/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A guest's output for a terminal: colours stay, whatever else could move the cursor, retitle the window,
 * ask the terminal to type or switch its mode is taken out. What is split over calls is put together. */

#include <stdio.h>

#include "util/macro.h"

typedef enum SanitizeStep {
        SANITIZE_TEXT,
        SANITIZE_ESCAPE, /* behind ESC */
        SANITIZE_CSI,    /* behind ESC [ */
        SANITIZE_STRING, /* in an OSC, DCS, SOS, PM or APC, which BEL or ESC \ ends */
        SANITIZE_STRING_ESCAPE,
        SANITIZE_CHARSET, /* one more byte belongs to the sequence */
} SanitizeStep;

typedef struct Sanitizer {
        SanitizeStep step;
        char csi[32]; /* parameters of the sequence so far; longer ones are no colours */
        size_t n_csi;
        unsigned char utf8[4]; /* a sequence that isn't complete yet */
        size_t n_utf8, utf8_len;
        bool plain;  /* colours are taken out, too */
        bool styled; /* a colour is on */
} Sanitizer;

void sanitize_write(Sanitizer *s, FILE *stream, const char *data, size_t n);

/* What is incomplete is dropped, a colour that is on is switched off. */
void sanitize_end(Sanitizer *s, FILE *stream);
