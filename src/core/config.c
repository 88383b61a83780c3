/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ini.h>
#include <stdio.h>
#include <unistd.h>

#include "config.h"
#include "spec/vm-spec.h"
#include "util/log.h"
#include "util/string-util.h"
#include "util/xdg.h"

/* Above every range that systemd, useradd and containers hand out (see UIDS-GIDS in systemd's
 * documentation). */
#define UID_FIRST_DEFAULT UINT32_C(1879048192)
#define UID_COUNT_DEFAULT UINT32_C(65536)

/* Larger than the images that are published, smaller than what a few bytes can be made to decompress to. */
#define IMAGE_SIZE_MAX_DEFAULT (256 * GIB)

static const char *const user_backend_table[_USER_BACKEND_MAX] = {
        [USER_BACKEND_AUTO] = "auto",
        [USER_BACKEND_PASST] = "passt",
        [USER_BACKEND_SLIRP] = "slirp",
};
DEFINE_STRING_TABLE(user_backend, UserBackend, _USER_BACKEND_MAX);

static int parse_range(const char *value, uint64_t max, uint64_t *ret_first, uint64_t *ret_last) {
        _cleanup_free_ char *copy = strdup(value);
        char *dash = copy ? strchr(copy, '-') : NULL;
        uint64_t first, last;

        if (!dash)
                return -EINVAL;
        *dash = '\0';
        if (parse_u64(copy, &first) < 0 || parse_u64(dash + 1, &last) < 0 || first == 0 || first > last ||
                        last > max)
                return -EINVAL;
        *ret_first = first;
        *ret_last = last;
        return 0;
}

static int parse_uids(const char *value, UidRange *ret) {
        uint64_t first, last;
        int r;

        r = parse_range(value, UINT32_MAX - 2, &first, &last);
        if (r < 0)
                return r;
        if (first < 1000 || last - first >= 1048576) /* never a system user; the index is a bitmap */
                return -ERANGE;
        *ret = (UidRange){ (uint32_t)first, (uint32_t)(last - first + 1) };
        return 0;
}

/* The range for new VMs, then those of earlier ones. */
static int set_uids(Config *c, const char *value) {
        _cleanup_free_ char *copy = strdup(value);
        UidRange ranges[1 + CONFIG_EARLIER_UIDS_MAX] = {};
        char *rest = copy, *word;
        size_t n = 0;

        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&rest, " \t"))) {
                int r = *word == '\0' ? 0 : n < ELEMENTSOF(ranges) ? parse_uids(word, &ranges[n++]) : -E2BIG;

                if (r < 0)
                        return r;
        }
        if (n == 0)
                return -EINVAL;
        c->uid_first = ranges[0].first;
        c->uid_count = ranges[0].count;
        memcpy(c->earlier_uids, ranges + 1, sizeof(c->earlier_uids));
        return 0;
}

static bool is_in(uid_t uid, UidRange range) {
        return uid >= range.first && uid - range.first < range.count;
}

bool config_has_uid(const Config *c, uid_t uid) {
        bool has = is_in(uid, (UidRange){ c->uid_first, c->uid_count });

        for (size_t i = 0; !has && i < ELEMENTSOF(c->earlier_uids); i++)
                has = is_in(uid, c->earlier_uids[i]);
        return has;
}

static int set_ports(Config *c, const char *value) {
        uint64_t first, last;
        int r;

        r = parse_range(value, UINT16_MAX, &first, &last);
        if (r < 0)
                return r;
        c->port_first = (uint16_t)first;
        c->port_last = (uint16_t)last;
        return 0;
}

static int set_console_log_max(Config *c, const char *value) {
        uint64_t v;
        int r;

        r = parse_size(value, 1, &v);
        if (r < 0)
                return r;
        if (v < VM_CONSOLE_LOG_MIN || v > VM_CONSOLE_LOG_MAX)
                return -ERANGE;
        c->console_log_max = v;
        return 0;
}

static int set_image_size_max(Config *c, const char *value) {
        uint64_t v;
        int r;

        r = parse_size(value, 1, &v);
        if (r < 0)
                return r;
        if (v < MIB || v > VM_DISK_MAX)
                return -ERANGE;
        c->image_size_max = v;
        return 0;
}

static int set_stop_timeout(Config *c, const char *value) {
        uint64_t v;
        int r;

        r = parse_u64(value, &v);
        if (r < 0)
                return r;
        if (v < 1 || v > CONFIG_STOP_TIMEOUT_MAX / USEC_PER_SEC)
                return -ERANGE;
        c->stop_timeout = v * USEC_PER_SEC;
        return 0;
}

