/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For programs that change their user, included by the one file that does so. SANITIZED: the address
 * sanitizer looks on. */

#include <sys/prctl.h>

#if defined(__SANITIZE_ADDRESS__)
#        define SANITIZED 1
#elif defined(__has_feature)
#        if __has_feature(address_sanitizer)
#                define SANITIZED 1
#        endif
#endif
#ifndef SANITIZED
#        define SANITIZED 0
#else
/* Its search for leaks cannot look at a process that has changed its user: it fails, or waits forever. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) {
        return prctl(PR_GET_DUMPABLE) != 1;
}
#endif
