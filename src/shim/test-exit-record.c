/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>
#include <unistd.h>

#include "exit-record.h"
#include "util/fd-util.h"
#include "util/test.h"

static void check_cgroup(const char *text, bool unified, const char *path) {
        _cleanup_free_ char *copy = strdup(text);

        CHECK(copy);
        CHECK_STREQ(oom_watch_find_cgroup(copy, unified), path);
}

static void test_find_cgroup(void) {
        static const char v2[] = "0::/vmctl.slice/vmctl-a.scope\n",
                          v1[] = "9:name=systemd:/x\n8:cpu,cpuacct:/y\n4:hugetlb,memory:/vmctl.slice/"
                                 "a:b\n0::/z\n";

        check_cgroup(v2, true, "/vmctl.slice/vmctl-a.scope");
        check_cgroup(v2, false, NULL);
        check_cgroup(v1, false, "/vmctl.slice/a:b");
        check_cgroup(v1, true, "/z");
        check_cgroup("", true, NULL);
        check_cgroup("0:\nmemory\n1:memory\n", false, NULL);
        check_cgroup("1:memory2,xmemory:/x\n", false, NULL);
        check_cgroup("10::/x\n", true, NULL);
}

static void set_counter(OomWatch *w, const char *text) {
        CHECK_EQ(ftruncate(w->counter, 0), 0);
        CHECK_EQ(pwrite(w->counter, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void test_counter(void) {
        OomWatch w = OOM_WATCH_INIT;

        CHECK(!oom_watch_has_killed(&w)); /* no controller */
        w.counter = memfd_create("counter", MFD_CLOEXEC);
        CHECK(w.counter >= 0);
        set_counter(&w, "low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n");
        CHECK(!oom_watch_has_killed(&w));
        set_counter(&w, "low 0\nhigh 0\nmax 14\noom 2\noom_kill 1\noom_group_kill 0\n");
        CHECK(oom_watch_has_killed(&w));
        w.before = 1;
        CHECK(!oom_watch_has_killed(&w));
        set_counter(&w, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        CHECK(oom_watch_has_killed(&w));
        set_counter(&w, "oom_kill many\n");
        CHECK(!oom_watch_has_killed(&w));
        oom_watch_done(&w);
}

static void check_record(const siginfo_t *si, bool oom, const char *start) {
        char record[EXIT_RECORD_MAX];
        size_t len = exit_record_format(si, oom, record);
        uint64_t usec;

        CHECK_EQ(len, strlen(record));
        CHECK(startswith(record, start));
        CHECK(streq(record + len - 2, "}\n"));
        record[len - 2] = '\0';
        CHECK_EQ(parse_u64(record + strlen(start), &usec), 0);
        CHECK(usec > 1700000000 * USEC_PER_SEC);
}

static void test_record(void) {
        siginfo_t si = { .si_code = CLD_EXITED };
        _cleanup_close_ int fd = memfd_create("record", MFD_CLOEXEC);
        char text[16] = {};

        si.si_status = 3;
        check_record(&si, false, "{\"exited\":3,\"time\":");
        si.si_code = CLD_KILLED;
        si.si_status = SIGKILL;
        check_record(&si, true, "{\"signal\":9,\"oom\":true,\"time\":");
        si.si_code = CLD_DUMPED;
        si.si_status = SIGSEGV;
        check_record(&si, false, "{\"signal\":11,\"time\":");

        CHECK(fd >= 0);
        CHECK_EQ(exit_record_write(fd, "longer\n", 7), 0);
        CHECK_EQ(exit_record_write(fd, "new\n", 4), 0);
        CHECK_EQ(pread(fd, text, sizeof(text), 0), 4);
        CHECK_STREQ(text, "new\n");
}

int main(void) {
        test_find_cgroup();
        test_counter();
        test_record();
        return EXIT_SUCCESS;
}
