/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM as a systemd unit: what vmctl-unit, the process of vm@NAME.service, knows of it. */

#include <systemd/sd-event.h>

#include "client/jobs.h"
#include "ctl.h"
#include "lines.h"
#include "spec/vmfile.h"

#define UNIT_EXIT_NO_VM 6 /* systemd shows it as NOTCONFIGURED, and vm@.service is not restarted for it */

typedef enum UnitStep {
        UNIT_CONVERGING, /* 'vmctl up' makes, starts and provisions it */
        UNIT_FINDING,    /* whether there is such a VM, and whose it is */
        UNIT_STARTING,   /* Start was called */
        UNIT_WAITING,    /* until it is ready */
        UNIT_READY,
        UNIT_STOPPING,
        UNIT_ENDED,
} UnitStep;

typedef struct Unit {
        Ctl *ctl;         /* borrowed */
        sd_event *event;  /* borrowed */
        const char *name; /* borrowed */
        char *path;       /* the VM's object */
        const char *file; /* what defines it, or NULL; borrowed */
        VmfileReady ready;
        char *private_key; /* a path, or NULL */

        UnitStep step;
        bool stranger;         /* it is to stop, and whose the VM is isn't known yet */
        char *state, *failure; /* the VM's, as far as known */
        uint64_t stop_deadline;
        unsigned attempts;
        ClientCall *call, *query, *console_call;
        ClientJobs *jobs;
        ClientJob *wait; /* of WaitReady */
        ServiceWatch *watch;

        sd_event_source *signals[2];

        pid_t child; /* 'vmctl up'; 0: none */
        sd_event_source *child_source;
        int child_status;
        Lines *child_lines; /* NULL: it has printed all */
        char *last_line;

        Lines *console; /* NULL: not open */
        bool console_ended;
        sd_event_source *linger;
        int exit_status;
} Unit;

/* Calls, subscribes, or runs 'vmctl up', by what the VM needs. Reports failure. */
int unit_begin(Unit *u);
/* The unit is to stop: shuts the guest down, in what is left of TimeoutStopSec. */
void unit_stop(Unit *u);
void unit_done(Unit *u);

/* For the two files that unit.c is made of. */
void unit_status(Unit *u, const char *format, ...) _printf_(2, 3);
/* The end of it all. `why` is NULL when all is well. */
void unit_end(Unit *u, int exit_status, const char *why, ...) _printf_(3, 4);
void unit_wait(Unit *u);      /* Start, or 'vmctl up', is done */
void unit_call_stop(Unit *u); /* there is no child any more */
int unit_converge(Unit *u);   /* runs 'vmctl up' */
void unit_query(Unit *u);     /* asks for the VM's state */
void unit_open_console(Unit *u);
