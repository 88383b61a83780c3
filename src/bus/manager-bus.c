/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manager-bus.h"
#include "bus-util.h"
#include "core/bus-paths.h"
#include "host/cgroup.h"
#include "image-bus.h"
#include "job-bus.h"
#include "vm-bus.h"
#include "vm/broken.h"
#include "vm/vm-index.h"

typedef struct CreateCall {
        sd_bus_message *call;
        char *name;
} CreateCall;

static void on_created(void *userdata, int r, const Error *error) {
        _cleanup_free_ CreateCall *c = userdata;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = c->call;
        _cleanup_free_ char *name = c->name, *path = r < 0 ? NULL : bus_vm_path(name);

        if (path)
                (void)sd_bus_reply_method_return(call, "o", path);
        else
                (void)bus_reply_error(call, error);
}

static int read_create(sd_bus_message *m, VmRecord *rec, int *files, Error **reterr) {
        const char *name;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = free_and_strdup(&rec->name, name);
        return r < 0 ? r : bus_read_spec(m, 0, &rec->spec, files, reterr);
}

static int method_create(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        int files[_VM_FILE_MAX] = { -EBADF, -EBADF, -EBADF, -EBADF }, r;
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        CreateCall *c = NULL;
        VmRecord rec = {};

        vm_spec_init(&rec.spec);
        rec.owner = access_caller_uid(face->access);
        r = read_create(m, &rec, files, &e);
        if (r >= 0) {
                c = malloc(sizeof(CreateCall));
                if (c)
                        *c = (CreateCall){ sd_bus_message_ref(m), strdup(rec.name) };
                r = c && c->name ? 0 : -ENOMEM;
        }
        if (r >= 0) {
                r = vm_create(face->manager, rec.owner, &rec, files, on_created, c, &e);
                if (r >= 0)
                        return 1;
        } else
                vm_record_done(&rec);
        if (c) {
                sd_bus_message_unref(c->call);
                free(c->name);
                free(c);
        }
        return e ? bus_reply_error(m, e) : r;
}

/* CreateVM's and PullImage's options in one call. */
static int method_create_from_url(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        int files[_VM_FILE_MAX] = { -EBADF, -EBADF, -EBADF, -EBADF }, r;
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        PullOptions o = {};
        VmRecord rec = {};
        const char *name;
        Job *job;

        vm_spec_init(&rec.spec);
        rec.owner = access_caller_uid(face->access);
        r = sd_bus_message_read(m, "ss", &name, &o.url);
        if (r >= 0)
                r = free_and_strdup(&rec.name, name);
        if (r >= 0)
                r = bus_read_spec(m, 0, &rec.spec, files, &e);
        if (r >= 0)
                r = image_bus_read_pull(face, m, &o, &e);
        if (r >= 0 && o.image.shared && rec.owner != 0 && face->manager->core->config.system)
                r = error_set(&e, ERROR_ACCESS_DENIED, "Only PullImage can make an image for everybody");
        if (r >= 0)
                r = vm_create_from_url(face->manager, rec.owner, &rec, files, &o, &job, &e);
        else
                vm_record_done(&rec);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        return job_bus_reply(m, job->id);
}

static int reply_vm(sd_bus_message *m, const Vm *vm) {
        _cleanup_free_ char *path = bus_vm_path(vm_name(vm));

        return path ? sd_bus_reply_method_return(m, "o", path) : -ENOMEM;
}

/* A VM that the caller may not see is none. */
static int check_visible(const BusFace *face, const Vm *vm, const char *what, Error **reterr) {
        return access_may_see(face->access, vm->record.owner)
                        ? 0
                        : error_set(reterr, ERROR_NO_SUCH_VM, "There is no VM '%s'", what);
}

static int method_get_vm(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        const char *name;
        Vm *vm;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        r = manager_get_vm(face->manager, name, &vm, &e);
        if (r >= 0)
                r = check_visible(face, vm, name, &e);
        return r < 0 ? bus_reply_error(m, e) : reply_vm(m, vm);
}

static int method_get_vm_by_pid(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        uint32_t pid;
        Vm *vm;
        int r;

        r = sd_bus_message_read(m, "u", &pid);
        if (r < 0)
                return r;
        r = manager_get_vm_by_pid(face->manager, (pid_t)pid, &vm, &e);
        if (r >= 0 && !access_may_see(face->access, vm->record.owner))
                r = error_set(&e, ERROR_NO_SUCH_VM, "Process %u belongs to no VM", pid);
        return r < 0 ? bus_reply_error(m, e) : reply_vm(m, vm);
}

