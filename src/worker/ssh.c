/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-ssh: waits until a guest is ready, then runs provision steps in it or copies files. The guest is not
 * trusted, so a process without privileges does it, which can be killed at any moment. What it is asked and
 * what it answers stands in provision-request.h.
 *
 * To reach the guest is one loop, of connecting, logging in and waiting for cloud-init, which begins anew
 * when a connection is lost: sshd may be restarted while the guest boots. From the first step on nothing is
 * tried twice.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reply.h"
#include "ssh-credentials.h"
#include "ssh-greeting.h"
#include "ssh-report.h"
#include "ssh-steps.h"
#include "ssh-tree.h"
#include "util/fd-util.h"
#include "worker-options.h"

#define FILES_MAX 256

/* The time for one attempt to agree on keys and log in, which takes seconds in emulation. */
#define ATTEMPT_USEC (30 * USEC_PER_SEC)

#define RETRY_MIN_USEC (250 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (1 * USEC_PER_SEC)

/* Gigabytes are to pass through, in both directions; of the memory 4 MiB are in use, and what a hostile
 * guest makes libssh2 keep is to end somewhere. */
static const ConfineLimits limits = {
        .cpu_seconds = UINT64_MAX,
        .address_space = 256 * MIB,
        .file_size = UINT64_MAX,
};

typedef struct Worker {
        int argc;
        char **argv;
        Identity identity;
        int private_key_fd, known_host_fd, socket_fd, output_fd, log_fd; /* inherited */
        ProvisionLog log;
        int files[FILES_MAX]; /* inherited */
        size_t n_files;
        int cancel_fd; /* owned */
        ProvisionRequest request;
        SshAddress address;
        char *private_key;
        size_t private_key_len;
        char **host_keys;
        SshPeer peer;
        const char *stage;
        uint64_t deadline;
        uint64_t refused_until; /* 0: not refused yet */
        SshSession *session;
        char cloud_init[16]; /* "" until it is known */
        SshSteps steps;
        SshTree tree;
} Worker;

static void worker_done(Worker *w) {
        ssh_session_free(w->session);
        provision_request_done(&w->request);
        strv_free(w->host_keys);
        if (w->private_key)
                OPENSSL_cleanse(w->private_key, w->private_key_len);
        free(w->private_key);
        safe_close(w->cancel_fd);
}

static int parse_options(Worker *w, Error **reterr) {
        const WorkerOption table[] = {
                { "--private-key", &w->private_key_fd, 1 },
                { "--known-host", &w->known_host_fd, 1 },
                { "--socket", &w->socket_fd, 1 },
                { "--output", &w->output_fd, 1 },
                { "--log", &w->log_fd, 1 },
                { "--file", w->files, FILES_MAX },
        };
        int r;

        r = worker_parse_options(w->argc, w->argv, 1, table, ELEMENTSOF(table), &w->identity, reterr);
        if (r < 0)
                return r;
        while (w->n_files < FILES_MAX && w->files[w->n_files] >= 0)
                w->n_files++;
        return 0;
}

static int catch_cancel(Worker *w, Error **reterr) {
        sigset_t signals;

        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)signal(SIGPIPE, SIG_IGN);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return error_set_errno(reterr, -errno, "Failed to set up signals");
        w->cancel_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        return w->cancel_fd < 0 ? error_set_errno(reterr, -errno, "Failed to set up signals") : 0;
}

static int read_request(Worker *w, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = worker_read_request(PROVISION_REQUEST_SIZE_MAX, &text, &len, reterr);
        if (r >= 0)
                r = provision_request_parse(text, len, w->n_files, &w->request, reterr);
        if (r < 0)
                return r;
        if (w->socket_fd < 0 && w->request.port == 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "'port' is missing");
        return ssh_address_parse(w->request.host, w->request.port, &w->address);
}

static int read_keys(Worker *w, Error **reterr) {
        _cleanup_free_ char *known = NULL;
        int r;

        if (!w->request.log_in)
                return 0;
        if (w->private_key_fd < 0)
                return error_set(reterr, ERROR_FAILED, "vmctl-ssh needs --private-key");
        r = read_all(w->private_key_fd, SSH_PRIVATE_KEY_MAX, &w->private_key, &w->private_key_len);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the private key");
        r = ssh_private_key_check(w->private_key, w->private_key_len, reterr);
        if (r >= 0 && w->known_host_fd >= 0) {
                r = read_all(w->known_host_fd, SSH_KNOWN_HOST_MAX, &known, NULL);
                r = r < 0 ? error_set_errno(reterr, r, "Failed to read the known host keys")
                          : ssh_known_host_parse(known, &w->host_keys, reterr);
        }
        w->peer = (SshPeer){
                .user = w->request.user,
                .private_key = w->private_key,
                .private_key_len = w->private_key_len,
                .host_keys = w->host_keys,
        };
        return r;
}

