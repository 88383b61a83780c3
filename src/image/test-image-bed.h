/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A store of images in a folder of its own, with the service's core around it, and no bus or PID 1. */

#include "fake-worker.h"
#include "image-operations.h"

#define ALICE 1000
#define BOB 1001
#define URL "http://host/disk.raw"

typedef struct Bed {
        sd_event *event;
        Core *core;
        ImageStore *images;
        char folder[32]; /* in memory: there are many of these */
        int fd;
        int n_descriptors; /* before it was there */
        char *used;        /* UUID of the image that a VM is made from: bed_use() */
} Bed;

void bed_new(Bed *bed);
void bed_restart(Bed *bed); /* the next instance of the service finds what this one left */
void bed_done(Bed *bed);    /* ... and checks that nothing is left open */

void bed_limit(const ResourceLimit *limits); /* from the next instance on */

void run_out(Bed *bed);  /* until nothing is left that could happen */
bool run_turn(Bed *bed); /* false: nothing is left */
void bed_use(Bed *bed, const char *image);

/* Who waits for an operation. */
typedef struct Told {
        unsigned n, expected;
        int result;
        ErrorCode code;    /* of the error */
        char message[128]; /* ... */
        Operation *op;     /* until it has ended */
        char uuid[40];     /* of the image pulled */
} Told;
void told_wait(Told *t, Operation *op);
waiter_t told_expect(Told *t); /* for what takes a waiter: what it was called with is t */
void told_refused(Told *t, int r, const Error *e);

void pull(Bed *bed, const PullOptions *options, Told *t);
void pull_as(Bed *bed, uid_t user, const char *name, Told *t); /* of URL */
void import_as(Bed *bed, uid_t user, const char *name, Told *t);

/* With all going well. */
Image *make_image(Bed *bed, uid_t user, const char *name, bool shared, const char *content);

void check_content(const Bed *bed, const char *image, const char *content);
size_t count_images(const Bed *bed);
void check_idle(const Bed *bed); /* nothing is held, reserved, charged or half done */
