/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The shim's command line; shim.c says what each option means. */

#include "util/error.h"

#define OPTION_FDS_MAX 64
#define OPTION_FILES_MAX 32
#define OPTION_PATHS_MAX 32
#define OPTION_GROUPS_MAX 16
#define OPTION_HELPERS_MAX 4
#define OPTION_HELPER_ARGS_MAX 32

typedef struct OptionFds {
        size_t n;
        int fd[OPTION_FDS_MAX];
} OptionFds;

typedef struct OptionPaths {
        size_t n;
        const char *path[OPTION_PATHS_MAX];
} OptionPaths;

/* A file that QEMU is to find open, if it still is the one that was meant. */
typedef struct GivenFile {
        int target;   /* its number in QEMU */
        uid_t owner;  /* with whose rights it is opened; 0: ours */
        bool by_path; /* QEMU opens /proc/self/fd/TARGET again, with its own rights */
        uint64_t ino;
        uint64_t btime; /* nanoseconds; 0: the file system has none, and ctime counts */
        uint64_t ctime;
        uint64_t mtime; /* ... and with what content, which may have changed */
        uint64_t size;
        const char *path;
} GivenFile;

/* A program that runs beside QEMU. */
typedef struct OptionHelper {
        char *argv[OPTION_HELPER_ARGS_MAX + 2]; /* NULL-terminated; the first is the path */
        size_t n_args;
        OptionFds fds;
} OptionHelper;

typedef struct Options {
        bool cat;
        bool debug;
        bool private_network;
        bool has_identity; /* --uid and --gid are given */
        uid_t uid;
        gid_t gid;
        uid_t owner; /* of the files that follow */
        size_t n_groups;
        gid_t groups[OPTION_GROUPS_MAX];
        int control;
        int serial;
        int console_log;
        int console_log_old;
        int qemu_log;
        int exit_record;
        int listen_console;
        int listen_log;
        uint64_t console_log_max;
        uint64_t qemu_log_max;
        uint32_t tail;
        OptionFds pass;
        size_t n_files;
        GivenFile files[OPTION_FILES_MAX];
        OptionPaths devices;
        OptionPaths bind_ro;
        size_t n_helpers;
        OptionHelper helpers[OPTION_HELPERS_MAX];
        char **command; /* NULL-terminated, borrowed from argv as all strings here */
} Options;

/* Checks everything that can be checked without touching a file: numbers, ranges, paths, that each
 * descriptor is named once, that those to be used are open, and that those to be made are not. On failure
 * `ret->control` is set nevertheless if it could be read. */
int options_parse(int argc, char **argv, Options *ret, Error **reterr_error);
