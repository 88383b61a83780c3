/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pull: somebody wants the image of a URL under a name. It ends soon when the store has it, and else joins
 * the transfer that is under way for the URL, or begins one (image-transfer.c). */
#include <ctype.h>
#include <stdio.h>

#include "image-transfer.h"
#include "spec/vm-spec.h"
#include "util/log.h"

#define SHA256_HEX_LENGTH 64
#define NAME_TRIES_MAX 1000

static bool cancel_pull(Operation *op);

static void pull_done(Operation *op) {
        Pull *p = (Pull *)op;

        transfer_leave(p);
        image_commit_free(p->commit);
        sd_event_source_disable_unref(p->defer);
        reservation_unref(p->reservation);
        charge_release(&p->charge);
        free(p->url);
        free(p->sha256);
        free(p->replaces);
        free(p->stored);
        free(p->result);
}

static const OperationType pull_type = { OPERATION_PULL, sizeof(Pull), cancel_pull, pull_done };

static const char *name_of(const Pull *p) {
        return p->op.target_name;
}

const char *pull_image(const Operation *op) {
        assert(op->type == &pull_type);
        return ((const Pull *)op)->result;
}

static bool is_for_the_same(const Pull *p, uid_t owner, bool shared) {
        return p->op.target_owner == owner && p->shared == shared;
}

int pull_check_digest(const Pull *p, const char *found, Error **reterr) {
        if (!p->sha256 || streq_ptr(p->sha256, found))
                return 0;
        return error_set(reterr, ERROR_DIGEST_MISMATCH,
                        "The image has the SHA-256 digest %s, but should have %s", found ?: "(none)",
                        p->sha256);
}

static void let_go(Pull *p) {
        p->step = PULL_ENDED;
        transfer_leave(p);
        p->reservation = reservation_unref(p->reservation);
        charge_release(&p->charge);
}

/* Whoever hears of it finds the transfer left, and the name taken by the image or free. */
void pull_end(Pull *p, const char *image_uuid, const Error *error) {
        p->result = image_uuid ? strdup(image_uuid) : NULL;
        let_go(p);
        if (p->result)
                operation_complete(&p->op, NULL);
        else
                operation_fail(&p->op, p->op.canceled ? p->op.reason : error);
}

static bool cancel_pull(Operation *op) {
        Pull *p = (Pull *)op;

        switch (p->step) {
        case PULL_COMMIT:
                return image_commit_cancel(p->commit);
        case PULL_STORED:
        case PULL_TRANSFER:
                p->defer = sd_event_source_disable_unref(p->defer);
                pull_end(p, NULL, op->reason);
                return true;
        case PULL_ENDED:
                break;
        }
        return false;
}

/* --- The image comes */

/* All who wanted this very image of the same transfer have it now. */
static void serve_alike(const Pull *p, const Image *image) {
        bool again = true;

        while (again) {
                again = false;
                for (Pull *q = transfer_pulls(p->transfer); q && !again; q = q->next) {
                        _cleanup_error_ Error *e = NULL;

                        if (q == p || q->step != PULL_TRANSFER || !streq(name_of(q), name_of(p)) ||
                                        !is_for_the_same(q, p->op.target_owner, p->shared))
                                continue;
                        if (pull_check_digest(q, image->record.sha256, &e) < 0)
                                pull_end(q, NULL, e);
                        else
                                pull_end(q, image->record.uuid, NULL);
                        again = true; /* others may have come and gone */
                }
        }
}

