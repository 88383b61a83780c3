/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A program that QEMU needs beside it, as passt for its network: a child of the shim in the same scope,
 * under the same identity and without capabilities, but outside of QEMU's namespaces. It has the descriptors
 * that it was given under their numbers, and ends when QEMU does.
 *
 * Its standard output is a pipe to us: it is ready when it writes there. */

#include "options.h"

#define HELPER_WORDS_MAX 256

typedef struct Helper {
        const char *path; /* borrowed */
        pid_t pid;        /* 0: there is none, or none any more */
        int pidfd;
        int ready;                    /* the pipe's reading end, until it is */
        int output;                   /* that of its standard error, does not block */
        char words[HELPER_WORDS_MAX]; /* the last line that it said there since it was ready */
} Helper;

#define HELPER_INIT \
        { .pidfd = -EBADF, .ready = -EBADF, .output = -EBADF }

/* Executes it; to be called before the shim gives up its own rights. Its descriptors are closed here. */
int helper_start(Helper *h, const Options *o, OptionHelper *def, Error **reterr_error);

/* Waits until it is ready. If it ends instead, that is an error, with its last words. */
int helper_await(Helper *h, Error **reterr_error);

/* Hears what it says on standard error, a part at a time. False when there is nothing, or nothing more. */
bool helper_listen(Helper *h);

/* Reaps one that has ended by itself (its pidfd says so). *ret_text, with its last words, is the caller's.
 */
int helper_reap(Helper *h, char **ret_text);

/* Kills it if there is one, and waits until it is gone. */
void helper_end(Helper *h);
