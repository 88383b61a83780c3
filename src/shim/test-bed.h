/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For tests: a shim, started as the service would, with /bin/sh or the like in QEMU's place. */

#include "util/child.h"
#include "util/error.h"
#include "util/test.h"

/* Numbers in the shim. A shell can redirect to single digits only. */
enum {
        BED_CONTROL = 3,
        BED_CONSOLE_LOG,
        BED_CONSOLE_LOG_OLD,
        BED_QEMU_LOG,
        BED_EXIT_RECORD,
        BED_SERIAL,
        BED_FREE, /* 9, and from 12 on: for the test */
        BED_LISTEN_CONSOLE,
        BED_LISTEN_LOG,
};

#define BED_UID 61184 /* systemd's dynamic users begin here: nobody's */

typedef struct Bed {
        char dir[64]; /* holds console.log, console.log.1, qemu.log, exit.json and the sockets */
        char **options;
        ChildFd fds[32];
        size_t n_fds;
        int control; /* our end */
        pid_t pid;
        pid_t qemu_pid;
} Bed;

/* Runs each in a process of its own with a deadline; kills whatever it leaves behind, and calls that a
 * failure. Returns main()'s status: 77 if nothing could be run. */
typedef struct BedCase {
        const char *name;
        void (*run)(void);
        bool user; /* run it as a user instance */
} BedCase;
int bed_main(int argc, char **argv, const BedCase *cases, size_t n);

/* What a user's case has done already. */
void bed_become_user(void);

/* The program under test, where anybody can execute it. */
const char *bed_shim(void);

Bed *bed_new(void);
Bed *bed_free(Bed *b); /* closes our end, waits for the shim and removes the folder */
DEFINE_CLEANUP(Bed *, bed_free);

/* Before the start: adds an option, or a descriptor (which becomes the bed's) to be found under a number. */
void bed_option(Bed *b, const char *format, ...) _printf_(2, 3);
void bed_add_fd(Bed *b, int fd, int target);

/* A file in the bed's folder, created if need be: a descriptor for reading and writing. */
int bed_open(const Bed *b, const char *name);
char *bed_path(const Bed *b, const char *name);
char *bed_content(const Bed *b, const char *name);

void bed_start(Bed *b, const char *const *command);
void bed_go(Bed *b);
char *bed_line(Bed *b); /* what the shim says next, without the newline; NULL: it closed */
int bed_wait(Bed *b);   /* for the shim's end: its exit status */

/* Starts a shell script in QEMU's place and returns when it runs. */
void bed_run(Bed *b, const char *script);
/* Expects the shim to say that it ended so, and to have recorded the same. */
void bed_expect_exit(Bed *b, const char *record_start);
/* Runs the script to its end, expects exit status 0 and returns what it wrote to standard output and error.
 */
char *bed_output(Bed *b, const char *script);

int bed_console(const Bed *b);
int bed_log(const Bed *b, uint32_t tail, uint32_t flags);
int bed_log_silent(const Bed *b); /* has not asked for anything yet */

/* Reads until the text is there, or the end (NULL). The rest stays unread. */
void read_until(int fd, const char *text);
char *read_to_end(int fd, size_t *ret_len);
void write_text(int fd, const char *text);