static int copy_record(const ImageRecord *from, const Pull *p, ImageRecord *ret) {
        *ret = (ImageRecord){
                .name = strdup(name_of(p)),
                .owner = p->op.target_owner,
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

static int choose_name(ImageStore *s, const char *url, Reservation **ret, Error **reterr);

/* Somebody has the name meanwhile that we chose: there are others. */
static int take_another_name(Pull *p) {
        Reservation *other;
        char *name;
        int r;

        r = choose_name(p->store, p->url, &other, NULL);
        if (r < 0)
                return r;
        name = strdup(record_name(other->name));
        if (!name) {
                reservation_unref(other);
                return -ENOMEM;
        }
        reservation_unref(p->reservation);
        p->reservation = other;
        free(p->op.target_name);
        p->op.target_name = name;
        if (p->op.job)
                (void)free_and_strdup(&p->op.job->target_name, name);
        free(TAKE_PTR(p->replaces));
        return 0;
}

static void on_committed(void *userdata, Image *image, const Error *error);

static int begin_commit(Pull *p, const ImageRecord *facts, int dir_fd, const char *file, bool is_stored,
                Error **reterr) {
        ImageRecord rec;
        int r;

        r = pull_check_digest(p, facts->sha256, reterr);
        if (r < 0)
                return r;
        if (!p->reservation) {
                r = reservation_new(NULL, &p->reservation);
                if (r < 0)
                        return error_set_errno(
                                        reterr, r, "Image '%s' cannot be put into the store", name_of(p));
        }
        r = copy_record(facts, p, &rec);
        if (r < 0)
                return error_set_errno(reterr, r, "Image '%s' cannot be put into the store", name_of(p));
        return image_commit_new(p->store,
                        &(ImageCommitSpec){ .op = &p->op,
                                        .charge = &p->charge,
                                        .record = &rec,
                                        .dir_fd = dir_fd,
                                        .file = file,
                                        .is_stored = is_stored,
                                        .reservation = p->reservation,
                                        .replaces = p->replaces,
                                        .done = on_committed,
                                        .userdata = p },
                        &p->commit, reterr);
}

void pull_commit(Pull *p, const ImageRecord *facts, int dir_fd, const char *file, bool is_stored) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = begin_commit(p, facts, dir_fd, file, is_stored, &e);
        if (r < 0 && error_code(e) == ERROR_IMAGE_EXISTS && p->name_is_ours && take_another_name(p) >= 0) {
                e = error_free(e);
                r = begin_commit(p, facts, dir_fd, file, is_stored, &e);
        }
        if (r < 0)
                pull_end(p, NULL, e);
        else
                p->step = PULL_COMMIT;
}

/* From its transfer, or from the store, it goes on as it came here. */
static void go_on(Pull *p) {
        if (p->transfer) {
                p->step = PULL_TRANSFER;
                transfer_go_on(p->transfer);
        } else {
                p->step = PULL_STORED;
                (void)sd_event_source_set_enabled(p->defer, SD_EVENT_ONESHOT);
        }
}

static void on_committed(void *userdata, Image *image, const Error *error) {
        Pull *p = userdata;

        p->commit = NULL;
        if (image) {
                p->step = PULL_ENDED; /* whoever hears of the others finds nothing to cancel here */
                serve_alike(p, image);
                pull_end(p, image->record.uuid, NULL);
        } else if (!p->op.canceled && error_code(error) == ERROR_IMAGE_EXISTS && p->name_is_ours &&
                        take_another_name(p) >= 0)
                go_on(p);
        else
                pull_end(p, NULL, error);
}

/* What was there at the start may have gone since, or be for others now. */
void pull_deliver(Pull *p, const char *uuid) {
        const Image *image = image_find_by_uuid(p->store, uuid);
        _cleanup_free_ char *file = image ? strf("%s/" IMAGE_DISK, uuid) : NULL;
        _cleanup_error_ Error *e = NULL;

        if (!image || !image_may_be_used_by(image, p->op.target_owner)) {
                (void)error_set(&e, ERROR_NO_SUCH_IMAGE, "The image of this URL was removed meanwhile");
                pull_end(p, NULL, e);
        } else if (pull_check_digest(p, image->record.sha256, &e) < 0)
                pull_end(p, NULL, e);
        else if (streq(name_of(p), image_name(image)))
                pull_end(p, image->record.uuid, NULL);
        else if (!file)
                pull_end(p, NULL, NULL);
        else
                pull_commit(p, &image->record, p->store->fd, file, true);
}

static int on_defer(sd_event_source *s, void *userdata) {
        Pull *p = userdata;

        pull_deliver(p, p->stored);
        return 0;
}

/* --- The beginning */

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

/* What a pull is to be: found out before there is one. */
typedef struct Plan {
        const PullOptions *options;
        uid_t owner;
        Image *stored; /* borrowed: what the store has of the URL that they may use, or NULL */
        bool transfers;
        char *name;
        bool name_is_ours;
        Reservation *reservation;
        const char *replaces; /* borrowed */
} Plan;

static void plan_done(Plan *plan) {
        reservation_unref(plan->reservation);
        free(plan->name);
}

/* The image that has the name already goes before others of the URL. */
static void find_stored(ImageStore *s, Plan *plan) {
        const PullOptions *o = plan->options;
        Image *there = o->image.name ? image_find(s, o->image.name) : NULL;

        if (there && streq_ptr(there->record.url, o->url) && image_may_be_used_by(there, plan->owner))
                plan->stored = there;
        else
                plan->stored = image_find_by_url(s, o->url, plan->owner);
        plan->transfers = !plan->stored || o->refresh ||
                        (o->sha256 && strcasecmp(o->sha256, plan->stored->record.sha256 ?: "") != 0);
}

/* Somebody pulls the same for the same name already: then the name is his and ours. */
static Reservation *find_reservation(ImageStore *s, const Plan *plan, const char *name) {
        for (Pull *p = transfer_pulls(transfer_find(s, plan->options, plan->stored)); p; p = p->next)
                if (streq(name_of(p), name) &&
                                is_for_the_same(p, plan->owner, plan->options->image.shared) &&
                                p->reservation && p->reservation->name)
                        return p->reservation;
        return NULL;
}

static int reserve(ImageStore *s, const char *name, Reservation **ret, Error **reterr) {
        RecordName *reserved;
        int r;

        r = record_name_reserve(s->records, name, NULL, &reserved, reterr);
        if (r < 0)
                return r;
        r = reservation_new(reserved, ret);
        return r < 0 ? error_set_errno(reterr, r, "Cannot reserve the name '%s'", name) : 0;
}

static char *name_number(const char *base, int i) {
        return i == 1 ? strdup(base) : strf("%.*s-%i", VM_NAME_MAX - 5, base, i);
}

/* The name that the URL suggests may belong to somebody else's image: then it gets a number. */
static int choose_name(ImageStore *s, const char *url, Reservation **ret, Error **reterr) {
        _cleanup_free_ char *base = image_name_from_path(url);

        if (!s->records)
                return error_set(reterr, ERROR_CANCELED, "The service ends");
        if (!base)
                return error_set(reterr, ERROR_INVALID_NAME, "The URL '%.100s' suggests no name: give one",
                                url);
        for (int i = 1; i <= NAME_TRIES_MAX; i++) {
                _cleanup_free_ char *name = name_number(base, i);

                if (!name)
                        return error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", base);
                if (!record_name_is_taken(s->records, name))
                        return reserve(s, name, ret, reterr);
        }
        return error_set(reterr, ERROR_IMAGE_EXISTS, "There are too many images '%s-NUMBER'", base);
}

/* Those who pull the same at the same time, and name nothing, get one image. */
static Reservation *find_chosen(ImageStore *s, const Plan *plan) {
        for (Pull *p = transfer_pulls(transfer_find(s, plan->options, plan->stored)); p; p = p->next)
                if (p->name_is_ours && is_for_the_same(p, plan->owner, plan->options->image.shared) &&
                                p->reservation && p->reservation->name)
                        return p->reservation;
        return NULL;
}

/* What is there is newer than what there was before: it takes its name, where that is this user's. */
static int replace_stored(Plan *plan, Error **reterr) {
        if (plan->stored->record.owner != plan->owner)
                return error_set(reterr, ERROR_IMAGE_EXISTS, "Image '%s' is somebody else's: give a name",
                                image_name(plan->stored));
        plan->replaces = plan->stored->record.uuid;
        return 0;
}

static int find_given_name(ImageStore *s, Plan *plan, Error **reterr) {
        const char *name = plan->options->image.name;
        Reservation *held;

        if (plan->stored && streq(name, image_name(plan->stored)))
                return plan->transfers ? replace_stored(plan, reterr) : 0;
        held = plan->transfers ? find_reservation(s, plan, name) : NULL;
        if (!held)
                return reserve(s, name, &plan->reservation, reterr);
        plan->reservation = reservation_ref(held);
        return 0;
}

static int find_own_name(ImageStore *s, Plan *plan, Error **reterr) {
        Reservation *held;

        plan->name_is_ours = true;
        if (plan->stored && !plan->transfers)
                return 0;
        if (plan->stored && plan->stored->record.owner == plan->owner)
                return replace_stored(plan, reterr);
        held = find_chosen(s, plan);
        if (!held)
                return choose_name(s, plan->options->url, &plan->reservation, reterr);
        plan->reservation = reservation_ref(held);
        return 0;
}

static int make_plan(ImageStore *s, Plan *plan, Error **reterr) {
        const PullOptions *o = plan->options;
        const char *name;
        int r;

        r = check_options(o, reterr);
        if (r < 0)
                return r;
        find_stored(s, plan);
        r = o->image.name ? find_given_name(s, plan, reterr) : find_own_name(s, plan, reterr);
        if (r < 0)
                return r;
        name = plan->reservation ? record_name(plan->reservation->name) : image_name(plan->stored);
        plan->name = strdup(name);
        return plan->name ? 0 : error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", name);
}

static int fill(Pull *p, Plan *plan) {
        const PullOptions *o = plan->options;
        int r;

        p->shared = o->image.shared;
        p->name_is_ours = plan->name_is_ours;
        p->reservation = TAKE_PTR(plan->reservation);
        r = free_and_strdup(&p->url, o->url);
        if (r >= 0)
                r = free_and_strdup(&p->sha256, o->sha256);
        if (r >= 0)
                r = free_and_strdup(&p->replaces, plan->replaces);
        if (r >= 0 && plan->stored)
                r = free_and_strdup(&p->stored, plan->stored->record.uuid);
        if (r >= 0)
                r = sd_event_add_defer(p->store->core->event, &p->defer, on_defer, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->defer, SD_EVENT_OFF);
        for (char *c = r < 0 ? NULL : p->sha256; c && *c; c++)
                *c = (char)tolower((unsigned char)*c);
        return r;
}

/* An image that will be one more is charged for before it is downloaded. */
static int begin(Pull *p, const Plan *plan, Error **reterr) {
        int r = 0;

        if (p->reservation)
                r = charge(p->store->core->accounts, plan->owner, RESOURCE_IMAGES, 1, &p->charge, reterr);
        if (r < 0)
                return r;
        if (plan->transfers) {
                p->step = PULL_TRANSFER;
                return transfer_join(p, plan->options, plan->stored, reterr);
        }
        go_on(p); /* when whoever asked knows the pull */
        return 0;
}

int pull_new(ImageStore *s, const PullOptions *o, uid_t requester, Operation *parent, Operation **ret,
                Error **reterr) {
        _cleanup_(plan_done) Plan plan = { .options = o, .owner = o->image.owner };
        Operation *op;
        Pull *p;
        int r;

        r = make_plan(s, &plan, reterr);
        if (r < 0)
                return r;
        r = operation_new(&s->core->operations, &pull_type,
                        &(OperationSpec){ .requester = requester,
                                        .target = JOB_TARGET_IMAGE,
                                        .target_name = plan.name,
                                        .target_owner = plan.owner,
                                        .parent = parent },
                        &op, reterr);
        if (r < 0)
                return r;
        p = (Pull *)op;
        p->store = s;
        r = fill(p, &plan);
        if (r < 0)
                (void)error_set_errno(reterr, r, "Cannot pull '%s'", plan.name);
        else
                r = begin(p, &plan, reterr);
        if (r < 0) {
                let_go(p);
                operation_drop(op, reterr);
                return r;
        }
        *ret = op;
        return 0;
}

int image_pull(ImageStore *s, const PullOptions *options, uid_t requester, Job **ret, Error **reterr) {
        Operation *op;
        int r;

        r = pull_new(s, options, requester, NULL, &op, reterr);
        if (r < 0)
                return r;
        r = operation_announce(op, reterr);
        if (r < 0) {
                (void)operation_cancel_for(op, ERROR_NO_MEMORY, "There is no place for another job");
                return r;
        }
        *ret = op->job;
        return 0;
}