static int append_vm(sd_bus_message *m, const Vm *vm) {
        const VmRecord *rec = &vm->record;
        _cleanup_free_ char *path = bus_vm_path(vm_name(vm));

        if (!path)
                return -ENOMEM;
        return sd_bus_message_append(m, "(sossusutsuqta{sv})", vm_name(vm), path,
                        vm_state_to_string(vm_state(vm)), vm_failure_to_string(vm->failure),
                        (uint32_t)rec->owner, "qemu", rec->spec.vcpus, rec->spec.memory,
                        vm_network_to_string(rec->spec.network),
                        vm->process ? (uint32_t)process_qemu_pid(vm->process) : 0, rec->ssh_port,
                        vm->process ? vm->started_at : 0, 0);
}

static int method_list_vms(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const BusFace *face = userdata;
        const Manager *mgr = face->manager;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sossusutsuqta{sv})");
        for (size_t i = 0; r >= 0 && i < mgr->n_vms; i++)
                if (access_may_see(face->access, mgr->vms[i]->record.owner))
                        r = append_vm(reply, mgr->vms[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(mgr->bus, reply, NULL);
}

static int method_remove_broken(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        const char *kind, *name;
        int r;

        r = sd_bus_message_read(m, "ss", &kind, &name);
        if (r < 0)
                return r;
        if (!streq(kind, "vm") && !streq(kind, "image"))
                return sd_bus_error_setf(
                                error, SD_BUS_ERROR_INVALID_ARGS, "There are no records of '%s'", kind);
        r = broken_remove(face->manager, streq(kind, "vm") ? JOB_TARGET_VM : JOB_TARGET_IMAGE, name,
                        access_caller_uid(face->access), bus_reply_done, sd_bus_message_ref(m), &e);
        if (r >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

static int method_get_version(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return sd_bus_reply_method_return(m, "s", VMCTL_VERSION);
}

static int append_strv_entry(sd_bus_message *m, const char *key, char *const *v) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, (char **)v);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int machines_in_use(const Manager *m, char ***ret) {
        for (size_t i = 0; i < m->n_vms; i++) {
                const char *machine = m->vms[i]->record.machine;

                if (machine && !strv_contains(*ret, machine) && strv_extend(ret, machine) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int append_aliases(sd_bus_message *m, const Host *h) {
        static const char *const aliases[] = { "q35", "microvm" };
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "machine-types");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a{ss}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{ss}");
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(aliases); i++) {
                const char *machine;

                if (host_resolve_machine(h, aliases[i], &machine, NULL) >= 0)
                        r = sd_bus_message_append(m, "{ss}", aliases[i], machine);
        }
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_capabilities(sd_bus_message *m, const Manager *mgr) {
        char *accelerators[] = { (char *)"tcg", NULL, NULL }, *firmware[] = { (char *)"bios", NULL, NULL },
             *backends[] = { (char *)"slirp", NULL, NULL };
        _cleanup_strv_ char **in_use = NULL, **warnings = NULL;
        const char *reason, *no_passt, *code, *vars;
        bool kvm = host_has_kvm(mgr->host, &reason), passt = host_has_passt(mgr->host, &no_passt),
             slirp = !passt || mgr->core->config.user_backend == USER_BACKEND_SLIRP;
        int r;

        if (kvm)
                accelerators[1] = (char *)"kvm";
        else if (strv_extendf(&warnings, "KVM does not work here: %s", reason) < 0)
                return -ENOMEM;
        if (passt)
                backends[1] = (char *)"passt";
        else if (mgr->core->config.user_backend != USER_BACKEND_SLIRP &&
                        strv_extendf(&warnings,
                                        "Guests reach the services on this host's loopback, as passt cannot "
                                        "be used: %s",
                                        no_passt) < 0)
                return -ENOMEM;
        if (host_uefi(mgr->host, &code, &vars, NULL) >= 0)
                firmware[1] = (char *)"uefi";
        r = machines_in_use(mgr, &in_use);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "qemu-path", "s", mgr->core->config.qemu,
                                "qemu-version", "s", host_qemu_version(mgr->host), "default-accelerator",
                                "s", kvm ? "kvm" : "tcg", "default-network-backend", "s",
                                slirp ? "slirp" : "passt");
        if (r >= 0)
                r = append_strv_entry(m, "accelerators", accelerators);
        if (r >= 0)
                r = append_strv_entry(m, "network-backends", backends);
        if (r >= 0)
                r = append_strv_entry(m, "firmware", firmware);
        if (r >= 0)
                r = append_aliases(m, mgr->host);
        if (r >= 0)
                r = append_strv_entry(m, "machine-types-in-use", in_use);
        if (r >= 0)
                r = append_strv_entry(m, "warnings", warnings);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int reply_capabilities(sd_bus_message *call, const Manager *m) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_error_ Error *e = NULL;
        int r;

        r = host_check_qemu(m->host, &e);
        if (r < 0)
                return bus_reply_error(call, e);
        r = sd_bus_message_new_method_return(call, &reply);
        if (r >= 0)
                r = append_capabilities(reply, m);
        return r < 0 ? r : sd_bus_send(m->bus, reply, NULL);
}

static sd_bus_message **take_asking(BusFace *face, size_t *ret_n) {
        *ret_n = face->n_asking;
        face->n_asking = 0;
        return TAKE_PTR(face->asking);
}

static void on_host(void *userdata) {
        BusFace *face = userdata;
        size_t n;
        _cleanup_free_ sd_bus_message **calls = take_asking(face, &n);

        for (size_t i = 0; i < n; i++) {
                int r = reply_capabilities(calls[i], face->manager);

                if (r < 0)
                        (void)sd_bus_reply_method_errno(calls[i], r, NULL);
                sd_bus_message_unref(calls[i]);
        }
}

/* The first of those that wait has QEMU asked for all of them. */
static int method_get_capabilities(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusFace *face = userdata;
        sd_bus_message **grown = reallocarray(face->asking, face->n_asking + 1, sizeof(sd_bus_message *));
        int r;

        if (!grown)
                return -ENOMEM;
        face->asking = grown;
        r = face->n_asking > 0 ? 0 : host_ensure(face->manager->host, on_host, face);
        if (r < 0)
                return r;
        if (r > 0)
                return reply_capabilities(m, face->manager);
        face->asking[face->n_asking++] = sd_bus_message_ref(m);
        return 1;
}

static int method_get_job(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        uint32_t id;
        Job *job;
        int r;

        r = sd_bus_message_read(m, "u", &id);
        if (r < 0)
                return r;
        job = job_find(&face->manager->core->operations.jobs, id);
        if (!job || !job_bus_may_see(face, job)) {
                (void)error_set(&e, ERROR_NO_SUCH_JOB, "There is no job %u", id);
                return bus_reply_error(m, e);
        }
        return job_bus_reply(m, id);
}

static int method_list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const BusFace *face = userdata;
        const Manager *mgr = face->manager;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(uososd)");
        for (size_t i = 0; r >= 0 && i < mgr->core->operations.jobs.n; i++) {
                const Job *job = mgr->core->operations.jobs.list[i];
                _cleanup_free_ char *path = bus_job_path(job->id), *target = job_bus_target_path(job);

                if (!path || !target)
                        r = -ENOMEM;
                else if (job_bus_may_see(face, job))
                        r = sd_bus_message_append(reply, "(uososd)", job->id, path, job->kind, target,
                                        job->result == JOB_RUNNING ? "running" : "finished", job->progress);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(mgr->bus, reply, NULL);
}

static int method_get_usage(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const BusFace *face = userdata;
        size_t i = 0;
        Usage usage;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ustt)");
        while (r >= 0 && accounts_next(face->manager->core->accounts, &i, &usage))
                if (access_may_see(face->access, usage.uid))
                        r = sd_bus_message_append(reply, "(ustt)", (uint32_t)usage.uid,
                                        resource_to_string(usage.resource), usage.used, usage.limit);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(face->manager->bus, reply, NULL);
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(m, "s", VMCTL_VERSION);
}

/* "PATH: REASON" for each: from the time before there were broken records of other kinds. */
static int get_broken_vms(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_strv_ char **lines = NULL;
        const BusFace *face = userdata;
        const RecordBroken *b;
        size_t n;

        b = record_store_broken(face->manager->records, &n);
        for (size_t i = 0; access_may_see(face->access, 0) && i < n; i++)
                if (strv_extendf(&lines, "%s: %s", b[i].path, b[i].reason) < 0)
                        return -ENOMEM;
        return sd_bus_message_append_strv(m, lines);
}

static int append_broken(sd_bus_message *m, const char *kind, const RecordStore *s) {
        const RecordBroken *b;
        size_t n;
        int r = 0;

        b = record_store_broken(s, &n);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append(m, "(ssss)", kind, b[i].name, b[i].path, b[i].reason);
        return r;
}

/* It names what belongs to others, and whom it belongs to is not known: for root. */
static int get_broken(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        int r;

        r = sd_bus_message_open_container(m, 'a', "(ssss)");
        if (r >= 0 && access_may_see(face->access, 0)) {
                r = append_broken(m, "vm", face->manager->records);
                if (r >= 0)
                        r = append_broken(m, "image", face->manager->images->records);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("CreateVM", SD_BUS_ARGS("s", name, "a{sv}", options), SD_BUS_RESULT("o", vm),
                        method_create, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVM", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", vm), method_get_vm,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVMByPID", SD_BUS_ARGS("u", pid), SD_BUS_RESULT("o", vm),
                        method_get_vm_by_pid, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListVMs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sossusutsuqta{sv})", vms),
                        method_list_vms, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateVMFromURL",
                        SD_BUS_ARGS("s", name, "s", url, "a{sv}", options, "a{sv}", pull_options),
                        SD_BUS_RESULT("o", job), method_create_from_url, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PullImage", SD_BUS_ARGS("s", url, "a{sv}", options),
                        SD_BUS_RESULT("o", job), image_bus_pull, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ImportImage", SD_BUS_ARGS("s", name, "h", file, "a{sv}", options),
                        SD_BUS_RESULT("o", job), image_bus_import, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("InspectImage", SD_BUS_ARGS("h", file, "a{sv}", options),
                        SD_BUS_RESULT("a{sv}", facts), image_bus_inspect, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetImage", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", image), image_bus_get,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListImages", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sosubtttttsa{sv})", images),
                        image_bus_list, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PruneImages", SD_BUS_ARGS("t", unused_usec, "a{sv}", options),
                        SD_BUS_RESULT("as", removed), image_bus_prune, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveBrokenRecord", SD_BUS_ARGS("s", kind, "s", name), SD_BUS_NO_RESULT,
                        method_remove_broken, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVersion", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", version),
                        method_get_version, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetCapabilities", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", capabilities),
                        method_get_capabilities, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetJob", SD_BUS_ARGS("u", id), SD_BUS_RESULT("o", job), method_get_job,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(uososd)", jobs),
                        method_list_jobs, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetUsage", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ustt)", usage),
                        method_get_usage, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("VMNew", SD_BUS_ARGS("s", name, "o", vm), 0),
        SD_BUS_SIGNAL_WITH_ARGS("VMRemoved", SD_BUS_ARGS("s", name, "o", vm), 0),
        SD_BUS_SIGNAL_WITH_ARGS("ImageNew", SD_BUS_ARGS("s", name, "o", image), 0),
        SD_BUS_SIGNAL_WITH_ARGS("ImageRemoved", SD_BUS_ARGS("s", name, "o", image), 0),
        SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("u", id, "o", job, "o", object), 0),
        SD_BUS_SIGNAL("SignalsLost", NULL, 0),
        SD_BUS_SIGNAL_WITH_ARGS("JobRemoved", SD_BUS_ARGS("u", id, "o", job, "o", object, "s", result), 0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("BrokenVMs", "as", get_broken_vms, 0, 0),
        SD_BUS_PROPERTY("BrokenRecords", "a(ssss)", get_broken, 0, 0),
        SD_BUS_VTABLE_END,
};

