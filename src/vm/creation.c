/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All that a client asks for at once to have a new VM: an image is pulled, the VM is made, and it starts.
 * Each is a part with a completion of its own. When the whole is called off, so is the part that is under
 * way, and its end is awaited. Up to there nothing is left; once the VM is made it stays. */
#include "image/image-operations.h"
#include "image/image-store.h"
#include "vm-index.h"
#include "vm.h"

typedef struct Creation {
        Operation op;
        VmPlace place;           /* owned, until the VM has it */
        VmRecord record;         /* owned, ditto */
        int files[_VM_FILE_MAX]; /* owned */
        bool start;
        Manager *manager; /* borrowed */
        Operation *pull;  /* borrowed: our part, while it is under way */
        Vm *vm;           /* borrowed; while it is made */
} Creation;

static void creation_done(Operation *op) {
        Creation *c = (Creation *)op;

        vm_place_done(&c->place);
        vm_record_done(&c->record);
        vm_files_close(c->files);
}

/* The name, and all else that was kept for the VM, can be used again when anybody hears of it. */
static void fail(Creation *c, const Error *error) {
        vm_place_done(&c->place);
        operation_fail(&c->op, error);
}

static void drop(Creation *c, Error *const *why) {
        vm_place_done(&c->place);
        operation_drop(&c->op, why);
}

/* The parts are canceled by the base, and complete. */
static bool cancel(Operation *op) {
        return true;
}

static const OperationType creation_type = {
        .kind = OPERATION_CREATE,
        .size = sizeof(Creation),
        .cancel = cancel,
        .done = creation_done,
};

/* The VM is there either way, which the message must not hide. */
static void start_failed(Creation *c, const Error *error) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, error_code(error), "The VM was created, but did not start: %s",
                        error_message(error));
        fail(c, e);
}

static void on_started(void *userdata, int r, const Error *error) {
        Creation *c = userdata;

        if (r < 0)
                start_failed(c, error);
        else
                operation_complete(&c->op, NULL);
}

static void on_made(void *userdata, int r, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        Creation *c = userdata;

        /* A part may have been past the point where it can be called off. */
        if (r < 0 || c->op.canceled) {
                fail(c, r < 0 ? error : c->op.reason);
                return;
        }
        if (!c->start) {
                operation_complete(&c->op, NULL);
                return;
        }
        job_set_progress(c->op.job, &(JobProgress){ .phase = "starting" });
        r = vm_start_for(c->vm, c->op.requester, &c->op, on_started, c, &e);
        if (r < 0)
                start_failed(c, e);
}

static void make(Creation *c) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = vm_make(c->manager, &c->op, &c->record, &c->place, c->files, on_made, c, &c->vm, &e);
        if (r < 0)
                fail(c, e);
}

/* By its UUID: the name may be another image's when the next one hears of it. */
static void on_pulled(void *userdata, int r, const Error *error) {
        Creation *c = userdata;
        const Image *image = r < 0 ? NULL : image_find_by_uuid(c->manager->images, pull_image(c->pull));
        _cleanup_error_ Error *e = NULL;

        c->pull = NULL;
        if (r >= 0 && c->op.canceled) {
                fail(c, c->op.reason);
                return;
        }
        if (r >= 0 && !image)
                r = error_set(&e, ERROR_NO_SUCH_IMAGE, "The image was removed meanwhile");
        if (r >= 0) {
                r = free_and_strdup(&c->record.spec.image_name, image_name(image));
                if (r < 0)
                        (void)error_set_errno(&e, r, "Cannot create VM '%s'", c->op.target_name);
        }
        if (r < 0) {
                fail(c, e ?: error);
                return;
        }
        job_set_progress(c->op.job, &(JobProgress){ .phase = "creating" });
        make(c);
}

/* Takes the record over, also on failure. */
static int creation_new(Manager *m, uid_t requester, VmRecord *record, const int *files, Creation **ret,
                Error **reterr) {
        const OperationSpec spec = {
                .requester = requester,
                .target = JOB_TARGET_VM,
                .target_name = record->name,
                .target_owner = record->owner,
        };
        VmPlace place = {};
        Operation *op;
        Creation *c;
        int r;

        r = vm_reserve(m, record->name, record->owner, &place, reterr);
        if (r >= 0)
                r = operation_new(&m->core->operations, &creation_type, &spec, &op, reterr);
        if (r < 0) {
                vm_place_done(&place);
                vm_record_done(record);
                return r;
        }
        c = (Creation *)op;
        c->manager = m;
        c->place = place;
        c->record = *record;
        *record = (VmRecord){};
        c->start = c->record.spec.start;
        c->record.spec.start = false;
        r = vm_files_dup(files, c->files);
        if (r < 0) {
                r = error_set_errno(reterr, r, "Cannot keep the files for VM '%s'", op->target_name);
                drop(c, reterr);
                return r;
        }
        *ret = c;
        return 0;
}

int vm_create(Manager *manager, uid_t requester, VmRecord *record, const int files[static _VM_FILE_MAX],
                waiter_t done, void *userdata, Error **reterr) {
        Creation *c;
        int r;

        r = creation_new(manager, requester, record, files, &c, reterr);
        if (r < 0)
                return r;
        r = operation_wait(&c->op, NULL, done, userdata, reterr);
        if (r < 0) {
                drop(c, reterr);
                return r;
        }
        make(c);
        return 0;
}

static int pull(Creation *c, const PullOptions *options, Error **reterr) {
        int r;

        r = pull_new(c->manager->images, options, c->op.requester, &c->op, &c->pull, reterr);
        if (r < 0)
                return r;
        r = operation_wait(c->pull, &c->op, on_pulled, c, reterr);
        if (r >= 0)
                return 0;
        (void)operation_cancel_for(
                        c->pull, ERROR_CANCELED, "Nobody waits for it"); /* at once: it just began */
        return r;
}

int vm_create_from_url(Manager *manager, uid_t requester, VmRecord *record,
                const int files[static _VM_FILE_MAX], const PullOptions *options, Job **ret,
                Error **reterr) {
        Creation *c;
        int r;

        r = creation_new(manager, requester, record, files, &c, reterr);
        if (r < 0)
                return r;
        r = operation_announce(&c->op, reterr);
        if (r >= 0)
                r = pull(c, options, reterr);
        if (r < 0) {
                drop(c, reterr);
                return r;
        }
        *ret = c->op.job;
        return 0;
}
