/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "child-watch.h"
#include "launcher.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define SOCKET_TARGET 3
/* PID 1 has 15 s for an answer; then the launcher says so. One that is silent itself is given up a little
 * later. What it was to run it does not any more, should it go on. */
#define CALL_TIMEOUT (20 * USEC_PER_SEC)
#define RECEIVE_BURST 16 /* packets in one turn of the loop, so that others have their turn */

/* A packet that the socket had no room for, or that the next launcher gets, too, if this one does not answer
 * it. */
typedef struct Unsent {
        TAILQ_ENTRY(Unsent) link;
        LaunchRequest request;
        char **texts;
        int fds[PACKET_FDS_MAX]; /* copies */
} Unsent;

struct Launched {
        TAILQ_ENTRY(Launched) link;
        Launcher *launcher; /* borrowed; NULL: it has ended */
        uint64_t id;
        int pidfd;                 /* -EBADF: not started, or somebody else has it */
        sd_event_source *exit;     /* when the launcher was lost: of the pidfd, or to say that it is over */
        sd_event_source *deadline; /* until it is said whether it has started */
        const LaunchHandlers *handlers;
        void *userdata;
        bool started, lost, ended;
};

struct LaunchCall {
        TAILQ_ENTRY(LaunchCall) link;
        Launcher *launcher; /* borrowed */
        uint64_t id;
        sd_event_source *deadline;
        launch_reply_t reply; /* NULL: nobody waits */
        void *userdata;
        Unsent *again; /* owned; or NULL */
};

typedef TAILQ_HEAD(UnsentList, Unsent) UnsentList;
typedef TAILQ_HEAD(LaunchedList, Launched) LaunchedList;
typedef TAILQ_HEAD(LaunchCallList, LaunchCall) LaunchCallList;

struct Launcher {
        sd_event *event;
        char *path; /* NULL: it is our child */
        bool user;
        ChildWatch *child;
        int socket;
        sd_event_source *io;
        uint64_t last_id;
        UnsentList unsent;
        LaunchedList running; /* what has not ended */
        LaunchedList lost;    /* the same, of launchers that were lost */
        LaunchCallList calls;
};

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *userdata);

static int connect_to(const char *path) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        if (strlen(path) >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        strcpy(sa.sun_path, path);
        return connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : TAKE_FD(fd);
}

/* It ends when our end of the pair is closed. */
static int start_child(Launcher *l) {
        char *const argv[] = { (char *)VMCTL_HELPER_DIR "/vmctl-launch", (char *)"--socket=3",
                l->user ? (char *)"--user" : NULL, NULL };
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        ChildFd fds[] = { { STDERR_FILENO, STDERR_FILENO }, { -EBADF, SOCKET_TARGET } };
        ChildSpec spec = { .argv = argv, .envp = environ, .fds = fds, .n_fds = ELEMENTSOF(fds) };
        pid_t pid;
        int r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -errno;
        fds[1].fd = pair[1];
        r = child_spawn(&spec, &pid);
        if (r >= 0)
                r = child_watch_new(l->event, pid, false, NULL, NULL, &l->child);
        return r < 0 ? r : TAKE_FD(pair[0]);
}

int launcher_connect(Launcher *l) {
        int r;

        if (l->socket >= 0)
                return 0;
        l->socket = l->path ? connect_to(l->path) : start_child(l);
        if (l->socket < 0)
                return log_error_errno(l->socket, "Cannot reach vmctl-launch: %m");
        r = sd_event_add_io(l->event, &l->io, l->socket, EPOLLIN, on_socket, l);
        if (r < 0)
                l->socket = safe_close(l->socket);
        return r;
}

