/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The service as a client sees it, over one connection to the system bus. What fails ends the program. */

#include "util/macro.h"

void service_connect(void);
uint32_t service_pid(void); /* of vmctld */

/* Files are opened here; NULL: none. */
typedef struct NewVm {
        const char *image, *kernel, *initrd;
        const char *image_name; /* of a stored image */
        uint64_t memory;        /* bytes */
        bool network;
} NewVm;
void service_create(const char *vm, const NewVm *spec);
double service_create_from_url(
                const char *vm, const char *url, const NewVm *spec); /* up to the job's end, in ms */
void service_destroy(const char *vm);
void service_start(const char *vm);
void service_kill(const char *vm);
void service_stop(const char *vm); /* returns when the job is done */
void service_set_memory(const char *vm, uint64_t bytes);
size_t service_list(void); /* returns how many there are */

/* A scope as the service has it around a process; returns when it is there. */
void systemd_make_scope(pid_t pid);

/* What PID 1 alone takes: a scope around a process that sleeps, in milliseconds. */
double systemd_time_scope(void);

char *service_vm_string(const char *vm, const char *property); /* the caller frees it */
char *service_vm_spec_string(const char *vm, const char *key); /* the same; NULL: the definition has none */
uint32_t service_vm_pid(const char *vm);
int service_open_console(const char *vm); /* the caller closes it */

/* Other connections, of several users since the bus caps those of one, that have called once. They last as
 * long as the program, and read nothing. */
void service_add_clients(unsigned n);
unsigned service_count_matches(void); /* of the service's connection */