static int setup(Worker *w, Error **reterr) {
        int r;

        r = parse_options(w, reterr);
        if (r >= 0)
                r = confine(&w->identity, &limits, reterr);
        if (r >= 0)
                r = catch_cancel(w, reterr);
        if (r >= 0)
                r = read_request(w, reterr);
        if (r >= 0)
                r = read_keys(w, reterr);
        if (r >= 0 && w->output_fd >= 0 && fd_set_nonblock(w->output_fd, true) < 0)
                r = error_set_errno(reterr, -errno, "Failed to use the output");
        if (r >= 0) {
                r = provision_log_open(&w->log, w->log_fd);
                if (r < 0)
                        (void)error_set_errno(reterr, r, "Failed to use the log");
        }
        if (r >= 0 && libssh2_init(0) != 0)
                r = error_set_errno(reterr, -ENOMEM, "Failed to begin SSH");
        return r;
}

static void enter_stage(Worker *w, const char *stage) {
        if (w->stage != stage)
                ssh_report_phase(stage);
        w->stage = stage;
}

static int fail_stage(Worker *w, const char *why, Error **reterr) {
        return error_set(reterr, ERROR_GUEST_NOT_READY,
                        "The guest was not ready after %" PRIu64 " s, it has come to '%s': %s",
                        w->request.wait_usec / USEC_PER_SEC, w->stage, why);
}

static int fail_canceled(Worker *w, Error **reterr) {
        (void)error_set(reterr, ERROR_CANCELED, "Canceled while %s", w->stage);
        return -ECANCELED;
}

static int connect_guest(Worker *w, int *ret_fd, Error **reterr) {
        const char *why = NULL;
        int r;

        if (w->socket_fd >= 0) {
                *ret_fd = TAKE_FD(w->socket_fd);
                r = fd_set_nonblock(*ret_fd, true);
                return r < 0 ? error_set_errno(reterr, r, "Failed to use the connection") : 0;
        }
        r = ssh_greet(&w->address, w->cancel_fd, w->deadline, ret_fd, &why);
        if (r == -ETIMEDOUT)
                return fail_stage(w, why, reterr);
        if (r == -ECANCELED)
                return fail_canceled(w, reterr);
        return r < 0 ? error_set_errno(reterr, r, "Failed to connect to the guest") : 0;
}

/* A guest that boots may refuse all logins, or not know its user yet. */
static int authenticate(Worker *w, Error **reterr) {
        int r;

        r = ssh_session_authenticate(w->session, &w->peer, reterr);
        if (r != -EKEYREJECTED)
                return r;
        if (w->refused_until == 0)
                w->refused_until = ssh_later(now_usec(), w->request.auth_retry_usec);
        return now_usec() < w->refused_until ? -EAGAIN : r;
}

/* Its own exit status 2 means that it is done, with errors from which it recovered. */
static const char cloud_init_script[] =
                "command -v cloud-init >/dev/null || { echo absent; exit; }\n"
                "text=$(cloud-init status --wait 2>/dev/null); status=$?\n"
                "case $text in\n"
                "*'status: done'*) [ $status = 2 ] && echo degraded || echo done ;;\n"
                "*'status: disabled'*) echo disabled ;;\n"
                "*'status: error'*) echo error ;;\n"
                "*'status: degraded'*) echo degraded ;;\n"
                "*) echo unknown ;;\n"
                "esac";

static int wait_for_cloud_init(Worker *w, Error **reterr) {
        static const char *const words[] = { "absent", "disabled", "done", "degraded", "error" };
        _cleanup_free_ char *tail = NULL;
        const char *last;
        SshOutput output;
        SshExit ended;
        int r;

        r = ssh_command_ask(w->session, cloud_init_script, w->deadline, &output, &ended, reterr);
        if (r < 0)
                return r == -ETIMEDOUT ? fail_stage(w, "it takes too long", reterr) : r;
        tail = ssh_output_tail(&output, " ");
        last = tail ? strrchr(tail, ' ') : NULL; /* the login shell may have said something before */
        (void)strcpy(w->cloud_init, "unknown");
        for (size_t i = 0; last && i < ELEMENTSOF(words); i++)
                if (streq(words[i], last + 1))
                        (void)strcpy(w->cloud_init, words[i]);
        return 0;
}

