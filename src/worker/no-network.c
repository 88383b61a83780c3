/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "no-network.h"

#if defined(__x86_64__)
#        define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#        define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#        define NATIVE_ARCH AUDIT_ARCH_RISCV64
#else
#        error "Which architecture does the kernel call this?"
#endif
#define X32_BIT 0x40000000 /* calls of x86's 32 bit ABI come under the native architecture with this bit */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define JUMP(op, value, yes, no) BPF_JUMP(BPF_JMP | (op) | BPF_K, (value), (yes), (no))

int no_network(Error **reterr) {
        /* A network namespace of its own would need rights that a user's own service has not. io_uring can
         * make sockets past the filter. */
        static struct sock_filter filter[] = {
                LOAD(arch),
                JUMP(BPF_JEQ, NATIVE_ARCH, 1, 0),
                RETURN(SECCOMP_RET_KILL_PROCESS),
                LOAD(nr),
                JUMP(BPF_JGE, X32_BIT, 3, 0),
                JUMP(BPF_JEQ, __NR_socket, 2, 0),
                JUMP(BPF_JEQ, __NR_io_uring_setup, 1, 0),
                RETURN(SECCOMP_RET_ALLOW),
                RETURN(SECCOMP_RET_ERRNO | EACCES),
        };
        const struct sock_fprog program = { ELEMENTSOF(filter), filter };

        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return error_set_errno(reterr, -errno, "Failed to give up the network");
        return 0;
}
