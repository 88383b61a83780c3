/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "file-acl.h"
#include "task.h"
#include "util/log.h"
#include "worker.h"

struct Worker {
        Core *core; /* borrowed */
        Task *task;
        const char *program; /* static, as is the next */
        const char *late;
        const WorkerHandlers *handlers;
        void *userdata;
        uid_t uid; /* held while it runs; 0: none is */
        Charge charge;
        Json *last; /* the last line that was no progress */
        int status;
        worker_gone_t gone;
        void *gone_userdata;
};

static const char *name_of(LaunchProgram program) {
        static const char *const table[_LAUNCH_PROGRAM_MAX] = {
                [LAUNCH_PREPARE] = "vmctl-prepare",
                [LAUNCH_IMAGE] = "vmctl-image",
                [LAUNCH_PULL] = "vmctl-pull",
                [LAUNCH_SSH] = "vmctl-ssh",
        };

        return table[program];
}

static void release_uid(Worker *w) {
        if (w->uid != 0)
                uid_pool_hold(w->core->uids, w->uid, false);
        w->uid = 0;
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        task_free(w->task);
        release_uid(w);
        charge_release(&w->charge);
        json_free(w->last);
        free(w);
        return NULL;
}

static void tell_progress(Worker *w, const Json *line) {
        JobProgress p = { .phase = json_get_string(line, "phase") };

        (void)json_get_unsigned(line, "done", &p.done);
        (void)json_get_unsigned(line, "total", &p.total);
        (void)json_get_unsigned(line, "speed", &p.speed);
        if (w->handlers->progress)
                w->handlers->progress(w->userdata, &p);
        if (w->handlers->line)
                w->handlers->line(w->userdata, line);
}

static void on_line(void *userdata, char *text, size_t len) {
        _cleanup_json_ Json *line = NULL;
        Worker *w = userdata;

        if (json_parse(text, len, NULL, &line, NULL) < 0)
                log_warning("%s says what is no JSON, ignoring", w->program);
        else if (json_get_string(line, "phase"))
                tell_progress(w, line);
        else {
                json_free(w->last);
                w->last = TAKE_PTR(line);
        }
}

static int judge(Worker *w, int status, const Json **ret, Error **reterr) {
        const Json *result = json_get(w->last, "result");
        const char *name = json_get_string(w->last, "error"), *message = json_get_string(w->last, "message");

        if (status == -ETIMEDOUT)
                return w->late ? error_set(reterr, ERROR_TIMEOUT, "%s", w->late)
                               : error_set(reterr, ERROR_TIMEOUT, "%s took too long", w->program);
        if (name && message)
                return error_set(reterr, error_code_from_name(name), "%s", message);
        /* How it ended went with the launcher, but what it says last it says when all is done. */
        if ((status == 0 || status == -ECONNRESET) && json_type(result) == JSON_OBJECT) {
                *ret = result;
                return 0;
        }
        if (status == -ECONNRESET)
                return error_set(reterr, ERROR_LAUNCHER_LOST, "vmctl-launch, which runs %s, was lost",
                                w->program);
        if (status < 0 && status != -EINTR && status != -EFBIG)
                return error_set_errno(reterr, status, "Cannot run %s", w->program);
        log_error("%s ended with status %i and no answer", w->program, status);
        return status == -EINTR
                        ? error_set(reterr, ERROR_FAILED, "%s was killed", w->program)
                        : error_set(reterr, ERROR_FAILED, "%s failed; the journal tells more", w->program);
}

/* Nothing of it is left. */
static void settle(Worker *w) {
        w->task = task_free(w->task);
        release_uid(w);
        charge_release(&w->charge);
}

static void finish(void *userdata) {
        _cleanup_error_ Error *e = NULL;
        const Json *result = NULL;
        Worker *w = userdata;

        settle(w);
        (void)judge(w, w->status, &result, &e);
        w->handlers->done(w->userdata, result, e);
}

/* One that was killed, as it was late or said too much, may still write. */
static void on_done(void *userdata, int status, const char *output, size_t len) {
        Worker *w = userdata;

        w->status = status;
        if (task_kill(w->task, finish, w) == 0)
                finish(w);
}

static void on_gone(void *userdata) {
        Worker *w = userdata;

        settle(w);
        w->gone(w->gone_userdata); /* may free it */
}

