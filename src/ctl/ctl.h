/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a verb works with: the options that hold for all verbs, and the service on its bus.
 *
 * vmctl blocks on its calls; only where it waits for something that can take long does it also listen. */

#include <systemd/sd-bus.h>

#include "args.h"
#include "util/string-util.h"
#include "json/json.h"

#define CTL_SERVICE "org.vmctl1"
#define CTL_MANAGER_PATH "/org/vmctl1"
#define CTL_MANAGER CTL_SERVICE ".Manager"
#define CTL_VM CTL_SERVICE ".VM"
#define CTL_JOB CTL_SERVICE ".Job"
#define CTL_IMAGE CTL_SERVICE ".Image"
#define CTL_VM_PREFIX CTL_MANAGER_PATH "/vm"
#define CTL_IMAGE_PREFIX CTL_MANAGER_PATH "/image"
#define CTL_JOB_PREFIX CTL_MANAGER_PATH "/job"

#define EXIT_USAGE 2
#define EXIT_TIMED_OUT 124

typedef enum BusChoice {
        BUS_AUTO,
        BUS_SYSTEM,
        BUS_USER,
} BusChoice;

struct Ctl {
        BusChoice choice;
        const char *host; /* -H; borrowed from argv */
        bool json;
        bool ask_password;

        sd_bus *bus;
        bool bus_is_user;
        char *owner; /* unique name of the service, from its last reply or its coming and going */
        sd_bus_slot *follow;
        void (*service_changed)(void *userdata, bool present);
        void *service_changed_userdata;
        pid_t agent; /* polkit's text agent; 0: none */
        bool agent_tried;
};

/* Connects; reports failure. */
int ctl_connect(Ctl *c);
void ctl_done(Ctl *c);

/* Whom the bus takes us for: on another host that is not the user who calls. */
int ctl_get_user(Ctl *c, uid_t *ret);

/* The object of a VM or an image. NULL when memory is short. */
char *ctl_vm_path(const char *name);
char *ctl_image_path(const char *name);
/* The name behind an object of a VM or an image; NULL if it is none. The caller frees. */
char *ctl_vm_name(const char *path);
char *ctl_image_name(const char *path);

/* A call to a VM or the manager, to be filled with arguments. Reports failure. */
int ctl_new_call(Ctl *c, const char *path, const char *interface, const char *member, sd_bus_message **ret);

/* A failed call to an image: as what is said where there is no such object, the image's name is told. */
void ctl_name_image(sd_bus_error *e, const char *name);

/* Sends a call and waits for its reply. When polkit wants to ask somebody, an agent is started on the
 * terminal and the call repeated. timeout_usec 0: the default. `reterr` is set on failure. */
int ctl_call(Ctl *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                sd_bus_error *reterr);

/* The same for a call whose reply is a descriptor, which is returned. */
int ctl_call_fd(Ctl *c, sd_bus_message *call, sd_bus_error *reterr);

/* All properties of an object as a tree: named as on the bus. */
int ctl_get_all(Ctl *c, const char *path, const char *interface, Json **ret, sd_bus_error *reterr);
static inline int ctl_get_vm(Ctl *c, const char *path, Json **ret, sd_bus_error *reterr) {
        return ctl_get_all(c, path, CTL_VM, ret, reterr);
}

/* Whether the failure is polkit's wish to ask somebody, and asking is allowed. */
bool ctl_wants_to_ask(const Ctl *c, const sd_bus_error *e);
/* ctl_call() with leave to ask from the start. */
int ctl_call_asking(Ctl *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                sd_bus_error *reterr);

/* Whether a signal came from the service, not from somebody who sends its likes. */
bool ctl_from_service(const Ctl *c, sd_bus_message *m);
/* Takes the service's unique name from a reply of it. */
int ctl_note_owner(Ctl *c, sd_bus_message *reply);
/* Keeps up with the service. From now on `changed` is called when it has come or gone; NULL: nobody is. */
int ctl_follow_service(Ctl *c, void (*changed)(void *userdata, bool present), void *userdata);

/* Prints "vmctl: WHAT: MESSAGE", or the message alone where it names the same object, and a hint on a second
 * line where there is one. Returns a negative errno, or EXIT_TIMED_OUT where waiting was what failed. `e`
 * may be unset, then r tells the error. */
int ctl_report(Ctl *c, const sd_bus_error *e, int r, const char *format, ...) _printf_(4, 5);

/* The same for an error that isn't the bus's; hint may be NULL. Returns -EIO. */
int ctl_complain(const char *hint, const char *format, ...) _printf_(2, 3);

/* Says on standard error what the user should know of a VM that was started. `name` is put before it where
 * there are several; NULL: there is one. */
void ctl_print_warnings(Ctl *c, const char *path, const char *name);

/* The message and hint for people of an error, for those who print it in another form. Both borrowed from
 * tables or `e`; the hint may be NULL. */
void ctl_explain(
                const Ctl *c, const sd_bus_error *e, int r, const char **ret_message, const char **ret_hint);

static inline int ctl_oom(void) {
        return ctl_complain(NULL, "Out of memory");
}

struct Progress;

/* Handles what the bus has, or waits for it until `deadline` (CLOCK_MONOTONIC; UINT64_MAX: for ever). 0 when
 * something may have happened; -ETIMEDOUT at the deadline; another error when the bus is gone. */
int ctl_step(Ctl *c, uint64_t deadline, struct Progress *progress);
