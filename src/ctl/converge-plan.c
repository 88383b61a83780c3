/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "converge-diff.h"
#include "converge.h"

static const char *const converge_action_table[] = {
        [CONVERGE_PULL] = "pull",
        [CONVERGE_DESTROY] = "destroy",
        [CONVERGE_STOP] = "stop",
        [CONVERGE_CREATE] = "create",
        [CONVERGE_SET_LIMITS] = "set-limits",
        [CONVERGE_UPDATE] = "update",
        [CONVERGE_START] = "start",
        [CONVERGE_RESUME] = "resume",
        [CONVERGE_PROVISION] = "provision",
        [CONVERGE_WAIT] = "wait",
};
DEFINE_STRING_TABLE(converge_action, ConvergeAction, _CONVERGE_ACTION_MAX);

static const char *const converge_provision_table[] = {
        [CONVERGE_AUTO] = "auto",
        [CONVERGE_CHANGED] = "changed",
        [CONVERGE_ALWAYS] = "always",
        [CONVERGE_NEVER] = "never",
};
DEFINE_STRING_TABLE(converge_provision, ConvergeProvision, _CONVERGE_PROVISION_MAX);

/* What a VM's state means here. */
typedef enum Condition {
        CONDITION_DOWN,
        CONDITION_UP,
        CONDITION_SUSPENDED,
        CONDITION_STARTING,
        CONDITION_STOPPING,
        CONDITION_PREPARING,
        CONDITION_UNKNOWN,
} Condition;

static Condition condition_of(const Json *properties) {
        static const struct {
                const char *state;
                Condition condition;
        } states[] = {
                { "prepared", CONDITION_DOWN },
                { "stopped", CONDITION_DOWN },
                { "failed", CONDITION_DOWN },
                { "running", CONDITION_UP },
                { "suspended", CONDITION_SUSPENDED },
                { "starting", CONDITION_STARTING },
                { "stopping", CONDITION_STOPPING },
                { "preparing", CONDITION_PREPARING },
        };
        const char *state = json_get_string(properties, "State");

        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (streq_ptr(states[i].state, state))
                        return states[i].condition;
        return CONDITION_UNKNOWN;
}

/* Lists in one string, as vm-lists.h has them. */
static int join_lists(const VmfileVm *vm, char **ret_forward, char **ret_disks) {
        _cleanup_free_ char *forward = strdup(""), *disks = strdup("");

        for (size_t i = 0; forward && i < vm->n_forwards; i++) {
                char *longer = strf("%s%s%u:%u", forward, i > 0 ? "," : "", vm->forwards[i].host,
                                vm->forwards[i].guest);

                free(forward);
                forward = longer;
        }
        for (size_t i = 0; disks && i < vm->n_disks; i++) {
                char *longer = strf("%s%s%s:%llu", disks, i > 0 ? "," : "", vm->disks[i].name,
                                (unsigned long long)vm->disks[i].size);

                free(disks);
                disks = longer;
        }
        if (!forward || !disks)
                return -ENOMEM;
        *ret_forward = TAKE_PTR(forward);
        *ret_disks = TAKE_PTR(disks);
        return 0;
}

static int set_text(VmSpec *s, const char *key, const char *value, Error **reterr) {
        return isempty(value) ? 0 : vm_spec_set_string(s, spec_key_find(key), value, reterr);
}

int converge_want_init(ConvergeWant *w, const VmfileVm *vm, const char *origin, const char *ssh_key,
                Error **reterr) {
        _cleanup_free_ char *forward = NULL, *disks = NULL;
        int r;

        *w = (ConvergeWant){ .vm = vm };
        if (vm->bridge)
                return error_set(reterr, ERROR_NOT_SUPPORTED, "network \"tap\" is not supported yet");
        r = vm_spec_copy(&vm->spec, &w->spec);
        if (r >= 0)
                r = join_lists(vm, &forward, &disks);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot read the definition");
        r = set_text(&w->spec, "origin", origin, reterr);
        if (r >= 0)
                r = set_text(&w->spec, "forward", forward, reterr);
        if (r >= 0)
                r = set_text(&w->spec, "disks", disks, reterr);
        return r < 0 ? r : set_text(&w->spec, "ssh-key", ssh_key, reterr);
}

