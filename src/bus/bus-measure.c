/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bus-measure.h"
#include "util/string-util.h"

static int measure_value(sd_bus_message *m, char type, BusMeasure *s) {
        const char *string;
        uint64_t fixed;
        int r, fd;

        switch (type) {
        case 's':
        case 'o':
        case 'g':
                r = sd_bus_message_read_basic(m, type, &string);
                if (r >= 0)
                        s->bytes += strlen(string) + sizeof(uint32_t) + 1;
                return r;
        case 'h':
                s->descriptors++;
                s->bytes += sizeof(uint32_t);
                return sd_bus_message_read_basic(m, type, &fd);
        default:
                s->bytes += sizeof(fixed);
                return sd_bus_message_read_basic(m, type, &fixed);
        }
}

/* All of the container that the message stands in. sd-bus has checked the nesting. */
static int measure_rest(sd_bus_message *m, uint64_t max, BusMeasure *s) {
        const char *contents;
        char type;
        int r;

        while ((r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
                if (strchr("arev", type)) {
                        r = sd_bus_message_enter_container(m, type, contents);
                        if (r >= 0)
                                r = measure_rest(m, max, s);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                        s->bytes += sizeof(uint64_t);
                } else
                        r = measure_value(m, type, s);
                if (r < 0)
                        return r;
                if (s->bytes > max)
                        return -E2BIG;
        }
        return r;
}

int bus_measure(sd_bus_message *m, uint64_t max, BusMeasure *ret) {
        BusMeasure s = { .bytes = BUS_MESSAGE_OVERHEAD + strlen(sd_bus_message_get_path(m) ?: "") };
        int r, rewound;

        r = sd_bus_message_rewind(m, true);
        if (r >= 0)
                r = measure_rest(m, max, &s);
        rewound = sd_bus_message_rewind(m, true);
        if (r < 0 || rewound < 0)
                return r < 0 ? r : rewound;
        *ret = s;
        return 0;
}
