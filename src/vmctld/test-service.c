/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service as a whole, made where something is missing: each descriptor in turn is the first one that is
 * not to be had, and each folder is one that cannot be made. Run by dbus-run-session. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "service.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/test.h"

static const char *const folders[] = { "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR" };

static sd_event *event;
static sd_bus *bus;
static char folder[] = "/tmp/test-service-XXXXXX";

static void use_folder(const char *variable, const char *name) {
        char path[sizeof(folder) + 32];

        (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
        CHECK(setenv(variable, path, true) >= 0);
}

static int make_service(void) {
        static const ManagerHooks hooks = {};
        Manager *m = NULL;
        Config config;
        int r;

        r = config_load(false, &config);
        if (r < 0)
                return r;
        r = service_new(event, bus, bus, &config, &hooks, &m);
        config_done(&config);
        CHECK((r < 0) == !m);
        service_free(m);
        return r;
}

static rlim_t count_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        rlim_t n = 0;

        CHECK(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n - 3; /* ".", ".." and its own */
}

static void test_descriptors(void) {
        rlim_t before = count_descriptors(), n = before;
        struct rlimit limit;
        unsigned failed = 0;

        CHECK(getrlimit(RLIMIT_NOFILE, &limit) >= 0);
        for (int r = -1; r < 0; n++) {
                CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ n, limit.rlim_max }) >= 0);
                r = make_service();
                CHECK(setrlimit(RLIMIT_NOFILE, &limit) >= 0);
                CHECK_EQ(count_descriptors(), before);
                failed += r < 0;
        }
        CHECK(failed >= 5);
}

/* What is below a file. */
static void test_folders(void) {
        use_folder("XDG_DATA_HOME", "file");
        CHECK_EQ(make_service(), -ENOTDIR);
        use_folder("XDG_DATA_HOME", "XDG_DATA_HOME");
        use_folder("XDG_RUNTIME_DIR", "file");
        CHECK_EQ(make_service(), -ENOTDIR);
        use_folder("XDG_RUNTIME_DIR", "XDG_RUNTIME_DIR");
        CHECK(make_service() >= 0);
}

int main(void) {
        _cleanup_close_ int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = -EBADF;

        CHECK(mkdtemp(folder));
        for (size_t i = 0; i < ELEMENTSOF(folders); i++)
                use_folder(folders[i], folders[i]);
        file = make_dir_at(tmp, folder + strlen("/tmp/"), 0700);
        CHECK(file >= 0);
        CHECK(write_file_at(file, "file", "", 0, 0600, 0) >= 0);
        CHECK(sd_event_new(&event) >= 0);
        CHECK(sd_bus_open_user(&bus) >= 0);
        CHECK(sd_bus_attach_event(bus, event, 0) >= 0);
        test_descriptors();
        test_folders();
        sd_bus_flush_close_unref(bus);
        sd_event_unref(event);
        CHECK(remove_tree_at(tmp, folder + strlen("/tmp/")) >= 0);
        return 0;
}