static int set_path(char **field, const char *value) {
        return value[0] == '/' ? free_and_strdup(field, value) : -EINVAL;
}
static int set_qemu(Config *c, const char *value) {
        return set_path(&c->qemu, value);
}

static int set_user_backend(Config *c, const char *value) {
        UserBackend backend = user_backend_from_string(value);

        if ((int)backend < 0)
                return -EINVAL;
        c->user_backend = backend;
        return 0;
}

static const struct {
        const char *section, *key;
        int (*set)(Config *c, const char *value);
} config_keys[] = {
        { "Daemon", "ConsoleLogMax", set_console_log_max },
        { "Daemon", "ImageSizeMax", set_image_size_max },
        { "Daemon", "Qemu", set_qemu },
        { "Daemon", "SSHPortRange", set_ports },
        { "Daemon", "StopTimeoutSec", set_stop_timeout },
        { "Daemon", "UIDRange", set_uids },
        { "Network", "UserBackend", set_user_backend },
};

/* [Limits]: what one user may hold. */
static int set_limit(Config *c, const char *name, const char *value) {
        Resource resource = resource_from_string(name);
        uint64_t v;
        int r;

        if ((int)resource < 0)
                return -ENOENT;
        r = parse_size(value, 1, &v);
        if (r < 0)
                return r;
        c->limits[resource].per_user = v;
        return 0;
}

static int on_line(void *userdata, const char *section, const char *name, const char *value) {
        Config *c = userdata;

        for (size_t i = 0; i < ELEMENTSOF(config_keys); i++)
                if (streq(config_keys[i].section, section) && streq(config_keys[i].key, name)) {
                        int r = config_keys[i].set(c, value);

                        if (r < 0)
                                log_warning_errno(r, "vmctld.conf: %s=%s is not valid, ignoring: %m", name,
                                                value);
                        return 1;
                }
        if (streq(section, "Limits")) {
                int r = set_limit(c, name, value);

                if (r < 0 && r != -ENOENT)
                        log_warning_errno(r, "vmctld.conf: %s=%s is not valid, ignoring: %m", name, value);
                if (r != -ENOENT)
                        return 1;
        }
        log_warning("vmctld.conf: unknown setting [%s] %s=, ignoring", section, name);
        return 1;
}

static int read_conf(Config *c) {
        _cleanup_free_ char *path = strf("%s/vmctld.conf", c->conf_dir);
        FILE *f;
        int r;

        if (!path)
                return -ENOMEM;
        f = fopen(path, "re");
        if (!f && errno == ENOENT)
                return 0;
        if (!f)
                return log_error_errno(-errno, "Cannot read %s%s: %m", path,
                                errno == EACCES ? ", which the service's user must be able to" : "");
        r = ini_parse_file(f, on_line, c);
        (void)fclose(f);
        if (r != 0)
                log_warning("%s:%i: not a setting, ignoring this line", path, r);
        return 0;
}

static int set_dirs(Config *c) {
        c->state_dir = c->system ? strdup(VMCTL_STATE_DIR) : xdg_folder("XDG_DATA_HOME", ".local/share");
        c->conf_dir = c->system ? strdup(VMCTL_CONF_DIR) : xdg_folder("XDG_CONFIG_HOME", ".config");
        c->runtime_dir = c->system ? strdup(VMCTL_RUNTIME_DIR) : xdg_folder("XDG_RUNTIME_DIR", NULL);
        if (!c->state_dir || !c->conf_dir || !c->runtime_dir) {
                log_error("HOME and XDG_RUNTIME_DIR must be set for a user's instance");
                return -ENOENT;
        }
        return 0;
}

int config_load(bool system, Config *ret) {
        Config c = {
                .system = system,
                .uid_first = UID_FIRST_DEFAULT,
                .uid_count = UID_COUNT_DEFAULT,
                .port_first = 10022,
                .port_last = 10122,
                .console_log_max = VM_CONSOLE_LOG_DEFAULT,
                .image_size_max = IMAGE_SIZE_MAX_DEFAULT,
                .stop_timeout = 30 * USEC_PER_SEC,
                .qemu = strdup("/usr/bin/qemu-system-x86_64"),
        };
        int r;

        memcpy(c.limits, resource_limits_default, sizeof(c.limits));
        r = c.qemu ? set_dirs(&c) : -ENOMEM;
        if (r >= 0)
                r = read_conf(&c);
        if (r < 0) {
                config_done(&c);
                return r;
        }
        c.limits[RESOURCE_PORTS].total = (uint64_t)(c.port_last - c.port_first) + 1;
        if (!system)
                c.uid_count = 0;
        *ret = c;
        return 0;
}

void config_done(Config *c) {
        free(c->state_dir);
        free(c->runtime_dir);
        free(c->conf_dir);
        free(c->qemu);
        *c = (Config){};
}