int worker_kill(Worker *w, worker_gone_t gone, void *userdata) {
        if (!w->task)
                return 0;
        w->gone = gone;
        w->gone_userdata = userdata;
        if (task_kill(w->task, on_gone, w) > 0)
                return 1;
        settle(w);
        return 0;
}

int worker_charge(Worker *w, uid_t requester, Error **reterr) {
        Charge paid;
        int r;

        if (!w->task || w->charge.uid == requester)
                return 0;
        r = charge(w->core->accounts, requester, RESOURCE_WORKERS, 1, &paid, reterr);
        if (r < 0)
                return r;
        charge_release(&w->charge);
        w->charge = paid;
        return 0;
}

/* *ret is 0 where it stays ours. */
static int choose_uid(Worker *w, const WorkerSpec *spec, uid_t *ret) {
        int r;

        *ret = 0;
        if (uid_pool_is_empty(w->core->uids))
                return 0;
        *ret = spec->uid;
        if (spec->uid != 0)
                return 0;
        r = uid_pool_pick(w->core->uids, ret, NULL);
        if (r >= 0)
                w->uid = *ret;
        return r;
}

static int add_files(const WorkerSpec *spec, uid_t uid, char ***options, LaunchFile *files, size_t *n) {
        for (size_t i = 0; i < spec->n_files; i++) {
                int target = 3 + (int)*n, r;

                if (spec->files[i].fd < 0)
                        continue;
                files[(*n)++] = (LaunchFile){ spec->files[i].fd, target };
                r = spec->files[i].share && uid != 0 ? file_acl_grant(spec->files[i].fd, uid, R_OK | W_OK)
                                                     : 0;
                if (r >= 0)
                        r = strv_extend(options, spec->files[i].option);
                if (r >= 0)
                        r = strv_extendf(options, "%i", target);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* libcurl's own variables. */
static int list_proxies(char ***ret) {
        int r = 0;

        for (size_t i = 0; r >= 0 && launch_environment[i]; i++)
                if (!isempty(getenv(launch_environment[i])))
                        r = strv_extendf(ret, "%s=%s", launch_environment[i], getenv(launch_environment[i]));
        return r;
}

static int launch(Worker *w, const WorkerSpec *spec, const char *request, size_t len) {
        _cleanup_strv_ char **options = NULL, **environment = NULL;
        LaunchFile files[WORKER_FILES_MAX];
        LaunchSpec launch = { .program = spec->program, .files = files };
        int r;

        r = choose_uid(w, spec, &launch.uid);
        if (r >= 0 && spec->verb)
                r = strv_extend(&options, spec->verb);
        if (r >= 0)
                r = add_files(spec, launch.uid, &options, files, &launch.n_files);
        if (r < 0)
                return r;
        launch.options = options;
        r = spec->network ? list_proxies(&environment) : 0;
        if (r < 0)
                return r;
        launch.environment = environment;
        r = task_launch(w->core->event, w->core->launcher, &launch, request, len, spec->timeout_usec,
                        on_done, w, &w->task);
        if (r >= 0)
                task_set_line_handler(w->task, on_line);
        return r;
}

int worker_run(Core *core, const WorkerSpec *spec, const char *request, size_t len,
                const WorkerHandlers *handlers, void *userdata, Worker **ret, Error **reterr) {
        _cleanup_(worker_freep) Worker *w = malloc(sizeof(Worker));
        int r;

        assert(spec->n_files <= WORKER_FILES_MAX);
        if (!w)
                return error_set_errno(reterr, -ENOMEM, "Cannot run %s", name_of(spec->program));
        *w = (Worker){
                .core = core,
                .program = name_of(spec->program),
                .late = spec->late,
                .handlers = handlers,
                .userdata = userdata,
        };
        if (spec->paid && spec->paid->accounts)
                w->charge = charge_take(spec->paid);
        else {
                r = charge(core->accounts, spec->requester, RESOURCE_WORKERS, 1, &w->charge, reterr);
                if (r < 0)
                        return r;
        }
        r = launch(w, spec, request, len);
        if (r < 0) {
                _cleanup_free_ char *what = strf("run %s", w->program);

                return launcher_set_error(reterr, r, what ?: "run a worker");
        }
        *ret = TAKE_PTR(w);
        return 0;
}
