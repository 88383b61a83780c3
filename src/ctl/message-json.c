/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <stdio.h>

#include "ctl.h"
#include "message-json.h"

static int write_container(JsonWriter *w, sd_bus_message *m, char type, const char *contents) {
        bool object = type == 'a' && contents[0] == '{', array = !object && type != 'v';
        int r;

        r = sd_bus_message_enter_container(m, type, contents);
        if (r < 0)
                return r;
        if (object)
                json_write_object(w);
        else if (array)
                json_write_array(w);
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                if (object)
                        r = sd_bus_message_enter_container(m, 'e', NULL);
                if (r >= 0 && object) {
                        const char *key;

                        r = sd_bus_message_read_basic(m, 's', &key);
                        if (r >= 0)
                                json_write_key(w, key);
                }
                if (r >= 0)
                        r = json_write_message(w, m);
                if (r >= 0 && object)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (object || array)
                json_write_end(w);
        return sd_bus_message_exit_container(m);
}

static int write_basic(JsonWriter *w, sd_bus_message *m, char type) {
        union {
                uint8_t y;
                int b;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
                double d;
                const char *s;
        } v;
        int r;

        r = sd_bus_message_read_basic(m, type, &v);
        if (r < 0)
                return r;
        switch (type) {
        case 'y':
                json_write_unsigned(w, v.y);
                break;
        case 'b':
                json_write_boolean(w, v.b);
                break;
        case 'n':
                json_write_integer(w, v.n);
                break;
        case 'q':
                json_write_unsigned(w, v.q);
                break;
        case 'i':
                json_write_integer(w, v.i);
                break;
        case 'u':
                json_write_unsigned(w, v.u);
                break;
        case 'x':
                json_write_integer(w, v.x);
                break;
        case 't':
                json_write_unsigned(w, v.t);
                break;
        case 'd':
                if (isfinite(v.d))
                        json_write_real(w, v.d);
                else
                        json_write_null(w);
                break;
        case 's':
        case 'o':
        case 'g':
                json_write_string(w, v.s);
                break;
        default: /* a descriptor means nothing in text */
                json_write_null(w);
        }
        return 0;
}

int json_write_message(JsonWriter *w, sd_bus_message *m) {
        const char *contents;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        if (r == 0)
                return -ENXIO;
        return contents ? write_container(w, m, type, contents) : write_basic(w, m, type);
}

int message_to_json(sd_bus_message *m, Json **ret) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        r = json_write_message(w, m);
        if (r < 0)
                return r;
        r = json_writer_finish(w, &text, &len);
        if (r < 0)
                return r;
        return json_parse(text, len, NULL, ret, NULL);
}

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

void json_write_result(JsonWriter *w, const char *name, const sd_bus_error *error) {
        bool failed = sd_bus_error_is_set(error);

        json_write_object(w);
        json_put_string(w, "Name", name);
        json_put_string(w, "Result", failed ? "failed" : "done");
        if (failed) {
                json_put_string(w, "ErrorName", error->name);
                json_put_string(w, "ErrorMessage", error->message);
        }
        json_write_end(w);
}
