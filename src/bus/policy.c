/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "bus-measure.h"
#include "core/bus-paths.h"
#include "policy.h"
#include "vm/broken.h"
#include "vm/vm-index.h"

#define BUS_STRING_OVERHEAD 8 /* its length, its end and what aligns the next one */
#define POLKIT_TIMEOUT (30 * USEC_PER_SEC)
/* Somebody types a password: as long as that takes polkit's own agent, plus a little. */
#define POLKIT_INTERACTIVE_TIMEOUT (5 * 60 * USEC_PER_SEC)

/* By interface and member; a missing member stands for all. The first match counts. */
static const struct {
        const char *interface, *member;
        AccessRule rule;
} rule_table[] = {
        { "org.vmctl1.Manager", "CreateVM", RULE_CREATE },
        { "org.vmctl1.Manager", "CreateVMFromURL", RULE_CREATE },
        { "org.vmctl1.Manager", "PullImage", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "ImportImage", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "InspectImage", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "PruneImages", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "RemoveBrokenRecord", RULE_BROKEN },
        { "org.vmctl1.Manager", "GetVersion", RULE_OPEN },
        { "org.vmctl1.Manager", "GetCapabilities", RULE_OPEN },
        { "org.vmctl1.Manager", NULL, RULE_FILTER },
        { "org.vmctl1.VM", "OpenConsole", RULE_CONSOLE },
        { "org.vmctl1.VM", "OpenConsoleLog", RULE_CONSOLE },
        { "org.vmctl1.VM", "OpenProvisionLog", RULE_CONSOLE },
        { "org.vmctl1.VM", "Qmp", RULE_DEBUG },
        { "org.vmctl1.VM", NULL, RULE_MANAGE },
        { "org.vmctl1.Image", "SetShared", RULE_IMAGE_SHARE },
        { "org.vmctl1.Image", "Export", RULE_IMAGE_READ },
        { "org.vmctl1.Image", NULL, RULE_IMAGE_MANAGE },
        { "org.vmctl1.Job", NULL, RULE_MANAGE },
        { "org.freedesktop.DBus.ObjectManager", NULL, RULE_FILTER },
        { "org.freedesktop.DBus.Introspectable", NULL, RULE_FILTER },
        { "org.freedesktop.DBus.Properties", NULL, RULE_VISIBLE },
        { "org.freedesktop.DBus.Peer", NULL, RULE_OPEN },
};

AccessRule policy_rule(sd_bus_message *call) {
        const char *interface = sd_bus_message_get_interface(call),
                   *member = sd_bus_message_get_member(call);

        /* A call may leave out the interface: then only the member counts. */
        for (size_t i = 0; i < ELEMENTSOF(rule_table); i++) {
                if (interface && !streq(interface, rule_table[i].interface))
                        continue;
                if (rule_table[i].member ? streq(member, rule_table[i].member) : interface != NULL)
                        return rule_table[i].rule;
        }
        return RULE_MANAGE; /* a method that is not there, or an own one called without its interface */
}

/* Does the call have this option, as true, in the a{sv} behind its other arguments? */
static bool asks_for(sd_bus_message *m, const char *option) {
        const char *name, *contents;
        bool found = false;
        char type;
        int b;

        while (sd_bus_message_peek_type(m, &type, NULL) > 0 && type != 'a')
                if (sd_bus_message_skip(m, NULL) < 0)
                        return false;
        if (sd_bus_message_enter_container(m, 'a', "{sv}") > 0)
                while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                        if (sd_bus_message_read(m, "s", &name) < 0 ||
                                        sd_bus_message_peek_type(m, NULL, &contents) < 0)
                                break;
                        if (!streq(name, option) || !streq(contents, "b")) {
                                if (sd_bus_message_skip(m, "v") < 0)
                                        break;
                        } else if (sd_bus_message_read(m, "v", "b", &b) < 0)
                                break;
                        else
                                found = found || b;
                        if (sd_bus_message_exit_container(m) < 0)
                                break;
                }
        (void)sd_bus_message_rewind(m, true);
        return found;
}

static int find_vm_target(const Manager *m, const BusCall *c, const char *name, CallTarget *t) {
        const Vm *vm = manager_find_vm(m, name);

        if (!vm)
                return 0;
        t->kind = CALL_OBJECT_VM;
        t->owner = vm->record.owner;
        t->own = t->owner == c->uid;
        return free_and_strdup(&t->id, vm->record.uuid);
}

static int find_image_target(const Manager *m, const BusCall *c, const char *name, CallTarget *t) {
        const Image *image = image_find(m->images, name);

        if (!image)
                return 0;
        t->kind = CALL_OBJECT_IMAGE;
        t->is_image = true;
        t->owner = image->record.owner;
        t->own = t->owner == c->uid;
        t->shared = image->record.shared;
        return free_and_strdup(&t->id, image->record.uuid);
}

