/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <limits.h>
#include <unistd.h>

#include "converge-load.h"
#include "spec-args.h"
#include "step.h"
#include "util/nearest.h"

void converge_set_done(ConvergeSet *s) {
        for (size_t i = 0; i < s->n; i++)
                converge_item_done(&s->items[i]);
        free(s->items);
        project_done(&s->project);
        *s = (ConvergeSet){};
}

/* The file as others may have noted it: its folder without links, so that it has one name only. */
static char *origin_of(const Project *p) {
        const char *slash = strrchr(p->path, '/'), *name = slash ? slash + 1 : p->path;

        return strf("%s/%s", streq(p->folder, "/") ? "" : p->folder, name);
}

static int fail(const ConvergeItem *i, const Error *e, int r) {
        ctl_complain(e ? error_code_hint(error_code(e)) : NULL, "vm '%s': %s", i->vm->name,
                        e ? error_message(e) : strerror(-r));
        return r;
}

/* A file that is missing is found when it is needed. */
static char *real_path(const char *path) {
        char *real = path ? realpath(path, NULL) : NULL;

        return real ?: path ? strdup(path) : NULL;
}

static int read_steps(ConvergeItem *i) {
        for (size_t k = 0; k < i->vm->n_steps; k++) {
                _cleanup_error_ Error *e = NULL;
                char *fingerprint = NULL;
                int r;

                r = step_fingerprint(&i->vm->steps[k], &fingerprint, &e);
                if (r >= 0)
                        r = strv_push(&i->want.fingerprints, fingerprint);
                if (r < 0)
                        return fail(i, e, r);
        }
        return 0;
}

static int read_definition(ConvergeItem *i, const char *origin, ConvergeLoadFlags flags) {
        _cleanup_free_ char *key = NULL;
        _cleanup_error_ Error *e = NULL;
        int r = 0;

        if (i->vm->ssh_key && (flags & CONVERGE_LOAD_FILES))
                r = spec_read_text(i->vm->ssh_key, "ssh-key", &key, &e);
        if (r >= 0)
                r = converge_want_init(&i->want, i->vm, origin, key, &e);
        if (r < 0)
                return fail(i, e, r);
        i->want.image = real_path(i->vm->image);
        i->want.kernel = real_path(i->vm->kernel);
        i->want.initrd = real_path(i->vm->initrd);
        return flags & CONVERGE_LOAD_STEPS ? read_steps(i) : 0;
}

static int ask_image(Ctl *c, ConvergeItem *i, const char *name) {
        _cleanup_free_ char *path = client_image_path(name);
        _cleanup_json_ Json *image = NULL;
        int r;

        if (!path)
                return -ENOMEM;
        if (client_get_all(c->client, path, VMCTL_IMAGE, &image, NULL) < 0)
                return 0; /* removed, or not for us to see */
        r = free_and_strdup(&i->image_url, json_get_string(image, "URL"));
        return r < 0 ? r : free_and_strdup(&i->image_sha256, json_get_string(image, "SHA256"));
}

static int ask_service(Ctl *c, ConvergeItem *i, const char *origin) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(i->vm->name);
        const char *image, *theirs;
        const Json *spec;
        int r;

        r = client_get_user(c->client, &i->user);
        if (r < 0)
                return ctl_report(c, NULL, r, "The bus does not tell who we are");
        r = path ? client_get_all(c->client, path, VMCTL_VM, &i->properties, &error) : -ENOMEM;
        if (error_is(error, ERROR_NO_SUCH_VM))
                return 0;
        if (r < 0)
                return ctl_report(c, error, r, "Failed to look at VM '%s'", i->vm->name);
        spec = json_get(i->properties, "Spec");
        theirs = json_get_string(spec, "origin");
        i->origin_gone = !isempty(theirs) && !streq(theirs, origin) && access(theirs, F_OK) < 0 &&
                        errno == ENOENT;
        image = json_get_string(spec, "image-name");
        r = i->vm->image_url && !isempty(image) ? ask_image(c, i, image) : 0;
        return r < 0 ? ctl_oom() : 0;
}

static bool is_wanted(const char *const *names, const char *name) {
        return !names[0] || strv_contains((char *const *)names, name);
}

static int unknown_name(const Project *p, const char *name) {
        const char *found = NULL;
        size_t best = SIZE_MAX;

        for (size_t i = 0; i < p->file->n_vms; i++)
                word_nearer(name, p->file->vms[i].name, &best, &found);
        if (found)
                ctl_complain(NULL, "There is no VM '%s' in %s; did you mean '%s'?", name, p->path, found);
        else
                ctl_complain(NULL, "There is no VM '%s' in %s", name, p->path);
        return EXIT_USAGE;
}

static int choose(ConvergeSet *s, const char *const *names) {
        const Vmfile *file = s->project.file;

        for (const char *const *n = names; *n; n++)
                if (!vmfile_find(file, *n))
                        return unknown_name(&s->project, *n);
        s->items = calloc(file->n_vms + 1, sizeof(ConvergeItem));
        if (!s->items)
                return ctl_oom();
        for (size_t i = 0; i < file->n_vms; i++)
                if (is_wanted(names, file->vms[i].name))
                        s->items[s->n++].vm = &file->vms[i];
        return 0;
}

int converge_load(Ctl *c, const char *path, const char *const *names, ConvergeLoadFlags flags,
                ConvergeSet *ret) {
        _cleanup_free_ char *origin = NULL;
        int r;

        *ret = (ConvergeSet){};
        r = project_load(path, flags & CONVERGE_LOAD_FILES, &ret->project);
        if (r == 0)
                r = choose(ret, names);
        if (r == 0)
                r = ctl_connect(c);
        if (r != 0)
                return r;
        origin = origin_of(&ret->project);
        if (!origin)
                return ctl_oom();
        for (size_t i = 0; r == 0 && i < ret->n; i++) {
                r = read_definition(&ret->items[i], origin, flags);
                if (r == 0)
                        r = ask_service(c, &ret->items[i], origin);
        }
        return r;
}

static int wait_for(ConvergeItem *i, size_t other) {
        size_t *grown = reallocarray(i->after, i->n_after + 1, sizeof(size_t));

        if (!grown)
                return ctl_oom();
        i->after = grown;
        grown[i->n_after++] = other;
        return 0;
}

int converge_order(ConvergeSet *s, bool reverse) {
        int r = 0;

        for (size_t i = 0; i < s->n; i++)
                s->items[i].n_after = 0;
        for (size_t i = 0; i < s->n; i++)
                for (size_t k = 0; r == 0 && k < s->n; k++) {
                        if (!strv_contains(s->items[i].vm->depends_on, s->items[k].vm->name))
                                continue;
                        r = reverse ? wait_for(&s->items[k], i) : wait_for(&s->items[i], k);
                }
        return r;
}
