/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `image build`: vmctl-build makes the image, with the caller's rights, in a file without a name; then that
 * is imported. An image that does not boot by itself comes with its kernel, in files of the caller's. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper.h"
#include "image-job.h"
#include "image-name.h"
#include "output-file.h"
#include "spec-args.h"
#include "text.h"
#include "util/fd-util.h"
#include "verbs.h"

#define HELPER VMCTL_HELPER_DIR "/vmctl-build"

/* Descriptors of the helper's, the first of them behind the standard ones. */
typedef enum BuildFd {
        FD_OUTPUT = 3,
        FD_KERNEL_OUTPUT,
        FD_INITRD_OUTPUT,
        FD_KERNEL,
        FD_INITRD,
        _FD_MAX,
} BuildFd;

static const char *const fd_options[_FD_MAX] = {
        [FD_OUTPUT] = "output",
        [FD_KERNEL_OUTPUT] = "kernel-output",
        [FD_INITRD_OUTPUT] = "initrd-output",
        [FD_KERNEL] = "kernel",
        [FD_INITRD] = "initrd",
};

/* A file beside the image that it boots with. */
typedef struct BootFile {
        char *name; /* owned */
        OutputFile out;
} BootFile;

typedef struct Build {
        Ctl *ctl;
        const Args *args;
        char *name;
        int fds[_FD_MAX];
        uint64_t size; /* 0: what is needed */
        bool extract;  /* kernel and RAM disk are taken out of it */
        BootFile kernel, initrd;
        char **argv;
        Helper helper;
        const char *uuid; /* of the file system; the result's */
        char *append;
} Build;

static void build_done(Build *b) {
        for (size_t i = 0; i < _FD_MAX; i++)
                safe_close(b->fds[i]);
        output_file_done(&b->kernel.out);
        output_file_done(&b->initrd.out);
        free(b->kernel.name);
        free(b->initrd.name);
        free(b->name);
        strv_free(b->argv);
        helper_done(&b->helper);
        free(b->append);
}

static int usage(const char *message) {
        ctl_complain("'vmctl image build --help' tells more.", "%s", message);
        return EXIT_USAGE;
}

static int check_args(const Ctl *c, const Args *args, uint64_t *ret_size) {
        const char *size = args_get(args, "size");
        bool bootable = args_has(args, "bootable");
        bool outputs = args_has(args, "kernel-output") || args_has(args, "initrd-output");

        if (size && (parse_size(size, GIB, ret_size) < 0 || *ret_size == 0))
                return usage("--size needs a size, as '4' or '500M'");
        if (args_has(args, "shared") && args_has(args, "private"))
                return usage("--shared and --private exclude each other");
        if (streq(args->words[0], "-") && !args_has(args, "name"))
                return usage("Standard input has no name: give one with '--name NAME'");
        if (args_has(args, "initrd") && !args_has(args, "kernel"))
                return usage("--initrd is for '--kernel FILE'");
        if (outputs && (bootable || args_has(args, "kernel")))
                return usage("--kernel-output and --initrd-output are for a kernel that is taken out of "
                             "SOURCE");
        if (c->host)
                return ctl_complain("Run vmctl there: 'ssh HOST vmctl image build ...'.",
                                "Failed to build '%s': files cannot be handed to another host",
                                args->words[0]);
        return 0;
}

/* Building takes minutes, so what would make it useless is looked for first. */
static int check_name(Build *b) {
        _cleanup_free_ char *path = client_image_path(b->name), *uuid = NULL;
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_connect(b->ctl);
        if (r != 0)
                return r;
        if (client_get_string(b->ctl->client, path, VMCTL_IMAGE, "UUID", &uuid, NULL) >= 0)
                return ctl_complain(error_code_hint(ERROR_IMAGE_EXISTS),
                                "Failed to build '%s': there is an image '%s' already", b->args->words[0],
                                b->name);
        return 0;
}

static int failed(const Build *b, const Error *e) {
        return ctl_complain(error_code_hint(error_code(e)), "Failed to build '%s': %s", b->args->words[0],
                        error_message(e));
}

