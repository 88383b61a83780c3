/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "container-build.h"
#include "tool.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define IMAGE_ID_MAX 4096 /* of what --quiet leaves on standard output */

typedef enum Builder {
        BUILDER_PODMAN,
        BUILDER_BUILDAH,
        BUILDER_DOCKER,
        _BUILDER_MAX,
} Builder;

static const struct {
        const char *name;
        const char *save[4]; /* in front of the image's name */
} builders[_BUILDER_MAX] = {
        [BUILDER_PODMAN] = { "podman", { "save", "--quiet", "--format=oci-archive" } },
        [BUILDER_BUILDAH] = { "buildah", { "push", "--quiet" } },
        [BUILDER_DOCKER] = { "docker", { "save" } },
};

int container_find_file(const char *folder, const char *given, char **ret, Error **reterr) {
        static const char *const names[] = { "Containerfile", "Dockerfile" };

        if (given && access(given, R_OK) < 0)
                return error_set_errno(reterr, -errno, "Failed to read '%s'", given);
        for (size_t i = 0; i <= ELEMENTSOF(names); i++) {
                _cleanup_free_ char *path = NULL;

                if (!given && i == ELEMENTSOF(names))
                        break;
                path = given ? strdup(given) : strf("%s/%s", folder, names[i]);
                if (!path)
                        return error_set_errno(reterr, -ENOMEM, "Failed to look for a Containerfile");
                if (access(path, F_OK) >= 0) {
                        *ret = TAKE_PTR(path);
                        return 1;
                }
        }
        return 0;
}

static int find_builder(Builder *ret, Error **reterr) {
        for (int i = 0; i < _BUILDER_MAX; i++) {
                _cleanup_free_ char *path = tool_find(builders[i].name);

                if (path) {
                        *ret = (Builder)i;
                        return 0;
                }
        }
        return error_set(reterr, ERROR_TOOL_MISSING,
                        "A folder with a Containerfile is built by podman, buildah or docker, and none of "
                        "them "
                        "is installed (Debian: apt install podman)");
}

static int run(Builder builder, const char *const argv[], int stdout_fd, Error **reterr) {
        return tool_run(
                        &(ToolRun){
                                        .argv = argv,
                                        .package = builders[builder].name,
                                        .inherit_environment = true,
                                        .stdin_fd = -EBADF,
                                        .stdout_fd = stdout_fd,
                        },
                        reterr);
}

/* The last line of what was printed, which is the image's ID. */
static int read_image_id(int fd, const char *builder, char **ret, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        char *line;
        size_t len;
        int r;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return error_set_errno(reterr, -errno, "Failed to read the image's ID");
        r = read_all(fd, IMAGE_ID_MAX, &text, &len);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the image's ID");
        while (len > 0 && text[len - 1] == '\n')
                text[--len] = '\0';
        line = strrchr(text, '\n');
        line = line ? line + 1 : text;
        /* A word, and no option */
        if (line[0] == '-' || line[0] == '\0' || line[strcspn(line, " \t\r")] != '\0')
                return error_set(reterr, ERROR_FAILED, "'%s' did not say which image it has built", builder);
        *ret = strdup(line);
        return *ret ? 0 : error_set_errno(reterr, -ENOMEM, "Failed to read the image's ID");
}

static int build(Builder builder, const char *folder, const char *file, char **ret_id, Error **reterr) {
        const char *const argv[] = { builders[builder].name, builder == BUILDER_BUILDAH ? "bud" : "build",
                "--quiet", "--file", file, "--", folder, NULL };
        _cleanup_close_ int output = memfd_create("image-id", MFD_CLOEXEC);
        int r;

        if (output < 0)
                return error_set_errno(reterr, -errno, "Failed to build the container image");
        r = run(builder, argv, output, reterr);
        return r < 0 ? r : read_image_id(output, builders[builder].name, ret_id, reterr);
}

static int save(Builder builder, const char *id, int output, Error **reterr) {
        const char *argv[8] = { builders[builder].name };
        size_t n = 1;

        for (size_t i = 0; builders[builder].save[i]; i++)
                argv[n++] = builders[builder].save[i];
        argv[n++] = id;
        if (builder == BUILDER_BUILDAH)
                argv[n++] = "docker-archive:/dev/stdout";
        return run(builder, argv, output, reterr);
}

int container_build(const char *folder, const char *file, int *ret, Error **reterr) {
        _cleanup_close_ int output = -EBADF;
        _cleanup_free_ char *id = NULL;
        Builder builder;
        int r;

        r = find_builder(&builder, reterr);
        if (r >= 0)
                r = build(builder, folder, file, &id, reterr);
        if (r >= 0)
                r = tool_temporary_file(&output, reterr);
        if (r >= 0)
                r = save(builder, id, output, reterr);
        if (r >= 0)
                *ret = TAKE_FD(output);
        return r;
}