int launcher_new(sd_event *event, const char *socket, bool user, Launcher **ret) {
        _cleanup_(launcher_freep) Launcher *l = malloc(sizeof(Launcher));

        if (!l)
                return -ENOMEM;
        *l = (Launcher){ .event = sd_event_ref(event), .user = user, .socket = -EBADF };
        TAILQ_INIT(&l->unsent);
        TAILQ_INIT(&l->running);
        TAILQ_INIT(&l->lost);
        TAILQ_INIT(&l->calls);
        if (socket) {
                l->path = strdup(socket);
                if (!l->path)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(l);
        return 0;
}

static Unsent *unsent_free(Unsent *u) {
        if (!u)
                return NULL;
        for (size_t i = 0; i < u->request.n_fds; i++)
                safe_close(u->fds[i]);
        strv_free(u->texts);
        free(u);
        return NULL;
}

DEFINE_CLEANUP(Unsent *, unsent_free);

static int unsent_new(const LaunchRequest *request, char *const *texts, const int *fds, Unsent **ret) {
        _cleanup_(unsent_freep) Unsent *u = malloc(sizeof(Unsent));
        int r;

        if (!u)
                return -ENOMEM;
        *u = (Unsent){ .request = *request };
        u->request.n_fds = 0;
        STRV_FOREACH(t, texts) {
                r = strv_extend(&u->texts, *t);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < request->n_fds; i++) {
                u->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
                if (u->fds[i] < 0)
                        return -errno;
                u->request.n_fds++;
        }
        *ret = TAKE_PTR(u);
        return 0;
}

static void disconnect(Launcher *l) {
        Unsent *u;

        l->io = sd_event_source_disable_unref(l->io);
        l->socket = safe_close(l->socket);
        l->child = child_watch_free(l->child);
        while ((u = TAILQ_FIRST(&l->unsent))) {
                TAILQ_REMOVE(&l->unsent, u, link);
                unsent_free(u);
        }
}

/* --- What it runs --- */

static void unlink_launched(Launched *c) {
        if (c->launcher)
                TAILQ_REMOVE(c->lost ? &c->launcher->lost : &c->launcher->running, c, link);
        c->launcher = NULL;
}

static void end(Launched *c, const LaunchEnd *how) {
        c->exit = sd_event_source_disable_unref(c->exit);
        c->deadline = sd_event_source_disable_unref(c->deadline);
        unlink_launched(c);
        c->ended = true;
        c->handlers->ended(how, c->userdata); /* may free it */
}

Launcher *launcher_free(Launcher *l) {
        LaunchCall *call;
        Launched *c;

        if (!l)
                return NULL;
        disconnect(l);
        while ((call = TAILQ_FIRST(&l->calls)))
                launch_call_cancel(call);
        while ((c = TAILQ_FIRST(&l->running) ?: TAILQ_FIRST(&l->lost)))
                end(c, &(LaunchEnd){ .error = -ECANCELED });
        sd_event_unref(l->event);
        free(l->path);
        free(l);
        return NULL;
}

static int on_lost_exit(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        end(userdata, &(LaunchEnd){ .error = -ECONNRESET });
        return 0;
}

static int on_lost(sd_event_source *s, void *userdata) {
        end(userdata, &(LaunchEnd){ .error = -ECONNRESET });
        return 0;
}

/* Nobody tells of its end any more but its pidfd. Of one that was not said to have started nothing is known:
 * it dies with the launcher, or, a shim, since its control socket is closed. From a source of its own, so
 * that whoever hears of the end finds a launcher that can be asked again. */
static void lose(Launched *c) {
        sd_event *event = c->launcher->event;
        int r;

        TAILQ_REMOVE(&c->launcher->running, c, link);
        TAILQ_INSERT_TAIL(&c->launcher->lost, c, link);
        c->lost = true;
        c->deadline = sd_event_source_disable_unref(c->deadline);
        r = c->pidfd >= 0 ? sd_event_add_io(event, &c->exit, c->pidfd, EPOLLIN, on_lost_exit, c)
                          : sd_event_add_defer(event, &c->exit, on_lost, c);
        if (r < 0)
                log_error_errno(r, "The end of a program goes unnoticed: %m");
}

static Launched *find_running(const Launcher *l, uint64_t id) {
        Launched *c;

        TAILQ_FOREACH(c, &l->running, link)
                if (c->id == id)
                        return c;
        return NULL;
}

Launched *launched_free(Launched *c) {
        if (!c)
                return NULL;
        unlink_launched(c);
        sd_event_source_disable_unref(c->exit);
        sd_event_source_disable_unref(c->deadline);
        safe_close(c->pidfd);
        free(c);
        return NULL;
}

uint64_t launched_id(const Launched *c) {
        return c->id;
}

bool launched_has_ended(const Launched *c) {
        return c->ended;
}

/* --- What it is asked --- */

static void answer(LaunchCall *c, const LaunchAnswer *a) {
        launch_reply_t reply = c->reply;
        void *userdata = c->userdata;

        launch_call_cancel(c);
        if (reply)
                reply(userdata, a);
}

LaunchCall *launch_call_cancel(LaunchCall *c) {
        if (!c)
                return NULL;
        TAILQ_REMOVE(&c->launcher->calls, c, link);
        sd_event_source_disable_unref(c->deadline);
        unsent_free(c->again);
        free(c);
        return NULL;
}

static void lose_launcher(Launcher *l);

/* It is stopped, or hangs. */
static void give_up(Launcher *l) {
        log_error("vmctl-launch does not answer");
        child_watch_kill(l->child);
        lose_launcher(l);
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        give_up(((LaunchCall *)userdata)->launcher);
        return 0;
}

static int on_not_started(sd_event_source *s, uint64_t usec, void *userdata) {
        give_up(((Launched *)userdata)->launcher);
        return 0;
}

static int call_new(Launcher *l, uint64_t id, launch_reply_t reply, void *userdata, LaunchCall **ret) {
        LaunchCall *c = malloc(sizeof(LaunchCall));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (LaunchCall){ .launcher = l, .id = id, .reply = reply, .userdata = userdata };
        TAILQ_INSERT_TAIL(&l->calls, c, link);
        r = sd_event_add_time_relative(
                        l->event, &c->deadline, CLOCK_MONOTONIC, CALL_TIMEOUT, USEC_PER_SEC, on_deadline, c);
        if (r < 0) {
                launch_call_cancel(c);
                return r;
        }
        *ret = c;
        return 0;
}

static LaunchCall *find_call(const Launcher *l, uint64_t id) {
        LaunchCall *c;

        TAILQ_FOREACH(c, &l->calls, link)
                if (c->id == id)
                        return c;
        return NULL;
}

static int on_lost_call(sd_event_source *s, uint64_t usec, void *userdata) {
        answer(userdata, &(LaunchAnswer){ -ECONNRESET, "vmctl-launch was lost", 0 });
        return 0;
}

static int send_now(Launcher *l, LaunchRequest *request, char *const *texts, const int *fds);

/* Once, and before anything else that the next one is asked for. */
static void tell_again(Launcher *l, LaunchCall *c) {
        _cleanup_(unsent_freep) Unsent *u = TAKE_PTR(c->again);
        int r;

        u->request.id = c->id = ++l->last_id;
        (void)sd_event_source_set_time_relative(c->deadline, CALL_TIMEOUT);
        (void)sd_event_source_set_enabled(
                        c->deadline, SD_EVENT_ONESHOT); /* it may be what has just passed */
        r = send_now(l, &u->request, u->texts, u->fds);
        if (r < 0)
                log_error_errno(r, "Cannot ask another vmctl-launch: %m");
}

/* What failed is told from sources of its own, by when a new launcher can be asked. */
static void lose_launcher(Launcher *l) {
        Launched *child;
        LaunchCall *c;

        disconnect(l);
        while ((child = TAILQ_FIRST(&l->running)))
                lose(child);
        TAILQ_FOREACH(c, &l->calls, link) {
                if (c->again) {
                        tell_again(l, c);
                        continue;
                }
                sd_event_source_disable_unref(c->deadline);
                c->deadline = NULL;
                if (sd_event_add_time(l->event, &c->deadline, CLOCK_MONOTONIC, 0, 0, on_lost_call, c) < 0)
                        log_error("Out of memory: nobody hears that vmctl-launch was lost");
        }
}

/* --- Packets --- */

static int queue(Launcher *l, const LaunchRequest *request, char *const *texts, const int *fds) {
        _cleanup_(unsent_freep) Unsent *u = NULL;
        int r;

        r = unsent_new(request, texts, fds, &u);
        if (r >= 0)
                r = sd_event_source_set_io_events(l->io, EPOLLIN | EPOLLOUT);
        if (r < 0)
                return r;
        TAILQ_INSERT_TAIL(&l->unsent, u, link);
        TAKE_PTR(u);
        return 0;
}

static int send_now(Launcher *l, LaunchRequest *request, char *const *texts, const int *fds) {
        int r;

        r = launcher_connect(l);
        if (r < 0)
                return r;
        request->version = LAUNCH_VERSION;
        r = TAILQ_EMPTY(&l->unsent)
                        ? packet_send(l->socket, request, sizeof(*request), texts, fds, request->n_fds)
                        : -EAGAIN;
        return r == -EAGAIN ? queue(l, request, texts, fds) : r;
}

/* One that has ended before the loop has seen it is none. */
static int send_request(Launcher *l, LaunchRequest *request, char *const *texts, const int *fds) {
        int r;

        r = send_now(l, request, texts, fds);
        if (r != -EPIPE && r != -ECONNRESET)
                return r;
        lose_launcher(l);
        return send_now(l, request, texts, fds);
}

/* What cannot be sent nobody would hear of. */
static int send_unsent(Launcher *l) {
        Unsent *u;
        int r;

        while ((u = TAILQ_FIRST(&l->unsent))) {
                r = packet_send(l->socket, &u->request, sizeof(u->request), u->texts, u->fds,
                                u->request.n_fds);
                /* The end of the connection tells of itself, behind the last answers. */
                if (r == -EAGAIN || r == -EPIPE || r == -ECONNRESET)
                        return 0;
                if (r < 0)
                        return r;
                TAILQ_REMOVE(&l->unsent, u, link);
                unsent_free(u);
        }
        return sd_event_source_set_io_events(l->io, EPOLLIN);
}

static void on_started(Launcher *l, const LaunchReply *reply, Packet *p) {
        Launched *c = find_running(l, reply->id);
        int pidfd;

        if (!c || p->n_fds != 1 || c->started)
                return; /* one that nobody wants to hear of */
        c->started = true;
        c->deadline = sd_event_source_disable_unref(c->deadline);
        pidfd = p->fds[0];
        p->n_fds = 0;
        if (c->handlers->started)
                c->handlers->started(reply->pid, pidfd, c->userdata); /* may free it */
        else
                c->pidfd = pidfd;
}

static void on_ended(Launcher *l, const LaunchReply *reply, Packet *p) {
        Launched *c = find_running(l, reply->id);

        if (c)
                end(c, &(LaunchEnd){ reply->error, reply->code, reply->status });
}

static void on_answer(Launcher *l, const LaunchReply *reply, Packet *p) {
        LaunchCall *c = find_call(l, reply->id);

        if (c)
                answer(c,
                                &(LaunchAnswer){ MIN(reply->error, 0), p->texts ? p->texts[0] : NULL,
                                                reply->pid });
}

static void dispatch(Launcher *l, const LaunchReply *reply, Packet *p) {
        static void (*const table[_LAUNCH_EVENT_MAX])(Launcher *, const LaunchReply *, Packet *) = {
                [LAUNCH_STARTED] = on_started, [LAUNCH_ENDED] = on_ended, [LAUNCH_ANSWER] = on_answer
        };

        if (reply->event < _LAUNCH_EVENT_MAX)
                table[reply->event](l, reply, p);
}

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Launcher *l = userdata;
        LaunchReply reply;
        int r = revents & EPOLLOUT ? send_unsent(l) : 0;

        r = r < 0 ? r : 1;
        for (unsigned i = 0; r > 0 && l->socket >= 0 && i < RECEIVE_BURST; i++) {
                _cleanup_(packet_done) Packet p = {};

                r = packet_receive(l->socket, &reply, sizeof(reply), &p);
                if (r > 0 && reply.version != LAUNCH_VERSION)
                        r = -EBADMSG;
                if (r > 0)
                        dispatch(l, &reply, &p);
        }
        if (r > 0 || r == -EAGAIN)
                return 0;
        log_error_errno(r < 0 ? r : -ECONNRESET, "vmctl-launch is lost: %m");
        lose_launcher(l);
        return 0;
}

