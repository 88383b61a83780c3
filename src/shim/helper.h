/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A program that QEMU needs beside it, as passt for its network: a child of the shim in the same scope,
 * under the same identity and without capabilities, but outside of QEMU's namespaces. It has the descriptors
 * that it was given under their numbers, and ends when QEMU does.
 *
 * Its standard output is a pipe to us: it is ready when it writes there. */

#include "options.h"

typedef struct Helper {
        const char *path; /* borrowed */
        pid_t pid;        /* 0: there is none, or none any more */
        int pidfd;
        int ready; /* the pipe's reading end, until it is */
} Helper;

#define HELPER_INIT \
        { .pidfd = -EBADF, .ready = -EBADF }

/* Executes it, with standard error on `output`; to be called before the shim gives up its own rights. Its
 * descriptors are closed here. */
int helper_start(Helper *h, const Options *o, OptionHelper *def, int output, Error **reterr_error);

/* Waits until it is ready. If it ends instead, that is an error. */
int helper_await(Helper *h, Error **reterr_error);

/* Reaps one that has ended by itself (its pidfd says so). *ret_text, for people, is the caller's. */
int helper_reap(Helper *h, char **ret_text);

/* Kills it, and waits until it is gone. */
void helper_end(Helper *h);
