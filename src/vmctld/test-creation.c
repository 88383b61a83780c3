/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM of an image that is pulled first, called off in each turn of the pull and of its commit. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/test-record-faults.h"
#include "image/test-image-bed.h"
#include "service.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/test.h"
#include "vm/vm.h"

/* A VM of a URL, whose definition is no good, which is found out when the image is there. False: it was over
 * before it could be called off. */
static bool run_creation(int turns, bool displaced[2]) {
        static const int files[_VM_FILE_MAX] = { -EBADF, -EBADF, -EBADF, -EBADF };
        const PullOptions options = { .url = URL, .refresh = true, .image = { .name = "a" } };
        VmRecord record = { .name = strdup("web") };
        Manager m = {};
        bool over = false;
        Told told = {};
        Job *job;
        Bed bed;
        int fd;

        bed_new(&bed);
        make_image(&bed, 0, "a", false, "older");
        bed_use(&bed, "a");
        m.core = bed.core;
        m.images = bed.images;
        fd = make_dir_at(bed.fd, "vms", 0700);
        CHECK(fd >= 0);
        CHECK(record_store_new(bed.event, fd, "vms", &service_vm_records, &m, &m.records) >= 0);
        close(fd);
        vm_spec_init(&record.spec);
        record.spec.append = strdup("without a kernel");
        CHECK_EQ(vm_create_from_url(&m, 0, &record, files, &options, &job, NULL), 0);
        CHECK(record_name_is_taken(m.records, "web"));
        told_wait(&told, job->operation);
        for (int i = 0; i < turns && !over; i++)
                over = !run_turn(&bed);
        over = !told.op;
        if (!over)
                CHECK(operation_cancel_for(told.op, ERROR_CANCELED, "It is called off"));
        run_out(&bed);
        CHECK_EQ(told.n, 1);
        CHECK_EQ(told.code, over ? ERROR_INVALID_SPEC : ERROR_CANCELED);
        CHECK(!record_name_is_taken(m.records, "web"));
        CHECK_EQ(accounts_total(bed.core->accounts, RESOURCE_VMS), 0);
        check_idle(&bed);
        check_content(&bed, "a", count_images(&bed) > 1 ? "disk" : "older");
        if (!over)
                displaced[count_images(&bed) > 1] = true;
        record_store_free(m.records);
        bed_done(&bed);
        return !over;
}

/* It may be past the point where the image's commit can be called off: then the image is there, and no VM
 * all the same. */
int main(void) {
        bool displaced[2] = {};
        sigset_t mask;

        faults_init();
        log_set_max_level(LOG_CRIT);
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) >= 0);
        for (int n = 0; run_creation(n, displaced); n++)
                ;
        CHECK(displaced[false] && displaced[true]);
        return 0;
}
