/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "copy-end.h"
#include "copy-session.h"
#include "ssh-wait.h"
#include "term.h"
#include "verbs.h"

#define PATH_MAX_GUEST 1024 /* what vmctl-ssh takes */

typedef struct Copy {
        Ctl *ctl;
        const Args *args;
        CopyEnd *ends; /* the last is the destination */
        size_t n_sources;
        CopyEnd *to;
        bool recursive, quiet;
        SshTarget target; /* the VM that was last asked for */
        uint64_t timeout_usec;
        bool canceled;
} Copy;

static void copy_done(Copy *p) {
        for (size_t i = 0; p->ends && i <= p->n_sources; i++)
                copy_end_done(&p->ends[i]);
        free(p->ends);
        ssh_target_done(&p->target);
}

static int usage(const char *hint, const char *message) {
        ctl_complain(hint, "%s", message);
        return EXIT_USAGE;
}

static int parse_ends(Copy *p) {
        p->n_sources = p->args->n_words - 1;
        p->ends = calloc(p->args->n_words, sizeof(CopyEnd));
        if (!p->ends)
                return ctl_oom();
        for (size_t i = 0; i < p->args->n_words; i++)
                if (copy_end_parse(p->args->words[i], &p->ends[i]) < 0)
                        return ctl_oom();
        p->to = &p->ends[p->n_sources];
        return 0;
}

static bool is_possible(const CopyEnd *e) {
        return !e->vm || (strlen(e->path) <= PATH_MAX_GUEST && !strpbrk(e->path, "\r\n"));
}

static int check_ends(const Copy *p) {
        size_t guests = 0, streams = 0;

        for (size_t i = 0; i < p->n_sources; i++) {
                guests += p->ends[i].vm != NULL;
                streams += copy_end_is_stream(&p->ends[i]);
        }
        for (size_t i = 0; i <= p->n_sources; i++)
                if (!is_possible(&p->ends[i]))
                        return usage(NULL, "A path in the guest has at most 1024 bytes and no line breaks");
        if (p->to->vm && guests > 0)
                return usage("By way of this host: 'vmctl cp A:PATH - | vmctl cp - B:PATH'.",
                                "Nothing is copied from one guest to another");
        if (!p->to->vm && guests < p->n_sources)
                return usage("A guest's file is NAME:PATH, as in 'vmctl cp FILE web:/tmp'.",
                                "One side has to be a guest's");
        if ((streams > 0 || copy_end_is_stream(p->to)) && p->n_sources > 1)
                return usage(NULL, "A stream is the only source, or has only one");
        return 0;
}

/* Asks for the VM and waits for its sshd, unless that was done for the source before. */
static int reach(Copy *p, const char *name) {
        int r;

        if (p->target.name && streq(p->target.name, name))
                return 0;
        ssh_target_done(&p->target);
        r = ssh_target_find(p->ctl, name, &p->target);
        if (r == 0)
                r = ssh_target_timeout(&p->target, args_get(p->args, "timeout"), &p->timeout_usec);
        if (r == 0)
                r = ssh_wait(p->ctl, name, p->target.path, p->target.port,
                                now_monotonic() + p->timeout_usec);
        if (r != 0)
                ssh_target_done(&p->target);
        p->canceled = r >= EXIT_SIGNALED;
        return r;
}

static void tell_skipped(const Helper *h, const char *text) {
        uint64_t n = 0;

        (void)json_get_unsigned(json_get(h->result, "result"), "skipped", &n);
        if (n > 0)
                (void)fprintf(stderr,
                                "vmctl: %" PRIu64 " of the files in '%s' were left out: devices, sockets, "
                                "pipes, or links that lead out of it\n",
                                n, text);
}

/* Fills in what holds for all. */
static int run(Copy *p, const CopyEnd *from, CopyRequest *q) {
        _cleanup_free_ char *what = strf("copy '%s'", from->text);
        Helper h = { .ctl = p->ctl, .name = "vmctl-ssh", .can_cancel = true, .line.quiet = p->quiet };
        int r;

        q->key = args_get(p->args, "key");
        q->recursive = p->recursive;
        q->preserve = args_has(p->args, "preserve");
        q->wait_usec = p->timeout_usec;
        r = copy_session_run(&h, &p->target, q, what ?: "copy");
        if (r == 0)
                tell_skipped(&h, from->text);
        p->canceled = h.canceled;
        helper_done(&h);
        return r;
}

static int failed(const CopyEnd *from, const Error *e) {
        return ctl_complain(error_code_hint(error_code(e)), "Failed to copy '%s': %s", from->text,
                        error_message(e));
}

/* A folder's own name ends up in a folder that is there already, else it becomes the destination: as with
 * cp. */
static const char *place_of(const Copy *p, const CopyFile *f, const char *name) {
        if (!name)
                return "itself";
        return p->n_sources > 1 || (p->to->slash && !f->folder) ? "inside" : "as-found";
}

static int send(Copy *p, const CopyEnd *from) {
        _cleanup_(copy_file_done) CopyFile f = COPY_FILE_INIT;
        const char *name = copy_end_is_stream(from) ? NULL : copy_end_name(from);
        _cleanup_error_ Error *e = NULL;
        CopyRequest q;
        int r;

        if (copy_open_source(from, p->recursive, &f, &e) < 0)
                return failed(from, e);
        r = reach(p, p->to->vm);
        if (r != 0)
                return r;
        q = (CopyRequest){
                .path = p->to->path,
                .name = name ?: "-",
                .place = place_of(p, &f, name),
                .fd = f.fd,
        };
        return run(p, from, &q);
}

static int fetch(Copy *p, const CopyEnd *from) {
        bool inside = p->n_sources > 1 || (p->to->slash && !p->recursive);
        _cleanup_(copy_file_done) CopyFile f = COPY_FILE_INIT;
        _cleanup_error_ Error *e = NULL;
        CopyRequest q;
        int r;

        r = reach(p, from->vm);
        if (r != 0)
                return r;
        if (copy_open_target(p->to, copy_end_name(from), inside, &f, &e) < 0)
                return failed(from, e);
        q = (CopyRequest){ .from = true, .path = from->path, .name = f.name ?: "-", .fd = f.fd };
        return run(p, from, &q);
}

/* The others are copied even if one cannot be. */
static int copy_all(Copy *p) {
        int result = 0;

        for (size_t i = 0; i < p->n_sources && !p->canceled; i++) {
                int r = p->to->vm ? send(p, &p->ends[i]) : fetch(p, &p->ends[i]);

                result = result == 0 ? r : result;
        }
        return result;
}

int verb_cp(Ctl *c, const Args *args) {
        _cleanup_(copy_done) Copy p = {
                .ctl = c,
                .args = args,
                .recursive = args_has(args, "recursive"),
                .quiet = args_has(args, "quiet") || !term_can_redraw(stderr),
        };
        int r;

        r = parse_ends(&p);
        if (r == 0)
                r = check_ends(&p);
        if (r != 0)
                return r;
        if (c->host)
                return ctl_complain("Run vmctl there: 'ssh HOST vmctl cp - NAME:PATH < FILE'.",
                                "Files cannot be handed to another host");
        if (copy_end_is_stream(p.to) && term_is_tty(stdout))
                p.quiet = true;
        return copy_all(&p);
}
