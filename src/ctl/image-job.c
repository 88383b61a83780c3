/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "fields.h"
#include "image-job.h"
#include "json-print.h"
#include "term.h"
#include "text.h"

static int print_json(const ImageJob *j, const char *name, int r) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_object(w);
        json_put_string(w, "Name", name);
        json_put_string(w, "Object", name ? job_wait_object(&j->wait) : NULL);
        job_wait_write(&j->wait, r, w);
        if (j->kernel)
                json_put_string(w, "Kernel", j->kernel);
        if (j->initrd)
                json_put_string(w, "Initrd", j->initrd);
        if (j->append)
                json_put_string(w, "Append", j->append);
        json_write_end(w);
        return json_print(w);
}

static void print_image(const ImageJob *j, const char *name, uint64_t started_usec) {
        _cleanup_free_ char *virtual_size = NULL, *allocated = NULL;
        _cleanup_json_ Json *image = NULL;
        const Ctl *c = j->wait.ctl;
        bool is_old;

        if (client_get_all(j->wait.ctl->client, job_wait_object(&j->wait), VMCTL_IMAGE, &image, NULL) < 0)
                return; /* somebody removed it again */
        virtual_size = text_size(fields_number(image, "VirtualSize"));
        allocated = text_size(fields_number(image, "Allocated"));
        is_old = !c->host && fields_number(image, "Created") < started_usec; /* by this host's clock */
        (void)fprintf(stderr, "%s image '%s' (%s, %s, %s on disk).\n", is_old ? "Already here:" : j->done,
                        name, fields_string(image, "Format"), virtual_size ?: "?", allocated ?: "?");
        if (is_old && j->may_refresh && term_is_tty(stderr))
                (void)fputs("'--refresh' asks whether there is a newer one.\n", stderr);
}

static void print_begun(const ImageJob *j) {
        if (term_is_tty(stderr) && !j->wait.line.quiet)
                (void)fputs("The service goes on by itself; 'vmctl monitor' shows when it has ended.\n",
                                stderr);
}

int image_job_run(ImageJob *j, sd_bus_message *m) {
        uint64_t started_usec = now_realtime();
        _cleanup_free_ char *name = NULL;
        Ctl *c = j->wait.ctl;
        int r, status = 0;

        r = job_wait_run(&j->wait, m, 0);
        if (r < 0)
                status = job_wait_report(&j->wait, r, j->kept, "Failed to %s '%s'", j->verb, j->what);
        else if (!j->wait.no_wait)
                name = client_image_name(job_wait_object(&j->wait));
        if (c->json) {
                int q = print_json(j, name, r);

                return status != 0 ? status : q;
        }
        if (r >= 0 && j->wait.no_wait)
                print_begun(j);
        else if (name && !j->wait.line.quiet)
                print_image(j, name, started_usec);
        return status;
}

static int append_import(sd_bus_message *m, const Args *args, const char *name, int fd, const char *format) {
        bool shared = args_has(args, "shared");
        int r;

        r = sd_bus_message_append(m, "sh", name, fd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && format)
                r = sd_bus_message_append(m, "{sv}", "format", "s", format);
        if (r >= 0 && (shared || args_has(args, "private")))
                r = sd_bus_message_append(m, "{sv}", "shared", "b", shared);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int image_job_import(ImageJob *j, const Args *args, const char *name, int fd, const char *format) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = ctl_new_call(j->wait.ctl, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "ImportImage", &m);
        if (r != 0)
                return r;
        r = append_import(m, args, name, fd, format);
        if (r < 0)
                return ctl_report(j->wait.ctl, NULL, r, "Failed to %s '%s'", j->verb, j->what);
        return image_job_run(j, m);
}
