/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <sys/inotify.h>

#include "machine-names.h"
#include "spec/boot-file.h"
#include "util/log.h"

#define CHANGES (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE | IN_MOVE_SELF)

struct MachineNames {
        sd_event *event;        /* owned */
        const char *folders[3]; /* borrowed, in the order in which they hide each other; NULL at the end */
        BootFiles files;
        bool known;                  /* `files` is what is there */
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

/* The generator has told of what is wrong. */
static void ignore(int priority, const char *format, ...) {
}

static void read_files(MachineNames *n) {
        boot_files_done(&n->files);
        watch(n); /* before the files are read, so that no change is missed */
        if (boot_files_read((char *const *)n->folders, ignore, &n->files) < 0)
                return;
        n->known = true;
        for (size_t i = 0; i < ELEMENTSOF(n->watches); i++)
                n->known = n->known && n->watches[i];
}

const char *machine_names_find(MachineNames *n, const char *name) {
        if (!n->known)
                read_files(n);
        for (size_t i = 0; i < n->files.n; i++)
                if (n->files.files[i].file && vmfile_find(n->files.files[i].file, name))
                        return n->files.files[i].path;
        return NULL;
}
