/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <inttypes.h>

#include "converge-diff.h"

#define DISK_GRANULE 512 /* a size is rounded up to it */

typedef struct Diff {
        const ConvergeWant *want;
        const ConvergeHave *have;
        const Json *spec; /* the VM's */
        ConvergePlan *plan;
        bool runs;
} Diff;

/* Settings that the service finds a value for, where the file says nothing. */
static bool is_left_to_service(const char *key) {
        static const char *const keys[] = { "console-log-max", "image-format", "disk", "display",
                "machine" };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (streq(keys[i], key))
                        return true;
        return false;
}

static char *size_text(uint64_t bytes) {
        if (bytes >= GIB && bytes % GIB == 0)
                return strf("%" PRIu64 "G", bytes / GIB);
        if (bytes >= MIB && bytes % MIB == 0)
                return strf("%" PRIu64 "M", bytes / MIB);
        return strf("%" PRIu64, bytes);
}

/* None is "". */
static char *number_text(const SpecKey *k, uint64_t v) {
        if (v == 0 && (k->flags & SPEC_ZERO_IS_NONE))
                return strdup("");
        if (k->type == SPEC_UNSIGNED)
                return strf("%" PRIu64, v);
        return size_text(v);
}

/* Keys and lists may end in white space that means nothing. */
static char *trimmed(const char *s) {
        size_t n = strlen(s);

        while (n > 0 && isspace((unsigned char)s[n - 1]))
                n--;
        return strndup(s, n);
}

/* What a string that was never set stands for. */
static const char *default_text(const Diff *d, const char *key) {
        return streq(key, "user") ? "vm" : streq(key, "hostname") ? d->want->vm->name : "";
}

/* The value in the file, and the VM's; both as text. Two that mean the same are equal. */
static char *wanted_text(const Diff *d, const SpecKey *k) {
        const void *field = spec_key_field(k, &d->want->spec);
        const char *s;

        switch (k->type) {
        case SPEC_BOOLEAN:
                return strdup(*(const bool *)field ? "yes" : "no");
        case SPEC_UNSIGNED:
                return number_text(k, *(const uint32_t *)field);
        case SPEC_SIZE:
                if (streq(k->name, "disk"))
                        return number_text(k,
                                        (*(const uint64_t *)field + DISK_GRANULE - 1) / DISK_GRANULE *
                                                        DISK_GRANULE);
                return number_text(k, *(const uint64_t *)field);
        case SPEC_ENUM:
                return strdup(k->names[*(const int *)field]);
        default:
                s = *(char *const *)field;
                return trimmed(isempty(s) ? default_text(d, k->name) : s);
        }
}

static char *present_text(const Diff *d, const SpecKey *k) {
        const Json *v = json_get(d->spec, k->name);
        const char *s = json_string(v);
        uint64_t u = 0;

        switch (k->type) {
        case SPEC_BOOLEAN:
                return strdup(json_boolean(v) > 0 ? "yes" : "no");
        case SPEC_UNSIGNED:
        case SPEC_SIZE:
                (void)json_unsigned(v, &u);
                return number_text(k, u);
        default:
                return trimmed(isempty(s) ? default_text(d, k->name) : s);
        }
}

static bool disk_shrinks(const Diff *d) {
        uint64_t size = 0;

        (void)json_get_unsigned(d->spec, "disk", &size);
        return d->want->spec.disk < size;
}

static ConvergeEffect effect_of(const Diff *d, const SpecKey *k) {
        bool seed = d->want->spec.cloud_init;

        if (k->flags & SPEC_LIMIT)
                return CONVERGE_LIVE;
        if (!(k->flags & SPEC_UPDATE))
                return CONVERGE_REBUILD;
        /* A guest takes these from its seed, once. */
        if (streq(k->name, "hostname") || (streq(k->name, "user") && !d->want->vm->user_data))
                return seed ? CONVERGE_REBUILD : CONVERGE_STOPPED;
        if (streq(k->name, "disk") && disk_shrinks(d))
                return CONVERGE_REBUILD;
        /* There is no way to say "none again". */
        if (streq(k->name, "cpu") && isempty(d->want->spec.cpu))
                return CONVERGE_REBUILD;
        return CONVERGE_STOPPED;
}