static int find_job_target(const Manager *m, const BusCall *c, const char *number, CallTarget *t) {
        const Job *job;
        uint32_t id;

        job = parse_u32(number, &id) < 0 ? NULL : job_find(&m->core->operations.jobs, id);
        if (!job)
                return 0;
        t->kind = CALL_OBJECT_JOB;
        t->is_image = job->target == JOB_TARGET_IMAGE;
        t->owner = job->owner;
        t->own = job_is_of(job, c->uid);
        if (free_and_strdup(&t->name, job->target_name) < 0)
                return -ENOMEM;
        return free_and_strdup(&t->id, number);
}

static const struct {
        const char *prefix;
        int (*find)(const Manager *m, const BusCall *c, const char *name, CallTarget *t);
} folder_table[] = {
        { BUS_PATH_VM, find_vm_target },
        { BUS_PATH_IMAGE, find_image_target },
        { BUS_PATH_JOB, find_job_target },
};

static int find_object(const Manager *m, const BusCall *c, CallTarget *t) {
        const char *path = sd_bus_message_get_path(c->message);

        for (size_t i = 0; i < ELEMENTSOF(folder_table); i++) {
                _cleanup_free_ char *name = NULL;
                int r;

                r = sd_bus_path_decode(path, folder_table[i].prefix, &name);
                if (r < 0)
                        return r;
                if (r == 0 || isempty(name))
                        continue;
                t->kind = CALL_OBJECT_MISSING;
                r = folder_table[i].find(m, c, name, t);
                if (r >= 0 && !t->name)
                        t->name = TAKE_PTR(name);
                return r;
        }
        return 0;
}

/* What the call would make, for which polkit is asked by its name. */
static int find_new_object(const BusCall *c, CallTarget *t) {
        const char *name = NULL;

        if (c->rule == RULE_IMAGE_ADD)
                t->shared = asks_for(c->message, "shared") || asks_for(c->message, "all");
        t->is_image = c->rule == RULE_IMAGE_ADD;
        if (sd_bus_message_has_signature(c->message, "") ||
                        sd_bus_message_read_basic(c->message, 's', &name) < 0)
                name = NULL;
        (void)sd_bus_message_rewind(c->message, true);
        if (name)
                t->name = t->is_image ? url_without_credentials(name) : strdup(name);
        return name && !t->name ? -ENOMEM : 0;
}

/* It was there when the service started or never will be, so the name stands for nothing else later. */
static int find_broken(const Manager *m, const BusCall *c, CallTarget *t) {
        const char *kind, *name;
        int r;

        r = sd_bus_message_has_signature(c->message, "ss")
                        ? sd_bus_message_read(c->message, "ss", &kind, &name)
                        : 0;
        (void)sd_bus_message_rewind(c->message, true);
        t->own = false;
        t->owner = 0;
        t->is_image = r > 0 && streq(kind, "image");
        if (r <= 0 || !broken_find(m, t->is_image ? JOB_TARGET_IMAGE : JOB_TARGET_VM, name)) {
                t->kind = CALL_OBJECT_MISSING;
                return 0;
        }
        return free_and_strdup(&t->name, name);
}

int policy_find_target(const Manager *m, const BusCall *c, CallTarget *ret) {
        CallTarget t = { .owner = c->uid, .own = true };
        int r;

        if (c->rule == RULE_BROKEN)
                r = find_broken(m, c, &t);
        else if (c->rule == RULE_CREATE || c->rule == RULE_IMAGE_ADD)
                r = find_new_object(c, &t);
        else
                r = find_object(m, c, &t);
        if (r < 0) {
                call_target_done(&t);
                return r;
        }
        *ret = t;
        return 0;
}

/* Something that only .inspect would show. */
static bool hides_something(const Manager *m, uid_t uid) {
        const Image *image;

        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i]->record.owner != uid)
                        return true;
        for (size_t i = 0; (image = image_store_next(m->images, &i));)
                if (!image_may_be_used_by(image, uid))
                        return true;
        return false;
}

const char *policy_action(const Manager *m, const BusCall *c) {
        const CallTarget *t = &c->target;

        if (t->kind == CALL_OBJECT_MISSING || c->uid == 0)
                return NULL;
        /* Nothing stands at the manager's path, or that of a folder, that one could manage. */
        if (t->kind == CALL_OBJECT_NONE && c->rule > RULE_IMAGE_ADD)
                return NULL;
        switch (c->rule) {
        case RULE_OPEN:
                return NULL;
        case RULE_FILTER:
                return hides_something(m, c->uid) ? "org.vmctl1.inspect" : NULL;
        case RULE_VISIBLE:
                return t->own || t->shared ? NULL : "org.vmctl1.inspect";
        case RULE_CREATE:
                return "org.vmctl1.create-vm";
        case RULE_BROKEN:
                return t->is_image ? "org.vmctl1.manage-images" : "org.vmctl1.manage-vm";
        case RULE_IMAGE_ADD:
                return t->shared ? "org.vmctl1.manage-images" : "org.vmctl1.manage-own-images";
        case RULE_IMAGE_READ:
                return t->own || t->shared ? "org.vmctl1.manage-own-images" : "org.vmctl1.manage-images";
        case RULE_IMAGE_MANAGE:
                return t->own ? "org.vmctl1.manage-own-images" : "org.vmctl1.manage-images";
        case RULE_IMAGE_SHARE:
                return "org.vmctl1.manage-images";
        case RULE_MANAGE:
                if (t->kind == CALL_OBJECT_IMAGE)
                        return t->own ? "org.vmctl1.manage-own-images" : "org.vmctl1.manage-images";
                return t->own ? "org.vmctl1.manage-own-vm" : "org.vmctl1.manage-vm";
        case RULE_CONSOLE:
                return "org.vmctl1.open-console";
        case RULE_DEBUG:
                return "org.vmctl1.debug";
        }
        return "org.vmctl1.manage-vm";
}

