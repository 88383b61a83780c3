/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holds vmfile(5) against the table of keys, and its example against the reader: test-vmfile-man PAGE. */
#include <fcntl.h>

#include "util/fd-util.h"
#include "util/test.h"
#include "vmfile-keys.h"
#include "vmfile.h"

/* The part of the page on a block, up to the next one. */
static char *section(const char *page, VmfileBlock block) {
        _cleanup_free_ char *title = strf("\n.Ss In %s\n", vmfile_block_to_string(block)), *plain = NULL;
        const char *from, *end;
        size_t o = 0;

        plain = calloc(1, strlen(title) * 4 + 1);
        for (const char *s = title; *s; s++)
                if (*s == '"')
                        o += (size_t)sprintf(plain + o, "\\(dq");
                else
                        plain[o++] = *s;
        from = strstr(page, plain);
        if (!from)
                TEST_FAIL("the page has no section on %s", vmfile_block_to_string(block));
        end = strstr(from + 1, "\n.S");
        CHECK(end);
        return strndup(from, (size_t)(end - from) + 1);
}

/* As mdoc has it: "[NAME] SIZE" is "Op Ar NAME Ar SIZE". */
static char *item_of(const VmfileKey *k) {
        const char *a = k->argument;

        if (!a)
                return strf("\n.It Cm %s\n", k->name);
        if (*a != '[')
                return strf("\n.It Cm %s Ar %s\n", k->name, a);
        return strf("\n.It Cm %s Op Ar %.*s%s%s\n", k->name, (int)strcspn(a + 1, "]"), a + 1,
                        strchr(a, ' ') ? " Ar" : "", strchr(a, ' ') ?: "");
}

static void check_block(const char *page, VmfileBlock block) {
        _cleanup_free_ char *text = section(page, block);
        size_t known = 0, items = 0;

        for (size_t i = 0; i < vmfile_n_keys; i++) {
                _cleanup_free_ char *item = NULL;

                if (vmfile_keys[i].in != block)
                        continue;
                item = item_of(&vmfile_keys[i]);
                if (!strstr(text, item))
                        TEST_FAIL("the page on %s has no%s", vmfile_block_to_string(block), item);
                known++;
        }
        for (const char *s = text; (s = strstr(s, "\n.It ")); s++)
                items++;
        CHECK_EQ(items, known);
}

static void check_example(const char *page) {
        static const VmfileOptions options = { .folder = "/", .home = "/home/me" };
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = NULL;
        _cleanup_vmfile_ Vmfile *f = NULL;
        const char *from = strstr(page, "\nvm \""), *end = from ? strstr(from, "\n.Ed") : NULL;
        size_t len;

        CHECK(end);
        len = (size_t)(end - from);
        CHECK_EQ(kdl_diagnostics_new("example", from, len, &d), 0);
        if (vmfile_parse(from, len, &options, &f, d) < 0) {
                kdl_diagnostics_write(d, stderr);
                TEST_FAIL("the example is wrong");
        }
        CHECK_EQ(f->n_vms, 2);
}

int main(int argc, char *argv[]) {
        _cleanup_close_ int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -EBADF;
        _cleanup_free_ char *page = NULL;
        size_t len;

        CHECK(fd >= 0);
        CHECK_EQ(read_all(fd, MIB, &page, &len), 0);
        for (int i = 0; i < _VMFILE_BLOCK_MAX; i++)
                check_block(page, i);
        check_example(page);
        return 0;
}
