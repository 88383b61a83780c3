/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pull: somebody wants the image of a URL under a name. It ends at once when the store has it, and else
 * joins the transfer that is under way for the URL, or begins one (image-transfer.c). */
#include <ctype.h>
#include <stdio.h>

#include "image-transfer.h"
#include "manager.h"
#include "util/log.h"

#define SHA256_HEX_LENGTH 64
#define NAME_TRIES_MAX 1000

static void unlink_pull(Pull *p) {
        if (!p->transfer)
                return;
        for (Pull **q = &p->transfer->pulls; *q; q = &(*q)->next)
                if (*q == p) {
                        *q = p->next;
                        break;
                }
        if (p->transfer->committing == p)
                p->transfer->committing = NULL;
}

/* A name is held for all pulls of a transfer that want it. */
static void release_name(const Pull *p) {
        for (const Pull *q = p->transfer ? p->transfer->pulls : NULL; q; q = q->next)
                if (q != p && pull_wants_the_same(p, q))
                        return;
        if (p->holds_name)
                image_name_release(p->store, p->name);
}

bool pull_wants_the_same(const Pull *a, const Pull *b) {
        return streq(a->name, b->name) && a->owner == b->owner;
}

Pull *pull_free(Pull *p) {
        Transfer *t;

        if (!p)
                return NULL;
        t = p->transfer;
        unlink_pull(p);
        if (p->name)
                release_name(p);
        image_commit_free(p->commit);
        sd_event_source_disable_unref(p->defer);
        free(p->name);
        free(p->sha256);
        free(p->uuid);
        free(p->replaces);
        free(p);
        if (t && !t->pulls)
                transfer_abandon(t);
        return NULL;
}

const char *pull_name(const Pull *p) {
        return p->name;
}

void pull_finish(Pull *p, Image *image, const Error *error) {
        const PullHandlers *handlers = p->handlers;
        void *userdata = p->userdata;

        unlink_pull(p);
        release_name(p);
        p->transfer = NULL;
        p->holds_name = false;
        pull_free(p);
        handlers->done(userdata, image, error);
}

int pull_check_digest(const Pull *p, const char *found, Error **reterr) {
        if (!p->sha256 || streq_ptr(p->sha256, found))
                return 0;
        return error_set(reterr, ERROR_DIGEST_MISMATCH,
                        "The image has the SHA-256 digest %s, but should have %s", found ?: "(none)",
                        p->sha256);
}

static void on_linked(void *userdata, Image *image, const Error *error) {
        Pull *p = userdata;

        p->commit = NULL;
        pull_finish(p, image, error);
}

static int copy_record(const ImageRecord *from, const Pull *p, ImageRecord *ret) {
        *ret = (ImageRecord){
                .name = strdup(p->name),
                .owner = p->owner,
                .shared = p->shared,
                .format = strdup(from->format),
                .source_format = strdup(from->source_format),
                .virtual_size = from->virtual_size,
                .size = from->size,
                .content_digest = strdup(from->content_digest),
                .url = from->url ? strdup(from->url) : NULL,
                .final_url = from->final_url ? strdup(from->final_url) : NULL,
                .sha256 = from->sha256 ? strdup(from->sha256) : NULL,
                .etag = from->etag ? strdup(from->etag) : NULL,
                .last_modified = from->last_modified ? strdup(from->last_modified) : NULL,
        };
        if (ret->name && ret->format && ret->source_format && ret->content_digest)
                return 0;
        image_record_done(ret);
        return -ENOMEM;
}

int pull_make_record(const Pull *p, const ImageRecord *facts, ImageRecord *ret) {
        return copy_record(facts, p, ret);
}

void pull_deliver(Pull *p, Image *image) {
        _cleanup_free_ char *file = strf("%s/" IMAGE_DISK, image->record.uuid);
        _cleanup_error_ Error *e = NULL;
        ImageRecord rec;
        int r;

        r = pull_check_digest(p, image->record.sha256, &e);
        if (r < 0 || streq(p->name, image_name(image))) {
                pull_finish(p, r < 0 ? NULL : image, e);
                return;
        }
        r = file ? copy_record(&image->record, p, &rec) : -ENOMEM;
        if (r >= 0)
                r = image_commit(p->store, &rec, p->store->fd, file, NULL, on_linked, p, &p->commit);
        if (r >= 0)
                return;
        (void)error_set_errno(&e, r, "Image '%s' cannot be put into the store", p->name);
        pull_finish(p, NULL, e);
}

/* In a turn of the loop of its own: whoever asked knows the pull by then. */
static int on_cached(sd_event_source *s, void *userdata) {
        _cleanup_error_ Error *e = NULL;
        Pull *p = userdata;
        Image *image = image_find_by_uuid(p->store, p->uuid);

        p->defer = sd_event_source_disable_unref(p->defer);
        if (image)
                pull_deliver(p, image);
        else {
                (void)error_set(&e, ERROR_NO_SUCH_IMAGE, "Image '%s' was removed meanwhile", p->name);
                pull_finish(p, NULL, e);
        }
        return 0;
}

