/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The points, and the clock. */
#include "fake.h"
#include "util/string-util.h"
#include "util/test.h"

struct FakeAnswer {
        const char *what;
        fake_answer_t answer;
        void *object;
        bool late;
        FakeAnswer *next;
};

typedef struct Timer {
        sd_event_source *source; /* the caller's */
        uint64_t deadline;
        sd_event_time_handler_t callback;
        void *userdata;
        struct Timer *next;
} Timer;

static sd_event *loop;
static FakeFault fault;
static unsigned chosen, passed;
static bool broke, twice;
static FakeAnswer *answers; /* the oldest first */
static Timer *timers;
static uint64_t ticks;

void (*fake_on_stop)(void);
void (*fake_hold_faults)(bool hold);
bool (*fake_is_busy)(void);

/* Not malloc(), which a test may have fail. */
void *fake_alloc(size_t size) {
        void *p = aligned_alloc(16, (size + 15) / 16 * 16);

        CHECK(p);
        return memset(p, 0, size);
}

char *fake_strdup(const char *s) {
        return s ? memcpy(fake_alloc(strlen(s) + 1), s, strlen(s) + 1) : NULL;
}

void fake_hold(bool hold) {
        if (fake_hold_faults)
                fake_hold_faults(hold);
}

void fake_reset(sd_event *event) {
        loop = event;
        fault = FAKE_NONE;
        passed = 0;
        broke = false;
        CHECK(!answers);
}

void fake_break_at(FakeFault f, unsigned point) {
        fault = f;
        chosen = point;
        passed = 0;
        broke = false;
}

bool fake_comes_twice(void) {
        return twice;
}

bool fake_broke(void) {
        return broke;
}

/* Answers that fail or are late count as points of their own. */
static bool is_chosen(bool answer) {
        if (fault == FAKE_NONE || (!answer && fault != FAKE_FAILS) || passed++ != chosen)
                return false;
        broke = true;
        return true;
}

int fake_point(const char *what) {
        return is_chosen(false) ? -ENOSPC : 0;
}

FakeAnswer *fake_expect(const char *what, fake_answer_t answer, void *object) {
        FakeAnswer *a = fake_alloc(sizeof(FakeAnswer)), **last = &answers;

        CHECK(a);
        *a = (FakeAnswer){ .what = what, .answer = answer, .object = object };
        while (*last)
                last = &(*last)->next;
        *last = a;
        return a;
}

FakeAnswer *fake_forget(FakeAnswer *a) {
        for (FakeAnswer **p = &answers; *p && a; p = &(*p)->next)
                if (*p == a) {
                        *p = a->next;
                        free(a);
                        return NULL;
                }
        return NULL;
}

static void give(FakeAnswer *a, bool ok) {
        fake_answer_t answer = a->answer;
        void *object = a->object;

        fake_forget(a);
        answer(object, ok);
}

static void run_loop(void) {
        while (sd_event_run(loop, 0) > 0)
                ;
}

static FakeAnswer *first(bool late) {
        for (FakeAnswer *a = answers; a; a = a->next)
                if (a->late == late)
                        return a;
        return NULL;
}

/* All is answered but what is late. */
static void answer_all(void) {
        FakeAnswer *a;

        for (run_loop(); (a = first(false)); run_loop()) {
                if (!is_chosen(true)) {
                        give(a, true);
                        continue;
                }
                if (fault == FAKE_FAILS || fault == FAKE_TWICE) {
                        twice = fault == FAKE_TWICE;
                        give(a, twice);
                        twice = false;
                        continue;
                }
                a->late = true;
                if (fault == FAKE_STOPS)
                        fake_on_stop();
        }
}

bool fake_pass_deadline(void) {
        Timer *soonest = timers;

        for (Timer *t = timers; t; t = t->next)
                if (t->deadline < soonest->deadline)
                        soonest = t;
        if (!soonest)
                return false;
        CHECK(sd_event_source_set_enabled(soonest->source, SD_EVENT_ONESHOT) >= 0);
        run_loop();
        return true;
}

void fake_settle(void) {
        FakeAnswer *late;

        answer_all();
        while ((first(true) || fake_is_busy()) && fake_pass_deadline())
                answer_all();
        late = first(true);
        if (late)
                give(late, true);
        answer_all();
}

bool fake_run_until(const char *what) {
        for (run_loop(); answers; run_loop()) {
                if (streq(answers->what, what))
                        return true;
                give(answers, true);
        }
        return false;
}

bool fake_answer(const char *what) {
        for (FakeAnswer *a = answers; a; a = a->next)
                if (streq(a->what, what)) {
                        give(a, true);
                        run_loop();
                        return true;
                }
        return false;
}

/* --- The clock, instead of sd-event's. A timer is a source that is off until its time has come. */

static int on_time(sd_event_source *s, void *userdata) {
        Timer *t = userdata;

        return t->callback(s, t->deadline, t->userdata);
}

static void timer_free(void *userdata) {
        for (Timer **p = &timers; *p; p = &(*p)->next)
                if (*p == userdata) {
                        *p = (*p)->next;
                        break;
                }
        free(userdata);
}

int sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t callback, void *userdata) {
        Timer *t;
        int r;

        r = fake_point("timer");
        if (r < 0)
                return r;
        t = fake_alloc(sizeof(Timer));
        *t = (Timer){ .deadline = usec, .callback = callback, .userdata = userdata, .next = timers };
        fake_hold(true);
        CHECK(sd_event_add_defer(event, &t->source, on_time, t) >= 0);
        fake_hold(false);
        CHECK(sd_event_source_set_enabled(t->source, SD_EVENT_OFF) >= 0);
        CHECK(sd_event_source_set_destroy_callback(t->source, timer_free) >= 0);
        timers = t;
        *ret = t->source;
        return 0;
}

static uint64_t in(uint64_t usec) {
        uint64_t now;

        CHECK(sd_event_now(loop, CLOCK_MONOTONIC, &now) >= 0);
        return now + usec + ticks++;
}

int sd_event_add_time_relative(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t callback, void *userdata) {
        return sd_event_add_time(event, ret, clock, in(usec), accuracy, callback, userdata);
}

int sd_event_source_set_time_relative(sd_event_source *s, uint64_t usec) {
        for (Timer *t = timers; t; t = t->next)
                if (t->source == s)
                        t->deadline = in(usec);
        return 0;
}
