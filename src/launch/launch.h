/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* vmctl-launch: the one program with privileges. It does a few things for vmctld, which has none, and checks
 * each against what vmctld may ever want. It reads no message of a client, no JSON and no image.
 *
 * main.c: the connection, and a table of verbs; run.c: programs; scope.c: PID 1; check.c: what is allowed.
 */

#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "core/child-watch.h"
#include "core/config.h"
#include "host/call-queue.h"
#include "protocol/launch-protocol.h"

typedef struct Server Server;
typedef struct Child Child;
typedef struct Asked Asked;

struct Child {
        TAILQ_ENTRY(Child) link;
        Server *server;
        uint64_t id; /* 0: of an earlier connection */
        LaunchProgram program;
        pid_t pid;
        ChildWatch *watch; /* not reaped, so the PID is its own */
        unsigned held;     /* by what PID 1 was asked about that PID: it is not reaped before */
};

typedef TAILQ_HEAD(ChildList, Child) ChildList;
typedef TAILQ_HEAD(AskedList, Asked) AskedList;

struct Server {
        sd_event *event;
        sd_bus *bus; /* PID 1, or the user's manager */
        CallQueue *calls;
        Config config;
        int socket; /* vmctld; -EBADF: it has gone, and what it had run is being ended, or has been */
        sd_event_source *io;
        sd_event_source *peer;     /* the process that has connected ends */
        sd_event_source *listener; /* where the next one comes; NULL: we end with the one that we have */
        sd_event_source *patience; /* with workers that were killed */
        ChildList children;
        AskedList asked; /* what PID 1 has not answered */
};

/* Blocks for a while where vmctld does not read, as it is the only one who waits for us; then hangs up. */
void server_reply(Server *s, const LaunchReply *reply, const char *text, int fd);

/* Handlers of verbs. 0, or a negative errno, which is answered where somebody waits, and logged. */
int run_program(Server *s, const LaunchRequest *q, Packet *p);
int kill_program(Server *s, const LaunchRequest *q, Packet *p);
int signal_process(Server *s, const LaunchRequest *q, Packet *p);
int start_scope(Server *s, const LaunchRequest *q, Packet *p);
int set_limits(Server *s, const LaunchRequest *q, Packet *p);
int stop_scope(Server *s, const LaunchRequest *q, Packet *p);
int kill_scope(Server *s, const LaunchRequest *q, Packet *p);

int answer_failure(Server *s, const LaunchRequest *q, int r); /* returns r */
Child *find_child(const Server *s, uint64_t id);
void hold_child(Child *c, bool hold);
void disown_children(Server *s); /* the connection has ended, and with it all that dies then */
bool has_workers(const Server *s);
void disown_asked(Server *s); /* answers go to nobody: whoever comes next begins with the same numbers */
void server_rest(Server *s);  /* none is left */

/* -EPERM, which is logged with the reason: vmctld has no business with that. */
int check_unit(const char *unit);
int check_uid(const Config *c, uid_t uid);
int check_timeout(uint64_t usec);
int check_options(const Config *c, LaunchProgram program, char *const *options);
int check_environment(char *const *environment);
