/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM or an image that cannot be read is no object: it has a name, which stays taken, and a folder. So an
 * operation on it is about its document, by the path. A VM may run nevertheless; PID 1 knows by its scope.
 */
#include "broken.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm.h"

#define SCOPE_TIMEOUT (20 * USEC_PER_SEC) /* below the 25 s of D-Bus clients; PID 1 needs milliseconds */

typedef struct BrokenRemoval {
        Operation op;
        Manager *manager;  /* borrowed */
        char *unit;        /* of a VM: its scope */
        ScopeWatch *scope; /* owned; there while its end is awaited */
} BrokenRemoval;

static RecordStore *store_of(const Manager *m, JobTarget kind) {
        return kind == JOB_TARGET_VM ? m->records : m->images->records;
}

const RecordBroken *broken_find(const Manager *m, JobTarget kind, const char *name) {
        return record_store_find_broken(store_of(m, kind), name);
}

static void removal_done(Operation *op) {
        BrokenRemoval *b = (BrokenRemoval *)op;

        systemd_unwatch_scope(b->scope);
        free(b->unit);
}

/* By its deadline alone, as long as nothing is gone. */
static bool cancel(Operation *op) {
        BrokenRemoval *b = (BrokenRemoval *)op;

        if (!b->scope)
                return false;
        b->scope = systemd_unwatch_scope(b->scope);
        operation_fail(op, op->reason);
        return true;
}

static const OperationType vm_type = { OPERATION_REMOVE, sizeof(BrokenRemoval), cancel, removal_done };
static const OperationType image_type = { OPERATION_IMAGE_REMOVE, sizeof(BrokenRemoval), cancel,
        removal_done };

static void on_deleted(void *userdata, int r, const Error *error) {
        operation_complete(userdata, error);
}

static int remove_files(BrokenRemoval *b, Error **reterr) {
        const Operation *op = &b->op;

        return record_store_remove_broken(
                        store_of(b->manager, op->target), op->target_uuid, on_deleted, b, reterr);
}

/* The folder of its sockets is left alone until nobody can be in the VM. */
static void remove_vm_files(BrokenRemoval *b) {
        _cleanup_error_ Error *e = NULL;
        Operation *op = &b->op;
        int r;

        b->scope = systemd_unwatch_scope(b->scope);
        (void)operation_set_deadline(op, 0, NULL);
        if (remove_files(b, &e) < 0) {
                operation_fail(op, e);
                return;
        }
        r = remove_tree_at(b->manager->core->runtime_fd, op->target_name);
        if (r < 0)
                log_warning_errno(r, "Cannot remove the runtime folder of VM '%s', ignoring: %m",
                                op->target_name);
}

void broken_scope_removed(Manager *m, const char *unit) {
        for (Operation *op = m->core->operations.running; op; op = op->next) {
                BrokenRemoval *b = (BrokenRemoval *)op;

                if (op->type == &vm_type && b->scope && streq(b->unit, unit)) {
                        remove_vm_files(b);
                        return;
                }
        }
}

static int end_scope(BrokenRemoval *b, Error **reterr) {
        Operation *op = &b->op;
        int r;

        b->unit = strf("vmctl-%s.scope", op->target_name);
        r = b->unit ? systemd_watch_scope(b->manager->systemd, b->unit, false, &b->scope) : -ENOMEM;
        if (r >= 0)
                r = operation_set_deadline(op, SCOPE_TIMEOUT,
                                "systemd did not end the VM's scope within 20 s: it was not removed");
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot end what runs for VM '%s'", op->target_name);
        systemd_end_scope(b->scope);
        return 0;
}

/* VMs hold an image by the UUID, which names its folder. */
static int check_unused(const Manager *m, const RecordBroken *image, Error **reterr) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (streq_ptr(m->vms[i]->record.image_uuid, image->folder))
                        return error_set(reterr, ERROR_IMAGE_IN_USE, "Image '%s' is needed by VM '%s'",
                                        image->name, vm_name(m->vms[i]));
        return 0;
}

static int begin(Manager *m, JobTarget kind, const RecordBroken *broken, uid_t requester, waiter_t done,
                void *userdata, Error **reterr) {
        const OperationSpec spec = {
                .requester = requester,
                .target = kind,
                .target_name = broken->name,
                .target_uuid = broken->path,
        };
        Operation *op;
        int r;

        r = operation_new(&m->core->operations, kind == JOB_TARGET_VM ? &vm_type : &image_type, &spec, &op,
                        reterr);
        if (r < 0)
                return r;
        ((BrokenRemoval *)op)->manager = m;
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r >= 0)
                r = kind == JOB_TARGET_VM ? end_scope((BrokenRemoval *)op, reterr)
                                          : remove_files((BrokenRemoval *)op, reterr);
        if (r < 0)
                operation_drop(op, reterr);
        return r;
}

int broken_remove(Manager *m, JobTarget kind, const char *name, uid_t requester, waiter_t done,
                void *userdata, Error **reterr) {
        const RecordBroken *broken = broken_find(m, kind, name);
        Operation *same;
        int r;

        if (!broken)
                return error_set(reterr, kind == JOB_TARGET_VM ? ERROR_NO_SUCH_VM : ERROR_NO_SUCH_IMAGE,
                                "There is no %s '%s' that cannot be read",
                                kind == JOB_TARGET_VM ? "VM" : "image", name);
        r = kind == JOB_TARGET_VM ? 0 : check_unused(m, broken, reterr);
        if (r >= 0)
                r = operation_admit(&m->core->operations,
                                kind == JOB_TARGET_VM ? OPERATION_REMOVE : OPERATION_IMAGE_REMOVE,
                                broken->path, broken->name, &same, reterr);
        if (r < 0)
                return r;
        return r > 0 ? operation_join(same, requester, done, userdata, reterr)
                     : begin(m, kind, broken, requester, done, userdata, reterr);
}
