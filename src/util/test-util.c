/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "child.h"
#include "error.h"
#include "fd-util.h"
#include "nearest.h"
#include "test.h"

static void test_numbers(void) {
        static const struct {
                const char *text;
                int r;
                uint64_t value;
        } table[] = {
                { "0", 0, 0 },
                { "18446744073709551615", 0, UINT64_MAX },
                { "18446744073709551616", -ERANGE, 0 },
                { "", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },
                { "+1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },
                { "1 ", -EINVAL, 0 },
                { "0x10", -EINVAL, 0 },
        };
        uint32_t small;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint64_t v = 0;

                CHECK_EQ(parse_u64(table[i].text, &v), table[i].r);
                CHECK(v == table[i].value);
        }
        CHECK_EQ(parse_u32("4294967295", &small), 0);
        CHECK_EQ(parse_u32("4294967296", &small), -ERANGE);
}

static void test_sizes(void) {
        static const struct {
                const char *text;
                uint64_t unit;
                int r;
                uint64_t value;
        } table[] = {
                { "2048", MIB, 0, 2048 * MIB },
                { "2G", MIB, 0, 2 * GIB },
                { "2GiB", MIB, 0, 2 * GIB },
                { "2gB", MIB, 0, 2 * GIB },
                { "512B", MIB, 0, 512 },
                { "1T", 1, 0, 1024 * GIB },
                { "16777216T", 1, -ERANGE, 0 },
                { "2X", 1, -EINVAL, 0 },
                { "G", 1, -EINVAL, 0 },
                { "2 G", 1, -EINVAL, 0 },
                { "2 ", 1, -EINVAL, 0 },
                { "2 B", 1, -EINVAL, 0 },
                { "-2G", 1, -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint64_t v = 0;

                CHECK_EQ(parse_size(table[i].text, table[i].unit, &v), table[i].r);
                CHECK(v == table[i].value);
        }
}

static void check_escape(const char *text, size_t len, const char *expected) {
        _cleanup_free_ char *s = string_escape(text, len, SIZE_MAX);

        CHECK_STREQ(s, expected);
        CHECK(utf8_is_valid(s, strlen(s)));
}

static void test_format_size(void) {
        CHECK_STREQ(FORMAT_SIZE(0), "0 bytes");
        CHECK_STREQ(FORMAT_SIZE(1), "1 byte");
        CHECK_STREQ(FORMAT_SIZE(KIB - 1), "1023 bytes");
        CHECK_STREQ(FORMAT_SIZE(KIB), "1 KiB");
        CHECK_STREQ(FORMAT_SIZE(GIB + 1), "1073741825 bytes");
        CHECK_STREQ(FORMAT_SIZE(2252 * MIB), "2252 MiB");
        CHECK_STREQ(FORMAT_SIZE(1024 * GIB), "1 TiB");
        CHECK_STREQ(FORMAT_SIZE(UINT64_C(1) << 63), "8 EiB");
        CHECK_STREQ(FORMAT_SIZE(UINT64_MAX), "18446744073709551615 bytes");
}

static void test_escape(void) {
        _cleanup_free_ char *cut = string_escape("abcdef", 6, 3);

        check_escape("plain \xc3\xa4", 8, "plain \xc3\xa4");
        check_escape("\x1b[31m\n", 6, "\\x1b[31m\\x0a");
        check_escape("a\0b", 3, "a\\x00b");
        check_escape("\xff\xc3", 2, "\\xff\\xc3");
        check_escape("\xc2\x9b", 2, "\\xc2\\x9b");          /* C1: CSI on some terminals */
        check_escape("\xed\xa0\x80", 3, "\\xed\\xa0\\x80"); /* a surrogate */
        check_escape("\xc0\x80", 2, "\\xc0\\x80");          /* overlong */
        CHECK_STREQ(cut, "abc");
}

static void test_zeros(void) {
        char buffer[100] = "";

        CHECK(is_zero(buffer, 0) && is_zero(buffer, 1) && is_zero(buffer, sizeof(buffer)));
        for (size_t i = 0; i < sizeof(buffer); i++) {
                buffer[i] = 1;
                CHECK(!is_zero(buffer, sizeof(buffer)) && is_zero(buffer, i));
                buffer[i] = 0;
        }
}

static void test_hex(void) {
        char text[7];

        hex_encode("\x00\x7f\xff", 3, text);
        CHECK_STREQ(text, "007fff");
        hex_encode(NULL, 0, text);
        CHECK_STREQ(text, "");
}

static void test_ends(void) {
        CHECK_STREQ(startswith("prefix-rest", "prefix-"), "rest");
        CHECK(!startswith("pre", "prefix"));
        CHECK(endswith("file.mod", ".mod"));
        CHECK(endswith("file", ""));
        CHECK(!endswith("mod", ".mod") && !endswith("file.mod.old", ".mod"));
}

static void test_strv(void) {
        _cleanup_strv_ char **v = NULL;

        CHECK_EQ(strv_length(v), 0);
        CHECK_EQ(strv_extend(&v, "a"), 0);
        CHECK_EQ(strv_extendf(&v, "%i", 42), 0);
        CHECK_EQ(strv_push(&v, NULL), -ENOMEM);
        CHECK_EQ(strv_length(v), 2);
        CHECK(strv_contains(v, "42") && !strv_contains(v, "4"));
}

static bool malloc_fails; /* that of what is linked here */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
        return malloc_fails ? NULL : __real_malloc(size);
}

