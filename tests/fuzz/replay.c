/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a fuzz target over every file of the folders given, for builds without libFuzzer. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "fuzz.h"
#include "util/fd-util.h"

#define INPUT_MAX (16 * MIB)

static int replay_file(int dir_fd, const char *name) {
        _cleanup_free_ char *data = NULL;
        size_t len;
        int r = read_file_at(dir_fd, name, INPUT_MAX, &data, &len);

        if (r < 0)
                return r;
        LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        return 0;
}

static int replay_folder(const char *path) {
        DIR *dir = opendir(path);
        struct dirent *de;
        int n = 0, r = 0;

        if (!dir)
                return -errno;
        while (r >= 0 && (de = readdir(dir)))
                if (de->d_name[0] != '.') {
                        r = replay_file(dirfd(dir), de->d_name);
                        n++;
                }
        closedir(dir);
        return r < 0 ? r : n > 0 ? 0 : -ENOENT; /* a corpus that is lost must not look like a pass */
}

int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                int r = replay_folder(argv[i]);

                if (r < 0) {
                        fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
                        return EXIT_FAILURE;
                }
        }
        return argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
