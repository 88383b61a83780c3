/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "access.h"
#include "bus-paths.h"
#include "util/log.h"

#define BUS_CALL_TIMEOUT (10 * USEC_PER_SEC)
#define POLKIT_TIMEOUT (30 * USEC_PER_SEC)
/* Somebody types a password: as long as that takes polkit's own agent, plus a little. */
#define POLKIT_INTERACTIVE_TIMEOUT (5 * 60 * USEC_PER_SEC)
#define QUESTIONS_MAX 1024 /* calls that wait for polkit at once; beyond, callers are refused */

typedef enum Rule {
        RULE_OPEN,    /* anybody may */
        RULE_FILTER,  /* anybody may, but sees only what they may see */
        RULE_VISIBLE, /* must be allowed to see the object */
        RULE_CREATE,
        RULE_IMAGE_ADD,  /* for oneself, or for all of the host */
        RULE_IMAGE_READ, /* by whom it is for */
        RULE_IMAGE_MANAGE,
        RULE_IMAGE_SHARE,
        RULE_MANAGE,
        RULE_CONSOLE,
        RULE_DEBUG,
} Rule;

/* By interface and member; a missing member stands for all. The first match counts. */
static const struct {
        const char *interface, *member;
        Rule rule;
} rule_table[] = {
        { "org.vmctl1.Manager", "CreateVM", RULE_CREATE },
        { "org.vmctl1.Manager", "CreateVMFromURL", RULE_CREATE },
        { "org.vmctl1.Manager", "PullImage", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "ImportImage", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "InspectImage", RULE_IMAGE_ADD },
        { "org.vmctl1.Manager", "PruneImages", RULE_IMAGE_ADD },
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

typedef struct Question {
        Access *access;
        sd_bus_message *call;
        sd_bus_slot *slot; /* what we wait for */
        uid_t uid;
        bool inspect; /* may see everybody's VMs */
        bool decided;
        Rule rule;
        struct Question *next;
} Question;

struct Access {
        sd_bus *bus;      /* borrowed */
        Manager *manager; /* borrowed */
        sd_bus_slot *filter;
        Question *questions; /* owned */
        Question *current;   /* owned: of the call that is dispatched; for its turn of the loop */
        sd_event_source *drop;
        size_t n;
};

static Question *question_free(Question *q) {
        if (!q)
                return NULL;
        sd_bus_slot_unref(q->slot);
        sd_bus_message_unref(q->call);
        free(q);
        return NULL;
}

static void unlink_question(Question *q) {
        for (Question **p = &q->access->questions; *p; p = &(*p)->next)
                if (*p == q) {
                        *p = q->next;
                        q->access->n--;
                        return;
                }
}

Access *access_free(Access *a) {
        if (!a)
                return NULL;
        sd_bus_slot_unref(a->filter);
        while (a->questions) {
                Question *q = a->questions;

                a->questions = q->next;
                question_free(q);
        }
        question_free(a->current);
        sd_event_source_disable_unref(a->drop);
        free(a);
        return NULL;
}

static const Question *dispatched(const Access *a) {
        return a->current && sd_bus_get_current_message(a->bus) == a->current->call ? a->current : NULL;
}

uid_t access_caller_uid(const Access *a) {
        const Question *q = dispatched(a);

        return q ? q->uid : a->manager->config.system ? 0 : geteuid();
}

bool access_may_see(const Access *a, uid_t owner) {
        const Question *q = dispatched(a);

        return !q || q->uid == 0 || q->uid == owner || q->inspect;
}

bool access_may_use(const Access *a, uid_t owner) {
        const Question *q = dispatched(a);

        return access_may_see(a, owner) || q->rule == RULE_MANAGE || q->rule == RULE_CONSOLE ||
                        q->rule == RULE_DEBUG || q->rule == RULE_IMAGE_MANAGE ||
                        q->rule == RULE_IMAGE_SHARE || q->rule == RULE_IMAGE_READ;
}

static void refuse(Question *q, const char *name, const char *message) {
        unlink_question(q);
        (void)sd_bus_reply_method_errorf(q->call, name, "%s", message);
        question_free(q);
}

static void deny(Question *q, const char *message) {
        refuse(q, SD_BUS_ERROR_ACCESS_DENIED, message);
}

/* The verdict waits in the list until the call comes by again. */
static void let_pass(Question *q) {
        q->decided = true;
        if (sd_bus_message_rewind(q->call, true) < 0 || sd_bus_enqueue_for_read(q->access->bus, q->call) < 0)
                refuse(q, SD_BUS_ERROR_NO_MEMORY, "Out of memory");
}

static int on_still_there(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Question *q = userdata;
        int there = 0;

        q->slot = sd_bus_slot_unref(q->slot);
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "b", &there) < 0 || !there) {
                unlink_question(q);
                question_free(q);
        } else
                let_pass(q);
        return 0;
}

