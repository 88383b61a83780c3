/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The input is what a peer says. Its first byte chooses what the client's owner does; NUL bytes part it into
 * pieces, between which the client has its turn; '@' and a digit stand for the number of the client's first
 * command, second, and so on, which nobody could guess. Every call must be answered exactly once unless the
 * client is freed, and nothing may come after closed(). */
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "qmp/qmp.h"
#include "util/fd-util.h"
#include "util/test.h"

#define N_CALLS 12 /* some wait, as no more than eight are in flight */

typedef enum Choice {
        CHOICE_REATTACH = 1 << 0,
        CHOICE_FREE_ON_READY = 1 << 1,
        CHOICE_FREE_ON_EVENT = 1 << 2,
        CHOICE_FREE_ON_REPLY = 1 << 3,
        CHOICE_CALL_ON_EVENT = 1 << 4,
        CHOICE_CANCEL = 1 << 5,
        CHOICE_HANG_UP = 1 << 6,
} Choice;

typedef struct Owner {
        Qmp *q;
        Choice choice;
        bool closed;
        unsigned n_calls, n_replies;
        uint64_t first_id;
} Owner;

static void free_if(Owner *o, Choice choice) {
        if (o->choice & choice)
                o->q = qmp_free(o->q);
}

static void count_reply(Owner *o, int r, bool has_result, const Error *error) {
        CHECK(o->q && !o->closed);
        CHECK((r >= 0) == has_result && (r < 0) == !!error);
        o->n_replies++;
        free_if(o, CHOICE_FREE_ON_REPLY);
}

static void on_reply(void *userdata, int r, const Json *result, const Error *error) {
        count_reply(userdata, r, !!result, error);
}

static void on_raw_reply(void *userdata, int r, const char *text, const Error *error) {
        count_reply(userdata, r, !!text, error);
}

static void make_call(Owner *o) {
        int r = qmp_call(o->q, "query-status", "{\"a\":1}", USEC_INFINITY, on_reply, o, NULL);

        CHECK(r == 0 || r == -ENOBUFS);
        o->n_calls += r == 0;
}

static void on_ready(Qmp *q, void *userdata) {
        Owner *o = userdata;

        CHECK(o->q && !o->closed && qmp_is_ready(q));
        free_if(o, CHOICE_FREE_ON_READY);
}

static void on_event(Qmp *q, const char *name, const Json *data, uint64_t usec, void *userdata) {
        Owner *o = userdata;

        CHECK(o->q && !o->closed && name);
        if (o->choice & CHOICE_CALL_ON_EVENT)
                make_call(o);
        free_if(o, CHOICE_FREE_ON_EVENT);
}

static void on_closed(Qmp *q, const Error *error, void *userdata) {
        Owner *o = userdata;

        CHECK(o->q && !o->closed);
        CHECK_EQ(o->n_replies, o->n_calls);
        CHECK(!error || utf8_is_valid(error_message(error), strlen(error_message(error))));
        o->closed = true;
}

static void make_calls(Owner *o) {
        QmpCall *canceled = NULL;

        for (unsigned i = 0; i < N_CALLS; i++)
                make_call(o);
        CHECK_EQ(qmp_call_raw(o->q, "{\"execute\":\"a\",\"id\":[]}", USEC_INFINITY, on_raw_reply, o, NULL,
                                 NULL),
                        0);
        o->n_calls++;
        if (o->choice & CHOICE_CANCEL) {
                CHECK_EQ(qmp_call(o->q, "b", NULL, USEC_INFINITY, on_reply, o, &canceled), 0);
                qmp_cancel(canceled);
        }
}

static void run_idle(sd_event *event) {
        while (sd_event_run(event, 0) > 0)
                ;
}

/* What the client has sent, for its first number. */
static void read_commands(int peer, Owner *o) {
        char buf[4096];
        ssize_t n = recv(peer, buf, sizeof(buf) - 1, MSG_DONTWAIT);
        const char *id;

        if (n <= 0 || o->first_id > 0)
                return;
        buf[n] = '\0';
        id = strstr(buf, "\"id\":");
        CHECK(id);
        o->first_id = strtoull(id + strlen("\"id\":"), NULL, 10);
}

static void say_piece(int peer, const Owner *o, const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        CHECK(f);
        for (size_t i = 0; i < size; i++)
                if (data[i] == '@' && i + 1 < size && data[i + 1] >= '0' && data[i + 1] <= '9')
                        fprintf(f, "%" PRIu64, o->first_id + data[++i] - '0');
                else
                        fputc(data[i], f);
        fclose(f);
        (void)send(peer, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void say(sd_event *event, int peer, Owner *o, const uint8_t *data, size_t size) {
        while (size > 0) {
                const uint8_t *nul = memchr(data, '\0', size);
                size_t n = nul ? (size_t)(nul - data) : size;

                say_piece(peer, o, data, n);
                run_idle(event);
                read_commands(peer, o);
                data += nul ? n + 1 : n;
                size -= nul ? n + 1 : n;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const QmpHandlers handlers = { .ready = on_ready, .event = on_event, .closed = on_closed };
        static sd_event *event;
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        Owner o = {};

        if (size < 1)
                return 0;
        if (!event)
                CHECK(sd_event_new(&event) >= 0);
        o.choice = data[0];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        CHECK_EQ(qmp_new(event, TAKE_FD(pair[0]), o.choice & CHOICE_REATTACH ? QMP_REATTACH : 0,
                                 USEC_INFINITY, &handlers, &o, &o.q),
                        0);
        make_calls(&o);
        read_commands(pair[1], &o);
        say(event, pair[1], &o, data + 1, size - 1);
        if (o.choice & CHOICE_HANG_UP)
                pair[1] = safe_close(pair[1]);
        run_idle(event);
        CHECK(o.n_replies <= o.n_calls);
        o.q = qmp_free(o.q);
        run_idle(event);
        return 0;
}