int policy_ask(sd_bus *polkit, BusCall *c, const char *action, sd_bus_message_handler_t answered) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        /* Only what fails without it is worth a password prompt. */
        bool interactive = c->rule != RULE_FILTER &&
                        sd_bus_message_get_allow_interactive_authorization(c->message) > 0;
        const CallTarget *t = &c->target;
        char owner[16];
        int r;

        (void)snprintf(owner, sizeof(owner), "%u", (unsigned)t->owner);
        r = sd_bus_message_new_method_call(polkit, &m, "org.freedesktop.PolicyKit1",
                        "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
                        "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                sd_bus_message_get_sender(c->message), action);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{ss}us", 5, "vm", t->is_image ? "" : t->name ?: "", "image",
                                t->is_image ? t->name ?: "" : "", "owner", owner, "own",
                                t->own ? "true" : "false", "verb", sd_bus_message_get_member(c->message),
                                (uint32_t)interactive, "");
        if (r < 0)
                return r;
        return sd_bus_call_async(polkit, &c->slot, m, answered, c,
                        interactive ? POLKIT_INTERACTIVE_TIMEOUT : POLKIT_TIMEOUT);
}

static uint64_t sees(const Manager *m, const BusCall *c, uint64_t vm, uint64_t image, uint64_t job) {
        const Image *one;
        uint64_t sum = 0;

        for (size_t i = 0; i < m->n_vms; i++)
                if (c->inspect || m->vms[i]->record.owner == c->uid)
                        sum += vm;
        for (size_t i = 0; (one = image_store_next(m->images, &i));)
                if (c->inspect || image_may_be_used_by(one, c->uid))
                        sum += image;
        for (size_t i = 0; i < m->core->operations.jobs.n; i++)
                if (c->inspect || job_is_of(m->core->operations.jobs.list[i], c->uid))
                        sum += job;
        return sum;
}

static uint64_t usage(const Manager *m, const BusCall *c) {
        uint64_t sum = 0;
        Usage one;

        for (size_t i = 0; accounts_next(m->core->accounts, &i, &one);)
                if (c->inspect || one.uid == c->uid)
                        sum += 64;
        return sum;
}

/* What is as long in a VM's definition as its owner likes */
static uint64_t text_of(const Vm *vm) {
        const VmRecord *rec = &vm->record;
        uint64_t sum = 0;

        for (size_t i = 0; i < ELEMENTSOF(rec->files); i++)
                sum += strlen(rec->files[i].path ?: "");
        STRV_FOREACH(s, rec->provisioned)
                sum += BUS_STRING_OVERHEAD + strlen(*s);
        return sum + strlen(rec->spec.ssh_key ?: "") + strlen(rec->spec.origin ?: "") +
                        strlen(rec->spec.append ?: "");
}

static uint64_t text_of_seen(const Manager *m, const BusCall *c) {
        uint64_t sum = 0;

        for (size_t i = 0; i < m->n_vms; i++)
                if (c->inspect || m->vms[i]->record.owner == c->uid)
                        sum += text_of(m->vms[i]);
        return sum;
}

static uint64_t text_of_target(const Manager *m, const BusCall *c) {
        const Vm *vm = c->target.kind == CALL_OBJECT_VM ? manager_find_vm(m, c->target.name) : NULL;

        return vm ? text_of(vm) : 0;
}

/* What is wrong with a call is told in its own words, by us or by sd-bus, so an answer may be as long as it.
 */
uint64_t policy_answer_size(const Manager *m, const BusCall *c) {
        const char *member = sd_bus_message_get_member(c->message);

        if (streq(member, "GetManagedObjects"))
                return KIB + c->bytes.amount + sees(m, c, 6 * KIB, 2 * KIB, KIB) + text_of_seen(m, c);
        if (streq(member, "Introspect")) /* of a folder, or of an object */
                return 16 * KIB + c->bytes.amount + sees(m, c, 128, 128, 64);
        if (streq(member, "GetAll"))
                return 8 * KIB + c->bytes.amount + text_of_target(m, c);
        if (streq(member, "ListVMs"))
                return sees(m, c, 384, 0, 0) + BUS_MESSAGE_OVERHEAD;
        if (streq(member, "ListImages"))
                return sees(m, c, 0, KIB, 0) + BUS_MESSAGE_OVERHEAD;
        if (streq(member, "ListJobs"))
                return sees(m, c, 0, 0, 256) + BUS_MESSAGE_OVERHEAD;
        if (streq(member, "GetUsage"))
                return usage(m, c) + BUS_MESSAGE_OVERHEAD;
        return KIB + c->bytes.amount;
}
