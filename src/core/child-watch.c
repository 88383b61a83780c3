/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/wait.h>

#include "child-watch.h"

struct ChildWatch {
        sd_event_source *source; /* owned; NULL: it has ended */
        pid_t pid;
        bool leads_group;
        child_ended_t ended;
        void *userdata;
        ChildWatch *next, **place; /* among those that the room keeps */
};

/* Owns those that nobody else does. Children are a process's own, whatever loop reaps them. */
static ChildWatch *kept;

static void keep(ChildWatch *w) {
        w->next = kept;
        w->place = &kept;
        if (w->next)
                w->next->place = &w->next;
        kept = w;
}

static void destroy(ChildWatch *w) {
        if (w->place) {
                *w->place = w->next;
                if (w->next)
                        w->next->place = w->place;
        }
        sd_event_source_disable_unref(w->source);
        free(w);
}

/* The loop reaps it when we return: until then nobody else can have its PID, which is also its group's. */
static int on_exit_of_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        ChildWatch *w = userdata;
        bool is_kept = w->place;

        if (w->leads_group)
                (void)kill(-w->pid, SIGKILL);
        w->source = sd_event_source_unref(w->source);
        if (w->ended)
                w->ended(si, w->userdata); /* may free it, where it is its own */
        if (is_kept)
                destroy(w);
        return 0;
}

int child_watch_new(sd_event *event, pid_t pid, bool leads_group, child_ended_t ended, void *userdata,
                ChildWatch **ret) {
        ChildWatch *w = malloc(sizeof(ChildWatch));
        int r = -ENOMEM;

        if (w) {
                *w = (ChildWatch){
                        .pid = pid, .leads_group = leads_group, .ended = ended, .userdata = userdata
                };
                r = sd_event_add_child(event, &w->source, pid, WEXITED, on_exit_of_child, w);
        }
        if (r < 0) {
                (void)kill(leads_group ? -pid : pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
                free(w);
                return r;
        }
        if (ret)
                *ret = w;
        else
                keep(w);
        return 0;
}

void child_watch_hold(ChildWatch *w, bool hold) {
        if (w->source)
                (void)sd_event_source_set_enabled(w->source, hold ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

void child_watch_kill(ChildWatch *w) {
        if (w && w->source) /* not reaped, so both numbers are its own */
                (void)kill(w->leads_group ? -w->pid : w->pid, SIGKILL);
}

bool child_watch_has_ended(const ChildWatch *w) {
        return !w->source;
}

ChildWatch *child_watch_free(ChildWatch *w) {
        if (!w)
                return NULL;
        if (!w->source) {
                destroy(w);
                return NULL;
        }
        w->ended = NULL;
        keep(w);
        return NULL;
}
