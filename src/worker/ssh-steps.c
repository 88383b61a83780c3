/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh-keeper.h"
#include "ssh-report.h"
#include "ssh-sftp.h"
#include "ssh-steps.h"

#define HELPER_USEC (60 * USEC_PER_SEC) /* for what we add to a step: make a folder, move a file */

typedef struct Step {
        SshSteps *steps;
        const ProvisionStep *spec;
        size_t number; /* from 1 */
        uint64_t deadline;
        SshOutput output;
        Progress progress;
} Step;

static int step_fd(const Step *s) {
        return s->steps->files[s->spec->file];
}

/* How the command ended, as a failure of the step unless all is well. */
static int judge(Step *s, const SshExit *ended, Error **reterr) {
        _cleanup_free_ char *tail = NULL, *how = NULL;

        if (ended->status == 0 && isempty(ended->signal))
                return 0;
        s->steps->exit = *ended;
        tail = ssh_output_tail(&s->output, "\n  ");
        if (*ended->signal) {
                _cleanup_free_ char *name = string_escape(
                                ended->signal, strlen(ended->signal), sizeof(ended->signal));

                how = strf("its command was ended by signal %s", name ?: "");
        } else {
                how = strf("its command ended with status %i", ended->status);
        }
        return error_set(reterr, ERROR_PROVISION_FAILED, "%s%s%s", how ?: "its command failed",
                        isempty(tail) ? "" : ", after the output", tail ?: "");
}

static int run_command(Step *s, const SshCommand *command, Error **reterr) {
        SshExit ended;
        int r;

        r = ssh_command_run(s->steps->session, command, &s->output, &ended, reterr);
        return r < 0 ? r : judge(s, &ended, reterr);
}

static int run_script(Step *s, const char *script, Error **reterr) {
        _cleanup_free_ char *line = NULL, *input = NULL;
        SshCommand command = { .input_fd = -EBADF, .deadline = s->deadline };

        if (ssh_command_wrap(script, s->spec->env, &line, &input) < 0)
                return error_set_errno(reterr, -ENOMEM, "Failed to run a command");
        command.line = line;
        command.input = input;
        return run_command(s, &command, reterr);
}

static int run_shell(Step *s, Error **reterr) {
        return run_script(s, s->spec->text, reterr);
}

/* From its beginning, wherever whoever opened it has read to. */
static int rewind_source(Step *s, struct stat *ret, Error **reterr) {
        int fd = step_fd(s);

        if (fstat(fd, ret) < 0)
                return error_set_errno(reterr, -errno, "Failed to read the file that is to be sent");
        if (!S_ISREG(ret->st_mode))
                return error_set(reterr, ERROR_INVALID_SPEC, "What is to be sent is no regular file");
        if (lseek(fd, 0, SEEK_SET) < 0)
                return error_set_errno(reterr, -errno, "Failed to read the file that is to be sent");
        s->progress = (Progress){ .phase = "uploading", .total = (uint64_t)ret->st_size };
        return 0;
}

static int upload_script(Step *s, SshSftp *f, const char *path, Error **reterr) {
        struct stat st;
        int r;

        r = ssh_sftp_init(f, s->steps->session, reterr);
        if (r < 0)
                return r;
        r = rewind_source(s, &st, reterr);
        return r < 0 ? r : ssh_sftp_put(f, step_fd(s), path, 0700, &s->progress, reterr);
}

