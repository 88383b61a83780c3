/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shows what the service signals, a line for each thing that happened: changes of state, VMs and images that
 * come and go, events of QEMU, jobs, and whether the service is there at all. Its restart is no end. */

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "client/decode.h"
#include "json-print.h"
#include "term.h"
#include "verbs.h"

#define TIME_LENGTH 32

typedef struct Monitor {
        Ctl *ctl;
        const char *const *names; /* only these; empty: all */
        ServiceWatch *watch;
} Monitor;

static bool is_wanted(const Monitor *m, const char *name) {
        return !m->names[0] || (name && strv_contains((char *const *)m->names, name));
}

/* "10:11:12.345" */
static void format_time(char buf[TIME_LENGTH]) {
        uint64_t now = now_realtime();
        time_t seconds = (time_t)(now / USEC_PER_SEC);
        char clock[TIME_LENGTH / 2];
        struct tm tm;

        if (!localtime_r(&seconds, &tm) || strftime(clock, sizeof(clock), "%H:%M:%S", &tm) == 0)
                clock[0] = '\0';
        (void)snprintf(buf, TIME_LENGTH, "%s.%03u", clock, (unsigned)(now / USEC_PER_MSEC % 1000));
}

/* Something that happened, on its way to be printed. */
typedef struct Happening {
        const char *vm, *image; /* both NULL: it is the service's */
        const char *type;
        const char *what;
        Style style;
        const Json *details; /* borrowed; NULL: none */
        bool properties;     /* these are properties, which come in numbers */
} Happening;

static void print_json(const Happening *h) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(0, &w) < 0)
                return;
        json_write_object(w);
        json_put_unsigned(w, "Time", now_realtime());
        json_put_string(w, "Type", h->type);
        json_put_string(w, "VM", h->vm);
        if (h->image)
                json_put_string(w, "Image", h->image);
        json_put_string(w, "What", h->what);
        json_write_key(w, "Details");
        if (h->details)
                json_write_value(w, h->details);
        else {
                json_write_object(w);
                json_write_end(w);
        }
        json_write_end(w);
        (void)json_print(w);
}

/* Properties whose change is worth a word besides the state; the rest is for JSON. */
static const char *const told[] = { "FailureReason", "FailureMessage", "PID", "QMPStatus", "ShutdownReason",
        "Spec" };

static bool is_told(const char *property) {
        for (size_t i = 0; i < ELEMENTSOF(told); i++)
                if (streq(told[i], property))
                        return true;
        return false;
}

/* " key=value", or only the key of what has no short value. */
static void print_detail(const char *key, const Json *v) {
        const char *string = json_string(v);
        int64_t n;

        if (string && *string == '\0')
                return;
        printf(" ");
        term_print(stdout, key);
        if (string) {
                putchar('=');
                term_print(stdout, string);
        } else if (json_boolean(v) >= 0)
                printf("=%s", json_boolean(v) ? "yes" : "no");
        else if (json_integer(v, &n) >= 0)
                printf("=%" PRId64, n);
}

static void print_text(const Happening *h) {
        char when[TIME_LENGTH];

        format_time(when);
        printf("%s%s%s ", term_style(stdout, STYLE_DIM), when, term_normal(stdout));
        printf("%s", h->image ? "image " : "");
        term_print(stdout, h->image ?: h->vm ?: "vmctld");
        printf(" %s", h->type);
        if (*h->what) {
                printf(" %s", term_style(stdout, h->style));
                term_print(stdout, h->what);
                printf("%s", term_normal(stdout));
        }
        for (size_t i = 0; i < json_length(h->details); i++)
                if (!h->properties || is_told(json_key(h->details, i)))
                        print_detail(json_key(h->details, i), json_member(h->details, i));
        putchar('\n');
}

/* Whether a line would have something to say. */
static bool is_worth_a_line(const Happening *h) {
        if (!h->properties || *h->what)
                return true;
        for (size_t i = 0; i < json_length(h->details); i++)
                if (is_told(json_key(h->details, i)))
                        return true;
        return false;
}

static int print(Monitor *m, const Happening *h) {
        if (!m->ctl->json && !is_worth_a_line(h))
                return 0;
        if (m->ctl->json)
                print_json(h);
        else
                print_text(h);
        return fflush(stdout) == 0 ? 0 : -errno;
}

static int on_vm_new(Monitor *m, sd_bus_message *message) {
        const char *name, *path;

        if (sd_bus_message_read(message, "so", &name, &path) < 0 || !is_wanted(m, name))
                return 0;
        return print(m, &(Happening){ .vm = name, .type = "new", .what = "" });
}

static int on_vm_removed(Monitor *m, sd_bus_message *message) {
        const char *name, *path;

        if (sd_bus_message_read(message, "so", &name, &path) < 0 || !is_wanted(m, name))
                return 0;
        return print(m, &(Happening){ .vm = name, .type = "removed", .what = "" });
}

static int print_image(Monitor *m, sd_bus_message *message, const char *type) {
        const char *name, *path;

        if (sd_bus_message_read(message, "so", &name, &path) < 0 || !is_wanted(m, NULL))
                return 0;
        return print(m, &(Happening){ .image = name, .type = type, .what = "" });
}

static int on_image_new(Monitor *m, sd_bus_message *message) {
        return print_image(m, message, "new");
}

static int on_image_removed(Monitor *m, sd_bus_message *message) {
        return print_image(m, message, "removed");
}