/* --- Requests --- */

int launcher_run(Launcher *l, const LaunchSpec *spec, const LaunchHandlers *handlers, void *userdata,
                Launched **ret) {
        _cleanup_(launched_freep) Launched *c = malloc(sizeof(Launched));
        LaunchRequest request = {
                .verb = LAUNCH_RUN,
                .id = ++l->last_id,
                .program = spec->program,
                .uid = spec->uid,
                .kvm = spec->kvm,
        };
        _cleanup_strv_ char **texts = NULL;
        int fds[PACKET_FDS_MAX], r = 0;

        if (!c)
                return -ENOMEM;
        *c = (Launched){ .id = request.id, .pidfd = -EBADF, .handlers = handlers, .userdata = userdata };
        if (spec->n_files > PACKET_FDS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < spec->n_files; i++) {
                fds[request.n_fds] = spec->files[i].fd;
                request.targets[request.n_fds++] = spec->files[i].target;
        }
        STRV_FOREACH(o, spec->options)
                if (r >= 0)
                        r = strv_extend(&texts, *o);
        STRV_FOREACH(e, spec->environment) {
                request.n_environment++;
                if (r >= 0)
                        r = strv_extend(&texts, *e);
        }
        if (r >= 0)
                r = sd_event_add_time_relative(l->event, &c->deadline, CLOCK_MONOTONIC, CALL_TIMEOUT,
                                USEC_PER_SEC, on_not_started, c);
        if (r >= 0)
                r = send_request(l, &request, texts, fds);
        if (r < 0)
                return r;
        c->launcher = l;
        TAILQ_INSERT_TAIL(&l->running, c, link);
        *ret = TAKE_PTR(c);
        return 0;
}