static int check_options(const PullOptions *o, Error **reterr) {
        int r;

        r = url_check(o->url, reterr);
        if (r >= 0 && o->checksums)
                r = url_check(o->checksums, reterr);
        if (r < 0 || !o->sha256)
                return r;
        for (const char *c = o->sha256; *c; c++)
                if (!isxdigit((unsigned char)*c))
                        return error_set(reterr, ERROR_INVALID_SPEC,
                                        "sha256 '%.100s' is no hexadecimal number", o->sha256);
        if (strlen(o->sha256) != SHA256_HEX_LENGTH)
                return error_set(reterr, ERROR_INVALID_SPEC, "sha256 '%.100s' has %zu digits instead of %i",
                                o->sha256, strlen(o->sha256), SHA256_HEX_LENGTH);
        return 0;
}

/* Somebody pulls the same for the same name already: then the name is his and ours. */
static bool is_on_its_way(const Pull *p, const char *url) {
        for (const Transfer *t = p->store->transfers; t; t = t->next)
                for (const Pull *q = t->pulls; q && streq(t->url, url); q = q->next)
                        if (pull_wants_the_same(p, q))
                                return true;
        return false;
}

static int take_given_name(Pull *p, const PullOptions *o, const Image *cached, Error **reterr) {
        const Image *there = image_find(p->store, o->image.name);
        int r;

        p->name = strdup(o->image.name);
        if (!p->name)
                return error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", o->image.name);
        if (there && there == cached)
                return 0;
        if (there && there->record.owner == p->owner && streq_ptr(there->record.url, o->url))
                return 0;
        if (!there && is_on_its_way(p, o->url)) {
                p->holds_name = true;
                return 0;
        }
        r = image_name_reserve(p->store, p->name, reterr);
        p->holds_name = r >= 0;
        return r;
}

/* The name that the URL suggests may belong to somebody else's image: then it gets a number. */
static int choose_name(Pull *p, const PullOptions *o, Error **reterr) {
        _cleanup_free_ char *base = image_name_from_path(o->url);

        if (!base)
                return error_set(reterr, ERROR_INVALID_NAME, "The URL '%.100s' suggests no name: give one",
                                o->url);
        for (int i = 1; i <= NAME_TRIES_MAX; i++) {
                free(p->name);
                p->name = i == 1 ? strdup(base) : strf("%.*s-%i", VM_NAME_MAX - 5, base, i);
                if (!p->name)
                        return error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", base);
                p->holds_name = is_on_its_way(p, o->url) || image_name_reserve(p->store, p->name, NULL) >= 0;
                if (p->holds_name)
                        return 0;
        }
        return error_set(reterr, ERROR_IMAGE_EXISTS, "There are too many images '%s-NUMBER'", base);
}

static int find_name(Pull *p, const PullOptions *o, const Image *cached, Error **reterr) {
        if (o->image.name)
                return take_given_name(p, o, cached, reterr);
        if (!cached)
                return choose_name(p, o, reterr);
        p->name = strdup(image_name(cached));
        return p->name ? 0 : error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", image_name(cached));
}

static int begin(Pull *p, const PullOptions *o, Image *cached, Error **reterr) {
        bool other = cached && o->sha256 && strcasecmp(o->sha256, cached->record.sha256 ?: "") != 0;
        int r;

        if (cached && !o->refresh && !other) {
                r = free_and_strdup(&p->uuid, cached->record.uuid);
                if (r >= 0)
                        r = sd_event_add_defer(p->store->manager->event, &p->defer, on_cached, p);
                return r < 0 ? error_set_errno(reterr, r, "Cannot pull '%s'", p->name) : 0;
        }
        /* What is newer takes the name of what it is newer than, where that was this user's. */
        if (image_find(p->store, p->name)) {
                if (image_find(p->store, p->name)->record.owner != p->owner)
                        return error_set(reterr, ERROR_IMAGE_EXISTS,
                                        "Image '%s' is somebody else's: give a name", p->name);
                r = free_and_strdup(&p->replaces, p->name);
                if (r < 0)
                        return error_set_errno(reterr, r, "Cannot pull '%s'", p->name);
        }
        return transfer_join(p, o, cached, reterr);
}

int pull_new(ImageStore *s, const PullOptions *o, const PullHandlers *handlers, void *userdata, Pull **ret,
                Error **reterr) {
        _cleanup_(pull_freep) Pull *p = malloc(sizeof(Pull));
        Image *cached;
        int r;

        if (!p)
                return error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", o->url);
        *p = (Pull){
                .store = s,
                .handlers = handlers,
                .userdata = userdata,
                .owner = o->image.owner,
                .shared = o->image.shared,
        };
        r = check_options(o, reterr);
        if (r < 0)
                return r;
        cached = image_find_by_url(s, o->url, p->owner);
        r = find_name(p, o, cached, reterr);
        if (r >= 0 && free_and_strdup(&p->sha256, o->sha256) < 0)
                r = error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", o->url);
        for (char *c = r < 0 ? NULL : p->sha256; c && *c; c++)
                *c = (char)tolower((unsigned char)*c);
        if (r >= 0)
                r = begin(p, o, cached, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}
