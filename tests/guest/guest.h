/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* What the parts of the test guest's init share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define CLEANUP(f) __attribute__((cleanup(f)))
#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))

#define MIB (UINT64_C(1) << 20)
#define POWER_BUTTONS_MAX 4

typedef struct Guest {
        pid_t shell; /* the interactive shell that has the console, or 0 */
        bool ignore_power;
        int power_buttons[POWER_BUTTONS_MAX];
        size_t n_power_buttons;
} Guest;

extern Guest guest;

/* init.c */

/* fork() with the child's signals as a program expects them. */
pid_t spawn(void);
void console_set_up(bool echo);
/* Writes out everything and calls reboot(2); comes back only when that fails. */
int leave(int how);

/* commands.c */

/* Runs "NAME [ARGUMENTS]" and prints "ok NAME" or "error NAME: REASON" when it is done. */
void command_run(char *line);

/* hardware.c */

void close_fd(int *fd);
void close_file(FILE **file);
int write_file(const char *path, const char *text);
int read_word(const char *path, char *ret, size_t size);
void load_modules(const char *folder);
void open_power_buttons(void);
void print_facts(void);
/* Each stores a path below /dev, or returns -ENODEV. */
int find_seed_disk(char *ret, size_t size);
int find_agent_port(char *ret, size_t size);
int start_watchdog(uint64_t seconds);