/* -EAGAIN (with an error set): again. */
static int attempt(Worker *w, Error **reterr) {
        uint64_t limit;
        int fd = -EBADF, r;

        enter_stage(w, "waiting for sshd");
        r = connect_guest(w, &fd, reterr);
        if (r < 0)
                return r;
        if (!w->request.log_in) { /* it has greeted */
                safe_close(fd);
                return 0;
        }
        limit = MIN(w->deadline, ssh_later(now_usec(), ATTEMPT_USEC));
        enter_stage(w, "authenticating");
        r = ssh_session_new(fd, w->cancel_fd, limit, &w->peer, &w->session, reterr);
        if (r >= 0)
                r = authenticate(w, reterr);
        if (r < 0 || !w->request.cloud_init)
                return r;
        enter_stage(w, "waiting for cloud-init");
        return wait_for_cloud_init(w, reterr);
}

/* NULL: nobody has logged in. */
static const char *host_key(const Worker *w) {
        return w->session ? w->session->host_key : NULL;
}

static int reach(Worker *w, Error **reterr) {
        uint64_t pause = RETRY_MIN_USEC;
        bool once = w->socket_fd >= 0;

        w->deadline = ssh_later(now_usec(), w->request.wait_usec);
        for (;;) {
                _cleanup_error_ Error *error = NULL;
                int r = attempt(w, &error);

                if (r >= 0) {
                        ssh_report_ready(host_key(w), *w->cloud_init ? w->cloud_init : NULL);
                        return 0;
                }
                w->session = ssh_session_free(w->session);
                if (r == -ECANCELED)
                        return fail_canceled(w, reterr);
                if (r != -EAGAIN || once)
                        return error_set(reterr, error_code(error), "%s", error_message(error));
                r = ssh_pause(w->cancel_fd, MIN(w->deadline, ssh_later(now_usec(), pause)));
                if (r < 0)
                        return fail_canceled(w, reterr);
                if (now_usec() >= w->deadline)
                        return fail_stage(w, error_message(error), reterr);
                pause = MIN(pause * 2, RETRY_MAX_USEC);
        }
}

static int copy(Worker *w, Error **reterr) {
        _cleanup_ssh_sftp_ SshSftp f = {};
        int r;

        w->session->deadline = USEC_INFINITY;
        r = ssh_sftp_init(&f, w->session, reterr);
        if (r < 0)
                return r;
        w->tree = (SshTree){ .sftp = &f, .copy = &w->request.copy, .fd = w->files[w->request.copy.file] };
        return w->request.copy.from ? ssh_tree_fetch(&w->tree, reterr) : ssh_tree_send(&w->tree, reterr);
}

static int work(Worker *w, Error **reterr) {
        if (!w->session)
                return 0;
        if (w->request.copy.set)
                return copy(w, reterr);
        w->steps = (SshSteps){
                .session = w->session,
                .request = &w->request,
                .files = w->files,
                .output_fd = w->output_fd,
                .log = &w->log,
        };
        return ssh_steps_run(&w->steps, reterr);
}

static int run(void *userdata, JsonWriter *j, Error **reterr) {
        Worker *w = userdata;
        int r;

        r = setup(w, reterr);
        if (r >= 0)
                r = reach(w, reterr);
        if (r >= 0)
                r = work(w, reterr);
        if (r < 0)
                return r;
        json_put_string(j, "host-key", host_key(w));
        json_put_string(j, "cloud-init", *w->cloud_init ? w->cloud_init : NULL);
        json_put_unsigned(j, "files", w->tree.files);
        json_put_unsigned(j, "bytes", w->steps.bytes + w->tree.progress.done);
        json_put_unsigned(j, "skipped", w->tree.skipped);
        return 0;
}

static void describe_error(const void *userdata, JsonWriter *j) {
        const Worker *w = userdata;
        const char *signal = w->steps.exit.signal;

        if (w->steps.failed > 0)
                json_put_unsigned(j, "step", w->steps.failed);
        if (*signal && utf8_is_valid(signal, strlen(signal)))
                json_put_string(j, "signal", signal);
        else if (w->steps.exit.status != 0) {
                json_write_key(j, "status");
                json_write_integer(j, w->steps.exit.status);
        }
}

int main(int argc, char *argv[]) {
        _cleanup_(worker_done) Worker w = {
                .argc = argc,
                .argv = argv,
                .private_key_fd = -EBADF,
                .known_host_fd = -EBADF,
                .socket_fd = -EBADF,
                .output_fd = -EBADF,
                .log_fd = -EBADF,
                .cancel_fd = -EBADF,
                .stage = "",
        };

        for (size_t i = 0; i < FILES_MAX; i++)
                w.files[i] = -EBADF;
        return reply_run(run, describe_error, &w);
}
