/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctld and vmctl-launch say to each other: packets over a SOCK_SEQPACKET socket, each a struct of a
 * fixed size, behind it the texts that belong to it, and beside it descriptors. Both programs are of one
 * build: a packet of another size or version ends the connection. */

#include "spec/vm-spec.h"

#define LAUNCH_VERSION 1
#define PACKET_FDS_MAX 250          /* the kernel sends 253 at a time */
#define PACKET_TEXTS_MAX 1024       /* a command line of QEMU has some hundred */
#define PACKET_SIZE_MAX (128 * KIB) /* the default socket buffer holds one */

/* Programs that vmctld has run. Which descriptors, rights and life they have is the launcher's to know. */
typedef enum LaunchProgram {
        LAUNCH_SHIM,   /* vmctl-shim: lives on without us */
        LAUNCH_READER, /* vmctl-shim --cat; this and all that follow die with the connection */
        LAUNCH_PREPARE,
        LAUNCH_IMAGE,
        LAUNCH_PULL,
        LAUNCH_SSH,
        _LAUNCH_PROGRAM_MAX,
        _LAUNCH_PROGRAM_INVALID = -EINVAL,
} LaunchProgram;

extern const char *const launch_environment[]; /* what a program's environment may name; NULL at the end */

typedef enum LaunchVerb {
        LAUNCH_RUN, /* `program` as the child `id`; texts: its options, then the environment. LAUNCH_STARTED,
                     * later LAUNCH_ENDED; or LAUNCH_ENDED alone, with an error */
        LAUNCH_KILL,        /* `child`, and its group */
        LAUNCH_START_SCOPE, /* around `child`; text: the unit. LAUNCH_ANSWER */
        LAUNCH_SET_LIMITS,  /* text: the unit. LAUNCH_ANSWER */
        LAUNCH_STOP_SCOPE,  /* also one that has failed; text: the unit. LAUNCH_ANSWER, as to all that follow
                             */
        LAUNCH_KILL_SCOPE,  /* SIGKILL to all that is in it; text: the unit */
        LAUNCH_SIGNAL,      /* to the process of the one descriptor, a pidfd; text: the unit that it is in */
        _LAUNCH_VERB_MAX,
} LaunchVerb;

typedef struct LaunchRequest {
        uint32_t version;
        uint32_t verb;
        uint64_t id;    /* of the child or request; none is used twice on a connection */
        uint64_t child; /* the id of an earlier LAUNCH_RUN */

        uint32_t program;
        uint32_t uid;           /* that it becomes; 0: it stays who we are, in a user's own instance alone */
        int32_t kvm;            /* it may use /dev/kvm */
        uint32_t n_environment; /* of the texts */
        uint32_t n_fds;
        int32_t targets[PACKET_FDS_MAX]; /* their numbers in the child, in the order in which they come */

        VmLimits limits;       /* of the scope; resolved */
        uint64_t stop_timeout; /* usec that PID 1 waits for us to end the guest */
        int32_t signal;
} LaunchRequest;

typedef enum LaunchEvent {
        LAUNCH_STARTED, /* the program was executed; beside it a pidfd */
        LAUNCH_ENDED,   /* error below 0: it was not */
        LAUNCH_ANSWER, /* error 0, text: the job's object path; or text: PID 1's words. `pid`: that the scope
                          is around */
        _LAUNCH_EVENT_MAX,
} LaunchEvent;

typedef struct LaunchReply {
        uint32_t version;
        uint32_t event;
        uint64_t id;
        int32_t error; /* negative errno */
        int32_t pid;
        int32_t code, status; /* as siginfo_t has them */
} LaunchReply;

/* Sends one packet: header, texts (NULL: none), descriptors (borrowed). -EAGAIN where the socket is
 * non-blocking and full; -EMSGSIZE, -E2BIG: it would be too large. */
int packet_send(int socket, const void *header, size_t size, char *const *texts, const int *fds,
                size_t n_fds);

/* Receives one. 1, and the caller owns texts and descriptors; 0: the peer has closed; -EAGAIN; -EBADMSG: the
 * peer does not keep to this page, and nothing is to be freed. */
typedef struct Packet {
        char **texts; /* NULL-terminated */
        size_t n_fds;
        int fds[PACKET_FDS_MAX];
} Packet;
int packet_receive(int socket, void *header, size_t size, Packet *ret);
void packet_done(Packet *p);
