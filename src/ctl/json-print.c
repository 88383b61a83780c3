/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "ctl.h"
#include "json-print.h"

int json_print(JsonWriter *w) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = json_writer_finish(w, &text, &len);
        if (r < 0)
                return ctl_complain(NULL, "Failed to write JSON: %s", strerror(-r));
        (void)fwrite(text, 1, len, stdout);
        if (len == 0 || text[len - 1] != '\n')
                (void)fputc('\n', stdout);
        return 0;
}

void json_put_error(JsonWriter *w, const Error *error) {
        json_put_string(w, "ErrorName", error_name(error));
        json_put_string(w, "ErrorMessage", error_message(error));
}

void json_write_result(JsonWriter *w, const char *name, const Error *error) {
        json_write_object(w);
        json_put_string(w, "Name", name);
        json_put_string(w, "Result", error ? "failed" : "done");
        if (error)
                json_put_error(w, error);
        json_write_end(w);
}
