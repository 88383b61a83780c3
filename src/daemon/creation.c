/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>

#include "image-store.h"
#include "manager.h"
#include "util/fd-util.h"

/* A VM from a URL: the pull, then CreateVM with the image that came of it. */
typedef struct UrlCreate {
        Operation op;
        Operation *pull; /* borrowed: a part of it; NULL: it has ended */
        VmRecord record;
        int files[_VM_FILE_MAX]; /* owned */
} UrlCreate;

static void url_create_done(Operation *op) {
        UrlCreate *c = (UrlCreate *)op;

        vm_record_done(&c->record);
        for (int i = 0; i < _VM_FILE_MAX; i++)
                safe_close(c->files[i]);
}

/* The pull is a part, and is called off with the whole. */
static bool url_create_cancel(Operation *op) {
        UrlCreate *c = (UrlCreate *)op;
        Vm *vm = c->pull ? NULL : manager_find_vm(op->manager, op->target_name);

        if (vm && vm->create)
                vm_create_cancel(vm);
        return c->pull || vm;
}

static const OperationType url_create_type = {
        OPERATION_CREATE,
        sizeof(UrlCreate),
        url_create_cancel,
        url_create_done,
};

static void on_vm_created(void *userdata, int r, const Error *error) {
        UrlCreate *c = userdata;

        operation_complete(&c->op, error);
}

static void on_url_pulled(void *userdata, int r, const Error *error) {
        UrlCreate *c = userdata;
        Manager *m = c->op.manager;
        const Image *image = r < 0 ? NULL : image_find_by_uuid(m->images, pull_image(c->pull));
        _cleanup_error_ Error *e = NULL;

        c->pull = NULL;
        if (r < 0) {
                if (c->op.canceled)
                        (void)error_set(&e, ERROR_CANCELED, "The creation of VM '%s' was canceled",
                                        c->op.target_name);
                operation_fail(&c->op, e ?: error);
                return;
        }
        operation_set_progress(&c->op, &(JobProgress){ .phase = "creating" });
        if (!image)
                r = error_set(&e, ERROR_NO_SUCH_IMAGE, "The image was removed meanwhile");
        else
                r = free_and_strdup(&c->record.spec.image_name, image_name(image));
        if (r >= 0)
                r = vm_create(m, &c->record, c->files, on_vm_created, c, &e);
        if (r < 0)
                operation_fail(&c->op, e);
}

static int url_create_begin(UrlCreate *c, const PullOptions *options, Error **reterr) {
        int r;

        r = manager_check_name(c->op.manager, c->record.name, c->record.owner, reterr);
        if (r >= 0)
                r = pull_new(c->op.manager->images, options, c->op.requester, &c->op, &c->pull, reterr);
        if (r < 0)
                return r;
        r = operation_wait(c->pull, on_url_pulled, c);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot create VM '%s'", c->record.name);
        return operation_announce(&c->op, reterr);
}

static int take_files(UrlCreate *c, const int files[static _VM_FILE_MAX], Error **reterr) {
        for (int i = 0; i < _VM_FILE_MAX; i++) {
                if (files[i] < 0)
                        continue;
                c->files[i] = fcntl(files[i], F_DUPFD_CLOEXEC, 3);
                if (c->files[i] < 0)
                        return error_set_errno(reterr, -errno, "A file for the VM cannot be kept");
        }
        return 0;
}

int vm_create_from_url(Manager *m, VmRecord *record, const int files[static _VM_FILE_MAX],
                const PullOptions *options, Job **ret, Error **reterr) {
        Operation *op;
        UrlCreate *c;
        int r;

        r = operation_new(m, &url_create_type,
                        &(OperationSpec){ .requester = record->owner,
                                        .target = JOB_TARGET_VM,
                                        .target_name = record->name,
                                        .target_owner = record->owner },
                        &op, reterr);
        if (r < 0) {
                vm_record_done(record);
                return r;
        }
        c = (UrlCreate *)op;
        c->record = *record;
        *record = (VmRecord){};
        for (int i = 0; i < _VM_FILE_MAX; i++)
                c->files[i] = -EBADF;
        r = take_files(c, files, reterr);
        if (r >= 0)
                r = url_create_begin(c, options, reterr);
        if (r >= 0) {
                *ret = op->job;
                return 0;
        }
        if (!c->pull || !operation_cancel_for(op, ERROR_NO_MEMORY, "There is no place for another job"))
                operation_fail(op, NULL); /* nobody knows it */
        return r;
}
