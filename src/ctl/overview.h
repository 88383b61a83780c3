/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The service and the host: `capabilities`, and `status` without a name. */

#include "ctl.h"
#include "json/json.h"

/* Prints, or writes one value if `json`. Reports failure. */
int overview_show(Ctl *c, JsonWriter *json);
