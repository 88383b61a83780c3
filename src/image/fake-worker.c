/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <unistd.h>

#include "core/test-record-faults.h"
#include "fake-worker.h"
#include "util/fd-util.h"
#include "util/test.h"

#define FILES_MAX 4

struct Worker {
        Core *core;
        const WorkerHandlers *handlers;
        void *userdata;
        bool pulls, in_place, looks;
        int output, state; /* -EBADF: not given */
        Charge charge;
        sd_event_source *turn;
        bool running, told, killed;
        worker_gone_t gone;
        void *gone_userdata;
        Json *result;
        struct Worker *next;
};

FakeWorkers fake_workers = { .error = _ERROR_CODE_INVALID };
static Worker *all;

static void settle(Worker *w) {
        if (!w->running)
                return;
        w->running = false;
        fake_workers.live--;
        charge_release(&w->charge);
        w->output = safe_close(w->output);
        w->state = safe_close(w->state);
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        for (Worker **p = &all; *p; p = &(*p)->next)
                if (*p == w) {
                        *p = w->next;
                        break;
                }
        settle(w);
        sd_event_source_disable_unref(w->turn);
        json_free(w->result);
        free(w);
        return NULL;
}

static void write_file(int fd, const char *text) {
        size_t len = strlen(text);

        if (fd < 0)
                return;
        CHECK(ftruncate(fd, 0) >= 0);
        CHECK_EQ(pwrite(fd, text, len, 0), (ssize_t)len);
}

static Json *make_result(const Worker *w) {
        const char *content = fake_workers.content, *digest = fake_workers.digest ?: content;
        _cleanup_free_ char *text = NULL;
        Json *result;

        if (w->pulls && fake_workers.not_modified)
                text = strdup("{\"not-modified\":true}");
        else if (w->pulls)
                text = strf("{\"url\":\"http://x/y\",\"sha256\":\"%s\",\"content-digest\":\"%s\","
                            "\"etag\":\"e\"}",
                                content, digest);
        else
                text = strf("{\"file\":\"%s\",\"format\":\"raw\",\"virtual-size\":512,\"size\":%zu,"
                            "\"content-digest\":\"%s\"}",
                                w->in_place ? "input" : "output", strlen(content), digest);
        CHECK(text && json_parse(text, strlen(text), NULL, &result, NULL) >= 0);
        return result;
}

static void answer(Worker *w) {
        ErrorCode code = fake_workers.error;
        int countdown = faults->countdown;
        _cleanup_error_ Error *e = NULL;

        faults->countdown = NO_FAULT; /* they are no part of us */
        if (w->looks && fake_workers.compressed)
                code = ERROR_COMPRESSED;
        if ((int)code >= 0)
                (void)error_set(&e, code, "As the test wants it");
        else {
                if (!w->in_place && !(w->pulls && fake_workers.not_modified))
                        write_file(w->output, fake_workers.content);
                w->result = make_result(w);
        }
        faults->countdown = countdown;
        settle(w);
        w->handlers->done(w->userdata, e ? NULL : w->result, e);
}

static int on_turn(sd_event_source *s, void *userdata) {
        Worker *w = userdata;

        if (w->killed) {
                if (fake_workers.undead)
                        return 0;
                settle(w);
                w->gone(w->gone_userdata);
        } else if (!w->told) {
                w->told = true;
                write_file(w->state, "notes"); /* before the first byte */
                CHECK(sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT) >= 0);
                if (w->handlers->progress)
                        w->handlers->progress(w->userdata,
                                        &(JobProgress){ .phase = "working", .done = 1, .total = 2 });
        } else if (!fake_workers.hang)
                answer(w);
        return 0;
}

void fake_bury(void) {
        fake_workers.undead = false;
        for (Worker *w = all; w; w = w->next)
                if (w->killed)
                        CHECK(sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT) >= 0);
}

void fake_go_on(void) {
        fake_workers.hang = false;
        for (Worker *w = all; w; w = w->next)
                if (w->running)
                        CHECK(sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT) >= 0);
}

int worker_run(Core *core, const WorkerSpec *spec, const char *request, size_t len,
                const WorkerHandlers *handlers, void *userdata, Worker **ret, Error **reterr) {
        Worker *w = malloc(sizeof(Worker));
        int r;

        if (!w)
                return error_set_errno(reterr, -ENOMEM, "Cannot run a worker");
        *w = (Worker){ .core = core,
                .handlers = handlers,
                .userdata = userdata,
                .pulls = spec->program == LAUNCH_PULL,
                .in_place = strstr(request, "\"in-place\":true"),
                .output = -EBADF,
                .state = -EBADF };
        w->looks = streq_ptr(spec->verb, "import") && !w->in_place;
        r = charge(core->accounts, spec->requester, RESOURCE_WORKERS, 1, &w->charge, reterr);
        if (r < 0) {
                free(w);
                return r;
        }
        r = sd_event_add_defer(core->event, &w->turn, on_turn, w);
        if (r < 0) {
                charge_release(&w->charge);
                free(w);
                return error_set_errno(reterr, r, "Cannot run a worker");
        }
        for (size_t i = 0; i < spec->n_files; i++)
                if (streq(spec->files[i].option, "--output") && !streq_ptr(spec->verb, "export"))
                        w->output = fcntl(spec->files[i].fd, F_DUPFD_CLOEXEC, 3);
                else if (streq(spec->files[i].option, "--state"))
                        w->state = fcntl(spec->files[i].fd, F_DUPFD_CLOEXEC, 3);
        if (streq_ptr(spec->verb, "export")) /* a failed open is no reason to do without */
                CHECK(spec->n_files == 3 && spec->files[2].fd >= 0);
        w->running = true;
        fake_workers.begun++;
        fake_workers.live++;
        w->next = all;
        all = w;
        *ret = w;
        return 0;
}

int worker_charge(Worker *w, uid_t requester, Error **reterr) {
        Charge paid;
        int r;

        if (!w->running || w->charge.uid == requester)
                return 0;
        r = charge(w->core->accounts, requester, RESOURCE_WORKERS, 1, &paid, reterr);
        if (r < 0)
                return r;
        charge_release(&w->charge);
        w->charge = paid;
        return 0;
}

int worker_kill(Worker *w, worker_gone_t gone, void *userdata) {
        if (!w->running)
                return 0;
        CHECK(!w->killed);
        w->killed = true;
        w->gone = gone;
        w->gone_userdata = userdata;
        CHECK(sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT) >= 0);
        return 1;
}
