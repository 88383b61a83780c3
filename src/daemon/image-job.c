/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pulls as jobs: alone, and as the first half of making a VM. */
#include <fcntl.h>

#include "image-transfer.h"
#include "manager.h"
#include "util/fd-util.h"

typedef struct PullJob {
        Job *job;
        Pull *pull;
} PullJob;

static void on_progress(void *userdata, const JobProgress *p) {
        PullJob *j = userdata;

        job_set_progress(j->job, p);
}

static void on_pulled(void *userdata, Image *image, const Error *error) {
        _cleanup_free_ PullJob *j = userdata;

        (void)job_finish(j->job, job_result_of(error), error);
}

static const PullHandlers pull_handlers = { on_progress, on_pulled };

static void cancel(Job *job, void *userdata) {
        _cleanup_free_ PullJob *j = userdata;
        _cleanup_error_ Error *e = NULL;

        pull_free(j->pull);
        (void)error_set(&e, ERROR_CANCELED, "The pull was canceled");
        (void)job_finish(job, JOB_CANCELED, e);
}

int image_pull(ImageStore *s, const PullOptions *options, Job **ret, Error **reterr) {
        _cleanup_free_ PullJob *j = calloc(1, sizeof(PullJob));
        JobSpec spec = { "pull", JOB_TARGET_IMAGE, NULL, options->image.owner, options->image.owner, cancel,
                j };
        int r;

        if (!j)
                return error_set_errno(reterr, -ENOMEM, "Cannot pull '%s'", options->url);
        r = pull_new(s, options, &pull_handlers, j, &j->pull, reterr);
        if (r < 0)
                return r;
        spec.target_name = pull_name(j->pull);
        r = job_new(s->manager, &spec, &j->job);
        if (r < 0) {
                pull_free(j->pull);
                return error_set_errno(reterr, r, "Cannot pull '%s'", options->url);
        }
        *ret = TAKE_PTR(j)->job;
        return 0;
}

/* A VM from a URL: the pull, then CreateVM with the image that came of it. */
typedef struct UrlCreate {
        Manager *manager; /* borrowed */
        Job *job;
        Pull *pull; /* NULL: it has ended */
        VmRecord record;
        int files[_VM_FILE_MAX]; /* owned */
} UrlCreate;

static UrlCreate *url_create_free(UrlCreate *c) {
        if (!c)
                return NULL;
        pull_free(c->pull);
        vm_record_done(&c->record);
        for (int i = 0; i < _VM_FILE_MAX; i++)
                safe_close(c->files[i]);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(UrlCreate *, url_create_free);

static void url_create_finish(UrlCreate *c, const Error *error) {
        (void)job_finish(c->job, job_result_of(error), error);
        url_create_free(c);
}

static void on_url_progress(void *userdata, const JobProgress *p) {
        UrlCreate *c = userdata;

        job_set_progress(c->job, p);
}

static void on_vm_created(void *userdata, int r, const Error *error) {
        url_create_finish(userdata, error);
}

static void on_url_pulled(void *userdata, Image *image, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        UrlCreate *c = userdata;
        int r;

        c->pull = NULL;
        if (error) {
                url_create_finish(c, error);
                return;
        }
        job_set_progress(c->job, &(JobProgress){ .phase = "creating" });
        r = free_and_strdup(&c->record.spec.image_name, image_name(image));
        if (r < 0)
                (void)error_set_errno(&e, r, "Cannot create VM '%s'", c->job->target_name);
        else
                r = vm_create(c->manager, &c->record, c->files, on_vm_created, c, &e);
        if (r < 0)
                url_create_finish(c, e);
}

static const PullHandlers url_handlers = { on_url_progress, on_url_pulled };

/* While the VM is made already, its own cancellation ends the job. */
static void url_create_cancel(Job *job, void *userdata) {
        _cleanup_error_ Error *e = NULL;
        UrlCreate *c = userdata;
        Vm *vm = c->pull ? NULL : manager_find_vm(c->manager, job->target_name);

        if (vm && vm->create) {
                vm_create_cancel(vm);
                return;
        }
        (void)error_set(&e, ERROR_CANCELED, "The creation of VM '%s' was canceled", job->target_name);
        url_create_finish(c, e);
}

int vm_create_from_url(Manager *m, VmRecord *record, const int files[static _VM_FILE_MAX],
                const PullOptions *options, Job **ret, Error **reterr) {
        const JobSpec spec = { "create", JOB_TARGET_VM, record->name, record->owner, record->owner,
                url_create_cancel, NULL };
        _cleanup_(url_create_freep) UrlCreate *c = malloc(sizeof(UrlCreate));
        int r;

        if (!c) {
                vm_record_done(record);
                return error_set_errno(reterr, -ENOMEM, "Cannot create a VM");
        }
        *c = (UrlCreate){ .manager = m };
        for (int i = 0; i < _VM_FILE_MAX; i++)
                c->files[i] = files[i] < 0 ? -EBADF : fcntl(files[i], F_DUPFD_CLOEXEC, 3);
        r = manager_check_name(m, record->name, record->owner, reterr);
        if (r >= 0)
                r = pull_new(m->images, options, &url_handlers, c, &c->pull, reterr);
        if (r >= 0) {
                r = job_new(m, &spec, &c->job);
                if (r < 0)
                        (void)error_set_errno(reterr, r, "Cannot create VM '%s'", record->name);
        }
        c->record = *record;
        *record = (VmRecord){};
        if (r < 0)
                return r;
        c->job->userdata = c;
        *ret = TAKE_PTR(c)->job;
        return 0;
}
