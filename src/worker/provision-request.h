/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctl-ssh is asked for, and how it answers.
 *
 *     vmctl-ssh [--uid N --gid N] [--private-key FD] [--known-host FD] [--socket FD] [--file FD]...
 *               [--output FD] [--log FD]
 *
 * The request is one JSON object on standard input:
 *
 *     {"host": "127.0.0.1", "port": 10022,  where sshd is: an address, no name. Not needed with --socket FD,
 * a connected socket: then there is one attempt, as nobody can connect it anew "user": "vm", "wait-usec":
 * 120000000,              how long the guest may take to be ready (default: 120 s) "auth-retry-usec": 0, for
 * how long after the first refusal logging in is tried again: a guest that boots may not know its user yet
 *      "log-in": true,                      whether that is part of it: else a greeting is enough, and no
 * private key needed (default: true)
 *      "cloud-init": true,                  whether to wait for the end of cloud-init (default: true)
 *      "steps": [STEP, ...],                or "copy": COPY, or neither: then "ready" was the question
 *     }
 *
 *     STEP  {"kind": "shell", "inline": TEXT, "env": {NAME: VALUE}}
 *           {"kind": "script", "file": INDEX, "name": TEXT, "env": {NAME: VALUE}}
 *           {"kind": "file", "file": INDEX, "destination": PATH, "mode": "0644", "parents": false, "sudo":
 * false}
 *           {"kind": "directory", "file": INDEX, "destination": PATH, "sudo": false}
 *           each with "timeout-usec" if it has to end in time
 *     COPY  {"direction": "to", "file": INDEX, "path": PATH, "name": NAME, "place": PLACE,
 *            "preserve": false}
 *           {"direction": "from", "file": INDEX, "path": PATH, "name": NAME, "recursive": true,
 *            "preserve": false}
 *
 * INDEX counts the --file options from 0. A script or file is a regular file, read from its beginning. A
 * directory is a tar stream (file or pipe), which the guest's tar unpacks in PATH; that is made if need be.
 * "mode" is the source's if not given. "parents" makes the folders above PATH. "sudo" allows what the user
 * may not write to be written by the guest's sudo, if that asks for no password.
 *
 * Copying "to" sends a regular file, a stream, or a folder with all in it; where PATH is a folder of the
 * guest, NAME is made in it. PLACE "inside" insists on that folder, "itself" means PATH even so. Copying
 * "from" writes into a folder, where NAME is made, or to anything else as a stream; what is a folder in the
 * guest only if "recursive". "preserve" keeps times, too. As the worker opens what lies in these folders
 * itself, it has to have the right to: for this it is run by the client, as its user.
 *
 * Replies are JSON lines on standard output:
 *
 *     {"phase": "waiting for sshd" | "authenticating" | "waiting for cloud-init"}
 *     {"phase": "ready", "host-key": "ssh-ed25519 AAAA...", "cloud-init": "done"}
 *     {"phase": "step", "step": 1, "of": 3, "kind": "shell", "name": TEXT or null}
 *     {"phase": "step-done", "step": 1, "usec": N}
 *     {"phase": "uploading" | "downloading", "done": BYTES, "total": BYTES or 0, "speed": BYTES per second}
 *     {"result": {"host-key": ..., "cloud-init": ..., "files": N, "bytes": N, "skipped": N}}
 *     {"error": NAME, "message": TEXT, "step": 2, "status": 3, "signal": "TERM"}
 *
 * Without --known-host, or where it is empty, any host key is accepted: the one of "ready" is to be pinned.
 * It is the key of the session in which the steps run. "cloud-init" is absent, disabled, done, degraded,
 * error, unknown, or null where it was not asked. "step" (from 1) is in errors that happened in a step;
 * "status" or "signal" where its command has ended so. SIGTERM cancels: the remote command gets SIGTERM and
 * 5 s later SIGKILL. It gets these from the guest itself as soon as the connection ends, however that
 * happens.
 *
 * Output of commands goes to --output FD, a pipe, as frames of a ProvisionFrame and its bytes, unchanged:
 * they can hold anything, whoever shows them has to filter them. The worker makes the pipe non-blocking, and
 * waits for its reader as long as need be, and so does the remote command. A frame of length 0 ends a step's
 * output.
 *
 * --log FD is a file for people, which has the same as text (provision-log.h). */

#include "util/string-util.h"
#include "json/json.h"

#define PROVISION_STEPS_MAX 256
#define PROVISION_FRAME_MAX (32 * KIB)
#define PROVISION_WAIT_USEC (120 * USEC_PER_SEC)

/* In host byte order. */
typedef struct ProvisionFrame {
        uint16_t step;   /* from 1 */
        uint16_t stream; /* 1: standard output, 2: standard error */
        uint32_t length; /* of the bytes that follow, at most PROVISION_FRAME_MAX */
} ProvisionFrame;

/* It travels in one piece through the guest's shell, and as one argument of a program. */
#define PROVISION_INLINE_MAX (96 * KIB)
#define PROVISION_ENV_MAX (96 * KIB)
#define PROVISION_PATH_MAX 1024
#define PROVISION_REQUEST_SIZE_MAX (8 * MIB)

typedef enum StepKind {
        STEP_SHELL,
        STEP_SCRIPT,
        STEP_FILE,
        STEP_DIRECTORY,
        _STEP_KIND_MAX,
        _STEP_KIND_INVALID = -EINVAL,
} StepKind;

DECLARE_STRING_TABLE(step_kind, StepKind);

#define PROVISION_MODE_UNSET ((mode_t)-1)

/* All strings are lent by the request. */
typedef struct ProvisionStep {
        StepKind kind;
        const char *text;        /* inline */
        const char *name;        /* of a script, for people; or NULL */
        const char *destination; /* absolute */
        const Json *env;         /* names are valid, values strings; or NULL */
        uint64_t file;           /* index */
        mode_t mode;             /* PROVISION_MODE_UNSET: the source's */
        bool parents;
        bool sudo;
        uint64_t timeout_usec; /* 0: none */
} ProvisionStep;

typedef enum CopyPlace {
        COPY_AS_FOUND,
        COPY_INSIDE,
        COPY_ITSELF,
        _COPY_PLACE_MAX,
        _COPY_PLACE_INVALID = -EINVAL,
} CopyPlace;

DECLARE_STRING_TABLE(copy_place, CopyPlace);

typedef struct ProvisionCopy {
        bool set;
        bool from; /* the guest */
        bool recursive;
        CopyPlace place;
        uint64_t file;
        const char *path;
        const char *name;
        bool preserve;
} ProvisionCopy;

typedef struct ProvisionRequest {
        Json *root;       /* owned; lends the strings */
        const char *host; /* an address */
        uint16_t port;    /* 0: none given */
        const char *user;
        uint64_t wait_usec;
        uint64_t auth_retry_usec;
        bool log_in, cloud_init;
        ProvisionStep *steps; /* owned */
        size_t n_steps;
        ProvisionCopy copy;
} ProvisionRequest;

/* `n_files` is how many descriptors there are for the indexes. ERROR_UNKNOWN_OPTION or ERROR_INVALID_SPEC
 * names the key. *ret owns what it holds, also of an error. */
int provision_request_parse(
                const char *text, size_t len, size_t n_files, ProvisionRequest *ret, Error **reterr);
void provision_request_done(ProvisionRequest *r);
#define _cleanup_provision_request_ _cleanup_(provision_request_done)
