/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bus-face.h"

uid_t bus_face_caller(sd_bus_message *m) {
        const BusFace *face = sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(m)));

        return access_caller_uid(face->access);
}