/* A failure stays one where there is no memory to tell which. */
static void test_errors_without_memory(void) {
        _cleanup_error_ Error *e = NULL, *named = NULL, *copy = NULL;

        malloc_fails = true;
        CHECK_EQ(error_set(&e, ERROR_TIMEOUT, "It is late"), -ETIMEDOUT);
        CHECK_EQ(error_set_named(&named, ERROR_TIMEOUT, "org.example.Late", NULL, "It is late"), -ETIMEDOUT);
        CHECK(error_is(e, ERROR_NO_MEMORY) && error_is(named, ERROR_NO_MEMORY));
        copy = error_copy(e);
        CHECK_STREQ(error_message(copy), "Out of memory");
        malloc_fails = false;
        CHECK_EQ(error_set(&e, ERROR_TIMEOUT, "It is late"), -ETIMEDOUT);
        CHECK(error_is(e, ERROR_TIMEOUT));
}

static void test_errors(void) {
        _cleanup_error_ Error *e = NULL, *copy = NULL;

        for (int i = 0; i < _ERROR_CODE_MAX; i++) {
                CHECK(error_code_errno(i) > 0);
                CHECK_EQ(error_code_from_name(error_code_name(i)), i);
        }
        CHECK_EQ(error_code_from_name("org.example.Nothing"), _ERROR_CODE_INVALID);
        CHECK_EQ(error_set(&e, ERROR_NO_SUCH_VM, "There is no VM '%s'", "x"), -ENXIO);
        CHECK_STREQ(error_message(e), "There is no VM 'x'");
        CHECK_EQ(error_set_errno(&e, -ENOSPC, "Cannot write"), -ENOSPC);
        CHECK_EQ(error_code(e), ERROR_NO_SPACE);
        CHECK_STREQ(error_message(e), "Cannot write: No space left on device");
        copy = error_copy(e);
        CHECK_STREQ(error_message(copy), error_message(e));
        CHECK_STREQ(error_message(NULL), "Unknown error");
        CHECK_STREQ(error_name(e), "org.vmctl1.Error.NoSpace");
        CHECK_STREQ(error_hint(e), error_code_hint(ERROR_NO_SPACE));
        CHECK_EQ(error_set_named(&e, ERROR_TIMEOUT, "org.example.Late", "Be patient.", "It is late"),
                        -ETIMEDOUT);
        copy = error_free(copy);
        copy = error_copy(e);
        CHECK_EQ(error_code(copy), ERROR_TIMEOUT);
        CHECK_STREQ(error_message(copy), "It is late");
        CHECK_STREQ(error_name(copy), "org.example.Late");
        CHECK_STREQ(error_hint(copy), "Be patient.");
        CHECK_EQ(error_set(NULL, ERROR_BUSY, "nobody wants it"), -EBUSY);
}

static void test_files(const char *folder) {
        _cleanup_close_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), sub = -EBADF;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t len;
        int file;

        CHECK(fd >= 0);
        CHECK_EQ(write_file_at(fd, "a", "one", 3, 0600, WRITE_FILE_SYNC), 0);
        CHECK_EQ(write_file_at(fd, "a", "second", 6, 0640, 0), 0);
        CHECK_EQ(read_file_at(fd, "a", 6, &text, &len), 0);
        CHECK_EQ(len, 6);
        CHECK_STREQ(text, "second");
        CHECK(fstatat(fd, "a", &st, 0) >= 0 && (st.st_mode & 07777) == 0640);
        CHECK_EQ(read_file_at(fd, "a", 5, &text, &len), -EFBIG);
        CHECK_EQ(read_file_at(fd, "nothing", 5, &text, &len), -ENOENT);
        CHECK(fstatat(fd, ".a.new", &st, 0) < 0); /* no leftovers */

        CHECK(symlinkat("a", fd, "link") >= 0);
        CHECK_EQ(read_file_at(fd, "link", 6, &text, &len), -ELOOP);
        CHECK(mkfifoat(fd, "fifo", 0600) >= 0);
        CHECK_EQ(read_file_at(fd, "fifo", 6, &text, &len), -EINVAL); /* and does not hang */
        CHECK_EQ(open_file_at(fd, "fifo", O_WRONLY, 0), -EINVAL);
        CHECK_EQ(open_file_at(fd, "fifo", O_RDWR, 0), -EINVAL);
        CHECK_EQ(open_file_at(fd, "link", O_WRONLY, 0), -ELOOP);
        CHECK_EQ(open_file_at(AT_FDCWD, "/dev/null", O_RDONLY, 0), -EINVAL);
        CHECK_EQ(open_file_at(AT_FDCWD, "/dev", O_RDONLY, 0), -EISDIR);
        file = open_file_at(fd, "c", O_RDWR | O_CREAT, 0600);
        CHECK(file >= 0);
        CHECK_EQ(fcntl(file, F_GETFL) & O_NONBLOCK, 0); /* it is for programs that do not expect that */
        CHECK_EQ(safe_close(file), -EBADF);

        sub = make_dir_at(fd, "sub", 0711);
        CHECK(sub >= 0);
        CHECK_EQ(write_file_at(sub, "b", "x", 1, 0600, 0), 0);
        CHECK(symlinkat("../a", sub, "up") >= 0);
        CHECK(symlinkat("sub", fd, "dir-link") >= 0);
        CHECK_EQ(remove_tree_at(fd, "dir-link"), 0);
        CHECK_EQ(remove_tree_at(fd, "sub"), 0);
        CHECK(fstatat(fd, "sub", &st, AT_SYMLINK_NOFOLLOW) < 0);
        CHECK(fstatat(fd, "a", &st, 0) >= 0); /* the link's target stays */
        CHECK_EQ(remove_tree_at(fd, "sub"), 0);
}

