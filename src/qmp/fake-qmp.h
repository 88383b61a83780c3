/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A scripted QMP server for tests, on one end of a socket pair and on the test's own event loop. It says
 * what it is told to say, well-formed or not, and hands commands to the test. */

#include <systemd/sd-event.h>

#include "util/macro.h"
#include "json/json.h"

typedef struct FakeQmp FakeQmp;

typedef struct FakeQmpCommand {
        const char *name;
        const Json *arguments; /* NULL if none */
        uint64_t id;
        int fd; /* that came with it, borrowed; or -EBADF */
} FakeQmpCommand;

/* NULL instead of a handler answers every command with {"return": {}}. */
typedef void (*fake_qmp_command_t)(FakeQmp *f, const FakeQmpCommand *command, void *userdata);

typedef enum FakeQmpFlags {
        FAKE_QMP_SILENT = 1 << 0,           /* no greeting by itself */
        FAKE_QMP_PASS_NEGOTIATION = 1 << 1, /* qmp_capabilities is for the handler, too */
} FakeQmpFlags;

/* *ret_fd is the client's end, owned by the caller. */
int fake_qmp_new(sd_event *event, FakeQmpFlags flags, fake_qmp_command_t handler, void *userdata,
                int *ret_fd, FakeQmp **ret);
FakeQmp *fake_qmp_free(FakeQmp *f); /* hangs up */
DEFINE_CLEANUP(FakeQmp *, fake_qmp_free);

/* Text is queued without bound, and sent as the client reads it. */
void fake_qmp_say(FakeQmp *f, const char *format, ...) _printf_(2, 3);
void fake_qmp_say_n(FakeQmp *f, const char *data, size_t len);

void fake_qmp_greet(FakeQmp *f);
void fake_qmp_return(FakeQmp *f, uint64_t id, const char *value); /* JSON text */
void fake_qmp_refuse(FakeQmp *f, uint64_t id, const char *class, const char *description);
void fake_qmp_event(FakeQmp *f, const char *name, const char *data); /* JSON text, or NULL */

void fake_qmp_hang_up(FakeQmp *f);             /* once all is sent that was said */
void fake_qmp_set_deaf(FakeQmp *f, bool deaf); /* a deaf one reads nothing */

unsigned fake_qmp_n_commands(const FakeQmp *f); /* that came in whole */
size_t fake_qmp_n_unsent(const FakeQmp *f);     /* bytes that the client has not taken yet */