static int call_bus(Question *q, const char *method, sd_bus_message_handler_t reply) {
        return sd_bus_call_method_async(q->access->bus, &q->slot, "org.freedesktop.DBus",
                        "/org/freedesktop/DBus", "org.freedesktop.DBus", method, reply, q, "s",
                        sd_bus_message_get_sender(q->call));
}

/* polkit may have taken minutes. What a caller who has gone meanwhile wanted is not done. */
static void pass_if_still_there(Question *q) {
        if (call_bus(q, "NameHasOwner", on_still_there) < 0)
                deny(q, "Cannot ask the bus for the caller");
}

static int on_polkit(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        int authorized = 0, challenge = 0;
        Question *q = userdata;

        q->slot = sd_bus_slot_unref(q->slot);
        if (sd_bus_message_is_method_error(m, NULL)) {
                const sd_bus_error *e = sd_bus_message_get_error(m);

                log_debug("polkit failed: %s", e->message);
                if (q->rule == RULE_FILTER)
                        pass_if_still_there(q);
                else
                        deny(q,
                                        sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN)
                                                        ? "Only root may do this: polkit is not installed"
                                                        : "polkit did not answer");
                return 0;
        }
        if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 ||
                        sd_bus_message_read(m, "bb", &authorized, &challenge) < 0)
                authorized = challenge = 0;
        if (authorized)
                q->inspect = q->rule == RULE_FILTER || q->rule == RULE_VISIBLE || q->inspect;
        if (authorized || q->rule == RULE_FILTER)
                pass_if_still_there(q);
        else if (challenge && sd_bus_message_get_allow_interactive_authorization(q->call) <= 0)
                refuse(q, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                "A password is required for this");
        else
                deny(q, "Permission denied by polkit");
        return 0;
}

typedef struct Details {
        char *vm; /* owned, as image; may be NULL */
        char *image;
        uid_t owner;
        bool own;
        bool shared; /* an image that everybody may use, or is to become one */
} Details;

static int ask_polkit(Question *q, const char *action, const Details *d) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        /* Only what fails without it is worth a password prompt. */
        bool interactive = q->rule != RULE_FILTER &&
                        sd_bus_message_get_allow_interactive_authorization(q->call) > 0;
        char owner[16];
        int r;

        (void)snprintf(owner, sizeof(owner), "%u", (unsigned)d->owner);
        r = sd_bus_message_new_method_call(q->access->bus, &m, "org.freedesktop.PolicyKit1",
                        "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
                        "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                sd_bus_message_get_sender(q->call), action);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{ss}us", 5, "vm", d->vm ?: "", "image", d->image ?: "",
                                "owner", owner, "own", d->own ? "true" : "false", "verb",
                                sd_bus_message_get_member(q->call), (uint32_t)interactive, "");
        if (r >= 0)
                r = sd_bus_call_async(q->access->bus, &q->slot, m, on_polkit, q,
                                interactive ? POLKIT_INTERACTIVE_TIMEOUT : POLKIT_TIMEOUT);
        return r;
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

