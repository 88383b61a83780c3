/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The folders of downloads that were not finished, state_dir/images/.partial/HASH: how they go. One that
 * nobody wants any more is first renamed, so that it is in nobody's way, to ".old-UUID" in the store's
 * folder, where the start of the service deletes whatever is called so. */

#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct Partials Partials;

/* store_fd (borrowed): the folder state_dir/images; `path` is it for messages (copied). */
int partials_new(sd_event *event, int store_fd, const char *path, Partials **ret);
Partials *partials_free(Partials *p);
DEFINE_CLEANUP(Partials *, partials_free);

int partials_fd(const Partials *p); /* the folder; borrowed */

/* Opens or makes one, and locks it: from now on it is this user's. */
int partials_open(const Partials *p, const char *folder, uid_t user);

/* One that is open waits for the next attempt from now on. Of those of one user that do, the oldest goes
 * where these become too many. */
#define PARTIALS_PER_USER 16 /* as many as there may be workers at them (accounts.c) */
void partials_keep(Partials *p, int folder_fd);

/* Deletes one, in a child. It is out of the way when this returns. */
void partials_delete(Partials *p, const char *folder);

/* At the start, before anybody pulls: those that nobody went on with for a week. The record store deletes
 * them with all else that is left over. */
void partials_hide_stale(const Partials *p);
