/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bus/clients.h"
#include "image/image-operations.h"
#include "service.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm/broken.h"
#include "vm/vm-index.h"

static void on_request_stop(const char *unit, void *userdata);
static void on_scope_removed(const char *unit, void *userdata);
static void on_scope_in_use(const char *unit, pid_t pid, const char *command, void *userdata);

static const SystemdHandlers systemd_handlers = {
        .request_stop = on_request_stop,
        .scope_removed = on_scope_removed,
        .scope_in_use = on_scope_in_use,
};

static int open_records(Manager *m) {
        _cleanup_free_ char *path = strf("%s/vms", m->core->config.state_dir);

        return path ? record_store_new(m->core->event, m->vms_fd, path, &service_vm_records, m, &m->records)
                    : -ENOMEM;
}

static const char *next_user(void *userdata, const Image *image, size_t *i) {
        const Manager *m = userdata;

        while (*i < m->n_vms) {
                const Vm *vm = m->vms[(*i)++];

                if (streq_ptr(vm->record.image_uuid, image->record.uuid))
                        return vm_name(vm);
        }
        return NULL;
}

static int cannot_open(const Manager *m, const char *folder, int r) {
        const char *state_dir = m->core->config.state_dir;
        _cleanup_free_ char *user = r == -EACCES
                        ? strf("; all below '%s' has to belong to the service's user%s", state_dir,
                                          m->core->config.system ? ", vmctld" : "")
                        : NULL;

        return log_error_errno(r, "Cannot open '%s/%s': %m%s", state_dir, folder, user ?: "");
}

static int open_folders(Manager *m) {
        mode_t mode = core_folder_mode(m->core);
        _cleanup_close_ int state = core_open_folder(m->core->config.state_dir, mode);
        int r;

        if (state < 0)
                return state;
        m->vms_fd = make_dir_at(state, "vms", mode);
        if (m->vms_fd < 0)
                return cannot_open(m, "vms", m->vms_fd);
        r = open_records(m);
        if (r < 0)
                return cannot_open(m, "vms", r);
        r = image_store_new(m->core, state, &m->hooks->image, next_user, m, &m->images);
        return r < 0 ? cannot_open(m, "images", r) : 0;
}

/* VMs whose state or properties have changed are told of before jobs that have ended. */
static void on_flush(void *userdata) {
        Manager *m = userdata;

        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i]->changes)
                        vm_flush(m->vms[i]);
}

int service_new(sd_event *event, sd_bus *bus, sd_bus *systemd_bus, Config *config, const ManagerHooks *hooks,
                Manager **ret) {
        _cleanup_(service_freep) Manager *m = malloc(sizeof(Manager));
        int r;

        if (!m)
                return -ENOMEM;
        *m = (Manager){
                .operation_hooks = { .job = hooks->job, .flush = on_flush },
                .bus = sd_bus_ref(bus),
                .hooks = hooks,
                .vms_fd = -EBADF,
        };
        r = core_new(event, config, &m->operation_hooks, m, &m->core);
        if (r < 0)
                return r;
        m->ports = calloc(
                        (size_t)(m->core->config.port_last - m->core->config.port_first) + 1, sizeof(Vm *));
        if (!m->ports)
                return -ENOMEM;
        r = clients_new(bus, m->core->accounts, !m->core->config.system, &m->clients);
        if (r >= 0)
                r = open_folders(m);
        if (r >= 0)
                r = machine_names_new(event, m->core->config.conf_dir, &m->machine_names);
        if (r >= 0 && m->core->config.system)
                machine_names_read(m->machine_names);
        if (r >= 0)
                r = host_new(event, m->core->config.qemu, m->core->config.uid_count > 0, &m->host);
        if (r >= 0)
                r = systemd_new(systemd_bus, m->core->launcher, &systemd_handlers, m, &m->systemd);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

Manager *service_free(Manager *m) {
        if (!m)
                return NULL;
        /* What waits for the disk is called off, by those who are still there. */
        m->records = record_store_free(m->records);
        image_store_close(m->images);
        if (m->core)
                operations_done(&m->core->operations);
        for (size_t i = 0; i < m->n_vms; i++)
                vm_free(m->vms[i]);
        free(m->vms);
        image_transfers_free(m->images);
        image_store_free(m->images);
        clients_free(m->clients);
        machine_names_free(m->machine_names);
        systemd_free(m->systemd);
        host_free(m->host);
        safe_close(m->vms_fd);
        free(m->ports);
        core_free(m->core);
        sd_bus_unref(m->bus);
        free(m);
        return NULL;
}

/* "vmctl-NAME.scope" */
static Vm *find_by_unit(const Manager *m, const char *unit) {
        const char *rest = startswith(unit, "vmctl-"), *end = rest ? strrchr(rest, '.') : NULL;
        _cleanup_free_ char *name = end && streq(end, ".scope") ? strndup(rest, (size_t)(end - rest)) : NULL;

        return name ? manager_find_vm(m, name) : NULL;
}

static void on_request_stop(const char *unit, void *userdata) {
        _cleanup_error_ Error *e = NULL;
        Manager *m = userdata;
        Vm *vm = find_by_unit(m, unit);
        Job *job;

        if (!vm || !vm->process || vm->ending)
                return;
        vm_log(LOG_INFO, vm, NULL, "systemd asks to stop the VM");
        if (vm_stop(vm, 0, 0, &job, &e) < 0)
                vm_log(LOG_WARNING, vm, NULL, "Cannot stop: %s", error_message(e));
}

static void on_scope_removed(const char *unit, void *userdata) {
        Vm *vm = find_by_unit(userdata, unit);

        if (vm)
                vm_scope_removed(vm);
        else
                broken_scope_removed(userdata, unit);
}

static void on_scope_in_use(const char *unit, pid_t pid, const char *command, void *userdata) {
        Vm *vm = find_by_unit(userdata, unit);

        if (vm)
                vm_scope_in_use(vm, pid, command);
}