void converge_want_done(ConvergeWant *w) {
        vm_spec_done(&w->spec);
        free(w->image);
        free(w->kernel);
        free(w->initrd);
        strv_free(w->fingerprints);
        *w = (ConvergeWant){};
}

void converge_plan_done(ConvergePlan *p) {
        for (size_t i = 0; i < p->n_changes; i++) {
                free(p->changes[i].from);
                free(p->changes[i].to);
        }
        free(p->changes);
        *p = (ConvergePlan){};
}

static void add(ConvergePlan *p, ConvergeAction a) {
        if (!converge_has(p, a))
                p->actions[p->n_actions++] = a;
}

bool converge_has(const ConvergePlan *p, ConvergeAction a) {
        for (size_t i = 0; i < p->n_actions; i++)
                if (p->actions[i] == a)
                        return true;
        return false;
}

void converge_add_wait(ConvergePlan *p, const VmfileVm *vm) {
        /* What runs is running, and whoever provisions waits for what that needs. */
        if (vm->ready == VMFILE_READY_RUNNING ||
                        (converge_has(p, CONVERGE_PROVISION) &&
                                        (vm->ready == VMFILE_READY_SSH || vm->has_cloud_init)))
                return;
        add(p, CONVERGE_WAIT);
}

size_t converge_count(const ConvergePlan *p, ConvergeEffect effect) {
        size_t n = 0;

        for (size_t i = 0; i < p->n_changes; i++)
                n += p->changes[i].effect == effect;
        return n;
}

/* A VM of the same name that isn't this user's, and this file's, is not to be touched: what is handed to it
 * would be another's. Where it comes from is its owner's word alone. One whose file is gone was moved with
 * its project. */
static int check_origin(const ConvergeWant *w, const ConvergeHave *h, Error **reterr) {
        const char *theirs = json_get_string(json_get(h->properties, "Spec"), "origin"),
                   *ours = w->spec.origin;
        uint64_t owner;

        if (json_get_unsigned(h->properties, "Owner", &owner) < 0 || owner != h->user)
                return error_set(reterr, ERROR_VM_EXISTS,
                                "The VM '%s' that is there belongs to another user", w->vm->name);
        if (streq_ptr(theirs, ours) || (!isempty(theirs) && h->origin_gone))
                return 0;
        if (isempty(theirs))
                return error_set(reterr, ERROR_VM_EXISTS,
                                "There is a VM '%s' already, which does not come from '%s' but was created "
                                "by command",
                                w->vm->name, ours);
        return error_set(reterr, ERROR_VM_EXISTS, "VM '%s' comes from '%s', not from '%s'", w->vm->name,
                        theirs, ours);
}

static int check_state(const ConvergeWant *w, Condition c, const Json *properties, Error **reterr) {
        if (c != CONDITION_STOPPING && c != CONDITION_PREPARING && c != CONDITION_UNKNOWN)
                return 0;
        return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' is %s; try again when that has ended",
                        w->vm->name, json_get_string(properties, "State") ?: "in no known state");
}

/* How many steps are not known to have run as they are now. */
static size_t count_due(const ConvergeWant *w, const ConvergeHave *h, bool *ret_unfinished) {
        const Json *done = json_get(h->properties, "ProvisionedSteps");
        size_t n = 0;

        *ret_unfinished = false;
        for (size_t i = 0; i < w->vm->n_steps; i++) {
                const char *fingerprint = json_string(json_element(done, i));

                if (isempty(fingerprint))
                        *ret_unfinished = true;
                if (isempty(fingerprint) || !w->fingerprints || !streq(w->fingerprints[i], fingerprint))
                        n++;
        }
        return n;
}