/* Without memory for it the connection is given up, which ends all. */
static void insist(Launcher *l, int r) {
        if (r >= 0)
                return;
        log_error_errno(r, "Cannot ask vmctl-launch: %m");
        lose_launcher(l);
}

void launched_kill(Launched *c) {
        LaunchRequest request = { .verb = LAUNCH_KILL };

        if (c->ended || c->lost) /* then it is being killed */
                return;
        request.id = ++c->launcher->last_id;
        request.child = c->id;
        insist(c->launcher, send_request(c->launcher, &request, NULL, NULL));
}

static int call(Launcher *l, LaunchRequest *request, const char *unit, const int *fds, launch_reply_t reply,
                void *userdata, LaunchCall **ret) {
        char *const texts[] = { (char *)unit, NULL };
        LaunchCall *c;
        int r;

        request->id = ++l->last_id;
        r = send_request(l, request, texts, fds);
        if (r < 0)
                return r;
        r = call_new(l, request->id, reply, userdata, &c);
        if (r < 0)
                return r; /* the answer goes to nobody */
        *ret = c;
        return 0;
}

int launcher_start_scope(Launcher *l, uint64_t around, const char *unit, const VmLimits *limits, bool kvm,
                uint64_t stop_timeout_usec, launch_reply_t reply, void *userdata, LaunchCall **ret) {
        LaunchRequest request = {
                .verb = LAUNCH_START_SCOPE,
                .child = around,
                .limits = *limits,
                .kvm = kvm,
                .stop_timeout = stop_timeout_usec,
        };

        return call(l, &request, unit, NULL, reply, userdata, ret);
}