static void find_image_details(const Question *q, const char *name, Details *ret) {
        const Image *image = image_find(q->access->manager->images, name);

        if (image)
                *ret = (Details){ .image = strdup(name),
                        .owner = image->record.owner,
                        .own = image->record.owner == q->uid,
                        .shared = image->record.shared };
}

/* Whose VM or image the call is about. */
static void find_details(const Question *q, Details *ret) {
        const char *path = sd_bus_message_get_path(q->call), *name;
        const Manager *m = q->access->manager;
        _cleanup_free_ char *part = NULL;
        const Vm *vm = NULL;
        const Job *job;
        uint32_t id;

        *ret = (Details){ .owner = q->uid, .own = true };
        if (q->rule == RULE_CREATE) {
                if (sd_bus_message_read(q->call, "s", &name) >= 0)
                        ret->vm = strdup(name);
                (void)sd_bus_message_rewind(q->call, true);
        } else if (q->rule == RULE_IMAGE_ADD) {
                ret->shared = asks_for(q->call, "shared") || asks_for(q->call, "all");
                if (!streq(sd_bus_message_get_member(q->call), "PruneImages") &&
                                sd_bus_message_read(q->call, "s", &name) >= 0)
                        ret->image = url_without_credentials(name);
                (void)sd_bus_message_rewind(q->call, true);
        } else if (sd_bus_path_decode(path, BUS_PATH_IMAGE, &part) > 0)
                find_image_details(q, part, ret);
        else if (sd_bus_path_decode(path, BUS_PATH_VM, &part) > 0)
                vm = manager_find_vm(m, part);
        else if (sd_bus_path_decode(path, BUS_PATH_JOB, &part) > 0 && parse_u32(part, &id) >= 0) {
                job = job_find(m, id);
                if (job)
                        *ret = (Details){ .owner = job->owner, .own = job->owner == q->uid };
                if (job && job->target == JOB_TARGET_VM)
                        ret->vm = strdup(job->target_name);
                else if (job)
                        ret->image = strdup(job->target_name);
        }
        if (vm)
                *ret = (Details){ .vm = strdup(vm_name(vm)),
                        .owner = vm->record.owner,
                        .own = vm->record.owner == q->uid };
}

/* Something that only .inspect would show. */
static bool hides_something(const Question *q) {
        const Manager *m = q->access->manager;

        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i]->record.owner != q->uid)
                        return true;
        for (size_t i = 0; i < m->images->n_images; i++)
                if (!image_may_be_used_by(m->images->images[i], q->uid))
                        return true;
        return false;
}

static const char *action_of(const Question *q, const Details *d) {
        switch (q->rule) {
        case RULE_OPEN:
                return NULL;
        case RULE_FILTER:
                return hides_something(q) ? "org.vmctl1.inspect" : NULL;
        case RULE_VISIBLE:
                return d->own || d->shared ? NULL : "org.vmctl1.inspect";
        case RULE_CREATE:
                return "org.vmctl1.create-vm";
        case RULE_IMAGE_ADD:
                return d->shared ? "org.vmctl1.manage-images" : "org.vmctl1.manage-own-images";
        case RULE_IMAGE_READ:
                return d->own || d->shared ? "org.vmctl1.manage-own-images" : "org.vmctl1.manage-images";
        case RULE_IMAGE_MANAGE:
                return d->own ? "org.vmctl1.manage-own-images" : "org.vmctl1.manage-images";
        case RULE_IMAGE_SHARE:
                return "org.vmctl1.manage-images";
        case RULE_MANAGE:
                return d->own ? "org.vmctl1.manage-own-vm" : "org.vmctl1.manage-vm";
        case RULE_CONSOLE:
                return "org.vmctl1.open-console";
        case RULE_DEBUG:
                return "org.vmctl1.debug";
        }
        return "org.vmctl1.manage-vm";
}