static int print_job(Monitor *m, uint32_t id, const char *object, const char *what) {
        _cleanup_free_ char *vm = client_vm_name(object), *image = client_image_name(object),
                            *type = strf("job %" PRIu32, id);

        if (!type)
                return -ENOMEM;
        if (!is_wanted(m, vm))
                return 0;
        return print(m, &(Happening){ .vm = vm, .image = image, .type = type, .what = what });
}

static int on_job_new(Monitor *m, sd_bus_message *message) {
        const char *job, *object;
        uint32_t id;

        if (sd_bus_message_read(message, "uoo", &id, &job, &object) < 0)
                return 0;
        return print_job(m, id, object, "began");
}

static int on_job_removed(Monitor *m, sd_bus_message *message) {
        const char *job, *object, *result;
        uint32_t id;

        if (sd_bus_message_read(message, "uoos", &id, &job, &object, &result) < 0)
                return 0;
        return print_job(m, id, object, result);
}

static int on_event(Monitor *m, sd_bus_message *message) {
        _cleanup_free_ char *vm = client_vm_name(sd_bus_message_get_path(message));
        _cleanup_json_ Json *details = NULL;
        const char *event;

        if (!vm || !is_wanted(m, vm) || sd_bus_message_read(message, "s", &event) < 0 ||
                        client_decode(message, &details) < 0)
                return 0;
        return print(m, &(Happening){ .vm = vm, .type = "event", .what = event, .details = details });
}

static int on_properties(Monitor *m, sd_bus_message *message) {
        _cleanup_free_ char *vm = client_vm_name(sd_bus_message_get_path(message));
        _cleanup_json_ Json *changed = NULL;
        const char *interface, *state;

        if (!vm || !is_wanted(m, vm) || sd_bus_message_read(message, "s", &interface) < 0 ||
                        !streq(interface, VMCTL_VM) || client_decode(message, &changed) < 0)
                return 0;
        state = json_get_string(changed, "State");
        return print(m,
                        &(Happening){
                                        .vm = vm,
                                        .type = state ? "state" : "changed",
                                        .what = state ?: "",
                                        .style = style_of_state(state ?: ""),
                                        .details = changed,
                                        .properties = true,
                        });
}

/* We were stopped, or whoever reads what we print was. */
static int on_signals_lost(Monitor *m, sd_bus_message *message) {
        return print(m, &(Happening){ .type = "service", .what = "did not keep all that happened" });
}

static const struct {
        const char *interface, *member;
        int (*handle)(Monitor *m, sd_bus_message *message);
} signals[] = {
        { VMCTL_MANAGER, "VMNew", on_vm_new },
        { VMCTL_MANAGER, "VMRemoved", on_vm_removed },
        { VMCTL_MANAGER, "ImageNew", on_image_new },
        { VMCTL_MANAGER, "ImageRemoved", on_image_removed },
        { VMCTL_MANAGER, "JobNew", on_job_new },
        { VMCTL_MANAGER, "JobRemoved", on_job_removed },
        { VMCTL_MANAGER, "SignalsLost", on_signals_lost },
        { VMCTL_VM, "Event", on_event },
        { "org.freedesktop.DBus.Properties", "PropertiesChanged", on_properties },
};

static int on_signal(sd_bus_message *message, void *userdata, sd_bus_error *reterr) {
        Monitor *m = userdata;

        if (!client_from_service(m->ctl->client, message))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (sd_bus_message_is_signal(message, signals[i].interface, signals[i].member))
                        return signals[i].handle(m, message);
        return 0;
}

/* The service tells those who have called it, and each of them what they may see. */
static int introduce(Monitor *m, sd_bus_message_handler_t answered) {
        return sd_bus_call_method_async(client_bus(m->ctl->client), NULL, VMCTL_SERVICE, VMCTL_MANAGER_PATH,
                        VMCTL_MANAGER, "ListVMs", answered, m, NULL);
}

static int on_introduced(sd_bus_message *message, void *userdata, sd_bus_error *reterr) {
        if (sd_bus_message_is_method_error(message, NULL))
                return 0;
        return print(userdata, &(Happening){ .type = "service", .what = "running" });
}

static void on_service_changed(void *userdata, bool present) {
        if (present)
                (void)introduce(userdata, NULL);
        (void)print(userdata, &(Happening){ .type = "service", .what = present ? "started" : "gone" });
}

static int subscribe(Monitor *m) {
        int r;

        r = service_watch_new(m->ctl->client, on_service_changed, m, &m->watch);
        if (r >= 0)
                r = sd_bus_add_match(client_bus(m->ctl->client), NULL,
                                "type='signal',sender='" VMCTL_SERVICE
                                "',path_namespace='" VMCTL_MANAGER_PATH "'",
                                on_signal, m);
        return r;
}

/* A service that does not run yet isn't started for the sake of looking at it. */
static int find_service(Monitor *m) {
        if (sd_bus_get_name_creds(client_bus(m->ctl->client), VMCTL_SERVICE, 0, NULL) >= 0)
                return introduce(m, on_introduced);
        return print(m, &(Happening){ .type = "service", .what = "not running" });
}

int verb_monitor(Ctl *c, const Args *args) {
        Monitor m = { .ctl = c, .names = args->words };
        int r;

        r = ctl_connect(c);
        if (r != 0)
                return r;
        r = subscribe(&m);
        if (r >= 0)
                r = find_service(&m);
        while (r >= 0)
                r = ctl_step(c, UINT64_MAX, NULL);
        service_watch_free(m.watch);
        return ctl_report(c, NULL, r, "The connection to the bus ended");
}
