/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "util/fd-util.h"
#include "util/log.h"

/* The folder and, for a user who is new, those above it. */
static int make_folders(const char *path, mode_t mode) {
        const char *slash = strrchr(path, '/');

        if (mkdir(path, mode) >= 0 || errno == EEXIST)
                return 0;
        if (errno == ENOENT && slash > path) {
                _cleanup_free_ char *parent = strndup(path, (size_t)(slash - path));
                int r = parent ? make_folders(parent, 0700) : -ENOMEM;

                if (r < 0)
                        return r;
                if (mkdir(path, mode) >= 0 || errno == EEXIST)
                        return 0;
        }
        return -errno;
}

int core_open_folder(const char *path, mode_t mode) {
        int fd, r;

        r = make_folders(path, mode);
        if (r < 0)
                return log_error_errno(r, "Cannot make '%s': %m", path);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? log_error_errno(-errno, "Cannot open '%s': %m", path) : fd;
}

mode_t core_folder_mode(const Core *c) {
        return c->config.system ? 0711 : 0700;
}

static int set_up(Core *c, const OperationHooks *hooks, void *userdata) {
        int r;

        r = accounts_new(c->config.system ? c->config.limits : NULL, &c->accounts);
        if (r < 0)
                return r;
        r = operations_init(&c->operations, c->event, c->accounts, hooks, userdata);
        if (r < 0)
                return r;
        c->runtime_fd = core_open_folder(c->config.runtime_dir, core_folder_mode(c));
        if (c->runtime_fd < 0)
                return c->runtime_fd;
        /* The system's service has no privileges; as root, by hand, it has a launcher of its own. */
        r = launcher_new(c->event, c->config.system && geteuid() != 0 ? VMCTL_LAUNCH_SOCKET : NULL,
                        !c->config.system, &c->launcher);
        return r < 0 ? r : uid_pool_new(c->config.uid_first, c->config.uid_count, c->runtime_fd, &c->uids);
}

int core_new(sd_event *event, Config *config, const OperationHooks *hooks, void *userdata, Core **ret) {
        _cleanup_(core_freep) Core *c = malloc(sizeof(Core));
        int r;

        if (!c) {
                config_done(config);
                return -ENOMEM;
        }
        *c = (Core){ .event = sd_event_ref(event), .config = *config, .runtime_fd = -EBADF };
        *config = (Config){};
        r = set_up(c, hooks, userdata);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

Core *core_free(Core *c) {
        if (!c)
                return NULL;
        operations_done(&c->operations);
        launcher_free(c->launcher);
        uid_pool_free(c->uids);
        accounts_free(c->accounts);
        safe_close(c->runtime_fd);
        config_done(&c->config);
        sd_event_unref(c->event);
        free(c);
        return NULL;
}