static void test_child(void) {
        _cleanup_close_pair_ int out[2] = { -EBADF, -EBADF };
        _cleanup_free_ char *text = NULL;
        char *const argv[] = { (char *)"/bin/sh", (char *)"-c",
                (char *)"for f in /proc/self/fd/*; do readlink $f >/dev/null && echo ${f##*/}; done; cat "
                        "<&0; kill -9 $$",
                NULL };
        char *const missing[] = { (char *)"/nonexistent", NULL };
        const ChildSpec none = { .argv = missing };
        ChildFd fds[] = { { -1, 1 }, { -1, 7 } };
        const ChildSpec spec = { .argv = argv, .fds = fds, .n_fds = 2, .flags = CHILD_NEW_SESSION };
        int status;
        size_t len;
        pid_t pid;

        CHECK(pipe2(out, O_CLOEXEC) >= 0);
        fds[0].fd = fds[1].fd = out[1];
        CHECK_EQ(child_spawn(&spec, &pid), 0);
        out[1] = safe_close(out[1]);
        CHECK_EQ(read_all(out[0], 4096, &text, &len), 0);
        CHECK_STREQ(text, "0\n1\n2\n7\n"); /* nothing of ours but what was given; 0 and 2 are /dev/null */
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK_EQ(child_spawn(&none, &pid), -ENOENT);
}

static void test_utf8(void) {
        static const uint32_t points[] = { 0, 'a', 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000,
                0x10ffff };
        uint32_t c = 1;
        char s[4];

        for (size_t i = 0; i < ELEMENTSOF(points); i++) {
                size_t n = utf8_encode(points[i], s);

                CHECK_EQ(utf8_decode(s, n, &c), n);
                CHECK_EQ(c, points[i]);
                CHECK_EQ(utf8_decode(s, n - 1, &c), 0);
        }
        CHECK_EQ(utf8_decode("\xf4\x90\x80\x80", 4, &c), 0); /* beyond U+10FFFF */
        CHECK_EQ(c, 0x10ffff);
}

static void test_nearest(void) {
        const char *found = NULL;
        size_t best = SIZE_MAX;

        CHECK_EQ(word_distance("memory", "memroy"), 1);
        CHECK_EQ(word_distance("kitten", "sitting"), 3);
        CHECK_EQ(word_distance("", "abc"), 3);
        word_nearer("memroy", "disk", &best, &found);
        CHECK(!found);
        word_nearer("memroy", "memory-max", &best, &found);
        CHECK(!found);
        word_nearer("memroy", "memory", &best, &found);
        CHECK_STREQ(found, "memory");
        word_nearer("memroy", "memries", &best, &found);
        CHECK_STREQ(found, "memory");
}

static void test_arena(void) {
        _cleanup_arena_ Arena *a = NULL;
        char *first = arena_alloc(&a, 1, 1), *before = first;
        uint64_t *zeroed;

        CHECK(first);
        *first = 'x';
        for (size_t size = 1; size < 300000; size = size * 3 / 2 + 1) {
                char *p = arena_alloc(&a, size, 8);

                CHECK(p && p != before && ((uintptr_t)p & 7) == 0);
                memset(p, 0xff, size);
                before = p;
        }
        zeroed = arena_new(&a, uint64_t);
        CHECK(zeroed && *zeroed == 0);
        CHECK_EQ(*first, 'x');
        CHECK(!arena_alloc(&a, SIZE_MAX - 8, 8));
}

int main(void) {
        char folder[] = "/tmp/test-util-XXXXXX";

        test_numbers();
        test_sizes();
        test_format_size();
        test_escape();
        test_hex();
        test_zeros();
        test_ends();
        test_utf8();
        test_nearest();
        test_arena();
        test_strv();
        test_errors();
        test_errors_without_memory();
        CHECK(mkdtemp(folder));
        test_files(folder);
        CHECK_EQ(remove_tree_at(AT_FDCWD, folder), 0);
        test_child();
        return 0;
}
