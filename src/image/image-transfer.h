/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For the parts of the store among each other: who wants what (Pull), what is fetched for them (Transfer,
 * one for each URL at a time), and how it becomes an image (ImageCommit). */

#include <systemd/sd-event.h>

#include "core/worker.h"
#include "image-operations.h"

typedef struct ImageCommit ImageCommit;
typedef struct Pull Pull;

/* A name that is held until an image has it, perhaps for several who want the same. */
typedef struct Reservation {
        unsigned refs;
        RecordName *name; /* owned; NULL: not yet, or an image has it now */
} Reservation;

int reservation_new(RecordName *name, Reservation **ret); /* taken over, also on failure */
Reservation *reservation_ref(Reservation *r);
Reservation *reservation_unref(Reservation *r);

/* The last step of every way into the store. */
typedef struct ImageCommitSpec {
        Operation *op;       /* whose part it is, alive until `done` was called */
        Charge *charge;      /* for the image, taken; when it holds nothing one is made now */
        ImageRecord *record; /* complete but for created and allocated, and uuid without a draft; taken */
        Record **draft;      /* the folder that the file is in, of record->uuid; taken. NULL: none */
        const char *const
                        *scrap; /* static: other files there may be in the draft, NULL at the end; or NULL */
        int dir_fd;             /* borrowed until `done` was called; without a draft */
        const char *file;       /* below that, or in the draft. The link stays. */
        bool is_stored;         /* it is the file of an image of the store */
        Reservation *reservation; /* borrowed until `done` was called; where the name is, or will be, held */
        const char *replaces;     /* UUID of the image that has the name now and is to lose it, or NULL */
        void (*done)(void *userdata, Image *image, const Error *error);
        void *userdata;
} ImageCommitSpec;

/* Fails at once, calling nobody, or returns 0 and calls `done` once: with the image, which is in the index,
 * or with an error and nothing left of it. ERROR_IMAGE_EXISTS: somebody else has the name meanwhile. */
int image_commit_new(ImageStore *s, const ImageCommitSpec *spec, ImageCommit **ret, Error **reterr);

/* `done` is called when all is undone, perhaps at once. False: too late. */
bool image_commit_cancel(ImageCommit *c);
ImageCommit *image_commit_free(ImageCommit *c); /* at the end of the service */

typedef enum PullStep {
        PULL_STORED,   /* the store has what is wanted: in the next turn of the loop */
        PULL_TRANSFER, /* waits for a transfer, or for its turn there */
        PULL_COMMIT,
        PULL_ENDED,
} PullStep;

struct Pull {
        Operation op;      /* its target_name is the name that the image shall have */
        ImageStore *store; /* borrowed */
        PullStep step;
        Transfer *transfer; /* borrowed; NULL: none (any more) */
        Pull *next;         /* of the same transfer */
        char *url;
        char *sha256; /* lower case; NULL: not checked */
        bool shared;
        bool name_is_ours;        /* nobody asked for this very name */
        Reservation *reservation; /* owned */
        Charge charge;            /* for an image that is new */
        char *replaces; /* UUID of an image whose content this is to be the newer one of, or NULL */
        char *stored;   /* UUID of the image that is there already */
        char *result;   /* UUID */
        sd_event_source *defer;
        ImageCommit *commit;
};

/* The transfer that this pull would join, or NULL. */
Transfer *transfer_find(const ImageStore *s, const PullOptions *options, const Image *known);
Pull *transfer_pulls(Transfer *t);

/* Begins a transfer for it, or joins one. On failure the pull is the caller's still. */
int transfer_join(Pull *p, const PullOptions *options, const Image *known, Error **reterr);
void transfer_leave(Pull *p);     /* also when it is in none */
void transfer_go_on(Transfer *t); /* in the next turn of the loop */

int pull_check_digest(const Pull *p, const char *found, Error **reterr);
void pull_commit(Pull *p, const ImageRecord *facts, int dir_fd, const char *file, bool is_stored);
void pull_deliver(Pull *p, const char *uuid);                       /* of an image that was there */
void pull_end(Pull *p, const char *image_uuid, const Error *error); /* both NULL: memory was short */

/* vmctl-image's request for an import, and what its result says of the image. `digest`: of what lies in the
 * store already; NULL: it is to be copied there. `name`: what messages call it; NULL: by its path. */
int image_import_request(const ImageStore *s, const char *format, const char *digest, const char *name,
                char **ret, size_t *ret_len);
int image_take_facts(const Json *result, ImageRecord *rec);
