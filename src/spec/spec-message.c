/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "spec-message.h"

int spec_message_append(sd_bus_message *m, const SpecKey *k, const VmSpec *s) {
        const void *field = spec_key_field(k, s);

        switch (k->type) {
        case SPEC_BOOLEAN:
                return sd_bus_message_append(m, "{sv}", k->name, "b", *(const bool *)field);
        case SPEC_UNSIGNED:
                return sd_bus_message_append(m, "{sv}", k->name, "u", *(const uint32_t *)field);
        case SPEC_SIZE:
                return sd_bus_message_append(m, "{sv}", k->name, "t", *(const uint64_t *)field);
        case SPEC_STRING:
                return sd_bus_message_append(m, "{sv}", k->name, "s", *(char *const *)field ?: "");
        case SPEC_ENUM:
                return sd_bus_message_append(m, "{sv}", k->name, "s", k->names[*(const int *)field]);
        case SPEC_FILE:
                break;
        }
        return 0;
}
