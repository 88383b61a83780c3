/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* Users' PATH often lacks the folders where mkfs.ext4 and sfdisk are. */
#define SYSTEM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *find_in(const char *list, const char *name) {
        while (*list) {
                size_t n = strcspn(list, ":");
                _cleanup_free_ char *path = strf("%.*s/%s", (int)n, list, name);

                if (n > 0 && list[0] == '/' && path && access(path, X_OK) >= 0)
                        return TAKE_PTR(path);
                list += n + (list[n] == ':');
        }
        return NULL;
}

char *tool_find(const char *name) {
        return find_in(getenv("PATH") ?: "", name) ?: find_in(SYSTEM_PATH, name);
}

static int make_environment(const ToolRun *run, char ***ret) {
        static const char *const kept[] = { "SOURCE_DATE_EPOCH", "TMPDIR" };
        _cleanup_strv_ char **v = NULL;
        int r = 0;

        if (run->inherit_environment) {
                STRV_FOREACH(s, environ)
                        r = r < 0 ? r : strv_extend(&v, *s);
        } else {
                r = strv_extend(&v, "PATH=" SYSTEM_PATH);
                r = r < 0 ? r : strv_extend(&v, "LANG=C.UTF-8");
                for (size_t i = 0; r >= 0 && i < ELEMENTSOF(kept); i++)
                        if (getenv(kept[i]))
                                r = strv_extendf(&v, "%s=%s", kept[i], getenv(kept[i]));
        }
        if (r >= 0 && run->environment)
                r = strv_extend(&v, run->environment);
        if (r >= 0)
                *ret = TAKE_PTR(v);
        return r;
}

static int spawn(const ToolRun *run, const char *path, pid_t *ret) {
        ChildFd fds[3 + TOOL_FDS_MAX] = {
                { run->stdout_fd >= 0 ? run->stdout_fd : STDERR_FILENO, STDOUT_FILENO },
                { STDERR_FILENO, STDERR_FILENO },
        };
        _cleanup_strv_ char **environment = NULL;
        _cleanup_free_ char **argv = NULL;
        size_t n = 0, n_fds = 2;
        int r;

        while (run->argv[n])
                n++;
        argv = calloc(n + 1, sizeof(char *));
        if (!argv)
                return -ENOMEM;
        memcpy(argv, run->argv, n * sizeof(char *));
        argv[0] = (char *)path;
        r = make_environment(run, &environment);
        if (r < 0)
                return r;
        if (run->stdin_fd >= 0)
                fds[n_fds++] = (ChildFd){ run->stdin_fd, STDIN_FILENO };
        for (size_t i = 0; i < run->n_fds; i++)
                fds[n_fds++] = (ChildFd){ run->fds[i], 3 + (int)i };
        return child_spawn(
                        &(ChildSpec){
                                        .argv = argv,
                                        .envp = environment,
                                        .fds = fds,
                                        .n_fds = n_fds,
                                        .flags = CHILD_DIE_WITH_PARENT,
                                        .cpu_seconds = run->cpu_seconds,
                                        .address_space = run->address_space,
                        },
                        ret);
}

static int await(pid_t pid, int *ret_status) {
        int r;

        do
                r = waitpid(pid, ret_status, 0);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
}

int tool_run(const ToolRun *run, Error **reterr) {
        const char *name = run->argv[0];
        _cleanup_free_ char *path = tool_find(name);
        int status, r;
        pid_t pid;

        if (!path)
                return error_set(reterr, ERROR_TOOL_MISSING,
                                "'%s' is not installed (Debian: apt install %s)", name, run->package);
        r = spawn(run, path, &pid);
        if (r >= 0)
                r = await(pid, &status);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to run '%s'", name);
        if (WIFSIGNALED(status))
                return error_set(
                                reterr, ERROR_FAILED, "'%s' was ended by signal %d", name, WTERMSIG(status));
        if (WEXITSTATUS(status) != 0)
                return error_set(reterr, ERROR_FAILED, "'%s' failed with exit status %d", name,
                                WEXITSTATUS(status));
        return 0;
}

const char *tool_temporary_folder(void) {
        const char *folder = getenv("TMPDIR");

        return isempty(folder) ? "/var/tmp" : folder;
}

/* For file systems that have no unnamed files: named for a moment. */
static int open_unlinked(void) {
        _cleanup_free_ char *path = strf("%s/vmctl-build-XXXXXX", tool_temporary_folder());
        int fd;

        if (!path)
                return -ENOMEM;
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        (void)unlink(path);
        return fd;
}

int tool_temporary_file(int *ret, Error **reterr) {
        int fd = open(tool_temporary_folder(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd < 0)
                fd = errno == EOPNOTSUPP || errno == EISDIR ? open_unlinked() : -errno;
        if (fd < 0)
                return error_set_errno(reterr, fd, "Failed to make a temporary file in '%s'",
                                tool_temporary_folder());
        *ret = fd;
        return 0;
}
