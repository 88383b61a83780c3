/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The table of verbs. */

#include "ctl.h"

extern const Verb verbs[], image_verbs[];
extern const Option global_options[];
extern const Option image_options[]; /* of PullImage and ImportImage */
extern const Option pull_options[];  /* of PullImage, for `create`, too */

int verb_create(Ctl *c, const Args *args);
int verb_action(Ctl *c, const Args *args); /* start, stop, kill, reset, suspend, resume, destroy */
int verb_set(Ctl *c, const Args *args);
int verb_update(Ctl *c, const Args *args);
int verb_validate(Ctl *c, const Args *args);
int verb_fmt(Ctl *c, const Args *args);
int verb_init(Ctl *c, const Args *args);
int verb_up(Ctl *c, const Args *args);
int verb_down(Ctl *c, const Args *args);
int verb_reload(Ctl *c, const Args *args);
int verb_provision(Ctl *c, const Args *args);
int verb_enable(Ctl *c, const Args *args); /* enable, disable */
int verb_list(Ctl *c, const Args *args);
int verb_status(Ctl *c, const Args *args);
int verb_console(Ctl *c, const Args *args);
int verb_ssh(Ctl *c, const Args *args);
int verb_ssh_config(Ctl *c, const Args *args);
int verb_cp(Ctl *c, const Args *args);
int verb_log(Ctl *c, const Args *args);
int verb_monitor(Ctl *c, const Args *args);
int verb_capabilities(Ctl *c, const Args *args);
int verb_qmp(Ctl *c, const Args *args);
int verb_image_pull(Ctl *c, const Args *args);
int verb_image_import(Ctl *c, const Args *args);
int verb_image_export(Ctl *c, const Args *args);
int verb_image_build(Ctl *c, const Args *args);
int verb_image_list(Ctl *c, const Args *args);
int verb_image_inspect(Ctl *c, const Args *args);
int verb_image_change(Ctl *c, const Args *args); /* remove, share, unshare */
int verb_image_rename(Ctl *c, const Args *args);
int verb_image_prune(Ctl *c, const Args *args);
int verb_help(Ctl *c, const Args *args);
