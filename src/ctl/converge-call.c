/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <unistd.h>

#include "converge-call.h"
#include "spec-args.h"
#include "spec/spec-message.h"
#include "step.h"
#include "util/fd-util.h"

/* What a call is made from. */
typedef struct Call {
        const ConvergeItem *item;
        const ConvergeOptions *options;
        size_t first, next; /* steps */
        sd_bus_message *m;
        Error **reterr;
} Call;

static int append_file(Call *call, const char *key, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!path)
                return 0;
        r = spec_open_file(path, &fd, call->reterr);
        return r < 0 ? r : sd_bus_message_append(call->m, "{sv}", key, "h", fd);
}

/* The whole definition: what the file leaves out is the service's default, except for what it says. */
static int append_definition(Call *call) {
        const ConvergeWant *w = &call->item->want;
        int r;

        r = sd_bus_message_open_container(call->m, 'a', "{sv}");
        for (size_t i = 0; r >= 0 && i < vm_spec_n_keys; i++)
                if (vm_spec_has(&w->spec, vm_spec_keys[i].name))
                        r = spec_message_append(call->m, &vm_spec_keys[i], &w->spec);
        if (r >= 0 && !w->vm->image_url)
                r = append_file(call, "image", w->vm->image);
        if (r >= 0)
                r = append_file(call, "kernel", w->vm->kernel);
        if (r >= 0)
                r = append_file(call, "initrd", w->vm->initrd);
        if (r >= 0)
                r = append_file(call, "user-data", w->vm->user_data);
        return r < 0 ? r : sd_bus_message_close_container(call->m);
}

static int append_pull_options(Call *call) {
        const char *sha256 = call->item->vm->sha256;

        return sha256 ? sd_bus_message_append(call->m, "a{sv}", 1, "sha256", "s", sha256)
                      : sd_bus_message_append(call->m, "a{sv}", 0);
}

static int fill_pull(Call *call) {
        int r = sd_bus_message_append(call->m, "s", call->item->vm->image_url);

        return r < 0 ? r : append_pull_options(call);
}

static int fill_create(Call *call) {
        const VmfileVm *vm = call->item->vm;
        int r;

        r = sd_bus_message_append(call->m, "s", vm->name);
        if (r >= 0 && vm->image_url)
                r = sd_bus_message_append(call->m, "s", vm->image_url);
        if (r >= 0)
                r = append_definition(call);
        if (r >= 0 && vm->image_url)
                r = append_pull_options(call);
        return r;
}

/* The changes up to that effect. */
static int fill_changes(Call *call, ConvergeEffect most) {
        const ConvergePlan *p = &call->item->plan;
        int r;

        r = sd_bus_message_open_container(call->m, 'a', "{sv}");
        for (size_t i = 0; r >= 0 && i < p->n_changes; i++)
                if (p->changes[i].key && p->changes[i].effect <= most)
                        r = spec_message_append(call->m, p->changes[i].key, &call->item->want.spec);
        return r < 0 ? r : sd_bus_message_close_container(call->m);
}

static int fill_limits(Call *call) {
        return fill_changes(call, CONVERGE_LIVE);
}

static int fill_update(Call *call) {
        return fill_changes(call, CONVERGE_STOPPED);
}

static int fill_options(Call *call) {
        return sd_bus_message_append(call->m, "a{sv}", 0);
}

static int fill_nothing(Call *call) {
        return 0;
}

static int fill_stop(Call *call) {
        return sd_bus_message_append(call->m, "t", call->options->stop_timeout_usec);
}

/* The private half of a public key of the user's: what stands beside it, or what ssh(1) would try. */
static char *find_private_key(const VmfileVm *vm) {
        static const char *const names[] = { "id_ed25519", "id_ecdsa" };
        const char *home = getenv("HOME");

        if (vm->private_key)
                return strdup(vm->private_key);
        if (vm->ssh_key && endswith(vm->ssh_key, ".pub")) {
                char *path = strndup(vm->ssh_key, strlen(vm->ssh_key) - strlen(".pub"));

                if (!path || access(path, R_OK) >= 0)
                        return path;
                free(path);
        }
        if (vm->has_cloud_init && !vm->ssh_key && !vm->user_data)
                return NULL; /* it has a pair of its own */
        for (size_t i = 0; home && i < ELEMENTSOF(names); i++) {
                char *path = strf("%s/.ssh/%s", home, names[i]);

                if (!path || access(path, R_OK) >= 0)
                        return path;
                free(path);
        }
        return NULL;
}