/* Takes both texts. */
static int add_change(
                Diff *d, const char *name, const SpecKey *key, char *from, char *to, ConvergeEffect e) {
        ConvergePlan *p = d->plan;
        ConvergeChange *grown = reallocarray(p->changes, p->n_changes + 1, sizeof(ConvergeChange));

        if (!from || !to || !grown) {
                free(from);
                free(to);
                if (grown)
                        p->changes = grown;
                return -ENOMEM;
        }
        p->changes = grown;
        grown[p->n_changes++] = (ConvergeChange){ name, key, from, to, e };
        return 0;
}

static int diff_key(Diff *d, const SpecKey *k) {
        _cleanup_free_ char *from = NULL, *to = NULL;
        bool given = vm_spec_has(&d->want->spec, k->name);

        if (!given && is_left_to_service(k->name))
                return 0;
        /* Where it was moved to can be noted down when it does not run. */
        if (streq(k->name, "origin") && d->runs)
                return 0;
        from = present_text(d, k);
        to = wanted_text(d, k);
        if (!from || !to)
                return -ENOMEM;
        if (streq(from, to))
                return 0;
        return add_change(d, k->name, k, TAKE_PTR(from), TAKE_PTR(to), effect_of(d, k));
}

static int diff_file(Diff *d, const char *name, const char *wanted) {
        const char *present = json_get_string(d->spec, name) ?: "";

        if (streq(present, wanted ?: ""))
                return 0;
        return add_change(d, name, NULL, strdup(present), strdup(wanted ?: ""), CONVERGE_REBUILD);
}

/* As the service keeps it: without user name and password. */
static char *public_url(const char *url) {
        const char *host = strstr(url, "://"), *end, *at;

        if (!host)
                return strdup(url);
        host += 3;
        end = host + strcspn(host, "/?#");
        at = memrchr(host, '@', (size_t)(end - host));
        return at ? strf("%.*s%s", (int)(host - url), url, at + 1) : strdup(url);
}

static int diff_image(Diff *d) {
        const VmfileVm *vm = d->want->vm;
        const char *sha256 = d->have->image_sha256, *url = d->have->image_url;
        _cleanup_free_ char *wanted = NULL;

        if (!vm->image_url)
                return diff_file(d, "image", d->want->image);
        wanted = public_url(vm->image_url);
        if (!wanted)
                return -ENOMEM;
        if (!isempty(json_get_string(d->spec, "image")) && isempty(url))
                return diff_file(d, "image", vm->image_url);
        if (!isempty(url) && !streq(url, wanted))
                return add_change(d, "image-url", NULL, strdup(url), TAKE_PTR(wanted), CONVERGE_REBUILD);
        if (vm->sha256 && !isempty(sha256) && !streq(vm->sha256, sha256))
                return add_change(d, "sha256", NULL, strdup(sha256), strdup(vm->sha256), CONVERGE_REBUILD);
        return 0;
}

int converge_diff(const ConvergeWant *w, const ConvergeHave *h, bool runs, ConvergePlan *p) {
        Diff d = { w, h, json_get(h->properties, "Spec"), p, runs };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < vm_spec_n_keys; i++)
                if (!(vm_spec_keys[i].flags & SPEC_NOT_STORED))
                        r = diff_key(&d, &vm_spec_keys[i]);
        if (r >= 0)
                r = diff_image(&d);
        if (r >= 0)
                r = diff_file(&d, "kernel", w->kernel);
        return r < 0 ? r : diff_file(&d, "initrd", w->initrd);
}