static void plan_steps(
                ConvergePlan *p, const ConvergeWant *w, const ConvergeHave *h, ConvergeProvision mode) {
        bool fresh = converge_has(p, CONVERGE_CREATE) || converge_has(p, CONVERGE_START), unfinished;
        size_t due;

        if (w->vm->n_steps == 0 || mode == CONVERGE_NEVER)
                return;
        due = count_due(w, h, &unfinished);
        if (mode == CONVERGE_ALWAYS || (mode == CONVERGE_AUTO && fresh)) {
                p->n_steps = w->vm->n_steps;
        } else if (mode == CONVERGE_CHANGED || unfinished) {
                p->n_steps = due;
                p->only_changed = true;
        } else
                p->n_left = due;
        if (p->n_steps > 0)
                add(p, CONVERGE_PROVISION);
}

static void plan_start(ConvergePlan *p, Condition c) {
        p->runs = c != CONDITION_DOWN;
        if (p->runs && converge_count(p, CONVERGE_LIVE) > 0)
                add(p, CONVERGE_SET_LIMITS);
        if (!p->runs && converge_count(p, CONVERGE_LIVE) + converge_count(p, CONVERGE_STOPPED) > 0)
                add(p, CONVERGE_UPDATE);
        if (c == CONDITION_SUSPENDED)
                add(p, CONVERGE_RESUME);
        else if (c != CONDITION_UP)
                add(p, CONVERGE_START);
}

int converge_up(const ConvergeWant *w, const ConvergeHave *h, ConvergeProvision mode, bool wait,
                ConvergePlan *ret, Error **reterr) {
        Condition c = condition_of(h->properties);
        int r;

        *ret = (ConvergePlan){};
        if (!h->properties) {
                add(ret, CONVERGE_CREATE);
                add(ret, CONVERGE_START);
        } else {
                r = check_origin(w, h, reterr);
                if (r >= 0)
                        r = check_state(w, c, h->properties, reterr);
                if (r >= 0)
                        r = converge_diff(w, h, c != CONDITION_DOWN, ret);
                if (r < 0)
                        return r == -ENOMEM ? error_set(reterr, ERROR_NO_MEMORY, "Out of memory") : r;
                plan_start(ret, c);
        }
        plan_steps(ret, w, h, mode);
        if (wait)
                converge_add_wait(ret, w->vm);
        return 0;
}

int converge_down(const ConvergeWant *w, const ConvergeHave *h, bool destroy, ConvergePlan *ret,
                Error **reterr) {
        Condition c = condition_of(h->properties);
        int r;

        *ret = (ConvergePlan){};
        if (!h->properties) {
                ret->note = "not there";
                return 0;
        }
        r = check_origin(w, h, reterr);
        if (r < 0)
                return r;
        if (destroy)
                add(ret, CONVERGE_DESTROY);
        else if (c == CONDITION_DOWN || c == CONDITION_PREPARING)
                ret->note = "down already";
        else
                add(ret, CONVERGE_STOP);
        return 0;
}

int converge_remove(const ConvergeWant *w, const ConvergeHave *h, ConvergePlan *ret, Error **reterr) {
        int r;

        *ret = (ConvergePlan){};
        if (!h->properties)
                return 0;
        r = check_origin(w, h, reterr);
        if (r < 0)
                return r;
        if (w->vm->image_url)
                add(ret, CONVERGE_PULL);
        add(ret, CONVERGE_DESTROY);
        return 0;
}

int converge_provision(const ConvergeWant *w, const ConvergeHave *h, bool only_changed, ConvergePlan *ret,
                Error **reterr) {
        Condition c = condition_of(h->properties);
        int r;

        *ret = (ConvergePlan){};
        if (!h->properties)
                return error_set(reterr, ERROR_NO_SUCH_VM, "VM '%s' is not there: 'vmctl up' makes it",
                                w->vm->name);
        r = check_origin(w, h, reterr);
        if (r < 0)
                return r;
        if (w->vm->n_steps == 0) {
                ret->note = "has no steps";
                return 0;
        }
        if (c != CONDITION_UP)
                return error_set(reterr, ERROR_INVALID_STATE,
                                "VM '%s' does not run, it is %s: 'vmctl up' starts and provisions it",
                                w->vm->name, json_get_string(h->properties, "State") ?: "in no known state");
        plan_steps(ret, w, h, only_changed ? CONVERGE_CHANGED : CONVERGE_ALWAYS);
        if (ret->n_actions == 0)
                ret->note = "all steps have run";
        return 0;
}
