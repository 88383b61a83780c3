/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PID 1, instead of systemd.c. */
#include "fake-vm.h"
#include "util/test.h"

struct Systemd {
        const SystemdHandlers *handlers;
        void *userdata;
};

struct ScopeWatch {
        Systemd *systemd;
        char *unit;
        FakeAnswer *removed;
};

struct ScopeJob {
        FakeAnswer *answer;
        scope_done_t done;
        void *userdata;
        uint64_t memory_max; /* that it sets; 0: it makes a scope */
};

unsigned fake_live_scopes;
uint64_t fake_memory_max;
bool fake_limits_unsaid;
bool fake_scope_is_late;

int systemd_new(sd_bus *bus, Launcher *launcher, const SystemdHandlers *handlers, void *userdata,
                Systemd **ret) {
        Systemd *s = fake_alloc(sizeof(Systemd));

        CHECK(s);
        *s = (Systemd){ handlers, userdata };
        *ret = s;
        return 0;
}

Systemd *systemd_free(Systemd *s) {
        free(s);
        return NULL;
}

int systemd_list_scopes(Systemd *s, char ***ret) {
        *ret = NULL;
        return 0;
}

int systemd_list_processes(Systemd *s, const char *unit, scope_process_t found, void *userdata) {
        return 0;
}

int systemd_watch_scope(Systemd *s, const char *unit, bool exists, ScopeWatch **ret) {
        ScopeWatch *w;
        int r = fake_point("watch-scope");

        if (r < 0)
                return r;
        w = fake_alloc(sizeof(ScopeWatch));
        CHECK(w);
        *w = (ScopeWatch){ .systemd = s, .unit = fake_strdup(unit) };
        *ret = w;
        return 0;
}

ScopeWatch *systemd_unwatch_scope(ScopeWatch *w) {
        if (!w)
                return NULL;
        fake_forget(w->removed);
        free(w->unit);
        free(w);
        return NULL;
}

static void on_removed(void *object, bool ok) {
        ScopeWatch *w = object;

        w->removed = NULL;
        fake_live_scopes = 0;
        w->systemd->handlers->scope_removed(w->unit, w->systemd->userdata);
}

void systemd_end_scope(ScopeWatch *w) {
        if (!w->removed)
                w->removed = fake_expect("scope-removed", on_removed, w);
}

void systemd_leave_scope(ScopeWatch *w) {
        if (w)
                w->removed = fake_forget(w->removed);
}

void systemd_clear_scope(ScopeWatch *w) {
        systemd_end_scope(w);
}

static void on_job(void *object, bool ok) {
        _cleanup_error_ Error *e = NULL;
        ScopeJob *j = object;

        j->answer = NULL;
        if (!ok) {
                j->done(j->userdata, error_set(&e, ERROR_SCOPE_FAILED, "systemd refused it"), e);
                return;
        }
        if (j->memory_max > 0 && fake_scope_is_late) {
                fake_scope_is_late = false;
                (void)error_set(&e, ERROR_SCOPE_FAILED, "There is no scope");
                j->done(j->userdata, -ENOENT, e);
                return;
        }
        if (j->memory_max > 0)
                fake_memory_max = j->memory_max;
        if (j->memory_max > 0 && fake_limits_unsaid) {
                fake_limits_unsaid = false;
                (void)error_set(&e, ERROR_SCOPE_FAILED, "The launcher was lost");
                j->done(j->userdata, -ECONNRESET, e);
                return;
        }
        if (j->memory_max == 0)
                fake_live_scopes++;
        j->done(j->userdata, 0, NULL);
}

static int job(const char *what, uint64_t memory_max, scope_done_t done, void *userdata, ScopeJob **ret) {
        int r = fake_point(what);

        if (r < 0)
                return r;
        *ret = fake_alloc(sizeof(ScopeJob));
        CHECK(*ret);
        **ret = (ScopeJob){ .done = done, .userdata = userdata, .memory_max = memory_max };
        (*ret)->answer = fake_expect(what, on_job, *ret);
        return 0;
}

int systemd_start_scope(
                Systemd *s, const ScopeSpec *spec, scope_done_t done, void *userdata, ScopeJob **ret) {
        fake_memory_max = spec->limits.memory_max;
        return job("start-scope", 0, done, userdata, ret);
}

int systemd_set_limits(Systemd *s, const char *unit, const VmLimits *limits, scope_done_t done,
                void *userdata, ScopeJob **ret) {
        return job("set-limits", limits->memory_max, done, userdata, ret);
}

ScopeJob *scope_job_free(ScopeJob *j) {
        if (j)
                fake_forget(j->answer);
        free(j);
        return NULL;
}

void systemd_kill_scope(Systemd *s, const char *unit) {
        fake_scope_killed();
}
