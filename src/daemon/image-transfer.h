/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For the parts of the store among each other: who wants what (Pull), and what is fetched for them
 * (Transfer, one for each URL at a time). */

#include <systemd/sd-event.h>

#include "image-store.h"
#include "worker.h"

struct Pull {
        ImageStore *store;  /* borrowed */
        Transfer *transfer; /* borrowed; NULL while the store itself has what is wanted */
        const PullHandlers *handlers;
        void *userdata;
        char *name;
        bool holds_name; /* it is reserved for us, and for those who want the same */
        char *sha256;    /* lower case; NULL: not checked */
        uid_t owner;
        bool shared;
        char *replaces; /* the name of an image whose content this is to be the newer one of, or NULL */
        char *uuid;     /* of the image that is there already */
        sd_event_source *defer;
        ImageCommit *commit;
        Pull *next; /* of the same transfer */
};

struct Transfer {
        ImageStore *store; /* borrowed */
        char *url;
        char *checksums;  /* or NULL */
        char *known;      /* UUID of the image that may be up to date still, or NULL */
        char *format;     /* as stated, or NULL */
        char *folder;     /* below partial_fd */
        int folder_fd;    /* owned, locked as long as somebody works in it */
        const char *file; /* in it: the finished image */
        Worker *worker;
        ImageCommit *commit;
        Pull *committing;  /* borrowed; NULL: it was called off meanwhile */
        ImageRecord facts; /* what was found out about the image; without name and owner */
        Pull *pulls;       /* owned */
        Transfer *next;
};

/* Begins a transfer for it, or joins one. On failure the pull is the caller's still. */
int transfer_join(Pull *p, const PullOptions *options, const Image *known, Error **reterr);
void transfer_abandon(Transfer *t); /* nobody wants it any more; what has come waits for the next pull */
void transfers_free(ImageStore *s);

bool pull_wants_the_same(const Pull *a, const Pull *b);
int pull_check_digest(const Pull *p, const char *found, Error **reterr);
int pull_make_record(const Pull *p, const ImageRecord *facts, ImageRecord *ret);
void pull_deliver(Pull *p, Image *image);                    /* an image that is there; ends the pull */
void pull_finish(Pull *p, Image *image, const Error *error); /* takes it out of its transfer, and frees it */

/* The name of an image whose own name a newer one has now. The caller frees it; NULL: out of memory. */
char *image_displaced_name(const ImageRecord *rec);

/* vmctl-image's request for an import, and what its result says of the image. `digest`: of what lies in the
 * store already; NULL: it is to be copied there. `name`: what messages call it; NULL: by its path. */
int image_import_request(const ImageStore *s, const char *format, const char *digest, const char *name,
                char **ret, size_t *ret_len);
int image_take_facts(const Json *result, ImageRecord *rec);