const ManagerHooks manager_bus_hooks = {
        .vm_new = vm_bus_new,
        .vm_removed = vm_bus_removed,
        .vm_changed = vm_bus_changed,
        .vm_event = vm_bus_event,
        .image = { image_bus_new, image_bus_removed, image_bus_changed },
        .job = { job_bus_new, job_bus_changed, job_bus_finished },
};

int manager_bus_add(BusFace *face) {
        sd_bus *bus = face->manager->bus;
        int r;

        r = sd_bus_add_object_manager(bus, NULL, BUS_PATH_MANAGER);
        if (r >= 0)
                r = sd_bus_add_object_vtable(
                                bus, NULL, BUS_PATH_MANAGER, "org.vmctl1.Manager", vtable, face);
        if (r >= 0)
                r = vm_bus_add(face);
        if (r >= 0)
                r = image_bus_add(face);
        return r < 0 ? r : job_bus_add(face);
}

static int refuse_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Error *why = userdata;
        uint8_t type;

        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        (void)bus_reply_error(m, why);
        return 1;
}

/* What came before the bus had taken the name away has been read when it says so. */
static void refuse_queued(sd_bus *bus, Error *why) {
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *filter = NULL;
        uint64_t n;

        if (sd_bus_add_filter(bus, &filter, refuse_call, why) < 0)
                return;
        (void)sd_bus_release_name(bus, BUS_NAME);
        while (sd_bus_get_n_queued_read(bus, &n) >= 0 && n > 0 && sd_bus_process(bus, NULL) > 0)
                ;
}

void manager_bus_end(BusFace *face) {
        _cleanup_error_ Error *why = NULL;
        size_t n;
        _cleanup_free_ sd_bus_message **calls = take_asking(face, &n);

        (void)error_set(&why, ERROR_SERVICE_ENDING, "The service ended before the call was done");
        refuse_queued(face->manager->bus, why);
        access_end(face->access, why);
        operations_end(&face->manager->core->operations, why);
        for (size_t i = 0; i < n; i++) {
                (void)bus_reply_error(calls[i], why);
                sd_bus_message_unref(calls[i]);
        }
}
