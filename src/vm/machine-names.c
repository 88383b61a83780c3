/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "machine-names.h"
#include "spec/boot-file.h"
#include "util/log.h"

#define CHANGES (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE | IN_MOVE_SELF)

struct MachineNames {
        sd_event *event;        /* owned */
        const char *folders[3]; /* borrowed, in the order in which they hide each other; NULL at the end */
        BootFiles files;
        bool known;                  /* `files` is what is there */
        bool told;                   /* of a file that we may not read */
        sd_event_source *watches[2]; /* owned; NULL: that folder is looked at each time */
};

static int on_change(sd_event_source *s, const struct inotify_event *e, void *userdata) {
        MachineNames *n = userdata;

        n->known = false;
        return 0;
}

/* A folder that is not there, or that nobody can watch any more, makes no names stale that we would keep. */
static void watch(MachineNames *n) {
        for (size_t i = 0; i < ELEMENTSOF(n->watches); i++) {
                n->watches[i] = sd_event_source_disable_unref(n->watches[i]);
                if (sd_event_add_inotify(n->event, &n->watches[i], n->folders[i], CHANGES | IN_ONLYDIR,
                                    on_change, n) < 0)
                        n->watches[i] = NULL;
        }
}

int machine_names_new(sd_event *event, const char *conf_dir, MachineNames **ret) {
        MachineNames *n = malloc(sizeof(MachineNames));

        if (!n)
                return -ENOMEM;
        *n = (MachineNames){ .event = sd_event_ref(event), .folders = { conf_dir, VMFILE_VENDOR_FOLDER } };
        *ret = n;
        return 0;
}

MachineNames *machine_names_free(MachineNames *n) {
        if (!n)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(n->watches); i++)
                sd_event_source_disable_unref(n->watches[i]);
        boot_files_done(&n->files);
        sd_event_unref(n->event);
        free(n);
        return NULL;
}

static void ignore(int priority, const char *format, ...) {
}

/* The generator has told of what is wrong with the files. But it is root's, and may read all of them. */
static void tell_of_unreadable(MachineNames *n) {
        bool tell = !n->told;

        n->told = false;
        for (size_t i = 0; i < n->files.n; i++) {
                const BootFile *f = &n->files.files[i];

                if (f->file || access(f->path, R_OK) >= 0 || errno != EACCES)
                        continue;
                n->told = true;
                if (tell)
                        log_warning("'%s' is not readable for the service's user, so others than root may "
                                    "take the "
                                    "names of its VMs: chmod o+r",
                                        f->path);
        }
}

void machine_names_read(MachineNames *n) {
        boot_files_done(&n->files);
        watch(n); /* before the files are read, so that no change is missed */
        if (boot_files_read((char *const *)n->folders, ignore, &n->files) < 0)
                return;
        n->known = true;
        for (size_t i = 0; i < ELEMENTSOF(n->watches); i++)
                n->known = n->known && n->watches[i];
        tell_of_unreadable(n);
}

const char *machine_names_find(MachineNames *n, const char *name) {
        if (!n->known)
                machine_names_read(n);
        for (size_t i = 0; i < n->files.n; i++)
                if (n->files.files[i].file && vmfile_find(n->files.files[i].file, name))
                        return n->files.files[i].path;
        return NULL;
}