static void decide(Question *q) {
        const char *action;
        Details d;

        if (q->uid == 0) {
                q->inspect = true;
                let_pass(q);
                return;
        }
        find_details(q, &d);
        action = action_of(q, &d);
        if (!action)
                let_pass(q);
        else if (ask_polkit(q, action, &d) < 0)
                deny(q, "Cannot ask polkit");
        free(d.vm);
        free(d.image);
}

static int read_uid(sd_bus_message *m, uid_t *ret) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;
                uint32_t uid;

                r = sd_bus_message_read(m, "s", &key);
                if (r < 0)
                        return r;
                if (streq(key, "UnixUserID")) {
                        r = sd_bus_message_read(m, "v", "u", &uid);
                        *ret = uid;
                        return r;
                }
                r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : -ENODATA;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Question *q = userdata;

        q->slot = sd_bus_slot_unref(q->slot);
        if (sd_bus_message_is_method_error(m, NULL) || read_uid(m, &q->uid) < 0)
                deny(q, "The bus does not know who calls");
        else
                decide(q);
        return 0;
}

static Rule rule_for(sd_bus_message *m) {
        const char *interface = sd_bus_message_get_interface(m), *member = sd_bus_message_get_member(m);

        /* A call may leave out the interface: then only the member counts. */
        for (size_t i = 0; i < ELEMENTSOF(rule_table); i++) {
                if (interface && !streq(interface, rule_table[i].interface))
                        continue;
                if (rule_table[i].member ? streq(member, rule_table[i].member) : interface != NULL)
                        return rule_table[i].rule;
        }
        return RULE_MANAGE; /* a method that is not there, or an own one called without its interface */
}

static int ask(Access *a, sd_bus_message *m) {
        Question *q;

        if (a->n >= QUESTIONS_MAX)
                return sd_bus_reply_method_errorf(
                                m, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too many calls are waiting for polkit");
        q = malloc(sizeof(Question));
        if (!q)
                return -ENOMEM;
        *q = (Question){
                .access = a, .call = sd_bus_message_ref(m), .rule = rule_for(m), .next = a->questions
        };
        a->questions = q;
        a->n++;
        if (call_bus(q, "GetConnectionCredentials", on_credentials) < 0)
                deny(q, "Cannot ask the bus for the caller");
        return 1;
}

/* A call that is kept keeps its descriptors open: whoever reads from a pipe would wait for its end. */
static int on_dispatched(sd_event_source *s, void *userdata) {
        Access *a = userdata;

        question_free(a->current);
        a->current = NULL;
        return 0;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *path = sd_bus_message_get_path(m), *rest;
        Access *a = userdata;
        uint8_t type;

        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        rest = path ? startswith(path, BUS_PATH_MANAGER) : NULL;
        if (!rest || (*rest != '\0' && *rest != '/') || rule_for(m) == RULE_OPEN)
                return 0;
        for (Question *q = a->questions; q; q = q->next)
                if (q->call == m && q->decided) {
                        /* Only calls that ask for all tell whether the caller may see all. */
                        audience_note(a->manager->audience, sd_bus_message_get_sender(m), q->uid,
                                        q->rule == RULE_FILTER || q->inspect ? q->inspect : -1);
                        unlink_question(q);
                        question_free(a->current);
                        a->current = q;
                        (void)sd_event_source_set_enabled(a->drop, SD_EVENT_ONESHOT);
                        return 0;
                }
        return ask(a, m);
}

int access_new(sd_bus *bus, Manager *manager, Access **ret) {
        _cleanup_(access_freep) Access *a = malloc(sizeof(Access));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Access){ .bus = bus, .manager = manager };
        if (manager->config.system) {
                r = sd_event_add_defer(manager->event, &a->drop, on_dispatched, a);
                if (r >= 0)
                        r = sd_event_source_set_enabled(a->drop, SD_EVENT_OFF);
                if (r >= 0)
                        r = sd_bus_add_filter(bus, &a->filter, on_message, a);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(a);
        return 0;
}