static int append_private_key(Call *call) {
        _cleanup_free_ char *path = find_private_key(call->item->vm);

        return append_file(call, "private-key", path);
}

static int fill_wait(Call *call) {
        int r;

        r = sd_bus_message_append(call->m, "st", vmfile_ready_to_string(call->item->vm->ready),
                        call->options->timeout_usec);
        if (r >= 0)
                r = sd_bus_message_open_container(call->m, 'a', "{sv}");
        if (r >= 0)
                r = append_private_key(call);
        return r < 0 ? r : sd_bus_message_close_container(call->m);
}

/* Those before `first` have run. */
static int append_steps(Call *call) {
        const VmfileVm *vm = call->item->vm;
        char **fingerprints = call->item->want.fingerprints;
        size_t n_files = 0, i;
        int r;

        r = sd_bus_message_open_container(call->m, 'a', "a{sv}");
        for (i = 0; r >= 0 && i < call->first; i++)
                r = step_append_done(call->m, fingerprints[i], call->reterr);
        for (; r >= 0 && i < vm->n_steps; i++) {
                if (step_has_file(&vm->steps[i]) && ++n_files > CONVERGE_FILES_MAX)
                        break;
                r = step_append(call->m, &vm->steps[i], fingerprints ? fingerprints[i] : NULL, call->reterr);
        }
        call->next = i;
        return r < 0 ? r : sd_bus_message_close_container(call->m);
}

static int fill_provision(Call *call) {
        const ConvergeItem *item = call->item;
        bool only_changed = item->plan.only_changed || call->first > 0;
        int r;

        r = append_steps(call);
        if (r >= 0)
                r = sd_bus_message_open_container(call->m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(call->m, "{sv}{sv}{sv}{sv}", "stage", "s",
                                item->vm->has_cloud_init ? "cloud-init" : "ssh", "timeout-usec", "t",
                                call->options->timeout_usec, "only-changed", "b", only_changed, "owner", "u",
                                (uint32_t)item->user);
        if (r >= 0)
                r = append_private_key(call);
        return r < 0 ? r : sd_bus_message_close_container(call->m);
}

static const struct {
        const char *member;
        bool manager, job;
        int (*fill)(Call *call);
} calls[] = {
        [CONVERGE_PULL] = { "PullImage", true, true, fill_pull },
        [CONVERGE_DESTROY] = { "Destroy", false, false, fill_nothing },
        [CONVERGE_STOP] = { "Stop", false, true, fill_stop },
        [CONVERGE_CREATE] = { "CreateVM", true, false, fill_create },
        [CONVERGE_SET_LIMITS] = { "SetLimits", false, false, fill_limits },
        [CONVERGE_UPDATE] = { "UpdateSpec", false, false, fill_update },
        [CONVERGE_START] = { "Start", false, false, fill_options },
        [CONVERGE_RESUME] = { "Resume", false, false, fill_nothing },
        [CONVERGE_PROVISION] = { "Provision", false, true, fill_provision },
        [CONVERGE_WAIT] = { "WaitReady", false, true, fill_wait },
};
_Static_assert(ELEMENTSOF(calls) == _CONVERGE_ACTION_MAX, "an action has no call");

static bool creates_from_url(const ConvergeItem *i, ConvergeAction a) {
        return a == CONVERGE_CREATE && i->vm->image_url;
}

bool converge_call_is_job(const ConvergeItem *i, ConvergeAction a) {
        return calls[a].job || creates_from_url(i, a);
}

int converge_call_new(Ctl *c, const ConvergeItem *i, ConvergeAction a, const ConvergeOptions *o,
                size_t first, sd_bus_message **ret, size_t *ret_next, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = client_vm_path(i->vm->name);
        _cleanup_error_ Error *e = NULL;
        Call call = { i, o, first, i->vm->n_steps, NULL, &e };
        int r;

        r = path ? client_new_call(c->client, calls[a].manager ? VMCTL_MANAGER_PATH : path,
                                   calls[a].manager ? VMCTL_MANAGER : VMCTL_VM,
                                   creates_from_url(i, a) ? "CreateVMFromURL" : calls[a].member, &m)
                 : -ENOMEM;
        if (r >= 0) {
                call.m = m;
                r = calls[a].fill(&call);
        }
        if (r < 0)
                return e ? error_set(reterr, error_code(e), "%s", error_message(e))
                         : error_set_errno(reterr, r, "Cannot make a call");
        *ret = TAKE_PTR(m);
        *ret_next = call.next;
        return 0;
}
