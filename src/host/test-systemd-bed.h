/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* PID 1 as the other end of a connection, and instead of core/launcher.c: it keeps the last call of each
 * kind, and says what a test has it say. The clock, too, goes as a test lets it. */

#include "core/bus-paths.h"
#include "systemd-private.h"
#include "util/test.h"

#define BEFORE ":1.1" /* PID 1's connection */
#define AFTER ":1.2"
#define UNIT "vmctl-a.scope"
#define JOB SYSTEMD_PATH "/job/7"

typedef enum BedCall {
        BED_LIST,  /* scopes */
        BED_LOOK,  /* which processes are in one */
        BED_START, /* this and what follows by the launcher */
        BED_STOP,
        BED_KILL,
        _BED_CALL_MAX,
} BedCall;

typedef struct Bed {
        sd_event *event;
        sd_bus *client, *server;
        Systemd *systemd;
        sd_bus_message *calls[BED_START]; /* the last of each */
        unsigned n_calls[_BED_CALL_MAX];
        unsigned stop_requests, removed, in_use; /* handlers' calls */
        char last[64];                           /* the unit that the last of these was about */
} Bed;

extern bool bed_has_matches; /* which are never installed; else there are none, as without a bus */
extern const char *bed_unit_of_process; /* as its control group says, whichever it is */

void bed_init(Bed *b);
void bed_done(Bed *b);
void bed_settle(Bed *b);

void bed_answer_start(Bed *b, int error, const char *text); /* to the last one, if it still waits */
void bed_fail(Bed *b, BedCall call, const char *error);
void bed_reply(Bed *b, BedCall call, const char *types, ...); /* to the last one */
void bed_signal(Bed *b, const char *sender, const char *member, const char *types, ...);
void bed_begin_anew(Bed *b); /* PID 1 executes itself */
void bed_change_state(Bed *b, const char *path, const char *state);

/* The answer to BED_LIST. state NULL: there is no such unit. job: its type, "" for none. */
void bed_list(Bed *b, const char *unit, const char *state, const char *job);

/* False: nobody has a deadline. */
bool bed_pass_deadline(Bed *b);
