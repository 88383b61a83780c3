/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "reply.h"
#include "util/fd-util.h"

static JsonWriter *begin(void) {
        JsonWriter *w;

        if (json_writer_new(0, &w) < 0)
                return NULL;
        json_write_object(w);
        return w;
}

JsonWriter *reply_begin(const char *phase) {
        JsonWriter *w = begin();

        if (w)
                json_put_string(w, "phase", phase);
        return w;
}

int reply_end(JsonWriter *w) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        json_write_end(w);
        r = json_writer_finish(w, &text, &len);
        json_writer_free(w);
        if (r < 0)
                return r;
        text[len] = '\n'; /* in place of the NUL */
        return write_all(STDOUT_FILENO, text, len + 1);
}

static int reply_result(reply_work_t work, void *userdata, Error **reterr) {
        _cleanup_(json_writer_freep) JsonWriter *w = begin();
        int r;

        if (!w)
                return -ENOMEM;
        json_write_key(w, "result");
        json_write_object(w);
        r = work(userdata, w, reterr);
        if (r < 0)
                return r;
        json_write_end(w);
        r = reply_end(TAKE_PTR(w));
        return r < 0 ? error_set_errno(reterr, r, "Failed to answer") : 0;
}

static void reply_error(const Error *error, reply_describe_t describe, const void *userdata) {
        JsonWriter *w = begin();

        if (!w)
                return;
        json_put_string(w, "error", error_code_name(error ? error_code(error) : ERROR_NO_MEMORY));
        json_put_string(w, "message", error ? error_message(error) : "Out of memory");
        if (describe)
                describe(userdata, w);
        (void)reply_end(w);
}

int reply_run(reply_work_t work, reply_describe_t describe, void *userdata) {
        _cleanup_error_ Error *error = NULL;

        if (reply_result(work, userdata, &error) >= 0)
                return EXIT_SUCCESS;
        reply_error(error, describe, userdata);
        return EXIT_FAILURE;
}