/* A folder in the guest's /tmp, whose name is unknown to others in the guest until it is there. */
static int make_folder(Step *s, SshKeeper *keeper, char **ret, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        char random[17];
        int r;

        r = ssh_random(random);
        if (r >= 0)
                path = strf("/tmp/vmctl-provision-%zu-%s", s->number, random);
        if (!path)
                return error_set_errno(reterr, -ENOMEM, "Failed to name a folder");
        r = ssh_keeper_begin(keeper, s->steps->session, path, true, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(path);
        return 0;
}

static int run_script_file(Step *s, Error **reterr) {
        _cleanup_free_ char *folder = NULL, *script = NULL;
        _cleanup_ssh_keeper_ SshKeeper keeper = {};
        _cleanup_ssh_sftp_ SshSftp f = {};
        int r;

        r = make_folder(s, &keeper, &folder, reterr);
        if (r < 0)
                return r;
        script = strf("exec %s/script", folder);
        if (!script)
                return error_set_errno(reterr, -ENOMEM, "Failed to name the script");
        r = upload_script(s, &f, script + strlen("exec "), reterr);
        return r < 0 ? r : run_script(s, script, reterr);
}

/* A helper of our own, of whose output only an error is of interest. */
static int ask(Step *s, const char *script, Error **reterr) {
        SshExit ended;
        int r;

        r = ssh_command_ask(s->steps->session, script, MIN(s->deadline, ssh_later(now_usec(), HELPER_USEC)),
                        &s->output, &ended, reterr);
        s->steps->session->deadline = s->deadline;
        return r < 0 ? r : judge(s, &ended, reterr);
}

static int make_parents(Step *s, Error **reterr) {
        const char *destination = s->spec->destination, *slash = strrchr(destination, '/');
        _cleanup_free_ char *folder = strndup(destination, MAX((size_t)(slash - destination), (size_t)1)),
                            *quoted = folder ? ssh_quote(folder) : NULL, *script = NULL;

        if (!quoted)
                return error_set_errno(reterr, -ENOMEM, "Failed to make a folder");
        script = s->spec->sudo
                        ? strf("mkdir -p -- %s 2>/dev/null || exec sudo -n mkdir -p -- %s", quoted, quoted)
                        : strf("exec mkdir -p -- %s", quoted);
        if (!script)
                return error_set_errno(reterr, -ENOMEM, "Failed to make a folder");
        return ask(s, script, reterr);
}

static int check_destination(Step *s, SshSftp *f, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a;
        int r;

        r = ssh_sftp_stat(f, s->spec->destination, true, &a, NULL);
        if (r == -ENOENT || r == -EACCES)
                return 0; /* sudo may know more */
        if (r < 0)
                return ssh_sftp_stat(f, s->spec->destination, true, &a, reterr);
        if (ssh_sftp_is(&a, S_IFDIR))
                return error_set(reterr, ERROR_PROVISION_FAILED,
                                "the destination '%s' is a folder in the guest: name the file in it",
                                s->spec->destination);
        return 0;
}

static int explain(Step *s, int r, Error **reterr) {
        if (r == -ENOENT)
                (void)error_set(reterr, ERROR_PROVISION_FAILED,
                                "the folder for '%s' does not exist in the guest", s->spec->destination);
        if (r == -EACCES)
                (void)error_set(reterr, ERROR_PROVISION_FAILED,
                                "user '%s' of the guest may not write '%s': upload it to /tmp, and have a "
                                "shell step move it with sudo",
                                s->steps->request->user, s->spec->destination);
        return r;
}

/* Written beside the destination, then renamed. */
static int put_directly(Step *s, SshSftp *f, mode_t mode, Error **reterr) {
        _cleanup_free_ char *temporary = ssh_sftp_temporary(s->spec->destination);
        _cleanup_ssh_keeper_ SshKeeper keeper = {};
        int r;

        if (!temporary)
                return error_set_errno(reterr, -ENOMEM, "Failed to name a file");
        r = ssh_keeper_begin(&keeper, s->steps->session, temporary, false, reterr);
        if (r >= 0)
                r = ssh_sftp_put(f, step_fd(s), temporary, mode, &s->progress, reterr);
        return r < 0 ? r : ssh_sftp_replace(f, temporary, s->spec->destination, reterr);
}

/* What is beside the destination is root's, so the keeper cannot remove it. */
static char *sudo_script(const char *from, const char *to, mode_t mode) {
        _cleanup_free_ char *temporary = ssh_sftp_temporary(to), *a = ssh_quote(from), *b = NULL, *c = NULL,
                            *script = NULL, *quoted = NULL;

        b = temporary ? ssh_quote(temporary) : NULL;
        c = ssh_quote(to);
        if (!a || !b || !c)
                return NULL;
        script = strf("umask 077; t=%s; trap 'rm -f -- \"$t\"' EXIT; trap 'exit 1' HUP INT TERM; "
                      "cat <%s >\"$t\" && chmod %04o \"$t\" && mv -f -- \"$t\" %s",
                        b, a, (unsigned)mode, c);
        quoted = script ? ssh_quote(script) : NULL;
        return quoted ? strf("exec sudo -n /bin/sh -c %s </dev/null", quoted) : NULL;
}

static int put_by_sudo(Step *s, SshSftp *f, mode_t mode, Error **reterr) {
        _cleanup_free_ char *folder = NULL, *file = NULL, *script = NULL;
        _cleanup_ssh_keeper_ SshKeeper keeper = {};
        struct stat st;
        int r;

        r = make_folder(s, &keeper, &folder, reterr);
        if (r < 0)
                return r;
        file = strf("%s/file", folder);
        script = file ? sudo_script(file, s->spec->destination, mode) : NULL;
        if (!script)
                return error_set_errno(reterr, -ENOMEM, "Failed to name a file");
        r = rewind_source(s, &st, reterr);
        if (r >= 0)
                r = ssh_sftp_put(f, step_fd(s), file, 0600, &s->progress, reterr);
        return r < 0 ? r : ask(s, script, reterr);
}

static int put_file(Step *s, Error **reterr) {
        _cleanup_ssh_sftp_ SshSftp f = {};
        struct stat st;
        mode_t mode;
        int r;

        r = rewind_source(s, &st, reterr);
        if (r >= 0 && s->spec->parents)
                r = make_parents(s, reterr);
        if (r >= 0)
                r = ssh_sftp_init(&f, s->steps->session, reterr);
        if (r >= 0)
                r = check_destination(s, &f, reterr);
        if (r < 0)
                return r;
        mode = s->spec->mode == PROVISION_MODE_UNSET ? st.st_mode & 0777 : s->spec->mode;
        r = put_directly(s, &f, mode, reterr);
        if (r == -EACCES && s->spec->sudo)
                return put_by_sudo(s, &f, mode, reterr);
        return explain(s, r, reterr);
}

/* -o: who unpacks owns it, whatever the stream says. */
#define UNPACK "mkdir -p -- \"$1\" && exec tar -xof - -C \"$1\""

static int unpack_directory(Step *s, Error **reterr) {
        static const char by_user[] = UNPACK;
        static const char by_sudo[] =
                        "{ mkdir -p -- \"$1\" && [ -w \"$1\" ]; } 2>/dev/null || exec sudo -n /bin/sh "
                        "-c \"$2\" sh \"$1\"; exec tar -xof - -C \"$1\"";
        _cleanup_free_ char *script = ssh_quote(s->spec->sudo ? by_sudo : by_user),
                            *destination = ssh_quote(s->spec->destination), *again = ssh_quote(UNPACK),
                            *line = NULL;
        SshCommand command = { .input_fd = step_fd(s), .deadline = s->deadline, .progress = &s->progress };

        if (script && destination && again)
                line = strf("exec /bin/sh -c %s sh %s %s", script, destination, again);
        if (!line)
                return error_set_errno(reterr, -ENOMEM, "Failed to send a folder");
        s->progress = (Progress){ .phase = "uploading" };
        (void)lseek(command.input_fd, 0, SEEK_SET); /* a pipe has no beginning */
        command.line = line;
        return run_command(s, &command, reterr);
}

static const struct {
        int (*run)(Step *s, Error **reterr);
        const char *what;
} kind_table[] = {
        [STEP_SHELL] = { run_shell, "shell" },
        [STEP_SCRIPT] = { run_script_file, "script" },
        [STEP_FILE] = { put_file, "file" },
        [STEP_DIRECTORY] = { unpack_directory, "directory" },
};
_Static_assert(ELEMENTSOF(kind_table) == _STEP_KIND_MAX, "a kind of step cannot be run");

/* What people know the step by: what it runs or writes, in one line. */
static char *describe(const Step *s) {
        const ProvisionStep *p = s->spec;
        const char *text = p->text ?: p->destination ?: p->name ?: "";
        size_t len = strcspn(text, "\n");
        _cleanup_free_ char *shown = string_escape(text, len, 80);

        if (!shown)
                return NULL;
        return strf("Step %zu of %zu (%s%s%s%s%s) failed: ", s->number, s->steps->request->n_steps,
                        kind_table[p->kind].what, *shown ? " '" : "", shown,
                        text[MIN(len, (size_t)80)] ? "…" : "", *shown ? "'" : "");
}

static int log_begin(const Step *s) {
        const ProvisionStep *p = s->spec;
        const char *text = p->text ?: p->name ?: p->destination ?: "";
        _cleanup_free_ char *shown = string_escape(text, strcspn(text, "\n"), 200);

        if (!s->steps->log || !shown)
                return 0;
        return provision_log_mark(s->steps->log, "step %zu of %zu: %s%s%s", s->number,
                        s->steps->request->n_steps, kind_table[p->kind].what, *shown ? " " : "", shown);
}

static int log_end(const Step *s, int r, uint64_t usec) {
        const SshExit *e = &s->steps->exit;
        double seconds = (double)usec / (double)USEC_PER_SEC;

        if (!s->steps->log)
                return 0;
        if (r >= 0)
                return provision_log_mark(s->steps->log, "step %zu ended after %.1f s", s->number, seconds);
        if (*e->signal)
                return provision_log_mark(s->steps->log, "step %zu was ended by signal %s after %.1f s",
                                s->number, e->signal, seconds);
        if (e->status > 0)
                return provision_log_mark(s->steps->log, "step %zu failed with status %i after %.1f s",
                                s->number, e->status, seconds);
        return provision_log_mark(
                        s->steps->log, "step %zu failed after %.1f s: %s", s->number, seconds, strerror(-r));
}

static int run_step(SshSteps *steps, size_t i, Error **reterr) {
        const ProvisionStep *spec = steps->request->steps + i;
        uint64_t begin = now_usec();
        Step s = {
                .steps = steps,
                .spec = spec,
                .number = i + 1,
                .deadline = spec->timeout_usec == 0 ? USEC_INFINITY : ssh_later(begin, spec->timeout_usec),
                .output = { .fd = steps->output_fd,
                                .log = steps->log,
                                .cancel_fd = steps->session->cancel_fd,
                                .step = (uint16_t)(i + 1) },
        };
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *what = NULL;
        int r;

        ssh_report_step(s.number, steps->request->n_steps, spec);
        r = log_begin(&s);
        if (r < 0)
                return error_set_errno(reterr, r, "The log cannot be written");
        steps->session->deadline = s.deadline;
        r = kind_table[spec->kind].run(&s, &error);
        steps->bytes += s.progress.done;
        s.output.fd = s.output.fd < 0 && r < 0 ? -EBADF : steps->output_fd;
        s.output.deadline = s.deadline;
        if (r >= 0)
                r = ssh_output_end(&s.output);
        (void)log_end(&s, r, now_usec() - begin);
        if (r >= 0) {
                ssh_report_step_done(s.number, now_usec() - begin);
                return 0;
        }
        steps->failed = s.number;
        what = describe(&s);
        return error_set(reterr, r == -ECANCELED ? ERROR_CANCELED : ERROR_PROVISION_FAILED, "%s%s",
                        what ?: "", error ? error_message(error) : strerror(-r));
}

int ssh_steps_run(SshSteps *steps, Error **reterr) {
        for (size_t i = 0; i < steps->request->n_steps; i++) {
                int r = run_step(steps, i, reterr);

                if (r < 0)
                        return r;
        }
        return 0;
}
