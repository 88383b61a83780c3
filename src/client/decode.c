/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "decode.h"

static int build_value(JsonBuilder *b, sd_bus_message *m);

static int build_key(JsonBuilder *b, sd_bus_message *m) {
        const char *key;
        int r;

        r = sd_bus_message_enter_container(m, 'e', NULL);
        if (r >= 0)
                r = sd_bus_message_read_basic(m, 's', &key);
        if (r >= 0)
                json_build_key(b, key);
        return r;
}

static int build_container(JsonBuilder *b, sd_bus_message *m, char type, const char *contents) {
        bool object = type == 'a' && contents[0] == '{', array = !object && type != 'v';
        int r;

        r = sd_bus_message_enter_container(m, type, contents);
        if (r < 0)
                return r;
        if (object)
                json_build_object(b);
        else if (array)
                json_build_array(b);
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                r = object ? build_key(b, m) : 0;
                if (r >= 0)
                        r = build_value(b, m);
                if (r >= 0 && object)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (object || array)
                json_build_end(b);
        return sd_bus_message_exit_container(m);
}

static int build_basic(JsonBuilder *b, sd_bus_message *m, char type) {
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
                json_build_unsigned(b, v.y);
                break;
        case 'b':
                json_build_boolean(b, v.b);
                break;
        case 'n':
                json_build_integer(b, v.n);
                break;
        case 'q':
                json_build_unsigned(b, v.q);
                break;
        case 'i':
                json_build_integer(b, v.i);
                break;
        case 'u':
                json_build_unsigned(b, v.u);
                break;
        case 'x':
                json_build_integer(b, v.x);
                break;
        case 't':
                json_build_unsigned(b, v.t);
                break;
        case 'd':
                if (isfinite(v.d))
                        json_build_real(b, v.d);
                else
                        json_build_null(b);
                break;
        case 's':
        case 'o':
        case 'g':
                json_build_string(b, v.s);
                break;
        default: /* a descriptor */
                json_build_null(b);
        }
        return 0;
}

static int build_value(JsonBuilder *b, sd_bus_message *m) {
        const char *contents;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        if (r == 0)
                return -ENXIO;
        return contents ? build_container(b, m, type, contents) : build_basic(b, m, type);
}

int client_decode(sd_bus_message *m, Json **ret) {
        _cleanup_(json_builder_freep) JsonBuilder *b = NULL;
        int r;

        r = json_builder_new(&b);
        if (r >= 0)
                r = build_value(b, m);
        return r < 0 ? r : json_builder_finish(b, ret);
}