static int open_given(Build *b, const char *option, BuildFd i, Error **reterr) {
        const char *file = args_get(b->args, option);

        return file ? spec_open_file(file, &b->fds[i], reterr) : 0;
}

/* The helper writes into a file without a name, so that nothing is left of a build that was broken off. */
static int open_boot_file(
                Build *b, const char *option, const char *ending, BootFile *f, BuildFd i, Error **reterr) {
        const char *given = args_get(b->args, option);
        int r;

        f->name = given ? strdup(given) : strf("%s%s", b->name, ending);
        if (!f->name)
                return error_set_errno(reterr, -ENOMEM, "No memory");
        r = output_file_open(&f->out, f->name, false, reterr); /* whether it could be made */
        output_file_done(&f->out);
        return r < 0 ? r : output_file_unnamed(&b->fds[i], reterr);
}

static int open_files(Build *b, Error **reterr) {
        int r;

        r = open_given(b, "kernel", FD_KERNEL, reterr);
        if (r >= 0)
                r = open_given(b, "initrd", FD_INITRD, reterr);
        if (r >= 0 && b->extract)
                r = open_boot_file(b, "kernel-output", ".vmlinuz", &b->kernel, FD_KERNEL_OUTPUT, reterr);
        if (r >= 0 && b->extract)
                r = open_boot_file(b, "initrd-output", ".initrd", &b->initrd, FD_INITRD_OUTPUT, reterr);
        return r < 0 ? r : output_file_unnamed(&b->fds[FD_OUTPUT], reterr);
}

static int add_option(Build *b, const char *name, const char *value) {
        int r;

        if (!value)
                return 0;
        r = strv_extendf(&b->argv, "--%s", name);
        return r < 0 || *value == '\0' ? r : strv_extend(&b->argv, value);
}

static int make_argv(Build *b) {
        const Args *args = b->args;
        int r;

        r = strv_extend(&b->argv, HELPER);
        for (size_t i = FD_OUTPUT; r >= 0 && i < _FD_MAX; i++)
                if (b->fds[i] >= 0)
                        r = strv_extendf(&b->argv, "--%s=%zu", fd_options[i], i);
        if (r >= 0 && b->size > 0)
                r = strv_extendf(&b->argv, "--size=%" PRIu64, b->size);
        if (r >= 0)
                r = add_option(b, "bootable", args_get(args, "bootable"));
        if (r >= 0)
                r = add_option(b, "root-owned", args_get(args, "root-owned"));
        if (r >= 0 && args_has(args, "bootable")) /* else it is the VM's */
                r = add_option(b, "append", args_get(args, "append"));
        if (r >= 0)
                r = add_option(b, "file", args_get(args, "file"));
        if (r >= 0)
                r = strv_extend(&b->argv, "--");
        return r < 0 ? r : strv_extend(&b->argv, args->words[0]);
}

static int run_helper(Build *b) {
        _cleanup_free_ char *what = strf("build '%s'", b->args->words[0]);
        ChildFd fds[_FD_MAX];
        size_t n = 0;
        int r;

        if (streq(b->args->words[0], "-"))
                fds[n++] = (ChildFd){ STDIN_FILENO, STDIN_FILENO };
        for (int i = FD_OUTPUT; i < _FD_MAX; i++)
                if (b->fds[i] >= 0)
                        fds[n++] = (ChildFd){ b->fds[i], i };
        r = helper_run(&b->helper, b->argv, fds, n, what ?: "build");
        if (r != 0)
                return r;
        b->uuid = json_get_string(json_get(b->helper.result, "result"), "uuid");
        return b->uuid ? 0 : ctl_complain(NULL, "Failed to %s: vmctl-build told no UUID", what ?: "build");
}

static int copy_file(int from, int to) {
        off_t offset = 0;
        ssize_t n;

        do
                n = sendfile(to, from, &offset, MIB);
        while (n > 0);
        return n < 0 ? -errno : 0;
}

/* What the image has none of, is none to boot with. */
static int keep_boot_file(BootFile *f, int fd, Error **reterr) {
        struct stat st;
        int r;

        if (fd < 0)
                return 0;
        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Cannot look at what was built");
        if (st.st_size == 0) {
                free(f->name);
                f->name = NULL;
                return 0;
        }
        r = output_file_open(&f->out, f->name, false, reterr);
        if (r < 0)
                return r;
        r = copy_file(fd, f->out.fd);
        return r < 0 ? error_set_errno(reterr, r, "Cannot write '%s'", f->name) : 0;
}

