/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For tests of operations: stands where what they wait for is otherwise, and the clock. Files that define
 * functions of others, and are linked instead of them, are built on this. Nothing answers by itself.
 *
 * Each call that can fail, and each answer that is awaited, is a point, in the order in which they come. At
 * one of them, chosen by fake_break_at(), something else happens than what all is well with. */

#include <systemd/sd-event.h>

#include "util/macro.h"

typedef enum FakeFault {
        FAKE_NONE,
        FAKE_FAILS, /* a call fails at once, an answer is an error, a process ends */
        FAKE_LATE,  /* an answer comes only when all deadlines have passed */
        FAKE_TWICE, /* an answer comes twice, where that can be */
        FAKE_STOPS, /* an answer comes late, and fake_on_stop is called instead */
        _FAKE_FAULT_MAX,
} FakeFault;

void fake_reset(sd_event *event);
void fake_break_at(FakeFault fault, unsigned point);
bool fake_broke(void); /* the point was there */
extern void (*fake_on_stop)(void);
extern bool (*fake_is_busy)(void); /* somebody waits still: deadlines are to pass */

/* Zeroed memory and copies for the fakes themselves, which are there also where memory is to be short. */
void *fake_alloc(size_t size);
char *fake_strdup(const char *s);
extern void (*fake_hold_faults)(bool hold); /* none while a fake calls what may fail; or NULL */
void fake_hold(bool hold);

/* A call. Returns 0, or the negative errno that it fails with. */
int fake_point(const char *what);

/* An answer: `answer` is called from fake_settle(), with false if it is an error. It says all twice while
 * fake_comes_twice(), as far as who waits is still there to hear it. */
bool fake_comes_twice(void);
typedef struct FakeAnswer FakeAnswer;
typedef void (*fake_answer_t)(void *object, bool ok);
FakeAnswer *fake_expect(const char *what, fake_answer_t answer, void *object);
FakeAnswer *fake_forget(FakeAnswer *a); /* nobody waits for it any more. Returns NULL. */

/* Runs the loop and gives one answer after the other, until nobody does anything any more; then what is late
 * comes: first the deadlines pass, then the answers come. */
void fake_settle(void);

/* The same, but stops before the first answer to this is given. False: there is none. */
bool fake_run_until(const char *what);

/* Gives the first answer to this before others. False: there is none. */
bool fake_answer(const char *what);

/* Lets the next deadline pass. False: nobody has one. */
bool fake_pass_deadline(void);