int launcher_set_limits(Launcher *l, const char *unit, const VmLimits *limits, launch_reply_t reply,
                void *userdata, LaunchCall **ret) {
        LaunchRequest request = { .verb = LAUNCH_SET_LIMITS, .limits = *limits };

        return call(l, &request, unit, NULL, reply, userdata, ret);
}

/* What must not be lost with the launcher: doing it twice does no harm. */
static int tell(Launcher *l, LaunchRequest *request, const char *unit, const int *fds) {
        char *const texts[] = { (char *)unit, NULL };
        _cleanup_(unsent_freep) Unsent *again = NULL;
        LaunchCall *c;
        int r;

        r = unsent_new(request, texts, fds, &again);
        if (r < 0)
                return r;
        r = call(l, request, unit, fds, NULL, NULL, &c);
        if (r >= 0)
                c->again = TAKE_PTR(again);
        return r;
}

int launcher_stop_scope(Launcher *l, const char *unit) {
        return tell(l, &(LaunchRequest){ .verb = LAUNCH_STOP_SCOPE }, unit, NULL);
}

int launcher_kill_scope(Launcher *l, const char *unit) {
        return tell(l, &(LaunchRequest){ .verb = LAUNCH_KILL_SCOPE }, unit, NULL);
}

int launcher_signal(Launcher *l, int pidfd, const char *unit, int sig) {
        return tell(l, &(LaunchRequest){ .verb = LAUNCH_SIGNAL, .signal = sig, .n_fds = 1 }, unit, &pidfd);
}