static int keep_boot_files(Build *b, Error **reterr) {
        int r;

        r = keep_boot_file(&b->kernel, b->fds[FD_KERNEL_OUTPUT], reterr);
        return r < 0 ? r : keep_boot_file(&b->initrd, b->fds[FD_INITRD_OUTPUT], reterr);
}

static int commit_boot_files(Build *b, Error **reterr) {
        int r = 0;

        if (b->kernel.out.temporary)
                r = output_file_commit(&b->kernel.out, reterr);
        if (r >= 0 && b->initrd.out.temporary)
                r = output_file_commit(&b->initrd.out, reterr);
        return r;
}

/* What the VM will be told; only with a RAM disk can the root be found by its UUID. */
static int make_append(Build *b, bool has_initrd) {
        const char *more = args_get(b->args, "append");

        b->append = strf("root=%s%s rw console=ttyS0%s%s", has_initrd ? "UUID=" : "",
                        has_initrd ? b->uuid : "/dev/vda", more ? " " : "", more ?: "");
        return b->append ? 0 : -ENOMEM;
}

static void print_create(const ImageJob *j, const char *name) {
        _cleanup_free_ char *kernel = shell_quote(j->kernel), *append = shell_quote(j->append),
                            *initrd = j->initrd ? shell_quote(j->initrd) : NULL;

        printf("vmctl create %s --image %s --kernel %s%s%s --append %s\n", name, name, kernel ?: "?",
                        initrd ? " --initrd " : "", initrd ?: "", append ?: "?");
}

static int import(Build *b) {
        bool direct = !args_has(b->args, "bootable");
        ImageJob j = {
                .wait = { .ctl = b->ctl, .line.quiet = b->helper.line.quiet },
                .verb = "build",
                .done = "Built",
                .what = b->args->words[0],
                .kernel = direct ? (args_get(b->args, "kernel") ?: b->kernel.name) : NULL,
                .initrd = direct ? (args_get(b->args, "initrd") ?: b->initrd.name) : NULL,
        };
        _cleanup_error_ Error *e = NULL;
        int r;

        if (direct && make_append(b, j.initrd) < 0)
                return ctl_oom();
        j.append = b->append;
        /* A file system without partitions is nothing that its first bytes would tell. */
        r = image_job_import(&j, b->args, b->name, b->fds[FD_OUTPUT], "raw");
        job_wait_done(&j.wait);
        if (r == 0 && commit_boot_files(b, &e) < 0)
                r = failed(b, e);
        if (r == 0 && direct && !b->ctl->json)
                print_create(&j, b->name);
        return r;
}

static int build(Build *b) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = check_name(b);
        if (r != 0)
                return r;
        if (open_files(b, &e) < 0)
                return failed(b, e);
        if (make_argv(b) < 0)
                return ctl_oom();
        r = run_helper(b);
        if (r == 0 && keep_boot_files(b, &e) < 0)
                r = failed(b, e);
        return r != 0 ? r : import(b);
}

int verb_image_build(Ctl *c, const Args *args) {
        const char *name = args_get(args, "name");
        _cleanup_(build_done) Build b = {
                .ctl = c,
                .args = args,
                .extract = !args_has(args, "bootable") && !args_has(args, "kernel"),
                .kernel.out = OUTPUT_FILE_INIT,
                .initrd.out = OUTPUT_FILE_INIT,
                .helper = {
                        .ctl = c,
                        .name = "vmctl-build",
                        .line.quiet = args_has(args, "quiet") || c->json,
                },
        };
        int r;

        for (size_t i = 0; i < _FD_MAX; i++)
                b.fds[i] = -EBADF;
        r = check_args(c, args, &b.size);
        if (r != 0)
                return r;
        b.name = name ? strdup(name) : image_name_of(args->words[0]);
        return b.name ? build(&b) : usage("Its name is none for an image: give one with '--name NAME'");
}
